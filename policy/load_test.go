package policy

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/santhosh-tekuri/jsonschema/v6"
	"gopkg.in/yaml.v3"

	"github.com/noxaudit/noxaudit/policy/verdict"
)

var update = flag.Bool("update", false, "write the golden files anew")

var here = Origin{Layer: LayerRepository, Path: ".noxaudit/policies.yml", Blob: "sha256:01"}

func mustLoad(t testing.TB, src string) *Document {
	t.Helper()
	d, err := Load([]byte(src), here)
	if err != nil {
		t.Fatalf("%v\n%s", err, src)
	}
	return d
}

func golden(t *testing.T, file string, got []byte) {
	t.Helper()
	if *update {
		if err := os.WriteFile(file, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), string(got)); diff != "" {
		t.Errorf("%s (-want +got):\n%s", file, diff)
	}
}

func indented(t *testing.T, b []byte) []byte {
	t.Helper()
	var out bytes.Buffer
	if err := json.Indent(&out, b, "", "  "); err != nil {
		t.Fatal(err)
	}
	return append(out.Bytes(), '\n')
}

func TestSampleOfTheSpecificationLoadsUnmodified(t *testing.T) {
	src, err := os.ReadFile("testdata/specification.yml")
	if err != nil {
		t.Fatal(err)
	}
	d, err := Load(src, here)
	if err != nil {
		t.Fatal(err)
	}
	golden(t, "testdata/specification.golden.json", indented(t, Effective(d).Canonical()))
}

func TestBuiltinPoliciesWarnOfSecrets(t *testing.T) {
	set := Effective(nil)
	golden(t, "testdata/builtin.golden.json", indented(t, set.Canonical()))
	for _, p := range set.Policies() {
		if p.Action == verdict.Block || p.OnError == verdict.EffectBlock {
			t.Errorf("%s blocks where nobody asked for it", p.Name)
		}
	}
}

func TestEveryKeyIsRead(t *testing.T) {
	d := mustLoad(t, `version: 1
policies:
  all-of-it:
    focus: [security, custom_area]
    types: ["secrets/**", "sast/*"]
    paths: ["src/**", "!**/testdata/**"]
    action: block
    severity_minimum: critical
    confidence_minimum: 0.95
    evidence: [model, deterministic]
    scope: all
    on_error: warn
    on_missing: block
    message: " Use the vault.\n"
    rule: |
      Two lines
      of a rule
    description: "日本語"
`)
	got := d.Policies()[0]
	if n := len(got.Places); n != 13 || len(policyKeys) != 13 {
		t.Errorf("%d keys have a place, %d are known, want 13", n, len(policyKeys))
	}
	if want := (Position{12, 5}); got.Places["on_error"] != want || got.Position != (Position{3, 3}) {
		t.Errorf("places: %v, %v", got.Places["on_error"], got.Position)
	}
	b, err := json.Marshal(struct {
		Policy
		Places, Origin, Position *int `json:",omitempty"`
	}{Policy: got})
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		`"focus":["custom_area","security"]`, `"types":["sast/*","secrets/**"]`, `"paths":["!**/testdata/**","src/**"]`,
		`"action":"block"`, `"severity_minimum":"critical"`, `"confidence_minimum":0.95`, `"evidence":["deterministic","model"]`,
		`"scope":"all"`, `"on_error":"warn"`, `"on_gap":"warn"`, `"on_missing":"block"`, `"message":"Use the vault."`,
		`"rule":"Two lines\nof a rule"`, `"description":"日本語"`,
	} {
		if !strings.Contains(string(b), want) {
			t.Errorf("no %s in %s", want, b)
		}
	}
}

func TestDefaultsFollowTheAction(t *testing.T) {
	for _, c := range []struct {
		keys                      string
		onError, onGap, onMissing verdict.Effect
		evidence                  int
	}{
		{"action: block", verdict.EffectBlock, verdict.EffectWarn, verdict.EffectNone, 2},
		{"action: warn", verdict.EffectWarn, verdict.EffectWarn, verdict.EffectNone, 3},
		{"action: report", verdict.EffectNone, verdict.EffectNone, verdict.EffectNone, 3},
		{"action: block\n    on_error: block", verdict.EffectBlock, verdict.EffectBlock, verdict.EffectNone, 2},
		{"on_error: block\n    action: warn", verdict.EffectBlock, verdict.EffectBlock, verdict.EffectNone, 3},
		{"on_error: report\n    action: block", verdict.EffectNone, verdict.EffectNone, verdict.EffectNone, 2},
		{"on_missing: warn\n    action: block", verdict.EffectBlock, verdict.EffectWarn, verdict.EffectWarn, 2},
	} {
		p := mustLoad(t, "policies:\n  x:\n    focus: security\n    "+c.keys+"\n").Policies()[0]
		if p.OnError != c.onError || p.OnGap != c.onGap || p.OnMissing != c.onMissing || len(p.Evidence) != c.evidence {
			t.Errorf("%q: on error %s, on gap %s, on missing %s, evidence %v", c.keys, p.OnError, p.OnGap, p.OnMissing, p.Evidence)
		}
	}
}

