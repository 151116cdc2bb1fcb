package socketio

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"time"

	"github.com/gorilla/websocket"
	"golang.org/x/time/rate"

	"github.com/meshctl/meshctl/internal/mesh/certs"
	"github.com/meshctl/meshctl/internal/mesh/link"
	"github.com/meshctl/meshctl/internal/mesh/seal"
)

const (
	// handshakeBytes bounds what is read before the connection stands.
	handshakeBytes = 64 << 10
	// legacyMaxPayload is what a server takes that does not say: socket.io 3.1.
	legacyMaxPayload = 1_000_000
	// minMaxPayload is the least that a server has to take for a declaration to pass.
	minMaxPayload = 4096
	// A server's heartbeat outside these bounds is a protocol error.
	minHeartbeat = 10 * time.Millisecond
	maxHeartbeat = 10 * time.Minute
)

// Dial connects to the Socket.IO server at addr, "host:port", within cfg.Timeout.
//
// Errors wrap link.ErrUnreachable when no connection came about or nothing was
// answered in time, link.ErrRefused when the other side turned it down,
// link.ErrProtocol when it is no Socket.IO server; ctx's error if that ended; and a
// *certs.Failure where one side wants TLS and the other does not, or refuses it.
func Dial(ctx context.Context, addr string, cfg DialConfig) (link.Link, error) {
	if err := cfg.setDefaults(); err != nil {
		return nil, err
	}
	dialing, cancel := context.WithTimeout(ctx, cfg.Timeout)
	defer cancel()
	s, err := dial(dialing, addr, &cfg)
	switch {
	case err == nil:
		return s, nil
	case ctx.Err() != nil:
		err = fmt.Errorf("%w: %w", link.ErrUnreachable, ctx.Err())
	case dialing.Err() != nil:
		err = fmt.Errorf("%w: no answer within %v", link.ErrUnreachable, cfg.Timeout)
	}
	return nil, fmt.Errorf("dial %s: %w", addr, err)
}

func dial(ctx context.Context, addr string, cfg *DialConfig) (*session, error) {
	var nc *handshakeConn
	stop := func() bool { return true }
	dialer := websocket.Dialer{
		NetDialContext: func(_ context.Context, network, addr string) (net.Conn, error) {
			c, err := cfg.Connect(ctx, network, addr)
			if err != nil {
				return nil, err
			}
			nc = &handshakeConn{Conn: c, left: handshakeBytes}
			// The WebSocket library heeds ctx's deadline while it waits, but no cancellation.
			stop = context.AfterFunc(ctx, func() { _ = c.Close() })
			return nc, nil
		},
		ReadBufferSize:  4096,
		WriteBufferSize: 4096,
		TLSClientConfig: cfg.TLS,
	}
	scheme := "ws"
	if cfg.TLS != nil {
		scheme = "wss"
	}
	u := url.URL{Scheme: scheme, Host: addr, Path: path, RawQuery: "EIO=4&transport=websocket"}
	ws, resp, err := dialer.DialContext(ctx, u.String(), nil)
	if err != nil {
		stop()
		return nil, dialError(err, resp, nc != nil, cfg.TLS != nil)
	}
	ws.SetReadLimit(maxFrame(cfg.MaxPayload))
	hs, err := shakeHands(ws, cfg.WriteTimeout)
	if !stop() && err == nil {
		err = ctx.Err()
	}
	if err != nil {
		_ = nc.Close()
		return nil, err
	}
	nc.left = -1

	s := newSession(cfg.Envelope, cfg.Logger, cfg.Queues)
	s.info = link.Info{ID: hs.id, RemoteIP: remoteIP(ws.RemoteAddr()), Dialed: true, Transport: Transport, Key: cfg.Key}
	s.maxBody = min(cfg.MaxPayload, (hs.maxPayload-packetOverhead-seal.SealedLen(0))/2)
	noisy := rate.Sometimes{First: 3, Interval: time.Second}
	s.unopened = func(s *session, event string, err error) {
		noisy.Do(func() {
			s.log.Warn("a message could not be opened", "event", event, "remote", s.info.RemoteIP, "error", err)
		})
	}
	t := &clientTransport{ws: ws, below: nc, timeout: cfg.WriteTimeout}
	s.transport = t
	t.watch(s, 2*cfg.Heartbeat)
	go s.write()
	go t.read(s, hs.heartbeat)
	return s, nil
}

// dialError sorts the errors of the WebSocket handshake.
func dialError(err error, resp *http.Response, connected, secure bool) error {
	if failure := certs.WantsTLS(resp); failure != nil {
		return fmt.Errorf("%w: %w", link.ErrRefused, failure)
	}
	if resp != nil && errors.Is(err, websocket.ErrBadHandshake) {
		return fmt.Errorf("%w: HTTP status %d instead of 101", link.ErrRefused, resp.StatusCode)
	}
	if failure := certs.Diagnose(err); failure != nil {
		return fmt.Errorf("%w: %w", link.ErrRefused, failure)
	}
	var ne net.Error
	switch {
	case !connected, errors.As(err, &ne) && ne.Timeout():
		return fmt.Errorf("%w: %w", link.ErrUnreachable, err)
	case hungUp(err) && secure:
		return fmt.Errorf("%w: %w", link.ErrRefused, certs.HungUp(err))
	case hungUp(err):
		return fmt.Errorf("%w: %w", link.ErrRefused, err)
	}
	return fmt.Errorf("%w: %w", link.ErrProtocol, err)
}

