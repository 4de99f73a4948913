// Package waiver holds the second noun of the product: everything that a person decides against a finding, for a
// time, with approvals. It reads what people write (ParseComment), fixes what they ask for (Document), and says
// what becomes of it (Apply). It is pure: facts about people and the time are handed in.
//
// # Binding
//
// A waiver is bound to a finding by fingerprint and content, inside one repository: not to a line, a commit or a
// pull request. It survives pushes and moved lines, and covers no finding that came later (Holds). Its document
// never changes; the id that people read, "W-" and eight characters of Crockford's base 32, is a prefix of the
// document's digest. "W-9QK3TZAB@1a2b3c4d" also names the first eight hexadecimal digits of that digest.
//
// # Life
//
//	pending   asked for; needs approvals within Terms.PendingDays, or it lapses
//	active    approved by as many people as the terms ask: only now it covers
//	rejected, lapsed, expired, revoked, resolved, superseded   ended, for good
//
// A waiver is suspended while a command comment on which it rests has been edited or deleted: what rests on it no
// longer counts, and the waiver covers nothing until enough people approve it anew.
//
// # Who
//
// A request needs at least triage permission. An approval needs the permission that the terms name, from a person
// who neither asked for the waiver nor has a part in the pull request it was asked in: its author, the authors,
// committers and co-authors of its commits, who pushed last. Bots and Apps do neither. What is not known counts
// against the person: an unknown permission, a commit that belongs to nobody.
//
// Texts in a waiver come from outside (reasons, paths, logins): whoever shows them escapes them.
package waiver

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/noxaudit/noxaudit/internal/escape"
	"github.com/noxaudit/noxaudit/internal/name"
	"github.com/noxaudit/noxaudit/policy/verdict"
)

// State is where a waiver stands.
type State string

// The states. All but pending and active are final.
const (
	Pending    State = "pending"
	Active     State = "active"
	Rejected   State = "rejected"
	Lapsed     State = "lapsed"
	Expired    State = "expired"
	Revoked    State = "revoked"
	Resolved   State = "resolved"
	Superseded State = "superseded"
)

// Final reports whether nothing can follow s.
func (s State) Final() bool { return s != Pending && s != Active }

// Waiver is a document and what became of it. Only Apply makes one.
type Waiver struct {
	Document  Document    `json:"document"`
	Digest    string      `json:"digest"` // of the document
	ID        string      `json:"id"`
	State     State       `json:"state"`
	Suspended *Suspension `json:"suspended,omitempty"` // covers nothing until approved anew
	Approvals []Approval  `json:"approvals"`           // in the order given, one per person
	Since     string      `json:"since,omitempty"`     // when it first became active
	End       *End        `json:"end,omitempty"`       // once the state is final
	Version   int         `json:"version"`             // counts the acts that changed it, from 1
}

// Approval is one person's yes, with what it was given for and what was known then.
type Approval struct {
	By         Person     `json:"by"`
	Digest     string     `json:"digest"`     // of the document
	Permission Permission `json:"permission"` // GitHub's answer at that moment
	Time       string     `json:"time"`
	Place      Place      `json:"place"` // with the head of the pull request at that moment
	Note       string     `json:"note,omitempty"`
	Void       Tampering  `json:"void,omitempty"` // why it no longer counts
}

// Tampering is what happened to a command comment afterwards.
type Tampering string

// The kinds of tampering.
const (
	Edited  Tampering = "edited"
	Deleted Tampering = "deleted"
)

// Suspension says why a waiver covers nothing for now.
type Suspension struct {
	Cause   Tampering `json:"cause"`
	Surface Surface   `json:"surface"`
	Comment int64     `json:"comment"`
	Time    string    `json:"time"`
}

// End says who ended a waiver, and why.
type End struct {
	By     Person `json:"by,omitzero"` // zero: noxaudit itself
	Reason string `json:"reason"`
	Time   string `json:"time"`
	Place  Place  `json:"place,omitzero"`
}

