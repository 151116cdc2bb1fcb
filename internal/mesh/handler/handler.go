// Package handler is what answers a command: a built-in, a program run for each
// request (exec), a program that stays and speaks JSON-RPC (stdio), or an HTTP
// service. The node decides whether a request may run; a Handler only runs it.
package handler

import (
	"context"
	"encoding/json"
	"time"
)

// Request is one command to be answered.
type Request struct {
	UID     string // empty when the caller waits for no response
	Worker  string // who answers: the node's own worker …
	Variant string // … and variant
	Command string
	Caller  string          // "worker/variant" of the peer that asks
	Payload json.RawMessage // valid JSON, "null" when there was none
	// Deadline is when the caller stops waiting. It is never zero; the context ends then.
	Deadline time.Time

	// Of a queued command: the number of this try, from 1, and whether an earlier one was
	// begun whose end nobody knows. 0 and false of others.
	Attempt     int
	Redelivered bool
}

// Handler answers requests of one command. It is safe for concurrent use.
//
// Handle returns valid JSON, or an error: a *wire.Error keeps its code, any other
// error becomes handler_error. It returns soon after ctx ends. A panic is
// recovered by the caller and becomes handler_error.
type Handler interface {
	Handle(ctx context.Context, r *Request) (json.RawMessage, error)
}

// Inliner is a Handler that may be answered on the goroutine that reads from the network,
// which costs least: it says so if it never waits for anything and takes no more than some
// microseconds, and keeps neither ctx nor r, which are used again. Others are run on
// goroutines of their own.
type Inliner interface {
	Handler
	Inline() bool
}

// Quick makes an Inliner of a function that never waits.
type Quick func(ctx context.Context, r *Request) (json.RawMessage, error)

// Handle calls f.
func (f Quick) Handle(ctx context.Context, r *Request) (json.RawMessage, error) { return f(ctx, r) }

// Inline implements Inliner.
func (f Quick) Inline() bool { return true }

// Func makes a Handler of a function.
type Func func(ctx context.Context, r *Request) (json.RawMessage, error)

// Handle calls f.
func (f Func) Handle(ctx context.Context, r *Request) (json.RawMessage, error) { return f(ctx, r) }

// Runner is a Handler with a life of its own, as a program that stays up has.
type Runner interface {
	Handler
	// Run serves until ctx ends, then stops what it started and returns nil.
	// Before Run, while the program is down and after Run, Handle fails at once
	// with overloaded, temporary. Run may be called once.
	Run(ctx context.Context) error
}

// Caller lets a handler send requests into the mesh.
type Caller interface {
	// CallJSON calls "worker.command" and returns the result as JSON: RESULT for a
	// balanced command, an array of {worker, variant, result|error} for a broadcast.
	CallJSON(ctx context.Context, target string, payload json.RawMessage) (json.RawMessage, error)
}

// Status is what the built-in status handler reports about its node.
type Status struct {
	Worker   string `json:"worker"`
	Variant  string `json:"variant"`
	Version  string `json:"version"`
	Host     string `json:"host"`
	PID      int    `json:"pid"`
	UptimeMS int64  `json:"uptime_ms"`
	Served   uint64 `json:"served"`
	InFlight int64  `json:"in_flight"`
}

// Env is what handlers may need of the node that runs them.
type Env struct {
	Status func() Status
	Caller Caller
}
