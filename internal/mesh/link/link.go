// Package link defines one connection between two peers: ordered, bounded and
// owned by one goroutine. What carries it (Socket.IO for JavaScript peers, later the
// native link) lives in the packages below; everything above sees only Link.
package link

import (
	"context"
	"errors"

	"github.com/meshctl/meshctl/internal/mesh/wire"
)

var (
	// ErrClosed says that the link has ended; Link.Err says why.
	ErrClosed = errors.New("link closed")
	// ErrFull says that the outgoing queue is at its bound. Nothing was sent.
	ErrFull = errors.New("link queue full")
	// ErrTooLarge says that the message exceeds what the other side takes. Nothing was sent.
	ErrTooLarge = errors.New("message too large")
)

// Link is one established connection to a peer. Messages arrive in the order in
// which they were sent. Implementations bound every queue and survive any input.
type Link interface {
	// Send queues m and returns without waiting for the network. It is safe for
	// concurrent use. It fails with ErrFull, ErrTooLarge or ErrClosed (wrapped).
	// Send takes ownership of m.Body.
	Send(m wire.Message) error

	// Receive blocks for the next message that could be opened with the mesh's key.
	// One goroutine at a time may call it. It fails with ctx's error, or when
	// the link has ended (ErrClosed) or the peer broke the protocol; after any
	// error but ctx's the link is closed.
	Receive(ctx context.Context) (wire.Message, error)

	// Trust lifts the limits on peers that have not declared themselves:
	// the declare deadline and the bound on key derivations. Idempotent.
	Trust()

	// Close sends what is queued, for at most a second, and ends the link for the
	// given reason, which Err then returns. Idempotent: the first reason stays.
	Close(reason error)

	// Done is closed when the link has ended, for whatever reason.
	Done() <-chan struct{}

	// Err is nil until Done is closed, then the reason, which wraps ErrClosed.
	Err() error

	// Info describes the link. It never changes.
	Info() Info
}

// Info describes a link.
type Info struct {
	// ID is unique in this process, and is what a JavaScript peer knows as its client id.
	ID string
	// RemoteIP is the other end's address without port or IPv4-mapped prefix.
	RemoteIP string
	// Dialed is true at the end that opened the connection.
	Dialed bool
	// Transport is "socketio".
	Transport string
}
