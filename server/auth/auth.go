// Package auth signs people in with GitHub and says, at every request, who they are and what they may reach.
//
// Sign-in is the OAuth web flow of the GitHub App, with a state that is bound to the browser, good once and for ten
// minutes, and PKCE (S256). What a person may reach is asked of GitHub with the person's own token, at sign-in and again
// whenever the answer is older than [Limits.Fresh]; a person without a role in any account is refused.
//
// A session is a random token in a cookie. The store holds its SHA-256, and GitHub's token encrypted under a key that
// is derived from the cookie's token: neither the database alone nor the process between requests can use it.
//
//	a, err := auth.New(auth.Options{…})
//	mux.Handle("/auth/", a.Handler())
//	mux.Handle("/", a.Require(pages))      // access.Can(auth.Person(r.Context()), …) inside
//
// Another way to sign in (OIDC, SAML) ends where GitHub's does, in a session: it has its own front and its own
// [Rights]; sessions, limits, refusals and entries stay as they are.
package auth

import (
	"context"
	"crypto/hkdf"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/rs/zerolog"
	"golang.org/x/oauth2"
	"golang.org/x/sync/singleflight"

	"github.com/noxaudit/noxaudit/internal/access"
	"github.com/noxaudit/noxaudit/internal/name"
	"github.com/noxaudit/noxaudit/internal/store"
)

// Rights says who a credential belongs to and what that person may reach; see internal/github.
type Rights interface {
	// Person returns access.ErrSignInEnded for a credential that is not taken any more; any other error means that
	// it could not be found out now.
	Person(ctx context.Context, credential string) (access.Person, error)
	// Forget makes the source forget a credential, as well as it can.
	Forget(ctx context.Context, credential string) error
}

// Limits bound sign-ins and sessions. The zero value of a field is its default.
type Limits struct {
	Idle      time.Duration // a session that is not used ends after; 30 min. Use is noted once a minute
	Absolute  time.Duration // a session ends after, however much it is used; 12 h, and never after GitHub's token (8 h)
	Fresh     time.Duration // what GitHub says a person may do is asked again after; 3 min
	Grace     time.Duration // how long the last answer holds while GitHub cannot be asked; 15 min
	SignIn    time.Duration // from the redirect to GitHub to the way back; 10 min
	PerPerson int           // sessions of one person at a time, the oldest ends; 10, since GitHub drops the tokens of more
}

func (l Limits) withDefaults() Limits {
	for _, d := range []struct {
		field *time.Duration
		value time.Duration
	}{
		{&l.Idle, 30 * time.Minute}, {&l.Absolute, 12 * time.Hour}, {&l.Fresh, 3 * time.Minute}, {&l.Grace, 15 * time.Minute}, {&l.SignIn, 10 * time.Minute},
	} {
		if *d.field <= 0 {
			*d.field = d.value
		}
	}
	if l.PerPerson <= 0 {
		l.PerPerson = 10
	}
	return l
}

// Options are what sign-in is made of.
type Options struct {
	Store                  *store.Store
	Rights                 Rights
	ClientID, ClientSecret string                                                   // of the GitHub App
	BaseURL                string                                                   // where people reach this server: https, or http on this machine; no path
	GitHubWebURL           string                                                   // "https://github.com" (the default) or "https://HOST"
	Pages                  Pages                                                    // nil: plain ones
	Ask                    func(w http.ResponseWriter, r *http.Request, q Question) // shows a question; nil: plainly
	Limits                 Limits                                                   //
	Transport              http.RoundTripper                                        // to GitHub; http.DefaultTransport
	Now                    func() time.Time                                         // time.Now
	Rand                   io.Reader                                                // of tokens: must be cryptographic; required
	Log                    zerolog.Logger
}

// Auth signs people in. It is safe for concurrent use. Making one calls nobody.
type Auth struct {
	opts    Options
	limits  Limits
	oauth   oauth2.Config
	http    *http.Client
	secure  bool   // cookies over https only
	web     string // GitHub's origin
	flowKey []byte // of cookies of sign-ins under way
	home    *store.Tenant
	cross   *http.CrossOriginProtection
	mux     *http.ServeMux

	asking singleflight.Group // by session
	busy   chan struct{}      // sign-ins that are asking GitHub
	failed memory             // sessions whose rights could not be asked for
	used   memory             // sign-ins that came back
	strangers
}

// signInsAtOnce bounds what strangers make this server ask of GitHub.
const signInsAtOnce = 32

// callTimeout bounds all that is asked of GitHub within one request.
const callTimeout = 10 * time.Second

