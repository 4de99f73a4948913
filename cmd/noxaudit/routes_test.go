package main

import (
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/noxaudit/noxaudit/internal/githubsim"
	"github.com/noxaudit/noxaudit/server/auth/authtest"
)

// TestEveryRouteAsEveryRoleAndAsAStranger asks a running server for each of its routes, as everybody that there is:
// ada owns the organisation, max administers octo/pay, rob administers octo/other, dev writes to octo/pay, out is
// nobody there, val owns another organisation, and a stranger has not signed in.
func TestEveryRouteAsEveryRoleAndAsAStranger(t *testing.T) {
	eachStore(t, func(t *testing.T, h *hub) {
		h.must(h.sim.CreateUser("rob"))
		h.must(h.sim.CreateUser("val"))
		h.must(h.sim.CreateOrg("umbra", "val"))
		_, err := h.sim.CreateRepo("val", "umbra/secret", githubsim.RepoSpec{Files: githubsim.Files{"x.go": "package x\n"}})
		h.must(err)
		_, err = h.sim.CreateRepo("ada", "octo/other", githubsim.RepoSpec{Files: githubsim.Files{"y.go": "package y\n"}})
		h.must(err)
		c := newCourt(h)
		h.must(h.sim.SetCollaborator("ada", "octo/other", "rob", githubsim.Admin))
		_, err = h.sim.InstallApp("val", h.app.ID, "umbra")
		h.must(err)
		w := strings.SplitN(c.waive(), "@", 2)[0]

		withSignIn(h)
		base := h.prog.config.BaseURL
		people := map[string]*authtest.Browser{"a stranger": authtest.New(t, h.sim, base, nil)}
		for _, login := range []string{"ada", "max", "rob", "val"} {
			people[login] = authtest.SignedIn(t, h.sim, base, login)
		}
		for _, login := range []string{"dev", "out", "sam"} { // no right, so no session
			b := authtest.New(t, h.sim, base, nil)
			if res := b.SignIn(login, "/"); res.StatusCode != http.StatusForbidden {
				t.Errorf("%s signed in: %d", login, res.StatusCode)
			}
			people[login] = b
		}

		const (
			anybody = "ada max rob val dev sam out a stranger"
			signed  = "ada max rob val"
		)
		pay := "/orgs/octo/repositories/pay"
		for _, r := range []struct {
			method, path string
			may          string // who is answered with 200
			other        int    // what others are answered, unless they are sent to sign in
		}{
			{"GET", "/healthz", anybody, 0},
			{"GET", "/readyz", anybody, 0},
			{"GET", "/", signed, 0},
			{"GET", "/orgs/octo", "ada max rob", 404},
			{"GET", "/orgs/octo/repositories", "ada max rob", 404},
			{"GET", "/orgs/octo/findings", "ada", 404},
			{"GET", "/orgs/octo/waivers", "ada", 404},
			{"GET", "/orgs/octo/waivers/" + w, "ada max", 404},
			{"GET", "/orgs/octo/ledger", "ada", 404},
			{"GET", "/orgs/octo/find?q=pay", "ada max rob", 404},
			{"GET", pay, "ada max", 404},
			{"GET", pay + "/pulls/1", "ada max", 404},
			{"GET", pay + "/commits/" + c.sha, "ada max", 404},
			{"GET", pay + "/findings/" + c.nx, "ada max", 404},
			{"GET", pay + "/verdicts/V-00000000", "", 404},
			{"GET", "/orgs/octo/repositories/other", "ada rob", 404},
			{"GET", "/orgs/umbra", "val", 404},
			{"GET", "/orgs/umbra/ledger", "val", 404},
			{"GET", "/orgs/umbra/repositories/secret", "val", 404},
			{"GET", "/orgs/~0/repositories/~0", "", 404},
			{"GET", "/nowhere", "", 404},
			{"POST", "/orgs/octo", "", 405},
			{"DELETE", pay, "", 405},
			{"GET", "/api/v1/orgs/octo/repositories/pay/waivers", "", 401}, // cookies are no credential there
			{"GET", "/api/v1/orgs/octo/repositories/pay/waivers/" + w, "", 401},
			{"POST", "/api/v1/orgs/octo/repositories/pay/commands", "", 401},
			{"GET", "/api/v1/nowhere", "", 0},
			{"GET", "/auth/cli", "", 400},
			{"GET", "/auth/callback", "", 400},
			{"POST", "/github/hooks", "", 0},
		} {
			for who, b := range people {
				var form url.Values
				if r.method != "GET" {
					form = url.Values{}
				}
				res := b.Do(r.method, r.path, form)
				text := authtest.Text(res)
				home := strings.HasPrefix(res.Request.URL.Path, "/orgs/") || res.Request.URL.Path == r.path || strings.Contains(r.path, "?") // "/" leads on where there is one account
				allowed := res.StatusCode == http.StatusOK && home && !strings.Contains(text, "Sign in with GitHub")
				want := false
				for _, one := range strings.Split(strings.ReplaceAll(r.may, "a stranger", "a-stranger"), " ") {
					want = want || one == strings.ReplaceAll(who, " ", "-")
				}
				if allowed != want {
					t.Errorf("%s %s as %s: %d at %s, allowed %t, want %t", r.method, r.path, who, res.StatusCode, res.Request.URL.Path, allowed, want)
				}
				if strings.Contains(signed, who) && !want && r.other != 0 && res.StatusCode != r.other {
					t.Errorf("%s %s as %s: %d, want %d", r.method, r.path, who, res.StatusCode, r.other)
				}
				if !want && (strings.Contains(text, "config.go") || strings.Contains(text, "umbra/secret")) && who != "val" {
					t.Errorf("%s %s as %s tells what is there", r.method, r.path, who)
				}
			}
		}
	})
}
