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

// Server runs the requests of all peers, each on a goroutine of its own, never more
// than a bound at once. It survives handlers that panic. All methods are safe for
// concurrent use.
type Server struct {
	limit  int64
	log    *slog.Logger
	flight atomic.Int64
	served atomic.Uint64

	mu      sync.Mutex
	running map[*Running]struct{}
	byKey   map[key]*Running // those with a uid
	idle    chan struct{}    // closed when nothing runs; nil while nobody waits
}

// key tells requests apart: a uid means something only to the peer that sent it.
type key struct {
	peer any
	uid  string
}

var errCanceled = &wire.Error{Code: wire.CodeCanceled, Message: "canceled by the caller"}

// NewServer runs at most limit requests at once.
func NewServer(limit int, log *slog.Logger) *Server {
	return &Server{limit: int64(limit), log: log, running: make(map[*Running]struct{}), byKey: make(map[key]*Running)}
}

// Incoming is a request of a peer.
type Incoming struct {
	From     any    // the peer, as Cancel is told of it
	UID      string // "": it cannot be canceled, and may come twice
	Command  string // for Each
	Peer     string // for Each
	Kind     string // for Each
	Bytes    int    // for Each
	Deadline time.Time
}

// Work answers one request. Its result is handed to the request's reply function.
type Work func(ctx context.Context) (json.RawMessage, error)

// Go runs work until the deadline at most, or until ctx ends, and then reply with its outcome,
// on a new goroutine. It does not block. A request that cannot be taken is refused by
// reply at once: overloaded over the bound, bad_request for a uid that the peer is using
// already. reply gets exactly one call.
func (s *Server) Go(ctx context.Context, in Incoming, work Work, reply func(json.RawMessage, *wire.Error)) {
	if s.flight.Add(1) > s.limit {
		s.leave()
		reply(nil, &wire.Error{Code: wire.CodeOverloaded, Message: fmt.Sprintf("%d requests are under way already", s.limit), Temporary: true, Hint: "send more slowly, or add variants"})
		return
	}
	r, failure := s.Register(ctx, in)
	if failure != nil {
		s.leave()
		reply(nil, failure)
		return
	}
	r.Run()
	go func() {
		defer s.leave()
		defer r.Release()
		result, failure := s.run(r.Context, work)
		r.phase.Store(PhaseResponding)
		if failure != nil && r.canceled.Load() {
			failure = errCanceled
		}
		s.served.Add(1)
		reply(result, failure)
	}()
}

// Run runs work like Go, but on the caller's goroutine and regardless of the bound.
func (s *Server) Run(ctx context.Context, work Work) (json.RawMessage, *wire.Error) {
	s.flight.Add(1)
	defer s.leave()
	defer s.served.Add(1)
	return s.run(ctx, work)
}

// Running is a request that can be canceled.
type Running struct {
	Context  context.Context // ends at the deadline, or when the request is canceled
	server   *Server
	in       Incoming
	started  time.Time
	phase    atomic.Value // Phase
	cancel   context.CancelFunc
	canceled atomic.Bool
}

// Register makes a context that Cancel ends for that peer and uid, until Release is
// called. It fails with bad_request when the peer is using the uid already. The request is
// in phase queued until Run is called.
func (s *Server) Register(ctx context.Context, in Incoming) (*Running, *wire.Error) {
	r := &Running{server: s, in: in, started: time.Now()}
	r.phase.Store(PhaseQueued)
	s.mu.Lock()
	defer s.mu.Unlock()
	if in.UID != "" {
		k := key{in.From, in.UID}
		if _, dup := s.byKey[k]; dup {
			return nil, &wire.Error{Code: wire.CodeBadRequest, Message: "a request with this uid is under way"}
		}
		s.byKey[k] = r
	}
	s.running[r] = struct{}{}
	r.Context, r.cancel = context.WithDeadline(ctx, in.Deadline)
	return r, nil
}

// Run says that the request's handler runs now.
func (r *Running) Run() { r.phase.Store(PhaseRunning) }

// Release ends the request.
func (r *Running) Release() {
	r.server.mu.Lock()
	delete(r.server.running, r)
	if r.in.UID != "" {
		delete(r.server.byKey, key{r.in.From, r.in.UID})
	}
	r.server.mu.Unlock()
	r.cancel()
}

// Each tells of the requests under way, in no order, until yield returns false. Those
// that come or end meanwhile may be among them or not. yield may call any method. Of
// queued requests it knows those whose caller waits for the result.
func (s *Server) Each(yield func(InFlight) bool) {
	s.mu.Lock()
	all := make([]InFlight, 0, len(s.running))
	for r := range s.running {
		all = append(all, InFlight{
			UID: r.in.UID, Command: r.in.Command, Peer: r.in.Peer, Kind: r.in.Kind, Phase: r.phase.Load().(Phase),
			Started: r.started, Deadline: r.in.Deadline, Bytes: r.in.Bytes,
		})
	}
	s.mu.Unlock()
	for _, f := range all {
		if !yield(f) {
			return
		}
	}
}

func (s *Server) run(ctx context.Context, work Work) (result json.RawMessage, failure *wire.Error) {
	defer func() {
		if p := recover(); p != nil {
			s.log.Error("a handler panicked", "panic", fmt.Sprint(p), "stack", string(debug.Stack()))
			result, failure = nil, &wire.Error{Code: wire.CodeHandlerError, Message: "the handler panicked", Hint: "the log of the node has the stack"}
		}
	}()
	result, err := work(ctx)
	if err != nil {
		return nil, AsError(err)
	}
	return result, nil
}

// Cancel ends the context of a request of that peer, if it is still under way.
func (s *Server) Cancel(peer any, uid string) {
	s.mu.Lock()
	r := s.byKey[key{peer, uid}]
	s.mu.Unlock()
	if r != nil {
		r.canceled.Store(true)
		r.cancel()
	}
}

// InFlight is the number of requests under way.
func (s *Server) InFlight() int64 { return s.flight.Load() }

// Served is the number of requests that ran to an end, well or not.
func (s *Server) Served() uint64 { return s.served.Load() }

// Idle blocks until nothing is under way, or until ctx ends.
func (s *Server) Idle(ctx context.Context) error {
	for {
		s.mu.Lock()
		if s.flight.Load() == 0 {
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
	if s.flight.Add(-1) > 0 {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.idle != nil {
		close(s.idle)
		s.idle = nil
	}
}
