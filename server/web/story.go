package web

import (
	"cmp"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/noxaudit/noxaudit/internal/finding"
	"github.com/noxaudit/noxaudit/internal/store"
	"github.com/noxaudit/noxaudit/policy/verdict"
	"github.com/noxaudit/noxaudit/report/figures"
)

// verdictView is a verdict as a tree: its conclusion in words, each policy, why, and the way out.
type verdictView struct {
	ID       string // "V-…"
	Digest   string
	Mark     mark
	Line     string // "Blocked: a Stripe secret key is in the source"
	Next     string // the sentence after it
	Tally    []tallyItem
	Policies []policyView
	Gaps     []verdict.Gap
	MoreGaps int
	Layers   []layerView
	Inputs   []digestRow
	Replay   string
	Entry    entryView
	At       time.Time
	Waiver   link // that is asked for
}

type tallyItem struct {
	Mark mark
	N    int
}

// policyView is one policy of the tree.
type policyView struct {
	Name     string
	Mark     mark
	Reason   string // one clause for the summary
	Action   string
	Layer    string
	Open     bool
	Leaves   []leafView
	Rest     []findingRow // findings in a line each
	More     int          // findings beyond those listed
	Text     string       // what to say where there are no findings
	Message  string       // of the policy's author
	Facts    []fact
	Copy     copyLine
	Describe string
}

type fact struct{ Name, Value string }

// leafView is a finding that acts.
type leafView struct {
	ID, Title, Place string
	Address          string // of its page
	Severity         finding.Severity
	Class            string
	Code             []codeLine
	Facts            []fact
	Copy             copyLine
	Waiver           link       // that covers it
	Asked            *waiverRow // that does not cover it yet
}

type codeLine struct {
	Number int
	Plus   bool
	Class  string
	Text   string
}

// copyLine is a line that a reader takes along.
type copyLine struct{ Caption, Text string }

type layerView struct{ Name, Where, Count string }

type digestRow struct{ Name, Short, Full string }

type entryView struct {
	Known   bool
	Number  string // "" while the ledger does not hold it
	Written time.Time
}

func entryOf(e figures.Entry) entryView {
	v := entryView{Known: e.Known(), Written: e.Time}
	if e.Seq >= 0 {
		v.Number = figures.Number(int(e.Seq))
	}
	return v
}

// outcomeMark is how an outcome is drawn.
func outcomeMark(r verdict.Result) mark {
	switch r.Outcome {
	case verdict.OutcomeBlocked:
		return blocked
	case verdict.OutcomeError:
		if r.Effect == verdict.EffectBlock {
			return mark{"unknown", "is-danger", "Not evaluated, blocks"}
		}
		return notAssessed.as("Not evaluated")
	case verdict.OutcomeWarned:
		return warned
	case verdict.OutcomeNotAssessed:
		if r.Effect == verdict.EffectBlock {
			return mark{"unknown", "is-danger", "Not assessed, blocks"}
		}
		return notAssessed
	case verdict.OutcomeWaived:
		return waived
	case verdict.OutcomeReported:
		return reported
	}
	return passed
}

// outcomeRank orders policies as they need the reader.
func outcomeRank(r verdict.Result) int {
	if r.Effect == verdict.EffectBlock {
		return 0
	}
	return map[verdict.Outcome]int{
		verdict.OutcomeBlocked: 0, verdict.OutcomeWarned: 1, verdict.OutcomeError: 2, verdict.OutcomeNotAssessed: 3,
		verdict.OutcomeWaived: 4, verdict.OutcomeReported: 5, verdict.OutcomePassed: 6,
	}[r.Outcome]
}

// setting is what a verdict is shown with.
type setting struct {
	account string                       // its numeric id, which commands ask for
	home    string                       // address of the repository
	author  string                       // who opened the pull request; "" where there is none
	waivers map[figures.Named]*waiverRow // open ones, by the finding they are about
}

