package node_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"testing"
	"time"

	"github.com/meshctl/meshctl/internal/mesh/handler"
	"github.com/meshctl/meshctl/internal/mesh/link"
	"github.com/meshctl/meshctl/internal/mesh/link/native"
	"github.com/meshctl/meshctl/internal/mesh/link/socketio"
	"github.com/meshctl/meshctl/internal/mesh/meshtest"
	"github.com/meshctl/meshctl/internal/mesh/node"
	"github.com/meshctl/meshctl/internal/mesh/seal"
	"github.com/meshctl/meshctl/internal/mesh/wire"
)

// A master does not answer a stranger. So a node asks it nothing before it was taken in, and says so
// at once.
func TestNothingIsAskedOfAMasterBeforeItAccepts(t *testing.T) {
	t.Parallel()
	m := meshtest.New(t, ringSchema)
	at, masters := pretendedMaster(t, m.Ring)
	n := m.Start("caller", "b", at)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	say, await, _ := talk(t, ctx)
	master := meshtest.Await(t, masters, "the node to declare itself")
	if _, err := n.Nodes(ctx); wire.CodeOf(err) != wire.CodeUnreachable {
		t.Errorf("asked before the master accepted: %v", err)
	}
	say(master, wire.EventDeclared, `{"worker":"caller","variant":"b","clientId":"c","meshctl":{"protocol":1,"native":true}}`)
	meshtest.Await(t, n.Connected(), "the node to be accepted")
	asked := make(chan struct{})
	go func() {
		defer close(asked)
		_, _ = n.Nodes(ctx)
	}()
	await(master, wire.EventCommand)
	cancel()
	<-asked
}

// A master that takes a node in while that is leaving is told so.
func TestDrainIsSaidToAMasterThatAcceptsLate(t *testing.T) {
	t.Parallel()
	m := meshtest.New(t, ringSchema)
	at, masters := pretendedMaster(t, m.Ring)
	began, release := make(chan struct{}), make(chan struct{})
	n := m.Start("worker", "a", at, answering("echo", func(*handler.Request) (json.RawMessage, error) { close(began); <-release; return nil, nil }))
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	say, await, _ := talk(t, ctx)
	master := meshtest.Await(t, masters, "the node to declare itself")

	meshtest.Await(t, n.Listening(), "the node to listen")
	raw := m.Dial(n.Addr().String())
	raw.Say(wire.EventDeclare, `{"worker":"caller","variant":"x","meshctl":{"protocol":1,"instance":"x1"}}`)
	raw.Expect(wire.EventDeclared)
	raw.Say(wire.EventCommand, `{"uid":"a","echo":{},"meshctl":{"timeout_ms":60000}}`)
	meshtest.Await(t, began, "a request that keeps the node")
	stopped := make(chan error, 1)
	go func() { stopped <- n.Stop() }()
	raw.Expect(wire.EventDrain)

	say(master, wire.EventDeclared, `{"worker":"worker","variant":"a","clientId":"c","meshctl":{"protocol":1,"native":true}}`)
	await(master, wire.EventDrain)
	close(release)
	if err := meshtest.Await(t, stopped, "the node to end"); err != nil {
		t.Error(err)
	}
}

// A link that stays while its node is lost to the master and named again moves to another key like
// all others.
func TestLinksOfNodesNamedAgainMoveToAnotherKey(t *testing.T) {
	t.Parallel()
	r := newRotation(t)
	b := r.m.Join("caller", "b")
	a := r.m.Join("worker", "a")
	meshtest.WaitFor(t, func() bool { return len(node.LinkIDs(b.Node)) == 2 }, func() string { return "links both ways" })
	first := node.Trying(b.Node, "worker", "a")
	cut := time.Now()
	node.CutUplink(a.Node)
	meshtest.WaitFor(t, func() bool {
		if first.Err() == nil && time.Since(cut) > 2*time.Second {
			cut = time.Now()
			node.CutUplink(a.Node) // it came back before its master had missed it
		}
		now := node.Trying(b.Node, "worker", "a")
		return first.Err() != nil && now != nil && now.Err() == nil
	}, func() string { return "worker/a to be named again" })

	r.add("caller/b", "worker/a")
	r.everybody(wire.KeyOrder{Op: wire.KeyUse, Fingerprint: r.new}, "caller/b", "worker/a")
	former := r.op
	r.op = r.operator(r.next)
	former.Close()
	r.awaitMoved("caller/b", "worker/a")
}

