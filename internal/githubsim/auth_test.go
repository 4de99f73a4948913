package githubsim_test

import (
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"maps"
	"net/http"
	"net/url"
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

func TestAgreementIsForOneAppOneAddressAndOneVerifier(t *testing.T) {
	w := newWorld(t)
	const home = "https://noxaudit.example/auth/callback"
	must(t, w.sim.SetCallbacks(w.app.ID, home))
	sum := sha256.Sum256([]byte("the verifier"))
	good := url.Values{"client_id": {w.app.ClientID}, "redirect_uri": {home}, "state": {"s1"}, "code_challenge_method": {"S256"},
		"code_challenge": {base64.RawURLEncoding.EncodeToString(sum[:])}}
	for name, change := range map[string]url.Values{
		"another App":       {"client_id": {"Iv1.unknown"}},
		"a foreign address": {"redirect_uri": {"https://evil.example/"}},
		"a plain challenge": {"code_challenge_method": {"plain"}},
	} {
		q := maps.Clone(good)
		maps.Copy(q, change)
		if to, err := w.sim.Agree("ada", q); err == nil {
			t.Errorf("%s: sent to %s", name, to)
		}
	}
	if to, err := w.sim.Agree(w.app.Bot, good); err == nil {
		t.Errorf("a bot was sent to %s", to)
	}
	exchange := func(form url.Values, accept string) answer {
		req := mustRequest(t, w.url+"/login/oauth/access_token", form.Encode())
		req.Header.Set("Accept", accept)
		return send(t, req)
	}
	agree := func() url.Values {
		to, err := url.Parse(get(w.sim.Agree("ada", good))(t))
		must(t, err)
		if to.Query().Get("state") != "s1" || !strings.HasPrefix(to.String(), home+"?") {
			t.Fatalf("sent to %s", to)
		}
		return url.Values{"client_id": {w.app.ClientID}, "client_secret": {w.app.ClientSecret}, "code": {to.Query().Get("code")},
			"redirect_uri": {home}, "code_verifier": {"the verifier"}}
	}
	for _, missing := range []string{"code_verifier", "redirect_uri", "code"} {
		form := agree()
		form.Del(missing)
		if res := exchange(form, "application/json"); res.str("error") != "bad_verification_code" {
			t.Errorf("without %s: %s", missing, res.body)
		}
	}
	res := exchange(agree(), "*/*")
	form, err := url.ParseQuery(string(res.body))
	if err != nil || !strings.HasPrefix(form.Get("access_token"), "ghu_") || form.Has("expires_in") {
		t.Errorf("form answer: %s", res.body)
	}
}

func TestAPersonsTokenListsWhatThePersonReaches(t *testing.T) {
	w := newWorld(t)
	get(w.sim.CreateRepo("ada", "acme/open", githubsim.RepoSpec{}))(t)
	must(t, w.sim.CreateUser("zoe"))
	as := func(login, path string) answer {
		return w.do("GET", path, get(w.sim.UserToken(login, w.app.ID))(t), nil)
	}
	repos := fmt.Sprintf("/user/installations/%d/repositories", w.installation)
	if n := as("eve", "/user/installations").num("total_count"); n != 0 {
		t.Errorf("a stranger has %d installations", n)
	}
	if res := as("eve", repos); res.status != 404 {
		t.Errorf("a stranger: %d %s", res.status, res.body)
	}
	must(t, w.sim.SetCollaborator("ada", "acme/shop", "zoe", githubsim.Admin))
	res := as("zoe", repos)
	if as("zoe", "/user/installations").num("total_count") != 1 || res.num("total_count") != 1 || res.at("repositories", 0, "permissions", "admin") != true {
		t.Errorf("an outside collaborator: %s", res.body)
	}
	if res := as("bob", repos); res.num("total_count") != 2 || res.at("repositories", 0, "permissions", "push") != true || res.at("repositories", 0, "permissions", "admin") != false {
		t.Errorf("a member: %s", res.body)
	}
	must(t, w.sim.SuspendApp("ada", w.installation, true))
	if res := as("ada", repos); res.status != 403 {
		t.Errorf("suspended: %d", res.status)
	}
	if res := as("ada", "/user/installations"); res.at("installations", 0, "suspended_at") == nil {
		t.Errorf("suspended: %s", res.body)
	}
}

func TestAnAppTakesBackAPersonsToken(t *testing.T) {
	w := newWorld(t)
	token := get(w.sim.UserToken("ada", w.app.ID))(t)
	revoke := func(id, secret string) int {
		req, err := http.NewRequest("DELETE", w.url+"/api/v3/applications/"+w.app.ClientID+"/token", strings.NewReader(`{"access_token":"`+token+`"}`))
		must(t, err)
		req.Header.Set("Content-Type", "application/json")
		req.SetBasicAuth(id, secret)
		return send(t, req).status
	}
	if got := revoke(w.app.ClientID, "wrong"); got != 404 {
		t.Errorf("with a wrong secret: %d", got)
	}
	if got := revoke(w.app.ClientID, w.app.ClientSecret); got != 204 {
		t.Errorf("revoked: %d", got)
	}
	if res := w.do("GET", "/user", token, nil); res.status != 401 {
		t.Errorf("after it: %d", res.status)
	}
}

func TestPeoplesTokensEndWhereTheAppLetsThem(t *testing.T) {
	w := newWorld(t)
	app := get(w.sim.CreateApp(githubsim.AppSpec{Owner: "acme", Name: "another", Key: key(), UserTokensEnd: true}))(t)
	form := url.Values{"client_id": {app.ClientID}, "client_secret": {app.ClientSecret}, "code": {get(w.sim.Grant("ada", ""))(t)}}
	res := send(t, mustRequest(t, w.url+"/login/oauth/access_token", form.Encode()))
	token := res.str("access_token")
	if res.num("expires_in") != 28800 || w.do("GET", "/user", token, nil).status != 200 {
		t.Errorf("%s", res.body)
	}
	w.clock.pass(8 * time.Hour)
	if got := w.do("GET", "/user", token, nil).status; got != 401 {
		t.Errorf("after eight hours: %d", got)
	}
}
