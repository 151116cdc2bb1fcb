package chaos

import (
	"os/exec"
	"syscall"
)

// endWithStarter has the system kill the process when the thread that starts it ends, so that kill -9 of
// `meshctl chaos` leaves no process behind, not even one that is frozen.
func endWithStarter(cmd *exec.Cmd) { cmd.SysProcAttr.Pdeathsig = syscall.SIGKILL }
