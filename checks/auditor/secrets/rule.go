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
	"slices"
	"strings"

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
	Everywhere  bool             `yaml:"everywhere"` // also in lock files and third-party code
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
	}
	p.secret, p.user, p.host = p.SubexpIndex("secret"), max(p.SubexpIndex("user"), 0), max(p.SubexpIndex("host"), 0)
	if p.secret < 0 {
		return p, fmt.Errorf(`pattern %q: no group "secret"`, src)
	}
	return p, nil
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
	whole  = 256 << 10 // of a file that a rule reads as a whole
)

// in gives the rules for a place.
func (rs rules) in(p place) rules {
	var fit rules
	for _, r := range rs {
		if p.kind == thirdParty && !r.Everywhere {
			continue
		}
		if len(r.Files) == 0 || slices.Contains(r.Files, p.kind) {
			fit = append(fit, r)
		}
	}
	return fit
}

// find looks for the rules' secrets. Spans to mask that are no findings come back as matches without a rule.
func (rs rules) find(ctx context.Context, text string) ([]match, error) {
	low := lower(text)
	var all []match
	for _, r := range rs {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		if r.Window == "file" {
			all = append(all, r.matches(text[:min(len(text), whole)])...)
			continue
		}
		for _, word := range r.Keywords {
			found, err := r.around(ctx, text, low, word)
			if err != nil {
				return nil, err
			}
			all = append(all, found...)
		}
		for _, word := range r.Exact {
			found, err := r.around(ctx, text, text, word)
			if err != nil {
				return nil, err
			}
			all = append(all, found...)
		}
	}
	return all, nil
}

// around applies the rule to the windows around each occurrence of a word.
func (r *rule) around(ctx context.Context, text, low, word string) (all []match, err error) {
	done := 0 // text before this was searched for patterns without an anchor
	for from, n := 0, 0; ; n++ {
		i := strings.Index(low[from:], word)
		if i < 0 {
			return all, nil
		}
		at := from + i
		from = at + len(word)
		if n%256 == 0 {
			if err := ctx.Err(); err != nil {
				return nil, err
			}
		}
		start, end := r.window(text, at, from)
		if r.Needs != "" && !strings.ContainsAny(text[at:end], r.Needs) {
			continue
		}
		found := r.matchesAt(text[start:end], at-start)
		if at >= done {
			found = append(found, r.matches(text[start:end])...)
			if done = end; end < len(text) && text[end] != '\n' {
				done = end - before // what starts near the cut needs another look
			}
		}
		for _, m := range found {
			m.start, m.end = m.start+start, m.end+start
			if m.end == end { // cut by the window
				for m.end < len(text) && m.end-m.start < object && encodedByte(text[m.end]) {
					m.end++
				}
				m.secret += text[end:m.end]
			}
			all = append(all, m)
		}
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

// matchesAt tries the anchored patterns on the keyword at a byte of the window.
func (r *rule) matchesAt(window string, at int) (all []match) {
	for _, p := range r.patterns {
		if !p.anchored {
			continue
		}
		g := p.FindStringSubmatchIndex(window[at:])
		if g == nil {
			continue
		}
		host := ""
		if p.lead != nil {
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

// matches searches the window for the patterns without an anchor.
func (r *rule) matches(window string) (all []match) {
	for _, p := range r.patterns {
		if p.anchored {
			continue
		}
		for _, g := range p.FindAllStringSubmatchIndex(window, -1) {
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
