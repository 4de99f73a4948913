package waiver

import (
	"errors"
	"fmt"
	"slices"
	"time"
)

// Permission is what GitHub says somebody may do in a repository. The zero value says that GitHub did not say.
type Permission string

// The permissions, the least first.
const (
	None     Permission = "none"
	Read     Permission = "read"
	Triage   Permission = "triage"
	Write    Permission = "write"
	Maintain Permission = "maintain"
	Admin    Permission = "admin"
)

var permissions = []Permission{None, Read, Triage, Write, Maintain, Admin}

// AtLeast reports whether p includes q. An unknown permission includes nothing and is included in nothing.
func (p Permission) AtLeast(q Permission) bool {
	at := slices.Index(permissions, q)
	return at >= 0 && slices.Index(permissions, p) >= at
}

// Terms are what a waiver needs. Those in force when it was asked for are part of its document: a policy that
// changes later neither weakens nor voids what was decided under it.
type Terms struct {
	Approvals   int         `json:"approvals"`   // how many people must approve, at least 1
	Permission  Permission  `json:"permission"`  // the least that each of them has: maintain or admin
	Kind        Kind        `json:"kind"`        // where the request names none
	Kinds       []KindTerms `json:"kinds"`       // one per kind that may be asked for, in the order of Kinds
	MinReason   int         `json:"minReason"`   // characters, at least MinReason
	PendingDays int         `json:"pendingDays"` // after which an unanswered request lapses
}

// KindTerms bound how long a waiver of one kind lasts.
type KindTerms struct {
	Kind        Kind `json:"kind"`
	DefaultDays int  `json:"defaultDays"`
	MaxDays     int  `json:"maxDays"`
}

// DefaultTerms are those where no policy says otherwise: one approver with maintain or admin permission, an
// accepted risk, 30 days and at most 90, a week to decide.
func DefaultTerms() Terms {
	t := Terms{Approvals: 1, Permission: Maintain, Kind: AcceptedRisk, MinReason: MinReason, PendingDays: 7}
	for _, k := range Kinds() {
		t.Kinds = append(t.Kinds, KindTerms{k, 30, 90})
	}
	return t
}

// Of returns the bounds of one kind, and whether it may be asked for.
func (t Terms) Of(k Kind) (KindTerms, bool) {
	i := slices.IndexFunc(t.Kinds, func(kt KindTerms) bool { return kt.Kind == k })
	if i < 0 {
		return KindTerms{}, false
	}
	return t.Kinds[i], true
}

// Check tells what is wrong with terms, or nil. No terms let a waiver pass without somebody's approval.
func (t Terms) Check() error {
	switch {
	case t.Approvals < 1 || t.Approvals > 20:
		return fmt.Errorf("terms: %d approvals: want 1 to 20", t.Approvals)
	case t.Permission != Maintain && t.Permission != Admin:
		return fmt.Errorf("terms: permission %s: want maintain or admin", quote(string(t.Permission)))
	case t.MinReason < MinReason || t.MinReason > MaxReason:
		return fmt.Errorf("terms: reasons of at least %d characters: want %d to %d", t.MinReason, MinReason, MaxReason)
	case t.PendingDays < 1 || t.PendingDays > maxDays:
		return fmt.Errorf("terms: %d days to decide: want at least 1", t.PendingDays)
	}
	if _, ok := t.Of(t.Kind); !ok {
		return fmt.Errorf("terms: kind %s has no bounds", quote(string(t.Kind)))
	}
	last := -1
	for _, k := range t.Kinds {
		at := slices.Index(Kinds(), k.Kind)
		if at <= last {
			return errors.New("terms: kinds are unknown, repeated or out of order")
		}
		last = at
		if k.DefaultDays < 1 || k.DefaultDays > k.MaxDays || k.MaxDays > maxDays {
			return fmt.Errorf("terms: kind %s: %d days, at most %d: want 1 or more, and no more than the maximum", k.Kind, k.DefaultDays, k.MaxDays)
		}
	}
	return nil
}

// End is the last second of a waiver of kind k that is asked for at now: 23:59:59 UTC of the day until, or of
// the day that many days from now, or of the default. At most one of until (YYYY-MM-DD) and days is given. What
// is past or above the maximum is refused, never shortened.
func (t Terms) End(k Kind, until string, days int, now time.Time) (time.Time, error) {
	bounds, ok := t.Of(k)
	if !ok {
		var may []string
		for _, kt := range t.Kinds {
			may = append(may, string(kt.Kind))
		}
		return time.Time{}, refuse(BadValue, "kind=%s cannot be asked for here. Valid are %s.", quote(string(k)), list(may))
	}
	if until != "" && days != 0 {
		return time.Time{}, refuse(BadTerm, "Give either until= or for=, not both.")
	}
	latest := endOfDay(now, bounds.MaxDays)
	said := fmt.Sprintf("for=%dd", days)
	end := endOfDay(now, days)
	switch {
	case until != "":
		day, err := time.Parse(time.DateOnly, until)
		if err != nil {
			return time.Time{}, refuse(BadTerm, "until=%s is no day. Write the last day as year, month and day, such as until=%s.", quote(until), endOfDay(now, bounds.DefaultDays).Format(time.DateOnly))
		}
		said, end = "until="+until, endOfDay(day, 0)
	case days == 0:
		end = endOfDay(now, bounds.DefaultDays)
	case days < 0:
		return time.Time{}, refuse(BadTerm, "for=%dd is no length of time. Write days or weeks, such as for=30d or for=4w.", days)
	}
	switch {
	case end.Before(now):
		return time.Time{}, refuse(BadTerm, "%s is in the past. Name a day from today to %s (UTC).", said, latest.Format(time.DateOnly))
	case end.After(latest):
		return time.Time{}, refuse(TooLong, "%s exceeds the %d days allowed for %s. Name a day up to %s, or for=%dd at most.", said, bounds.MaxDays, k, latest.Format(time.DateOnly), bounds.MaxDays)
	}
	return end, nil
}

func endOfDay(t time.Time, days int) time.Time {
	y, m, d := t.UTC().Date()
	return time.Date(y, m, d+days, 23, 59, 59, 0, time.UTC)
}

// lapses is when a request made at the given time lapses unanswered.
func (t Terms) lapses(requested time.Time) time.Time {
	return requested.Add(time.Duration(t.PendingDays) * 24 * time.Hour)
}
