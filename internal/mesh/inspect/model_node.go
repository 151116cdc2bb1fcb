package inspect

import (
	"math"
	"slices"
	"strings"
	"time"

	"github.com/meshctl/meshctl/internal/mesh/wire"
)

// nodeState is what is known of one variant.
type nodeState struct {
	name      string
	info      wire.NodeInfo
	named     bool      // the master has named it at least once
	present   bool      // the master names it
	missing   time.Time // since when it no longer does; zero while it does
	goneAt    time.Time // it counts as gone since
	firstSeen time.Time
	arrived   time.Time // present, and not gone, since
	newcomer  bool      // arrived while we watched: its counters began then
	announced bool      // likewise, and has not reported since: its instance is no news

	instance   string
	reports    bool
	seq        uint64
	fullSeq    uint64 // of the newest Full report
	every      time.Duration
	lastReport time.Time
	introduced time.Time // it began to tell all that there is: see introducing

	counters map[counterKey]*counter
	links    map[string]*linkEnd
	peers    map[string]*peerState
	queues   map[string]*queueState
	table    []*row // in flight, as it last reported
	tableGen uint64
	inFlight int // as it last reported

	in, out, errs     meter // requests that ended, of both directions the errors
	failed            uint64
	callsIn, callsOut uint64
	answered          window
	peerIn, peerOut   meter // of nodes that do not report: what others sent it and got from it
	peerInFlight      int
	linked            int // links that it is an end of
	p50, p99          time.Duration
}

// counterKey is one of the counters of a node.
type counterKey struct {
	command string
	dir     string
	blind   bool
}

// counter is the newest of a CommandCount.
type counter struct {
	cmd      *commandState
	answers  *answerer // of those of direction In
	counted  bool      // in the totals of the mesh; see CommandCount
	last     CommandCount
	late     bool // see CommandCount.Late
	failed   uint64
	inFlight int
	gen      uint64
}

// answerer is a command at one node that answers it.
type answerer struct {
	node          string
	calls, failed uint64
	done          meter
	window        window
	p50, p99      time.Duration
}

// commandState is one command of the mesh. What it has counted stays when nodes go.
type commandState struct {
	name              string
	ok, failed        uint64
	errors            map[wire.Code]uint64
	errorsShown       map[wire.Code]uint64 // a copy for pictures; nil when it is out of date
	retries           uint64
	bytesIn, bytesOut uint64
	inFlight          int // by the counters
	listed            int // requests under way that are listed; see underWay
	done, errs        meter
	window            window
	since             Buckets       // since the start, sorted
	answerers         []*answerer   // by node
	by                []CommandNode // for pictures; nil when it is out of date
	quantiles         [4]time.Duration
	histogram         []Bin
	trend             []float32
}

// underWay is how many requests are in flight: somebody waits for them or works on them. The
// counters are of what is waited for, and the lists have, of each node, the oldest alone.
func (c *commandState) underWay() int { return max(c.inFlight, c.listed) }

type queueState struct {
	count QueueCount
	at    time.Time // reported
}

// foldNode takes what the master says of a node.
func (m *Model) foldNode(n *nodeState, info wire.NodeInfo) {
	before, was := n.info, n.present && n.goneAt.IsZero()
	n.info, n.named, n.present, n.missing = info, true, true, time.Time{}
	m.sorted.nodesDirty = true
	switch {
	case !was:
		n.goneAt, n.arrived = time.Time{}, m.now
		n.newcomer, n.announced = m.hadMesh, m.hadMesh
		if m.hadMesh {
			m.emit(Event{Level: LevelInfo, Type: "node_up", Node: n.name, Message: "joined as a " + info.Kind + " node"})
		}
	case before.Since != info.Since && info.Kind != wire.KindMeshctl && m.now.Sub(m.returned) > returnGrace:
		// Of a meshctl node its instance tells.
		m.emit(Event{Level: LevelWarn, Type: "node_replaced", Node: n.name, Message: "joined again"})
	}
	if info.Draining && !before.Draining {
		m.emit(Event{Level: LevelWarn, Type: "node_draining", Node: n.name, Message: "takes no new requests and will leave"})
	}
}

