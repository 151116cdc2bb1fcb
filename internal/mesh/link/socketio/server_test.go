package socketio

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"github.com/meshctl/meshctl/internal/mesh/link"
	"github.com/meshctl/meshctl/internal/mesh/seal"
	"github.com/meshctl/meshctl/internal/mesh/wire"
)

func TestNewChecksItsConfig(t *testing.T) {
	accept := func(context.Context, link.Link) {}
	for name, cfg := range map[string]Config{
		"no envelope":    {Accept: accept},
		"no accept":      {Envelope: sharedEnvelope()},
		"negative limit": {Envelope: sharedEnvelope(), Accept: accept, MaxLinks: -1},
	} {
		if _, err := New(cfg); err == nil {
			t.Errorf("%s: New succeeds", name)
		}
	}
}

func TestServeOnce(t *testing.T) {
	ts := serve(t, nil)
	ts.pair()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	if err := ts.Serve(context.Background(), l); err == nil {
		t.Error("a second Serve succeeds")
	}
	if _, err := l.Accept(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("its listener is left open: %v", err)
	}
}

func TestServeListenerFails(t *testing.T) {
	s, err := New(Config{Envelope: sharedEnvelope(), Accept: func(context.Context, link.Link) {}})
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_ = l.Close()
	if err := s.Serve(context.Background(), l); !errors.Is(err, net.ErrClosed) {
		t.Errorf("Serve gives %v", err)
	}
}

