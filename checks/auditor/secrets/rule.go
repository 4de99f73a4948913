package secrets

import (
	"bytes"
	"cmp"
	"context"
	"embed"
	"fmt"
	"io/fs"
	"math"
	"path"
	"regexp"
	"regexp/syntax"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/noxaudit/noxaudit/internal/finding"
	"gopkg.in/yaml.v3"
)

//go:embed rules
var ruleFiles embed.FS

// definition is one rules/<id>/rule.yml: what the rule looks for, why it matters, what to do, and examples
// that a test runs. In an example "§" stands for nothing; it keeps these files clean under their own rules.
type definition struct {
	ID          string           `yaml:"id"`
	Title       string           `yaml:"title"`
	Motivation  string           `yaml:"motivation"`
	Remediation string           `yaml:"remediation"`
	Severity    finding.Severity `yaml:"severity"`
	Confidence  string           `yaml:"confidence"`
	CWE         []int            `yaml:"cwe"`
	Rank        string           `yaml:"rank"`       // provider, specific or assignment
	Everywhere  bool             `yaml:"everywhere"` // in every file, as providers' formats are
	Files       []kind           `yaml:"files"`      // only in files of these kinds; empty: in any text
	Keywords    []string         `yaml:"keywords"`   // lower case, found in any case; one must be in the window
	Exact       []string         `yaml:"exact"`      // the same, found in this case only
	Needs       string           `yaml:"needs"`      // characters of which one must be in the window
	Window      string           `yaml:"window"`     // line (the default), object ("{" to "}") or file
	Patterns    []string         `yaml:"patterns"`   // see pattern
	Mask        string           `yaml:"mask"`       // what else to mask within a window that has a match; group 1
	Shortest    int              `yaml:"shortest"`   // bytes of a secret
	Entropy     float64          `yaml:"entropy"`    // bits per byte, at least
	Refuse      []string         `yaml:"refuse"`     // names of refusals
	Verify      string           `yaml:"verify"`     // name of a proof
	Examples    struct {
		Found []example `yaml:"found"`
		Clean []example `yaml:"clean"`
	} `yaml:"examples"`
}

type example struct {
	Path   string `yaml:"path"` // default: main.go
	Text   string `yaml:"text"`
	Secret string `yaml:"secret"` // of found
	Doubt  bool   `yaml:"doubt"`  // of found: at half the confidence
}

// rule is a definition made ready.
type rule struct {
	definition
	card     card
	patterns []pattern
	anchors  bool // some pattern begins at a keyword
	floats   bool // some does not
	mask     *regexp.Regexp
	refuse   []func(string) bool
	verify   proof
}

// pattern is a Go regular expression with a group "secret", perhaps "user" and "host". Written "lead@@rest",
// the rest begins at a keyword and the lead, which may be empty, ends there; this costs next to nothing where
// the keyword means something else. Without "@@" it is searched for in the whole window.
type pattern struct {
	*regexp.Regexp
	secret, user, host int // numbers of groups; 0: there is none

	anchored bool
	lead     *regexp.Regexp // nil: anything
	leadMost int            // bytes that the lead can take; 0: no limit
	leadHost int
}

const anchor = "@@"

func newPattern(src string) (p pattern, err error) {
	lead, rest, anchored := strings.Cut(src, anchor)
	if !anchored {
		lead, rest = "", src
	} else {
		rest = "^(?:" + rest + ")"
	}
	p.anchored = anchored
	if p.Regexp, err = regexp.Compile(rest); err != nil {
		return p, err
	}
	if lead != "" {
		if p.lead, err = regexp.Compile("(?:" + lead + ")$"); err != nil {
			return p, err
		}
		p.leadHost = max(p.lead.SubexpIndex("host"), 0)
		if tree, err := syntax.Parse(lead, syntax.Perl); err == nil {
			p.leadMost = longest(tree)
		}
	}
	p.secret, p.user, p.host = p.SubexpIndex("secret"), max(p.SubexpIndex("user"), 0), max(p.SubexpIndex("host"), 0)
	if p.secret < 0 {
		return p, fmt.Errorf(`pattern %q: no group "secret"`, src)
	}
	return p, nil
}

