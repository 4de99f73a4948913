package store_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"net"
	"net/url"
	"os"
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/noxaudit/noxaudit/internal/dbtest"
	"github.com/noxaudit/noxaudit/internal/name"
	"github.com/noxaudit/noxaudit/internal/store"
	"github.com/noxaudit/noxaudit/ledger"
)

const victimVar = "NOXAUDIT_TEST_STORE_TO_KILL"

// TestMain turns this program into one that commits until it is killed, when the environment says so.
func TestMain(m *testing.M) {
	if dsn := os.Getenv(victimVar); dsn != "" {
		commitUntilKilled(dsn)
	}
	// Each step of the model is some statements on a real database. A flag on the command line overrides this.
	if err := flag.Set("rapid.checks", "40"); err != nil {
		panic(err)
	}
	os.Exit(m.Run())
}

// commitUntilKilled opens a finding and resolves the one before it in each change, with an entry for each, and
// prints the line's version after each commit.
func commitUntilKilled(dsn string) {
	fatal := func(err error) {
		if err != nil {
			fmt.Println("failed:", err)
			os.Exit(3)
		}
	}
	ctx := context.Background()
	s, err := store.Open(ctx, dsn)
	fatal(err)
	tenant := s.For(name.Local)
	l, err := tenant.Line(ctx, repo, "default")
	fatal(err)
	for version := l.Version; ; version++ {
		expect := line
		expect.Version = version
		c := store.Change{Time: now, Expect: &expect, Repository: &store.Repository{ID: repo, FullName: "r"}, Documents: []store.Document{{Kind: "x", Body: fmt.Append(nil, version)}}}
		add := func(n int64, resolved bool) {
			f := fnd("a.go", int(n))
			id, err := ledger.NewID(now, rand.Reader)
			fatal(err)
			c.Findings = append(c.Findings, store.FindingChange{Finding: f, Resolved: resolved})
			c.Entries = append(c.Entries, ledger.Event{Time: now, Source: expect.Source(), ID: id, Salt: strings.Repeat("0", 32), Type: "finding.changed",
				Account: "local", Actor: ledger.Actor{Kind: "system"}, Subject: map[string]string{"finding": f.Fingerprint, "resolved": fmt.Sprint(resolved)}, Content: nil})
		}
		add(version, false)
		if version > 0 {
			add(version-1, true)
		}
		fatal(tenant.Commit(ctx, c))
		fmt.Println(version + 1)
	}
}

func TestAKilledProcessLeavesNoStateWithoutItsEntry(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, dsn string) {
		known := int64(0)
		for round := range 8 {
			known = max(known, killWhileCommitting(t, dsn, 3+round))
			s, err := store.Open(t.Context(), dsn)
			must(t, err)
			checkRecorded(t, s, known)
			must(t, s.Close())
		}
	})
}

// killWhileCommitting kills the program after some commits, in the midst of whatever it is doing, and returns
// the last version that it saw committed.
func killWhileCommitting(t *testing.T, dsn string, commits int) (last int64) {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), victimVar+"="+dsn)
	out, err := cmd.StdoutPipe()
	must(t, err)
	must(t, cmd.Start())
	lines := bufio.NewScanner(out)
	for n := 0; lines.Scan(); n++ {
		if _, err := fmt.Sscan(lines.Text(), &last); err != nil {
			t.Fatalf("the program says %q", lines.Text())
		}
		if n == commits {
			must(t, cmd.Process.Kill()) // SIGKILL; what it printed meanwhile is read on
		}
	}
	if err := cmd.Wait(); err == nil {
		t.Fatal("the program ended by itself")
	}
	return last
}

// checkRecorded wants every committed version there, every finding told of by entries as it stands, and every
// number in its place.
func checkRecorded(t *testing.T, s *store.Store, atLeast int64) {
	t.Helper()
	ctx := t.Context()
	tenant := s.For(name.Local)
	l, err := tenant.Line(ctx, repo, "default")
	must(t, err)
	if l.Version < atLeast {
		t.Fatalf("version %d was committed, and the line is at %d", atLeast, l.Version)
	}
	told := map[string]string{} // by fingerprint
	pending, err := tenant.Pending(ctx, 1<<20)
	must(t, err)
	for i, r := range pending {
		if r.SSeq != uint64(i+1) {
			t.Fatalf("entry %d has the number %d", i+1, r.SSeq)
		}
		var body struct {
			Subject struct{ Finding, Resolved string }
		}
		must(t, json.Unmarshal(r.Body, &body))
		told[body.Subject.Finding] = map[string]string{"true": "resolved", "false": "open"}[body.Subject.Resolved]
	}
	if want := int(max(0, 2*l.Version-1)); len(pending) != want {
		t.Fatalf("%d entries for version %d, want %d", len(pending), l.Version, want)
	}
	rows, err := s.DB().Read.Query(`SELECT fingerprint, state FROM finding`)
	must(t, err)
	defer rows.Close()
	n := 0
	for rows.Next() {
		var fingerprint, state string
		must(t, rows.Scan(&fingerprint, &state))
		if n++; told[fingerprint] != state {
			t.Errorf("finding %s is %s and its last entry says %q", fingerprint, state, told[fingerprint])
		}
	}
	if must(t, rows.Err()); n != len(told) {
		t.Errorf("%d findings and entries about %d", n, len(told))
	}
}

