package waiver

import (
	"bytes"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/noxaudit/noxaudit/internal/canon"
	"github.com/noxaudit/noxaudit/internal/name"
)

// The people of these tests. Alice wrote the pull request.
var (
	author    = Person{1, "alice"}
	coauthor  = Person{2, "bob"}
	pusher    = Person{3, "carol"}
	requester = Person{4, "dave"}
	security  = Person{5, "erin"}
	second    = Person{6, "frank"}
)

var (
	now         = time.Date(2026, 10, 1, 12, 30, 0, 123456000, time.UTC)
	fingerprint = strings.Repeat("0f", 32)
)

func commit(digit string) name.Commit {
	c, err := name.ParseCommit(strings.Repeat(digit, 40))
	if err != nil {
		panic(err)
	}
	return c
}

var comments int64 = 100

// facts are those of an act by p in a comment of pull request 7, with admin permission.
func facts(p Person) Facts {
	comments++
	return Facts{
		Time: now, Actor: Actor{Person: p}, Permission: Admin,
		Pull:  &Pull{Number: 7, Open: true, Head: commit("a"), Author: author.ID, Contributors: []int64{author.ID, coauthor.ID}, LastPusher: pusher.ID},
		Place: Place{Surface: Comment, Pull: 7, Comment: comments, Body: canon.Digest([]byte("body"))},
	}
}

func with(f Facts, change func(*Facts)) Facts {
	p := *f.Pull
	f.Pull = &p
	change(&f)
	return f
}

func later(f Facts, d time.Duration) Facts {
	f.Time = f.Time.Add(d)
	return f
}

func code(err error) Code {
	var r *Refusal
	if errors.As(err, &r) {
		return r.Code
	}
	return ""
}

func ask(t testing.TB, line string, f Facts) (Document, error) {
	t.Helper()
	c, err := Parse(line)
	if err != nil {
		t.Fatal(err)
	}
	account, err := name.ParseAccount("583231")
	if err != nil {
		t.Fatal(err)
	}
	return NewDocument(Asking{
		Command: c, Account: account, Repo: name.Repo{Account: account, ID: "42", FullName: "octo-org/payments"},
		Finding: Finding{ID: "NX-" + encoded("sha256:" + fingerprint)[:8], Fingerprint: fingerprint, Content: "c1", Type: "secrets/aws", Severity: "high", Path: "src/a.go"},
		Place:   f.Place, Terms: DefaultTerms(),
	}, f)
}

// requested is a waiver that p has asked for.
func requested(t testing.TB, p Person, change ...func(*Document)) Waiver {
	t.Helper()
	f := facts(p)
	d, err := ask(t, "/noxaudit waive NX-1W7GY3 for=30d "+why, f)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range change {
		c(&d)
	}
	return must(t)(Apply(Waiver{}, Request{d}, f))
}

func must(t testing.TB) func(Waiver, error) Waiver {
	return func(w Waiver, err error) Waiver {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return w
	}
}

func approved(t testing.TB) Waiver {
	t.Helper()
	return must(t)(Apply(requested(t, requester), Approve{}, facts(security)))
}

func TestAWaiverIsAskedForApprovedAndHolds(t *testing.T) {
	w := requested(t, author)
	if w.State != Pending || w.Missing() != 1 || Holds(w, w.Key(), now) {
		t.Errorf("%+v", w)
	}
	before := canonicalWaiver(t, w)
	f := later(facts(security), time.Hour)
	a := must(t)(Apply(w, Approve{Digest: w.target().Digest, SHA: "aaaaaaa", Note: "seen"}, f))
	if a.State != Active || a.Version != 2 || a.Missing() != 0 || !Holds(a, w.Key(), now) {
		t.Errorf("%+v", a)
	}
	got := a.Approvals[0]
	if got.By != security || got.Digest != w.Digest || got.Permission != Admin || got.Place.Head != commit("a") || got.Time != "2026-10-01T13:30:00.123456Z" || got.Note != "seen" {
		t.Errorf("%+v", got)
	}
	if !bytes.Equal(before, canonicalWaiver(t, w)) {
		t.Error("Apply changed its argument")
	}
	if want := []string{"/noxaudit revoke " + w.Name() + ` reason="…"`}; !slices.Equal(a.Lines(), want) {
		t.Errorf("%q", a.Lines())
	}
	line := w.Lines()[0]
	c, err := Parse(line)
	if err != nil || line != "/noxaudit approve "+w.ID+"@"+w.Digest[7:15] || c.Target.ID != w.ID || c.Target.Digest != w.Digest[7:15] {
		t.Errorf("%q: %+v, %v", line, c, err)
	}
}

