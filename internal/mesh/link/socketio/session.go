package socketio

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/meshctl/meshctl/internal/mesh/link"
	"github.com/meshctl/meshctl/internal/mesh/seal"
	"github.com/meshctl/meshctl/internal/mesh/wire"
)

// Envelope seals and opens messages; *seal.Envelope is one.
type Envelope interface {
	Seal(plaintext []byte) (string, error)
	Open(ctx context.Context, sealed string, gate seal.Gate) ([]byte, error)
}

const (
	// closeTimeout is how long Close may take.
	closeTimeout = time.Second
	// maxUnopened is how many messages in a row a trusted peer may send that
	// cannot be opened.
	maxUnopened = 10
	// transportName is what link.Info.Transport says.
	transportName = "socketio"
)

// Reasons for which a link ends, besides those of Close.
var (
	errNotDeclared  = errors.New("the peer did not declare itself in time")
	errEvicted      = errors.New("too many undeclared connections from this address")
	errPeerSilent   = errors.New("the peer does not answer")
	errWriteTimeout = errors.New("the peer does not read")
)

// transport is what carries a session. Only send, pong and goodbye write, and they
// are called by the session's writing goroutine alone.
type transport interface {
	// send writes one Socket.IO packet and returns when it is with the operating system.
	send(ctx context.Context, packet string) error
	// pong answers the peer's heartbeat.
	pong() error
	// goodbye tells the peer why the link ends.
	goodbye(ctx context.Context, reason error)
	// trust lifts the transport's own limits on undeclared peers.
	trust()
	// abort closes the connection at once. It is idempotent and safe for concurrent use.
	abort()
}

// session is a link: what both ends have in common.
type session struct {
	info      link.Info
	envelope  Envelope
	log       *slog.Logger
	transport transport
	gate      seal.Gate // for as long as the peer is not trusted; may be nil
	unopened  func(s *session, event string, err error)
	maxBody   int // longest plaintext that the peer takes
	inboxMsgs int // bounds of in, once trusted
	inboxSize int
	in        *queue[packet]
	out       *queue[wire.Message]
	pongs     chan struct{} // a pong is due

	trusted atomic.Bool
	dropped *atomic.Uint64 // events that were not delivered; may be shared

	// Of the receiving goroutine:
	held     *packet // was being opened when Receive's context ended
	failures int     // messages in a row that could not be opened

	ctx     context.Context // ends with the link
	cancel  context.CancelFunc
	closing chan struct{} // closed by Close
	once    sync.Once     // guards closing
	mu      sync.Mutex
	reason  error // first one given; wraps link.ErrClosed
}

// newSession leaves info, transport and what differs between the ends to the caller,
// who then calls start.
func newSession(envelope Envelope, log *slog.Logger, q QueueLimits) *session {
	s := &session{
		envelope:  envelope,
		log:       log,
		inboxMsgs: q.InMessages,
		inboxSize: q.InBytes,
		in:        newQueue[packet](q.InMessages, q.InBytes),
		out:       newQueue[wire.Message](q.OutMessages, q.OutBytes),
		pongs:     make(chan struct{}, 1),
		closing:   make(chan struct{}),
		dropped:   new(atomic.Uint64),
	}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	return s
}

var _ link.Link = (*session)(nil)

func (s *session) Info() link.Info       { return s.info }
func (s *session) Done() <-chan struct{} { return s.ctx.Done() }

func (s *session) Err() error {
	if s.ctx.Err() == nil {
		return nil
	}
	return s.closedErr()
}

func (s *session) closedErr() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.reason
}

// setReason keeps the first reason.
func (s *session) setReason(reason error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.reason != nil {
		return
	}
	switch {
	case reason == nil:
		s.reason = link.ErrClosed
	case errors.Is(reason, link.ErrClosed):
		s.reason = reason
	default:
		s.reason = fmt.Errorf("%w: %w", link.ErrClosed, reason)
	}
}

// fail ends the link at once.
func (s *session) fail(reason error) {
	s.setReason(reason)
	s.cancel()
	s.transport.abort()
}

func (s *session) Close(reason error) {
	s.once.Do(func() {
		if s.ctx.Err() != nil {
			return // what came before the end may still be received
		}
		s.setReason(reason)
		close(s.closing)
		timer := time.AfterFunc(closeTimeout, func() { s.fail(nil) })
		context.AfterFunc(s.ctx, func() { timer.Stop() })
	})
	<-s.ctx.Done()
}

func (s *session) isClosing() bool {
	select {
	case <-s.closing:
		return true
	case <-s.ctx.Done():
		return true
	default:
		return false
	}
}

func (s *session) Trust() {
	if s.trusted.Swap(true) {
		return
	}
	s.in.setBounds(s.inboxMsgs, s.inboxSize)
	s.transport.trust()
}

