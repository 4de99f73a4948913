// Package render shows a verdict to a person: as text on a terminal, as Markdown in a check run or comment.
// Both tell the same story in the same order: the verdict, then what blocks and how to get free, then what
// warns, then what could not be assessed, then where all of it comes from. Nothing is recomputed here. All
// text of outside origin is escaped for its place.
package render

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/noxaudit/noxaudit/internal/finding"
	"github.com/noxaudit/noxaudit/policy/verdict"
)

// Story is what is told.
type Story struct {
	Verdict  verdict.Verdict
	ID       string            // of the verdict, "V-…"
	Findings []finding.Finding // those the verdict was made from
	Resolved int               // findings of the base that are gone
	Waivable string            // who decides about a waiver, in a sentence; "": nobody can ask for one here
	Pending  []Pending         // waivers that wait for a decision, of findings that block
	Notes    []string          // what a reader should know of how this was made, a sentence each
}

// Pending is a waiver that was asked for and is not decided.
type Pending struct {
	Finding string // id of the finding
	Waiver  string // id of the waiver
	Missing int    // approvals
	Line    string // the command that approves it
}

// entry is one finding as one policy acts on it.
type entry struct {
	ref verdict.Ref
	finding.Finding
}

type findingKey struct{ fingerprint, content string }

func (s Story) index() map[findingKey]finding.Finding {
	m := make(map[findingKey]finding.Finding, len(s.Findings))
	for _, f := range s.Findings {
		m[findingKey{f.Fingerprint, f.Content}] = f
	}
	return m
}

func entries(index map[findingKey]finding.Finding, refs []verdict.Ref) []entry {
	var es []entry
	for _, r := range refs {
		es = append(es, entry{r, index[findingKey{r.Fingerprint, r.Content}]})
	}
	slices.SortStableFunc(es, func(a, b entry) int { return cmp.Compare(b.ref.Severity, a.ref.Severity) })
	return es
}

func (e entry) place() string {
	p := e.Place()
	if c := e.Region.StartColumn; c > 0 && e.Region.StartLine > 0 {
		p += fmt.Sprintf(":%d", c)
	}
	return p
}

func (s Story) blocked() bool { return s.Verdict.Conclusion == verdict.Blocked }

// Headline is the verdict in one line: "Blocked · 2 high · 1 policy could not be decided".
func (s Story) Headline() string {
	var blocking, warning, waived verdict.BySeverity
	seenB, seenW, seenV := map[findingKey]bool{}, map[findingKey]bool{}, map[findingKey]bool{}
	undecided, failed, beyond := 0, 0, 0
	for _, p := range s.Verdict.Policies {
		count(p.Blocking, seenB, &blocking)
		count(p.Warning, seenW, &warning)
		count(p.Waived, seenV, &waived)
		if p.Counts.Blocking > len(p.Blocking) {
			beyond = max(beyond, p.Counts.Blocking)
		}
		switch {
		case p.Outcome == verdict.OutcomeError && p.Effect == verdict.EffectBlock:
			failed++
		case p.Outcome == verdict.OutcomeNotAssessed:
			undecided++
		}
	}
	parts := []string{"Pass"}
	if s.blocked() {
		parts[0] = "Blocked"
		for _, sv := range finding.Severities() {
			if n := bySeverity(blocking, sv); n > 0 && beyond == 0 {
				parts = append(parts, fmt.Sprintf("%d %s", n, sv))
			}
		}
		if beyond > 0 { // the lists are cut: only the sum is known to be complete
			parts = append(parts, plural(beyond, "finding", "findings"))
		}
	}
	if s.blocked() {
		switch n := len(s.Pending); n {
		case 0:
		case 1:
			parts = append(parts, fmt.Sprintf("%s waits for %s", s.Pending[0].Waiver, plural(s.Pending[0].Missing, "approval", "approvals")))
		default:
			parts = append(parts, fmt.Sprintf("%d waivers wait for approval", n))
		}
	}
	if failed > 0 {
		parts = append(parts, plural(failed, "policy", "policies")+" could not be evaluated")
	}
	if n := warning.Total(); n > 0 {
		parts = append(parts, plural(n, "warning", "warnings"))
	}
	if n := waived.Total(); n > 0 {
		parts = append(parts, fmt.Sprintf("%d waived", n))
	}
	if undecided > 0 {
		parts = append(parts, plural(undecided, "policy", "policies")+" not assessed")
	}
	if len(parts) == 1 && s.Verdict.Counts.Findings.Total() == 0 {
		parts = append(parts, "nothing found")
	}
	return strings.Join(parts, " · ")
}

func count(refs []verdict.Ref, seen map[findingKey]bool, into *verdict.BySeverity) {
	for _, r := range refs {
		k := findingKey{r.Fingerprint, r.Content}
		if !seen[k] {
			seen[k] = true
			into.Add(r.Severity)
		}
	}
}

func bySeverity(b verdict.BySeverity, s finding.Severity) int {
	switch s {
	case finding.Critical:
		return b.Critical
	case finding.High:
		return b.High
	case finding.Medium:
		return b.Medium
	case finding.Low:
		return b.Low
	}
	return b.Info
}

// severities writes "1 critical, 2 high"; "none" where there are none.
func severities(b verdict.BySeverity) string {
	var parts []string
	for _, sv := range finding.Severities() {
		if n := bySeverity(b, sv); n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", n, sv))
		}
	}
	if len(parts) == 0 {
		return "none"
	}
	return strings.Join(parts, ", ")
}

func plural(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}

// policies returns the results in the order in which they matter: what blocks first, what passed last.
func (s Story) policies() []verdict.Result {
	rank := map[verdict.Outcome]int{
		verdict.OutcomeBlocked: 0, verdict.OutcomeError: 1, verdict.OutcomeWarned: 2,
		verdict.OutcomeNotAssessed: 3, verdict.OutcomeWaived: 4, verdict.OutcomeReported: 5, verdict.OutcomePassed: 6,
	}
	ps := slices.Clone(s.Verdict.Policies)
	slices.SortStableFunc(ps, func(a, b verdict.Result) int { return cmp.Compare(rank[a.Outcome], rank[b.Outcome]) })
	return ps
}

func origin(o verdict.Origin) string {
	if o.Layer == "built-in" {
		return "built-in"
	}
	return fmt.Sprintf("%s:%d", o.Path, o.Line)
}

// subject names what was judged: "payments at 4f02ab1 against 9c1e221".
func (s Story) subject() string {
	sub := s.Verdict.Subject
	text := sub.Repository.FullName
	if sub.Head.IsZero() {
		text += ", working tree"
	} else {
		text += " at " + sub.Head.Short()
	}
	if !sub.Base.IsZero() {
		text += " against " + sub.Base.Short()
	}
	return text
}

// existing counts the findings that were there before, over all policies' view.
func (s Story) existing() int {
	return s.Verdict.Counts.Findings.Total() - s.Verdict.Counts.Introduced.Total()
}
