package native

import (
	"encoding/binary"
	"math/rand/v2"
)

// wsHeader is the longest header of a WebSocket frame (RFC 6455, section 5.2).
const wsHeader = 14

// wsMessage puts the header of a binary message, in one frame, before what follows the first
// wsHeader bytes of b, and masks that, as an end that dialled has to. It gives what is to be
// written, which shares b's memory. The WebSocket library would copy it once more.
func wsMessage(b []byte, mask bool) []byte {
	payload := b[wsHeader:]
	var header [wsHeader]byte
	h := append(header[:0], 0x82) // the only frame of a binary message
	switch n := len(payload); {
	case n < 126:
		h = append(h, byte(n))
	case n < 1<<16:
		h = binary.BigEndian.AppendUint16(append(h, 126), uint16(n))
	default:
		h = binary.BigEndian.AppendUint64(append(h, 127), uint64(n))
	}
	if mask {
		key := rand.Uint32()
		h[1] |= 0x80
		h = binary.LittleEndian.AppendUint32(h, key)
		maskWith(key, payload)
	}
	from := wsHeader - len(h)
	copy(b[from:], h)
	return b[from:]
}

// maskWith applies a masking key, whose first byte is the lowest.
func maskWith(key uint32, b []byte) {
	key64 := uint64(key)<<32 | uint64(key)
	for len(b) >= 8 {
		binary.LittleEndian.PutUint64(b, binary.LittleEndian.Uint64(b)^key64)
		b = b[8:]
	}
	for i := range b {
		b[i] ^= byte(key64 >> (8 * i))
	}
}
