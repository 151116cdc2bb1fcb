package node_test

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/meshctl/meshctl/internal/mesh/meshtest"
	"github.com/meshctl/meshctl/internal/mesh/node"
	"github.com/meshctl/meshctl/internal/mesh/wire"
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

// A master that has just started knows nobody yet: an operator waits a moment for the nodes
// that are on their way back to it, and not longer than its deadline.
func TestOperatorWaitsForAMasterThatSettles(t *testing.T) {
	m := meshtest.New(t, shop)
	op := m.Operator()
	result := make(chan error, 1)
	begun := time.Now()
	go func() {
		_, err := op.Call(context.Background(), "billing.echo", nil, node.CallOptions{Timeout: 30 * time.Second})
		result <- err
	}()
	select {
	case err := <-result:
		t.Fatalf("it did not wait: %v after %s", err, time.Since(begun))
	case <-time.After(100 * time.Millisecond):
	}
	m.Join("billing", "b1")
	if err := meshtest.Await(t, result, "the call to end"); err != nil {
		t.Error(err)
	}
	_, err := op.Call(context.Background(), "mailer.send", nil, node.CallOptions{Timeout: 300 * time.Millisecond})
	if wire.CodeOf(err) != wire.CodeNoVariant {
		t.Errorf("without anybody: %v", err)
	}
}
