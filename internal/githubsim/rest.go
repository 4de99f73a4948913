package githubsim

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

const (
	apiPrefix = "/api/v3"
	docsURL   = "https://docs.github.com/rest"
	bodyLimit = 10 << 20 // of a request; ours, GitHub does not say
)

// object is a JSON object of an answer or a payload.
type object = map[string]any

// who is the kind of caller a route is for.
type who int

const (
	anyone who = iota
	theApp     // proves itself with a JWT
	anInstallation
	aPerson     // signed in
	byBasicAuth // an App's client id and secret, which the handler looks at
)

// access is what a route asks of its caller.
type access struct {
	who   who
	level string   // of the permissions: read or write
	of    []string // one of these permissions is enough; on the repository, or on the organisation for members
}

func needs(level string, permissions ...string) access {
	return access{anInstallation, level, permissions}
}

// call is a request while it is handled.
type call struct {
	r            *http.Request
	base         string // of the addresses in answers
	body         []byte
	app          *app
	installation *installation
	token        *token
	user         *account
	repo         *repo
}

// reply is what a handler answers.
type reply struct {
	status int
	body   any // nil: none
	header http.Header
}

// seal turns a reply's body into bytes, while what it shows cannot change.
func (o *reply) seal() []byte {
	if o.header == nil {
		o.header = http.Header{}
	}
	if o.body == nil {
		return nil
	}
	raw, err := json.Marshal(o.body)
	if err != nil {
		panic(err) // only values that marshal are answered
	}
	o.header.Set("Content-Type", "application/json; charset=utf-8")
	return raw
}

// problem is a refusal before the handler.
type problem struct {
	status  int
	message string
	header  http.Header
}

func (p *problem) reply() reply {
	r := fail(p.status, p.message)
	r.header = p.header
	return r
}

func ok(body any) reply { return reply{status: http.StatusOK, body: body} }

func fail(status int, message string) reply {
	return reply{status: status, body: object{"message": message, "documentation_url": docsURL, "status": strconv.Itoa(status)}}
}

// invalid is a 422 that names a field; code is missing, missing_field, invalid, already_exists or custom (with a message).
func invalid(resource, field, code, message string) reply {
	e := object{"resource": resource, "field": field, "code": code}
	if message != "" {
		e["message"] = message
	}
	return reply{status: http.StatusUnprocessableEntity, body: object{"message": "Validation Failed", "errors": []object{e},
		"documentation_url": docsURL, "status": "422"}}
}

func (c *call) value(name string) string { return c.r.PathValue(name) }

func (c *call) id(name string) int64 {
	n, err := strconv.ParseInt(c.value(name), 10, 64)
	if err != nil {
		return -1
	}
	return n
}

func (c *call) query(name string) string { return c.r.URL.Query().Get(name) }

// decode reads the request's JSON. When it cannot, the reply says why.
func (c *call) decode(into any) (reply, bool) {
	if err := json.Unmarshal(c.body, into); err != nil {
		if _, wrongType := err.(*json.UnmarshalTypeError); wrongType {
			return fail(http.StatusUnprocessableEntity, "Invalid request.\n\n"+strings.TrimPrefix(err.Error(), "json: ")), false
		}
		return fail(http.StatusBadRequest, "Problems parsing JSON"), false
	}
	return reply{}, true
}

// actor is who acts through the API.
func (c *call) actor() *account {
	if c.user != nil {
		return c.user
	}
	return c.installation.app.bot
}

// endpoint is one route of the API.
type endpoint struct {
	pattern string // as in Call.Route
	method  string
	path    []string // segments; {name} is one of any text, {name_id} and {name_number} one of digits ({client_id} is text), {name...} all that remain
	access  access
	handle  func(*call) reply
}

// route serves a pattern such as "GET /repos/{owner}/{repo}", and the same under /repositories/{id}, where renamed repositories redirect to.
func (s *Server) route(pattern string, a access, h func(*call) reply) {
	method, path, _ := strings.Cut(pattern, " ")
	s.endpoints = append(s.endpoints, &endpoint{pattern, method, strings.Split(path, "/"), a, h})
	if rest, ok := strings.CutPrefix(path, "/repos/{owner}/{repo}"); ok {
		s.endpoints = append(s.endpoints, &endpoint{pattern, method, strings.Split("/repositories/{repository_id}"+rest, "/"), a, h})
	}
}

var nowhere = &endpoint{handle: func(*call) reply { return fail(http.StatusNotFound, "Not Found") }}

