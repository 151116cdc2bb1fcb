package native

import (
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
