package node_test

import (
	"context"
	"encoding/json"
	"io"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/meshctl/meshctl/internal/mesh/identity"
	"github.com/meshctl/meshctl/internal/mesh/master"
	"github.com/meshctl/meshctl/internal/mesh/meshtest"
	"github.com/meshctl/meshctl/internal/mesh/node"
	"github.com/meshctl/meshctl/internal/mesh/seal"
	"github.com/meshctl/meshctl/internal/mesh/wire"
)

// Removing a key by force ends the links that live on it, at once and with all that is
// under way; calls over other links go on.
func TestForcedRemovalOfTheKeyEndsLinks(t *testing.T) {
	t.Parallel()
	r := newRotation(t)
	b := r.m.Join("caller", "b")
	r.m.Join("worker", "a")
	meshtest.AwaitPeers(t, b, "worker/a")
	naps := make(chan error, 2)
	nap := func(who calling) {
		result, err := who.Call(context.Background(), "worker.nap", json.RawMessage(`{"ms":300000}`), node.CallOptions{Timeout: 10 * time.Minute})
		if err == nil {
			err = result.Replies[0].Err
		}
		naps <- err
	}
	stale := r.op // lives on the former key, at the master and at the node
	go nap(b)
	go nap(stale)
	links := func(peer, fingerprint string, want int) {
		t.Helper()
		var state wire.KeyState
		meshtest.WaitFor(t, func() bool {
			var err error
			if state, err = r.order(wire.KeyOrder{Op: wire.KeyList, Peer: peer}); err != nil {
				t.Fatal(err)
			}
			return state.Links[fingerprint] == want
		}, func() string { return "the links of " + peer + " on " + fingerprint })
	}
	links("worker/a", r.old, 4) // to the master, both ways to caller/b, of the operator

	r.add("caller/b", "worker/a")
	r.everybody(wire.KeyOrder{Op: wire.KeyUse, Fingerprint: r.new}, "caller/b", "worker/a")
	r.op = r.operator(r.next)
	links("worker/a", r.new, 3)
	links("worker/a", r.old, 2) // those with a nap under way
	remove := wire.KeyOrder{Op: wire.KeyRemove, Fingerprint: r.old, Peer: "worker/a"}
	if _, err := r.order(remove); wire.CodeOf(err) != wire.CodeBadRequest {
		t.Errorf("a key that links live on was removed: %v", err)
	}
	select {
	case err := <-naps:
		t.Fatalf("a nap ended early: %v", err)
	default:
	}

	remove.Force = true
	if _, err := r.order(remove); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := meshtest.Await(t, naps, "the end of a nap"); wire.CodeOf(err) != wire.CodePeerLost {
			t.Errorf("a nap ended with %v", err)
		}
	}
	links("worker/a", r.old, 0)
	if _, err := b.Call(t.Context(), "worker.echo", json.RawMessage(`{}`), node.CallOptions{Timeout: 30 * time.Second}); err != nil {
		t.Errorf("a call over the links under the new key: %v", err)
	}
	if _, err := stale.Call(t.Context(), "worker.echo", json.RawMessage(`{}`), node.CallOptions{Timeout: 30 * time.Second}); err == nil || !strings.Contains(err.Error(), string(wire.CodeKeyMismatch)) {
		t.Errorf("who has the former key alone called again: %v", err)
	}

	remove.Peer = ""
	if _, err := r.order(remove); err != nil {
		t.Fatal(err)
	}
	meshtest.WaitFor(t, func() bool {
		_, err := stale.Nodes(t.Context())
		return err != nil
	}, func() string { return "the master to hang up" })
}

