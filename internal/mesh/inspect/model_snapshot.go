package inspect

import (
	"slices"
	"time"

	"github.com/meshctl/meshctl/internal/mesh/wire"
)

// Past is what a Model remembers beyond what the newest reports say.
type Past struct {
	// Since is when Status.Connected last changed, in milliseconds since 1970.
	Since    int64          `json:"since,omitempty"`
	Lost     uint64         `json:"lost,omitempty"`
	History  []Sample       `json:"history,omitempty"`
	Events   []Event        `json:"events,omitempty"`
	Commands []CommandCount `json:"commands,omitempty"` // that no instance still known has counted
	Second   [2]uint64      `json:"second"`             // calls and errors since the last Sample
}

// snapshotEvents is how many of the newest events a snapshot has.
const snapshotEvents = 500

// Snapshot gives updates that make an empty model know what this one does: the first is a
// Reset, the last a Past. Only rates and latencies of the last seconds begin anew, and
// nodes that have left are no longer shown.
func (m *Model) Snapshot() []Update {
	at := m.now.UnixMilli()
	mesh := &Mesh{Schema: m.schemaText, Version: m.version}
	past := &Past{
		Lost: m.lost(), History: m.samples[max(0, len(m.samples)-maxSamples):],
		Events: m.journal.events[max(0, len(m.journal.events)-snapshotEvents):],
	}
	past.Second = [2]uint64{m.calls - m.seconds[0], m.failed - m.seconds[1]}
	if !m.since.IsZero() {
		past.Since = m.since.UnixMilli()
	}
	status := m.status
	updates := []Update{{At: at, Reset: true}}
	if m.hadStatus {
		updates = append(updates, Update{At: at, Status: &status})
	}
	if m.hadMesh { // nobody is a newcomer in the first one
		updates = append(updates, Update{At: at, Mesh: mesh})
	}
	known := map[string]*CommandCount{}
	for _, n := range m.nodes {
		if n.present {
			mesh.Nodes = append(mesh.Nodes, n.info)
		}
		if n.instance == "" {
			continue
		}
		updates = append(updates, Update{At: at, Report: m.fullReport(n)})
		for _, c := range n.counters {
			if c.counted {
				if known[c.cmd.name] == nil {
					known[c.cmd.name] = &CommandCount{Errors: map[wire.Code]uint64{}}
				}
				addCount(known[c.cmd.name], &c.last)
			}
		}
	}
	for _, c := range m.commands {
		if rest := c.without(known[c.name]); rest != nil {
			past.Commands = append(past.Commands, *rest)
		}
	}
	return append(updates, Update{At: at, Past: past})
}

// fullReport is what a node would report if it told everything.
func (m *Model) fullReport(n *nodeState) *Report {
	r := &Report{Node: n.name, Instance: n.instance, Seq: n.seq, Full: true, EveryMillis: n.every.Milliseconds()}
	for _, c := range n.counters {
		count := c.last
		count.Latency = slices.Clone(count.Latency)
		r.Commands = append(r.Commands, count)
	}
	for _, e := range n.links {
		r.Links = append(r.Links, e.last)
	}
	for _, q := range n.queues {
		count := q.count
		count.OldestMillis = q.oldest(m.now).Milliseconds()
		r.Queues = append(r.Queues, count)
	}
	r.InFlight = &InFlight{Total: n.inFlight}
	for _, w := range n.table {
		for _, dir := range []string{Out, In} {
			e := w.end(dir)
			if e.node != n || e.gen != n.tableGen && !w.live.Ended.IsZero() {
				continue
			}
			q := w.live.Request
			q.Dir, q.Phase, q.Code, q.Error = dir, e.phase, "", ""
			q.AgeMillis = float64(m.now.Sub(w.started)) / float64(time.Millisecond)
			r.InFlight.Requests = append(r.InFlight.Requests, q)
		}
	}
	return r
}

func addCount(sum, c *CommandCount) {
	sum.OK += c.OK
	sum.Retries += c.Retries
	sum.BytesIn += c.BytesIn
	sum.BytesOut += c.BytesOut
	for code, n := range c.Errors {
		sum.Errors[code] += n
	}
	for _, b := range c.Latency {
		at, found := findBucket(sum.Latency, b.Index)
		if !found {
			sum.Latency = slices.Insert(sum.Latency, at, Bucket{Index: b.Index})
		}
		sum.Latency[at].Count += b.Count
	}
}

// without gives what a command has counted beyond known; nil when that is all.
func (c *commandState) without(known *CommandCount) *CommandCount {
	if known == nil {
		known = &CommandCount{}
	}
	rest := &CommandCount{
		Command: c.name, Dir: Out, OK: c.ok - min(c.ok, known.OK), Retries: c.retries - min(c.retries, known.Retries),
		BytesIn: c.bytesIn - min(c.bytesIn, known.BytesIn), BytesOut: c.bytesOut - min(c.bytesOut, known.BytesOut),
		Errors: map[wire.Code]uint64{},
	}
	some := rest.OK > 0
	for code, n := range c.errors {
		if n > known.Errors[code] {
			rest.Errors[code] = n - known.Errors[code]
			some = true
		}
	}
	for _, b := range c.since {
		if at, found := findBucket(known.Latency, b.Index); found {
			b.Count -= min(b.Count, known.Latency[at].Count)
		}
		if b.Count > 0 {
			rest.Latency = append(rest.Latency, b)
		}
	}
	if !some {
		return nil
	}
	rest.Started = rest.OK
	for _, n := range rest.Errors {
		rest.Started += n
	}
	return rest
}

// foldPast takes the end of a snapshot.
func (m *Model) foldPast(p *Past) {
	if p.Since != 0 {
		m.since = time.UnixMilli(p.Since)
	}
	m.lostTold, m.lostSaid = max(m.lostTold, p.Lost), p.Lost
	m.samples = slices.Clone(p.History[max(0, len(p.History)-maxSamples):])
	events := p.Events[max(0, len(p.Events)-maxEvents):]
	m.journal = journal{events: slices.Clone(events), count: uint64(len(events))}
	for i := range p.Commands {
		c := &p.Commands[i]
		cmd := m.command(c.Command)
		if cmd == nil {
			continue
		}
		var failed uint64
		for code, n := range c.Errors {
			if len(cmd.errors) < maxErrorCodes {
				cmd.errors[code] += n
				failed += n
			}
		}
		cmd.errorsShown = nil
		cmd.ok, cmd.failed, cmd.retries = cmd.ok+c.OK, cmd.failed+failed, cmd.retries+c.Retries
		cmd.bytesIn, cmd.bytesOut = cmd.bytesIn+c.BytesIn, cmd.bytesOut+c.BytesOut
		m.calls, m.failed = m.calls+c.OK+failed, m.failed+failed
		for _, b := range c.Latency {
			at, found := findBucket(cmd.since, b.Index)
			if !found {
				cmd.since = slices.Insert(cmd.since, at, Bucket{Index: b.Index})
			}
			cmd.since[at].Count += b.Count
		}
	}
	m.seconds = [2]uint64{m.calls - min(m.calls, p.Second[0]), m.failed - min(m.failed, p.Second[1])}
}
