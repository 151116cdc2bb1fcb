// Package node is the role that answers commands and sends them. A Node is declared
// at a master, keeps links to the nodes that the schema names, and outlives the
// master's absence. An Operator is the command line's short-lived counterpart.
package node

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/meshctl/meshctl/internal/mesh/handler"
	"github.com/meshctl/meshctl/internal/mesh/link"
	"github.com/meshctl/meshctl/internal/mesh/queue"
	"github.com/meshctl/meshctl/internal/mesh/rpc"
	"github.com/meshctl/meshctl/internal/mesh/wire"
	"github.com/meshctl/meshctl/internal/pause"
)

// handlerGrace is how long handlers may take to end once their context has.
const handlerGrace = 5 * time.Second

// Node is one variant of a worker. Make one with New and run it once.
type Node struct {
	*core
	listener net.Listener
	dialers  dialers
	started  time.Time

	listening chan struct{} // closed once listener is set
	connected chan struct{} // closed when a master first accepted us
	once      sync.Once     // closes connected
	declared  atomic.Bool
	attaches  atomic.Int64 // declares at masters so far
	// masterMeshctl tells whether the present master is meshctl.
	masterMeshctl atomic.Bool
	kill          context.CancelFunc
}

// New checks the configuration and prepares what answers the worker's commands. It
// opens no socket and starts no program; Run does.
func New(cfg Config) (*Node, error) {
	if cfg.Schema == nil {
		return nil, errors.New("a node needs a schema")
	}
	own := cfg.Schema.Workers[cfg.Worker]
	if own == nil {
		return nil, &wire.Error{Code: wire.CodeBadRequest, Message: fmt.Sprintf("the schema has no worker %q", cfg.Worker), Hint: fmt.Sprintf("it has: %v; or give another file with --schema", cfg.Schema.WorkerNames())}
	}
	for name := range cfg.Handlers {
		if own.Commands[name] == nil {
			return nil, fmt.Errorf("a handler for %s.%s, which the schema does not have", cfg.Worker, name)
		}
	}
	if cfg.TLS != nil && !cfg.TLS.Serves() {
		return nil, &wire.Error{Code: wire.CodeBadRequest, Message: "a node with TLS needs a certificate for its mesh server", Hint: "give it --tls-cert and --tls-key"}
	}
	var t *telemetry
	t, cfg.Logger = newTelemetry(cfg.Logger)
	store, err := openStore(&cfg, own)
	if err != nil {
		return nil, fmt.Errorf("open the queues: %w", err)
	}
	c, err := newCore(cfg)
	if err != nil {
		return nil, errors.Join(err, closeStore(store))
	}
	t.attach(c, own)
	n := &Node{core: c, listening: make(chan struct{}), connected: make(chan struct{}), started: time.Now()}
	n.dialers = dialers{core: c, byName: make(map[peerName]*dialer)}
	n.own, n.rooms = own, newRooms(own)
	if r, ok := store.(*queue.Redis); ok {
		n.outbox = newOutbox(r, nil)
	}
	n.kill = c.stop
	n.handlers, err = handler.NewSet(own, handler.Config{
		Env: handler.Env{Status: n.Status, Caller: n}, SchemaDir: cfg.SchemaDir, Logger: c.log,
	})
	if err != nil {
		n.kill()
		return nil, errors.Join(err, closeStore(store))
	}
	if n.queues, err = newQueues(c, store); err != nil {
		n.kill()
		return nil, err
	}
	return n, nil
}

// Run joins the mesh and blocks until ctx ends. It then drains: it tells everybody,
// takes no new requests, and waits up to Config.DrainTimeout for those under way
// (Kill ends that wait). It returns nil, or why the node could not go on; code
// replaced says that a newer instance took this variant. No goroutine or program of it
// is left.
func (n *Node) Run(ctx context.Context) error {
	defer n.kill()
	defer n.queues.close()
	var err error
	if n.listener, err = net.Listen("tcp", net.JoinHostPort(n.cfg.Host, strconv.Itoa(n.cfg.MeshPort))); err != nil {
		return fmt.Errorf("open the mesh port: %w", err)
	}
	defer n.listener.Close()
	n.self.Port = n.listener.Addr().(*net.TCPAddr).Port
	server, err := n.newServer()
	if err != nil {
		return err
	}
	close(n.listening)

	// Everything lives until the work is done; only the wait for it ends with ctx.
	g, live := errgroup.WithContext(n.work)
	g.Go(func() error { return server.Serve(live, n.listener) })
	g.Go(func() error { return n.handlers.Run(live) })
	g.Go(func() error { return n.queues.run(live) })
	g.Go(func() error { n.runHooks(live); return nil })
	g.Go(func() error { n.watchToken(live); return nil })
	g.Go(func() error { return n.uplink(live) })
	g.Go(func() error {
		select {
		case <-ctx.Done():
			n.drain(live)
		case <-live.Done():
		}
		n.kill()
		return nil
	})
	err = g.Wait()
	n.kill()
	n.dialers.end()
	n.retiring.Wait()
	ctx, cancel := context.WithTimeout(context.Background(), handlerGrace)
	defer cancel()
	if n.server.Idle(ctx) != nil {
		n.log.Error("left a handler behind that does not end with its context", "in_flight", n.server.InFlight())
	}
	return err
}

// Kill ends Run without waiting for requests under way. Safe at any time.
func (n *Node) Kill() { n.kill() }

