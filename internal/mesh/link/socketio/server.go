package socketio

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	eio "github.com/zishang520/engine.io-go-parser/packet"
	"github.com/zishang520/engine.io/v2/engine"
	"github.com/zishang520/engine.io/v2/types"
	"github.com/zishang520/socket.io/v2/socket"
	"golang.org/x/time/rate"

	"github.com/meshctl/meshctl/internal/mesh/link"
)

const (
	// maxHeaderBytes bounds an HTTP request's header.
	maxHeaderBytes = 16 << 10
	// idleTimeout is how long an HTTP connection is kept between requests.
	idleTimeout = 30 * time.Second
)

// errServerClosed is why links end when Serve ends.
var errServerClosed = errors.New("this end is shutting down")

// Server accepts links from Socket.IO clients.
type Server struct {
	cfg    Config
	log    *slog.Logger
	io     *socket.Server
	engine http.Handler // the library's
	gate   *gate
	noisy  rate.Sometimes // how often a wrong key is logged
	stats  counters

	admission atomic.Pointer[admission]
	engines   sync.WaitGroup // library connections
	requests  sync.WaitGroup // HTTP requests
	links     sync.WaitGroup // writers and Accept calls

	mu       sync.Mutex
	ctx      context.Context // of Accept calls; nil before Serve
	sessions map[*session]struct{}
	stopping bool
}

type counters struct {
	badRequests, protocolErrors, unopened, dropped atomic.Uint64
}

// Stats are counters of what a Server saw and did since New.
type Stats struct {
	Open           int    // connections now
	Undeclared     int    // … of which not declared
	Links          int    // … of which links
	Refused        uint64 // connections closed to keep a bound
	BadRequests    uint64 // requests to the Socket.IO path that were no handshake
	ProtocolErrors uint64 // connections closed for what they sent
	Unopened       uint64 // messages that could not be opened
	Dropped        uint64 // events not delivered: unknown, not opened, or too late
}

// New makes a Server, which starts nothing before Serve.
func New(cfg Config) (*Server, error) {
	if err := cfg.setDefaults(); err != nil {
		return nil, err
	}
	s := &Server{
		cfg:      cfg,
		log:      cfg.Logger,
		gate:     newGate(cfg.MaxDerivations),
		noisy:    rate.Sometimes{First: 3, Interval: time.Second},
		sessions: make(map[*session]struct{}),
	}
	opts := socket.DefaultServerOptions()
	opts.SetParser(guardedParser{s})
	opts.SetTransports(types.NewSet("websocket"))
	opts.SetAllowUpgrades(false)
	opts.SetServeClient(false)
	opts.SetMaxHttpBufferSize(maxFrame(cfg.MaxPayload)) // the WebSocket's read limit
	opts.SetPingInterval(cfg.PingInterval)
	opts.SetPingTimeout(cfg.PingTimeout)
	opts.SetConnectTimeout(cfg.DeclareTimeout)
	s.io = socket.NewServer(nil, opts)
	s.io.Use(s.bind)
	_ = s.io.On("connection", s.connected)
	s.engine = s.io.ServeHandler(nil)
	_ = s.io.Engine().On("connection", s.opened)
	return s, nil
}

// Serve accepts links from l, which it closes, until ctx ends or l fails. It stops
// accepting first, then closes the links, and returns when their Accept calls have
// returned: nil if it was ctx. It is called once.
func (s *Server) Serve(ctx context.Context, l net.Listener) error {
	a := newAdmission(l, &s.cfg)
	live, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()

	s.mu.Lock()
	if s.ctx != nil {
		s.mu.Unlock()
		_ = l.Close()
		return errors.New("socketio: Serve was called before")
	}
	s.ctx = live
	s.mu.Unlock()
	s.admission.Store(a)
	// Bounds are kept below TLS: a connection counts before its handshake, which is done
	// on a goroutine of its own and has to end within DeclareTimeout as all the rest.
	var accepting net.Listener = a
	if s.cfg.TLS != nil {
		accepting = tls.NewListener(a, s.cfg.TLS)
	}

	server := &http.Server{
		Handler:           http.HandlerFunc(s.track),
		ConnContext:       withConn,
		ReadHeaderTimeout: s.cfg.DeclareTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeaderBytes,
		ErrorLog:          slog.NewLogLogger(s.log.Handler(), slog.LevelDebug),
	}
	var background sync.WaitGroup
	background.Go(func() { a.watch(live) })
	failed := make(chan error, 1)
	background.Go(func() { failed <- server.Serve(accepting) })

	var err error
	select {
	case <-ctx.Done():
	case err = <-failed:
		err = fmt.Errorf("accept connections: %w", err)
	}

	background.Go(func() { // first of all this closes l
		grace, stop := context.WithTimeout(context.Background(), link.CloseTimeout)
		defer stop()
		_ = server.Shutdown(grace)
		_ = server.Close()
	})
	s.closeLinks()
	cancel()
	background.Wait()
	a.closeAll()
	s.requests.Wait()
	s.links.Wait()
	s.io.Close(nil)
	s.waitEngines()
	return err
}

// track counts the requests in progress.
func (s *Server) track(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	if s.stopping {
		s.mu.Unlock()
		w.WriteHeader(http.StatusServiceUnavailable)
		return
	}
	s.requests.Add(1)
	s.mu.Unlock()
	defer s.requests.Done()
	s.serveHTTP(w, r)
}

// closeLinks closes all links at once, and lets no more come about.
func (s *Server) closeLinks() {
	s.mu.Lock()
	s.stopping = true
	var closing sync.WaitGroup
	for l := range s.sessions {
		closing.Go(func() { l.Close(errServerClosed) })
	}
	if f, ok := s.cfg.Fallback.(interface{ Close() }); ok {
		closing.Go(f.Close)
	}
	s.mu.Unlock()
	closing.Wait()
}

