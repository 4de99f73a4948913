package policy

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/santhosh-tekuri/jsonschema/v6"
	"pgregory.net/rapid"

	"github.com/noxaudit/noxaudit/internal/canon"
	"github.com/noxaudit/noxaudit/internal/finding"
	"github.com/noxaudit/noxaudit/internal/name"
	"github.com/noxaudit/noxaudit/policy/verdict"
)

var eventTime = time.Date(2026, 3, 4, 5, 6, 7, 891234567, time.UTC)

func commit(digit string) name.Commit {
	c, err := name.ParseCommit(strings.Repeat(digit, 40))
	if err != nil {
		panic(err)
	}
	return c
}

// input is a pull request judged under the policies of src.
func input(t testing.TB, src string, fs []finding.Finding, as ...Assessment) Input {
	return Input{
		Subject: verdict.Subject{
			Account:    "583231",
			Repository: verdict.Repository{ID: "1296269", FullName: "octo-org/payments"},
			Head:       commit("a"),
			Base:       commit("b"),
			Tree:       strings.Repeat("c", 40),
			Context:    verdict.PullRequest,
			Pull:       7,
		},
		Findings:    fs,
		Policy:      Effective(mustLoad(t, src)),
		Assessments: as,
		Time:        eventTime,
		Engine:      "1.2.3",
	}
}

// one makes a finding of focus security, high, certain, deterministic and introduced, and then changes it.
func one(typ, path string, changes ...func(*finding.Finding)) finding.Finding {
	auditor, _, _ := strings.Cut(typ, "/")
	f := finding.Assemble(auditor, path, []finding.Draft{{
		Type: typ, Focus: "security", Severity: finding.High, Confidence: finding.Certain, Evidence: finding.Deterministic,
		Title: "A " + typ, Context: "the line in " + path, Region: finding.Region{StartLine: 3},
	}})[0]
	for _, c := range changes {
		c(&f)
	}
	return f
}

func severity(s finding.Severity) func(*finding.Finding) {
	return func(f *finding.Finding) { f.Severity = s }
}
func evidence(e finding.Evidence, c finding.Confidence) func(*finding.Finding) {
	return func(f *finding.Finding) { f.Evidence, f.Confidence = e, c }
}
func focus(s string) func(*finding.Finding) { return func(f *finding.Finding) { f.Focus = s } }
func existing(f *finding.Finding)           { f.Introduced = false }

func ran(auditor string, outcome Outcome, gaps ...Gap) Assessment {
	a := Assessment{Auditor: auditor, Version: "1", Focus: []string{"security"}, Outcome: outcome, Gaps: gaps}
	if outcome == NotAssessed {
		a.Reason = "timed out"
	}
	return a
}

