//go:build !race

package node_test

import (
	"context"
	"encoding/json"
	"fmt"
	"testing"

	"github.com/meshctl/meshctl/internal/mesh/meshtest"
	"github.com/meshctl/meshctl/internal/mesh/node"
)

// Allocations of a call must not grow: of both ends, one call at a time, so that what calls
// in one frame share counts in full. The race detector adds its own.
func TestAllocations(t *testing.T) {
	m := meshtest.New(t, shop)
	m.Join("billing", "b1")
	s := m.Join("shop", "s1")
	meshtest.AwaitPeers(t, s, "billing/b1")
	payload := json.RawMessage(fmt.Sprintf(`{"text":"%0189d"}`, 7))
	const ceiling = 15
	n := testing.AllocsPerRun(2000, func() {
		if _, err := s.Call(context.Background(), "billing.echo", payload, node.CallOptions{}); err != nil {
			t.Fatal(err)
		}
	})
	if t.Logf("%.1f allocations", n); n > ceiling {
		t.Errorf("%.1f allocations, at most %d are wanted", n, ceiling)
	}
}
