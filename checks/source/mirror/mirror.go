// Package mirror keeps bare copies of GitHub's repositories, so that an audit reads code from the disk and a
// push costs one small fetch.
//
//	mirrors, err := mirror.Open(mirror.Options{Dir: "/var/lib/noxaudit/mirrors"})
//	lease, err := mirrors.Fetch(ctx, remote, "refs/pull/7/head", "refs/heads/main")
//	defer lease.Release()
//	head, err := lease.Commit("refs/pull/7/head")
//	snapshot, err := lease.Repository().Commit(ctx, head)
//
// # One writer
//
// No git process ever writes into a mirror. A fetch runs in a workspace, a repository of its own that borrows
// the mirror's objects; when it has succeeded, this process moves the new packs over and replaces one state
// file. So a fetch that fails, is stopped or is killed at any moment leaves the mirror as it was: there is
// nothing to unlock, and workspaces are removed by the next [Open]. The work of making many packs one again is done in a workspace
// too, which then takes the mirror's place; audits go on reading the former copy until they are done.
//
// # What is fetched
//
// The refs that were asked for, with their history, and nothing else: no other branch, no tag, no submodule.
// They are kept under digests of their names, so no name from outside becomes a file. A ref that nobody asked for
// during [Options.Keep] is forgotten, and later its objects.
//
// # Sharing
//
// Calls for one repository that come while a fetch waits to start share it, whatever refs they want. A call
// that comes later starts the next one: what it gets is never older than the call. Different repositories are fetched side by side.
//
// # Healing
//
// A mirror is a cache. One that is damaged, as far as git or a look at its files shows, is set aside and fetched
// again within the same call. What only shows while reading is told by [Lease.Damaged].
package mirror

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/noxaudit/noxaudit/checks/source"
	"github.com/noxaudit/noxaudit/internal/name"
)

// Options say where mirrors lie and what they may cost. The zero value of a field means its default.
type Options struct {
	Dir          string        // of this process alone; made with mode 0700
	MaxBytes     int64         // for all mirrors together, fetches under way included: 20 GiB
	Limits       source.Limits // for readers
	FetchTimeout time.Duration // for one fetch, retries included: 10 minutes
	Parallel     int           // fetches at a time: 4
	Keep         time.Duration // of a ref that nobody asks for: 14 days
	Maintain     time.Duration // between two rounds of Maintain in the background: 1 minute; negative: none
	Now          func() time.Time
	AllowHTTP    bool // http:// for other machines than this one: the token is sent in clear
}

