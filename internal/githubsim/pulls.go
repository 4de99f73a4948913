package githubsim

import (
	"errors"
	"fmt"
	"maps"
	"strconv"
	"strings"
	"time"
)

// filesLimit is how many files of a pull request GitHub lists.
const filesLimit = 3000

// commitsLimit is how many commits of a pull request GitHub lists.
const commitsLimit = 250

// Pull is what people see of a pull request.
type Pull struct {
	ID               int64
	Repo             string // full name of the base repository
	Number           int
	Title, Body      string
	Author           string
	State            string // open or closed
	Draft, Merged    bool
	Mergeable        bool   // no conflict with the base branch
	HeadRepo         string // "": deleted
	HeadRef, HeadSHA string
	BaseRef, BaseSHA string
	MergeSHA         string // after the merge: the commit on the base branch
	MergedBy         string
	Created, Updated time.Time
	Closed           time.Time // zero while it is open
}

type pull struct {
	id                                          int64
	number                                      int
	repo                                        *repo
	title, body                                 string
	author                                      *account
	state                                       string
	draft, merged                               bool
	mergeable                                   bool
	headRepo                                    *repo // nil: deleted
	headOwner                                   *account
	headRef, headSHA                            string
	baseRef, baseSHA                            string
	mergeSHA                                    string
	created, updated, closed, mergedAt          time.Time
	mergedBy                                    *account
	commits, additions, deletions, changedFiles int
	comments                                    []*comment
	reviews                                     []*review
}

func (p *pull) view() Pull {
	v := Pull{ID: p.id, Repo: p.repo.fullName(), Number: p.number, Title: p.title, Body: p.body, Author: p.author.login, State: p.state,
		Draft: p.draft, Merged: p.merged, Mergeable: p.mergeable, HeadRef: p.headRef, HeadSHA: p.headSHA, BaseRef: p.baseRef, BaseSHA: p.baseSHA,
		Created: p.created, Updated: p.updated, Closed: p.closed}
	if p.mergedBy != nil {
		v.MergedBy = p.mergedBy.login
	}
	if p.merged {
		v.MergeSHA = p.mergeSHA
	}
	if p.headRepo != nil {
		v.HeadRepo = p.headRepo.fullName()
	}
	return v
}

// PullSpec says what a pull request is.
type PullSpec struct {
	Title string
	Body  string
	Head  string // branch, or OWNER:BRANCH of a fork
	Base  string // branch; the default branch
	Draft bool
}

// OpenPull opens a pull request in a repository.
func (s *Server) OpenPull(by, repo string, spec PullSpec) (Pull, error) {
	defer s.lock()()
	r, sender, err := s.repoBy(by, repo, Read)
	if err != nil {
		return Pull{}, err
	}
	if r.archived {
		return Pull{}, fmt.Errorf("repository %s: archived, so read-only", repo)
	}
	p := &pull{id: s.newID(), repo: r, title: spec.Title, body: spec.Body, author: sender, state: "open", draft: spec.Draft,
		headRepo: r, headOwner: r.owner, headRef: spec.Head, baseRef: spec.Base, created: s.now()}
	if p.baseRef == "" {
		p.baseRef = r.defaultBranch
	}
	if owner, branch, fork := strings.Cut(spec.Head, ":"); fork && !strings.EqualFold(owner, r.owner.login) {
		p.headRef, p.headRepo = branch, nil
		for _, f := range s.repos {
			if f.parent == r && strings.EqualFold(f.owner.login, owner) {
				p.headRepo, p.headOwner = f, f.owner
			}
		}
		if p.headRepo == nil {
			return Pull{}, fmt.Errorf("pull request: %s has no fork of %s", owner, repo)
		}
	}
	for _, other := range r.pulls {
		if other.state == "open" && other.headRepo == p.headRepo && other.headRef == p.headRef && other.baseRef == p.baseRef {
			return Pull{}, fmt.Errorf("pull request: #%d exists already for that branch", other.number)
		}
	}
	head, base := p.headRepo.git.branch(p.headRef), r.git.branch(p.baseRef)
	if head == "" || base == "" || head == base {
		return Pull{}, fmt.Errorf("pull request: no commits between %s and %s", p.baseRef, p.headRef)
	}
	r.numbers++
	p.number = r.numbers
	if err := s.refresh(p); err != nil {
		return Pull{}, err
	}
	r.pulls = append(r.pulls, p)
	if p.headRepo == r {
		s.openSuites(r, sender, p.headRef, "", p.headSHA)
	}
	s.emitPull(p, sender, "opened", object{})
	return p.view(), nil
}

