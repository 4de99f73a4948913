package gate

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/noxaudit/noxaudit/internal/escape"
	"github.com/noxaudit/noxaudit/internal/finding"
	"github.com/noxaudit/noxaudit/internal/render"
	"github.com/noxaudit/noxaudit/policy/verdict"
	"github.com/noxaudit/noxaudit/policy/waiver"
)

// maxAnnotations is how many annotations one run gets: more help nobody, and each fifty cost a call.
const maxAnnotations = 50

// compose words a completed check run: the worst verdict of all occasions, and the story of each.
func compose(c *Check, tolds []told) {
	if len(tolds) == 0 {
		c.Blocked = true // fail closed: this commit was judged on no occasion, and nothing waits for it
		c.Title = "Superseded"
		c.Summary = "This commit is no longer the head of a pull request, branch or merge group. Its successor has a check run of its own."
		return
	}
	slices.SortStableFunc(tolds, func(a, b told) int { return cmp.Compare(rank(a), rank(b)) })
	worst := tolds[0]
	c.Blocked = worst.Conclusion == verdict.Blocked
	c.Title = render.Story{Verdict: worst.Verdict, ID: worst.ID, Findings: worst.found.Findings, Pending: worst.pending}.Headline()
	var b strings.Builder
	limit := render.MaxMarkdown / len(tolds)
	for i, t := range tolds {
		if len(tolds) > 1 {
			fmt.Fprintf(&b, "## %s\n\n", escape.Markdown(t.label))
		}
		story := render.Story{Verdict: t.Verdict, ID: t.ID, Findings: t.found.Findings, Resolved: len(t.found.Resolved), Notes: t.notes}
		if t.pull != 0 {
			story.Waivable, story.Pending = waivableBy(waiver.DefaultTerms()), t.pending
		}
		b.WriteString(render.Markdown(story, limit-200))
		if i < len(tolds)-1 {
			b.WriteString("\n")
		}
	}
	c.Summary = b.String()
	c.Annotations = annotations(tolds)
	c.Actions = []Action{{Label: "Recheck", Description: "Look at this commit again", Identifier: "recheck"}}
}

// failed words a check run for a commit that could not be judged: red, since nobody knows, and with the reason.
func failed(c *Check, why error) {
	c.Blocked = true
	c.Title = "Could not be evaluated"
	c.Summary = "noxaudit could not judge this commit, so it does not pass:\n\n> " + escape.Markdown(why.Error()) +
		"\n\nMend the cause, then press Recheck or push again.\n"
	c.Actions = []Action{{Label: "Recheck", Description: "Look at this commit again", Identifier: "recheck"}}
}

// delayed words a check run for a commit that could not be judged so far.
func delayed(c *Check, why error) {
	c.Blocked = true
	c.Title = "Could not be evaluated yet"
	c.Summary = "noxaudit could not judge this commit so far, so it does not pass. It goes on trying by itself:\n\n> " + escape.Markdown(why.Error()) + "\n"
}

func rank(t told) int {
	if t.Conclusion == verdict.Blocked {
		return 0
	}
	return 1
}

// annotations are the acting findings that stand on a line, the gravest first, each once.
func annotations(tolds []told) []Annotation {
	type key struct{ fingerprint, content string }
	var out []Annotation
	var severities []finding.Severity
	seen := map[key]bool{}
	for _, t := range tolds {
		byKey := map[key]finding.Finding{}
		for _, f := range t.found.Findings {
			byKey[key{f.Fingerprint, f.Content}] = f
		}
		for _, p := range t.Policies {
			for i, refs := range [][]verdict.Ref{p.Blocking, p.Warning} {
				level := []string{"failure", "warning"}[i]
				for _, r := range refs {
					k := key{r.Fingerprint, r.Content}
					f := byKey[k]
					if seen[k] || f.Path == "" || f.Region.StartLine == 0 {
						continue
					}
					seen[k] = true
					severities = append(severities, f.Severity)
					out = append(out, annotation(f, level))
				}
			}
		}
	}
	order := make([]int, len(out))
	for i := range order {
		order[i] = i
	}
	slices.SortFunc(order, func(a, b int) int {
		return cmp.Or(strings.Compare(out[a].Level, out[b].Level), cmp.Compare(severities[b], severities[a]),
			strings.Compare(out[a].Path, out[b].Path), cmp.Compare(out[a].StartLine, out[b].StartLine), strings.Compare(out[a].Title, out[b].Title))
	})
	sorted := make([]Annotation, 0, min(len(out), maxAnnotations))
	for _, i := range order[:min(len(order), maxAnnotations)] {
		sorted = append(sorted, out[i])
	}
	return sorted
}

func annotation(f finding.Finding, level string) Annotation {
	a := Annotation{
		Path: f.Path, StartLine: f.Region.StartLine, EndLine: max(f.Region.EndLine, f.Region.StartLine), Level: level,
		Title: f.ID + " " + escape.Visible(f.Title),
	}
	parts := []string{}
	for _, text := range []string{f.Message, f.Remediation} {
		if text != "" {
			parts = append(parts, strings.Join(escape.Lines(text), "\n"))
		}
	}
	if len(parts) == 0 {
		parts = append(parts, a.Title)
	}
	a.Message = strings.Join(parts, "\n\n")
	return a
}
