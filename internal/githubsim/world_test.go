package githubsim_test

import (
	"bytes"
	"context"
	"crypto"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/noxaudit/noxaudit/internal/githubsim"
	"github.com/noxaudit/noxaudit/internal/githubsim/conform"
)

const secret = "it is a secret"

// key is made once: making one takes longer than most tests.
var key = sync.OnceValue(func() *rsa.PrivateKey {
	k, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		panic(err)
	}
	return k
})

// clock is moved by hand.
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

// world is a GitHub with the organisation acme (ada owns it, bob writes, eve is a stranger), the repository acme/shop, and an App installed there.
type world struct {
	testing.TB
	sim          *githubsim.Server
	url          string
	clock        *clock
	app          githubsim.App
	installation int64
	token        string
	hooks        *inbox
}

var permissions = map[string]string{"checks": "write", "contents": "read", "pull_requests": "write", "issues": "read", "members": "read", "merge_queues": "read"}

var events = []string{"push", "pull_request", "pull_request_review", "merge_group", "check_run", "check_suite", "issue_comment", "repository", "member", "membership", "team", "organization"}

func newWorld(t testing.TB, change ...func(*githubsim.Options)) *world {
	t.Helper()
	c := &clock{at: time.Date(2026, 11, 2, 9, 0, 0, 0, time.UTC)}
	o := githubsim.Options{Dir: t.TempDir(), Now: c.now, Seed: 1}
	for _, f := range change {
		f(&o)
	}
	sim, err := githubsim.New(o)
	must(t, err)
	w := &world{TB: t, sim: sim, clock: c, hooks: newInbox(t)}
	w.url, err = sim.Listen("127.0.0.1:0")
	must(t, err)
	t.Cleanup(func() { sim.Close() })
	conform.Check(t, sim)
	for _, login := range []string{"ada", "bob", "eve"} {
		must(t, sim.CreateUser(login))
	}
	must(t, sim.CreateOrg("acme", "ada"))
	must(t, sim.SetMember("ada", "acme", "bob", "member"))
	_, err = sim.CreateRepo("ada", "acme/shop", githubsim.RepoSpec{Private: true, Files: githubsim.Files{"README.md": "# Shop\n", "main.go": "package main\n"}})
	must(t, err)
	must(t, sim.SetCollaborator("ada", "acme/shop", "bob", githubsim.Write))
	w.app, err = sim.CreateApp(githubsim.AppSpec{Owner: "acme", Name: "noxaudit", Key: key(), Permissions: permissions, Events: events, WebhookURL: w.hooks.url, WebhookSecret: secret})
	must(t, err)
	w.installation, err = sim.InstallApp("ada", w.app.ID, "acme")
	must(t, err)
	w.token = w.newToken(nil)
	return w
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func get[T any](v T, err error) func(testing.TB) T {
	return func(t testing.TB) T {
		t.Helper()
		must(t, err)
		return v
	}
}

// jwt is a token that the App makes for itself.
func (w *world) jwt(claims map[string]any) string {
	now := w.clock.now().Unix()
	all := map[string]any{"iat": now - 30, "exp": now + 300, "iss": fmt.Sprint(w.app.ID)}
	maps.Copy(all, claims)
	part := func(v any) string {
		raw, _ := json.Marshal(v)
		return base64.RawURLEncoding.EncodeToString(raw)
	}
	signed := part(map[string]string{"alg": "RS256", "typ": "JWT"}) + "." + part(all)
	sum := sha256.Sum256([]byte(signed))
	signature, err := rsa.SignPKCS1v15(nil, key(), crypto.SHA256, sum[:])
	must(w, err)
	return signed + "." + base64.RawURLEncoding.EncodeToString(signature)
}

func (w *world) newToken(body any) string {
	w.Helper()
	res := w.do("POST", fmt.Sprintf("/app/installations/%d/access_tokens", w.installation), w.jwt(nil), body)
	if res.status != 201 {
		w.Fatalf("token: %d %s", res.status, res.body)
	}
	return res.str("token")
}

// answer is a REST answer.
type answer struct {
	status int
	header http.Header
	body   []byte
}

func (a answer) json(into any) {
	if err := json.Unmarshal(a.body, into); err != nil {
		panic(fmt.Sprintf("%v: %s", err, a.body))
	}
}

// at walks an answer by keys and indexes.
func (a answer) at(path ...any) any {
	var v any
	a.json(&v)
	for _, p := range path {
		switch p := p.(type) {
		case string:
			v = v.(map[string]any)[p]
		case int:
			v = v.([]any)[p]
		}
	}
	return v
}

func (a answer) str(path ...any) string { return fmt.Sprint(a.at(path...)) }

func (a answer) num(path ...any) int64 { return int64(a.at(path...).(float64)) }

func (w *world) do(method, path, token string, body any, headers ...string) answer {
	w.Helper()
	res, err := w.try(method, path, token, body, headers...)
	must(w, err)
	return res
}

func (w *world) try(method, path, token string, body any, headers ...string) (answer, error) {
	var in io.Reader
	if body != nil {
		raw, ok := body.(string)
		if !ok {
			b, err := json.Marshal(body)
			must(w, err)
			raw = string(b)
		}
		in = strings.NewReader(raw)
	}
	req, err := http.NewRequest(method, w.url+"/api/v3"+path, in)
	must(w, err)
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	req.Header.Set("Accept", "application/vnd.github+json")
	req.Header.Set("User-Agent", "noxaudit")
	for i := 0; i < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
		if headers[i] == "User-Agent" && headers[i+1] == "" {
			req.Header["User-Agent"] = []string{""}
		}
	}
	res, err := noRedirects.Do(req)
	if err != nil {
		return answer{}, err
	}
	defer res.Body.Close()
	raw, err := io.ReadAll(res.Body)
	return answer{res.StatusCode, res.Header, raw}, err
}

