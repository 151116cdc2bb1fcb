package native

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"github.com/meshctl/meshctl/internal/mesh/link"
	"github.com/meshctl/meshctl/internal/mesh/seal"
	"github.com/meshctl/meshctl/internal/mesh/wire"
)

// mitm stands between the two ends of a link and does to its frames what a test says.
type mitm struct {
	addr string
	// tamper is called with each message of the WebSocket, numbered from 0 in its
	// direction, and gives what is passed on instead.
	tamper func(toServer bool, n int, data []byte) [][]byte
	// reflect, if set, is called likewise and gives what is sent back to the sender.
	reflect func(toServer bool, n int, data []byte) [][]byte
}

func (p *mitm) start(t *testing.T, server string) {
	t.Helper()
	var wg sync.WaitGroup
	hs := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		up := websocket.Upgrader{}
		client, err := up.Upgrade(w, r, nil)
		if err != nil {
			return
		}
		defer client.Close()
		upstream, _, err := websocket.DefaultDialer.Dial("ws://"+server+Path, nil)
		if err != nil {
			return
		}
		defer upstream.Close()
		var mu sync.Mutex // of writes
		pump := func(from, to *websocket.Conn, toServer bool) {
			defer from.Close()
			defer to.Close()
			for n := 0; ; n++ {
				_, data, err := from.ReadMessage()
				if err != nil {
					return
				}
				out, back := [][]byte{data}, [][]byte(nil)
				if p.tamper != nil {
					out = p.tamper(toServer, n, data)
				}
				if p.reflect != nil {
					back = p.reflect(toServer, n, data)
				}
				mu.Lock()
				for _, d := range out {
					_ = to.WriteMessage(websocket.BinaryMessage, d)
				}
				for _, d := range back {
					_ = from.WriteMessage(websocket.BinaryMessage, d)
				}
				mu.Unlock()
			}
		}
		wg.Go(func() { pump(client, upstream, true) })
		pump(upstream, client, false)
	})}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p.addr = l.Addr().String()
	done := make(chan struct{})
	go func() { defer close(done); _ = hs.Serve(l) }()
	t.Cleanup(func() {
		_ = hs.Close()
		<-done
		wg.Wait()
	})
}

// TestTamperedFrames: whatever is done to frame 2 (the first after the handshake is 1),
// nothing forged is received and the link ends.
func TestTamperedFrames(t *testing.T) {
	var first []byte
	for name, tamper := range map[string]func(n int, data []byte) [][]byte{
		"corrupted": func(n int, d []byte) [][]byte {
			if n == 2 {
				d = bytes.Clone(d)
				d[len(d)/2] ^= 1
			}
			return [][]byte{d}
		},
		"truncated": func(n int, d []byte) [][]byte {
			if n == 2 {
				d = d[:len(d)-1]
			}
			return [][]byte{d}
		},
		"shorter than a tag": func(n int, d []byte) [][]byte {
			if n == 2 {
				d = d[:3]
			}
			return [][]byte{d}
		},
		"replayed": func(n int, d []byte) [][]byte {
			if n == 1 {
				first = bytes.Clone(d)
			}
			if n == 2 {
				return [][]byte{first, d}
			}
			return [][]byte{d}
		},
		"doubled": func(n int, d []byte) [][]byte {
			if n == 2 {
				return [][]byte{d, d}
			}
			return [][]byte{d}
		},
		"left out": func(n int, d []byte) [][]byte {
			if n == 2 {
				return nil
			}
			return [][]byte{d}
		},
		"reordered": func() func(int, []byte) [][]byte {
			var held []byte
			return func(n int, d []byte) [][]byte {
				switch n {
				case 2:
					held = bytes.Clone(d)
					return nil
				case 3:
					return [][]byte{d, held}
				}
				return [][]byte{d}
			}
		}(),
		"made up": func(n int, d []byte) [][]byte {
			if n == 2 {
				return [][]byte{bytes.Repeat([]byte{7}, 100)}
			}
			return [][]byte{d}
		},
	} {
		for _, toServer := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s/to server %v", name, toServer), func(t *testing.T) {
				p := &mitm{tamper: func(to bool, n int, d []byte) [][]byte {
					if to != toServer {
						return [][]byte{d}
					}
					return tamper(n, d)
				}}
				from, to := throughMITM(t, p, toServer)
				checkOnlyGenuine(t, from, to)
			})
		}
	}
}

