package ledger

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"io"
	"iter"
	"math/rand"
	"slices"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/tlog"
)

const (
	testDeployment = "acme"
	testAccount    = "583231"
	testOrigin     = "noxaudit/acme/583231"
)

var testStart = time.Date(2026, 11, 25, 9, 30, 0, 123456789, time.UTC)

// events makes n valid events in a few sources, the same for the same seed.
func events(seed int64, n int) []Event {
	random := rand.New(rand.NewSource(seed))
	next := make(map[string]uint64)
	out := make([]Event, n)
	for i := range out {
		at := testStart.Add(time.Duration(i) * time.Second)
		source := fmt.Sprintf("pull/77/%d", random.Intn(3)+1)
		next[source]++
		id, err := NewID(at, random)
		if err != nil {
			panic(err)
		}
		salt, err := NewSalt(random)
		if err != nil {
			panic(err)
		}
		out[i] = Event{
			Time: at, Source: source, SSeq: next[source], ID: id, Salt: salt, Type: "audit.completed",
			Account: testAccount, Actor: Actor{Kind: "user", ID: "1024", Name: "Zoë <z@example.org>"},
			Subject: map[string]string{"repository": "4711", "pull": "12"},
			Content: map[string]any{"result": "passed", "findings": i},
		}
	}
	return out
}

func recorded(t testing.TB, all []Event) []Recorded {
	t.Helper()
	rows := make([]Recorded, len(all))
	for i, e := range all {
		body, err := e.Body()
		if err != nil {
			t.Fatal(err)
		}
		rows[i] = Recorded{ID: e.ID, Source: e.Source, SSeq: e.SSeq, Body: body}
	}
	return rows
}

// memOutbox and memLog are the two stores in memory. fail, when set, is asked before and after every step and
// may break it, as a crash or a lost connection would.
type memOutbox struct {
	rows   []Recorded
	marked map[string]uint64
	fail   func(step string) error
}

func (o *memOutbox) Pending(_ context.Context, limit int) ([]Recorded, error) {
	if err := trip(o.fail, "before pending"); err != nil {
		return nil, err
	}
	var out []Recorded
	for _, r := range o.rows {
		if _, done := o.marked[r.ID]; !done && len(out) < limit {
			out = append(out, r)
		}
	}
	return out, nil
}

func (o *memOutbox) Sequenced(_ context.Context, positions []Position) error {
	if err := trip(o.fail, "before sequenced"); err != nil {
		return err
	}
	if o.marked == nil {
		o.marked = make(map[string]uint64)
	}
	for i, p := range positions {
		if old, done := o.marked[p.ID]; done && old != p.Seq {
			return fmt.Errorf("%s was entry %d, now %d", p.ID, old, p.Seq)
		}
		if i == len(positions)/2 && i > 0 {
			// A store without transactions would stop half-way; the sequencer must not mind.
			if err := trip(o.fail, "in sequenced"); err != nil {
				return err
			}
		}
		o.marked[p.ID] = p.Seq
	}
	return trip(o.fail, "after sequenced")
}

type memLog struct {
	origin      string
	epoch       uint64
	entries     []Entry
	ids         map[string]uint64
	sources     map[string]uint64
	signed      Signed
	checkpoints [][]byte
	keys        []string
	counted     uint64 // what it says of its size beside the entries, when more
	fail        func(step string) error
}

func newMemLog() *memLog {
	return &memLog{origin: testOrigin, ids: make(map[string]uint64), sources: make(map[string]uint64)}
}

func trip(fail func(string) error, step string) error {
	if fail == nil {
		return nil
	}
	return fail(step)
}

func (l *memLog) Origin() string { return l.origin }

func (l *memLog) Claim(context.Context) (uint64, error) {
	l.epoch++
	return l.epoch, nil
}

func (l *memLog) State(_ context.Context, sources []string) (State, error) {
	if err := trip(l.fail, "before state"); err != nil {
		return State{}, err
	}
	s := State{Size: uint64(len(l.entries)), Sources: make(map[string]uint64)}
	if n := len(l.entries); n > 0 {
		s.Head = LineHash(l.entries[n-1].Line)
	}
	for _, source := range sources {
		if last, ok := l.sources[source]; ok {
			s.Sources[source] = last
		}
	}
	return s, nil
}

func (l *memLog) Find(_ context.Context, ids []string) (map[string]Found, error) {
	if err := trip(l.fail, "before find"); err != nil {
		return nil, err
	}
	found := make(map[string]Found)
	for _, id := range ids {
		if seq, ok := l.ids[id]; ok {
			found[id] = Found{Seq: seq, Line: l.entries[seq].Line}
		}
	}
	return found, nil
}

func (l *memLog) Hashes(_ context.Context, indexes []int64) ([]Hash, error) {
	if err := trip(l.fail, "before hashes"); err != nil {
		return nil, err
	}
	out := make([]Hash, len(indexes))
	for i, index := range indexes {
		level, n := tlog.SplitStoredHashIndex(index)
		copy(out[i][:], l.entries[(n+1)<<level-1].Hashes[level*tlog.HashSize:])
	}
	return out, nil
}

