package queue

import (
	"context"
	"encoding/json"
	"fmt"
	"sync"
	"time"
)

// journal keeps the items of one queue where they outlive the process.
type journal interface {
	// write submits a change and returns; done is called once, changes in the order of write.
	// done may take locks that the caller of write does not hold.
	write(c change, done func(error))
	// payload reads an item's payload. It fails with errGone where the item is not there.
	payload(seq uint64) (json.RawMessage, error)
}

// change is what a journal has to remember. With neither item nor state the item is forgotten.
type change struct {
	seq     uint64
	item    *Item // the item is new
	state   *state
	of      *entry   // whose state it is, where it may be written later
	expired []digest // keys to be forgotten
}

// state is what becomes of an item in the course of time.
type state struct {
	Attempts    int       `json:"attempts,omitempty"`
	Begun       bool      `json:"begun,omitempty"` // work has begun and has not ended
	Redelivered bool      `json:"redelivered,omitempty"`
	Due         time.Time `json:"due,omitzero"`
	Error       string    `json:"error,omitempty"`
	Died        time.Time `json:"died,omitzero"`
}

// maxError is how many bytes of an error are kept.
const maxError = 4096

// maxDead is how many dead letters a queue keeps. Beyond it the oldest are dropped.
const maxDead = 10_000

// entry is an item in a local queue. Its item has no payload when the journal has it.
type entry struct {
	item  Item
	state state
	seq   uint64
	size  int
	place place
	index int           // in its heap
	also  []func(error) // of duplicates that wait for it to be stored
}

type place uint8

const (
	storing place = iota
	waiting
	delayed
	running
	dead
)

// local is a queue whose order is kept in this process, and its items in a journal if it has
// one.
type local struct {
	o       Options
	backend string
	journal journal // nil: none
	wake    chan struct{}

	mu      sync.Mutex // of all below
	runs    runOnce
	over    bool // Run has ended
	halted  bool
	seq     uint64
	entries map[string]*entry // by id
	ready   heap              // by seq
	later   heap              // by due
	dead    []*entry          // oldest first
	busy    map[*entry]struct{}
	storing int
	bytes   int // of the payloads that wait
	keys    window
	stats   Stats // its counters
}

var _ Queue = (*local)(nil)

func newLocal(backend string, o Options, j journal) *local {
	o.setDefaults()
	return &local{
		o: o, backend: backend, journal: j, wake: make(chan struct{}, 1), entries: make(map[string]*entry),
		busy:  make(map[*entry]struct{}),
		ready: heap{less: func(a, b *entry) bool { return a.seq < b.seq }},
		later: heap{less: func(a, b *entry) bool { return a.state.Due.Before(b.state.Due) }},
		keys:  newWindow(o.Window),
	}
}

// restore takes an item that the journal had. It is called before anything else, in the
// order of seq.
func (q *local) restore(seq uint64, item Item, size int, s state) {
	if s.Begun {
		s.Begun, s.Redelivered = false, true
	}
	if soon := time.Now().Add(2 * q.o.Backoff(s.Attempts)); s.Due.After(soon) {
		s.Due = soon // the clock was set back since
	}
	item.Reply, item.Payload = false, nil // whoever waited is gone
	e := &entry{item: item, state: s, seq: seq, size: size}
	q.entries[item.ID] = e
	q.seq = max(q.seq, seq)
	q.settleIn(e)
}

// settleIn puts an entry where its state says. mu is held.
func (q *local) settleIn(e *entry) {
	switch {
	case !e.state.Died.IsZero():
		e.place = dead
		q.dead = append(q.dead, e)
		return
	case time.Until(e.state.Due) > 0:
		e.place = delayed
		q.later.push(e)
	default:
		e.place = waiting
		q.ready.push(e)
	}
	q.bytes += e.size
	q.signal()
}

func (q *local) signal() {
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

func (q *local) depth() int { return len(q.ready.entries) + len(q.later.entries) + q.storing }

// Add gives the item its place, and tells stored once the journal has it.
func (q *local) Add(item Item, stored func(error)) {
	q.mu.Lock()
	var err error
	switch size := len(item.Payload); {
	case q.over || q.stats.Closed:
		err = fmt.Errorf("queue %s: %w", item.Command, ErrClosed)
	case q.depth() >= q.o.MaxDepth:
		err = fmt.Errorf("queue %s: %w: %d items wait", item.Command, ErrFull, q.depth())
	case q.bytes+size > q.o.MaxBytes:
		err = fmt.Errorf("queue %s: %w: %d bytes wait", item.Command, ErrFull, q.bytes)
	}
	now := time.Now()
	expired := q.keys.expire(now)
	key := digestOf(item.Key)
	if id, known := q.keys.find(key); item.Key != "" && known {
		first := q.entries[id]
		q.stats.Duplicates++
		dup := &DuplicateError{ID: id, Over: first == nil || first.place == dead}
		if first != nil && first.place == storing {
			first.also = append(first.also, func(err error) {
				if err == nil {
					err = dup
				}
				stored(err)
			})
			q.mu.Unlock()
			return
		}
		q.mu.Unlock()
		stored(dup)
		return
	}
	if err != nil {
		q.stats.Refused++
		q.mu.Unlock()
		stored(err)
		return
	}
	q.seq++
	e := &entry{item: item, seq: q.seq, size: len(item.Payload)}
	q.entries[item.ID] = e
	q.storing++
	q.bytes += e.size
	if item.Key != "" {
		expired = append(expired, q.keys.add(key, item.ID, now)...)
	}
	q.mu.Unlock()
	if q.journal == nil {
		q.added(e, stored, nil)
		return
	}
	q.journal.write(change{seq: e.seq, item: &item, expired: expired}, func(err error) { q.added(e, stored, err) })
}

func (q *local) added(e *entry, stored func(error), err error) {
	q.mu.Lock()
	q.storing--
	q.bytes -= e.size
	also := e.also
	e.also = nil
	if err == nil {
		q.stats.Accepted++
		if q.journal != nil {
			e.item.Payload = nil
		}
		q.settleIn(e)
	} else {
		q.stats.Refused++
		delete(q.entries, e.item.ID)
		q.keys.remove(digestOf(e.item.Key))
	}
	q.mu.Unlock()
	stored(err)
	for _, f := range also {
		f(err)
	}
}

// Halt gives no more items to work.
func (q *local) Halt() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.halted = true
}

// SetClosed makes Add fail, or ends that.
func (q *local) SetClosed(_ context.Context, closed bool) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.stats.Closed = closed
	return nil
}

// Withdraw removes an item that waits.
func (q *local) Withdraw(_ context.Context, id string) bool {
	q.mu.Lock()
	e := q.entries[id]
	if e == nil || !q.detach(e) {
		q.mu.Unlock()
		return false
	}
	delete(q.entries, id)
	q.mu.Unlock()
	q.persist(change{seq: e.seq})
	return true
}

// detach takes an entry that waits out of its heap. mu is held.
func (q *local) detach(e *entry) bool {
	switch e.place {
	case waiting:
		q.ready.remove(e)
	case delayed:
		q.later.remove(e)
	default:
		return false
	}
	q.bytes -= e.size
	return true
}
