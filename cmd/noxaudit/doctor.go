package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"

	"github.com/spf13/cobra"

	"github.com/noxaudit/noxaudit/checks/source"
	"github.com/noxaudit/noxaudit/internal/database"
	"github.com/noxaudit/noxaudit/internal/escape"
	"github.com/noxaudit/noxaudit/internal/store"
	"github.com/noxaudit/noxaudit/ledger"
	"github.com/noxaudit/noxaudit/ledger/sqllog"
)

// checkup is one thing that doctor looked at.
type checkup struct {
	Name   string `json:"name"`
	OK     bool   `json:"ok"`
	Detail string `json:"detail"` // what is there, or what is missing and what to do
}

func (p *program) doctorCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "doctor",
		Short: "say what is missing on this machine",
		Long: `Looks at everything that noxaudit needs here and says what is missing and what to
do. It makes no database and no key; schemas that are there are brought up to date.

Exit codes: 0 all is well, 1 something is missing.`,
		Args: cobra.NoArgs,
	}
	format := formatFlag(cmd, "text", "json")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		checks := p.checkups(cmd.Context())
		ill := false
		for _, c := range checks {
			ill = ill || !c.OK
		}
		if format.value == "json" {
			if err := p.printJSON(checks); err != nil {
				return err
			}
		} else {
			for _, c := range checks {
				mark := "ok     "
				if !c.OK {
					mark = "MISSING"
				}
				fmt.Fprintf(p.stdout, "%s  %-10s %s\n", mark, c.Name, escape.Visible(c.Detail))
			}
		}
		if ill {
			return no(nil)
		}
		return nil
	}
	return cmd
}

func (p *program) checkups(ctx context.Context) []checkup {
	checks := []checkup{p.checkGit(ctx), p.checkDataDir(), p.checkStore(ctx), p.checkLedger(ctx), p.checkKey(), checkEngine()}
	return checks
}

func (p *program) checkGit(ctx context.Context) checkup {
	c := checkup{Name: "git"}
	dir, err := os.MkdirTemp("", "noxaudit-doctor-")
	if err != nil {
		c.Detail = err.Error()
		return c
	}
	defer os.RemoveAll(dir)
	// Opening a folder that is no repository goes through everything that reading one needs of git.
	repo, err := source.Open(ctx, dir, source.DefaultLimits())
	if err == nil {
		repo.Close()
	}
	if err != nil && !errors.Is(err, source.ErrNotRepository) {
		c.Detail = err.Error()
		return c
	}
	out, err := exec.CommandContext(ctx, "git", "version").Output()
	if err != nil {
		c.Detail = err.Error()
		return c
	}
	return checkup{"git", true, strings.TrimSpace(string(out))}
}

func (p *program) checkDataDir() checkup {
	c := checkup{Name: "data dir"}
	info, err := os.Stat(p.config.DataDir)
	switch {
	case errors.Is(err, os.ErrNotExist):
		c.OK, c.Detail = true, p.config.DataDir+" will be made at the first audit"
	case err != nil:
		c.Detail = err.Error()
	case !info.IsDir():
		c.Detail = p.config.DataDir + " is not a folder; name another with --data-dir"
	case info.Mode().Perm()&0o077 != 0:
		c.Detail = fmt.Sprintf("%s can be read by others (mode %04o): chmod 700 %s", p.config.DataDir, info.Mode().Perm(), p.config.DataDir)
	default:
		c.OK, c.Detail = true, p.config.DataDir
	}
	return c
}

// absent reports whether an embedded database has not been made yet; doctor does not make it.
func absent(dsn string) bool {
	if database.IsPostgres(dsn) {
		return false
	}
	_, err := os.Stat(dsn)
	return errors.Is(err, os.ErrNotExist)
}

func (p *program) checkStore(ctx context.Context) checkup {
	c := checkup{Name: "database"}
	dsn := p.config.StoreDSN()
	if absent(dsn) {
		return checkup{c.Name, true, "SQLite, will be made at the first audit"}
	}
	st, err := store.Open(ctx, dsn)
	if err != nil {
		c.Detail = err.Error()
		return c
	}
	defer st.Close()
	waiting, err := st.PendingAccounts(ctx)
	if err != nil {
		c.Detail = err.Error()
		return c
	}
	c.OK, c.Detail = true, string(st.Engine())+" "+database.Redact(dsn)
	if len(waiting) > 0 {
		c.Detail += fmt.Sprintf("; the entries of %d accounts wait for the ledger", len(waiting))
	}
	return c
}

func (p *program) checkLedger(ctx context.Context) checkup {
	c := checkup{Name: "ledger"}
	dsn := p.config.LedgerDSN()
	if absent(dsn) {
		return checkup{c.Name, true, "SQLite, will be made at the first audit"}
	}
	log, err := sqllog.Open(ctx, dsn, p.config.Deployment)
	if err != nil {
		c.Detail = err.Error()
		return c
	}
	defer log.Close()
	accounts, err := log.Accounts(ctx)
	if err != nil {
		c.Detail = err.Error()
		return c
	}
	c.OK, c.Detail = true, fmt.Sprintf("%s, %d logs", database.Redact(dsn), len(accounts))
	return c
}

func (p *program) checkKey() checkup {
	c := checkup{Name: "ledger key"}
	path, create, err := p.config.LedgerKey()
	if err != nil {
		c.Detail = err.Error()
		return c
	}
	if _, err := os.Stat(path); errors.Is(err, os.ErrNotExist) {
		c.OK, c.Detail = create, path+" does not exist; \"noxaudit ledger keygen "+path+"\" makes it"
		if create {
			c.Detail = "will be made at the first audit"
		}
		return c
	}
	key, err := ledger.LoadOrCreateKey(path, keyName(p.config.Deployment), p.rand)
	if err != nil {
		c.Detail = err.Error()
		return c
	}
	c.OK, c.Detail = true, "verifier key "+key.Public()
	return c
}

// checkEngine tells which regular-expression engine was built in: the other one is right and slow.
func checkEngine() checkup {
	if strings.Contains(buildInfo().Tags, "gore2regex") {
		return checkup{"secrets", true, "RE2 engine"}
	}
	return checkup{"secrets", true, "Go's regular expressions, about six times slower; build with -tags gore2regex"}
}
