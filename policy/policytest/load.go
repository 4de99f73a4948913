// Package policytest runs the tests that people write for their policies: cases of findings that go in and of
// the verdict that has to come out. It judges with policy.Judge, and needs neither a database nor a network.
//
//	# .noxaudit/policies_test.yml
//	version: 1                      # optional
//	policies: policies.yml          # default: this file's name without "_test"
//	cases:
//	  - name: a leaked key blocks
//	    findings:
//	      - name: key               # for `want` to refer to; optional
//	        type: secrets/aws-access-token
//	        severity: high
//	        path: src/config.go     # default: the repository as a whole
//	        focus: security         # default: that of the auditor, where it has one
//	        confidence: 0.9         # default 1
//	        evidence: model         # deterministic (default), corroborated or model
//	        introduced: false       # default true
//	        moved_from: old/a.go    # its path at the base; with introduced: false
//	        title: Key in the code  # what else an auditor says of it
//	        line: 12
//	        cwe: [798]
//	        waived: true            # a waiver in force covers it; default false
//	        auditor: my-tool        # default: the type up to its first slash
//	    auditors:                   # beside those that found something, and the built-in ones
//	      secrets: failed           # clean, failed, not-applicable or absent
//	      semgrep:
//	        outcome: clean          # default
//	        focus: security
//	        gaps: [src/big.js, {path: old.js, introduced: false}]
//	    want:                       # or just block or pass
//	      conclusion: block
//	      policies:                 # those that matter here; or just the outcome
//	        no-secrets: {outcome: blocked, effect: block, blocking: [key], warning: [], waived: []}
package policytest

import (
	_ "embed"
	"path"
	"slices"
	"strings"

	"gopkg.in/yaml.v3"

	"github.com/noxaudit/noxaudit/internal/canon"
	"github.com/noxaudit/noxaudit/internal/finding"
	"github.com/noxaudit/noxaudit/internal/name"
	"github.com/noxaudit/noxaudit/policy"
	"github.com/noxaudit/noxaudit/policy/verdict"
)

// Limits of one file, beside those of policy.Reader.
const (
	maxCases    = 500
	maxFindings = 100 // of a case; below verdict.MaxRefs, so that no list of a verdict is cut
	maxAuditors = 50  // of a case
	maxGaps     = 100 // of an auditor
	maxCWE      = 20
	maxName     = 200 // bytes of the name of a case or a finding
)

// Schema is the JSON Schema (draft 2020-12) of a file of cases, for editors. Load refuses more than it can say:
// findings without a focus, names that nothing has.
//
//go:embed schema.json
var Schema string

// File is one file of cases, as Load read it.
type File struct {
	origin   policy.Origin
	policies string
	cases    []testCase
}

// Policies is the path of the document that the cases are about: relative to the folder of the file, with
// slashes, and in that folder, the one above it, or a folder below either.
func (f *File) Policies() string { return f.policies }

type testCase struct {
	name        string
	node        *yaml.Node
	findings    []finding.Finding
	labels      map[string]string // a finding's fingerprint to what people call it
	assessments []policy.Assessment
	waivers     []verdict.Waiver
	want        want
}

type want struct {
	conclusion verdict.Conclusion // empty: any
	policies   []wantPolicy
}

type wantPolicy struct {
	key             *yaml.Node
	outcome         verdict.Outcome // empty: any
	effect          verdict.Effect  // empty: any
	blocking        *[]string       // nil: any
	warning, waived *[]string
}

