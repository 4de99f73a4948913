package figures

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/noxaudit/noxaudit/internal/canon"
	"github.com/noxaudit/noxaudit/internal/finding"
	"github.com/noxaudit/noxaudit/internal/name"
	"github.com/noxaudit/noxaudit/internal/store"
	"github.com/noxaudit/noxaudit/policy/waiver"
)

// Waiver is a waiver as reports show it.
type Waiver struct {
	waiver.Waiver
	State    waiver.State // at the time of the report: what is over has ended, whether or not anybody wrote that down yet
	Title    string       // of the finding, where the store knows it; else its type
	Severity finding.Severity
	Asked    time.Time
	Until    time.Time // the last second
	Lapses   time.Time // of a pending one; zero for others
	EndedAt  time.Time // zero while it is open
	Given    []waiver.Approval
	Changed  time.Time
}

// Counts reports whether it covers its finding at the time of the report.
func (w Waiver) Counts() bool { return w.State == waiver.Active && w.Suspended == nil }

// Open reports whether it has not ended.
func (w Waiver) Open() bool { return !w.State.Final() }

// Repository is the id of its repository.
func (w Waiver) Repository() string { return w.Document.Repository.ID }

func (f *Figures) waivers(ctx context.Context, t *store.Tenant, rows []store.Waiver) ([]Waiver, error) {
	now := f.Now()
	out := make([]Waiver, len(rows))
	ids := make([]string, len(rows))
	for i, row := range rows {
		w := Waiver{Changed: row.Changed}
		if err := canon.Unmarshal(row.Body, &w.Waiver); err != nil {
			return nil, corrupt("waiver", row.ID, err)
		}
		w.State, w.Asked, w.Until, w.Title = w.Waiver.State, row.Requested, row.Until, w.Document.Finding.Type
		if err := w.Severity.UnmarshalText([]byte(w.Document.Finding.Severity)); err != nil {
			return nil, corrupt("waiver", row.ID, err)
		}
		for _, a := range w.Approvals {
			if a.Void == "" {
				w.Given = append(w.Given, a)
			}
		}
		switch {
		case w.State == waiver.Active && now.After(w.Until):
			w.State, w.EndedAt = waiver.Expired, w.Until
		case w.State == waiver.Pending && !row.Due.IsZero() && now.After(row.Due):
			w.State, w.EndedAt = waiver.Lapsed, row.Due
		case w.State == waiver.Pending:
			w.Lapses = row.Due
		case w.End != nil:
			at, err := time.Parse(time.RFC3339Nano, w.End.Time)
			if err != nil {
				return nil, corrupt("waiver", row.ID, err)
			}
			w.EndedAt = at
		}
		out[i], ids[i] = w, row.Finding
	}
	titles, err := t.FindingTitles(ctx, ids)
	if err != nil {
		return nil, err
	}
	for i := range out {
		k := store.TitleKey{Repository: out[i].Repository(), Fingerprint: out[i].Document.Finding.Fingerprint}
		if title := titles[k]; title != "" {
			out[i].Title = title
		}
	}
	return out, nil
}

// WaiverSummary is what an overview says of waivers.
type WaiverSummary struct {
	Pending, Active, Suspended int
	EndingSoon                 []Waiver // active ones that end within 14 days, the first to end first
	MedianTerm                 int      // of the active ones, in days; an end is the last second of a day, so the rest of the first does not count
	HighOrWorse                int      // active ones
}

// soon is when an end counts as near.
const soon = 14 * 24 * time.Hour

// Summarise sums up waivers that are open.
func (f *Figures) Summarise(open []Waiver) WaiverSummary {
	now := f.Now()
	var s WaiverSummary
	var terms []int
	for _, w := range open {
		if w.State == waiver.Pending {
			s.Pending++
			continue
		}
		s.Active++
		terms = append(terms, int(w.Until.Sub(w.Asked)/(24*time.Hour)))
		if w.Suspended != nil {
			s.Suspended++
		}
		if w.Severity >= finding.High {
			s.HighOrWorse++
		}
		if w.Until.Sub(now) <= soon {
			s.EndingSoon = append(s.EndingSoon, w)
		}
	}
	if len(terms) > 0 {
		slices.Sort(terms)
		s.MedianTerm = (terms[(len(terms)-1)/2] + terms[len(terms)/2]) / 2
	}
	return s
}

// mostOpenWaivers bounds what a report reads.
const mostOpenWaivers = 5000

