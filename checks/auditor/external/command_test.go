//go:build unix

package external

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/noxaudit/noxaudit/checks/audit"
	"github.com/noxaudit/noxaudit/checks/source"
	"github.com/noxaudit/noxaudit/internal/sarif"
)

// script is an executable shell script outside the audited tree.
func script(t *testing.T, body string) string {
	t.Helper()
	p := filepath.Join(t.TempDir(), "tool")
	if err := os.WriteFile(p, []byte("#!/bin/sh\n"+body), 0o755); err != nil {
		t.Fatal(err)
	}
	return p
}

// command runs a script over a tree of two files and returns what it found.
func command(t *testing.T, s *source.Snapshot, body string, o CommandOptions, args ...string) (audit.Result, error) {
	t.Helper()
	o.TempDir = t.TempDir()
	c, err := NewCommand("tool", append([]string{script(t, body)}, args...), o)
	if err != nil {
		t.Fatal(err)
	}
	res, err := run(t.Context(), c, s)
	if left, _ := os.ReadDir(o.TempDir); len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
	return res, err
}

func tree(t *testing.T) *source.Snapshot {
	return newRepo(t).commit(map[string]string{"src/a.py": "import os\neval(x)\n", "b": "b1\n"})
}

// say prints a document.
func say(doc []byte) string { return "cat <<'END'\n" + string(doc) + "\nEND\n" }

func TestACommandsResultsAreFindings(t *testing.T) {
	doc := document("T", result("src/a.py", 2))
	for name, c := range map[string]struct {
		body string
		args []string
	}{
		"on standard output":      {body: say(doc)},
		"with exit code 1":        {body: say(doc) + "exit 1\n"},
		"in a file":               {body: "echo some noise\n(" + say(doc) + ") > \"$1\"\n", args: []string{"{output}"}},
		"in a file, in a flag":    {body: "f=${1#--out=}\n(" + say(doc) + ") > \"$f\"\n", args: []string{"--out={output}"}},
		"with absolute paths":     {body: "printf '%s' '" + strings.Replace(string(doc), `"src/a.py"`, `"file://'"$1"'/src/a.py"`, 1) + "'", args: []string{"{tree}"}},
		"from the folder it sees": {body: "test -f src/a.py && test ! -e .git || exit 3\n" + say(doc)},
	} {
		t.Run(name, func(t *testing.T) {
			res, err := command(t, tree(t), c.body, CommandOptions{}, c.args...)
			if err != nil {
				t.Fatal(err)
			}
			fs := assemble("tool", res)
			if diff := cmp.Diff([]string{"src/a.py:2"}, places(fs)); diff != "" {
				t.Fatal(diff, res.Gaps)
			}
			if fs[0].Context != "eval(x)" {
				t.Errorf("context %q", fs[0].Context)
			}
		})
	}
}

func TestACommandThatWentWrongIsNoLookAtTheCode(t *testing.T) {
	clean := say(document("T"))
	for name, c := range map[string]struct {
		body, want string
		args       []string
	}{
		"exit code 2":             {body: clean + "echo no rules >&2; exit 2\n", want: "exit code 2, which is not one of [0 1]; it said: no rules"},
		"killed":                  {body: clean + "kill -9 $$\n", want: "ended by signal: killed"},
		"silence":                 {body: "true\n", want: "wrote nothing"},
		"silence and exit code 1": {body: "exit 1\n", want: "wrote nothing"},
		"garbage":                 {body: "echo all good\n", want: "not a SARIF 2.1.0 document"},
		"half a document":         {body: `printf '{"version":"2.1.0","runs":['` + "\n", want: "ends early"},
		"no run":                  {body: `echo '{"version":"2.1.0","runs":[]}'` + "\n", want: "no run"},
		"a run that failed":       {body: `echo '{"version":"2.1.0","runs":[{"tool":{"driver":{"name":"T"}},"results":[],"invocations":[{"executionSuccessful":false}]}]}'`, want: "did not complete"},
		"no output file":          {body: clean, want: "wrote no file", args: []string{"{output}"}},
		"a folder as output":      {body: "mkdir $1\n", want: "not a plain file", args: []string{"{output}"}},
		"a pipe as output":        {body: "mkfifo $1\n", want: "not a plain file", args: []string{"{output}"}},
		"a link as output":        {body: "ln -s /etc/passwd $1\n", want: "symbolic links", args: []string{"{output}"}},
		"a bad interpreter":       {body: "", want: "start", args: nil},
	} {
		t.Run(name, func(t *testing.T) {
			s := tree(t)
			var err error
			if c.body == "" {
				p := filepath.Join(t.TempDir(), "tool")
				if err := os.WriteFile(p, []byte("#!/no/such/interpreter\n"), 0o755); err != nil {
					t.Fatal(err)
				}
				a, err2 := NewCommand("tool", []string{p}, CommandOptions{})
				if err2 != nil {
					t.Fatal(err2)
				}
				_, err = run(t.Context(), a, s)
			} else {
				_, err = command(t, s, c.body, CommandOptions{}, c.args...)
			}
			if err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), "external auditor tool") {
				t.Errorf("%v, want %q", err, c.want)
			}
		})
	}
}

