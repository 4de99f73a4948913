package gate

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/noxaudit/noxaudit/internal/name"
	"github.com/noxaudit/noxaudit/internal/store"
	"github.com/noxaudit/noxaudit/ledger"
)

// maxRedeliveries is how many deliveries one sweep asks for.
const maxRedeliveries = 200

// Sweep asks GitHub to send again what it could not deliver since a time: it does not do so by itself. One that
// arrived by another attempt is left alone; one that is in the inbox already has no effect twice.
func Sweep(ctx context.Context, forge Forge, since time.Time) (asked int, err error) {
	records, err := forge.Deliveries(ctx, since)
	if err != nil {
		return 0, err
	}
	arrived := map[string]bool{}
	for _, r := range records {
		arrived[r.GUID] = arrived[r.GUID] || r.OK
	}
	for _, r := range records {
		if arrived[r.GUID] || asked == maxRedeliveries {
			continue
		}
		arrived[r.GUID] = true
		if err := forge.Redeliver(ctx, r.ID); err != nil {
			return asked, err
		}
		asked++
	}
	return asked, nil
}

// Reconcile brings what is known of GitHub up to date from its own lists, for whatever no webhook told: installations,
// the repositories they cover, open pull requests, every open head that has no finished check, and the tip of a
// default branch that was never looked at: GitHub offers a check as a required one only where one was completed.
// It returns the heads that have to be looked at. A repository that cannot be listed does not keep the others from it.
func (g *Gate) Reconcile(ctx context.Context, forge Forge, fetcher Fetcher, people People) ([]store.HeadKey, error) {
	installations, err := forge.Installations(ctx)
	if err != nil {
		return nil, err
	}
	var heads []store.HeadKey
	var problems []error
	for _, in := range installations {
		origins, err := forge.Repositories(ctx, in.ID)
		if err != nil {
			problems = append(problems, fmt.Errorf("installation %d: %w", in.ID, err))
			continue
		}
		for _, o := range origins {
			if o.Archived {
				continue
			}
			more, err := g.reconcileRepository(ctx, forge, fetcher, in, o)
			heads = append(heads, more...)
			if err == nil {
				err = g.reconcileComments(ctx, forge, people, o)
			}
			if err != nil {
				problems = append(problems, fmt.Errorf("repository %s: %w", o.Repo.ID, err))
			}
		}
	}
	return heads, errors.Join(problems...)
}

func (g *Gate) reconcileRepository(ctx context.Context, forge Forge, fetcher Fetcher, in InstallationEvent, o Origin) ([]store.HeadKey, error) {
	tenant := g.Store.For(o.Repo.Account)
	before, err := tenant.OpenPulls(ctx, o.Repo.ID) // before GitHub is asked: one that opens meanwhile is not taken for closed
	if err != nil {
		return nil, err
	}
	pulls, err := forge.OpenPulls(ctx, o)
	if err != nil {
		return nil, err
	}
	at := g.Now()
	c := store.Change{
		Time: at, Installation: &store.Installation{ID: in.ID, Login: in.Login, State: store.InstallationActive},
		Repositories: []store.Repository{repositoryOf(o, true)},
	}
	for _, p := range pulls {
		if len(c.Pulls) == store.MaxPulls {
			break // the others are found by their own events, or in the next round
		}
		lacking, err := lacksCheck(ctx, tenant, o.Repo.ID, p.Head, at)
		if err != nil {
			return nil, err
		}
		// A finished check of the head is not enough: it may be another pull request's, or into another branch.
		known, err := tenant.Pull(ctx, o.Repo.ID, p.Number)
		if unlessUnknown(err) != nil {
			return nil, err
		}
		untold := err != nil || !known.Open || known.Head != p.Head || known.BaseRef != p.BaseRef
		if lacking || untold {
			if err := g.described(ctx, tenant, &c, pullOf(o.Repo.ID, p), true); err != nil {
				return nil, err
			}
			if err := anew(ctx, tenant, &c, o.Repo.ID, p.Head); err != nil {
				return nil, err
			}
		}
	}
	if err := g.closed(ctx, forge, tenant, o, before, pulls, &c); err != nil {
		return nil, err
	}
	if err := g.seed(ctx, tenant, fetcher, o, &c); err != nil {
		return nil, err
	}
	known, err := tenant.Repository(ctx, o.Repo.ID)
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		return nil, err
	}
	if err == nil && len(c.Want)+len(c.Pulls) == 0 && known.FullName == o.Repo.FullName && known.Origin != nil && *known.Origin == *c.Repositories[0].Origin {
		return nil, nil // nothing that was not known
	}
	err = g.entry(&c, at, o.Repo.Account, "deliveries", "repository.reconciled", itself,
		map[string]string{"repository": o.Repo.ID}, map[string]any{"name": o.Repo.FullName, "pulls": len(pulls), "wanted": len(c.Want)})
	if err != nil {
		return nil, err
	}
	if err := tenant.Commit(ctx, c); err != nil {
		return nil, err
	}
	var heads []store.HeadKey
	for _, w := range c.Want {
		heads = append(heads, store.HeadKey{Account: o.Repo.Account, Repository: w.Repository, SHA: w.SHA})
	}
	return heads, nil
}

