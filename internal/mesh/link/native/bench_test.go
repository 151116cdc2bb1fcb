package native

import (
	"encoding/json"
	"fmt"
	"testing"

	"github.com/meshctl/meshctl/internal/mesh/wire"
)

func benchMessages(payload int) map[string]wire.Message {
	value := json.RawMessage(fmt.Sprintf(`{"text":"%0*d"}`, payload-len(`{"text":""}`), 7))
	const uid = "c81fc4f7-52b3-4623-9174-e40bae45a43b"
	return map[string]wire.Message{
		"request":  wire.CommandMessage(wire.Command{UID: uid, Number: 1 << 20, Name: "status", Payload: value, Meta: &wire.CommandMeta{TimeoutMS: 3000}}),
		"response": wire.ResponseMessage(wire.Response{Number: 1 << 20, Result: value}),
	}
}

func BenchmarkAppendRecord(b *testing.B) {
	for _, size := range []int{200, 4 << 10} {
		for name, m := range benchMessages(size) {
			b.Run(fmt.Sprintf("%s/%d", name, size), func(b *testing.B) {
				buf := make([]byte, 0, recordLen(m))
				b.ReportAllocs()
				b.SetBytes(int64(size))
				for b.Loop() {
					buf = appendRecord(buf[:0], m)
				}
			})
		}
	}
}

func BenchmarkMessage(b *testing.B) {
	for _, size := range []int{200, 4 << 10} {
		for name, m := range benchMessages(size) {
			b.Run(fmt.Sprintf("%s/%d", name, size), func(b *testing.B) {
				record := appendRecord(nil, m)
				d := newDecoder()
				b.ReportAllocs()
				b.SetBytes(int64(size))
				for b.Loop() {
					if err := readRecord(&d, record); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}

func readRecord(d *decoder, record []byte) error {
	kind, body, _, err := nextRecord(record)
	if err != nil {
		return err
	}
	_, err = d.message(kind, body)
	return err
}
