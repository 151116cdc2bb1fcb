package node

import (
	"context"
	"encoding/json"
	"slices"
	"sync"
	"time"

	"github.com/meshctl/meshctl/internal/mesh/route"
	"github.com/meshctl/meshctl/internal/mesh/rpc"
	"github.com/meshctl/meshctl/internal/mesh/schema"
	"github.com/meshctl/meshctl/internal/mesh/wire"
)

func (c *core) broadcast(ctx context.Context, a *asking, sel route.Selection, r reach) error {
	worker := a.result.Worker
	nobody := func(failure *wire.Error) error {
		o := c.outgoing(a, a.result.UID, "")
		o.end(nil, failure, time.Since(a.started))
		return failure
	}
	targets, failure := r.all(ctx, worker, sel)
	if failure != nil {
		return nobody(failure)
	}
	present := make([]string, len(targets))
	for i, t := range targets {
		present[i] = t.variant
	}
	for _, v := range sel.Missing(present) {
		targets = append(targets, target{worker: worker, variant: v, connect: func(context.Context) (*peer, *peerLink, *wire.Error) {
			return nil, nil, route.NoVariant(worker, route.Selection{Only: []string{v}})
		}})
	}
	if len(targets) == 0 || len(present) == 0 {
		return nobody(route.NoVariant(worker, sel))
	}
	a.result.Replies = make([]Reply, len(targets))
	if slices.ContainsFunc(targets, func(t target) bool { return t.connect != nil }) {
		// Links have to be opened: each takes its time.
		var wg sync.WaitGroup
		var telling sync.Mutex
		for i, t := range targets {
			wg.Go(func() { c.tell(ctx, a, []target{t}, a.result.Replies[i:i+1], &telling) })
		}
		wg.Wait()
		return nil
	}
	c.tell(ctx, a, targets, a.result.Replies, new(sync.Mutex))
	return nil
}

// tell sends a part of a broadcast to all of its targets and then awaits the responses.
func (c *core) tell(ctx context.Context, a *asking, targets []target, replies []Reply, telling *sync.Mutex) {
	sent := make([]outgoing, len(targets))
	settled := func(i int) {
		replies[i].Elapsed = time.Since(a.started)
		sent[i].end(replies[i].Result, replies[i].Err, replies[i].Elapsed)
		if a.opts.OnReply != nil {
			telling.Lock()
			defer telling.Unlock()
			a.opts.OnReply(replies[i])
		}
	}
	g := rpc.NewGroup(len(targets))
	for i, t := range targets {
		// A uid of its own for each: two variants may share one JavaScript process.
		sent[i] = c.outgoing(a, drawUID(), a.result.UID)
		p, l, request, waits := c.address(ctx, a, &sent[i], t, &replies[i])
		if waits {
			request.Kind, request.Broadcast = string(schema.Broadcast), a.result.UID
			err := g.Send(ctx, &p.pending, l.Link, i, request)
			if waits = err == nil; !waits {
				a.take(&replies[i], nil, err)
			}
		}
		if !waits {
			settled(i)
		}
	}
	g.Wait(ctx, func(i int, result json.RawMessage, err error) {
		a.take(&replies[i], result, err)
		settled(i)
	})
}
