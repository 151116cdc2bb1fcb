package main

import (
	"context"
	"fmt"
	"slices"

	"golang.org/x/sync/errgroup"

	"github.com/meshctl/meshctl/internal/mesh/node"
)

const broadcastVariants = 50

// broadcast is the CPU of this process, which runs all of a mesh, in microseconds.
type broadcast struct {
	BroadcastCPU float64 `json:"broadcast_cpu_us"` // of one broadcast to all variants
	CallsCPU     float64 `json:"calls_cpu_us"`     // of one call to each variant, all in flight at once
}

// Ratio is what a broadcast costs of as many calls.
func (b broadcast) Ratio() float64 { return b.BroadcastCPU / b.CallsCPU }

// measureBroadcast gives medians of rounds, which alternate.
func measureBroadcast(ctx context.Context, rounds int) (*broadcast, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	addr, err := startMaster(ctx, false)
	if err != nil {
		return nil, err
	}
	var g errgroup.Group
	g.SetLimit(4)
	for i := range broadcastVariants {
		g.Go(func() error {
			_, err := startNode(ctx, node.Config{Worker: "echo", Variant: fmt.Sprintf("echo-%d", i), Master: addr})
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	n, err := startNode(ctx, node.Config{Worker: "caller", Variant: "caller-1", Master: addr})
	if err != nil {
		return nil, err
	}
	if err := linked(n, broadcastVariants); err != nil {
		return nil, err
	}
	payload := payloadOf(200)
	all := func() error {
		r, err := n.Call(ctx, "echo.all", payload, node.CallOptions{})
		if err != nil {
			return err
		}
		for _, reply := range r.Replies {
			if reply.Err != nil {
				return reply.Err
			}
		}
		if len(r.Replies) != broadcastVariants {
			return fmt.Errorf("%d replies", len(r.Replies))
		}
		return nil
	}
	each := func() error {
		var g errgroup.Group
		for range broadcastVariants {
			g.Go(func() error {
				_, err := n.Call(ctx, "echo.echo", payload, node.CallOptions{})
				return err
			})
		}
		return g.Wait()
	}
	var broadcasts, calls []float64
	const times = 300
	for range max(rounds, 3) {
		for _, kind := range []struct {
			do   func() error
			into *[]float64
		}{{all, &broadcasts}, {each, &calls}} {
			before, err := used()
			if err != nil {
				return nil, err
			}
			for range times {
				if err := kind.do(); err != nil {
					return nil, err
				}
			}
			after, err := used()
			if err != nil {
				return nil, err
			}
			*kind.into = append(*kind.into, (after.CPU-before.CPU)/times)
		}
	}
	return &broadcast{median(broadcasts), median(calls)}, nil
}

func median(values []float64) float64 {
	sorted := slices.Sorted(slices.Values(values))
	if len(sorted)%2 == 1 {
		return sorted[len(sorted)/2]
	}
	return (sorted[len(sorted)/2-1] + sorted[len(sorted)/2]) / 2
}
