package sqllog

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math/rand"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/noxaudit/noxaudit/internal/database"
	"github.com/noxaudit/noxaudit/internal/dbtest"
	"github.com/noxaudit/noxaudit/internal/name"
	"github.com/noxaudit/noxaudit/ledger"
)

// memOutbox is an outbox in memory.
type memOutbox struct {
	rows   []ledger.Recorded
	marked map[string]uint64
}

func (o *memOutbox) Pending(_ context.Context, limit int) ([]ledger.Recorded, error) {
	n := min(limit, len(o.rows))
	return o.rows[:n], nil
}

func (o *memOutbox) Sequenced(_ context.Context, positions []ledger.Position) error {
	if o.marked == nil {
		o.marked = make(map[string]uint64)
	}
	for _, p := range positions {
		o.marked[p.ID] = p.Seq
	}
	for len(o.rows) > 0 {
		if _, done := o.marked[o.rows[0].ID]; !done {
			break
		}
		o.rows = o.rows[1:]
	}
	return nil
}

// stream makes events of an account, in a few sources, numbered on.
type stream struct {
	account string
	random  *rand.Rand
	next    map[string]uint64
}

func newStream(seed int64, account string) *stream {
	return &stream{account: account, random: rand.New(rand.NewSource(seed)), next: make(map[string]uint64)}
}

func (s *stream) events(t testing.TB, n, padding int) []ledger.Recorded {
	t.Helper()
	rows := make([]ledger.Recorded, n)
	for i := range rows {
		at := time.Date(2026, 11, 25, 9, 0, 0, 0, time.UTC).Add(time.Duration(i) * time.Millisecond)
		source := fmt.Sprintf("pull/%d", s.random.Intn(3)+1)
		s.next[source]++
		id, err := ledger.NewID(at, s.random)
		if err != nil {
			t.Fatal(err)
		}
		salt, err := ledger.NewSalt(s.random)
		if err != nil {
			t.Fatal(err)
		}
		e := ledger.Event{Time: at, Source: source, SSeq: s.next[source], ID: id, Salt: salt, Type: "audit.completed",
			Account: s.account, Actor: ledger.Actor{Kind: "system"}, Subject: map[string]string{"pull": "12"},
			Content: map[string]any{"n": i, "pad": strings.Repeat("x", padding)}}
		body, err := e.Body()
		if err != nil {
			t.Fatal(err)
		}
		rows[i] = ledger.Recorded{ID: id, Source: source, SSeq: e.SSeq, Body: body}
	}
	return rows
}

func open(t testing.TB, dsn string) *Log {
	t.Helper()
	l, err := Open(context.Background(), dsn, "acme")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
	return l
}

