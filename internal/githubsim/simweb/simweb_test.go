package simweb_test

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	xhtml "golang.org/x/net/html"

	"github.com/noxaudit/noxaudit/internal/githubsim"
	"github.com/noxaudit/noxaudit/internal/githubsim/simweb"
)

// world is a GitHub with pages: ada owns acme, bob writes to acme/shop, mia maintains it, eve is a stranger.
type world struct {
	*testing.T
	sim *githubsim.Server
	url string
	app githubsim.App
}

func newWorld(t *testing.T) *world {
	t.Helper()
	var pages http.Handler
	sim, err := githubsim.New(githubsim.Options{Dir: t.TempDir(), Pages: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { pages.ServeHTTP(w, r) })})
	if err != nil {
		t.Fatal(err)
	}
	w := &world{T: t, sim: sim}
	pages = simweb.New(simweb.Options{Server: sim})
	w.url, err = sim.Listen("127.0.0.1:0")
	w.must(err)
	t.Cleanup(func() { sim.Close() })
	for _, login := range []string{"ada", "bob", "eve", "mia"} {
		w.must(sim.CreateUser(login))
	}
	w.must(sim.CreateOrg("acme", "ada"))
	for _, repo := range []string{"acme/shop", "acme/vault"} {
		_, err = sim.CreateRepo("ada", repo, githubsim.RepoSpec{Private: repo == "acme/vault", Files: githubsim.Files{"README.md": "# Shop\n\nHello <b>you</b>.\n", "src/main.go": "package main\n"}})
		w.must(err)
	}
	w.must(sim.SetCollaborator("ada", "acme/shop", "bob", githubsim.Write))
	w.must(sim.SetCollaborator("ada", "acme/shop", "mia", githubsim.Maintain))
	w.app, err = sim.CreateApp(githubsim.AppSpec{Owner: "acme", Name: "noxaudit", Permissions: map[string]string{"checks": "write"}})
	w.must(err)
	_, err = sim.InstallApp("ada", w.app.ID, "acme")
	w.must(err)
	return w
}

func (w *world) must(err error) {
	w.Helper()
	if err != nil {
		w.Fatal(err)
	}
}

// pull opens a pull request of bob's.
func (w *world) pull(title string, files githubsim.Files) githubsim.Pull {
	w.Helper()
	_, err := w.sim.Push("bob", "acme/shop", "feature", "change", files)
	w.must(err)
	p, err := w.sim.OpenPull("bob", "acme/shop", githubsim.PullSpec{Title: title, Body: title, Head: "feature"})
	w.must(err)
	return p
}

// browser is somebody looking at the pages.
type browser struct {
	w      *world
	client *http.Client
}

func (w *world) as(login string) *browser {
	jar, err := cookiejar.New(nil)
	w.must(err)
	b := &browser{w, &http.Client{Jar: jar}}
	if status, _ := b.post("/switch", url.Values{"user": {login}}); status != http.StatusOK {
		w.Fatalf("cannot become %s: %d", login, status)
	}
	return b
}

func (b *browser) send(req *http.Request) (int, string) {
	b.w.Helper()
	resp, err := b.client.Do(req)
	b.w.must(err)
	defer resp.Body.Close()
	raw, err := io.ReadAll(resp.Body)
	b.w.must(err)
	if strings.HasPrefix(resp.Header.Get("Content-Type"), "text/html") {
		for header, want := range map[string]string{"Content-Security-Policy": "default-src 'none'", "X-Content-Type-Options": "nosniff", "Cache-Control": "no-store"} {
			if !strings.Contains(resp.Header.Get(header), want) {
				b.w.Errorf("%s: %s is %q", req.URL, header, resp.Header.Get(header))
			}
		}
		if !strings.Contains(string(raw), "Simulated GitHub") {
			b.w.Errorf("%s does not say what it is", req.URL)
		}
	}
	return resp.StatusCode, string(raw)
}

func (b *browser) get(path string) (int, string) {
	b.w.Helper()
	req, err := http.NewRequest(http.MethodGet, b.w.url+path, nil)
	b.w.must(err)
	return b.send(req)
}

