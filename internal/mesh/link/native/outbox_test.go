package native

import (
	"bytes"
	"fmt"
	"testing"

	"github.com/meshctl/meshctl/internal/mesh/wire"
)

// What is long overtakes nothing that was there when it came, however many frames that fills: its
// chunks went out with those frames, and the last one before the last of them.
func TestLongRecordsOvertakeNothing(t *testing.T) {
	long := make([]byte, chunkSize+1000)
	for name, m := range map[string]wire.Message{
		"request": wire.CommandMessage(wire.Command{UID: "u", Number: 1, Name: "long", Payload: long}),
		"event":   {Event: wire.EventSchema, Body: long},
	} {
		t.Run(name, func(t *testing.T) {
			o := outbox{maxMessages: 1 << 16, maxBytes: 32 << 20}
			const before = 300 // more than four frames
			for i := range before {
				if !o.put(wire.Message{Event: wire.EventRemoveNode, Body: fmt.Appendf(nil, "%1000d", i)}) {
					t.Fatal("the outbox is full")
				}
			}
			if !o.put(m) {
				t.Fatal("the outbox is full")
			}
			came, whole := 0, false
			for {
				frame, _ := o.take()
				if frame == nil {
					break
				}
				for len(frame) > 0 {
					kind, body, rest, err := nextRecord(frame)
					if err != nil {
						t.Fatal(err)
					}
					switch frame = rest; {
					case kind == recordEvent:
						came++
					case kind == recordChunk && body[0]&flagLast != 0:
						if whole = true; came < before {
							t.Errorf("it came behind %d of %d that were there before it", came, before)
						}
					}
				}
			}
			if came != before || !whole {
				t.Errorf("%d came, and the long one whole: %v", came, whole)
			}
		})
	}
}

// Short messages behind a long event keep their order with those that are sent when it is out.
func TestNothingOvertakesWhatIsBehindALongEvent(t *testing.T) {
	o := outbox{maxMessages: 1 << 16, maxBytes: 32 << 20}
	put := func(m wire.Message) {
		t.Helper()
		if !o.put(m) {
			t.Fatal("the outbox is full")
		}
	}
	short := func(text string) wire.Message {
		return wire.CommandMessage(wire.Command{UID: "u", Number: 1, Name: "short", Payload: fmt.Appendf(nil, "%q", text)})
	}
	put(wire.Message{Event: wire.EventSchema, Body: make([]byte, chunkSize+1)})
	put(short("first"))
	put(short("second"))
	if frame, _ := o.take(); bytes.Contains(frame, []byte("first")) || len(frame) < chunkSize {
		t.Fatalf("a frame of %d bytes came first", len(frame))
	}
	put(short("third"))
	for _, want := range []string{"first", "second", "third"} {
		if frame, _ := o.take(); !bytes.Contains(frame, []byte(want)) {
			t.Errorf("%q came, want %s", frame, want)
		}
	}
	put(short("fourth"))
	if len(o.frames) != 1 || o.firm != 0 || len(o.bulk) != 0 {
		t.Errorf("%d frames, %d firm, %d in bulk: it still is in order for an event that is out", len(o.frames), o.firm, len(o.bulk))
	}
}
