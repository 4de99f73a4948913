// Package demo is an organisation on a simulated GitHub to show the product with: people in teams, repositories of plain
// honest code, some weeks of history, and open pull requests that each pose one question. The story is told in files, one
// for each commit and pull request (folder story); everything in it is made up.
//
// The past is lived through rather than written: with [Clock] the simulated GitHub and the App agree on a day some weeks
// ago, people act, the App judges, and then it is the next day. The keys that people leak are put together while the
// program runs, so that no scanner trips over this repository.
package demo

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/noxaudit/noxaudit/internal/githubsim"
)

// Org is the organisation's login.
const Org = "northlight"

// Person is somebody in the demo.
type Person struct {
	Login string
	Note  string // what they are, in a few words
	Role  string // in the organisation: admin, member or "" for an outsider
}

// The people whom the story needs by name.
const (
	Owner    = "maya"  // owns the organisation
	Author   = "jonas" // writes the pull request that leaks a key
	Asker    = "alex"  // has asked for a waiver
	Security = "samir" // may approve waivers everywhere
	Lead     = "lena"  // maintains the payments repositories
	Outsider = "noor"
)

// People are all of them; the first is who a visitor is at first.
var People = []Person{
	{Author, "author, payments team", "member"},
	{Security, "security engineer", "member"},
	{Lead, "maintainer, payments team", "member"},
	{Owner, "owner of the organisation", "admin"},
	{Asker, "author, web and mobile", "member"},
	{"ines", "author, risk team", "member"},
	{"priya", "author, platform team", "member"},
	{"tomas", "maintainer, platform team", "member"},
	{Outsider, "outsider with a fork", ""},
}

type team struct {
	name    string
	members []string
	repos   map[string]githubsim.Permission
}

var teams = []team{
	{"Security", []string{Security}, map[string]githubsim.Permission{
		"payments-api": githubsim.Maintain, "checkout-web": githubsim.Maintain, "risk-model": githubsim.Maintain,
		"infrastructure": githubsim.Maintain, "mobile-app": githubsim.Maintain, "invoices": githubsim.Maintain, "handbook": githubsim.Write}},
	{"Payments", []string{Lead, Author}, map[string]githubsim.Permission{"payments-api": githubsim.Write, "checkout-web": githubsim.Write}},
	{"Web and mobile", []string{Asker}, map[string]githubsim.Permission{"checkout-web": githubsim.Write, "mobile-app": githubsim.Write}},
	{"Risk", []string{"ines"}, map[string]githubsim.Permission{"risk-model": githubsim.Write}},
	{"Platform", []string{"priya", "tomas"}, map[string]githubsim.Permission{"infrastructure": githubsim.Write, "mobile-app": githubsim.Write, "invoices": githubsim.Write}},
}

// maintainers may merge and approve waivers in these repositories.
var maintainers = map[string][]string{Lead: {"payments-api", "checkout-web"}, "tomas": {"infrastructure", "mobile-app", "invoices"}}

// Clock is a clock that can stand in the past and move on by jumps. It never goes back. It is safe for concurrent use.
type Clock struct {
	real func() time.Time

	mu     sync.Mutex
	behind time.Duration
}

// NewClock is a clock that goes right by the one given.
func NewClock(real func() time.Time) *Clock { return &Clock{real: real} }

// Now is the clock's time.
func (c *Clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.real().Add(-c.behind)
}

// Begin sets the clock back to a time in the past. It is for before anything happened.
func (c *Clock) Begin(at time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.behind = c.real().Sub(at)
}

// Jump moves the clock on to a time, unless it is there already, and never past the real one.
func (c *Clock) Jump(to time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.behind = max(min(c.behind, c.real().Sub(to)), 0)
}

// Arrive ends the past: the clock goes right.
func (c *Clock) Arrive() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.behind = 0
}

// Begin is how long ago the recorded past begins, when the App is installed.
const Begin = 42 * 24 * time.Hour

