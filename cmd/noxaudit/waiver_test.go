package main

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/noxaudit/noxaudit/internal/githubsim"
	"github.com/noxaudit/noxaudit/internal/name"
	"github.com/noxaudit/noxaudit/ledger/sqllog"
	"github.com/noxaudit/noxaudit/server/auth/authtest"
)

// withSignIn lets people sign in at the hub's App.
func withSignIn(h *hub) {
	h.t.Helper()
	h.stop()
	base := "http://" + h.address
	c := &h.prog.config
	c.Listen, c.BaseURL, c.GitHubClientID, c.GitHubClientSecret = h.address, base, h.app.ClientID, h.app.ClientSecret
	h.must(h.sim.SetCallbacks(h.app.ID, base+"/auth/callback"))
	h.start()
}

// desk is a person's command line, with a browser beside it.
type desk struct {
	*hub
	login    string
	settings string
	environ  []string
	browse   func(address string)
}

func newDesk(h *hub, login string) *desk {
	d := &desk{hub: h, login: login, settings: h.t.TempDir()}
	d.browse = func(address string) {
		b := authtest.SignedIn(h.t, h.sim, h.prog.config.BaseURL, login)
		page := b.Do("GET", strings.TrimPrefix(address, b.Base), nil)
		if csp := page.Header.Get("Content-Security-Policy"); !strings.Contains(csp, "http://127.0.0.1:") || !strings.Contains(csp, "frame-ancestors 'none'") ||
			!strings.Contains(authtest.Text(page), "command line on laptop asks to act as "+login) {
			h.t.Errorf("%d %s\n%s", page.StatusCode, csp, authtest.Text(page))
		}
		h.must(visit(b.CommandLine(login, address)))
	}
	return d
}

// visit goes where a browser is sent to on this machine.
func visit(address string) error {
	res, err := http.Get(address)
	if err != nil {
		return err
	}
	_, err = io.Copy(io.Discard, res.Body)
	res.Body.Close()
	return err
}

// run is one command: what it wrote and its exit code.
func (d *desk) run(args ...string) (out, errs string, code int) {
	var stdout, stderr bytes.Buffer
	p := &program{
		stdin: strings.NewReader(""), stdout: &stdout, stderr: &stderr, now: d.now, rand: d.prog.rand, columns: func() int { return 0 },
		home: d.t.TempDir(), settings: d.settings, hostname: "laptop", browse: d.browse, environ: d.environ,
	}
	code = p.run(context.Background(), args)
	return stdout.String(), stderr.String(), code
}

func (d *desk) want(code int, args ...string) (out, errs string) {
	d.t.Helper()
	out, errs, got := d.run(args...)
	if got != code {
		d.t.Fatalf("%s: noxaudit %v: exit code %d, want %d\n%s%s", d.login, args, got, code, out, errs)
	}
	return out, errs
}

func (d *desk) signIn() *desk {
	d.t.Helper()
	out, _ := d.want(exitPassed, "login", "--server", d.prog.config.BaseURL)
	if !strings.Contains(out, "as "+d.login) {
		d.t.Fatalf("%s", out)
	}
	return d
}

// waiver is a command of "noxaudit waiver" on the court's repository.
func (d *desk) waiver(code int, args ...string) (out, errs string) {
	d.t.Helper()
	return d.want(code, slices.Concat([]string{"waiver"}, args, []string{"--repo", repoName})...)
}

func (d *desk) token() string {
	d.t.Helper()
	files, err := filepath.Glob(filepath.Join(d.settings, "noxaudit", "sessions", "*.json"))
	d.must(err)
	if len(files) != 1 {
		d.t.Fatalf("sessions are kept in %v", files)
	}
	s, err := readSession(files[0])
	d.must(err)
	return s.Token
}

const why = "The vault is being set up, see the plan."

