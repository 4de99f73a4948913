package store_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/noxaudit/noxaudit/internal/name"
	"github.com/noxaudit/noxaudit/internal/store"
	"github.com/noxaudit/noxaudit/ledger"
)

// with is a change that carries nothing but one entry, and what fill adds.
func with(t testing.TB, tenant *store.Tenant, fill func(*store.Change)) store.Change {
	c := store.Change{Time: now, Entries: []ledger.Event{event(t, tenant, "github")}}
	fill(&c)
	return c
}

func known() []store.Repository { return []store.Repository{{ID: repo, FullName: "octo-org/payments"}} }

func delivery(guid string) *store.Delivery {
	return &store.Delivery{
		GUID: guid, Event: "pull_request", Action: "opened", Installation: 42, Received: now,
		Body: []byte(`{"action":"opened","padding":"` + strings.Repeat("ab ", 1000) + `"}`),
	}
}

func pull(number int, at time.Time) store.Pull {
	return store.Pull{
		Repository: repo, Number: number, Head: commit(1), HeadRef: "topic", HeadRepo: math.MaxInt64, BaseRef: "main", Base: commit(2),
		Draft: true, Open: true, Title: "A title", AuthorID: 7, Author: "octocat", UpdatedAt: at,
	}
}

func TestADeliveryIsKeptUntilItHasEnded(t *testing.T) {
	each(t, func(t *testing.T, s *store.Store, tenant *store.Tenant) {
		ctx := t.Context()
		mustCommit(t, tenant, with(t, tenant, func(c *store.Change) { c.Delivery = delivery("g-1") }))
		want := *delivery("g-1")
		want.State = store.DeliveryReceived
		got, err := tenant.Delivery(ctx, "g-1")
		must(t, err)
		wantEqual(t, got, want)

		for i := 1; i <= 3; i++ {
			n, err := tenant.DeliveryTried(ctx, "g-1")
			must(t, err)
			wantEqual(t, n, i)
		}
		done := with(t, tenant, func(c *store.Change) {
			c.DeliveryDone = &store.DeliveryDone{GUID: "g-1", State: store.DeliveryRefused, Note: "no\x00body", At: now.Add(time.Second)}
		})
		mustCommit(t, tenant, done)
		want.State, want.Note, want.Processed, want.Attempts = store.DeliveryRefused, "no�body", now.Add(time.Second), 3
		got, err = tenant.Delivery(ctx, "g-1")
		must(t, err)
		wantEqual(t, got, want)

		_, err = tenant.DeliveryTried(ctx, "g-1")
		wantErr(t, err, store.ErrAlreadyDone)
		_, err = tenant.DeliveryTried(ctx, "g-2")
		wantErr(t, err, store.ErrNotFound)
		_, err = tenant.Delivery(ctx, "g-2")
		wantErr(t, err, store.ErrNotFound)
		missing := with(t, tenant, func(c *store.Change) {
			c.DeliveryDone = &store.DeliveryDone{GUID: "g-2", State: store.DeliveryFinished, At: now}
		})
		wantErr(t, tenant.Commit(ctx, missing), store.ErrNotFound)

		// One that asks nothing of us comes and ends in one change.
		mustCommit(t, tenant, with(t, tenant, func(c *store.Change) {
			c.Delivery, c.DeliveryDone = delivery("ping"), &store.DeliveryDone{GUID: "ping", State: store.DeliveryFinished, At: now}
		}))
		pending, err := s.PendingDeliveries(ctx, now.Add(time.Hour), 10)
		must(t, err)
		wantEqual(t, len(pending), 0)
	})
}

func TestADeliveryThatComesAgainWritesNothing(t *testing.T) {
	each(t, func(t *testing.T, s *store.Store, tenant *store.Tenant) {
		first := with(t, tenant, func(c *store.Change) { c.Delivery = delivery("g") })
		mustCommit(t, tenant, first)
		before := dump(t, s)
		mustCommit(t, tenant, first) // the same change: its answer was lost
		again := with(t, tenant, func(c *store.Change) {
			c.Delivery, c.Repositories, c.Want = delivery("g"), known(), []store.Want{{Repository: repo, SHA: commit(1)}}
			c.Delivery.Body = []byte("other")
		})
		wantErr(t, tenant.Commit(t.Context(), again), store.ErrDuplicateDelivery)
		mixed := with(t, tenant, func(c *store.Change) {
			c.Delivery = delivery("g")
			c.Entries = append(c.Entries, first.Entries...)
		})
		wantErr(t, tenant.Commit(t.Context(), mixed), store.ErrDuplicate)
		wantEqual(t, dump(t, s), before)
	})
}

func TestOfManyEqualDeliveriesAtOnceOneIsKeptWithOneEntry(t *testing.T) {
	each(t, func(t *testing.T, s *store.Store, tenant *store.Tenant) {
		const rounds = 5
		for round := range rounds {
			var wg sync.WaitGroup
			var kept, known atomic.Int64
			for range 16 {
				c := with(t, tenant, func(c *store.Change) { c.Delivery = delivery(fmt.Sprint("g-", round)) })
				wg.Go(func() {
					switch err := tenant.Commit(context.Background(), c); {
					case err == nil:
						kept.Add(1)
					case errors.Is(err, store.ErrDuplicateDelivery):
						known.Add(1)
					default:
						t.Error(err)
					}
				})
			}
			wg.Wait()
			if kept.Load() != 1 || known.Load() != 15 {
				t.Errorf("%d kept, %d known", kept.Load(), known.Load())
			}
		}
		checkOutbox(t, s, tenant, map[string]int{"github": rounds})
	})
}

