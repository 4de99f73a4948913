package figures

import (
	"cmp"
	"context"
	"slices"
	"strings"
	"time"

	"github.com/noxaudit/noxaudit/internal/finding"
	"github.com/noxaudit/noxaudit/internal/name"
	"github.com/noxaudit/noxaudit/internal/store"
)

// Repo is a repository and how it stands.
type Repo struct {
	store.Repository
	Health
	Open   BySeverity
	Oldest [finding.Critical + 1]time.Time // first sighting of the oldest open finding; zero for none
	Line   store.LineState                 // the default branch
}

// Repositories are all that the account has, the worst first: by state, score, number of open findings, name.
func (f *Figures) Repositories(ctx context.Context, account name.Account) ([]Repo, error) {
	t := f.Store.For(account)
	repositories, err := t.AllRepositories(ctx)
	if err != nil {
		return nil, err
	}
	lines, err := t.DefaultLines(ctx)
	if err != nil {
		return nil, err
	}
	counts, err := t.OpenCounts(ctx)
	if err != nil {
		return nil, err
	}
	byLine := make(map[string]store.LineState, len(lines))
	for _, l := range lines {
		byLine[l.Repository] = l
	}
	byCount := make(map[string][]store.OpenCount, len(repositories))
	for _, c := range counts {
		byCount[c.Repository] = append(byCount[c.Repository], c)
	}
	now := f.Now()
	out := make([]Repo, len(repositories))
	for i, r := range repositories {
		out[i] = f.repo(r, byLine[r.ID], byCount[r.ID], now)
	}
	slices.SortStableFunc(out, func(a, b Repo) int {
		return cmp.Or(cmp.Compare(b.State, a.State), cmp.Compare(a.Score, b.Score), cmp.Compare(b.Open.Total(), a.Open.Total()),
			strings.Compare(a.FullName, b.FullName))
	})
	return out, nil
}

func (f *Figures) repo(r store.Repository, line store.LineState, counts []store.OpenCount, now time.Time) Repo {
	out := Repo{Repository: r, Line: line, Health: reckon(counts, line, f.limits(), now)}
	for _, c := range counts {
		if c.Severity <= finding.Critical {
			out.Open[c.Severity], out.Oldest[c.Severity] = c.Open, c.Oldest
		}
	}
	return out
}

// LimitsInForce are the time limits that figures go by.
func (f *Figures) LimitsInForce() Limits { return f.limits() }

// Overview is an account at one look.
type Overview struct {
	At           time.Time
	Repositories []Repo // the worst first
	States       [Critical + 1]int
	Open         BySeverity
	Trend        Trend
	Joined       int // repositories that became known after the first day that the trend knows
	Types        []store.TypeCount
	Verdicts     []Recent
	Waivers      WaiverSummary
}

// mostTypes and mostRecent bound the lists of an overview.
const (
	mostTypes  = 6
	mostRecent = 8
)

// Overview is about all of the account's repositories. span is the length of the trend in days, from 1 to 366.
func (f *Figures) Overview(ctx context.Context, account name.Account, span int) (Overview, error) {
	o := Overview{At: f.Now()}
	var err error
	if o.Repositories, err = f.Repositories(ctx, account); err != nil {
		return Overview{}, err
	}
	for _, r := range o.Repositories {
		o.States[r.State]++
		if r.State == NotAudited {
			continue
		}
		for s, n := range r.Open {
			o.Open[s] += n
		}
	}
	t := f.Store.For(account)
	first := store.Day(o.At) - int64(span) + 1
	steps, err := t.Days(ctx, first)
	if err != nil {
		return Overview{}, err
	}
	o.Trend = trend(o.Open, steps, first, span)
	from := first - 1 // with nothing known, all of the span
	if o.Trend.Known < span {
		from = first + int64(o.Trend.Known)
	}
	for _, r := range o.Repositories {
		if store.Day(r.FirstSeen) > from {
			o.Joined++
		}
	}
	if o.Types, err = t.OpenTypes(ctx, mostTypes); err != nil {
		return Overview{}, err
	}
	if o.Verdicts, err = f.Recent(ctx, account, mostRecent); err != nil {
		return Overview{}, err
	}
	open, err := f.OpenWaivers(ctx, account)
	o.Waivers = f.Summarise(open)
	return o, err
}

// Trend is how many findings were open at the end of each day.
type Trend struct {
	First    int64      // the first day, since 1970
	Days     int        // how many
	Known    int        // index of the first day that anything is known of; Days when of none
	Series   [][]int    // by severity, then by day
	Opened   BySeverity // in all days together
	Resolved BySeverity
}

// trend goes back from what is open now.
func trend(open BySeverity, steps []store.DayCount, first int64, span int) Trend {
	t := Trend{First: first, Days: span, Known: span, Series: make([][]int, len(open))}
	change := make([][]int, len(open))
	for s := range t.Series {
		t.Series[s], change[s] = make([]int, span), make([]int, span)
	}
	for _, d := range steps {
		i := int(d.Day - first)
		if i < 0 || i >= span || d.Severity > finding.Critical {
			continue
		}
		change[d.Severity][i] += d.Opened - d.Resolved
		t.Opened[d.Severity] += d.Opened
		t.Resolved[d.Severity] += d.Resolved
		t.Known = min(t.Known, i)
	}
	for s := range t.Series {
		n := open[s]
		for i := span - 1; i >= 0; i-- {
			t.Series[s][i] = max(n, 0)
			n -= change[s][i]
		}
		if n != 0 { // something was open before the first day
			t.Known = 0
		}
	}
	return t
}

// Date is the day of index i.
func (t Trend) Date(i int) time.Time { return time.Unix((t.First+int64(i))*86400, 0).UTC() }

// Recent is a verdict as a list shows it.
type Recent struct {
	store.Verdict
	Repository store.Repository
}

// Recent are the account's newest verdicts.
func (f *Figures) Recent(ctx context.Context, account name.Account, limit int) ([]Recent, error) {
	t := f.Store.For(account)
	vs, err := t.RecentVerdicts(ctx, limit)
	if err != nil {
		return nil, err
	}
	known := map[string]store.Repository{}
	var out []Recent
	for _, v := range vs {
		r, ok := known[v.Repository]
		if !ok {
			if r, err = t.Repository(ctx, v.Repository); err != nil {
				return nil, err
			}
			known[v.Repository] = r
		}
		out = append(out, Recent{Verdict: v, Repository: r})
	}
	return out, nil
}
