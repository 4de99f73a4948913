package auth_test

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"database/sql"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/noxaudit/noxaudit/internal/access"
	"github.com/noxaudit/noxaudit/internal/dbtest"
	"github.com/noxaudit/noxaudit/internal/githubsim"
	"github.com/noxaudit/noxaudit/internal/githubsim/conform"
	"github.com/noxaudit/noxaudit/internal/name"
	"github.com/noxaudit/noxaudit/internal/store"
	"github.com/noxaudit/noxaudit/server/auth"
	"github.com/noxaudit/noxaudit/server/auth/authtest"
)

var key = sync.OnceValue(func() *rsa.PrivateKey {
	k, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		panic(err)
	}
	return k
})

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

type clock struct {
	mu sync.Mutex
	at time.Time
}

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.at
}

func (c *clock) pass(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.at = c.at.Add(d)
}

// log collects what is logged.
type log struct {
	mu   sync.Mutex
	text strings.Builder
}

func (l *log) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *log) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// world is a server with one protected page, the organisation acme at a simulated GitHub (ada owns it, bob administers
// acme/shop, mel is a member without more, zoe an outside collaborator who administers acme/lib, eve a stranger; uma has
// the App on her own account), and a database.
type world struct {
	testing.TB
	sim   *githubsim.Server
	app   githubsim.App
	acme  int64 // installation
	clock *clock
	log   *log
	store *store.Store
	auth  *auth.Auth
	base  string
	opts  auth.Options
}

func eachWorld(t *testing.T, test func(t *testing.T, w *world)) {
	dbtest.Each(t, func(t *testing.T, dsn string) { test(t, newWorld(t, dsn)) })
}

func newWorld(t testing.TB, dsn string, change ...func(*auth.Options)) *world {
	t.Helper()
	w := &world{TB: t, clock: &clock{at: time.Date(2026, 11, 25, 9, 0, 0, 0, time.UTC)}, log: &log{}}
	var err error
	w.sim, err = githubsim.New(githubsim.Options{Dir: t.TempDir(), Now: w.clock.now, Seed: 1, HourlyLimit: -1})
	must(t, err)
	_, err = w.sim.Listen("127.0.0.1:0")
	must(t, err)
	t.Cleanup(func() { w.sim.Close() })
	conform.Check(t, w.sim)
	for _, login := range []string{"ada", "bob", "mel", "zoe", "eve", "uma"} {
		must(t, w.sim.CreateUser(login))
	}
	must(t, w.sim.CreateOrg("acme", "ada"))
	must(t, w.sim.SetMember("ada", "acme", "bob", "member"))
	must(t, w.sim.SetMember("ada", "acme", "mel", "member"))
	for _, name := range []string{"shop", "lib", "old"} {
		_, err := w.sim.CreateRepo("ada", "acme/"+name, githubsim.RepoSpec{Private: true})
		must(t, err)
	}
	must(t, w.sim.SetCollaborator("ada", "acme/shop", "bob", githubsim.Admin))
	must(t, w.sim.SetCollaborator("ada", "acme/lib", "bob", githubsim.Maintain))
	must(t, w.sim.SetCollaborator("ada", "acme/old", "bob", githubsim.Admin))
	must(t, w.sim.SetCollaborator("ada", "acme/lib", "zoe", githubsim.Admin))
	must(t, w.sim.SetCollaborator("ada", "acme/shop", "mel", githubsim.Write))
	must(t, w.sim.Archive("ada", "acme/old", true))
	_, err = w.sim.CreateRepo("uma", "uma/own", githubsim.RepoSpec{})
	must(t, err)
	w.app, err = w.sim.CreateApp(githubsim.AppSpec{Owner: "acme", Name: "noxaudit", Key: key(), Permissions: map[string]string{"members": "read"}})
	must(t, err)
	w.acme, err = w.sim.InstallApp("ada", w.app.ID, "acme")
	must(t, err)
	_, err = w.sim.InstallApp("uma", w.app.ID, "uma")
	must(t, err)

	w.store, err = store.Open(t.Context(), dsn)
	must(t, err)
	t.Cleanup(func() { w.store.Close() })
	srv := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) { w.serve(rw, r) }))
	t.Cleanup(srv.Close)
	w.base = srv.URL
	must(t, w.sim.SetCallbacks(w.app.ID, w.base+"/auth/callback"))
	w.opts = auth.Options{
		Store: w.store, Rights: authtest.Rights(t, w.sim, w.app, w.clock.now, w.log), ClientID: w.app.ClientID, ClientSecret: w.app.ClientSecret,
		BaseURL: w.base, GitHubWebURL: w.sim.BaseURL(), Now: w.clock.now, Rand: rand.Reader, Log: zerolog.New(w.log),
	}
	for _, f := range change {
		f(&w.opts)
	}
	w.auth, err = auth.New(w.opts)
	must(t, err)
	return w
}

// serve is the server under test: sign-in, and a page that tells who is there.
func (w *world) serve(rw http.ResponseWriter, r *http.Request) {
	if strings.HasPrefix(r.URL.Path, "/auth/") {
		w.auth.Handler().ServeHTTP(rw, r)
		return
	}
	w.auth.Require(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		p := auth.Person(r.Context())
		fmt.Fprintf(rw, "%s %s", r.Method, p.Login)
		for _, g := range p.Grants {
			fmt.Fprintf(rw, " %s:%s:%d", g.Login, g.Role, len(g.Repositories))
		}
	})).ServeHTTP(rw, r)
}

func (w *world) browser() *authtest.Browser { return authtest.New(w, w.sim, w.base, nil) }

func (w *world) signedIn(login string) *authtest.Browser {
	w.Helper()
	return authtest.SignedIn(w, w.sim, w.base, login)
}

