package external

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/noxaudit/noxaudit/checks/audit"
	"github.com/noxaudit/noxaudit/checks/source"
	"github.com/noxaudit/noxaudit/internal/finding"
	"github.com/noxaudit/noxaudit/internal/sarif"
)

var (
	_ audit.TreeAuditor = (*File)(nil)
	_ audit.TreeAuditor = (*Command)(nil)
)

// repo is a git repository of a test.
type repo struct {
	t   *testing.T
	dir string
	*source.Repository
}

func newRepo(t *testing.T) *repo {
	t.Helper()
	r := &repo{t: t, dir: t.TempDir()}
	r.git("init", "-q", "-b", "main")
	var err error
	if r.Repository, err = source.Open(t.Context(), r.dir, source.Limits{BlobBytes: 1 << 20}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close() })
	return r
}

func (r *repo) git(args ...string) string {
	r.t.Helper()
	cmd := exec.CommandContext(r.t.Context(), "git", args...)
	cmd.Dir = r.dir
	cmd.Env = append(os.Environ(), "GIT_CONFIG_GLOBAL=/dev/null", "GIT_CONFIG_NOSYSTEM=1",
		"GIT_AUTHOR_NAME=a", "GIT_AUTHOR_EMAIL=a@example.org", "GIT_COMMITTER_NAME=a", "GIT_COMMITTER_EMAIL=a@example.org")
	out, err := cmd.CombinedOutput()
	if err != nil {
		r.t.Fatalf("git %v: %v\n%s", args, err, out)
	}
	return strings.TrimSpace(string(out))
}

// commit makes a commit of exactly these files.
func (r *repo) commit(files map[string]string) *source.Snapshot {
	r.t.Helper()
	if r.git("ls-files") != "" {
		r.git("rm", "-rq", "--cached", ".")
	}
	for path, body := range files {
		full := filepath.Join(r.dir, filepath.FromSlash(path))
		if err := os.MkdirAll(filepath.Dir(full), 0o755); err != nil {
			r.t.Fatal(err)
		}
		if err := os.WriteFile(full, []byte(body), 0o644); err != nil {
			r.t.Fatal(err)
		}
		r.git("add", "--", path)
	}
	r.git("commit", "-q", "--allow-empty", "-m", "x")
	return r.snapshot("HEAD")
}

func (r *repo) snapshot(rev string) *source.Snapshot {
	r.t.Helper()
	c, err := r.Resolve(r.t.Context(), rev)
	if err != nil {
		r.t.Fatal(err)
	}
	s, err := r.Commit(r.t.Context(), c)
	if err != nil {
		r.t.Fatal(err)
	}
	return s
}

func seal(b []byte) string { return fmt.Sprintf("sealed%x", textOf(string(b)))[:40] }

// sealedLine is what stands in a context in place of a line that is secret as a whole.
func sealedLine(folded string) string {
	t := textOf(folded)
	return seal(t[:])[:16]
}

// run audits a tree as the runner does: with the files that the auditor reads.
func run(ctx context.Context, a audit.TreeAuditor, s *source.Snapshot) (audit.Result, error) {
	t := audit.Tree{Snapshot: s, Seal: seal}
	for _, e := range s.Entries() {
		if a.Reads(e.Path) {
			t.Files = append(t.Files, e)
		}
	}
	return a.AuditTree(ctx, t)
}

// assemble gives the drafts of a result their identity, as the runner does.
func assemble(name string, r audit.Result) []finding.Finding {
	by := map[string][]finding.Draft{}
	for _, d := range r.Drafts {
		by[d.Path] = append(by[d.Path], d.Draft)
	}
	var out []finding.Finding
	for p, ds := range by {
		out = append(out, finding.Assemble(name, p, ds)...)
	}
	finding.Sort(out)
	return out
}

