package ledger

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/mod/sumdb/note"
)

// remembering is a key with a second memory in a folder of the test.
func remembering(t *testing.T, seed byte) *Key {
	t.Helper()
	k := testKey(seed)
	k.Remember(filepath.Join(t.TempDir(), "signed"))
	return k
}

func signWith(t *testing.T, k *Key, log SignedLog) (Signed, error) {
	t.Helper()
	s, err := NewSigner(k, log)
	if err != nil {
		t.Fatal(err)
	}
	return s.Sign(context.Background())
}

func mustSign(t *testing.T, k *Key, log SignedLog) Signed {
	t.Helper()
	signed, err := signWith(t, k, log)
	if err != nil {
		t.Fatal(err)
	}
	return signed
}

// history is an unsigned log of n entries.
func history(t *testing.T, seed int64, n int) *memLog {
	t.Helper()
	return signedLog(t, seed, n)
}

func wantRefused(t *testing.T, k *Key, log SignedLog, layer Layer) {
	t.Helper()
	signed, err := signWith(t, k, log)
	var tampered *Tampered
	if !errors.As(err, &tampered) || tampered.Layer != layer || signed.Note != nil {
		t.Errorf("got %s, %v; want a refusal by layer %q", signed.Note, err, layer)
	}
}

// Who can write the database and has no key: whatever they make of it, the key does not sign it.
func TestTheMemoryOutsideTheDatabaseRefusesAForgery(t *testing.T) {
	for _, c := range []struct {
		name  string
		forge func(t *testing.T, l *memLog)
		layer Layer
	}{
		{"another history from nothing", func(t *testing.T, l *memLog) {
			forged := history(t, 2, 12)
			l.entries, l.sources, l.signed, l.checkpoints = forged.entries, forged.sources, Signed{}, nil
		}, LayerRoot},
		{"another end", func(t *testing.T, l *memLog) {
			forged := history(t, 1, 12)
			l.entries = slicesClone(forged.entries)
			l.entries[9].Line = bytes.Replace(l.entries[9].Line, []byte("passed"), []byte("failed"), 1)
			rebuild(l)
			l.signed, l.checkpoints = Signed{}, nil
		}, LayerRoot},
		{"cut to before what was signed", func(t *testing.T, l *memLog) {
			l.entries, l.signed, l.checkpoints = l.entries[:9], Signed{}, nil
		}, LayerSize},
		{"another history that the same key signed elsewhere", func(t *testing.T, l *memLog) {
			forged := signedLog(t, 2, 13, 12)
			l.entries, l.sources, l.signed, l.checkpoints, l.keys = forged.entries, forged.sources, forged.signed, forged.checkpoints, forged.keys
		}, LayerRoot},
		{"a memory in the database that another key signed", func(t *testing.T, l *memLog) {
			// The stored nodes answer for the remembered size as before, and for the greater one as forged.
			l.entries = slicesClone(l.entries)
			kept := [][]byte{l.entries[7].Hashes, l.entries[9].Hashes}
			l.entries[8].Line = bytes.Replace(l.entries[8].Line, []byte("passed"), []byte("failed"), 1)
			rebuild(l)
			l.entries[7].Hashes, l.entries[9].Hashes = kept[0], kept[1]
			tree, err := treeAt(context.Background(), l, 12)
			if err != nil {
				t.Fatal(err)
			}
			s, _, _ := testKey(9).signer(testOrigin)
			text := Checkpoint{testOrigin, 12, tree.Root()}.Text()
			signed, err := note.Sign(&note.Note{Text: text}, s)
			if err != nil {
				t.Fatal(err)
			}
			l.signed = Signed{Size: 12, Root: tree.Root(), Head: LineHash(l.entries[11].Line), Note: signed}
			l.checkpoints = [][]byte{signed}
			more := recorded(t, events(1, 13))[12:]
			last := l.entries[11].Line
			line := appendLine(nil, 12, LineHash(last), more[0].Body)
			_, leaf := new(hasher).sums(line)
			l.entries = append(l.entries, Entry{Seq: 12, ID: more[0].ID, Prev: LineHash(last), Hashes: leaf[:], Line: line})
			l.sources[more[0].Source] = more[0].SSeq
		}, LayerSignature},
	} {
		t.Run(c.name, func(t *testing.T) {
			k, log := remembering(t, 1), history(t, 1, 10)
			mustSign(t, k, log)
			drainInto(t, log, recorded(t, events(1, 12))[10:])
			c.forge(t, log)
			wantRefused(t, k, log, c.layer)
		})
	}
}

