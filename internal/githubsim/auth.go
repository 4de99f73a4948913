package githubsim

import (
	"crypto"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"
)

// token is an installation's, or a person's after signing in.
type token struct {
	value        string
	installation *installation
	user         *account // a person's token
	app          *app     // the App a person signed in to
	permissions  map[string]string
	repos        map[*repo]bool // nil: all of the installation
	expires      time.Time      // zero: never
}

func (t *token) ended(now time.Time) bool { return !t.expires.IsZero() && !now.Before(t.expires) }

// sees says whether a token reaches a repository at all.
func (t *token) sees(r *repo) bool {
	return t.installation.covers(r) && (t.repos == nil || t.repos[r])
}

// allows says whether a permission held ("", read, write, admin) is enough.
func allows(held, needed string) bool {
	ranks := []string{"", "read", "write", "admin"}
	return slices.Index(ranks, held) >= slices.Index(ranks, needed)
}

// authenticate finds out who calls. The problem is nil when credentials are good, or absent.
func (s *Server) authenticate(header string, c *call) *problem {
	scheme, value, _ := strings.Cut(header, " ")
	if header == "" {
		return nil
	}
	if !strings.EqualFold(scheme, "bearer") && !strings.EqualFold(scheme, "token") {
		return &problem{status: http.StatusUnauthorized, message: "Bad credentials"}
	}
	if strings.Count(value, ".") == 2 {
		a, p := s.verifyJWT(value)
		c.app = a
		return p
	}
	t := s.tokens[value]
	if t == nil || t.ended(s.now()) {
		return &problem{status: http.StatusUnauthorized, message: "Bad credentials"}
	}
	c.token, c.installation, c.user = t, t.installation, t.user
	if t.installation != nil && !t.installation.suspended.IsZero() {
		return &problem{status: http.StatusForbidden, message: "This installation has been suspended"}
	}
	return nil
}

// verifyJWT checks a JSON web token by which an App proves itself: RS256, at most ten minutes into the future.
func (s *Server) verifyJWT(raw string) (*app, *problem) {
	deny := func(message string) (*app, *problem) {
		return nil, &problem{status: http.StatusUnauthorized, message: message}
	}
	const undecodable = "A JSON web token could not be decoded"
	parts := strings.Split(raw, ".")
	var header struct{ Alg string }
	var claims struct {
		Iss any
		Iat *float64
		Exp *float64
	}
	if !decodePart(parts[0], &header) || !decodePart(parts[1], &claims) || header.Alg != "RS256" {
		return deny(undecodable)
	}
	var a *app
	for _, candidate := range s.apps {
		if iss := fmt.Sprint(claims.Iss); iss == fmt.Sprint(candidate.id) || iss == candidate.clientID {
			a = candidate
		} else if f, ok := claims.Iss.(float64); ok && int64(f) == candidate.id {
			a = candidate
		}
	}
	if a == nil {
		return nil, &problem{status: http.StatusNotFound, message: "Integration not found"}
	}
	sum := sha256.Sum256([]byte(parts[0] + "." + parts[1]))
	signature, err := base64.RawURLEncoding.DecodeString(parts[2])
	if err != nil || rsa.VerifyPKCS1v15(a.key, crypto.SHA256, sum[:], signature) != nil {
		return deny(undecodable)
	}
	now := float64(s.now().UnixNano()) / 1e9
	switch {
	case claims.Iat == nil || *claims.Iat > now:
		return deny("'Issued at' claim ('iat') must be an Integer representing the time that the assertion was issued")
	case claims.Exp == nil || *claims.Exp <= now:
		return deny("'Expiration time' claim ('exp') must be a numeric value representing the future time at which the assertion expires")
	case *claims.Exp > now+600:
		return deny("'Expiration time' claim ('exp') is too far in the future")
	}
	return a, nil
}

func decodePart(part string, into any) bool {
	raw, err := base64.RawURLEncoding.DecodeString(part)
	return err == nil && json.Unmarshal(raw, into) == nil
}

