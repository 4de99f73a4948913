package name

import (
	"strings"
	"testing"
)

func TestCleanPathRefusesWhatLeavesTheRepository(t *testing.T) {
	for _, bad := range []string{"", "/etc/passwd", "..", "../x", "a/../../x", ".", "a/..", "a\x00b", strings.Repeat("a", MaxPath+1)} {
		if got, err := CleanPath(bad); err == nil {
			t.Errorf("CleanPath(%q) = %q, want an error", bad, got)
		}
	}
}

func TestCleanPathShowsWhatCannotBeSeen(t *testing.T) {
	for in, want := range map[string]string{
		"a/b.go":          "a/b.go",
		"./a//b.go":       "a/b.go",
		"a/../b":          "b",
		"über/日本.txt":     "über/日本.txt",
		"a\xffb":          `a\xffb`,
		"a\nb":            `a\x0ab`,
		"safe\u202egpj.x": `safe\xe2\x80\xaegpj.x`,
	} {
		if got, err := CleanPath(in); err != nil || got != want {
			t.Errorf("CleanPath(%q) = %q, %v; want %q", in, got, err, want)
		}
	}
}

func TestParseAccount(t *testing.T) {
	for _, ok := range []string{"local", "deployment", "1", "583231"} {
		if a, err := ParseAccount(ok); err != nil || a.String() != ok {
			t.Errorf("ParseAccount(%q) = %v, %v", ok, a, err)
		}
	}
	for _, bad := range []string{"", "0", "01", "-1", "1 OR 1=1", "octo-org", "Deployment", "deployment ", "12345678901234567890", "１"} {
		if a, err := ParseAccount(bad); err == nil {
			t.Errorf("ParseAccount(%q) = %v, want an error", bad, a)
		}
	}
}

func TestParseCommitWantsAFullLowerCaseObjectID(t *testing.T) {
	sha1, sha256 := strings.Repeat("0a", 20), strings.Repeat("0b", 32)
	for _, ok := range []string{sha1, sha256} {
		if _, err := ParseCommit(ok); err != nil {
			t.Error(err)
		}
	}
	for _, bad := range []string{"", "HEAD", sha1[:39], strings.ToUpper(sha1), sha1 + "0", "--exec=x"} {
		if _, err := ParseCommit(bad); err == nil {
			t.Errorf("ParseCommit(%q) was accepted", bad)
		}
	}
}

func FuzzCleanPath(f *testing.F) {
	f.Add("a/../b\xff")
	f.Fuzz(func(t *testing.T, s string) {
		p, err := CleanPath(s)
		if err != nil {
			return
		}
		if strings.HasPrefix(p, "/") || p == ".." || strings.HasPrefix(p, "../") || strings.ContainsAny(p, "\x00\n\x1b") {
			t.Errorf("CleanPath(%q) = %q", s, p)
		}
	})
}
