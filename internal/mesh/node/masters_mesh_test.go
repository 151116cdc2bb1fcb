package node_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/meshctl/meshctl/internal/mesh/certs"
	"github.com/meshctl/meshctl/internal/mesh/certs/certstest"
	"github.com/meshctl/meshctl/internal/mesh/link"
	"github.com/meshctl/meshctl/internal/mesh/master"
	"github.com/meshctl/meshctl/internal/mesh/meshtest"
	"github.com/meshctl/meshctl/internal/mesh/node"
	"github.com/meshctl/meshctl/internal/mesh/seal"
	"github.com/meshctl/meshctl/internal/mesh/wire"
)

// The masters of these tests share nothing: what is tested is how others find them.

// Nobody listens there.
const nobody, nobodyElse = "127.0.0.1:1", "127.0.0.1:2"

func port(t *testing.T, addr string) int {
	t.Helper()
	a, err := netip.ParseAddrPort(addr)
	if err != nil {
		t.Fatal(err)
	}
	return int(a.Port())
}

// accepting has a listener's connections served, each by a goroutine that ends with it.
func accepting(t *testing.T, serve func(net.Conn)) (addr string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() {
				defer c.Close()
				serve(c)
			})
		}
	})
	t.Cleanup(func() {
		l.Close()
		wg.Wait()
	})
	return l.Addr().String()
}

// relay hands a connection on to an address, until either side closes it.
func relay(c net.Conn, to string) {
	up, err := net.Dial("tcp", to)
	if err != nil {
		return
	}
	defer up.Close()
	go func() {
		copyUntilClosed(up, c)
		up.Close()
	}()
	copyUntilClosed(c, up)
}

// gate is an address at which no master is until there is one. (Ports that are merely free
// somebody else may take.)
type gate struct {
	addr string
	to   atomic.Pointer[string]
}

func newGate(t *testing.T) *gate {
	t.Helper()
	g := new(gate)
	g.addr = accepting(t, func(c net.Conn) {
		if to := g.to.Load(); to != nil {
			relay(c, *to)
		}
	})
	return g
}

// open has a master at the gate.
func (g *gate) open(m *meshtest.Master) *meshtest.Master {
	addr := m.Addr().String()
	g.to.Store(&addr)
	return m
}

func (g *gate) shut() { g.to.Store(nil) }

// at waits until exactly the named nodes are at a master, and gives their links to it.
func at(t *testing.T, m *meshtest.Mesh, addr string, names ...string) (links []string) {
	t.Helper()
	op := m.Operator(func(c *node.Config) { c.Master = addr })
	want := strings.Join(names, " ")
	var got string
	meshtest.WaitFor(t, func() bool {
		nodes, err := op.Nodes(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		var have []string
		links = nil
		for _, n := range nodes {
			have, links = append(have, n.Worker+"/"+n.Variant), append(links, n.Link)
		}
		got = strings.Join(have, " ")
		return got == want
	}, func() string { return fmt.Sprintf("%q at %s, have %q", want, addr, got) })
	return links
}

// Nodes go to the next master when theirs goes, and their links to each other stay.
func TestNodesGoToTheNextMaster(t *testing.T) {
	eachLink(t, func(t *testing.T, m *meshtest.Mesh) {
		first, second := newGate(t), newGate(t)
		first.open(m.Master)
		var lost atomic.Int32
		each := m.Each
		m.Each = func(c *node.Config) {
			if each != nil {
				each(c)
			}
			c.Master = first.addr + "," + second.addr
			c.Hooks.OnDisconnection = func(wire.Peer) { lost.Add(1) }
		}
		shop := m.Join("shop", "s")
		bill := m.Join("billing", "b")
		meshtest.AwaitPeers(t, shop, "billing/b")
		links := func() string { return fmt.Sprint(node.LinkIDs(shop.Node)) }
		before := links()

		other := second.open(m.StartMaster(0))
		first.shut()
		m.Master.Stop()
		at(t, m, second.addr, "billing/b", "shop/s")
		echo(t, shop, `{"at":"the second"}`)
		first.open(m.StartMaster(0))
		second.shut()
		other.Stop()
		at(t, m, first.addr, "billing/b", "shop/s")
		meshtest.WaitFor(t, func() bool { return shop.Ready() && bill.Ready() }, func() string { return "both to be ready" })
		echo(t, shop, `{"at":"the first again"}`)
		if after := links(); lost.Load() != 0 || after != before {
			t.Errorf("%d links went: had %s, have %s", lost.Load(), before, after)
		}
	})
}

// Neither an address that nobody listens on nor one that answers nothing delays a node or
// an operator until it would have given that up.
func TestDeadMastersDelayNobody(t *testing.T) {
	m := meshtest.New(t, shop)
	var silent, tried atomic.Int32 // connections that are open, and all, to the one that is silent
	hole := accepting(t, func(c net.Conn) {
		silent.Add(1)
		tried.Add(1)
		_, _ = io.Copy(io.Discard, c)
		silent.Add(-1)
	})
	var before atomic.Int32 // tried before this time
	var late atomic.Bool    // whether the master was dialled only when the silent one had been given up
	master := accepting(t, func(c net.Conn) {
		if tried.Load() > before.Load() && silent.Load() == 0 {
			late.Store(true)
		}
		relay(c, m.Addr)
	})
	list := strings.Join([]string{hole, nobody, master}, ",")
	for i := 0; tried.Load() < 2; i++ { // whether it is tried is drawn
		if i == 100 {
			t.Fatal("the silent one is never tried")
		}
		before.Store(tried.Load())
		if i%2 == 0 {
			m.Join("billing", fmt.Sprint("b", i), func(c *node.Config) { c.Master = list })
		} else {
			m.Operator(func(c *node.Config) { c.Master = list }).Close()
		}
		if late.Load() {
			t.Error("the master was dialled only when the silent one had been given up")
		}
		meshtest.WaitFor(t, func() bool { return silent.Load() == 0 }, func() string { return "the end of what is not needed" })
	}
}

// A name stands for all its addresses.
func TestNameOfManyMasters(t *testing.T) {
	m := meshtest.New(t, shop)
	lookup := func(_ context.Context, _, host string) ([]netip.Addr, error) {
		if host != "masters.example" {
			return nil, fmt.Errorf("no such host %s", host)
		}
		return []netip.Addr{netip.MustParseAddr("127.0.0.2"), netip.MustParseAddr("127.0.0.1"), netip.MustParseAddr("127.0.0.3")}, nil
	}
	cfg := m.OperatorConfig()
	cfg.Master = fmt.Sprintf("masters.example:%d", port(t, m.Addr))
	for range 5 { // the order is drawn
		op, err := node.ConnectBy(t.Context(), cfg, lookup)
		if err != nil {
			t.Fatal(err)
		}
		op.Close()
	}
	// So it does for a node, beside a name that nobody knows.
	n, err := node.New(node.Config{Ring: m.Ring, Worker: "billing", Variant: "b", Host: "127.0.0.1", Master: "nowhere.example," + cfg.Master, Schema: m.Schema, Logger: meshtest.Log(t, "billing/b")})
	if err != nil {
		t.Fatal(err)
	}
	node.Lookup(n, lookup)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- n.Run(ctx) }()
	meshtest.Await(t, n.Connected(), "the node to join")
	cancel()
	if err := meshtest.Await(t, ended, "the node to end"); err != nil {
		t.Error(err)
	}
}