// waitEngines gives the library's goroutines time to notice that their connections
// are closed.
func (s *Server) waitEngines() {
	done := make(chan struct{})
	go func() {
		s.engines.Wait()
		close(done)
	}()
	select {
	case <-done:
	case <-time.After(link.CloseTimeout):
		s.log.Warn("the Socket.IO library did not let go of all its connections")
	}
}

// opened is called for every Engine.IO connection, before anything is read from it.
func (s *Server) opened(args ...any) {
	conn, ok := args[0].(engine.Socket)
	if !ok {
		return
	}
	s.engines.Add(1)
	_ = conn.Once("close", func(...any) {
		if c := connOf(conn.Request().Context()); c != nil {
			_ = c.Close() // the library leaves that to the peer where the peer began
		}
		s.engines.Done()
	})
	var asked atomic.Bool
	_ = conn.On("packetCreate", func(args ...any) {
		if p, _ := args[0].(*eio.Packet); p != nil && p.Type == eio.PING {
			asked.Store(true)
		}
	})
	_ = conn.On("packet", func(args ...any) {
		p, _ := args[0].(*eio.Packet)
		if p != nil && p.Type == eio.MESSAGE && asked.Swap(false) {
			// The answer may be behind messages that take us long to read: they are a sign of
			// life as good, which the library would not take for one.
			conn.Transport().Emit("packet", &eio.Packet{Type: eio.PONG})
		}
		// The library ignores the others, some of which belong to transports that
		// are not served.
		if p == nil || p.Type != eio.MESSAGE && p.Type != eio.PONG {
			s.stats.protocolErrors.Add(1)
			conn.Close(true)
		}
	})
}

// bind makes the session of a socket that has sent its CONNECT, on the connection's
// reading goroutine and before the answer is sent.
func (s *Server) bind(so *socket.Socket, next func(*socket.ExtendedError)) {
	d, ok := so.Handshake().Auth.(*decoder)
	c := connOf(so.Request().Context())
	if !ok || c == nil {
		next(socket.NewExtendedError("not connected through the guard", nil))
		return
	}
	l := newSession(s.cfg.envelope(), s.log, s.cfg.Queues)
	l.info = link.Info{ID: string(so.Id()), Transport: Transport}
	if c.ip.IsValid() {
		l.info.RemoteIP = c.ip.String()
	}
	l.transport = newEngineTransport(c, so.Conn(), s.cfg.WriteTimeout)
	l.gate = connGate{s.gate, c}
	l.unopened = s.unopened
	l.dropped = &s.stats.dropped
	l.maxBody = s.cfg.MaxPayload
	l.in.setBounds(undeclaredMessages, s.cfg.Queues.InBytes)
	if !s.begin(l) {
		next(socket.NewExtendedError("shutting down", nil))
		return
	}
	context.AfterFunc(l.Context(), func() {
		s.mu.Lock()
		delete(s.sessions, l)
		s.mu.Unlock()
	})
	_ = so.Conn().Once("close", func(args ...any) {
		if reason, _ := args[0].(string); reason == "ping timeout" {
			l.fail(errPeerSilent)
			return
		}
		l.fail(link.ErrPeerLeft)
	})
	if so.Conn().ReadyState() == "closed" { // before we listened
		l.fail(link.ErrPeerLeft)
	}
	c.session.Store(l)
	d.session = l
	next(nil)
}

// begin starts a session's writer, unless the server is stopping.
func (s *Server) begin(l *session) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stopping || s.ctx == nil {
		return false
	}
	s.sessions[l] = struct{}{}
	s.links.Go(l.write)
	return true
}

// connected hands a link to Accept; the answer to its CONNECT is on its way.
func (s *Server) connected(args ...any) {
	so, ok := args[0].(*socket.Socket)
	if !ok {
		return
	}
	if so.Conn().ReadyState() != "open" {
		// The library registered the socket after it had cleared up for the connection.
		so.Disconnect(false)
	}
	c := connOf(so.Request().Context())
	if c == nil {
		return
	}
	if l := c.session.Load(); l != nil {
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.stopping { // which closes the link
			return
		}
		s.links.Go(func() { s.accept(s.ctx, l) })
	}
}

func (s *Server) accept(ctx context.Context, l *session) {
	defer func() {
		if r := recover(); r != nil {
			s.log.Error("serving a link panicked", "panic", r, "remote", l.info.RemoteIP, "stack", string(debug.Stack()))
			l.fail(fmt.Errorf("serving the link panicked: %v", r))
		}
		l.Close(nil)
	}()
	s.cfg.Accept(ctx, l)
}

// unopened notes a message that could not be opened.
func (s *Server) unopened(l *session, event string, err error) {
	s.stats.unopened.Add(1)
	s.noisy.Do(func() {
		s.log.Warn("a message could not be opened", "event", event, "remote", l.info.RemoteIP,
			"declared", l.trusted.Load(), "error", err)
	})
}

// Stats gives the counters.
func (s *Server) Stats() Stats {
	st := Stats{
		BadRequests:    s.stats.badRequests.Load(),
		ProtocolErrors: s.stats.protocolErrors.Load(),
		Unopened:       s.stats.unopened.Load(),
		Dropped:        s.stats.dropped.Load(),
	}
	if a := s.admission.Load(); a != nil {
		st.Open, st.Undeclared = a.counts()
		st.Refused = a.refused.Load()
	}
	s.mu.Lock()
	st.Links = len(s.sessions)
	s.mu.Unlock()
	return st
}
