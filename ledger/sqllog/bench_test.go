package sqllog

import (
	"context"
	"database/sql"
	"fmt"
	"slices"
	"sync"
	"testing"

	"github.com/noxaudit/noxaudit/internal/dbtest"
	"github.com/noxaudit/noxaudit/ledger"
)

// limited is an outbox of a given backlog per look: what 64 or 512 writers would leave between two drains.
type limited struct {
	memOutbox
	most int
}

func (o *limited) Pending(ctx context.Context, limit int) ([]ledger.Recorded, error) {
	return o.memOutbox.Pending(ctx, min(limit, o.most))
}

// BenchmarkDrain appends entries of 1 KB in transactions of some rows each.
func BenchmarkDrain(b *testing.B) {
	for _, engine := range engines {
		for _, rows := range []int{1, 32, 64, 256, 4096} {
			b.Run(fmt.Sprintf("%s/rows=%d", engine.name, rows), func(b *testing.B) {
				log := open(b, engine.dsn(b)).For(account(b, "7"))
				s := newStream(1, "7")
				n := max(rows*4, 200)
				var outbox limited
				outbox.most = rows
				sequencer, err := ledger.NewSequencer(context.Background(), &outbox, log)
				if err != nil {
					b.Fatal(err)
				}
				total := 0
				for b.Loop() {
					b.StopTimer()
					outbox.rows, outbox.marked = s.events(b, n, 560), nil
					b.StartTimer()
					if got, err := sequencer.Drain(context.Background()); err != nil || got != n {
						b.Fatal(got, err)
					}
					total += n
				}
				b.ReportMetric(float64(total)/b.Elapsed().Seconds(), "entries/s")
			})
		}
	}
}

var engines = []struct {
	name string
	dsn  func(testing.TB) string
}{{"sqlite", dbtest.SQLite}, {"postgres", dbtest.Postgres}}

// BenchmarkNaiveChain is what the sequencer replaces: every writer locks the head row, appends its one entry and
// commits, 64 writers on 16 connections. Compare with BenchmarkDrain/postgres of the same run.
func BenchmarkNaiveChain(b *testing.B) {
	l := open(b, dbtest.Postgres(b))
	if _, err := l.db.Write.Exec(`INSERT INTO log (account, origin, writer_epoch, size) VALUES ('7', 'o', 0, 0)`); err != nil {
		b.Fatal(err)
	}
	if _, err := l.db.Write.Exec(`CREATE TABLE naive_head (account TEXT PRIMARY KEY, hash BYTEA NOT NULL)`); err != nil {
		b.Fatal(err)
	}
	if _, err := l.db.Write.Exec(`INSERT INTO naive_head VALUES ('7', $1)`, make([]byte, 32)); err != nil {
		b.Fatal(err)
	}
	rows := newStream(1, "7").events(b, 1000, 560)
	body := slices.MaxFunc(rows, func(a, c ledger.Recorded) int { return len(a.Body) - len(c.Body) }).Body
	const writers, each = 64, 8
	total := 0
	for b.Loop() {
		var group sync.WaitGroup
		for range writers {
			group.Go(func() {
				for range each {
					if err := naiveAppend(l.db.Write, body); err != nil {
						b.Error(err)
						return
					}
				}
			})
		}
		group.Wait()
		total += writers * each
	}
	b.ReportMetric(float64(total)/b.Elapsed().Seconds(), "entries/s")
}

func naiveAppend(db *sql.DB, body []byte) error {
	tx, err := db.Begin()
	if err != nil {
		return err
	}
	defer tx.Rollback()
	var seq int64
	var prev []byte
	if err := tx.QueryRow(`SELECT l.size, h.hash FROM log l JOIN naive_head h ON h.account = l.account
		WHERE l.account = '7' FOR UPDATE`).Scan(&seq, &prev); err != nil {
		return err
	}
	line := fmt.Appendf(nil, `{"v":1,"seq":%d,"prev":"%x",%s`, seq, prev, body[1:])
	head := ledger.LineHash(line)
	if _, err := tx.Exec(`INSERT INTO entry (account, seq, prev, hashes, line) VALUES ('7', $1, $2, $3, $4)`, seq, prev, head[:], line); err != nil {
		return err
	}
	if _, err := tx.Exec(`UPDATE naive_head SET hash = $1 WHERE account = '7'`, head[:]); err != nil {
		return err
	}
	if _, err := tx.Exec(`UPDATE log SET size = size + 1 WHERE account = '7'`); err != nil {
		return err
	}
	return tx.Commit()
}
