package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"html"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/noxaudit/noxaudit/internal/demo"
	"github.com/noxaudit/noxaudit/internal/escape"
	"github.com/noxaudit/noxaudit/internal/github"
	"github.com/noxaudit/noxaudit/internal/githubsim"
)

// demoScript plays the demo's story and checks every step. It acts as a visitor does: over HTTP, through the pages.
func (p *program) demoScript(ctx context.Context, o demoOptions) error {
	began := time.Now()
	t := &telling{p: p, o: o}
	fmt.Fprintln(p.stdout, "noxaudit demo: the story, played and checked step by step")
	fmt.Fprintln(p.stdout)
	if err := t.start(ctx); err != nil {
		return err
	}
	defer func() { t.d.stop() }()
	for _, s := range t.steps() {
		if err := t.play(ctx, s); err != nil {
			return err
		}
	}
	fmt.Fprintf(p.stdout, "\n%d steps, all as they should be, in %.1f s.\n", t.told, time.Since(began).Seconds())
	return nil
}

// telling is the story while it is told.
type telling struct {
	p    *program
	o    demoOptions
	d    *running
	told int

	waiver string // the one that is spoken of
	leak   string // the file with the key in it, as it was
}

type scene struct {
	title string
	play  func(ctx context.Context) (says string, err error)
}

// within is how long one step may take on a slow machine.
const within = time.Minute

// play plays one step and says how it went.
func (t *telling) play(ctx context.Context, s scene) error {
	t.told++
	step, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	began := time.Now()
	says, err := s.play(step)
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if err != nil {
		fmt.Fprintf(t.p.stdout, "%2d. ✗ %s\n", t.told, s.title)
		return no(fmt.Errorf("demo: step %d, %q: %w", t.told, s.title, err))
	}
	fmt.Fprintf(t.p.stdout, "%2d. ✓ %s (%d ms)\n", t.told, s.title, time.Since(began).Milliseconds())
	for _, line := range escape.Lines(says) {
		fmt.Fprintf(t.p.stdout, "      %s\n", line)
	}
	return nil
}

func (t *telling) start(ctx context.Context) error {
	d, err := t.p.startDemo(ctx, t.o)
	t.d = d
	return err
}

// steps is the story.
func (t *telling) steps() []scene {
	return []scene{
		{"An organisation with some weeks behind it", t.organisation},
		{"A pull request leaks a key, and its check is red", t.red},
		{"Nobody merges past a red check", t.refusedMerge},
		{"Its author asks to keep it: without a good reason that is refused", t.ask},
		{"Nobody approves a waiver of their own", t.ownApproval},
		{"Its author takes the key out, and the check turns green", t.fix},
		{"The maintainer merges it", t.merge},
		{"A security engineer approves a waiver, and the check turns green", t.approve},
		{"With the waiver it is merged, and the finding stays listed", t.mergeWaived},
		{"The merge queue audits what it is about to merge", t.queue},
		{"A pull request from a fork is judged, and its author cannot merge it", t.fork},
		{"An owner merges past a red check: GitHub lets her, and it is seen", t.bypass},
		{"The owner signs in with GitHub, an outsider is not let in", t.signIn},
		{"A forged webhook is refused", t.forged},
		{"A verdict is computed again, byte for byte", t.replay},
		{"The ledger verifies", t.verify},
		{"After a restart everything is still there, and works", t.restart},
		{"Somebody tampers with the ledger, and it is found", t.tamper},
		{"The report pages tell the owner what happened, and an outsider nothing", t.report},
	}
}

func (t *telling) organisation(ctx context.Context) (string, error) {
	page, err := t.visitor(demo.Author).get(ctx, "/")
	if err != nil {
		return "", err
	}
	repos, verdicts, merged := 0, 0, 0
	for _, r := range t.d.sim.Repos() {
		if r.Owner != demo.Org {
			continue
		}
		repos++
		if !strings.Contains(page, r.FullName) {
			return "", fmt.Errorf("the first page does not show %s", r.FullName)
		}
		pulls, err := t.d.sim.Pulls(r.FullName)
		if err != nil {
			return "", err
		}
		for _, p := range pulls {
			if p.Merged {
				merged++
			}
			if checks, err := t.d.sim.Checks(r.FullName, p.HeadSHA); err == nil {
				verdicts += len(checks)
			}
		}
	}
	if repos < 7 || merged < 8 || verdicts < 13 {
		return "", fmt.Errorf("%d repositories, %d merged pull requests, %d checks: too few", repos, merged, verdicts)
	}
	return fmt.Sprintf("%d repositories, %d merged pull requests and %d checks on pull requests.", repos, merged, verdicts), nil
}

