package socketio

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gorilla/websocket"
)

// path is where Socket.IO clients connect.
const path = "/socket.io/"

// connKey finds the *conn in a request's context.
type connKey struct{}

func withConn(ctx context.Context, c net.Conn) context.Context {
	if t, ok := c.(*tls.Conn); ok {
		c = t.NetConn()
	}
	return context.WithValue(ctx, connKey{}, c)
}

func connOf(ctx context.Context) *conn {
	c, _ := ctx.Value(connKey{}).(*conn)
	return c
}

// Trust takes the connection of a request to Config.Fallback off the list of the
// undeclared ones. ctx is the request's.
func Trust(ctx context.Context) {
	if c := connOf(ctx); c != nil {
		c.declare()
	}
}

// serveHTTP lets the library see WebSocket handshakes of Engine.IO 4 and nothing else.
func (s *Server) serveHTTP(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path != path {
		s.cfg.Fallback.ServeHTTP(w, r)
		return
	}
	c := connOf(r.Context())
	if c == nil || !properHandshake(r) {
		s.stats.badRequests.Add(1)
		w.Header().Set("Connection", "close")
		http.Error(w, "only WebSocket connections of Engine.IO 4 are served here", http.StatusBadRequest)
		return
	}
	h := &hijacker{ResponseWriter: w, server: s, conn: c}
	// The library has set everything up when its handler returns, and not before.
	defer h.open()
	s.engine.ServeHTTP(h, r)
}

func properHandshake(r *http.Request) bool {
	if r.Method != http.MethodGet || !websocket.IsWebSocketUpgrade(r) {
		return false
	}
	q := r.URL.Query()
	eio, transport := q["EIO"], q["transport"]
	return len(eio) == 1 && eio[0] == "4" &&
		len(transport) == 1 && transport[0] == "websocket" && !q.Has("sid")
}

// hijacker hands the library an upgradedConn for its WebSocket.
type hijacker struct {
	http.ResponseWriter
	server   *Server
	conn     *conn
	upgraded *upgradedConn
}

// Hijack implements http.Hijacker.
func (h *hijacker) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	hj, ok := h.ResponseWriter.(http.Hijacker)
	if !ok {
		return nil, nil, errors.New("hijack: not supported")
	}
	nc, rw, err := hj.Hijack()
	if err != nil {
		return nil, nil, err
	}
	h.upgraded = &upgradedConn{
		Conn:         nc,
		below:        h.conn,
		opened:       make(chan struct{}),
		unlimited:    make(chan struct{}),
		left:         undeclaredBytes,
		writeTimeout: h.server.cfg.WriteTimeout,
	}
	h.conn.upgraded.Store(h.upgraded)
	return h.upgraded, rw, nil
}

func (h *hijacker) open() {
	if h.upgraded != nil {
		close(h.upgraded.opened)
	}
}

// upgradedConn is a connection once it carries a WebSocket.
//
// It holds reading and writing, but for the answer to the handshake, until the library
// is ready: the library starts to read before it listens to what was read (frames of a
// quick client would be lost), and if the connection broke in between it would keep it
// for good. It reads a bounded amount until the peer is trusted, and
// never writes without a deadline, as the library sets none.
type upgradedConn struct {
	net.Conn
	below     *conn         // the accepted one; with TLS, Conn is above it
	opened    chan struct{} // closed when the library is ready
	answered  atomic.Bool   // the answer to the handshake was written
	unlimited chan struct{} // closed when the peer is trusted
	trusting  sync.Once
	left      int // bytes that may still be read before that; of the reading goroutine

	writeTimeout time.Duration
	deadline     atomic.Pointer[time.Time] // of writes, as set from outside
}

// Read implements net.Conn.
func (c *upgradedConn) Read(p []byte) (int, error) {
	<-c.opened
	select {
	case <-c.unlimited:
		return c.Conn.Read(p)
	default:
	}
	if c.left == 0 {
		select {
		case <-c.unlimited:
			return c.Conn.Read(p)
		case <-c.below.closed:
			return 0, net.ErrClosed
		}
	}
	n, err := c.Conn.Read(p[:min(len(p), c.left)])
	c.left -= n
	return n, err
}

// Write implements net.Conn.
func (c *upgradedConn) Write(p []byte) (int, error) {
	if c.answered.Swap(true) {
		<-c.opened
	}
	deadline := time.Now().Add(c.writeTimeout)
	if d := c.deadline.Load(); d != nil && d.Before(deadline) {
		deadline = *d
	}
	if err := c.Conn.SetWriteDeadline(deadline); err != nil {
		return 0, err
	}
	return c.Conn.Write(p)
}

// Close implements net.Conn. TLS would first wait until it could say farewell.
func (c *upgradedConn) Close() error { return c.below.Close() }

// SetWriteDeadline implements net.Conn. The zero time stands for the write time-out.
func (c *upgradedConn) SetWriteDeadline(t time.Time) error {
	if t.IsZero() {
		c.deadline.Store(nil)
	} else {
		c.deadline.Store(&t)
	}
	return nil
}

// SetDeadline implements net.Conn.
func (c *upgradedConn) SetDeadline(t time.Time) error {
	return errors.Join(c.SetReadDeadline(t), c.SetWriteDeadline(t))
}

// trust lifts the bound on reading.
func (c *upgradedConn) trust() { c.trusting.Do(func() { close(c.unlimited) }) }
