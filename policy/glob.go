package policy

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"
)

// maxPattern is the longest pattern in bytes: matching costs at most pattern × path steps.
const maxPattern = 256

// pattern is a compiled glob over slash-separated text. "*" stands for any characters within one segment,
// "?" for one of them, "**" alone between slashes for any number of segments, also none; a backslash takes
// a special character as it is. There are no classes and no alternatives: a list of patterns says the same.
type pattern struct {
	segments []segment
}

// segment is one part between slashes.
type segment struct {
	deep    bool   // "**"
	literal bool   // no wildcard: tokens are the text itself
	text    string // of a literal
	tokens  []token
}

type token struct {
	r    rune
	kind tokenKind
}

type tokenKind uint8

const (
	exactly tokenKind = iota
	anyOne
	anyRun
)

// patternError carries what to write instead.
type patternError struct{ message, hint string }

func (e *patternError) Error() string {
	if e.hint == "" {
		return e.message
	}
	return e.message + ": " + e.hint
}

func compilePattern(s string) (pattern, error) {
	switch {
	case s == "":
		return pattern{}, &patternError{"an empty pattern", "`**` stands for everything"}
	case len(s) > maxPattern:
		return pattern{}, &patternError{fmt.Sprintf("a pattern longer than %d bytes", maxPattern), ""}
	case !utf8.ValidString(s):
		return pattern{}, &patternError{"a pattern that is not UTF-8", ""}
	case s[0] == '/':
		return pattern{}, &patternError{"a pattern that begins with a slash", "patterns start at the root anyway: leave the slash out"}
	case strings.HasSuffix(s, "/"):
		return pattern{}, &patternError{"a pattern that ends with a slash", "for all that is in a folder write `" + clip(s) + "**`"}
	}
	var p pattern
	for part := range strings.SplitSeq(s, "/") {
		seg, err := compileSegment(part)
		if err != nil {
			return pattern{}, err
		}
		if n := len(p.segments); seg.deep && n > 0 && p.segments[n-1].deep {
			continue
		}
		p.segments = append(p.segments, seg)
	}
	return p, nil
}

func compileSegment(part string) (segment, error) {
	switch part {
	case "**":
		return segment{deep: true}, nil
	case "":
		return segment{}, &patternError{"a pattern with an empty part between two slashes", ""}
	case ".", "..":
		return segment{}, &patternError{"a pattern with `.` or `..`", "patterns start at the root of the repository"}
	}
	seg := segment{literal: true}
	var text strings.Builder
	escaped := false
	for _, r := range part {
		if escaped {
			seg.tokens = append(seg.tokens, token{r, exactly})
			text.WriteRune(r)
			escaped = false
			continue
		}
		switch r {
		case '\\':
			escaped = true
		case '*':
			if n := len(seg.tokens); n > 0 && seg.tokens[n-1].kind == anyRun {
				return segment{}, &patternError{"`**` beside other characters", "`**` stands alone between slashes, as in `docs/**/*.md`"}
			}
			seg.tokens = append(seg.tokens, token{kind: anyRun})
			seg.literal = false
		case '?':
			seg.tokens = append(seg.tokens, token{kind: anyOne})
			seg.literal = false
		case '[', ']', '{', '}':
			return segment{}, &patternError{
				fmt.Sprintf("`%c` in a pattern", r),
				fmt.Sprintf("list one pattern per alternative, or write `\\%c` for the character itself", r),
			}
		default:
			seg.tokens = append(seg.tokens, token{r, exactly})
			text.WriteRune(r)
		}
	}
	if escaped {
		return segment{}, &patternError{"a pattern part that ends with a backslash", "write two for the character itself"}
	}
	if seg.literal {
		seg.text = text.String()
	}
	return seg, nil
}

