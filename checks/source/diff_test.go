package source

import (
	"fmt"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/noxaudit/noxaudit/internal/name"
	"pgregory.net/rapid"
)

func told(changes []Change) string {
	var out []string
	for _, c := range changes {
		switch {
		case c.From == nil && c.RenamedFrom != "":
			out = append(out, fmt.Sprintf("+%s(%s)", c.Path, c.RenamedFrom))
		case c.From == nil:
			out = append(out, "+"+c.Path)
		case c.To == nil:
			out = append(out, "-"+c.Path)
		default:
			out = append(out, c.Path)
		}
	}
	return strings.Join(out, " ")
}

// both asks for the difference in both ways, which must agree.
func both(t testing.TB, r *Repository, base, head name.Commit) []Change {
	t.Helper()
	from, err := r.Commit(t.Context(), base)
	if err != nil {
		t.Fatal(err)
	}
	to, err := r.Commit(t.Context(), head)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range []*Snapshot{from, to} { // one of them was made out of another listing, where it could be
		full, err := r.list(t.Context(), s.id)
		if err != nil {
			t.Fatal(err)
		}
		for what, pair := range map[string][2]any{
			"entries": {full.entries, s.entries}, "skipped": {full.skipped, s.skipped}, "notes": {full.notes, s.notes}, "twice": {full.twice, s.twice},
		} {
			if d := cmp.Diff(pair[0], pair[1], cmpopts.EquateEmpty()); d != "" {
				t.Fatalf("%s of the derived listing differ (-listed +derived):\n%s", what, d)
			}
		}
	}
	listed, err := to.Diff(t.Context(), from)
	if err != nil {
		t.Fatal(err)
	}
	walked, err := r.Changes(t.Context(), base, head)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(listed, walked); d != "" {
		t.Fatalf("the listings and the trees differ in other ways (-listings +trees):\n%s", d)
	}
	return listed
}

func TestDiffTellsWhatBecameOfTheBase(t *testing.T) {
	s := setup(t)
	long := func(c string) string { return strings.Repeat(c, 100) + "\n" }
	for p, c := range map[string]string{"same": "1", "changed": "2", "deleted": "3", "mode": "4", "old/name.go": long("a"), "x/one": long("b"), "y/two": long("b"), "empty": "", "d/f": "5", "moved-and-changed": long("c")} {
		s.write(p, c)
	}
	base := s.commit()
	for _, p := range []string{"deleted", "old/name.go", "x/one", "y/two", "empty", "d", "moved-and-changed"} {
		_ = os.RemoveAll(filepath.Join(s.dir, p))
	}
	s.write("changed", "22")
	_ = os.Chmod(filepath.Join(s.dir, "mode"), 0o755)
	s.write("new/name.go", long("a"))
	s.write("copy-of-same", "1")
	s.write("z/two", long("b")) // the same name as y/two, and so from there
	s.write("a/third", long("b"))
	s.write("also-empty", "")
	s.write("d", "a file")
	s.write("moved", long("c")+"!")
	head := s.commit()
	r := s.open()
	got := told(both(t, r, base, head))
	want := "+a/third(x/one) +also-empty changed +copy-of-same +d -d/f -deleted -empty mode +moved -moved-and-changed +new/name.go(old/name.go) -old/name.go -x/one -y/two +z/two(y/two)"
	if got != want {
		t.Errorf("changes are\n%s\nwant\n%s", got, want)
	}
	snap := s.snapshot(r, head)
	if c, err := snap.Diff(t.Context(), nil); err != nil || len(c) != len(snap.Entries()) || c[0].From != nil {
		t.Errorf("against nothing: %v, %v", told(c), err)
	}
	if c, err := snap.Diff(t.Context(), snap); err != nil || len(c) != 0 {
		t.Errorf("against itself: %v, %v", told(c), err)
	}
}

func TestManyEqualFilesMoveInLinearTime(t *testing.T) {
	var changes []Change
	id := strings.Repeat("a", 40)
	for i := range 200_000 {
		e := &Entry{Path: fmt.Sprintf("f%d", i), Mode: Regular, Blob: id, Size: 1}
		e.Raw = e.Path
		if i%2 == 0 {
			changes = append(changes, Change{Path: e.Path, From: e})
		} else {
			changes = append(changes, Change{Path: e.Path, To: e})
		}
	}
	from := map[string]bool{}
	for _, c := range renames(changes) {
		if c.To != nil {
			if c.RenamedFrom == "" || from[c.RenamedFrom] {
				t.Fatalf("%s comes from %q", c.Path, c.RenamedFrom)
			}
			from[c.RenamedFrom] = true
		}
	}
}

