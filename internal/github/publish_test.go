package github

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/rs/zerolog"
	"pgregory.net/rapid"

	"github.com/noxaudit/noxaudit/checks/gate"
	"github.com/noxaudit/noxaudit/internal/githubsim"
	"github.com/noxaudit/noxaudit/internal/githubsim/conform"
)

// town is a simulated GitHub with the organization acme, its repository acme/shop, and our App installed there. All
// that goes to and fro is held against GitHub's published descriptions.
type town struct {
	*testing.T
	sim          *githubsim.Server
	url          string
	app          *App
	spec         githubsim.App
	installation int64
	inbox        *shelf
	clock        *handClock

	mu   sync.Mutex
	sent []string // REST requests without those for tokens: "POST check-runs in_progress 50"
}

// handClock moves when somebody sleeps.
type handClock struct {
	mu sync.Mutex
	at time.Time
}

func (c *handClock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.at
}

func (c *handClock) sleep(_ context.Context, d time.Duration) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.at = c.at.Add(d)
	return nil
}

const (
	createRoute = "POST /repos/{owner}/{repo}/check-runs"
	updateRoute = "PATCH /repos/{owner}/{repo}/check-runs/{check_run_id}"
)

func newTown(t *testing.T) *town {
	t.Helper()
	tn := &town{T: t, inbox: &shelf{}, clock: &handClock{at: time.Date(2026, 11, 25, 9, 0, 0, 0, time.UTC)}}
	var err error
	tn.sim, err = githubsim.New(githubsim.Options{Dir: t.TempDir(), Seed: 1, Now: tn.clock.now})
	must(t, err)
	tn.url, err = tn.sim.Listen("127.0.0.1:0")
	must(t, err)
	t.Cleanup(func() { tn.sim.Close() })
	conform.Check(t, tn.sim)
	hooks := httptest.NewServer(conform.Hooks(t, newHook(t, tn.inbox)))
	t.Cleanup(hooks.Close)
	must(t, tn.sim.CreateUser("ada"))
	must(t, tn.sim.CreateOrg("acme", "ada"))
	_, err = tn.sim.CreateRepo("ada", "acme/shop", githubsim.RepoSpec{Private: true, Files: githubsim.Files{"main.go": "package main\n"}})
	must(t, err)
	m, _ := readManifest(t)
	tn.spec, err = tn.sim.CreateApp(githubsim.AppSpec{Owner: "acme", Name: "noxaudit", Key: testKey(), Permissions: m.Permissions, Events: m.Events, WebhookURL: hooks.URL, WebhookSecret: hookSecret})
	must(t, err)
	tn.installation, err = tn.sim.InstallApp("ada", tn.spec.ID, "acme")
	must(t, err)
	tn.restart()
	return tn
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// restart gives the town an App that remembers nothing.
func (tn *town) restart() {
	tn.app = newApp(tn, roundTripper(tn.send), func(o *AppOptions) {
		o.ID, o.PrivateKeyPEM = tn.spec.ID, tn.spec.PrivateKeyPEM
		o.APIURL, o.WebURL = tn.url+"/api/v3", tn.url
		o.Now, o.Sleep, o.Log = tn.clock.now, tn.clock.sleep, zerolog.Nop()
	})
}

func (tn *town) send(r *http.Request) (*http.Response, error) {
	var in struct {
		Status string
		Output struct{ Annotations []any }
	}
	if r.Body != nil {
		b, _ := io.ReadAll(r.Body)
		json.Unmarshal(b, &in)
		r.Body = io.NopCloser(bytes.NewReader(b))
	}
	if class := classOf(r); class != "token" {
		line := class
		if in.Status != "" {
			line = fmt.Sprintf("%s %s %d", class, in.Status, len(in.Output.Annotations))
		}
		tn.mu.Lock()
		tn.sent = append(tn.sent, line)
		tn.mu.Unlock()
	}
	return http.DefaultTransport.RoundTrip(r)
}

// took returns the requests since it was last called.
func (tn *town) took() string {
	tn.mu.Lock()
	defer tn.mu.Unlock()
	s := strings.Join(tn.sent, ", ")
	tn.sent = nil
	return s
}

func (tn *town) origin() gate.Origin {
	tn.Helper()
	all, err := tn.app.Repositories(tn.Context(), tn.installation)
	must(tn, err)
	i := slices.IndexFunc(all, func(o gate.Origin) bool { return o.Name == "shop" })
	if i < 0 {
		tn.Fatalf("no shop among %v", all)
	}
	tn.took()
	return all[i]
}

// pull opens a pull request and returns the check that its head wants.
func (tn *town) pull(branch string) gate.Check {
	tn.Helper()
	_, err := tn.sim.Push("ada", "acme/shop", branch, "Add", githubsim.Files{branch + ".txt": "x\n"})
	must(tn, err)
	p, err := tn.sim.OpenPull("ada", "acme/shop", githubsim.PullSpec{Title: "Add " + branch, Head: branch})
	must(tn, err)
	return gate.Check{
		Origin: tn.origin(), Head: commit(tn, p.HeadSHA), ExternalID: "run-" + branch, Title: "Auditing", Summary: "…",
		Started: tn.clock.now(), DetailsURL: "https://noxaudit.example.com/r/1",
	}
}

func (tn *town) publish(c gate.Check, retry bool) int64 {
	tn.Helper()
	id, err := tn.app.Publish(tn.Context(), c, retry)
	if err != nil || id == 0 {
		tn.Fatalf("publish: %d, %v", id, err)
	}
	return id
}

func (tn *town) runs(c gate.Check) []githubsim.Check {
	tn.Helper()
	all, err := tn.sim.Checks("acme/shop", c.Head.String())
	must(tn, err)
	return all
}

// onlyRun is the one check run of the commit, which must have been made by us.
func (tn *town) onlyRun(c gate.Check) githubsim.Check {
	tn.Helper()
	all := tn.runs(c)
	if len(all) != 1 || all[0].Name != CheckName || all[0].ExternalID != c.ExternalID {
		tn.Fatalf("runs: %+v", all)
	}
	return all[0]
}

func (tn *town) finished(c gate.Check, annotations int) gate.Check {
	c.Completed, c.Blocked, c.Finished = true, true, tn.clock.now()
	c.Title, c.Summary = "Blocked", "What, where, why"
	c.Annotations = nil
	for i := range annotations {
		c.Annotations = append(c.Annotations, gate.Annotation{Path: "main.go", StartLine: i + 1, EndLine: i + 1, Level: "failure", Title: "NX-1", Message: "no"})
	}
	return c
}

func TestASteadySynchronizeIsTwoCallsAndABatchIsOneMore(t *testing.T) {
	tn := newTown(t)
	for n, want := range map[int]string{
		0:   "check_create in_progress 0, check_update completed 0",
		1:   "check_create in_progress 0, check_update completed 1",
		50:  "check_create in_progress 0, check_update completed 50",
		51:  "check_create in_progress 0, check_update in_progress 50, check_update completed 1",
		200: "check_create in_progress 0, check_update in_progress 50, check_update in_progress 50, check_update in_progress 50, check_update completed 50",
	} {
		c := tn.pull(fmt.Sprint("steady-", n))
		c.ID = tn.publish(c, false)
		c = tn.finished(c, n)
		if id := tn.publish(c, false); id != c.ID {
			t.Errorf("%d annotations: id %d, then %d", n, c.ID, id)
		}
		if got := tn.took(); got != want {
			t.Errorf("%d annotations: %s", n, got)
		}
		if run := tn.onlyRun(c); run.Status != "completed" || run.Conclusion != "failure" || len(run.Annotations) != n {
			t.Errorf("%d annotations: %s %s with %d", n, run.Status, run.Conclusion, len(run.Annotations))
		}
	}
}

func TestACheckThatIsDoneAtOnceIsOneCallForFiftyAnnotations(t *testing.T) {
	tn := newTown(t)
	for n, want := range map[int]string{
		0:   "check_create completed 0",
		50:  "check_create completed 50",
		51:  "check_create in_progress 50, check_update completed 1",
		120: "check_create in_progress 50, check_update in_progress 50, check_update completed 20",
	} {
		c := tn.finished(tn.pull(fmt.Sprint("once-", n)), n)
		c.Blocked = false
		tn.publish(c, false)
		if got := tn.took(); got != want {
			t.Errorf("%d annotations: %s", n, got)
		}
		if run := tn.onlyRun(c); run.Conclusion != "success" || len(run.Annotations) != n {
			t.Errorf("%d annotations: %s with %d", n, run.Conclusion, len(run.Annotations))
		}
	}
}

func TestACreationWhoseAnswerWasLostIsNotRepeated(t *testing.T) {
	for _, fault := range []githubsim.FaultKind{githubsim.ErrorAfter, githubsim.ResetAfter, githubsim.ErrorBefore, githubsim.Reset} {
		for _, told := range []bool{true, false} {
			t.Run(fmt.Sprint(fault, ", retry said: ", told), func(t *testing.T) {
				tn := newTown(t)
				c := tn.pull("lost")
				tn.sim.Inject(githubsim.Fault{Kind: fault, On: createRoute, Times: 1})
				_, err := tn.app.Publish(t.Context(), c, false)
				var u *Unavailable
				if !errors.As(err, &u) || !u.Ambiguous || !errors.Is(err, gate.ErrGitHubUnavailable) {
					t.Fatal(err)
				}
				if told {
					tn.restart() // only the caller remembers
				}
				c.ID = tn.publish(c, told)
				tn.publish(tn.finished(c, 3), false)
				if run := tn.onlyRun(c); run.Status != "completed" || len(run.Annotations) != 3 {
					t.Errorf("%+v", run)
				}
			})
		}
	}
}

func TestAnUpdateWhoseAnswerWasLostDoesNotDoubleItsAnnotations(t *testing.T) {
	for _, fault := range []githubsim.FaultKind{githubsim.ErrorAfter, githubsim.ResetAfter, githubsim.ErrorBefore, githubsim.Reset} {
		t.Run(string(fault), func(t *testing.T) {
			tn := newTown(t)
			c := tn.pull("lost")
			c.ID = tn.publish(c, false)
			tn.sim.Inject(githubsim.Fault{Kind: fault, On: updateRoute, Times: 1})
			tn.publish(tn.finished(c, 120), false)
			if run := tn.onlyRun(c); run.Status != "completed" || len(run.Annotations) != 120 {
				t.Errorf("%s with %d annotations", run.Status, len(run.Annotations))
			}
		})
	}
}

func TestPublishingAgainAddsOnlyTheAnnotationsThatAreMissing(t *testing.T) {
	tn := newTown(t)
	c := tn.pull("again")
	c.ID = tn.publish(c, false)
	tn.publish(tn.finished(c, 3), false)
	tn.publish(tn.finished(c, 3), false)
	tn.restart()
	tn.publish(tn.finished(c, 5), true)
	if run := tn.onlyRun(c); len(run.Annotations) != 5 {
		t.Errorf("%d annotations", len(run.Annotations))
	}
	tn.took()
	// A run that is looked at again is pending meanwhile.
	c.Title = "Auditing again"
	tn.publish(c, false)
	if run := tn.onlyRun(c); run.Status != "in_progress" || run.Conclusion != "" {
		t.Errorf("%s %s", run.Status, run.Conclusion)
	}
}

func TestARunThatGitHubHasForgottenIsMadeAgain(t *testing.T) {
	tn := newTown(t)
	c := tn.finished(tn.pull("old"), 2)
	c.ID = 999999
	if id := tn.publish(c, false); id == c.ID {
		t.Error("kept the id of a run that is not there")
	}
	if run := tn.onlyRun(c); run.Status != "completed" || len(run.Annotations) != 2 {
		t.Errorf("%+v", run)
	}
}

func TestAnotherAppsCheckOfTheSameNameIsNotTaken(t *testing.T) {
	tn := newTown(t)
	c := tn.pull("two")
	other, err := tn.sim.CreateApp(githubsim.AppSpec{Owner: "acme", Name: "impostor", Key: testKey(), Permissions: map[string]string{"checks": "write"}})
	must(t, err)
	_, err = tn.sim.CreateCheck(other.ID, "acme/shop", c.Head.String(), CheckName, "success")
	must(t, err)
	tn.publish(c, true)
	if all := tn.runs(c); len(all) != 2 {
		t.Errorf("%+v", all)
	}
	// Not even when it carries our external id.
	s := &script{play: func(_ int, r *http.Request) (*http.Response, error) {
		if r.Method == http.MethodGet {
			return reply(200, `{"total_count":1,"check_runs":[{"id":66,"external_id":"run-1","app":{"id":8}}]}`), nil
		}
		return reply(201, madeRun), nil
	}}
	if id, err := newApp(t, s).Publish(t.Context(), someCheck(), true); err != nil || id != 11 {
		t.Errorf("%d, %v", id, err)
	}
}

func TestWhatIsGoneForGoodIsSaidToBe(t *testing.T) {
	for what, spoil := range map[string]func(*town) error{
		"suspended":   func(tn *town) error { return tn.sim.SuspendApp("ada", tn.installation, true) },
		"not found":   func(tn *town) error { return tn.sim.UninstallApp("ada", tn.installation) },
		"archived":    func(tn *town) error { return tn.sim.Archive("ada", "acme/shop", true) },
		"not found: ": func(tn *town) error { return tn.sim.DeleteRepo("ada", "acme/shop") },
		"checks: write": func(tn *town) error {
			return tn.sim.SetPermissions("ada", tn.installation, map[string]string{"contents": "read", "pull_requests": "write", "checks": "read"}, nil)
		},
	} {
		t.Run(what, func(t *testing.T) {
			tn := newTown(t)
			c := tn.pull("gone")
			must(t, spoil(tn))
			var all []error
			if what != "checks: write" { // a token keeps the permissions it was made with
				_, err := tn.app.Publish(t.Context(), c, false)
				all = append(all, err)
			}
			tn.restart()
			_, err := tn.app.Publish(t.Context(), c, false)
			for _, err := range append(all, err) {
				if !errors.Is(err, gate.ErrGitHubGone) || errors.Is(err, gate.ErrGitHubUnavailable) || !strings.Contains(err.Error(), what) {
					t.Errorf("%v", err)
				}
			}
		})
	}
}

func TestARenamedRepositoryKeepsItsChecks(t *testing.T) {
	tn := newTown(t)
	c := tn.pull("renamed")
	_, err := tn.sim.RenameRepo("ada", "acme/shop", "store")
	must(t, err)
	c.ID = tn.publish(c, false)
	tn.publish(tn.finished(c, 1), false)
	all, err := tn.sim.Checks("acme/store", c.Head.String())
	if err != nil || len(all) != 1 || all[0].Status != "completed" {
		t.Errorf("%+v, %v", all, err)
	}
}

func TestGitHubThatIsDownOrImpatientIsUnavailable(t *testing.T) {
	tn := newTown(t)
	c := tn.pull("down")
	c.ID = tn.publish(c, false)
	tn.sim.Down(10 * time.Minute)
	if _, err := tn.app.Publish(t.Context(), tn.finished(c, 60), false); !errors.Is(err, gate.ErrGitHubUnavailable) {
		t.Error(err)
	}
	tn.clock.sleep(t.Context(), 10*time.Minute)
	tn.publish(tn.finished(c, 60), true)
	if run := tn.onlyRun(c); len(run.Annotations) != 60 || run.Status != "completed" {
		t.Errorf("%s with %d annotations", run.Status, len(run.Annotations))
	}
	for _, fault := range []githubsim.Fault{{Kind: githubsim.SecondaryLimit, Times: 1, Delay: 5 * time.Second}, {Kind: githubsim.Unauthorized, Times: 1}} {
		fault.On = createRoute
		tn.sim.Inject(fault)
		tn.publish(tn.pull(strings.ReplaceAll(string(fault.Kind), " ", "-")), false)
	}
}

func TestWhatIsTooLongIsCutAndSaysSo(t *testing.T) {
	tn := newTown(t)
	for i, filler := range []string{"a", "é", "日本", "😀", "a\n"} {
		c := tn.finished(tn.pull(fmt.Sprint("long-", i)), 0)
		c.Title = strings.Repeat(filler, 300)
		c.Summary = "<details>\n```\n" + strings.Repeat(filler, 70000)
		c.Text = strings.Repeat(filler, 70000)
		c.DetailsURL = "javascript:alert(1)"
		c.Annotations = []gate.Annotation{
			{Path: "main.go", StartLine: 3, EndLine: 1, StartColumn: 2, EndColumn: 9, Level: "fatal", Title: c.Title, Message: c.Text},
			{Path: "main.go", StartLine: 0, EndLine: 4, StartColumn: 2, EndColumn: 9},
			{Path: "../etc/passwd", StartLine: 1, EndLine: 1, Message: "x"},
			{Path: "", StartLine: 1, EndLine: 1, Message: "x"},
		}
		for j := range 5 {
			c.Actions = append(c.Actions, gate.Action{Label: c.Title, Description: c.Title, Identifier: fmt.Sprint("a", j)})
		}
		c.Actions = append(c.Actions[:1], append([]gate.Action{{Label: "x", Identifier: strings.Repeat("i", 21)}}, c.Actions[1:]...)...)
		tn.publish(c, false)
		run := tn.onlyRun(c)
		if utf8.RuneCountInString(run.Title) != 255 || !strings.HasSuffix(run.Title, "…") {
			t.Errorf("title %q", run.Title)
		}
		for what, s := range map[string]string{"summary": run.Summary, "text": run.Text} {
			if len(s) > textBytes || len(s) < textBytes-5000 || !utf8.ValidString(s) || !strings.Contains(s, "Cut here") {
				t.Errorf("%s: %d bytes ending in %q", what, len(s), s[max(0, len(s)-90):])
			}
		}
		if !strings.Contains(run.Summary, "```\n</details>") || !strings.Contains(run.Summary, "left out because their path is not one of this repository: 2") {
			t.Errorf("summary ends in %q", run.Summary[len(run.Summary)-300:])
		}
		if len(run.Annotations) != 2 || run.Annotations[0].EndLine != 3 || run.Annotations[0].Level != "warning" || run.Annotations[1].StartLine != 1 || run.Annotations[1].StartColumn != nil || run.Annotations[1].Message == "" {
			t.Errorf("%d annotations: %.300v", len(run.Annotations), run.Annotations)
		}
		if len(run.Actions) != 3 || run.DetailsURL != "" && strings.HasPrefix(run.DetailsURL, "javascript") {
			t.Errorf("actions %+v, details %q", run.Actions, run.DetailsURL)
		}
	}
}

func TestAThousandAnnotationsAreEnough(t *testing.T) {
	s := fit((&town{clock: &handClock{}}).finished(gate.Check{}, 1203))
	if len(s.annotations) != 1000 || !strings.Contains(s.summary, "beyond the first 1000: 203") {
		t.Errorf("%d, %q", len(s.annotations), s.summary)
	}
}

func TestFitKeepsEveryLimitWhateverItIsGiven(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		piece := rapid.SampledFrom([]string{"a", "\n", "```", "~~~~\n", "<details>", "</details>", "😀", "\xff", "é", "`"})
		long := func(label string) string {
			return strings.Repeat(strings.Join(rapid.SliceOfN(piece, 0, 12).Draw(t, label), ""), rapid.SampledFrom([]int{1, 100, 9000, 80000}).Draw(t, label+" times"))
		}
		c := gate.Check{Title: long("title"), Summary: long("summary"), Text: long("text"), Annotations: []gate.Annotation{{
			Path: rapid.String().Draw(t, "path"), StartLine: rapid.Int().Draw(t, "start"), EndLine: rapid.Int().Draw(t, "end"),
			StartColumn: rapid.Int().Draw(t, "from"), EndColumn: rapid.Int().Draw(t, "to"), Message: long("message"),
		}}}
		s := fit(c)
		if n := utf8.RuneCountInString(s.title); n == 0 || n > 255 || len(s.summary) == 0 || len(s.summary) > textBytes || !utf8.ValidString(s.summary) || s.text != nil && len(*s.text) > textBytes {
			t.Fatalf("title %d, summary %d", n, len(s.summary))
		}
		for _, a := range s.annotations {
			if a.GetStartLine() < 1 || a.GetEndLine() < a.GetStartLine() || a.GetMessage() == "" || len(a.GetMessage()) > 64000 || a.StartColumn != nil && (a.GetStartLine() != a.GetEndLine() || a.GetStartColumn() < 1) {
				t.Fatalf("%v", a)
			}
		}
	})
}

