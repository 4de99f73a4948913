package render

import (
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/noxaudit/noxaudit/internal/escape"
	"github.com/noxaudit/noxaudit/internal/finding"
	"github.com/noxaudit/noxaudit/policy/verdict"
)

// MaxMarkdown is the most characters that GitHub accepts as the summary or the text of a check run
// (docs.github.com, REST API for check runs, output).
const MaxMarkdown = 65535

// Markdown tells the story as GitHub Flavored Markdown of at most limit characters (0: MaxMarkdown). What
// does not fit is left out from the end and counted; the verdict and its first blockers always fit.
func Markdown(s Story, limit int) string {
	if limit <= 0 || limit > MaxMarkdown {
		limit = MaxMarkdown
	}
	const reserve = 400 // for the last lines, which are always shown
	m := &markdown{limit: limit - reserve}
	mark := "✅"
	if s.blocked() {
		mark = "❌"
	}
	m.must("### %s %s\n\n%s\n", mark, escape.Markdown(s.Headline()), escape.Markdown(s.subject()))
	index := s.index()
	for _, p := range s.policies() {
		if p.Effect == verdict.EffectBlock { // every blocked one has it
			m.policy(index, p)
		}
	}
	m.ways(s)
	// What warns or is waived is seen without a click: nothing that somebody decided is hidden.
	open := func(p verdict.Result) bool { return p.Effect == verdict.EffectWarn || p.Counts.Waived > 0 }
	for _, p := range s.policies() {
		if p.Effect != verdict.EffectBlock && open(p) {
			m.policy(index, p)
		}
	}
	m.details("Other policies", func() {
		for _, p := range s.policies() {
			if p.Effect != verdict.EffectBlock && !open(p) {
				m.policy(index, p)
			}
		}
	})
	m.gaps(s.Verdict)
	m.add("\n%s\n", escape.Markdown(totals(s)))
	for _, n := range s.Notes {
		m.add("\n> %s\n", escape.Markdown(n))
	}
	if m.left > 0 {
		m.b.WriteString(fmt.Sprintf("\n%s did not fit here.\n", plural(m.left, "part", "parts")))
	}
	in := s.Verdict.Inputs
	m.b.WriteString(fmt.Sprintf("\n<sub>verdict %s · policy %s · engine %s</sub>\n",
		escape.MarkdownCode(s.ID), escape.MarkdownCode(short(in.Policy)), escape.MarkdownCode(in.Engine)))
	return m.b.String()
}

type markdown struct {
	b     strings.Builder
	size  int // in characters
	limit int
	left  int // parts that did not fit
}

func (m *markdown) must(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	m.b.WriteString(text)
	m.size += utf8.RuneCountInString(text)
}

// add writes a part if it fits as a whole.
func (m *markdown) add(format string, args ...any) bool {
	text := fmt.Sprintf(format, args...)
	n := utf8.RuneCountInString(text)
	if m.size+n > m.limit {
		m.left++
		return false
	}
	m.b.WriteString(text)
	m.size += n
	return true
}

// details folds what inside writes. Its closing tag is kept room for, or the rest of the page would fold too.
func (m *markdown) details(title string, inside func()) {
	const closing = "\n</details>\n"
	m.limit -= len(closing)
	before := m.b.Len()
	opened := m.add("\n<details><summary>%s</summary>\n", title)
	after := m.b.Len()
	if opened {
		inside()
	}
	m.limit += len(closing)
	switch {
	case opened && m.b.Len() > after:
		m.must(closing)
	case opened:
		kept := m.b.String()[:before]
		m.b.Reset()
		m.b.WriteString(kept)
		m.size = utf8.RuneCountInString(kept)
	}
}

