package store

import (
	"context"
	"database/sql"
	"fmt"
	"time"

	"github.com/noxaudit/noxaudit/internal/name"
)

// Delivery is the delivery of this GUID with its body, or ErrNotFound.
func (t *Tenant) Delivery(ctx context.Context, guid string) (Delivery, error) {
	d := Delivery{GUID: guid}
	var (
		p         packed
		received  int64
		processed sql.NullInt64
	)
	found, err := t.get(ctx, "delivery", []any{&d.Event, &d.Action, &d.Installation, &received, &d.State, &d.Attempts, &processed, &d.Note, &p.encoding, &p.size, &p.body},
		`SELECT event, action, installation, received_at, state, attempts, processed_at, note, encoding, size, body
		FROM delivery WHERE account = $1 AND guid = $2`, guid)
	if err != nil {
		return Delivery{}, err
	}
	if !found {
		return Delivery{}, fmt.Errorf("delivery %q: %w", guid, ErrNotFound)
	}
	d.Received = fromMicros(received)
	if processed.Valid {
		d.Processed = fromMicros(processed.Int64)
	}
	if p.body != nil {
		doc, err := p.unpack()
		if err != nil {
			return Delivery{}, &CorruptError{Noun: "delivery", Key: guid, Cause: err}
		}
		d.Body = doc.Body
	}
	return d, nil
}

// CoveredRepositories are the repositories that an installation covers now, by id.
func (t *Tenant) CoveredRepositories(ctx context.Context) ([]Repository, error) {
	return t.repositories(ctx, `SELECT `+repositoryColumns+` FROM repository WHERE account = $1 AND covered ORDER BY id`)
}

const repositoryColumns = `id, full_name, version, first_seen, last_changed, installation, owner, name, default_branch, private, archived, covered`

func (t *Tenant) repositories(ctx context.Context, statement string, args ...any) ([]Repository, error) {
	var out []Repository
	err := t.query(ctx, "repository", func(rows *sql.Rows) error {
		var (
			r                          Repository
			first, last                int64
			installation               sql.NullInt64
			owner, own, branch         sql.NullString
			private, archived, covered sql.NullBool
		)
		if err := rows.Scan(&r.ID, &r.FullName, &r.Version, &first, &last,
			&installation, &owner, &own, &branch, &private, &archived, &covered); err != nil {
			return err
		}
		r.FirstSeen, r.LastChanged = fromMicros(first), fromMicros(last)
		if installation.Valid {
			r.Origin = &Origin{
				Installation: installation.Int64, Owner: owner.String, Name: own.String, DefaultBranch: branch.String,
				Private: private.Bool, Archived: archived.Bool, Covered: covered.Bool,
			}
		}
		out = append(out, r)
		return nil
	}, statement, args...)
	return out, err
}

// Installations are the account's installations, the deleted ones too, by id.
func (t *Tenant) Installations(ctx context.Context) ([]Installation, error) {
	var out []Installation
	err := t.query(ctx, "installations", func(rows *sql.Rows) error {
		var i Installation
		var changed int64
		if err := rows.Scan(&i.ID, &i.Login, &i.State, &changed); err != nil {
			return err
		}
		i.Changed = fromMicros(changed)
		out = append(out, i)
		return nil
	}, `SELECT id, login, state, changed_at FROM installation WHERE account = $1 ORDER BY id`)
	return out, err
}

const pullColumns = `repository, number, head, head_ref, head_repo, base_ref, base, draft, open, title, author_id, author, updated_at, follows, pusher`

func (t *Tenant) pulls(ctx context.Context, statement string, args ...any) ([]Pull, error) {
	var out []Pull
	err := t.query(ctx, "pull requests", func(rows *sql.Rows) error {
		var p Pull
		var head, base string
		var updated int64
		if err := rows.Scan(&p.Repository, &p.Number, &head, &p.HeadRef, &p.HeadRepo, &p.BaseRef, &base,
			&p.Draft, &p.Open, &p.Title, &p.AuthorID, &p.Author, &updated, &p.Follows, &p.Pusher); err != nil {
			return err
		}
		p.UpdatedAt = fromMicros(updated)
		out = append(out, p)
		u := &out[len(out)-1]
		return commits("pull request", fmt.Sprint(p.Repository, " ", p.Number), parse{&u.Head, head}, parse{&u.Base, base})
	}, statement, args...)
	return out, err
}

