// Package authtest makes signed-in browsers for tests of whatever lies behind auth.Require. They sign in as people do:
// through the redirects, against a simulated GitHub.
package authtest

import (
	"context"
	"html"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/noxaudit/noxaudit/internal/github"
	"github.com/noxaudit/noxaudit/internal/githubsim"
)

// Browser is a new browser, which belongs to nobody yet. It keeps cookies, follows redirects within the server only,
// and says Sec-Fetch-Site: same-origin as a page of the server would.
type Browser struct {
	*http.Client
	Base string // of the server under test: "http://127.0.0.1:1234"

	t   testing.TB
	sim *githubsim.Server
}

// New makes one. base is where the server under test is, as its NOXAUDIT_BASE_URL says; its App must have BASE/auth/callback
// among its callbacks (githubsim's SetCallbacks). A nil transport is net/http's.
func New(t testing.TB, sim *githubsim.Server, base string, transport http.RoundTripper) *Browser {
	t.Helper()
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	b := &Browser{Base: strings.TrimSuffix(base, "/"), t: t, sim: sim}
	b.Client = &http.Client{Jar: jar, Transport: transport, CheckRedirect: func(r *http.Request, _ []*http.Request) error {
		if !strings.HasPrefix(r.URL.String(), b.Base+"/") || strings.HasPrefix(r.URL.String(), b.Base+"/auth/") {
			return http.ErrUseLastResponse
		}
		return nil
	}}
	return b
}

// SignedIn is a new browser in which a person of the simulated GitHub has signed in; one who is refused fails the test.
func SignedIn(t testing.TB, sim *githubsim.Server, base, login string) *Browser {
	t.Helper()
	b := New(t, sim, base, nil)
	if res := b.SignIn(login, "/"); res.Request.URL.Path == "/auth/callback" && res.StatusCode >= 400 {
		t.Fatalf("%s could not sign in: %d", login, res.StatusCode)
	}
	return b
}

// SignIn goes through a sign-in and to where it leads. The answer's body is read and closed.
func (b *Browser) SignIn(login, next string) *http.Response {
	b.t.Helper()
	return b.Return(b.Agree(login, b.Begin(next)))
}

// Begin asks the server to begin a sign-in, and is the address at GitHub that it leads to.
func (b *Browser) Begin(next string) *url.URL {
	b.t.Helper()
	res := b.Do("GET", "/auth/login?next="+url.QueryEscape(next), nil)
	to, err := res.Location()
	if err != nil || !strings.HasPrefix(to.String(), b.sim.BaseURL()+"/login/oauth/authorize?") {
		b.t.Fatalf("sign-in leads to %v (%d, %v), not to GitHub", to, res.StatusCode, err)
	}
	return to
}

// Agree is what GitHub sends the browser back to once the person has agreed.
func (b *Browser) Agree(login string, authorize *url.URL) string {
	b.t.Helper()
	back, err := b.sim.Agree(login, authorize.Query())
	if err != nil {
		b.t.Fatal(err)
	}
	return back
}

// Return goes where GitHub sends the browser back to, and on from there within the server.
func (b *Browser) Return(back string) *http.Response {
	b.t.Helper()
	res := b.Do("GET", strings.TrimPrefix(back, b.Base), nil, "Sec-Fetch-Site", "cross-site", "Sec-Fetch-Mode", "navigate", "Sec-Fetch-Dest", "document")
	if to, err := res.Location(); err == nil && strings.HasPrefix(to.String(), b.Base+"/") {
		return b.Do("GET", strings.TrimPrefix(to.String(), b.Base), nil)
	}
	return res
}

// Do makes a request to a path of the server; a form is posted as one. Headers are pairs of name and value; an empty
// value takes one away. The answer's body can be read after the connection is gone.
func (b *Browser) Do(method, path string, form url.Values, headers ...string) *http.Response {
	b.t.Helper()
	var body io.Reader
	if form != nil {
		body = strings.NewReader(form.Encode())
	}
	req, err := http.NewRequestWithContext(b.t.Context(), method, b.Base+path, body)
	if err != nil {
		b.t.Fatal(err)
	}
	req.Header.Set("Sec-Fetch-Site", "same-origin")
	if form != nil {
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	for i := 0; i < len(headers); i += 2 {
		if headers[i+1] == "" {
			req.Header.Del(headers[i])
		} else {
			req.Header.Set(headers[i], headers[i+1])
		}
	}
	res, err := b.Client.Do(req)
	if err != nil {
		b.t.Fatal(err)
	}
	text, err := io.ReadAll(res.Body)
	res.Body.Close()
	if err != nil {
		b.t.Fatal(err)
	}
	res.Body = io.NopCloser(strings.NewReader(string(text)))
	return res
}

// Rights asks a simulated GitHub what people may do, through the real client. It repeats what fails without waiting.
func Rights(t testing.TB, sim *githubsim.Server, app githubsim.App, now func() time.Time, log io.Writer) github.Rights {
	t.Helper()
	a, err := github.NewApp(github.AppOptions{
		ID: app.ID, PrivateKeyPEM: app.PrivateKeyPEM, APIURL: sim.BaseURL() + "/api/v3", WebURL: sim.BaseURL(), Now: now, Log: zerolog.New(log),
		Sleep: func(ctx context.Context, _ time.Duration) error { return ctx.Err() },
	})
	if err != nil {
		t.Fatal(err)
	}
	return a.Rights(app.ClientID, app.ClientSecret)
}

// Text is the body of an answer.
func Text(res *http.Response) string {
	text, _ := io.ReadAll(res.Body) // from memory
	res.Body = io.NopCloser(strings.NewReader(string(text)))
	return string(text)
}

var field = regexp.MustCompile(`name="(port|state|challenge|host)" value="([^"]*)"`)

// CommandLine opens the address that a command line prints, in a browser that is signed in, and agrees, here and at
// GitHub. It returns where the browser is sent in the end, on this machine, without going there.
func (b *Browser) CommandLine(login, address string) string {
	b.t.Helper()
	res := b.Do("GET", strings.TrimPrefix(address, b.Base), nil)
	form := url.Values{"answer": {"yes"}}
	for _, m := range field.FindAllStringSubmatch(Text(res), -1) {
		form.Set(m[1], html.UnescapeString(m[2]))
	}
	if res = b.Do("POST", "/auth/cli", form); res.StatusCode != http.StatusSeeOther {
		b.t.Fatalf("agreeing to a command line: %d %s", res.StatusCode, Text(res))
	}
	to, err := res.Location()
	if err != nil {
		b.t.Fatal(err)
	}
	res = b.Do("GET", strings.TrimPrefix(b.Agree(login, to), b.Base), nil, "Sec-Fetch-Site", "cross-site")
	return strings.TrimPrefix(res.Header.Get("Refresh"), "0;url=")
}
