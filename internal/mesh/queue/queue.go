// Package queue keeps queued commands until they were worked on. A Store has the queues
// of one node: Memory in this process, Embedded in a file of the node's data directory,
// Redis in Redis Streams. All pass the same tests (package queuetest).
package queue

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/meshctl/meshctl/internal/mesh/wire"
)

var (
	// ErrFull says that the queue is at its bound. The item was not taken.
	ErrFull = errors.New("queue full")
	// ErrClosed says that the queue takes no more items: Run has ended, or SetClosed
	// has closed it. The item was not taken.
	ErrClosed = errors.New("queue closed")
	// ErrPurged says that an operator removed the item before its turn came. It is a *wire.Error.
	ErrPurged error = &wire.Error{Code: wire.CodeCanceled, Message: "the request was removed from its queue (meshctl queue purge) before its turn came"}
	// ErrUnavailable says that the store cannot be used at present. The item was
	// not accepted.
	ErrUnavailable = errors.New("queue store unavailable")
	// ErrUncertain says, beside ErrUnavailable, that the store was lost in that moment: the item may be there all
	// the same.
	ErrUncertain = errors.New("it did not say whether it stored the request")
	// ErrExpired is why an item was dropped whose deadline had passed.
	ErrExpired = errors.New("deadline passed in the queue")
	// ErrLocked says that another process uses the data directory.
	ErrLocked = errors.New("data directory in use")
)

// DuplicateError says that an item was dropped because the queue has accepted one with
// the same key within the window. That one is stored.
type DuplicateError struct {
	ID   string // of the item that was accepted
	Over bool   // it is not in the queue any more
}

func (e *DuplicateError) Error() string { return "an item with this key was accepted before" }

// PanicError is why an item failed whose work panicked.
type PanicError struct {
	Value any
	Stack []byte
}

func (e *PanicError) Error() string { return fmt.Sprintf("work panicked: %v", e.Value) }

// Item is one queued request. Payload is shared, not copied: nobody may change it.
type Item struct {
	ID      string `json:"id"`            // names the item; unique
	UID     string `json:"uid,omitempty"` // of the request
	Key     string `json:"key,omitempty"` // drops duplicates within the window; "": never a duplicate
	Command string `json:"command"`
	Caller  string `json:"caller"` // "worker/variant"
	// Once says that a failure is final: no further try and no dead letter, because
	// whoever sent it waits for the outcome and decides.
	Once bool `json:"once,omitempty"`
	// Reply says that somebody waits for the outcome at the store that Add was called
	// on, which tells it to Options.Settled.
	Reply bool `json:"reply,omitempty"`

	Payload  json.RawMessage `json:"-"`
	Enqueued time.Time       `json:"enqueued"`
	// Deadline is when the item is not wanted any more; zero: never. It is by the clock of Enqueued;
	// for work it is by the clock of who works.
	Deadline time.Time `json:"deadline,omitzero"`

	// Origin is the store that Add was called on, where outcomes have to find back to it. Set by
	// stores.
	Origin string `json:"origin,omitempty"`

	// Attempt counts the tries, 1 at the first. Set for work.
	Attempt int `json:"-"`
	// Redelivered says that an earlier try has not come to an end that is known: it may
	// have been worked on already. Set for work.
	Redelivered bool `json:"-"`
}

// Work does what an item asks for. With nil the item is done. After an error or a
// panic it is tried again, see Options.Retries; after one that ctx's end caused, when
// the queue runs the next time.
type Work func(ctx context.Context, item Item) (json.RawMessage, error)

// The defaults of Options.
const (
	DefaultMaxDepth = 1000
	DefaultMaxBytes = 64 << 20
	DefaultWindow   = 10 * time.Minute
	// DefaultRetries is how often a failed item is tried again where nobody says.
	DefaultRetries = 5
)

// Options configure one queue. Zero values mean the defaults, but for Retries.
type Options struct {
	Command  string // for Stats
	MaxDepth int    // items that may wait
	MaxBytes int    // bytes that the payloads of waiting items may have together; Embedded: 1 GiB; Redis has no such bound
	Workers  int    // items worked on at once here; default 1: one after another
	Retries  int    // tries after the first; then the item is a dead letter
	// Shared says that other processes may work the same queue (Redis only).
	Shared bool
	// Backoff is the pause after the given failed try (1 is the first); default Backoff.
	Backoff func(attempt int) time.Duration
	Window  time.Duration // how long keys are remembered
	// Settled learns the outcome of each item with Reply that Add of this store has taken:
	// the result, or why there is none. It must not block.
	Settled func(id string, result json.RawMessage, err error)
	Logger  *slog.Logger // nil: nothing is logged
}