// New checks the options.
func New(o Options) (*Auth, error) {
	if o.ClientID == "" || o.ClientSecret == "" {
		return nil, errors.New("sign-in: NOXAUDIT_GITHUB_CLIENT_ID and NOXAUDIT_GITHUB_CLIENT_SECRET are required; both are on the App's settings page")
	}
	base, err := url.Parse(strings.TrimSuffix(o.BaseURL, "/"))
	switch {
	case o.BaseURL == "":
		return nil, errors.New("sign-in: NOXAUDIT_BASE_URL is required: GitHub sends people back to it")
	case err != nil || base.Host == "" || base.Path != "" || base.RawQuery != "" || base.Fragment != "" || base.User != nil:
		return nil, errors.New("sign-in: NOXAUDIT_BASE_URL: want https://HOST, without a path")
	case base.Scheme == "http" && !loopback(base.Hostname()), base.Scheme != "http" && base.Scheme != "https":
		return nil, errors.New("sign-in: NOXAUDIT_BASE_URL: want https: over http anybody on the way could take over a session; http is for this machine only")
	}
	if o.GitHubWebURL == "" {
		o.GitHubWebURL = "https://github.com"
	}
	web, err := url.Parse(strings.TrimSuffix(o.GitHubWebURL, "/"))
	if err != nil || web.Host == "" || web.Scheme != "https" && web.Scheme != "http" || web.User != nil || web.RawQuery != "" {
		return nil, errors.New("sign-in: NOXAUDIT_GITHUB_WEB_URL: want https://HOST")
	}
	if o.Store == nil || o.Rights == nil || o.Rand == nil {
		return nil, errors.New("sign-in: a store, a source of rights and a random source are required")
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Transport == nil {
		o.Transport = http.DefaultTransport
	}
	if o.Pages == nil {
		o.Pages = plainPages
	}
	if o.Ask == nil {
		o.Ask = askPlainly
	}
	// Derived from a secret that every replica has, and the database has not.
	key, err := hkdf.Key(sha256.New, []byte(o.ClientSecret), nil, "noxaudit sign-in flow", 32)
	if err != nil {
		return nil, fmt.Errorf("sign-in: %w", err)
	}
	a := &Auth{
		opts: o, limits: o.Limits.withDefaults(), secure: base.Scheme == "https", flowKey: key, home: o.Store.For(name.Deployment), web: web.Scheme + "://" + web.Host,
		oauth: oauth2.Config{
			ClientID: o.ClientID, ClientSecret: o.ClientSecret, RedirectURL: base.String() + "/auth/callback",
			Endpoint: oauth2.Endpoint{AuthURL: web.String() + "/login/oauth/authorize", TokenURL: web.String() + "/login/oauth/access_token", AuthStyle: oauth2.AuthStyleInParams},
		},
		http: &http.Client{
			Transport: asJSON{o.Transport}, Timeout: callTimeout,
			// The client secret goes to GitHub's own address and nowhere else.
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
		cross: http.NewCrossOriginProtection(), busy: make(chan struct{}, signInsAtOnce),
	}
	// Behind a proxy the Host header may be another one.
	if err := a.cross.AddTrustedOrigin(base.String()); err != nil {
		return nil, fmt.Errorf("sign-in: NOXAUDIT_BASE_URL: %w", err)
	}
	a.mux = http.NewServeMux()
	a.mux.HandleFunc("GET /auth/login", a.login)
	a.mux.HandleFunc("GET /auth/callback", a.callback)
	a.mux.HandleFunc("POST /auth/logout", a.logout)
	a.mux.Handle("POST /auth/sessions/end", a.Require(http.HandlerFunc(a.end)))
	a.mux.Handle("GET /auth/cli", a.Require(http.HandlerFunc(a.confirmCLI)))
	a.mux.Handle("POST /auth/cli", a.Require(http.HandlerFunc(a.agreeCLI)))
	a.mux.HandleFunc("POST /auth/cli/token", a.exchangeCLI)
	a.mux.HandleFunc("POST /auth/cli/logout", a.endCLI)
	return a, nil
}

func loopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || strings.HasSuffix(host, ".localhost") || ip != nil && ip.IsLoopback()
}

// asJSON asks GitHub for JSON, which carries what a form answer does not: when the token ends, as a number.
type asJSON struct{ http.RoundTripper }

func (t asJSON) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	r.Header.Set("Accept", "application/json")
	r.Header.Set("User-Agent", "noxaudit")
	return t.RoundTripper.RoundTrip(r)
}

// Handler serves /auth/login, /auth/callback, /auth/logout, /auth/sessions/end, and /auth/cli with what is below it.
func (a *Auth) Handler() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Cache-Control", "no-store")
		h.Set("Referrer-Policy", "no-referrer") // the address holds a code
		h.Set("X-Content-Type-Options", "nosniff")
		if a.crossSite(w, r) {
			return
		}
		a.mux.ServeHTTP(w, r)
	})
}

