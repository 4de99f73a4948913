// Package secrets finds leaked credentials: keys, tokens and passwords that somebody committed.
//
// Two finders look at each text. gitleaks, as a library, knows the formats of some 200 providers. Our own
// rules know the forms that it passes over and that leak most: passwords in URLs, headers, assignments and
// the files that log in (.netrc, .pgpass). Each of ours is one file, rules/<id>/rule.yml, with its examples.
//
// Where several rules match one place, the most specific one names the finding. The severity says what the
// credential would open; the confidence says how sure we are that it is one. Hosts that only this machine
// resolves halve the confidence, and so do tests and fixtures for all but the formats of providers; neither hides
// anything: whether that is enough to block is a policy's decision.
//
// # Where they look
//
// In every file, whatever its name and encoding: an author chooses both. A name only keeps away the rules that
// guess, where they would guess wrong (lock files, third-party and minified code). Data that is no text is
// searched in its printable parts for the forms that leave no doubt. Not searched is what is compressed or
// encrypted: the inside of an archive, of a PDF's streams, of an image.
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
	"errors"
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
const version = "2"

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

// Reads implements audit.BlobAuditor. Every file is read: an author chooses its name. The key is the family of
// the file (configuration, YAML, …), whether its name says that it is full of noise (lock files, third-party and
// minified code), and whether it names tests.
func (a *Auditor) Reads(path string) (key string, ok bool) {
	key = placeOf(path).key()
	if a.byPath {
		key += ":" + path
	}
	return key, true
}

// MaxDrafts is how many findings of one file are listed, the graver ones first.
const MaxDrafts = 1_000

// ErrTooMany comes with the first MaxDrafts findings of a file that has more. Such a file is a gap and is looked
// at anew in each run, which takes a few seconds.
var ErrTooMany = errors.New("more than 1,000 findings in this file: the others are not listed")

// AuditBlob implements audit.BlobAuditor. What is not text is searched for the precise forms of secrets in what
// is printable of it; the insides of archives and of whatever else is compressed are not.
//
// An error means that the file was not searched to its end or that not all of its findings are listed: the
// context ended, the engine failed, or a file made to be slow was left alone (5 MiB take three seconds at most).
// The drafts found until then come back with it.
func (a *Auditor) AuditBlob(ctx context.Context, b audit.Blob) ([]finding.Draft, error) {
	p := placeOf(b.Path)
	var drafts []finding.Draft
	var failed error
	said := map[string]bool{} // what the views before found
	look := func(p place, v view) {
		found, err := a.search(ctx, p, v, b.Path)
		if err != nil && failed == nil {
			failed = fmt.Errorf("secrets: %w", err)
		}
		kept := a.choose(v.text, p, v.binary, found)
		fresh := slices.DeleteFunc(slices.Clone(kept), func(m match) bool { return said[m.secret] })
		for _, m := range kept {
			said[m.secret] = true
		}
		if len(fresh) > MaxDrafts {
			fresh = a.gravest(p, fresh)
			failed = ErrTooMany
		}
		drafts = append(drafts, a.draft(v.text, p, found, fresh, b.Seal)...)
	}
	if p.kind == keystore || keyStore(b.Bytes) {
		look(place{kind: keystore, test: p.test}, view{text: string(b.Bytes), binary: true})
		p.kind = anyText
	}
	for _, v := range views(b.Bytes) {
		if v.text != "" {
			look(p, v)
		}
	}
	if len(drafts) > MaxDrafts { // of two views
		drafts, failed = drafts[:MaxDrafts], ErrTooMany
	}
	return drafts, failed
}

// search lets both finders look at a text. With an error what they found until then comes back too.
func (a *Auditor) search(ctx context.Context, p place, v view, path string) ([]match, error) {
	found, err := a.own.in(p, v.binary).find(ctx, v.text)
	if p.kind == keystore || ctx.Err() != nil {
		return found, err
	}
	if !a.byPath {
		path = p.sample()
	}
	more, failed := a.finder.find(ctx, v.text, path, v.binary || p.noise == thirdParty)
	return append(found, more...), cmp.Or(failed, err)
}

// gravest gives the MaxDrafts gravest of matches, in their order.
func (a *Auditor) gravest(p place, ms []match) []match {
	slices.SortStableFunc(ms, func(x, y match) int {
		cx, cy := a.card(x.rule), a.card(y.rule)
		return cmp.Or(-cmp.Compare(cx.severity, cy.severity), -cmp.Compare(confidence(cx, x, p), confidence(cy, y, p)))
	})
	ms = ms[:MaxDrafts]
	slices.SortFunc(ms, func(x, y match) int { return cmp.Compare(x.start, y.start) })
	return ms
}

// confidence is the rule's, or half of it where the value or the place speaks against a live credential. A place
// does not speak against what a provider issued.
func confidence(c card, m match, p place) finding.Confidence {
	if m.doubt || p.test && !c.issued() {
		return c.confidence / 2
	}
	return c.confidence
}

// draft words the chosen of all matches that were found in a text.
func (a *Auditor) draft(text string, p place, found, chosen []match, seal audit.Seal) []finding.Draft {
	if len(chosen) == 0 {
		return nil
	}
	l := newLines(text)
	k := newMask(l, found)
	var drafts []finding.Draft
	for _, m := range chosen {
		c := a.card(m.rule)
		first, last := l.at(m.start), l.at(m.end-1)
		d := finding.Draft{
			Type:        "secrets/" + m.rule,
			Focus:       "security",
			Severity:    c.severity,
			Confidence:  confidence(c, m, p),
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
// engine's looser patterns take for a secret and is none, or guess where there is noise. What it drops stays
// masked.
func (a *Auditor) choose(text string, p place, binary bool, found []match) []match {
	var ms []match
	ranks := map[string]rank{}
	for _, m := range found {
		if m.rule == "" || m.end <= m.start {
			continue
		}
		c := a.card(m.rule)
		ranks[m.rule] = c.rank
		noisy := p.noise == minified && c.rank <= assignment || (binary || p.noise == thirdParty) && c.rank < specific
		if !noisy && !a.harmless(text, m) {
			ms = append(ms, m)
		}
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
		return placeholder(m.secret) || reference(m.secret) || weak(m.secret) || digest(m.secret) || statement(text, m)
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