// checkMissing decides whether a node that the master no longer names is gone.
func (m *Model) checkMissing(n *nodeState) {
	if !m.returned.IsZero() && n.missing.Sub(m.returned) < returnGrace && m.now.Sub(m.returned) < returnGrace {
		return
	}
	n.present, n.goneAt = false, m.now
	m.emptyNode(n)
	m.sorted.nodesDirty, m.topology.dirty = true, true
	ev := Event{Level: LevelError, Type: "node_down", Node: n.name, Message: "was lost"}
	if n.info.Draining {
		ev.Level, ev.Message = LevelInfo, "left"
	}
	m.emit(ev)
}

// emptyNode forgets what a node does at the moment, and keeps what it has counted.
func (m *Model) emptyNode(n *nodeState) {
	for _, c := range n.counters {
		m.setInFlight(c, 0)
	}
	for id := range n.links {
		m.unlink(n, id)
	}
	m.requests.leave(n)
	clear(n.queues)
	n.inFlight = 0
}

// foldReport takes what a node says of itself.
func (m *Model) foldReport(r *Report) {
	n := m.node(clipName(r.Node))
	if n == nil || r.Node == "" {
		return
	}
	restarted := n.instance != "" && n.instance != r.Instance
	first := n.instance != r.Instance
	switch {
	case restarted:
		m.emptyNode(n)
		clear(n.counters)
		clear(n.peers)
		n.callsIn, n.callsOut, n.failed, n.fullSeq = 0, 0, 0, 0
		if n.goneAt.IsZero() && !n.announced && n.present {
			m.emit(Event{Level: LevelWarn, Type: "node_replaced", Node: n.name, Message: "another instance took its place"})
		}
	case first:
	case r.Seq <= n.seq:
		if r.Full && r.Seq > n.fullSeq && r.Seq < n.seq {
			m.foldOvertaken(n, r)
		}
		return // again, or too late
	case r.Seq > n.seq+1 && n.goneAt.IsZero():
		m.lostSeen += min(r.Seq-n.seq-1, 1<<20)
	}
	live := n.reports && !first || restarted || n.newcomer
	n.announced = false
	if restarted {
		n.newcomer = false
	}
	if !n.reports || r.Full && r.Partial {
		n.introduced = m.now
	}
	n.instance, n.seq, n.reports, n.lastReport = r.Instance, r.Seq, true, m.now
	n.every = time.Duration(min(max(r.EveryMillis, 0), 60_000)) * time.Millisecond
	n.tableGen++
	if r.Full {
		n.fullSeq = r.Seq
	}

	for i := range r.Commands {
		m.foldCount(n, &r.Commands[i], live)
	}
	if r.Full && !r.Partial {
		for key, c := range n.counters {
			if c.gen != n.tableGen {
				m.setInFlight(c, 0)
				delete(n.counters, key)
			}
		}
	}
	m.foldLinks(n, r, live)
	m.foldQueues(n, r)
	for i := range r.Finished {
		m.finished(n, &r.Finished[i])
	}
	if r.InFlight != nil || r.Full {
		m.foldTable(n, r)
	}
	m.foldLogs(n, r)
}

// foldOvertaken takes a Full report that a later one was quicker than, as those can be that
// are small. What has been told since goes before what it says, and the later ones do not
// repeat the rest.
func (m *Model) foldOvertaken(n *nodeState, r *Report) {
	n.fullSeq = r.Seq
	for i := range r.Commands {
		m.foldCount(n, &r.Commands[i], false)
	}
	for i := range r.Links {
		if n.links[r.Links[i].ID] == nil {
			m.foldLink(n, &r.Links[i], false)
		}
	}
	for _, q := range r.Queues {
		if n.queues[q.Command] == nil && len(n.queues) < maxNodeQueues {
			n.queues[q.Command] = &queueState{q, m.now}
		}
	}
	m.foldLogs(n, r)
}

// introducing tells whether a node may still be telling, in one report after the other,
// what there was before we watched: that is no news. Newcomers have no such past.
func (m *Model) introducing(n *nodeState) bool {
	return !n.newcomer && m.now.Sub(n.introduced) <= introduction
}

