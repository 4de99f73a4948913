//go:build unix

package source

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
)

func TestACleanCheckoutIsTheCommit(t *testing.T) {
	formats(t, func(t *testing.T, format string) {
		for _, vouched := range []bool{false, true} {
			s := setup(t, "--object-format="+format)
			s.write("a.txt", "alpha\n")
			s.write("empty", "")
			s.write("bad-\xff-name", "x")
			s.write("d/e/f", "deep\n")
			s.write("run", "#!/bin/sh\n")
			if err := os.Chmod(filepath.Join(s.dir, "run"), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.Symlink("d/e", filepath.Join(s.dir, "link")); err != nil {
				t.Fatal(err)
			}
			head := s.commit()
			if vouched {
				s.age()
			}
			r := s.open()
			work := s.worktree(r)
			if got, want := lines(work.Entries()), lines(s.snapshot(r, head).Entries()); !slices.Equal(got, want) {
				t.Errorf("working tree has\n%s\ncommit has\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
			}
			if !strings.HasPrefix(work.ID(), "worktree-") || !work.Commit().IsZero() {
				t.Errorf("working tree is %s of %s", work.ID(), work.Commit())
			}
			for _, e := range work.Entries() {
				if body, err := work.Read(t.Context(), e); err != nil || int64(len(body)) != e.Size {
					t.Errorf("%s reads as %q, %v", e.Path, body, err)
				}
			}
			if vouched && len(work.disk) > 1 { // the link is young
				t.Errorf("read from disk: %v", work.disk)
			}
			s.write("a.txt", "other\n")
			if again := s.worktree(r); again.ID() == work.ID() {
				t.Error("a changed tree has the same id")
			}
		}
	})
}

func TestTheWorkingTreeIsWhatLiesOnDisk(t *testing.T) {
	s := setup(t)
	s.write(".gitignore", "*.log\n/out/\n")
	s.write("changed", "before\n")
	s.write("deleted", "x")
	s.write("same", "x")
	s.write("script", "x")
	s.write("to-link", "x")
	s.write("to-folder", "x")
	s.write("folder/file", "x")
	s.write("behind/file", "x")
	head := s.commit()
	s.write("changed", "after!\n")
	s.write("untracked", "new\n")
	s.write("debug.log", "ignored")
	s.write("out/x", "ignored")
	_ = os.Remove(filepath.Join(s.dir, "deleted"))
	_ = os.Chmod(filepath.Join(s.dir, "script"), 0o755)
	_ = os.Remove(filepath.Join(s.dir, "to-link"))
	_ = os.Symlink("/etc/passwd", filepath.Join(s.dir, "to-link"))
	_ = os.Remove(filepath.Join(s.dir, "to-folder"))
	s.write("to-folder/in", "y")
	_ = os.RemoveAll(filepath.Join(s.dir, "folder"))
	s.write("folder", "a file now")
	// A folder that became a link: what lies behind it is not the repository's.
	outside := t.TempDir()
	if err := os.WriteFile(filepath.Join(outside, "file"), []byte("outside"), 0o644); err != nil {
		t.Fatal(err)
	}
	_ = os.RemoveAll(filepath.Join(s.dir, "behind"))
	_ = os.Symlink(outside, filepath.Join(s.dir, "behind"))
	if err := syscall.Mkfifo(filepath.Join(s.dir, "pipe"), 0o644); err != nil {
		t.Fatal(err)
	}
	_ = os.Remove(filepath.Join(s.dir, "same"))
	if err := syscall.Mkfifo(filepath.Join(s.dir, "same"), 0o644); err != nil {
		t.Fatal(err)
	}

	r := s.open()
	work := s.worktree(r)
	if got, want := paths(work.Entries()), ".gitignore behind changed folder script to-folder/in to-link untracked"; got != want {
		t.Errorf("entries are\n%s\nwant\n%s", got, want)
	}
	if got := reasons(work.Skipped()); got != "same: neither a file, a folder nor a symbolic link" {
		t.Errorf("skipped: %s", got)
	}
	changes, err := work.Diff(t.Context(), s.snapshot(r, head))
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, c := range changes {
		switch {
		case c.From == nil:
			got = append(got, "+"+c.Path)
		case c.To == nil:
			got = append(got, "-"+c.Path)
		default:
			got = append(got, c.Path)
		}
	}
	want := "+behind -behind/file changed -deleted +folder -folder/file -same script -to-folder +to-folder/in to-link +untracked"
	if strings.Join(got, " ") != want {
		t.Errorf("changes are\n%s\nwant\n%s", strings.Join(got, " "), want)
	}
	for path, body := range map[string]string{"changed": "after!\n", "untracked": "new\n", "to-link": "/etc/passwd", "behind": outside} {
		e, _ := work.Lookup(path)
		if got, err := work.Read(t.Context(), e); err != nil || string(got) != body {
			t.Errorf("%s reads as %q, %v", path, got, err)
		}
	}
}

// A file rewritten in the moment the index was written looks the same to git: only its content tells.
func TestAFileAsYoungAsTheIndexIsReadNotTrusted(t *testing.T) {
	s := setup(t)
	for range 20 {
		s.write("racy", "aaaa\n")
		s.git("add", "racy")
		s.write("racy", "bbbb\n")
		work := s.worktree(s.open())
		e, _ := work.Lookup("racy")
		if body, err := work.Read(t.Context(), e); err != nil || string(body) != "bbbb\n" {
			t.Fatalf("racy reads as %q, %v", body, err)
		}
	}
}

func TestAssumeUnchangedDoesNotHideAChange(t *testing.T) {
	s := setup(t)
	s.write("hidden", "before\n")
	s.commit()
	s.git("update-index", "--assume-unchanged", "hidden")
	s.write("hidden", "after!\n")
	work := s.worktree(s.open())
	e, _ := work.Lookup("hidden")
	if body, err := work.Read(t.Context(), e); err != nil || string(body) != "after!\n" {
		t.Errorf("hidden reads as %q, %v", body, err)
	}
}

func TestASparseCheckoutCountsWithWhatItLeavesOut(t *testing.T) {
	s := setup(t)
	s.write("in/a", "a\n")
	s.write("out/b", "b\n")
	head := s.commit()
	s.git("sparse-checkout", "set", "--cone", "in")
	if _, err := os.Stat(filepath.Join(s.dir, "out/b")); err == nil {
		t.Fatal("out/b is there")
	}
	r := s.open()
	work := s.worktree(r)
	if changes, err := work.Diff(t.Context(), s.snapshot(r, head)); err != nil || len(changes) != 0 {
		t.Errorf("changes: %v, %v", changes, err)
	}
	e, _ := work.Lookup("out/b")
	if body, err := work.Read(t.Context(), e); err != nil || string(body) != "b\n" || e.Size != 2 {
		t.Errorf("out/b (%d bytes) reads as %q, %v", e.Size, body, err)
	}
}

func TestLineEndingsOfTheCheckoutAreNoChange(t *testing.T) {
	for _, vouched := range []bool{false, true} {
		s := setup(t)
		s.write(".gitattributes", "*.txt text eol=crlf\n")
		s.write("a.txt", "one\ntwo\n")
		head := s.commit()
		_ = os.Remove(filepath.Join(s.dir, "a.txt"))
		s.git("checkout", "-q", "a.txt")
		if b, _ := os.ReadFile(filepath.Join(s.dir, "a.txt")); string(b) != "one\r\ntwo\r\n" {
			t.Fatalf("checked out as %q", b)
		}
		if vouched {
			s.age()
		}
		r := s.open()
		work := s.worktree(r)
		if changes, err := work.Diff(t.Context(), s.snapshot(r, head)); err != nil || len(changes) != 0 {
			t.Errorf("changes: %v, %v", changes, err)
		}
		e, _ := work.Lookup("a.txt")
		if body, err := work.Read(t.Context(), e); err != nil || string(body) != "one\ntwo\n" || e.Size != 8 {
			t.Errorf("a.txt (%d bytes) reads as %q, %v", e.Size, body, err)
		}
	}
}

func TestAnUnresolvedMergeIsOneFile(t *testing.T) {
	s := setup(t)
	s.write("a", "base\n")
	s.commit()
	s.git("checkout", "-q", "-b", "side")
	s.write("a", "side\n")
	s.commit()
	s.git("checkout", "-q", "main")
	s.write("a", "main\n")
	s.commit()
	s.git("read-tree", "-m", "main~1", "main", "side")
	s.write("a", "<<<<<<< conflict\n")
	work := s.worktree(s.open())
	if got := paths(work.Entries()); got != "a" {
		t.Errorf("entries are %q", got)
	}
	if body, err := work.Read(t.Context(), work.Entries()[0]); err != nil || string(body) != "<<<<<<< conflict\n" {
		t.Errorf("a reads as %q, %v", body, err)
	}
}

func TestAFileThatChangedSinceItWasListedIsNotRead(t *testing.T) {
	outside := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(outside, []byte("1234"), 0o644); err != nil {
		t.Fatal(err)
	}
	for what, change := range map[string]func(s *sandbox, file string){
		"longer":    func(s *sandbox, _ string) { s.write("d/f", "12345") },
		"other":     func(s *sandbox, _ string) { s.write("d/f", "abcd") },
		"gone":      func(_ *sandbox, f string) { _ = os.Remove(f) },
		"a link":    func(_ *sandbox, f string) { _ = os.Remove(f); _ = os.Symlink(outside, f) },
		"a link in": func(s *sandbox, f string) { _ = os.Remove(f); s.write("g", "1234"); _ = os.Symlink("../g", f) },
		"behind link": func(s *sandbox, f string) {
			s.write("e/f", "1234")
			_ = os.RemoveAll(filepath.Dir(f))
			_ = os.Symlink("e", filepath.Dir(f))
		},
		"a pipe":   func(_ *sandbox, f string) { _ = os.Remove(f); _ = syscall.Mkfifo(f, 0o644) },
		"a folder": func(_ *sandbox, f string) { _ = os.Remove(f); _ = os.Mkdir(f, 0o755) },
		"huge":     func(_ *sandbox, f string) { _ = os.Truncate(f, 100<<20) },
	} {
		t.Run(what, func(t *testing.T) {
			s := setup(t)
			s.write("d/f", "1234")
			work := s.worktree(s.open())
			e, _ := work.Lookup("d/f")
			if _, err := work.Read(t.Context(), e); err != nil {
				t.Fatal(err)
			}
			change(s, filepath.Join(s.dir, "d/f"))
			body, err := work.Read(t.Context(), e)
			wantError(t, err, ErrChanged, "d/f")
			if body != nil {
				t.Errorf("read %q", body)
			}
		})
	}
}

func TestAHostileIndexLeadsNowhere(t *testing.T) {
	s := setup(t)
	s.write("fine", "x")
	s.git("add", "fine")
	// Same length, so that the index stays well formed: only its last bytes, a checksum, would differ.
	s.write("aa/bbbbbbbb", "x")
	s.git("-c", "index.version=2", "add", "aa/bbbbbbbb")
	index := filepath.Join(s.dir, ".git/index")
	b, err := os.ReadFile(index)
	if err != nil {
		t.Fatal(err)
	}
	b = []byte(strings.Replace(string(b), "aa/bbbbbbbb", "../../etc/x", 1))
	if err := os.WriteFile(index, b, 0o644); err != nil {
		t.Fatal(err)
	}
	work, err := s.open().WorkTree(t.Context())
	if err != nil {
		return // git refuses such an index: as good
	}
	if got := reasons(work.Skipped()); !strings.Contains(got, "../../etc/x: path leaves its folder") {
		t.Errorf("skipped: %s; entries: %s", got, paths(work.Entries()))
	}
}

func TestInstantsCompareByWhatBothKnow(t *testing.T) {
	for _, c := range []struct {
		a, b         instant
		before, same bool
	}{
		{instant{1, 5}, instant{1, 6}, true, false},
		{instant{1, 5}, instant{1, 5}, false, true},
		{instant{1, 0}, instant{1, 5}, false, true},
		{instant{1, 5}, instant{1, 0}, false, true},
		{instant{1, 9}, instant{2, 1}, true, false},
		{instant{2, 1}, instant{1, 9}, false, false},
	} {
		if c.a.before(c.b) != c.before || c.a.same(c.b) != c.same {
			t.Errorf("%v and %v", c.a, c.b)
		}
	}
}
