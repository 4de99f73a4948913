// Package api is the JSON API, under /api/v1, by which programs do what people do in comments and on pages:
//
//	GET  /api/v1/orgs/{login}/repositories/{name}/waivers?state=open
//	GET  /api/v1/orgs/{login}/repositories/{name}/waivers/{id}
//	POST /api/v1/orgs/{login}/repositories/{name}/commands      {"pull": 7, "command": "/noxaudit approve W-…"}
//
// A request carries the token of a command line (auth.Bearer); cookies are not looked at. Whether its person reaches
// what it names is decided in one place, before anything else is done; whoever does not is told that it is not there.
// A command goes the road of comments: the same grammar, rules and entries.
package api

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"math"
	"mime"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/rs/zerolog"
	"golang.org/x/time/rate"

	"github.com/noxaudit/noxaudit/checks/gate"
	"github.com/noxaudit/noxaudit/internal/access"
	"github.com/noxaudit/noxaudit/internal/canon"
	"github.com/noxaudit/noxaudit/internal/name"
	"github.com/noxaudit/noxaudit/internal/store"
	"github.com/noxaudit/noxaudit/policy/waiver"
	"github.com/noxaudit/noxaudit/server/auth"
)

// Limits of what is sent and answered.
const (
	MaxBody    = 128 << 10 // bytes of a request: waiver.MaxLine, escaped
	MaxWaivers = 500       // of one list
)

// Limits of one person, in one process. Commands are as many an hour as in comments.
const (
	readBurst    = 60
	readEvery    = 200 * time.Millisecond
	commandBurst = 20
	commandEvery = time.Minute

	commandsAtOnce = 16 // of all: each asks GitHub
	commandTime    = 30 * time.Second
	mostRemembered = 10_000 // people
)

// Options are what the API is made of. All are required.
type Options struct {
	Who    func(*http.Request) (auth.Current, *auth.Page) // auth.Bearer
	Gate   *gate.Gate
	People gate.People
	Wake   func(heads []store.HeadKey) // something was recorded, and wants these looked at
	Log    zerolog.Logger
}

type api struct {
	Options
	busy  chan struct{}
	mu    sync.Mutex
	rates map[rateKey]*rate.Limiter
}

type rateKey struct {
	person  int64
	command bool
}

// call is a request whose person reaches what it names.
type call struct {
	*http.Request
	who     auth.Current
	account name.Account
	repo    store.Repository
	order   order // of a command
}

// order is the body of a command.
type order struct {
	Pull    int    `json:"pull"` // 0: that in which the waiver was asked for
	Command string `json:"command"`
}

// Receipt is what came of a command.
type Receipt struct {
	Refused  bool    `json:"refused"`
	Code     string  `json:"code,omitempty"`     // of the refusal
	Sentence string  `json:"sentence,omitempty"` // likewise: what is wrong and what would be valid
	Waiver   *Waiver `json:"waiver,omitempty"`   // as it stands now, where the command was about one
	Applied  bool    `json:"applied"`            // something is in force, or ended, by it
	Text     string  `json:"text"`               // Markdown: what a comment would be answered
}

// Waiver is a waiver with what people need to go on.
type Waiver struct {
	waiver.Waiver
	Name     string   `json:"name"`               // "W-9QK3TZAB@1a2b3c4d"
	Missing  int      `json:"missing"`            // approvals
	Commands []string `json:"commands,omitempty"` // that its state allows, to copy
}

// Waivers is a list of them.
type Waivers struct {
	Waivers []Waiver `json:"waivers"`
	More    bool     `json:"more"` // there are more than MaxWaivers
}

func shown(w waiver.Waiver) Waiver { return Waiver{w, w.Name(), w.Missing(), w.Lines()} }

// route is one thing that the API does, in a repository.
type route struct {
	pattern string // below /api/v1/orgs/{login}/repositories/{name}
	query   []string
	command bool
	serve   func(*api, context.Context, call) (any, error)
}

var routes = []route{
	{"GET /waivers", []string{"state"}, false, (*api).list},
	{"GET /waivers/{id}", nil, false, (*api).show},
	{"POST /commands", nil, true, (*api).command},
}

// New makes the API's handler.
func New(o Options) http.Handler {
	a := &api{Options: o, busy: make(chan struct{}, commandsAtOnce), rates: newRates()}
	mux := http.NewServeMux()
	for _, r := range routes {
		method, path, _ := strings.Cut(r.pattern, " ")
		mux.HandleFunc(method+" /api/v1/orgs/{login}/repositories/{name}"+path, func(w http.ResponseWriter, req *http.Request) {
			out, err := a.enter(w, req, r)
			a.answer(w, out, err)
		})
	}
	mux.HandleFunc("/", func(w http.ResponseWriter, req *http.Request) {
		_, err := a.person(req, false)
		if err == nil {
			err = problem(NotFound, "The API has no such address, or not with this method.")
		}
		a.answer(w, nil, err)
	})
	return mux
}

