package store

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/noxaudit/noxaudit/internal/name"
)

// prepareGitHub is the part of prepare for GitHub's front.
func (p *prepared) prepareGitHub() error {
	repositories := p.Change.repositories()
	slices.SortFunc(repositories, func(a, b Repository) int { return strings.Compare(a.ID, b.ID) })
	for _, r := range repositories {
		row := []any{r.ID, r.FullName, nil, nil, nil, nil, nil, nil, nil} // NULL keeps what is there
		if o := r.Origin; o != nil {
			row = []any{r.ID, r.FullName, o.Installation, unlessEmpty(o.Owner), unlessEmpty(o.Name), unlessEmpty(o.DefaultBranch),
				o.Private, o.Archived, o.Covered}
		}
		p.repositoryRows = append(p.repositoryRows, row)
	}
	pulls := slices.Clone(p.Pulls)
	slices.SortFunc(pulls, func(a, b Pull) int {
		return cmp.Or(strings.Compare(a.Repository, b.Repository), cmp.Compare(a.Number, b.Number))
	})
	for _, u := range pulls {
		p.pullRows = append(p.pullRows, []any{
			u.Repository, int64(u.Number), u.Head.String(), clipped(u.HeadRef), u.HeadRepo, u.BaseRef, u.Base.String(),
			u.Draft, u.Open, clipped(u.Title), u.AuthorID, clipped(u.Author), u.UpdatedAt.UnixMicro(), u.Follows, u.Pusher,
		})
	}
	for _, w := range p.Want {
		p.heads = append(p.heads, headStep{repository: w.Repository, sha: w.SHA, rejudge: w.Rejudge, anew: w.Anew})
	}
	if h := p.HeadCheck; h != nil {
		p.heads = append(p.heads, headStep{repository: h.Repository, sha: h.SHA, check: h})
	}
	// Stable: a head that is wanted and reported on in one change is wanted first.
	slices.SortStableFunc(p.heads, func(a, b headStep) int {
		return cmp.Or(strings.Compare(a.repository, b.repository), strings.Compare(a.sha.String(), b.sha.String()))
	})
	if d := p.Delivery; d != nil {
		var err error
		if p.delivery, err = pack(Document{Body: d.Body}); err != nil {
			return fmt.Errorf("delivery %s: %w", d.GUID, err)
		}
	}
	return nil
}

func unlessEmpty(s string) any {
	if s == "" {
		return nil
	}
	return s
}

// headStep is one write to a head: a want, or what became of its check.
type headStep struct {
	repository string
	sha        name.Commit
	rejudge    bool
	anew       bool
	check      *HeadCheck
}

// applyDelivery comes first, so that of two changes for one delivery the second waits here and then does
// nothing.
func (w *writer) applyDelivery(ctx context.Context, p prepared) error {
	if d := p.Delivery; d != nil {
		n, err := w.exec(ctx, "delivery "+d.GUID,
			`INSERT INTO delivery (account, guid, event, action, installation, received_at, encoding, size, body)
			VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9) ON CONFLICT (account, guid) DO NOTHING`,
			d.GUID, d.Event, d.Action, d.Installation, d.Received.UnixMicro(), p.delivery.encoding, int64(p.delivery.size), p.delivery.body)
		if err != nil {
			return err
		}
		if n != 1 {
			return fmt.Errorf("delivery %s: %w", d.GUID, ErrDuplicateDelivery)
		}
	}
	if d := p.DeliveryDone; d != nil {
		n, err := w.exec(ctx, "delivery "+d.GUID, `UPDATE delivery SET state = $3, note = $4, processed_at = $5
			WHERE account = $1 AND guid = $2 AND state = 'received'`, d.GUID, d.State, clipped(d.Note), d.At.UnixMicro())
		if err != nil || n == 1 {
			return err
		}
		return w.whyNotReceived(ctx, d.GUID)
	}
	return nil
}

func (w *writer) applyInstallation(ctx context.Context, p prepared) error {
	i := p.Installation
	if i == nil {
		return nil
	}
	_, err := w.exec(ctx, "installation", `INSERT INTO installation (account, id, login, state, changed_at) VALUES ($1, $2, $3, $4, $5)
		ON CONFLICT (account, id) DO UPDATE SET login = excluded.login, state = excluded.state, changed_at = excluded.changed_at
		WHERE installation.state <> 'deleted' AND (installation.login <> excluded.login OR installation.state <> excluded.state)`,
		i.ID, i.Login, i.State, p.Time.UnixMicro())
	return err
}