// find is the endpoint of a request; the values of its path are set on the request.
func (s *Server) find(r *http.Request) *endpoint {
	got := strings.Split(strings.TrimPrefix(r.URL.EscapedPath(), apiPrefix), "/")
next:
	for _, e := range s.endpoints {
		open := strings.HasSuffix(e.path[len(e.path)-1], "...}")
		if e.method != r.Method || len(got) < len(e.path) || !open && len(got) > len(e.path) {
			continue
		}
		values := map[string]string{}
		for i, want := range e.path {
			name, variable := strings.CutPrefix(want, "{")
			if !variable {
				if want != got[i] {
					continue next
				}
				continue
			}
			raw := got[i]
			if open && i == len(e.path)-1 {
				raw = strings.Join(got[i:], "/")
			}
			value, err := url.PathUnescape(raw)
			name = strings.TrimRight(name, ".}")
			number := strings.HasSuffix(name, "_id") && name != "client_id" || strings.HasSuffix(name, "_number")
			if err != nil || raw == "" && !open || number && strings.Trim(value, "0123456789") != "" {
				continue next
			}
			values[name] = value
		}
		for name, value := range values {
			r.SetPathValue(name, value)
		}
		return e
	}
	return nowhere
}

// serveREST is the road of every REST call: faults, credentials, limits, repository, permission, handler, answer.
func (s *Server) serveREST(w http.ResponseWriter, r *http.Request) {
	e := s.find(r)
	path := strings.TrimPrefix(r.URL.Path, apiPrefix)
	log := Call{At: s.now(), Method: r.Method, Route: e.pattern, Path: path}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, bodyLimit))
	plan := s.draw(e.pattern)
	if plan.wait(r.Context()) != nil {
		s.record(log)
		return
	}
	c := &call{r: r, body: body}
	var out reply
	var sealed []byte
	switch {
	case plan.kind == Reset:
		log.Fault = plan.kind
		s.record(log)
		panic(http.ErrAbortHandler)
	case s.isDown():
		out = fail(http.StatusServiceUnavailable, "Service Unavailable")
	case plan.kind == ErrorBefore:
		out = fail(http.StatusBadGateway, "Server Error")
	case err != nil:
		out = fail(http.StatusRequestEntityTooLarge, "Request Entity Too Large")
	default:
		out, sealed = s.handle(c, plan, e)
	}
	log.Fault = plan.kind
	if c.app != nil {
		log.App = c.app.id
	}
	if c.installation != nil {
		log.App, log.Installation = c.installation.app.id, c.installation.id
	}
	if plan.kind == ResetAfter {
		s.record(log)
		panic(http.ErrAbortHandler)
	}
	if plan.kind == ErrorAfter {
		out, sealed = fail(http.StatusBadGateway, "Server Error"), nil
	}
	if sealed == nil {
		sealed = out.seal()
	}
	log.Status = out.status
	s.answer(w, out, sealed)
	s.mu.Lock()
	s.calls = append(s.calls, log)
	observe := s.observe
	s.mu.Unlock()
	if observe != nil {
		observe(Exchange{Route: e.pattern, Request: r, Path: path, RequestBody: c.body, Status: log.Status, Header: w.Header().Clone(), ResponseBody: sealed, Fault: plan.kind})
	}
}

// handle does what is done under the lock, and seals the answer before the state it shows can change.
func (s *Server) handle(c *call, plan mishap, e *endpoint) (reply, []byte) {
	defer s.lock()()
	s.tendQueues()
	c.base = s.baseURL
	out, charged := s.decide(c, plan, e)
	sealed := out.seal()
	if c.r.Method == http.MethodGet && out.status == http.StatusOK {
		sum := sha256.Sum256(sealed)
		etag := `W/"` + hex.EncodeToString(sum[:]) + `"`
		out.header.Set("ETag", etag)
		out.header.Set("Cache-Control", "private, max-age=60, s-maxage=60")
		out.header.Set("Vary", "Accept, Authorization, Cookie, X-GitHub-OTP")
		if c.r.Header.Get("If-None-Match") == etag {
			out.status, sealed = http.StatusNotModified, []byte{}
			out.header.Del("Content-Type")
			charged.refund()
		}
	}
	charged.describe(out.header)
	return out, sealed
}

// decide answers a call and says what it was charged to.
func (s *Server) decide(c *call, plan mishap, e *endpoint) (reply, *usage) {
	if c.r.UserAgent() == "" {
		return fail(http.StatusForbidden, "Request forbidden by administrative rules. Please make sure your request has a User-Agent header."), nil
	}
	if e.access.who != byBasicAuth {
		if p := s.authenticate(c.r.Header.Get("Authorization"), c); p != nil {
			return p.reply(), nil
		}
	}
	if plan.kind == Unauthorized {
		return fail(http.StatusUnauthorized, "Bad credentials"), nil
	}
	charged, p := s.throttle(c, plan)
	if p != nil {
		return p.reply(), charged
	}
	if refusal := s.admit(c, e.access); refusal.status != 0 {
		return refusal, charged
	}
	return e.handle(c), charged
}