func (b *browser) post(path string, form url.Values) (int, string) {
	b.w.Helper()
	req, err := http.NewRequest(http.MethodPost, b.w.url+path, strings.NewReader(form.Encode()))
	b.w.must(err)
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	req.Header.Set("Origin", b.w.url)
	return b.send(req)
}

func (b *browser) sees(path string, wants ...string) string {
	b.w.Helper()
	status, body := b.get(path)
	if status != http.StatusOK {
		b.w.Fatalf("%s: %d", path, status)
	}
	for _, want := range wants {
		if !strings.Contains(body, want) {
			b.w.Errorf("%s lacks %q:\n%s", path, want, body)
		}
	}
	return body
}

func TestEveryPageIsServed(t *testing.T) {
	w := newWorld(t)
	p := w.pull("A change", githubsim.Files{"src/main.go": "package main\n\nfunc main() {}\n"})
	id, err := w.sim.CreateCheck(w.app.ID, "acme/shop", p.HeadSHA, "noxaudit", "failure")
	w.must(err)
	_, err = w.sim.Comment("eve", "acme/shop", 1, "Nice")
	w.must(err)
	b := w.as("bob")
	b.sees("/", "acme", "shop", "A change")
	b.sees("/acme", "ada", "owner")
	b.sees("/orgs/acme/people")
	b.sees("/acme/shop", "src/", "README.md", "<h1>Shop</h1>")
	b.sees("/acme/shop/tree/main/src", "main.go")
	b.sees("/acme/shop/blob/main/src/main.go", "package main")
	b.sees("/acme/shop/edit/feature/src/main.go", "func main()", "pull request #1")
	b.sees("/acme/shop/new/main")
	b.sees("/acme/shop/commits/feature", "change", "bob")
	b.sees("/acme/shop/commit/"+p.HeadSHA, "change", "noxaudit")
	b.sees("/acme/shop/compare/feature")
	b.sees("/acme/shop/pulls", "A change")
	b.sees("/acme/shop/pulls?state=closed", "None.")
	b.sees("/acme/shop/pull/1", "A change", "Nice", "noxaudit", "Ready to merge")
	b.sees("/acme/shop/pull/1/commits", "change")
	b.sees("/acme/shop/pull/1/files", "func main() {}", `class="add"`)
	b.sees("/acme/shop/pull/1/checks", "noxaudit", "Re-run")
	b.sees(fmt.Sprintf("/acme/shop/runs/%d", id), "noxaudit")
	for _, missing := range []string{"/acme/nowhere", "/acme/shop/pull/2", "/acme/shop/pull/x", "/acme/shop/blob/main/no.go", "/acme/shop/tree/none/", "/acme/shop/runs/7",
		"/acme/vault/runs/" + fmt.Sprint(id), "/nobody", "/acme/shop/commit/--help", "/acme/shop/blob/main/../../etc/passwd"} {
		if status, _ := b.get(missing); status != http.StatusNotFound {
			t.Errorf("%s: %d, want 404", missing, status)
		}
	}
}

func TestAStrangerSeesNothingPrivateAndChangesNothing(t *testing.T) {
	w := newWorld(t)
	p := w.pull("A change", githubsim.Files{"a.go": "package a\n"})
	id, err := w.sim.Comment("bob", "acme/shop", 1, "Mine")
	w.must(err)
	eve := w.as("eve")
	if body := eve.sees("/"); strings.Contains(body, "vault") {
		t.Error("the first page shows a private repository")
	}
	for _, path := range []string{"/acme/vault", "/acme/vault/blob/main/README.md", "/acme/vault/commits/main", "/acme/vault/pulls"} {
		if status, _ := eve.get(path); status != http.StatusNotFound {
			t.Errorf("%s: %d, want 404", path, status)
		}
	}
	at := "/acme/shop/pull/1"
	comment := url.Values{"id": {fmt.Sprint(id)}, "body": {"Not mine"}}
	for path, form := range map[string]url.Values{at + "/merge": nil, at + "/bypass": nil, at + "/close": nil, at + "/enqueue": nil, at + "/edit-comment": comment, at + "/delete-comment": comment,
		"/acme/shop/edit/feature/a.go": {"text": {"x"}, "where": {"here"}}, "/acme/shop/new/main": {"path": {"x"}, "text": {"x"}, "where": {"here"}}, "/acme/vault/fork": nil, at + "/explode": nil} {
		if status, _ := eve.post(path, form); status < 400 || status > 499 {
			t.Errorf("%s: %d, want a refusal", path, status)
		}
	}
	now, err := w.sim.Pull("acme/shop", 1)
	w.must(err)
	comments, err := w.sim.Comments("acme/shop", 1)
	w.must(err)
	if now.State != "open" || now.HeadSHA != p.HeadSHA || len(comments) != 1 || comments[0].Body != "Mine" {
		t.Errorf("something changed: %+v %+v", now, comments)
	}
}

