package githubsim

import (
	"encoding/base64"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strings"
)

// How GitHub shows its things as JSON. One shape serves REST answers and webhook payloads; where they differ, the caller adds or drops keys.

func nodeID(kind string, id any) string {
	return base64.StdEncoding.EncodeToString(fmt.Appendf(nil, "%s%v", kind, id))
}

func (s *Server) api(format string, args ...any) string {
	return s.baseURL + apiPrefix + fmt.Sprintf(format, args...)
}

func (s *Server) web(format string, args ...any) string {
	return s.baseURL + fmt.Sprintf(format, args...)
}

// person shows an account as a "simple user".
func (s *Server) person(a *account) object {
	u := s.api("/users/%s", url.PathEscape(a.login))
	page := s.web("/%s", a.login)
	if a.kind == "Bot" {
		page = s.web("/apps/%s", strings.TrimSuffix(a.login, "[bot]"))
	}
	return object{
		"login": a.login, "id": a.id, "node_id": nodeID("U", a.id), "avatar_url": s.web("/avatars/u/%d", a.id), "gravatar_id": "",
		"url": u, "html_url": page, "followers_url": u + "/followers", "following_url": u + "/following{/other_user}",
		"gists_url": u + "/gists{/gist_id}", "starred_url": u + "/starred{/owner}{/repo}", "subscriptions_url": u + "/subscriptions",
		"organizations_url": u + "/orgs", "repos_url": u + "/repos", "events_url": u + "/events{/privacy}",
		"received_events_url": u + "/received_events", "type": a.kind, "site_admin": false,
	}
}

// personOrNil shows an account, or null.
func (s *Server) personOrNil(a *account) any {
	if a == nil {
		return nil
	}
	return s.person(a)
}

func (s *Server) organization(a *account) object {
	u := s.api("/orgs/%s", a.login)
	return object{
		"login": a.login, "id": a.id, "node_id": nodeID("O", a.id), "url": u, "repos_url": u + "/repos", "events_url": u + "/events",
		"hooks_url": u + "/hooks", "issues_url": u + "/issues", "members_url": u + "/members{/member}",
		"public_members_url": u + "/public_members{/member}", "avatar_url": s.web("/avatars/u/%d", a.id), "description": nil,
	}
}

func (s *Server) membership(org, u *account, role string) object {
	at := s.api("/orgs/%s", org.login)
	return object{"url": at + "/memberships/" + u.login, "state": "active", "role": role, "organization_url": at, "user": s.person(u)}
}

func (s *Server) team(t *team) object {
	u := s.api("/organizations/%d/team/%d", t.org.id, t.id)
	return object{
		"name": t.name, "id": t.id, "node_id": nodeID("T", t.id), "slug": t.slug, "description": nil, "privacy": "closed", "url": u,
		"html_url": s.web("/orgs/%s/teams/%s", t.org.login, t.slug), "members_url": u + "/members{/member}",
		"repositories_url": u + "/repos", "permission": "pull", "parent": nil, "notification_setting": "notifications_enabled",
	}
}

// repositoryURLs are the addresses a repository shows, by the end of their path.
var repositoryURLs = map[string]string{
	"archive_url": "/{archive_format}{/ref}", "assignees_url": "/assignees{/user}", "blobs_url": "/git/blobs{/sha}",
	"branches_url": "/branches{/branch}", "collaborators_url": "/collaborators{/collaborator}", "comments_url": "/comments{/number}",
	"commits_url": "/commits{/sha}", "compare_url": "/compare/{base}...{head}", "contents_url": "/contents/{+path}",
	"contributors_url": "/contributors", "deployments_url": "/deployments", "downloads_url": "/downloads", "events_url": "/events",
	"forks_url": "/forks", "git_commits_url": "/git/commits{/sha}", "git_refs_url": "/git/refs{/sha}", "git_tags_url": "/git/tags{/sha}",
	"hooks_url": "/hooks", "issue_comment_url": "/issues/comments{/number}", "issue_events_url": "/issues/events{/number}",
	"issues_url": "/issues{/number}", "keys_url": "/keys{/key_id}", "labels_url": "/labels{/name}", "languages_url": "/languages",
	"merges_url": "/merges", "milestones_url": "/milestones{/number}", "notifications_url": "/notifications{?since,all,participating}",
	"pulls_url": "/pulls{/number}", "releases_url": "/releases{/id}", "stargazers_url": "/stargazers", "statuses_url": "/statuses/{sha}",
	"subscribers_url": "/subscribers", "subscription_url": "/subscription", "tags_url": "/tags", "teams_url": "/teams",
	"trees_url": "/git/trees{/sha}", "url": "",
}