// With TLS the name that is configured counts, whatever address it leads to.
func TestCertificatesAreForTheMastersName(t *testing.T) {
	ca := certstest.NewCA(t)
	cert, key := ca.Issue(t, "master", 2*time.Hour, "masters.example")
	m := meshtest.New(t, shop, func(m *meshtest.Mesh) {
		m.TLS = certstest.Load(t, certs.Config{Cert: cert, Key: key, CA: ca.File})
	})
	loopback := func(context.Context, string, string) ([]netip.Addr, error) {
		return []netip.Addr{netip.MustParseAddr("127.0.0.1")}, nil
	}
	for _, mode := range []link.Mode{link.Auto, link.SocketIO} {
		for name, ok := range map[string]bool{"masters.example": true, "others.example": false, "127.0.0.1": false} {
			cfg := m.OperatorConfig()
			cfg.Link = mode
			cfg.Master = fmt.Sprintf("%s:%d", name, port(t, m.Addr))
			op, err := node.ConnectBy(t.Context(), cfg, loopback)
			if err == nil {
				op.Close()
			}
			// A Socket.IO master may be too slow, on a busy machine, for what comes after TLS.
			if refused := err != nil && strings.Contains(err.Error(), "certificate is for others"); refused == ok || ok && mode == link.Auto && err != nil {
				t.Errorf("%s over %s: %v", name, mode, err)
			}
		}
	}
}

// Discovery is asked at each address.
func TestDiscoveryOfManyMasters(t *testing.T) {
	discovery := meshtest.ReservePort(t)
	m := meshtest.New(t, shop, func(m *meshtest.Mesh) {
		m.EachMaster = func(c *master.Config) { c.DiscoveryPort = discovery }
	})
	cfg := m.OperatorConfig()
	cfg.DiscoveryPort = discovery
	cfg.Master = "127.0.0.2,127.0.0.1,127.0.0.3"
	n := m.Join("billing", "b", func(c *node.Config) { c.Master, c.DiscoveryPort = cfg.Master, cfg.DiscoveryPort })
	if err := n.Stop(); err != nil {
		t.Fatal(err)
	}
	m.Master.Stop()
	_, err := node.Connect(t.Context(), cfg)
	for _, ip := range strings.Split(cfg.Master, ",") {
		if where := fmt.Sprintf("%s:%d", ip, cfg.DiscoveryPort); err == nil || !strings.Contains(err.Error(), where) {
			t.Errorf("%s is not in %v", where, err)
		}
	}
}