// Load reads one file of cases. file is its path with slashes, for messages; installed are the auditors that
// every case has, unless it says otherwise. Every error is a *policy.LoadError with all that is wrong at once.
func Load(src []byte, file string, installed []policy.Assessment) (*File, error) {
	f := &File{origin: policy.Origin{Layer: policy.LayerFile, Path: file, Blob: canon.Digest(src)}}
	f.policies = strings.TrimSuffix(path.Base(file), path.Ext(file))
	f.policies = strings.TrimSuffix(f.policies, "_test") + path.Ext(file)
	r, root := policy.NewReader(src, f.origin, "cases")
	if root == nil {
		return nil, r.Err()
	}
	l := &loader{r, installed}
	found := false
	r.Mapping(root, []string{"cases", "policies", "version"}, "a key at the top of a test file", func(k, v *yaml.Node) {
		switch k.Value {
		case "version":
			r.Version(v)
		case "policies":
			f.policies = l.document(v)
		case "cases":
			found = true
			f.cases = l.cases(v)
		}
	})
	if err := r.Err(); err != nil {
		return nil, err
	}
	if !found {
		r.Problem(root, "it begins with `cases:`", "the document has no `cases`")
		return nil, r.Err()
	}
	return f, nil
}

type loader struct {
	*policy.Reader
	installed []policy.Assessment
}

func (l *loader) document(n *yaml.Node) string {
	s := l.Text("policies", n)
	if s == "" {
		return ""
	}
	clean := path.Clean(s)
	if path.IsAbs(s) || clean == ".." || clean == "." || strings.HasPrefix(clean, "../../") || strings.ContainsAny(s, "\\\x00") {
		l.Problem(n, "write a path such as `policies.yml` or `../policies.yml`", "`policies` must lie in the folder of the test file, the one above it, or below either")
	}
	return clean
}

func (l *loader) cases(n *yaml.Node) []testCase {
	entries := l.List("cases", n, maxCases)
	if n.Kind == yaml.SequenceNode && len(n.Content) == 0 {
		l.Problem(n, "write at least one, or delete the file", "`cases` is empty")
	}
	var out []testCase
	taken := map[string]int{}
	for _, e := range entries {
		c := l.testCase(e)
		if c.name != "" {
			if was := taken[c.name]; was > 0 {
				l.Problem(e, "give each case a name of its own", "a case of this name is already on line %d", was)
			}
			taken[c.name] = e.Line
		}
		out = append(out, c)
	}
	return out
}

// label reads the name of a case or a finding.
func (l *loader) label(n *yaml.Node) string {
	s := l.Text("name", n)
	if len(s) > maxName {
		l.Problem(n, "", "`name` has %d bytes; at most %d are read", len(s), maxName)
	}
	return s
}

var caseKeys = []string{"auditors", "findings", "name", "want"}

func (l *loader) testCase(n *yaml.Node) testCase {
	c := testCase{node: n, labels: map[string]string{}}
	nodes := map[string]*yaml.Node{}
	complete := l.Mapping(n, caseKeys, "a key of a case", func(k, v *yaml.Node) { nodes[k.Value] = v })
	if v := nodes["name"]; v != nil {
		c.name = l.label(v)
	} else if complete {
		l.Problem(n, "add `name: ` and what the case shows", "the case has no `name`")
	}
	as := slices.Clone(l.installed)
	if v := nodes["auditors"]; v != nil {
		as = l.auditors(v, as)
	}
	names := map[string]string{} // of findings, to fingerprints
	if v := nodes["findings"]; v != nil {
		for i, e := range l.List("findings", v, maxFindings) {
			as = l.finding(e, i, &c, names, as)
		}
	}
	c.assessments = slices.DeleteFunc(as, func(a policy.Assessment) bool { return a.Outcome == absent })
	if v := nodes["want"]; v != nil {
		c.want = l.want(v, names)
	} else if complete {
		l.Problem(n, "add `want: block` or `want: pass`", "the case has no `want`")
	}
	return c
}

// absent marks an auditor that a case takes away.
const absent policy.Outcome = "absent"

var outcomeWords = map[string]policy.Outcome{"clean": policy.Clean, "failed": policy.NotAssessed, "not-applicable": policy.NotApplicable, "absent": absent}

func (l *loader) outcome(key string, n *yaml.Node) policy.Outcome {
	return outcomeWords[l.Word(key, n, []string{"clean", "failed", "not-applicable", "absent"})]
}

