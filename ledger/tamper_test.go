package ledger

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"golang.org/x/mod/sumdb/note"
)

var pinned = Options{Keys: []string{testKey(1).Public()}}

func wantTampered(t *testing.T, c Copy, o Options, seq uint64, layer Layer) {
	t.Helper()
	v, err := Verify(context.Background(), c, o)
	var tampered *Tampered
	if !errors.As(err, &tampered) {
		t.Errorf("not noticed: %v, %v", v, err)
		return
	}
	if tampered.Seq != seq || tampered.Layer != layer {
		t.Errorf("got %v, want entry %d, layer %q", tampered, seq, layer)
	}
}

// The tamper suite on exports, by the numbers of its cases. A log of 12 entries, signed at 5 and at 10.
func TestTamper(t *testing.T) {
	edit := func(seq int, old, new string) func(*testing.T, *export) {
		return func(t *testing.T, e *export) {
			lines := e.split()
			changed := bytes.Replace(lines[seq], []byte(old), []byte(new), 1)
			if bytes.Equal(changed, lines[seq]) {
				t.Fatalf("entry %d has no %s", seq, old)
			}
			lines[seq] = changed
			e.join(lines)
		}
	}
	lines := func(change func(lines [][]byte) [][]byte) func(*testing.T, *export) {
		return func(_ *testing.T, e *export) { e.join(change(e.split())) }
	}
	checkpoint := func(change func(e *export)) func(*testing.T, *export) {
		return func(_ *testing.T, e *export) { change(e) }
	}
	resign := func(key *Key, c Checkpoint) []byte {
		s, _, err := key.signer(testOrigin)
		if err != nil {
			panic(err)
		}
		signed, err := note.Sign(&note.Note{Text: c.Text()}, s)
		if err != nil {
			panic(err)
		}
		return signed
	}
	body := func(line []byte) []byte {
		p, err := parsePrefix(line)
		if err != nil {
			panic(err)
		}
		return append([]byte("{"), line[p.end:]...)
	}
	for _, c := range []struct {
		name   string
		tamper func(*testing.T, *export)
		seq    uint64
		layer  Layer
	}{
		{"01 a byte edited", edit(3, "audit.completed", "audit.complEted"), 3, LayerChain},
		{"01 a result edited", edit(0, `"passed"`, `"failed"`), 0, LayerChain},
		{"02 the last signed entry edited and what follows chained anew", lines(func(l [][]byte) [][]byte {
			l[9] = bytes.Replace(l[9], []byte("passed"), []byte("failed"), 1)
			return rechain(l, 10)
		}), 5, LayerRoot},
		{"03 the first entry deleted", lines(func(l [][]byte) [][]byte { return l[1:] }), 0, LayerSequence},
		{"03 a middle entry deleted", lines(func(l [][]byte) [][]byte { return slices.Delete(l, 6, 7) }), 6, LayerSequence},
		{"03 a middle entry deleted and the rest chained anew", lines(func(l [][]byte) [][]byte {
			return rechain(slices.Delete(l, 6, 7), 6)
		}), 5, LayerRoot},
		{"03 signed entries at the end deleted", lines(func(l [][]byte) [][]byte { return l[:9] }), 9, LayerSize},
		{"03 everything deleted", func(_ *testing.T, e *export) { e.lines = nil }, 0, LayerSize},
		{"04 two entries swapped", lines(func(l [][]byte) [][]byte { l[4], l[5] = l[5], l[4]; return l }), 4, LayerSequence},
		{"04 an entry inserted", lines(func(l [][]byte) [][]byte { return slices.Insert(l, 4, l[3]) }), 4, LayerSequence},
		{"04 an entry replaced by another at its place", lines(func(l [][]byte) [][]byte {
			forged := recorded(t, events(9, 1))[0]
			l[4] = appendLine(nil, 4, LineHash(l[3]), forged.Body)
			return l
		}), 4, LayerSource},
		{"06 what lies beyond the last checkpoint changed", edit(10, "passed", "failed"), 10, LayerChain},
		{"07 edited and chained anew without the key", lines(func(l [][]byte) [][]byte {
			l[2] = bytes.Replace(l[2], []byte("passed"), []byte("failed"), 1)
			return rechain(l, 3)
		}), 0, LayerRoot},
		{"07 edited, chained anew, and the root put into the checkpoint", func(t *testing.T, e *export) {
			l := e.split()
			l[2] = bytes.Replace(l[2], []byte("passed"), []byte("failed"), 1)
			l = rechain(l, 3)
			var tree Tree
			for i, line := range l {
				var h hasher
				_, leaf := h.sums(line)
				tree.Append(leaf)
				if i == 4 {
					_, signatures, _ := strings.Cut(string(e.checkpoints[0]), "\n\n")
					e.checkpoints[0] = []byte(Checkpoint{testOrigin, 5, tree.Root()}.Text() + "\n" + signatures)
				}
			}
			e.join(l)
		}, 0, LayerSignature},
		{"09 two checkpoints of one size", checkpoint(func(e *export) {
			e.checkpoints = append(e.checkpoints, resign(testKey(1), Checkpoint{testOrigin, 10, Hash{1}}))
		}), 0, LayerFork},
		{"12 signed anew with another key", checkpoint(func(e *export) {
			for i, c := range e.checkpoints {
				text, _, _ := strings.Cut(string(c), "\n\n")
				parsed, err := ParseCheckpoint(text + "\n")
				if err != nil {
					panic(err)
				}
				e.checkpoints[i] = resign(testKey(2), parsed)
			}
			e.keys = []string{testKey(2).Public()}
		}), 0, LayerSignature},
		{"12 another key under the pinned key's id", checkpoint(func(e *export) {
			signed := string(resign(testKey(2), Checkpoint{testOrigin, 5, Hash{1}}))
			text, line, _ := strings.Cut(signed, "\n\n")
			sig := mustBase64(strings.Fields(line)[2])
			own := mustBase64(strings.Fields(strings.SplitN(string(e.checkpoints[0]), "\n\n", 2)[1])[2])
			copy(sig, own[:4])
			e.checkpoints[0] = []byte(text + "\n\n— " + testOrigin + " " + toBase64(sig) + "\n")
		}), 0, LayerSignature},
		{"13 a wrong signature by the right key beside a good one", checkpoint(func(e *export) {
			sig := strings.Fields(strings.SplitN(string(e.checkpoints[0]), "\n\n", 2)[1])[2]
			wrong := mustBase64(sig)
			wrong[20] ^= 1
			e.checkpoints[0] = []byte(strings.Replace(string(e.checkpoints[0]), "— ", "— "+testOrigin+" "+toBase64(wrong)+"\n— ", 1))
		}), 0, LayerSignature},
		{"13 no signature", checkpoint(func(e *export) {
			e.checkpoints[0] = []byte(strings.SplitN(string(e.checkpoints[0]), "\n\n", 2)[0] + "\n\n")
		}), 0, LayerSignature},
		{"13 only unknown signatures", checkpoint(func(e *export) {
			e.checkpoints[0] = bytes.Replace(e.checkpoints[0], []byte("— "+testOrigin), []byte("— someone"), 1)
		}), 0, LayerSignature},
		{"13 a note of more than 1 MB", checkpoint(func(e *export) {
			e.checkpoints[0] = append(e.checkpoints[0], bytes.Repeat([]byte("— x AAAAAAAA\n"), 1<<17)...)
		}), 0, LayerSignature},
		{"16 an event twice", lines(func(l [][]byte) [][]byte {
			return append(l, appendLine(nil, 12, LineHash(l[11]), body(l[3])))
		}), 12, LayerSource},
		{"17 a number twice", edit(4, `"seq":4,`, `"seq":3,`), 4, LayerSequence},
		{"17 a number left out", edit(4, `"seq":4,`, `"seq":5,`), 4, LayerSequence},
		{"17 a number of 2^63", edit(4, `"seq":4,`, `"seq":9223372036854775808,`), 4, LayerPrefix},
		{"17 a negative number", edit(4, `"seq":4,`, `"seq":-4,`), 4, LayerPrefix},
		{"17 a leading zero", edit(4, `"seq":4,`, `"seq":04,`), 4, LayerPrefix},
		{"19 a key twice", edit(11, `"findings":`, `"findings":7,"findings":`), 11, LayerCanonical},
		{"19 another escape", edit(11, `"passed"`, `"p\u0061ssed"`), 11, LayerCanonical},
		{"19 a carriage return", edit(11, `"result":"passed"}}`, "\"result\":\"passed\"}}\r"), 11, LayerCanonical},
		{"19 a carriage return on every line", func(_ *testing.T, e *export) {
			e.lines = bytes.ReplaceAll(e.lines, []byte("\n"), []byte("\r\n"))
		}, 0, LayerCanonical},
		{"19 a byte order mark", func(_ *testing.T, e *export) { e.lines = append([]byte("\ufeff"), e.lines...) }, 0, LayerPrefix},
		{"19 the last newline removed", func(_ *testing.T, e *export) { e.lines = e.lines[:len(e.lines)-1] }, 11, LayerEncoding},
		{"19 an empty line", func(_ *testing.T, e *export) { e.lines = append(e.lines, '\n') }, 12, LayerPrefix},
		{"19 something behind the end", func(_ *testing.T, e *export) { e.lines = append(e.lines, "garbage"...) }, 12, LayerEncoding},
		{"19 a line without end", func(_ *testing.T, e *export) {
			e.lines = append(e.lines, bytes.Repeat([]byte("x"), 1<<17)...)
		}, 12, LayerEncoding},
		{"21 a checkpoint of another log", checkpoint(func(e *export) {
			c := Checkpoint{"noxaudit/acme/999", 5, Hash{1}}
			s, _, _ := testKey(1).signer(testOrigin)
			e.checkpoints[0], _ = note.Sign(&note.Note{Text: c.Text()}, s)
		}), 0, LayerOrigin},
		{"21 a checkpoint of the deployment's other tenant", checkpoint(func(e *export) {
			c := Checkpoint{"noxaudit/acme/999", 5, Hash{1}}
			s, _, _ := testKey(1).signer(c.Origin)
			e.checkpoints[0], _ = note.Sign(&note.Note{Text: c.Text()}, s)
		}), 0, LayerOrigin},
		{"21 another tenant's entry", lines(func(l [][]byte) [][]byte {
			foreign := bytes.Replace(body(l[11]), []byte(`"account":"583231"`), []byte(`"account":"999"`), 1)
			l[11] = appendLine(nil, 11, LineHash(l[10]), foreign)
			return l
		}), 11, LayerAccount},
		{"24 a lower version", edit(4, `{"v":1,`, `{"v":0,`), 4, LayerVersion},
		{"24 another algorithm", edit(11, `,"time":`, `,"alg":"none","time":`), 11, LayerCanonical},
		{"26 nothing signed as something", func(_ *testing.T, e *export) {
			e.checkpoints = [][]byte{resign(testKey(1), Checkpoint{testOrigin, 0, Hash{1}})}
		}, 0, LayerSignature},
		{"26 a checkpoint of more entries than there are", checkpoint(func(e *export) {
			e.checkpoints = append(e.checkpoints, resign(testKey(1), Checkpoint{testOrigin, 13, Hash{1}}))
		}), 12, LayerSize},
		{"checkpoints out of order", checkpoint(func(e *export) { slices.Reverse(e.checkpoints) }), 10, LayerCheckpoint},
	} {
		t.Run(c.name, func(t *testing.T) {
			e := signedLog(t, 5, 12, 5, 10).export()
			if _, err := Verify(context.Background(), e.copy(), pinned); err != nil {
				t.Fatal(err)
			}
			c.tamper(t, &e)
			wantTampered(t, e.copy(), pinned, c.seq, c.layer)
		})
	}
}

