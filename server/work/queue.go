package work

import (
	"context"
	"database/sql"
	"errors"
	"log/slog"
	"net/url"
	"path/filepath"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"
	"github.com/riverqueue/river/riverdriver/riversqlite"
	"github.com/riverqueue/river/rivermigrate"
	_ "modernc.org/sqlite" // the "sqlite" driver

	"github.com/noxaudit/noxaudit/internal/database"
)

// queue is River on one of the two engines. On SQLite its tables are in a file of their own, so that its polling
// never waits for the store's writer.
type queue struct {
	insert func(ctx context.Context, args river.JobArgs) error
	start  func(ctx context.Context) error
	stop   func(ctx context.Context) error
	close  func() error
}

func openQueue(ctx context.Context, dsn string, workers *river.Workers, n int) (*queue, error) {
	config := &river.Config{
		Queues:  map[string]river.QueueConfig{river.QueueDefault: {MaxWorkers: n}},
		Workers: workers,
		// Notifications alone leave a tail of a second, and SQLite has none.
		FetchPollInterval: 10 * time.Millisecond, FetchCooldown: 5 * time.Millisecond,
		Logger: slog.New(slog.DiscardHandler),
	}
	if database.IsPostgres(dsn) {
		pool, err := pgxpool.New(ctx, dsn)
		if err != nil {
			return nil, errors.New("the database's URL cannot be read")
		}
		q, err := newQueue[pgx.Tx](ctx, riverpgxv5.New(pool), config)
		if err != nil {
			pool.Close()
			return nil, err
		}
		q.close = func() error { pool.Close(); return nil }
		return q, nil
	}
	abs, err := filepath.Abs(dsn)
	if err != nil {
		return nil, err
	}
	u := url.URL{Scheme: "file", OmitHost: true, Path: abs, RawQuery: url.Values{
		"_txlock": {"immediate"}, "_pragma": {"busy_timeout(10000)", "journal_mode(WAL)", "synchronous(NORMAL)"}, // a job may be lost: the next look finds its cause
	}.Encode()}
	db, err := sql.Open("sqlite", u.String())
	if err != nil {
		return nil, err
	}
	db.SetMaxOpenConns(1)
	q, err := newQueue[*sql.Tx](ctx, riversqlite.New(db), config)
	if err != nil {
		return nil, errors.Join(err, db.Close())
	}
	q.close = db.Close
	return q, nil
}

func newQueue[TTx any](ctx context.Context, driver riverdriver.Driver[TTx], config *river.Config) (*queue, error) {
	migrator, err := rivermigrate.New(driver, nil)
	if err != nil {
		return nil, err
	}
	if _, err := migrator.Migrate(ctx, rivermigrate.DirectionUp, nil); err != nil {
		return nil, err
	}
	client, err := river.NewClient(driver, config)
	if err != nil {
		return nil, err
	}
	return &queue{
		insert: func(ctx context.Context, args river.JobArgs) error {
			_, err := client.Insert(ctx, args, once())
			return err
		},
		start: client.Start,
		stop:  client.Stop,
	}, nil
}
