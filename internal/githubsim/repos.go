package githubsim

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"
)

// Files are contents by path. An empty content deletes the file.
type Files map[string]string

// Repo is what people see of a repository.
type Repo struct {
	ID, OwnerID   int64
	Owner, Name   string
	FullName      string // OWNER/NAME
	DefaultBranch string
	Private       bool
	Archived      bool
	Parent        string // full name of what it was forked from
	Description   string
	CloneURL      string
	Dir           string // the bare repository on disk
}

type repo struct {
	id            int64
	owner         *account
	name          string
	description   string
	defaultBranch string
	private       bool
	archived      bool
	parent        *repo
	git           gitDir
	created       time.Time
	pushed        time.Time
	collaborators map[*account]Permission
	pulls         []*pull
	numbers       int
	protections   map[string]*Protection // by branch
	queues        map[string]*queue      // by branch
	suites        map[string][]*suite    // by commit, oldest first
	forks         int
	noSuites      map[int64]bool // App ids whose suites are not made automatically
}

func (r *repo) fullName() string { return r.owner.login + "/" + r.name }

func (s *Server) repoView(r *repo) Repo {
	v := Repo{ID: r.id, OwnerID: r.owner.id, Owner: r.owner.login, Name: r.name, FullName: r.fullName(), DefaultBranch: r.defaultBranch, Private: r.private,
		Archived: r.archived, Description: r.description, CloneURL: s.baseURL + "/" + r.fullName() + ".git", Dir: string(r.git)}
	if r.parent != nil {
		v.Parent = r.parent.fullName()
	}
	return v
}

// RepoSpec says how a repository begins.
type RepoSpec struct {
	Private       bool
	DefaultBranch string // main
	Files         Files  // of the first commit; none: an empty repository
	Description   string
}

var repoPattern = regexp.MustCompile(`^[A-Za-z0-9._-]{1,100}$`)

// CreateRepo makes OWNER/NAME as a person who owns the account or is a member of the organisation.
func (s *Server) CreateRepo(by, fullName string, spec RepoSpec) (Repo, error) {
	defer s.lock()()
	sender, err := s.user(by)
	if err != nil {
		return Repo{}, err
	}
	login, name, _ := strings.Cut(fullName, "/")
	owner, err := s.account(login)
	if err != nil {
		return Repo{}, err
	}
	if _, member := owner.members[sender]; owner != sender && !member {
		return Repo{}, fmt.Errorf("repository %s: %s may not create it", fullName, by)
	}
	r, err := s.addRepo(owner, name)
	if err != nil {
		return Repo{}, err
	}
	r.private, r.description = spec.Private, spec.Description
	if spec.DefaultBranch != "" {
		r.defaultBranch = spec.DefaultBranch
	}
	if err := gitInit(r.git, r.defaultBranch); err != nil {
		return Repo{}, err
	}
	for _, i := range s.installations { // an installation on all repositories sees new ones at once
		if i.account == owner && i.all {
			s.emit(r, sender, "repository", "created", object{})
			break
		}
	}
	if len(spec.Files) > 0 {
		if _, err := s.push(sender, r, r.defaultBranch, pushed{files: spec.Files, message: "Initial commit"}); err != nil {
			return Repo{}, err
		}
	}
	return s.repoView(r), nil
}

func (s *Server) addRepo(owner *account, name string) (*repo, error) {
	full := owner.login + "/" + name
	if !repoPattern.MatchString(name) || name == "." || name == ".." || strings.HasSuffix(name, ".git") {
		return nil, fmt.Errorf("repository %q: not a name", full)
	}
	if _, err := s.repo(full); err == nil {
		return nil, fmt.Errorf("repository %s: exists already", full)
	}
	delete(s.moved, strings.ToLower(full))
	r := &repo{id: s.newID(), owner: owner, name: name, defaultBranch: "main", created: s.now(), pushed: s.now(),
		collaborators: map[*account]Permission{}, protections: map[string]*Protection{}, queues: map[string]*queue{}, suites: map[string][]*suite{}, noSuites: map[int64]bool{}}
	r.git = s.gitOf(r.id)
	s.repos[r.id] = r
	s.names[strings.ToLower(full)] = r
	return r, nil
}