// enter is the one way in: who is it, how often, may the person reach it, is the request well formed.
func (a *api) enter(w http.ResponseWriter, req *http.Request, r route) (any, error) {
	who, err := a.person(req, r.command)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(req.Context(), commandTime)
	defer cancel()
	c := call{Request: req, who: who}
	if c.account, c.repo, err = a.repository(ctx, who.Person, req.PathValue("login"), req.PathValue("name")); err != nil {
		return nil, err
	}
	on := access.On{Account: c.account, Repository: c.repo.ID}
	if !access.Can(who.Person, access.SeeRepository, on) {
		return nil, store.ErrNotFound
	}
	for k, v := range req.URL.Query() {
		if !slices.Contains(r.query, k) || len(v) != 1 {
			return nil, problem(Invalid, "The address takes no "+strconv.Quote(clip(k))+", or takes it once.")
		}
	}
	if r.command {
		if err := readOrder(w, req, &c.order); err != nil {
			return nil, err
		}
		if !access.Can(who.Person, actionOf(c.order.Command), on) {
			return nil, store.ErrNotFound
		}
	}
	return r.serve(a, ctx, c)
}

func clip(s string) string { return s[:min(len(s), 40)] }

// person is who asks, if not too often.
func (a *api) person(req *http.Request, command bool) (auth.Current, error) {
	who, page := a.Who(req)
	if page != nil {
		if page.Status == http.StatusUnauthorized {
			return auth.Current{}, problem(NotSignedIn, page.Sentence)
		}
		return auth.Current{}, problem(Unavailable, page.Sentence)
	}
	now := a.Gate.Now()
	r := a.limiter(rateKey{who.ID, command}, now).ReserveN(now, 1)
	if wait := r.DelayFrom(now); wait > 0 {
		r.CancelAt(now)
		return auth.Current{}, &tooOften{problem(TooOften, "You ask more often than noxaudit answers one person, so nothing was done. Wait a little, then go on."), wait}
	}
	return who, nil
}

type tooOften struct {
	*Problem
	wait time.Duration
}

func (t *tooOften) Unwrap() error { return t.Problem }

func newRates() map[rateKey]*rate.Limiter { return map[rateKey]*rate.Limiter{} }

func (a *api) limiter(k rateKey, now time.Time) *rate.Limiter {
	a.mu.Lock()
	defer a.mu.Unlock()
	l := a.rates[k]
	if l != nil {
		return l
	}
	if len(a.rates) >= mostRemembered {
		for k, l := range a.rates { // whoever has not asked for long is as good as new
			if l.TokensAt(now) >= float64(l.Burst()) {
				delete(a.rates, k)
			}
		}
	}
	l = rate.NewLimiter(rate.Every(readEvery), readBurst)
	if k.command {
		l = rate.NewLimiter(rate.Every(commandEvery), commandBurst)
	}
	a.rates[k] = l
	return l
}

// repository finds what an address names among the accounts in which the person has a role: others are not looked at.
func (a *api) repository(ctx context.Context, p access.Person, login, repo string) (name.Account, store.Repository, error) {
	for _, g := range p.Grants {
		if !strings.EqualFold(g.Login, login) {
			continue
		}
		all, err := a.Gate.Store.For(g.Account).CoveredRepositories(ctx)
		if err != nil {
			return name.Account{}, store.Repository{}, err
		}
		for _, r := range all {
			if r.Origin != nil && strings.EqualFold(r.Origin.Owner, login) && strings.EqualFold(r.Origin.Name, repo) {
				return g.Account, r, nil
			}
		}
	}
	return name.Account{}, store.Repository{}, store.ErrNotFound
}

// actionOf is what a command line does. What cannot be read is refused by the rules of waivers, as in a comment.
func actionOf(line string) access.Action {
	c, err := waiver.Parse(line)
	if err != nil {
		return access.SeeRepository
	}
	switch c.Verb {
	case waiver.VerbWaive, waiver.VerbExtend:
		return access.RequestWaiver
	case waiver.VerbApprove, waiver.VerbEmergency:
		return access.ApproveWaiver
	case waiver.VerbReject:
		return access.RejectWaiver
	case waiver.VerbRevoke:
		return access.RevokeWaiver
	}
	return access.SeeRepository
}

