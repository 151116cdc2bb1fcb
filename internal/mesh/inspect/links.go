package inspect

import (
	"maps"
	"slices"
	"strings"
	"time"
)

// topology is who is connected to whom, and who should be.
type topology struct {
	links   map[pair]*linkState
	missing map[pair]time.Time // since when
	sorted  []*linkState
	lacking []Link // missing ones, sorted
	dirty   bool   // links or nodes have changed since sorted and lacking were made
	pending bool   // somebody's grace has not passed yet
}

// pair is a link from the node that dialled, or should have.
type pair struct{ from, to string }

// linkState is one link, as one or both of its ends report it. JavaScript nodes may
// have several in one direction; they are one here.
type linkState struct {
	pair
	transport  string
	since      time.Time
	ends       int // link reports that say it is there
	fromEnds   int // those of from
	draining   int // those that say it drains
	skipped    int // those that skip the other end
	outFlight  int // sent by from, by its report
	backFlight int
	out, back  meter
}

// linkEnd is one link as one of its two nodes reports it.
type linkEnd struct {
	link *linkState
	from bool // the reporter dialled
	last LinkCount
}

// peerState counts what a node sent to another, over whichever links.
type peerState struct {
	sent, received uint64
	inFlight       int
	links          int
	skipped        bool
}

// foldLinks takes the links of a report. Where live, what its counters grew by happened
// just now.
func (m *Model) foldLinks(n *nodeState, r *Report, live bool) {
	if r.Full && !r.Partial {
		listed := make(map[string]bool, len(r.Links))
		for i := range r.Links {
			listed[r.Links[i].ID] = true
		}
		for id := range n.links {
			if !listed[id] {
				m.unlink(n, id)
			}
		}
	}
	for _, id := range r.Unlinked {
		m.unlink(n, id)
	}
	for i := range r.Links {
		m.foldLink(n, &r.Links[i], live)
	}
}

func (m *Model) foldLink(n *nodeState, c *LinkCount, live bool) {
	peer := clipName(c.Peer)
	key := pair{n.name, peer}
	if !c.Dialed {
		key = pair{peer, n.name}
	}
	e := n.links[c.ID]
	if e != nil && e.link.pair != key {
		m.unlink(n, c.ID)
		e = nil
	}
	if e == nil {
		if e = m.link(n, key, c, live); e == nil {
			return
		}
	}
	p := n.peers[peer]
	inFlight := max(c.InFlight, 0)
	if p.links == 1 || e.from {
		if e.from {
			e.link.outFlight = inFlight
		} else {
			e.link.backFlight = inFlight
		}
	}
	if b := m.nodes[peer]; b != nil && !b.reports {
		b.peerInFlight += inFlight - p.inFlight
	}
	p.inFlight = inFlight
	if c.Draining != e.last.Draining {
		e.link.draining += boolInt(c.Draining) - boolInt(e.last.Draining)
	}
	if c.Skipped != e.last.Skipped {
		e.link.skipped += boolInt(c.Skipped) - boolInt(e.last.Skipped)
		m.skipping(n, peer, c.Skipped, live)
	}
	e.last = *c
	sent, received := grow(&p.sent, c.Sent), grow(&p.received, c.Received)
	if live && sent+received > 0 {
		m.moved(n, peer, sent, received)
	}
}

// skipping says so, once for both links of two nodes.
func (m *Model) skipping(n *nodeState, peer string, skipped, live bool) {
	p := n.peers[peer]
	if p.skipped == skipped {
		return
	}
	p.skipped = skipped
	switch {
	case !live || m.introducing(n):
	case skipped:
		m.emit(Event{Level: LevelWarn, Type: "peer_skipped", Node: n.name, Peer: peer, Message: "skips it for a while: it failed several times in a row"})
	default:
		m.emit(Event{Level: LevelInfo, Type: "peer_tried", Node: n.name, Peer: peer, Message: "skips it no longer"})
	}
}

// moved counts requests that n sent to peer, and got from it.
func (m *Model) moved(n *nodeState, peer string, sent, received uint64) {
	if b := m.nodes[peer]; b != nil && !b.reports {
		b.peerIn.total += sent
		b.peerOut.total += received
	}
	if l := m.topology.links[pair{n.name, peer}]; l != nil {
		l.out.total += sent
		l.back.total += received
	}
	// What both report is counted where it was dialled.
	if l := m.topology.links[pair{peer, n.name}]; l != nil && l.fromEnds == 0 {
		l.out.total += received
		l.back.total += sent
	}
}