func found(t *testing.T, a audit.TreeAuditor, s *source.Snapshot) []finding.Finding {
	t.Helper()
	r, err := run(t.Context(), a, s)
	if err != nil {
		t.Fatal(err)
	}
	return assemble(a.Info().Name, r)
}

// result is a SARIF result of rule "R"; line 0 is none.
func result(path string, line int) string { return resultOf("R", path, line) }

func resultOf(rule, path string, line int) string {
	region := ""
	if line > 0 {
		region = fmt.Sprintf(`,"region":{"startLine":%d,"startColumn":2}`, line)
	}
	return fmt.Sprintf(`{"ruleId":%q,"message":{"text":"bad"},"locations":[{"physicalLocation":{"artifactLocation":{"uri":%q}%s}}]}`, rule, path, region)
}

func document(tool string, results ...string) []byte {
	return fmt.Appendf(nil, `{"version":"2.1.0","runs":[{"tool":{"driver":{"name":%q}},"results":[%s]}]}`, tool, strings.Join(results, ","))
}

func newFile(t *testing.T, doc []byte, s *source.Snapshot, o Options) *File {
	t.Helper()
	f, err := NewFile(t.Context(), "tool", doc, s, nil, o)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func places(fs []finding.Finding) []string {
	var out []string
	for _, f := range fs {
		out = append(out, f.Place())
	}
	return out
}

func reasons(gaps []audit.Gap) []string {
	var out []string
	for _, g := range gaps {
		out = append(out, g.Path+": "+g.Reason)
	}
	return out
}

func TestAFindingCarriesItsLineAsContextAndColumnsInBytes(t *testing.T) {
	r := newRepo(t)
	s := r.commit(map[string]string{"a.py": "import os\n\tx  =\t\"😀é\" + eval(y)\n"})
	doc := []byte(`{"version":"2.1.0","runs":[{"tool":{"driver":{"name":"T"}},"results":[{"ruleId":"eval","message":{"text":"bad"},
		"locations":[{"physicalLocation":{"artifactLocation":{"uri":"a.py"},"region":{"startLine":2,"startColumn":15,"endColumn":22}}}]}]}]}`)
	want := finding.Draft{
		Type: "t/eval", Focus: "quality", Severity: finding.Medium, Confidence: 900, Evidence: finding.Model, Title: "bad", Message: "",
		Region: finding.Region{StartLine: 2, StartColumn: 18, EndLine: 2, EndColumn: 25}, Context: `x = "😀é" + eval(y)`, Tool: "T", ToolRule: "eval",
	}
	fs := found(t, newFile(t, doc, s, Options{Focus: []string{"quality"}, Evidence: finding.Model}), s)
	if len(fs) != 1 {
		t.Fatalf("%+v", fs)
	}
	want.Title = fs[0].Title
	if diff := cmp.Diff(want, fs[0].Draft); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}

func TestAtTheBaseAResultExistsWhereItsLineExists(t *testing.T) {
	r := newRepo(t)
	for _, c := range []struct {
		name       string
		base, head string
		lines      []int // with results at the head
		introduced []int
	}{
		{"an untouched line is old", "a1\nb1\n", "a1\nb1\n", []int{2}, nil},
		{"a new line is new", "a1\n", "a1\nb1\n", []int{2}, []int{2}},
		{"a line that moved down is old", "a1\nb1\nc1\n", "x1\ny1\na1\nb1\nc1\n", []int{4}, nil},
		{"a line that was indented is old", "a1\nb(1,  2)\n", "a1\n\tif x {\n\t\tb(1, 2)\n\t}\n", []int{3}, nil},
		{"a line that changed is new", "a1\nb1\n", "a1\nb2\n", []int{2}, []int{2}},
		{"a copy of a line without a result is new", "a1\nb1\n", "a1\nb1\na1\n", []int{3}, []int{3}},
		{"the same, above", "a1\nb1\n", "a1\na1\nb1\n", []int{1}, []int{1}},
		{"one more equal line is one new finding", "a1\na1\n", "a1\na1\na1\n", []int{1, 2, 3}, []int{3}},
		{"fewer equal lines are all old", "a1\na1\na1\n", "a1\n", []int{1}, nil},
		{"a file that is new", "", "a1\n", []int{1}, []int{1}},
		{"a line of braces says nothing", "{\n}\n", "{\nz1\n}\n", []int{1}, []int{1}},
		{"the head changed line ends only", "a1\nb1\n", "a1\r\nb1\r\n", []int{2}, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			files := map[string]string{"other": "x"}
			if c.base != "" {
				files["f"] = c.base
			}
			base := r.commit(files)
			head := r.commit(map[string]string{"f": c.head, "other": "x"})
			var results []string
			for _, n := range c.lines {
				results = append(results, result("f", n))
			}
			a := newFile(t, document("T", results...), head, Options{})
			before, after := found(t, a, base), found(t, a, head)
			if len(after) != len(c.lines) {
				t.Fatalf("at the head: %q", places(after))
			}
			finding.MarkIntroduced(after, before, finding.Moves{})
			var introduced []int
			for _, f := range after {
				if f.Introduced {
					introduced = append(introduced, max(1, f.Region.StartLine))
				}
			}
			if diff := cmp.Diff(c.introduced, introduced); diff != "" {
				t.Errorf("introduced (-want +got)\n%s", diff)
			}
		})
	}
}

