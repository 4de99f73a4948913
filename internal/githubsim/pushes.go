package githubsim

import (
	"fmt"
	"strings"
)

// pushed is a push before it happened.
type pushed struct {
	files   Files
	message string
	force   string // start from this commit instead of the branch's tip
}

// Push commits files onto a branch, which begins at the default branch's tip when it is new, and returns the commit.
// Open pull requests from the branch get their synchronize event.
func (s *Server) Push(by, repo, branch, message string, files Files) (sha string, err error) {
	return s.pushBy(by, repo, branch, pushed{files: files, message: message})
}

// ForcePush replaces a branch's tip with a commit of files onto another commit, from, which a ref or an id names.
func (s *Server) ForcePush(by, repo, branch, from, message string, files Files) (sha string, err error) {
	return s.pushBy(by, repo, branch, pushed{files: files, message: message, force: from})
}

func (s *Server) pushBy(by, repo, branch string, p pushed) (string, error) {
	defer s.lock()()
	r, sender, err := s.repoBy(by, repo, Write)
	if err != nil {
		return "", err
	}
	return s.push(sender, r, branch, p)
}

func (s *Server) push(sender *account, r *repo, branch string, p pushed) (string, error) {
	before := r.git.branch(branch)
	if before == "" {
		if _, err := r.git.run("check-ref-format", "refs/heads/"+branch); err != nil {
			return "", fmt.Errorf("branch %q: not a name", branch)
		}
	}
	from := before
	if p.force != "" {
		if from = r.git.resolve(p.force); from == "" {
			return "", fmt.Errorf("branch %s: no commit %q to start from", branch, p.force)
		}
	} else if from == "" {
		from = r.git.branch(r.defaultBranch)
	}
	sha, err := r.git.commitFiles("refs/heads/"+branch, from, signature(sender, s.now()), p.message, p.files)
	if err != nil {
		return "", err
	}
	s.followPush(r, sender, branch, before, sha)
	return sha, nil
}

// PushCommit sets a branch to a commit the repository has already: a branch of another's tip, or a rewind.
func (s *Server) PushCommit(by, repo, branch, rev string) error {
	defer s.lock()()
	r, sender, err := s.repoBy(by, repo, Write)
	if err != nil {
		return err
	}
	sha, before := r.git.resolve(rev), r.git.branch(branch)
	if sha == "" {
		return fmt.Errorf("repository %s: no commit %q", repo, rev)
	}
	if err := r.git.setRef("refs/heads/"+branch, sha); err != nil {
		return err
	}
	s.followPush(r, sender, branch, before, sha)
	return nil
}

// DeleteBranch deletes a branch. Open pull requests from it stay open.
func (s *Server) DeleteBranch(by, repo, branch string) error {
	defer s.lock()()
	r, sender, err := s.repoBy(by, repo, Write)
	if err != nil {
		return err
	}
	return s.deleteBranch(r, sender, branch)
}

func (s *Server) deleteBranch(r *repo, sender *account, branch string) error {
	before := r.git.branch(branch)
	if before == "" {
		return fmt.Errorf("branch %s: does not exist", branch)
	}
	if err := r.git.deleteRef("refs/heads/" + branch); err != nil {
		return err
	}
	s.emitPush(r, sender, branch, before, "")
	return nil
}

// followPush does what follows when a branch has a new tip: the events, the suites, the pull requests.
func (s *Server) followPush(r *repo, sender *account, branch, before, after string) {
	if before == after {
		return
	}
	r.pushed = s.now()
	s.emitPush(r, sender, branch, before, after)
	if c, err := s.show(r.git, after); err == nil && !strings.Contains(c.message, "skip-checks: true") {
		s.openSuites(r, sender, branch, before, after)
	}
	for _, base := range s.repos {
		for _, p := range base.pulls {
			if p.state == "open" && p.headRepo == r && p.headRef == branch {
				old := p.headSHA
				s.refresh(p)
				s.emitPull(p, sender, "synchronize", object{"before": old, "after": p.headSHA})
			}
		}
	}
	s.requeue(r, branch)
}

// emitPush sends the push event; "" as before or after is a branch made or deleted.
func (s *Server) emitPush(r *repo, sender *account, branch, before, after string) {
	straight := before == "" || after == "" // on top of before
	if !straight {
		c, err := s.show(r.git, after)
		straight = err == nil && len(c.parents) > 0 && c.parents[0] == before || r.git.isAncestor(before, after)
	}
	body := object{"ref": "refs/heads/" + branch, "before": before, "after": after, "created": before == "", "deleted": after == "",
		"forced": !straight, "base_ref": nil, "commits": []object{}, "head_commit": nil,
		"compare": s.web("/%s/compare/%.12s...%.12s", r.fullName(), before, after), "pusher": object{"name": sender.login, "email": sender.email}}
	if before == "" {
		body["before"] = zeroSHA
	}
	if after == "" {
		body["after"] = zeroSHA
	} else {
		since := before
		if since == "" && branch != r.defaultBranch {
			since = r.git.branch(r.defaultBranch)
		}
		shas, err := r.git.between(since, after, 20)
		if err == nil {
			list := []object{}
			for _, sha := range shas {
				list = append(list, s.commitInPush(r, sha))
			}
			body["commits"] = list
		}
		body["head_commit"] = s.commitInPush(r, after)
	}
	s.emit(r, sender, "push", "", body)
}

func (s *Server) commitInPush(r *repo, sha string) object {
	c, err := s.show(r.git, sha)
	if err != nil {
		return nil
	}
	parent := ""
	if len(c.parents) > 0 {
		parent = c.parents[0]
	}
	names := map[string][]string{"added": {}, "removed": {}, "modified": {}}
	files, _ := s.changed(r.git, parent, sha)
	for _, f := range files {
		switch f.status {
		case "renamed":
			names["removed"] = append(names["removed"], f.from)
			names["added"] = append(names["added"], f.path)
		default:
			names[f.status] = append(names[f.status], f.path)
		}
	}
	who := func(p person) object {
		o := object{"name": p.name, "email": p.email}
		if a := s.byEmail(p.email); a != nil {
			o["username"] = a.login
		}
		return o
	}
	return object{"id": sha, "tree_id": c.tree, "distinct": true, "message": c.message, "timestamp": stamp(c.committer.at),
		"url": s.web("/%s/commit/%s", r.fullName(), sha), "author": who(c.author), "committer": who(c.committer),
		"added": names["added"], "removed": names["removed"], "modified": names["modified"]}
}
