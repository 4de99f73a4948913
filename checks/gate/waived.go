package gate

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/noxaudit/noxaudit/checks/audit"
	"github.com/noxaudit/noxaudit/internal/canon"
	"github.com/noxaudit/noxaudit/internal/finding"
	"github.com/noxaudit/noxaudit/internal/name"
	"github.com/noxaudit/noxaudit/internal/render"
	"github.com/noxaudit/noxaudit/internal/store"
	"github.com/noxaudit/noxaudit/policy/verdict"
	"github.com/noxaudit/noxaudit/policy/waiver"
)

// waiversFor are the waivers in force that cover one of these findings at a moment: what Judge is handed.
func (g *Gate) waiversFor(ctx context.Context, repo name.Repo, findings []finding.Finding, at time.Time) ([]verdict.Waiver, error) {
	rows, err := retry(ctx, g, func() ([]store.Waiver, error) { return g.Store.For(repo.Account).ActiveWaivers(ctx, repo.ID) })
	if err != nil || len(rows) == 0 {
		return nil, err
	}
	keys := make(map[waiver.Key]bool, len(findings))
	for _, f := range findings {
		keys[waiver.Key{Account: repo.Account.String(), Repository: repo.ID, Fingerprint: f.Fingerprint, Content: f.Content}] = true
	}
	var out []verdict.Waiver
	for _, row := range rows {
		w, err := readWaiver(row)
		if err != nil {
			return nil, err
		}
		k := w.Key()
		if !keys[k] || !waiver.Holds(w, k, at) {
			continue
		}
		until, err := time.Parse(time.RFC3339Nano, w.Document.Until)
		if err != nil {
			return nil, &store.CorruptError{Noun: "waiver", Key: w.ID, Cause: err}
		}
		out = append(out, verdict.Waiver{
			ID: w.ID, Digest: w.Digest, Fingerprint: k.Fingerprint, Content: k.Content, Kind: string(w.Document.Kind), Until: verdict.FormatTime(until),
		})
	}
	return out, nil
}

// askedIn are the open waivers that were asked for in the pull request of an occasion; none for another occasion.
func (g *Gate) askedIn(ctx context.Context, repo name.Repo, o occasion) ([]store.Waiver, error) {
	if o.pull == 0 {
		return nil, nil
	}
	open, err := retry(ctx, g, func() ([]store.Waiver, error) { return g.Store.For(repo.Account).OpenWaivers(ctx, repo.ID) })
	return slices.DeleteFunc(open, func(w store.Waiver) bool { return w.Pull != o.pull }), err
}

// pendingFor are the waivers that wait for a decision, of what blocks a pull request: those that were asked for in it.
func pendingFor(asked []store.Waiver, v verdict.Verdict) ([]render.Pending, error) {
	if v.Conclusion != verdict.Blocked {
		return nil, nil
	}
	blocking := blockers(v)
	var out []render.Pending
	for _, row := range asked {
		const most = 5
		if !slices.Contains(blocking, row.Finding) || len(out) == most {
			continue
		}
		w, err := readWaiver(row)
		if err != nil {
			return nil, err
		}
		if missing := w.Missing(); missing > 0 {
			out = append(out, render.Pending{Finding: row.Finding, Waiver: w.ID, Missing: missing, Line: "/noxaudit approve " + w.Name()})
		}
	}
	return out, nil
}

// resolvePending ends requests whose finding the pull request no longer has: there is nothing left to decide. One that
// is gone only because nobody could look stays. A waiver in force is left alone: it is for the whole repository.
func (g *Gate) resolvePending(ctx context.Context, repo name.Repo, asked []store.Waiver, found *audit.Report) error {
	tenant := g.Store.For(repo.Account)
	here := map[string]bool{}
	for _, f := range found.Findings {
		here[f.Fingerprint+" "+f.Content] = true
	}
	for _, row := range asked {
		if row.State != string(waiver.Pending) || here[row.Fingerprint+" "+row.Content] {
			continue
		}
		w, err := readWaiver(row)
		if err != nil {
			return err
		}
		auditor, _, _ := strings.Cut(w.Document.Finding.Type, "/")
		if len(resolvable([]finding.Finding{{Auditor: auditor, Path: w.Document.Finding.Path}}, found.Assessments)) == 0 {
			continue
		}
		at := g.Now()
		next, err := waiver.Apply(w, waiver.Resolve{}, waiver.Facts{Time: at})
		if err != nil {
			return err
		}
		if row, err = waiverRow(next, row.Version); err != nil {
			return err
		}
		c := store.Change{Time: at, Waivers: []store.Waiver{row}}
		err = g.entry(&c, at, repo.Account, "waiver/"+w.ID, "waiver.resolved", itself,
			map[string]string{"waiver": w.ID, "repository": repo.ID, "finding": w.Document.Finding.ID, "pull": strconv.Itoa(row.Pull)}, map[string]any{"state": next.State})
		if err != nil {
			return err
		}
		if err := tenant.Commit(ctx, c); err != nil && !errors.Is(err, store.ErrStale) { // stale: somebody decided just now
			return err
		}
	}
	return nil
}

