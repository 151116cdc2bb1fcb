package socketio

import (
	"errors"
	"strings"
	"testing"

	"github.com/zishang520/engine.io/v2/types"
	"github.com/zishang520/socket.io-go-parser/v2/parser"

	"github.com/meshctl/meshctl/internal/mesh/link"
	"github.com/meshctl/meshctl/internal/mesh/wire"
)

func TestPacketRoundTrip(t *testing.T) {
	for _, p := range []packet{
		{packetEvent, wire.EventDeclare, "00ff"},
		{packetEvent, "x", ""},
		{packetEvent, strings.Repeat("n", maxEventName), strings.Repeat("0", 1000)},
	} {
		got, err := parsePacket(encodeEvent(p.event, p.data))
		if err != nil || got != p {
			t.Errorf("%v becomes %v, %v", p, got, err)
		}
		if n := len(encodeEvent(p.event, p.data)) + 1; n > len(p.data)+packetOverhead {
			t.Errorf("a packet is %d bytes over its data", n-len(p.data))
		}
	}
}

func TestQueueBounds(t *testing.T) {
	q := newQueue[int](3, 10)
	for i, tc := range []struct {
		size int
		ok   bool
	}{{100, true}, {1, false}} {
		if ok := q.tryPush(i, tc.size); ok != tc.ok {
			t.Errorf("push %d: %v", i, ok)
		}
	}
	if v, ok := q.pop(); !ok || v != 0 {
		t.Errorf("pop gives %d, %v", v, ok)
	}
	for i, ok := range []bool{true, true, true, false} {
		if got := q.tryPush(i, 1); got != ok {
			t.Errorf("push %d: %v", i, got)
		}
	}
	for i := range 3 {
		if v, ok := q.pop(); !ok || v != i {
			t.Errorf("pop %d gives %d, %v", i, v, ok)
		}
	}
	if _, ok := q.pop(); ok || q.bytes != 0 {
		t.Errorf("an empty queue has %d bytes", q.bytes)
	}
	done := make(chan struct{})
	q.tryPush(1, 100)
	close(done)
	if q.push(2, 1, done, nil) {
		t.Error("push succeeds on a full queue")
	}
}

// seed makes a fuzz seed of a killer, without the Engine.IO digit. Long ones would keep
// the fuzzer busy with making them shorter.
func seed(data string) string {
	data = strings.TrimPrefix(data, "4")
	return data[:min(len(data), 200)]
}

// FuzzPacket checks that what parsePacket accepts is what it says, and no more.
func FuzzPacket(f *testing.F) {
	f.Add("0")
	f.Add(`0{"sid":"x"}`)
	f.Add(`4{"message":"x"}`)
	f.Add("1")
	f.Add(`2["declare","00"]`)
	for _, frames := range killers {
		f.Add(seed(frames[0].data))
	}
	f.Fuzz(func(t *testing.T, s string) {
		p, err := parsePacket(s)
		if err != nil {
			if !errors.Is(err, link.ErrProtocol) || len(err.Error()) > 100 {
				t.Fatalf("error %v", err)
			}
			return
		}
		switch p.kind {
		case packetEvent:
			if encodeEvent(p.event, p.data) != s {
				t.Fatalf("%q is read as %+v", s, p)
			}
			// The library's parser, which JavaScript's resembles, reads it alike.
			decoded := false
			d := parser.NewDecoder()
			_ = d.On("decoded", func(args ...any) {
				decoded = true
				data, _ := args[0].(*parser.Packet).Data.([]any)
				if len(data) != 2 || data[0] != p.event || data[1] != p.data {
					t.Fatalf("%q is read as %+v here and %v there", s, p, data)
				}
			})
			if err := d.Add(types.NewStringBufferString(s)); err == nil && !decoded {
				t.Fatalf("%q is no packet for the library", s)
			}
		case packetConnect, packetConnectError, packetDisconnect:
			if string(p.kind)+p.data != s {
				t.Fatalf("%q is read as %+v", s, p)
			}
		default:
			t.Fatalf("kind %q", p.kind)
		}
	})
}

// FuzzOpen feeds the dialling end's parsers of a server's greeting.
func FuzzOpen(f *testing.F) {
	f.Add(`0{"sid":"x","upgrades":[],"pingInterval":25000,"pingTimeout":20000}`)
	f.Add(`0{"sid":"x","upgrades":[],"pingInterval":25000,"pingTimeout":20000,"maxPayload":1000000}`)
	f.Add(`0{"pingInterval":-1,"pingTimeout":9223372036854775807,"maxPayload":9223372036854775807}`)
	f.Add(`40{"sid":"x"}`)
	f.Add(`44{"message":"x"}`)
	f.Add(`44"x"`)
	f.Fuzz(func(t *testing.T, s string) {
		if hs, err := parseOpen(s); err == nil {
			if hs.heartbeat < 2*minHeartbeat || hs.heartbeat > 2*maxHeartbeat || hs.maxPayload < minMaxPayload {
				t.Fatalf("%q is read as %+v", s, hs)
			}
		}
		if id, err := parseConnected(s); err == nil && (id == "" || len(id) > maxEventName || !plain(id)) {
			t.Fatalf("%q gives the id %q", s, id)
		}
	})
}

// FuzzGuard feeds a connection's messages to the decoder that stands before the
// library, as the library would. Messages are separated by newlines; those that
// begin with "!" are binary.
func FuzzGuard(f *testing.F) {
	for _, frames := range killers {
		var b strings.Builder
		b.WriteString("0")
		for _, fr := range frames {
			b.WriteString("\n")
			if fr.kind != text("").kind {
				b.WriteString("!")
			}
			b.WriteString(seed(fr.data))
		}
		f.Add(b.String())
	}
	f.Add("0\n2[\"declare\",\"00\"]\n2[\"command\",\"00\"]\n1")
	server := &Server{log: quiet()}
	f.Fuzz(func(t *testing.T, conversation string) {
		d := guardedParser{server}.NewDecoder().(*decoder)
		s := newSession(nil, quiet(), QueueLimits{InMessages: 4, InBytes: 1 << 20, OutMessages: 1, OutBytes: 1})
		aborted := false
		s.transport = abortFunc(func() { aborted = true })
		connects := 0
		_ = d.On("decoded", func(args ...any) {
			p := args[0].(*parser.Packet)
			if p.Type != parser.CONNECT || p.Nsp != "/" || p.Data != any(d) || p.Id != nil || p.Attachments != nil {
				t.Fatalf("the library gets to see %+v", p)
			}
			connects++
			d.session = s
		})
		for _, m := range strings.Split(conversation, "\n") {
			var data any = types.NewStringBufferString(m)
			if bin, ok := strings.CutPrefix(m, "!"); ok {
				data = types.NewBytesBufferString(bin)
			}
			ended := s.Context().Err() != nil
			if err := d.Add(data); err != nil {
				if d.session != nil && !aborted {
					t.Fatalf("after %v the session goes on", err)
				}
				break
			}
			for {
				p, ok := s.in.pop()
				if !ok {
					break
				}
				if ended || !known(p.event) || encodeEvent(p.event, p.data) != m {
					t.Fatalf("%q delivers %+v", m, p)
				}
			}
		}
		if connects > 1 {
			t.Fatalf("the library gets to see %d connects", connects)
		}
		s.fail(nil)
	})
}
