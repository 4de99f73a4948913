// Package web serves the report pages: server-rendered HTML with one style sheet, no script, and no state of its
// own. A GET never writes, and nothing else than GET and HEAD is served.
//
// # Addresses
//
//	/                                                  the accounts that the reader sees
//	/orgs/{login}                                      an account at one look
//	/orgs/{login}/repositories · /findings · /waivers · /waivers/{W-…} · /ledger · /find?q=
//	/orgs/{login}/repositories/{name}                  a repository
//	/orgs/{login}/repositories/{name}/pulls/{number} · /commits/{sha} · /verdicts/{V-…} · /findings/{NX-…}
//	/assets/…                                          style sheet and icon, by the hash of their content
//
// Names change and ids do not: "~" and an id stand for a name ("/orgs/~583231/repositories/~1296269/…") and are
// what other systems should keep; CommitPath and its sisters make them. A reader is led on to the current name, from an id and
// from an earlier name alike.
//
// # Who sees what
//
// Every request is decided in one place (see allow): nobody signed in gets the sign-in page whatever the address,
// and what a reader may not see is as absent as what does not exist.
package web

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"time"

	"github.com/rs/zerolog"

	"github.com/noxaudit/noxaudit/internal/access"
	"github.com/noxaudit/noxaudit/internal/name"
	"github.com/noxaudit/noxaudit/internal/store"
	"github.com/noxaudit/noxaudit/report/figures"
)

// Options are what the pages are made of.
type Options struct {
	Figures   *figures.Figures
	Person    func(context.Context) (p access.Person, signedIn bool) // who makes a request
	SignIn    string                                                 // path that begins signing in; "next" is added to it. "": there is none, and pages say so
	SignOut   string                                                 // path that a form is posted to, to sign out; "": none
	BaseURL   string                                                 // under which people reach this server, for the footer
	GitHubURL string                                                 // "https://github.com"; "" leaves the links to it out
	Version   string
	Log       zerolog.Logger
}

// Web serves the pages.
type Web struct {
	o      Options
	mux    *http.ServeMux
	github string // GitHubURL, checked
}

// New makes the pages. It fails on an address that is none.
func New(o Options) (*Web, error) {
	h := &Web{o: o, mux: http.NewServeMux()}
	if o.GitHubURL != "" {
		u, err := url.Parse(o.GitHubURL)
		if err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Host == "" {
			return nil, fmt.Errorf("GitHub's address %q: want https:// and a host", o.GitHubURL)
		}
		h.github = strings.TrimSuffix(u.String(), "/")
	}
	h.mux.HandleFunc("GET /assets/{file}", h.asset)
	h.mux.HandleFunc("GET /{$}", h.page(nobodys, h.accounts))
	for path, p := range map[string]struct {
		need scope
		show show
	}{
		"":                                    {some, h.overview},
		"/repositories":                       {some, h.repositories},
		"/findings":                           {whole, h.findings},
		"/waivers":                            {whole, h.waivers},
		"/waivers/{waiver}":                   {some, h.waiver},
		"/ledger":                             {record, h.ledger},
		"/find":                               {some, h.find},
		"/repositories/{repo}":                {one, h.repository},
		"/repositories/{repo}/pulls/{number}": {one, h.pull},
		"/repositories/{repo}/commits/{sha}":  {one, h.commit},
		"/repositories/{repo}/verdicts/{verdict}": {one, h.verdict},
		"/repositories/{repo}/findings/{finding}": {one, h.finding},
	} {
		h.mux.HandleFunc("GET /orgs/{account}"+path, h.page(p.need, p.show))
	}
	return h, nil
}

// CommitPath is the lasting address of a commit's page, for the details link of a check run.
func CommitPath(account name.Account, repository string, sha name.Commit) string {
	return "/orgs/~" + url.PathEscape(account.String()) + "/repositories/~" + url.PathEscape(repository) + "/commits/" + sha.String()
}

// FindingPath is the lasting address of a finding's page.
func FindingPath(account name.Account, repository, id string) string {
	return "/orgs/~" + url.PathEscape(account.String()) + "/repositories/~" + url.PathEscape(repository) + "/findings/" + url.PathEscape(id)
}

// WaiverPath is the lasting address of a waiver's page.
func WaiverPath(account name.Account, id string) string {
	return "/orgs/~" + url.PathEscape(account.String()) + "/waivers/" + url.PathEscape(id)
}

// headers are on every answer. Nothing may be loaded but the style sheet and the icon; forms go nowhere but here.
var headers = map[string]string{
	"Content-Security-Policy":      "default-src 'none'; style-src 'self'; img-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
	"X-Content-Type-Options":       "nosniff",
	"X-Frame-Options":              "DENY",
	"Referrer-Policy":              "no-referrer",
	"Cross-Origin-Opener-Policy":   "same-origin",
	"Cross-Origin-Resource-Policy": "same-origin",
	"Permissions-Policy":           "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
	"X-Robots-Tag":                 "noindex, nofollow",
	"Cache-Control":                "no-store",
}

// Secure sets the headers that every page has.
func Secure(header http.Header) {
	for k, v := range headers {
		header.Set(k, v)
	}
}