// longest is how many bytes a pattern can take, 0 for no limit.
func longest(re *syntax.Regexp) int {
	sum, most := 0, 0
	for _, sub := range re.Sub {
		n := longest(sub)
		if n == 0 && sub.Op != syntax.OpBeginText && sub.Op != syntax.OpEmptyMatch {
			return 0
		}
		sum, most = sum+n, max(most, n)
	}
	switch re.Op {
	case syntax.OpLiteral:
		return utf8.UTFMax * len(re.Rune)
	case syntax.OpCharClass, syntax.OpAnyChar, syntax.OpAnyCharNotNL:
		return utf8.UTFMax
	case syntax.OpConcat, syntax.OpCapture, syntax.OpQuest:
		return sum
	case syntax.OpAlternate:
		return most
	}
	return 0
}

// rules are our own, sorted by id.
type rules []*rule

func loadRules(files fs.FS) (rules, error) {
	names, err := fs.Glob(files, "rules/*/rule.yml")
	if err != nil {
		return nil, err
	}
	var all rules
	for _, name := range names {
		src, err := fs.ReadFile(files, name)
		if err != nil {
			return nil, err
		}
		r, err := newRule(src)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		if dir := path.Base(path.Dir(name)); dir != r.ID {
			return nil, fmt.Errorf("%s: its id is %q", name, r.ID)
		}
		all = append(all, r)
	}
	return all, nil
}

func newRule(src []byte) (*rule, error) {
	r := &rule{}
	dec := yaml.NewDecoder(bytes.NewReader(src))
	dec.KnownFields(true)
	if err := dec.Decode(&r.definition); err != nil {
		return nil, err
	}
	confidence, err := finding.ParseConfidence(r.Confidence)
	if err != nil {
		return nil, err
	}
	ranks := map[string]rank{"provider": provider, "specific": specific, "assignment": assignment}
	if _, ok := ranks[r.Rank]; !ok {
		return nil, fmt.Errorf("rank %q: want provider, specific or assignment", r.Rank)
	}
	switch {
	case r.Window == "":
		r.Window = "line"
	case !slices.Contains([]string{"line", "object", "file"}, r.Window):
		return nil, fmt.Errorf("window %q: want line, object or file", r.Window)
	}
	r.card = card{
		title: r.Title, message: r.Motivation, remediation: r.Remediation, severity: r.Severity, confidence: confidence, cwe: r.CWE, rank: ranks[r.Rank],
	}
	for _, src := range r.Patterns {
		p, err := newPattern(src)
		if err != nil {
			return nil, err
		}
		if p.anchored && r.Window == "file" {
			return nil, fmt.Errorf("pattern %q: a rule on whole files has no keyword to begin at", src)
		}
		r.patterns = append(r.patterns, p)
		r.anchors, r.floats = r.anchors || p.anchored, r.floats || !p.anchored
	}
	if r.definition.Mask != "" {
		if r.mask, err = regexp.Compile(r.definition.Mask); err != nil {
			return nil, err
		}
	}
	for _, name := range r.definition.Refuse {
		f, ok := refusals[name]
		if !ok {
			return nil, fmt.Errorf("refuse: %q does not exist", name)
		}
		r.refuse = append(r.refuse, f)
	}
	if name := r.definition.Verify; name != "" {
		if r.verify = proofs[name]; r.verify == nil {
			return nil, fmt.Errorf("verify: %q does not exist", name)
		}
	}
	if r.Window == "file" && len(r.Files) == 0 {
		return nil, fmt.Errorf("window file: only for rules on some kinds of file")
	}
	if r.Window != "file" && len(r.Keywords)+len(r.Exact) == 0 {
		return nil, fmt.Errorf("keywords: there must be some, they are what makes the rule cheap")
	}
	return r, nil
}

