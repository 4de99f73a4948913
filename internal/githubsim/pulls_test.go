package githubsim_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/noxaudit/noxaudit/internal/githubsim"
)

// refused says why GitHub does not merge; "" when it would.
func refused(err error) string {
	var r *githubsim.Refused
	if errors.As(err, &r) {
		return r.Reason
	}
	if err != nil {
		return "not a refusal: " + err.Error()
	}
	return ""
}

func TestARequiredCheckStopsTheMerge(t *testing.T) {
	for name, c := range map[string]struct {
		prepare func(*world, githubsim.Pull)
		want    string
	}{
		"without a run":   {func(*world, githubsim.Pull) {}, `Required status check "noxaudit" is expected.`},
		"failed":          {func(w *world, p githubsim.Pull) { w.check(p.HeadSHA, "failure") }, `Required status check "noxaudit" is failing.`},
		"action required": {func(w *world, p githubsim.Pull) { w.check(p.HeadSHA, "action_required") }, `Required status check "noxaudit" is failing.`},
		"green":           {func(w *world, p githubsim.Pull) { w.check(p.HeadSHA, "success") }, ""},
		"neutral passes":  {func(w *world, p githubsim.Pull) { w.check(p.HeadSHA, "neutral") }, ""},
		"skipped passes":  {func(w *world, p githubsim.Pull) { w.check(p.HeadSHA, "skipped") }, ""},
		"green, then red": {func(w *world, p githubsim.Pull) { w.check(p.HeadSHA, "success"); w.check(p.HeadSHA, "failure") }, `Required status check "noxaudit" is failing.`},
		"red, then green": {func(w *world, p githubsim.Pull) { w.check(p.HeadSHA, "failure"); w.check(p.HeadSHA, "success") }, ""},
		"still running": {func(w *world, p githubsim.Pull) {
			w.call(201, "POST", "/repos/acme/shop/check-runs", map[string]any{"name": "noxaudit", "head_sha": p.HeadSHA, "status": "in_progress"})
		}, `Required status check "noxaudit" is pending.`},
		"from another App": {func(w *world, p githubsim.Pull) {
			other := get(w.sim.CreateApp(githubsim.AppSpec{Owner: "eve", Name: "impostor", Key: key()}))(w)
			get(w.sim.CreateCheck(other.ID, "acme/shop", p.HeadSHA, "noxaudit", "success"))(w)
		}, `Required status check "noxaudit" was not set by the expected GitHub app.`},
		"on an older head": {func(w *world, p githubsim.Pull) {
			w.check(p.HeadSHA, "success")
			get(w.sim.Push("bob", "acme/shop", "feature", "More", githubsim.Files{"more": "more"}))(w)
		}, `Required status check "noxaudit" is expected.`},
		"a draft": {func(w *world, p githubsim.Pull) {
			w.check(p.HeadSHA, "success")
			must(w, w.sim.SetDraft("bob", "acme/shop", 1, true))
		}, "Pull Request is still a draft"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			must(t, w.sim.Protect("ada", "acme/shop", "main", &githubsim.Protection{Required: []githubsim.RequiredCheck{{Context: "noxaudit", AppID: w.app.ID}}}))
			p := w.openPull("feature")
			c.prepare(w, p)
			if got := refused(w.sim.MergeState("acme/shop", 1)); got != c.want {
				t.Errorf("state: %q, want %q", got, c.want)
			}
			sha, err := w.sim.Merge("bob", "acme/shop", 1, false)
			if got := refused(err); got != c.want {
				t.Errorf("merge: %q, want %q", got, c.want)
			}
			merged := get(w.sim.Pull("acme/shop", 1))(t)
			if merged.Merged != (c.want == "") || merged.MergeSHA != sha {
				t.Errorf("afterwards: %+v", merged)
			}
			if c.want != "" && c.want[:4] != "Pull" {
				if _, err := w.sim.Merge("bob", "acme/shop", 1, true); refused(err) != c.want {
					t.Errorf("who writes bypassed it: %v", err)
				}
				must(t, w.sim.Protect("ada", "acme/shop", "main", &githubsim.Protection{EnforceAdmins: true, Required: []githubsim.RequiredCheck{{Context: "noxaudit", AppID: w.app.ID}}}))
				if _, err := w.sim.Merge("ada", "acme/shop", 1, true); refused(err) != c.want {
					t.Errorf("an admin bypassed what is enforced: %v", err)
				}
				must(t, w.sim.Protect("ada", "acme/shop", "main", &githubsim.Protection{Required: []githubsim.RequiredCheck{{Context: "noxaudit", AppID: w.app.ID}}}))
				get(w.sim.Merge("ada", "acme/shop", 1, true))(t)
			}
		})
	}
}