func TestAWaiverByCommandLineTurnsTheCheckGreenWithTheEntriesOfComments(t *testing.T) {
	eachStore(t, func(t *testing.T, h *hub) {
		withSignIn(h)
		c := newCourt(h)
		number := strconv.Itoa(c.number)
		ada, max := newDesk(h, "ada").signIn(), newDesk(h, "max").signIn()

		// By comments.
		reply, _ := c.say("ada", "/noxaudit waive "+c.nx+` reason="`+why+`" for=20d ticket=SEC-7`)
		said := waiverName.FindString(reply)
		c.say("ada", "/noxaudit approve "+said)
		c.say("max", "/noxaudit approve "+said+` note="ok for now"`)
		c.until(c.sha, "success")
		c.say("ada", "/noxaudit revoke "+said+` reason="The vault is there since today."`)
		c.until(c.sha, "failure")

		// By command line. A second later: a waiver's content holds when it was asked for.
		h.later(2 * time.Second)
		out, _ := ada.waiver(exitPassed, "request", c.nx, "--pull", number, "--reason", why, "--for", "20d", "--ticket", "SEC-7")
		typed := waiverName.FindString(out)
		if typed == "" || typed == said || !strings.Contains(out, "noxaudit waiver approve "+typed+" --repo "+repoName) {
			t.Fatalf("%s", out)
		}
		if k := c.check(c.sha); k.Conclusion != "failure" {
			t.Errorf("asking alone turned it %s", k.Conclusion)
		}
		if _, errs := ada.waiver(exitBlocked, "approve", typed); !strings.Contains(errs, "asked") {
			t.Errorf("the requester approves: %s", errs)
		}
		if out, _ := max.waiver(exitPassed, "list"); !strings.Contains(out, typed) || !strings.Contains(out, "pending, 1 to approve") {
			t.Errorf("%s", out)
		}
		max.waiver(exitPassed, "approve", typed, "--note", "ok for now")
		c.until(c.sha, "success")
		if out, _ := ada.waiver(exitPassed, "show", typed[:10]); !strings.Contains(out, "approved") || !strings.Contains(out, "by max (cli, with admin permission) ok for now") {
			t.Errorf("%s", out)
		}
		out, _ = ada.waiver(exitPassed, "revoke", typed, "--reason", "The vault is there since today.", "--format", "json")
		var receipt struct {
			Applied bool
			Waiver  struct{ State, Name string }
		}
		h.must(json.Unmarshal([]byte(out), &receipt))
		if !receipt.Applied || receipt.Waiver.State != "revoked" || receipt.Waiver.Name != typed {
			t.Errorf("%s", out)
		}
		c.until(c.sha, "failure")
		if out, _ := ada.waiver(exitPassed, "list", "--state", "revoked"); !strings.Contains(out, typed) || !strings.Contains(out, said) {
			t.Errorf("%s", out)
		}

		account := octo(h)
		h.stop()
		bySaying, byTyping := decisions(h, account, said, typed)
		if len(bySaying) != 4 || !slices.Equal(bySaying, byTyping) {
			t.Errorf("by comments:\n%s\nby command line:\n%s", strings.Join(bySaying, "\n"), strings.Join(byTyping, "\n"))
		}
		if code := c.command("ledger", "verify"); code != exitPassed {
			t.Errorf("ledger verify: %d", code)
		}
	})
}

// octo is the organisation's account.
func octo(h *hub) name.Account {
	h.t.Helper()
	log, err := sqllog.OpenReadOnly(h.t.Context(), h.prog.config.LedgerDSN(), h.prog.config.Deployment)
	h.must(err)
	defer log.Close()
	all, err := log.Accounts(h.t.Context())
	h.must(err)
	for _, a := range all {
		if a != name.Deployment {
			return a
		}
	}
	h.t.Fatalf("accounts %v", all)
	return name.Account{}
}

var moment = regexp.MustCompile(`\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z`)

