package policy

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/noxaudit/noxaudit/internal/canon"
	"github.com/noxaudit/noxaudit/internal/finding"
	"github.com/noxaudit/noxaudit/policy/verdict"
)

// Input is all that a verdict depends on. Judge changes none of it, and the order of its lists means
// nothing.
type Input struct {
	Subject     verdict.Subject
	Findings    []finding.Finding // of all auditors, marked as introduced or not
	Policy      Set
	Waivers     []verdict.Waiver // in force; see Judge
	Assessments []Assessment     // of all auditors that ran or should have
	Time        time.Time        // of the event that asks for the verdict; never the time of judging
	Engine      string           // version of this program
}

// ErrInput is wrapped by every error of Judge: the caller handed it something that is not an input.
var ErrInput = errors.New("judge: unusable input")

// Judge decides. It is a pure function: equal inputs, in whatever order, give equal bytes.
//
// # Findings
//
// A policy selects the findings that have one of its focus areas, one of its types and one of its paths,
// where it names such. Of these it leaves out the less severe ones, and under scope "introduced" (the
// default) those that were there at the base; both are counted. The others act: they block, warn or are
// reported, as the action says. A finding may act under several policies, and one under none is counted. One
// that was moved is old only for a policy that asks for the path it came from as well.
//
// A finding acts one step lower (a warning where the policy blocks, reported where it warns) when
//
//   - its evidence is not named by the policy. A policy that blocks names deterministic and corroborated
//     evidence unless it says otherwise, so that a model's word alone does not block; other policies name
//     all.
//   - its confidence is below the policy's. Where the policy sets none, only a model's word under a policy
//     that blocks needs one: 0.9.
//
// # What could not be looked at
//
// The auditors that decide a policy are those whose name its types begin with; where there is no such
// auditor, those with one of its focus areas.
//
//   - No auditor decides it: on_missing. By default the policy is shown as not assessed and does nothing.
//   - One that decides it failed: on_error, by default the policy's own action. "Could not look" is never
//     "clean".
//   - One that decides it did its work but could not look at some file (a gap) inside the policy's paths:
//     the gap is always in the result. A gap at a file that is new or changed, or any gap under scope
//     "all", is a warning under a policy that blocks or warns. It blocks only where the document says
//     `on_error: block` in so many words: a team that wrote that wants it, and nobody's merge hangs on one
//     large file by default.
//
// The conclusion is to block when the effect of at least one policy is.
//
// # Waivers
//
// A finding that would block or warn, and that a waiver covers (same fingerprint and content, not past its end at the
// time of the event), neither blocks nor warns: it is listed as waived, with the waiver's id. What cannot be waived
// are the floor's policies, a failed auditor and a place that could not be looked at. Which waivers are in force is
// the caller's to know: they are part of the input.
func Judge(in Input) (verdict.Verdict, error) {
	if err := in.check(); err != nil {
		return verdict.Verdict{}, fmt.Errorf("%w: %w", ErrInput, err)
	}
	findings, digest, err := orderFindings(in.Findings)
	if err != nil {
		return verdict.Verdict{}, fmt.Errorf("%w: %w", ErrInput, err)
	}
	assessments, err := ordered(in.Assessments)
	if err != nil {
		return verdict.Verdict{}, fmt.Errorf("%w: %w", ErrInput, err)
	}
	assessed, err := canon.Marshal(assessments)
	if err != nil {
		return verdict.Verdict{}, fmt.Errorf("%w: %w", ErrInput, err)
	}
	waivers, waiverDigest, err := orderWaivers(in.Waivers)
	if err != nil {
		return verdict.Verdict{}, fmt.Errorf("%w: %w", ErrInput, err)
	}
	v := verdict.Verdict{
		Schema:     verdict.SchemaName,
		Conclusion: verdict.Pass,
		Subject:    in.Subject,
		Inputs: verdict.Inputs{
			Findings:    digest,
			Policy:      in.Policy.digest,
			Assessments: canon.Digest(assessed),
			Waivers:     waiverDigest,
			Time:        verdict.FormatTime(in.Time),
			Engine:      in.Engine,
		},
		Policies:    make([]verdict.Result, 0, len(in.Policy.policies)),
		NotAssessed: []verdict.Gap{},
	}
	ix := newIndex(findings)
	ix.cover(waivers, v.Inputs.Time)
	for _, p := range in.Policy.policies {
		r, err := judgeOne(p, ix, assessments)
		if err != nil {
			return verdict.Verdict{}, fmt.Errorf("%w: policy %q: %w", ErrInput, p.Name, err)
		}
		if r.Effect == verdict.EffectBlock {
			v.Conclusion = verdict.Blocked
		}
		v.Policies = append(v.Policies, r)
	}
	for i := range ix.facts {
		f := &ix.facts[i]
		v.Counts.Findings.Add(f.severity)
		if f.introduced {
			v.Counts.Introduced.Add(f.severity)
		}
		if !f.selected {
			v.Counts.UnderNoPolicy++
		}
	}
	for _, a := range assessments {
		if a.Outcome == NotAssessed {
			v.Counts.NotAssessed++
			v.NotAssessed = appendUpTo(v.NotAssessed, verdict.Gap{Auditor: a.Auditor, Reason: sentence(a.Reason)})
			continue
		}
		for _, g := range a.Gaps {
			v.Counts.NotAssessed++
			v.NotAssessed = appendUpTo(v.NotAssessed, gapOf(a.Auditor, g))
		}
	}
	return v, nil
}

