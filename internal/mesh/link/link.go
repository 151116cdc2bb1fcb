// Package link defines one connection between two peers: ordered, bounded and
// owned by one goroutine. What carries it (Socket.IO for JavaScript peers, later the
// native link) lives in the packages below; everything above sees only Link.
package link

import (
	"context"
	"errors"

	"github.com/meshctl/meshctl/internal/mesh/seal"
	"github.com/meshctl/meshctl/internal/mesh/wire"
)

var (
	// ErrClosed says that the link has ended; Link.Err says why.
	ErrClosed = errors.New("link closed")
	// ErrFull says that the outgoing queue is at its bound. Nothing was sent.
	ErrFull = errors.New("link queue full")
	// ErrTooLarge says that the message exceeds what the other side takes. Nothing was sent.
	ErrTooLarge = errors.New("message too large")

	// ErrUnreachable says that no connection came about: nobody listens, no
	// route, or no answer in time. Dialling again later may succeed.
	ErrUnreachable = errors.New("peer unreachable")
	// ErrRefused says that something answered and turned the connection down.
	ErrRefused = errors.New("connection refused by peer")
	// ErrProtocol says that the peer broke the protocol, or does not speak it.
	ErrProtocol = errors.New("protocol error")
)

// Link is one established connection to a peer. Messages arrive in the order in
// which they were sent, except that a message shorter than 16 KiB may overtake longer requests
// and responses. Nothing overtakes an event.
// Implementations bound every queue and survive any input.
type Link interface {
	// Send queues m and returns without waiting for the network. It is safe for
	// concurrent use. It fails with ErrFull, ErrTooLarge or ErrClosed (wrapped).
	// Send takes ownership of m.Body, and keeps neither m.Command nor m.Response.
	Send(m wire.Message) error

	// Receive blocks for the next message that could be opened with the mesh's key.
	// One goroutine at a time may call it. It fails with ctx's error, and then
	// no message is lost, or with Err's once the link has ended; what had arrived
	// before the peer ended it is delivered first, unless that peer is undeclared.
	// The caller owns the Body.
	Receive(ctx context.Context) (wire.Message, error)

	// Trust lifts the limits on peers that have not declared themselves: the
	// declare deadline, the bounds on what they may send and on key derivations.
	// Before it, one message that cannot be opened ends the link; Err then wraps
	// the reason. Idempotent. An end that dialled has only that last limit.
	Trust()

	// Close sends what is queued, for at most a second, and ends the link for the
	// given reason (nil: none to tell), which Err then wraps. It returns when the
	// link has ended. Idempotent: the first reason stays. A reason that wraps a
	// *wire.Error reaches a meshctl peer that dialled: its Err wraps one of that Code.
	Close(reason error)

	// Done is closed when the link has ended, for whatever reason.
	Done() <-chan struct{}

	// Err is nil until Done is closed, then the reason, which wraps ErrClosed.
	Err() error

	// Info describes the link. It never changes, but see Info.Key.
	Info() Info
}

// Batcher is a Link that says which messages arrived together, so that what is sent in
// answer to them can leave together.
type Batcher interface {
	// Hold keeps what is sent from leaving by itself until Release, which has to follow
	// without waiting for anything. Both may be nested and are safe for concurrent use.
	Hold()
	Release()
	// Buffered is how many messages Receive has at hand. It may be called by the
	// goroutine that calls Receive.
	Buffered() int
}

// Info describes a link.
type Info struct {
	// ID is unique in this process, and is what a JavaScript peer knows as its client id.
	ID string
	// RemoteIP is the other end's address without port or IPv4-mapped prefix.
	RemoteIP string
	// Dialed is true at the end that opened the connection.
	Dialed bool
	// Transport is "socketio" or "native".
	Transport string
	// Numbered says that requests and responses travel by the number of a wire.Command.
	Numbered bool
	// PeerName is the "worker/variant" that the peer gave in a handshake that proved
	// its keys; "" where the transport has none.
	PeerName string
	// Key is the key of the mesh that the link lives on. At the end of a Socket.IO link
	// that did not open it, it is nil until a message was received.
	Key *seal.Key
}