// Facts are what the caller found out about an act at the moment it was done.
type Facts struct {
	Time       time.Time // the server's or GitHub's, never a commit's; the same when an event is delivered again
	Actor      Actor
	Permission Permission // of the actor on the repository, asked of GitHub now; empty: no answer
	Pull       *Pull      // the pull request in which the waiver was asked; nil: it was asked in none
	Place      Place      // where the actor acts; an approval fills in pull request and head
}

// Actor is who acts.
type Actor struct {
	Person
	Bot bool // a user of GitHub's type Bot
	App bool // through a GitHub App
}

// Pull is what is known of a pull request now.
type Pull struct {
	Number       int
	Open         bool
	Head         name.Commit
	Author       int64   // numeric id
	Contributors []int64 // of all commits: authors, committers and co-authors
	LastPusher   int64   // who pushed the head, or opened the pull request with it; 0 where that is not known
	Unattributed int     // commits, trailers among them, of which GitHub knows no user
}

// Act is something that happens to a waiver: one of the types below.
type Act interface{ act() }

// The acts. The first five are a person's, the actor of the facts; the others are noxaudit's own.
type (
	// Request asks for a waiver; it is applied to the zero Waiver.
	Request struct{ Document Document }
	// Approve says yes. What is given of Digest and SHA must fit; both may be empty.
	Approve struct {
		Digest string // "@1a2b3c4d": the beginning of the document's digest, in hexadecimal digits
		SHA    string // the beginning of the pull request's head
		Note   string
	}
	// Reject says no to a pending waiver.
	Reject struct{ Digest, Reason string }
	// Revoke ends a pending or active waiver.
	Revoke struct{ Digest, Reason string }
	// Suspend says that a command comment was edited or deleted, at the time GitHub names. An approval given later
	// does not rest on it.
	Suspend struct {
		Cause   Tampering
		Surface Surface
		Comment int64
		At      time.Time // zero: the time of the facts
	}
	// Lapse ends a request that nobody answered in time.
	Lapse struct{}
	// Expire ends a waiver whose last second is over.
	Expire struct{}
	// Resolve ends a waiver whose finding is gone.
	Resolve struct{}
	// Supersede ends a waiver in favour of the one that renews it, once that is active.
	Supersede struct{ By Waiver }
)

func (Request) act()   {}
func (Approve) act()   {}
func (Reject) act()    {}
func (Revoke) act()    {}
func (Suspend) act()   {}
func (Lapse) act()     {}
func (Expire) act()    {}
func (Resolve) act()   {}
func (Supersede) act() {}

// Apply returns what becomes of w. It changes neither w nor the act, and a *Refusal leaves everything as it was.
// An act that changes nothing (the same approval again) returns w itself, with its Version. Any other error says
// that what the caller handed in is no waiver, no document or no time.
func Apply(w Waiver, act Act, facts Facts) (Waiver, error) {
	if y := facts.Time.UTC().Year(); facts.Time.IsZero() || y < 1970 || y > 9000 {
		return Waiver{}, errors.New("waiver: an act without a time")
	}
	if r, ok := act.(Request); ok {
		return request(w, r.Document, facts)
	}
	if digest, err := w.Document.Digest(); err != nil || digest != w.Digest || ID(digest) != w.ID || w.Version < 1 {
		return Waiver{}, fmt.Errorf("waiver %s: the document is not the one that its digest names", quote(w.ID))
	}
	if w.State.Final() {
		return Waiver{}, refuse(Ended, "%s is %s and stays so. Ask for a new waiver.", w.ID, w.State)
	}
	next := w
	next.Approvals = slices.Clone(w.Approvals)
	next.Version++
	var err error
	changed := true
	switch a := act.(type) {
	case Approve:
		changed, err = next.approve(a, facts)
	case Reject:
		err = next.reject(a, facts)
	case Revoke:
		err = next.revoke(a, facts)
	case Suspend:
		changed, err = next.suspend(a, facts)
	case Lapse:
		if w.State != Pending || !w.overdue(facts.Time) {
			return Waiver{}, refuse(NotDue, "%s does not lapse: only a request that stays unanswered for %d days does.", w.ID, w.Document.Terms.PendingDays)
		}
		next.finish(Lapsed, "Nobody answered in time.", Person{}, facts)
	case Expire:
		if w.State != Active || !w.past(facts.Time) {
			return Waiver{}, refuse(NotDue, "%s does not expire now: it holds until %s.", w.ID, w.Document.Until)
		}
		next.finish(Expired, "Its last day is over.", Person{}, facts)
	case Resolve:
		next.finish(Resolved, "The finding is gone.", Person{}, facts)
	case Supersede:
		if a.By.State != Active || a.By.Suspended != nil || a.By.Document.Renews != w.Digest || w.State != Active {
			return Waiver{}, refuse(NotApplicable, "%s is superseded only by an active waiver that renews it.", w.ID)
		}
		next.finish(Superseded, "Renewed by "+a.By.Name()+".", Person{}, facts)
	default:
		return Waiver{}, fmt.Errorf("waiver: unknown act %T", act)
	}
	switch {
	case err != nil:
		return Waiver{}, err
	case !changed:
		return w, nil
	}
	return next, nil
}

