package simweb

import (
	"net/http"
	"net/url"
	"path"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/noxaudit/noxaudit/internal/githubsim"
)

// crumb is what every page of a repository shows above itself.
type crumb struct {
	Repo     githubsim.Repo
	Can      githubsim.Permission // what the visitor may do here
	Tab      string
	Open     int // pull requests
	CanWrite bool
}

var writers = []githubsim.Permission{githubsim.Write, githubsim.Maintain, githubsim.Admin}

// enter finds the repository of the address, if the visitor may see it.
func (w *web) enter(v *visit, tab string) (crumb, error) {
	r, err := v.sim.Repo(v.PathValue("owner") + "/" + v.PathValue("repo"))
	if err != nil {
		return crumb{}, errMissing
	}
	can, err := v.sim.PermissionOf(r.FullName, v.user)
	if err != nil || can == githubsim.None {
		return crumb{}, errMissing
	}
	c := crumb{Repo: r, Can: can, Tab: tab, CanWrite: slices.Contains(writers, can) && !r.Archived}
	pulls, err := v.sim.Pulls(r.FullName)
	for _, p := range pulls {
		if p.State == "open" {
			c.Open++
		}
	}
	return c, err
}

type repoLine struct {
	githubsim.Repo
	Can    githubsim.Permission
	Pulls  []pullLine // open ones
	Newest githubsim.Commit
	Tip    state
}

func (w *web) home(v *visit) (*view, error) {
	var body struct {
		Repos []repoLine
		Pulls int
	}
	for _, r := range v.sim.Repos() {
		can, err := v.sim.PermissionOf(r.FullName, v.user)
		if err != nil || can == githubsim.None {
			continue
		}
		l := repoLine{Repo: r, Can: can}
		pulls, err := v.sim.Pulls(r.FullName)
		if err != nil {
			continue // deleted meanwhile
		}
		for _, p := range slices.Backward(pulls) {
			if p.State == "open" {
				l.Pulls = append(l.Pulls, w.pullLine(v, p))
			}
		}
		if cs, err := v.sim.Commits(r.FullName, r.DefaultBranch, "", 1); err == nil && len(cs) == 1 {
			l.Newest = cs[0]
			l.Tip = w.stateOf(v, r.FullName, cs[0].SHA)
		}
		body.Pulls += len(l.Pulls)
		body.Repos = append(body.Repos, l)
	}
	slices.SortStableFunc(body.Repos, func(a, b repoLine) int {
		if (a.Parent == "") != (b.Parent == "") { // forks last
			return strings.Compare(a.Parent, b.Parent)
		}
		if (len(a.Pulls) > 0) != (len(b.Pulls) > 0) { // what waits for somebody first
			return len(b.Pulls) - len(a.Pulls)
		}
		return b.Newest.At.Compare(a.Newest.At)
	})
	return &view{page: "home", title: "Repositories", body: body}, nil
}

// people are an organisation's people, and its teams with what they may do.
func (w *web) people(v *visit) (*view, error) {
	org := v.PathValue("owner")
	members, err := v.sim.Members(org)
	if err != nil {
		return nil, errMissing
	}
	teams, err := v.sim.Teams(org)
	if err != nil {
		return nil, errMissing
	}
	type member struct{ Login, Role, Note string }
	var body struct {
		Org     string
		Members []member
		Teams   []githubsim.Team
	}
	notes := map[string]string{}
	for _, p := range w.o.People {
		notes[p.Login] = p.Note
	}
	body.Org, body.Teams = org, teams
	for login, role := range members {
		if role == "admin" {
			role = "owner"
		}
		body.Members = append(body.Members, member{login, role, notes[login]})
	}
	slices.SortFunc(body.Members, func(a, b member) int { return strings.Compare(a.Login, b.Login) })
	return &view{page: "people", title: org, body: body}, nil
}