// A frame that is sent back to whoever sealed it does not open there.
func TestReflectedFrames(t *testing.T) {
	for _, toServer := range []bool{true, false} {
		t.Run(fmt.Sprintf("of the server %v", !toServer), func(t *testing.T) {
			p := &mitm{reflect: func(to bool, n int, d []byte) [][]byte {
				if to == toServer && n == 2 {
					return [][]byte{d}
				}
				return nil
			}}
			from, _ := throughMITM(t, p, toServer)
			send(from, "m1")
			awaitNext(from, "m2")
			err := ended(t, from)
			if !errors.Is(err, errForged) {
				t.Errorf("the link ended with %v", err)
			}
		})
	}
}

// throughMITM gives the sending and the receiving end of a link through p.
func throughMITM(t *testing.T, p *mitm, toServer bool) (from, to link.Link) {
	t.Helper()
	addr, links := serve(t, Config{Key: testKey})
	p.start(t, addr)
	d, err := Dial(t.Context(), p.addr, Config{Key: testKey})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close(nil) })
	a := <-links
	if toServer {
		return d, a
	}
	return a, d
}

func send(l link.Link, body string) {
	_ = l.Send(wire.Message{Event: wire.EventCommand, Body: []byte(body)})
}

// awaitNext sends in a frame of its own: what was sent before has been written, or never will be.
func awaitNext(l link.Link, body string) {
	s := l.(*session)
	for !s.IsOver() {
		s.out.mu.Lock()
		empty := s.out.messages == 0
		s.out.mu.Unlock()
		if empty {
			break
		}
		time.Sleep(time.Millisecond)
	}
	send(l, body)
}

// checkOnlyGenuine sends numbered messages, a frame each, and expects a prefix of
// them, and then the end.
func checkOnlyGenuine(t *testing.T, from, to link.Link) {
	t.Helper()
	const sent = 6
	go func() {
		for i := range sent {
			awaitNext(from, fmt.Sprint(i))
		}
	}()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	for i := 0; ; i++ {
		m, err := to.Receive(ctx)
		if errors.Is(err, link.ErrClosed) {
			if i >= sent {
				t.Error("everything arrived in spite of the tampering")
			}
			return
		}
		if err != nil {
			t.Fatalf("the link went on after the tampering: %v", err)
		}
		if string(m.Body) != fmt.Sprint(i) {
			t.Fatalf("message %d is %q", i, m.Body)
		}
	}
}

func ended(t *testing.T, l link.Link) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	for {
		if _, err := l.Receive(ctx); errors.Is(err, link.ErrClosed) {
			return err
		} else if err != nil {
			t.Fatalf("the link did not end: %v", err)
		}
	}
}

// A connection that is cut without a last frame is told from one that was closed.
func TestTruncationIsNoticed(t *testing.T) {
	d, a := pair(t, Config{Key: testKey})
	d.(*session).ws.Close()
	if err := ended(t, a); !errors.Is(err, errCut) {
		t.Errorf("a cut connection ended with %v", err)
	}
	d, a = pair(t, Config{Key: testKey})
	d.Close(nil)
	if err := ended(t, a); !errors.Is(err, link.ErrPeerLeft) {
		t.Errorf("a closed connection ended with %v", err)
	}
	d, a = pair(t, Config{Key: testKey})
	d.Close(fmt.Errorf("at the end: %w", link.ErrDrained))
	if err := ended(t, a); !errors.Is(err, link.ErrPeerDrained) || errors.Is(d.Err(), link.ErrPeerDrained) {
		t.Errorf("a connection that was closed after a drain ended with %v, at its own end with %v", err, d.Err())
	}
}

func TestWrongKey(t *testing.T) {
	other := newKey("another private key")
	addr, _ := serve(t, Config{Key: testKey})
	if _, err := Dial(t.Context(), addr, Config{Key: other}); wire.CodeOf(err) != wire.CodeKeyMismatch {
		t.Errorf("dial with another key: %v", err)
	}
	// A server that only pretends to have the key.
	addr, _ = serve(t, Config{Key: other, Find: func(seal.KeyID) *seal.Key { return other }})
	if _, err := Dial(t.Context(), addr, Config{Key: testKey}); wire.CodeOf(err) != wire.CodeKeyMismatch && !errors.Is(err, seal.ErrKeyMismatch) {
		t.Errorf("dial a pretender: %v", err)
	}
}

// What the ends say of themselves cannot be changed on the way.
func TestHandshakeCannotBeChanged(t *testing.T) {
	addr, _ := serve(t, Config{Key: testKey})
	for toServer, size := range map[bool]int{true: keyIDLen + 32 + 16 + 20, false: 32 + 16 + 20} {
		for at := 0; at < size; at += 5 {
			p := &mitm{tamper: func(to bool, n int, d []byte) [][]byte {
				if to == toServer && n == 0 && at < len(d) {
					d = bytes.Clone(d)
					d[at] ^= 0x40
				}
				return [][]byte{d}
			}}
			p.start(t, addr)
			if l, err := Dial(t.Context(), p.addr, Config{Key: testKey, Handshake: 2 * time.Second}); err == nil {
				l.Close(nil)
				t.Errorf("byte %d of the handshake was changed (to the server: %v) and nobody noticed", at, toServer)
			}
		}
	}
}