func judge(t testing.TB, in Input) verdict.Verdict {
	t.Helper()
	v, err := Judge(in)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func canonical(t testing.TB, v verdict.Verdict) []byte {
	t.Helper()
	b, err := v.Canonical()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestJudgeOnePolicy(t *testing.T) {
	key := one("secrets/aws-access-token", "src/a.go")
	clean := ran("secrets", Clean)
	hits := ran("secrets", Found)
	model := func(c finding.Confidence) finding.Finding {
		return one("review/injection", "src/b.go", evidence(finding.Model, c))
	}
	gap := Gap{Path: "src/big.bin", Reason: "larger than 5 MiB", Introduced: true}
	oldGap := Gap{Path: "src/big.bin", Reason: "larger than 5 MiB"}

	for _, c := range []struct {
		name     string
		keys     string // besides focus: security
		findings []finding.Finding
		assessed []Assessment
		outcome  verdict.Outcome
		effect   verdict.Effect
		reason   string
		tally    verdict.Tally
	}{
		{
			name: "a finding under block blocks", keys: "action: block",
			findings: []finding.Finding{key}, assessed: []Assessment{hits},
			outcome: verdict.OutcomeBlocked, effect: verdict.EffectBlock,
			reason: "1 introduced finding blocks.",
			tally:  verdict.Tally{Matched: 1, Introduced: 1, Blocking: 1},
		},
		{
			name: "a finding under warn is a warning", keys: "action: warn",
			findings: []finding.Finding{key}, assessed: []Assessment{hits},
			outcome: verdict.OutcomeWarned, effect: verdict.EffectWarn,
			reason: "1 introduced finding is a warning.",
			tally:  verdict.Tally{Matched: 1, Introduced: 1, Warning: 1},
		},
		{
			name: "a finding under report is recorded only", keys: "action: report",
			findings: []finding.Finding{key}, assessed: []Assessment{hits},
			outcome: verdict.OutcomeReported, effect: verdict.EffectNone,
			reason: "1 introduced finding is reported.",
			tally:  verdict.Tally{Matched: 1, Introduced: 1, Reported: 1},
		},
		{
			name: "nothing found passes", keys: "action: block\n    severity_minimum: high", assessed: []Assessment{clean},
			outcome: verdict.OutcomePassed, effect: verdict.EffectNone,
			reason: "No introduced finding of severity high or above.",
		},
		{
			name: "nothing to look at passes and says so", keys: "action: block", assessed: []Assessment{ran("secrets", NotApplicable)},
			outcome: verdict.OutcomePassed, effect: verdict.EffectNone,
			reason: "There is nothing here that it is about.",
		},
		{
			name: "another focus is not selected", keys: "action: block",
			findings: []finding.Finding{one("docs/readme", "README.md", focus("docs"))}, assessed: []Assessment{clean},
			outcome: verdict.OutcomePassed, effect: verdict.EffectNone,
		},
		{
			name: "another type is not selected", keys: "action: block\n    types: [\"secrets/**\"]",
			findings: []finding.Finding{key, one("sast/xss", "src/a.go")}, assessed: []Assessment{hits},
			outcome: verdict.OutcomeBlocked, effect: verdict.EffectBlock,
			tally: verdict.Tally{Matched: 1, Introduced: 1, Blocking: 1},
		},
		{
			name: "another path is not selected and an exclusion wins", keys: "action: block\n    paths: [\"!**/testdata/**\", \"src/**\"]",
			findings: []finding.Finding{one("secrets/a", "lib/a.go"), one("secrets/a", "src/testdata/a"), one("secrets/a", "src/a")},
			assessed: []Assessment{hits},
			outcome:  verdict.OutcomeBlocked, effect: verdict.EffectBlock,
			tally: verdict.Tally{Matched: 1, Introduced: 1, Blocking: 1},
		},
		{
			name: "a finding about the repository lies in no included path", keys: "action: block\n    paths: [\"**\"]",
			findings: []finding.Finding{one("maturity/threat-model", "")}, assessed: []Assessment{clean},
			outcome: verdict.OutcomePassed, effect: verdict.EffectNone,
		},
		{
			name: "a finding about the repository is selected where paths are only taken out", keys: "action: block\n    paths: [\"!docs/**\"]",
			findings: []finding.Finding{one("maturity/threat-model", "")}, assessed: []Assessment{clean},
			outcome: verdict.OutcomeBlocked, effect: verdict.EffectBlock,
			tally: verdict.Tally{Matched: 1, Introduced: 1, Blocking: 1},
		},
		{
			name: "severity at the minimum acts, below it is counted", keys: "action: block\n    severity_minimum: high",
			findings: []finding.Finding{one("secrets/a", "a"), one("secrets/a", "b", severity(finding.Critical)), one("secrets/a", "c", severity(finding.Medium))},
			assessed: []Assessment{hits},
			outcome:  verdict.OutcomeBlocked, effect: verdict.EffectBlock,
			reason: "2 introduced findings of severity high or above block.",
			tally:  verdict.Tally{Matched: 3, BelowSeverity: 1, Introduced: 2, Blocking: 2},
		},
		{
			name: "what was there before is shown and does not act", keys: "action: block",
			findings: []finding.Finding{one("secrets/a", "a", existing)}, assessed: []Assessment{hits},
			outcome: verdict.OutcomePassed, effect: verdict.EffectNone,
			reason: "No introduced finding. 1 finding was there before and does not act.",
			tally:  verdict.Tally{Matched: 1, Existing: 1},
		},
		{
			name: "what was there before acts under scope all", keys: "action: block\n    scope: all",
			findings: []finding.Finding{one("secrets/a", "a", existing), key}, assessed: []Assessment{hits},
			outcome: verdict.OutcomeBlocked, effect: verdict.EffectBlock,
			reason: "2 findings block.",
			tally:  verdict.Tally{Matched: 2, Introduced: 1, Existing: 1, Blocking: 2},
		},
		{
			name: "a model's word alone warns under block, however sure", keys: "action: block",
			findings: []finding.Finding{model(1000)}, assessed: []Assessment{ran("review", Found)},
			outcome: verdict.OutcomeWarned, effect: verdict.EffectWarn,
			reason: "1 introduced finding warns only, for its evidence or confidence.",
			tally:  verdict.Tally{Matched: 1, Introduced: 1, OtherEvidence: 1, Warning: 1},
		},
		{
			name: "a model's word does not block for a confidence alone", keys: "action: block\n    confidence_minimum: 0.5",
			findings: []finding.Finding{model(1000)}, assessed: []Assessment{ran("review", Found)},
			outcome: verdict.OutcomeWarned, effect: verdict.EffectWarn,
			tally: verdict.Tally{Matched: 1, Introduced: 1, OtherEvidence: 1, Warning: 1},
		},
		{
			name: "a model's word blocks from 0.9 where the policy names it", keys: "action: block\n    evidence: model",
			findings: []finding.Finding{model(900), one("review/x", "c", evidence(finding.Model, 899))}, assessed: []Assessment{ran("review", Found)},
			outcome: verdict.OutcomeBlocked, effect: verdict.EffectBlock,
			reason: "1 introduced finding blocks. 1 introduced finding warns only, for its evidence or confidence.",
			tally:  verdict.Tally{Matched: 2, Introduced: 2, BelowConfidence: 1, Blocking: 1, Warning: 1},
		},
		{
			name: "a model's word blocks from the policy's own confidence", keys: "action: block\n    evidence: [model, deterministic]\n    confidence_minimum: 0.6",
			findings: []finding.Finding{model(600)}, assessed: []Assessment{ran("review", Found)},
			outcome: verdict.OutcomeBlocked, effect: verdict.EffectBlock,
			tally: verdict.Tally{Matched: 1, Introduced: 1, Blocking: 1},
		},
		{
			name: "a model's word warns under warn without any confidence", keys: "action: warn",
			findings: []finding.Finding{model(0)}, assessed: []Assessment{ran("review", Found)},
			outcome: verdict.OutcomeWarned, effect: verdict.EffectWarn,
			tally: verdict.Tally{Matched: 1, Introduced: 1, Warning: 1},
		},
		{
			name: "deterministic evidence needs no confidence by default", keys: "action: block",
			findings: []finding.Finding{one("secrets/generic", "a", evidence(finding.Deterministic, 100))}, assessed: []Assessment{hits},
			outcome: verdict.OutcomeBlocked, effect: verdict.EffectBlock,
			tally: verdict.Tally{Matched: 1, Introduced: 1, Blocking: 1},
		},
		{
			name: "corroborated evidence blocks by default", keys: "action: block",
			findings: []finding.Finding{one("review/x", "a", evidence(finding.Corroborated, 100))}, assessed: []Assessment{ran("review", Found)},
			outcome: verdict.OutcomeBlocked, effect: verdict.EffectBlock,
			tally: verdict.Tally{Matched: 1, Introduced: 1, Blocking: 1},
		},
		{
			name: "deterministic evidence is bound by a confidence that is set", keys: "action: block\n    confidence_minimum: 0.5",
			findings: []finding.Finding{one("secrets/generic", "a", evidence(finding.Deterministic, 499)), one("secrets/generic", "b", evidence(finding.Deterministic, 500))},
			assessed: []Assessment{hits},
			outcome:  verdict.OutcomeBlocked, effect: verdict.EffectBlock,
			tally: verdict.Tally{Matched: 2, Introduced: 2, BelowConfidence: 1, Blocking: 1, Warning: 1},
		},
		{
			name: "below the confidence a warning is only reported", keys: "action: warn\n    confidence_minimum: 0.5",
			findings: []finding.Finding{one("secrets/generic", "a", evidence(finding.Deterministic, 499))}, assessed: []Assessment{hits},
			outcome: verdict.OutcomeReported, effect: verdict.EffectNone,
			tally: verdict.Tally{Matched: 1, Introduced: 1, BelowConfidence: 1, Reported: 1},
		},
		{
			name: "a policy that no auditor decides is not assessed and does not block", keys: "action: block",
			outcome: verdict.OutcomeNotAssessed, effect: verdict.EffectNone,
			reason: "No auditor here decides this policy, so it was not assessed.",
		},
		{
			name: "on_missing: block blocks it", keys: "action: warn\n    on_missing: block",
			outcome: verdict.OutcomeNotAssessed, effect: verdict.EffectBlock,
			reason: "No auditor here decides this policy, so it was not assessed, which blocks (on_missing).",
		},
		{
			name: "on_missing: warn warns", keys: "action: block\n    on_missing: warn",
			outcome: verdict.OutcomeNotAssessed, effect: verdict.EffectWarn,
		},
		{
			name: "an auditor of another focus does not decide it", keys: "action: block",
			assessed: []Assessment{{Auditor: "docs", Version: "1", Focus: []string{"docs"}, Outcome: Clean}},
			outcome:  verdict.OutcomeNotAssessed, effect: verdict.EffectNone,
		},
		{
			name: "a failed auditor blocks a policy that blocks", keys: "action: block",
			assessed: []Assessment{ran("secrets", NotAssessed), ran("sast", Clean)},
			outcome:  verdict.OutcomeError, effect: verdict.EffectBlock,
			reason: "Auditor secrets failed (timed out), which blocks (on_error).",
		},
		{
			name: "a failed auditor warns under a policy that warns", keys: "action: warn",
			assessed: []Assessment{ran("secrets", NotAssessed)},
			outcome:  verdict.OutcomeError, effect: verdict.EffectWarn,
		},
		{
			name: "on_error: report lets a failed auditor pass, in plain sight", keys: "action: block\n    on_error: report",
			assessed: []Assessment{ran("secrets", NotAssessed)},
			outcome:  verdict.OutcomeError, effect: verdict.EffectNone,
			reason: "Auditor secrets failed (timed out).",
		},
		{
			name: "on_error: block blocks under a policy that warns", keys: "action: warn\n    on_error: block",
			assessed: []Assessment{ran("secrets", NotAssessed)},
			outcome:  verdict.OutcomeError, effect: verdict.EffectBlock,
		},
		{
			name: "a finding that blocks says so even when another auditor failed", keys: "action: block\n    on_error: warn",
			findings: []finding.Finding{key}, assessed: []Assessment{hits, ran("sast", NotAssessed)},
			outcome: verdict.OutcomeBlocked, effect: verdict.EffectBlock,
			reason: "1 introduced finding blocks. Auditor sast failed (timed out), which is a warning (on_error).",
			tally:  verdict.Tally{Matched: 1, Introduced: 1, Blocking: 1},
		},
		{
			name: "only the auditors that types name decide", keys: "action: block\n    types: [\"secrets/**\"]",
			assessed: []Assessment{clean, ran("sast", NotAssessed)},
			outcome:  verdict.OutcomePassed, effect: verdict.EffectNone,
		},
		{
			name: "where types name no auditor, those of the focus decide", keys: "action: block\n    types: [\"semgrep/**\"]",
			assessed: []Assessment{ran("import", NotAssessed)},
			outcome:  verdict.OutcomeError, effect: verdict.EffectBlock,
		},
		{
			name: "a changed file that could not be assessed is a warning", keys: "action: block",
			assessed: []Assessment{ran("secrets", Clean, gap)},
			outcome:  verdict.OutcomeWarned, effect: verdict.EffectWarn,
			reason: "No introduced finding. 1 new or changed place could not be assessed, which is a warning (on_error).",
			tally:  verdict.Tally{Gaps: 1},
		},
		{
			name: "it blocks where on_error: block is written", keys: "action: block\n    on_error: block",
			assessed: []Assessment{ran("secrets", Clean, gap)},
			outcome:  verdict.OutcomeError, effect: verdict.EffectBlock,
			tally: verdict.Tally{Gaps: 1},
		},
		{
			name: "it is shown only under report", keys: "action: report",
			assessed: []Assessment{ran("secrets", Clean, gap)},
			outcome:  verdict.OutcomePassed, effect: verdict.EffectNone,
			reason: "No introduced finding. 1 new or changed place could not be assessed.",
			tally:  verdict.Tally{Gaps: 1},
		},
		{
			name: "an unchanged file that could not be assessed is shown", keys: "action: block\n    on_error: block",
			assessed: []Assessment{ran("secrets", Clean, oldGap)},
			outcome:  verdict.OutcomePassed, effect: verdict.EffectNone,
			reason: "No introduced finding. 1 place could not be assessed and was not changed.",
			tally:  verdict.Tally{Gaps: 1},
		},
		{
			name: "an unchanged file acts under scope all", keys: "action: block\n    scope: all",
			assessed: []Assessment{ran("secrets", Clean, oldGap)},
			outcome:  verdict.OutcomeWarned, effect: verdict.EffectWarn,
			reason: "No finding. 1 place could not be assessed, which is a warning (on_error).",
			tally:  verdict.Tally{Gaps: 1},
		},
		{
			name: "a gap outside the policy's paths is another's matter", keys: "action: block\n    on_error: block\n    paths: [\"lib/**\"]",
			assessed: []Assessment{ran("secrets", Clean, gap)},
			outcome:  verdict.OutcomePassed, effect: verdict.EffectNone,
		},
		{
			name: "a gap without a path is everyone's matter", keys: "action: block\n    on_error: block\n    paths: [\"lib/**\"]",
			assessed: []Assessment{ran("secrets", Clean, Gap{Reason: "ran out of time", Introduced: true})},
			outcome:  verdict.OutcomeError, effect: verdict.EffectBlock,
			tally: verdict.Tally{Gaps: 1},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			v := judge(t, input(t, "policies:\n  x:\n    focus: security\n    "+c.keys+"\n", c.findings, c.assessed...))
			r := v.Policies[0]
			if r.Outcome != c.outcome || r.Effect != c.effect {
				t.Errorf("outcome %s, effect %s, want %s, %s (%s)", r.Outcome, r.Effect, c.outcome, c.effect, r.Reason)
			}
			if c.reason != "" && r.Reason != c.reason {
				t.Errorf("reason %q\nwant   %q", r.Reason, c.reason)
			}
			if diff := cmp.Diff(c.tally, r.Counts); diff != "" {
				t.Errorf("counts (-want +got):\n%s", diff)
			}
			if len(r.Blocking) != r.Counts.Blocking || len(r.Warning) != r.Counts.Warning || len(r.Gaps) != r.Counts.Gaps {
				t.Errorf("lists of %d, %d, %d for counts %+v", len(r.Blocking), len(r.Warning), len(r.Gaps), r.Counts)
			}
			if want := c.effect == verdict.EffectBlock; (v.Conclusion == verdict.Blocked) != want {
				t.Errorf("conclusion %s for effect %s", v.Conclusion, c.effect)
			}
			valid(t, v)
		})
	}
}

// valid holds a verdict to its canonical form and to the published schema.
func valid(t *testing.T, v verdict.Verdict) {
	t.Helper()
	b := canonical(t, v)
	if _, err := verdict.ParseCanonical(b); err != nil {
		t.Errorf("%v\n%s", err, b)
	}
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	if err := compileSchema(t, "urn:noxaudit:verdict:1", verdict.Schema).Validate(doc); err != nil {
		t.Errorf("%v\n%s", err, b)
	}
}

const sampleInput = `policies:
  no-secrets:
    focus: security
    types: ["secrets/**"]
    action: block
    severity_minimum: high
    message: "Use the vault."
  review:
    focus: security
    action: block
    evidence: [deterministic, model]
  docs:
    focus: docs
    action: report
`

func sample(t testing.TB) Input {
	return input(t, sampleInput, []finding.Finding{
		one("secrets/aws-access-token", "src/a.go", func(f *finding.Finding) { f.Content = strings.Repeat("ab", 32) }),
		one("secrets/generic", "src/a.go", severity(finding.Medium)),
		one("secrets/private-key", "src/old.pem", existing),
		one("review/injection", "src/b.go", evidence(finding.Model, 700)),
		one("perf/loop", "src/b.go", focus("performance"), severity(finding.Low)),
	}, ran("secrets", Found, Gap{Path: "src/big.bin", Reason: "larger  than\n5 MiB", Introduced: true}), ran("review", Found))
}

func TestVerdictOfSeveralPolicies(t *testing.T) {
	v := judge(t, sample(t))
	valid(t, v)
	golden(t, "testdata/verdict.golden.json", indented(t, canonical(t, v)))
}

func TestFindingsUnderNoPolicyAreCounted(t *testing.T) {
	v := judge(t, sample(t))
	if v.Counts.UnderNoPolicy != 1 || v.Counts.Findings.Total() != 5 || v.Counts.Introduced.Total() != 4 || v.Counts.Findings.Low != 1 {
		t.Errorf("counts %+v", v.Counts)
	}
}

func TestWhatNoAuditorSawIsListedWhateverThePolicies(t *testing.T) {
	v := judge(t, input(t, "policies:\n  x:\n    focus: docs\n    action: warn\n", nil,
		ran("secrets", NotAssessed), ran("sast", Clean, Gap{Path: "a", Reason: "not UTF-8"})))
	want := []verdict.Gap{{Auditor: "sast", Path: "a", Reason: "not UTF-8"}, {Auditor: "secrets", Reason: "timed out"}}
	if diff := cmp.Diff(want, v.NotAssessed); diff != "" || v.Counts.NotAssessed != 2 {
		t.Errorf("not assessed (-want +got), count %d:\n%s", v.Counts.NotAssessed, diff)
	}
}

func TestLongListsAreCutAtTheLessSevereAndCountedInFull(t *testing.T) {
	var fs []finding.Finding
	for i := range 3 * verdict.MaxRefs {
		fs = append(fs, one("secrets/a", fmt.Sprintf("a%04d", i), severity(finding.Severities()[2-i/verdict.MaxRefs])))
	}
	var gaps []Gap
	for i := range 2 * verdict.MaxRefs {
		gaps = append(gaps, Gap{Path: fmt.Sprintf("g%04d", i), Reason: "too large", Introduced: i >= verdict.MaxRefs})
	}
	v := judge(t, input(t, "policies:\n  x:\n    focus: security\n    action: block\n", fs, ran("secrets", Found, gaps...)))
	r := v.Policies[0]
	if len(r.Blocking) != verdict.MaxRefs || r.Counts.Blocking != len(fs) || r.Counts.Gaps != len(gaps) || len(v.NotAssessed) != verdict.MaxRefs || v.Counts.NotAssessed != len(gaps) {
		t.Errorf("%d of %d findings, %+v", len(r.Blocking), len(fs), r.Counts)
	}
	for _, ref := range r.Blocking {
		if ref.Severity != finding.Critical {
			t.Fatalf("a finding of severity %s stands before critical ones", ref.Severity)
		}
	}
	if !r.Gaps[0].Introduced || !r.Gaps[len(r.Gaps)-1].Introduced {
		t.Error("gaps that act do not stand first")
	}
	valid(t, v)
}

func TestUnusableInputIsRefused(t *testing.T) {
	for name, spoil := range map[string]func(*Input){
		"no policy":              func(in *Input) { in.Policy = Set{} },
		"no time":                func(in *Input) { in.Time = time.Time{} },
		"time beyond the form":   func(in *Input) { in.Time = time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC) },
		"no engine":              func(in *Input) { in.Engine = "" },
		"waivers":                func(in *Input) { in.Waivers = []verdict.Waiver{{ID: "W-1"}} },
		"no account":             func(in *Input) { in.Subject.Account = "" },
		"no repository":          func(in *Input) { in.Subject.Repository.ID = "" },
		"no tree":                func(in *Input) { in.Subject.Tree = "" },
		"no head":                func(in *Input) { in.Subject.Head = noCommit },
		"unknown context":        func(in *Input) { in.Subject.Context = "cron" },
		"pull in another":        func(in *Input) { in.Subject.Context = verdict.Push },
		"finding without key":    func(in *Input) { in.Findings[0].Fingerprint = "" },
		"finding of another id":  func(in *Input) { in.Findings[0].ID = "NX-00000000" },
		"finding without class":  func(in *Input) { in.Findings[0].Evidence = "" },
		"finding too severe":     func(in *Input) { in.Findings[0].Severity = 9 },
		"finding too sure":       func(in *Input) { in.Findings[0].Confidence = 1001 },
		"assessment of nobody":   func(in *Input) { in.Assessments[0].Auditor = "" },
		"assessment of no class": func(in *Input) { in.Assessments[0].Outcome = "" },
	} {
		in := sample(t)
		spoil(&in)
		if v, err := Judge(in); !errors.Is(err, ErrInput) || v.Conclusion != "" {
			t.Errorf("%s: got %v, %q", name, err, v.Conclusion)
		}
	}
}

