// Package secrets finds leaked credentials: keys, tokens and passwords that somebody committed.
//
// Two finders look at each text. gitleaks, as a library, knows the formats of some 200 providers. Our own
// rules know the forms that it passes over and that leak most: passwords in URLs, headers, assignments and
// the files that log in (.netrc, .pgpass). Each of ours is one file, rules/<id>/rule.yml, with its examples.
//
// Where several rules match one place, the most specific one names the finding. The severity says what the
// credential would open; the confidence says how sure we are that it is one. Tests, fixtures and hosts that
// only this machine resolves halve the confidence and hide nothing: whether that is enough to block is a
// policy's decision.
//
// # What a secret may touch
//
// A secret leaves this package as Draft.Content, a keyed digest, and in no other form. The context of a
// finding is its line with every secret of the file masked, in whatever encoding it stands there.
//
// # Who may silence it
//
// Nobody from inside the code under audit: "gitleaks:allow" comments, .gitleaksignore and .gitleaks.toml in
// a tree are not read. An operator may add and disable rules (Options.Extra); people waive findings.
package secrets

import (
	"cmp"
	"context"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"sync"

	"github.com/noxaudit/noxaudit/checks/audit"
	"github.com/noxaudit/noxaudit/internal/canon"
	"github.com/noxaudit/noxaudit/internal/finding"
	gitleaks "github.com/zricethezav/gitleaks/v8/config"
)

// Options are an operator's, never a repository's.
type Options struct {
	// Extra holds rules in gitleaks' TOML form. They extend the built-in ones as useDefault does there: a rule
	// of a known id changes it, allowlists add to the others, extend.disabledRules takes rules away, gitleaks' and ours. At most
	// 1 MiB; extend.path and extend.url are refused. Where it looks at paths, results are no longer shared
	// between paths.
	Extra []byte
}

// Auditor implements audit.BlobAuditor. Its methods may be called from several goroutines.
type Auditor struct {
	own    rules
	engine *engine
	byPath bool // operator's rules look at paths
	config string
	finder finder // the engine, unless a test puts another in its place
}

// version changes whenever equal input could give other results.
const version = "1"

// own are the built-in rules, loaded once; they are part of the program, so a fault in them is ours.
var own = sync.OnceValue(func() rules {
	rs, err := loadRules(ruleFiles)
	if err != nil {
		panic("secrets: " + err.Error())
	}
	return rs
})

// New returns the auditor. The error, a sentence for the operator, is about Options.Extra.
//
// Without Extra it costs nothing until the first text is looked at, which then compiles the engine's rules
// once per process (0.6 s of CPU); with Extra they are compiled here.
func New(o Options) (*Auditor, error) {
	a := &Auditor{own: own()}
	var extra *gitleaks.ViperConfig
	if len(o.Extra) > 0 {
		var err error
		if extra, err = parseExtra(o.Extra); err != nil {
			return nil, fmt.Errorf("secret rules: %w", err)
		}
		if a.own, err = a.own.without(extra); err != nil {
			return nil, fmt.Errorf("secret rules: %w", err)
		}
		_, paths := expressions(extra)
		a.byPath = len(paths) > 0
	}
	e, err := newEngine(extra)
	if err != nil {
		return nil, fmt.Errorf("secret rules: %w", err)
	}
	a.engine, a.finder = e, e
	if a.config, err = configDigest(o); err != nil {
		return nil, fmt.Errorf("secret rules: %w", err)
	}
	return a, nil
}

// without gives the rules that an operator left enabled. The operator's own may not take an id of ours.
func (rs rules) without(extra *gitleaks.ViperConfig) (rules, error) {
	for _, r := range extra.Rules {
		if slices.ContainsFunc(rs, func(own *rule) bool { return own.ID == r.ID }) {
			return nil, fmt.Errorf("rule id %q is built in and not gitleaks': disable it and choose another id", r.ID)
		}
	}
	var kept rules
	for _, r := range rs {
		if !slices.Contains(extra.Extend.DisabledRules, r.ID) {
			kept = append(kept, r)
		}
	}
	return kept, nil
}

// configDigest covers everything besides our code that results depend on.
func configDigest(o Options) (string, error) {
	c := struct {
		Engine string            `json:"engine"`
		Rules  string            `json:"rules"`
		Own    map[string]string `json:"own"`
		Extra  string            `json:"extra,omitempty"`
	}{Engine: "gitleaks " + engineVersion, Rules: canon.Digest([]byte(gitleaks.DefaultConfig)), Own: map[string]string{}}
	if len(o.Extra) > 0 {
		c.Extra = canon.Digest(o.Extra)
	}
	for _, r := range own() {
		src, err := fs.ReadFile(ruleFiles, "rules/"+r.ID+"/rule.yml")
		if err != nil {
			return "", err
		}
		c.Own[r.ID] = canon.Digest(src)
	}
	b, err := canon.Marshal(c)
	if err != nil {
		return "", err
	}
	return canon.Digest(b), nil
}

// Info implements audit.Auditor.
func (a *Auditor) Info() audit.Info {
	return audit.Info{
		Name:    "secrets",
		Version: version,
		Config:  a.config,
		Focus:   []string{"security"},
		Title:   "Leaked credentials: keys, tokens and passwords in the code",
	}
}

