package githubsim_test

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/noxaudit/noxaudit/internal/githubsim"
)

func TestFaultsHappenBeforeOrAfterTheEffect(t *testing.T) {
	const route = "POST /repos/{owner}/{repo}/check-runs"
	for _, c := range []struct {
		kind   githubsim.FaultKind
		status int // 0: a broken connection
		runs   int // afterwards
	}{
		{githubsim.ErrorBefore, 502, 0},
		{githubsim.ErrorAfter, 502, 1},
		{githubsim.Reset, 0, 0},
		{githubsim.ResetAfter, 0, 1},
		{githubsim.Unauthorized, 401, 0},
		{githubsim.PrimaryLimit, 403, 0},
		{githubsim.SecondaryLimit, 403, 0},
		{githubsim.Slow, 201, 1},
	} {
		t.Run(string(c.kind), func(t *testing.T) {
			w := newWorld(t)
			p := w.openPull("feature")
			w.sim.Inject(githubsim.Fault{Kind: c.kind, On: route, Times: 1, Delay: 30 * time.Second / 1000})
			body := map[string]any{"name": "noxaudit", "head_sha": p.HeadSHA}
			w.call(200, "GET", "/repos/acme/shop", nil) // another route is spared
			res, err := w.try("POST", "/repos/acme/shop/check-runs", w.token, body)
			if c.status == 0 && err == nil || c.status != 0 && (err != nil || res.status != c.status) {
				t.Fatalf("%d %v, want %d", res.status, err, c.status)
			}
			if n := len(get(w.sim.Checks("acme/shop", p.HeadSHA))(t)); n != c.runs {
				t.Errorf("%d runs, want %d", n, c.runs)
			}
			calls := w.sim.Calls()
			if last := calls[len(calls)-1]; last.Status != c.status || last.Route != route {
				t.Errorf("logged: %+v", last)
			}
			switch c.kind {
			case githubsim.PrimaryLimit:
				if res.header.Get("X-RateLimit-Remaining") != "0" {
					t.Errorf("%v", res.header)
				}
				w.clock.pass(time.Hour)
				w.token = w.newToken(nil)
			case githubsim.SecondaryLimit:
				if res.header.Get("Retry-After") != "1" {
					t.Errorf("%v", res.header)
				}
			}
			w.call(201, "POST", "/repos/acme/shop/check-runs", body)
		})
	}
}

func TestGitHubIsDownForSomeMinutes(t *testing.T) {
	w := newWorld(t)
	w.sim.Down(10 * time.Minute)
	if res := w.call(503, "GET", "/repos/acme/shop", nil); res.str("status") != "503" {
		t.Errorf("%s", res.body)
	}
	if _, err := w.git(w.token, "ls-remote", w.url+"/acme/shop.git"); err == nil {
		t.Error("git still answers")
	}
	w.clock.pass(10 * time.Minute)
	w.call(200, "GET", "/repos/acme/shop", nil)
}

func TestFaultsByChanceFollowTheSeed(t *testing.T) {
	story := func(seed uint64) string {
		w := newWorld(t, func(o *githubsim.Options) { o.Seed = seed })
		w.sim.Inject(githubsim.Fault{Kind: githubsim.ErrorBefore, On: "GET *", Rate: 0.5})
		var statuses []int
		for range 40 {
			statuses = append(statuses, w.do("GET", "/repos/acme/shop", w.token, nil).status)
		}
		return fmt.Sprint(statuses)
	}
	if a, b := story(1), story(1); a != b {
		t.Errorf("one seed, two stories:\n%s\n%s", a, b)
	}
	if a, b := story(1), story(2); a == b {
		t.Errorf("two seeds, one story: %s", a)
	}
}

func TestManyActAtOnce(t *testing.T) {
	w := newWorld(t, func(o *githubsim.Options) { o.HookWorkers = 4 })
	p := w.openPull("feature")
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for j := range 5 {
				name := fmt.Sprintf("check-%d-%d", i, j)
				w.do("POST", "/repos/acme/shop/check-runs", w.token, map[string]any{"name": name, "head_sha": p.HeadSHA, "conclusion": "success"})
				w.do("GET", "/repos/acme/shop/pulls/1", w.token, nil)
				if _, err := w.sim.Comment("bob", "acme/shop", 1, name); err != nil {
					t.Error(err)
				}
				if _, err := w.sim.Push("bob", "acme/shop", fmt.Sprint("branch-", i), name, githubsim.Files{"f": name}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if n := len(get(w.sim.Checks("acme/shop", p.HeadSHA))(t)); n != 40 {
		t.Errorf("%d runs", n)
	}
	seen := map[string]bool{}
	for _, h := range w.hooksNow() {
		if seen[h.id] {
			t.Errorf("%s came twice", h.id)
		}
		seen[h.id] = true
	}
	if n := len(w.sim.Deliveries()); n != len(seen) {
		t.Errorf("%d deliveries, %d came", n, len(seen))
	}
}