func TestAFullDiskIsSaidSoAndLeavesNothingHalfWritten(t *testing.T) {
	s := open(t, dbtest.SQLite(t))
	tenant := s.For(name.Local)
	mustCommit(t, tenant, change(t, tenant, 0))
	var pages int
	must(t, s.DB().Write.QueryRow(`PRAGMA page_count`).Scan(&pages))
	limit := func(n int) {
		_, err := s.DB().Write.Exec(fmt.Sprintf(`PRAGMA max_page_count = %d`, n))
		must(t, err)
	}
	// With ever more room the disk fills up at ever later statements of the transaction.
	for room := range 40 {
		limit(pages + room)
		before := dump(t, s)
		c := largest(t, tenant, 1)
		err := tenant.Commit(t.Context(), c)
		wantErr(t, err, store.ErrUnavailable)
		if !strings.Contains(err.Error(), "disk that holds the database is full") {
			t.Fatalf("unclear: %v", err)
		}
		wantEqual(t, dump(t, s), before)
	}
	limit(1 << 30)
	mustCommit(t, tenant, largest(t, tenant, 1))
	checkOutbox(t, s, tenant, map[string]int{line.Source(): 1 + store.MaxEntries})
}

func TestAConnectionTerminatedInATransactionIsUnavailableAndTheRetryTakesEffectOnce(t *testing.T) {
	dsn := dbtest.Postgres(t)
	s := open(t, dsn)
	tenant := s.For(name.Local)
	mustCommit(t, tenant, change(t, tenant, 0))

	ctx := t.Context()
	admin, err := pgx.Connect(ctx, dsn)
	must(t, err)
	defer admin.Close(ctx)
	blocker, err := pgx.Connect(ctx, dsn)
	must(t, err)
	defer blocker.Close(ctx)
	lock, err := blocker.Begin(ctx)
	must(t, err)
	// Held at the last step but one, so that the transaction has written all else.
	_, err = lock.Exec(ctx, `SELECT 1 FROM stream WHERE source = $1 FOR UPDATE`, line.Source())
	must(t, err)

	c := change(t, tenant, 1)
	result := make(chan error)
	go func() { result <- tenant.Commit(ctx, c) }()
	for killed := 0; killed == 0; time.Sleep(5 * time.Millisecond) {
		must(t, admin.QueryRow(ctx, `SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
			WHERE datname = current_database() AND wait_event_type = 'Lock'`).Scan(&killed))
	}
	wantErr(t, <-result, store.ErrUnavailable)
	must(t, lock.Rollback(ctx))
	if l, err := tenant.Line(ctx, repo, "default"); err != nil || l.Version != 1 {
		t.Fatalf("line %+v, %v", l, err)
	}
	mustCommit(t, tenant, c)
	mustCommit(t, tenant, c)
	checkOutbox(t, s, tenant, map[string]int{line.Source(): 2})

	// Idle connections that a restarted server has dropped are no error at all, or one that a retry cures.
	_, err = admin.Exec(ctx, `SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()`)
	must(t, err)
	next := change(t, tenant, 2)
	for tries := 0; ; tries++ {
		err := tenant.Commit(ctx, next)
		if err == nil {
			break
		}
		if wantErr(t, err, store.ErrUnavailable); tries == 20 {
			t.Fatal(err)
		}
	}
}

// proxy stands between the store and the server, and fails as networks do.
type proxy struct {
	server, address string
	loseCommit      atomic.Bool // once: pass COMMIT on, and close before its answer

	mu    sync.Mutex
	l     net.Listener
	conns []net.Conn
}

func (p *proxy) up(t *testing.T) {
	t.Helper()
	l, err := net.Listen("tcp", p.address)
	must(t, err)
	p.mu.Lock()
	p.l, p.address = l, l.Addr().String()
	p.mu.Unlock()
	go func() {
		for {
			client, err := l.Accept()
			if err != nil {
				return
			}
			server, err := net.Dial("tcp", p.server)
			if err != nil {
				client.Close()
				continue
			}
			p.mu.Lock()
			p.conns = append(p.conns, client, server)
			p.mu.Unlock()
			var lose atomic.Bool
			go func() {
				buf := make([]byte, 64<<10)
				for {
					n, err := client.Read(buf)
					if bytes.Contains(buf[:n], []byte("commit\x00")) && p.loseCommit.CompareAndSwap(true, false) {
						lose.Store(true)
					}
					if _, werr := server.Write(buf[:n]); err != nil || werr != nil {
						server.Close()
						return
					}
				}
			}()
			go func() {
				buf := make([]byte, 64<<10)
				for {
					n, err := server.Read(buf)
					if err != nil || lose.Load() {
						client.Close()
						return
					}
					if _, err := client.Write(buf[:n]); err != nil {
						return
					}
				}
			}()
		}
	}()
}

