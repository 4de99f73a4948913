package store

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
)

// applyCommand comes before all that a command brings about, so that of two deliveries of one comment the second
// waits here, and does nothing.
func (w *writer) applyCommand(ctx context.Context, p prepared) error {
	c := p.Command
	if c == nil {
		return nil
	}
	noun := fmt.Sprintf("command in %s %d", c.Surface, c.ID)
	var n int
	var err error
	if c.State == CommandDone || c.Unheard {
		n, err = w.exec(ctx, noun, `INSERT INTO command (account, repository, surface, id, pull, author, digest, state, waivers, reaction, answer, answered, at)
			VALUES ($1, $2, $3, $4, $5, $6, $7, $13, $8, $9, $10, $11, $12) ON CONFLICT (account, repository, surface, id) DO NOTHING`,
			c.Repository, c.Surface, c.ID, int64(c.Pull), c.Author, c.Digest, strings.Join(c.Waivers, " "), c.Reaction, column(c.Answer),
			c.Answer == "" && c.Reaction == "", p.Time.UnixMicro(), c.State)
	} else {
		n, err = w.exec(ctx, noun, `UPDATE command SET state = $5, answer = CASE WHEN $6 = '' THEN answer ELSE $6 END,
				answered = CASE WHEN $6 = '' THEN answered ELSE FALSE END, reaction = CASE WHEN $6 = '' THEN reaction ELSE '' END, at = $7
			WHERE account = $1 AND repository = $2 AND surface = $3 AND id = $4 AND state <> $5`,
			c.Repository, c.Surface, c.ID, c.State, column(c.Answer), p.Time.UnixMicro())
	}
	if err != nil {
		return err
	}
	switch {
	case n == 1:
		return nil
	case c.Unheard:
		return fmt.Errorf("%s: %w", noun, ErrStale)
	}
	return fmt.Errorf("%s: %w", noun, ErrAlreadyDone)
}

// applyWaivers compares and sets, waiver by waiver in the order of their ids.
func (w *writer) applyWaivers(ctx context.Context, p prepared) error {
	waivers := slices.SortedFunc(slices.Values(p.Waivers), func(a, b Waiver) int { return cmp.Compare(a.ID, b.ID) })
	for _, v := range waivers {
		var n int
		var err error
		if v.Version == 0 {
			n, err = w.exec(ctx, "waiver "+v.ID, `INSERT INTO waiver (account, id, digest, repository, fingerprint, content, finding, state, suspended,
					pull, requester, requested_at, until_at, due_at, changed_at, version, body)
				VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, 1, $16) ON CONFLICT (account, id) DO NOTHING`,
				v.ID, v.Digest, v.Repository, v.Fingerprint, v.Content, v.Finding, v.State, v.Suspended,
				int64(v.Pull), v.Requester, v.Requested.UnixMicro(), v.Until.UnixMicro(), micros(v.Due), p.Time.UnixMicro(), v.Body)
		} else {
			n, err = w.exec(ctx, "waiver "+v.ID, `UPDATE waiver SET state = $4, suspended = $5, due_at = $6, changed_at = $7, version = version + 1, body = $8
				WHERE account = $1 AND id = $2 AND version = $3`,
				v.ID, v.Version, v.State, v.Suspended, micros(v.Due), p.Time.UnixMicro(), v.Body)
		}
		if err != nil {
			return err
		}
		if n != 1 {
			return fmt.Errorf("waiver %s at version %d: %w", v.ID, v.Version, ErrStale)
		}
	}
	return nil
}

// CommandAnswered says that the answer to a command was posted, or, with done false, that posting it was tried and
// it is not known whether it got through. It needs no entry: the answer repeats what was recorded.
func (t *Tenant) CommandAnswered(ctx context.Context, repository, surface string, id int64, done bool) error {
	return t.write(ctx, "command", func(w *writer) error {
		_, err := w.exec(ctx, "command", `UPDATE command SET tries = tries + 1, answered = CASE WHEN $5 THEN TRUE ELSE answered END
			WHERE account = $1 AND repository = $2 AND surface = $3 AND id = $4`, repository, surface, id, done)
		return err
	})
}
