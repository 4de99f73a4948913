// Package policy is policy-as-code: it reads the documents in which an organisation writes down what it does
// not accept, and turns findings into a verdict under them.
//
//	# .noxaudit/policies.yml
//	version: 1                      # optional
//	policies:
//	  no-hardcoded-secrets:         # lower-case letters, digits and hyphens, at most 64
//	    focus: security             # one or a list; required unless types are given
//	    types: ["secrets/**"]       # globs over a finding's type
//	    paths: ["src/**", "!**/testdata/**"]   # globs from the root; "!" takes out, and wins
//	    action: block               # block, warn or report; required
//	    severity_minimum: high      # default info: all
//	    confidence_minimum: 0.9     # 0 to 1; default: 0.9 for a model's word in a policy that blocks, else 0
//	    evidence: [deterministic, corroborated]   # what acts in full; see Judge for the default
//	    scope: introduced           # introduced (default) or all
//	    on_error: block             # block, warn or report when an auditor failed; default: the action
//	    on_missing: ignore          # block, warn or ignore (default) when no auditor here decides it
//	    message: "Use the vault."   # shown to whom it stops
//	    rule: "No key in the code"  # the rule in words
//	    description: "…"            # why there is such a policy
//
// Load reads one document and is strict: what it does not know it refuses, with the place and a hint.
// Effective makes the Set of policies in force of one or more documents. Judge is the pure function from
// findings and a Set to a verdict; Replay repeats it and compares.
//
// # Patterns
//
// "*" stands for any characters within one part of a path, "?" for one of them, "**" alone between slashes
// for any number of parts, also none. A backslash takes "*", "?", "[", "]", "{", "}" or itself literally.
// Patterns match the whole path and care about case.
package policy

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/noxaudit/noxaudit/internal/canon"
	"github.com/noxaudit/noxaudit/internal/finding"
	"github.com/noxaudit/noxaudit/internal/name"
	"github.com/noxaudit/noxaudit/policy/verdict"
)

// Layer is where in the order of authority a document stands.
type Layer string

// The layers.
const (
	LayerBuiltin      Layer = "built-in"
	LayerOrganisation Layer = "organisation"
	LayerRepository   Layer = "repository"
	LayerFile         Layer = "file" // handed to the command line
)

// Origin is where a document was read. Commit tells people which revision it was; it is no part of any
// digest, because the blob already says what the bytes were.
type Origin struct {
	Layer  Layer       `json:"layer"`
	Path   string      `json:"path"`           // ".noxaudit/policies.yml"
	Blob   string      `json:"blob,omitempty"` // git object id, or canon.Digest of the bytes
	Commit name.Commit `json:"-"`
}

// Position is a place in a document. Both count from 1; columns count characters.
type Position struct {
	Line   int `json:"line"`
	Column int `json:"column"`
}

// Scope is which findings of a policy act.
type Scope string

// The scopes.
const (
	ScopeIntroduced Scope = "introduced" // only those that are not there at the base; the others are shown
	ScopeAll        Scope = "all"
)

// Policy is one rule of what is not accepted, with every default filled in.
type Policy struct {
	Name              string              `json:"name"`
	Description       string              `json:"description,omitempty"`
	Focus             []string            `json:"focus,omitempty"` // sorted; any of them; empty: any focus
	Types             []string            `json:"types,omitempty"` // sorted; any of them; empty: any type
	Paths             []string            `json:"paths,omitempty"` // sorted; their order means nothing
	Action            verdict.Action      `json:"action"`
	SeverityMinimum   finding.Severity    `json:"severity_minimum"`
	ConfidenceMinimum *finding.Confidence `json:"confidence_minimum,omitempty"` // nil where the document sets none; see Minimum
	Evidence          []finding.Evidence  `json:"evidence"`                     // sorted; what acts in full
	Scope             Scope               `json:"scope"`
	OnError           verdict.Effect      `json:"on_error"`
	OnGap             verdict.Effect      `json:"on_gap"` // of on_error where that is written, else a warning at most; no key of its own
	OnMissing         verdict.Effect      `json:"on_missing"`
	Message           string              `json:"message,omitempty"`
	Rule              string              `json:"rule,omitempty"`
	Origin            Origin              `json:"origin"`
	Position          Position            `json:"position"` // of the name
	Places            map[string]Position `json:"places"`   // where each key is written; a key that is not there has its default
}

// modelMinimum is the confidence from which a model's word alone may block, where the policy names no other.
const modelMinimum finding.Confidence = 900

// Minimum is the confidence from which a finding on evidence e acts in full.
func (p Policy) Minimum(e finding.Evidence) finding.Confidence {
	switch {
	case p.ConfidenceMinimum != nil:
		return *p.ConfidenceMinimum
	case e == finding.Model && p.Action == verdict.Block:
		return modelMinimum
	}
	return 0
}

func (p Policy) clone() Policy {
	p.Focus, p.Types, p.Paths, p.Evidence = slices.Clone(p.Focus), slices.Clone(p.Types), slices.Clone(p.Paths), slices.Clone(p.Evidence)
	if p.ConfidenceMinimum != nil {
		c := *p.ConfidenceMinimum
		p.ConfidenceMinimum = &c
	}
	places := make(map[string]Position, len(p.Places))
	for k, v := range p.Places {
		places[k] = v
	}
	p.Places = places
	return p
}

// Document is one file of policies as Load read it.
type Document struct {
	origin   Origin
	policies []Policy
}

// Origin is where the document was read.
func (d *Document) Origin() Origin { return d.origin }