func TestAResultOnTheFirstColumnOfAFileIsOldOnlyWhileTheFileIsTheSame(t *testing.T) {
	r := newRepo(t)
	base := r.commit(map[string]string{"package-lock.json": "{\n\"a\": 1\n}\n", "same.json": "{}\n"})
	head := r.commit(map[string]string{"package-lock.json": "{\n\"a\": 1,\n\"lodash\": 1\n}\n", "same.json": "{}\n"})
	at := func(path string) string {
		return `{"ruleId":"CVE","message":{"text":"Package: lodash"},"locations":[{"physicalLocation":{"artifactLocation":{"uri":"` + path +
			`"},"region":{"startLine":1,"startColumn":1,"endLine":1,"endColumn":1}}}]}`
	}
	a := newFile(t, document("Trivy", at("package-lock.json"), at("same.json")), head, Options{})
	if diff := cmp.Diff([]string{"same.json:1"}, places(found(t, a, base))); diff != "" {
		t.Errorf("at the base (-want +got)\n%s", diff)
	}
	if diff := cmp.Diff([]string{"package-lock.json:1", "same.json:1"}, places(found(t, a, head))); diff != "" {
		t.Errorf("at the head (-want +got)\n%s", diff)
	}
}

func TestAResultAboutTheRepositoryExistsOnlyInItsTree(t *testing.T) {
	r := newRepo(t)
	base := r.commit(map[string]string{"a": "1"})
	head := r.commit(map[string]string{"a": "2"})
	a := newFile(t, document("T", `{"ruleId":"no-tests"}`), head, Options{})
	if fs := found(t, a, base); len(fs) != 0 {
		t.Errorf("at the base: %q", places(fs))
	}
	if diff := cmp.Diff([]string{"(repository)"}, places(found(t, a, head))); diff != "" {
		t.Error(diff)
	}
	if !a.Reads("anything") {
		t.Error("the result depends on the whole tree, and Reads does not say so")
	}
}

func TestReadsIsTrueForTheFilesOfResultsOnly(t *testing.T) {
	s := newRepo(t).commit(map[string]string{"a": "x1\n", "b": "y1\n"})
	a := newFile(t, document("T", result("a", 1)), s, Options{})
	if !a.Reads("a") || a.Reads("b") {
		t.Error(a.Reads("a"), a.Reads("b"))
	}
}

