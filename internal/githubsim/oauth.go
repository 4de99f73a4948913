package githubsim

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"
)

// UserToken is a token of a person for an App, as a finished sign-in gives one.
func (s *Server) UserToken(login string, appID int64) (string, error) {
	defer s.lock()()
	u, err := s.user(login)
	if err != nil {
		return "", err
	}
	a := s.apps[appID]
	if a == nil {
		return "", fmt.Errorf("app %d: does not exist", appID)
	}
	return s.signIn(u, a).value, nil
}

// userTokenLife is how long a person's token is good, for an App that lets them expire.
const userTokenLife = 8 * time.Hour

func (s *Server) signIn(u *account, a *app) *token {
	t := &token{value: "ghu_" + s.random(36), user: u, app: a}
	if a.userTokensEnd {
		t.expires = s.now().Add(userTokenLife)
	}
	s.tokens[t.value] = t
	return t
}

// RevokeUserTokens ends all tokens of a person, as the page of authorised Apps does.
func (s *Server) RevokeUserTokens(login string) error {
	defer s.lock()()
	u, err := s.user(login)
	if err != nil {
		return err
	}
	maps.DeleteFunc(s.tokens, func(_ string, t *token) bool { return t.user == u })
	return nil
}

// grant is what a person agreed to.
type grant struct {
	user      *account
	app       *app // nil: any
	redirect  string
	challenge string
	ends      time.Time
}

// Grant makes the code that the web flow's redirect carries after a person agreed. It is good once, for ten minutes.
// challenge is the flow's S256 code challenge; with one the exchange needs its verifier, without one ("") none.
func (s *Server) Grant(login, challenge string) (code string, err error) {
	defer s.lock()()
	u, err := s.user(login)
	if err != nil {
		return "", err
	}
	code = s.random(20)
	s.codes[code] = grant{user: u, challenge: challenge, ends: s.now().Add(10 * time.Minute)}
	return code, nil
}

// Agree is what happens when a person agrees on the page /login/oauth/authorize, given its query: the address that
// the browser is sent back to, with a code that is good once, for ten minutes, for this App and address. A query that
// GitHub would answer with a page of its own is an error.
func (s *Server) Agree(login string, query url.Values) (redirect string, err error) {
	defer s.lock()()
	u, err := s.user(login)
	if err != nil {
		return "", err
	}
	if u.kind != "User" {
		return "", fmt.Errorf("account %s: a bot cannot sign in", login)
	}
	var a *app
	for _, candidate := range s.apps {
		if candidate.clientID == query.Get("client_id") {
			a = candidate
		}
	}
	if a == nil {
		return "", fmt.Errorf("client id %q: no App has it", query.Get("client_id"))
	}
	to := query.Get("redirect_uri")
	if to == "" && len(a.callbacks) > 0 {
		to = a.callbacks[0]
	}
	if !slices.Contains(a.callbacks, to) {
		return "", fmt.Errorf("redirect_uri %q: not among the callback URLs of App %s", to, a.slug)
	}
	if m := query.Get("code_challenge_method"); m != "S256" && query.Get("code_challenge") != "" {
		return "", fmt.Errorf("code_challenge_method %q: want S256", m)
	}
	back, err := url.Parse(to)
	if err != nil {
		return "", fmt.Errorf("redirect_uri: %w", err)
	}
	code := s.random(20)
	s.codes[code] = grant{u, a, query.Get("redirect_uri"), query.Get("code_challenge"), s.now().Add(10 * time.Minute)}
	q := back.Query()
	q.Set("code", code)
	if state := query.Get("state"); state != "" {
		q.Set("state", state)
	}
	back.RawQuery = q.Encode()
	return back.String(), nil
}

// serveOAuth exchanges a code for a person's token. The page that asks for agreement belongs to Options.Pages.
func (s *Server) serveOAuth(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path != "/login/oauth/access_token" {
		if s.opts.Pages != nil {
			s.opts.Pages.ServeHTTP(w, r)
			return
		}
		http.NotFound(w, r)
		return
	}
	if r.Method != http.MethodPost {
		http.Error(w, "Method Not Allowed", http.StatusMethodNotAllowed)
		return
	}
	plan := s.draw("oauth")
	if plan.wait(r.Context()) != nil {
		return
	}
	if plan.kind != "" || s.isDown() {
		http.Error(w, "Server Error", http.StatusBadGateway)
		return
	}
	id, secret, code := r.FormValue("client_id"), r.FormValue("client_secret"), r.FormValue("code")
	if user, password, ok := r.BasicAuth(); ok {
		id, secret = user, password
	}
	s.mu.Lock()
	out := object{"error": "incorrect_client_credentials", "error_description": "The client_id and/or client_secret passed are incorrect."}
	for _, a := range s.apps {
		if a.clientID != id || a.password != secret {
			continue
		}
		g := s.codes[code]
		delete(s.codes, code)
		sum := sha256.Sum256([]byte(r.FormValue("code_verifier")))
		wrong := g.challenge != "" && g.challenge != base64.RawURLEncoding.EncodeToString(sum[:]) ||
			g.app != nil && g.app != a || g.redirect != "" && r.FormValue("redirect_uri") != g.redirect
		if g.user == nil || wrong || !s.now().Before(g.ends) {
			out = object{"error": "bad_verification_code", "error_description": "The code passed is incorrect or expired."}
			break
		}
		out = object{"access_token": s.signIn(g.user, a).value, "token_type": "bearer", "scope": ""}
		if a.userTokensEnd {
			maps.Copy(out, object{"expires_in": int(userTokenLife / time.Second), "refresh_token": "ghr_" + s.random(76), "refresh_token_expires_in": 15897600})
		}
	}
	s.mu.Unlock()
	if strings.Contains(r.Header.Get("Accept"), "application/json") {
		w.Header().Set("Content-Type", "application/json; charset=utf-8")
		json.NewEncoder(w).Encode(out)
		return
	}
	form := url.Values{}
	for k, v := range out {
		form.Set(k, fmt.Sprint(v))
	}
	w.Header().Set("Content-Type", "application/x-www-form-urlencoded; charset=utf-8")
	io.WriteString(w, form.Encode())
}

