package native

import (
	"sync"

	"github.com/meshctl/meshctl/internal/mesh/wire"
)

const (
	// frameSize is how much a frame holds, before sealing, when there is more to send.
	frameSize = 64 << 10
	// chunkSize is the longest record that goes into a frame whole. A longer one is
	// cut up so that it does not hold up shorter ones, which overtake it.
	chunkSize = 16 << 10
)

// buffers are the frames' buffers, shared by all links: an idle link has none.
var buffers = sync.Pool{New: func() any {
	b := make([]byte, 0, frameSize+chunkSize)
	return &b
}}

// outbox is what waits to be written: records in the order of Send, packed into frames
// right away, and records that have to be cut up. It is bounded.
type outbox struct {
	maxMessages, maxBytes int

	mu       sync.Mutex
	frames   []packed // from head on; the last one is being filled
	head     int
	bulk     [][]byte // long records, one after another; of the first, what is left
	messages int
	bytes    int
}

// packed is a frame's records.
type packed struct {
	buf      *[]byte
	messages int
}

// put adds a message, or reports false when the outbox is at its bound. An empty one
// takes a message of any size.
func (o *outbox) put(m wire.Message) bool {
	n := recordLen(m)
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.messages > 0 && (o.messages >= o.maxMessages || o.bytes+n > o.maxBytes) {
		return false
	}
	if n > chunkSize {
		record := appendRecord(make([]byte, 0, n), m)
		o.bulk = append(o.bulk, record)
		o.bytes += len(record)
	} else {
		f := o.last(n)
		before := len(*f.buf)
		*f.buf = appendRecord(*f.buf, m)
		f.messages++
		o.bytes += len(*f.buf) - before
	}
	o.messages++
	return true
}

// empty tells whether nothing waits.
func (o *outbox) empty() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.messages == 0
}

// last gives the frame that takes n more bytes. mu is held.
func (o *outbox) last(n int) *packed {
	if k := len(o.frames); k == o.head || len(*o.frames[k-1].buf)+n > frameSize {
		o.frames = append(o.frames, packed{buf: emptyBuffer()})
	}
	return &o.frames[len(o.frames)-1]
}

func emptyBuffer() *[]byte {
	b := buffers.Get().(*[]byte)
	*b = (*b)[:0]
	return b
}

// take gives the records of the next frame, nil when there is nothing to send. The
// caller puts the buffer back into buffers.
func (o *outbox) take() *[]byte {
	o.mu.Lock()
	defer o.mu.Unlock()
	var b *[]byte
	if o.head < len(o.frames) {
		f := &o.frames[o.head]
		b = f.buf
		o.messages -= f.messages
		o.bytes -= len(*b)
		*f = packed{}
		if o.head++; o.head == len(o.frames) {
			o.frames, o.head = o.frames[:0], 0
		}
	} else if len(o.bulk) > 0 {
		b = emptyBuffer()
	} else {
		return nil
	}
	if len(o.bulk) > 0 {
		*b = o.chunk(*b)
	}
	return b
}

// chunk adds the next chunk of the first long record. mu is held.
func (o *outbox) chunk(b []byte) []byte {
	rest := o.bulk[0]
	part := rest[:min(len(rest), chunkSize-64)]
	rest = rest[len(part):]
	o.bytes -= len(part)
	o.bulk[0] = rest
	if len(rest) == 0 {
		o.messages--
		o.bulk[0] = nil
		if o.bulk = o.bulk[1:]; len(o.bulk) == 0 {
			o.bulk = nil
		}
	}
	return appendChunk(b, len(rest) == 0, part)
}
