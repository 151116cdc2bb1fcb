package node_test

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/meshctl/meshctl/internal/mesh/link/native"
	"github.com/meshctl/meshctl/internal/mesh/meshtest"
	"github.com/meshctl/meshctl/internal/mesh/node"
	"github.com/meshctl/meshctl/internal/mesh/seal"
	"github.com/meshctl/meshctl/internal/mesh/wire"
)

// Orders about keys count only from operators, over native links.
func TestKeyOrdersOfOthers(t *testing.T) {
	t.Parallel()
	r := newRotation(t)
	n := r.m.Join("worker", "a")
	r.add("worker/a")
	before := [][]string{r.ring("").Fingerprints(), r.ring("worker/a").Fingerprints()}
	use := fmt.Sprintf(`{"op":"use","fingerprint":%q}`, r.new)
	useAt := fmt.Sprintf(`{"op":"use","fingerprint":%q,"peer":"worker/a"}`, r.new)
	r.m.Ring = newRing(t, meshtest.Keys)

	declares := map[string]string{
		"nobody":              "",
		"a JavaScript node":   `{"worker":"caller","variant":"x","port":1}`,
		"a node":              `{"worker":"caller","variant":"y","port":1,"meshctl":{"protocol":1,"instance":"y"}}`,
		"an operator":         `{"worker":"@operator","variant":"z","meshctl":{"protocol":1}}`,
		"the operator, again": `{"worker":"@operator","variant":"z","meshctl":{"protocol":1}}`,
	}
	for who, declare := range declares {
		for _, at := range []string{r.m.Addr, n.Addr().String()} {
			raw := r.m.Dial(at)
			if declare != "" {
				raw.Say(wire.EventDeclare, declare)
			}
			raw.Say(wire.EventCommand, `{"uid":"1","mesh.keys":`+use+`}`)
			raw.Say(wire.EventCommand, `{"uid":"2","mesh.keys":`+useAt+`}`)
			if strings.HasPrefix(declare, `{"worker":"@operator"`) || strings.Contains(declare, "instance") {
				if text := raw.Expect(wire.EventResponse); !strings.Contains(text, "denied") && !strings.Contains(text, "unknown_command") {
					t.Errorf("%s was answered %s", who, text)
				}
			} else {
				raw.Silent(wire.EventResponse, 200*time.Millisecond)
			}
			raw.Close(nil)
		}
	}
	// A node, over a native link.
	key, err := seal.NewKey(meshtest.Keys)
	if err != nil {
		t.Fatal(err)
	}
	l, err := native.Dial(t.Context(), r.m.Addr, native.Config{Key: key, Hello: native.Hello{Name: "caller/x"}, Handshake: 30 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close(nil)
	for _, m := range []wire.Message{
		{Event: wire.EventDeclare, Body: []byte(`{"worker":"caller","variant":"x","port":1,"meshctl":{"protocol":1,"instance":"x"}}`)},
		wire.CommandMessage(wire.Command{UID: "1", Number: 1, Name: wire.ControlKeys, Payload: json.RawMessage(useAt)}),
	} {
		if err := l.Send(m); err != nil {
			t.Fatal(err)
		}
	}
	receiving, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	for {
		msg, err := l.Receive(receiving)
		if err != nil {
			t.Fatal(err)
		}
		if msg.Event == wire.EventResponse {
			if answer, err := msg.AsResponse(); err != nil || answer.Err == nil || answer.Err.Code != wire.CodeDenied {
				t.Errorf("a node was answered %+v, %v", answer, err)
			}
			break
		}
	}
	if after := [][]string{r.ring("").Fingerprints(), r.ring("worker/a").Fingerprints()}; !slices.EqualFunc(before, after, slices.Equal) {
		t.Errorf("the keys became %v, were %v", after, before)
	}
}

// Orders that make no sense change nothing, and the operator is told.
func TestBadKeyOrders(t *testing.T) {
	t.Parallel()
	r := newRotation(t)
	r.m.Join("worker", "a")
	for name, o := range map[string]wire.KeyOrder{
		"unknown key":        {Op: wire.KeyUse, Fingerprint: "0123456789ab"},
		"nonsense":           {Op: "rotate", Fingerprint: r.new},
		"corrupted":          {Op: wire.KeyAdd, Fingerprint: r.new, Public: r.next.Public, Private: r.next.Private + "x"},
		"oversized":          {Op: wire.KeyAdd, Fingerprint: r.new, Public: r.next.Public, Private: strings.Repeat("x", 100_000)},
		"used key":           {Op: wire.KeyRemove, Fingerprint: r.old, Force: true},
		"same private key":   {Op: wire.KeyAdd, Fingerprint: seal.Keys{Public: "p", Private: meshtest.Keys.Private}.Fingerprint(), Public: "p", Private: meshtest.Keys.Private},
		"nobody of the mesh": {Op: wire.KeyList, Peer: "worker/none"},
	} {
		for _, peer := range []string{"", "worker/a"} {
			if o.Peer == "" {
				o.Peer = peer
			}
			if _, err := r.order(o); err == nil || strings.Contains(err.Error(), r.next.Private) {
				t.Errorf("%s at %q: %v", name, o.Peer, err)
			}
		}
	}
	for _, name := range []string{"", "worker/a"} {
		if got := r.ring(name).Fingerprints(); !slices.Equal(got, []string{r.old}) {
			t.Errorf("%q has the keys %v", name, got)
		}
	}
}

// A mesh keeps its key while JavaScript nodes are there, and afterwards takes none that
// has another: they end when they are dialled with a key that they do not know.
func TestJavaScriptNodesKeepTheKey(t *testing.T) {
	t.Parallel()
	r := newRotation(t)
	r.add()
	r.m.Ring = newRing(t, meshtest.Keys)
	js := r.m.Dial(r.m.Addr)
	js.Say(wire.EventDeclare, `{"worker":"caller","variant":"js","port":1}`)
	js.Expect(wire.EventDeclared)
	if _, err := r.order(wire.KeyOrder{Op: wire.KeyUse, Fingerprint: r.new}); wire.CodeOf(err) != wire.CodeDenied || !strings.Contains(err.Error(), "JavaScript") {
		t.Errorf("use: %v", err)
	}
	if _, err := r.order(wire.KeyOrder{Op: wire.KeyList, Peer: "caller/js"}); wire.CodeOf(err) != wire.CodeDenied {
		t.Errorf("a JavaScript node was asked for its keys: %v", err)
	}
	js.Close(nil)
	meshtest.WaitFor(t, func() bool { return len(r.m.Master.Nodes()) == 0 }, func() string { return "the node to leave" })
	if _, err := r.order(wire.KeyOrder{Op: wire.KeyUse, Fingerprint: r.new}); err != nil {
		t.Fatal(err)
	}
	js = r.m.Dial(r.m.Addr)
	js.Say(wire.EventDeclare, `{"worker":"caller","variant":"js","port":1}`)
	if text := js.Expect(wire.EventError); !strings.Contains(text, r.new) {
		t.Errorf("refused with %s", text)
	}
}

// A node that lacks the used key stays reachable with another, and moves when it gets it.
func TestNodeThatLacksAKey(t *testing.T) {
	t.Parallel()
	r := newRotation(t)
	a, b := r.m.Join("worker", "a"), r.m.Join("caller", "b")
	meshtest.AwaitPeers(t, b, "worker/a")
	r.add("caller/b")
	r.everybody(wire.KeyOrder{Op: wire.KeyUse, Fingerprint: r.new}, "caller/b")
	if _, err := b.Call(t.Context(), "worker.echo", json.RawMessage(`{}`), node.CallOptions{Timeout: 30 * time.Second}); err != nil {
		t.Errorf("a call to a node that lacks the key: %v", err)
	}
	// One that comes now is dialled with the key that it has.
	late := r.m.Join("worker", "late")
	meshtest.AwaitPeers(t, b, "worker/a", "worker/late")
	r.everybody(wire.KeyOrder{Op: wire.KeyAdd, Fingerprint: r.new, Public: r.next.Public, Private: r.next.Private}, "worker/a", "worker/late")
	r.everybody(wire.KeyOrder{Op: wire.KeyUse, Fingerprint: r.new}, "worker/a", "worker/late")
	former := r.op
	r.op = r.operator(r.next)
	former.Close()
	r.awaitMoved("worker/a", "worker/late", "caller/b")
	meshtest.AwaitPeers(t, a, "caller/b", "worker/late")
	meshtest.AwaitPeers(t, late, "caller/b", "worker/a")
}