func (l *memLog) Append(_ context.Context, b Batch) error {
	if err := trip(l.fail, "before append"); err != nil {
		return err
	}
	if b.Epoch != l.epoch || b.From != uint64(len(l.entries)) {
		return ErrFenced
	}
	for _, e := range b.Entries {
		if _, ok := l.ids[e.ID]; ok {
			return errors.New("unique violation")
		}
	}
	for _, e := range b.Entries {
		l.ids[e.ID] = e.Seq
		l.entries = append(l.entries, e)
	}
	for source, last := range b.Sources {
		l.sources[source] = last
	}
	return trip(l.fail, "after append")
}

func (l *memLog) Lines(_ context.Context, from, to uint64) iter.Seq2[Stored, error] {
	return func(yield func(Stored, error) bool) {
		for _, e := range l.entries[from:min(to, uint64(len(l.entries)))] {
			if !yield(Stored{Line: e.Line, Hashes: e.Hashes}, nil) {
				return
			}
		}
	}
}

func (l *memLog) Claimed(context.Context) (Claims, error) {
	c := Claims{Size: max(uint64(len(l.entries)), l.counted)}
	if n := len(l.checkpoints); n > 0 {
		known, err := verifiers(l.origin, l.keys)
		if err != nil {
			return Claims{}, err
		}
		if checkpoint, err := openCheckpoint(l.checkpoints[n-1], known); err == nil {
			c.Checkpoint = checkpoint.Size
		}
	}
	return c, nil
}

func (l *memLog) Signed(context.Context) (Signed, error) { return l.signed, nil }

func (l *memLog) Publish(_ context.Context, last, next Signed, verifier string) error {
	if err := trip(l.fail, "before publish"); err != nil {
		return err
	}
	if l.signed.Size != last.Size || l.signed.Root != last.Root {
		return ErrFenced
	}
	l.signed = next
	l.checkpoints = append(l.checkpoints, next.Note)
	if !slices.Contains(l.keys, verifier) {
		l.keys = append(l.keys, verifier)
	}
	return trip(l.fail, "after publish")
}

func (l *memLog) copy() Copy {
	return Copy{Origin: l.origin, Entries: l.Lines(context.Background(), 0, uint64(len(l.entries))),
		Checkpoints: each(l.checkpoints), Keys: l.keys}
}

func each(notes [][]byte) iter.Seq2[[]byte, error] {
	return func(yield func([]byte, error) bool) {
		for _, n := range notes {
			if !yield(n, nil) {
				return
			}
		}
	}
}

// testKey is a key that is the same for the same seed.
func testKey(seed byte) *Key {
	return &Key{name: "noxaudit/" + testDeployment, private: ed25519.NewKeyFromSeed(bytes.Repeat([]byte{seed}, ed25519.SeedSize))}
}

// signedLog is a log with a checkpoint at each of the sizes, ascending, and n entries.
func signedLog(t testing.TB, seed int64, n int, sizes ...int) *memLog {
	t.Helper()
	ctx := context.Background()
	log := newMemLog()
	rows := recorded(t, events(seed, n))
	signer, err := NewSigner(testKey(1), log)
	if err != nil {
		t.Fatal(err)
	}
	drain := func(rows []Recorded) {
		t.Helper()
		s, err := NewSequencer(ctx, &memOutbox{rows: rows}, log)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := s.Drain(ctx); err != nil {
			t.Fatal(err)
		}
	}
	at := 0
	for _, size := range sizes {
		drain(rows[at:size])
		at = size
		if _, err := signer.Sign(ctx); err != nil {
			t.Fatal(err)
		}
	}
	drain(rows[at:])
	return log
}

// export is a log as it leaves the house: lines, checkpoints, keys.
type export struct {
	origin      string
	lines       []byte
	checkpoints [][]byte
	keys        []string
}

func (l *memLog) export() export {
	e := export{origin: l.origin, keys: slices.Clone(l.keys)}
	for _, entry := range l.entries {
		e.lines = append(append(e.lines, entry.Line...), '\n')
	}
	for _, c := range l.checkpoints {
		e.checkpoints = append(e.checkpoints, bytes.Clone(c))
	}
	return e
}

func (e export) copy() Copy {
	return Copy{Origin: e.origin, Entries: ReadLines(io.Reader(bytes.NewReader(e.lines))), Checkpoints: each(e.checkpoints), Keys: e.keys}
}

// split is the lines without newlines.
func (e export) split() [][]byte {
	return bytes.Split(bytes.TrimSuffix(e.lines, []byte("\n")), []byte("\n"))
}

func (e *export) join(lines [][]byte) {
	e.lines = append(bytes.Join(lines, []byte("\n")), '\n')
}

// rechain recomputes seq and prev from the line at on, as an attacker without a key would.
func rechain(lines [][]byte, at int) [][]byte {
	out := slices.Clone(lines)
	for i := at; i < len(out); i++ {
		p, err := parsePrefix(out[i])
		if err != nil {
			panic(err)
		}
		var prev Hash
		if i > 0 {
			prev = LineHash(out[i-1])
		}
		out[i] = appendLine(nil, uint64(i), prev, append([]byte("{"), out[i][p.end:]...))
	}
	return out
}
