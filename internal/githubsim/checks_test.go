package githubsim_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/noxaudit/noxaudit/internal/githubsim"
)

func annotations(n int) []any {
	list := []any{}
	for i := range n {
		list = append(list, map[string]any{"path": "main.go", "start_line": i + 1, "end_line": i + 1, "annotation_level": "warning", "message": "look"})
	}
	return list
}

func TestCheckRunsKeepGitHubsLimits(t *testing.T) {
	w := newWorld(t)
	p := w.openPull("feature")
	output := func(title, summary, text string, n int) map[string]any {
		return map[string]any{"output": map[string]any{"title": title, "summary": summary, "text": text, "annotations": annotations(n)}}
	}
	action := func(label, description, identifier string, n int) map[string]any {
		return map[string]any{"actions": slices.Repeat([]any{map[string]string{"label": label, "description": description, "identifier": identifier}}, n)}
	}
	at := func(n int) string { return strings.Repeat("ü", n) } // characters are counted, not bytes
	for name, c := range map[string]struct {
		body   map[string]any
		status int
	}{
		"50 annotations":                 {output("t", "s", "", 50), 201},
		"51 annotations":                 {output("t", "s", "", 51), 422},
		"a summary of 65,535":            {output("t", at(65535), "", 0), 201},
		"a summary of 65,536":            {output("t", at(65536), "", 0), 422},
		"a text of 65,536":               {output("t", "s", at(65536), 0), 422},
		"a title of 255":                 {output(at(255), "s", "", 0), 201},
		"a title of 256":                 {output(at(256), "s", "", 0), 422},
		"output without a title":         {map[string]any{"output": map[string]any{"summary": "s"}}, 422},
		"three actions":                  {action(at(20), at(40), at(20), 3), 201},
		"four actions":                   {action("l", "d", "i", 4), 422},
		"a label of 21":                  {action(at(21), "d", "i", 1), 422},
		"a description of 41":            {action("l", at(41), "i", 1), 422},
		"an identifier of 21":            {action("l", "d", at(21), 1), 422},
		"completed without a conclusion": {map[string]any{"status": "completed"}, 422},
		"a conclusion completes":         {map[string]any{"conclusion": "success"}, 201},
		"an unknown conclusion":          {map[string]any{"conclusion": "stale"}, 422},
		"an unknown status":              {map[string]any{"status": "done"}, 422},
		"an unknown commit":              {map[string]any{"head_sha": strings.Repeat("a", 40)}, 422},
		"a short commit":                 {map[string]any{"head_sha": p.HeadSHA[:10]}, 422},
		"no name":                        {map[string]any{"name": ""}, 422},
		"a number as name":               {map[string]any{"name": 1}, 422},
		"a column over several lines": {map[string]any{"output": map[string]any{"title": "t", "summary": "s", "annotations": []any{map[string]any{
			"path": "a", "start_line": 1, "end_line": 2, "start_column": 1, "annotation_level": "notice", "message": "m"}}}}, 422},
	} {
		t.Run(name, func(t *testing.T) {
			body := map[string]any{"name": "noxaudit", "head_sha": p.HeadSHA}
			for k, v := range c.body {
				body[k] = v
			}
			if res := w.do("POST", "/repos/acme/shop/check-runs", w.token, body); res.status != c.status {
				t.Errorf("%d, want %d: %s", res.status, c.status, res.body)
			}
		})
	}
}

func TestAnnotationsAreAddedByUpdates(t *testing.T) {
	w := newWorld(t)
	p := w.openPull("feature")
	id := w.check(p.HeadSHA, "failure")
	for range 3 {
		w.call(200, "PATCH", fmt.Sprintf("/repos/acme/shop/check-runs/%d", id), map[string]any{"output": map[string]any{"title": "t", "summary": "s", "annotations": annotations(50)}})
	}
	if n := w.call(200, "GET", fmt.Sprintf("/repos/acme/shop/check-runs/%d", id), nil).num("output", "annotations_count"); n != 150 {
		t.Errorf("%d annotations", n)
	}
	var list []any
	w.call(200, "GET", fmt.Sprintf("/repos/acme/shop/check-runs/%d/annotations?per_page=100&page=2", id), nil).json(&list)
	if len(list) != 50 {
		t.Errorf("%d on the second page", len(list))
	}
}

func TestAnotherAppsRunCannotBeChanged(t *testing.T) {
	w := newWorld(t)
	p := w.openPull("feature")
	other := get(w.sim.CreateApp(githubsim.AppSpec{Owner: "eve", Name: "impostor", Key: key()}))(t)
	id := get(w.sim.CreateCheck(other.ID, "acme/shop", p.HeadSHA, "noxaudit", "success"))(t)
	res := w.call(403, "PATCH", fmt.Sprintf("/repos/acme/shop/check-runs/%d", id), map[string]any{"conclusion": "failure"})
	if !strings.Contains(res.str("message"), "Invalid app_id") {
		t.Errorf("%s", res.body)
	}
}

func TestOnlyTheNewestRunOfANameCounts(t *testing.T) {
	w := newWorld(t)
	p := w.openPull("feature")
	w.check(p.HeadSHA, "failure")
	newest := w.check(p.HeadSHA, "success")
	latest := w.call(200, "GET", "/repos/acme/shop/commits/"+p.HeadSHA+"/check-runs", nil)
	if latest.num("total_count") != 1 || latest.num("check_runs", 0, "id") != newest {
		t.Errorf("latest: %s", latest.body)
	}
	if all := w.call(200, "GET", "/repos/acme/shop/commits/"+p.HeadSHA+"/check-runs?filter=all", nil); all.num("total_count") != 2 {
		t.Errorf("all: %s", all.body)
	}
}

