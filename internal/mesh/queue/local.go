package queue

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/meshctl/meshctl/internal/pause"
	"golang.org/x/sync/errgroup"
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

// storeRetry is the pause before a change is written again that the journal refused.
const storeRetry = time.Second

// errUnreadable says that an item's payload cannot be read, which its tries fail with.
var errUnreadable = errors.New("it cannot be read from the store")

// errInterrupted is why an item is dead whose last try nobody saw the end of.
const errInterrupted = "the node ended while it was being worked on"

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

// Run works on items until ctx ends, as Queue says.
func (q *local) Run(ctx context.Context, work Work) error {
	if err := q.runs.begin(); err != nil {
		return err
	}
	var g errgroup.Group
	for range q.o.Workers {
		g.Go(func() error { q.serve(ctx, work); return nil })
	}
	err := g.Wait()
	q.end()
	return err
}

// end takes no more items. Without a journal those that wait are lost.
func (q *local) end() {
	q.mu.Lock()
	q.over = true
	var left []*entry
	if q.journal == nil {
		for _, e := range q.entries {
			if e.place != dead {
				left = append(left, e)
				delete(q.entries, e.item.ID)
			}
		}
		q.ready.entries, q.later.entries, q.bytes = nil, nil, 0
	}
	q.mu.Unlock()
	slices.SortFunc(left, func(a, b *entry) int { return cmp.Compare(a.seq, b.seq) })
	for _, e := range left {
		q.o.Logger.Error("queued command lost at the end of the node", "id", e.item.ID, "command", e.item.Command, "caller", e.item.Caller)
		q.settled(e, nil, ErrClosed)
	}
}

func (q *local) serve(ctx context.Context, work Work) {
	for {
		e, ok := q.take(ctx)
		if !ok {
			return
		}
		item, err := q.begin(e)
		if errors.Is(err, errUnreadable) { // alone: those behind it can be
			q.finish(ctx, e, nil, err)
			continue
		}
		if err != nil {
			q.o.Logger.Error("cannot begin a queued command; trying again", "id", e.item.ID, "command", e.item.Command, "err", err)
			q.putBack(e)
			if !pause.For(ctx, storeRetry) {
				return
			}
			continue
		}
		if item.Attempt > q.o.Retries+1 && !item.Once {
			q.mu.Lock()
			e.state.Attempts-- // it is not begun
			q.mu.Unlock()
			q.finish(context.WithoutCancel(ctx), e, nil, errors.New(cmp.Or(e.state.Error, errInterrupted)))
			continue
		}
		result, err := do(ctx, item, work)
		q.finish(ctx, e, result, err)
	}
}

// take waits for the next item and marks it as running. It takes none after ctx's end.
func (q *local) take(ctx context.Context) (*entry, bool) {
	for ctx.Err() == nil {
		e, next := q.next()
		if e != nil {
			return e, true
		}
		var due <-chan time.Time
		var t *time.Timer
		if next > 0 {
			t = time.NewTimer(next)
			due = t.C
		}
		select {
		case <-q.wake:
		case <-due:
		case <-ctx.Done():
		}
		if t != nil {
			t.Stop()
		}
	}
	return nil, false
}

// next takes the first item whose turn it is, or says how long there will be none; 0: until
// something wakes us.
func (q *local) next() (*entry, time.Duration) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.halted {
		return nil, 0
	}
	now := time.Now()
	for len(q.later.entries) > 0 && !q.later.entries[0].state.Due.After(now) {
		e := q.later.pop()
		e.place = waiting
		q.ready.push(e)
	}
	if len(q.ready.entries) == 0 {
		if len(q.later.entries) == 0 {
			return nil, 0
		}
		return nil, q.later.entries[0].state.Due.Sub(now)
	}
	e := q.ready.pop()
	e.place = running
	q.bytes -= e.size
	q.busy[e] = struct{}{}
	if len(q.ready.entries) > 0 || len(q.later.entries) > 0 {
		q.signal() // for the next worker
	}
	return e, 0
}

