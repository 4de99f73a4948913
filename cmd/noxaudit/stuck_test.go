package main

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"go/ast"
	"go/parser"
	gotoken "go/token"
	"io"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/noxaudit/noxaudit/checks/gate"
	"github.com/noxaudit/noxaudit/internal/dbtest"
	"github.com/noxaudit/noxaudit/internal/github"
	"github.com/noxaudit/noxaudit/internal/githubsim"
	"github.com/noxaudit/noxaudit/internal/store"
	"github.com/noxaudit/noxaudit/ledger/sqllog"
	"github.com/noxaudit/noxaudit/server/work"
)

// Every way in which a gate is known to get stuck, and the test that shows that this one does not. A line without a
// test is about something that is not built yet, and says so.
var stuckList = []struct {
	line  string
	tests string // names, separated by spaces
	later string // why there is none
}{
	{line: "merge_group", tests: "TestAMergeGroupIsReallyAudited TestAMergeGroupThatLeaksIsRed"},
	{line: "fork PR", tests: "TestAPullRequestFromAForkIsJudged"},
	{line: "draft → ready", tests: "TestADraftIsJudgedLikeAnyOther"},
	{line: "force push during a run", tests: "TestAForcePushDuringARunLeavesNoRunOpen"},
	{line: "rebase with the same tree", tests: "TestARebaseWithTheSameTreeHasARunOfItsOwn"},
	{line: "reopened PR", tests: "TestAReopenedPullRequestIsJudgedOnWhatItIsNow TestAPullRequestClosedAndReopenedWithinASecondIsJudged"},
	{line: "base branch changed (edited)", tests: "TestAnotherBaseBranchIsAnotherJudgement"},
	{line: "Dependabot and Renovate", tests: "TestPullRequestsOfBotsAreJudged"},
	{line: "skip-checks: true", tests: "TestATrailerSwitchesNothingOff"},
	{line: "more than 3,000 files, diff of more than 300 files", tests: "TestLargePullRequestsAreJudgedToTheLastFile"},
	{line: "deleted head branch", tests: "TestAHeadWhoseBranchIsGoneIsJudged"},
	{line: "deleted head repository", tests: "TestAHeadWhoseForkIsGoneIsJudged"},
	{line: "renamed default branch", tests: "TestARenamedDefaultBranchStopsNothing"},
	{line: "archived check (> 400 days)", tests: "TestAnArchivedCheckIsReplacedByAFreshOne TestACheckThatGitHubForgotComesBackByItself TestACheckThatGitHubForgotComesBackOnAReRun"},
	{line: "webhook lost", tests: "TestALostWebhookIsFoundByAskingGitHub TestAWebhookThatWasNeverSentIsMadeUpFor"},
	{line: "webhook delivered twice", tests: "TestAnEventThatComesTwiceOrLateChangesNothing TestAReplayedDeliveryChangesNothing"},
	{line: "webhook reordered", tests: "TestReorderedAndLateWebhooksEndWithTheNewestHead"},
	{line: "git shows the head later than the webhook", tests: "TestARefThatLagsBehindItsEventIsWaitedFor"},
	{line: "rate-limited, secondary", tests: "TestGitHubFailingForAWhileDelaysTheCheckAndLosesNothing"},
	{line: "rate-limited, primary", tests: "TestAnHourWithoutRequestsLeftDelaysTheCheck"},
	{line: "5xx on check write", tests: "TestGitHubFailingForAWhileDelaysTheCheckAndLosesNothing TestTenMinutesWithoutGitHubLoseNothing"},
	{line: "App suspended mid-run", tests: "TestSuspendedDuringARunAndBack"},
	{line: "App uninstalled mid-run", tests: "TestUninstalledDuringARunAndInstalledAgain"},
	{line: "two Apps with the same check name", tests: "TestAnotherAppWithTheSameNameNeitherHelpsNorHinders"},
	{line: "two PRs with one head SHA", tests: "TestOneHeadOfTwoPullRequestsCarriesTheWorstVerdict"},
	{line: "policy changed while the PR is open", tests: "TestAChangedPolicyIsHeldAgainstEveryOpenPullRequest"},
	{line: "organisation's policy unreadable", later: "there is no organisation's policy yet"},
	{line: "invalid repository policy", tests: "TestARepositoryWithABrokenPolicyKeepsTheLastGoodOne"},
	{line: "process killed between 200 and work", tests: "TestNoVerdictIsLostDoubledOrWrongWhenWebhooksMisbehaveAndTheProcessIsKilled"},
	{line: "restart with a full inbox", tests: "TestARestartWithAFullInboxWorksItOff"},
	{line: "burst of 300 deliveries", tests: "TestABurstOf300DeliveriesIsTakenInAndWorkedOff"},
	{line: "late check_suite.requested", tests: "TestAnEventThatComesTwiceOrLateChangesNothing"},
	{line: "re-run button", tests: "TestTheRecheckButtonAndTheRerunLookAgain TestReRunningTheSuiteLooksAgain"},
	{line: "git or the disk fails while the API answers", tests: "TestAnAuditThatCannotBeDoneSaysSoAndGoesOnTrying"},
	{line: "a ref of one occasion is gone", tests: "TestARefThatIsGoneKeepsNothingElseFromBeingJudged"},
	{line: "AI provider down", later: "no model is asked for anything yet"},

	{line: "bad input: forged deliveries", tests: "TestAForgedWebhookIsRefused"},
	{line: "bad input: replayed deliveries", tests: "TestAReplayedDeliveryChangesNothing"},
	{line: "bad input: bodies of 25 MB", tests: "TestABodyOf25MegabytesIsTakenAndALargerOneRefused"},
	{line: "bad input: hostile branch names and titles", tests: "TestHostileTitlesAndNamesActOnNothing TestHostileBranchNamesAreOnlyNames"},
	{line: "bad input: deleted forks", tests: "TestAHeadWhoseForkIsGoneIsJudged"},
	{line: "bad input: suspended installations", tests: "TestSuspendedDuringARunAndBack"},
	{line: "bad input: archived repositories", tests: "TestArchivedDuringARunAndBack"},
	{line: "bad input: revoked permissions", tests: "TestARevokedPermissionThatIsGrantedAgain"},
	{line: "bad input: pull requests of 3,000 files", tests: "TestLargePullRequestsAreJudgedToTheLastFile"},
	{line: "bad input: GitHub answers 500 for ten minutes", tests: "TestTenMinutesWithoutGitHubLoseNothing"},
	{line: "bad input: the database goes away for a minute", tests: "TestADatabaseThatGoesAwayLosesNothing"},
}

