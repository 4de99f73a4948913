package auth

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/noxaudit/noxaudit/internal/access"
	"github.com/noxaudit/noxaudit/internal/name"
	"github.com/noxaudit/noxaudit/internal/store"
	"github.com/noxaudit/noxaudit/ledger"
)

// tokenPrefix lets scanners know a session's token where it should not be.
const tokenPrefix = "nxs_"

// token is what a browser holds.
type token [32]byte

func newToken(rand io.Reader) (t token, err error) {
	if _, err := io.ReadFull(rand, t[:]); err != nil {
		return token{}, fmt.Errorf("random source: %w", err)
	}
	return t, nil
}

func parseToken(s string) (t token, ok bool) {
	text, ok := strings.CutPrefix(s, tokenPrefix)
	b, err := raw64.DecodeString(text)
	if !ok || err != nil || len(b) != len(t) {
		return token{}, false
	}
	return token(b), true
}

func (t token) String() string { return tokenPrefix + raw64.EncodeToString(t[:]) }

// hash is what the store knows a token by. It needs no salt and no slow function: the token is 256 random bits.
func (t token) hash() string {
	sum := sha256.Sum256(t[:])
	return hex.EncodeToString(sum[:])
}

// sealer encrypts under a key that takes the token of the browser and the App's client secret to derive: the database
// holds neither.
func (a *Auth) sealer(t token) (cipher.AEAD, error) {
	key, err := hkdf.Key(sha256.New, t[:], []byte(a.opts.ClientSecret), "noxaudit session credential", 32)
	if err != nil {
		return nil, err
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCM(block)
}

func (a *Auth) seal(t token, s store.Session, credential string) ([]byte, error) {
	g, err := a.sealer(t)
	if err != nil {
		return nil, fmt.Errorf("session: %w", err)
	}
	nonce := make([]byte, g.NonceSize())
	if _, err := io.ReadFull(a.opts.Rand, nonce); err != nil {
		return nil, fmt.Errorf("random source: %w", err)
	}
	return g.Seal(nonce, nonce, []byte(credential), sealedFor(s)), nil
}

func (a *Auth) unseal(t token, s store.Session) (string, error) {
	g, err := a.sealer(t)
	if err != nil || len(s.Sealed) < g.NonceSize() {
		return "", errors.New("session: nothing to open")
	}
	b, err := g.Open(nil, s.Sealed[:g.NonceSize()], s.Sealed[g.NonceSize():], sealedFor(s))
	return string(b), err
}

// sealedFor binds what is sealed to its row.
func sealedFor(s store.Session) []byte {
	return []byte(s.ID + "\x00" + strconv.FormatInt(s.Person, 10))
}

// storedGrant is how a grant is kept.
type storedGrant struct {
	Account      string      `json:"account"`
	Login        string      `json:"login"`
	Role         access.Role `json:"role"`
	Repositories []string    `json:"repositories,omitempty"`
}

func encodeGrants(p access.Person) ([]byte, error) {
	out := []storedGrant{}
	for _, g := range p.Grants {
		out = append(out, storedGrant{g.Account.String(), g.Login, g.Role, g.Repositories})
	}
	return json.Marshal(out)
}

func decodeGrants(s store.Session) (access.Person, error) {
	p := access.Person{ID: s.Person, Login: s.Login}
	var in []storedGrant
	if err := json.Unmarshal(s.Grants, &in); err != nil {
		return access.Person{}, fmt.Errorf("session: its roles cannot be read: %w", err)
	}
	for _, g := range in {
		a, err := name.ParseAccount(g.Account)
		if err != nil {
			return access.Person{}, fmt.Errorf("session: its roles cannot be read: %w", err)
		}
		p.Grants = append(p.Grants, access.Grant{Account: a, Login: g.Login, Role: g.Role, Repositories: g.Repositories})
	}
	return p, nil
}

func accounts(p access.Person) []name.Account {
	var out []name.Account
	for _, g := range p.Grants {
		out = append(out, g.Account)
	}
	return out
}

func soonest(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}

func (a *Auth) newID(at time.Time) (string, error) { return ledger.NewID(at, a.opts.Rand) }

// errNobody means that a request carries no session that holds.
var errNobody = errors.New("not signed in")

// stored is the session of a request's cookie, whose time may be over; store.ErrNotFound when there is none.
func (a *Auth) stored(ctx context.Context, r *http.Request) (store.Session, error) {
	t, ok := parseToken(a.cookie(r, a.sessionCookie()))
	if !ok {
		return store.Session{}, store.ErrNotFound
	}
	return a.home.Session(ctx, t.hash())
}

// current finds out who makes a request. Its errors are errNobody, a refusal, or one of the store.
func (a *Auth) current(ctx context.Context, r *http.Request) (Current, error) {
	s, err := a.stored(ctx, r)
	if errors.Is(err, store.ErrNotFound) {
		return Current{}, errNobody
	}
	if err != nil {
		return Current{}, err
	}
	now := a.opts.Now()
	if !now.Before(s.Until) || !now.Before(s.Ends) {
		return Current{}, errNobody
	}
	p, err := decodeGrants(s)
	if err != nil {
		return Current{}, err
	}
	if !a.fresh(s, now) {
		t, _ := parseToken(a.cookie(r, a.sessionCookie()))
		// Several requests of one page ask once, and the answer does not depend on the one that came first.
		v, err, _ := a.asking.Do(s.ID, func() (any, error) {
			ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), callTimeout)
			defer cancel()
			return a.askOnce(ctx, t)
		})
		if err != nil {
			return Current{}, err
		}
		fresh := v.(answer)
		p, s.Checked = fresh.person, fresh.checked
	}
	if now.Sub(s.Seen) >= time.Minute {
		if err := a.home.SessionSeen(ctx, s.ID, now, now.Add(a.limits.Idle)); err != nil {
			return Current{}, err
		}
	}
	return Current{Person: p, Session: s.ID, Checked: s.Checked}, nil
}

