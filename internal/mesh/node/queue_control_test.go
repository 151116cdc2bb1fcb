package node_test

import (
	"context"
	"encoding/json"
	"testing"

	"github.com/meshctl/meshctl/internal/mesh/handler"
	"github.com/meshctl/meshctl/internal/mesh/meshtest"
	"github.com/meshctl/meshctl/internal/mesh/node"
	"github.com/meshctl/meshctl/internal/mesh/wire"
)

// What lies in a queue is shown masked, by the master's schema and by the node's own, and
// only by nodes that were told to show payloads.
func TestQueuesMaskPayloads(t *testing.T) {
	t.Parallel()
	const file = `
shop: {_connect: anyNode}
billing: {_allow: anyNode, _commands: {_balanced: {charge: {responds: false, queued: true, x-sensitive: [`
	m := meshtest.New(t, file+"card]}}}}")
	end := make(chan struct{})
	defer close(end)
	blocking := func(c *node.Config) {
		c.Schema = meshtest.Parse(t, file+"pin]}}}}")
		c.Handlers = map[string]handler.Handler{"charge": handler.Func(func(ctx context.Context, _ *handler.Request) (json.RawMessage, error) {
			select {
			case <-end:
			case <-ctx.Done():
			}
			return nil, ctx.Err()
		})}
	}
	m.Join("billing", "open", blocking, func(c *node.Config) { c.InspectPayloads = true })
	m.Join("billing", "closed", blocking)
	op := m.Operator()
	nodes, err := op.Nodes(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range nodes {
		for range 2 { // one that runs and one that waits
			r, err := call(t, op, "billing.charge", `{"card":"4111","of":{"PIN":"0000"},"sum":7}`, node.CallOptions{Only: []string{n.Variant}})
			if err != nil || r.Replies[0].Err != nil {
				t.Fatal(err, r)
			}
		}
		reply, err := op.NodeQueues(t.Context(), n, wire.QueueRequest{Op: wire.QueuePeek, Command: "charge"})
		if err != nil || len(reply.Entries) == 0 {
			t.Fatalf("%s: %+v, %v", n.Variant, reply, err)
		}
		want := map[string]string{"open": `{"card":"***","of":{"PIN":"***"},"sum":7}`, "closed": ""}[n.Variant]
		for _, e := range reply.Entries {
			if string(e.Payload) != want {
				t.Errorf("%s shows %s, not %s", n.Variant, e.Payload, want)
			}
		}
	}
}