var noCommit name.Commit

func TestVerdictDoesNotDependOnTimeZone(t *testing.T) {
	in := sample(t)
	want := canonical(t, judge(t, in))
	for _, zone := range []*time.Location{time.FixedZone("UTC+14", 14*3600), time.FixedZone("odd", -5*3600-1234)} {
		in.Time = eventTime.In(zone)
		if got := canonical(t, judge(t, in)); !bytes.Equal(got, want) {
			t.Errorf("in %s: %s", zone, got)
		}
	}
	// Nor on what is finer than it says.
	in.Time = eventTime.Truncate(time.Microsecond)
	if got := canonical(t, judge(t, in)); !bytes.Equal(got, want) {
		t.Errorf("truncated: %s", got)
	}
}

func TestJudgeChangesNothingOfItsInput(t *testing.T) {
	in := sample(t)
	slices.Reverse(in.Findings)
	in.Assessments[0].Focus = []string{"security", "docs", "docs"}
	in.Assessments[1].Gaps = []Gap{{Path: "z", Reason: "r"}, {Path: "a", Reason: "r"}}
	before, err := json.Marshal(in)
	if err != nil {
		t.Fatal(err)
	}
	judge(t, in)
	after, err := json.Marshal(in)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(before, after) {
		t.Errorf("before %s\nafter  %s", before, after)
	}
}

