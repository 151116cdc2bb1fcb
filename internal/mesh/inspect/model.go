package inspect

import (
	"cmp"
	"crypto/sha256"
	"time"

	"github.com/meshctl/meshctl/internal/mesh/schema"
	"github.com/meshctl/meshctl/internal/mesh/wire"
)

// Bounds of a model, whatever it is told.
const (
	maxNodes        = 10_000
	maxCommands     = 5_000  // of the mesh
	maxNodeCommands = 1_000  // counters of one node
	maxLinks        = 50_000 // of the mesh, and as many missing ones
	maxNodeLinks    = 2_000  // of one node
	maxNodeQueues   = 1_000
	maxNodeLive     = 200 // requests in flight of one node
	maxLive         = 100_000
	maxErrorCodes   = 32 // of one counter
)

// Times of a model.
const (
	// endedStays is how long a request that has ended is shown.
	endedStays = time.Second
	// goneStays is how long a node that left is shown.
	goneStays = 30 * time.Second
	// goneKept is how long its counters are remembered, so that they are not counted
	// twice when it comes back.
	goneKept = 10 * time.Minute
	// returnGrace is how long nodes have to come back to a master that was lost.
	returnGrace = 5 * time.Second
	// linkGrace is how long newcomers have to make their links.
	linkGrace = 3 * time.Second
	// introduction is how long a node may take to tell all that there is.
	introduction = 3 * time.Second
	// staleAfter is the least time without a report after which a node is stale; with
	// a longer interval it is staleReports of those.
	staleAfter   = 5 * time.Second // two reports of an idle node, and some more
	staleReports = 3
	// gapReset is how far the clock may be set back before a model begins its time anew.
	gapReset = 10 * time.Second
)

// A node or a command is Degraded when, over the time that rates are of, at least
// DegradedErrors of its requests fail, and no fewer than DegradedErrorRate a second; a
// node also when the median of what it answered in the last ten seconds is at least
// DegradedMedian, which is how long a caller waits unless told otherwise.
const (
	DegradedErrors    = 0.05
	DegradedErrorRate = 0.5
	DegradedMedian    = 3 * time.Second
)

// Model folds Updates into Pictures. It believes nothing of what reports say but
// counts, and is bounded in all that it remembers. It is for one goroutine.
type Model struct {
	now   time.Time // of the newest update or picture
	next  time.Time // when the next tick is
	ticks uint64
	epoch uint32 // which slot of the windows is being filled; from windowSlots up

	status     Status
	since      time.Time // status.Connected changed
	hadStatus  bool
	hadMesh    bool
	returned   time.Time // the master came back; zero when it was never lost
	schema     *schema.Schema
	schemaText []byte
	schemaHash [sha256.Size]byte
	version    string

	lostTold uint64 // by Update.Lost
	lostSeen uint64 // gaps in Report.Seq
	lostSaid uint64 // in events
	lostAt   time.Time

	nodes    map[string]*nodeState
	commands map[string]*commandState
	sorted   struct { // rebuilt when their flag is set
		nodes         []*nodeState
		commands      []*commandState
		nodesDirty    bool
		commandsDirty bool
	}

	calls, failed uint64
	mesh          window
	second        spread // of the current second
	seconds       [2]uint64
	samples       []Sample
	totals        Totals // those that ticks compute

	requests requestTable
	topology topology
	journal  journal

	scratch spread
	picture Picture
}

// NewModel gives a model that knows nothing.
func NewModel() *Model {
	m := &Model{}
	m.reset()
	return m
}

// reset forgets everything but the time.
func (m *Model) reset() {
	*m = Model{
		now: m.now, next: m.next, epoch: windowSlots, picture: m.picture,
		nodes: map[string]*nodeState{}, commands: map[string]*commandState{},
		requests: requestTable{rows: map[rowKey]*row{}},
		topology: topology{links: map[pair]*linkState{}, missing: map[pair]time.Time{}},
	}
}

// Apply takes an update. The model owns what it points to from then on.
func (m *Model) Apply(u Update) {
	if u.Reset {
		m.now, m.next = time.Time{}, time.Time{}
		m.reset()
	}
	m.advance(time.UnixMilli(u.At))
	switch {
	case u.Status != nil:
		m.foldStatus(*u.Status)
	case u.Mesh != nil:
		m.foldMesh(u.Mesh)
	case u.Report != nil:
		m.foldReport(u.Report)
	case u.Past != nil:
		m.foldPast(u.Past)
	}
	m.lostTold += u.Lost
}

// advance lets time pass up to now.
func (m *Model) advance(now time.Time) {
	switch {
	case m.next.IsZero() || m.now.Sub(now) > gapReset:
		m.now, m.next = now, now.Add(tickEvery)
		return
	case now.Before(m.now):
		return
	}
	// After a long silence a few ticks are enough for everything to come to rest.
	if rest := tickEvery * slotTicks * (windowSlots + 1); now.Sub(m.next) > 2*rest {
		m.next = now.Add(-rest)
	}
	for !m.next.After(now) {
		m.now = m.next
		m.next = m.next.Add(tickEvery)
		m.tick()
	}
	m.now = now
}

