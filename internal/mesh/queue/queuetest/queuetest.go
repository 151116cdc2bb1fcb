// Package queuetest holds the tests that every queue.Queue must pass.
package queuetest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/meshctl/meshctl/internal/mesh/queue"
)

// Factory makes an empty place for a store, and gives what opens the store there: again and
// again, each time after the one before was closed. It may use t.Cleanup.
type Factory func(t *testing.T) (open func() queue.Store)

// patience bounds each wait; nothing waits so long unless it fails.
const patience = 20 * time.Second

// Run runs all tests, each on queues of its own.
func Run(t *testing.T, open Factory) {
	tests := []struct {
		name string
		test func(*testing.T, Factory)
	}{
		{"Order", testOrder},
		{"Retry", testRetry},
		{"DeadLetters", testDeadLetters},
		{"Once", testOnce},
		{"Settled", testSettled},
		{"Duplicates", testDuplicates},
		{"Closed", testClosed},
		{"Withdraw", testWithdraw},
		{"Purge", testPurge},
		{"Halt", testHalt},
		{"Peek", testPeek},
		{"Reopen", testReopen},
		{"Interrupted", testInterrupted},
		{"OneAtATime", testOneAtATime},
		{"Workers", testWorkers},
		{"ItemUnchanged", testItemUnchanged},
		{"Full", testFull},
		{"PanicAndErrorDoNotStopIt", testPanic},
		{"ExpiredIsNotWorkedOn", testExpired},
		{"DeadlineEndsWork", testDeadlineEndsWork},
		{"EndOfRun", testEndOfRun},
		{"ConcurrentPut", testConcurrentPut},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) { tt.test(t, open) })
	}
}

// start runs q until the returned stop is called, which waits for Run to return.
func start(t *testing.T, q queue.Queue, work queue.Work) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- q.Run(ctx, work) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := receive(t, ended); err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	t.Cleanup(stop)
	return stop
}

func receive[T any](t *testing.T, c <-chan T) (v T) {
	t.Helper()
	select {
	case v = <-c:
	case <-time.After(patience):
		t.Fatal("waited in vain")
	}
	return v
}

// newQueue opens a store that is closed at the end of the test, with one queue.
func newQueue(t *testing.T, open Factory, o queue.Options) queue.Queue {
	t.Helper()
	return openQueue(t, newStore(t, open(t)), o)
}

func newStore(t *testing.T, open func() queue.Store) queue.Store {
	t.Helper()
	s := open()
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Errorf("close the store: %v", err)
		}
	})
	return s
}

func openQueue(t *testing.T, s queue.Store, o queue.Options) queue.Queue {
	t.Helper()
	o.Command = "note"
	if o.Backoff == nil {
		o.Backoff = func(int) time.Duration { return time.Millisecond }
	}
	q, err := s.Queue("note", o)
	if err != nil {
		t.Fatal(err)
	}
	return q
}

// add adds an item and waits until it is stored or not.
func add(t *testing.T, q queue.Queue, item queue.Item) error {
	t.Helper()
	stored := make(chan error, 2)
	q.Add(item, func(err error) { stored <- err })
	return receive(t, stored)
}

func put(t *testing.T, q queue.Queue, item queue.Item) {
	t.Helper()
	if err := add(t, q, item); err != nil {
		t.Fatalf("Add %s: %v", item.ID, err)
	}
}

// stats are what the queue says when its store answers: one that is asked over a network may take longer on a busy
// machine than Stats waits, and what it gives then is old.
func stats(t *testing.T, q queue.Queue) (s queue.Stats) {
	t.Helper()
	await(t, "the store to say what it has", func() bool { s = q.Stats(); return s.Error == "" })
	return s
}

// length counts the items that wait or are being worked on.
func length(t *testing.T, q queue.Queue) int {
	t.Helper()
	s := stats(t, q)
	return s.Waiting + s.Running
}

// succeed makes work of something that cannot fail.
func succeed(f func(ctx context.Context, i queue.Item)) queue.Work {
	return func(ctx context.Context, i queue.Item) (json.RawMessage, error) {
		f(ctx, i)
		return json.RawMessage(`"done"`), nil
	}
}

func item(n int) queue.Item {
	return queue.Item{
		ID:       fmt.Sprintf("item-%d", n),
		Command:  "note",
		Caller:   "shop/s1",
		Payload:  json.RawMessage(fmt.Sprintf(`{"n":%d}`, n)),
		Enqueued: time.Now(),
	}
}

