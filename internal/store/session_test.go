package store_test

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/noxaudit/noxaudit/internal/dbtest"
	"github.com/noxaudit/noxaudit/internal/name"
	"github.com/noxaudit/noxaudit/internal/store"
	"github.com/noxaudit/noxaudit/ledger"
)

// session is the n-th session, of person 7, for eight hours.
func session(n int, accounts ...name.Account) store.Session {
	return store.Session{
		ID: fmt.Sprintf("session-%05d", n), Hash: fmt.Sprintf("%064x", n), Flow: fmt.Sprintf("flow-%d", n), Source: "github",
		Person: 7, Login: "ada", Accounts: accounts, Grants: []byte(`[]`), Sealed: []byte{1, 2, 3}, Agent: "a browser",
		Created: now, Seen: now, Checked: now, Until: now.Add(time.Hour), Ends: now.Add(8 * time.Hour),
	}
}

func sessionChange(t testing.TB, s *store.Tenant, c store.SessionChange) store.Change {
	return store.Change{Time: now, Entries: []ledger.Event{event(t, s, "sessions")}, Sessions: &c}
}

func eachDeployment(t *testing.T, test func(t *testing.T, s *store.Store, d *store.Tenant)) {
	each(t, func(t *testing.T, s *store.Store, _ *store.Tenant) { test(t, s, s.For(name.Deployment)) })
}

func TestASessionIsFoundByTheHashOfItsTokenUntilItIsEnded(t *testing.T) {
	eachDeployment(t, func(t *testing.T, s *store.Store, d *store.Tenant) {
		ctx := t.Context()
		a, b := account(t, "100"), account(t, "1")
		want := session(1, a, b)
		mustCommit(t, d, sessionChange(t, d, store.SessionChange{Open: &want}))
		got, err := d.Session(ctx, want.Hash)
		must(t, err)
		wantEqual(t, got, want)
		_, err = d.Session(ctx, strings.Repeat("0", 64))
		wantErr(t, err, store.ErrNotFound)
		_, err = s.For(a).Session(ctx, want.Hash)
		wantErr(t, err, store.ErrNotFound) // not even an account that it reaches

		want.Login, want.Accounts, want.Grants, want.Checked = "ada-2", []name.Account{b}, []byte(`[1]`), now.Add(time.Minute)
		mustCommit(t, d, sessionChange(t, d, store.SessionChange{Rights: &store.SessionRights{
			ID: want.ID, Login: want.Login, Accounts: want.Accounts, Grants: want.Grants, Checked: want.Checked}}))
		got, err = d.Session(ctx, want.Hash)
		must(t, err)
		wantEqual(t, got, want)

		end := sessionChange(t, d, store.SessionChange{End: []string{want.ID}})
		mustCommit(t, d, end)
		mustCommit(t, d, end) // the same change again has taken effect
		_, err = d.Session(ctx, want.Hash)
		wantErr(t, err, store.ErrNotFound)
		wantErr(t, d.Commit(ctx, sessionChange(t, d, store.SessionChange{End: []string{want.ID}})), store.ErrNotFound)
		wantErr(t, d.Commit(ctx, sessionChange(t, d, store.SessionChange{Rights: &store.SessionRights{ID: want.ID, Login: "x", Checked: now}})), store.ErrNotFound)
	})
}

func TestOneSignInMakesOneSession(t *testing.T) {
	eachDeployment(t, func(t *testing.T, s *store.Store, d *store.Tenant) {
		var wg sync.WaitGroup
		errs := make([]error, 4)
		changes := make([]store.Change, len(errs))
		for i := range changes {
			one := session(i + 1)
			one.Flow = "the same"
			changes[i] = sessionChange(t, d, store.SessionChange{Open: &one})
		}
		for i := range errs {
			wg.Go(func() { errs[i] = d.Commit(t.Context(), changes[i]) })
		}
		wg.Wait()
		made := 0
		for _, err := range errs {
			if err == nil {
				made++
			} else {
				wantErr(t, err, store.ErrDuplicate)
			}
		}
		if made != 1 {
			t.Errorf("%d sessions were made: %v", made, errs)
		}
	})
}

func TestUseMovesASessionOnUpToItsEnd(t *testing.T) {
	eachDeployment(t, func(t *testing.T, s *store.Store, d *store.Tenant) {
		ctx := t.Context()
		one := session(1)
		mustCommit(t, d, sessionChange(t, d, store.SessionChange{Open: &one}))
		until := func() time.Time {
			got, err := d.Session(ctx, one.Hash)
			must(t, err)
			return got.Until
		}
		must(t, d.SessionSeen(ctx, one.ID, now.Add(30*time.Minute), now.Add(90*time.Minute)))
		wantEqual(t, until(), now.Add(90*time.Minute))
		must(t, d.SessionSeen(ctx, one.ID, now.Add(20*time.Minute), now.Add(80*time.Minute))) // late news
		wantEqual(t, until(), now.Add(90*time.Minute))
		must(t, d.SessionSeen(ctx, one.ID, now.Add(80*time.Minute), now.Add(80*time.Hour)))
		wantEqual(t, until(), one.Ends)
		must(t, d.SessionSeen(ctx, one.ID, one.Ends, one.Ends.Add(time.Hour))) // too late: over is over
		wantEqual(t, until(), one.Ends)
		must(t, d.SessionChecked(ctx, one.ID, now.Add(time.Minute)))
		must(t, d.SessionChecked(ctx, one.ID, now))
		got, err := d.Session(ctx, one.Hash)
		must(t, err)
		wantEqual(t, got.Checked, now.Add(time.Minute))
	})
}