func request(w Waiver, d Document, facts Facts) (Waiver, error) {
	digest, err := d.Digest()
	if err == nil {
		err = d.check()
	}
	switch {
	case err != nil:
		return Waiver{}, fmt.Errorf("waiver: %w", err)
	case w.Digest == digest && w.State != "":
		return w, nil // the same request, delivered again
	case w.State != "":
		return Waiver{}, fmt.Errorf("waiver %s exists; a request makes a new one", quote(w.ID))
	case d.Requester != facts.Actor.Person || d.Requested != verdict.FormatTime(facts.Time):
		return Waiver{}, errors.New("waiver: the document was made for another person or time")
	}
	if r := facts.human("ask for a waiver"); r != nil {
		return Waiver{}, r
	}
	if r := facts.permitted(Triage, "ask for a waiver", "Somebody with at least triage permission on "+escape.Visible(d.Repository.FullName)+" may."); r != nil {
		return Waiver{}, r
	}
	if r := facts.open(d, "ask for a waiver"); r != nil {
		return Waiver{}, r
	}
	if d.Asked.Pull > 0 && d.Asked.Head != facts.Pull.Head {
		return Waiver{}, errors.New("waiver: the document was made for another head of the pull request")
	}
	d.Terms.Kinds = slices.Clone(d.Terms.Kinds)
	return Waiver{Document: d, Digest: digest, ID: ID(digest), State: Pending, Approvals: []Approval{}, Version: 1}, nil
}

