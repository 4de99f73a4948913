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

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/pressly/goose/v3"
)

// OpenReadOnly opens the database at dsn as Open does, to look at it: it makes nothing, brings nothing up to
// date, and cannot write, so that a user who may only read is enough, and a file on a disk that cannot be written.
// It refuses a database without the schema, or with one older or newer than this program's. Write and Read are
// the same pool.
//
// Where SQLite may write to the directory, it puts its "-wal" and "-shm" beside the file to agree with a writer.
func OpenReadOnly(ctx context.Context, dsn string, migrations fs.FS, versions string) (*DB, error) {
	open, engine := readOnlySQLite, SQLite
	if IsPostgres(dsn) {
		open, engine = readOnlyPostgres, Postgres
	}
	pool, err := open(ctx, dsn)
	if err != nil {
		return nil, fmt.Errorf("database %s: %w", Redact(dsn), err)
	}
	if err := sameVersion(ctx, pool, engine, migrations, versions); err != nil {
		return nil, errors.Join(fmt.Errorf("database %s: %w", Redact(dsn), err), pool.Close())
	}
	return &DB{Engine: engine, Write: pool, Read: pool}, nil
}

func readOnlyPostgres(_ context.Context, dsn string) (*sql.DB, error) {
	cfg, err := pgx.ParseConfig(dsn)
	if err != nil {
		// The cause quotes the URL, and with it perhaps the password.
		return nil, errors.New("the URL cannot be read: want postgres://user@host:port/database")
	}
	if cfg.ConnectTimeout == 0 {
		cfg.ConnectTimeout = connectTimeout
	}
	cfg.RuntimeParams["default_transaction_read_only"] = "on"
	pool := stdlib.OpenDB(*cfg)
	pool.SetMaxOpenConns(4)
	return pool, nil
}

func readOnlySQLite(ctx context.Context, path string) (*sql.DB, error) {
	if path == "" {
		return nil, errors.New("no file is named")
	}
	info, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("there is no such file: %w", err)
	case err != nil:
		return nil, fmt.Errorf("the file cannot be opened: %w", err)
	case info.IsDir():
		return nil, errors.New("this is a directory: name a file")
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("the file cannot be read: %w", err)
	}
	if err := f.Close(); err != nil {
		return nil, err
	}
	pool, err := readOnlyPool(ctx, path, false)
	if err == nil {
		return pool, nil
	}
	// Nobody can write here, this process included: then the file is read as it is, unless a writer left work
	// behind that only a writer can finish.
	if wal, walErr := os.Stat(path + "-wal"); walErr == nil && wal.Size() > 0 {
		return nil, fmt.Errorf("its -wal holds what is not in it yet, and the directory cannot be written: copy both to one that can (%w)", err)
	}
	return readOnlyPool(ctx, path, true)
}

// readOnlyPool opens the file. Immutable takes no lock and is wrong where somebody writes.
func readOnlyPool(ctx context.Context, path string, immutable bool) (*sql.DB, error) {
	abs, err := filepath.Abs(path)
	if err != nil {
		return nil, err
	}
	q := url.Values{"mode": {"ro"}, "_pragma": {"busy_timeout(10000)", "query_only(1)"}}
	if immutable {
		q.Set("immutable", "1")
	}
	u := url.URL{Scheme: "file", OmitHost: true, Path: abs, RawQuery: q.Encode()}
	pool, err := sql.Open("sqlite", u.String())
	if err != nil {
		return nil, err
	}
	pool.SetMaxOpenConns(4)
	var tables int
	if err := pool.QueryRowContext(ctx, `SELECT count(*) FROM sqlite_master`).Scan(&tables); err != nil {
		return nil, errors.Join(fmt.Errorf("the file cannot be read as a database: %w", err), pool.Close())
	}
	return pool, nil
}

// sameVersion wants the schema to be the one that this program knows.
func sameVersion(ctx context.Context, pool *sql.DB, engine Engine, migrations fs.FS, versions string) error {
	files, err := fs.Glob(migrations, string(engine)+"/*.sql")
	if err != nil {
		return fmt.Errorf("migrations: %w", err)
	}
	var newest, current int64
	for _, file := range files {
		n, err := goose.NumericComponent(file)
		if err != nil {
			return fmt.Errorf("migrations: %w", err)
		}
		newest = max(newest, n)
	}
	exists := `SELECT count(*) FROM sqlite_master WHERE type = 'table' AND name = $1`
	if engine == Postgres {
		exists = `SELECT count(*) FROM pg_catalog.pg_class WHERE oid = to_regclass($1)`
	}
	var there int
	if err := pool.QueryRowContext(ctx, exists, versions).Scan(&there); err != nil {
		return Explain(err)
	}
	if there > 0 {
		if err := pool.QueryRowContext(ctx, `SELECT COALESCE(MAX(version_id), 0) FROM `+versions+` WHERE is_applied`).Scan(&current); err != nil {
			return Explain(err)
		}
	}
	switch {
	case current == 0:
		return errors.New("it holds none of this program's tables: nothing was ever recorded in it, or it is the wrong one")
	case current < newest:
		return fmt.Errorf("the schema is at version %d and this program needs %d: run \"noxaudit migrate\", or verify with the older program", current, newest)
	case current > newest:
		return fmt.Errorf("the schema is at version %d and this program knows %d: run the newer program", current, newest)
	}
	return nil
}
