// Package githubsim is a simulated GitHub: what a GitHub App that gates pull requests meets, and nothing more.
//
// It speaks the real protocols over HTTP. An App proves itself with a JWT and gets installation tokens that are
// scoped, expire and can be revoked; the REST calls under /api/v3 answer with GitHub's shapes, limits, errors,
// pages, ETags and rate-limit headers; git fetches come from real repositories over the smart protocol; webhooks
// are signed, listed and redelivered on demand only. Required checks really refuse a merge, and a merge queue
// really builds its groups. Tests hold the answers against GitHub's published OpenAPI description and the
// payloads against its webhook schemas (package conform, which other packages' tests use as well).
//
// Around the protocol there is a Go API to act as people: create organisations, push, open pull requests, comment,
// merge, press a button of a check, suspend an installation. An act that GitHub would refuse is refused with an error.
// [Server.Inject] makes GitHub misbehave: slow, failing before or after the effect, throttling, losing webhooks.
//
//	sim, err := githubsim.New(githubsim.Options{Dir: dir})
//	url, err := sim.Listen("127.0.0.1:0")
//	app, err := sim.CreateApp(githubsim.AppSpec{Owner: "acme", Name: "noxaudit", …})
//	id, err := sim.InstallApp("ada", app.ID, "acme")
//
// State lives in memory, the git repositories on disk; [Server.Save] writes the state beside them for another start. Time comes from Options.Now: what is due (a token's
// end, a merge queue's time limit) is looked at when something asks, or at [Server.Tick].
package githubsim

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"time"
)

// Options say how a Server is made. The zero value of a field is its default.
type Options struct {
	Dir         string           // folder for the bare git repositories; made when missing; required
	Now         func() time.Time // the clock of everything GitHub says and decides; time.Now
	Seed        uint64           // of faults, delivery ids and tokens: one seed, one story
	BaseURL     string           // where clients reach the server, without a final slash; Listen and SetBaseURL set it
	HourlyLimit int              // requests an hour of one installation (or one App); 5,000; negative: no limit, as on Enterprise Server
	PointLimit  int              // secondary limit: points a minute (a read is 1, a write 5); 0: none (github.com: 900)
	HookTimeout time.Duration    // how long a webhook may take to be answered; 10 s
	HookWorkers int              // webhooks delivered at a time; 1, which keeps their order
	Pages       http.Handler     // what is served outside of the API and git; nil: 404
}

// Server is one simulated GitHub. It is an http.Handler and safe for concurrent use.
type Server struct {
	opts      Options
	endpoints []*endpoint

	mu            sync.Mutex // holds everything below; never held while waiting for the network
	baseURL       string
	lastID        int64
	rng           *rand.Rand
	accounts      map[string]*account // by lower-case login
	repos         map[int64]*repo
	names         map[string]*repo // by lower-case full name
	queues        []*queue
	moved         map[string]int64 // former full names, lower case → repository id
	apps          map[int64]*app
	installations map[int64]*installation
	tokens        map[string]*token
	codes         map[string]grant // OAuth codes not exchanged yet
	suites        map[int64]*suite
	runs          map[int64]*run
	comments      map[int64]*comment
	buckets       map[string]*bucket
	deliveries    []*delivery
	commits       map[string]*commit
	diffs         map[string][]fileChange // without patches
	faults        []*Fault
	downUntil     time.Time
	calls         []Call
	observe       func(Exchange)

	courier  *courier
	listener *http.Server
}