func TestAFileThatOutgrowsTheLimitIsDeletedAndSkipped(t *testing.T) {
	s := setup(t)
	s.write("f", "small")
	base := s.commit()
	s.write("f", strings.Repeat("x", 2000))
	head := s.commit()
	r := s.openWith(Limits{BlobBytes: 1000})
	if got := told(both(t, r, base, head)); got != "-f" {
		t.Errorf("changes are %s", got)
	}
	if got := told(both(t, r, head, base)); got != "+f" {
		t.Errorf("changes are %s", got)
	}
}

func TestDiffOfHostileTreesAgreesWithTheirListings(t *testing.T) {
	s := setup(t)
	x, y := s.blob("x"), s.blob("y")
	inner := s.rawTree(node{"100644", "in", x})
	other := s.rawTree(node{"100644", "in", y})
	var commits []name.Commit
	for _, nodes := range [][]node{
		{},
		{{"100644", "twice", x}, {"100644", "twice", y}},
		{{"100644", "twice", y}, {"100644", "twice", x}},
		{{"40000", "twice", inner}, {"40000", "twice", other}},
		{{"100644", "twice", x}, {"40000", "twice", inner}},
		{{"40000", "..", inner}, {"100644", "a", x}},
		{{"40000", "..", other}, {"100664", "a", x}},
		{{"060000", "a", x}, {"100644", ".git", x}},
		{{"160000", "a", x}, {"100755", "b", x}},
	} {
		commits = append(commits, s.commitTree(s.rawTree(nodes...)))
	}
	r := s.open()
	for _, base := range commits {
		for _, head := range commits {
			applies(t, both(t, r, base, head), s.snapshot(r, base), s.snapshot(r, head))
		}
	}
}

// applies holds the law of Diff: its changes turn the entries of base into those of head.
func applies(t rapid.TB, changes []Change, base, head *Snapshot) {
	t.Helper()
	have := map[string]Entry{}
	for _, e := range base.Entries() {
		have[e.Raw] = e
	}
	for _, c := range changes {
		if c.From != nil {
			if have[c.From.Raw] != *c.From {
				t.Fatalf("%s comes from what is not there", c.Path)
			}
			delete(have, c.From.Raw)
		}
	}
	for _, c := range changes {
		if c.To != nil {
			have[c.To.Raw] = *c.To
		}
	}
	got := slices.SortedFunc(maps.Values(have), compareEntries)
	if d := cmp.Diff(append([]Entry{}, head.Entries()...), append([]Entry{}, got...)); d != "" {
		t.Fatalf("the changes do not make the head:\n%s", d)
	}
}

type file struct{ mode, body string }

// drawTree makes up files whose names meet often, also in case and as folders.
func drawTree(t *rapid.T, label string) map[string]file {
	element := rapid.SampledFrom([]string{"a", "A", "b.go", "c-d", "e\xff", `\xff`, "ü", "f "})
	tree := map[string]file{}
	for range rapid.IntRange(0, 12).Draw(t, label) {
		p := strings.Join(rapid.SliceOfN(element, 1, 3).Draw(t, "path"), "/")
		clash := false
		for q := range tree {
			clash = clash || strings.HasPrefix(q+"/", p+"/") || strings.HasPrefix(p+"/", q+"/")
		}
		if !clash {
			tree[p] = file{rapid.SampledFrom([]string{"100644", "100755", "120000"}).Draw(t, "mode"), rapid.SampledFrom([]string{"one", "two\n", "three"}).Draw(t, "body")}
		}
	}
	return tree
}