// tree makes the view of a verdict.
func tree(v figures.Verdict, c setting) verdictView {
	out := verdictView{ID: v.Row.Short, Digest: v.Row.ID, At: v.Row.Time, Entry: entryOf(v.Entry), Gaps: v.NotAssessed, MoreGaps: v.Counts.NotAssessed - len(v.NotAssessed)}
	results := slices.Clone(v.Policies)
	slices.SortStableFunc(results, func(a, b verdict.Result) int { return cmp.Compare(outcomeRank(a), outcomeRank(b)) })
	n := map[string]int{}
	for _, r := range results {
		p := policyOf(r, v, c)
		switch {
		case r.Effect == verdict.EffectBlock:
			n["blocked"]++
		case r.Outcome == verdict.OutcomeWarned:
			n["warned"]++
		case r.Outcome == verdict.OutcomeError, r.Outcome == verdict.OutcomeNotAssessed:
			n["unknown"]++
		case r.Outcome == verdict.OutcomeWaived:
			n["waived"]++
		case r.Outcome == verdict.OutcomeReported:
			n["report"]++
		default:
			n["passed"]++
		}
		out.Policies = append(out.Policies, p)
	}
	for _, t := range []struct {
		key string
		m   mark
	}{{"blocked", blocked}, {"warned", warned}, {"unknown", notAssessed}, {"waived", waived}, {"report", reported}, {"passed", passed}} {
		if n[t.key] > 0 {
			out.Tally = append(out.Tally, tallyItem{t.m.as(strings.ToLower(t.m.Word)), n[t.key]})
		}
	}
	out.Mark, out.Line, out.Next = conclusion(v, results, n)
	for _, p := range out.Policies {
		for _, l := range p.Leaves {
			if l.Asked != nil && out.Waiver.Text == "" {
				out.Waiver = link{"Review the waiver", l.Asked.Address}
				out.Next = fmt.Sprintf("%s Waiver %s was asked for and has %d of %s.", strings.SplitAfter(out.Next, ". ")[0], l.Asked.ID, l.Asked.Given, figures.Count(l.Asked.Needed, "approval", "approvals"))
			}
		}
	}
	out.Layers = layersOf(v.Policies)
	for _, d := range []digestRow{{"Verdict", "", v.Row.ID}, {"Findings", "", v.Inputs.Findings}, {"Policies", "", v.Inputs.Policy}, {"Assessments", "", v.Inputs.Assessments}, {"Waivers", "", v.Inputs.Waivers}} {
		d.Short = short(d.Full)
		out.Inputs = append(out.Inputs, d)
	}
	out.Replay = "noxaudit replay " + v.Row.Short + " --account " + c.account
	return out
}

// conclusion is the verdict in a line and the sentence that follows.
func conclusion(v figures.Verdict, results []verdict.Result, n map[string]int) (mark, string, string) {
	all := len(results)
	if v.Conclusion == verdict.Blocked {
		what, more := "", -1
		for _, r := range results {
			if r.Effect != verdict.EffectBlock {
				continue
			}
			more += max(1, r.Counts.Blocking)
			if what != "" {
				continue
			}
			switch {
			case len(r.Blocking) > 0:
				ref := worst(r.Blocking)
				if what = lowerFirst(v.Findings[figures.Named{Fingerprint: ref.Fingerprint, Content: ref.Content}].Title); what == "" {
					what = ref.Type
				}
			case r.Outcome == verdict.OutcomeNotAssessed:
				what = r.Name + " was not assessed"
			default:
				what = r.Name + " could not be evaluated"
			}
		}
		line := "Blocked: " + what
		if more > 0 {
			line += fmt.Sprintf(", and %s more", figures.Number(more))
		}
		next := fmt.Sprintf("%d of %s. Fix what is listed and push, or ask for a waiver with the line beside the finding.", n["blocked"], figures.Count(all, "policy blocks", "policies block"))
		if n["blocked"] == 1 {
			next = strings.Replace(next, "policies block.", "policies blocks.", 1)
		}
		return blocked, line, next
	}
	switch {
	case n["warned"] > 0:
		return warned.as("Passed with warnings"), "Passed, with " + figures.Count(n["warned"], "policy that warns", "policies that warn"), fmt.Sprintf("None of %s blocks. Warnings hold nothing up.", figures.Count(all, "policy", "policies"))
	case n["unknown"] > 0 && n["passed"] == 0 && n["report"] == 0:
		return notAssessed, "Not assessed: no policy could be decided", "The check is green because no policy insists on an answer. This is not a pass: nothing was looked at."
	case n["unknown"] > 0:
		return passed, "Passed, but " + figures.Count(n["unknown"], "policy was not assessed", "policies were not assessed"), "What was looked at violates nothing. What was not is listed as such and counts as no pass."
	}
	if n["waived"] > 0 {
		return waived.as("Passed, waived"), "Passed: what would block is waived", "Waived findings stay in the verdict, and block again when their waiver ends."
	}
	return passed, "Passed: nothing here violates a policy", figures.Count(all, "policy was", "policies were") + " decided."
}