func TestFindingsThatDifferInLittleAreDigestedInOneOrder(t *testing.T) {
	a := one("secrets/a", "a")
	b := one("secrets/a", "a", evidence(finding.Model, 10), existing)
	src := "policies:\n  x:\n    focus: security\n    action: warn\n"
	x := canonical(t, judge(t, input(t, src, []finding.Finding{a, b})))
	y := canonical(t, judge(t, input(t, src, []finding.Finding{b, a})))
	if !bytes.Equal(x, y) {
		t.Errorf("%s\n%s", x, y)
	}
}

func TestAssessmentsAreReadBackOrRefused(t *testing.T) {
	as := sample(t).Assessments
	b, err := CanonicalAssessments(as)
	if err != nil {
		t.Fatal(err)
	}
	slices.Reverse(as)
	if again, _ := CanonicalAssessments(as); !bytes.Equal(b, again) {
		t.Errorf("order counts: %s, %s", b, again)
	}
	if back, err := ParseAssessments(b); err != nil || len(back) != 2 {
		t.Errorf("%v, %v", back, err)
	}
	for _, bad := range []string{"", "null", "[{}]", " []", `[{"auditor":"a","version":"1","focus":null,"outcome":"clean"}]`, `[{"auditor":"a","version":"1","focus":["b","a"],"outcome":"clean"}]`} {
		if _, err := ParseAssessments([]byte(bad)); err == nil {
			t.Errorf("%s is accepted", bad)
		}
	}
}

