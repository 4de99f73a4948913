package gate

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/noxaudit/noxaudit/internal/canon"
	"github.com/noxaudit/noxaudit/internal/name"
	"github.com/noxaudit/noxaudit/internal/store"
	"github.com/noxaudit/noxaudit/ledger"
)

// Receive puts a webhook delivery in the inbox, with its entry. It returns nil when the delivery is durable; one
// that is there already is nil too.
func (g *Gate) Receive(ctx context.Context, account name.Account, d store.Delivery) error {
	at := g.Now()
	c := store.Change{Time: at, Delivery: &d}
	err := g.entry(&c, at, account, "deliveries", "delivery.received", ledger.Actor{Kind: "app", Name: "GitHub", Via: "webhook"},
		map[string]string{"delivery": d.GUID},
		map[string]any{"event": d.Event, "action": d.Action, "installation": d.Installation, "body": canon.Digest(d.Body)})
	if err != nil {
		return err
	}
	// Not retried here: GitHub waits ten seconds, and the sweep asks for what was refused.
	err = g.Store.For(account).Commit(ctx, c)
	if errors.Is(err, store.ErrDuplicateDelivery) {
		return nil
	}
	return err
}

// itself is who did what nobody asked for by name.
var itself = ledger.Actor{Kind: "system", Name: "noxaudit"}

// entry gives a change an entry about GitHub's side.
func (g *Gate) entry(c *store.Change, at time.Time, account name.Account, source, event string, actor ledger.Actor, subject map[string]string, content any) error {
	id, err := ledger.NewID(at, g.Rand)
	if err != nil {
		return err
	}
	salt, err := ledger.NewSalt(g.Rand)
	if err != nil {
		return err
	}
	c.Entries = append(c.Entries, ledger.Event{
		Time: at, Source: source, ID: id, Salt: salt, Type: event, Account: account.String(), Actor: actor, Subject: subject, Content: content,
	})
	return nil
}

// maxAttempts is how often the processing of one delivery may begin without coming to an end: a delivery that
// brings the process down must not do so for ever.
const maxAttempts = 8

// Heard is what a delivery left to be done.
type Heard struct {
	Heads     []store.HeadKey   // to look at
	Reconcile bool              // which repositories there are has changed: ask GitHub for the lists
	Answer    *store.CommandKey // somebody is owed an answer
}

// Parse reads a delivery's body; see internal/github.
type Parse func(event string, body []byte) (Event, error)

// Hear does what a delivery asks for: it brings the known state of GitHub up to date and raises the wanted
// generation of every head that has to be looked at. A delivery that was heard before has no effect.
func (g *Gate) Hear(ctx context.Context, key store.DeliveryKey, parse Parse, people People) (Heard, error) {
	tenant := g.Store.For(key.Account)
	attempts, err := tenant.DeliveryTried(ctx, key.GUID)
	if errors.Is(err, store.ErrAlreadyDone) {
		return Heard{}, nil
	}
	if err != nil {
		return Heard{}, err
	}
	d, err := tenant.Delivery(ctx, key.GUID)
	if err != nil {
		return Heard{}, err
	}
	ev, err := parse(d.Event, d.Body)
	for again := 1; ; again++ {
		heard, hearErr := g.heard(ctx, tenant, key, d, ev, err, attempts, people)
		if errors.Is(hearErr, store.ErrStale) && again < maxOvertaken { // a waiver changed meanwhile
			continue
		}
		if passing(ctx, hearErr) != nil { // it did not bring the process down: what it waits for will pass
			hearErr = errors.Join(hearErr, tenant.DeliverySpared(context.WithoutCancel(ctx), key.GUID))
		}
		return heard, hearErr
	}
}

func (g *Gate) heard(ctx context.Context, tenant *store.Tenant, key store.DeliveryKey, d store.Delivery, ev Event, err error, attempts int, people People) (Heard, error) {
	at := g.Now()
	c := store.Change{Time: at, DeliveryDone: &store.DeliveryDone{GUID: key.GUID, State: store.DeliveryFinished, At: at}}
	if attempts > maxAttempts {
		err = fmt.Errorf("its processing began %d times and never ended", attempts)
	}
	if err != nil {
		c.DeliveryDone.State, c.DeliveryDone.Note = store.DeliveryRefused, err.Error()
		if err := g.entry(&c, at, key.Account, "deliveries", "delivery.refused", ledger.Actor{Kind: "system"},
			map[string]string{"delivery": key.GUID}, map[string]string{"reason": err.Error()}); err != nil {
			return Heard{}, err
		}
		return Heard{}, done(tenant.Commit(ctx, c))
	}
	content := map[string]any{"event": d.Event, "action": d.Action}
	if ev.Remark != nil {
		err = g.remarked(ctx, tenant, &c, ev, content, people)
	} else {
		err = g.effect(ctx, tenant, &c, ev, content)
	}
	if errors.Is(err, store.ErrAlreadyDone) { // this remark was acted on before, under another delivery
		c = store.Change{Time: at, DeliveryDone: c.DeliveryDone}
		content["known"] = true
	} else if err != nil {
		return Heard{}, err
	}
	subject := map[string]string{"delivery": key.GUID}
	if ev.Origin.Repo.ID != "" {
		subject["repository"] = ev.Origin.Repo.ID
	}
	if err := g.entry(&c, at, key.Account, "deliveries", "delivery.processed", ev.Sender, subject, content); err != nil {
		return Heard{}, err
	}
	if err := done(tenant.Commit(ctx, c)); err != nil {
		return Heard{}, err
	}
	heard := Heard{Reconcile: ev.Installation != nil || ev.Repository != nil}
	for _, w := range c.Want {
		heard.Heads = append(heard.Heads, store.HeadKey{Account: key.Account, Repository: w.Repository, SHA: w.SHA})
	}
	if c.Command != nil && (c.Command.Answer != "" || c.Command.Reaction != "") {
		heard.Answer = &store.CommandKey{Account: key.Account, Repository: c.Command.Repository, Surface: c.Command.Surface, ID: c.Command.ID}
	}
	return heard, nil
}

