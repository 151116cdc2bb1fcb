package socketio

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"

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
	// maxUnopened is how many messages in a row a trusted peer may send that
	// cannot be opened.
	maxUnopened = 10
	// Transport is what link.Info.Transport says.
	Transport = "socketio"
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
	*link.Lifetime
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
}

// newSession leaves info, transport and what differs between the ends to the caller,
// who then calls start.
func newSession(envelope Envelope, log *slog.Logger, q QueueLimits) *session {
	return &session{
		Lifetime:  link.NewLifetime(),
		envelope:  envelope,
		log:       log,
		inboxMsgs: q.InMessages,
		inboxSize: q.InBytes,
		in:        newQueue[packet](q.InMessages, q.InBytes),
		out:       newQueue[wire.Message](q.OutMessages, q.OutBytes),
		pongs:     make(chan struct{}, 1),
		dropped:   new(atomic.Uint64),
	}
}

var _ link.Link = (*session)(nil)

func (s *session) Info() link.Info {
	info := s.info
	if e, ok := s.envelope.(*seal.LinkEnvelope); ok {
		info.Key = e.Key()
	}
	return info
}

// fail ends the link at once.
func (s *session) fail(reason error) {
	s.End(reason)
	s.transport.abort()
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
	if s.IsOver() {
		return fmt.Errorf("send %s: %w", m.Event, s.Why())
	}
	if !s.out.tryPush(wire.Message{Event: m.Event, Body: body}, len(body)) {
		return fmt.Errorf("send %s: %w", m.Event, link.ErrFull)
	}
	return nil
}

// write is the session's writing goroutine. It ends with the session.
func (s *session) write() {
	context.AfterFunc(s.Context(), s.transport.abort)
	for s.Context().Err() == nil {
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
		case <-s.Closing():
			// Send may have pushed just before it could see this.
			if m, ok := s.out.pop(); ok {
				if err := s.writeMessage(m); err == nil {
					continue
				}
			}
			ctx, cancel := context.WithTimeout(s.Context(), link.CloseTimeout)
			s.transport.goodbye(ctx, s.Why())
			cancel()
			s.fail(nil)
			return
		default:
		}
		select {
		case <-s.out.ready:
		case <-s.pongs:
			wake(s.pongs)
		case <-s.Closing():
		case <-s.Context().Done():
		}
	}
}

func (s *session) writeMessage(m wire.Message) error {
	sealed, err := s.envelope.Seal(m.Body)
	if err != nil {
		return fmt.Errorf("seal %s: %w", m.Event, err)
	}
	if err := s.transport.send(s.Context(), encodeEvent(m.Event, sealed)); err != nil {
		return fmt.Errorf("write %s: %w", m.Event, err)
	}
	return nil
}

// deliver puts an event that arrived into the inbox. It blocks while that is full,
// which in the end stops the peer from sending.
func (s *session) deliver(p packet) {
	if !known(p.event) || !s.in.push(p, len(p.data), s.Context().Done(), s.Closing()) {
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
		if s.IsClosing() || s.Context().Err() != nil && s.gate != nil && !s.trusted.Load() {
			return packet{}, s.Why()
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
		case <-s.Closing():
		case <-s.Context().Done():
		case <-ctx.Done():
		}
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
	defer context.AfterFunc(s.Context(), cancel)()
	return s.envelope.Open(ctx, p.data, s.gate)
}

// reject deals with a message that could not be opened.
func (s *session) reject(p packet, err error) {
	if s.Context().Err() != nil {
		return
	}
	s.dropped.Add(1)
	s.failures++
	s.unopened(s, p.event, err)
	if !s.trusted.Load() || s.failures >= maxUnopened {
		s.Close(fmt.Errorf("open %s: %w", p.event, err))
	}
}
