package main

import (
	"fmt"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/noxaudit/noxaudit/checks/gate"
	"github.com/noxaudit/noxaudit/internal/dbtest"
	"github.com/noxaudit/noxaudit/internal/githubsim"
)

const goodReason = `reason="The vault is being set up, see the plan."`

// court is a repository with a blocked pull request and people of several rights.
type court struct {
	*hub
	number int
	sha    string
	nx     string // the finding that blocks
}

func newCourt(h *hub) *court {
	h.t.Helper()
	for _, login := range []string{"dev", "sam", "max", "out"} {
		h.must(h.sim.CreateUser(login))
	}
	for login, p := range map[string]githubsim.Permission{"dev": githubsim.Write, "sam": githubsim.Maintain, "max": githubsim.Admin} {
		h.must(h.sim.SetCollaborator("ada", repoName, login, p))
	}
	c := &court{hub: h}
	c.number, c.sha = c.leak("leak", "config.go")
	return c
}

// leak opens a pull request of dev that is blocked.
func (c *court) leak(branch, file string) (int, string) {
	c.t.Helper()
	sha, err := c.sim.Push("dev", repoName, branch, "change", leaking(file))
	c.must(err)
	p, err := c.sim.OpenPull("dev", repoName, githubsim.PullSpec{Title: branch, Head: branch, Base: "main"})
	c.must(err)
	check := c.check(sha)
	c.nx = regexp.MustCompile(`NX-[0-9A-Z]{8}`).FindString(check.Summary)
	if check.Conclusion != "failure" || c.nx == "" {
		c.t.Fatalf("%s\n%s", check.Title, check.Summary)
	}
	return p.Number, sha
}

// say comments and waits for the answer: the reply's text, and the reaction.
func (c *court) say(by, body string) (reply, reaction string) {
	c.t.Helper()
	return c.sayOn(c.number, by, body)
}