func TestADeliveryThatIsProcessedByManyAtOnceTakesEffectOnce(t *testing.T) {
	each(t, func(t *testing.T, s *store.Store, tenant *store.Tenant) {
		mustCommit(t, tenant, with(t, tenant, func(c *store.Change) { c.Delivery, c.Repositories = delivery("g"), known() }))
		var wg sync.WaitGroup
		var won atomic.Int64
		changes := make([]store.Change, 16)
		for i := range changes {
			changes[i] = with(t, tenant, func(c *store.Change) {
				c.DeliveryDone = &store.DeliveryDone{GUID: "g", State: store.DeliveryFinished, At: now}
				c.Want = []store.Want{{Repository: repo, SHA: commit(1)}}
				c.Pulls = []store.Pull{pull(i+1, now)}
			})
			wg.Go(func() {
				switch err := tenant.Commit(context.Background(), changes[i]); {
				case err == nil:
					won.Add(1)
				case !errors.Is(err, store.ErrAlreadyDone):
					t.Error(err)
				}
			})
		}
		wg.Wait()
		again := 0 // a retry of the one that won is no error, of the others it stays one
		for _, c := range changes {
			if err := tenant.Commit(t.Context(), c); err == nil {
				again++
			} else {
				wantErr(t, err, store.ErrAlreadyDone)
			}
		}
		h, err := tenant.Head(t.Context(), repo, commit(1))
		must(t, err)
		pulls, err := tenant.OpenPulls(t.Context(), repo)
		must(t, err)
		if won.Load() != 1 || again != 1 || h.Wanted != 1 || len(pulls) != 1 {
			t.Errorf("%d won, %d again, head %+v, %d pull requests", won.Load(), again, h, len(pulls))
		}
		checkOutbox(t, s, tenant, map[string]int{"github": 2})
	})
}

func TestPendingDeliveriesOfAllTenantsComeLeastTriedAndOldestFirst(t *testing.T) {
	each(t, func(t *testing.T, s *store.Store, tenant *store.Tenant) {
		ctx := t.Context()
		nobody := s.For(name.Deployment)
		for i, d := range []struct {
			of *store.Tenant
			at int
		}{{tenant, 3}, {nobody, 1}, {tenant, 2}, {tenant, 9}, {nobody, 0}} {
			mustCommit(t, d.of, with(t, d.of, func(c *store.Change) {
				c.Delivery = delivery(fmt.Sprint("g-", i))
				c.Delivery.Received = now.Add(time.Duration(d.at) * time.Minute)
			}))
		}
		_, err := tenant.DeliveryTried(ctx, "g-2")
		must(t, err)
		mustCommit(t, nobody, with(t, nobody, func(c *store.Change) {
			c.DeliveryDone = &store.DeliveryDone{GUID: "g-4", State: store.DeliveryFinished, At: now}
		}))
		got, err := s.PendingDeliveries(ctx, now.Add(9*time.Minute), 10)
		must(t, err)
		a := tenant.Account()
		wantEqual(t, got, []store.DeliveryKey{{Account: name.Deployment, GUID: "g-1"}, {Account: a, GUID: "g-0"}, {Account: a, GUID: "g-2"}})
		got, err = s.PendingDeliveries(ctx, now.Add(time.Hour), 1)
		must(t, err)
		wantEqual(t, got, []store.DeliveryKey{{Account: name.Deployment, GUID: "g-1"}})
		accounts, err := s.PendingAccounts(ctx)
		must(t, err)
		wantEqual(t, accounts, []name.Account{a, name.Deployment})
	})
}

func TestOldBodiesAreDroppedAndTheirDeliveriesStayKnown(t *testing.T) {
	each(t, func(t *testing.T, s *store.Store, tenant *store.Tenant) {
		ctx := t.Context()
		put := func(guid string, received time.Time, done bool) {
			mustCommit(t, tenant, with(t, tenant, func(c *store.Change) {
				c.Delivery = delivery(guid)
				c.Delivery.Received = received
				if done {
					c.DeliveryDone = &store.DeliveryDone{GUID: guid, State: store.DeliveryFinished, At: received}
				}
			}))
		}
		for i := range 5 {
			put(fmt.Sprint("old-", i), now.Add(-time.Duration(i+1)*time.Hour), true)
		}
		put("pending", now.Add(-time.Hour), false)
		put("new", now, true)
		accounts, err := s.AccountsWithBodies(ctx, now)
		must(t, err)
		wantEqual(t, accounts, []name.Account{tenant.Account()})
		n, err := tenant.DropDeliveryBodies(ctx, now)
		must(t, err)
		wantEqual(t, n, 5)
		for guid, kept := range map[string]bool{"old-0": false, "old-4": false, "pending": true, "new": true} {
			d, err := tenant.Delivery(ctx, guid)
			must(t, err)
			if (d.Body != nil) != kept {
				t.Errorf("%s has a body of %d bytes", guid, len(d.Body))
			}
		}
		again := with(t, tenant, func(c *store.Change) { c.Delivery = delivery("old-0") })
		wantErr(t, tenant.Commit(ctx, again), store.ErrDuplicateDelivery)
		accounts, err = s.AccountsWithBodies(ctx, now)
		must(t, err)
		wantEqual(t, len(accounts), 0)
		n, err = tenant.DropDeliveryBodies(ctx, now)
		must(t, err)
		wantEqual(t, n, 0)
	})
}

func TestManyOldBodiesAreDroppedInParts(t *testing.T) {
	each(t, func(t *testing.T, s *store.Store, tenant *store.Tenant) {
		_, err := s.DB().Write.Exec(`INSERT INTO delivery (account, guid, event, action, installation, received_at, state, processed_at, encoding, size, body)
			WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 1201)
			SELECT '583231', CAST(i AS TEXT), 'push', '', 1, i, 'done', 1, 'raw', 1, CAST($1 AS `+bytesType(s)+`) FROM n`, []byte("x"))
		must(t, err)
		n, err := tenant.DropDeliveryBodies(t.Context(), now)
		must(t, err)
		wantEqual(t, n, 1201)
	})
}

func bytesType(s *store.Store) string {
	if s.Engine() == "postgres" {
		return "BYTEA"
	}
	return "BLOB"
}

func TestAnInstallationChangesUntilItIsDeleted(t *testing.T) {
	each(t, func(t *testing.T, s *store.Store, tenant *store.Tenant) {
		step := func(hour int, login, state string) {
			mustCommit(t, tenant, with(t, tenant, func(c *store.Change) {
				c.Time = now.Add(time.Duration(hour) * time.Hour)
				c.Installation = &store.Installation{ID: math.MaxInt64, Login: login, State: state}
			}))
		}
		for hour, want := range []store.Installation{
			{Login: "octo", State: store.InstallationActive, Changed: now},
			{Login: "octo", State: store.InstallationActive, Changed: now},
			{Login: "octo", State: store.InstallationSuspended, Changed: now.Add(2 * time.Hour)},
			{Login: "renamed", State: store.InstallationActive, Changed: now.Add(3 * time.Hour)},
			{Login: "renamed", State: store.InstallationDeleted, Changed: now.Add(4 * time.Hour)},
		} {
			step(hour, want.Login, want.State)
			want.ID = math.MaxInt64
			got, err := tenant.Installations(t.Context())
			must(t, err)
			wantEqual(t, got, []store.Installation{want})
		}
		step(5, "late", store.InstallationActive)
		got, err := tenant.Installations(t.Context())
		must(t, err)
		wantEqual(t, got, []store.Installation{{ID: math.MaxInt64, Login: "renamed", State: store.InstallationDeleted, Changed: now.Add(4 * time.Hour)}})
	})
}

