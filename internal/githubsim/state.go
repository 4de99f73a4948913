package githubsim

import (
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// What is saved: everything but installation tokens, codes, limits, faults, the log of calls and webhooks on their way.
// Things name each other by their ids; 0 is nothing.
type (
	savedState struct {
		LastID        int64
		Accounts      []savedAccount
		Apps          []savedApp
		Repos         []savedRepo
		Installations []savedInstallation
		Tokens        []savedToken
		Deliveries    []Delivery
		Moved         map[string]int64
	}
	savedAccount struct {
		ID                       int64
		Login, Kind, Name, Email string
		Created                  time.Time
		Members                  map[int64]string
		Teams                    []savedTeam
	}
	savedTeam struct {
		ID         int64
		Name, Slug string
		Members    map[int64]string
		Repos      map[int64]Permission
		Created    time.Time
	}
	savedApp struct {
		ID, Owner, Bot         int64
		Name, Slug             string
		Key                    []byte
		Permissions            map[string]string
		Events                 []string
		HookURL, Secret        string
		ClientID, ClientSecret string
		Callbacks              []string
		UserTokensEnd          bool
		Created                time.Time
	}
	savedInstallation struct {
		ID, App, Account   int64
		All                bool
		Repos              []int64
		Permissions        map[string]string
		Events             []string
		Created, Suspended time.Time
		Suspender          int64
	}
	savedToken struct {
		Value     string
		User, App int64
		Expires   time.Time
	}
	savedRepo struct {
		ID, Owner, Parent                int64
		Name, Description, DefaultBranch string
		Private, Archived                bool
		Created, Pushed                  time.Time
		Collaborators                    map[int64]Permission
		Numbers                          int
		Protections                      map[string]*Protection
		NoSuites                         map[int64]bool
		Pulls                            []savedPull
		Queues                           map[string][]savedEntry
		Suites                           []savedSuite
	}
	savedPull struct {
		ID, Author, HeadRepo, HeadOwner, MergedBy    int64
		Number                                       int
		Title, Body, State                           string
		Draft, Merged, Mergeable                     bool
		HeadRef, HeadSHA, BaseRef, BaseSHA, MergeSHA string
		Created, Updated, Closed, MergedAt           time.Time
		Commits, Additions, Deletions, ChangedFiles  int
		Comments                                     []savedComment
		Reviews                                      []savedReview
	}
	savedComment struct {
		ID, Author       int64
		Body             string
		Created, Updated time.Time
		Reactions        []savedReaction
	}
	savedReaction struct {
		ID, Author int64
		Content    string
		Created    time.Time
	}
	savedReview struct {
		ID, Author       int64
		Body, State, SHA string
		Submitted        time.Time
	}
	savedEntry struct {
		Number             int
		By                 int64
		Base, Head, Branch string
		Since              time.Time
	}
	savedSuite struct {
		ID, App             int64
		SHA, Branch, Before string
		Created, Updated    time.Time
		Runs                []Check
	}
)

func (s *Server) statePath() string { return filepath.Join(s.opts.Dir, "state.json") }

// Save writes the state beside the repositories. New on the same directory begins with it.
func (s *Server) Save() error {
	s.mu.Lock()
	raw, err := json.Marshal(s.flatten())
	s.mu.Unlock()
	if err != nil {
		return fmt.Errorf("githubsim: %w", err)
	}
	next := s.statePath() + ".new"
	if err := os.WriteFile(next, raw, 0o600); err != nil {
		return fmt.Errorf("githubsim: %w", err)
	}
	return os.Rename(next, s.statePath())
}

// load reads what Save wrote; nothing saved is no error.
func (s *Server) load() error {
	raw, err := os.ReadFile(s.statePath())
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	var v savedState
	if err := json.Unmarshal(raw, &v); err != nil {
		return fmt.Errorf("%s: %w", s.statePath(), err)
	}
	return s.unflatten(v)
}

func idOf(a *account) int64 {
	if a == nil {
		return 0
	}
	return a.id
}

// byID lists a map's values by their keys.
func byID[T any](m map[int64]T) []T {
	var all []T
	for _, id := range slices.Sorted(maps.Keys(m)) {
		all = append(all, m[id])
	}
	return all
}

func named[V any](m map[*account]V) map[int64]V {
	out := map[int64]V{}
	for a, v := range m {
		out[a.id] = v
	}
	return out
}

func (s *Server) flatten() savedState {
	v := savedState{LastID: s.lastID, Moved: s.moved}
	for _, login := range slices.Sorted(maps.Keys(s.accounts)) {
		a := s.accounts[login]
		o := savedAccount{ID: a.id, Login: a.login, Kind: a.kind, Name: a.name, Email: a.email, Created: a.created, Members: named(a.members)}
		for _, t := range a.teams {
			repos := map[int64]Permission{}
			for r, p := range t.repos {
				repos[r.id] = p
			}
			o.Teams = append(o.Teams, savedTeam{t.id, t.name, t.slug, named(t.members), repos, t.created})
		}
		v.Accounts = append(v.Accounts, o)
	}
	for _, a := range byID(s.apps) {
		v.Apps = append(v.Apps, savedApp{a.id, a.owner.id, a.bot.id, a.name, a.slug, x509.MarshalPKCS1PublicKey(a.key), a.permissions, a.events,
			a.hookURL, a.secret, a.clientID, a.password, a.callbacks, a.userTokensEnd, a.created})
	}
	for _, i := range byID(s.installations) {
		o := savedInstallation{i.id, i.app.id, i.account.id, i.all, nil, i.permissions, i.events, i.created, i.suspended, idOf(i.suspender)}
		for r := range i.repos {
			o.Repos = append(o.Repos, r.id)
		}
		v.Installations = append(v.Installations, o)
	}
	for _, t := range s.tokens {
		if t.user != nil {
			v.Tokens = append(v.Tokens, savedToken{t.value, t.user.id, t.app.id, t.expires})
		}
	}
	for _, d := range s.deliveries {
		v.Deliveries = append(v.Deliveries, d.Delivery)
	}
	for _, r := range byID(s.repos) {
		v.Repos = append(v.Repos, s.flattenRepo(r))
	}
	return v
}

func (s *Server) flattenRepo(r *repo) savedRepo {
	o := savedRepo{ID: r.id, Owner: r.owner.id, Name: r.name, Description: r.description, DefaultBranch: r.defaultBranch, Private: r.private, Archived: r.archived,
		Created: r.created, Pushed: r.pushed, Collaborators: named(r.collaborators), Numbers: r.numbers, Protections: r.protections, NoSuites: r.noSuites,
		Queues: map[string][]savedEntry{}}
	if r.parent != nil {
		o.Parent = r.parent.id
	}
	for _, p := range r.pulls {
		n := savedPull{ID: p.id, Author: p.author.id, HeadOwner: p.headOwner.id, MergedBy: idOf(p.mergedBy), Number: p.number, Title: p.title, Body: p.body,
			State: p.state, Draft: p.draft, Merged: p.merged, Mergeable: p.mergeable, HeadRef: p.headRef, HeadSHA: p.headSHA, BaseRef: p.baseRef, BaseSHA: p.baseSHA,
			MergeSHA: p.mergeSHA, Created: p.created, Updated: p.updated, Closed: p.closed, MergedAt: p.mergedAt,
			Commits: p.commits, Additions: p.additions, Deletions: p.deletions, ChangedFiles: p.changedFiles}
		if p.headRepo != nil {
			n.HeadRepo = p.headRepo.id
		}
		for _, c := range p.comments {
			m := savedComment{ID: c.id, Author: c.author.id, Body: c.body, Created: c.created, Updated: c.updated}
			for _, x := range c.reactions {
				m.Reactions = append(m.Reactions, savedReaction{x.id, x.author.id, x.content, x.created})
			}
			n.Comments = append(n.Comments, m)
		}
		for _, x := range p.reviews {
			n.Reviews = append(n.Reviews, savedReview{x.id, x.author.id, x.body, x.state, x.sha, x.submitted})
		}
		o.Pulls = append(o.Pulls, n)
	}
	for branch, q := range r.queues {
		for _, e := range q.entries {
			o.Queues[branch] = append(o.Queues[branch], savedEntry{e.pull.number, e.by.id, e.base, e.head, e.branch, e.since})
		}
	}
	for _, u := range byID(s.suites) {
		if u.repo != r {
			continue
		}
		n := savedSuite{u.id, u.app.id, u.sha, u.branch, u.before, u.created, u.updated, nil}
		for _, x := range u.runs {
			n.Runs = append(n.Runs, x.view())
		}
		o.Suites = append(o.Suites, n)
	}
	return o
}

func (s *Server) unflatten(v savedState) error {
	s.lastID = v.LastID
	people := map[int64]*account{}
	for _, o := range v.Accounts {
		a := &account{id: o.ID, login: o.Login, kind: o.Kind, name: o.Name, email: o.Email, created: o.Created}
		people[o.ID], s.accounts[strings.ToLower(o.Login)] = a, a
	}
	for _, o := range v.Repos {
		r := &repo{id: o.ID, owner: people[o.Owner], name: o.Name, description: o.Description, defaultBranch: o.DefaultBranch, private: o.Private, archived: o.Archived,
			created: o.Created, pushed: o.Pushed, collaborators: unnamed(o.Collaborators, people), numbers: o.Numbers, protections: o.Protections, noSuites: o.NoSuites,
			queues: map[string]*queue{}, suites: map[string][]*suite{}, git: s.gitOf(o.ID)}
		s.repos[r.id], s.names[strings.ToLower(r.fullName())] = r, r
	}
	for name, id := range v.Moved {
		s.moved[name] = id
	}
	for _, o := range v.Accounts {
		if o.Kind != "Organization" {
			continue
		}
		org := people[o.ID]
		org.members, org.teams = unnamed(o.Members, people), map[string]*team{}
		for _, t := range o.Teams {
			repos := map[*repo]Permission{}
			for id, p := range t.Repos {
				if r := s.repos[id]; r != nil {
					repos[r] = p
				}
			}
			org.teams[t.Slug] = &team{t.ID, org, t.Name, t.Slug, unnamed(t.Members, people), repos, t.Created}
		}
	}
	for _, o := range v.Apps {
		key, err := x509.ParsePKCS1PublicKey(o.Key)
		if err != nil {
			return fmt.Errorf("app %s: %w", o.Slug, err)
		}
		s.apps[o.ID] = &app{id: o.ID, owner: people[o.Owner], bot: people[o.Bot], name: o.Name, slug: o.Slug, key: key, permissions: o.Permissions, events: o.Events,
			hookURL: o.HookURL, secret: o.Secret, clientID: o.ClientID, password: o.ClientSecret,
			callbacks: o.Callbacks, userTokensEnd: o.UserTokensEnd, created: o.Created}
	}
	for _, o := range v.Installations {
		i := &installation{id: o.ID, app: s.apps[o.App], account: people[o.Account], all: o.All, repos: map[*repo]bool{}, permissions: o.Permissions, events: o.Events,
			created: o.Created, suspended: o.Suspended, suspender: people[o.Suspender]}
		for _, id := range o.Repos {
			i.repos[s.repos[id]] = true
		}
		s.installations[i.id] = i
	}
	for _, o := range v.Tokens {
		s.tokens[o.Value] = &token{value: o.Value, user: people[o.User], app: s.apps[o.App], expires: o.Expires}
	}
	for _, o := range v.Deliveries {
		s.deliveries = append(s.deliveries, &delivery{Delivery: o, app: s.apps[o.App]})
	}
	for _, o := range v.Repos {
		s.unflattenRepo(o, people)
	}
	return nil
}

func unnamed[V any](m map[int64]V, people map[int64]*account) map[*account]V {
	out := map[*account]V{}
	for id, v := range m {
		out[people[id]] = v
	}
	return out
}

func (s *Server) unflattenRepo(o savedRepo, people map[int64]*account) {
	r := s.repos[o.ID]
	if parent := s.repos[o.Parent]; parent != nil {
		r.parent = parent
		parent.forks++
	}
	for _, n := range o.Pulls {
		p := &pull{id: n.ID, repo: r, author: people[n.Author], headRepo: s.repos[n.HeadRepo], headOwner: people[n.HeadOwner], mergedBy: people[n.MergedBy],
			number: n.Number, title: n.Title, body: n.Body, state: n.State, draft: n.Draft, merged: n.Merged, mergeable: n.Mergeable, headRef: n.HeadRef,
			headSHA: n.HeadSHA, baseRef: n.BaseRef, baseSHA: n.BaseSHA, mergeSHA: n.MergeSHA, created: n.Created, updated: n.Updated, closed: n.Closed,
			mergedAt: n.MergedAt, commits: n.Commits, additions: n.Additions, deletions: n.Deletions, changedFiles: n.ChangedFiles}
		for _, m := range n.Comments {
			c := &comment{id: m.ID, pull: p, author: people[m.Author], body: m.Body, created: m.Created, updated: m.Updated}
			for _, x := range m.Reactions {
				c.reactions = append(c.reactions, &reaction{x.ID, people[x.Author], x.Content, x.Created})
			}
			p.comments = append(p.comments, c)
			s.comments[c.id] = c
		}
		for _, x := range n.Reviews {
			p.reviews = append(p.reviews, &review{x.ID, p, people[x.Author], x.Body, x.State, x.SHA, x.Submitted})
		}
		r.pulls = append(r.pulls, p)
	}
	for branch, entries := range o.Queues {
		q := &queue{repo: r, branch: branch}
		for _, e := range entries {
			if p, err := s.pull(r, e.Number); err == nil {
				q.entries = append(q.entries, &entry{p, people[e.By], e.Base, e.Head, e.Branch, e.Since})
			}
		}
		r.queues[branch] = q
		s.queues = append(s.queues, q)
	}
	for _, n := range o.Suites {
		u := &suite{id: n.ID, repo: r, app: s.apps[n.App], sha: n.SHA, branch: n.Branch, before: n.Before, created: n.Created, updated: n.Updated}
		for _, c := range n.Runs {
			x := &run{id: c.ID, suite: u, name: c.Name, externalID: c.ExternalID, detailsURL: c.DetailsURL, status: c.Status, conclusion: c.Conclusion,
				started: c.Started, completed: c.Completed, output: output{Title: c.Title, Summary: c.Summary, Text: c.Text}, annotations: c.Annotations, actions: c.Actions}
			u.runs = append(u.runs, x)
			s.runs[x.id] = x
		}
		s.suites[u.id] = u
		r.suites[u.sha] = append(r.suites[u.sha], u)
	}
}

// FindApp finds an App by its slug, without its private key, which only its owner has.
func (s *Server) FindApp(slug string) (App, error) {
	defer s.lock()()
	for _, a := range s.apps {
		if a.slug == slug {
			return App{ID: a.id, Slug: a.slug, Bot: a.bot.login, ClientID: a.clientID, ClientSecret: a.password, CallbackURLs: slices.Clone(a.callbacks)}, nil
		}
	}
	return App{}, fmt.Errorf("app %s: does not exist", slug)
}
