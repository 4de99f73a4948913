package source

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/noxaudit/noxaudit/internal/name"
)

// sandbox is a real git repository for a test, made and changed with git itself.
type sandbox struct {
	t   testing.TB
	dir string
}

// setup makes a repository with a working tree; args go to git init.
func setup(t testing.TB, args ...string) *sandbox {
	t.Helper()
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	s := &sandbox{t, filepath.Join(dir, "repo")}
	if err := os.Mkdir(s.dir, 0o755); err != nil {
		t.Fatal(err)
	}
	s.git(append([]string{"init", "-q", "-b", "main"}, args...)...)
	return s
}

func (s *sandbox) at(dir string) *sandbox { return &sandbox{s.t, dir} }

func (s *sandbox) git(args ...string) string {
	s.t.Helper()
	return s.pipe("", args...)
}

func (s *sandbox) pipe(in string, args ...string) string {
	s.t.Helper()
	cmd := exec.Command("git", append([]string{"-c", "user.name=A", "-c", "user.email=a@example.org", "-c", "commit.gpgSign=false",
		"-c", "protocol.file.allow=always", "-c", "core.hooksPath=/dev/null", "-c", "gc.auto=0"}, args...)...)
	cmd.Dir = s.dir
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + s.dir, "GIT_CONFIG_NOSYSTEM=1", "GIT_CONFIG_GLOBAL=/dev/null", "LC_ALL=C",
		"GIT_AUTHOR_DATE=1700000000 +0000", "GIT_COMMITTER_DATE=1700000000 +0000"}
	cmd.Stdin = strings.NewReader(in)
	var out, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &stderr
	if err := cmd.Run(); err != nil {
		s.t.Fatalf("git %v: %v: %s", args, err, stderr.String())
	}
	return strings.TrimSpace(out.String())
}

func (s *sandbox) write(path, content string) {
	s.t.Helper()
	full := filepath.Join(s.dir, path)
	if err := os.MkdirAll(filepath.Dir(full), 0o755); err != nil {
		s.t.Fatal(err)
	}
	if err := os.WriteFile(full, []byte(content), 0o644); err != nil {
		s.t.Fatal(err)
	}
}

func (s *sandbox) commit() name.Commit {
	s.t.Helper()
	s.git("add", "-A")
	s.git("commit", "-q", "--allow-empty", "-m", "change")
	return s.head()
}

func (s *sandbox) head() name.Commit {
	s.t.Helper()
	return s.parse(s.git("rev-parse", "HEAD"))
}

func (s *sandbox) parse(id string) name.Commit {
	s.t.Helper()
	c, err := name.ParseCommit(id)
	if err != nil {
		s.t.Fatal(err)
	}
	return c
}

// age makes files and index old, so that the index vouches for the files, as in any checkout older than a moment.
func (s *sandbox) age() {
	s.t.Helper()
	old := time.Now().Add(-time.Hour)
	for _, p := range strings.Split(strings.TrimRight(s.git("ls-files", "-z"), "\x00"), "\x00") {
		if fi, err := os.Lstat(filepath.Join(s.dir, p)); err == nil && fi.Mode().IsRegular() {
			if err := os.Chtimes(filepath.Join(s.dir, p), old, old); err != nil {
				s.t.Fatal(err)
			}
		}
	}
	s.git("update-index", "-q", "--refresh")
}

func (s *sandbox) open() *Repository { return s.openWith(Limits{}) }

func (s *sandbox) openWith(l Limits) *Repository {
	s.t.Helper()
	r, err := Open(s.t.Context(), s.dir, l)
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() {
		if err := r.Close(); err != nil {
			s.t.Error(err)
		}
	})
	return r
}

func (s *sandbox) snapshot(r *Repository, c name.Commit) *Snapshot {
	s.t.Helper()
	snap, err := r.Commit(s.t.Context(), c)
	if err != nil {
		s.t.Fatal(err)
	}
	return snap
}

func (s *sandbox) worktree(r *Repository) *Snapshot {
	s.t.Helper()
	snap, err := r.WorkTree(s.t.Context())
	if err != nil {
		s.t.Fatal(err)
	}
	return snap
}

func (s *sandbox) blob(content string) string {
	s.t.Helper()
	return s.pipe(content, "hash-object", "-w", "--stdin")
}

// node is one entry of a tree that is written byte by byte, as git would never do.
type node struct{ mode, name, id string }

func (s *sandbox) rawTree(nodes ...node) string {
	s.t.Helper()
	var b bytes.Buffer
	for _, n := range nodes {
		id, err := hex.DecodeString(n.id)
		if err != nil {
			s.t.Fatal(err)
		}
		fmt.Fprintf(&b, "%s %s\x00%s", n.mode, n.name, id)
	}
	return s.pipe(b.String(), "hash-object", "-t", "tree", "-w", "--stdin", "--literally")
}

func (s *sandbox) commitTree(tree string, parents ...name.Commit) name.Commit {
	s.t.Helper()
	args := []string{"commit-tree", "-m", "change", tree}
	for _, p := range parents {
		args = append(args, "-p", p.String())
	}
	return s.parse(s.git(args...))
}

// fill makes a commit of n small files in folders of 100, without touching the disk for each.
func (s *sandbox) fill(n int) name.Commit {
	s.t.Helper()
	var b strings.Builder
	b.WriteString("commit refs/heads/main\ncommitter A <a@example.org> 1700000000 +0000\ndata 1\nx\n")
	for i := range n {
		body := fmt.Sprintf("package p%d\n\n// Number %d is a file of a hundred bytes or so.\nconst Number = %d\n", i, i, i)
		fmt.Fprintf(&b, "M 100644 inline services/s%02d/pkg%02d/file%05d.go\ndata %d\n%s\n", i/1000, i/100%10, i, len(body), body)
	}
	s.pipe(b.String(), "fast-import", "--quiet")
	return s.parse(s.git("rev-parse", "refs/heads/main"))
}

func lines(es []Entry) []string {
	var out []string
	for _, e := range es {
		out = append(out, fmt.Sprintf("%s %q %s", e.Mode, e.Path, e.Blob))
	}
	return out
}

func wantError(t *testing.T, err, kind error, words ...string) {
	t.Helper()
	if !errors.Is(err, kind) {
		t.Fatalf("error is %v, want one of kind %q", err, kind)
	}
	for _, w := range words {
		if !strings.Contains(err.Error(), w) {
			t.Errorf("error %q does not say %q", err, w)
		}
	}
}

func paths(es []Entry) string {
	var out []string
	for _, e := range es {
		out = append(out, e.Path)
	}
	return strings.Join(out, " ")
}

func reasons(sk []Skipped) string {
	var out []string
	for _, s := range sk {
		out = append(out, s.Path+": "+s.Reason)
	}
	return strings.Join(out, "\n")
}
