package ledger

import (
	"context"
	"crypto/sha256"
	"fmt"
	"math/bits"

	"golang.org/x/mod/sumdb/tlog"
)

// Hash is a SHA-256: the head of a chain, a leaf, a node or a root. Its String is base64, as in a checkpoint.
type Hash = tlog.Hash

// EmptyRoot is the root of a tree without leaves: the SHA-256 of nothing.
var EmptyRoot = Hash(sha256.Sum256(nil))

// Tree grows an RFC 6962 Merkle tree leaf by leaf in constant memory: of the leaves so far it keeps the roots
// of the perfect subtrees that make them up, one for each bit that is set in their number. The zero Tree is
// empty; a copy of a Tree grows on its own.
type Tree struct {
	size uint64
	edge [64]Hash // edge[l] is a subtree of 2^l leaves, meaningful when bit l of size is set
}

// Size is the number of leaves.
func (t *Tree) Size() uint64 { return t.size }

// Append adds the hash of one leaf.
func (t *Tree) Append(leaf Hash) {
	var scratch [64 * tlog.HashSize]byte
	t.grow(leaf, scratch[:0])
}

// grow adds the hash of one leaf and appends to made the nodes that it brings into being: the leaf, then each
// subtree that it completes, from the smallest up, which is the order of tlog.StoredHashes.
func (t *Tree) grow(leaf Hash, made []byte) []byte {
	node := leaf
	made = append(made, node[:]...)
	level := 0
	for ; t.size>>level&1 == 1; level++ {
		node = tlog.NodeHash(t.edge[level], node)
		made = append(made, node[:]...)
	}
	t.edge[level] = node
	t.size++
	return made
}

// Root is the hash of the whole tree.
func (t *Tree) Root() Hash {
	if t.size == 0 {
		return EmptyRoot
	}
	level := bits.TrailingZeros64(t.size)
	root := t.edge[level]
	for level++; t.size>>level != 0; level++ {
		if t.size>>level&1 == 1 {
			root = tlog.NodeHash(t.edge[level], root)
		}
	}
	return root
}

// HashReader reads stored nodes of a log's tree by their tlog.StoredHashIndex, in the order asked for.
type HashReader interface {
	Hashes(ctx context.Context, indexes []int64) ([]Hash, error)
}

// treeAt is the tree of the first size leaves, from the stored nodes. Whoever does not trust the store
// compares its root.
func treeAt(ctx context.Context, r HashReader, size uint64) (Tree, error) {
	t := Tree{size: size}
	var levels []int
	var indexes []int64
	for level := 0; size>>level != 0; level++ {
		if size>>level&1 == 1 {
			levels = append(levels, level)
			indexes = append(indexes, tlog.StoredHashIndex(level, int64(size>>level)-1))
		}
	}
	if len(levels) == 0 {
		return t, nil
	}
	hashes, err := r.Hashes(ctx, indexes)
	if err != nil {
		return Tree{}, fmt.Errorf("tree of %d entries: %w", size, err)
	}
	if len(hashes) != len(indexes) {
		return Tree{}, fmt.Errorf("tree of %d entries: the store returned %d hashes of %d", size, len(hashes), len(indexes))
	}
	for i, level := range levels {
		t.edge[level] = hashes[i]
	}
	return t, nil
}

// hasher hashes lines without allocating; it is not safe for concurrent use.
type hasher struct{ buf []byte }

// sums is the hash of line for the chain, SHA-256(line), and for the tree, SHA-256(0x00 ‖ line).
func (h *hasher) sums(line []byte) (chain, leaf Hash) {
	h.buf = append(append(h.buf[:0], 0), line...)
	return sha256.Sum256(line), sha256.Sum256(h.buf)
}

// LineHash is what the next line names as prev, and what sha256sum prints for the line without its newline.
func LineHash(line []byte) Hash { return sha256.Sum256(line) }
