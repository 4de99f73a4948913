package store

import (
	"context"
	"fmt"
	"slices"
)

// applySessions comes before the entries: a session that is gone stops the change.
func (w *writer) applySessions(ctx context.Context, p prepared) error {
	s := p.Sessions
	if s == nil {
		return nil
	}
	if len(s.End) > 0 {
		ids := slices.Compact(slices.Sorted(slices.Values(s.End)))
		rows := make([][]any, len(ids))
		for i, id := range ids {
			rows[i] = []any{id}
		}
		n, err := w.listed(ctx, "session", `DELETE FROM session WHERE account = $1 AND id IN (VALUES %s)`, nil, rows)
		if err != nil {
			return err
		}
		if n != len(ids) {
			return fmt.Errorf("session: %d of the %d to end are not there: %w", len(ids)-n, len(ids), ErrNotFound)
		}
	}
	if r := s.Rights; r != nil {
		n, err := w.exec(ctx, "session", `UPDATE session SET login = $3, accounts = $4, grants = $5, checked_at = $6 WHERE account = $1 AND id = $2`,
			r.ID, clipped(r.Login), listedAccounts(r.Accounts), r.Grants, r.Checked.UnixMicro())
		if err != nil {
			return err
		}
		if n != 1 {
			return fmt.Errorf("session: %w", ErrNotFound)
		}
	}
	if o := s.Open; o != nil {
		_, err := w.exec(ctx, "session", `INSERT INTO session (account, `+sessionColumns+`)
			VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16)`,
			o.ID, o.Hash, o.Flow, o.Source, o.Person, clipped(o.Login), listedAccounts(o.Accounts), bytesOrEmpty(o.Grants), bytesOrEmpty(o.Sealed),
			clipped(o.Agent), o.Created.UnixMicro(), o.Seen.UnixMicro(), o.Checked.UnixMicro(), o.Until.UnixMicro(), o.Ends.UnixMicro())
		return err
	}
	return nil
}

// bytesOrEmpty makes nothing an empty value: nil would be NULL.
func bytesOrEmpty(b []byte) []byte {
	if b == nil {
		return []byte{}
	}
	return b
}