// done takes a delivery that somebody else has processed meanwhile for what it is: processed.
func done(err error) error {
	if errors.Is(err, store.ErrAlreadyDone) {
		return nil
	}
	return err
}

// effect writes into the change what an event says, and into content what of it the entry keeps.
func (g *Gate) effect(ctx context.Context, tenant *store.Tenant, c *store.Change, ev Event, content map[string]any) error {
	if ev.Origin.Repo.ID != "" {
		c.Repositories = append(c.Repositories, repositoryOf(ev.Origin, ev.Repository == nil || ev.Repository.Action != "deleted"))
	}
	repo := ev.Origin.Repo.ID
	switch {
	case ev.Pull != nil:
		p := ev.Pull.Pull
		content["pull"], content["head"] = p.Number, p.Head.String()
		row := pullOf(repo, p)
		switch ev.Pull.Action { // who brought this head, and what it replaces
		case "opened":
			row.Follows, row.Pusher = store.FirstHead, personID(ev.Sender)
		case "synchronize":
			row.Follows, row.Pusher = ev.Pull.Before.String(), personID(ev.Sender)
		}
		return g.described(ctx, tenant, c, row, ev.Pull.Action == "reopened")
	case ev.Push != nil:
		return g.pushed(ctx, tenant, c, ev, content)
	case ev.MergeGroup != nil:
		m := ev.MergeGroup
		content["head"], content["base"] = m.Head.String(), m.Base.String()
		c.MergeGroup = &store.MergeGroup{Repository: repo, Head: m.Head, HeadRef: m.HeadRef, Base: m.Base, BaseRef: m.BaseRef, Active: m.Action == "checks_requested"}
		if c.MergeGroup.Active {
			want(c, repo, m.Head)
		}
	case ev.Rerun != nil:
		content["head"] = ev.Rerun.Head.String()
		want(c, repo, ev.Rerun.Head)
		return anew(ctx, tenant, c, repo, ev.Rerun.Head)
	case ev.Installation != nil:
		return installed(c, ev.Installation, content)
	}
	return nil
}

// described takes in what a pull request is now. Its head is looked at while it is open; a head that it left behind, or
// that it no longer asks for, is looked at again where somebody else has it too: what stood against it may be gone.
//
// GitHub's times are whole seconds, so two descriptions may be equally old. One that is sure that it is open (it was
// reopened, or GitHub lists it) stands against a closing of the same second, whichever comes first: taken for open
// by mistake it is one look too many, taken for closed it has no check.
func (g *Gate) described(ctx context.Context, tenant *store.Tenant, c *store.Change, p store.Pull, sure bool) error {
	left := map[name.Commit]bool{}
	if p.Open {
		want(c, p.Repository, p.Head)
	} else {
		left[p.Head] = true
	}
	known, err := tenant.Pull(ctx, p.Repository, p.Number)
	if unlessUnknown(err) != nil {
		return err
	}
	if err == nil {
		if known.Open && known.Head != p.Head {
			left[known.Head] = true
		}
		if p.Open && known.UpdatedAt.Truncate(time.Second).Equal(p.UpdatedAt.Truncate(time.Second)) {
			p.UpdatedAt = known.UpdatedAt
		}
	}
	if p.Open && sure {
		p.UpdatedAt = p.UpdatedAt.Add(time.Microsecond)
	}
	c.Pulls = append(c.Pulls, p)
	for head := range left {
		pulls, err := tenant.PullsByHead(ctx, p.Repository, head)
		if err != nil {
			return err
		}
		groups, err := tenant.MergeGroups(ctx, p.Repository, head)
		if err != nil {
			return err
		}
		others := slices.ContainsFunc(pulls, func(o store.Pull) bool { return o.Number != p.Number })
		if others || len(groups) > 0 {
			want(c, p.Repository, head)
		}
	}
	return nil
}

// personID is the numeric id of who did it; 0 when there is none.
func personID(a ledger.Actor) int64 {
	id, err := strconv.ParseInt(a.ID, 10, 64)
	if err != nil {
		return 0
	}
	return id
}