// gitOf is where a repository's commits are. It goes by the id: a rename moves nothing.
func (s *Server) gitOf(id int64) gitDir {
	return gitDir(filepath.Join(s.opts.Dir, fmt.Sprintf("%d.git", id)))
}

// repo finds a repository by its present name.
func (s *Server) repo(fullName string) (*repo, error) {
	if r := s.names[strings.ToLower(fullName)]; r != nil {
		return r, nil
	}
	return nil, fmt.Errorf("repository %s: does not exist", fullName)
}

// repoBy finds a repository and the person, who needs at least that permission on it.
func (s *Server) repoBy(by, fullName string, need Permission) (*repo, *account, error) {
	sender, err := s.user(by)
	if err != nil {
		return nil, nil, err
	}
	r, err := s.repo(fullName)
	if err != nil {
		return nil, nil, err
	}
	if r.archived && need != Read && need != Admin {
		return nil, nil, fmt.Errorf("repository %s: archived, so read-only", fullName)
	}
	if have := s.permission(r, sender); sender.kind != "Bot" && !have.atLeast(need) {
		return nil, nil, fmt.Errorf("repository %s: %s has permission %s, needs %s", fullName, by, have, need)
	}
	return r, sender, nil
}

// Repo looks a repository up by its present full name.
func (s *Server) Repo(fullName string) (Repo, error) {
	defer s.lock()()
	r, err := s.repo(fullName)
	if err != nil {
		return Repo{}, err
	}
	return s.repoView(r), nil
}

// Repos lists all repositories by full name.
func (s *Server) Repos() []Repo {
	defer s.lock()()
	var all []Repo
	for _, r := range s.repos {
		all = append(all, s.repoView(r))
	}
	slices.SortFunc(all, func(a, b Repo) int { return strings.Compare(a.FullName, b.FullName) })
	return all
}

// RenameRepo gives a repository a new name. The old one redirects until somebody takes it.
func (s *Server) RenameRepo(by, fullName, name string) (Repo, error) {
	defer s.lock()()
	r, sender, err := s.repoBy(by, fullName, Admin)
	if err != nil {
		return Repo{}, err
	}
	if _, err := s.repo(r.owner.login + "/" + name); err == nil || !repoPattern.MatchString(name) {
		return Repo{}, fmt.Errorf("repository %s: the name %q is taken or not one", fullName, name)
	}
	old := r.name
	s.move(r, r.owner, name)
	s.emit(r, sender, "repository", "renamed", object{"changes": object{"repository": object{"name": object{"from": old}}}})
	return s.repoView(r), nil
}

// Transfer moves a repository to another account. Installations of the old account lose it.
func (s *Server) Transfer(by, fullName, to string) (Repo, error) {
	defer s.lock()()
	r, sender, err := s.repoBy(by, fullName, Admin)
	if err != nil {
		return Repo{}, err
	}
	owner, err := s.account(to)
	if err != nil {
		return Repo{}, err
	}
	if _, err := s.repo(owner.login + "/" + r.name); err == nil {
		return Repo{}, fmt.Errorf("repository %s: %s has one of that name", fullName, to)
	}
	from := object{"user": s.person(r.owner)}
	if r.owner.kind == "Organization" {
		from = object{"organization": s.organization(r.owner)}
	}
	gone := s.installationsOf(r)
	s.move(r, owner, r.name)
	for _, i := range gone {
		delete(i.repos, r)
		s.emitTo(i, nil, sender, "installation_repositories", "removed", s.selection(i, nil, []*repo{r}))
	}
	s.emit(r, sender, "repository", "transferred", object{"changes": object{"owner": object{"from": from}}})
	return s.repoView(r), nil
}

// move gives a repository another place. The old one redirects.
func (s *Server) move(r *repo, owner *account, name string) {
	old := strings.ToLower(r.fullName())
	r.owner, r.name = owner, name
	delete(s.names, old)
	s.moved[old] = r.id
	key := strings.ToLower(r.fullName())
	delete(s.moved, key)
	s.names[key] = r
}

