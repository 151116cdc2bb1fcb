package node_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/meshctl/meshctl/internal/mesh/handler"
	"github.com/meshctl/meshctl/internal/mesh/link"
	"github.com/meshctl/meshctl/internal/mesh/meshtest"
	"github.com/meshctl/meshctl/internal/mesh/node"
	"github.com/meshctl/meshctl/internal/mesh/wire"
)

// TestSlowConsumer has a node that does not read: what waits for it is bounded and then
// refused, calls of others go on, nobody takes it for dead, and it gets all that was accepted.
func TestSlowConsumer(t *testing.T) {
	for try := 1; ; try++ {
		begun, err := slowConsumer(t)
		if err == nil {
			return
		}
		// A write ends after 10 s, so that is the time for all of this.
		if took := time.Since(begun); took < 8*time.Second || try == 5 {
			t.Fatal(err)
		} else {
			t.Logf("once more, as this machine took %s: %v", took, err)
		}
	}
}

// slowConsumer also says when the link began to fill.
func slowConsumer(t *testing.T) (begun time.Time, err error) {
	m := meshtest.New(t, shop)
	stuck, release := make(chan struct{}, 1), make(chan struct{})
	var got atomic.Int64
	m.Join("billing", "slow", func(c *node.Config) {
		// Answered where requests are read, which such a handler must not do.
		c.Handlers = map[string]handler.Handler{"tell": handler.Quick(func(context.Context, *handler.Request) (json.RawMessage, error) {
			got.Add(1)
			select {
			case stuck <- struct{}{}:
			default:
			}
			<-release
			return nil, nil
		})}
	})
	m.Join("billing", "b2")
	var lost atomic.Int64
	s := m.Join("shop", "s1", func(c *node.Config) {
		c.Hooks.OnDisconnection = func(wire.Peer) { lost.Add(1) }
	})
	meshtest.AwaitPeers(t, s, "billing/b2", "billing/slow")

	const size = 256 << 10
	payload := json.RawMessage(`"` + strings.Repeat("x", size-2) + `"`)
	only := func(v string) node.CallOptions {
		return node.CallOptions{Only: []string{v}, Timeout: 30 * time.Second}
	}
	accepted := int64(0)
	begun = time.Now()
	free := sync.OnceFunc(func() { close(release) })
	defer free()
	for {
		_, err := s.Call(context.Background(), "billing.tell", payload, only("slow"))
		if wire.CodeOf(err) == wire.CodeOverloaded {
			break
		}
		if err != nil {
			return begun, err
		}
		if accepted++; accepted*size > 128<<20 {
			t.Fatal("more than 128 MiB were accepted for a node that does not read")
		}
	}
	t.Logf("%d MiB accepted", accepted*size>>20)
	meshtest.Await(t, stuck, "the slow one")

	for calls := 0; calls < 50 || time.Since(begun) < link.HeartbeatLAN+time.Second; calls++ {
		if _, err := s.Call(context.Background(), "billing.echo", json.RawMessage(`1`), only("b2")); err != nil {
			return begun, fmt.Errorf("a call of another node: %w", err)
		}
		time.Sleep(5 * time.Millisecond)
	}
	if _, err := s.Call(context.Background(), "billing.tell", payload, only("slow")); wire.CodeOf(err) != wire.CodeOverloaded {
		return begun, fmt.Errorf("still slow: %w", err)
	}
	if lost.Load() != 0 {
		return begun, errors.New("the slow one was taken for dead")
	}
	free()
	meshtest.WaitFor(t, func() bool { return got.Load() == accepted || lost.Load() > 0 }, func() string { return "all that was accepted" })
	if n := got.Load(); n != accepted {
		return begun, fmt.Errorf("it got %d of %d", n, accepted)
	}
	return begun, nil
}
