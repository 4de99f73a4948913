package auth_test

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/noxaudit/noxaudit/internal/dbtest"
	"github.com/noxaudit/noxaudit/internal/githubsim"
	"github.com/noxaudit/noxaudit/internal/name"
	"github.com/noxaudit/noxaudit/server/auth"
	"github.com/noxaudit/noxaudit/server/auth/authtest"
)

const cliState = "a-state-of-the-test-0123456789"

// asking is a command line's request: the address for the browser, and the verifier it keeps.
func (w *world) asking(n int) (address, verifier string) {
	verifier = fmt.Sprintf("a-verifier-of-the-test-%020d", n)
	sum := sha256.Sum256([]byte(verifier))
	return w.base + "/auth/cli?" + url.Values{
		"port": {"49152"}, "state": {cliState}, "host": {"laptop"}, "challenge": {base64.RawURLEncoding.EncodeToString(sum[:])},
	}.Encode(), verifier
}

// code is that of an answer on the command line's machine.
func (w *world) code(back string) string {
	w.Helper()
	u, err := url.Parse(back)
	must(w, err)
	if u.Scheme != "http" || u.Host != "127.0.0.1:49152" || u.Path != "/" || u.Query().Get("state") != cliState {
		w.Fatalf("sent to %q", back)
	}
	return u.Query().Get("code")
}

// redeem exchanges a code, and returns the token and the status.
func (w *world) redeem(code, verifier string) (token string, status int) {
	w.Helper()
	res, err := http.PostForm(w.base+"/auth/cli/token", url.Values{"code": {code}, "verifier": {verifier}})
	must(w, err)
	defer res.Body.Close()
	var out struct{ Token, Login, Error string }
	must(w, json.NewDecoder(res.Body).Decode(&out))
	if (res.StatusCode == 200) != (out.Token != "") || res.StatusCode != 200 && out.Error == "" {
		w.Errorf("%d %+v", res.StatusCode, out)
	}
	if res.Header.Get("Cache-Control") != "no-store" {
		w.Error("a token may be kept on the way")
	}
	return out.Token, res.StatusCode
}

// commandLine is a token of a person's command line.
func (w *world) commandLine(login string, n int) string {
	w.Helper()
	w.clock.pass(time.Second) // the oldest is the first to go
	address, verifier := w.asking(n)
	token, status := w.redeem(w.code(w.signedIn(login).CommandLine(login, address)), verifier)
	if status != 200 {
		w.Fatalf("%s: %d", login, status)
	}
	return token
}

// as is who a token's request is from.
func (w *world) as(authorization ...string) (auth.Current, int) {
	r := httptest.NewRequest("GET", "/api/v1/x", nil)
	for _, a := range authorization {
		r.Header.Add("Authorization", a)
	}
	c, page := w.auth.Bearer(r)
	if page != nil {
		return c, page.Status
	}
	return c, 200
}

func (w *world) wantAs(token, login string) {
	w.Helper()
	if c, status := w.as("Bearer " + token); status != 200 || c.Login != login {
		w.Errorf("the token: %d %q, want %q", status, c.Login, login)
	}
}

func (w *world) wantNobody(token string) {
	w.Helper()
	if c, status := w.as("Bearer " + token); status != 401 || c.ID != 0 {
		w.Errorf("the token is taken: %d %q", status, c.Login)
	}
}

func TestACommandLineGetsASessionOfItsOwn(t *testing.T) {
	eachWorld(t, func(t *testing.T, w *world) {
		b := w.signedIn("ada")
		address, verifier := w.asking(1)
		w.clock.pass(time.Second)
		code := w.code(b.CommandLine("ada", address))
		token, status := w.redeem(code, verifier)
		if status != 200 || !strings.HasPrefix(token, "nxc_") {
			t.Fatalf("%d", status)
		}
		w.wantAs(token, "ada")
		me, _ := w.as("Bearer " + token)
		all, err := w.auth.Sessions(t.Context(), me)
		must(t, err)
		if len(all) != 2 || all[1].Agent != "command line on laptop" {
			t.Errorf("the list: %+v", all)
		}
		b.Do("POST", "/auth/logout", url.Values{})
		w.clock.pass(4 * time.Minute) // GitHub is asked again
		w.wantAs(token, "ada")
		w.wantEntries(name.Deployment, "session.opened", "session.command_line_agreed", "session.opened", "session.ended")
		_, text := w.entries(name.Deployment)
		w.wantNoSecret(text+w.log.String(), code, token, verifier)
		if !strings.Contains(text, `"via":"cli"`) {
			t.Errorf("no entry says cli: %s", text)
		}
	})
}