// foldCount takes one counter. Where live, what it grew by happened just now.
func (m *Model) foldCount(n *nodeState, c *CommandCount, live bool) {
	if c.Dir != Out && c.Dir != In {
		return
	}
	key := counterKey{c.Command, c.Dir, c.Blind}
	k := n.counters[key]
	if k == nil {
		cmd := m.command(c.Command)
		if cmd == nil || len(n.counters) >= maxNodeCommands {
			return
		}
		k = &counter{cmd: cmd, counted: c.Dir == Out || c.Blind}
		if c.Dir == In {
			k.answers = cmd.answerer(n.name)
		}
		key.command, k.last.Command, k.last.Dir, k.last.Blind = cmd.name, cmd.name, c.Dir, c.Blind
		n.counters[key] = k
		live = live && !m.introducing(n)
	}
	k.gen = n.tableGen
	last := &k.last
	ok := grow(&last.OK, c.OK)
	var failed uint64
	for code, total := range c.Errors {
		if last.Errors == nil {
			last.Errors = map[wire.Code]uint64{}
		}
		if _, known := last.Errors[code]; !known && len(last.Errors) >= maxErrorCodes {
			continue
		}
		count := last.Errors[code]
		by := grow(&count, total)
		last.Errors[code] = count
		failed += by
		if k.counted && by > 0 {
			k.cmd.errors[code] += by
			k.cmd.errorsShown = nil
		}
	}
	k.failed += failed
	grow(&last.Started, c.Started)
	retries, bytesIn, bytesOut := grow(&last.Retries, c.Retries), grow(&last.BytesIn, c.BytesIn), grow(&last.BytesOut, c.BytesOut)
	m.setInFlight(k, int(min(last.Started-min(last.Started, last.OK+k.failed), math.MaxInt32)))

	n.failed += failed
	if c.Dir == In {
		n.callsIn += ok + failed
	} else {
		n.callsOut += ok + failed
	}
	if live {
		n.errs.total += failed
		if c.Dir == In {
			n.in.total += ok + failed
			k.answers.done.total += ok + failed
		} else {
			n.out.total += ok + failed
		}
	}
	if k.answers != nil {
		k.answers.calls += ok + failed
		k.answers.failed += failed
		k.cmd.by = nil
	}
	if k.counted {
		cmd := k.cmd
		cmd.ok, cmd.failed = cmd.ok+ok, cmd.failed+failed
		cmd.retries, cmd.bytesIn, cmd.bytesOut = cmd.retries+retries, cmd.bytesIn+bytesIn, cmd.bytesOut+bytesOut
		m.calls, m.failed = m.calls+ok+failed, m.failed+failed
		if live {
			cmd.done.total += ok + failed
			cmd.errs.total += failed
		} else {
			m.seconds[0], m.seconds[1] = m.seconds[0]+ok+failed, m.seconds[1]+failed
		}
	}
	k.late = k.late || c.Late
	m.foldLatency(n, k, c.Latency, live)
}

// grow sets a total to a newer one and gives the difference; totals never shrink.
func grow(total *uint64, to uint64) uint64 {
	if to <= *total {
		return 0
	}
	by := to - *total
	*total = to
	return by
}

func (m *Model) foldLatency(n *nodeState, k *counter, buckets []Bucket, live bool) {
	for _, b := range buckets {
		if b.Index < 0 || b.Index >= BucketCount {
			continue
		}
		at, found := findBucket(k.last.Latency, b.Index)
		if !found {
			k.last.Latency = slices.Insert(k.last.Latency, at, Bucket{Index: b.Index})
		}
		by := grow(&k.last.Latency[at].Count, b.Count)
		if by == 0 {
			continue
		}
		news := live && (found || !k.late)
		if k.counted {
			at, found := findBucket(k.cmd.since, b.Index)
			if !found {
				k.cmd.since = slices.Insert(k.cmd.since, at, Bucket{Index: b.Index})
			}
			k.cmd.since[at].Count += by
		}
		if !news {
			continue
		}
		if k.counted {
			k.cmd.window.add(m.epoch, b.Index, by)
			m.mesh.add(m.epoch, b.Index, by)
			m.second.add(b.Index, by)
		}
		if k.answers != nil {
			k.answers.window.add(m.epoch, b.Index, by)
			n.answered.add(m.epoch, b.Index, by)
		}
	}
}

func findBucket(buckets []Bucket, index int) (int, bool) {
	return slices.BinarySearchFunc(buckets, index, func(b Bucket, i int) int { return b.Index - i })
}

func (m *Model) setInFlight(c *counter, n int) {
	if c.counted {
		c.cmd.inFlight += n - c.inFlight
	}
	c.inFlight = n
}

func (m *Model) foldQueues(n *nodeState, r *Report) {
	if r.Full && !r.Partial {
		clear(n.queues)
	}
	for _, q := range r.Queues {
		if n.queues[q.Command] == nil && len(n.queues) >= maxNodeQueues {
			return
		}
		n.queues[q.Command] = &queueState{q, m.now}
	}
}