func TestFindingsDigestIsThatOfTheirCanonicalForm(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		sorted, digest, err := orderFindings(rapid.SliceOfN(rapid.Custom(anyFinding), 0, 12).Draw(t, "findings"))
		if err != nil {
			t.Fatal(err)
		}
		b, err := finding.Canonical(sorted)
		if err != nil || canon.Digest(b) != digest {
			t.Fatalf("%v: digest %s is not that of %s", err, digest, b)
		}
		if _, err := finding.ParseCanonical(b); err != nil {
			t.Fatal(err)
		}
	})
}

// Generators for the laws. Words are few, so that things meet.
var (
	anyFocus    = rapid.SampledFrom([]string{"security", "docs"})
	anyType     = rapid.SampledFrom([]string{"secrets/a", "secrets/b", "review/c"})
	anyPath     = rapid.SampledFrom([]string{"", "src/a", "src/test/b", "lib/c"})
	anySeverity = rapid.SampledFrom(finding.Severities())
	anyOutcome  = rapid.SampledFrom([]Outcome{Found, Clean, NotApplicable, NotAssessed})
)

func anyFinding(t *rapid.T) finding.Finding {
	typ, path := anyType.Draw(t, "type"), anyPath.Draw(t, "path")
	auditor, _, _ := strings.Cut(typ, "/")
	f := finding.Assemble(auditor, path, []finding.Draft{{
		Type: typ, Focus: anyFocus.Draw(t, "focus"), Severity: anySeverity.Draw(t, "severity"),
		Confidence: finding.Confidence(rapid.IntRange(0, 10).Draw(t, "confidence") * 100),
		Evidence:   rapid.SampledFrom([]finding.Evidence{finding.Deterministic, finding.Corroborated, finding.Model}).Draw(t, "evidence"),
		Context:    rapid.SampledFrom([]string{"x", "y"}).Draw(t, "context"),
	}})[0]
	f.Introduced = rapid.Bool().Draw(t, "introduced")
	return f
}

