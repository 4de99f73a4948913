package mirror

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"time"

	"github.com/noxaudit/noxaudit/checks/source"
)

const (
	manyPacks   = 20               // are made one, when nobody fetches
	tooMany     = 4 * manyPacks    // are made one even if somebody waits to fetch: every read looks into all of them
	repackEvery = 24 * time.Hour   // when refs were forgotten, for the space of their objects
	repackLimit = 30 * time.Minute // for one mirror
	idle        = time.Minute      // after which a mirror that nobody reads ends its git process
)

// background runs Maintain again and again.
func (s *Mirrors) background() {
	tick := time.NewTicker(s.opt.Maintain)
	defer tick.Stop()
	for {
		select {
		case <-s.ctx.Done():
			return
		case <-tick.C:
			_ = s.Maintain(s.ctx) // what failed is tried in the next round; nothing waits for it
		}
	}
}

// Maintain makes one round over all mirrors: it ends the git processes of those that nobody reads, forgets refs
// that nobody asked for during Options.Keep, makes many packs one, and keeps the budget. A fetch that comes
// meanwhile goes first. Mirrors with leases are maintained as well: readers keep the copy they have.
func (s *Mirrors) Maintain(ctx context.Context) error {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return ErrClosed
	}
	all := make([]*mirror, 0, len(s.all))
	for _, m := range s.all {
		all = append(all, m)
	}
	s.mu.Unlock()
	for _, m := range all {
		s.rest(m)
	}
	var errs []error
	for _, m := range all {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err := s.maintain(ctx, m); err != nil && !errors.Is(err, errInterrupted) {
			errs = append(errs, fmt.Errorf("mirror %s: %w", filepath.Base(m.dir), err))
		}
	}
	s.makeRoom(0)
	return errors.Join(errs...)
}

// rest closes the repository of a mirror that nobody reads.
func (s *Mirrors) rest(m *mirror) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if g := m.gen; g != nil && !m.active && g.leases == 0 && g.repo != nil && s.opt.Now().Sub(g.used) >= idle {
		_ = g.repo.Close()
		g.repo = nil
	}
}

// maintain takes the place of the mirror's runner, unless there is one.
func (s *Mirrors) maintain(ctx context.Context, m *mirror) error {
	ctx, cancel := context.WithTimeoutCause(ctx, repackLimit, errTimeout)
	defer cancel()
	ctx, interrupt := context.WithCancelCause(ctx)
	defer interrupt(nil)
	s.mu.Lock()
	if s.closed || m.active || m.gen == nil {
		s.mu.Unlock()
		return nil
	}
	m.active = true
	m.interrupt = interrupt
	s.busy.Add(1)
	s.mu.Unlock()
	stop := context.AfterFunc(s.ctx, func() { interrupt(ErrClosed) })
	defer stop()

	err := s.renew(ctx, m)

	s.mu.Lock()
	m.interrupt = nil
	if m.next != nil {
		go func() { defer s.busy.Done(); s.run(m) }()
		s.mu.Unlock()
		return err
	}
	m.active = false
	m.signal()
	s.mu.Unlock()
	s.tidy(m)
	s.busy.Done()
	return err
}

// renew forgets old refs, and repacks when it is worth it.
func (s *Mirrors) renew(ctx context.Context, m *mirror) error {
	g := m.gen
	if g.state.Version == 0 {
		loaded, err := load(g.dir)
		if err != nil {
			s.mu.Lock()
			g.suspect = true // the next fetch sees to it
			s.mu.Unlock()
			return err
		}
		g.state = loaded.state
	}
	now := s.opt.Now()
	forgotten := 0
	for key, h := range g.state.Refs {
		if now.Sub(h.Used) > s.opt.Keep {
			delete(g.state.Refs, key)
			forgotten++
		}
	}
	if forgotten > 0 {
		g.state.Loose = true
		if err := g.save(); err != nil {
			return diskError("save a mirror's state", err)
		}
	}
	n := g.state.packs()
	// Nothing is left that anybody wants: makeRoom may have the mirror, there is nothing to pack.
	if len(g.state.Refs) == 0 {
		return nil
	}
	if n < manyPacks && !(g.state.Loose && now.Sub(g.state.Packed) >= repackEvery) {
		return nil
	}
	// The copy needs as much room again. Where there is none the mirror stays as it is.
	if 2*g.size > s.opt.MaxBytes || s.makeRoom(g.size) > 0 {
		return nil
	}
	if n >= tooMany {
		s.mu.Lock()
		m.interrupt = nil
		s.mu.Unlock()
	}
	return s.repack(ctx, m, now)
}

// repack writes all that the refs rest on into one pack, in a workspace that then takes the mirror's place.
func (s *Mirrors) repack(ctx context.Context, m *mirror, now time.Time) error {
	w, err := newWorkspace(s.work, m.gen.state.Format, m.gen)
	if err != nil {
		return diskError("make a workspace", err)
	}
	defer func() {
		w.remove()
		s.setIncoming(m, 0)
	}()
	if err := s.watched(ctx, m, w, func(ctx context.Context) error {
		cmd := s.git.Local(ctx, w.dir, "-c", "pack.threads=1", "-c", "pack.windowMemory=64m", "pack-objects", "--all", "--quiet",
			"--delta-base-offset", filepath.Join(w.dir, "objects", "pack", "pack"))
		var stderr tail
		cmd.Stderr = &stderr
		err := runToDeath(cmd)
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err != nil {
			return s.unpackable(m.gen, stderr.String())
		}
		return nil
	}); err != nil {
		return err
	}
	st := m.gen.state
	st.Packed, st.Loose = now, false
	return diskError("take over what was packed", s.install(m, w, st))
}

// unpackable gives a failed repack its kind. What git cannot read all of is fetched anew when next wanted.
func (s *Mirrors) unpackable(g *generation, stderr string) error {
	why := source.Message(stderr)
	if strings.Contains(stderr, "No space left on device") || strings.Contains(stderr, "Disk quota exceeded") {
		return fmt.Errorf("%w (%s)", ErrNoSpace, why)
	}
	s.mu.Lock()
	g.suspect = true
	s.mu.Unlock()
	return fmt.Errorf("%w: %s", errDamaged, why)
}