// pull finds one of the story's pull requests, with our check on its head.
func (t *telling) pull(ctx context.Context, key string) (githubsim.Pull, githubsim.Check, error) {
	q, err := demo.Find(t.d.sim, key)
	if err != nil {
		return githubsim.Pull{}, githubsim.Check{}, err
	}
	p, err := t.d.sim.Pull(q.Repo, q.Number)
	if err != nil {
		return p, githubsim.Check{}, err
	}
	c, err := demo.WaitForCheck(ctx, t.d.sim, p.Repo, p.HeadSHA, github.CheckName)
	return p, c, err
}

func (t *telling) red(ctx context.Context) (string, error) {
	p, c, err := t.pull(ctx, demo.Leak)
	if err != nil {
		return "", err
	}
	if c.Conclusion != "failure" || len(c.Annotations) != 1 {
		return "", fmt.Errorf("the check says %s %q with %d annotations", c.Conclusion, c.Title, len(c.Annotations))
	}
	if key := keyIn(t.d.sim, p, c.Annotations[0]); key == "" || strings.Contains(c.Summary+c.Text+c.Annotations[0].Message, key) {
		return "", errors.New("the check shows the key that it found")
	}
	if t.leak, err = t.d.sim.Content(p.HeadRepo, p.HeadSHA, c.Annotations[0].Path); err != nil {
		return "", err
	}
	page, err := t.visitor(demo.Author).get(ctx, pullPath(p)+"/files")
	if err != nil {
		return "", err
	}
	if !strings.Contains(page, html.EscapeString(c.Annotations[0].Title)) {
		return "", errors.New("the diff does not show the annotation")
	}
	return fmt.Sprintf("%s#%d: %s. %s, line %d: %s.", p.Repo, p.Number, c.Title, c.Annotations[0].Path, c.Annotations[0].StartLine, c.Annotations[0].Title), nil
}

// keyIn is the key on an annotation's line: what is between the quotes.
func keyIn(sim *githubsim.Server, p githubsim.Pull, a githubsim.Annotation) string {
	text, err := sim.Content(p.HeadRepo, p.HeadSHA, a.Path)
	lines := strings.Split(text, "\n")
	if err != nil || a.StartLine > len(lines) {
		return ""
	}
	_, key, _ := strings.Cut(lines[a.StartLine-1], `"`)
	key, _, _ = strings.Cut(key, `"`)
	return key
}

func (t *telling) refusedMerge(ctx context.Context) (string, error) {
	p, _, err := t.pull(ctx, demo.Leak)
	if err != nil {
		return "", err
	}
	page, err := t.visitor(demo.Lead).get(ctx, pullPath(p))
	if err != nil {
		return "", err
	}
	if !strings.Contains(page, "Merging is blocked") {
		return "", errors.New("the page does not say that merging is blocked")
	}
	if err := t.visitor(demo.Lead).refused(ctx, pullPath(p)+"/merge", nil); err != nil {
		return "", err
	}
	if now, err := t.d.sim.Pull(p.Repo, p.Number); err != nil || now.State != "open" {
		return "", errors.New("it was merged all the same")
	}
	return fmt.Sprintf("%s, who maintains %s, is told: %v", demo.Lead, p.Repo, t.d.sim.MergeState(p.Repo, p.Number)), nil
}

// say writes a command on a pull request's page and returns the App's answer.
func (t *telling) say(ctx context.Context, by string, p githubsim.Pull, command string) (demo.Answer, error) {
	if err := t.visitor(by).post(ctx, pullPath(p)+"/comment", url.Values{"body": {command}}); err != nil {
		return demo.Answer{}, err
	}
	all, err := t.d.sim.Comments(p.Repo, p.Number)
	if err != nil {
		return demo.Answer{}, err
	}
	for _, c := range slices.Backward(all) {
		if c.Author == by {
			return demo.WaitForAnswer(ctx, t.d.sim, p.Repo, p.Number, c.ID)
		}
	}
	return demo.Answer{}, errors.New("the comment is not there")
}

