package github

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"
)

const hookSecret = "correct horse battery staple"

// shelf is an Inbox in memory.
type shelf struct {
	mu   sync.Mutex
	got  map[string]Delivery
	fail error
}

func (s *shelf) Receive(ctx context.Context, d Delivery) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.fail != nil {
		return s.fail
	}
	if s.got == nil {
		s.got = map[string]Delivery{}
	}
	if _, ok := s.got[d.GUID]; !ok {
		s.got[d.GUID] = d
	}
	return nil
}

var hookTime = time.Date(2026, 11, 25, 9, 0, 0, 0, time.UTC)

func newHook(t testing.TB, in Inbox, change ...func(*HandlerOptions)) http.Handler {
	t.Helper()
	o := HandlerOptions{Secret: hookSecret, Inbox: in, Now: func() time.Time { return hookTime }, Log: zerolog.Nop()}
	for _, f := range change {
		f(&o)
	}
	h, err := NewHandler(o)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

func signature(body []byte) string {
	m := hmac.New(sha256.New, []byte(hookSecret))
	m.Write(body)
	return "sha256=" + hex.EncodeToString(m.Sum(nil))
}

const someGUID = "72d3162e-cc78-11e3-81ab-4c9367dc0958"

func delivery(event string, body []byte, headers ...string) *http.Request {
	r := httptest.NewRequest(http.MethodPost, "/github/hooks", bytes.NewReader(body))
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("X-GitHub-Event", event)
	r.Header.Set("X-GitHub-Delivery", someGUID)
	r.Header.Set("X-Hub-Signature-256", signature(body))
	for i := 0; i < len(headers); i += 2 {
		if headers[i+1] == "" {
			r.Header.Del(headers[i])
		} else {
			r.Header.Set(headers[i], headers[i+1])
		}
	}
	return r
}

func answerOf(h http.Handler, r *http.Request) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

func TestASignedDeliveryIsStoredWithWhatIsNeededToFileIt(t *testing.T) {
	in := &shelf{}
	body := payload(t, "pull_request.synchronize")
	if w := answerOf(newHook(t, in), delivery("pull_request", body)); w.Code != http.StatusOK {
		t.Fatalf("%d %s", w.Code, w.Body)
	}
	d := in.got[someGUID]
	if d.Event != "pull_request" || d.Action != "synchronize" || d.Installation == 0 || d.Account.String() != "21031067" || !d.Received.Equal(hookTime) || !bytes.Equal(d.Body, body) {
		t.Errorf("%+v", d)
	}
}

func TestTheAccountIsTheOwnersElseTheOrganizationsElseTheInstallers(t *testing.T) {
	for file, want := range map[string]string{"push.created": "21031067", "membership.removed": "38302899", "installation.deleted": "1"} {
		in := &shelf{}
		event, _, _ := strings.Cut(file, ".")
		answerOf(newHook(t, in), delivery(event, payload(t, file)))
		if got := in.got[someGUID].Account.String(); got != want {
			t.Errorf("%s: account %q, want %q", file, got, want)
		}
	}
}

func TestAReplayedDeliveryIsAnsweredLikeTheFirstAndStoredOnce(t *testing.T) {
	in := &shelf{}
	h := newHook(t, in)
	body := payload(t, "push.created")
	for range 3 {
		if w := answerOf(h, delivery("push", body)); w.Code != http.StatusOK {
			t.Fatal(w.Code)
		}
	}
	// The case of the id is GitHub's affair.
	answerOf(h, delivery("push", body, "X-GitHub-Delivery", strings.ToUpper(someGUID)))
	if len(in.got) != 1 {
		t.Errorf("%d stored", len(in.got))
	}
}

func TestAnEmptySecretRefusesToStart(t *testing.T) {
	if _, err := NewHandler(HandlerOptions{Inbox: &shelf{}}); err == nil {
		t.Error("started")
	}
	if _, err := NewHandler(HandlerOptions{Secret: "x"}); err == nil {
		t.Error("started without an inbox")
	}
}

func TestRequestsThatAreNotDeliveriesAreRefused(t *testing.T) {
	body := payload(t, "push.created")
	form := []byte("payload=" + string(body))
	sum := hmac.New(sha1.New, []byte(hookSecret))
	sum.Write(body)
	oldSignature := "sha1=" + hex.EncodeToString(sum.Sum(nil))
	forged := signature([]byte("something else"))
	for what, c := range map[string]struct {
		r    *http.Request
		code int
	}{
		"GET":                     {httptest.NewRequest("GET", "/", nil), 405},
		"form":                    {delivery("push", form, "Content-Type", "application/x-www-form-urlencoded"), 415},
		"no media type":           {delivery("push", body, "Content-Type", ""), 415},
		"only a SHA-1 signature":  {delivery("push", body, "X-Hub-Signature-256", "", "X-Hub-Signature", oldSignature), 401},
		"SHA-1 in the new header": {delivery("push", body, "X-Hub-Signature-256", oldSignature), 401},
		"no signature":            {delivery("push", body, "X-Hub-Signature-256", ""), 401},
		"forged signature":        {delivery("push", body, "X-Hub-Signature-256", forged), 401},
		"forged, SHA-1 right":     {delivery("push", body, "X-Hub-Signature-256", forged, "X-Hub-Signature", oldSignature), 401},
		"short signature":         {delivery("push", body, "X-Hub-Signature-256", "sha256=00"), 401},
		"not hexadecimal":         {delivery("push", body, "X-Hub-Signature-256", "sha256="+strings.Repeat("z", 64)), 401},
		"no event":                {delivery("push", body, "X-GitHub-Event", ""), 400},
		"hostile event":           {delivery("push", body, "X-GitHub-Event", "push\x1b[31m"), 400},
		"no delivery id":          {delivery("push", body, "X-GitHub-Delivery", ""), 400},
		"delivery id not a GUID":  {delivery("push", body, "X-GitHub-Delivery", "1' OR '1'='1"), 400},
		"signed, not JSON":        {delivery("push", []byte("hello")), 400},
		"signed, not an object":   {delivery("push", []byte(`[1]`)), 400},
	} {
		in := &shelf{}
		if w := answerOf(newHook(t, in), c.r); w.Code != c.code {
			t.Errorf("%s: %d %s, want %d", what, w.Code, w.Body, c.code)
		}
		if len(in.got) != 0 {
			t.Errorf("%s: stored", what)
		}
	}
	two := delivery("push", body)
	two.Header.Add("X-Hub-Signature-256", forged)
	if w := answerOf(newHook(t, &shelf{}), two); w.Code != 401 {
		t.Errorf("two signatures: %d", w.Code)
	}
}

func TestWhatAsksNothingIsAcceptedAndNotStored(t *testing.T) {
	for _, c := range []struct {
		event string
		body  []byte
		code  int
	}{
		{"star", []byte(`{"action":"created"}`), 202},
		{"check_run", changed(t, "check_run.rerequested", map[string]any{"action": "completed"}), 202},
		{"ping", []byte(`{"zen":"…"}`), 200},
	} {
		in := &shelf{}
		if w := answerOf(newHook(t, in), delivery(c.event, c.body)); w.Code != c.code || len(in.got) != 0 {
			t.Errorf("%s: %d, %d stored", c.event, w.Code, len(in.got))
		}
	}
}

func TestABodyOneByteTooLargeIsRefusedHoweverItComes(t *testing.T) {
	if testing.Short() {
		t.Skip("25 MB")
	}
	in := &shelf{}
	h := newHook(t, in)
	huge := bytes.Repeat([]byte(" "), 25<<20+1)
	copy(huge, "{}")
	if w := answerOf(h, delivery("push", huge)); w.Code != http.StatusRequestEntityTooLarge {
		t.Errorf("declared: %d", w.Code)
	}
	chunked := delivery("push", huge)
	chunked.ContentLength = -1
	if w := answerOf(h, chunked); w.Code != http.StatusRequestEntityTooLarge {
		t.Errorf("chunked: %d", w.Code)
	}
	if w := answerOf(h, delivery("push", huge[:25<<20])); w.Code != http.StatusAccepted && w.Code != http.StatusOK {
		t.Errorf("25 MiB exactly: %d %s", w.Code, w.Body)
	}
}

func TestBodiesBeingReceivedAreBoundedTogether(t *testing.T) {
	body := payload(t, "push.created")
	h := newHook(t, &shelf{}, func(o *HandlerOptions) { o.MaxTotal = int64(len(body)) })
	pr, pw := io.Pipe()
	slow := delivery("push", body)
	slow.Body = pr
	done := make(chan int)
	go func() { done <- answerOf(h, slow).Code }()
	pw.Write(body[:1]) // it is being received now
	if w := answerOf(h, delivery("push", body)); w.Code != http.StatusServiceUnavailable {
		t.Errorf("second: %d", w.Code)
	}
	pw.Write(body[1:])
	pw.Close()
	if code := <-done; code != http.StatusOK {
		t.Errorf("first: %d", code)
	}
	if w := answerOf(h, delivery("push", body)); w.Code != http.StatusOK {
		t.Errorf("afterwards: %d", w.Code)
	}
}

func TestADeliveryThatCannotBeStoredIsNotAcknowledged(t *testing.T) {
	in := &shelf{fail: errors.New("disk full")}
	h := newHook(t, in)
	w := answerOf(h, delivery("push", payload(t, "push.created")))
	if w.Code != http.StatusServiceUnavailable || !strings.Contains(w.Body.String(), "could not be stored") || strings.Contains(w.Body.String(), "disk") {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	in.fail = nil
	if w := answerOf(h, delivery("push", payload(t, "push.created"))); w.Code != http.StatusOK {
		t.Errorf("again: %d", w.Code)
	}
}

// patient waits for its context to end.
type patient struct{ err chan error }

func (p patient) Receive(ctx context.Context, _ Delivery) error {
	<-ctx.Done()
	p.err <- ctx.Err()
	return ctx.Err()
}

func TestTheInboxHasTimeEvenWhenGitHubHangsUpButNotForEver(t *testing.T) {
	p := patient{make(chan error, 1)}
	h := newHook(t, p, func(o *HandlerOptions) { o.Timeout = 20 * time.Millisecond })
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	// The body is in memory, so only the inbox sees what became of the connection.
	w := answerOf(h, delivery("push", payload(t, "push.created")).WithContext(ctx))
	if err := <-p.err; !errors.Is(err, context.DeadlineExceeded) || w.Code != http.StatusServiceUnavailable {
		t.Errorf("%v, %d", err, w.Code)
	}
}

func TestABurstOf300DeliveriesIsAccepted(t *testing.T) {
	in := &shelf{}
	srv := httptest.NewServer(newHook(t, in))
	defer srv.Close()
	body := payload(t, "pull_request.synchronize")
	var wg sync.WaitGroup
	codes := make(chan int, 300)
	for i := range 300 {
		wg.Go(func() {
			r := delivery("pull_request", body, "X-GitHub-Delivery", fmt.Sprintf("72d3162e-cc78-11e3-81ab-%012x", i))
			out, _ := http.NewRequest(http.MethodPost, srv.URL, bytes.NewReader(body))
			out.Header = r.Header
			resp, err := http.DefaultClient.Do(out)
			if err != nil {
				t.Error(err)
				return
			}
			resp.Body.Close()
			codes <- resp.StatusCode
		})
	}
	wg.Wait()
	close(codes)
	for code := range codes {
		if code != http.StatusOK {
			t.Errorf("answered %d", code)
		}
	}
	if len(in.got) != 300 {
		t.Errorf("%d stored", len(in.got))
	}
}

func TestLogsNameTheDeliveryAndShowNothingOfIt(t *testing.T) {
	var log bytes.Buffer
	h := newHook(t, &shelf{}, func(o *HandlerOptions) { o.Log = zerolog.New(&log) })
	body := payload(t, "pull_request.synchronize")
	answerOf(h, delivery("pull_request", body))
	answerOf(h, delivery("pull_request", body, "X-Hub-Signature-256", signature([]byte("x"))))
	answerOf(h, delivery("push\n\x1b[31mFAKE", body))
	s := log.String()
	if strings.Count(s, "\n") != 3 || !strings.Contains(s, someGUID) || !strings.Contains(s, `"result":"stored"`) {
		t.Errorf("log: %s", s)
	}
	for _, secret := range []string{hookSecret, signature(body)[7:], "Codertocat", "FAKE", "\x1b"} {
		if strings.Contains(s, secret) {
			t.Errorf("the log shows %q: %s", secret, s)
		}
	}
}

func TestWebhookLabelsAreBounded(t *testing.T) {
	reg := prometheus.NewRegistry()
	h := newHook(t, &shelf{}, func(o *HandlerOptions) { o.Registerer = reg })
	for i := range 50 {
		answerOf(h, delivery("x"+strings.Repeat("y", i), []byte("{}")))
	}
	answerOf(h, delivery("push", payload(t, "push.created")))
	families, err := reg.Gather()
	if err != nil || len(families) != 1 || len(families[0].Metric) != 2 {
		t.Errorf("%v, %v", families, err)
	}
}

// BenchmarkWebhook is our part of an answer: signature and dispatch of a 50 KB delivery, without the INSERT.
func BenchmarkWebhook(b *testing.B) {
	h := newHook(b, nothing{})
	body := changed(b, "pull_request.synchronize", map[string]any{"pull_request.body": strings.Repeat("words ", 5000)})
	sig := signature(body)
	b.SetBytes(int64(len(body)))
	b.ReportAllocs()
	for b.Loop() {
		if w := answerOf(h, delivery("pull_request", body, "X-Hub-Signature-256", sig)); w.Code != http.StatusOK {
			b.Fatal(w.Code)
		}
	}
}

type nothing struct{}

func (nothing) Receive(context.Context, Delivery) error { return nil }
