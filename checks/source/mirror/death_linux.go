package mirror

import (
	"os/exec"
	"syscall"
)

// dieWithUs has the kernel end the command when the thread that started it is gone, which is when this
// process is: the caller keeps its thread until the command has ended.
func dieWithUs(cmd *exec.Cmd) { cmd.SysProcAttr.Pdeathsig = syscall.SIGKILL }
