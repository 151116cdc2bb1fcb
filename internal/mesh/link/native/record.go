package native

import (
	"encoding/binary"
	"fmt"

	"github.com/meshctl/meshctl/internal/mesh/link"
	"github.com/meshctl/meshctl/internal/mesh/wire"
)

// The kinds of records. A record is its kind, the length of the rest as a
// uvarint, and the rest. Texts and bytes within are preceded by their length as a
// uvarint, but for the last field of a record, which takes what is left.
const (
	recordEvent    = 1  // name, JSON body
	recordRequest  = 2  // flags, number, uid, name, time-out in ms, JSON payload
	recordResponse = 3  // number, JSON result
	recordFailure  = 4  // flags, number, code, message
	recordCancel   = 5  // number
	recordChunk    = 6  // flags, part of a record that is too long for a frame
	recordPing     = 7  // nothing
	recordPong     = 8  // nothing
	recordRekey    = 9  // nothing: the sender's key changes after this frame
	recordClose    = 10 // code, message: the last record
)

// Flags of records.
const (
	flagAck       = 1 // recordRequest: respond as soon as it is queued
	flagJob       = 2 // recordRequest: it is done even when nobody waits any more
	flagKey       = 4 // recordRequest: a key follows the time-out
	flagTemporary = 1 // recordFailure: nothing ran
	flagLast      = 1 // recordChunk: the record is complete
)

// maxText bounds names, uids, codes and messages in records.
const maxText = 4096

func appendText(dst []byte, s string) []byte {
	dst = binary.AppendUvarint(dst, uint64(len(s)))
	return append(dst, s...)
}

func textLen(s string) int { return uvarintLen(uint64(len(s))) + len(s) }

func uvarintLen(v uint64) int {
	n := 1
	for ; v >= 0x80; v >>= 7 {
		n++
	}
	return n
}

func appendHeader(dst []byte, kind byte, length int) []byte {
	return binary.AppendUvarint(append(dst, kind), uint64(length))
}

// recordLen is how long appendRecord makes a message, at most.
func recordLen(m wire.Message) int {
	n := 1 + binary.MaxVarintLen32
	switch {
	case m.Command != nil:
		if m.Command.Meta != nil {
			n += textLen(m.Command.Meta.Key)
		}
		return n + 1 + binary.MaxVarintLen64 + textLen(m.Command.UID) + textLen(m.Command.Name) + binary.MaxVarintLen64 + len(m.Command.Payload)
	case m.Response != nil && m.Response.Err != nil:
		return n + 1 + binary.MaxVarintLen64 + textLen(string(m.Response.Err.Code)) + len(m.Response.Err.Message)
	case m.Response != nil:
		return n + binary.MaxVarintLen64 + len(m.Response.Result)
	case m.Number != 0:
		return n + binary.MaxVarintLen64
	}
	return n + textLen(m.Event) + len(m.Body)
}

// appendRecord writes a message at the end of dst.
func appendRecord(dst []byte, m wire.Message) []byte {
	switch {
	case m.Command != nil:
		c := m.Command
		var flags byte
		var timeout uint64
		var key string
		keyLen := 0
		if c.Meta != nil {
			if key = c.Meta.Key; key != "" {
				flags |= flagKey
				keyLen = textLen(key)
			}
			if c.Meta.Job {
				flags |= flagJob
			}
			timeout = uint64(max(0, c.Meta.TimeoutMS))
			if c.Meta.Ack {
				flags |= flagAck
			}
		}
		dst = appendHeader(dst, recordRequest, 1+uvarintLen(c.Number)+textLen(c.UID)+textLen(c.Name)+uvarintLen(timeout)+keyLen+len(c.Payload))
		dst = append(dst, flags)
		dst = binary.AppendUvarint(dst, c.Number)
		dst = appendText(dst, c.UID)
		dst = appendText(dst, c.Name)
		dst = binary.AppendUvarint(dst, timeout)
		if key != "" {
			dst = appendText(dst, key)
		}
		return append(dst, c.Payload...)
	case m.Response != nil && m.Response.Err != nil:
		r, e := m.Response, m.Response.Err
		var flags byte
		if e.Temporary {
			flags |= flagTemporary
		}
		dst = appendHeader(dst, recordFailure, 1+uvarintLen(r.Number)+textLen(string(e.Code))+len(e.Message))
		dst = append(dst, flags)
		dst = binary.AppendUvarint(dst, r.Number)
		dst = appendText(dst, string(e.Code))
		return append(dst, e.Message...)
	case m.Response != nil:
		dst = appendHeader(dst, recordResponse, uvarintLen(m.Response.Number)+len(m.Response.Result))
		dst = binary.AppendUvarint(dst, m.Response.Number)
		return append(dst, m.Response.Result...)
	case m.Number != 0:
		dst = appendHeader(dst, recordCancel, uvarintLen(m.Number))
		return binary.AppendUvarint(dst, m.Number)
	}
	dst = appendHeader(dst, recordEvent, textLen(m.Event)+len(m.Body))
	dst = appendText(dst, m.Event)
	return append(dst, m.Body...)
}

