package githubsim_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/noxaudit/noxaudit/internal/githubsim"
)

func TestASavedStateAnswersTheSameAfterARestart(t *testing.T) {
	dir := t.TempDir()
	w := newWorld(t, func(o *githubsim.Options) { o.Dir, o.HourlyLimit = dir, -1 })
	must(t, w.sim.Protect("ada", "acme/shop", "main", &githubsim.Protection{Required: []githubsim.RequiredCheck{{Context: "noxaudit", AppID: w.app.ID}}, Queue: &githubsim.MergeQueue{}}))
	p := w.openPull("feature")
	id := w.check(p.HeadSHA, "success")
	w.call(200, "PATCH", fmt.Sprintf("/repos/acme/shop/check-runs/%d", id), map[string]any{"output": map[string]any{"title": "t", "summary": "s", "annotations": annotations(3)}})
	comment := get(w.sim.Comment("bob", "acme/shop", 1, "hello"))(t)
	w.call(201, "POST", fmt.Sprintf("/repos/acme/shop/issues/comments/%d/reactions", comment), map[string]any{"content": "eyes"})
	get(w.sim.SubmitReview("ada", "acme/shop", 1, "approved", ""))(t)
	team := get(w.sim.CreateTeam("ada", "acme", "core"))(t)
	must(t, w.sim.SetTeamMember("ada", "acme", team, "bob", "member"))
	must(t, w.sim.SetTeamPermission("ada", "acme", team, "acme/shop", githubsim.Maintain))
	get(w.sim.Fork("bob", "acme/shop"))(t)
	get(w.sim.Push("bob", "bob/shop", "idea", "Idea", githubsim.Files{"idea": "!"}))(t)
	get(w.sim.OpenPull("bob", "acme/shop", githubsim.PullSpec{Title: "Idea", Head: "bob:idea"}))(t)
	get(w.sim.CreateRepo("ada", "acme/old", githubsim.RepoSpec{Private: true}))(t)
	get(w.sim.RenameRepo("ada", "acme/old", "new"))(t)
	group := get(w.sim.Enqueue("bob", "acme/shop", 1))(t)
	user := get(w.sim.UserToken("ada", w.app.ID))(t)
	w.flush()
	state := func() map[string]string {
		tags := map[string]string{}
		for _, path := range []string{"/repos/acme/shop", "/repos/acme/shop/pulls?state=all", "/repos/acme/shop/pulls/1", "/repos/acme/shop/pulls/2", "/repos/acme/shop/pulls/1/files",
			"/repos/acme/shop/pulls/1/reviews", "/repos/acme/shop/issues/1/comments", "/repos/acme/shop/commits/feature/check-runs", fmt.Sprintf("/repos/acme/shop/check-runs/%d/annotations", id),
			"/repos/acme/shop/commits/feature/check-suites", "/repos/acme/shop/rules/branches/main", "/repos/acme/shop/collaborators/bob/permission", "/orgs/acme/teams/core/members",
			fmt.Sprintf("/repos/acme/shop/issues/comments/%d/reactions", comment), "/installation/repositories", "/repos/acme/old"} {
			res := w.do("GET", path, w.token, nil)
			tags[path] = res.header.Get("ETag") + res.header.Get("Location")
			if tags[path] == "" {
				t.Errorf("%s: %d %s", path, res.status, res.body)
			}
		}
		tags["app"] = w.do("GET", "/app", w.jwt(nil), nil).header.Get("ETag")
		tags["installations"] = w.do("GET", "/app/installations", w.jwt(nil), nil).header.Get("ETag")
		tags["user"] = w.do("GET", "/user/orgs", user, nil).header.Get("ETag")
		tags["queue"] = fmt.Sprint(get(w.sim.Queue("acme/shop", "main"))(t))
		tags["deliveries"] = fmt.Sprint(len(w.sim.Deliveries()))
		return tags
	}
	before := state()
	must(t, w.sim.Save())
	must(t, w.sim.Close())

	again, err := githubsim.New(githubsim.Options{Dir: dir, Now: w.clock.now, Seed: 2, HourlyLimit: -1})
	must(t, err)
	defer again.Close()
	if _, err := again.Listen(strings.TrimPrefix(w.url, "http://")); err != nil {
		t.Fatal(err)
	}
	w.sim = again
	noRedirects.CloseIdleConnections() // those to the server that was
	w.token = w.newToken(nil)
	if app := get(again.FindApp("noxaudit"))(t); app.ID != w.app.ID || app.ClientSecret != w.app.ClientSecret {
		t.Errorf("%+v", app)
	}
	for path, want := range before {
		if got := state()[path]; got != want {
			t.Errorf("%s: %s, was %s", path, got, want)
		}
	}
	w.check(group, "success")
	if p := get(again.Pull("acme/shop", 1))(t); !p.Merged {
		t.Error("the merge queue has forgotten its entry")
	}
}

func TestABrokenStateIsRefusedByName(t *testing.T) {
	dir := t.TempDir()
	must(t, os.WriteFile(filepath.Join(dir, "state.json"), []byte("{"), 0o600))
	if _, err := githubsim.New(githubsim.Options{Dir: dir}); err == nil || !strings.Contains(err.Error(), "state.json") {
		t.Errorf("%v", err)
	}
}