func (in Input) check() error {
	if err := in.Subject.Check(); err != nil {
		return err
	}
	if in.Policy.digest == "" {
		return errors.New("policy: none; Effective makes one, also where no document is")
	}
	if y := in.Time.UTC().Year(); in.Time.IsZero() || y < 1 || y > 9999 {
		return errors.New("time: none")
	}
	if in.Engine == "" {
		return errors.New("engine: no version")
	}
	for i := range in.Findings {
		if err := checkFinding(&in.Findings[i]); err != nil {
			return err
		}
	}
	for _, a := range in.Assessments {
		if err := a.check(); err != nil {
			return err
		}
	}
	return nil
}

func checkFinding(f *finding.Finding) error {
	if raw, err := hex.DecodeString(f.Fingerprint); err != nil || len(raw) != 32 || f.ID != finding.ID(f.Fingerprint) {
		return fmt.Errorf("finding %q: fingerprint and id are not those of a finding", clip(f.ID))
	}
	if f.Severity > finding.Critical || f.Confidence > finding.Certain {
		return fmt.Errorf("finding %s: severity %d or confidence %d does not exist", f.ID, f.Severity, f.Confidence)
	}
	if _, err := finding.ParseEvidence(string(f.Evidence)); err != nil {
		return fmt.Errorf("finding %s: %w", f.ID, err)
	}
	return nil
}

// orderFindings brings findings into canonical order and digests them as canon.Digest(finding.Canonical(fs))
// would, file by file: neither large values are moved far nor the whole text is held. finding.Sort leaves
// findings that it cannot tell apart as they came; here their bytes decide, so that no order of the caller's
// gets through.
func orderFindings(fs []finding.Finding) ([]finding.Finding, string, error) {
	order := make([]int, len(fs))
	for i := range order {
		order[i] = i
	}
	slices.SortFunc(order, func(a, b int) int {
		return cmp.Or(strings.Compare(fs[a].Path, fs[b].Path), cmp.Compare(a, b))
	})
	sorted := make([]finding.Finding, len(fs))
	for i, from := range order {
		sorted[i] = fs[from]
	}
	sum := sha256.New()
	sum.Write([]byte("["))
	for i := 0; i < len(sorted); {
		j := i + 1
		for j < len(sorted) && sorted[j].Path == sorted[i].Path {
			j++
		}
		b, err := orderFile(sorted[i:j])
		if err != nil {
			return nil, "", err
		}
		if i > 0 {
			sum.Write([]byte(","))
		}
		sum.Write(b[1 : len(b)-1]) // without the brackets
		i = j
	}
	sum.Write([]byte("]"))
	return sorted, "sha256:" + hex.EncodeToString(sum.Sum(nil)), nil
}

