package handler

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"os/exec"
	"runtime"
	"strconv"
	"time"
)

// EnvDeadline is the variable that tells a program when its request ends, as RFC 3339 in UTC.
const EnvDeadline = "MESH_DEADLINE"

// errOutput is the cause of a context that ended because a program wrote too much.
var errOutput = errors.New("output exceeds its limit")

// execHandler starts a program for each request: payload on stdin, result from stdout.
type execHandler struct {
	program   program
	maxOutput int
}

// Handle runs the program and returns when it has ended and its process group is
// gone. When ctx ends the group gets SIGTERM, and killGrace later SIGKILL.
func (h *execHandler) Handle(ctx context.Context, r *Request) (json.RawMessage, error) {
	runCtx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)

	out := &capped{max: h.maxOutput, over: func() { cancel(errOutput) }}
	stderr := &tail{max: stderrKept}
	cmd := exec.CommandContext(runCtx, h.program.path)
	g := h.program.prepare(cmd, requestEnv(r)...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(r.Payload), out, stderr
	cmd.Cancel = func() error { g.terminate(); return nil }
	// Also when a grandchild keeps the pipes open, Wait returns this much after the end.
	cmd.WaitDelay = killGrace

	runtime.LockOSThread() // the program ends with it, see procattr
	defer runtime.UnlockOSThread()
	if err := cmd.Start(); err != nil {
		if ctx.Err() != nil {
			return nil, notRun(ctx)
		}
		e := failed("start program: %v", err)
		e.Temporary = true
		return nil, e
	}
	defer g.release()
	adopted := g.adopt()
	if adopted != nil {
		cancel(adopted)
	}
	err := cmd.Wait()
	g.kill()

	switch {
	case adopted != nil:
		return nil, failed("start program: %v", adopted)
	case errors.Is(context.Cause(runCtx), errOutput):
		return nil, tooLarge(h.maxOutput)
	case err == nil, errors.Is(err, exec.ErrWaitDelay):
		return resultOf(out.buf.Bytes()), nil
	case ctx.Err() != nil:
		return nil, contextError(ctx)
	}
	if text := stderr.String(); text != "" {
		return nil, failed("%v: %s", err, text)
	}
	return nil, failed("%v", err) // "exit status 3", "signal: killed"
}

// requestEnv tells a program about the request that it runs for.
func requestEnv(r *Request) []string {
	env := []string{
		"MESH_WORKER=" + oneLine(r.Worker),
		"MESH_VARIANT=" + oneLine(r.Variant),
		"MESH_COMMAND=" + oneLine(r.Command),
		"MESH_CALLER=" + oneLine(r.Caller),
		"MESH_UID=" + oneLine(r.UID),
	}
	if !r.Deadline.IsZero() {
		env = append(env, EnvDeadline+"="+r.Deadline.UTC().Format(time.RFC3339Nano))
	}
	if r.Attempt > 0 {
		env = append(env, "MESH_ATTEMPT="+strconv.Itoa(r.Attempt), "MESH_REDELIVERED="+strconv.FormatBool(r.Redelivered))
	}
	return env
}
