package policytest

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"errors"
	"flag"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/santhosh-tekuri/jsonschema/v6"
	"gopkg.in/yaml.v3"

	"github.com/noxaudit/noxaudit/policy"
	"github.com/noxaudit/noxaudit/policy/verdict"
)

var update = flag.Bool("update", false, "write the golden files anew")

var installed = []policy.Assessment{
	{Auditor: "secrets", Version: "1", Focus: []string{"security"}, Outcome: policy.Clean},
	{Auditor: "policy", Version: "1", Focus: []string{"policy"}, Outcome: policy.Clean},
}

const policies = `policies:
  no-secrets:
    focus: security
    types: ["secrets/**"]
    paths: ["src/**"]
    action: block
    severity_minimum: high
  no-old-licence:
    focus: licences
    action: warn
    scope: all
  insist:
    types: ["semgrep/**"]
    action: block
    evidence: [deterministic, model]
    on_error: block
    on_missing: block
  forgotten:
    focus: nobody
    action: report
`

func set(t testing.TB) policy.Set {
	t.Helper()
	doc, err := policy.Load([]byte(policies), policy.Origin{Layer: policy.LayerRepository, Path: "policies.yml"})
	if err != nil {
		t.Fatal(err)
	}
	return policy.Effective(policy.Floor(), doc)
}

var floor = []string{"noxaudit-readable-policies", "noxaudit-kept-policies"}

// suite loads and runs one text.
func suite(t testing.TB, file, src string) Suite {
	t.Helper()
	s := Suite{Path: file}
	f, err := Load([]byte(src), file, installed)
	if err != nil {
		s.Err = err
		return s
	}
	s.Policies = f.Policies()
	s.Results, s.Untested, s.Err = f.Run(set(t), floor, "test")
	return s
}

// passes runs a text that is valid and must pass.
func passes(t *testing.T, src string) {
	t.Helper()
	s := suite(t, "x_test.yml", src)
	if !Passed([]Suite{s}) {
		var b bytes.Buffer
		if err := WriteText(&b, []Suite{s}); err != nil {
			t.Fatal(err)
		}
		t.Error(b.String())
	}
}

func TestACaseSaysAllThatAVerdictDependsOn(t *testing.T) { passes(t, everything) }

const everything = `version: 1
policies: ../policies.yml
cases:
  - name: severity, path, evidence, confidence
    auditors: {semgrep: clean}
    findings:
      - {name: key, type: secrets/a, severity: high, path: src/a.go, line: 3, title: A key, cwe: [798, 321]}
      - {name: twin, type: secrets/a, severity: high, path: src/a.go}
      - {type: secrets/a, severity: medium, path: src/a.go}
      - {type: secrets/a, severity: critical, path: testdata/a.go}
      - {type: secrets/a, severity: critical, path: src/old.go, introduced: false}
      - {name: unsure, type: semgrep/x, severity: low, focus: security, evidence: model, confidence: 0.89}
      - {name: sure, type: semgrep/x, severity: low, focus: security, evidence: model, confidence: 0.9}
      - {name: foreign, type: x/y, auditor: semgrep, severity: low, focus: security}
    want:
      conclusion: block
      policies:
        no-secrets: {outcome: blocked, effect: block, blocking: [twin, key], warning: [], waived: []}
        insist: {blocking: [sure], warning: [unsure]}
  - name: what was moved into the paths acts
    auditors: {semgrep: clean}
    findings:
      - {name: moved, type: secrets/a, severity: high, path: src/a.go, moved_from: lib/a.go, introduced: false}
    want: {policies: {no-secrets: {blocking: [moved]}}}
  - name: what is waived does not act
    auditors: {semgrep: clean}
    findings:
      - {name: key, type: secrets/a, severity: high, path: src/a.go, waived: true}
    want: {conclusion: pass, policies: {no-secrets: {outcome: waived, waived: [key]}}}
  - name: scope all
    auditors: {semgrep: clean}
    findings:
      - {name: old, type: l/gpl, focus: licences, severity: info, introduced: false}
    want: {conclusion: pass, policies: {no-old-licence: {outcome: warned, warning: [old]}}}
  - name: an auditor that failed
    auditors: {semgrep: failed}
    want: {conclusion: block, policies: {insist: error}}
  - name: an auditor that is not there
    want: {conclusion: block, policies: {insist: {outcome: not-assessed, effect: block}}}
  - name: a built-in auditor that is taken away
    auditors: {semgrep: not-applicable, secrets: absent}
    want: {conclusion: pass, policies: {no-secrets: not-assessed, insist: passed}}
  - name: places that could not be looked at
    auditors:
      secrets: {gaps: [src/big.bin, {path: src/old.bin, introduced: false}]}
      semgrep: {outcome: clean, focus: [security, sast], gaps: [big.js]}
    want: {conclusion: block, policies: {no-secrets: {outcome: warned, effect: warn}, insist: error}}
  - name: the floor holds
    auditors: {semgrep: clean}
    findings: [{type: policy/unreadable, severity: high}]
    want: {conclusion: block, policies: {noxaudit-readable-policies: blocked}}
`