// Pull is the pull request of this number, open or closed, or ErrNotFound.
func (t *Tenant) Pull(ctx context.Context, repository string, number int) (Pull, error) {
	ps, err := t.pulls(ctx, `SELECT `+pullColumns+` FROM pull WHERE account = $1 AND repository = $2 AND number = $3`, repository, number)
	if err != nil {
		return Pull{}, err
	}
	if len(ps) == 0 {
		return Pull{}, fmt.Errorf("pull request %q %d: %w", repository, number, ErrNotFound)
	}
	return ps[0], nil
}

// PullsByHead are the open pull requests whose head is this commit, by number.
func (t *Tenant) PullsByHead(ctx context.Context, repository string, sha name.Commit) ([]Pull, error) {
	return t.pulls(ctx, `SELECT `+pullColumns+` FROM pull WHERE account = $1 AND repository = $2 AND head = $3 AND open ORDER BY number`,
		repository, sha.String())
}

// OpenPulls are the open pull requests of a repository, by number.
func (t *Tenant) OpenPulls(ctx context.Context, repository string) ([]Pull, error) {
	return t.pulls(ctx, `SELECT `+pullColumns+` FROM pull WHERE account = $1 AND repository = $2 AND open ORDER BY number`, repository)
}

// MergeGroups are the active merge groups whose head is this commit.
func (t *Tenant) MergeGroups(ctx context.Context, repository string, sha name.Commit) ([]MergeGroup, error) {
	var out []MergeGroup
	err := t.query(ctx, "merge groups", func(rows *sql.Rows) error {
		g := MergeGroup{Repository: repository, Head: sha}
		var base string
		if err := rows.Scan(&g.HeadRef, &base, &g.BaseRef, &g.Active); err != nil {
			return err
		}
		out = append(out, g)
		return commits("merge group", repository+" "+sha.String(), parse{&out[len(out)-1].Base, base})
	}, `SELECT head_ref, base, base_ref, active FROM merge_group WHERE account = $1 AND repository = $2 AND head = $3 AND active`,
		repository, sha.String())
	return out, err
}

// Head is where a head and its check run stand, or ErrNotFound when nobody ever wanted it.
func (t *Tenant) Head(ctx context.Context, repository string, sha name.Commit) (Head, error) {
	h := Head{Repository: repository, SHA: sha}
	var changed int64
	found, err := t.get(ctx, "head", []any{&h.Wanted, &h.Done, &h.AuditWanted, &h.CheckID, &h.Tried, &h.State, &h.Published, &changed},
		`SELECT wanted, done, audit_wanted, check_id, check_tried, check_state, published, changed_at FROM head
		WHERE account = $1 AND repository = $2 AND sha = $3`, repository, sha.String())
	if err != nil {
		return Head{}, err
	}
	if !found {
		return Head{}, fmt.Errorf("head %q %s: %w", repository, sha, ErrNotFound)
	}
	h.Changed = fromMicros(changed)
	return h, nil
}

// QueuedGroups are the merge groups of a repository that its merge queue has not destroyed.
func (t *Tenant) QueuedGroups(ctx context.Context, repository string) ([]MergeGroup, error) {
	var out []MergeGroup
	err := t.query(ctx, "merge groups", func(rows *sql.Rows) error {
		g := MergeGroup{Repository: repository}
		var head, base string
		if err := rows.Scan(&head, &g.HeadRef, &base, &g.BaseRef, &g.Active); err != nil {
			return err
		}
		out = append(out, g)
		return commits("merge group", repository+" "+head, parse{&out[len(out)-1].Head, head}, parse{&out[len(out)-1].Base, base})
	}, `SELECT head, head_ref, base, base_ref, active FROM merge_group WHERE account = $1 AND repository = $2 AND active AND head_ref LIKE 'refs/heads/gh-readonly-queue/%' ORDER BY head`,
		repository)
	return out, err
}

