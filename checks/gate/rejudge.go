package gate

import (
	"context"
	"errors"

	"github.com/noxaudit/noxaudit/checks/audit"
	"github.com/noxaudit/noxaudit/internal/name"
	"github.com/noxaudit/noxaudit/internal/store"
	"github.com/noxaudit/noxaudit/policy/verdict"
)

// lastVerdict is the newest verdict on a line at a head; nil where there is none.
func (g *Gate) lastVerdict(ctx context.Context, tenant *store.Tenant, repository, line string, head name.Commit) (*verdict.Verdict, error) {
	row, err := tenant.LatestVerdict(ctx, repository, line, head)
	if errors.Is(err, store.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	d, err := tenant.Document(ctx, row.ID)
	if err != nil {
		return nil, err
	}
	v, err := verdict.ParseCanonical(d.Body)
	return &v, err
}

// rejudgeAll judges again what was found on every occasion of a head, under the policies of then and the waivers of
// now. Nothing is fetched and no auditor runs. It reports false where an occasion has no verdict yet: then the head has
// to be audited.
func (g *Gate) rejudgeAll(ctx context.Context, origin Origin, sha name.Commit, occasions []occasion) ([]told, bool, error) {
	var out []told
	for _, o := range occasions {
		t, err := g.rejudge(ctx, origin, sha, o)
		if err != nil || t == nil {
			return nil, false, err
		}
		out = append(out, *t)
	}
	return out, len(out) > 0, nil
}

func (g *Gate) rejudge(ctx context.Context, origin Origin, sha name.Commit, o occasion) (*told, error) {
	tenant := g.Store.For(origin.Repo.Account)
	for attempt := 1; ; attempt++ {
		// The version first: what is recorded meanwhile makes the commit below fail.
		line, err := tenant.Line(ctx, origin.Repo.ID, o.line)
		if err != nil {
			return nil, err
		}
		last, err := g.lastVerdict(ctx, tenant, origin.Repo.ID, o.line, sha)
		if err != nil || last == nil {
			return nil, err
		}
		in, err := loadInput(ctx, tenant, *last)
		if err != nil {
			return nil, err
		}
		at := g.Now()
		in.Time, in.Engine = at, g.Engine
		if in.Waivers, err = g.waiversFor(ctx, origin.Repo, in.Findings, at); err != nil {
			return nil, err
		}
		j, err := judged(in)
		if err != nil {
			return nil, err
		}
		t := &told{occasion: o, Judged: j, found: &Audited{Report: &audit.Report{Findings: in.Findings}}}
		err = g.recordJudgement(ctx, tenant, origin, o, line.Version, in.Waivers, j)
		if err == nil {
			asked, err := g.askedIn(ctx, origin.Repo, o)
			if err == nil {
				t.pending, err = pendingFor(asked, t.Verdict)
			}
			return t, err
		}
		if !errors.Is(err, store.ErrStale) || attempt == maxOvertaken {
			return nil, err
		}
	}
}

// recordJudgement keeps a verdict that was reached without an audit.
func (g *Gate) recordJudgement(ctx context.Context, tenant *store.Tenant, origin Origin, o occasion, version int64, ws []verdict.Waiver, j Judged) error {
	r := recording{
		g: g, now: g.Now(), tenant: tenant, version: version,
		req: Request{Repo: origin.Repo, Line: o.line, Actor: itself},
	}
	var c store.Change
	docs, err := waiverDocuments(ws)
	if err != nil {
		return err
	}
	c.Documents = append(docs, store.Document{Kind: kindVerdict, Body: j.Canonical})
	if err := r.verdict(&c, j, "", "waivers"); err != nil {
		return err
	}
	return r.commit(ctx, c)
}
