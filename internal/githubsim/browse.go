package githubsim

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Entry is a file or folder in a commit.
type Entry struct {
	Name   string
	Path   string
	Folder bool
	Size   int64 // of a file, in bytes
}

// List lists a folder of a commit, folders first; "" is the root.
func (s *Server) List(repo, rev, folder string) ([]Entry, error) {
	g, err := s.gitDirOf(repo)
	if err != nil {
		return nil, err
	}
	sha := g.resolve(rev)
	if sha == "" {
		return nil, fmt.Errorf("repository %s: no commit %q", repo, rev)
	}
	raw, err := g.run("ls-tree", "-z", "--long", "--full-tree", sha+":"+folder)
	if err != nil {
		return nil, fmt.Errorf("repository %s: no folder %q", repo, folder)
	}
	var all []Entry
	for line := range strings.SplitSeq(raw, "\x00") {
		meta, name, ok := strings.Cut(line, "\t")
		f := strings.Fields(meta) // mode, type, object, size
		if !ok || len(f) != 4 {
			continue
		}
		e := Entry{Name: name, Path: strings.TrimPrefix(folder+"/"+name, "/"), Folder: f[1] == "tree"}
		e.Size, _ = strconv.ParseInt(f[3], 10, 64) // "-" for folders
		all = append(all, e)
	}
	slices.SortStableFunc(all, func(a, b Entry) int {
		switch {
		case a.Folder == b.Folder:
			return 0
		case a.Folder:
			return -1
		}
		return 1
	})
	return all, nil
}

// Content is a file's content in a commit.
func (s *Server) Content(repo, rev, path string) (string, error) {
	g, err := s.gitDirOf(repo)
	if err != nil {
		return "", err
	}
	sha := g.resolve(rev)
	if sha == "" {
		return "", fmt.Errorf("repository %s: no commit %q", repo, rev)
	}
	cmd := g.command("cat-file", "blob", sha+":"+path)
	var out bytes.Buffer
	cmd.Stdout = &out
	if cmd.Run() != nil {
		return "", fmt.Errorf("repository %s: no file %q", repo, path)
	}
	return out.String(), nil
}

// Branches lists a repository's branches by name.
func (s *Server) Branches(repo string) ([]string, error) {
	g, err := s.gitDirOf(repo)
	if err != nil {
		return nil, err
	}
	raw, err := g.run("for-each-ref", "--format=%(refname:lstrip=2)", "refs/heads/")
	if err != nil || raw == "" {
		return nil, err
	}
	return strings.Split(raw, "\n"), nil
}

// Commit is what people see of a commit.
type Commit struct {
	SHA     string
	Parents []string
	Author  string // login, or the name where no account has the address
	At      time.Time
	Message string
}

// Commits lists the commits reachable from rev and not from since (a ref or an id; "": from the beginning), newest
// first, at most n.
func (s *Server) Commits(repo, rev, since string, n int) ([]Commit, error) {
	defer s.lock()()
	r, err := s.repo(repo)
	if err != nil {
		return nil, err
	}
	head := r.git.resolve(rev)
	if head == "" {
		return nil, fmt.Errorf("repository %s: no commit %q", repo, rev)
	}
	if since != "" {
		since = r.git.resolve(since)
	}
	shas, err := r.git.between(since, head, n)
	if err != nil {
		return nil, err
	}
	var all []Commit
	for _, sha := range slices.Backward(shas) {
		c, err := s.show(r.git, sha)
		if err != nil {
			return nil, err
		}
		v := Commit{sha, c.parents, c.author.name, c.author.at, c.message}
		if a := s.byEmail(c.author.email); a != nil {
			v.Author = a.login
		}
		all = append(all, v)
	}
	return all, nil
}

// Change is one file of a diff.
type Change struct {
	Path, From     string // From: the old path of a rename
	Status         string // added, removed, modified or renamed
	Added, Removed int    // lines
	Binary         bool
	Patch          string // unified diff from its first "@@" on
}

// Changes are a pull request's changes since the merge base.
func (s *Server) Changes(repo string, number int) ([]Change, error) {
	defer s.lock()()
	r, err := s.repo(repo)
	if err != nil {
		return nil, err
	}
	p, err := s.pull(r, number)
	if err != nil {
		return nil, err
	}
	files, err := s.filesOf(p, true)
	return changesOf(files), err
}

// CommitChanges are a commit's changes against its first parent.
func (s *Server) CommitChanges(repo, sha string) ([]Change, error) {
	defer s.lock()()
	r, err := s.repo(repo)
	if err != nil {
		return nil, err
	}
	id := r.git.resolve(sha)
	if id == "" {
		return nil, fmt.Errorf("repository %s: no commit %q", repo, sha)
	}
	c, err := s.show(r.git, id)
	if err != nil {
		return nil, err
	}
	parent := ""
	if len(c.parents) > 0 {
		parent = c.parents[0]
	}
	files, err := r.git.changes(parent, id, true)
	return changesOf(files), err
}

