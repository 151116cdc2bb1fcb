package socketio

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync/atomic"
	"time"

	"github.com/gorilla/websocket"

	"github.com/meshctl/meshctl/internal/mesh/link"
)

// Engine.IO packets, by their digit.
const (
	enginePing    = "2"
	enginePong    = "3"
	engineMessage = '4'
	engineClose   = "1"
	engineNoop    = "6"
)

// clientTransport is the dialling end's WebSocket.
type clientTransport struct {
	ws      *websocket.Conn
	below   net.Conn // what ws is on, below TLS
	timeout time.Duration
	life    *link.Heartbeat
	answers atomic.Bool // the server answers WebSocket pings
	working atomic.Bool // on what was read, and not reading
}

// watch asks the server whether it is there, by WebSocket pings: those of Engine.IO are
// the server's to send, often only every 25 s. One that does not answer them from the
// beginning, or has something in between that does not, is none to expect answers from.
func (t *clientTransport) watch(s *session, silence time.Duration) {
	t.life = link.NewHeartbeat(s.Context(), silence, link.Beats{
		Ask: func() {
			_ = t.ws.WriteControl(websocket.PingMessage, nil, time.Now().Add(askTimeout))
		},
		Lost: func() { s.fail(errPeerSilent) },
		Busy: func() bool { return t.working.Load() || !t.answers.Load() },
	})
	t.ws.SetPongHandler(func(string) error {
		t.answers.Store(true)
		t.life.Heard()
		return nil
	})
}

// askTimeout is how long a ping may wait for what is being written.
const askTimeout = 100 * time.Millisecond

func (t *clientTransport) send(_ context.Context, packet string) error {
	return t.write(string(engineMessage) + packet)
}

func (t *clientTransport) pong() error { return t.write(enginePong) }

func (t *clientTransport) write(text string) error {
	err := writeText(t.ws, text, t.timeout)
	var ne net.Error
	if errors.As(err, &ne) && ne.Timeout() {
		return errWriteTimeout
	}
	return err
}

// goodbye sends a close frame and no disconnect packet: socket.io drops the events
// that it reads together with one.
func (t *clientTransport) goodbye(ctx context.Context, reason error) {
	deadline, _ := ctx.Deadline()
	if t.ws.WriteControl(websocket.CloseMessage, closeFrame(reason), deadline) == nil {
		<-ctx.Done() // the server answers and closes, which ends the session; else it is time
	}
}

func (t *clientTransport) trust() {}

// abort closes below TLS, which would first wait until it could say farewell.
func (t *clientTransport) abort() { _ = t.below.Close() }

// read is the session's reading goroutine. It ends with the session, and ends it.
func (t *clientTransport) read(s *session, heartbeat time.Duration) {
	for {
		if err := t.ws.SetReadDeadline(time.Now().Add(heartbeat)); err != nil {
			s.fail(link.ErrPeerLeft)
			return
		}
		kind, data, err := t.ws.ReadMessage()
		t.life.Heard()
		if err == nil {
			t.working.Store(true)
			err = t.receive(s, kind, string(data))
			t.working.Store(false)
		} else {
			err = readError(err)
		}
		if err != nil {
			s.fail(err)
			return
		}
	}
}

// receive deals with one WebSocket message.
func (t *clientTransport) receive(s *session, kind int, text string) error {
	switch {
	case kind != websocket.TextMessage:
		return protocolError("binary message")
	case text == enginePing:
		wake(s.pongs)
		return nil
	case text == engineNoop:
		return nil
	case text == engineClose:
		return link.ErrPeerLeft
	case text == "" || text[0] != engineMessage:
		return protocolError("unexpected Engine.IO packet")
	}
	p, err := parsePacket(text[1:])
	if err != nil {
		return err
	}
	switch p.kind {
	case packetEvent:
		s.deliver(p)
		return nil
	case packetDisconnect:
		return t.farewell()
	}
	return protocolError("packet out of place")
}

// farewell reads the close frame that follows a meshctl peer's disconnect and says why.
func (t *clientTransport) farewell() error {
	if err := t.ws.SetReadDeadline(time.Now().Add(link.CloseTimeout)); err != nil {
		return link.ErrPeerLeft
	}
	if _, _, err := t.ws.ReadMessage(); err != nil {
		var frame *websocket.CloseError
		if errors.As(err, &frame) {
			return peerReason(frame)
		}
	}
	return link.ErrPeerLeft
}

// readError sorts the errors of reading.
func readError(err error) error {
	var ne net.Error
	switch {
	case errors.Is(err, websocket.ErrReadLimit):
		return protocolError("message too long")
	case errors.As(err, &ne) && ne.Timeout():
		return errPeerSilent
	case hungUp(err), errors.Is(err, net.ErrClosed):
		return peerReason(err)
	}
	return fmt.Errorf("%w: %w", link.ErrProtocol, err)
}