func TestTheOrderOfFindingsMeansNothing(t *testing.T) {
	const a, b = `{name: a, type: secrets/a, severity: high, path: src/a.go}`, `{name: b, type: secrets/b, severity: critical, path: src/b.go}`
	for _, fs := range []string{a + ", " + b, b + ", " + a} {
		for _, want := range []string{"a, b", "b, a"} {
			passes(t, "cases: [{name: n, auditors: {semgrep: clean}, findings: ["+fs+"], want: {policies: {no-secrets: {blocking: ["+want+"]}}}}]")
		}
	}
}

func TestPoliciesLieBesideTheirTests(t *testing.T) {
	for file, want := range map[string]string{
		".noxaudit/policies_test.yml": "policies.yml", "a/b_test.yaml": "b.yaml", "b_test.yml": "b.yml",
	} {
		f, err := Load([]byte("cases: [{name: n, want: pass}]"), file, nil)
		if err != nil {
			t.Fatal(err)
		}
		if f.Policies() != want {
			t.Errorf("%s: %q, want %q", file, f.Policies(), want)
		}
	}
}

func TestWhatIsWrongIsShownAtItsPlace(t *testing.T) {
	for _, c := range refused {
		t.Run(c.name, func(t *testing.T) {
			err := suite(t, "x_test.yml", c.src).Err
			var load *policy.LoadError
			if !errors.As(err, &load) {
				t.Fatalf("%v, want a *policy.LoadError", err)
			}
			if got := load.Problems[0].String(); got != c.want || len(load.Problems) > 1 {
				t.Errorf("got  %v\nwant %s", load.Problems, c.want)
			}
		})
	}
}

// beyondSchema are the refusals that a schema cannot see.
var beyondSchema = []string{"twice", "no focus", "path", "moved", "failed", "gaps", "ref", "policy", "policies", "above", "alias"}

