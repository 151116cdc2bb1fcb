package inspect

import (
	"slices"
	"strconv"
	"time"
)

// Of requests that nobody saw under way, so many that failed, and that succeeded, are
// shown at a time.
const (
	maxFlashFailed = 500
	maxFlashOK     = 50
)

// requestTable has the requests under way, joined from what both ends say.
type requestTable struct {
	rows   map[rowKey]*row
	order  []*row // by started; those that are gone are left out when it is next sorted
	fresh  []*row // not yet in order
	resort bool
	swept  time.Time // order was brought up to date
	// Those that were never seen under way.
	flashedFailed, flashedOK int
}

// rowKey joins the two ends of a request. A reporter speaks for its own end only, so
// that nobody can touch the requests of others.
type rowKey struct{ uid, caller, target string }

// row is one request.
type row struct {
	key     rowKey
	live    Live
	cmd     *commandState // nil: was never seen under way, or there are too many commands
	started time.Time
	out, in rowEnd
	flash   *int // counts it: see flashed
	gone    bool // no longer in rows
}

// rowEnd is one of the two ends of a request.
type rowEnd struct {
	node  *nodeState // nil: has not reported it, or no longer does
	gen   uint64     // of the node's table
	phase string
}

func (r *row) end(dir string) *rowEnd {
	if dir == In {
		return &r.in
	}
	return &r.out
}

// phase is the callee's, where it says one.
func (r *row) phase() string {
	switch {
	case r.in.node != nil:
		return r.in.phase
	case r.live.Phase == PhaseResponding:
		return PhaseResponding
	}
	return r.out.phase
}

// keyOf gives the key of a request that n reports, with n at its own end. Requests
// without a uid, which nobody waits for, are told apart by their place in the table.
func keyOf(n *nodeState, uid string, q *Request) (rowKey, bool) {
	switch q.Dir {
	case Out:
		q.Caller = n.name
	case In:
		q.Target = n.name
	default:
		return rowKey{}, false
	}
	return rowKey{uid, q.Caller, q.Target}, uid != ""
}

// foldTable takes the requests that n has under way.
func (m *Model) foldTable(n *nodeState, r *Report) {
	var list []Request
	n.inFlight = 0
	if r.InFlight != nil {
		list = r.InFlight.Requests[:min(len(r.InFlight.Requests), maxNodeLive)]
		n.inFlight = max(r.InFlight.Total, len(list))
	}
	before := n.table
	n.table = make([]*row, 0, len(list))
	anonymous := 0
	for i := range list {
		uid := list[i].UID
		if uid == "" {
			anonymous++
			uid = "#" + strconv.Itoa(anonymous) // no valid uid, and none that is shown
		}
		if row := m.under(n, uid, &list[i]); row != nil {
			n.table = append(n.table, row)
		}
	}
	sampled := r.FinishedOf > uint64(len(r.Finished))
	for _, row := range before {
		for _, e := range []*rowEnd{&row.out, &row.in} {
			if e.node == n && e.gen != n.tableGen {
				m.vanished(row, e, sampled)
			}
		}
	}
}

// under notes that n has q under way.
func (m *Model) under(n *nodeState, uid string, q *Request) *row {
	t := &m.requests
	key, ok := keyOf(n, uid, q)
	if !ok {
		return nil
	}
	started := m.ago(q.AgeMillis)
	w := t.rows[key]
	switch {
	case w == nil:
		if len(t.rows) >= maxLive {
			return nil
		}
		w = &row{key: key, started: started, live: Live{Request: *q}}
		t.rows[key] = w
		t.fresh = append(t.fresh, w)
	case q.Dir == Out && w.out.node == nil && w.started.Sub(started) > 20*time.Millisecond:
		w.started, t.resort = started, true // the caller knows when it began
	case q.UID == "" && started.Sub(w.started).Abs() > 200*time.Millisecond:
		w.started, t.resort = started, true // another one has taken its place
		w.live.Request = *q
	}
	w.unflash()
	if w.cmd == nil {
		w.cmd = m.command(w.live.Command)
	}
	e := w.end(q.Dir)
	e.node, e.gen, e.phase = n, n.tableGen, q.Phase
	l := &w.live
	if q.Dir == In && q.Kind == KindQueued && l.Code == "" {
		l.Ended, l.Took = time.Time{}, 0 // the caller only knows that it was accepted
	}
	if q.Payload != nil {
		l.Payload, l.Cut = q.Payload, q.Cut
	}
	if l.TimeoutMillis == 0 {
		l.TimeoutMillis = q.TimeoutMillis
	}
	if l.Group == "" {
		l.Group = q.Group
	}
	if q.Dir == Out {
		l.Kind, l.Dir = q.Kind, Out
	}
	l.Bytes, l.Attempt = max(l.Bytes, q.Bytes), max(l.Attempt, q.Attempt)
	if l.Ended.IsZero() {
		l.Phase = w.phase()
	}
	return w
}

