//go:build unix

package handler

import (
	"os/exec"
	"syscall"

	"github.com/meshctl/meshctl/internal/procattr"
)

// group is a program and everything it started, unless that left the process group.
type group struct{ cmd *exec.Cmd }

func newGroup(cmd *exec.Cmd) *group {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	procattr.EndWithStarter(cmd.SysProcAttr) // or it would run beside its next try
	return &group{cmd: cmd}
}

// adopt is called once after the program was started.
func (g *group) adopt() error { return nil }

// terminate asks the group to end.
func (g *group) terminate() { g.signal(syscall.SIGTERM) }

// kill ends the group. It is also called right after the program itself was waited
// for, to end what that left behind. The group keeps its number while any of it lives;
// where nothing does, the number would have to come round in that instant to be another's.
func (g *group) kill() { g.signal(syscall.SIGKILL) }

// release frees what the group holds, after kill.
func (g *group) release() {}

func (g *group) signal(s syscall.Signal) {
	// An error means that nobody is left.
	_ = syscall.Kill(-g.cmd.Process.Pid, s)
}
