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
	"time"

	"github.com/meshctl/meshctl/internal/pause"
	"golang.org/x/sync/errgroup"
)

// This file works on the items of a local queue: which one is next, what is noted before a try and after it.

// storeRetry is the pause before a change is written again that the journal refused.
const storeRetry = time.Second

// errUnreadable says that an item's payload cannot be read, which its tries fail with.
var errUnreadable = errors.New("it cannot be read from the store")

// errInterrupted is why an item is dead whose last try nobody saw the end of.
const errInterrupted = "the node ended while it was being worked on"

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

func clipError(err error) string {
	s := err.Error()
	return strings.ToValidUTF8(s[:min(len(s), maxError)], "")
}
