package rpc

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"github.com/meshctl/meshctl/internal/mesh/wire"
)

// Server runs the requests of all peers, never more than a bound at once, on goroutines
// that it uses again. It survives handlers that panic. All methods are safe for
// concurrent use.
type Server struct {
	ctx    context.Context
	limit  int64
	log    *slog.Logger
	flight atomic.Int64
	served atomic.Uint64
	pool   pool

	mu      sync.Mutex
	over    bool // ctx has ended
	sources map[*Source]struct{}
	idle    chan struct{} // closed when nothing runs; nil while nobody waits
}

// NewServer runs at most limit requests at once, until ctx ends: then the contexts of all
// requests do, and its goroutines once these have ended.
func NewServer(ctx context.Context, limit int, log *slog.Logger) *Server {
	s := &Server{ctx: ctx, limit: int64(limit), log: log, sources: make(map[*Source]struct{})}
	s.pool.server = s
	context.AfterFunc(ctx, s.shut)
	return s
}

// shut ends everything that runs.
func (s *Server) shut() {
	s.mu.Lock()
	s.over = true
	for src := range s.sources {
		src.endAll()
	}
	s.mu.Unlock()
	s.pool.shut()
}

// Job is a request to be answered.
type Job interface {
	// Handle answers it. ctx ends at its deadline, when it is canceled, or with the
	// server; it carries no values.
	Handle(ctx context.Context) (json.RawMessage, error)
	// Reply is told what came of it, once.
	Reply(result json.RawMessage, failure *wire.Error)
}

// Incoming is a request of a peer.
type Incoming struct {
	From     *Source
	UID      string // "" and Number 0: it cannot be canceled, and may come twice
	Number   uint64 // what it is known by, where it has one
	Command  string // for Oldest
	Kind     string // for Oldest
	Bytes    int    // for Oldest
	Started  time.Time
	Deadline time.Time
}

var errCanceled = &wire.Error{Code: wire.CodeCanceled, Message: "canceled: the caller gave up, or its link ended"}

// Go has job answered on a goroutine of its own. It does not block. A request that
// cannot be taken is refused by Reply at once: overloaded over the bound, bad_request for
// a uid or number that the source is using already. r, which is zero and of job, is the
// context of Handle.
func (s *Server) Go(r *Running, in Incoming, job Job) {
	if !s.enter(job) {
		return
	}
	r.phase.Store(int32(running))
	if failure := r.register(in); failure != nil {
		s.leave()
		job.Reply(nil, failure)
		return
	}
	r.job = job
	s.pool.run(r)
}

// Inline answers job on the caller's goroutine, for handlers that do not block. It refuses
// what is over the bound.
func (s *Server) Inline(r *Running, in Incoming, job Job) {
	if !s.enter(job) {
		return
	}
	r.in, r.job = in, job
	r.phase.Store(int32(running))
	s.execute(r)
}

func (s *Server) enter(job Job) bool {
	if s.flight.Add(1) <= s.limit {
		return true
	}
	s.leave()
	job.Reply(nil, &wire.Error{Code: wire.CodeOverloaded, Message: fmt.Sprintf("%d requests are under way already", s.limit), Temporary: true, Hint: "send more slowly, or add variants"})
	return false
}

// execute answers a request that has entered.
func (s *Server) execute(r *Running) {
	defer s.leave()
	defer r.Release()
	result, failure := s.protect(func() (json.RawMessage, error) { return r.job.Handle(r) })
	r.phase.Store(int32(responding))
	if failure != nil && r.canceled.Load() {
		failure = errCanceled
	}
	s.served.Add(1)
	r.job.Reply(result, failure)
}

// Work answers one request.
type Work func(ctx context.Context) (json.RawMessage, error)

// Run runs work on the caller's goroutine and regardless of the bound.
func (s *Server) Run(ctx context.Context, work Work) (json.RawMessage, *wire.Error) {
	s.flight.Add(1)
	defer s.leave()
	defer s.served.Add(1)
	return s.protect(func() (json.RawMessage, error) { return work(ctx) })
}

func (s *Server) protect(work func() (json.RawMessage, error)) (result json.RawMessage, failure *wire.Error) {
	defer func() {
		if p := recover(); p != nil {
			s.log.Error("a handler panicked", "panic", fmt.Sprint(p), "stack", string(debug.Stack()))
			result, failure = nil, &wire.Error{Code: wire.CodeHandlerError, Message: "the handler panicked", Hint: "the log of the node has the stack"}
		}
	}()
	result, err := work()
	if err != nil {
		return nil, AsError(err)
	}
	return result, nil
}

// InFlight is the number of requests under way.
func (s *Server) InFlight() int64 { return s.flight.Load() }

// Served is the number of requests that ran to an end, well or not.
func (s *Server) Served() uint64 { return s.served.Load() }

// Oldest offers the requests under way to o. It does not know of those that are answered
// inline, and of queued ones only those whose caller waits for the result.
func (s *Server) Oldest(o *Oldest) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for src := range s.sources {
		src.oldest(o)
	}
}

// Idle blocks until nothing is under way, and no goroutine is left if the server's context
// has ended; or until ctx ends.
func (s *Server) Idle(ctx context.Context) error {
	for {
		s.mu.Lock()
		if s.flight.Load() == 0 && !(s.over && s.pool.live.Load() > 0) {
			s.mu.Unlock()
			return nil
		}
		if s.idle == nil {
			s.idle = make(chan struct{})
		}
		idle := s.idle
		s.mu.Unlock()
		select {
		case <-idle:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (s *Server) leave() {
	if s.flight.Add(-1) == 0 {
		s.wakeIdle()
	}
}

func (s *Server) wakeIdle() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.idle != nil {
		close(s.idle)
		s.idle = nil
	}
}