func (l *loader) auditors(n *yaml.Node, as []policy.Assessment) []policy.Assessment {
	if n.Kind == yaml.MappingNode && len(n.Content)/2 > maxAuditors {
		l.Problem(n, "", "`auditors` has %d entries; at most %d are read", len(n.Content)/2, maxAuditors)
		return as
	}
	l.Mapping(n, nil, "", func(k, v *yaml.Node) {
		if !isWord(k.Value) {
			l.Problem(k, "lower-case letters, digits and hyphens, such as `semgrep`", "this is not the name of an auditor")
			return
		}
		a := policy.Assessment{Auditor: k.Value, Version: "test", Outcome: policy.Clean}
		at := slices.IndexFunc(as, func(a policy.Assessment) bool { return a.Auditor == k.Value })
		if at >= 0 {
			a = as[at]
		}
		if v.Kind != yaml.MappingNode {
			a.Outcome = l.outcome(k.Value, v)
		} else {
			l.Mapping(v, []string{"focus", "gaps", "outcome"}, "a key of an auditor", func(k, v *yaml.Node) {
				switch k.Value {
				case "outcome":
					a.Outcome = l.outcome("outcome", v)
				case "focus":
					a.Focus = l.Focus("focus", v)
				case "gaps":
					a.Gaps = l.gaps(v)
				}
			})
		}
		if a.Outcome == policy.NotAssessed {
			a.Reason = "the case says so"
		}
		if len(a.Gaps) > 0 && a.Outcome != policy.Clean {
			l.Problem(k, "leave `gaps` or `outcome` out", "an auditor that did not look at all has no gaps")
		}
		if at >= 0 {
			as[at] = a
		} else {
			as = append(as, a)
		}
	})
	return as
}

func (l *loader) gaps(n *yaml.Node) []policy.Gap {
	var out []policy.Gap
	for _, e := range l.List("gaps", n, maxGaps) {
		g := policy.Gap{Reason: "the case says so", Introduced: true}
		if e.Kind != yaml.MappingNode {
			g.Path = l.path("gaps", e)
		} else {
			l.Mapping(e, []string{"introduced", "path"}, "a key of a gap", func(k, v *yaml.Node) {
				switch k.Value {
				case "path":
					g.Path = l.path("path", v)
				case "introduced":
					g.Introduced = l.Bool("introduced", v)
				}
			})
		}
		out = append(out, g)
	}
	return out
}

func (l *loader) path(key string, n *yaml.Node) string {
	s := l.Text(key, n)
	if s == "" {
		return ""
	}
	clean, err := name.CleanPath(s)
	if err != nil || clean != s {
		l.Problem(n, "write it as git does: from the repository's root, with slashes", "`%s` is not a path of a repository", key)
	}
	return clean
}

var (
	findingKeys   = []string{"auditor", "confidence", "cwe", "evidence", "focus", "introduced", "line", "moved_from", "name", "path", "severity", "title", "type", "waived"}
	severityWords = []string{"critical", "high", "medium", "low", "info"}
	evidenceWords = []string{"deterministic", "corroborated", "model"}
)

