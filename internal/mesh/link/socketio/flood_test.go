package socketio

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"net"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"github.com/meshctl/meshctl/internal/mesh/link"
	"github.com/meshctl/meshctl/internal/mesh/seal"
	"github.com/meshctl/meshctl/internal/mesh/wire"
)

// TestUndeclaredWave opens many connections that never declare, in every stage of
// getting there. All are closed in time and leave nothing behind.
func TestUndeclaredWave(t *testing.T) {
	const (
		wave    = 2000
		timeout = 2 * time.Second // long enough for a slow machine to have many at once
		perIP   = 200
	)
	ts := serve(t, func(c *Config) {
		c.DeclareTimeout = timeout
		c.MaxUndeclaredPerIP = perIP
	})
	d, a := ts.trusted()
	go func() {
		for range ts.links { // links that were accepted, and are of no interest
		}
	}()
	defer func() { ts.stop(); close(ts.links) }()

	runtime.GC()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	goroutines := runtime.NumGoroutine()

	dialer := websocket.Dialer{HandshakeTimeout: patience}
	var wg sync.WaitGroup
	var peak atomic.Int64
	slots := make(chan struct{}, 64)
	for i := range wave {
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			if i%4 == 0 { // not even a request
				nc, err := net.Dial("tcp", ts.addr)
				if err != nil {
					t.Error(err)
					return
				}
				wg.Go(func() { drain(nc); _ = nc.Close() })
				return
			}
			ws, _, err := dialer.Dial("ws://"+ts.addr+path+"?EIO=4&transport=websocket", nil)
			if err != nil {
				return // was the oldest of too many
			}
			if i%4 > 1 {
				_ = ws.WriteMessage(websocket.TextMessage, []byte("40"))
			}
			if i%4 > 2 {
				_ = ws.WriteMessage(websocket.TextMessage, []byte(`42["foo","00"]`))
			}
			wg.Go(func() { drain(ws.NetConn()); _ = ws.Close() })
			n := int64(ts.Stats().Undeclared)
			for old := peak.Load(); n > old && !peak.CompareAndSwap(old, n); old = peak.Load() {
			}
		})
	}
	wg.Wait() // drain ends only when the server has closed
	if p := peak.Load(); p > perIP || p < perIP/4 {
		t.Errorf("%d undeclared connections at once, %d allowed", p, perIP)
	}
	alive(t, d, a)
	waitFor(t, "the connections to be gone", func() bool {
		st := ts.Stats()
		return st.Open == 1 && st.Undeclared == 0 && st.Links == 1
	})
	waitFor(t, "the goroutines to be gone", func() bool { return runtime.NumGoroutine() <= goroutines+5 })
	waitFor(t, "the memory to be free", func() bool {
		runtime.GC()
		runtime.ReadMemStats(&after)
		return int64(after.HeapAlloc)-int64(before.HeapAlloc) < 2<<20
	})
	clients, sockets := 0, ts.io.Sockets().Sockets().Len()
	if clients = ts.io.Engine().Clients().Len(); clients != 1 || sockets != 1 {
		t.Errorf("the library keeps %d clients and %d sockets", clients, sockets)
	}
}

// TestHangUps connects and resets at once, over and over, where the library would
// forget to forget.
func TestHangUps(t *testing.T) {
	ts := serve(t, nil)
	d, a := ts.pair()
	go func() {
		for range ts.links {
		}
	}()
	defer func() { ts.stop(); close(ts.links) }()
	request := []byte("GET " + path + "?EIO=4&transport=websocket HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n" +
		"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n")
	for i := range 600 {
		nc, err := net.Dial("tcp", ts.addr)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = nc.Write(request)
		if i%3 > 0 {
			_, _ = nc.Read(make([]byte, 4096))
			_, _ = nc.Write([]byte("\x81\x82\x00\x00\x00\x0040"))
		}
		if i%3 > 1 {
			time.Sleep(time.Duration(i%7) * 20 * time.Microsecond) // a different moment each time
		}
		_ = nc.(*net.TCPConn).SetLinger(0)
		_ = nc.Close()
	}
	waitFor(t, "the connections to be gone", func() bool {
		st := ts.Stats()
		return st.Open == 1 && st.Links == 1 &&
			ts.io.Engine().Clients().Len() == 1 && ts.io.Sockets().Sockets().Len() == 1
	})
	alive(t, d, a)
}

// freshDeclare is a declare under a salt that nobody has seen, sealed with no key.
func freshDeclare(n int) string {
	b := make([]byte, n)
	_, _ = rand.Read(b)
	return `42["declare","` + hex.EncodeToString(b) + `"]`
}