const good = "    focus: security\n    action: block\n"

// inPolicy puts one more line into a policy that is well otherwise.
func inPolicy(line string) string { return "policies:\n  x:\n" + good + "    " + line + "\n" }

// refusals are documents with one thing wrong. The schema for editors sees what JSON can express.
var refusals = []struct {
	name, src  string
	at         string // line:column
	says, hint string // parts of the message and the hint
	schema     bool   // the schema refuses it as well
}{
	{"nothing", "", "1:1", "empty", "policies:", true},
	{"comments only", "# to do\n", "1:1", "empty", "policies:", true},
	{"null", "~\n", "1:1", "empty", "", true},
	{"list at the top", "- a\n", "1:1", "a list", "policies:", true},
	{"text at the top", "hello\n", "1:1", "text", "", true},
	{"no policies", "version: 1\n", "1:1", "no `policies`", "", true},
	{"policies without value", "policies:\n", "1:10", "empty", "", true},
	{"policies an empty mapping", "policies: {}\n", "1:11", "empty", "", true},
	{"policies a list", "policies:\n  - focus: security\n", "2:3", "a list", "", true},
	{"unknown key at the top", "policy:\n  x:\n" + good, "1:1", "`policy`", "`policies`", true},
	{"version 2", "version: 2\npolicies:\n  x:\n" + good, "1:10", "version 2", "version: 1", true},
	{"version as text", "version: \"1\"\npolicies:\n  x:\n" + good, "1:10", "text", "without quotes", true},
	{"version a float", "version: 1.5\npolicies:\n  x:\n" + good, "1:10", "a number", "version: 1", true},
	{"unknown key", inPolicy("severty_minimum: high"), "5:5", "`severty_minimum`", "did you mean `severity_minimum`?", true},
	{"key in camel case", inPolicy("severityMinimum: high"), "5:5", "", "did you mean `severity_minimum`?", true},
	{"key with hyphen", inPolicy("on-missing: block"), "5:5", "", "did you mean `on_missing`?", true},
	{"half a key", inPolicy("severity: high"), "5:5", "", "did you mean `severity_minimum`?", true},
	{"key like no other", inPolicy("zzz: high"), "5:5", "", "known are action", true},
	{"key twice", inPolicy("action: warn"), "5:5", "twice, first on line 4", "keep one", false},
	{"policy twice", "policies:\n  x:\n" + good + "  x:\n" + good, "5:3", "twice", "", false},
	{"policies twice", "policies:\n  x:\n" + good + "policies:\n  y:\n" + good, "5:1", "twice", "", false},
	{"no action", "policies:\n  x:\n    focus: security\n", "2:3", "no `action`", "action: block", true},
	{"no focus", "policies:\n  x:\n    action: warn\n", "2:3", "no `focus`", "focus: security", true},
	{"policy a text", "policies:\n  x: block\n", "2:6", "text, not a mapping", "", true},
	{"name in capitals", "policies:\n  No_Secrets:\n" + good, "2:3", "`No_Secrets`", "`no-secrets`", true},
	{"name too long", "policies:\n  " + strings.Repeat("a", 65) + ":\n" + good, "2:3", "longer", "", true},
	{"name with leading hyphen", "policies:\n  -x:\n" + good, "2:3", "hyphen", "", true},
	{"name a number", "policies:\n  12:\n" + good, "2:3", "a key that is a number", "quotes", false},
	{"name true", "policies:\n  true:\n" + good, "2:3", "true or false", "", false},
	{"unknown action", inPolicy("on_error: blok"), "5:15", "`blok`", "did you mean `block`?", true},
	{"YAML's old truth", inPolicy("on_missing: off"), "5:17", "`off`", "`block`, `warn` or `ignore`", true},
	{"a truth", inPolicy("on_missing: true"), "5:17", "true or false", "`block`, `warn` or `ignore`", true},
	{"severity in capitals", inPolicy("severity_minimum: High"), "5:23", "`High`", "write `high`", true},
	{"severity unknown", inPolicy("severity_minimum: error"), "5:23", "`error`", "want `critical`", true},
	{"severity a number", inPolicy("severity_minimum: 3"), "5:23", "a number", "want `critical`", true},
	{"severity without value", inPolicy("severity_minimum:"), "5:22", "no value", "", true},
	{"severity a list", inPolicy("severity_minimum: [high]"), "5:23", "a list", "", true},
	{"confidence of 90", inPolicy("confidence_minimum: 90"), "5:25", "`90`", "did you mean 0.9?", true},
	{"confidence in per cent", inPolicy("confidence_minimum: 90%"), "5:25", "`90%`", "did you mean 0.9?", true},
	{"confidence in quoted per cent", inPolicy("confidence_minimum: \"87.5%\""), "5:25", "", "did you mean 0.875?", true},
	{"confidence as text", inPolicy("confidence_minimum: \"0.9\""), "5:25", "text", "without quotes", true},
	{"confidence of four decimals", inPolicy("confidence_minimum: 0.9999"), "5:25", "", "three decimals", true},
	{"confidence below zero", inPolicy("confidence_minimum: -0.5"), "5:25", "", "from 0 to 1", true},
	{"confidence without zero", inPolicy("confidence_minimum: .9"), "5:25", "", "did you mean 0.9?", false},
	{"confidence not a number", inPolicy("confidence_minimum: .nan"), "5:25", "", "from 0 to 1", false},
	{"confidence a word", inPolicy("confidence_minimum: high"), "5:25", "`high`", "from 0 to 1", true},
	{"confidence a list", inPolicy("confidence_minimum: [0.9]"), "5:25", "a list", "", true},
	{"evidence unknown", inPolicy("evidence: [ai]"), "5:16", "`ai`", "deterministic", true},
	{"evidence empty", inPolicy("evidence: []"), "5:15", "empty list", "", true},
	{"evidence twice", inPolicy("evidence: [model, model]"), "5:23", "twice", "", true},
	{"scope unknown", inPolicy("scope: new"), "5:12", "`new`", "`introduced` or `all`", true},
	{"focus in capitals", "policies:\n  x:\n    focus: API Contracts\n    action: warn\n", "3:12", "", "`api-contracts`", true},
	{"focus a number", "policies:\n  x:\n    focus: 12\n    action: warn\n", "3:12", "a number", "quotes", true},
	{"focus a date", "policies:\n  x:\n    focus: 2026-01-01\n    action: warn\n", "3:12", "a date", "quotes", true},
	{"focus a list of lists", "policies:\n  x:\n    focus: [[security]]\n    action: warn\n", "3:13", "a list", "", true},
	{"type without slash", inPolicy("types: secrets"), "5:12", "slash", "`secrets/**`", true},
	{"type of classes", inPolicy("types: [\"a/[bc]\"]"), "5:13", "`[`", "one pattern per alternative", false},
	{"path from the root", inPolicy("paths: [/src/**]"), "5:13", "begins with a slash", "leave the slash out", false},
	{"path of a folder", inPolicy("paths: [docs/]"), "5:13", "ends with a slash", "`docs/**`", false},
	{"path with stars inside", inPolicy("paths: [\"**.go\"]"), "5:13", "beside", "docs/**/*.md", false},
	{"path taken out without quotes", inPolicy("paths: [ !docs/** ]"), "5:14", "a YAML tag", "in quotes: \"!docs/**\"", true},
	{"path with a star without quotes", inPolicy("paths: [**/*.go]"), "5:1", "not YAML", "in quotes", false},
	{"path that looks like an alias", inPolicy("paths: [*src]"), "5:1", "unknown anchor", "in quotes", false},
	{"message empty", inPolicy("message: \"\""), "5:14", "empty", "", true},
	{"message blank", inPolicy("message: \"  \""), "5:14", "empty", "", true},
	{"message a number", inPolicy("message: 5"), "5:14", "a number", "quotes", true},
	{"message too long", inPolicy("message: " + strings.Repeat("x", maxText+1)), "5:14", "2001 bytes", "", true},
	{"anchor", inPolicy("message: &a text"), "5:14", "an anchor, `&a`", "", false},
	{"alias", "policies:\n  x: &a\n" + good + "  y: *a\n", "2:6", "an anchor", "", false},
	{"alias of itself", "policies: &a\n  x: *a\n", "1:11", "an anchor", "", false},
	{"merge key", inPolicy("<<: {scope: all}"), "5:5", "a merge key", "", false},
	{"tag", inPolicy("message: !!str text"), "5:14", "a YAML tag, `!!str`", "", false},
	{"own tag", inPolicy("message: !secret text"), "5:14", "a YAML tag, `!secret`", "", false},
	{"two documents", "policies:\n  x:\n" + good + "---\npolicies:\n  y:\n" + good, "5:1", "second YAML document", "", false},
	{"tab", "policies:\n  x:\n\tfocus: security\n", "3:1", "a tab", "spaces", false},
	{"tab before a list", "policies:\n  x:\n    focus:\n\t- security\n", "4:1", "a tab", "spaces", false},
	{"colon in a text", inPolicy("message: a: b"), "5:1", "not YAML", "quotes", false},
	{"open quote", inPolicy("message: \"a"), "5:1", "not YAML", "", false},
	{"not UTF-8", "policies:\n  x: \xff\n", "2:6", "not UTF-8", "UTF-8", false},
	{"UTF-16", "\xff\xfep\x00", "1:1", "not UTF-8", "", true},
	{"control character", inPolicy("message: \"a\x01b\""), "5:16", "U+0001", "delete", false},
	{"hidden direction", inPolicy("message: \"a\u202eb\""), "5:16", "U+202E", "delete", false},
	{"too large", "#" + strings.Repeat("x", maxDocument), "1:1", "bytes", "", true},
	{"too many policies", "policies:\n" + strings.Repeat("  x:\n"+good, maxPolicies+1), "2:3", "201 policies", "", false},
	{"too many entries", inPolicy("paths: [" + strings.TrimSuffix(strings.Repeat("a,", maxList+1), ",") + "]"), "5:12", "101 entries", "", true},
	{"too deep", inPolicy("message: " + strings.Repeat("[", 20) + strings.Repeat("]", 20)), "5:14", "a list", "", true},
}

