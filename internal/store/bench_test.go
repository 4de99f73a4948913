package store_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/noxaudit/noxaudit/internal/dbtest"
	"github.com/noxaudit/noxaudit/internal/store"
	"github.com/noxaudit/noxaudit/ledger"
)

func eachEngine(b *testing.B, bench func(b *testing.B, s *store.Store, tenant *store.Tenant)) {
	for name, dsn := range map[string]func(testing.TB) string{"sqlite": dbtest.SQLite, "postgres": dbtest.Postgres} {
		b.Run(name, func(b *testing.B) {
			s := open(b, dsn(b))
			bench(b, s, s.For(account(b, "583231")))
		})
	}
}

// BenchmarkCommit sets a small change (one finding, three entries, a verdict with its document) beside a bare
// commit of one row in the same database, for the ratio of both, and beside the largest change that is taken.
func BenchmarkCommit(b *testing.B) {
	ctx := context.Background()
	eachEngine(b, func(b *testing.B, s *store.Store, tenant *store.Tenant) {
		b.Run("bare", func(b *testing.B) {
			db := s.DB().Write
			_, err := db.Exec(`CREATE TABLE IF NOT EXISTS bare (id BIGINT NOT NULL PRIMARY KEY, body TEXT NOT NULL)`)
			must(b, err)
			_, err = db.Exec(`DELETE FROM bare`)
			must(b, err)
			n := 0
			for b.Loop() {
				n++
				tx, err := db.BeginTx(ctx, nil)
				must(b, err)
				_, err = tx.ExecContext(ctx, `INSERT INTO bare (id, body) VALUES ($1, $2)`, n, "row")
				must(b, err)
				must(b, tx.Commit())
			}
		})
		b.Run("small", func(b *testing.B) {
			l, err := tenant.Line(ctx, repo, "default")
			must(b, err)
			version := l.Version
			for b.Loop() {
				b.StopTimer()
				c := change(b, tenant, version)
				if version > 0 {
					c.Repository = nil
				}
				c.Entries = append(c.Entries, event(b, tenant, c.Expect.Source()), event(b, tenant, c.Expect.Source()))
				c.Line = &store.Line{Head: commit(1), Tree: "tree", AuditedAt: now}
				c.Findings = []store.FindingChange{{Finding: fnd("a.go", int(version%1000))}}
				doc := store.Document{Kind: "verdict", Body: fmt.Appendf(nil, "%d %s", version, bytes.Repeat([]byte("verdict "), 100))}
				c.Documents = []store.Document{doc}
				c.Verdict = &store.Verdict{ID: doc.Digest(), Repository: repo, Line: "default", Head: commit(1), Conclusion: "success", Time: now}
				version++
				b.StartTimer()
				mustCommit(b, tenant, c)
			}
		})
		b.Run("largest", func(b *testing.B) {
			l, err := tenant.Line(ctx, repo, "default")
			must(b, err)
			version := l.Version
			for b.Loop() {
				b.StopTimer()
				c := largest(b, tenant, version)
				version++
				b.StartTimer()
				mustCommit(b, tenant, c)
			}
		})
	})
}

func BenchmarkCommitOfTheMostBytes(b *testing.B) {
	eachEngine(b, func(b *testing.B, s *store.Store, tenant *store.Tenant) {
		for b.Loop() {
			b.StopTimer()
			noise := make([]byte, store.MaxStoredBytes)
			rand.Read(noise)
			c := store.Change{Time: now, Entries: []ledger.Event{event(b, tenant, "s")}, Documents: []store.Document{{Kind: "x", Body: noise}}}
			b.StartTimer()
			mustCommit(b, tenant, c)
		}
	})
}