// wantPage holds an answer's status and a part of its text.
func (w *world) wantPage(res *http.Response, status int, part string) {
	w.Helper()
	if text := authtest.Text(res); res.StatusCode != status || !strings.Contains(text, part) {
		w.Errorf("%s %s: %d %s\nwant %d %q", res.Request.Method, res.Request.URL.Path, res.StatusCode, text, status, part)
	}
}

// wantIn and wantOut hold whether a browser reaches the page.
func (w *world) wantIn(b *authtest.Browser, part string) {
	w.Helper()
	w.wantPage(b.Do("GET", "/page", nil), 200, part)
}

func (w *world) wantOut(b *authtest.Browser) {
	w.Helper()
	res := b.Do("GET", "/page?x=1", nil)
	if to := res.Header.Get("Location"); res.StatusCode != 303 || to != "/auth/login?next=%2Fpage%3Fx%3D1" {
		w.Errorf("not sent to sign in: %d %s %s", res.StatusCode, to, authtest.Text(res))
	}
}

// session is the value of the browser's session cookie.
func (w *world) session(b *authtest.Browser) string {
	u, _ := url.Parse(w.base)
	for _, c := range b.Jar.Cookies(u) {
		if c.Name == "noxaudit" {
			return c.Value
		}
	}
	return ""
}

// entries are the types of the entries of a log, oldest first, and all bodies in one text.
func (w *world) entries(account name.Account) (types []string, text string) {
	w.Helper()
	all, err := w.store.For(account).Pending(w.Context(), 1000)
	must(w, err)
	for _, e := range all {
		var head struct{ Type string }
		must(w, json.Unmarshal(e.Body, &head))
		types = append(types, head.Type)
		text += string(e.Body) + "\n"
	}
	return types, text
}

func (w *world) wantEntries(account name.Account, want ...string) {
	w.Helper()
	if got, text := w.entries(account); !slices.Equal(got, want) {
		w.Errorf("log %s: %v\nwant %v\n%s", account, got, want, text)
	}
}

func (w *world) account(login string) name.Account {
	w.Helper()
	token, err := w.sim.UserToken("ada", w.app.ID)
	must(w, err)
	req, err := http.NewRequest("GET", w.sim.BaseURL()+"/api/v3/users/"+login, nil)
	must(w, err)
	req.Header.Set("Authorization", "Bearer "+token)
	res, err := http.DefaultClient.Do(req)
	must(w, err)
	defer res.Body.Close()
	var u struct{ ID int64 }
	must(w, json.NewDecoder(res.Body).Decode(&u))
	a, err := name.ParseAccount(fmt.Sprint(u.ID))
	must(w, err)
	return a
}

func TestOwnersAndRepositoryAdminsGetInAndOthersAreTold(t *testing.T) {
	eachWorld(t, func(t *testing.T, w *world) {
		for login, want := range map[string]string{
			"ada": "GET ada acme:owner:0",
			"bob": "GET bob acme:repository-admin:1", // not the archived one, not the one that he maintains
			"zoe": "GET zoe acme:repository-admin:1",
			"uma": "GET uma uma:owner:0",
		} {
			b := w.browser()
			res := b.SignIn(login, "/page?a=b")
			w.wantPage(res, 200, want)
			if res.Request.URL.RequestURI() != "/page?a=b" {
				t.Errorf("%s came back to %s", login, res.Request.URL)
			}
		}
		for _, login := range []string{"mel", "eve"} {
			b := w.browser()
			w.wantPage(b.SignIn(login, "/page"), 403, "signed in to GitHub as "+login)
			w.wantOut(b)
			if w.session(b) != "" {
				t.Errorf("%s has a session", login)
			}
		}
		if _, err := w.sim.Agree(w.app.Bot, w.browser().Begin("/").Query()); err == nil {
			t.Error("a bot signs in")
		}
	})
}

func TestEverySignInAndItsEndIsRecordedWithoutASecret(t *testing.T) {
	eachWorld(t, func(t *testing.T, w *world) {
		acme := w.account("acme")
		b := w.signedIn("bob")
		secret := w.session(b)
		w.wantEntries(name.Deployment, "session.opened")
		w.wantEntries(acme, "session.opened")
		w.browser().SignIn("eve", "/")
		w.browser().SignIn("eve", "/") // no more than one an hour
		w.wantEntries(name.Deployment, "session.opened", "session.refused")
		w.wantPage(b.Do("POST", "/auth/logout", url.Values{}), 200, "signed out")
		w.wantEntries(name.Deployment, "session.opened", "session.refused", "session.ended")
		w.wantEntries(acme, "session.opened", "session.ended")
		w.clock.pass(2 * time.Hour)
		w.browser().SignIn("eve", "/")
		w.wantEntries(name.Deployment, "session.opened", "session.refused", "session.ended", "session.refused")

		_, text := w.entries(name.Deployment)
		_, more := w.entries(acme)
		for _, must := range []string{`"role":"repository-admin"`, `"repositories":1`, `"name":"bob"`, `"reason":"signed out"`} {
			if !strings.Contains(text+more, must) {
				t.Errorf("no entry says %s", must)
			}
		}
		if strings.Contains(more, "deployment") {
			t.Errorf("the account's log speaks of others: %s", more)
		}
		w.wantNoSecret(text+more+w.log.String(), secret)
	})
}

// wantNoSecret fails when a text holds a token of a browser or of GitHub, or the App's secret.
func (w *world) wantNoSecret(text string, more ...string) {
	w.Helper()
	for _, s := range append(more, "nxs_", "ghu_", w.app.ClientSecret) {
		if s != "" && strings.Contains(text, s) {
			w.Errorf("a secret is told: %s in\n%s", s, text)
		}
	}
}

