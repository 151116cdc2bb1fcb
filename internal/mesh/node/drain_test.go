package node_test

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/meshctl/meshctl/internal/mesh/link"
	"github.com/meshctl/meshctl/internal/mesh/meshtest"
	"github.com/meshctl/meshctl/internal/mesh/node"
	"github.com/meshctl/meshctl/internal/mesh/wire"
)

// Calls go on without a failure while variants come and leave in order: what was sent to one
// before its caller heard that it leaves is refused, and goes elsewhere.
func TestLeavingFailsNoCalls(t *testing.T) { eachLink(t, testLeavingFailsNoCalls) }

func testLeavingFailsNoCalls(t *testing.T, m *meshtest.Mesh) {
	m.Join("billing", "stays", billing("stays"))
	s := m.Join("shop", "s1")
	meshtest.AwaitPeers(t, s, "billing/stays")
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for ctx.Err() == nil {
				if _, err := s.Call(context.Background(), "billing.who", json.RawMessage(`{}`), node.CallOptions{Timeout: 20 * time.Second}); err != nil {
					t.Errorf("call: %v", err)
					cancel()
				}
			}
		})
	}
	// What crosses the end of a Socket.IO link is lost: on a busy machine it takes longer than usual until a caller
	// has heard that a node leaves, and links have to stay for as long.
	patient := func(c *node.Config) {
		if m.Link != link.Auto || m.Each != nil {
			c.Heartbeat = 30 * time.Second
		}
	}
	for i := 0; i < 10 && ctx.Err() == nil; i++ {
		name := fmt.Sprintf("b%d", i)
		b := m.Join("billing", name, billing(name), patient)
		meshtest.AwaitPeers(t, s, "billing/"+name, "billing/stays")
		if err := b.Stop(); err != nil {
			t.Error(err)
		}
		meshtest.AwaitPeers(t, s, "billing/stays")
	}
	cancel()
	wg.Wait()
}

// What a node that leaves has not taken up goes elsewhere, however late it came; what a node that was cut off has
// not answered may have run there.
func TestWhatWasNotTakenUpGoesElsewhere(t *testing.T) {
	t.Parallel()
	m := meshtest.New(t, ringSchema)
	c := m.Join("caller", "c")
	m.Join("worker", "b")
	meshtest.AwaitPeers(t, c, "worker/b")
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for i, leaves := range []struct {
		reason error
		want   wire.Code
	}{{link.ErrDrained, ""}, {nil, wire.CodePeerLost}} {
		l := linkAs(t, ctx, m, c, "worker", i)
		meshtest.AwaitPeers(t, c, "worker/b", "worker/x")
		asked := make(chan error, 2)
		for range 2 { // one each
			go func() {
				_, err := c.Call(ctx, "worker.echo", json.RawMessage(`{}`), node.CallOptions{})
				asked <- err
			}()
		}
		for {
			if msg, err := l.Receive(ctx); err != nil {
				t.Fatal(err)
			} else if msg.Event == wire.EventCommand {
				break
			}
		}
		l.Close(leaves.reason)
		var codes []string
		for range 2 {
			codes = append(codes, string(wire.CodeOf(meshtest.Await(t, asked, "a call"))))
		}
		if slices.Sort(codes); codes[0] != "" || codes[1] != string(leaves.want) {
			t.Errorf("after %v calls ended with %q", leaves.reason, codes)
		}
		meshtest.AwaitPeers(t, c, "worker/b")
	}
}