func TestDiffAppliedToTheBaseGivesTheHead(t *testing.T) {
	for _, format := range []string{"sha1", "sha256"} {
		t.Run(format, func(t *testing.T) {
			s := setup(t, "--object-format="+format)
			r := s.open()
			rapid.Check(t, func(rt *rapid.T) {
				trees := [2]map[string]file{drawTree(rt, "base"), drawTree(rt, "head")}
				var b strings.Builder
				for i, tree := range trees {
					fmt.Fprintf(&b, "commit refs/heads/t%d\ncommitter A <a@example.org> 1700000000 +0000\ndata 0\ndeleteall\n", i)
					for _, p := range slices.Sorted(maps.Keys(tree)) {
						quoted := fmt.Sprintf(`"%s"`, strings.ReplaceAll(p, `\`, `\\`))
						fmt.Fprintf(&b, "M %s inline %s\ndata %d\n%s\n", tree[p].mode, quoted, len(tree[p].body), tree[p].body)
					}
				}
				s.pipe(b.String(), "fast-import", "--quiet", "--force")
				ids := strings.Fields(s.git("rev-parse", "t0", "t1"))
				base, head := s.parse(ids[0]), s.parse(ids[1])
				from, to := s.snapshot(r, base), s.snapshot(r, head)
				if len(to.Entries()) != len(trees[1]) {
					rt.Fatalf("%d entries of %d", len(to.Entries()), len(trees[1]))
				}
				for _, e := range to.Entries() {
					body, err := to.Read(t.Context(), e)
					if err != nil || string(body) != trees[1][e.Raw].body {
						rt.Fatalf("%s reads as %q, %v", e.Path, body, err)
					}
				}
				applies(rt, both(t, r, base, head), from, to)

				s.git("checkout", "-q", "-f", "t1")
				s.git("clean", "-q", "-f", "-d", "-x")
				work := s.worktree(r)
				if d := cmp.Diff(to.Entries(), work.Entries()); d != "" {
					rt.Fatalf("a clean checkout differs from its commit:\n%s", d)
				}
				changes, err := work.Diff(t.Context(), from)
				if err != nil {
					rt.Fatal(err)
				}
				applies(rt, changes, from, work)
			})
		})
	}
}

func TestExportWritesFilesAndNothingElse(t *testing.T) {
	s := setup(t)
	s.write("a.txt", "alpha")
	s.write("d/e/run", "#!/bin/sh\n")
	s.write("large", strings.Repeat("x", 2000))
	_ = os.Chmod(filepath.Join(s.dir, "d/e/run"), 0o755)
	_ = os.Symlink("/etc/passwd", filepath.Join(s.dir, "link"))
	head := s.commit()
	s.write("untracked", "u")
	r := s.openWith(Limits{BlobBytes: 1000})
	for _, c := range []struct {
		snap *Snapshot
		want string
	}{{s.snapshot(r, head), "a.txt d/e/run"}, {s.worktree(r), "a.txt d/e/run untracked"}} {
		dir := t.TempDir()
		if err := c.snap.Export(t.Context(), dir); err != nil {
			t.Fatal(err)
		}
		var got []string
		_ = filepath.Walk(dir, func(p string, fi os.FileInfo, err error) error {
			if err == nil && !fi.IsDir() {
				rel, _ := filepath.Rel(dir, p)
				got = append(got, filepath.ToSlash(rel))
				if fi.Mode().Perm()&0o100 != 0 != (path.Base(rel) == "run") || !fi.Mode().IsRegular() {
					t.Errorf("%s is %v", rel, fi.Mode())
				}
			}
			return err
		})
		if strings.Join(got, " ") != c.want {
			t.Errorf("exported %v", got)
		}
		if err := c.snap.Export(t.Context(), dir); err == nil || !strings.Contains(err.Error(), "not empty") {
			t.Errorf("a second export: %v", err)
		}
	}
}

func TestExportWritesNoFileOverAnother(t *testing.T) {
	s := setup(t)
	head := s.commitTree(s.rawTree(node{"100644", "a", s.blob("x")}, node{"40000", "b", s.rawTree(node{"100644", "in", s.blob("y")})}))
	snap := s.snapshot(s.open(), head)
	// What a file system that folds case would do: the second name is the first one's file.
	dir := t.TempDir()
	root, err := os.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	folders := map[string]bool{".": true}
	e, _ := snap.Lookup("a")
	if err := write(root, e, []byte("first"), folders); err != nil {
		t.Fatal(err)
	}
	if err := write(root, e, []byte("second"), folders); err != errTaken {
		t.Errorf("a second time: %v", err)
	}
	if err := write(root, Entry{Raw: "a/b/c", Mode: Regular}, nil, folders); err != errTaken {
		t.Errorf("a folder where a file is: %v", err)
	}
	_ = os.Symlink(t.TempDir(), filepath.Join(dir, "out"))
	if err := write(root, Entry{Raw: "out/x", Mode: Regular}, nil, folders); err == nil {
		t.Error("wrote through a link that leads outside")
	}
	if b, _ := os.ReadFile(filepath.Join(dir, "a")); string(b) != "first" {
		t.Errorf("a holds %q", b)
	}
	err = &ExportError{Paths: []string{"A", "B", "C", "D", "E", "F"}}
	if got := err.Error(); got != "export: 6 files not written, another file has their name here: A, B, C, D, E, …" {
		t.Error(got)
	}
}
