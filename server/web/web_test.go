package web_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"os"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/noxaudit/noxaudit/internal/access"
	"github.com/noxaudit/noxaudit/internal/dbtest"
	"github.com/noxaudit/noxaudit/internal/name"
	"github.com/noxaudit/noxaudit/internal/seedtest"
	"github.com/noxaudit/noxaudit/report/figures"
	"github.com/noxaudit/noxaudit/server/web"
)

// owner owns accounts.
func owner(accounts ...name.Account) *access.Person {
	p := &access.Person{ID: 1, Login: "mk"}
	for _, a := range accounts {
		p.Grants = append(p.Grants, access.Grant{Account: a, Role: access.Owner})
	}
	return p
}

// site is the pages of a world.
type site struct {
	*seedtest.World
	person *access.Person // nil: nobody
	now    time.Time
	h      *web.Web
}

func newSite(t testing.TB, w *seedtest.World) *site {
	t.Helper()
	s := &site{World: w, now: w.Now}
	s.person = owner(w.Account)
	h, err := web.New(web.Options{
		Figures: &figures.Figures{
			Store: w.Store, Now: func() time.Time { return s.now }, Keys: []string{w.Key.Public()},
			Ledger: func(a name.Account) figures.Ledger { return w.Log.For(a) },
		},
		Person: func(context.Context) (access.Person, bool) {
			if s.person == nil {
				return access.Person{}, false
			}
			return *s.person, true
		},
		SignIn: "/auth/login", SignOut: "/auth/logout", BaseURL: "https://audit.northgate.example", GitHubURL: "https://github.example", Version: "0.9.0",
		Log: zerolog.New(os.Stderr),
	})
	if err != nil {
		t.Fatal(err)
	}
	s.h = h
	return s
}

func (s *site) do(method, path string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, path, nil)
	w := httptest.NewRecorder()
	s.h.ServeHTTP(w, r)
	return w
}

func northgate(t testing.TB) *site {
	t.Helper()
	s := newSite(t, seedtest.Northgate(t, dbtest.SQLite(t)))
	s.now = seedtest.Today
	return s
}

var _ http.Handler = (*web.Web)(nil)
