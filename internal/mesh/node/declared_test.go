package node_test

import (
	"context"
	"encoding/json"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/meshctl/meshctl/internal/mesh/link"
	"github.com/meshctl/meshctl/internal/mesh/link/native"
	"github.com/meshctl/meshctl/internal/mesh/meshtest"
	"github.com/meshctl/meshctl/internal/mesh/node"
	"github.com/meshctl/meshctl/internal/mesh/wire"
)

// linkAs opens a native link to a node as an instance of variant x of a worker, and declares that.
func linkAs(t *testing.T, ctx context.Context, m *meshtest.Mesh, to *meshtest.Node, worker string, instance int) link.Link {
	t.Helper()
	l, err := native.Dial(ctx, to.Addr().String(), native.Config{Key: m.Ring.Used(), Hello: native.Hello{Name: worker + "/x"}, Handshake: 30 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close(nil) })
	declare := fmt.Appendf(nil, `{"worker":%q,"variant":"x","meshctl":{"protocol":1,"instance":"x%d"}}`, worker, instance)
	if err := l.Send(wire.Message{Event: wire.EventDeclare, Body: declare}); err != nil {
		t.Fatal(err)
	}
	return l
}

// Whoever dials a node waits for its declared, and for nothing else: a request that came before it
// was lost, when links were moved to another key under calls.
func TestDeclaredComesFirst(t *testing.T) {
	t.Parallel()
	m := meshtest.New(t, ringSchema)
	c := m.Join("caller", "c")
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()

	var load sync.WaitGroup
	calling, stop := context.WithCancel(ctx)
	defer load.Wait()
	defer stop()
	for range 4 {
		load.Go(func() {
			for calling.Err() == nil {
				_, _ = c.Call(calling, "worker.all", json.RawMessage(`{}`), node.CallOptions{Timeout: time.Millisecond})
			}
		})
	}
	requests := 0
	for round := range 20 {
		l := linkAs(t, ctx, m, c, "worker", round)
		for first := true; ; first = false {
			msg, err := l.Receive(ctx)
			if err != nil {
				t.Fatal(err)
			}
			if first && msg.Event != wire.EventDeclared {
				t.Fatalf("link %d: the first message is %s", round, msg.Event)
			}
			if msg.Event == wire.EventCommand {
				requests++
				break
			}
		}
		l.Close(nil)
	}
	if requests != 20 {
		t.Errorf("%d links were sent requests, not all 20", requests)
	}
}
