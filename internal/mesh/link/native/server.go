package native

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"runtime/debug"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/gorilla/websocket"

	"github.com/meshctl/meshctl/internal/mesh/link"
	"github.com/meshctl/meshctl/internal/mesh/seal"
	"github.com/meshctl/meshctl/internal/mesh/wire"
)

// maxHandshake bounds a handshake message.
const maxHandshake = maxHello + 512

// errServerClosed is why links end at Close.
var errServerClosed = errors.New("this end is shutting down")

// writeBuffers are lent to connections while they write.
var writeBuffers sync.Pool

// Server serves native links at Path. It is an http.Handler for the HTTP server of the
// Socket.IO door, which bounds connections that have not been trusted.
type Server struct {
	cfg      Config
	accept   Accept
	trust    func(ctx context.Context)
	upgrader websocket.Upgrader

	links    sync.WaitGroup // Accept calls
	mu       sync.Mutex
	sessions map[*session]struct{}
	closed   bool
	ctx      context.Context
	cancel   context.CancelFunc
}

// NewServer hands links to accept. trust lifts what the listener holds against the
// connection of a request with that context.
func NewServer(cfg Config, accept Accept, trust func(ctx context.Context)) (*Server, error) {
	if err := cfg.setDefaults(); err != nil {
		return nil, err
	}
	s := &Server{cfg: cfg, accept: accept, trust: trust, sessions: make(map[*session]struct{})}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	s.upgrader = websocket.Upgrader{
		HandshakeTimeout: cfg.Handshake, WriteBufferSize: frameSize, WriteBufferPool: &writeBuffers,
		// No page in a browser is a peer.
		CheckOrigin: func(r *http.Request) bool { return r.Header.Get("Origin") == "" },
	}
	return s, nil
}

// Close ends all links, after what they had to send, within about a second, and
// refuses new ones.
func (s *Server) Close() {
	s.mu.Lock()
	s.closed = true
	var closing sync.WaitGroup
	for l := range s.sessions {
		closing.Go(func() { l.Close(errServerClosed) })
	}
	s.mu.Unlock()
	closing.Wait()
	s.cancel()
	s.links.Wait()
}

// ServeHTTP opens a link, which outlives the call: what the HTTP server needed for the
// request is then free again.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path != Path {
		http.NotFound(w, r)
		return
	}
	w.Header().Set(marker, "1")
	ws, err := s.upgrader.Upgrade(w, r, nil)
	if err != nil {
		return // the upgrader has answered
	}
	l, err := s.greet(ws, r)
	if err != nil {
		defer ws.Close()
		s.cfg.Logger.Warn("refused a native link", "remote", r.RemoteAddr, "error", err)
		if code := link.CodeOf(err); code != "" {
			_ = ws.WriteControl(websocket.CloseMessage, websocket.FormatCloseMessage(closeWithCode, string(code)), time.Now().Add(time.Second))
		}
		return
	}
	if !s.begin(l) {
		l.Close(errServerClosed)
	}
}

// begin hands a link to accept, unless the server is closed.
func (s *Server) begin(l *session) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return false
	}
	s.sessions[l] = struct{}{}
	s.links.Go(func() { s.serve(l) })
	return true
}

func (s *Server) serve(l *session) {
	defer func() {
		if p := recover(); p != nil {
			s.cfg.Logger.Error("serving a link panicked", "panic", p, "remote", l.info.RemoteIP, "stack", string(debug.Stack()))
			l.End(fmt.Errorf("serving the link panicked: %v", p))
		}
		l.Close(nil)
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.sessions, l)
	}()
	s.accept(s.ctx, l)
}

// greet does the accepting end's handshake.
func (s *Server) greet(ws *websocket.Conn, r *http.Request) (*session, error) {
	if err := ws.SetReadDeadline(time.Now().Add(s.cfg.Handshake)); err != nil {
		return nil, err
	}
	ws.SetReadLimit(maxHandshake)
	kind, first, err := ws.ReadMessage()
	if err != nil || kind != websocket.BinaryMessage {
		return nil, fmt.Errorf("%w: no handshake", link.ErrProtocol)
	}
	id, err := keyIDOf(first)
	if err != nil {
		return nil, err
	}
	key := s.cfg.Find(id)
	if key == nil {
		return nil, fmt.Errorf("handshake: %w: its key has the id %x, which is none of ours", seal.ErrKeyMismatch, id)
	}
	h, err := newHandshake(key, s.cfg.Hello, false)
	if err != nil {
		return nil, err
	}
	reply, hello, c, err := h.answer(first)
	if err != nil {
		return nil, err
	}
	if err := ws.SetWriteDeadline(time.Now().Add(s.cfg.Handshake)); err != nil {
		return nil, err
	}
	if err := ws.WriteMessage(websocket.BinaryMessage, reply); err != nil {
		return nil, err
	}
	if err := ws.SetReadDeadline(time.Time{}); err != nil {
		return nil, err
	}
	ctx := r.Context()
	l := &session{ws: ws, log: s.cfg.Logger, trust: func() { s.trust(ctx) }}
	l.info = link.Info{ID: uuid.NewString(), RemoteIP: remoteIP(ws), Transport: Transport, PeerName: hello.Name, Key: key}
	l.start(c, s.cfg)
	return l, nil
}

func remoteIP(ws *websocket.Conn) string {
	host, _, err := net.SplitHostPort(ws.RemoteAddr().String())
	if err != nil {
		return ""
	}
	if ip, err := netip.ParseAddr(host); err == nil {
		return ip.Unmap().String()
	}
	return host
}

// closeWithCode is the WebSocket close code whose text is a wire.Code: a handshake that
// failed has no session to say it in.
const closeWithCode = 4000

// refusal is why the other end closed before there was a session.
func refusal(err error) error {
	var frame *websocket.CloseError
	if errors.As(err, &frame) && frame.Code == closeWithCode && wire.Code(frame.Text) == wire.CodeKeyMismatch {
		return &wire.Error{Code: wire.CodeKeyMismatch, Message: "the peer has another private key"}
	}
	return fmt.Errorf("%w: handshake: %w", link.ErrProtocol, err)
}
