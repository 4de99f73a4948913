package github

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"time"

	gogithub "github.com/google/go-github/v62/github"
)

// renewBefore is how long before its end a token is not handed out any more: a fetch may take minutes.
const renewBefore = 5 * time.Minute

// tokenPermissions narrow every installation token to what the gate does with it, whatever else was granted.
// Reading metadata comes with every token.
var tokenPermissions = gogithub.InstallationPermissions{
	Contents:     gogithub.String("read"),
	PullRequests: gogithub.String("write"),
	Checks:       gogithub.String("write"),
}

// tenant is one installation: its client, its pace, its token.
type tenant struct {
	id     int64
	client *gogithub.Client

	mu      sync.Mutex
	token   string
	expires time.Time     // on our clock
	pending *tokenRequest // the request in flight, if any
}

type tokenRequest struct {
	done  chan struct{} // closed when token and err are set
	token string
	err   error
}

func (a *App) installation(id int64) (*tenant, error) {
	if id <= 0 {
		return nil, fmt.Errorf("installation %d: want a positive id", id)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	n, ok := a.tenant[id]
	if !ok {
		n = &tenant{id: id}
		t := a.transport("installation")
		t.credential = func(ctx context.Context) (string, error) {
			token, err := a.tokenOf(ctx, n, false)
			return "token " + token, err
		}
		t.refused = n.drop
		n.client = a.client(t)
		a.tenant[id] = n
	}
	return n, nil
}

// drop forgets the token that GitHub refused, unless it has been replaced meanwhile.
func (n *tenant) drop(credential string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if credential == "token "+n.token {
		n.token = ""
	}
}

// Token returns an installation token that is good for at least five minutes, able to read code and pull requests
// and to write checks. It is made once and shared; fresh asks for another one, after GitHub refused the last.
// The token is a secret: it goes into no log, no error and no command line.
func (a *App) Token(ctx context.Context, installation int64, fresh bool) (string, error) {
	n, err := a.installation(installation)
	if err != nil {
		return "", err
	}
	return a.tokenOf(ctx, n, fresh)
}

func (a *App) tokenOf(ctx context.Context, n *tenant, fresh bool) (string, error) {
	n.mu.Lock()
	if !fresh && n.token != "" && a.opts.Now().Before(n.expires.Add(-renewBefore)) {
		defer n.mu.Unlock()
		return n.token, nil
	}
	req := n.pending
	if req == nil {
		req = &tokenRequest{done: make(chan struct{})}
		n.pending = req
		// The request outlives a caller who gives up: others wait for it too.
		go a.renew(context.WithoutCancel(ctx), n, req)
	}
	n.mu.Unlock()
	select {
	case <-req.done:
		return req.token, req.err
	case <-ctx.Done():
		return "", ctx.Err()
	}
}

// renew makes a new token and tells everyone who waits.
func (a *App) renew(ctx context.Context, n *tenant, req *tokenRequest) {
	token, expires, err := a.newToken(ctx, n.id)
	n.mu.Lock()
	defer n.mu.Unlock()
	if err == nil {
		n.token, n.expires = token, expires
	}
	req.token, req.err = token, err
	n.pending = nil
	close(req.done)
}

func (a *App) newToken(ctx context.Context, installation int64) (string, time.Time, error) {
	doing := fmt.Sprintf("token of installation %d", installation)
	ctx = context.WithValue(ctx, thatIsIdempotent{}, true)
	t, resp, err := a.asApp.Apps.CreateInstallationToken(ctx, installation, &gogithub.InstallationTokenOptions{Permissions: &tokenPermissions})
	if err != nil {
		var e *gogithub.ErrorResponse
		if errors.As(err, &e) && e.Response != nil && e.Response.StatusCode == http.StatusUnprocessableEntity {
			return "", time.Time{}, gone("%s: the installation has not granted checks: write, contents: read and pull requests: write; accept the App's permissions in its settings (%s)", doing, said(e))
		}
		return "", time.Time{}, mapped(err, doing, "an installation of this App")
	}
	if t.GetToken() == "" {
		return "", time.Time{}, &Unavailable{Cause: errors.New(doing + ": the answer holds none")}
	}
	// Its lifetime counts from now, on our clock.
	now, life := a.opts.Now(), time.Hour
	if date, err := http.ParseTime(resp.Header.Get("Date")); err == nil {
		life = t.GetExpiresAt().Sub(date)
	} else if at := t.GetExpiresAt().Time; !at.IsZero() {
		life = at.Sub(now)
	}
	return t.GetToken(), now.Add(life), nil
}
