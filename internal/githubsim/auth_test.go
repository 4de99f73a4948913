package githubsim_test

import (
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/noxaudit/noxaudit/internal/githubsim"
)

func TestOnlyAGoodTokenOfTheAppIsTaken(t *testing.T) {
	w := newWorld(t)
	now := w.clock.now().Unix()
	good := w.jwt(nil)
	parts := strings.Split(good, ".")
	for name, c := range map[string]struct {
		token   string
		status  int
		message string
	}{
		"good":                    {good, 200, ""},
		"client id as issuer":     {w.jwt(map[string]any{"iss": w.app.ClientID}), 200, ""},
		"number as issuer":        {w.jwt(map[string]any{"iss": w.app.ID}), 200, ""},
		"eleven minutes":          {w.jwt(map[string]any{"exp": now + 660}), 401, "too far in the future"},
		"expired":                 {w.jwt(map[string]any{"exp": now}), 401, "must be a numeric value representing the future time"},
		"issued in the future":    {w.jwt(map[string]any{"iat": now + 5}), 401, "'Issued at' claim"},
		"without expiry":          {w.jwt(map[string]any{"exp": nil}), 401, "'Expiration time' claim"},
		"another App's number":    {w.jwt(map[string]any{"iss": "1"}), 404, "Integration not found"},
		"changed":                 {parts[0] + "." + parts[1] + "." + strings.Repeat("A", len(parts[2])), 401, "could not be decoded"},
		"without a signature":     {"eyJhbGciOiJub25lIn0." + parts[1] + ".", 401, "could not be decoded"},
		"an installation's token": {w.token, 401, "could not be decoded"},
		"nothing":                 {"", 401, "could not be decoded"},
	} {
		t.Run(name, func(t *testing.T) {
			res := w.do("GET", "/app", c.token, nil)
			if res.status != c.status || !strings.Contains(string(res.body), c.message) {
				t.Errorf("%d %s, want %d %s", res.status, res.body, c.status, c.message)
			}
		})
	}
}

func TestInstallationTokensEnd(t *testing.T) {
	w := newWorld(t)
	get := func() int { return w.do("GET", "/repos/acme/shop", w.token, nil).status }
	w.clock.pass(59 * time.Minute)
	if got := get(); got != 200 {
		t.Errorf("after 59 minutes: %d", got)
	}
	w.clock.pass(time.Minute)
	if got := get(); got != 401 {
		t.Errorf("after an hour: %d", got)
	}
	w.token = w.newToken(nil)
	w.call(204, "DELETE", "/installation/token", nil)
	if got := get(); got != 401 {
		t.Errorf("revoked: %d", got)
	}
	w.token = w.newToken(nil)
	must(t, w.sim.SuspendApp("ada", w.installation, true))
	if res := w.do("GET", "/repos/acme/shop", w.token, nil); res.status != 403 || res.str("message") != "This installation has been suspended" {
		t.Errorf("suspended: %d %s", res.status, res.body)
	}
	if res := w.do("POST", fmt.Sprintf("/app/installations/%d/access_tokens", w.installation), w.jwt(nil), nil); res.status != 403 {
		t.Errorf("token while suspended: %d", res.status)
	}
	must(t, w.sim.SuspendApp("ada", w.installation, false))
	if got := get(); got != 200 {
		t.Errorf("after the suspension: %d", got)
	}
	must(t, w.sim.UninstallApp("ada", w.installation))
	if got := get(); got != 401 {
		t.Errorf("uninstalled: %d", got)
	}
	if res := w.do("POST", fmt.Sprintf("/app/installations/%d/access_tokens", w.installation), w.jwt(nil), nil); res.status != 404 {
		t.Errorf("token after the end: %d", res.status)
	}
}

func TestTokensCanBeNarrowedAndNeverWidened(t *testing.T) {
	w := newWorld(t)
	get(w.sim.CreateRepo("ada", "acme/other", githubsim.RepoSpec{Private: true}))(t)
	path := fmt.Sprintf("/app/installations/%d/access_tokens", w.installation)
	for _, body := range []any{
		map[string]any{"permissions": map[string]string{"contents": "write"}},
		map[string]any{"permissions": map[string]string{"administration": "read"}},
		map[string]any{"repositories": []string{"shop", "nothing"}},
	} {
		if res := w.do("POST", path, w.jwt(nil), body); res.status != 422 {
			t.Errorf("%v: %d %s", body, res.status, res.body)
		}
	}
	w.token = w.newToken(map[string]any{"repositories": []string{"other"}, "permissions": map[string]string{"contents": "read"}})
	w.call(404, "GET", "/repos/acme/shop", nil)
	w.call(200, "GET", "/repos/acme/other", nil)
	res := w.call(403, "GET", "/repos/acme/other/pulls", nil)
	if res.str("message") != "Resource not accessible by integration" || res.header.Get("X-Accepted-GitHub-Permissions") != "pull_requests=read" {
		t.Errorf("%v %s", res.header, res.body)
	}
	if n := w.call(200, "GET", "/installation/repositories", nil).num("total_count"); n != 1 {
		t.Errorf("%d repositories", n)
	}
}

