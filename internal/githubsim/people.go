package githubsim

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"time"
)

// Permission is what a person may do in a repository.
type Permission string

// The permission levels, weakest first.
const (
	None     Permission = "none"
	Read     Permission = "read"
	Triage   Permission = "triage"
	Write    Permission = "write"
	Maintain Permission = "maintain"
	Admin    Permission = "admin"
)

var levels = []Permission{None, Read, Triage, Write, Maintain, Admin}

func (p Permission) atLeast(q Permission) bool {
	return slices.Index(levels, p) >= slices.Index(levels, q)
}

// account is a user, an organisation or an App's bot.
type account struct {
	id      int64
	login   string
	kind    string // User, Organization, Bot
	name    string
	email   string
	created time.Time
	members map[*account]string // of an organisation: role, "admin" (an owner) or "member"
	teams   map[string]*team    // by slug
}

type team struct {
	id      int64
	org     *account
	name    string
	slug    string
	members map[*account]string // role: member or maintainer
	repos   map[*repo]Permission
	created time.Time
}

var loginPattern = regexp.MustCompile(`^[A-Za-z0-9](?:[A-Za-z0-9]|-[A-Za-z0-9]){0,38}$`)

// CreateUser makes a person. The login follows GitHub's rules; case is kept and ignored.
func (s *Server) CreateUser(login string) error {
	defer s.lock()()
	_, err := s.addAccount(login, "User")
	return err
}

// CreateOrg makes an organisation with its first owner, who must exist.
func (s *Server) CreateOrg(login, owner string) error {
	defer s.lock()()
	o, err := s.user(owner)
	if err != nil {
		return err
	}
	org, err := s.addAccount(login, "Organization")
	if err != nil {
		return err
	}
	org.members[o] = "admin"
	return nil
}

func (s *Server) addAccount(login, kind string) (*account, error) {
	if !loginPattern.MatchString(login) {
		return nil, fmt.Errorf("account %q: not a login: letters, digits and single dashes, at most 39", login)
	}
	key := strings.ToLower(login)
	if s.accounts[key] != nil {
		return nil, fmt.Errorf("account %s: exists already", login)
	}
	a := &account{id: s.newID(), login: login, kind: kind, name: login, email: key + "@users.noreply.github.localhost", created: s.now()}
	if kind == "Organization" {
		a.members, a.teams = map[*account]string{}, map[string]*team{}
	}
	s.accounts[key] = a
	return a, nil
}

func (s *Server) account(login string) (*account, error) {
	if a := s.accounts[strings.ToLower(login)]; a != nil {
		return a, nil
	}
	return nil, fmt.Errorf("account %s: does not exist", login)
}

func (s *Server) user(login string) (*account, error) {
	a, err := s.account(login)
	if err == nil && a.kind == "Organization" {
		return nil, fmt.Errorf("account %s: an organisation cannot act", login)
	}
	return a, err
}

func (s *Server) org(login string) (*account, error) {
	a, err := s.account(login)
	if err == nil && a.kind != "Organization" {
		return nil, fmt.Errorf("account %s: not an organisation", login)
	}
	return a, err
}

// SetMember makes a user an organisation's "admin" (an owner) or "member"; an empty role removes them, from its teams too.
func (s *Server) SetMember(by, org, login, role string) error {
	defer s.lock()()
	o, err := s.org(org)
	if err != nil {
		return err
	}
	sender, err := s.user(by)
	if err != nil {
		return err
	}
	u, err := s.user(login)
	if err != nil {
		return err
	}
	_, was := o.members[u]
	switch role {
	case "admin", "member":
		o.members[u] = role
		if !was {
			s.emitOrg(o, sender, "organization", "member_added", object{"membership": s.membership(o, u, role)})
		}
	case "":
		if !was {
			return fmt.Errorf("organisation %s: %s is no member", org, login)
		}
		old := o.members[u]
		delete(o.members, u)
		for _, t := range o.teams {
			if _, in := t.members[u]; in {
				delete(t.members, u)
				s.emitOrg(o, sender, "membership", "removed", object{"scope": "team", "member": s.person(u), "team": s.team(t)})
			}
		}
		s.emitOrg(o, sender, "organization", "member_removed", object{"membership": s.membership(o, u, old)})
	default:
		return fmt.Errorf("organisation %s: %q is no role: admin or member", org, role)
	}
	return nil
}