func TestWhatIsNotSaidOfARepositoryStays(t *testing.T) {
	each(t, func(t *testing.T, s *store.Store, tenant *store.Tenant) {
		ctx := t.Context()
		full := store.Origin{Installation: math.MaxInt64, Owner: "octo", Name: "pay", DefaultBranch: "main", Private: true, Archived: true, Covered: true}
		steps := []struct {
			name        string
			origin      *store.Origin
			want        *store.Origin
			version     int64
			lastChanged int // hour
		}{
			{"octo/pay", nil, nil, 1, 0},
			{"octo/pay", &full, &full, 1, 1},
			{"octo/pay", nil, &full, 1, 1},
			{"octo/pay", &full, &full, 1, 1},
			{"octo/new", nil, &full, 2, 4},
			{"octo/new", &store.Origin{Installation: 2}, &store.Origin{Installation: 2, Owner: "octo", Name: "pay", DefaultBranch: "main"}, 2, 5},
			{"octo/new", &store.Origin{Installation: 2, Covered: true}, &store.Origin{Installation: 2, Owner: "octo", Name: "pay", DefaultBranch: "main", Covered: true}, 2, 6},
		}
		for hour, step := range steps {
			r := store.Repository{ID: "1", FullName: step.name, Origin: step.origin}
			mustCommit(t, tenant, with(t, tenant, func(c *store.Change) {
				c.Time = now.Add(time.Duration(hour) * time.Hour)
				if c.Repositories = []store.Repository{{ID: "2", FullName: "octo/other", Origin: &full}, r}; hour%2 == 0 {
					c.Repository, c.Repositories = &r, c.Repositories[:1] // either field
				}
			}))
			want := store.Repository{
				ID: "1", FullName: step.name, Origin: step.want, Version: step.version,
				FirstSeen: now, LastChanged: now.Add(time.Duration(step.lastChanged) * time.Hour),
			}
			got, err := tenant.Repository(ctx, "1")
			must(t, err)
			wantEqual(t, got, want)
			other := store.Repository{ID: "2", FullName: "octo/other", Origin: &full, Version: 1, FirstSeen: now, LastChanged: now}
			covered := []store.Repository{want, other}
			if step.want == nil || !step.want.Covered {
				covered = covered[1:]
			}
			all, err := tenant.CoveredRepositories(ctx)
			must(t, err)
			wantEqual(t, all, covered)
		}
	})
}

func TestManyRepositoriesOfBothKindsAreWrittenAtOnce(t *testing.T) {
	each(t, func(t *testing.T, s *store.Store, tenant *store.Tenant) {
		mustCommit(t, tenant, with(t, tenant, func(c *store.Change) {
			for i := range store.MaxRepositories {
				r := store.Repository{ID: fmt.Sprint(i), FullName: fmt.Sprint("octo/", i)}
				if i%2 == 1 {
					r.Origin = &store.Origin{Installation: 1, Owner: "octo", Name: fmt.Sprint(i), Covered: true}
				}
				c.Repositories = append(c.Repositories, r)
			}
			for i := range store.MaxPulls {
				p := pull(i+1, now)
				p.Repository = fmt.Sprint(i)
				c.Pulls = append(c.Pulls, p)
				c.Want = append(c.Want, store.Want{Repository: fmt.Sprint(i), SHA: commit(byte(i))})
			}
		}))
		all, err := tenant.CoveredRepositories(t.Context())
		must(t, err)
		heads, err := s.WantedHeads(t.Context(), 1000)
		must(t, err)
		if len(all) != store.MaxRepositories/2 || len(heads) != store.MaxWants {
			t.Errorf("%d are covered, %d heads are wanted", len(all), len(heads))
		}
	})
}

func TestAPullRequestIsWhatItsNewestDescriptionSays(t *testing.T) {
	each(t, func(t *testing.T, s *store.Store, tenant *store.Tenant) {
		ctx := t.Context()
		put := func(p store.Pull) {
			mustCommit(t, tenant, with(t, tenant, func(c *store.Change) { c.Repositories, c.Pulls = known(), []store.Pull{p} }))
		}
		is := func(want store.Pull) {
			t.Helper()
			got, err := tenant.Pull(ctx, repo, want.Number)
			must(t, err)
			wantEqual(t, got, want)
		}
		first := pull(7, now)
		put(first)
		is(first)
		newer := store.Pull{
			Repository: repo, Number: 7, Head: commit(3), HeadRef: "other", BaseRef: "release", Open: true,
			Title: "Another", AuthorID: 8, Author: "hubot", UpdatedAt: now.Add(time.Second),
		}
		put(newer)
		is(newer)
		put(first) // late
		is(newer)
		equal := newer
		equal.Head, equal.Title = commit(4), "equally old"
		put(equal)
		is(equal)
		closed := equal
		closed.Open = false
		put(closed)
		is(closed)
		put(equal) // equally old and open: it was overtaken
		is(closed)
		closed.Title = "closed, edited"
		put(closed)
		is(closed)
		reopened := closed
		reopened.Open, reopened.UpdatedAt = true, now.Add(time.Minute)
		put(reopened)
		is(reopened)
	})
}

func TestOpenPullRequestsAreFoundByTheirHead(t *testing.T) {
	each(t, func(t *testing.T, s *store.Store, tenant *store.Tenant) {
		ctx := t.Context()
		var all []store.Pull
		for i := range 5 {
			p := pull(10-i, now)
			p.Open, p.Head = i != 1, commit(byte(1+i/3))
			all = append(all, p)
		}
		mustCommit(t, tenant, with(t, tenant, func(c *store.Change) { c.Repositories, c.Pulls = known(), all }))
		got, err := tenant.PullsByHead(ctx, repo, commit(1))
		must(t, err)
		wantEqual(t, got, []store.Pull{all[2], all[0]})
		got, err = tenant.OpenPulls(ctx, repo)
		must(t, err)
		wantEqual(t, got, []store.Pull{all[4], all[3], all[2], all[0]})
		got, err = tenant.PullsByHead(ctx, repo, commit(9))
		must(t, err)
		wantEqual(t, len(got), 0)
		_, err = tenant.Pull(ctx, repo, 1)
		wantErr(t, err, store.ErrNotFound)
	})
}