// With required tokens only an operator's token moves the mesh, and links under another
// key need tokens as the first ones did.
func TestRotationWithTokens(t *testing.T) {
	t.Parallel()
	i := newIssuer(t)
	r := &rotation{t: t, rings: map[string]*seal.Ring{}, next: seal.Keys{Public: "next public", Private: "next private"}}
	r.old, r.new = meshtest.Keys.Fingerprint(), r.next.Fingerprint()
	r.m = meshtest.New(t, "_tokens: required\n"+ringSchema, func(m *meshtest.Mesh) {
		m.EachMaster = func(c *master.Config) { c.Ring, c.Issuer = r.ring(""), i.Verifier }
		m.Each = func(c *node.Config) {
			c.Ring = r.ring(c.Worker + "/" + c.Variant)
			token, _ := i.issue(c.Worker, c.Variant, time.Hour)
			holds(token, i.Verifier)(c)
		}
	})
	token, claims := i.issue(identity.Operator, "", time.Hour)
	under := func(keys seal.Keys) meshtest.Option {
		return func(c *node.Config) { c.Ring = newRing(t, keys) }
	}
	r.op = r.m.Operator(under(meshtest.Keys), holds(token, nil))
	b := r.m.Join("caller", "b")
	r.m.Join("worker", "a")
	meshtest.AwaitPeers(t, b, "worker/a")

	r.add("caller/b", "worker/a")
	r.everybody(wire.KeyOrder{Op: wire.KeyUse, Fingerprint: r.new}, "caller/b", "worker/a")
	former := r.op
	r.op = r.m.Operator(under(r.next), holds(token, nil))
	former.Close()
	r.awaitMoved("caller/b", "worker/a")
	r.everybody(wire.KeyOrder{Op: wire.KeyRemove, Fingerprint: r.old}, "caller/b", "worker/a")
	if _, err := b.Call(t.Context(), "worker.echo", json.RawMessage(`{}`), node.CallOptions{Timeout: 30 * time.Second}); err != nil {
		t.Errorf("a call after the rotation: %v", err)
	}
	// The new key alone gets nobody in.
	wrong, _ := i.issue("caller", "", time.Hour)
	for name, option := range map[string]meshtest.Option{"no token": func(*node.Config) {}, "a worker's token": holds(wrong, nil)} {
		if _, err := connect(t, r.m, under(r.next), option); wire.CodeOf(err) != wire.CodeDenied {
			t.Errorf("an operator with %s: %v", name, err)
		}
	}
	// What a token could do ends with it, keys or not.
	list, err := identity.ParseDenyList([]byte(claims.ID))
	if err != nil {
		t.Fatal(err)
	}
	if err := r.m.Master.SetDenyList(list); err != nil {
		t.Fatal(err)
	}
	meshtest.WaitFor(t, func() bool {
		_, err := r.order(wire.KeyOrder{Op: wire.KeyList})
		return err != nil
	}, func() string { return "the revoked operator to be sent away" })
}