func account(t testing.TB, id string) name.Account {
	t.Helper()
	a, err := name.ParseAccount(id)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func drain(t testing.TB, log ledger.Log, rows []ledger.Recorded) {
	t.Helper()
	s, err := ledger.NewSequencer(context.Background(), &memOutbox{rows: rows}, log)
	if err != nil {
		t.Fatal(err)
	}
	if n, err := s.Drain(context.Background()); err != nil || n != len(rows) {
		t.Fatalf("drained %d of %d: %v", n, len(rows), err)
	}
}

func key(t testing.TB) *ledger.Key {
	t.Helper()
	k, err := ledger.LoadOrCreateKey(filepath.Join(t.TempDir(), "key"), "noxaudit/acme", rand.New(rand.NewSource(7)))
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func sign(t testing.TB, k *ledger.Key, log *Tenant) ledger.Signed {
	t.Helper()
	s, err := ledger.NewSigner(k, log)
	if err != nil {
		t.Fatal(err)
	}
	signed, err := s.Sign(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	return signed
}

func verify(t testing.TB, log *Tenant, o ledger.Options) (ledger.Verified, error) {
	t.Helper()
	c, err := log.Copy(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	return ledger.Verify(context.Background(), c, o)
}

func TestWhatIsDrainedIsSignedAndVerifies(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, dsn string) {
		ctx := context.Background()
		l := open(t, dsn)
		log, other := l.For(account(t, "583231")), l.For(account(t, "9"))
		k, s := key(t), newStream(1, "583231")

		if signed := sign(t, k, log); signed.Size != 0 {
			t.Errorf("an empty log was signed: %+v", signed)
		}
		drain(t, log, s.events(t, 3, 10))
		first := sign(t, k, log)
		drain(t, log, s.events(t, 5000, 10)) // more than a batch, a page and a chunk
		second := sign(t, k, log)
		if again := sign(t, k, log); !bytes.Equal(again.Note, second.Note) || again.Size != 5003 {
			t.Error("a log that did not change was signed again")
		}
		drain(t, log, s.events(t, 2, 10))
		drain(t, other, newStream(2, "9").events(t, 4, 10))
		drain(t, l.Deployment(), newStream(3, "deployment").events(t, 1, 10))

		v, err := verify(t, log, ledger.Options{Keys: []string{k.Public()}, Held: [][]byte{first.Note}})
		if err != nil {
			t.Fatal(err)
		}
		if v.Entries != 5005 || v.SignedSize != 5003 || v.Checkpoints != 3 || !v.KeyPinned || v.Origin != "noxaudit/acme/583231" {
			t.Errorf("got %+v", v)
		}
		if v, err := verify(t, other, ledger.Options{}); err != nil || v.Entries != 4 {
			t.Errorf("the other account's log: %+v, %v", v, err)
		}
		if v, err := verify(t, l.Deployment(), ledger.Options{}); err != nil || v.Entries != 1 {
			t.Errorf("the deployment's log: %+v, %v", v, err)
		}
		accounts, err := l.Accounts(ctx)
		if err != nil || fmt.Sprint(accounts) != "[583231 9 deployment]" {
			t.Errorf("accounts %v, %v", accounts, err)
		}

		// Proofs come out of the stored nodes and check against the signed root.
		proof, err := ledger.ProveEntry(ctx, log, second.Size, 4321)
		if err != nil {
			t.Fatal(err)
		}
		for stored, err := range log.Lines(ctx, 4321, 4322) {
			if err != nil {
				t.Fatal(err)
			}
			if err := ledger.CheckEntry(proof, second.Size, second.Root, 4321, stored.Line); err != nil {
				t.Error(err)
			}
		}
		growth, err := ledger.ProveGrowth(ctx, log, first.Size, second.Size)
		if err != nil {
			t.Fatal(err)
		}
		if err := ledger.CheckGrowth(growth, first.Size, first.Root, second.Size, second.Root); err != nil {
			t.Error(err)
		}
	})
}

func TestASecondSequencerFencesTheFirst(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, dsn string) {
		ctx := context.Background()
		log := open(t, dsn).For(account(t, "7"))
		s := newStream(1, "7")
		old := &memOutbox{rows: s.events(t, 2, 0)}
		first, err := ledger.NewSequencer(ctx, old, log)
		if err != nil {
			t.Fatal(err)
		}
		drain(t, log, slices.Clone(old.rows)) // by a second one
		old.rows = s.events(t, 2, 0)
		if n, err := first.Drain(ctx); n != 0 || !errors.Is(err, ledger.ErrFenced) {
			t.Errorf("the fenced sequencer appended %d, %v", n, err)
		}
		if v, err := verify(t, log, ledger.Options{}); err != nil || v.Entries != 2 {
			t.Errorf("got %+v, %v", v, err)
		}
	})
}

func TestTwoSequencersAtOnceNeverFork(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, dsn string) {
		ctx := context.Background()
		log := open(t, dsn).For(account(t, "7"))
		rows := newStream(1, "7").events(t, 300, 0)
		done := make(chan error)
		const racers = 4
		for range racers {
			go func() {
				done <- func() error {
					for at := 0; at < len(rows); {
						// Each claims anew when it is fenced, and drains the same events.
						s, err := ledger.NewSequencer(ctx, &memOutbox{rows: slices.Clone(rows[at:min(at+10, len(rows))])}, log)
						if err != nil {
							return err
						}
						_, err = s.Drain(ctx)
						switch {
						case errors.Is(err, ledger.ErrFenced):
						case err != nil:
							return err
						default:
							at += 10
						}
					}
					return nil
				}()
			}()
		}
		for range racers {
			if err := <-done; err != nil {
				t.Error(err)
			}
		}
		if v, err := verify(t, log, ledger.Options{}); err != nil || v.Entries != 300 {
			t.Errorf("got %+v, %v", v, err)
		}
	})
}

