package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"database/sql"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	_ "modernc.org/sqlite"

	"github.com/noxaudit/noxaudit/internal/dbtest"
	"github.com/noxaudit/noxaudit/internal/gittest"
)

// bench is a repository and a data folder, and runs the program on them.
type bench struct {
	t    *testing.T
	git  *gittest.Repo
	data string
	env  []string
}

func setup(t *testing.T) *bench {
	t.Helper()
	return &bench{t: t, git: gittest.New(t), data: filepath.Join(t.TempDir(), "data")}
}

func (b *bench) runIn(ctx context.Context, args ...string) (code int, stdout, stderr string) {
	var out, errs bytes.Buffer
	p := &program{
		stdin: strings.NewReader(""), stdout: &out, stderr: &errs,
		environ: append([]string{"NOXAUDIT_DATA_DIR=" + b.data, "USER=ada"}, b.env...),
		now:     time.Now, rand: rand.Reader, columns: func() int { return 100 },
	}
	return p.run(ctx, args), out.String(), errs.String()
}

func (b *bench) run(args ...string) (code int, stdout, stderr string) {
	b.t.Helper()
	return b.runIn(context.Background(), args...)
}

// want runs the program and fails the test on another exit code.
func (b *bench) want(code int, args ...string) (stdout, stderr string) {
	b.t.Helper()
	got, stdout, stderr := b.run(args...)
	if got != code {
		b.t.Fatalf("noxaudit %s: exit code %d, want %d\n%s%s", strings.Join(args, " "), got, code, stdout, stderr)
	}
	return stdout, stderr
}

const blockSecrets = `policies:
  no-hardcoded-secrets:
    focus: security
    action: block
    severity_minimum: high
    message: "Hardcoded secrets are not permitted. Use environment variables."
`

func (b *bench) leak() (base string) {
	b.t.Helper()
	base = b.git.Commit(gittest.Files{".noxaudit/policies.yml": blockSecrets, "main.go": "package main\n"})
	b.git.Write(gittest.Files{"config.go": "package main\n\nconst token = \"" + token() + "\"\n"})
	return base
}

// token is a made-up GitHub token.
func token() string { return "ghp" + "_" + "x7Kq2LmN9vRt4WzYb1Cd8Fg3Hj5Pn6TsQwE0" }

func TestAnIntroducedKeyBlocksWithWhatWhereWhyAndHowToFix(t *testing.T) {
	b := setup(t)
	b.leak()
	out, _ := b.want(exitBlocked, "audit", b.git.Dir, "--base", "HEAD")
	for _, want := range []string{"Blocked · 1 high", "no-hardcoded-secrets", "config.go:3", "NX-", "why", "fix", "Use environment variables", "V-"} {
		if !strings.Contains(out, want) {
			t.Errorf("the text lacks %q:\n%s", want, out)
		}
	}
	if strings.Contains(out, token()) {
		t.Error("the text shows the secret")
	}
}

