package rpc

import (
	"context"
	"encoding/json"
	"errors"
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
	slots []slot
	free  []uint32         // slots without a call
	byUID map[string]*call // those sent over links that carry no numbers
	alarm alarm
	late  atomic.Uint64
	calls sync.Pool // of *call, to be used again with their channels
}

// slot is where a call waits. The lower bits of a call's number are its slot's index, the
// others count the calls that were there, so that a late response finds nobody.
type slot struct {
	call *call
	turn uint64
}

// slotBits bounds how many requests may wait for one peer.
const slotBits = 20

// call is one request. Whoever takes it out of its slot, under the lock, is the one to
// settle it; whoever waits for it gives it back when it is settled.
type call struct {
	settled chan<- *call // buffered: settling never blocks
	alone   chan *call   // settled of a call that is awaited alone; made once, used again
	index   int          // in a Group

	result  json.RawMessage
	failure *wire.Error
	gaveUp  bool // this end did, so that the other has to be told

	via      link.Link
	command  wire.Command
	meta     wire.CommandMeta
	request  Request
	deadline time.Time // for Oldest
	number   uint64
}

func (p *Pending) newCall() *call {
	if c, ok := p.calls.Get().(*call); ok {
		return c
	}
	return &call{alone: make(chan *call, 1)}
}

func (p *Pending) giveBack(c *call) {
	*c = call{alone: c.alone}
	p.calls.Put(c)
}

// Request is what is sent, and what Oldest tells of it.
type Request struct {
	UID      string
	Name     string // of the command
	Payload  json.RawMessage
	Started  time.Time // zero: now
	Deadline time.Time // zero: that of the context
	// Meshctl says that the other end understands Meta, to which the deadline is added, and
	// that a request is withdrawn.
	Meshctl bool
	Meta    wire.CommandMeta
	// Peer, Kind and Broadcast are those of InFlight.
	Peer, Kind, Broadcast string
}

// Settle hands a response to the request that waits for it. It reports false, and
// counts the response as late, when none does.
func (p *Pending) Settle(r wire.Response) bool {
	p.mu.Lock()
	var c *call
	if r.Number != 0 {
		if i := r.Number & (1<<slotBits - 1); i < uint64(len(p.slots)) {
			c = p.slots[i].call
		}
		if c != nil && c.number != r.Number {
			c = nil
		}
	} else {
		c = p.byUID[r.UID]
	}
	if c == nil {
		p.mu.Unlock()
		p.late.Add(1)
		return false
	}
	p.take(c)
	p.mu.Unlock()
	c.result, c.failure = r.Result, r.Err
	c.settled <- c
	return true
}

// take takes a call that waits out of its slot. mu is held.
func (p *Pending) take(c *call) {
	i := uint32(c.number & (1<<slotBits - 1))
	p.slots[i].call = nil
	p.free = append(p.free, i)
	if p.byUID[c.request.UID] == c {
		delete(p.byUID, c.request.UID)
	}
}

// giveUp settles a call from this end, unless it was settled already.
func (p *Pending) giveUp(c *call, why *wire.Error) {
	p.mu.Lock()
	waits := p.slots[c.number&(1<<slotBits-1)].call == c
	if waits {
		p.take(c)
	}
	p.mu.Unlock()
	if waits {
		c.failure, c.gaveUp = why, true
		c.settled <- c
	}
}

// LinkLost fails every request that was sent over l with peer_lost, or where its peer had drained, so that the
// request did not run, with a temporary no_variant. Whoever reads from l calls it once l is closed and all that had
// arrived was read: then no request can be left behind, as nothing more can be sent over l.
func (p *Pending) LinkLost(l link.Link) {
	failure := wire.Error{
		Code:    wire.CodePeerLost,
		Message: "the connection was lost before the response came",
		Hint:    "the command may or may not have run; repeat it only if that does no harm",
	}
	if errors.Is(l.Err(), link.ErrPeerDrained) {
		failure = wire.Error{Code: wire.CodeNoVariant, Message: "it left before it took the request up", Temporary: true}
	}
	for _, c := range p.takeIf(func(c *call) bool { return c.via == l }) {
		own := failure
		c.failure = &own
		c.settled <- c
	}
}

func (p *Pending) takeIf(chosen func(*call) bool) []*call {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.takeIfLocked(chosen)
}

func (p *Pending) takeIfLocked(chosen func(*call) bool) []*call {
	var taken []*call
	for _, s := range p.slots {
		if s.call != nil && chosen(s.call) {
			p.take(s.call)
			taken = append(taken, s.call)
		}
	}
	return taken
}

// expire is the alarm's.
func (p *Pending) expire() {
	now := time.Now()
	var next time.Time
	p.mu.Lock()
	due := p.takeIfLocked(func(c *call) bool {
		d := c.request.Deadline
		if d.IsZero() {
			return false
		}
		if d.After(now) {
			if next.IsZero() || d.Before(next) {
				next = d
			}
			return false
		}
		return true
	})
	p.alarm.rang(now, next)
	p.mu.Unlock()
	for _, c := range due {
		c.failure, c.gaveUp = errDeadline(), true
		c.settled <- c
	}
}