func TestABatchIsAppendedWholeOrNotAtAll(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, dsn string) {
		ctx := context.Background()
		log := open(t, dsn).For(account(t, "7"))
		s := newStream(1, "7")
		rows := s.events(t, 5, 0)
		drain(t, log, rows[:3])
		epoch, err := log.Claim(ctx)
		if err != nil {
			t.Fatal(err)
		}
		var tampered *ledger.Tampered
		good := ledger.Entry{Seq: 3, ID: "fresh", Prev: ledger.Hash{1}, Hashes: []byte("h"), Line: []byte("line")}
		twice := ledger.Entry{Seq: 4, ID: rows[0].ID, Prev: ledger.Hash{2}, Hashes: []byte("h"), Line: []byte("line")}
		for what, b := range map[string]ledger.Batch{
			"an id that is there": {Epoch: epoch, From: 3, Entries: []ledger.Entry{good, twice}},
			"an old epoch":        {Epoch: epoch - 1, From: 3, Entries: []ledger.Entry{good}},
			"another end":         {Epoch: epoch, From: 2, Entries: []ledger.Entry{good}},
		} {
			err := log.Append(ctx, b)
			if err == nil {
				t.Errorf("%s: appended", what)
			}
			if fenced := errors.Is(err, ledger.ErrFenced); fenced != (what == "an old epoch") {
				t.Errorf("%s: %v", what, err)
			}
			if cut := errors.As(err, &tampered); cut != (what == "another end") {
				t.Errorf("%s: %v", what, err)
			}
		}
		if v, err := verify(t, log, ledger.Options{}); err != nil || v.Entries != 3 {
			t.Errorf("got %+v, %v", v, err)
		}
		drain(t, log, rows[3:])
	})
}

func TestTwoSignersNeverSignTwoHistories(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, dsn string) {
		ctx := context.Background()
		log := open(t, dsn).For(account(t, "7"))
		s := newStream(1, "7")
		k := key(t)
		drain(t, log, s.events(t, 3, 0))
		before, err := log.Signed(ctx)
		if err != nil {
			t.Fatal(err)
		}
		first := sign(t, k, log)
		if err := log.Publish(ctx, before, first, "k"); !errors.Is(err, ledger.ErrFenced) {
			t.Errorf("published over a newer checkpoint: %v", err)
		}
		smaller := ledger.Signed{Size: 2, Note: []byte("n")}
		if err := log.Publish(ctx, first, smaller, "k"); !errors.Is(err, ledger.ErrFenced) {
			t.Errorf("went back: %v", err)
		}
		other := first
		other.Root[0] ^= 1
		if err := log.Publish(ctx, other, ledger.Signed{Size: 9, Note: []byte("n")}, "k"); !errors.Is(err, ledger.ErrFenced) {
			t.Errorf("published after another root: %v", err)
		}
	})
}

func TestALogKeepsItsOrigin(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, dsn string) {
		ctx := context.Background()
		log := open(t, dsn).For(account(t, "7"))
		drain(t, log, newStream(1, "7").events(t, 1, 0))
		renamed, err := Open(ctx, dsn, "other")
		if err != nil {
			t.Fatal(err)
		}
		defer renamed.Close()
		if _, err := renamed.For(account(t, "7")).Claim(ctx); err == nil || !strings.Contains(err.Error(), "must stay the same") {
			t.Errorf("got %v", err)
		}
	})
	for _, bad := range []string{"", "a b", "a/b", "a+b", "ü", strings.Repeat("a", 101)} {
		if _, err := Open(context.Background(), dbtest.SQLite(t), bad); err == nil {
			t.Errorf("the deployment %q was accepted", bad)
		}
	}
}

func TestTheDatabaseRefusesToChangeEvidence(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, dsn string) {
		l := open(t, dsn)
		log := l.For(account(t, "7"))
		s, k := newStream(1, "7"), key(t)
		drain(t, log, s.events(t, 3, 0))
		sign(t, k, log)
		statements := []string{
			`UPDATE entry SET line = line`, `DELETE FROM entry WHERE seq = 2`,
			`UPDATE entry_id SET seq = 0`, `DELETE FROM entry_id`,
			`UPDATE checkpoint SET note = note`, `DELETE FROM checkpoint`,
			`UPDATE log_key SET verifier = 'x'`, `DELETE FROM log_key`,
			`DELETE FROM log`, `UPDATE log SET size = 2`, `UPDATE log SET writer_epoch = 0`, `UPDATE log SET origin = 'x'`,
			`UPDATE log SET account = '8'`, `DELETE FROM signer_state`, `UPDATE signer_state SET size = 2`,
			`INSERT INTO entry (account, seq, prev, hashes, line) SELECT account, 9, prev, hashes, line FROM entry WHERE seq = 1`,
		}
		if l.db.Engine == database.Postgres {
			statements = append(statements, `TRUNCATE entry`, `TRUNCATE entry_id`, `TRUNCATE checkpoint`, `TRUNCATE log_key`, `TRUNCATE log`, `TRUNCATE signer_state`,
				`SET LOCAL session_replication_role = replica; DELETE FROM entry`)
		} else {
			statements = append(statements,
				`INSERT OR REPLACE INTO entry SELECT account, seq, prev, hashes, 'forged' FROM entry WHERE seq = 1`,
				`INSERT OR REPLACE INTO entry_id SELECT account, id, 0 FROM entry_id`,
				`INSERT OR REPLACE INTO checkpoint SELECT account, size, 'forged' FROM checkpoint`)
		}
		for _, statement := range statements {
			if _, err := l.db.Write.Exec(statement); err == nil {
				t.Errorf("the database accepted %s", statement)
			}
		}
		if l.db.Engine == database.SQLite { // these are ignored, without an error
			exec(`INSERT OR REPLACE INTO log SELECT account, origin, 0, 0 FROM log`,
				`INSERT OR REPLACE INTO signer_state SELECT account, 1, root, head, note FROM signer_state`)(t, l)
		}
		if v, err := verify(t, log, ledger.Options{}); err != nil || v.Entries != 3 || v.SignedSize != 3 {
			t.Errorf("got %+v, %v", v, err)
		}
		drain(t, log, s.events(t, 2, 0))
		sign(t, k, log)
	})
}