// hungUp tells whether the other side ended the connection.
func hungUp(err error) bool {
	var frame *websocket.CloseError
	var reset *net.OpError // whatever the operating system calls it
	return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) ||
		errors.As(err, &frame) || errors.As(err, &reset)
}

// handshake is what a server told when the connection was made.
type handshake struct {
	id         string
	heartbeat  time.Duration // silence after which the server is dead
	maxPayload int           // longest WebSocket message it takes
}

// shakeHands opens the Engine.IO session and joins the namespace. It ends when ws is
// closed.
func shakeHands(ws *websocket.Conn, writeTimeout time.Duration) (handshake, error) {
	text, err := readText(ws)
	if err != nil {
		return handshake{}, err
	}
	hs, err := parseOpen(text)
	if err != nil {
		return handshake{}, err
	}
	if err := writeText(ws, "40", writeTimeout); err != nil {
		return handshake{}, fmt.Errorf("%w: %w", link.ErrRefused, err)
	}
	for {
		text, err := readText(ws)
		if err != nil {
			return handshake{}, err
		}
		if text == "2" {
			if err := writeText(ws, "3", writeTimeout); err != nil {
				return handshake{}, fmt.Errorf("%w: %w", link.ErrRefused, err)
			}
			continue
		}
		if text == "6" {
			continue
		}
		hs.id, err = parseConnected(text)
		return hs, err
	}
}

// readText reads the next WebSocket message, which has to be text.
func readText(ws *websocket.Conn) (string, error) {
	kind, data, err := ws.ReadMessage()
	switch {
	case err != nil && hungUp(err):
		return "", fmt.Errorf("%w: %w", link.ErrRefused, err)
	case err != nil:
		return "", fmt.Errorf("%w: %w", link.ErrProtocol, err)
	case kind != websocket.TextMessage:
		return "", protocolError("binary message")
	}
	return string(data), nil
}

func writeText(ws *websocket.Conn, text string, timeout time.Duration) error {
	if err := ws.SetWriteDeadline(time.Now().Add(timeout)); err != nil {
		return err
	}
	return ws.WriteMessage(websocket.TextMessage, []byte(text))
}

// parseOpen reads the Engine.IO packet with which a server begins.
func parseOpen(text string) (handshake, error) {
	var open struct {
		SID          string `json:"sid"`
		PingInterval int64  `json:"pingInterval"` // ms
		PingTimeout  int64  `json:"pingTimeout"`  // ms
		MaxPayload   *int64 `json:"maxPayload"`   // bytes
	}
	if len(text) < 2 || text[0] != '0' || len(text) > maxConnectData || json.Unmarshal([]byte(text[1:]), &open) != nil {
		return handshake{}, protocolError("malformed open packet")
	}
	const lo, hi = int64(minHeartbeat / time.Millisecond), int64(maxHeartbeat / time.Millisecond)
	if open.PingInterval < lo || open.PingInterval > hi || open.PingTimeout < lo || open.PingTimeout > hi {
		return handshake{}, protocolError("heartbeat out of bounds")
	}
	hs := handshake{
		heartbeat:  time.Duration(open.PingInterval+open.PingTimeout) * time.Millisecond,
		maxPayload: legacyMaxPayload,
	}
	if open.MaxPayload != nil {
		if *open.MaxPayload < minMaxPayload {
			return handshake{}, protocolError("the server takes too little")
		}
		hs.maxPayload = int(min(*open.MaxPayload, 1<<30))
	}
	return hs, nil
}

// parseConnected reads the answer to our CONNECT, with the Engine.IO digit.
func parseConnected(text string) (id string, err error) {
	if text == "" || text[0] != '4' {
		return "", protocolError("no answer to connect")
	}
	p, err := parsePacket(text[1:])
	if err != nil {
		return "", err
	}
	var answer struct {
		SID     string `json:"sid"`
		Message string `json:"message"`
	}
	if p.data != "" {
		_ = json.Unmarshal([]byte(p.data), &answer) // of another shape: stays empty
	}
	switch {
	case p.kind == packetConnectError:
		return "", fmt.Errorf("%w: %.100q", link.ErrRefused, answer.Message)
	case p.kind != packetConnect, answer.SID == "", len(answer.SID) > maxEventName, !plain(answer.SID):
		return "", protocolError("malformed answer to connect")
	}
	return answer.SID, nil
}

// handshakeConn bounds what is read from a connection until left is made negative, by
// the goroutine that reads.
type handshakeConn struct {
	net.Conn
	left int
}

// Read implements net.Conn.
func (c *handshakeConn) Read(p []byte) (int, error) {
	if c.left < 0 {
		return c.Conn.Read(p)
	}
	if c.left == 0 {
		return 0, protocolError("handshake too long")
	}
	n, err := c.Conn.Read(p[:min(len(p), c.left)])
	c.left -= n
	return n, err
}

func remoteIP(a net.Addr) string {
	ap, err := netip.ParseAddrPort(a.String())
	if err != nil {
		return ""
	}
	return ap.Addr().Unmap().WithZone("").String()
}