// Windows, in bytes around a keyword. They bound a match and, because they advance, the cost of a text.
const (
	before = 240
	beyond = 480
	object = 8 << 10
	// What one rule may cost in one file. An attempt costs a little and each byte it takes one more: a file of
	// 5 MiB that people wrote or a tool generated stays far below, one made to be slow ends after about a second.
	maxWork    = 16 << 20
	attempt    = 16
	maxMatches = 2_000
)

// in gives the rules for a place. In noise only those remain that know what they find by its form or by the
// one file it stands in.
func (rs rules) in(p place, binary bool) rules {
	var fit rules
	for _, r := range rs {
		if len(r.Files) > 0 && !slices.Contains(r.Files, p.kind) {
			continue
		}
		known := r.Everywhere || r.card.precise() || len(r.Files) > 0 && r.card.rank > assignment
		switch {
		case known, p.noise == quiet && !binary, p.noise == minified && !binary && r.card.rank > assignment:
			fit = append(fit, r)
		}
	}
	return fit
}

// errCrowded is the error of a search that was cut short. What was found until then is kept.
type errCrowded struct{ rule string }

func (e errCrowded) Error() string {
	return "too many places look like " + e.rule + ": the file was not searched for more of them"
}

// find looks for the rules' secrets. Spans to mask that are no findings come back as matches without a rule.
// With an error the matches found until then come back too; a rule that is cut short does not keep the others
// from their work.
func (rs rules) find(ctx context.Context, text string) (all []match, err error) {
	low := lower(text)
	for _, r := range rs {
		if err := ctx.Err(); err != nil {
			return all, err
		}
		s := search{rule: r, text: text}
		if r.Window == "file" {
			found := r.matches(text, maxMatches)
			all = append(all, found...)
			s.crowded = len(found) >= maxMatches
		}
		for _, word := range r.Keywords {
			s.around(ctx, low, word)
		}
		for _, word := range r.Exact {
			s.around(ctx, text, word)
		}
		all = append(all, s.found...)
		if s.crowded && err == nil {
			err = errCrowded{r.ID}
		}
	}
	return all, cmp.Or(ctx.Err(), err)
}

// search is one rule's way through one text.
type search struct {
	*rule
	text    string
	found   []match
	work    int
	crowded bool
}

// around applies the rule to the windows around each occurrence of a word, until the context ends or the rule
// has cost what it may.
func (s *search) around(ctx context.Context, low, word string) {
	done := 0 // text before this was searched for patterns without an anchor
	for from, n := 0, 0; !s.crowded; n++ {
		i := strings.Index(low[from:], word)
		if i < 0 {
			return
		}
		at := from + i
		from = at + len(word)
		if n%256 == 0 && ctx.Err() != nil {
			return
		}
		if at < done && !s.anchors {
			continue
		}
		s.work += attempt
		start, end := s.window(s.text, at, from)
		if s.Needs == "" || strings.ContainsAny(s.text[at:end], s.Needs) {
			found := s.matchesAt(s.text[start:end], at-start, &s.work)
			if at >= done && s.floats {
				s.work += end - start
				found = append(found, s.matches(s.text[start:end], maxMatches)...)
				if done = end; end < len(s.text) && s.text[end] != '\n' {
					done = end - before // what starts near the cut needs another look
				}
			}
			s.take(found, start, end)
		}
		s.crowded = s.work > maxWork || len(s.found) >= maxMatches
	}
}

// take keeps what was found in a window. A secret that the window cut is followed to its end.
func (s *search) take(found []match, start, end int) {
	for _, m := range found {
		m.start, m.end = m.start+start, m.end+start
		if m.end == end {
			for m.end < len(s.text) && m.end-m.start < object && encodedByte(s.text[m.end]) {
				m.end++
			}
			m.secret += s.text[end:m.end]
			s.work += m.end - end
		}
		s.found = append(s.found, m)
	}
}

