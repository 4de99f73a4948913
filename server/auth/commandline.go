package auth

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"html/template"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/noxaudit/noxaudit/internal/access"
	"github.com/noxaudit/noxaudit/internal/escape"
	"github.com/noxaudit/noxaudit/internal/store"
	"github.com/noxaudit/noxaudit/ledger"
)

// A command line gets a session of its own, by a browser on the same machine (RFC 8252):
//
//	command line                       browser                          server
//	listens on 127.0.0.1:PORT ───────▶ GET /auth/cli?port&state&challenge&host
//	                                   POST /auth/cli, the person agrees
//	                                   … GitHub and back, for a GitHub token of its own …
//	◀───────────────── http://127.0.0.1:PORT/?code&state
//	POST /auth/cli/token code, verifier ─────────────────────────────▶ a token, once
//
// The code is the key of a row of its own, good for a minute and nothing but this exchange: GitHub's token is sealed
// under it. The row's end and the new session's beginning are one change, so that a code is good once on all replicas.

const (
	commandLinePrefix = "nxc_" // of tokens
	codePrefix        = "nxo_"

	sourceCommandLine = "github/cli"
	sourceCode        = "github/cli-code"

	codeLife  = time.Minute
	mostCodes = 5 // of one person at a time

	codeFlow = "cli " // and the challenge: what one command line asked for makes one session
	onHost   = "command line on "
	maxHost  = 64
)

// hashFor is what the store knows a token of another kind than a browser's by: no kind passes for another.
func (t token) hashFor(prefix string) string {
	sum := sha256.Sum256(append([]byte(prefix), t[:]...))
	return hex.EncodeToString(sum[:])
}

func parseTokenOf(prefix, s string) (t token, ok bool) {
	text, ok := strings.CutPrefix(s, prefix)
	if !ok {
		return token{}, false
	}
	return parseToken(tokenPrefix + text)
}

func (t token) stringOf(prefix string) string { return prefix + raw64.EncodeToString(t[:]) }

// cliRequest is what a command line asks for. Nothing in it leads anywhere but to this machine.
type cliRequest struct {
	port             int // 1024 to 65535
	state, challenge string
	host             string // what the machine calls itself: of outside origin, made visible
}

func readCLIRequest(q url.Values) (cliRequest, bool) {
	for _, k := range []string{"port", "state", "challenge"} {
		if len(q[k]) != 1 { // of two, another reader might take the other
			return cliRequest{}, false
		}
	}
	c := cliRequest{state: q.Get("state"), challenge: q.Get("challenge"), host: hostName(q.Get("host"))}
	var err error
	c.port, err = strconv.Atoi(q.Get("port"))
	sum, sumErr := raw64.DecodeString(c.challenge)
	switch {
	case err != nil || strconv.Itoa(c.port) != q.Get("port") || c.port < 1024 || c.port > 65535:
		return cliRequest{}, false
	case len(c.state) < 16 || len(c.state) > 128 || !urlSafe(c.state):
		return cliRequest{}, false
	case sumErr != nil || len(sum) != sha256.Size:
		return cliRequest{}, false
	}
	return c, true
}