func anyAssessment(t *rapid.T) Assessment {
	return Assessment{
		Auditor: rapid.SampledFrom([]string{"secrets", "review", "other"}).Draw(t, "auditor"),
		Version: "1",
		Focus:   rapid.SliceOfN(anyFocus, 0, 2).Draw(t, "focus"),
		Outcome: anyOutcome.Draw(t, "outcome"),
		Gaps: rapid.SliceOfN(rapid.Custom(func(t *rapid.T) Gap {
			return Gap{anyPath.Draw(t, "path"), "too large", rapid.Bool().Draw(t, "introduced")}
		}), 0, 2).Draw(t, "gaps"),
	}
}

// anyPolicy returns the lines of one policy below its name.
func anyPolicy(t *rapid.T) []string {
	pick := func(key string, values ...string) string {
		v := rapid.SampledFrom(append(values, "")).Draw(t, key)
		if v == "" {
			return ""
		}
		return key + ": " + v
	}
	lines := []string{
		"action: " + rapid.SampledFrom(actionWords).Draw(t, "action"),
		"focus: " + rapid.SampledFrom([]string{"security", "docs", "[docs, security]"}).Draw(t, "focus"),
		pick("types", `"secrets/**"`, `"*/c"`, `"**"`),
		pick("paths", `"src/**"`, `["**", "!**/test/**"]`),
		pick("severity_minimum", severityWords...),
		pick("confidence_minimum", "0.5", "1"),
		pick("evidence", "model", "deterministic", "[model, corroborated]"),
		pick("scope", scopeWords...),
		pick("on_error", errorWords...),
		pick("on_missing", missingWords...),
	}
	return slices.DeleteFunc(lines, func(s string) bool { return s == "" })
}

