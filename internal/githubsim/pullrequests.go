package githubsim

import (
	"net/http"
	"slices"
	"strings"
)

// GET /repos/{owner}/{repo}/pulls
func (s *Server) listPulls(c *call) reply {
	state, head, base := c.query("state"), c.query("head"), c.query("base")
	if state == "" {
		state = "open"
	}
	var all []*pull
	for _, p := range c.repo.pulls {
		if state != "all" && p.state != state || base != "" && p.baseRef != base ||
			head != "" && !strings.EqualFold(head, p.headOwner.login+":"+p.headRef) {
			continue
		}
		all = append(all, p)
	}
	sort, direction := c.query("sort"), c.query("direction")
	slices.SortStableFunc(all, func(a, b *pull) int {
		if sort == "updated" {
			return a.updated.Compare(b.updated)
		}
		return a.number - b.number
	})
	if direction == "desc" || direction == "" && sort != "updated" && sort != "popularity" && sort != "long-running" {
		slices.Reverse(all)
	}
	return page(c, all, s.pullSimple)
}

func (s *Server) findPull(c *call, name string) *pull {
	p, err := s.pull(c.repo, int(c.id(name)))
	if err != nil {
		return nil
	}
	return p
}

// GET /repos/{owner}/{repo}/pulls/{pull_number}
func (s *Server) getPull(c *call) reply {
	p := s.findPull(c, "pull_number")
	if p == nil {
		return fail(http.StatusNotFound, "Not Found")
	}
	return ok(s.pullFull(p))
}

// GET /repos/{owner}/{repo}/pulls/{pull_number}/commits
func (s *Server) listPullCommits(c *call) reply {
	p := s.findPull(c, "pull_number")
	if p == nil {
		return fail(http.StatusNotFound, "Not Found")
	}
	shas, err := c.repo.git.between(p.baseSHA, p.headSHA, 1<<20)
	if err != nil {
		return fail(http.StatusInternalServerError, "Server Error")
	}
	return page(c, shas[:min(len(shas), commitsLimit)], func(sha string) object {
		if known, err := s.show(c.repo.git, sha); err == nil {
			return s.commitShown(c.repo, known)
		}
		return nil
	})
}

// GET /repos/{owner}/{repo}/pulls/{pull_number}/files
func (s *Server) listPullFiles(c *call) reply {
	p := s.findPull(c, "pull_number")
	if p == nil {
		return fail(http.StatusNotFound, "Not Found")
	}
	files, err := s.filesOf(p, true)
	if err != nil {
		return fail(http.StatusInternalServerError, "Server Error")
	}
	return page(c, files[:min(len(files), filesLimit)], func(f fileChange) object { return s.fileShown(c.repo, p.headSHA, f) })
}

// GET /repos/{owner}/{repo}/commits/{ref}
func (s *Server) getCommit(c *call) reply {
	sha := c.repo.git.resolve(c.value("ref"))
	if sha == "" {
		return fail(http.StatusUnprocessableEntity, "No commit found for SHA: "+c.value("ref"))
	}
	known, err := s.show(c.repo.git, sha)
	if err != nil {
		return fail(http.StatusInternalServerError, "Server Error")
	}
	parent := ""
	if len(known.parents) > 0 {
		parent = known.parents[0]
	}
	files, err := c.repo.git.changes(parent, sha, true)
	if err != nil {
		return fail(http.StatusInternalServerError, "Server Error")
	}
	o := s.commitShown(c.repo, known)
	added, removed, list := 0, 0, []object{}
	for _, f := range files {
		added, removed = added+f.added, removed+f.removed
		list = append(list, s.fileShown(c.repo, sha, f))
	}
	o["stats"] = object{"additions": added, "deletions": removed, "total": added + removed}
	o["files"] = list[:min(len(list), 300)]
	return ok(o)
}

// GET /repos/{owner}/{repo}/commits/{ref}/pulls
func (s *Server) listCommitPulls(c *call) reply {
	sha := c.repo.git.resolve(c.value("ref"))
	if sha == "" {
		return fail(http.StatusUnprocessableEntity, "No commit found for SHA: "+c.value("ref"))
	}
	var all []*pull
	for _, p := range c.repo.pulls {
		if p.headSHA == sha || p.merged && p.mergeSHA == sha || p.state == "open" && c.repo.git.isAncestor(sha, p.headSHA) && !c.repo.git.isAncestor(sha, p.baseSHA) {
			all = append(all, p)
		}
	}
	return page(c, all, s.pullSimple)
}
