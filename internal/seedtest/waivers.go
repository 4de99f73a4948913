package seedtest

import (
	"context"
	"crypto/rand"
	"time"

	"github.com/noxaudit/noxaudit/internal/canon"
	"github.com/noxaudit/noxaudit/internal/finding"
	"github.com/noxaudit/noxaudit/internal/name"
	"github.com/noxaudit/noxaudit/internal/store"
	"github.com/noxaudit/noxaudit/ledger"
	"github.com/noxaudit/noxaudit/policy/waiver"
)

// Ask is a request for a waiver.
type Ask struct {
	By        waiver.Person
	Reason    string
	Kind      waiver.Kind
	Days      int
	Approvals int // that it takes; 0: 1
	Pull      int
}

// Finding is an open finding of the repository of this type, the nth from the top of its line.
func (r *Repo) Finding(line, kind string, n int) finding.Finding {
	r.w.t.Helper()
	fs, err := r.w.Store.For(r.w.Account).OpenFindings(context.Background(), r.ID, line)
	check(r.w.t, err)
	for _, f := range fs {
		if f.Type == kind {
			if n == 0 {
				return f
			}
			n--
		}
	}
	r.w.t.Fatalf("%s has no such finding of type %s on %s", r.Name, kind, line)
	return finding.Finding{}
}

// Waive asks for a waiver.
func (r *Repo) Waive(f finding.Finding, a Ask) waiver.Waiver {
	w := r.w
	w.t.Helper()
	terms := waiver.DefaultTerms()
	terms.Approvals = max(1, a.Approvals)
	facts := w.facts(a.By, a.Pull, 1)
	doc, err := waiver.NewDocument(waiver.Asking{
		Command: waiver.Command{Verb: waiver.VerbWaive, Target: waiver.Target{Kind: waiver.FindingTarget, ID: f.ID}, Reason: a.Reason, Kind: a.Kind, Days: a.Days}, Account: w.Account,
		Repo:    name.Repo{Account: w.Account, ID: r.ID, FullName: w.Login + "/" + r.Name},
		Finding: waiver.Finding{ID: f.ID, Fingerprint: f.Fingerprint, Content: f.Content, Type: f.Type, Severity: f.Severity.String(), Path: f.Path},
		Place:   facts.Place, Terms: terms,
	}, facts)
	check(w.t, err)
	next, err := waiver.Apply(waiver.Waiver{}, waiver.Request{Document: doc}, facts)
	check(w.t, err)
	w.keep(next, 0, "waiver.requested", a.By, map[string]any{"document": doc, "digest": next.Digest, "state": next.State})
	return next
}

func (w *World) facts(by waiver.Person, pull int, comment int64) waiver.Facts {
	f := waiver.Facts{Time: w.Now, Actor: waiver.Actor{Person: by}, Permission: waiver.Maintain, Place: waiver.Place{Surface: waiver.CLI}}
	if pull > 0 {
		head := commit(w.t, "4f8c2d14f8c2d14f8c2d14f8c2d14f8c2d14f8c2")
		f.Place = waiver.Place{Surface: waiver.Comment, Pull: pull, Head: head, Comment: comment, Body: canon.Digest([]byte("comment"))}
		f.Pull = &waiver.Pull{Number: pull, Open: true, Head: head, Author: 501, Contributors: []int64{501}, LastPusher: 501}
	}
	return f
}

// Act does something to a waiver.
func (w *World) Act(x waiver.Waiver, act waiver.Act, by waiver.Person, event, reason string) waiver.Waiver {
	w.t.Helper()
	next, err := waiver.Apply(x, act, w.facts(by, x.Document.Asked.Pull, int64(2+x.Version)))
	check(w.t, err)
	content := map[string]any{"digest": x.Digest, "state": next.State}
	if reason != "" {
		content["reason"] = reason
	}
	if s, ok := act.(waiver.Suspend); ok {
		content["cause"] = s.Cause
	}
	w.keep(next, int64(x.Version), event, by, content)
	return next
}

// Refuse records that somebody was refused.
func (w *World) Refuse(x waiver.Waiver, by waiver.Person, reason string) {
	w.t.Helper()
	check(w.t, w.Store.For(w.Account).Commit(context.Background(), store.Change{Time: w.Now, Entries: []ledger.Event{
		w.waiverEvent(x, "command.refused", by, map[string]any{"code": "own-request", "reason": reason}),
	}}))
}

func (w *World) waiverEvent(x waiver.Waiver, event string, by waiver.Person, content map[string]any) ledger.Event {
	id, err := ledger.NewID(w.Now, rand.Reader)
	check(w.t, err)
	salt, err := ledger.NewSalt(rand.Reader)
	check(w.t, err)
	actor := ledger.Actor{Kind: "user", ID: "1", Name: by.Login, Via: "comment"}
	if by.Login == "" {
		actor = ledger.Actor{Kind: "system", Name: "noxaudit"}
	}
	return ledger.Event{Time: w.Now, Source: "waiver/" + x.ID, ID: id, Salt: salt, Type: event, Account: w.Account.String(), Actor: actor,
		Subject: map[string]string{"waiver": x.ID, "finding": x.Document.Finding.ID, "repository": x.Document.Repository.ID}, Content: content}
}

func (w *World) keep(x waiver.Waiver, from int64, event string, by waiver.Person, content map[string]any) {
	w.t.Helper()
	body, err := canon.Marshal(x)
	check(w.t, err)
	until, err := time.Parse(time.RFC3339Nano, x.Document.Until)
	check(w.t, err)
	requested, err := time.Parse(time.RFC3339Nano, x.Document.Requested)
	check(w.t, err)
	row := store.Waiver{
		ID: x.ID, Digest: x.Digest, Repository: x.Document.Repository.ID, Fingerprint: x.Document.Finding.Fingerprint, Content: x.Document.Finding.Content,
		Finding: x.Document.Finding.ID, State: string(x.State), Suspended: x.Suspended != nil, Pull: x.Document.Asked.Pull, Requester: x.Document.Requester.ID,
		Requested: requested, Until: until, Version: from, Body: body,
	}
	switch x.State {
	case waiver.Active:
		row.Due = until.Add(time.Second)
	case waiver.Pending:
		row.Due = requested.AddDate(0, 0, x.Document.Terms.PendingDays)
	}
	check(w.t, w.Store.For(w.Account).Commit(context.Background(), store.Change{Time: w.Now, Waivers: []store.Waiver{row}, Entries: []ledger.Event{w.waiverEvent(x, event, by, content)}}))
}
