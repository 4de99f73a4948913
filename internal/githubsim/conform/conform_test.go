package conform_test

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/noxaudit/noxaudit/internal/githubsim"
	"github.com/noxaudit/noxaudit/internal/githubsim/conform"
)

// exchange is a check run made and answered; the tests spoil it.
func exchange(request string, status int, answer string) githubsim.Exchange {
	r := httptest.NewRequest("POST", "/api/v3/repos/acme/shop/check-runs", strings.NewReader(request))
	r.Header.Set("Content-Type", "application/json")
	return githubsim.Exchange{Route: "POST /repos/{owner}/{repo}/check-runs", Request: r, Path: "/repos/acme/shop/check-runs", RequestBody: []byte(request),
		Status: status, Header: http.Header{"Content-Type": {"application/json; charset=utf-8"}}, ResponseBody: []byte(answer)}
}

func TestExchangesThatGitHubWouldNotKnowAreReported(t *testing.T) {
	const (
		good    = `{"name":"noxaudit","head_sha":"ce587453ced02b1526dfb4cb910479d431683101","status":"queued"}`
		refusal = `{"message":"Not Found","documentation_url":"https://docs.github.com/rest","status":"404"}`
	)
	spoiled := exchange(good, 502, "<html>")
	spoiled.Fault = githubsim.ErrorAfter
	unknown := exchange(good, 404, refusal)
	unknown.Route = ""
	for name, c := range map[string]struct {
		x    githubsim.Exchange
		want string
	}{
		"a refusal":                      {exchange(good, 404, refusal), ""},
		"what a fault spoiled":           {spoiled, ""},
		"a refusal of another shape":     {exchange(good, 404, `{"error":"no"}`), "not GitHub's shape"},
		"an operation that is not there": {unknown, "not an operation"},
		"a request with too much":        {exchange(`{"name":"noxaudit","head_sha":"a","output":{"title":"t","summary":"`+strings.Repeat("x", 65536)+`"}}`, 201, `{}`), "request: "},
		"an answer with too little":      {exchange(good, 201, `{"id":1}`), "answer: "},
		"a status nobody described":      {exchange(good, 299, `{"id":1}`), "answer: "},
	} {
		t.Run(name, func(t *testing.T) {
			err := conform.Exchange(c.x)
			if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
				t.Errorf("%v, want %q", err, c.want)
			}
		})
	}
}

func TestPayloadsThatGitHubWouldNotSendAreReported(t *testing.T) {
	for name, c := range map[string]struct{ event, payload string }{
		"no JSON":           {"push", "{"},
		"too little":        {"push", `{"ref":"refs/heads/main"}`},
		"an unknown action": {"pull_request", `{"action":"exploded"}`},
		"an unknown event":  {"sponsorship", `{"action":"created"}`},
	} {
		t.Run(name, func(t *testing.T) {
			if err := conform.Webhook(c.event, []byte(c.payload)); err == nil {
				t.Error("taken")
			}
		})
	}
}

func BenchmarkExchange(b *testing.B) {
	x := exchange(`{"name":"noxaudit","head_sha":"ce587453ced02b1526dfb4cb910479d431683101","status":"queued"}`, 404,
		`{"message":"Not Found","documentation_url":"https://docs.github.com/rest","status":"404"}`)
	for b.Loop() {
		if err := conform.Exchange(x); err != nil {
			b.Fatal(err)
		}
	}
}
