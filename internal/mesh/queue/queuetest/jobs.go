package queuetest

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/meshctl/meshctl/internal/mesh/queue"
)

var errOnPurpose = errors.New("on purpose")

// outcome is what Options.Settled was told.
type outcome struct {
	id     string
	result string
	err    error
}

func await(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("waited in vain for ", what)
		}
	}
}

func testRetry(t *testing.T, open Factory) {
	q := newQueue(t, open, queue.Options{Retries: 3})
	seen := make(chan queue.Item, 10)
	start(t, q, func(_ context.Context, i queue.Item) (json.RawMessage, error) {
		seen <- i
		if i.Attempt < 3 {
			return nil, errOnPurpose
		}
		return nil, nil
	})
	put(t, q, item(1))
	for attempt := 1; attempt <= 3; attempt++ {
		i := receive(t, seen)
		if i.ID != item(1).ID || i.Attempt != attempt || i.Redelivered || string(i.Payload) != string(item(1).Payload) {
			t.Fatalf("try %d: %+v", attempt, i)
		}
	}
	awaitEmpty(t, q)
	if s := stats(t, q); s.Retries != 2 || s.Done != 1 || s.Failed != 0 || s.Dead != 0 {
		t.Errorf("stats: %+v", s)
	}
}

func testDeadLetters(t *testing.T, open Factory) {
	q := newQueue(t, open, queue.Options{Retries: 1})
	var fine = make(chan struct{})
	worked := newList()
	start(t, q, func(_ context.Context, i queue.Item) (json.RawMessage, error) {
		select {
		case <-fine:
			worked.add(i.ID)
			return nil, nil
		default:
			return nil, errOnPurpose
		}
	})
	for n := range 4 {
		put(t, q, item(n))
	}
	await(t, "four dead letters", func() bool { return q.Stats().Dead == 4 })
	dead, err := q.Dead(t.Context(), 3)
	if err != nil || len(dead) != 3 {
		t.Fatalf("Dead: %d, %v; want 3", len(dead), err)
	}
	d := dead[0]
	if d.State != queue.StateDead || d.Error != errOnPurpose.Error() || d.Attempt != 2 || d.Died.IsZero() || string(d.Payload) == "" || d.Caller != "shop/s1" {
		t.Errorf("dead letter: %+v", d)
	}
	if n, err := q.Bury(t.Context(), item(0).ID, "nobody"); n != 1 || err != nil {
		t.Errorf("Bury: %d, %v", n, err)
	}
	close(fine)
	if n, err := q.Revive(t.Context(), item(1).ID); n != 1 || err != nil {
		t.Errorf("Revive: %d, %v", n, err)
	}
	worked.await(t, 1)
	if n, err := q.Revive(t.Context()); n != 2 || err != nil {
		t.Errorf("Revive all: %d, %v", n, err)
	}
	worked.await(t, 3)
	awaitEmpty(t, q)
	if n, err := q.Bury(t.Context()); n != 0 || err != nil {
		t.Errorf("Bury of nothing: %d, %v", n, err)
	}
	if ids := worked.all(); slices.Contains(ids, item(0).ID) || ids[0] != item(1).ID {
		t.Errorf("worked on %v", ids)
	}
}

// The failure of an item with Once is final, and no dead letter.
func testOnce(t *testing.T, open Factory) {
	settled := make(chan outcome, 2)
	q := newQueue(t, open, queue.Options{Retries: 5, Settled: func(id string, result json.RawMessage, err error) {
		settled <- outcome{id, string(result), err}
	}})
	start(t, q, func(context.Context, queue.Item) (json.RawMessage, error) { return nil, errOnPurpose })
	i := item(1)
	i.Once, i.Reply = true, true
	put(t, q, i)
	if o := receive(t, settled); o.id != i.ID || o.err == nil || o.err.Error() != errOnPurpose.Error() {
		t.Errorf("settled: %+v", o)
	}
	awaitEmpty(t, q)
	if s := stats(t, q); s.Dead != 0 || s.Retries != 0 || s.Failed != 0 {
		t.Errorf("stats: %+v", s)
	}
}

// Whoever waits learns of the last try only.
func testSettled(t *testing.T, open Factory) {
	settled := make(chan outcome, 4)
	q := newQueue(t, open, queue.Options{Retries: 1, Settled: func(id string, result json.RawMessage, err error) {
		settled <- outcome{id, string(result), err}
	}})
	start(t, q, func(_ context.Context, i queue.Item) (json.RawMessage, error) {
		if i.ID == item(2).ID || i.Attempt == 1 {
			return nil, errOnPurpose
		}
		return json.RawMessage(`{"a":1}`), nil
	})
	good, bad := item(1), item(2)
	good.Reply, bad.Reply = true, true
	put(t, q, good)
	if o := receive(t, settled); o.id != good.ID || o.err != nil || o.result != `{"a":1}` {
		t.Errorf("settled: %+v", o)
	}
	put(t, q, bad)
	if o := receive(t, settled); o.id != bad.ID || o.err == nil || o.err.Error() != errOnPurpose.Error() {
		t.Errorf("settled: %+v", o)
	}
	put(t, q, item(3))
	awaitEmpty(t, q)
	if len(settled) > 0 {
		t.Errorf("told of an item that nobody waits for: %+v", <-settled)
	}
}

