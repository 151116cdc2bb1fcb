package queue

import (
	"bytes"
	"encoding/json"
	"testing"
	"time"
)

func FuzzDecodeRecord(f *testing.F) {
	whole, err := encodeRecord(Item{ID: "a", Command: "note", Caller: "shop/s1", Payload: json.RawMessage(`{"n": 1}`), Enqueued: time.Unix(1, 0)})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(whole)
	f.Add(whole[:len(whole)-1])
	f.Add([]byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1})
	f.Fuzz(func(t *testing.T, b []byte) {
		item, err := decodeRecord(b)
		if err != nil {
			return
		}
		again, err := encodeRecord(item)
		if err != nil {
			return // a time that JSON cannot have
		}
		other, err := decodeRecord(again)
		if err != nil || other.ID != item.ID || !bytes.Equal(other.Payload, item.Payload) {
			t.Errorf("%+v became %+v, %v", item, other, err)
		}
	})
}
