package node_test

import (
	"context"
	"encoding/json"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/meshctl/meshctl/internal/mesh/meshtest"
	"github.com/meshctl/meshctl/internal/mesh/node"
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
	for i := 0; i < 10 && ctx.Err() == nil; i++ {
		name := fmt.Sprintf("b%d", i)
		b := m.Join("billing", name, billing(name))
		meshtest.AwaitPeers(t, s, "billing/"+name, "billing/stays")
		if err := b.Stop(); err != nil {
			t.Error(err)
		}
		meshtest.AwaitPeers(t, s, "billing/stays")
	}
	cancel()
	wg.Wait()
}
