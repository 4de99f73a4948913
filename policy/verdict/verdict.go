// Package verdict holds the third noun of the product: everything that it decides. A verdict says of one
// state of one repository whether it passes or is blocked, policy by policy, and from which inputs that
// follows. It is made by policy.Judge alone and is a pure function of those inputs.
//
// # Form
//
// A verdict is one JSON object of schema "noxaudit.verdict/1" (see Schema) in canonical form: no white
// space, members in the order of the Go fields, lists in the order Judge gives them. Its digest is the
// SHA-256 of these bytes; the id that people read, "V-" and eight characters of Crockford's base 32, is a
// prefix of the digest. Equal inputs give equal bytes, so a stored verdict can be recomputed and compared
// (policy.Replay).
//
// Texts in a verdict come from outside or quote it (file names, messages of policies, reasons of auditors):
// whoever shows them escapes them.
package verdict

import (
	"bytes"
	_ "embed"
	"encoding/base32"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/noxaudit/noxaudit/internal/canon"
	"github.com/noxaudit/noxaudit/internal/finding"
	"github.com/noxaudit/noxaudit/internal/name"
)

// SchemaName is the first member of every verdict. Its number changes whenever the form does.
const SchemaName = "noxaudit.verdict/1"

// Schema is the JSON Schema (draft 2020-12) of a verdict.
//
//go:embed schema.json
var Schema string

// MaxRefs is how many findings or gaps a list of a verdict names at most, the most severe first; the counts
// beside it are always complete. The findings digest leads to all of them.
const MaxRefs = 200

// Verdict is what was decided about one state of one repository.
type Verdict struct {
	Schema      string     `json:"schema"` // SchemaName
	Conclusion  Conclusion `json:"conclusion"`
	Subject     Subject    `json:"subject"`
	Inputs      Inputs     `json:"inputs"`
	Policies    []Result   `json:"policies"` // in the order of the effective policy: by name
	Counts      Counts     `json:"counts"`
	NotAssessed []Gap      `json:"notAssessed"` // what no auditor could look at, whether or not a policy asks for it; at most MaxRefs
}

// Conclusion is the answer of the gate.
type Conclusion string

// The conclusions. There is no third: what could not be assessed blocks or passes as the policy says.
const (
	Pass    Conclusion = "pass"
	Blocked Conclusion = "block"
)

// Subject is what was judged.
type Subject struct {
	Account    string      `json:"account"` // as name.Account writes it
	Repository Repository  `json:"repository"`
	Head       name.Commit `json:"head,omitzero"` // zero only for a working tree
	Base       name.Commit `json:"base,omitzero"` // zero when everything is in scope
	Tree       string      `json:"tree"`          // the id of the snapshot that was audited
	Context    Context     `json:"context"`
	Pull       int         `json:"pull,omitempty"` // number of the pull request, where the context is one
}

// Repository is the repository of a subject; ID is the key, FullName what people read.
type Repository struct {
	ID       string `json:"id"`
	FullName string `json:"fullName"`
}

// Context is why a state was judged.
type Context string

// The contexts.
const (
	Push        Context = "push"
	PullRequest Context = "pull_request"
	MergeGroup  Context = "merge_group"
	Local       Context = "local" // the command line
)

// Check tells what is wrong with a subject, or nil.
func (s Subject) Check() error {
	if _, err := name.ParseAccount(s.Account); err != nil {
		return err
	}
	switch {
	case s.Repository.ID == "":
		return errors.New("subject: no repository id")
	case s.Tree == "":
		return errors.New("subject: no tree id")
	case s.Pull < 0 || s.Pull > 0 && s.Context != PullRequest:
		return fmt.Errorf("subject: pull request %d in context %q", s.Pull, s.Context)
	}
	switch s.Context {
	case Local:
	case Push, PullRequest, MergeGroup:
		if s.Head.IsZero() {
			return fmt.Errorf("subject: no head commit; context %q has one", s.Context)
		}
	default:
		return fmt.Errorf("subject: context %q: want push, pull_request, merge_group or local", s.Context)
	}
	return nil
}

// Inputs are what a verdict follows from: four documents by the digest of their canonical form, one time
// and the engine that judged.
type Inputs struct {
	Findings    string `json:"findings"`    // of finding.Canonical
	Policy      string `json:"policy"`      // of policy.Set
	Assessments string `json:"assessments"` // of policy.CanonicalAssessments
	Waivers     string `json:"waivers"`     // of the waivers taken into account
	Time        string `json:"time"`        // of the event, as FormatTime writes it
	Engine      string `json:"engine"`      // version of the program that judged
}

