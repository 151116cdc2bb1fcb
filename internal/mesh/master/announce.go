package master

import (
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/meshctl/meshctl/internal/mesh/identity"
	"github.com/meshctl/meshctl/internal/mesh/registry"
	"github.com/meshctl/meshctl/internal/mesh/schema"
	"github.com/meshctl/meshctl/internal/mesh/wire"
)

// Who is told of whom: PROTOCOL section 3 and 6. All of this runs with mu held, so that
// every node sees the changes in one order.

// gather is how long news of nodes that joined is gathered before it is told, so that
// many that join at once are told of together.
const gather = 10 * time.Millisecond

// introduce tells s of the present nodes that it may connect to.
func (m *Master) introduce(s *session) {
	var peers []wire.Peer
	for worker := range m.schema.Workers {
		if !m.schema.MayConnect(s.self.Worker, worker) {
			continue
		}
		for _, n := range m.nodes.OfWorker(worker) {
			self := n.Worker == s.self.Worker && n.Variant == s.self.Variant
			if !self && !n.Draining {
				peers = append(peers, n.Peer)
			}
		}
	}
	m.addNodes(s, peers)
}

func (m *Master) addNodes(s *session, peers []wire.Peer) {
	for part := range slices.Chunk(peers, m.perMessage()) {
		m.send(s, wire.EventAddNode, part)
	}
}

// maxNodeLen is what one node takes in a message, at most.
const maxNodeLen = 1024

// perMessage is how many nodes one message names. A message that is too long is not sent.
func (m *Master) perMessage() int {
	return min(max(1, m.cfg.MaxPayload/maxNodeLen), wire.PeersPerMessage)
}

// announce tells the present nodes that may connect to n of it.
func (m *Master) announce(n registry.Node) {
	m.eachThatConnectsTo(n.Peer, func(s *session) {
		s.news = append(s.news, n.Peer)
		m.untold[s] = struct{}{}
	})
	if len(m.untold) > 0 && !m.gathering {
		m.gathering = true
		time.AfterFunc(gather, m.tell)
	}
}

// tell gives everybody the news that has gathered.
func (m *Master) tell() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.gathering = false
	for s := range m.untold {
		m.tellNews(s)
	}
}

// tellNews gives one session its news, which go before anything else that it is told.
func (m *Master) tellNews(s *session) {
	news := s.news
	s.news = nil
	delete(m.untold, s)
	m.addNodes(s, news)
}

// retract tells those who knew of p that it left.
func (m *Master) retract(p wire.Peer) {
	m.retractTo(p, func(*session) bool { return true })
}

// retractTo tells only some of those who knew of p.
func (m *Master) retractTo(p wire.Peer, whom func(*session) bool) {
	m.eachThatConnectsTo(p, func(s *session) {
		if whom(s) {
			m.send(s, wire.EventRemoveNode, wire.Peer{Worker: p.Worker, Variant: p.Variant})
		}
	})
}

// eachThatConnectsTo calls tell for the sessions whose worker may connect to p's.
func (m *Master) eachThatConnectsTo(p wire.Peer, tell func(*session)) {
	for worker := range m.schema.Workers {
		if !m.schema.MayConnect(worker, p.Worker) {
			continue
		}
		for s := range m.byWorker[worker] {
			if worker != p.Worker || s.self.Variant != p.Variant {
				tell(s)
			}
		}
	}
}

