// Package meshtest runs a whole mesh in one process, on free ports of the loopback
// interface, for tests: real master, real nodes, real sockets.
package meshtest

import (
	"context"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/meshctl/meshctl/internal/mesh/certs"
	"github.com/meshctl/meshctl/internal/mesh/link"
	"github.com/meshctl/meshctl/internal/mesh/master"
	"github.com/meshctl/meshctl/internal/mesh/node"
	"github.com/meshctl/meshctl/internal/mesh/schema"
	"github.com/meshctl/meshctl/internal/mesh/seal"
	"github.com/meshctl/meshctl/internal/mesh/wire"
)

// patience bounds every wait. It is long because test machines are slow and shared;
// no test ought to need more than a fraction of it.
const patience = time.Minute

// callTimeout is how long the peers of a test mesh wait for answers where nothing else is said.
const callTimeout = 30 * time.Second

// Keys are the keys of every test mesh.
var Keys = seal.Keys{Public: "test public key", Private: "test private key"}

// Mesh is a master and the nodes that were started with it.
type Mesh struct {
	t      testing.TB
	Schema *schema.Schema
	Addr   string // of the master
	Master *Master

	// Ring is shared by all peers, which spares the tests hundreds of key derivations; nil
	// before a peer starts gives that peer its own.
	Ring *seal.Ring
	// Link is the kind of link that peers are started with.
	Link link.Mode
	// TLS is what peers are started with.
	TLS *certs.Identity
	// Each, if set, may change the configuration of each node that is started.
	Each func(*node.Config)
	// EachMaster likewise, of each master.
	EachMaster func(*master.Config)
}

// Master is a running master.
type Master struct {
	*master.Master
	Stop func() // ends it and waits; safe to repeat
}

// Node is a running node.
type Node struct {
	*node.Node
	Stop func() error // drains it and waits; gives what Run returned; safe to repeat
	Wait func() error // waits until it ends by itself; gives what Run returned
}

// Parse reads a schema in YAML.
func Parse(t testing.TB, yaml string) *schema.Schema {
	t.Helper()
	s, err := schema.Parse("schema.yaml", []byte(yaml))
	if err != nil {
		t.Fatalf("parse schema: %v", err)
	}
	return s
}

// New starts a master with the schema. The test ends everything.
// change, if given, is called before anything starts.
func New(t testing.TB, yaml string, change ...func(*Mesh)) *Mesh {
	t.Helper()
	ring, err := seal.NewRing([]seal.Keys{Keys}, nil)
	if err != nil {
		t.Fatal(err)
	}
	m := &Mesh{t: t, Schema: Parse(t, yaml), Ring: ring}
	for _, f := range change {
		f(m)
	}
	m.Master = m.StartMaster(0)
	m.Addr = m.Master.Addr().String()
	return m
}

// StartMaster starts another master on a port (0: a free one, which stays this test's), as after a restart.
func (m *Mesh) StartMaster(port int) *Master {
	m.t.Helper()
	if port == 0 {
		port = ReservePort(m.t)
	}
	cfg := master.Config{Keys: Keys, Schema: m.Schema, Host: "127.0.0.1", Port: port, Logger: Log(m.t, "master"), Version: "test", Ring: m.Ring, Link: m.Link, TLS: m.TLS}
	if m.EachMaster != nil {
		m.EachMaster(&cfg)
	}
	mm, err := master.New(cfg)
	if err != nil {
		m.t.Fatalf("new master: %v", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	failed := make(chan error, 1)
	done := make(chan struct{})
	go func() {
		defer close(done)
		failed <- mm.Run(ctx)
	}()
	stop := func() {
		cancel()
		Await(m.t, done, "the master to stop")
	}
	m.t.Cleanup(stop)
	select {
	case <-mm.Ready():
	case err := <-failed:
		m.t.Fatalf("run master: %v", err)
	}
	return &Master{Master: mm, Stop: stop}
}

// Option changes a node's configuration.
type Option func(*node.Config)

// Join starts a node and waits until the master has accepted it.
func (m *Mesh) Join(worker, variant string, options ...Option) *Node {
	m.t.Helper()
	n := m.Start(worker, variant, options...)
	Await(m.t, n.Connected(), worker+"/"+variant+" to join")
	return n
}

// Start starts a node and waits for nothing.
func (m *Mesh) Start(worker, variant string, options ...Option) *Node {
	m.t.Helper()
	cfg := node.Config{
		Keys: Keys, Worker: worker, Variant: variant, Master: m.Addr, Host: "127.0.0.1",
		Schema: m.Schema, Logger: Log(m.t, worker+"/"+variant), Version: "test", Ring: m.Ring, Link: m.Link, TLS: m.TLS,
		Timeout: callTimeout,
	}
	if m.Each != nil {
		m.Each(&cfg)
	}
	for _, o := range options {
		o(&cfg)
	}
	n, err := node.New(cfg)
	if err != nil {
		m.t.Fatalf("new node: %v", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	var result error
	go func() {
		defer close(done)
		result = n.Run(ctx)
	}()
	wait := func() error {
		Await(m.t, done, worker+"/"+variant+" to end")
		return result
	}
	stop := func() error {
		cancel()
		return wait()
	}
	m.t.Cleanup(func() {
		n.Kill()
		_ = stop()
	})
	return &Node{Node: n, Stop: stop, Wait: wait}
}

// OperatorConfig is what node.Connect and node.Watch need.
func (m *Mesh) OperatorConfig() node.Config {
	return node.Config{Keys: Keys, Master: m.Addr, Logger: Log(m.t, "operator"), Version: "test", Ring: m.Ring, Link: m.Link, TLS: m.TLS, Timeout: callTimeout}
}

// Operator connects the command line's kind of peer.
func (m *Mesh) Operator(options ...Option) *node.Operator {
	m.t.Helper()
	cfg := m.OperatorConfig()
	for _, o := range options {
		o(&cfg)
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	op, err := node.Connect(ctx, cfg)
	for wire.CodeOf(err) == wire.CodeUnreachable && ctx.Err() == nil { // it gives up sooner than we do
		op, err = node.Connect(ctx, cfg)
	}
	if err != nil {
		m.t.Fatalf("connect operator: %v", err)
	}
	m.t.Cleanup(op.Close)
	return op
}

// AwaitPeers waits until n has links to exactly the named peers ("worker/variant"), in
// this order.
func AwaitPeers(t testing.TB, n interface{ Peers() []wire.Peer }, names ...string) {
	t.Helper()
	want := strings.Join(names, " ")
	var got string
	WaitFor(t, func() bool {
		var have []string
		for _, p := range n.Peers() {
			have = append(have, p.Name())
		}
		got = strings.Join(have, " ")
		return got == want
	}, func() string { return "peers " + want + ", have " + got })
}

// Await waits until c is closed or gives a value.
func Await[T any](t testing.TB, c <-chan T, what string) T {
	t.Helper()
	select {
	case v := <-c:
		return v
	case <-time.After(patience):
		t.Fatalf("waited %s for %s", patience, what)
		panic("unreachable")
	}
}

// WaitFor waits until a condition holds that nothing announces.
func WaitFor(t testing.TB, condition func() bool, what func() string) {
	t.Helper()
	for deadline := time.Now().Add(patience); !condition(); {
		if time.Now().After(deadline) {
			t.Fatalf("waited %s for %s", patience, what())
		}
		time.Sleep(2 * time.Millisecond)
	}
}

// Log gives a logger that writes to the test's output, until the test has ended.
func Log(t testing.TB, name string) *slog.Logger {
	return slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelDebug})).With("of", name)
}