// orderFile orders the findings of one path in place and returns them as a canonical JSON array.
func orderFile(fs []finding.Finding) ([]byte, error) {
	finding.Sort(fs)
	for i := range fs[1:] {
		if fs[i].Fingerprint != fs[i+1].Fingerprint {
			continue
		}
		// Findings that Sort cannot tell apart stand side by side and keep the order they had: give them one.
		if err := sortByBytes(fs); err != nil {
			return nil, err
		}
		finding.Sort(fs)
		break
	}
	return canon.Marshal(fs)
}

func sortByBytes(fs []finding.Finding) error {
	type keyed struct {
		f   finding.Finding
		key []byte
	}
	ks := make([]keyed, len(fs))
	for i, f := range fs {
		key, err := canon.Marshal(f)
		if err != nil {
			return err
		}
		ks[i] = keyed{f, key}
	}
	slices.SortFunc(ks, func(a, b keyed) int { return bytes.Compare(a.key, b.key) })
	for i := range ks {
		fs[i] = ks[i].f
	}
	return nil
}

// index holds what policies ask of findings, small and side by side: texts become numbers, so that fifty
// policies over a hundred thousand findings compare numbers and match each distinct text once per policy.
type index struct {
	findings               []finding.Finding
	facts                  []fact // one per finding
	waivers                []verdict.Waiver
	focuses, types, places []string
}

type fact struct {
	focus, typ, place int32 // numbers of the texts
	severity          finding.Severity
	evidence          finding.Evidence
	confidence        finding.Confidence
	introduced        bool
	from              int32 // number of the path it was moved from, or -1
	selected          bool  // by at least one policy
	waiver            int32 // number of the waiver that covers it, or -1
}

func newIndex(fs []finding.Finding) *index {
	ix := &index{findings: fs, facts: make([]fact, len(fs))}
	focus, typ, place := map[string]int32{}, map[string]int32{}, map[string]int32{}
	for i := range fs {
		f := &fs[i]
		ix.facts[i] = fact{
			focus:      number(focus, &ix.focuses, f.Focus),
			typ:        number(typ, &ix.types, f.Type),
			place:      number(place, &ix.places, f.Path),
			severity:   f.Severity,
			evidence:   f.Evidence,
			confidence: f.Confidence,
			introduced: f.Introduced,
			from:       -1,
			waiver:     -1,
		}
		if f.MovedFrom != "" {
			ix.facts[i].from = number(place, &ix.places, f.MovedFrom)
		}
	}
	return ix
}

func number(known map[string]int32, texts *[]string, s string) int32 {
	n, ok := known[s]
	if !ok {
		n = int32(len(*texts))
		known[s] = n
		*texts = append(*texts, s)
	}
	return n
}

// each calls f with every finding that m selects, in order.
func (ix *index) each(m matcher, f func(i int, fact *fact)) {
	focus, typ := make([]bool, len(ix.focuses)), make([]bool, len(ix.types))
	for i, s := range ix.focuses {
		focus[i] = m.wantsFocus(s)
	}
	for i, s := range ix.types {
		typ[i] = m.wantsType(s)
	}
	// A policy looks at few paths of many: those are matched when first met.
	const unknown, yes, no = 0, 1, 2
	place := make([]uint8, len(ix.places))
	for i := range ix.facts {
		fact := &ix.facts[i]
		if !focus[fact.focus] || !typ[fact.typ] {
			continue
		}
		if place[fact.place] == unknown {
			place[fact.place] = no
			if m.wantsPath(ix.places[fact.place]) {
				place[fact.place] = yes
			}
		}
		if place[fact.place] == yes {
			f(i, fact)
		}
	}
}

// shortfall is why a finding acts one step lower than its policy.
type shortfall uint8