func TestTheDatabaseHoldsNeitherTheCookieNorGitHubsToken(t *testing.T) {
	eachWorld(t, func(t *testing.T, w *world) {
		b := w.signedIn("ada")
		cookie := w.session(b)
		raw, err := base64.RawURLEncoding.DecodeString(strings.TrimPrefix(cookie, "nxs_"))
		must(t, err)
		sum := sha256.Sum256(raw)
		s, err := w.store.For(name.Deployment).Session(t.Context(), fmt.Sprintf("%x", sum))
		must(t, err)
		text := fmt.Sprintf("%+v %s %s", s, s.Sealed, s.Grants)
		w.wantNoSecret(text, cookie, string(raw), strings.TrimPrefix(cookie, "nxs_"))
		if len(s.Sealed) < 40 {
			t.Errorf("nothing is sealed: %x", s.Sealed)
		}
	})
}

// What comes back to /auth/callback, and what is wrong with it.
func TestOnlyTheBrowserThatBeganASignInCanFinishItOnceAndInTime(t *testing.T) {
	w := newWorld(t, dbtest.SQLite(t))
	with := func(back, key, value string) string {
		u, err := url.Parse(back)
		must(t, err)
		q := u.Query()
		q.Set(key, value)
		if value == "" {
			q.Del(key)
		}
		u.RawQuery = q.Encode()
		return u.String()
	}
	refused := func(what string, b *authtest.Browser, res *http.Response) {
		t.Helper()
		if res.StatusCode < 400 || w.session(b) != "" {
			t.Errorf("%s: %d %s", what, res.StatusCode, authtest.Text(res))
		}
		w.wantOut(b)
	}

	b := w.browser()
	refused("a callback out of nowhere", b, b.Return(w.base+"/auth/callback?code=x&state=y"))
	refused("a callback with nothing", b, b.Return(w.base+"/auth/callback"))
	back := b.Agree("ada", b.Begin("/"))
	refused("another state", b, b.Return(with(back, "state", strings.Repeat("A", 43))))
	refused("no state", b, b.Return(with(back, "state", "")))

	other := w.browser()
	refused("another browser", other, other.Return(back))
	other.Begin("/")
	refused("another browser with a sign-in of its own", other, other.Return(back))
	// The victim's own sign-in with the attacker's code: PKCE binds the code to the sign-in it was made for.
	victim, attacker := w.browser(), w.browser()
	stolen, err := url.Parse(attacker.Agree("bob", attacker.Begin("/")))
	must(t, err)
	mixed := with(victim.Agree("ada", victim.Begin("/")), "code", stolen.Query().Get("code"))
	refused("a code of another browser", victim, victim.Return(mixed))

	w.wantPage(b.Return(back), 200, "GET ada") // it was good all the time
	fresh := w.browser()
	to := fresh.Begin("/")
	back = fresh.Agree("ada", to)
	u, _ := url.Parse(w.base)
	kept := fresh.Jar.Cookies(u)
	w.wantPage(fresh.Return(back), 200, "GET ada")
	w.wantPage(fresh.Do("POST", "/auth/logout", url.Values{}), 200, "")
	refused("a callback again", fresh, fresh.Return(back))
	fresh.Jar.SetCookies(u, kept)
	refused("a callback again, with the cookie kept", fresh, fresh.Return(back))
	fresh.Jar.SetCookies(u, kept)
	refused("the same state with a new code", fresh, fresh.Return(fresh.Agree("ada", to)))

	late := w.browser()
	back = late.Agree("ada", late.Begin("/"))
	w.clock.pass(10 * time.Minute)
	refused("after ten minutes", late, late.Return(back))

	for what, change := range map[string][2]string{"agreement refused": {"error", "access_denied"}, "GitHub's own error": {"error", "<script>alert(1)</script>"}, "no code": {"code", ""}, "a wrong code": {"code", "nonsense"}} {
		b := w.browser()
		res := b.Return(with(b.Agree("ada", b.Begin("/")), change[0], change[1]))
		refused(what, b, res)
		if strings.Contains(authtest.Text(res), "<script>") {
			t.Errorf("%s: it is shown as it came", what)
		}
	}
	w.wantNoSecret(w.log.String())
}

func TestAnExchangeWithoutTheVerifierIsRefusedByGitHub(t *testing.T) {
	w := newWorld(t, dbtest.SQLite(t))
	b := w.browser()
	to := b.Begin("/")
	if to.Query().Get("code_challenge_method") != "S256" || len(to.Query().Get("code_challenge")) != 43 || to.Query().Get("redirect_uri") != w.base+"/auth/callback" {
		t.Fatalf("asked for %s", to)
	}
	back, err := url.Parse(b.Agree("ada", to))
	must(t, err)
	res, err := http.PostForm(w.sim.BaseURL()+"/login/oauth/access_token", url.Values{"client_id": {w.app.ClientID}, "client_secret": {w.app.ClientSecret},
		"code": {back.Query().Get("code")}, "redirect_uri": {w.base + "/auth/callback"}})
	must(t, err)
	defer res.Body.Close()
	text, _ := io.ReadAll(res.Body)
	if !strings.Contains(string(text), "bad_verification_code") {
		t.Errorf("%s", text)
	}
}