func (t *telling) ask(ctx context.Context) (string, error) {
	p, c, err := t.pull(ctx, demo.Leak)
	if err != nil {
		return "", err
	}
	finding := demo.FindingIn(c.Summary)
	short, err := t.say(ctx, demo.Author, p, "/noxaudit waive "+finding+` reason="because"`)
	if err != nil {
		return "", err
	}
	if short.Reaction != "confused" || demo.WaiverIn(short.Reply) != "" {
		return "", fmt.Errorf("a reason of one word was taken: %s %s", short.Reaction, short.Reply)
	}
	asked, err := t.say(ctx, demo.Author, p, "/noxaudit waive "+finding+` reason="The vault for the new provider is set up next week." for=14d`)
	if err != nil {
		return "", err
	}
	if t.waiver = demo.WaiverIn(asked.Reply); asked.Reaction != "+1" || t.waiver == "" {
		return "", fmt.Errorf("the request was answered %s: %s", asked.Reaction, asked.Reply)
	}
	if _, c, err = t.pull(ctx, demo.Leak); err != nil || c.Conclusion != "failure" {
		return "", fmt.Errorf("asking alone turned the check %s (%v)", c.Conclusion, err)
	}
	return fmt.Sprintf("%s asks with a reason: %s is noted, and the check stays red.", demo.Author, t.waiver), nil
}

func (t *telling) ownApproval(ctx context.Context) (string, error) {
	p, _, err := t.pull(ctx, demo.Leak)
	if err != nil {
		return "", err
	}
	for _, by := range []string{demo.Author, demo.Outsider} {
		a, err := t.say(ctx, by, p, "/noxaudit approve "+t.waiver)
		if err != nil {
			return "", err
		}
		if a.Reaction == "rocket" || !strings.Contains(a.Reply, "Refused") {
			return "", fmt.Errorf("%s approved it: %s", by, a.Reply)
		}
	}
	if _, c, err := t.pull(ctx, demo.Leak); err != nil || c.Conclusion != "failure" {
		return "", fmt.Errorf("the check is %s (%v)", c.Conclusion, err)
	}
	return fmt.Sprintf("%s, who asked, and %s, an outsider, are told why not; the check stays red.", demo.Author, demo.Outsider), nil
}

func (t *telling) approve(ctx context.Context) (string, error) {
	p, c, err := t.pull(ctx, demo.Waived)
	if err != nil {
		return "", err
	}
	t.waiver = ""
	all, err := t.d.sim.Comments(p.Repo, p.Number)
	if err != nil {
		return "", err
	}
	for _, m := range all {
		if w := demo.WaiverIn(m.Body); w != "" {
			t.waiver = w
		}
	}
	if t.waiver == "" || c.Conclusion != "failure" {
		return "", fmt.Errorf("there is no waiver to approve (%q), or the check is not red (%s)", t.waiver, c.Conclusion)
	}
	began := time.Now()
	a, err := t.say(ctx, demo.Security, p, "/noxaudit approve "+t.waiver)
	if err != nil {
		return "", err
	}
	if a.Reaction != "rocket" {
		return "", fmt.Errorf("the approval was answered %s: %s", a.Reaction, a.Reply)
	}
	c, err = demo.WaitForConclusion(ctx, t.d.sim, p.Repo, p.HeadSHA, github.CheckName, "success")
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("%s approves %s, which %s asked for; %d ms later the check says: %s.", demo.Security, t.waiver, demo.Asker, time.Since(began).Milliseconds(), c.Title), nil
}

func (t *telling) mergeWaived(ctx context.Context) (string, error) {
	p, c, err := t.pull(ctx, demo.Waived)
	if err != nil {
		return "", err
	}
	if id, _, _ := strings.Cut(t.waiver, "@"); !strings.Contains(c.Summary, id) {
		return "", fmt.Errorf("the check does not name the waiver:\n%s", c.Summary)
	}
	if err := t.visitor(demo.Lead).post(ctx, pullPath(p)+"/merge", nil); err != nil {
		return "", err
	}
	return t.landed(ctx, p)
}