func TestTheListOfWaysToGetStuckIsComplete(t *testing.T) {
	files, err := filepath.Glob("*_test.go")
	if err != nil {
		t.Fatal(err)
	}
	there := map[string]bool{}
	for _, file := range files {
		f, err := parser.ParseFile(gotoken.NewFileSet(), file, nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range f.Decls {
			if f, ok := d.(*ast.FuncDecl); ok && f.Recv == nil {
				there[f.Name.Name] = true
			}
		}
	}
	for _, l := range stuckList {
		if (l.tests == "") != (l.later != "") {
			t.Errorf("%s: want tests, or why there are none", l.line)
		}
		for name := range strings.FieldsSeq(l.tests) {
			if !there[name] {
				t.Errorf("%s: there is no %s", l.line, name)
			}
		}
	}
}

// standard is what the default branch of a hub has.
var standard = githubsim.Files{gate.PolicyPath: blockSecrets, "main.go": "package main\n"}

// warnSecrets are laxer policies than blockSecrets.
var warnSecrets = strings.Replace(blockSecrets, "action: block", "action: warn", 1)

// want waits for the one finished run with a conclusion.
func (h *hub) want(sha, conclusion string) githubsim.Check {
	h.t.Helper()
	return h.wantThat(sha, conclusion, func(c githubsim.Check) bool { return c.Conclusion == conclusion })
}

// wantThat waits for the one finished run that is as it should be. While it waits it does what is given.
func (h *hub) wantThat(sha, what string, ok func(githubsim.Check) bool, meanwhile ...func()) githubsim.Check {
	h.t.Helper()
	for deadline := time.Now().Add(2 * time.Minute); ; time.Sleep(10 * time.Millisecond) {
		for _, do := range meanwhile {
			do()
		}
		checks, err := h.sim.Checks(repoName, sha)
		h.must(err)
		if len(checks) == 1 && checks[0].Status == "completed" && checks[0].Name == github.CheckName && ok(checks[0]) {
			return checks[0]
		}
		if len(checks) > 1 {
			h.t.Fatalf("%d check runs on %s, want one", len(checks), sha)
		}
		if time.Now().After(deadline) {
			have := "no run"
			for _, c := range checks {
				have = c.Status + " " + c.Conclusion + " " + c.Title
			}
			h.t.Fatalf("%s: %s, want %s", sha, have, what)
		}
	}
}

func blocked(c githubsim.Check) bool {
	return c.Conclusion == "failure" && strings.HasPrefix(c.Title, "Blocked · 1 high")
}

// changed waits for the run after this one, with the same id and conclusion.
func (h *hub) changed(before githubsim.Check) githubsim.Check {
	h.t.Helper()
	c := h.wantThat(before.HeadSHA, "another look", func(c githubsim.Check) bool { return c.Summary != before.Summary })
	if c.ID != before.ID || c.Conclusion != before.Conclusion {
		h.t.Errorf("it was run %d, %s %q and is now run %d, %s %q", before.ID, before.Conclusion, before.Title, c.ID, c.Conclusion, c.Title)
	}
	return c
}

// until waits for something.
func (h *hub) until(what string, ok func() bool) {
	h.t.Helper()
	for deadline := time.Now().Add(2 * time.Minute); !ok(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			h.t.Fatalf("in vain: %s", what)
		}
	}
}

// announced waits for a run that is in progress.
func (h *hub) announced(sha string) {
	h.t.Helper()
	h.until("a run in progress on "+sha, func() bool {
		checks, err := h.sim.Checks(repoName, sha)
		h.must(err)
		return len(checks) == 1 && checks[0].Status == "in_progress"
	})
}

func (h *hub) flush() {
	h.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	h.must(h.sim.Flush(ctx))
}

func (h *hub) push(branch, message string, files githubsim.Files) string {
	h.t.Helper()
	sha, err := h.sim.Push("ada", repoName, branch, message, files)
	h.must(err)
	return sha
}

func (h *hub) open(spec githubsim.PullSpec) githubsim.Pull {
	h.t.Helper()
	p, err := h.sim.OpenPull("ada", repoName, spec)
	h.must(err)
	return p
}

// laxBranch makes a branch whose policies only warn.
func (h *hub) laxBranch() {
	h.t.Helper()
	h.push("lax", "laxer policies", githubsim.Files{gate.PolicyPath: warnSecrets})
}

// ledger ends the App and returns the ledger's lines of a type.
func (h *hub) ledger(kind string) []string {
	h.t.Helper()
	h.stop()
	if code := h.command("ledger", "verify"); code != exitPassed {
		h.t.Errorf("ledger verify: exit code %d", code)
	}
	ctx := context.Background()
	log, err := sqllog.OpenReadOnly(ctx, h.prog.config.LedgerDSN(), h.prog.config.Deployment)
	h.must(err)
	defer log.Close()
	accounts, err := log.Accounts(ctx)
	h.must(err)
	var out []string
	for _, a := range accounts {
		for l, err := range log.For(a).Lines(ctx, 0, 1<<40) {
			h.must(err)
			if strings.Contains(string(l.Line), `"type":"`+kind+`"`) {
				out = append(out, string(l.Line))
			}
		}
	}
	return out
}

// slowGit makes every fetch take its time, so that a run is seen in progress.
func (h *hub) slowGit() {
	h.sim.Inject(githubsim.Fault{Kind: githubsim.Slow, On: "git", Delay: 1500 * time.Millisecond})
}