// TestShutdown stops a server with connections in every stage.
func TestShutdown(t *testing.T) {
	ts := serve(t, nil)
	d, a := ts.pair()
	if err := a.Send(wire.Message{Event: wire.EventCommand, Body: []byte("last")}); err != nil {
		t.Fatal(err)
	}
	joined, opened := ts.joined(), ts.raw()
	silent, err := net.Dial("tcp", ts.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	begun := time.Now()
	ts.stop()
	if took := time.Since(begun); took > 15*time.Second { // what this process stood still for counts too
		t.Errorf("it took %v", took)
	}
	if m := receive(t, d); string(m.Body) != "last" {
		t.Errorf("received %q", m.Body)
	}
	waitDone(t, d)
	joined.closed()
	opened.closed()
	if !errors.Is(a.Err(), errServerClosed) {
		t.Errorf("the link ended for %v", a.Err())
	}
	if st := ts.Stats(); st.Open != 0 || st.Links != 0 || st.Undeclared != 0 {
		t.Errorf("left: %+v", st)
	}
	if _, err := Dial(context.Background(), ts.addr, DialConfig{Envelope: sharedEnvelope()}); !errors.Is(err, link.ErrUnreachable) {
		t.Errorf("dialling it gives %v", err)
	}
}

// TestAcceptPanics: a panic ends its own link and nothing else.
func TestAcceptPanics(t *testing.T) {
	links := make(chan link.Link, 2)
	ts := serve(t, func(c *Config) {
		c.Accept = func(ctx context.Context, l link.Link) {
			links <- l
			m, err := l.Receive(ctx)
			if err == nil && string(m.Body) == "panic" {
				panic("as told")
			}
			<-ctx.Done()
		}
	})
	var ends []link.Link
	for range 2 {
		d, err := Dial(context.Background(), ts.addr, DialConfig{Envelope: sharedEnvelope()})
		if err != nil {
			t.Fatal(err)
		}
		defer d.Close(nil)
		ends = append(ends, d, <-links)
	}
	if err := ends[0].Send(wire.Message{Event: wire.EventCommand, Body: []byte("panic")}); err != nil {
		t.Fatal(err)
	}
	waitDone(t, ends[0])
	waitDone(t, ends[1])
	if !strings.Contains(ends[1].Err().Error(), "panicked") {
		t.Errorf("the link ended for %v", ends[1].Err())
	}
	if err := ends[2].Err(); err != nil {
		t.Errorf("the other link ended for %v", err)
	}
}

// TestAcceptReturns: the link is closed then, flushed.
func TestAcceptReturns(t *testing.T) {
	ts := serve(t, func(c *Config) {
		c.Accept = func(_ context.Context, l link.Link) {
			_ = l.Send(wire.Message{Event: wire.EventError, Body: []byte(`{"message":"no"}`)})
		}
	})
	d, err := Dial(context.Background(), ts.addr, DialConfig{Envelope: sharedEnvelope()})
	if err != nil {
		t.Fatal(err)
	}
	if m := receive(t, d); m.Event != wire.EventError {
		t.Errorf("received %s", m.Event)
	}
	waitDone(t, d)
}

// TestWrongKey: the end that was dialled tells a wrong key apart, and so the other.
func TestWrongKey(t *testing.T) {
	other, err := seal.NewEnvelope("not the key of the tests")
	if err != nil {
		t.Fatal(err)
	}
	ts := serve(t, nil)
	d, err := Dial(context.Background(), ts.addr, DialConfig{Envelope: other})
	if err != nil {
		t.Fatal(err)
	}
	a := ts.accepted()
	if err := d.Send(wire.Message{Event: wire.EventDeclare, Body: []byte("{}")}); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if _, err := a.Receive(ctx); !errors.Is(err, seal.ErrKeyMismatch) || !errors.Is(err, link.ErrClosed) {
		t.Errorf("Receive gives %v", err)
	}
	waitDone(t, d)
	if wire.CodeOf(d.Err()) != wire.CodeKeyMismatch {
		t.Errorf("the dialling end ended for %v", d.Err())
	}
	if n := ts.Stats().Unopened; n != 1 {
		t.Errorf("%d messages were counted", n)
	}
}

// TestUnopenedOfTrusted: some messages that cannot be opened are dropped, ten in a row
// end the link.
func TestUnopenedOfTrusted(t *testing.T) {
	ts := serve(t, nil)
	r := ts.joined()
	l := ts.accepted()
	l.Trust()
	good, err := sharedEnvelope().Seal([]byte("good"))
	if err != nil {
		t.Fatal(err)
	}
	bad := good[:len(good)-2] + "00"
	if bad == good {
		bad = good[:len(good)-2] + "01"
	}
	for range 2 {
		for _, sealed := range []string{"", "zz", bad, bad, bad, bad, bad, bad, bad, good} {
			r.write(`42["command","` + sealed + `"]`)
		}
		if m := receive(t, l); string(m.Body) != "good" {
			t.Fatalf("received %q", m.Body)
		}
	}
	for range maxUnopened {
		r.write(`42["command","` + bad + `"]`)
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if _, err := l.Receive(ctx); !errors.Is(err, seal.ErrKeyMismatch) {
		t.Errorf("Receive gives %v", err)
	}
	r.closed()
}

// TestDisconnectPacket: JavaScript clients dial again unless they are told not to.
func TestDisconnectPacket(t *testing.T) {
	for _, tc := range []struct {
		reason error
		want   string // the last message; "" for none
	}{
		{nil, ""},
		{errors.New("some reason"), ""},
		{&wire.Error{Code: wire.CodeOverloaded}, ""},
		{fmt.Errorf("x: %w", &wire.Error{Code: wire.CodeReplaced}), "41"},
		{&wire.Error{Code: wire.CodeDenied}, "41"},
	} {
		t.Run(fmt.Sprint(tc.reason), func(t *testing.T) {
			ts := serve(t, nil)
			r := ts.joined()
			go ts.accepted().Close(tc.reason)
			last := ""
			_ = r.SetReadDeadline(time.Now().Add(patience))
			for {
				_, data, err := r.ReadMessage()
				if err != nil {
					break
				}
				last = string(data)
			}
			if last != tc.want {
				t.Errorf("the last message is %q", last)
			}
		})
	}
}

// TestMessagesAreSignsOfLife: the answer to a heartbeat may be behind many messages.
func TestMessagesAreSignsOfLife(t *testing.T) {
	patiently(t, func(unit time.Duration) bool {
		ts := serve(t, func(c *Config) {
			c.PingInterval = 2 * unit
			c.PingTimeout = 5 * unit
		})
		r := ts.joined()
		busy := ts.accepted()
		for begun := time.Now(); time.Since(begun) < 20*unit; time.Sleep(unit / 5) {
			if err := r.WriteMessage(websocket.TextMessage, []byte(`42["unknown","00"]`)); err != nil || busy.Err() != nil {
				t.Logf("with %s the link of a peer that speaks ended for %v (%v)", 5*unit, busy.Err(), err)
				return false
			}
		}
		waitDone(t, busy)
		if !errors.Is(busy.Err(), errPeerSilent) {
			t.Errorf("once it is silent its link ends for %v", busy.Err())
		}
		return true
	})
}

// patiently tries what depends on heartbeats with a short one, and where this machine is too busy for that with
// longer ones: the peers are in this process, and those that do not get to speak are silent.
func patiently(t *testing.T, stays func(unit time.Duration) bool) {
	t.Helper()
	for _, unit := range []time.Duration{100 * time.Millisecond, 500 * time.Millisecond, 2 * time.Second} {
		if stays(unit) {
			return
		}
	}
	t.Error("links of peers that speak end, however long these may be silent")
}

// TestHeartbeat: an idle link stays, a peer that does not answer goes.
func TestHeartbeat(t *testing.T) {
	patiently(t, func(unit time.Duration) bool { return heartbeat(t, unit) })
}

// heartbeat tells whether the idle link stayed.
func heartbeat(t *testing.T, unit time.Duration) bool {
	ts := serve(t, func(c *Config) {
		c.PingInterval = 2 * unit
		c.PingTimeout = 5 * unit
	})
	d, a := ts.pair()
	r := ts.joined()
	silent := ts.accepted()
	pings := 0
	_ = r.SetReadDeadline(time.Now().Add(patience))
	for {
		_, data, err := r.ReadMessage()
		if err != nil {
			break
		}
		if string(data) == "2" {
			pings++
		}
	}
	waitDone(t, silent)
	if pings == 0 || !errors.Is(silent.Err(), errPeerSilent) {
		t.Errorf("after %d pings the silent peer's link ended for %v", pings, silent.Err())
	}
	for begun := time.Now(); time.Since(begun) < 15*unit; time.Sleep(unit) {
		if !answers(d, a) || !answers(a, d) {
			break
		}
	}
	if d.Err() != nil || a.Err() != nil {
		t.Logf("with %s the idle link ended for %v, %v", 5*unit, d.Err(), a.Err())
		return false
	}
	return true
}