func (c *court) sayOn(number int, by, body string) (reply, reaction string) {
	c.t.Helper()
	id, err := c.sim.Comment(by, repoName, number, body)
	c.must(err)
	deadline := time.After(2 * time.Minute)
	for {
		all, err := c.sim.Comments(repoName, number)
		c.must(err)
		reply, reaction = "", ""
		for _, m := range all {
			if m.ID == id {
				for r := range m.Reactions {
					reaction = r
				}
			}
			if strings.Contains(m.Body, fmt.Sprintf("noxaudit:comment:%d:done", id)) {
				reply = m.Body
			}
		}
		if reaction != "" && reply != "" {
			return reply, reaction
		}
		select {
		case <-deadline:
			c.t.Fatalf("%s said %q and was not answered: reaction %q, reply %q", by, body, reaction, reply)
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// commandOf is the last comment of a person.
func (c *court) commandOf(login string) (id int64) {
	c.t.Helper()
	all, err := c.sim.Comments(repoName, c.number)
	c.must(err)
	for _, m := range all {
		if m.Author == login {
			id = m.ID
		}
	}
	return id
}

func (c *court) until(sha, conclusion string) githubsim.Check {
	c.t.Helper()
	return c.checkUntil(sha, func(k githubsim.Check) bool { return k.Conclusion == conclusion })
}

var waiverName = regexp.MustCompile(`W-[0-9A-Z]{8}@[0-9a-f]{8}`)

// waive asks for a waiver as dev and returns its name.
func (c *court) waive() string {
	c.t.Helper()
	reply, reaction := c.say("dev", "/noxaudit waive "+c.nx+" "+goodReason)
	w := waiverName.FindString(reply)
	if w == "" || reaction != "+1" || !strings.Contains(reply, "/noxaudit approve "+w) {
		c.t.Fatalf("%s\n%s", reaction, reply)
	}
	return w
}

func TestAWaiverThatSomebodyElseApprovesTurnsTheCheckGreen(t *testing.T) {
	eachStore(t, func(t *testing.T, h *hub) {
		c := newCourt(h)
		w := c.waive()
		asked := c.checkUntil(c.sha, func(k githubsim.Check) bool { return strings.Contains(k.Summary, "/noxaudit approve "+w) })
		if asked.Conclusion != "failure" || !strings.Contains(asked.Title, "waits for 1 approval") {
			t.Fatalf("asking alone turned it %s: %s", asked.Conclusion, asked.Title)
		}
		for by, want := range map[string]string{"dev": "asked", "out": "permission", "eve": "permission"} {
			if reply, reaction := c.say(by, "/noxaudit approve "+w); !strings.Contains(reply, "Refused") || !strings.Contains(reply, want) || reaction == "rocket" {
				t.Errorf("%s: %s\n%s", by, reaction, reply)
			}
		}
		reply, reaction := c.say("sam", "/noxaudit approve "+w+` note="ok for a month"`)
		if reaction != "rocket" || !strings.Contains(reply, "in force until") {
			t.Fatalf("%s\n%s", reaction, reply)
		}
		green := c.until(c.sha, "success")
		if !strings.Contains(green.Title, "1 waived") || !strings.Contains(green.Summary, w[:10]) {
			t.Errorf("%s\n%s", green.Title, green.Summary)
		}
		if reply, reaction = c.say("max", "/noxaudit revoke "+w[:10]+` reason="The vault is there since today."`); reaction != "rocket" {
			t.Errorf("%s\n%s", reaction, reply)
		}
		c.until(c.sha, "failure")
		c.stop()
		if code := c.command("ledger", "verify"); code != exitPassed {
			t.Errorf("ledger verify: %d", code)
		}
	})
}

func TestAWaiverSurvivesAPushAndCoversNothingNew(t *testing.T) {
	c := newCourt(newHub(t))
	w := c.waive()
	c.say("sam", "/noxaudit approve "+w)
	c.until(c.sha, "success")
	sha, err := c.sim.Push("dev", repoName, "leak", "more", githubsim.Files{"other.go": "package main\n"})
	c.must(err)
	if k := c.check(sha); k.Conclusion != "success" || !strings.Contains(k.Title, "waived") {
		t.Errorf("after a push: %s", k.Title)
	}
	sha, err = c.sim.Push("dev", repoName, "leak", "another key", leaking("third.go"))
	c.must(err)
	if k := c.check(sha); k.Conclusion != "failure" {
		t.Errorf("another key is covered: %s", k.Title)
	}
}

func TestARequestEndsWhenItsFindingIsMended(t *testing.T) {
	c := newCourt(newHub(t))
	w := c.waive()
	sha, err := c.sim.Push("dev", repoName, "leak", "mend", githubsim.Files{"config.go": "package main\n"})
	c.must(err)
	c.until(sha, "success")
	if reply, reaction := c.say("sam", "/noxaudit approve "+w); reaction != "confused" || !strings.Contains(reply, "resolved") {
		t.Errorf("%s\n%s", reaction, reply)
	}
}

func TestAbuse01AnEditedOrDeletedApprovalSuspendsTheWaiver(t *testing.T) {
	for _, how := range []string{"edited", "deleted"} {
		t.Run(how, func(t *testing.T) {
			c := newCourt(newHub(t))
			w := c.waive()
			c.say("sam", "/noxaudit approve "+w)
			c.until(c.sha, "success")
			id := c.commandOf("sam")
			if how == "edited" {
				c.must(c.sim.EditComment("sam", id, "never mind"))
			} else {
				c.must(c.sim.DeleteComment("sam", id))
			}
			c.until(c.sha, "failure")
			if reply, reaction := c.say("max", "/noxaudit approve "+w); reaction != "rocket" {
				t.Fatalf("approved anew: %s\n%s", reaction, reply)
			}
			c.until(c.sha, "success")
		})
	}
}

func TestAbuse03AuthorsOfAnyCommitCannotApprove(t *testing.T) {
	c := newCourt(newHub(t))
	w := c.waive()
	sha, err := c.sim.Push("sam", repoName, "leak", "help", githubsim.Files{"help.go": "package main\n"})
	c.must(err)
	c.until(sha, "failure")
	if reply, reaction := c.say("sam", "/noxaudit approve "+w); reaction == "rocket" {
		t.Fatalf("%s", reply)
	}
	if reply, reaction := c.say("max", "/noxaudit approve "+w); reaction != "rocket" {
		t.Fatalf("%s", reply)
	}
	c.until(sha, "success")
}

func TestAbuse07And10CommandsThatAreHiddenOrTooWideAreRefused(t *testing.T) {
	c := newCourt(newHub(t))
	for body, want := range map[string]string{
		"/noxaudit waive " + c.nx:                                                 "reason",
		"/noxaudit waive " + c.nx + ` reason="too short"`:                         "characters",
		"/noxaudit waive " + c.nx + " for=400d " + goodReason:                     "90",
		"/noxaudit waive " + c.nx + " until=2020-01-01 " + goodReason:             "past",
		"/noxaudit wave " + c.nx + " " + goodReason:                               "waive",
		"/noxaudit waive NX-00000000 " + goodReason:                               c.nx,
		"/noxaudit waive rule:secrets/* " + goodReason:                            "",
		"/noxaudit approve W-00000000":                                            "waiver",
		"/noxaudit waive \u200b" + c.nx + " " + goodReason:                        "",
		strings.Repeat("/noxaudit waive "+c.nx+" "+goodReason+"\n", 700):          "5",
		"/noxaudit emergency incident=INC-7 rollback=\"redeploy\" " + goodReason:  "",
		"/noxaudit waive " + c.nx + ` reason="` + strings.Repeat("x", 3000) + `"`: "2000",
	} {
		reply, reaction := c.say("dev", body)
		if reaction != "confused" || !strings.Contains(reply, "Refused") || !strings.Contains(reply, want) {
			t.Errorf("%.80q: %s\n%s", body, reaction, reply)
		}
	}
	for _, quiet := range []string{"> /noxaudit waive " + c.nx + " " + goodReason, "```\n/noxaudit waive " + c.nx + " " + goodReason + "\n```", "thanks for /noxaudit"} {
		_, err := c.sim.Comment("dev", repoName, c.number, quiet)
		c.must(err)
	}
	if reply, _ := c.say("dev", "/noxaudit list"); !strings.Contains(reply, "no open waivers") {
		t.Errorf("something quoted acted: %s", reply)
	}
}

func TestAbuse14NothingIsWaivedOnAClosedPullRequest(t *testing.T) {
	c := newCourt(newHub(t))
	c.must(c.sim.ClosePull("dev", repoName, c.number))
	if reply, reaction := c.say("dev", "/noxaudit waive "+c.nx+" "+goodReason); reaction == "+1" || !strings.Contains(reply, "closed") {
		t.Errorf("%s\n%s", reaction, reply)
	}
}

func TestAbuse17ACommentThatIsDeliveredTwiceActsOnce(t *testing.T) {
	c := newCourt(newHub(t))
	c.sim.Inject(githubsim.Fault{Kind: githubsim.Doubled, On: "webhook issue_comment"})
	w := c.waive()
	c.say("sam", "/noxaudit approve "+w)
	c.until(c.sha, "success")
	ctx := t.Context()
	c.must(c.sim.Flush(ctx))
	c.settled()
	all, err := c.sim.Comments(repoName, c.number)
	c.must(err)
	if len(all) != 4 {
		t.Errorf("%d comments, want 2 commands and 2 replies", len(all))
	}
}

func TestAbuse18ACommentWhoseWebhookWasNeverSentIsFound(t *testing.T) {
	h := newHub(t)
	h.stop()
	h.options.reconcile = 300 * time.Millisecond
	h.start()
	c := newCourt(h)
	c.sim.Inject(githubsim.Fault{Kind: githubsim.Lost, On: "webhook issue_comment"})
	w := c.waive()
	c.say("sam", "/noxaudit approve "+w)
	c.until(c.sha, "success")
	c.must(c.sim.EditComment("sam", c.commandOf("sam"), "never mind")) // its webhook is lost, too
	c.until(c.sha, "failure")
}

func TestAbuse20WhatAReasonHoldsActsOnNothing(t *testing.T) {
	c := newCourt(newHub(t))
	reply, _ := c.say("dev", "/noxaudit waive "+c.nx+` reason="@octo/security [click](javascript:alert(1)) <img src=x onerror=alert(1)> | =cmd()"`)
	for _, bad := range []string{"<img", "k](javascript:", "@octo/security"} {
		if strings.Contains(reply, bad) {
			t.Errorf("the reply holds %q:\n%s", bad, reply)
		}
	}
}

func TestAWaiverEndsWithItsTimeAndTheCheckTurnsRed(t *testing.T) {
	h := newHub(t)
	c := newCourt(h)
	w := c.waive()
	c.say("sam", "/noxaudit approve "+w)
	c.until(c.sha, "success")
	c.later(32 * 24 * time.Hour)
	if k := c.until(c.sha, "failure"); !strings.Contains(k.Summary, c.nx) {
		t.Errorf("%s", k.Summary)
	}
}

func TestAPolicyThatCannotBeReadIsNotWaived(t *testing.T) {
	c := newCourt(newHub(t))
	sha, err := c.sim.Push("dev", repoName, "leak", "break", githubsim.Files{gate.PolicyPath: "policies: [", "config.go": "package main\n"})
	c.must(err)
	k := c.until(sha, "failure")
	nx := regexp.MustCompile(`NX-[0-9A-Z]{8}`).FindString(k.Summary)
	if reply, reaction := c.say("dev", "/noxaudit waive "+nx+" "+goodReason); reaction != "confused" || !strings.Contains(reply, "nobody can waive") {
		t.Errorf("%s\n%s", reaction, reply)
	}
}

func TestReviewsCommandToo(t *testing.T) {
	c := newCourt(newHub(t))
	w := c.waive()
	_, err := c.sim.SubmitReview("sam", repoName, c.number, "commented", "Looks fine to me.\n\n/noxaudit approve "+w)
	c.must(err)
	c.until(c.sha, "success")
}

func TestExplainHelpAndRecheckAnswer(t *testing.T) {
	c := newCourt(newHub(t))
	for body, want := range map[string]string{
		"/noxaudit explain " + c.nx: "It blocks under policy",
		"/noxaudit help":            "/noxaudit approve",
	} {
		if reply, reaction := c.say("dev", body); reaction != "+1" || !strings.Contains(reply, want) {
			t.Errorf("%s: %s\n%s", body, reaction, reply)
		}
	}
	if reply, _ := c.say("dev", "/noxaudit recheck"); reply == "" {
		t.Error("no answer")
	}
}

// BenchmarkApproval measures from a comment that approves a waiver, or revokes one, until the check run has its new
// conclusion at GitHub. People leave half a second between two of them.
func BenchmarkApproval(b *testing.B) {
	for _, engine := range []string{"sqlite", "postgres"} {
		b.Run(engine, func(b *testing.B) {
			var urls []string
			if engine == "postgres" {
				urls = []string{dbtest.Postgres(b), dbtest.Postgres(b)}
			}
			c := newCourt(newHub(b, urls...))
			var times []time.Duration
			timed := func(by, body, conclusion string) {
				time.Sleep(500 * time.Millisecond)
				_, err := c.sim.Comment(by, repoName, c.number, body)
				c.must(err)
				start := time.Now()
				c.until(c.sha, conclusion)
				times = append(times, time.Since(start))
			}
			b.ResetTimer()
			for b.Loop() {
				c.later(time.Hour) // nobody is heard more than so often an hour
				w := c.waive()
				timed("sam", "/noxaudit approve "+w, "success")
				timed("max", "/noxaudit revoke "+w+` reason="It is measured once more now."`, "failure")
				c.settled()
			}
			b.ReportMetric(percentile(times, 50), "p50-ms")
			b.ReportMetric(percentile(times, 95), "p95-ms")
		})
	}
}
