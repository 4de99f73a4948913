package sarif

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/noxaudit/noxaudit/internal/finding"
)

func readFile(t *testing.T, name string, o ReadOptions) *Log {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("testdata", "tools", name+".sarif"))
	if err != nil {
		t.Fatal(err)
	}
	log, err := Read(bytes.NewReader(b), o)
	if err != nil {
		t.Fatal(err)
	}
	return log
}

// What each tool writes in its own way comes out in one.
func TestToolsAreRead(t *testing.T) {
	type want struct {
		Type, Path, Title, Message, Help, Link string
		Region                                 finding.Region
		Severity                               finding.Severity
		Confidence                             finding.Confidence
		CWE                                    []int
	}
	for _, c := range []struct {
		tool string
		want []want
	}{
		{"codeql", []want{{
			Type: "codeql/js/missing-rate-limiting", Path: "src/app.js", Title: "Missing rate limiting",
			Message: "This handler performs [a database access](1), but is not rate-limited.", Help: "Limit how often a client may call.",
			Region: finding.Region{StartLine: 12, StartColumn: 3, EndLine: 12, EndColumn: 40}, Severity: finding.High, Confidence: 950, CWE: []int{79, 770},
		}}},
		{"semgrep", []want{{
			Type: "semgrep-oss/python.lang.security.audit.eval-detected", Path: "src/my app/main é.py",
			Title: "Detected the use of eval(). It can run code of an attacker.", Message: "Detected the use of eval().",
			Help: "Parse the data instead.", Link: "https://semgrep.dev/r/python.lang.security.audit.eval-detected",
			Region: finding.Region{StartLine: 4, StartColumn: 5, EndLine: 6, EndColumn: 2}, Severity: finding.Medium, Confidence: 400, CWE: []int{95},
		}}},
		{"trivy", []want{{
			Type: "trivy/CVE-2021-23337", Path: "web/package-lock.json", Title: "nodejs-lodash: command injection via template",
			Message: "Package: lodash\nInstalled Version: 4.17.15\nFixed Version: 4.17.21", Help: "Update to 4.17.21",
			Link:   "https://avd.aquasec.com/nvd/cve-2021-23337",
			Region: finding.Region{StartLine: 1, StartColumn: 1, EndLine: 1, EndColumn: 1}, Severity: finding.Critical, Confidence: 950,
		}}},
		{"gosec", []want{{
			Type: "gosec/G204", Path: "cmd/run.go", Title: "Subprocess launched with variable", Help: "Severity: MEDIUM",
			Region: finding.Region{StartLine: 31, StartColumn: 9, EndLine: 31, EndColumn: 9}, Severity: finding.High, Confidence: 900, CWE: []int{78},
		}}},
		{"gitleaks", []want{{
			Type: "gitleaks/github-pat", Path: "config/.env", Title: "Uncovered a GitHub Personal Access Token.",
			Message: "github-pat has detected secret for file config/.env.",
			Region:  finding.Region{StartLine: 2, StartColumn: 8, EndLine: 2, EndColumn: 47}, Severity: finding.Medium, Confidence: 900,
		}}},
		{"eslint", []want{{
			Type: "eslint/no-eval", Path: "src/[id].js", Title: "Disallow the use of `eval()`", Message: "eval can be harmful.",
			Link:   "https://eslint.org/docs/latest/rules/no-eval",
			Region: finding.Region{StartLine: 1, StartColumn: 1, EndLine: 1, EndColumn: 5}, Severity: finding.High, Confidence: 900,
		}}},
		{"pylint", []want{{
			Type: "pylint/W0611", Path: "pkg/util.py", Title: "unused-import: Unused import os",
			Region: finding.Region{StartLine: 3}, Severity: finding.Medium, Confidence: 900,
		}}},
		{"revive", []want{{
			Type: "revive/exported", Path: "internal/x.go", Title: "exported function X should have comment",
			Region: finding.Region{StartLine: 7, StartColumn: 1}, Severity: finding.Medium, Confidence: 900,
		}}},
		{"checkov", []want{{
			Type: "checkov/CKV_AWS_20", Path: "infra/s3.tf", Title: "S3 Bucket has an ACL defined which allows public READ access.",
			Help: "Make the bucket private.", Region: finding.Region{StartLine: 1, EndLine: 14}, Severity: finding.High, Confidence: 900,
		}}},
		{"noxaudit-cli", []want{
			{
				Type: "noxaudit/security", Path: "app/db.py", Title: "Query built from input: the name goes into the statement as it is",
				Help: "Use a parameter", Region: finding.Region{StartLine: 40}, Severity: finding.High, Confidence: 900,
			},
			{Type: "noxaudit/general", Title: "No tests at all: nothing checks the code", Severity: finding.Low, Confidence: 900},
		}},
	} {
		t.Run(c.tool, func(t *testing.T) {
			log := readFile(t, c.tool, ReadOptions{Root: "/home/runner/work/shop/shop"})
			var got []want
			for _, run := range log.Runs {
				if run.Failed != "" {
					t.Errorf("failed: %s", run.Failed)
				}
				for _, r := range run.Results {
					d := r.Draft(DraftOptions{})
					got = append(got, want{d.Type, r.Path, d.Title, d.Message, d.Remediation, d.Link, d.Region, d.Severity, d.Confidence, d.CWE})
				}
			}
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
		})
	}
}

func TestCodeQLSuppressionIsCountedAndItsRevisionIsKept(t *testing.T) {
	run := readFile(t, "codeql", ReadOptions{}).Runs[0]
	if diff := cmp.Diff(map[string]int{"src/app.js": 1}, run.Suppressed); diff != "" || run.InSource != 1 {
		t.Errorf("suppressed (-want +got) %s, in source %d", diff, run.InSource)
	}
	if run.Revision != "2f6a3a0a54fca3ff8a4ac0ea0d2dbb46f15aa4bc" || run.Version != "2.23.1" {
		t.Errorf("revision %q, version %q", run.Revision, run.Version)
	}
	all := readFile(t, "codeql", ReadOptions{IncludeSuppressed: true}).Runs[0]
	if len(all.Results) != 2 || !all.Results[1].Suppressed || all.Results[1].Title != "Unused variable" || all.Results[1].Severity != finding.Low {
		t.Errorf("with suppressed ones: %+v", all.Results)
	}
}

func TestAFileThatSemgrepCouldNotParseIsAGap(t *testing.T) {
	want := []Gap{{"src/old.py", "the tool warns: Syntax error at line src/old.py:9"}}
	if diff := cmp.Diff(want, readFile(t, "semgrep", ReadOptions{}).Runs[0].Gaps); diff != "" {
		t.Error(diff)
	}
}
