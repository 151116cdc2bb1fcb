package socketio

import (
	"context"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gorilla/websocket"
	"go.uber.org/goleak"

	"github.com/meshctl/meshctl/internal/mesh/link"
	"github.com/meshctl/meshctl/internal/mesh/link/linktest"
	"github.com/meshctl/meshctl/internal/mesh/seal"
	"github.com/meshctl/meshctl/internal/mesh/wire"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(linktest.Settled(m)) }

// patience bounds every wait of a test.
const patience = 20 * time.Second

// sharedEnvelope is derived once for all tests that do not count derivations.
var sharedEnvelope = sync.OnceValue(func() *seal.Envelope {
	e, err := seal.NewEnvelope("private key of the tests")
	if err != nil {
		panic(err)
	}
	if err := e.Warm(); err != nil {
		panic(err)
	}
	return e
})

// testServer is a running Server.
type testServer struct {
	*Server
	t     *testing.T
	addr  string
	links chan link.Link // accepted, unless Config.Accept was set
	stop  func()         // waits for Serve
}

func serve(t *testing.T, change func(*Config)) *testServer {
	t.Helper()
	ts := &testServer{t: t, links: make(chan link.Link, 64)}
	cfg := Config{
		Envelope:           sharedEnvelope(),
		DeclareTimeout:     time.Minute,
		MaxUndeclaredPerIP: DefaultMaxUndeclared,
		Accept: func(ctx context.Context, l link.Link) {
			ts.links <- l
			select {
			case <-l.Done():
			case <-ctx.Done():
			}
		},
	}
	if change != nil {
		change(&cfg)
	}
	s, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ts.Server = s
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ts.addr = l.Addr().String()
	ctx, cancel := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- s.Serve(ctx, l) }()
	ts.stop = sync.OnceFunc(func() {
		cancel()
		select {
		case err := <-served:
			if err != nil {
				t.Errorf("Serve: %v", err)
			}
		case <-time.After(patience):
			t.Error("Serve does not return")
		}
	})
	t.Cleanup(ts.stop)
	return ts
}

// accepted waits for the next link.
func (ts *testServer) accepted() link.Link {
	ts.t.Helper()
	select {
	case l := <-ts.links:
		return l
	case <-time.After(patience):
		ts.t.Fatal("no link was accepted")
		return nil
	}
}

// pair makes a link to the server and gives both ends.
func (ts *testServer) pair() (dialed, accepted link.Link) {
	ts.t.Helper()
	d, err := Dial(context.Background(), ts.addr, DialConfig{
		Envelope: ts.cfg.Envelope, MaxPayload: ts.cfg.MaxPayload, Queues: ts.cfg.Queues,
	})
	if err != nil {
		ts.t.Fatal(err)
	}
	ts.t.Cleanup(func() { d.Close(nil) })
	return d, ts.accepted()
}

// trusted is pair for servers that give little time to declare: where this machine needs more it begins anew.
func (ts *testServer) trusted() (dialed, accepted link.Link) {
	ts.t.Helper()
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); {
		d, err := Dial(context.Background(), ts.addr, DialConfig{Envelope: ts.cfg.Envelope})
		if err != nil {
			continue
		}
		ts.t.Cleanup(func() { d.Close(nil) })
		for d.Err() == nil {
			select {
			case a := <-ts.links: // or one of an end that was too late
				a.Trust()
				if answers(d, a) {
					return d, a
				}
			case <-d.Done():
			}
		}
	}
	ts.t.Fatal("no link was declared in time")
	return nil, nil
}

// late is both ends of a link that was made in time and is not declared.
func (ts *testServer) late() (dialed, accepted link.Link) {
	ts.t.Helper()
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); {
		d, err := Dial(context.Background(), ts.addr, DialConfig{Envelope: ts.cfg.Envelope})
		if err == nil {
			ts.t.Cleanup(func() { d.Close(nil) })
			return d, ts.accepted()
		}
	}
	ts.t.Fatal("no link was made in time")
	return nil, nil
}

