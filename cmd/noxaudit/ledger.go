package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/noxaudit/noxaudit/internal/name"
	"github.com/noxaudit/noxaudit/ledger"
	"github.com/noxaudit/noxaudit/ledger/sqllog"
)

func (p *program) ledgerCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "ledger", Short: "verify the record and manage its key", Args: cobra.NoArgs, RunE: help}
	cmd.AddCommand(p.ledgerVerifyCommand(), p.ledgerKeygenCommand())
	return cmd
}

func (p *program) ledgerVerifyCommand() *cobra.Command {
	var account string
	var keys, held []string
	cmd := &cobra.Command{
		Use:   "verify",
		Short: "check every entry of the ledger, or name the first bad one",
		Long: `Reads the whole ledger and checks it: each entry's form, the hash chain, the
Merkle tree, and the signature and root of every checkpoint.

Pin the key with --key (a verifier key as "noxaudit doctor" prints it, kept outside
this machine): without it a valid signature only says that one hand signed all. With
it, a log without a signature, or with entries that wait for one for more than an
hour, is refused. Only a checkpoint that you kept elsewhere (--checkpoint) shows that
the key's owner rewrote a log.

It changes nothing and needs no right to write.

Exit codes: 0 nothing was changed, 1 tampered with, 2 could not be verified.`,
		Args: cobra.NoArgs,
	}
	cmd.Flags().StringVar(&account, "account", "", "one tenant's log (default: all)")
	cmd.Flags().StringArrayVar(&keys, "key", nil, "pinned verifier key; may be repeated")
	cmd.Flags().StringArrayVar(&held, "checkpoint", nil, "file with a signed checkpoint of one log kept elsewhere; may be repeated; wants --account")
	format := formatFlag(cmd, "text", "json")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		ctx := cmd.Context()
		if p.config.LedgerDatabaseURL == "" {
			if _, err := os.Stat(p.config.LedgerDSN()); err != nil {
				return fmt.Errorf("there is no ledger at %s yet: %w", p.config.LedgerDSN(), err)
			}
		}
		log, err := waitFor(ctx, func() (*sqllog.Log, error) {
			return sqllog.OpenReadOnly(ctx, p.config.LedgerDSN(), p.config.Deployment)
		})
		if err != nil {
			return err
		}
		defer log.Close()
		accounts, err := log.Accounts(ctx)
		if err != nil {
			return err
		}
		if account != "" {
			one, err := name.ParseAccount(account)
			if err != nil {
				return err
			}
			if !slices.Contains(accounts, one) && len(held) == 0 { // a checkpoint of it says that there was one
				return fmt.Errorf("the ledger holds no such log: of account %s", one)
			}
			accounts = []name.Account{one}
		}
		if len(accounts) == 0 {
			return errors.New("the ledger holds no log yet: nothing was verified")
		}
		opts := ledger.Options{Keys: keys, Now: p.now(), Grace: signedWithin}
		if len(held) > 0 && account == "" {
			return errors.New("--checkpoint: say with --account which log it is of")
		}
		for _, path := range held {
			b, err := readFile(path, 1<<20)
			if err != nil {
				return fmt.Errorf("--checkpoint: %w", err)
			}
			opts.Held = append(opts.Held, b)
		}
		return p.verifyAll(ctx, log, accounts, opts, format.value)
	}
	return cmd
}

// signedWithin is how long an entry may wait for its signature. It takes a moment; the rest is for a signer that
// was down, and for clocks that differ.
const signedWithin = time.Hour

// logResult is one log in the document of "ledger verify --format json".
type logResult struct {
	Origin      string       `json:"origin"`
	Valid       bool         `json:"valid"`
	Entries     uint64       `json:"entries"`
	Signed      uint64       `json:"signed"` // entries that a checkpoint covers
	Root        string       `json:"root,omitempty"`
	Checkpoints int          `json:"checkpoints"`
	KeyPinned   bool         `json:"keyPinned"`
	FirstBad    *uint64      `json:"firstBad,omitempty"`
	Layer       ledger.Layer `json:"layer,omitempty"`
	Detail      string       `json:"detail,omitempty"`
}

// verifyAll verifies every log, also after one that could not be: what is wrong with one must not hide another.
func (p *program) verifyAll(ctx context.Context, log *sqllog.Log, accounts []name.Account, opts ledger.Options, format string) error {
	results := []logResult{}
	var failed []error
	bad, entries := false, uint64(0)
	for _, a := range accounts {
		result, says, err := verifyLog(ctx, log.For(a), opts)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil {
			failed = append(failed, err)
			continue
		}
		results = append(results, result)
		bad, entries = bad || !result.Valid, entries+result.Entries
		if format == "text" {
			fmt.Fprintln(p.stdout, says)
		}
	}
	if format == "json" {
		out := struct {
			Schema string      `json:"schema"`
			Logs   []logResult `json:"logs"`
		}{"noxaudit.ledger-verify/1", results}
		if err := p.printJSON(out); err != nil {
			return err
		}
	}
	switch {
	case bad:
		return no(errors.Join(failed...))
	case len(failed) > 0:
		return errors.Join(failed...)
	case entries == 0:
		return errors.New("the ledger holds no entry, so nothing was verified")
	}
	return nil
}

func verifyLog(ctx context.Context, log *sqllog.Tenant, opts ledger.Options) (result logResult, says string, err error) {
	logCopy, err := log.Copy(ctx)
	if err != nil {
		return logResult{}, "", err
	}
	v, err := ledger.Verify(ctx, logCopy, opts)
	var tampered *ledger.Tampered
	if errors.As(err, &tampered) {
		result = logResult{Origin: logCopy.Origin, Layer: tampered.Layer, Detail: tampered.Detail}
		if !tampered.Whole {
			result.FirstBad = &tampered.Seq
		}
		return result, fmt.Sprintf("%s: TAMPERED WITH: %v", logCopy.Origin, tampered), nil
	}
	if err != nil {
		return logResult{}, "", fmt.Errorf("%s: %w", logCopy.Origin, err)
	}
	return logResult{
		Origin: v.Origin, Valid: true, Entries: v.Entries, Signed: v.SignedSize, Root: v.Root.String(),
		Checkpoints: v.Checkpoints, KeyPinned: v.KeyPinned,
	}, v.String(), nil
}

func (p *program) ledgerKeygenCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "keygen FILE",
		Short: "make the key that signs the ledger's checkpoints",
		Long: `Makes a new Ed25519 signing key in FILE, readable by its owner only, and prints the
verifier key to hand to auditors. FILE must not exist.`,
		Args: cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			if _, err := os.Lstat(args[0]); err == nil {
				return fmt.Errorf("%s exists; a signing key is never overwritten", args[0])
			}
			key, err := ledger.LoadOrCreateKey(args[0], keyName(p.config.Deployment), p.rand)
			if err != nil {
				return err
			}
			fmt.Fprintln(p.stdout, key.Public())
			return nil
		},
	}
}
