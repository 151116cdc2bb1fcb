package rpc

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/meshctl/meshctl/internal/mesh/wire"
)

// Running is a request under way. It is the context of its handler, made to cost nothing
// to those that never ask for its end: no timer of its own, no channel before Done is
// called. It carries no values. The zero value is for Server.Go.
type Running struct {
	in       Incoming
	job      Job
	phase    atomic.Int32
	canceled atomic.Bool // by the peer, or with its link
	ended    atomic.Int32

	// Guarded by in.From.mu.
	listed     bool
	prev, next *Running
	done       chan struct{}
	after      []*afterEnd
}

var _ context.Context = (*Running)(nil)

// The phases as numbers.
const (
	queued int32 = iota
	running
	responding
)

// Why a Running has ended.
const (
	notEnded int32 = iota
	byDeadline
	byCancel
)

// afterEnd is what AfterFunc was given.
type afterEnd struct{ f func() }

// Deadline implements context.Context.
func (r *Running) Deadline() (time.Time, bool) { return r.in.Deadline, true }

// Value implements context.Context: there are none.
func (r *Running) Value(any) any { return nil }

// Err implements context.Context.
func (r *Running) Err() error {
	switch r.ended.Load() {
	case byDeadline:
		return context.DeadlineExceeded
	case byCancel:
		return context.Canceled
	}
	return nil
}

// Done implements context.Context.
func (r *Running) Done() <-chan struct{} {
	src := r.in.From
	src.mu.Lock()
	defer src.mu.Unlock()
	if r.done == nil {
		r.done = make(chan struct{})
		if r.ended.Load() != notEnded {
			close(r.done)
		} else {
			src.list(r)
		}
	}
	return r.done
}

// AfterFunc is what package context looks for, so that contexts made of this one need no
// goroutine: f runs on its own once r has ended, unless stop is called before.
func (r *Running) AfterFunc(f func()) (stop func() bool) {
	src := r.in.From
	src.mu.Lock()
	defer src.mu.Unlock()
	if r.ended.Load() != notEnded {
		go f()
		return func() bool { return false }
	}
	src.list(r)
	a := &afterEnd{f}
	r.after = append(r.after, a)
	return func() bool {
		src.mu.Lock()
		defer src.mu.Unlock()
		for i, x := range r.after {
			if x == a {
				r.after = append(r.after[:i], r.after[i+1:]...)
				return true
			}
		}
		return false
	}
}

// cancel ends the request for whoever asked for it. in.From.mu is held.
func (r *Running) cancel() {
	r.canceled.Store(true)
	r.end(byCancel)
}

// end ends the context. in.From.mu is held.
func (r *Running) end(why int32) {
	if !r.ended.CompareAndSwap(notEnded, why) {
		return
	}
	if r.done != nil {
		close(r.done)
	}
	for _, a := range r.after {
		go a.f()
	}
	r.after = nil
}

// Register makes a request that can be canceled and is told of by Oldest, in phase queued
// until Run is called, and until Release is. It fails with bad_request when the source is
// using its uid or number already.
func (s *Server) Register(in Incoming) (*Running, *wire.Error) {
	r := new(Running)
	if failure := r.register(in); failure != nil {
		return nil, failure
	}
	return r, nil
}

func (r *Running) register(in Incoming) *wire.Error {
	r.in = in
	src := in.From
	src.mu.Lock()
	defer src.mu.Unlock()
	if !src.claim(r) {
		return &wire.Error{Code: wire.CodeBadRequest, Message: "a request with this uid is under way"}
	}
	src.list(r)
	return nil
}

// Run says that the request's handler runs now.
func (r *Running) Run() { r.phase.Store(running) }

// Release ends the request, and its context.
func (r *Running) Release() {
	src := r.in.From
	src.mu.Lock()
	r.end(byCancel)
	gone := src.unlist(r)
	src.mu.Unlock()
	if gone {
		src.server.drop(src)
	}
}

func (r *Running) inFlight() InFlight {
	return InFlight{
		UID: r.in.UID, Command: r.in.Command, Peer: r.in.From.peer, Kind: r.in.Kind,
		Phase:   [...]Phase{queued: PhaseQueued, running: PhaseRunning, responding: PhaseResponding}[r.phase.Load()],
		Started: r.in.Started, Deadline: r.in.Deadline, Bytes: r.in.Bytes,
	}
}