func TestSeveralTabsSignInAtOnce(t *testing.T) {
	w := newWorld(t, dbtest.SQLite(t))
	b := w.browser()
	var backs []string
	for i := range 5 {
		backs = append(backs, b.Agree("ada", b.Begin(fmt.Sprintf("/tab/%d", i))))
	}
	w.wantPage(b.Return(backs[0]), 400, "begin again") // the oldest of five had to go
	for i, back := range backs[1:] {
		if res := b.Return(back); res.StatusCode != 200 || res.Request.URL.Path != fmt.Sprintf("/tab/%d", i+1) {
			t.Errorf("tab %d: %d at %s", i+1, res.StatusCode, res.Request.URL)
		}
	}
	s, err := w.store.For(name.Deployment).SessionsReaching(t.Context(), w.account("acme"), w.clock.now(), "", 10)
	must(t, err)
	if len(s) != 1 {
		t.Errorf("%d sessions in one browser", len(s))
	}
}

func TestAStolenCookieIsOfNoUseAfterSignOut(t *testing.T) {
	eachWorld(t, func(t *testing.T, w *world) {
		b, thief := w.signedIn("ada"), w.browser()
		u, _ := url.Parse(w.base)
		thief.Jar.SetCookies(u, b.Jar.Cookies(u))
		w.wantIn(thief, "ada")
		stolen := w.session(b)
		w.wantPage(b.Do("POST", "/auth/logout", url.Values{}), 200, "signed out")
		w.wantOut(thief)
		w.wantOut(b)
		// Signing in anew makes another token, also where an attacker had set one.
		thief.Jar.SetCookies(u, []*http.Cookie{{Name: "noxaudit", Value: stolen, Path: "/"}})
		thief.SignIn("bob", "/")
		if now := w.session(thief); now == stolen || now == "" {
			t.Errorf("the token stays %q", now)
		}
		w.wantPage(w.browser().Do("POST", "/auth/logout", url.Values{}), 200, "signed out") // nobody may sign out as well
	})
}

func TestSigningOutMakesGitHubForgetTheToken(t *testing.T) {
	w := newWorld(t, dbtest.SQLite(t))
	b := w.signedIn("ada")
	b.Do("POST", "/auth/logout", url.Values{})
	w.browser().SignIn("eve", "/")
	n := 0
	for _, c := range w.sim.Calls() {
		if c.Route == "DELETE /applications/{client_id}/token" && c.Status == 204 {
			n++
		}
	}
	if n != 2 {
		t.Errorf("%d tokens were given back, want those of the one who left and of the one who was refused", n)
	}
}

func TestSessionsEndWhenIdleAndAtTheirAbsoluteLimit(t *testing.T) {
	eachWorld(t, func(t *testing.T, w *world) {
		b := w.signedIn("ada")
		w.clock.pass(29 * time.Minute)
		w.wantIn(b, "ada")
		w.clock.pass(29 * time.Minute)
		w.wantIn(b, "ada")
		w.clock.pass(30 * time.Minute)
		w.wantOut(b)

		b = w.signedIn("ada")
		for range 28 { // 11 h 40 min
			w.clock.pass(25 * time.Minute)
			w.wantIn(b, "ada")
		}
		w.clock.pass(19 * time.Minute)
		w.wantIn(b, "ada")
		w.clock.pass(time.Minute)
		w.wantOut(b)
	})
}

func TestASessionDoesNotOutliveGitHubsToken(t *testing.T) {
	w := newWorld(t, dbtest.SQLite(t))
	app, err := w.sim.CreateApp(githubsim.AppSpec{Owner: "acme", Name: "other", Key: key(), Permissions: map[string]string{"members": "read"},
		CallbackURLs: []string{w.base + "/auth/callback"}, UserTokensEnd: true})
	must(t, err)
	_, err = w.sim.InstallApp("ada", app.ID, "acme")
	must(t, err)
	w.opts.ClientID, w.opts.ClientSecret, w.opts.Rights = app.ClientID, app.ClientSecret, authtest.Rights(t, w.sim, app, w.clock.now, w.log)
	w.auth, err = auth.New(w.opts)
	must(t, err)
	b := w.signedIn("ada")
	for range 19 {
		w.clock.pass(25 * time.Minute)
		w.wantIn(b, "ada")
	}
	w.clock.pass(5 * time.Minute) // eight hours
	w.wantOut(b)
}

func TestARightLostAtGitHubEndsAccessWithinMinutes(t *testing.T) {
	for what, c := range map[string]struct {
		login string
		lose  func(w *world) error
		want  string // "" for an end
	}{
		"an owner becomes a member":     {"ada2", func(w *world) error { return w.sim.SetMember("ada", "acme", "ada2", "member") }, ""},
		"an owner leaves":               {"ada2", func(w *world) error { return w.sim.SetMember("ada", "acme", "ada2", "") }, ""},
		"an admin loses the repository": {"bob", func(w *world) error { return w.sim.SetCollaborator("ada", "acme/shop", "bob", githubsim.Write) }, ""},
		"the installation is suspended": {"bob", func(w *world) error { return w.sim.SuspendApp("ada", w.acme, true) }, ""},
		"the App is uninstalled":        {"ada2", func(w *world) error { return w.sim.UninstallApp("ada", w.acme) }, ""},
		"the repository is archived":    {"bob", func(w *world) error { return w.sim.Archive("ada", "acme/shop", true) }, ""},
		"the token is revoked":          {"bob", func(w *world) error { return w.sim.RevokeUserTokens("bob") }, ""},
		"an admin gains a repository": {"bob", func(w *world) error { return w.sim.SetCollaborator("ada", "acme/lib", "bob", githubsim.Admin) },
			"GET bob acme:repository-admin:2"},
		"an owner keeps one repository": {"ada2", func(w *world) error {
			if err := w.sim.SetCollaborator("ada", "acme/lib", "ada2", githubsim.Admin); err != nil {
				return err
			}
			return w.sim.SetMember("ada", "acme", "ada2", "member")
		}, "GET ada2 acme:repository-admin:1"},
	} {
		t.Run(what, func(t *testing.T) {
			w := newWorld(t, dbtest.SQLite(t))
			must(t, w.sim.CreateUser("ada2"))
			must(t, w.sim.SetMember("ada", "acme", "ada2", "admin"))
			b := w.signedIn(c.login)
			must(t, c.lose(w))
			w.clock.pass(3 * time.Minute)
			if c.want != "" {
				w.wantIn(b, c.want)
				w.wantEntries(name.Deployment, "session.opened", "session.rights_changed")
				w.wantIn(b, c.want) // and is asked no more
				return
			}
			res := b.Do("GET", "/page", nil)
			if res.StatusCode != 401 || !strings.Contains(authtest.Text(res), "session has ended") {
				t.Errorf("%d %s", res.StatusCode, authtest.Text(res))
			}
			w.wantOut(b)
			w.wantEntries(name.Deployment, "session.opened", "session.ended")
		})
	}
}