const (
	inFull shortfall = iota
	otherEvidence
	belowConfidence
)

func (p Policy) shortfall(f *fact) shortfall {
	switch {
	case !slices.Contains(p.Evidence, f.evidence):
		return otherEvidence
	case f.confidence < p.Minimum(f.evidence):
		return belowConfidence
	}
	return inFull
}

func lower(a verdict.Action) verdict.Action {
	if a == verdict.Block {
		return verdict.Warn
	}
	return verdict.Report
}

// judgeOne is one policy's part of the verdict.
func judgeOne(p Policy, ix *index, assessments []Assessment) (verdict.Result, error) {
	m, err := compileMatcher(p)
	if err != nil {
		return verdict.Result{}, err
	}
	r := verdict.Result{
		Name:        p.Name,
		Action:      p.Action,
		Description: p.Description,
		Message:     p.Message,
		Rule:        p.Rule,
		Origin:      verdict.Origin{Layer: string(p.Origin.Layer), Path: p.Origin.Path, Blob: p.Origin.Blob, Line: p.Position.Line},
	}
	var blocking, warning, waived worst
	ix.each(m, func(i int, f *fact) {
		f.selected = true
		r.Counts.Matched++
		if f.severity < p.SeverityMinimum {
			r.Counts.BelowSeverity++
			return
		}
		introduced := f.introduced || f.from >= 0 && !m.wantsPath(ix.places[f.from])
		if introduced {
			r.Counts.Introduced++
		} else {
			r.Counts.Existing++
			if p.Scope == ScopeIntroduced {
				return
			}
		}
		action, short := p.Action, p.shortfall(f)
		switch short {
		case otherEvidence:
			r.Counts.OtherEvidence++
			action = lower(action)
		case belowConfidence:
			r.Counts.BelowConfidence++
			action = lower(action)
		}
		switch {
		case action != verdict.Report && f.waiver >= 0 && r.Waivable():
			r.Counts.Waived++
			waived.add(f, acting{i, short, introduced, ix.waivers[f.waiver].ID})
		case action == verdict.Block:
			r.Counts.Blocking++
			blocking.add(f, acting{i, short, introduced, ""})
		case action == verdict.Warn:
			r.Counts.Warning++
			warning.add(f, acting{i, short, introduced, ""})
		default:
			r.Counts.Reported++
		}
	})
	r.Blocking, r.Warning, r.Waived = refs(p, ix, &blocking), refs(p, ix, &warning), refs(p, ix, &waived)

	look := lookOf(p, m, assessments)
	r.DecidedBy, r.Gaps, r.Counts.Gaps = look.decidedBy, look.gaps, look.gapCount
	r.Outcome, r.Effect = outcome(p, r.Counts, look)
	r.Reason = reason(p, r, look)
	return r, nil
}

// outcome weighs what was found against what could not be looked at. The effect is the strongest of both.
func outcome(p Policy, c verdict.Tally, look look) (verdict.Outcome, verdict.Effect) {
	found := verdict.EffectNone
	switch {
	case c.Blocking > 0:
		found = verdict.EffectBlock
	case c.Warning > 0:
		found = verdict.EffectWarn
	}
	unseen, gaps := verdict.EffectNone, verdict.EffectNone
	switch {
	case len(look.decidedBy) == 0:
		unseen = p.OnMissing
	case len(look.failed) > 0:
		unseen = p.OnError
	}
	if look.actingGaps > 0 {
		gaps = p.OnGap
	}
	effect := strongest(found, unseen, gaps)
	switch {
	case c.Blocking > 0:
		return verdict.OutcomeBlocked, effect
	case len(look.failed) > 0, gaps == verdict.EffectBlock:
		return verdict.OutcomeError, effect
	case c.Warning > 0, gaps == verdict.EffectWarn:
		return verdict.OutcomeWarned, effect
	case len(look.decidedBy) == 0:
		return verdict.OutcomeNotAssessed, effect
	case c.Waived > 0:
		return verdict.OutcomeWaived, effect
	case c.Reported > 0:
		return verdict.OutcomeReported, effect
	}
	return verdict.OutcomePassed, effect
}