func TestThereAreTwoConclusions(t *testing.T) {
	seen := map[string]bool{}
	for _, completed := range []bool{true, false} {
		for _, blocked := range []bool{true, false} {
			for _, last := range []bool{true, false} {
				p := &posting{check: gate.Check{Completed: completed, Blocked: blocked}}
				status, conclusion, _ := p.state(last)
				if (conclusion != nil) != (*status == "completed") {
					t.Errorf("%s with conclusion %v", *status, conclusion)
				}
				if conclusion != nil {
					seen[*conclusion] = true
				}
			}
		}
	}
	if len(seen) != 2 || !seen["success"] || !seen["failure"] {
		t.Errorf("%v", seen)
	}
}

func TestTheForgeListsWhatGitHubHas(t *testing.T) {
	tn := newTown(t)
	first := tn.pull("p0")
	for i := range 104 {
		_, err := tn.sim.Push("ada", "acme/shop", fmt.Sprint("q", i), "Add", githubsim.Files{"x": fmt.Sprint(i)})
		must(t, err)
		_, err = tn.sim.OpenPull("ada", "acme/shop", githubsim.PullSpec{Title: "Q", Head: fmt.Sprint("q", i), Draft: i == 0})
		must(t, err)
	}
	must(t, tn.sim.ClosePull("ada", "acme/shop", 3))
	pulls, err := tn.app.OpenPulls(t.Context(), first.Origin)
	if err != nil || len(pulls) != 104 {
		t.Fatalf("%d pulls, %v", len(pulls), err)
	}
	p := pulls[0]
	if p.Number != 1 || p.Head != first.Head || p.HeadRef != "p0" || p.BaseRef != "main" || !p.Open || p.Author != "ada" || p.AuthorID == 0 || p.HeadRepo == 0 || p.Base.IsZero() || p.UpdatedAt.IsZero() || !pulls[1].Draft {
		t.Errorf("%+v", p)
	}
	if got := tn.took(); got != "pulls, pulls" {
		t.Error(got)
	}
	installations, err := tn.app.Installations(t.Context())
	if err != nil || len(installations) != 1 || installations[0].ID != tn.installation || installations[0].Login != "acme" || installations[0].Account != first.Origin.Repo.Account {
		t.Errorf("%+v, %v", installations, err)
	}
	must(t, tn.sim.SuspendApp("ada", tn.installation, true))
	if installations, err := tn.app.Installations(t.Context()); err != nil || len(installations) != 0 {
		t.Errorf("suspended: %+v, %v", installations, err)
	}
}

