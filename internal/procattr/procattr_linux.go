// Package procattr sets what not every system can do for a process.
package procattr

import "syscall"

// EndWithStarter has the system kill the process when the thread that starts it ends, so that it does
// not outlive kill -9 of the process that started it. What it has started itself may.
// Whoever starts it keeps to that thread until it has ended: those of Go come and go.
func EndWithStarter(attr *syscall.SysProcAttr) { attr.Pdeathsig = syscall.SIGKILL }