var refused = []struct{ name, src, want string }{
	{"empty", ``, "1:1: the document is empty (it begins with `cases:`)"},
	{"no cases", `version: 1`, "1:1: the document has no `cases` (it begins with `cases:`)"},
	{"none", `cases: []`, "1:8: `cases` is empty (write at least one, or delete the file)"},
	{"a list", `[]`, "1:1: the document is a list, not a mapping (it begins with `cases:`)"},
	{"top key", "case: []", "1:1: `case` is not a key at the top of a test file (did you mean `cases`?)"},
	{"case key", "cases:\n  - name: n\n    wants: pass\n    want: pass", "3:5: `wants` is not a key of a case (did you mean `want`?)"},
	{"no name", "cases: [{want: pass}]", "1:9: the case has no `name` (add `name: ` and what the case shows)"},
	{"no want", "cases: [{name: n}]", "1:9: the case has no `want` (add `want: block` or `want: pass`)"},
	{"twice", "cases:\n- {name: n, want: pass}\n- {name: n, want: pass}", "3:3: a case of this name is already on line 2 (give each case a name of its own)"},
	{"want word", "cases: [{name: n, want: blocked}]", "1:25: `want` cannot be `blocked` (did you mean `block`? want `block` or `pass`)"},
	{"finding key", "cases: [{name: n, want: pass, findings: [{type: secrets/a, severty: high}]}]", "1:60: `severty` is not a key of a finding (did you mean `severity`?)"},
	{"severity", "cases: [{name: n, want: pass, findings: [{type: secrets/a, severity: High}]}]", "1:70: `severity` cannot be `High` (write `high`)"},
	{"no type", "cases: [{name: n, want: pass, findings: [{severity: high}]}]", "1:42: the finding has no `type` (add `type`, such as `type: secrets/private-key`)"},
	{"pattern", "cases: [{name: n, want: pass, findings: [{type: secrets/**, severity: high}]}]", "1:49: `type` is a pattern; a finding has one type (write one type, such as `secrets/private-key`)"},
	{"no slash", "cases: [{name: n, want: pass, findings: [{type: secrets, severity: high, focus: a}]}]", "1:49: `type` has no slash in it (write the auditor, a slash and its rule, such as `secrets/private-key`)"},
	{"no focus", "cases: [{name: n, want: pass, findings: [{type: trivy/a, severity: high}]}]", "1:42: the finding has no `focus`, and its auditor is none that has one (add `focus`, such as `focus: security`)"},
	{"path", "cases: [{name: n, want: pass, findings: [{type: secrets/a, severity: high, path: ../a}]}]", "1:82: `path` is not a path of a repository (write it as git does: from the repository's root, with slashes)"},
	{"moved", "cases: [{name: n, want: pass, findings: [{type: secrets/a, severity: high, moved_from: a}]}]", "1:88: `moved_from` of an introduced finding (add `introduced: false`: what was moved was there before)"},
	{"bool", "cases: [{name: n, want: pass, findings: [{type: secrets/a, severity: high, waived: yess}]}]", "1:84: `waived` is text (write `true` or `false`)"},
	{"line", "cases: [{name: n, want: pass, findings: [{type: secrets/a, severity: high, line: 0}]}]", "1:82: `line` is no such number (write a whole number from 1 to 1073741824)"},
	{"failed", "cases: [{name: n, want: pass, auditors: {secrets: failed}, findings: [{type: secrets/a, severity: high}]}]", "1:71: a finding of an auditor that did not look, as `auditors` says (delete the finding or what `auditors` says of its auditor)"},
	{"outcome", "cases: [{name: n, want: pass, auditors: {secrets: fail}}]", "1:51: `secrets` cannot be `fail` (did you mean `failed`? want `clean`, `failed`, `not-applicable` or `absent`)"},
	{"gaps", "cases: [{name: n, want: pass, auditors: {secrets: {outcome: failed, gaps: [a]}}}]", "1:42: an auditor that did not look at all has no gaps (leave `gaps` or `outcome` out)"},
	{"ref", "cases: [{name: n, findings: [{name: key, type: secrets/a, severity: high}], want: {policies: {no-secrets: {blocking: [kez]}}}}]", "1:119: `kez` is not the name of a finding of this case (did you mean `key`?)"},
	{"policy", "cases: [{name: n, want: {policies: {no-secret: passed}}}]", "1:37: `no-secret` is not a policy in force under these policies (did you mean `no-secrets`?)"},
	{"policies", "policies: /etc/passwd\ncases: [{name: n, want: pass}]", "1:11: `policies` must lie in the folder of the test file, the one above it, or below either (write a path such as `policies.yml` or `../policies.yml`)"},
	{"above", "policies: a/../../../x\ncases: [{name: n, want: pass}]", "1:11: `policies` must lie in the folder of the test file, the one above it, or below either (write a path such as `policies.yml` or `../policies.yml`)"},
	{"alias", "cases: &a [{name: n, want: pass}]", "1:8: an anchor, `&a` (write the value out; a text that begins with `&` stands in quotes)"},
}

func TestTheSchemaSaysWhatLoadSays(t *testing.T) {
	doc, err := jsonschema.UnmarshalJSON(strings.NewReader(Schema))
	if err != nil {
		t.Fatal(err)
	}
	c := jsonschema.NewCompiler()
	if err := c.AddResource("urn:noxaudit:policy-tests:1", doc); err != nil {
		t.Fatal(err)
	}
	schema, err := c.Compile("urn:noxaudit:policy-tests:1")
	if err != nil {
		t.Fatal(err)
	}
	validate := func(src string) error {
		var v any
		if err := yaml.Unmarshal([]byte(src), &v); err != nil {
			t.Fatal(err)
		}
		b, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		if v, err = jsonschema.UnmarshalJSON(bytes.NewReader(b)); err != nil {
			t.Fatal(err)
		}
		return schema.Validate(v)
	}
	files, err := filepath.Glob("../../docs/examples/policies/*/*_test.yml")
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	for _, f := range append(files, "../../.noxaudit/policies_test.yml") {
		b, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		if err := validate(string(b)); err != nil {
			t.Errorf("%s: %v", f, err)
		}
	}
	if err := validate(everything); err != nil {
		t.Error(err)
	}
	for _, r := range refused {
		err := validate(r.src)
		if beyond := slices.Contains(beyondSchema, r.name); beyond && err != nil {
			t.Errorf("%s: the schema sees it: %v", r.name, err)
		} else if !beyond && err == nil {
			t.Errorf("%s: the schema accepts it", r.name)
		}
	}
}

