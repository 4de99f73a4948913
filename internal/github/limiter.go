package github

import (
	"context"
	"errors"
	"net/http"
	"strconv"
	"sync"
	"time"
)

// Pace bounds how fast one installation (and the App itself) calls GitHub. The zero value of a field is its default,
// a negative one means no bound. Nothing is paced until GitHub has shown that it counts: Enterprise Server normally
// does not.
type Pace struct {
	Points   int           // a minute; reading costs 1, writing 5; 900, a third of them at once
	Creates  int           // requests a minute that create something; 80, three eighths of them at once
	Parallel int           // requests at a time; 50 (GitHub's bound is 100, and other programs have a part in it)
	Patience time.Duration // the longest wait inside one call; 30 s. Beyond it the call ends with [Unavailable]
}

func (p Pace) withDefaults() Pace {
	fill := func(v *int, d int) {
		if *v == 0 {
			*v = d
		}
	}
	fill(&p.Points, 900)
	fill(&p.Creates, 80)
	fill(&p.Parallel, 50)
	if p.Patience == 0 {
		p.Patience = 30 * time.Second
	}
	return p
}

// limiter keeps one caller (an installation, or the App) within GitHub's limits. The hour's budget is spent freely
// down to a tenth; what is left is spread over the time until it is renewed.
type limiter struct {
	now      func() time.Time
	sleep    func(context.Context, time.Duration) error
	patience time.Duration
	slots    chan struct{} // nil: any number at a time

	mu        sync.Mutex
	counted   bool // GitHub has sent its limits
	limit     int
	remaining int
	reset     time.Time // on our clock
	next      time.Time // not before, while the rest of the budget is spread
	blocked   time.Time // GitHub asked for silence until then
	points    bucket
	creates   bucket
}

func newLimiter(p Pace, now func() time.Time, sleep func(context.Context, time.Duration) error) *limiter {
	p = p.withDefaults()
	l := &limiter{now: now, sleep: sleep, patience: p.Patience, points: perMinute(p.Points, p.Points/3), creates: perMinute(p.Creates, p.Creates*3/8)}
	if p.Parallel > 0 {
		l.slots = make(chan struct{}, p.Parallel)
	}
	return l
}

// bucket is a token bucket: burst at once, then one each interval. The zero value has no bound.
type bucket struct {
	interval time.Duration
	burst    int
	spent    time.Time // when all that has been taken will have been earned
}

// perMinute never lets more than n through in any minute: what may come at once is taken off the steady rate.
func perMinute(n, burst int) bucket {
	if n < 0 {
		return bucket{}
	}
	burst = min(max(burst, 1), n-1)
	return bucket{interval: time.Minute / time.Duration(max(n-burst, 1)), burst: burst}
}

func (b bucket) wait(now time.Time, n int) time.Duration {
	if b.interval == 0 {
		return 0
	}
	return max(0, b.after(now, n).Sub(now)-time.Duration(b.burst)*b.interval)
}

func (b bucket) after(now time.Time, n int) time.Time {
	if b.spent.After(now) {
		now = b.spent
	}
	return now.Add(time.Duration(n) * b.interval)
}

// wait returns when a request of this method may go out. It does not wait longer than patience, or than ctx lasts:
// then it says until when at once, so that a worker has something better to do.
func (l *limiter) wait(ctx context.Context, method string) error {
	patience := l.patience
	if deadline, ok := ctx.Deadline(); ok {
		patience = min(patience, time.Until(deadline)) // a context ends by the wall clock
	}
	d, why := l.reserve(method, patience)
	for d > 0 {
		if d > patience {
			return &Unavailable{Cause: errors.New(why), Until: l.now().Add(d)}
		}
		if err := l.sleep(ctx, d); err != nil {
			return err
		}
		// GitHub may have asked for silence meanwhile; what was reserved stays reserved.
		d, why = l.silence()
	}
	return nil
}

const askedToWait = "GitHub asked to wait"

func (l *limiter) silence() (time.Duration, string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.blocked.Sub(l.now()), askedToWait
}

// reserve counts the request and returns how long it has to wait, and why. A wait longer than patience is not
// counted: the request will not be made.
func (l *limiter) reserve(method string, patience time.Duration) (time.Duration, string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := l.now()
	wait, why := l.blocked.Sub(now), askedToWait
	if !l.counted {
		return wait, why
	}
	longer := func(d time.Duration, reason string) {
		if d > wait {
			wait, why = d, reason
		}
	}
	cost, creates := 1, 0
	if method != http.MethodGet && method != http.MethodHead {
		cost = 5
	}
	if method == http.MethodPost {
		creates = 1
	}
	scarce := l.remaining < l.limit/10 && l.reset.After(now)
	if scarce {
		longer(l.next.Sub(now), "the rest of the hour's requests is spread")
	}
	if l.remaining <= 0 && l.reset.After(now) {
		longer(l.reset.Sub(now), "the hour's requests are used up")
	}
	longer(l.points.wait(now, cost), "calls are spaced to keep to GitHub's secondary limits")
	if creates > 0 {
		longer(l.creates.wait(now, creates), "creating calls are spaced to keep to GitHub's secondary limits")
	}
	if wait > patience {
		return wait, why
	}
	l.points.spent = l.points.after(now, cost)
	if creates > 0 {
		l.creates.spent = l.creates.after(now, creates)
	}
	if scarce {
		each := l.reset.Sub(now) / time.Duration(max(l.remaining, 0)+1)
		l.next = now.Add(max(wait, 0)).Add(each)
	}
	l.remaining--
	return wait, why
}

// hear notes the limits that came with an answer.
func (l *limiter) hear(h http.Header) (remaining int, ok bool) {
	limit, err1 := strconv.Atoi(h.Get("X-RateLimit-Limit"))
	remaining, err2 := strconv.Atoi(h.Get("X-RateLimit-Remaining"))
	reset, ok := resetTime(h, l.now())
	if err1 != nil || err2 != nil || !ok || limit <= 0 {
		return 0, false
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	switch sameWindow := reset.Sub(l.reset).Abs() < 5*time.Second; {
	case !l.counted, !sameWindow && reset.After(l.reset):
		l.remaining = remaining
	case sameWindow:
		l.remaining = min(l.remaining, remaining) // answers overtake each other
	default:
		return l.remaining, true
	}
	l.counted, l.limit, l.reset = true, limit, reset
	return l.remaining, true
}

// block keeps everything back until a time.
func (l *limiter) block(until time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if until.After(l.blocked) {
		l.blocked = until
	}
}

// enter takes a slot; leave gives it back.
func (l *limiter) enter(ctx context.Context) error {
	if l.slots == nil {
		return nil
	}
	select {
	case l.slots <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (l *limiter) leave() {
	if l.slots != nil {
		<-l.slots
	}
}

// resetTime is X-RateLimit-Reset on our clock: GitHub's Date tells how far the two are apart.
func resetTime(h http.Header, now time.Time) (time.Time, bool) {
	unix, err := strconv.ParseInt(h.Get("X-RateLimit-Reset"), 10, 64)
	if err != nil || unix <= 0 {
		return time.Time{}, false
	}
	reset := time.Unix(unix, 0)
	if date, err := http.ParseTime(h.Get("Date")); err == nil {
		reset = now.Add(reset.Sub(date))
	}
	return reset, true
}
