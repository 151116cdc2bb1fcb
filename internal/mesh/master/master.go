// Package master is the role that knows every node: it accepts those that the schema
// defines, tells each whom it may connect to, and keeps telling. It carries no
// requests between nodes; those go on when it is away.
package master

import (
	"cmp"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strconv"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/meshctl/meshctl/internal/mesh/identity"
	"github.com/meshctl/meshctl/internal/mesh/link"
	"github.com/meshctl/meshctl/internal/mesh/link/native"
	"github.com/meshctl/meshctl/internal/mesh/link/socketio"
	"github.com/meshctl/meshctl/internal/mesh/registry"
	"github.com/meshctl/meshctl/internal/mesh/schema"
	"github.com/meshctl/meshctl/internal/mesh/seal"
	"github.com/meshctl/meshctl/internal/mesh/wire"
)

// Master accepts nodes. Make one with New and run it once.
type Master struct {
	cfg     Config
	log     *slog.Logger
	ring    *seal.Ring
	gate    *identity.Gate
	nodes   registry.Registry
	ready   chan struct{}
	started time.Time

	listener  net.Listener    // set before ready is closed
	listens   time.Time       // likewise: since when
	discovery net.Listener    // likewise; nil when off
	running   context.Context // ends when this master does; set before anybody is accepted

	// mu orders what nodes are told: whoever changes the registry sends the news
	// before the next change. Link.Send does not block.
	mu       sync.Mutex
	schema   *schema.Schema
	revision int64

	schemaJSON json.RawMessage     // schema as nodes are told of it
	denied     []string            // the deny list as nodes are told of it
	policy     string              // fingerprint of issuers and deny list
	sessions   map[string]*session // declared ones, by client id
	byWorker   map[string]map[*session]struct{}
	untold     map[*session]struct{} // those with news
	gathering  bool                  // tell is due
	watching   watching
	orders     orders

	// Of several masters, see shared.go; nil and empty for one alone.
	shared *registry.Shared
	others map[string]*otherMaster // those with a lease, by ID
	known  map[string]knownMaster  // by ID
	// linking is what links to others live on; nil before there may be any, and at the end.
	linking context.Context
	wg      sync.WaitGroup // of those links
}

// New checks the configuration. It opens nothing; Run does.
func New(cfg Config) (*Master, error) {
	if cfg.Ring == nil {
		var err error
		if cfg.Ring, err = seal.NewRing([]seal.Keys{cfg.Keys}, nil); err != nil {
			return nil, fmt.Errorf("check keys: %w", err)
		}
	}
	if cfg.Schema == nil {
		return nil, errors.New("a master needs a schema")
	}
	if cfg.Schema.TokensRequired && cfg.Issuer == nil {
		return nil, errNoIssuer
	}
	if cfg.TLS != nil && !cfg.TLS.Serves() {
		return nil, errors.New("a master with TLS needs a certificate and its key")
	}
	cfg.MaxPayload = cmp.Or(cfg.MaxPayload, wire.DefaultMaxPayload)
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	m := &Master{
		cfg: cfg, log: cfg.Logger, ring: cfg.Ring, gate: identity.NewGate(cfg.Issuer), nodes: &registry.Memory{},
		ready: make(chan struct{}), schema: cfg.Schema, revision: 1, sessions: make(map[string]*session),
		started:  time.Now(),
		byWorker: make(map[string]map[*session]struct{}), untold: make(map[*session]struct{}),
	}
	var err error
	if m.schemaJSON, err = m.encode(cfg.Schema); err != nil {
		return nil, err
	}
	m.policy = m.policyPrint()
	if cfg.Redis != "" {
		if err := m.openShared(); err != nil {
			return nil, err
		}
	}
	return m, nil
}

// Run serves until ctx ends, and then returns nil; or it returns why it cannot.
// It blocks, and leaves no goroutine behind.
func (m *Master) Run(ctx context.Context) error {
	if m.shared == nil {
		return m.serve(ctx)
	}
	// The registry is kept until the last link has ended: what those say at the end counts.
	keeping, stop := context.WithCancel(context.WithoutCancel(ctx))
	kept := make(chan struct{})
	go func() {
		defer close(kept)
		m.shared.Run(keeping)
	}()
	defer func() {
		stop()
		<-kept
	}()
	m.awaitShared(ctx)
	return m.serve(ctx)
}

