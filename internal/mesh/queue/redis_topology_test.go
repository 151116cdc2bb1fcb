package queue_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/meshctl/meshctl/internal/mesh/queue"
	"github.com/meshctl/meshctl/internal/mesh/queue/queuetest"
	"github.com/meshctl/meshctl/internal/redisdb/redistest"
)

// lease is so short that what was lost on its way to a worker is soon given to another.
const lease = 2 * time.Second

// worked notes which items were worked on.
type worked struct {
	mu  sync.Mutex
	ids map[string]int
}

func (w *worked) work(_ context.Context, i queue.Item) (json.RawMessage, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.ids == nil {
		w.ids = map[string]int{}
	}
	w.ids[i.ID]++
	return json.RawMessage(`"` + i.ID + `"`), nil
}

// await waits until all that was accepted is done, and complains of what was not.
func (w *worked) await(t *testing.T, accepted []string) {
	t.Helper()
	done := func() []string {
		w.mu.Lock()
		defer w.mu.Unlock()
		return slices.Sorted(maps.Keys(w.ids))
	}
	for end := time.Now().Add(patience); !slices.Equal(done(), accepted); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("done: %q, accepted: %q", done(), accepted)
		}
	}
}

// addUntil adds an item until it is accepted.
func addUntil(t *testing.T, q queue.Queue, id string) {
	t.Helper()
	var err error
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		var dup *queue.DuplicateError
		if err = add(t, q, queue.Item{ID: id, Key: id}); err == nil || errors.As(err, &dup) {
			return
		}
	}
	t.Fatalf("%s is not accepted: %v", id, err)
}

// A cluster keeps queues as one server does; one of its servers that is killed takes with it,
// for a while, those that it has.
func TestRedisCluster(t *testing.T) {
	cluster := redistest.StartCluster(t)
	t.Run("suite", func(t *testing.T) {
		queuetest.Run(t, func(t *testing.T) func() queue.Store {
			return func() queue.Store {
				return openRedis(t, queue.RedisConfig{URL: cluster.URL(), Mesh: t.Name()})
			}
		})
	})
	outcomes := make(chan string, 1)
	caller, _ := redisQueue(t, queue.RedisConfig{URL: cluster.URL(), Name: "caller", Lease: lease}, queue.Options{Settled: func(id string, result json.RawMessage, err error) {
		outcomes <- fmt.Sprint(id, " ", string(result), " ", err)
	}})
	worker, store := redisQueue(t, queue.RedisConfig{URL: cluster.URL(), Name: "worker", Lease: lease}, queue.Options{Retries: 5}) // a try that the kill cuts short counts
	var done worked
	run(t, worker, done.work)
	if err := add(t, caller, queue.Item{ID: "asked", Reply: true}); err != nil {
		t.Fatal(err)
	}
	if got := receive(t, outcomes); got != `asked "asked" <nil>` {
		t.Errorf("outcome %s", got)
	}
	want := []string{"asked"}
	server := cluster.Of("meshctl:{" + t.Name() + ":worker.note}:jobs")
	for i := range 300 {
		id := fmt.Sprintf("job%03d", i)
		if i == 100 {
			server.Kill()
			if err := add(t, caller, queue.Item{ID: "lost"}); !errors.Is(err, queue.ErrUnavailable) {
				t.Errorf("accepted by nobody: %v", err)
			}
			server.Restart()
		}
		addUntil(t, caller, id)
		want = append(want, id)
	}
	done.await(t, want)
	await(t, "the store to be there", func() bool { return store.Err() == nil })
}

// With Sentinel, work goes on at the replica that takes over: what it has of what was accepted
// is done.
func TestRedisSentinel(t *testing.T) {
	sentinel := redistest.StartSentinel(t)
	caller, _ := redisQueue(t, queue.RedisConfig{URL: sentinel.URL(), Name: "caller", Lease: lease}, queue.Options{})
	worker, store := redisQueue(t, queue.RedisConfig{URL: sentinel.URL(), Name: "worker", Lease: lease}, queue.Options{Retries: 5}) // a try that the kill cuts short counts
	for i := range 20 {
		addUntil(t, caller, fmt.Sprintf("job%02d", i))
	}
	c := sentinel.Master.Client()
	defer c.Close()
	if n, err := c.Wait(t.Context(), 1, patience).Result(); n != 1 || err != nil { // all is at the replica
		t.Fatal(n, err)
	}
	sentinel.Master.Kill()
	var done worked
	run(t, worker, done.work)
	await(t, "the store to notice", func() bool { return store.Err() != nil })
	sentinel.AwaitFailover()
	var want []string
	for i := range 40 {
		id := fmt.Sprintf("job%02d", i)
		addUntil(t, caller, id)
		want = append(want, id)
	}
	done.await(t, want)
}

// An item that the client sent twice, as that of a cluster may, is stored once.
func TestRedisSentTwice(t *testing.T) {
	server := redistest.Start(t)
	q, _ := redisQueue(t, queue.RedisConfig{URL: server.URL()}, queue.Options{})
	for range 2 {
		for _, i := range []queue.Item{{ID: "a"}, {ID: "b", Key: "k"}} {
			if err := add(t, q, i); err != nil {
				t.Errorf("add %s: %v", i.ID, err)
			}
		}
	}
	var st queue.Stats
	if await(t, "what waits", func() bool { st = q.Stats(); return st.Error == "" }); st.Waiting != 2 {
		t.Errorf("%d wait", st.Waiting)
	}
	var dup *queue.DuplicateError
	if err := add(t, q, queue.Item{ID: "c", Key: "k"}); !errors.As(err, &dup) || dup.ID != "b" || dup.Over {
		t.Errorf("another with the same key: %v", err)
	}
}