// A recorded handshake opens no session: the server answers, and nothing it then
// reads from the impostor can be opened.
func TestReplayedHandshake(t *testing.T) {
	addr, links := serve(t, Config{Key: testKey})
	h, err := newHandshake(testKey, Hello{Name: "a/1", Protocol: 1}, true)
	if err != nil {
		t.Fatal(err)
	}
	first, err := h.first()
	if err != nil {
		t.Fatal(err)
	}
	ws, _, err := websocket.DefaultDialer.Dial("ws://"+addr+Path, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer ws.Close()
	if err := ws.WriteMessage(websocket.BinaryMessage, first); err != nil {
		t.Fatal(err)
	}
	l := <-links
	if err := ws.WriteMessage(websocket.BinaryMessage, bytes.Repeat([]byte{1}, 64)); err != nil {
		t.Fatal(err)
	}
	if err := ended(t, l); !errors.Is(err, errForged) {
		t.Errorf("the impostor's link ended with %v", err)
	}
}

func TestHostileHandshakes(t *testing.T) {
	addr, _ := serve(t, Config{Key: testKey, Handshake: 300 * time.Millisecond})
	for _, first := range []any{nil, "", "text", []byte{}, []byte{1}, idOf(testKey), append(idOf(testKey), make([]byte, 48)...), bytes.Repeat([]byte{0}, maxHandshake+1), bytes.Repeat([]byte{0}, 1<<20)} {
		ws, _, err := websocket.DefaultDialer.Dial("ws://"+addr+Path, nil)
		if err != nil {
			t.Fatal(err)
		}
		switch v := first.(type) {
		case string:
			err = ws.WriteMessage(websocket.TextMessage, []byte(v))
		case []byte:
			err = ws.WriteMessage(websocket.BinaryMessage, v)
		}
		if err != nil && !strings.Contains(err.Error(), "reset") && !strings.Contains(err.Error(), "broken pipe") {
			t.Fatal(err)
		}
		_ = ws.SetReadDeadline(time.Now().Add(20 * time.Second))
		if _, _, err := ws.ReadMessage(); err == nil || errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("handshake %.20v was answered", first)
		}
		ws.Close()
	}
	// A peer that means well gets in, though a busy machine may need more than the server waits for.
	for deadline := time.Now().Add(time.Minute); ; {
		l, err := Dial(t.Context(), addr, Config{Key: testKey})
		if err == nil {
			l.Close(nil)
			return
		}
		if time.Now().After(deadline) {
			t.Fatal(err)
		}
	}
}

// Both directions change their keys while messages flow.
func TestKeysChange(t *testing.T) {
	d, a := pair(t, Config{Key: testKey})
	for i := range 5 {
		for _, l := range []link.Link{d, a} {
			l.(*session).rekeyNow.Store(true)
		}
		for _, x := range []struct{ from, to link.Link }{{d, a}, {a, d}} {
			send(x.from, fmt.Sprint(i))
			m, err := x.to.Receive(t.Context())
			if err != nil || string(m.Body) != fmt.Sprint(i) {
				t.Fatalf("round %d: %q, %v", i, m.Body, err)
			}
		}
	}
}

