// Package linktest checks that an implementation of link.Link keeps the contract.
package linktest

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/meshctl/meshctl/internal/mesh/link"
	"github.com/meshctl/meshctl/internal/mesh/wire"
)

// Pair makes two ends of one link and cleans up with t. The accepted end takes as
// much as it does by default before and after Trust, and both hold messages of
// MaxBody bytes and no more.
type Pair func(t *testing.T) (dialed, accepted link.Link)

// MaxBody is the largest message that the links of a Pair carry.
const MaxBody = 64 << 10

// patience bounds every wait.
const patience = 20 * time.Second

// Run runs all checks with links of pair, each in both directions.
func Run(t *testing.T, pair Pair) {
	checks := []struct {
		name  string
		check func(t *testing.T, from, to link.Link)
	}{
		{"order", order},
		{"large message", largeMessage},
		{"large event", largeEvent},
		{"too large", tooLarge},
		{"full", full},
		{"receive context", receiveContext},
		{"close flushes", closeFlushes},
		{"close", closeEnds},
		{"concurrent", concurrent},
	}
	for _, c := range checks {
		t.Run(c.name+"/dialed to accepted", func(t *testing.T) {
			d, a := trusted(t, pair)
			c.check(t, d, a)
		})
		t.Run(c.name+"/accepted to dialed", func(t *testing.T) {
			d, a := trusted(t, pair)
			c.check(t, a, d)
		})
	}
	t.Run("reason travels", func(t *testing.T) {
		d, a := trusted(t, pair)
		reasonTravels(t, a, d)
	})
	t.Run("info", func(t *testing.T) { info(t, pair) })
}

func trusted(t *testing.T, pair Pair) (dialed, accepted link.Link) {
	dialed, accepted = pair(t)
	dialed.Trust()
	accepted.Trust()
	accepted.Trust()
	return dialed, accepted
}

func info(t *testing.T, pair Pair) {
	d1, a1 := pair(t)
	d2, a2 := pair(t)
	for _, l := range []link.Link{d1, a1, d2, a2} {
		i := l.Info()
		if i.ID == "" || i.RemoteIP != "127.0.0.1" || i.Transport == "" {
			t.Errorf("Info() = %+v", i)
		}
		if i.Dialed != (l == d1 || l == d2) {
			t.Errorf("Dialed is %v at the wrong end", i.Dialed)
		}
	}
	if a1.Info().ID == a2.Info().ID || d1.Info().ID == d2.Info().ID {
		t.Error("two links have the same ID")
	}
	if d1.Err() != nil || a1.Err() != nil {
		t.Errorf("an open link has errors %v, %v", d1.Err(), a1.Err())
	}
}

func order(t *testing.T, from, to link.Link) {
	const n = 20_000
	go func() {
		for i := range n {
			m := wire.Message{Event: wire.EventCommand, Body: fmt.Appendf(nil, "%d", i)}
			if err := sendAll(from, m); err != nil {
				t.Errorf("send %d: %v", i, err)
				return
			}
		}
	}()
	for i := range n {
		m := receive(t, to)
		if want := fmt.Sprint(i); string(m.Body) != want || m.Event != wire.EventCommand {
			t.Fatalf("message %d is %s %s", i, m.Event, m.Body)
		}
	}
}

func largeMessage(t *testing.T, from, to link.Link) {
	body := bytes.Repeat([]byte("0123456789abcdef"), MaxBody/16)
	must(t, from.Send(wire.Message{Event: wire.EventResponse, Body: bytes.Clone(body)}))
	must(t, from.Send(wire.Message{Event: wire.EventCommand}))
	large, small := receive(t, to), receive(t, to)
	if large.Event == wire.EventCommand { // the short one may overtake
		large, small = small, large
	}
	if large.Event != wire.EventResponse || !bytes.Equal(large.Body, body) {
		t.Fatalf("got %s of %d bytes", large.Event, len(large.Body))
	}
	if small.Event != wire.EventCommand || len(small.Body) != 0 {
		t.Fatalf("got %s of %d bytes beside the large message", small.Event, len(small.Body))
	}
}

// largeEvent: nothing overtakes an event, such as the declared that whoever dialled waits for.
func largeEvent(t *testing.T, from, to link.Link) {
	body := bytes.Repeat([]byte("0123456789abcdef"), MaxBody/16)
	for _, m := range []wire.Message{
		{Event: wire.EventDeclared, Body: body},
		wire.CommandMessage(wire.Command{UID: "u", Number: 1, Name: "short", Payload: json.RawMessage("{}")}),
		{Event: wire.EventDrain},
		wire.ResponseMessage(wire.Response{UID: "u", Number: 1, Name: "short", Result: json.RawMessage("{}")}),
	} {
		must(t, from.Send(m))
	}
	for _, want := range []string{wire.EventDeclared, wire.EventCommand, wire.EventDrain, wire.EventResponse} {
		if m := receive(t, to); m.Event != want {
			t.Fatalf("got %s, not %s", m.Event, want)
		}
	}
}

func tooLarge(t *testing.T, from, to link.Link) {
	err := from.Send(wire.Message{Event: wire.EventCommand, Body: make([]byte, MaxBody+1)})
	if !errors.Is(err, link.ErrTooLarge) {
		t.Fatalf("Send of too much gives %v", err)
	}
	must(t, from.Send(wire.Message{Event: wire.EventCommand, Body: []byte("1")}))
	if m := receive(t, to); string(m.Body) != "1" {
		t.Fatalf("got %d bytes", len(m.Body))
	}
}

