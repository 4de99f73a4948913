package source

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strings"
	"testing"

	"github.com/noxaudit/noxaudit/internal/name"
)

// A repository's own configuration, hooks and attributes name programs for every occasion there is. Each
// would leave its name in a folder, by means of the shell alone: they are started with a PATH that leads nowhere.
func TestNothingThatARepositoryNamesIsEverRun(t *testing.T) {
	s := setup(t)
	s.write("a.txt", "alpha\n")
	s.write("b.txt", "beta\n")
	s.write("big.bin", strings.Repeat("x", 100))
	base := s.commit()
	s.write("a.txt", "alpha changed\n")
	s.git("mv", "b.txt", "c.txt")
	head := s.commit()
	s.write("a.txt", "alpha changed on disk\n")
	s.write("untracked.txt", "new\n")

	ran := t.TempDir()
	evil := filepath.Join(t.TempDir(), "evil")
	if err := os.WriteFile(evil, []byte("#!/bin/sh\n: >\""+ran+"/evil-$1\"\ncat\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	traps := map[string]string{
		"core.fsmonitor":                       evil + " fsmonitor",
		"core.hooksPath":                       filepath.Dir(evil),
		"core.sshCommand":                      evil + " ssh",
		"core.gitProxy":                        evil,
		"core.askPass":                         evil,
		"core.editor":                          evil + " editor",
		"core.pager":                           evil + " pager",
		"core.alternateRefsCommand":            evil + " refs",
		"core.attributesFile":                  filepath.Join(s.dir, ".gitattributes"),
		"core.untrackedCache":                  "true",
		"core.splitIndex":                      "true",
		"pager.ls-files":                       evil + " pager",
		"pager.diff-tree":                      evil + " pager",
		"pager.config":                         evil + " pager",
		"filter.evil.clean":                    evil + " clean",
		"filter.evil.smudge":                   evil + " smudge",
		"filter.evil.process":                  evil + " process",
		"filter.evil.required":                 "true",
		"diff.external":                        evil + " external",
		"diff.evil.command":                    evil + " command",
		"diff.evil.textconv":                   evil + " textconv",
		"diff.orderFile":                       "/nowhere",
		"diff.trustExitCode":                   "true",
		"merge.evil.driver":                    evil + " merge",
		"gpg.program":                          evil,
		"log.showSignature":                    "true",
		"credential.helper":                    "!" + evil + " credential",
		"protocol.allow":                       "always",
		"protocol.ext.allow":                   "always",
		"extensions.partialClone":              "origin",
		"remote.origin.promisor":               "true",
		"remote.origin.url":                    "ext::" + evil + " ext",
		"remote.origin.uploadpack":             evil + " uploadpack",
		"remote.other.promisor":                "true",
		"remote.other.url":                     "ssh://example.invalid/x",
		"remote.other.vcs":                     "evil",
		"alias.ls-tree":                        "!" + evil + " alias",
		"alias.cat-file":                       "!" + evil + " alias",
		"alias.ls-files":                       "!" + evil + " alias",
		"alias.version":                        "!" + evil + " alias",
		"submodule.recurse":                    "true",
		"core.worktree":                        "/",
		"include.path":                         "evil-include",
		"sequence.editor":                      evil,
		"uploadpack.packObjectsHook":           evil,
		"trace2.eventTarget":                   filepath.Join(ran, "trace"),
		"maintenance.auto":                     "true",
		"interactive.diffFilter":               evil + " filter",
		"receive.procReceiveRefs":              "refs",
		"index.recordEndOfIndexEntries":        "true",
		"core.excludesFile":                    "/etc/passwd",
		"core.fsyncMethod":                     "batch",
		"core.commitGraph":                     "true",
		"tar.tar.command":                      evil + " tar",
		"url." + "ext::" + evil + ".insteadOf": "https://",
	}
	for k, v := range traps {
		s.git("config", "-f", ".git/config", k, v)
	}
	s.write(".git/evil-include", "[core]\n\tfsmonitor = "+evil+" included\n")
	s.write(".git/info/attributes", "* filter=evil diff=evil merge=evil text eol=crlf working-tree-encoding=UTF-16 ident\n")
	s.write(".gitattributes", "* filter=evil diff=evil merge=evil\n")
	for _, hook := range []string{"fsmonitor-watchman", "query-watchman", "post-checkout", "post-index-change", "reference-transaction", "pre-auto-gc", "post-rewrite", "pre-commit"} {
		for _, dir := range []string{filepath.Join(s.dir, ".git/hooks"), filepath.Dir(evil)} {
			_ = os.MkdirAll(dir, 0o755)
			if err := os.WriteFile(filepath.Join(dir, hook), []byte("#!/bin/sh\n: >"+ran+"/hook-"+hook+"\n"), 0o755); err != nil {
				t.Fatal(err)
			}
		}
	}
	// Programs beside the checkout and in it, should anything look for one by name.
	for _, n := range []string{"git", "git-remote-ext", "git-remote-evil", "ssh", "sh", "less", "git-ls-tree"} {
		s.write(n, "#!/bin/sh\n: >"+ran+"/found-"+n+"\n")
		if err := os.Chmod(filepath.Join(s.dir, n), 0o755); err != nil {
			t.Fatal(err)
		}
	}

	r := s.open()
	from, to := s.snapshot(r, base), s.snapshot(r, head)
	work := s.worktree(r)
	for _, snap := range []*Snapshot{from, to, work} {
		for _, e := range snap.Entries() {
			if _, err := snap.Read(t.Context(), e); err != nil {
				t.Errorf("%s: %v", e.Path, err)
			}
		}
	}
	if _, err := work.Diff(t.Context(), to); err != nil {
		t.Error(err)
	}
	if c, err := r.Changes(t.Context(), base, head); err != nil || len(c) != 3 {
		t.Errorf("%v, %v", c, err)
	}
	if err := work.Export(t.Context(), t.TempDir()); err != nil {
		t.Error(err)
	}
	if _, err := r.MergeBase(t.Context(), base, head); err != nil {
		t.Error(err)
	}
	if _, err := r.Resolve(t.Context(), "mian"); !errors.Is(err, ErrUnknownRevision) {
		t.Error(err)
	}
	if _, err := r.Resolve(t.Context(), strings.Repeat("1", 40)); !errors.Is(err, ErrUnknownRevision) {
		t.Error(err) // asks for an object that a promisor could have
	}
	// A missing object is what git would fetch behind the scenes.
	lost := s.commitTree(s.rawTree(node{"100644", "lost", strings.Repeat("2", 40)}))
	if snap, err := r.Commit(t.Context(), lost); err == nil {
		e, _ := snap.Lookup("lost")
		_, err = snap.Read(t.Context(), e)
		wantError(t, err, ErrMissing)
	}
	left, err := os.ReadDir(ran)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range left {
		t.Errorf("ran: %s", e.Name())
	}
	// The traps work: git without our care falls into them.
	careless := exec.Command("git", "--git-dir=.git", "--work-tree=.", "status", "--short")
	careless.Dir = s.dir
	_ = careless.Run()
	if left, _ := os.ReadDir(ran); len(left) == 0 {
		t.Error("the traps were never armed")
	}
}

func TestHostileNamesAreKeptOutWithTheReason(t *testing.T) {
	formats(t, func(t *testing.T, format string) {
		s := setup(t, "--object-format="+format)
		blob := s.blob("x")
		file := func(n string) node { return node{"100644", n, blob} }
		folder := func(n string, in ...node) node { return node{"40000", n, s.rawTree(in...)} }
		tree := s.rawTree(
			folder("..", file("passwd")),
			folder(".", file("here")),
			folder(".GIT", file("config")),
			folder(".git", file("config"), folder("hooks", node{"100755", "pre-commit", blob})),
			file(".git."),
			file(".git "),
			file(".git::$INDEX_ALLOCATION"),
			file(".g\u200cit"),
			file(`..\.git\config`),
			file("/etc"),
			file("../up"),
			file("GIT~1"),
			file("fine"),
			file("git-notes"),
			file(".gitignore"),
			file(".github"),
			file("new\nline"),
			node{"100644", "twice", blob},
			node{"100644", "twice", s.blob("y")},
			file("\xff\xfe"),
			node{"100664", "old-mode", blob},
			node{"060000", "device", blob},
		)
		snap := s.snapshot(s.open(), s.commitTree(tree))
		if got, want := paths(snap.Entries()), `.github .gitignore \xff\xfe device fine git-notes new\x0aline old-mode twice`; got != want {
			t.Errorf("entries are\n%s\nwant\n%s", got, want)
		}
		got := reasons(snap.Skipped())
		for _, want := range []string{
			`../passwd: path leaves its folder: it has a ".." element`,
			`./here: path leaves its folder: it has a "." element`,
			"../up: path leaves its folder",
			"/etc: path is absolute",
			".GIT/config: path goes into git's own folder",
			".git/config: path goes into git's own folder",
			".git/hooks/pre-commit: path goes into git's own folder",
			".git.: path goes into git's own folder",
			".git : path goes into git's own folder",
			".git::$INDEX_ALLOCATION: path goes into git's own folder",
			`.g\u200cit: path goes into git's own folder`,
			`..\\.git\\config: path goes into git's own folder`,
			"GIT~1: path goes into git's own folder",
			"twice: listed twice in its tree",
		} {
			if !strings.Contains(got, want) {
				t.Errorf("skipped lacks %q:\n%s", want, got)
			}
		}
		if n := len(snap.Skipped()); n != 14 {
			t.Errorf("%d are skipped:\n%s", n, got)
		}
		dir := t.TempDir()
		if err := snap.Export(t.Context(), filepath.Join(dir)); err != nil {
			t.Error(err)
		}
		if left, _ := os.ReadDir(dir); len(left) != 8 {
			t.Errorf("exported %v", left)
		}
	})
}

func TestVeryDeepTreesAreListedAndKeptOut(t *testing.T) {
	s := setup(t)
	blob := s.blob("x")
	var b strings.Builder
	b.WriteString("commit refs/heads/main\ncommitter A <a@example.org> 1700000000 +0000\ndata 1\nx\n")
	for _, depth := range []int{10, 64, 65, 1000, 5000} {
		fmt.Fprintf(&b, "M 100644 %s %sf%d\n", blob, strings.Repeat("d/", depth-1), depth)
	}
	s.pipe(b.String(), "fast-import", "--quiet")
	snap := s.snapshot(s.open(), s.parse(s.git("rev-parse", "main")))
	if n := len(snap.Entries()); n != 2 {
		t.Errorf("%d entries", n)
	}
	got := reasons(snap.Skipped())
	if strings.Count(got, "deeper than 64 folders") != 2 || !strings.Contains(got, "/d/f5000: path is longer than 4096 bytes") {
		t.Errorf("skipped:\n%s", got)
	}
}

func TestNamesThatFoldTogetherAreBothListedAndNoted(t *testing.T) {
	s := setup(t)
	a, b := s.blob("a"), s.blob("b")
	// A tree is sorted by bytes.
	tree := s.rawTree(node{"100644", "\x01", b}, node{"100644", "README", a}, node{"100644", `\x01`, a}, node{"100644", "readme", b})
	snap := s.snapshot(s.open(), s.commitTree(tree))
	if got := paths(snap.Entries()); got != `README \x01 \x01 readme` {
		t.Errorf("entries are %q", got)
	}
	want := "\\x01: another file's name looks the same when its unprintable bytes are written out\nreadme: name differs only in case from README"
	if got := reasons(snap.Notes()); got != want {
		t.Errorf("notes:\n%s", got)
	}
	if len(snap.Skipped()) != 0 {
		t.Errorf("skipped:\n%s", reasons(snap.Skipped()))
	}
	for i, want := range []string{"a", "b", "a", "b"} {
		if body, err := snap.Read(t.Context(), snap.Entries()[i]); err != nil || string(body) != want {
			t.Errorf("%q reads as %q, %v", snap.Entries()[i].Raw, body, err)
		}
	}
}

func TestTooManyFilesAreRefusedBeforeTheyAreCounted(t *testing.T) {
	s := setup(t)
	// 8^8 files in nine small trees.
	tree := s.rawTree(node{"100644", "f", s.blob("x")})
	for range 8 {
		var nodes []node
		for _, n := range []string{"a", "b", "c", "d", "e", "f", "g", "h"} {
			nodes = append(nodes, node{"40000", n, tree})
		}
		tree = s.rawTree(nodes...)
	}
	head := s.commitTree(tree)
	r := s.openWith(Limits{Files: 5000})
	_, err := r.Commit(t.Context(), head)
	wantError(t, err, ErrTooLarge, "repository has more than 5000 files: not assessed")
	var large *TooLargeError
	if !errors.As(err, &large) || large.Limit != 5000 || large.Path != "" {
		t.Errorf("%#v", large)
	}
	_, err = r.Changes(t.Context(), s.commitTree(s.rawTree()), head)
	wantError(t, err, ErrTooLarge)
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	for i := range 11 {
		s.write(fmt.Sprintf("f%d", i), "x")
	}
	r = s.openWith(Limits{Files: 10})
	_, err = r.WorkTree(t.Context())
	wantError(t, err, ErrTooLarge, "10 files")
	s.commit()
	_, err = r.WorkTree(t.Context())
	wantError(t, err, ErrTooLarge, "10 files")
}

func TestFilesOverTheLimitAreSkippedAndTheirTotalRefused(t *testing.T) {
	s := setup(t)
	s.write("small", strings.Repeat("a", 1000))
	s.write("large", strings.Repeat("b", 1025))
	head := s.commit()
	r := s.openWith(Limits{BlobBytes: 1 << 10})
	before := s.worktree(r)
	s.write("untracked", strings.Repeat("c", 1025))
	if s.worktree(r).ID() == before.ID() {
		t.Error("one more skipped file leaves the id as it was")
	}
	for _, snap := range []*Snapshot{s.snapshot(r, head), s.worktree(r)} {
		if got := paths(snap.Entries()); got != "small" {
			t.Errorf("entries are %q", got)
		}
		if got := reasons(snap.Skipped()); !strings.Contains(got, "large: larger than 1 KiB") {
			t.Errorf("skipped:\n%s", got)
		}
	}
	_, err := s.openWith(Limits{TotalBytes: 2000}).Commit(t.Context(), head)
	wantError(t, err, ErrTooLarge, "2000 bytes")
}

func TestAHugeBlobCostsNoMemory(t *testing.T) {
	s := setup(t)
	huge := s.pipe(strings.Repeat("0123456789abcdef", 100<<20/16), "hash-object", "-w", "--stdin")
	tree := s.rawTree(node{"100644", "huge", huge}, node{"100644", "small", s.blob("x")})
	r := s.open()
	snap := s.snapshot(r, s.commitTree(tree))
	if got := reasons(snap.Skipped()); got != "huge: larger than 5 MiB" {
		t.Errorf("skipped: %s", got)
	}
	runtime.GC()
	debug.FreeOSMemory()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for _, e := range []Entry{{Path: "huge", Blob: huge, Mode: Regular, Size: 100 << 20}, {Path: "huge", Blob: huge, Mode: Regular, Size: -1}, {Path: "huge", Blob: huge, Mode: Regular, Size: 1}} {
		_, err := snap.Read(t.Context(), e)
		wantError(t, err, ErrTooLarge, "huge is larger than 5 MiB")
		var large *TooLargeError
		if errors.As(err, &large); large.Size != 100<<20 {
			t.Errorf("size is %d", large.Size)
		}
	}
	runtime.ReadMemStats(&after)
	if used := after.TotalAlloc - before.TotalAlloc; used > 4<<20 {
		t.Errorf("%d bytes were allocated", used)
	}
	e, _ := snap.Lookup("small")
	if body, err := snap.Read(t.Context(), e); err != nil || string(body) != "x" {
		t.Errorf("after that, small reads as %q, %v", body, err)
	}
}

func TestWhatIsNoBlobIsNotReadAsOne(t *testing.T) {
	s := setup(t)
	s.write("a", "x")
	head := s.commit()
	r := s.open()
	snap := s.snapshot(r, head)
	for _, c := range []struct {
		entry Entry
		kind  error
	}{
		{Entry{Path: "tree", Blob: snap.ID(), Mode: Regular, Size: -1}, ErrCorrupt},
		{Entry{Path: "tree", Blob: snap.ID(), Mode: Regular, Size: 3}, ErrCorrupt},
		{Entry{Path: "module", Blob: head.String(), Mode: Submodule}, ErrNotFile},
		{Entry{Path: "name", Blob: "HEAD", Mode: Regular}, ErrNotFile},
		{Entry{Path: "two", Blob: snap.Entries()[0].Blob + "\ninfo HEAD", Mode: Regular}, ErrNotFile},
		{Entry{Path: "gone", Blob: strings.Repeat("0", 40), Mode: Regular}, ErrMissing},
	} {
		body, err := snap.Read(t.Context(), c.entry)
		if !errors.Is(err, c.kind) || body != nil {
			t.Errorf("%s: %v, want %v", c.entry.Path, err, c.kind)
		}
	}
	if body, err := snap.Read(t.Context(), snap.Entries()[0]); err != nil || !bytes.Equal(body, []byte("x")) {
		t.Errorf("after that, a reads as %q, %v", body, err)
	}
}

func TestSubmodulesAndLinksAreEntriesWithoutContent(t *testing.T) {
	s := setup(t)
	inner := s.at(filepath.Join(s.dir, "inner"))
	if err := os.Mkdir(inner.dir, 0o755); err != nil {
		t.Fatal(err)
	}
	inner.git("init", "-q", "-b", "main")
	inner.write("secret", "x")
	id := inner.commit()
	s.git("add", "inner")
	head := s.commit()
	s.write("other/x", "1")
	nested := s.at(filepath.Join(s.dir, "other"))
	nested.git("init", "-q", "-b", "main")
	nested.commit()
	r := s.open()
	for _, snap := range []*Snapshot{s.snapshot(r, head), s.worktree(r)} {
		e, ok := snap.Lookup("inner")
		if !ok || e.Mode != Submodule || e.Blob != id.String() || len(snap.Entries()) != 1 {
			t.Errorf("entries: %+v", snap.Entries())
		}
	}
	if got := reasons(s.worktree(r).Skipped()); got != "other/: another git repository that lies in this one" {
		t.Errorf("skipped: %s", got)
	}
}

func TestErrorsShowNoControlCharacters(t *testing.T) {
	s := setup(t)
	s.commit()
	r := s.open()
	_, err := r.Resolve(t.Context(), "x\x1b[2J\u202e")
	if err == nil || strings.ContainsFunc(err.Error(), func(c rune) bool { return c < ' ' || c == 0x202e }) {
		t.Errorf("%q", err)
	}
	if _, err := r.Commit(t.Context(), name.Commit{}); !errors.Is(err, ErrUnknownRevision) {
		t.Error(err)
	}
}