// match walks pattern and text once and goes back to the latest "**" only, so it takes at most segments ×
// segments steps, not exponentially many: what an earlier "**" could swallow, the latest one can too.
func (p pattern) match(s string) bool {
	at, seg := 0, 0 // at is past the end (len(s)+1) once the last part of s is matched
	backSeg, backAt := -1, 0
	for at <= len(s) {
		if seg < len(p.segments) {
			if p.segments[seg].deep {
				backSeg, backAt = seg, at
				seg++
				continue
			}
			end := partEnd(s, at)
			if p.segments[seg].match(s[at:end]) {
				seg++
				at = end + 1
				continue
			}
		}
		if backSeg < 0 {
			return false
		}
		backAt = partEnd(s, backAt) + 1
		at, seg = backAt, backSeg+1
	}
	for seg < len(p.segments) && p.segments[seg].deep {
		seg++
	}
	return seg == len(p.segments)
}

func partEnd(s string, at int) int {
	if i := strings.IndexByte(s[at:], '/'); i >= 0 {
		return at + i
	}
	return len(s)
}

// match does within a part what pattern.match does between parts.
func (g segment) match(s string) bool {
	if g.literal {
		return g.text == s
	}
	at, tok := 0, 0
	backTok, backAt := -1, 0
	for at < len(s) {
		r, size := utf8.DecodeRuneInString(s[at:])
		if tok < len(g.tokens) {
			switch t := g.tokens[tok]; {
			case t.kind == anyRun:
				backTok, backAt = tok, at
				tok++
				continue
			case t.kind == anyOne || t.r == r:
				tok++
				at += size
				continue
			}
		}
		if backTok < 0 {
			return false
		}
		_, size = utf8.DecodeRuneInString(s[backAt:])
		backAt += size
		at, tok = backAt, backTok+1
	}
	for tok < len(g.tokens) && g.tokens[tok].kind == anyRun {
		tok++
	}
	return tok == len(g.tokens)
}

// matcher is a policy's selection, compiled.
type matcher struct {
	focus            []string
	types            []pattern
	include, exclude []pattern
}

func compileMatcher(p Policy) (matcher, error) {
	m := matcher{focus: p.Focus}
	for _, s := range p.Types {
		t, err := compileType(s)
		if err != nil {
			return matcher{}, fmt.Errorf("types: %w", err)
		}
		m.types = append(m.types, t)
	}
	for _, s := range p.Paths {
		s, not := strings.CutPrefix(s, "!")
		t, err := compilePattern(s)
		switch {
		case err != nil:
			return matcher{}, fmt.Errorf("paths: %w", err)
		case not:
			m.exclude = append(m.exclude, t)
		default:
			m.include = append(m.include, t)
		}
	}
	return m, nil
}

// compileType refuses what could match no type: types have an auditor or tool, then a rule.
func compileType(s string) (pattern, error) {
	p, err := compilePattern(s)
	if err != nil {
		return pattern{}, err
	}
	if len(p.segments) == 1 && !p.segments[0].deep {
		return pattern{}, &patternError{"a type without a slash, which no finding has", "for all of one auditor write `" + clip(s) + "/**`"}
	}
	return p, nil
}

func (m matcher) wantsFocus(focus string) bool {
	return len(m.focus) == 0 || slices.Contains(m.focus, focus)
}

func (m matcher) wantsType(typ string) bool {
	return len(m.types) == 0 || anyMatches(m.types, typ)
}

// wantsPath lets an exclusion win over any inclusion. What is about the repository as a whole (an empty
// path) lies in no folder, so it belongs only to policies that include no particular paths.
func (m matcher) wantsPath(path string) bool {
	if path == "" {
		return len(m.include) == 0
	}
	return (len(m.include) == 0 || anyMatches(m.include, path)) && !anyMatches(m.exclude, path)
}

// namesAuditor reports whether findings of a type the policy names can come from an auditor of this name.
func (m matcher) namesAuditor(auditor string) bool {
	return slices.ContainsFunc(m.types, func(p pattern) bool {
		return p.segments[0].deep || p.segments[0].match(auditor)
	})
}

func anyMatches(ps []pattern, s string) bool {
	return slices.ContainsFunc(ps, func(p pattern) bool { return p.match(s) })
}

// asPatternError is for those who show message and hint apart.
func asPatternError(err error) *patternError {
	var e *patternError
	if errors.As(err, &e) {
		return e
	}
	return &patternError{message: err.Error()}
}