// commentsSince is how far back a round reads comments: several rounds, since one may fail.
const commentsSince = 3 * time.Hour

// reconcileComments hears commands, and edits of commands, that no webhook told. The heads that they want looked at are
// found by the next look.
func (g *Gate) reconcileComments(ctx context.Context, forge Forge, people People, o Origin) error {
	tenant := g.Store.For(o.Repo.Account)
	open, err := tenant.OpenPulls(ctx, o.Repo.ID)
	if err != nil || len(open) == 0 {
		return err
	}
	remarks, err := forge.Comments(ctx, o, g.Now().Add(-commentsSince))
	if err != nil {
		return err
	}
	var problems []error // one that cannot be heard does not keep the others from it
	for _, r := range remarks {
		at := g.Now()
		c := store.Change{Time: at}
		sender := ledger.Actor{Kind: "user", ID: strconv.FormatInt(r.Author.ID, 10), Name: r.Author.Login}
		content := map[string]any{}
		err := g.remarked(ctx, tenant, &c, Event{Sender: sender, Origin: o, Remark: &r}, content, people)
		if errors.Is(err, store.ErrAlreadyDone) || err == nil && c.Command == nil {
			continue // it was heard, or says nothing to us
		}
		if passing(ctx, err) != nil {
			return err
		}
		if err != nil {
			problems = append(problems, fmt.Errorf("comment %d: %w", r.ID, err))
			continue
		}
		if err := g.entry(&c, at, o.Repo.Account, "deliveries", "comment.found", itself,
			map[string]string{"repository": o.Repo.ID}, content); err != nil {
			return err
		}
		if err := done(tenant.Commit(ctx, c)); err != nil && !errors.Is(err, store.ErrStale) { // stale: the next round
			problems = append(problems, fmt.Errorf("comment %d: %w", r.ID, err))
		}
	}
	return errors.Join(problems...)
}

// closed takes in which of the pull requests known before are open no more. GitHub is asked twice: when one is closed
// while its pages are read, another slips through between two of them.
func (g *Gate) closed(ctx context.Context, forge Forge, tenant *store.Tenant, o Origin, before []store.Pull, listed []Pull, c *store.Change) error {
	gone := func(before []store.Pull, listed []Pull) []store.Pull {
		return slices.DeleteFunc(slices.Clone(before), func(b store.Pull) bool {
			return slices.ContainsFunc(listed, func(p Pull) bool { return p.Number == b.Number })
		})
	}
	missing := gone(before, listed)
	if len(missing) == 0 {
		return nil
	}
	again, err := forge.OpenPulls(ctx, o)
	if err != nil {
		return err
	}
	for _, b := range gone(missing, again) {
		if len(c.Pulls) == store.MaxPulls {
			break
		}
		// With the time that is known: a description that comes meanwhile is newer, and stands.
		b.Open = false
		err := g.described(ctx, tenant, c, b, false)
		if err != nil {
			return err
		}
	}
	return nil
}

// seed wants the tip of a default branch looked at that never was. It is compared with itself: what is there on
// the day of the installation is old.
func (g *Gate) seed(ctx context.Context, tenant *store.Tenant, fetcher Fetcher, o Origin, c *store.Change) error {
	if o.DefaultBranch == "" {
		return nil
	}
	line, err := tenant.Line(ctx, o.Repo.ID, "default")
	if err != nil || line.Version > 0 {
		return err
	}
	ref := "refs/heads/" + o.DefaultBranch
	lease, err := fetcher.Fetch(ctx, o, ref)
	if errors.Is(err, ErrRefGone) { // an empty repository
		return nil
	}
	if err != nil {
		return err
	}
	defer lease.Release()
	tip, err := lease.Commit(ref)
	if err != nil {
		return err
	}
	if h, err := tenant.Head(ctx, o.Repo.ID, tip); err == nil && h.Wanted > h.Done {
		return nil // a push was first
	} else if err != nil && !errors.Is(err, store.ErrNotFound) {
		return err
	}
	c.MergeGroup = &store.MergeGroup{Repository: o.Repo.ID, Head: tip, HeadRef: ref, Base: tip, BaseRef: ref, Active: true}
	want(c, o.Repo.ID, tip)
	return nil
}

// lacksCheck reports whether an open head has no finished check run, or a forgotten one, and nobody at work on one.
func lacksCheck(ctx context.Context, tenant *store.Tenant, repo string, head name.Commit, at time.Time) (bool, error) {
	h, err := tenant.Head(ctx, repo, head)
	if errors.Is(err, store.ErrNotFound) {
		return true, nil
	}
	if err != nil {
		return false, err
	}
	return (h.State != store.CheckCompleted || at.Sub(h.Changed) > archived) && h.Wanted <= h.Done, nil
}
