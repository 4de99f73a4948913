// Package store keeps the operational data of noxaudit: which repositories and lines of history it knows,
// their findings, the inputs and results of its verdicts, the auditors' cache, and the outbox from which the
// ledger is fed.
//
// # Writing is by value
//
// All state is written by one method, Tenant.Commit, which takes one value, a Change, and applies it in one
// transaction. A change without an entry for the ledger is refused, so nothing happens that is not recorded;
// the entry and the state commit together, so neither exists without the other. There is no callback: no
// network call can sit inside a transaction. A change to a line of history names the version it was computed
// from (Expect) and is refused with ErrStale when the line has moved on; the caller computes again.
//
// Some things are kept without an entry, because they say nothing about the customer's code or about a
// decision: the account's content key, made at first use; the cache, which may be lost at any time; the marks
// on outbox rows that the ledger has taken over; how often a delivery was tried, and whether an answer
// was posted; the dropping of payloads whose time of retention is over; when a session was used or checked last;
// and the removal of sessions that are over.
//
// # Tenants
//
// Every query carries an account: reads and writes are methods of a Tenant, which puts its account in front
// of the arguments of each statement. Another account's rows cannot be read or changed by guessing their ids.
// What serves all tenants at once, the workers of the inbox, of the heads and of the ledger, learns from the
// methods of Store for whom there is work, by account and id, and goes on as that tenant.
//
// # Two engines
//
// SQLite (one process, a local disk) and PostgreSQL run the same SQL. The schema is in migrations/store.
package store

import (
	"context"
	"fmt"
	"time"

	"github.com/noxaudit/noxaudit/internal/database"
	"github.com/noxaudit/noxaudit/internal/name"
	migrations "github.com/noxaudit/noxaudit/migrations/store"
)

// Versions is the table in which the schema keeps its version.
const Versions = "store_version"

// Store is the open operational database. It is safe for concurrent use.
type Store struct{ db *database.DB }

// Open opens the database at dsn, "postgres://…" or the path of a SQLite file, and brings its schema up to
// date. Its errors are those of database.Open: a sentence without the password.
func Open(ctx context.Context, dsn string) (*Store, error) {
	db, err := database.Open(ctx, dsn, migrations.FS, Versions)
	if err != nil {
		return nil, fmt.Errorf("store: %w", err)
	}
	return &Store{db: db}, nil
}

// Close ends all connections.
func (s *Store) Close() error { return s.db.Close() }

// Engine says which database it is.
func (s *Store) Engine() database.Engine { return s.db.Engine }

// Ping asks the database for an answer, for a readiness probe. ErrUnavailable when there is none.
func (s *Store) Ping(ctx context.Context) error {
	if err := s.db.Read.PingContext(ctx); err != nil {
		return fail("ping", err)
	}
	return nil
}

// PendingAccounts lists the accounts with entries that the ledger does not hold yet, in byte order, for the one
// sequencer that serves them all.
func (s *Store) PendingAccounts(ctx context.Context) ([]name.Account, error) {
	var out []name.Account
	err := s.everywhere(ctx, "outbox", func(account name.Account, _ []string) error {
		out = append(out, account)
		return nil
	}, 0, `SELECT DISTINCT account FROM outbox WHERE seq IS NULL ORDER BY account`)
	return out, err
}

// For is the view of one tenant. A zero account's tenant refuses everything with ErrNoAccount.
func (s *Store) For(account name.Account) *Tenant { return &Tenant{db: s.db, account: account} }

// Tenant is the store as one account sees it: its reads, and Commit. It is safe for concurrent use.
type Tenant struct {
	db      *database.DB
	account name.Account
}

// Account is whose view this is.
func (t *Tenant) Account() name.Account { return t.account }

// micros is how a time is stored: see migrations/store. The zero time is NULL.
func micros(at time.Time) any {
	if at.IsZero() {
		return nil
	}
	return at.UnixMicro()
}

func fromMicros(us int64) time.Time { return time.UnixMicro(us).UTC() }
