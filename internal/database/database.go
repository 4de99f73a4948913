// Package database opens one of the two engines noxaudit runs on, SQLite (embedded, the default) or
// PostgreSQL, behind database/sql, and brings its schema up to date. What the rest of the product writes is
// one set of portable SQL with $1 placeholders; Engine exists for the few statements that cannot be.
package database

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/pressly/goose/v3"
	gooselock "github.com/pressly/goose/v3/lock"
	_ "modernc.org/sqlite" // the "sqlite" driver
)

// Engine names the database a DB speaks to.
type Engine string

// The two engines.
const (
	SQLite   Engine = "sqlite"
	Postgres Engine = "postgres"
)

// DB is an open database. On SQLite, Write is one connection, so that writers queue in Go instead of failing
// with SQLITE_BUSY, and Read is a pool that does not wait for it; never use Write while holding one of its
// transactions. On PostgreSQL both are the same pool.
type DB struct {
	Engine Engine
	Write  *sql.DB
	Read   *sql.DB
}

// Limits on a PostgreSQL connection, which the URL may override by parameters of the same names (PostgreSQL's
// own, and connect_timeout). Migrations run without the limit on a statement. They are sent when a connection
// begins: a pooler in between must let them through (PgBouncer: ignore_startup_parameters).
const (
	connectTimeout   = 10 * time.Second
	statementTimeout = 30 * time.Second
	lockTimeout      = 10 * time.Second
	idleTimeout      = 60 * time.Second // of an open transaction
)

// Open opens the database at dsn, "postgres://…" (or "postgresql://…") or the path of a SQLite file, and
// applies the migrations that it lacks: the folder "sqlite" or "postgres" of migrations holds goose SQL files.
// Each schema keeps its version in its own table (versions), so two schemas may share a database in tests.
// A SQLite file is created readable for its owner only; its directory must exist. It fails with a sentence
// that never contains the DSN's password, wrapping ErrUnavailable when the database is down.
func Open(ctx context.Context, dsn string, migrations fs.FS, versions string) (*DB, error) {
	if IsPostgres(dsn) {
		return openPostgres(ctx, dsn, migrations, versions)
	}
	return openSQLite(ctx, dsn, migrations, versions)
}

// IsPostgres reports whether dsn names a PostgreSQL server rather than a SQLite file.
func IsPostgres(dsn string) bool {
	return strings.HasPrefix(dsn, "postgres://") || strings.HasPrefix(dsn, "postgresql://")
}

// Redact is dsn without its password and options, fit for a message.
func Redact(dsn string) string {
	if !IsPostgres(dsn) {
		return filepath.Base(dsn)
	}
	u, err := url.Parse(dsn)
	if err != nil || strings.Contains(u.Path, "@") { // an unescaped "/" in a password ends the host too early
		return "postgres (unreadable URL)"
	}
	return fmt.Sprintf("postgres://%s%s", u.Host, u.Path)
}

func openPostgres(ctx context.Context, dsn string, migrations fs.FS, versions string) (*DB, error) {
	cfg, err := pgx.ParseConfig(dsn)
	if err != nil {
		// The cause quotes the URL, and with it perhaps the password.
		return nil, fmt.Errorf("database %s: the URL cannot be read: want postgres://user@host:port/database", Redact(dsn))
	}
	if cfg.ConnectTimeout == 0 {
		cfg.ConnectTimeout = connectTimeout
	}
	limit := func(name string, d time.Duration) {
		if _, set := cfg.RuntimeParams[name]; !set {
			cfg.RuntimeParams[name] = strconv.FormatInt(d.Milliseconds(), 10)
		}
	}
	migrating := cfg.Copy()
	migrating.RuntimeParams["statement_timeout"] = "0"
	setup := stdlib.OpenDB(*migrating)
	err = migrate(ctx, setup, Postgres, migrations, versions)
	if err = errors.Join(err, setup.Close()); err != nil {
		return nil, fmt.Errorf("database %s: %w", Redact(dsn), err)
	}
	limit("statement_timeout", statementTimeout)
	limit("lock_timeout", lockTimeout)
	limit("idle_in_transaction_session_timeout", idleTimeout)
	pool := stdlib.OpenDB(*cfg)
	pool.SetMaxOpenConns(16)
	pool.SetMaxIdleConns(8)
	pool.SetConnMaxIdleTime(5 * time.Minute)
	pool.SetConnMaxLifetime(time.Hour) // so that a moved server is found again
	return &DB{Engine: Postgres, Write: pool, Read: pool}, nil
}