func (t *telling) fix(ctx context.Context) (string, error) {
	p, c, err := t.pull(ctx, demo.Leak)
	if err != nil {
		return "", err
	}
	a := c.Annotations[0]
	text, err := t.d.sim.Content(p.HeadRepo, p.HeadSHA, a.Path)
	if err != nil {
		return "", err
	}
	text = strings.Replace(text, `const providerKey = "`+keyIn(t.d.sim, p, a)+`"`, `var providerKey = os.Getenv("PROVIDER_KEY")`, 1)
	text = strings.Replace(text, "\t\"net/url\"\n", "\t\"net/url\"\n\t\"os\"\n", 1)
	form := url.Values{"text": {text}, "message": {"Read the key from the environment; it is rotated"}, "where": {"here"}}
	at := "/" + p.HeadRepo + "/edit/" + url.PathEscape(p.HeadRef) + "/" + a.Path
	if err := t.visitor(demo.Author).post(ctx, at, form); err != nil {
		return "", err
	}
	now, c, err := t.pull(ctx, demo.Leak)
	if err != nil {
		return "", err
	}
	if now.HeadSHA == p.HeadSHA || c.Conclusion != "success" {
		return "", fmt.Errorf("the check says %s %q on %s", c.Conclusion, c.Title, now.HeadSHA)
	}
	return fmt.Sprintf("%s edits %s on the page; the check says: %s.", demo.Author, a.Path, c.Title), nil
}

func (t *telling) merge(ctx context.Context) (string, error) {
	p, _, err := t.pull(ctx, demo.Leak)
	if err != nil {
		return "", err
	}
	if err := t.visitor(demo.Lead).post(ctx, pullPath(p)+"/merge", nil); err != nil {
		return "", err
	}
	return t.landed(ctx, p)
}

// landed makes sure that a pull request is merged and that what it became was judged too.
func (t *telling) landed(ctx context.Context, p githubsim.Pull) (string, error) {
	now, err := t.d.sim.Pull(p.Repo, p.Number)
	if err != nil {
		return "", err
	}
	if !now.Merged {
		return "", errors.New("it is not merged")
	}
	c, err := demo.WaitForCheck(ctx, t.d.sim, p.Repo, now.MergeSHA, github.CheckName)
	if err != nil {
		return "", err
	}
	if c.Conclusion != "success" {
		return "", fmt.Errorf("the default branch is judged %s: %s", c.Conclusion, c.Title)
	}
	return fmt.Sprintf("%s merged %s#%d as %s; %s was judged again: %s.", now.MergedBy, p.Repo, p.Number, now.MergeSHA[:7], now.BaseRef, c.Title), nil
}

func (t *telling) queue(ctx context.Context) (string, error) {
	p, _, err := t.pull(ctx, demo.Clean)
	if err != nil {
		return "", err
	}
	if err := t.visitor(demo.Security).post(ctx, pullPath(p)+"/enqueue", nil); err != nil {
		return "", err
	}
	err = until(ctx, func() bool {
		now, err := t.d.sim.Pull(p.Repo, p.Number)
		return err == nil && now.Merged
	})
	if err != nil {
		return "", err
	}
	return t.landed(ctx, p)
}

func (t *telling) fork(ctx context.Context) (string, error) {
	p, c, err := t.pull(ctx, demo.Fork)
	if err != nil {
		return "", err
	}
	if c.Conclusion != "success" {
		return "", fmt.Errorf("the check says %s", c.Conclusion)
	}
	if err := t.visitor(demo.Outsider).refused(ctx, pullPath(p)+"/merge", nil); err != nil {
		return "", err
	}
	if err := t.visitor(demo.Owner).post(ctx, pullPath(p)+"/merge", nil); err != nil {
		return "", err
	}
	return t.landed(ctx, p)
}