func drainInto(t *testing.T, log *memLog, rows []Recorded) {
	t.Helper()
	if _, err := sequencer(t, &memOutbox{rows: rows}, log).Drain(context.Background()); err != nil {
		t.Fatal(err)
	}
}

func slicesClone(in []Entry) []Entry {
	out := make([]Entry, len(in))
	for i, e := range in {
		e.Line, e.Hashes = bytes.Clone(e.Line), bytes.Clone(e.Hashes)
		out[i] = e
	}
	return out
}

// rebuild makes chain and tree fit the lines, as anybody can.
func rebuild(l *memLog) {
	lines := make([][]byte, len(l.entries))
	for i, e := range l.entries {
		lines[i] = e.Line
	}
	var tree Tree
	for i, line := range rechain(lines, 0) {
		_, leaf := new(hasher).sums(line)
		l.entries[i].Line, l.entries[i].Hashes = line, tree.grow(leaf, nil)
	}
}

func TestTheMemoryOutsideSurvivesCrashesAndRestores(t *testing.T) {
	k := remembering(t, 1)
	log := history(t, 1, 10)
	crash := errors.New("crash")
	for _, step := range []string{"before publish", "after publish"} {
		log.fail = func(s string) error {
			if s == step {
				return crash
			}
			return nil
		}
		if _, err := signWith(t, k, log); !errors.Is(err, crash) {
			t.Fatalf("%s: %v", step, err)
		}
		log.fail = nil
	}
	want := mustSign(t, k, log)

	// The database was lost and written again, byte for byte: the same checkpoint comes out again.
	again := history(t, 1, 10)
	if got := mustSign(t, k, again); !bytes.Equal(got.Note, want.Note) {
		t.Error("another checkpoint of the same log")
	}
	// While it is still behind, nothing is signed.
	wantRefused(t, k, history(t, 1, 9), LayerSize)
	// Another machine, with a memory of its own, signed on: the older memory here has to be continued by it.
	other := remembering(t, 1)
	drainInto(t, again, recorded(t, events(1, 15))[10:])
	mustSign(t, other, again)
	drainInto(t, again, recorded(t, events(1, 17))[15:])
	mustSign(t, k, again)
	if v, err := Verify(context.Background(), again.copy(), pinned); err != nil || v.SignedSize != 17 {
		t.Errorf("got %v, %v", v, err)
	}
}

// A log that was signed before there was a memory outside is remembered at the next occasion.
func TestAnOlderLogIsRememberedAsItStands(t *testing.T) {
	log := signedLog(t, 1, 10, 10)
	k := remembering(t, 1)
	mustSign(t, k, log)
	log.entries, log.signed, log.checkpoints = history(t, 2, 10).entries, Signed{}, nil
	wantRefused(t, k, log, LayerRoot)
}

func TestADamagedMemoryIsNoReasonToSign(t *testing.T) {
	k, log := remembering(t, 1), history(t, 1, 3)
	mustSign(t, k, log)
	file := k.memory(testOrigin)
	info, err := os.Stat(file)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	good, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for what, bad := range map[string]string{
		"empty": "", "cut": string(good[:20]), "another log": strings.Replace(string(good), "583231", "583232", 1),
		"a short root": strings.Replace(string(good), `"root":"`, `"root":"00`, 1),
	} {
		if err := os.WriteFile(file, []byte(bad), 0o600); err != nil {
			t.Fatal(err)
		}
		if signed, err := signWith(t, k, log); err == nil || !strings.Contains(err.Error(), "memory") {
			t.Errorf("%s: %+v, %v", what, signed, err)
		}
	}
	if err := os.WriteFile(file, good, 0o622); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(file, 0o622); err != nil {
		t.Fatal(err)
	}
	if _, err := signWith(t, k, log); err == nil || !strings.Contains(err.Error(), "chmod 600") {
		t.Errorf("others can write it: %v", err)
	}
}