func TestAMergeGroupThatLeaksIsRed(t *testing.T) {
	h := newHub(t)
	h.want(h.tip("main"), "success")
	// Another App's check is required, which the group waits for; ours is not, so that the pull request gets so far.
	other, err := h.sim.CreateApp(githubsim.AppSpec{Owner: "octo", Name: "ci", Permissions: map[string]string{"checks": "write"}})
	h.must(err)
	h.must(h.sim.Protect("ada", repoName, "main", &githubsim.Protection{
		Required: []githubsim.RequiredCheck{{Context: "ci", AppID: other.ID}}, Queue: &githubsim.MergeQueue{},
	}))
	number, sha := h.pull("leak", leaking("a.go"))
	h.want(sha, "failure")
	_, err = h.sim.CreateCheck(other.ID, repoName, sha, "ci", "success")
	h.must(err)
	group, err := h.sim.Enqueue("ada", repoName, number)
	h.must(err)
	h.wantThat(group, "blocked", blocked)
}

func TestADraftIsJudgedLikeAnyOther(t *testing.T) {
	h := newHub(t)
	sha := h.push("draft", "change", leaking("a.go"))
	p := h.open(githubsim.PullSpec{Title: "draft", Head: "draft", Base: "main", Draft: true})
	first := h.want(sha, "failure")
	h.must(h.sim.SetDraft("ada", repoName, p.Number, false))
	h.changed(first)
	fixed := h.push("draft", "fix", githubsim.Files{"a.go": "package main\n"})
	h.must(h.sim.SetDraft("ada", repoName, p.Number, true))
	h.want(fixed, "success")
}

func TestAForcePushDuringARunLeavesNoRunOpen(t *testing.T) {
	h := newHub(t)
	h.want(h.tip("main"), "success")
	h.slowGit()
	_, old := h.pull("forced", leaking("a.go"))
	h.announced(old)
	next, err := h.sim.ForcePush("ada", repoName, "forced", "main", "again", githubsim.Files{"a.go": "package main\n"})
	h.must(err)
	h.want(next, "success")
	h.want(old, "failure")
	h.sim.Heal()
	// Back to the commit that was overtaken: it is a head again, so it is judged.
	h.must(h.sim.PushCommit("ada", repoName, "forced", old))
	h.wantThat(old, "blocked", blocked)
}

func TestARebaseWithTheSameTreeHasARunOfItsOwn(t *testing.T) {
	h := newHub(t)
	files := leaking("a.go")
	_, sha := h.pull("same", files)
	first := h.want(sha, "failure")
	rebased, err := h.sim.ForcePush("ada", repoName, "same", "main", "the same in other words", files)
	h.must(err)
	if rebased == sha {
		t.Fatal("the same commit")
	}
	if second := h.want(rebased, "failure"); second.ID == first.ID || second.HeadSHA != rebased {
		t.Errorf("%+v", second)
	}
}

func TestAReopenedPullRequestIsJudgedOnWhatItIsNow(t *testing.T) {
	h := newHub(t)
	number, sha := h.pull("again", leaking("a.go"))
	h.want(sha, "failure")
	h.must(h.sim.ClosePull("ada", repoName, number))
	fixed := h.push("again", "fixed while it was closed", githubsim.Files{"a.go": "package main\n"})
	h.must(h.sim.ReopenPull("ada", repoName, number))
	h.want(fixed, "success")
	h.must(h.sim.ClosePull("ada", repoName, number))
	h.must(h.sim.ReopenPull("ada", repoName, number)) // and with the same head
	h.want(fixed, "success")
}

func TestAnotherBaseBranchIsAnotherJudgement(t *testing.T) {
	h := newHub(t)
	h.laxBranch()
	sha := h.push("leak", "change", leaking("a.go"))
	p := h.open(githubsim.PullSpec{Title: "leak", Head: "leak", Base: "lax"})
	first := h.want(sha, "success")
	h.must(h.sim.ChangeBase("ada", repoName, p.Number, "main"))
	if c := h.want(sha, "failure"); c.ID != first.ID {
		t.Errorf("another run: %+v", c)
	}
	h.must(h.sim.ChangeBase("ada", repoName, p.Number, "lax"))
	h.want(sha, "success")
}

func TestPullRequestsOfBotsAreJudged(t *testing.T) {
	h := newHub(t)
	for _, name := range []string{"dependabot", "renovate"} {
		bot, err := h.sim.CreateApp(githubsim.AppSpec{Owner: "octo", Name: name})
		h.must(err)
		h.must(h.sim.SetCollaborator("ada", repoName, bot.Bot, githubsim.Write))
		sha, err := h.sim.Push(bot.Bot, repoName, name+"/go_modules/x-1.2.3", "Bump x", leaking(name+".go"))
		h.must(err)
		_, err = h.sim.OpenPull(bot.Bot, repoName, githubsim.PullSpec{Title: "Bump x from 1.2.2 to 1.2.3", Head: name + "/go_modules/x-1.2.3", Base: "main"})
		h.must(err)
		h.want(sha, "failure")
	}
}

func TestATrailerSwitchesNothingOff(t *testing.T) {
	h := newHub(t)
	for i, message := range []string{"change\n\nskip-checks: true", "change [skip ci]", "change\n\nskip-checks:true\nrequest-checks: false"} {
		branch := fmt.Sprint("quiet", i)
		sha := h.push(branch, message, leaking(branch+".go"))
		h.open(githubsim.PullSpec{Title: "quiet [skip ci]", Head: branch, Base: "main"})
		h.want(sha, "failure")
	}
}

func TestLargePullRequestsAreJudgedToTheLastFile(t *testing.T) {
	h := newHub(t)
	for _, n := range []int{301, 3001} {
		files := leaking("zzz/last.go")
		for i := range n - 1 {
			files[fmt.Sprintf("many/%d/f%d.go", i%50, i)] = fmt.Sprintf("package many // %d\n", i)
		}
		_, sha := h.pull(fmt.Sprint("large", n), files)
		if c := h.want(sha, "failure"); len(c.Annotations) != 1 || c.Annotations[0].Path != "zzz/last.go" {
			t.Errorf("%d files: %s %+v", n, c.Title, c.Annotations)
		}
	}
}

