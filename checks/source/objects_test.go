//go:build unix

package source

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"syscall"
	"testing"
)

func TestReadIsSafeFromManyGoroutines(t *testing.T) {
	s := setup(t)
	head := s.fill(500)
	r := s.open()
	snap := s.snapshot(r, head)
	var wg sync.WaitGroup
	for g := range 8 {
		wg.Go(func() {
			for i := range snap.Entries() {
				e := snap.Entries()[(i*7+g)%len(snap.Entries())]
				body, err := snap.Read(t.Context(), e)
				if err != nil || r.blobID(body) != e.Blob {
					t.Errorf("%s: %v", e.Path, err)
					return
				}
			}
		})
	}
	wg.Wait()
	if n := len(r.objects.live); n > readers {
		t.Errorf("%d processes", n)
	}
}

func TestACancelledReadLeavesTheRepositoryUsable(t *testing.T) {
	s := setup(t)
	big := s.pipe(strings.Repeat("0123456789abcdef", 4<<20/16), "hash-object", "-w", "--stdin")
	snap := s.snapshot(s.open(), s.commitTree(s.rawTree(node{"100644", "big", big}, node{"100644", "small", s.blob("x")})))
	e, _ := snap.Lookup("big")
	for range 50 {
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		wg.Go(cancel)
		if body, err := snap.Read(ctx, e); err != nil && !errors.Is(err, context.Canceled) || err == nil && len(body) != 4<<20 {
			t.Fatalf("%d bytes, %v", len(body), err)
		}
		wg.Wait()
		small, _ := snap.Lookup("small")
		if body, err := snap.Read(t.Context(), small); err != nil || string(body) != "x" {
			t.Fatalf("after that, small reads as %q, %v", body, err)
		}
	}
	because := errors.New("the pull request was closed")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(because)
	if _, err := snap.Read(ctx, e); !errors.Is(err, because) {
		t.Errorf("%v", err)
	}
}

func TestAReaderThatDiesIsReplacedOnce(t *testing.T) {
	s := setup(t)
	s.write("a", "x")
	head := s.commit()
	r := s.open()
	snap := s.snapshot(r, head)
	for range 3 {
		for live := range r.objects.live {
			live.kill()
		}
		if body, err := snap.Read(t.Context(), snap.Entries()[0]); err != nil || string(body) != "x" {
			t.Fatalf("a reads as %q, %v", body, err)
		}
	}
	if n := len(r.objects.live); n != 1 {
		t.Errorf("%d processes", n)
	}
}

func TestNoProcessRemainsAfterClose(t *testing.T) {
	s := setup(t)
	s.write("a", "x")
	head := s.commit()
	for _, version := range [][2]int{{2, 30}, {2, 36}} {
		r := s.open()
		r.git.version = version
		snap := s.snapshot(r, head)
		var wg sync.WaitGroup
		for range 4 {
			wg.Go(func() {
				for range 50 {
					if _, err := snap.Read(t.Context(), snap.Entries()[0]); err != nil {
						t.Error(err)
					}
				}
			})
		}
		wg.Wait()
		var pids []int
		for live := range r.objects.live {
			pids = append(pids, live.asks.cmd.Process.Pid, live.reads.cmd.Process.Pid)
		}
		if len(pids) == 0 {
			t.Fatal("nothing was running")
		}
		if err := r.Close(); err != nil {
			t.Fatal(err)
		}
		for _, pid := range pids {
			if err := syscall.Kill(pid, 0); !errors.Is(err, syscall.ESRCH) {
				t.Errorf("process %d is still there: %v", pid, err)
			}
		}
		_, err := snap.Read(t.Context(), snap.Entries()[0])
		wantError(t, err, ErrClosed)
		_, err = r.Resolve(t.Context(), "HEAD")
		wantError(t, err, ErrClosed)
	}
}

func TestCloseEndsReadsThatAreUnderWay(t *testing.T) {
	s := setup(t)
	head := s.fill(200)
	for range 10 {
		r := s.open()
		snap := s.snapshot(r, head)
		var wg sync.WaitGroup
		started := make(chan struct{}, 4)
		for range 4 {
			wg.Go(func() {
				for i := 0; ; i++ {
					_, err := snap.Read(t.Context(), snap.Entries()[i%200])
					if i == 0 {
						started <- struct{}{}
					}
					if err != nil {
						if !errors.Is(err, ErrClosed) {
							t.Errorf("%v", err)
						}
						return
					}
				}
			})
		}
		<-started
		if err := r.Close(); err != nil {
			t.Error(err)
		}
		wg.Wait()
	}
}

// A git older than 2.36 needs a process for each kind of question.
func TestAnOlderGitReadsTheSame(t *testing.T) {
	s := setup(t)
	s.write("a", "alpha\n")
	head := s.commit()
	r := s.open()
	r.git.version = [2]int{2, 30}
	if got, err := r.Resolve(t.Context(), "HEAD"); err != nil || got != head {
		t.Fatalf("HEAD is %v, %v", got, err)
	}
	snap := s.snapshot(r, head)
	e := snap.Entries()[0]
	for _, size := range []int64{e.Size, -1} {
		e.Size = size
		if body, err := snap.Read(t.Context(), e); err != nil || string(body) != "alpha\n" {
			t.Errorf("a reads as %q, %v", body, err)
		}
	}
	sizes, err := r.objects.sizes(t.Context(), []string{e.Blob, strings.Repeat("0", 40), snap.ID()})
	if err != nil || fmt.Sprint(sizes[:2]) != "[6 -1]" {
		t.Errorf("sizes are %v, %v", sizes, err)
	}
}

func TestManySizesAreAskedForTogether(t *testing.T) {
	s := setup(t)
	snap := s.snapshot(s.open(), s.fill(1000))
	var ids []string
	for _, e := range snap.Entries() {
		ids = append(ids, e.Blob)
	}
	sizes, err := snap.repo.objects.sizes(t.Context(), ids)
	if err != nil {
		t.Fatal(err)
	}
	for i, e := range snap.Entries() {
		if sizes[i] != e.Size {
			t.Fatalf("%s has %d bytes, not %d", e.Path, e.Size, sizes[i])
		}
	}
}
