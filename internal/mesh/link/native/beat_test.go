package native

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/meshctl/meshctl/internal/mesh/link"
	"github.com/meshctl/meshctl/internal/mesh/meshtest/fault"
	"github.com/meshctl/meshctl/internal/mesh/wire"
)

// TestASignOfLifeEachBeat: an end that only listens gives a sign of life at each beat, without being
// asked. A peer whose questions are stuck behind all else that it sent has nothing else to go by.
func TestASignOfLifeEachBeat(t *testing.T) {
	const silence = 500 * time.Millisecond
	const beat = silence * 95 / 100 / 5
	addr, links := serve(t, Config{Key: testKey, Heartbeat: silence})
	p, err := fault.Listen(fault.Config{Listen: "127.0.0.1:0", To: addr})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Close)
	// connect gives a link at this end of which nothing is asked.
	connect := func() link.Link {
		d, err := Dial(t.Context(), p.Addr().String(), Config{Key: testKey, Heartbeat: time.Hour, Handshake: time.Minute})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { d.Close(nil) })
		a := <-links
		go func() {
			for {
				if _, err := a.Receive(context.Background()); err != nil {
					return
				}
			}
		}()
		return d
	}
	d := connect()

	// A time in which this machine is busy with something else proves nothing: there has to be one in which
	// ten signs of life come in the time of fifteen beats. Were every second left out, that took twenty. Nor does
	// it that the other end, which hears too little of a busy end, takes this one for dead.
	var signs []time.Time
	before := p.Stats().Down
	spoke := time.Time{}
	for deadline := time.Now().Add(2 * time.Minute); ; time.Sleep(time.Millisecond) {
		now := time.Now()
		if now.After(deadline) {
			t.Fatalf("%d signs of life, never ten within 15 beats of %s", len(signs), beat)
		}
		if now.Sub(spoke) > beat/4 {
			spoke = now
			if err := d.Send(wire.Message{Event: "x", Body: []byte(`{}`)}); errors.Is(err, link.ErrClosed) {
				d, signs, before = connect(), nil, p.Stats().Down
			} else if err != nil {
				t.Fatal(err)
			}
		}
		if down := p.Stats().Down; down != before {
			before = down
			if signs = append(signs, now); len(signs) > 10 && now.Sub(signs[len(signs)-11]) < 15*beat {
				return
			}
		}
	}
}
