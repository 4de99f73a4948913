package web_test

import (
	"context"
	"html"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/noxaudit/noxaudit/internal/access"
	"github.com/noxaudit/noxaudit/internal/dbtest"
	"github.com/noxaudit/noxaudit/internal/gittest"
	"github.com/noxaudit/noxaudit/internal/name"
	"github.com/noxaudit/noxaudit/internal/seedtest"
	"github.com/noxaudit/noxaudit/policy/waiver"
	"github.com/noxaudit/noxaudit/server/web"
)

func text(w *httptest.ResponseRecorder) string {
	plain := regexp.MustCompile(`(?s)<svg.*?</svg>|<[^>]*>`).ReplaceAllString(w.Body.String(), " ")
	return regexp.MustCompile(`\s+`).ReplaceAllString(html.UnescapeString(plain), " ")
}

// What each page has to say of northgate, in its own words.
func TestPagesSayWhatTheirDataSays(t *testing.T) {
	s := northgate(t)
	for path, wants := range map[string][]string{
		"/orgs/northgate": {"Organisation health", "23 of 25 repositories audited", "Not yet audited 2 Counted in no other figure here", "payments-api", "1 critical finding open on the default branch",
			"Past its 7-day limit by 2 days", "Checkpoint verified", "Waivers ending soon", "secrets/private-key"},
		"/orgs/northgate/repositories":                    {"legacy-soap-bridge", "Its default branch was never looked at", "Needs attention"},
		"/orgs/northgate/repositories?state=critical":     {"infra-terraform", "feature-store"},
		"/orgs/northgate/repositories/legacy-soap-bridge": {"Not yet audited", "No open pull request"},
		"/orgs/northgate/repositories/payments-api":       {"Critical", "Why 23", "Move card tokenisation to the vault client", "at an earlier head: passed", "Not yet judged", "All 17"},
		"/orgs/northgate/repositories/payments-api/pulls/1482": {"Blocked: Stripe secret key in source", "1 of 8 policies blocks", "no-hardcoded-secrets", "Keys live in the vault", "Why it blocks", "New here: it is not at the merge base",
			"Revoke the key at Stripe", "Not @jlindqvist", "1 of 2 approvals", "@tomasz-w, with maintain permission", "/noxaudit approve W-", "Model only · confidence 0.84", "a model's word alone blocks nothing",
			`/noxaudit fp NX-`, "Not assessed", "Does not block, and counts as no pass", "noxaudit replay V-", "Repository, from the base", "Entry"},
		"/orgs/northgate/repositories/payments-api/pulls/1480":                       {"Passed"},
		"/orgs/northgate/repositories/payments-api/pulls/1479":                       {"Out of date", "its verdict is on the way", "from a fork"},
		"/orgs/northgate/repositories/payments-api/pulls/1483":                       {"Not yet judged", "Until then the check run is not green", "draft"},
		"/orgs/northgate/repositories/payments-api/commits/" + s.head("90001", 1482): {"Blocked: Stripe secret key in source", "The check run carries the worst of these verdicts"},
		"/orgs/northgate/repositories/payments-api/commits/" + s.head("90001", 1483): {"Not yet judged", "An audit of this commit is wanted and not finished"},
		"/orgs/northgate/repositories/infra-terraform/findings/" + s.findingID("90004", "secrets/aws-access-key"): {"Resolved", "Waived", "Found on the default branch", "Blocked on the default branch by policy no-hardcoded-secrets",
			"Waiver asked for by @h-brandt", "Refused by @h-brandt", "Who asks for a waiver cannot approve it", "Approved by @r-okafor", "Waived until", "Waiver resolved by noxaudit", "CWE-798"},
		"/orgs/northgate/findings":                       {"Live Stripe key in an environment file", "past its limit"},
		"/orgs/northgate/findings?severity=info":         {"No open findings", "None matches this filter"},
		"/orgs/northgate/findings?state=resolved":        {"AWS access key in a Terraform variable file"},
		"/orgs/northgate/waivers":                        {"Needs approval", "1 of 2 approvals", "Ends in the next six weeks", "covers nothing"},
		"/orgs/northgate/waivers?state=ended":            {"Revoked", "Resolved"},
		"/orgs/northgate/waivers/" + s.waiver("pending"): {"Pending", "Key is revoked, history rewrite is planned for Monday", "if nobody decides"},
		"/orgs/northgate/ledger":                         {"Checkpoint verified", "the checkpoint's signature", "Not every entry was read", "noxaudit ledger verify --account 8841", "tamper-evident"},
	} {
		w := s.do("GET", path)
		if w.Code != http.StatusOK {
			t.Errorf("%s: %d", path, w.Code)
			continue
		}
		got := text(w)
		for _, want := range wants {
			if !strings.Contains(got, want) {
				t.Errorf("%s does not say %q:\n%s", path, want, got)
			}
		}
		if n := strings.Count(w.Body.String(), "<h1"); n != 1 {
			t.Errorf("%s has %d headings of the first rank", path, n)
		}
	}
}

