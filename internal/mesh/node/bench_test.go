//go:build unix

package node_test

import (
	"context"
	"encoding/json"
	"fmt"
	"runtime"
	"syscall"
	"testing"
	"time"

	"github.com/meshctl/meshctl/internal/mesh/link"
	"github.com/meshctl/meshctl/internal/mesh/meshtest"
	"github.com/meshctl/meshctl/internal/mesh/node"
)

// BenchmarkCall is a call of 200 bytes and its response between two nodes in this
// process, over real sockets, by the kind of link and the number of calls in flight.
func BenchmarkCall(b *testing.B) {
	payload := json.RawMessage(fmt.Sprintf(`{"text":"%0189d"}`, 7))
	for _, mode := range []link.Mode{link.Auto, link.SocketIO} {
		for _, inFlight := range []int{1, 64, 256} {
			b.Run(fmt.Sprintf("%s/%d", mode, inFlight), func(b *testing.B) {
				m := meshtest.New(b, shop)
				m.Link = mode
				m.Join("billing", "b1", func(c *node.Config) { c.Logger = nil })
				s := m.Join("shop", "s1", func(c *node.Config) { c.Logger = nil })
				meshtest.AwaitPeers(b, s, "billing/b1")
				b.ReportAllocs()
				b.SetParallelism(max(1, inFlight/runtime.GOMAXPROCS(0)))
				before := cpuTime(b)
				defer func() { b.ReportMetric(float64(cpuTime(b)-before)/float64(b.N), "cpu-ns/op") }()
				if inFlight == 1 {
					b.ResetTimer()
					for b.Loop() {
						if _, err := s.Call(context.Background(), "billing.echo", payload, node.CallOptions{}); err != nil {
							b.Fatal(err)
						}
					}
					return
				}
				b.ResetTimer()
				b.RunParallel(func(pb *testing.PB) {
					for pb.Next() {
						if _, err := s.Call(context.Background(), "billing.echo", payload, node.CallOptions{}); err != nil {
							b.Error(err)
							return
						}
					}
				})
			})
		}
	}
}

// cpuTime is the processor time that this process has used. Unlike the time on the
// clock it says something on a machine that others use too.
func cpuTime(b *testing.B) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