func TestAHeadWhoseBranchIsGoneIsJudged(t *testing.T) {
	h := newHub(t)
	h.stop() // everything has happened before anybody looks
	_, sha := h.pull("gone", leaking("a.go"))
	h.must(h.sim.DeleteBranch("ada", repoName, "gone"))
	h.flush()
	h.start()
	h.want(sha, "failure")
}

func TestAHeadWhoseForkIsGoneIsJudged(t *testing.T) {
	h := newHub(t)
	fork, err := h.sim.Fork("eve", repoName)
	h.must(err)
	h.stop()
	sha, err := h.sim.Push("eve", fork.FullName, "gone", "change", leaking("a.go"))
	h.must(err)
	p, err := h.sim.OpenPull("eve", repoName, githubsim.PullSpec{Title: "from a fork", Head: "eve:gone", Base: "main"})
	h.must(err)
	h.must(h.sim.DeleteRepo("eve", fork.FullName))
	h.flush()
	h.start()
	c := h.want(sha, "failure")
	// What GitHub says of it from now on names no head repository.
	h.must(h.sim.SetDraft("ada", repoName, p.Number, true))
	h.changed(c)
}

func TestARenamedDefaultBranchStopsNothing(t *testing.T) {
	for name, lost := range map[string]bool{"told": false, "untold": true} {
		t.Run(name, func(t *testing.T) {
			h := newHub(t)
			_, sha := h.pull("leak", leaking("a.go"))
			c := h.want(sha, "failure")
			if lost {
				h.sim.Inject(githubsim.Fault{Kind: githubsim.Lost, On: "webhook"})
			}
			h.must(h.sim.SetDefaultBranch("ada", repoName, "trunk"))
			h.sim.Heal()
			if lost {
				h.flush()
				h.stop()
				h.start() // and asks GitHub
				h.changed(c)
			}
			tip := h.push("trunk", "go on", leaking("b.go"))
			h.want(tip, "failure")
			_, next := h.pull2("next", "trunk", githubsim.Files{"c.go": "package main\n"})
			h.want(next, "success")
			c = h.want(sha, "failure")
			h.must(h.sim.RerunCheck("ada", c.ID))
			if c = h.changed(c); !blocked(c) {
				t.Errorf("%s", c.Title)
			}
		})
	}
}

// pull2 is pull into another branch.
func (h *hub) pull2(branch, base string, files githubsim.Files) (number int, sha string) {
	h.t.Helper()
	sha = h.push(branch, "change", files)
	return h.open(githubsim.PullSpec{Title: branch, Head: branch, Base: base}).Number, sha
}

func TestAWebhookThatWasNeverSentIsMadeUpFor(t *testing.T) {
	h := newHub(t)
	h.want(h.tip("main"), "success")
	h.sim.Inject(githubsim.Fault{Kind: githubsim.Lost, On: "webhook"})
	_, sha := h.pull("lost", leaking("a.go"))
	_, fine := h.pull("fine", githubsim.Files{"f.go": "package main\n"})
	h.sim.Heal()
	h.flush()
	h.stop()
	h.start() // every start asks GitHub, as every hour does
	h.want(sha, "failure")
	h.want(fine, "success")
}

func TestReorderedAndLateWebhooksEndWithTheNewestHead(t *testing.T) {
	h := newHubWith(t, standard, githubsim.Options{HookWorkers: 4, HourlyLimit: -1})
	h.sim.Inject(
		githubsim.Fault{Kind: githubsim.Reordered, On: "webhook pull_request", Rate: 0.5},
		githubsim.Fault{Kind: githubsim.Late, On: "webhook pull_request", Rate: 0.5, Delay: 500 * time.Millisecond},
	)
	want := map[string]string{}
	for i := range 6 {
		branch := fmt.Sprint("b", i)
		h.pull(branch, leaking(branch+".go"))
		h.push(branch, "more", githubsim.Files{branch + "x.go": "package main\n"})
		next := h.push(branch, "fix", githubsim.Files{branch + ".go": "package main\n"}) // all in one second
		want[next] = "success"
	}
	h.flush()
	h.sim.Heal()
	for sha, conclusion := range want {
		h.wantThat(sha, conclusion, func(r githubsim.Check) bool { return r.Conclusion == conclusion }, func() {
			h.later(time.Second) // whoever waits for a ref to settle has waited soon
		})
	}
}

func TestAPullRequestClosedAndReopenedWithinASecondIsJudged(t *testing.T) {
	h := newHub(t)
	number, _ := h.pull("blink", leaking("a.go"))
	h.must(h.sim.ClosePull("ada", repoName, number))
	fixed := h.push("blink", "fixed while it was closed", githubsim.Files{"a.go": "package main\n"})
	h.sim.Inject(githubsim.Fault{Kind: githubsim.Late, On: "webhook pull_request", Delay: 500 * time.Millisecond, Times: 1})
	h.must(h.sim.ReopenPull("ada", repoName, number))
	h.want(fixed, "success")
	next := h.push("blink", "and again", githubsim.Files{"b.go": "package main\n"})
	h.want(next, "success")
}

func TestARefThatLagsBehindItsEventIsWaitedFor(t *testing.T) {
	h := newHub(t)
	h.want(h.tip("main"), "success")
	h.stop()
	number, sha := h.pull("lag", leaking("a.go"))
	h.flush()
	ref := fmt.Sprintf("refs/pull/%d/head", number)
	h.setRef(ref, h.tip("main")) // git does not show yet what the event says
	h.start()
	h.announced(sha)
	h.setRef(ref, sha)
	h.wantThat(sha, "blocked", blocked)
}

// setRef moves a ref at GitHub behind everybody's back.
func (h *hub) setRef(ref, sha string) {
	h.t.Helper()
	repo, err := h.sim.Repo(repoName)
	h.must(err)
	h.must(exec.Command("git", "-C", repo.Dir, "update-ref", ref, sha).Run())
}

