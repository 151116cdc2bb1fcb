// Package demo is a small mesh to look at: a master, three workers with five variants
// in all, and steady calls of every kind between them, in one process and without
// any configuration.
package demo

import (
	"context"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"strconv"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/meshctl/meshctl/internal/mesh/handler"
	"github.com/meshctl/meshctl/internal/mesh/master"
	"github.com/meshctl/meshctl/internal/mesh/node"
	"github.com/meshctl/meshctl/internal/mesh/schema"
	"github.com/meshctl/meshctl/internal/mesh/seal"
)

//go:embed schema.yaml
var schemaYAML []byte

// variants are the nodes of the demonstration, by worker.
var variants = []struct{ worker, variant string }{
	{"shop", "shop-1"},
	{"billing", "billing-1"}, {"billing", "billing-2"},
	{"mailer", "mailer-1"}, {"mailer", "mailer-2"},
}

// Config is what a demonstration needs. Out is told of what happens; calls of its
// methods come from one goroutine.
type Config struct {
	Keys    seal.Keys
	Out     Output
	Version string
	Logger  *slog.Logger
}

// Output shows the demonstration.
type Output interface {
	// Started is told once everything runs.
	Started(Mesh)
	// Called is told of each call that has ended.
	Called(Call)
}

// Mesh is where the demonstration's mesh can be reached.
type Mesh struct {
	Master string   // host:port
	Nodes  []string // "worker/variant"
}

// Call is one call of the demonstration.
type Call struct {
	From   string // "worker/variant"
	Kind   string // "balanced", "broadcast", "fire and forget" or "queued"
	Result *node.Result
	Err    error
}

// Run starts the mesh, lets it call itself until ctx ends, drains it and returns nil.
// It leaves nothing behind.
func Run(ctx context.Context, cfg Config) error {
	s, err := schema.Parse("demo.yaml", schemaYAML)
	if err != nil {
		return err
	}
	ring, err := seal.NewRing([]seal.Keys{cfg.Keys}, nil)
	if err != nil {
		return err
	}
	m, err := master.New(master.Config{Schema: s, Host: "127.0.0.1", Version: cfg.Version, Logger: cfg.Logger, Ring: ring})
	if err != nil {
		return err
	}
	// The nodes leave before the master does, as they would in earnest.
	serving, stopMaster := context.WithCancel(context.WithoutCancel(ctx))
	defer stopMaster()
	var outer errgroup.Group
	outer.Go(func() error { return m.Run(serving) })
	outer.Go(func() error {
		defer stopMaster()
		select {
		case <-m.Ready():
		case <-ctx.Done():
			return nil
		case <-time.After(10 * time.Second):
			return errors.New("the demo's master did not start")
		}
		return runNodes(ctx, cfg, s, ring, m.Addr())
	})
	return outer.Wait()
}

func runNodes(ctx context.Context, cfg Config, s *schema.Schema, ring *seal.Ring, addr net.Addr) error {
	g, ctx := errgroup.WithContext(ctx)
	mesh := Mesh{Master: net.JoinHostPort("127.0.0.1", strconv.Itoa(addr.(*net.TCPAddr).Port))}
	var nodes []*node.Node
	for _, v := range variants {
		n, err := node.New(node.Config{
			Worker: v.worker, Variant: v.variant, Master: mesh.Master, Host: "127.0.0.1",
			Schema: s, Handlers: handlers(v.worker, v.variant), Version: cfg.Version, Logger: cfg.Logger, DrainTimeout: 2 * time.Second, Ring: ring,
		})
		if err != nil {
			return err
		}
		nodes = append(nodes, n)
		mesh.Nodes = append(mesh.Nodes, v.worker+"/"+v.variant)
		g.Go(func() error { return n.Run(ctx) })
	}
	g.Go(func() error {
		if !linked(ctx, nodes) {
			return nil
		}
		cfg.Out.Started(mesh)
		return talk(ctx, nodes, cfg.Out)
	})
	return g.Wait()
}

// linked waits until the shop reaches everybody.
func linked(ctx context.Context, nodes []*node.Node) bool {
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for len(nodes[0].Peers()) < len(nodes)-1 {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return false
		}
	}
	return true
}

// handlers answer the demo's commands in this process.
func handlers(worker, variant string) map[string]handler.Handler {
	answer := func(shortest, longest time.Duration, result func() any) handler.Handler {
		return handler.Func(func(ctx context.Context, _ *handler.Request) (json.RawMessage, error) {
			select {
			case <-time.After(shortest + rand.N(longest-shortest)):
				return json.Marshal(result())
			case <-ctx.Done():
				return nil, ctx.Err()
			}
		})
	}
	switch worker {
	case "billing":
		return map[string]handler.Handler{
			"quote":  answer(2*time.Millisecond, 20*time.Millisecond, func() any { return map[string]any{"cents": 100 + rand.IntN(9900), "by": variant} }),
			"charge": charge(variant),
			"totals": answer(5*time.Millisecond, 30*time.Millisecond, func() any { return map[string]any{"charged": rand.IntN(1000)} }),
		}
	case "mailer":
		return map[string]handler.Handler{
			"send":    answer(20*time.Millisecond, 60*time.Millisecond, func() any { return nil }),
			"refresh": answer(time.Millisecond, 3*time.Millisecond, func() any { return nil }),
		}
	}
	return nil
}

// charge fails every third time, and every fifth time is too slow for its caller.
func charge(variant string) handler.Handler {
	var count atomic.Uint64
	return handler.Func(func(ctx context.Context, _ *handler.Request) (json.RawMessage, error) {
		took := 5*time.Millisecond + rand.N(40*time.Millisecond)
		switch n := count.Add(1); {
		case n%3 == 0:
			return nil, errors.New("card declined")
		case n%5 == 0:
			took = time.Second
		}
		select {
		case <-time.After(took):
			return json.Marshal(map[string]any{"paid": true, "by": variant})
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	})
}

// talk has the nodes call each other, one call of each kind after another.
func talk(ctx context.Context, nodes []*node.Node, out Output) error {
	shop, mailer := nodes[0], nodes[3]
	order := 0
	steps := []func() Call{
		func() Call {
			return call(ctx, shop, "balanced", "billing.quote", map[string]any{"items": 1 + order%5}, 0)
		},
		func() Call {
			return call(ctx, shop, "balanced", "billing.charge", map[string]any{"order": order}, 300*time.Millisecond)
		},
		func() Call { return call(ctx, shop, "broadcast", "billing.totals", nil, 0) },
		func() Call {
			return call(ctx, shop, "queued", "mailer.send", map[string]any{"order": order, "to": "ann@example.org"}, 0)
		},
		func() Call { return call(ctx, shop, "fire and forget", "mailer.refresh", nil, 0) },
		func() Call { return call(ctx, mailer, "balanced", "shop.status", nil, 0) },
	}
	tick := time.NewTicker(250 * time.Millisecond)
	defer tick.Stop()
	for i := 0; ; i++ {
		if i%len(steps) == 0 {
			order++
		}
		c := steps[i%len(steps)]()
		if ctx.Err() != nil {
			return nil // the end of the demo is no failure of its last call
		}
		out.Called(c)
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
	}
}

func call(ctx context.Context, from *node.Node, kind, target string, payload any, timeout time.Duration) Call {
	text, err := json.Marshal(payload)
	if err != nil {
		return Call{From: from.Name(), Kind: kind, Err: fmt.Errorf("encode the payload: %w", err)}
	}
	result, err := from.Call(ctx, target, text, node.CallOptions{Timeout: timeout})
	return Call{From: from.Name(), Kind: kind, Result: result, Err: err}
}
