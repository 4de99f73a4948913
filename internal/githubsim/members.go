package githubsim

import (
	"maps"
	"net/http"
	"slices"
	"strings"
)

// GET /orgs/{org}/memberships/{username} and /user/memberships/orgs/{org}
func (s *Server) getOrgMembership(c *call) reply {
	org, err := s.org(c.value("org"))
	if err != nil {
		return fail(http.StatusNotFound, "Not Found")
	}
	u := c.user
	if login := c.value("username"); login != "" {
		u = s.accounts[strings.ToLower(login)]
	}
	role := org.members[u]
	if role == "" {
		return fail(http.StatusNotFound, "Not Found")
	}
	o := s.membership(org, u, role)
	o["organization"] = s.organization(org)
	return ok(o)
}

// GET /orgs/{org}/members/{username}
func (s *Server) getOrgMember(c *call) reply {
	org, err := s.org(c.value("org"))
	if err != nil || org.members[s.accounts[strings.ToLower(c.value("username"))]] == "" {
		return fail(http.StatusNotFound, "Not Found")
	}
	return reply{status: http.StatusNoContent}
}

func (s *Server) findTeam(c *call) *team {
	org, err := s.org(c.value("org"))
	if err != nil {
		return nil
	}
	return org.teams[c.value("team_slug")]
}

// GET /orgs/{org}/teams/{team_slug}
func (s *Server) getTeam(c *call) reply {
	t := s.findTeam(c)
	if t == nil {
		return fail(http.StatusNotFound, "Not Found")
	}
	o := s.team(t)
	org := s.profile(t.org)
	for _, key := range []string{"followers_url", "following_url", "gists_url", "starred_url", "subscriptions_url", "organizations_url", "received_events_url", "gravatar_id", "site_admin", "user_view_type", "hireable", "bio"} {
		delete(org, key)
	}
	maps.Copy(org, s.organization(t.org))
	org["company"], org["location"], org["email"] = "", "", ""
	org["has_organization_projects"], org["has_repository_projects"], org["archived_at"] = true, true, nil
	maps.Copy(o, object{"members_count": len(t.members), "repos_count": len(t.repos), "created_at": stamp(t.created), "updated_at": stamp(t.created),
		"organization": org, "type": "organization"})
	return ok(o)
}

// GET /orgs/{org}/teams/{team_slug}/members
func (s *Server) listTeamMembers(c *call) reply {
	t := s.findTeam(c)
	if t == nil {
		return fail(http.StatusNotFound, "Not Found")
	}
	var all []*account
	for u, role := range t.members {
		if want := c.query("role"); want == "" || want == "all" || want == role {
			all = append(all, u)
		}
	}
	slices.SortFunc(all, func(a, b *account) int { return int(a.id - b.id) })
	return page(c, all, s.person)
}

// GET /orgs/{org}/teams/{team_slug}/memberships/{username}
func (s *Server) getTeamMembership(c *call) reply {
	t := s.findTeam(c)
	if t == nil {
		return fail(http.StatusNotFound, "Not Found")
	}
	u := s.accounts[strings.ToLower(c.value("username"))]
	role := t.members[u]
	if role == "" {
		return fail(http.StatusNotFound, "Not Found")
	}
	return ok(object{"url": s.api("/organizations/%d/team/%d/memberships/%s", t.org.id, t.id, u.login), "role": role, "state": "active"})
}