func TestAnotherAppWithTheSameNameNeitherHelpsNorHinders(t *testing.T) {
	h := newHub(t)
	other, err := h.sim.CreateApp(githubsim.AppSpec{Owner: "octo", Name: "impostor", Permissions: map[string]string{"checks": "write"}})
	h.must(err)
	h.must(h.sim.Protect("ada", repoName, "main", &githubsim.Protection{Required: []githubsim.RequiredCheck{{Context: github.CheckName, AppID: h.app.ID}}}))
	sha := h.push("leak", "change", leaking("a.go"))
	_, err = h.sim.CreateCheck(other.ID, repoName, sha, github.CheckName, "success")
	h.must(err)
	p := h.open(githubsim.PullSpec{Title: "leak", Head: "leak", Base: "main"})
	ours := func() []githubsim.Check {
		checks, err := h.sim.Checks(repoName, sha)
		h.must(err)
		return slices.DeleteFunc(checks, func(c githubsim.Check) bool { return c.App != h.app.ID })
	}
	h.until("our own red run", func() bool { c := ours(); return len(c) == 1 && c[0].Conclusion == "failure" })
	if _, err := h.sim.Merge("ada", repoName, p.Number, false); err == nil {
		t.Error("the impostor's green run let it through")
	}
	// A late green one is no help either, and ours stays one run.
	_, err = h.sim.CreateCheck(other.ID, repoName, sha, github.CheckName, "success")
	h.must(err)
	first := ours()[0]
	h.must(h.sim.RerunCheck("ada", first.ID))
	h.until("a second look", func() bool {
		c := ours()
		return len(c) == 1 && c[0].ID == first.ID && c[0].Summary != first.Summary && c[0].Conclusion == "failure"
	})
}

func TestOneHeadOfTwoPullRequestsCarriesTheWorstVerdict(t *testing.T) {
	setup := func(t *testing.T) (h *hub, sha string) {
		h = newHub(t)
		h.want(h.tip("main"), "success")
		h.laxBranch()
		sha = h.push("leak", "change", leaking("a.go"))
		h.open(githubsim.PullSpec{Title: "lax", Head: "leak", Base: "lax"})
		h.want(sha, "success")
		return h, sha
	}
	t.Run("the stricter one comes second", func(t *testing.T) {
		h, sha := setup(t)
		strict := h.open(githubsim.PullSpec{Title: "strict", Head: "leak", Base: "main"})
		c := h.want(sha, "failure")
		if !strings.Contains(c.Summary, "into main") || !strings.Contains(c.Summary, "into lax") {
			t.Errorf("it does not name both:\n%s", c.Summary)
		}
		// Without the strict one nothing stands against it any more.
		h.must(h.sim.ClosePull("ada", repoName, strict.Number))
		h.want(sha, "success")
	})
	t.Run("the stricter one moves on", func(t *testing.T) {
		h, sha := setup(t)
		h.must(h.sim.PushCommit("ada", repoName, "copy", sha))
		h.open(githubsim.PullSpec{Title: "strict", Head: "copy", Base: "main"})
		h.want(sha, "failure")
		next := h.push("copy", "fix", githubsim.Files{"a.go": "package main\n"})
		h.want(next, "success")
		h.want(sha, "success")
	})
	t.Run("nobody tells of the stricter one", func(t *testing.T) {
		h, sha := setup(t)
		h.sim.Inject(githubsim.Fault{Kind: githubsim.Lost, On: "webhook"})
		strict := h.open(githubsim.PullSpec{Title: "strict", Head: "leak", Base: "main"})
		h.flush()
		h.stop()
		h.start()
		h.want(sha, "failure")
		h.must(h.sim.ClosePull("ada", repoName, strict.Number)) // nor of its end
		h.flush()
		h.stop()
		h.start()
		h.want(sha, "success")
	})
}

func TestAChangedPolicyIsHeldAgainstEveryOpenPullRequest(t *testing.T) {
	h := newHubOf(t, githubsim.Files{gate.PolicyPath: warnSecrets, "main.go": "package main\n"})
	var heads []string
	for i := range 12 {
		_, sha := h.pull(fmt.Sprint("b", i), leaking(fmt.Sprintf("f%d.go", i)))
		heads = append(heads, sha)
	}
	for _, sha := range heads {
		h.want(sha, "success")
	}
	h.push("main", "block", githubsim.Files{gate.PolicyPath: blockSecrets})
	for _, sha := range heads {
		h.want(sha, "failure")
	}
	h.push("main", "warn", githubsim.Files{gate.PolicyPath: warnSecrets})
	for _, sha := range heads {
		h.want(sha, "success")
	}
}

func TestReRunningTheSuiteLooksAgain(t *testing.T) {
	h := newHub(t)
	_, sha := h.pull("again", leaking("a.go"))
	first := h.want(sha, "failure")
	h.must(h.sim.RerunSuite("ada", repoName, sha, h.app.ID))
	h.changed(first)
}

func TestHostileBranchNamesAreOnlyNames(t *testing.T) {
	h := newHub(t)
	for _, branch := range []string{"--upload-pack=touch", "a/$(id)/`id`", "x;id&&|id", `<img/src=x>@ada`, "refs/heads/main", "ünï—код", "-"} {
		base := "into/" + branch
		h.push(base, "base", githubsim.Files{"base.go": "package main\n"})
		sha, err := h.sim.Push("ada", repoName, "from/"+branch, "change", leaking("a.go"))
		h.must(err)
		h.open(githubsim.PullSpec{Title: branch, Head: "from/" + branch, Base: base})
		if c := h.want(sha, "failure"); strings.Contains(c.Summary, "<img") {
			t.Errorf("%s", c.Summary)
		}
	}
}