func TestHostileTextsOfAPullRequestAreKeptHarmless(t *testing.T) {
	each(t, func(t *testing.T, s *store.Store, tenant *store.Tenant) {
		p := pull(1, now)
		p.Title, p.HeadRef, p.Author = strings.Repeat("ü", 5000), "a\x00'; DROP TABLE pull; --", "\xff@everyone"
		mustCommit(t, tenant, with(t, tenant, func(c *store.Change) { c.Repositories, c.Pulls = known(), []store.Pull{p} }))
		p.Title, p.HeadRef, p.Author = strings.Repeat("ü", 512), "a�'; DROP TABLE pull; --", "�@everyone"
		got, err := tenant.Pull(t.Context(), repo, 1)
		must(t, err)
		wantEqual(t, got, p)
	})
}

func TestAHeadThatIsWantedAnewHasNoRun(t *testing.T) {
	each(t, func(t *testing.T, s *store.Store, tenant *store.Tenant) {
		wanted := func(anew bool) store.Head {
			t.Helper()
			mustCommit(t, tenant, with(t, tenant, func(c *store.Change) {
				c.Repositories, c.Want = known(), []store.Want{{Repository: repo, SHA: commit(1), Anew: anew}}
			}))
			h, err := tenant.Head(t.Context(), repo, commit(1))
			must(t, err)
			return h
		}
		wanted(true)
		mustCommit(t, tenant, with(t, tenant, func(c *store.Change) {
			c.HeadCheck = &store.HeadCheck{Repository: repo, SHA: commit(1), CheckID: 9, Tried: true, State: store.CheckCompleted, Done: 1}
		}))
		if h := wanted(false); h.CheckID != 9 || !h.Tried || h.State != store.CheckCompleted || h.Wanted != 2 {
			t.Errorf("%+v", h)
		}
		if h := wanted(true); h.CheckID != 0 || h.Tried || h.State != "" || h.Wanted != 3 || h.Done != 1 {
			t.Errorf("%+v", h)
		}
	})
}

func TestABaseThatNobodyKnowsReplacesNoneThatIsKnown(t *testing.T) {
	each(t, func(t *testing.T, s *store.Store, tenant *store.Tenant) {
		for i, base := range []name.Commit{commit(1), commit(2), commit(1), commit(3)} {
			g := store.MergeGroup{Repository: repo, Head: commit(1), HeadRef: "refs/heads/main", Base: base, BaseRef: "refs/heads/main", Active: true}
			mustCommit(t, tenant, with(t, tenant, func(c *store.Change) { c.Repositories, c.MergeGroup = known(), &g }))
			got, err := tenant.MergeGroups(t.Context(), repo, commit(1))
			must(t, err)
			wantEqual(t, got[0].Base, []name.Commit{commit(1), commit(2), commit(2), commit(3)}[i])
		}
	})
}

func TestAMergeGroupIsActiveUntilItIsDestroyed(t *testing.T) {
	each(t, func(t *testing.T, s *store.Store, tenant *store.Tenant) {
		g := store.MergeGroup{Repository: repo, Head: commit(1), HeadRef: "refs/heads/gh-readonly-queue/main/pr-7-x", Base: commit(2), BaseRef: "refs/heads/main", Active: true}
		put := func() {
			mustCommit(t, tenant, with(t, tenant, func(c *store.Change) { c.Repositories, c.MergeGroup = known(), &g }))
		}
		put()
		got, err := tenant.MergeGroups(t.Context(), repo, commit(1))
		must(t, err)
		wantEqual(t, got, []store.MergeGroup{g})
		g.Active = false
		put()
		got, err = tenant.MergeGroups(t.Context(), repo, commit(1))
		must(t, err)
		wantEqual(t, len(got), 0)
	})
}

func TestAHeadKeepsWhatIsKnownOfItsCheckRun(t *testing.T) {
	each(t, func(t *testing.T, s *store.Store, tenant *store.Tenant) {
		ctx := t.Context()
		report := func(hour int, h store.HeadCheck) error {
			h.Repository, h.SHA = repo, commit(1)
			return tenant.Commit(ctx, with(t, tenant, func(c *store.Change) { c.Time, c.HeadCheck = now.Add(time.Duration(hour)*time.Hour), &h }))
		}
		want := store.Head{Repository: repo, SHA: commit(1), Wanted: 1, AuditWanted: 1, Changed: now}
		is := func() {
			t.Helper()
			got, err := tenant.Head(ctx, repo, commit(1))
			must(t, err)
			wantEqual(t, got, want)
		}
		_, err := tenant.Head(ctx, repo, commit(1))
		wantErr(t, err, store.ErrNotFound)
		wantErr(t, report(0, store.HeadCheck{}), store.ErrNotFound)
		wants := func(c *store.Change) {
			c.Repositories, c.Want = known(), []store.Want{{Repository: repo, SHA: commit(1)}}
		}
		mustCommit(t, tenant, with(t, tenant, wants))
		is()
		must(t, report(1, store.HeadCheck{Tried: true}))
		want.Tried, want.Changed = true, now.Add(time.Hour)
		is()
		must(t, report(2, store.HeadCheck{CheckID: math.MaxInt64, State: store.CheckInProgress, Published: "sha256:1"}))
		want.CheckID, want.State, want.Published, want.Changed = math.MaxInt64, store.CheckInProgress, "sha256:1", now.Add(2*time.Hour)
		is()
		wantErr(t, report(3, store.HeadCheck{State: store.CheckCompleted, Done: 2}), store.ErrNotFound) // never wanted
		is()
		must(t, report(4, store.HeadCheck{State: store.CheckCompleted, Published: "sha256:2", Done: 1}))
		want.State, want.Published, want.Done, want.Changed = store.CheckCompleted, "sha256:2", 1, now.Add(4*time.Hour)
		is()
		must(t, report(5, store.HeadCheck{}))
		want.Changed = now.Add(5 * time.Hour)
		is()

		// One change wants a head, says what became of it, and wants another.
		both := with(t, tenant, func(c *store.Change) {
			wants(c)
			c.Want = append(c.Want, store.Want{Repository: repo, SHA: commit(0)})
			c.HeadCheck = &store.HeadCheck{Repository: repo, SHA: commit(1), Done: 2}
		})
		mustCommit(t, tenant, both)
		mustCommit(t, tenant, both) // after a crash
		want.Wanted, want.AuditWanted, want.Done, want.Changed = 2, 2, 2, now
		is()
		got, err := s.WantedHeads(ctx, 10)
		must(t, err)
		wantEqual(t, got, []store.HeadKey{{Account: tenant.Account(), Repository: repo, SHA: commit(0)}})
	})
}

