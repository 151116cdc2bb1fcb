package node_test

import (
	"context"
	"log/slog"
	"sync/atomic"
	"testing"

	"github.com/meshctl/meshctl/internal/mesh/meshtest"
	"github.com/meshctl/meshctl/internal/mesh/node"
)

// onConnected is a log that calls what it has when a peer is connected.
type onConnected struct {
	slog.Handler
	call *atomic.Pointer[func()]
}

func (h onConnected) Handle(ctx context.Context, r slog.Record) error {
	if f := h.call.Load(); f != nil && r.Message == "connected" {
		(*f)()
	}
	return h.Handler.Handle(ctx, r)
}

func (h onConnected) WithAttrs(attrs []slog.Attr) slog.Handler {
	return onConnected{h.Handler.WithAttrs(attrs), h.call}
}

// A link that calls may be sent over stays when the master says, in the same moment, that the node at its other
// end leaves: it ends what it is asked before, and calls were lost with the link.
func TestLinkInUseStays(t *testing.T) { eachLink(t, testLinkInUseStays) }

func testLinkInUseStays(t *testing.T, m *meshtest.Mesh) {
	var connected atomic.Pointer[func()]
	s := m.Join("shop", "s1", func(c *node.Config) { c.Logger = slog.New(onConnected{c.Logger.Handler(), &connected}) })
	unwanted := func() { node.Unwanted(s.Node, "billing", "b1") }
	connected.Store(&unwanted)
	m.Join("billing", "b1", billing("b1"))
	meshtest.AwaitPeers(t, s, "billing/b1")
	before := node.LinkIDs(s.Node)
	for range 20 {
		if result, err := call(t, s, "billing.who", `{}`, node.CallOptions{}); err != nil {
			t.Fatalf("%+v, %v", result, err)
		}
	}
	if after := node.LinkIDs(s.Node); len(before) != 1 || len(after) != 1 || after[0] != before[0] {
		t.Errorf("links %v became %v", before, after)
	}
}