func (h *Web) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	Secure(w.Header())
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		w.Header().Set("Allow", "GET, HEAD")
		h.message(w, r, http.StatusMethodNotAllowed, "Pages are only read", "This address answers GET and HEAD. Decisions are made in pull requests, on the command line or through the API.")
		return
	}
	_, pattern := h.mux.Handler(r)
	if pattern == "" || len(r.URL.Path) > 2048 || len(r.URL.RawQuery) > 4096 {
		h.NotFound(w, r)
		return
	}
	h.mux.ServeHTTP(w, r)
}

// scope is what of an account a page is about.
type scope uint8

const (
	nobodys scope = iota // no account
	whole                // all of it
	record               // its ledger
	some                 // all of it, or those of its repositories that the reader sees
	one                  // one repository
)

// request is a request that was allowed.
type request struct {
	*http.Request
	person  access.Person
	account figures.Account
	all     bool              // the reader sees the whole account
	repo    *store.Repository // of scope one
}

type show func(w http.ResponseWriter, r *request) error

// errRefused: the reader may not know whether there is such a thing.
var errRefused = errors.New("not for this reader")

// page decides and then shows. Whatever a page cannot find is not there.
func (h *Web) page(need scope, show show) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		person, signedIn := h.o.Person(r.Context())
		if !signedIn {
			h.SignIn(w, r, "")
			return
		}
		q, err := h.allow(r, person, need)
		if err == nil {
			if to := h.canonical(q); to != "" {
				http.Redirect(w, r, to, http.StatusFound) // not for ever: a name can be given to something else
				return
			}
			err = show(w, q)
		}
		switch {
		case err == nil:
		case errors.Is(err, errRefused), errors.Is(err, figures.ErrNotFound):
			h.NotFound(w, r)
		case r.Context().Err() != nil: // the reader left
		case errors.Is(err, store.ErrUnavailable):
			h.o.Log.Warn().Err(err).Str("path", r.URL.Path).Msg("page")
			w.Header().Set("Retry-After", "10")
			h.message(w, r, http.StatusServiceUnavailable, "The database does not answer", "Nothing is lost: what is recorded stays recorded, and checks go on when it is back. Try again in a minute.")
		default:
			h.o.Log.Error().Err(err).Str("path", r.URL.Path).Msg("page")
			h.message(w, r, http.StatusInternalServerError, "This page could not be made", "The cause is in the server's log. What is recorded is not touched by it: \"noxaudit ledger verify\" tells whether the record is whole.")
		}
	}
}

// allow is where it is decided who sees what: access.Can is asked before anything of the account is shown, and before
// the address is answered with what it is called now.
func (h *Web) allow(r *http.Request, person access.Person, need scope) (*request, error) {
	q := &request{Request: r, person: person}
	if need == nobodys {
		return q, nil
	}
	var err error
	if q.account, err = h.accountOf(r); err != nil {
		return nil, err
	}
	on := access.On{Account: q.account.ID}
	action := map[scope]access.Action{whole: access.SeeOrganization, record: access.SeeLedger, some: access.SeeAccount, one: access.SeeRepository}[need]
	if need == one {
		repo, err := h.repositoryOf(r, q.account.ID)
		if err != nil {
			return nil, err
		}
		q.repo, on.Repository = &repo, repo.ID
	}
	if !access.Can(person, action, on) {
		return nil, errRefused
	}
	q.all = access.Can(person, access.SeeOrganization, access.On{Account: q.account.ID})
	return q, nil
}

// title is what the account is called; before anything was recorded that names it, what GitHub said at the sign-in.
func (q *request) title() string {
	return cmp.Or(q.account.Login, q.person.In(q.account.ID).Login, q.account.ID.String())
}

// sees is for lists of which the reader sees a part.
func (q *request) sees(repository string) bool {
	return access.Can(q.person, access.SeeRepository, access.On{Account: q.account.ID, Repository: repository})
}

func (h *Web) accountOf(r *http.Request) (figures.Account, error) {
	segment := r.PathValue("account")
	if id, ok := strings.CutPrefix(segment, "~"); ok {
		account, err := name.ParseAccount(id)
		if err != nil {
			return figures.Account{}, errRefused
		}
		return h.o.Figures.Account(r.Context(), account)
	}
	return h.o.Figures.AccountByLogin(r.Context(), segment)
}

func (h *Web) repositoryOf(r *http.Request, account name.Account) (store.Repository, error) {
	segment := r.PathValue("repo")
	if id, ok := strings.CutPrefix(segment, "~"); ok {
		return h.o.Figures.Repository(r.Context(), account, id)
	}
	return h.o.Figures.RepositoryByName(r.Context(), account, segment)
}

// plainName is a name that can stand in an address as it is.
var plainName = regexp.MustCompile(`^[A-Za-z0-9_-][A-Za-z0-9._-]{0,99}$`)

func accountSegment(a figures.Account) string {
	if plainName.MatchString(a.Login) {
		return a.Login
	}
	return "~" + url.PathEscape(a.ID.String())
}