func TestRefusalsNamePlaceCauseAndRepair(t *testing.T) {
	for _, c := range refusals {
		t.Run(c.name, func(t *testing.T) {
			d, err := Load([]byte(c.src), here)
			var le *LoadError
			if !errors.As(err, &le) || d != nil {
				t.Fatalf("got %v, %v", d, err)
			}
			p := le.Problems[0]
			for _, q := range le.Problems {
				// Where a document has several problems, one of them is the expected one.
				if strings.HasPrefix(q.String(), c.at+":") {
					p = q
					break
				}
			}
			if !strings.HasPrefix(p.String(), c.at+":") || !strings.Contains(p.Message, c.says) || !strings.Contains(p.Hint, c.hint) {
				t.Errorf("got  %v\nwant %s, %q, %q", le.Problems, c.at, c.says, c.hint)
			}
		})
	}
}

func TestAllProblemsComeAtOnceInOrderOfPlace(t *testing.T) {
	_, err := Load([]byte(`version: 3
policies:
  Bad Name:
    focus: Security
    action: deny
    confidence_minimum: 90%
  y:
    severty_minimum: High
    paths: ["a/", !b, "c"]
polices: {}
`), here)
	var le *LoadError
	if !errors.As(err, &le) {
		t.Fatal(err)
	}
	var got []string
	for _, p := range le.Problems {
		got = append(got, p.String())
	}
	want := []string{
		"1:10: version 3 is not known to this program (write `version: 1`)",
		"3:3: the policy name `Bad Name` has other characters than lower-case letters, digits and hyphens (write `bad-name`)",
		"4:12: `Security` is not the name of a focus (write `security`)",
		"5:13: `action` cannot be `deny` (want `block`, `warn` or `report`)",
		"6:25: `confidence_minimum` cannot be `90%` (did you mean 0.9? want a number from 0 to 1 with at most three decimals)",
		"7:3: policy `y` has no `action` (add `action: block`, `warn` or `report`)",
		"7:3: policy `y` has no `focus` (add `focus`, such as `focus: security`)",
		"8:5: `severty_minimum` is not a key of a policy (did you mean `severity_minimum`?)",
		"9:13: `paths` has a pattern that ends with a slash (for all that is in a folder write `a/**`)",
		"9:19: a YAML tag, `!b` (a pattern that begins with `!` stands in quotes: \"!b\")",
		"10:1: `polices` is not a key at the top of the document (did you mean `policies`?)",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("problems (-want +got):\n%s", diff)
	}
	if want := ".noxaudit/policies.yml:" + want[0] + ", and 10 more problems"; err.Error() != want {
		t.Errorf("error %q\nwant  %q", err, want)
	}
}

