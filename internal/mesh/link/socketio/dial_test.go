package socketio

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"github.com/meshctl/meshctl/internal/mesh/link"
	"github.com/meshctl/meshctl/internal/mesh/wire"
)

func quiet() *slog.Logger { return slog.New(slog.DiscardHandler) }

// abortFunc is a transport that can only be aborted.
type abortFunc func()

func (abortFunc) send(context.Context, string) error { return net.ErrClosed }
func (abortFunc) pong() error                        { return net.ErrClosed }
func (abortFunc) goodbye(context.Context, error)     {}
func (abortFunc) trust()                             {}
func (f abortFunc) abort()                           { f() }

const (
	goodOpen = `0{"sid":"e","upgrades":[],"pingInterval":25000,"pingTimeout":20000}`
	goodJoin = `40{"sid":"s"}`
)

// fakeServer answers the WebSocket handshake and leaves the rest to the test.
func fakeServer(t *testing.T, serve func(ws *websocket.Conn)) (addr string) {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.RequestURI() != path+"?EIO=4&transport=websocket" {
			t.Errorf("the client asks for %s", r.URL.RequestURI())
		}
		ws, err := new(websocket.Upgrader).Upgrade(w, r, nil)
		if err != nil {
			return
		}
		defer ws.Close()
		serve(ws)
	}))
	t.Cleanup(s.Close)
	return s.Listener.Addr().String()
}

// fakeDial dials a fakeServer that goes on with serve after a proper greeting.
func fakeDial(t *testing.T, serve func(ws *websocket.Conn)) link.Link {
	t.Helper()
	addr := fakeServer(t, func(ws *websocket.Conn) {
		say(ws, goodOpen)
		if hear(ws) == "40" {
			say(ws, goodJoin)
			serve(ws)
		}
	})
	l, err := Dial(context.Background(), addr, DialConfig{Envelope: sharedEnvelope()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close(nil) })
	return l
}

func say(ws *websocket.Conn, text string) {
	_ = ws.WriteMessage(websocket.TextMessage, []byte(text))
}

func hear(ws *websocket.Conn) string {
	_ = ws.SetReadDeadline(time.Now().Add(patience))
	_, data, _ := ws.ReadMessage()
	return string(data)
}

// listen gives the address of a TCP server that does with each connection what it is told.
func listen(t *testing.T, serve func(net.Conn)) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	stop := make(chan struct{})
	go func() {
		defer close(stop)
		for {
			nc, err := l.Accept()
			if err != nil {
				return
			}
			serve(nc)
			_ = nc.Close()
		}
	}()
	t.Cleanup(func() { _ = l.Close(); <-stop })
	return l.Addr().String()
}

func TestDialErrors(t *testing.T) {
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_ = free.Close()
	greeting := func(messages ...string) string {
		return fakeServer(t, func(ws *websocket.Conn) {
			for i, m := range messages {
				if i == 1 && hear(ws) != "40" {
					t.Error("the client does not connect to the namespace")
				}
				say(ws, m)
			}
			for hear(ws) != "" { // until it hangs up
			}
		})
	}
	status := func(code int) string {
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(code) }))
		t.Cleanup(s.Close)
		return s.Listener.Addr().String()
	}
	for _, tc := range []struct {
		name, addr string
		want       error
	}{
		{"nobody listens", free.Addr().String(), link.ErrUnreachable},
		{"no such host", "host.invalid:1", link.ErrUnreachable},
		{"no port", "127.0.0.1", link.ErrUnreachable},
		{"silence", listen(t, drain), link.ErrUnreachable},
		{"silent WebSocket", greeting(), link.ErrUnreachable},
		{"no answer to connect", greeting(goodOpen), link.ErrUnreachable},
		{"hangs up", listen(t, func(net.Conn) {}), link.ErrRefused},
		{"not found", status(404), link.ErrRefused},
		{"unauthorized", status(401), link.ErrRefused},
		{"ok", status(200), link.ErrRefused},
		{"connect error", greeting(goodOpen, `44{"message":"no"}`), link.ErrRefused},
		{"connect error of another shape", greeting(goodOpen, `44{"message":{}}`), link.ErrRefused},
		{"SSH", listen(t, func(nc net.Conn) { _, _ = nc.Write([]byte("SSH-2.0-x\r\n")); drain(nc) }), link.ErrProtocol},
		{"endless header", listen(t, func(nc net.Conn) {
			_, _ = nc.Write([]byte("HTTP/1.1 101 Switching Protocols\r\n"))
			for {
				if _, err := nc.Write([]byte("X: " + strings.Repeat("a", 4000) + "\r\n")); err != nil {
					return
				}
			}
		}), link.ErrProtocol},
		{"no open packet", greeting("40"), link.ErrProtocol},
		{"open without data", greeting("0"), link.ErrProtocol},
		{"open without heartbeat", greeting(`0{"sid":"x"}`), link.ErrProtocol},
		{"heartbeat too fast", greeting(`0{"pingInterval":1,"pingTimeout":20000}`), link.ErrProtocol},
		{"heartbeat too slow", greeting(`0{"pingInterval":25000,"pingTimeout":99999999999}`), link.ErrProtocol},
		{"heartbeat of another type", greeting(`0{"pingInterval":"25000","pingTimeout":20000}`), link.ErrProtocol},
		{"takes nothing", greeting(`0{"pingInterval":25000,"pingTimeout":20000,"maxPayload":1}`), link.ErrProtocol},
		{"huge open packet", greeting(`0{"sid":"` + strings.Repeat("x", 1<<17) + `"}`), link.ErrProtocol},
		{"no sid", greeting(goodOpen, "40{}"), link.ErrProtocol},
		{"sid of another type", greeting(goodOpen, `40{"sid":7}`), link.ErrProtocol},
		{"event first", greeting(goodOpen, `42["declared","00"]`), link.ErrProtocol},
		{"Engine.IO close", greeting(goodOpen, `1`), link.ErrProtocol},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			timeout := patience // this process may stand still, which is not to be taken for a peer's silence
			if tc.want == link.ErrUnreachable {
				timeout = 2 * time.Second
			}
			begun := time.Now()
			l, err := Dial(context.Background(), tc.addr, DialConfig{Envelope: sharedEnvelope(), Timeout: timeout})
			if err == nil {
				l.Close(nil)
				t.Fatal("Dial succeeds")
			}
			for _, e := range []error{link.ErrUnreachable, link.ErrRefused, link.ErrProtocol} {
				if errors.Is(err, e) != (e == tc.want) {
					t.Errorf("Dial gives %v", err)
				}
			}
			if took := time.Since(begun); took > 10*time.Second {
				t.Errorf("it took %v", took)
			}
		})
	}
}