func TestApprovalsAndFreshnessAreRequired(t *testing.T) {
	w := newWorld(t)
	must(t, w.sim.Protect("ada", "acme/shop", "main", &githubsim.Protection{Approvals: 1, Strict: true}))
	w.openPull("feature")
	if _, err := w.sim.SubmitReview("bob", "acme/shop", 1, "approved", ""); err == nil {
		t.Error("bob approved his own pull request")
	}
	if got := refused(w.sim.MergeState("acme/shop", 1)); !strings.Contains(got, "approving review") {
		t.Error(got)
	}
	get(w.sim.SubmitReview("ada", "acme/shop", 1, "approved", ""))(t)
	must(t, w.sim.MergeState("acme/shop", 1))
	get(w.sim.Push("ada", "acme/shop", "main", "Elsewhere", githubsim.Files{"else": "where"}))(t)
	if got := refused(w.sim.MergeState("acme/shop", 1)); !strings.Contains(got, "out of date") {
		t.Error(got)
	}
}

func TestConflictsAreSeenAndNotMerged(t *testing.T) {
	w := newWorld(t)
	get(w.sim.Push("bob", "acme/shop", "feature", "One", githubsim.Files{"README.md": "# One\n"}))(t)
	get(w.sim.Push("ada", "acme/shop", "main", "Two", githubsim.Files{"README.md": "# Two\n"}))(t)
	if p := get(w.sim.OpenPull("bob", "acme/shop", githubsim.PullSpec{Title: "One", Head: "feature"}))(t); p.Mergeable {
		t.Error("mergeable")
	}
	if _, err := w.sim.Merge("bob", "acme/shop", 1, false); refused(err) != "Pull Request is not mergeable" {
		t.Error(err)
	}
	if state := w.call(200, "GET", "/repos/acme/shop/pulls/1", nil).str("mergeable_state"); state != "dirty" {
		t.Error(state)
	}
}

func TestTheLifeOfAPullRequestInWebhooks(t *testing.T) {
	w := newWorld(t)
	get(w.sim.Push("ada", "acme/shop", "release", "Release", githubsim.Files{"release": "1"}))(t)
	first := w.openPull("feature")
	w.arrived()
	step := func(want ...string) []hook {
		t.Helper()
		w.flush()
		got := w.hooks.take()
		if !slices.Equal(names(got), want) {
			t.Fatalf("webhooks: %v, want %v", names(got), want)
		}
		return got
	}
	second := get(w.sim.Push("bob", "acme/shop", "feature", "Second", githubsim.Files{"second": "2"}))(t)
	got := step("push", "check_suite.requested", "pull_request.synchronize")
	if got[2].at("before") != first.HeadSHA || got[2].at("after") != second || got[2].at("pull_request", "head", "sha") != second {
		t.Errorf("synchronize: %s", got[2].payload)
	}
	if got[0].at("forced") != false || got[0].at("commits", 0, "added", 0) != "second" {
		t.Errorf("push: %s", got[0].payload)
	}
	forced := get(w.sim.ForcePush("bob", "acme/shop", "feature", "main", "Rewritten", githubsim.Files{"third": "3"}))(t)
	if got = step("push", "check_suite.requested", "pull_request.synchronize"); got[0].at("forced") != true {
		t.Errorf("push: %s", got[0].payload)
	}
	if p := get(w.sim.Pull("acme/shop", 1))(t); p.HeadSHA != forced {
		t.Errorf("head %s, want %s", p.HeadSHA, forced)
	}
	must(t, w.sim.ChangeBase("bob", "acme/shop", 1, "release"))
	if got = step("pull_request.edited"); got[0].at("changes", "base", "ref", "from") != "main" {
		t.Errorf("edited: %s", got[0].payload)
	}
	must(t, w.sim.SetDraft("bob", "acme/shop", 1, true))
	must(t, w.sim.SetDraft("bob", "acme/shop", 1, false))
	must(t, w.sim.EditPull("bob", "acme/shop", 1, "<b>@all</b>", "body"))
	must(t, w.sim.ClosePull("bob", "acme/shop", 1))
	must(t, w.sim.ReopenPull("bob", "acme/shop", 1))
	step("pull_request.converted_to_draft", "pull_request.ready_for_review", "pull_request.edited", "pull_request.closed", "pull_request.reopened")
	must(t, w.sim.DeleteBranch("bob", "acme/shop", "feature"))
	step("push")
	if _, err := w.sim.Comment("eve", "acme/shop", 1, "hello"); err == nil {
		t.Error("a stranger commented in a private repository")
	}
	comment := get(w.sim.Comment("bob", "acme/shop", 1, "hello"))(t)
	must(t, w.sim.EditComment("ada", comment, "changed"))
	must(t, w.sim.DeleteComment("bob", comment))
	review := get(w.sim.SubmitReview("ada", "acme/shop", 1, "changes_requested", "no"))(t)
	must(t, w.sim.EditReview("ada", "acme/shop", 1, review, "no, really"))
	must(t, w.sim.DismissReview("ada", "acme/shop", 1, review))
	step("issue_comment.created", "issue_comment.edited", "issue_comment.deleted", "pull_request_review.submitted", "pull_request_review.edited", "pull_request_review.dismissed")
	must(t, w.sim.SetDefaultBranch("ada", "acme/shop", "trunk"))
	must(t, w.sim.Archive("ada", "acme/shop", true))
	must(t, w.sim.Archive("ada", "acme/shop", false))
	step("repository.edited", "repository.archived", "repository.unarchived")
	get(w.sim.Merge("ada", "acme/shop", 1, false))(t)
	step("pull_request.closed", "push", "check_suite.requested")
	must(t, w.sim.DeleteRepo("ada", "acme/shop"))
	step("repository.deleted")
}

