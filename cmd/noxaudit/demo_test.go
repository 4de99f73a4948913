package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func demoProgram(out *bytes.Buffer) *program {
	return &program{stdin: strings.NewReader(""), stdout: out, stderr: out, now: time.Now, rand: rand.Reader, columns: func() int { return 0 },
		environ: []string{"NOXAUDIT_DATA_DIR=/nowhere", "NOXAUDIT_DATABASE_URL=postgres://nowhere/", "NOXAUDIT_LEDGER_DATABASE_URL=postgres://nowhere/"}}
}

func TestTheDemosStoryHoldsStepByStep(t *testing.T) {
	var out bytes.Buffer
	if code := demoProgram(&out).run(context.Background(), []string{"demo", "--script", "--data-dir", filepath.Join(t.TempDir(), "demo")}); code != exitPassed {
		t.Fatalf("exit code %d\n%s", code, out.String())
	}
	t.Log(out.String())
}

func TestTheDemoRefusesAFolderThatIsNotItsOwn(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "noxaudit.db"), []byte("a real one"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{{"demo", "--script", "--data-dir", dir}, {"demo", "tamper", "--data-dir", dir}, {"demo", "tamper"}} {
		var out bytes.Buffer
		if code := demoProgram(&out).run(context.Background(), args); code != exitFailed || !strings.Contains(out.String(), "demo") {
			t.Errorf("%v: exit code %d: %s", args, code, out.String())
		}
	}
	if raw, err := os.ReadFile(filepath.Join(dir, "noxaudit.db")); err != nil || string(raw) != "a real one" {
		t.Errorf("the folder was touched: %q %v", raw, err)
	}
}

func TestADemoThatWasKilledWhileItBeganBeginsAgain(t *testing.T) {
	dir := t.TempDir()
	if err := writeDemoState(dir, demoState{}); err != nil {
		t.Fatal(err)
	}
	for _, sub := range []string{"github", "data"} {
		if err := os.MkdirAll(filepath.Join(dir, sub, "half"), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := openDemoDir(dir); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(dir, "data")); !os.IsNotExist(err) {
		t.Errorf("what was begun is still there: %v", err)
	}
}
