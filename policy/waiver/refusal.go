package waiver

import (
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/noxaudit/noxaudit/internal/escape"
)

// Refusal says no to a person: a code for programs, which never changes its meaning, and a sentence that tells
// what is wrong and what would be valid. The sentence is plain text without hidden characters; it may quote a
// short piece of what the person wrote, so whoever shows it escapes it for its surface.
type Refusal struct {
	Code     Code   `json:"code"`
	Sentence string `json:"sentence"`
}

func (r *Refusal) Error() string { return r.Sentence }

// Code names the kind of a refusal.
type Code string

// Refusals of what was written.
const (
	TooLarge      Code = "too-large"         // the comment, a line or a value is longer than its limit
	TooMany       Code = "too-many-commands" // more than MaxCommands command lines
	Misplaced     Code = "misplaced"         // where a reader might not see it as a command
	Spelling      Code = "spelling"          // "/Noxaudit", or a hidden character after it
	UnknownVerb   Code = "unknown-verb"
	UnknownKey    Code = "unknown-key" // also one that the verb does not take
	DuplicateKey  Code = "duplicate-key"
	Quotes        Code = "quotes"               // unbalanced, typographic or single
	Characters    Code = "characters"           // non-ASCII where ASCII is due, hidden or control characters
	BadTarget     Code = "bad-target"           // missing, malformed, more than one, or of a kind the verb does not take
	BadArgument   Code = "bad-argument"         // a word that is neither target nor key=value
	BadValue      Code = "bad-value"            // a value that its key does not take
	NoReason      Code = "no-reason"            // missing, too short, or only an address
	BadTerm       Code = "bad-term"             // malformed, in the past, or both until and for
	TooLong       Code = "term-too-long"        // above the maximum; never shortened to it
	NotYet        Code = "not-in-this-version"  // part of the grammar, not acted on
	Ambiguous     Code = "ambiguous"            // an id that begins several; made by the caller
	NotFound      Code = "not-found"            // an id that begins none; made by the caller
	NotApplicable Code = "not-in-this-position" // the waiver is in a state that does not allow it
)

// Refusals of who did it, and when.
const (
	Robot         Code = "robot" // a bot, or through an App
	NobodyKnown   Code = "unknown-actor"
	Unknown       Code = "permission-unknown" // GitHub did not say: nobody is let through on a guess
	NoPermission  Code = "no-permission"
	OwnRequest    Code = "own-request"  // requester and approver are one person
	OwnWork       Code = "own-work"     // author, committer, co-author or last pusher
	Unattributed  Code = "unattributed" // it is not known whose work it is
	PullClosed    Code = "pull-closed"
	PullElsewhere Code = "pull-elsewhere" // facts of another pull request, or of none
	OtherDigest   Code = "other-digest"   // @digest names another content
	OtherHead     Code = "other-head"     // sha= is not the head now
	Ended         Code = "ended"          // terminal states never reopen
	NotDue        Code = "not-due"        // too early to lapse or expire
)

func refuse(code Code, format string, a ...any) *Refusal {
	return &Refusal{code, fmt.Sprintf(format, a...)}
}

// quote shows a piece of foreign text inside a sentence: short, on one line, nothing hidden.
func quote(s string) string {
	const most = 40
	if len(s) > most {
		n := most
		for n > 0 && !utf8.RuneStart(s[n]) {
			n--
		}
		s = s[:n] + "…"
	}
	return "“" + escape.Visible(s) + "”"
}

// hiddenIn returns the first rune of s that a reader would not see, or that a terminal would obey. Which these
// are is decided by internal/escape alone.
func hiddenIn(s string) (string, bool) {
	for i, r := range s {
		switch {
		case r >= ' ' && r < 0x7f:
		case r == utf8.RuneError:
			if _, n := utf8.DecodeRuneInString(s[i:]); n == 1 {
				return "a byte that is not UTF-8", true
			}
		case escape.Visible(string(r)) != string(r):
			return fmt.Sprintf("U+%04X", r), true
		}
	}
	return "", false
}

func ascii(s string) bool {
	for i := range len(s) {
		if s[i] < ' ' || s[i] > '~' {
			return false
		}
	}
	return true
}

// didYouMean is " Did you mean x?" for the one word closest to s, or nothing when none is close.
func didYouMean(s string, words []string) string {
	if len(s) > 24 {
		return ""
	}
	s = strings.ToLower(s)
	best, least := "", 3
	for _, w := range words {
		if d := distance(s, w); d < least && 2*d < len(w) {
			best, least = w, d
		}
	}
	if best == "" {
		return ""
	}
	return fmt.Sprintf(" Did you mean %q?", best)
}

// distance is the number of single-byte insertions, deletions, substitutions and swaps of neighbours (optimal
// string alignment) that make b of a.
func distance(a, b string) int {
	before, row := make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := 1; i <= len(a); i++ {
		next := make([]int, len(b)+1)
		next[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			next[j] = min(row[j]+1, next[j-1]+1, row[j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				next[j] = min(next[j], before[j-2]+1)
			}
		}
		before, row = row, next
	}
	return row[len(b)]
}

// list is "a, b or c".
func list(words []string) string {
	if len(words) < 2 {
		return strings.Join(words, "")
	}
	return strings.Join(words[:len(words)-1], ", ") + " or " + words[len(words)-1]
}
