package inspect

import (
	"fmt"
	"time"
)

// Bounds of the journal.
const (
	maxEvents = 10_000
	// eventBurst of one type are kept at once, and eventRate a second from then on;
	// how many more there were is said in one more event. Nodes that come and go are
	// always told.
	eventBurst = 200
	eventRate  = 50
	// lostEvery is how often lost telemetry is spoken of.
	lostEvery = 5 * time.Second
)

// journal is the log of the mesh.
type journal struct {
	events []Event // appended to, never changed: pictures hold parts of it
	count  uint64  // ever
	limits map[string]*limit
}

// limit is a token bucket for one type of event.
type limit struct {
	left    float64
	skipped uint64
}

// emit adds an event, which is of now unless it says when it was.
func (m *Model) emit(e Event) {
	if e.At.IsZero() {
		e.At = m.now
	}
	if !m.journal.allow(e.Type) {
		return
	}
	m.journal.append(e)
}

func (j *journal) append(e Event) {
	j.count++
	if len(j.events) >= 2*maxEvents {
		j.events = append(make([]Event, 0, 2*maxEvents), j.events[len(j.events)-maxEvents:]...)
	}
	j.events = append(j.events, e)
}

// newest gives the last events, oldest first.
func (j *journal) newest() []Event {
	return j.events[max(0, len(j.events)-maxEvents):len(j.events):len(j.events)]
}

func (j *journal) limit(kind string) *limit {
	if j.limits == nil {
		j.limits = map[string]*limit{}
	}
	l := j.limits[kind]
	if l == nil {
		l = &limit{left: eventBurst}
		j.limits[kind] = l
	}
	return l
}

func (j *journal) allow(kind string) bool {
	switch kind {
	case "request_failed", "log", "link_up", "link_down", "peer_skipped", "peer_tried":
	default:
		return true
	}
	l := j.limit(kind)
	if l.left < 1 {
		l.skipped++
		return false
	}
	l.left--
	return true
}

// skip counts events that never came to us.
func (j *journal) skip(kind string, n uint64) { j.limit(kind).skipped += n }

func (j *journal) tick(m *Model) {
	for kind, l := range j.limits {
		l.left = min(eventBurst, l.left+eventRate*tickEvery.Seconds())
		if l.skipped > 0 && m.ticks%sampleTicks == 0 {
			j.append(Event{At: m.now, Level: LevelWarn, Type: kind, Message: fmt.Sprintf("%d more like this are not listed", l.skipped)})
			l.skipped = 0
		}
	}
	if lost := m.lost(); lost > m.lostSaid && m.now.Sub(m.lostAt) >= lostEvery {
		j.append(Event{At: m.now, Level: LevelWarn, Type: "telemetry_lost", Message: fmt.Sprintf("%d reports never came; totals are right, details are missing", lost-m.lostSaid)})
		m.lostSaid, m.lostAt = lost, m.now
	}
}

// lost is how many reports never came: those that the master tells of are also gaps in
// what nodes number, once the next one comes.
func (m *Model) lost() uint64 { return max(m.lostTold, m.lostSeen) }

// requestFailed tells of a request that failed, as its caller saw it, or its callee
// where the caller does not report.
func (m *Model) requestFailed(n *nodeState, q *Request) {
	if q.Dir == In {
		if caller := m.nodes[q.Caller]; caller != nil && caller.reports && caller.goneAt.IsZero() {
			return
		}
	}
	message := q.Error
	if message == "" {
		message = string(q.Code)
	}
	m.emit(Event{
		At: m.ago(q.EndedAgo), Level: LevelError, Type: "request_failed",
		Node: q.Caller, Peer: q.Target, Command: q.Command, UID: q.UID, Code: string(q.Code), Message: message,
	})
}
