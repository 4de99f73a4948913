package figures

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/noxaudit/noxaudit/internal/finding"
	"github.com/noxaudit/noxaudit/internal/name"
	"github.com/noxaudit/noxaudit/internal/store"
	"github.com/noxaudit/noxaudit/policy/verdict"
)

// Story is a finding from its discovery on.
type Story struct {
	Finding  finding.Finding
	Lines    []store.FindingRow // every line that knows it, the oldest sighting first
	Open     bool               // on the default branch, or where it never was there, on any line
	Since    time.Time          // first sighting
	Resolved time.Time          // zero while it is open
	Limit    time.Time          // when its time is over; zero for severities without a limit, and for a pull request's
	Moments  []Moment           // in order of time
	Waivers  []Waiver
	At       time.Time
}

// Late is by how much it is, or was, past its limit.
func (s Story) Late() time.Duration {
	if s.Limit.IsZero() {
		return 0
	}
	end := s.At
	if !s.Open {
		end = s.Resolved
	}
	return max(0, end.Sub(s.Limit))
}

// Moment is one thing that happened to a finding.
type Moment struct {
	Kind    MomentKind
	Line    string // of history
	Entry   Entry
	Policy  string // of a verdict: the policies that act on the finding
	Verdict string // its digest
	Head    string // commit it was seen at
	Waiver  *Waiver
	Note    string
}

// MomentKind is what happened.
type MomentKind uint8

// The kinds.
const (
	MomentFound MomentKind = iota
	MomentBlocked
	MomentWarned
	MomentChanged
	MomentResolved
	MomentAsked    // for a waiver
	MomentApproved // one approval of it
	MomentWaived   // it holds
	MomentEnded    // it holds no longer
	MomentRefused
	MomentSuspended
)

// AmbiguousError says that an id is the start of several.
type AmbiguousError struct{ IDs []string }

func (e *AmbiguousError) Error() string {
	return fmt.Sprintf("the id is the start of %d findings", len(e.IDs))
}

// Story is what is known of a finding, by what a person typed of its id: ErrNotFound, or *AmbiguousError.
func (f *Figures) Story(ctx context.Context, account name.Account, repository, typed string) (Story, error) {
	id, err := finding.ParseID(typed)
	if err != nil {
		return Story{}, fmt.Errorf("finding %q: %w", typed, ErrNotFound)
	}
	t := f.Store.For(account)
	rows, err := t.FindingByID(ctx, repository, id)
	if err != nil {
		return Story{}, err
	}
	if len(rows) == 0 {
		return Story{}, fmt.Errorf("finding %q: %w", typed, ErrNotFound)
	}
	var ids []string
	for _, r := range rows {
		if !slices.Contains(ids, r.Finding.ID) {
			ids = append(ids, r.Finding.ID)
		}
	}
	if len(ids) > 1 {
		return Story{}, &AmbiguousError{IDs: ids}
	}
	s := Story{Lines: rows, At: f.Now(), Since: rows[0].FirstSeen}
	main := slices.IndexFunc(rows, func(r store.FindingRow) bool { return r.Line == store.DefaultLine })
	if main < 0 {
		main = len(rows) - 1
		for i, r := range rows {
			if r.Open {
				main = i
			}
		}
	}
	s.Finding, s.Open, s.Resolved = rows[main].Finding, rows[main].Open, rows[main].Resolved
	if limit := f.limits()[s.Finding.Severity]; limit > 0 && rows[main].Line == store.DefaultLine {
		s.Limit = rows[main].FirstSeen.AddDate(0, 0, limit)
	}
	for _, r := range rows {
		if err := s.add(ctx, t, r); err != nil {
			return Story{}, err
		}
	}
	if s.Waivers, err = f.waiversOf(ctx, account, repository, s.Finding); err != nil {
		return Story{}, err
	}
	for _, w := range s.Waivers {
		ms, err := f.WaiverStory(ctx, account, w)
		if err != nil {
			return Story{}, err
		}
		s.Moments = append(s.Moments, ms...)
	}
	slices.SortStableFunc(s.Moments, func(a, b Moment) int { return a.Entry.Time.Compare(b.Entry.Time) })
	return s, nil
}

// add tells what entries hold of one line's view. They are found by the times that the row names.
func (s *Story) add(ctx context.Context, t *store.Tenant, r store.FindingRow) error {
	source := store.Expect{Repository: r.Repository, Line: r.Line}.Source()
	times := []time.Time{r.FirstSeen}
	for _, at := range []time.Time{r.LastChanged, r.Resolved} {
		if !at.IsZero() && !slices.Contains(times, at) {
			times = append(times, at)
		}
	}
	for _, at := range times {
		entries, err := entriesAt(ctx, t, source, at)
		if err != nil {
			return err
		}
		told := false
		head := ""
		for _, e := range entries {
			if e.Type == "audit.completed" {
				var run struct {
					Head string `json:"head"`
				}
				_ = json.Unmarshal(raw(e), &run) // without it the moment names no commit
				head = run.Head
			}
		}
		for _, e := range entries {
			m := Moment{Line: r.Line, Entry: e, Head: head}
			switch {
			case e.Subject["fingerprint"] != r.Finding.Fingerprint:
				continue
			case e.Type == "finding.created":
				m.Kind = MomentFound
			case e.Type == "finding.updated":
				m.Kind = MomentChanged
			case e.Type == "finding.resolved":
				m.Kind = MomentResolved
			default:
				continue
			}
			told = true
			s.Moments = append(s.Moments, m)
		}
		if !told && at.Equal(r.FirstSeen) { // no entry tells of it: the row itself does
			s.Moments = append(s.Moments, Moment{Line: r.Line, Entry: Entry{Time: at, Seq: -1}})
		}
		for _, e := range entries {
			if e.Type == "verdict.reached" && !at.Equal(r.Resolved) {
				m, acts, err := s.decided(ctx, t, r, e)
				if err != nil {
					return err
				}
				if acts {
					s.Moments = append(s.Moments, m)
				}
			}
		}
	}
	return nil
}

// decided is what the verdict of an entry did about the finding.
func (s *Story) decided(ctx context.Context, t *store.Tenant, r store.FindingRow, e Entry) (Moment, bool, error) {
	d, err := t.Document(ctx, e.Subject["verdict"])
	if errors.Is(err, store.ErrNotFound) {
		return Moment{}, false, nil
	}
	if err != nil {
		return Moment{}, false, err
	}
	v, err := verdict.ParseCanonical(d.Body)
	if err != nil {
		return Moment{}, false, corrupt("verdict", e.Subject["verdict"], err)
	}
	m := Moment{Line: r.Line, Entry: e, Verdict: e.Subject["verdict"], Head: v.Subject.Head.String()}
	for _, p := range v.Policies {
		names := func(refs []verdict.Ref) bool {
			return slices.ContainsFunc(refs, func(x verdict.Ref) bool {
				return x.Fingerprint == r.Finding.Fingerprint && x.Content == r.Finding.Content
			})
		}
		switch {
		case names(p.Blocking):
			m.Kind, m.Policy, m.Note = MomentBlocked, p.Name, p.Reason
			return m, true, nil
		case names(p.Warning) && m.Policy == "":
			m.Kind, m.Policy, m.Note = MomentWarned, p.Name, p.Reason
		}
	}
	return m, m.Policy != "", nil
}

func raw(e Entry) []byte {
	b, _ := e.Content.(json.RawMessage)
	return b
}