func TestEveryAnswerHasTheHeadersThatKeepAPageToItself(t *testing.T) {
	s := northgate(t)
	css := regexp.MustCompile(`/assets/[^"]+\.css`).FindString(s.do("GET", "/orgs/northgate").Body.String())
	for _, path := range []string{"/", "/orgs/northgate", "/orgs/nobody", "/nothing", css, "/assets/none.css", "/orgs/northgate/find?q=W-"} {
		for _, method := range []string{"GET", "HEAD", "POST", "DELETE", "PUT", "OPTIONS"} {
			w := s.do(method, path)
			h := w.Header()
			if csp := h.Get("Content-Security-Policy"); !strings.HasPrefix(csp, "default-src 'none';") || strings.Contains(csp, "unsafe") || strings.Contains(csp, "script-src") {
				t.Errorf("%s %s: policy %q", method, path, csp)
			}
			for _, k := range []string{"X-Content-Type-Options", "X-Frame-Options", "Referrer-Policy", "Cross-Origin-Opener-Policy", "Cache-Control"} {
				if h.Get(k) == "" {
					t.Errorf("%s %s: no %s", method, path, k)
				}
			}
			switch {
			case method != "GET" && method != "HEAD" && (w.Code != http.StatusMethodNotAllowed || h.Get("Allow") != "GET, HEAD"):
				t.Errorf("%s %s: %d, allowed %q", method, path, w.Code, h.Get("Allow"))
			case method == "HEAD" && w.Body.Len() != 0:
				t.Errorf("HEAD %s has a body", path)
			}
		}
	}
	if w := s.do("GET", css); w.Code != 200 || !strings.Contains(w.Header().Get("Cache-Control"), "immutable") || !strings.HasPrefix(w.Header().Get("Content-Type"), "text/css") {
		t.Errorf("the style sheet: %d %v", w.Code, w.Header())
	}
	for _, path := range pages(s) {
		body := s.do("GET", path).Body.String()
		if m := regexp.MustCompile(`(?i)<script|\sstyle=|\son[a-z]+=|javascript:|<style|<iframe|http-equiv`).FindString(body); m != "" {
			t.Errorf("%s has %q", path, m)
		}
	}
}