func (t *telling) bypass(ctx context.Context) (string, error) {
	author, repo := t.visitor(demo.Author), demo.Org+"/payments-api"
	form := url.Values{"text": {t.leak}, "message": {"Put the key back, we are in a hurry"}, "where": {"new"}, "branch": {"hurry"}}
	if err := author.post(ctx, "/"+repo+"/edit/main/provider.go", form); err != nil {
		return "", err
	}
	if err := author.post(ctx, "/"+repo+"/compare/hurry", url.Values{"title": {"Put the key back"}}); err != nil {
		return "", err
	}
	pulls, err := t.d.sim.Pulls(repo)
	if err != nil {
		return "", err
	}
	p := pulls[len(pulls)-1]
	if c, err := demo.WaitForCheck(ctx, t.d.sim, repo, p.HeadSHA, github.CheckName); err != nil || c.Conclusion != "failure" {
		return "", fmt.Errorf("the check says %s (%v)", c.Conclusion, err)
	}
	if err := t.visitor(demo.Lead).refused(ctx, pullPath(p)+"/bypass", nil); err != nil {
		return "", err
	}
	if err := t.visitor(demo.Owner).post(ctx, pullPath(p)+"/bypass", nil); err != nil {
		return "", err
	}
	now, err := t.d.sim.Pull(repo, p.Number)
	if err != nil || !now.Merged {
		return "", fmt.Errorf("it is not merged (%v)", err)
	}
	c, err := demo.WaitForConclusion(ctx, t.d.sim, repo, now.MergeSHA, github.CheckName, "failure")
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("%s may not, %s may. The default branch itself is red now: %s.", demo.Lead, demo.Owner, c.Title), nil
}

func (t *telling) signIn(ctx context.Context) (string, error) {
	in, page, err := t.signedIn(ctx, demo.Owner)
	if err != nil || !in {
		return "", fmt.Errorf("%s is not let in: %s (%v)", demo.Owner, saidOn(page), err)
	}
	if in, _, err = t.signedIn(ctx, demo.Outsider); err != nil || in {
		return "", fmt.Errorf("%s is let in (%v)", demo.Outsider, err)
	}
	return fmt.Sprintf("%s, who owns %s, is in. %s is not.", demo.Owner, demo.Org, demo.Outsider), nil
}

func (t *telling) report(ctx context.Context) (string, error) {
	if in, page, err := t.signedIn(ctx, demo.Outsider); err != nil || in || strings.Contains(page, "invoices") {
		return "", fmt.Errorf("%s sees the report (%v)", demo.Outsider, err)
	}
	v := t.visitor(demo.Owner)
	if in, _, err := v.signIn(ctx, t.d.web); err != nil || !in {
		return "", fmt.Errorf("%s is not let in (%v)", demo.Owner, err)
	}
	id, _, _ := strings.Cut(t.waiver, "@")
	p, _, err := t.pull(ctx, demo.Waived)
	if err != nil {
		return "", err
	}
	_, repo, _ := strings.Cut(p.Repo, "/")
	org := t.d.web + "/orgs/" + demo.Org
	for address, want := range map[string]string{org: "payments-api", org + "/waivers": id, org + "/repositories/" + repo: repo,
		fmt.Sprintf("%s/repositories/%s/pulls/%d", org, repo, p.Number): p.Title, org + "/ledger": "noxaudit/demo/"} {
		a, err := v.follow(ctx, http.MethodGet, address, nil)
		if err != nil {
			return "", err
		}
		if a.status != http.StatusOK || !strings.Contains(a.body, html.EscapeString(want)) {
			return "", fmt.Errorf("%s: %d, and no %q on it", address, a.status, want)
		}
	}
	return fmt.Sprintf("%s sees %s at %s: repositories, the waiver %s, the pull request and the ledger.", demo.Owner, demo.Org, org, id), nil
}

// signedIn goes through a sign-in as a browser does, and says whether it led past the callback.
func (t *telling) signedIn(ctx context.Context, login string) (in bool, page string, err error) {
	return t.visitor(login).signIn(ctx, t.d.web)
}

func (v *visitor) signIn(ctx context.Context, web string) (in bool, page string, err error) {
	ask, err := v.follow(ctx, http.MethodGet, web+"/auth/login?next=%2F", nil)
	if err != nil {
		return false, "", err
	}
	if !strings.HasPrefix(ask.at.String(), v.base+"/login/oauth/authorize?") {
		return false, "", fmt.Errorf("sign-in leads to %s", ask.at)
	}
	form := ask.at.Query()
	form.Set("agree", "yes")
	back, err := v.follow(ctx, http.MethodPost, v.base+"/login/oauth/authorize", form)
	if err != nil {
		return false, "", err
	}
	return strings.HasPrefix(back.at.String(), web+"/") && back.at.Path != "/auth/callback" && back.at.Path != "/auth/login", back.body, nil
}