func (w *web) repo(v *visit) (*view, error) {
	c, err := w.enter(v, "code")
	if err != nil {
		return nil, err
	}
	var body struct {
		Crumb      crumb
		Ref, Path  string
		Up         string
		Entries    []githubsim.Entry
		Branches   []string
		Protection *githubsim.Protection
		Newest     githubsim.Commit
		Tip        state
		Readme     string
		Pulls      []pullLine
		Empty      bool
	}
	body.Crumb, body.Ref, body.Path = c, v.PathValue("ref"), strings.Trim(v.PathValue("path"), "/")
	if body.Ref == "" {
		body.Ref = c.Repo.DefaultBranch
	}
	name := c.Repo.FullName
	if body.Branches, err = v.sim.Branches(name); err != nil {
		return nil, err
	}
	if body.Empty = len(body.Branches) == 0; !body.Empty {
		if body.Entries, err = v.sim.List(name, body.Ref, body.Path); err != nil {
			return nil, errMissing
		}
		cs, err := v.sim.Commits(name, body.Ref, "", 1)
		if err != nil || len(cs) == 0 {
			return nil, errMissing
		}
		body.Newest, body.Tip = cs[0], w.stateOf(v, name, cs[0].SHA)
	}
	if body.Path != "" {
		if body.Up = path.Dir(body.Path); body.Up == "." {
			body.Up = ""
		}
	}
	for _, e := range body.Entries {
		if strings.EqualFold(e.Name, "README.md") {
			body.Readme, _ = v.sim.Content(name, body.Ref, e.Path) // gone meanwhile: none
		}
	}
	if body.Protection, err = v.sim.ProtectionOf(name, body.Ref); err != nil {
		return nil, err
	}
	pulls, err := v.sim.Pulls(name)
	if err != nil {
		return nil, err
	}
	for _, p := range slices.Backward(pulls) {
		if p.State == "open" {
			body.Pulls = append(body.Pulls, w.pullLine(v, p))
		}
	}
	return &view{page: "repo", title: name, body: body}, nil
}

type filePage struct {
	Crumb     crumb
	Ref, Path string
	Text      string
	Lines     []string
	Binary    bool
	New       bool
	IsBranch  bool
	Pull      int // the open pull request from this branch, 0: none
	Base      string
}

// maxShown is how long a file may be to be shown or edited here, in bytes.
const maxShown = 256 << 10

func (w *web) readFile(v *visit) (filePage, error) {
	c, err := w.enter(v, "code")
	if err != nil {
		return filePage{}, err
	}
	p := filePage{Crumb: c, Ref: v.PathValue("ref"), Path: v.PathValue("path"), New: v.PathValue("path") == ""}
	branches, err := v.sim.Branches(c.Repo.FullName)
	if err != nil {
		return p, err
	}
	p.IsBranch = slices.Contains(branches, p.Ref)
	pulls, err := v.sim.Pulls(c.Repo.FullName)
	if err != nil {
		return p, err
	}
	for _, o := range pulls {
		if o.State == "open" && o.HeadRepo == c.Repo.FullName && o.HeadRef == p.Ref {
			p.Pull = o.Number
		}
	}
	if p.New {
		return p, nil
	}
	text, err := v.sim.Content(c.Repo.FullName, p.Ref, p.Path)
	if err != nil {
		return p, errMissing
	}
	p.Binary = !utf8.ValidString(text) || strings.ContainsRune(text, 0) || len(text) > maxShown
	if !p.Binary {
		p.Text, p.Lines = text, strings.Split(strings.TrimSuffix(text, "\n"), "\n")
	}
	return p, nil
}

func (w *web) file(v *visit) (*view, error) {
	p, err := w.readFile(v)
	return &view{page: "file", title: p.Path, body: p}, err
}

func (w *web) edit(v *visit) (*view, error) {
	p, err := w.readFile(v)
	if err == nil && (p.Binary || !p.IsBranch) {
		err = refused{http.StatusUnprocessableEntity, "Only text files on a branch can be edited here."}
	}
	return &view{page: "edit", title: "Edit " + p.Path, body: p}, err
}

// save commits an edited file: to the branch, or to a new branch with a pull request.
func (w *web) save(v *visit) (*view, error) {
	p, err := w.readFile(v)
	if err != nil {
		return nil, err
	}
	name := p.Crumb.Repo.FullName
	if p.New {
		p.Path = strings.TrimSpace(v.form.Get("path"))
	}
	if p.Path == "" || path.Clean("/" + p.Path)[1:] != p.Path || strings.HasPrefix(p.Path, ".git/") {
		return nil, refused{http.StatusUnprocessableEntity, "That is no path of a file."}
	}
	text := strings.ReplaceAll(v.form.Get("text"), "\r\n", "\n")
	message := strings.TrimSpace(v.form.Get("message"))
	if message == "" {
		message = "Update " + p.Path
	}
	branch, onto := strings.TrimSpace(v.form.Get("branch")), p.Ref
	if v.form.Get("where") != "new" {
		branch = p.Ref
	} else if all, err := v.sim.Branches(name); err != nil || branch == "" || slices.Contains(all, branch) {
		return nil, refused{http.StatusUnprocessableEntity, "The new branch needs a name that is not taken."}
	}
	if protection, err := v.sim.ProtectionOf(name, branch); err == nil && protection != nil {
		return nil, refused{http.StatusUnprocessableEntity, "Changes to " + branch + " must be made through a pull request: choose a new branch."}
	}
	if branch == p.Ref {
		_, err = v.sim.Push(v.user, name, branch, message, githubsim.Files{p.Path: text})
	} else {
		_, err = v.sim.ForcePush(v.user, name, branch, onto, message, githubsim.Files{p.Path: text})
	}
	if err != nil {
		return nil, err
	}
	switch {
	case branch != p.Ref:
		return &view{to: "/" + name + "/compare/" + url.PathEscape(branch)}, nil
	case p.Pull > 0:
		w.settleChecks(v, name, p.Pull)
		return &view{to: pullAt(name, p.Pull)}, nil
	}
	return &view{to: "/" + name + "/blob/" + url.PathEscape(branch) + "/" + escapePath(p.Path)}, nil
}