func urlSafe(s string) bool {
	return strings.Trim(s, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_") == ""
}

func hostName(s string) string {
	s = strings.TrimSpace(escape.Visible(s[:min(len(s), 4*maxHost)]))
	for len(s) > maxHost {
		_, n := utf8.DecodeLastRuneInString(s)
		s = s[:len(s)-n]
	}
	if s == "" {
		return "a machine without a name"
	}
	return s
}

// back is the address on the person's machine, with what the command line gets.
func (c cliRequest) back(key, value string) string {
	return fmt.Sprintf("%s%d/?%s", loopbackOrigin, c.port, url.Values{key: {value}, "state": {c.state}}.Encode())
}

// loopbackOrigin begins the addresses of command lines; the port follows.
const loopbackOrigin = "http://127.0.0.1:"

// leave sends the browser on to a command line by way of a page. A redirect would do, but the browser may be here
// because of a form on a page of GitHub's, whose policy knows this server and not the person's machine.
func (a *Auth) leave(w http.ResponseWriter, r *http.Request, to string) {
	w.Header().Set("Refresh", "0;url="+to)
	a.opts.Pages(w, r, Page{Status: http.StatusOK, Title: "Back to the command line", Link: to, LinkText: "Go on",
		Sentence: "The command line on this computer gets its answer now. If nothing happens, go on by hand."})
}

// cliMark begins what a flow leads to when it is for a command line: no address does.
const cliMark = "\x00cli"

func (c cliRequest) encode(person int64) string {
	return strings.Join([]string{cliMark, strconv.FormatInt(person, 10), strconv.Itoa(c.port), c.state, c.challenge, c.host}, "\x00")
}

// decodeCLI reads what encode wrote; the flow's MAC vouches for it.
func decodeCLI(next string) (c cliRequest, person int64, ok bool) {
	rest, ok := strings.CutPrefix(next, cliMark+"\x00")
	parts := strings.Split(rest, "\x00")
	if !ok || len(parts) != 5 {
		return cliRequest{}, 0, false
	}
	person, err := strconv.ParseInt(parts[0], 10, 64)
	if err != nil {
		return cliRequest{}, 0, false
	}
	c, ok = readCLIRequest(url.Values{"port": {parts[1]}, "state": {parts[2]}, "challenge": {parts[3]}, "host": {parts[4]}})
	return c, person, ok
}

// Question is what a person is asked before a command line is signed in. Whoever shows it posts Fields to /auth/cli,
// with answer=yes or answer=no.
type Question struct {
	Title     string
	Sentences []string
	Fields    []Field // hidden
	Yes, No   string  // on the buttons
}

// Field is a field of a form.
type Field struct{ Name, Value string }

func (c cliRequest) question(login string) Question {
	return Question{
		Title: "Sign in a command line?",
		Sentences: []string{
			"A command line on " + c.host + " asks to act as " + login + ": to see waivers, and to ask for, approve, reject and revoke them as " + login + " may.",
			"Agree only if you have just typed noxaudit login on this computer. If a page or a message sent you here, do not.",
		},
		Fields: []Field{{"port", strconv.Itoa(c.port)}, {"state", c.state}, {"challenge", c.challenge}, {"host", c.host}},
		Yes:    "Sign it in", No: "No",
	}
}

var plainQuestion = template.Must(template.New("question").Parse(`<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>{{.Title}} · noxaudit</title>
<main><h1>{{.Title}}</h1>{{range .Sentences}}<p>{{.}}</p>{{end}}<form method="post" action="/auth/cli">
{{range .Fields}}<input type="hidden" name="{{.Name}}" value="{{.Value}}">
{{end}}<p><button type="submit" name="answer" value="yes">{{.Yes}}</button> <button type="submit" name="answer" value="no">{{.No}}</button></p>
</form></main></html>
`))

func askPlainly(w http.ResponseWriter, _ *http.Request, q Question) {
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	_ = plainQuestion.Execute(w, q) // the client is gone: nobody is left to tell
}

// confirmCLI asks the person: GET /auth/cli. It writes nothing.
func (a *Auth) confirmCLI(w http.ResponseWriter, r *http.Request) {
	c, ok := readCLIRequest(r.URL.Query())
	if !ok {
		a.opts.Pages(w, r, badCLIRequest)
		return
	}
	me, _ := From(r.Context())
	// Browsers hold the redirects of a form against form-action as well: to GitHub, and back to the machine.
	a.opts.Ask(framed{w, fmt.Sprintf("default-src 'none'; style-src 'self'; img-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'self' %s http://127.0.0.1:%d", a.web, c.port)}, r, c.question(me.Login))
}

// framed sets the policy of the page with the question at the last moment, whoever shows it.
type framed struct {
	http.ResponseWriter
	policy string
}

func (f framed) protect() {
	f.Header().Set("Content-Security-Policy", f.policy)
	f.Header().Set("X-Frame-Options", "DENY")
}

func (f framed) WriteHeader(status int) {
	f.protect()
	f.ResponseWriter.WriteHeader(status)
}

func (f framed) Write(b []byte) (int, error) {
	f.protect()
	return f.ResponseWriter.Write(b)
}

var badCLIRequest = Page{Status: http.StatusBadRequest, Title: "Not a request of noxaudit's command line",
	Sentence: "The address does not say where a command line waits on this machine, so nobody was signed in. Type noxaudit login, and open the address that it prints."}

// agreeCLI takes the person's answer: POST /auth/cli. A yes goes on to GitHub, since a command line has a GitHub
// token of its own: it goes on when the browser signs out, and the other way round.
func (a *Auth) agreeCLI(w http.ResponseWriter, r *http.Request) {
	r.Body = http.MaxBytesReader(w, r.Body, 64<<10)
	if err := r.ParseForm(); err != nil {
		a.opts.Pages(w, r, badCLIRequest)
		return
	}
	c, ok := readCLIRequest(r.PostForm)
	if !ok {
		a.opts.Pages(w, r, badCLIRequest)
		return
	}
	if r.PostForm.Get("answer") != "yes" {
		http.Redirect(w, r, c.back("error", "access_denied"), http.StatusSeeOther)
		return
	}
	me, _ := From(r.Context())
	f, err := a.newFlow(c.encode(me.ID))
	if err != nil {
		a.refuse(w, r, err)
		return
	}
	a.toGitHub(w, r, f)
}

// openCode keeps what a command line may fetch with a code, and returns where the browser goes with it.
func (a *Auth) openCode(ctx context.Context, c cliRequest, person int64, credential string, life time.Duration) (string, error) {
	p, err := a.personOf(ctx, credential)
	if err != nil {
		return "", err
	}
	if p.ID != person {
		return "", startAgain("At GitHub you are signed in as " + p.Login + ", and here as somebody else, so the command line was not signed in. Sign out here, and type noxaudit login again.")
	}
	now := a.opts.Now()
	mine, err := a.home.SessionsOf(ctx, person, now)
	if err != nil {
		return "", err
	}
	waiting := 0
	for _, s := range mine {
		if s.Source == sourceCode {
			waiting++
		}
	}
	if waiting >= mostCodes {
		return "", unreachable("Several command lines wait to be signed in already, so this one was not. Try again in a minute.").titled("Busy")
	}
	code, err := newToken(a.opts.Rand)
	if err != nil {
		return "", err
	}
	ends := a.ends(now, life)
	s := store.Session{
		Hash: code.hashFor(codePrefix), Flow: codeFlow + c.challenge, Source: sourceCode, Person: p.ID, Login: p.Login, Accounts: accounts(p),
		Agent: onHost + c.host, Created: now, Seen: now, Checked: now, Until: soonest(now.Add(codeLife), ends), Ends: ends,
	}
	if s.ID, err = a.newID(now); err != nil {
		return "", err
	}
	if s.Grants, err = encodeGrants(p); err != nil {
		return "", err
	}
	if s.Sealed, err = a.seal(code, s, credential); err != nil {
		return "", err
	}
	n := a.note(now, actor(p.ID, p.Login))
	n.agreed(s)
	err = a.commit(ctx, n, store.Change{Time: now, Sessions: &store.SessionChange{Open: &s}})
	if errors.Is(err, store.ErrDuplicate) {
		return "", startAgain("This sign-in was finished before. Nothing happened; begin again.")
	}
	return c.back("code", code.stringOf(codePrefix)), err
}

// cliToken is what a command line gets, as JSON.
type cliToken struct {
	Token string    `json:"token"`
	Login string    `json:"login"`
	Ends  time.Time `json:"ends"` // at the latest
}

// exchangeCLI turns a code into a token, once: POST /auth/cli/token with code and verifier.
func (a *Auth) exchangeCLI(w http.ResponseWriter, r *http.Request) {
	r.Body = http.MaxBytesReader(w, r.Body, 4<<10)
	out, err := a.redeem(r)
	var no *refusal
	switch {
	case errors.As(err, &no):
		answerJSON(w, no.Status, map[string]string{"error": "invalid_grant", "error_description": no.Sentence})
	case err != nil:
		a.opts.Log.Error().Err(err).Msg("sign-in of a command line")
		w.Header().Set("Retry-After", "30")
		answerJSON(w, http.StatusServiceUnavailable, map[string]string{"error": "temporarily_unavailable", "error_description": "noxaudit could not reach its database, so the command line is not signed in. Type noxaudit login again in a minute."})
	default:
		answerJSON(w, http.StatusOK, out)
	}
}

func answerJSON(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v) // the client is gone: nobody is left to tell
}

