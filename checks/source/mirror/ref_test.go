package mirror

import (
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/noxaudit/noxaudit/internal/name"
	"pgregory.net/rapid"
)

// What git itself refuses is refused here, so no name reaches git that means something else to it.
func TestRefsAreAcceptedOnlyIfGitAcceptsThem(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		parts := rapid.SliceOfN(rapid.StringOfN(rapid.SampledFrom([]rune("ab.-@{}/~^:?*[\\ \n\x7féü+lock")), 0, 6, -1), 1, 3).Draw(t, "parts")
		ref := "refs/heads/" + strings.Join(parts, rapid.SampledFrom([]string{"/", ".lock", "..", "@{", ""}).Draw(t, "glue"))
		accepted := exec.Command("git", "check-ref-format", ref).Run() == nil
		if ours := checkRef(ref) == nil; ours != accepted {
			t.Fatalf("%q: accepted %v, git says %v", ref, ours, accepted)
		}
	})
}

func FuzzCheckRef(f *testing.F) {
	for _, s := range []string{"refs/heads/main", "refs/heads/a:b", "+refs/heads/main", "--upload-pack=x", "refs/heads/a\nb", strings.Repeat("a", 40)} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, ref string) {
		if checkRef(ref) != nil {
			return
		}
		if strings.ContainsAny(ref, " \t\r\n\x00:*?[^~\\\x7f") || !strings.HasPrefix(ref, "refs/") && !name.IsObjectID(ref) {
			t.Errorf("%q was accepted", ref)
		}
		if !isKey(keyOf(ref)) {
			t.Errorf("%q has the key %q", ref, keyOf(ref))
		}
	})
}

func FuzzParseAddress(f *testing.F) {
	for _, s := range []string{"https://github.com/octo-org/payments.git", "http://127.0.0.1:80/x", "https://u:p@h/x", "ext::sh", "https://[::1]/x", "http://localhost.evil/x"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, raw string) {
		a, err := parseAddress(raw, false)
		if err != nil {
			return
		}
		u, err := url.Parse(a.url)
		if err != nil || u.User != nil || u.Host == "" || strings.ContainsAny(a.url, " \n\r\t\x00\"'") {
			t.Fatalf("%q became %q: %v", raw, a.url, err)
		}
		if u.Scheme != "https" && !(u.Scheme == "http" && a.loopback) {
			t.Errorf("%q was accepted", raw)
		}
	})
}

func FuzzLoad(f *testing.F) {
	f.Add([]byte(`{"version":1,"format":"sha1","refs":{"x":{"id":"y"}}}`))
	f.Add([]byte(`{"version":1,"format":"sha256","files":{"../../x":1},"refs":null}`))
	f.Add([]byte(`null`))
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, b []byte) {
		if err := os.WriteFile(filepath.Join(dir, stateFile), b, 0o600); err != nil {
			t.Fatal(err)
		}
		g, err := load(dir)
		if err != nil {
			return
		}
		if g.state.Refs == nil || g.state.Files == nil || g.check() == nil {
			t.Errorf("%q was taken for a mirror", b)
		}
		for line := range strings.Lines(string(packedRefs(g.state.Refs))) {
			if id, ref, ok := strings.Cut(line, " refs/have/"); ok && (!name.IsObjectID(id) || !isKey(strings.TrimSuffix(ref, "\n"))) {
				t.Errorf("line %q", line)
			}
		}
	})
}

func TestTheCheapestDialectIsSpoken(t *testing.T) {
	for _, c := range []struct {
		refs []string
		want string
	}{
		{[]string{"refs/pull/7/head", "refs/heads/main"}, "0"},
		{[]string{"refs/pull/1000/head"}, "0"},
		{[]string{"refs/pull/7/head", "refs/pull/1001/head"}, "2"},
		{[]string{"refs/heads/main"}, "2"},
		{[]string{"refs/pull/7/head", strings.Repeat("a", 40)}, "2"},
		{[]string{"refs/pull/x/head"}, "2"},
	} {
		if got := dialect(c.refs); got != "protocol.version="+c.want {
			t.Errorf("%v: %s", c.refs, got)
		}
	}
}