func TestRightsOnPostgresChangeAsWell(t *testing.T) {
	w := newWorld(t, dbtest.Postgres(t))
	b := w.signedIn("bob")
	must(t, w.sim.SetCollaborator("ada", "acme/lib", "bob", githubsim.Admin))
	w.wantIn(b, "repository-admin:1")
	w.clock.pass(3 * time.Minute)
	w.wantIn(b, "repository-admin:2")
	must(t, w.sim.RevokeUserTokens("bob"))
	w.clock.pass(3 * time.Minute)
	w.wantPage(b.Do("GET", "/page", nil), 401, "Sign in again")
	w.wantOut(b)
	acme := w.account("acme")
	w.wantEntries(acme, "session.opened", "session.rights_changed", "session.ended")
}

func TestGitHubIsAskedOnceInAWhileAndByOneRequestOfMany(t *testing.T) {
	w := newWorld(t, dbtest.SQLite(t))
	b := w.signedIn("bob")
	asked := func() (n int) {
		for _, c := range w.sim.Calls() {
			if c.Route == "GET /user" {
				n++
			}
		}
		return n
	}
	before := asked()
	for range 5 {
		w.clock.pass(30 * time.Second)
		w.wantIn(b, "bob")
	}
	if n := asked() - before; n != 0 {
		t.Errorf("asked %d times within three minutes", n)
	}
	w.clock.pass(30 * time.Second)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() { w.wantIn(b, "bob") })
	}
	wg.Wait()
	if n := asked() - before; n != 1 {
		t.Errorf("asked %d times for eight requests at once", n)
	}
}

func TestWhileGitHubIsDownTheLastAnswerHoldsForAQuarterOfAnHour(t *testing.T) {
	eachWorld(t, func(t *testing.T, w *world) {
		b := w.signedIn("ada")
		w.sim.Down(2 * time.Hour)
		for range 4 {
			w.clock.pass(3 * time.Minute)
			w.wantIn(b, "ada")
		}
		w.clock.pass(5 * time.Minute)
		res := b.Do("GET", "/page", nil)
		w.wantPage(res, 503, "GitHub has not answered")
		if res.Header.Get("Retry-After") == "" {
			t.Error("no Retry-After")
		}
		w.wantPage(w.browser().SignIn("ada", "/"), 503, "you are not signed in")
		w.sim.Heal()
		w.clock.pass(time.Minute)
		w.wantIn(b, "ada") // the session was kept
		w.wantNoSecret(w.log.String())
	})
}

func TestCrossSiteRequestsChangeNothing(t *testing.T) {
	w := newWorld(t, dbtest.SQLite(t))
	b := w.signedIn("ada")
	for _, headers := range [][]string{
		{"Sec-Fetch-Site", "cross-site"},
		{"Sec-Fetch-Site", "same-site"},
		{"Sec-Fetch-Site", "", "Origin", "https://evil.example"},
		{"Sec-Fetch-Site", "", "Origin", "null"},
		{"Sec-Fetch-Site", "cross-site", "Origin", w.base + ".evil.example"},
	} {
		for _, path := range []string{"/page", "/auth/logout", "/auth/sessions/end"} {
			for _, method := range []string{"POST", "PUT", "PATCH", "DELETE"} {
				res := b.Do(method, path, url.Values{"all": {"mine"}}, headers...)
				if res.StatusCode != 403 || !strings.Contains(authtest.Text(res), "another site") {
					t.Errorf("%s %s %v: %d", method, path, headers, res.StatusCode)
				}
			}
		}
	}
	w.wantIn(b, "ada")
	w.wantPage(b.Do("GET", "/page", nil, "Sec-Fetch-Site", "cross-site"), 200, "GET ada") // a link is a link
	for _, headers := range [][]string{{}, {"Sec-Fetch-Site", "none"}, {"Sec-Fetch-Site", "", "Origin", w.base}} {
		w.wantPage(b.Do("POST", "/page", url.Values{}, headers...), 200, "POST ada")
	}
}

func TestOnlyPagesAreSentToSignInAndOnlyBackToThisServer(t *testing.T) {
	w := newWorld(t, dbtest.SQLite(t))
	b := w.browser()
	w.wantOut(b)
	w.wantPage(b.Do("POST", "/page", url.Values{}), 401, "nothing was done")
	w.wantPage(b.Do("GET", "/page", nil, "Sec-Fetch-Dest", "image"), 401, "not signed in")
	for _, next := range []string{"https://evil.example/", "//evil.example/", `/\evil.example/`, `\\evil.example`, "/\t/evil.example", "/\n/evil.example", "javascript:alert(1)",
		"/%2f/evil.example", "/%5cevil.example", "///evil.example", "", "page", "/auth/logout", "/auth/login?next=/", "/" + strings.Repeat("a", 600), "http:/evil.example", "/\x00", "/ evil", "/ü"} {
		b := w.browser()
		res := b.Return(b.Agree("ada", b.Begin(next)))
		if at := res.Request.URL; res.StatusCode != 200 || at.RequestURI() != "/" || !strings.HasPrefix(at.String(), w.base) {
			t.Errorf("next %q leads to %s (%d)", next, at, res.StatusCode)
		}
	}
	for _, next := range []string{"/", "/acme/shop/pull/1?x=%2F%2Fy&z=https://other.example/", "/a/../b", "/%C3%BC"} {
		if res := w.browser().SignIn("ada", next); res.StatusCode != 200 {
			t.Errorf("next %q: %d", next, res.StatusCode)
		}
	}
}