func testDuplicates(t *testing.T, open Factory) {
	q := newQueue(t, open, queue.Options{Window: time.Hour})
	first, again, other := item(1), item(2), item(3)
	first.Key, again.Key, other.Key = "k", "k", "l"
	put(t, q, first)
	var dup *queue.DuplicateError
	if err := add(t, q, again); !errors.As(err, &dup) || dup.ID != first.ID || dup.Over {
		t.Errorf("while it waits: %v", err)
	}
	put(t, q, other)
	put(t, q, item(4)) // without a key
	put(t, q, item(5))
	got := newList()
	start(t, q, succeed(func(_ context.Context, i queue.Item) { got.add(i.ID) }))
	got.await(t, 4)
	awaitEmpty(t, q)
	if err := add(t, q, again); !errors.As(err, &dup) || !dup.Over {
		t.Errorf("when it is done: %v", err)
	}
	if s := stats(t, q); s.Duplicates != 2 || s.Accepted != 4 {
		t.Errorf("stats: %+v", s)
	}
}

func testClosed(t *testing.T, open Factory) {
	q := newQueue(t, open, queue.Options{})
	put(t, q, item(1))
	if err := q.SetClosed(t.Context(), true); err != nil {
		t.Fatal(err)
	}
	if err := add(t, q, item(2)); !errors.Is(err, queue.ErrClosed) {
		t.Errorf("closed: %v, want ErrClosed", err)
	}
	got := newList()
	start(t, q, succeed(func(_ context.Context, i queue.Item) { got.add(i.ID) }))
	got.await(t, 1)
	awaitEmpty(t, q)
	if err := q.SetClosed(t.Context(), false); err != nil {
		t.Fatal(err)
	}
	put(t, q, item(3))
	got.await(t, 2)
}

func testWithdraw(t *testing.T, open Factory) {
	q := newQueue(t, open, queue.Options{})
	put(t, q, item(1))
	put(t, q, item(2))
	if !q.Withdraw(t.Context(), item(1).ID) || q.Withdraw(t.Context(), item(1).ID) || q.Withdraw(t.Context(), "nobody") {
		t.Error("Withdraw did not remove the item that waits, once")
	}
	got := newList()
	start(t, q, succeed(func(_ context.Context, i queue.Item) { got.add(i.ID) }))
	got.await(t, 1)
	awaitEmpty(t, q)
	if ids := got.all(); !slices.Equal(ids, []string{item(2).ID}) {
		t.Errorf("worked on %v", ids)
	}
}

func testPurge(t *testing.T, open Factory) {
	settled := make(chan outcome, 2)
	q := newQueue(t, open, queue.Options{Settled: func(id string, _ json.RawMessage, err error) { settled <- outcome{id: id, err: err} }})
	began, release := make(chan struct{}, 4), make(chan struct{})
	start(t, q, succeed(func(context.Context, queue.Item) {
		began <- struct{}{}
		<-release
	}))
	put(t, q, item(1))
	receive(t, began)
	put(t, q, item(2))
	waited := item(3)
	waited.Reply = true
	put(t, q, waited)
	if n, err := q.Purge(t.Context()); n != 2 || err != nil {
		t.Errorf("Purge: %d, %v; want 2", n, err)
	}
	if o := receive(t, settled); o.id != waited.ID || !errors.Is(o.err, queue.ErrPurged) {
		t.Errorf("settled: %+v", o)
	}
	if n := length(t, q); n != 1 {
		t.Errorf("%d left, want the one that is being worked on", n)
	}
	close(release)
	awaitEmpty(t, q)
	if len(began) > 0 {
		t.Error("an item was worked on that was purged")
	}
}

func testHalt(t *testing.T, open Factory) {
	q := newQueue(t, open, queue.Options{})
	began, release := make(chan string, 4), make(chan struct{})
	start(t, q, succeed(func(_ context.Context, i queue.Item) {
		began <- i.ID
		<-release
	}))
	put(t, q, item(1))
	put(t, q, item(2))
	receive(t, began)
	q.Halt()
	close(release)
	await(t, "the first to end", func() bool { return stats(t, q).Running == 0 })
	select {
	case id := <-began:
		t.Errorf("%s was begun after Halt", id)
	case <-time.After(50 * time.Millisecond):
	}
	if n := length(t, q); n != 1 {
		t.Errorf("%d left, want 1", n)
	}
}