// POST /app/installations/{installation_id}/access_tokens
func (s *Server) createToken(c *call) reply {
	i := s.installations[c.id("installation_id")]
	if i == nil || i.app != c.app {
		return fail(http.StatusNotFound, "Not Found")
	}
	if !i.suspended.IsZero() {
		return fail(http.StatusForbidden, "This installation has been suspended")
	}
	var in struct {
		Repositories  []string          `json:"repositories"`
		RepositoryIDs []int64           `json:"repository_ids"`
		Permissions   map[string]string `json:"permissions"`
	}
	if len(c.body) > 0 {
		if r, ok := c.decode(&in); !ok {
			return r
		}
	}
	t := &token{value: "ghs_" + s.random(36), installation: i, permissions: maps.Clone(i.permissions), expires: s.now().Add(time.Hour).Truncate(time.Second)}
	if in.Permissions != nil {
		t.permissions = map[string]string{"metadata": "read"}
		for name, level := range in.Permissions {
			if !allows(i.permissions[name], level) || level == "" {
				return fail(http.StatusUnprocessableEntity, "The permissions requested are not granted to this installation.")
			}
			t.permissions[name] = level
		}
	}
	if in.Repositories != nil || in.RepositoryIDs != nil {
		t.repos = map[*repo]bool{}
		for _, r := range s.reposOf(i) {
			if slices.ContainsFunc(in.Repositories, func(n string) bool { return strings.EqualFold(n, r.name) }) || slices.Contains(in.RepositoryIDs, r.id) {
				t.repos[r] = true
			}
		}
		if len(t.repos) == 0 || len(t.repos) < max(len(in.Repositories), len(in.RepositoryIDs)) {
			return fail(http.StatusUnprocessableEntity, "There is at least one repository that does not exist or is not accessible to the parent installation.")
		}
	}
	s.tokens[t.value] = t
	out := object{"token": t.value, "expires_at": stamp(t.expires), "permissions": t.permissions, "repository_selection": i.selected()}
	if t.repos != nil {
		out["repository_selection"] = "selected"
		var list []object
		for _, r := range s.reposOf(i) {
			if t.repos[r] {
				list = append(list, s.repository(r))
			}
		}
		out["repositories"] = list
	}
	return reply{status: http.StatusCreated, body: out}
}

// DELETE /installation/token
func (s *Server) revokeToken(c *call) reply {
	delete(s.tokens, c.token.value)
	return reply{status: http.StatusNoContent}
}

// GET /app
func (s *Server) getApp(c *call) reply {
	out := s.integration(c.app)
	n := 0
	for _, i := range s.installations {
		if i.app == c.app {
			n++
		}
	}
	out["installations_count"] = n
	return ok(out)
}

// GET /app/installations
func (s *Server) listInstallations(c *call) reply {
	var all []*installation
	for _, i := range s.installations {
		if i.app == c.app {
			all = append(all, i)
		}
	}
	slices.SortFunc(all, func(a, b *installation) int { return int(a.id - b.id) })
	return page(c, all, s.installation)
}

// GET /app/installations/{installation_id}
func (s *Server) getInstallation(c *call) reply {
	i := s.installations[c.id("installation_id")]
	if i == nil || i.app != c.app {
		return fail(http.StatusNotFound, "Not Found")
	}
	return ok(s.installation(i))
}

// GET /orgs/{org}/installation, /users/{username}/installation and /repos/{owner}/{repo}/installation
func (s *Server) findInstallation(c *call) reply {
	login := c.value("org") + c.value("username")
	for _, i := range s.installations {
		if i.app == c.app && (c.repo != nil && i.covers(c.repo) || c.repo == nil && strings.EqualFold(i.account.login, login)) {
			return ok(s.installation(i))
		}
	}
	return fail(http.StatusNotFound, "Not Found")
}

// GET /installation/repositories
func (s *Server) listInstallationRepos(c *call) reply {
	var all []*repo
	for _, r := range s.reposOf(c.installation) {
		if c.token.sees(r) {
			all = append(all, r)
		}
	}
	r := pageIn(c, "repositories", all, s.repository)
	if r.status == http.StatusOK {
		r.body.(object)["repository_selection"] = c.installation.selected()
	}
	return r
}