// answers tells whether a message gets from a to b.
func answers(a, b link.Link) bool {
	if a.Send(wire.Message{Event: wire.EventCommand, Body: []byte("ask")}) != nil {
		return false
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	_, err := b.Receive(ctx)
	return err == nil
}

// raw is a WebSocket of which the test says every frame.
type raw struct {
	*websocket.Conn
	t *testing.T
}

func (ts *testServer) raw() *raw {
	ts.t.Helper()
	ws, _, err := websocket.DefaultDialer.Dial("ws://"+ts.addr+path+"?EIO=4&transport=websocket", nil)
	if err != nil {
		ts.t.Fatal(err)
	}
	ts.t.Cleanup(func() { _ = ws.Close() })
	r := &raw{ws, ts.t}
	if got := r.read(); !strings.HasPrefix(got, "0{") {
		ts.t.Fatalf("the server begins with %q", got)
	}
	return r
}

// joined is raw after its CONNECT.
func (ts *testServer) joined() *raw {
	ts.t.Helper()
	r := ts.raw()
	r.write("40")
	if got := r.read(); !strings.HasPrefix(got, `40{"sid":"`) {
		ts.t.Fatalf("CONNECT is answered with %q", got)
	}
	return r
}

func (r *raw) read() string {
	r.t.Helper()
	_ = r.SetReadDeadline(time.Now().Add(patience))
	_, data, err := r.ReadMessage()
	if err != nil {
		r.t.Fatalf("read: %v", err)
	}
	return string(data)
}

func (r *raw) write(text string) {
	r.t.Helper()
	if err := r.WriteMessage(websocket.TextMessage, []byte(text)); err != nil {
		r.t.Fatalf("write: %v", err)
	}
}

// closed waits for the server to end the connection.
func (r *raw) closed() {
	r.t.Helper()
	_ = r.SetReadDeadline(time.Now().Add(patience))
	for {
		if _, _, err := r.ReadMessage(); err != nil {
			if ne, ok := err.(net.Error); ok && ne.Timeout() {
				r.t.Fatal("the server keeps the connection open")
			}
			return
		}
	}
}

// alive checks that a link still carries messages both ways.
func alive(t *testing.T, a, b link.Link) {
	t.Helper()
	for range 2 {
		if err := a.Send(wire.Message{Event: wire.EventCommand, Body: []byte("ping")}); err != nil {
			t.Fatal(err)
		}
		if m := receive(t, b); string(m.Body) != "ping" {
			t.Fatalf("received %q", m.Body)
		}
		a, b = b, a
	}
}

func receive(t *testing.T, l link.Link) wire.Message {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	m, err := l.Receive(ctx)
	if err != nil {
		t.Fatalf("Receive: %v", err)
	}
	return m
}

func waitDone(t *testing.T, l link.Link) {
	t.Helper()
	select {
	case <-l.Done():
	case <-time.After(patience):
		t.Fatal("the link does not end")
	}
}

// waitFor waits until cond holds.
func waitFor(t *testing.T, what string, cond func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !cond(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain for %s", what)
		}
	}
}

func TestContract(t *testing.T) {
	linktest.Run(t, func(t *testing.T) (link.Link, link.Link) {
		return serve(t, func(c *Config) {
			c.MaxPayload = linktest.MaxBody
			c.Queues = QueueLimits{OutBytes: 1 << 20, InBytes: 1 << 19}
		}).pair()
	})
}

func TestFallback(t *testing.T) {
	ts := serve(t, func(c *Config) {
		c.Fallback = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(http.StatusTeapot) })
	})
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Get("http://" + ts.addr + "/else")
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	if resp.StatusCode != http.StatusTeapot {
		t.Errorf("status %d", resp.StatusCode)
	}
}
