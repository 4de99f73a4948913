package auth

import (
	"context"
	"crypto/subtle"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"

	"golang.org/x/oauth2"

	"github.com/noxaudit/noxaudit/internal/access"
	"github.com/noxaudit/noxaudit/internal/store"
)

// login begins a sign-in: GET /auth/login?next=/where/to.
func (a *Auth) login(w http.ResponseWriter, r *http.Request) {
	f, err := a.newFlow(safeNext(r.URL.Query().Get("next")))
	if err != nil {
		a.refuse(w, r, err)
		return
	}
	a.toGitHub(w, r, f)
}

// toGitHub begins a flow in this browser.
func (a *Auth) toGitHub(w http.ResponseWriter, r *http.Request, f flow) {
	under := append(a.flows(r), f)
	a.keepFlows(w, under[max(0, len(under)-maxFlows):])
	http.Redirect(w, r, a.oauth.AuthCodeURL(a.state(f), oauth2.S256ChallengeOption(a.verifier(f)), oauth2.SetAuthURLParam("allow_signup", "false")), http.StatusSeeOther)
}

var again = Page{Status: http.StatusBadRequest, Title: "Start again", Link: "/auth/login", LinkText: "Sign in with GitHub"}

func startAgain(sentence string) *refusal {
	p := again
	p.Sentence = sentence
	return &refusal{Page: p}
}

// callback is where GitHub sends the browser back to.
func (a *Auth) callback(w http.ResponseWriter, r *http.Request) {
	next, err := a.finish(w, r)
	if err != nil {
		a.refuse(w, r, err)
		return
	}
	if strings.HasPrefix(next, loopbackOrigin) {
		a.leave(w, r, next)
		return
	}
	http.Redirect(w, r, next, http.StatusSeeOther)
}

func (a *Auth) finish(w http.ResponseWriter, r *http.Request) (next string, err error) {
	q := r.URL.Query()
	under := a.flows(r)
	at := -1
	for i, f := range under {
		if subtle.ConstantTimeCompare([]byte(a.state(f)), []byte(q.Get("state"))) == 1 {
			at = i
		}
	}
	if at < 0 {
		return "", startAgain("This sign-in was not begun in this browser, was finished before, or took too long. Nothing happened; begin again.")
	}
	f := under[at]
	a.keepFlows(w, slices.Delete(under, at, at+1))
	now := a.opts.Now()
	if a.used.add(a.flowID(f), now, f.issued.Add(a.limits.SignIn)) {
		return "", startAgain("This sign-in was finished before. Nothing happened; begin again.")
	}
	cli, person, forCLI := decodeCLI(f.next)
	switch code := q.Get("error"); {
	case code == "access_denied" && forCLI:
		return cli.back("error", code), nil
	case code == "access_denied":
		p := again
		p.Status, p.Title = http.StatusForbidden, "Not signed in"
		p.Sentence = "GitHub says that you did not agree to sign in, so you are not signed in. Nothing was kept."
		return "", &refusal{Page: p}
	case code != "" || q.Get("code") == "":
		a.opts.Log.Warn().Str("error", word(code)).Msg("sign-in: GitHub sent a person back without a code")
		return "", startAgain("GitHub could not sign you in: it sent you back without a code. Begin again; if it happens again, an operator finds GitHub's reason in the log.")
	}
	select {
	case a.busy <- struct{}{}:
		defer func() { <-a.busy }()
	default:
		return "", unreachable("Too many people sign in at this moment, so you are not signed in. Try again in a minute.").titled("Busy")
	}
	ctx, cancel := context.WithTimeout(r.Context(), 2*callTimeout)
	defer cancel()
	credential, life, err := a.exchange(ctx, q.Get("code"), a.verifier(f))
	if err != nil {
		return "", err
	}
	next = f.next
	if forCLI {
		next, err = a.openCode(ctx, cli, person, credential, life)
	} else {
		err = a.open(ctx, w, r, f, credential, life)
	}
	if err != nil {
		a.forget(ctx, credential)
		return "", err
	}
	return next, nil
}