// Policies returns the document's policies in the order of the file; they are the caller's own.
func (d *Document) Policies() []Policy { return cloneAll(d.policies) }

// setSchema is the first member of a set's canonical form.
const setSchema = "noxaudit.policy/1"

// Set is the effective policy: all policies in force, in order of their names. It is made by Effective or
// ParseSet and cannot be changed; the zero Set is none and Judge refuses it.
type Set struct {
	policies  []Policy
	canonical []byte
	digest    string
}

type setForm struct {
	Schema   string   `json:"schema"`
	Policies []Policy `json:"policies"`
}

// Effective makes the policy in force of documents, the layer of most authority first; nil documents are
// left out, and where none is left the built-in policies hold. A name belongs to the first document that
// has it: a later one adds policies and cannot loosen one.
func Effective(docs ...*Document) Set {
	docs = slices.DeleteFunc(slices.Clone(docs), func(d *Document) bool { return d == nil })
	if len(docs) == 0 {
		docs = []*Document{Builtin()}
	}
	var ps []Policy
	taken := map[string]bool{}
	for _, d := range docs {
		for _, p := range d.policies {
			if !taken[p.Name] {
				taken[p.Name] = true
				ps = append(ps, p.clone())
			}
		}
	}
	slices.SortFunc(ps, func(a, b Policy) int { return strings.Compare(a.Name, b.Name) })
	s, err := newSet(ps)
	if err != nil {
		// Load lets no value through that has no written form.
		panic(fmt.Sprintf("policy: a loaded document cannot be written: %v", err))
	}
	return s
}

func newSet(ps []Policy) (Set, error) {
	b, err := canon.Marshal(setForm{setSchema, ps})
	if err != nil {
		return Set{}, err
	}
	return Set{ps, b, canon.Digest(b)}, nil
}

// Policies returns the policies in order of their names; they are the caller's own.
func (s Set) Policies() []Policy { return cloneAll(s.policies) }

// Canonical is the set's one byte form. Do not change it.
func (s Set) Canonical() []byte { return s.canonical }

// Digest is the digest of the canonical form: it changes with every effective value, and with the blob and
// the place at which a value is written.
func (s Set) Digest() string { return s.digest }

// ParseSet reads what Set.Canonical wrote, so that a stored verdict can be judged again.
func ParseSet(b []byte) (Set, error) {
	var form setForm
	if err := canon.Unmarshal(b, &form); err != nil {
		return Set{}, fmt.Errorf("policy set: %w", err)
	}
	if form.Schema != setSchema {
		return Set{}, fmt.Errorf("policy set: schema %q: this program reads %q", clip(form.Schema), setSchema)
	}
	if len(form.Policies) == 0 {
		return Set{}, errors.New("policy set: no policies")
	}
	for i, p := range form.Policies {
		if err := p.check(); err != nil {
			return Set{}, fmt.Errorf("policy set: %q: %w", clip(p.Name), err)
		}
		if i > 0 && form.Policies[i-1].Name >= p.Name {
			return Set{}, fmt.Errorf("policy set: %q is out of order", clip(p.Name))
		}
	}
	s, err := newSet(form.Policies)
	if err != nil {
		return Set{}, fmt.Errorf("policy set: %w", err)
	}
	if !bytes.Equal(s.canonical, b) {
		return Set{}, errors.New("policy set: not in canonical form")
	}
	return s, nil
}

// check holds a policy of a stored set to what Load would have made.
func (p Policy) check() error {
	if why := nameProblem(p.Name); why != "" {
		return errors.New("name " + why)
	}
	if len(p.Focus) == 0 && len(p.Types) == 0 {
		return errors.New("neither focus nor types")
	}
	if _, err := compileMatcher(p); err != nil {
		return err
	}
	if !slices.IsSorted(p.Focus) || !slices.IsSorted(p.Types) || !slices.IsSorted(p.Paths) || !slices.IsSorted(p.Evidence) {
		return errors.New("a list is out of order")
	}
	if !slices.Contains(actions, p.Action) {
		return fmt.Errorf("action %q", clip(string(p.Action)))
	}
	if p.Scope != ScopeIntroduced && p.Scope != ScopeAll {
		return fmt.Errorf("scope %q", clip(string(p.Scope)))
	}
	if len(p.Evidence) == 0 {
		return errors.New("no evidence")
	}
	for _, e := range p.Evidence {
		if _, err := finding.ParseEvidence(string(e)); err != nil {
			return err
		}
	}
	for _, e := range []verdict.Effect{p.OnError, p.OnGap, p.OnMissing} {
		if e != verdict.EffectBlock && e != verdict.EffectWarn && e != verdict.EffectNone {
			return fmt.Errorf("effect %q", clip(string(e)))
		}
	}
	if !slices.Contains(layers, p.Origin.Layer) || p.Origin.Path == "" || p.Position.Line < 1 {
		return errors.New("origin or position is missing")
	}
	return nil
}

var (
	actions = []verdict.Action{verdict.Block, verdict.Warn, verdict.Report}
	layers  = []Layer{LayerBuiltin, LayerOrganisation, LayerRepository, LayerFile}
)

func cloneAll(ps []Policy) []Policy {
	out := make([]Policy, len(ps))
	for i, p := range ps {
		out[i] = p.clone()
	}
	return out
}

func clip(s string) string {
	const most = 60
	if len(s) <= most {
		return s
	}
	return strings.ToValidUTF8(s[:most], "") + "…"
}
