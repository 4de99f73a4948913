package ledger

import (
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"strings"
	"testing"

	"golang.org/x/mod/sumdb/tlog"
)

func TestAWholeLogVerifies(t *testing.T) {
	ctx := context.Background()
	log := signedLog(t, 1, 100, 7, 64, 90)
	pin := Options{Keys: []string{testKey(1).Public()}}

	v, err := Verify(ctx, log.copy(), pin)
	if err != nil {
		t.Fatal(err)
	}
	if v.Entries != 100 || v.Checkpoints != 3 || v.SignedSize != 90 || !v.KeyPinned {
		t.Errorf("got %+v", v)
	}
	if v.Head != LineHash(log.entries[99].Line) {
		t.Error("the head is not the hash of the last line")
	}
	if want := "noxaudit/acme/583231: 100 entries, none changed, missing or out of place; signature valid, key pinned (3 checkpoints); 10 entries not yet signed; root "; !strings.HasPrefix(v.String(), want) {
		t.Errorf("got  %s\nwant %s…", v, want)
	}

	for _, o := range []Options{{}, {BytesOnly: true}, {Keys: log.keys}, {Held: log.checkpoints}} {
		again, err := Verify(ctx, log.export().copy(), o)
		if err != nil {
			t.Fatal(err)
		}
		if again.Root != v.Root || again.KeyPinned != (o.Keys != nil) {
			t.Errorf("%+v: got %+v", o, again)
		}
	}
	lines := Copy{Origin: testOrigin, Entries: signedLog(t, 1, 1).copy().Entries}
	if v, err := Verify(ctx, lines, Options{}); err != nil || !strings.Contains(v.String(), ": 1 entry, none") || v.KeyPinned {
		t.Errorf("lines alone: got %v, %v", v, err)
	}
	unpinned, err := Verify(ctx, log.copy(), Options{})
	if err != nil || !strings.Contains(unpinned.String(), "signature valid, key not pinned") {
		t.Errorf("got %v, %v", unpinned, err)
	}
}

func TestAnEmptyLogHasTheHashOfNothingAsRoot(t *testing.T) {
	v, err := Verify(context.Background(), newMemLog().copy(), Options{})
	if err != nil {
		t.Fatal(err)
	}
	if got := hex.EncodeToString(v.Root[:]); got != "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855" {
		t.Errorf("root %s", got)
	}
	if v.Entries != 0 || v.KeyPinned || !strings.Contains(v.String(), "nothing is signed") {
		t.Errorf("got %v", v)
	}
}

func TestACopyThatCannotBeReadDecidesNothing(t *testing.T) {
	broken := errors.New("disk on fire")
	c := newMemLog().copy()
	c.Entries = func(yield func(Stored, error) bool) { yield(Stored{}, broken) }
	_, err := Verify(context.Background(), c, Options{})
	var tampered *Tampered
	if !errors.Is(err, broken) || errors.As(err, &tampered) {
		t.Errorf("got %v", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := Verify(ctx, signedLog(t, 1, 3).copy(), Options{}); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	if _, err := Verify(context.Background(), newMemLog().copy(), Options{Keys: []string{"nonsense"}}); err == nil || errors.As(err, &tampered) {
		t.Errorf("a pinned key that cannot be read: got %v", err)
	}
}

// The claim of the package comment: somebody with sha256sum and an Ed25519 library needs none of this code.
func TestALogVerifiesWithTheStandardLibraryAlone(t *testing.T) {
	e := signedLog(t, 4, 21, 21).export()
	prev := strings.Repeat("0", 64)
	var leaves [][]byte
	for _, line := range e.split() {
		if !strings.Contains(string(line), `"prev":"`+prev+`"`) {
			t.Fatalf("the chain breaks before %.60s", line)
		}
		sum := sha256.Sum256(line)
		prev = hex.EncodeToString(sum[:])
		leaf := sha256.Sum256(append([]byte{0}, line...))
		leaves = append(leaves, leaf[:])
	}
	text, signature, _ := strings.Cut(string(e.checkpoints[0]), "\n\n")
	text += "\n"
	fields := strings.Fields(signature) // —, name, base64
	raw, err := base64.StdEncoding.DecodeString(fields[2])
	if err != nil {
		t.Fatal(err)
	}
	name, rest, _ := strings.Cut(e.keys[0], "+")
	id, data, _ := strings.Cut(rest, "+")
	public, err := base64.StdEncoding.DecodeString(data)
	if err != nil {
		t.Fatal(err)
	}
	if name != testOrigin || fields[1] != testOrigin || hex.EncodeToString(raw[:4]) != id {
		t.Errorf("name %s, %s; id %s, %x", name, fields[1], id, raw[:4])
	}
	if !ed25519.Verify(public[1:], []byte(text), raw[4:]) {
		t.Error("the signature is wrong")
	}
	if want := testOrigin + "\n21\n" + base64.StdEncoding.EncodeToString(naiveRoot(leaves)) + "\n"; text != want {
		t.Errorf("got  %q\nwant %q", text, want)
	}
}

// naiveRoot is section 2.1 of RFC 6962, word for word.
func naiveRoot(leaves [][]byte) []byte {
	if len(leaves) == 1 {
		return leaves[0]
	}
	k := 1
	for k*2 < len(leaves) {
		k *= 2
	}
	node := append([]byte{1}, naiveRoot(leaves[:k])...)
	sum := sha256.Sum256(append(node, naiveRoot(leaves[k:])...))
	return sum[:]
}

func TestTheStreamingTreeAgreesWithTlog(t *testing.T) {
	var tree Tree
	var stored []tlog.Hash
	read := tlog.HashReaderFunc(func(indexes []int64) ([]tlog.Hash, error) {
		var out []tlog.Hash
		for _, i := range indexes {
			out = append(out, stored[i])
		}
		return out, nil
	})
	for n := range int64(700) {
		want, err := tlog.TreeHash(n, read)
		if err != nil {
			t.Fatal(err)
		}
		if n == 0 {
			want = EmptyRoot
		}
		if tree.Root() != want || tree.Size() != uint64(n) {
			t.Fatalf("size %d: got %v, want %v", n, tree.Root(), want)
		}
		line := []byte{byte(n), byte(n >> 8)}
		hashes, err := tlog.StoredHashes(n, line, read)
		if err != nil {
			t.Fatal(err)
		}
		stored = append(stored, hashes...)
		var flat []byte
		for _, h := range hashes {
			flat = append(flat, h[:]...)
		}
		if made := tree.grow(tlog.RecordHash(line), nil); string(made) != string(flat) {
			t.Fatalf("entry %d: other nodes than tlog stores", n)
		}
	}
}

func TestVerifyingAllocatesNothingPerEntry(t *testing.T) {
	small, large := signedLog(t, 1, 100, 100), signedLog(t, 1, 1100, 1100)
	measure := func(l *memLog) float64 {
		return testing.AllocsPerRun(5, func() {
			if _, err := Verify(context.Background(), l.copy(), Options{}); err != nil {
				t.Fatal(err)
			}
		})
	}
	if a, b := measure(small), measure(large); b > a+5 {
		t.Errorf("%v allocations for 100 entries, %v for 1100", a, b)
	}
}