// exchange turns a code into GitHub's token and how long it is good; 0 when it does not end.
func (a *Auth) exchange(ctx context.Context, code, verifier string) (credential string, life time.Duration, err error) {
	t, err := a.oauth.Exchange(context.WithValue(ctx, oauth2.HTTPClient, a.http), code, oauth2.VerifierOption(verifier))
	if err == nil {
		return t.AccessToken, time.Duration(max(t.ExpiresIn, 0)) * time.Second, nil
	}
	var said *oauth2.RetrieveError
	if errors.As(err, &said) && said.ErrorCode != "" && said.Response.StatusCode < 500 {
		// Its text may hold what GitHub answered; only the word for the error is ours to repeat.
		switch said.ErrorCode {
		case "bad_verification_code":
			return "", 0, startAgain("GitHub did not take the code that it sent you back with: it was used before, or is too old, or is not for this browser. Begin again.")
		default:
			a.opts.Log.Error().Str("error", word(said.ErrorCode)).Msg("sign-in: GitHub refuses this App's exchange of a code; see NOXAUDIT_GITHUB_CLIENT_ID, NOXAUDIT_GITHUB_CLIENT_SECRET and the App's callback URL")
			return "", 0, &refusal{Page: Page{Status: http.StatusBadGateway, Title: "Sign-in is not set up",
				Sentence: "GitHub does not accept how noxaudit proves itself, so nobody can sign in. An operator finds the reason in the log."}}
		}
	}
	a.opts.Log.Warn().Str("error", word(fmt.Sprintf("%T", errors.Unwrap(err)))).Msg("sign-in: GitHub did not answer the exchange of a code")
	return "", 0, unreachable("GitHub did not answer, so you are not signed in. Try again in a minute.")
}

func unreachable(sentence string) *refusal {
	return &refusal{Page: Page{Status: http.StatusServiceUnavailable, Title: "GitHub cannot be reached", Sentence: sentence, Link: "/auth/login", LinkText: "Sign in with GitHub"}}
}

func (r *refusal) titled(title string) *refusal {
	r.Title = title
	return r
}

