package native

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/flynn/noise"
	"github.com/gorilla/websocket"

	"github.com/meshctl/meshctl/internal/mesh/link"
	"github.com/meshctl/meshctl/internal/mesh/wire"
)

const (
	// tagLen is what sealing adds to a frame.
	tagLen = 16
	// maxFrame bounds a frame as it is received: a full one, a chunk, and the odd
	// control record.
	maxFrame = frameSize + bulkSize + 1024 + tagLen

	// A direction's key changes when so much was sealed with it, or so long after.
	rekeyFrames = 1 << 20
	rekeyBytes  = 1 << 30
	rekeyAfter  = 10 * time.Minute

	// closeDrained is what a close record says for link.ErrDrained.
	closeDrained wire.Code = "drained"

	// inboxFrames is how many frames may wait for Receive; then reading stops.
	inboxFrames = 4
)

// Reasons for which a link ends, besides those of Close.
var (
	errCut        = errors.New("the connection broke off")
	errForged     = errors.New("a frame was forged, replayed, reordered or lost")
	errPeerSilent = errors.New("the peer does not answer")
)

// session is an established link: both ends are alike.
type session struct {
	*link.Lifetime
	info  link.Info
	ws    *websocket.Conn
	log   *slog.Logger
	trust func() // lifts what the listener holds against the connection

	maxBody      int
	writeTimeout time.Duration
	life         *link.Heartbeat

	out  outbox
	wake chan struct{} // something is to be written

	in      chan []wire.Message // of one frame each; closed when no more come
	current []wire.Message      // of the receiving goroutine
	held    atomic.Int32        // by Hold: nobody is woken to write
	whole   atomic.Bool         // Release woke the writer: others need not be waited for

	pingDue, pongDue atomic.Bool
	rekeyNow         atomic.Bool // change the key after the next frame

	running sync.WaitGroup
}

var _ link.Link = (*session)(nil)

// start begins reading and writing.
func (s *session) start(c ciphers, cfg Config) {
	s.maxBody, s.writeTimeout = cfg.MaxPayload, cfg.WriteTimeout
	s.out.maxMessages, s.out.maxBytes = cfg.OutMessages, cfg.OutBytes
	s.info.Numbered = true
	s.wake = make(chan struct{}, 1)
	s.in = make(chan []wire.Message, inboxFrames)
	s.Lifetime = link.NewLifetime()
	s.ws.SetReadLimit(maxFrame)
	// Nobody but the writer writes. Peers send neither, as they have records for it.
	s.ws.SetPingHandler(func(string) error { return nil })
	s.ws.SetCloseHandler(func(int, string) error { return nil })
	context.AfterFunc(s.Context(), func() { hangUp(s.ws) })
	s.life = link.NewHeartbeat(s.Context(), cfg.Heartbeat, link.Beats{
		Ask:  func() { s.pingDue.Store(true); s.poke() },
		Say:  func() { s.pongDue.Store(true); s.poke() },
		Lost: func() { s.End(errPeerSilent) },
		Busy: func() bool { return len(s.in) == cap(s.in) },
	})
	s.running.Go(func() { s.read(c.receive) })
	s.running.Go(func() { s.write(c.send) })
}

func (s *session) Info() link.Info { return s.info }
func (s *session) Trust()          { s.trust() }

// Close also waits for the goroutines of the link.
func (s *session) Close(reason error) {
	s.Lifetime.Close(reason)
	s.running.Wait()
}

func (s *session) Send(m wire.Message) error {
	if n := bodyLen(m); n > s.maxBody {
		return fmt.Errorf("send %s: %w: %d bytes, the peer takes %d", m.Event, link.ErrTooLarge, n, s.maxBody)
	}
	if m.Event == "" || len(m.Event) > maxText {
		return fmt.Errorf("send: event name %.80q cannot be written", m.Event)
	}
	if s.IsOver() {
		return fmt.Errorf("send %s: %w", m.Event, s.Why())
	}
	if !s.out.put(m) {
		return fmt.Errorf("send %s: %w", m.Event, link.ErrFull)
	}
	if s.held.Load() == 0 {
		s.poke()
	}
	return nil
}

// Hold implements link.Batcher.
func (s *session) Hold() { s.held.Add(1) }

// Release implements link.Batcher.
func (s *session) Release() {
	if s.held.Add(-1) == 0 && !s.out.empty() {
		s.whole.Store(true)
		s.poke()
	}
}

// Buffered implements link.Batcher.
func (s *session) Buffered() int { return len(s.current) }

func bodyLen(m wire.Message) int {
	switch {
	case m.Command != nil:
		return len(m.Command.Payload)
	case m.Response != nil:
		return len(m.Response.Result)
	}
	return len(m.Body)
}

func (s *session) poke() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

