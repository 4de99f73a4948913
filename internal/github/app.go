package github

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/bradleyfalzon/ghinstallation/v2"
	"github.com/golang-jwt/jwt/v4"
	gogithub "github.com/google/go-github/v62/github"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"

	"github.com/noxaudit/noxaudit/checks/gate"
)

// AppOptions say which GitHub App this is and how it reaches GitHub.
type AppOptions struct {
	ID            int64             // of the App; required
	PrivateKeyPEM []byte            // RSA, as GitHub hands it out; required
	APIURL        string            // "https://api.github.com" (the default) or "https://HOST/api/v3"
	WebURL        string            // "https://github.com" (the default) or "https://HOST": git and pages
	UserAgent     string            // "noxaudit"
	Transport     http.RoundTripper // a tuned copy of net/http's default
	Pace          Pace
	Now           func() time.Time                                 // time.Now
	Sleep         func(ctx context.Context, d time.Duration) error // a timer; ctx.Err() when ctx ends first. Now moves on by d meanwhile
	Log           zerolog.Logger
	Registerer    prometheus.Registerer // nil: counted, not registered
}

// App is one GitHub App: [gate.Publisher], [gate.Forge], and the tokens for git. It is safe for concurrent use.
// Making one calls nobody: GitHub may be down when noxaudit starts.
type App struct {
	id       int64
	api, web *url.URL
	opts     AppOptions
	metrics  *metrics
	asApp    *gogithub.Client // proves itself with a JWT

	mu     sync.Mutex
	tenant map[int64]*tenant // by installation

	runs *memory // what was learnt about check runs lately
}

var (
	_ gate.Publisher = (*App)(nil)
	_ gate.Forge     = (*App)(nil)
)

// NewApp checks the options and parses the key, once.
func NewApp(o AppOptions) (*App, error) {
	if o.ID <= 0 {
		return nil, errors.New("github app: no id; set NOXAUDIT_GITHUB_APP_ID to the number on the App's settings page")
	}
	key, err := jwt.ParseRSAPrivateKeyFromPEM(o.PrivateKeyPEM)
	if err != nil {
		// What was read is not repeated: it may be half a key.
		return nil, errors.New("github app: the private key is not an RSA key in PEM form; download one from the App's settings page")
	}
	api, err := address(o.APIURL, "https://api.github.com")
	if err != nil {
		return nil, fmt.Errorf("github app: API address: %w", err)
	}
	web, err := address(o.WebURL, "https://github.com")
	if err != nil {
		return nil, fmt.Errorf("github app: web address: %w", err)
	}
	if o.UserAgent == "" {
		o.UserAgent = "noxaudit"
	}
	if o.Transport == nil {
		t := http.DefaultTransport.(*http.Transport).Clone()
		t.MaxIdleConnsPerHost = 32
		o.Transport = t
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Sleep == nil {
		o.Sleep = sleep
	}
	m, err := newMetrics(o.Registerer)
	if err != nil {
		return nil, err
	}
	a := &App{id: o.ID, api: api, web: web, opts: o, metrics: m, tenant: map[int64]*tenant{}, runs: newMemory(4096)}
	signer := &appSigner{rsa: ghinstallation.NewRSASigner(jwt.SigningMethodRS256, key), now: o.Now}
	proving, err := ghinstallation.NewAppsTransportWithOptions(o.Transport, o.ID, ghinstallation.WithSigner(signer))
	if err != nil {
		return nil, fmt.Errorf("github app: %w", err)
	}
	t := a.transport("app")
	t.base = proving
	a.asApp = a.client(t)
	return a, nil
}

// address parses a base address; the path, if any, ends in a slash.
func address(s, fallback string) (*url.URL, error) {
	if s == "" {
		s = fallback
	}
	u, err := url.Parse(s)
	if err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		return nil, errors.New("want https://HOST, with a path at most")
	}
	u.Path = strings.TrimSuffix(u.Path, "/") + "/"
	return u, nil
}

// appSigner puts its own times into the App's JWT: valid from a minute ago, because clocks differ, for nine
// minutes, because GitHub takes at most ten.
type appSigner struct {
	rsa ghinstallation.Signer
	now func() time.Time
}

func (s *appSigner) Sign(claims jwt.Claims) (string, error) {
	c, ok := claims.(*jwt.RegisteredClaims)
	if !ok {
		return "", fmt.Errorf("jwt: unknown claims %T", claims)
	}
	issued := s.now().Add(-time.Minute).Truncate(time.Second)
	return s.rsa.Sign(&jwt.RegisteredClaims{
		Issuer:    c.Issuer,
		IssuedAt:  jwt.NewNumericDate(issued),
		ExpiresAt: jwt.NewNumericDate(issued.Add(9 * time.Minute)),
	})
}

func (a *App) transport(bucket string) *transport {
	return &transport{
		agent: a.opts.UserAgent, base: a.opts.Transport, host: a.api, bucket: bucket,
		limiter: newLimiter(a.opts.Pace, a.opts.Now, a.opts.Sleep),
		metrics: a.metrics, log: a.opts.Log, now: a.opts.Now, sleep: a.opts.Sleep,
	}
}

func (a *App) client(t http.RoundTripper) *gogithub.Client {
	c := gogithub.NewClient(&http.Client{
		Transport: quiet{t},
		// The transport follows what may be followed; net/http would turn a POST into a GET.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	})
	c.BaseURL, c.UserAgent = a.api, a.opts.UserAgent
	return c
}

// quiet hides the rate-limit headers from go-github, which would stop calling on its own account and by the wall
// clock. The limiter has read them.
type quiet struct{ http.RoundTripper }

func (q quiet) RoundTrip(r *http.Request) (*http.Response, error) {
	resp, err := q.RoundTripper.RoundTrip(r)
	if err == nil {
		for _, h := range []string{"X-RateLimit-Limit", "X-RateLimit-Remaining", "X-RateLimit-Reset"} {
			resp.Header.Del(h)
		}
	}
	return resp, err
}

// CloneURL is where git finds the repository; it holds no credential.
func (a *App) CloneURL(o gate.Origin) string {
	return a.web.String() + url.PathEscape(o.Owner) + "/" + url.PathEscape(o.Name) + ".git"
}