func TestAMissedDeliveryIsFoundAndAskedForAgain(t *testing.T) {
	tn := newTown(t)
	must(t, tn.sim.Flush(t.Context()))
	began := tn.clock.now()
	tn.clock.sleep(t.Context(), time.Second)
	tn.inbox.mu.Lock()
	tn.inbox.fail = errors.New("down")
	tn.inbox.mu.Unlock()
	tn.pull("missed")
	must(t, tn.sim.Flush(t.Context()))
	tn.inbox.mu.Lock()
	tn.inbox.fail, tn.inbox.got = nil, nil
	tn.inbox.mu.Unlock()
	list, err := tn.app.Deliveries(t.Context(), began.Add(time.Second))
	must(t, err)
	missed := 0
	for _, d := range list {
		if !d.OK && d.Event == "pull_request" {
			missed++
			must(t, tn.app.Redeliver(t.Context(), d.ID))
		}
	}
	must(t, tn.sim.Flush(t.Context()))
	if missed != 1 || len(tn.inbox.got) != 1 {
		t.Errorf("%d missed, %d came again, of %+v", missed, len(tn.inbox.got), list)
	}
	for _, d := range tn.inbox.got {
		if e := parsed(t, d.Event, d.Body); e.Pull == nil || e.Pull.Action != "opened" || e.Origin.Installation != tn.installation || d.Installation != tn.installation {
			t.Errorf("%+v", e)
		}
	}
}

