package native

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"github.com/gorilla/websocket"

	"github.com/meshctl/meshctl/internal/mesh/certs"
	"github.com/meshctl/meshctl/internal/mesh/link"
)

// ErrNotServed says that something answers HTTP at the address and does not speak the
// native link: a JavaScript peer, or a proxy that keeps it from getting through.
var ErrNotServed = errors.New("native links are not served here")

// Dial opens a link to addr (host:port). It blocks until the handshake is done, ctx
// ends or Config.Handshake is over. Errors wrap link.ErrUnreachable, ErrNotServed,
// seal.ErrKeyMismatch, link.ErrProtocol, or link.ErrRefused, that with a *certs.Failure
// where one side wants TLS and the other does not, or refuses it.
func Dial(ctx context.Context, addr string, cfg Config) (link.Link, error) {
	if err := cfg.setDefaults(); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, cfg.Handshake)
	defer cancel()
	var connected atomic.Bool
	stop := func() bool { return true }
	connect := func(_ context.Context, network, addr string) (net.Conn, error) {
		c, err := cfg.Connect(ctx, network, addr)
		if err == nil {
			connected.Store(true)
			// The WebSocket library heeds ctx's deadline while it waits, but no cancellation.
			stop = context.AfterFunc(ctx, func() { _ = c.Close() })
		}
		return c, err
	}
	dialer := websocket.Dialer{NetDialContext: connect, ReadBufferSize: 4096, WriteBufferSize: frameSize + chunkSize + 2048, WriteBufferPool: &writeBuffers, TLSClientConfig: cfg.TLS}
	scheme := "ws://"
	if cfg.TLS != nil {
		scheme = "wss://"
	}
	ws, resp, err := dialer.DialContext(ctx, scheme+addr+Path, nil)
	if err != nil {
		stop()
	}
	failure := certs.WantsTLS(resp)
	if err != nil && failure == nil {
		failure = certs.Diagnose(err)
	}
	switch {
	case failure != nil:
		return nil, fmt.Errorf("%w: %w", link.ErrRefused, failure)
	case errors.Is(err, websocket.ErrBadHandshake) && resp != nil:
		if resp.StatusCode == http.StatusServiceUnavailable {
			return nil, fmt.Errorf("%w: it answers %s", link.ErrRefused, resp.Status)
		}
		return nil, fmt.Errorf("%w: it answers %s", ErrNotServed, resp.Status)
	case err != nil && connected.Load() && ctx.Err() != nil:
		return nil, fmt.Errorf("%w: %w", link.ErrUnreachable, ctx.Err())
	case err != nil && connected.Load() && !errors.Is(err, os.ErrDeadlineExceeded):
		// A JavaScript server drops upgrades that it does not know without an answer.
		return nil, fmt.Errorf("%w: %w", ErrNotServed, err)
	case err != nil:
		return nil, fmt.Errorf("%w: %w", link.ErrUnreachable, err)
	}
	l, err := greet(ctx, ws, cfg)
	if !stop() && err == nil {
		err = ctx.Err()
	}
	if err != nil {
		hangUp(ws)
		if ctx.Err() != nil {
			err = fmt.Errorf("%w: %w", link.ErrUnreachable, ctx.Err())
		}
		return nil, err
	}
	return l, nil
}

// greet does the dialling end's handshake.
func greet(ctx context.Context, ws *websocket.Conn, cfg Config) (*session, error) {
	h, err := newHandshake(cfg.Key, cfg.Hello, true)
	if err != nil {
		return nil, err
	}
	first, err := h.first()
	if err != nil {
		return nil, fmt.Errorf("handshake: %w", err)
	}
	deadline, _ := ctx.Deadline()
	if err := errors.Join(ws.SetWriteDeadline(deadline), ws.SetReadDeadline(deadline)); err != nil {
		return nil, err
	}
	if err := ws.WriteMessage(websocket.BinaryMessage, first); err != nil {
		return nil, fmt.Errorf("%w: %w", link.ErrUnreachable, err)
	}
	ws.SetReadLimit(maxHandshake)
	_, second, err := ws.ReadMessage()
	if err != nil {
		return nil, refusal(err)
	}
	hello, c, err := h.finish(second)
	if err != nil {
		return nil, err
	}
	if err := ws.SetReadDeadline(time.Time{}); err != nil {
		return nil, err
	}
	l := &session{ws: ws, log: cfg.Logger, trust: func() {}}
	l.info = link.Info{ID: uuid.NewString(), RemoteIP: remoteIP(ws), Dialed: true, Transport: Transport, PeerName: hello.Name, Key: cfg.Key}
	l.start(c, cfg)
	return l, nil
}

// Served asks whether whoever answers HTTP at addr serves native links. It blocks until
// there is an answer or ctx ends, and only a nil error makes the answer certain. Of cfg it
// needs what Dial would connect with.
func Served(ctx context.Context, addr string, cfg Config) (bool, error) {
	scheme := "http://"
	if cfg.TLS != nil {
		scheme = "https://"
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, scheme+addr+Path, nil)
	if err != nil {
		return false, err
	}
	client := http.Client{
		Transport:     &http.Transport{DisableKeepAlives: true, TLSClientConfig: cfg.TLS, DialContext: cfg.Connect},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	resp, err := client.Do(req)
	if err != nil {
		return false, err
	}
	defer resp.Body.Close()
	return resp.Header.Get(marker) != "", nil
}

// hangUp closes a connection at once, where TLS would first wait until it could say
// farewell.
func hangUp(ws *websocket.Conn) {
	if c, ok := ws.NetConn().(*tls.Conn); ok {
		_ = c.NetConn().Close()
		return
	}
	_ = ws.Close()
}

// marker is a header of every answer at Path that is no WebSocket.
const marker = "Meshctl-Native"
