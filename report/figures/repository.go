package figures

import (
	"context"
	"fmt"
	"time"

	"github.com/noxaudit/noxaudit/internal/finding"
	"github.com/noxaudit/noxaudit/internal/name"
	"github.com/noxaudit/noxaudit/internal/store"
)

// Repository page figures.

// RepositoryReport is one repository at one look.
type RepositoryReport struct {
	Repo
	At       time.Time
	Pulls    []PullState // open ones, the newest first
	MorePull bool        // there are more than the page shows
	Findings []store.FindingRow
	Verdicts []store.Verdict // the newest on any line
	Newest   *Verdict        // on the default branch; nil for none
}

const mostPulls = 50

// PullState is an open pull request and the newest verdict on it.
type PullState struct {
	store.Pull
	Line store.LineState
}

// Current reports whether the verdict is about the head as GitHub told it last.
func (p PullState) Current() bool { return p.Line.Verdict != "" && p.Line.Head == p.Head }

// RepositoryReport is about the default branch and the open pull requests.
func (f *Figures) RepositoryReport(ctx context.Context, account name.Account, r store.Repository) (RepositoryReport, error) {
	t := f.Store.For(account)
	out := RepositoryReport{At: f.Now()}
	lines, err := t.LinesNamed(ctx, r.ID, []string{store.DefaultLine})
	if err != nil {
		return out, err
	}
	var line store.LineState
	if len(lines) > 0 {
		line = lines[0]
	}
	counts, err := t.OpenCountsOf(ctx, r.ID, store.DefaultLine)
	if err != nil {
		return out, err
	}
	out.Repo = f.repo(r, line, counts, out.At)
	pulls, err := t.OpenPulls(ctx, r.ID)
	if err != nil {
		return out, err
	}
	if out.MorePull = len(pulls) > mostPulls; out.MorePull {
		pulls = pulls[len(pulls)-mostPulls:] // by number: the newest
	}
	var names []string
	for _, p := range pulls {
		names = append(names, PullLine(p.Number))
	}
	if lines, err = t.LinesNamed(ctx, r.ID, names); err != nil {
		return out, err
	}
	byName := map[string]store.LineState{}
	for _, l := range lines {
		byName[l.Name] = l
	}
	for i := len(pulls) - 1; i >= 0; i-- {
		out.Pulls = append(out.Pulls, PullState{pulls[i], byName[PullLine(pulls[i].Number)]})
	}
	if out.Findings, err = t.Findings(ctx, store.FindingFilter{Repository: r.ID}, 10); err != nil {
		return out, err
	}
	if out.Verdicts, err = t.Verdicts(ctx, r.ID, mostRecent); err != nil {
		return out, err
	}
	if line.Verdict != "" {
		v, err := f.Verdict(ctx, account, line.Verdict)
		if err != nil {
			return out, err
		}
		out.Newest = &v
	}
	return out, nil
}

// PullLine is the line of history of a pull request.
func PullLine(number int) string { return fmt.Sprintf("pull/%d", number) }

// FindingList is one page of findings.
type FindingList struct {
	Rows []store.FindingRow
	More bool
}

// Findings is one page of size rows.
func (f *Figures) Findings(ctx context.Context, account name.Account, filter store.FindingFilter, size int) (FindingList, error) {
	rows, err := f.Store.For(account).Findings(ctx, filter, size+1)
	if err != nil {
		return FindingList{}, err
	}
	l := FindingList{Rows: rows[:min(len(rows), size)], More: len(rows) > size}
	return l, nil
}

// RepositoriesOfFinding are up to ten repositories that know a finding by this id.
func (f *Figures) RepositoriesOfFinding(ctx context.Context, account name.Account, typed string) ([]store.Repository, error) {
	id, err := finding.ParseID(typed)
	if err != nil {
		return nil, nil
	}
	t := f.Store.For(account)
	ids, err := t.RepositoriesOfFinding(ctx, id, 10)
	if err != nil {
		return nil, err
	}
	var out []store.Repository
	for _, id := range ids {
		r, err := t.Repository(ctx, id)
		if err != nil {
			return nil, err
		}
		out = append(out, r)
	}
	return out, nil
}
