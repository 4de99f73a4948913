package policy

import (
	"regexp"
	"strings"
	"testing"
	"unicode/utf8"

	"pgregory.net/rapid"
)

func TestPatternsMatchWholePaths(t *testing.T) {
	for _, c := range []struct {
		pattern string
		yes, no []string
	}{
		{"README.md", []string{"README.md"}, []string{"docs/README.md", "readme.md", "README.md.bak", ""}},
		{"*.go", []string{"a.go", ".go"}, []string{"x/a.go", "a.got"}},
		{"**/*.go", []string{"a.go", "x/a.go", "x/y/z.go"}, []string{"x/a.goo", "go"}},
		{"src/**", []string{"src", "src/a", "src/a/b"}, []string{"srcs/a", "a/src/b"}},
		{"**/testdata/**", []string{"testdata", "testdata/x", "a/testdata/b/c"}, []string{"testdatas/x"}},
		{"a/**/b", []string{"a/b", "a/x/b", "a/x/y/b", "a/b/b"}, []string{"a", "b", "a/b/c", "ab"}},
		{"a/**/b/**/c", []string{"a/b/c", "a/x/b/b/y/c"}, []string{"a/c", "a/b"}},
		{"**", []string{"a", "a/b"}, nil},
		{"**/**", []string{"a", "a/b"}, nil},
		{"*", []string{"a", "ä"}, []string{"a/b"}},
		{"?.c", []string{"a.c", "ä.c"}, []string{".c", "ab.c", "/.c"}},
		{"a*b*c", []string{"abc", "axbxbxc", "abbc"}, []string{"ab", "ac", "abcd"}},
		{"app/\\[id\\]/*", []string{"app/[id]/page.tsx"}, []string{"app/i/page.tsx"}},
		{"\\*", []string{"*"}, []string{"a"}},
		{"*/x", []string{"a/x"}, []string{"a/b/x", "x"}},
	} {
		p, err := compilePattern(c.pattern)
		if err != nil {
			t.Errorf("%q: %v", c.pattern, err)
			continue
		}
		for _, s := range c.yes {
			if !p.match(s) {
				t.Errorf("%q does not match %q", c.pattern, s)
			}
		}
		for _, s := range c.no {
			if p.match(s) {
				t.Errorf("%q matches %q", c.pattern, s)
			}
		}
	}
}

func TestPatternsThatMeanNothingAreRefused(t *testing.T) {
	for _, s := range []string{"", "/a", "a/", "a//b", "./a", "../a", "a/..", "a**b", "**.go", "***", "[ab].go", "{a,b}", "a}", "a]", "a\\", strings.Repeat("a", maxPattern+1), "\xff"} {
		if _, err := compilePattern(s); err == nil {
			t.Errorf("%q is accepted", s)
		}
	}
}

// asRegexp says the same as a pattern in another language, whose matcher is linear.
func asRegexp(p pattern) *regexp.Regexp {
	var b strings.Builder
	b.WriteString(`\A`)
	for _, seg := range p.segments {
		if seg.deep {
			b.WriteString(`(?s:[^/]*/)*`)
			continue
		}
		for _, tok := range seg.tokens {
			switch tok.kind {
			case anyRun:
				b.WriteString(`[^/]*`)
			case anyOne:
				b.WriteString(`[^/]`)
			default:
				b.WriteString(regexp.QuoteMeta(string(tok.r)))
			}
		}
		b.WriteString(`/`)
	}
	return regexp.MustCompile(b.String() + `\z`)
}

func TestPatternsAgreeWithRegularExpressions(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		parts := rapid.SliceOfN(rapid.SampledFrom([]string{"**", "*", "a", "b", "a*", "*b", "?", "a?b", "*a*b*"}), 1, 6)
		names := rapid.SliceOfN(rapid.StringMatching(`[ab]{1,4}`), 1, 7)
		p, err := compilePattern(strings.Join(parts.Draw(t, "pattern"), "/"))
		if err != nil {
			t.Fatal(err)
		}
		s := strings.Join(names.Draw(t, "path"), "/")
		if got, want := p.match(s), asRegexp(p).MatchString(s+"/"); got != want {
			t.Fatalf("match %q is %t, want %t", s, got, want)
		}
	})
}

// The matcher goes back at most once per character or part, so the worst patterns stay cheap: with an
// exponential matcher these seeds, and this test, would not end.
func FuzzPattern(f *testing.F) {
	f.Add("**/*.go", "a/b/c.go")
	f.Add(strings.Repeat("*a", 60)+"*b", strings.Repeat("a", 4000))
	f.Add(strings.Repeat("**/a/", 40)+"b", strings.Repeat("a/", 2000)+"c")
	f.Add(strings.Repeat("**/*a*a*/", 20)+"b", strings.Repeat("aaaa/", 800)+"c")
	f.Add("a\\[b", "a[b")
	f.Fuzz(func(t *testing.T, text, path string) {
		if !utf8.ValidString(path) || len(path) > 4096 {
			t.Skip()
		}
		p, err := compilePattern(text)
		if err != nil {
			return
		}
		if got, want := p.match(path), asRegexp(p).MatchString(path+"/"); got != want {
			t.Errorf("%q against %q: %t, want %t", text, path, got, want)
		}
	})
}
