package ledger

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

var errCrash = errors.New("crash")

func sequencer(t fataler, outbox Outbox, log Log) *Sequencer {
	s, err := NewSequencer(context.Background(), outbox, log)
	if err != nil {
		t.Fatalf("%v", err)
	}
	return s
}

// everythingOnce demands that each event of the outbox is in the log once, verbatim, where the outbox says,
// and that the log verifies.
func everythingOnce(t fataler, outbox *memOutbox, log *memLog) {
	v, err := Verify(context.Background(), log.copy(), Options{})
	if err != nil {
		t.Fatalf("%v", err)
	}
	if v.Entries != uint64(len(outbox.rows)) || len(outbox.marked) != len(outbox.rows) {
		t.Fatalf("%d events, %d entries, %d marks", len(outbox.rows), v.Entries, len(outbox.marked))
	}
	for _, r := range outbox.rows {
		if line := log.entries[outbox.marked[r.ID]].Line; !sameBody(line, r.Body) {
			t.Fatalf("event %s became %s", r.ID, line)
		}
	}
}

func TestDrainingGivesEachEventItsPlace(t *testing.T) {
	outbox, log := &memOutbox{rows: recorded(t, events(1, 30))}, newMemLog()
	s := sequencer(t, outbox, log)
	if n, err := s.Drain(context.Background()); n != 30 || err != nil {
		t.Fatalf("drained %d, %v", n, err)
	}
	everythingOnce(t, outbox, log)
	if n, err := s.Drain(context.Background()); n != 0 || err != nil {
		t.Errorf("an empty outbox: %d, %v", n, err)
	}
	for i, e := range log.entries {
		parsed, err := ParseLine(e.Line)
		if err != nil || parsed.Seq != uint64(i) || parsed.Event.ID != outbox.rows[i].ID {
			t.Errorf("entry %d: %+v, %v", i, parsed, err)
		}
	}
}

// The crash list, for a drain of two batches' worth of steps: whatever step fails, and whether it did its work
// before it failed, the next process leaves every event in the log once.
func TestACrashAtAnyStepLosesAndDoublesNothing(t *testing.T) {
	for at := 0; ; at++ {
		outbox, log := &memOutbox{rows: recorded(t, events(1, 12))}, newMemLog()
		steps, crashed := 0, ""
		fail := func(step string) error {
			steps++
			if steps == at+1 {
				crashed = step
				return errCrash
			}
			return nil
		}
		all := outbox.rows
		outbox.rows = all[:5]
		drain := func() {
			outbox.fail, log.fail = fail, fail
			_, err := sequencer(t, outbox, log).Drain(context.Background())
			if crashed == "" && err != nil {
				t.Fatal(err)
			}
			outbox.fail, log.fail = nil, nil
		}
		drain()
		outbox.rows = all
		drain()
		if _, err := sequencer(t, outbox, log).Drain(context.Background()); err != nil {
			t.Fatalf("after a crash %s (step %d): %v", crashed, at, err)
		}
		everythingOnce(t, outbox, log)
		if crashed == "" {
			if at < 10 {
				t.Errorf("only %d steps were tried", at)
			}
			return
		}
	}
}

func TestAnyMixOfCrashesAndRestartsLosesAndDoublesNothing(t *testing.T) {
	all := recorded(t, events(3, 60))
	rapid.Check(t, func(t *rapid.T) {
		outbox, log := &memOutbox{}, newMemLog()
		fail := func(string) error {
			if rapid.IntRange(0, 5).Draw(t, "crash") == 0 {
				return errCrash
			}
			return nil
		}
		var s *Sequencer
		for len(outbox.rows) < len(all) {
			n := len(outbox.rows)
			outbox.rows = all[:min(len(all), n+rapid.IntRange(0, 12).Draw(t, "recorded"))]
			if s == nil || rapid.Bool().Draw(t, "restart") {
				s = sequencer(t, outbox, log)
			}
			outbox.fail, log.fail = fail, fail
			if _, err := s.Drain(context.Background()); err != nil && !errors.Is(err, errCrash) {
				t.Fatalf("%v", err)
			}
			outbox.fail, log.fail = nil, nil
		}
		if _, err := s.Drain(context.Background()); err != nil {
			t.Fatalf("%v", err)
		}
		everythingOnce(t, outbox, log)
	})
}

