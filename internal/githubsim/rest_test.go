package githubsim_test

import (
	"encoding/base64"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/noxaudit/noxaudit/internal/githubsim"
)

// TestEveryEndpointAnswersAsGitHubDescribes calls each route once where it succeeds. Check in newWorld holds every
// exchange against GitHub's description; at the end no route may be left uncalled.
func TestEveryEndpointAnswersAsGitHubDescribes(t *testing.T) {
	w := newWorld(t)
	p := w.openPull("feature")
	must(t, w.sim.Protect("ada", "acme/shop", "main", &githubsim.Protection{Approvals: 1, Strict: true, Queue: &githubsim.MergeQueue{Timeout: time.Hour},
		Required: []githubsim.RequiredCheck{{Context: "noxaudit", AppID: w.app.ID}, {Context: "lint"}}}))
	team := get(w.sim.CreateTeam("ada", "acme", "Security Team"))(t)
	must(t, w.sim.SetTeamMember("ada", "acme", team, "bob", "maintainer"))
	comment := get(w.sim.Comment("bob", "acme/shop", p.Number, "hello"))(t)
	review := get(w.sim.SubmitReview("ada", "acme/shop", p.Number, "approved", "fine"))(t)
	fork := get(w.sim.Fork("bob", "acme/shop"))(t)
	user := get(w.sim.UserToken("ada", w.app.ID))(t)
	w.flush()
	repo, sha := "/repos/acme/shop", p.HeadSHA
	as := map[string]string{"jwt": w.jwt(nil), "": w.token, "user": user, "none": ""}

	run := w.call(201, "POST", repo+"/check-runs", map[string]any{"name": "noxaudit", "head_sha": sha, "status": "in_progress", "external_id": "1",
		"details_url": "https://noxaudit.invalid/1", "started_at": "2026-11-02T09:00:00Z"}).num("id")
	deliveries := w.do("GET", "/app/hook/deliveries", as["jwt"], nil)
	suites := w.call(200, "GET", repo+"/commits/"+sha+"/check-suites", nil)
	suite := suites.num("check_suites", 0, "id")
	for _, c := range []struct {
		who, method, path string
		status            int
		body              any
	}{
		{"none", "GET", "/meta", 200, nil},
		{"", "GET", "/rate_limit", 200, nil},
		{"jwt", "GET", "/app", 200, nil},
		{"jwt", "GET", "/app/installations", 200, nil},
		{"jwt", "GET", fmt.Sprintf("/app/installations/%d", w.installation), 200, nil},
		{"jwt", "POST", fmt.Sprintf("/app/installations/%d/access_tokens", w.installation), 201,
			map[string]any{"repositories": []string{"shop"}, "permissions": map[string]string{"contents": "read"}}},
		{"jwt", "GET", "/app/hook/deliveries", 200, nil},
		{"jwt", "GET", fmt.Sprintf("/app/hook/deliveries/%d", deliveries.num(0, "id")), 200, nil},
		{"jwt", "POST", fmt.Sprintf("/app/hook/deliveries/%d/attempts", deliveries.num(0, "id")), 202, nil},
		{"jwt", "GET", "/orgs/acme/installation", 200, nil},
		{"jwt", "GET", "/users/acme/installation", 200, nil},
		{"jwt", "GET", repo + "/installation", 200, nil},
		{"", "GET", "/installation/repositories", 200, nil},
		{"user", "GET", "/user", 200, nil},
		{"user", "GET", "/user/orgs", 200, nil},
		{"user", "GET", "/user/installations", 200, nil},
		{"user", "GET", fmt.Sprintf("/user/installations/%d/repositories", w.installation), 200, nil},
		{"user", "GET", "/user/memberships/orgs/acme", 200, nil},
		{"", "GET", "/users/bob", 200, nil},
		{"", "GET", "/orgs/acme/members/bob", 204, nil},
		{"", "GET", "/orgs/acme/memberships/bob", 200, nil},
		{"", "GET", "/orgs/acme/teams/security-team", 200, nil},
		{"", "GET", "/orgs/acme/teams/security-team/members?role=all", 200, nil},
		{"", "GET", "/orgs/acme/teams/security-team/memberships/bob", 200, nil},
		{"", "GET", repo, 200, nil},
		{"user", "GET", "/repos/" + fork.FullName, 404, nil},
		{"", "GET", repo + "/collaborators/bob/permission", 200, nil},
		{"", "GET", repo + "/rules/branches/main", 200, nil},
		{"", "GET", repo + "/contents/README.md?ref=main", 200, nil},
		{"", "GET", repo + "/contents/", 200, nil},
		{"", "GET", repo + "/git/ref/heads/main", 200, nil},
		{"", "GET", repo + "/commits/" + sha, 200, nil},
		{"", "GET", repo + "/commits/" + sha + "/pulls", 200, nil},
		{"", "GET", repo + "/pulls?state=all&sort=updated&direction=desc", 200, nil},
		{"", "GET", repo + "/pulls/1", 200, nil},
		{"", "GET", repo + "/pulls/1/commits", 200, nil},
		{"", "GET", repo + "/pulls/1/files", 200, nil},
		{"", "GET", repo + "/pulls/1/reviews", 200, nil},
		{"", "GET", fmt.Sprintf("%s/pulls/1/reviews/%d", repo, review), 200, nil},
		{"", "PATCH", fmt.Sprintf("%s/check-runs/%d", repo, run), 200, map[string]any{"status": "completed", "conclusion": "failure",
			"output": map[string]any{"title": "Blocked", "summary": "**one** finding", "text": "more", "annotations": []any{map[string]any{
				"path": "feature.txt", "start_line": 1, "end_line": 1, "annotation_level": "failure", "message": "a key", "title": "Key", "raw_details": "…"}}},
			"actions": []any{map[string]string{"label": "Recheck", "description": "Audit this commit again", "identifier": "recheck"}}}},
		{"", "GET", fmt.Sprintf("%s/check-runs/%d", repo, run), 200, nil},
		{"", "GET", fmt.Sprintf("%s/check-runs/%d/annotations", repo, run), 200, nil},
		{"", "POST", fmt.Sprintf("%s/check-runs/%d/rerequest", repo, run), 201, nil},
		{"", "POST", repo + "/check-suites", 200, map[string]any{"head_sha": sha}},
		{"", "PATCH", repo + "/check-suites/preferences", 200, map[string]any{"auto_trigger_checks": []any{map[string]any{"app_id": w.app.ID, "setting": false}}}},
		{"", "GET", fmt.Sprintf("%s/check-suites/%d", repo, suite), 200, nil},
		{"", "GET", fmt.Sprintf("%s/check-suites/%d/check-runs", repo, suite), 200, nil},
		{"", "POST", fmt.Sprintf("%s/check-suites/%d/rerequest", repo, suite), 201, nil},
		{"", "GET", repo + "/commits/feature/check-runs?check_name=noxaudit&filter=latest&status=completed", 200, nil},
		{"", "GET", fmt.Sprintf("%s/commits/%s/check-suites?app_id=%d", repo, sha, w.app.ID), 200, nil},
		{"", "GET", repo + "/issues/comments?sort=updated&direction=asc&since=2026-01-01T00:00:00Z", 200, nil},
		{"", "GET", repo + "/issues/1/comments", 200, nil},
		{"", "POST", repo + "/issues/1/comments", 201, map[string]any{"body": "a reply"}},
		{"", "GET", fmt.Sprintf("%s/issues/comments/%d", repo, comment), 200, nil},
		{"", "PATCH", fmt.Sprintf("%s/issues/comments/%d", repo, comment), 200, map[string]any{"body": "edited"}},
		{"", "POST", fmt.Sprintf("%s/issues/comments/%d/reactions", repo, comment), 201, map[string]any{"content": "eyes"}},
		{"", "POST", fmt.Sprintf("%s/issues/comments/%d/reactions", repo, comment), 200, map[string]any{"content": "eyes"}},
		{"", "GET", fmt.Sprintf("%s/issues/comments/%d/reactions", repo, comment), 200, nil},
		{"", "DELETE", fmt.Sprintf("%s/issues/comments/%d", repo, comment), 204, nil},
		{"", "DELETE", "/installation/token", 204, nil},
	} {
		res := w.do(c.method, c.path, as[c.who], c.body)
		if res.status != c.status {
			t.Errorf("%s %s: %d, want %d: %s", c.method, c.path, res.status, c.status, res.body)
		}
	}
	basic := "Basic " + base64.StdEncoding.EncodeToString([]byte(w.app.ClientID+":"+w.app.ClientSecret))
	if res := w.do("DELETE", "/applications/"+w.app.ClientID+"/token", "", map[string]string{"access_token": as["user"]}, "Authorization", basic); res.status != 204 {
		t.Errorf("revoking a token: %d %s", res.status, res.body)
	}
	called := map[string]bool{}
	for _, c := range w.sim.Calls() {
		if c.Status/100 == 2 {
			called[c.Route] = true
		}
	}
	for _, route := range githubsim.Routes() {
		if !called[route] {
			t.Errorf("%s: never called with success", route)
		}
	}
}