func TestNoFormatAndNoFileShowsTheSecret(t *testing.T) {
	b := setup(t)
	b.leak()
	for _, format := range []string{"text", "json", "sarif", "markdown"} {
		out, errs := b.want(exitBlocked, "audit", b.git.Dir, "--format", format, "--all")
		if strings.Contains(out+errs, token()) {
			t.Errorf("%s shows the secret", format)
		}
	}
	err := filepath.Walk(b.data, func(path string, info os.FileInfo, err error) error {
		if err != nil || info.IsDir() {
			return err
		}
		body, err := os.ReadFile(path)
		if bytes.Contains(body, []byte(token())) {
			t.Errorf("%s holds the secret", path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestAnOldKeyIsShownAndDoesNotBlock(t *testing.T) {
	b := setup(t)
	b.leak()
	base := b.git.Commit(nil)
	b.git.Commit(gittest.Files{"other.go": "package main\n"})
	out, _ := b.want(exitPassed, "audit", b.git.Dir, "--base", base)
	if !strings.Contains(out, "1 there before") {
		t.Errorf("the old finding is not mentioned:\n%s", out)
	}
	b.want(exitBlocked, "audit", b.git.Dir) // without a base everything is in scope
}

func TestAStoredVerdictReplaysByteForByte(t *testing.T) {
	b := setup(t)
	b.leak()
	out, _ := b.want(exitBlocked, "audit", b.git.Dir, "--format", "json")
	var result struct{ ID, Digest string }
	if err := json.Unmarshal([]byte(out), &result); err != nil {
		t.Fatal(err)
	}
	for _, id := range []string{result.ID, result.Digest} {
		if out, _ := b.want(exitPassed, "replay", id); !strings.Contains(out, "identical: "+result.Digest) {
			t.Errorf("replay says %q", out)
		}
	}
	if _, errs := b.want(exitFailed, "replay", "V-00000000"); !strings.Contains(errs, "no verdict V-00000000") {
		t.Errorf("an unknown verdict: %q", errs)
	}
}

func TestTheLedgerVerifiesAndNamesTheFirstBadEntry(t *testing.T) {
	b := setup(t)
	b.leak()
	for range 3 {
		b.want(exitBlocked, "audit", b.git.Dir)
	}
	out, _ := b.want(exitPassed, "ledger", "verify")
	if !strings.Contains(out, "noxaudit/local/local: 8 entries") || !strings.Contains(out, "key not pinned") {
		t.Errorf("verify says %q", out)
	}
	doctor, _ := b.want(exitPassed, "doctor")
	_, after, _ := strings.Cut(doctor, "verifier key ")
	pin, _, _ := strings.Cut(after, "\n")
	if out, _ := b.want(exitPassed, "ledger", "verify", "--key", pin); !strings.Contains(out, "key pinned") {
		t.Errorf("verify with a pinned key says %q", out)
	}
	b.tamper("UPDATE entry SET line = replace(line, 'ada', 'eve') WHERE seq = 4")
	if out, _ := b.want(exitBlocked, "ledger", "verify"); !strings.Contains(out, "ledger entry 4") {
		t.Errorf("verify of a changed entry says %q", out)
	}
}

// tamper does what a database administrator could: it takes the triggers away first.
func (b *bench) tamper(statement string) {
	b.t.Helper()
	db, err := sql.Open("sqlite", filepath.Join(b.data, "ledger.db"))
	if err != nil {
		b.t.Fatal(err)
	}
	defer db.Close()
	rows, err := db.Query("SELECT name FROM sqlite_master WHERE type = 'trigger'")
	if err != nil {
		b.t.Fatal(err)
	}
	var triggers []string
	for rows.Next() {
		var trigger string
		if err := rows.Scan(&trigger); err != nil {
			b.t.Fatal(err)
		}
		triggers = append(triggers, trigger)
	}
	rows.Close()
	for _, trigger := range triggers {
		if _, err := db.Exec(`DROP TRIGGER "` + trigger + `"`); err != nil {
			b.t.Fatal(err)
		}
	}
	res, err := db.Exec(statement)
	if err != nil {
		b.t.Fatal(err)
	}
	if n, _ := res.RowsAffected(); n == 0 {
		b.t.Fatalf("%s: no row", statement)
	}
}

func TestNoStoreKeepsNothing(t *testing.T) {
	b := setup(t)
	b.leak()
	b.want(exitBlocked, "audit", b.git.Dir, "--no-store")
	if _, err := os.Stat(b.data); !os.IsNotExist(err) {
		t.Errorf("the data folder exists: %v", err)
	}
}

func TestPoliciesComeFromTheBaseAndTheTextSaysSo(t *testing.T) {
	b := setup(t)
	b.leak()
	loose := strings.Replace(blockSecrets, "block", "report", 1)
	b.git.Write(gittest.Files{".noxaudit/policies.yml": loose})
	out, _ := b.want(exitBlocked, "audit", b.git.Dir, "--base", "HEAD")
	if !strings.Contains(out, "has other policies") {
		t.Errorf("the difference is not mentioned:\n%s", out)
	}
	b.want(exitPassed, "audit", b.git.Dir, "--policy", filepath.Join(b.git.Dir, ".noxaudit/policies.yml"))
}

func TestBadInputIsRefusedInASentence(t *testing.T) {
	for _, c := range []struct {
		name string
		code int
		want string
		do   func(b *bench) []string
	}{
		{"not a repository", exitFailed, "not a git repository", func(b *bench) []string { return []string{"audit", b.t.TempDir()} }},
		{"no such folder", exitFailed, "no such", func(b *bench) []string { return []string{"audit", b.git.Dir + "/nowhere"} }},
		{"unborn branch against a base", exitFailed, "no commit yet", func(b *bench) []string { return []string{"audit", b.git.Dir, "--base", "main"} }},
		{"missing base", exitFailed, "no such commit", func(b *bench) []string { b.leak(); return []string{"audit", b.git.Dir, "--base", "nowhere"} }},
		{"a base that is an option", exitFailed, "--output=x", func(b *bench) []string { b.leak(); return []string{"audit", b.git.Dir, "--base=--output=x"} }},
		{"broken policies at the base", exitBlocked, "policies.yml:2:", func(b *bench) []string {
			b.git.Commit(gittest.Files{".noxaudit/policies.yml": "policies:\n  x: {focus: security, action: blok}\n"})
			return []string{"audit", b.git.Dir}
		}},
		{"a policy file that is not there", exitFailed, "no such file", func(b *bench) []string { b.leak(); return []string{"audit", b.git.Dir, "--policy", "nowhere.yml"} }},
		{"SARIF that is none", exitFailed, "sarif", func(b *bench) []string {
			b.leak()
			b.git.Write(gittest.Files{"x.sarif": "hello"})
			return []string{"audit", b.git.Dir, "--sarif", filepath.Join(b.git.Dir, "x.sarif")}
		}},
		{"an unknown flag", exitFailed, "unknown flag", func(b *bench) []string { return []string{"audit", "--bas", "x"} }},
		{"an unknown format", exitFailed, "want one of", func(b *bench) []string { return []string{"audit", "--format", "xml"} }},
		{"an unknown command", exitFailed, "unknown command", func(b *bench) []string { return []string{"adit"} }},
		{"no ledger yet", exitFailed, "no ledger", func(b *bench) []string { return []string{"ledger", "verify"} }},
		{"a data folder that is a file", exitFailed, "data folder", func(b *bench) []string {
			b.leak()
			if err := os.WriteFile(b.data, []byte("x"), 0o600); err != nil {
				b.t.Fatal(err)
			}
			return []string{"audit", b.git.Dir}
		}},
		{"a database that is none", exitFailed, "postgres://", func(b *bench) []string { return []string{"doctor", "--database-url", "mysql://x"} }},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := setup(t)
			args := c.do(b)
			_, errs := b.want(c.code, args...)
			if !strings.Contains(strings.ToLower(errs), strings.ToLower(c.want)) || strings.Contains(errs, "goroutine") {
				t.Errorf("says %q, want %q", errs, c.want)
			}
		})
	}
}

func TestAnUnbornBranchIsAuditedUnderItsOwnPolicies(t *testing.T) {
	b := setup(t)
	b.git.Write(gittest.Files{".noxaudit/policies.yml": blockSecrets, "a.go": "const t = \"" + token() + "\"\n"})
	out, _ := b.want(exitBlocked, "audit", b.git.Dir)
	if !strings.Contains(out, "no commit yet") {
		t.Errorf("does not say whose policies:\n%s", out)
	}
}

func TestOtherToolsResultsAreJudgedToo(t *testing.T) {
	b := setup(t)
	b.git.Commit(gittest.Files{
		".noxaudit/policies.yml": blockSecrets,
		"q.go":                   "package q\n\nvar sql = \"select \" + name\n",
	})
	result := `{"version":"2.1.0","runs":[{"tool":{"driver":{"name":"Semgrep OSS","rules":[{"id":"sqli","properties":{"security-severity":"8.1","tags":["security"]}}]}},
	"results":[{"ruleId":"sqli","message":{"text":"SQL built by concatenation"},"locations":[{"physicalLocation":{"artifactLocation":{"uri":"q.go"},"region":{"startLine":3}}}]}]}]}`
	file := filepath.Join(t.TempDir(), "semgrep.sarif")
	if err := os.WriteFile(file, []byte(result), 0o600); err != nil {
		t.Fatal(err)
	}
	out, _ := b.want(exitBlocked, "audit", b.git.Dir, "--sarif", file)
	if !strings.Contains(out, "SQL built by concatenation") || !strings.Contains(out, "q.go:3") {
		t.Errorf("the other tool's finding is missing:\n%s", out)
	}
	script := filepath.Join(t.TempDir(), "tool.sh")
	if err := os.WriteFile(script, []byte("#!/bin/sh\ncat "+file+"\nexit 1\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	b.want(exitBlocked, "audit", b.git.Dir, "--command", "semgrep="+script)
	b.want(exitBlocked, "audit", b.git.Dir, "--command", "broken=/bin/false")
}

func TestTheResultIsWrittenWholeOrNotAtAll(t *testing.T) {
	b := setup(t)
	b.leak()
	out := filepath.Join(t.TempDir(), "r.sarif")
	b.want(exitBlocked, "audit", b.git.Dir, "--format", "sarif", "-o", out)
	body, err := os.ReadFile(out)
	if err != nil || !json.Valid(body) {
		t.Errorf("%v: %s", err, body)
	}
	if _, errs := b.want(exitFailed, "audit", b.git.Dir, "-o", filepath.Join(t.TempDir(), "no", "such", "r.txt")); errs == "" {
		t.Error("no word about a file that cannot be written")
	}
}

func TestAnInterruptedAuditSaysSoAndGoesOnNextTime(t *testing.T) {
	b := setup(t)
	b.leak()
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if code, _, errs := b.runIn(ctx, "audit", b.git.Dir); code != exitFailed || !strings.Contains(errs, "interrupted") {
		t.Errorf("exit code %d, %q", code, errs)
	}
	b.want(exitBlocked, "audit", b.git.Dir)
	b.want(exitPassed, "ledger", "verify")
}

func TestTwoAuditsAtOnceLoseNothing(t *testing.T) {
	b := setup(t)
	b.leak()
	b.want(exitBlocked, "audit", b.git.Dir)
	done := make(chan int)
	const n = 4
	for range n {
		go func() {
			code, _, errs := b.run("audit", b.git.Dir)
			if code != exitBlocked {
				t.Errorf("exit code %d: %s", code, errs)
			}
			done <- code
		}()
	}
	for range n {
		<-done
	}
	out, _ := b.want(exitPassed, "ledger", "verify")
	if !strings.Contains(out, ": 12 entries") { // 4 of the first audit, 2 of each later one
		t.Errorf("verify says %q", out)
	}
}

func TestPolicyLintPointsAtEveryProblem(t *testing.T) {
	b := setup(t)
	b.git.Write(gittest.Files{".noxaudit/policies.yml": "policies:\n  a:\n    focus: security\n    action: Block\n    severity_minimun: high\n"})
	_, errs := b.want(exitBlocked, "policy", "lint", b.git.Dir)
	for _, want := range []string{"4:", "5:", "severity_minimum"} {
		if !strings.Contains(errs, want) {
			t.Errorf("lint lacks %q:\n%s", want, errs)
		}
	}
	b.git.Write(gittest.Files{".noxaudit/policies.yml": blockSecrets})
	b.want(exitPassed, "policy", "lint", b.git.Dir)
}

func TestAuditsAreKeptInPostgres(t *testing.T) {
	main, record := dbtest.Postgres(t), dbtest.Postgres(t)
	b := setup(t)
	b.leak()
	keyFile := filepath.Join(t.TempDir(), "ledger.key")
	pin, _ := b.want(exitPassed, "ledger", "keygen", keyFile)
	b.want(exitFailed, "ledger", "keygen", keyFile) // a key is never overwritten
	b.env = []string{"NOXAUDIT_DATABASE_URL=" + main, "NOXAUDIT_LEDGER_DATABASE_URL=" + record}
	if _, errs := b.want(exitFailed, "audit", b.git.Dir); !strings.Contains(errs, "NOXAUDIT_LEDGER_KEY_FILE") {
		t.Errorf("without a key: %q", errs)
	}
	b.env = append(b.env, "NOXAUDIT_LEDGER_KEY_FILE="+keyFile)
	b.want(exitBlocked, "audit", b.git.Dir)
	b.want(exitPassed, "ledger", "verify", "--key", strings.TrimSpace(pin))
	b.want(exitPassed, "doctor")
	b.want(exitPassed, "migrate")
	if _, err := os.Stat(filepath.Join(b.data, "noxaudit.db")); !os.IsNotExist(err) {
		t.Error("a SQLite file was made beside Postgres")
	}
}

func TestVersionAndAuditorsSpeakJSON(t *testing.T) {
	b := setup(t)
	for _, args := range [][]string{{"version"}, {"auditors"}, {"doctor"}} {
		b.want(exitPassed, args...)
		out, _ := b.want(exitPassed, append(args, "--format", "json")...)
		if !json.Valid([]byte(out)) {
			t.Errorf("%v: %s", args, out)
		}
	}
}
