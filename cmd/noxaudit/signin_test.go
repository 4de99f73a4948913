package main

import (
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/noxaudit/noxaudit/internal/name"
	"github.com/noxaudit/noxaudit/ledger"
	"github.com/noxaudit/noxaudit/ledger/sqllog"
	"github.com/noxaudit/noxaudit/server/auth/authtest"
)

// A person signs in at the running server, another is refused, and the signed ledger tells of both.
func TestServeSignsPeopleInAndTheLedgerTellsIt(t *testing.T) {
	h := newHub(t)
	h.stop()
	base := "http://" + h.address
	c := &h.prog.config
	c.Listen, c.BaseURL, c.GitHubClientID, c.GitHubClientSecret = h.address, base, h.app.ClientID, h.app.ClientSecret
	h.must(h.sim.SetCallbacks(h.app.ID, base+"/auth/callback"))
	h.start()

	ada := authtest.New(t, h.sim, base, nil)
	if res := ada.SignIn("ada", "/"); !strings.HasPrefix(res.Request.URL.Path, "/orgs/") || res.StatusCode != http.StatusOK || !strings.Contains(authtest.Text(res), "Organisation health") {
		t.Errorf("ada: %d at %s: %s", res.StatusCode, res.Request.URL, authtest.Text(res))
	}
	if res := authtest.New(t, h.sim, base, nil).SignIn("eve", "/"); res.StatusCode != http.StatusForbidden || !strings.Contains(authtest.Text(res), "as eve") {
		t.Errorf("eve: %d %s", res.StatusCode, authtest.Text(res))
	}
	if res := ada.Do("POST", "/auth/logout", url.Values{}); res.StatusCode != http.StatusOK {
		t.Errorf("sign-out: %d", res.StatusCode)
	}
	deadline := time.Now().Add(40 * time.Second)
	for {
		got := told(t, h, name.Deployment)
		if strings.Contains(got, "session.opened") && strings.Contains(got, "session.refused") && strings.Contains(got, "session.ended") {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("the ledger tells: %s", got)
		}
		time.Sleep(50 * time.Millisecond)
	}
	h.stop()
	if code := h.command("ledger", "verify", "--account", "deployment"); code != exitPassed {
		t.Errorf("verify: %d", code)
	}
}

// told are the types of the entries in a log of the ledger.
func told(t *testing.T, h *hub, account name.Account) string {
	t.Helper()
	log, err := sqllog.OpenReadOnly(t.Context(), h.prog.config.LedgerDSN(), h.prog.config.Deployment)
	h.must(err)
	defer log.Close()
	var types []string
	for line, err := range log.For(account).Lines(t.Context(), 0, 1<<40) {
		h.must(err)
		parsed, err := ledger.ParseLine(line.Line)
		h.must(err)
		types = append(types, parsed.Event.Type)
	}
	return strings.Join(types, " ")
}