func canonicalWaiver(t testing.TB, w Waiver) []byte {
	t.Helper()
	b, err := canon.Marshal(w)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestAWaiverSurvivesItsStoredForm(t *testing.T) {
	w := approved(t)
	w = must(t)(Apply(w, Suspend{Edited, Comment, w.Document.Asked.Comment, time.Time{}}, later(facts(author), time.Hour)))
	w = must(t)(Apply(w, Revoke{Reason: "no longer wanted here"}, later(facts(requester), 2*time.Hour)))
	b := canonicalWaiver(t, w)
	var again Waiver
	if err := canon.Unmarshal(b, &again); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(b, canonicalWaiver(t, again)) {
		t.Errorf("%s\n%s", b, canonicalWaiver(t, again))
	}
}

func TestAbuse01AnEditedOrDeletedCommandSuspendsWhatRestsOnIt(t *testing.T) {
	for _, cause := range []Tampering{Edited, Deleted} {
		w := approved(t)
		for what, comment := range map[string]int64{"the request": w.Document.Asked.Comment, "the approval": w.Approvals[0].Place.Comment} {
			f := later(facts(author), time.Hour)
			s := must(t)(Apply(w, Suspend{cause, Comment, comment, time.Time{}}, f))
			if s.State != Active || s.Suspended == nil || s.Suspended.Cause != cause || s.Missing() != 1 || Holds(s, s.Key(), f.Time) {
				t.Errorf("%s: %+v", what, s)
			}
			if s.Digest != w.Digest || s.Document.Until != w.Document.Until {
				t.Errorf("%s: the content changed", what)
			}
			if again := must(t)(Apply(s, Suspend{cause, Comment, comment, time.Time{}}, later(f, time.Minute))); again.Version != s.Version {
				t.Errorf("%s: suspended twice", what)
			}
			for _, p := range []Person{author, requester, coauthor, pusher} {
				if _, err := Apply(s, Approve{}, later(facts(p), 2*time.Hour)); err == nil {
					t.Errorf("%s: %s ends the suspension", what, p.Login)
				}
			}
			// The same person may confirm it, in a new comment.
			end := must(t)(Apply(s, Approve{}, later(facts(security), 2*time.Hour)))
			if end.State != Active || end.Suspended != nil || len(end.Approvals) != 1 || !Holds(end, end.Key(), f.Time) {
				t.Errorf("%s: %+v", what, end)
			}
			// The old event, delivered again, does not touch what was given later.
			replay := Suspend{cause, Comment, comment, f.Time}
			if after, err := Apply(end, replay, later(f, 3*time.Hour)); err == nil && after.Version != end.Version {
				t.Errorf("%s: an old event suspends anew: %+v", what, after)
			}
		}
		if _, err := Apply(w, Suspend{cause, Comment, 99999, time.Time{}}, facts(author)); code(err) != NotApplicable {
			t.Errorf("a comment on which nothing rests: %v", err)
		}
	}
	p := requested(t, author)
	p = must(t)(Apply(p, Suspend{Edited, Comment, p.Document.Asked.Comment, time.Time{}}, later(facts(author), time.Minute)))
	if p.State != Pending || p.Suspended == nil {
		t.Errorf("%+v", p)
	}
	if p = must(t)(Apply(p, Approve{}, later(facts(security), time.Hour))); p.State != Active || p.Suspended != nil {
		t.Errorf("%+v", p)
	}
}

func TestAbuse02WhatIsPushedAfterAnApprovalIsNotCovered(t *testing.T) {
	w := requested(t, author)
	if _, err := Apply(w, Approve{SHA: "bbbbbbb"}, facts(security)); code(err) != OtherHead {
		t.Errorf("another head: %v", err)
	}
	if _, err := Apply(w, Approve{Digest: "00000000"}, facts(security)); code(err) != OtherDigest {
		t.Errorf("another content: %v", err)
	}
	w = must(t)(Apply(w, Approve{SHA: "aaaaaaaa", Digest: w.target().Digest}, facts(security)))
	k := w.Key()
	if !Holds(w, k, now) {
		t.Error("the finding itself is not covered")
	}
	for what, change := range map[string]func(*Key){
		"a new finding":           func(k *Key) { k.Fingerprint = strings.Repeat("1f", 32) },
		"another secret there":    func(k *Key) { k.Content = "c2" },
		"no secret there":         func(k *Key) { k.Content = "" },
		"another repository":      func(k *Key) { k.Repository = "43" },
		"another account":         func(k *Key) { k.Account = "583232" },
		"a finding without a key": func(k *Key) { k.Fingerprint = "" },
	} {
		k := w.Key()
		change(&k)
		if Holds(w, k, now) {
			t.Errorf("%s is covered", what)
		}
	}
	plain := must(t)(Apply(requested(t, author, func(d *Document) { d.Finding.Content = "" }), Approve{}, facts(security)))
	if !Holds(plain, plain.Key(), now) || Holds(plain, k, now) {
		t.Error("a waiver without content covers a finding without, and no other")
	}
}

func TestAbuse03TheAuthorACoAuthorOrTheRequesterCannotApprove(t *testing.T) {
	w := requested(t, requester)
	for _, c := range []struct {
		who  Person
		want Code
	}{{author, OwnWork}, {coauthor, OwnWork}, {pusher, OwnWork}, {requester, OwnRequest}} {
		_, err := Apply(w, Approve{}, facts(c.who))
		if code(err) != c.want || !strings.Contains(err.Error(), "Somebody with maintain or admin permission on octo-org/payments who did not ask for it may, unless they have a part in pull request #7.") {
			t.Errorf("%s: %v", c.who.Login, err)
		}
	}
	if _, err := Apply(requested(t, author), Approve{}, facts(author)); code(err) != OwnRequest {
		t.Errorf("the author's own waiver: %v", err)
	}
	for what, change := range map[string]func(*Facts){
		"a commit of nobody":     func(f *Facts) { f.Pull.Unattributed = 1 },
		"an unknown last pusher": func(f *Facts) { f.Pull.LastPusher = 0 },
		"an unknown author":      func(f *Facts) { f.Pull.Author = 0 },
	} {
		if _, err := Apply(w, Approve{}, with(facts(security), change)); code(err) != Unattributed {
			t.Errorf("%s: %v", what, err)
		}
	}
	for what, f := range map[string]Facts{
		"no pull request":      with(facts(security), func(f *Facts) { f.Pull = nil }),
		"another pull request": with(facts(security), func(f *Facts) { f.Pull.Number = 8 }),
	} {
		if _, err := Apply(w, Approve{}, f); code(err) != PullElsewhere {
			t.Errorf("%s: %v", what, err)
		}
	}
}

func TestAbuse03OnePersonCountsOnce(t *testing.T) {
	w := requested(t, author, func(d *Document) { d.Terms.Approvals = 2 })
	w = must(t)(Apply(w, Approve{}, facts(security)))
	again := must(t)(Apply(w, Approve{}, facts(security)))
	if again.State != Pending || again.Version != w.Version || again.Missing() != 1 {
		t.Errorf("%+v", again)
	}
	renamed := security
	renamed.Login = "eve"
	if w2 := must(t)(Apply(w, Approve{}, facts(renamed))); w2.State != Pending {
		t.Error("a new login counts as a new person")
	}
	if w = must(t)(Apply(w, Approve{}, facts(second))); w.State != Active {
		t.Errorf("%+v", w)
	}
}

func TestAbuse04ThePermissionOfTheMomentCountsAndIsRecorded(t *testing.T) {
	w := requested(t, author)
	for _, p := range []Permission{None, Read, Triage, Write} {
		if _, err := Apply(w, Approve{}, with(facts(security), func(f *Facts) { f.Permission = p })); code(err) != NoPermission {
			t.Errorf("%s: %v", p, err)
		}
	}
	for _, p := range []Permission{Maintain, Admin} {
		a := must(t)(Apply(w, Approve{}, with(facts(security), func(f *Facts) { f.Permission = p })))
		if a.Approvals[0].Permission != p {
			t.Errorf("%+v", a.Approvals[0])
		}
	}
	strict := requested(t, author, func(d *Document) { d.Terms.Permission = Admin })
	if _, err := Apply(strict, Approve{}, with(facts(security), func(f *Facts) { f.Permission = Maintain })); code(err) != NoPermission {
		t.Errorf("maintain where admin is due: %v", err)
	}
}

func TestAbuse05AnUnknownPermissionIsARefusal(t *testing.T) {
	w := requested(t, author)
	for _, p := range []Permission{"", "owner", "MEMBER", "Admin"} {
		unknown := func(f *Facts) { f.Permission = p }
		for what, act := range map[string]Act{"approve": Approve{}, "reject": Reject{Reason: "this is not acceptable"}, "revoke": Revoke{Reason: "this is not acceptable"}} {
			if _, err := Apply(w, act, with(facts(security), unknown)); code(err) != Unknown {
				t.Errorf("%s with %q: %v", what, p, err)
			}
		}
		f := with(facts(author), unknown)
		d, err := ask(t, "/noxaudit waive NX-1W7GY3 "+why, f)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := Apply(Waiver{}, Request{d}, f); code(err) != Unknown {
			t.Errorf("request with %q: %v", p, err)
		}
	}
}

func TestAbuse06BotsAndAppsDoNotAct(t *testing.T) {
	w := requested(t, author)
	for what, change := range map[string]func(*Facts){"bot": func(f *Facts) { f.Actor.Bot = true }, "app": func(f *Facts) { f.Actor.App = true }} {
		for _, act := range []Act{Approve{}, Reject{Reason: "this is not acceptable"}, Revoke{Reason: "this is not acceptable"}} {
			if _, err := Apply(w, act, with(facts(security), change)); code(err) != Robot {
				t.Errorf("%s, %T: %v", what, act, err)
			}
		}
		f := with(facts(author), change)
		d, err := ask(t, "/noxaudit waive NX-1W7GY3 "+why, f)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := Apply(Waiver{}, Request{d}, f); code(err) != Robot {
			t.Errorf("%s, request: %v", what, err)
		}
	}
	if _, err := Apply(w, Approve{}, with(facts(security), func(f *Facts) { f.Actor.ID = 0 })); code(err) != NobodyKnown {
		t.Errorf("nobody: %v", err)
	}
}

func TestAbuse08OnlyCommentsReviewsPagesAndTheCommandLineAsk(t *testing.T) {
	for _, surface := range []Surface{"", "pull_request", "title", "commit", "issues"} {
		f := facts(author)
		f.Place.Surface = surface
		if _, err := ask(t, "/noxaudit waive NX-1W7GY3 "+why, f); err == nil {
			t.Errorf("asked in %q", surface)
		}
		g := facts(security)
		g.Place.Surface = surface
		if _, err := Apply(requested(t, author), Approve{}, g); err == nil {
			t.Errorf("approved in %q", surface)
		}
	}
	for what, spoil := range map[string]func(*Place){
		"no id":             func(p *Place) { p.Comment = 0 },
		"no digest of text": func(p *Place) { p.Body = "" },
	} {
		f := facts(security)
		spoil(&f.Place)
		if _, err := Apply(requested(t, author), Approve{}, f); err == nil {
			t.Errorf("approved in a comment with %s", what)
		}
	}
}

func TestAbuse15TermsThatChangeLaterChangeNoWaiver(t *testing.T) {
	w := requested(t, author, func(d *Document) { d.Terms.Approvals, d.Terms.Permission = 2, Admin })
	w.Document.Terms = DefaultTerms()
	if _, err := Apply(w, Approve{}, facts(security)); err == nil || code(err) != "" {
		t.Errorf("approved under looser terms: %v", err)
	}
}

func TestAbuse13BelowTriageNobodyAsks(t *testing.T) {
	for _, p := range []Permission{None, Read} {
		f := with(facts(author), func(f *Facts) { f.Permission = p })
		d, err := ask(t, "/noxaudit waive NX-1W7GY3 "+why, f)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := Apply(Waiver{}, Request{d}, f); code(err) != NoPermission {
			t.Errorf("%s: %v", p, err)
		}
	}
	f := with(facts(author), func(f *Facts) { f.Permission = Triage })
	d, err := ask(t, "/noxaudit waive NX-1W7GY3 "+why, f)
	if err != nil {
		t.Fatal(err)
	}
	must(t)(Apply(Waiver{}, Request{d}, f))
}

func TestAbuse14NothingIsWaivedInAClosedPullRequest(t *testing.T) {
	shut := func(f *Facts) { f.Pull.Open = false }
	f := with(facts(author), shut)
	d, err := ask(t, "/noxaudit waive NX-1W7GY3 "+why, f)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Apply(Waiver{}, Request{d}, f); code(err) != PullClosed {
		t.Errorf("request: %v", err)
	}
	w := requested(t, author)
	if _, err := Apply(w, Approve{}, with(facts(security), shut)); code(err) != PullClosed {
		t.Errorf("approve: %v", err)
	}
	must(t)(Apply(w, Reject{Reason: "this is not acceptable"}, with(facts(security), shut)))
	must(t)(Apply(w, Revoke{Reason: "this is not acceptable"}, with(facts(author), shut)))
}

func TestAbuse16AMovedOrChangedFindingIsNotCovered(t *testing.T) {
	w := approved(t)
	k := w.Key()
	k.Fingerprint = canon.Digest([]byte("the same rule in another path or context"))[7:]
	if Holds(w, k, now) {
		t.Error("covered")
	}
}

func TestAbuse17TheSameRequestAgainChangesNothing(t *testing.T) {
	f := facts(author)
	d, err := ask(t, "/noxaudit waive NX-1W7GY3 "+why, f)
	if err != nil {
		t.Fatal(err)
	}
	w := must(t)(Apply(Waiver{}, Request{d}, f))
	a := must(t)(Apply(w, Approve{}, facts(security)))
	if again := must(t)(Apply(a, Request{d}, f)); again.Version != a.Version || again.State != Active {
		t.Errorf("%+v", again)
	}
	if w2 := must(t)(Apply(Waiver{}, Request{d}, f)); w2.ID != w.ID {
		t.Error("one delivery makes two waivers")
	}
}

func TestAbuse19ALoginGivenToAnotherPersonIsAnother(t *testing.T) {
	w := requested(t, author)
	other := Person{77, author.Login}
	must(t)(Apply(w, Approve{}, facts(other)))
	poor := with(facts(other), func(f *Facts) { f.Permission = Write })
	if _, err := Apply(w, Revoke{Reason: "this is not acceptable"}, poor); code(err) != NoPermission {
		t.Errorf("somebody with the requester's old login revokes: %v", err)
	}
}

func TestAbuse20TextsAreKeptRawAndRefusalsShowNothingHidden(t *testing.T) {
	hostile := `=HYPERLINK("x") @octocat #1 [x](javascript:1) <img src=x>`
	f := facts(author)
	d, err := ask(t, (Command{Verb: VerbWaive, Target: Target{Kind: FindingTarget, ID: "NX-1W7GY3"}, Reason: hostile}).String(), f)
	if err != nil || d.Reason != hostile {
		t.Errorf("%q, %v", d.Reason, err)
	}
	d.Reason = "a reason that is \u202elong enough"
	if _, err := Apply(Waiver{}, Request{d}, f); err == nil {
		t.Error("a hidden character gets into a document")
	}
	d.Reason = "a reason of two lines,\nlong enough"
	if _, err := Apply(Waiver{}, Request{d}, f); err == nil {
		t.Error("a line break gets into a document")
	}
}

func TestFormsAndFlagsObeyTheRulesOfComments(t *testing.T) {
	for want, change := range map[Code]func(*Command){
		Characters:  func(c *Command) { c.Reason = "a reason of two lines,\nlong enough" },
		TooLarge:    func(c *Command) { c.Ticket = strings.Repeat("x", MaxTicket+1) },
		NoReason:    func(c *Command) { c.Reason = "" },
		BadTerm:     func(c *Command) { c.Days = -1 },
		BadArgument: func(c *Command) { c.Target.ID += " and more" },
		BadValue:    func(c *Command) { c.Kind = "whatever" },
		BadTarget:   func(c *Command) { c.Target.ID = "NX-1" },
		NotYet:      func(c *Command) { c.Scope = ScopeRepo },
	} {
		c, err := Parse("/noxaudit waive NX-1W7GY3 " + why)
		if err != nil {
			t.Fatal(err)
		}
		change(&c)
		if _, err := NewDocument(Asking{Command: c, Finding: Finding{Fingerprint: fingerprint}, Terms: DefaultTerms()}, facts(author)); code(err) != want {
			t.Errorf("%s: %v", want, err)
		}
	}
	for want, note := range map[Code]string{Characters: "seen\u200b", TooLarge: strings.Repeat("x", MaxNote+1)} {
		if _, err := Apply(requested(t, author), Approve{Note: note}, facts(security)); code(err) != want {
			t.Errorf("%s: %v", want, err)
		}
	}
}

func TestAbuse21ARevocationWinsOverALaterApproval(t *testing.T) {
	w := requested(t, author)
	r := must(t)(Apply(w, Revoke{Reason: "fixed in another way"}, facts(author)))
	if _, err := Apply(r, Approve{}, facts(security)); code(err) != Ended {
		t.Errorf("%v", err)
	}
	a := must(t)(Apply(w, Approve{}, facts(security)))
	if r := must(t)(Apply(a, Revoke{Reason: "fixed in another way"}, facts(second))); r.State != Revoked || r.End.By != second || Holds(r, r.Key(), now) {
		t.Errorf("%+v", r)
	}
}

func TestWhoMayEndAWaiver(t *testing.T) {
	reason := "this is not acceptable"
	poor := func(p Person) Facts { return with(facts(p), func(f *Facts) { f.Permission = Write }) }
	w := requested(t, requester)
	if _, err := Apply(w, Reject{Reason: reason}, poor(second)); code(err) != NoPermission || !strings.Contains(err.Error(), "maintain or admin") {
		t.Errorf("%v", err)
	}
	if _, err := Apply(w, Revoke{Reason: reason}, poor(second)); code(err) != NoPermission {
		t.Errorf("%v", err)
	}
	if r := must(t)(Apply(w, Revoke{Reason: reason}, poor(requester))); r.State != Revoked || r.End.Reason != reason {
		t.Errorf("%+v", r)
	}
	if r := must(t)(Apply(w, Reject{Reason: reason}, facts(security))); r.State != Rejected || r.End.By != security {
		t.Errorf("%+v", r)
	}
	if _, err := Apply(approved(t), Reject{Reason: reason}, facts(security)); code(err) != NotApplicable || !strings.Contains(err.Error(), "/noxaudit revoke W-") {
		t.Errorf("%v", err)
	}
	if _, err := Apply(w, Reject{Reason: "no"}, facts(security)); code(err) != NoReason {
		t.Errorf("%v", err)
	}
	if _, err := Apply(w, Reject{Digest: "00000000", Reason: reason}, facts(security)); code(err) != OtherDigest {
		t.Errorf("%v", err)
	}
}

func TestAWaiverEndsWithTheLastSecondOfItsLastDay(t *testing.T) {
	w := approved(t)
	if w.Document.Until != "2026-10-31T23:59:59Z" {
		t.Fatal(w.Document.Until)
	}
	last := time.Date(2026, 10, 31, 23, 59, 59, 999999999, time.UTC)
	if !Holds(w, w.Key(), last) || Holds(w, w.Key(), last.Add(1)) || !Holds(w, w.Key(), last.In(time.FixedZone("", 14*3600))) {
		t.Error("the last second is not the last")
	}
	at := func(t time.Time) Facts { return Facts{Time: t} }
	if _, err := Apply(w, Expire{}, at(last)); code(err) != NotDue {
		t.Errorf("%v", err)
	}
	if e := must(t)(Apply(w, Expire{}, at(last.Add(1)))); e.State != Expired {
		t.Errorf("%+v", e)
	}
	s := must(t)(Apply(w, Suspend{Edited, Comment, w.Document.Asked.Comment, time.Time{}}, later(facts(author), time.Hour)))
	if _, err := Apply(s, Approve{}, with(facts(security), func(f *Facts) { f.Time = last.Add(1) })); code(err) != Ended {
		t.Errorf("approved anew past its end: %v", err)
	}
	if e := must(t)(Apply(s, Expire{}, at(last.Add(1)))); e.State != Expired {
		t.Errorf("%+v", e)
	}
	w.Document.Until = "nonsense"
	if Holds(w, w.Key(), now) {
		t.Error("a waiver whose end cannot be read holds")
	}
}

func TestARequestLapsesAfterAWeek(t *testing.T) {
	w := requested(t, author)
	at := func(d time.Duration) Facts { return Facts{Time: now.Add(d)} }
	week := 7 * 24 * time.Hour
	if _, err := Apply(w, Lapse{}, at(week-1)); code(err) != NotDue {
		t.Errorf("%v", err)
	}
	if l := must(t)(Apply(w, Lapse{}, at(week))); l.State != Lapsed {
		t.Errorf("%+v", l)
	}
	must(t)(Apply(w, Approve{}, later(facts(security), week-time.Second)))
	if _, err := Apply(w, Approve{}, later(facts(security), week)); code(err) != Ended {
		t.Errorf("approved although overdue: %v", err)
	}
	f := facts(author)
	d, err := ask(t, "/noxaudit waive NX-1W7GY3 until=2026-10-01 "+why, f)
	if err != nil {
		t.Fatal(err)
	}
	short := must(t)(Apply(Waiver{}, Request{d}, f))
	if _, err := Apply(short, Approve{}, later(facts(security), 12*time.Hour)); code(err) != Ended {
		t.Errorf("approved past its own end: %v", err)
	}
	must(t)(Apply(short, Lapse{}, at(12*time.Hour)))
	if _, err := Apply(approved(t), Lapse{}, at(100*week)); code(err) != NotDue {
		t.Errorf("%v", err)
	}
}

func TestRenewalAndResolution(t *testing.T) {
	old := approved(t)
	renew := requested(t, requester, func(d *Document) { d.Renews = old.Digest })
	if _, err := Apply(old, Supersede{renew}, facts(security)); code(err) != NotApplicable {
		t.Errorf("superseded by a waiver that nobody approved: %v", err)
	}
	renew = must(t)(Apply(renew, Approve{}, facts(security)))
	if s := must(t)(Apply(old, Supersede{renew}, facts(security))); s.State != Superseded || !strings.Contains(s.End.Reason, renew.Name()) {
		t.Errorf("%+v", s)
	}
	if _, err := Apply(old, Supersede{approved(t)}, facts(security)); code(err) != NotApplicable {
		t.Errorf("superseded by a stranger: %v", err)
	}
	if r := must(t)(Apply(old, Resolve{}, Facts{Time: now})); r.State != Resolved || r.End.By != (Person{}) {
		t.Errorf("%+v", r)
	}
}

func TestOutsideOfAPullRequestNoneIsNeeded(t *testing.T) {
	f := with(facts(requester), func(f *Facts) { f.Pull, f.Place = nil, Place{Surface: Page} })
	d, err := ask(t, "/noxaudit waive NX-1W7GY3 "+why, f)
	if err != nil {
		t.Fatal(err)
	}
	w := must(t)(Apply(Waiver{}, Request{d}, f))
	g := with(facts(security), func(f *Facts) { f.Pull, f.Place = nil, Place{Surface: CLI} })
	if _, err := Apply(w, Approve{SHA: "aaaaaaa"}, g); code(err) != OtherHead {
		t.Errorf("%v", err)
	}
	must(t)(Apply(w, Approve{}, g))
	if _, err := Apply(w, Approve{}, facts(security)); code(err) != PullElsewhere {
		t.Errorf("%v", err)
	}
}

func TestTermsAreHeld(t *testing.T) {
	for _, c := range []struct {
		args string
		want Code
	}{
		{"until=2026-09-30", BadTerm},
		{"until=2026-12-31", TooLong},
		{"kind=deferred for=91d", TooLong},
	} {
		if _, err := ask(t, "/noxaudit waive NX-1W7GY3 "+c.args+" "+why, facts(author)); code(err) != c.want {
			t.Errorf("%s: %v", c.args, err)
		}
	}
	for args, want := range map[string]string{"": "2026-10-31T23:59:59Z", "until=2026-10-01": "2026-10-01T23:59:59Z", "until=2026-12-30": "2026-12-30T23:59:59Z", "for=2w": "2026-10-15T23:59:59Z"} {
		d, err := ask(t, "/noxaudit waive NX-1W7GY3 "+args+" "+why, facts(author))
		if err != nil || d.Until != want || d.Kind != AcceptedRisk {
			t.Errorf("%q: %s %s, %v", args, d.Until, d.Kind, err)
		}
	}
	if err := DefaultTerms().Check(); err != nil {
		t.Error(err)
	}
	for what, spoil := range map[string]func(*Terms){
		"nobody approves":      func(t *Terms) { t.Approvals = 0 },
		"anybody approves":     func(t *Terms) { t.Permission = Write },
		"unknown permission":   func(t *Terms) { t.Permission = "" },
		"no reason":            func(t *Terms) { t.MinReason = 0 },
		"an unbounded default": func(t *Terms) { t.Kind = "x" },
		"default above most":   func(t *Terms) { t.Kinds[0].DefaultDays = 91 },
		"a kind twice":         func(t *Terms) { t.Kinds[0] = t.Kinds[1] },
		"no time to decide":    func(t *Terms) { t.PendingDays = 0 },
	} {
		terms := DefaultTerms()
		spoil(&terms)
		if terms.Check() == nil {
			t.Errorf("%s: accepted", what)
		}
	}
	few := DefaultTerms()
	few.Kinds = few.Kinds[:2]
	if _, err := few.End(Deferred, "", 0, now); code(err) != BadValue || !strings.Contains(err.Error(), "false-positive or accepted-risk") {
		t.Errorf("%v", err)
	}
}

func TestAStoredWaiverWhoseDocumentChangedIsRefused(t *testing.T) {
	for what, spoil := range map[string]func(*Waiver){
		"content": func(w *Waiver) { w.Document.Until = "2099-12-31T23:59:59Z" },
		"terms":   func(w *Waiver) { w.Document.Terms.Approvals = 0 },
		"digest":  func(w *Waiver) { w.Digest = canon.Digest([]byte("x")) },
		"id":      func(w *Waiver) { w.ID = "W-00000000" },
		"version": func(w *Waiver) { w.Version = 0 },
	} {
		w := requested(t, author)
		spoil(&w)
		if _, err := Apply(w, Approve{}, facts(security)); err == nil || code(err) != "" {
			t.Errorf("%s: %v", what, err)
		}
	}
}

func TestAWaiverIsMadeOnlyForTheFindingThatWasNamed(t *testing.T) {
	for line, want := range map[string]Code{"/noxaudit waive NX-7F3K2Q " + why: NotFound, "/noxaudit waive NX-1W7GY3RFZZ " + why: NotFound, "/noxaudit explain NX-1W7GY3": "", "/noxaudit waive here " + why: NotYet} {
		c, err := Parse(line)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := NewDocument(Asking{Command: c, Finding: Finding{ID: "NX-1W7GY3RF", Fingerprint: fingerprint}, Terms: DefaultTerms()}, facts(author)); err == nil || code(err) != want {
			t.Errorf("%s: %v", line, err)
		}
	}
}

func TestAnIDIsAPrefixOfExactlyOne(t *testing.T) {
	a, b := "00000000000000"+strings.Repeat("1", 50), "000000000000ff"+strings.Repeat("2", 50)
	c := strings.Repeat("f", 64)
	target := func(s string) Target {
		t.Helper()
		got, err := ParseTarget(s)
		if err != nil {
			t.Fatal(err)
		}
		return got
	}
	if at, err := Find(target("nx-zzzzzz"), []string{a, b, c, "junk"}); err != nil || at != 2 {
		t.Errorf("%d, %v", at, err)
	}
	if at, err := Find(target("W-0000000003"), []string{"sha256:" + a, "sha256:" + b}); err != nil || at != 1 {
		t.Errorf("%d, %v", at, err)
	}
	if _, err := Find(target("NX-000000"), []string{a, b, c}); code(err) != Ambiguous || !strings.Contains(err.Error(), "matches 2 findings: NX-0000000000 or NX-0000000003.") {
		t.Errorf("%v", err)
	}
	if _, err := Find(target("W-ABCDEF"), []string{"sha256:" + c}); code(err) != NotFound || !strings.Contains(err.Error(), "Valid are W-ZZZZZZZZ.") {
		t.Errorf("%v", err)
	}
	if _, err := Find(target("NX-ABCDEF"), nil); code(err) != NotFound {
		t.Errorf("%v", err)
	}
	if at, err := Find(target("NX-ZZZZZZ"), []string{c, c}); err != nil || at != 0 {
		t.Errorf("one finding twice: %d, %v", at, err)
	}
}

func TestDocumentIsReadBackAsWrittenAndNothingElseIs(t *testing.T) {
	d := requested(t, author, func(d *Document) { d.Ticket, d.Control, d.Renews = "SEC-1", "egress", canon.Digest([]byte("x")) }).Document
	b, err := d.Canonical()
	if err != nil {
		t.Fatal(err)
	}
	back, err := ParseCanonical(b)
	if err != nil {
		t.Fatal(err)
	}
	if again, err := back.Canonical(); err != nil || !bytes.Equal(again, b) {
		t.Errorf("%s\n%s, %v", b, again, err)
	}
	digest, err := d.Digest()
	if err != nil || digest != canon.Digest(b) || len(ID(digest)) != 10 || !strings.HasPrefix(ID(digest), "W-") {
		t.Errorf("%s %s, %v", digest, ID(digest), err)
	}
	change := func(old, new string) string {
		t.Helper()
		if !bytes.Contains(b, []byte(old)) {
			t.Fatalf("%s is not in %s", old, b)
		}
		return strings.Replace(string(b), old, new, 1)
	}
	for what, s := range map[string]string{
		"white space":           " " + string(b),
		"something after":       string(b) + "{}",
		"an unknown member":     change(`"schema"`, `"x":1,"schema"`),
		"another schema":        change("noxaudit.waiver/1", "noxaudit.waiver/2"),
		"no account":            change(`"account":"583231"`, `"account":""`),
		"no repository":         change(`"id":"42"`, `"id":""`),
		"another id":            change(`"id":"NX-`, `"id":"NX-0`),
		"no severity":           change(`"severity":"high"`, `"severity":"bad"`),
		"a path that leaves":    change(`"src/a.go"`, `"../a.go"`),
		"an unknown kind":       change(`"kind":"accepted-risk"`, `"kind":"whatever"`),
		"no reason":             change("legacy SOAP client, isolated VPC", "x"),
		"an empty reason":       change("legacy SOAP client, isolated VPC", ""),
		"a wider scope":         change(`"scope":"finding"`, `"scope":"repo"`),
		"an end within a day":   change("23:59:59Z", "23:59:58Z"),
		"an end above most":     change("2026-10-31", "2027-10-31"),
		"an end in the past":    change("2026-10-31", "2026-09-30"),
		"a time zone":           change("23:59:59Z", "23:59:59+00:00"),
		"a nameless requester":  change(`"login":"alice"`, `"login":""`),
		"a numberless one":      change(`{"id":1,"login"`, `{"id":0,"login"`),
		"no surface":            change(`"surface":"comment"`, `"surface":"mail"`),
		"no comment":            change(`"pull":7,`, ``),
		"no approval needed":    change(`"approvals":1`, `"approvals":0`),
		"anybody approves":      change(`"permission":"maintain"`, `"permission":"write"`),
		"renews nothing":        change(`"renews":"sha256:`, `"renews":"sha257:`),
		"white space in ticket": change(`"SEC-1"`, `"SEC-1 "`),
		"no list of kinds":      `{"schema":"noxaudit.waiver/1"}`,
	} {
		if _, err := ParseCanonical([]byte(s)); !errors.Is(err, ErrForm) {
			t.Errorf("%s: %v", what, err)
		}
	}
}

func FuzzParseCanonical(f *testing.F) {
	b, err := requested(f, author).Document.Canonical()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Add([]byte("{}"))
	f.Add(bytes.Replace(b, []byte("accepted-risk"), []byte("deferred"), 1))
	f.Fuzz(func(t *testing.T, b []byte) {
		d, err := ParseCanonical(b)
		if err != nil {
			if !errors.Is(err, ErrForm) {
				t.Errorf("got %v", err)
			}
			return
		}
		if again, err := d.Canonical(); err != nil || !bytes.Equal(again, b) {
			t.Errorf("read %q, wrote %q, %v", b, again, err)
		}
	})
}

// acts generates what can happen to w, with facts that are sometimes right.
func anyAct(t *rapid.T, w Waiver, people []Person, sure bool) (Act, Facts) {
	f := facts(rapid.SampledFrom(people).Draw(t, "who"))
	f.Time = now.Add(time.Duration(rapid.IntRange(0, 40*24).Draw(t, "hours")) * time.Hour)
	if !sure {
		f.Permission = rapid.SampledFrom(append([]Permission{"", "owner"}, permissions...)).Draw(t, "permission")
		f.Actor.Bot = rapid.IntRange(0, 9).Draw(t, "bot") == 0
		f.Pull.Open = rapid.IntRange(0, 4).Draw(t, "open") > 0
	}
	digest := rapid.SampledFrom([]string{"", w.target().Digest, "00000000"}).Draw(t, "digest")
	comment := w.Document.Asked.Comment
	if len(w.Approvals) > 0 && rapid.Bool().Draw(t, "approval's comment") {
		comment = w.Approvals[0].Place.Comment
	}
	return rapid.SampledFrom([]Act{
		Approve{Digest: digest}, Approve{}, Approve{}, Reject{digest, "this is not acceptable"}, Revoke{digest, "this is not acceptable"},
		Suspend{Edited, Comment, comment, time.Time{}}, Suspend{Deleted, Comment, comment, time.Time{}}, Lapse{}, Expire{}, Resolve{},
		Request{w.Document},
	}).Draw(t, "act"), f
}

func TestNoSequenceOfActsByExcludedPeopleMakesAWaiverActive(t *testing.T) {
	start := requested(t, requester)
	rapid.Check(t, func(t *rapid.T) {
		w := start
		for range rapid.IntRange(1, 12).Draw(t, "acts") {
			act, f := anyAct(t, w, []Person{author, coauthor, pusher, requester}, true)
			if next, err := Apply(w, act, f); err == nil {
				w = next
			}
			if w.State == Active || Holds(w, w.Key(), f.Time) {
				t.Fatalf("active: %+v", w)
			}
		}
	})
}

func TestWhateverHappensTheLawsHold(t *testing.T) {
	one := requested(t, requester)
	two := requested(t, requester, func(d *Document) { d.Terms.Approvals = 2 })
	rapid.Check(t, func(t *rapid.T) {
		w := rapid.SampledFrom([]Waiver{one, two}).Draw(t, "waiver")
		for range rapid.IntRange(1, 25).Draw(t, "acts") {
			act, f := anyAct(t, w, []Person{author, coauthor, pusher, requester, security, second, {7, "grace"}}, false)
			before, _ := json.Marshal(w)
			next, err := Apply(w, act, f)
			if after, _ := json.Marshal(w); !bytes.Equal(before, after) {
				t.Fatalf("%T changed its argument", act)
			}
			if err != nil {
				if r := new(Refusal); !errors.As(err, &r) || r.Code == "" || r.Sentence == "" {
					t.Fatalf("%T: %v is no refusal", act, err)
				}
				continue
			}
			if changed := canonical(next) != canonical(w); changed != (next.Version == w.Version+1) || next.Version < w.Version {
				t.Fatalf("%T: version %d follows %d, changed %v", act, next.Version, w.Version, changed)
			}
			if w.State.Final() && next.State != w.State {
				t.Fatalf("%s became %s", w.State, next.State)
			}
			if next.Digest != w.Digest || next.ID != w.ID {
				t.Fatal("the content changed")
			}
			if next.State.Final() != (next.End != nil) {
				t.Fatalf("%s with end %v", next.State, next.End)
			}
			w = next
			seen := map[int64]bool{}
			for _, a := range w.Approvals {
				if seen[a.By.ID] || !a.Permission.AtLeast(Maintain) || slices.Contains([]int64{author.ID, coauthor.ID, pusher.ID, requester.ID}, a.By.ID) {
					t.Fatalf("approval by %+v", a)
				}
				seen[a.By.ID] = true
			}
			if Holds(w, w.Key(), f.Time) && (w.Missing() > 0 || w.State != Active) {
				t.Fatalf("holds with approvals missing: %+v", w)
			}
			if Holds(w, w.Key(), now.Add(31*24*time.Hour)) {
				t.Fatal("holds after its end")
			}
		}
	})
}

func canonical(w Waiver) string {
	w.Version = 0
	b, err := canon.Marshal(w)
	if err != nil {
		panic(err)
	}
	return string(b)
}

func TestApprovalsCommute(t *testing.T) {
	start := requested(t, requester, func(d *Document) { d.Terms.Approvals = 2 })
	people := []Person{security, second, {7, "grace"}, author, coauthor}
	rapid.Check(t, func(t *rapid.T) {
		run := func(order []Person) (State, int, []int64) {
			w := start
			for _, p := range order {
				if next, err := Apply(w, Approve{}, facts(p)); err == nil {
					w = next
				}
			}
			var ids []int64
			for _, a := range w.Approvals {
				ids = append(ids, a.By.ID)
			}
			slices.Sort(ids)
			return w.State, w.Missing(), ids
		}
		some := rapid.SliceOf(rapid.SampledFrom(people)).Draw(t, "people")
		s1, m1, i1 := run(some)
		s2, m2, i2 := run(rapid.Permutation(some).Draw(t, "order"))
		if s1 != s2 || m1 != m2 || !slices.Equal(i1, i2) {
			t.Fatalf("%s %d %v, %s %d %v", s1, m1, i1, s2, m2, i2)
		}
	})
}
