package node_test

import (
	"context"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/meshctl/meshctl/internal/mesh/handler"
	"github.com/meshctl/meshctl/internal/mesh/meshtest"
	"github.com/meshctl/meshctl/internal/mesh/node"
	"github.com/meshctl/meshctl/internal/mesh/wire"
)

// answering has a node answer a command of its worker with f.
func answering(command string, f func(*handler.Request) (json.RawMessage, error)) meshtest.Option {
	return func(c *node.Config) {
		c.Handlers = map[string]handler.Handler{command: handler.Func(func(_ context.Context, r *handler.Request) (json.RawMessage, error) { return f(r) })}
	}
}

// A caller who asks for more at once than fits into the link learns of each request what came of
// it, and does not wait for its time-out.
func TestResultsThatDoNotFitAreFailures(t *testing.T) {
	t.Parallel()
	m := meshtest.New(t, ringSchema)
	big := json.RawMessage(`"` + strings.Repeat("x", 1_000_000) + `"`)
	n := m.Join("worker", "a", answering("echo", func(*handler.Request) (json.RawMessage, error) { return big, nil }))
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	l := linkAs(t, ctx, m, n, "caller", 1)
	if msg, err := l.Receive(ctx); err != nil || msg.Event != wire.EventDeclared {
		t.Fatalf("%s, %v", msg.Event, err)
	}

	const requests = 80 // more than the 32 MiB that wait, and what is on the way
	for i := range requests {
		cmd := wire.Command{UID: "u", Number: uint64(i + 1), Name: "echo", Payload: json.RawMessage(`{}`), Meta: &wire.CommandMeta{TimeoutMS: 60_000}}
		if err := l.Send(wire.CommandMessage(cmd)); err != nil {
			t.Fatal(err)
		}
	}
	meshtest.WaitFor(t, func() bool { s := n.Status(); return s.Served == requests && s.InFlight == 0 }, func() string { return "all to be answered" })
	answered, failed := map[uint64]bool{}, 0
	for len(answered) < requests {
		msg, err := l.Receive(ctx)
		if err != nil {
			t.Fatalf("%d of %d were answered, %d of those with a failure: %v", len(answered), requests, failed, err)
		}
		if r := msg.Response; r != nil {
			answered[r.Number] = true
			if r.Err != nil {
				if failed++; r.Err.Code != wire.CodeOverloaded || r.Err.Temporary { // it ran
					t.Errorf("the failure is %+v", r.Err)
				}
			}
		}
	}
	if failed == 0 {
		t.Error("all fitted, so that this has shown nothing")
	}
}

// A payload that whoever receives it refuses is refused at this end, also where nobody waits who could
// be told.
func TestPayloadsThatWouldBeDropped(t *testing.T) {
	eachLink(t, func(t *testing.T, m *meshtest.Mesh) {
		m.Join("billing", "b1")
		s := m.Join("shop", "s1")
		meshtest.AwaitPeers(t, s, "billing/b1")
		deep := json.RawMessage(strings.Repeat("[", 64) + strings.Repeat("]", 64))
		for _, command := range []string{"billing.tell", "billing.echo"} {
			if _, err := s.Call(t.Context(), command, deep, node.CallOptions{Timeout: 30 * time.Second}); wire.CodeOf(err) != wire.CodeBadRequest {
				t.Errorf("%s: %v", command, err)
			}
		}
	})
}

// A request that crosses the drain of a node is refused, and goes elsewhere; one that nobody waits for
// cannot, as its sender has forgotten it: it is run.
func TestDrainingRunsWhatNobodyWaitsFor(t *testing.T) {
	t.Parallel()
	m := meshtest.New(t, ringSchema)
	began, release, told := make(chan struct{}, 1), make(chan struct{}), make(chan string, 2)
	n := m.Join("worker", "a", answering("echo", func(r *handler.Request) (json.RawMessage, error) {
		if string(r.Payload) == `"slow"` {
			began <- struct{}{}
			<-release
		}
		told <- string(r.Payload)
		return r.Payload, nil
	}))
	raw := m.Dial(n.Addr().String())
	raw.Say(wire.EventDeclare, `{"worker":"caller","variant":"x","meshctl":{"protocol":1,"instance":"x1"}}`)
	raw.Expect(wire.EventDeclared)
	raw.Say(wire.EventCommand, `{"uid":"a","echo":"slow","meshctl":{"timeout_ms":60000}}`)
	meshtest.Await(t, began, "the slow one to begin")
	stopped := make(chan error, 1)
	go func() { stopped <- n.Stop() }()
	raw.Expect(wire.EventDrain)

	raw.Say(wire.EventCommand, `{"echo":"crossing"}`)
	raw.Say(wire.EventCommand, `{"uid":"b","echo":"refused","meshctl":{"timeout_ms":60000}}`)
	if got := raw.Expect(wire.EventResponse); !strings.Contains(got, string(wire.CodeNoVariant)) {
		t.Errorf("a request that is waited for: %s", got)
	}
	if got := meshtest.Await(t, told, "the request that nobody waits for"); got != `"crossing"` {
		t.Errorf("ran %s", got)
	}
	close(release)
	if got := raw.Expect(wire.EventResponse); !strings.Contains(got, `"slow"`) {
		t.Errorf("the slow one: %s", got)
	}
	if err := meshtest.Await(t, stopped, "the node to end"); err != nil {
		t.Error(err)
	}
}