// readWaiver reads a waiver back and checks that the row says what it says.
func readWaiver(row store.Waiver) (waiver.Waiver, error) {
	var w waiver.Waiver
	err := canon.Unmarshal(row.Body, &w)
	if err == nil {
		var digest string
		if digest, err = w.Document.Digest(); err == nil && (digest != w.Digest || w.ID != row.ID || w.Digest != row.Digest || string(w.State) != row.State ||
			w.Document.Repository.ID != row.Repository || w.Document.Finding.Fingerprint != row.Fingerprint || (w.Suspended != nil) != row.Suspended) {
			err = fmt.Errorf("the row says something else than the waiver")
		}
	}
	if err != nil {
		return waiver.Waiver{}, &store.CorruptError{Noun: "waiver", Key: row.ID, Cause: err}
	}
	return w, nil
}

// waiverRow is a waiver as it is stored: computed from version from of it, 0 for a new one.
func waiverRow(w waiver.Waiver, from int64) (store.Waiver, error) {
	body, err := canon.Marshal(w)
	if err != nil {
		return store.Waiver{}, err
	}
	d := w.Document
	requested, err := time.Parse(time.RFC3339Nano, d.Requested)
	if err != nil {
		return store.Waiver{}, err
	}
	until, err := time.Parse(time.RFC3339Nano, d.Until)
	if err != nil {
		return store.Waiver{}, err
	}
	row := store.Waiver{
		ID: w.ID, Digest: w.Digest, Repository: d.Repository.ID, Fingerprint: d.Finding.Fingerprint, Content: d.Finding.Content, Finding: d.Finding.ID,
		State: string(w.State), Suspended: w.Suspended != nil, Pull: d.Asked.Pull, Requester: d.Requester.ID, Requested: requested, Until: until,
		Version: from, Body: body,
	}
	switch w.State { // a second later: the last second counts in full
	case waiver.Active:
		row.Due = until.Add(time.Second)
	case waiver.Pending:
		row.Due = requested.Add(time.Duration(d.Terms.PendingDays)*24*time.Hour + time.Second)
		if end := until.Add(time.Second); end.Before(row.Due) {
			row.Due = end
		}
	}
	return row, nil
}

// affected are the heads of a repository whose last verdict was about one of these findings, each to be judged again;
// and those that are being looked at: the waivers that their verdict will rest on may have been read already. Heads of
// merge groups are among them, since what is waived in a pull request is waived in its group.
func (g *Gate) affected(ctx context.Context, tenant *store.Tenant, c *store.Change, repository string, fingerprints []string) error {
	if len(fingerprints) == 0 {
		return nil
	}
	pulls, err := tenant.OpenPulls(ctx, repository)
	if err != nil {
		return err
	}
	type place struct {
		line string
		head name.Commit
	}
	var places []place
	for _, p := range pulls {
		places = append(places, place{fmt.Sprintf("pull/%d", p.Number), p.Head})
	}
	if l, err := tenant.Line(ctx, repository, "default"); err != nil {
		return err
	} else if !l.Head.IsZero() {
		places = append(places, place{"default", l.Head})
	}
	groups, err := tenant.QueuedGroups(ctx, repository)
	if err != nil {
		return err
	}
	for _, m := range groups {
		places = append(places, place{"queue", m.Head})
	}
	for _, p := range places {
		h, err := tenant.Head(ctx, repository, p.head)
		if unlessUnknown(err) != nil {
			return err
		}
		if err == nil && h.Wanted > h.Done {
			wantRejudged(c, repository, p.head)
			continue
		}
		last, err := g.lastVerdict(ctx, tenant, repository, p.line, p.head)
		if err != nil {
			return err
		}
		if last == nil || !mentions(*last, fingerprints) {
			continue
		}
		wantRejudged(c, repository, p.head)
	}
	return nil
}

// wantRejudged wants a head judged again, once in a change.
func wantRejudged(c *store.Change, repository string, head name.Commit) {
	if !slices.ContainsFunc(c.Want, func(w store.Want) bool { return w.Repository == repository && w.SHA == head }) && len(c.Want) < store.MaxWants {
		c.Want = append(c.Want, store.Want{Repository: repository, SHA: head, Rejudge: true})
	}
}

// mentions reports whether a verdict acts on a finding, or may, where its lists are cut.
func mentions(v verdict.Verdict, fingerprints []string) bool {
	for _, p := range v.Policies {
		for _, refs := range [][]verdict.Ref{p.Blocking, p.Warning, p.Waived} {
			for _, r := range refs {
				if slices.Contains(fingerprints, r.Fingerprint) {
					return true
				}
			}
		}
		if p.Counts.Blocking > len(p.Blocking) || p.Counts.Warning > len(p.Warning) || p.Counts.Waived > len(p.Waived) {
			return true
		}
	}
	return false
}

// blockers are the findings that block under a verdict and may be waived, by id.
func blockers(v verdict.Verdict) []string {
	var ids []string
	for _, p := range v.Policies {
		if p.Waivable() {
			for _, r := range p.Blocking {
				ids = append(ids, r.ID)
			}
		}
	}
	slices.Sort(ids)
	return slices.Compact(ids)
}
