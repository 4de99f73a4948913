//go:build !linux

package mirror

import "os/exec"

// dieWithUs does nothing: a command that outlives this process only writes into a workspace that is removed.
func dieWithUs(*exec.Cmd) {}