// A second signer that is ahead is no tampering: the memory is read before the state of the log.
func TestASignerThatWasOvertakenRaisesNoAlarm(t *testing.T) {
	k, log := remembering(t, 1), history(t, 1, 5)
	mustSign(t, k, log)
	rows := recorded(t, events(1, 9))
	drainInto(t, log, rows[5:7])
	overtaken := &overtakenLog{memLog: log, overtake: func() {
		drainInto(t, log, rows[7:])
		mustSign(t, k, log)
	}}
	if _, err := signWith(t, k, overtaken); err != nil && !errors.Is(err, ErrFenced) {
		t.Errorf("got %v", err)
	}
	if v, err := Verify(context.Background(), log.copy(), pinned); err != nil || v.SignedSize != 9 {
		t.Errorf("got %v, %v", v, err)
	}
}

// overtakenLog lets another signer work after the state was read.
type overtakenLog struct {
	*memLog
	overtake func()
}

func (l *overtakenLog) State(ctx context.Context, sources []string) (State, error) {
	s, err := l.memLog.State(ctx, sources)
	if f := l.overtake; f != nil {
		l.overtake = nil
		f()
	}
	return s, err
}

func TestNothingIsSignedFromNothingWhereSomethingWas(t *testing.T) {
	log := signedLog(t, 1, 10, 10)
	log.signed = Signed{}
	wantRefused(t, testKey(1), log, LayerSignature)

	counted := history(t, 1, 10)
	counted.counted = 12
	wantRefused(t, testKey(1), counted, LayerSize)
}

func TestTheSignerRefusesWhatAVerifierWould(t *testing.T) {
	put := func(l *memLog, at int, change func(body string) string) {
		e := &l.entries[at]
		p, err := parsePrefix(e.Line)
		if err != nil {
			t.Fatal(err)
		}
		e.Line = append(bytes.Clone(e.Line[:p.end]), change(string(e.Line[p.end:]))...)
		rebuild(l)
	}
	replace := func(old, new string) func(string) string {
		return func(body string) string {
			if !strings.Contains(body, old) {
				t.Fatalf("%s has no %s", body, old)
			}
			return strings.Replace(body, old, new, 1)
		}
	}
	for _, c := range []struct {
		name   string
		tamper func(l *memLog)
		layer  Layer
	}{
		{"another form", func(l *memLog) { put(l, 11, replace(`"findings":`, `"findings": `)) }, LayerCanonical},
		{"another tenant", func(l *memLog) { put(l, 11, replace(`"account":"583231"`, `"account":"583232"`)) }, LayerAccount},
		{"a number left out", func(l *memLog) { put(l, 12, replace(`"sseq":`, `"sseq":9`)) }, LayerSource},
		{"a number left out by the only new event of a source", func(l *memLog) {
			l.entries = l.entries[:11]
			put(l, 10, replace(`"sseq":`, `"sseq":9`))
		}, LayerSource},
		{"a made-up end of the chain", func(l *memLog) {
			l.signed.Head = Hash{7}
			for i := 10; i < len(l.entries); i++ {
				prev := l.signed.Head
				if i > 10 {
					prev = LineHash(l.entries[i-1].Line)
				}
				p, err := parsePrefix(l.entries[i].Line)
				if err != nil {
					t.Fatal(err)
				}
				l.entries[i].Line = appendLine(nil, uint64(i), prev, append([]byte("{"), l.entries[i].Line[p.end:]...))
			}
			var tree Tree
			for i := range l.entries {
				_, leaf := new(hasher).sums(l.entries[i].Line)
				l.entries[i].Hashes = tree.grow(leaf, nil)
			}
		}, LayerSignature},
	} {
		t.Run(c.name, func(t *testing.T) {
			log := signedLog(t, 1, 13, 10)
			log.entries = slicesClone(log.entries)
			c.tamper(log)
			wantRefused(t, testKey(1), log, c.layer)
		})
	}
}

func TestProcessesThatMakeAKeyAtOnceGetTheSame(t *testing.T) {
	for range 50 {
		path := filepath.Join(t.TempDir(), "ledger.key")
		made := make(chan string)
		const racers = 8
		for range racers {
			go func() {
				k, err := LoadOrCreateKey(path, "noxaudit/acme", rand.Reader)
				if err != nil {
					t.Error(err)
					made <- ""
					return
				}
				made <- k.Public()
			}()
		}
		first := <-made
		for range racers - 1 {
			if k := <-made; k != first {
				t.Fatalf("%s and %s", first, k)
			}
		}
		if names, err := os.ReadDir(filepath.Dir(path)); err != nil || len(names) != 1 {
			t.Errorf("left behind: %v, %v", names, err)
		}
	}
}