// alive reports whether a process that a script wrote the id of still runs.
func alive(t *testing.T, pidFile string) bool {
	t.Helper()
	b, err := os.ReadFile(pidFile)
	if err != nil {
		t.Fatal(err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(b)))
	if err != nil {
		t.Fatal(err)
	}
	// A killed process may stay in the table until its parent has read its end.
	for range 500 {
		if syscall.Kill(pid, 0) != nil {
			return false
		}
		if stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid)); err == nil && strings.Contains(string(stat), ") Z ") {
			return false
		}
		time.Sleep(10 * time.Millisecond)
	}
	return true
}

func TestACommandThatHangsIsStoppedWithEverythingItStarted(t *testing.T) {
	pid := filepath.Join(t.TempDir(), "pid")
	_, err := command(t, tree(t), "(trap '' TERM; sleep 600) & echo $! > "+pid+"\nwait\n", CommandOptions{Timeout: 500 * time.Millisecond})
	if err == nil || !strings.Contains(err.Error(), "stopped after 500ms, its time limit") {
		t.Error(err)
	}
	if alive(t, pid) {
		t.Error("what the command started still runs")
	}
}

func TestWhatACommandLeavesRunningEndsWithIt(t *testing.T) {
	pid := filepath.Join(t.TempDir(), "pid")
	res, err := command(t, tree(t), "sleep 600 >/dev/null 2>&1 & echo $! > "+pid+"\n"+say(document("T", result("b", 1))), CommandOptions{})
	if err != nil || len(res.Drafts) != 1 {
		t.Error(res, err)
	}
	if alive(t, pid) {
		t.Error("what the command started still runs")
	}
	_, err = command(t, tree(t), "sleep 600 & echo $! > "+pid+"\n"+say(document("T")), CommandOptions{})
	if err == nil || !strings.Contains(err.Error(), "kept its output open") {
		t.Error(err)
	}
	if alive(t, pid) {
		t.Error("what kept the output open still runs")
	}
}

func TestACancelledAuditStopsTheCommand(t *testing.T) {
	pid := filepath.Join(t.TempDir(), "pid")
	c, err := NewCommand("tool", []string{script(t, "echo $$ > "+pid+".new; mv "+pid+".new "+pid+"\nexec sleep 600\n")}, CommandOptions{})
	if err != nil {
		t.Fatal(err)
	}
	s := tree(t)
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		for {
			if _, err := os.Stat(pid); err == nil || ctx.Err() != nil {
				cancel()
				return
			}
			time.Sleep(5 * time.Millisecond)
		}
	}()
	if _, err := run(ctx, c, s); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	if alive(t, pid) {
		t.Error("the command still runs")
	}
}

func TestACommandThatFloodsItsOutputIsStopped(t *testing.T) {
	var limit *sarif.LimitError
	if _, err := command(t, tree(t), "yes\n", CommandOptions{Bytes: 1 << 20}); !errors.As(err, &limit) || limit.Limit != 1<<20 {
		t.Error(err)
	}
	if _, err := command(t, tree(t), "head -c 2000000 /dev/zero > $1\n", CommandOptions{Bytes: 1 << 20}, "{output}"); !errors.As(err, &limit) {
		t.Error(err)
	}
	// Errors may be as many as they like; only the last are kept.
	_, err := command(t, tree(t), "i=0; while [ $i -lt 2000 ]; do echo \"line $i of many lines of complaint\" >&2; i=$((i+1)); done; printf '\\033[31mlast\\007' >&2; exit 9\n", CommandOptions{})
	if err == nil || len(err.Error()) > stderrTail+200 || !strings.HasSuffix(err.Error(), "[31mlast") || strings.Contains(err.Error(), "line 5 of") {
		t.Error(err)
	}
}