func (s *Server) repositoryURL(r *repo) string { return s.api("/repos/%s", r.fullName()) }

func (s *Server) repository(r *repo) object {
	page := s.web("/%s", r.fullName())
	visibility := "public"
	if r.private {
		visibility = "private"
	}
	open := 0
	for _, p := range r.pulls {
		if p.state == "open" {
			open++
		}
	}
	o := object{
		"id": r.id, "node_id": nodeID("R", r.id), "name": r.name, "full_name": r.fullName(), "owner": s.person(r.owner), "private": r.private,
		"html_url": page, "description": nil, "fork": r.parent != nil, "created_at": stamp(r.created), "updated_at": stamp(r.pushed), "pushed_at": stamp(r.pushed),
		"git_url": strings.Replace(page, "http", "git", 1) + ".git", "ssh_url": "git@github.localhost:" + r.fullName() + ".git",
		"clone_url": page + ".git", "svn_url": page, "homepage": nil, "size": 0, "stargazers_count": 0, "watchers_count": 0,
		"language": nil, "has_issues": true, "has_projects": false, "has_downloads": true, "has_wiki": false, "has_pages": false, "has_discussions": false,
		"forks_count": r.forks, "mirror_url": nil, "archived": r.archived, "disabled": false, "open_issues_count": open, "license": nil,
		"allow_forking": true, "is_template": false, "web_commit_signoff_required": false, "topics": []string{}, "visibility": visibility,
		"forks": r.forks, "open_issues": open, "watchers": 0, "default_branch": r.defaultBranch, "custom_properties": object{},
	}
	if r.description != "" {
		o["description"] = r.description
	}
	at := s.repositoryURL(r)
	for key, end := range repositoryURLs {
		o[key] = at + end
	}
	return o
}

// brief shows repositories as installation events do.
func brief(repos []*repo) []object {
	out := make([]object, 0, len(repos))
	for _, r := range repos {
		out = append(out, object{"id": r.id, "node_id": nodeID("R", r.id), "name": r.name, "full_name": r.fullName(), "private": r.private})
	}
	return out
}

func (s *Server) integration(a *app) object {
	return object{
		"id": a.id, "slug": a.slug, "node_id": nodeID("A", a.id), "owner": s.person(a.owner), "name": a.name, "description": "",
		"external_url": s.web("/apps/%s", a.slug), "html_url": s.web("/apps/%s", a.slug), "created_at": stamp(a.created), "updated_at": stamp(a.created),
		"permissions": a.permissions, "events": listed(a.events),
	}
}

// listed is the list, never null.
func listed(list []string) []string { return append([]string{}, list...) }

func (s *Server) installation(i *installation) object {
	o := object{
		"id": i.id, "account": s.person(i.account), "repository_selection": i.selected(), "access_tokens_url": s.api("/app/installations/%d/access_tokens", i.id),
		"repositories_url": s.api("/installation/repositories"), "html_url": s.web("/settings/installations/%d", i.id), "app_id": i.app.id, "app_slug": i.app.slug,
		"target_id": i.account.id, "target_type": i.account.kind, "permissions": i.permissions, "events": listed(i.events), "created_at": stamp(i.created),
		"updated_at": stamp(i.created), "single_file_name": nil, "has_multiple_single_files": false, "single_file_paths": []string{},
		"suspended_by": s.personOrNil(i.suspender), "suspended_at": moment(i.suspended),
	}
	if i.account.kind == "Organization" {
		o["html_url"] = s.web("/organizations/%s/settings/installations/%d", i.account.login, i.id)
	}
	return o
}

// association is what the author of something is to the repository.
func (s *Server) association(r *repo, a *account) string {
	switch {
	case r.owner == a:
		return "OWNER"
	case r.owner.members[a] != "":
		return "MEMBER"
	case r.collaborators[a] != "":
		return "COLLABORATOR"
	case slices.ContainsFunc(r.pulls, func(p *pull) bool { return p.merged && p.author == a }):
		return "CONTRIBUTOR"
	}
	return "NONE"
}

