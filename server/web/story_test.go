package web

import (
	"strings"
	"testing"

	"github.com/noxaudit/noxaudit/internal/finding"
	"github.com/noxaudit/noxaudit/policy/verdict"
	"github.com/noxaudit/noxaudit/report/figures"
)

// Each outcome has a word of its own, and what blocks without a finding says why.
func TestEveryOutcomeIsToldApart(t *testing.T) {
	ref := verdict.Ref{ID: "NX-00000001", Fingerprint: "f", Type: "secrets/key", Severity: finding.High, Introduced: true, Waiver: "W-00000001"}
	of := func(conclusion verdict.Conclusion, results ...verdict.Result) verdictView {
		for i := range results {
			results[i].Name, results[i].Reason = "policy-"+string(rune('a'+i)), "Because."
		}
		return tree(figures.Verdict{
			Verdict:  verdict.Verdict{Conclusion: conclusion, Policies: results, Subject: verdict.Subject{Repository: verdict.Repository{FullName: "octo/app"}}},
			Findings: map[figures.Named]finding.Finding{{Fingerprint: "f"}: {Draft: finding.Draft{Title: "Secret in source", Evidence: finding.Deterministic}}},
		}, setting{account: "1", home: "/orgs/octo/repositories/app"})
	}
	for title, c := range map[string]struct {
		v     verdictView
		line  string
		words string
	}{
		"blocked": {of(verdict.Blocked, verdict.Result{Outcome: verdict.OutcomeBlocked, Effect: verdict.EffectBlock, Blocking: []verdict.Ref{ref}, Counts: verdict.Tally{Blocking: 3}}),
			"Blocked: secret in source, and 2 more", "Blocked"},
		"an auditor that failed": {of(verdict.Blocked, verdict.Result{Outcome: verdict.OutcomeError, Effect: verdict.EffectBlock}),
			"Blocked: policy-a could not be evaluated", "Not evaluated, blocks"},
		"nobody decides it, and it insists": {of(verdict.Blocked, verdict.Result{Outcome: verdict.OutcomeNotAssessed, Effect: verdict.EffectBlock}),
			"Blocked: policy-a was not assessed", "Not assessed, blocks"},
		"nothing was decided": {of(verdict.Pass, verdict.Result{Outcome: verdict.OutcomeNotAssessed, Effect: verdict.EffectNone}),
			"Not assessed: no policy could be decided", "Not assessed"},
		"something was not": {of(verdict.Pass, verdict.Result{Outcome: verdict.OutcomeNotAssessed, Effect: verdict.EffectNone}, verdict.Result{Outcome: verdict.OutcomePassed, Effect: verdict.EffectNone}),
			"Passed, but 1 policy was not assessed", "Not assessed|Passed"},
		"waived": {of(verdict.Pass, verdict.Result{Outcome: verdict.OutcomeWaived, Effect: verdict.EffectNone, Waived: []verdict.Ref{ref}, Counts: verdict.Tally{Waived: 1}}, verdict.Result{Outcome: verdict.OutcomeReported, Effect: verdict.EffectNone}),
			"Passed: what would block is waived", "Waived|Reported"},
		"warned": {of(verdict.Pass, verdict.Result{Outcome: verdict.OutcomeWarned, Effect: verdict.EffectWarn, Warning: []verdict.Ref{ref}, Counts: verdict.Tally{Warning: 1}}),
			"Passed, with 1 policy that warns", "Warned"},
		"clean": {of(verdict.Pass, verdict.Result{Outcome: verdict.OutcomePassed, Effect: verdict.EffectNone}), "Passed: nothing here violates a policy", "Passed"},
	} {
		var words []string
		for _, p := range c.v.Policies {
			words = append(words, p.Mark.Word)
		}
		if c.v.Line != c.line || strings.Join(words, "|") != c.words {
			t.Errorf("%s: %q %q, want %q %q", title, c.v.Line, words, c.line, c.words)
		}
		if title == "waived" {
			if l := c.v.Policies[0].Leaves[0]; l.Waiver.Address != "/orgs/octo/waivers/W-00000001" || l.Copy.Text != "" {
				t.Errorf("a waived finding leads to %q and offers %q", l.Waiver.Address, l.Copy.Text)
			}
		}
	}
}

func TestAPageShowsWhatAReaderWouldNotSee(t *testing.T) {
	in := "<p>a\u202eb\tc\x00d\r\ne · ü 漢\u200b</p>\n"
	if got, want := string(visible([]byte(in))), `<p>a\u{202e}b c\x00d`+" \ne · ü 漢\\u{200b}</p>\n"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}