func (s *session) Receive(ctx context.Context) (wire.Message, error) {
	for len(s.current) == 0 {
		if ctx.Err() != nil {
			return wire.Message{}, ctx.Err()
		}
		select {
		case <-s.Closing(): // what comes after that is void
			<-s.Context().Done()
			return wire.Message{}, s.Why()
		default:
		}
		select {
		case batch, ok := <-s.in:
			if !ok {
				<-s.Context().Done()
				return wire.Message{}, s.Why()
			}
			s.current = batch
		case <-s.Closing():
		case <-ctx.Done():
		}
	}
	m := s.current[0]
	s.current[0] = wire.Message{}
	s.current = s.current[1:]
	return m, nil
}

// write is the writing goroutine. It takes all that has gathered, up to a frame, and
// never waits for more.
func (s *session) write(c *noise.CipherState) {
	w := &writer{session: s, cipher: c, since: time.Now()}
	for {
		select {
		case <-s.wake:
			if !s.whole.Swap(false) {
				runtime.Gosched() // callers that are ready add theirs: one frame for many
			}
		case <-s.Closing():
			if w.flush() == nil {
				_ = w.goodbye(s.Why())
			}
			// The peer answers by closing; then reading ends, and with it the link.
			select {
			case <-time.After(link.CloseTimeout / 2):
			case <-s.Context().Done():
			}
			s.End(nil)
			return
		case <-s.Context().Done():
			return
		}
		if err := w.flush(); err != nil {
			s.End(fmt.Errorf("%w: %w", errCut, err))
			return
		}
	}
}

// writer seals and writes frames.
type writer struct {
	*session
	cipher *noise.CipherState
	frames int // with this key
	bytes  int
	since  time.Time
}

// flush writes until nothing waits.
func (w *writer) flush() error {
	for {
		plain, lent := w.out.take()
		var beat []byte
		if w.pingDue.Swap(false) {
			beat = appendHeader(beat, recordPing, 0)
		}
		if w.pongDue.Swap(false) {
			beat = appendHeader(beat, recordPong, 0)
		}
		if plain == nil && beat == nil {
			return nil
		}
		if beat != nil {
			if err := w.frame(beat); err != nil {
				return err
			}
		}
		if plain == nil {
			continue
		}
		err := w.frame(plain)
		w.life.Said()
		if lent != nil {
			buffers.Put(lent)
		}
		if err != nil {
			return err
		}
	}
}

// frame seals and writes one frame, and changes the key after it when that is due.
func (w *writer) frame(plain []byte) error {
	w.frames++
	w.bytes += len(plain)
	rekey := w.rekeyNow.Swap(false) || w.frames >= rekeyFrames || w.bytes >= rekeyBytes || time.Since(w.since) > rekeyAfter
	if rekey {
		plain = appendHeader(plain, recordRekey, 0)
	}
	out := buffers.Get().(*[]byte)
	defer buffers.Put(out)
	sealed, err := w.cipher.Encrypt((*out)[:wsHeader], nil, plain)
	if err != nil {
		return fmt.Errorf("seal: %w", err)
	}
	*out = sealed
	if rekey {
		w.cipher.Rekey()
		w.frames, w.bytes, w.since = 0, 0, time.Now()
	}
	conn := w.ws.NetConn()
	if err := conn.SetWriteDeadline(time.Now().Add(w.writeTimeout)); err != nil {
		return err
	}
	_, err = conn.Write(wsMessage(sealed, w.info.Dialed))
	return err
}

// goodbye is the last frame. Without one, the peer knows that the connection was cut.
func (w *writer) goodbye(reason error) error {
	code := link.CodeOf(reason)
	if errors.Is(reason, link.ErrDrained) {
		code = closeDrained
	}
	return w.frame(appendClose(nil, code, ""))
}

// read is the reading goroutine.
func (s *session) read(c *noise.CipherState) {
	defer close(s.in)
	r := &reader{session: s, cipher: c, decoder: newDecoder()}
	for {
		batch, err := r.frame()
		if len(batch) > 0 {
			select {
			case s.in <- batch:
			case <-s.Context().Done():
				return
			}
		}
		if err != nil {
			s.End(err)
			return
		}
	}
}

// reader opens frames and takes them apart.
type reader struct {
	*session
	decoder
	cipher *noise.CipherState
	long   []byte // what has come of a record in chunks
	usual  int    // messages in a frame, as in the last one
}

// frame reads one frame. What it could read before an error is given with it.
func (r *reader) frame() ([]wire.Message, error) {
	kind, from, err := r.ws.NextReader()
	if err != nil {
		return nil, errCut
	}
	if kind != websocket.BinaryMessage {
		return nil, fmt.Errorf("%w: not a frame", link.ErrProtocol)
	}
	buf := buffers.Get().(*[]byte)
	defer buffers.Put(buf)
	sealed, err := r.readAll((*buf)[:0], from)
	*buf = sealed
	if err != nil {
		return nil, errCut
	}
	if len(sealed) < tagLen {
		return nil, fmt.Errorf("%w: short frame", link.ErrProtocol)
	}
	plain, err := r.cipher.Decrypt(sealed[:0], nil, sealed)
	if err != nil {
		return nil, errForged
	}
	if kind, _, rest, err := nextRecord(plain); err != nil || kind != recordChunk || len(rest) > 0 {
		// Messages keep pointing into the plaintext; a chunk alone is copied.
		plain = append([]byte(nil), plain...)
	}
	return r.records(plain)
}