// Sixteen writers want one head while a worker does what is wanted: at the end every want is counted, and none
// is done that was not.
func TestNoGenerationIsLostAmongManyWriters(t *testing.T) {
	each(t, func(t *testing.T, s *store.Store, tenant *store.Tenant) {
		ctx := context.Background()
		const writers, wants = 16, 5
		mustCommit(t, tenant, with(t, tenant, func(c *store.Change) { c.Repositories = known() }))
		changes := make([]store.Change, writers*wants)
		for i := range changes {
			changes[i] = with(t, tenant, func(c *store.Change) {
				c.Want = []store.Want{{Repository: repo, SHA: commit(2)}, {Repository: repo, SHA: commit(1)}}
			})
		}
		var wg sync.WaitGroup
		for i := range writers {
			wg.Go(func() {
				for _, c := range changes[i*wants : (i+1)*wants] {
					if err := tenant.Commit(ctx, c); err != nil {
						t.Error(err)
					}
				}
			})
		}
		finished := make(chan struct{})
		go func() { wg.Wait(); close(finished) }()
		reports := 0
		work := func() (todo int) {
			heads, err := s.WantedHeads(ctx, 10)
			must(t, err)
			for _, k := range heads {
				h, err := tenant.Head(ctx, k.Repository, k.SHA)
				must(t, err)
				mustCommit(t, tenant, with(t, tenant, func(c *store.Change) {
					c.HeadCheck = &store.HeadCheck{Repository: k.Repository, SHA: k.SHA, State: store.CheckCompleted, Done: h.Wanted}
				}))
				reports++
			}
			return len(heads)
		}
		for running := true; running; {
			select {
			case <-finished:
				running = false
			default:
				work()
			}
		}
		for work() > 0 {
		}
		for _, sha := range []name.Commit{commit(1), commit(2)} {
			h, err := tenant.Head(ctx, repo, sha)
			must(t, err)
			if h.Wanted != writers*wants || h.Done != writers*wants {
				t.Errorf("head %+v", h)
			}
		}
		checkOutbox(t, s, tenant, map[string]int{"github": 1 + writers*wants + reports})
	})
}

func TestTheNewestVerdictOfALineIsFoundByItsHead(t *testing.T) {
	each(t, func(t *testing.T, s *store.Store, tenant *store.Tenant) {
		ctx := t.Context()
		id := func(i int) string { return store.Document{Body: fmt.Append(nil, i)}.Digest() }
		for i, v := range []struct {
			line string
			head byte
			at   int
		}{{"pull/1", 1, 0}, {"pull/1", 2, 3}, {"pull/1", 1, 2}, {"default", 1, 5}, {"pull/1", 1, 1}} {
			mustCommit(t, tenant, with(t, tenant, func(c *store.Change) {
				c.Repositories = known()
				c.Documents = []store.Document{{Kind: "verdict", Body: fmt.Append(nil, i)}}
				c.Verdict = &store.Verdict{ID: id(i), Repository: repo, Line: v.line, Head: commit(v.head), Conclusion: "success", Time: now.Add(time.Duration(v.at) * time.Second)}
			}))
		}
		v, err := tenant.LatestVerdict(ctx, repo, "pull/1", commit(1))
		must(t, err)
		wantEqual(t, v, store.Verdict{ID: id(2), Short: store.ShortVerdict(id(2)), Repository: repo, Line: "pull/1", Head: commit(1), Conclusion: "success", Time: now.Add(2 * time.Second)})
		v, err = tenant.LatestLineVerdict(ctx, repo, "pull/1")
		must(t, err)
		wantEqual(t, v.ID, id(1))
		_, err = tenant.LatestVerdict(ctx, repo, "pull/1", commit(3))
		wantErr(t, err, store.ErrNotFound)
		_, err = tenant.LatestLineVerdict(ctx, repo, "pull/2")
		wantErr(t, err, store.ErrNotFound)
	})
}

