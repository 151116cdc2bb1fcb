package node_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/meshctl/meshctl/internal/mesh/handler"
	"github.com/meshctl/meshctl/internal/mesh/inspect"
	"github.com/meshctl/meshctl/internal/mesh/meshtest"
	"github.com/meshctl/meshctl/internal/mesh/node"
	"github.com/meshctl/meshctl/internal/mesh/seal"
	"github.com/meshctl/meshctl/internal/mesh/wire"
)

// watching begins to watch, and hands out what is to be seen.
type watching struct {
	*node.Watcher
	t *testing.T
}

func watchMesh(t *testing.T, m *meshtest.Mesh) *watching {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	w, err := node.Watch(ctx, m.OperatorConfig())
	if err != nil {
		t.Fatalf("watch: %v", err)
	}
	t.Cleanup(func() { _ = w.Close() })
	return &watching{w, t}
}

// until takes updates until one is what is waited for.
func (w *watching) until(what string, is func(inspect.Update) bool) inspect.Update {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	for {
		u, err := w.Next(ctx)
		if err != nil {
			w.t.Fatalf("wait for %s: %v", what, err)
		}
		if u.At == 0 {
			w.t.Errorf("an update without a time: %+v", u)
		}
		if is(u) {
			return u
		}
	}
}

func (w *watching) untilNodes(names ...string) *inspect.Mesh {
	w.t.Helper()
	return w.until("the nodes "+strings.Join(names, " "), func(u inspect.Update) bool {
		if u.Mesh == nil {
			return false
		}
		var have []string
		for _, n := range u.Mesh.Nodes {
			have = append(have, n.Worker+"/"+n.Variant)
		}
		return slices.Equal(have, names)
	}).Mesh
}

func (w *watching) untilStatus(connected bool) inspect.Status {
	w.t.Helper()
	return *w.until(fmt.Sprint("connected: ", connected), func(u inspect.Update) bool {
		return u.Status != nil && u.Status.Connected == connected
	}).Status
}

// untilInFlight waits until a node reports a request of the command under way, other
// than a former one.
func (w *watching) untilInFlight(node, command, former string) inspect.Request {
	w.t.Helper()
	var found inspect.Request
	w.until(command+" in flight at "+node, func(u inspect.Update) bool {
		if u.Report == nil || u.Report.Node != node || u.Report.InFlight == nil {
			return false
		}
		for _, r := range u.Report.InFlight.Requests {
			if r.Command == command && r.UID != former {
				found = r
				return true
			}
		}
		return false
	})
	return found
}

// stuck ends with its context.
func stuck(started chan<- struct{}) handler.Handler {
	return handler.Func(func(ctx context.Context, _ *handler.Request) (json.RawMessage, error) {
		started <- struct{}{}
		<-ctx.Done()
		return nil, ctx.Err()
	})
}

func TestWatch(t *testing.T) {
	eachLink(t, func(t *testing.T, m *meshtest.Mesh) {
		caller := m.Join("shop", "s1")
		w := watchMesh(t, m)
		if s := w.untilStatus(true); s.Master != m.Addr {
			t.Errorf("watching %q, want %q", s.Master, m.Addr)
		}
		mesh := w.untilNodes("shop/s1")
		if len(mesh.Schema) == 0 || mesh.Version != "test" || mesh.Nodes[0].Kind != wire.KindMeshctl {
			t.Errorf("the first mesh is %+v", mesh)
		}

		// Nodes come and go; calls are seen at both ends, and canceled from outside.
		started := make(chan struct{}, 9)
		callee := m.Join("billing", "b1", func(c *node.Config) { c.Handlers = map[string]handler.Handler{"echo": stuck(started)} })
		w.untilNodes("billing/b1", "shop/s1")
		meshtest.WaitFor(t, func() bool { return len(caller.Peers()) > 0 }, func() string { return "a link" })
		former := ""
		for _, end := range []string{"billing/b1", "shop/s1"} {
			failed := make(chan error, 1)
			go func() {
				_, err := caller.Call(context.Background(), "billing.echo", nil, node.CallOptions{Timeout: 60 * time.Second})
				failed <- err
			}()
			meshtest.Await(t, started, "the call")
			r := w.untilInFlight(end, "billing.echo", former)
			former = r.UID
			if r.Caller != "shop/s1" || r.Target != "billing/b1" {
				t.Errorf("a request from %s to %s", r.Caller, r.Target)
			}
			if err := w.Cancel(context.Background(), end, r.UID); err != nil {
				t.Errorf("cancel at %s: %v", end, err)
			}
			if err := meshtest.Await(t, failed, "the call to end"); wire.CodeOf(err) != wire.CodeCanceled {
				t.Errorf("canceled at %s the call ended with %v", end, err)
			}
		}
		if err := w.Cancel(context.Background(), "billing/none", "u1"); wire.CodeOf(err) != wire.CodeNoVariant {
			t.Errorf("cancel at a node that is not there: %v", err)
		}
		if err := callee.Stop(); err != nil {
			t.Fatal(err)
		}
		w.untilNodes("shop/s1")
	})
}

