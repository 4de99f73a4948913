package github

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/rs/zerolog"
)

const (
	callTimeout = 10 * time.Second // of one attempt, answer included
	attempts    = 4                // of one call, the first included
	firstPause  = 500 * time.Millisecond
	longPause   = time.Minute // after a secondary limit that names no time
	answerBytes = 32 << 20
	hops        = 3 // of a repository that has moved
)

// transport makes one identity's calls: it proves who calls, waits its turn, repeats what may be repeated, and
// reads the whole answer within the deadline.
//
// A call is repeated when it is known to have had no effect (no connection, 401, 429, a secondary limit), or when
// doing it twice is doing it once (GET, PATCH, …) and the answer was a 5xx or none. A POST that may have had its
// effect is never repeated here; it ends as [Unavailable] with Ambiguous.
type transport struct {
	agent   string
	base    http.RoundTripper
	host    *url.URL // the only place that is ever shown a credential
	limiter *limiter
	metrics *metrics
	log     zerolog.Logger
	bucket  string // label of the remaining-requests gauge
	now     func() time.Time
	sleep   func(context.Context, time.Duration) error

	// credential returns the value of the Authorization header; refused is told one that GitHub did not take. Both
	// are nil where base proves who calls.
	credential func(context.Context) (string, error)
	refused    func(credential string)
}

// notTwice marks a request whose method is idempotent but whose effect is not: annotations are appended.
type notTwice struct{}

// thatIsIdempotent marks a POST that does no harm when repeated: one more token.
type thatIsIdempotent struct{}

func repeatable(r *http.Request) bool {
	if r.Context().Value(notTwice{}) != nil {
		return false
	}
	return r.Method != http.MethodPost || r.Context().Value(thatIsIdempotent{}) != nil
}

func (t *transport) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.Body != nil {
		defer r.Body.Close()
	}
	if r.URL.Scheme != t.host.Scheme || r.URL.Host != t.host.Host {
		return nil, fmt.Errorf("request to %s: only %s is GitHub here", r.URL.Host, t.host.Host)
	}
	ctx, class, renewed := r.Context(), classOf(r), false
	for try := 1; ; try++ {
		if err := t.limiter.wait(ctx, r.Method); err != nil {
			return nil, err
		}
		credential := ""
		if t.credential != nil {
			var err error
			if credential, err = t.credential(ctx); err != nil {
				return nil, err
			}
		}
		resp, err := t.attempt(r, class, credential)
		if ctx.Err() != nil && err != nil {
			return nil, ctx.Err()
		}
		what, until := judge(repeatable(r), resp, err, try, t.now())
		if what == final {
			return resp, nil
		}
		cause := err
		if resp != nil {
			cause = fmt.Errorf("answer %d to %s", resp.StatusCode, class)
		}
		switch what {
		case unproven:
			if t.refused == nil {
				if skew := clockSkew(resp, t.now()); skew != nil {
					return nil, &Unavailable{Cause: skew}
				}
				return resp, nil
			}
			if renewed {
				return resp, nil
			}
			t.refused(credential)
			renewed = true
			continue
		case throttled:
			t.limiter.block(until)
			if try == attempts {
				return nil, &Unavailable{Cause: cause, Until: until}
			}
			t.log.Warn().Str("class", class).Time("until", until).Msg("GitHub asks to wait")
			continue // the limiter waits, or says that it is too long
		case lost:
			return nil, &Unavailable{Cause: cause, Ambiguous: true}
		}
		if try == attempts {
			return nil, &Unavailable{Cause: cause, Ambiguous: !errors.Is(err, errNoEffect) && r.Method != http.MethodGet}
		}
		// Half to all of the pause, so that callers who failed together do not come back together.
		pause := firstPause << (try - 1)
		pause = pause/2 + rand.N(pause/2)
		t.log.Debug().Str("class", class).Int("try", try).Err(cause).Msg("calling GitHub again")
		if err := t.sleep(ctx, pause); err != nil {
			return nil, err
		}
	}
}

// errNoEffect is wrapped by failures of a request that never reached GitHub.
var errNoEffect = errors.New("no connection")

// attempt sends the request once and reads the answer. A repository that has moved is followed with the same
// method and body, on the same host.
func (t *transport) attempt(r *http.Request, class, credential string) (resp *http.Response, err error) {
	if err := t.limiter.enter(r.Context()); err != nil {
		return nil, err
	}
	defer t.limiter.leave()
	ctx, cancel := context.WithTimeout(r.Context(), callTimeout)
	defer cancel()
	target := r.URL
	for hop := 0; ; hop++ {
		out := r.Clone(ctx)
		out.URL, out.Host = target, ""
		out.Header.Set("User-Agent", t.agent)
		if credential != "" {
			out.Header.Set("Authorization", credential)
		}
		if r.GetBody != nil {
			if out.Body, err = r.GetBody(); err != nil {
				return nil, fmt.Errorf("request body: %w", err)
			}
		}
		began := t.now()
		resp, err = t.base.RoundTrip(out)
		if err == nil {
			err = readAll(resp)
		}
		code := 0
		if err == nil {
			code = resp.StatusCode
		}
		t.metrics.record(class, code, t.now().Sub(began))
		if err != nil {
			return nil, noEffect(err)
		}
		resp.Request = r // its headers hold no credential: what is printed of it may be
		if left, ok := t.limiter.hear(resp.Header); ok {
			t.metrics.remaining.WithLabelValues(t.bucket).Set(float64(left))
		}
		next, ok := t.moved(resp, target)
		if !ok || hop == hops {
			return resp, nil
		}
		target = next
	}
}

