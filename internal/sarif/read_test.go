package sarif

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/google/go-cmp/cmp"

	"github.com/noxaudit/noxaudit/internal/finding"
)

// document is a run of the tool "t" with these members besides tool.
func document(members string) string {
	return `{"version":"2.1.0","runs":[{"tool":{"driver":{"name":"t"}},` + members + `}]}`
}

func read(t *testing.T, text string, o ReadOptions) *Log {
	t.Helper()
	log, err := Read(strings.NewReader(text), o)
	if err != nil {
		t.Fatalf("%v\n%.300s", err, text)
	}
	return log
}

func one(t *testing.T, result string) Result {
	t.Helper()
	run := read(t, document(`"results":[`+result+`]`), ReadOptions{}).Runs[0]
	if len(run.Results) != 1 {
		t.Fatalf("results: %+v, gaps: %+v", run.Results, run.Gaps)
	}
	return run.Results[0]
}

func TestWhatIsNotSARIFIsRefusedWithAReason(t *testing.T) {
	for _, c := range []struct{ name, text, want string }{
		{"empty", "", "ends early"},
		{"not JSON", "results: none", "not JSON"},
		{"a page", "<html>", "not JSON"},
		{"an array", "[]", "is not an object"},
		{"null", "null", "nothing but null"},
		{"no version", `{"runs":[]}`, "no version"},
		{"no runs", `{"version":"2.1.0"}`, "no list of runs"},
		{"null runs", `{"version":"2.1.0","runs":null}`, "no list of runs"},
		{"version 2.0.0", `{"version":"2.0.0","runs":[]}`, `version is "2.0.0"`},
		{"version with an escape sequence", `{"version":"\u001b[2J","runs":[]}`, `version is "[2J"`},
		{"results that are an object", document(`"results":{}`), "results, before byte"},
		{"cut off", document(`"results":[{}]`)[:60], "ends early"},
		{"something behind", `{"version":"2.1.0","runs":[]} {}`, "something follows"},
		{"garbage behind", `{"version":"2.1.0","runs":[]} x`, "not JSON"},
		{"two lists of results", document(`"results":[],"results":[]`), "two members"},
		{"two lists of runs", `{"version":"2.1.0","runs":[],"runs":[]}`, "two members"},
		{"UTF-16", "\xff\xfe{\x00}\x00", "UTF-16"},
		{"UTF-16, big-endian", "\xfe\xff\x00{", "UTF-16"},
		{"UTF-16 without a mark", "{\x00}\x00", "UTF-16"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := Read(strings.NewReader(c.text), ReadOptions{})
			if !errors.Is(err, ErrFormat) || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%v, want %q", err, c.want)
			}
			if err != nil && strings.ContainsRune(err.Error(), 0x1b) {
				t.Errorf("control character in %q", err)
			}
		})
	}
}