// Case 16 of the tamper suite: the same rows delivered again, even within one batch.
func TestTamper16AReplayedBatchIsAbsorbed(t *testing.T) {
	rows := recorded(t, events(1, 10))
	log := newMemLog()
	outbox := &memOutbox{rows: append(slices.Clone(rows), rows...)}
	if n, err := sequencer(t, outbox, log).Drain(context.Background()); n != 10 || err != nil {
		t.Fatalf("drained %d, %v", n, err)
	}
	again := &memOutbox{rows: rows}
	if n, err := sequencer(t, again, log).Drain(context.Background()); n != 0 || err != nil {
		t.Fatalf("drained %d again, %v", n, err)
	}
	everythingOnce(t, again, log)
}

func TestABadRowHoldsBackItsOwnSourceOnly(t *testing.T) {
	const bad = 4
	for _, c := range []struct {
		name   string
		tamper func(rows []Recorded) []Recorded
		want   error
		says   string
	}{
		{"an event deleted", func(rows []Recorded) []Recorded { return slices.Delete(rows, bad, bad+1) }, ErrGap, "expected number"},
		{"an event edited", func(rows []Recorded) []Recorded {
			rows[bad].Body = bytes.Replace(rows[bad].Body, []byte("passed"), []byte("pa ssed\n"), 1)
			return rows
		}, ErrMalformed, "control character"},
		{"a row that names another event", func(rows []Recorded) []Recorded {
			rows[bad].ID = rows[bad+1].ID[:35] + "0"
			return rows
		}, ErrMalformed, "different events"},
		{"another tenant's event", func(rows []Recorded) []Recorded {
			rows[bad].Body = bytes.Replace(rows[bad].Body, []byte(`"account":"583231"`), []byte(`"account":"999"`), 1)
			return rows
		}, ErrMalformed, "belongs to account"},
		{"an empty row", func(rows []Recorded) []Recorded { rows[bad].Body = nil; return rows }, ErrMalformed, "not an object"},
		{"another first byte", func(rows []Recorded) []Recorded { rows[bad].Body[0] = ' '; return rows }, ErrMalformed, "not an object"},
		{"an id used twice", func(rows []Recorded) []Recorded {
			rows[bad].Body = bytes.Replace(rows[bad].Body, []byte(rows[bad].ID), []byte(rows[0].ID), 1)
			rows[bad].ID = rows[0].ID
			return rows
		}, ErrConflict, "entry 0"},
	} {
		t.Run(c.name, func(t *testing.T) {
			all := events(1, 20)
			source := all[bad].Source
			want := 0
			for i, e := range all {
				if e.Source != source || i < bad {
					want++
				}
			}
			outbox, log := &memOutbox{rows: c.tamper(recorded(t, all))}, newMemLog()
			s := sequencer(t, outbox, log)
			n, err := s.Drain(context.Background())
			if n != want || !errors.Is(err, c.want) || !strings.Contains(err.Error(), c.says) || !strings.Contains(err.Error(), source) {
				t.Errorf("drained %d of %d, %v", n, want, err)
			}
			if n, err := s.Drain(context.Background()); n != 0 || err == nil {
				t.Errorf("the error went away: %d, %v", n, err)
			}
			if _, err := Verify(context.Background(), log.copy(), Options{}); err != nil {
				t.Errorf("the log itself: %v", err)
			}
		})
	}
}

