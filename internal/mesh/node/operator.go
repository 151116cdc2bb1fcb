package node

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"

	"github.com/meshctl/meshctl/internal/mesh/link"
	"github.com/meshctl/meshctl/internal/mesh/queue"
	"github.com/meshctl/meshctl/internal/mesh/route"
	"github.com/meshctl/meshctl/internal/mesh/rpc"
	"github.com/meshctl/meshctl/internal/mesh/schema"
	"github.com/meshctl/meshctl/internal/mesh/wire"
	"github.com/meshctl/meshctl/internal/pause"
)

// Operator is a connection of the command line: it asks the master who is there,
// links to nodes when a call needs them, and answers nothing. It is safe for
// concurrent use. It never sends a request twice. When its meshctl master goes it connects to
// the next one, or again, and until then calls go to the nodes that were there last.
//
// A meshctl master and meshctl nodes know the operator as such. To a JavaScript node
// it appears as a worker that the schema lets connect to it, and so it does to a
// JavaScript master once a call needs nodes.
type Operator struct {
	*core
	wg       sync.WaitGroup
	turn     atomic.Uint64 // begins at random, so that short commands spread their requests
	roster   roster
	openings openings
	attached attachment

	// Of a JavaScript master only, which serves neither schema nor list of nodes.
	javascript bool
	enlist     sync.Mutex // held while declaring as a worker
	mu         sync.Mutex
	named      map[peerName]wire.Peer // by addnode
	told       chan struct{}          // closed at the first addnode
}

// Connect declares an operator at the master. Errors are *wire.Error: unreachable,
// key_mismatch, denied. With a JavaScript master cfg.Schema is needed.
func Connect(ctx context.Context, cfg Config) (*Operator, error) {
	o, err := newOperator(cfg)
	if err != nil {
		return nil, err
	}
	err = o.reach(ctx, func(ctx context.Context, to contact) error { return o.enter(ctx, to, nil) })
	if err != nil {
		o.Close()
		return nil, err
	}
	return o, nil
}

func newOperator(cfg Config) (*Operator, error) {
	if cfg.Variant == "" {
		cfg.Variant = "op-" + uuid.NewString()[:8]
	}
	c, err := newCore(cfg)
	if err != nil {
		return nil, err
	}
	if cfg.Redis != "" {
		c.outbox = newOutbox(nil, func(ctx context.Context) (*queue.Redis, error) { return openRedis(ctx, &c.cfg) })
	}
	o := &Operator{core: c, named: make(map[peerName]wire.Peer), told: make(chan struct{}), openings: openings{byTarget: make(map[openingTarget]*opening)}}
	o.attached.init(c.work)
	c.self.Worker = wire.OperatorWorker
	o.turn.Store(rand.Uint64())
	o.wg.Go(func() { _, _, _ = c.ring.Used().Native() }) // while the network is slow
	return o, nil
}

// enter declares the operator over a new connection to a master. watch, if not nil, hears
// what the master says. Whoever does not keep the connection closes it.
func (o *Operator) enter(ctx context.Context, to contact, watch *watchTalk) error {
	l := to.link
	declared, err := o.declareAt(ctx, to, wire.Declare{Worker: wire.OperatorWorker, Variant: o.self.Variant, Meshctl: o.credentials()})
	var javascript *javaScriptRefusal
	switch {
	case err == nil && declared.Meshctl != nil:
		o.takeDenied(declared.Meshctl.Denied)
		if o.takeSchema(declared.Meshctl.Schema); o.access.Load() == nil {
			return &wire.Error{Code: wire.CodeUnreachable, Message: "the master serves no schema that this meshctl can read", Hint: "use the same release on both sides"}
		}
	case errors.As(err, &javascript) && watch != nil:
		return &wire.Error{Code: wire.CodeDenied, Message: "a JavaScript master does not tell what happens in its mesh", Hint: "watching needs a meshctl master (`meshctl serve-master`); JavaScript nodes may stay"}
	case errors.As(err, &javascript) && o.master.at.Load() != nil: // it had a meshctl master before
		return err
	case errors.As(err, &javascript):
		// A JavaScript master does not know operators.
		if o.cfg.Schema == nil {
			return &wire.Error{Code: wire.CodeDenied, Message: "a JavaScript master serves no schema", Hint: "give the schema with --schema FILE"}
		}
		o.javascript = true
	case err != nil:
		return err
	}
	if !o.attached.to(l) {
		return errLeaving
	}
	o.master.at.Store(&to.at)
	o.wg.Go(func() {
		if watch != nil {
			defer watch.w.catch()
		}
		began := time.Now()
		o.heed(l, watch)
		if watch == nil && !o.javascript { // who watches sees to it himself
			o.comeBack(time.Since(began) >= settled)
		}
	})
	return nil
}