func TestGarbageInHeadersAndCookiesIsNobody(t *testing.T) {
	w := newWorld(t, dbtest.SQLite(t))
	good := w.session(w.signedIn("ada"))
	other := "nxs_" + base64.RawURLEncoding.EncodeToString(make([]byte, 32))
	for _, cookie := range []string{"noxaudit=", "noxaudit=nxs_", "noxaudit=" + other, "noxaudit=" + good + "A", "noxaudit=" + good[:40], "noxaudit=" + strings.TrimPrefix(good, "nxs_"),
		"noxaudit=" + strings.ToUpper(good), "noxaudit=" + good + "; noxaudit=" + other, "noxaudit=" + strings.Repeat("a", 20_000), "noxaudit=%00' OR 1=1 --",
		";;;;", "=", "noxaudit-sign-in=...."} {
		res := w.browser().Do("GET", "/page", nil, "Cookie", cookie)
		if res.StatusCode != 303 {
			t.Errorf("%.60q: %d %s", cookie, res.StatusCode, authtest.Text(res))
		}
		res = w.browser().Do("GET", "/auth/callback?code=a&state=b", nil, "Cookie", strings.ReplaceAll(cookie, "noxaudit=", "noxaudit-sign-in="))
		if res.StatusCode != 400 {
			t.Errorf("callback %.60q: %d", cookie, res.StatusCode)
		}
	}
	w.wantPage(w.browser().Do("GET", "/page", nil, "Cookie", "noxaudit="+good), 200, "ada")
}

func TestCookiesAreClosedToScriptsAndOtherSites(t *testing.T) {
	w := newWorld(t, dbtest.SQLite(t), func(o *auth.Options) { o.BaseURL = "https://noxaudit.example" })
	look := func(res *http.Response, name string) {
		t.Helper()
		for _, c := range res.Cookies() {
			if c.Name == name {
				if !c.HttpOnly || !c.Secure || c.SameSite != http.SameSiteLaxMode || c.Path != "/" || c.Domain != "" || c.MaxAge <= 0 {
					t.Errorf("%s: %s", name, c)
				}
				return
			}
		}
		t.Errorf("no cookie %s: %v", name, res.Header["Set-Cookie"])
	}
	do := func(path string, cookies ...*http.Cookie) *http.Response {
		r := httptest.NewRequest("GET", "https://noxaudit.example"+path, nil)
		for _, c := range cookies {
			r.AddCookie(c)
		}
		rec := httptest.NewRecorder()
		w.serve(rec, r)
		return rec.Result()
	}
	begun := do("/auth/login")
	look(begun, "__Host-noxaudit-sign-in")
	must(t, w.sim.SetCallbacks(w.app.ID, "https://noxaudit.example/auth/callback"))
	to, err := begun.Location()
	must(t, err)
	back, err := w.sim.Agree("ada", to.Query())
	must(t, err)
	done := do(strings.TrimPrefix(back, "https://noxaudit.example"), begun.Cookies()...)
	look(done, "__Host-noxaudit")
	if done.Header.Get("Cache-Control") != "no-store" || done.Header.Get("Referrer-Policy") != "no-referrer" {
		t.Errorf("%v", done.Header)
	}
	var session *http.Cookie
	for _, c := range done.Cookies() {
		if c.Name == "__Host-noxaudit" {
			session = c
		}
	}
	if res := do("/page", session); res.StatusCode != 200 {
		t.Errorf("%d", res.StatusCode)
	}
	if res := do("/page", &http.Cookie{Name: "noxaudit", Value: session.Value}); res.StatusCode != 303 {
		t.Errorf("under a name that any host may set: %d", res.StatusCode)
	}
}

