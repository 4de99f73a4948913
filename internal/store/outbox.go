package store

import (
	"context"
	"database/sql"
	"fmt"
	"slices"

	"github.com/noxaudit/noxaudit/ledger"
)

var (
	_ ledger.Outbox  = (*Tenant)(nil)
	_ ledger.Skipper = (*Tenant)(nil)
	_ ledger.Archive = (*Tenant)(nil)
)

// markRows is how many rows of the outbox one transaction marks.
const markRows = 1000

// pendingBytes is about how many bytes of bodies one call of Pending returns.
const pendingBytes = 4 << 20

// Pending returns up to limit entries, and about 4 MiB of them, that the ledger does not hold yet, those of one source in the order of
// their numbers and without a gap. It asks for rows without a mark, never for rows after the last one seen: a
// transaction that commits late would be passed over.
func (t *Tenant) Pending(ctx context.Context, limit int) ([]ledger.Recorded, error) {
	var out []ledger.Recorded
	size := 0
	err := t.query(ctx, "outbox", func(rows *sql.Rows) error {
		var r ledger.Recorded
		var sseq int64
		if err := rows.Scan(&r.ID, &r.Source, &sseq, &r.Body); err != nil {
			return err
		}
		r.SSeq = uint64(sseq)
		out = append(out, r)
		if size += len(r.Body); size >= pendingBytes {
			return errEnough
		}
		return nil
	}, `SELECT id, source, sseq, body FROM outbox WHERE account = $1 AND seq IS NULL ORDER BY source, sseq LIMIT $2`, max(limit, 0))
	return out, err
}

// PendingExcept is Pending without some sources: those that are held back must not stand in front of the others.
func (t *Tenant) PendingExcept(ctx context.Context, limit int, except []string) ([]ledger.Recorded, error) {
	var out []ledger.Recorded
	var sources []string
	err := t.query(ctx, "outbox", func(rows *sql.Rows) error {
		var source string
		if err := rows.Scan(&source); err != nil {
			return err
		}
		if !slices.Contains(except, source) {
			sources = append(sources, source)
		}
		return nil
	}, `SELECT DISTINCT source FROM outbox WHERE account = $1 AND seq IS NULL ORDER BY source`)
	if err != nil {
		return nil, err
	}
	size := 0
	for _, source := range sources {
		if len(out) >= limit || size >= pendingBytes {
			break
		}
		err := t.query(ctx, "outbox", func(rows *sql.Rows) error {
			r := ledger.Recorded{Source: source}
			var sseq int64
			if err := rows.Scan(&r.ID, &sseq, &r.Body); err != nil {
				return err
			}
			r.SSeq = uint64(sseq)
			out = append(out, r)
			if size += len(r.Body); size >= pendingBytes {
				return errEnough
			}
			return nil
		}, `SELECT id, sseq, body FROM outbox WHERE account = $1 AND seq IS NULL AND source = $2 ORDER BY sseq LIMIT $3`, source, limit-len(out))
		if err != nil {
			return nil, err
		}
	}
	return out, nil
}

// Marked returns the entries that the ledger gave from or a later number, in order: what a ledger that lost its
// end gets back.
func (t *Tenant) Marked(ctx context.Context, from uint64, limit int) ([]ledger.Marked, error) {
	var out []ledger.Marked
	size := 0
	err := t.query(ctx, "outbox", func(rows *sql.Rows) error {
		var m ledger.Marked
		var sseq, seq int64
		if err := rows.Scan(&m.ID, &m.Source, &sseq, &m.Body, &seq); err != nil {
			return err
		}
		m.SSeq, m.Seq = uint64(sseq), uint64(seq)
		out = append(out, m)
		if size += len(m.Body); size >= pendingBytes {
			return errEnough
		}
		return nil
	}, `SELECT id, source, sseq, body, seq FROM outbox WHERE account = $1 AND seq >= $2 ORDER BY seq LIMIT $3`, int64(from), limit)
	return out, err
}

// Sequenced marks entries with the place that the ledger gave them. Marking again with the same place does
// nothing; another place, or an entry that is not there, is ErrNotFound, and the rest may be marked. Marked
// rows stay: they repair a ledger that was restored from an older backup.
func (t *Tenant) Sequenced(ctx context.Context, positions []ledger.Position) error {
	for part := range slices.Chunk(positions, markRows) {
		rows := make([][]any, len(part))
		for i, p := range part {
			rows[i] = []any{p.ID, int64(p.Seq)}
		}
		err := t.write(ctx, "outbox", func(w *writer) error {
			n, err := w.listed(ctx, "outbox",
				`UPDATE outbox SET seq = v.column2 FROM (VALUES %s) AS v
				WHERE outbox.account = $1 AND outbox.id = v.column1 AND (outbox.seq IS NULL OR outbox.seq = v.column2)`, nil, rows)
			if err != nil {
				return err
			}
			if n != len(part) {
				return fmt.Errorf("%d of %d entries are not there or have another place: %w", len(part)-n, len(part), ErrNotFound)
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}
