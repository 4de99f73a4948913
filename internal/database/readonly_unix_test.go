//go:build unix

package database_test

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/noxaudit/noxaudit/internal/database"
)

const openVar = "NOXAUDIT_TEST_OPEN_DATABASE"

// TestMain turns this program into one that opens a database and prints why it cannot, when the environment
// says so.
func TestMain(m *testing.M) {
	if dsn := os.Getenv(openVar); dsn != "" {
		db, err := database.Open(context.Background(), dsn, things, "thing_version")
		fmt.Println(err)
		if err == nil {
			db.Close()
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// Root may write anywhere, so as root the test asks a child that is nobody.
func TestADirectoryOrFileThatMayNotBeWrittenIsSaidSo(t *testing.T) {
	dir, err := os.MkdirTemp("", "readonly")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	program := filepath.Join(dir, "program")
	copyProgram(t, program)
	file := filepath.Join(dir, "file.db")
	db, err := database.Open(t.Context(), file, things, "thing_version")
	if err != nil {
		t.Fatal(err)
	}
	db.Close()
	for path, mode := range map[string]os.FileMode{file: 0o444, dir: 0o555} {
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
	}
	defer os.Chmod(dir, 0o755)
	for _, name := range []string{"new.db", "file.db"} {
		cmd := exec.Command(program)
		cmd.Dir = dir
		cmd.Env = append(os.Environ(), openVar+"="+filepath.Join(dir, name))
		if os.Geteuid() == 0 {
			cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
		}
		out, err := cmd.CombinedOutput()
		if err != nil || !strings.Contains(string(out), "must be writable for this user") {
			t.Errorf("%s: %s, %v", name, out, err)
		}
	}
}

func copyProgram(t *testing.T, to string) {
	t.Helper()
	in, err := os.Open(os.Args[0])
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_CREATE|os.O_WRONLY, 0o755)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(out, in); err != nil {
		t.Fatal(err)
	}
	if err := out.Close(); err != nil {
		t.Fatal(err)
	}
}