// pullSimple shows a pull request as lists and reviews do.
func (s *Server) pullSimple(p *pull) object {
	at := s.api("/repos/%s/pulls/%d", p.repo.fullName(), p.number)
	issue := s.api("/repos/%s/issues/%d", p.repo.fullName(), p.number)
	statuses := s.api("/repos/%s/statuses/%s", p.repo.fullName(), p.headSHA)
	page := s.web("/%s/pull/%d", p.repo.fullName(), p.number)
	reviewComment := s.api("/repos/%s/pulls/comments{/number}", p.repo.fullName())
	link := func(to string) object { return object{"href": to} }
	head := object{"label": p.headOwner.login + ":" + p.headRef, "ref": p.headRef, "sha": p.headSHA, "user": s.person(p.headOwner), "repo": nil}
	if p.headRepo != nil {
		head["repo"] = s.repository(p.headRepo)
	}
	return object{
		"url": at, "id": p.id, "node_id": nodeID("PR", p.id), "html_url": page, "diff_url": page + ".diff", "patch_url": page + ".patch",
		"issue_url": issue, "commits_url": at + "/commits", "review_comments_url": at + "/comments", "review_comment_url": reviewComment,
		"comments_url": issue + "/comments", "statuses_url": statuses, "number": p.number, "state": p.state, "locked": false, "title": p.title,
		"user": s.person(p.author), "body": text(p.body), "labels": []object{}, "milestone": nil, "active_lock_reason": nil,
		"created_at": stamp(p.created), "updated_at": stamp(p.updated), "closed_at": moment(p.closed), "merged_at": moment(p.mergedAt),
		"merge_commit_sha": text(p.mergeSHA), "assignee": nil, "assignees": []object{}, "requested_reviewers": []object{}, "requested_teams": []object{},
		"head": head, "base": object{"label": p.repo.owner.login + ":" + p.baseRef, "ref": p.baseRef, "sha": p.baseSHA,
			"user": s.person(p.repo.owner), "repo": s.repository(p.repo)},
		"_links": object{"self": link(at), "html": link(page), "issue": link(issue), "comments": link(issue + "/comments"),
			"review_comments": link(at + "/comments"), "review_comment": link(reviewComment), "commits": link(at + "/commits"), "statuses": link(statuses)},
		"author_association": s.association(p.repo, p.author), "auto_merge": nil, "draft": p.draft,
	}
}

// text is a string, or null for the empty one.
func text(v string) any {
	if v == "" {
		return nil
	}
	return v
}

// pullFull shows a pull request as its own page and its events do.
func (s *Server) pullFull(p *pull) object {
	o := s.pullSimple(p)
	var mergeable any
	state := "unknown"
	if p.state == "open" {
		mergeable = p.mergeable
		switch {
		case !p.mergeable:
			state = "dirty"
		case p.draft:
			state = "draft"
		case s.unmet(p) != nil:
			state = "blocked"
		default:
			state = "clean"
		}
	}
	maps.Copy(o, object{
		"merged": p.merged, "mergeable": mergeable, "rebaseable": mergeable, "mergeable_state": state, "merged_by": s.personOrNil(p.mergedBy),
		"comments": len(p.comments), "review_comments": 0, "maintainer_can_modify": false,
		"commits": p.commits, "additions": p.additions, "deletions": p.deletions, "changed_files": p.changedFiles,
	})
	return o
}

// pullMinimal shows a pull request inside a check run.
func (s *Server) pullMinimal(p *pull) object {
	ref := func(r *repo) object { return object{"id": r.id, "url": s.repositoryURL(r), "name": r.name} }
	return object{"id": p.id, "number": p.number, "url": s.api("/repos/%s/pulls/%d", p.repo.fullName(), p.number),
		"head": object{"ref": p.headRef, "sha": p.headSHA, "repo": ref(p.headRepo)},
		"base": object{"ref": p.baseRef, "sha": p.baseSHA, "repo": ref(p.repo)}}
}