func TestACheckThatGitHubForgotComesBackByItself(t *testing.T) {
	h := newHubWith(t, standard, githubsim.Options{HookWorkers: 4, HourlyLimit: -1})
	_, sha := h.pull("old", leaking("a.go"))
	first := h.want(sha, "failure")
	h.stop()
	h.later(420 * 24 * time.Hour) // GitHub has deleted it
	if checks, err := h.sim.Checks(repoName, sha); err != nil || len(checks) != 0 {
		t.Fatalf("%+v, %v", checks, err)
	}
	h.start()
	if again := h.wantThat(sha, "blocked", blocked); again.ID == first.ID {
		t.Errorf("%+v", again)
	}
	if lines := h.ledger("check.published"); len(lines) < 2 {
		t.Errorf("the ledger tells of %d published checks", len(lines))
	}
}

func TestAnArchivedCheckIsReplacedByAFreshOne(t *testing.T) {
	h := newHubWith(t, standard, githubsim.Options{HookWorkers: 4, HourlyLimit: -1})
	h.must(h.sim.Protect("ada", repoName, "main", &githubsim.Protection{Required: []githubsim.RequiredCheck{{Context: github.CheckName, AppID: h.app.ID}}}))
	number, sha := h.pull("old", githubsim.Files{"a.go": "package main\n"})
	first := h.want(sha, "success")
	h.must(h.sim.MergeState(repoName, number))
	h.stop()
	h.later(405 * 24 * time.Hour)
	if h.sim.MergeState(repoName, number) == nil {
		t.Fatal("GitHub still takes the archived run")
	}
	h.start()
	h.until("that it can be merged", func() bool { return h.sim.MergeState(repoName, number) == nil })
	checks, err := h.sim.Checks(repoName, sha)
	h.must(err)
	if len(checks) != 2 || checks[0].ID != first.ID || checks[1].Status != "completed" {
		t.Errorf("%+v", checks)
	}
}

func TestACheckThatGitHubForgotComesBackOnAReRun(t *testing.T) {
	h := newHubWith(t, standard, githubsim.Options{HookWorkers: 4, HourlyLimit: -1})
	_, sha := h.pull("old", leaking("a.go"))
	h.want(sha, "failure")
	h.later(420 * 24 * time.Hour)
	h.must(h.sim.RerunSuite("ada", repoName, sha, h.app.ID))
	h.wantThat(sha, "blocked", blocked)
}

func TestAReplayedDeliveryChangesNothing(t *testing.T) {
	h := newHub(t)
	number, sha := h.pull("again", leaking("a.go"))
	h.want(sha, "failure")
	fixed := h.push("again", "fix", githubsim.Files{"a.go": "package main\n"})
	h.want(fixed, "success")
	h.must(h.sim.ClosePull("ada", repoName, number))
	h.flush()
	old := h.want(sha, "failure")
	// Once under its own id, which is known, and once under another, as somebody with the secret could.
	for i, d := range h.sim.Deliveries() {
		for _, guid := range []string{d.GUID, fmt.Sprintf("00000000-0000-4000-8000-%012d", i)} {
			if code := h.post(guid, d.Event, d.Payload); code != http.StatusOK && code != http.StatusAccepted {
				t.Errorf("%s: %d", d.Event, code)
			}
		}
	}
	// What it brought about is over when something later has been heard.
	_, after := h.pull("after", leaking("b.go"))
	h.want(after, "failure")
	h.settled()
	if c := h.want(fixed, "success"); c.HeadSHA != fixed {
		t.Errorf("%+v", c)
	}
	if c := h.want(sha, "failure"); c.ID != old.ID {
		t.Errorf("%+v", c)
	}
	received := map[string]int{}
	for _, l := range h.ledger("delivery.received") {
		received[l[strings.Index(l, `"delivery":`):][:60]]++
	}
	for guid, n := range received {
		if n != 1 {
			t.Errorf("%s was received %d times", guid, n)
		}
	}
}

// post sends a signed webhook and returns the answer's status.
func (h *hub) post(guid, event string, body []byte) int {
	h.t.Helper()
	mac := hmac.New(sha256.New, []byte(hookSecret))
	mac.Write(body)
	r, err := http.NewRequest(http.MethodPost, "http://"+h.address+"/github/hooks", bytes.NewReader(body))
	h.must(err)
	for k, v := range map[string]string{
		"Content-Type": "application/json", "X-GitHub-Delivery": guid, "X-GitHub-Event": event,
		"X-Hub-Signature-256": "sha256=" + hex.EncodeToString(mac.Sum(nil)),
	} {
		r.Header.Set(k, v)
	}
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		return 0 // it hung up before it had heard all
	}
	defer resp.Body.Close()
	return resp.StatusCode
}

func TestABodyOf25MegabytesIsTakenAndALargerOneRefused(t *testing.T) {
	h := newHub(t)
	h.stop()
	_, sha := h.pull("large", leaking("a.go"))
	h.flush()
	h.start()
	h.want(sha, "failure") // asked for again
	var opened githubsim.Delivery
	for _, d := range h.sim.Deliveries() {
		if d.Event == "pull_request" {
			opened = d
		}
	}
	padded := func(size int) []byte {
		head := `{"padding":"`
		tail := `",` + string(opened.Payload[1:])
		return []byte(head + strings.Repeat("x", size-len(head)-len(tail)) + tail)
	}
	const most = 25 << 20
	before := h.want(sha, "failure")
	if code := h.post("00000000-0000-4000-8000-000000000001", "pull_request", padded(most)); code != http.StatusOK {
		t.Errorf("25 MB: %d", code)
	}
	h.changed(before)
	if code := h.post("00000000-0000-4000-8000-000000000002", "pull_request", padded(most+1)); code != http.StatusRequestEntityTooLarge && code != 0 {
		t.Errorf("more than 25 MB: %d", code)
	}
	_, after := h.pull("after", leaking("b.go"))
	h.want(after, "failure")
	for _, l := range h.ledger("delivery.received") {
		if strings.Contains(l, "000000000002") {
			t.Errorf("it was taken: %s", l)
		}
	}
}