func TestARefusedChangeOfTheFrontWritesNothing(t *testing.T) {
	each(t, func(t *testing.T, s *store.Store, tenant *store.Tenant) {
		mustCommit(t, tenant, with(t, tenant, func(c *store.Change) { c.Repositories = known() }))
		before := dump(t, s)
		p := pull(1, now)
		group := store.MergeGroup{Repository: repo, Head: commit(1), BaseRef: "refs/heads/main"}
		for _, tc := range []struct {
			name string
			want error
			fill func(*store.Change)
		}{
			{"a delivery without a GUID", store.ErrInvalid, func(c *store.Change) { c.Delivery = delivery("") }},
			{"a delivery without an event", store.ErrInvalid, func(c *store.Change) { c.Delivery = delivery("g"); c.Delivery.Event = "" }},
			{"a delivery without a time", store.ErrInvalid, func(c *store.Change) { c.Delivery = delivery("g"); c.Delivery.Received = time.Time{} }},
			{"a delivery without a body", store.ErrInvalid, func(c *store.Change) { c.Delivery = delivery("g"); c.Delivery.Body = nil }},
			{"a delivery of a negative installation", store.ErrInvalid, func(c *store.Change) { c.Delivery = delivery("g"); c.Delivery.Installation = -1 }},
			{"a delivery whose action has a NUL", store.ErrInvalid, func(c *store.Change) { c.Delivery = delivery("g"); c.Delivery.Action = "a\x00" }},
			{"an end that is none", store.ErrInvalid, func(c *store.Change) {
				c.DeliveryDone = &store.DeliveryDone{GUID: "g", State: store.DeliveryReceived, At: now}
			}},
			{"an end without a time", store.ErrInvalid, func(c *store.Change) {
				c.DeliveryDone = &store.DeliveryDone{GUID: "g", State: store.DeliveryFinished}
			}},
			{"an installation without an id", store.ErrInvalid, func(c *store.Change) {
				c.Installation = &store.Installation{Login: "x", State: store.InstallationActive}
			}},
			{"an installation in no state", store.ErrInvalid, func(c *store.Change) { c.Installation = &store.Installation{ID: 1, Login: "x"} }},
			{"a repository twice", store.ErrInvalid, func(c *store.Change) { c.Repository, c.Repositories = &known()[0], known() }},
			{"a repository without an installation", store.ErrInvalid, func(c *store.Change) {
				c.Repositories = []store.Repository{{ID: "1", FullName: "a", Origin: &store.Origin{}}}
			}},
			{"a branch with a NUL", store.ErrInvalid, func(c *store.Change) {
				c.Repositories = []store.Repository{{ID: "1", FullName: "a", Origin: &store.Origin{Installation: 1, DefaultBranch: "\x00"}}}
			}},
			{"a pull request twice", store.ErrInvalid, func(c *store.Change) { c.Pulls = []store.Pull{p, p} }},
			{"a pull request without a head", store.ErrInvalid, func(c *store.Change) { c.Pulls = []store.Pull{p}; c.Pulls[0].Head = name.Commit{} }},
			{"a pull request without a number", store.ErrInvalid, func(c *store.Change) { c.Pulls = []store.Pull{p}; c.Pulls[0].Number = 0 }},
			{"a pull request without a time", store.ErrInvalid, func(c *store.Change) { c.Pulls = []store.Pull{p}; c.Pulls[0].UpdatedAt = time.Time{} }},
			{"a pull request without a base", store.ErrInvalid, func(c *store.Change) { c.Pulls = []store.Pull{p}; c.Pulls[0].BaseRef = "" }},
			{"a pull request of an unknown repository", store.ErrNotFound, func(c *store.Change) { c.Pulls = []store.Pull{p}; c.Pulls[0].Repository = "404" }},
			{"a merge group without a head", store.ErrInvalid, func(c *store.Change) { c.MergeGroup = &group; c.MergeGroup.Head = name.Commit{} }},
			{"a merge group of an unknown repository", store.ErrNotFound, func(c *store.Change) {
				c.MergeGroup = &store.MergeGroup{Repository: "404", Head: commit(1), BaseRef: "refs/heads/main"}
			}},
			{"a wanted head twice", store.ErrInvalid, func(c *store.Change) {
				c.Want = []store.Want{{Repository: repo, SHA: commit(1)}, {Repository: repo, SHA: commit(1)}}
			}},
			{"a wanted head without a commit", store.ErrInvalid, func(c *store.Change) { c.Want = []store.Want{{Repository: repo}} }},
			{"a wanted head of an unknown repository", store.ErrNotFound, func(c *store.Change) { c.Want = []store.Want{{Repository: "404", SHA: commit(1)}} }},
			{"a check without a commit", store.ErrInvalid, func(c *store.Change) { c.HeadCheck = &store.HeadCheck{Repository: repo} }},
			{"a check in no state", store.ErrInvalid, func(c *store.Change) {
				c.HeadCheck = &store.HeadCheck{Repository: repo, SHA: commit(1), State: "neutral"}
			}},
			{"a check of a negative generation", store.ErrInvalid, func(c *store.Change) { c.HeadCheck = &store.HeadCheck{Repository: repo, SHA: commit(1), Done: -1} }},
		} {
			if err := tenant.Commit(t.Context(), with(t, tenant, tc.fill)); !errors.Is(err, tc.want) {
				t.Errorf("%s: got error %v, want %v", tc.name, err, tc.want)
			}
		}
		for noun, fill := range map[string]func(*store.Change){
			"repositories":  func(c *store.Change) { c.Repositories = make([]store.Repository, store.MaxRepositories+1) },
			"pull requests": func(c *store.Change) { c.Pulls = make([]store.Pull, store.MaxPulls+1) },
			"wanted heads":  func(c *store.Change) { c.Want = make([]store.Want, store.MaxWants+1) },
			"bytes in a delivery": func(c *store.Change) {
				c.Delivery = delivery("g")
				c.Delivery.Body = make([]byte, store.MaxDeliveryBytes+1)
			},
		} {
			var tooLarge *store.TooLargeError
			if err := tenant.Commit(t.Context(), with(t, tenant, fill)); !errors.As(err, &tooLarge) || tooLarge.Noun != noun {
				t.Errorf("too many %s: got error %v", noun, err)
			}
		}
		wantEqual(t, dump(t, s), before)
	})
}

func TestDamagedRowsOfTheFrontAreReportedAsSuch(t *testing.T) {
	each(t, func(t *testing.T, s *store.Store, tenant *store.Tenant) {
		ctx := t.Context()
		mustCommit(t, tenant, with(t, tenant, func(c *store.Change) {
			c.Repositories, c.Delivery, c.Pulls = known(), delivery("g"), []store.Pull{pull(1, now)}
			c.Want = []store.Want{{Repository: repo, SHA: commit(1)}}
		}))
		for _, statement := range []string{`UPDATE delivery SET size = 3`, `UPDATE pull SET head = 'HEAD'`, `UPDATE head SET sha = 'HEAD'`} {
			_, err := s.DB().Write.Exec(statement)
			must(t, err)
		}
		for what, read := range map[string]func() error{
			"delivery": func() error { _, err := tenant.Delivery(ctx, "g"); return err },
			"pull":     func() error { _, err := tenant.OpenPulls(ctx, repo); return err },
			"head":     func() error { _, err := s.WantedHeads(ctx, 1); return err },
		} {
			var corrupt *store.CorruptError
			if err := read(); !errors.As(err, &corrupt) {
				t.Errorf("%s: got error %v", what, err)
			}
		}
		_, err := s.DB().Write.Exec(`UPDATE delivery SET account = 'octo-org'`)
		must(t, err)
		var corrupt *store.CorruptError
		if _, err := s.PendingDeliveries(ctx, now.Add(time.Second), 1); !errors.As(err, &corrupt) {
			t.Errorf("account: got error %v", err)
		}
	})
}