func openSQLite(ctx context.Context, path string, migrations fs.FS, versions string) (*DB, error) {
	if err := touch(path); err != nil {
		return nil, fmt.Errorf("database %s: %w", Redact(path), err)
	}
	write, err := sqlitePool(path, "immediate")
	if err != nil {
		return nil, fmt.Errorf("database %s: %w", Redact(path), err)
	}
	write.SetMaxOpenConns(1)
	if err := migrate(ctx, write, SQLite, migrations, versions); err != nil {
		return nil, errors.Join(fmt.Errorf("database %s: %w", Redact(path), err), write.Close())
	}
	read, err := sqlitePool(path, "deferred")
	if err != nil {
		return nil, errors.Join(fmt.Errorf("database %s: %w", Redact(path), err), write.Close())
	}
	read.SetMaxOpenConns(4)
	read.SetMaxIdleConns(4)
	return &DB{Engine: SQLite, Write: write, Read: read}, nil
}

// touch creates the file where it is missing, for its owner only, and finds out early and in words what
// SQLite would call "unable to open database file".
func touch(path string) error {
	if path == "" {
		return errors.New("no file is named")
	}
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	switch {
	case err == nil:
		return f.Close()
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("the directory %s does not exist: create it", filepath.Dir(path))
	case errors.Is(err, fs.ErrPermission), errors.Is(err, syscall.EROFS):
		return fmt.Errorf("the file and its directory %s must be writable for this user", filepath.Dir(path))
	case errors.Is(err, syscall.EISDIR):
		return errors.New("this is a directory: name a file")
	}
	return fmt.Errorf("the file cannot be opened: %w", err)
}

// sqlitePool uses WAL with synchronous=FULL: NORMAL may lose the last commits at power loss, and a signed
// checkpoint must never be ahead of durable data. txlock decides how BEGIN starts: a writer takes the lock
// at once, because a later upgrade fails without waiting for busy_timeout.
func sqlitePool(path, txlock string) (*sql.DB, error) {
	abs, err := filepath.Abs(path)
	if err != nil {
		return nil, err
	}
	q := url.Values{"_txlock": {txlock}, "_pragma": {
		"busy_timeout(10000)", "journal_mode(WAL)", "foreign_keys(1)", "synchronous(FULL)",
	}}
	u := url.URL{Scheme: "file", OmitHost: true, Path: abs, RawQuery: q.Encode()}
	return sql.Open("sqlite", u.String())
}

func migrate(ctx context.Context, pool *sql.DB, engine Engine, migrations fs.FS, versions string) error {
	if err := pool.PingContext(ctx); err != nil {
		return Explain(err)
	}
	dir, err := fs.Sub(migrations, string(engine))
	if err != nil {
		return fmt.Errorf("migrations: %w", err)
	}
	dialect := goose.DialectSQLite3
	opts := []goose.ProviderOption{goose.WithTableName(versions), goose.WithDisableGlobalRegistry(true)}
	if engine == Postgres {
		dialect = goose.DialectPostgres
		// Several replicas start at once; one migrates, the others wait for it.
		lock, err := gooselock.NewPostgresSessionLocker(gooselock.WithLockTimeout(1, 300)) // seconds between tries, tries
		if err != nil {
			return fmt.Errorf("migrations: %w", err)
		}
		opts = append(opts, goose.WithSessionLocker(lock))
	}
	p, err := goose.NewProvider(dialect, pool, dir, opts...)
	if err != nil {
		return fmt.Errorf("migrations: %w", err)
	}
	if _, err := p.Up(ctx); err != nil {
		return fmt.Errorf("migrations: %w", Explain(err))
	}
	current, newest, err := p.GetVersions(ctx)
	if err != nil {
		return fmt.Errorf("migrations: %w", Explain(err))
	}
	if current > newest {
		return fmt.Errorf("migrations: the schema is at version %d and this program knows %d: run the newer program", current, newest)
	}
	return nil
}

// Close closes both pools.
func (db *DB) Close() error {
	if db.Read == db.Write {
		return db.Write.Close()
	}
	return errors.Join(db.Read.Close(), db.Write.Close())
}