// decisions are the entries about two waivers, without what tells times, ids, and the surface with its place.
func decisions(h *hub, account name.Account, said, typed string) (bySaying, byTyping []string) {
	h.t.Helper()
	log, err := sqllog.OpenReadOnly(h.t.Context(), h.prog.config.LedgerDSN(), h.prog.config.Deployment)
	h.must(err)
	defer log.Close()
	for line, err := range log.For(account).Lines(h.t.Context(), 0, 1<<40) {
		h.must(err)
		var e map[string]any
		text := string(line.Line)
		h.must(json.Unmarshal([]byte(text[strings.Index(text, "{"):]), &e))
		kind, _ := e["type"].(string)
		if !strings.HasPrefix(kind, "waiver.") && kind != "command.refused" {
			continue
		}
		content, subject, actor := e["content"].(map[string]any), e["subject"].(map[string]any), e["actor"].(map[string]any)
		via := actor["via"]
		if content["surface"] != via {
			h.t.Errorf("%s is said to be by %v and by %v", kind, via, content["surface"])
		}
		for _, k := range []string{"surface", "remark", "body", "digest"} {
			delete(content, k)
		}
		delete(actor, "via")
		if d, ok := content["document"].(map[string]any); ok {
			asked := d["asked"].(map[string]any)
			for _, k := range []string{"surface", "comment", "body"} {
				delete(asked, k)
			}
		}
		b, err := json.Marshal(map[string]any{"type": kind, "actor": actor, "subject": subject, "content": content})
		h.must(err)
		text = moment.ReplaceAllString(string(b), "TIME")
		for _, w := range []string{said, typed} {
			text = strings.NewReplacer(w, "WAIVER", w[:10], "WAIVER").Replace(text)
		}
		if via == "cli" {
			byTyping = append(byTyping, text)
		} else {
			bySaying = append(bySaying, text)
		}
	}
	return bySaying, byTyping
}

func TestWhatACommandLineMayNotDoIsRefused(t *testing.T) {
	h := newHub(t)
	withSignIn(h)
	c := newCourt(h)
	h.must(h.sim.CreateUser("pat"))
	h.must(h.sim.SetCollaborator("ada", repoName, "pat", githubsim.Admin))
	ada, max, pat := newDesk(h, "ada").signIn(), newDesk(h, "max").signIn(), newDesk(h, "pat").signIn()

	// max has a part in the pull request now.
	sha, err := h.sim.Push("max", repoName, "leak", "help", githubsim.Files{"help.go": "package main\n"})
	h.must(err)
	c.until(sha, "failure")
	out, _ := ada.waiver(exitPassed, "request", c.nx, "--pull", strconv.Itoa(c.number), "--reason", why)
	w := waiverName.FindString(out)
	for _, r := range []struct {
		what string
		args []string
		want string
	}{
		{"an author of a commit approves", []string{"approve", w}, "part in"},
		{"an unknown waiver", []string{"approve", "W-00000000"}, "W-00000000"},
		{"an unknown waiver, shown", []string{"show", "W-00000000"}, "W-00000000"},
		{"no waiver", []string{"approve", "latest"}, "no target"},
		{"a finding", []string{"approve", c.nx}, "does not act on"},
		{"no reason", []string{"revoke", w}, "reason"},
		{"a short reason", []string{"revoke", w, "--reason", "no"}, "15"},
		{"a hidden character", []string{"revoke", w, "--reason", "The vault is there\u202e since today."}, "cannot see"},
		{"an unknown kind", []string{"request", c.nx, "--pull", "1", "--reason", why, "--kind", "whatever"}, "no kind"},
		{"too long", []string{"request", c.nx, "--pull", "1", "--reason", why, "--for", "400d"}, "90"},
		{"no length", []string{"request", c.nx, "--pull", "1", "--reason", why, "--for", "long time"}, "no length of time"},
		{"both ends", []string{"request", c.nx, "--pull", "1", "--reason", why, "--for", "3d", "--until", "2030-01-01"}, "not both"},
		{"twice", []string{"request", c.nx, "--pull", strconv.Itoa(c.number), "--reason", why}, "already"},
		{"extending", []string{"extend", w, "--for", "3d"}, "not in this version"},
	} {
		if _, errs := max.waiver(exitBlocked, r.args...); !strings.Contains(errs, r.want) || strings.Contains(errs, "\u202e") {
			t.Errorf("%s: %s", r.what, errs)
		}
	}
	if _, errs := pat.waiver(exitBlocked, "approve", w[:11]+"00000000"); !strings.Contains(errs, "content") {
		t.Errorf("another content: %s", errs)
	}
	if _, errs := pat.waiver(exitBlocked, "approve", w, "--sha", "0000000"); !strings.Contains(errs, "head") {
		t.Errorf("another head: %s", errs)
	}
	if _, errs := max.want(exitBlocked, "waiver", "list", "--repo", "octo/none"); !strings.Contains(errs, "not yours") {
		t.Errorf("%s", errs)
	}
	max.want(exitFailed, "waiver", "list", "--repo", "octo")
	max.want(exitFailed, "waiver", "list")
	// Of the form --format json a refusal is a result too.
	if out, _ := max.waiver(exitBlocked, "approve", w, "--format", "json"); !strings.Contains(out, `"refused": true`) || !strings.Contains(out, `"code": "own-work"`) {
		t.Errorf("%s", out)
	}

	// A session that was revoked, and one whose time is over.
	browser := authtest.SignedIn(t, h.sim, h.prog.config.BaseURL, "max")
	if res := browser.Do("POST", "/auth/sessions/end", url.Values{"all": {"mine"}}); res.StatusCode != http.StatusOK {
		t.Fatalf("%d", res.StatusCode)
	}
	if _, errs := max.waiver(exitFailed, "list"); !strings.Contains(errs, "noxaudit login") {
		t.Errorf("revoked: %s", errs)
	}
	max.signIn().waiver(exitPassed, "list")
	h.later(31 * time.Minute)
	if _, errs := max.waiver(exitFailed, "approve", w); !strings.Contains(errs, "noxaudit login") {
		t.Errorf("over: %s", errs)
	}
	// An admin who becomes somebody with less loses the way in within minutes.
	max.signIn()
	h.must(h.sim.SetCollaborator("ada", repoName, "max", githubsim.Maintain))
	h.later(4 * time.Minute)
	max.waiver(exitFailed, "list")
}

