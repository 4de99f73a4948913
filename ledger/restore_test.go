package ledger

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
)

// archive is an outbox that keeps what it marked, all but what it forgot.
type archive struct {
	*memOutbox
	forgot func(seq uint64) bool
}

func (a archive) Marked(_ context.Context, from uint64, limit int) ([]Marked, error) {
	var out []Marked
	for _, r := range a.rows {
		if seq, ok := a.marked[r.ID]; ok && seq >= from && (a.forgot == nil || !a.forgot(seq)) {
			out = append(out, Marked{r, seq})
		}
	}
	slices.SortFunc(out, func(a, b Marked) int { return int(a.Seq) - int(b.Seq) })
	return out[:min(limit, len(out))], nil
}

// cutTo is the log as a backup had it.
func (l *memLog) cutTo(n int) *memLog {
	older := newMemLog()
	for _, e := range l.entries[:n] {
		older.entries = append(older.entries, e)
		older.ids[e.ID] = e.Seq
		line, err := ParseLine(e.Line)
		if err != nil {
			panic(err)
		}
		older.sources[line.Event.Source] = line.Event.SSeq
	}
	return older
}

func TestALogThatLostItsEndGetsItBackToTheByte(t *testing.T) {
	const n = maxBatchRows + 300
	rows := recorded(t, events(1, n))
	outbox, log := &memOutbox{rows: rows[:n-5]}, newMemLog()
	if _, err := sequencer(t, outbox, log).Drain(context.Background()); err != nil {
		t.Fatal(err)
	}
	outbox.rows = rows // five more wait
	for _, kept := range []int{0, 1, 40, n - 6, n - 5} {
		older := log.cutTo(kept)
		waiting := archive{&memOutbox{rows: rows, marked: make(map[string]uint64)}, nil}
		for id, seq := range outbox.marked {
			waiting.marked[id] = seq
		}
		got, err := sequencer(t, waiting, older).Drain(context.Background())
		if err != nil || got != n-kept {
			t.Fatalf("from %d: %d entries, %v", kept, got, err)
		}
		for i, e := range log.entries {
			if again := older.entries[i]; !bytes.Equal(again.Line, e.Line) || !bytes.Equal(again.Hashes, e.Hashes) {
				t.Fatalf("from %d: entry %d differs", kept, i)
			}
		}
		everythingOnce(t, waiting.memOutbox, older)
	}
}

func TestALogThatCannotBeRestoredIsSaidSo(t *testing.T) {
	rows := recorded(t, events(1, 20))
	outbox, log := &memOutbox{rows: rows}, newMemLog()
	if _, err := sequencer(t, outbox, log).Drain(context.Background()); err != nil {
		t.Fatal(err)
	}
	foreign := newMemLog()
	drainInto(t, foreign, recorded(t, events(2, 20)))
	for _, c := range []struct {
		name   string
		log    *memLog
		forgot func(uint64) bool
		says   string
	}{
		{"its first lost entry is gone from the outbox", log.cutTo(10), func(seq uint64) bool { return seq < 12 }, "from 12 on"},
		{"a later one is", log.cutTo(10), func(seq uint64) bool { return seq == 15 }, "lacks entry 15"},
		{"another log of the same size", foreign, nil, "something else as entry 19"},
		{"another log, shorter", foreign.cutTo(8), nil, "something else as entry 7"},
	} {
		t.Run(c.name, func(t *testing.T) {
			before := len(c.log.entries)
			n, err := sequencer(t, archive{outbox, c.forgot}, c.log).Drain(context.Background())
			if !errors.Is(err, ErrForeign) || !strings.Contains(err.Error(), c.says) {
				t.Errorf("got %d, %v; want %q", n, err, c.says)
			}
			if n != len(c.log.entries)-before {
				t.Errorf("%d entries are said, %d came", n, len(c.log.entries)-before)
			}
		})
	}
}