// Reads implements audit.BlobAuditor. The key is the family of the file (configuration, YAML, lock file, …)
// and whether the path names tests; pictures, fonts, archives and compiled code are not read.
func (a *Auditor) Reads(path string) (key string, ok bool) {
	p, ok := placeOf(path)
	if !ok {
		return "", false
	}
	if a.byPath {
		return p.key() + ":" + path, true
	}
	return p.key(), true
}

// AuditBlob implements audit.BlobAuditor. Binary content has no drafts. An error means that the text was not
// searched to its end: the context ended, or the engine failed.
func (a *Auditor) AuditBlob(ctx context.Context, b audit.Blob) ([]finding.Draft, error) {
	p, ok := placeOf(b.Path)
	if !ok {
		return nil, nil
	}
	text, ok := textOf(b.Bytes)
	if p.kind == keystore {
		text, ok = string(b.Bytes), true
	}
	if !ok || text == "" {
		return nil, nil
	}
	found, err := a.own.in(p).find(ctx, text)
	if err != nil {
		return nil, fmt.Errorf("secrets: %w", err)
	}
	if p.kind != thirdParty && p.kind != keystore {
		path := p.sample()
		if a.byPath {
			path = b.Path
		}
		more, err := a.finder.find(ctx, text, path)
		if err != nil {
			return nil, fmt.Errorf("secrets: %w", err)
		}
		found = append(found, more...)
	}
	if len(found) == 0 {
		return nil, nil
	}
	return a.draft(text, p, found, b.Seal), nil
}

func (a *Auditor) draft(text string, p place, found []match, seal audit.Seal) []finding.Draft {
	l := newLines(text)
	k := newMask(l, found)
	var drafts []finding.Draft
	for _, m := range a.choose(text, found) {
		c := a.card(m.rule)
		if p.kind == minified && c.rank == generic {
			continue
		}
		if m.doubt || p.test {
			c.confidence /= 2
		}
		first, last := l.at(m.start), l.at(m.end-1)
		d := finding.Draft{
			Type:        "secrets/" + m.rule,
			Focus:       "security",
			Severity:    c.severity,
			Confidence:  c.confidence,
			Evidence:    finding.Deterministic,
			Title:       c.title,
			Message:     c.message,
			Remediation: c.remediation,
			Region: finding.Region{
				StartLine: first + 1, StartColumn: m.start - l.starts[first] + 1,
				EndLine: last + 1, EndColumn: m.end - l.starts[last] + 1,
			},
			CWE:     c.cwe,
			Context: k.context(m),
			Content: seal([]byte(m.secret)),
		}
		drafts = append(drafts, d)
	}
	return drafts
}

// choose keeps of overlapping matches the one of the highest rank, then the longest, and drops what the
// engine's looser patterns take for a secret and is none. What it drops stays masked.
func (a *Auditor) choose(text string, found []match) []match {
	var ms []match
	for _, m := range found {
		if m.rule != "" && m.end > m.start && !a.harmless(text, m) {
			ms = append(ms, m)
		}
	}
	ranks := map[string]rank{}
	for _, m := range ms {
		ranks[m.rule] = a.card(m.rule).rank
	}
	slices.SortFunc(ms, func(x, y match) int {
		return cmp.Or(
			-cmp.Compare(ranks[x.rule], ranks[y.rule]),
			-cmp.Compare(x.end-x.start, y.end-y.start),
			cmp.Compare(x.start, y.start),
			strings.Compare(x.rule, y.rule),
			strings.Compare(x.secret, y.secret),
		)
	})
	taken := make([]bool, len(text))
	kept := ms[:0]
	for _, m := range ms {
		if slices.Contains(taken[m.start:m.end], true) {
			continue
		}
		for i := m.start; i < m.end; i++ {
			taken[i] = true
		}
		kept = append(kept, m)
	}
	slices.SortFunc(kept, func(x, y match) int { return cmp.Compare(x.start, y.start) })
	return kept
}

// card is what findings of a rule say.
func (a *Auditor) card(id string) card {
	for _, r := range a.own {
		if r.ID == id {
			return r.card
		}
	}
	return a.engine.card(id)
}

// harmless refuses matches of the engine that are placeholders, digests, or keys without a key.
func (a *Auditor) harmless(text string, m match) bool {
	if slices.ContainsFunc(a.own, func(r *rule) bool { return r.ID == m.rule }) {
		return false
	}
	if isPublished(m.secret) || m.secret == text[m.start:m.end] && embedded(text, m) {
		return true
	}
	switch m.rule {
	case "private-key":
		return emptyKey(m.secret)
	case "generic-api-key":
		return placeholder(m.secret) || reference(m.secret) || weak(m.secret) || digest(m.secret)
	case "vault-service-token":
		// Tokens before Vault 1.10 are "s." and 24 letters and digits, which is also a field of s in any language.
		legacy, ok := strings.CutPrefix(m.secret, "s.")
		return ok && (prose(legacy) || spelled(legacy))
	case "curl-auth-user":
		_, password, _ := strings.Cut(strings.Trim(m.secret, `"'`), ":")
		password = strings.Trim(password, `"'`)
		return len(password) < 4 || placeholder(password) || reference(password)
	}
	c := a.card(m.rule)
	return c.loose && (placeholder(m.secret) || reference(m.secret) || c.rank == provider && weak(m.secret))
}
