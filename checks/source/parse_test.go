package source

import (
	"encoding/hex"
	"io"
	"strings"
	"testing"
	"unicode/utf8"
)

const (
	id1 = "45b983be36b73c0788dc9cbcb76cbb80fc7bb057"
	id2 = "a9993e364706816aba3e25717850c26c9cd0d89da9993e364706816aba3e2571"
)

const debugLines = "  ctime: 1795578562:160695640\n  mtime: 1795578562:160695641\n  dev: 65024\tino: 9978721\n  uid: 0\tgid: 0\n  size: 3\tflags: 40000000\n"

func TestListingsOfGitAreParsed(t *testing.T) {
	var got []Entry
	err := parseTree(strings.NewReader("100644 blob "+id1+"       3\twe\nird\x00120000 blob "+id2+"     BAD\tl\x00160000 commit "+id1+"       -\tm\x00100755 blob "+id1+"\tx\ty\x00"),
		func(e Entry) error { got = append(got, e); return nil })
	want := []Entry{{Raw: "we\nird", Mode: Regular, Blob: id1, Size: 3}, {Raw: "l", Mode: Symlink, Blob: id2, Size: -1}, {Raw: "m", Mode: Submodule, Blob: id1, Size: -1}, {Raw: "x\ty", Mode: Executable, Blob: id1, Size: -1}}
	if err != nil || len(got) != len(want) {
		t.Fatalf("%+v, %v", got, err)
	}
	for i := range want {
		if got[i] != want[i] {
			t.Errorf("%+v, want %+v", got[i], want[i])
		}
	}
	var files []tracked
	err = parseIndex(strings.NewReader("100644 "+id1+" 0\ta b\x00"+debugLines+"100755 "+id2+" 2\tc\x00"+debugLines), func(t tracked) error { files = append(files, t); return nil })
	if err != nil || len(files) != 2 {
		t.Fatalf("%+v, %v", files, err)
	}
	if f := files[0]; f.Raw != "a b" || f.Mode != Regular || f.stage != '0' || f.flags != skipWorktree ||
		f.stat != (stat{instant{1795578562, 160695640}, instant{1795578562, 160695641}, 9978721, 3}) {
		t.Errorf("%+v", f)
	}
	if f := files[1]; f.Raw != "c" || f.Mode != Executable || f.stage != '2' || f.Blob != id2 {
		t.Errorf("%+v", f)
	}
}

func TestBrokenListingsAreErrors(t *testing.T) {
	for _, in := range []string{"x", "x\x00", "100644 blob " + id1 + " 3 path\x00", "100644 blob " + id1[:39] + " 3\tp\x00", "040000 tree " + id1 + " -\td\x00", "100644 blob " + id1 + "       3\tcut"} {
		if err := parseTree(strings.NewReader(in), func(Entry) error { return nil }); err == nil {
			t.Errorf("%q is a tree", in)
		}
	}
	for _, in := range []string{"x", "x\x00", "100644 " + id1 + " 0\ta\x00", "100644 " + id1 + " 0\ta\x00" + debugLines[:len(debugLines)-3], "100644 " + id1 + " 0\ta\x00" + strings.Replace(debugLines, "ino", "oni", 1), "100644 " + id1 + "\ta\x00" + debugLines} {
		if err := parseIndex(strings.NewReader(in), func(tracked) error { return nil }); err == nil {
			t.Errorf("%q is an index", in)
		}
	}
	for _, in := range []string{"100644 a\x00" + id1[:19], "100644\x00" + id1[:20], "100644 \x00" + id1[:20], "x a\x00" + id1[:20], "100644 a/b\x00" + id1[:20], "100644 a"} {
		if n, err := parseTreeObject([]byte(in), 20); err == nil {
			t.Errorf("%q is %+v", in, n)
		}
	}
	for _, in := range []string{"", id1, id1 + " blob", id1 + " blob x", id1 + " blob -1", "short blob 3", id1 + "  3"} {
		if o, err := parseAnswer(in); err == nil {
			t.Errorf("%q is %+v", in, o)
		}
	}
}