// Case 11: two exports, each fine by itself, are told apart by the checkpoint of the other.
func TestTamper11ASplitViewShowsWhenTheCheckpointsMeet(t *testing.T) {
	a, b := signedLog(t, 1, 10, 10).export(), signedLog(t, 2, 10, 10).export()
	for _, e := range []export{a, b} {
		if _, err := Verify(context.Background(), e.copy(), pinned); err != nil {
			t.Fatal(err)
		}
	}
	wantTampered(t, a.copy(), Options{Keys: pinned.Keys, Held: b.checkpoints}, 0, LayerFork)
	wantTampered(t, newMemLog().copy(), Options{Keys: pinned.Keys, Held: [][]byte{a.checkpoints[0], b.checkpoints[0]}}, 0, LayerFork)
}

// Case 13, the other half: signatures that nobody asked for do no harm.
func TestTamper13WitnessesMayAddSignatures(t *testing.T) {
	e := signedLog(t, 1, 10, 10).export()
	for i := range 20 {
		e.checkpoints[0] = fmt.Appendf(e.checkpoints[0], "— witness%d.example %s\n", i, toBase64(make([]byte, 76)))
	}
	if v, err := Verify(context.Background(), e.copy(), pinned); err != nil || v.Checkpoints != 1 {
		t.Errorf("got %v, %v", v, err)
	}
}

