package database_test

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/fstest"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/noxaudit/noxaudit/internal/database"
	"github.com/noxaudit/noxaudit/internal/dbtest"
)

const password = "hunter2-correct-horse"

func migration(text string) *fstest.MapFile { return &fstest.MapFile{Data: []byte(text)} }

// things is a schema that is the same SQL on both engines.
var things = fstest.MapFS{
	"sqlite/00001_things.sql":   migration(thingsUp),
	"postgres/00001_things.sql": migration(thingsUp),
}

const thingsUp = `-- +goose Up
CREATE TABLE thing (id BIGINT NOT NULL PRIMARY KEY, name TEXT NOT NULL UNIQUE);
CREATE TABLE part (thing BIGINT NOT NULL REFERENCES thing (id));
-- +goose Down
DROP TABLE part;
DROP TABLE thing;
`

func open(t *testing.T, dsn string) *database.DB {
	t.Helper()
	db, err := database.Open(t.Context(), dsn, things, "thing_version")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	return db
}

func run(t *testing.T, db *sql.DB, statement string, args ...any) {
	t.Helper()
	if _, err := db.Exec(statement, args...); err != nil {
		t.Fatal(err)
	}
}

// wantRefusal opens dsn and wants an error with these words, in kind unavailable or not, without the password.
func wantRefusal(t *testing.T, dsn string, unavailable bool, words ...string) {
	t.Helper()
	db, err := database.Open(t.Context(), dsn, things, "thing_version")
	if err == nil {
		db.Close()
		t.Fatalf("%s was opened", database.Redact(dsn))
	}
	if errors.Is(err, database.ErrUnavailable) != unavailable {
		t.Errorf("unavailable is %v for: %v", !unavailable, err)
	}
	for _, w := range words {
		if !strings.Contains(err.Error(), w) {
			t.Errorf("%q is not in: %v", w, err)
		}
	}
	if strings.Contains(err.Error(), password) {
		t.Errorf("the password is in: %v", err)
	}
}

func TestWhatIsWrittenIsReadOnTheOtherPool(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, dsn string) {
		db := open(t, dsn)
		run(t, db.Write, `INSERT INTO thing (id, name) VALUES ($1, $2)`, 1, "one")
		tx, err := db.Write.Begin()
		if err != nil {
			t.Fatal(err)
		}
		defer tx.Rollback()
		if _, err := tx.Exec(`INSERT INTO thing (id, name) VALUES (2, 'two')`); err != nil {
			t.Fatal(err)
		}
		var n int
		if err := db.Read.QueryRow(`SELECT COUNT(*) FROM thing`).Scan(&n); err != nil || n != 1 {
			t.Errorf("while another writes, %d rows are read, %v", n, err)
		}
	})
}

func TestSQLiteSyncsEveryCommitAndKeepsReferences(t *testing.T) {
	db := open(t, dbtest.SQLite(t))
	for _, pool := range []*sql.DB{db.Write, db.Read} {
		for pragma, want := range map[string]string{"synchronous": "2", "journal_mode": "wal", "foreign_keys": "1", "busy_timeout": "10000"} {
			var got string
			if err := pool.QueryRow(`PRAGMA ` + pragma).Scan(&got); err != nil || got != want {
				t.Errorf("%s is %s, want %s, %v", pragma, got, want, err)
			}
		}
	}
}

func TestASQLiteFileIsForItsOwnerOnly(t *testing.T) {
	dsn := dbtest.SQLite(t)
	db := open(t, dsn)
	run(t, db.Write, `INSERT INTO thing (id, name) VALUES (1, 'one')`)
	files, err := filepath.Glob(dsn + "*")
	if err != nil || len(files) < 2 {
		t.Fatalf("files %v, %v", files, err)
	}
	for _, f := range files {
		info, err := os.Stat(f)
		if err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s has mode %v, %v", filepath.Base(f), info.Mode(), err)
		}
	}
}

func TestSeveralProgramsMayOpenOneDatabaseAtOnce(t *testing.T) {
	dsn := dbtest.Postgres(t)
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			db, err := database.Open(context.Background(), dsn, things, "thing_version")
			if err != nil {
				t.Error(err)
				return
			}
			db.Close()
		})
	}
	wg.Wait()
}

func TestASQLiteFileThatCannotBeUsedIsSaidSo(t *testing.T) {
	dir := t.TempDir()
	write := func(name string, content []byte) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	t.Run("no name", func(t *testing.T) { wantRefusal(t, "", false, "no file is named") })
	t.Run("no directory", func(t *testing.T) {
		wantRefusal(t, filepath.Join(dir, "missing", "nox.db"), false, "database nox.db", "missing does not exist: create it")
	})
	t.Run("a directory", func(t *testing.T) { wantRefusal(t, dir, false, "this is a directory") })
	t.Run("a file below a file", func(t *testing.T) {
		wantRefusal(t, filepath.Join(write("file", nil), "nox.db"), false, "cannot be opened")
	})
	t.Run("another kind of file", func(t *testing.T) {
		path := write("notes.txt", []byte(strings.Repeat("these are notes, not a database\n", 1000)))
		wantRefusal(t, path, false, "not a SQLite database")
		if left, err := os.ReadFile(path); err != nil || !strings.HasPrefix(string(left), "these are notes") {
			t.Errorf("the file was changed, %v", err)
		}
	})
	t.Run("damaged", func(t *testing.T) {
		path := filepath.Join(dir, "damaged.db")
		db, err := database.Open(t.Context(), path, things, "thing_version")
		if err != nil {
			t.Fatal(err)
		}
		db.Close()
		whole, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		wantRefusal(t, write("cut.db", whole[:len(whole)/3]), false, "damaged")
	})
}