// Who goes back to the former key at once fails no call either that is under way on a link which lives on it.
func TestGoingBackToTheFormerKeyFailsNoCall(t *testing.T) {
	t.Parallel()
	r := newRotation(t)
	began, release := make(chan struct{}), make(chan struct{})
	b := r.m.Join("caller", "b")
	r.m.Join("worker", "a", answering("nap", func(*handler.Request) (json.RawMessage, error) {
		close(began)
		<-release
		return json.RawMessage(`"slept"`), nil
	}))
	meshtest.WaitFor(t, func() bool { return len(node.LinkIDs(b.Node)) == 2 }, func() string { return "links both ways" })
	slept := make(chan error, 1)
	go func() {
		_, err := b.Call(context.Background(), "worker.nap", json.RawMessage(`{}`), node.CallOptions{Timeout: 2 * time.Minute})
		slept <- err
	}()
	meshtest.Await(t, began, "the call to begin")

	r.add("caller/b", "worker/a")
	use := func(fingerprint string) {
		t.Helper()
		r.everybody(wire.KeyOrder{Op: wire.KeyUse, Fingerprint: fingerprint}, "caller/b", "worker/a")
		meshtest.WaitFor(t, func() bool {
			return len(node.NewestOn(b.Node, fingerprint)) == 2
		}, func() string { return "links both ways on " + fingerprint })
	}
	use(r.new)
	use(r.old)
	close(release)
	if err := meshtest.Await(t, slept, "the end of the call"); err != nil {
		t.Error(err)
	}
}

// pretendedMaster serves native links for a ring, and hands on those that declared themselves. Nodes that
// are started at it are as patient as it is.
func pretendedMaster(t *testing.T, ring *seal.Ring) (at meshtest.Option, declared <-chan link.Link) {
	t.Helper()
	const patient = 30 * time.Second
	links := make(chan link.Link, 4)
	accept := func(ctx context.Context, l link.Link) {
		l.Trust()
		if msg, err := l.Receive(ctx); err == nil && msg.Event == wire.EventDeclare {
			links <- l
		}
		select {
		case <-ctx.Done():
		case <-l.Done():
		}
	}
	door, err := native.NewServer(native.Config{Key: ring.Used(), Find: ring.ByID, Hello: native.Hello{Name: wire.MasterWorker}, Handshake: patient, Heartbeat: patient}, accept, socketio.Trust)
	if err != nil {
		t.Fatal(err)
	}
	s, err := socketio.New(socketio.Config{Ring: ring, Accept: accept, Fallback: door, DeclareTimeout: patient})
	if err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Serve(ctx, listener) }()
	t.Cleanup(func() {
		cancel()
		if err := meshtest.Await(t, done, "the pretended master to stop"); err != nil {
			t.Error(err)
		}
	})
	return func(c *node.Config) {
		c.Master, c.Heartbeat, c.DrainTimeout = listener.Addr().String(), patient, patient
	}, links
}

// talk is what a pretended master does: heard waits until all that it said before has been heard.
func talk(t *testing.T, ctx context.Context) (say func(l link.Link, event, body string), await func(l link.Link, event string), heard func(link.Link)) {
	say = func(l link.Link, event, body string) {
		t.Helper()
		if err := l.Send(wire.Message{Event: event, Body: []byte(body)}); err != nil {
			t.Fatal(err)
		}
	}
	await = func(l link.Link, event string) {
		t.Helper()
		for {
			if msg, err := l.Receive(ctx); err != nil {
				t.Fatalf("wait for %s: %v", event, err)
			} else if msg.Event == event {
				return
			}
		}
	}
	heard = func(l link.Link) {
		t.Helper()
		order := wire.Command{UID: "k", Number: 7, Name: wire.ControlKeys, Payload: json.RawMessage(`{"op":"list"}`)}
		if err := l.Send(wire.CommandMessage(order)); err != nil {
			t.Fatal(err)
		}
		await(l, wire.EventResponse)
	}
	return say, await, heard
}

