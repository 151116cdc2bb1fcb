package queue

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"
)

// Stats tells what the queue has at present.
func (q *local) Stats() Stats {
	q.mu.Lock()
	defer q.mu.Unlock()
	s := q.stats
	s.Command, s.Backend, s.MaxDepth = q.o.Command, q.backend, q.o.MaxDepth
	s.Waiting, s.Delayed, s.Running, s.Dead = q.depth(), len(q.later.entries), len(q.busy), len(q.dead)
	var oldest *entry
	if len(q.ready.entries) > 0 {
		oldest = q.ready.entries[0]
	}
	for e := range q.busy {
		if oldest == nil || e.seq < oldest.seq {
			oldest = e
		}
	}
	for _, e := range q.later.entries {
		if oldest == nil || e.seq < oldest.seq {
			oldest = e
		}
	}
	if oldest != nil {
		s.OldestMillis = max(0, time.Since(oldest.item.Enqueued).Milliseconds())
	}
	return s
}

// Peek gives the first items: those being worked on, those that wait, those that are delayed.
func (q *local) Peek(_ context.Context, limit int) ([]Entry, error) {
	q.mu.Lock()
	all := make([]*entry, 0, len(q.busy)+len(q.ready.entries)+len(q.later.entries))
	for e := range q.busy {
		all = append(all, e)
	}
	all = append(append(all, q.ready.entries...), q.later.entries...)
	slices.SortFunc(all, func(a, b *entry) int {
		return cmp.Or(cmp.Compare(order(a.place), order(b.place)), cmp.Compare(a.seq, b.seq))
	})
	return q.show(all, limit)
}

func order(p place) int {
	switch p {
	case running:
		return 0
	case waiting:
		return 1
	}
	return 2
}

// Dead gives the oldest dead letters.
func (q *local) Dead(_ context.Context, limit int) ([]Entry, error) {
	q.mu.Lock()
	return q.show(slices.Clone(q.dead), limit)
}

// show gives entries with their payloads. mu is held, and released.
func (q *local) show(from []*entry, limit int) ([]Entry, error) {
	from = from[:min(len(from), limit)]
	out := make([]Entry, len(from))
	seqs := make([]uint64, len(from))
	for i, e := range from {
		seqs[i] = e.seq
		x := Entry{Item: e.item, Error: e.state.Error, Died: e.state.Died}
		x.Attempt, x.Redelivered = e.state.Attempts, e.state.Redelivered
		switch e.place {
		case running:
			x.State = StateRunning
		case delayed:
			x.State, x.Due = StateDelayed, e.state.Due
		case dead:
			x.State = StateDead
		default:
			x.State = StateWaiting
		}
		out[i] = x
	}
	q.mu.Unlock()
	if q.journal == nil {
		return out, nil
	}
	kept := out[:0]
	for i := range out {
		payload, err := q.journal.payload(seqs[i])
		if errors.Is(err, errGone) {
			continue // done in the meantime
		}
		if err != nil {
			out[i].Error = cmp.Or(out[i].Error, fmt.Errorf("%w: %w", errUnreadable, err).Error())
		}
		out[i].Payload = payload
		kept = append(kept, out[i])
	}
	return kept, nil
}

// Revive puts dead letters back into the queue.
func (q *local) Revive(_ context.Context, ids ...string) (int, error) {
	return q.fromDead(ids, func(e *entry) change {
		e.state = state{Redelivered: e.state.Redelivered}
		q.settleIn(e)
		s := e.state
		return change{seq: e.seq, state: &s, of: e}
	})
}

// Bury removes dead letters for good.
func (q *local) Bury(_ context.Context, ids ...string) (int, error) {
	return q.fromDead(ids, func(e *entry) change {
		delete(q.entries, e.item.ID)
		return change{seq: e.seq}
	})
}

// fromDead takes dead letters out, all without ids, and does to each what to says, mu held.
func (q *local) fromDead(ids []string, to func(*entry) change) (int, error) {
	q.mu.Lock()
	var changes []change
	q.dead = slices.DeleteFunc(q.dead, func(e *entry) bool {
		if len(ids) > 0 && !slices.Contains(ids, e.item.ID) {
			return false
		}
		changes = append(changes, to(e))
		return true
	})
	q.mu.Unlock()
	return len(changes), q.writeAll(changes)
}

// Purge removes all items that wait.
func (q *local) Purge(context.Context) (int, error) {
	q.mu.Lock()
	gone := slices.Concat(q.ready.entries, q.later.entries)
	changes := make([]change, len(gone))
	for i, e := range gone {
		delete(q.entries, e.item.ID)
		q.bytes -= e.size
		changes[i] = change{seq: e.seq}
	}
	q.ready.entries, q.later.entries = nil, nil
	q.mu.Unlock()
	for _, e := range gone {
		q.settled(e, nil, ErrPurged)
	}
	return len(gone), q.writeAll(changes)
}

// writeAll waits until the journal has the changes.
func (q *local) writeAll(changes []change) error {
	if q.journal == nil {
		return nil
	}
	done := make(chan error, len(changes))
	for _, c := range changes {
		q.journal.write(c, func(err error) {
			if err != nil {
				q.persist(c)
			}
			done <- err
		})
	}
	var first error
	for range changes {
		if err := <-done; first == nil {
			first = err
		}
	}
	return first
}

// settled tells the outcome of an item to whoever waits for it.
func (q *local) settled(e *entry, result json.RawMessage, err error) {
	if e.item.Reply {
		q.o.Settled(e.item.ID, result, err)
	}
}