// refresh reads the branches of a pull request: its head and test merge become refs/pull/N/head and /merge.
func (s *Server) refresh(p *pull) error {
	g := p.repo.git
	ref := fmt.Sprintf("refs/pull/%d/", p.number)
	p.updated = s.now()
	if p.headRepo != nil {
		if sha := p.headRepo.git.branch(p.headRef); sha != "" {
			p.headSHA = sha
		}
		if p.headRepo != p.repo {
			if _, err := g.run("fetch", "-q", "--no-tags", string(p.headRepo.git), "+refs/heads/"+p.headRef+":"+ref+"head"); err != nil {
				return err
			}
		} else if err := g.setRef(ref+"head", p.headSHA); err != nil {
			return err
		}
	}
	if base := g.branch(p.baseRef); base != "" {
		p.baseSHA = base
	}
	merge, clean, err := g.merge(p.baseSHA, p.headSHA, signature(p.author, s.now()), fmt.Sprintf("Merge %s into %s", p.headSHA, p.baseSHA))
	if err != nil {
		return err
	}
	if p.mergeable = clean; clean {
		p.mergeSHA = merge
		if err := g.setRef(ref+"merge", merge); err != nil {
			return err
		}
	}
	files, err := s.filesOf(p, false)
	if err != nil {
		return err
	}
	p.changedFiles, p.additions, p.deletions = len(files), 0, 0
	for _, f := range files {
		p.additions += f.added
		p.deletions += f.removed
	}
	count, err := g.run("rev-list", "--count", p.headSHA, "^"+p.baseSHA)
	if err != nil {
		return err
	}
	p.commits, err = strconv.Atoi(count)
	return err
}

func (s *Server) filesOf(p *pull, patches bool) ([]fileChange, error) {
	base := p.repo.git.mergeBase(p.baseSHA, p.headSHA)
	if !patches {
		return s.changed(p.repo.git, base, p.headSHA)
	}
	return p.repo.git.changes(base, p.headSHA, true)
}

// emitPull sends an event about a pull request.
func (s *Server) emitPull(p *pull, sender *account, action string, more object) {
	p.updated = s.now()
	body := object{"number": p.number, "pull_request": s.pullFull(p)}
	if action == "opened" { // GitHub has not looked yet
		full := body["pull_request"].(object)
		full["mergeable"], full["rebaseable"], full["mergeable_state"], full["merge_commit_sha"] = nil, nil, "unknown", nil
	}
	maps.Copy(body, more)
	s.emit(p.repo, sender, "pull_request", action, body)
}

func (s *Server) pull(r *repo, number int) (*pull, error) {
	for _, p := range r.pulls {
		if p.number == number {
			return p, nil
		}
	}
	return nil, fmt.Errorf("pull request %s#%d: does not exist", r.fullName(), number)
}

// pullBy finds a pull request for a person who is its author or has a permission on the repository.
func (s *Server) pullBy(by, repo string, number int, need Permission) (*pull, *account, error) {
	r, sender, err := s.repoBy(by, repo, Read)
	if err != nil {
		return nil, nil, err
	}
	p, err := s.pull(r, number)
	if err != nil {
		return nil, nil, err
	}
	if need != Read {
		if r.archived {
			return nil, nil, fmt.Errorf("repository %s: archived, so read-only", repo)
		}
		if have := s.permission(r, sender); p.author != sender && !have.atLeast(need) {
			return nil, nil, fmt.Errorf("pull request %s#%d: %s has permission %s, needs %s", repo, number, by, have, need)
		}
	}
	return p, sender, nil
}