func testOrder(t *testing.T, open Factory) {
	q := newQueue(t, open, queue.Options{})
	got := newList()
	for n := range 20 { // before Run …
		put(t, q, item(n))
	}
	if n := length(t, q); n != 20 {
		t.Errorf("Len before Run: %d, want 20", n)
	}
	start(t, q, succeed(func(_ context.Context, i queue.Item) { got.add(i.ID) }))
	for n := 20; n < 40; n++ { // … and during
		put(t, q, item(n))
	}
	got.await(t, 40)
	for n, id := range got.all() {
		if id != item(n).ID {
			t.Fatalf("place %d: got %s in %v", n, id, got.all())
		}
	}
	awaitEmpty(t, q)
}

func testOneAtATime(t *testing.T, open Factory) {
	q := newQueue(t, open, queue.Options{})
	var busy sync.Mutex
	got := newList()
	start(t, q, func(_ context.Context, i queue.Item) (json.RawMessage, error) {
		if !busy.TryLock() {
			t.Error("two items at once")
			return nil, nil
		}
		defer busy.Unlock()
		time.Sleep(time.Millisecond) // room for another worker to be seen
		got.add(i.ID)
		return nil, nil
	})
	for n := range 20 {
		put(t, q, item(n))
	}
	got.await(t, 20)
}

func testWorkers(t *testing.T, open Factory) {
	const workers = 3
	q := newQueue(t, open, queue.Options{Workers: workers})
	began, release := make(chan struct{}, workers+1), make(chan struct{})
	start(t, q, func(context.Context, queue.Item) (json.RawMessage, error) {
		began <- struct{}{}
		<-release
		return nil, nil
	})
	for n := range workers + 1 {
		put(t, q, item(n))
	}
	for range workers {
		receive(t, began)
	}
	if n := length(t, q); n != workers+1 {
		t.Errorf("Len: %d, want %d: what is worked on counts", n, workers+1)
	}
	select {
	case <-began:
		t.Errorf("more than %d at once", workers)
	case <-time.After(20 * time.Millisecond):
	}
	close(release)
	receive(t, began)
	awaitEmpty(t, q)
}

func testItemUnchanged(t *testing.T, open Factory) {
	q := newQueue(t, open, queue.Options{})
	want := queue.Item{
		ID: "a-1", UID: "6f1c", Command: "note", Caller: "shop/s1",
		Payload:  json.RawMessage(`{"text":"ä <b> & \u2028","n":[1,2.5,null]}`),
		Enqueued: time.Now(),
		Deadline: time.Now().Add(time.Hour),
	}
	got := make(chan queue.Item, 1)
	start(t, q, succeed(func(_ context.Context, i queue.Item) { got <- i }))
	put(t, q, want)
	i := receive(t, got)
	if i.ID != want.ID || i.UID != want.UID || i.Command != want.Command || i.Caller != want.Caller ||
		string(i.Payload) != string(want.Payload) {
		t.Errorf("got %+v, want %+v", i, want)
	}
	if d := i.Enqueued.Sub(want.Enqueued).Abs(); d > time.Millisecond {
		t.Errorf("Enqueued is off by %v", d)
	}
	if d := i.Deadline.Sub(want.Deadline).Abs(); d > time.Minute { // counted anew where clocks may differ
		t.Errorf("Deadline is off by %v", d)
	}
}

func testFull(t *testing.T, open Factory) {
	q := newQueue(t, open, queue.Options{MaxDepth: 3})
	for n := range 3 {
		put(t, q, item(n))
	}
	if err := add(t, q, item(3)); !errors.Is(err, queue.ErrFull) {
		t.Fatalf("Put over the bound: %v, want ErrFull", err)
	}
	got := newList()
	start(t, q, succeed(func(_ context.Context, i queue.Item) { got.add(i.ID) }))
	got.await(t, 3)
	awaitEmpty(t, q)
	put(t, q, item(4)) // there is room again
	got.await(t, 4)
	if slices.Contains(got.all(), item(3).ID) {
		t.Error("an item was worked on that was not taken")
	}
}

func testPanic(t *testing.T, open Factory) {
	q := newQueue(t, open, queue.Options{})
	var mu sync.Mutex
	seen := map[string]bool{}
	got := newList()
	start(t, q, func(_ context.Context, i queue.Item) (json.RawMessage, error) {
		mu.Lock()
		again := seen[i.ID]
		seen[i.ID] = true
		mu.Unlock()
		switch {
		case i.ID == item(1).ID && !again:
			panic("on purpose")
		case i.ID == item(2).ID && !again:
			return nil, errors.New("on purpose")
		case i.ID == item(3).ID:
			got.add(i.ID)
		}
		return nil, nil
	})
	for n := 1; n <= 3; n++ {
		put(t, q, item(n))
	}
	got.await(t, 1)
	awaitEmpty(t, q)
}

