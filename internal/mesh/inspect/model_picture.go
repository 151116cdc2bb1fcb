package inspect

import (
	"cmp"
	"maps"
	"slices"
	"strings"
	"time"
)

// Picture tells what is known by now. It is the same one each time: see Fill.
func (m *Model) Picture(now time.Time) *Picture {
	m.Fill(&m.picture, now)
	return &m.picture
}

// Events gives the events after the first so many, as far as they are remembered, and how
// many there were ever. It costs less than a Picture.
func (m *Model) Events(after uint64) (fresh []Event, count uint64) {
	newest, count := m.journal.newest(), m.journal.count
	if after > count { // a Reset lies between
		after = 0
	}
	return newest[len(newest)-int(min(count-after, uint64(len(newest)))):], count
}

// Fill draws what is known by now into p, whose slices it uses again. What the members of
// those slices point to, such as Command.Histogram, is not changed by later calls, nor
// are Events and History: whoever draws into two pictures in turn may hand one to another
// goroutine while the other is drawn.
func (m *Model) Fill(p *Picture, now time.Time) {
	m.advance(now)
	p.At, p.Status, p.Since, p.Schema, p.Lost = m.now, m.status, m.since, m.schema, m.lost()
	p.History = m.samples[max(0, len(m.samples)-maxSamples):len(m.samples):len(m.samples)]
	p.Events, p.EventCount = m.journal.newest(), m.journal.count

	p.Requests = p.Requests[:0]
	m.sweepRequests(&p.Requests)
	p.Nodes, p.Queues = m.fillNodes(p.Nodes[:0], p.Queues[:0])
	p.Commands = m.fillCommands(p.Commands[:0])
	p.Links = p.Links[:0]
	for _, l := range m.topology.sorted {
		if l.ends == 0 {
			continue // since it was sorted
		}
		p.Links = append(p.Links, Link{
			From: l.from, To: l.to, Transport: l.transport, Draining: l.draining > 0, Skipped: l.skipped > 0, Since: l.since,
			InFlight: l.outFlight + l.backFlight, RateOut: l.out.rate, RateBack: l.back.rate,
		})
	}
	p.Links = append(p.Links, m.topology.lacking...)

	p.Totals = m.totals
	t := &p.Totals
	t.Links, t.MissingLinks = len(m.topology.links), len(m.topology.lacking)
	t.Calls, t.Errors = m.calls, m.failed
	t.InFlight = 0
	for i := range p.Commands {
		t.InFlight += p.Commands[i].InFlight
	}
	for i := range p.Nodes {
		if p.Nodes[i].Health != Gone {
			t.Nodes++
		}
	}
}

func (m *Model) fillNodes(nodes []Node, queues []Queue) ([]Node, []Queue) {
	if s := &m.sorted; s.nodesDirty {
		s.nodes = slices.SortedFunc(maps.Values(m.nodes), func(a, b *nodeState) int {
			if c := strings.Compare(a.info.Worker, b.info.Worker); c != 0 {
				return c
			}
			return strings.Compare(a.info.Variant, b.info.Variant)
		})
		s.nodesDirty = false
	}
	for _, n := range m.sorted.nodes {
		if !n.named || !n.goneAt.IsZero() && m.now.Sub(n.goneAt) > goneStays {
			continue
		}
		v := Node{
			NodeInfo: n.info, Name: n.name, Reports: n.reports, Links: n.linked, InFlight: n.inFlight,
			RateIn: n.in.rate, RateOut: n.out.rate, CallsIn: n.callsIn, CallsOut: n.callsOut, Errors: n.failed, ErrRate: n.errs.rate,
			P50: n.p50, P99: n.p99, LastSeen: n.lastReport, GoneAt: n.goneAt,
		}
		if !n.reports {
			v.RateIn, v.RateOut, v.InFlight = n.peerIn.rate, n.peerOut.rate, max(n.peerInFlight, 0)
		}
		v.Health = m.health(n, v.RateIn+v.RateOut)
		first := len(queues)
		for _, q := range n.queues {
			v.Queued += q.count.Depth
			queues = append(queues, Queue{Node: n.name, QueueCount: q.count, Oldest: q.oldest(m.now)})
		}
		slices.SortFunc(queues[first:], func(a, b Queue) int { return cmp.Compare(a.Command, b.Command) })
		nodes = append(nodes, v)
	}
	return nodes, queues
}

// oldest is the age of a queue's oldest entry: it grows until the next report.
func (q *queueState) oldest(now time.Time) time.Duration {
	if q.count.Depth == 0 {
		return 0
	}
	return fromMillis(float64(q.count.OldestMillis)) + now.Sub(q.at)
}

func (m *Model) fillCommands(dst []Command) []Command {
	if s := &m.sorted; s.commandsDirty {
		s.commands = slices.SortedFunc(maps.Values(m.commands), func(a, b *commandState) int { return strings.Compare(a.name, b.name) })
		s.commandsDirty = false
	}
	for _, c := range m.sorted.commands {
		if c.errorsShown == nil {
			c.errorsShown = maps.Clone(c.errors)
		}
		q := c.quantiles
		dst = append(dst, Command{
			Name: c.name, Calls: c.ok + c.failed, Failed: c.failed, Errors: c.errorsShown, Retries: c.retries,
			InFlight: c.underWay(), Rate: c.done.rate, ErrRate: c.errs.rate,
			P50: q[0], P90: q[1], P99: q[2], P999: q[3], Histogram: c.histogram,
			Trend:   c.trend[max(0, len(c.trend)-maxTrend):len(c.trend):len(c.trend)],
			BytesIn: c.bytesIn, BytesOut: c.bytesOut, ByNode: c.byNode(),
		})
	}
	return dst
}