// A tenant that knows every id of another's front reads none of it and changes none.
func TestAnotherAccountsFrontCannotBeReachedByItsIDs(t *testing.T) {
	each(t, func(t *testing.T, s *store.Store, victim *store.Tenant) {
		ctx := t.Context()
		fill := func(c *store.Change) {
			c.Repositories = known()
			c.Repositories[0].Origin = &store.Origin{Installation: 42, Owner: "octo-org", Name: "payments", DefaultBranch: "main", Covered: true}
			c.Delivery = delivery("g")
			c.Installation = &store.Installation{ID: 42, Login: "octo-org", State: store.InstallationActive}
			c.Pulls = []store.Pull{pull(1, now)}
			c.MergeGroup = &store.MergeGroup{Repository: repo, Head: commit(1), BaseRef: "refs/heads/main", Active: true}
			c.Want = []store.Want{{Repository: repo, SHA: commit(1)}}
			c.HeadCheck = &store.HeadCheck{Repository: repo, SHA: commit(1), CheckID: 1}
			c.Documents = []store.Document{{Kind: "verdict", Body: []byte("{}")}}
			c.Verdict = &store.Verdict{ID: c.Documents[0].Digest(), Repository: repo, Line: "default", Head: commit(1), Conclusion: "success", Time: now}
		}
		mustCommit(t, victim, with(t, victim, fill))
		mustCommit(t, victim, with(t, victim, func(c *store.Change) { // one whose body could be dropped
			c.Delivery, c.DeliveryDone = delivery("ended"), &store.DeliveryDone{GUID: "ended", State: store.DeliveryFinished, At: now}
		}))
		before := dump(t, s)
		thief := s.For(account(t, "5832310"))
		for what, read := range map[string]func() error{
			"delivery":       func() error { _, err := thief.Delivery(ctx, "g"); return err },
			"tried":          func() error { _, err := thief.DeliveryTried(ctx, "g"); return err },
			"repository":     func() error { _, err := thief.Repository(ctx, repo); return err },
			"pull":           func() error { _, err := thief.Pull(ctx, repo, 1); return err },
			"head":           func() error { _, err := thief.Head(ctx, repo, commit(1)); return err },
			"verdict":        func() error { _, err := thief.LatestVerdict(ctx, repo, "default", commit(1)); return err },
			"line's verdict": func() error { _, err := thief.LatestLineVerdict(ctx, repo, "default"); return err },
			"end": func() error {
				return thief.Commit(ctx, with(t, thief, func(c *store.Change) {
					c.DeliveryDone = &store.DeliveryDone{GUID: "g", State: store.DeliveryFinished, At: now}
				}))
			},
			"check": func() error {
				return thief.Commit(ctx, with(t, thief, func(c *store.Change) {
					c.HeadCheck = &store.HeadCheck{Repository: repo, SHA: commit(1), CheckID: 2}
				}))
			},
			"want": func() error {
				return thief.Commit(ctx, with(t, thief, func(c *store.Change) { c.Want = []store.Want{{Repository: repo, SHA: commit(1)}} }))
			},
			"a pull": func() error {
				return thief.Commit(ctx, with(t, thief, func(c *store.Change) { c.Pulls = []store.Pull{pull(1, now.Add(1))} }))
			},
			"merge group": func() error {
				return thief.Commit(ctx, with(t, thief, func(c *store.Change) {
					c.MergeGroup = &store.MergeGroup{Repository: repo, Head: commit(1), BaseRef: "x"}
				}))
			},
		} {
			if err := read(); !errors.Is(err, store.ErrNotFound) {
				t.Errorf("%s: got error %v", what, err)
			}
		}
		for what, read := range map[string]func() (int, error){
			"covered":       func() (int, error) { v, err := thief.CoveredRepositories(ctx); return len(v), err },
			"installations": func() (int, error) { v, err := thief.Installations(ctx); return len(v), err },
			"open":          func() (int, error) { v, err := thief.OpenPulls(ctx, repo); return len(v), err },
			"by head":       func() (int, error) { v, err := thief.PullsByHead(ctx, repo, commit(1)); return len(v), err },
			"merge groups":  func() (int, error) { v, err := thief.MergeGroups(ctx, repo, commit(1)); return len(v), err },
			"dropped":       func() (int, error) { return thief.DropDeliveryBodies(ctx, now.Add(time.Hour)) },
		} {
			if n, err := read(); err != nil || n != 0 {
				t.Errorf("%s: %d, %v", what, n, err)
			}
		}
		wantEqual(t, dump(t, s), before)

		// What the thief may write, under the same ids, is the thief's own.
		own := with(t, thief, fill)
		own.Time = now.Add(time.Hour)
		own.Repositories[0].FullName, own.Repositories[0].Origin.Covered = "thief/payments", false
		own.Installation.State = store.InstallationDeleted
		own.Pulls[0].Open, own.Pulls[0].UpdatedAt = false, now.Add(time.Hour)
		own.MergeGroup.Active, own.HeadCheck.Done = false, 1
		own.DeliveryDone = &store.DeliveryDone{GUID: "g", State: store.DeliveryFinished, At: now}
		mustCommit(t, thief, own)
		after := dump(t, s)
		for table, rows := range before {
			for _, row := range rows {
				if !bytes.Contains([]byte(fmt.Sprint(after[table])), []byte(row)) {
					t.Errorf("%s: the victim's row changed: %s", table, row)
				}
			}
		}
	})
}

