package handler

import "syscall"

// endWithNode has the system kill the program when the thread that starts it ends, so that it does
// not outlive kill -9 of its node and run beside its next try. What it started itself may.
// Whoever starts it keeps to that thread until it has ended: those of Go come and go.
func endWithNode(attr *syscall.SysProcAttr) { attr.Pdeathsig = syscall.SIGKILL }
