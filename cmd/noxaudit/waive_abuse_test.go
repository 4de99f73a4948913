package main

import (
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/noxaudit/noxaudit/internal/githubsim"
)

const askPermission = "GET /repos/{owner}/{repo}/collaborators/{username}/permission"

// commentBy is the id of the first comment of a pull request that begins so.
func (c *court) commentOf(beginning string) int64 {
	c.t.Helper()
	all, err := c.sim.Comments(repoName, c.number)
	c.must(err)
	for _, m := range all {
		if strings.HasPrefix(m.Body, beginning) {
			return m.ID
		}
	}
	c.t.Fatalf("no comment begins with %q", beginning)
	return 0
}

func TestDeletingTheRequestSuspendsTheWaiverLongAfterItWasApproved(t *testing.T) {
	c := newCourt(newHub(t))
	w := c.waive()
	c.later(time.Minute)
	c.say("sam", "/noxaudit approve "+w)
	c.until(c.sha, "success")
	c.later(time.Hour)
	c.must(c.sim.DeleteComment("dev", c.commentOf("/noxaudit waive")))
	c.until(c.sha, "failure")
}

func TestWhoPushedLastIsNobodyWhereNoWebhookTold(t *testing.T) {
	h := newHub(t)
	h.stop()
	h.options.reconcile = 300 * time.Millisecond
	h.start()
	c := newCourt(h)
	w := c.waive()
	// Its author and committer are dev; sam brings it.
	sha, err := c.sim.Push("dev", repoName, "elsewhere", "more", leaking("second.go"))
	c.must(err)
	c.sim.Inject(githubsim.Fault{Kind: githubsim.Lost, On: "webhook pull_request"})
	c.must(c.sim.PushCommit("sam", repoName, "leak", sha))
	c.until(sha, "failure")
	if reply, reaction := c.say("sam", "/noxaudit approve "+w); reaction == "rocket" {
		t.Fatalf("who pushed last approved:\n%s", reply)
	}
}

func TestACommentThatIsDeletedBeforeItWasHeardNeverActs(t *testing.T) {
	c := newCourt(newHub(t))
	w := c.waive()
	c.sim.Inject(githubsim.Fault{Kind: githubsim.ErrorBefore, On: askPermission})
	id, err := c.sim.Comment("sam", repoName, c.number, "/noxaudit approve "+w)
	c.must(err)
	time.Sleep(time.Second) // GitHub does not say what sam may
	c.must(c.sim.DeleteComment("sam", id))
	time.Sleep(time.Second)
	c.sim.Heal()
	c.settled()
	if reply, _ := c.say("max", "/noxaudit list"); !strings.Contains(reply, "waits for 1 approval") {
		t.Errorf("%s", reply)
	}
	if k := c.check(c.sha); k.Conclusion != "failure" {
		t.Errorf("a comment that is gone turned it %s", k.Conclusion)
	}
}

func TestAReviewThatCommandsWaitsUntilGitHubAnswers(t *testing.T) {
	h := newHub(t)
	h.stop()
	h.options.pause = func(int, time.Duration) time.Duration { return time.Millisecond }
	h.start()
	c := newCourt(h)
	w := c.waive()
	c.sim.Inject(githubsim.Fault{Kind: githubsim.ErrorBefore, On: askPermission})
	_, err := c.sim.SubmitReview("sam", repoName, c.number, "commented", "/noxaudit approve "+w)
	c.must(err)
	// More tries than a delivery has that ends the process.
	for asked := 0; asked < 60; time.Sleep(20 * time.Millisecond) {
		asked = 0
		for _, call := range c.sim.Calls() {
			if strings.HasSuffix(call.Path, "/permission") {
				asked++
			}
		}
	}
	c.sim.Heal()
	c.until(c.sha, "success")
}

func TestARevokedWaiverTurnsTheMergeGroupRedToo(t *testing.T) {
	c := newCourt(newHub(t))
	other, err := c.sim.CreateApp(githubsim.AppSpec{Owner: "octo", Name: "ci", Permissions: map[string]string{"checks": "write"}})
	c.must(err)
	c.must(c.sim.Protect("ada", repoName, "main", &githubsim.Protection{
		Required: []githubsim.RequiredCheck{{Context: "ci", AppID: other.ID}}, Queue: &githubsim.MergeQueue{}, // the group waits for it
	}))
	w := c.waive()
	c.say("sam", "/noxaudit approve "+w)
	c.until(c.sha, "success")
	_, err = c.sim.CreateCheck(other.ID, repoName, c.sha, "ci", "success")
	c.must(err)
	group, err := c.sim.Enqueue("dev", repoName, c.number)
	c.must(err)
	c.until(group, "success")
	c.say("max", "/noxaudit revoke "+w+` reason="The key was used by somebody else."`)
	c.until(c.sha, "failure")
	c.until(group, "failure")
}

func TestNobodyApprovesInAnotherPullRequestWhatTheirOwnShows(t *testing.T) {
	c := newCourt(newHub(t))
	w := c.waive()
	c.must(c.sim.PushCommit("sam", repoName, "twin", c.sha))
	p, err := c.sim.OpenPull("sam", repoName, githubsim.PullSpec{Title: "twin", Head: "twin", Base: "main"})
	c.must(err)
	c.checkUntil(c.sha, func(k githubsim.Check) bool { return strings.Contains(k.Summary, "#\u200b"+strconv.Itoa(p.Number)) })
	if reply, reaction := c.say("sam", "/noxaudit approve "+w); reaction == "rocket" || !strings.Contains(reply, "have a part") {
		t.Fatalf("sam approved what sam's own pull request shows: %s\n%s", reaction, reply)
	}
	if reply, reaction := c.say("max", "/noxaudit approve "+w); reaction != "rocket" {
		t.Fatalf("%s\n%s", reaction, reply)
	}
	c.until(c.sha, "success")
}