// admit finds the repository and holds the caller against what the route asks. A reply without status lets the call in.
func (s *Server) admit(c *call, a access) reply {
	notFound := fail(http.StatusNotFound, "Not Found")
	switch {
	case a.who == theApp && c.app == nil:
		return fail(http.StatusUnauthorized, "A JSON web token could not be decoded")
	case a.who == anInstallation && c.token == nil && c.app != nil:
		return fail(http.StatusUnauthorized, "Bad credentials")
	case (a.who == anInstallation || a.who == aPerson) && c.token == nil:
		return fail(http.StatusUnauthorized, "Requires authentication")
	case a.who == aPerson && c.user == nil:
		return fail(http.StatusForbidden, "Resource not accessible by integration")
	}
	if c.value("repo") != "" || c.value("repository_id") != "" {
		if r := s.findRepo(c); r.status != 0 {
			return r
		}
	}
	if a.who != anInstallation {
		return reply{}
	}
	if c.user != nil { // a person reads what the person may read; noxaudit never writes as a person
		if c.repo != nil && !s.permission(c.repo, c.user).atLeast(Read) {
			return notFound
		}
		return reply{}
	}
	org := c.value("org")
	switch {
	case c.repo != nil && !c.token.sees(c.repo) && (c.repo.private || a.level == "write"):
		return notFound
	case org != "" && !strings.EqualFold(org, c.installation.account.login):
		return notFound
	case c.repo != nil && c.repo.archived && a.level == "write":
		return fail(http.StatusForbidden, "Repository was archived so is read-only.")
	}
	for _, name := range a.of {
		if allows(c.token.permissions[name], a.level) {
			return reply{}
		}
	}
	if len(a.of) == 0 {
		return reply{}
	}
	refusal := fail(http.StatusForbidden, "Resource not accessible by integration")
	refusal.header = http.Header{"X-Accepted-Github-Permissions": {strings.Join(a.of, "="+a.level+"; ") + "=" + a.level}}
	return refusal
}

// findRepo sets the call's repository; a former name is redirected.
func (s *Server) findRepo(c *call) reply {
	if id := c.value("repository_id"); id != "" {
		if c.repo = s.repos[c.id("repository_id")]; c.repo == nil {
			return fail(http.StatusNotFound, "Not Found")
		}
		return reply{}
	}
	name := c.value("owner") + "/" + c.value("repo")
	r, err := s.repo(name)
	if err == nil {
		c.repo = r
		return reply{}
	}
	old := s.repos[s.moved[strings.ToLower(name)]]
	if old == nil || c.token != nil && c.installation != nil && !c.token.sees(old) {
		return fail(http.StatusNotFound, "Not Found")
	}
	rest := strings.TrimPrefix(c.r.URL.EscapedPath(), apiPrefix+"/repos/"+c.value("owner")+"/"+c.value("repo"))
	to := fmt.Sprintf("%s%s/repositories/%d%s", s.baseURL, apiPrefix, old.id, rest)
	if c.r.URL.RawQuery != "" {
		to += "?" + c.r.URL.RawQuery
	}
	status := http.StatusMovedPermanently
	if c.r.Method != http.MethodGet {
		status = http.StatusTemporaryRedirect
	}
	out := reply{status: status, body: object{"message": "Moved Permanently", "url": to, "documentation_url": docsURL}}
	out.header = http.Header{"Location": {to}}
	return out
}

// answer writes a reply.
func (s *Server) answer(w http.ResponseWriter, out reply, sealed []byte) {
	h := w.Header()
	for name, values := range out.header {
		h[name] = values
	}
	s.mu.Lock()
	h.Set("X-GitHub-Request-Id", strings.ToUpper(s.random(4)+":"+s.random(6)+":"+s.random(7)))
	s.mu.Unlock()
	h.Set("Date", s.now().Format(http.TimeFormat))
	h.Set("X-GitHub-Media-Type", "github.v3; format=json")
	h.Set("X-GitHub-Api-Version-Selected", "2022-11-28")
	w.WriteHeader(out.status)
	if len(sealed) > 0 {
		w.Write(sealed)
	}
}

// stamp is a moment as GitHub writes it.
func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339) }

// moment is a stamp, or null for the zero time.
func moment(t time.Time) any {
	if t.IsZero() {
		return nil
	}
	return stamp(t)
}
