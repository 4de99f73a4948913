package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/noxaudit/noxaudit/checks/gate"
	"github.com/noxaudit/noxaudit/internal/name"
	"github.com/noxaudit/noxaudit/internal/store"
	"github.com/noxaudit/noxaudit/ledger"
	"github.com/noxaudit/noxaudit/ledger/sqllog"
)

// waitFor calls again while a database is away, as the gate does.
func waitFor[T any](ctx context.Context, call func() (T, error)) (T, error) {
	for attempt := 1; ; attempt++ {
		v, err := call()
		if err == nil || !errors.Is(err, store.ErrUnavailable) || errors.Is(err, store.ErrFull) || gate.BackOff(ctx, attempt) != nil {
			return v, err
		}
	}
}

func (p *program) openStore(ctx context.Context) (*store.Store, error) {
	if p.config.DatabaseURL == "" {
		if err := p.makeDataDir(); err != nil {
			return nil, err
		}
	}
	return waitFor(ctx, func() (*store.Store, error) { return store.Open(ctx, p.config.StoreDSN()) })
}

func (p *program) makeDataDir() error {
	if err := os.MkdirAll(p.config.DataDir, 0o700); err != nil {
		return fmt.Errorf("data folder: %w; name another with --data-dir, or keep nothing with --no-store", err)
	}
	return nil
}

// temporaryStore is a store for one run. It forgets everything when closed.
func temporaryStore(ctx context.Context) (*store.Store, func(), error) {
	dir, err := os.MkdirTemp("", "noxaudit-")
	if err != nil {
		return nil, nil, fmt.Errorf("temporary folder: %w", err)
	}
	s, err := store.Open(ctx, filepath.Join(dir, "run.db"))
	if err != nil {
		return nil, nil, errors.Join(err, os.RemoveAll(dir))
	}
	return s, func() {
		s.Close()
		os.RemoveAll(dir)
	}, nil
}

// openLedger opens the ledger's own database and the key that signs it.
func (p *program) openLedger(ctx context.Context) (*sqllog.Log, *ledger.Key, error) {
	path, create, err := p.config.LedgerKey()
	if err != nil {
		return nil, nil, err
	}
	if p.config.LedgerDatabaseURL == "" {
		if err := p.makeDataDir(); err != nil {
			return nil, nil, err
		}
	}
	_, err = os.Stat(path)
	if create && errors.Is(err, os.ErrNotExist) && !absent(p.config.LedgerDSN()) {
		return nil, nil, fmt.Errorf("the ledger in %s was signed by a key that is gone (%s): put the key back from your backup; a new one would begin another history", p.config.DataDir, path)
	}
	if !create {
		if err != nil {
			return nil, nil, fmt.Errorf("ledger key: %w; make one with \"noxaudit ledger keygen %s\"", err, path)
		}
	}
	key, err := ledger.LoadOrCreateKey(path, keyName(p.config.Deployment), p.rand)
	if err != nil {
		return nil, nil, err
	}
	log, err := waitFor(ctx, func() (*sqllog.Log, error) { return sqllog.Open(ctx, p.config.LedgerDSN(), p.config.Deployment) })
	if err != nil {
		return nil, nil, fmt.Errorf("ledger: %w", err)
	}
	key.Remember(filepath.Join(p.config.DataDir, "signed"))
	return log, key, nil
}

// keyName is the name under which a deployment's key signs.
func keyName(deployment string) string { return "noxaudit/" + deployment }

// sequence moves what was recorded into the ledger and signs it. Two command lines may do so at once: the
// later one fences the earlier, which then tries again.
func sequence(ctx context.Context, s *store.Store, log *sqllog.Log, key *ledger.Key, account name.Account) error {
	const tries = 12
	var err error
	for attempt := 1; attempt <= tries; attempt++ {
		err = drainAndSign(ctx, s, log, key, account)
		wait := min(attempt, 3) // fenced: the other one is quick
		switch {
		case errors.Is(err, ledger.ErrFenced):
		case errors.Is(err, store.ErrUnavailable) && !errors.Is(err, store.ErrFull):
			wait = attempt
		default:
			return err
		}
		if gate.BackOff(ctx, wait) != nil {
			break
		}
	}
	return err
}

func drainAndSign(ctx context.Context, s *store.Store, log *sqllog.Log, key *ledger.Key, account name.Account) error {
	seq, err := ledger.NewSequencer(ctx, s.For(account), log.For(account))
	if err != nil {
		return err
	}
	_, held := seq.Drain(ctx) // a source that is held back does not keep the others from being signed
	if errors.Is(held, ledger.ErrFenced) {
		return held
	}
	signer, err := ledger.NewSigner(key, log.For(account))
	if err != nil {
		return errors.Join(held, err)
	}
	_, err = signer.Sign(ctx)
	return errors.Join(held, err)
}
