package master_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/meshctl/meshctl/internal/mesh/master"
	"github.com/meshctl/meshctl/internal/mesh/meshtest"
	nodes "github.com/meshctl/meshctl/internal/mesh/node"
	"github.com/meshctl/meshctl/internal/mesh/registry"
	"github.com/meshctl/meshctl/internal/mesh/seal"
	"github.com/meshctl/meshctl/internal/mesh/wire"
	"github.com/meshctl/meshctl/internal/redisdb/redistest"
)

const sharedSchema = `
caller: {_allow: [], _connect: [answerer], _commands: {}}
answerer:
  _allow: [caller]
  _commands: {_balanced: {echo: {builtin: echo}, sleep: {builtin: sleep}}}
`

// several starts masters that share a registry.
func several(t *testing.T, count int, change ...func(*master.Config)) (*meshtest.Mesh, *redistest.Server, []*meshtest.Master) {
	t.Helper()
	server := redistest.Start(t)
	m := meshtest.New(t, sharedSchema, func(m *meshtest.Mesh) {
		m.EachMaster = func(c *master.Config) {
			c.Redis, c.Mesh = server.URL(), "mesh"
			for _, f := range change {
				f(c)
			}
		}
	})
	masters := []*meshtest.Master{m.Master}
	for len(masters) < count {
		masters = append(masters, m.StartMaster(0))
	}
	return m, server, masters
}

