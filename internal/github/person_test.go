package github

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/noxaudit/noxaudit/checks/gate"
	"github.com/noxaudit/noxaudit/internal/access"
)

// rights is a GitHub that answers by path; what it is not told of is 404. Values are JSON, or an *http.Response.
func rights(t *testing.T, answers map[string]any) (Rights, *script) {
	t.Helper()
	s := &script{}
	s.play = func(_ int, r *http.Request) (*http.Response, error) {
		switch a := answers[r.URL.Path].(type) {
		case string:
			return reply(200, a), nil
		case func(*http.Request) *http.Response:
			return a(r), nil
		}
		return reply(404, `{"message":"Not Found"}`), nil
	}
	return newApp(t, s).Rights("Iv1.client", "the-client-secret"), s
}

func refusedWith(code int, message string) func(*http.Request) *http.Response {
	return func(*http.Request) *http.Response { return reply(code, `{"message":"`+message+`"}`) }
}

const (
	userAda    = `{"id":1,"login":"ada","type":"User"}`
	installed  = `{"id":5,"app_id":7,"target_type":"Organization","account":{"id":42,"login":"acme"}}`
	ownerOf42  = `{"state":"active","role":"admin","organization":{"id":42,"login":"acme"}}`
	memberOf42 = `{"state":"active","role":"member","organization":{"id":42,"login":"acme"}}`
	adminOf9   = `{"total_count":1,"repositories":[{"id":9,"owner":{"id":42},"permissions":{"admin":true}}]}`
)

func listOf(installations ...string) string {
	return fmt.Sprintf(`{"total_count":%d,"installations":[%s]}`, len(installations), strings.Join(installations, ","))
}

func TestRolesFollowFromWhatGitHubLetsAPersonSee(t *testing.T) {
	const user, installs, member, repos = "/user", "/user/installations", "/user/memberships/orgs/acme", "/user/installations/5/repositories"
	for what, c := range map[string]struct {
		answers map[string]any
		want    string
	}{
		"owner":                         {map[string]any{user: userAda, installs: listOf(installed), member: ownerOf42}, "42 acme owner []"},
		"member":                        {map[string]any{user: userAda, installs: listOf(installed), member: memberOf42, repos: `{"repositories":[]}`}, ""},
		"repository admin":              {map[string]any{user: userAda, installs: listOf(installed), member: memberOf42, repos: adminOf9}, "42 acme repository-admin [9]"},
		"outside collaborator":          {map[string]any{user: userAda, installs: listOf(installed), repos: adminOf9}, "42 acme repository-admin [9]"},
		"invited, not active":           {map[string]any{user: userAda, installs: listOf(installed), member: `{"state":"pending","role":"admin","organization":{"id":42}}`, repos: `{}`}, ""},
		"owner of who took the login":   {map[string]any{user: userAda, installs: listOf(installed), member: `{"state":"active","role":"admin","organization":{"id":43}}`}, ""},
		"membership hidden":             {map[string]any{user: userAda, installs: listOf(installed), member: refusedWith(403, "Resource not accessible by integration"), repos: adminOf9}, "42 acme repository-admin [9]"},
		"everything hidden":             {map[string]any{user: userAda, installs: listOf(installed), member: refusedWith(403, "blocked"), repos: refusedWith(403, "SAML")}, ""},
		"another App's installation":    {map[string]any{user: userAda, installs: listOf(strings.Replace(installed, `"app_id":7`, `"app_id":8`, 1)), member: ownerOf42}, ""},
		"suspended":                     {map[string]any{user: userAda, installs: listOf(strings.Replace(installed, `"id":5`, `"id":5,"suspended_at":"2026-11-01T00:00:00Z"`, 1)), member: ownerOf42}, ""},
		"an enterprise's":               {map[string]any{user: userAda, installs: listOf(strings.Replace(installed, "Organization", "Enterprise", 1)), member: ownerOf42}, ""},
		"no account":                    {map[string]any{user: userAda, installs: listOf(`{"id":5,"app_id":7,"target_type":"Organization"}`)}, ""},
		"own account":                   {map[string]any{user: userAda, installs: listOf(`{"id":5,"app_id":7,"target_type":"User","account":{"id":1,"login":"ada"}}`)}, "1 ada owner []"},
		"somebody else's account":       {map[string]any{user: userAda, installs: listOf(`{"id":5,"app_id":7,"target_type":"User","account":{"id":2,"login":"bob"}}`), repos: `{"repositories":[{"id":9,"owner":{"id":2},"permissions":{"push":true}}]}`}, ""},
		"a bot":                         {map[string]any{user: `{"id":1,"login":"x[bot]","type":"Bot"}`, installs: listOf(installed), member: ownerOf42}, ""},
		"archived and foreign":          {map[string]any{user: userAda, installs: listOf(installed), repos: `{"repositories":[{"id":9,"owner":{"id":42},"archived":true,"permissions":{"admin":true}},{"id":10,"owner":{"id":43},"permissions":{"admin":true}},{"id":11,"owner":{"id":42},"permissions":{"maintain":true}},{"id":12,"owner":{"id":42}}]}`}, ""},
		"owner by two installations":    {map[string]any{user: userAda, installs: listOf(installed, strings.Replace(installed, `"id":5`, `"id":6`, 1)), member: ownerOf42}, "42 acme owner []"},
		"no installation":               {map[string]any{user: userAda, installs: listOf()}, ""},
		"GitHub gone":                   {map[string]any{user: userAda, installs: refusedWith(502, "")}, "unavailable"},
		"GitHub gone half-way":          {map[string]any{user: userAda, installs: listOf(installed), member: refusedWith(503, "")}, "unavailable"},
		"a token that is not taken":     {map[string]any{user: refusedWith(401, "Bad credentials"), installs: refusedWith(401, "Bad credentials")}, "ended"},
		"revoked between two questions": {map[string]any{user: userAda, installs: listOf(installed), member: refusedWith(401, "Bad credentials")}, "ended"},
		"nobody":                        {map[string]any{user: `{}`, installs: listOf()}, "unavailable"},
	} {
		t.Run(what, func(t *testing.T) {
			r, _ := rights(t, c.answers)
			r.app.opts.Sleep = func(context.Context, time.Duration) error { return nil }
			p, err := r.Person(context.Background(), "ghu_0123456789abcdefghijklmnop")
			got := ""
			for _, g := range p.Grants {
				got += fmt.Sprintf("%s %s %s %v", g.Account, g.Login, g.Role, g.Repositories)
			}
			switch {
			case errors.Is(err, access.ErrSignInEnded):
				got = "ended"
			case errors.Is(err, gate.ErrGitHubUnavailable):
				got = "unavailable"
			case err != nil:
				t.Fatal(err)
			}
			if got != c.want {
				t.Errorf("%q, want %q", got, c.want)
			}
			if err != nil && strings.Contains(err.Error(), "ghu_") {
				t.Errorf("the error tells the token: %v", err)
			}
		})
	}
}