func (m *markdown) policy(index map[findingKey]finding.Finding, p verdict.Result) {
	if !m.add("\n#### %s %s\n\n%s · %s · %s\n", outcomeIcons[p.Outcome], escape.Markdown(p.Name),
		p.Action, escape.MarkdownCode(origin(p.Origin)), escape.Markdown(p.Reason)) {
		return
	}
	if p.Effect != verdict.EffectNone && p.Message != "" {
		m.add("\n> %s\n", escape.Markdown(p.Message))
	}
	es := slices.Concat(entries(index, p.Blocking), entries(index, p.Warning), entries(index, p.Waived))
	if len(es) == 0 {
		return
	}
	if !m.add("\n| Severity | Finding | Where | Confidence | How to fix |\n|---|---|---|---|---|\n") {
		return
	}
	shown := 0
	for _, e := range es {
		if !m.add("| %s | %s %s | %s | %s | %s |\n", severityCell(e.ref), escape.MarkdownCode(e.ref.ID), escape.Markdown(e.Title),
			escape.MarkdownCode(e.place()), e.Confidence, escape.Markdown(clip(e.Remediation, 300))) {
			break
		}
		shown++
	}
	if n := p.Counts.Blocking + p.Counts.Warning + p.Counts.Waived - shown; n > 0 {
		m.add("\n%s more.\n", plural(n, "finding", "findings"))
	}
}

func severityCell(r verdict.Ref) string {
	if r.Waiver == "" {
		return r.Severity.String()
	}
	return r.Severity.String() + ", waived by " + escape.MarkdownCode(r.Waiver)
}

// ways says how a blocked pull request is unblocked other than by mending it, with the line to copy.
func (m *markdown) ways(s Story) {
	if !s.blocked() || s.Verdict.Subject.Context != verdict.PullRequest || s.Waivable == "" {
		return
	}
	seen := map[string]bool{}
	var asked strings.Builder
	for _, p := range s.Pending {
		seen[p.Finding] = true
		asked.WriteString(p.Line + "\n")
	}
	if len(s.Pending) > 0 {
		m.add("\n**Waits for a decision.** A waiver was asked for. %s To approve, copy the line into a comment.\n\n```\n%s```\n", escape.Markdown(s.Waivable), asked.String())
	}
	var ids []string
	for _, p := range s.Verdict.Policies {
		for _, r := range p.Blocking {
			if !seen[r.ID] && p.Waivable() {
				seen[r.ID] = true
				ids = append(ids, r.ID)
			}
		}
	}
	if len(ids) == 0 {
		return
	}
	const most = 5
	more := ""
	if n := len(ids) - most; n > 0 {
		more = fmt.Sprintf(" %d more findings block.", n)
		ids = ids[:most]
	}
	var lines strings.Builder
	for _, id := range ids {
		fmt.Fprintf(&lines, "/noxaudit waive %s reason=\"\"\n", id)
	}
	m.add("\n**Who can unblock.** Mend it, or ask for a waiver in a comment on this pull request, with your reason between the quotes.%s %s\n\n```\n%s```\n",
		more, escape.Markdown(s.Waivable), lines.String())
}

var outcomeIcons = map[verdict.Outcome]string{
	verdict.OutcomeBlocked: "⛔", verdict.OutcomeError: "⛔", verdict.OutcomeWarned: "⚠️",
	verdict.OutcomeNotAssessed: "❔", verdict.OutcomeWaived: "🕓", verdict.OutcomeReported: "📄", verdict.OutcomePassed: "✅",
}

func (m *markdown) gaps(v verdict.Verdict) {
	if v.Counts.NotAssessed == 0 {
		return
	}
	m.details(fmt.Sprintf("Not assessed: %s", plural(v.Counts.NotAssessed, "place", "places")), func() {
		m.add("\n")
		for _, g := range v.NotAssessed {
			where := g.Path
			if where == "" {
				where = "auditor " + g.Auditor
			}
			if !m.add("- %s: %s\n", escape.MarkdownCode(where), escape.Markdown(g.Reason)) {
				return
			}
		}
	})
}

func totals(s Story) string {
	text := "Findings: " + severities(s.Verdict.Counts.Findings) + "."
	if !s.Verdict.Subject.Base.IsZero() {
		text += fmt.Sprintf(" %d introduced, %d there before, %d resolved.", s.Verdict.Counts.Introduced.Total(), s.existing(), s.Resolved)
	}
	return text
}

func short(digest string) string {
	d := strings.TrimPrefix(digest, "sha256:")
	if len(d) > 12 {
		d = d[:12]
	}
	return d
}