func TestResultsForTheBaseAreBelievedAboutTheBase(t *testing.T) {
	r := newRepo(t)
	base := r.commit(map[string]string{"f": "a1\nb1\n"})
	head := r.commit(map[string]string{"f": "a1\nb1\nc1\n"})
	other := r.commit(map[string]string{"f": "b1\n"})
	// Text alone would call line 2 old; the base's own results know nothing of it.
	a, err := NewFile(t.Context(), "tool", document("T", result("f", 2), result("f", 3)), head,
		&Base{SARIF: document("T", result("f", 1)), Tree: base}, Options{})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		tree *source.Snapshot
		want []string
	}{{base, []string{"f:1"}}, {head, []string{"f:2", "f:3"}}, {other, []string{"f:1"}}} {
		if diff := cmp.Diff(c.want, places(found(t, a, c.tree))); diff != "" {
			t.Errorf("(-want +got)\n%s", diff)
		}
	}
	broken, err := NewFile(t.Context(), "tool", document("T"), head, &Base{SARIF: []byte(`{"version":"2.1.0","runs":[]}`), Tree: base}, Options{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := run(t.Context(), broken, base); err == nil || !strings.Contains(err.Error(), "no run") {
		t.Error(err)
	}
}

func TestWhatCannotBePlacedIsAGapAndNothingIsLost(t *testing.T) {
	r := newRepo(t)
	s := r.commit(map[string]string{"short": "a1\nb1\n", "huge.txt": strings.Repeat("a line of text\n", 100_000), "bin": "\x00\x01\x02x"})
	a := newFile(t, document("T", result("gone.go", 3), result("../../etc/passwd", 1), result("short", 99), result("huge.txt", 5), result("bin", 1), result("bin", 0)), s, Options{})
	res, err := run(t.Context(), a, s)
	if err != nil {
		t.Fatal(err)
	}
	want := []string{
		`(repository): T: a result of rule "R" was left out: not a path inside the repository: "../../etc/passwd" leaves it`,
		"gone.go: a result points at a file that is not in this tree",
		"huge.txt: a result points at a file that is left out: larger than 1 MiB",
		"short: a result points beyond the file's 3 lines: it was made for another state of the code",
	}
	if diff := cmp.Diff(want, reasons(res.Gaps)); diff != "" {
		t.Errorf("gaps (-want +got)\n%s", diff)
	}
	if diff := cmp.Diff([]string{"bin", "bin:1", "short"}, places(assemble("tool", res))); diff != "" {
		t.Errorf("findings (-want +got)\n%s", diff)
	}
}

func TestGapsOfOnePathAreOne(t *testing.T) {
	gaps := []audit.Gap{{Path: "b", Reason: "1"}, {Path: "", Reason: "x"}, {Path: "b", Reason: "1"}, {Path: "b", Reason: "2"}, {Path: "b", Reason: "3"}, {Path: "b", Reason: "4"}, {Path: "b", Reason: "5"}}
	if diff := cmp.Diff([]string{"(repository): x", "b: 1; 2; 3; and 2 more"}, reasons(merged(gaps))); diff != "" {
		t.Error(diff)
	}
}

func TestSecretsAreRecognisedByToolRuleTagOrWeakness(t *testing.T) {
	for _, c := range []struct {
		r    sarif.Result
		want bool
	}{
		{sarif.Result{Tool: "gitleaks", RuleID: "x"}, true}, {sarif.Result{Tool: "TruffleHog"}, true},
		{sarif.Result{Tool: "Semgrep OSS", RuleID: "generic.secrets.jwt"}, true}, {sarif.Result{Tool: "T", CWE: []int{20, 798}}, true},
		{sarif.Result{Tool: "T", Tags: []string{"secrets"}}, true}, {sarif.Result{Tool: "T", RuleID: "sql", CWE: []int{89}, Tags: []string{"security"}}, false},
	} {
		if secretive(c.r) != c.want {
			t.Errorf("%+v: %v", c.r, !c.want)
		}
	}
}

// With the real runner: what is old at the base is old in the report, and the results are remembered.
func TestTheRunnerTellsOldFromNew(t *testing.T) {
	r := newRepo(t)
	base := r.commit(map[string]string{"f": "a1\nb1\n", "g": "x1\n"})
	head := r.commit(map[string]string{"f": "new1\na1\nb1\n", "g": "x1\n"})
	a := newFile(t, document("T", result("f", 1), result("f", 3), result("g", 1), result("gone", 1)), head, Options{})
	runner, err := audit.New([]audit.Auditor{a}, audit.Options{})
	if err != nil {
		t.Fatal(err)
	}
	rep, err := runner.Run(t.Context(), audit.Target{Base: base, Head: head, Seal: seal})
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]bool{}
	for _, f := range rep.Findings {
		got[f.Place()] = f.Introduced
	}
	if diff := cmp.Diff(map[string]bool{"f:1": true, "f:3": false, "g:1": false}, got); diff != "" {
		t.Errorf("introduced (-want +got)\n%s", diff)
	}
	if as := rep.Assessments[0]; as.Outcome != audit.Found || len(as.Gaps) != 1 || len(rep.Resolved) != 0 {
		t.Errorf("%+v %+v", as, rep.Resolved)
	}
}

