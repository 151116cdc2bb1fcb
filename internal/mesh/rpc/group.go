package rpc

import (
	"context"
	"encoding/json"

	"github.com/meshctl/meshctl/internal/mesh/link"
)

// Group is requests whose responses one goroutine awaits together, each to another peer.
// It is not safe for concurrent use.
type Group struct {
	settled chan *call
	waiting []groupCall // by index; without a call where none waits
	left    int
}

type groupCall struct {
	pending *Pending
	call    *call
}

// NewGroup makes a group of at most n requests.
func NewGroup(n int) *Group {
	return &Group{settled: make(chan *call, n), waiting: make([]groupCall, n)}
}

// Send sends a request of the group, as Do does, without waiting for its response. index,
// below the n of NewGroup, is what Wait will call it; each may be used once.
func (g *Group) Send(ctx context.Context, p *Pending, l link.Link, index int, r Request) error {
	c := p.newCall()
	c.settled, c.index = g.settled, index
	if failure := p.send(ctx, l, c, &r); failure != nil {
		if c.number != 0 {
			// The last one to be settled: only this goroutine takes from the channel, but
			// others may have been settled before it.
			g.discard(c)
		}
		p.giveBack(c)
		return failure
	}
	g.waiting[index] = groupCall{p, c}
	g.left++
	return nil
}

// discard takes c out of the channel, which it is in.
func (g *Group) discard(c *call) {
	for x := range g.settled {
		if x == c {
			return
		}
		g.settled <- x
	}
}

// Wait blocks until all requests that were sent have come to an end, and tells each of them
// as it comes. When ctx ends, those that wait do too.
func (g *Group) Wait(ctx context.Context, each func(index int, result json.RawMessage, err error)) {
	ended := ctx.Done()
	for g.left > 0 {
		select {
		case c := <-g.settled:
			g.left--
			result, err := c.outcome()
			index := c.index
			p := g.waiting[index].pending
			g.waiting[index] = groupCall{}
			p.giveBack(c)
			each(index, result, err)
		case <-ended:
			ended = nil
			why := ContextError(ctx)
			for _, w := range g.waiting {
				if w.call != nil {
					w.pending.giveUp(w.call, why)
				}
			}
		}
	}
}