func TestACommandWorksOnACopy(t *testing.T) {
	r := newRepo(t)
	s := r.commit(map[string]string{"src/a.py": "eval(x)\n", "b": "b1\n"})
	outside := filepath.Join(t.TempDir(), "outside")
	if err := os.WriteFile(outside, []byte("mine"), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := command(t, s, "echo changed > src/a.py; rm b; ln -s "+outside+" link; mkdir -p deep/er; chmod 500 deep\n"+say(document("T", result("src/a.py", 1), result("link", 1))), CommandOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if b, err := os.ReadFile(filepath.Join(r.dir, "src/a.py")); err != nil || string(b) != "eval(x)\n" {
		t.Errorf("%q %v", b, err)
	}
	if b, err := os.ReadFile(outside); err != nil || string(b) != "mine" {
		t.Errorf("removing the copy followed a link: %q %v", b, err)
	}
}

func TestSymbolicLinksOfTheTreeAreNotThereForTheCommand(t *testing.T) {
	r := newRepo(t)
	if err := os.Symlink("/etc/passwd", filepath.Join(r.dir, "escape")); err != nil {
		t.Fatal(err)
	}
	r.git("add", "escape")
	r.git("commit", "-qm", "x")
	s := r.snapshot("HEAD")
	res, err := command(t, s, "test -e escape -o -L escape && exit 7\n"+say(document("T", result("escape", 1))), CommandOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if fs := assemble("tool", res); len(fs) != 1 || fs[0].Path != "escape" || strings.Contains(fs[0].Context, "etc") {
		t.Errorf("%+v", fs)
	}
}

func TestACommandSeesACleanEnvironment(t *testing.T) {
	t.Setenv("NOXAUDIT_GITHUB_WEBHOOK_SECRET", "do-not-show")
	t.Setenv("RULES_TOKEN", "token-4711")
	_, err := command(t, tree(t), "env | sort >&2; ls -l /dev/fd/ | wc -l >&2; cat >&2; exit 5\n", CommandOptions{Env: []string{"RULES_TOKEN", "NOT_SET"}})
	if err == nil {
		t.Fatal("no error")
	}
	said := err.Error()
	if strings.Contains(said, "do-not-show") || strings.Contains(said, "WEBHOOK") || strings.Contains(said, "NOT_SET") {
		t.Errorf("the command saw too much: %s", said)
	}
	for _, want := range []string{"RULES_TOKEN=***", "PATH=" + DefaultPath, "LANG=C.UTF-8", "HOME=", "TMPDIR="} {
		if !strings.Contains(said, want) {
			t.Errorf("%q is missing in %s", want, said)
		}
	}
	if strings.Contains(said, "4711") {
		t.Error("the error shows the token")
	}
}

func TestCommandsThatCannotWorkAreRefusedAtOnce(t *testing.T) {
	plain := filepath.Join(t.TempDir(), "plain")
	if err := os.WriteFile(plain, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		argv []string
		o    CommandOptions
		want string
	}{
		{nil, CommandOptions{}, "no command"},
		{[]string{""}, CommandOptions{}, "no command"},
		{[]string{"./scan.sh"}, CommandOptions{}, "holds no programs to run"},
		{[]string{"no-such-program-anywhere"}, CommandOptions{}, "not on the search path"},
		{[]string{"/no/such/program"}, CommandOptions{}, "no such file"},
		{[]string{plain}, CommandOptions{}, "not executable"},
		{[]string{"/"}, CommandOptions{}, "not executable"},
		{[]string{"sh", "a\x00b"}, CommandOptions{}, "NUL"},
		{[]string{"sh"}, CommandOptions{Path: "bin:/bin"}, "not absolute"},
		{[]string{"sh"}, CommandOptions{Env: []string{"A=B"}}, "not the name"},
		{[]string{"sh"}, CommandOptions{Env: []string{"PATH"}}, "cannot be inherited"},
	} {
		if _, err := NewCommand("tool", c.argv, c.o); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%q: %v, want %q", c.argv, err, c.want)
		}
	}
	a, err := NewCommand("tool", []string{"sh", "-c", "true"}, CommandOptions{})
	if err != nil {
		t.Fatal(err)
	}
	b, err := NewCommand("tool", []string{"sh", "-c", "false"}, CommandOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if i := a.Info(); !i.Needs.Command || i.Config == b.Info().Config || !a.Reads("x") {
		t.Errorf("%+v", i)
	}
}

func TestFilesThatTheCommandDidNotSeeAreGaps(t *testing.T) {
	s := newRepo(t).commit(map[string]string{"huge.txt": strings.Repeat("a line of text\n", 100_000), "b": "b1\n"})
	res, err := command(t, s, say(document("T")), CommandOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"huge.txt: not shown to the command: larger than 1 MiB"}, reasons(res.Gaps)); diff != "" {
		t.Error(diff)
	}
}
