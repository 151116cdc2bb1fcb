package inspect

import (
	"encoding/binary"
	"hash/fnv"
	"io"
	"maps"
	"slices"
	"time"

	"github.com/meshctl/meshctl/internal/mesh/wire"
)

// observation is what a Run remembers of what it said, so that it says only what changed.
type observation struct {
	*Reporter
	every time.Duration
	full  bool // the next report is

	tokens float64   // bytes that may be sent
	at     time.Time // when tokens was right
	sent   time.Time // the last report

	tallies map[*Tally]*told
	turn    int // which command comes first when not all fit
	linked  map[string]toldLink
	queued  map[string]QueueCount
	table   uint64    // hash of the requests in flight
	tableIn time.Time // when gathering them is affordable again
}

// bucketSize is about how many bytes a bucket is in JSON.
const bucketSize = 10

// told is what was said of one set of counters.
type told struct {
	count   CommandCount
	latency [BucketCount]uint64
	late    bool // not all of its histogram was said
}

// toldLink is what was said of a link, and when.
type toldLink struct {
	LinkCount
	at time.Time
}

func (o *observation) begin(every time.Duration) {
	o.every, o.full = every, true
	o.tallies = make(map[*Tally]*told)
	o.linked = make(map[string]toldLink)
	o.queued = make(map[string]QueueCount)
	o.table, o.tableIn = 0, time.Time{}
}

// report makes a report of what there is to say and sends it.
func (o *observation) report(send func([]byte) error) {
	now := time.Now()
	o.tokens = min(burst, o.tokens+now.Sub(o.at).Seconds()*bytesPerSecond)
	o.at = now
	if o.tokens < leastRoom || o.full && o.tokens < burst {
		return
	}
	room := int(o.tokens)
	if o.full {
		room = MaxReport - 2<<10
	}
	m := maker{observation: o, now: now, room: room}
	report := m.make()
	if !m.news && now.Sub(o.sent) < keepAlive-o.every/2 {
		return
	}
	o.seq++
	report.Seq = o.seq
	body, err := wire.Encode(report)
	if err == nil && len(body) > MaxReport {
		// Sizes are estimates; text that needs much escaping can deceive them.
		report.Finished, report.Logs, report.InFlight = nil, nil, nil
		body, err = wire.Encode(report)
	}
	if err == nil {
		o.tokens -= float64(len(body))
		err = send(body)
	}
	o.sent = now
	if err != nil {
		o.begin(o.every)
	}
}

// maker makes one report, most important things first, until there is no more room.
type maker struct {
	*observation
	now  time.Time
	room int // bytes left
	news bool
}

// fits takes room for something of about the given size.
func (m *maker) fits(bytes int) bool {
	if bytes > m.room {
		return false
	}
	m.room -= bytes
	return true
}

func (m *maker) make() *Report {
	r := &Report{Instance: m.subject.Instance(), Full: m.full, EveryMillis: m.every.Milliseconds()}
	m.fits(200)
	links := m.subject.Links()
	m.links(r, links)
	m.queues(r)
	m.commands(r)
	m.traffic(r, links)
	m.inFlight(r)
	m.logs(r)
	m.ended(r)
	m.news = m.news || m.full || len(r.Commands)+len(r.Links)+len(r.Unlinked)+len(r.Queues)+len(r.Logs)+len(r.Finished) > 0 ||
		r.InFlight != nil || r.FinishedOf > 0 || r.LogsOf > 0
	m.full = false
	return r
}

