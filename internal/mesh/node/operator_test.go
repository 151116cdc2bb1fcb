package node_test

import (
	"context"
	"testing"

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