// finding reads the i-th finding of a case, and adds its auditor where the case has none of the name.
func (l *loader) finding(n *yaml.Node, i int, c *testCase, names map[string]string, as []policy.Assessment) []policy.Assessment {
	d := finding.Draft{Confidence: finding.Certain, Evidence: finding.Deterministic, Title: "finding of a test"}
	nodes := map[string]*yaml.Node{}
	var place, moved, auditor, label string
	introduced, waived := true, false
	complete := l.Mapping(n, findingKeys, "a key of a finding", func(k, v *yaml.Node) {
		nodes[k.Value] = v
		switch key := k.Value; key {
		case "name":
			label = l.label(v)
		case "type":
			d.Type = l.findingType(v)
		case "focus":
			if v.Kind == yaml.SequenceNode {
				l.Problem(v, "write one; an auditor gives a finding one focus", "`focus` is a list")
			} else if f := l.Focus(key, v); len(f) == 1 {
				d.Focus = f[0]
			}
		case "severity":
			d.Severity, _ = finding.ParseSeverity(l.Word(key, v, severityWords))
		case "confidence":
			if c := l.Confidence(key, v); c != nil {
				d.Confidence = *c
			}
		case "evidence":
			d.Evidence = finding.Evidence(l.Word(key, v, evidenceWords))
		case "path":
			place = l.path(key, v)
		case "moved_from":
			moved = l.path(key, v)
		case "introduced":
			introduced = l.Bool(key, v)
		case "line":
			d.Region.StartLine = l.Number(key, v, 1, 1<<30)
		case "title":
			d.Title = l.Text(key, v)
		case "cwe":
			for _, e := range l.List(key, v, maxCWE) {
				d.CWE = append(d.CWE, l.Number(key, e, 1, 99999))
			}
		case "waived":
			waived = l.Bool(key, v)
		case "auditor":
			if auditor = l.Text(key, v); auditor != "" && !isWord(auditor) {
				l.Problem(v, "lower-case letters, digits and hyphens, such as `semgrep`", "this is not the name of an auditor")
			}
		}
	})
	if n.Kind != yaml.MappingNode {
		return as
	}
	if complete && nodes["type"] == nil {
		l.Problem(n, "add `type`, such as `type: secrets/private-key`", "the finding has no `type`")
	}
	if complete && nodes["severity"] == nil {
		l.Problem(n, "add `severity`, such as `severity: high`", "the finding has no `severity`")
	}
	if moved != "" && (nodes["introduced"] == nil || introduced) {
		l.Problem(nodes["moved_from"], "add `introduced: false`: what was moved was there before", "`moved_from` of an introduced finding")
	}
	if auditor == "" {
		auditor, _, _ = strings.Cut(d.Type, "/")
	}
	at := slices.IndexFunc(as, func(a policy.Assessment) bool { return a.Auditor == auditor })
	if d.Focus == "" && nodes["focus"] == nil {
		if at >= 0 && len(as[at].Focus) == 1 {
			d.Focus = as[at].Focus[0]
		} else if complete && d.Type != "" {
			l.Problem(n, "add `focus`, such as `focus: security`", "the finding has no `focus`, and its auditor is none that has one")
		}
	}
	switch {
	case at < 0:
		as = append(as, policy.Assessment{Auditor: auditor, Version: "test", Focus: []string{d.Focus}, Outcome: policy.Found})
	case as[at].Outcome == policy.Clean, as[at].Outcome == policy.Found:
		as[at].Outcome = policy.Found
		if d.Focus != "" && !slices.Contains(as[at].Focus, d.Focus) {
			as[at].Focus = append(slices.Clone(as[at].Focus), d.Focus)
		}
	case as[at].Outcome != "":
		l.Problem(n, "delete the finding or what `auditors` says of its auditor", "a finding of an auditor that did not look, as `auditors` says")
	}
	shown := label
	if label == "" {
		shown = "finding " + itoa(i+1)
	} else if names[label] != "" {
		l.Problem(nodes["name"], "give each finding a name of its own", "two findings of this name")
	}
	d.Context = itoa(i) // what makes its fingerprint its own
	f := finding.Assemble(auditor, place, []finding.Draft{d})[0]
	f.Introduced, f.MovedFrom = introduced, moved
	c.findings = append(c.findings, f)
	c.labels[f.Fingerprint] = shown
	if label != "" {
		names[label] = f.Fingerprint
	}
	if waived {
		c.waivers = append(c.waivers, verdict.Waiver{
			ID: "W-" + itoa(i+1), Digest: canon.Digest([]byte(f.Fingerprint)), Fingerprint: f.Fingerprint, Content: f.Content,
			Kind: "accepted-risk", Until: verdict.FormatTime(moment),
		})
	}
	return as
}