func (a *Auth) redeem(r *http.Request) (cliToken, error) {
	ctx := r.Context()
	no := startAgain("The code is unknown, was used before, or is older than a minute. Nobody was signed in; type noxaudit login again.")
	if err := r.ParseForm(); err != nil {
		return cliToken{}, no
	}
	code, ok := parseTokenOf(codePrefix, r.PostForm.Get("code"))
	if !ok {
		return cliToken{}, no
	}
	old, err := a.home.Session(ctx, code.hashFor(codePrefix))
	if errors.Is(err, store.ErrNotFound) {
		return cliToken{}, no
	}
	if err != nil {
		return cliToken{}, err
	}
	now := a.opts.Now()
	if old.Source != sourceCode || !now.Before(old.Until) {
		return cliToken{}, no
	}
	credential, err := a.unseal(code, old)
	if err != nil {
		return cliToken{}, no
	}
	sum := sha256.Sum256([]byte(r.PostForm.Get("verifier")))
	if subtle.ConstantTimeCompare([]byte(raw64.EncodeToString(sum[:])), []byte(strings.TrimPrefix(old.Flow, codeFlow))) != 1 {
		// Somebody else than who asked for it has the code.
		a.forget(ctx, credential)
		if err := a.endSession(ctx, old, ledger.Actor{Kind: "system"}, "a code was shown without its verifier"); err != nil {
			return cliToken{}, err
		}
		return cliToken{}, no
	}
	p, err := decodeGrants(old)
	if err != nil {
		return cliToken{}, err
	}
	tok, err := newToken(a.opts.Rand)
	if err != nil {
		return cliToken{}, err
	}
	s := store.Session{
		Hash: tok.hashFor(commandLinePrefix), Flow: old.Flow, Source: sourceCommandLine, Person: p.ID, Login: p.Login, Accounts: old.Accounts, Grants: old.Grants,
		Agent: old.Agent, Created: now, Seen: now, Checked: old.Checked, Until: soonest(now.Add(a.limits.Idle), old.Ends), Ends: old.Ends,
	}
	if s.ID, err = a.newID(now); err != nil {
		return cliToken{}, err
	}
	if s.Sealed, err = a.seal(tok, s, credential); err != nil {
		return cliToken{}, err
	}
	err = a.openInPlaceOf(ctx, s, p, &old)
	if errors.Is(err, store.ErrNotFound) || errors.Is(err, store.ErrDuplicate) {
		return cliToken{}, no // somebody was faster
	}
	return cliToken{tok.stringOf(commandLinePrefix), p.Login, s.Ends}, err
}