type written struct {
	name  string
	lines []string
}

func document(ps []written) string {
	var b strings.Builder
	b.WriteString("policies:\n")
	for _, p := range ps {
		b.WriteString("  " + p.name + ":\n    " + strings.Join(p.lines, "\n    ") + "\n")
	}
	return b.String()
}

func anyPolicies(t *rapid.T) []written {
	n := rapid.IntRange(1, 4).Draw(t, "policies")
	var ps []written
	for i := range n {
		ps = append(ps, written{fmt.Sprintf("p%d", i), anyPolicy(t)})
	}
	return ps
}

func law(t *testing.T, check func(t *rapid.T, ps []written, judgeUnder func([]written, []finding.Finding, []Assessment) verdict.Verdict, fs []finding.Finding, as []Assessment)) {
	rapid.Check(t, func(rt *rapid.T) {
		under := func(ps []written, fs []finding.Finding, as []Assessment) verdict.Verdict {
			return judge(t, input(t, document(ps), fs, as...))
		}
		check(rt, anyPolicies(rt), under,
			rapid.SliceOfN(rapid.Custom(anyFinding), 0, 6).Draw(rt, "findings"),
			rapid.SliceOfN(rapid.Custom(anyAssessment), 0, 3).Draw(rt, "assessments"))
	})
}

func TestLawOrderMeansNothing(t *testing.T) {
	law(t, func(rt *rapid.T, ps []written, under func([]written, []finding.Finding, []Assessment) verdict.Verdict, fs []finding.Finding, as []Assessment) {
		want := under(ps, fs, as)
		b := canonical(t, want)
		if again := canonical(t, under(ps, fs, as)); !bytes.Equal(b, again) {
			rt.Fatalf("not deterministic:\n%s\n%s", b, again)
		}
		if parsed, err := verdict.ParseCanonical(b); err != nil {
			rt.Fatal(err)
		} else if diff := cmp.Diff(canonical(t, parsed), b); diff != "" {
			rt.Fatal(diff)
		}
		fs = rapid.Permutation(fs).Draw(rt, "findings in another order")
		as = rapid.Permutation(as).Draw(rt, "assessments in another order")
		if got := canonical(t, under(ps, fs, as)); !bytes.Equal(got, b) {
			rt.Fatalf("in another order:\n%s\n%s", b, got)
		}
		// The order of the file shows in nothing but its lines, and in the digest that covers them.
		got := under(rapid.Permutation(ps).Draw(rt, "policies in another order"), fs, as)
		for _, v := range []*verdict.Verdict{&want, &got} {
			v.Inputs.Policy = ""
			for i := range v.Policies {
				v.Policies[i].Origin.Line = 0
			}
		}
		if diff := cmp.Diff(want, got, cmp.Comparer(func(a, b name.Commit) bool { return a == b })); diff != "" {
			rt.Fatal(diff)
		}
	})
}

func TestLawRemovingAFindingNeverBlocks(t *testing.T) {
	law(t, func(rt *rapid.T, ps []written, under func([]written, []finding.Finding, []Assessment) verdict.Verdict, fs []finding.Finding, as []Assessment) {
		if len(fs) == 0 || under(ps, fs, as).Conclusion != verdict.Pass {
			return
		}
		i := rapid.IntRange(0, len(fs)-1).Draw(rt, "without")
		if v := under(ps, slices.Delete(slices.Clone(fs), i, i+1), as); v.Conclusion != verdict.Pass {
			rt.Fatalf("blocks without %v: %+v", fs[i], v.Policies)
		}
	})
}