func TestSessionsAreListedByPersonAndByAccount(t *testing.T) {
	eachDeployment(t, func(t *testing.T, s *store.Store, d *store.Tenant) {
		ctx := t.Context()
		a, b := account(t, "12"), account(t, "121")
		for i, one := range []store.Session{session(1, a), session(2, b), session(3, a, b), session(4, a)} {
			if i == 3 {
				one.Person, one.Until = 8, now.Add(time.Minute)
			}
			mustCommit(t, d, sessionChange(t, d, store.SessionChange{Open: &one}))
		}
		ids := func(all []store.Session, err error) string {
			must(t, err)
			var out []string
			for _, one := range all {
				out = append(out, strings.TrimPrefix(one.ID, "session-0000"))
			}
			return strings.Join(out, " ")
		}
		wantEqual(t, ids(d.SessionsOf(ctx, 7, now)), "1 2 3")
		wantEqual(t, ids(d.SessionsOf(ctx, 8, now.Add(time.Minute))), "")
		wantEqual(t, ids(d.SessionsReaching(ctx, a, now, "", 10)), "1 3 4")
		wantEqual(t, ids(d.SessionsReaching(ctx, a, now.Add(time.Minute), "", 10)), "1 3")
		wantEqual(t, ids(d.SessionsReaching(ctx, b, now, "", 1)), "2")
		wantEqual(t, ids(d.SessionsReaching(ctx, b, now, "session-00002", 10)), "3")
		all, err := d.SessionsReaching(ctx, b, now, "session-00002", 10)
		must(t, err)
		if all[0].Sealed != nil || all[0].Grants != nil || len(all[0].Accounts) != 1 || all[0].Accounts[0] != b {
			t.Errorf("another account shows: %+v", all[0])
		}
		wantEqual(t, ids(s.For(a).SessionsReaching(ctx, a, now, "", 10)), "")
	})
}

// Ten thousand sessions at once, and none left when their time is over.
func TestSessionsThatAreOverArePruned(t *testing.T) {
	const people, batch = 10_000, 250
	eachDeployment(t, func(t *testing.T, s *store.Store, d *store.Tenant) {
		ctx := t.Context()
		tx, err := s.DB().Write.BeginTx(ctx, nil)
		must(t, err)
		for i := range people {
			one := session(i)
			until := one.Until
			if i%10 == 0 {
				until = one.Ends
			}
			_, err := tx.ExecContext(ctx, `INSERT INTO session (account, id, hash, flow, source, person, login, accounts, grants, sealed, agent, created_at, seen_at, checked_at, until_at, ends_at)
				VALUES ('deployment', $1, $2, $3, 'github', $4, 'x', ',', $5, $5, '', 0, 0, 0, $6, $7)`,
				one.ID, one.Hash, one.Flow, int64(i+1), []byte{}, until.UnixMicro(), one.Ends.UnixMicro())
			must(t, err)
		}
		must(t, tx.Commit())
		prune := func(at time.Time) (all int) {
			for {
				n, err := d.PruneSessions(ctx, at, batch)
				must(t, err)
				if n > batch {
					t.Fatalf("pruned %d at once", n)
				}
				if all += n; n == 0 {
					return all
				}
			}
		}
		wantEqual(t, prune(now), 0)
		wantEqual(t, prune(now.Add(time.Hour)), people*9/10)
		wantEqual(t, prune(now.Add(8*time.Hour)), people/10)
		wantEqual(t, len(dump(t, s)["session"]), 0)
	})
}

func TestSessionsThatCannotBeAreRefused(t *testing.T) {
	s := open(t, dbtest.SQLite(t))
	d := s.For(name.Deployment)
	good := func(change func(*store.Session)) store.SessionChange {
		one := session(1)
		change(&one)
		return store.SessionChange{Open: &one}
	}
	for what, c := range map[string]store.SessionChange{
		"a token instead of its hash": good(func(s *store.Session) { s.Hash = "nxs_secret" }),
		"upper case":                  good(func(s *store.Session) { s.Hash = strings.Repeat("A", 64) }),
		"nobody":                      good(func(s *store.Session) { s.Person = 0 }),
		"no login":                    good(func(s *store.Session) { s.Login = "" }),
		"no flow":                     good(func(s *store.Session) { s.Flow = "" }),
		"over before it begins":       good(func(s *store.Session) { s.Until = s.Created }),
		"longer than its end":         good(func(s *store.Session) { s.Until = s.Ends.Add(1) }),
		"never checked":               good(func(s *store.Session) { s.Checked = time.Time{} }),
		"a zero account":              good(func(s *store.Session) { s.Accounts = []name.Account{{}} }),
		"an empty id to end":          {End: []string{""}},
	} {
		if err := d.Commit(t.Context(), sessionChange(t, d, c)); err == nil {
			t.Errorf("%s: taken", what)
		} else {
			wantErr(t, err, store.ErrInvalid)
		}
	}
	of := s.For(account(t, "1"))
	wantErr(t, of.Commit(t.Context(), sessionChange(t, of, good(func(*store.Session) {}))), store.ErrInvalid)
}