// openInPlaceOf commits a command line's session and the end of its code, and of the person's sessions that are too many.
func (a *Auth) openInPlaceOf(ctx context.Context, s store.Session, p access.Person, code *store.Session) error {
	by := actor(p.ID, p.Login)
	by.Via = "cli"
	for try := 0; ; try++ {
		mine, err := a.sessionsOf(ctx, s.Person)
		if err != nil {
			return err
		}
		n := a.note(s.Created, by)
		c := store.Change{Time: s.Created, Sessions: &store.SessionChange{Open: &s, End: []string{code.ID}}}
		for _, old := range mine[:max(0, len(mine)-a.limits.PerPerson+1)] {
			c.Sessions.End = append(c.Sessions.End, old.ID)
			n.ended(old, "too many sessions of one person")
		}
		n.opened(s, p)
		err = a.commit(ctx, n, c)
		if !errors.Is(err, store.ErrNotFound) || try == 3 {
			return err
		}
		if _, gone := a.home.SessionByID(ctx, code.ID); gone != nil {
			return gone
		}
	}
}

// sessionsOf are a person's sessions, oldest first, without codes that wait to become one.
func (a *Auth) sessionsOf(ctx context.Context, person int64) ([]store.Session, error) {
	all, err := a.home.SessionsOf(ctx, person, a.opts.Now())
	return slices.DeleteFunc(all, func(s store.Session) bool { return s.Source == sourceCode }), err
}

