package githubsim

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"slices"
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

func (s *Server) signIn(u *account, a *app) *token {
	t := &token{value: "ghu_" + s.random(36), user: u, app: a}
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
	s.codes[code] = grant{u, challenge, s.now().Add(10 * time.Minute)}
	return code, nil
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
		wrong := g.challenge != "" && g.challenge != base64.RawURLEncoding.EncodeToString(sum[:])
		if g.user == nil || wrong || !s.now().Before(g.ends) {
			out = object{"error": "bad_verification_code", "error_description": "The code passed is incorrect or expired."}
			break
		}
		out = object{"access_token": s.signIn(g.user, a).value, "token_type": "bearer", "scope": ""}
	}
	s.mu.Unlock()
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	json.NewEncoder(w).Encode(out)
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

// GET /user/installations
func (s *Server) listUserInstallations(c *call) reply {
	var all []*installation
	for _, i := range s.installations {
		if i.app == c.token.app && (i.account == c.user || i.account.members[c.user] != "") {
			all = append(all, i)
		}
	}
	slices.SortFunc(all, func(a, b *installation) int { return int(a.id - b.id) })
	return pageIn(c, "installations", all, s.installation)
}
