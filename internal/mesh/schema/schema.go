// Package schema says who may talk to whom and what commands each worker answers.
// It loads, validates and explains; it does no network I/O.
package schema

import (
	"slices"
	"strings"
	"time"
)

// Schema is a validated schema. It is immutable and safe for concurrent use.
type Schema struct {
	Workers map[string]*Worker
	// TokensRequired says that nobody is a worker, or an operator, without a valid
	// token ("_tokens: required").
	TokensRequired bool

	file string              // as given to Parse; "" when it came from a peer
	pos  map[string]position // see rulePath and its like; may be nil
}

// Worker is one kind of node.
type Worker struct {
	Name     string
	Allow    Set // who may connect to it
	Connect  Set // whom it connects to
	Commands map[string]*Command
}

// Set is a list of workers, or everybody ("anyNode").
type Set struct {
	Any     bool
	Workers []string // sorted
}

// Has tells whether worker is in the set.
func (s Set) Has(worker string) bool {
	if s.Any {
		return true
	}
	return slices.Contains(s.Workers, worker)
}

// String is "anyNode", the names, or "nobody".
func (s Set) String() string {
	switch {
	case s.Any:
		return AnyNode
	case len(s.Workers) == 0:
		return "nobody"
	}
	return strings.Join(s.Workers, ", ")
}

// Delivery is how a command reaches the variants of its worker.
type Delivery string

// The deliveries.
const (
	Balanced  Delivery = "balanced"  // one variant, in turn
	Broadcast Delivery = "broadcast" // all of them
)

// Command is what a worker answers to.
type Command struct {
	Name     string
	Delivery Delivery
	Responds bool // default: true for balanced, false for broadcast
	Queued   bool
	Callers  *Set // who of those that may call the worker may call this; nil: all of them
	// Sensitive are the members of payloads, at any depth and in whatever case, that nobody
	// who watches the mesh is shown.
	Sensitive []string
	Method    *Method // nil where the schema does not say what answers it

	// How it is called.
	Idempotent  bool    // running it twice does no more than running it once
	Retry       *Retry  // nil: a request is sent once; of balanced ones
	Balance     Balance // of balanced ones
	MaxInFlight int     // requests that one node answers at once, by its own schema; 0: no bound of its own

	// Of a queued command; they concern its node only and do not travel.
	Concurrency int  // worked on at once by one node; 0: one after another, or Method.Concurrency
	MaxDepth    int  // how many may wait; 0: the node's default
	Retries     *int // tries after the first; nil: the default
}

// Method is what answers a command; exactly one of Builtin, Exec, Stdio and HTTP is set.
type Method struct {
	Builtin string   // "status", "echo", "sleep" or "fail"
	Exec    []string // program and arguments, started for each request
	Stdio   []string // program and arguments, started once
	HTTP    string   // URL to POST to

	Concurrency int           // at most so many at once; 0: the default
	Timeout     time.Duration // at most so long, whatever the caller's deadline; 0: the caller's
	Dir         string        // working directory of exec and stdio, as written; if relative, to the schema file's folder
	Env         []string      // names of environment variables passed through to exec and stdio
	MaxOutput   int           // bytes; 0: the default
}