// What an outsider can write is shown as they wrote it, and does nothing.
func TestHostileTextsAreInert(t *testing.T) {
	const (
		tag    = `<img src=x onerror=alert(1)>`
		kind   = `<img/src=x/onerror=alert(1)>`
		quote  = `"><script>alert(2)</script>`
		bidi   = "pay\u202emoc.elpmaxe\u2066\u2069\u200b"
		script = `javascript:alert(3)`
	)
	w := seedtest.New(t, dbtest.SQLite(t), "hostile", 7, seedtest.Today.Add(-48*time.Hour))
	r := w.Repo("app")
	r.Push(gittest.Files{
		"a.go":                   "x" + seedtest.Mark + "critical secrets/" + kind + " " + tag + quote + bidi + "[link](" + script + ")\n",
		".noxaudit/policies.yml": "version: 1\npolicies:\n  none-of-it:\n    focus: security\n    action: block\n    message: \"" + strings.ReplaceAll(tag+quote, `"`, `\"`) + "\"\n    rule: '**bold** " + script + "'\n",
		"dir" + bidi + "/<b>.go": "y" + seedtest.Mark + "high secrets/" + quote + " title\n",
	})
	r.PullRequest(seedtest.Pull{Number: 1, Title: tag + quote + bidi + script, Author: quote, Branch: tag + bidi}, gittest.Files{"b.go": quote + seedtest.Mark + "high secrets/x " + quote + "\n"})
	x := r.Waive(r.Finding("default", "secrets/"+kind, 0), seedtest.Ask{By: waiver.Person{ID: 1, Login: quote}, Kind: waiver.AcceptedRisk, Days: 20, Reason: tag + quote + script})
	w.Refuse(x, waiver.Person{ID: 2, Login: tag}, quote+bidi)
	w.Sequence()
	s := newSite(t, w)
	s.now = seedtest.Today
	seen := map[string]bool{}
	queue := []string{"/orgs/hostile", "/orgs/hostile/find?q=" + url.QueryEscape(tag+quote+bidi), "/orgs/hostile/findings?type=" + url.QueryEscape(quote)}
	shown := 0
	for len(queue) > 0 {
		path := queue[0]
		queue = queue[1:]
		if seen[path] {
			continue
		}
		seen[path] = true
		rec := s.do("GET", path)
		if rec.Code == http.StatusFound {
			queue = append(queue, rec.Header().Get("Location"))
			continue
		}
		if rec.Code != http.StatusOK {
			t.Errorf("%s: %d", path, rec.Code)
		}
		body := rec.Body.String()
		if regexp.MustCompile(`(?i)<script|<img|<b>\.go|href="javascript`).MatchString(body) {
			t.Errorf("%s: markup of an outsider stands in the page", path)
		}
		if regexp.MustCompile("[\u200b\u202e\u2066\u2069]").MatchString(body) {
			t.Errorf("%s: a hidden character stands in the page", path)
		}
		shown += strings.Count(body, `\u{202e}`)
		for _, m := range regexp.MustCompile(`(?:href|action|src)="([^"]*)`).FindAllStringSubmatch(body, -1) {
			to := html.UnescapeString(m[1])
			if !strings.HasPrefix(to, "/") && !strings.HasPrefix(to, "#") && !strings.HasPrefix(to, "https://github.example/") {
				t.Errorf("%s links to %q", path, to)
			}
			if to, _, _ = strings.Cut(to, "#"); strings.HasPrefix(to, "/") && !strings.HasPrefix(to, "/auth") {
				queue = append(queue, to)
			}
		}
	}
	if shown == 0 {
		t.Error("no page shows the hidden characters that it was given")
	}
}