func TestAForksPullRequestNamesNoPullRequestInChecks(t *testing.T) {
	w := newWorld(t)
	must(t, w.sim.SetCollaborator("ada", "acme/shop", "eve", githubsim.Read))
	fork := get(w.sim.Fork("eve", "acme/shop"))(t)
	sha := get(w.sim.Push("eve", fork.FullName, "idea", "Idea", githubsim.Files{"idea": "!"}))(t)
	p := get(w.sim.OpenPull("eve", "acme/shop", githubsim.PullSpec{Title: "Idea", Head: "eve:idea"}))(t)
	if p.HeadRepo != "eve/shop" || p.HeadSHA != sha {
		t.Fatalf("%+v", p)
	}
	w.check(sha, "success")
	hooks := w.only("check_run.completed")
	if n := len(hooks[0].at("check_run", "pull_requests").([]any)); n != 0 || hooks[0].at("check_run", "check_suite", "head_branch") != nil {
		t.Errorf("%s", hooks[0].payload)
	}
	if list := w.call(200, "GET", "/repos/acme/shop/commits/"+sha+"/pulls", nil); list.num(0, "number") != 1 {
		t.Errorf("%s", list.body)
	}
	again := get(w.sim.Push("eve", fork.FullName, "idea", "Better", githubsim.Files{"idea": "!!"}))(t)
	if got := w.arrived(); !slices.Equal(got, []string{"pull_request.synchronize"}) {
		t.Errorf("webhooks: %v", got)
	}
	must(t, w.sim.DeleteRepo("eve", fork.FullName))
	res := w.call(200, "GET", "/repos/acme/shop/pulls?head=eve:idea", nil)
	if res.at(0, "head", "repo") != nil || res.str(0, "head", "sha") != again {
		t.Errorf("%s", res.body)
	}
	w.check(again, "success")
	get(w.sim.Merge("bob", "acme/shop", 1, false))(t)
}

func TestTwoPullRequestsCanShareAHead(t *testing.T) {
	w := newWorld(t)
	get(w.sim.Push("ada", "acme/shop", "release", "Release", githubsim.Files{"release": "1"}))(t)
	p := w.openPull("feature")
	other := get(w.sim.OpenPull("bob", "acme/shop", githubsim.PullSpec{Title: "Also", Head: "feature", Base: "release"}))(t)
	if other.HeadSHA != p.HeadSHA {
		t.Fatal("different heads")
	}
	if n := len(w.call(200, "GET", "/repos/acme/shop/commits/"+p.HeadSHA+"/pulls", nil).at().([]any)); n != 2 {
		t.Errorf("%d pull requests", n)
	}
}