func (o Options) filled() Options {
	if o.MaxBytes <= 0 {
		o.MaxBytes = 20 << 30
	}
	if o.FetchTimeout <= 0 {
		o.FetchTimeout = 10 * time.Minute
	}
	if o.Parallel <= 0 {
		o.Parallel = 4
	}
	if o.Keep <= 0 {
		o.Keep = 14 * 24 * time.Hour
	}
	if o.Maintain == 0 {
		o.Maintain = time.Minute
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	return o
}

// Mirrors are the repositories in one directory. They are safe for concurrent use.
type Mirrors struct {
	opt    Options
	git    *source.Program
	work   string // workspaces, and what is being deleted
	locked *os.File
	slots  chan struct{} // one for each fetch that runs
	ctx    context.Context
	end    context.CancelFunc
	busy   sync.WaitGroup // runners and the background

	mu      sync.Mutex
	closed  bool
	all     map[string]*mirror // by folder below Dir: "<account>/<id>"
	leaving map[*mirror]bool   // forgotten, and still in use
	last    int                // number of the latest generation of all
}

// mirror is one repository. Its fields are guarded by the lock of Mirrors; its generation's files are written
// by its runner alone.
type mirror struct {
	dir       string
	gen       *generation // nil: not fetched yet, evicted, or set aside
	old       map[*generation]bool
	listings  source.Listings // of all its generations
	incoming  int64           // bytes of the workspace
	active    bool            // there is a runner
	next      *flight
	interrupt context.CancelCauseFunc // ends maintenance for a fetch that waits; nil: none is under way, or it must not be ended
	changed   chan struct{}           // closed, and made anew, when a generation went or the runner ended
}

// flight is one fetch, for all who wait for it.
type flight struct {
	remote  Remote
	refs    map[string]bool
	ctx     context.Context
	cancel  context.CancelCauseFunc
	waiting int // callers

	done    chan struct{}
	gen     *generation
	commits map[string]name.Commit
	failed  map[string]error // by ref
	err     error            // of the whole
}

// Open opens the directory and takes its lock: ErrInUse when another process has it. What a killed process
// left half done is removed.
func Open(o Options) (*Mirrors, error) {
	o = o.filled()
	if o.Dir == "" || strings.ContainsAny(o.Dir, "\n\r") {
		return nil, errors.New("mirrors: name a directory for them")
	}
	dir, err := filepath.Abs(o.Dir)
	if err != nil {
		return nil, fmt.Errorf("mirrors: %w", err)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, diskError("make the directory of mirrors", err)
	}
	if o.Dir, err = filepath.EvalSymlinks(dir); err != nil {
		return nil, fmt.Errorf("mirrors: %w", err)
	}
	ctx, end := context.WithCancel(context.Background())
	s := &Mirrors{opt: o, work: filepath.Join(o.Dir, "work"), slots: make(chan struct{}, o.Parallel), ctx: ctx, end: end, all: map[string]*mirror{}, leaving: map[*mirror]bool{}}
	if s.git, err = source.FindProgram(ctx, o.Limits); err != nil {
		end()
		return nil, err
	}
	if s.locked, err = lock(filepath.Join(o.Dir, "lock")); err != nil {
		end()
		return nil, err
	}
	if err := s.takeStock(); err != nil {
		s.locked.Close()
		end()
		return nil, diskError("look through the directory of mirrors", err)
	}
	if o.Maintain > 0 {
		s.busy.Go(s.background)
	}
	return s, nil
}

// takeStock finds the mirrors that are there, and removes what is none.
func (s *Mirrors) takeStock() error {
	// An orphan of a killed process may still be writing in there; what cannot be removed now, the next start removes.
	_ = os.RemoveAll(s.work)
	if err := os.MkdirAll(s.work, 0o700); err != nil {
		return err
	}
	accounts, err := os.ReadDir(s.opt.Dir)
	if err != nil {
		return err
	}
	for _, a := range accounts {
		if _, err := name.ParseAccount(a.Name()); err != nil || !a.IsDir() {
			continue
		}
		repos, err := os.ReadDir(filepath.Join(s.opt.Dir, a.Name()))
		if err != nil {
			return err
		}
		for _, r := range repos {
			key := filepath.Join(a.Name(), r.Name())
			if err := s.stock(key); err != nil {
				return err
			}
		}
	}
	return nil
}

// stock finds the latest generation of one mirror. Its state is read when it is first wanted.
func (s *Mirrors) stock(key string) error {
	m := newMirror(filepath.Join(s.opt.Dir, key))
	generations, err := os.ReadDir(m.dir)
	if err != nil {
		return err
	}
	latest := 0
	for _, e := range generations {
		n, err := strconv.Atoi(strings.TrimSuffix(e.Name(), ".git"))
		if err != nil || n <= latest {
			s.discard(filepath.Join(m.dir, e.Name()))
			continue
		}
		if m.gen != nil {
			s.discard(m.gen.dir)
		}
		latest = n
		m.gen = &generation{dir: filepath.Join(m.dir, e.Name())}
	}
	if m.gen == nil {
		removeEmpty(m.dir)
		return nil
	}
	if fi, err := os.Stat(filepath.Join(m.gen.dir, stateFile)); err == nil {
		m.gen.used = fi.ModTime()
	}
	if m.gen.size, _, err = packs(m.gen.dir); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	s.last = max(s.last, latest)
	s.all[key] = m
	return nil
}

func newMirror(dir string) *mirror {
	return &mirror{dir: dir, old: map[*generation]bool{}, changed: make(chan struct{})}
}

// discard takes a folder out of sight at once, and then removes it.
func (s *Mirrors) discard(dir string) {
	if aside, err := os.MkdirTemp(s.work, "gone-"); err == nil {
		if os.Rename(dir, filepath.Join(aside, "it")) == nil {
			dir = aside
		}
	}
	_ = os.RemoveAll(dir)
}

// Lease is the right to read a mirror as it was after a fetch. The commits it names, and all they rest on,
// stay until it is released.
type Lease struct {
	owner   *Mirrors
	mirror  *mirror
	gen     *generation
	repo    *source.Repository
	commits map[string]name.Commit
	once    sync.Once
}

// Repository reads the mirror. It is shared with other leases and must not be closed. Ask it by commit: it
// knows no refs.
func (l *Lease) Repository() *source.Repository { return l.repo }

// Commit is what a ref, or object id, of the call of Fetch pointed to.
func (l *Lease) Commit(ref string) (name.Commit, error) {
	c, ok := l.commits[ref]
	if !ok {
		return name.Commit{}, fmt.Errorf("%s: %w: it was not asked for in this fetch", said(ref, 200), ErrNotFound)
	}
	return c, nil
}

// Damaged tells that reading failed with source.ErrCorrupt or source.ErrMissing: the next Fetch makes a new
// mirror. It does not release the lease.
func (l *Lease) Damaged() {
	l.owner.mu.Lock()
	defer l.owner.mu.Unlock()
	l.gen.suspect = true
}

// Release gives the lease back. Calling it again does nothing.
func (l *Lease) Release() {
	l.once.Do(func() { l.owner.giveBack(l.mirror, l.gen) })
}

// giveBack ends one lease. The last one of a dead generation removes it.
func (s *Mirrors) giveBack(m *mirror, g *generation) {
	s.mu.Lock()
	g.leases--
	g.used = s.opt.Now()
	gone := s.bury(m, g)
	s.mu.Unlock()
	s.remove(m, gone)
	s.tidy(m)
}

// bury returns a generation that is dead and that nobody reads, once: it is to be removed without the lock,
// which is held. Otherwise it returns nil.
func (s *Mirrors) bury(m *mirror, g *generation) *generation {
	if !g.dead || g.leases > 0 || g.going {
		return nil
	}
	g.going = true
	return g
}

// retire makes a generation dead: nobody new gets it. The lock is held.
func (s *Mirrors) retire(m *mirror) *generation {
	g := m.gen
	if g == nil {
		return nil
	}
	m.gen, g.dead, m.old[g] = nil, true, true
	return s.bury(m, g)
}

// remove removes what bury returned.
func (s *Mirrors) remove(m *mirror, g *generation) {
	if g == nil {
		return
	}
	if g.repo != nil {
		_ = g.repo.Close()
	}
	s.discard(g.dir)
	s.mu.Lock()
	delete(m.old, g)
	m.signal()
	s.mu.Unlock()
}

func (m *mirror) signal() {
	close(m.changed)
	m.changed = make(chan struct{})
}

// Fetch brings the mirror up to date with the given refs ("refs/heads/main", "refs/pull/7/head", or full
// object ids of commits) and leases it. When one of them is gone the error is a *NotFoundError that names it;
// a commit that the mirror has already costs no request. What it returns is as new as the call or newer.
func (s *Mirrors) Fetch(ctx context.Context, r Remote, refs ...string) (*Lease, error) {
	if err := checkRepo(r.Repo); err != nil {
		return nil, err
	}
	if _, err := parseAddress(r.URL, s.opt.AllowHTTP); err != nil {
		return nil, err
	}
	if len(refs) == 0 || len(refs) > mostRefs {
		return nil, fmt.Errorf("%w: ask for 1 to %d at a time, not %d", ErrRef, mostRefs, len(refs))
	}
	for _, ref := range refs {
		if err := checkRef(ref); err != nil {
			return nil, err
		}
	}
	m, f, err := s.join(ctx, r, refs)
	if err != nil {
		return nil, err
	}
	select {
	case <-f.done:
	case <-ctx.Done():
		if s.leave(m, f) {
			return nil, context.Cause(ctx)
		}
		// It was done at the same moment, and a lease is ours already.
	}
	if f.err != nil {
		for _, ref := range refs { // not what others asked for in the same fetch
			if err := f.failed[ref]; err != nil {
				return nil, err
			}
		}
		return nil, f.err
	}
	l := &Lease{owner: s, mirror: m, gen: f.gen, repo: f.gen.repo, commits: make(map[string]name.Commit, len(refs))}
	for _, ref := range refs {
		c, ok := f.commits[ref]
		if !ok {
			l.Release()
			return nil, f.failed[ref]
		}
		l.commits[ref] = c
	}
	return l, nil
}

// join adds a caller to the flight that has not started, or makes one.
func (s *Mirrors) join(ctx context.Context, r Remote, refs []string) (*mirror, *flight, error) {
	if ctx.Err() != nil {
		return nil, nil, context.Cause(ctx)
	}
	key := filepath.Join(r.Repo.Account.String(), r.Repo.ID)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, nil, ErrClosed
	}
	m := s.all[key]
	if m == nil {
		m = newMirror(filepath.Join(s.opt.Dir, key))
		s.all[key] = m
	}
	f := m.next
	if f == nil {
		f = &flight{refs: map[string]bool{}, done: make(chan struct{})}
		f.ctx, f.cancel = context.WithCancelCause(s.ctx)
		m.next = f
	}
	f.remote = r // the latest: its address and token are the freshest
	f.waiting++
	for _, ref := range refs {
		f.refs[ref] = true
	}
	if m.interrupt != nil {
		m.interrupt(errInterrupted)
	}
	if !m.active {
		m.active = true
		s.busy.Go(func() { s.run(m) })
	}
	return m, f, nil
}

