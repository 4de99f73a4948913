package source

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/noxaudit/noxaudit/internal/name"
)

func formats(t *testing.T, f func(t *testing.T, format string)) {
	for _, format := range []string{"sha1", "sha256"} {
		t.Run(format, func(t *testing.T) { f(t, format) })
	}
}

func TestASnapshotOfACommitListsAndReadsItsFiles(t *testing.T) {
	formats(t, func(t *testing.T, format string) {
		s := setup(t, "--object-format="+format)
		s.write("a.txt", "alpha\n")
		s.write("dir/run.sh", "#!/bin/sh\n")
		s.write("dir/empty", "")
		if err := os.Chmod(filepath.Join(s.dir, "dir/run.sh"), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink("/etc/passwd", filepath.Join(s.dir, "link")); err != nil {
			t.Fatal(err)
		}
		s.commit()
		r := s.open()
		head, err := r.Resolve(t.Context(), "HEAD")
		if err != nil {
			t.Fatal(err)
		}
		snap := s.snapshot(r, head)
		if got := paths(snap.Entries()); got != "a.txt dir/empty dir/run.sh link" {
			t.Fatalf("entries are %q", got)
		}
		for path, want := range map[string]struct {
			mode Mode
			body string
		}{"a.txt": {Regular, "alpha\n"}, "dir/run.sh": {Executable, "#!/bin/sh\n"}, "dir/empty": {Regular, ""}, "link": {Symlink, "/etc/passwd"}} {
			e, ok := snap.Lookup(path)
			if !ok || e.Mode != want.mode || e.Size != int64(len(want.body)) {
				t.Errorf("%s is %+v", path, e)
			}
			body, err := snap.Read(t.Context(), e)
			if err != nil || string(body) != want.body {
				t.Errorf("%s reads as %q, %v", path, body, err)
			}
		}
		if _, ok := snap.Lookup("dir"); ok {
			t.Error("a folder was found as an entry")
		}
		if snap.ID() != s.git("rev-parse", "HEAD^{tree}") || snap.Commit() != head {
			t.Errorf("snapshot is %s of %s", snap.ID(), snap.Commit())
		}
	})
}

func TestOpenFindsTheRepositoryFromWhereverItIsAsked(t *testing.T) {
	s := setup(t)
	s.write("deep/er/file", "x")
	head := s.commit()
	s.git("worktree", "add", "-q", "../linked")
	s.git("clone", "-q", "--mirror", ".", "../mirror.git")
	linked := filepath.Join(filepath.Dir(s.dir), "linked")
	mirror := filepath.Join(filepath.Dir(s.dir), "mirror.git")
	for _, c := range []struct {
		name, dir, root string
		bare            bool
	}{
		{"the top", s.dir, s.dir, false},
		{"a folder inside", filepath.Join(s.dir, "deep/er"), s.dir, false},
		{"a file inside", filepath.Join(s.dir, "deep/er/file"), s.dir, false},
		{"git's own folder", filepath.Join(s.dir, ".git"), s.dir, false},
		{"a linked working tree", filepath.Join(linked, "deep"), linked, false},
		{"a mirror", mirror, mirror, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			r, err := Open(t.Context(), c.dir, DefaultLimits())
			if err != nil {
				t.Fatal(err)
			}
			defer r.Close()
			if r.Root() != c.root || r.Bare() != c.bare {
				t.Errorf("root is %s, bare %v", r.Root(), r.Bare())
			}
			got, err := r.Resolve(t.Context(), "HEAD")
			if err != nil || got != head {
				t.Errorf("HEAD is %v, %v", got, err)
			}
			if snap, err := r.Commit(t.Context(), head); err != nil || paths(snap.Entries()) != "deep/er/file" {
				t.Errorf("commit: %v", err)
			}
			snap, err := r.WorkTree(t.Context())
			if c.bare {
				wantError(t, err, ErrNoWorkTree)
			} else if err != nil || paths(snap.Entries()) != "deep/er/file" {
				t.Errorf("working tree: %v, %v", snap, err)
			}
		})
	}
}

