package registry_test

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/meshctl/meshctl/internal/mesh/meshtest"
	"github.com/meshctl/meshctl/internal/mesh/registry"
	"github.com/meshctl/meshctl/internal/mesh/seal"
	"github.com/meshctl/meshctl/internal/mesh/wire"
	"github.com/meshctl/meshctl/internal/redisdb"
	"github.com/meshctl/meshctl/internal/redisdb/redistest"
)

func TestMain(m *testing.M) {
	redisdb.Quiet()
	goleak.VerifyTestMain(m)
}

// member is a master as far as the shared registry goes: what it was told of others.
type member struct {
	*registry.Shared
	t      *testing.T
	cancel context.CancelFunc
	done   chan struct{}

	mu    sync.Mutex
	view  map[string]registry.Node
	gone  []string // names, in the order in which they were said to be gone
	peers []registry.Master
	// strangers are the nodes that were found before their master was.
	strangers []string
}

func (m *member) Found(n registry.Node) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !slices.ContainsFunc(m.peers, func(p registry.Master) bool { return p.ID == n.Master }) {
		m.strangers = append(m.strangers, n.Name()+"@"+n.Master)
	}
	if m.Current(n) {
		m.view[n.Name()] = n
	}
}

func (m *member) Gone(n registry.Node) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.gone = append(m.gone, n.Name())
	if m.view[n.Name()].ClientID == n.ClientID {
		delete(m.view, n.Name())
	}
}

func (m *member) Masters(peers []registry.Master) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.peers = peers
}

// saw is the view as text: name, master and client of each.
func (m *member) saw() string {
	m.mu.Lock()
	defer m.mu.Unlock()
	var out []string
	for _, name := range slices.Sorted(maps.Keys(m.view)) {
		n := m.view[name]
		text := name + "@" + n.Master + ":" + n.ClientID
		if n.Draining {
			text += " drains"
		}
		out = append(out, text)
	}
	return strings.Join(out, ", ")
}

func (m *member) awaitView(want string) {
	m.t.Helper()
	meshtest.WaitFor(m.t, func() bool { return m.saw() == want }, func() string {
		return fmt.Sprintf("%s to see %q; it sees %q", m.ID(), want, m.saw())
	})
}

func (m *member) wasGone() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.gone)
}

// end ends it in order; twice does no harm.
func (m *member) end() {
	m.cancel()
	meshtest.Await(m.t, m.done, m.ID()+" to end")
}

// shared is the ring of most masters here: each of its own would derive keys of its own.
var shared = sync.OnceValues(func() (*seal.Ring, error) { return seal.NewRing([]seal.Keys{meshtest.Keys}, nil) })