func TestLawAddingAPolicyNeverUnblocks(t *testing.T) {
	law(t, func(rt *rapid.T, ps []written, under func([]written, []finding.Finding, []Assessment) verdict.Verdict, fs []finding.Finding, as []Assessment) {
		if under(ps, fs, as).Conclusion != verdict.Blocked {
			return
		}
		more := append(slices.Clone(ps), written{"added", anyPolicy(rt)})
		if v := under(more, fs, as); v.Conclusion != verdict.Blocked {
			rt.Fatalf("passes with one more policy: %+v", v.Policies)
		}
	})
}

func TestLawLoweringTheSeverityNeverUnblocks(t *testing.T) {
	law(t, func(rt *rapid.T, ps []written, under func([]written, []finding.Finding, []Assessment) verdict.Verdict, fs []finding.Finding, as []Assessment) {
		if under(ps, fs, as).Conclusion != verdict.Blocked {
			return
		}
		i := rapid.IntRange(0, len(ps)-1).Draw(rt, "policy")
		for j, line := range ps[i].lines {
			if was, ok := strings.CutPrefix(line, "severity_minimum: "); ok {
				lower := rapid.IntRange(slices.Index(severityWords, was), len(severityWords)-1).Draw(rt, "lower")
				ps[i].lines = slices.Clone(ps[i].lines)
				ps[i].lines[j] = "severity_minimum: " + severityWords[lower]
			}
		}
		if v := under(ps, fs, as); v.Conclusion != verdict.Blocked {
			rt.Fatalf("passes: %+v", v.Policies)
		}
	})
}

// A failed auditor is never better than one that found nothing.
func TestLawFailingNeverUnblocks(t *testing.T) {
	law(t, func(rt *rapid.T, ps []written, under func([]written, []finding.Finding, []Assessment) verdict.Verdict, fs []finding.Finding, as []Assessment) {
		for _, p := range ps {
			for i, line := range p.lines {
				if strings.HasPrefix(line, "on_error") {
					p.lines[i] = "on_error: block"
				}
			}
		}
		if len(as) == 0 || under(ps, fs, as).Conclusion != verdict.Blocked {
			return
		}
		i := rapid.IntRange(0, len(as)-1).Draw(rt, "fails")
		as[i].Outcome = NotAssessed
		as[i].Gaps = nil
		if v := under(ps, fs, as); v.Conclusion != verdict.Blocked {
			rt.Fatalf("passes: %+v", v.Policies)
		}
	})
}

// BenchmarkJudge is the target of the design: 100,000 findings under 50 policies in less than a second on
// one core. About a third of the policies select by type, a third by path, a third by both.
func BenchmarkJudge(b *testing.B) {
	r := rand.New(rand.NewPCG(1, 2))
	var fs []finding.Finding
	for i := range 10_000 {
		path := fmt.Sprintf("services/s%02d/pkg%03d/file%05d.go", i%40, i%700, i)
		var ds []finding.Draft
		for j := range 10 {
			ds = append(ds, finding.Draft{
				Type:  fmt.Sprintf("auditor%d/rule-%03d", j%8, r.IntN(120)),
				Focus: []string{"security", "docs", "testing", "dependencies"}[r.IntN(4)], Severity: finding.Severity(r.IntN(5)),
				Confidence: finding.Confidence(r.IntN(1001)), Evidence: []finding.Evidence{finding.Deterministic, finding.Corroborated, finding.Model}[r.IntN(3)],
				Title: "Something is wrong in this place", Message: "It matters because of what may happen when it goes wrong.",
				Region: finding.Region{StartLine: 10*j + 1, EndLine: 10*j + 1}, Context: fmt.Sprintf("the line %d of %d, as it is written", j, i),
			})
		}
		for _, f := range finding.Assemble("auditor", path, ds) {
			f.Introduced = r.IntN(4) == 0
			fs = append(fs, f)
		}
	}
	r.Shuffle(len(fs), func(i, j int) { fs[i], fs[j] = fs[j], fs[i] })
	var src strings.Builder
	src.WriteString("policies:\n")
	for i := range 50 {
		fmt.Fprintf(&src, "  p%02d:\n    focus: %s\n    action: %s\n    severity_minimum: %s\n", i,
			[]string{"security", "[docs, testing]", "[security, docs, testing, dependencies]"}[i%3], actionWords[i%3], severityWords[i%5])
		if i%3 != 0 {
			fmt.Fprintf(&src, "    types: [\"auditor%d/**\", \"*/rule-*%d\"]\n", i%8, i%10)
		}
		if i%3 != 1 {
			fmt.Fprintf(&src, "    paths: [\"services/s%d*/**\", \"**/file*%d.go\", \"!**/pkg*%d/**\"]\n", i%4, i%10, i%7)
		}
	}
	in := input(b, src.String(), fs, ran("auditor", Found))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Judge(in); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(len(fs)), "findings")
}