func TestACommandLinesCodeIsGoodOnceInTimeAndForItsVerifierOnly(t *testing.T) {
	eachWorld(t, func(t *testing.T, w *world) {
		b := w.signedIn("ada")
		get := func(n int) (code, verifier string) {
			address, verifier := w.asking(n)
			return w.code(b.CommandLine("ada", address)), verifier
		}
		refused := func(what, code, verifier string) {
			t.Helper()
			if _, status := w.redeem(code, verifier); status != 400 {
				t.Errorf("%s: %d", what, status)
			}
		}
		code, verifier := get(1)
		refused("a changed code", code[:len(code)-2]+"AA", verifier)
		refused("no code", "", verifier)
		refused("a code as a cookie's token", strings.Replace(code, "nxo_", "nxs_", 1), verifier)
		token, status := w.redeem(code, verifier)
		if status != 200 {
			t.Fatalf("%d", status)
		}
		refused("the second time", code, verifier)
		w.wantAs(token, "ada")
		w.wantNobody(code)
		w.wantNobody(strings.Replace(code, "nxo_", "nxc_", 1))

		code, verifier = get(2)
		refused("another verifier", code, verifier+"x")
		refused("the right one after a wrong one", code, verifier)

		code, verifier = get(3)
		w.clock.pass(61 * time.Second)
		refused("after a minute", code, verifier)

		code, verifier = get(4)
		must(t, endAll(w, b))
		refused("after its person ended all sessions", code, verifier)

		// What one command line asked for is good for one session.
		b = w.signedIn("ada")
		address, _ := w.asking(5)
		w.code(b.CommandLine("ada", address))
		if back := b.CommandLine("ada", address); back != "" {
			t.Errorf("the same request gave a second code: %s", back)
		}
	})
}

func endAll(w *world, b *authtest.Browser) error {
	if res := b.Do("POST", "/auth/sessions/end", url.Values{"all": {"mine"}}); res.StatusCode != 200 {
		return fmt.Errorf("%d %s", res.StatusCode, authtest.Text(res))
	}
	return nil
}

func TestTokensOfOneKindAreNoTokensOfAnother(t *testing.T) {
	w := newWorld(t, dbtest.SQLite(t))
	b := w.signedIn("ada")
	cookie := w.session(b)
	w.wantNobody(cookie)
	w.wantNobody(strings.Replace(cookie, "nxs_", "nxc_", 1))
	token := w.commandLine("bob", 1)
	for _, as := range []string{token, strings.Replace(token, "nxc_", "nxs_", 1)} {
		other := w.browser()
		u, _ := url.Parse(w.base)
		other.Jar.SetCookies(u, []*http.Cookie{{Name: "noxaudit", Value: as}})
		w.wantOut(other)
	}
	// A token opens no page, and a cookie no API.
	res := w.browser().Do("GET", "/page?x=1", nil, "Authorization", "Bearer "+token)
	if res.StatusCode != 303 {
		t.Errorf("a page with a token: %d", res.StatusCode)
	}
	r := httptest.NewRequest("GET", "/api/v1/x", nil)
	r.AddCookie(&http.Cookie{Name: "noxaudit", Value: cookie})
	if _, page := w.auth.Bearer(r); page == nil {
		t.Error("the API takes a cookie")
	}
	for _, bad := range [][]string{{}, {""}, {"Bearer"}, {"Bearer "}, {"Basic " + token}, {token}, {"Bearer " + token + "x"}, {"Bearer  " + token}, {"Bearer " + token, "Bearer " + token}} {
		if _, status := w.as(bad...); status != 401 {
			t.Errorf("%q: %d", bad, status)
		}
	}
	if _, status := w.as("bearer " + token); status != 200 {
		t.Errorf("the scheme in lower case: %d", status)
	}
}