// A master that waits for Redis, and does not listen yet, may be asked for its metrics.
func TestMastersBeforeListening(t *testing.T) {
	m, err := master.New(master.Config{Keys: meshtest.Keys, Schema: meshtest.Parse(t, sharedSchema), Redis: "redis://127.0.0.1:1/0", Mesh: "mesh"})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- m.Run(ctx) }()
	if all := m.Masters(); len(all) != 1 || all[0].State != wire.MasterHere || all[0].Port != 0 {
		t.Errorf("masters before it listens: %+v", all)
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

// One that is in the registry and does not listen yet is not taken for one that cannot be
// reached.
func TestMasterThatStarts(t *testing.T) {
	m, server, masters := several(t, 1)
	next := recorded(t, m, server, registry.Master{ID: "next", Host: "127.0.0.1"})
	awaitState(t, masters[0], "next", wire.MasterStarting)
	next.SetSelf(func(x *registry.Master) { x.Port = 1 }) // nobody listens there
	awaitState(t, masters[0], "next", wire.MasterUnreachable)
}

// One that was killed and started again has another name at the same address. It is not taken
// for its former self, which would be vouched for, and so be there, for ever.
func TestMasterInTheFormersPlace(t *testing.T) {
	m, server, masters := several(t, 2)
	now := masters[1].Addr().(*net.TCPAddr).Port
	recorded(t, m, server, registry.Master{ID: "former", Host: "127.0.0.1", Port: now, Native: true})
	awaitState(t, masters[0], "former", wire.MasterUnreachable)
	awaitState(t, masters[0], masters[1].Masters()[0].ID, wire.MasterLinked)
}

// recorded writes a master into the registry, and renews its lease until the test ends.
func recorded(t *testing.T, m *meshtest.Mesh, server *redistest.Server, self registry.Master) *registry.Shared {
	t.Helper()
	s, err := registry.OpenShared(registry.SharedConfig{
		URL: server.URL(), Mesh: "mesh", Self: self, Ring: m.Ring, Listener: unheard{}, Logger: meshtest.Log(t, self.ID),
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		s.Run(ctx)
	}()
	t.Cleanup(func() {
		cancel()
		<-ended
	})
	return s
}

func awaitState(t *testing.T, in *meshtest.Master, id, state string) {
	t.Helper()
	var all []wire.MasterInfo
	meshtest.WaitFor(t, func() bool {
		all = in.Masters()
		return slices.ContainsFunc(all, func(x wire.MasterInfo) bool { return x.ID == id && x.State == state })
	}, func() string { return fmt.Sprintf("%s to be %s; masters are %+v", id, state, all) })
}

// unheard is a registry.Listener that takes nothing in.
type unheard struct{}

func (unheard) Found(registry.Node)       {}
func (unheard) Gone(registry.Node)        {}
func (unheard) Masters([]registry.Master) {}

// at has a node or an operator go to a certain master.
func at(m *meshtest.Master) meshtest.Option {
	return func(c *nodes.Config) { c.Master = m.Addr().String() }
}

func list(m *meshtest.Master) string {
	var names []string
	for _, n := range m.Nodes() {
		text := n.Worker + "/" + n.Variant
		if n.Draining {
			text += " draining"
		}
		if n.Detached {
			text += " detached"
		}
		names = append(names, text)
	}
	return strings.Join(names, ", ")
}

func awaitList(t *testing.T, want string, masters ...*meshtest.Master) {
	t.Helper()
	for i, m := range masters {
		meshtest.WaitFor(t, func() bool { return list(m) == want }, func() string { return fmt.Sprintf("master %d to list %q; it lists %q", i, want, list(m)) })
	}
}

func TestSeveralMasters(t *testing.T) {
	m, _, masters := several(t, 3)
	b1 := m.Join("answerer", "b1", at(masters[0]))
	a1 := m.Join("caller", "a1", at(masters[1]))
	b2 := m.Join("answerer", "b2", at(masters[2]))
	meshtest.AwaitPeers(t, a1, "answerer/b1", "answerer/b2")
	awaitList(t, "answerer/b1, answerer/b2, caller/a1", masters...)
	for _, mm := range masters {
		op := m.Operator(at(mm))
		for range 3 { // all variants, wherever the operator is
			r, err := op.Call(t.Context(), "answerer.echo", json.RawMessage(`1`), nodes.CallOptions{})
			if err != nil || string(r.Replies[0].Result) != "1" {
				t.Fatalf("a call: %v", err)
			}
		}
		all, err := op.Masters(t.Context())
		if err != nil || len(all) != 3 || all[0].State != wire.MasterHere || all[0].Nodes != 1 {
			t.Errorf("masters %+v, %v", all, err)
		}
	}
	// One that leaves in order is out of all pictures, and draining before that.
	if err := b1.Stop(); err != nil {
		t.Error(err)
	}
	awaitList(t, "answerer/b2, caller/a1", masters...)
	meshtest.AwaitPeers(t, a1, "answerer/b2")
	// So is one that breaks off.
	b2.Kill()
	awaitList(t, "caller/a1", masters...)
}

// A node whose master ends has not left, and one that comes to another has not begun anew.
func TestNodeThatMovesHasBeenThere(t *testing.T) {
	m, _, masters := several(t, 2)
	m.Join("answerer", "b1", func(c *nodes.Config) {
		c.Master = masters[0].Addr().String() + "," + masters[1].Addr().String()
	})
	awaitList(t, "answerer/b1", masters...)
	before := masters[0].Nodes()[0]
	if before.Master == masters[0].Masters()[0].ID {
		slices.Reverse(masters)
	}
	masters[1].Stop()
	here := masters[0].Masters()[0].ID
	meshtest.WaitFor(t, func() bool {
		all := masters[0].Nodes()
		if len(all) != 1 {
			t.Fatalf("a master that ends said of its nodes that they left: there are %+v", all)
		}
		return all[0].Master == here
	}, func() string { return fmt.Sprintf("the node to come here: %+v", masters[0].Nodes()) })
	if now := masters[0].Nodes()[0]; now.Since != before.Since {
		t.Errorf("%+v, and before %+v", now, before)
	}
}

// A second instance of a variant takes over, wherever it joins.
func TestTakeoverAtAnotherMaster(t *testing.T) {
	m, _, masters := several(t, 2)
	old := m.Join("answerer", "b1", at(masters[0]))
	a1 := m.Join("caller", "a1", at(masters[0]))
	meshtest.AwaitPeers(t, a1, "answerer/b1")
	m.Join("answerer", "b1", at(masters[1]))
	if err := old.Wait(); wire.CodeOf(err) != wire.CodeReplaced {
		t.Errorf("the older instance ended with %v", err)
	}
	awaitList(t, "answerer/b1, caller/a1", masters...)
	var err error // the caller may not know yet that the older one's link is closed
	meshtest.WaitFor(t, func() bool {
		_, err = a1.Call(t.Context(), "answerer.echo", json.RawMessage(`1`), nodes.CallOptions{})
		return err == nil
	}, func() string { return fmt.Sprint("the newer instance to answer: ", err) })
}

// Whoever watches at one master sees the nodes of all, and can end their requests.
func TestWatchAcrossMasters(t *testing.T) {
	m, _, masters := several(t, 3)
	m.Join("answerer", "b1", at(masters[0]))
	a1 := m.Join("caller", "a1", at(masters[1]))
	meshtest.AwaitPeers(t, a1, "answerer/b1")
	cfg := m.OperatorConfig()
	cfg.Master = masters[2].Addr().String()
	w, err := nodes.Watch(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	failed := make(chan error, 1)
	go func() {
		_, err := a1.Call(context.Background(), "answerer.sleep", json.RawMessage(`{"ms":60000}`), nodes.CallOptions{Timeout: time.Minute})
		failed <- err
	}()
	var uid string
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	reported := map[string]bool{}
	for uid == "" || len(reported) < 2 {
		u, err := w.Next(ctx)
		if err != nil {
			t.Fatalf("waited for reports of both nodes: %v; have %v", err, reported)
		}
		if u.Report != nil {
			reported[u.Report.Node] = true
			if f := u.Report.InFlight; f != nil {
				for _, r := range f.Requests {
					uid = r.UID
				}
			}
		}
	}
	if masters[0].Watchers() != 0 || masters[2].Watchers() != 1 {
		t.Errorf("%d and %d operators watch", masters[0].Watchers(), masters[2].Watchers())
	}
	if err := w.Cancel(ctx, "caller/a1", uid); err != nil {
		t.Error(err)
	}
	if err := meshtest.Await(t, failed, "the call to end"); wire.CodeOf(err) != wire.CodeCanceled {
		t.Errorf("the call ended with %v", err)
	}
}

// Keys change at all masters and at the nodes of all of them, ordered at one.
func TestKeysAcrossMasters(t *testing.T) {
	next := seal.Keys{Public: "next", Private: "the next private key"}
	var rings []*seal.Ring // of each master, and of its node: more would derive even more keys
	m, _, masters := several(t, 2, func(c *master.Config) {
		ring, err := seal.NewRing([]seal.Keys{meshtest.Keys}, nil)
		if err != nil {
			t.Error(err)
		}
		c.Ring = ring
		rings = append(rings, ring)
	})
	m.Join("answerer", "b1", at(masters[1]), func(c *nodes.Config) { c.Ring = rings[1] })
	a1 := m.Join("caller", "a1", at(masters[0]), func(c *nodes.Config) { c.Ring = rings[0] })
	meshtest.AwaitPeers(t, a1, "answerer/b1")
	op := m.Operator(at(masters[0]))
	meshtest.WaitFor(t, func() bool {
		all, err := op.Masters(t.Context())
		return err == nil && len(all) == 2 && all[1].State == wire.MasterLinked
	}, func() string { return "the masters to be linked" })
	all, err := op.Masters(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	key, err := seal.NewKey(next)
	if err != nil {
		t.Fatal(err)
	}
	former := rings[0].Used().Fingerprint()
	peers := []string{"", wire.MasterWorker + "/" + all[1].ID, "answerer/b1", "caller/a1"}
	order := func(o wire.KeyOrder) {
		t.Helper()
		o.Fingerprint = key.Fingerprint()
		for _, p := range peers {
			o.Peer = p
			ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
			state, err := op.OrderKeys(ctx, o)
			cancel()
			if err != nil {
				t.Fatalf("%s at %q: %v", o.Op, p, err)
			}
			if o.Op == wire.KeyUse && state.Uses != key.Fingerprint() {
				t.Errorf("%q uses %s", p, state.Uses)
			}
		}
	}
	order(wire.KeyOrder{Op: wire.KeyAdd, Public: next.Public, Private: next.Private})
	order(wire.KeyOrder{Op: wire.KeyUse})
	// The link between the masters moves, and what is in Redis is written anew.
	meshtest.WaitFor(t, func() bool {
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		s, err := op.OrderKeys(ctx, wire.KeyOrder{Op: wire.KeyList, Peer: peers[1]})
		return err == nil && s.Links[former] == 0
	}, func() string { return "the links of the other master to move" })
	awaitList(t, "answerer/b1, caller/a1", masters...)
}

// A ticket is known to masters alone: an operator that makes one up is refused.
func TestFalseTicket(t *testing.T) {
	m, _, masters := several(t, 2)
	for _, mm := range masters {
		for _, other := range masters {
			id := other.Masters()[0].ID
			raw := m.Dial(mm.Addr().String())
			raw.Say(wire.EventDeclare, `{"worker":"@operator","variant":"`+id+`","meshctl":{"protocol":1,"ticket":"made-up"}}`)
			if got := raw.Expect(wire.EventError); !strings.Contains(got, "no master of this mesh") {
				t.Errorf("refused with %s", got)
			}
		}
	}
	alone := meshtest.New(t, sharedSchema)
	raw := alone.Dial(alone.Addr)
	raw.Say(wire.EventDeclare, `{"worker":"@operator","variant":"x","meshctl":{"protocol":1,"ticket":"made-up"}}`)
	raw.Expect(wire.EventError)
}

// Redis is away: masters take nodes in and tell their own of them, and the rest when it is back.
func TestMastersWithoutRedis(t *testing.T) {
	m, server, masters := several(t, 2)
	a1 := m.Join("caller", "a1", at(masters[0]))
	server.Kill()
	for _, mm := range masters {
		meshtest.WaitFor(t, func() bool { return mm.RegistryErr() != nil }, func() string { return "the outage to be noticed" })
	}
	m.Join("answerer", "b1", at(masters[0]))
	meshtest.AwaitPeers(t, a1, "answerer/b1")
	m.Join("answerer", "b2", at(masters[1]))
	server.Restart()
	meshtest.AwaitPeers(t, a1, "answerer/b1", "answerer/b2")
	awaitList(t, "answerer/b1, answerer/b2, caller/a1", masters...)
}