// commands says which counters changed. A Full report has all that fit, and of their
// histograms those for which there is room then. Others have some commands whole; the rest has its turn in the
// reports that follow.
func (m *maker) commands(r *Report) {
	tallies := m.Meter.tallies()
	m.turn++
	if !m.full {
		spare := m.room / 3 // for what else there is
		m.room -= spare
		defer func() { m.room += spare }()
	}
	var listed []*Tally // in the report
	for i := range tallies {
		t := tallies[(i+m.turn)%len(tallies)]
		count, was := t.Count(), m.tallies[t]
		if was != nil && same(was.count, count) && !was.late {
			continue
		}
		if was == nil {
			was = new(told)
		}
		if !m.full {
			count.Latency = was.changed(t)
		}
		size := 150 + len(count.Command) + 28*len(count.Errors)
		whole := m.partly(&count, size)
		if !m.fits(size + bucketSize*len(count.Latency)) {
			r.Partial = r.Full
			continue
		}
		m.tallies[t] = was
		was.say(count)
		was.late = !whole
		listed = append(listed, t)
		r.Commands = append(r.Commands, count)
	}
	if !m.full {
		return
	}
	for i, t := range listed {
		c, was := &r.Commands[i], m.tallies[t]
		buckets := was.changed(t)
		if was.late = !m.fits(bucketSize * len(buckets)); was.late {
			c.Late = true
			continue
		}
		c.Latency = buckets
		was.say(*c)
	}
}

// partly leaves out what does not fit of a histogram, a part in turn, and reports whether
// all of it does.
func (m *maker) partly(c *CommandCount, size int) bool {
	n := max(0, (m.room-size)/bucketSize)
	if n >= len(c.Latency) {
		return true
	}
	from := m.turn * n % (len(c.Latency) - n + 1)
	c.Latency = c.Latency[from : from+n]
	return false
}

// changed gives the buckets that are not as they were said to be.
func (w *told) changed(t *Tally) (changed Buckets) {
	for i, n := range t.buckets() {
		if n != w.latency[i] {
			changed = append(changed, Bucket{i, n})
		}
	}
	return changed
}

func (w *told) say(c CommandCount) {
	w.count, w.late = c, false
	for _, b := range c.Latency {
		w.latency[b.Index] = b.Count
	}
	w.count.Latency = nil
}

func same(a, b CommandCount) bool {
	return a.Started == b.Started && a.OK == b.OK && a.Retries == b.Retries &&
		a.BytesIn == b.BytesIn && a.BytesOut == b.BytesOut && maps.Equal(a.Errors, b.Errors)
}

// links says which links came, went or drain. In a Full report they take half of the room at
// most; then the others follow.
func (m *maker) links(r *Report, links []LinkCount) {
	if m.full {
		spare := m.room / 2
		m.room -= spare
		defer func() { m.room += spare }()
	}
	present := make(map[string]bool)
	for _, l := range links {
		present[l.ID] = true
		was, ok := m.linked[l.ID]
		was.InFlight, was.Sent, was.Received = l.InFlight, l.Sent, l.Received
		if !ok || was.LinkCount != l {
			m.link(r, l)
		}
	}
	for id := range m.linked {
		if !present[id] && m.fits(8+len(id)) {
			delete(m.linked, id)
			r.Unlinked = append(r.Unlinked, id)
		}
	}
	slices.Sort(r.Unlinked)
}

func (m *maker) link(r *Report, l LinkCount) {
	if !m.fits(150 + len(l.ID) + len(l.Peer)) {
		r.Partial = r.Full
		return
	}
	m.linked[l.ID] = toldLink{l, m.now}
	r.Links = append(r.Links, l)
}

// traffic says how much went over links: of each not more than once a second, and in a
// quarter of the room, because counters of commands say more. Links that another meshctl
// node dialled are that one's to tell of; what is said of them here is for when it does
// not. It changes links.
func (m *maker) traffic(r *Report, links []LinkCount) {
	if m.full {
		return
	}
	spare := m.room - m.room/4
	m.room -= spare
	defer func() { m.room += spare }()
	links = slices.DeleteFunc(links, func(l LinkCount) bool {
		was, ok := m.linked[l.ID]
		least := time.Second
		if !l.Dialed && l.Kind == wire.KindMeshctl && was.InFlight == l.InFlight {
			least = 5 * time.Second
		}
		return !ok || was.LinkCount == l || m.now.Sub(was.at) < least
	})
	slices.SortStableFunc(links, func(a, b LinkCount) int { return m.linked[a.ID].at.Compare(m.linked[b.ID].at) })
	for _, l := range links {
		m.link(r, l)
	}
}