func TestAnAccountIsFoundByAnyTraceOfIt(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, dsn string) {
		l := open(t, dsn)
		for _, a := range []string{"7", "8", "9"} {
			drain(t, l.For(account(t, a)), newStream(1, a).events(t, 3, 0))
		}
		asOwner(t, l, `DELETE FROM log WHERE account = '8'`, `DELETE FROM source_head WHERE account = '8'`)
		if accounts, err := l.Accounts(context.Background()); err != nil || fmt.Sprint(accounts) != "[7 8 9]" {
			t.Errorf("got %v, %v", accounts, err)
		}
	})
}

// A server that does not wait for its disk by default does so for the ledger.
func TestWhatIsWrittenIsDurable(t *testing.T) {
	dsn := dbtest.Postgres(t)
	for set, want := range map[string]string{"off": "on", "on": "on", "remote_apply": "remote_apply"} {
		l := open(t, dsn+"&synchronous_commit="+set)
		tx, err := l.For(account(t, "7")).begin(context.Background())
		if err != nil {
			t.Fatal(err)
		}
		var got string
		if err := tx.QueryRow(`SHOW synchronous_commit`).Scan(&got); err != nil || got != want {
			t.Errorf("%s became %s, %v", set, got, err)
		}
		if err := tx.Rollback(); err != nil {
			t.Error(err)
		}
	}
}

// The file that another process has locked is SQLite's way to be busy.
func TestADatabaseThatIsBusyIsSaidToBeUnavailable(t *testing.T) {
	ctx := context.Background()
	dsn := dbtest.SQLite(t)
	l := open(t, dsn)
	log := l.For(account(t, "7"))
	held, err := sql.Open("sqlite", dsn)
	if err != nil {
		t.Fatal(err)
	}
	defer held.Close()
	held.SetMaxOpenConns(1)
	if _, err := held.Exec(`BEGIN IMMEDIATE`); err != nil {
		t.Fatal(err)
	}
	if _, err := l.db.Write.Exec(`PRAGMA busy_timeout = 10`); err != nil {
		t.Fatal(err)
	}
	if _, err := log.Claim(ctx); !errors.Is(err, database.ErrUnavailable) {
		t.Errorf("got %v", err)
	}
	if _, err := held.Exec(`ROLLBACK`); err != nil {
		t.Fatal(err)
	}
	if _, err := log.Claim(ctx); err != nil {
		t.Error(err)
	}
}

func TestAMissingPageIsAMissingEntry(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, dsn string) {
		l := open(t, dsn)
		log := l.For(account(t, "7"))
		drain(t, log, newStream(1, "7").events(t, 3*page, 0))
		asOwner(t, l, `DELETE FROM entry WHERE seq >= 2048 AND seq < 4096`)
		wantTampered(t, log, ledger.Options{}, 2048, ledger.LayerSequence)
	})
}

func TestReadersSeeAWholeLogWhileItGrows(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, dsn string) {
		log := open(t, dsn).For(account(t, "7"))
		s, k := newStream(1, "7"), key(t)
		drain(t, log, s.events(t, 10, 0))
		done := make(chan struct{})
		go func() {
			defer close(done)
			for range 10 {
				drain(t, log, s.events(t, 20, 0))
				sign(t, k, log)
			}
		}()
		for {
			if v, err := verify(t, log, ledger.Options{}); err != nil || v.Entries < 10 {
				t.Fatalf("got %+v, %v", v, err)
			}
			select {
			case <-done:
				return
			default:
			}
		}
	})
}