func (r *rule) window(text string, at, after int) (start, end int) {
	if r.Window == "object" {
		start, end = max(0, at-object), min(len(text), after+object)
		if i := strings.LastIndexByte(text[start:at], '{'); i >= 0 {
			start += i
		}
		if i := strings.IndexByte(text[after:end], '}'); i >= 0 {
			end = after + i + 1
		}
		return start, end
	}
	start, end = max(0, at-before), min(len(text), after+beyond)
	if i := strings.LastIndexByte(text[start:at], '\n'); i >= 0 {
		start += i + 1
	}
	if i := strings.IndexByte(text[after:end], '\n'); i >= 0 {
		end = after + i
	}
	return start, end
}

// matchesAt tries the anchored patterns on the keyword at a byte of the window and adds to work what it cost.
func (r *rule) matchesAt(window string, at int, work *int) (all []match) {
	for _, p := range r.patterns {
		if !p.anchored || p.leadMost > 0 && !p.leads(window, at) { // a short lead is looked at first
			continue
		}
		g := p.FindStringSubmatchIndex(window[at:])
		if g == nil {
			continue
		}
		*work += g[1]
		host := ""
		if p.lead != nil && p.leadMost == 0 {
			*work += at
			lead := p.lead.FindStringSubmatch(window[:at])
			if lead == nil {
				continue
			}
			if p.leadHost > 0 {
				host = lead[p.leadHost]
			}
		}
		if m, ok := r.judge(p, window[at:], g, host); ok {
			m.start, m.end = at+g[2*p.secret], at+g[2*p.secret+1]
			all = append(all, m)
		}
	}
	return all
}

// leads tries a lead of limited length on the text before a byte of the window. It sees one byte more than
// that, so that a "^" in it holds at the window's beginning only.
func (p pattern) leads(window string, at int) bool {
	return p.lead.MatchString(window[max(0, at-p.leadMost-1):at])
}

// matches searches the window for the patterns without an anchor, each for at most so many.
func (r *rule) matches(window string, most int) (all []match) {
	for _, p := range r.patterns {
		if p.anchored {
			continue
		}
		for _, g := range p.FindAllStringSubmatchIndex(window, most) {
			if m, ok := r.judge(p, window, g, ""); ok {
				m.start, m.end = g[2*p.secret], g[2*p.secret+1]
				all = append(all, m)
			}
		}
	}
	if len(all) > 0 && r.mask != nil {
		for _, g := range r.mask.FindAllStringSubmatchIndex(window, -1) {
			all = append(all, match{start: g[2], end: g[3], secret: window[g[2]:g[3]]})
		}
	}
	return all
}

func (r *rule) judge(p pattern, window string, groups []int, host string) (match, bool) {
	group := func(n int) string {
		if n == 0 || groups[2*n] < 0 {
			return ""
		}
		return window[groups[2*n]:groups[2*n+1]]
	}
	m := match{rule: r.ID, secret: group(p.secret)}
	if r.refused(m.secret) {
		return match{}, false
	}
	if r.verify != nil {
		var ok bool
		if m.secret, ok = r.verify(m.secret); !ok {
			return match{}, false
		}
	}
	if user := group(p.user); user == m.secret {
		return match{}, false // postgres:postgres@ is what an image starts with, nobody chose it
	}
	if host = cmp.Or(host, group(p.host)); host != "" {
		if documentationHost(host) {
			return match{}, false
		}
		m.doubt = localHost(host)
	}
	return m, true
}

func (r *rule) refused(secret string) bool {
	if len(secret) < r.Shortest || entropy(secret) < r.Entropy {
		return true
	}
	for _, refuse := range r.refuse {
		if refuse(secret) {
			return true
		}
	}
	return false
}

// lower maps A–Z to a–z and keeps the length, so that places in it are places in s.
func lower(s string) string {
	b := []byte(s)
	for i, c := range b {
		if 'A' <= c && c <= 'Z' {
			b[i] = c + 'a' - 'A'
		}
	}
	return string(b)
}

// entropy is Shannon's, in bits per byte.
func entropy(s string) float64 {
	if s == "" {
		return 0
	}
	var count [256]int
	for i := range len(s) {
		count[s[i]]++
	}
	h := 0.0
	for _, n := range count {
		if n > 0 {
			p := float64(n) / float64(len(s))
			h -= p * math.Log2(p)
		}
	}
	return h
}