// approve is the only way to become active.
func (w *Waiver) approve(a Approve, facts Facts) (changed bool, err error) {
	const doing = "approve a waiver"
	d := w.Document
	if r := facts.human(doing); r != nil {
		return false, r
	}
	if facts.Actor.ID == d.Requester.ID {
		return false, refuse(OwnRequest, "You asked for %s yourself. %s", w.ID, w.mayApprove())
	}
	if r := facts.permitted(d.Terms.Permission, doing, w.mayApprove()); r != nil {
		return false, r
	}
	if r := facts.open(d, doing); r != nil {
		return false, r
	}
	if p := facts.Pull; p != nil {
		me := facts.Actor.ID
		switch {
		case me == p.Author, me == p.LastPusher, slices.Contains(p.Contributors, me):
			return false, refuse(OwnWork, "You have a part in pull request #%d: its author, last pusher and the authors, committers and co-authors of its commits do not decide. %s", p.Number, w.mayApprove())
		// Fail closed: whoever it belongs to could be the very person that approves.
		case p.Unattributed > 0:
			return false, refuse(Unattributed, "GitHub cannot say whose work %d of the commits or co-author lines of pull request #%d are, so nobody can be told apart from their author and no approval counts. Add the e-mail address to its owner's GitHub account, or rewrite the commits.", p.Unattributed, p.Number)
		case p.Author < 1:
			return false, refuse(Unattributed, "It is not known who opened pull request #%d, as of an account that was deleted, so no approval counts. Open it anew.", p.Number)
		case p.LastPusher < 1:
			return false, refuse(Unattributed, "It is not known who pushed the head of pull request #%d, so no approval counts. If that was a moment ago, write the command again in a minute; else push again, then approve.", p.Number)
		}
	}
	if r := w.pinned(a.Digest); r != nil {
		return false, r
	}
	if a.SHA != "" {
		switch {
		case facts.Pull == nil:
			return false, refuse(OtherHead, "%s belongs to no pull request; leave out sha=.", w.ID)
		case !isHex(a.SHA, 7, 64) || !strings.HasPrefix(facts.Pull.Head.String(), a.SHA):
			return false, refuse(OtherHead, "sha=%s is not the head of pull request #%d, which is %s now. Look at what was pushed since, then approve with sha=%s or without sha=.", quote(a.SHA), facts.Pull.Number, facts.Pull.Head.Short(), facts.Pull.Head.Short())
		}
	}
	if bad, is := hiddenIn(a.Note); is {
		return false, refuse(Characters, "The note holds %s, which readers cannot see.", bad)
	}
	if len([]rune(a.Note)) > MaxNote {
		return false, refuse(TooLarge, "The note has more than %d characters.", MaxNote)
	}
	switch {
	case w.past(facts.Time):
		return false, refuse(Ended, "%s was asked for until %s, which is past. Ask for a new waiver.", w.ID, d.Until)
	case w.State == Pending && w.overdue(facts.Time):
		return false, refuse(Ended, "%s was not approved within %d days and lapses. Ask for a new waiver.", w.ID, d.Terms.PendingDays)
	}
	place := facts.Place
	place.Head = name.Commit{}
	if facts.Pull != nil {
		place.Pull, place.Head = facts.Pull.Number, facts.Pull.Head
	}
	given := Approval{By: facts.Actor.Person, Digest: w.Digest, Permission: facts.Permission, Time: verdict.FormatTime(facts.Time), Place: place, Note: a.Note}
	if err := place.check(); err != nil {
		return false, fmt.Errorf("waiver: place of the approval: %w", err)
	}
	if err := given.By.check(); err != nil {
		return false, fmt.Errorf("waiver: %w", err)
	}
	if at := slices.IndexFunc(w.Approvals, func(b Approval) bool { return b.By.ID == given.By.ID }); at >= 0 {
		if w.Approvals[at].Void == "" {
			return false, nil // one person counts once
		}
		w.Approvals = slices.Delete(w.Approvals, at, at+1)
	}
	w.Approvals = append(w.Approvals, given)
	if w.Missing() == 0 {
		w.State, w.Suspended = Active, nil
		if w.Since == "" {
			w.Since = given.Time
		}
	}
	return true, nil
}

func (w *Waiver) reject(a Reject, facts Facts) error {
	if r := facts.human("reject a waiver"); r != nil {
		return r
	}
	if r := facts.permitted(w.Document.Terms.Permission, "reject a waiver", w.mayEnd()); r != nil {
		return r
	}
	if w.State != Pending {
		return refuse(NotApplicable, "%s is %s already; end it with %s.", w.ID, w.State, w.line(VerbRevoke))
	}
	return w.endBy(Rejected, a.Digest, a.Reason, facts)
}

func (w *Waiver) revoke(a Revoke, facts Facts) error {
	if r := facts.human("revoke a waiver"); r != nil {
		return r
	}
	if facts.Actor.ID != w.Document.Requester.ID { // who asked may always take it back
		if r := facts.permitted(w.Document.Terms.Permission, "revoke a waiver", w.mayEnd()); r != nil {
			return r
		}
	}
	return w.endBy(Revoked, a.Digest, a.Reason, facts)
}

func (w *Waiver) endBy(to State, digest, reason string, facts Facts) error {
	if r := w.pinned(digest); r != nil {
		return r
	}
	reason = strings.TrimSpace(reason)
	if r := checkReason(reason, MinReason); r != nil {
		return r
	}
	if bad, is := hiddenIn(reason); is {
		return refuse(Characters, "The reason holds %s, which readers cannot see.", bad)
	}
	w.finish(to, reason, facts.Actor.Person, facts)
	return nil
}

