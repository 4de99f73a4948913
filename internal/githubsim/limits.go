package githubsim

import (
	"fmt"
	"net/http"
	"strconv"
	"time"
)

// bucket counts the calls of one caller in the running hour and minute.
type bucket struct {
	used   int
	reset  time.Time // end of the hour
	points int
	minute time.Time // end of the minute
}

// usage is a caller's bucket while a call is handled.
type usage struct {
	key     string
	bucket  *bucket
	limit   int  // calls an hour; negative: none
	counted bool // the call was charged
}

func (s *Server) usageOf(c *call) *usage {
	u := &usage{key: "nobody", limit: s.opts.HourlyLimit}
	switch {
	case c.installation != nil:
		u.key = fmt.Sprint("installation ID ", c.installation.id)
	case c.app != nil:
		u.key = fmt.Sprint("app ID ", c.app.id) // App calls have a bucket of their own
	case c.user != nil:
		u.key = fmt.Sprint("user ID ", c.user.id)
	default:
		u.limit = min(u.limit, 60)
	}
	if u.bucket = s.buckets[u.key]; u.bucket == nil {
		u.bucket = &bucket{}
		s.buckets[u.key] = u.bucket
	}
	return u
}

// throttle counts a call against its caller's limits.
func (s *Server) throttle(c *call, plan mishap) (*usage, *problem) {
	now := s.now()
	u := s.usageOf(c)
	b := u.bucket
	if !now.Before(b.reset) {
		b.used, b.reset = 0, now.Add(time.Hour).Truncate(time.Second)
	}
	if !now.Before(b.minute) {
		b.points, b.minute = 0, now.Add(time.Minute)
	}
	if c.r.URL.Path == apiPrefix+"/rate_limit" {
		return u, nil // asking is free
	}
	cost := 1
	if c.r.Method != http.MethodGet {
		cost = 5
	}
	if plan.kind == SecondaryLimit || s.opts.PointLimit > 0 && b.points+cost > s.opts.PointLimit {
		wait := b.minute.Sub(now)
		if plan.kind == SecondaryLimit {
			if wait = time.Minute; plan.after > 0 {
				wait = plan.after
			}
		}
		seconds := int64(wait+time.Second-1) / int64(time.Second)
		return u, &problem{http.StatusForbidden, "You have exceeded a secondary rate limit. Please wait a few minutes before you try again.",
			http.Header{"Retry-After": {strconv.FormatInt(seconds, 10)}}}
	}
	if plan.kind == PrimaryLimit {
		b.used = max(u.limit, 0)
	}
	if plan.kind == PrimaryLimit || u.limit >= 0 && b.used >= u.limit {
		return u, &problem{http.StatusForbidden, "API rate limit exceeded for " + u.key + ".", nil}
	}
	b.used++
	u.counted = true
	b.points += cost
	return u, nil
}

// refund takes a call back: one answered with 304 does not count.
func (u *usage) refund() {
	if u != nil && u.counted {
		u.bucket.used--
	}
}

// describe adds the headers about the primary limit.
func (u *usage) describe(h http.Header) {
	if u == nil || u.limit < 0 {
		return
	}
	h.Set("X-RateLimit-Limit", strconv.Itoa(u.limit))
	h.Set("X-RateLimit-Remaining", strconv.Itoa(u.remaining()))
	h.Set("X-RateLimit-Used", strconv.Itoa(u.bucket.used))
	h.Set("X-RateLimit-Reset", strconv.FormatInt(u.bucket.reset.Unix(), 10))
	h.Set("X-RateLimit-Resource", "core")
}

func (u *usage) remaining() int { return max(0, u.limit-u.bucket.used) }

// GET /rate_limit
func (s *Server) getRateLimit(c *call) reply {
	u := s.usageOf(c)
	if u.limit < 0 {
		return fail(http.StatusNotFound, "Rate limiting is not enabled.")
	}
	core := object{"limit": u.limit, "remaining": u.remaining(), "reset": u.bucket.reset.Unix(), "used": u.bucket.used}
	return ok(object{"resources": object{"core": core, "search": core}, "rate": core})
}
