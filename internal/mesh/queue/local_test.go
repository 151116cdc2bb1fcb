package queue

import (
	"context"
	"encoding/json"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// fullJournal has no room for the first thing that is to be noted about a try that has ended.
type fullJournal struct {
	mu      sync.Mutex
	refused bool
	last    state
}

func (j *fullJournal) write(c change, done func(error)) {
	done(j.note(c))
}

func (j *fullJournal) note(c change) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	switch {
	case c.state == nil:
	case !c.state.Begun && !j.refused:
		j.refused = true
		return errors.New("no space left on device")
	default:
		j.last = *c.state
	}
	return nil
}

func (*fullJournal) payload(uint64) (json.RawMessage, error) { return json.RawMessage("null"), nil }

// What could not be noted about a try is not noted any more when the next one has begun: after a crash nobody would
// know of that.
func TestLateNoteOfATry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var j fullJournal
		q := newLocal("embedded", Options{Retries: 5, Backoff: func(int) time.Duration { return storeRetry / 2 }}, &j)
		q.Add(Item{ID: "a"}, func(err error) {
			if err != nil {
				t.Error(err)
			}
		})
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		go q.Run(ctx, func(ctx context.Context, i Item) (json.RawMessage, error) {
			if i.Attempt > 1 {
				<-ctx.Done()
			}
			return nil, errors.New("fails")
		})
		time.Sleep(3 * storeRetry)
		synctest.Wait()
		j.mu.Lock()
		defer j.mu.Unlock()
		if !j.refused || !j.last.Begun || j.last.Attempts != 2 {
			t.Errorf("refused: %v; the journal has %+v of a second try that has begun", j.refused, j.last)
		}
	})
}

// holedJournal cannot read the first item's payload.
type holedJournal struct{ fullJournal }

func (j *holedJournal) payload(seq uint64) (json.RawMessage, error) {
	if seq == 1 {
		return nil, errDamaged
	}
	return j.fullJournal.payload(seq)
}

// An item that cannot be read does not hold up those behind it: it becomes a dead letter that says why, and is shown.
func TestUnreadableItem(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := newLocal("embedded", Options{Retries: 2}, &holedJournal{fullJournal{refused: true}})
		for _, id := range []string{"a", "b"} {
			q.Add(Item{ID: id}, func(err error) {
				if err != nil {
					t.Error(err)
				}
			})
		}
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		worked := make(chan string, 10)
		go q.Run(ctx, func(_ context.Context, i Item) (json.RawMessage, error) { worked <- i.ID; return nil, nil })
		if id := <-worked; id != "b" {
			t.Errorf("worked on %s, want b", id)
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		dead, err := q.Dead(ctx, 10)
		if err != nil || len(dead) != 1 || dead[0].ID != "a" || dead[0].Attempt != 3 || len(worked) != 0 {
			t.Errorf("dead letters: %+v, %v; %d more were worked on", dead, err, len(worked))
		} else if want := "it cannot be read from the store: the file is damaged"; dead[0].Error != want {
			t.Errorf("the error is %q, want %q", dead[0].Error, want)
		}
	})
}

// A request that brought its node down as often as it may be tried has that many tries as a dead letter.
func TestInterruptedTooOften(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := newLocal("embedded", Options{Retries: 1}, nil)
		q.restore(1, Item{ID: "a"}, 0, state{Attempts: 2, Begun: true})
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		go q.Run(ctx, func(context.Context, Item) (json.RawMessage, error) { t.Error("tried again"); return nil, nil })
		synctest.Wait()
		if dead, err := q.Dead(ctx, 10); err != nil || len(dead) != 1 || dead[0].Attempt != 2 || dead[0].Error != errInterrupted {
			t.Errorf("dead letters: %+v, %v", dead, err)
		}
	})
}
