package socketio

import (
	"encoding/json"
	"fmt"
	"strings"

	"github.com/meshctl/meshctl/internal/mesh/link"
	"github.com/meshctl/meshctl/internal/mesh/wire"
)

// Kinds of Socket.IO packet that this package speaks: the first byte on the wire.
const (
	packetConnect      = '0'
	packetDisconnect   = '1'
	packetEvent        = '2'
	packetConnectError = '4'
)

const (
	// maxEventName bounds the name of an event, in bytes.
	maxEventName = 64
	// maxConnectData bounds the JSON that may follow a CONNECT packet, in bytes.
	maxConnectData = 4096
	// packetOverhead is what surrounds the sealed text of an event at most:
	// the Engine.IO and Socket.IO digits, brackets, quotes, comma and the name.
	packetOverhead = maxEventName + len(`42["",""]`)
)

// packet is one Socket.IO packet of the namespace "/".
type packet struct {
	kind  byte
	event string // of an event: its name
	data  string // of an event: its argument; else the JSON that follows, if any
}

// parsePacket reads the text of one Socket.IO packet, without the Engine.IO
// digit. It accepts what peers of a mesh send and nothing else: no other
// namespace, no acknowledgement, no attachment, and events only in the one form
// that JSON.stringify gives to two plain strings. The strings share s's memory.
// Errors wrap link.ErrProtocol and repeat nothing of the input.
func parsePacket(s string) (packet, error) {
	if s == "" {
		return packet{}, protocolError("empty packet")
	}
	kind, rest := s[0], s[1:]
	switch kind {
	case packetConnect, packetConnectError:
		if len(rest) > maxConnectData {
			return packet{}, protocolError("oversized connect packet")
		}
		if rest != "" && (rest[0] != '{' || !json.Valid([]byte(rest))) {
			return packet{}, protocolError("malformed connect packet")
		}
		return packet{kind: kind, data: rest}, nil
	case packetDisconnect:
		if rest != "" {
			return packet{}, protocolError("malformed disconnect packet")
		}
		return packet{kind: kind}, nil
	case packetEvent:
		name, data, ok := cutEvent(rest)
		if !ok {
			return packet{}, protocolError("malformed event packet")
		}
		return packet{kind: kind, event: name, data: data}, nil
	}
	return packet{}, protocolError("packet type not supported")
}

// cutEvent takes ["name","data"] apart.
func cutEvent(s string) (name, data string, ok bool) {
	s, ok = strings.CutPrefix(s, `["`)
	if !ok {
		return "", "", false
	}
	s, ok = strings.CutSuffix(s, `"]`)
	if !ok {
		return "", "", false
	}
	name, data, ok = strings.Cut(s, `","`)
	if !ok || name == "" || len(name) > maxEventName || !plain(name) || !plain(data) {
		return "", "", false
	}
	return name, data, true
}

// plain tells whether s is printable ASCII that JSON does not escape.
func plain(s string) bool {
	for i := 0; i < len(s); i++ {
		if c := s[i]; c < ' ' || c > '~' || c == '"' || c == '\\' {
			return false
		}
	}
	return true
}

// encodeEvent is the reverse of parsePacket for an event. Both strings are plain.
func encodeEvent(name, data string) string {
	var b strings.Builder
	b.Grow(len(name) + len(data) + packetOverhead - maxEventName)
	b.WriteByte(packetEvent)
	b.WriteString(`["`)
	b.WriteString(name)
	b.WriteString(`","`)
	b.WriteString(data)
	b.WriteString(`"]`)
	return b.String()
}

// known tells whether an event means something in a mesh. Others are dropped
// before any work is spent on opening them.
func known(event string) bool {
	switch event {
	case wire.EventDeclare, wire.EventDeclared, wire.EventAddNode, wire.EventRemoveNode,
		wire.EventError, wire.EventCommand, wire.EventResponse,
		wire.EventCancel, wire.EventDrain, wire.EventSchema, wire.EventDenied, wire.EventRetire,
		wire.EventWatch, wire.EventObserve, wire.EventTelemetry, wire.EventMesh, wire.EventWithdraw:
		return true
	}
	return false
}

func protocolError(what string) error { return fmt.Errorf("%w: %s", link.ErrProtocol, what) }