// Case 18 for stored nodes: the tree that is kept and the lines are compared both ways.
func TestTamper18StoredNodesAndLinesMustAgree(t *testing.T) {
	for what, change := range map[string]func(*Entry){
		"a leaf changed":       func(e *Entry) { e.Hashes[3] ^= 1 },
		"a node changed":       func(e *Entry) { e.Hashes[len(e.Hashes)-1] ^= 1 },
		"a node missing":       func(e *Entry) { e.Hashes = e.Hashes[:len(e.Hashes)-32] },
		"a byte more":          func(e *Entry) { e.Hashes = append(e.Hashes, 0) },
		"no hashes":            func(e *Entry) { e.Hashes = []byte{} },
		"the line changed":     func(e *Entry) { e.Line[len(e.Line)-10] ^= 1 },
		"the line's prev":      func(e *Entry) { e.Line[30] ^= 1 },
		"a byte behind a line": func(e *Entry) { e.Line = append(e.Line, ' ') },
	} {
		t.Run(what, func(t *testing.T) {
			log := signedLog(t, 1, 12, 12)
			entry := &log.entries[7] // completes subtrees of 2, 4 and 8
			if len(entry.Hashes) != 4*32 {
				t.Fatalf("%d bytes of hashes", len(entry.Hashes))
			}
			entry.Hashes, entry.Line = bytes.Clone(entry.Hashes), bytes.Clone(entry.Line)
			change(entry)
			wantTampered(t, log.copy(), pinned, 7, LayerHashes)
		})
	}
}