// leave takes a caller off a flight; the last one ends it. It reports false when the flight is done.
func (s *Mirrors) leave(m *mirror, f *flight) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	select {
	case <-f.done:
		if f.err != nil {
			return true // there is no lease to give back
		}
		return false
	default:
	}
	f.waiting--
	if f.waiting == 0 {
		f.cancel(context.Canceled)
		if m.next == f {
			m.next = nil
		}
	}
	return true
}

// run makes the flights of one mirror, one after the other, until nobody waits.
func (s *Mirrors) run(m *mirror) {
	for s.runNext(m) {
	}
	s.tidy(m)
	s.makeRoom(0)
}

// runNext makes one flight and reports whether there is another.
func (s *Mirrors) runNext(m *mirror) bool {
	// The flight stays open for others until there is a slot for it.
	select {
	case s.slots <- struct{}{}:
		defer func() { <-s.slots }()
	case <-s.ctx.Done():
	}
	s.mu.Lock()
	f := m.next
	m.next = nil
	s.mu.Unlock()
	if f != nil {
		s.land(m, f, s.fly(m, f))
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if m.next != nil {
		return true
	}
	m.active = false
	m.signal()
	return false
}

// land tells the callers of a flight how it ended, and gives each of them a lease.
func (s *Mirrors) land(m *mirror, f *flight, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f.err = err
	if err == nil {
		f.gen = m.gen
		m.gen.leases += f.waiting
		m.gen.used = s.opt.Now()
	}
	f.cancel(nil)
	close(f.done)
}

// Forget removes the mirror of a repository, after its leases and a fetch under way have ended. It waits for
// that; when ctx ends first, the data goes all the same as soon as it can. A later Fetch begins anew.
func (s *Mirrors) Forget(ctx context.Context, r name.Repo) error {
	if err := checkRepo(r); err != nil {
		return err
	}
	key := filepath.Join(r.Account.String(), r.ID)
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return ErrClosed
	}
	m := s.all[key]
	if m == nil {
		s.mu.Unlock()
		return nil
	}
	delete(s.all, key)
	s.leaving[m] = true
	s.mu.Unlock()
	for {
		s.mu.Lock()
		changed, finished := m.changed, !s.leaving[m]
		s.mu.Unlock()
		if s.tidy(m) || finished {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// tidy removes what a forgotten mirror no longer needs, and reports whether that is all of it.
func (s *Mirrors) tidy(m *mirror) bool {
	s.mu.Lock()
	if !s.leaving[m] || m.active {
		s.mu.Unlock()
		return false
	}
	gone := s.retire(m)
	s.mu.Unlock()
	s.remove(m, gone)
	s.mu.Lock()
	finished := s.leaving[m] && len(m.old) == 0
	if finished {
		removeEmpty(m.dir)
		delete(s.leaving, m)
		m.signal()
	}
	s.mu.Unlock()
	return finished
}

// removeEmpty removes a mirror's folder and its account's, if nothing else is in them.
func removeEmpty(dir string) {
	if os.Remove(dir) == nil {
		_ = os.Remove(filepath.Dir(dir))
	}
}

// Close ends the fetches under way and the git processes of readers, and gives up the lock. Reading through a
// lease then fails with source.ErrClosed.
func (s *Mirrors) Close() error {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return nil
	}
	s.closed = true
	s.mu.Unlock()
	s.end()
	s.busy.Wait()
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, m := range s.all {
		for g := range m.old {
			if g.repo != nil {
				_ = g.repo.Close()
			}
		}
		if m.gen != nil && m.gen.repo != nil {
			_ = m.gen.repo.Close()
		}
	}
	return s.locked.Close()
}