// BenchmarkDelivery sets the insertion of a delivery of 20 KB, as a webhook waits for it, beside a bare commit of
// the same database, turn by turn, and reports both at p50 and p99 in microseconds. Run it with -benchtime=2000x.
func BenchmarkDelivery(b *testing.B) {
	ctx := context.Background()
	eachEngine(b, func(b *testing.B, s *store.Store, tenant *store.Tenant) {
		db := s.DB().Write
		_, err := db.Exec(`CREATE TABLE bare (id BIGINT NOT NULL PRIMARY KEY, body TEXT NOT NULL)`)
		must(b, err)
		var bare, insert []time.Duration
		for b.Loop() {
			n := len(bare)
			c := store.Change{Time: now, Entries: []ledger.Event{event(b, tenant, "github")}, Delivery: &store.Delivery{
				GUID: rand.Text(), Event: "pull_request", Action: "synchronize", Installation: 42, Received: now, Body: payload(n),
			}}
			start := time.Now()
			must(b, tenant.Commit(ctx, c))
			insert = append(insert, time.Since(start))
			start = time.Now()
			tx, err := db.BeginTx(ctx, nil)
			must(b, err)
			_, err = tx.ExecContext(ctx, `INSERT INTO bare (id, body) VALUES ($1, $2)`, n, "row")
			must(b, err)
			must(b, tx.Commit())
			bare = append(bare, time.Since(start))
		}
		for what, took := range map[string][]time.Duration{"bare": bare, "delivery": insert} {
			slices.Sort(took)
			for _, p := range []int{50, 99} {
				b.ReportMetric(float64(took[len(took)*p/100].Microseconds()), fmt.Sprintf("%s-p%d-µs", what, p))
			}
		}
		ratio := func(p int) float64 { return float64(insert[len(insert)*p/100]) / float64(bare[len(bare)*p/100]) }
		b.ReportMetric(ratio(50), "ratio-p50")
		b.ReportMetric(ratio(99), "ratio-p99")
	})
}

// payload is 20 KB of JSON that compresses about as a webhook does, to a fifth.
func payload(n int) []byte {
	var b bytes.Buffer
	for i := 0; b.Len() < 20_000; i++ {
		fmt.Fprintf(&b, `{"node_id":"%s","url":"https://api.github.com/repos/octo-org/payments/pulls/%d/commits{/sha}","created_at":"2026-11-25T12:00:%02dZ","site_admin":false},`,
			rand.Text(), n+i, i%60)
	}
	return b.Bytes()
}

func BenchmarkCacheGet10000(b *testing.B) {
	ctx := context.Background()
	eachEngine(b, func(b *testing.B, s *store.Store, tenant *store.Tenant) {
		bodies, keys := map[string][]byte{}, []string{}
		for i := range 10_000 {
			keys = append(keys, fmt.Sprintf("secrets/3/%064x", i))
			bodies[keys[i]] = []byte(`{"drafts":[]}`)
		}
		must(b, tenant.CachePut(ctx, now, bodies))
		for b.Loop() {
			got, err := tenant.CacheGet(ctx, keys)
			must(b, err)
			if len(got) != len(keys) {
				b.Fatal(len(got))
			}
		}
	})
}

func BenchmarkOpenFindings10000(b *testing.B) {
	ctx := context.Background()
	eachEngine(b, func(b *testing.B, s *store.Store, tenant *store.Tenant) {
		for version := range int64(20) {
			c := change(b, tenant, version)
			for i := range store.MaxFindings {
				n := int(version)*store.MaxFindings + i
				c.Findings = append(c.Findings, store.FindingChange{Finding: fnd(fmt.Sprintf("dir-%d/file-%d.go", n%7, n%500), n)})
			}
			mustCommit(b, tenant, c)
		}
		for b.Loop() {
			got, err := tenant.OpenFindings(ctx, repo, "default")
			must(b, err)
			if len(got) != 10_000 {
				b.Fatal(len(got))
			}
		}
	})
}

func BenchmarkOutbox(b *testing.B) {
	ctx := context.Background()
	eachEngine(b, func(b *testing.B, s *store.Store, tenant *store.Tenant) {
		b.Run("pending and marked, 500", func(b *testing.B) {
			version, seq := int64(0), uint64(0)
			for b.Loop() {
				b.StopTimer()
				mustCommit(b, tenant, largest(b, tenant, version))
				version++
				b.StartTimer()
				pending, err := tenant.Pending(ctx, store.MaxEntries)
				must(b, err)
				positions := make([]ledger.Position, len(pending))
				for i, r := range pending {
					positions[i] = ledger.Position{ID: r.ID, Seq: seq}
					seq++
				}
				must(b, tenant.Sequenced(ctx, positions))
			}
		})
	})
}