// One error names all masters, and is the one that tells most.
func TestNoMasterAnswers(t *testing.T) {
	m := meshtest.New(t, shop)
	a, b := nobody, nobodyElse
	connect := func(change func(*node.Config)) error {
		t.Helper()
		cfg := m.OperatorConfig()
		change(&cfg)
		op, err := node.Connect(t.Context(), cfg)
		if err == nil {
			op.Close()
		}
		return err
	}
	err := connect(func(c *node.Config) { c.Master = a + ", " + b })
	if wire.CodeOf(err) != wire.CodeUnreachable || !strings.Contains(err.Error(), a) || !strings.Contains(err.Error(), b) {
		t.Errorf("nobody there: %v", err)
	}
	others, err := seal.NewRing([]seal.Keys{{Public: "other public key", Private: "other private key"}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := others.Used().Native(); err != nil { // takes long on a busy machine
		t.Fatal(err)
	}
	err = connect(func(c *node.Config) { c.Master, c.Ring = a+","+m.Addr, others })
	if wire.CodeOf(err) != wire.CodeKeyMismatch || !strings.Contains(err.Error(), a) || !strings.Contains(err.Error(), m.Addr) {
		t.Errorf("one has other keys: %v", err)
	}
	if err := connect(func(c *node.Config) { c.Master = a + "," }); wire.CodeOf(err) != wire.CodeBadRequest {
		t.Errorf("a list that ends in nothing: %v", err)
	}
}

// Where one master refuses a node, another may take it.
func TestNodeGoesOnWhereOneMasterRefuses(t *testing.T) {
	m := meshtest.New(t, shop)
	whole := m.Schema
	m.Schema = meshtest.Parse(t, "mailer: {_allow: [], _commands: {}}")
	strict := m.StartMaster(0)
	m.Schema = whole
	var names []string
	for i := range 4 { // the order is drawn
		v := fmt.Sprint("b", i)
		m.Join("billing", v, func(c *node.Config) { c.Master = strict.Addr().String() + "," + m.Addr })
		names = append(names, "billing/"+v)
	}
	at(t, m, m.Addr, names...)
}

// What one master serves says nothing of another.
func TestNodeGoesFromAPlainMasterToANativeOne(t *testing.T) {
	m := meshtest.New(t, shop)
	second := newGate(t)
	m.Link = link.SocketIO
	plain := m.StartMaster(0)
	m.Link = link.Auto
	m.Join("billing", "b", func(c *node.Config) { c.Master = plain.Addr().String() + "," + second.addr })
	second.open(m.StartMaster(0))
	plain.Stop()
	if links := at(t, m, second.addr, "billing/b"); links[0] != "native" {
		t.Errorf("the link to the second master is %s", links[0])
	}
}

// A node that moves its link to another key stays at its master.
func TestKeyChangeStaysAtTheMaster(t *testing.T) {
	m := meshtest.New(t, shop)
	next := seal.Keys{Public: "next public", Private: "next private"}
	second := newGate(t)
	ring, err := seal.NewRing([]seal.Keys{meshtest.Keys, next}, nil)
	if err != nil {
		t.Fatal(err)
	}
	m.Ring = ring
	m.EachMaster = func(c *master.Config) { c.Ring = ring }
	first := m.StartMaster(0)
	n := m.Join("billing", "b", func(c *node.Config) { c.Master = first.Addr().String() + "," + second.addr })
	second.open(m.StartMaster(0))
	for range 3 {
		used := ring.Used()
		for _, k := range ring.Keys() {
			if k != used {
				if err := ring.Use(k.Fingerprint()); err != nil {
					t.Fatal(err)
				}
				break
			}
		}
		meshtest.WaitFor(t, func() bool { return node.UplinkKey(n.Node) == ring.Used() }, func() string { return "the link to the master to move" })
		at(t, m, first.Addr().String(), "billing/b")
		at(t, m, second.addr)
	}
}

// A watcher goes to the next master as well, and says which.
func TestWatcherGoesToTheNextMaster(t *testing.T) {
	m := meshtest.New(t, shop)
	addr := m.Addr
	second := newGate(t)
	m.Addr += "," + second.addr // for whoever joins
	w := watchMesh(t, m)
	if s := w.untilStatus(true); s.Master != addr {
		t.Errorf("watching %q, want %q", s.Master, addr)
	}
	second.open(m.StartMaster(0))
	m.Master.Stop()
	if s := w.untilStatus(false); s.Reason == "" || s.Master != addr {
		t.Errorf("the lost master is told as %+v", s)
	}
	if s := w.untilStatus(true); s.Master != second.addr {
		t.Errorf("watching %q, want %q", s.Master, second.addr)
	}
	m.Join("billing", "b")
	w.untilNodes("billing/b")
}