func TestARunThatFailedIsNoLookAtTheCode(t *testing.T) {
	s := newRepo(t).commit(map[string]string{"a": "1"})
	for doc, want := range map[string]string{
		`{"version":"2.1.0","runs":[]}`: "no run",
		`{"version":"2.1.0","runs":[{"tool":{"driver":{"name":"T"}},"results":[],"invocations":[{"executionSuccessful":false}]}]}`: "did not complete",
		`{"version":"2.1.0","runs":[{"tool":{"driver":{"name":"T"}}}]}`:                                                            "no list of results",
	} {
		a := newFile(t, []byte(doc), s, Options{})
		if _, err := run(t.Context(), a, s); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", doc, err)
		}
	}
	if _, err := NewFile(t.Context(), "tool", []byte("nonsense"), s, nil, Options{}); err == nil {
		t.Error("nonsense was accepted")
	}
	for _, name := range []string{"", "Tool", "a/b", strings.Repeat("a", 41)} {
		if _, err := NewFile(t.Context(), name, document("T"), s, nil, Options{}); err == nil {
			t.Errorf("the name %q was accepted", name)
		}
	}
}

func TestSuppressedResultsAreShownAsGaps(t *testing.T) {
	s := newRepo(t).commit(map[string]string{"a": "x1\ny1\n"})
	hidden := strings.Replace(result("a", 1), `"ruleId"`, `"suppressions":[{"kind":"external"}],"ruleId"`, 1)
	res, err := run(t.Context(), newFile(t, document("T", hidden, hidden, result("a", 2)), s, Options{}), s)
	if err != nil || len(res.Drafts) != 1 {
		t.Fatal(res, err)
	}
	if diff := cmp.Diff([]string{"a: T: 2 suppressed in the tool's own results"}, reasons(res.Gaps)); diff != "" {
		t.Error(diff)
	}
	silenced := strings.Replace(hidden, "external", "inSource", 1)
	if res, err := run(t.Context(), newFile(t, document("T", silenced), s, Options{}), s); err != nil || len(res.Drafts) != 1 || len(res.Gaps) != 0 {
		t.Error("a comment in the code silences the gate:", res, err)
	}
	res, err = run(t.Context(), newFile(t, document("T", hidden, result("a", 2)), s, Options{IncludeSuppressed: true}), s)
	if err != nil || len(res.Drafts) != 2 || len(res.Gaps) != 0 {
		t.Error(res, err)
	}
}