// Found makes the organisation as it was before it knew the App: people, teams, repositories with their first commits.
func Found(sim *githubsim.Server, now time.Time) error {
	for _, p := range People {
		if err := sim.CreateUser(p.Login); err != nil {
			return err
		}
	}
	if err := sim.CreateOrg(Org, Owner); err != nil {
		return err
	}
	for _, p := range People {
		if p.Role != "" && p.Login != Owner {
			if err := sim.SetMember(Owner, Org, p.Login, p.Role); err != nil {
				return err
			}
		}
	}
	if err := foundRepositories(sim, now); err != nil {
		return err
	}
	for _, t := range teams {
		slug, err := sim.CreateTeam(Owner, Org, t.name)
		if err != nil {
			return err
		}
		for _, login := range t.members {
			if err := sim.SetTeamMember(Owner, Org, slug, login, "member"); err != nil {
				return err
			}
		}
		for repo, may := range t.repos {
			if err := sim.SetTeamPermission(Owner, Org, slug, Org+"/"+repo, may); err != nil {
				return err
			}
		}
	}
	for login, repos := range maintainers {
		for _, repo := range repos {
			if err := sim.SetCollaborator(Owner, Org+"/"+repo, login, githubsim.Maintain); err != nil {
				return err
			}
		}
	}
	return nil
}

// foundRepositories makes all repositories at once; each is a handful of calls of git.
func foundRepositories(sim *githubsim.Server, now time.Time) error {
	steps, err := readStory()
	if err != nil {
		return err
	}
	var repos []string
	commits, first := map[string][]githubsim.PastCommit{}, map[string]step{}
	for _, s := range steps {
		if s.kind != "commit" {
			continue
		}
		if _, known := first[s.repo]; !known {
			repos, first[s.repo] = append(repos, s.repo), s
		}
		commits[s.repo] = append(commits[s.repo], githubsim.PastCommit{Author: s.by, At: s.at(now), Message: s.text, Files: s.files})
	}
	for _, repo := range repos {
		full := Org + "/" + repo
		if _, err := sim.CreateRepo(Owner, full, githubsim.RepoSpec{Private: first[repo].private, Description: first[repo].description}); err != nil {
			return err
		}
		if _, err := sim.PushHistory(Owner, full, "main", commits[repo]); err != nil {
			return err
		}
	}
	return nil
}

// Protect makes the App's check required where the organisation has policies, and gives one repository a merge queue.
func Protect(sim *githubsim.Server, app int64, check string) error {
	for _, repo := range []string{"payments-api", "checkout-web", "risk-model", "infrastructure", "handbook"} {
		p := &githubsim.Protection{Required: []githubsim.RequiredCheck{{Context: check, AppID: app}}}
		if repo == "risk-model" {
			// While the past is lived through a day's people move the clock on together, and none may be ejected for it.
			p.Queue = &githubsim.MergeQueue{Timeout: 12 * time.Hour}
		}
		if err := sim.Protect(Owner, Org+"/"+repo, "main", p); err != nil {
			return err
		}
	}
	return nil
}

// Past is what Live needs.
type Past struct {
	Sim   *githubsim.Server
	Clock *Clock
	Now   time.Time // the real one, to which the story's days are counted
	Check string    // name of the check that is waited for
	App   int64     // whose it is
}

// Live lives through the story's weeks: on each day people act and the App answers. It ends in the present.
func (p Past) Live(ctx context.Context) error {
	steps, err := readStory()
	if err != nil {
		return err
	}
	var todo []step
	for _, s := range steps {
		if s.kind != "commit" {
			todo = append(todo, s)
		}
	}
	first := true
	for len(todo) > 0 { // a day at a time; on each day every repository has its own people
		day := todo[0].day
		n := 0
		repos := map[string][]step{}
		for ; n < len(todo) && todo[n].day == day; n++ {
			repos[todo[n].repo] = append(repos[todo[n].repo], todo[n])
		}
		todo = todo[n:]
		today, ctx := errgroup.WithContext(ctx)
		if first { // the first day is not over before the App has looked at everything
			first = false
			today.Go(func() error { return p.firstLook(ctx) })
		}
		for _, steps := range repos {
			today.Go(func() error {
				for _, s := range steps {
					p.Clock.Jump(s.at(p.Now))
					if err := p.play(ctx, s); err != nil {
						return fmt.Errorf("%s: %w", s.text, err)
					}
				}
				return nil
			})
		}
		if err := today.Wait(); err != nil {
			return err
		}
	}
	if err := p.Sim.Flush(ctx); err != nil {
		return err
	}
	p.Clock.Arrive()
	return nil
}

