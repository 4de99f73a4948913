package githubsim

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"time"
)

const (
	payloadLimit = 25 << 20           // larger webhooks are not sent
	listedFor    = 3 * 24 * time.Hour // how far back the list of deliveries reaches
)

// Delivery is a webhook that was sent, or tried.
type Delivery struct {
	ID           int64
	GUID         string // X-GitHub-Delivery; a redelivery keeps it
	Event        string
	Action       string
	App          int64
	Installation int64
	Repository   int64
	At           time.Time
	Redelivery   bool
	Status       string // OK, or what went wrong; "" while on its way
	StatusCode   int
	Payload      []byte
}

type delivery struct {
	Delivery
	app      *app
	duration time.Duration
	headers  http.Header // of the answer
	answer   string
	request  http.Header
}

// emit sends a repository's event to every installation on it that asked for the event.
func (s *Server) emit(r *repo, sender *account, event, action string, body object) {
	for _, i := range s.installationsOf(r) {
		if i.wants(event) {
			s.emitTo(i, r, sender, event, action, maps.Clone(body))
		}
	}
}

// emitOrg sends an organisation's event.
func (s *Server) emitOrg(org, sender *account, event, action string, body object) {
	for _, id := range slices.Sorted(maps.Keys(s.installations)) {
		if i := s.installations[id]; i.account == org && i.wants(event) {
			s.emitTo(i, nil, sender, event, action, maps.Clone(body))
		}
	}
}

// eventPermissions is what an App must be allowed to read to get an event.
var eventPermissions = map[string]string{
	"pull_request": "pull_requests", "pull_request_review": "pull_requests", "issue_comment": "issues", "push": "contents", "check_run": "checks",
	"check_suite": "checks", "merge_group": "merge_queues", "member": "members", "membership": "members", "team": "members",
	"organization": "members", "repository": "metadata",
}

func (i *installation) wants(event string) bool {
	if !i.suspended.IsZero() {
		return false
	}
	if event == "issue_comment" && i.permissions["pull_requests"] != "" {
		return slices.Contains(i.events, event)
	}
	return slices.Contains(i.events, event) && i.permissions[eventPermissions[event]] != ""
}

// emitTo sends an event to one installation: the keys every payload has are added here.
func (s *Server) emitTo(i *installation, r *repo, sender *account, event, action string, body object) {
	if i.app.hookURL == "" {
		return
	}
	if action != "" {
		body["action"] = action
	}
	body["sender"] = s.person(sender)
	var repository int64
	if event == "installation" || event == "installation_repositories" {
		body["installation"] = s.installation(i)
	} else {
		body["installation"] = object{"id": i.id, "node_id": nodeID("I", i.id)}
		if i.account.kind == "Organization" {
			body["organization"] = s.organization(i.account)
		}
	}
	if r != nil {
		repository = r.id
		body["repository"] = s.repository(r)
	}
	payload, err := json.Marshal(body)
	if err != nil {
		panic(err) // only values that marshal are sent
	}
	if len(payload) > payloadLimit {
		return
	}
	plan := s.drawLocked("webhook " + event)
	if plan.kind == Lost {
		return
	}
	d := &delivery{app: i.app, Delivery: Delivery{ID: s.newID(), GUID: s.guid(), Event: event, Action: action, App: i.app.id, Installation: i.id,
		Repository: repository, At: s.now(), Payload: payload}}
	s.deliveries = append(s.deliveries, d)
	switch plan.kind {
	case Late:
		s.courier.later(plan.after, d)
	case Reordered:
		s.courier.hold(d)
	case Doubled:
		s.courier.add(d, d)
	default:
		s.courier.add(d)
	}
}

// hookClient reaches receivers directly, and follows no redirect.
var hookClient = &http.Client{
	Transport:     &http.Transport{MaxIdleConnsPerHost: 16, IdleConnTimeout: 30 * time.Second},
	CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
}

// post sends one delivery and notes the outcome. The first outcome stays when a fault sends it twice.
func (s *Server) post(ctx context.Context, d *delivery) {
	s.mu.Lock()
	target, secret := d.app.hookURL, d.app.secret
	h := http.Header{}
	h.Set("Accept", "*/*")
	h.Set("Content-Type", "application/json")
	h.Set("User-Agent", "GitHub-Hookshot/"+s.random(7))
	h.Set("X-GitHub-Delivery", d.GUID)
	h.Set("X-GitHub-Event", d.Event)
	h.Set("X-GitHub-Hook-ID", strconv.FormatInt(d.App, 10))
	h.Set("X-GitHub-Hook-Installation-Target-ID", strconv.FormatInt(d.App, 10))
	h.Set("X-GitHub-Hook-Installation-Target-Type", "integration")
	if secret != "" {
		h.Set("X-Hub-Signature", "sha1="+sign(hmac.New(sha1.New, []byte(secret)), d.Payload))
		h.Set("X-Hub-Signature-256", "sha256="+sign(hmac.New(sha256.New, []byte(secret)), d.Payload))
	}
	d.request = h
	s.mu.Unlock()
	ctx, cancel := context.WithTimeout(ctx, s.opts.HookTimeout)
	defer cancel()
	start := time.Now()
	status, code, answer := "", 0, ""
	var headers http.Header
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, target, bytes.NewReader(d.Payload))
	if err == nil {
		req.Header = h.Clone()
		var res *http.Response
		if res, err = hookClient.Do(req); err == nil {
			body, _ := io.ReadAll(io.LimitReader(res.Body, 1<<16))
			res.Body.Close()
			headers, answer, code = res.Header, string(body), res.StatusCode
			if status = "OK"; code/100 != 2 {
				status = fmt.Sprintf("Invalid HTTP Response: %d", code)
			}
		}
	}
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		status, code = "timed out", http.StatusGatewayTimeout
	case err != nil:
		status, code = "failed to connect to host", http.StatusBadGateway
	}
	defer s.lock()()
	if d.Status == "" {
		d.Status, d.StatusCode, d.headers, d.answer, d.duration = status, code, headers, answer, time.Since(start)
	}
}

func sign(mac interface {
	io.Writer
	Sum([]byte) []byte
}, payload []byte) string {
	mac.Write(payload)
	return hex.EncodeToString(mac.Sum(nil))
}

// Deliveries are all webhooks tried since the start, oldest first, those that were lost excepted.
func (s *Server) Deliveries() []Delivery {
	defer s.lock()()
	all := make([]Delivery, len(s.deliveries))
	for i, d := range s.deliveries {
		all[i] = d.Delivery
	}
	return all
}

// Redeliver sends a delivery again under its id, as the button in the App's settings does.
func (s *Server) Redeliver(id int64) error {
	defer s.lock()()
	for _, d := range s.deliveries {
		if d.ID == id {
			s.redeliver(d)
			return nil
		}
	}
	return fmt.Errorf("delivery %d: does not exist", id)
}

func (s *Server) redeliver(d *delivery) {
	again := &delivery{app: d.app, Delivery: d.Delivery}
	again.ID, again.At, again.Redelivery, again.Status, again.StatusCode = s.newID(), s.now(), true, "", 0
	s.deliveries = append(s.deliveries, again)
	s.courier.add(again)
}

// Flush waits until every webhook so far has been answered or given up, late ones too.
func (s *Server) Flush(ctx context.Context) error { return s.courier.flush(ctx) }