// TestFreshSalts floods the server with messages of undeclared peers, each of which
// would cost a derivation, while a declared peer's round trips go on.
func TestFreshSalts(t *testing.T) {
	envelope, err := seal.NewEnvelope("another private key")
	if err != nil {
		t.Fatal(err)
	}
	if err := envelope.Warm(); err != nil {
		t.Fatal(err)
	}
	ts := serve(t, func(c *Config) {
		c.Envelope = envelope
		c.MaxDerivations = 1
		c.Accept = func(ctx context.Context, l link.Link) {
			for {
				m, err := l.Receive(ctx)
				if err != nil {
					return
				}
				l.Trust()
				_ = l.Send(m)
			}
		}
	})
	d, err := Dial(context.Background(), ts.addr, DialConfig{Envelope: envelope})
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close(nil)

	before := envelope.Derivations()
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() {
			for ctx.Err() == nil {
				ws, _, err := websocket.DefaultDialer.DialContext(ctx, "ws://"+ts.addr+path+"?EIO=4&transport=websocket", nil)
				if err != nil {
					return
				}
				stop := context.AfterFunc(ctx, func() { _ = ws.Close() })
				_ = ws.WriteMessage(websocket.TextMessage, []byte("40"))
				for range 10 {
					_ = ws.WriteMessage(websocket.TextMessage, []byte(freshDeclare(300)))
				}
				drain(ws.NetConn())
				stop()
				_ = ws.Close()
			}
		})
	}
	const span = 3 * time.Second
	trips, worst, begun := 0, time.Duration(0), time.Now()
	for ; time.Since(begun) < span || trips < 100 && time.Since(begun) < time.Minute; trips++ {
		sent := time.Now()
		if err := d.Send(wire.Message{Event: wire.EventCommand, Body: []byte("x")}); err != nil {
			t.Fatal(err)
		}
		receive(t, d)
		worst = max(worst, time.Since(sent))
	}
	spent, took := envelope.Derivations()-before, time.Since(begun)
	cancel()
	wg.Wait()
	t.Logf("%d round trips, the slowest %v, %d derivations for strangers", trips, worst, spent)
	// All strangers have one address: 10 failures at once, then 2 a second.
	if limit := uint64(failureBurst + failureRate*took.Seconds() + 3); spent == 0 || spent > limit {
		t.Errorf("%d derivations for strangers, at most %d expected", spent, limit)
	}
	if trips < 100 {
		t.Errorf("only %d round trips meanwhile", trips)
	}
}

// TestMegabyteOfZeros: an undeclared peer cannot make the server hold a big message.
func TestMegabyteOfZeros(t *testing.T) {
	ts := serve(t, func(c *Config) { c.DeclareTimeout = 4 * time.Second })
	d, a := ts.trusted()
	var peers []*raw
	for range 20 {
		r := ts.joined()
		ts.accepted()
		peers = append(peers, r)
		go func() {
			_ = r.WriteMessage(websocket.TextMessage, []byte(`42["declare","`+strings.Repeat("0", 1<<20)+`"]`))
		}()
	}
	for _, r := range peers {
		r.closed()
	}
	alive(t, d, a)
}

// TestTrickle: a frame that never ends does not keep an undeclared connection open.
func TestTrickle(t *testing.T) {
	ts := serve(t, func(c *Config) { c.DeclareTimeout = 4 * time.Second })
	r := ts.joined()
	l := ts.accepted()
	nc := r.NetConn()
	_, _ = nc.Write([]byte("\x81\xfe\x10\x00\x00\x00\x00\x0042[")) // 4096 bytes are to come
	begun := time.Now()
	for {
		if _, err := nc.Write([]byte("a")); err != nil {
			break
		}
		if time.Since(begun) > patience {
			t.Fatal("the connection stays open")
		}
		time.Sleep(10 * time.Millisecond)
	}
	waitDone(t, l)
	if !errors.Is(l.Err(), errNotDeclared) {
		t.Errorf("the link ended for %v", l.Err())
	}
}

// TestBehindDeclare: what an honest peer sends right behind its declaration waits
// until it is trusted, however much it is.
func TestBehindDeclare(t *testing.T) {
	ts := serve(t, nil)
	d, a := ts.pair()
	body := make([]byte, 100<<10)
	for range 10 {
		if err := d.Send(wire.Message{Event: wire.EventCommand, Body: body}); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	if _, err := a.Receive(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("a big message of an undeclared peer gives %v", err)
	}
	a.Trust()
	for range 10 {
		if m := receive(t, a); len(m.Body) != len(body) {
			t.Fatalf("received %d bytes", len(m.Body))
		}
	}
}

// TestPeerStopsReading fills the way to a peer that does not read.
func TestPeerStopsReading(t *testing.T) {
	const outBytes = 1 << 20
	ts := serve(t, func(c *Config) {
		c.WriteTimeout = 500 * time.Millisecond
		c.Queues.OutBytes = outBytes
	})
	d, a := ts.pair()
	r := ts.joined()
	l := ts.accepted()
	_ = r.NetConn().(*net.TCPConn).SetReadBuffer(4096)
	body := make([]byte, 64<<10)
	sent, refused := 0, false
	for begun := time.Now(); ; {
		err := l.Send(wire.Message{Event: wire.EventCommand, Body: make([]byte, len(body))})
		if errors.Is(err, link.ErrClosed) {
			break
		}
		switch {
		case err == nil:
			sent += len(body)
		case errors.Is(err, link.ErrFull):
			refused = true
			time.Sleep(time.Millisecond)
		default:
			t.Fatal(err)
		}
		if time.Since(begun) > patience {
			t.Fatal("the link stays open")
		}
	}
	if !refused {
		t.Error("Send never said that the queue is full")
	}
	if sent > 64<<20 {
		t.Errorf("%d bytes were taken for a peer that does not read", sent)
	}
	waitDone(t, l)
	alive(t, d, a)
}

// drain reads a connection to its end.
func drain(nc net.Conn) {
	buf := make([]byte, 4096)
	for {
		if _, err := nc.Read(buf); err != nil {
			return
		}
	}
}
