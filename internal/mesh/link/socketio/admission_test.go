package socketio

import (
	"errors"
	"net"
	"testing"
	"time"

	"github.com/gorilla/websocket"
)

// TestTotalBound: what is over the bound on undeclared connections is refused.
func TestTotalBound(t *testing.T) {
	ts := serve(t, func(c *Config) { c.MaxUndeclared = 3 })
	d, a := ts.pair()
	a.Trust()
	for range 3 {
		ts.joined()
		ts.accepted()
	}
	if ws, _, err := websocket.DefaultDialer.Dial("ws://"+ts.addr+path+"?EIO=4&transport=websocket", nil); err == nil {
		_ = ws.Close()
		t.Fatal("a fourth undeclared connection was accepted")
	}
	alive(t, d, a)
	if st := ts.Stats(); st.Refused != 1 || st.Undeclared != 3 || st.Open != 4 {
		t.Errorf("stats: %+v", st)
	}
}

// TestMaxLinks bounds the declared ones as well.
func TestMaxLinks(t *testing.T) {
	ts := serve(t, func(c *Config) { c.MaxLinks = 2 })
	for range 2 {
		_, a := ts.pair()
		a.Trust()
	}
	if ws, _, err := websocket.DefaultDialer.Dial("ws://"+ts.addr+path+"?EIO=4&transport=websocket", nil); err == nil {
		_ = ws.Close()
		t.Fatal("a third connection was accepted")
	}
}

// TestPerAddressBound: the oldest undeclared connection of an address yields.
func TestPerAddressBound(t *testing.T) {
	ts := serve(t, func(c *Config) { c.MaxUndeclaredPerIP = 2 })
	_, first := ts.pair()
	first.Trust()
	_, second := ts.pair()
	_, third := ts.pair()
	_, fourth := ts.pair()
	waitDone(t, second)
	if !errors.Is(second.Err(), errEvicted) {
		t.Errorf("the oldest ended for %v", second.Err())
	}
	for _, l := range []interface{ Err() error }{first, third, fourth} {
		if l.Err() != nil {
			t.Errorf("a link ended for %v", l.Err())
		}
	}
}

// TestDeclareTimeout: Trust is in time or the link ends.
func TestDeclareTimeout(t *testing.T) {
	ts := serve(t, func(c *Config) { c.DeclareTimeout = 200 * time.Millisecond })
	d, a := ts.trusted()
	late, b := ts.late()
	waitDone(t, b)
	waitDone(t, late)
	if !errors.Is(b.Err(), errNotDeclared) {
		t.Errorf("the link ended for %v", b.Err())
	}
	b.Trust() // too late, and harmless
	alive(t, d, a)
}

// TestWaitingDoesNotCount: the clock stands still while the server is the slow one.
func TestWaitingDoesNotCount(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	peer, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer peer.Close()
	a := newAdmission(l, &Config{MaxLinks: 9, MaxUndeclared: 9, MaxUndeclaredPerIP: 9, DeclareTimeout: time.Second})
	nc, err := a.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	c := nc.(*conn)
	at := func(d time.Duration) int { return len(a.overdue(c.accepted.Add(d))) }
	if n := at(900 * time.Millisecond); n != 0 {
		t.Error("overdue too early")
	}
	if n := at(1100 * time.Millisecond); n != 1 {
		t.Error("not overdue")
	}
	resume := c.wait()
	if n := at(time.Hour); n != 0 {
		t.Error("overdue while it waits")
	}
	time.Sleep(20 * time.Millisecond)
	resume()
	if c.waited < 20*time.Millisecond {
		t.Errorf("waited for %v", c.waited)
	}
	if n := at(time.Second + c.waited - time.Millisecond); n != 0 {
		t.Error("overdue too early after it waited")
	}
	if n := at(time.Second + c.waited + time.Millisecond); n != 1 {
		t.Error("not overdue after it waited")
	}
	c.declare()
	if n := at(time.Hour); n != 0 {
		t.Error("overdue though declared")
	}
	_ = nc.Close()
	if err := nc.Close(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("a second Close gives %v", err)
	}
	if open, undeclared := a.counts(); open != 0 || undeclared != 0 || len(a.perIP) != 0 {
		t.Errorf("left: %d, %d, %v", open, undeclared, a.perIP)
	}
}