// SetSchema puts another schema into force: nodes whose worker is gone are sent away,
// those who may newly connect to somebody are told of them, and those who no longer
// may are told that they left. It fails, and the old schema stays, when the new one is
// too large to be sent to nodes.
func (m *Master) SetSchema(next *schema.Schema) error {
	if next.TokensRequired && !m.gate.Checks() {
		return errNoIssuer
	}
	text, err := m.encode(next)
	if err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	old := m.schema
	for _, s := range m.sessions {
		if next.TokensRequired && s.claims == nil && s.master == "" {
			m.expel(s, identity.ErrMissing)
			continue
		}
		if !s.operator() && next.Workers[s.self.Worker] == nil {
			err := s.refuse(&wire.Error{Code: wire.CodeDenied, Message: s.self.Worker + " is not defined in the Schema"})
			m.leave(s) // by the old schema: it says who knew of the node
			go s.link.Close(err)
		}
	}
	m.schema, m.schemaJSON = next, text
	m.tellSelf()
	m.revision++
	m.meshChanged()
	update := wire.SchemaUpdate{Revision: m.revision, Schema: text}
	nodes := m.nodes.List()
	for _, s := range m.sessions {
		if s.self.Meshctl != nil {
			m.send(s, wire.EventSchema, update)
		}
		if s.operator() {
			continue
		}
		var added []wire.Peer
		for _, n := range nodes {
			if n.Worker == s.self.Worker && n.Variant == s.self.Variant || n.Draining {
				continue
			}
			was, is := old.MayConnect(s.self.Worker, n.Worker), next.MayConnect(s.self.Worker, n.Worker)
			switch {
			case is && !was:
				added = append(added, n.Peer)
			case was && !is:
				m.send(s, wire.EventRemoveNode, wire.Peer{Worker: n.Worker, Variant: n.Variant})
			}
		}
		m.addNodes(s, added)
	}
	return nil
}

// encode gives a schema as nodes are told of it.
func (m *Master) encode(s *schema.Schema) (json.RawMessage, error) {
	text, err := s.Wire()
	if err != nil {
		return nil, fmt.Errorf("encode the schema: %w", err)
	}
	if most := m.cfg.MaxPayload - schemaEnvelope - listSize(m.gate.Denied().Entries()); len(text) > most {
		return nil, fmt.Errorf("the schema has %d bytes without its handlers; with a maximal payload of %d it may have %d", len(text), m.cfg.MaxPayload, most)
	}
	return text, nil
}

// schemaEnvelope is what a message takes beside the schema that it carries.
const schemaEnvelope = 4096

// Nodes lists the nodes by worker and variant.
func (m *Master) Nodes() []wire.NodeInfo {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.infos()
}

// infos is Nodes. mu is held.
func (m *Master) infos() []wire.NodeInfo {
	nodes, now := m.nodes.List(), time.Now()
	infos := make([]wire.NodeInfo, len(nodes))
	for i, n := range nodes {
		infos[i] = n.Info(now)
		infos[i].Detached = m.detached(n)
	}
	return infos
}

func (m *Master) nodesPage(payload []byte) (json.RawMessage, error) {
	var q wire.NodesRequest
	if err := json.Unmarshal(payload, &q); err != nil {
		return nil, &wire.Error{Code: wire.CodeBadRequest, Message: "bad request for the list of nodes"}
	}
	all := m.Nodes()
	from := min(max(q.Offset, 0), len(all))
	to := min(from+m.perMessage(), len(all))
	settling := !m.whole() && time.Since(m.listens) < settlingTime
	return wire.Encode(wire.NodesPage{Nodes: all[from:to], Total: len(all), Settling: settling})
}

// settlingTime is how long nodes need, at most, to come back to a master that listens again.
const settlingTime = 3 * time.Second

// control answers the requests of meshctl peers to the master itself.
func (s *session) control(msg wire.Message) error {
	s.m.mu.Lock()
	entitled := s.self.Meshctl != nil || s.former
	s.m.mu.Unlock()
	if !entitled {
		return nil // strangers and JavaScript nodes have nothing to ask here
	}
	cmd, err := msg.AsCommand(func(name string) bool {
		return name == wire.ControlNodes || name == wire.ControlCancel || name == wire.ControlKeys || name == wire.ControlMasters
	})
	if err != nil || cmd.UID == "" {
		return nil
	}
	var result json.RawMessage
	switch cmd.Name {
	case wire.ControlNodes:
		result, err = s.m.nodesPage(cmd.Payload)
	case wire.ControlMasters:
		result, err = wire.Encode(wire.MastersPage{Masters: s.m.Masters()})
	case wire.ControlCancel:
		return s.cancel(cmd)
	case wire.ControlKeys:
		return s.orderKeys(cmd)
	default:
		err = &wire.Error{Code: wire.CodeUnknownCommand, Message: "the master does not answer " + cmd.Name}
	}
	return s.reply(cmd, result, err)
}