// heed follows what the master says.
func (o *Operator) heed(l link.Link, watch *watchTalk) {
	for {
		msg, err := l.Receive(o.work)
		if err != nil {
			o.attached.lost(l, err)
			o.master.pending.LinkLost(l)
			if watch != nil {
				watch.over(err)
			}
			return
		}
		if watch != nil {
			watch.hear(msg)
		}
		switch msg.Event {
		case wire.EventResponse:
			if r, err := msg.AsResponse(); err == nil {
				o.master.pending.Settle(r)
			}
		case wire.EventSchema:
			if u, err := wire.DecodeSchemaUpdate(msg.Body); err == nil {
				o.takeSchema(u.Schema)
			}
		case wire.EventDenied:
			if l, err := wire.DecodeDenyList(msg.Body); err == nil {
				o.takeDenied(l.Entries)
			}
		case wire.EventAddNode:
			peers, _, _ := wire.DecodePeers(msg.Body)
			o.mu.Lock()
			for _, p := range peers {
				o.named[peerName{p.Worker, p.Variant}] = p
			}
			select {
			case <-o.told:
			default:
				close(o.told)
			}
			o.mu.Unlock()
		case wire.EventRemoveNode:
			if p, err := wire.DecodePeer(msg.Body); err == nil {
				o.mu.Lock()
				delete(o.named, peerName{p.Worker, p.Variant})
				o.mu.Unlock()
			}
		}
	}
}

// Close ends all connections, after what was queued has been sent (at most a second),
// and returns when no goroutine is left.
func (o *Operator) Close() {
	var closing sync.WaitGroup
	if l := o.attached.end(); l != nil {
		closing.Go(func() { l.Close(errLeaving) })
	}
	for _, l := range o.peers.links() {
		closing.Go(func() { l.Close(errLeaving) })
	}
	closing.Wait()
	o.stop()
	o.wg.Wait()
	o.retiring.Wait()
	if o.outbox != nil {
		o.outbox.close()
	}
}

// Schema is the schema in force: the master's, or the configured one with a
// JavaScript master.
func (o *Operator) Schema() *schema.Schema { return o.access.Load() }

// Call sends a request like Node.Call, linking to the nodes that it needs first.
func (o *Operator) Call(ctx context.Context, name string, payload json.RawMessage, opts CallOptions) (*Result, error) {
	ctx, cancel := o.withTimeout(ctx, opts.Timeout)
	defer cancel()
	opts.Timeout = 0 // the context has it, so that dialling ends as well
	return o.call(ctx, name, payload, opts, onDemand{o})
}

// onDemand reaches variants by dialling them when they are needed.
type onDemand struct{ *Operator }

func (o onDemand) inTurn(ctx context.Context, a *asking, sel route.Selection) iter.Seq2[target, *wire.Error] {
	worker := a.result.Worker
	return func(yield func(target, *wire.Error) bool) {
		remembered, ok := o.roster.recall(worker)
		if ok {
			if remembered = selected(remembered, sel); !o.offer(a, remembered, yield) {
				return
			}
		}
		// Nobody of those remembered took it: others may have come since.
		nodes, failure := o.candidates(ctx, worker, sel)
		if failure != nil {
			yield(target{}, failure)
			return
		}
		nodes = slices.DeleteFunc(nodes, func(n wire.Peer) bool {
			return slices.ContainsFunc(remembered, func(tried wire.Peer) bool {
				return tried.Variant == n.Variant && tried.IP == n.IP && tried.Port == n.Port
			})
		})
		o.offer(a, nodes, yield)
	}
}

// offer yields nodes, first the one whose turn it is, or as a key says, and reports whether
// more are wanted. What one refuses goes to another one each time, so that all get as much.
func (o onDemand) offer(a *asking, nodes []wire.Peer, yield func(target, *wire.Error) bool) bool {
	turn := o.turn.Add(1)
	if a.cmd.Balance.Strategy == schema.ByKey {
		if key, ok := route.Key(a.payload, a.cmd.Balance.Key); ok {
			nodes, turn = route.Ranked(nodes, key, func(n wire.Peer) string { return n.Variant }), 0
		}
	}
	n := uint64(len(nodes))
	for i := range n {
		at := turn
		if i > 0 {
			at += 1 + (turn/n+i-1)%(n-1)
		}
		if !yield(o.target(nodes[at%n]), nil) {
			return false
		}
	}
	return true
}

