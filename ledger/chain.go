package ledger

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
)

// Version is the version of the line format that this package writes; it reads no other.
const Version = 1

var (
	errVersion = errors.New("not version 1")
	errPrefix  = errors.New(`want {"v":1,"seq":N,"prev":"…64 hexadecimal digits…",`)
)

const (
	prefixSeq  = `{"v":1,"seq":`
	prefixPrev = `,"prev":"`
	prefixEnd  = `",`
)

// appendLine writes the line of a body at its place in the chain.
func appendLine(dst []byte, seq uint64, prev Hash, body []byte) []byte {
	dst = append(dst, prefixSeq...)
	dst = strconv.AppendUint(dst, seq, 10)
	dst = append(dst, prefixPrev...)
	dst = hex.AppendEncode(dst, prev[:])
	dst = append(dst, prefixEnd...)
	return append(dst, body[1:]...)
}

// prefix is what chains a line: its number, the digest of the line before, and where the body goes on.
type prefix struct {
	seq  uint64
	prev []byte // hexadecimal
	end  int
}

// parsePrefix reads the fixed beginning of a line without parsing JSON.
func parsePrefix(line []byte) (prefix, error) {
	s := scanner{b: line}
	if !s.has(prefixSeq) {
		if s.has(`{"v":`) {
			return prefix{}, fmt.Errorf("ledger line: %w", errVersion)
		}
		return prefix{}, fmt.Errorf("ledger line: %w", errPrefix)
	}
	s.i = len(prefixSeq)
	seq, ok := s.counter()
	if !ok {
		return prefix{}, fmt.Errorf("ledger line: seq: %w", s.err())
	}
	if !s.lit(prefixPrev) {
		return prefix{}, fmt.Errorf("ledger line: %w", errPrefix)
	}
	start := s.i
	s.i += 2 * sha256.Size
	if s.i > len(line) || !all(line[start:s.i], classHex) || !s.has(prefixEnd) {
		return prefix{}, fmt.Errorf("ledger line: %w", errPrefix)
	}
	return prefix{seq: seq, prev: line[start:s.i], end: s.i + len(prefixEnd)}, nil
}

// walker follows a log line by line.
type walker struct {
	tree Tree
	head Hash // of the last line
	hash hasher
	made []byte
	body int // where the body of the last line goes on
	hex  [2 * len(Hash{})]byte
}

// step checks that an entry is the next one, that its own stored hash is that of its bytes, that its line
// continues the chain, and that the stored tree above is that of the lines. In this order the first complaint
// names the entry that was changed, where that can be told.
func (w *walker) step(e Stored) error {
	seq := w.tree.Size()
	p, err := parsePrefix(e.Line)
	if err != nil {
		layer := LayerPrefix
		if errors.Is(err, errVersion) {
			layer = LayerVersion
		}
		return &Tampered{Seq: seq, Layer: layer, Detail: err.Error()}
	}
	if p.seq != seq {
		return &Tampered{Seq: seq, Layer: LayerSequence, Detail: fmt.Sprintf("found entry %d in its place", p.seq)}
	}
	chain, leaf := w.hash.sums(e.Line)
	w.made = w.tree.grow(leaf, w.made[:0])
	if e.Hashes != nil && !bytes.HasPrefix(e.Hashes, leaf[:]) {
		return &Tampered{Seq: seq, Layer: LayerHashes, Detail: "its stored hash is not that of the line"}
	}
	if hex.Encode(w.hex[:], w.head[:]); !bytes.Equal(p.prev, w.hex[:]) {
		if seq == 0 {
			return &Tampered{Seq: 0, Layer: LayerChain, Detail: "the first entry names one before it"}
		}
		return &Tampered{Seq: seq - 1, Layer: LayerChain, Detail: fmt.Sprintf(
			"entry %d does not continue it: one of the two was changed", seq)}
	}
	if e.Hashes != nil && !bytes.Equal(e.Hashes, w.made) {
		// The line and its own hash agree, and so does the chain so far: the entry was changed together with its
		// hash, or the tree above it was.
		return &Tampered{Seq: seq, Layer: LayerHashes, Detail: fmt.Sprintf(
			"the hash kept with it of the entries from %d to itself is not that of their lines", firstWrong(seq, e.Hashes, w.made))}
	}
	w.head, w.body = chain, p.end
	return nil
}

// firstWrong is where the smallest subtree begins, of those that end with an entry, whose stored hash is wrong.
func firstWrong(seq uint64, stored, made []byte) uint64 {
	width := uint64(1)
	for at := 0; at+sha256.Size <= min(len(stored), len(made)) && bytes.Equal(stored[at:at+sha256.Size], made[at:at+sha256.Size]); at += sha256.Size {
		width *= 2
	}
	return seq + 1 - min(width, seq+1)
}
