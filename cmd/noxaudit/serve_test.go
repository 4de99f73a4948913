package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/noxaudit/noxaudit/checks/gate"
	"github.com/noxaudit/noxaudit/internal/config"
	"github.com/noxaudit/noxaudit/internal/dbtest"
	"github.com/noxaudit/noxaudit/internal/github"
	"github.com/noxaudit/noxaudit/internal/githubsim"
	"github.com/noxaudit/noxaudit/internal/githubsim/conform"
)

// hub is a simulated GitHub with an organisation, and the App that serves it.
type hub struct {
	ahead atomic.Int64 // nanoseconds
	t     testing.TB
	sim   *githubsim.Server
	app   githubsim.App
	prog  *program
	stop  func() // ends the App

	address string // where the App listens
	options serviceOptions
	install int64 // id of the installation
}

const (
	repoName   = "octo/pay"
	hookSecret = "hook-secret-of-the-test"
)

// newHub starts both. dsn is where the store is, "" for SQLite.
func newHub(t testing.TB, urls ...string) *hub {
	t.Helper()
	return newHubOf(t, githubsim.Files{gate.PolicyPath: blockSecrets, "main.go": "package main\n"}, urls...)
}

// newHubOf is newHub with other files on the default branch.
func newHubOf(t testing.TB, files githubsim.Files, urls ...string) *hub {
	t.Helper()
	return newHubWith(t, files, githubsim.Options{HookWorkers: 4, HourlyLimit: -1}, urls...)
}

