package source

import (
	"fmt"
	"testing"

	"github.com/noxaudit/noxaudit/internal/name"
)

const many = 10_000

// manyFiles is a repository of 10,000 files with a second commit that changes ten of them.
func manyFiles(b *testing.B) (s *sandbox, base, head name.Commit) {
	b.Helper()
	s = setup(b)
	base = s.fill(many)
	s.git("reset", "-q", "--hard")
	for i := range 10 {
		s.write(fmt.Sprintf("services/s%02d/pkg00/file%05d.go", i, i*1000), fmt.Sprintf("package changed%d\n", i))
	}
	head = s.commit()
	s.age()
	return s, base, head
}

func BenchmarkOpen(b *testing.B) {
	s, _, _ := manyFiles(b)
	for b.Loop() {
		r, err := Open(b.Context(), s.dir, Limits{})
		if err != nil {
			b.Fatal(err)
		}
		r.Close()
	}
}

func BenchmarkListCommit(b *testing.B) {
	s, _, head := manyFiles(b)
	r := s.open()
	b.ReportAllocs()
	for b.Loop() {
		r.recent = &Listings{}
		if snap := s.snapshot(r, head); len(snap.Entries()) != many {
			b.Fatal(len(snap.Entries()))
		}
	}
}

func BenchmarkListCommitAgain(b *testing.B) {
	s, _, head := manyFiles(b)
	r := s.open()
	for b.Loop() {
		s.snapshot(r, head)
	}
}

func BenchmarkListWorkTreeUnchanged(b *testing.B) {
	s, _, _ := manyFiles(b)
	r := s.open()
	b.ReportAllocs()
	for b.Loop() {
		snap := s.worktree(r)
		if len(snap.Entries()) != many || len(snap.disk) != 0 {
			b.Fatalf("%d entries, %d of them read", len(snap.Entries()), len(snap.disk))
		}
	}
}

func BenchmarkDiff(b *testing.B) {
	s, base, head := manyFiles(b)
	r := s.open()
	b.Run("of two listings", func(b *testing.B) {
		from, to := s.snapshot(r, base), s.snapshot(r, head)
		for b.Loop() {
			if c, err := to.Diff(b.Context(), from); err != nil || len(c) != 10 {
				b.Fatal(len(c), err)
			}
		}
	})
	b.Run("without a listing", func(b *testing.B) {
		for b.Loop() {
			if c, err := r.Changes(b.Context(), base, head); err != nil || len(c) != 10 {
				b.Fatal(len(c), err)
			}
		}
	})
}

func BenchmarkReadSmallFiles(b *testing.B) {
	s, _, head := manyFiles(b)
	r := s.open()
	snap := s.snapshot(r, head)
	b.ReportAllocs()
	for b.Loop() {
		for _, e := range snap.Entries() {
			if _, err := snap.Read(b.Context(), e); err != nil {
				b.Fatal(err)
			}
		}
	}
}

func BenchmarkReadSmallFilesFromTwoGoroutines(b *testing.B) {
	s, _, head := manyFiles(b)
	r := s.open()
	snap := s.snapshot(r, head)
	b.SetParallelism(1)
	b.ResetTimer()
	b.RunParallel(func(pb *testing.PB) {
		for i := 0; pb.Next(); i++ {
			if _, err := snap.Read(b.Context(), snap.Entries()[i%many]); err != nil {
				b.Fatal(err)
			}
		}
	})
}