func testExpired(t *testing.T, open Factory) {
	q := newQueue(t, open, queue.Options{})
	late := item(1)
	late.Deadline = time.Now().Add(-time.Second)
	put(t, q, late)
	put(t, q, item(2))
	got := newList()
	start(t, q, succeed(func(_ context.Context, i queue.Item) { got.add(i.ID) }))
	got.await(t, 1)
	awaitEmpty(t, q)
	if ids := got.all(); !slices.Equal(ids, []string{item(2).ID}) {
		t.Errorf("worked on %v", ids)
	}
}

func testDeadlineEndsWork(t *testing.T, open Factory) {
	q := newQueue(t, open, queue.Options{})
	ended := make(chan error, 1)
	start(t, q, func(ctx context.Context, _ queue.Item) (json.RawMessage, error) {
		<-ctx.Done()
		ended <- ctx.Err()
		return nil, nil
	})
	for n := 1; ; n++ { // on a busy machine one may expire before its turn
		i := item(n)
		i.Deadline = time.Now().Add(time.Duration(n) * time.Second)
		put(t, q, i)
		await(t, "the work to end, or the item to expire", func() bool { return len(ended) > 0 || stats(t, q).Expired == uint64(n) })
		if stats(t, q).Expired < uint64(n) {
			break
		}
		if n == 10 {
			t.Fatal("no item was worked on before its deadline")
		}
	}
	if err := receive(t, ended); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("context ended with %v", err)
	}
}

func testEndOfRun(t *testing.T, open Factory) {
	q := newQueue(t, open, queue.Options{})
	began, ended := make(chan struct{}, 1), make(chan error, 1)
	stop := start(t, q, func(ctx context.Context, i queue.Item) (json.RawMessage, error) {
		if i.ID != item(1).ID {
			t.Errorf("%s was begun after the end", i.ID)
			return nil, nil
		}
		began <- struct{}{}
		<-ctx.Done()
		ended <- ctx.Err()
		return nil, ctx.Err()
	})
	put(t, q, item(1))
	put(t, q, item(2))
	receive(t, began)
	stop()
	select { // stop waited for Run, and Run for work
	case err := <-ended:
		if !errors.Is(err, context.Canceled) {
			t.Errorf("the running work's context ended with %v", err)
		}
	default:
		t.Error("Run returned before the work it ran")
	}
	if err := add(t, q, item(3)); !errors.Is(err, queue.ErrClosed) {
		t.Errorf("Put after Run: %v, want ErrClosed", err)
	}
}

func testConcurrentPut(t *testing.T, open Factory) {
	q := newQueue(t, open, queue.Options{})
	got := newList()
	start(t, q, succeed(func(_ context.Context, i queue.Item) { got.add(i.ID) }))
	var wg sync.WaitGroup
	for g := range 4 {
		wg.Go(func() {
			for n := range 20 {
				if err := add(t, q, item(100*g+n)); err != nil {
					t.Errorf("Put: %v", err)
				}
			}
		})
	}
	wg.Wait()
	got.await(t, 80)
	awaitEmpty(t, q)
	ids := got.all()
	slices.Sort(ids)
	if n := len(slices.Compact(ids)); n != 80 {
		t.Errorf("%d different items, want 80", n)
	}
	if err := q.Run(t.Context(), nil); err == nil {
		t.Error("a second Run did not fail")
	}
}

func awaitEmpty(t *testing.T, q queue.Queue) {
	t.Helper()
	await(t, "the queue to be empty", func() bool { return length(t, q) == 0 })
}

// list collects ids and lets a test wait for their number.
type list struct {
	mu    sync.Mutex
	ids   []string
	added chan struct{}
}

func newList() *list { return &list{added: make(chan struct{}, 1000)} }

func (l *list) add(id string) {
	l.mu.Lock()
	l.ids = append(l.ids, id)
	l.mu.Unlock()
	l.added <- struct{}{}
}

func (l *list) all() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.ids)
}

func (l *list) await(t *testing.T, n int) {
	t.Helper()
	for len(l.all()) < n {
		receive(t, l.added)
	}
}
