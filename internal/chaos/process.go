package chaos

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"sync/atomic"
	"time"

	"github.com/meshctl/meshctl/internal/procattr"
)

// Process is a running program. It is in a process group of its own, so that Ctrl-C reaches it
// only through the lab.
type Process struct {
	Name string
	Log  string // the file with what it wrote to stdout and stderr

	cmd   *exec.Cmd
	told  atomic.Bool // to end
	ended chan struct{}
	err   error // how it ended, once ended is closed
}

// starter starts processes, all of them on one thread, which stays until it is closed: see procattr.
type starter struct {
	starts chan func()
	closed chan struct{}
}

func newStarter() *starter {
	s := &starter{make(chan func()), make(chan struct{})}
	go func() {
		runtime.LockOSThread() // and never unlocked: the thread ends with this
		for {
			select {
			case start := <-s.starts:
				start()
			case <-s.closed:
				return
			}
		}
	}()
	return s
}

func (s *starter) start(cmd *exec.Cmd) error {
	procattr.EndWithStarter(cmd.SysProcAttr) // even when it is frozen
	err := make(chan error, 1)
	select {
	case s.starts <- func() { err <- cmd.Start() }:
		return <-err
	case <-s.closed:
		return errors.New("the scenario has ended")
	}
}

// close ends the thread. Processes have ended before.
func (s *starter) close() { close(s.closed) }

func (l *Lab) start(name, program string, stdin []byte, args []string) (*Process, error) {
	log, err := l.logFile(name)
	if err != nil {
		return nil, err
	}
	defer log.Close()
	cmd := exec.Command(program, args...)
	cmd.Env, cmd.Dir = append(l.environ(), "MESHCTL_LOG_FORMAT=json"), l.Dir
	cmd.Stdout, cmd.Stderr = log, log
	if stdin != nil {
		cmd.Stdin = bytes.NewReader(stdin)
	}
	ownGroup(cmd)
	p := &Process{Name: name, Log: log.Name(), cmd: cmd, ended: make(chan struct{})}
	if err := l.starter.start(cmd); err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	go func() {
		defer close(p.ended)
		p.err = cmd.Wait()
	}()
	l.mu.Lock()
	defer l.mu.Unlock()
	l.processes = append(l.processes, p)
	return p, nil
}

// PID is the process's id.
func (p *Process) PID() int { return p.cmd.Process.Pid }

// Ended is closed when the process has ended.
func (p *Process) Ended() <-chan struct{} { return p.ended }

// Running tells whether the process has not ended.
func (p *Process) Running() bool {
	select {
	case <-p.ended:
		return false
	default:
		return true
	}
}

// Kill kills the process, and with it what it has started in its group, with SIGKILL, and returns
// when it has ended.
func (p *Process) Kill() {
	p.told.Store(true)
	killGroup(p.cmd)
	<-p.ended
}

// KillAlone kills the process with SIGKILL but not its children, and returns when it has ended.
func (p *Process) KillAlone() {
	p.told.Store(true)
	_ = p.cmd.Process.Kill() // it may have ended
	<-p.ended
}

// Stop asks the process to end in order and returns when it has, with an error when it did not within
// limit, after which it is killed, or ended with another exit code than 0.
func (p *Process) Stop(limit time.Duration) error {
	p.told.Store(true)
	if err := terminate(p.cmd.Process); err != nil && p.Running() {
		return fmt.Errorf("stop %s: %w", p.Name, err)
	}
	select {
	case <-p.ended:
		if p.err != nil {
			return fmt.Errorf("stop %s: %w", p.Name, p.err)
		}
		return nil
	case <-time.After(limit):
		p.Kill()
		return fmt.Errorf("stop %s: not within %s", p.Name, limit)
	}
}

// Freeze stops the process with SIGSTOP: it is there and does nothing, until Thaw.
func (p *Process) Freeze() error { return freeze(p.cmd.Process) }

// Thaw lets a frozen process go on.
func (p *Process) Thaw() error { return thaw(p.cmd.Process) }

// Logged reads what the process has logged so far, with those of the same name before it.
func (p *Process) Logged() (string, error) {
	text, err := os.ReadFile(p.Log)
	return string(text), err
}