func TestNobodyLearnsWhatIsThere(t *testing.T) {
	s := northgate(t)
	other := seedtest.NewOn(t, s.Store, s.Log, s.Key, "rival", 99, seedtest.Today)
	other.Repo("secret-plans").Push(gittest.Files{"a": "x\n"})
	known := pages(s)
	delete(known, "not found")
	sameAs := func(path, like string) {
		t.Helper()
		a, b := s.do("GET", path), s.do("GET", like)
		if a.Code != b.Code || a.Body.String() != b.Body.String() || a.Header().Get("Location") != "" {
			t.Errorf("%s answers %d, and what is not there %d", path, a.Code, b.Code)
		}
	}

	t.Run("signed in elsewhere", func(t *testing.T) {
		s.person = owner(other.Account)
		for _, path := range known {
			sameAs(path, "/orgs/no-such-org")
		}
		sameAs("/orgs/~8841", "/orgs/~12345")
		sameAs("/orgs/~8841/repositories/~90001", "/orgs/~12345/repositories/~1")
		// Another account's ids under one's own account lead nowhere.
		for _, path := range []string{"/repositories/~90002", "/repositories/secret-plans/pulls/1482", "/repositories/payments-api", "/waivers/" + s.waiver("pending")} {
			if w := s.do("GET", "/orgs/rival"+path); w.Code != http.StatusNotFound {
				t.Errorf("%s: %d", path, w.Code)
			}
		}
		if w := s.do("GET", "/orgs/rival"); w.Code != 200 || strings.Contains(w.Body.String(), "payments-api") {
			t.Errorf("one's own: %d", w.Code)
		}
	})
	t.Run("nobody", func(t *testing.T) {
		s.person = nil
		for _, path := range known {
			w := s.do("GET", path)
			if w.Code != http.StatusUnauthorized || !strings.Contains(w.Body.String(), `href="/auth/login?next=%2Forgs%2Fnorthgate`) || strings.Contains(w.Body.String(), "payments-api<") {
				t.Errorf("%s: %d", path, w.Code)
			}
		}
		if w := s.do("GET", "/orgs/no-such-org"); w.Code != http.StatusUnauthorized {
			t.Errorf("what is not there: %d", w.Code)
		}
	})
	t.Run("one repository", func(t *testing.T) {
		s.person = &access.Person{ID: 2, Login: "admin", Grants: []access.Grant{{Account: s.Account, Role: access.RepositoryAdmin, Repositories: []string{"90001"}}}}
		for path, want := range map[string]int{
			"/orgs/northgate/repositories/payments-api": 200, "/orgs/northgate/repositories/payments-api/pulls/1482": 200, "/orgs/northgate/repositories": 200,
			"/orgs/northgate/repositories/card-vault": 404, "/orgs/northgate/repositories/~90002": 404, "/orgs/northgate/findings": 404, "/orgs/northgate/waivers": 404,
			"/orgs/northgate/waivers/" + s.waiver("pending"): 200, "/orgs/northgate/waivers/" + s.waiver("revoked"): 404,
			"/orgs/northgate/ledger": 404, "/orgs/northgate": 302, "/orgs/northgate/find?q=card": 200,
		} {
			w := s.do("GET", path)
			if w.Code != want {
				t.Errorf("%s: %d, want %d", path, w.Code, want)
			}
			if want == 200 && strings.Contains(w.Body.String(), `href="/orgs/northgate/waivers"`) {
				t.Errorf("%s leads to what this reader does not see", path)
			}
			if strings.Contains(w.Body.String(), "card-vault") {
				t.Errorf("%s tells of another repository", path)
			}
		}
	})
}

func TestNamesLeadOnAndIDsLast(t *testing.T) {
	s := northgate(t)
	sha, err := name.ParseCommit(s.head("90001", 1482))
	if err != nil {
		t.Fatal(err)
	}
	want := "/orgs/northgate/repositories/payments-api/commits/" + sha.String()
	lead := func(path, want string) {
		t.Helper()
		if w := s.do("GET", path); w.Code != http.StatusFound || w.Header().Get("Location") != want {
			t.Errorf("%s: %d to %q, want %q", path, w.Code, w.Header().Get("Location"), want)
		}
	}
	lead(web.CommitPath(s.Account, "90001", sha), want)
	lead("/orgs/NorthGate/repositories/Payments-API/commits/"+sha.String(), want)
	lead("/orgs/~8841?days=30", "/orgs/northgate?days=30")
	if w := s.do("GET", want); w.Code != 200 {
		t.Errorf("%s: %d", want, w.Code)
	}
	// A repository and the account are renamed: earlier addresses lead on.
	repo := &seedtest.Repo{}
	*repo = s.RepoByID("90001", "payments-api")
	repo.Rename("payments-core")
	s.RenameAccount("southgate")
	lead("/orgs/northgate/repositories/payments-api/pulls/1480", "/orgs/southgate/repositories/payments-core/pulls/1480")
	lead(web.FindingPath(s.Account, "90001", "NX-ABCDEFGH"), "/orgs/southgate/repositories/payments-core/findings/NX-ABCDEFGH")
	// Somebody else takes the old login: it is theirs from then on.
	other := seedtest.NewOn(t, s.Store, s.Log, s.Key, "northgate", 99, seedtest.Today)
	s.person = owner(s.Account, other.Account)
	if w := s.do("GET", "/orgs/northgate"); w.Code != 200 || strings.Contains(w.Body.String(), "payments") {
		t.Errorf("the login that somebody else took: %d", w.Code)
	}
	if w := s.do("GET", "/"); w.Code != 200 || !strings.Contains(w.Body.String(), "southgate") {
		t.Errorf("two organisations: %d", w.Code)
	}
}

