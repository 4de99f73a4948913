package figures

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/noxaudit/noxaudit/internal/finding"
	"github.com/noxaudit/noxaudit/internal/name"
)

// Waiver is a decision against a finding, as reports show it.
type Waiver struct {
	ID, Digest string // "W-9F2CHB"; of its content
	State      WaiverState
	Suspended  string // why it does not count although it is active: a comment it rested on was changed; "": it counts
	Kind       string // "accepted-risk", "false-positive", …
	Repository string // id
	Pull       int    // where it was asked for; 0: elsewhere
	Finding    Waived
	Reason     string // of outside origin
	Ticket     string
	Requester  Person
	Requested  time.Time
	Until      time.Time // the last moment of its term
	Lapses     time.Time // pending: when it lapses undecided
	Needed     int       // approvals
	Approvals  []Approval
	Who        string // who may approve, in words; "" when nothing is missing
	Ended      time.Time
	EndedBy    Person
	EndReason  string
	Renewals   int // how often it was renewed before
	Moments    []Moment
}

// Waived is the finding of a waiver as it was when it was asked for.
type Waived struct {
	ID, Fingerprint, Content string
	Title, Path              string
	Severity                 finding.Severity
}

// Person is somebody at GitHub.
type Person struct{ ID, Login string }

// Approval is one person's word for a waiver.
type Approval struct {
	Person
	For string // the team or right it was given with
	At  time.Time
}

// WaiverState is where a waiver stands in its life.
type WaiverState string

// The states: pending and active ones are open, the others have ended.
const (
	WaiverPending    WaiverState = "pending"
	WaiverActive     WaiverState = "active"
	WaiverRejected   WaiverState = "rejected"
	WaiverLapsed     WaiverState = "lapsed"
	WaiverExpired    WaiverState = "expired"
	WaiverRevoked    WaiverState = "revoked"
	WaiverSuperseded WaiverState = "superseded"
	WaiverResolved   WaiverState = "resolved"
)

// Open reports whether the waiver has not ended.
func (s WaiverState) Open() bool { return s == WaiverPending || s == WaiverActive }

// At is the state at a time: one whose term is over has expired, whether or not anybody wrote that down yet.
func (w Waiver) At(now time.Time) WaiverState {
	switch {
	case w.State == WaiverActive && !w.Until.IsZero() && now.After(w.Until):
		return WaiverExpired
	case w.State == WaiverPending && !w.Lapses.IsZero() && now.After(w.Lapses):
		return WaiverLapsed
	}
	return w.State
}

// moments tells the waiver's life.
func (w *Waiver) moments() []Moment {
	if w.Moments != nil {
		return w.Moments
	}
	at := func(k MomentKind, t time.Time) Moment {
		return Moment{Kind: k, Waiver: w, Entry: Entry{Time: t, Seq: -1}}
	}
	out := []Moment{at(MomentAsked, w.Requested)}
	for i, a := range w.Approvals {
		m := at(MomentApproved, a.At)
		if i == len(w.Approvals)-1 && len(w.Approvals) >= w.Needed {
			m.Kind = MomentWaived
		}
		m.Note = a.Login
		out = append(out, m)
	}
	if !w.Ended.IsZero() {
		out = append(out, at(MomentEnded, w.Ended))
	}
	return out
}

// WaiverBook are the waivers of one account.
type WaiverBook interface {
	// Open are those that are pending or active, in any order.
	Open(ctx context.Context) ([]Waiver, error)
	// Ended are those that ended, the newest end first, at most limit, from after the id after on ("": the first).
	Ended(ctx context.Context, after string, limit int) ([]Waiver, error)
	// Waiver is the one of this id, or ErrNotFound.
	Waiver(ctx context.Context, id string) (Waiver, error)
	// OfFinding are those about a finding of a repository.
	OfFinding(ctx context.Context, repository, fingerprint, content string) ([]Waiver, error)
}