// What the call form shows is what `meshctl call -o json` prints.
func TestWatcherCalls(t *testing.T) {
	m := meshtest.New(t, shop)
	m.Join("billing", "b1")
	w := watchMesh(t, m)
	call := func(target, payload string) string {
		t.Helper()
		text, err := w.Call(context.Background(), target, json.RawMessage(payload), 30*time.Second)
		if err != nil {
			t.Fatalf("call %s: %v", target, err)
		}
		return string(text)
	}
	if got := call("billing.echo", `{"a":1}`); got != `{"a":1}` {
		t.Errorf("balanced: %s", got)
	}
	if got := call("billing.all", `{}`); !strings.HasPrefix(got, `{"replies":[{"worker":"billing","variant":"b1","kind":"meshctl","elapsed_ms":`) {
		t.Errorf("broadcast: %s", got)
	}
	if _, err := w.Call(context.Background(), "billing.nothing", nil, time.Second); wire.CodeOf(err) != wire.CodeUnknownCommand {
		t.Errorf("an unknown command: %v", err)
	}
}

func TestWatchOutlivesTheMaster(t *testing.T) {
	m := meshtest.New(t, shop)
	n := m.Join("billing", "b1")
	w := watchMesh(t, m)
	w.untilNodes("billing/b1")
	port := m.Master.Addr().(*net.TCPAddr).Port
	m.Master.Stop()
	if s := w.untilStatus(false); s.Reason == "" || s.Master != m.Addr {
		t.Errorf("the lost master is told as %+v", s)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	if err := w.Cancel(ctx, "billing/b1", "u1"); wire.CodeOf(err) != wire.CodeUnreachable {
		t.Errorf("cancel without a master: %v", err)
	}
	m.StartMaster(port)
	w.untilStatus(true)
	named, full := false, false // in either order
	w.until("the node and its full report", func(u inspect.Update) bool {
		named = named || u.Mesh != nil && len(u.Mesh.Nodes) == 1
		full = full || u.Report != nil && u.Report.Full && u.Report.Node == n.Name()
		return named && full
	})
}

func TestNobodyObservesWhenTheWatcherLeaves(t *testing.T) {
	m := meshtest.New(t, shop)
	r := m.Dial(m.Addr)
	r.Say(wire.EventDeclare, `{"worker":"shop","port":1,"variant":"s1","meshctl":{"protocol":1}}`)
	r.Expect(wire.EventDeclared)
	w := watchMesh(t, m)
	r.Expect(wire.EventObserve)
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if got := r.Expect(wire.EventObserve); got != `{"on":false}` {
		t.Errorf("the node was told %s", got)
	}
	if _, err := w.Next(context.Background()); !errors.Is(err, io.EOF) {
		t.Errorf("next after close: %v", err)
	}
}

func TestWatchErrors(t *testing.T) {
	m := meshtest.New(t, shop)
	watch := func(change func(*node.Config)) wire.Code {
		t.Helper()
		cfg := m.OperatorConfig()
		change(&cfg)
		ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
		defer cancel()
		w, err := node.Watch(ctx, cfg)
		if err == nil {
			_ = w.Close()
		}
		return wire.CodeOf(err)
	}
	for range 32 {
		watchMesh(t, m)
	}
	if got := watch(func(*node.Config) {}); got != wire.CodeOverloaded {
		t.Errorf("the 33rd watcher: %q", got)
	}
	if got := watch(func(c *node.Config) { c.Master = "127.0.0.1:1" }); got != wire.CodeUnreachable {
		t.Errorf("no master: %q", got)
	}
	if got := watch(func(c *node.Config) {
		c.Ring, c.Keys = nil, seal.Keys{Public: "other public key", Private: "other private key"}
	}); got != wire.CodeKeyMismatch {
		t.Errorf("other keys: %q", got)
	}
	// A JavaScript master refuses operators without a code.
	port := m.Serve(func(r *meshtest.Raw) {
		r.Hears(wire.EventDeclare)
		r.Tells(wire.EventError, `{"message":"@operator is not defined in the Schema"}`)
	})
	if got := watch(func(c *node.Config) { c.Master = fmt.Sprint("127.0.0.1:", port); c.Schema = m.Schema }); got != wire.CodeDenied {
		t.Errorf("a JavaScript master: %q", got)
	}
}