// issue shows the conversation side of a pull request.
func (s *Server) issue(p *pull) object {
	at := s.api("/repos/%s/issues/%d", p.repo.fullName(), p.number)
	pullURL, page := s.api("/repos/%s/pulls/%d", p.repo.fullName(), p.number), s.web("/%s/pull/%d", p.repo.fullName(), p.number)
	return object{
		"url": at, "repository_url": s.repositoryURL(p.repo), "labels_url": at + "/labels{/name}", "comments_url": at + "/comments", "events_url": at + "/events",
		"html_url": page, "id": p.id + 1<<40, "node_id": nodeID("PR", p.id), "number": p.number, "title": p.title, "user": s.person(p.author), "labels": []object{},
		"state": p.state, "locked": false, "assignee": nil, "assignees": []object{}, "milestone": nil, "comments": len(p.comments),
		"created_at": stamp(p.created), "updated_at": stamp(p.updated), "closed_at": moment(p.closed), "author_association": s.association(p.repo, p.author),
		"active_lock_reason": nil, "draft": p.draft, "body": text(p.body), "reactions": rollup(at+"/reactions", nil), "timeline_url": at + "/timeline",
		"performed_via_github_app": nil, "state_reason": nil,
		"pull_request": object{"url": pullURL, "html_url": page, "diff_url": page + ".diff", "patch_url": page + ".patch", "merged_at": moment(p.mergedAt)},
	}
}

func (s *Server) comment(c *comment) object {
	at := s.api("/repos/%s/issues/comments/%d", c.pull.repo.fullName(), c.id)
	return object{
		"url": at, "html_url": s.web("/%s/pull/%d#issuecomment-%d", c.pull.repo.fullName(), c.pull.number, c.id),
		"issue_url": s.api("/repos/%s/issues/%d", c.pull.repo.fullName(), c.pull.number), "id": c.id, "node_id": nodeID("IC", c.id),
		"user": s.person(c.author), "created_at": stamp(c.created), "updated_at": stamp(c.updated), "author_association": s.association(c.pull.repo, c.author),
		"body": c.body, "reactions": rollup(at+"/reactions", c.reactions), "performed_via_github_app": nil,
	}
}

// rollup counts reactions by content.
func rollup(at string, reactions []*reaction) object {
	o := object{"url": at, "total_count": len(reactions)}
	for _, content := range reactionContents {
		n := 0
		for _, r := range reactions {
			if r.content == content {
				n++
			}
		}
		o[content] = n
	}
	return o
}

func (s *Server) review(v *review) object {
	at := s.api("/repos/%s/pulls/%d", v.pull.repo.fullName(), v.pull.number)
	page := s.web("/%s/pull/%d#pullrequestreview-%d", v.pull.repo.fullName(), v.pull.number, v.id)
	return object{
		"id": v.id, "node_id": nodeID("PRR", v.id), "user": s.person(v.author), "body": v.body, "commit_id": v.sha, "submitted_at": stamp(v.submitted),
		"state": v.state, "html_url": page, "pull_request_url": at, "author_association": s.association(v.pull.repo, v.author),
		"_links": object{"html": object{"href": page}, "pull_request": object{"href": at}},
	}
}

// runShown shows a check run. detailed is for the API; events show less of the suite's App.
func (s *Server) runShown(r *run) object {
	at := s.api("/repos/%s/check-runs/%d", r.suite.repo.fullName(), r.id)
	details := r.detailsURL
	if details == "" {
		details = s.web("/apps/%s", r.suite.app.slug)
	}
	return object{
		"id": r.id, "name": r.name, "node_id": nodeID("CR", r.id), "head_sha": r.suite.sha, "external_id": r.externalID, "url": at,
		"html_url": s.web("/%s/runs/%d", r.suite.repo.fullName(), r.id), "details_url": details, "status": r.status, "conclusion": text(r.conclusion),
		"started_at": moment(r.started), "completed_at": moment(r.completed),
		"output": object{"title": text(r.output.Title), "summary": text(r.output.Summary), "text": text(r.output.Text),
			"annotations_count": len(r.annotations), "annotations_url": at + "/annotations"},
		"check_suite": object{"id": r.suite.id}, "app": s.integration(r.suite.app), "pull_requests": s.pullsOf(r.suite),
	}
}