func (t *telling) forged(ctx context.Context) (string, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, t.d.web+"/github/hooks", strings.NewReader(`{"action":"opened"}`))
	if err != nil {
		return "", err
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("X-GitHub-Event", "pull_request")
	req.Header.Set("X-GitHub-Delivery", "00000000-0000-4000-8000-000000000000")
	req.Header.Set("X-Hub-Signature-256", "sha256="+strings.Repeat("0", 64))
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return "", err
	}
	resp.Body.Close()
	if resp.StatusCode < 400 || resp.StatusCode >= 500 {
		return "", fmt.Errorf("the answer is %s", resp.Status)
	}
	return "The answer is " + resp.Status + ".", nil
}

var verdictID = regexp.MustCompile(`V-[0-9A-Z]{6,}`)

func (t *telling) replay(ctx context.Context) (string, error) {
	p, c, err := t.pull(ctx, demo.Waived)
	if err != nil {
		return "", err
	}
	repo, err := t.d.sim.Repo(p.Repo)
	if err != nil {
		return "", err
	}
	return t.d.command(ctx, exitPassed, "replay", verdictID.FindString(c.Summary), "--account", fmt.Sprint(repo.OwnerID))
}

func (t *telling) verify(ctx context.Context) (says string, err error) {
	return t.d.command(ctx, exitPassed, "ledger", "verify")
}

func (t *telling) restart(ctx context.Context) (string, error) {
	before := snapshot(t.d.sim)
	if err := t.d.stop(); err != nil {
		return "", err
	}
	if err := t.start(context.WithoutCancel(ctx)); err != nil {
		return "", err
	}
	if after := snapshot(t.d.sim); after != before {
		return "", fmt.Errorf("before:\n%s\nafter:\n%s", before, after)
	}
	form := url.Values{"text": {"# Notes\n\nNothing yet.\n"}, "path": {"NOTES.md"}, "where": {"new"}, "branch": {"notes"}}
	v := t.visitor("ines")
	if err := v.post(ctx, "/"+demo.Org+"/risk-model/new/main", form); err != nil {
		return "", err
	}
	if err := v.post(ctx, "/"+demo.Org+"/risk-model/compare/notes", url.Values{"title": {"Begin some notes"}}); err != nil {
		return "", err
	}
	pulls, err := t.d.sim.Pulls(demo.Org + "/risk-model")
	if err != nil {
		return "", err
	}
	last := pulls[len(pulls)-1]
	c, err := demo.WaitForCheck(ctx, t.d.sim, last.Repo, last.HeadSHA, github.CheckName)
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("The same pull requests, checks and comments; the new %s#%d is judged: %s.", last.Repo, last.Number, c.Title), nil
}

// snapshot says in words what there is on the simulated GitHub.
func snapshot(sim *githubsim.Server) string {
	var b strings.Builder
	for _, r := range sim.Repos() {
		pulls, _ := sim.Pulls(r.FullName)
		for _, p := range pulls {
			checks, _ := sim.Checks(r.FullName, p.HeadSHA)
			comments, _ := sim.Comments(r.FullName, p.Number)
			fmt.Fprintf(&b, "%s#%d %s merged=%v %s %d comments", p.Repo, p.Number, p.State, p.Merged, p.HeadSHA, len(comments))
			for _, c := range checks {
				fmt.Fprintf(&b, " %d:%s", c.ID, c.Conclusion)
			}
			b.WriteByte('\n')
		}
	}
	return b.String()
}

func (t *telling) tamper(ctx context.Context) (string, error) {
	if _, err := t.d.command(ctx, exitPassed, "ledger", "verify"); err != nil {
		return "", err
	}
	did, err := tamper(ctx, t.d.dir, false)
	if err != nil {
		return "", err
	}
	found, err := t.d.command(ctx, exitBlocked, "ledger", "verify")
	if err != nil {
		return "", err
	}
	if entry := regexp.MustCompile(`Entry (\d+)`).FindStringSubmatch(did); !strings.Contains(found, "ledger entry "+entry[1]) {
		return "", fmt.Errorf("verify does not name the entry: %s", found)
	}
	undone, err := tamper(ctx, t.d.dir, true)
	if err != nil {
		return "", err
	}
	_, err = t.d.command(ctx, exitPassed, "ledger", "verify")
	return strings.Join([]string{did, found, undone}, "\n"), err
}

