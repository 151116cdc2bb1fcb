package handler

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/exec"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/meshctl/meshctl/internal/pause"
)

const (
	restartMin   = 100 * time.Millisecond
	restartMax   = 10 * time.Second
	restartReset = 10 * time.Second // a program that was up so long starts from restartMin again

	drainTime = 200 * time.Millisecond // to read what an ended program left in its pipes
	// lineOverhead is what a line may have beyond the largest result.
	lineOverhead = 16 << 10
)

// stdioHandler sends one command's requests to a process.
type stdioHandler struct {
	process   *process
	maxOutput int
}

func (h *stdioHandler) Handle(ctx context.Context, r *Request) (json.RawMessage, error) {
	s := h.process.session.Load()
	if s == nil {
		return nil, overloaded("the program is not running")
	}
	out, err := s.ask(ctx, r)
	if err != nil {
		return nil, err
	}
	if len(out) > h.maxOutput {
		return nil, tooLarge(h.maxOutput)
	}
	return out, nil
}

// process keeps one program running and may serve many commands.
type process struct {
	program program
	cfg     Config
	log     *slog.Logger
	maxLine int
	ran     atomic.Bool
	session atomic.Pointer[session] // nil while the program is down

	starts, malformed, stray atomic.Uint64
}

func newProcess(prog program, cfg Config) *process {
	return &process{program: prog, cfg: cfg, log: cfg.Logger.With("program", prog.argv[0])}
}

// allow makes room for results of n bytes. It is called before Run.
func (p *process) allow(n int) { p.maxLine = max(p.maxLine, n+lineOverhead) }

// Run keeps the program running until ctx ends: it is started again when it ends, after
// 100 ms at first and 10 s at last. At the end of ctx its stdin is closed; a second later
// it gets SIGTERM, and after another the process group is killed.
func (p *process) Run(ctx context.Context) error {
	if p.ran.Swap(true) {
		return errors.New("run program: it was run before")
	}
	for delay := restartMin; ; delay = min(2*delay, restartMax) {
		began := time.Now()
		err := p.live(ctx)
		if ctx.Err() != nil {
			return nil
		}
		if time.Since(began) >= restartReset {
			delay = restartMin
		}
		wait := jitter(delay)
		p.log.Warn("program ended", "err", err, "restart_in", wait)
		if !pause.For(ctx, wait) {
			return nil
		}
	}
}

// jitter shortens d by up to a quarter, so that nodes do not restart in step.
func jitter(d time.Duration) time.Duration { return d - rand.N(d/4+1) }

// pipes are the parent's and the child's ends of a program's stdin, stdout and stderr.
type pipes struct {
	in, out, err                *os.File
	childIn, childOut, childErr *os.File
}

func newPipes() (p pipes, err error) {
	defer func() {
		if err != nil {
			p.close()
			p.closeChild()
		}
	}()
	if p.childIn, p.in, err = os.Pipe(); err != nil {
		return p, err
	}
	if p.out, p.childOut, err = os.Pipe(); err != nil {
		return p, err
	}
	p.err, p.childErr, err = os.Pipe()
	return p, err
}

// close and closeChild accept what is nil or closed already.
func (p pipes) close()      { closeAll(p.in, p.out, p.err) }
func (p pipes) closeChild() { closeAll(p.childIn, p.childOut, p.childErr) }

func closeAll(files ...*os.File) {
	for _, f := range files {
		_ = f.Close()
	}
}

// live runs the program once and returns why it ended. It leaves nothing behind.
func (p *process) live(ctx context.Context) error {
	pp, err := newPipes()
	if err != nil {
		return fmt.Errorf("start program: %w", err)
	}
	defer pp.close()
	cmd := exec.Command(p.program.path)
	g := p.program.prepare(cmd, p.identity()...)
	// Files, not writers: so Wait waits for the program alone.
	cmd.Stdin, cmd.Stdout, cmd.Stderr = pp.childIn, pp.childOut, pp.childErr
	runtime.LockOSThread() // the program ends with it, see procattr
	defer runtime.UnlockOSThread()
	err = cmd.Start()
	pp.closeChild()
	if err != nil {
		return fmt.Errorf("start program: %w", err)
	}
	defer g.release()
	exited := make(chan error, 1)
	go func() { exited <- cmd.Wait() }()
	if err := g.adopt(); err != nil {
		g.kill()
		<-exited
		return fmt.Errorf("start program: %w", err)
	}
	p.starts.Add(1)
	p.log.Info("program started", "pid", cmd.Process.Pid)

	s := newSession(ctx, p)
	stderr := &tail{max: stderrKept}
	var outDone, rest sync.WaitGroup
	readDone := make(chan struct{})
	outDone.Go(func() { defer close(readDone); s.read(pp.out) })
	outDone.Go(func() { s.logStderr(io.TeeReader(pp.err, stderr)) })
	rest.Go(func() { s.write(pp.in) })
	p.session.Store(s)

	status, stopped := p.await(ctx, s, pp.in, g, exited, readDone)
	drained := make(chan struct{})
	go func() { outDone.Wait(); close(drained) }()
	if !within(drained, drainTime) {
		g.kill() // something that it left behind keeps the pipes open
		if !within(drained, drainTime) {
			closeAll(pp.out, pp.err)
			<-drained
		}
	}
	g.kill()
	reason := s.reason(status, stopped, stderr.String())
	s.end(reason)
	closeAll(pp.in)
	rest.Wait()
	s.calling.Wait()
	return errors.New(reason)
}

// await returns the result of the program's Wait. It sees to it that the program ends
// when ctx does or when it cannot be talked to any more, and says whether it had to.
func (p *process) await(ctx context.Context, s *session, stdin *os.File, g *group, exited chan error, readDone chan struct{}) (status error, stopped bool) {
	defer p.session.Store(nil)
	terminate, kill := drainTime, 2*drainTime
	select {
	case err := <-exited:
		return err, false
	case <-ctx.Done():
		_ = stdin.Close()
		terminate, kill = stdioTerm, stdioKill
	case <-readDone: // mostly because the program is about to end
	case <-s.broken: // and so is this
	}
	p.session.Store(nil)
	term := time.NewTimer(terminate)
	defer term.Stop()
	var end <-chan time.Time
	for {
		select {
		case err := <-exited:
			return err, stopped
		case <-term.C:
			stopped = true
			g.terminate()
			end = time.After(kill - terminate) // however late the first signal was
		case <-end:
			g.kill()
		}
	}
}

// identity tells the program which node runs it.
func (p *process) identity() []string {
	if p.cfg.Env.Status == nil {
		return nil
	}
	st := p.cfg.Env.Status()
	return []string{"MESH_WORKER=" + oneLine(st.Worker), "MESH_VARIANT=" + oneLine(st.Variant)}
}

func within(done <-chan struct{}, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-done:
		return true
	case <-t.C:
		return false
	}
}