func worst(refs []verdict.Ref) verdict.Ref {
	return slices.MaxFunc(refs, func(a, b verdict.Ref) int { return cmp.Compare(a.Severity, b.Severity) })
}

// lowerFirst makes a title the end of a sentence, unless it begins with a name or an abbreviation.
func lowerFirst(s string) string {
	word, _, _ := strings.Cut(s, " ")
	switch word {
	case "A", "An", "The", "This", "Secret", "Key", "Private", "Hard-coded", "Hardcoded", "Generic", "Known", "Dependency", "Endpoint", "Container", "No":
		return strings.ToLower(s[:1]) + s[1:]
	}
	return s
}

func policyOf(r verdict.Result, v figures.Verdict, set setting) policyView {
	m := outcomeMark(r)
	p := policyView{
		Name: r.Name, Mark: m, Action: string(r.Action), Layer: r.Origin.Layer, Message: r.Message, Describe: cmp.Or(r.Rule, r.Description),
		// What blocks, warns of something new, or was not assessed is read at once; the rest is a click away.
		Open: r.Effect == verdict.EffectBlock || r.Outcome == verdict.OutcomeError || r.Outcome == verdict.OutcomeNotAssessed ||
			slices.ContainsFunc(r.Warning, func(x verdict.Ref) bool { return x.Introduced }),
	}
	c := r.Counts
	acting := slices.Concat(r.Blocking, r.Warning)
	switch {
	case c.Blocking+c.Warning > 0 && !slices.ContainsFunc(acting, func(x verdict.Ref) bool { return !x.Introduced }):
		p.Reason = figures.Count(c.Blocking+c.Warning, "new finding", "new findings")
	case c.Blocking+c.Warning > 0 && !slices.ContainsFunc(acting, func(x verdict.Ref) bool { return x.Introduced }):
		p.Reason = figures.Count(c.Blocking+c.Warning, "finding", "findings") + ", not new"
	case c.Blocking+c.Warning > 0:
		p.Reason = figures.Count(c.Blocking+c.Warning, "finding", "findings")
	case r.Outcome == verdict.OutcomeWaived:
		p.Reason = figures.Count(c.Waived, "finding", "findings")
	case r.Outcome == verdict.OutcomeReported:
		p.Reason = figures.Count(c.Reported, "finding", "findings") + ", recorded only"
	case r.Outcome == verdict.OutcomePassed && c.Existing > 0:
		p.Reason = figures.Count(c.Existing, "finding was", "findings were") + " there before"
	case r.Outcome == verdict.OutcomePassed && c.BelowSeverity > 0:
		p.Reason = figures.Count(c.BelowSeverity, "finding", "findings") + " below its severity"
	case r.Outcome == verdict.OutcomePassed && len(r.DecidedBy) > 0:
		p.Reason = "decided by " + strings.Join(r.DecidedBy, ", ")
	case r.Outcome == verdict.OutcomeNotAssessed:
		p.Reason = "no auditor here decides it"
	}
	index := v.Findings
	for _, refs := range []struct {
		list []verdict.Ref
		how  acts
	}{{r.Blocking, blocks}, {r.Warning, warns}, {r.Waived, isWaived}} {
		list := slices.Clone(refs.list)
		slices.SortStableFunc(list, func(a, b verdict.Ref) int { return cmp.Compare(b.Severity, a.Severity) })
		for _, ref := range list {
			f := index[figures.Named{Fingerprint: ref.Fingerprint, Content: ref.Content}]
			if len(p.Leaves) == mostLeaves || refs.how != blocks && len(p.Leaves) == fewLeaves {
				p.Rest = append(p.Rest, restOf(ref, f, set.home))
				continue
			}
			p.Leaves = append(p.Leaves, leafOf(ref, f, v, refs.how, set))
		}
	}
	p.More = c.Blocking + c.Warning + c.Waived - len(p.Leaves) - len(p.Rest)
	if len(p.Leaves) > 0 {
		return p
	}
	p.Text = r.Reason
	switch r.Outcome {
	case verdict.OutcomeError, verdict.OutcomeNotAssessed:
		consequence := "Does not block, and counts as no pass."
		switch r.Effect {
		case verdict.EffectBlock:
			consequence = "Blocks: the policy insists on an answer."
		case verdict.EffectWarn:
			consequence = "Warns. This is not a pass."
		}
		p.Facts = []fact{{"Consequence", consequence}}
		if r.Outcome == verdict.OutcomeError {
			p.Facts = append(p.Facts, fact{"To retry", "Mend the cause, then comment the line below or press Recheck on the check run."})
			p.Copy = copyLine{"Comment to copy, to look again", "/noxaudit recheck"}
		}
	}
	for _, g := range r.Gaps[:min(len(r.Gaps), 5)] {
		where := cmp.Or(g.Path, "auditor "+g.Auditor)
		p.Facts = append(p.Facts, fact{"Not read", where + ": " + g.Reason})
	}
	return p
}

