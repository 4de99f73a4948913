package github

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/palantir/go-githubapp/githubapp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"

	"github.com/noxaudit/noxaudit/internal/name"
)

// Delivery is one webhook whose signature was right.
type Delivery struct {
	GUID         string // X-GitHub-Delivery, lower case: equal for every attempt at this delivery
	Event        string
	Action       string // "" for events without one
	Installation int64  // 0 when the payload names none
	Account      name.Account
	Received     time.Time
	Body         []byte // the JSON as it came
}

// Inbox stores deliveries. Receive returns nil only when d is durable; a delivery that is already there is nil too.
// ctx ends in good time before GitHub loses patience, and not when the connection does.
type Inbox interface {
	Receive(ctx context.Context, d Delivery) error
}

// HandlerOptions say how webhooks are received.
type HandlerOptions struct {
	Secret     string                // shared with GitHub; required
	Inbox      Inbox                 // required
	Now        func() time.Time      // time.Now
	Log        zerolog.Logger        // one line a delivery, without body, signature or secret
	Registerer prometheus.Registerer // nil: counted, not registered
	MaxBytes   int64                 // of one body; 25 MiB, which is GitHub's own limit
	MaxTotal   int64                 // of all bodies being received at a time; 256 MiB: nobody proved anything yet
	Timeout    time.Duration         // for the inbox; 8 s, since GitHub hangs up after 10
}

// NewHandler makes the webhook endpoint. It answers
//
//	200 stored (or already there; or a ping)     202 nothing for us: not stored
//	400 not a webhook delivery                   401 no valid SHA-256 signature
//	405, 413, 415 method, size, media type       503 not stored: GitHub lists it as failed and the sweeper asks again
func NewHandler(o HandlerOptions) (http.Handler, error) {
	if o.Secret == "" {
		return nil, errors.New("webhook secret: empty; set NOXAUDIT_GITHUB_WEBHOOK_SECRET to the secret of the GitHub App")
	}
	if o.Inbox == nil {
		return nil, errors.New("webhook inbox: none")
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.MaxBytes <= 0 {
		o.MaxBytes = 25 << 20
	}
	if o.MaxTotal <= 0 {
		o.MaxTotal = 256 << 20
	}
	if o.Timeout <= 0 {
		o.Timeout = 8 * time.Second
	}
	h := &webhook{opts: o, counter: prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "github_webhooks_total",
		Help: "Webhook deliveries by event and by what became of them.",
	}, []string{"event", "result"})}
	if o.Registerer != nil {
		if err := o.Registerer.Register(h.counter); err != nil {
			return nil, fmt.Errorf("webhook metrics: %w", err)
		}
	}
	h.dispatcher = githubapp.NewEventDispatcher([]githubapp.EventHandler{stored{}}, o.Secret,
		githubapp.WithScheduler(h), githubapp.WithErrorCallback(h.refused), githubapp.WithResponseCallback(h.answer))
	return h, nil
}

type webhook struct {
	opts       HandlerOptions
	dispatcher http.Handler
	counter    *prometheus.CounterVec
	receiving  atomic.Int64 // bytes promised by the requests being read
}

var (
	eventName = regexp.MustCompile(`^[a-z][a-z_]{0,63}$`)
	guid      = regexp.MustCompile(`^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$`)
)

// ServeHTTP stands before the dispatcher, whose library would take SHA-1 signatures, forms, and bodies without end.
func (h *webhook) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	code, result, problem := h.check(r)
	if code != 0 {
		h.refuse(w, r, code, result, problem)
		return
	}
	size := r.ContentLength
	if size < 0 {
		size = h.opts.MaxBytes
	}
	if h.receiving.Add(size) > h.opts.MaxTotal {
		h.receiving.Add(-size)
		h.refuse(w, r, http.StatusServiceUnavailable, "busy", "too many deliveries at a time: not stored, send it again")
		return
	}
	defer h.receiving.Add(-size)
	r.Body = http.MaxBytesReader(w, r.Body, h.opts.MaxBytes)
	r.Header.Del("X-Hub-Signature")
	// The dispatcher logs through the context; every delivery has its line from us, so it gets a logger that is silent.
	quiet := zerolog.Nop()
	h.dispatcher.ServeHTTP(w, r.WithContext(quiet.WithContext(r.Context())))
}

// check looks at everything that can be refused before the body is read; code 0 lets it pass.
func (h *webhook) check(r *http.Request) (code int, result, problem string) {
	one := func(header string) string {
		if v := r.Header.Values(header); len(v) == 1 {
			return v[0]
		}
		return ""
	}
	if r.Method != http.MethodPost {
		return http.StatusMethodNotAllowed, "bad_request", "method: want POST"
	}
	if media, _, err := mime.ParseMediaType(one("Content-Type")); err != nil || media != "application/json" {
		return http.StatusUnsupportedMediaType, "bad_request", "content type: want application/json; choose it in the settings of the GitHub App"
	}
	if !eventName.MatchString(one("X-GitHub-Event")) {
		return http.StatusBadRequest, "bad_request", "X-GitHub-Event: want the name of one event"
	}
	if !guid.MatchString(one("X-GitHub-Delivery")) {
		return http.StatusBadRequest, "bad_request", "X-GitHub-Delivery: want a GUID"
	}
	mac, ok := strings.CutPrefix(one("X-Hub-Signature-256"), "sha256=")
	if b, err := hex.DecodeString(mac); !ok || err != nil || len(b) != 32 {
		return http.StatusUnauthorized, "bad_signature", "X-Hub-Signature-256: want sha256= and 64 hexadecimal digits; set the same webhook secret here and in the GitHub App"
	}
	if r.ContentLength > h.opts.MaxBytes {
		return http.StatusRequestEntityTooLarge, "too_large", tooLarge(h.opts.MaxBytes)
	}
	return 0, "", ""
}