func TestARecordWithoutEndIsCutNotHeld(t *testing.T) {
	endless := io.LimitReader(strings.NewReader(strings.Repeat("a", 10<<20)+"\x00b\x00"), 11<<20)
	recs := newRecords(endless)
	first, err := recs.next(0)
	if err != nil || len(first) != recordBytes {
		t.Errorf("%d bytes, %v", len(first), err)
	}
	if second, err := recs.next(0); err != nil || second != "b" {
		t.Errorf("%q, %v", second, err)
	}
	if _, err := recs.next(0); err != io.EOF {
		t.Error(err)
	}
}

func TestVersionsOfGitAreUnderstood(t *testing.T) {
	for in, want := range map[string][2]int{"git version 2.39.5\n": {2, 39}, "git version 2.39.5 (Apple Git-154)": {2, 39}, "git version 2.47.1.windows.2": {2, 47}, "git version 3.0": {3, 0}} {
		if v, err := parseVersion(in); err != nil || v != want {
			t.Errorf("%q is %v, %v", in, v, err)
		}
	}
	for _, in := range []string{"", "git", "git version", "git version x.y", "svn version 2.39"} {
		if v, err := parseVersion(in); err == nil {
			t.Errorf("%q is %v", in, v)
		}
	}
}

func FuzzParseTree(f *testing.F) {
	f.Add([]byte("100644 blob " + id1 + "       3\tpath\x00160000 commit " + id1 + "       -\tm\x00"))
	f.Add([]byte("100644 blob " + id2 + "\t../x\x00"))
	f.Fuzz(func(t *testing.T, b []byte) {
		l := lister{limits: Limits{Files: 100}.filled()}
		if err := parseTree(strings.NewReader(string(b)), func(e Entry) error { return l.add(e, "") }); err != nil {
			return
		}
		list := l.done()
		seen := map[string]bool{}
		for _, e := range list.entries {
			if seen[e.Raw] || e.Mode == 0 || !isID(e.Blob) || !utf8.ValidString(e.Path) || len(e.Raw) > 4096 {
				t.Fatalf("%+v", e)
			}
			seen[e.Raw] = true
			for _, element := range strings.Split(e.Raw, "/") {
				if element == "" || element == "." || element == ".." || strings.EqualFold(element, ".git") {
					t.Fatalf("%q was let in", e.Raw)
				}
			}
		}
		for _, s := range list.skipped {
			if s.Reason == "" || !utf8.ValidString(s.Path) {
				t.Fatalf("%+v", s)
			}
		}
	})
}

func FuzzParseIndex(f *testing.F) {
	f.Add([]byte("100644 " + id1 + " 0\ta\x00" + debugLines))
	f.Add([]byte("120000 " + id2 + " 3\ta\nb\x00" + debugLines + debugLines))
	f.Fuzz(func(t *testing.T, b []byte) {
		_ = parseIndex(strings.NewReader(string(b)), func(e tracked) error {
			if !isID(e.Blob) || e.stage == 0 {
				t.Fatalf("%+v", e)
			}
			return nil
		})
	})
}

func FuzzParseTreeObject(f *testing.F) {
	f.Add([]byte("100644 a\x00aaaaaaaaaaaaaaaaaaaa40000 b\x00bbbbbbbbbbbbbbbbbbbb"), false)
	f.Add([]byte("120000 a\x00aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"), true)
	f.Fuzz(func(t *testing.T, b []byte, long bool) {
		n := 20
		if long {
			n = 32
		}
		nodes, err := parseTreeObject(b, n)
		if err != nil {
			return
		}
		// Each line takes its bytes: nothing is left over and nothing made up.
		rest := string(b)
		for _, one := range nodes {
			id, err := hex.DecodeString(one.id)
			_, after, ok := strings.Cut(rest, " "+one.name+"\x00"+string(id))
			if err != nil || len(id) != n || !ok || one.name == "" || strings.Contains(one.name, "/") || one.folder != (one.mode == 0) {
				t.Fatalf("%+v of %q", one, rest)
			}
			rest = after
		}
		if rest != "" {
			t.Fatalf("%q is left", rest)
		}
	})
}

func FuzzParseAnswer(f *testing.F) {
	f.Add(id1 + " blob 12")
	f.Add("HEAD missing")
	f.Fuzz(func(t *testing.T, s string) {
		if o, err := parseAnswer(s); err == nil && (!isID(o.id) || o.size < 0 || o.kind == "") {
			t.Fatalf("%+v", o)
		}
	})
}
