package main

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/noxaudit/noxaudit/internal/githubsim"
	"github.com/noxaudit/noxaudit/server/api"
	"github.com/noxaudit/noxaudit/server/auth/authtest"
)

// call makes a request of the API. Headers are pairs.
func (h *hub) call(method, path, body string, headers ...string) (*http.Response, string) {
	h.t.Helper()
	req, err := http.NewRequestWithContext(context.Background(), method, h.prog.config.BaseURL+path, strings.NewReader(body))
	h.must(err)
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	for i := 0; i < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	res, err := http.DefaultClient.Do(req)
	h.must(err)
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	h.must(err)
	return res, string(b)
}

func TestEveryRouteOfTheAPIAsEveryRoleAndAsAStranger(t *testing.T) {
	h := newHub(t)
	withSignIn(h)
	c := newCourt(h)
	// Another repository of the organisation, with an admin of its own, and another organisation.
	for _, login := range []string{"rob", "uma"} {
		h.must(h.sim.CreateUser(login))
	}
	_, err := h.sim.CreateRepo("ada", "octo/other", githubsim.RepoSpec{Files: githubsim.Files{"a.go": "package a\n"}})
	h.must(err)
	h.must(h.sim.SetCollaborator("ada", "octo/other", "rob", githubsim.Admin))
	h.must(h.sim.CreateOrg("acme", "uma"))
	_, err = h.sim.CreateRepo("uma", "acme/pay", githubsim.RepoSpec{Files: githubsim.Files{"a.go": "package a\n"}})
	h.must(err)
	_, err = h.sim.InstallApp("uma", h.app.ID, "acme")
	h.must(err)

	bearer := map[string]string{}
	for _, login := range []string{"ada", "max", "rob", "uma"} {
		bearer[login] = "Bearer " + newDesk(h, login).signIn().token()
	}
	known := func(login, repo string) {
		t.Helper()
		deadline := time.Now().Add(40 * time.Second)
		for {
			res, text := h.call("GET", "/api/v1/orgs/"+strings.Replace(repo, "/", "/repositories/", 1)+"/waivers", "", "Authorization", bearer[login])
			if res.StatusCode == 200 {
				return
			}
			if time.Now().After(deadline) {
				t.Fatalf("%s: %d %s", repo, res.StatusCode, text)
			}
			time.Sleep(250 * time.Millisecond)
		}
	}
	known("ada", "octo/other")
	known("uma", "acme/pay")
	w := c.waive() // by dev, in a comment

	revoked := newDesk(h, "ada").signIn()
	bearer["revoked"] = "Bearer " + revoked.token()
	revoked.want(exitPassed, "logout")
	browser := authtest.SignedIn(t, h.sim, h.prog.config.BaseURL, "ada")
	base, err := url.Parse(h.prog.config.BaseURL)
	h.must(err)
	cookie := browser.Jar.Cookies(base)[0].String()
	bearer["cookie"] = "Bearer " + strings.SplitN(cookie, "=", 2)[1]
	bearer["garbage"] = "Bearer nxc_" + strings.Repeat("A", 43)
	bearer["nobody"] = ""

	in := map[string]string{"octo/pay": "ada max", "octo/other": "ada rob", "acme/pay": "uma", "octo/none": "", "none/pay": "", "acme/other": ""}
	reject := `{"pull":0,"command":"/noxaudit reject W-00000000 reason=\"It is not the right one at all.\""}`
	for who, authorization := range bearer {
		for repo, reach := range in {
			for _, r := range []struct{ method, path, body string }{
				{"GET", "/waivers", ""},
				{"GET", "/waivers?state=all", ""},
				{"GET", "/waivers/" + w, ""},
				{"POST", "/commands", reject},
				{"POST", "/commands", `{"pull":1,"command":"/noxaudit help"}`},
			} {
				want := http.StatusNotFound
				switch {
				case authorization == "" || who == "revoked" || who == "cookie" || who == "garbage":
					want = http.StatusUnauthorized
				case strings.Contains(" "+reach+" ", " "+who+" ") && (repo == "octo/pay" || !strings.Contains(r.path, w)):
					want = http.StatusOK
				}
				headers := []string{"Cookie", cookie}
				if authorization != "" {
					headers = append(headers, "Authorization", authorization)
				}
				res, text := h.call(r.method, "/api/v1/orgs/"+strings.Replace(repo, "/", "/repositories/", 1)+r.path, r.body, headers...)
				if res.StatusCode != want {
					t.Errorf("%s: %s %s %s: %d, want %d: %s", who, r.method, repo, r.path, res.StatusCode, want, text)
				}
				head := res.Header
				if head.Get("Cache-Control") != "no-store" || head.Get("Access-Control-Allow-Origin") != "" || head.Get("X-Content-Type-Options") != "nosniff" || head.Get("Set-Cookie") != "" {
					t.Errorf("%s: headers %v", who, head)
				}
				if want != http.StatusOK {
					var p api.Problem
					if err := json.Unmarshal([]byte(text), &p); err != nil || p.Status != want || p.Detail == "" || head.Get("Content-Type") != "application/problem+json" ||
						strings.Contains(text, w) || strings.Contains(text, c.nx) {
						t.Errorf("%s %s %s: %s %v", who, repo, r.path, text, err)
					}
				}
				h.later(time.Minute) // nobody asks too often
			}
			for _, a := range bearer { // sessions stay in use
				h.call("GET", "/api/v1/x", "", "Authorization", a)
			}
		}
	}
	// What was refused has changed nothing.
	if res, text := h.call("GET", "/api/v1/orgs/octo/repositories/pay/waivers/"+w, "", "Authorization", bearer["max"]); res.StatusCode != 200 || !strings.Contains(text, `"state":"pending"`) {
		t.Errorf("%d %s", res.StatusCode, text)
	}
}