// A node that restarted at its address may be linked to before the master says so: when it does, that
// link stays, with the requests on it.
func TestLinksToARestartedNodeStay(t *testing.T) {
	t.Parallel()
	m := meshtest.New(t, ringSchema)
	at, masters := pretendedMaster(t, m.Ring)
	n := m.Start("caller", "b", at)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	say, _, heard := talk(t, ctx)
	links := make(chan *meshtest.Raw, 4)
	port := m.Serve(func(r *meshtest.Raw) {
		if _, ok := r.Hears(wire.EventDeclare); ok && r.Tells(wire.EventDeclared, `{"worker":"worker","variant":"x","meshctl":{"protocol":1,"name":"worker/x","instance":"second"}}`) {
			links <- r
		}
	})
	named := func(instance string) string {
		return fmt.Sprintf(`[{"worker":"worker","variant":"x","ip":"127.0.0.1","port":%d,"meshctl":{"protocol":1,"instance":%q}}]`, port, instance)
	}
	master := meshtest.Await(t, masters, "the node to declare itself")
	say(master, wire.EventDeclared, `{"worker":"caller","variant":"b","clientId":"c","meshctl":{"protocol":1,"native":true}}`)
	say(master, wire.EventAddNode, named("first"))
	first := meshtest.Await(t, links, "a link")
	meshtest.AwaitPeers(t, n, "worker/x")

	say(master, wire.EventRemoveNode, `{"worker":"worker","variant":"x"}`)
	say(master, wire.EventAddNode, named("second"))
	heard(master)
	select {
	case <-links:
		t.Error("it was dialled once more, which ends the first link and fails what is under way on it")
	case <-first.Done():
		t.Errorf("the first link ended: %v", first.Err())
	case <-time.After(300 * time.Millisecond): // it would be at once
	}
	if trying := node.Trying(n.Node, "worker", "x"); trying == nil || trying.Err() != nil {
		t.Error("it is not dialled again when the link ends")
	}
	say(master, wire.EventAddNode, named("third"))
	meshtest.Await(t, links, "a link to yet another instance")
}

// What a master said of the mesh over a link that a node moved away from, and which comes late, does not
// undo what it says over the new one.
func TestNewsOverAFormerLinkIsOld(t *testing.T) {
	t.Parallel()
	m := meshtest.New(t, ringSchema)
	next := seal.Keys{Public: "next public", Private: "next private"}
	at, links := pretendedMaster(t, newRing(t, meshtest.Keys, next))
	ring := newRing(t, meshtest.Keys)
	n := m.Start("caller", "b", at, func(c *node.Config) { c.Ring = ring })
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	say, await, heard := talk(t, ctx)
	const (
		declared = `{"worker":"caller","variant":"b","clientId":"c","meshctl":{"protocol":1,"native":true}}`
		x        = `{"worker":"worker","variant":"x","ip":"127.0.0.1","port":1,"meshctl":{"protocol":1}}`
	)
	former := meshtest.Await(t, links, "the node to declare itself")
	say(former, wire.EventDeclared, declared)
	say(former, wire.EventAddNode, "["+x+"]")
	heard(former)
	asked := make(chan struct{})
	go func() { // so that the link is not closed for want of use
		defer close(asked)
		_, _ = n.Nodes(ctx)
	}()
	await(former, wire.EventCommand)

	if _, err := ring.Add(next); err != nil {
		t.Fatal(err)
	}
	if err := ring.Use(next.Fingerprint()); err != nil {
		t.Fatal(err)
	}
	now := meshtest.Await(t, links, "the node to move to the other key")
	say(now, wire.EventDeclared, declared)
	say(now, wire.EventAddNode, "["+x+"]")
	heard(now)
	say(former, wire.EventRemoveNode, `{"worker":"worker","variant":"x"}`)
	heard(former)
	if trying := node.Trying(n.Node, "worker", "x"); trying == nil || trying.Err() != nil {
		t.Error("the node does not dial whom the master named")
	}
	cancel()
	<-asked
}