func TestAliasesAreNeverExpanded(t *testing.T) {
	var b strings.Builder
	b.WriteString("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n")
	for i := range 9 {
		b.WriteString("a" + string(rune('1'+i)) + ": &a" + string(rune('1'+i)) + " [" +
			strings.TrimSuffix(strings.Repeat("*a"+string(rune('0'+i))+",", 10), ",") + "]\n")
	}
	var le *LoadError
	if _, err := Load([]byte(b.String()), here); !errors.As(err, &le) || len(le.Problems) != maxProblems || le.More == 0 {
		t.Errorf("got %v", err)
	}
}

func TestDocumentNeedsAnOrigin(t *testing.T) {
	for _, o := range []Origin{{}, {Layer: "team", Path: "x"}, {Layer: LayerFile}} {
		if _, err := Load([]byte("policies:\n  x:\n"+good), o); err == nil {
			t.Errorf("%v is accepted", o)
		}
	}
}

// accepted are documents that are well.
var accepted = []string{
	"policies:\n  x:\n" + good,
	"\uFEFFpolicies:\n  x:\n" + good,
	"version: 1\r\npolicies:\r\n  x:\r\n    focus: security\r\n    action: warn\r\n",
	"---\npolicies:\n  x:\n" + good + "...\n",
	`{"policies": {"0-9": {"types": ["secrets/**", "**"], "action": "report"}}}`,
	inPolicy("paths: \"!docs/**\""),
	inPolicy("paths: [\"src/**\", \"app/\\\\[id\\\\]/*\"]"),
	inPolicy("confidence_minimum: 0"),
	inPolicy("confidence_minimum: 1.0"),
	inPolicy("confidence_minimum: 0.875"),
	inPolicy("evidence: model"),
	inPolicy("message: \"on: yes, 12\""),
	inPolicy("types: sast/*\n    scope: all\n    on_error: report\n    on_missing: ignore"),
}