func TestAByteOrderMarkIsTolerated(t *testing.T) {
	text := "\xef\xbb\xbf" + document(`"results":[]`)
	for name, r := range map[string]io.Reader{"whole": strings.NewReader(text), "byte by byte": iotest.OneByteReader(strings.NewReader(text))} {
		if _, err := Read(r, ReadOptions{}); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestAReadErrorIsHandedOn(t *testing.T) {
	broken := errors.New("disk on fire")
	_, err := Read(io.MultiReader(strings.NewReader(`{"version":`), iotest.ErrReader(broken)), ReadOptions{})
	if !errors.Is(err, broken) || errors.Is(err, ErrFormat) {
		t.Error(err)
	}
}

func TestLimitsAreNamed(t *testing.T) {
	repeat := func(s string, n int) string { return strings.TrimSuffix(strings.Repeat(s+",", n), ",") }
	run := `{"tool":{"driver":{"name":"t"}},"results":[]}`
	for _, c := range []struct {
		name, text, what string
		bytes            int64
	}{
		{"bytes", document(`"results":[]`), "bytes", 20},
		{"runs", `{"version":"2.1.0","runs":[` + repeat(run, MaxRuns+1) + `]}`, "runs", 0},
		{"results", document(`"results":[` + repeat(`{}`, MaxResults+1) + `]`), "results in one run", 0},
		{"rules", `{"version":"2.1.0","runs":[{"tool":{"driver":{"rules":[` + repeat(`{}`, MaxRules+1) + `]}}}]}`, "rules in one run", 0},
		{"rules in taxonomies", document(`"taxonomies":[{"taxa":[` + repeat(`{}`, MaxRules+1) + `]}]`), "rules in one run", 0},
		{"results of all runs", `{"version":"2.1.0","runs":[` + repeat(`{"results":[`+repeat(`{}`, 24_000)+`]}`, 5) + `]}`, "results in one document", 0},
		{"artifacts", document(`"artifacts":[` + repeat(`{}`, MaxArtifacts+1) + `]`), "artifacts in one run", 0},
		{"components", `{"version":"2.1.0","runs":[{"tool":{"extensions":[` + repeat(`{}`, 101) + `]}}]}`, "tool components in one run", 0},
		{"nesting", document(`"properties":` + strings.Repeat("[", 100_000)), "nested objects and arrays", 0},
		{"nesting in a result", document(`"results":[{"properties":` + strings.Repeat(`{"a":`, 300)), "nested objects and arrays", 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := Read(strings.NewReader(c.text), ReadOptions{Bytes: c.bytes})
			var limit *LimitError
			if !errors.As(err, &limit) || limit.What != c.what || limit.Fix == "" {
				t.Errorf("%v, want a limit on %s", err, c.what)
			}
		})
	}
}

func TestBracesInStringsDoNotNest(t *testing.T) {
	r := one(t, `{"message":{"text":"`+strings.Repeat(`[{\"`, 500)+`"}}`)
	if !strings.HasPrefix(r.Message+r.Title, `[{"`) {
		t.Errorf("%+v", r)
	}
}

func TestMembersOfAWrongTypeCountAsAbsentAndTheStricterReadingHolds(t *testing.T) {
	r := one(t, `{"ruleId":7,"ruleIndex":"0","kind":["pass"],"level":{},"message":"no object","locations":{"a":1},
		"suppressions":"accepted","rank":"high","taxa":[1],"properties":[],"fixes":[[]],"baselineState":0}`)
	if r.Level != LevelWarning || r.Severity != finding.Medium || r.Type() != "t/unnamed" || r.Path != "" || r.Title == "" {
		t.Errorf("%+v", r)
	}
}

func TestLevelComesFromTheResultThenTheRuleThenIsWarning(t *testing.T) {
	for _, c := range []struct {
		rule, result string
		want         Level
		severity     finding.Severity
	}{
		{``, ``, LevelWarning, finding.Medium},
		{`"defaultConfiguration":{"level":"error"}`, ``, LevelError, finding.High},
		{`"defaultConfiguration":{"level":"error"}`, `"level":"note"`, LevelNote, finding.Low},
		{`"defaultConfiguration":{"level":"error"}`, `"level":"none"`, LevelNone, finding.Info},
		{`"defaultConfiguration":{"level":"error"}`, `"level":"fatal"`, LevelError, finding.High},
		{`"properties":{"security-severity":"9.0"}`, ``, LevelWarning, finding.Critical},
		{`"properties":{"security-severity":8.99}`, ``, LevelWarning, finding.High},
		{`"properties":{"security-severity":"4"}`, `"level":"error"`, LevelError, finding.Medium},
		{`"properties":{"security-severity":"0.1"}`, `"level":"error"`, LevelError, finding.Low},
		{`"properties":{"security-severity":"0.0"}`, `"level":"error"`, LevelError, finding.High},
		{`"properties":{"security-severity":"NaN"}`, `"level":"error"`, LevelError, finding.High},
		{`"properties":{"security-severity":"11"}`, `"level":"error"`, LevelError, finding.High},
		{`"properties":{"security-severity":"-1e999"}`, `"level":"error"`, LevelError, finding.High},
		{`"properties":{"security-severity":"2"}`, `"properties":{"security-severity":"7.0"}`, LevelWarning, finding.High},
	} {
		result := `"ruleId":"R"`
		if c.result != "" {
			result += "," + c.result
		}
		rule := `"id":"R"`
		if c.rule != "" {
			rule += "," + c.rule
		}
		text := `{"version":"2.1.0","runs":[{"results":[{` + result + `}],"tool":{"driver":{"name":"t","rules":[{` + rule + `}]}}}]}`
		got := read(t, text, ReadOptions{}).Runs[0].Results[0]
		if got.Level != c.want || got.Severity != c.severity {
			t.Errorf("rule %s, result %s: %s %s, want %s %s", c.rule, c.result, got.Level, got.Severity, c.want, c.severity)
		}
	}
}

func TestOnlyFailuresAreFindings(t *testing.T) {
	run := read(t, document(`"results":[{"kind":"pass"},{"kind":"notApplicable"},{"kind":"informational"},{"baselineState":"absent"},
		{"kind":"fail"},{"kind":"open"},{"kind":"review"},{"kind":"tomorrow"},{"baselineState":"unchanged"},{}]`), ReadOptions{}).Runs[0]
	if len(run.Results) != 6 || run.NotFindings != 4 {
		t.Errorf("%d findings, %d others", len(run.Results), run.NotFindings)
	}
}

func TestSuppressionsCountOnlyWhenAllAreAccepted(t *testing.T) {
	for _, c := range []struct {
		list       string
		suppressed bool
	}{
		{`null`, false}, {`[]`, false},
		{`[{"kind":"inSource"}]`, true}, {`[{"kind":"external","status":"accepted"}]`, true},
		{`[{"kind":"external","status":"underReview"}]`, false}, {`[{"kind":"external","status":"rejected"}]`, false},
		{`[{"kind":"inSource"},{"kind":"external","status":"rejected"}]`, false},
		{`[{"kind":"external","status":"Accepted?"}]`, false},
		{`[` + strings.Repeat(`{"kind":"inSource"},`, 100) + `{"status":"rejected"}]`, false},
	} {
		run := read(t, document(`"results":[{"suppressions":`+c.list+`}]`), ReadOptions{}).Runs[0]
		if (run.Suppressed[""] == 1) != c.suppressed || (len(run.Results) == 0) != c.suppressed {
			t.Errorf("%.80s: suppressed %v, results %d", c.list, run.Suppressed, len(run.Results))
		}
	}
}

func TestRulesAreFoundByEveryRoadThatSARIFAllows(t *testing.T) {
	const tool = `"tool":{"driver":{"name":"t","guid":"d","rules":[{"id":"A","guid":"ga","shortDescription":{"text":"rule A"}},{"id":"B","shortDescription":{"text":"rule B"}}]},
		"extensions":[{"name":"Ext","guid":"e","rules":[{"id":"X","shortDescription":{"text":"rule X"}},{"id":"A","shortDescription":{"text":"A of Ext"}}]}]}`
	for _, c := range []struct{ result, id, title string }{
		{`{"ruleIndex":1}`, "B", "rule B"},
		{`{"ruleId":"B"}`, "B", "rule B"},
		{`{"ruleId":"B","ruleIndex":0}`, "B", "rule B"},
		{`{"ruleId":"A/sub/1","ruleIndex":0}`, "A/sub/1", "rule A"},
		{`{"ruleId":"A/sub/1"}`, "A/sub/1", "rule A"},
		{`{"rule":{"id":"B"}}`, "B", "rule B"},
		{`{"rule":{"index":1}}`, "B", "rule B"},
		{`{"rule":{"index":0,"toolComponent":{"index":0}}}`, "X", "rule X"},
		{`{"rule":{"id":"A","toolComponent":{"name":"ext"}}}`, "A", "A of Ext"},
		{`{"rule":{"id":"A","toolComponent":{"guid":"e"}}}`, "A", "A of Ext"},
		{`{"ruleId":"X"}`, "X", "rule X"},
		{`{"ruleIndex":99,"ruleId":"Z"}`, "Z", "Z"},
		{`{"ruleIndex":-1}`, "", "a result without a rule and without a message"},
	} {
		r := read(t, `{"version":"2.1.0","runs":[{"results":[`+c.result+`],`+tool+`}]}`, ReadOptions{}).Runs[0].Results[0]
		if r.RuleID != c.id || r.Title != c.title {
			t.Errorf("%s: %q %q, want %q %q", c.result, r.RuleID, r.Title, c.id, c.title)
		}
	}
}

func TestMessagesAreFilledIn(t *testing.T) {
	const tool = `"tool":{"driver":{"name":"t","globalMessageStrings":{"g":{"text":"global {0}"}},"rules":[{"id":"R","messageStrings":{"m":{"text":"{1} before {0}, {{x}} {7}"}}}]}}`
	for _, c := range []struct{ message, want string }{
		{`{"text":"plain {0}"}`, "plain {0}"},
		{`{"text":"hello {0}","arguments":["you"]}`, "hello you"},
		{`{"id":"m","arguments":["a","b"]}`, "b before a, {x} {7}"},
		{`{"id":"g","arguments":["a"]}`, "global a"},
		{`{"markdown":"**bold**"}`, "**bold**"},
		{`{"text":"x {0}","arguments":["{0}{0}"]}`, "x {0}{0}"},
		{`{"text":"a \\[b\\](c)"}`, "a [b](c)"},
		{`{"text":"in\u200bvisi\u202eble\u0007 \ud83d"}`, "invisible \ufffd"},
	} {
		r := read(t, `{"version":"2.1.0","runs":[{`+tool+`,"results":[{"ruleId":"R","message":`+c.message+`}]}]}`, ReadOptions{}).Runs[0].Results[0]
		if r.Title != c.want {
			t.Errorf("%s: %q, want %q", c.message, r.Title, c.want)
		}
	}
}

func TestLongTextsAreCut(t *testing.T) {
	r := one(t, `{"ruleId":"`+strings.Repeat("r", 10_000)+`","message":{"text":"`+strings.Repeat("ü ", 50_000)+`"},"properties":{"tags":["`+strings.Repeat("t", 9999)+`"]}}`)
	if len(r.Title) > finding.MaxTitle || len(r.Message) > finding.MaxMessage || len(r.RuleID) > maxName || len(r.Type()) > maxType || len(r.Tags[0]) > maxName {
		t.Errorf("%d %d %d %d", len(r.Title), len(r.Message), len(r.RuleID), len(r.Type()))
	}
}

func TestPlaces(t *testing.T) {
	const bases = `"originalUriBaseIds":{
		"%SRCROOT%":{"uri":"file:///build/repo/"},
		"LIB":{"uri":"lib%20s/","uriBaseId":"%SRCROOT%"},
		"SYS":{"uri":"file:///usr/include/"},
		"IN":{"uri":"file:///build/repo/inner"},
		"LOOP":{"uri":"a/","uriBaseId":"POOL"},"POOL":{"uri":"b/","uriBaseId":"LOOP"}},
		"artifacts":[{"location":{"uri":"from/list.go"}}],`
	for _, c := range []struct{ location, path, gap string }{
		{`{"uri":"a/b.go"}`, "a/b.go", ""},
		{`{"uri":"./a/b.go"}`, "a/b.go", ""},
		{`{"uri":"a/../b.go"}`, "b.go", ""},
		{`{"uri":"a\\b.go"}`, "a/b.go", ""},
		{`{"uri":"a%20b/%C3%BC.go"}`, "a b/ü.go", ""},
		{`{"uri":"a b/100%.go"}`, "a b/100%.go", ""},
		{`{"uri":"a%3Ab"}`, "a:b", ""},
		{`{"uri":"b.go","uriBaseId":"%SRCROOT%"}`, "b.go", ""},
		{`{"uri":"b.go","uriBaseId":"LIB"}`, "lib s/b.go", ""},
		{`{"uri":"b.go","uriBaseId":"IN"}`, "inner/b.go", ""},
		{`{"uri":"b.go","uriBaseId":"UNKNOWN"}`, "b.go", ""},
		{`{"uri":"stdio.h","uriBaseId":"SYS"}`, "", "not under the folder"},
		{`{"uri":"b.go","uriBaseId":"LOOP"}`, "", "circle"},
		{`{"index":0}`, "from/list.go", ""},
		{`{"uri":"file:///build/repo/x.go"}`, "x.go", ""},
		{`{"uri":"file://localhost/build/repo/x.go"}`, "x.go", ""},
		{`{"uri":"/build/repo/x.go"}`, "x.go", ""},
		{`{"uri":"file:///checkout/%72epo/y.go"}`, "y.go", ""},
		{`{"uri":"file:///C:/Repo/z.go"}`, "z.go", ""},
		{`{"uri":"C:\\Repo\\z.go"}`, "z.go", ""},
		{`{"uri":"c:/Repo/z.go"}`, "z.go", ""},
		{`{"uri":"file:///build/repository/x.go"}`, "", "not under the folder"},
		{`{"uri":"file:///build/repo/../../etc/passwd"}`, "", "leaves it"},
		{`{"uri":"file:///etc/passwd"}`, "", "not under the folder"},
		{`{"uri":"file://host/share/x.go"}`, "", "not a file of the repository"},
		{`{"uri":"../x.go"}`, "", "leaves it"},
		{`{"uri":"a/%2e%2e/%2e%2e/x.go"}`, "", "leaves it"},
		{`{"uri":"..\\x.go"}`, "", "leaves it"},
		{`{"uri":"a%00b"}`, "", "NUL"},
		{`{"uri":"https://example.org/x.go"}`, "", "not a file of the repository"},
		{`{"uri":"javascript:alert(1)"}`, "", "not a file of the repository"},
		{`{"uri":"(repository)"}`, "", ""},
		{`{"uri":"file:///build/repo/"}`, "", ""},
		{`{"uri":"."}`, "", ""},
		{`{}`, "", ""},
		{`{"index":5}`, "", ""},
	} {
		text := document(bases + `"results":[{"locations":[{"physicalLocation":{"artifactLocation":` + c.location + `,"region":{"startLine":3}}}]}]`)
		for _, root := range []string{"/checkout/repo", "/checkout/repo/"} {
			run := read(t, text, ReadOptions{Root: root}).Runs[0]
			run2 := read(t, text, ReadOptions{Root: `C:\Repo`}).Runs[0]
			if strings.Contains(c.location, "Repo") {
				run = run2
			}
			switch {
			case c.gap != "" && (len(run.Gaps) != 1 || len(run.Results) != 0 || !strings.Contains(run.Gaps[0].Reason, c.gap)):
				t.Errorf("%s: %+v, want a gap: %s", c.location, run, c.gap)
			case c.gap == "" && (len(run.Results) != 1 || run.Results[0].Path != c.path):
				t.Errorf("%s: %+v %+v, want %q", c.location, run.Results, run.Gaps, c.path)
			case c.gap == "" && c.path == "" && run.Results[0].Region != (finding.Region{}):
				t.Errorf("%s: a region of no file: %+v", c.location, run.Results[0].Region)
			}
		}
	}
}

func TestResultsWithoutAFileAreAboutTheRepository(t *testing.T) {
	for _, l := range []string{``, `,"locations":[]`, `,"locations":[{}]`, `,"locations":[{"logicalLocations":[{"name":"f"}]}]`} {
		if r := one(t, `{"ruleId":"R"`+l+`}`); r.Path != "" {
			t.Errorf("%s: %q", l, r.Path)
		}
	}
}

func TestRegionsAreMadeSenseOf(t *testing.T) {
	for _, c := range []struct {
		region string
		want   finding.Region
	}{
		{`{}`, finding.Region{}},
		{`{"charOffset":17,"charLength":3}`, finding.Region{}},
		{`{"startLine":-4,"startColumn":3}`, finding.Region{}},
		{`{"startLine":1e300}`, finding.Region{}},
		{`{"startLine":99999999999999999999}`, finding.Region{}},
		{`{"startLine":1.5}`, finding.Region{}},
		{`{"startLine":"7"}`, finding.Region{}},
		{`{"startLine":7.0}`, finding.Region{StartLine: 7}},
		{`{"startLine":7,"endLine":3,"endColumn":9}`, finding.Region{StartLine: 7, EndLine: 7}},
		{`{"startLine":7,"startColumn":5,"endColumn":2}`, finding.Region{StartLine: 7, StartColumn: 5, EndLine: 7}},
		{`{"startLine":7,"startColumn":0,"endLine":8,"endColumn":-1}`, finding.Region{StartLine: 7, EndLine: 8}},
	} {
		r := one(t, `{"locations":[{"physicalLocation":{"artifactLocation":{"uri":"a"},"region":`+c.region+`}}]}`)
		if r.Region != c.want {
			t.Errorf("%s: %+v, want %+v", c.region, r.Region, c.want)
		}
	}
}

func TestARunThatFailedSaysSo(t *testing.T) {
	for _, c := range []struct{ members, want string }{
		{`"results":[],"invocations":[{"executionSuccessful":true}]`, ""},
		{`"results":[],"invocations":[{}]`, ""},
		{`"results":[]`, ""},
		{`"columnKind":"utf16CodeUnits"`, "no list of results"},
		{`"results":null`, "no list of results"},
		{`"results":[],"invocations":[{"executionSuccessful":true},{"executionSuccessful":false,"exitCodeDescription":"out of memory"}]`, "out of memory"},
		{`"results":[],"invocations":[{"executionSuccessful":"true"}]`, "did not complete"},
		{`"results":[],"invocations":[{"executionSuccessful":true,"toolExecutionNotifications":[{"level":"warning","message":{"text":"w"}},{"level":"error","message":{"text":"no \u001b[31mrules"}}]}]`, "an error: no [31mrules"},
		{`"results":[],"invocations":[{"toolExecutionNotifications":[{"level":"error"}]}]`, "gives no reason"},
		{`"externalPropertyFileReferences":{"results":[{"location":{"uri":"r.sarif"}}]}`, "other files"},
	} {
		run := read(t, document(c.members), ReadOptions{}).Runs[0]
		if (run.Failed == "") != (c.want == "") || !strings.Contains(run.Failed, c.want) {
			t.Errorf("%s: %q, want %q", c.members, run.Failed, c.want)
		}
	}
}

func TestWeaknessesAreFoundInTagsTaxaAndRelationships(t *testing.T) {
	const taxonomies = `"taxonomies":[{"name":"OWASP","guid":"o","taxa":[{"id":"79"}]},{"name":"CWE","guid":"c","taxa":[{"id":"20","guid":"g20"},{"id":"CWE-22"}]}],`
	for _, c := range []struct {
		result string
		want   []int
	}{
		{`"properties":{"tags":["external/cwe/cwe-079","CWE-22: Path Traversal","CWE:89","cwe 94","OWASP-A1","cwe-","cwe-0","notcwe-7x","cwe-123456"]}`, []int{22, 79, 89, 94}},
		{`"taxa":[{"id":"20","toolComponent":{"name":"CWE"}},{"id":"79","toolComponent":{"name":"OWASP"}},{"id":"CWE-5"}]`, []int{5, 20}},
		{`"taxa":[{"index":0,"toolComponent":{"index":1}},{"guid":"g20","toolComponent":{"guid":"c"}},{"index":1,"toolComponent":{"guid":"c"}}]`, []int{20, 22}},
		{`"taxa":[{"id":"-1","toolComponent":{"name":"CWE"}},{"id":"../1","toolComponent":{"name":"CWE"}},{"id":"","toolComponent":{"name":"CWE"}}]`, nil},
	} {
		run := read(t, document(taxonomies+`"results":[{`+c.result+`}]`), ReadOptions{}).Runs[0]
		if diff := cmp.Diff(c.want, run.Results[0].CWE); diff != "" {
			t.Errorf("%s (-want +got)\n%s", c.result, diff)
		}
	}
}

func TestRelationshipsThatDenyAWeaknessDoNotClaimIt(t *testing.T) {
	for kinds, want := range map[string][]int{`["superset"]`: {79}, `["disjoint","equal"]`: {79}, `[]`: {79}, `["disjoint"]`: nil, `["canPrecede"]`: nil} {
		text := `{"version":"2.1.0","runs":[{"results":[{"ruleIndex":0}],"tool":{"driver":{"name":"t","rules":[{"id":"R","relationships":[{"kinds":` + kinds +
			`,"target":{"id":"79","toolComponent":{"name":"cwe"}}}]}]}}}]}`
		if diff := cmp.Diff(want, read(t, text, ReadOptions{}).Runs[0].Results[0].CWE); diff != "" {
			t.Errorf("%s (-want +got)\n%s", kinds, diff)
		}
	}
}

func TestOnlyAddressesOfTheWebAreLinks(t *testing.T) {
	for in, want := range map[string]string{
		"https://a.example/b?c#d": "https://a.example/b?c#d", "http://a.example": "http://a.example",
		"javascript:alert(1)": "", "https://user:pass@a.example": "", "//a.example": "", "file:///etc": "", "https://": "", "https://a.example/\x00": "",
		"https://a.example/" + strings.Repeat("x", maxLink): "",
	} {
		if got := link(in); got != want {
			t.Errorf("%.60q: %q, want %q", in, got, want)
		}
	}
}

func TestALimitSaysWhichAndWhatToDo(t *testing.T) {
	err := (&LimitError{"runs", 20, "write fewer"}).Error()
	if err != "SARIF document: more than 20 runs: write fewer" {
		t.Error(err)
	}
}

func TestDraftFollowsTheOperatorNotTheFile(t *testing.T) {
	r := one(t, `{"ruleId":"R","properties":{"tags":["Performance"],"evidence":"deterministic","focus":"privacy"},"rank":55.55}`)
	for _, c := range []struct {
		focus []string
		want  string
	}{
		{nil, "security"}, {[]string{"hygiene"}, "hygiene"}, {[]string{"security", "performance"}, "performance"},
	} {
		if d := r.Draft(DraftOptions{Focus: c.focus, Evidence: finding.Model}); d.Focus != c.want || d.Evidence != finding.Model || d.Confidence != 555 {
			t.Errorf("focus %v: %+v", c.focus, d)
		}
	}
}

func TestTypesHoldOnlySafeCharacters(t *testing.T) {
	for _, c := range []struct{ tool, rule, want string }{
		{"CodeQL", "js/sql", "codeql/js/sql"},
		{"Semgrep OSS", "a.b.c", "semgrep-oss/a.b.c"},
		{"", "", "tool/unnamed"},
		{"日本", "ルール 7", "tool/7"},
		{"T", "a b\u202ec\n\"<script>", "t/a-b-c-script"},
		{"noxaudit", "secrets/aws-access-token", "secrets/aws-access-token"},
		{"noxaudit", "plain", "noxaudit/plain"},
		{"revive", "revive/exported", "revive/exported"},
	} {
		if got := (Result{Tool: c.tool, RuleID: c.rule}).Type(); got != c.want {
			t.Errorf("%q %q: %q, want %q", c.tool, c.rule, got, c.want)
		}
	}
	long := strings.Repeat("r", 200)
	if a, b := (Result{Tool: "t", RuleID: long + "a"}).Type(), (Result{Tool: "t", RuleID: long + "b"}).Type(); a == b {
		t.Error("two long rule ids became one type")
	}
}

func TestGapsAreBounded(t *testing.T) {
	one := `{"locations":[{"physicalLocation":{"artifactLocation":{"uri":"../x"}}}]}`
	run := read(t, document(`"results":[`+strings.Repeat(one+",", 1500)+one+`]`), ReadOptions{}).Runs[0]
	if len(run.Gaps) != maxGaps+1 || !strings.Contains(run.Gaps[maxGaps].Reason, "more than") {
		t.Errorf("%d gaps", len(run.Gaps))
	}
}

// FuzzRead looks for panics, for texts that are not clean, and for places outside the repository.
func FuzzRead(f *testing.F) {
	for _, s := range []string{
		document(`"results":[]`), "", "{", "\xef\xbb\xbf{}", "\xff\xfe{\x00",
		document(`"originalUriBaseIds":{"A":{"uri":"x/","uriBaseId":"B"},"B":{"uriBaseId":"A"}},"results":[{"ruleId":"a/b","rule":{"index":0},"message":{"text":"{0}{","arguments":["x"]},"locations":[{"physicalLocation":{"artifactLocation":{"uri":"%2e%2e/x","uriBaseId":"A"},"region":{"startLine":1e9,"endLine":-1}}}],"suppressions":[{}],"taxa":[{"index":3}],"rank":1e3}]`),
		`{"version":"2.1.0","runs":[{"tool":{"driver":{"name":"noxaudit","rules":[{"id":"R","relationships":[{"target":{"id":"79","toolComponent":{"name":"CWE"}},"kinds":["superset"]}]}]}},"results":[{"ruleId":"R","properties":{"severity":"info","confidence":0.5}}]}]}`,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		log, err := Read(strings.NewReader(string(b)), ReadOptions{Bytes: 1 << 20, Root: "/r", IncludeSuppressed: true})
		if err != nil {
			return
		}
		for _, run := range log.Runs {
			for _, r := range run.Results {
				if strings.HasPrefix(r.Path, "/") || strings.HasPrefix(r.Path, "../") || r.Path == ".." {
					t.Fatalf("path %q", r.Path)
				}
				if r.Region.StartLine < 0 || r.Region.EndLine != 0 && r.Region.EndLine < r.Region.StartLine {
					t.Fatalf("region %+v", r.Region)
				}
				if r.Title == "" || r.Title != clean(r.Title, finding.MaxTitle) || len(r.Message) > finding.MaxMessage {
					t.Fatalf("title %q", r.Title)
				}
				for _, c := range r.Type() {
					if c <= ' ' || c > '~' {
						t.Fatalf("type %q", r.Type())
					}
				}
				if r.Confidence > finding.Certain || r.Severity > finding.Critical {
					t.Fatalf("%+v", r)
				}
			}
		}
	})
}