func (m *maker) queues(r *Report) {
	for _, q := range m.subject.Queues() {
		was, ok := m.queued[q.Command]
		// That its oldest entry has become older is no news.
		age := q.OldestMillis - was.OldestMillis
		was.OldestMillis = q.OldestMillis
		passed := m.now.Sub(m.sent).Milliseconds()
		if ok && was == q && age >= 0 && age <= passed+1000 {
			continue
		}
		if !m.fits(120 + len(q.Command)) {
			r.Partial = r.Full
			continue
		}
		m.queued[q.Command] = q
		r.Queues = append(r.Queues, q)
	}
}

// inFlight says which requests are under way, if they are others than last time.
func (m *maker) inFlight(r *Report) {
	if m.now.Before(m.tableIn) {
		return
	}
	began := time.Now()
	rows, total := m.subject.InFlight(maxRows)
	// With very many under way looking at them takes a while: never more than a fiftieth
	// of the time.
	m.tableIn = m.now.Add(50 * time.Since(began))

	fit, size := 0, 60
	for fit < len(rows) && size+rows[fit].size() <= m.room {
		size += rows[fit].size()
		fit++
	}
	table := hash(rows[:fit], total)
	if table == m.table || total == 0 && m.table == 0 {
		return
	}
	m.table = table
	m.room -= size
	r.InFlight = &InFlight{Total: total, Requests: make([]Request, fit)}
	for i, row := range rows[:fit] {
		row.AgeMillis = inMillis(m.now.Sub(row.Started))
		m.payload(&row)
		r.InFlight.Requests[i] = row.Request
	}
}

func hash(rows []Row, total int) uint64 {
	h := fnv.New64a()
	for _, r := range rows {
		_, _ = io.WriteString(h, r.UID)
		_, _ = io.WriteString(h, r.Dir)
		_, _ = io.WriteString(h, r.Phase)
		_, _ = h.Write(binary.LittleEndian.AppendUint64(nil, uint64(r.Started.UnixNano())))
	}
	_, _ = h.Write(binary.LittleEndian.AppendUint64(nil, uint64(total)))
	return h.Sum64()
}

// payload adds the payload of a request, where that is wanted and there is room.
func (m *maker) payload(row *Row) {
	// What is kept free is for further rows: they matter more.
	if row.Raw == nil || m.room < 2*MaxPayload {
		return
	}
	if shown, cutOff := Mask(row.Raw, row.Sensitive); shown != nil && m.fits(len(shown)) {
		row.Payload, row.Cut = shown, cutOff
	}
}

func (m *maker) logs(r *Report) {
	lines, of := m.Logs.take()
	r.LogsOf = of
	for _, l := range lines {
		if m.fits(80 + len(l.message)) {
			r.Logs = append(r.Logs, Log{Ago: inMillis(m.now.Sub(l.at)), Level: l.level, Message: l.message})
		}
	}
}

// ended samples the requests that ended. It leaves room, where there is little, for what
// the next report has to say of more weight. Where a node reports less often nodes are
// many, and reading such rows is most of what a watcher does: then of those that went well
// it has a few, and those that an earlier report may have shown under way.
func (m *maker) ended(r *Report) {
	rows, of := m.finished.take()
	r.FinishedOf = of
	m.room = max(m.room-burst/2, min(m.room, 1500))
	most := int(maxFinished * minEvery / m.every * minEvery / m.every)
	for i, row := range rows {
		if i >= most && row.Code == "" && row.Took < m.every || !m.fits(row.size()) {
			return
		}
		row.Phase, row.AgeMillis, row.EndedAgo = PhaseDone, inMillis(row.Took), inMillis(m.now.Sub(row.at))
		row.Error = CleanText(row.Error, maxErrorText)
		m.payload(&row.Row)
		r.Finished = append(r.Finished, row.Request)
	}
}

// size estimates how many bytes of JSON a request is, without its payload.
func (r *Row) size() int {
	return 190 + len(r.UID) + len(r.Group) + len(r.Caller) + len(r.Target) + len(r.Command) + min(len(r.Error), maxErrorText)
}

func inMillis(d time.Duration) float64 {
	return float64(max(0, d).Microseconds()) / 1000
}