type answer struct {
	person  access.Person
	checked time.Time
}

// fresh reports whether the rights of a session need not be asked for.
func (a *Auth) fresh(s store.Session, now time.Time) bool {
	age := now.Sub(s.Checked)
	return age < a.limits.Fresh && age >= -time.Minute // a clock may have been set back
}

// askOnce looks whether somebody else has asked, or ended the session, since it was read.
func (a *Auth) askOnce(ctx context.Context, t token) (answer, error) {
	s, err := a.home.Session(ctx, t.hash())
	if errors.Is(err, store.ErrNotFound) {
		return answer{}, errNobody
	}
	if err != nil {
		return answer{}, err
	}
	p, err := decodeGrants(s)
	if err != nil || a.fresh(s, a.opts.Now()) {
		return answer{p, s.Checked}, err
	}
	return a.ask(ctx, t, s, p)
}

// failedPause is how long a session's rights are not asked for again after that failed.
const failedPause = 20 * time.Second

// ask asks GitHub again what a person may do. While it cannot be asked the last answer holds, for Grace.
func (a *Auth) ask(ctx context.Context, t token, s store.Session, p access.Person) (answer, error) {
	now := a.opts.Now()
	var fresh access.Person
	credential, err := a.unseal(t, s)
	if err != nil {
		return answer{}, a.over(ctx, s, "its credential cannot be opened", "Your session cannot be continued: the App's client secret has changed. Sign in again.")
	}
	if !a.failed.has(s.ID, now) {
		fresh, err = a.opts.Rights.Person(ctx, credential)
	} else {
		err = errors.New("failed a moment ago")
	}
	switch {
	case errors.Is(err, access.ErrSignInEnded):
		return answer{}, a.over(ctx, s, "GitHub does not take the sign-in any more", "GitHub has ended your sign-in: it was revoked, or its time is over. Sign in again.")
	case err != nil:
		a.failed.add(s.ID, now, now.Add(failedPause))
		age := now.Sub(s.Checked)
		if age >= 0 && age < a.limits.Grace {
			return answer{p, s.Checked}, nil
		}
		a.opts.Log.Warn().Err(err).Msg("a session is refused: what its person may do cannot be asked")
		return answer{}, unreachable(fmt.Sprintf("noxaudit has to ask GitHub every few minutes what you may do, and GitHub has not answered for %d minutes. Your session is kept; try again in a minute.",
			int(a.limits.Grace/time.Minute)))
	}
	a.failed.drop(s.ID)
	if fresh.ID != s.Person {
		return answer{}, a.over(ctx, s, "GitHub names another person", "Your session cannot be continued. Sign in again.")
	}
	if len(fresh.Grants) == 0 {
		a.forget(ctx, credential)
		return answer{}, a.over(ctx, s, "no right is left", "You no longer own an account where noxaudit is installed, nor administer a repository that it covers, so your session has ended. If that is wrong, ask an owner of your organisation.")
	}
	if slices.EqualFunc(fresh.Grants, p.Grants, sameGrant) && fresh.Login == p.Login {
		return answer{fresh, now}, a.home.SessionChecked(ctx, s.ID, now)
	}
	grants, err := encodeGrants(fresh)
	if err != nil {
		return answer{}, err
	}
	n := a.note(now, ledger.Actor{Kind: "app", Name: "GitHub"})
	n.changed(s, p, fresh)
	err = a.commit(ctx, n, store.Change{Time: now, Sessions: &store.SessionChange{Rights: &store.SessionRights{
		ID: s.ID, Login: fresh.Login, Accounts: accounts(fresh), Grants: grants, Checked: now,
	}}})
	if errors.Is(err, store.ErrNotFound) {
		return answer{}, errNobody // ended meanwhile
	}
	return answer{fresh, now}, err
}

func sameGrant(x, y access.Grant) bool {
	return x.Account == y.Account && x.Login == y.Login && x.Role == y.Role && slices.Equal(x.Repositories, y.Repositories)
}

// over ends a session that GitHub does not support any more, and returns the page that says so.
func (a *Auth) over(ctx context.Context, s store.Session, reason, sentence string) error {
	if err := a.endSession(ctx, s, ledger.Actor{Kind: "system"}, reason); err != nil {
		return err
	}
	return &refusal{forget: true, Page: Page{Status: http.StatusUnauthorized, Title: "Your session has ended", Sentence: sentence, Link: "/auth/login", LinkText: "Sign in with GitHub"}}
}

// endSession ends a session; one that has ended already is no error.
func (a *Auth) endSession(ctx context.Context, s store.Session, by ledger.Actor, reason string) error {
	n := a.note(a.opts.Now(), by)
	n.ended(s, reason)
	err := a.commit(ctx, n, store.Change{Time: n.at, Sessions: &store.SessionChange{End: []string{s.ID}}})
	if errors.Is(err, store.ErrNotFound) {
		return nil
	}
	return err
}
