package escape

import (
	"strings"
	"testing"
	"unicode/utf8"
)

func TestVisibleShowsWhatWouldBeObeyedOrHidden(t *testing.T) {
	for _, c := range []struct{ name, in, want string }{
		{"plain text is untouched", "main.go: über 日本語 🙂", "main.go: über 日本語 🙂"},
		{"escape sequences", "a\x1b[31mred\x1b]0;title\x07", `a\x1b[31mred\x1b]0;title\x07`},
		{"C1 control sequence introducer", "a\u009b31m", `a\u{9b}31m`},
		{"bidirectional override", "safe\u202egpj.exe", `safe\u{202e}gpj.exe`},
		{"zero width", "pass\u200bword", `pass\u{200b}word`},
		{"Unicode tags", "hi\U000e0041", `hi\u{e0041}`},
		{"invalid UTF-8", "a\xff\xfeb", `a\xff\xfeb`},
		{"line breaks become spaces", "a\r\nb\nc\td", "a b c d"},
		{"a NUL", "a\x00b", `a\x00b`},
		{"a command to a CI runner", "  ::add-mask::x", `  \x3a:add-mask::x`},
		{"another runner's", "##[error]x", `#\x23[error]x`},
		{"a C++ name is untouched", "std::vector", "std::vector"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := Visible(c.in); got != c.want {
				t.Errorf("Visible(%q) = %q, want %q", c.in, got, c.want)
			}
		})
	}
}

func TestMarkdownLeavesNothingThatGitHubActsOn(t *testing.T) {
	for _, c := range []struct{ name, in string }{
		{"mention", "@octocat please"},
		{"team mention", "cc @org/team"},
		{"reference", "see #12 and GH-12"},
		{"link", "[click](javascript:alert(1))"},
		{"image", "![x](https://evil.example/?q=1)"},
		{"autolink", "https://evil.example www.evil.example"},
		{"HTML", "<img src=x onerror=alert(1)><!-- hidden -->"},
		{"table cell", "a | b |\n|---|"},
		{"heading", "### Approved"},
		{"code fence", "```\nrm\n```"},
		{"math", "$x$"},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := Markdown(c.in)
			for _, bad := range []string{"\n", "<", "@o", "#1", "://", "www.e"} {
				if strings.Contains(got, bad) {
					t.Errorf("Markdown(%q) = %q still holds %q", c.in, got, bad)
				}
			}
			for _, c := range []string{"|", "`", "$", "["} {
				if strings.Count(got, c) != strings.Count(got, `\`+c) {
					t.Errorf("Markdown = %q holds an unescaped %q", got, c)
				}
			}
		})
	}
}

func TestMarkdownCodeCannotBeLeft(t *testing.T) {
	for in, want := range map[string]string{
		"a.go":         "`a.go`",
		"a`b":          "`` a`b ``",
		"``":           "``` `` ```",
		"a|b":          "`a\\|b`",
		"a\n# heading": "`a # heading`",
		"":             "` `",
	} {
		if got := MarkdownCode(in); got != want {
			t.Errorf("MarkdownCode(%q) = %q, want %q", in, got, want)
		}
	}
}

func FuzzEscapes(f *testing.F) {
	f.Add("@x [a](b) `c` <d>\x1b[0m\u202e")
	f.Fuzz(func(t *testing.T, s string) {
		v := Visible(s)
		if !utf8.ValidString(v) || strings.ContainsAny(v, "\n\r\t\x1b\x00") {
			t.Errorf("Visible(%q) = %q", s, v)
		}
		if Visible(v) != v {
			t.Errorf("Visible is not idempotent on %q", s)
		}
		for _, m := range []string{Markdown(s), MarkdownCode(s)} {
			if strings.ContainsAny(m, "\n\r") {
				t.Errorf("%q spans lines", m)
			}
		}
	})
}