func TestAnInstallationReachesItsRepositoriesOnly(t *testing.T) {
	w := newWorld(t)
	must(t, w.sim.UninstallApp("ada", w.installation))
	get(w.sim.CreateRepo("ada", "acme/other", githubsim.RepoSpec{Private: true}))(t)
	w.installation = get(w.sim.InstallApp("ada", w.app.ID, "acme", "acme/other"))(t)
	w.token = w.newToken(nil)
	w.call(404, "GET", "/repos/acme/shop", nil)
	w.call(404, "GET", "/orgs/another/members/bob", nil)
	must(t, w.sim.AddRepositories("ada", w.installation, "acme/shop"))
	w.call(200, "GET", "/repos/acme/shop", nil)
	must(t, w.sim.RemoveRepositories("ada", w.installation, "acme/other"))
	w.call(404, "GET", "/repos/acme/other", nil)
	get(w.sim.Transfer("ada", "acme/shop", "ada"))(t)
	w.call(404, "GET", "/repos/ada/shop", nil)
	want := []string{"installation_repositories.added", "installation_repositories.removed", "installation_repositories.removed"}
	var got []string
	for _, name := range w.arrived() {
		if strings.HasPrefix(name, "installation_repositories") {
			got = append(got, name)
		}
	}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("webhooks: %v", got)
	}
}

func TestRevokedPermissionsAreMissedAtOnce(t *testing.T) {
	w := newWorld(t)
	p := w.openPull("feature")
	must(t, w.sim.SetPermissions("ada", w.installation, map[string]string{"checks": "read"}, events))
	w.token = w.newToken(nil)
	res := w.call(403, "POST", "/repos/acme/shop/check-runs", map[string]any{"name": "noxaudit", "head_sha": p.HeadSHA})
	if res.header.Get("X-Accepted-GitHub-Permissions") != "checks=write" {
		t.Errorf("%v", res.header)
	}
}

func TestAnArchivedRepositoryIsReadOnly(t *testing.T) {
	w := newWorld(t)
	p := w.openPull("feature")
	must(t, w.sim.Archive("ada", "acme/shop", true))
	w.call(200, "GET", "/repos/acme/shop/pulls/1", nil)
	w.call(403, "POST", "/repos/acme/shop/check-runs", map[string]any{"name": "noxaudit", "head_sha": p.HeadSHA})
	if _, err := w.sim.Push("bob", "acme/shop", "feature", "more", githubsim.Files{"a": "b"}); err == nil {
		t.Error("a push was taken")
	}
}

func TestPeopleSignInWithACodeUsedOnce(t *testing.T) {
	w := newWorld(t)
	exchange := func(code, verifier string) answer {
		return send(t, mustRequest(t, w.url+"/login/oauth/access_token", fmt.Sprintf("client_id=%s&client_secret=%s&code=%s&code_verifier=%s", w.app.ClientID, w.app.ClientSecret, code, verifier)))
	}
	sum := sha256.Sum256([]byte("the verifier"))
	challenge := base64.RawURLEncoding.EncodeToString(sum[:])
	if res := exchange(get(w.sim.Grant("ada", challenge))(t), "another"); res.str("error") != "bad_verification_code" {
		t.Errorf("a wrong verifier: %s", res.body)
	}
	stale := get(w.sim.Grant("ada", ""))(t)
	w.clock.pass(10 * time.Minute)
	if res := exchange(stale, ""); res.str("error") != "bad_verification_code" {
		t.Errorf("after ten minutes: %s", res.body)
	}
	code := get(w.sim.Grant("ada", challenge))(t)
	first := exchange(code, "the+verifier")
	if res := w.do("GET", "/user", first.str("access_token"), nil); res.status != 200 || res.str("login") != "ada" {
		t.Errorf("%d %s", res.status, res.body)
	}
	if res := exchange(code, "the+verifier"); res.str("error") != "bad_verification_code" {
		t.Errorf("second use: %s", res.body)
	}
	must(t, w.sim.RevokeUserTokens("ada"))
	if res := w.do("GET", "/user", first.str("access_token"), nil); res.status != 401 {
		t.Errorf("revoked: %d", res.status)
	}
}

func TestPermissionsOfPeopleFollowTheStrongestWay(t *testing.T) {
	w := newWorld(t)
	must(t, w.sim.CreateUser("zoe"))
	must(t, w.sim.SetMember("ada", "acme", "zoe", "member"))
	team := get(w.sim.CreateTeam("ada", "acme", "core"))(t)
	must(t, w.sim.SetTeamMember("ada", "acme", team, "zoe", "member"))
	must(t, w.sim.SetTeamPermission("ada", "acme", team, "acme/shop", githubsim.Maintain))
	must(t, w.sim.SetCollaborator("ada", "acme/shop", "zoe", githubsim.Triage))
	for login, want := range map[string][2]string{"ada": {"admin", "admin"}, "bob": {"write", "write"}, "zoe": {"write", "maintain"}, "eve": {"none", "none"}} {
		res := w.call(200, "GET", "/repos/acme/shop/collaborators/"+login+"/permission", nil)
		if res.str("permission") != want[0] || res.str("role_name") != want[1] {
			t.Errorf("%s: %s", login, res.body)
		}
	}
	must(t, w.sim.SetMember("ada", "acme", "zoe", ""))
	if p := get(w.sim.PermissionOf("acme/shop", "zoe"))(t); p != githubsim.Triage {
		t.Errorf("after leaving: %s", p)
	}
	want := []string{"organization.member_added", "team.created", "membership.added", "team.added_to_repository", "member.added", "membership.removed", "organization.member_removed"}
	if got := w.arrived(); fmt.Sprint(got[len(got)-len(want):]) != fmt.Sprint(want) {
		t.Errorf("webhooks: %v", got)
	}
}