func changesOf(files []fileChange) []Change {
	var all []Change
	for _, f := range files {
		all = append(all, Change{f.path, f.from, f.status, f.added, f.removed, f.binary, f.patch})
	}
	return all
}

// ProtectionOf is what a branch asks of a merge, nil for nothing.
func (s *Server) ProtectionOf(repo, branch string) (*Protection, error) {
	defer s.lock()()
	r, err := s.repo(repo)
	if err != nil {
		return nil, err
	}
	p := r.protections[branch]
	if p == nil {
		return nil, nil
	}
	c := *p
	c.Required = slices.Clone(p.Required)
	return &c, nil
}

// CheckByID finds a check run with its repository's full name.
func (s *Server) CheckByID(id int64) (repo string, c Check, err error) {
	defer s.lock()()
	r := s.runs[id]
	if r == nil {
		return "", Check{}, fmt.Errorf("check run %d: does not exist", id)
	}
	return r.suite.repo.fullName(), r.view(), nil
}

// Apps lists all Apps by slug, without their private keys.
func (s *Server) Apps() []App {
	defer s.lock()()
	var all []App
	for _, a := range byID(s.apps) {
		all = append(all, App{ID: a.id, Slug: a.slug, Bot: a.bot.login, ClientID: a.clientID, ClientSecret: a.password, CallbackURLs: slices.Clone(a.callbacks)})
	}
	slices.SortFunc(all, func(a, b App) int { return strings.Compare(a.Slug, b.Slug) })
	return all
}

// Team is what people see of a team.
type Team struct {
	Org, Name, Slug string
	Members         map[string]string     // role, member or maintainer, by login
	Repos           map[string]Permission // by full name
}

// Teams lists an organisation's teams by slug.
func (s *Server) Teams(org string) ([]Team, error) {
	defer s.lock()()
	o, err := s.org(org)
	if err != nil {
		return nil, err
	}
	var all []Team
	for _, slug := range slices.Sorted(maps.Keys(o.teams)) {
		t := o.teams[slug]
		v := Team{o.login, t.name, t.slug, map[string]string{}, map[string]Permission{}}
		for u, role := range t.members {
			v.Members[u.login] = role
		}
		for r, p := range t.repos {
			v.Repos[r.fullName()] = p
		}
		all = append(all, v)
	}
	return all, nil
}

// Members are an organisation's people: the role, admin (an owner) or member, by login.
func (s *Server) Members(org string) (map[string]string, error) {
	defer s.lock()()
	o, err := s.org(org)
	if err != nil {
		return nil, err
	}
	all := map[string]string{}
	for u, role := range o.members {
		all[u.login] = role
	}
	return all, nil
}

// PastCommit is a commit that was made some time ago.
type PastCommit struct {
	Author  string // login
	At      time.Time
	Message string
	Files   Files
}

// PushHistory pushes commits of several people and days at once onto a branch, which begins at the default branch's tip
// when it is new, and returns the last one.
func (s *Server) PushHistory(by, repo, branch string, history []PastCommit) (sha string, err error) {
	defer s.lock()()
	r, sender, err := s.repoBy(by, repo, Write)
	if err != nil {
		return "", err
	}
	if len(history) == 0 {
		return "", errors.New("push: no commits")
	}
	before := r.git.branch(branch)
	from := before
	if from == "" {
		from = r.git.branch(r.defaultBranch)
	}
	var in bytes.Buffer
	in.WriteString("feature done\n")
	for _, c := range history {
		author, err := s.user(c.Author)
		if err != nil {
			return "", err
		}
		writeCommit(&in, "refs/heads/"+branch, from, signature(author, c.At), c.Message, c.Files)
		from = ""
	}
	if sha, err = r.git.importCommits("refs/heads/"+branch, &in); err != nil {
		return "", err
	}
	s.followPush(r, sender, branch, before, sha)
	return sha, nil
}

// gitDirOf is a repository's folder. What is read there without the lock are commits, which never change.
func (s *Server) gitDirOf(repo string) (gitDir, error) {
	defer s.lock()()
	r, err := s.repo(repo)
	if err != nil {
		return "", err
	}
	return r.git, nil
}

// PullCommits lists a pull request's commits, oldest first.
func (s *Server) PullCommits(repo string, number int) ([]Commit, error) {
	p, err := s.Pull(repo, number)
	if err != nil {
		return nil, err
	}
	all, err := s.Commits(repo, p.HeadSHA, p.BaseSHA, commitsLimit)
	slices.Reverse(all)
	return all, err
}