func strongest(es ...verdict.Effect) verdict.Effect {
	for _, e := range []verdict.Effect{verdict.EffectBlock, verdict.EffectWarn} {
		if slices.Contains(es, e) {
			return e
		}
	}
	return verdict.EffectNone
}

// worst keeps up to MaxRefs findings of each severity, so that a list of the most severe needs no sort of all.
// Of one file it takes the first few before the others, or a flood in one file would hide the rest.
type worst [finding.Critical + 1]struct {
	first, more []acting
	perPlace    map[int32]int
}

// firstPerPlace is how many findings of one file are listed before those of other files.
const firstPerPlace = 5

type acting struct {
	i          int
	short      shortfall
	introduced bool   // as this policy sees it
	waiver     string // id of the waiver that covers it
}

func (w *worst) add(f *fact, a acting) {
	of := &w[f.severity]
	if of.perPlace == nil {
		of.perPlace = map[int32]int{}
	}
	list := &of.first
	if of.perPlace[f.place]++; of.perPlace[f.place] > firstPerPlace {
		list = &of.more
	}
	if len(*list) < verdict.MaxRefs {
		*list = append(*list, a)
	}
}

func refs(p Policy, ix *index, w *worst) []verdict.Ref {
	var out []verdict.Ref
	for _, s := range finding.Severities() {
		for _, a := range slices.Concat(w[s].first, w[s].more) {
			if len(out) == verdict.MaxRefs {
				return out
			}
			f := &ix.findings[a.i]
			ref := verdict.Ref{
				ID: f.ID, Fingerprint: f.Fingerprint, Content: f.Content, Type: f.Type, Severity: f.Severity,
				Path: f.Path, Line: max(f.Region.StartLine, 0), Introduced: a.introduced, Waiver: a.waiver,
			}
			switch a.short {
			case otherEvidence:
				ref.Reason = "rests on " + evidenceWord(f.Evidence) + ", which the policy does not act on in full"
			case belowConfidence:
				ref.Reason = fmt.Sprintf("confidence %s is below %s", f.Confidence, p.Minimum(f.Evidence))
			}
			out = append(out, ref)
		}
	}
	return out
}

func evidenceWord(e finding.Evidence) string {
	if e == finding.Model {
		return "a model's word alone"
	}
	return string(e) + " evidence"
}

// look is how well a policy's matter was looked at.
type look struct {
	decidedBy     []string // auditors, sorted
	failed        []verdict.Gap
	gaps          []verdict.Gap // at most MaxRefs, those that act first
	gapCount      int
	actingGaps    int
	notApplicable bool // all that decide it say so
}

func lookOf(p Policy, m matcher, assessments []Assessment) look {
	var named, focused []Assessment
	for _, a := range assessments {
		if m.namesAuditor(a.Auditor) {
			named = append(named, a)
		}
		if slices.ContainsFunc(a.Focus, func(f string) bool { return slices.Contains(p.Focus, f) }) {
			focused = append(focused, a)
		}
	}
	deciding := named
	if len(deciding) == 0 {
		deciding = focused
	}
	l := look{notApplicable: len(deciding) > 0}
	var quiet []verdict.Gap
	for _, a := range deciding {
		l.decidedBy = append(l.decidedBy, a.Auditor)
		l.notApplicable = l.notApplicable && a.Outcome == NotApplicable
		if a.Outcome == NotAssessed {
			l.failed = append(l.failed, verdict.Gap{Auditor: a.Auditor, Reason: sentence(a.Reason)})
			continue
		}
		for _, g := range a.Gaps {
			if g.Path != "" && !m.wantsPath(g.Path) {
				continue
			}
			l.gapCount++
			if g.Introduced || p.Scope == ScopeAll {
				l.actingGaps++
				l.gaps = appendUpTo(l.gaps, gapOf(a.Auditor, g))
			} else {
				quiet = appendUpTo(quiet, gapOf(a.Auditor, g))
			}
		}
	}
	for _, g := range quiet {
		l.gaps = appendUpTo(l.gaps, g)
	}
	l.decidedBy = slices.Compact(l.decidedBy)
	return l
}

