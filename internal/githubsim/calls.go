package githubsim

import (
	"net/http"
	"slices"
	"time"
)

// Call is one request that was answered, or broken off.
type Call struct {
	At           time.Time
	Method       string
	Route        string // the route pattern, such as "GET /repos/{owner}/{repo}"; "" for an unknown one; "git info/refs" and "git upload-pack"
	Path         string // without /api/v3
	Status       int    // 0 when the connection was broken
	App          int64  // 0: nobody
	Installation int64  // 0: the App itself, a person or nobody
	Fault        FaultKind
}

// Calls are all calls since the start or the last ResetCalls, in the order of their ends.
func (s *Server) Calls() []Call {
	defer s.lock()()
	return slices.Clone(s.calls)
}

// ResetCalls empties the log of calls.
func (s *Server) ResetCalls() {
	defer s.lock()()
	s.calls = nil
}

func (s *Server) record(c Call) {
	defer s.lock()()
	s.calls = append(s.calls, c)
}

// Exchange is a REST request with its answer.
type Exchange struct {
	Route        string // as in Call
	Request      *http.Request
	Path         string // without /api/v3
	RequestBody  []byte
	Status       int
	Header       http.Header
	ResponseBody []byte
	Fault        FaultKind
}

// Observe has f called after every REST call, faulty ones too; nil ends it. Calls to f may overlap.
func (s *Server) Observe(f func(Exchange)) {
	defer s.lock()()
	s.observe = f
}

// Routes lists the patterns of all routes served, as in Call.Route, sorted.
func Routes() []string {
	s := &Server{}
	s.routes()
	var all []string
	for _, e := range s.endpoints {
		all = append(all, e.pattern)
	}
	slices.Sort(all)
	return slices.Compact(all)
}