func TestTheAPIReadsStrictly(t *testing.T) {
	h := newHub(t)
	withSignIn(h)
	h.check(h.tip("main"))
	bearer := "Bearer " + newDesk(h, "ada").signIn().token()
	const at = "/api/v1/orgs/octo/repositories/pay"
	for _, r := range []struct {
		method, path, body, kind string
		status                   int
	}{
		{"GET", "/waivers?state=opn", "", "", 400},
		{"GET", "/waivers?state=open&state=all", "", "", 400},
		{"GET", "/waivers?admin=1", "", "", 400},
		{"GET", "/waivers/NX-7F3K2QAB", "", "", 400},
		{"GET", "/waivers/..", "", "", 404},
		{"GET", "/waivers/%2e%2e%2fother", "", "", 400},
		{"GET", "/commands", "", "", 404},
		{"POST", "/waivers", "{}", "", 404},
		{"DELETE", "/waivers/W-00000000", "", "", 404},
		{"OPTIONS", "/commands", "", "", 404},
		{"POST", "/commands", "", "", 415},
		{"POST", "/commands", "{}", "text/plain", 415},
		{"POST", "/commands", "command=x", "application/x-www-form-urlencoded", 415},
		{"POST", "/commands", "", "application/json", 400},
		{"POST", "/commands", "null", "", 400},
		{"POST", "/commands", "[]", "", 400},
		{"POST", "/commands", `{"pull":1,"command":"/noxaudit help"} {}`, "", 400},
		{"POST", "/commands", `{"pull":1,"command":"/noxaudit help","as":"max"}`, "", 400},
		{"POST", "/commands", `{"pull":-1,"command":"/noxaudit help"}`, "", 400},
		{"POST", "/commands", `{"pull":99999999999,"command":"/noxaudit help"}`, "", 400},
		{"POST", "/commands", `{"pull":"1","command":"/noxaudit help"}`, "", 400},
		{"POST", "/commands", `{"pull":1,"command":"` + strings.Repeat("x", api.MaxBody) + `"}`, "", 413},
	} {
		headers := []string{"Authorization", bearer}
		if r.kind != "" {
			headers = append(headers, "Content-Type", r.kind)
		}
		res, text := h.call(r.method, at+r.path, r.body, headers...)
		if r.path == "/waivers/.." { // net/http's own client and server tidy addresses
			if res.StatusCode == 200 && strings.Contains(text, "waivers") {
				t.Errorf("%s: %d %s", r.path, res.StatusCode, text)
			}
			continue
		}
		if res.StatusCode != r.status || res.Header.Get("Content-Type") != "application/problem+json" {
			t.Errorf("%s %s %.60s: %d %s, want %d", r.method, r.path, r.body, res.StatusCode, text, r.status)
		}
		h.later(time.Minute)
		h.call("GET", "/api/v1/x", "", "Authorization", bearer)
	}
	// What the grammar refuses is a result, as it is in a comment.
	for _, line := range []string{"", "/noxaudit wave", "hello", "/noxaudit approve W-1\n/noxaudit help", "/noxaudit help \u202e"} {
		body, err := json.Marshal(map[string]any{"pull": 1, "command": line})
		h.must(err)
		res, text := h.call("POST", at+"/commands", string(body), "Authorization", bearer)
		var r api.Receipt
		if err := json.Unmarshal([]byte(text), &r); err != nil || res.StatusCode != 200 || !r.Refused || r.Code == "" || r.Sentence == "" {
			t.Errorf("%q: %d %s", line, res.StatusCode, text)
		}
		h.later(time.Minute)
	}
}

