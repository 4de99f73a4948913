package githubsim

import (
	"context"
	"slices"
	"strings"
	"time"
)

// FaultKind is a way in which GitHub misbehaves.
type FaultKind string

// What can go wrong. The webhook kinds act on deliveries, the others on calls.
const (
	Slow           FaultKind = "slow"            // the call waits for Delay, then is answered as usual
	ErrorBefore    FaultKind = "error before"    // 502, and nothing happened
	ErrorAfter     FaultKind = "error after"     // it happened, and the answer is 502
	Reset          FaultKind = "reset"           // the connection breaks, and nothing happened
	ResetAfter     FaultKind = "reset after"     // it happened, and the connection breaks
	SecondaryLimit FaultKind = "secondary limit" // 403 with Retry-After (Delay; one minute)
	PrimaryLimit   FaultKind = "primary limit"   // 403 with X-RateLimit-Remaining: 0
	Unauthorized   FaultKind = "unauthorized"    // 401 although the token is good
	Lost           FaultKind = "lost"            // the webhook is never sent and not in the list of deliveries
	Doubled        FaultKind = "doubled"         // the webhook is sent twice with one id
	Late           FaultKind = "late"            // the webhook is sent after Delay; others overtake it
	Reordered      FaultKind = "reordered"       // the webhook is sent after the next one
)

// Fault makes something go wrong.
type Fault struct {
	Kind  FaultKind
	On    string        // a route ("POST /repos/{owner}/{repo}/check-runs"; "GET *" for all that begin so), "git", "git info/refs", "git upload-pack", "oauth", "webhook" or "webhook EVENT"; "": every REST call
	Times int           // how often; 0: until Heal
	Rate  float64       // the chance each time, from the server's seed; 0: always
	Delay time.Duration // of Slow and Late; what SecondaryLimit asks for
}

// Inject adds faults to those in force. Of several that fit a call, every Slow one and the first other one act.
func (s *Server) Inject(faults ...Fault) {
	defer s.lock()()
	for _, f := range faults {
		s.faults = append(s.faults, &f)
	}
}

// Heal ends all faults, and Down.
func (s *Server) Heal() {
	defer s.lock()()
	s.faults, s.downUntil = nil, time.Time{}
}

// Down makes every call, fetches too, fail with 503 for a time by the server's clock. Webhooks still go out.
func (s *Server) Down(d time.Duration) {
	defer s.lock()()
	s.downUntil = s.now().Add(d)
}

func (s *Server) isDown() bool {
	defer s.lock()()
	return s.now().Before(s.downUntil)
}

// mishap is what faults do to one call or delivery.
type mishap struct {
	kind  FaultKind
	delay time.Duration // of Slow
	after time.Duration // of Late and SecondaryLimit
}

func (m mishap) wait(ctx context.Context) error {
	if m.delay == 0 {
		return nil
	}
	t := time.NewTimer(m.delay)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (f *Fault) fits(what string) bool {
	begin, open := strings.CutSuffix(f.On, "*")
	switch kind, _, _ := strings.Cut(what, " "); {
	case open:
		return strings.HasPrefix(what, begin)
	case kind == "git" || kind == "webhook" || kind == "oauth":
		return f.On == kind || f.On == what
	default:
		return f.On == "" || f.On == what
	}
}

func (s *Server) draw(what string) mishap {
	defer s.lock()()
	return s.drawLocked(what)
}

func (s *Server) drawLocked(what string) mishap {
	var m mishap
	s.faults = slices.DeleteFunc(s.faults, func(f *Fault) bool {
		if !f.fits(what) || f.Kind != Slow && m.kind != "" {
			return false
		}
		if f.Rate > 0 && s.rng.Float64() >= f.Rate {
			return false
		}
		if f.Kind == Slow {
			m.delay += f.Delay
		} else {
			m.kind, m.after = f.Kind, f.Delay
		}
		f.Times--
		return f.Times == 0
	})
	return m
}