func TestASuiteKeepsAThousandRunsOfAName(t *testing.T) {
	w := newWorld(t, func(o *githubsim.Options) { o.HourlyLimit = -1 })
	must(t, w.sim.SetWebhook(w.app.ID, "", ""))
	p := w.openPull("feature")
	first := get(w.sim.CreateCheck(w.app.ID, "acme/shop", p.HeadSHA, "noxaudit", "success"))(t)
	for range 1000 {
		get(w.sim.CreateCheck(w.app.ID, "acme/shop", p.HeadSHA, "noxaudit", "success"))(t)
	}
	if n := len(get(w.sim.Checks("acme/shop", p.HeadSHA))(t)); n != 1000 {
		t.Errorf("%d runs", n)
	}
	w.call(404, "GET", fmt.Sprintf("/repos/acme/shop/check-runs/%d", first), nil)
}

func TestAPushOpensASuiteForTheApp(t *testing.T) {
	w := newWorld(t)
	w.openPull("feature")
	if hooks := w.only("check_suite.requested"); len(hooks) != 1 || hooks[0].at("check_suite", "status") != "queued" {
		t.Errorf("%v", names(hooks))
	}
	t.Run("unless the commit says skip-checks", func(t *testing.T) {
		get(w.sim.Push("bob", "acme/shop", "quiet", "Quiet\n\nskip-checks: true", githubsim.Files{"q": "q"}))(t)
		if hooks := w.only("check_suite.requested"); len(hooks) != 0 {
			t.Error("a suite was requested")
		}
	})
	t.Run("unless the App asked for none", func(t *testing.T) {
		w.call(200, "PATCH", "/repos/acme/shop/check-suites/preferences", map[string]any{"auto_trigger_checks": []any{map[string]any{"app_id": w.app.ID, "setting": false}}})
		sha := get(w.sim.Push("bob", "acme/shop", "feature", "More", githubsim.Files{"m": "m"}))(t)
		if hooks := w.only("check_suite.requested"); len(hooks) != 0 {
			t.Error("a suite was requested")
		}
		if n := w.call(200, "GET", "/repos/acme/shop/commits/"+sha+"/check-suites", nil).num("total_count"); n != 0 {
			t.Errorf("%d suites", n)
		}
		w.call(201, "POST", "/repos/acme/shop/check-suites", map[string]any{"head_sha": sha})
	})
}

func TestButtonsAndRerunsReachOnlyTheAppThatMadeTheRun(t *testing.T) {
	w := newWorld(t)
	inbox := newInbox(t)
	other := get(w.sim.CreateApp(githubsim.AppSpec{Owner: "acme", Name: "other", Key: key(), Permissions: permissions, Events: events, WebhookURL: inbox.url, WebhookSecret: secret}))(t)
	get(w.sim.InstallApp("ada", other.ID, "acme"))(t)
	p := w.openPull("feature")
	id := w.call(201, "POST", "/repos/acme/shop/check-runs", map[string]any{"name": "noxaudit", "head_sha": p.HeadSHA, "conclusion": "failure",
		"actions": []any{map[string]string{"label": "Recheck", "description": "Again", "identifier": "recheck"}}}).num("id")
	w.flush()
	w.hooks.take()
	inbox.take()
	must(t, w.sim.RerunCheck("bob", id))
	must(t, w.sim.RerunSuite("bob", "acme/shop", p.HeadSHA, w.app.ID))
	must(t, w.sim.PressButton("bob", id, "recheck"))
	must(t, w.sim.LateSuite("acme/shop", p.HeadSHA))
	if err := w.sim.PressButton("bob", id, "explode"); err == nil {
		t.Error("a button that is not there was pressed")
	}
	if err := w.sim.RerunCheck("eve", id); err == nil {
		t.Error("a stranger re-ran a check")
	}
	w.flush()
	got := w.hooks.take()
	if want := "[check_run.rerequested check_suite.rerequested check_run.requested_action check_suite.requested]"; fmt.Sprint(names(got)) != want {
		t.Errorf("%v, want %s", names(got), want)
	}
	if got[2].at("requested_action", "identifier") != "recheck" || got[2].at("sender", "login") != "bob" {
		t.Errorf("%s", got[2].payload)
	}
	for _, h := range inbox.take() {
		if h.event == "check_run" {
			t.Errorf("the other App got %s", h.action)
		}
	}
}

func TestArchivedChecksNoLongerCount(t *testing.T) {
	w := newWorld(t)
	must(t, w.sim.Protect("ada", "acme/shop", "main", &githubsim.Protection{Required: []githubsim.RequiredCheck{{Context: "noxaudit"}}}))
	p := w.openPull("feature")
	w.check(p.HeadSHA, "success")
	must(t, w.sim.MergeState("acme/shop", 1))
	w.clock.pass(401 * 24 * time.Hour)
	if err := w.sim.MergeState("acme/shop", 1); err == nil {
		t.Error("an archived check still satisfies the requirement")
	}
	w.clock.pass(10 * 24 * time.Hour)
	w.token = w.newToken(nil)
	if n := w.call(200, "GET", "/repos/acme/shop/commits/"+p.HeadSHA+"/check-runs", nil).num("total_count"); n != 0 {
		t.Errorf("%d runs after 411 days", n)
	}
}
