package render

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/noxaudit/noxaudit/internal/escape"
	"github.com/noxaudit/noxaudit/internal/finding"
	"github.com/noxaudit/noxaudit/policy/verdict"
)

// Style is how text is set.
type Style struct {
	Color bool // ANSI colours
	Width int  // of the terminal in columns; 0 = 100
	All   bool // name also what does not act: reported and existing findings
}

const (
	bold    = "1"
	dim     = "2"
	red     = "31"
	green   = "32"
	yellow  = "33"
	magenta = "35"
	cyan    = "36"
)

type textWriter struct {
	w     io.Writer
	style Style
	err   error
}

func (t *textWriter) paint(code, s string) string {
	if !t.style.Color || s == "" {
		return s
	}
	return "\x1b[" + code + "m" + s + "\x1b[0m"
}

func (t *textWriter) line(format string, args ...any) {
	if t.err == nil {
		_, t.err = fmt.Fprintf(t.w, format+"\n", args...)
	}
}

// para writes wrapped text, its first line behind label, all lines behind indent.
func (t *textWriter) para(indent, label, text string) {
	hang := indent + strings.Repeat(" ", utf8.RuneCountInString(label))
	first := true
	for _, src := range escape.Lines(text) {
		for _, l := range wrap(src, max(30, t.style.Width-utf8.RuneCountInString(hang))) {
			if first {
				t.line("%s%s%s", indent, t.paint(dim, label), l)
				first = false
			} else {
				t.line("%s%s", hang, l)
			}
		}
	}
}

func wrap(s string, width int) []string {
	var lines []string
	cur, n := "", 0
	for _, word := range strings.Fields(s) {
		wn := utf8.RuneCountInString(word)
		if cur != "" && n+1+wn > width {
			lines = append(lines, cur)
			cur, n = "", 0
		}
		if cur != "" {
			cur += " "
			n++
		}
		cur += word
		n += wn
	}
	if cur != "" {
		lines = append(lines, cur)
	}
	return lines
}

// Text tells the story on a terminal.
func Text(w io.Writer, s Story, style Style) error {
	if style.Width <= 0 {
		style.Width = 100
	}
	t := &textWriter{w: w, style: style}
	t.line("")
	t.line("%s  %s", t.paint(bold, "noxaudit"), escape.Visible(s.subject()))
	t.line("")
	headline := t.paint(bold+";"+green, "✓ "+s.Headline())
	if s.blocked() {
		headline = t.paint(bold+";"+red, "✗ "+s.Headline())
	}
	t.line("%s", headline)
	index := s.index()
	for _, p := range s.policies() {
		t.policy(index, p)
	}
	if style.All {
		t.others(s)
	}
	t.closing(s)
	return t.err
}

var outcomeMarks = map[verdict.Outcome][2]string{
	verdict.OutcomeBlocked:     {"✗", red},
	verdict.OutcomeError:       {"✗", red},
	verdict.OutcomeWarned:      {"!", yellow},
	verdict.OutcomeNotAssessed: {"?", magenta},
	verdict.OutcomeWaived:      {"~", magenta},
	verdict.OutcomeReported:    {"·", cyan},
	verdict.OutcomePassed:      {"✓", green},
}

func (t *textWriter) policy(index map[findingKey]finding.Finding, p verdict.Result) {
	mark := outcomeMarks[p.Outcome]
	if p.Outcome == verdict.OutcomeError && p.Effect != verdict.EffectBlock {
		mark = outcomeMarks[verdict.OutcomeWarned]
	}
	t.line("")
	t.line("%s %s  %s", t.paint(mark[1], mark[0]), t.paint(bold, escape.Visible(p.Name)),
		t.paint(dim, fmt.Sprintf("%s · %s", p.Action, escape.Visible(origin(p.Origin)))))
	t.para("  ", "", p.Reason)
	if p.Effect != verdict.EffectNone && p.Message != "" {
		t.para("  ", "", p.Message)
	}
	for _, e := range entries(index, p.Blocking) {
		t.entry(e)
	}
	for _, e := range entries(index, p.Warning) {
		t.entry(e)
	}
	for _, e := range entries(index, p.Waived) {
		t.entry(e)
	}
	if n := p.Counts.Blocking + p.Counts.Warning + p.Counts.Waived - len(p.Blocking) - len(p.Warning) - len(p.Waived); n > 0 {
		t.line("")
		t.line("    and %d more; --format json names all", n)
	}
	for i, g := range p.Gaps {
		if i == 10 {
			t.line("    %s", t.paint(dim, fmt.Sprintf("and %d more places that could not be assessed", p.Counts.Gaps-i)))
			break
		}
		where := g.Path
		if where == "" {
			where = "auditor " + g.Auditor
		}
		t.line("    %s %s: %s", t.paint(magenta, "not assessed"), escape.Visible(where), escape.Visible(g.Reason))
	}
}