func TestAnotherSiteCannotPost(t *testing.T) {
	w := newWorld(t)
	w.pull("A change", githubsim.Files{"a.go": "package a\n"})
	b := w.as("ada")
	for header, value := range map[string]string{"Origin": "https://evil.example", "Sec-Fetch-Site": "cross-site"} {
		req, err := http.NewRequest(http.MethodPost, w.url+"/acme/shop/pull/1/merge", nil)
		w.must(err)
		req.Header.Set(header, value)
		if status, _ := b.send(req); status != http.StatusForbidden {
			t.Errorf("%s: %d, want 403", header, status)
		}
	}
	if status, _ := b.post("/switch", url.Values{"user": {"nobody"}}); status != http.StatusUnprocessableEntity {
		t.Errorf("becoming somebody who is not there: %d", status)
	}
	for _, to := range []string{"//evil.example/", "https://evil.example/", `/\evil.example`, "javascript:alert(1)"} {
		client := *b.client
		client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
		req, err := http.NewRequest(http.MethodPost, w.url+"/switch", strings.NewReader(url.Values{"user": {"ada"}, "to": {to}}.Encode()))
		w.must(err)
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		resp, err := client.Do(req)
		w.must(err)
		resp.Body.Close()
		if resp.Header.Get("Location") != "/" {
			t.Errorf("%s leads to %s", to, resp.Header.Get("Location"))
		}
	}
}