// moved is where an answer sends the request, if that is on the same host.
func (t *transport) moved(resp *http.Response, from *url.URL) (*url.URL, bool) {
	switch resp.StatusCode {
	case http.StatusMovedPermanently, http.StatusFound, http.StatusTemporaryRedirect, http.StatusPermanentRedirect:
	default:
		return nil, false
	}
	to, err := from.Parse(resp.Header.Get("Location"))
	if err != nil || to.Scheme != t.host.Scheme || to.Host != t.host.Host || to.User != nil {
		return nil, false
	}
	return to, true
}

// readAll reads the body while the deadline still holds.
func readAll(resp *http.Response) error {
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, answerBytes+1))
	if err != nil {
		return fmt.Errorf("answer: %w", err)
	}
	if len(body) > answerBytes {
		return fmt.Errorf("answer: larger than %d bytes", answerBytes)
	}
	resp.Body = io.NopCloser(bytes.NewReader(body))
	return nil
}

// noEffect marks errors of requests that cannot have been seen by GitHub.
func noEffect(err error) error {
	var op *net.OpError
	var dns *net.DNSError
	if errors.As(err, &dns) || errors.As(err, &op) && op.Op == "dial" {
		return fmt.Errorf("%w: %w", errNoEffect, err)
	}
	return err
}

type judgement int

const (
	final     judgement = iota // the answer stands
	again                      // after a pause
	throttled                  // after the time that GitHub named
	unproven                   // 401: with another token
	lost                       // it may have been done: only the caller can find out
)

// judge says what follows from one attempt, the try-th.
func judge(repeatable bool, resp *http.Response, err error, try int, now time.Time) (what judgement, until time.Time) {
	switch {
	case errors.Is(err, errNoEffect):
		return again, until
	case err != nil && repeatable:
		return again, until
	case err != nil:
		return lost, until
	}
	if wait, ok := patience(resp, try, now); ok {
		return throttled, now.Add(wait)
	}
	switch code := resp.StatusCode; {
	case code == http.StatusUnauthorized:
		return unproven, until
	case code >= 500 && repeatable:
		return again, until
	case code >= 500:
		return lost, until
	}
	return final, until
}

// patience reports whether GitHub asks for it, and for how long: Retry-After, else the end of the hour when it is
// used up, else a minute, doubled each time.
func patience(resp *http.Response, try int, now time.Time) (time.Duration, bool) {
	h := resp.Header
	usedUp := h.Get("X-RateLimit-Remaining") == "0"
	after := h.Get("Retry-After")
	switch resp.StatusCode {
	case http.StatusTooManyRequests:
	case http.StatusForbidden:
		if !usedUp && after == "" && !strings.Contains(strings.ToLower(peek(resp)), "rate limit") {
			return 0, false
		}
	case http.StatusServiceUnavailable:
		if after == "" {
			return 0, false
		}
	default:
		return 0, false
	}
	if s, err := strconv.Atoi(after); err == nil && s >= 0 {
		return min(time.Duration(s), 24*3600) * time.Second, true
	}
	if reset, ok := resetTime(h, now); ok && usedUp {
		return max(reset.Sub(now), 0) + time.Second, true
	}
	return longPause << (try - 1), true
}

// peek returns the body of an answer and leaves it to be read again.
func peek(resp *http.Response) string {
	body, _ := io.ReadAll(resp.Body) // from memory: readAll has been here
	resp.Body = io.NopCloser(bytes.NewReader(body))
	return string(body)
}

// clockSkew explains a 401 whose cause is our clock: a JWT made by it is from the future, or over.
func clockSkew(resp *http.Response, now time.Time) error {
	date, err := http.ParseTime(resp.Header.Get("Date"))
	if err != nil {
		return nil
	}
	off := now.Sub(date).Round(time.Second)
	switch {
	case off > time.Minute:
		return fmt.Errorf("credentials refused, and this machine's clock is %v ahead of GitHub's: synchronise it", off)
	case off < -time.Minute:
		return fmt.Errorf("credentials refused, and this machine's clock is %v behind GitHub's: synchronise it", -off)
	}
	return nil
}

func sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
