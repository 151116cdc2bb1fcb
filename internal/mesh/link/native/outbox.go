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
	// bulkSize is the longest chunk of a frame that has nothing else to carry.
	bulkSize = 128 << 10
	// chunkRoom is what the kind, length and flags of a chunk take, at most.
	chunkRoom = 8
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
	bulk     []bulk // long records, one after another, and whatever comes behind a long event
	firm     int    // of bulk, that nothing overtakes: events, and short records behind them
	taken    uint64 // frames so far
	messages int
	bytes    int
}

// bulk is a long record: what is left of it begins at rest. Before that is room for the
// header of a chunk, so that a chunk can be sealed where it is.
type bulk struct {
	buf   []byte
	rest  int
	firm  bool
	after uint64 // goes with this frame or a later one: it does not overtake what was there before it
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
	// Nothing overtakes an event: what a node is told, and asked, counts from its declared on. Requests
	// and responses do not wait for long ones.
	event := m.Command == nil && m.Response == nil && m.Number == 0
	if n > chunkSize || o.firm > 0 {
		buf := appendRecord(make([]byte, chunkRoom, chunkRoom+n), m)
		firm := event || n <= chunkSize
		o.bulk = append(o.bulk, bulk{buf, chunkRoom, firm, o.taken + uint64(len(o.frames)-o.head)})
		if firm {
			o.firm++
		}
		o.bytes += len(buf) - chunkRoom
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

// take gives the records of the next frame, nil when there is nothing to send. Where lent
// is set it holds them, and is to be put back into buffers.
func (o *outbox) take() (plain []byte, lent *[]byte) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.head == len(o.frames) {
		if len(o.bulk) == 0 {
			return nil, nil
		}
		return o.bulkFrame(), nil
	}
	f := &o.frames[o.head]
	lent = f.buf
	o.messages -= f.messages
	o.bytes -= len(*lent)
	*f = packed{}
	o.taken++
	if o.head++; o.head == len(o.frames) {
		o.frames, o.head = o.frames[:0], 0
	}
	if len(o.bulk) > 0 && o.bulk[0].after <= o.taken {
		part, last := o.part(chunkSize - 64)
		*lent = appendChunk(*lent, last, part)
	}
	return *lent, lent
}

// bulkFrame is a frame of one chunk, where it is in its record: what comes before it was
// sent. mu is held.
func (o *outbox) bulkFrame() []byte {
	buf, from := o.bulk[0].buf, o.bulk[0].rest
	part, last := o.part(bulkSize - 64)
	var header [chunkRoom]byte
	h := appendChunkHeader(header[:0], last, len(part))
	begin := from - len(h)
	copy(buf[begin:], h)
	end := from + len(part)
	return buf[begin:end:end] // what is appended must not reach what is not yet sent
}

// part takes the next part of the first long record. mu is held.
func (o *outbox) part(most int) (part []byte, last bool) {
	b := &o.bulk[0]
	part = b.buf[b.rest:min(len(b.buf), b.rest+most)]
	b.rest += len(part)
	o.bytes -= len(part)
	if last = b.rest == len(b.buf); last {
		o.messages--
		if b.firm {
			o.firm--
		}
		o.bulk[0] = bulk{}
		if o.bulk = o.bulk[1:]; len(o.bulk) == 0 {
			o.bulk = nil
		}
	}
	return part, last
}
