package socketio

import (
	"fmt"

	"github.com/zishang520/engine.io/v2/events"
	"github.com/zishang520/engine.io/v2/types"
	"github.com/zishang520/socket.io-go-parser/v2/parser"

	"github.com/meshctl/meshctl/internal/mesh/link"
)

// guardedParser is the parser that the library is given. Encoding is its own.
type guardedParser struct{ server *Server }

func (guardedParser) NewEncoder() parser.Encoder { return parser.NewEncoder() }

func (p guardedParser) NewDecoder() parser.Decoder {
	return &decoder{EventEmitter: events.New(), server: p.server}
}

// decoder stands between a connection and the library, which would dispatch every
// packet on a goroutine of its own and panic on some. The library gets to see a proper
// CONNECT, once, and nothing else; events go straight to the session, in order.
type decoder struct {
	events.EventEmitter
	server    *Server
	connected bool     // a CONNECT was seen
	session   *session // set by Server.bind while the CONNECT is being handled
}

// Add takes one message of the connection. The library calls it on the connection's
// reading goroutine, one at a time. An error makes it close the connection.
func (d *decoder) Add(data any) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("%w: panic: %v", link.ErrProtocol, r)
		}
		if err != nil {
			d.server.stats.protocolErrors.Add(1)
			d.server.log.Debug("closing a connection", "error", err)
			if d.session != nil {
				d.session.fail(err)
			}
		}
	}()
	text, ok := data.(*types.StringBuffer)
	if !ok {
		return protocolError("binary message")
	}
	p, err := parsePacket(text.String())
	if err != nil {
		return err
	}
	switch {
	case p.kind == packetConnect && !d.connected:
		d.connected = true
		// The decoder passes itself where the client's auth data would be: that is how
		// bind learns which decoder a socket belongs to.
		d.Emit("decoded", &parser.Packet{Type: parser.CONNECT, Nsp: "/", Data: d})
		if d.session == nil {
			return protocolError("connect was refused")
		}
	case p.kind == packetEvent && d.session != nil:
		d.session.deliver(p)
	case p.kind == packetDisconnect && d.session != nil:
		d.session.fail(link.ErrPeerLeft)
	default:
		return protocolError("packet out of place")
	}
	return nil
}

// Destroy implements parser.Decoder.
func (d *decoder) Destroy() {}
