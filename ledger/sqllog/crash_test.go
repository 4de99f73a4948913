package sqllog

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/noxaudit/noxaudit/internal/dbtest"
	"github.com/noxaudit/noxaudit/ledger"
)

// A machine that loses power leaves some beginning of SQLite's write-ahead log. Whatever it is, the log that
// comes back is whole, no checkpoint is ahead of it, and draining the kept outbox again gives the same bytes.
func TestAWriteAheadLogCutAnywhereLeavesAWholeLedger(t *testing.T) {
	ctx := context.Background()
	path := dbtest.SQLite(t)
	l, err := Open(ctx, path, "acme")
	if err != nil {
		t.Fatal(err)
	}
	log := l.For(account(t, "7"))
	k, s := key(t), newStream(1, "7")
	var all []ledger.Recorded
	for range 3 {
		rows := s.events(t, 4, 0)
		all = append(all, rows...)
		drain(t, log, rows)
		sign(t, k, log)
	}
	want, err := verify(t, log, ledger.Options{})
	if err != nil {
		t.Fatal(err)
	}
	// As a crash finds them: the files of an open database.
	main, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	wal, err := os.ReadFile(path + "-wal")
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	const frame = 24 + 4096
	if len(wal) < 20*frame {
		t.Fatalf("a write-ahead log of only %d bytes", len(wal))
	}
	sizes := make(map[uint64]int)
	for cut := len(wal); cut > len(wal)-20*frame; cut -= 997 {
		for _, fill := range []int{0, len(wal) - cut} { // cut off, or never written over zeros
			dir := t.TempDir()
			broken := filepath.Join(dir, "test.db")
			if err := os.WriteFile(broken, main, 0o600); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(broken+"-wal", append(slices.Clone(wal[:cut]), make([]byte, fill)...), 0o600); err != nil {
				t.Fatal(err)
			}
			l, err := Open(ctx, broken, "acme")
			if err != nil {
				t.Fatalf("cut at %d: %v", cut, err)
			}
			log := l.For(account(t, "7"))
			v, err := verify(t, log, ledger.Options{Keys: []string{k.Public()}})
			if err != nil {
				t.Fatalf("cut at %d: %v", cut, err)
			}
			sizes[v.Entries]++
			sequencer, err := ledger.NewSequencer(ctx, &memOutbox{rows: slices.Clone(all)}, log)
			if err != nil {
				t.Fatal(err)
			}
			if n, err := sequencer.Drain(ctx); err != nil || uint64(n) != want.Entries-v.Entries {
				t.Fatalf("cut at %d: drained %d of %d, %v", cut, n, want.Entries-v.Entries, err)
			}
			sign(t, k, log)
			again, err := verify(t, log, ledger.Options{Keys: []string{k.Public()}})
			if err != nil || again.Head != want.Head || again.Root != want.Root {
				t.Fatalf("cut at %d: another history, %v", cut, err)
			}
			if err := l.Close(); err != nil {
				t.Fatal(err)
			}
		}
	}
	if len(sizes) < 2 {
		t.Errorf("the cuts lost nothing: %v", sizes)
	}
}

// A process that ends between two steps leaves the database as it was after the one before. The store fails
// here at each of its calls in turn, with the work of that call done or not.
func TestACrashBetweenStepsOnTheRealStore(t *testing.T) {
	crash := errors.New("crash")
	dbtest.Each(t, func(t *testing.T, dsn string) {
		ctx := context.Background()
		l := open(t, dsn)
		for at := 0; ; at++ {
			log := l.tenant(string(rune('a' + at)))
			rows := newStream(int64(at), log.account).events(t, 9, 0)
			steps, crashed := 0, false
			broken := &breaking{Tenant: log, trip: func() error {
				if steps++; steps == at+1 {
					crashed = true
					return crash
				}
				return nil
			}}
			for _, end := range []int{4, 9} {
				sequencer, err := ledger.NewSequencer(ctx, &memOutbox{rows: slices.Clone(rows[:end])}, broken)
				if err != nil {
					t.Fatal(err)
				}
				if _, err := sequencer.Drain(ctx); err != nil && !errors.Is(err, crash) {
					t.Fatal(err)
				}
			}
			sequencer, err := ledger.NewSequencer(ctx, &memOutbox{rows: slices.Clone(rows)}, log)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := sequencer.Drain(ctx); err != nil {
				t.Fatal(err)
			}
			if v, err := verify(t, log, ledger.Options{}); err != nil || v.Entries != 9 {
				t.Fatalf("step %d: %+v, %v", at, v, err)
			}
			if !crashed {
				return
			}
		}
	})
}

// breaking is a log whose calls fail before or after they did their work.
type breaking struct {
	*Tenant
	trip func() error
}

func (b *breaking) State(ctx context.Context, sources []string) (ledger.State, error) {
	if err := b.trip(); err != nil {
		return ledger.State{}, err
	}
	return b.Tenant.State(ctx, sources)
}

func (b *breaking) Append(ctx context.Context, batch ledger.Batch) error {
	if err := b.trip(); err != nil {
		return err
	}
	if err := b.Tenant.Append(ctx, batch); err != nil {
		return err
	}
	return b.trip()
}

func (b *breaking) Find(ctx context.Context, ids []string) (map[string]ledger.Found, error) {
	if err := b.trip(); err != nil {
		return nil, err
	}
	return b.Tenant.Find(ctx, ids)
}
