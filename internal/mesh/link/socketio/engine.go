package socketio

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/gorilla/websocket"
	eio "github.com/zishang520/engine.io-go-parser/packet"
	"github.com/zishang520/engine.io/v2/engine"
	"github.com/zishang520/engine.io/v2/types"
)

// engineTransport writes through the library's Engine.IO socket, one packet at a time,
// so that heartbeats never queue behind more than one.
type engineTransport struct {
	conn     *conn
	socket   engine.Socket
	timeout  time.Duration
	options  *eio.Options // marks our packets among the library's own
	inFlight atomic.Bool  // ours is in the batch that is being written
	written  chan struct{}
}

func newEngineTransport(c *conn, socket engine.Socket, timeout time.Duration) *engineTransport {
	t := &engineTransport{
		conn:    c,
		socket:  socket,
		timeout: timeout,
		options: &eio.Options{},
		written: make(chan struct{}, 1),
	}
	// The library calls a packet's own callback, but mixes callbacks up when a heartbeat
	// is sent at the same time. What a batch holds and when it was written is certain.
	_ = socket.On("flush", func(args ...any) {
		batch, _ := args[0].([]*eio.Packet)
		for _, p := range batch {
			if p.Options == t.options {
				t.inFlight.Store(true)
			}
		}
	})
	_ = socket.Transport().On("drain", func(...any) {
		if t.inFlight.Swap(false) {
			wake(t.written)
		}
	})
	return t
}

func (t *engineTransport) send(ctx context.Context, text string) error {
	timer := time.NewTimer(t.timeout)
	defer timer.Stop()
	t.socket.Send(types.NewStringBufferString(text), t.options, nil)
	select {
	case <-t.written:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return errWriteTimeout
	}
}

// pong is never due: the serving side asks.
func (t *engineTransport) pong() error { return nil }

func (t *engineTransport) goodbye(ctx context.Context, reason error) {
	if staysAway(reason) {
		if t.send(ctx, string(packetDisconnect)) != nil {
			return
		}
	}
	ws := t.socket.Request().Websocket
	if ws == nil {
		return
	}
	deadline, _ := ctx.Deadline()
	if ws.WriteControl(websocket.CloseMessage, closeFrame(reason), deadline) == nil {
		<-ctx.Done() // the peer answers and closes, which ends the session; else it is time
	}
}

func (t *engineTransport) trust() {
	t.conn.declare()
	if u := t.conn.upgraded.Load(); u != nil {
		u.trust()
	}
}

func (t *engineTransport) abort() { _ = t.conn.Close() }