func TestSigningInAtACommandLine(t *testing.T) {
	h := newHub(t)
	withSignIn(h)
	h.check(h.tip("main")) // the repository is known
	d := newDesk(h, "ada").signIn()
	files, err := filepath.Glob(filepath.Join(d.settings, "noxaudit", "sessions", "*"))
	h.must(err)
	if len(files) != 1 {
		t.Fatalf("%v", files)
	}
	if info, err := os.Stat(files[0]); err != nil || runtime.GOOS != "windows" && info.Mode().Perm() != 0o600 {
		t.Errorf("%v %v", info, err)
	}
	// By hand, and with a token of the environment.
	token := d.token()
	other := newDesk(h, "nobody")
	if _, errs := other.waiver(exitFailed, "list"); !strings.Contains(errs, "noxaudit login") {
		t.Errorf("%s", errs)
	}
	other.environ = []string{"NOXAUDIT_TOKEN=" + token}
	if _, errs := other.waiver(exitFailed, "list"); !strings.Contains(errs, "NOXAUDIT_SERVER") {
		t.Errorf("%s", errs)
	}
	other.environ = append(other.environ, "NOXAUDIT_SERVER="+h.prog.config.BaseURL)
	other.waiver(exitPassed, "list")
	file := filepath.Join(t.TempDir(), "token")
	h.must(os.WriteFile(file, []byte(token+"\n"), 0o600))
	other.environ[0] = "NOXAUDIT_TOKEN_FILE=" + file
	other.waiver(exitPassed, "list")
	// What others can read is not used.
	if runtime.GOOS != "windows" {
		h.must(os.Chmod(files[0], 0o644))
		if _, errs := d.waiver(exitFailed, "list"); !strings.Contains(errs, "read by others") {
			t.Errorf("%s", errs)
		}
		h.must(os.Chmod(files[0], 0o600))
	}
	// A person who says no.
	no := newDesk(h, "ada")
	no.browse = func(address string) {
		b := authtest.SignedIn(t, h.sim, h.prog.config.BaseURL, "ada")
		u, err := url.Parse(address)
		h.must(err)
		q := u.Query()
		q.Set("answer", "no")
		h.must(visit(b.Do("POST", "/auth/cli", q).Header.Get("Location")))
	}
	if _, errs := no.want(exitBlocked, "login", "--server", h.prog.config.BaseURL); !strings.Contains(errs, "did not agree") {
		t.Errorf("%s", errs)
	}
	// Addresses that a token is not sent to.
	for _, server := range []string{"http://noxaudit.example", "https://x.example/path", "ftp://x"} {
		d.want(exitFailed, "login", "--server", server)
	}
	out, _ := d.want(exitPassed, "logout")
	if !strings.Contains(out, "signed out") {
		t.Errorf("%s", out)
	}
	d.waiver(exitFailed, "list")
	if _, errs := other.waiver(exitFailed, "list"); !strings.Contains(errs, "noxaudit login") {
		t.Errorf("a signed-out token is taken: %s", errs)
	}
}
