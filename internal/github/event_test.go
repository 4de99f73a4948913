package github

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/noxaudit/noxaudit/checks/gate"
	"github.com/noxaudit/noxaudit/internal/name"
	"github.com/noxaudit/noxaudit/ledger"
)

func payload(t testing.TB, file string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("testdata", file+".json"))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// changed is a payload with values set; a path is written "a.b.c", nil removes.
func changed(t testing.TB, file string, set map[string]any) []byte {
	t.Helper()
	var all map[string]any
	if err := json.Unmarshal(payload(t, file), &all); err != nil {
		t.Fatal(err)
	}
	for path, v := range set {
		at := all
		keys := strings.Split(path, ".")
		for _, k := range keys[:len(keys)-1] {
			next, ok := at[k].(map[string]any)
			if !ok {
				next = map[string]any{}
				at[k] = next
			}
			at = next
		}
		if last := keys[len(keys)-1]; v == nil {
			delete(at, last)
		} else {
			at[last] = v
		}
	}
	b, err := json.Marshal(all)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func parsed(t testing.TB, event string, body []byte) gate.Event {
	t.Helper()
	e, err := ParseEvent(event, body)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func commit(t testing.TB, s string) name.Commit {
	t.Helper()
	c, err := name.ParseCommit(s)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestPullRequestIsReadForEveryActionThatAsksSomething(t *testing.T) {
	for _, action := range []string{"opened", "synchronize", "reopened", "ready_for_review", "converted_to_draft"} {
		e := parsed(t, "pull_request", changed(t, "pull_request.synchronize", map[string]any{"action": action}))
		if e.Pull == nil || e.Pull.Action != action {
			t.Fatalf("%s: %+v", action, e.Pull)
		}
		p := e.Pull.Pull
		if p.Number == 0 || p.Head.IsZero() || p.Base.IsZero() || p.BaseRef != "master" || !p.Open || p.AuthorID == 0 || p.UpdatedAt.IsZero() || p.HeadRepo == 0 {
			t.Errorf("%s: %+v", action, p)
		}
		if e.Origin.Installation == 0 || e.Origin.Repo.ID == "" || e.Origin.Repo.Account.IsZero() || e.Origin.Owner+"/"+e.Origin.Name != e.Origin.Repo.FullName || e.Origin.DefaultBranch == "" {
			t.Errorf("%s: origin %+v", action, e.Origin)
		}
		if want := (ledger.Actor{Kind: "user", ID: "21031067", Name: "Codertocat", Via: "webhook"}); e.Sender != want {
			t.Errorf("sender %+v, want %+v", e.Sender, want)
		}
	}
	if e := parsed(t, "pull_request", payload(t, "pull_request.closed")); e.Pull == nil || e.Pull.Pull.Open {
		t.Errorf("closed: %+v", e.Pull)
	}
	for _, action := range []string{"labeled", "assigned", "locked", "something_new"} {
		if e := parsed(t, "pull_request", changed(t, "pull_request.synchronize", map[string]any{"action": action})); e.Pull != nil {
			t.Errorf("%s asks for something", action)
		}
	}
}

func TestEditedPullRequestAsksOnlyWhenItsBaseChanged(t *testing.T) {
	title := changed(t, "pull_request.synchronize", map[string]any{"action": "edited", "changes.title.from": "before"})
	if e := parsed(t, "pull_request", title); e.Pull != nil {
		t.Error("a new title asks for an audit")
	}
	base := changed(t, "pull_request.synchronize", map[string]any{"action": "edited", "changes.base.ref.from": "develop"})
	if e := parsed(t, "pull_request", base); e.Pull == nil || e.Pull.Action != "edited" {
		t.Error("a new base asks for nothing")
	}
}

func TestPullRequestOfADeletedForkHasNoHeadRepository(t *testing.T) {
	var all map[string]any
	json.Unmarshal(payload(t, "pull_request.synchronize"), &all)
	all["pull_request"].(map[string]any)["head"].(map[string]any)["repo"] = nil
	b, _ := json.Marshal(all)
	if e := parsed(t, "pull_request", b); e.Pull == nil || e.Pull.Pull.HeadRepo != 0 {
		t.Errorf("%+v", e.Pull)
	}
}

func TestZeroObjectIDsOfAPushAreNoCommits(t *testing.T) {
	created := parsed(t, "push", payload(t, "push.created")).Push
	if !created.Created || !created.Before.IsZero() || created.After != commit(t, "6113728f27ae82c7b1a177c8d03f9e96e0adf246") || created.PathsComplete {
		t.Errorf("created: %+v", created)
	}
	deleted := parsed(t, "push", payload(t, "push.deleted")).Push
	if !deleted.Deleted || !deleted.After.IsZero() || deleted.Ref != "refs/tags/simple-tag" || deleted.PathsComplete {
		t.Errorf("deleted: %+v", deleted)
	}
}

func TestPushNamesItsPathsOnceAndSaysWhetherTheyAreAll(t *testing.T) {
	sha := "6113728f27ae82c7b1a177c8d03f9e96e0adf246"
	commits := []any{
		map[string]any{"added": []string{"a"}, "modified": []string{"b"}},
		map[string]any{"modified": []string{"a"}, "removed": []string{"c"}},
	}
	set := map[string]any{"before": strings.Repeat("1", 40), "after": sha, "created": false, "deleted": false, "forced": false, "commits": commits}
	p := parsed(t, "push", changed(t, "push.created", set)).Push
	if strings.Join(p.Paths, " ") != "a b c" || !p.PathsComplete {
		t.Errorf("%q, complete %v", p.Paths, p.PathsComplete)
	}
	set["forced"] = true
	if p := parsed(t, "push", changed(t, "push.created", set)).Push; p.PathsComplete {
		t.Error("a forced push does not name what it took away")
	}
	set["forced"], set["commits"] = false, make([]struct{}, 2048)
	if p := parsed(t, "push", changed(t, "push.created", set)).Push; p.PathsComplete {
		t.Error("2,048 commits may be only some of them")
	}
}

func TestMergeGroupIsReadWithItsRefs(t *testing.T) {
	for _, action := range []string{"checks_requested", "destroyed"} {
		g := parsed(t, "merge_group", changed(t, "merge_group.checks_requested", map[string]any{"action": action})).MergeGroup
		want := gate.MergeGroupEvent{
			Action: action, Head: commit(t, "2ffea6db159f6b6c47a24e778fb9ef40cf6b1c7d"), Base: commit(t, "380387fbc80638b734a49e1be1c4dfec1c01b33c"),
			HeadRef: "refs/heads/gh-readonly-queue/main/pr-104-929f8209d40f77f4abc622a499c93a83babdbe64", BaseRef: "refs/heads/main",
		}
		if g == nil || *g != want {
			t.Errorf("%+v", g)
		}
	}
}

func TestReRunsNameTheCommit(t *testing.T) {
	if r := parsed(t, "check_run", payload(t, "check_run.rerequested")).Rerun; r == nil || r.Check == 0 || r.Head.IsZero() || r.Action != "" {
		t.Errorf("check_run: %+v", r)
	}
	if r := parsed(t, "check_run", payload(t, "check_run.requested_action")).Rerun; r == nil || r.Action != "lgtm|26764" {
		t.Errorf("requested action: %+v", r)
	}
	if r := parsed(t, "check_suite", payload(t, "check_suite.rerequested")).Rerun; r == nil || r.Check != 0 || r.Head.IsZero() {
		t.Errorf("check_suite: %+v", r)
	}
	for _, action := range []string{"created", "completed"} {
		if e := parsed(t, "check_run", changed(t, "check_run.rerequested", map[string]any{"action": action})); e.Rerun != nil {
			t.Errorf("our own check, %s, asks for another run", action)
		}
	}
}

func TestInstallationsAreReadWithTheirRepositories(t *testing.T) {
	i := parsed(t, "installation", payload(t, "installation.created")).Installation
	if i == nil || i.ID == 0 || i.Account.IsZero() || i.Login == "" || len(i.Added) == 0 || len(i.Removed) != 0 {
		t.Fatalf("created: %+v", i)
	}
	if o := i.Added[0]; o.Installation != i.ID || o.Repo.Account != i.Account || o.Owner == "" || o.Name == "" || o.Repo.ID == "" {
		t.Errorf("created: %+v", o)
	}
	if i := parsed(t, "installation", payload(t, "installation.deleted")).Installation; i == nil || len(i.Added) != 0 {
		t.Errorf("deleted: %+v", i)
	}
	for _, action := range []string{"suspend", "unsuspend", "new_permissions_accepted"} {
		if i := parsed(t, "installation", changed(t, "installation.suspend", map[string]any{"action": action})).Installation; i == nil || i.Action != action {
			t.Errorf("%s: %+v", action, i)
		}
	}
	if i := parsed(t, "installation_repositories", payload(t, "installation_repositories.added")).Installation; i == nil || len(i.Added) == 0 {
		t.Errorf("added: %+v", i)
	}
	if i := parsed(t, "installation_repositories", payload(t, "installation_repositories.removed")).Installation; i == nil || len(i.Removed) == 0 {
		t.Errorf("removed: %+v", i)
	}
}

func TestRepositoryEventsSayWhatItWasCalled(t *testing.T) {
	if r := parsed(t, "repository", payload(t, "repository.renamed")).Repository; r == nil || r.Action != "renamed" || strings.Count(r.From, "/") != 1 {
		t.Errorf("renamed: %+v", r)
	}
	if r := parsed(t, "repository", payload(t, "repository.transferred")).Repository; r == nil || r.From != "octocat" {
		t.Errorf("transferred: %+v", r)
	}
	for _, action := range []string{"archived", "unarchived", "deleted", "edited", "privatized", "publicized"} {
		if r := parsed(t, "repository", changed(t, "repository.renamed", map[string]any{"action": action})).Repository; r == nil || r.Action != action || r.From != "" {
			t.Errorf("%s: %+v", action, r)
		}
	}
}

func TestMembershipEventsAreReadWithoutARepositoryToo(t *testing.T) {
	for file, kind := range map[string]string{"member.added": "member", "membership.removed": "membership", "team.created": "team", "organization.member_added": "organization"} {
		e := parsed(t, kind, payload(t, file))
		if e.Membership == nil || e.Membership.Kind != kind || e.Membership.Action == "" {
			t.Errorf("%s: %+v", file, e.Membership)
		}
		if (kind == "member") == (e.Origin == gate.Origin{}) {
			t.Errorf("%s: origin %+v", file, e.Origin)
		}
	}
}

func TestABotIsAnApp(t *testing.T) {
	e := parsed(t, "push", changed(t, "push.created", map[string]any{"sender.type": "Bot", "sender.login": "renovate[bot]"}))
	if e.Sender.Kind != "app" || e.Sender.Name != "renovate[bot]" {
		t.Errorf("%+v", e.Sender)
	}
	if e := parsed(t, "push", changed(t, "push.created", map[string]any{"sender": nil})); e.Sender.Kind != "system" {
		t.Errorf("no sender: %+v", e.Sender)
	}
}

func TestMalformedEventsAreRefused(t *testing.T) {
	for what, c := range map[string]struct {
		event, file string
		set         map[string]any
	}{
		"abbreviated head":           {"pull_request", "pull_request.synchronize", map[string]any{"pull_request.head.sha": "abc123"}},
		"head that is an option":     {"pull_request", "pull_request.synchronize", map[string]any{"pull_request.head.sha": "--upload-pack=x"}},
		"no number":                  {"pull_request", "pull_request.synchronize", map[string]any{"pull_request.number": 0}},
		"number as text":             {"pull_request", "pull_request.synchronize", map[string]any{"pull_request.number": "7"}},
		"base in another repository": {"pull_request", "pull_request.synchronize", map[string]any{"pull_request.base.repo.id": 1}},
		"no base branch":             {"pull_request", "pull_request.synchronize", map[string]any{"pull_request.base.ref": ""}},
		"no installation":            {"pull_request", "pull_request.synchronize", map[string]any{"installation": nil}},
		"no repository":              {"push", "push.created", map[string]any{"repository": nil}},
		"owner without id":           {"push", "push.created", map[string]any{"repository.owner.id": 0}},
		"id beyond 64 bits":          {"push", "push.created", map[string]any{"repository.id": 1e30}},
		"name with a slash":          {"push", "push.created", map[string]any{"repository.name": "../../etc"}},
		"not a ref":                  {"push", "push.created", map[string]any{"ref": "main"}},
		"deleted with a commit":      {"push", "push.created", map[string]any{"deleted": true}},
		"group without a head":       {"merge_group", "merge_group.checks_requested", map[string]any{"merge_group.head_sha": nil}},
		"check without an id":        {"check_run", "check_run.rerequested", map[string]any{"check_run.id": nil}},
		"account without an id":      {"installation", "installation.created", map[string]any{"installation.account.id": nil}},
	} {
		if e, err := ParseEvent(c.event, changed(t, c.file, c.set)); err == nil {
			t.Errorf("%s: accepted as %+v", what, e)
		}
	}
	for _, body := range []string{"", "null", "[]", "{", `{"action":7}`, strings.Repeat("[", 20000)} {
		if e, err := ParseEvent("push", []byte(body)); err == nil {
			t.Errorf("%.20q: accepted as %+v", body, e)
		}
	}
}

func TestOddFieldsThatNobodyNeedsDoNoHarm(t *testing.T) {
	body := changed(t, "pull_request.synchronize", map[string]any{
		"pull_request.created_at": 17, "pull_request.labels": "none", "pull_request.body": []int{1}, "repository.stargazers_count": "many", "new_field": map[string]any{},
	})
	if e := parsed(t, "pull_request", body); e.Pull == nil {
		t.Error("nothing parsed")
	}
}

func FuzzParseEvent(f *testing.F) {
	files, _ := filepath.Glob("testdata/*.json")
	for _, file := range files {
		b, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		event, _, _ := strings.Cut(filepath.Base(file), ".")
		f.Add(event, b)
	}
	f.Fuzz(func(t *testing.T, event string, body []byte) {
		e, err := ParseEvent(event, body)
		if err != nil {
			return
		}
		set := 0
		for _, is := range []bool{e.Pull != nil, e.Push != nil, e.MergeGroup != nil, e.Rerun != nil, e.Installation != nil, e.Repository != nil, e.Membership != nil} {
			if is {
				set++
			}
		}
		if set > 1 {
			t.Errorf("%d meanings", set)
		}
		if e.Origin != (gate.Origin{}) && (!plainName(e.Origin.Owner) || !plainName(e.Origin.Name) || e.Origin.Repo.ID == "" || e.Origin.Repo.Account.IsZero()) {
			t.Errorf("origin %+v", e.Origin)
		}
		if e.Pull != nil && (e.Pull.Pull.Number <= 0 || e.Pull.Pull.Head.IsZero() || e.Origin.Installation <= 0) {
			t.Errorf("pull %+v", e.Pull)
		}
		if e.Push != nil && e.Push.Before.IsZero() && e.Push.After.IsZero() {
			t.Errorf("push %+v", e.Push)
		}
	})
}