func TestAFileIsBounded(t *testing.T) {
	for name, src := range map[string]string{
		"cases":    "cases:\n" + strings.Repeat("- {name: n, want: pass}\n", maxCases+1),
		"findings": "cases: [{name: n, want: pass, findings: [" + strings.Repeat("{type: secrets/a, severity: high},", maxFindings+1) + "]}]",
		"bytes":    "cases: [{name: n, want: pass}]\n#" + strings.Repeat("x", 256<<10),
	} {
		if err := suite(t, "x_test.yml", src).Err; err == nil || !strings.Contains(err.Error(), "at most") {
			t.Errorf("%s: %v, want a refusal", name, err)
		}
	}
}

// sample has each kind of outcome, and text that a terminal or a CI page must not obey.
func sample(t *testing.T) []Suite {
	return []Suite{
		suite(t, "good_test.yml", `cases:
  - name: "a leaked key blocks \u001b[31m <b>"
    auditors: {semgrep: clean}
    findings: [{name: key, type: secrets/a, severity: high, path: src/a.go}]
    want: {conclusion: block, policies: {no-secrets: {blocking: [key]}}}
  - name: an old licence does not act
    auditors: {semgrep: clean}
    findings: [{name: old, type: l/gpl, focus: licences, severity: info, introduced: false}]
    want: {conclusion: block, policies: {no-old-licence: {outcome: passed, effect: none, warning: []}}}
  - name: semgrep is not needed
    want: pass
  - name: what two policies are about
    findings: [{name: key, type: secrets/a, severity: high, path: src/a.go}]
    want: {conclusion: pass, policies: {no-secrets: {blocking: []}, insist: {effect: none}}}
`),
		suite(t, "bad_test.yml", "cases:\n  - name: n\n    wnat: pass\n  - name: m\n    want: maybe\n"),
		{Path: "lonely_test.yml", Err: errors.New("its policies, lonely.yml, cannot be read: no such file")},
	}
}

func TestTheOutputIsAsGolden(t *testing.T) {
	for file, write := range map[string]func(io.Writer, []Suite) error{
		"testdata/output.txt": WriteText, "testdata/output.json": WriteJSON, "testdata/output.xml": WriteJUnit,
	} {
		var b bytes.Buffer
		if err := write(&b, sample(t)); err != nil {
			t.Fatal(err)
		}
		if *update {
			if err := os.WriteFile(file, b.Bytes(), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(string(want), b.String()); diff != "" {
			t.Errorf("%s (-want +got):\n%s", file, diff)
		}
	}
	if Passed(sample(t)) || Passed(nil) {
		t.Error("what failed, or ran nothing, passed")
	}
}

// FuzzLoad: no text makes loading, running or writing panic, all that is refused has a place, and running twice
// gives the same.
func FuzzLoad(f *testing.F) {
	f.Add([]byte("cases: [{name: n, auditors: {semgrep: {gaps: [a], focus: b}}, findings: [{name: k, type: secrets/a, severity: high, path: src/a, waived: true}], want: {conclusion: block, policies: {no-secrets: {outcome: waived, waived: [k]}}}}]"))
	f.Add([]byte("policies: ../a.yml\ncases:\n- name: n\n  want: pass\n  findings:\n  - {type: l/x, focus: licences, severity: info, introduced: false, moved_from: b, line: 3, cwe: [7], title: t, confidence: 0.5, evidence: model}"))
	f.Add([]byte("cases: &a [*a]"))
	f.Fuzz(func(t *testing.T, src []byte) {
		s := suite(t, "x_test.yml", string(src))
		if s.Err != nil {
			var load *policy.LoadError
			if !errors.As(s.Err, &load) || len(load.Problems) == 0 || load.Problems[0].Line < 1 || load.Problems[0].Column < 1 {
				t.Fatalf("%v has no place", s.Err)
			}
		}
		var first, second bytes.Buffer
		if err := errors.Join(WriteJSON(&first, []Suite{s}), WriteJSON(&second, []Suite{suite(t, "x_test.yml", string(src))})); err != nil {
			t.Fatal(err)
		}
		if first.String() != second.String() {
			t.Fatal("two runs differ")
		}
		var x bytes.Buffer
		if err := errors.Join(WriteText(io.Discard, []Suite{s}), WriteJUnit(&x, []Suite{s})); err != nil {
			t.Fatal(err)
		}
		if err := xml.Unmarshal(x.Bytes(), new(junitSuites)); err != nil {
			t.Fatalf("not XML: %v", err)
		}
	})
}

func TestEveryFindingOfACaseFitsAVerdict(t *testing.T) {
	if maxFindings > verdict.MaxRefs {
		t.Error("the lists of a verdict could be cut, and a case would compare half")
	}
}