func (s *session) Send(m wire.Message) error {
	if m.Event == "" || len(m.Event) > maxEventName || !plain(m.Event) {
		return fmt.Errorf("send: event name %.80q cannot be written", m.Event)
	}
	body, err := m.JSON()
	if err != nil {
		return fmt.Errorf("send %s: %w", m.Event, err)
	}
	if len(body) > s.maxBody {
		return fmt.Errorf("send %s: %w: %d bytes, the peer takes %d", m.Event, link.ErrTooLarge, len(body), s.maxBody)
	}
	if s.isClosing() {
		return fmt.Errorf("send %s: %w", m.Event, s.closedErr())
	}
	if !s.out.tryPush(wire.Message{Event: m.Event, Body: body}, len(body)) {
		return fmt.Errorf("send %s: %w", m.Event, link.ErrFull)
	}
	return nil
}

// write is the session's writing goroutine. It ends with the session.
func (s *session) write() {
	for s.ctx.Err() == nil {
		select {
		case <-s.pongs: // before any data
			if err := s.transport.pong(); err != nil {
				s.fail(err)
			}
			continue
		default:
		}
		if m, ok := s.out.pop(); ok {
			if err := s.writeMessage(m); err != nil {
				s.fail(err)
			}
			continue
		}
		select {
		case <-s.closing:
			// Send may have pushed just before it could see this.
			if m, ok := s.out.pop(); ok {
				if err := s.writeMessage(m); err == nil {
					continue
				}
			}
			ctx, cancel := context.WithTimeout(s.ctx, closeTimeout)
			s.transport.goodbye(ctx, s.closedErr())
			cancel()
			s.fail(nil)
			return
		default:
		}
		select {
		case <-s.out.ready:
		case <-s.pongs:
			wake(s.pongs)
		case <-s.closing:
		case <-s.ctx.Done():
		}
	}
}

func (s *session) writeMessage(m wire.Message) error {
	sealed, err := s.envelope.Seal(m.Body)
	if err != nil {
		return fmt.Errorf("seal %s: %w", m.Event, err)
	}
	if err := s.transport.send(s.ctx, encodeEvent(m.Event, sealed)); err != nil {
		return fmt.Errorf("write %s: %w", m.Event, err)
	}
	return nil
}

// deliver puts an event that arrived into the inbox. It blocks while that is full,
// which in the end stops the peer from sending.
func (s *session) deliver(p packet) {
	if !known(p.event) || !s.in.push(p, len(p.data), s.ctx.Done(), s.closing) {
		s.dropped.Add(1)
	}
}

func (s *session) Receive(ctx context.Context) (wire.Message, error) {
	for {
		p, err := s.next(ctx)
		if err != nil {
			return wire.Message{}, err
		}
		body, err := s.open(ctx, p)
		switch {
		case err == nil:
			s.failures = 0
			return wire.Message{Event: p.event, Body: body}, nil
		case ctx.Err() != nil:
			s.held = &p
			return wire.Message{}, ctx.Err()
		}
		s.reject(p, err)
	}
}

// next takes the next packet from the inbox.
func (s *session) next(ctx context.Context) (packet, error) {
	for {
		// An undeclared peer that has gone is not worth a derivation.
		if s.closedHere() || s.ctx.Err() != nil && s.gate != nil && !s.trusted.Load() {
			return packet{}, s.closedErr()
		}
		if err := ctx.Err(); err != nil {
			return packet{}, err
		}
		if p := s.held; p != nil {
			s.held = nil
			return *p, nil
		}
		if p, ok := s.in.pop(); ok {
			return p, nil
		}
		if err := s.Err(); err != nil {
			// What came before the end is in the inbox by now.
			if p, ok := s.in.pop(); ok {
				return p, nil
			}
			return packet{}, err
		}
		select {
		case <-s.in.ready:
		case <-s.closing:
		case <-s.ctx.Done():
		case <-ctx.Done():
		}
	}
}

// closedHere tells whether this end closed the link.
func (s *session) closedHere() bool {
	select {
	case <-s.closing:
		return true
	default:
		return false
	}
}

// open opens a packet. Only for an undeclared peer does that wait for the gate, and
// then the end of the link is an end to waiting too.
func (s *session) open(ctx context.Context, p packet) ([]byte, error) {
	if s.trusted.Load() || s.gate == nil {
		return s.envelope.Open(ctx, p.data, nil)
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(s.ctx, cancel)()
	return s.envelope.Open(ctx, p.data, s.gate)
}

// reject deals with a message that could not be opened.
func (s *session) reject(p packet, err error) {
	if s.ctx.Err() != nil {
		return
	}
	s.dropped.Add(1)
	s.failures++
	s.unopened(s, p.event, err)
	if !s.trusted.Load() || s.failures >= maxUnopened {
		s.Close(fmt.Errorf("open %s: %w", p.event, err))
	}
}