// Pull looks a pull request up.
func (s *Server) Pull(repo string, number int) (Pull, error) {
	defer s.lock()()
	r, err := s.repo(repo)
	if err != nil {
		return Pull{}, err
	}
	p, err := s.pull(r, number)
	if err != nil {
		return Pull{}, err
	}
	return p.view(), nil
}

// Pulls lists a repository's pull requests, oldest first.
func (s *Server) Pulls(repo string) ([]Pull, error) {
	defer s.lock()()
	r, err := s.repo(repo)
	if err != nil {
		return nil, err
	}
	var all []Pull
	for _, p := range r.pulls {
		all = append(all, p.view())
	}
	return all, nil
}

// Diff is the text of a pull request's changes since the merge base.
func (s *Server) Diff(repo string, number int) (string, error) {
	defer s.lock()()
	r, err := s.repo(repo)
	if err != nil {
		return "", err
	}
	p, err := s.pull(r, number)
	if err != nil {
		return "", err
	}
	return r.git.run("diff", "-M", r.git.mergeBase(p.baseSHA, p.headSHA), p.headSHA, "--")
}

// ClosePull closes a pull request without merging it.
func (s *Server) ClosePull(by, repo string, number int) error {
	return s.changePull(by, repo, number, func(p *pull, sender *account) error {
		if p.state != "open" {
			return errors.New("not open")
		}
		s.dequeue(p, sender, "MANUAL")
		p.state, p.closed = "closed", s.now()
		s.emitPull(p, sender, "closed", object{})
		return nil
	})
}

// ReopenPull opens a closed pull request again.
func (s *Server) ReopenPull(by, repo string, number int) error {
	return s.changePull(by, repo, number, func(p *pull, sender *account) error {
		if p.state != "closed" || p.merged || p.headRepo == nil || p.headRepo.git.branch(p.headRef) == "" {
			return errors.New("not closed, merged, or its branch is gone")
		}
		p.state, p.closed = "open", time.Time{}
		if err := s.refresh(p); err != nil {
			return err
		}
		s.emitPull(p, sender, "reopened", object{})
		return nil
	})
}

// ChangeBase points a pull request at another base branch.
func (s *Server) ChangeBase(by, repo string, number int, base string) error {
	return s.changePull(by, repo, number, func(p *pull, sender *account) error {
		if p.state != "open" || p.repo.git.branch(base) == "" {
			return fmt.Errorf("not open, or no branch %q", base)
		}
		from := object{"base": object{"ref": object{"from": p.baseRef}, "sha": object{"from": p.baseSHA}}}
		p.baseRef = base
		if err := s.refresh(p); err != nil {
			return err
		}
		s.emitPull(p, sender, "edited", object{"changes": from})
		return nil
	})
}

// EditPull changes a pull request's title and body.
func (s *Server) EditPull(by, repo string, number int, title, body string) error {
	return s.changePull(by, repo, number, func(p *pull, sender *account) error {
		from := object{}
		if title != p.title {
			from["title"] = object{"from": p.title}
		}
		if body != p.body {
			from["body"] = object{"from": p.body}
		}
		p.title, p.body = title, body
		s.emitPull(p, sender, "edited", object{"changes": from})
		return nil
	})
}

// SetDraft turns a pull request into a draft, or makes it ready for review.
func (s *Server) SetDraft(by, repo string, number int, draft bool) error {
	return s.changePull(by, repo, number, func(p *pull, sender *account) error {
		if p.state != "open" || p.draft == draft {
			return errors.New("not open, or nothing to change")
		}
		action := "ready_for_review"
		if p.draft = draft; draft {
			action = "converted_to_draft"
		}
		s.emitPull(p, sender, action, object{})
		return nil
	})
}

func (s *Server) changePull(by, repo string, number int, change func(*pull, *account) error) error {
	defer s.lock()()
	p, sender, err := s.pullBy(by, repo, number, Triage)
	if err != nil {
		return err
	}
	if err := change(p, sender); err != nil {
		return fmt.Errorf("pull request %s#%d: %w", repo, number, err)
	}
	return nil
}