func TestDialContext(t *testing.T) {
	for name, addr := range map[string]string{
		"TCP":       listen(t, drain),
		"WebSocket": fakeServer(t, func(ws *websocket.Conn) { hear(ws) }),
	} {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithCancel(context.Background())
			time.AfterFunc(20*time.Millisecond, cancel)
			begun := time.Now()
			if _, err := Dial(ctx, addr, DialConfig{Envelope: sharedEnvelope()}); !errors.Is(err, context.Canceled) {
				t.Errorf("Dial gives %v", err)
			}
			if took := time.Since(begun); took > DefaultDialTimeout/2 {
				t.Errorf("it took %v", took)
			}
		})
	}
	if _, err := Dial(context.Background(), "127.0.0.1:1", DialConfig{}); err == nil {
		t.Error("Dial succeeds without an envelope")
	}
}

// TestServerMisbehaves: a dialled server that breaks the protocol ends the link.
func TestServerMisbehaves(t *testing.T) {
	for name, f := range map[string]frame{
		"binary":            binary("x"),
		"empty":             text(""),
		"second open":       text(goodOpen),
		"second connect":    text(goodJoin),
		"connect error":     text(`44{"message":"x"}`),
		"ack":               text("431[]"),
		"event with ack id": text(`421["command","00"]`),
		"binary event":      text(`451-["command","00"]`),
		"pong":              text("3"),
		"ping probe":        text("2probe"),
		"not UTF-8":         text("42[\"command\",\"\xff\"]"),
		"too long":          text(`42["command","` + strings.Repeat("0", 3<<20) + `"]`),
	} {
		t.Run(name, func(t *testing.T) {
			l := fakeDial(t, func(ws *websocket.Conn) {
				_ = ws.WriteMessage(f.kind, []byte(f.data))
				hear(ws)
			})
			waitDone(t, l)
			if !errors.Is(l.Err(), link.ErrProtocol) {
				t.Errorf("the link ended for %v", l.Err())
			}
		})
	}
}

// TestServerLeaves: every way of leaving ends the link, as no breach of the protocol.
func TestServerLeaves(t *testing.T) {
	for name, leave := range map[string]func(ws *websocket.Conn){
		"hangs up":        func(*websocket.Conn) {},
		"Engine.IO close": func(ws *websocket.Conn) { say(ws, "1"); hear(ws) },
		"disconnect":      func(ws *websocket.Conn) { say(ws, "41"); hear(ws) },
		"close frame":     func(ws *websocket.Conn) { _ = ws.WriteMessage(websocket.CloseMessage, nil); hear(ws) },
		"unknown code": func(ws *websocket.Conn) {
			_ = ws.WriteMessage(websocket.CloseMessage, closeFrame(&wire.Error{Code: "x"}))
		},
		"unknown, 1 KiB":   func(ws *websocket.Conn) { say(ws, "42[\"foo\",\""+strings.Repeat("0", 1024)+"\"]") },
		"after heartbeats": func(ws *websocket.Conn) { say(ws, "2"); say(ws, "6"); hear(ws) },
	} {
		t.Run(name, func(t *testing.T) {
			l := fakeDial(t, leave)
			waitDone(t, l)
			if !errors.Is(l.Err(), link.ErrPeerLeft) {
				t.Errorf("the link ended for %v", l.Err())
			}
		})
	}
}