func TestListsArePagedToTheirEndAndNoFurther(t *testing.T) {
	s := northgate(t)
	for _, start := range []string{"/orgs/northgate/findings", "/orgs/northgate/findings?severity=low", "/orgs/northgate/waivers?state=ended", "/orgs/northgate/repositories"} {
		seen := map[string]bool{}
		path := start
		for steps := 0; path != "" && steps < 50; steps++ {
			w := s.do("GET", path)
			if w.Code != 200 {
				t.Fatalf("%s: %d", path, w.Code)
			}
			for _, m := range regexp.MustCompile(`class="lead"><a href="([^"]+)"`).FindAllStringSubmatch(w.Body.String(), -1) {
				if seen[m[1]] {
					t.Errorf("%s: %s comes twice", start, m[1])
				}
				seen[m[1]] = true
			}
			path = ""
			if m := regexp.MustCompile(`href="([^"]+)" rel="next"`).FindStringSubmatch(w.Body.String()); m != nil {
				path = html.UnescapeString(m[1])
			}
		}
		if start == "/orgs/northgate/findings" && len(seen) != 237 {
			t.Errorf("%d findings over all pages, and the overview counts 237", len(seen))
		}
	}
	for _, path := range []string{"/orgs/northgate/findings?after=%00", "/orgs/northgate/findings?after=e30x", "/orgs/northgate/findings?severity=worst", "/orgs/northgate/findings?state=all",
		"/orgs/northgate/waivers?state=dead", "/orgs/northgate/waivers?state=ended&after=!", "/orgs/northgate/repositories?state=sick", "/orgs/northgate/repositories/payments-api/pulls/0",
		"/orgs/northgate/repositories/payments-api/pulls/01482", "/orgs/northgate/repositories/payments-api/pulls/99999999999999999999", "/orgs/northgate/repositories/payments-api/commits/abc",
		"/orgs/northgate/repositories/payments-api/verdicts/V-00000000", "/orgs/northgate/repositories/payments-api/findings/NX-!", "/orgs/northgate/waivers/W-", "/orgs/~0", "/orgs/~x", "/orgs/",
		"/orgs/northgate/repositories/..%2f..", "/orgs/northgate/", "/orgs//repositories", "/orgs/northgate/" + strings.Repeat("a", 3000), "/orgs/%ff%fe", "/orgs/northgate/find%00"} {
		if w := s.do("GET", path); w.Code != http.StatusNotFound && w.Code != http.StatusMovedPermanently && w.Code != http.StatusTemporaryRedirect {
			t.Errorf("%s: %d", path, w.Code)
		}
	}
}

// A GET writes nothing: the whole store is as it was.
func TestReadingChangesNothing(t *testing.T) {
	s := northgate(t)
	count := func() (n int) {
		ctx := context.Background()
		all, err := s.Store.For(s.Account).RecentVerdicts(ctx, 10_000)
		if err != nil {
			t.Fatal(err)
		}
		waiting, _, err := s.Store.For(s.Account).Waiting(ctx)
		if err != nil {
			t.Fatal(err)
		}
		return len(all) + waiting
	}
	before := count()
	for _, path := range pages(s) {
		s.do("GET", path)
	}
	if count() != before {
		t.Error("reading pages recorded something")
	}
}