func appendClose(dst []byte, code wire.Code, message string) []byte {
	dst = appendHeader(dst, recordClose, textLen(string(code))+len(message))
	dst = appendText(dst, string(code))
	return append(dst, message...)
}

func appendChunk(dst []byte, last bool, part []byte) []byte {
	return append(appendChunkHeader(dst, last, len(part)), part...)
}

// appendChunkHeader is what comes before a part of n bytes.
func appendChunkHeader(dst []byte, last bool, n int) []byte {
	var flags byte
	if last {
		flags |= flagLast
	}
	return append(appendHeader(dst, recordChunk, 1+n), flags)
}

// nextRecord takes the first record off a frame.
func nextRecord(frame []byte) (kind byte, body, rest []byte, err error) {
	n, used := uint64(0), 0
	if len(frame) > 1 {
		n, used = binary.Uvarint(frame[1:])
	}
	if used <= 0 || n > uint64(len(frame)-1-used) {
		return 0, nil, nil, fmt.Errorf("%w: record does not fit its frame", link.ErrProtocol)
	}
	body = frame[1+used:]
	return frame[0], body[:n:n], body[n:], nil
}

// fields reads a record's body. After the first fault all reads give nothing.
type fields struct {
	b   []byte
	bad bool
}

func (f *fields) flags() byte {
	if len(f.b) == 0 {
		f.bad = true
		return 0
	}
	v := f.b[0]
	f.b = f.b[1:]
	return v
}

func (f *fields) number() uint64 {
	v, n := binary.Uvarint(f.b)
	if n <= 0 {
		f.bad, f.b = true, nil
		return 0
	}
	f.b = f.b[n:]
	return v
}

func (f *fields) text() string { return string(f.bytes()) }

// bytes shares the record's memory.
func (f *fields) bytes() []byte {
	n := f.number()
	if n > maxText || n > uint64(len(f.b)) {
		f.bad, f.b = true, nil
		return nil
	}
	s := f.b[:n]
	f.b = f.b[n:]
	return s
}

// names remembers the names of commands, of which there are few.
type names map[string]string

// maxNames bounds names, as a hostile peer may make them up.
const maxNames = 256

func (n names) of(b []byte) string {
	s, ok := n[string(b)]
	if !ok {
		if s = string(b); len(n) < maxNames {
			n[s] = s
		}
	}
	return s
}

// decoder makes messages of records. What several of them need is allocated at once.
type decoder struct {
	names     names
	requests  []request
	responses []wire.Response
}

// slab is how many requests or responses are allocated at once.
const slab = 16

// request is what a command is decoded into.
type request struct {
	wire.Command
	wire.CommandMeta
}

func newDecoder() decoder { return decoder{names: make(names)} }

func (d *decoder) request() *request {
	if len(d.requests) == 0 {
		d.requests = make([]request, slab)
	}
	r := &d.requests[0]
	d.requests = d.requests[1:]
	r.Meta = &r.CommandMeta
	return r
}

func (d *decoder) response() *wire.Response {
	if len(d.responses) == 0 {
		d.responses = make([]wire.Response, slab)
	}
	r := &d.responses[0]
	d.responses = d.responses[1:]
	return r
}

// message makes a message of a record. What it says is checked as strictly as what
// comes over the Socket.IO door; the message shares body's memory.
func (d *decoder) message(kind byte, body []byte) (wire.Message, error) {
	f := fields{b: body}
	var m wire.Message
	var err error
	switch kind {
	case recordEvent:
		m.Event = f.text()
		m.Body = f.b
	case recordRequest:
		c := d.request()
		flags := f.flags()
		c.Ack, c.Job = flags&flagAck != 0, flags&flagJob != 0
		c.Number = f.number()
		c.UID = f.text()
		c.Name = d.names.of(f.bytes())
		c.TimeoutMS = int64(min(f.number(), uint64(wire.MaxTimeout.Milliseconds())))
		if flags&flagKey != 0 {
			c.Key = f.text()
		}
		c.Payload = f.b
		m.Event, m.Command, err = wire.EventCommand, &c.Command, c.Check()
	case recordResponse:
		r := d.response()
		r.Number = f.number()
		r.Result = f.b
		m.Event, m.Response, err = wire.EventResponse, r, r.Check()
	case recordFailure:
		flags := f.flags()
		r := &wire.Response{Number: f.number(), Err: &wire.Error{Code: wire.Code(f.text()), Temporary: flags&flagTemporary != 0}}
		r.Err.Message = string(f.b)
		m.Event, m.Response, err = wire.EventResponse, r, r.Check()
	case recordCancel:
		m.Event, m.Number = wire.EventCancel, f.number()
	}
	if f.bad {
		return m, fmt.Errorf("%w: malformed record of kind %d", link.ErrProtocol, kind)
	}
	return m, err
}
