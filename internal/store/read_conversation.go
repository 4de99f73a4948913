package store

import (
	"context"
	"database/sql"
	"fmt"
	"strings"
	"time"

	"github.com/noxaudit/noxaudit/internal/name"
)

const waiverColumns = `id, digest, repository, fingerprint, content, finding, state, suspended, pull, requester, requested_at, until_at, due_at, changed_at, version, body`

func (t *Tenant) waivers(ctx context.Context, statement string, args ...any) ([]Waiver, error) {
	var out []Waiver
	err := t.query(ctx, "waivers", func(rows *sql.Rows) error {
		var w Waiver
		var requested, until, changed int64
		var due sql.NullInt64
		if err := rows.Scan(&w.ID, &w.Digest, &w.Repository, &w.Fingerprint, &w.Content, &w.Finding, &w.State, &w.Suspended,
			&w.Pull, &w.Requester, &requested, &until, &due, &changed, &w.Version, &w.Body); err != nil {
			return err
		}
		w.Requested, w.Until, w.Changed = fromMicros(requested), fromMicros(until), fromMicros(changed)
		if due.Valid {
			w.Due = fromMicros(due.Int64)
		}
		out = append(out, w)
		return nil
	}, statement, args...)
	return out, err
}

// WaiverByID is the waiver of this id, or ErrNotFound.
func (t *Tenant) WaiverByID(ctx context.Context, id string) (Waiver, error) {
	ws, err := t.waivers(ctx, `SELECT `+waiverColumns+` FROM waiver WHERE account = $1 AND id = $2`, id)
	if err == nil && len(ws) == 0 {
		err = fmt.Errorf("waiver %q: %w", id, ErrNotFound)
	}
	if err != nil {
		return Waiver{}, err
	}
	return ws[0], nil
}

// ActiveWaivers are the waivers of a repository that may cover a finding now: active and not suspended, by id.
// Whether one holds at a moment, waiver.Holds decides.
func (t *Tenant) ActiveWaivers(ctx context.Context, repository string) ([]Waiver, error) {
	return t.waivers(ctx, `SELECT `+waiverColumns+` FROM waiver WHERE account = $1 AND repository = $2 AND state = 'active' AND NOT suspended ORDER BY id`, repository)
}

// OpenWaivers are the waivers of a repository that wait for approval or are active, suspended ones too, by id.
func (t *Tenant) OpenWaivers(ctx context.Context, repository string) ([]Waiver, error) {
	return t.waivers(ctx, `SELECT `+waiverColumns+` FROM waiver WHERE account = $1 AND repository = $2 AND state IN ('pending', 'active') ORDER BY id`, repository)
}

// WaiversOfFinding are all waivers of a finding of a repository, the newest first.
func (t *Tenant) WaiversOfFinding(ctx context.Context, repository, fingerprint string) ([]Waiver, error) {
	return t.waivers(ctx, `SELECT `+waiverColumns+` FROM waiver WHERE account = $1 AND repository = $2 AND fingerprint = $3 ORDER BY requested_at DESC, id`,
		repository, fingerprint)
}

// AllWaivers are the account's waivers, at most limit, those that were asked for last first.
func (t *Tenant) AllWaivers(ctx context.Context, limit int) ([]Waiver, error) {
	return t.waivers(ctx, `SELECT `+waiverColumns+` FROM waiver WHERE account = $1 ORDER BY requested_at DESC, id LIMIT $2`, max(limit, 0))
}

const commandColumns = `pull, author, digest, state, waivers, reaction, answer, tries, answered, at`

// CommandByID is the command of a comment or review, or ErrNotFound.
func (t *Tenant) CommandByID(ctx context.Context, repository, surface string, id int64) (Command, error) {
	c := Command{Repository: repository, Surface: surface, ID: id}
	var waivers string
	var at int64
	found, err := t.get(ctx, "command", []any{&c.Pull, &c.Author, &c.Digest, &c.State, &waivers, &c.Reaction, &c.Answer, &c.Tries, &c.Answered, &at},
		`SELECT `+commandColumns+` FROM command WHERE account = $1 AND repository = $2 AND surface = $3 AND id = $4`, repository, surface, id)
	if err == nil && !found {
		err = fmt.Errorf("command in %s %d: %w", surface, id, ErrNotFound)
	}
	if err != nil {
		return Command{}, err
	}
	c.Waivers, c.At = strings.Fields(waivers), fromMicros(at)
	return c, nil
}

// CommandsSince is how many comments and reviews of a person in a repository commanded something since a time.
func (t *Tenant) CommandsSince(ctx context.Context, repository string, author int64, since time.Time) (int, error) {
	var n int
	_, err := t.get(ctx, "commands", []any{&n}, `SELECT COUNT(*) FROM command WHERE account = $1 AND repository = $2 AND author = $3 AND at >= $4`,
		repository, author, since.UnixMicro())
	return n, err
}

// UnansweredCommands lists up to limit commands, of all tenants, whose answer was not posted yet and that were
// recorded before olderThan: those that were tried least come first.
func (s *Store) UnansweredCommands(ctx context.Context, olderThan time.Time, limit int) ([]CommandKey, error) {
	var out []CommandKey
	err := s.everywhere(ctx, "unanswered commands", func(account name.Account, rest []string) error {
		k := CommandKey{Account: account, Repository: rest[0], Surface: rest[1]}
		if _, err := fmt.Sscan(rest[2], &k.ID); err != nil {
			return &CorruptError{Noun: "command", Key: rest[2], Cause: err}
		}
		out = append(out, k)
		return nil
	}, 3, `SELECT account, repository, surface, CAST(id AS TEXT) FROM command WHERE NOT answered AND tries < 2000 AND at < $1 ORDER BY tries, at, account, id LIMIT $2`,
		olderThan.UnixMicro(), max(limit, 0))
	return out, err
}

// DueWaiver names a waiver among all tenants'.
type DueWaiver struct {
	Account name.Account
	ID      string
}

// DueWaivers lists up to limit waivers, of all tenants, that time changes at or before now, the longest due first.
func (s *Store) DueWaivers(ctx context.Context, now time.Time, limit int) ([]DueWaiver, error) {
	var out []DueWaiver
	err := s.everywhere(ctx, "due waivers", func(account name.Account, rest []string) error {
		out = append(out, DueWaiver{account, rest[0]})
		return nil
	}, 1, `SELECT account, id FROM waiver WHERE due_at IS NOT NULL AND due_at <= $1 ORDER BY due_at, account, id LIMIT $2`, now.UnixMicro(), max(limit, 0))
	return out, err
}

// WaiversByPrefix are the waivers of a repository whose id begins with prefix, at most limit, by id. A waiver's whole
// id is a prefix of itself.
func (t *Tenant) WaiversByPrefix(ctx context.Context, repository, prefix string, limit int) ([]Waiver, error) {
	return t.waivers(ctx, `SELECT `+waiverColumns+` FROM waiver WHERE account = $1 AND repository = $2 AND id >= $3 AND id < $4 ORDER BY id LIMIT $5`,
		repository, prefix, prefix+"~", max(limit, 0))
}