const timeLayout = "2006-01-02T15:04:05.000000Z"

// FormatTime writes t as verdicts carry it: RFC 3339, UTC, exactly six decimals; finer parts are cut off.
func FormatTime(t time.Time) string { return t.UTC().Format(timeLayout) }

// Action is what a policy does about a finding that violates it.
type Action string

// The actions, the strongest first.
const (
	Block  Action = "block"  // the check fails and the change cannot merge
	Warn   Action = "warn"   // the check passes and says so
	Report Action = "report" // recorded and shown in reports only
)

// Outcome is what became of one policy.
type Outcome string

// The outcomes, one per policy. The first that applies is taken.
const (
	OutcomeBlocked     Outcome = "blocked"      // a finding blocks
	OutcomeError       Outcome = "error"        // an auditor that decides the policy failed, or could not read what changed and the policy insists
	OutcomeWarned      Outcome = "warned"       // a finding, or a changed file that could not be assessed, is a warning
	OutcomeNotAssessed Outcome = "not-assessed" // no auditor here decides the policy
	OutcomeWaived      Outcome = "waived"       // what would act is waived, and nothing else acts
	OutcomeReported    Outcome = "reported"     // findings are recorded
	OutcomePassed      Outcome = "passed"       // nothing acts
)

// Effect is what a policy contributes to the conclusion.
type Effect string

// The effects. One policy whose effect is to block makes the conclusion block.
const (
	EffectBlock Effect = "block"
	EffectWarn  Effect = "warn"
	EffectNone  Effect = "none"
)

// Result is one policy's part of a verdict.
type Result struct {
	Name        string   `json:"name"`
	Action      Action   `json:"action"`
	Outcome     Outcome  `json:"outcome"`
	Effect      Effect   `json:"effect"`
	Reason      string   `json:"reason"` // why, in whole sentences
	Description string   `json:"description,omitempty"`
	Message     string   `json:"message,omitempty"` // what the policy's author says to whom it stops
	Rule        string   `json:"rule,omitempty"`    // the rule in words
	Origin      Origin   `json:"origin"`
	DecidedBy   []string `json:"decidedBy,omitempty"` // the auditors that decide it, sorted; none: not assessed
	Blocking    []Ref    `json:"blocking,omitempty"`  // at most MaxRefs; Counts.Blocking is complete
	Warning     []Ref    `json:"warning,omitempty"`   // at most MaxRefs; Counts.Warning is complete
	Waived      []Ref    `json:"waived,omitempty"`    // would block or warn but for a waiver; at most MaxRefs; Counts.Waived is complete
	Gaps        []Gap    `json:"gaps,omitempty"`      // what its auditors could not look at; at most MaxRefs
	Counts      Tally    `json:"counts"`
}

// ReservedPrefix begins the names of the policies that always hold, the floor, and of no others.
const ReservedPrefix = "noxaudit-"

// Waivable reports whether people may waive what the policy objects to: the floor holds always.
func (r Result) Waivable() bool { return !strings.HasPrefix(r.Name, ReservedPrefix) }

// Origin is where a policy is written.
type Origin struct {
	Layer string `json:"layer"`          // "built-in", "organisation", "repository" or "file"
	Path  string `json:"path"`           // ".noxaudit/policies.yml"
	Blob  string `json:"blob,omitempty"` // object id or digest of the file's bytes
	Line  int    `json:"line"`           // of the policy's name, from 1
}

// Ref names a finding that acts.
type Ref struct {
	ID          string           `json:"id"`
	Fingerprint string           `json:"fingerprint"`
	Content     string           `json:"content,omitempty"`
	Type        string           `json:"type"`
	Severity    finding.Severity `json:"severity"`
	Path        string           `json:"path,omitempty"` // empty for the repository as a whole
	Line        int              `json:"line,omitempty"`
	Introduced  bool             `json:"introduced"`
	Reason      string           `json:"reason,omitempty"` // why it acts one step lower than its policy
	Waiver      string           `json:"waiver,omitempty"` // id of the waiver that covers it: of a waived one only
}

