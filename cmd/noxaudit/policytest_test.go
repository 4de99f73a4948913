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
