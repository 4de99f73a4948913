package githubsim

import (
	"encoding/base64"
	"net/http"
	"path"
	"strings"
)

// GET /meta
func (s *Server) getMeta(*call) reply {
	return ok(object{"verifiable_password_authentication": false, "hooks": []string{"127.0.0.0/8"}})
}

// GET /repos/{owner}/{repo}
func (s *Server) getRepo(c *call) reply {
	o := s.repository(c.repo)
	forks := o["forks_count"]
	o["subscribers_count"], o["network_count"] = 0, forks
	o["temp_clone_token"] = nil
	o["permissions"] = object{"admin": false, "maintain": false, "push": false, "triage": false, "pull": true}
	if c.repo.owner.kind == "Organization" {
		o["organization"] = s.person(c.repo.owner)
	}
	if c.repo.parent != nil {
		o["parent"], o["source"] = s.repository(c.repo.parent), s.repository(c.repo.parent)
	}
	if c.user != nil {
		o["permissions"] = flags(s.permission(c.repo, c.user))
	}
	return ok(o)
}

func flags(p Permission) object {
	return object{"pull": p.atLeast(Read), "triage": p.atLeast(Triage), "push": p.atLeast(Write), "maintain": p.atLeast(Maintain), "admin": p.atLeast(Admin)}
}

// GET /repos/{owner}/{repo}/collaborators/{username}/permission: the older field knows only four levels.
func (s *Server) getPermission(c *call) reply {
	u := s.accounts[strings.ToLower(c.value("username"))]
	if u == nil || u.kind == "Organization" {
		return fail(http.StatusNotFound, "Not Found")
	}
	p := s.permission(c.repo, u)
	old := map[Permission]string{None: "none", Read: "read", Triage: "read", Write: "write", Maintain: "write", Admin: "admin"}[p]
	shown := s.person(u)
	shown["permissions"] = flags(p)
	shown["role_name"] = string(p)
	return ok(object{"permission": old, "role_name": string(p), "user": shown})
}

// GET /repos/{owner}/{repo}/rules/branches/{branch}
func (s *Server) getRules(c *call) reply {
	var rules []object
	rule := func(kind string, parameters object) {
		rules = append(rules, object{"type": kind, "parameters": parameters, "ruleset_source_type": "Repository",
			"ruleset_source": c.repo.fullName(), "ruleset_id": c.repo.id})
	}
	if p := c.repo.protections[c.value("branch")]; p != nil {
		if len(p.Required) > 0 {
			list := []object{}
			for _, r := range p.Required {
				o := object{"context": r.Context}
				if r.AppID > 0 {
					o["integration_id"] = r.AppID
				}
				list = append(list, o)
			}
			rule("required_status_checks", object{"required_status_checks": list, "strict_required_status_checks_policy": p.Strict})
		}
		if p.Queue != nil {
			rule("merge_queue", object{"check_response_timeout_minutes": max(1, int(p.Queue.Timeout.Minutes())), "grouping_strategy": "ALLGREEN",
				"max_entries_to_build": 5, "max_entries_to_merge": 1, "merge_method": "MERGE", "min_entries_to_merge": 1, "min_entries_to_merge_wait_minutes": 5})
		}
		if p.Approvals > 0 {
			rule("pull_request", object{"dismiss_stale_reviews_on_push": false, "require_code_owner_review": false, "require_last_push_approval": false,
				"required_approving_review_count": p.Approvals, "required_review_thread_resolution": false})
		}
	}
	return page(c, rules, func(o object) object { return o })
}

// GET /repos/{owner}/{repo}/git/ref/{ref}
func (s *Server) getRef(c *call) reply {
	ref := "refs/" + c.value("ref")
	sha := c.repo.git.resolve(ref)
	if sha == "" || !strings.HasPrefix(c.value("ref"), "heads/") && !strings.HasPrefix(c.value("ref"), "tags/") && !strings.HasPrefix(c.value("ref"), "pull/") {
		return fail(http.StatusNotFound, "Not Found")
	}
	at := s.repositoryURL(c.repo)
	return ok(object{"ref": ref, "node_id": nodeID("REF", ref), "url": at + "/git/" + ref, "object": object{"type": "commit", "sha": sha, "url": at + "/git/commits/" + sha}})
}

// GET /repos/{owner}/{repo}/contents/{path}: files and, without their content, folders.
func (s *Server) getContents(c *call) reply {
	ref := c.query("ref")
	if ref == "" {
		ref = c.repo.defaultBranch
	}
	notFound := fail(http.StatusNotFound, "Not Found")
	sha := c.repo.git.resolve(ref)
	name := strings.Trim(path.Clean("/"+c.value("path")), "/")
	if sha == "" {
		return fail(http.StatusNotFound, "No commit found for the ref "+ref)
	}
	kind, err := c.repo.git.run("cat-file", "-t", sha+":"+name)
	if err != nil {
		return notFound
	}
	if kind == "tree" {
		out, err := c.repo.git.run("ls-tree", "-z", "-l", sha+":"+name)
		if err != nil {
			return notFound
		}
		list := []object{}
		for line := range strings.SplitSeq(strings.TrimSuffix(out, "\x00"), "\x00") {
			meta, file, ok := strings.Cut(line, "\t")
			f := strings.Fields(meta) // mode, type, id, size
			if !ok || len(f) < 4 {
				continue
			}
			kind := map[string]string{"tree": "dir", "commit": "submodule"}[f[1]]
			if kind == "" {
				kind = "file"
			}
			list = append(list, s.content(c, sha, path.Join(name, file), kind, f[2], size(f[3])))
		}
		return ok(list)
	}
	id, err := c.repo.git.run("rev-parse", sha+":"+name)
	if err != nil {
		return notFound
	}
	cmd := c.repo.git.command("cat-file", "blob", id)
	raw, err := cmd.Output()
	if err != nil {
		return notFound
	}
	o := s.content(c, sha, name, "file", id, len(raw))
	o["encoding"], o["content"] = "base64", base64.StdEncoding.EncodeToString(raw)
	return ok(o)
}

func size(field string) int {
	n := 0
	for _, d := range field {
		if d < '0' || d > '9' {
			return 0
		}
		n = n*10 + int(d-'0')
	}
	return n
}

func (s *Server) content(c *call, sha, name, kind, id string, bytes int) object {
	at := s.api("/repos/%s/contents/%s?ref=%s", c.repo.fullName(), escapePath(name), sha)
	blob := s.api("/repos/%s/git/blobs/%s", c.repo.fullName(), id)
	page := s.web("/%s/blob/%s/%s", c.repo.fullName(), sha, escapePath(name))
	return object{"type": kind, "size": bytes, "name": path.Base(name), "path": name, "sha": id, "url": at, "git_url": blob, "html_url": page,
		"download_url": s.web("/%s/raw/%s/%s", c.repo.fullName(), sha, escapePath(name)), "_links": object{"self": at, "git": blob, "html": page}}
}