func BenchmarkRead(b *testing.B) {
	var s strings.Builder
	s.WriteString(`{"version":"2.1.0","runs":[{"tool":{"driver":{"name":"t","rules":[{"id":"R"}]}},"results":[`)
	for i := range 20_000 {
		if i > 0 {
			s.WriteByte(',')
		}
		fmt.Fprintf(&s, `{"ruleId":"R","ruleIndex":0,"level":"error","message":{"text":"Something is wrong with call number %d, see the page of the rule."},"locations":[{"physicalLocation":{"artifactLocation":{"uri":"src/pkg%d/file.go","uriBaseId":"%%SRCROOT%%","index":0},"region":{"startLine":%d,"startColumn":3,"endColumn":40,"snippet":{"text":"call(a, b)"}}}}],"partialFingerprints":{"primaryLocationLineHash":"aaaabbbbccccdddd:1"},"codeFlows":[{"threadFlows":[{"locations":[{"location":{"physicalLocation":{"artifactLocation":{"uri":"a"}}}}]}]}]}`, i, i%500, i+1)
	}
	s.WriteString(`]}]}`)
	text := s.String()
	b.SetBytes(int64(len(text)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Read(strings.NewReader(text), ReadOptions{}); err != nil {
			b.Fatal(err)
		}
	}
}