func repositorySegment(r store.Repository) string {
	if n := r.ShortName(); plainName.MatchString(n) {
		return n
	}
	return "~" + url.PathEscape(r.ID)
}

// canonical is where the reader is led on to: the same page under the current names. "" when it is there already.
func (h *Web) canonical(q *request) string {
	if q.account.ID.IsZero() {
		return ""
	}
	parts := strings.SplitN(q.URL.EscapedPath(), "/", 6) // "", orgs, account, repositories, repo, rest
	changed := false
	if want := accountSegment(q.account); parts[2] != want {
		parts[2], changed = want, true
	}
	if q.repo != nil && len(parts) > 4 {
		want := repositorySegment(*q.repo)
		if want != parts[4] {
			// Of two repositories that had one name, only one is found by it: the other stays under its id.
			if named, err := h.o.Figures.RepositoryByName(q.Context(), q.account.ID, want); err == nil && named.ID == q.repo.ID {
				parts[4], changed = want, true
			}
		}
	}
	if !changed {
		return ""
	}
	to := strings.Join(parts, "/")
	if q.URL.RawQuery != "" {
		to += "?" + q.URL.RawQuery
	}
	return to
}

// base is the address of the account's pages.
func base(a figures.Account) string { return "/orgs/" + accountSegment(a) }

func repoPath(a figures.Account, r store.Repository) string {
	return base(a) + "/repositories/" + repositorySegment(r)
}

// NotFound is the page for what is not there, and for what the reader may not see.
func (h *Web) NotFound(w http.ResponseWriter, r *http.Request) {
	Secure(w.Header())
	h.message(w, r, http.StatusNotFound, "There is nothing here", "The address is wrong, what it named is gone, or it is not yours to see. Reports are for owners of an organisation and admins of a repository.")
}

// Message is a page with a sentence and, unless it is "", a way on; it sets the status.
func (h *Web) Message(w http.ResponseWriter, r *http.Request, status int, heading, text, link, linkText string) {
	Secure(w.Header())
	v := messageView{frame: h.frame(r, nil, heading), Heading: heading, Text: text, Icon: "none", Button: linkText, Address: link}
	if status >= 500 {
		v.Icon = "broken"
	} else if status == http.StatusForbidden || status == http.StatusUnauthorized {
		v.Icon = "lock"
	}
	if link == "" {
		v.Button = ""
	}
	render(h, w, r, status, messagePage, v)
}

// Question is a page that asks: two buttons that post Fields and answer=yes or answer=no to Action.
type Question struct {
	Heading string
	Text    []string
	Action  string
	Fields  [][2]string // names and values
	Yes, No string
}

// Ask shows a question of whoever serves Action.
func (h *Web) Ask(w http.ResponseWriter, r *http.Request, q Question) {
	Secure(w.Header())
	render(h, w, r, http.StatusOK, messagePage, messageView{frame: h.frame(r, nil, q.Heading), Heading: q.Heading, Icon: "lock", Question: &q})
}

// SignIn is the page for nobody in particular; note is a sentence, "" for none.
func (h *Web) SignIn(w http.ResponseWriter, r *http.Request, note string) {
	Secure(w.Header())
	next := r.URL.RequestURI()
	if !strings.HasPrefix(next, "/") || strings.HasPrefix(next, "//") {
		next = "/"
	}
	v := messageView{frame: h.frame(r, nil, "Sign in"), Heading: "Sign in to see reports", Icon: "lock", Text: note}
	if v.Text == "" {
		v.Text = "Reports are for owners of an organisation and admins of its repositories. GitHub says who you are; nothing is stored there."
	}
	if h.o.SignIn != "" {
		v.Button, v.Address = "Sign in with GitHub", h.o.SignIn+"?next="+url.QueryEscape(next)
	} else {
		v.Text += " This server has no sign-in: set NOXAUDIT_GITHUB_CLIENT_ID and NOXAUDIT_GITHUB_CLIENT_SECRET."
	}
	render(h, w, r, http.StatusUnauthorized, messagePage, v)
}

func (h *Web) message(w http.ResponseWriter, r *http.Request, status int, heading, text string) {
	v := messageView{frame: h.frame(r, nil, heading), Heading: heading, Text: text, Icon: "none"}
	if status >= 500 {
		v.Icon = "broken"
	}
	if v.Who != "" {
		v.Button, v.Address, v.Plain = "To your organisations", "/", true
	}
	render(h, w, r, status, messagePage, v)
}

// render makes the whole page before the first byte leaves, so that a page is whole or an error.
func render[T any](h *Web, w http.ResponseWriter, r *http.Request, status int, p page[T], view T) {
	var b bytes.Buffer
	if err := p.template.ExecuteTemplate(&b, "layout", view); err != nil {
		h.o.Log.Error().Err(err).Str("path", r.URL.Path).Msg("template")
		http.Error(w, "This page could not be made. The cause is in the server's log.", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.WriteHeader(status)
	if r.Method != http.MethodHead {
		_, _ = w.Write(visible(b.Bytes())) // the reader is gone: nobody is left to tell
	}
}

// now is the clock of the figures.
func (h *Web) now() time.Time { return h.o.Figures.Now() }
