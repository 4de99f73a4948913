package mirror

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"github.com/noxaudit/noxaudit/checks/source"
	"github.com/noxaudit/noxaudit/internal/name"
)

var (
	errInterrupted = errors.New("a fetch waits")
	errTimeout     = errors.New("time is up")
)

// touched is how exact the time of a ref's last use is kept: a fetch that brings nothing new writes nothing.
const touched = time.Hour

// fly brings the mirror up to date with what the flight wants. A damaged mirror is replaced, once; a full disk is
// relieved, once.
func (s *Mirrors) fly(m *mirror, f *flight) error {
	if s.ctx.Err() != nil {
		return ErrClosed
	}
	ctx, cancel := context.WithTimeoutCause(f.ctx, s.opt.FetchTimeout, errTimeout)
	defer cancel()
	a, err := parseAddress(f.remote.URL, s.opt.AllowHTTP)
	if err != nil {
		return err
	}
	if err = s.sound(m, a); err == nil {
		err = s.update(ctx, m, f, a)
	}
	if errors.Is(err, errDamaged) && m.gen != nil {
		s.setAside(m)
		if err = s.update(ctx, m, f, a); errors.Is(err, errDamaged) {
			s.setAside(m)
		}
	}
	// The budget may be larger than the disk.
	if errors.Is(err, errDiskFull) && s.giveUpAQuarter() {
		err = s.update(ctx, m, f, a)
	}
	if err != nil && ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	switch {
	case err == nil:
		return nil
	case s.ctx.Err() != nil:
		return ErrClosed
	case errors.Is(err, errTimeout):
		return fmt.Errorf("fetch %s: %w (no end within %v)", said(f.remote.Repo.FullName, 200), ErrUnavailable, s.opt.FetchTimeout)
	case errors.Is(err, errDamaged):
		return fmt.Errorf("fetch %s: %w (what it sent is incomplete: %w)", said(f.remote.Repo.FullName, 200), ErrUnavailable, err)
	case errors.Is(err, ErrNotFound):
		return err
	}
	return fmt.Errorf("fetch %s: %w", said(f.remote.Repo.FullName, 200), err)
}

// setAside takes the generation away from the mirror: readers keep it, nobody else gets it.
func (s *Mirrors) setAside(m *mirror) {
	s.mu.Lock()
	gone := s.retire(m)
	s.mu.Unlock()
	s.remove(m, gone)
}

// sound loads the generation when it is first wanted, and looks whether it can be used for this remote.
func (s *Mirrors) sound(m *mirror, a address) error {
	if m.gen == nil {
		return nil
	}
	if m.gen.state.Version == 0 {
		g, err := load(m.gen.dir)
		if err != nil {
			return err
		}
		m.gen.state = g.state
	}
	s.mu.Lock()
	suspect := m.gen.suspect
	s.mu.Unlock()
	switch {
	case suspect:
		return fmt.Errorf("%w: a reader found it so", errDamaged)
	case m.gen.state.Origin != a.origin:
		return fmt.Errorf("%w: it is of another server", errDamaged)
	}
	return m.gen.check()
}

// update makes one fetch, takes it over and resolves what was asked for.
func (s *Mirrors) update(ctx context.Context, m *mirror, f *flight, a address) error {
	formats := []string{"sha1", "sha256"}
	if m.gen != nil {
		formats = []string{m.gen.state.Format}
	}
	for _, format := range formats {
		err := s.fetch(ctx, m, f, a, format)
		if !errors.Is(err, errFormat) {
			return err
		}
	}
	if m.gen != nil {
		return fmt.Errorf("%w: %w", errDamaged, errFormat)
	}
	return fmt.Errorf("%w (%w)", ErrUnavailable, errFormat)
}