// Gap is something that an auditor could not look at.
type Gap struct {
	Auditor    string `json:"auditor"`
	Path       string `json:"path,omitempty"` // empty: the auditor as a whole
	Reason     string `json:"reason"`
	Introduced bool   `json:"introduced"` // the file is new or changed
}

// Tally counts the findings of one policy. Introduced and Existing divide Matched without BelowSeverity;
// Blocking, Warning, Waived and Reported divide what acts of them, or would but for a waiver.
type Tally struct {
	Matched         int `json:"matched"`         // selected by focus, type and path
	BelowSeverity   int `json:"belowSeverity"`   // less severe than the policy asks
	Introduced      int `json:"introduced"`      // severe enough, not there at the base
	Existing        int `json:"existing"`        // severe enough, there at the base; acts only under scope "all"
	BelowConfidence int `json:"belowConfidence"` // acts one step lower for its confidence
	OtherEvidence   int `json:"otherEvidence"`   // acts one step lower for its evidence
	Blocking        int `json:"blocking"`
	Warning         int `json:"warning"`
	Reported        int `json:"reported"`
	Waived          int `json:"waived,omitempty"` // would block or warn
	Gaps            int `json:"gaps"`
}

// Counts are about all findings and gaps, whether or not a policy asks for them.
type Counts struct {
	Findings      BySeverity `json:"findings"`
	Introduced    BySeverity `json:"introduced"`
	UnderNoPolicy int        `json:"underNoPolicy"` // findings that no policy selects
	NotAssessed   int        `json:"notAssessed"`   // complete, where the list is cut
}

// BySeverity is a number of findings per severity.
type BySeverity struct {
	Critical int `json:"critical"`
	High     int `json:"high"`
	Medium   int `json:"medium"`
	Low      int `json:"low"`
	Info     int `json:"info"`
}

// Add counts one finding of severity s.
func (b *BySeverity) Add(s finding.Severity) {
	switch s {
	case finding.Critical:
		b.Critical++
	case finding.High:
		b.High++
	case finding.Medium:
		b.Medium++
	case finding.Low:
		b.Low++
	case finding.Info:
		b.Info++
	}
}

// Total is the sum over all severities.
func (b BySeverity) Total() int { return b.Critical + b.High + b.Medium + b.Low + b.Info }

// Waiver is what a verdict takes into account of a waiver: which one exactly, which finding it covers, and until when.
type Waiver struct {
	ID          string `json:"id"`                // "W-…"
	Digest      string `json:"digest"`            // of its content
	Fingerprint string `json:"fingerprint"`       // of the finding
	Content     string `json:"content,omitempty"` // of the finding; empty covers only one without
	Kind        string `json:"kind"`
	Until       string `json:"until"` // its last moment, as FormatTime writes it
}

// Canonical is the one byte form of a verdict. It does not check it: ParseCanonical does.
func (v Verdict) Canonical() ([]byte, error) {
	// A nil list and an empty one are the same verdict.
	if v.Policies == nil {
		v.Policies = []Result{}
	}
	if v.NotAssessed == nil {
		v.NotAssessed = []Gap{}
	}
	b, err := canon.Marshal(v)
	if err != nil {
		return nil, fmt.Errorf("verdict: %w", err)
	}
	return b, nil
}

// Digest is the digest of the canonical form.
func (v Verdict) Digest() (string, error) {
	b, err := v.Canonical()
	if err != nil {
		return "", err
	}
	return canon.Digest(b), nil
}

var crockford = base32.NewEncoding("0123456789ABCDEFGHJKMNPQRSTVWXYZ").WithPadding(base32.NoPadding)

// ID is the short human form of a verdict's digest: "V-" and its first 40 bits in Crockford's base 32. It
// is empty when digest is none.
func ID(digest string) string {
	raw, err := hex.DecodeString(strings.TrimPrefix(digest, "sha256:"))
	if err != nil || len(raw) != 32 {
		return ""
	}
	return "V-" + crockford.EncodeToString(raw[:5])
}

// ErrForm is wrapped by every error of ParseCanonical.
var ErrForm = errors.New("not a verdict in canonical form")

