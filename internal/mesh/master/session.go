package master

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/meshctl/meshctl/internal/mesh/identity"
	"github.com/meshctl/meshctl/internal/mesh/link"
	"github.com/meshctl/meshctl/internal/mesh/registry"
	"github.com/meshctl/meshctl/internal/mesh/rpc"
	"github.com/meshctl/meshctl/internal/mesh/wire"
)

// session is one connected peer: a stranger until it has declared itself, then a
// node or an operator.
type session struct {
	m    *Master
	link link.Link

	// Guarded by m.mu.
	self wire.Peer   // Worker is "" until declared; without its token
	news []wire.Peer // nodes that it is to be told of, see Master.tell
	// claims are those of its token, nil without one; expiry ends the link with it.
	claims *identity.Claims
	expiry *time.Timer

	reporter atomic.Pointer[reporter] // of a node that was told to report

	// master is the ID of the master that this is, which asks and watches for its own
	// operators; "" for everybody else. Guarded by m.mu.
	master string

	// former says that the node declared itself again over a link under another key, and
	// closes this one when it has its answers. Guarded by m.mu.
	former  bool
	pending rpc.Pending // what the master asked the node
}

func (s *session) id() string { return s.link.Info().ID }

func (s *session) operator() bool { return s.self.Worker == wire.OperatorWorker }

// serve reads until the link ends and returns why it should.
func (s *session) serve(ctx context.Context) error {
	for {
		msg, err := s.link.Receive(ctx)
		if err != nil {
			return err
		}
		switch msg.Event {
		case wire.EventDeclare:
			err = s.declare(msg.Body)
		case wire.EventCommand:
			err = s.control(msg)
		case wire.EventDrain:
			s.m.drain(s)
		case wire.EventResponse:
			if r, err := msg.AsResponse(); err == nil {
				s.pending.Settle(r)
			}
		case wire.EventTelemetry:
			s.telemetry(msg.Body)
		case wire.EventWatch:
			s.m.watch(s, msg.Body)
		default:
			// Nothing else is a master's to answer. A JavaScript master ignores it too.
		}
		if err != nil {
			return err
		}
	}
}

var errRefused = errors.New("refused")

// declare accepts the peer, or tells it why not and ends the link.
func (s *session) declare(body []byte) error {
	d, err := wire.DecodeDeclare(body)
	if err != nil {
		return s.refuse(rpc.AsError(err))
	}
	if e := s.refuseTransport(); e != nil {
		return s.refuse(e)
	}
	peer := wire.Peer{Worker: d.Worker, Variant: d.Variant, Port: d.Port, IP: d.Hostname, Meshctl: d.Meshctl}
	if peer.Variant == "" {
		peer.Variant = s.id()
	}
	if peer.IP == "" {
		peer.IP = s.link.Info().RemoteIP
	}
	if proven := s.link.Info().PeerName; proven != "" && proven != peer.Name() {
		return s.refuse(&wire.Error{Code: wire.CodeBadRequest, Message: fmt.Sprintf("declared as %s on the link of %s", peer.Name(), proven)})
	}
	return s.m.join(s, peer)
}

func (s *session) refuse(e *wire.Error) error {
	s.m.log.Warn("refused a node", "ip", s.link.Info().RemoteIP, "code", e.Code, "reason", e.Message)
	_ = rpc.Event(s.link, wire.EventError, wire.ErrorMessage{Message: e.Message, Code: e.Code})
	return fmt.Errorf("%w: %w", errRefused, e)
}

// join takes a declared peer in and tells everybody whom it concerns.
func (m *Master) join(s *session, peer wire.Peer) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	known := m.schema.Workers[peer.Worker] != nil
	if !known && peer.Worker != wire.OperatorWorker {
		return s.refuse(&wire.Error{Code: wire.CodeDenied, Message: fmt.Sprintf("%s is not defined in the Schema", peer.Worker)})
	}
	if s.self.Worker != "" && (s.self.Worker != peer.Worker || s.self.Variant != peer.Variant) {
		m.leave(s) // the same connection is somebody else now
	}
	if e := m.refuseKey(s, peer); e != nil {
		return s.refuse(e)
	}
	if peer.Meshctl != nil && peer.Meshctl.Ticket != "" {
		if e := m.admitMaster(s, peer); e != nil {
			return s.refuse(e)
		}
	} else if e := m.admit(s, peer); e != nil {
		return s.refuse(e)
	}
	var attach int64
	if peer.Meshctl != nil {
		attach = peer.Meshctl.Attach
	}
	peer = peer.Public()
	s.self = peer
	s.link.Trust()
	m.enter(s)
	m.welcome(s)
	if s.operator() {
		return nil
	}

	node := registry.Node{Peer: peer, ClientID: s.id(), Link: s.link.Info().Transport, Since: time.Now(), Master: m.id(), Attach: attach}
	if known, ok := m.nodes.Get(peer.Worker, peer.Variant); ok && sameInstance(known.Peer, peer) {
		node.Since = known.Since // it only comes here, or back
	}
	old := m.put(node)
	if old != nil {
		m.replace(*old, node)
	}
	m.log.Info("node joined", "worker", peer.Worker, "variant", peer.Variant, "ip", peer.IP, "port", peer.Port, "kind", peer.Kind())
	m.introduce(s)
	m.meshChanged()
	if m.watching.observing {
		m.observe(s)
	}
	if old != nil && sameAddress(old.Peer, peer) {
		return nil // it only came back: nobody's picture changes
	}
	m.announce(node)
	return nil
}