func TestBigPullRequestsListThreeThousandFiles(t *testing.T) {
	w := newWorld(t)
	files := githubsim.Files{}
	for i := range 3001 {
		files[fmt.Sprintf("f/%04d", i)] = "x"
	}
	get(w.sim.Push("bob", "acme/shop", "big", "Big", files))(t)
	get(w.sim.OpenPull("bob", "acme/shop", githubsim.PullSpec{Title: "Big", Head: "big"}))(t)
	if n := w.call(200, "GET", "/repos/acme/shop/pulls/1", nil).num("changed_files"); n != 3001 {
		t.Errorf("%d changed files", n)
	}
	last := w.call(200, "GET", "/repos/acme/shop/pulls/1/files?per_page=100&page=30", nil)
	if strings.Contains(last.header.Get("Link"), "next") || last.str(99, "filename") != "f/2999" {
		t.Errorf("%s", last.header.Get("Link"))
	}
}

func TestFilesShowRenamesAndPatches(t *testing.T) {
	w := newWorld(t)
	long := strings.Repeat("a line that stays as it is\n", 20)
	get(w.sim.Push("ada", "acme/shop", "main", "Base", githubsim.Files{"old name.txt": long, "gone": "x\n", "edit": "1\n"}))(t)
	get(w.sim.Push("bob", "acme/shop", "feature", "Change", githubsim.Files{"old name.txt": "", "new \"näme\".txt": long, "gone": "", "edit": "2\n", "bin": "\x00\x01"}))(t)
	get(w.sim.OpenPull("bob", "acme/shop", githubsim.PullSpec{Title: "Change", Head: "feature"}))(t)
	var list []struct {
		Filename, Status, Patch string
		Previous                string `json:"previous_filename"`
	}
	w.call(200, "GET", "/repos/acme/shop/pulls/1/files", nil).json(&list)
	got := map[string]string{}
	for _, f := range list {
		got[f.Filename] = f.Status + "|" + f.Previous + "|" + f.Patch
	}
	for name, want := range map[string]string{"new \"näme\".txt": "renamed|old name.txt|", "gone": "removed||@@ -1 +0,0 @@\n-x", "edit": "modified||@@ -1 +1 @@\n-1\n+2", "bin": "added||"} {
		if got[name] != want {
			t.Errorf("%s: %q, want %q", name, got[name], want)
		}
	}
}

func TestHostileNamesAreOnlyNames(t *testing.T) {
	w := newWorld(t)
	for _, branch := range []string{"a..b", "a b", "a\nb", "x.lock", "", "a~1"} {
		if _, err := w.sim.Push("bob", "acme/shop", branch, "m", githubsim.Files{"a": "b"}); err == nil {
			t.Errorf("branch %q was taken", branch)
		}
	}
	branch := "-we;ird$(id)`<b>@ada"
	get(w.sim.Push("bob", "acme/shop", branch, "Message\nfrom refs/heads/main\n<x>", githubsim.Files{"a": "b"}))(t)
	get(w.sim.OpenPull("bob", "acme/shop", githubsim.PullSpec{Title: "### <script>@ada</script>", Head: branch}))(t)
	if got := w.call(200, "GET", "/repos/acme/shop/pulls/1", nil).str("head", "ref"); got != branch {
		t.Errorf("%q", got)
	}
}

func queueWorld(t *testing.T) *world {
	w := newWorld(t)
	must(t, w.sim.Protect("ada", "acme/shop", "main", &githubsim.Protection{Queue: &githubsim.MergeQueue{Timeout: time.Hour},
		Required: []githubsim.RequiredCheck{{Context: "noxaudit", AppID: w.app.ID}}}))
	for _, branch := range []string{"one", "two", "three"} {
		w.check(w.openPull(branch).HeadSHA, "success")
	}
	w.arrived()
	return w
}