func TestOnePersonIsAnsweredByTheAPIOnlySoOften(t *testing.T) {
	h := newHub(t)
	withSignIn(h)
	h.check(h.tip("main"))
	bearer := "Bearer " + newDesk(h, "ada").signIn().token()
	var last *http.Response
	for range 40 {
		if last, _ = h.call("POST", "/api/v1/orgs/octo/repositories/pay/commands", `{"pull":0,"command":"/noxaudit help"}`, "Authorization", bearer); last.StatusCode != 200 {
			break
		}
	}
	wait, err := strconv.Atoi(last.Header.Get("Retry-After"))
	if last.StatusCode != http.StatusTooManyRequests || err != nil || wait < 1 || wait > 60 {
		t.Fatalf("%d, Retry-After %q", last.StatusCode, last.Header.Get("Retry-After"))
	}
	// Reading has a measure of its own.
	if res, text := h.call("GET", "/api/v1/orgs/octo/repositories/pay/waivers", "", "Authorization", bearer); res.StatusCode != 200 {
		t.Errorf("%d %s", res.StatusCode, text)
	}
	h.later(2 * time.Minute)
	if res, text := h.call("POST", "/api/v1/orgs/octo/repositories/pay/commands", `{"pull":0,"command":"/noxaudit help"}`, "Authorization", bearer); res.StatusCode != 200 {
		t.Errorf("later: %d %s", res.StatusCode, text)
	}
}

func TestWhatAReasonHoldsActsOnNoTerminal(t *testing.T) {
	h := newHub(t)
	withSignIn(h)
	c := newCourt(h)
	ada := newDesk(h, "ada").signIn()
	c.say("dev", "/noxaudit waive "+c.nx+` reason="<script>alert(1)</script> [31m | =cmd() and more"`)
	for _, args := range [][]string{{"list"}, {"list", "--format", "json"}} {
		out, _ := ada.waiver(exitPassed, args...)
		if strings.ContainsAny(out, "\x1b\u202e") || !strings.Contains(out, c.nx) {
			t.Errorf("%q", out)
		}
	}
	var b bytes.Buffer
	p := *h.prog
	p.stdout = &b
	p.printWaiver(hostile(), "octo/pay\x1b[2J")
	if strings.ContainsAny(b.String(), "\x1b\u202e\x07") {
		t.Errorf("%q", b.String())
	}
}

// hostile is a waiver as a server that is not to be trusted would tell it.
func hostile() api.Waiver {
	var w api.Waiver
	const evil = "\x1b[2J\u202e\x07\nnoxaudit: all is well"
	w.Name, w.Document.Reason, w.Document.Finding.Path, w.Document.Requester.Login = evil, evil, evil, evil
	w.Commands = []string{"/noxaudit approve " + evil + " x"}
	return w
}