// GET /user
func (s *Server) getSelf(c *call) reply { return ok(s.profile(c.user)) }

// GET /users/{username}
func (s *Server) getUser(c *call) reply {
	a, err := s.account(c.value("username"))
	if err != nil {
		return fail(http.StatusNotFound, "Not Found")
	}
	return ok(s.profile(a))
}

func (s *Server) profile(a *account) object {
	o := s.person(a)
	maps.Copy(o, object{"user_view_type": "public", "name": a.name, "company": nil, "blog": "", "location": nil, "email": nil, "hireable": nil, "bio": nil,
		"public_repos": 0, "public_gists": 0, "followers": 0, "following": 0, "created_at": stamp(a.created), "updated_at": stamp(a.created)})
	return o
}

// GET /user/orgs
func (s *Server) listOrgs(c *call) reply {
	var all []*account
	for _, a := range s.accounts {
		if a.members[c.user] != "" {
			all = append(all, a)
		}
	}
	slices.SortFunc(all, func(a, b *account) int { return int(a.id - b.id) })
	return page(c, all, s.organization)
}

// explicit says whether a person has a permission on a repository by owning it, as a collaborator or through the
// organisation, and not only because everybody may read it.
func (s *Server) explicit(r *repo, u *account) bool {
	if r.owner == u || r.owner.members[u] != "" {
		return true
	}
	_, ok := r.collaborators[u]
	return ok
}

// reposFor lists the repositories of an installation that a person has an explicit permission on.
func (s *Server) reposFor(i *installation, u *account) []*repo {
	return slices.DeleteFunc(s.reposOf(i), func(r *repo) bool { return !s.explicit(r, u) || !s.permission(r, u).atLeast(Read) })
}

// GET /user/installations
func (s *Server) listUserInstallations(c *call) reply {
	var all []*installation
	for _, i := range s.installations {
		if i.app == c.token.app && (i.account == c.user || i.account.members[c.user] != "" || len(s.reposFor(i, c.user)) > 0) {
			all = append(all, i)
		}
	}
	slices.SortFunc(all, func(a, b *installation) int { return int(a.id - b.id) })
	return pageIn(c, "installations", all, s.installation)
}

// GET /user/installations/{installation_id}/repositories
func (s *Server) listUserRepos(c *call) reply {
	i := s.installations[c.id("installation_id")]
	if i == nil || i.app != c.token.app {
		return fail(http.StatusNotFound, "Not Found")
	}
	if !i.suspended.IsZero() {
		return fail(http.StatusForbidden, "This installation has been suspended")
	}
	all := s.reposFor(i, c.user)
	if len(all) == 0 && i.account != c.user && i.account.members[c.user] == "" {
		return fail(http.StatusNotFound, "Not Found")
	}
	return pageIn(c, "repositories", all, func(r *repo) object {
		o := s.repository(r)
		p := s.permission(r, c.user)
		o["permissions"] = object{"admin": p.atLeast(Admin), "maintain": p.atLeast(Maintain), "push": p.atLeast(Write), "triage": p.atLeast(Triage), "pull": p.atLeast(Read)}
		return o
	})
}

// DELETE /applications/{client_id}/token
func (s *Server) deleteAppToken(c *call) reply {
	id, password, _ := c.r.BasicAuth()
	var a *app
	for _, candidate := range s.apps {
		if candidate.clientID == id && candidate.password == password && id == c.value("client_id") {
			a = candidate
		}
	}
	if a == nil {
		return fail(http.StatusNotFound, "Not Found")
	}
	var in struct {
		AccessToken string `json:"access_token"`
	}
	if r, ok := c.decode(&in); !ok {
		return r
	}
	t := s.tokens[in.AccessToken]
	if t == nil || t.user == nil || t.app != a {
		return fail(http.StatusUnprocessableEntity, "Validation Failed")
	}
	delete(s.tokens, t.value)
	return reply{status: http.StatusNoContent}
}
