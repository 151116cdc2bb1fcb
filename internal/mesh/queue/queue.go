// Package queue keeps queued commands until their turn comes. Queue is what the node
// uses; Memory keeps items in this process. Back ends that survive a restart
// implement the same interface and pass the same tests (package queuetest).
package queue

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"
)

var (
	// ErrFull says that the queue is at its bound. The item was not taken.
	ErrFull = errors.New("queue full")
	// ErrClosed says that Run has ended. A Put that fails with it took no item.
	ErrClosed = errors.New("queue closed")
	// ErrExpired is why an item was given up whose deadline had passed.
	ErrExpired = errors.New("deadline passed in the queue")
)

// Item is one queued request. Payload is shared, not copied: nobody may change it.
type Item struct {
	ID      string `json:"id"`            // names the item in logs and stores; unique
	UID     string `json:"uid,omitempty"` // of the request, when its caller waits for a response
	Command string `json:"command"`
	Caller  string `json:"caller"` // "worker/variant"

	Payload  json.RawMessage `json:"payload"`
	Enqueued time.Time       `json:"enqueued"`
	// Deadline is when the item is not wanted any more; zero: never.
	Deadline time.Time `json:"deadline,omitzero"`
}

// Work does what an item asks for. Its nil acknowledges the item. After an error or a
// panic a queue may give the item again, or give it up, as its documentation says.
type Work func(ctx context.Context, item Item) error

// Queue holds items until they were worked on, each at least once where the store
// outlives the process. It is safe for concurrent use.
type Queue interface {
	// Put adds an item at the end. When it returns nil the item is as safe as
	// this queue makes it. It fails with ErrFull or ErrClosed (wrapped), ctx's error,
	// or that of the store.
	Put(ctx context.Context, item Item) error

	// Run gives items to work in the order of Put, one after another unless
	// configured otherwise, until ctx ends. Then the context of the running work
	// ends too, and Run returns nil once it has returned. Items put before Run wait for
	// it. Run may be called once. A panic of work does not end it.
	//
	// The context of work ends at the item's deadline as well. An item whose deadline
	// has passed is never given to work.
	Run(ctx context.Context, work Work) error

	// Len counts the items that wait or are being worked on. So a queue that takes
	// no more is drained when Len is 0.
	Len() int

	// Stats tells what the queue has and has done. It does not block on a store.
	Stats() Stats
}

// PanicError is why an item was given up whose work panicked.
type PanicError struct {
	Value any
	Stack []byte
}

func (e *PanicError) Error() string { return fmt.Sprintf("work panicked: %v", e.Value) }