// harmful lists what a page must not hold: elements, handlers and addresses that do something.
func harmful(t *testing.T, body string) []string {
	t.Helper()
	root, err := xhtml.Parse(strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	var found []string
	switches := 0
	for n := range root.Descendants() {
		if n.Type != xhtml.ElementNode {
			continue
		}
		switch n.Data {
		case "script", "img", "iframe", "style", "object", "embed", "svg":
			found = append(found, "<"+n.Data+">")
		}
		for _, a := range n.Attr {
			v := strings.ToLower(strings.TrimSpace(a.Val))
			if strings.HasPrefix(a.Key, "on") || a.Key == "style" || (a.Key == "href" || a.Key == "src" || a.Key == "action") && strings.HasPrefix(v, "javascript:") {
				found = append(found, a.Key+"="+a.Val)
			}
			if n.Data == "form" && a.Key == "action" && v == "/switch" {
				switches++
			}
		}
	}
	if switches != 1 {
		found = append(found, fmt.Sprintf("%d forms that change who the visitor is", switches))
	}
	return found
}

func TestHostileTextsAreShownAndDoNothing(t *testing.T) {
	w := newWorld(t)
	evil := "<script>alert(1)</script><img src=x onerror=alert(1)><a href=\"javascript:alert(1)\">x</a> [y](javascript:alert(2)) <details open ontoggle=alert(1)><summary>s</summary>\n\n**bold**\n\n</details><style>*{}</style><iframe src=/></iframe><form action=/switch></form>"
	p := w.pull(evil, githubsim.Files{"a<b>.go": evil + "\n"})
	_, err := w.sim.Comment("eve", "acme/shop", 1, evil+"\n\n|a|b|\n|---|---|\n|`x`|<br>|\n\n</div></main>")
	w.must(err)
	_, err = w.sim.SubmitReview("eve", "acme/shop", 1, "approved", evil)
	w.must(err)
	b := w.as("bob")
	for _, path := range []string{"/", "/acme/shop/pull/1", "/acme/shop/pull/1/files", "/acme/shop/pulls", "/acme/shop/commit/" + p.HeadSHA, "/acme/shop/edit/feature/a%3Cb%3E.go", "/acme/shop/blob/feature/a%3Cb%3E.go"} {
		_, body := b.get(path)
		for _, bad := range harmful(t, body) {
			t.Errorf("%s holds %s", path, bad)
		}
	}
	b.sees("/acme/shop/pull/1", "<details open=\"\"><summary>s</summary>", "<strong>bold</strong>", "<td><code>x</code></td>")
}

func TestAVisitorEditsAFileAndOpensAPullRequest(t *testing.T) {
	w := newWorld(t)
	w.must(w.sim.Protect("ada", "acme/shop", "main", &githubsim.Protection{}))
	b := w.as("bob")
	if status, body := b.post("/acme/shop/edit/main/README.md", url.Values{"text": {"x"}, "where": {"here"}}); status != http.StatusUnprocessableEntity || !strings.Contains(body, "through a pull request") {
		t.Errorf("a protected branch took a change: %d", status)
	}
	form := url.Values{"text": {"# Shop\r\n\r\nBetter.\r\n"}, "where": {"new"}, "branch": {"docs/better"}, "message": {"Say it better"}}
	if status, body := b.post("/acme/shop/edit/main/README.md", form); status != http.StatusOK || !strings.Contains(body, "Say it better") {
		t.Fatalf("%d\n%s", status, body)
	}
	if text, err := w.sim.Content("acme/shop", "docs/better", "README.md"); err != nil || text != "# Shop\n\nBetter.\n" {
		t.Errorf("the file is %q, %v", text, err)
	}
	if status, body := b.post("/acme/shop/compare/docs%2Fbetter", url.Values{"title": {"Better words"}, "body": {"Please."}}); status != http.StatusOK || !strings.Contains(body, "Better words") {
		t.Fatalf("%d\n%s", status, body)
	}
	b.post("/acme/shop/edit/docs%2Fbetter/README.md", url.Values{"text": {""}, "where": {"here"}})
	if _, err := w.sim.Content("acme/shop", "docs/better", "README.md"); err == nil {
		t.Error("an empty file is still there")
	}
	for _, bad := range []string{"", "../x", "/etc/passwd", "a//b", ".git/config", "a/../b"} {
		if status, _ := b.post("/acme/shop/new/docs%2Fbetter", url.Values{"path": {bad}, "text": {"x"}, "where": {"here"}}); status != http.StatusUnprocessableEntity {
			t.Errorf("path %q: %d", bad, status)
		}
	}
}

func TestAnOutsiderForksAndProposes(t *testing.T) {
	w := newWorld(t)
	eve := w.as("eve")
	if status, body := eve.post("/acme/shop/fork", nil); status != http.StatusOK || !strings.Contains(body, "forked from") {
		t.Fatalf("%d\n%s", status, body)
	}
	eve.post("/eve/shop/new/main", url.Values{"path": {"hello.txt"}, "text": {"Hello\n"}, "where": {"new"}, "branch": {"hello"}})
	if status, body := eve.post("/eve/shop/compare/hello", url.Values{"title": {"Say hello"}}); status != http.StatusOK || !strings.Contains(body, "eve/shop:hello") {
		t.Fatalf("%d\n%s", status, body)
	}
	w.as("bob").sees("/acme/shop/pull/1", "Say hello", "Merge pull request")
}

func TestTheConversationAndTheMergeBox(t *testing.T) {
	w := newWorld(t)
	w.must(w.sim.Protect("ada", "acme/shop", "main", &githubsim.Protection{Required: []githubsim.RequiredCheck{{Context: "noxaudit", AppID: w.app.ID}}, Approvals: 1}))
	p := w.pull("A change", githubsim.Files{"a.go": "package a\n"})
	bob, mia, ada := w.as("bob"), w.as("mia"), w.as("ada")
	at := "/acme/shop/pull/1"
	bob.post(at+"/comment", url.Values{"body": {"First\r\nsecond"}})
	comments, err := w.sim.Comments("acme/shop", 1)
	w.must(err)
	if len(comments) != 1 || comments[0].Author != "bob" || comments[0].Body != "First\nsecond" {
		t.Fatalf("comments: %+v", comments)
	}
	id := fmt.Sprint(comments[0].ID)
	bob.sees(at+"?edit="+id, "/edit-comment")
	if body := w.as("eve").sees(at + "?edit=" + id); strings.Contains(body, "/edit-comment") {
		t.Error("a stranger may edit a comment")
	}
	bob.post(at+"/edit-comment", url.Values{"id": {id}, "body": {"Better"}})
	bob.sees(at, "Better", "edited")
	if status, _ := bob.post(at+"/comment", url.Values{"body": {" "}}); status != http.StatusUnprocessableEntity {
		t.Errorf("an empty comment: %d", status)
	}
	if status, _ := bob.post(at+"/comment", url.Values{"body": {strings.Repeat("x", 2<<20)}}); status != http.StatusRequestEntityTooLarge {
		t.Errorf("a huge comment: %d", status)
	}
	if status, _ := bob.post(at+"/review", url.Values{"verdict": {"approved"}}); status != http.StatusUnprocessableEntity {
		t.Errorf("approving one's own: %d", status)
	}
	mia.post(at+"/review", url.Values{"verdict": {"approved"}, "body": {"Good"}})
	mia.sees(at, "approved these changes", "Merging is blocked", "noxaudit", "expected")
	if strings.Contains(mia.sees(at), "Merge without waiting") {
		t.Error("a maintainer may bypass")
	}
	ada.sees(at, "Merge without waiting")
	_, err = w.sim.CreateCheck(w.app.ID, "acme/shop", p.HeadSHA, "noxaudit", "failure")
	w.must(err)
	if status, _ := mia.post(at+"/merge", nil); status != http.StatusUnprocessableEntity {
		t.Errorf("merging past a red check: %d", status)
	}
	if status, _ := mia.post(at+"/bypass", nil); status != http.StatusUnprocessableEntity {
		t.Errorf("a maintainer's bypass: %d", status)
	}
	bob.post(at+"/close", nil)
	bob.sees(at, "closed without merging")
	bob.post(at+"/reopen", nil)
	_, err = w.sim.CreateCheck(w.app.ID, "acme/shop", p.HeadSHA, "noxaudit", "success")
	w.must(err)
	mia.sees(at, "Ready to merge")
	mia.post(at+"/merge", nil)
	bob.sees(at, "Merged", "mia merged this")
	bob.post(at+"/delete-comment", url.Values{"id": {id}})
	if comments, err := w.sim.Comments("acme/shop", 1); err != nil || len(comments) != 0 {
		t.Errorf("still there: %+v %v", comments, err)
	}
}

func TestAnAdminsBypassReallyMerges(t *testing.T) {
	w := newWorld(t)
	w.must(w.sim.Protect("ada", "acme/shop", "main", &githubsim.Protection{Required: []githubsim.RequiredCheck{{Context: "noxaudit"}}}))
	w.pull("A change", githubsim.Files{"a.go": "package a\n"})
	if status, body := w.as("ada").post("/acme/shop/pull/1/bypass", nil); status != http.StatusOK || !strings.Contains(body, "ada merged this") {
		t.Errorf("%d\n%s", status, body)
	}
}

func TestTheMergeQueueIsShownAndLeft(t *testing.T) {
	w := newWorld(t)
	w.must(w.sim.Protect("ada", "acme/shop", "main", &githubsim.Protection{Required: []githubsim.RequiredCheck{{Context: "noxaudit"}}, Queue: &githubsim.MergeQueue{}}))
	p := w.pull("A change", githubsim.Files{"a.go": "package a\n"})
	_, err := w.sim.CreateCheck(w.app.ID, "acme/shop", p.HeadSHA, "noxaudit", "success")
	w.must(err)
	b := w.as("bob")
	b.sees("/acme/shop/pull/1", "Merge when ready")
	b.post("/acme/shop/pull/1/enqueue", nil)
	b.sees("/acme/shop/pull/1", "In the merge queue", "Place 1")
	b.post("/acme/shop/pull/1/dequeue", nil)
	b.sees("/acme/shop/pull/1", "Merge when ready")
}

func TestSignInAsksAndSendsBackOnlyWhereItMay(t *testing.T) {
	w := newWorld(t)
	var once sync.Once
	back := make(chan url.Values, 1)
	const callback = "http://127.0.0.1:9/auth/callback"
	w.must(w.sim.SetCallbacks(w.app.ID, callback))
	b := w.as("mia")
	b.client.CheckRedirect = func(r *http.Request, _ []*http.Request) error {
		if r.URL.Path == "/auth/callback" {
			once.Do(func() { back <- r.URL.Query() })
			return http.ErrUseLastResponse
		}
		return nil
	}
	sum := sha256.Sum256([]byte("the verifier"))
	q := url.Values{"client_id": {w.app.ClientID}, "redirect_uri": {callback}, "state": {"a&b=<c>"}, "code_challenge": {base64.RawURLEncoding.EncodeToString(sum[:])}, "code_challenge_method": {"S256"}}
	b.sees("/login/oauth/authorize?"+q.Encode(), "Authorize noxaudit", "http://127.0.0.1:9")
	for name, bad := range map[string]string{"redirect_uri": "https://evil.example/auth/callback", "client_id": "Iv1.nobody", "code_challenge_method": "plain"} {
		wrong := url.Values{}
		for k, v := range q {
			wrong[k] = v
		}
		wrong.Set(name, bad)
		if status, _ := b.get("/login/oauth/authorize?" + wrong.Encode()); status < 400 {
			t.Errorf("%s %s: %d", name, bad, status)
		}
		wrong.Set("agree", "yes")
		if status, _ := b.post("/login/oauth/authorize", wrong); status < 400 {
			t.Errorf("agreeing with %s %s: %d", name, bad, status)
		}
	}
	q.Set("agree", "yes")
	b.post("/login/oauth/authorize", q)
	got := <-back
	if got.Get("state") != "a&b=<c>" || got.Get("code") == "" {
		t.Fatalf("sent back with %v", got)
	}
	exchange, err := http.NewRequest(http.MethodPost, w.url+"/login/oauth/access_token", strings.NewReader(url.Values{"client_id": {w.app.ClientID},
		"client_secret": {w.app.ClientSecret}, "code": {got.Get("code")}, "code_verifier": {"the verifier"}, "redirect_uri": {callback}}.Encode()))
	w.must(err)
	exchange.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	exchange.Header.Set("Accept", "application/json")
	resp, err := http.DefaultClient.Do(exchange)
	w.must(err)
	defer resp.Body.Close()
	var token struct {
		Token string `json:"access_token"`
	}
	w.must(json.NewDecoder(resp.Body).Decode(&token))
	req, err := http.NewRequest(http.MethodGet, w.url+"/api/v3/user", nil)
	w.must(err)
	req.Header.Set("Authorization", "Bearer "+token.Token)
	who, err := http.DefaultClient.Do(req)
	w.must(err)
	defer who.Body.Close()
	var self struct{ Login string }
	w.must(json.NewDecoder(who.Body).Decode(&self))
	if self.Login != "mia" {
		t.Errorf("signed in as %q", self.Login)
	}
}

func TestACommandsAnswerIsOnThePageThatFollows(t *testing.T) {
	var pages http.Handler
	sim, err := githubsim.New(githubsim.Options{Dir: t.TempDir(), Pages: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { pages.ServeHTTP(w, r) })})
	if err != nil {
		t.Fatal(err)
	}
	w := &world{T: t, sim: sim}
	pages = simweb.New(simweb.Options{Server: sim, Wait: time.Minute, People: []simweb.Person{{Login: "bob", Note: "writes"}}})
	w.url, err = sim.Listen("127.0.0.1:0")
	w.must(err)
	defer sim.Close()
	w.must(sim.CreateUser("bob"))
	_, err = sim.CreateRepo("bob", "bob/x", githubsim.RepoSpec{Files: githubsim.Files{"a": "a\n"}})
	w.must(err)
	_, err = sim.Push("bob", "bob/x", "f", "f", githubsim.Files{"b": "b\n"})
	w.must(err)
	_, err = sim.OpenPull("bob", "bob/x", githubsim.PullSpec{Title: "b", Head: "f"})
	w.must(err)
	go func() {
		for {
			if cs, err := sim.Comments("bob/x", 1); err != nil || len(cs) > 0 {
				sim.Comment("bob", "bob/x", 1, "the answer to it")
				return
			}
			time.Sleep(10 * time.Millisecond)
		}
	}()
	if _, body := w.as("bob").post("/bob/x/pull/1/comment", url.Values{"body": {"/noxaudit help"}}); !strings.Contains(body, "the answer to it") {
		t.Errorf("the page came before the answer:\n%s", body)
	}
}