func TestWhatTheSimulatedGitHubSendsIsUnderstood(t *testing.T) {
	tn := newTown(t)
	c := tn.pull("walk")
	c.ID = tn.publish(c, false)
	tn.publish(tn.finished(c, 1), false)
	must(t, tn.sim.SetDraft("ada", "acme/shop", 1, true))
	must(t, tn.sim.SetDraft("ada", "acme/shop", 1, false))
	must(t, tn.sim.RerunCheck("ada", c.ID))
	must(t, tn.sim.ClosePull("ada", "acme/shop", 1))
	must(t, tn.sim.ReopenPull("ada", "acme/shop", 1))
	_, err := tn.sim.RenameRepo("ada", "acme/shop", "store")
	must(t, err)
	must(t, tn.sim.DeleteBranch("ada", "acme/store", "walk"))
	must(t, tn.sim.DeleteRepo("ada", "acme/store"))
	must(t, tn.sim.Flush(t.Context()))
	saw := map[string]bool{}
	for _, d := range tn.inbox.got {
		e, err := ParseEvent(d.Event, d.Body)
		if err != nil {
			t.Errorf("%s.%s: %v", d.Event, d.Action, err)
		}
		if d.Account.IsZero() || d.Installation != tn.installation {
			t.Errorf("%s.%s: account %q, installation %d", d.Event, d.Action, d.Account, d.Installation)
		}
		if e.Rerun != nil && (e.Rerun.Check != c.ID || e.Rerun.Head != c.Head) {
			t.Errorf("%+v", e.Rerun)
		}
		saw[d.Event+"."+d.Action] = true
	}
	for _, want := range []string{"installation.created", "push.", "pull_request.opened", "pull_request.converted_to_draft", "pull_request.ready_for_review", "pull_request.closed", "pull_request.reopened", "check_run.rerequested", "repository.renamed", "repository.deleted"} {
		if !saw[want] {
			t.Errorf("no %s among %v", want, saw)
		}
	}
	if saw["check_run.created"] || saw["check_run.completed"] {
		t.Error("our own check runs are stored")
	}
}