func TestNothingLeadsABrowserElsewhereThanToThisMachine(t *testing.T) {
	w := newWorld(t, dbtest.SQLite(t))
	b := w.signedIn("ada")
	address, _ := w.asking(1)
	good, err := url.Parse(address)
	must(t, err)
	for key, values := range map[string][]string{
		"port": {"", "0", "80", "1023", "65536", "-1", "+49152", "049152", "49152@evil.example", "49152/", "evil.example:80", "1e4", "99999999999999999999"},
		"state": {"", "short", strings.Repeat("x", 129), "a state with spaces in it", "aaaaaaaaaaaaaaaaaaaa&port=1", "aaaaaaaaaaaaaaaaaaa\r\nX: y",
			"aaaaaaaaaaaaaaaaaaa<script>"},
		"challenge": {"", "x", strings.Repeat("A", 42), strings.Repeat("A", 44), strings.Repeat("*", 43)},
	} {
		for _, v := range values {
			q := good.Query()
			q.Set(key, v)
			if res := b.Do("GET", "/auth/cli?"+q.Encode(), nil); res.StatusCode != 400 {
				t.Errorf("%s=%q: %d", key, v, res.StatusCode)
			}
			q.Set("answer", "yes")
			if res := b.Do("POST", "/auth/cli", q); res.StatusCode != 400 || res.Header.Get("Location") != "" {
				t.Errorf("%s=%q: %d to %q", key, v, res.StatusCode, res.Header.Get("Location"))
			}
		}
	}
	q := good.Query()
	q.Add("port", "50000")
	if res := b.Do("GET", "/auth/cli?"+q.Encode(), nil); res.StatusCode != 400 {
		t.Errorf("two ports: %d", res.StatusCode)
	}
	q = good.Query()
	q.Set("answer", "no")
	q.Set("redirect_uri", "https://evil.example/")
	if to := b.Do("POST", "/auth/cli", q).Header.Get("Location"); to != "http://127.0.0.1:49152/?error=access_denied&state="+cliState {
		t.Errorf("a no leads to %q", to)
	}
}

func TestOnlyThePersonOnThisServersPageCanAgree(t *testing.T) {
	w := newWorld(t, dbtest.SQLite(t))
	b := w.signedIn("ada")
	address, _ := w.asking(1)
	path := strings.TrimPrefix(address, w.base)
	u, err := url.Parse(address)
	must(t, err)
	form := u.Query()
	form.Set("answer", "yes")

	page := b.Do("GET", path, nil)
	w.wantPage(page, 200, "asks to act as ada")
	h := page.Header
	if csp := h.Get("Content-Security-Policy"); !strings.Contains(csp, "frame-ancestors 'none'") || !strings.Contains(csp, "default-src 'none'") ||
		!strings.Contains(csp, "form-action 'self' "+w.sim.BaseURL()+" http://127.0.0.1:49152") || h.Get("X-Frame-Options") != "DENY" || h.Get("Cache-Control") != "no-store" {
		t.Errorf("headers %v", h)
	}
	for _, from := range []string{"cross-site", "same-site"} {
		if res := b.Do("POST", "/auth/cli", form, "Sec-Fetch-Site", from); res.StatusCode != 403 || res.Header.Get("Location") != "" {
			t.Errorf("posted %s: %d", from, res.StatusCode)
		}
	}
	if res := b.Do("POST", "/auth/cli", form, "Sec-Fetch-Site", "", "Origin", "https://evil.example"); res.StatusCode != 403 {
		t.Errorf("posted by another origin: %d", res.StatusCode)
	}
	if res := w.browser().Do("POST", "/auth/cli", form); res.StatusCode != 401 {
		t.Errorf("posted by nobody: %d", res.StatusCode)
	}
	// Who is not signed in yet comes back to the question after signing in.
	fresh := w.browser()
	res := fresh.Do("GET", path, nil)
	to, err := res.Location()
	if err != nil || to.Path != "/auth/login" {
		t.Fatalf("nobody: %d %v", res.StatusCode, to)
	}
	if res := fresh.SignIn("bob", to.Query().Get("next")); !strings.Contains(authtest.Text(res), "asks to act as bob") {
		t.Errorf("after signing in: %d %s", res.StatusCode, authtest.Text(res))
	}
	// Somebody else at GitHub than here.
	if res := b.Do("POST", "/auth/cli", form); res.StatusCode == 303 {
		to, _ := res.Location()
		res := b.Do("GET", strings.TrimPrefix(b.Agree("bob", to), w.base), nil)
		w.wantPage(res, 400, "signed in as bob")
	} else {
		t.Errorf("%d", res.StatusCode)
	}
	// Who says no at GitHub: the command line waits no longer.
	res = b.Do("POST", "/auth/cli", form)
	to, _ = res.Location()
	res = b.Do("GET", "/auth/callback?error=access_denied&state="+url.QueryEscape(to.Query().Get("state")), nil)
	if back := strings.TrimPrefix(res.Header.Get("Refresh"), "0;url="); back != "http://127.0.0.1:49152/?error=access_denied&state="+cliState {
		t.Errorf("a no at GitHub leads to %q", back)
	}
	// A person who agreed at GitHub without having been asked here: the flow is not in that browser.
	res = b.Do("POST", "/auth/cli", form)
	to, _ = res.Location()
	w.wantPage(w.browser().Do("GET", strings.TrimPrefix(b.Agree("ada", to), w.base), nil), 400, "not begun in this browser")
}