// word is outside text fit for a log field: short, and letters, digits and a few signs only.
func word(s string) string {
	b := []byte(s[:min(len(s), 64)])
	for i, c := range b {
		if (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && c != '_' && c != '.' && c != '*' {
			b[i] = '?'
		}
	}
	return string(b)
}

// open makes the session of somebody whom GitHub vouched for, and sets its cookie. The browser's old session ends.
func (a *Auth) open(ctx context.Context, w http.ResponseWriter, r *http.Request, f flow, credential string, life time.Duration) error {
	p, err := a.personOf(ctx, credential)
	if err != nil {
		return err
	}
	tok, err := newToken(a.opts.Rand)
	if err != nil {
		return err
	}
	now := a.opts.Now()
	ends := a.ends(now, life)
	s := store.Session{
		Hash: tok.hash(), Flow: a.flowID(f), Source: "github", Person: p.ID, Login: p.Login, Accounts: accounts(p), Agent: r.UserAgent(),
		Created: now, Seen: now, Checked: now, Until: soonest(now.Add(a.limits.Idle), ends), Ends: ends,
	}
	if s.ID, err = a.newID(now); err != nil {
		return err
	}
	if s.Grants, err = encodeGrants(p); err != nil {
		return err
	}
	if s.Sealed, err = a.seal(tok, s, credential); err != nil {
		return err
	}
	replaced, err := a.openOnce(ctx, r, s, p)
	if errors.Is(err, store.ErrDuplicate) {
		return startAgain("This sign-in was finished before. Nothing happened; begin again.")
	}
	if err != nil {
		return err
	}
	if old, ok := parseToken(a.cookie(r, a.sessionCookie())); ok && replaced != nil {
		if credential, err := a.unseal(old, *replaced); err == nil {
			a.forget(ctx, credential)
		}
	}
	a.setCookie(w, a.sessionCookie(), tok.String(), int(ends.Sub(now)/time.Second))
	// What is over makes room at the latest when something new comes.
	if _, err := a.home.PruneSessions(ctx, now, pruneRows); err != nil {
		a.opts.Log.Warn().Err(err).Msg("sessions that are over could not be removed")
	}
	return nil
}

// ends is when a session that begins now is over, however much it is used.
func (a *Auth) ends(now time.Time, life time.Duration) time.Time {
	if life > 0 {
		return soonest(now.Add(a.limits.Absolute), now.Add(life))
	}
	return now.Add(a.limits.Absolute)
}

// personOf is who GitHub vouches for, and a refusal for somebody without any role.
func (a *Auth) personOf(ctx context.Context, credential string) (access.Person, error) {
	p, err := a.opts.Rights.Person(ctx, credential)
	switch {
	case errors.Is(err, access.ErrSignInEnded):
		return p, startAgain("GitHub gave a sign-in and took it back at once. Begin again.")
	case err != nil:
		a.opts.Log.Warn().Err(err).Msg("sign-in: what a person may do could not be found out")
		return p, unreachable("GitHub could not say what you may do, so you are not signed in. Try again in a minute.")
	case len(p.Grants) == 0:
		return p, a.stranger(ctx, p)
	}
	return p, nil
}

const pruneRows = 500

// openOnce commits the new session, and the end of the browser's old one, which it returns if there was one, and of
// those that are too many.
func (a *Auth) openOnce(ctx context.Context, r *http.Request, s store.Session, p access.Person) (replaced *store.Session, err error) {
	for try := 0; ; try++ {
		ends := map[string]ended{}
		replaced = nil
		if old, err := a.stored(ctx, r); err == nil {
			ends[old.ID] = ended{old, "signed in again in the same browser"}
			replaced = &old
		} else if !errors.Is(err, store.ErrNotFound) {
			return nil, err
		}
		mine, err := a.sessionsOf(ctx, s.Person)
		if err != nil {
			return nil, err
		}
		for _, old := range mine[:max(0, len(mine)-a.limits.PerPerson+1)] {
			if _, known := ends[old.ID]; !known {
				ends[old.ID] = ended{old, "too many sessions of one person"}
			}
		}
		n := a.note(s.Created, actor(p.ID, p.Login))
		c := store.Change{Time: s.Created, Sessions: &store.SessionChange{Open: &s}}
		for _, id := range slices.Sorted(maps.Keys(ends)) {
			c.Sessions.End = append(c.Sessions.End, id)
			n.ended(ends[id].session, ends[id].reason)
		}
		n.opened(s, p)
		err = a.commit(ctx, n, c)
		if !errors.Is(err, store.ErrNotFound) || try == 3 { // one that was to end has ended meanwhile: look again
			return replaced, err
		}
	}
}

type ended struct {
	session store.Session
	reason  string
}

// stranger refuses somebody without any role.
func (a *Auth) stranger(ctx context.Context, p access.Person) error {
	now := a.opts.Now()
	if a.strangers.worthAnEntry(p.ID, now) {
		n := a.note(now, actor(p.ID, p.Login))
		n.refused(p)
		if err := a.commit(ctx, n, store.Change{Time: now}); err != nil {
			return err
		}
	}
	return &refusal{Page: Page{Status: http.StatusForbidden, Title: "No access",
		Sentence: "You are signed in to GitHub as " + p.Login + ", who neither owns an account where noxaudit is installed nor administers a repository that it covers. " +
			"If you should have access, ask an owner of your organisation for it; then sign in again.", Link: "/auth/login", LinkText: "Sign in again"}}
}

// strangers bounds how many entries people without any right cause.
type strangers struct {
	seen  memory
	count int
	since time.Time
}

const (
	strangerPause = time.Hour // one entry a person in this time
	strangerMost  = 60        // entries in this time
)

func (s *strangers) worthAnEntry(person int64, now time.Time) bool {
	if s.seen.add(fmt.Sprint(person), now, now.Add(strangerPause)) {
		return false
	}
	s.seen.mu.Lock()
	defer s.seen.mu.Unlock()
	if now.Sub(s.since) >= strangerPause {
		s.since, s.count = now, 0
	}
	s.count++
	return s.count <= strangerMost
}

// forget makes GitHub forget a token that is of no use any more, if it can be reached.
func (a *Auth) forget(ctx context.Context, credential string) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), callTimeout)
	defer cancel()
	if err := a.opts.Rights.Forget(ctx, credential); err != nil {
		a.opts.Log.Warn().Err(err).Msg("GitHub could not be told to forget a sign-in that has ended")
	}
}

// logout ends the browser's session: POST /auth/logout.
func (a *Auth) logout(w http.ResponseWriter, r *http.Request) {
	s, err := a.stored(r.Context(), r)
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		a.refuse(w, r, err)
		return
	}
	if err == nil {
		tok, _ := parseToken(a.cookie(r, a.sessionCookie()))
		credential, sealErr := a.unseal(tok, s)
		if err := a.endSession(r.Context(), s, actor(s.Person, s.Login), "signed out"); err != nil {
			a.refuse(w, r, err)
			return
		}
		if sealErr == nil {
			a.forget(r.Context(), credential)
		}
	}
	a.setCookie(w, a.sessionCookie(), "", -1)
	a.opts.Pages(w, r, Page{Status: http.StatusOK, Title: "Signed out", Link: "/auth/login", LinkText: "Sign in again",
		Sentence: "You are signed out of noxaudit in this browser. You are still signed in to GitHub; sign out there as well if this machine is not yours."})
}
