package githubsim_test

import (
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/noxaudit/noxaudit/internal/githubsim"
)

func TestAHistoryOfSeveralPeopleIsPushedAtOnce(t *testing.T) {
	w := newWorld(t)
	long := w.clock.now().AddDate(0, -2, 0)
	sha := get(w.sim.PushHistory("bob", "acme/shop", "main", []githubsim.PastCommit{
		{Author: "ada", At: long, Message: "First", Files: githubsim.Files{"docs/a.md": "a\n"}},
		{Author: "bob", At: long.Add(24 * time.Hour), Message: "Second\n\nWith a body.", Files: githubsim.Files{"docs/a.md": "b\n", "docs/x/b.md": "b\n", "README.md": ""}},
	}))(t)
	all := get(w.sim.Commits("acme/shop", "main", "", 10))(t)
	if len(all) != 3 || all[0].SHA != sha || all[0].Author != "bob" || all[1].Author != "ada" || !all[1].At.Equal(long) || all[0].Parents[0] != all[1].SHA {
		t.Fatalf("commits %+v", all)
	}
	if since := get(w.sim.Commits("acme/shop", "main", all[1].SHA, 10))(t); len(since) != 1 || since[0].SHA != sha {
		t.Errorf("since the first: %+v", since)
	}
	entries := get(w.sim.List("acme/shop", "main", ""))(t)
	if len(entries) != 2 || !entries[0].Folder || entries[0].Path != "docs" || entries[1].Name != "main.go" || entries[1].Size == 0 {
		t.Errorf("the root holds %+v", entries)
	}
	if below := get(w.sim.List("acme/shop", sha, "docs"))(t); len(below) != 2 || below[0].Path != "docs/x" || below[1].Path != "docs/a.md" {
		t.Errorf("docs holds %+v", below)
	}
	if text := get(w.sim.Content("acme/shop", sha, "docs/a.md"))(t); text != "b\n" {
		t.Errorf("docs/a.md is %q", text)
	}
	for _, bad := range []string{"README.md", "docs", "../x", "-x"} {
		if text, err := w.sim.Content("acme/shop", "main", bad); err == nil {
			t.Errorf("%s is %q", bad, text)
		}
	}
	changes := get(w.sim.CommitChanges("acme/shop", sha))(t)
	if len(changes) != 3 || changes[0].Path != "README.md" || changes[0].Status != "removed" || changes[1].Added != 1 || changes[1].Removed != 1 || changes[1].Patch == "" {
		t.Errorf("changes %+v", changes)
	}
	pushes := 0
	for _, d := range w.sim.Deliveries() {
		if d.Event == "push" {
			pushes++
		}
	}
	if pushes != 1 {
		t.Errorf("%d push events, want one for the two commits", pushes)
	}
	for _, refused := range []struct{ by, branch, author string }{{"eve", "main", "ada"}, {"bob", "main", "nobody"}} {
		if _, err := w.sim.PushHistory(refused.by, "acme/shop", refused.branch, []githubsim.PastCommit{{Author: refused.author, At: long, Message: "x", Files: githubsim.Files{"a": "a"}}}); err == nil {
			t.Errorf("%+v was let through", refused)
		}
	}
}

func TestWhatPagesShow(t *testing.T) {
	w := newWorld(t)
	p := w.openPull("feature")
	must(t, w.sim.SetCallbacks(w.app.ID, "https://app.example/back"))
	if apps := w.sim.Apps(); len(apps) != 1 || apps[0].Slug != "noxaudit" || len(apps[0].PrivateKeyPEM) != 0 || !slices.Equal(apps[0].CallbackURLs, []string{"https://app.example/back"}) {
		t.Errorf("apps %+v", apps)
	}
	if branches := get(w.sim.Branches("acme/shop"))(t); !slices.Equal(branches, []string{"feature", "main"}) {
		t.Errorf("branches %v", branches)
	}
	if commits := get(w.sim.PullCommits("acme/shop", p.Number))(t); len(commits) != 1 || commits[0].SHA != p.HeadSHA {
		t.Errorf("commits of the pull request: %+v", commits)
	}
	if changes := get(w.sim.Changes("acme/shop", p.Number))(t); len(changes) != 1 || changes[0].Patch == "" {
		t.Errorf("changes of the pull request: %+v", changes)
	}
	if got := get(w.sim.ProtectionOf("acme/shop", "main"))(t); got != nil {
		t.Errorf("main is protected: %+v", got)
	}
	must(t, w.sim.Protect("ada", "acme/shop", "main", &githubsim.Protection{Required: []githubsim.RequiredCheck{{Context: "x"}}}))
	if got := get(w.sim.ProtectionOf("acme/shop", "main"))(t); got == nil || got.Required[0].Context != "x" {
		t.Errorf("main is protected by %+v", got)
	}
	id := get(w.sim.CreateCheck(w.app.ID, "acme/shop", p.HeadSHA, "noxaudit", "success"))(t)
	if repo, c, err := w.sim.CheckByID(id); err != nil || repo != "acme/shop" || c.Name != "noxaudit" {
		t.Errorf("check %s %+v %v", repo, c, err)
	}
	slug := get(w.sim.CreateTeam("ada", "acme", "Security team"))(t)
	must(t, w.sim.SetTeamMember("ada", "acme", slug, "bob", "maintainer"))
	must(t, w.sim.SetTeamPermission("ada", "acme", slug, "acme/shop", githubsim.Maintain))
	if teams := get(w.sim.Teams("acme"))(t); len(teams) != 1 || teams[0].Members["bob"] != "maintainer" || teams[0].Repos["acme/shop"] != githubsim.Maintain {
		t.Errorf("teams %+v", teams)
	}
	if members := get(w.sim.Members("acme"))(t); members["ada"] != "admin" || members["bob"] != "member" || len(members) != 2 {
		t.Errorf("members %v", members)
	}
}

func TestAFreshCommentIsNotAnEditedOne(t *testing.T) {
	var looked atomic.Int64 // each look at this clock is a millisecond later
	w := newWorld(t, func(o *githubsim.Options) {
		still := o.Now
		o.Now = func() time.Time { return still().Add(time.Duration(looked.Add(1)) * time.Millisecond) }
	})
	p := w.openPull("feature")
	get(w.sim.Comment("bob", "acme/shop", p.Number, "Hello"))(t)
	all := get(w.sim.Comments("acme/shop", p.Number))(t)
	if !all[0].Created.Equal(all[0].Updated) {
		t.Errorf("created %s, updated %s", all[0].Created, all[0].Updated)
	}
}
