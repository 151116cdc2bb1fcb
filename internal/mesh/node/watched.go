package node

import (
	"slices"
	"sync"
	"time"

	"github.com/meshctl/meshctl/internal/mesh/inspect"
)

// What a watcher may have waiting. More reports are lost; the rest is merged.
const (
	maxWaiting      = 4096
	maxWaitingBytes = 8 << 20
	maxStatuses     = 16
)

// watched is what a watcher was told and has not yet taken. It is safe for concurrent
// use, and never blocks.
type watched struct {
	wake chan struct{} // receives after a change

	mu       sync.Mutex
	waiting  []waiting // from head on
	head     int
	bytes    int    // of reports
	lost     uint64 // that nobody was told of yet
	statuses int
	closed   bool
	failed   error // instead of anything else
}

// waiting is one update. A report is read when it is taken.
type waiting struct {
	inspect.Update
	report []byte
}

func (q *watched) report(body []byte) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.waiting)-q.head >= maxWaiting || q.bytes+len(body) > maxWaitingBytes {
		q.lost++
	} else {
		q.bytes += len(body)
		q.put(waiting{report: body})
	}
	q.signal()
}

func (q *watched) mesh(m *inspect.Mesh) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for i := range q.waiting[q.head:] {
		w := &q.waiting[q.head+i]
		if w.Mesh == nil {
			continue
		}
		if m.Schema == nil {
			m.Schema = w.Mesh.Schema
		}
		w.Mesh = m // instead of one that nobody has seen
		return
	}
	q.put(waiting{Update: inspect.Update{Mesh: m}})
	q.signal()
}

func (q *watched) status(s inspect.Status) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.statuses == maxStatuses {
		for i, w := range slices.Backward(q.waiting) {
			if w.Status != nil {
				q.waiting[i].Status = &s
				return
			}
		}
	}
	q.statuses++
	q.put(waiting{Update: inspect.Update{Status: &s}})
	q.signal()
}

// put adds an update. mu is held.
func (q *watched) put(w waiting) {
	if q.head > 0 && len(q.waiting) == cap(q.waiting) {
		n := copy(q.waiting, q.waiting[q.head:])
		clear(q.waiting[n:])
		q.waiting, q.head = q.waiting[:n], 0
	}
	w.At = time.Now().UnixMilli()
	q.waiting = append(q.waiting, w)
}

func (q *watched) signal() {
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

// fail has the reader get err for all that comes.
func (q *watched) fail(err error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.failed = err
	q.signal()
}

func (q *watched) failure() error {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.failed
}

func (q *watched) close() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.closed = true
	q.signal()
}

// take gives the next update, if there is one.
func (q *watched) take() (u inspect.Update, ok, closed bool) {
	for {
		w, ok, closed := q.pop()
		if !ok || closed || w.report == nil {
			return w.Update, ok, closed
		}
		report, lost, err := inspect.DecodeRelay(w.report)
		switch {
		case err != nil:
			lost = 1
		case report != nil:
			w.Report = report
			return w.Update, true, false
		}
		q.mu.Lock()
		q.lost += lost
		q.mu.Unlock()
	}
}

func (q *watched) pop() (w waiting, ok, closed bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	switch {
	case q.closed:
		return waiting{}, false, true
	case q.lost > 0:
		w.At, w.Lost, q.lost = time.Now().UnixMilli(), q.lost, 0
		return w, true, false
	case q.head == len(q.waiting):
		return waiting{}, false, false
	}
	w = q.waiting[q.head]
	q.waiting[q.head] = waiting{}
	if q.head++; q.head == len(q.waiting) {
		q.waiting, q.head = q.waiting[:0], 0
	}
	q.bytes -= len(w.report)
	if w.Status != nil {
		q.statuses--
	}
	return w, true, false
}
