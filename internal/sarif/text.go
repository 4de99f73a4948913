package sarif

import (
	"math/big"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/noxaudit/noxaudit/internal/finding"
)

// Lengths, in bytes, of the texts that are taken over.
const (
	maxName = 200  // tools, rule ids, tags
	maxLink = 2048 // a longer address is not taken over at all
)

// clean makes a text of outside origin harmless to look at: no control characters but tab and line feed, no
// invisible ones (bidirectional overrides, zero-width and tag characters, which hide instructions from
// people), no more than most bytes.
func clean(s string, most int) string {
	// Cut early, so that a text of megabytes costs no more than one of the length that is kept.
	if len(s) > 4*most {
		s = s[:4*most]
	}
	s = strings.ToValidUTF8(s, "�")
	s = strings.ReplaceAll(s, "\r\n", "\n")
	s = strings.Map(func(r rune) rune {
		switch {
		case r == '\n' || r == '\t':
			return r
		case r == '\r':
			return '\n'
		case unicode.IsControl(r), unicode.Is(unicode.Cf, r):
			return -1
		}
		return r
	}, s)
	return cut(strings.TrimSpace(s), most)
}

// cut ends a text at a rune, with "…". What it returns never keeps a longer text in memory.
func cut(s string, most int) string {
	if len(s) <= most {
		return strings.Clone(s)
	}
	const tail = "…"
	n := most - len(tail)
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n] + tail
}

// line is a text on one line.
func line(s string, most int) string { return cut(finding.Fold(clean(s, most)), most) }

// firstLine is the first line of a text, as a title.
func firstLine(s string) string {
	head, _, _ := strings.Cut(strings.TrimSpace(s), "\n")
	return line(head, finding.MaxTitle)
}

// substitute fills the places {0}, {1}, … of a message. A text without arguments is left alone: tools write
// braces into plain texts without doubling them.
func substitute(s string, arguments []string) string {
	if len(arguments) == 0 {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s) && b.Len() <= 4*finding.MaxMessage; {
		rest := s[i:]
		if strings.HasPrefix(rest, "{{") || strings.HasPrefix(rest, "}}") {
			b.WriteByte(s[i])
			i += 2
			continue
		}
		if end := strings.IndexByte(rest, '}'); rest[0] == '{' && end > 1 && end < 5 {
			if n, err := strconv.Atoi(rest[1:end]); err == nil && n >= 0 && n < len(arguments) {
				b.WriteString(arguments[n])
				i += end + 1
				continue
			}
		}
		b.WriteByte(s[i])
		i++
	}
	return b.String()
}

var unescape = strings.NewReplacer(`\[`, `[`, `\]`, `]`)

// link takes over an address of the web and nothing else.
func link(s string) string {
	if len(s) > maxLink {
		return ""
	}
	u, err := url.Parse(s)
	if err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http" || u.User != nil {
		return ""
	}
	return u.String()
}

// slug is a tool's name as the first part of a finding's type: "Semgrep OSS" becomes "semgrep-oss".
func slug(tool string) string {
	var b strings.Builder
	for _, r := range strings.ToLower(tool) {
		switch {
		case r >= 'a' && r <= 'z', r >= '0' && r <= '9':
			b.WriteRune(r)
		case b.Len() > 0 && !strings.HasSuffix(b.String(), "-"):
			b.WriteByte('-')
		}
		if b.Len() == 40 {
			break
		}
	}
	return strings.Trim(b.String(), "-")
}

// ruleSlug keeps the characters that rule ids are made of; case stays, as tools tell ids apart by it.
func ruleSlug(id string) string {
	var b strings.Builder
	for _, r := range id {
		switch {
		case r >= 'a' && r <= 'z', r >= 'A' && r <= 'Z', r >= '0' && r <= '9', strings.ContainsRune("._/:@+-", r):
			b.WriteRune(r)
		case b.Len() > 0 && !strings.HasSuffix(b.String(), "-"):
			b.WriteByte('-')
		}
	}
	return strings.Trim(b.String(), "-/")
}

// cwePattern reads all forms seen: "external/cwe/cwe-079", "CWE-79: …", "CWE:79", "CWE 79".
var cwePattern = regexp.MustCompile(`(?i)(?:^|[^a-z])cwe[-/_: ]*0*([1-9][0-9]{0,4})(?:[^0-9]|$)`)

func cweOf(s string) (int, bool) {
	m := cwePattern.FindStringSubmatch(s)
	if m == nil {
		return 0, false
	}
	n, err := strconv.Atoi(m[1])
	return n, err == nil
}

const maxCWE = 20

func sortedCWE(set map[int]bool) []int {
	var out []int
	for n := range set {
		out = append(out, n)
	}
	slices.Sort(out)
	return out[:min(len(out), maxCWE)]
}

// severityOf reads a security severity: CVSS, 0.1 to 10. It reports false for everything else.
func severityOf(s loose) (finding.Severity, bool) {
	f, err := strconv.ParseFloat(strings.TrimSpace(string(s)), 64)
	switch {
	case err != nil, !(f > 0), f > 10:
		return finding.Info, false
	case f >= 9:
		return finding.Critical, true
	case f >= 7:
		return finding.High, true
	case f >= 4:
		return finding.Medium, true
	}
	return finding.Low, true
}

func severityOfLevel(l Level) finding.Severity {
	switch l {
	case LevelError:
		return finding.High
	case LevelWarning:
		return finding.Medium
	case LevelNote:
		return finding.Low
	}
	return finding.Info
}

// defaultConfidence is that of a tool that says nothing about it.
const defaultConfidence finding.Confidence = 900

func precisionOf(s string) (finding.Confidence, bool) {
	switch strings.ToLower(s) {
	case "very-high":
		return 950, true
	case "high":
		return 900, true
	case "medium":
		return 700, true
	case "low":
		return 400, true
	}
	return 0, false
}

// confidenceOfTags reads what Semgrep writes among the tags: "HIGH CONFIDENCE".
func confidenceOfTags(lowerTags []string) (finding.Confidence, bool) {
	for _, t := range lowerTags {
		if p, ok := strings.CutSuffix(t, " confidence"); ok {
			if c, ok := precisionOf(p); ok {
				return c, true
			}
		}
	}
	return 0, false
}

// confidenceOfRank reads a rank, 0 to 100; SARIF writes -1 for none. It is read as an exact decimal: no
// rounding of a binary fraction may differ between machines.
func confidenceOfRank(s loose) (finding.Confidence, bool) {
	if len(s) > 20 || strings.ContainsAny(string(s), "eE") {
		return 0, false
	}
	r, ok := new(big.Rat).SetString(string(s))
	if !ok || r.Sign() <= 0 || r.Cmp(big.NewRat(100, 1)) > 0 {
		return 0, false
	}
	r.Mul(r, big.NewRat(10, 1))
	n := new(big.Int).Quo(r.Num(), r.Denom())
	return finding.Confidence(n.Int64()), true
}