// full: nobody receives, so Send fails in the end, and nothing accepted is lost.
func full(t *testing.T, from, to link.Link) {
	sent := 0
	for ; ; sent++ {
		if sent > 1<<20 {
			t.Fatal("a queue has no bound")
		}
		m := wire.Message{Event: wire.EventCommand, Body: fmt.Appendf(make([]byte, 0, MaxBody), "%0*d", MaxBody, sent)}
		if err := from.Send(m); err != nil {
			if !errors.Is(err, link.ErrFull) {
				t.Fatalf("Send on a full link gives %v", err)
			}
			break
		}
	}
	for i := range sent {
		m := receive(t, to)
		if got := string(bytes.TrimLeft(m.Body, "0")); got != fmt.Sprint(i) && (i != 0 || got != "") {
			t.Fatalf("message %d is %s", i, got)
		}
	}
	must(t, from.Send(wire.Message{Event: wire.EventCommand}))
}

func receiveContext(t *testing.T, from, to link.Link) {
	ctx, cancel := context.WithCancel(context.Background())
	time.AfterFunc(10*time.Millisecond, cancel)
	if _, err := to.Receive(ctx); !errors.Is(err, context.Canceled) {
		t.Fatalf("Receive gives %v", err)
	}
	must(t, from.Send(wire.Message{Event: wire.EventCommand, Body: []byte("1")}))
	if _, err := to.Receive(ctx); !errors.Is(err, context.Canceled) {
		t.Fatalf("Receive gives %v", err)
	}
	if m := receive(t, to); string(m.Body) != "1" {
		t.Fatalf("got %q after a cancelled Receive", m.Body)
	}
}

func closeFlushes(t *testing.T, from, to link.Link) {
	const n = 200
	for i := range n {
		must(t, from.Send(wire.Message{Event: wire.EventCommand, Body: fmt.Appendf(nil, "%d", i)}))
	}
	from.Close(nil)
	for i := range n {
		if m := receive(t, to); string(m.Body) != fmt.Sprint(i) {
			t.Fatalf("message %d is %q", i, m.Body)
		}
	}
	ended(t, to)
}

func closeEnds(t *testing.T, from, to link.Link) {
	reason := errors.New("enough")
	receiving := make(chan error, 1)
	go func() {
		_, err := from.Receive(context.Background())
		receiving <- err
	}()
	var wg sync.WaitGroup
	begun := time.Now()
	from.Close(reason)
	for range 4 {
		wg.Go(func() { from.Close(errors.New("another reason")) })
	}
	wg.Wait()
	if d := time.Since(begun); d > link.CloseTimeout+patience { // what this process stood still for counts too
		t.Errorf("Close took %v", d)
	}
	select {
	case <-from.Done():
	default:
		t.Fatal("Close returned before the link had ended")
	}
	for what, err := range map[string]error{
		"Err":     from.Err(),
		"Receive": <-receiving,
		"Send":    from.Send(wire.Message{Event: wire.EventCommand}),
	} {
		if !errors.Is(err, link.ErrClosed) || !errors.Is(err, reason) {
			t.Errorf("%s of a closed link gives %v", what, err)
		}
	}
	ended(t, to)
	if err := to.Send(wire.Message{Event: wire.EventCommand}); !errors.Is(err, link.ErrClosed) {
		t.Errorf("Send to a peer that has gone gives %v", err)
	}
	to.Close(reason)
	if errors.Is(to.Err(), reason) {
		t.Error("Close replaced the reason")
	}
}

func reasonTravels(t *testing.T, from, to link.Link) {
	from.Close(fmt.Errorf("no more: %w", &wire.Error{Code: wire.CodeReplaced, Message: "newer"}))
	ended(t, to)
	if wire.CodeOf(to.Err()) != wire.CodeReplaced {
		t.Errorf("the peer was told %v", to.Err())
	}
}

// concurrent races Send, Receive and Close on both ends; the race detector and the
// bounds on time are what judges.
func concurrent(t *testing.T, from, to link.Link) {
	var wg sync.WaitGroup
	for _, l := range []link.Link{from, to} {
		for range 4 {
			wg.Go(func() {
				for {
					err := l.Send(wire.Message{Event: wire.EventCommand, Body: []byte("1")})
					if errors.Is(err, link.ErrClosed) {
						return
					}
					if err != nil && !errors.Is(err, link.ErrFull) {
						t.Errorf("Send gives %v", err)
						return
					}
				}
			})
		}
		wg.Go(func() {
			for n := 0; ; n++ {
				if _, err := l.Receive(context.Background()); err != nil {
					if !errors.Is(err, link.ErrClosed) {
						t.Errorf("Receive gives %v", err)
					}
					return
				}
				if n == 100 {
					wg.Go(func() { l.Close(nil) })
				}
			}
		})
	}
	wg.Wait()
	if from.Err() == nil || to.Err() == nil {
		t.Errorf("ends: %v, %v", from.Err(), to.Err())
	}
}

// sendAll sends m, waiting for room.
func sendAll(l link.Link, m wire.Message) error {
	for {
		err := l.Send(m)
		if !errors.Is(err, link.ErrFull) {
			return err
		}
		time.Sleep(100 * time.Microsecond)
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

// ended waits for a link's end, as Receive tells it.
func ended(t *testing.T, l link.Link) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if _, err := l.Receive(ctx); !errors.Is(err, link.ErrClosed) {
		t.Fatalf("Receive gives %v instead of the end", err)
	}
	<-l.Done()
	if !errors.Is(l.Err(), link.ErrClosed) {
		t.Fatalf("Err() = %v", l.Err())
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