// Files of a checkout can look like a bare repository, with a configuration and a content of its author's choice.
func TestACheckoutThatLooksLikeABareRepositoryIsACheckout(t *testing.T) {
	s := setup(t)
	s.write("HEAD", "ref: refs/heads/main\n")
	s.write("config", "[core]\n\tbare = true\n")
	s.write("objects/x", "")
	s.write("refs/x", "")
	head := s.commit()
	r := s.open()
	if got, err := r.Resolve(t.Context(), "HEAD"); err != nil || got != head || r.Bare() {
		t.Errorf("HEAD is %v, %v; bare %v", got, err, r.Bare())
	}
}

func TestOpenRefusesWhatIsNoRepository(t *testing.T) {
	dir := t.TempDir()
	_, err := Open(t.Context(), dir, DefaultLimits())
	wantError(t, err, ErrNotRepository, "git init")
	_, err = Open(t.Context(), filepath.Join(dir, "absent"), DefaultLimits())
	wantError(t, err, ErrNotRepository)
	if err := os.WriteFile(filepath.Join(dir, ".git"), []byte("gitdir: nowhere\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	_, err = Open(t.Context(), dir, DefaultLimits())
	wantError(t, err, ErrNotRepository, "points at no repository")
}

func TestOpenSaysThatGitIsMissingOrTooOld(t *testing.T) {
	s := setup(t)
	bin := t.TempDir()
	t.Setenv("PATH", bin)
	_, err := Open(t.Context(), s.dir, DefaultLimits())
	wantError(t, err, ErrNoGit, "2.30")
	if err := os.WriteFile(filepath.Join(bin, "git"), []byte("#!/bin/sh\necho git version 2.25.1\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	_, err = Open(t.Context(), s.dir, DefaultLimits())
	wantError(t, err, ErrNoGit, "2.25")
}

func TestADamagedRepositoryIsSaidToBeDamaged(t *testing.T) {
	t.Run("no HEAD", func(t *testing.T) {
		s := setup(t)
		s.write("a", "x")
		s.commit()
		if err := os.Remove(filepath.Join(s.dir, ".git/HEAD")); err != nil {
			t.Fatal(err)
		}
		_, err := Open(t.Context(), s.dir, DefaultLimits())
		wantError(t, err, ErrCorrupt)
	})
	t.Run("a blob is gone", func(t *testing.T) {
		s := setup(t)
		s.write("a", "x")
		head := s.commit()
		r := s.open()
		snap := s.snapshot(r, head)
		e, _ := snap.Lookup("a")
		remove(t, s, e.Blob)
		_, err := snap.Read(t.Context(), e)
		wantError(t, err, ErrMissing)
		wantError(t, err, ErrCorrupt)
	})
	t.Run("a tree is gone", func(t *testing.T) {
		s := setup(t)
		s.write("d/a", "x")
		head := s.commit()
		remove(t, s, s.git("rev-parse", "HEAD:d"))
		_, err := s.open().Commit(t.Context(), head)
		wantError(t, err, ErrCorrupt)
	})
	t.Run("the tree of the commit is gone", func(t *testing.T) {
		s := setup(t)
		s.write("d/a", "x")
		head := s.commit()
		remove(t, s, s.git("rev-parse", "HEAD^{tree}"))
		_, err := s.open().Commit(t.Context(), head)
		wantError(t, err, ErrCorrupt)
	})
	t.Run("a blob is garbage", func(t *testing.T) {
		s := setup(t)
		s.write("a", "x")
		s.write("b", "y")
		head := s.commit()
		r := s.open()
		snap := s.snapshot(r, head)
		e, _ := snap.Lookup("a")
		file := objectFile(s, e.Blob)
		if err := os.Chmod(file, 0o644); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte("garbage"), 0o644); err != nil {
			t.Fatal(err)
		}
		if _, err := snap.Read(t.Context(), e); err == nil {
			t.Error("garbage was read")
		}
		b, _ := snap.Lookup("b")
		if body, err := snap.Read(t.Context(), b); err != nil || string(body) != "y" {
			t.Errorf("after that, b reads as %q, %v", body, err)
		}
	})
	t.Run("a tree is garbage", func(t *testing.T) {
		s := setup(t)
		tree := s.pipe("100644 cut", "hash-object", "-t", "tree", "-w", "--stdin", "--literally")
		_, err := s.open().Commit(t.Context(), s.commitTree(tree))
		wantError(t, err, ErrCorrupt)
	})
	t.Run("the index is garbage", func(t *testing.T) {
		s := setup(t)
		s.write("a", "x")
		s.commit()
		s.write(".git/index", "garbage that is long enough to be taken for an index")
		_, err := s.open().WorkTree(t.Context())
		wantError(t, err, ErrCorrupt)
	})
}

func objectFile(s *sandbox, id string) string {
	return filepath.Join(s.dir, ".git/objects", id[:2], id[2:])
}

func remove(t *testing.T, s *sandbox, id string) {
	t.Helper()
	if err := os.Remove(objectFile(s, id)); err != nil {
		t.Fatal(err)
	}
}

func TestResolveUnderstandsRevisions(t *testing.T) {
	s := setup(t)
	first := s.commit()
	s.write("a", "x")
	second := s.commit()
	s.git("tag", "-a", "v1", "-m", "release", first.String())
	s.git("branch", "feature/über")
	r := s.open()
	for rev, want := range map[string]name.Commit{
		"HEAD": second, "@": second, "main": second, "HEAD~1": first, "v1": first, "refs/tags/v1": first,
		"feature/über": second, first.String(): first, first.String()[:9]: first,
	} {
		if got, err := r.Resolve(t.Context(), rev); err != nil || got != want {
			t.Errorf("%s is %v, %v", rev, got, err)
		}
	}
	for _, rev := range []string{"", "-h", "--all", "HEAD\ncontents HEAD", "nope", "HEAD:a", strings.Repeat("x", 2000), "main\x00", strings.Repeat("0", 40)} {
		got, err := r.Resolve(t.Context(), rev)
		if err == nil {
			t.Errorf("%q resolved to %v", rev, got)
			continue
		}
		wantError(t, err, ErrUnknownRevision)
	}
	_, err := r.Resolve(t.Context(), "mian")
	wantError(t, err, ErrUnknownRevision, `did you mean "main"?`)

	// What is made after opening is found, too: a mirror is fetched into while it is open.
	third := s.commit()
	if got, err := r.Resolve(t.Context(), "main"); err != nil || got != third {
		t.Errorf("the new commit is %v, %v", got, err)
	}
}

func TestAnUnbornBranchHasNoCommitButAWorkingTree(t *testing.T) {
	s := setup(t)
	s.write("new.txt", "fresh\n")
	r := s.open()
	_, err := r.Resolve(t.Context(), "HEAD")
	wantError(t, err, ErrUnborn, "no commit yet")
	snap := s.worktree(r)
	e, ok := snap.Lookup("new.txt")
	if body, err := snap.Read(t.Context(), e); !ok || err != nil || string(body) != "fresh\n" {
		t.Errorf("new.txt reads as %q, %v", body, err)
	}
}

func TestMergeBaseIsFoundOrTheReasonGiven(t *testing.T) {
	s := setup(t)
	base := s.commit()
	s.git("checkout", "-q", "-b", "side")
	s.write("side", "1")
	side := s.commit()
	s.git("checkout", "-q", "main")
	s.write("main", "1")
	head := s.commit()
	s.git("checkout", "-q", "--orphan", "alone")
	alone := s.commit()
	s.git("checkout", "-q", "main")
	r := s.open()
	if got, err := r.MergeBase(t.Context(), head, side); err != nil || got != base {
		t.Errorf("merge base is %v, %v", got, err)
	}
	_, err := r.MergeBase(t.Context(), head, alone)
	wantError(t, err, ErrNoMergeBase)
	_, err = r.MergeBase(t.Context(), head, s.parse(strings.Repeat("1", 40)))
	wantError(t, err, ErrUnknownRevision)
	_, err = r.MergeBase(t.Context(), head, name.Commit{})
	wantError(t, err, ErrUnknownRevision)
	if shallow, err := r.Shallow(t.Context()); shallow || err != nil {
		t.Errorf("shallow: %v, %v", shallow, err)
	}

	clone := filepath.Join(filepath.Dir(s.dir), "shallow")
	s.git("clone", "-q", "--no-single-branch", "--depth=1", "file://"+s.dir, clone)
	sr := s.at(clone).open()
	if shallow, err := sr.Shallow(t.Context()); !shallow || err != nil {
		t.Errorf("shallow: %v, %v", shallow, err)
	}
	_, err = sr.MergeBase(t.Context(), head, side)
	wantError(t, err, ErrShallow, "git fetch --unshallow", "fetch depth of 0")
	_, err = sr.Resolve(t.Context(), base.String())
	wantError(t, err, ErrShallow)
	wantError(t, err, ErrUnknownRevision)
}

func TestAPartialCloneFetchesNothingBehindTheScenes(t *testing.T) {
	s := setup(t)
	s.git("config", "uploadpack.allowFilter", "true")
	s.write("a", "alpha\n")
	head := s.commit()
	clone := filepath.Join(filepath.Dir(s.dir), "partial")
	s.git("clone", "-q", "--no-checkout", "--filter=blob:none", "file://"+s.dir, clone)
	// Everything of the remote's that could run or answer would leave a trace or succeed.
	c := s.at(clone)
	c.git("config", "protocol.file.allow", "always")
	marker := filepath.Join(t.TempDir(), "ran")
	c.git("config", "remote.origin.uploadpack", ": >"+marker+"; git-upload-pack")
	r := c.open()
	snap := s.snapshot(r, head)
	e, ok := snap.Lookup("a")
	if !ok || e.Size != -1 {
		t.Fatalf("a is %+v, %v", e, ok)
	}
	_, err := snap.Read(t.Context(), e)
	wantError(t, err, ErrMissing, "--filter")
	if _, err := os.Stat(marker); err == nil {
		t.Error("the remote was asked")
	}
}

func TestARepositoryOfAnotherOwnerIsRead(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("only root can give a folder away")
	}
	s := setup(t)
	s.write("a", "x")
	head := s.commit()
	if err := filepath.Walk(s.dir, func(p string, _ os.FileInfo, err error) error {
		if err != nil {
			return err
		}
		return os.Lchown(p, 12345, 12345)
	}); err != nil {
		t.Fatal(err)
	}
	r := s.open()
	if got, err := r.Resolve(t.Context(), "HEAD"); err != nil || got != head {
		t.Errorf("HEAD is %v, %v", got, err)
	}
	if snap := s.worktree(r); paths(snap.Entries()) != "a" {
		t.Errorf("entries: %v", snap.Entries())
	}
}

func TestTheCallersEnvironmentHasNoSay(t *testing.T) {
	s := setup(t)
	s.write("a", "x")
	head := s.commit()
	for k, v := range map[string]string{
		"GIT_DIR": "/nowhere", "GIT_WORK_TREE": "/", "GIT_INDEX_FILE": "/nowhere", "GIT_OBJECT_DIRECTORY": "/nowhere",
		"GIT_CONFIG_COUNT": "1", "GIT_CONFIG_KEY_0": "core.bare", "GIT_CONFIG_VALUE_0": "true", "GIT_CONFIG_PARAMETERS": "'core.bare=true'",
		"GIT_NAMESPACE": "x", "GIT_TRACE": "/dev/stderr", "GIT_EXTERNAL_DIFF": "false",
	} {
		t.Setenv(k, v)
	}
	r := s.open()
	if got, err := r.Resolve(t.Context(), "HEAD"); err != nil || got != head {
		t.Errorf("HEAD is %v, %v", got, err)
	}
	if snap := s.worktree(r); paths(snap.Entries()) != "a" {
		t.Errorf("entries: %v", snap.Entries())
	}
}

func TestReplacedObjectsAreNotReplaced(t *testing.T) {
	s := setup(t)
	s.write("a", "true\n")
	head := s.commit()
	s.git("replace", s.git("rev-parse", "HEAD:a"), s.blob("false\n"))
	snap := s.snapshot(s.open(), head)
	e, _ := snap.Lookup("a")
	if body, err := snap.Read(t.Context(), e); err != nil || string(body) != "true\n" {
		t.Errorf("a reads as %q, %v", body, err)
	}
}

func TestSlowCommandsEndAtTheTimeLimit(t *testing.T) {
	s := setup(t)
	// A tree in which each of 40 levels holds the one below 8 times, and no file at all: git would walk it
	// for ever without a word.
	tree := s.rawTree()
	for range 40 {
		var nodes []node
		for _, n := range []string{"a", "b", "c", "d", "e", "f", "g", "h"} {
			nodes = append(nodes, node{"40000", n, tree})
		}
		tree = s.rawTree(nodes...)
	}
	head := s.commitTree(tree)
	r := s.openWith(Limits{Command: 300e6})
	_, err := r.Commit(t.Context(), head)
	wantError(t, err, ErrTimeLimit)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = r.Commit(ctx, head)
	wantError(t, err, context.Canceled)
}