var severityColors = map[finding.Severity]string{
	finding.Critical: bold + ";" + red, finding.High: red, finding.Medium: yellow, finding.Low: cyan, finding.Info: dim,
}

func (t *textWriter) entry(e entry) {
	t.line("")
	since := ""
	if !e.ref.Introduced {
		since = t.paint(dim, "  (there before)")
	}
	t.line("    %s  %s  %s%s", t.paint(severityColors[e.ref.Severity], fmt.Sprintf("%-8s", e.ref.Severity)),
		t.paint(bold, e.ref.ID), escape.Visible(e.Title), since)
	const in = "              "
	t.line("%s%s", in, t.paint(cyan, escape.Visible(e.place())))
	if e.Context != "" {
		t.line("%s%s", in, t.paint(dim, "│ ")+escape.Visible(clip(e.Context, max(30, t.style.Width-len(in)-2))))
	}
	if e.Message != "" {
		t.para(in, "why  ", e.Message)
	}
	if e.Remediation != "" {
		t.para(in, "fix  ", e.Remediation)
	}
	if e.ref.Reason != "" {
		t.para(in, "note ", e.ref.Reason)
	}
	if e.ref.Waiver != "" {
		t.para(in, "note ", "waived by "+e.ref.Waiver)
	}
	if e.Link != "" {
		t.para(in, "see  ", e.Link)
	}
}

// others lists what no policy acts on.
func (t *textWriter) others(s Story) {
	acts := map[findingKey]bool{}
	for _, p := range s.Verdict.Policies {
		for _, r := range slices.Concat(p.Blocking, p.Warning, p.Waived) {
			acts[findingKey{r.Fingerprint, r.Content}] = true
		}
	}
	first := true
	for _, f := range s.Findings {
		if acts[findingKey{f.Fingerprint, f.Content}] {
			continue
		}
		if first {
			t.line("")
			t.line("%s", t.paint(bold, "Findings that no policy acts on"))
			first = false
		}
		t.entry(entry{verdict.Ref{ID: f.ID, Severity: f.Severity, Introduced: f.Introduced}, f})
	}
}

func (t *textWriter) closing(s Story) {
	v := s.Verdict
	t.line("")
	t.line("%s %s", t.paint(dim, "findings "), severities(v.Counts.Findings))
	if !v.Subject.Base.IsZero() {
		t.line("%s %d introduced, %d there before, %d resolved", t.paint(dim, "since base"),
			v.Counts.Introduced.Total(), s.existing(), s.Resolved)
	}
	if n := v.Counts.UnderNoPolicy; n > 0 && !t.style.All {
		t.line("%s %s under no policy; --all lists them", t.paint(dim, "others   "), plural(n, "finding", "findings"))
	}
	if n := v.Counts.NotAssessed; n > 0 {
		t.line("%s %s could not be assessed", t.paint(dim, "gaps     "), plural(n, "place", "places"))
		t.gaps(v)
	}
	for _, n := range s.Notes {
		t.para("", "note      ", n)
	}
	t.line("%s %s", t.paint(dim, "verdict  "), s.ID)
}

// gaps names the gaps that no policy's part has named.
func (t *textWriter) gaps(v verdict.Verdict) {
	const most = 10
	named := map[verdict.Gap]bool{}
	for _, p := range v.Policies {
		for _, g := range p.Gaps[:min(len(p.Gaps), most)] {
			named[g] = true
		}
	}
	shown := 0
	for _, g := range v.NotAssessed {
		if named[g] {
			continue
		}
		if shown++; shown > most {
			t.line("          and more; --format json names all")
			return
		}
		where := g.Path
		if where == "" {
			where = "auditor " + g.Auditor
		}
		t.line("          %s: %s", escape.Visible(where), escape.Visible(g.Reason))
	}
}

func clip(s string, most int) string {
	if utf8.RuneCountInString(s) <= most {
		return s
	}
	runes := []rune(s)
	return string(runes[:most-1]) + "…"
}