func TestAHostsNameIsShownAndActsOnNothing(t *testing.T) {
	w := newWorld(t, dbtest.SQLite(t))
	b := w.signedIn("ada")
	address, verifier := w.asking(1)
	u, err := url.Parse(address)
	must(t, err)
	q := u.Query()
	q.Set("host", "<img src=x onerror=alert(1)>\u202e\x1b[2J\x00evil"+strings.Repeat("x", 500))
	if text := authtest.Text(b.Do("GET", "/auth/cli?"+q.Encode(), nil)); strings.Contains(text, "<img") || strings.Contains(text, "\u202e") || strings.Contains(text, "\x1b") {
		t.Errorf("%s", text)
	}
	w.clock.pass(time.Second)
	token, status := w.redeem(w.code(b.CommandLine("ada", w.base+"/auth/cli?"+q.Encode())), verifier)
	if status != 200 {
		t.Fatal(status)
	}
	me, _ := w.as("Bearer " + token)
	all, err := w.auth.Sessions(t.Context(), me)
	must(t, err)
	if agent := all[len(all)-1].Agent; !strings.HasPrefix(agent, "command line on <img") || strings.ContainsAny(agent, "\u202e\x1b\x00") || len(agent) > 100 {
		t.Errorf("%q", agent)
	}
}

func TestACommandLinesSessionHasTheLimitsOfOthersAndIsRevocable(t *testing.T) {
	w := newWorld(t, dbtest.SQLite(t))
	token := w.commandLine("bob", 1)
	w.clock.pass(31 * time.Minute)
	w.wantNobody(token)

	token = w.commandLine("bob", 2)
	for range 35 {
		w.clock.pass(20 * time.Minute)
		w.wantAs(token, "bob")
	}
	w.clock.pass(20 * time.Minute) // twelve hours
	w.wantNobody(token)

	token = w.commandLine("bob", 3)
	for i := range 12 {
		w.commandLine("bob", 10+i) // each with a browser's session as well
	}
	w.wantNobody(token)

	token = w.commandLine("bob", 4)
	must(t, w.sim.SetCollaborator("ada", "acme/shop", "bob", githubsim.Write))
	w.clock.pass(4 * time.Minute)
	w.wantNobody(token)

	token = w.commandLine("ada", 5)
	req := func() int {
		r, err := http.NewRequest("POST", w.base+"/auth/cli/logout", nil)
		must(t, err)
		r.Header.Set("Authorization", "Bearer "+token)
		res, err := http.DefaultClient.Do(r)
		must(t, err)
		res.Body.Close()
		return res.StatusCode
	}
	if status := req(); status != 204 {
		t.Errorf("sign-out: %d", status)
	}
	w.wantNobody(token)
	if status := req(); status != 401 {
		t.Errorf("sign-out again: %d", status)
	}

	token = w.commandLine("ada", 6)
	must(t, endAll(w, w.signedIn("ada")))
	w.wantNobody(token)
}

func TestCodesThatWaitAreFew(t *testing.T) {
	w := newWorld(t, dbtest.SQLite(t))
	b := w.signedIn("ada")
	given := 0
	for i := range 8 {
		address, _ := w.asking(i)
		if b.CommandLine("ada", address) != "" {
			given++
		}
	}
	if given != 5 {
		t.Errorf("%d codes, want 5", given)
	}
	w.wantIn(b, "ada") // the codes took no session's place
}

func FuzzCommandLineRequest(f *testing.F) {
	f.Add("49152", cliState, strings.Repeat("A", 43), "laptop")
	f.Add("080", "x", "", "\x00")
	w := newWorld(f, dbtest.SQLite(f))
	b := w.signedIn("ada")
	cookie := &http.Cookie{Name: "noxaudit", Value: w.session(b)}
	f.Fuzz(func(t *testing.T, port, state, challenge, host string) {
		form := url.Values{"port": {port}, "state": {state}, "challenge": {challenge}, "host": {host}, "answer": {"no"}}
		r := httptest.NewRequest("POST", w.base+"/auth/cli", strings.NewReader(form.Encode()))
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		r.AddCookie(cookie)
		rec := httptest.NewRecorder()
		w.auth.Handler().ServeHTTP(rec, r)
		to := rec.Header().Get("Location")
		if rec.Code == 400 && to == "" {
			return
		}
		u, err := url.Parse(to)
		if err != nil || u.Scheme != "http" || u.Hostname() != "127.0.0.1" || u.Path != "/" || u.User != nil || u.Fragment != "" {
			t.Fatalf("%d to %q", rec.Code, to)
		}
		if n, err := strconv.Atoi(u.Port()); err != nil || n < 1024 || u.Query().Get("state") != state {
			t.Fatalf("to %q", to)
		}
	})
}
