package githubsim_test

import (
	"fmt"
	"testing"

	"github.com/noxaudit/noxaudit/internal/githubsim"
	"github.com/noxaudit/noxaudit/internal/githubsim/conform"
)

// What the simulator itself takes: a client's benchmarks contain it.

func benchWorld(b *testing.B) *world {
	w := newWorld(b, func(o *githubsim.Options) { o.HourlyLimit = -1 })
	w.sim.Observe(nil) // without conform
	must(b, w.sim.SetWebhook(w.app.ID, "", ""))
	return w
}

func BenchmarkCheckRun(b *testing.B) {
	w := benchWorld(b)
	sha := w.openPull("feature").HeadSHA
	id := w.check(sha, "success")
	path := fmt.Sprintf("/repos/acme/shop/check-runs/%d", id)
	body := map[string]any{"status": "completed", "conclusion": "success", "output": map[string]any{"title": "t", "summary": "s"}}
	b.Run("update", func(b *testing.B) {
		for b.Loop() {
			w.call(200, "PATCH", path, body)
		}
	})
	conform.Check(b, w.sim)
	b.Run("update, held against the description", func(b *testing.B) {
		for b.Loop() {
			w.call(200, "PATCH", path, body)
		}
	})
}

func BenchmarkPushToPull(b *testing.B) {
	w := benchWorld(b)
	w.openPull("feature")
	n := 0
	for b.Loop() {
		n++
		get(w.sim.Push("bob", "acme/shop", "feature", "m", githubsim.Files{"f": fmt.Sprint(n)}))(b)
	}
}

func BenchmarkFetch(b *testing.B) {
	w := benchWorld(b)
	for b.Loop() {
		if out, err := w.git(w.token, "ls-remote", w.url+"/acme/shop.git"); err != nil {
			b.Fatal(out)
		}
	}
}