func TestTheMergeQueueMergesWhatIsGreen(t *testing.T) {
	w := queueWorld(t)
	if _, err := w.sim.Merge("bob", "acme/shop", 1, false); !strings.Contains(refused(err), "merge queue") {
		t.Errorf("past the queue: %v", err)
	}
	first := get(w.sim.Enqueue("bob", "acme/shop", 1))(t)
	got := w.hooksNow()
	if want := "[pull_request.enqueued push check_suite.requested merge_group.checks_requested]"; fmt.Sprint(names(got)) != want {
		t.Fatalf("webhooks: %v, want %s", names(got), want)
	}
	group := got[3].at("merge_group").(map[string]any)
	if group["head_sha"] != first || !strings.HasPrefix(group["head_ref"].(string), "refs/heads/gh-readonly-queue/main/pr-1-") {
		t.Errorf("%v", group)
	}
	second := get(w.sim.Enqueue("bob", "acme/shop", 2))(t)
	w.check(second, "success")
	if q := get(w.sim.Queue("acme/shop", "main"))(t); fmt.Sprint(q) != "[1 2]" {
		t.Errorf("the second overtook the first: %v", q)
	}
	w.check(first, "success")
	if q := get(w.sim.Queue("acme/shop", "main"))(t); len(q) != 0 {
		t.Errorf("left in the queue: %v", q)
	}
	for n := 1; n <= 2; n++ {
		if p := get(w.sim.Pull("acme/shop", n))(t); !p.Merged {
			t.Errorf("#%d is not merged", n)
		}
	}
	if tip := w.call(200, "GET", "/repos/acme/shop/git/ref/heads/main", nil).str("object", "sha"); tip != second {
		t.Errorf("main is %s, want %s", tip, second)
	}
	var destroyed []any
	for _, h := range w.only("merge_group.destroyed") {
		destroyed = append(destroyed, h.at("reason"))
	}
	if fmt.Sprint(destroyed) != "[merged merged]" {
		t.Errorf("destroyed: %v", destroyed)
	}
}

func (w *world) hooksNow() []hook {
	w.Helper()
	w.flush()
	return w.hooks.take()
}

func TestTheMergeQueueEjectsWhatFailsAndRebuildsTheRest(t *testing.T) {
	w := queueWorld(t)
	first := get(w.sim.Enqueue("bob", "acme/shop", 1))(t)
	second := get(w.sim.Enqueue("bob", "acme/shop", 2))(t)
	w.hooksNow()
	w.check(first, "failure")
	got := names(w.hooksNow())
	for _, want := range []string{"pull_request.dequeued", "merge_group.destroyed", "merge_group.checks_requested"} {
		if !slices.Contains(got, want) {
			t.Errorf("no %s in %v", want, got)
		}
	}
	if q := get(w.sim.Queue("acme/shop", "main"))(t); fmt.Sprint(q) != "[2]" {
		t.Errorf("queue: %v", q)
	}
	w.check(second, "success")
	if p := get(w.sim.Pull("acme/shop", 2))(t); p.Merged {
		t.Error("a group was merged that stood on an ejected one")
	}
}

func TestTheMergeQueueEjectsWhatNobodyChecks(t *testing.T) {
	w := queueWorld(t)
	get(w.sim.Enqueue("bob", "acme/shop", 1))(t)
	w.clock.pass(59 * time.Minute)
	w.sim.Tick()
	if q := get(w.sim.Queue("acme/shop", "main"))(t); len(q) != 1 {
		t.Error("ejected too early")
	}
	w.clock.pass(time.Minute)
	w.sim.Tick()
	hooks := w.only("pull_request.dequeued")
	if len(hooks) != 1 || hooks[0].at("reason") != "CI_TIMEOUT" {
		t.Errorf("%v", names(hooks))
	}
	if p := get(w.sim.Pull("acme/shop", 1))(t); p.State != "open" || p.Merged {
		t.Errorf("%+v", p)
	}
}

func TestTheMergeQueueRefusesWhatIsNotReadyAndForgetsWhatMoved(t *testing.T) {
	w := queueWorld(t)
	w.check(get(w.sim.Pull("acme/shop", 3))(t).HeadSHA, "failure")
	if _, err := w.sim.Enqueue("bob", "acme/shop", 3); !strings.Contains(refused(err), "failing") {
		t.Errorf("%v", err)
	}
	get(w.sim.Enqueue("bob", "acme/shop", 1))(t)
	get(w.sim.Push("bob", "acme/shop", "one", "More", githubsim.Files{"one.more": "1"}))(t)
	if q := get(w.sim.Queue("acme/shop", "main"))(t); len(q) != 0 {
		t.Errorf("still in the queue after a push: %v", q)
	}
	old := get(w.sim.Enqueue("bob", "acme/shop", 2))(t)
	get(w.sim.Push("ada", "acme/shop", "main", "Past the queue", githubsim.Files{"past": "1"}))(t)
	groups := w.only("merge_group.checks_requested")
	if n := len(groups); n != 3 || groups[2].at("merge_group", "head_sha") == old {
		t.Errorf("%d groups were announced, want 3, the last on the new tip", n)
	}
	must(t, w.sim.Dequeue("bob", "acme/shop", 2))
}
