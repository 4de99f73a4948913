package access_test

import (
	"fmt"
	"slices"
	"testing"

	"github.com/noxaudit/noxaudit/internal/access"
	"github.com/noxaudit/noxaudit/internal/name"
)

func account(s string) name.Account {
	a, err := name.ParseAccount(s)
	if err != nil {
		panic(err)
	}
	return a
}

var (
	acme, other = account("100"), account("200")

	people = map[string]access.Person{
		"owner":            {ID: 1, Login: "ada", Grants: []access.Grant{{Account: acme, Role: access.Owner}}},
		"repository admin": {ID: 2, Login: "bob", Grants: []access.Grant{{Account: acme, Role: access.RepositoryAdmin, Repositories: []string{"7"}}}},
		"owner elsewhere":  {ID: 3, Login: "cy", Grants: []access.Grant{{Account: other, Role: access.Owner}}},
		"admin elsewhere":  {ID: 4, Login: "di", Grants: []access.Grant{{Account: other, Role: access.RepositoryAdmin, Repositories: []string{"7"}}}},
		"stranger":         {ID: 5, Login: "eve"},
		"unknown role":     {ID: 6, Login: "fay", Grants: []access.Grant{{Account: acme, Role: "superuser", Repositories: []string{"7"}}}},
		"admin of nothing": {ID: 7, Login: "gus", Grants: []access.Grant{{Account: acme, Role: access.RepositoryAdmin}}},
		"not signed in":    {},
		"owner without id": {Grants: []access.Grant{{Account: acme, Role: access.Owner}}},
		"owner of no account": {ID: 8, Grants: []access.Grant{{Role: access.Owner},
			{Account: name.Account{}, Role: access.RepositoryAdmin, Repositories: []string{"7", ""}}}},
	}

	places = map[string]access.On{
		"account":            {Account: acme},
		"repository 7":       {Account: acme, Repository: "7"},
		"repository 8":       {Account: acme, Repository: "8"},
		"repository unnamed": {Account: acme, Repository: ""},
		"own sessions":       {Account: acme, Person: 2},
		"nothing":            {},
		"no account":         {Repository: "7"},
	}
)

// Every person does every action on every place; only what is listed here is allowed.
func TestEveryRoleMayDoWhatIsListedAndNothingElse(t *testing.T) {
	of := func(actions ...access.Action) []access.Action { return actions }
	account := of(access.SeeAccount, access.SeeOrganization, access.SeeLedger, access.EndAnySessions)
	repository := of(access.SeeRepository, access.RequestWaiver, access.ApproveWaiver, access.RejectWaiver, access.RevokeWaiver)
	both := slices.Concat(account, repository)
	want := map[string][]access.Action{
		"owner on account":                       account,
		"owner on repository 7":                  both, // actions on the account do not look at the repository
		"owner on repository 8":                  both,
		"owner on repository unnamed":            account,
		"owner on own sessions":                  account,
		"repository admin on account":            of(access.SeeAccount),
		"repository admin on repository 7":       slices.Concat(of(access.SeeAccount), repository),
		"repository admin on repository 8":       of(access.SeeAccount),
		"repository admin on repository unnamed": of(access.SeeAccount),
		"repository admin on own sessions":       of(access.SeeAccount, access.EndOwnSessions),
		"admin of nothing on account":            of(access.SeeAccount),
		"admin of nothing on repository 7":       of(access.SeeAccount),
		"admin of nothing on repository 8":       of(access.SeeAccount),
		"admin of nothing on repository unnamed": of(access.SeeAccount),
		"admin of nothing on own sessions":       of(access.SeeAccount),
	}
	actions := append(slices.Clone(access.Actions), "", "see everything", "See the account")
	used := map[string]bool{}
	for who, p := range people {
		for where, on := range places {
			key := who + " on " + where
			used[key] = true
			for _, a := range actions {
				if got := access.Can(p, a, on); got != slices.Contains(want[key], a) {
					t.Errorf("%s may %q on %s: %v", who, a, where, got)
				}
			}
		}
	}
	for key := range want {
		if !used[key] {
			t.Errorf("%s is nobody or nowhere", key)
		}
	}
}

// The same rights in another tenant open nothing here.
func TestARoleHoldsInItsOwnAccountOnly(t *testing.T) {
	for who, p := range people {
		for _, a := range access.Actions {
			if a == access.EndOwnSessions {
				continue
			}
			here := access.Can(p, a, access.On{Account: acme, Repository: "7"})
			there := access.Can(p, a, access.On{Account: other, Repository: "7"})
			if here && there {
				t.Errorf("%s may %q in both accounts", who, a)
			}
		}
	}
}

func TestOnesOwnSessionsAreOnesOwn(t *testing.T) {
	for who, p := range people {
		for id := range int64(9) {
			if got, want := access.Can(p, access.EndOwnSessions, access.On{Person: id}), id != 0 && id == p.ID; got != want {
				t.Errorf("%s ends sessions of %d: %v", who, id, got)
			}
		}
	}
}

func TestEveryActionIsListedOnce(t *testing.T) {
	if got := slices.Compact(slices.Sorted(slices.Values(access.Actions))); len(got) != len(access.Actions) || len(got) != 10 {
		t.Error(fmt.Sprint(access.Actions))
	}
}
