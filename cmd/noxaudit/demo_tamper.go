package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"
	_ "modernc.org/sqlite" // the ledger's file, as somebody with a database tool opens it
)

func (p *program) demoTamperCommand() *cobra.Command {
	var undo bool
	cmd := &cobra.Command{
		Use:   "tamper",
		Short: "change one entry of a demo's ledger behind its back",
		Long: `Does to the ledger of a demo (--data-dir) what somebody with access to the database
could: takes the triggers away that refuse changes, turns a blocked verdict into a
passed one, and puts the triggers back. "noxaudit ledger verify" then names the entry.
--undo puts the entry back. It works on a demo's ledger only.`,
		Args: cobra.NoArgs,
	}
	cmd.Flags().BoolVar(&undo, "undo", false, "put the entry back")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		f := cmd.Flags().Lookup("data-dir")
		if f == nil || !f.Changed {
			return errors.New("demo tamper: name the demo's folder with --data-dir, as \"noxaudit demo\" printed it")
		}
		says, err := tamper(cmd.Context(), f.Value.String(), undo)
		if err != nil {
			return fmt.Errorf("demo tamper: %w", err)
		}
		fmt.Fprintln(p.stdout, says)
		return nil
	}
	return cmd
}

// The lie that tampering tells.
const (
	truth = `"conclusion":"block"`
	lie   = `"conclusion":"pass"`
)

// tamper changes one entry of a demo's ledger, or puts it back.
func tamper(ctx context.Context, dir string, undo bool) (says string, err error) {
	if _, err := os.Stat(filepath.Join(dir, demoMark)); err != nil {
		return "", fmt.Errorf("there is no demo in %s", dir)
	}
	path, kept := filepath.Join(dir, "data", "ledger.db"), filepath.Join(dir, "tampered")
	db, err := sql.Open("sqlite", "file:"+path+"?_pragma=busy_timeout(10000)&_txlock=immediate")
	if err != nil {
		return "", err
	}
	defer db.Close()
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return "", err
	}
	defer tx.Rollback()
	triggers, err := dropTriggers(ctx, tx)
	if err != nil {
		return "", err
	}
	var account, line string
	var seq int64
	if undo {
		raw, err := os.ReadFile(kept)
		if err != nil {
			return "", errors.New("nothing was tampered with here")
		}
		first, rest, _ := strings.Cut(string(raw), "\n")
		if _, err := fmt.Sscan(first, &account, &seq); err != nil {
			return "", err
		}
		line, says = rest, fmt.Sprintf("Entry %d of account %s is what it was.", seq, account)
	} else {
		if _, err := os.Stat(kept); err == nil {
			return "", errors.New("this ledger has been tampered with already; --undo puts it back")
		}
		err := tx.QueryRowContext(ctx, "SELECT account, seq, CAST(line AS TEXT) FROM entry WHERE CAST(line AS TEXT) LIKE ? ORDER BY seq DESC LIMIT 1", "%"+truth+"%").Scan(&account, &seq, &line)
		if errors.Is(err, sql.ErrNoRows) {
			return "", errors.New("the ledger holds no blocked verdict yet")
		}
		if err != nil {
			return "", err
		}
		if err := os.WriteFile(kept, fmt.Appendf(nil, "%s %d\n%s", account, seq, line), 0o600); err != nil {
			return "", err
		}
		line = strings.Replace(line, truth, lie, 1)
		says = fmt.Sprintf("Entry %d of account %s said that a verdict was blocked. Now it says that it passed.", seq, account)
	}
	if _, err := tx.ExecContext(ctx, "UPDATE entry SET line = CAST(? AS BLOB) WHERE account = ? AND seq = ?", line, account, seq); err != nil {
		return "", err
	}
	for _, again := range triggers {
		if _, err := tx.ExecContext(ctx, again); err != nil {
			return "", err
		}
	}
	if err := tx.Commit(); err != nil {
		return "", err
	}
	if undo {
		return says, os.Remove(kept)
	}
	return says, nil
}

// dropTriggers takes all triggers away and returns the statements that make them again.
func dropTriggers(ctx context.Context, tx *sql.Tx) ([]string, error) {
	rows, err := tx.QueryContext(ctx, "SELECT name, sql FROM sqlite_master WHERE type = 'trigger'")
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var names, statements []string
	for rows.Next() {
		var name, statement string
		if err := rows.Scan(&name, &statement); err != nil {
			return nil, err
		}
		names, statements = append(names, name), append(statements, statement)
	}
	if err := rows.Err(); err != nil {
		return nil, err
	}
	for _, name := range names {
		if _, err := tx.ExecContext(ctx, `DROP TRIGGER "`+strings.ReplaceAll(name, `"`, `""`)+`"`); err != nil {
			return nil, err
		}
	}
	return statements, nil
}