// newHubWith is newHubOf with other options of GitHub.
func newHubWith(t testing.TB, files githubsim.Files, o githubsim.Options, urls ...string) *hub {
	t.Helper()
	h := &hub{t: t, options: serviceOptions{pace: github.Pace{Points: -1, Creates: -1, Parallel: -1}, look: 200 * time.Millisecond, quiet: true}}
	o.Dir, o.Now = filepath.Join(t.TempDir(), "github"), h.now
	sim, err := githubsim.New(o)
	if err != nil {
		t.Fatal(err)
	}
	base, err := sim.Listen("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	h.sim = sim
	t.Cleanup(func() {
		h.stop()
		sim.Close()
	})
	h.stop = func() {}
	if _, measured := t.(*testing.B); !measured {
		conform.Check(t, sim)
	}
	h.must(sim.CreateUser("ada"))
	h.must(sim.CreateUser("eve"))
	h.must(sim.CreateOrg("octo", "ada"))
	_, err = sim.CreateRepo("ada", repoName, githubsim.RepoSpec{Files: files})
	h.must(err)
	h.app, err = sim.CreateApp(githubsim.AppSpec{
		Owner: "octo", Name: "noxaudit", WebhookSecret: hookSecret,
		Permissions: map[string]string{"checks": "write", "contents": "read", "pull_requests": "write", "members": "read", "merge_queues": "read"},
		Events:      []string{"push", "pull_request", "merge_group", "check_run", "check_suite", "repository", "issue_comment", "pull_request_review"},
	})
	h.must(err)
	dir := t.TempDir()
	pem := filepath.Join(dir, "app.pem")
	h.must(os.WriteFile(pem, h.app.PrivateKeyPEM, 0o600))
	h.prog = &program{
		stdin: strings.NewReader(""), stdout: io.Discard, stderr: io.Discard, now: h.now, rand: rand.Reader, columns: func() int { return 0 },
		config: config.Config{DataDir: filepath.Join(dir, "data"), Deployment: "test", Server: config.Server{
			Listen: "127.0.0.1:0", GitHubAPIURL: base + "/api/v3", GitHubWebURL: base, GitHubAppID: strconv.FormatInt(h.app.ID, 10),
			GitHubPrivateKeyFile: pem, GitHubWebhookSecret: hookSecret,
		}},
	}
	if len(urls) == 2 {
		h.prog.config.DatabaseURL, h.prog.config.LedgerDatabaseURL = urls[0], urls[1]
		h.prog.config.LedgerKeyFile = filepath.Join(dir, "ledger.key")
		if code := h.command("ledger", "keygen", h.prog.config.LedgerKeyFile, "--deployment", "test"); code != exitPassed {
			t.Fatal("keygen")
		}
	}
	h.start()
	h.install, err = sim.InstallApp("ada", h.app.ID, "octo")
	h.must(err)
	return h
}

// now is the clock of GitHub and of the App.
func (h *hub) now() time.Time { return time.Now().Add(time.Duration(h.ahead.Load())) }

// later moves both clocks.
func (h *hub) later(d time.Duration) { h.ahead.Add(int64(d)) }

// command runs the command line beside the App.
func (h *hub) command(args ...string) int {
	p := *h.prog
	p.environ = []string{
		"NOXAUDIT_DATA_DIR=" + h.prog.config.DataDir, "NOXAUDIT_DATABASE_URL=" + h.prog.config.DatabaseURL,
		"NOXAUDIT_LEDGER_DATABASE_URL=" + h.prog.config.LedgerDatabaseURL, "NOXAUDIT_DEPLOYMENT=test",
		"NOXAUDIT_LEDGER_KEY_FILE=" + h.prog.config.LedgerKeyFile,
	}
	var out bytes.Buffer
	p.stdout, p.stderr = &out, &out
	code := p.run(context.Background(), args)
	if code != exitPassed {
		h.t.Logf("noxaudit %v: %s", args, out.String())
	}
	return code
}

func (h *hub) must(err error) {
	h.t.Helper()
	if err != nil {
		h.t.Fatal(err)
	}
}

// start runs the App and points the webhooks at it.
func (h *hub) start() {
	h.t.Helper()
	s, err := h.prog.newService(context.Background(), h.options)
	h.must(err)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	h.address = s.listen.Addr().String()
	go func() { ended <- s.run(ctx) }()
	h.must(h.sim.SetWebhook(h.app.ID, "http://"+s.listen.Addr().String()+"/github/hooks", hookSecret))
	h.stop = func() {
		cancel()
		if err := <-ended; err != nil {
			h.t.Errorf("the App ended with %v", err)
		}
		h.stop = func() {}
	}
}

// check waits for the finished check run of a commit.
func (h *hub) check(sha string) githubsim.Check {
	h.t.Helper()
	return h.checkUntil(sha, func(githubsim.Check) bool { return true })
}

func (h *hub) checkUntil(sha string, ok func(githubsim.Check) bool) githubsim.Check {
	h.t.Helper()
	var last []githubsim.Check
	deadline := time.After(2 * time.Minute)
	for {
		checks, err := h.sim.Checks(repoName, sha)
		h.must(err)
		last = slices.DeleteFunc(checks, func(c githubsim.Check) bool { return c.Name != github.CheckName })
		if len(last) == 1 && last[0].Status == "completed" && ok(last[0]) {
			return last[0]
		}
		if len(last) > 1 {
			h.t.Fatalf("%d check runs on %s, want one", len(last), sha)
		}
		select {
		case <-deadline:
			h.t.Fatalf("no finished check run on %s: %+v", sha, last)
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// settled waits until GitHub has answered everything that it was asked: a run is seen before its call is listed.
func (h *hub) settled() {
	h.t.Helper()
	for last := -1; ; time.Sleep(100 * time.Millisecond) {
		n := len(h.sim.Calls())
		if n == last {
			return
		}
		last = n
	}
}

// tip is the commit that a branch points to.
func (h *hub) tip(branch string) string {
	h.t.Helper()
	repo, err := h.sim.Repo(repoName)
	h.must(err)
	tip, err := exec.Command("git", "-C", repo.Dir, "rev-parse", "refs/heads/"+branch).Output()
	h.must(err)
	return strings.TrimSpace(string(tip))
}

// pull pushes files to a new branch and opens a pull request.
func (h *hub) pull(branch string, files githubsim.Files) (number int, sha string) {
	h.t.Helper()
	sha, err := h.sim.Push("ada", repoName, branch, "change", files)
	h.must(err)
	p, err := h.sim.OpenPull("ada", repoName, githubsim.PullSpec{Title: branch, Head: branch, Base: "main"})
	h.must(err)
	return p.Number, sha
}

func leaking(name string) githubsim.Files {
	return githubsim.Files{name: "package main\n\nconst token = \"" + token() + "\"\n"}
}

// eachStore runs a test with the App on SQLite and on PostgreSQL.
func eachStore(t *testing.T, test func(t *testing.T, h *hub)) {
	t.Run("sqlite", func(t *testing.T) { test(t, newHub(t)) })
	t.Run("postgres", func(t *testing.T) { test(t, newHub(t, dbtest.Postgres(t), dbtest.Postgres(t))) })
}

func TestAPullRequestThatLeaksAKeyTurnsRedAndItsFixGreen(t *testing.T) {
	eachStore(t, func(t *testing.T, h *hub) {
		h.must(h.sim.Protect("ada", repoName, "main", &githubsim.Protection{Required: []githubsim.RequiredCheck{{Context: github.CheckName, AppID: h.app.ID}}}))
		h.check(h.tip("main")) // the installation's own look would be counted below
		number, sha := h.pull("leak", leaking("config.go"))
		c := h.check(sha)
		if c.Conclusion != "failure" || !strings.Contains(c.Title, "Blocked · 1 high") || strings.Contains(c.Summary, token()) {
			t.Fatalf("%s: %s\n%s", c.Conclusion, c.Title, c.Summary)
		}
		if len(c.Annotations) != 1 || c.Annotations[0].Path != "config.go" {
			t.Errorf("annotations %+v", c.Annotations)
		}
		if _, err := h.sim.Merge("ada", repoName, number, false); err == nil {
			t.Error("GitHub merged past the red check")
		}
		// A round that looks for what was lost may fall into one synchronize, but not into each of three.
		var fewest []string
		for i := range 3 {
			h.settled()
			h.sim.ResetCalls()
			fixed, err := h.sim.Push("ada", repoName, "leak", "fix", githubsim.Files{"config.go": fmt.Sprintf("package main // %d\n", i)})
			h.must(err)
			if c := h.check(fixed); c.Conclusion != "success" {
				t.Fatalf("the fix: %s %s", c.Conclusion, c.Title)
			}
			h.settled()
			var calls []string
			for _, call := range h.sim.Calls() {
				if !strings.HasPrefix(call.Route, "git") {
					calls = append(calls, call.Route)
				}
			}
			if i == 0 || len(calls) < len(fewest) {
				fewest = calls
			}
		}
		if len(fewest) != 2 {
			t.Errorf("a steady synchronize takes %d REST calls: %v", len(fewest), fewest)
		}
		if _, err := h.sim.Merge("ada", repoName, number, false); err != nil {
			t.Errorf("GitHub does not merge the green one: %v", err)
		}
		h.stop()
		if code := h.command("ledger", "verify"); code != exitPassed {
			t.Errorf("ledger verify: exit code %d", code)
		}
	})
}

func TestAPullRequestFromAForkIsJudged(t *testing.T) {
	h := newHub(t)
	fork, err := h.sim.Fork("eve", repoName)
	h.must(err)
	sha, err := h.sim.Push("eve", fork.FullName, "leak", "change", leaking("x.go"))
	h.must(err)
	_, err = h.sim.OpenPull("eve", repoName, githubsim.PullSpec{Title: "from a fork", Head: "eve:leak", Base: "main"})
	h.must(err)
	if c := h.check(sha); c.Conclusion != "failure" {
		t.Errorf("%s %s", c.Conclusion, c.Title)
	}
}

func TestAMergeGroupIsReallyAudited(t *testing.T) {
	h := newHub(t)
	h.must(h.sim.Protect("ada", repoName, "main", &githubsim.Protection{
		Required: []githubsim.RequiredCheck{{Context: github.CheckName, AppID: h.app.ID}}, Queue: &githubsim.MergeQueue{},
	}))
	number, sha := h.pull("fine", githubsim.Files{"fine.go": "package main\n"})
	h.check(sha)
	group, err := h.sim.Enqueue("ada", repoName, number)
	h.must(err)
	if c := h.check(group); c.Conclusion != "success" {
		t.Errorf("%s %s", c.Conclusion, c.Title)
	}
}

func TestTheDefaultBranchHasACheckToo(t *testing.T) {
	h := newHub(t)
	sha, err := h.sim.Push("ada", repoName, "main", "leak", leaking("direct.go"))
	h.must(err)
	if c := h.check(sha); c.Conclusion != "failure" {
		t.Errorf("%s %s", c.Conclusion, c.Title)
	}
}

func TestAnInstallationSeedsACheckOnTheDefaultBranch(t *testing.T) {
	h := newHub(t)
	if c := h.check(h.tip("main")); c.Conclusion != "success" {
		t.Errorf("%s %s", c.Conclusion, c.Title)
	}
}

func TestAnEventThatComesTwiceOrLateChangesNothing(t *testing.T) {
	h := newHub(t)
	h.sim.Inject(githubsim.Fault{Kind: githubsim.Doubled, On: "webhook"})
	_, sha := h.pull("twice", leaking("a.go"))
	first := h.check(sha)
	h.sim.Heal()
	h.must(h.sim.LateSuite(repoName, sha))
	next, err := h.sim.Push("ada", repoName, "twice", "fix", githubsim.Files{"a.go": "package main\n"})
	h.must(err)
	if c := h.check(next); c.Conclusion != "success" {
		t.Errorf("%s", c.Title)
	}
	if c := h.check(sha); c.ID != first.ID || c.Conclusion != "failure" {
		t.Errorf("the old head's run changed: %+v", c)
	}
}

func TestALostWebhookIsFoundByAskingGitHub(t *testing.T) {
	h := newHub(t)
	h.stop() // nobody answers
	_, sha := h.pull("lost", leaking("a.go"))
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	h.must(h.sim.Flush(ctx))
	h.start()
	if c := h.check(sha); c.Conclusion != "failure" {
		t.Errorf("%s", c.Title)
	}
}

func TestTheRecheckButtonAndTheRerunLookAgain(t *testing.T) {
	h := newHub(t)
	_, sha := h.pull("again", leaking("a.go"))
	first := h.check(sha)
	h.must(h.sim.PressButton("ada", first.ID, "recheck"))
	second := h.checkUntil(sha, func(c githubsim.Check) bool { return c.Summary != first.Summary })
	h.must(h.sim.RerunCheck("ada", first.ID))
	third := h.checkUntil(sha, func(c githubsim.Check) bool { return c.Summary != second.Summary })
	if third.ID != first.ID || third.Conclusion != "failure" {
		t.Errorf("%+v", third)
	}
}

func TestGitHubFailingForAWhileDelaysTheCheckAndLosesNothing(t *testing.T) {
	for name, fault := range map[string]githubsim.Fault{
		"5xx before the effect":  {Kind: githubsim.ErrorBefore, On: "POST /repos/{owner}/{repo}/check-runs", Times: 2},
		"5xx after the effect":   {Kind: githubsim.ErrorAfter, On: "POST /repos/{owner}/{repo}/check-runs", Times: 1},
		"the fetch fails":        {Kind: githubsim.ErrorBefore, On: "git", Times: 2},
		"a secondary rate limit": {Kind: githubsim.SecondaryLimit, On: "POST /repos/{owner}/{repo}/check-runs", Times: 1, Delay: time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			h := newHub(t)
			_, warm := h.pull("warm", githubsim.Files{"w.go": "package main\n"})
			h.check(warm)
			h.sim.Inject(fault)
			_, sha := h.pull("leak", leaking("a.go"))
			if c := h.check(sha); c.Conclusion != "failure" {
				t.Errorf("%s", c.Title)
			}
		})
	}
}

func TestARepositoryWithABrokenPolicyKeepsTheLastGoodOne(t *testing.T) {
	h := newHub(t)
	_, warm := h.pull("warm", githubsim.Files{"w.go": "package main\n"})
	h.check(warm)
	_, broken := h.pull("broken", githubsim.Files{gate.PolicyPath: "policies: ["})
	if c := h.check(broken); c.Conclusion != "failure" || !strings.Contains(c.Summary, "policies") {
		t.Errorf("the pull request that breaks the policies: %s", c.Title)
	}
	sha, err := h.sim.Push("ada", repoName, "main", "break it anyway", githubsim.Files{gate.PolicyPath: "policies: ["})
	h.must(err)
	h.check(sha)
	_, leak := h.pull("leak", leaking("a.go"))
	if c := h.check(leak); c.Conclusion != "failure" || !strings.Contains(c.Summary, "last readable ones are in force") {
		t.Errorf("under broken policies: %s\n%s", c.Title, c.Summary)
	}
}

func TestHostileTitlesAndNamesActOnNothing(t *testing.T) {
	h := newHub(t)
	sha, err := h.sim.Push("ada", repoName, "evil", "change", leaking("a`|<img src=x>@ada.go"))
	h.must(err)
	_, err = h.sim.OpenPull("ada", repoName, githubsim.PullSpec{Title: "### <script>alert(1)</script> @ada", Head: "evil", Base: "main"})
	h.must(err)
	if c := h.check(sha); strings.Contains(c.Summary, "<script>") {
		t.Errorf("%s", c.Summary)
	}
}

func TestAForgedWebhookIsRefused(t *testing.T) {
	h := newHub(t)
	deliveries := h.sim.Deliveries()
	if len(deliveries) == 0 {
		t.Fatal("no delivery")
	}
	h.must(h.sim.SetWebhook(h.app.ID, hookURL(h), "another secret"))
	_, sha := h.pull("forged", leaking("a.go"))
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	h.must(h.sim.Flush(ctx))
	checks, err := h.sim.Checks(repoName, sha)
	h.must(err)
	if len(checks) != 0 {
		t.Errorf("a forged webhook made %+v", checks)
	}
}

// hookURL is where the App listens.
func hookURL(h *hub) string {
	h.t.Helper()
	h.stop()
	s, err := h.prog.newService(context.Background(), serviceOptions{quiet: true})
	h.must(err)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- s.run(ctx) }()
	h.stop = func() {
		cancel()
		<-ended
		h.stop = func() {}
	}
	return "http://" + s.listen.Addr().String() + "/github/hooks"
}

func TestTheProbesAnswer(t *testing.T) {
	h := newHub(t)
	base := strings.TrimSuffix(hookURL(h), "/github/hooks")
	for path, want := range map[string]int{"/healthz": http.StatusOK, "/readyz": http.StatusOK, "/nowhere": http.StatusNotFound, "/github/hooks": http.StatusMethodNotAllowed} {
		resp, err := http.Get(base + path)
		h.must(err)
		resp.Body.Close()
		if resp.StatusCode != want {
			t.Errorf("%s: %d, want %d", path, resp.StatusCode, want)
		}
	}
}

func TestServeRefusesToStartWithoutWhatItNeeds(t *testing.T) {
	b := setup(t)
	for _, c := range []struct {
		env  []string
		want string
	}{
		{nil, "NOXAUDIT_GITHUB_WEBHOOK_SECRET"},
		{[]string{"NOXAUDIT_GITHUB_WEBHOOK_SECRET=x"}, "NOXAUDIT_GITHUB_APP_ID"},
		{[]string{"NOXAUDIT_GITHUB_WEBHOOK_SECRET=x", "NOXAUDIT_GITHUB_APP_ID=7"}, "NOXAUDIT_GITHUB_PRIVATE_KEY_FILE"},
	} {
		b.env = c.env
		if _, errs := b.want(exitFailed, "serve"); !strings.Contains(errs, c.want) {
			t.Errorf("%v: %s", c.env, errs)
		}
	}
}

func TestManyPullRequestsAtOnceAreAllJudged(t *testing.T) {
	eachStore(t, func(t *testing.T, h *hub) {
		want := map[string]string{}
		for i := range 20 {
			files, conclusion := githubsim.Files{fmt.Sprintf("f%d.go", i): fmt.Sprintf("package main // %d\n", i)}, "success"
			if i%2 == 0 {
				files, conclusion = leaking(fmt.Sprintf("f%d.go", i)), "failure"
			}
			_, sha := h.pull(fmt.Sprintf("b%d", i), files)
			want[sha] = conclusion
		}
		for sha, conclusion := range want {
			if c := h.check(sha); c.Conclusion != conclusion {
				t.Errorf("%s: %s, want %s", sha, c.Conclusion, conclusion)
			}
		}
	})
}
