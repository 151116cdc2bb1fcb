package node_test

import (
	"context"
	"encoding/json"
	"testing"
	"time"

	"github.com/meshctl/meshctl/internal/mesh/handler"
	"github.com/meshctl/meshctl/internal/mesh/meshtest"
	"github.com/meshctl/meshctl/internal/mesh/node"
	"github.com/meshctl/meshctl/internal/mesh/wire"
)

// What a caller asked for ends with its link, as if it had given up: no response can reach it any
// more. What nobody waits for goes on.
func TestRequestsEndWithTheirCaller(t *testing.T) {
	t.Parallel()
	m := meshtest.New(t, ringSchema)
	began, ended := make(chan string, 2), make(chan string, 2)
	n := m.Join("worker", "a", func(c *node.Config) {
		c.Handlers = map[string]handler.Handler{"echo": handler.Func(func(ctx context.Context, r *handler.Request) (json.RawMessage, error) {
			began <- r.UID
			<-ctx.Done()
			ended <- r.UID
			return nil, ctx.Err()
		})}
	})
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	l := linkAs(t, ctx, m, n, "caller", 1)
	for _, cmd := range []wire.Command{
		{Name: "echo", Payload: json.RawMessage(`{}`)},
		{UID: "u", Number: 1, Name: "echo", Payload: json.RawMessage(`{}`), Meta: &wire.CommandMeta{TimeoutMS: 600_000}},
	} {
		if err := l.Send(wire.CommandMessage(cmd)); err != nil {
			t.Fatal(err)
		}
	}
	for range 2 {
		meshtest.Await(t, began, "a request to begin")
	}
	l.Close(nil)
	if uid := meshtest.Await(t, ended, "the request to end"); uid != "u" {
		t.Errorf("%q ended", uid)
	}
	meshtest.WaitFor(t, func() bool { return n.Status().InFlight == 1 }, func() string { return "one request to be left" })
	select {
	case uid := <-ended:
		t.Errorf("%q ended, which nobody waits for", uid)
	default:
	}
}
