package simweb

import (
	"net/http"
	"net/url"
	"slices"

	"github.com/noxaudit/noxaudit/internal/githubsim"
)

// wish is what an App asks of the web flow.
type wish struct {
	App   githubsim.App
	Query map[string]string // the parameters, for the form to send along
	Site  string            // where the visitor is sent afterwards
	back  *url.URL
}

// asked reads the web flow's parameters. Like GitHub it sends people back only to where the App's owner said.
func (w *web) asked(v *visit, q url.Values) (wish, error) {
	a := wish{Query: map[string]string{}}
	for _, name := range []string{"client_id", "redirect_uri", "state", "code_challenge", "code_challenge_method"} {
		if q.Has(name) {
			a.Query[name] = q.Get(name)
		}
	}
	for _, app := range v.sim.Apps() {
		if app.ClientID == q.Get("client_id") {
			a.App = app
		}
	}
	if a.App.ID == 0 {
		return a, refused{http.StatusNotFound, "No App has this client_id."}
	}
	to := q.Get("redirect_uri")
	if to == "" && len(a.App.CallbackURLs) > 0 {
		to = a.App.CallbackURLs[0]
	}
	back, err := url.Parse(to)
	if err != nil || !slices.Contains(a.App.CallbackURLs, to) {
		return a, refused{http.StatusUnprocessableEntity, "The redirect_uri is not associated with this application."}
	}
	if q.Get("code_challenge") != "" && q.Get("code_challenge_method") != "S256" {
		return a, refused{http.StatusUnprocessableEntity, "Only S256 code challenges are taken."}
	}
	a.back, a.Site = back, back.Scheme+"://"+back.Host
	return a, nil
}

// authorize asks the visitor whether an App may know who they are.
func (w *web) authorize(v *visit) (*view, error) {
	a, err := w.asked(v, v.URL.Query())
	// Browsers hold the redirect that answers a form against form-action too.
	return &view{page: "authorize", title: "Authorize " + a.App.Slug, body: a, csp: " " + a.Site}, err
}

// agree sends the visitor back with a code, or without one.
func (w *web) agree(v *visit) (*view, error) {
	a, err := w.asked(v, v.form)
	if err != nil {
		return nil, err
	}
	if v.form.Get("agree") == "yes" {
		to, err := v.sim.Agree(v.user, v.form)
		return &view{to: to}, err
	}
	q := a.back.Query()
	q.Set("error", "access_denied")
	q.Set("error_description", "The user has denied your application access.")
	if state := v.form.Get("state"); state != "" {
		q.Set("state", state)
	}
	a.back.RawQuery = q.Encode()
	return &view{to: a.back.String()}, nil
}