func (w *web) fork(v *visit) (*view, error) {
	c, err := w.enter(v, "code")
	if err != nil {
		return nil, err
	}
	f, err := v.sim.Fork(v.user, c.Repo.FullName)
	return &view{to: "/" + f.FullName}, err
}

func (w *web) commits(v *visit) (*view, error) {
	c, err := w.enter(v, "code")
	if err != nil {
		return nil, err
	}
	var body struct {
		Crumb   crumb
		Ref     string
		Commits []commitLine
	}
	body.Crumb, body.Ref = c, v.PathValue("ref")
	all, err := v.sim.Commits(c.Repo.FullName, body.Ref, "", 100)
	if err != nil {
		return nil, errMissing
	}
	body.Commits = w.commitLines(v, c.Repo.FullName, all)
	return &view{page: "commits", title: "Commits", body: body}, nil
}

type commitLine struct {
	githubsim.Commit
	State state
}

func (w *web) commitLines(v *visit, repo string, all []githubsim.Commit) []commitLine {
	var out []commitLine
	for _, c := range all {
		out = append(out, commitLine{c, w.stateOf(v, repo, c.SHA)})
	}
	return out
}

func (w *web) commit(v *visit) (*view, error) {
	c, err := w.enter(v, "code")
	if err != nil {
		return nil, err
	}
	var body struct {
		Crumb  crumb
		Commit githubsim.Commit
		Checks []check
		Files  []fileDiff
	}
	body.Crumb = c
	all, err := v.sim.Commits(c.Repo.FullName, v.PathValue("sha"), "", 1)
	if err != nil || len(all) == 0 {
		return nil, errMissing
	}
	body.Commit = all[0]
	if body.Checks, err = w.checksOf(v, c.Repo.FullName, body.Commit.SHA); err != nil {
		return nil, err
	}
	changes, err := v.sim.CommitChanges(c.Repo.FullName, body.Commit.SHA)
	body.Files = diffs(changes, body.Checks)
	return &view{page: "commit", title: body.Commit.SHA[:7], body: body}, err
}

func (w *web) compare(v *visit) (*view, error) {
	c, err := w.enter(v, "pulls")
	if err != nil {
		return nil, err
	}
	var body struct {
		Crumb         crumb
		Ref, Into     string
		Base          string // branch
		Title         string
		Commits       []commitLine
		FromFork, Any bool
	}
	body.Crumb, body.Ref, body.Into, body.Base = c, v.PathValue("ref"), c.Repo.FullName, c.Repo.DefaultBranch
	if c.Repo.Parent != "" {
		into, err := v.sim.Repo(c.Repo.Parent)
		if err != nil {
			return nil, err
		}
		body.Into, body.Base, body.FromFork = into.FullName, into.DefaultBranch, true
	}
	all, err := v.sim.Commits(c.Repo.FullName, body.Ref, c.Repo.DefaultBranch, 50)
	if err != nil {
		return nil, errMissing
	}
	body.Commits = w.commitLines(v, c.Repo.FullName, all)
	if body.Any = len(all) > 0; body.Any {
		body.Title, _, _ = strings.Cut(all[0].Message, "\n")
	}
	return &view{page: "compare", title: "Open a pull request", body: body}, nil
}

// open opens a pull request from a branch.
func (w *web) open(v *visit) (*view, error) {
	c, err := w.enter(v, "pulls")
	if err != nil {
		return nil, err
	}
	title := strings.TrimSpace(v.form.Get("title"))
	if title == "" {
		return nil, refused{http.StatusUnprocessableEntity, "A pull request needs a title."}
	}
	into, head := c.Repo.FullName, v.PathValue("ref")
	if c.Repo.Parent != "" {
		into, head = c.Repo.Parent, c.Repo.Owner+":"+head
	}
	p, err := v.sim.OpenPull(v.user, into, githubsim.PullSpec{Title: title, Body: v.form.Get("body"), Head: head})
	if err != nil {
		return nil, err
	}
	w.settleChecks(v, into, p.Number)
	return &view{to: pullAt(into, p.Number)}, nil
}