// On is how many requests wait for a response over l.
func (p *Pending) On(l link.Link) (n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, s := range p.slots {
		if s.call != nil && s.call.via == l {
			n++
		}
	}
	return n
}

// Len is the number of requests that wait.
func (p *Pending) Len() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.slots) - len(p.free)
}

// Late is how many responses came that nobody waited for (any more).
func (p *Pending) Late() uint64 { return p.late.Load() }

// Do sends r over l and blocks for its response, until its deadline or ctx ends, Cancel is
// called, or LinkLost says that the link is gone. Errors are *wire.Error; Temporary is set
// on those that mean that nothing was sent. When it ends early the other end is told
// if r.Meshctl is set. A deadline is noticed within 5 ms, the end of ctx at once.
func (p *Pending) Do(ctx context.Context, l link.Link, r Request) (json.RawMessage, error) {
	c := p.newCall()
	defer p.giveBack(c)
	c.settled = c.alone
	if failure := p.send(ctx, l, c, &r); failure != nil {
		if c.number != 0 {
			<-c.alone
		}
		return nil, failure
	}
	if ended := ctx.Done(); ended == nil {
		<-c.alone
	} else {
		select {
		case <-c.alone:
		case <-ended:
			p.giveUp(c, ContextError(ctx))
			<-c.alone
		}
	}
	return c.outcome()
}

// send gives c a slot and sends its request. If it fails c is settled, unless it did not
// even get a number.
func (p *Pending) send(ctx context.Context, l link.Link, c *call, r *Request) *wire.Error {
	if r.Started.IsZero() {
		r.Started = time.Now()
	}
	c.via, c.request, c.deadline = l, *r, r.Deadline
	if c.deadline.IsZero() {
		c.deadline, _ = ctx.Deadline()
	}
	c.command = wire.Command{UID: r.UID, Name: r.Name, Payload: r.Payload}
	if r.Meshctl {
		c.meta = r.Meta
		if !c.deadline.IsZero() {
			c.meta.TimeoutMS = max(1, c.deadline.Sub(r.Started).Milliseconds())
		}
		c.command.Meta = &c.meta
	}
	if !p.enter(c, l.Info().Numbered) {
		return &wire.Error{Code: wire.CodeOverloaded, Message: "too many requests wait for this peer", Temporary: true}
	}
	if err := l.Send(wire.Message{Event: wire.EventCommand, Command: &c.command}); err != nil {
		failure := sendError(err)
		p.giveUp(c, failure) // its outcome is not asked for: the other end knows nothing of it
		return failure
	}
	return nil
}

// enter gives c a slot and its number.
func (p *Pending) enter(c *call, numbered bool) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	var i uint32
	if n := len(p.free); n > 0 {
		i = p.free[n-1]
		p.free = p.free[:n-1]
	} else {
		if len(p.slots) == 1<<slotBits {
			return false
		}
		i = uint32(len(p.slots))
		p.slots = append(p.slots, slot{})
	}
	s := &p.slots[i]
	s.call = c
	s.turn++
	c.number = s.turn<<slotBits | uint64(i)
	if numbered {
		c.command.Number = c.number
	} else {
		if p.byUID == nil {
			p.byUID = make(map[string]*call)
		}
		p.byUID[c.request.UID] = c
	}
	p.alarm.watch(c.request.Deadline, p.expire)
	return true
}

// outcome is what came of a settled call. Where this end gave it up, the other end is told,
// if it understands that.
func (c *call) outcome() (json.RawMessage, error) {
	if c.gaveUp && c.request.Meshctl {
		m := wire.Message{Event: wire.EventCancel, Number: c.command.Number}
		if m.Number == 0 {
			m.Body, _ = wire.Encode(wire.Cancel{UID: c.request.UID}) // a text can be encoded
		}
		_ = c.via.Send(m)
	}
	if c.failure != nil {
		return nil, c.failure
	}
	return c.result, nil
}

// Cancel ends the requests with the given uid with code canceled, as if their caller had
// given up. It reports false when none waits.
func (p *Pending) Cancel(uid string) bool {
	taken := p.takeIf(func(c *call) bool { return c.request.UID == uid })
	for _, c := range taken {
		c.failure, c.gaveUp = &wire.Error{Code: wire.CodeCanceled, Message: "canceled by an operator"}, true
		c.settled <- c
	}
	return len(taken) > 0
}

// Oldest offers all requests that wait to o.
func (p *Pending) Oldest(o *Oldest) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, s := range p.slots {
		if c := s.call; c != nil && o.wants(c.request.Started) {
			r := &c.request
			o.add(InFlight{
				UID: r.UID, Command: r.Name, Peer: r.Peer, Kind: r.Kind, Broadcast: r.Broadcast,
				Phase: PhaseSent, Started: r.Started, Deadline: c.deadline, Bytes: len(r.Payload),
			})
		}
	}
}