// WaiverSummary is what an overview says of waivers.
type WaiverSummary struct {
	Kept                      bool // waivers are recorded here at all
	Pending, Active           int
	Suspended                 int
	EndingSoon                []Waiver // active ones that end within 14 days, the first to end first
	ByRepository              map[string]int
	RenewedTwice, MedianLife  int // waivers; days
	HighOrWorse, WithinDays14 int
}

// soon is when an end counts as near.
const soon = 14 * 24 * time.Hour

// WaiverSummary sums up the waivers that are open.
func (f *Figures) WaiverSummary(ctx context.Context, account name.Account) (WaiverSummary, error) {
	all, err := f.OpenWaivers(ctx, account)
	if err != nil || f.Waivers == nil {
		return WaiverSummary{}, err
	}
	return f.summarise(all), nil
}

func (f *Figures) summarise(all []Waiver) WaiverSummary {
	now := f.Now()
	s := WaiverSummary{Kept: true, ByRepository: map[string]int{}}
	var lives []int
	for _, w := range all {
		if w.State == WaiverPending {
			s.Pending++
			continue
		}
		s.Active++
		s.ByRepository[w.Repository]++
		lives = append(lives, int(w.Until.Sub(w.Requested).Hours()/24))
		if w.Suspended != "" {
			s.Suspended++
		}
		if w.Renewals >= 2 {
			s.RenewedTwice++
		}
		if w.Finding.Severity >= finding.High {
			s.HighOrWorse++
		}
		if w.Until.Sub(now) <= soon {
			s.EndingSoon = append(s.EndingSoon, w)
		}
	}
	s.WithinDays14 = len(s.EndingSoon)
	if len(lives) > 0 {
		slices.Sort(lives)
		s.MedianLife = lives[len(lives)/2]
	}
	return s
}

// SummariseWaivers is WaiverSummary of waivers that were read already.
func (f *Figures) SummariseWaivers(all []Waiver) WaiverSummary { return f.summarise(all) }

// OpenWaivers are the pending ones, the one that lapses first in front, then the active ones, the first to end in
// front. A waiver whose term is over is not among them.
func (f *Figures) OpenWaivers(ctx context.Context, account name.Account) ([]Waiver, error) {
	if f.Waivers == nil {
		return nil, nil
	}
	all, err := f.Waivers(account).Open(ctx)
	if err != nil {
		return nil, err
	}
	now := f.Now()
	all = slices.DeleteFunc(slices.Clone(all), func(w Waiver) bool { return !w.At(now).Open() })
	slices.SortStableFunc(all, func(a, b Waiver) int {
		if a.State != b.State {
			return -strings.Compare(string(a.State), string(b.State)) // pending before active
		}
		end := func(w Waiver) time.Time {
			if w.State == WaiverPending {
				return w.Lapses
			}
			return w.Until
		}
		return cmp.Or(end(a).Compare(end(b)), strings.Compare(a.ID, b.ID))
	})
	return all, nil
}

// EndedWaivers is one page of those that ended.
func (f *Figures) EndedWaivers(ctx context.Context, account name.Account, after string, size int) (out []Waiver, more bool, err error) {
	if f.Waivers == nil {
		return nil, false, nil
	}
	out, err = f.Waivers(account).Ended(ctx, after, size+1)
	if len(out) > size {
		return out[:size], true, err
	}
	return out, false, err
}

// Waiver is the waiver of this id; ErrNotFound.
func (f *Figures) Waiver(ctx context.Context, account name.Account, id string) (Waiver, error) {
	if f.Waivers == nil {
		return Waiver{}, fmt.Errorf("waiver %q: %w", id, ErrNotFound)
	}
	w, err := f.Waivers(account).Waiver(ctx, id)
	if err == nil {
		w.State = w.At(f.Now())
		w.Moments = w.moments()
	}
	return w, err
}

func (f *Figures) waiversOf(ctx context.Context, account name.Account, repository string, of finding.Finding) ([]Waiver, error) {
	if f.Waivers == nil {
		return nil, nil
	}
	ws, err := f.Waivers(account).OfFinding(ctx, repository, of.Fingerprint, of.Content)
	now := f.Now()
	for i := range ws {
		ws[i].State = ws[i].At(now)
	}
	return ws, err
}