func want(c *store.Change, repo string, head name.Commit) {
	for _, w := range c.Want {
		if w.Repository == repo && w.SHA == head {
			return
		}
	}
	if !head.IsZero() && len(c.Want) < store.MaxWants {
		c.Want = append(c.Want, store.Want{Repository: repo, SHA: head})
	}
}

// archived is how old a check run is when GitHub no longer takes it for a required one. It deletes it ten days later.
const archived = 400 * 24 * time.Hour

// anew asks for a run of its own, where the one that a wanted head has is archived.
func anew(ctx context.Context, tenant *store.Tenant, c *store.Change, repo string, head name.Commit) error {
	h, err := tenant.Head(ctx, repo, head)
	if err != nil || c.Time.Sub(h.Changed) <= archived {
		return unlessUnknown(err)
	}
	for i, w := range c.Want {
		if w.Repository == repo && w.SHA == head {
			c.Want[i].Anew = true
		}
	}
	return nil
}

func unlessUnknown(err error) error {
	if errors.Is(err, store.ErrNotFound) {
		return nil
	}
	return err
}

func repositoryOf(o Origin, covered bool) store.Repository {
	return store.Repository{ID: o.Repo.ID, FullName: o.Repo.FullName, Origin: &store.Origin{
		Installation: o.Installation, Owner: o.Owner, Name: o.Name, DefaultBranch: o.DefaultBranch,
		Private: o.Private, Archived: o.Archived, Covered: covered,
	}}
}

func pullOf(repo string, p Pull) store.Pull {
	return store.Pull{
		Repository: repo, Number: p.Number, Head: p.Head, HeadRef: p.HeadRef, HeadRepo: p.HeadRepo, BaseRef: p.BaseRef, Base: p.Base,
		Draft: p.Draft, Open: p.Open, Title: p.Title, AuthorID: p.AuthorID, Author: p.Author, UpdatedAt: p.UpdatedAt,
	}
}

// pushed hears a push. The tip of the default branch is looked at as a merge group of its own; a push to any
// branch that may have changed its policies has the pull requests into it judged again.
func (g *Gate) pushed(ctx context.Context, tenant *store.Tenant, c *store.Change, ev Event, content map[string]any) error {
	p, repo := ev.Push, ev.Origin.Repo.ID
	content["ref"], content["before"], content["after"] = p.Ref, p.Before.String(), p.After.String()
	if p.Deleted {
		return nil
	}
	if p.Ref == "refs/heads/"+ev.Origin.DefaultBranch {
		c.MergeGroup = &store.MergeGroup{Repository: repo, Head: p.After, HeadRef: p.Ref, Base: p.Before, BaseRef: p.Ref, Active: true}
		want(c, repo, p.After)
	}
	touched := !p.PathsComplete
	for _, path := range p.Paths {
		touched = touched || path == PolicyPath
	}
	if !touched {
		return nil
	}
	open, err := tenant.OpenPulls(ctx, repo)
	if err != nil {
		return err
	}
	open = slices.DeleteFunc(open, func(pull store.Pull) bool { return "refs/heads/"+pull.BaseRef != p.Ref })
	// More than one change holds are wanted before: hearing it again after a crash wants them twice, which costs a look.
	for len(open) > store.MaxWants/2 {
		at := g.Now()
		part := store.Change{Time: at}
		for _, pull := range open[:store.MaxWants/2] {
			want(&part, repo, pull.Head)
		}
		open = open[store.MaxWants/2:]
		err := g.entry(&part, at, tenant.Account(), "repository/"+repo+"/checks", "heads.wanted", ev.Sender, map[string]string{"repository": repo},
			map[string]any{"ref": p.Ref, "after": p.After.String(), "heads": len(part.Want)})
		if err != nil {
			return err
		}
		if err := tenant.Commit(ctx, part); err != nil {
			return err
		}
	}
	for _, pull := range open {
		want(c, repo, pull.Head)
	}
	return nil
}

// installed hears what became of an installation and of the repositories that it covers.
func installed(c *store.Change, in *InstallationEvent, content map[string]any) error {
	content["installation"], content["login"] = strconv.FormatInt(in.ID, 10), in.Login
	state := store.InstallationActive
	switch in.Action {
	case "deleted":
		state = store.InstallationDeleted
	case "suspend":
		state = store.InstallationSuspended
	}
	c.Installation = &store.Installation{ID: in.ID, Login: in.Login, State: state}
	for _, o := range in.Added {
		c.Repositories = append(c.Repositories, repositoryOf(o, state != store.InstallationDeleted))
	}
	for _, o := range in.Removed {
		c.Repositories = append(c.Repositories, repositoryOf(o, false))
	}
	content["added"], content["removed"] = len(in.Added), len(in.Removed)
	if len(c.Repositories) > store.MaxRepositories {
		// The rest is found by the next reconciliation, which lists what the installation covers.
		c.Repositories = c.Repositories[:store.MaxRepositories]
	}
	return nil
}