// Case 20: a line cannot be a node, because their hashes begin with another byte.
func TestTamper20ALineOfTwoHashesIsNotTheNodeOfThem(t *testing.T) {
	a, b := Hash{1}, Hash{2}
	var pair, alone Tree
	pair.Append(a)
	pair.Append(b)
	var h hasher
	_, leaf := h.sums(append(a[:], b[:]...))
	alone.Append(leaf)
	if alone.Root() == pair.Root() {
		t.Error("one entry has the root of two")
	}
}

// Every bit of an export, flipped alone, is noticed.
func TestEveryBitOfAnExportCounts(t *testing.T) {
	e := signedLog(t, 6, 12, 12).export()
	ctx := context.Background()
	noticed := func(c Copy, o Options, what string, at int) {
		t.Helper()
		_, err := Verify(ctx, c, o)
		var tampered *Tampered
		if !errors.As(err, &tampered) {
			t.Errorf("bit %d of %s: %v", at, what, err)
		}
	}
	flip := func(b []byte, check func(at int)) {
		for at := range 8 * len(b) {
			b[at/8] ^= 1 << (at % 8)
			check(at)
			b[at/8] ^= 1 << (at % 8)
		}
	}
	flip(e.lines, func(at int) { noticed(e.copy(), pinned, "the lines", at) })
	for _, c := range e.checkpoints {
		flip(c, func(at int) { noticed(e.copy(), pinned, "a checkpoint", at) })
	}
	// The log's own keys decide only where none is pinned.
	key := []byte(e.keys[0])
	flip(key, func(at int) {
		changed := e
		changed.keys = []string{string(key)}
		noticed(changed.copy(), Options{}, "the log's key", at)
	})
	if _, err := Verify(ctx, e.copy(), pinned); err != nil {
		t.Errorf("the campaign itself: %v", err)
	}
}