// Any interleaving of events that want heads, of workers that do them, and of descriptions of pull requests in
// any order leaves the store as the plainest model is left.
func TestTheFrontIsWhatItsModelIs(t *testing.T) {
	each(t, func(t *testing.T, s *store.Store, _ *store.Tenant) {
		tenants := atomic.Int64{}
		rapid.Check(t, func(rt *rapid.T) {
			ctx := context.Background()
			tenant := s.For(account(t, fmt.Sprint(700000+tenants.Add(1))))
			check := func(err error) {
				if err != nil {
					rt.Fatal(err)
				}
			}
			check(tenant.Commit(ctx, with(t, tenant, func(c *store.Change) { c.Repositories = known() })))
			heads := map[name.Commit]store.Head{}
			pulls := map[int]store.Pull{}
			ended := map[string]bool{}
			var done []store.Change
			entries, guids := 1, 0
			commits := func(c store.Change) {
				check(tenant.Commit(ctx, c))
				done = append(done, c)
				entries++
			}
			wants := func(rt *rapid.T, c *store.Change) {
				for _, n := range rapid.SliceOfNDistinct(rapid.ByteRange(1, 3), 0, 3, func(b byte) byte { return b }).Draw(rt, "heads") {
					c.Want = append(c.Want, store.Want{Repository: repo, SHA: commit(n)})
					h := heads[commit(n)]
					h.Repository, h.SHA, h.Changed = repo, commit(n), now
					h.Wanted++
					h.AuditWanted = h.Wanted
					heads[commit(n)] = h
				}
			}
			rt.Repeat(map[string]func(*rapid.T){
				"deliver": func(rt *rapid.T) {
					guids++
					guid := fmt.Sprint(guids)
					c := with(t, tenant, func(c *store.Change) { c.Delivery = delivery(guid) })
					commits(c)
					ended[guid] = false
				},
				"process": func(rt *rapid.T) {
					if guids == 0 {
						rt.Skip()
					}
					guid := fmt.Sprint(rapid.IntRange(1, guids).Draw(rt, "delivery"))
					c := with(t, tenant, func(c *store.Change) {
						c.DeliveryDone = &store.DeliveryDone{GUID: guid, State: store.DeliveryFinished, At: now}
					})
					if ended[guid] {
						c.Want = []store.Want{{Repository: repo, SHA: commit(1)}}
						if err := tenant.Commit(ctx, c); !errors.Is(err, store.ErrAlreadyDone) {
							rt.Fatalf("a delivery that has ended: %v", err)
						}
						return
					}
					wants(rt, &c)
					p := pull(rapid.IntRange(1, 2).Draw(rt, "number"), now.Add(time.Duration(rapid.IntRange(0, 3).Draw(rt, "age"))*time.Second))
					p.Open, p.Head = rapid.Bool().Draw(rt, "open"), commit(rapid.ByteRange(1, 3).Draw(rt, "head"))
					c.Pulls = []store.Pull{p}
					commits(c)
					ended[guid] = true
					old, there := pulls[p.Number]
					overtaken := p.UpdatedAt.Equal(old.UpdatedAt) && p.Open && !old.Open
					if !there || !p.UpdatedAt.Before(old.UpdatedAt) && !overtaken {
						pulls[p.Number] = p
					}
				},
				"work": func(rt *rapid.T) {
					sha := commit(rapid.ByteRange(1, 3).Draw(rt, "head"))
					h := heads[sha]
					r := store.HeadCheck{
						Repository: repo, SHA: sha, CheckID: rapid.Int64Range(0, 2).Draw(rt, "id"), Tried: rapid.Bool().Draw(rt, "tried"),
						State:     rapid.SampledFrom([]string{"", store.CheckInProgress, store.CheckCompleted}).Draw(rt, "state"),
						Published: rapid.SampledFrom([]string{"", "sha256:1", "sha256:2"}).Draw(rt, "published"),
						Done:      rapid.Int64Range(0, h.Wanted+1).Draw(rt, "done"),
					}
					c := with(t, tenant, func(c *store.Change) { c.HeadCheck = &r })
					if h.Wanted == 0 || r.Done > h.Wanted {
						if err := tenant.Commit(ctx, c); !errors.Is(err, store.ErrNotFound) {
							rt.Fatalf("a generation that nobody wanted: %v", err)
						}
						return
					}
					commits(c)
					if r.CheckID != 0 {
						h.CheckID = r.CheckID
					}
					if r.State != "" {
						h.State = r.State
					}
					if r.Published != "" {
						h.Published = r.Published
					}
					h.Tried, h.Done = h.Tried || r.Tried, max(h.Done, r.Done)
					heads[sha] = h
				},
				"commit again": func(rt *rapid.T) {
					if len(done) == 0 {
						rt.Skip()
					}
					check(tenant.Commit(ctx, rapid.SampledFrom(done).Draw(rt, "change")))
				},
				"": func(rt *rapid.T) { // after every step
					for n := range byte(3) {
						sha := commit(n + 1)
						h, err := tenant.Head(ctx, repo, sha)
						if _, there := heads[sha]; !there {
							if !errors.Is(err, store.ErrNotFound) {
								rt.Fatalf("a head that nobody wanted: %+v, %v", h, err)
							}
						} else if check(err); h != heads[sha] {
							rt.Fatalf("head %+v, want %+v", h, heads[sha])
						}
						byHead, err := tenant.PullsByHead(ctx, repo, sha)
						check(err)
						for _, p := range byHead {
							if pulls[p.Number].Head != sha || !p.Open {
								rt.Fatalf("by head %s: %+v", sha, p)
							}
						}
					}
					for number, want := range pulls {
						p, err := tenant.Pull(ctx, repo, number)
						check(err)
						if p != want {
							rt.Fatalf("pull request %+v, want %+v", p, want)
						}
					}
					pending, err := tenant.Pending(ctx, 1000)
					check(err)
					if len(pending) != entries {
						rt.Fatalf("%d entries, want %d", len(pending), entries)
					}
				},
			})
		})
	})
}

// Two events of one second come in either order.
func TestOfTwoDescriptionsOfOneSecondTheOneThatFollowsStands(t *testing.T) {
	opened := store.Pull{Repository: repo, Number: 7, Head: commit(1), BaseRef: "main", Open: true, UpdatedAt: now, Follows: store.FirstHead, Pusher: 1}
	pushed := opened
	pushed.Head, pushed.Follows, pushed.Pusher = commit(2), commit(1).String(), 2
	other := opened
	other.Head, other.Follows = commit(3), commit(9).String()
	edited := pushed
	edited.Title, edited.Follows, edited.Pusher = "edited", "", 0
	each(t, func(t *testing.T, s *store.Store, tenant *store.Tenant) {
		for i, c := range []struct {
			events []store.Pull
			want   store.Pull
		}{
			{[]store.Pull{opened, pushed}, pushed},
			{[]store.Pull{pushed, opened}, pushed},
			{[]store.Pull{opened, other}, opened},
			{[]store.Pull{opened, pushed, edited}, func() store.Pull { p := edited; p.Pusher = 2; return p }()},
		} {
			for _, e := range c.events {
				e.Number = i + 1
				mustCommit(t, tenant, with(t, tenant, func(ch *store.Change) { ch.Repositories, ch.Pulls = known(), []store.Pull{e} }))
			}
			got, err := tenant.Pull(t.Context(), repo, i+1)
			must(t, err)
			c.want.Number = i + 1
			wantEqual(t, got, c.want)
		}
	})
}
