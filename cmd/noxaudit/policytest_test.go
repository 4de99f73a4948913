package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/noxaudit/noxaudit/internal/gittest"
)

func TestPolicyTestAnswersByItsExitCode(t *testing.T) {
	b := setup(t)
	b.want(exitFailed, "policy", "test", b.git.Dir) // no test is no answer
	b.want(exitFailed, "policy", "test", filepath.Join(b.git.Dir, "nowhere_test.yml"))
	const file = ".noxaudit/policies_test.yml"
	write := func(want string) {
		b.git.Write(gittest.Files{file: "cases:\n- name: a key\n  findings: [{type: secrets/a, severity: critical}]\n  want: " + want + "\n"})
	}
	write("block")
	if out, _ := b.want(exitBlocked, "policy", "test", b.git.Dir); !strings.Contains(out, "its policies, ") || strings.Contains(out, "0 failed\n") {
		t.Errorf("without policies: %s", out)
	}
	b.git.Write(gittest.Files{".noxaudit/policies.yml": blockSecrets, "other_test.yml": "this is no test of ours"})
	out, _ := b.want(exitPassed, "policy", "test", b.git.Dir)
	if !strings.HasSuffix(out, "1 case in 1 file: 1 passed, 0 failed\n") {
		t.Error(out)
	}
	write("pass")
	if out, _ := b.want(exitBlocked, "policy", "test", b.git.Dir); !strings.Contains(out, "want pass, got block") {
		t.Error(out)
	}
	out, _ = b.want(exitBlocked, "policy", "test", "--format", "json", filepath.Join(b.git.Dir, file))
	var report struct{ Schema string }
	if err := json.Unmarshal([]byte(out), &report); err != nil || report.Schema != "noxaudit.policy-test/1" {
		t.Errorf("%v: %s", err, out)
	}
	b.git.Write(gittest.Files{".noxaudit/policies.yml": "policies:\n  a: {}\n"})
	if out, _ := b.want(exitBlocked, "policy", "test", b.git.Dir); !strings.Contains(out, "policies.yml:2:3: policy `a` has no `action`") {
		t.Errorf("broken policies: %s", out)
	}
}

// TestPolicyTestShowsNoOtherFile: a file of cases may come from a stranger's pull request.
func TestPolicyTestShowsNoOtherFile(t *testing.T) {
	b := setup(t)
	outside := filepath.Join(t.TempDir(), "private")
	if err := os.WriteFile(outside, []byte("hunter2: 1\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	rel, err := filepath.Rel(filepath.Join(b.git.Dir, ".noxaudit"), outside)
	if err != nil {
		t.Fatal(err)
	}
	for _, policies := range []string{outside, rel, "link.yml", ".", "policies_test.yml/x"} {
		b.git.Write(gittest.Files{".noxaudit/policies_test.yml": "policies: " + policies + "\ncases: [{name: n, want: pass}]\n"})
		link := filepath.Join(b.git.Dir, ".noxaudit", "link.yml")
		if err := os.Symlink(outside, link); err != nil && !os.IsExist(err) {
			t.Fatal(err)
		}
		if out, errs := b.want(exitBlocked, "policy", "test", b.git.Dir); strings.Contains(out+errs, "hunter2") {
			t.Errorf("policies: %s: %s%s", policies, out, errs)
		}
	}
}

// TestEveryExamplePolicyDoesWhatItsTestsSay: people copy them.
func TestEveryExamplePolicyDoesWhatItsTestsSay(t *testing.T) {
	const examples = "../../docs/examples/policies"
	b := setup(t)
	files, err := filepath.Glob(examples + "/*/policies.yml")
	if err != nil || len(files) < 10 {
		t.Fatalf("%d examples, %v", len(files), err)
	}
	index, err := os.ReadFile(examples + "/README.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		dir := filepath.Dir(file)
		name := filepath.Base(dir)
		if !strings.Contains(string(index), "["+name+"]("+name+")") {
			t.Errorf("the list of examples lacks %s", name)
		}
		if why, err := os.ReadFile(filepath.Join(dir, "README.md")); err != nil || len(why) < 200 {
			t.Errorf("%s does not say why: %v", name, err)
		}
		b.want(exitPassed, "policy", "lint", file)
		if out, _ := b.want(exitPassed, "policy", "test", dir); strings.Contains(out, "no case is about") {
			t.Errorf("%s has a policy without a case:\n%s", name, out)
		}
	}
}

func TestOurOwnPoliciesDoWhatTheirTestsSay(t *testing.T) {
	setup(t).want(exitPassed, "policy", "test", "../..")
}

// TestTheDocumentedCasesRun: the first block of the section and its output are what the program does.
func TestTheDocumentedCasesRun(t *testing.T) {
	doc, err := os.ReadFile("../../docs/policies.md")
	if err != nil {
		t.Fatal(err)
	}
	_, section, ok := strings.Cut(string(doc), "## Test your policies")
	_, yaml, ok2 := strings.Cut(section, "```yaml\n")
	cases, rest, ok3 := strings.Cut(yaml, "```\n")
	_, rest, ok4 := strings.Cut(rest, "```\n")
	shown, _, ok5 := strings.Cut(rest, "```\n")
	if !ok || !ok2 || !ok3 || !ok4 || !ok5 {
		t.Fatal("docs/policies.md: no cases, or no output")
	}
	b := setup(t)
	t.Chdir(b.git.Dir)
	b.git.Write(gittest.Files{".noxaudit/policies.yml": blockSecrets, ".noxaudit/policies_test.yml": cases})
	b.want(exitPassed, "policy", "test")
	b.git.Write(gittest.Files{".noxaudit/policies.yml": blockSecrets + "    scope: all\n"})
	if out, _ := b.want(exitBlocked, "policy", "test"); out != shown {
		t.Errorf("docs/policies.md shows\n%s\nand the program says\n%s", shown, out)
	}
}
