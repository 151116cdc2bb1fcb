package handler

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"

	"golang.org/x/sync/errgroup"

	"github.com/meshctl/meshctl/internal/mesh/schema"
)

// Set is the handlers of all commands of a worker.
type Set struct {
	handlers  map[string]Handler
	processes []*process // in the order of their first commands
}

// NewSet makes the handlers of those commands of worker that have a method. Commands
// whose stdio programs are the same (program, arguments, directory and environment)
// share one process. All errors are reported, not only the first.
func NewSet(worker *schema.Worker, cfg Config) (*Set, error) {
	s := &Set{handlers: make(map[string]Handler, len(worker.Commands))}
	shared := make(map[string]*process)
	obtain := func(prog program, cfg Config) *process {
		p := shared[prog.key()]
		if p == nil {
			p = newProcess(prog, cfg)
			shared[prog.key()] = p
			s.processes = append(s.processes, p)
		}
		return p
	}
	var errs []error
	for _, name := range slices.Sorted(maps.Keys(worker.Commands)) {
		cmd := worker.Commands[name]
		if cmd.Method == nil {
			continue
		}
		h, _, err := build(cmd, cfg, obtain)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		s.handlers[name] = h
	}
	if len(errs) > 0 {
		return nil, fmt.Errorf("worker %q: %w", worker.Name, errors.Join(errs...))
	}
	return s, nil
}

// Handler is what answers command, if its method is known.
func (s *Set) Handler(command string) (Handler, bool) {
	h, ok := s.handlers[command]
	return h, ok
}

// Run keeps the worker's programs running until ctx ends, and returns when they are
// gone and idle connections are closed. It may be called once.
func (s *Set) Run(ctx context.Context) error {
	defer func() {
		for _, h := range s.handlers {
			if c, ok := h.(io.Closer); ok {
				_ = c.Close()
			}
		}
	}()
	g, ctx := errgroup.WithContext(ctx)
	for _, p := range s.processes {
		g.Go(func() error { return p.Run(ctx) })
	}
	g.Go(func() error { <-ctx.Done(); return nil })
	return g.Wait()
}

// ProgramStatus is how a stdio program of a Set is doing.
type ProgramStatus struct {
	Program string // as in the schema, without arguments
	Up      bool
	Starts  uint64
	// Malformed and Stray count lines that were no messages, and responses that
	// nobody waited for: unknown, repeated, or too late.
	Malformed, Stray uint64
}

// Programs describes the stdio programs. It is safe for concurrent use.
func (s *Set) Programs() []ProgramStatus {
	out := make([]ProgramStatus, 0, len(s.processes))
	for _, p := range s.processes {
		out = append(out, p.status())
	}
	return out
}

func (p *process) status() ProgramStatus {
	return ProgramStatus{
		Program:   p.program.argv[0],
		Up:        p.session.Load() != nil,
		Starts:    p.starts.Load(),
		Malformed: p.malformed.Load(),
		Stray:     p.stray.Load(),
	}
}
