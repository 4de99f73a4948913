//go:build unix

package mirror

import (
	"context"
	"fmt"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/noxaudit/noxaudit/internal/gittest"
)

// large makes a repository of 10,000 files in 200 folders, and some history.
func large(b *testing.B, h *github) (*gittest.Repo, Remote) {
	b.Helper()
	repo, remote := h.repo("1")
	files := gittest.Files{}
	for i := range 10_000 {
		files[fmt.Sprintf("src/p%03d/f%04d.go", i%200, i)] = fmt.Sprintf("package p%03d\n\n// F%d is a function.\nfunc F%d() int { return %d }\n%s\n", i%200, i, i, i, noise(uint64(i), 800))
	}
	repo.Commit(files)
	for i := range 50 {
		repo.Commit(gittest.Files{fmt.Sprintf("src/p%03d/f%04d.go", i, i): fmt.Sprintf("package p // %d\n", i)})
	}
	repo.Git("gc", "-q")
	return repo, remote
}

// cpu is the processor time of the children that have ended so far: git, on both sides.
func cpu() time.Duration {
	var u syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_CHILDREN, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func BenchmarkFetchOfOneNewCommit(b *testing.B) {
	h := newGitHub(b)
	repo, remote := large(b, h)
	s := open(b, Options{})
	fetch(b, s, remote, main).Release()
	requests := h.requests.Load()
	var spent time.Duration
	n := 0
	for b.Loop() {
		b.StopTimer()
		n++
		repo.Commit(gittest.Files{"src/p001/new.go": fmt.Sprintf("package p001 // %d\n", n)})
		before := cpu()
		b.StartTimer()
		l, err := s.Fetch(context.Background(), remote, main)
		b.StopTimer()
		if err != nil {
			b.Fatal(err)
		}
		l.Release()
		spent += cpu() - before
		b.StartTimer()
	}
	b.ReportMetric(float64(spent.Microseconds())/1000/float64(n), "cpu-ms/op")
	b.ReportMetric(float64(h.requests.Load()-requests)/float64(n), "requests/op")
}

func BenchmarkFetchOfNothingNew(b *testing.B) {
	h := newGitHub(b)
	_, remote := large(b, h)
	s := open(b, Options{})
	fetch(b, s, remote, main).Release()
	requests := h.requests.Load()
	before := cpu()
	for b.Loop() {
		fetch(b, s, remote, main).Release()
	}
	b.ReportMetric(float64((cpu()-before).Microseconds())/1000/float64(b.N), "cpu-ms/op")
	b.ReportMetric(float64(h.requests.Load()-requests)/float64(b.N), "requests/op")
}

func BenchmarkFetchOfAKnownCommit(b *testing.B) {
	h := newGitHub(b)
	repo, remote := large(b, h)
	head := repo.Git("rev-parse", "HEAD")
	s := open(b, Options{})
	fetch(b, s, remote, main).Release()
	for b.Loop() {
		fetch(b, s, remote, head).Release()
	}
}

func BenchmarkFirstFetch(b *testing.B) {
	h := newGitHub(b)
	_, remote := large(b, h)
	n := 0
	for b.Loop() {
		n++
		s, err := Open(Options{Dir: filepath.Join(b.TempDir(), fmt.Sprint(n)), Maintain: -1})
		if err != nil {
			b.Fatal(err)
		}
		fetch(b, s, remote, main).Release()
		s.Close()
	}
}

// The same by git alone, without workspace, lease and rules: what a fetch costs at least.
func BenchmarkGitFetchAlone(b *testing.B) {
	h := newGitHub(b)
	repo, remote := large(b, h)
	dir := b.TempDir()
	git := func(args ...string) {
		cmd := exec.Command("git", args...)
		cmd.Dir = dir
		cmd.Env = append(cmd.Environ(), "GIT_CONFIG_COUNT=1", "GIT_CONFIG_KEY_0=http.extraHeader", "GIT_CONFIG_VALUE_0=Authorization: Basic "+basic(goodToken))
		if out, err := cmd.CombinedOutput(); err != nil {
			b.Fatalf("%v: %s", err, out)
		}
	}
	git("init", "-q", "--bare")
	git("fetch", "-q", "--no-tags", remote.URL, "+"+main+":"+main)
	var spent time.Duration
	n := 0
	for b.Loop() {
		b.StopTimer()
		n++
		repo.Commit(gittest.Files{"src/p001/new.go": fmt.Sprintf("package p001 // %d\n", n)})
		before := cpu()
		b.StartTimer()
		git("fetch", "-q", "--no-tags", remote.URL, "+"+main+":"+main)
		b.StopTimer()
		spent += cpu() - before
		b.StartTimer()
	}
	b.ReportMetric(float64(spent.Microseconds())/1000/float64(n), "cpu-ms/op")
}
