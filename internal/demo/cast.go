package demo

import (
	"context"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/meshctl/meshctl/internal/mesh/node"
	"github.com/meshctl/meshctl/internal/mesh/schema"
	"github.com/meshctl/meshctl/internal/mesh/seal"
	"github.com/meshctl/meshctl/internal/pause"
)

// How long the mortal variant lives, and is dead.
const (
	lifetime = 15 * time.Second
	death    = 6 * time.Second
)

// role is one variant of the demonstration.
type role struct {
	worker, variant string
	mortal          bool // it dies and returns
}

func roles() []role {
	return []role{
		{worker: "shop", variant: "shop-1"}, {worker: "shop", variant: "shop-2"},
		{worker: "search", variant: "search-1"}, {worker: "search", variant: "search-2"},
		{worker: "stock", variant: "stock-1"},
		{worker: "billing", variant: "billing-1"}, {worker: "billing", variant: "billing-2"},
		{worker: "billing", variant: "billing-3", mortal: true},
		{worker: "mailer", variant: "mailer-1"}, {worker: "mailer", variant: "mailer-2"},
	}
}

// cast is the nodes of the demonstration.
type cast struct {
	cfg  Config
	base node.Config
	mesh Mesh
}

func newCast(cfg Config, s *schema.Schema, ring *seal.Ring, addr string) *cast {
	base := node.Config{Ring: ring, Master: addr, Version: cfg.Version, Logger: cfg.Logger}
	c := &cast{cfg: cfg, mesh: Mesh{Master: addr, Operator: base}}
	for _, r := range roles() {
		c.mesh.Nodes = append(c.mesh.Nodes, r.worker+"/"+r.variant)
	}
	base.Host, base.Schema, base.DrainTimeout = "127.0.0.1", s, 2*time.Second
	c.base = base
	return c
}

func (c *cast) node(r role) (*node.Node, error) {
	cfg := c.base
	cfg.Worker, cfg.Variant, cfg.Handlers = r.worker, r.variant, handlers(r.worker, r.variant)
	return node.New(cfg)
}

// run plays until ctx ends.
func (c *cast) run(ctx context.Context) error {
	all := roles()
	nodes := make([]*node.Node, len(all))
	for i, r := range all {
		var err error
		if nodes[i], err = c.node(r); err != nil {
			return err
		}
	}
	t := &traffic{callers: make(map[string][]*node.Node)}
	g, live := errgroup.WithContext(ctx)
	for i, r := range all {
		n := nodes[i]
		if r.mortal {
			g.Go(func() error { return c.dieAndReturn(live, r, n) })
			continue
		}
		t.callers[r.worker] = append(t.callers[r.worker], n)
		g.Go(func() error { return n.Run(live) })
	}
	g.Go(func() error {
		if awaitPeers(live, nodes[0], len(all)-2) { // all but itself and the other shop
			c.show(live, t)
		}
		return nil
	})
	err := g.Wait()
	if err == nil {
		c.cfg.Out.Stopped(t.ledger.summary())
	}
	return err
}

// show makes the calls, and tells of some of them.
func (c *cast) show(ctx context.Context, t *traffic) {
	c.cfg.Out.Started(c.mesh)
	var calls sync.WaitGroup
	calls.Go(func() { t.run(ctx) })
	for pause.For(ctx, showEvery) {
		if call, ok := t.ledger.take(time.Now()); ok {
			c.cfg.Out.Called(call)
		}
	}
	calls.Wait()
}

// dieAndReturn runs a variant that crashes and leaves in turn, and comes back each time.
func (c *cast) dieAndReturn(ctx context.Context, r role, n *node.Node) error {
	for crash := true; ; crash = !crash {
		alive, leave := context.WithCancel(ctx)
		end := time.AfterFunc(lifetime, func() {
			if crash {
				n.Kill()
			}
			leave()
		})
		err := n.Run(alive)
		end.Stop()
		leave()
		if err != nil || !pause.For(ctx, death) {
			return err
		}
		if n, err = c.node(r); err != nil {
			return err
		}
	}
}

// awaitPeers waits until a node has links to so many others.
func awaitPeers(ctx context.Context, n *node.Node, count int) bool {
	for len(n.Peers()) < count {
		if !pause.For(ctx, 10*time.Millisecond) {
			return false
		}
	}
	return true
}
