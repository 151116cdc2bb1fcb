package handler

import (
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"time"

	"github.com/meshctl/meshctl/internal/mesh/schema"
)

// Defaults of schema.Method, by kind.
const (
	// DefaultMaxOutput is how many bytes a result may have.
	DefaultMaxOutput = 1 << 20

	defaultBuiltinConcurrency = 1024
	defaultStdioConcurrency   = 64
	defaultHTTPConcurrency    = 256
	minExecConcurrency        = 4
)

// Config is what handlers need beside their schema.Method.
type Config struct {
	Env Env
	// SchemaDir is what relative working directories and programs are relative to;
	// empty: the directory of this process.
	SchemaDir string
	// Logger gets what programs write to stderr and how they end; nil: nothing is logged.
	Logger *slog.Logger
	// DefaultConcurrency replaces the default of each kind where the method sets none.
	DefaultConcurrency int
}

// New makes the handler of one command. It checks everything that can be checked
// without running anything: a program that does not exist is an error here.
//
// What it returns holds back requests over the method's concurrency, in order and
// on the caller's time; when too many wait, it fails with overloaded. A handler
// of a stdio method is a Runner and answers only while Run runs. A handler of an
// HTTP method is an io.Closer that gives up idle connections. Use NewSet to
// build all handlers of a worker.
func New(cmd *schema.Command, cfg Config) (Handler, error) {
	h, p, err := build(cmd, cfg, newProcess)
	if err != nil {
		return nil, err
	}
	if p != nil {
		return runner{Handler: h, process: p}, nil
	}
	return h, nil
}

// runner is the handler of a stdio program that serves one command only.
type runner struct {
	Handler
	*process
}

// build makes a bounded handler; obtain gives the process of a stdio method, which
// is returned too.
func build(cmd *schema.Command, cfg Config, obtain func(program, Config) *process) (Handler, *process, error) {
	m := cmd.Method
	if m == nil {
		return nil, nil, fmt.Errorf("command %q has no method", cmd.Name)
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	h, p, concurrency, err := buildMethod(m, cfg, obtain)
	if err != nil {
		return nil, nil, fmt.Errorf("command %q: %w", cmd.Name, err)
	}
	if _, ok := h.(Inliner); ok && m.Concurrency == 0 {
		return h, nil, nil // it is there and gone: nothing is to be bounded
	}
	b := limit(h, concurrency, m.Timeout)
	if c, ok := h.(*httpHandler); ok {
		return closer{bounded: b, http: c}, nil, nil
	}
	return b, p, nil
}

func buildMethod(m *schema.Method, cfg Config, obtain func(program, Config) *process) (Handler, *process, int, error) {
	if err := checkMethod(m); err != nil {
		return nil, nil, 0, err
	}
	switch {
	case m.Builtin != "":
		h, err := newBuiltin(m.Builtin, cfg.Env)
		return h, nil, concurrency(m, cfg, defaultBuiltinConcurrency), err
	case len(m.Exec) > 0:
		prog, err := newProgram(m.Exec, m, cfg.SchemaDir)
		if err != nil {
			return nil, nil, 0, fmt.Errorf("exec: %w", err)
		}
		h := &execHandler{program: prog, maxOutput: maxOutput(m)}
		return h, nil, concurrency(m, cfg, max(minExecConcurrency, 2*runtime.NumCPU())), nil
	case len(m.Stdio) > 0:
		prog, err := newProgram(m.Stdio, m, cfg.SchemaDir)
		if err != nil {
			return nil, nil, 0, fmt.Errorf("stdio: %w", err)
		}
		p := obtain(prog, cfg)
		p.allow(maxOutput(m))
		h := &stdioHandler{process: p, maxOutput: maxOutput(m)}
		return h, p, concurrency(m, cfg, defaultStdioConcurrency), nil
	default:
		n := concurrency(m, cfg, defaultHTTPConcurrency)
		h, err := newHTTP(m.HTTP, n, maxOutput(m))
		return h, nil, n, err
	}
}

func checkMethod(m *schema.Method) error {
	n := 0
	for _, set := range []bool{m.Builtin != "", len(m.Exec) > 0, len(m.Stdio) > 0, m.HTTP != ""} {
		if set {
			n++
		}
	}
	switch {
	case n != 1:
		return errors.New("method needs exactly one of builtin, exec, stdio and http")
	case m.Concurrency < 0 || m.Timeout < 0 || m.MaxOutput < 0:
		return errors.New("concurrency, timeout and maximum output must not be negative")
	}
	return nil
}

func concurrency(m *schema.Method, cfg Config, fallback int) int {
	if m.Concurrency > 0 {
		return m.Concurrency
	}
	if cfg.DefaultConcurrency > 0 {
		return cfg.DefaultConcurrency
	}
	return fallback
}

func maxOutput(m *schema.Method) int {
	if m.MaxOutput > 0 {
		return m.MaxOutput
	}
	return DefaultMaxOutput
}

// Times of the programs' ends.
const (
	killGrace    = 200 * time.Millisecond // from SIGTERM to SIGKILL of an exec program
	stdioTerm    = time.Second            // from the end of stdin to SIGTERM
	stdioKill    = 2 * time.Second        // from the end of stdin to SIGKILL
	stderrKept   = 4 << 10                // bytes of stderr that an error quotes
	messageLimit = 8 << 10                // bytes of an error message
)