func (m *Model) tick() {
	m.ticks++
	if m.ticks%slotTicks == 0 {
		m.epoch++
	}
	for name, n := range m.nodes {
		m.tickNode(n)
		if !n.present && !n.named && m.now.Sub(n.firstSeen) > goneKept || !n.goneAt.IsZero() && m.now.Sub(n.goneAt) > goneKept {
			delete(m.nodes, name)
		}
	}
	for _, c := range m.commands {
		m.tickCommand(c)
	}
	m.tickTotals()
	if m.now.Sub(m.requests.swept) > endedStays { // nobody takes pictures
		m.sweepRequests(nil)
	}
	m.topology.tick(m)
	m.journal.tick(m)
}

// tickTotals computes what is of the mesh as a whole.
func (m *Model) tickTotals() {
	t := &m.totals
	t.Rate, t.ErrorRate, t.InFlight = 0, 0, 0
	for _, c := range m.commands {
		t.Rate += c.done.rate
		t.ErrorRate += c.errs.rate
		t.InFlight += c.underWay()
	}
	var q [4]time.Duration
	m.scratch.clear()
	m.scratch.addWindow(&m.mesh, m.epoch)
	m.scratch.quantiles([]float64{.5, .9, .99, .999}, q[:])
	t.P50, t.P90, t.P99, t.P999 = q[0], q[1], q[2], q[3]
	if m.ticks%sampleTicks != 0 {
		return
	}
	m.second.quantiles([]float64{.5, .99}, q[:2])
	m.second.clear()
	per := (sampleTicks * tickEvery).Seconds()
	m.samples = append(m.samples, Sample{
		At: m.now, Calls: float64(m.calls-m.seconds[0]) / per, Errors: float64(m.failed-m.seconds[1]) / per,
		P50: q[0], P99: q[1], InFlight: t.InFlight,
	})
	m.seconds = [2]uint64{m.calls, m.failed}
	if len(m.samples) >= 2*maxSamples {
		m.samples = append(make([]Sample, 0, 2*maxSamples), m.samples[len(m.samples)-maxSamples:]...)
	}
}

func (m *Model) foldStatus(s Status) {
	if !m.hadStatus || s.Connected != m.status.Connected {
		m.since = m.now
	}
	switch {
	case !m.hadStatus && !s.Connected, m.hadStatus && m.status.Connected && !s.Connected:
		m.emit(Event{Level: LevelError, Type: "master_lost", Node: s.Master, Message: cmp.Or(s.Reason, "the master is not connected")})
	case m.hadStatus && !m.status.Connected && s.Connected:
		m.returned = m.now
		m.emit(Event{Level: LevelInfo, Type: "master_back", Node: s.Master, Message: "the master is connected again"})
	}
	m.status, m.hadStatus = s, true
}

func (m *Model) foldMesh(mesh *Mesh) {
	if len(mesh.Schema) > 0 {
		m.foldSchema(mesh.Schema)
	}
	if mesh.Version != "" {
		m.version = mesh.Version
	}
	named := make(map[string]bool, len(mesh.Nodes))
	for _, info := range mesh.Nodes {
		if len(named) >= maxNodes {
			break
		}
		name := info.Worker + "/" + info.Variant
		named[name] = true
		n := m.node(name)
		if n == nil {
			continue
		}
		m.foldNode(n, info)
	}
	for name, n := range m.nodes {
		if n.present && !named[name] && n.missing.IsZero() {
			n.missing = m.now
			m.checkMissing(n)
		}
	}
	m.hadMesh = true
	m.topology.dirty = true
}

func (m *Model) foldSchema(text []byte) {
	hash := sha256.Sum256(text)
	if hash == m.schemaHash {
		return
	}
	next, err := schema.FromWire(text)
	if err != nil {
		m.emit(Event{Level: LevelWarn, Type: "schema_changed", Message: "the master's schema cannot be read: " + err.Error()})
		return
	}
	if m.schema != nil {
		m.emit(Event{Level: LevelInfo, Type: "schema_changed", Message: "the master's schema changed"})
	}
	m.schema, m.schemaText, m.schemaHash = next, text, hash
	m.topology.dirty = true
}

// node finds or makes the state of a node; nil when there are too many.
func (m *Model) node(name string) *nodeState {
	n := m.nodes[name]
	if n == nil && len(m.nodes) < maxNodes {
		n = &nodeState{name: name, firstSeen: m.now, counters: map[counterKey]*counter{}, links: map[string]*linkEnd{}, peers: map[string]*peerState{}, queues: map[string]*queueState{}}
		m.nodes[name] = n
	}
	return n
}

// command finds or makes the state of a command; nil when there are too many.
func (m *Model) command(name string) *commandState {
	c := m.commands[name]
	if c == nil && len(m.commands) < maxCommands {
		c = &commandState{name: name, errors: map[wire.Code]uint64{}}
		m.commands[name] = c
		m.sorted.commandsDirty = true
	}
	return c
}