// LatestVerdict is the newest verdict on a line at this head, or ErrNotFound.
func (t *Tenant) LatestVerdict(ctx context.Context, repository, line string, head name.Commit) (Verdict, error) {
	return t.latest(ctx, line, `SELECT `+verdictColumns+` FROM verdict
		WHERE account = $1 AND repository = $2 AND line = $3 AND head = $4 ORDER BY at DESC, version DESC, id LIMIT 1`,
		repository, line, head.String())
}

// LatestLineVerdict is the newest verdict on a line, whatever its head, or ErrNotFound.
func (t *Tenant) LatestLineVerdict(ctx context.Context, repository, line string) (Verdict, error) {
	return t.latest(ctx, line, `SELECT `+verdictColumns+` FROM verdict
		WHERE account = $1 AND repository = $2 AND line = $3 ORDER BY at DESC, version DESC, id LIMIT 1`, repository, line)
}

func (t *Tenant) latest(ctx context.Context, line, statement string, args ...any) (Verdict, error) {
	var v Verdict
	found := false
	err := t.query(ctx, "verdict", func(rows *sql.Rows) (err error) {
		found = true
		v, err = scanVerdict(rows)
		return err
	}, statement, args...)
	switch {
	case err != nil:
		return Verdict{}, err
	case !found:
		return Verdict{}, fmt.Errorf("verdict of line %q: %w", line, ErrNotFound)
	}
	return v, nil
}

// parse is a commit's stored text and where it goes.
type parse struct {
	to *name.Commit
	id string
}

// commits reads the commits of a row.
func commits(noun, key string, ps ...parse) error {
	for _, p := range ps {
		if err := p.to.UnmarshalText([]byte(p.id)); err != nil {
			return &CorruptError{Noun: noun, Key: key, Cause: err}
		}
	}
	return nil
}

// PendingDeliveries lists up to limit deliveries, of all tenants, that were received before olderThan and have
// not ended: those that were tried least come first, and of these the oldest.
func (s *Store) PendingDeliveries(ctx context.Context, olderThan time.Time, limit int) ([]DeliveryKey, error) {
	var out []DeliveryKey
	err := s.everywhere(ctx, "pending deliveries", func(account name.Account, rest []string) error {
		out = append(out, DeliveryKey{account, rest[0]})
		return nil
	}, 1, `SELECT account, guid FROM delivery WHERE state = 'received' AND received_at < $1 ORDER BY attempts, received_at, account, guid LIMIT $2`,
		olderThan.UnixMicro(), max(limit, 0))
	return out, err
}

// WantedHeads lists up to limit heads, of all tenants, that are wanted again since they were last done: those
// that changed longest ago come first.
func (s *Store) WantedHeads(ctx context.Context, limit int) ([]HeadKey, error) {
	var out []HeadKey
	err := s.everywhere(ctx, "wanted heads", func(account name.Account, rest []string) error {
		k := HeadKey{Account: account, Repository: rest[0]}
		err := commits("head", rest[0], parse{&k.SHA, rest[1]})
		out = append(out, k)
		return err
	}, 2, `SELECT account, repository, sha FROM head WHERE wanted > done ORDER BY changed_at, account, repository, sha LIMIT $1`, max(limit, 0))
	return out, err
}

// AccountsWithBodies lists the accounts that DropDeliveryBodies has something to do for, in byte order.
func (s *Store) AccountsWithBodies(ctx context.Context, before time.Time) ([]name.Account, error) {
	var out []name.Account
	err := s.everywhere(ctx, "deliveries", func(account name.Account, _ []string) error {
		out = append(out, account)
		return nil
	}, 0, `SELECT DISTINCT account FROM delivery WHERE body IS NOT NULL AND state <> 'received' AND received_at < $1 ORDER BY account`,
		before.UnixMicro())
	return out, err
}