func TestSecretsLeaveOnlyAsDigests(t *testing.T) {
	const key, other = "AKIA4567ABCDEFGH", "hunter2-hunter2-x"
	r := newRepo(t)
	s := r.commit(map[string]string{
		"env":  "# keys\n  key = \"" + key + "\", pass: " + other + ";\n",
		"one":  key + "\n",
		"pem":  "x\n-----BEGIN RSA PRIVATE KEY-----\nMIIsecretsecret\n-----END RSA PRIVATE KEY-----\n",
		"line": "a\ntoken is " + key + "\n",
	})
	at := func(path, region, secret string) string {
		return `{"ruleId":"key","message":{"text":"found ` + secret + ` there"},"locations":[{"physicalLocation":{"artifactLocation":{"uri":"` + path + `"},"region":{` + region + `}}}]}`
	}
	doc := document("gitleaks",
		at("env", `"startLine":2,"startColumn":10,"endLine":2,"endColumn":25`, key), // ends one early, as some tools count
		at("env", `"startLine":2,"startColumn":35,"endLine":2,"endColumn":52`, other),
		at("one", `"startLine":1,"startColumn":1,"endLine":1,"endColumn":17`, key),
		at("pem", `"startLine":2,"startColumn":1,"endLine":4,"endColumn":30`, "MIIsecretsecret"),
		at("line", `"startLine":2`, key),
	)
	res, err := run(t.Context(), newFile(t, doc, s, Options{}), s)
	if err != nil {
		t.Fatal(err)
	}
	fs := assemble("tool", res)
	contexts := map[string][]string{}
	for _, f := range fs {
		contexts[f.Path] = append(contexts[f.Path], f.Context)
		for _, secret := range []string{key, key[1:], other, "MIIsecret"} {
			if all := fmt.Sprintf("%+v", f); strings.Contains(all, secret) {
				t.Errorf("%s holds %q: %s", f.Place(), secret, all)
			}
		}
		if !strings.HasPrefix(f.Content, "sealed") {
			t.Errorf("%s has no digest", f.Place())
		}
	}
	want := map[string][]string{
		"env": {`key = "***", pass: ***;`, `key = "***", pass: ***;`}, "one": {"***"}, "pem": {"***"},
		"line": {"line " + sealedLine("token is "+key)},
	}
	if diff := cmp.Diff(want, contexts); diff != "" {
		t.Errorf("contexts (-want +got)\n%s", diff)
	}
}

func TestOtherResultsOnTheLineOfASecretDoNotShowIt(t *testing.T) {
	const key = "AKIA4567ABCDEFGH"
	s := newRepo(t).commit(map[string]string{"env": "# x\nsend(url, \"" + key + "\")\n"})
	doc := fmt.Sprintf(`{"version":"2.1.0","runs":[{"tool":{"driver":{"name":"gitleaks"}},"results":[{"ruleId":"key","locations":[{"physicalLocation":{"artifactLocation":{"uri":"env"},"region":{"startLine":2,"startColumn":12,"endColumn":28}}}]}]},
		{"tool":{"driver":{"name":"lint"}},"results":[%s]}]}`, result("env", 2))
	for _, f := range found(t, newFile(t, []byte(doc), s, Options{}), s) {
		if f.Context != `send(url, "***")` {
			t.Errorf("%s: %q", f.Type, f.Context)
		}
	}
}

func TestManyResultsOnOneEndlessLineAreTakenOver(t *testing.T) {
	line := strings.Repeat("token=AKIA4567ABCDEFGH;", 30_000)
	s := newRepo(t).commit(map[string]string{"min.js": "// x\n" + line})
	var results []string
	for i := range 5_000 {
		results = append(results, fmt.Sprintf(`{"ruleId":"key","message":{"text":"AKIA4567ABCDEFGH."},"locations":[{"physicalLocation":{"artifactLocation":{"uri":"min.js"},"region":{"startLine":2,"startColumn":%d,"endColumn":%d}}}]}`, i*23+7, i*23+23))
	}
	fs := found(t, newFile(t, document("gitleaks", results...), s, Options{}), s)
	for _, f := range fs {
		if strings.Contains(fmt.Sprintf("%+v", f), "AKIA4") {
			t.Fatalf("%+v", f)
		}
	}
	if len(fs) == 0 {
		t.Error("no finding")
	}
}