func (p *proxy) down() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.l.Close()
	for _, c := range p.conns {
		c.Close()
	}
	p.conns = nil
}

func TestAServerThatIsAwayForAWhileIsUnavailableAndThenWorksAgain(t *testing.T) {
	u, err := url.Parse(dbtest.Postgres(t))
	must(t, err)
	p := &proxy{server: u.Host, address: "127.0.0.1:0"}
	p.up(t)
	u.Host = p.address
	s := open(t, u.String())
	tenant := s.For(name.Local)
	ctx := t.Context()
	c := change(t, tenant, 0)
	mustCommit(t, tenant, c)

	p.down()
	next := change(t, tenant, 1)
	for range 3 {
		wantErr(t, tenant.Commit(ctx, next), store.ErrUnavailable)
		_, err = tenant.Line(ctx, repo, "default")
		wantErr(t, err, store.ErrUnavailable)
		wantErr(t, s.Ping(ctx), store.ErrUnavailable)
	}
	p.up(t)
	must(t, s.Ping(ctx))
	mustCommit(t, tenant, next)

	// The answer to COMMIT is lost: the change took effect, and its retry finds that out.
	for _, lost := range []store.Change{change(t, tenant, 2), {Time: now, Entries: []ledger.Event{event(t, tenant, "settings")}}} {
		p.loseCommit.Store(true)
		wantErr(t, tenant.Commit(ctx, lost), store.ErrUnavailable)
		before := dump(t, s)
		mustCommit(t, tenant, lost)
		wantEqual(t, dump(t, s), before)
	}
	checkOutbox(t, s, tenant, map[string]int{line.Source(): 3, "settings": 1})
	p.down()
}

func TestAContextThatEndsAtAnyMomentLosesAndDoublesNothing(t *testing.T) {
	each(t, func(t *testing.T, s *store.Store, tenant *store.Tenant) {
		const rounds = 60
		for version := range int64(rounds) {
			c := change(t, tenant, version)
			c.Findings = []store.FindingChange{{Finding: fnd("a.go", int(version))}}
			ctx, cancel := context.WithTimeout(t.Context(), time.Duration(version)*50*time.Microsecond)
			if err := tenant.Commit(ctx, c); err != nil && !errors.Is(err, context.DeadlineExceeded) && !errors.Is(err, store.ErrUnavailable) {
				t.Errorf("round %d: %v", version, err)
			}
			cancel()
			mustCommit(t, tenant, c)
		}
		checkOutbox(t, s, tenant, map[string]int{line.Source(): rounds})
		open, err := tenant.OpenFindings(t.Context(), repo, "default")
		if err != nil || len(open) != rounds {
			t.Errorf("%d findings, %v", len(open), err)
		}
	})
}

func TestTwoWritersThatWaitForEachOtherAreToldToTryAgain(t *testing.T) {
	dsn := dbtest.Postgres(t)
	s := open(t, dsn)
	tenant := s.For(name.Local)
	mustCommit(t, tenant, change(t, tenant, 0))
	ctx := t.Context()
	other, err := pgx.Connect(ctx, dsn)
	must(t, err)
	defer other.Close(ctx)
	tx, err := other.Begin(ctx)
	must(t, err)
	_, err = tx.Exec(ctx, `SET LOCAL deadlock_timeout = '1h'`) // so that Commit is the one that is chosen
	must(t, err)
	_, err = tx.Exec(ctx, `SELECT 1 FROM stream FOR UPDATE`)
	must(t, err)
	c := change(t, tenant, 1)
	result := make(chan error)
	go func() { result <- tenant.Commit(ctx, c) }()
	waiting := 0
	for ; waiting == 0; time.Sleep(5 * time.Millisecond) {
		must(t, tx.QueryRow(ctx, `SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'`).Scan(&waiting))
		_, err = tx.Exec(ctx, `SELECT pg_stat_clear_snapshot()`)
		must(t, err)
	}
	locked := make(chan error)
	go func() { _, err := tx.Exec(ctx, `SELECT 1 FROM line FOR UPDATE`); locked <- err }()
	wantErr(t, <-result, store.ErrUnavailable)
	must(t, <-locked)
	must(t, tx.Rollback(ctx))
	mustCommit(t, tenant, c)
}

func TestAnEndedContextIsItsOwnErrorAndWritesNothing(t *testing.T) {
	each(t, func(t *testing.T, s *store.Store, tenant *store.Tenant) {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		before := dump(t, s)
		err := tenant.Commit(ctx, change(t, tenant, 0))
		wantErr(t, err, context.Canceled)
		if errors.Is(err, store.ErrUnavailable) {
			t.Errorf("the database is blamed: %v", err)
		}
		_, err = tenant.OpenFindings(ctx, repo, "default")
		wantErr(t, err, context.Canceled)
		wantEqual(t, dump(t, s), before)
		mustCommit(t, tenant, change(t, tenant, 0))
	})
}
