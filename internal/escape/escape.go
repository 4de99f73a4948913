// Package escape makes text of outside origin safe to show in one place each: a terminal, a Markdown text on
// GitHub. Everything that a pull request's author, a tool or a model wrote goes through here; HTML is left
// to html/template.
package escape

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Visible replaces what a reader would not see or a terminal would obey: control characters (escape
// sequences among them), bidirectional overrides, zero-width and other format characters, invalid UTF-8.
// They become \xNN or \u{N}, so that nothing is lost. Tabs and line breaks become one space: the result is
// one line.
func Visible(s string) string {
	if t := strings.TrimLeft(s, " \t"); strings.HasPrefix(t, "::") || strings.Contains(s, "##[") {
		// A line like these in its output is a command to the runner of a CI job.
		s = strings.ReplaceAll(strings.Replace(s, "::", `\x3a:`, 1), "##[", `#\x23[`)
	}
	clean := true
	for _, r := range s {
		if r == utf8.RuneError || hidden(r) || r == '\n' || r == '\t' || r == '\r' {
			clean = false
			break
		}
	}
	if clean {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); {
		r, n := utf8.DecodeRuneInString(s[i:])
		switch {
		case r == '\r' && strings.HasPrefix(s[i+n:], "\n"):
			// The line break that follows speaks for both.
		case r == '\n', r == '\t', r == '\r':
			b.WriteByte(' ')
		case r == utf8.RuneError && n == 1, r < 0x80 && hidden(r):
			fmt.Fprintf(&b, `\x%02x`, s[i])
		case hidden(r):
			fmt.Fprintf(&b, `\u{%x}`, r)
		default:
			b.WriteString(s[i : i+n])
		}
		i += n
	}
	return b.String()
}

// Lines is Visible for each line of s, the line breaks kept.
func Lines(s string) []string {
	lines := strings.Split(strings.ReplaceAll(s, "\r\n", "\n"), "\n")
	for i, l := range lines {
		lines[i] = Visible(strings.TrimRight(l, " \t\r"))
	}
	return lines
}

// hidden is true of control (Cc), format (Cf), private-use (Co) and line-separator characters, and of the
// Unicode tag and variation-selector blocks, which can smuggle text past a reader.
func hidden(r rune) bool {
	switch {
	case r == '\n' || r == '\t' || r == '\r':
		return false
	case unicode.In(r, unicode.Cc, unicode.Cf, unicode.Co, unicode.Zl, unicode.Zp):
		return true
	case r >= 0xFE00 && r <= 0xFE0F, r >= 0xE0100 && r <= 0xE01EF:
		return true
	case r == 0x115F || r == 0x1160 || r == 0x3164 || r == 0xFFA0: // Hangul fillers, drawn as nothing
		return true
	}
	return false
}

// Markdown makes s plain text inside GitHub Flavored Markdown, also at the beginning of a line or inside a table cell: one line, no
// formatting, no HTML, no links, no mentions (@), no references (#), no autolinked addresses.
func Markdown(s string) string {
	s = Visible(s)
	var b strings.Builder
	b.Grow(len(s) + len(s)/8)
	for i := 0; i < len(s); i++ {
		switch c := s[i]; c {
		case '&':
			b.WriteString("&amp;")
		case '<':
			b.WriteString("&lt;")
		case '>':
			b.WriteString("&gt;")
		case '\\', '`', '*', '_', '[', ']', '|', '~', '$':
			b.WriteByte('\\')
			b.WriteByte(c)
		case '@', '#', ':':
			b.WriteByte(c)
			// GitHub looks for mentions, references and addresses after rendering, so an entity would not
			// stop it; a zero-width space does, and reads as nothing.
			if c != ':' || strings.HasPrefix(s[i+1:], "//") {
				b.WriteString("\u200b")
			}
		case '-', '+', '=', '(', ')':
			// At the beginning of a line these start a list or underline a heading; "1)" starts a list.
			if strings.Trim(s[:i], " 0123456789") == "" {
				b.WriteByte('\\')
			}
			b.WriteByte(c)
		case '.':
			switch {
			case wwwBefore(s, i):
				b.WriteString("\u200b")
			case strings.Trim(s[:i], " 0123456789") == "": // "1." starts a list
				b.WriteByte('\\')
			}
			b.WriteByte(c)
		default:
			b.WriteByte(c)
		}
	}
	return b.String()
}

func wwwBefore(s string, dot int) bool {
	return dot >= 3 && strings.EqualFold(s[dot-3:dot], "www")
}

// MarkdownCode makes s a code span, also inside a table cell. Inside code GitHub resolves no mentions and no
// references.
func MarkdownCode(s string) string {
	s = Visible(s)
	if s == "" {
		return "` `"
	}
	// A "|" ends a table cell even inside code; only its escape survives there.
	s = strings.ReplaceAll(s, "|", `\|`)
	longest, run := 0, 0
	for _, r := range s {
		if r == '`' {
			run++
			longest = max(longest, run)
		} else {
			run = 0
		}
	}
	fence := strings.Repeat("`", longest+1)
	if longest > 0 {
		return fence + " " + s + " " + fence
	}
	return fence + s + fence
}
