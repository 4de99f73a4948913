package api

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/noxaudit/noxaudit/checks/gate"
	"github.com/noxaudit/noxaudit/internal/access"
	"github.com/noxaudit/noxaudit/internal/store"
	"github.com/noxaudit/noxaudit/policy/waiver"
	"github.com/noxaudit/noxaudit/server/auth"
)

func TestTheTableHasOneRowForEachKind(t *testing.T) {
	seen := map[Kind]bool{}
	for _, r := range Table {
		if seen[r.Kind] || r.Title == "" || http.StatusText(r.Status) == "" || r.Exit < 0 || r.Exit > 2 || Of(r.Kind) != r {
			t.Errorf("%+v", r)
		}
		if r.Exit == 0 && r.Kind != Done || r.Status >= 500 && r.Exit != 2 {
			t.Errorf("%s exits with %d", r.Kind, r.Exit)
		}
		seen[r.Kind] = true
	}
	if Of("another").Kind != Failed {
		t.Error("an unknown kind is no failure")
	}
}

func TestErrorsInsideHaveAKindOutsideAndTellNothingElse(t *testing.T) {
	const secret = "postgres://user:pw@db.internal"
	for _, c := range []struct {
		err  error
		kind Kind
	}{
		{store.ErrNotFound, NotFound},
		{store.ErrStale, Overtaken},
		{store.ErrUnavailable, Unavailable},
		{gate.ErrGitHubUnavailable, Unavailable},
		{gate.ErrGitHubGone, Unavailable},
		{context.DeadlineExceeded, Unavailable},
		{&waiver.Refusal{Code: waiver.NotFound, Sentence: "none"}, NotFound},
		{&waiver.Refusal{Code: waiver.BadTarget, Sentence: "no target"}, Invalid},
		{problem(TooLarge, "large"), TooLarge},
		{store.ErrFull, Failed},
		{errors.New("something else"), Failed},
	} {
		p := problemOf(fmt.Errorf("%s: %w", secret, c.err))
		if p.Kind != c.kind || p.Status != Of(c.kind).Status || p.Detail == "" || strings.Contains(p.Detail, "postgres") {
			t.Errorf("%v: %+v", c.err, p)
		}
	}
}

func TestACommandsVerbSaysWhatAccessItTakes(t *testing.T) {
	const because = ` reason="Because it is a test of a test."`
	for line, want := range map[string]access.Action{
		"/noxaudit waive NX-7F3K2QAB" + because: access.RequestWaiver,
		"/noxaudit fp NX-7F3K2QAB" + because:    access.RequestWaiver,
		"/noxaudit extend W-9QK3TZAB for=3d":    access.RequestWaiver,
		"/noxaudit approve W-9QK3TZAB":          access.ApproveWaiver,
		"/noxaudit reject W-9QK3TZAB" + because: access.RejectWaiver,
		"/noxaudit revoke W-9QK3TZAB" + because: access.RevokeWaiver,
		"/noxaudit list":                        access.SeeRepository,
		"/noxaudit explain NX-7F3K2QAB":         access.SeeRepository,
		"/noxaudit recheck":                     access.SeeRepository,
		"/noxaudit nonsense":                    access.SeeRepository,
		"":                                      access.SeeRepository,
	} {
		if got := actionOf(line); got != want {
			t.Errorf("%q takes %q, want %q", line, got, want)
		}
	}
}

func TestWhoIsNotKnownGetsNoFurther(t *testing.T) {
	now := time.Date(2026, 11, 25, 9, 0, 0, 0, time.UTC)
	for status, want := range map[int]int{http.StatusUnauthorized: http.StatusUnauthorized, http.StatusServiceUnavailable: http.StatusServiceUnavailable, http.StatusForbidden: http.StatusServiceUnavailable} {
		h := New(Options{
			Who: func(*http.Request) (auth.Current, *auth.Page) {
				return auth.Current{}, &auth.Page{Status: status, Sentence: "No."}
			},
			Gate: &gate.Gate{Now: func() time.Time { return now }}, Log: zerolog.Nop(),
		})
		for _, path := range []string{"/api/v1/", "/api/v1/orgs/a/repositories/b/waivers", "/api/v1/orgs/a/repositories/b/waivers/W-9QK3TZAB"} {
			rec := httptest.NewRecorder()
			h.ServeHTTP(rec, httptest.NewRequest("GET", path, nil))
			if rec.Code != want || rec.Header().Get("Content-Type") != "application/problem+json" || rec.Header().Get("Vary") != "Authorization" {
				t.Errorf("%d %s: %d %v", status, path, rec.Code, rec.Header())
			}
		}
	}
}

// Who asks too often is told when to come back, and others are not concerned; what is remembered is bounded.
func TestOnePersonsMeasureIsNobodyElses(t *testing.T) {
	now := time.Date(2026, 11, 25, 9, 0, 0, 0, time.UTC)
	who := int64(1)
	a := &api{Options: Options{
		Who: func(*http.Request) (auth.Current, *auth.Page) {
			return auth.Current{Person: access.Person{ID: who}}, nil
		},
		Gate: &gate.Gate{Now: func() time.Time { return now }},
	}, rates: newRates()}
	ask := func(command bool) error {
		_, err := a.person(httptest.NewRequest("GET", "/", nil), command)
		return err
	}
	for range commandBurst {
		if err := ask(true); err != nil {
			t.Fatal(err)
		}
	}
	var often *tooOften
	for range 3 { // being refused costs nothing
		if err := ask(true); !errors.As(err, &often) || often.wait != commandEvery {
			t.Fatalf("%v", err)
		}
	}
	if err := ask(false); err != nil {
		t.Errorf("reading: %v", err)
	}
	who = 2
	if err := ask(true); err != nil {
		t.Errorf("another person: %v", err)
	}
	who, now = 1, now.Add(commandEvery)
	if err := ask(true); err != nil {
		t.Errorf("a minute later: %v", err)
	}
	for i := range int64(mostRemembered) {
		who = 10 + i
		_ = ask(false)
	}
	now = now.Add(time.Hour)
	who = 5
	_ = ask(false)
	if len(a.rates) > 2 {
		t.Errorf("%d people are remembered after an hour", len(a.rates))
	}
}

func FuzzOrder(f *testing.F) {
	for _, s := range []string{`{"pull":7,"command":"/noxaudit help"}`, `{}`, `null`, `[]`, `{"pull":1e3}`, `{"pull":7,"pull":8}`, "\xff", `{"command":"\ud800"}`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		r := httptest.NewRequest("POST", "/", bytes.NewReader(body))
		r.Header.Set("Content-Type", "application/json; charset=utf-8")
		var o order
		err := readOrder(httptest.NewRecorder(), r, &o)
		if err != nil {
			if p := problemOf(err); p.Kind != Invalid && p.Kind != TooLarge {
				t.Fatalf("%+v", p)
			}
			return
		}
		if o.Pull < 0 || len(body) > MaxBody {
			t.Fatalf("%+v", o)
		}
		var members map[string]json.RawMessage
		if err := json.Unmarshal(body, &members); err != nil {
			t.Fatalf("%q is taken: %v", body, err)
		}
		actionOf(o.Command)
	})
}