func (w *Waiver) finish(to State, reason string, by Person, facts Facts) {
	w.State = to
	w.End = &End{By: by, Reason: reason, Time: verdict.FormatTime(facts.Time)}
	if by.ID != 0 {
		w.End.Place = facts.Place
	}
}

// suspend takes away what rests on a comment that is no longer what it was. The document stays: its content came
// from the comment as it was delivered, not from what it says now.
func (w *Waiver) suspend(a Suspend, facts Facts) (changed bool, err error) {
	if a.Cause != Edited && a.Cause != Deleted {
		return false, fmt.Errorf("waiver: suspended for %s: want edited or deleted", quote(string(a.Cause)))
	}
	at := facts.Time
	if !a.At.IsZero() {
		at = a.At
	}
	when := verdict.FormatTime(at)
	is := func(p Place) bool { return a.Comment > 0 && p.Comment == a.Comment && p.Surface == a.Surface }
	asked := is(w.Document.Asked)
	rests := asked
	for i := range w.Approvals {
		b := &w.Approvals[i]
		if !asked && !is(b.Place) {
			continue
		}
		rests = true
		// GitHub's times have no fractions: an approval in the second of the edit counts as earlier.
		if given, err := parseTime(b.Time); b.Void == "" && (is(b.Place) || err != nil || !given.After(at.Truncate(time.Second).Add(time.Second))) {
			b.Void, changed = a.Cause, true
		}
	}
	if !rests {
		return false, refuse(NotApplicable, "%s does not rest on that comment.", w.ID)
	}
	if w.Suspended == nil && w.Missing() > 0 && (changed || asked) {
		w.Suspended = &Suspension{Cause: a.Cause, Surface: a.Surface, Comment: a.Comment, Time: when}
		changed = true
	}
	return changed, nil
}

// Missing is how many approvals the waiver still needs. It is the one place that counts them.
func (w Waiver) Missing() int {
	people := map[int64]bool{}
	for _, a := range w.Approvals {
		if a.Void == "" && a.Digest == w.Digest && a.By.ID > 0 {
			people[a.By.ID] = true
		}
	}
	return max(0, w.Document.Terms.Approvals-len(people))
}

func (w Waiver) pinned(digest string) *Refusal {
	if digest == "" || isHex(digest, 8, 64) && strings.HasPrefix(strings.TrimPrefix(w.Digest, "sha256:"), digest) {
		return nil
	}
	return refuse(OtherDigest, "@%s is not the content of %s, which is %s. Read it again before you decide.", escape.Visible(clip(digest)), w.ID, w.Name())
}

func clip(s string) string { return s[:min(len(s), 16)] }

// past reports whether the last second of w is over at t. A waiver whose end cannot be read is past.
func (w Waiver) past(t time.Time) bool {
	end, err := w.Document.end()
	return err != nil || t.Truncate(time.Second).After(end)
}

// overdue reports whether nobody decided in time.
func (w Waiver) overdue(t time.Time) bool {
	asked, err := parseTime(w.Document.Requested)
	return err != nil || !t.Before(w.Document.Terms.lapses(asked)) || w.past(t)
}

// Key is what a finding is recognised by.
type Key struct {
	Account     string
	Repository  string // id
	Fingerprint string
	Content     string
}

// Key is the finding that w is for.
func (w Waiver) Key() Key {
	d := w.Document
	return Key{d.Account, d.Repository.ID, d.Finding.Fingerprint, d.Finding.Content}
}

// Holds reports whether w covers the finding k at time t. It is the one place that decides this: the waiver is
// active and not suspended, its last second is not over, and finding and repository are exactly its own. A
// waiver without content covers only a finding without.
func Holds(w Waiver, k Key, t time.Time) bool {
	return w.State == Active && w.Suspended == nil && k.Fingerprint != "" && w.Key() == k && !w.past(t)
}

