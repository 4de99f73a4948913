package ledger

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"math/rand"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/mod/sumdb/note"
	"pgregory.net/rapid"
)

func mustBase64(s string) []byte {
	b, err := base64.StdEncoding.DecodeString(s)
	if err != nil {
		panic(err)
	}
	return b
}

func toBase64(b []byte) string { return base64.StdEncoding.EncodeToString(b) }

func TestACheckpointIsWrittenAsSpecified(t *testing.T) {
	c := Checkpoint{Origin: Origin("acme", "583231"), Size: 0, Root: EmptyRoot}
	if want := "noxaudit/acme/583231\n0\n47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=\n"; c.Text() != want {
		t.Errorf("got %q", c.Text())
	}
	// Ed25519 is deterministic: this note never changes.
	signed := signedLog(t, 1, 2, 2).checkpoints[0]
	const want = "noxaudit/acme/583231\n2\n"
	if !strings.HasPrefix(string(signed), want) || !strings.Contains(string(signed), "\n\n— noxaudit/acme/583231 ") {
		t.Errorf("got %s", signed)
	}
	if again := signedLog(t, 1, 2, 2).checkpoints[0]; !bytes.Equal(again, signed) {
		t.Error("the same log has another signature")
	}
}

func TestACheckpointHasNoSecondSpelling(t *testing.T) {
	good := Checkpoint{Origin: testOrigin, Size: 10, Root: Hash{1, 2, 3}}.Text()
	swap := func(old, new string) string { return strings.Replace(good, old, new, 1) }
	for what, text := range map[string]string{
		"nothing":             "",
		"no origin":           swap(testOrigin, ""),
		"a leading zero":      swap("\n10\n", "\n010\n"),
		"a plus":              swap("\n10\n", "\n+10\n"),
		"a negative size":     swap("\n10\n", "\n-10\n"),
		"a size above 2^53":   swap("\n10\n", "\n9007199254740993\n"),
		"no size":             swap("\n10\n", "\n\n"),
		"a short root":        swap("=", ""),
		"a loose root":        swap("AA=", "AB="),
		"an extension line":   good + "extension\n",
		"an empty line":       good + "\n",
		"no newline":          strings.TrimSuffix(good, "\n"),
		"carriage returns":    strings.ReplaceAll(good, "\n", "\r\n"),
		"an empty log's root": swap("\n10\n", "\n0\n"),
	} {
		if c, err := ParseCheckpoint(text); err == nil {
			t.Errorf("%s: read as %+v", what, c)
		}
	}
	if c, err := ParseCheckpoint(good); err != nil || c.Size != 10 || c.Origin != testOrigin {
		t.Errorf("got %+v, %v", c, err)
	}
}

func TestCheckpointsReadBack(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c := Checkpoint{
			Origin: rapid.StringMatching(`[a-z/.]{1,20}`).Draw(t, "origin"),
			Size:   rapid.Uint64Range(1, maxSeq).Draw(t, "size"),
		}
		copy(c.Root[:], rapid.SliceOfN(rapid.Byte(), 32, 32).Draw(t, "root"))
		if back, err := ParseCheckpoint(c.Text()); err != nil || back != c {
			t.Fatalf("%+v: got %+v, %v", c, back, err)
		}
	})
}

func FuzzOpenCheckpoint(f *testing.F) {
	log := signedLog(f, 1, 3, 1, 3)
	for _, c := range log.checkpoints {
		f.Add(c)
	}
	known, err := verifiers(testOrigin, log.keys)
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, signed []byte) {
		if c, err := openCheckpoint(signed, known); err == nil && !strings.HasPrefix(string(signed), c.Text()+"\n— ") {
			t.Errorf("%q was read as %+v", signed, c)
		}
	})
}