func (o *Options) setDefaults() {
	if o.MaxDepth <= 0 {
		o.MaxDepth = DefaultMaxDepth
	}
	if o.MaxBytes <= 0 {
		o.MaxBytes = DefaultMaxBytes
	}
	if o.Workers <= 0 {
		o.Workers = 1
	}
	if o.Window <= 0 {
		o.Window = DefaultWindow
	}
	if o.Backoff == nil {
		o.Backoff = Backoff
	}
	if o.Settled == nil {
		o.Settled = func(string, json.RawMessage, error) {}
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
}

// Store has the queues of one node. It is safe for concurrent use.
type Store interface {
	// Queue opens the queue of that name, with what it had when the store was closed.
	// Each name may be opened once.
	Queue(name string, o Options) (Queue, error)
	// Err is why nothing is accepted at present, wrapping ErrUnavailable; nil when
	// the store works. It does not block.
	Err() error
	// Durable says that items outlive the process.
	Durable() bool
	// Close releases the store. All Runs must have returned; no Queue may be used after it.
	Close() error
}

// Queue holds items until they were worked on, each at least once. It is safe for
// concurrent use. The methods with a context are for people: they may be slow.
type Queue interface {
	// Add gives item its place in the order and returns without waiting. stored is called
	// once, perhaps before Add returns, and must not block: with nil when the item
	// is as safe as this store makes it, else with why it was not accepted: ErrFull, ErrClosed,
	// ErrUnavailable, perhaps with ErrUncertain, or a *DuplicateError, all perhaps wrapped.
	Add(item Item, stored func(error))

	// Run gives items to work in the order of Add, Options.Workers at once, until ctx ends.
	// Then the context of the running work ends too, and Run returns nil once it
	// has returned. Run may be called once. A panic of work does not end it. Where
	// other processes work the same queue, each item is given to one at a time.
	//
	// An item that failed waits for its next try beside the queue; those behind it go on.
	// The context of work ends at the item's deadline as well. An item whose deadline
	// has passed is never given to work.
	Run(ctx context.Context, work Work) error

	// Halt gives no more items to work. What is being worked on goes on.
	Halt()

	// SetClosed makes Add fail with ErrClosed, or ends that: in Redis for all who use the queue
	// and until somebody ends it, else for as long as the store is open.
	SetClosed(ctx context.Context, closed bool) error

	// Withdraw removes an item that waits. It reports whether that was so.
	Withdraw(ctx context.Context, id string) bool

	// Stats tells what the queue has and has done. It does not block on a store.
	Stats() Stats

	// Peek gives the first items that wait or are being worked on, limit at most.
	Peek(ctx context.Context, limit int) ([]Entry, error)
	// Dead gives the oldest dead letters, limit at most.
	Dead(ctx context.Context, limit int) ([]Entry, error)
	// Revive puts dead letters back into the queue; without ids all of them. Ids that are no
	// dead letters are passed over. It gives their number.
	Revive(ctx context.Context, ids ...string) (int, error)
	// Bury removes dead letters for good, otherwise like Revive.
	Bury(ctx context.Context, ids ...string) (int, error)
	// Purge removes all items that wait. It gives their number. Those who wait for their outcome
	// are told ErrPurged.
	Purge(ctx context.Context) (int, error)
}

// The states of an Entry.
const (
	StateWaiting = "waiting"
	StateDelayed = "delayed" // for its next try
	StateRunning = "running"
	StateDead    = "dead"
)

// Entry is an item as people see it.
type Entry struct {
	Item
	State string
	Error string    // of the last try that failed
	Due   time.Time // of the next try, when delayed
	Died  time.Time // when dead
}

// runOnce keeps Run from being called again.
type runOnce struct{ begun atomic.Bool }

func (r *runOnce) begin() error {
	if r.begun.Swap(true) {
		return errors.New("run queue: it was run before")
	}
	return nil
}
