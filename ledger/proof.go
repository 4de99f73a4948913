package ledger

import (
	"context"
	"fmt"

	"golang.org/x/mod/sumdb/tlog"
)

// ProveEntry proves that the entry seq is in the log of size entries. Whoever has the line, the proof and a
// signed checkpoint of that size needs nothing else of the log: see CheckEntry.
func ProveEntry(ctx context.Context, r HashReader, size, seq uint64) ([]Hash, error) {
	if seq >= size || size > maxSeq {
		return nil, fmt.Errorf("proof: the log of %d entries has no entry %d", size, seq)
	}
	p, err := tlog.ProveRecord(int64(size), int64(seq), reader(ctx, r))
	if err != nil {
		return nil, fmt.Errorf("proof of entry %d: %w", seq, err)
	}
	return p, nil
}

// CheckEntry checks a proof that line is the entry seq of the log with this size and root.
func CheckEntry(proof []Hash, size uint64, root Hash, seq uint64, line []byte) error {
	if seq >= size || size > maxSeq {
		return fmt.Errorf("proof: the log of %d entries has no entry %d", size, seq)
	}
	if err := tlog.CheckRecord(proof, int64(size), root, int64(seq), tlog.RecordHash(line)); err != nil {
		return fmt.Errorf("proof: it does not show that the line is entry %d of the log of %d entries", seq, size)
	}
	return nil
}

// ProveGrowth proves that the log of size entries continues the one of old entries; old is at least 1.
func ProveGrowth(ctx context.Context, r HashReader, old, size uint64) ([]Hash, error) {
	if old < 1 || old > size || size > maxSeq {
		return nil, fmt.Errorf("proof: a log does not grow from %d to %d entries", old, size)
	}
	p, err := tlog.ProveTree(int64(size), int64(old), reader(ctx, r))
	if err != nil {
		return nil, fmt.Errorf("proof of growth from %d to %d: %w", old, size, err)
	}
	return p, nil
}

// CheckGrowth checks a proof that one state of a log continues another.
func CheckGrowth(proof []Hash, old uint64, oldRoot Hash, size uint64, root Hash) error {
	if old < 1 || old > size || size > maxSeq {
		return fmt.Errorf("proof: a log does not grow from %d to %d entries", old, size)
	}
	if err := tlog.CheckTree(proof, int64(size), root, int64(old), oldRoot); err != nil {
		return fmt.Errorf("proof: it does not show that the log of %d entries continues the one of %d", size, old)
	}
	return nil
}

func reader(ctx context.Context, r HashReader) tlog.HashReaderFunc {
	return func(indexes []int64) ([]tlog.Hash, error) { return r.Hashes(ctx, indexes) }
}
