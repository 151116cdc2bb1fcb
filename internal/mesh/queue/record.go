package queue

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
)

// A record is an item as stores keep it: the length of its header as a uvarint, the header
// as JSON, the payload as it came.

func encodeRecord(i Item) ([]byte, error) {
	header, err := json.Marshal(i)
	if err != nil {
		return nil, fmt.Errorf("encode queued command: %w", err)
	}
	b := make([]byte, 0, binary.MaxVarintLen32+len(header)+len(i.Payload))
	b = binary.AppendUvarint(b, uint64(len(header)))
	return append(append(b, header...), i.Payload...), nil
}

// decodeRecord reads what encodeRecord wrote. Any input is safe. The payload shares b's
// memory.
func decodeRecord(b []byte) (Item, error) {
	n, used := binary.Uvarint(b)
	if used <= 0 || n > uint64(len(b)-used) {
		return Item{}, errors.New("decode queued command: it is cut off")
	}
	var i Item
	if err := json.Unmarshal(b[used:used+int(n)], &i); err != nil {
		return Item{}, fmt.Errorf("decode queued command: %w", err)
	}
	i.Payload = b[used+int(n):]
	if i.ID == "" || !json.Valid(i.Payload) {
		return Item{}, errors.New("decode queued command: it is damaged")
	}
	return i, nil
}