// crossSite refuses what another site makes a browser send, and reports whether it did.
func (a *Auth) crossSite(w http.ResponseWriter, r *http.Request) bool {
	if a.cross.Check(r) == nil {
		return false
	}
	a.opts.Pages(w, r, Page{Status: http.StatusForbidden, Title: "Sent by another site",
		Sentence: "This request was sent by a page of another site, so nothing was done. Open noxaudit itself and try it there."})
	return true
}

// Prune removes sessions that are over; every sign-in does so too. It is for a round that comes now and then.
func (a *Auth) Prune(ctx context.Context) error {
	for {
		if n, err := a.home.PruneSessions(ctx, a.opts.Now(), pruneRows); err != nil || n < pruneRows {
			return err
		}
	}
}

// Current is who makes a request.
type Current struct {
	access.Person
	Session string    // its id
	Checked time.Time // when GitHub said what the person may do
}

type currentKey struct{}

// From is who makes the request of this context, below Require.
func From(ctx context.Context) (Current, bool) {
	c, ok := ctx.Value(currentKey{}).(Current)
	return c, ok
}

// Person is From for access.Can: nobody, who may do nothing, when there is none.
func Person(ctx context.Context) access.Person {
	c, _ := From(ctx)
	return c.Person
}

// Require lets signed-in people through, and puts who they are into the request's context. Others who open a page are
// sent to sign in and come back; everything else of theirs is refused with 401. A request that changes something is
// refused when another site caused it. What comes through is not stored by browsers or proxies unless next says so.
func (a *Auth) Require(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "no-store")
		w.Header().Add("Vary", "Cookie")
		if a.crossSite(w, r) {
			return
		}
		c, err := a.current(r.Context(), r)
		switch {
		case err == nil:
			next.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), currentKey{}, c)))
		case errors.Is(err, errNobody):
			a.askToSignIn(w, r)
		default:
			a.refuse(w, r, err)
		}
	})
}

func (a *Auth) askToSignIn(w http.ResponseWriter, r *http.Request) {
	safe := r.Method == http.MethodGet || r.Method == http.MethodHead
	if dest := r.Header.Get("Sec-Fetch-Dest"); safe && (dest == "" || dest == "document") {
		http.Redirect(w, r, "/auth/login?next="+url.QueryEscape(safeNext(r.URL.RequestURI())), http.StatusSeeOther)
		return
	}
	a.opts.Pages(w, r, Page{Status: http.StatusUnauthorized, Title: "Not signed in",
		Sentence: "You are not signed in, or your session is over, so nothing was done. Sign in and try again.", Link: "/auth/login", LinkText: "Sign in with GitHub"})
}

// refuse shows an error of current or of a sign-in.
func (a *Auth) refuse(w http.ResponseWriter, r *http.Request, err error) {
	var p *refusal
	if !errors.As(err, &p) {
		a.opts.Log.Error().Err(err).Msg("sign-in")
		p = &refusal{Page: Page{Status: http.StatusServiceUnavailable, Title: "Not now",
			Sentence: "noxaudit could not reach its database, so it does not know who you are. Try again in a minute."}}
	}
	if p.Status == http.StatusServiceUnavailable {
		w.Header().Set("Retry-After", "30")
	}
	if p.forget {
		a.setCookie(w, a.sessionCookie(), "", -1)
	}
	a.opts.Pages(w, r, p.Page)
}

// refusal is an error with its page.
type refusal struct {
	Page
	forget bool // the session's cookie is of no use any more
}

func (r *refusal) Error() string { return r.Title + ": " + r.Sentence }

// memory remembers keys for a time, and no more than so many. Its zero value is ready.
type memory struct {
	mu   sync.Mutex
	keys map[string]time.Time // until
}

const memoryKeys = 50_000

// add remembers a key until then, and reports whether it was remembered already.
func (m *memory) add(key string, now, until time.Time) (known bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.keys[key].After(now) {
		return true
	}
	if len(m.keys) >= memoryKeys {
		for k, t := range m.keys {
			if !t.After(now) {
				delete(m.keys, k)
			}
		}
		for k := range m.keys { // still full: some are forgotten early
			if len(m.keys) < memoryKeys {
				break
			}
			delete(m.keys, k)
		}
	}
	if m.keys == nil {
		m.keys = map[string]time.Time{}
	}
	m.keys[key] = until
	return false
}

func (m *memory) has(key string, now time.Time) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.keys[key].After(now)
}

func (m *memory) drop(key string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.keys, key)
}
