//go:build unix

package sqllog

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	osexec "os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/noxaudit/noxaudit/internal/database"
	"github.com/noxaudit/noxaudit/internal/dbtest"
	"github.com/noxaudit/noxaudit/ledger"
)

const verifyVar = "NOXAUDIT_TEST_VERIFY_LEDGER"

// TestMain turns this program into one that verifies account 7 of a ledger, when the environment says so.
func TestMain(m *testing.M) {
	dsn := os.Getenv(verifyVar)
	if dsn == "" {
		os.Exit(m.Run())
	}
	ctx := context.Background()
	l, err := OpenReadOnly(ctx, dsn, "acme")
	if err == nil {
		var c ledger.Copy
		if c, err = l.tenant("7").Copy(ctx); err == nil {
			var v ledger.Verified
			if v, err = ledger.Verify(ctx, c, ledger.Options{}); err == nil {
				fmt.Println(v.Entries, "entries")
			}
		}
		err = errors.Join(err, l.Close())
	}
	if err != nil {
		fmt.Println(err)
	}
	os.Exit(0)
}

func TestVerifyingNeedsNoRightToWrite(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, dsn string) {
		ctx := context.Background()
		l := open(t, dsn)
		log := l.For(account(t, "7"))
		s, k := newStream(1, "7"), key(t)
		drain(t, log, s.events(t, 5, 0))
		sign(t, k, log)
		r, err := OpenReadOnly(ctx, dsn, "acme")
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		reader := r.For(account(t, "7"))
		for _, want := range []uint64{5, 8} { // beside a writer that is at work
			if v, err := verify(t, reader, ledger.Options{Keys: []string{k.Public()}}); err != nil || v.Entries != want {
				t.Errorf("got %+v, %v", v, err)
			}
			drain(t, log, s.events(t, 3, 0))
			sign(t, k, log)
		}
		if _, err := reader.Claim(ctx); err == nil {
			t.Error("it claimed the log")
		}
		if accounts, err := r.Accounts(ctx); err != nil || len(accounts) != 1 {
			t.Errorf("%v, %v", accounts, err)
		}
	})
}

// Root may write anywhere, so as root the test asks a child that is nobody.
func TestALedgerOnADiskThatCannotBeWrittenIsVerified(t *testing.T) {
	dir, err := os.MkdirTemp("", "readonly")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	program := filepath.Join(dir, "program")
	copyFile(t, os.Args[0], program, 0o755)
	as := func(what, file string) string {
		t.Helper()
		cmd := osexec.Command(program)
		cmd.Dir = dir
		cmd.Env = append(os.Environ(), verifyVar+"="+file)
		if os.Geteuid() == 0 {
			cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
		}
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%s: %v\n%s", what, err, out)
		}
		return string(out)
	}
	sealed := func(name string, files map[string]string) string {
		t.Helper()
		folder := filepath.Join(dir, name)
		if err := os.Mkdir(folder, 0o755); err != nil {
			t.Fatal(err)
		}
		for from, to := range files {
			copyFile(t, from, filepath.Join(folder, to), 0o444)
		}
		if err := os.Chmod(folder, 0o555); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { os.Chmod(folder, 0o755) })
		return filepath.Join(folder, "ledger.db")
	}

	live := filepath.Join(t.TempDir(), "live.db")
	l, err := Open(t.Context(), live, "acme")
	if err != nil {
		t.Fatal(err)
	}
	log := l.For(account(t, "7"))
	drain(t, log, newStream(1, "7").events(t, 5, 0))
	sign(t, key(t), log)
	torn := sealed("torn", map[string]string{live: "ledger.db", live + "-wal": "ledger.db-wal"})
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	whole := sealed("whole", map[string]string{live: "ledger.db"})
	before := digest(t, whole)
	if out := as("whole", whole); out != "5 entries\n" {
		t.Errorf("a closed ledger: %s", out)
	}
	if names, err := os.ReadDir(filepath.Dir(whole)); err != nil || len(names) != 1 || digest(t, whole) != before {
		t.Errorf("the folder or the file changed: %v, %v", names, err)
	}
	if out := as("torn", torn); out != "5 entries\n" && !strings.Contains(out, "copy both to one that can") {
		t.Errorf("a ledger with a write-ahead log: %s", out)
	}
	if out := as("none", filepath.Join(filepath.Dir(whole), "none.db")); !strings.Contains(out, "no such file") {
		t.Errorf("no file: %s", out)
	}
}

func copyFile(t *testing.T, from, to string, mode os.FileMode) {
	t.Helper()
	in, err := os.Open(from)
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(out, in); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(out.Close(), os.Chmod(to, mode)); err != nil {
		t.Fatal(err)
	}
}

func digest(t *testing.T, file string) [32]byte {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return sha256.Sum256(b)
}

func TestADatabaseThatIsNotThisProgramsIsSaidSo(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, dsn string) {
		ctx := context.Background()
		refused := func(what string) {
			t.Helper()
			l, err := OpenReadOnly(ctx, dsn, "acme")
			if err == nil {
				l.Close()
			}
			if err == nil || !strings.Contains(err.Error(), what) || errors.Is(err, database.ErrUnavailable) {
				t.Errorf("got %v, want %q", err, what)
			}
		}
		if !database.IsPostgres(dsn) {
			refused("no such file")
			if _, err := os.Stat(dsn); err == nil {
				t.Error("a file was made")
			}
			if err := os.WriteFile(dsn, nil, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		refused("none of this program's tables")
		l := open(t, dsn)
		exec(`UPDATE ledger_version SET version_id = version_id - 1 WHERE version_id = (SELECT MAX(version_id) FROM ledger_version)`)(t, l)
		refused("noxaudit migrate")
		exec(`UPDATE ledger_version SET version_id = 99 WHERE version_id = (SELECT MAX(version_id) FROM ledger_version)`)(t, l)
		refused("run the newer program")
	})
}
