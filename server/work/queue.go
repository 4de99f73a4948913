package work

import (
	"context"
	"crypto/rand"
	"database/sql"
	"errors"
	"log/slog"
	"net/url"
	"path/filepath"
	"slices"
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
	insert func(ctx context.Context, args river.JobArgs) (refused bool, err error) // refused: there is one already
	start  func(ctx context.Context) error
	stop   func(ctx context.Context) error
	close  func() error
	free   func(ctx context.Context) error // forgets jobs that run in a process that is gone
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
		config.ID = "noxaudit-" + rand.Text()
		pool, err := openPool(ctx, dsn, config.ID)
		if err != nil {
			return nil, err
		}
		q, err := newQueue[pgx.Tx](ctx, riverpgxv5.New(pool), config)
		if err != nil {
			pool.Close()
			return nil, err
		}
		q.close = func() error { pool.Close(); return nil }
		q.free = (&reaper{pool: pool}).free
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
	q.free = func(context.Context) error { return nil }
	// SQLite is for one process, and it is this one: whatever still "runs" was killed.
	for _, table := range []string{"river_job WHERE state = 'running'", "river_leader"} {
		if _, err := db.ExecContext(ctx, "DELETE FROM "+table); err != nil {
			return nil, errors.Join(err, db.Close())
		}
	}
	return q, nil
}

// openPool opens connections that carry the process's name, by which others see that it lives. A machine that
// vanishes is noticed by the server within a minute.
func openPool(ctx context.Context, dsn, id string) (*pgxpool.Pool, error) {
	c, err := pgxpool.ParseConfig(dsn)
	if err != nil {
		return nil, errors.New("the database's URL cannot be read")
	}
	for k, v := range map[string]string{
		"application_name": id, "tcp_keepalives_idle": "20", "tcp_keepalives_interval": "10", "tcp_keepalives_count": "3",
	} {
		c.ConnConfig.RuntimeParams[k] = v
	}
	return pgxpool.NewWithConfig(ctx, c)
}

// reaper forgets what processes held that are gone. River itself would hold their jobs as running for an hour, and since
// jobs are unique, nothing else could look at what they were about; and without a leader nothing is tried again.
type reaper struct {
	pool     *pgxpool.Pool
	suspects []string // processes without a connection, the last time
}

// free deletes the running jobs and the leadership of processes that had no connection now and the last time: one that
// reconnects after the server was restarted keeps its own. What the jobs were about is found by the next look.
func (r *reaper) free(ctx context.Context) error {
	rows, err := r.pool.Query(ctx, `SELECT client FROM (
			SELECT DISTINCT attempted_by[array_upper(attempted_by, 1)] AS client FROM river_job WHERE state = 'running'
			UNION SELECT leader_id FROM river_leader) AS holders
		WHERE NOT EXISTS (SELECT FROM pg_stat_activity WHERE application_name = client)`)
	if err != nil {
		return err
	}
	absent, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return err
	}
	gone := slices.DeleteFunc(slices.Clone(absent), func(id string) bool { return !slices.Contains(r.suspects, id) })
	r.suspects = absent
	if len(gone) == 0 {
		return nil
	}
	for _, held := range []string{"river_job WHERE state = 'running' AND attempted_by[array_upper(attempted_by, 1)]", "river_leader WHERE leader_id"} {
		if _, err := r.pool.Exec(ctx, "DELETE FROM "+held+" = ANY($1)", gone); err != nil {
			return err
		}
	}
	return nil
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
		insert: func(ctx context.Context, args river.JobArgs) (bool, error) {
			res, err := client.Insert(ctx, args, once())
			return err == nil && res.UniqueSkippedAsDuplicate, err
		},
		start: client.Start,
		stop:  client.Stop,
	}, nil
}