func (s *Mirrors) fetch(ctx context.Context, m *mirror, f *flight, a address, format string) error {
	w, err := newWorkspace(s.work, format, m.gen)
	if err != nil {
		return diskError("make a workspace", err)
	}
	defer func() {
		w.remove()
		s.setIncoming(m, 0)
	}()
	f.failed = map[string]error{}
	wanted := slices.Sorted(maps.Keys(f.refs))
	if err := s.watched(ctx, m, w, func(ctx context.Context) error {
		var err error
		wanted, err = s.persist(ctx, m, w, a, f, wanted)
		return err
	}); err != nil {
		return err
	}
	if len(wanted) == 0 && m.gen == nil {
		return anyOf(f.failed) // nothing to make a mirror of
	}
	now := s.opt.Now()
	ids := make(map[string]string, len(wanted))
	for _, ref := range wanted {
		if ids[ref], err = w.got(keyOf(ref)); err != nil {
			return fmt.Errorf("git fetch ended well and wrote no %s: %w", said(ref, 200), err)
		}
	}
	if err := s.takeOver(m, w, a, format, ids, f.failed, now); err != nil {
		return diskError("take over what was fetched", err)
	}
	if m.gen.repo == nil {
		repo, err := m.gen.open(ctx, s.opt.Limits)
		if err == nil {
			repo.ShareListings(&m.listings)
		}
		if err != nil {
			return err
		}
		s.mu.Lock()
		m.gen.repo = repo
		s.mu.Unlock()
	}
	f.commits = make(map[string]name.Commit, len(ids))
	for ref, id := range ids {
		c, err := m.gen.repo.Resolve(ctx, id)
		if errors.Is(err, source.ErrUnknownRevision) {
			err = s.noCommit(ctx, m.gen, f.remote.Repo, ref, id)
		}
		switch {
		case err == nil:
			f.commits[ref] = c
		case errors.Is(err, ErrNotFound):
			f.failed[ref] = err
		case errors.Is(err, source.ErrCorrupt), errors.Is(err, source.ErrMissing):
			return fmt.Errorf("%w: %w", errDamaged, err)
		default:
			return err
		}
	}
	return nil
}

// noCommit says why an object id resolves to no commit: because it is something else, or because it is not there.
func (s *Mirrors) noCommit(ctx context.Context, g *generation, repo name.Repo, ref, id string) error {
	out, err := s.git.Local(ctx, g.dir, "cat-file", "-t", id).Output()
	if err != nil {
		return fmt.Errorf("%w: %s is not there", errDamaged, id)
	}
	return &NotFoundError{Repo: repo, Ref: ref, Why: "it is a " + said(string(bytes.TrimSpace(out)), 20) + " and no commit"}
}

func anyOf(failed map[string]error) error {
	for _, ref := range slices.Sorted(maps.Keys(failed)) {
		return failed[ref]
	}
	return nil
}

// persist fetches, again with a fresh token when the first is refused, and again without the refs that are gone. It
// returns the refs that are there.
func (s *Mirrors) persist(ctx context.Context, m *mirror, w *workspace, a address, f *flight, wanted []string) ([]string, error) {
	repo := f.remote.Repo
	token, err := f.remote.tokenOf(ctx, false)
	if err != nil {
		return nil, err
	}
	fresh := f.remote.Token == nil
	for len(wanted) > 0 {
		err := s.transfer(ctx, w, a, repo, token, wanted, m.gen != nil)
		gone := (*NotFoundError)(nil)
		isGone := errors.As(err, &gone)
		switch {
		case err == nil:
			return wanted, nil
		case isGone && gone.Ref != "":
			f.failed[gone.Ref] = err
			wanted = slices.DeleteFunc(slices.Clone(wanted), func(r string) bool { return r == gone.Ref })
		case (isGone || errors.Is(err, ErrUnauthorized)) && !fresh:
			// A token that was made before the App could see the repository gets a 404 as well.
			fresh = true
			if token, err = f.remote.tokenOf(ctx, true); err != nil {
				return nil, err
			}
		default:
			return nil, err
		}
	}
	return nil, nil
}

// takeOver moves the packs of the workspace into the mirror, or makes the workspace the mirror.
func (s *Mirrors) takeOver(m *mirror, w *workspace, a address, format string, ids map[string]string, failed map[string]error, now time.Time) error {
	if m.gen == nil {
		st := state{Version: stateVersion, Origin: a.origin, Format: format, Packed: now, Refs: map[string]held{}}
		for ref, id := range ids {
			st.Refs[keyOf(ref)] = held{id, now}
		}
		return s.install(m, w, st)
	}
	before := len(m.gen.state.Files)
	size, err := w.handOver(m.gen)
	if err != nil {
		return err
	}
	changed := len(m.gen.state.Files) != before
	for ref, id := range ids {
		h := m.gen.state.Refs[keyOf(ref)]
		if h.ID != id || now.Sub(h.Used) >= touched {
			m.gen.state.Refs[keyOf(ref)] = held{id, now}
			changed = true
		}
	}
	for ref := range failed {
		if _, ok := m.gen.state.Refs[keyOf(ref)]; ok {
			delete(m.gen.state.Refs, keyOf(ref))
			changed = true
		}
	}
	s.mu.Lock()
	m.gen.size += size
	m.incoming = 0
	s.mu.Unlock()
	if !changed {
		return nil
	}
	return m.gen.save()
}