func (m *Master) serve(ctx context.Context) error {
	var err error
	if m.listener, err = net.Listen("tcp", net.JoinHostPort(m.cfg.Host, strconv.Itoa(m.cfg.Port))); err != nil {
		return listenError("listen for nodes", "--port", err)
	}
	defer m.listener.Close()
	if m.cfg.DiscoveryPort != 0 {
		discovery, err := net.Listen("tcp", net.JoinHostPort(m.cfg.Host, strconv.Itoa(m.cfg.DiscoveryPort)))
		switch {
		case err == nil:
			m.discovery = discovery
			defer discovery.Close()
		case m.cfg.DiscoveryOptional:
			m.log.Warn("discovery is off: its port is taken", "error", err)
		default:
			return listenError("listen for discovery", "--discovery-port", err)
		}
	}
	server, err := m.newServer()
	if err != nil {
		return err
	}
	_ = m.ring.Fingerprints() // derived now, and not while m.mu is held
	m.listens = time.Now()
	close(m.ready)

	g, ctx := errgroup.WithContext(ctx)
	m.running = ctx
	if m.shared != nil {
		port := m.listener.Addr().(*net.TCPAddr).Port
		m.shared.SetSelf(func(x *registry.Master) { x.Port = port })
		g.Go(func() error { return m.keepOthers(ctx) })
	}
	g.Go(func() error { return server.Serve(ctx, m.listener) })
	if m.discovery != nil {
		port := m.listener.Addr().(*net.TCPAddr).Port
		discovery := m.discovery
		if m.cfg.TLS != nil {
			discovery = tls.NewListener(discovery, m.cfg.TLS.Server())
		}
		g.Go(func() error { return serveDiscovery(ctx, discovery, m.ring, port, m.log) })
	}
	err = g.Wait()
	m.orders.wg.Wait()
	m.mu.Lock()
	defer m.mu.Unlock()
	clear(m.untold) // nobody is left to be told
	m.stopWatching()
	return err
}

// newServer makes the doors: Socket.IO, and beside it the native link.
func (m *Master) newServer() (*socketio.Server, error) {
	cfg := socketio.Config{Ring: m.ring, MaxPayload: m.cfg.MaxPayload, Logger: m.log, Accept: m.accept, Heartbeat: m.cfg.Heartbeat}
	if m.native() {
		door, err := native.NewServer(native.Config{
			Key: m.ring.Used(), Find: m.ring.ByID, Hello: native.Hello{Name: "@master"}, MaxPayload: m.cfg.MaxPayload, Logger: m.log,
			Heartbeat: m.cfg.Heartbeat,
		}, m.accept, socketio.Trust)
		if err != nil {
			return nil, err
		}
		cfg.Fallback = door
	}
	if m.cfg.TLS != nil {
		cfg.TLS = m.cfg.TLS.Server()
	}
	return socketio.New(cfg)
}

// clientTLS is what this master dials another one with; nil: plain TCP.
func (m *Master) clientTLS(host string) *tls.Config {
	if m.cfg.TLS == nil {
		return nil
	}
	return m.cfg.TLS.Client(host)
}

// native tells whether native links are served.
func (m *Master) native() bool { return m.cfg.Link != link.SocketIO }

// Ready is closed once the master listens.
func (m *Master) Ready() <-chan struct{} { return m.ready }

// Addr is where nodes connect to. It is valid once Ready is closed.
func (m *Master) Addr() net.Addr { return m.listener.Addr() }

// DiscoveryAddr is where discovery is answered, nil when it is off. It is valid once
// Ready is closed.
func (m *Master) DiscoveryAddr() net.Addr {
	if m.discovery == nil {
		return nil
	}
	return m.discovery.Addr()
}

// PortError says that an address is taken; Flag names what changes it.
type PortError struct {
	Op, Flag string
	Err      error
}

func (e *PortError) Error() string { return fmt.Sprintf("%s: %v", e.Op, e.Err) }
func (e *PortError) Unwrap() error { return e.Err }

func listenError(op, flag string, err error) error {
	if errors.Is(err, syscall.EADDRINUSE) || errors.Is(err, syscall.EACCES) {
		return &PortError{Op: op, Flag: flag, Err: err}
	}
	return fmt.Errorf("%s: %w", op, err)
}

// accept serves one link until it ends.
func (m *Master) accept(ctx context.Context, l link.Link) {
	s := &session{m: m, link: l}
	err := s.serve(ctx)
	defer func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		s.stopExpiry()
	}()
	if m.running.Err() == nil { // a master that ends says of nobody that it left; its links end before ctx does
		m.mu.Lock()
		m.leave(s)
		m.mu.Unlock()
	}
	l.Close(err)
	s.pending.LinkLost(l)
}
