package queue_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/meshctl/meshctl/internal/mesh/queue"
	"github.com/meshctl/meshctl/internal/redisdb/redistest"
)

// A redis-server that is killed while it appends a transaction to its file may carry out a part of it when it
// is started for the second time. Nothing accepted is lost or stuck by that, and nothing is done twice that
// would not be without it.
func TestRedisCutTransactions(t *testing.T) {
	fail := func(until func(queue.Stats) bool) func(*testing.T, queue.Queue) {
		return func(t *testing.T, q queue.Queue) { work(t, q, errors.New("fails"), until) }
	}
	retried := fail(func(s queue.Stats) bool { return s.Retries > 1 })
	died := fail(func(s queue.Stats) bool { return s.Failed == 1 })
	for _, c := range []cutTransaction{
		{name: "add", marker: "XADD", again: 2, least: 1, before: func(*testing.T, queue.Queue) {}},
		{name: "add, sent again late", marker: "XADD", again: 4, least: 1, before: func(*testing.T, queue.Queue) {}},
		{name: "retry", marker: ":err", retries: 1000, least: 1, before: retried},
		{name: "promote", marker: "ZREM", retries: 1000, least: 1, before: retried},
		{name: "dead", marker: ":dead-r", least: 1, before: died},
		{name: "dead retry", marker: "XADD", least: 1, before: func(t *testing.T, q queue.Queue) {
			died(t, q)
			if n, err := q.Revive(t.Context()); n != 1 || err != nil {
				t.Fatal(n, err)
			}
		}},
		{name: "done", marker: "XACK", before: func(t *testing.T, q queue.Queue) {
			work(t, q, nil, func(s queue.Stats) bool { return s.Done == 1 })
		}},
	} {
		for _, worked := range []bool{false, true} {
			c := c
			c.worked = worked
			t.Run(fmt.Sprintf("%s, worked meanwhile %v", c.name, worked), func(t *testing.T) {
				t.Parallel()
				n := 1
				for c.after(t, n) {
					n++
				}
				if n < 4 {
					t.Errorf("cut after %d commands at most", n-1)
				}
			})
		}
	}
}

type cutTransaction struct {
	name    string
	marker  string // of the transaction, see redistest.Server.Cut
	retries int
	before  func(t *testing.T, q queue.Queue) // ends with that transaction
	again   int                               // in which life of the store its item is sent again; 0: never
	worked  bool                              // the queue is worked between the two starts
	least   int                               // times that it is done from then on, or is a dead letter
}

// after has redis-server killed after n commands of the transaction, and then once more. It reports false
// when the transaction is shorter.
func (c cutTransaction) after(t *testing.T, n int) bool {
	server := redistest.Start(t)
	life := 0
	use := func(use func(queue.Queue)) {
		life++
		s := openRedis(t, queue.RedisConfig{URL: server.URL(), Mesh: "m", Lease: 100 * time.Millisecond})
		defer s.Close()
		q, err := s.Queue("worker.note", queue.Options{
			Command: "note", Shared: true, Retries: c.retries, Backoff: func(int) time.Duration { return time.Millisecond },
		})
		if err != nil {
			t.Fatal(err)
		}
		use(q)
	}
	put := func(q queue.Queue, item queue.Item) {
		if err := add(t, q, item); err != nil && !errors.As(err, new(*queue.DuplicateError)) {
			t.Fatal(err)
		}
	}
	use(func(q queue.Queue) {
		put(q, queue.Item{ID: "a", Key: "k"})
		c.before(t, q)
	})
	server.Kill()
	if !server.Cut(c.marker, n) {
		return false
	}
	server.Restart()
	done := make(map[string]int)
	live := func(works bool) {
		use(func(q queue.Queue) {
			if c.again == life {
				put(q, queue.Item{ID: "b", Key: "k"})
			}
			put(q, queue.Item{ID: fmt.Sprint("other ", life)}) // another transaction, which ends the one that was cut
			if works {
				drained(t, q, done)
			}
		})
	}
	live(c.worked)
	server.Kill()
	server.Restart()
	live(true)
	live(true)
	use(func(q queue.Queue) {
		dead, err := q.Dead(t.Context(), 10)
		var st queue.Stats
		if await(t, "the counts", func() bool { st = q.Stats(); return st.Error == "" }); err != nil || len(dead) != st.Dead {
			t.Error(len(dead), st, err)
		}
		done["dead"] = len(dead)
	})
	for life := 2; life < 5; life++ {
		if times := done[fmt.Sprint("other ", life)]; times != 1 {
			t.Errorf("cut after %d commands: another item was done %d times", n, times)
		}
	}
	// What is flagged may have been done before.
	if times := done["a"] + done["b"]; times > 1 || times+done["a flagged"]+done["dead"] < c.least || times+done["dead"] > 1 {
		t.Errorf("cut after %d commands: %v", n, done)
	}
	return true
}

// What is told to redis-server between the two starts is kept, also where it is no transaction by itself.
func TestRedisCutTransactionIsEnded(t *testing.T) {
	server := redistest.Start(t)
	cfg := queue.RedisConfig{URL: server.URL(), Lease: time.Hour}
	q, s := redisQueue(t, cfg, queue.Options{})
	if err := add(t, q, queue.Item{ID: "a"}); err != nil {
		t.Fatal(err)
	}
	work(t, q, nil, func(s queue.Stats) bool { return s.Done == 1 })
	s.Close()
	server.Kill()
	if !server.Cut("XACK", 1) {
		t.Fatal("nothing to cut")
	}
	server.Restart()
	q, s = redisQueue(t, cfg, queue.Options{})
	stop := run(t, q, func(context.Context, queue.Item) (json.RawMessage, error) { return nil, nil })
	c := server.Client()
	defer c.Close()
	await(t, "the queue to be worked", func() bool {
		return strings.Contains(c.Info(t.Context(), "clients").Val(), "blocked_clients:1\r")
	})
	if err := q.SetClosed(t.Context(), true); err != nil {
		t.Fatal(err)
	}
	server.Kill()
	stop()
	s.Close()
	server.Restart()
	q, _ = redisQueue(t, cfg, queue.Options{})
	if err := add(t, q, queue.Item{ID: "b"}); !errors.Is(err, queue.ErrClosed) {
		t.Errorf("the queue was closed, but %v", err)
	}
}

// work works a queue, with this outcome for all, until its counters are as they have to be.
func work(t *testing.T, q queue.Queue, outcome error, until func(queue.Stats) bool) {
	t.Helper()
	stop := run(t, q, func(context.Context, queue.Item) (json.RawMessage, error) { return nil, outcome })
	await(t, "the work to be done", func() bool { return until(q.Stats()) })
	stop()
}

// drained works a queue until nothing waits, and notes how often each item was done.
func drained(t *testing.T, q queue.Queue, times map[string]int) {
	t.Helper()
	var mu sync.Mutex
	stop := run(t, q, func(_ context.Context, i queue.Item) (json.RawMessage, error) {
		mu.Lock()
		defer mu.Unlock()
		if i.Redelivered {
			i.ID += " flagged"
		}
		times[i.ID]++
		return nil, nil
	})
	await(t, "the queue to be empty", func() bool {
		s := q.Stats()
		return s.Error == "" && s.Waiting+s.Running == 0 && s.Done > 0
	})
	stop()
}