func TestARestartWithAFullInboxWorksItOff(t *testing.T) {
	eachStore(t, func(t *testing.T, h *hub) {
		h.stop()
		want := map[string]string{}
		for i := range 30 {
			files, conclusion := leaking(fmt.Sprintf("f%d.go", i)), "failure"
			if i%3 == 0 {
				files, conclusion = githubsim.Files{fmt.Sprintf("f%d.go", i): fmt.Sprintf("package main // %d\n", i)}, "success"
			}
			_, sha := h.pull(fmt.Sprint("b", i), files)
			want[sha] = conclusion
		}
		h.flush()
		// They were all answered with 200, and then the process ended: nobody has heard one of them.
		ctx := context.Background()
		rec, err := h.prog.openRecord(ctx, false)
		h.must(err)
		g := &gate.Gate{Store: rec.store, Now: time.Now, Rand: rand.Reader}
		taken := 0
		handler, err := github.NewHandler(github.HandlerOptions{Secret: hookSecret, Inbox: onlyStored{g}})
		h.must(err)
		for _, d := range h.sim.Deliveries() {
			if d.Status == "OK" {
				continue
			}
			mac := hmac.New(sha256.New, []byte(hookSecret))
			mac.Write(d.Payload)
			r := httptest.NewRequest(http.MethodPost, "/github/hooks", bytes.NewReader(d.Payload))
			r.Header.Set("Content-Type", "application/json")
			r.Header.Set("X-GitHub-Delivery", d.GUID)
			r.Header.Set("X-GitHub-Event", d.Event)
			r.Header.Set("X-Hub-Signature-256", "sha256="+hex.EncodeToString(mac.Sum(nil)))
			w := httptest.NewRecorder()
			if handler.ServeHTTP(w, r); w.Code == http.StatusOK {
				taken++
			}
		}
		rec.close()
		if taken < 60 {
			t.Fatalf("%d deliveries are in the inbox", taken)
		}
		h.start()
		for sha, conclusion := range want {
			h.want(sha, conclusion)
		}
	})
}

// onlyStored keeps deliveries and tells nobody.
type onlyStored struct{ g *gate.Gate }

func (o onlyStored) Receive(ctx context.Context, d github.Delivery) error {
	return o.g.Receive(ctx, d.Account, store.Delivery{
		GUID: d.GUID, Event: d.Event, Action: d.Action, Installation: d.Installation, Received: d.Received, Body: d.Body,
	})
}

// hurried is a hub where the waits of both sides pass on a clock of their own.
func hurried(t *testing.T, o githubsim.Options) *hub {
	h := newHubWith(t, standard, o)
	h.want(h.tip("main"), "success")
	h.stop()
	skip := func(d time.Duration) {
		h.later(d)
		time.Sleep(time.Millisecond)
	}
	h.options.sleep = func(ctx context.Context, d time.Duration) error { skip(d); return ctx.Err() }
	h.options.pause = func(attempt int, asked time.Duration) time.Duration {
		skip(work.Pause(attempt, asked))
		return 50 * time.Millisecond
	}
	h.start()
	h.settled()
	return h
}

func TestTenMinutesWithoutGitHubLoseNothing(t *testing.T) {
	h := hurried(t, githubsim.Options{HookWorkers: 4, HourlyLimit: -1})
	h.sim.Down(10 * time.Minute)
	began := h.now()
	want := map[string]string{}
	for i := range 4 {
		_, sha := h.pull(fmt.Sprint("b", i), leaking(fmt.Sprintf("f%d.go", i)))
		want[sha] = "failure"
		_, sha = h.pull(fmt.Sprint("c", i), githubsim.Files{fmt.Sprintf("f%d.go", i): "package main\n"})
		want[sha] = "success"
	}
	for sha, conclusion := range want {
		h.want(sha, conclusion)
	}
	if passed := h.now().Sub(began); passed < 10*time.Minute {
		t.Errorf("only %v have passed", passed)
	}
}

func TestAnHourWithoutRequestsLeftDelaysTheCheck(t *testing.T) {
	h := hurried(t, githubsim.Options{HookWorkers: 4, HourlyLimit: 5000})
	h.sim.Inject(githubsim.Fault{Kind: githubsim.PrimaryLimit, On: "POST /repos/{owner}/{repo}/check-runs", Times: 1})
	began := h.now()
	_, sha := h.pull("limited", leaking("a.go"))
	h.want(sha, "failure")
	if passed := h.now().Sub(began); passed < 10*time.Minute {
		t.Errorf("only %v have passed: nobody waited for the hour to end", passed)
	}
}

func TestAnAuditThatCannotBeDoneSaysSoAndGoesOnTrying(t *testing.T) {
	h := hurried(t, githubsim.Options{HookWorkers: 4, HourlyLimit: -1})
	h.sim.Inject(githubsim.Fault{Kind: githubsim.ErrorBefore, On: "git"}) // the API answers, git does not
	_, sha := h.pull("leak", leaking("a.go"))
	h.wantThat(sha, "that it goes on", func(c githubsim.Check) bool {
		return c.Conclusion == "failure" && c.Title == "Could not be evaluated yet"
	})
	h.sim.Heal()
	h.wantThat(sha, "blocked", blocked)
}

// again makes a hub ask GitHub every second what it would otherwise ask every hour.
func again(t *testing.T) *hub {
	h := newHub(t)
	h.want(h.tip("main"), "success")
	h.stop()
	h.options.reconcile = time.Second
	h.start()
	h.settled()
	return h
}

func TestSuspendedDuringARunAndBack(t *testing.T) {
	h := again(t)
	_, before := h.pull("before", leaking("b.go"))
	h.want(before, "failure")
	h.slowGit()
	_, sha := h.pull("leak", leaking("a.go"))
	h.announced(sha)
	h.must(h.sim.SuspendApp("ada", h.install, true))
	h.sim.Heal()
	_, unseen := h.pull("unseen", leaking("c.go")) // no webhook tells of it
	h.flush()
	h.must(h.sim.SuspendApp("ada", h.install, false))
	for _, sha := range []string{before, sha, unseen} {
		h.wantThat(sha, "blocked", blocked)
	}
}

