package web_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"os"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/noxaudit/noxaudit/internal/dbtest"
	"github.com/noxaudit/noxaudit/internal/name"
	"github.com/noxaudit/noxaudit/internal/seedtest"
	"github.com/noxaudit/noxaudit/report/figures"
	"github.com/noxaudit/noxaudit/server/web"
)

// viewer sees what its map names: "account" for a whole account, "account/repository" for one repository.
type viewer struct {
	login    string
	accounts []name.Account
	sees     map[string]bool
}

func (v viewer) Login() string            { return v.login }
func (v viewer) Accounts() []name.Account { return v.accounts }
func (v viewer) Sees(a name.Account, repository string) bool {
	return v.sees[a.String()] || repository != "" && v.sees[a.String()+"/"+repository]
}

// site is the pages of a world.
type site struct {
	*seedtest.World
	viewer web.Viewer
	now    time.Time
	h      *web.Web
}

func newSite(t testing.TB, w *seedtest.World) *site {
	t.Helper()
	s := &site{World: w, now: w.Now}
	s.viewer = viewer{"mk", []name.Account{w.Account}, map[string]bool{w.Account.String(): true}}
	h, err := web.New(web.Options{
		Figures: &figures.Figures{
			Store: w.Store, Now: func() time.Time { return s.now }, Keys: []string{w.Key.Public()},
			Ledger: func(a name.Account) figures.Ledger { return w.Log.For(a) },
		},
		Viewer: func(context.Context) web.Viewer {
			if s.viewer == nil {
				return nil
			}
			return s.viewer
		},
		SignIn: "/auth/github", BaseURL: "https://audit.northgate.example", GitHubURL: "https://github.example", Version: "0.9.0",
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