// While a mesh changes keys, discovery answers whoever has one key in common with the
// master, whichever of them is used.
func TestDiscoveryWhileTheKeyChanges(t *testing.T) {
	t.Parallel()
	next := seal.Keys{Public: "next public", Private: "next private"}
	none := seal.Keys{Public: "no public", Private: "no private"}
	m := meshtest.New(t, ringSchema)
	port := meshtest.ReservePort(t)
	ring := newRing(t, next, meshtest.Keys)
	mm, err := master.New(master.Config{Keys: next, Schema: m.Schema, Host: "127.0.0.1", DiscoveryPort: port, Ring: ring, Logger: meshtest.Log(t, "discovered")})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- mm.Run(ctx) }()
	defer func() { cancel(); <-done }()
	meshtest.Await(t, mm.Ready(), "the master")

	ask := func(keys ...seal.Keys) (err error) {
		ring := newRing(t, keys...)
		// A slow machine may need more than the two seconds for deriving keys, at first.
		meshtest.WaitFor(t, func() bool {
			_, err = connect(t, m, func(c *node.Config) { c.Master, c.DiscoveryPort, c.Ring = "127.0.0.1", port, ring })
			return wire.CodeOf(err) != wire.CodeUnreachable
		}, func() string { return "discovery to answer" })
		return err
	}
	for name, keys := range map[string][]seal.Keys{
		"the used key":              {next},
		"the former key":            {meshtest.Keys},
		"one that the master lacks": {none, meshtest.Keys},
	} {
		if err := ask(keys...); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	for name, keys := range map[string]seal.Keys{
		"no key":                   none,
		"the keys in a wrong pair": {Public: next.Public, Private: meshtest.Keys.Private},
	} {
		if err := ask(keys); wire.CodeOf(err) != wire.CodeKeyMismatch {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := ring.Remove(meshtest.Keys.Fingerprint()); err != nil {
		t.Fatal(err)
	}
	if err := ask(meshtest.Keys); wire.CodeOf(err) != wire.CodeKeyMismatch {
		t.Errorf("the key that was removed: %v", err)
	}
}

// wiretap passes on TCP connections to an address, and keeps what one of them sends while
// it is armed.
type wiretap struct {
	addr  string
	armed atomic.Bool

	mu    sync.Mutex
	taken []byte
	to    net.Conn      // where that went
	ended chan struct{} // closed when the server has ended that connection
}

func newWiretap(t *testing.T, to string) *wiretap {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	w := &wiretap{addr: l.Addr().String()}
	var wg sync.WaitGroup
	t.Cleanup(func() { _ = l.Close(); wg.Wait() })
	wg.Go(func() {
		for {
			client, err := l.Accept()
			if err != nil {
				return
			}
			server, err := net.Dial("tcp", to)
			if err != nil {
				_ = client.Close()
				continue
			}
			ended := make(chan struct{})
			wg.Go(func() {
				_, _ = io.Copy(client, server)
				close(ended)
				_ = client.Close()
			})
			wg.Go(func() {
				_, _ = io.Copy(tapped{w, server, ended}, client)
				_ = server.Close()
			})
		}
	})
	return w
}

// tapped is the way to the server of one connection.
type tapped struct {
	*wiretap
	server net.Conn
	ended  chan struct{}
}

func (w tapped) Write(b []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.armed.Load() {
		w.taken, w.to, w.wiretap.ended = append(w.taken, b...), w.server, w.ended
	}
	return w.server.Write(b)
}

// replay says once more what was taken, and gives what is closed when the server has ended that connection.
func (w *wiretap) replay(t *testing.T) (ended <-chan struct{}) {
	t.Helper()
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.taken) == 0 {
		t.Fatal("nothing was recorded")
	}
	select {
	case <-w.ended:
		t.Fatal("the connection has ended before")
	default:
	}
	if _, err := w.to.Write(w.taken); err != nil {
		t.Fatal(err)
	}
	return w.ended
}

// Whoever records an order on its way and sends it once more achieves nothing but the end
// of the link that it came over.
func TestReplayedKeyOrders(t *testing.T) {
	t.Parallel()
	r := newRotation(t)
	n := r.m.Join("worker", "a")
	tap := newWiretap(t, r.m.Addr)
	honest := r.op
	r.op = r.m.Operator(func(c *node.Config) { c.Master, c.Ring = tap.addr, newRing(t, meshtest.Keys) })
	r.add("worker/a")

	tap.armed.Store(true)
	r.everybody(wire.KeyOrder{Op: wire.KeyUse, Fingerprint: r.new}, "worker/a")
	tap.armed.Store(false)
	r.op = honest
	r.everybody(wire.KeyOrder{Op: wire.KeyUse, Fingerprint: r.old}, "worker/a")
	// Whoever has the link looks for the master again at once: only here it can be seen that it ended.
	meshtest.Await(t, tap.replay(t), "the end of the link that was tampered with")
	for _, peer := range []string{"", "worker/a"} {
		state, err := r.order(wire.KeyOrder{Op: wire.KeyList, Peer: peer})
		if err != nil || state.Uses != r.old || len(state.Accepts) != 2 {
			t.Errorf("%q: %+v, %v", peer, state, err)
		}
	}
	if len(n.Peers()) != 0 {
		t.Errorf("peers %v", n.Peers())
	}
}

// An order that an operator repeats does no harm.
func TestKeyOrdersMayBeRepeated(t *testing.T) {
	t.Parallel()
	r := newRotation(t)
	r.m.Join("worker", "a")
	for range 2 {
		r.add("worker/a")
	}
	for range 2 {
		r.everybody(wire.KeyOrder{Op: wire.KeyUse, Fingerprint: r.new}, "worker/a")
	}
	former := r.op
	r.op = r.operator(r.next)
	former.Close()
	r.awaitMoved("worker/a")
	for range 2 {
		r.everybody(wire.KeyOrder{Op: wire.KeyRemove, Fingerprint: r.old}, "worker/a")
	}
	for _, name := range []string{"", "worker/a"} {
		if got := r.ring(name).Fingerprints(); len(got) != 1 || got[0] != r.new {
			t.Errorf("%q has the keys %v", name, got)
		}
	}
}