// Listening is closed once Addr is valid.
func (n *Node) Listening() <-chan struct{} { return n.listening }

// Connected is closed when a master has accepted the node for the first time.
func (n *Node) Connected() <-chan struct{} { return n.connected }

// Ready tells whether NotReady is nil.
func (n *Node) Ready() bool { return n.NotReady() == nil }

// NotReady is why the node is not to be given work at present: it leaves, is not declared at
// a master, or cannot store queued requests. It is nil while the node is ready. It does not block.
func (n *Node) NotReady() error {
	switch {
	case n.leaving.Load():
		return errDraining
	case !n.declared.Load():
		return errUndeclared
	}
	return n.queues.err()
}

var (
	errDraining   = errors.New("the node drains: it takes no new requests, and ends when those under way are done")
	errUndeclared = errors.New("the node is not declared at a master; it keeps trying, and its log says why")
)

// Addr is where the mesh server listens. It is valid once Listening is closed.
func (n *Node) Addr() net.Addr { return n.listener.Addr() }

// Variant is the node's name among its worker's variants.
func (n *Node) Variant() string { return n.self.Variant }

// Name is the node's "worker/variant".
func (n *Node) Name() string { return n.self.Name() }

// Peers lists whom the node has links to, by worker and variant.
func (n *Node) Peers() []wire.Peer { return n.peers.list() }

// Late counts the responses that came after their request had ended.
func (n *Node) Late() uint64 { return n.peers.late() }

// Derivations counts the key derivations that this node paid for.
func (n *Node) Derivations() uint64 { return n.ring.Derivations() }

// Call sends a request to the worker and command named by target ("worker.command")
// and blocks until it is answered, ctx ends or opts.Timeout is over. Balanced: the
// error is that of the one request. Broadcast: the error says that nobody could be
// asked; failures of variants are in their replies. Errors are *wire.Error.
func (n *Node) Call(ctx context.Context, target string, payload json.RawMessage, opts CallOptions) (*Result, error) {
	return n.call(ctx, target, payload, opts, linked{n.core})
}

// Nodes asks the master, which must be meshctl, for its list of nodes.
func (n *Node) Nodes(ctx context.Context) ([]wire.NodeInfo, error) {
	nodes, _, err := listNodes(ctx, n.askMaster)
	return nodes, err
}

// askMaster sends a control request to the master, if there is one.
func (n *Node) askMaster(ctx context.Context, command string, payload json.RawMessage) (json.RawMessage, error) {
	l := n.master.link.Load()
	if l == nil {
		return nil, &wire.Error{Code: wire.CodeUnreachable, Message: "not connected to a master", Temporary: true}
	}
	return n.control(ctx, *l, command, payload)
}

// Status is what the built-in status handler answers.
func (n *Node) Status() handler.Status {
	host, _ := os.Hostname()
	return handler.Status{
		Worker: n.self.Worker, Variant: n.self.Variant, Version: n.cfg.Version, Host: host, PID: os.Getpid(),
		UptimeMS: time.Since(n.started).Milliseconds(), Served: n.server.Served(), InFlight: n.server.InFlight(),
	}
}

// noticeShare is which share of the heartbeat links stay for after they were told that the node
// leaves (50 ms of 3 s). What a peer sent before it heard of that is refused, and goes to another
// variant; over a link that has closed it would be lost.
const noticeShare = 60

// drain announces that the node leaves and waits for what is under way.
func (n *Node) drain(ctx context.Context) {
	n.leaving.Store(true)
	n.log.Info("draining", "in_flight", n.server.InFlight(), "queued", n.queues.len(), "timeout", n.cfg.DrainTimeout)
	if l := n.master.link.Load(); l != nil {
		n.sayDrain(*l)
	}
	links := n.peers.links()
	for _, l := range links {
		if l.meshctl() {
			_ = rpc.Event(l, wire.EventDrain, n.leaver())
		}
	}
	ctx, cancel := context.WithTimeout(ctx, n.cfg.DrainTimeout)
	defer cancel()
	if len(links) > 0 {
		pause.For(ctx, n.cfg.Heartbeat/noticeShare)
	}
	err := n.queues.idle(ctx)
	if err == nil {
		err = n.server.Idle(ctx)
	}
	if err != nil {
		n.log.Warn("stopped with requests under way", "in_flight", n.server.InFlight(), "queued", n.queues.len())
	}
	reason := errLeaving
	if err == nil {
		reason = link.ErrDrained // what a peer has sent since goes elsewhere
	}
	// The last responses leave before the links do.
	var closing sync.WaitGroup
	for _, l := range n.peers.links() {
		closing.Go(func() { l.Close(reason) })
	}
	closing.Wait()
}

// sayDrain tells a master that the node leaves. A JavaScript master does not know the event, and learns
// of it when we have left.
func (n *Node) sayDrain(master link.Link) {
	if n.masterMeshctl.Load() {
		_ = rpc.Event(master, wire.EventDrain, n.leaver())
	}
}

// leaver is what a drain says of who leaves.
func (n *Node) leaver() wire.Peer { return wire.Peer{Worker: n.self.Worker, Variant: n.self.Variant} }

func (n *Node) runHooks(ctx context.Context) {
	for {
		select {
		case f := <-n.peers.hooks:
			f()
		case <-ctx.Done():
			return
		}
	}
}
