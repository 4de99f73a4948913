package ledger

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"errors"
	"strings"
	"testing"
	"time"
)

func TestAPinnedKeyThatSignedNothingIsAFailure(t *testing.T) {
	log := signedLog(t, 1, 10)
	v, err := Verify(context.Background(), log.copy(), pinned)
	var tampered *Tampered
	if !errors.As(err, &tampered) || tampered.Layer != LayerSignature || !tampered.Whole || strings.Contains(err.Error(), "entry 0") {
		t.Errorf("got %v, %v", v, err)
	}
	if _, err := Verify(context.Background(), newMemLog().copy(), pinned); err != nil {
		t.Errorf("an empty log: %v", err)
	}
}

func TestAnEntryThatWaitsTooLongForItsSignatureIsAFailure(t *testing.T) {
	log := signedLog(t, 1, 12, 10) // entry i happened i seconds after testStart
	for _, c := range []struct {
		name  string
		now   time.Time
		keys  []string
		bytes bool
		want  int // the entry to blame, -1 for none
	}{
		{"just now", testStart.Add(20 * time.Second), pinned.Keys, false, -1},
		{"later", testStart.Add(71 * time.Second), pinned.Keys, false, 10},
		{"later, bytes only", testStart.Add(71 * time.Second), pinned.Keys, true, 10},
		{"the first still in time", testStart.Add(70 * time.Second), pinned.Keys, false, -1},
		{"a time to come", testStart.Add(-51 * time.Second), pinned.Keys, false, 10},
		{"no key pinned", testStart.Add(time.Hour), nil, false, -1},
		{"no clock", time.Time{}, pinned.Keys, false, -1},
	} {
		t.Run(c.name, func(t *testing.T) {
			o := Options{Keys: c.keys, Now: c.now, Grace: time.Minute, BytesOnly: c.bytes}
			if c.want >= 0 {
				wantTampered(t, log.copy(), o, uint64(c.want), LayerSignature)
			} else if _, err := Verify(context.Background(), log.copy(), o); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestWhatTheVerifierBroughtWronglyIsNoTampering(t *testing.T) {
	log := signedLog(t, 1, 10, 10)
	foreign := newMemLog()
	foreign.origin = Origin("acme", "9")
	other := events(1, 3)
	for i := range other {
		other[i].Account = "9"
	}
	drainInto(t, foreign, recorded(t, other))
	mustSign(t, testKey(1), foreign)
	var tampered *Tampered
	for what, o := range map[string]Options{
		"a checkpoint of another log": {Keys: pinned.Keys, Held: foreign.checkpoints},
		"no checkpoint":               {Keys: pinned.Keys, Held: [][]byte{[]byte("hello\n")}},
		"a key of another deployment": {Keys: []string{verifierKey("noxaudit/other", testKey(1).private.Public().(ed25519.PublicKey))}},
	} {
		if _, err := Verify(context.Background(), log.copy(), o); err == nil || errors.As(err, &tampered) {
			t.Errorf("%s: %v", what, err)
		}
	}
	// The right name and other bytes: the log is not what the pin says, and no entry is to blame.
	_, err := Verify(context.Background(), log.copy(), Options{Keys: []string{testKey(2).Public()}})
	if !errors.As(err, &tampered) || !tampered.Whole || !strings.Contains(err.Error(), "not signed by this key") {
		t.Errorf("got %v", err)
	}
}

// Whoever changes one entry and makes its own hash fit is told which one, wherever it stands.
func TestAnEntryEditedWithItsOwnHashIsNamed(t *testing.T) {
	const n = 21
	for at := range n {
		for _, all := range []bool{false, true} { // its leaf alone, or the subtrees that end with it too
			log := signedLog(t, 1, n, n)
			log.entries = slicesClone(log.entries)
			e := &log.entries[at]
			e.Line = bytes.Replace(e.Line, []byte("passed"), []byte("failed"), 1)
			var tree Tree
			for i := range at {
				_, leaf := new(hasher).sums(log.entries[i].Line)
				tree.Append(leaf)
			}
			_, leaf := new(hasher).sums(e.Line)
			made := tree.grow(leaf, nil)
			if all {
				e.Hashes = made
			} else {
				copy(e.Hashes, leaf[:])
			}
			_, err := Verify(context.Background(), log.copy(), pinned)
			var tampered *Tampered
			if !errors.As(err, &tampered) {
				t.Fatalf("entry %d: %v", at, err)
			}
			switch {
			case !all && len(made) > 32: // a subtree that ends with it gives it away at once
				if tampered.Seq != uint64(at) || tampered.Layer != LayerHashes {
					t.Errorf("entry %d: %v", at, err)
				}
			case at == n-1: // nothing follows: the signature is left
				if tampered.Layer != LayerRoot || !strings.Contains(tampered.Detail, "to 20") {
					t.Errorf("entry %d: %v", at, err)
				}
			default:
				if tampered.Seq != uint64(at) || tampered.Layer != LayerChain {
					t.Errorf("entry %d: %v", at, err)
				}
			}
		}
	}
}

func TestASubtreeThatWasChangedIsNamedByItsRange(t *testing.T) {
	log := signedLog(t, 1, 12, 12)
	log.entries = slicesClone(log.entries)
	log.entries[7].Hashes[2*32] ^= 1 // the subtree of 4 to 7
	_, err := Verify(context.Background(), log.copy(), pinned)
	if err == nil || !strings.Contains(err.Error(), "entries from 4 to itself") || !strings.Contains(err.Error(), "ledger entry 7") {
		t.Errorf("got %v", err)
	}
}