func TestSchemaForEditorsAgreesWithLoad(t *testing.T) {
	schema := compileSchema(t, "urn:noxaudit:policies:1", Schema)
	validate := func(src string) (err error, readable bool) {
		var v any
		if yaml.Unmarshal([]byte(src), &v) != nil {
			return nil, false
		}
		b, err := json.Marshal(v)
		if err != nil {
			return nil, false
		}
		doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(b))
		if err != nil {
			return nil, false
		}
		return schema.Validate(doc), true
	}
	spec, err := os.ReadFile("testdata/specification.yml")
	if err != nil {
		t.Fatal(err)
	}
	for _, src := range append(accepted, string(spec), string(builtin)) {
		if _, err := Load([]byte(src), here); err != nil {
			t.Errorf("Load: %v\n%s", err, src)
		}
		if err, readable := validate(src); err != nil || !readable {
			t.Errorf("schema: %v\n%s", err, src)
		}
	}
	for _, c := range refusals {
		err, readable := validate(c.src)
		switch {
		case c.schema && !readable:
			t.Errorf("%s: the schema cannot see it", c.name)
		case c.schema && err == nil:
			t.Errorf("%s: the schema accepts it", c.name)
		case !c.schema && readable && err != nil:
			t.Errorf("%s: the schema refuses it: %v", c.name, err)
		}
	}
	// The schema knows the keys and words that Load knows, and no others.
	var s struct {
		Defs struct {
			Policy struct {
				Properties map[string]struct {
					Enum []string `json:"enum"`
				} `json:"properties"`
			} `json:"policy"`
		} `json:"$defs"`
	}
	if err := json.Unmarshal([]byte(Schema), &s); err != nil {
		t.Fatal(err)
	}
	if len(s.Defs.Policy.Properties) != len(policyKeys) {
		t.Errorf("the schema has %d keys, Load %d", len(s.Defs.Policy.Properties), len(policyKeys))
	}
	for key, words := range map[string][]string{"action": actionWords, "severity_minimum": severityWords, "scope": scopeWords, "on_error": errorWords, "on_missing": missingWords} {
		if diff := cmp.Diff(words, s.Defs.Policy.Properties[key].Enum); diff != "" {
			t.Errorf("%s (-Load +schema):\n%s", key, diff)
		}
	}
}