// install makes a workspace the mirror's next generation.
func (s *Mirrors) install(m *mirror, w *workspace, st state) error {
	s.mu.Lock()
	s.last++
	dir := filepath.Join(m.dir, strconv.Itoa(s.last)+".git")
	s.mu.Unlock()
	g, err := w.become(dir, st)
	if err != nil {
		return err
	}
	s.mu.Lock()
	g.used = s.opt.Now()
	if m.gen != nil {
		g.used = m.gen.used
	}
	gone := s.retire(m)
	m.gen = g
	m.incoming = 0
	s.mu.Unlock()
	s.remove(m, gone)
	return nil
}

// everySoOften is the time between two looks at the size of a workspace.
const everySoOften = 200 * time.Millisecond

// watched runs do, and ends it when what it writes no longer fits the budget.
func (s *Mirrors) watched(ctx context.Context, m *mirror, w *workspace, do func(context.Context) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	stop := make(chan struct{})
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		tick := time.NewTicker(everySoOften)
		defer tick.Stop()
		for {
			select {
			case <-stop:
				return
			case <-tick.C:
				if err := s.fits(m, w); err != nil {
					cancel(err)
					return
				}
			}
		}
	}()
	err := do(ctx)
	close(stop)
	<-stopped
	if err != nil && ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if err != nil {
		return err
	}
	return s.fits(m, w)
}

// fits measures a workspace and makes room for it.
func (s *Mirrors) fits(m *mirror, w *workspace) error {
	size, err := w.size()
	if err != nil {
		return err
	}
	s.mu.Lock()
	m.incoming = size
	if m.gen != nil {
		size += m.gen.size
	}
	s.mu.Unlock()
	if size > s.opt.MaxBytes {
		return fmt.Errorf("%w (more than %d MiB)", ErrTooLarge, s.opt.MaxBytes>>20)
	}
	if over := s.makeRoom(0); over > 0 {
		return fmt.Errorf("%w (%d bytes over the budget)", ErrNoSpace, over)
	}
	return nil
}

func (s *Mirrors) setIncoming(m *mirror, n int64) {
	s.mu.Lock()
	m.incoming = n
	s.mu.Unlock()
}

// total adds up what is on disk. The lock is held.
func (s *Mirrors) total() int64 {
	var n int64
	add := func(m *mirror) {
		n += m.incoming
		if m.gen != nil {
			n += m.gen.size
		}
		for g := range m.old {
			if !g.going {
				n += g.size
			}
		}
	}
	for _, m := range s.all {
		add(m)
	}
	for m := range s.leaving {
		add(m)
	}
	return n
}

// makeRoom removes the mirrors that were not used for longest, until the budget holds with extra bytes more.
// It returns by how much the budget is still exceeded.
func (s *Mirrors) makeRoom(extra int64) int64 { return s.shrink(s.opt.MaxBytes - extra) }

// giveUpAQuarter removes mirrors for a disk that is full within the budget, and reports whether it could.
func (s *Mirrors) giveUpAQuarter() bool {
	s.mu.Lock()
	before := s.total()
	s.mu.Unlock()
	s.shrink(before - before/4 - 1)
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.total() < before
}

// shrink removes mirrors, the one that was not used for longest first, until all together have no more than most
// bytes. Those that are leased or being fetched stay. It returns by how much that is exceeded.
func (s *Mirrors) shrink(most int64) int64 {
	for {
		s.mu.Lock()
		over := s.total() - most
		if over <= 0 {
			s.mu.Unlock()
			return 0
		}
		oldest := ""
		for key, m := range s.all {
			if m.gen == nil || m.active || m.gen.leases > 0 {
				continue
			}
			if oldest == "" || m.gen.used.Before(s.all[oldest].gen.used) {
				oldest = key
			}
		}
		if oldest == "" {
			s.mu.Unlock()
			return over
		}
		m := s.all[oldest]
		gone := s.retire(m)
		s.mu.Unlock()
		s.remove(m, gone)
		s.mu.Lock()
		if s.all[oldest] == m && m.gen == nil && !m.active && len(m.old) == 0 {
			delete(s.all, oldest)
			removeEmpty(m.dir)
		}
		s.mu.Unlock()
	}
}