func TestUninstalledDuringARunAndInstalledAgain(t *testing.T) {
	h := again(t)
	h.slowGit()
	_, sha := h.pull("leak", leaking("a.go"))
	h.announced(sha)
	h.must(h.sim.UninstallApp("ada", h.install))
	h.sim.Heal()
	_, unseen := h.pull("unseen", leaking("c.go"))
	h.flush()
	var err error
	h.install, err = h.sim.InstallApp("ada", h.app.ID, "octo")
	h.must(err)
	for _, sha := range []string{sha, unseen} {
		h.wantThat(sha, "blocked", blocked)
	}
}

func TestArchivedDuringARunAndBack(t *testing.T) {
	h := again(t)
	h.slowGit()
	_, sha := h.pull("leak", leaking("a.go"))
	h.announced(sha)
	h.must(h.sim.Archive("ada", repoName, true))
	h.sim.Heal()
	h.flush()
	h.settled()
	h.must(h.sim.Archive("ada", repoName, false))
	h.wantThat(sha, "blocked", blocked)
}

func TestARevokedPermissionThatIsGrantedAgain(t *testing.T) {
	full := map[string]string{"checks": "write", "contents": "read", "pull_requests": "write", "members": "read", "merge_queues": "read"}
	events := []string{"push", "pull_request", "merge_group", "check_run", "check_suite", "repository"}
	for _, gone := range []string{"checks", "contents"} {
		t.Run(gone, func(t *testing.T) {
			h := again(t)
			_, before := h.pull("before", leaking("b.go"))
			h.want(before, "failure")
			h.slowGit()
			_, sha := h.pull("leak", leaking("a.go"))
			h.announced(sha)
			less := maps.Clone(full)
			delete(less, gone)
			h.must(h.sim.SetPermissions("ada", h.install, less, events))
			h.sim.Heal()
			next := h.push("leak", "more", leaking("c.go")) // under the permissions that are left
			h.flush()
			h.settled()
			h.must(h.sim.SetPermissions("ada", h.install, full, events))
			h.wantThat(next, "blocked", func(c githubsim.Check) bool { return strings.HasPrefix(c.Title, "Blocked") })
			h.wantThat(before, "blocked", blocked)
			h.want(sha, "failure")
		})
	}
}

func TestARefThatIsGoneKeepsNothingElseFromBeingJudged(t *testing.T) {
	h := newHub(t)
	h.want(h.tip("main"), "success")
	h.push("other", "other", githubsim.Files{"o.go": "package main\n"})
	sha := h.push("leak", "change", leaking("a.go"))
	h.open(githubsim.PullSpec{Title: "into other", Head: "leak", Base: "other"})
	p := h.open(githubsim.PullSpec{Title: "into main", Head: "leak", Base: "main"})
	c := h.wantThat(sha, "both", func(c githubsim.Check) bool {
		return strings.Contains(c.Summary, "into other") && strings.Contains(c.Summary, "into main")
	})
	repo, err := h.sim.Repo(repoName)
	h.must(err)
	h.must(exec.Command("git", "-C", repo.Dir, "update-ref", "-d", "refs/heads/other").Run())
	h.must(h.sim.SetDraft("ada", repoName, p.Number, true))
	h.wantThat(sha, "a look at the one that is left", func(d githubsim.Check) bool { return d.Summary != c.Summary && blocked(d) })
}

func TestADatabaseThatGoesAwayLosesNothing(t *testing.T) {
	dsn, log := dbtest.Postgres(t), dbtest.Postgres(t)
	u, err := url.Parse(dsn)
	if err != nil {
		t.Fatal(err)
	}
	p := &gap{server: u.Host}
	u.Host = p.open(t)
	t.Cleanup(p.cut)
	h := newHub(t, u.String(), log)
	h.want(h.tip("main"), "success")
	h.stop()
	h.options.sweep = time.Second
	h.start()
	h.slowGit()
	_, during := h.pull("during", leaking("a.go"))
	h.announced(during)
	p.cut()
	h.sim.Heal()
	_, refused := h.pull("refused", leaking("b.go"))
	fine, err := h.sim.Push("ada", repoName, "during", "fix", githubsim.Files{"a.go": "package main\n"})
	h.must(err)
	h.flush()
	failed := 0
	for _, d := range h.sim.Deliveries() {
		if d.Status != "OK" {
			failed++
		}
	}
	if failed == 0 {
		t.Error("webhooks were answered with 200 and no database")
	}
	p.resume(t)
	h.want(refused, "failure")
	h.want(fine, "success")
	h.want(during, "failure")
	if lines := h.ledger("check.published"); len(lines) < 4 {
		t.Errorf("the ledger tells of %d published checks", len(lines))
	}
}

// gap stands between the App and its database, and opens.
type gap struct {
	server, address string

	mu    sync.Mutex
	l     net.Listener
	conns []net.Conn
}

func (p *gap) open(t *testing.T) string {
	p.address = "127.0.0.1:0"
	p.resume(t)
	return p.address
}

func (p *gap) resume(t *testing.T) {
	t.Helper()
	l, err := net.Listen("tcp", p.address)
	if err != nil {
		t.Fatal(err)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.l, p.address = l, l.Addr().String()
	go func() {
		for {
			client, err := l.Accept()
			if err != nil {
				return
			}
			server, err := net.Dial("tcp", p.server)
			if err != nil {
				client.Close()
				continue
			}
			p.mu.Lock()
			if p.l != l {
				client.Close()
				server.Close()
			}
			p.conns = append(p.conns, client, server)
			p.mu.Unlock()
			pipe := func(to, from net.Conn) {
				_, _ = io.Copy(to, from)
				to.Close()
				from.Close()
			}
			go pipe(server, client)
			go pipe(client, server)
		}
	}()
}

func (p *gap) cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.l != nil {
		p.l.Close()
		p.l = nil
	}
	for _, c := range p.conns {
		c.Close()
	}
	p.conns = nil
}
