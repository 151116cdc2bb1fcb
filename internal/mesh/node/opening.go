package node

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/meshctl/meshctl/internal/mesh/rpc"
	"github.com/meshctl/meshctl/internal/mesh/wire"
)

// openings are the links that an operator is opening. Calls that need the same one
// wait together: a second link to a node would end the first, and the calls on it.
type openings struct {
	mu       sync.Mutex
	byTarget map[openingTarget]*opening
}

type openingTarget struct {
	peerName
	ip   string
	port int
}

// opening is one of them. When done is closed either link or failure is set.
type opening struct {
	cancel  context.CancelFunc
	waiting int // openings.mu is held
	done    chan struct{}
	peer    *peer
	link    *peerLink
	failure *wire.Error
}

// link gives the link to a node, opening it if there is none.
func (o *Operator) link(ctx context.Context, to wire.Peer) (*peer, *peerLink, *wire.Error) {
	if p, l := o.peers.find(to.Worker, to.Variant); l != nil {
		return p, l, nil
	}
	as, failure := o.appearance(to)
	if failure != nil {
		return nil, nil, failure
	}
	target := openingTarget{peerName{to.Worker, to.Variant}, to.IP, to.Port}
	o.openings.mu.Lock()
	x := o.openings.byTarget[target]
	if x == nil {
		// It may have come up since the first look.
		if p, l := o.peers.find(to.Worker, to.Variant); l != nil {
			o.openings.mu.Unlock()
			return p, l, nil
		}
		x = &opening{done: make(chan struct{})}
		var trying context.Context
		trying, x.cancel = context.WithCancel(o.work)
		o.openings.byTarget[target] = x
		o.wg.Go(func() { o.openFor(trying, x, target, to, as) })
	}
	x.waiting++
	o.openings.mu.Unlock()

	select {
	case <-x.done:
		if x.failure == nil || ctx.Err() == nil {
			return x.peer, x.link, x.failure
		}
		// Both are over, which on a busy machine says nothing of which was first.
	case <-ctx.Done():
	}
	o.openings.leave(x, target)
	failure = rpc.ContextError(ctx)
	if failure.Code == wire.CodeTimeout {
		failure.Message = fmt.Sprintf("no link to %s at %s port %d before the deadline", to.Name(), to.IP, to.Port)
		failure.Hint = "allow more time with --timeout, or see whether that address can be reached from here"
	}
	return nil, nil, failure
}

// openFor opens a link and serves it until it ends. The link outlives the calls that
// waited for it.
func (o *Operator) openFor(trying context.Context, x *opening, target openingTarget, to wire.Peer, as string) {
	defer x.cancel()
	err := o.open(o.work, trying, to, as, nil, func(p *peer, l *peerLink) {
		x.peer, x.link = p, l
		o.openings.settle(x, target)
	})
	if x.link != nil {
		return
	}
	if !errors.As(err, &x.failure) {
		x.failure = &wire.Error{Code: wire.CodeUnreachable, Message: fmt.Sprintf("%s: %v", to.Name(), err)}
	}
	x.failure.Temporary = true // nothing ran there
	o.openings.settle(x, target)
}

// settle lets those who wait go on.
func (s *openings) settle(x *opening, target openingTarget) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.byTarget[target] == x {
		delete(s.byTarget, target)
	}
	close(x.done)
}

// leave is for a caller who waits no more. When nobody does, the attempt ends.
func (s *openings) leave(x *opening, target openingTarget) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if x.waiting--; x.waiting > 0 || s.byTarget[target] != x {
		return
	}
	delete(s.byTarget, target)
	x.cancel()
}