func compileSchema(t *testing.T, url, text string) *jsonschema.Schema {
	t.Helper()
	doc, err := jsonschema.UnmarshalJSON(strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	c := jsonschema.NewCompiler()
	if err := c.AddResource(url, doc); err != nil {
		t.Fatal(err)
	}
	s, err := c.Compile(url)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestEffectivePolicy(t *testing.T) {
	org := mustLoad(t, "policies:\n  b:\n"+good)
	repo := mustLoad(t, "policies:\n  c:\n"+good+"  b:\n    focus: security\n    action: report\n  a:\n"+good)
	names := func(s Set) (out []string) {
		for _, p := range s.Policies() {
			out = append(out, p.Name+" "+string(p.Action))
		}
		return out
	}
	if diff := cmp.Diff([]string{"a block", "b report", "c block"}, names(Effective(repo))); diff != "" {
		t.Errorf("a repository's document alone holds, by name:\n%s", diff)
	}
	if diff := cmp.Diff([]string{"a block", "b block", "c block"}, names(Effective(org, nil, repo))); diff != "" {
		t.Errorf("the upper layer's policy cannot be loosened below:\n%s", diff)
	}
	if diff := cmp.Diff([]string{"no-secrets warn"}, names(Effective(nil, nil))); diff != "" {
		t.Errorf("without a document the built-in policies hold:\n%s", diff)
	}
}

func TestSetCannotBeChangedFromOutside(t *testing.T) {
	d := mustLoad(t, "policies:\n  x:\n"+good)
	set := Effective(d)
	d.Policies()[0].Focus[0] = "docs"
	set.Policies()[0].Places["action"] = Position{}
	if got := set.Policies()[0]; got.Focus[0] != "security" || got.Places["action"].Line != 4 {
		t.Errorf("changed: %v", got)
	}
}

func TestStoredSetIsReadBackOrRefused(t *testing.T) {
	set := Effective(mustLoad(t, "policies:\n  x:\n"+good+"  y:\n"+good))
	again, err := ParseSet(set.Canonical())
	if err != nil || again.Digest() != set.Digest() {
		t.Fatalf("%v, %s, want %s", err, again.Digest(), set.Digest())
	}
	whole := string(set.Canonical())
	for _, change := range [][2]string{
		{`{"schema"`, ` {"schema"`},
		{"noxaudit.policy/1", "noxaudit.policy/2"},
		{`"action":"block"`, `"action":"deny"`},
		{`"name":"x"`, `"name":"z"`},
		{`"name":"x"`, `"name":"X"`},
		{`"focus":["security"]`, `"focus":[]`},
		{`"scope":"introduced"`, `"scope":"none"`},
		{`"evidence":["corroborated","deterministic"]`, `"evidence":["deterministic","corroborated"]`},
		{`"on_gap":"warn"`, `"on_gap":"?"`},
		{`"layer":"repository"`, `"layer":"king"`},
		{`}]}`, `}],"more":1}`},
	} {
		changed := strings.Replace(whole, change[0], change[1], 1)
		if changed == whole {
			t.Fatalf("%s is not in the set", change[0])
		}
		if _, err := ParseSet([]byte(changed)); err == nil {
			t.Errorf("%s → %s is accepted", change[0], change[1])
		}
	}
}

func FuzzLoad(f *testing.F) {
	for _, s := range accepted {
		f.Add([]byte(s))
	}
	for _, c := range refusals {
		if len(c.src) < 2000 {
			f.Add([]byte(c.src))
		}
	}
	f.Fuzz(func(t *testing.T, src []byte) {
		d, err := Load(src, here)
		if err != nil {
			var le *LoadError
			if !errors.As(err, &le) || len(le.Problems) == 0 || len(le.Problems) > maxProblems {
				t.Fatalf("got %#v", err)
			}
			lines := bytes.Count(src, []byte("\n")) + 2
			for _, p := range le.Problems {
				if p.Line < 1 || p.Line > lines || p.Column < 1 || p.Message == "" {
					t.Errorf("problem without a place: %v", p)
				}
			}
			return
		}
		set := Effective(d)
		again, err := ParseSet(set.Canonical())
		if err != nil || again.Digest() != set.Digest() {
			t.Errorf("the set of an accepted document is not read back: %v", err)
		}
	})
}