// firstLook waits until the App has looked at every repository that it was installed on: at its newest commit, which may
// be another one by the time.
func (p Past) firstLook(ctx context.Context) error {
	for _, r := range p.Sim.Repos() {
		for seen := false; !seen; {
			tip, err := p.Sim.Commits(r.FullName, r.DefaultBranch, "", 1)
			if err != nil {
				return err
			}
			step, cancel := context.WithTimeout(ctx, time.Second)
			_, err = WaitForCheck(step, p.Sim, r.FullName, tip[0].SHA, p.Check)
			cancel()
			if seen = err == nil; ctx.Err() != nil {
				return err
			}
		}
	}
	return nil
}

// play does one step of the story and waits for the App's answer to it.
func (p Past) play(ctx context.Context, s step) error {
	full := Org + "/" + s.repo
	into, head, from := full, s.branch, full
	if s.fork {
		f, err := p.Sim.Fork(s.by, full)
		if err != nil {
			return err
		}
		from, head = f.FullName, s.by+":"+s.branch
	}
	sha, err := p.Sim.Push(s.by, from, s.branch, s.text, s.files)
	if err != nil {
		return err
	}
	known, err := p.Sim.Pulls(into)
	if err != nil {
		return err
	}
	number := 0
	if s.kind == "pull" {
		pull, err := p.Sim.OpenPull(s.by, into, githubsim.PullSpec{Title: s.text, Body: s.body, Head: head})
		if err != nil {
			return err
		}
		number = pull.Number
	} else {
		for _, o := range known {
			if o.HeadRef == s.branch {
				number = o.Number
			}
		}
	}
	if _, err := WaitForCheck(ctx, p.Sim, into, sha, p.Check); err != nil {
		return err
	}
	if s.ask != "" {
		if err := p.talk(ctx, s, into, sha, number); err != nil {
			return err
		}
	}
	if s.review+s.merge+s.close != "" {
		p.Clock.Jump(s.at(p.Now).Add(50 * time.Minute))
	}
	if s.review != "" {
		if _, err := p.Sim.SubmitReview(s.review, into, number, "approved", ""); err != nil {
			return err
		}
	}
	switch {
	case s.close != "":
		return p.Sim.ClosePull(s.close, into, number)
	case s.merge != "":
		if protection, err := p.Sim.ProtectionOf(into, "main"); err != nil {
			return err
		} else if protection != nil && protection.Queue != nil {
			group, err := p.Sim.Enqueue(s.merge, into, number)
			if err != nil {
				return err
			}
			if _, err := WaitForCheck(ctx, p.Sim, into, group, p.Check); err != nil {
				return err
			}
			now, err := p.Sim.Pull(into, number)
			if err == nil && !now.Merged {
				err = errors.New("the merge queue did not merge it")
			}
			return err
		}
		merged, err := p.Sim.Merge(s.merge, into, number, false)
		if err != nil {
			return err
		}
		_, err = WaitForCheck(ctx, p.Sim, into, merged, p.Check)
		return err
	}
	return nil
}

// WaitForCheck waits for a finished check run of that name on a commit and returns it.
func WaitForCheck(ctx context.Context, sim *githubsim.Server, repo, sha, check string) (githubsim.Check, error) {
	for {
		all, err := sim.Checks(repo, sha)
		if err != nil {
			return githubsim.Check{}, err
		}
		for _, c := range all {
			if c.Name == check && c.Status == "completed" {
				return c, nil
			}
		}
		select {
		case <-ctx.Done():
			return githubsim.Check{}, fmt.Errorf("no finished check %q on %s of %s: %w", check, sha[:7], repo, ctx.Err())
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// AppName is the App's slug on the simulated GitHub.
const AppName = "noxaudit"

// App is the GitHub App, with the permissions and events of app.yml.
func App() githubsim.AppSpec {
	return githubsim.AppSpec{
		Owner: Org, Name: AppName,
		Permissions: map[string]string{"contents": "read", "checks": "write", "pull_requests": "write", "issues": "read", "members": "read", "merge_queues": "read"},
		Events: []string{"pull_request", "push", "merge_group", "check_run", "check_suite", "repository", "member", "membership", "team", "organization",
			"issue_comment", "pull_request_review", "pull_request_review_comment"},
	}
}