func TestAnotherSecretInTheSamePlaceIsAnotherFinding(t *testing.T) {
	r := newRepo(t)
	base := r.commit(map[string]string{"env": "k = AKIA4567ABCDEFGH\n"})
	head := r.commit(map[string]string{"env": "k = AKIA4567ABCDEFGX\n"})
	a := newFile(t, document("gitleaks", `{"ruleId":"key","locations":[{"physicalLocation":{"artifactLocation":{"uri":"env"},"region":{"startLine":1,"startColumn":5,"endColumn":21}}}]}`), head, Options{})
	before, after := found(t, a, base), found(t, a, head)
	finding.MarkIntroduced(after, before, finding.Moves{})
	if len(before) != 0 || len(after) != 1 || !after[0].Introduced || after[0].Context != "k = ***" {
		t.Errorf("%+v %+v", before, after)
	}
}

func TestInfoChangesWithWhatResultsDependOn(t *testing.T) {
	r := newRepo(t)
	one, two := r.commit(map[string]string{"a": "1"}), r.commit(map[string]string{"a": "2"})
	key := func(doc []byte, s *source.Snapshot, o Options) string {
		i := newFile(t, doc, s, o).Info()
		return fmt.Sprint(i.Config, i.Inputs)
	}
	keys := []string{
		key(document("T"), one, Options{}), key(document("U"), one, Options{}), key(document("T"), two, Options{}),
		key(document("T"), one, Options{Evidence: finding.Model}), key(document("T"), one, Options{Focus: []string{"docs"}}),
		key(document("T"), one, Options{IncludeSuppressed: true}), key(document("T"), one, Options{Root: "/x"}),
	}
	slices.Sort(keys)
	if len(slices.Compact(keys)) != 7 {
		t.Errorf("%q", keys)
	}
	if i := newFile(t, document("T"), one, Options{}).Info(); !slices.Equal(i.Focus, []string{"security"}) || !strings.Contains(i.Title, "T") || i.Needs != (audit.Needs{}) {
		t.Errorf("%+v", i)
	}
}

// Whatever the two states of a file are: at the head every result is found on its line, and at the base never
// more of a text than stand there, each on a line of that text.
func TestMatchingNeverInventsLines(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		head := rapid.SliceOfN(rapid.IntRange(0, 3), 1, 12).Draw(t, "head")
		base := rapid.SliceOfN(rapid.IntRange(0, 3), 0, 12).Draw(t, "base")
		text := rapid.IntRange(0, 3).Draw(t, "text")
		lines := func(state []int) (out []int) {
			for i, x := range state {
				if x == text {
					out = append(out, i+1)
				}
			}
			return out
		}
		all := lines(head)
		var flagged []int
		for _, n := range all {
			if rapid.Bool().Draw(t, "flagged") {
				flagged = append(flagged, n)
			}
		}
		if got := match(flagged, all, len(all)); !slices.Equal(got, flagged) {
			t.Fatalf("at the head %v became %v", flagged, got)
		}
		places := lines(base)
		got := match(flagged, places, len(all))
		if len(got) > len(flagged) || len(got) > len(places) {
			t.Fatalf("%v in %v: %v", flagged, places, got)
		}
		if added := len(all) - len(places); added > 0 && len(flagged)-len(got) < min(added, len(flagged)) {
			t.Fatalf("%d lines were added, %d of %d flagged ones are old", added, len(got), len(flagged))
		}
		seen := map[int]bool{}
		for _, n := range got {
			if !slices.Contains(places, n) || seen[n] {
				t.Fatalf("%v in %v: %v", flagged, places, got)
			}
			seen[n] = true
		}
	})
}