// finished takes a request that ended at n.
func (m *Model) finished(n *nodeState, q *Request) {
	t := &m.requests
	if q.Code != "" {
		m.requestFailed(n, q)
	}
	key, ok := keyOf(n, q.UID, q)
	if !ok {
		return
	}
	w := t.rows[key]
	if w == nil {
		count := m.requests.flash(q)
		if count == nil {
			return
		}
		ended := m.ago(q.EndedAgo)
		w = &row{key: key, started: ended.Add(-fromMillis(q.AgeMillis)), live: Live{Request: *q, Ended: ended}, flash: count}
		t.rows[key] = w
		t.fresh = append(t.fresh, w)
	}
	*w.end(q.Dir) = rowEnd{}
	l := &w.live
	switch {
	case q.Dir == In && w.out.node != nil && l.Ended.IsZero():
		l.Phase = PhaseResponding // the caller has yet to hear of it
	case q.Dir == Out && q.Kind == KindQueued && q.Code == "" && w.in.node != nil:
		l.Phase = w.in.phase // it was accepted, and is not done
		return
	default:
		if l.Ended.IsZero() {
			l.Ended = m.ago(q.EndedAgo)
		}
		l.Took, l.Phase = fromMillis(q.AgeMillis), PhaseDone
	}
	if q.Dir == Out || l.Code == "" {
		l.Code, l.Error = q.Code, q.Error
	}
	l.ResultBytes = max(l.ResultBytes, q.ResultBytes)
}

// flash counts a request that nobody saw under way; nil when there is no room for it.
func (t *requestTable) flash(q *Request) *int {
	count, most := &t.flashedOK, maxFlashOK
	if q.Code != "" {
		count, most = &t.flashedFailed, maxFlashFailed
	}
	if *count >= most || len(t.rows) >= maxLive {
		return nil
	}
	*count++
	return count
}

// vanished notes that an end no longer has a request, without a word of how it ended.
// Where not all ends are told (sampled) it ended well: failures are told first. Else it
// is somebody else's now, or the report that told was lost.
func (m *Model) vanished(w *row, e *rowEnd, sampled bool) {
	caller := e == &w.out
	*e = rowEnd{}
	l := &w.live
	switch {
	case w.live.UID == "":
		m.requests.remove(w)
	case !l.Ended.IsZero():
	case !caller && w.out.node != nil:
		l.Phase = PhaseResponding
	case sampled || l.Phase == PhaseResponding:
		l.Ended, l.Took, l.Phase = m.now, m.now.Sub(w.started), PhaseDone
	case w.in.node != nil:
		l.Phase = w.phase()
	default:
		m.requests.remove(w)
	}
}

// leave takes away the ends of a node that is gone.
func (t *requestTable) leave(n *nodeState) {
	for _, w := range n.table {
		for _, e := range []*rowEnd{&w.out, &w.in} {
			if e.node == n {
				*e = rowEnd{}
			}
		}
		if w.live.Ended.IsZero() {
			if w.out.node == nil && w.in.node == nil {
				t.remove(w)
			} else {
				w.live.Phase = w.phase()
			}
		}
	}
	n.table = nil
}

func (t *requestTable) remove(w *row) {
	if w.gone {
		return
	}
	w.gone = true
	delete(t.rows, w.key)
	w.unflash()
}

// sweepRequests brings the requests up to date, as sweep does, and counts those of each command
// that are under way.
func (m *Model) sweepRequests(dst *[]Live) {
	m.requests.sweep(m.now, dst)
	for _, c := range m.commands {
		c.listed = 0
	}
	for _, w := range m.requests.order {
		if w.cmd != nil && w.live.Ended.IsZero() {
			w.cmd.listed++
		}
	}
}

// sweep brings order up to date, and appends what is to be shown, the oldest first, to
// dst unless that is nil.
func (t *requestTable) sweep(now time.Time, dst *[]Live) {
	t.swept = now
	if t.resort {
		slices.SortFunc(t.order, byStart)
		t.resort = false
	}
	slices.SortFunc(t.fresh, byStart)
	t.order = mergeRows(t.order, t.fresh)
	clear(t.fresh)
	t.fresh = t.fresh[:0]
	kept := t.order[:0]
	for _, w := range t.order {
		if !w.gone && !w.live.Ended.IsZero() && now.Sub(w.live.Ended) > endedStays {
			t.expire(w)
		}
		if w.gone {
			continue
		}
		kept = append(kept, w)
		if dst != nil {
			*dst = append(*dst, w.live)
			w.complete(&(*dst)[len(*dst)-1], now)
		}
	}
	clear(t.order[len(kept):])
	t.order = kept
}

// complete fills in what changes as time passes.
func (w *row) complete(l *Live, now time.Time) {
	l.Timeout = time.Duration(l.TimeoutMillis) * time.Millisecond
	l.Age = max(0, now.Sub(w.started))
	if !l.Ended.IsZero() {
		l.Age = l.Took
	}
	switch {
	case w.out.node != nil:
		l.Node = w.out.node.name
	case w.in.node != nil:
		l.Node = w.in.node.name
	}
}

func byStart(a, b *row) int { return a.started.Compare(b.started) }

// mergeRows puts b, which is sorted, into a, which is as well.
func mergeRows(a, b []*row) []*row {
	i, j := len(a)-1, len(b)-1
	a = append(a, b...)
	for k := len(a) - 1; j >= 0; k-- {
		if i >= 0 && a[i].started.After(b[j].started) {
			a[k] = a[i]
			i--
		} else {
			a[k] = b[j]
			j--
		}
	}
	return a
}

// unflash counts a request no longer among those that were never seen under way.
func (w *row) unflash() {
	if w.flash != nil {
		*w.flash--
		w.flash = nil
	}
}

// expire takes a request away that ended a while ago. One that its caller has given up
// and that runs on is shown again as what it is.
func (t *requestTable) expire(w *row) {
	if w.in.node == nil {
		t.remove(w)
		return
	}
	l := &w.live
	l.Ended, l.Took, l.Code, l.Error, l.Phase = time.Time{}, 0, "", "", w.in.phase
}

func fromMillis(f float64) time.Duration {
	if !(f > 0) {
		return 0
	}
	return time.Duration(min(f, 24*3600*1000) * float64(time.Millisecond))
}