func TestPeopleEndTheirOwnSessionsAndOwnersThoseOfTheirAccount(t *testing.T) {
	eachWorld(t, func(t *testing.T, w *world) {
		ctx := t.Context()
		acme := w.account("acme")
		who := func(login string) auth.Current {
			b := w.signedIn(login)
			w.clock.pass(time.Second) // lists are in the order of time
			var c auth.Current
			r := httptest.NewRequest("GET", w.base+"/page", nil)
			r.AddCookie(&http.Cookie{Name: "noxaudit", Value: w.session(b)})
			w.auth.Require(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { c, _ = auth.From(r.Context()) })).ServeHTTP(httptest.NewRecorder(), r)
			return c
		}
		ada, bob, uma := who("ada"), who("bob"), who("uma")
		first := w.signedIn("bob")
		w.clock.pass(time.Second)
		second := w.signedIn("bob")

		mine, err := w.auth.Sessions(ctx, bob)
		must(t, err)
		if len(mine) != 3 || mine[0].Login != "bob" || mine[0].ID != bob.Session {
			t.Errorf("bob's: %+v", mine)
		}
		if _, err := w.auth.Reaching(ctx, bob, acme, "", 10); err == nil {
			t.Error("a repository admin lists the account's sessions")
		}
		for _, c := range []auth.Current{uma, {}} {
			if err := w.auth.End(ctx, c, bob.Session); err == nil {
				t.Errorf("%s ends bob's", c.Login)
			}
			if _, err := w.auth.EndAccount(ctx, c, acme); err == nil {
				t.Errorf("%s ends all", c.Login)
			}
		}
		if err := w.auth.End(ctx, bob, ada.Session); err == nil {
			t.Error("bob ends ada's")
		}
		w.wantPage(first.Do("POST", "/auth/sessions/end", url.Values{"session": {mine[2].ID}}), 200, "ended: 1")
		w.wantOut(second)
		w.wantIn(first, "bob")
		w.wantPage(first.Do("POST", "/auth/sessions/end", url.Values{"session": {"nothing"}}), 403, "Nothing was ended")
		w.wantPage(first.Do("POST", "/auth/sessions/end", url.Values{"account": {acme.String()}}), 403, "Nothing was ended")
		w.wantPage(first.Do("POST", "/auth/sessions/end", url.Values{"all": {"yours"}}), 400, "names no session")

		all, err := w.auth.Reaching(ctx, ada, acme, "", 10)
		must(t, err)
		if len(all) != 3 { // ada, bob, first
			t.Errorf("reaching acme: %+v", all)
		}
		if n, err := w.auth.EndAccount(ctx, ada, acme); n != 2 || err != nil {
			t.Errorf("ended %d, %v", n, err)
		}
		w.wantOut(first)
		if left, err := w.auth.Sessions(ctx, ada); len(left) != 1 || err != nil {
			t.Errorf("ada has %v, %v", left, err)
		}
		if left, err := w.auth.Sessions(ctx, uma); len(left) != 1 || err != nil {
			t.Errorf("uma has %v, %v", left, err)
		}
		_, text := w.entries(acme)
		if !strings.Contains(text, "ended by an owner of an account") || !strings.Contains(text, "ended by the person") {
			t.Errorf("%s", text)
		}
	})
}

func TestOnePersonsSessionsAreBounded(t *testing.T) {
	w := newWorld(t, dbtest.SQLite(t), func(o *auth.Options) { o.Limits.PerPerson = 3 })
	var all []*authtest.Browser
	for range 5 {
		all = append(all, w.signedIn("ada"))
		w.clock.pass(time.Second)
	}
	w.wantOut(all[0])
	w.wantOut(all[1])
	w.wantIn(all[2], "ada")
	w.wantIn(all[4], "ada")
}

// other is a source of rights that names another person.
type other struct{ auth.Rights }

func (o other) Person(ctx context.Context, credential string) (access.Person, error) {
	p, err := o.Rights.Person(ctx, credential)
	p.ID++
	return p, err
}

func TestASessionIsNotContinuedAsAnotherPerson(t *testing.T) {
	w := newWorld(t, dbtest.SQLite(t))
	b := w.signedIn("ada")
	w.opts.Rights = other{w.opts.Rights}
	var err error
	w.auth, err = auth.New(w.opts)
	must(t, err)
	w.clock.pass(3 * time.Minute)
	w.wantPage(b.Do("GET", "/page", nil), 401, "Sign in again")
	w.wantOut(b)
}

// Whoever can write to the database can make no session use another's credential, and none without one.
func TestASealedCredentialOpensInItsOwnRowOnly(t *testing.T) {
	for what, change := range map[string]string{
		"another's": `UPDATE session SET sealed = (SELECT sealed FROM session WHERE login = 'ada') WHERE login = 'bob'`,
		"none":      `UPDATE session SET sealed = x'' WHERE login = 'bob'`,
		"renamed":   `UPDATE session SET person = person + 1 WHERE login = 'bob'`,
	} {
		t.Run(what, func(t *testing.T) {
			dsn := dbtest.SQLite(t)
			w := newWorld(t, dsn)
			w.signedIn("ada")
			b := w.signedIn("bob")
			db, err := sql.Open("sqlite", dsn)
			must(t, err)
			defer db.Close()
			_, err = db.ExecContext(t.Context(), change)
			must(t, err)
			w.clock.pass(3 * time.Minute)
			w.wantPage(b.Do("GET", "/page", nil), 401, "Sign in again")
			w.wantOut(b)
		})
	}
}

func TestNoHeaderChangesWherePeopleComeBackTo(t *testing.T) {
	w := newWorld(t, dbtest.SQLite(t))
	r := httptest.NewRequest("GET", "http://evil.example/auth/login?next=//evil.example", nil)
	for _, h := range []string{"X-Forwarded-Host", "X-Forwarded-Proto", "Forwarded", "X-Original-URL", "Origin", "Referer"} {
		r.Header.Set(h, "evil.example")
	}
	rec := httptest.NewRecorder()
	w.serve(rec, r)
	to, err := rec.Result().Location()
	must(t, err)
	if to.Query().Get("redirect_uri") != w.base+"/auth/callback" || !strings.HasPrefix(to.String(), w.sim.BaseURL()+"/") || strings.Contains(to.String(), "evil") {
		t.Errorf("%s", to)
	}
}

func TestSessionsThatAreOverLeaveTheDatabase(t *testing.T) {
	eachWorld(t, func(t *testing.T, w *world) {
		rows := func() (n int) {
			for _, person := range []string{"ada", "bob"} {
				id, err := strconv.ParseInt(w.account(person).String(), 10, 64)
				must(t, err)
				all, err := w.store.For(name.Deployment).SessionsOf(t.Context(), id, time.Unix(0, 0))
				must(t, err)
				n += len(all)
			}
			return n
		}
		w.signedIn("ada")
		w.clock.pass(time.Hour)
		w.signedIn("bob")
		if n := rows(); n != 1 {
			t.Errorf("%d rows after another sign-in", n)
		}
		w.clock.pass(time.Hour)
		must(t, w.auth.Prune(t.Context()))
		if n := rows(); n != 0 {
			t.Errorf("%d rows after pruning", n)
		}
	})
}