func (m *Model) foldLogs(n *nodeState, r *Report) {
	for _, l := range r.Logs {
		level := LevelWarn
		if l.Level == "error" || l.Level == "ERROR" {
			level = LevelError
		}
		ev := Event{At: m.ago(l.Ago), Level: level, Type: "log", Node: n.name, Message: l.Message}
		m.emit(ev)
	}
	if more := r.LogsOf - min(r.LogsOf, uint64(len(r.Logs))); more > 0 {
		m.journal.skip("log", more)
	}
}

// ago is when something happened that a report puts so many milliseconds back.
func (m *Model) ago(millis float64) time.Time {
	if !(millis > 0) { // NaN is no time either
		return m.now
	}
	return m.now.Add(-time.Duration(min(millis, 24*3600*1000) * float64(time.Millisecond)))
}

func (m *Model) tickNode(n *nodeState) {
	if !n.missing.IsZero() && n.goneAt.IsZero() {
		m.checkMissing(n)
	}
	n.in.tick(m.ticks)
	n.out.tick(m.ticks)
	n.errs.tick(m.ticks)
	n.peerIn.tick(m.ticks)
	n.peerOut.tick(m.ticks)
	n.p50, n.p99 = m.latencies(&n.answered)
}

// latencies gives the median and the 99th percentile of a window.
func (m *Model) latencies(w *window) (p50, p99 time.Duration) {
	var q [2]time.Duration
	m.scratch.clear()
	m.scratch.addWindow(w, m.epoch)
	m.scratch.quantiles([]float64{.5, .99}, q[:])
	return q[0], q[1]
}

func (m *Model) tickCommand(c *commandState) {
	c.done.tick(m.ticks)
	c.errs.tick(m.ticks)
	if m.ticks%sampleTicks == 0 {
		c.trend = append(c.trend, float32(c.done.rate))
		if len(c.trend) >= 2*maxTrend { // pictures keep what they have
			c.trend = append(make([]float32, 0, 2*maxTrend), c.trend[len(c.trend)-maxTrend:]...)
		}
	}
	m.scratch.clear()
	m.scratch.addWindow(&c.window, m.epoch)
	if m.scratch.total == 0 {
		m.scratch.addBuckets(c.since)
	}
	m.scratch.quantiles([]float64{.5, .9, .99, .999}, c.quantiles[:])
	c.histogram = m.scratch.bins()
	for _, a := range c.answerers {
		a.done.tick(m.ticks)
		a.p50, a.p99 = m.latencies(&a.window)
	}
	c.by = nil
}

// byNode lists who answers a command. Pictures keep the list: it is never changed.
func (c *commandState) byNode() []CommandNode {
	if c.by == nil && len(c.answerers) > 0 {
		c.by = make([]CommandNode, len(c.answerers))
		for i, a := range c.answerers {
			c.by[i] = CommandNode{Node: a.node, Calls: a.calls, Failed: a.failed, Rate: a.done.rate, P50: a.p50, P99: a.p99}
		}
	}
	return c.by
}

// answerer finds or makes what counts a command at one node.
func (c *commandState) answerer(node string) *answerer {
	at, found := slices.BinarySearchFunc(c.answerers, node, func(a *answerer, name string) int { return strings.Compare(a.node, name) })
	if !found {
		c.answerers = slices.Insert(c.answerers, at, &answerer{node: node})
	}
	return c.answerers[at]
}

// stale tells whether what is known of a node is out of date.
func (m *Model) stale(n *nodeState) bool {
	if m.hadStatus && !m.status.Connected {
		return true
	}
	return n.reports && m.now.Sub(n.lastReport) > max(staleAfter, staleReports*n.every)
}

func (m *Model) health(n *nodeState, rate float64) Health {
	switch {
	case !n.goneAt.IsZero():
		return Gone
	case m.stale(n) || !n.missing.IsZero():
		return Stale
	case n.info.Draining:
		return Draining
	case n.errs.rate >= DegradedErrorRate && n.errs.rate >= DegradedErrors*rate, n.p50 >= DegradedMedian:
		return Degraded
	}
	return Healthy
}

// clipName bounds what would be kept for a node's name.
func clipName(s string) string { return s[:min(len(s), wire.MaxNameLen+1+wire.MaxVariantLen)] }