// acts is what a finding does.
type acts uint8

const (
	blocks acts = iota
	warns
	isWaived
)

// mostLeaves is how many findings of one policy a page spells out, fewLeaves how many of them where none blocks.
const (
	mostLeaves = 20
	fewLeaves  = 2
)

// restOf is a finding in a line.
func restOf(ref verdict.Ref, f finding.Finding, home string) findingRow {
	return findingRow{Title: cmp.Or(f.Title, ref.Type), ID: ref.ID, Address: home + "/findings/" + url.PathEscape(ref.ID), Severity: ref.Severity, Place: placeOf(ref)}
}

func placeOf(ref verdict.Ref) string {
	switch {
	case ref.Path == "":
		return "the repository as a whole"
	case ref.Line > 0:
		return fmt.Sprintf("%s:%d", ref.Path, ref.Line)
	}
	return ref.Path
}

func leafOf(ref verdict.Ref, f finding.Finding, v figures.Verdict, how acts, set setting) leafView {
	home, author := set.home, set.author
	l := leafView{
		ID: ref.ID, Title: cmp.Or(f.Title, ref.Type), Severity: ref.Severity, Class: evidence(f), Address: home + "/findings/" + url.PathEscape(ref.ID),
		Place: placeOf(ref),
	}
	l.Code = code(f, ref.Introduced, how == blocks)
	why := "Why it blocks"
	switch how {
	case warns:
		why = "Why it warns"
	case isWaived:
		why = "Why it would act"
	}
	reason := "It was there before, and the policy looks at everything."
	if ref.Introduced {
		reason = "New here."
		if b := v.Subject.Base; !b.IsZero() {
			reason = "New here: it is not at the merge base " + b.Short() + "."
		}
	}
	if ref.Reason != "" {
		reason += " It only warns: " + ref.Reason + "."
	} else if f.Evidence == finding.Model && how == warns {
		reason += " Only a model says so, and a model's word alone blocks nothing here."
	}
	l.Facts = append(l.Facts, fact{why, reason})
	if f.Message != "" {
		l.Facts = append(l.Facts, fact{"What it is", f.Message})
	}
	l.Facts = append(l.Facts, fact{"To fix", cmp.Or(f.Remediation, "Remove it and push again.")})
	switch how {
	case blocks:
		who := "Somebody with maintain or admin permission on " + v.Subject.Repository.FullName + " who has no part in the change and did not ask for the waiver."
		if author != "" {
			who = "Somebody with maintain or admin permission on " + v.Subject.Repository.FullName + ". Not @" + author + ", nobody who wrote commits here, and not who asks for the waiver."
		}
		l.Facts = append(l.Facts, fact{"Who can unblock", who})
		l.Copy = copyLine{"To ask for a waiver: copy, fill in the reason", `/noxaudit waive ` + ref.ID + ` reason="…"`}
		if x := set.waivers[figures.Named{Fingerprint: ref.Fingerprint, Content: ref.Content}]; x != nil {
			l.Asked = x
			l.Copy = copyLine{}
		}
	case warns:
		l.Copy = copyLine{"Wrong? Copy, fill in the reason", `/noxaudit fp ` + ref.ID + ` reason="…"`}
	case isWaived:
		l.Waiver = link{ref.Waiver, strings.SplitAfterN(home, "/repositories/", 2)[0]}
		l.Waiver.Address = strings.TrimSuffix(l.Waiver.Address, "/repositories/") + "/waivers/" + url.PathEscape(ref.Waiver)
	}
	return l
}