func tooLarge(most int64) string { return fmt.Sprintf("body: larger than %d bytes", most) }

// errNotDelivery says that a signed body is not what its event should be.
var errNotDelivery = errors.New("not a delivery")

// errNothing says that a delivery asks nothing of us. It never leaves this file.
var errNothing = errors.New("nothing to do")

// Schedule makes the delivery durable before the dispatcher answers: a 2xx to GitHub is a promise.
func (h *webhook) Schedule(ctx context.Context, d githubapp.Dispatch) error {
	var w wireEvent
	if err := json.Unmarshal(d.Payload, &w); err != nil {
		return fmt.Errorf("%w: %w", errNotDelivery, err)
	}
	if !asks(d.EventType, w.Action) {
		return errNothing
	}
	delivery := Delivery{
		GUID: strings.ToLower(d.DeliveryID), Event: d.EventType, Action: w.Action,
		Installation: max(w.Installation.ID, 0), Account: w.account(),
		Received: h.opts.Now().UTC(), Body: d.Payload,
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), h.opts.Timeout)
	defer cancel()
	return h.opts.Inbox.Receive(ctx, delivery)
}

// account is whose delivery it is: the repository's owner, else the organization, else who installed the App.
func (w wireEvent) account() name.Account {
	for _, a := range []*wireAccount{w.owner(), w.Organization, &w.Installation.Account} {
		if a != nil && a.ID > 0 {
			account, _ := a.parse()
			return account
		}
	}
	return name.Account{}
}

func (w wireEvent) owner() *wireAccount {
	if w.Repository == nil {
		return nil
	}
	return &w.Repository.Owner
}

// answer is called when a delivery is stored, and for events that no handler is registered for.
func (h *webhook) answer(w http.ResponseWriter, r *http.Request, event string, handled bool) {
	switch {
	case handled:
		h.reply(w, r, http.StatusOK, "stored", "stored")
	case event == "ping":
		h.reply(w, r, http.StatusOK, "ping", "pong")
	default:
		h.reply(w, r, http.StatusAccepted, "ignored", "ignored: nothing to do for this event")
	}
}

// refused is called by the dispatcher with what the body, its signature or the inbox did not stand.
func (h *webhook) refused(w http.ResponseWriter, r *http.Request, err error) {
	var invalid githubapp.ValidationError
	var large *http.MaxBytesError
	switch {
	case errors.Is(err, errNothing):
		h.answer(w, r, "", false)
	case errors.As(err, &invalid) && errors.As(invalid.Cause, &large):
		h.refuse(w, r, http.StatusRequestEntityTooLarge, "too_large", tooLarge(h.opts.MaxBytes))
	case errors.As(err, &invalid) && (errors.Is(invalid.Cause, io.ErrUnexpectedEOF) || r.Context().Err() != nil):
		h.refuse(w, r, http.StatusBadRequest, "bad_request", "body: ended early")
	case errors.As(err, &invalid):
		h.refuse(w, r, http.StatusUnauthorized, "bad_signature", "signature: does not match; set the same webhook secret here and in the GitHub App")
	case errors.Is(err, errNotDelivery):
		h.refuse(w, r, http.StatusBadRequest, "bad_request", "body: not the JSON of a webhook")
	default:
		h.line(r, zerolog.ErrorLevel).Err(err).Msg("webhook not stored")
		h.refuse(w, r, http.StatusServiceUnavailable, "not_stored", "the delivery could not be stored: send it again")
	}
}

func (h *webhook) refuse(w http.ResponseWriter, r *http.Request, code int, result, problem string) {
	if code == http.StatusMethodNotAllowed {
		w.Header().Set("Allow", http.MethodPost)
	}
	h.reply(w, r, code, result, problem)
}

func (h *webhook) reply(w http.ResponseWriter, r *http.Request, code int, result, sentence string) {
	event := r.Header.Get("X-GitHub-Event")
	if _, ok := handled[event]; !ok && event != "ping" {
		event = "other" // what anybody can send must not become a label
	}
	h.counter.WithLabelValues(event, result).Inc()
	level := zerolog.InfoLevel
	if code >= 400 {
		level = zerolog.WarnLevel
	}
	h.line(r, level).Int("status", code).Str("result", result).Msg(sentence)
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.WriteHeader(code)
	io.WriteString(w, sentence+"\n")
}

// line begins a log line with what identifies the delivery, once it has the form of an identifier.
func (h *webhook) line(r *http.Request, level zerolog.Level) *zerolog.Event {
	l := h.opts.Log.WithLevel(level)
	if event := r.Header.Get("X-GitHub-Event"); eventName.MatchString(event) {
		l.Str("event", event)
	}
	if id := r.Header.Get("X-GitHub-Delivery"); guid.MatchString(id) {
		l.Str("delivery", strings.ToLower(id))
	}
	return l
}

// stored names the events that the dispatcher passes to the scheduler. Nothing is ever executed by it.
type stored struct{}

func (stored) Handles() []string {
	events := make([]string, 0, len(handled))
	for event := range handled {
		events = append(events, event)
	}
	slices.Sort(events)
	return events
}

func (stored) Handle(context.Context, string, string, []byte) error {
	return errors.New("webhook: deliveries are stored, not handled in the request")
}