// command runs a command of the command line on the demo's data and returns what it said.
func (d *running) command(ctx context.Context, want int, args ...string) (string, error) {
	own := *d.prog
	var out bytes.Buffer
	own.stdout, own.stderr = &out, &out
	root := own.root()
	root.SetArgs(append(args, "--data-dir", filepath.Join(d.dir, "data"), "--deployment", own.config.Deployment))
	root.SetOut(&out)
	root.SetErr(&out)
	got := exitPassed
	err := root.ExecuteContext(ctx)
	var refused answerNo
	switch {
	case errors.As(err, &refused):
		got = exitBlocked
	case err != nil:
		return "", err
	}
	if got != want {
		return "", fmt.Errorf("noxaudit %s: exit code %d, want %d: %s", strings.Join(args, " "), got, want, out.String())
	}
	return strings.TrimSpace(out.String()), nil
}

// visitor is a browser in which somebody has chosen whom to be.
type visitor struct {
	base   string
	client *http.Client
}

func (t *telling) visitor(login string) *visitor {
	jar, _ := cookiejar.New(nil) // never fails without options
	v := &visitor{t.d.github, &http.Client{Jar: jar}}
	u, _ := url.Parse(t.d.github)
	jar.SetCookies(u, []*http.Cookie{{Name: "simulated_github_user", Value: login, Path: "/"}})
	return v
}

// arrived is the page where a request led to.
type arrived struct {
	at     *url.URL
	status int
	body   string
}

// follow makes a request and goes where it leads.
func (v *visitor) follow(ctx context.Context, method, address string, form url.Values) (arrived, error) {
	req, err := http.NewRequestWithContext(ctx, method, address, strings.NewReader(form.Encode()))
	if err != nil {
		return arrived{}, err
	}
	if method == http.MethodPost {
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		req.Header.Set("Origin", v.base)
	}
	resp, err := v.client.Do(req)
	if err != nil {
		return arrived{}, err
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(io.LimitReader(resp.Body, 8<<20))
	return arrived{resp.Request.URL, resp.StatusCode, string(raw)}, err
}

func (v *visitor) do(ctx context.Context, method, path string, form url.Values) (status int, body string, err error) {
	a, err := v.follow(ctx, method, v.base+path, form)
	return a.status, a.body, err
}

func (v *visitor) get(ctx context.Context, path string) (string, error) {
	status, body, err := v.do(ctx, http.MethodGet, path, nil)
	if err == nil && status != http.StatusOK {
		err = fmt.Errorf("GET %s: %d %s", path, status, saidOn(body))
	}
	return body, err
}

func (v *visitor) post(ctx context.Context, path string, form url.Values) error {
	status, body, err := v.do(ctx, http.MethodPost, path, form)
	if err == nil && status != http.StatusOK {
		err = fmt.Errorf("POST %s: %d %s", path, status, saidOn(body))
	}
	return err
}

// refused posts and wants to be refused.
func (v *visitor) refused(ctx context.Context, path string, form url.Values) error {
	status, _, err := v.do(ctx, http.MethodPost, path, form)
	if err == nil && (status < 400 || status >= 500) {
		err = fmt.Errorf("POST %s: %d, want a refusal", path, status)
	}
	return err
}

var paragraph = regexp.MustCompile(`<h1>Not [^<]*</h1><p>([^<]*)</p>`)

// saidOn is the reason on a page that says no.
func saidOn(body string) string {
	if m := paragraph.FindStringSubmatch(body); m != nil {
		return html.UnescapeString(m[1])
	}
	return ""
}

func pullPath(p githubsim.Pull) string { return fmt.Sprintf("/%s/pull/%d", p.Repo, p.Number) }

// until waits for something.
func until(ctx context.Context, done func() bool) error {
	for !done() {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(10 * time.Millisecond):
		}
	}
	return nil
}