// While one browser is at work, its session is ended elsewhere: it does not come back.
func TestASessionEndedWhileItIsAskedForStaysEnded(t *testing.T) {
	eachWorld(t, func(t *testing.T, w *world) {
		b := w.signedIn("bob")
		must(t, w.sim.SetCollaborator("ada", "acme/lib", "bob", githubsim.Admin)) // the answer has to be written
		w.clock.pass(3 * time.Minute)
		w.sim.Inject(githubsim.Fault{Kind: githubsim.Slow, On: "GET /user", Times: 1, Delay: 300 * time.Millisecond})
		var wg sync.WaitGroup
		wg.Go(func() { b.Do("GET", "/page", nil) })
		ada := w.signedIn("ada")
		w.wantPage(ada.Do("POST", "/auth/sessions/end", url.Values{"account": {w.account("acme").String()}}), 200, "Sessions ended")
		wg.Wait()
		w.wantOut(b)
	})
}

func TestANewClientSecretEndsSessionsAndASecondReplicaDoesNot(t *testing.T) {
	w := newWorld(t, dbtest.SQLite(t))
	b := w.browser()
	back := b.Agree("ada", b.Begin("/"))
	var err error
	w.auth, err = auth.New(w.opts) // the next request meets another process
	must(t, err)
	w.wantPage(b.Return(back), 200, "GET ada")
	w.auth, err = auth.New(w.opts)
	must(t, err)
	w.clock.pass(3 * time.Minute)
	w.wantIn(b, "ada")
	w.opts.ClientSecret = "another secret"
	w.auth, err = auth.New(w.opts)
	must(t, err)
	w.clock.pass(3 * time.Minute)
	w.wantPage(b.Do("GET", "/page", nil), 401, "Sign in again")
	w.wantOut(b)
}

func TestAWrongClientSecretIsTheOperatorsMatter(t *testing.T) {
	w := newWorld(t, dbtest.SQLite(t), func(o *auth.Options) { o.ClientSecret = "wrong" })
	w.wantPage(w.browser().SignIn("ada", "/"), 502, "not set up")
	if !strings.Contains(w.log.String(), "incorrect_client_credentials") {
		t.Errorf("log: %s", w.log)
	}
}

func TestAnExchangeThatFailsOnTheWayCanBeBegunAgain(t *testing.T) {
	w := newWorld(t, dbtest.SQLite(t))
	b := w.browser()
	w.sim.Inject(githubsim.Fault{Kind: githubsim.ErrorBefore, On: "oauth", Times: 1})
	w.wantPage(b.SignIn("ada", "/"), 503, "you are not signed in")
	w.wantPage(b.SignIn("ada", "/"), 200, "GET ada")
}

func TestNobodyIsSentToSignInBecauseTheDatabaseIsAway(t *testing.T) {
	w := newWorld(t, dbtest.SQLite(t))
	b, other := w.signedIn("ada"), w.browser()
	back := other.Agree("bob", other.Begin("/"))
	must(t, w.store.Close())
	w.wantPage(b.Do("GET", "/page", nil), 503, "database")
	w.wantPage(b.Do("POST", "/auth/logout", url.Values{}), 503, "database")
	w.wantPage(other.Return(back), 503, "database")
	if w.session(b) == "" {
		t.Error("the cookie was taken away")
	}
	w.wantNoSecret(w.log.String())
}

// BenchmarkRequire is what every request of a signed-in person costs beyond its page.
func BenchmarkRequire(b *testing.B) {
	for name, dsn := range map[string]func(testing.TB) string{"sqlite": dbtest.SQLite, "postgres": dbtest.Postgres} {
		b.Run(name, func(b *testing.B) {
			w := newWorld(b, dsn(b))
			cookie := &http.Cookie{Name: "noxaudit", Value: w.session(w.signedIn("bob"))}
			page := w.auth.Require(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
			for b.Loop() {
				r := httptest.NewRequest("GET", w.base+"/page", nil)
				r.AddCookie(cookie)
				rec := httptest.NewRecorder()
				page.ServeHTTP(rec, r)
				if rec.Code != 200 {
					b.Fatal(rec.Code)
				}
			}
		})
	}
}

func TestSettingsThatCannotWorkAreRefused(t *testing.T) {
	w := newWorld(t, dbtest.SQLite(t))
	for what, change := range map[string]func(*auth.Options){
		"NOXAUDIT_GITHUB_CLIENT_ID":     func(o *auth.Options) { o.ClientID = "" },
		"NOXAUDIT_GITHUB_CLIENT_SECRET": func(o *auth.Options) { o.ClientSecret = "" },
		"NOXAUDIT_BASE_URL is required": func(o *auth.Options) { o.BaseURL = "" },
		"without a path":                func(o *auth.Options) { o.BaseURL = "https://x.example/noxaudit" },
		"want https":                    func(o *auth.Options) { o.BaseURL = "http://x.example" },
		"NOXAUDIT_GITHUB_WEB_URL":       func(o *auth.Options) { o.GitHubWebURL = "ftp://x" },
		"random source":                 func(o *auth.Options) { o.Rand = nil },
	} {
		o := w.opts
		change(&o)
		if _, err := auth.New(o); err == nil || !strings.Contains(err.Error(), what) {
			t.Errorf("%s: %v", what, err)
		}
	}
	for _, base := range []string{"http://localhost:8080", "http://[::1]:8080", "http://noxaudit.localhost", "https://x.example/"} {
		o := w.opts
		o.BaseURL = base
		if _, err := auth.New(o); err != nil {
			t.Errorf("%s: %v", base, err)
		}
	}
}