// ParseCanonical reads what Canonical wrote. It refuses any other bytes of the same meaning, words that no
// verdict holds, and a conclusion that does not follow from the policies' effects.
func ParseCanonical(b []byte) (Verdict, error) {
	var v Verdict
	if err := canon.Unmarshal(b, &v); err != nil {
		return Verdict{}, fmt.Errorf("%w: %w", ErrForm, err)
	}
	again, err := v.Canonical()
	if err != nil {
		return Verdict{}, fmt.Errorf("%w: %w", ErrForm, err)
	}
	if !bytes.Equal(b, again) {
		return Verdict{}, fmt.Errorf("%w: the bytes are not those that their meaning is written with", ErrForm)
	}
	if err := v.check(); err != nil {
		return Verdict{}, fmt.Errorf("%w: %w", ErrForm, err)
	}
	return v, nil
}

func (v Verdict) check() error {
	if v.Schema != SchemaName {
		return fmt.Errorf("schema %q: this program reads %q", clip(v.Schema), SchemaName)
	}
	if err := v.Subject.Check(); err != nil {
		return err
	}
	if err := v.Inputs.check(); err != nil {
		return err
	}
	conclusion := Pass
	for i, r := range v.Policies {
		if err := r.check(); err != nil {
			return fmt.Errorf("policy %d: %w", i, err)
		}
		if r.Effect == EffectBlock {
			conclusion = Blocked
		}
	}
	if v.Conclusion != conclusion {
		return fmt.Errorf("conclusion %q does not follow from the policies: want %q", clip(string(v.Conclusion)), conclusion)
	}
	if len(v.NotAssessed) > MaxRefs {
		return fmt.Errorf("notAssessed: more than %d entries", MaxRefs)
	}
	c := v.Counts
	return notNegative(c.Findings.Critical, c.Findings.High, c.Findings.Medium, c.Findings.Low, c.Findings.Info,
		c.Introduced.Critical, c.Introduced.High, c.Introduced.Medium, c.Introduced.Low, c.Introduced.Info,
		c.UnderNoPolicy, c.NotAssessed)
}

func (in Inputs) check() error {
	for _, d := range []string{in.Findings, in.Policy, in.Assessments, in.Waivers} {
		if ID(d) == "" || !strings.HasPrefix(d, "sha256:") || d != strings.ToLower(d) {
			return fmt.Errorf("inputs: %q is no digest", clip(d))
		}
	}
	t, err := time.Parse(timeLayout, in.Time)
	if err != nil || FormatTime(t) != in.Time {
		return fmt.Errorf("inputs: time %q: want RFC 3339 in UTC with six decimals", clip(in.Time))
	}
	if in.Engine == "" {
		return errors.New("inputs: no engine version")
	}
	return nil
}

func (r Result) check() error {
	switch r.Action {
	case Block, Warn, Report:
	default:
		return fmt.Errorf("action %q does not exist", clip(string(r.Action)))
	}
	switch r.Outcome {
	case OutcomeBlocked, OutcomeError, OutcomeWarned, OutcomeNotAssessed, OutcomeWaived, OutcomeReported, OutcomePassed:
	default:
		return fmt.Errorf("outcome %q does not exist", clip(string(r.Outcome)))
	}
	switch r.Effect {
	case EffectBlock, EffectWarn, EffectNone:
	default:
		return fmt.Errorf("effect %q does not exist", clip(string(r.Effect)))
	}
	if r.Name == "" || r.Reason == "" || r.Origin.Line < 1 {
		return errors.New("name, reason or line is missing")
	}
	if r.Outcome == OutcomeBlocked && r.Effect != EffectBlock {
		return fmt.Errorf("outcome %q with effect %q", r.Outcome, r.Effect)
	}
	if len(r.Blocking) > MaxRefs || len(r.Warning) > MaxRefs || len(r.Waived) > MaxRefs || len(r.Gaps) > MaxRefs {
		return fmt.Errorf("more than %d entries in a list", MaxRefs)
	}
	c := r.Counts
	return notNegative(c.Matched, c.BelowSeverity, c.Introduced, c.Existing, c.BelowConfidence, c.OtherEvidence,
		c.Blocking-len(r.Blocking), c.Warning-len(r.Warning), c.Waived-len(r.Waived), c.Reported, c.Gaps-len(r.Gaps))
}

// notNegative also holds the complete counts against the lists that name a part of them.
func notNegative(ns ...int) error {
	for _, n := range ns {
		if n < 0 {
			return errors.New("a count is negative or smaller than its list")
		}
	}
	return nil
}

func clip(s string) string {
	const most = 60
	if len(s) <= most {
		return s
	}
	return strings.ToValidUTF8(s[:most], "") + "…"
}