func TestPagesAreLinkedAndAtMostAHundred(t *testing.T) {
	w := newWorld(t)
	p := w.openPull("feature")
	for i := range 105 {
		get(w.sim.Comment("bob", "acme/shop", p.Number, fmt.Sprint("comment ", i)))(t)
	}
	first := w.call(200, "GET", "/repos/acme/shop/issues/1/comments?per_page=500", nil)
	var list []any
	first.json(&list)
	if len(list) != 100 {
		t.Errorf("%d comments on a page of 500, want 100", len(list))
	}
	link := first.header.Get("Link")
	if !strings.Contains(link, `/api/v3/repos/acme/shop/issues/1/comments?page=2&per_page=500>; rel="next"`) || !strings.Contains(link, `rel="last"`) || strings.Contains(link, "prev") {
		t.Errorf("link of the first page: %s", link)
	}
	second := w.call(200, "GET", "/repos/acme/shop/issues/1/comments?per_page=500&page=2", nil)
	second.json(&list)
	if len(list) != 5 || second.str(4, "body") != "comment 104" || strings.Contains(second.header.Get("Link"), "next") {
		t.Errorf("second page: %d comments, link %s", len(list), second.header.Get("Link"))
	}
}

func TestWhatIsUnchangedIsNotSentAgainAndCostsNothing(t *testing.T) {
	w := newWorld(t)
	w.openPull("feature")
	first := w.call(200, "GET", "/repos/acme/shop/pulls/1", nil)
	again := w.do("GET", "/repos/acme/shop/pulls/1", w.token, nil, "If-None-Match", first.header.Get("ETag"))
	if again.status != 304 || len(again.body) != 0 {
		t.Fatalf("second read: %d %s", again.status, again.body)
	}
	if a, b := first.header.Get("X-RateLimit-Remaining"), again.header.Get("X-RateLimit-Remaining"); a != b || a == "" {
		t.Errorf("a 304 counted: %s remaining, then %s", a, b)
	}
	must(t, w.sim.EditPull("bob", "acme/shop", 1, "Another title", ""))
	if res := w.do("GET", "/repos/acme/shop/pulls/1", w.token, nil, "If-None-Match", first.header.Get("ETag")); res.status != 200 {
		t.Errorf("after an edit: %d", res.status)
	}
}