func testPeek(t *testing.T, open Factory) {
	q := newQueue(t, open, queue.Options{Retries: 5, Backoff: func(int) time.Duration { return time.Hour }})
	began, release := make(chan struct{}, 4), make(chan struct{})
	start(t, q, func(_ context.Context, i queue.Item) (json.RawMessage, error) {
		if i.ID == item(1).ID {
			return nil, errOnPurpose
		}
		began <- struct{}{}
		<-release
		return nil, nil
	})
	put(t, q, item(1))
	await(t, "the first to fail", func() bool { return q.Stats().Delayed == 1 })
	put(t, q, item(2))
	receive(t, began)
	put(t, q, item(3))
	all, err := q.Peek(t.Context(), 10)
	if err != nil || len(all) != 3 {
		t.Fatalf("Peek: %d entries, %v", len(all), err)
	}
	for n, want := range []struct{ id, state string }{
		{item(2).ID, queue.StateRunning}, {item(3).ID, queue.StateWaiting}, {item(1).ID, queue.StateDelayed},
	} {
		if all[n].ID != want.id || all[n].State != want.state {
			t.Errorf("place %d: %s %s, want %s %s", n, all[n].ID, all[n].State, want.id, want.state)
		}
	}
	if last := all[2]; last.Error != errOnPurpose.Error() || time.Until(last.Due) < time.Minute || last.Attempt != 1 || string(last.Payload) != string(item(1).Payload) {
		t.Errorf("delayed: %+v", last)
	}
	if some, err := q.Peek(t.Context(), 1); err != nil || len(some) != 1 {
		t.Errorf("Peek of one: %d, %v", len(some), err)
	}
	await(t, "an age of the oldest", func() bool { return q.Stats().OldestMillis > 0 })
	if s := stats(t, q); s.Waiting != 2 || s.Running != 1 {
		t.Errorf("stats: %+v", s)
	}
	close(release)
}

// What a durable store has accepted is there when it is opened again, and what was decided.
func testReopen(t *testing.T, open Factory) {
	again := open(t)
	s := again()
	if !s.Durable() {
		t.Skip("the store is not durable")
	}
	q := openQueue(t, s, queue.Options{Window: time.Hour})
	ctx, cancel := context.WithCancel(t.Context())
	done, ended := make(chan struct{}), make(chan error, 1)
	go func() {
		ended <- q.Run(ctx, func(_ context.Context, i queue.Item) (json.RawMessage, error) {
			switch i.ID {
			case item(1).ID:
				return nil, errOnPurpose
			case item(2).ID:
				defer q.Halt()
				defer close(done)
			}
			return nil, nil
		})
	}()
	keyed := item(2)
	keyed.Key = "k"
	put(t, q, item(1)) // no retries: a dead letter
	put(t, q, keyed)
	receive(t, done)
	put(t, q, item(3))
	put(t, q, item(4))
	await(t, "the second to end", func() bool { return q.Stats().Done == 1 })
	cancel()
	if err := receive(t, ended); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}

	q = openQueue(t, newStore(t, again), queue.Options{Window: time.Hour})
	await(t, "the counts to be known", func() bool { st := stats(t, q); return st.Waiting == 2 && st.Dead == 1 })
	dead, err := q.Dead(t.Context(), 10)
	if err != nil || len(dead) != 1 || dead[0].ID != item(1).ID || dead[0].Error != errOnPurpose.Error() {
		t.Errorf("dead letters: %+v, %v", dead, err)
	}
	var dup *queue.DuplicateError
	keyed.ID = "another"
	if err := add(t, q, keyed); !errors.As(err, &dup) || !dup.Over {
		t.Errorf("an item whose key was accepted before: %v", err)
	}
	got := make(chan queue.Item, 4)
	start(t, q, succeed(func(_ context.Context, i queue.Item) { got <- i }))
	for _, n := range []int{3, 4} {
		if i := receive(t, got); i.ID != item(n).ID || i.Attempt != 1 || i.Redelivered {
			t.Errorf("got %+v, want %s at its first try", i, item(n).ID)
		}
	}
	awaitEmpty(t, q)
}

// Work that the end of Run interrupts is done again, and flagged.
func testInterrupted(t *testing.T, open Factory) {
	again := open(t)
	s := again()
	if !s.Durable() {
		t.Skip("the store is not durable")
	}
	q := openQueue(t, s, queue.Options{})
	ctx, cancel := context.WithCancel(t.Context())
	began, ended := make(chan struct{}), make(chan error, 1)
	go func() {
		ended <- q.Run(ctx, func(ctx context.Context, _ queue.Item) (json.RawMessage, error) {
			close(began)
			<-ctx.Done()
			return nil, ctx.Err()
		})
	}()
	put(t, q, item(1))
	receive(t, began)
	cancel()
	if err := receive(t, ended); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	q = openQueue(t, newStore(t, again), queue.Options{})
	got := make(chan queue.Item, 1)
	start(t, q, succeed(func(_ context.Context, i queue.Item) { got <- i }))
	if i := receive(t, got); i.ID != item(1).ID || !i.Redelivered {
		t.Errorf("got %+v, want it flagged as redelivered", i)
	}
	awaitEmpty(t, q)
}