func (w *writer) applyRepositories(ctx context.Context, p prepared) error {
	at := p.Time.UnixMicro()
	_, err := w.tuples(ctx, "repositories",
		`INSERT INTO repository (account, version, first_seen, last_changed, id, full_name,
			installation, owner, name, default_branch, private, archived, covered) VALUES %s
		ON CONFLICT (account, id) DO UPDATE SET
			version = repository.version + CASE WHEN repository.full_name = excluded.full_name THEN 0 ELSE 1 END,
			full_name = excluded.full_name, last_changed = excluded.last_changed,
			installation = COALESCE(excluded.installation, repository.installation),
			owner = COALESCE(excluded.owner, repository.owner),
			name = COALESCE(excluded.name, repository.name),
			default_branch = COALESCE(excluded.default_branch, repository.default_branch),
			private = COALESCE(excluded.private, repository.private),
			archived = COALESCE(excluded.archived, repository.archived),
			covered = COALESCE(excluded.covered, repository.covered)
		WHERE (repository.full_name, repository.installation, repository.owner, repository.name,
			repository.default_branch, repository.private, repository.archived, repository.covered)
		IS DISTINCT FROM (excluded.full_name, COALESCE(excluded.installation, repository.installation),
			COALESCE(excluded.owner, repository.owner), COALESCE(excluded.name, repository.name),
			COALESCE(excluded.default_branch, repository.default_branch), COALESCE(excluded.private, repository.private),
			COALESCE(excluded.archived, repository.archived), COALESCE(excluded.covered, repository.covered))`,
		[]any{int64(1), at, at}, p.repositoryRows)
	return err
}

// applyPulls lets an older description change nothing. An equally old one does not open what is closed, and brings
// another head only where it follows on the one that is there.
func (w *writer) applyPulls(ctx context.Context, p prepared) error {
	_, err := w.tuples(ctx, "pull requests",
		`INSERT INTO pull (account, repository, number, head, head_ref, head_repo, base_ref, base,
			draft, open, title, author_id, author, updated_at, follows, pusher) VALUES %s
		ON CONFLICT (account, repository, number) DO UPDATE SET
			head = excluded.head, head_ref = excluded.head_ref, head_repo = excluded.head_repo,
			base_ref = excluded.base_ref, base = excluded.base, draft = excluded.draft, open = excluded.open,
			title = excluded.title, author_id = excluded.author_id, author = excluded.author, updated_at = excluded.updated_at,
			follows = excluded.follows,
			pusher = CASE WHEN excluded.pusher = 0 AND excluded.head = pull.head THEN pull.pusher ELSE excluded.pusher END
		WHERE excluded.updated_at > pull.updated_at
			OR (excluded.updated_at = pull.updated_at AND (pull.open OR NOT excluded.open)
				AND (excluded.follows IN ('', pull.head) OR excluded.head = pull.head))`, nil, p.pullRows)
	return err
}

func (w *writer) applyMergeGroup(ctx context.Context, p prepared) error {
	g := p.MergeGroup
	if g == nil {
		return nil
	}
	_, err := w.exec(ctx, "merge group", `INSERT INTO merge_group (account, repository, head, head_ref, base, base_ref, active)
		VALUES ($1, $2, $3, $4, $5, $6, $7)
		ON CONFLICT (account, repository, head) DO UPDATE SET
			head_ref = excluded.head_ref, base = excluded.base, base_ref = excluded.base_ref, active = excluded.active
		WHERE excluded.base <> excluded.head OR merge_group.base = merge_group.head`,
		g.Repository, g.Head.String(), clipped(g.HeadRef), g.Base.String(), g.BaseRef, g.Active)
	return err
}

func (w *writer) applyHeads(ctx context.Context, p prepared) error {
	for _, h := range p.heads {
		noun := "head " + h.repository + " " + h.sha.String()
		if h.check == nil {
			_, err := w.exec(ctx, noun, `INSERT INTO head (account, repository, sha, wanted, audit_wanted, changed_at) VALUES ($1, $2, $3, 1, 1, $4)
				ON CONFLICT (account, repository, sha) DO UPDATE SET wanted = head.wanted + 1, changed_at = excluded.changed_at,
					audit_wanted = CASE WHEN $5 THEN head.audit_wanted ELSE head.wanted + 1 END,
					check_id = CASE WHEN $6 THEN 0 ELSE head.check_id END,
					check_tried = CASE WHEN $6 THEN FALSE ELSE head.check_tried END,
					check_state = CASE WHEN $6 THEN '' ELSE head.check_state END`,
				h.repository, h.sha.String(), p.Time.UnixMicro(), h.rejudge, h.anew)
			if err != nil {
				return err
			}
			continue
		}
		c := h.check
		n, err := w.exec(ctx, noun, `UPDATE head SET changed_at = $4,
				check_id = COALESCE(NULLIF(CAST($5 AS BIGINT), 0), check_id),
				check_tried = CASE WHEN $6 THEN TRUE ELSE check_tried END,
				check_state = COALESCE(NULLIF($7, ''), check_state),
				published = COALESCE(NULLIF($8, ''), published),
				done = CASE WHEN CAST($9 AS BIGINT) > done THEN $9 ELSE done END
			WHERE account = $1 AND repository = $2 AND sha = $3 AND CAST($9 AS BIGINT) <= wanted`,
			h.repository, h.sha.String(), p.Time.UnixMicro(), c.CheckID, c.Tried, c.State, c.Published, c.Done)
		if err != nil {
			return err
		}
		if n != 1 {
			return fmt.Errorf("%s, wanted %d times: %w", noun, c.Done, ErrNotFound)
		}
	}
	return nil
}
