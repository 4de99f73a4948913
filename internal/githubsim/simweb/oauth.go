package simweb

import (
	"net/http"
	"net/url"
	"strings"

	"github.com/noxaudit/noxaudit/internal/githubsim"
)

// wish is what an App asks of the web flow.
type wish struct {
	App                          githubsim.App
	Client, Back, State          string
	Challenge, Method, BackShown string
}

// asked reads and checks the web flow's parameters. Like GitHub it sends people back only to where the App's owner said,
// or to a place below it.
func (w *web) asked(v *visit, q url.Values) (wish, error) {
	a := wish{Client: q.Get("client_id"), Back: q.Get("redirect_uri"), State: q.Get("state"), Challenge: q.Get("code_challenge"), Method: q.Get("code_challenge_method")}
	for _, app := range v.sim.Apps() {
		if app.ClientID == a.Client && a.Client != "" {
			a.App = app
		}
	}
	if a.App.ID == 0 {
		return a, refused{http.StatusNotFound, "No App has this client_id."}
	}
	if a.Back == "" {
		a.Back = a.App.CallbackURL
	}
	back, err := url.Parse(a.Back)
	home, homeErr := url.Parse(a.App.CallbackURL)
	below := err == nil && homeErr == nil && a.App.CallbackURL != "" && back.User == nil && back.Scheme == home.Scheme && back.Host == home.Host &&
		(back.Path == home.Path || strings.HasPrefix(back.Path, strings.TrimSuffix(home.Path, "/")+"/")) && !strings.Contains(back.Path, "..")
	if !below {
		return a, refused{http.StatusUnprocessableEntity, "The redirect_uri is not associated with this application."}
	}
	if a.Challenge != "" && a.Method != "S256" {
		return a, refused{http.StatusUnprocessableEntity, "Only S256 code challenges are taken."}
	}
	a.BackShown = back.Scheme + "://" + back.Host
	return a, nil
}

// authorize asks the visitor whether an App may know who they are.
func (w *web) authorize(v *visit) (*view, error) {
	a, err := w.asked(v, v.URL.Query())
	// Browsers hold the redirect that answers a form against form-action too.
	return &view{page: "authorize", title: "Authorize " + a.App.Slug, body: a, csp: " " + a.BackShown}, err
}

// agree sends the visitor back with a code, or without one.
func (w *web) agree(v *visit) (*view, error) {
	a, err := w.asked(v, v.form)
	if err != nil {
		return nil, err
	}
	back, err := url.Parse(a.Back)
	if err != nil {
		return nil, err
	}
	q := back.Query()
	if a.State != "" {
		q.Set("state", a.State)
	}
	if v.form.Get("agree") == "yes" {
		code, err := v.sim.Grant(v.user, a.Challenge)
		if err != nil {
			return nil, err
		}
		q.Set("code", code)
	} else {
		q.Set("error", "access_denied")
		q.Set("error_description", "The user has denied your application access.")
	}
	back.RawQuery = q.Encode()
	return &view{to: back.String()}, nil
}