func (l *loader) findingType(n *yaml.Node) string {
	s := l.Text("type", n)
	before, after, ok := strings.Cut(s, "/")
	switch {
	case s == "":
	case strings.ContainsAny(s, "*?[]{}"):
		l.Problem(n, "write one type, such as `secrets/private-key`", "`type` is a pattern; a finding has one type")
	case !ok || before == "" || after == "":
		l.Problem(n, "write the auditor, a slash and its rule, such as `secrets/private-key`", "`type` has no slash in it")
	}
	return s
}

var wantKeys = []string{"conclusion", "policies"}

func (l *loader) want(n *yaml.Node, names map[string]string) want {
	var w want
	conclusions := []string{string(verdict.Blocked), string(verdict.Pass)}
	if n.Kind != yaml.MappingNode {
		w.conclusion = verdict.Conclusion(l.Word("want", n, conclusions))
		return w
	}
	if len(n.Content) == 0 {
		l.Problem(n, "write `want: block` or `want: pass`", "`want` asks for nothing")
	}
	l.Mapping(n, wantKeys, "a key of `want`", func(k, v *yaml.Node) {
		if k.Value == "conclusion" {
			w.conclusion = verdict.Conclusion(l.Word(k.Value, v, conclusions))
			return
		}
		l.Mapping(v, nil, "", func(k, v *yaml.Node) { w.policies = append(w.policies, l.wantPolicy(k, v, names)) })
	})
	return w
}

var (
	policyKeys  = []string{"blocking", "effect", "outcome", "waived", "warning"}
	resultWords = []string{
		string(verdict.OutcomeBlocked), string(verdict.OutcomeError), string(verdict.OutcomeWarned), string(verdict.OutcomeNotAssessed),
		string(verdict.OutcomeWaived), string(verdict.OutcomeReported), string(verdict.OutcomePassed),
	}
	effectWords = []string{string(verdict.EffectBlock), string(verdict.EffectWarn), string(verdict.EffectNone)}
)

func (l *loader) wantPolicy(k, n *yaml.Node, names map[string]string) wantPolicy {
	w := wantPolicy{key: k}
	if n.Kind != yaml.MappingNode {
		w.outcome = verdict.Outcome(l.Word("outcome", n, resultWords))
		return w
	}
	if len(n.Content) == 0 {
		l.Problem(n, "write its outcome, such as `blocked`", "nothing is asked of the policy")
	}
	l.Mapping(n, policyKeys, "a key of what is wanted of a policy", func(k, v *yaml.Node) {
		switch k.Value {
		case "outcome":
			w.outcome = verdict.Outcome(l.Word(k.Value, v, resultWords))
		case "effect":
			w.effect = verdict.Effect(l.Word(k.Value, v, effectWords))
		case "blocking":
			w.blocking = l.refs(k.Value, v, names)
		case "warning":
			w.warning = l.refs(k.Value, v, names)
		case "waived":
			w.waived = l.refs(k.Value, v, names)
		}
	})
	return w
}

// refs reads the names of findings of the case, sorted.
func (l *loader) refs(key string, n *yaml.Node, names map[string]string) *[]string {
	out := []string{}
	for _, e := range l.List(key, n, maxFindings) {
		s := l.Text(key, e)
		switch {
		case s == "":
		case names[s] == "":
			known := []string{}
			for k := range names {
				known = append(known, k)
			}
			slices.Sort(known)
			if len(known) == 0 {
				l.Problem(e, "give the finding a `name`", "no finding of this case has a name")
			} else {
				l.Unknown(e, known, "the name of a finding of this case")
			}
		case slices.Contains(out, s):
			l.Problem(e, "keep one", "the finding is there twice")
		default:
			out = append(out, s)
		}
	}
	slices.Sort(out)
	return &out
}

func isWord(s string) bool {
	if s == "" || len(s) > 64 || s[0] == '-' {
		return false
	}
	for _, c := range []byte(s) {
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' {
			return false
		}
	}
	return true
}