func gapOf(auditor string, g Gap) verdict.Gap {
	return verdict.Gap{Auditor: auditor, Path: g.Path, Reason: sentence(g.Reason), Introduced: g.Introduced}
}

func appendUpTo(gs []verdict.Gap, g verdict.Gap) []verdict.Gap {
	if len(gs) == verdict.MaxRefs {
		return gs
	}
	return append(gs, g)
}

// reason says in sentences why a policy has its outcome: first what was found, then what could not be seen.
func reason(p Policy, r verdict.Result, l look) string {
	c := r.Counts
	kind := "finding"
	if p.Scope == ScopeIntroduced {
		kind = "introduced finding"
	}
	at := ""
	if p.SeverityMinimum > finding.Info {
		at = " of severity " + p.SeverityMinimum.String() + " or above"
	}
	var says []string
	say := func(format string, args ...any) { says = append(says, fmt.Sprintf(format, args...)) }
	if c.Blocking > 0 {
		say("%s%s %s.", plural(c.Blocking, kind), at, verb(c.Blocking, "blocks", "block"))
	}
	switch {
	case c.Warning > 0 && p.Action == verdict.Block:
		say("%s%s %s only, for %s evidence or confidence.", plural(c.Warning, kind), at, verb(c.Warning, "warns", "warn"), verb(c.Warning, "its", "their"))
	case c.Warning > 0:
		say("%s%s %s.", plural(c.Warning, kind), at, verb(c.Warning, "is a warning", "are warnings"))
	}
	if c.Waived > 0 {
		say("%s%s %s waived.", plural(c.Waived, kind), at, verb(c.Waived, "is", "are"))
	}
	if c.Reported > 0 {
		say("%s%s %s reported.", plural(c.Reported, kind), at, verb(c.Reported, "is", "are"))
	}
	if len(l.decidedBy) == 0 {
		say("No auditor here decides this policy, so it was not assessed%s.", effectClause(p.OnMissing, "on_missing"))
	}
	for _, f := range l.failed {
		say("Auditor %s failed (%s)%s.", clip(f.Auditor), f.Reason, effectClause(p.OnError, "on_error"))
	}
	if len(says) == 0 {
		if l.notApplicable {
			say("There is nothing here that it is about.")
		} else {
			say("No %s%s.", kind, at)
		}
	}
	if c.Existing > 0 && p.Scope == ScopeIntroduced {
		say("%s %s there before and %s not act.", plural(c.Existing, "finding"), verb(c.Existing, "was", "were"), verb(c.Existing, "does", "do"))
	}
	if l.actingGaps > 0 {
		changed := "new or changed "
		if p.Scope == ScopeAll {
			changed = ""
		}
		say("%s could not be assessed%s.", plural(l.actingGaps, changed+"place"), effectClause(p.OnGap, "on_error"))
	}
	if quiet := c.Gaps - l.actingGaps; quiet > 0 {
		say("%s could not be assessed and %s not changed.", plural(quiet, "place"), verb(quiet, "was", "were"))
	}
	return strings.Join(says, " ")
}

func effectClause(e verdict.Effect, key string) string {
	switch e {
	case verdict.EffectBlock:
		return ", which blocks (" + key + ")"
	case verdict.EffectWarn:
		return ", which is a warning (" + key + ")"
	}
	return ""
}

func plural(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

func verb(n int, one, more string) string {
	if n == 1 {
		return one
	}
	return more
}

// sentence makes a reason of outside origin one line of bounded length.
func sentence(s string) string { return cmp.Or(clip200(finding.Fold(s)), "no reason given") }

func clip200(s string) string {
	const most = 200
	if len(s) <= most {
		return s
	}
	return strings.ToValidUTF8(s[:most], "") + "…"
}
