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
	"path/filepath"
	"strings"

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

// Open opens the database at dsn, "postgres://…" (or "postgresql://…") or the path of a SQLite file, and
// applies the migrations that it lacks: the folder "sqlite" or "postgres" of migrations holds goose SQL files.
// Each schema keeps its version in its own table (versions), so two schemas may share a database in tests.
// It fails with a sentence that never contains the DSN's password.
func Open(ctx context.Context, dsn string, migrations fs.FS, versions string) (*DB, error) {
	db, err := connect(dsn)
	if err != nil {
		return nil, err
	}
	if err := db.migrate(ctx, migrations, versions); err != nil {
		return nil, errors.Join(fmt.Errorf("database %s: %w", Redact(dsn), err), db.Close())
	}
	return db, nil
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
	if err != nil {
		return "postgres (unreadable URL)"
	}
	return fmt.Sprintf("postgres://%s%s", u.Host, u.Path)
}

func connect(dsn string) (*DB, error) {
	if IsPostgres(dsn) {
		cfg, err := pgx.ParseConfig(dsn)
		if err != nil {
			return nil, fmt.Errorf("database %s: the URL cannot be read", Redact(dsn))
		}
		pool := stdlib.OpenDB(*cfg)
		pool.SetMaxOpenConns(16)
		pool.SetMaxIdleConns(4)
		return &DB{Engine: Postgres, Write: pool, Read: pool}, nil
	}
	write, err := openSQLite(dsn, "immediate")
	if err != nil {
		return nil, err
	}
	write.SetMaxOpenConns(1)
	read, err := openSQLite(dsn, "deferred")
	if err != nil {
		return nil, errors.Join(err, write.Close())
	}
	read.SetMaxOpenConns(4)
	return &DB{Engine: SQLite, Write: write, Read: read}, nil
}

// openSQLite uses WAL with synchronous=FULL: NORMAL may lose the last commits at power loss, and a signed
// checkpoint must never be ahead of durable data. txlock decides how BEGIN starts: a writer takes the lock
// at once, because a later upgrade fails without waiting for busy_timeout.
func openSQLite(path, txlock string) (*sql.DB, error) {
	abs, err := filepath.Abs(path)
	if err != nil {
		return nil, fmt.Errorf("database %s: %w", Redact(path), err)
	}
	q := url.Values{"_txlock": {txlock}, "_pragma": {
		"busy_timeout(10000)", "journal_mode(WAL)", "foreign_keys(1)", "synchronous(FULL)",
	}}
	u := url.URL{Scheme: "file", OmitHost: true, Path: abs, RawQuery: q.Encode()}
	return sql.Open("sqlite", u.String())
}

func (db *DB) migrate(ctx context.Context, migrations fs.FS, versions string) error {
	dir, err := fs.Sub(migrations, string(db.Engine))
	if err != nil {
		return fmt.Errorf("migrations: %w", err)
	}
	store := goose.WithTableName(versions)
	dialect := goose.DialectSQLite3
	opts := []goose.ProviderOption{store, goose.WithDisableGlobalRegistry(true)}
	if db.Engine == Postgres {
		dialect = goose.DialectPostgres
		// Several replicas start at once; one migrates, the others wait for it.
		lock, err := gooselock.NewPostgresSessionLocker()
		if err != nil {
			return fmt.Errorf("migrations: %w", err)
		}
		opts = append(opts, goose.WithSessionLocker(lock))
	}
	p, err := goose.NewProvider(dialect, db.Write, dir, opts...)
	if err != nil {
		return fmt.Errorf("migrations: %w", err)
	}
	if _, err := p.Up(ctx); err != nil {
		return fmt.Errorf("migrations: %w", err)
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