// readAll reads a frame. On a slow connection each part of it is a sign of life.
func (r *reader) readAll(b []byte, from io.Reader) ([]byte, error) {
	for {
		if len(b) == cap(b) {
			b = append(b, 0)[:len(b)]
		}
		n, err := from.Read(b[len(b):cap(b)])
		b = b[:len(b)+n]
		r.life.Heard()
		if err == io.EOF {
			return b, nil
		}
		if err != nil {
			return b, err
		}
	}
}

func (r *reader) records(frame []byte) ([]wire.Message, error) {
	batch := make([]wire.Message, 0, r.usual)
	defer func() { r.usual = min(len(batch), 64) }()
	for len(frame) > 0 {
		kind, body, rest, err := nextRecord(frame)
		if err != nil {
			return batch, err
		}
		frame = rest
		if kind == recordChunk {
			if kind, body, err = r.chunk(body); err != nil {
				return batch, err
			}
			if kind == 0 {
				continue
			}
		}
		switch kind {
		case recordPing:
			r.pongDue.Store(true)
			r.poke()
		case recordPong:
		case recordRekey:
			if len(frame) > 0 {
				return batch, fmt.Errorf("%w: a record after the change of keys", link.ErrProtocol)
			}
			r.cipher.Rekey()
		case recordClose:
			f := fields{b: body}
			if code := wire.Code(f.text()); code != closeDrained {
				return batch, link.PeerReason(code)
			}
			return batch, link.ErrPeerDrained
		case recordEvent, recordRequest, recordResponse, recordFailure, recordCancel:
			m, err := r.message(kind, body)
			switch {
			case err == nil:
				if bodyLen(m) > r.maxBody {
					return batch, fmt.Errorf("%w: message over the limit", link.ErrProtocol)
				}
				batch = append(batch, m)
			case errors.Is(err, link.ErrProtocol):
				return batch, err
			default:
				if m, ok := r.refuse(m, err); ok {
					batch = append(batch, m)
				}
			}
		default:
			// A later version's, of no concern to this one.
		}
	}
	return batch, nil
}

// refuse deals with a message that breaks the rules, such as a payload that is not
// JSON: a request that has a uid is answered, and a response becomes a failure, which
// is to be delivered.
func (r *reader) refuse(m wire.Message, err error) (wire.Message, bool) {
	var e *wire.Error
	switch {
	case !errors.As(err, &e):
	case m.Command != nil && m.Command.Number != 0:
		if r.out.put(wire.ResponseMessage(wire.Response{Number: m.Command.Number, Err: e})) {
			r.poke()
		}
		return m, false
	case m.Response != nil && m.Response.Number != 0:
		failure := &wire.Error{Code: wire.CodeHandlerError, Message: "the response breaks the rules: " + e.Message}
		return wire.ResponseMessage(wire.Response{Number: m.Response.Number, Err: failure}), true
	}
	r.log.Warn("dropped a message", "event", m.Event, "error", err)
	return m, false
}

// maxExpected bounds what is allocated for a long record before it has come.
const maxExpected = 256 << 10

// expect is how long a record seems to be that begins so.
func (r *reader) expect(begin []byte) int {
	n, used := uint64(0), 0
	if len(begin) > 1 {
		n, used = binary.Uvarint(begin[1:])
	}
	if used <= 0 {
		return len(begin)
	}
	return max(len(begin), int(min(n+uint64(1+used), maxExpected)))
}

// chunk adds a part to the long record that is under way, and gives the record when it
// is complete.
func (r *reader) chunk(body []byte) (kind byte, record []byte, err error) {
	f := fields{b: body}
	flags := f.flags()
	if f.bad || len(f.b) == 0 || len(r.long)+len(f.b) > r.maxBody+4*maxText {
		return 0, nil, fmt.Errorf("%w: malformed chunk", link.ErrProtocol)
	}
	if r.long == nil {
		r.long = make([]byte, 0, r.expect(f.b))
	}
	r.long = append(r.long, f.b...)
	if flags&flagLast == 0 {
		return 0, nil, nil
	}
	kind, record, rest, err := nextRecord(r.long)
	r.long = nil
	if err != nil || len(rest) > 0 || kind == recordChunk || kind == recordRekey {
		return 0, nil, fmt.Errorf("%w: malformed record in chunks", link.ErrProtocol)
	}
	return kind, record, nil
}