func TestANewerSchemaIsRefused(t *testing.T) {
	newer := fstest.MapFS{}
	for name, file := range things {
		newer[name] = file
		newer[strings.Replace(name, "00001_things", "00002_more", 1)] = migration("-- +goose Up\nCREATE TABLE more (id BIGINT);\n-- +goose Down\nDROP TABLE more;\n")
	}
	dbtest.Each(t, func(t *testing.T, dsn string) {
		db, err := database.Open(t.Context(), dsn, newer, "thing_version")
		if err != nil {
			t.Fatal(err)
		}
		db.Close()
		wantRefusal(t, dsn, false, "version 2", "knows 1", "run the newer program")
	})
}

func TestAMigrationThatFailsLeavesTheSchemaAsItWas(t *testing.T) {
	broken := fstest.MapFS{}
	for name, file := range things {
		broken[name] = file
		broken[strings.Replace(name, "00001_things", "00002_broken", 1)] = migration("-- +goose Up\nCREATE TABLE half (id BIGINT);\nCREATE TABEL;\n")
	}
	dbtest.Each(t, func(t *testing.T, dsn string) {
		if _, err := database.Open(t.Context(), dsn, broken, "thing_version"); err == nil || !strings.Contains(err.Error(), "migrations: ") {
			t.Fatalf("got error %v", err)
		}
		db := open(t, dsn)
		if _, err := db.Read.Exec(`SELECT id FROM half`); err == nil {
			t.Error("half of the migration is there")
		}
	})
}

func TestAServerThatIsDownIsUnavailableAndThePasswordStaysSecret(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	closed := l.Addr().String()
	l.Close()
	wantRefusal(t, "postgres://nox:"+password+"@"+closed+"/nox?sslmode=disable", true, "database postgres://"+closed+"/nox", "cannot be reached")

	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close() // it takes connections and says nothing
	wantRefusal(t, "postgres://nox:"+password+"@"+silent.Addr().String()+"/nox?sslmode=disable&connect_timeout=1", true, "cannot be reached")

	for _, unreadable := range []string{
		"postgres://nox:" + password + "@host:port/nox",
		"postgres://nox:" + password + "@[::1/nox",
		"postgres://nox:" + password + "@host/nox?sslmode=perhaps",
		"postgresql://nox:" + password + "%zz@host/nox",
		"postgres://nox:" + password + "@host/nox?connect_timeout=soon",
	} {
		wantRefusal(t, unreadable, false, "the URL cannot be read: want postgres://")
	}
}

func TestAServerThatRefusesIsUnderstood(t *testing.T) {
	u, err := url.Parse(dbtest.Postgres(t))
	if err != nil {
		t.Fatal(err)
	}
	stranger := *u
	stranger.User = url.UserPassword("nobody_here", password)
	wantRefusal(t, stranger.String(), false, "refused the user or the password")
	nowhere := *u
	nowhere.Path = "/nowhere"
	wantRefusal(t, nowhere.String(), false, "no such database: create it")
}

func TestStatementsAreLimitedUnlessTheURLSaysOtherwise(t *testing.T) {
	dsn := dbtest.Postgres(t)
	show := func(db *database.DB, setting, want string) {
		t.Helper()
		var got string
		if err := db.Read.QueryRow(`SHOW ` + setting).Scan(&got); err != nil || got != want {
			t.Errorf("%s is %s, want %s, %v", setting, got, want, err)
		}
	}
	db := open(t, dsn)
	show(db, "statement_timeout", "30s")
	show(db, "lock_timeout", "10s")
	show(db, "idle_in_transaction_session_timeout", "1min")

	db = open(t, dsn+"&statement_timeout=50")
	show(db, "statement_timeout", "50ms")
	show(db, "lock_timeout", "10s")
	_, err := db.Read.Exec(`SELECT pg_sleep(60)`)
	if !errors.Is(database.Explain(err), database.ErrUnavailable) {
		t.Errorf("a statement that was cut off: %v", err)
	}
}

