package node_test

import (
	"context"
	"encoding/json"
	"testing"
	"time"

	"github.com/meshctl/meshctl/internal/mesh/handler"
	"github.com/meshctl/meshctl/internal/mesh/meshtest"
	"github.com/meshctl/meshctl/internal/mesh/node"
)

// BenchmarkInFlight is what it costs to find the oldest of 100,000 requests under way, as
// each report does.
func BenchmarkInFlight(b *testing.B) {
	m := meshtest.New(b, shop)
	m.Join("billing", "b1", func(c *node.Config) {
		c.Logger, c.MaxInFlight = nil, 1<<20
		c.Handlers = map[string]handler.Handler{"slow": handler.Func(func(ctx context.Context, _ *handler.Request) (json.RawMessage, error) {
			<-ctx.Done()
			return nil, ctx.Err()
		})}
	})
	s := m.Join("shop", "s1", func(c *node.Config) { c.Logger = nil })
	meshtest.AwaitPeers(b, s, "billing/b1")
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	const many = 100_000
	for range many {
		go func() { _, _ = s.Call(ctx, "billing.slow", nil, node.CallOptions{Timeout: time.Hour}) }()
	}
	total := 0
	for deadline := time.Now().Add(30 * time.Second); total < many && time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		_, total = node.InFlight(s.Node, 200)
	}
	b.ReportAllocs()
	b.ResetTimer()
	for b.Loop() {
		_, total = node.InFlight(s.Node, 200)
	}
	b.ReportMetric(float64(total), "in-flight")
}