// OpenWaivers are the pending ones, the newest in front, then the active ones, the first to end in front. One whose
// time is over is not among them. At most 5,000.
func (f *Figures) OpenWaivers(ctx context.Context, account name.Account) ([]Waiver, error) {
	t := f.Store.For(account)
	rows, err := t.AccountOpenWaivers(ctx, mostOpenWaivers)
	if err != nil {
		return nil, err
	}
	all, err := f.waivers(ctx, t, rows)
	if err != nil {
		return nil, err
	}
	all = slices.DeleteFunc(all, func(w Waiver) bool { return !w.Open() })
	slices.SortStableFunc(all, func(a, b Waiver) int {
		switch {
		case a.State != b.State:
			return -strings.Compare(string(a.State), string(b.State)) // pending before active
		case a.State == waiver.Pending:
			return b.Asked.Compare(a.Asked)
		}
		return a.Until.Compare(b.Until)
	})
	return all, nil
}

// OpenWaiversOf are the open waivers of a repository.
func (f *Figures) OpenWaiversOf(ctx context.Context, account name.Account, repository string) ([]Waiver, error) {
	t := f.Store.For(account)
	rows, err := t.OpenWaivers(ctx, repository)
	if err != nil {
		return nil, err
	}
	all, err := f.waivers(ctx, t, rows)
	return slices.DeleteFunc(all, func(w Waiver) bool { return !w.Open() }), err
}

// EndedWaivers is one page of those that ended, the newest end first, from after a waiver on.
func (f *Figures) EndedWaivers(ctx context.Context, account name.Account, after *store.WaiverKey, size int) (out []Waiver, more bool, err error) {
	t := f.Store.For(account)
	rows, err := t.EndedWaivers(ctx, after, size+1)
	if err != nil {
		return nil, false, err
	}
	out, err = f.waivers(ctx, t, rows[:min(len(rows), size)])
	return out, len(rows) > size, err
}

// Waiver is the waiver of this id, in any case; ErrNotFound.
func (f *Figures) Waiver(ctx context.Context, account name.Account, typed string) (Waiver, error) {
	target, err := waiver.ParseTarget(typed)
	if err != nil || target.Kind != waiver.WaiverTarget {
		return Waiver{}, fmt.Errorf("waiver %q: %w", typed, ErrNotFound)
	}
	t := f.Store.For(account)
	row, err := t.WaiverByID(ctx, target.ID)
	if err != nil {
		return Waiver{}, err
	}
	ws, err := f.waivers(ctx, t, []store.Waiver{row})
	if err != nil {
		return Waiver{}, err
	}
	return ws[0], nil
}

func (f *Figures) waiversOf(ctx context.Context, account name.Account, repository string, of finding.Finding) ([]Waiver, error) {
	t := f.Store.For(account)
	rows, err := t.WaiversOfFinding(ctx, repository, of.Fingerprint)
	if err != nil {
		return nil, err
	}
	rows = slices.DeleteFunc(rows, func(r store.Waiver) bool { return r.Content != of.Content })
	return f.waivers(ctx, t, rows[:min(len(rows), 20)])
}

// WaiverStory is what entries tell of a waiver's life, refusals too, in their order; at most 200.
func (f *Figures) WaiverStory(ctx context.Context, account name.Account, w Waiver) ([]Moment, error) {
	source := "waiver/" + w.ID
	rows, err := f.Store.For(account).EntriesFrom(ctx, source, time.Unix(0, 0), 200)
	if err != nil {
		return nil, err
	}
	entries, err := parseEntries(source, rows)
	if err != nil {
		return nil, err
	}
	var out []Moment
	for _, e := range entries {
		kind, known := waiverMoments[e.Type]
		if !known {
			continue
		}
		var said struct {
			Reason string `json:"reason"`
			Note   string `json:"note"`
			Cause  string `json:"cause"`
			State  string `json:"state"`
		}
		if err := json.Unmarshal(raw(e), &said); err != nil && kind != MomentAsked {
			return nil, corrupt("entry", e.ID, err)
		}
		m := Moment{Kind: kind, Entry: e, Waiver: &w, Note: said.Reason}
		if said.Note != "" {
			m.Note = said.Note
		}
		if kind == MomentApproved && said.State == string(waiver.Active) {
			m.Kind = MomentWaived
		}
		if said.Cause != "" {
			m.Note = said.Cause
		}
		out = append(out, m)
	}
	return out, nil
}

var waiverMoments = map[string]MomentKind{
	"waiver.requested": MomentAsked, "waiver.approved": MomentApproved, "command.refused": MomentRefused, "waiver.suspended": MomentSuspended,
	"waiver.rejected": MomentEnded, "waiver.revoked": MomentEnded, "waiver.expired": MomentEnded, "waiver.lapsed": MomentEnded,
	"waiver.resolved": MomentEnded, "waiver.superseded": MomentEnded,
}