// welcome answers a declare. mu is held.
func (m *Master) welcome(s *session) {
	answer := wire.Declared{Worker: s.self.Worker, Variant: s.self.Variant, ClientID: s.id(), Port: s.self.Port, IP: s.self.IP}
	if s.self.Meshctl != nil {
		answer.Meshctl = &wire.Extra{Protocol: wire.ProtocolVersion, Version: m.cfg.Version, Native: m.native(), Revision: m.revision, Schema: m.schemaJSON, Denied: m.denied, Keys: m.ring.Fingerprints(), Whole: m.whole()}
		if s.master != "" {
			answer.Meshctl.Name = m.name()
		}
	}
	m.send(s, wire.EventDeclared, answer)
}

// replace ends the older self of a node that declared itself again. mu is held.
func (m *Master) replace(old, now registry.Node) {
	if prior := m.sessions[old.ClientID]; prior != nil && old.ClientID != now.ClientID {
		m.exit(prior)
		if sameInstance(old.Peer, now.Peer) && prior.movedTo(m.sessions[now.ClientID]) {
			return
		}
		if !sameInstance(old.Peer, now.Peer) {
			m.log.Warn("a newer instance took over", "worker", now.Worker, "variant", now.Variant, "from", old.IP, "to", now.IP)
			m.send(prior, wire.EventError, wire.ErrorMessage{
				Code:    wire.CodeReplaced,
				Message: fmt.Sprintf("another instance declared itself as %s", now.Name()),
			})
		}
		prior.self = wire.Peer{}
		// Close flushes, which waits for the network: not under mu.
		go prior.link.Close(errReplaced)
	}
	if !sameAddress(old.Peer, now.Peer) {
		m.retract(old.Peer)
	}
}

// errReplaced has a code so that a JavaScript client does not connect again, only to
// replace the newer one in its turn.
var errReplaced = fmt.Errorf("%w: %w", errRefused, &wire.Error{Code: wire.CodeReplaced, Message: "replaced by a newer connection"})

// leave forgets a session and, if it was a node, tells the others. mu is held.
func (m *Master) leave(s *session) {
	if s.self.Worker == "" {
		return
	}
	m.exit(s)
	if node, ok := m.nodes.Get(s.self.Worker, s.self.Variant); ok && node.ClientID == s.id() {
		if m.shared == nil || m.shared.Remove(node) {
			m.remove(node)
		}
	}
	s.self = wire.Peer{}
}

// remove takes a node out of everybody's picture. mu is held.
func (m *Master) remove(node registry.Node) {
	if _, ok := m.nodes.Remove(node.Worker, node.Variant, node.ClientID); !ok {
		return
	}
	m.meshChanged()
	m.log.Info("node left", "worker", node.Worker, "variant", node.Variant, "ip", node.IP)
	if node.Draining {
		m.retractTo(node.Peer, javaScript) // the others know
	} else {
		m.retract(node.Peer)
	}
}

// enter counts a session among those that are told things. mu is held.
func (m *Master) enter(s *session) {
	m.sessions[s.id()] = s
	if s.operator() {
		return
	}
	of := m.byWorker[s.self.Worker]
	if of == nil {
		of = make(map[*session]struct{})
		m.byWorker[s.self.Worker] = of
	}
	of[s] = struct{}{}
}

// exit is the opposite of enter. mu is held.
func (m *Master) exit(s *session) {
	delete(m.sessions, s.id())
	delete(m.byWorker[s.self.Worker], s)
	delete(m.untold, s)
	s.news = nil
	s.reporter.Store(nil)
	m.unwatch(s)
}

// drain takes a node that is about to leave out of everybody's picture.
func (m *Master) drain(s *session) {
	m.mu.Lock()
	defer m.mu.Unlock()
	node, ok := m.nodes.Get(s.self.Worker, s.self.Variant)
	if !ok || node.ClientID != s.id() || node.Draining {
		return
	}
	node.Draining = true
	m.put(node)
	m.log.Info("node is draining", "worker", node.Worker, "variant", node.Variant)
	m.drained(node)
}

// drained tells those who may know it that a node drains. mu is held.
func (m *Master) drained(node registry.Node) {
	m.meshChanged()
	m.retractTo(node.Peer, func(s *session) bool { return !javaScript(s) })
}

// javaScript tells whether a session is a JavaScript node's. Such a one closes its link to
// a node at once when it hears that it left, with all that is under way: it is told of one
// that drains only when that has left.
func javaScript(s *session) bool { return s.self.Meshctl == nil }

// send queues an event; a peer that cannot take it is cut off, and will come back
// for the whole picture. mu is held.
func (m *Master) send(s *session, event string, v any) {
	if len(s.news) > 0 {
		m.tellNews(s)
	}
	if err := rpc.Event(s.link, event, v); err != nil {
		select {
		case <-s.link.Done():
			return // its reader is about to say that it left
		default:
		}
		m.log.Warn("cannot tell a node", "worker", s.self.Worker, "variant", s.self.Variant, "event", event, "error", err)
		go s.link.Close(fmt.Errorf("tell %s: %w", event, err))
	}
}

func sameInstance(a, b wire.Peer) bool {
	return a.Meshctl != nil && b.Meshctl != nil && a.Meshctl.Instance != "" && a.Meshctl.Instance == b.Meshctl.Instance
}

// sameAddress tells whether those who know a need not be told of b.
func sameAddress(a, b wire.Peer) bool {
	same := a.IP == b.IP && a.Port == b.Port && a.Kind() == b.Kind()
	return same && (a.Meshctl == nil || sameInstance(a, b))
}
