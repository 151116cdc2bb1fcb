package rpc

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/meshctl/meshctl/internal/mesh/link"
	"github.com/meshctl/meshctl/internal/mesh/wire"
)

// Pending holds the requests to one peer that wait for their response. Requests to
// different peers are kept in different Pendings, so that no peer can answer in the
// name of another. The zero value is ready; all methods are safe for concurrent use.
type Pending struct {
	mu    sync.Mutex
	calls map[string]call
	late  atomic.Uint64
}

type call struct {
	via     link.Link
	done    chan wire.Response // buffered: settling never blocks
	cancels bool
	about   InFlight
}

// Request is what Do sends, and what Each tells of it.
type Request struct {
	wire.Command // with a UID
	// Peer, Kind and Broadcast are those of InFlight.
	Peer, Kind, Broadcast string
	// Cancels says that the other end, a meshctl peer, is told when nobody waits any more.
	Cancels bool
}

// Settle hands a response to the request that waits for it. It reports false, and
// counts the response as late, when none does.
func (p *Pending) Settle(r wire.Response) bool {
	p.mu.Lock()
	c, ok := p.calls[r.UID]
	delete(p.calls, r.UID)
	p.mu.Unlock()
	if !ok {
		p.late.Add(1)
		return false
	}
	c.done <- r
	return true
}

// LinkLost fails every request that was sent over l with peer_lost. Whoever reads from
// l calls it once l is closed and all that had arrived was read: then no request can
// be left behind, as nothing more can be sent over l.
func (p *Pending) LinkLost(l link.Link) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for uid, c := range p.calls {
		if c.via == l {
			delete(p.calls, uid)
			c.done <- wire.Response{UID: uid, Err: &wire.Error{
				Code:    wire.CodePeerLost,
				Message: "the connection was lost before the response came",
				Hint:    "the command may or may not have run; repeat it only if that does no harm",
			}}
		}
	}
}

// On is how many requests wait for a response over l.
func (p *Pending) On(l link.Link) (n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range p.calls {
		if c.via == l {
			n++
		}
	}
	return n
}

// Len is the number of requests that wait.
func (p *Pending) Len() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.calls)
}

// Late is how many responses came that nobody waited for (any more).
func (p *Pending) Late() uint64 { return p.late.Load() }

// Do sends r over l and blocks for its response, until ctx ends, Cancel is called, or
// LinkLost says that the link is gone. Errors are *wire.Error; Temporary is set on those
// that mean that nothing was sent. When ctx ends early the other end is told to cancel
// if r says so.
func (p *Pending) Do(ctx context.Context, l link.Link, r Request) (json.RawMessage, error) {
	c := call{via: l, done: make(chan wire.Response, 1), cancels: r.Cancels, about: InFlight{
		UID: r.UID, Command: r.Name, Peer: r.Peer, Kind: r.Kind, Broadcast: r.Broadcast,
		Phase: PhaseSent, Started: time.Now(), Bytes: len(r.Payload),
	}}
	c.about.Deadline, _ = ctx.Deadline()
	p.mu.Lock()
	if p.calls == nil {
		p.calls = make(map[string]call)
	}
	p.calls[r.UID] = c
	p.mu.Unlock()

	if err := Send(l, r.Command); err != nil {
		p.drop(r.UID)
		return nil, err
	}
	select {
	case r := <-c.done:
		return outcome(r)
	case <-ctx.Done():
		if _, ok := p.drop(r.UID); !ok {
			return outcome(<-c.done) // settled in this very moment
		}
		c.withdraw()
		return nil, ContextError(ctx)
	}
}

// Cancel ends the request with the given uid with code canceled, as if its caller had
// given up. It reports false when none waits.
func (p *Pending) Cancel(uid string) bool {
	c, ok := p.drop(uid)
	if !ok {
		return false
	}
	c.withdraw()
	c.done <- wire.Response{UID: uid, Err: &wire.Error{Code: wire.CodeCanceled, Message: "canceled by an operator"}}
	return true
}

// withdraw tells the other end, where it understands that, that nobody waits any more.
func (c call) withdraw() {
	if !c.cancels {
		return
	}
	if body, err := wire.Encode(wire.Cancel{UID: c.about.UID}); err == nil {
		_ = c.via.Send(wire.Message{Event: wire.EventCancel, Body: body})
	}
}

// Each tells of the requests that wait, in no order, until yield returns false. Those
// that come or end meanwhile may be among them or not. yield may call any method.
func (p *Pending) Each(yield func(InFlight) bool) {
	p.mu.Lock()
	all := make([]InFlight, 0, len(p.calls))
	for _, c := range p.calls {
		all = append(all, c.about)
	}
	p.mu.Unlock()
	for _, f := range all {
		if !yield(f) {
			return
		}
	}
}

func outcome(r wire.Response) (json.RawMessage, error) {
	if r.Err != nil {
		return nil, r.Err
	}
	return r.Result, nil
}

func (p *Pending) drop(uid string) (call, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	c, ok := p.calls[uid]
	delete(p.calls, uid)
	return c, ok
}

// Send sends a command without waiting for anything. Errors are *wire.Error.
func Send(l link.Link, cmd wire.Command) error {
	return sendError(l.Send(wire.CommandMessage(cmd)))
}

// Event sends v as the body of an event. Errors are *wire.Error.
func Event(l link.Link, event string, v any) error {
	body, err := wire.Encode(v)
	if err != nil {
		return err
	}
	return sendError(l.Send(wire.Message{Event: event, Body: body}))
}

func sendError(err error) error {
	var e *wire.Error
	switch {
	case err == nil:
		return nil
	case errors.As(err, &e) && e.Code == wire.CodeBadRequest:
		return e
	case errors.Is(err, link.ErrTooLarge):
		return &wire.Error{Code: wire.CodeBadRequest, Message: err.Error(), Hint: "send less, or raise --max-payload at both ends"}
	case errors.Is(err, link.ErrFull):
		return &wire.Error{Code: wire.CodeOverloaded, Message: "too much is waiting to be sent to this peer", Temporary: true, Hint: "send more slowly, or add variants"}
	default:
		return &wire.Error{Code: wire.CodePeerLost, Message: "the connection is closed", Temporary: true}
	}
}

// ContextError says as a *wire.Error why ctx ended: timeout or canceled.
func ContextError(ctx context.Context) *wire.Error {
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return &wire.Error{Code: wire.CodeTimeout, Message: "no response before the deadline", Hint: "allow more time with --timeout, or see how busy the node is with its status command"}
	}
	return &wire.Error{Code: wire.CodeCanceled, Message: "the caller gave up"}
}

// AsError makes a *wire.Error of any error: handler_error unless it is one already.
func AsError(err error) *wire.Error {
	var e *wire.Error
	if errors.As(err, &e) {
		return e
	}
	if errors.Is(err, context.DeadlineExceeded) {
		return &wire.Error{Code: wire.CodeTimeout, Message: "the command ran into its deadline"}
	}
	if errors.Is(err, context.Canceled) {
		return &wire.Error{Code: wire.CodeCanceled, Message: "the command was canceled"}
	}
	return &wire.Error{Code: wire.CodeHandlerError, Message: fmt.Sprint(err)}
}
