package node_test

import (
	"context"
	"encoding/json"
	"sync/atomic"
	"testing"
	"time"

	"github.com/meshctl/meshctl/internal/mesh/meshtest"
	"github.com/meshctl/meshctl/internal/mesh/node"
	"github.com/meshctl/meshctl/internal/mesh/wire"
)

// An operator that stays calls on while its master is away, for longer than it goes by one list
// of nodes; and when a master is back it hears from it who has come.
func TestOperatorOutlivesItsMaster(t *testing.T) { eachLink(t, testOperatorOutlivesItsMaster) }

func testOperatorOutlivesItsMaster(t *testing.T, m *meshtest.Mesh) {
	b1 := m.Join("billing", "b1", billing("b1"))
	op := m.Operator()
	must := func(name string) *node.Result {
		t.Helper()
		r, err := op.Call(context.Background(), name, json.RawMessage(`{}`), node.CallOptions{Timeout: 20 * time.Second})
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		return r
	}
	must("billing.who")
	m.Master.Stop()
	for began := time.Now(); time.Since(began) < 2500*time.Millisecond; time.Sleep(10 * time.Millisecond) {
		must("billing.who")
	}
	must("billing.all") // a broadcast
	if _, err := op.Call(context.Background(), "mailer.send", nil, node.CallOptions{Timeout: 500 * time.Millisecond}); wire.CodeOf(err) != wire.CodeUnreachable {
		t.Errorf("call of a worker that was never there: %v", err)
	}

	m.Master = m.StartMaster(portOf(m.Addr))
	b2 := m.Join("billing", "b2", billing("b2"))
	meshtest.WaitFor(t, func() bool { return b1.Ready() && b2.Ready() }, func() string { return "the nodes to be there" })
	nodes, err := op.Nodes(context.Background())
	if err != nil || len(nodes) != 2 {
		t.Fatalf("the master lists %v, %v", nodes, err)
	}
	meshtest.WaitFor(t, func() bool { return must("billing.who").Replies[0].Variant == "b2" }, func() string { return "a call to go to the new one" })
}

// What needs a master waits for one, and says why there is none when its time is over; Close
// ends the search.
func TestOperatorWithoutMaster(t *testing.T) {
	m := meshtest.New(t, shop)
	op := m.Operator()
	m.Master.Stop()
	var waited atomic.Bool
	meshtest.WaitFor(t, func() bool {
		ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
		defer cancel()
		_, err := op.Nodes(ctx)
		waited.Store(ctx.Err() != nil)
		return wire.CodeOf(err) == wire.CodeUnreachable // peer_lost is one that was under way
	}, func() string { return "a list without a master to fail" })
	if !waited.Load() {
		t.Error("nobody waited for a master")
	}
	failed := make(chan error)
	go func() {
		_, err := op.Nodes(context.Background())
		failed <- err
	}()
	op.Close()
	if err := meshtest.Await(t, failed, "the list to end"); wire.CodeOf(err) != wire.CodeCanceled {
		t.Errorf("a list of a closed operator: %v", err)
	}
}
