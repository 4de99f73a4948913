package githubsim_test

import (
	"context"
	"crypto/hmac"
	"crypto/sha1"
	"encoding/hex"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/noxaudit/noxaudit/internal/githubsim"
)

func TestWebhooksAreSignedAndAddressed(t *testing.T) {
	w := newWorld(t)
	w.openPull("feature")
	for _, h := range w.hooksNow() { // the inbox itself refuses a wrong SHA-256 signature
		mac := hmac.New(sha1.New, []byte(secret))
		mac.Write(h.payload)
		if h.header.Get("X-Hub-Signature") != "sha1="+hex.EncodeToString(mac.Sum(nil)) {
			t.Errorf("%s: legacy signature", h.event)
		}
		for name, want := range map[string]string{"Content-Type": "application/json", "X-GitHub-Hook-Installation-Target-Type": "integration",
			"X-GitHub-Hook-Installation-Target-ID": fmt.Sprint(w.app.ID), "X-GitHub-Hook-ID": fmt.Sprint(w.app.ID)} {
			if got := h.header.Get(name); got != want {
				t.Errorf("%s: %s is %q, want %q", h.event, name, got, want)
			}
		}
		if len(h.id) != 36 {
			t.Errorf("%s: delivery id %q", h.event, h.id)
		}
	}
	for _, d := range w.sim.Deliveries() {
		if d.Status != "OK" || d.StatusCode != 202 {
			t.Errorf("%s: %s %d", d.Event, d.Status, d.StatusCode)
		}
	}
}

func TestFailedDeliveriesAreListedAndRedeliveredOnlyWhenAsked(t *testing.T) {
	w := newWorld(t)
	w.arrived()
	w.hooks.answerWith(500, 0)
	w.openPull("feature")
	failed := w.hooksNow()
	w.hooks.answerWith(202, 0)
	w.clock.pass(time.Hour)
	if got := w.arrived(); len(got) != 0 {
		t.Errorf("came by themselves: %v", got)
	}
	list := w.do("GET", "/app/hook/deliveries?status=failure&per_page=2", w.jwt(nil), nil)
	if len(list.at().([]any)) != 2 || list.num(0, "status_code") != 500 || list.str(0, "event") != "pull_request" {
		t.Fatalf("%s", list.body)
	}
	next := linkPath(t, w, list.header.Get("Link"))
	if rest := w.do("GET", next, w.jwt(nil), nil); len(rest.at().([]any)) != 1 || rest.header.Get("Link") != "" || rest.str(0, "event") != "push" {
		t.Errorf("%s: %s", next, rest.body)
	}
	if res := w.do("POST", fmt.Sprintf("/app/hook/deliveries/%d/attempts", list.num(0, "id")), w.jwt(nil), nil); res.status != 202 {
		t.Fatalf("%d %s", res.status, res.body)
	}
	again := w.hooksNow()
	if len(again) != 1 || again[0].id != failed[2].id || string(again[0].payload) != string(failed[2].payload) {
		t.Fatalf("redelivered: %v", names(again))
	}
	newest := w.do("GET", "/app/hook/deliveries?per_page=1", w.jwt(nil), nil)
	if newest.at(0, "redelivery") != true || newest.str(0, "status") != "OK" || newest.str(0, "guid") != failed[2].id {
		t.Errorf("%s", newest.body)
	}
	w.clock.pass(73 * time.Hour)
	if old := w.do("GET", "/app/hook/deliveries", w.jwt(nil), nil); len(old.at().([]any)) != 0 {
		t.Errorf("after three days: %s", old.body)
	}
}

// linkPath is the path of a Link header's only address.
func linkPath(t *testing.T, w *world, link string) string {
	t.Helper()
	var path string
	if n, _ := fmt.Sscanf(link, "<"+w.url+"/api/v3%s", &path); n != 1 {
		t.Fatalf("link: %q", link)
	}
	return path[:len(path)-2]
}

func TestAReceiverThatIsSlowOrDeadFailsTheDelivery(t *testing.T) {
	w := newWorld(t, func(o *githubsim.Options) { o.HookTimeout = 50 * time.Millisecond })
	w.arrived()
	w.hooks.answerWith(200, 200*time.Millisecond)
	get(w.sim.Push("bob", "acme/shop", "feature", "Slow", githubsim.Files{"a": "a"}))(t)
	w.flush()
	must(t, w.sim.SetWebhook(w.app.ID, "http://127.0.0.1:1/hooks", secret))
	get(w.sim.Push("bob", "acme/shop", "feature", "Dead", githubsim.Files{"a": "b"}))(t)
	w.flush()
	var got []string
	for _, d := range w.sim.Deliveries() {
		if d.Event == "push" {
			got = append(got, fmt.Sprint(d.StatusCode, " ", d.Status))
		}
	}
	if want := []string{"504 timed out", "502 failed to connect to host"}; !slices.Equal(got[len(got)-2:], want) {
		t.Errorf("%v, want %v", got, want)
	}
}