// link notes a link that n has newly reported; nil when there are too many.
func (m *Model) link(n *nodeState, key pair, c *LinkCount, live bool) *linkEnd {
	t := &m.topology
	l := t.links[key]
	if len(n.links) >= maxNodeLinks || l == nil && len(t.links) >= maxLinks {
		return nil
	}
	if l == nil {
		l = &linkState{pair: key, transport: c.Transport, since: time.UnixMilli(c.Since)}
		if since := l.since; since.After(m.now) || m.now.Sub(since) > 10*365*24*time.Hour {
			l.since = m.now // a clock that is wrong
		}
		t.links[key] = l
		t.dirty = true
		if live && !m.introducing(n) {
			m.emit(Event{Level: LevelInfo, Type: "link_up", Node: key.from, Peer: key.to, Message: "connected over " + c.Transport})
		}
	}
	e := &linkEnd{link: l, from: c.Dialed}
	l.ends++
	l.fromEnds += boolInt(e.from)
	n.links[c.ID] = e
	peer := key.to
	if !e.from {
		peer = key.from
	}
	if n.peers[peer] == nil {
		n.peers[peer] = &peerState{}
	}
	n.peers[peer].links++
	return e
}

// unlink notes that n no longer has a link.
func (m *Model) unlink(n *nodeState, id string) {
	e := n.links[id]
	if e == nil {
		return
	}
	delete(n.links, id)
	l := e.link
	l.ends--
	l.fromEnds -= boolInt(e.from)
	l.draining -= boolInt(e.last.Draining)
	l.skipped -= boolInt(e.last.Skipped)
	peer := l.to
	if !e.from {
		peer = l.from
	}
	if e.from {
		l.outFlight = 0
	} else {
		l.backFlight = 0
	}
	if p := n.peers[peer]; p != nil {
		if p.links--; p.links == 0 {
			if b := m.nodes[peer]; b != nil && !b.reports {
				b.peerInFlight -= p.inFlight
			}
			p.inFlight = 0
		}
	}
	if l.ends > 0 {
		return
	}
	delete(m.topology.links, l.pair)
	m.topology.dirty = true
	m.emit(Event{Level: LevelWarn, Type: "link_down", Node: l.from, Peer: l.to, Message: "the link ended"})
}

func (t *topology) tick(m *Model) {
	for _, l := range t.links {
		l.out.tick(m.ticks)
		l.back.tick(m.ticks)
	}
	// Once a second is often enough to look at every pair.
	if (t.dirty || t.pending) && m.ticks%sampleTicks == 0 {
		t.compute(m)
	}
}

// compute sorts the links and finds those that are missing.
func (t *topology) compute(m *Model) {
	t.dirty, t.pending = false, false
	t.sorted = slices.SortedFunc(maps.Values(t.links), func(a, b *linkState) int { return comparePairs(a.pair, b.pair) })
	before := t.missing
	t.missing = map[pair]time.Time{}
	byWorker := map[string][]*nodeState{}
	for _, n := range m.nodes {
		n.linked = 0
		if n.present && n.goneAt.IsZero() && !n.info.Draining {
			byWorker[n.info.Worker] = append(byWorker[n.info.Worker], n)
		}
	}
	outgoing := map[string]map[string]int{} // by node: links to present variants of a worker
	for p := range t.links {
		from, to := m.nodes[p.from], m.nodes[p.to]
		if from != nil {
			from.linked++
		}
		if to == nil {
			continue
		}
		to.linked++
		if to.present && !to.info.Draining {
			if outgoing[p.from] == nil {
				outgoing[p.from] = map[string]int{}
			}
			outgoing[p.from][to.info.Worker]++
		}
	}
	if m.schema == nil {
		return
	}
	for fromWorker, froms := range byWorker {
		for toWorker, tos := range byWorker {
			if !m.schema.MayConnect(fromWorker, toWorker) {
				continue
			}
			want := len(tos) - boolInt(fromWorker == toWorker)
			for _, from := range froms {
				if outgoing[from.name][toWorker] >= want {
					continue
				}
				for _, to := range tos {
					t.miss(m, from, to, before)
				}
			}
		}
	}
	t.lacking = t.lacking[:0]
	for p, since := range t.missing {
		t.lacking = append(t.lacking, Link{From: p.from, To: p.to, Missing: true, Since: since})
	}
	slices.SortFunc(t.lacking, func(a, b Link) int { return comparePairs(pair{a.From, a.To}, pair{b.From, b.To}) })
}

// miss notes a link that the schema asks for if nobody has it and somebody would know.
func (t *topology) miss(m *Model, from, to *nodeState, before map[pair]time.Time) {
	key := pair{from.name, to.name}
	if from == to || t.links[key] != nil || !from.reports && !to.reports {
		return
	}
	if since, ok := before[key]; ok {
		t.missing[key] = since
		return
	}
	// Nodes that do not answer for their links at the moment cannot be blamed.
	if from.reports && m.stale(from) || to.reports && m.stale(to) || len(t.missing) >= maxLinks {
		t.pending = true
		return
	}
	if m.now.Sub(from.arrived) < linkGrace || m.now.Sub(to.arrived) < linkGrace {
		t.pending = true
		return
	}
	t.missing[key] = m.now
}

func comparePairs(a, b pair) int {
	if c := strings.Compare(a.from, b.from); c != 0 {
		return c
	}
	return strings.Compare(a.to, b.to)
}

func boolInt(b bool) int {
	if b {
		return 1
	}
	return 0
}