func TestOneMishapWithATokenEndsNoSignIn(t *testing.T) {
	failed := false
	r, s := rights(t, map[string]any{"/user/installations": listOf(), "/user": func(*http.Request) *http.Response {
		if !failed {
			failed = true
			return reply(401, `{"message":"Bad credentials"}`)
		}
		return reply(200, userAda)
	}})
	p, err := r.Person(context.Background(), "ghu_x")
	if err != nil || p.ID != 1 {
		t.Errorf("%+v, %v", p, err)
	}
	for _, a := range s.auth {
		if a != "Bearer ghu_x" {
			t.Errorf("called with %q", a)
		}
	}
}

func TestRepositoriesAreReadPageByPageUpToABound(t *testing.T) {
	for _, pages := range []int{1, 3, 250} {
		r, s := rights(t, map[string]any{"/user": userAda, "/user/installations": listOf(installed), "/user/installations/5/repositories": func(r *http.Request) *http.Response {
			at, _ := strconv.Atoi(r.URL.Query().Get("page"))
			at = max(at, 1)
			if r.URL.Query().Get("per_page") != "100" {
				t.Errorf("asked %s", r.URL)
			}
			body, _ := json.Marshal(map[string]any{"repositories": []any{map[string]any{"id": 1000 + at, "owner": map[string]int{"id": 42}, "permissions": map[string]bool{"admin": true}}}})
			if at < pages {
				return reply(200, string(body), "Link", fmt.Sprintf(`<%s?page=%d>; rel="next"`, r.URL.Path, at+1))
			}
			return reply(200, string(body))
		}})
		p, err := r.Person(context.Background(), "ghu_x")
		if err != nil {
			t.Fatal(err)
		}
		if got := len(p.Grants[0].Repositories); got != min(pages, personPages) {
			t.Errorf("%d pages: %d repositories", pages, got)
		}
		if len(s.calls) > personPages+3 {
			t.Errorf("%d calls", len(s.calls))
		}
	}
}

func TestATokenIsForgottenWithTheAppsOwnProof(t *testing.T) {
	for _, code := range []int{204, 404, 422} {
		r, s := rights(t, map[string]any{"/applications/Iv1.client/token": func(r *http.Request) *http.Response {
			id, secret, _ := r.BasicAuth()
			if r.Method != "DELETE" || id != "Iv1.client" || secret != "the-client-secret" {
				t.Errorf("%s with %q", r.Method, r.Header.Get("Authorization"))
			}
			return reply(code, `{"message":"x"}`)
		}})
		if err := r.Forget(context.Background(), "ghu_x"); err != nil || len(s.calls) != 1 {
			t.Errorf("%d: %v", code, err)
		}
	}
	r, _ := rights(t, map[string]any{"/applications/Iv1.client/token": refusedWith(403, "no the-client-secret for ghu_0123456789abcdefghijklmnop")})
	if err := r.Forget(context.Background(), "ghu_x"); err == nil || strings.Contains(err.Error(), "ghu_") {
		t.Errorf("%v", err)
	}
}