// New makes an empty GitHub.
func New(o Options) (*Server, error) {
	if o.Dir == "" {
		return nil, errors.New("githubsim: no directory for git repositories: set Options.Dir")
	}
	if err := os.MkdirAll(o.Dir, 0o755); err != nil {
		return nil, fmt.Errorf("githubsim: %w", err)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.HourlyLimit == 0 {
		o.HourlyLimit = 5000
	}
	if o.HookTimeout == 0 {
		o.HookTimeout = 10 * time.Second
	}
	if o.BaseURL == "" {
		o.BaseURL = "http://github.localhost"
	}
	s := &Server{
		opts:          o,
		baseURL:       strings.TrimSuffix(o.BaseURL, "/"),
		lastID:        1000,
		rng:           rand.New(rand.NewPCG(o.Seed, 0x67697468)),
		accounts:      map[string]*account{},
		repos:         map[int64]*repo{},
		names:         map[string]*repo{},
		moved:         map[string]int64{},
		apps:          map[int64]*app{},
		installations: map[int64]*installation{},
		tokens:        map[string]*token{},
		codes:         map[string]grant{},
		suites:        map[int64]*suite{},
		runs:          map[int64]*run{},
		comments:      map[int64]*comment{},
		buckets:       map[string]*bucket{},
		commits:       map[string]*commit{},
		diffs:         map[string][]fileChange{},
	}
	s.routes()
	if err := s.load(); err != nil {
		return nil, fmt.Errorf("githubsim: %w", err)
	}
	s.courier = newCourier(max(o.HookWorkers, 1), s.post)
	return s, nil
}

// Listen serves on a TCP address such as "127.0.0.1:0" until Close and returns the base URL.
func (s *Server) Listen(addr string) (string, error) {
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return "", fmt.Errorf("githubsim: %w", err)
	}
	url := "http://" + l.Addr().String()
	s.SetBaseURL(url)
	s.listener = &http.Server{Handler: s, ReadHeaderTimeout: 10 * time.Second}
	go s.listener.Serve(l)
	return url, nil
}

// SetBaseURL says where clients reach the server: addresses in answers and payloads begin with it.
func (s *Server) SetBaseURL(url string) {
	defer s.lock()()
	s.baseURL = strings.TrimSuffix(url, "/")
}

// BaseURL is where the web pages are; the REST API is at BaseURL + "/api/v3/".
func (s *Server) BaseURL() string {
	defer s.lock()()
	return s.baseURL
}

// Close stops listening and delivering. Webhooks not sent yet are dropped.
func (s *Server) Close() error {
	s.courier.close()
	if s.listener != nil {
		return s.listener.Close()
	}
	return nil
}

// Tick does what is due by now: it ejects merge-queue entries whose time is over.
func (s *Server) Tick() {
	defer s.lock()()
	s.tendQueues()
}

// ServeHTTP serves the REST API under /api/v3, git at /OWNER/REPO.git, sign-in at /login/oauth and Options.Pages elsewhere.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch path := r.URL.Path; {
	case strings.HasPrefix(path, apiPrefix+"/"):
		s.serveREST(w, r)
	case strings.HasSuffix(path, "/info/refs") || strings.HasSuffix(path, "/git-upload-pack"):
		s.serveGit(w, r)
	case strings.HasPrefix(path, "/login/oauth/"):
		s.serveOAuth(w, r)
	case s.opts.Pages != nil:
		s.opts.Pages.ServeHTTP(w, r)
	default:
		http.NotFound(w, r)
	}
}

// lock takes the mutex and returns what gives it back.
func (s *Server) lock() func() {
	s.mu.Lock()
	return s.mu.Unlock
}

func (s *Server) now() time.Time { return s.opts.Now().UTC() }

func (s *Server) newID() int64 {
	s.lastID++
	return s.lastID
}

// random is n characters of the seeded source; secrets of a simulation need not be secret.
func (s *Server) random(n int) string {
	const alphabet = "abcdefghijklmnopqrstuvwxyz0123456789"
	b := make([]byte, n)
	for i := range b {
		b[i] = alphabet[s.rng.IntN(len(alphabet))]
	}
	return string(b)
}

// guid is a version 4 UUID of the seeded source.
func (s *Server) guid() string {
	hi, lo := s.rng.Uint64(), s.rng.Uint64()
	return fmt.Sprintf("%08x-%04x-4%03x-%04x-%012x", hi>>32, hi>>16&0xffff, hi&0xfff, 0x8000|lo>>50&0x3fff, lo&0xffffffffffff)
}