func sharedRing(t *testing.T) *seal.Ring {
	t.Helper()
	r, err := shared()
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func newRing(t *testing.T, keys ...seal.Keys) *seal.Ring {
	t.Helper()
	r, err := seal.NewRing(keys, nil)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// begin starts a master named id and waits until it knows everything.
func begin(t *testing.T, server interface{ URL() string }, id string, change ...func(*registry.SharedConfig)) *member {
	t.Helper()
	m := &member{t: t, view: map[string]registry.Node{}, done: make(chan struct{})}
	cfg := registry.SharedConfig{
		URL: server.URL(), Mesh: "mesh", Self: registry.Master{ID: id, Port: 1}, Ring: sharedRing(t), Listener: m, Logger: meshtest.Log(t, id),
		Lease: time.Second, Grace: time.Minute, Renew: 50 * time.Millisecond, Audit: 100 * time.Millisecond,
	}
	for _, f := range change {
		f(&cfg)
	}
	var err error
	if m.Shared, err = registry.OpenShared(cfg); err != nil {
		t.Fatal(err)
	}
	var ctx context.Context
	ctx, m.cancel = context.WithCancel(context.Background())
	go func() {
		defer close(m.done)
		m.Run(ctx)
	}()
	t.Cleanup(m.end)
	meshtest.Await(t, m.Ready(), id+" to know everything")
	return m
}

// declared is a node as a master would note it.
func declared(m *member, variant, client string, attach int64) registry.Node {
	return registry.Node{
		Peer:     wire.Peer{Worker: "w", Variant: variant, IP: "127.0.0.1", Port: 7, Meshctl: &wire.Extra{Protocol: 1, Instance: "i-" + variant, Native: true}},
		ClientID: client, Link: "native", Since: time.Now(), Master: m.ID(), Attach: attach,
	}
}

// What a master changes about itself is written at once, and not when its lease is renewed.
func TestSharedTellsChangesAtOnce(t *testing.T) {
	server := redistest.Start(t)
	a := begin(t, server, "a", func(c *registry.SharedConfig) { c.Self.Port, c.Lease, c.Renew = 0, 3*time.Hour, time.Hour })
	b := begin(t, server, "b")
	port := func() int {
		if all := b.Shared.Masters(); len(all) == 1 {
			return all[0].Port
		}
		return -1
	}
	meshtest.WaitFor(t, func() bool { return port() == 0 }, func() string { return "b to hear of a" })
	a.SetSelf(func(x *registry.Master) { x.Port = 4000 })
	meshtest.WaitFor(t, func() bool { return port() == 4000 }, func() string { return "b to hear where a listens" })
}

func TestSharedSeesOthers(t *testing.T) {
	server := redistest.Start(t)
	m1, m2 := begin(t, server, "m1"), begin(t, server, "m2")
	a, b := declared(m1, "a", "c1", 1), declared(m2, "b", "c2", 1)
	m1.Put(a)
	m2.Put(b)
	m1.awaitView("w/b@m2:c2")
	m2.awaitView("w/a@m1:c1")
	a.Draining = true
	m1.Put(a)
	m2.awaitView("w/a@m1:c1 drains")
	m3 := begin(t, server, "m3") // reads everything at once
	m3.awaitView("w/a@m1:c1 drains, w/b@m2:c2")
	awaitErr(t, false, m1)
	if !m1.Remove(a) {
		t.Error("the removal is uncertain")
	}
	m2.awaitView("")
	m3.awaitView("w/b@m2:c2")
	meshtest.WaitFor(t, func() bool {
		m1.mu.Lock()
		defer m1.mu.Unlock()
		return len(m1.peers) == 2 && m1.peers[0].ID == "m2" && m1.peers[1].ID == "m3" && !m1.peers[0].Lapsed && m1.peers[0].Host == "127.0.0.1"
	}, func() string { return "m1 to know the other masters" })
	m3.Put(declared(m3, "last", "c3", 1)) // just before it ends
	m3.end()
	m1.awaitView("w/b@m2:c2, w/last@m3:c3")
	meshtest.WaitFor(t, func() bool {
		for _, p := range m1.Shared.Masters() {
			if p.ID == "m3" {
				return p.Lapsed
			}
		}
		return false
	}, func() string { return "the end of m3 to be known" })
	if gone := m2.wasGone(); !slices.Equal(gone, []string{"w/a"}) {
		t.Errorf("gone: %v", gone)
	}
}

// A master is known before its nodes are, also where it started just now.
func TestSharedMeetsMasterFirst(t *testing.T) {
	server := redistest.Start(t)
	slow := func(cfg *registry.SharedConfig) { cfg.Lease, cfg.Renew = time.Hour, time.Hour }
	m1 := begin(t, server, "m1", slow)
	m2 := begin(t, server, "m2", slow)
	m2.Put(declared(m2, "a", "c1", 1))
	m1.awaitView("w/a@m2:c1")
	m1.mu.Lock()
	defer m1.mu.Unlock()
	if len(m1.strangers) > 0 {
		t.Errorf("found before their master: %q", m1.strangers)
	}
}

// A node that moves is where it declared itself last, whatever its former master says later.
func TestSharedMove(t *testing.T) {
	server := redistest.Start(t)
	m1, m2, m3 := begin(t, server, "m1"), begin(t, server, "m2"), begin(t, server, "m3")
	old := declared(m1, "a", "c1", 1)
	m1.Put(old)
	m3.awaitView("w/a@m1:c1")
	now := declared(m2, "a", "c2", 2)
	m2.Put(now)
	m1.awaitView("w/a@m2:c2")
	m3.awaitView("w/a@m2:c2")
	// Said late, it changes nothing, and its master is told so.
	m1.Put(old)
	m1.mu.Lock()
	m1.view = map[string]registry.Node{}
	m1.mu.Unlock()
	m1.awaitView("w/a@m2:c2")
	m1.Remove(old)
	// Another instance takes over.
	other := declared(m1, "a", "c3", 1)
	other.Meshctl.Instance = "another"
	m1.Put(other)
	m2.awaitView("w/a@m1:c3")
	m3.awaitView("w/a@m1:c3")
	if gone := m3.wasGone(); len(gone) > 0 {
		t.Errorf("gone: %v", gone)
	}
}

// What was declared at a master that ended is kept for a while, and then gone.
func TestSharedGrace(t *testing.T) {
	server := redistest.Start(t)
	short := func(c *registry.SharedConfig) { c.Grace = 5 * time.Second }
	m1, m2 := begin(t, server, "m1", short), begin(t, server, "m2", short)
	m1.Put(declared(m1, "a", "c1", 1))
	m1.Put(declared(m1, "b", "c2", 1))
	m2.awaitView("w/a@m1:c1, w/b@m1:c2")
	ended := time.Now()
	m1.end()
	m2.Put(declared(m2, "b", "c3", 2)) // it comes to m2
	m2.mu.Lock()
	delete(m2.view, "w/b") // as a master's own join does
	m2.mu.Unlock()
	m2.awaitView("")
	if took := time.Since(ended); took < time.Second {
		t.Errorf("gone after %s already", took)
	}
	if gone := m2.wasGone(); !slices.Equal(gone, []string{"w/a"}) {
		t.Errorf("gone: %v", gone)
	}
	begin(t, server, "m3").awaitView("w/b@m2:c3")
}

// Redis is killed: masters go on, and when it is back they know what has happened, and
// nobody was said to be gone who was there.
func TestSharedOutage(t *testing.T) {
	server := redistest.Start(t)
	m1, m2 := begin(t, server, "m1"), begin(t, server, "m2")
	stays, moves, leaves := declared(m1, "stays", "c1", 1), declared(m1, "moves", "c2", 1), declared(m1, "leaves", "c3", 1)
	for _, n := range []registry.Node{stays, moves, leaves} {
		m1.Put(n)
	}
	m2.awaitView("w/leaves@m1:c3, w/moves@m1:c2, w/stays@m1:c1")
	server.Kill()
	for _, m := range []*member{m1, m2} {
		meshtest.WaitFor(t, func() bool { return m.Err() != nil }, func() string { return "the outage to be noticed" })
	}
	if m1.Remove(moves) {
		t.Error("certain that a node left, while Redis is away")
	}
	m2.Put(declared(m2, "moves", "c4", 2))
	m2.Put(declared(m2, "comes", "c5", 1))
	server.Restart()
	m1.awaitView("w/comes@m2:c5, w/moves@m2:c4")
	for _, m := range []*member{m1, m2} {
		meshtest.WaitFor(t, func() bool { return m.Err() == nil }, func() string { return "Redis to be back" })
	}
	if !m1.Remove(leaves) {
		t.Error("the removal is uncertain")
	}
	meshtest.WaitFor(t, func() bool { return slices.Equal(m2.wasGone(), []string{"w/leaves"}) }, func() string { return fmt.Sprintf("leaves to be gone; gone: %v", m2.wasGone()) })
	if gone := m1.wasGone(); len(gone) > 0 {
		t.Errorf("gone at m1: %v", gone)
	}
	begin(t, server, "m3").awaitView("w/comes@m2:c5, w/moves@m2:c4, w/stays@m1:c1")
}

// A node that left while Redis was away is gone in the end.
func TestSharedOutageGone(t *testing.T) {
	server := redistest.Start(t)
	short := func(c *registry.SharedConfig) { c.Grace = time.Second }
	m1, m2 := begin(t, server, "m1", short), begin(t, server, "m2", short)
	n := declared(m1, "a", "c1", 1)
	m1.Put(n)
	m2.awaitView("w/a@m1:c1")
	server.Kill()
	meshtest.WaitFor(t, func() bool { return m1.Err() != nil }, func() string { return "the outage to be noticed" })
	if m1.Remove(n) {
		t.Error("certain that a node left, while Redis is away")
	}
	server.Restart()
	m2.awaitView("")
	for _, m := range []*member{m1, m2} {
		meshtest.WaitFor(t, func() bool { return slices.Equal(m.wasGone(), []string{"w/a"}) }, func() string { return fmt.Sprintf("the node to be gone at %s: %v", m.ID(), m.wasGone()) })
	}
}

// Redis loses everything, or what matters: it is all there again, and nobody was gone.
func TestSharedLostData(t *testing.T) {
	for what, lose := range map[string][]any{
		"everything": {"FLUSHALL"}, "changes": {"DEL", "meshctl:{mesh:registry}:changes"}, "nodes": {"DEL", "meshctl:{mesh:registry}:nodes", "meshctl:{mesh:registry}:owners"},
		"leases": {"DEL", "meshctl:{mesh:registry}:leases"}, "masters": {"DEL", "meshctl:{mesh:registry}:masters"},
		"count": {"HSET", "meshctl:{mesh:registry}:meta", "rev", "1"}, "one node": {"HDEL", "meshctl:{mesh:registry}:owners", "w/a"},
	} {
		t.Run(what, func(t *testing.T) {
			server := redistest.Start(t)
			m1, m2 := begin(t, server, "m1"), begin(t, server, "m2")
			m1.Put(declared(m1, "a", "c1", 1))
			m2.Put(declared(m2, "b", "c2", 1))
			m1.awaitView("w/b@m2:c2")
			m2.awaitView("w/a@m1:c1")
			c := server.Client()
			defer c.Close()
			if err := c.Do(t.Context(), lose...).Err(); err != nil {
				t.Fatal(err)
			}
			m1.Put(declared(m1, "new", "c3", 1))
			m2.awaitView("w/a@m1:c1, w/new@m1:c3")
			meshtest.WaitFor(t, func() bool {
				n, err := c.HLen(t.Context(), "meshctl:{mesh:registry}:owners").Result()
				return err == nil && n == 3
			}, func() string { return "everything to be in Redis again" })
			begin(t, server, "m3").awaitView("w/a@m1:c1, w/b@m2:c2, w/new@m1:c3")
			if gone := append(m1.wasGone(), m2.wasGone()...); len(gone) > 0 {
				t.Errorf("gone: %v", gone)
			}
		})
	}
}

// Whoever can write to Redis but has no key names no node, and disturbs none.
func TestSharedHostileRedis(t *testing.T) {
	server := redistest.Start(t)
	m1, m2 := begin(t, server, "m1"), begin(t, server, "m2")
	m1.Put(declared(m1, "a", "c1", 1))
	m2.awaitView("w/a@m1:c1")
	c := server.Client()
	defer c.Close()
	stranger, err := newRing(t, seal.Keys{Public: "x", Private: "a stranger's"}).Seal([]byte(`{"peer":{"worker":"w","variant":"evil","ip":"192.0.2.1","port":1},"client":"c","master":"mx"}`))
	if err != nil {
		t.Fatal(err)
	}
	insider, err := sharedRing(t).Seal([]byte(`{"peer":{"worker":"w","variant":"other","ip":"192.0.2.1","port":1},"client":"c","master":"mx"}`))
	if err != nil {
		t.Fatal(err)
	}
	k := func(name string) string { return "meshctl:{mesh:registry}:" + name }
	ctx := t.Context()
	for name, record := range map[string]string{
		"w/evil": stranger, "w/plain": `{"peer":{}}`, "w/empty": "", "w/moved": insider, "__proto__": "zz", strings.Repeat("x", 1<<17): strings.Repeat("ab", 1<<16),
	} {
		c.HSet(ctx, k("nodes"), name, record)
		c.HSet(ctx, k("owners"), name, `{"m":"mx","c":"c","i":"","a":0,"s":0}`)
		rev, err := c.HIncrBy(ctx, k("meta"), "rev", 1).Result()
		if err != nil {
			t.Fatal(err)
		}
		c.Do(ctx, "XADD", k("changes"), "*", "rev", rev, "op", "put", "name", name, "owner", `{"m":"mx","c":"c"}`, "record", record)
	}
	c.HSet(ctx, k("owners"), "w/broken", "{")
	c.HSet(ctx, k("masters"), "evil", stranger, "plain", "{}")
	c.ZAdd(ctx, k("leases"))
	c.Do(ctx, "XADD", k("changes"), "*", "rev", "not a number")
	c.Do(ctx, "XADD", k("changes"), "*", "nothing", "in it")
	m1.Put(declared(m1, "b", "c2", 1))
	m2.awaitView("w/a@m1:c1, w/b@m1:c2")
	m3 := begin(t, server, "m3")
	m3.awaitView("w/a@m1:c1, w/b@m1:c2")
	for _, p := range m3.Shared.Masters() {
		if p.ID != "m1" && p.ID != "m2" {
			t.Errorf("a master %q", p.ID)
		}
	}
	if text := dump(t, c.HGetAll(ctx, k("nodes")).Val()["w/a"]); strings.Contains(text, "127.0.0.1") {
		t.Error("the record is not sealed")
	}
}

func dump(t *testing.T, record string) string {
	t.Helper()
	if record == "" {
		t.Fatal("no record")
	}
	return record
}

// A master that cannot reach Redis, but that others are linked to, is not taken for gone.
func TestSharedVouched(t *testing.T) {
	server := redistest.Start(t)
	var linked atomic.Bool
	linked.Store(true)
	short := func(c *registry.SharedConfig) { c.Lease, c.Grace = 500*time.Millisecond, 500*time.Millisecond }
	vouching := func(c *registry.SharedConfig) {
		c.Linked = func() []string {
			if linked.Load() {
				return []string{"m1", "nobody"}
			}
			return nil
		}
	}
	m1, m2 := begin(t, server, "m1", short), begin(t, server, "m2", short, vouching)
	m1.Put(declared(m1, "a", "c1", 1))
	m2.awaitView("w/a@m1:c1")
	// Its lease ends as if it had not renewed it.
	m1.cancel()
	meshtest.Await(t, m1.done, "m1 to end")
	time.Sleep(3 * time.Second) // there is nothing to wait for: nothing is to happen
	m2.awaitView("w/a@m1:c1")
	for _, p := range m2.Shared.Masters() {
		if p.ID == "m1" && p.Lapsed || p.ID == "nobody" {
			t.Errorf("master %+v", p)
		}
	}
	linked.Store(false)
	m2.awaitView("")
	if gone := m2.wasGone(); !slices.Equal(gone, []string{"w/a"}) {
		t.Errorf("gone: %v", gone)
	}
}

// Records that nobody can open, each of which costs a derivation, do not keep a master from
// renewing its lease, and are tried once.
func TestSharedUnreadable(t *testing.T) {
	server := redistest.Start(t)
	m1 := begin(t, server, "m1")
	c := server.Client()
	defer c.Close()
	k := func(name string) string { return "meshctl:{mesh:registry}:" + name }
	const many = 16
	for i := range many {
		salt := fmt.Sprintf("%0256x", i)[128:] // 64 bytes
		name := fmt.Sprintf("w/x%d", i)
		c.HSet(t.Context(), k("nodes"), name, salt+strings.Repeat("00", 16+16+32))
		c.HSet(t.Context(), k("owners"), name, `{"m":"mx","c":"c","i":"","a":0,"s":0}`)
	}
	before := sharedRing(t).Derivations()
	renewed := func() float64 { return c.ZScore(t.Context(), k("leases"), "m1").Val() }
	for i := range 3 {
		last := renewed()
		meshtest.WaitFor(t, func() bool { return renewed() > last+50 }, func() string { return fmt.Sprintf("the lease to be renewed again (%d)", i) })
	}
	meshtest.WaitFor(t, func() bool { return sharedRing(t).Derivations() >= before+many }, func() string { return "all to be tried" })
	m1.Put(declared(m1, "a", "c1", 1))
	begin(t, server, "m2").awaitView("w/a@m1:c1")
	time.Sleep(500 * time.Millisecond)                            // some comparisons of everything, which are to cost nothing
	if n := sharedRing(t).Derivations() - before; n > 2*many+10 { // by m1 and by m2
		t.Errorf("%d derivations for %d records", n, many)
	}
}

// Of a master whose keys are others that is said once, though it writes its record again with each
// renewal, and by its plain name; and again, once, when the keys that are accepted have changed.
func TestSharedUnreadableIsSaidOnce(t *testing.T) {
	server := redistest.Start(t)
	log, watch := watched(t, "cannot be read")
	next := seal.Keys{Public: "next", Private: "the next private key"}
	ring := newRing(t, meshtest.Keys)
	begin(t, server, "m1", watch, func(c *registry.SharedConfig) { c.Ring = ring })
	other := seal.Keys{Public: "other", Private: "the private key of another mesh"}
	begin(t, server, "m2", func(c *registry.SharedConfig) { c.Ring = newRing(t, other) })
	c := server.Client()
	defer c.Close()
	for want := range int32(2) {
		meshtest.WaitFor(t, func() bool { return log.count.Load() > want }, func() string { return "m2 to be found unreadable" })
		awaitRenewals(t, c, "m2")
		awaitRenewals(t, c, "m1")
		if n, line := log.count.Load(), *log.line.Load(); n != want+1 || !strings.Contains(line, " master=m2 ") {
			t.Fatalf("said %d times, the last time: %s", n, line)
		}
		if _, err := ring.Add(next); err != nil {
			t.Fatal(err)
		}
	}
}

// Everything is written under another key when that is used, so that the former one can go.
func TestSharedKeyChange(t *testing.T) {
	server := redistest.Start(t)
	next := seal.Keys{Public: "next", Private: "the next private key"}
	both := newRing(t, meshtest.Keys, next)
	m1 := begin(t, server, "m1", func(c *registry.SharedConfig) { c.Ring = both })
	m1.Put(declared(m1, "a", "c1", 1))
	key, err := seal.NewKey(next)
	if err != nil {
		t.Fatal(err)
	}
	if err := both.Use(key.Fingerprint()); err != nil {
		t.Fatal(err)
	}
	later := begin(t, server, "m3", func(c *registry.SharedConfig) { c.Ring = newRing(t, next) })
	later.awaitView("w/a@m1:c1")
}

// 2,000 nodes at once arrive, in order and without a gap.
func TestSharedMany(t *testing.T) {
	server := redistest.Start(t)
	m1, m2 := begin(t, server, "m1"), begin(t, server, "m2")
	const many = 2000
	for i := range many {
		m1.Put(declared(m1, fmt.Sprintf("v%d", i), "c1", 1))
	}
	meshtest.WaitFor(t, func() bool {
		m2.mu.Lock()
		defer m2.mu.Unlock()
		return len(m2.view) == many
	}, func() string { return "all nodes" })
	for i := range many / 2 {
		m1.Remove(declared(m1, fmt.Sprintf("v%d", i), "c1", 1))
	}
	meshtest.WaitFor(t, func() bool {
		m2.mu.Lock()
		defer m2.mu.Unlock()
		return len(m2.view) == many/2
	}, func() string { return "half of the nodes" })
}