func TestSuspendedInstallationsAndOtherEventsGetNothing(t *testing.T) {
	w := newWorld(t)
	must(t, w.sim.SetPermissions("ada", w.installation, permissions, []string{"push"}))
	w.arrived()
	w.openPull("feature")
	if got := w.arrived(); !slices.Equal(got, []string{"push"}) {
		t.Errorf("only push is subscribed: %v", got)
	}
	must(t, w.sim.SuspendApp("ada", w.installation, true))
	w.openPull("quiet")
	must(t, w.sim.SuspendApp("ada", w.installation, false))
	if got := w.arrived(); !slices.Equal(got, []string{"installation.suspend", "installation.unsuspend"}) {
		t.Errorf("while suspended: %v", got)
	}
	must(t, w.sim.UninstallApp("ada", w.installation))
	if got := w.arrived(); !slices.Equal(got, []string{"installation.deleted"}) {
		t.Errorf("at the end: %v", got)
	}
}

func TestWebhooksCanGetLostDoubledLateAndReordered(t *testing.T) {
	w := newWorld(t)
	w.arrived()
	push := func(branch string) {
		get(w.sim.Push("bob", "acme/shop", branch, branch, githubsim.Files{branch: "x"}))(t)
	}
	must(t, w.sim.SetPermissions("ada", w.installation, permissions, []string{"push"}))
	w.arrived()
	refs := func() []string {
		var all []string
		for _, h := range w.hooksNow() {
			all = append(all, h.at("ref").(string)[len("refs/heads/"):])
		}
		return all
	}
	for _, c := range []struct {
		fault githubsim.Fault
		want  string
	}{
		{githubsim.Fault{Kind: githubsim.Lost, On: "webhook push", Times: 1}, "[b c]"},
		{githubsim.Fault{Kind: githubsim.Doubled, On: "webhook", Times: 1}, "[a a b c]"},
		{githubsim.Fault{Kind: githubsim.Late, On: "webhook", Times: 1, Delay: 300 * time.Millisecond}, "[b c a]"},
		{githubsim.Fault{Kind: githubsim.Reordered, On: "webhook push", Times: 1}, "[b a c]"},
		{githubsim.Fault{Kind: githubsim.Lost, On: "webhook issue_comment"}, "[a b c]"},
	} {
		w.sim.Inject(c.fault)
		for _, branch := range []string{"a", "b", "c"} {
			push(branch)
		}
		if got := fmt.Sprint(refs()); got != c.want {
			t.Errorf("%s: %s, want %s", c.fault.Kind, got, c.want)
		}
		w.sim.Heal()
	}
	before := len(w.sim.Deliveries())
	w.sim.Inject(githubsim.Fault{Kind: githubsim.Lost, On: "webhook"})
	push("a")
	if n := len(w.sim.Deliveries()); n != before {
		t.Error("a lost webhook is in the list of deliveries")
	}
}

func TestABurstIsDeliveredByManyWorkers(t *testing.T) {
	w := newWorld(t, func(o *githubsim.Options) { o.HookWorkers = 32 })
	p := w.openPull("feature")
	w.arrived()
	w.hooks.answerWith(202, 20*time.Millisecond)
	for i := range 300 {
		get(w.sim.Comment("bob", "acme/shop", p.Number, fmt.Sprint(i)))(t)
	}
	if n := len(w.hooksNow()); n != 300 {
		t.Errorf("%d webhooks", n)
	}
}

func TestFlushGivesUpWithItsContext(t *testing.T) {
	w := newWorld(t)
	w.sim.Inject(githubsim.Fault{Kind: githubsim.Late, On: "webhook", Delay: time.Hour})
	get(w.sim.Push("bob", "acme/shop", "feature", "m", githubsim.Files{"a": "a"}))(t)
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Millisecond)
	defer cancel()
	if err := w.sim.Flush(ctx); err == nil {
		t.Error("flushed what is an hour late")
	}
}