// Bearer is who makes a request of a program: one with the token of a command line in its Authorization header, and
// nothing else. Cookies are not looked at, so no page of another site can cause one. A refusal comes as the page that
// says why; its Status is 401, or 503 when it could not be found out now.
func (a *Auth) Bearer(r *http.Request) (Current, *Page) {
	c, _, err := a.bearer(r)
	if err == nil {
		return c, nil
	}
	var no *refusal
	switch {
	case errors.As(err, &no):
		return Current{}, &no.Page
	case errors.Is(err, errNobody):
		return Current{}, &Page{Status: http.StatusUnauthorized, Title: "Not signed in",
			Sentence: "The request carries no token of a command line, or its session is over, so nothing was done. Type noxaudit login and try again."}
	}
	a.opts.Log.Error().Err(err).Msg("sign-in")
	return Current{}, &Page{Status: http.StatusServiceUnavailable, Title: "Not now",
		Sentence: "noxaudit could not reach its database, so it does not know who you are. Try again in a minute."}
}

func (a *Auth) bearer(r *http.Request) (Current, store.Session, error) {
	all := r.Header.Values("Authorization")
	if len(all) != 1 {
		return Current{}, store.Session{}, errNobody
	}
	scheme, text, _ := strings.Cut(all[0], " ")
	t, ok := parseTokenOf(commandLinePrefix, text)
	if !ok || !strings.EqualFold(scheme, "Bearer") {
		return Current{}, store.Session{}, errNobody
	}
	s, err := a.home.Session(r.Context(), t.hashFor(commandLinePrefix))
	if errors.Is(err, store.ErrNotFound) || err == nil && s.Source != sourceCommandLine {
		err = errNobody
	}
	if err != nil {
		return Current{}, store.Session{}, err
	}
	c, err := a.currentOf(r.Context(), t, s)
	return c, s, err
}

// endCLI ends the session of the token that it comes with: POST /auth/cli/logout.
func (a *Auth) endCLI(w http.ResponseWriter, r *http.Request) {
	_, s, err := a.bearer(r)
	var no *refusal
	if errors.Is(err, errNobody) || errors.As(err, &no) && no.Status == http.StatusUnauthorized {
		answerJSON(w, http.StatusUnauthorized, map[string]string{"error": "invalid_token", "error_description": "There is no such session any more."})
		return
	}
	// That GitHub cannot be asked what the person may do keeps nobody from signing out.
	if s.ID != "" {
		_, text, _ := strings.Cut(r.Header.Get("Authorization"), " ")
		tok, _ := parseTokenOf(commandLinePrefix, text)
		credential, sealErr := a.unseal(tok, s)
		by := actor(s.Person, s.Login)
		by.Via = "cli"
		if err = a.endSession(r.Context(), s, by, "signed out"); err == nil {
			if sealErr == nil {
				a.forget(r.Context(), credential)
			}
			w.WriteHeader(http.StatusNoContent)
			return
		}
	}
	a.opts.Log.Error().Err(err).Msg("sign-out of a command line")
	answerJSON(w, http.StatusServiceUnavailable, map[string]string{"error": "temporarily_unavailable", "error_description": "noxaudit could not reach its database, so the session goes on. Try again in a minute."})
}