func TestPrimaryLimitRefusesUntilItsReset(t *testing.T) {
	w := newWorld(t, func(o *githubsim.Options) { o.HourlyLimit = 3 })
	for range 3 {
		w.call(200, "GET", "/repos/acme/shop", nil)
	}
	res := w.call(403, "GET", "/repos/acme/shop", nil)
	if res.header.Get("X-RateLimit-Remaining") != "0" || res.header.Get("X-RateLimit-Reset") != fmt.Sprint(w.clock.now().Add(time.Hour).Unix()) {
		t.Errorf("headers: %v", res.header)
	}
	if !strings.HasPrefix(res.str("message"), "API rate limit exceeded") {
		t.Errorf("message: %s", res.body)
	}
	if left := w.call(200, "GET", "/rate_limit", nil).num("rate", "remaining"); left != 0 {
		t.Errorf("rate_limit says %d remaining", left)
	}
	if res := w.do("GET", "/app", w.jwt(nil), nil); res.status != 200 {
		t.Errorf("the App's own bucket: %d", res.status)
	}
	w.clock.pass(time.Hour)
	w.token = w.newToken(nil)
	w.call(200, "GET", "/repos/acme/shop", nil)
}

func TestSecondaryLimitCountsPointsAMinute(t *testing.T) {
	w := newWorld(t, func(o *githubsim.Options) { o.PointLimit = 12 })
	p := w.openPull("feature")
	w.check(p.HeadSHA, "success")
	w.check(p.HeadSHA, "success")
	res := w.call(403, "POST", "/repos/acme/shop/check-runs", map[string]any{"name": "noxaudit", "head_sha": p.HeadSHA})
	if res.header.Get("Retry-After") != "60" || !strings.Contains(res.str("message"), "secondary rate limit") {
		t.Errorf("%v %s", res.header, res.body)
	}
	w.clock.pass(time.Minute)
	w.check(p.HeadSHA, "success")
}