// Name is "W-9QK3TZAB@1a2b3c4d": the waiver with its exact content.
func (w Waiver) Name() string { return w.target().String() }

func (w Waiver) target() Target {
	t := Target{Kind: WaiverTarget, ID: w.ID}
	if hex := strings.TrimPrefix(w.Digest, "sha256:"); len(hex) >= 8 {
		t.Digest = hex[:8]
	}
	return t
}

// Lines are the commands that the waiver's state allows, to copy. That of rejecting or revoking ends in
// reason="…", to be filled in: as it stands it is refused.
func (w Waiver) Lines() []string {
	switch {
	case w.State == Pending:
		return []string{w.line(VerbApprove), w.line(VerbReject), w.line(VerbRevoke)}
	case w.State == Active && w.Suspended != nil:
		return []string{w.line(VerbApprove), w.line(VerbRevoke)}
	case w.State == Active:
		return []string{w.line(VerbRevoke)}
	}
	return nil
}

func (w Waiver) line(v Verb) string {
	line := Command{Verb: v, Target: w.target()}.String()
	if v != VerbApprove {
		line += ` reason="…"`
	}
	return line
}

// mayApprove says who may.
func (w Waiver) mayApprove() string {
	d := w.Document
	n := "Somebody"
	if d.Terms.Approvals > 1 {
		n = fmt.Sprintf("Each of %d people", d.Terms.Approvals)
	}
	s := fmt.Sprintf("%s with %s permission on %s who did not ask for it may", n, d.Terms.permission(), escape.Visible(d.Repository.FullName))
	if d.Asked.Pull > 0 {
		s += fmt.Sprintf(", unless they have a part in pull request #%d", d.Asked.Pull)
	}
	return s + "."
}

// mayEnd says who may reject or revoke.
func (w Waiver) mayEnd() string {
	d := w.Document
	return fmt.Sprintf("Somebody with %s permission on %s may; %s, who asked for it, may revoke it.", d.Terms.permission(), escape.Visible(d.Repository.FullName), escape.Visible(d.Requester.Login))
}

func (t Terms) permission() string {
	if t.Permission == Admin {
		return "admin"
	}
	return "maintain or admin"
}

// human refuses whoever is no person that GitHub knows.
func (f Facts) human(doing string) *Refusal {
	switch {
	case f.Actor.Bot || f.Actor.App:
		return refuse(Robot, "Bots and Apps do not %s; a person must.", doing)
	case f.Actor.ID < 1:
		return refuse(NobodyKnown, "It is not known who you are, so you cannot %s.", doing)
	}
	return nil
}

func (f Facts) permitted(least Permission, doing, who string) *Refusal {
	switch {
	case f.Permission.AtLeast(least):
		return nil
	case !slices.Contains(permissions, f.Permission):
		// Fail closed: an answer that did not come, or that this version does not know, permits nothing.
		return refuse(Unknown, "GitHub did not say what permission you have, so you cannot %s now. Try again in a minute; if it stays so, an administrator should look at noxaudit's own permissions.", doing)
	}
	return refuse(NoPermission, "You have %s permission, which is not enough to %s. %s", f.Permission, doing, who)
}

// open refuses where the pull request of the waiver is over, or where the facts are about another.
func (f Facts) open(d Document, doing string) *Refusal {
	switch {
	case d.Asked.Pull == 0 && f.Pull == nil:
		return nil
	case d.Asked.Pull == 0:
		return refuse(PullElsewhere, "This waiver was asked for outside of a pull request; decide on its page.")
	case f.Pull == nil || f.Pull.Number != d.Asked.Pull:
		return refuse(PullElsewhere, "This waiver was asked for in pull request #%d; go there to %s.", d.Asked.Pull, doing)
	case !f.Pull.Open:
		return refuse(PullClosed, "Pull request #%d is closed or merged; nobody can %s there any more. Waivers there can still be listed, rejected and revoked.", d.Asked.Pull, doing)
	}
	return nil
}
