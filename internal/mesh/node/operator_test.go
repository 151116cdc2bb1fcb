package node_test

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/meshctl/meshctl/internal/mesh/meshtest"
	"github.com/meshctl/meshctl/internal/mesh/node"
)

// An operator remembers who is there for a second; no call may fail for that.
func TestOperatorFindsNodesThatItDoesNotRemember(t *testing.T) {
	m := meshtest.New(t, shop)
	first := m.Join("billing", "b1")
	op := m.Operator()
	call := func(want string) {
		t.Helper()
		result, err := op.Call(context.Background(), "billing.echo", nil, node.CallOptions{})
		if err != nil {
			t.Fatalf("call: %v", err)
		}
		if got := result.Replies[0].Variant; got != want {
			t.Errorf("%s answered, want %s", got, want)
		}
	}
	call("b1")
	if err := first.Stop(); err != nil {
		t.Fatal(err)
	}
	m.Join("billing", "b2")
	call("b2")
	result, err := op.Call(context.Background(), "billing.all", nil, node.CallOptions{})
	if err != nil || len(result.Replies) != 1 || result.Replies[0].Variant != "b2" {
		t.Errorf("a broadcast reached %+v, %v", result, err)
	}
}

// Calls that begin at once share one link: a second one would end the first, and with
// it the calls on it.
func TestOperatorOpensOneLinkForManyCalls(t *testing.T) {
	eachLink(t, func(t *testing.T, m *meshtest.Mesh) {
		m.Join("billing", "b1")
		op := m.Operator()
		var calls sync.WaitGroup
		for range 50 {
			calls.Go(func() {
				if _, err := op.Call(context.Background(), "billing.echo", nil, node.CallOptions{Timeout: 30 * time.Second}); err != nil {
					t.Errorf("call: %v", err)
				}
			})
		}
		calls.Wait()
	})
}

// Nobody who waits for a link is cut off because another caller gave up.
func TestOperatorKeepsOpeningForOtherCallers(t *testing.T) {
	m := meshtest.New(t, shop)
	m.Join("billing", "b1")
	op := m.Operator()
	hasty, giveUp := context.WithCancel(context.Background())
	var calls sync.WaitGroup
	for range 10 {
		calls.Go(func() {
			_, _ = op.Call(hasty, "billing.echo", nil, node.CallOptions{})
		})
		calls.Go(func() {
			if _, err := op.Call(context.Background(), "billing.echo", nil, node.CallOptions{Timeout: 30 * time.Second}); err != nil {
				t.Errorf("call: %v", err)
			}
		})
	}
	giveUp()
	calls.Wait()
}