func (o onDemand) all(ctx context.Context, worker string, sel route.Selection) ([]target, *wire.Error) {
	nodes, failure := o.candidates(ctx, worker, sel)
	if failure != nil {
		return nil, failure
	}
	targets := make([]target, len(nodes))
	for i, n := range nodes {
		targets[i] = o.target(n)
	}
	return targets, nil
}

// candidates asks who there is. The caller owns the slice.
func (o onDemand) candidates(ctx context.Context, worker string, sel route.Selection) ([]wire.Peer, *wire.Error) {
	var present []wire.Peer
	if o.javascript {
		var err error
		if present, err = o.askJavaScript(ctx, worker); err != nil {
			return nil, rpc.AsError(err)
		}
	} else {
		for waited := false; ; {
			if o.attached.current() == nil {
				if present = o.roster.last(worker); len(present) > 0 {
					break
				}
			}
			asked := time.Now()
			nodes, settling, err := listNodes(ctx, o.askMaster)
			if wire.CodeOf(err) == wire.CodePeerLost && ctx.Err() == nil {
				continue
			}
			if waited && wire.CodeOf(err) == wire.CodeTimeout {
				break // the time was spent on waiting for somebody, and nobody has come
			}
			if err != nil {
				return nil, rpc.AsError(err)
			}
			present = o.roster.learn(nodes, asked).byWorker[worker]
			if len(present) > 0 || !settling || !pause.For(ctx, settlingLook) {
				break
			}
			waited = true
		}
	}
	return slices.Clone(selected(present, sel)), nil
}

// settlingLook is the pause before a master that has just started is asked again.
const settlingLook = 100 * time.Millisecond

// selected shares the memory of present where everybody is selected.
func selected(present []wire.Peer, sel route.Selection) []wire.Peer {
	if sel.IsZero() {
		return present
	}
	var some []wire.Peer
	for _, p := range present {
		if sel.Has(p.Variant) {
			some = append(some, p)
		}
	}
	return some
}

// askJavaScript declares us as a worker to a JavaScript master, once, and gives the
// nodes of a worker that it names.
func (o onDemand) askJavaScript(ctx context.Context, worker string) ([]wire.Peer, error) {
	o.enlist.Lock()
	defer o.enlist.Unlock()
	if o.cfg.Worker == "" {
		as, ok := o.access.Load().FirstCaller(worker)
		if !ok {
			return nil, &wire.Error{Code: wire.CodeDenied, Message: fmt.Sprintf("the schema lets no worker connect to %s", worker), Hint: "name one with --as"}
		}
		o.cfg.Worker = as
	}
	select {
	case <-o.told:
	default:
		// No node can be served by us: port 1 refuses at once.
		body := wire.Declare{Worker: o.cfg.Worker, Variant: o.self.Variant, Port: 1, Meshctl: o.self.Meshctl}
		master, failure := o.attached.await(ctx)
		if failure != nil {
			return nil, failure
		}
		if err := rpc.Event(master, wire.EventDeclare, body); err != nil {
			return nil, err
		}
		t := time.NewTimer(2 * time.Second) // it says nothing when there is nobody
		defer t.Stop()
		select {
		case <-o.told:
		case <-t.C:
		case <-ctx.Done():
		case <-master.Done():
			return nil, &wire.Error{Code: wire.CodePeerLost, Message: "the master closed the connection"}
		}
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	var peers []wire.Peer
	for name, p := range o.named {
		if name.worker == worker {
			peers = append(peers, p)
		}
	}
	return peers, nil
}

func (o onDemand) target(to wire.Peer) target {
	return target{worker: to.Worker, variant: to.Variant, connect: func(ctx context.Context) (*peer, *peerLink, *wire.Error) {
		return o.link(ctx, to)
	}}
}

// appearance is the worker that we introduce ourselves as.
func (o *Operator) appearance(to wire.Peer) (string, *wire.Error) {
	if o.cfg.Worker != "" {
		return o.cfg.Worker, nil
	}
	if to.Meshctl != nil {
		return wire.OperatorWorker, nil
	}
	as, ok := o.access.Load().FirstCaller(to.Worker)
	if !ok {
		return "", &wire.Error{Code: wire.CodeDenied, Message: fmt.Sprintf("the schema lets no worker connect to the JavaScript node %s", to.Name()), Hint: "name a worker to appear as with --as"}
	}
	return as, nil
}
