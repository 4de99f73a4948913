package sarif

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/santhosh-tekuri/jsonschema/v6"
	"pgregory.net/rapid"

	"github.com/noxaudit/noxaudit/internal/finding"
	"github.com/noxaudit/noxaudit/internal/name"
)

// schema is the one that OASIS publishes.
func schema(t testing.TB) *jsonschema.Schema {
	t.Helper()
	f, err := os.Open("testdata/sarif-schema-2.1.0.json")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	doc, err := jsonschema.UnmarshalJSON(f)
	if err != nil {
		t.Fatal(err)
	}
	c := jsonschema.NewCompiler()
	c.AssertFormat()
	if err := c.AddResource("sarif.json", doc); err != nil {
		t.Fatal(err)
	}
	s, err := c.Compile("sarif.json")
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func conforms(s *jsonschema.Schema, text []byte) error {
	v, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
	if err != nil {
		return err
	}
	return s.Validate(v)
}

func write(t testing.TB, r Report) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := Write(&b, r); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

var leaked = finding.Draft{
	Type: "secrets/aws-access-token", Focus: "security", Severity: finding.High, Confidence: 950, Evidence: finding.Deterministic,
	Title: "AWS access token", Message: "Whoever reads [this](https://evil.example) can act as you.", Remediation: "Rotate it.",
	Region: finding.Region{StartLine: 2, StartColumn: 9, EndLine: 2, EndColumn: 13}, CWE: []int{798}, Context: "key = ***",
}

func example() Report {
	fs := finding.Assemble("secrets", "konfig/ü b.env", []finding.Draft{leaked})
	fs = append(fs, finding.Assemble("maturity", "", []finding.Draft{{
		Type: "maturity/no-threat-model", Focus: "security", Severity: finding.Info, Confidence: finding.Certain, Evidence: finding.Deterministic, Title: "No threat model",
	}})...)
	fs[1].Introduced = false
	return Report{
		Version: "v1.4.0", Findings: fs, Compared: true, Category: "noxaudit/payments",
		Repository: "https://github.com/octo-org/payments", Revision: "2f6a3a0a54fca3ff8a4ac0ea0d2dbb46f15aa4bc", Branch: "main",
		Rules: []Rule{{
			Type: "secrets/aws-access-token", Name: "AwsAccessToken", Title: "AWS access token in the code", Description: "A key that opens an account.",
			Help: "Revoke it, then remove it.", HelpMarkdown: "**Revoke** it.", Link: "https://noxaudit.dev/rules/aws", Tags: []string{"secrets", "security"}, CWE: []int{522},
		}},
		NotAssessed: []NotAssessed{{Auditor: "dependencies", Reason: "no advisory database"}, {Auditor: "secrets", Path: "big.bin", Reason: "larger than 5 MiB"}},
		Content: func(path string) ([]byte, bool) {
			return []byte("# ü\nkey = üAKIA\n"), path == "konfig/ü b.env"
		},
	}
}

func TestWriteSaysAllThatAReportHolds(t *testing.T) {
	text := write(t, example())
	if err := conforms(schema(t), text); err != nil {
		t.Error(err)
	}
	var got any
	if err := json.Unmarshal(text, &got); err != nil {
		t.Fatal(err)
	}
	fs := example().Findings
	var want any
	expected := fmt.Sprintf(`{"$schema":"https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json","version":"2.1.0","runs":[{
	 "tool":{"driver":{"name":"noxaudit","version":"v1.4.0","semanticVersion":"1.4.0","informationUri":"https://github.com/noxaudit/noxaudit","supportedTaxonomies":[{"name":"CWE"}],"rules":[
	  {"id":"maturity/no-threat-model","shortDescription":{"text":"No threat model"},"fullDescription":{"text":"No threat model"},"defaultConfiguration":{"level":"note"},"properties":{"tags":["security"],"precision":"very-high"}},
	  {"id":"secrets/aws-access-token","name":"AwsAccessToken","shortDescription":{"text":"AWS access token in the code"},"fullDescription":{"text":"A key that opens an account."},
	   "defaultConfiguration":{"level":"error"},"helpUri":"https://noxaudit.dev/rules/aws","help":{"text":"Revoke it, then remove it.","markdown":"**Revoke** it."},
	   "relationships":[{"target":{"id":"522","index":0,"toolComponent":{"name":"CWE","index":0}},"kinds":["superset"]},{"target":{"id":"798","index":1,"toolComponent":{"name":"CWE","index":0}},"kinds":["superset"]}],
	   "properties":{"tags":["security","external/cwe/cwe-522","external/cwe/cwe-798","secrets"],"precision":"very-high","security-severity":"8.0"}}]}},
	 "automationDetails":{"id":"noxaudit/payments/"},
	 "versionControlProvenance":[{"repositoryUri":"https://github.com/octo-org/payments","revisionId":"2f6a3a0a54fca3ff8a4ac0ea0d2dbb46f15aa4bc","branch":"main"}],
	 "originalUriBaseIds":{"%%SRCROOT%%":{"description":{"text":"the top of the repository"}}},"columnKind":"utf16CodeUnits",
	 "invocations":[{"executionSuccessful":false,"toolExecutionNotifications":[
	  {"descriptor":{"id":"not-assessed"},"level":"error","message":{"text":"dependencies: not assessed: no advisory database"}},
	  {"descriptor":{"id":"not-assessed"},"level":"warning","message":{"text":"secrets: not assessed: larger than 5 MiB"},"locations":[{"physicalLocation":{"artifactLocation":{"uri":"big.bin","uriBaseId":"%%SRCROOT%%"}}}]}]}],
	 "taxonomies":[{"name":"CWE","organization":"MITRE","informationUri":"https://cwe.mitre.org/","taxa":[{"id":"522"},{"id":"798"}]}],
	 "results":[
	  {"ruleId":"maturity/no-threat-model","ruleIndex":0,"level":"note","message":{"text":"No threat model"},"partialFingerprints":{"noxaudit/fingerprint/v1":%q},"baselineState":"unchanged",
	   "properties":{"id":%q,"severity":"info","focus":"security","confidence":1,"evidence":"deterministic","auditor":"maturity"}},
	  {"ruleId":"secrets/aws-access-token","ruleIndex":1,"level":"error","message":{"text":"AWS access token\n\nWhoever reads \\[this\\](https://evil.example) can act as you."},
	   "locations":[{"physicalLocation":{"artifactLocation":{"uri":"konfig/%%C3%%BC%%20b.env","uriBaseId":"%%SRCROOT%%"},"region":{"startLine":2,"startColumn":8,"endLine":2,"endColumn":12}}}],
	   "partialFingerprints":{"noxaudit/fingerprint/v1":%q,"primaryLocationLineHash":%q},"baselineState":"new",
	   "properties":{"id":%q,"severity":"high","security-severity":"8.0","focus":"security","confidence":0.95,"evidence":"deterministic","auditor":"secrets"}}]}]}`,
		fs[1].Fingerprint, fs[1].ID, fs[0].Fingerprint, LineHashes([]byte("# ü\nkey = üAKIA\n"))[1], fs[0].ID)
	if err := json.Unmarshal([]byte(expected), &want); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}

func TestAnEmptyReportIsAValidDocumentThatReadsAsClean(t *testing.T) {
	text := write(t, Report{})
	if err := conforms(schema(t), text); err != nil {
		t.Error(err)
	}
	run := read(t, string(text), ReadOptions{}).Runs[0]
	if run.Failed != "" || len(run.Results) != 0 {
		t.Errorf("%+v", run)
	}
}

func TestAReportThatIsNotWholeReadsAsFailed(t *testing.T) {
	run := read(t, string(write(t, example())), ReadOptions{}).Runs[0]
	if !strings.Contains(run.Failed, "dependencies: not assessed: no advisory database") {
		t.Errorf("%q", run.Failed)
	}
}

func TestWaivedFindingsAreSuppressedAndTheOthersSaySo(t *testing.T) {
	r := example()
	r.Waived = map[Waived]string{{r.Findings[0].Fingerprint, r.Findings[0].Content}: "a test key, W-12"}
	text := write(t, r)
	if err := conforms(schema(t), text); err != nil {
		t.Error(err)
	}
	if n := bytes.Count(text, []byte(`"suppressions":[]`)); n != 1 {
		t.Errorf("%d results with an empty list", n)
	}
	run := read(t, string(text), ReadOptions{}).Runs[0]
	if run.Suppressed["konfig/ü b.env"] != 1 || run.InSource != 0 {
		t.Errorf("%+v", run.Suppressed)
	}
	// Another secret in the same place is not waived.
	r.Findings[0].Content = "other"
	if run := read(t, string(write(t, r)), ReadOptions{}).Runs[0]; len(run.Suppressed) != 0 {
		t.Errorf("%+v", run.Suppressed)
	}
}

func TestEqualReportsGiveEqualBytes(t *testing.T) {
	want := write(t, example())
	for range 5 {
		r := example()
		slices.Reverse(r.Findings)
		slices.Reverse(r.NotAssessed)
		if !bytes.Equal(want, write(t, r)) {
			t.Fatal("the order of the findings changed the bytes")
		}
	}
}

func TestTagsStayWithinTheLimit(t *testing.T) {
	var tags []string
	var cwe []int
	for i := range 60 {
		tags = append(tags, fmt.Sprint("tag", i))
		cwe = append(cwe, i+1)
	}
	got := tagsOf("security", tags, cwe)
	if len(got) != maxTags || got[0] != "security" || got[10] != "external/cwe/cwe-010" || got[11] != "tag0" {
		t.Errorf("%q", got)
	}
}

// many gives n findings, the later the more severe; noise makes their texts impossible to compress.
func many(n, text int) []finding.Finding {
	rng := rand.New(rand.NewPCG(1, 2))
	var fs []finding.Finding
	for i := range n {
		noise := make([]byte, text)
		for j := range noise {
			noise[j] = byte('!' + rng.IntN(90))
		}
		d := leaked
		d.Type = fmt.Sprintf("t/%04d", i%3000)
		d.Severity = finding.Severity(i * 5 / n)
		d.Message = string(noise)
		d.Context = fmt.Sprint(i)
		fs = append(fs, finding.Assemble("a", fmt.Sprintf("src/%d/%d.go", i%100, i), []finding.Draft{d})...)
	}
	return fs
}

func TestTooManyFindingsLeaveTheMostSevereAndSaySo(t *testing.T) {
	r := Report{Findings: many(MaxResults+5_000, 0)}
	text := write(t, r)
	run := read(t, string(text), ReadOptions{}).Runs[0]
	count := map[finding.Severity]int{}
	for _, res := range run.Results {
		count[res.Severity]++
	}
	want := map[finding.Severity]int{finding.Critical: 6000, finding.High: 6000, finding.Medium: 6000, finding.Low: 6000, finding.Info: 1000}
	if diff := cmp.Diff(want, count); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	if !bytes.Contains(text, []byte("5000 of 30000 findings are left out")) {
		t.Error("nothing says that findings are left out")
	}
	if run.Failed != "" {
		t.Errorf("failed: %s", run.Failed)
	}
}

func TestTheLargestDocumentStaysBelowGitHubsLimit(t *testing.T) {
	text := write(t, Report{Findings: many(MaxResults, 2000), Compared: true})
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	z.Write(text)
	z.Close()
	t.Logf("%d results with 2,000 bytes of noise each: %.1f MB, %.1f MB compressed", MaxResults, float64(len(text))/1e6, float64(b.Len())/1e6)
	if b.Len() > 10<<20 {
		t.Errorf("%d bytes compressed", b.Len())
	}
}

func TestPathsSurviveAsURIs(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		raw := rapid.OneOf(rapid.StringN(1, 30, 120), rapid.SampledFrom([]string{"(repository)", "a:b/c", "C:/x", "%41", "a#b?c", `back\slash`, "file:///x", "~/x"})).Draw(t, "path")
		clean, err := name.CleanPath(raw)
		if err != nil {
			t.Skip()
		}
		p := places{}
		got, err := p.path(artifactLocation{URI: encodePath(clean), Base: "%SRCROOT%"})
		if err != nil || got != clean {
			t.Fatalf("%q became %q: %v", clean, got, err)
		}
	})
}