// evidence is the class of a finding as a tag says it.
func evidence(f finding.Finding) string {
	switch f.Evidence {
	case finding.Model:
		return "Model only · confidence " + f.Confidence.String()
	case finding.Corroborated:
		return "Corroborated"
	case finding.Deterministic:
		return "Deterministic"
	}
	return ""
}

// code is the masked text that a finding stands on.
func code(f finding.Finding, introduced, blocks bool) []codeLine {
	if f.Context == "" {
		return nil
	}
	c := codeLine{Number: f.Region.StartLine, Text: f.Context, Plus: introduced}
	if introduced {
		c.Class = "new"
		if !blocks {
			c.Class = "new-warn"
		}
	}
	return []codeLine{c}
}

// layersOf are the places where policies are written, the weakest first.
func layersOf(results []verdict.Result) []layerView {
	order := []string{"built-in", "organisation", "repository", "file"}
	type key struct{ layer, path, blob string }
	counts := map[key]int{}
	var keys []key
	for _, r := range results {
		k := key{r.Origin.Layer, r.Origin.Path, r.Origin.Blob}
		if k.layer == "built-in" { // one place for who reads it: part of the program
			k.path, k.blob = "", ""
		}
		if counts[k] == 0 {
			keys = append(keys, k)
		}
		counts[k]++
	}
	slices.SortStableFunc(keys, func(a, b key) int { return cmp.Compare(slices.Index(order, a.layer), slices.Index(order, b.layer)) })
	var out []layerView
	for _, k := range keys {
		l := layerView{Name: sentence(k.layer), Where: k.path, Count: figures.Count(counts[k], "policy", "policies")}
		if k.layer == "built-in" {
			l.Name, l.Where = "Built-in", "part of noxaudit"
		} else if k.blob != "" {
			l.Where += "@" + k.blob[:min(8, len(k.blob))]
		}
		if k.layer == "repository" {
			l.Name = "Repository, from the base"
		}
		out = append(out, l)
	}
	return out
}

// historyRow is a verdict in a list.
type historyRow struct {
	Mark    mark
	Word    string // "Blocked"
	About   string // "4f8c2d1 · pull request #12"
	Address string
	At      time.Time
	Repo    string
	ID      string
}

func conclusionMark(conclusion string) mark {
	switch verdict.Conclusion(conclusion) {
	case verdict.Blocked:
		return blocked
	case verdict.Pass:
		return passed
	}
	return notJudged
}

// lineName is a line of history for people.
func lineName(line string) string {
	if n, ok := strings.CutPrefix(line, "pull/"); ok {
		return "pull request #" + n
	}
	switch {
	case line == store.DefaultLine:
		return "default branch"
	case line == "queue":
		return "merge queue"
	case strings.HasPrefix(line, "worktree"):
		return "working tree"
	}
	return line
}

// lineAddress is the page that a line of history has; "" for none.
func lineAddress(home, line string) string {
	if n, ok := strings.CutPrefix(line, "pull/"); ok {
		return home + "/pulls/" + url.PathEscape(n)
	}
	if line == store.DefaultLine {
		return home
	}
	return ""
}

func historyOf(vs []store.Verdict, home string, lines bool) []historyRow {
	var out []historyRow
	for _, v := range vs {
		m := conclusionMark(v.Conclusion)
		r := historyRow{Mark: m, Word: m.Word, About: v.Head.Short(), At: v.Time, ID: v.Short, Address: home + "/verdicts/" + url.PathEscape(v.Short)}
		if v.Head.IsZero() {
			r.About = "working tree"
		}
		if lines {
			r.About += " · " + lineName(v.Line)
		}
		out = append(out, r)
	}
	return out
}
