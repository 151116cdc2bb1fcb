package node_test

import (
	"context"
	"encoding/json"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/meshctl/meshctl/internal/mesh/link/native"
	"github.com/meshctl/meshctl/internal/mesh/master"
	"github.com/meshctl/meshctl/internal/mesh/meshtest"
	"github.com/meshctl/meshctl/internal/mesh/node"
	"github.com/meshctl/meshctl/internal/mesh/seal"
	"github.com/meshctl/meshctl/internal/mesh/wire"
)

const ringSchema = `
worker: {_allow: anyNode, _connect: anyNode, _commands: {_balanced: {echo: {builtin: echo}, nap: {builtin: sleep}}, _broadcast: {all: {responds: true, method: {builtin: echo}}}}}
caller: {_allow: anyNode, _connect: anyNode}
`

// rotation is a mesh of processes that each have a ring of their own.
type rotation struct {
	t     *testing.T
	m     *meshtest.Mesh
	rings map[string]*seal.Ring // of the master (""), and of nodes by name
	op    *node.Operator
	next  seal.Keys
	old   string // fingerprints
	new   string
}

func newRing(t *testing.T, keys ...seal.Keys) *seal.Ring {
	t.Helper()
	r, err := seal.NewRing(keys, nil)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func newRotation(t *testing.T) *rotation {
	r := &rotation{t: t, rings: map[string]*seal.Ring{}, next: seal.Keys{Public: "next public", Private: "next private"}}
	r.old, r.new = meshtest.Keys.Fingerprint(), r.next.Fingerprint()
	r.m = meshtest.New(t, ringSchema, func(m *meshtest.Mesh) {
		m.EachMaster = func(c *master.Config) { c.Ring = r.ring("") }
		m.Each = func(c *node.Config) { c.Ring = r.ring(c.Worker + "/" + c.Variant) }
	})
	r.op = r.operator(meshtest.Keys)
	return r
}

func (r *rotation) ring(name string) *seal.Ring {
	if r.rings[name] == nil {
		r.rings[name] = newRing(r.t, meshtest.Keys)
	}
	return r.rings[name]
}

func (r *rotation) operator(keys ...seal.Keys) *node.Operator {
	return r.m.Operator(func(c *node.Config) { c.Ring = newRing(r.t, keys...) })
}

func (r *rotation) order(o wire.KeyOrder) (wire.KeyState, error) {
	ctx, cancel := context.WithTimeout(r.t.Context(), 30*time.Second)
	defer cancel()
	return r.op.OrderKeys(ctx, o)
}

// everybody has the master and these nodes carry out an order.
func (r *rotation) everybody(o wire.KeyOrder, nodes ...string) {
	r.t.Helper()
	for _, name := range append([]string{""}, nodes...) {
		o.Peer = name
		if _, err := r.order(o); err != nil {
			r.t.Fatalf("%s at %q: %v", o.Op, name, err)
		}
	}
}

func (r *rotation) add(nodes ...string) {
	r.t.Helper()
	r.everybody(wire.KeyOrder{Op: wire.KeyAdd, Fingerprint: r.new, Public: r.next.Public, Private: r.next.Private}, nodes...)
}

// awaitMoved waits until no link of these lives on the former key.
func (r *rotation) awaitMoved(nodes ...string) {
	r.t.Helper()
	for _, name := range append([]string{""}, nodes...) {
		var state wire.KeyState
		meshtest.WaitFor(r.t, func() bool {
			var err error
			if state, err = r.order(wire.KeyOrder{Op: wire.KeyList, Peer: name}); err != nil {
				r.t.Fatal(err)
			}
			return state.Links[r.old] == 0 && state.Links[r.new] > 0
		}, func() string { return "the links of " + name + " to move" })
	}
}

// TestRotation moves a mesh that is under load to another key, and away from the first.
func TestRotation(t *testing.T) {
	t.Parallel()
	r := newRotation(t)
	names := []string{"caller/c", "worker/a", "worker/b"}
	nodes := map[string]*meshtest.Node{}
	for _, name := range names {
		worker, variant, _ := strings.Cut(name, "/")
		nodes[name] = r.m.Join(worker, variant)
	}
	meshtest.AwaitPeers(t, nodes["caller/c"], "worker/a", "worker/b")
	meshtest.AwaitPeers(t, nodes["worker/a"], "caller/c", "worker/b")
	meshtest.AwaitPeers(t, nodes["worker/b"], "caller/c", "worker/a")

	var calls, failed atomic.Int64
	stop := make(chan struct{})
	var load sync.WaitGroup
	calling := func(who *node.Node, target, payload string, variants int) {
		load.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				result, err := who.Call(context.Background(), target, json.RawMessage(payload), node.CallOptions{Timeout: time.Minute})
				calls.Add(1)
				if err != nil || len(result.Replies) != variants {
					failed.Add(1)
					t.Errorf("%s of %s: %v", target, who.Name(), err)
					return
				}
				for _, reply := range result.Replies {
					if reply.Err != nil {
						failed.Add(1)
						t.Errorf("%s of %s: %v", target, who.Name(), reply.Err)
					}
				}
			}
		})
	}
	for range 4 {
		calling(nodes["caller/c"].Node, "worker.echo", `{"a":1}`, 1)
		calling(nodes["worker/a"].Node, "worker.echo", `{"a":2}`, 1)
	}
	calling(nodes["caller/c"].Node, "worker.all", `{"a":3}`, 2)
	calling(nodes["worker/b"].Node, "worker.all", `{"a":4}`, 1)
	// Calls that take longer than it takes to move.
	calling(nodes["caller/c"].Node, "worker.nap", `{"ms":3000}`, 1)

	r.add(names...)
	r.everybody(wire.KeyOrder{Op: wire.KeyUse, Fingerprint: r.new}, names...)
	for _, name := range append([]string{""}, names...) {
		state, err := r.order(wire.KeyOrder{Op: wire.KeyList, Peer: name})
		if err != nil || state.Uses != r.new || !slices.Contains(state.Accepts, r.old) || state.Stored {
			t.Errorf("%q: %+v, %v", name, state, err)
		}
	}
	// The operator's own link still lives on the former key, so that the master keeps it.
	if _, err := r.order(wire.KeyOrder{Op: wire.KeyRemove, Fingerprint: r.old}); wire.CodeOf(err) != wire.CodeBadRequest {
		t.Errorf("a key that links live on was removed: %v", err)
	}
	former := r.op
	r.op = r.operator(r.next)
	former.Close()
	r.awaitMoved(names...)
	if _, err := r.order(wire.KeyOrder{Op: wire.KeyRemove, Fingerprint: r.new}); wire.CodeOf(err) != wire.CodeBadRequest {
		t.Errorf("the used key was removed: %v", err)
	}
	r.everybody(wire.KeyOrder{Op: wire.KeyRemove, Fingerprint: r.old}, names...)
	before := calls.Load()
	meshtest.WaitFor(t, func() bool { return calls.Load() > before+100 }, func() string { return "calls after the rotation" })
	close(stop)
	load.Wait()
	t.Logf("%d calls, %d failed", calls.Load(), failed.Load())

	// Who has only the former key is refused everywhere, by name of its own key alone.
	_, err := node.Connect(t.Context(), node.Config{Keys: meshtest.Keys, Master: r.m.Addr})
	if wire.CodeOf(err) != wire.CodeKeyMismatch || !strings.Contains(err.Error(), r.old) || strings.Contains(err.Error(), r.new) {
		t.Errorf("the master answered the former key: %v", err)
	}
	key, err := seal.NewKey(meshtest.Keys)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := native.Dial(t.Context(), nodes["worker/a"].Addr().String(), native.Config{Key: key, Hello: native.Hello{Name: "caller/x"}}); wire.CodeOf(err) != wire.CodeKeyMismatch {
		t.Errorf("a node answered the former key: %v", err)
	}
	r.m.Ring = newRing(t, meshtest.Keys)
	raw := r.m.Dial(nodes["worker/a"].Addr().String())
	raw.Say(wire.EventDeclare, `{"worker":"caller","variant":"x"}`)
	if err := raw.ExpectEnd(); wire.CodeOf(err) != wire.CodeKeyMismatch {
		t.Errorf("over Socket.IO a node answered the former key: %v", err)
	}
}
