//go:build !unix

package external

import (
	"os"
	"os/exec"
)

// Commands are supported on Linux and macOS; elsewhere only the program itself is killed.

func ownGroup(*exec.Cmd) {}

func killGroup(cmd *exec.Cmd) error { return cmd.Process.Kill() }

func openPlain(path string) (*os.File, error) { return os.Open(path) }