func TestTypedMessages(t *testing.T) {
	d, a := pair(t, Config{Key: testKey})
	want := []wire.Message{
		wire.CommandMessage(wire.Command{UID: "u1", Number: 1 << 20, Name: "c", Payload: []byte(`{"a":1}`), Meta: &wire.CommandMeta{TimeoutMS: 77, Ack: true}}),
		wire.CommandMessage(wire.Command{Name: "c"}),
		wire.ResponseMessage(wire.Response{Number: 1 << 20, Name: "c", Result: []byte(`[1]`)}),
		wire.ResponseMessage(wire.Response{Number: 2, Err: &wire.Error{Code: wire.CodeDenied, Message: "no", Temporary: true, Hint: "stays here"}}),
		{Event: wire.EventDrain, Body: []byte(`{}`)},
		{Event: wire.EventCancel, Number: 1 << 20},
		wire.CommandMessage(wire.Command{UID: "long", Name: "c", Payload: []byte(`"` + strings.Repeat("x", 300<<10) + `"`)}),
	}
	for _, m := range want {
		if err := d.Send(m); err != nil {
			t.Fatal(err)
		}
	}
	for i := range want {
		got, err := a.Receive(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if g, w := describe(got), describe(want[i]); g != w {
			t.Errorf("message %d is %.100s, want %.100s", i, g, w)
		}
	}
}

// What is not JSON is noticed by the receiving end, and the sender is told.
func TestPayloadsThatAreNotJSON(t *testing.T) {
	d, a := pair(t, Config{Key: testKey})
	for _, m := range []wire.Message{
		wire.CommandMessage(wire.Command{UID: "u1", Number: 1 << 20, Name: "c", Payload: []byte(`{`)}),
		wire.ResponseMessage(wire.Response{Number: 2, Result: []byte(strings.Repeat("[", 100) + strings.Repeat("]", 100))}),
	} {
		if err := d.Send(m); err != nil {
			t.Fatal(err)
		}
	}
	if m, err := d.Receive(t.Context()); err != nil || m.Response == nil || m.Response.Number != 1<<20 || wire.CodeOf(m.Response.Err) != wire.CodeBadRequest {
		t.Errorf("the sender of a bad request got %s, %v", describe(m), err)
	}
	if m, err := a.Receive(t.Context()); err != nil || m.Response == nil || m.Response.Number != 2 || wire.CodeOf(m.Response.Err) != wire.CodeHandlerError {
		t.Errorf("a bad response arrived as %s, %v", describe(m), err)
	}
}

func describe(m wire.Message) string {
	switch {
	case m.Command != nil:
		meta := wire.CommandMeta{}
		if m.Command.Meta != nil {
			meta = *m.Command.Meta
		}
		payload := string(m.Command.Payload)
		if payload == "" {
			payload = "null"
		}
		return fmt.Sprintf("command %d %s %s %+v %s", m.Command.Number, m.Command.UID, m.Command.Name, meta, payload)
	case m.Response != nil && m.Response.Err != nil:
		e := m.Response.Err
		return fmt.Sprintf("failure %d %s %s %v", m.Response.Number, e.Code, e.Message, e.Temporary)
	case m.Response != nil:
		return fmt.Sprintf("response %d %s", m.Response.Number, m.Response.Result)
	}
	return fmt.Sprintf("%s %d %s", m.Event, m.Number, m.Body)
}

// FuzzRecords reads frames of a peer that has the key and is hostile all the same.
func FuzzRecords(f *testing.F) {
	for _, m := range []wire.Message{
		wire.CommandMessage(wire.Command{UID: "u1", Number: 1 << 20, Name: "c", Payload: []byte(`{"a":1}`), Meta: &wire.CommandMeta{TimeoutMS: 77, Ack: true}}),
		wire.ResponseMessage(wire.Response{Number: 1 << 20, Result: []byte(`[1]`)}),
		wire.ResponseMessage(wire.Response{Number: 2, Err: &wire.Error{Code: wire.CodeDenied, Message: "no"}}),
		{Event: wire.EventDeclare, Body: []byte(`{"worker":"a"}`)},
	} {
		f.Add(appendRecord(nil, m))
	}
	f.Add(appendClose(nil, wire.CodeDenied, ""))
	f.Add(appendChunk(appendChunk(nil, false, []byte{recordEvent}), true, []byte{0}))
	f.Add([]byte{recordRequest, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1})
	f.Add(appendHeader(appendHeader(nil, recordPing, 0), 200, 0))
	f.Fuzz(func(t *testing.T, frame []byte) {
		s := &session{log: testLog, maxBody: 1 << 16, wake: make(chan struct{}, 1)}
		s.out.maxMessages, s.out.maxBytes = 10, 1<<20
		r := &reader{session: s, decoder: newDecoder()}
		if bytes.Contains(frame, []byte{recordRekey}) {
			return // needs a cipher, and does nothing else
		}
		batch, _ := r.records(frame)
		for _, m := range batch {
			if bodyLen(m) > s.maxBody {
				t.Fatalf("a message of %d bytes got through", bodyLen(m))
			}
			kind, body, rest, err := nextRecord(appendRecord(nil, m))
			if err != nil || len(rest) > 0 {
				t.Fatalf("%s does not survive: %v", describe(m), err)
			}
			again, err := r.message(kind, body)
			if err != nil || describe(again) != describe(m) {
				t.Fatalf("%s became %s (%v)", describe(m), describe(again), err)
			}
		}
	})
}

// FuzzHandshake sends arbitrary first messages.
func FuzzHandshake(f *testing.F) {
	f.Add([]byte{})
	f.Add(idOf(testKey))
	f.Add(append(idOf(testKey), make([]byte, 64)...))
	f.Fuzz(func(t *testing.T, first []byte) {
		h, err := newHandshake(testKey, Hello{Name: "a/1", Protocol: 1}, false)
		if err != nil {
			t.Fatal(err)
		}
		if _, _, _, err := h.answer(first); err == nil {
			t.Fatal("a handshake was made up")
		}
	})
}