// What is written is read back to the same type, severity, confidence, weaknesses and place, and conforms to
// the schema, whatever the texts are.
func TestWhatIsWrittenIsReadBack(t *testing.T) {
	s := schema(t)
	text := rapid.StringN(0, 40, 160)
	rapid.Check(t, func(t *rapid.T) {
		type said struct {
			Type, Path, Title string
			Region            finding.Region
			Severity          finding.Severity
			Confidence        finding.Confidence
		}
		body := []byte(strings.Repeat("plain text of some length\n", 50))
		var r Report
		r.Content = func(string) ([]byte, bool) { return body, true }
		r.Compared = rapid.Bool().Draw(t, "compared")
		for i := range rapid.IntRange(0, 6).Draw(t, "findings") {
			path := ""
			if rapid.Bool().Draw(t, "in a file") {
				path, _ = name.CleanPath(rapid.StringN(1, 12, 40).Draw(t, "path"))
			}
			d := finding.Draft{
				Type:       rapid.StringMatching(`[a-z][a-z0-9]{0,8}/[a-z0-9]([a-z0-9-]{0,10}[a-z0-9])?`).Draw(t, "type"),
				Focus:      rapid.SampledFrom([]string{"security", "docs"}).Draw(t, "focus"),
				Severity:   finding.Severity(rapid.IntRange(0, 4).Draw(t, "severity")),
				Confidence: finding.Confidence(rapid.IntRange(0, 1000).Draw(t, "confidence")),
				Evidence:   finding.Deterministic,
				Title:      fmt.Sprint("T", i, " ", text.Draw(t, "title")),
				Message:    text.Draw(t, "message"), Remediation: text.Draw(t, "remediation"), Link: text.Draw(t, "link"),
				Context: text.Draw(t, "context"),
			}
			if path != "" && rapid.Bool().Draw(t, "on a line") {
				n := rapid.IntRange(1, 50).Draw(t, "line")
				d.Region = finding.Region{StartLine: n, StartColumn: rapid.IntRange(0, 9).Draw(t, "column")}
			}
			r.Findings = append(r.Findings, finding.Assemble("a", path, []finding.Draft{d})...)
		}
		var b bytes.Buffer
		if err := Write(&b, r); err != nil {
			t.Fatal(err)
		}
		if err := conforms(s, b.Bytes()); err != nil {
			t.Fatalf("%v\n%s", err, b.Bytes())
		}
		log, err := Read(&b, ReadOptions{})
		if err != nil {
			t.Fatal(err)
		}
		want, got := []said{}, []said{}
		finding.Sort(r.Findings)
		for _, f := range r.Findings {
			want = append(want, said{f.Type, f.Path, line(f.Title, finding.MaxTitle), f.Region, f.Severity, f.Confidence})
		}
		for _, res := range log.Runs[0].Results {
			d := res.Draft(DraftOptions{})
			got = append(got, said{d.Type, res.Path, res.Title, d.Region, d.Severity, d.Confidence})
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Fatalf("(-written +read)\n%s", diff)
		}
	})
}

func BenchmarkWrite(b *testing.B) {
	r := Report{Findings: many(10_000, 100)}
	b.SetBytes(int64(len(write(b, r))))
	for b.Loop() {
		write(b, r)
	}
}
