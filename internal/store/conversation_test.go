package store_test

import (
	"testing"
	"time"

	"github.com/noxaudit/noxaudit/internal/store"
)

func wvr(id string) store.Waiver {
	return store.Waiver{
		ID: id, Digest: "sha256:" + id, Repository: repo, Fingerprint: "f", Content: "c", Finding: "NX-1", State: "pending", Pull: 7, Requester: 1,
		Requested: now, Until: now.Add(time.Hour), Due: now.Add(time.Minute), Body: []byte("{}"),
	}
}

func cmd(id int64) *store.Command {
	return &store.Command{Repository: repo, Surface: store.SurfaceComment, ID: id, Pull: 7, Author: 1, Digest: "sha256:x", State: store.CommandDone,
		Waivers: []string{"W-1", "W-2"}, Reaction: "eyes", Answer: "text", At: now}
}

func TestAWaiverChangesOnlyFromTheVersionItWasComputedFrom(t *testing.T) {
	each(t, func(t *testing.T, s *store.Store, tenant *store.Tenant) {
		ctx := t.Context()
		put := func(w store.Waiver) error {
			return tenant.Commit(ctx, with(t, tenant, func(c *store.Change) { c.Repositories, c.Waivers = known(), []store.Waiver{w} }))
		}
		w := wvr("W-1")
		must(t, put(w))
		wantErr(t, put(w), store.ErrStale) // the same content was asked for before
		w.Version, w.State, w.Body = 1, "active", []byte("{1}")
		must(t, put(w))
		wantErr(t, put(w), store.ErrStale)
		w.Version, w.Changed = 2, now
		got, err := tenant.WaiverByID(ctx, "W-1")
		must(t, err)
		wantEqual(t, got, w)
		active, err := tenant.ActiveWaivers(ctx, repo)
		must(t, err)
		wantEqual(t, active, []store.Waiver{w})
		due, err := s.DueWaivers(ctx, now.Add(time.Minute), 10)
		must(t, err)
		wantEqual(t, due, []store.DueWaiver{{Account: tenant.Account(), ID: "W-1"}})
		w.State, w.Due = "expired", time.Time{}
		must(t, put(w))
		if due, err = s.DueWaivers(ctx, now.Add(time.Hour), 10); err != nil || len(due) != 0 {
			t.Errorf("%v, %v", due, err)
		}
		if active, err = tenant.ActiveWaivers(ctx, repo); err != nil || len(active) != 0 {
			t.Errorf("%v, %v", active, err)
		}
		thief := s.For(account(t, "5832310"))
		_, err = thief.WaiverByID(ctx, "W-1")
		wantErr(t, err, store.ErrNotFound)
	})
}

func TestACommandActsOnceAndItsAnswerIsOwedUntilItIsPosted(t *testing.T) {
	each(t, func(t *testing.T, s *store.Store, tenant *store.Tenant) {
		ctx := t.Context()
		put := func(d *store.Command) error {
			return tenant.Commit(ctx, with(t, tenant, func(c *store.Change) { c.Repositories, c.Command = known(), d }))
		}
		must(t, put(cmd(1)))
		wantErr(t, put(cmd(1)), store.ErrAlreadyDone)
		got, err := tenant.CommandByID(ctx, repo, store.SurfaceComment, 1)
		must(t, err)
		wantEqual(t, &got, cmd(1))
		owed, err := s.UnansweredCommands(ctx, now.Add(time.Second), 10)
		must(t, err)
		wantEqual(t, owed, []store.CommandKey{{Account: tenant.Account(), Repository: repo, Surface: store.SurfaceComment, ID: 1}})
		must(t, tenant.CommandAnswered(ctx, repo, store.SurfaceComment, 1, false))
		must(t, tenant.CommandAnswered(ctx, repo, store.SurfaceComment, 1, true))
		if owed, err = s.UnansweredCommands(ctx, now.Add(time.Second), 10); err != nil || len(owed) != 0 {
			t.Errorf("%v, %v", owed, err)
		}
		edited := cmd(1)
		edited.State, edited.Answer = store.CommandEdited, "suspended"
		must(t, put(edited))
		wantErr(t, put(edited), store.ErrAlreadyDone)
		if owed, err = s.UnansweredCommands(ctx, now.Add(time.Second), 10); err != nil || len(owed) != 1 {
			t.Errorf("%v, %v", owed, err)
		}
		if n, err := tenant.CommandsSince(ctx, repo, 1, now); err != nil || n != 1 {
			t.Errorf("%d, %v", n, err)
		}
	})
}

func TestACommandThatIsDeletedBeforeItIsRecordedStaysUnheard(t *testing.T) {
	each(t, func(t *testing.T, _ *store.Store, tenant *store.Tenant) {
		ctx := t.Context()
		put := func(d *store.Command) error {
			return tenant.Commit(ctx, with(t, tenant, func(c *store.Change) { c.Repositories, c.Command = known(), d }))
		}
		unheard := cmd(2)
		unheard.State, unheard.Unheard, unheard.Waivers, unheard.Answer, unheard.Reaction = store.CommandDeleted, true, nil, "", ""
		must(t, put(unheard))
		wantErr(t, put(cmd(2)), store.ErrAlreadyDone)
		must(t, put(cmd(3)))
		unheard.ID = 3
		wantErr(t, put(unheard), store.ErrStale) // it was heard meanwhile: what rested on it has to be looked up
		got, err := tenant.CommandByID(ctx, repo, store.SurfaceComment, 3)
		must(t, err)
		wantEqual(t, got.State, store.CommandDone)
	})
}

func TestAJudgementAloneDoesNotAskForAnAudit(t *testing.T) {
	each(t, func(t *testing.T, s *store.Store, tenant *store.Tenant) {
		ctx := t.Context()
		for i, c := range []struct {
			rejudge       bool
			wanted, audit int64
		}{{false, 1, 1}, {true, 2, 1}, {false, 3, 3}} {
			mustCommit(t, tenant, with(t, tenant, func(ch *store.Change) {
				ch.Repositories, ch.Want = known(), []store.Want{{Repository: repo, SHA: commit(1), Rejudge: c.rejudge}}
			}))
			h, err := tenant.Head(ctx, repo, commit(1))
			must(t, err)
			if h.Wanted != c.wanted || h.AuditWanted != c.audit {
				t.Errorf("%d: %+v", i, h)
			}
		}
	})
}