// CreateTeam makes a team of an organisation and returns its slug.
func (s *Server) CreateTeam(by, org, name string) (slug string, err error) {
	defer s.lock()()
	o, err := s.org(org)
	if err != nil {
		return "", err
	}
	sender, err := s.user(by)
	if err != nil {
		return "", err
	}
	slug = strings.Trim(regexp.MustCompile(`[^a-z0-9]+`).ReplaceAllString(strings.ToLower(name), "-"), "-")
	if slug == "" || o.teams[slug] != nil {
		return "", fmt.Errorf("team %q: exists already or has no letters", name)
	}
	t := &team{id: s.newID(), org: o, name: name, slug: slug, members: map[*account]string{}, repos: map[*repo]Permission{}, created: s.now()}
	o.teams[slug] = t
	s.emitOrg(o, sender, "team", "created", object{"team": s.team(t)})
	return slug, nil
}

// SetTeamMember puts a member of the organisation into a team as "member" or "maintainer"; an empty role takes them out.
func (s *Server) SetTeamMember(by, org, slug, login, role string) error {
	defer s.lock()()
	t, sender, err := s.teamBy(by, org, slug)
	if err != nil {
		return err
	}
	u, err := s.user(login)
	if err != nil {
		return err
	}
	action := "added"
	switch role {
	case "member", "maintainer":
		if _, ok := t.org.members[u]; !ok {
			return fmt.Errorf("team %s: %s is not in the organisation", slug, login)
		}
		t.members[u] = role
	case "":
		delete(t.members, u)
		action = "removed"
	default:
		return fmt.Errorf("team %s: %q is no role: member or maintainer", slug, role)
	}
	s.emitOrg(t.org, sender, "membership", action, object{"scope": "team", "member": s.person(u), "team": s.team(t)})
	return nil
}

// SetTeamPermission gives a team a permission on a repository; None takes it away.
func (s *Server) SetTeamPermission(by, org, slug, repo string, p Permission) error {
	defer s.lock()()
	t, sender, err := s.teamBy(by, org, slug)
	if err != nil {
		return err
	}
	r, err := s.repo(repo)
	if err != nil {
		return err
	}
	action := "added_to_repository"
	if p == None {
		delete(t.repos, r)
		action = "removed_from_repository"
	} else {
		t.repos[r] = p
	}
	s.emit(r, sender, "team", action, object{"team": s.team(t)})
	return nil
}

func (s *Server) teamBy(by, org, slug string) (*team, *account, error) {
	sender, err := s.user(by)
	if err != nil {
		return nil, nil, err
	}
	o, err := s.org(org)
	if err != nil {
		return nil, nil, err
	}
	t := o.teams[slug]
	if t == nil {
		return nil, nil, fmt.Errorf("team %s/%s: does not exist", org, slug)
	}
	return t, sender, nil
}

// SetCollaborator gives a person a permission on a repository; None takes it away.
func (s *Server) SetCollaborator(by, repo, login string, p Permission) error {
	defer s.lock()()
	r, sender, err := s.repoBy(by, repo, Admin)
	if err != nil {
		return err
	}
	u, err := s.user(login)
	if err != nil {
		return err
	}
	old, was := r.collaborators[u]
	switch {
	case p == None:
		delete(r.collaborators, u)
		s.emit(r, sender, "member", "removed", object{"member": s.person(u)})
	case was:
		r.collaborators[u] = p
		s.emit(r, sender, "member", "edited", object{"member": s.person(u), "changes": object{"old_permission": object{"from": string(old)}}})
	default:
		r.collaborators[u] = p
		s.emit(r, sender, "member", "added", object{"member": s.person(u)})
	}
	return nil
}

// permission is the most a person may do in a repository, by whatever way.
func (s *Server) permission(r *repo, u *account) Permission {
	best := None
	if !r.private {
		best = Read
	}
	better := func(p Permission) {
		if p.atLeast(best) {
			best = p
		}
	}
	if r.owner == u {
		return Admin
	}
	if r.owner.kind == "Organization" {
		switch r.owner.members[u] {
		case "admin":
			return Admin
		case "member":
			better(Read)
		}
		for _, t := range r.owner.teams {
			if _, in := t.members[u]; in && t.repos[r] != "" {
				better(t.repos[r])
			}
		}
	}
	if p, ok := r.collaborators[u]; ok {
		better(p)
	}
	return best
}

// PermissionOf is the most a person may do in a repository, as a member, in a team or as a collaborator.
func (s *Server) PermissionOf(repo, login string) (Permission, error) {
	defer s.lock()()
	r, err := s.repo(repo)
	if err != nil {
		return None, err
	}
	u, err := s.user(login)
	if err != nil {
		return None, err
	}
	return s.permission(r, u), nil
}

// Users lists the logins of all people, sorted.
func (s *Server) Users() []string {
	defer s.lock()()
	var logins []string
	for a := range maps.Values(s.accounts) {
		if a.kind == "User" {
			logins = append(logins, a.login)
		}
	}
	slices.Sort(logins)
	return logins
}
