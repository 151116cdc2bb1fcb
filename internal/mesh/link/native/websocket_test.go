package native

import (
	"bytes"
	"testing"
	"time"

	"github.com/meshctl/meshctl/internal/mesh/link"
	"github.com/meshctl/meshctl/internal/mesh/wire"
)

// Frames of all lengths of headers, masked and not, are read by the library at the other end.
func TestFrameLengths(t *testing.T) {
	d, a := pair(t, Config{Key: testKey})
	for _, around := range []int{110, 1<<16 - 32, 1<<17 - 64, 200_000} {
		for n := around - 10; n < around+10; n++ {
			body := bytes.Repeat([]byte{byte(n)}, n)
			for _, x := range []struct{ from, to link.Link }{{d, a}, {a, d}} {
				if err := x.from.Send(wire.Message{Event: "e", Body: bytes.Clone(body)}); err != nil {
					t.Fatal(err)
				}
				if m, err := x.to.Receive(t.Context()); err != nil || !bytes.Equal(m.Body, body) {
					t.Fatalf("%d bytes arrived as %d, %v", n, len(m.Body), err)
				}
			}
		}
	}
}

// What is sent while a link is held leaves together, and not before.
func TestHold(t *testing.T) {
	d, a := pair(t, Config{Key: testKey, Heartbeat: time.Hour}) // a beat wakes the writer too
	batch := d.(link.Batcher)
	batch.Hold()
	batch.Hold()
	for range 3 {
		send(d, "x")
	}
	batch.Release()
	if len(d.(*session).wake) != 0 {
		t.Fatal("the writer was woken too early")
	}
	batch.Release()
	for want := 2; want >= 0; want-- {
		if _, err := a.Receive(t.Context()); err != nil {
			t.Fatal(err)
		}
		if n := a.(link.Batcher).Buffered(); n != want {
			t.Fatalf("%d messages are at hand, want %d", n, want)
		}
	}
}