var noRedirects = &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}

// call is a call with the installation's token that must have that status.
func (w *world) call(status int, method, path string, body any) answer {
	w.Helper()
	res := w.do(method, path, w.token, body)
	if res.status != status {
		w.Fatalf("%s %s: %d, want %d: %s", method, path, res.status, status, res.body)
	}
	return res
}

func (w *world) flush() {
	w.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	must(w, w.sim.Flush(ctx))
}

// openPull pushes a branch with a file and opens a pull request from it.
func (w *world) openPull(branch string) githubsim.Pull {
	w.Helper()
	get(w.sim.Push("bob", "acme/shop", branch, "Add "+branch, githubsim.Files{branch + ".txt": branch + "\n"}))(w)
	return get(w.sim.OpenPull("bob", "acme/shop", githubsim.PullSpec{Title: "Add " + branch, Head: branch}))(w)
}

// check makes the App's check run on a commit.
func (w *world) check(sha, conclusion string) int64 {
	w.Helper()
	return w.call(201, "POST", "/repos/acme/shop/check-runs", map[string]any{"name": "noxaudit", "head_sha": sha, "status": "completed", "conclusion": conclusion}).num("id")
}

// inbox receives webhooks.
type inbox struct {
	url    string
	mu     sync.Mutex
	got    []hook
	status int
	wait   time.Duration
}

type hook struct {
	event, action, id string
	header            http.Header
	payload           []byte
}

func (h hook) at(path ...any) any { return answer{body: h.payload}.at(path...) }

func newInbox(t testing.TB) *inbox {
	in := &inbox{status: 202}
	srv := httptest.NewServer(conform.Hooks(t, in))
	in.url = srv.URL
	t.Cleanup(srv.Close)
	return in
}

func (in *inbox) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	raw, _ := io.ReadAll(r.Body)
	mac := hmac.New(sha256.New, []byte(secret))
	mac.Write(raw)
	if "sha256="+hex.EncodeToString(mac.Sum(nil)) != r.Header.Get("X-Hub-Signature-256") {
		w.WriteHeader(http.StatusUnauthorized)
		return
	}
	var head struct{ Action string }
	json.NewDecoder(bytes.NewReader(raw)).Decode(&head)
	in.mu.Lock()
	in.got = append(in.got, hook{r.Header.Get("X-GitHub-Event"), head.Action, r.Header.Get("X-GitHub-Delivery"), r.Header.Clone(), raw})
	status, wait := in.status, in.wait
	in.mu.Unlock()
	time.Sleep(wait)
	w.WriteHeader(status)
}

// take returns what came since the last take, as "event.action" unless a filter asks for whole hooks.
func (in *inbox) take() []hook {
	in.mu.Lock()
	defer in.mu.Unlock()
	got := in.got
	in.got = nil
	return got
}

func (in *inbox) answerWith(status int, wait time.Duration) {
	in.mu.Lock()
	defer in.mu.Unlock()
	in.status, in.wait = status, wait
}

func names(hooks []hook) []string {
	var all []string
	for _, h := range hooks {
		if h.action == "" {
			all = append(all, h.event)
		} else {
			all = append(all, h.event+"."+h.action)
		}
	}
	return all
}

// arrived flushes and returns the names of what came.
func (w *world) arrived() []string {
	w.Helper()
	w.flush()
	return names(w.hooks.take())
}

// only flushes and returns the hooks of one name.
func (w *world) only(name string) []hook {
	w.Helper()
	w.flush()
	var some []hook
	for _, h := range w.hooks.take() {
		if names([]hook{h})[0] == name {
			some = append(some, h)
		}
	}
	return some
}

func mustRequest(t testing.TB, url, form string) *http.Request {
	t.Helper()
	req, err := http.NewRequest("POST", url, strings.NewReader(form))
	must(t, err)
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	req.Header.Set("Accept", "application/json")
	return req
}

func send(t testing.TB, req *http.Request) answer {
	t.Helper()
	res, err := noRedirects.Do(req)
	must(t, err)
	defer res.Body.Close()
	raw, err := io.ReadAll(res.Body)
	must(t, err)
	return answer{res.StatusCode, res.Header, raw}
}