// TestPong: heartbeats are answered before the data that is queued.
func TestPong(t *testing.T) {
	answers := make(chan string, 1)
	l := fakeDial(t, func(ws *websocket.Conn) {
		say(ws, "2")
		answers <- hear(ws)
		hear(ws)
	})
	select {
	case got := <-answers:
		if got != "3" {
			t.Errorf("a ping is answered with %q", got)
		}
	case <-time.After(patience):
		t.Error("no answer")
	}
	l.Close(nil)
}

// TestSilentServer: a server without heartbeat is dead.
func TestSilentServer(t *testing.T) {
	addr := fakeServer(t, func(ws *websocket.Conn) {
		say(ws, `0{"sid":"e","pingInterval":100,"pingTimeout":100}`)
		hear(ws)
		say(ws, goodJoin)
		hear(ws)
	})
	l, err := Dial(context.Background(), addr, DialConfig{Envelope: sharedEnvelope()})
	if err != nil {
		t.Fatal(err)
	}
	waitDone(t, l)
	if !errors.Is(l.Err(), errPeerSilent) {
		t.Errorf("the link ended for %v", l.Err())
	}
}

// TestServerIsAsked: a JavaScript server whose own heartbeat is slow is asked by WebSocket
// pings, and is lost when it ceases to answer them; one that never answers any stays.
func TestServerIsAsked(t *testing.T) {
	over := make(chan struct{})
	defer close(over)
	dialTo := func(serve func(*websocket.Conn)) link.Link {
		addr := fakeServer(t, func(ws *websocket.Conn) {
			say(ws, goodOpen)
			hear(ws)
			say(ws, goodJoin)
			serve(ws)
			<-over
		})
		l, err := Dial(context.Background(), addr, DialConfig{Envelope: sharedEnvelope(), Heartbeat: 500 * time.Millisecond})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { l.Close(nil) })
		return l
	}
	mute := dialTo(func(ws *websocket.Conn) {
		ws.SetPingHandler(func(string) error { return nil })
		hear(ws)
	})
	begun := time.Now()
	stopped := dialTo(func(ws *websocket.Conn) {
		pings := 0
		answer := ws.PingHandler()
		ws.SetPingHandler(func(text string) error {
			if pings++; pings == 5 {
				<-over
			}
			return answer(text)
		})
		hear(ws)
	})
	waitDone(t, stopped)
	if took := time.Since(begun); !errors.Is(stopped.Err(), errPeerSilent) || took < time.Second {
		t.Errorf("after %s the link ended for %v", took, stopped.Err())
	}
	if mute.Err() != nil {
		t.Errorf("the link to a server that answers no pings ended for %v", mute.Err())
	}
}

// TestPeerLimit: a message that would break the connection of a JavaScript server is
// refused, one that just fits arrives.
func TestPeerLimit(t *testing.T) {
	for _, tc := range []struct {
		open  string
		limit int
	}{
		{goodOpen, legacyMaxPayload},
		{`0{"pingInterval":25000,"pingTimeout":20000,"maxPayload":100000}`, 100_000},
	} {
		t.Run(fmt.Sprint(tc.limit), func(t *testing.T) {
			arrived := make(chan int, 1)
			addr := fakeServer(t, func(ws *websocket.Conn) {
				say(ws, tc.open)
				hear(ws)
				say(ws, goodJoin)
				arrived <- len(hear(ws))
				hear(ws)
			})
			l, err := Dial(context.Background(), addr, DialConfig{Envelope: sharedEnvelope()})
			if err != nil {
				t.Fatal(err)
			}
			defer l.Close(nil)
			fits := l.(*session).maxBody
			if err := l.Send(wire.Message{Event: wire.EventCommand, Body: make([]byte, fits+1)}); !errors.Is(err, link.ErrTooLarge) {
				t.Errorf("Send of too much gives %v", err)
			}
			if err := l.Send(wire.Message{Event: wire.EventCommand, Body: make([]byte, fits)}); err != nil {
				t.Fatal(err)
			}
			if n := <-arrived; n > tc.limit || n < tc.limit-2*maxEventName {
				t.Errorf("a message of %d bytes arrived, %d are the limit", n, tc.limit)
			}
		})
	}
}

func TestSendChecksTheName(t *testing.T) {
	d, _ := serve(t, nil).pair()
	for _, name := range []string{"", `a"b`, "a\nb", "ä", strings.Repeat("a", maxEventName+1)} {
		if err := d.Send(wire.Message{Event: name}); err == nil {
			t.Errorf("the name %q is sent", name)
		}
	}
}