// pullsOf are the open pull requests whose head is a suite's commit, none of them from a fork.
func (s *Server) pullsOf(u *suite) []object {
	out := []object{}
	for _, p := range u.repo.pulls {
		if p.state == "open" && p.headSHA == u.sha && p.headRepo == u.repo {
			out = append(out, s.pullMinimal(p))
		}
	}
	return out
}

func (s *Server) suiteBrief(u *suite) object {
	status, conclusion := s.suiteState(u)
	return object{
		"id": u.id, "node_id": nodeID("CS", u.id), "head_branch": text(u.branch), "head_sha": u.sha, "status": status, "conclusion": text(conclusion),
		"url": s.api("/repos/%s/check-suites/%d", u.repo.fullName(), u.id), "before": text(u.before), "after": u.sha, "pull_requests": s.pullsOf(u),
		"app": s.integration(u.app), "created_at": stamp(u.created), "updated_at": stamp(u.updated),
	}
}

func (s *Server) suiteShown(u *suite) object {
	o := s.suiteBrief(u)
	o["latest_check_runs_count"] = len(s.latest(u))
	o["check_runs_url"] = s.api("/repos/%s/check-suites/%d/check-runs", u.repo.fullName(), u.id)
	o["rerequestable"], o["runs_rerequestable"] = true, true
	o["head_commit"] = nil
	if c, err := s.show(u.repo.git, u.sha); err == nil {
		o["head_commit"] = c.head()
	}
	return o
}

// head shows a commit as check suites and merge groups do.
func (c *commit) head() object {
	return object{"id": c.sha, "tree_id": c.tree, "message": c.message, "timestamp": stamp(c.committer.at),
		"author":    object{"name": c.author.name, "email": c.author.email},
		"committer": object{"name": c.committer.name, "email": c.committer.email}}
}

// commitShown shows a commit as the REST API does.
func (s *Server) commitShown(r *repo, c *commit) object {
	at := s.api("/repos/%s", r.fullName())
	git := func(p person) object { return object{"name": p.name, "email": p.email, "date": stamp(p.at)} }
	parents := []object{}
	for _, p := range c.parents {
		parents = append(parents, object{"sha": p, "url": at + "/commits/" + p, "html_url": s.web("/%s/commit/%s", r.fullName(), p)})
	}
	return object{
		"sha": c.sha, "node_id": nodeID("C", c.sha), "url": at + "/commits/" + c.sha, "html_url": s.web("/%s/commit/%s", r.fullName(), c.sha),
		"comments_url": at + "/commits/" + c.sha + "/comments", "author": s.personOrNil(s.byEmail(c.author.email)), "committer": s.personOrNil(s.byEmail(c.committer.email)),
		"parents": parents, "commit": object{"url": at + "/git/commits/" + c.sha, "author": git(c.author), "committer": git(c.committer), "message": c.message,
			"comment_count": 0, "tree": object{"sha": c.tree, "url": at + "/git/trees/" + c.tree},
			"verification": object{"verified": false, "reason": "unsigned", "signature": nil, "payload": nil, "verified_at": nil}},
	}
}

func (s *Server) byEmail(email string) *account {
	for _, a := range s.accounts {
		if a.email == email {
			return a
		}
	}
	return nil
}

// fileShown shows one file of a diff.
func (s *Server) fileShown(r *repo, sha string, f fileChange) object {
	o := object{
		"sha": f.blob, "filename": f.path, "status": f.status, "additions": f.added, "deletions": f.removed, "changes": f.added + f.removed,
		"blob_url": s.web("/%s/blob/%s/%s", r.fullName(), sha, escapePath(f.path)), "raw_url": s.web("/%s/raw/%s/%s", r.fullName(), sha, escapePath(f.path)),
		"contents_url": s.api("/repos/%s/contents/%s?ref=%s", r.fullName(), escapePath(f.path), sha),
	}
	if f.from != "" {
		o["previous_filename"] = f.from
	}
	if f.patch != "" {
		o["patch"] = f.patch
	}
	return o
}

func escapePath(path string) string {
	parts := strings.Split(path, "/")
	for i := range parts {
		parts[i] = url.PathEscape(parts[i])
	}
	return strings.Join(parts, "/")
}