func TestAKeyIsMadeOnceAndReadBack(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ledger.key")
	made, err := LoadOrCreateKey(path, "noxaudit/acme", rand.New(rand.NewSource(1)))
	if err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	read, err := LoadOrCreateKey(path, "noxaudit/acme", nil)
	if err != nil || read.Public() != made.Public() || !read.private.Equal(made.private) {
		t.Errorf("got %v, %v", read, err)
	}
	if _, err := note.NewVerifier(made.Public()); err != nil || !strings.HasPrefix(made.Public(), "noxaudit/acme+") {
		t.Errorf("the public key %s: %v", made.Public(), err)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if s, err := note.NewSigner(strings.TrimSpace(string(text))); err != nil || s.Name() != "noxaudit/acme" {
		t.Errorf("other tools cannot read the key: %v", err)
	}
}

func TestAKeyFileThatCannotBeTrustedIsRefused(t *testing.T) {
	write := func(t *testing.T, text string, mode os.FileMode) string {
		path := filepath.Join(t.TempDir(), "key")
		if err := os.WriteFile(path, []byte(text), mode); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
		return path
	}
	good, _, err := note.GenerateKey(rand.New(rand.NewSource(1)), "noxaudit/acme")
	if err != nil {
		t.Fatal(err)
	}
	for what, path := range map[string]string{
		"readable by the group":  write(t, good, 0o640),
		"readable by all":        write(t, good, 0o604),
		"another name":           write(t, strings.Replace(good, "acme", "acne", 1), 0o600),
		"empty":                  write(t, "", 0o600),
		"cut":                    write(t, good[:60], 0o600),
		"a changed key":          write(t, strings.Replace(good, "A", "B", 1), 0o600),
		"something behind it":    write(t, good+"\n\n", 0o600),
		"a public key":           write(t, testKey(1).Public(), 0o600),
		"a directory":            t.TempDir(),
		"a directory that lacks": filepath.Join(t.TempDir(), "none", "key"),
	} {
		_, err := LoadOrCreateKey(path, "noxaudit/acme", rand.New(rand.NewSource(1)))
		if err == nil {
			t.Errorf("%s: accepted", what)
			continue
		}
		if secret := good[len(good)-20:]; strings.Contains(err.Error(), secret) {
			t.Errorf("%s: the error shows the key", what)
		}
	}
	other := write(t, good, 0o600)
	if _, err := LoadOrCreateKey(other, "noxaudit/other", nil); err == nil {
		t.Error("a key of another deployment was accepted")
	}
	if _, err := LoadOrCreateKey(filepath.Join(t.TempDir(), "k"), "has space", rand.New(rand.NewSource(1))); err == nil {
		t.Error("a name that no note can hold was accepted")
	}
}

func TestAKeySpeaksForTheLogsOfItsDeploymentOnly(t *testing.T) {
	k := testKey(1)
	for _, origin := range []string{"noxaudit/acme2/1", "noxaudit", "other/acme/1"} {
		if _, _, err := k.signer(origin); err == nil {
			t.Errorf("it signs %s", origin)
		}
		if _, err := verifiers(origin, []string{k.Public()}); err == nil {
			t.Errorf("it verifies %s", origin)
		}
	}
}

func TestTheSignerRefusesWhatDoesNotContinueItsLastCheckpoint(t *testing.T) {
	ctx := context.Background()
	for _, c := range []struct {
		name   string
		tamper func(*memLog)
		layer  Layer
	}{
		{"entries cut off", func(l *memLog) { l.entries = l.entries[:8] }, LayerSize},
		{"another history of the same size", func(l *memLog) { l.entries = signedLog(t, 2, 10).entries }, LayerRoot},
		{"another history, longer", func(l *memLog) { l.entries = signedLog(t, 2, 15).entries }, LayerRoot},
		{"an unsigned entry edited", func(l *memLog) {
			e := &l.entries[11]
			e.Line = bytes.Replace(e.Line, []byte("passed"), []byte("failed"), 1)
		}, LayerHashes},
		{"the first unsigned entry chained to something else", func(l *memLog) {
			l.entries[10] = signedLog(t, 2, 11).entries[10]
		}, LayerChain},
		{"a lower size in its memory", func(l *memLog) { l.signed.Size = 9 }, LayerSignature},
		{"another root in its memory", func(l *memLog) { l.signed.Root[0] ^= 1 }, LayerSignature},
		{"a forged note in its memory", func(l *memLog) {
			l.signed.Size = 8
			l.signed.Note = bytes.Replace(l.signed.Note, []byte("\n10\n"), []byte("\n8\n"), 1)
		}, LayerSignature},
	} {
		t.Run(c.name, func(t *testing.T) {
			log := signedLog(t, 1, 13, 10)
			c.tamper(log)
			signer, err := NewSigner(testKey(1), log)
			if err != nil {
				t.Fatal(err)
			}
			signed, err := signer.Sign(ctx)
			var tampered *Tampered
			if !errors.As(err, &tampered) || tampered.Layer != c.layer {
				t.Errorf("got %v, %v; want layer %q", signed, err, c.layer)
			}
			if len(log.checkpoints) != 1 {
				t.Error("a checkpoint came out")
			}
		})
	}
}

func TestASignatureIsStoredBeforeItIsReleased(t *testing.T) {
	ctx := context.Background()
	log := signedLog(t, 1, 10)
	signer, err := NewSigner(testKey(1), log)
	if err != nil {
		t.Fatal(err)
	}
	crash := errors.New("crash")
	for _, step := range []string{"before publish", "after publish"} {
		log.fail = func(s string) error {
			if s == step {
				return crash
			}
			return nil
		}
		if signed, err := signer.Sign(ctx); !errors.Is(err, crash) || signed.Note != nil {
			t.Errorf("%s: released %s, %v", step, signed.Note, err)
		}
	}
	log.fail = nil
	signed, err := signer.Sign(ctx)
	if err != nil || !bytes.Equal(signed.Note, log.checkpoints[0]) || len(log.checkpoints) != 1 {
		t.Errorf("after the crash: %d checkpoints, %v", len(log.checkpoints), err)
	}
}

func TestARotatedKeyContinuesTheLog(t *testing.T) {
	ctx := context.Background()
	log := signedLog(t, 1, 10, 5)
	signer, err := NewSigner(testKey(2), log)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := signer.Sign(ctx); err != nil {
		t.Fatal(err)
	}
	both := Options{Keys: []string{testKey(1).Public(), testKey(2).Public()}}
	if v, err := Verify(ctx, log.copy(), both); err != nil || v.Checkpoints != 2 || !v.KeyPinned {
		t.Errorf("got %v, %v", v, err)
	}
	wantTampered(t, log.copy(), Options{Keys: both.Keys[:1]}, 5, LayerSignature)
}

func TestProofs(t *testing.T) {
	ctx := context.Background()
	log := signedLog(t, 1, 20)
	roots := []Hash{EmptyRoot}
	var tree Tree
	for _, e := range log.entries {
		var h hasher
		_, leaf := h.sums(e.Line)
		tree.Append(leaf)
		roots = append(roots, tree.Root())
	}
	for size := uint64(1); size <= 20; size++ {
		for seq := range size {
			p, err := ProveEntry(ctx, log, size, seq)
			if err != nil {
				t.Fatal(err)
			}
			if err := CheckEntry(p, size, roots[size], seq, log.entries[seq].Line); err != nil {
				t.Errorf("entry %d of %d: %v", seq, size, err)
			}
			if CheckEntry(p, size, roots[size], seq, log.entries[(seq+1)%20].Line) == nil {
				t.Errorf("entry %d of %d: another line passes", seq, size)
			}
			if CheckEntry(p, size, roots[size-1], seq, log.entries[seq].Line) == nil {
				t.Errorf("entry %d of %d: another root passes", seq, size)
			}
		}
		for old := uint64(1); old <= size; old++ {
			p, err := ProveGrowth(ctx, log, old, size)
			if err != nil {
				t.Fatal(err)
			}
			if err := CheckGrowth(p, old, roots[old], size, roots[size]); err != nil {
				t.Errorf("from %d to %d: %v", old, size, err)
			}
			if CheckGrowth(p, old, roots[old-1], size, roots[size]) == nil {
				t.Errorf("from %d to %d: another root passes", old, size)
			}
		}
	}
	for what, err := range map[string]error{
		"an entry beyond":  second(ProveEntry(ctx, log, 5, 5)),
		"nothing grows":    second(ProveGrowth(ctx, log, 0, 5)),
		"shrinking":        second(ProveGrowth(ctx, log, 6, 5)),
		"check beyond":     CheckEntry(nil, 5, Hash{}, 5, nil),
		"check huge":       CheckEntry(nil, 1<<63, Hash{}, 5, nil),
		"check shrinking":  CheckGrowth(nil, 6, Hash{}, 5, Hash{}),
		"check from empty": CheckGrowth(nil, 0, EmptyRoot, 5, Hash{}),
	} {
		if err == nil {
			t.Errorf("%s: accepted", what)
		}
	}
}

func second[T any](_ T, err error) error { return err }