func TestAnEventThatComesBackWithOtherContentIsAConflict(t *testing.T) {
	rows := recorded(t, events(1, 5))
	log := newMemLog()
	if _, err := sequencer(t, &memOutbox{rows: rows}, log).Drain(context.Background()); err != nil {
		t.Fatal(err)
	}
	edited := slices.Clone(rows)
	edited[2].Body = bytes.Replace(edited[2].Body, []byte("passed"), []byte("failed"), 1)
	_, err := sequencer(t, &memOutbox{rows: edited}, log).Drain(context.Background())
	if !errors.Is(err, ErrConflict) || !strings.Contains(err.Error(), "entry 2") {
		t.Errorf("got %v", err)
	}
	renamed := slices.Clone(rows)
	id := renamed[2].ID[:35] + "0"
	renamed[2].Body = bytes.Replace(renamed[2].Body, []byte(renamed[2].ID), []byte(id), 1)
	renamed[2].ID = id
	_, err = sequencer(t, &memOutbox{rows: renamed}, log).Drain(context.Background())
	if !errors.Is(err, ErrConflict) || !strings.Contains(err.Error(), "under another id") {
		t.Errorf("got %v", err)
	}
}

// An id of the log that comes again under a new number is found by the database's key, and then held back.
func TestAnIDOfTheLogCannotBeUsedAgain(t *testing.T) {
	all := events(1, 10)
	log := newMemLog()
	if _, err := sequencer(t, &memOutbox{rows: recorded(t, all[:5])}, log).Drain(context.Background()); err != nil {
		t.Fatal(err)
	}
	all[6].ID = all[1].ID
	outbox := &memOutbox{rows: recorded(t, all)}
	outbox.marked = map[string]uint64{}
	rows := outbox.rows
	outbox.rows = rows[5:]
	s := sequencer(t, outbox, log)
	if _, err := s.Drain(context.Background()); !errors.Is(err, ErrConflict) || !strings.Contains(err.Error(), "entry 1") {
		t.Fatalf("got %v", err)
	}
	n, err := s.Drain(context.Background())
	if n == 0 || !errors.Is(err, ErrConflict) {
		t.Errorf("the others do not go on: %d, %v", n, err)
	}
}

func TestAFencedSequencerAppendsNothing(t *testing.T) {
	log := newMemLog()
	old := sequencer(t, &memOutbox{rows: recorded(t, events(1, 3))}, log)
	sequencer(t, &memOutbox{}, log)
	if n, err := old.Drain(context.Background()); n != 0 || !errors.Is(err, ErrFenced) {
		t.Errorf("drained %d, %v", n, err)
	}
}

func TestBatchesAreBounded(t *testing.T) {
	large := func(n, size int) []Recorded {
		return slices.Repeat([]Recorded{{Body: make([]byte, size)}}, n)
	}
	for _, c := range []struct{ rows, size, want int }{
		{1, 10, 1}, {4096, 10, 4096}, {5000, 10, 4096}, {100, 1 << 20, 4}, {3, 8 << 20, 1}, {80, 60 << 10, 68},
	} {
		if got := batchLength(large(c.rows, c.size)); got != c.want {
			t.Errorf("%d rows of %d bytes: a batch of %d, want %d", c.rows, c.size, got, c.want)
		}
	}
	// A drain of more than one batch.
	outbox, log := &memOutbox{rows: recorded(t, events(1, maxBatchRows+5))}, newMemLog()
	appends := 0
	log.fail = func(step string) error {
		if step == "after append" {
			appends++
		}
		return nil
	}
	if n, err := sequencer(t, outbox, log).Drain(context.Background()); n != maxBatchRows+5 || err != nil || appends != 2 {
		t.Errorf("drained %d in %d transactions, %v", n, appends, err)
	}
	everythingOnce(t, outbox, log)
}

func ExampleVerified_String() {
	fmt.Println(Verified{Origin: "noxaudit/acme/583231", Entries: 1204, Checkpoints: 12, SignedSize: 1200, KeyPinned: true, Root: EmptyRoot})
	// Output: noxaudit/acme/583231: 1204 entries, none changed, missing or out of place; signature valid, key pinned (12 checkpoints); 4 entries not yet signed; root 47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=
}