// Archive makes a repository read-only, or lifts that.
func (s *Server) Archive(by, fullName string, archived bool) error {
	defer s.lock()()
	r, sender, err := s.repoBy(by, fullName, Admin)
	if err != nil {
		return err
	}
	r.archived = archived
	action := "archived"
	if !archived {
		action = "unarchived"
	}
	s.emit(r, sender, "repository", action, object{})
	return nil
}

// DeleteRepo deletes a repository with everything in it. Pull requests from it stay, without a head repository.
func (s *Server) DeleteRepo(by, fullName string) error {
	defer s.lock()()
	r, sender, err := s.repoBy(by, fullName, Admin)
	if err != nil {
		return err
	}
	s.emit(r, sender, "repository", "deleted", object{})
	delete(s.repos, r.id)
	delete(s.names, strings.ToLower(r.fullName()))
	if r.parent != nil {
		r.parent.forks--
	}
	for _, i := range s.installations {
		delete(i.repos, r)
	}
	s.queues = slices.DeleteFunc(s.queues, func(q *queue) bool { return q.repo == r })
	for _, other := range s.repos {
		if other.parent == r {
			other.parent = nil
		}
		for _, p := range other.pulls {
			if p.headRepo == r {
				p.headRepo = nil
			}
		}
	}
	return os.RemoveAll(string(r.git))
}

// Fork copies a repository into a person's account and returns the copy.
func (s *Server) Fork(by, fullName string) (Repo, error) {
	defer s.lock()()
	r, sender, err := s.repoBy(by, fullName, Read)
	if err != nil {
		return Repo{}, err
	}
	f, err := s.addRepo(sender, r.name)
	if err != nil {
		return Repo{}, err
	}
	f.parent, f.private, f.defaultBranch = r, r.private, r.defaultBranch
	if err := r.git.clone(f.git); err != nil {
		delete(s.repos, f.id)
		delete(s.names, strings.ToLower(f.fullName()))
		return Repo{}, err
	}
	r.forks++
	return s.repoView(f), nil
}

// SetDefaultBranch renames a repository's default branch, and with it the base of open pull requests.
func (s *Server) SetDefaultBranch(by, fullName, branch string) error {
	defer s.lock()()
	r, sender, err := s.repoBy(by, fullName, Admin)
	if err != nil {
		return err
	}
	if branch == r.defaultBranch {
		return nil
	}
	old := r.defaultBranch
	if err := r.git.renameBranch(old, branch); err != nil {
		return err
	}
	r.defaultBranch = branch
	if q := r.queues[old]; q != nil {
		q.branch = branch
		r.queues[branch] = q
		delete(r.queues, old)
	}
	if p, ok := r.protections[old]; ok {
		r.protections[branch] = p
		delete(r.protections, old)
	}
	s.emit(r, sender, "repository", "edited", object{"changes": object{"default_branch": object{"from": old}}})
	for _, p := range r.pulls {
		if p.state == "open" && p.baseRef == old {
			p.baseRef = branch
			s.emitPull(p, sender, "edited", object{"changes": object{"base": object{"ref": object{"from": old}, "sha": object{"from": p.baseSHA}}}})
		}
	}
	return nil
}

// Protection is what a branch asks of a merge.
type Protection struct {
	Required      []RequiredCheck
	Strict        bool        // the head must contain the tip of the base branch
	EnforceAdmins bool        // admins may not bypass
	Approvals     int         // approving reviews by people with write permission, on any commit
	Queue         *MergeQueue // merges go through a queue
}

// RequiredCheck is a check run that must be green on the head.
type RequiredCheck struct {
	Context string
	AppID   int64 // which App must have made it; 0 or -1: any
}

// MergeQueue are the settings of a merge queue.
type MergeQueue struct {
	Timeout time.Duration // how long a group may wait for its checks; one hour
}

// Protect sets a branch's protection; nil lifts it.
func (s *Server) Protect(by, fullName, branch string, p *Protection) error {
	defer s.lock()()
	r, _, err := s.repoBy(by, fullName, Admin)
	if err != nil {
		return err
	}
	if p == nil {
		delete(r.protections, branch)
		return nil
	}
	c := *p
	c.Required = slices.Clone(p.Required)
	r.protections[branch] = &c
	return nil
}