// begin notes that work on e begins, so that whoever finds it after a crash knows. It fails with errUnreadable,
// or as the journal does.
func (q *local) begin(e *entry) (Item, error) {
	q.mu.Lock()
	e.state.Attempts++
	e.state.Begun = true
	e.state.Due = time.Time{}
	item, s := e.item, e.state
	q.mu.Unlock()
	item.Attempt, item.Redelivered = s.Attempts, s.Redelivered
	if q.journal == nil {
		return item, nil
	}
	var err error
	if item.Payload, err = q.journal.payload(e.seq); err != nil {
		return item, fmt.Errorf("%w: %w", errUnreadable, err)
	}
	if expired(item) {
		return item, nil // it is forgotten at once
	}
	done := make(chan error, 1)
	q.journal.write(change{seq: e.seq, state: &s}, func(err error) { done <- err })
	return item, <-done
}

func (q *local) putBack(e *entry) {
	q.mu.Lock()
	defer q.mu.Unlock()
	e.state.Attempts--
	e.state.Begun = false
	delete(q.busy, e)
	q.settleIn(e)
}

// finish decides what becomes of an item after a try.
func (q *local) finish(ctx context.Context, e *entry, result json.RawMessage, err error) {
	q.mu.Lock()
	delete(q.busy, e)
	e.state.Begun = false
	var c change
	var overflow *entry
	final := true
	switch {
	case err == nil:
		q.stats.Done++
	case errors.Is(err, ErrExpired):
		q.stats.Expired++
	case ctx.Err() != nil && q.journal != nil:
		// The node ends. The next one tries again; this try does not count.
		e.state.Attempts--
		e.state.Redelivered = true
		final = false
	case e.item.Once: // its caller is told, and nothing is kept
	case e.state.Attempts <= q.o.Retries && (ctx.Err() == nil):
		q.stats.Retries++
		e.state.Error = clipError(err)
		e.state.Due = time.Now().Add(q.o.Backoff(e.state.Attempts))
		final = false
	default:
		q.stats.Failed++
		e.state.Error = clipError(err)
		e.state.Died = time.Now()
		overflow = q.dropOldestDead()
	}
	c.seq = e.seq
	if !final || !e.state.Died.IsZero() {
		s := e.state
		c.state, c.of = &s, e
		q.settleIn(e)
	} else {
		delete(q.entries, e.item.ID)
	}
	reply := e.item.Reply
	if final {
		e.item.Reply = false // told below; a dead letter that is revived has nobody who waits
	}
	q.mu.Unlock()
	q.persist(c)
	if overflow != nil {
		q.persist(change{seq: overflow.seq})
		q.o.Logger.Error("too many dead letters: the oldest is dropped", "id", overflow.item.ID, "command", overflow.item.Command, "caller", overflow.item.Caller)
	}
	logTry(q.o.Logger, e.item, c.state, err)
	if final && reply {
		q.o.Settled(e.item.ID, result, err)
	}
}

// dropOldestDead makes room among the dead letters. mu is held.
func (q *local) dropOldestDead() *entry {
	if len(q.dead) < maxDead {
		return nil
	}
	oldest := q.dead[0]
	q.dead = q.dead[1:]
	delete(q.entries, oldest.item.ID)
	return oldest
}

// persist writes a change until the journal takes it.
func (q *local) persist(c change) {
	if q.journal == nil {
		return
	}
	q.journal.write(c, func(err error) {
		if err == nil || errors.Is(err, errJournalClosed) {
			return
		}
		q.o.Logger.Error("cannot note what became of a queued command; trying again", "command", q.o.Command, "err", err)
		time.AfterFunc(storeRetry, func() {
			if !q.overtaken(c) {
				q.persist(c)
			}
		})
	})
}

// overtaken tells whether a later change says what has become of the item since.
func (q *local) overtaken(c change) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return c.state != nil && c.of.state != *c.state
}

// do runs work within the item's deadline, and makes an error of a panic.
func do(ctx context.Context, item Item, work Work) (result json.RawMessage, err error) {
	if expired(item) {
		return nil, ErrExpired
	}
	if !item.Deadline.IsZero() {
		var cancel context.CancelFunc
		ctx, cancel = context.WithDeadline(ctx, item.Deadline)
		defer cancel()
	}
	defer func() {
		if v := recover(); v != nil {
			err = &PanicError{Value: v, Stack: debug.Stack()}
		}
	}()
	return work(ctx, item)
}

func expired(item Item) bool { return !item.Deadline.IsZero() && !time.Now().Before(item.Deadline) }

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

func clipError(err error) string {
	s := err.Error()
	return strings.ToValidUTF8(s[:min(len(s), maxError)], "")
}