func TestEnterpriseServerHasNoLimits(t *testing.T) {
	w := newWorld(t, func(o *githubsim.Options) { o.HourlyLimit = -1 })
	if res := w.call(200, "GET", "/repos/acme/shop", nil); res.header.Get("X-RateLimit-Limit") != "" {
		t.Errorf("headers: %v", res.header)
	}
	w.call(404, "GET", "/rate_limit", nil)
}

func TestRequestsThatGitHubRefusesOutright(t *testing.T) {
	w := newWorld(t)
	if res := w.do("GET", "/repos/acme/shop", w.token, nil, "User-Agent", ""); res.status != 403 {
		t.Errorf("without a User-Agent: %d", res.status)
	}
	if res := w.do("POST", "/repos/acme/shop/check-runs", w.token, "{"); res.status != 400 || res.str("message") != "Problems parsing JSON" {
		t.Errorf("broken JSON: %d %s", res.status, res.body)
	}
	if res := w.do("POST", "/repos/acme/shop/issues/1/comments", w.token, strings.Repeat(" ", 11<<20)); res.status != 413 {
		t.Errorf("a body of 11 MiB: %d", res.status)
	}
	for _, header := range []string{"Date", "X-Github-Request-Id", "X-Ratelimit-Limit"} {
		if res := w.call(404, "GET", "/repos/acme/nothing", nil); res.header.Get(header) == "" {
			t.Errorf("a refusal without %s", header)
		}
	}
}

func TestARenamedRepositoryRedirects(t *testing.T) {
	w := newWorld(t)
	w.openPull("feature")
	get(w.sim.RenameRepo("ada", "acme/shop", "store"))(t)
	res := w.do("GET", "/repos/acme/shop/pulls?state=open", w.token, nil)
	if res.status != 301 {
		t.Fatalf("old name: %d", res.status)
	}
	path := strings.TrimPrefix(res.header.Get("Location"), w.url+"/api/v3")
	if list := w.call(200, "GET", path, nil); list.str(0, "base", "repo", "full_name") != "acme/store" {
		t.Errorf("%s: %s", path, list.body)
	}
	get(w.sim.CreateRepo("ada", "acme/shop", githubsim.RepoSpec{}))(t)
	w.call(200, "GET", "/repos/acme/shop", nil)
	if got := w.arrived(); !slices.Contains(got, "repository.renamed") {
		t.Errorf("webhooks: %v", got)
	}
}

func TestCallsAreCountedByRouteAndInstallation(t *testing.T) {
	w := newWorld(t)
	w.sim.Observe(nil) // conform objects to calls that do not exist
	w.sim.ResetCalls()
	w.call(200, "GET", "/repos/acme/shop", nil)
	w.do("GET", "/app", w.jwt(nil), nil)
	w.do("GET", "/no/such/thing", w.token, nil)
	got := w.sim.Calls()
	want := []githubsim.Call{
		{Method: "GET", Route: "GET /repos/{owner}/{repo}", Path: "/repos/acme/shop", Status: http.StatusOK, App: w.app.ID, Installation: w.installation},
		{Method: "GET", Route: "GET /app", Path: "/app", Status: http.StatusOK, App: w.app.ID},
		{Method: "GET", Path: "/no/such/thing", Status: http.StatusNotFound, App: w.app.ID, Installation: w.installation},
	}
	for i := range want {
		want[i].At = got[i].At
		if got[i] != want[i] {
			t.Errorf("call %d: %+v, want %+v", i, got[i], want[i])
		}
	}
}