func TestKeysAreToldByTheEnginesCodes(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, dsn string) {
		db := open(t, dsn)
		run(t, db.Write, `INSERT INTO thing (id, name) VALUES (1, 'one')`)
		for statement, want := range map[string]error{
			`INSERT INTO thing (id, name) VALUES (1, 'two')`: database.ErrUnique,
			`INSERT INTO thing (id, name) VALUES (2, 'one')`: database.ErrUnique,
			`INSERT INTO part (thing) VALUES (404)`:          database.ErrReference,
			`DELETE FROM part`:                               nil,
			`INSERT INTO thing (id) VALUES (3)`:              errOther,
			`SELECT nonsense`:                                errOther,
		} {
			_, err := db.Write.Exec(statement)
			explained := database.Explain(err)
			switch {
			case want == nil && explained != nil, want != nil && explained == nil:
				t.Errorf("%s: %v", statement, explained)
			case want == errOther:
				if explained != err {
					t.Errorf("%s: explained as %v", statement, explained)
				}
			case want != nil && !errors.Is(explained, want):
				t.Errorf("%s: %v, want %v", statement, explained, want)
			}
			if again := database.Explain(explained); again != explained {
				t.Errorf("explained twice: %v", again)
			}
		}
	})
}

var errOther = errors.New("any other error")

func TestAFileHeldByAnotherProcessIsUnavailable(t *testing.T) {
	dsn := dbtest.SQLite(t)
	holder, waiter := open(t, dsn), open(t, dsn)
	tx, err := holder.Write.Begin()
	if err != nil {
		t.Fatal(err)
	}
	defer tx.Rollback()
	run(t, waiter.Write, `PRAGMA busy_timeout = 1`)
	_, err = waiter.Write.Begin()
	if err = database.Explain(err); !errors.Is(err, database.ErrUnavailable) || !strings.Contains(err.Error(), "one process") {
		t.Errorf("got error %v", err)
	}
}

func TestAFullDiskIsUnavailable(t *testing.T) {
	db := open(t, dbtest.SQLite(t))
	var pages int
	if err := db.Write.QueryRow(`PRAGMA page_count`).Scan(&pages); err != nil {
		t.Fatal(err)
	}
	run(t, db.Write, fmt.Sprintf(`PRAGMA max_page_count = %d`, pages))
	_, err := db.Write.Exec(`INSERT INTO thing (id, name) VALUES (1, $1)`, strings.Repeat("x", 100_000))
	if err = database.Explain(err); !errors.Is(err, database.ErrUnavailable) || !strings.Contains(err.Error(), "full") {
		t.Errorf("got error %v", err)
	}
	run(t, db.Write, `PRAGMA max_page_count = 1000000`)
	run(t, db.Write, `INSERT INTO thing (id, name) VALUES (1, 'one')`)
}

func TestErrorsAreExplainedByTheirKind(t *testing.T) {
	pg := func(code string) error { return fmt.Errorf("query: %w", &pgconn.PgError{Code: code, Message: "text"}) }
	for name, tc := range map[string]struct {
		err         error
		unavailable bool
	}{
		"nothing":                {nil, false},
		"a broken connection":    {driver.ErrBadConn, true},
		"an end of the stream":   {fmt.Errorf("read: %w", io.ErrUnexpectedEOF), true},
		"a closed socket":        {fmt.Errorf("write: %w", net.ErrClosed), true},
		"a reset":                {&net.OpError{Op: "read", Err: errors.New("connection reset by peer")}, true},
		"a cancelled context":    {fmt.Errorf("query: %w", context.Canceled), false},
		"an expired context":     {context.DeadlineExceeded, false},
		"a mistake":              {errors.New("mistake"), false},
		"no rows":                {sql.ErrNoRows, false},
		"a serialization":        {pg("40001"), true},
		"a deadlock":             {pg("40P01"), true},
		"a lock timeout":         {pg("55P03"), true},
		"a full disk":            {pg("53100"), true},
		"too many connections":   {pg("53300"), true},
		"an admin's shutdown":    {pg("57P01"), true},
		"a start":                {pg("57P03"), true},
		"a connection exception": {pg("08006"), true},
		"an input/output error":  {pg("58030"), true},
		"a standby":              {pg("25006"), true},
		"a syntax error":         {pg("42601"), false},
		"a privilege":            {pg("42501"), false},
		"a wrong password":       {pg("28P01"), false},
	} {
		got := database.Explain(tc.err)
		if errors.Is(got, database.ErrUnavailable) != tc.unavailable {
			t.Errorf("%s: explained as %v", name, got)
		}
		if tc.err != nil && !errors.Is(got, tc.err) && !strings.Contains(got.Error(), tc.err.Error()) {
			t.Errorf("%s: the cause is gone from %v", name, got)
		}
	}
}

func TestRedactShowsNeitherPasswordNorOptions(t *testing.T) {
	for dsn, want := range map[string]string{
		"postgres://nox:" + password + "@db:5432/nox?sslpassword=" + password: "postgres://db:5432/nox",
		"postgres://nox:" + password + "%zz@db/nox":                           "postgres (unreadable URL)",
		"/var/lib/noxaudit/noxaudit.db":                                       "noxaudit.db",
	} {
		if got := database.Redact(dsn); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}