func readOrder(w http.ResponseWriter, req *http.Request, o *order) error {
	if t, _, err := mime.ParseMediaType(req.Header.Get("Content-Type")); err != nil || t != "application/json" {
		return problem(NotJSON, "The body must be JSON, with Content-Type: application/json.")
	}
	b, err := io.ReadAll(http.MaxBytesReader(w, req.Body, MaxBody))
	var large *http.MaxBytesError
	if errors.As(err, &large) {
		return problem(TooLarge, "The body is longer than "+strconv.Itoa(MaxBody)+" bytes.")
	}
	if err != nil {
		return problem(Invalid, "The body ended early.")
	}
	if err := canon.Unmarshal(b, o); err != nil || !bytes.HasPrefix(bytes.TrimLeft(b, " \t\r\n"), []byte("{")) {
		return problem(Invalid, `The body must be {"pull": 7, "command": "/noxaudit …"} and nothing else.`)
	}
	if o.Pull < 0 || o.Pull > math.MaxInt32 {
		return problem(Invalid, "There is no pull request of this number.")
	}
	return nil
}

func (a *api) list(ctx context.Context, c call) (any, error) {
	state := c.URL.Query().Get("state")
	known := []string{"", "open", "all", string(waiver.Pending), string(waiver.Active), string(waiver.Rejected), string(waiver.Lapsed), string(waiver.Expired),
		string(waiver.Revoked), string(waiver.Resolved), string(waiver.Superseded)}
	if !slices.Contains(known, state) {
		return nil, problem(Invalid, "There is no state "+strconv.Quote(clip(state))+". Valid are "+strings.Join(known[1:], ", ")+".")
	}
	open := state == "" || state == "open" || !waiver.State(state).Final() && state != "all"
	all, err := a.Gate.Waivers(ctx, c.account, c.repo.ID, open, MaxWaivers+1)
	if err != nil {
		return nil, err
	}
	out := Waivers{Waivers: []Waiver{}, More: len(all) > MaxWaivers}
	for _, w := range all[:min(len(all), MaxWaivers)] {
		if state == "" || state == "open" || state == "all" || string(w.State) == state {
			out.Waivers = append(out.Waivers, shown(w))
		}
	}
	return out, nil
}

func (a *api) show(ctx context.Context, c call) (any, error) {
	t, err := waiver.ParseTarget(c.PathValue("id"))
	if err == nil && t.Kind != waiver.WaiverTarget {
		return nil, problem(Invalid, "A waiver is written W- and 6 to 10 characters, such as W-9QK3TZAB.")
	}
	if err != nil {
		return nil, err
	}
	w, err := a.Gate.Waiver(ctx, c.account, c.repo.ID, t)
	if err != nil {
		return nil, err
	}
	return shown(w), nil
}

func (a *api) command(ctx context.Context, c call) (any, error) {
	select {
	case a.busy <- struct{}{}:
		defer func() { <-a.busy }()
	default:
		return nil, problem(Unavailable, "noxaudit is busy with other commands, so nothing was done. Try again in a few seconds.")
	}
	r, err := a.Gate.Command(ctx, gate.Order{
		Account: c.account, Repository: c.repo.ID, Pull: c.order.Pull, Surface: waiver.CLI,
		By: waiver.Person{ID: c.who.ID, Login: c.who.Login}, Line: c.order.Command,
	}, a.People)
	if err != nil {
		return nil, err
	}
	a.Wake(r.Heads)
	out := Receipt{Applied: r.Applied, Text: r.Text}
	if r.Waiver != nil {
		w := shown(*r.Waiver)
		out.Waiver = &w
	}
	if r.Refusal != nil {
		out.Refused, out.Code, out.Sentence = true, string(r.Refusal.Code), r.Refusal.Sentence
	}
	return out, nil
}

// answer writes what came of a request. Nothing of it is kept by anybody on the way, and no page of another site may
// read it: there are no CORS headers.
func (a *api) answer(w http.ResponseWriter, out any, err error) {
	h := w.Header()
	h.Set("Cache-Control", "no-store")
	h.Set("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'")
	h.Set("Vary", "Authorization")
	h.Set("X-Content-Type-Options", "nosniff")
	status, kind := http.StatusOK, "application/json"
	if err != nil {
		p := problemOf(err)
		if p.Kind == Failed {
			a.Log.Error().Err(err).Msg("api")
		}
		var often *tooOften
		switch {
		case errors.As(err, &often):
			h.Set("Retry-After", strconv.Itoa(int(math.Ceil(often.wait.Seconds()))))
		case p.Kind == Unavailable:
			h.Set("Retry-After", "30")
		case p.Kind == NotSignedIn:
			h.Set("WWW-Authenticate", "Bearer")
		}
		out, status, kind = p, p.Status, "application/problem+json"
	}
	h.Set("Content-Type", kind)
	w.WriteHeader(status)
	enc := json.NewEncoder(w) // escapes <, > and &: the answer is no HTML to anybody
	_ = enc.Encode(out)       // the client is gone: nobody is left to tell
}
