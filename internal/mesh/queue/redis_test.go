package queue_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/meshctl/meshctl/internal/mesh/queue"
	"github.com/meshctl/meshctl/internal/mesh/queue/queuetest"
	"github.com/meshctl/meshctl/internal/mesh/seal"
	"github.com/meshctl/meshctl/internal/mesh/wire"
	"github.com/meshctl/meshctl/internal/redisdb/redistest"
	"github.com/redis/go-redis/v9"
)

func TestRedis(t *testing.T) {
	server := redistest.Start(t)
	queuetest.Run(t, func(t *testing.T) func() queue.Store {
		return func() queue.Store {
			return openRedis(t, queue.RedisConfig{URL: server.URL(), Mesh: t.Name()})
		}
	})
}

const patience = 20 * time.Second

// redisQueue opens a queue in a store of its own, which ends with the test.
func redisQueue(t *testing.T, cfg queue.RedisConfig, o queue.Options) (queue.Queue, *queue.Redis) {
	t.Helper()
	cfg.Mesh = t.Name()
	s := openRedis(t, cfg)
	t.Cleanup(func() { s.Close() })
	o.Command, o.Shared = "note", true
	q, err := s.Queue("worker.note", o)
	if err != nil {
		t.Fatal(err)
	}
	return q, s
}

func add(t *testing.T, q queue.Queue, item queue.Item) error {
	t.Helper()
	if item.Payload == nil {
		item.Payload = json.RawMessage(`{"secret":"hunter2"}`)
	}
	item.Command, item.Enqueued = "note", time.Now()
	stored := make(chan error, 1)
	q.Add(item, func(err error) { stored <- err })
	return receive(t, stored)
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

func await(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("waited in vain for ", what)
		}
	}
}

// run works a queue until the returned function is called, or the test ends.
func run(t *testing.T, q queue.Queue, work queue.Work) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		if err := q.Run(ctx, work); err != nil {
			t.Error(err)
		}
	}()
	stop = func() {
		cancel()
		receive(t, ended)
	}
	t.Cleanup(stop)
	return stop
}

// What a caller adds while nobody works the queue is there for whoever comes, and the caller
// learns the outcome.
func TestRedisAddBeforeAnyWorker(t *testing.T) {
	server := redistest.Start(t)
	outcomes := make(chan string, 1)
	caller, _ := redisQueue(t, queue.RedisConfig{URL: server.URL(), Name: "caller"}, queue.Options{Settled: func(id string, result json.RawMessage, err error) {
		outcomes <- id + " " + string(result)
		if err != nil {
			t.Error(err)
		}
	}})
	if err := add(t, caller, queue.Item{ID: "a", Reply: true}); err != nil {
		t.Fatal(err)
	}
	worker, _ := redisQueue(t, queue.RedisConfig{URL: server.URL()}, queue.Options{})
	run(t, worker, func(context.Context, queue.Item) (json.RawMessage, error) { return json.RawMessage(`"ok"`), nil })
	if got := receive(t, outcomes); got != `a "ok"` {
		t.Errorf("outcome %s", got)
	}
}

// Whoever waits for a result that is no JSON is told so.
func TestRedisMalformedResult(t *testing.T) {
	server := redistest.Start(t)
	outcomes := make(chan error, 1)
	caller, _ := redisQueue(t, queue.RedisConfig{URL: server.URL(), Name: "caller"}, queue.Options{Settled: func(_ string, _ json.RawMessage, err error) { outcomes <- err }})
	if err := add(t, caller, queue.Item{ID: "a", Reply: true}); err != nil {
		t.Fatal(err)
	}
	worker, _ := redisQueue(t, queue.RedisConfig{URL: server.URL(), Name: "worker"}, queue.Options{})
	run(t, worker, func(context.Context, queue.Item) (json.RawMessage, error) { return json.RawMessage(`{`), nil })
	if err := receive(t, outcomes); wire.CodeOf(err) != wire.CodeHandlerError {
		t.Errorf("outcome %v", err)
	}
}

// Slow work renews its lease; the work of a node that is gone is taken over, and flagged.
func TestRedisLease(t *testing.T) {
	t.Parallel() // it waits most of the time
	server := redistest.Start(t)
	// So long that nobody misses to renew it because the machine is busy.
	const lease = 4500 * time.Millisecond
	slow, _ := redisQueue(t, queue.RedisConfig{URL: server.URL(), Name: "slow", Lease: lease}, queue.Options{Retries: 5})
	began, release := make(chan struct{}, 1), make(chan struct{})
	run(t, slow, func(_ context.Context, i queue.Item) (json.RawMessage, error) {
		if i.ID == "slow" {
			began <- struct{}{}
			<-release
		}
		return nil, nil
	})
	if err := add(t, slow, queue.Item{ID: "slow"}); err != nil {
		t.Fatal(err)
	}
	receive(t, began)

	other, _ := redisQueue(t, queue.RedisConfig{URL: server.URL(), Name: "other", Lease: lease}, queue.Options{Retries: 5})
	got := make(chan queue.Item, 4)
	run(t, other, func(_ context.Context, i queue.Item) (json.RawMessage, error) { got <- i; return nil, nil })
	c := server.Client()
	defer c.Close()
	renewed, idle := 0, time.Duration(0)
	await(t, "the lease to be renewed again and again", func() bool {
		p, err := c.XPendingExt(t.Context(), &redis.XPendingExtArgs{Stream: jobsKey(t), Group: "workers", Start: "-", End: "+", Count: 10}).Result()
		if err != nil || len(p) != 1 || len(got) > 0 {
			t.Fatalf("%+v, %v; %d were taken from a node that works on them", p, err, len(got))
		}
		if p[0].Idle < idle {
			renewed++
		}
		idle = p[0].Idle
		return renewed == 3 // without that the lease would have run out
	})
	close(release)
	await(t, "the queue to be empty", func() bool { s := slow.Stats(); return s.Error == "" && s.Waiting+s.Running == 0 })

	// A consumer that takes an entry and is never heard of again.
	gone, s := redisQueue(t, queue.RedisConfig{URL: server.URL(), Name: "gone", Lease: lease}, queue.Options{Retries: 5})
	block := make(chan struct{})
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	took := make(chan queue.Item, 1)
	slow.Halt()
	other.Halt()
	go func() {
		defer close(ended)
		_ = gone.Run(ctx, func(_ context.Context, i queue.Item) (json.RawMessage, error) {
			took <- i
			<-block
			return nil, errors.New("too late")
		})
	}()
	if err := add(t, gone, queue.Item{ID: "left"}); err != nil {
		t.Fatal(err)
	}
	receive(t, took)
	s.Close() // its connections end; it cannot renew
	heir, _ := redisQueue(t, queue.RedisConfig{URL: server.URL(), Name: "heir", Lease: time.Second}, queue.Options{Retries: 5})
	run(t, heir, func(_ context.Context, i queue.Item) (json.RawMessage, error) { got <- i; return nil, nil })
	if i := receive(t, got); i.ID != "left" || !i.Redelivered || i.Attempt != 2 {
		t.Errorf("taken over: %+v, want it redelivered at the second try", i)
	}
	cancel()
	close(block)
	receive(t, ended)
}

// A request that brought its nodes down as often as it may be tried has that many tries as a dead letter.
func TestRedisInterruptedTooOften(t *testing.T) {
	server := redistest.Start(t)
	q, _ := redisQueue(t, queue.RedisConfig{URL: server.URL()}, queue.Options{Retries: 1})
	if err := add(t, q, queue.Item{ID: "a"}); err != nil {
		t.Fatal(err)
	}
	c := server.Client()
	defer c.Close()
	if err := c.HSet(t.Context(), strings.TrimSuffix(jobsKey(t), "jobs")+"tries", "a", 2).Err(); err != nil {
		t.Fatal(err)
	}
	run(t, q, func(context.Context, queue.Item) (json.RawMessage, error) { t.Error("tried again"); return nil, nil })
	await(t, "the dead letter", func() bool { return q.Stats().Dead == 1 })
	if dead, err := q.Dead(t.Context(), 10); err != nil || len(dead) != 1 || dead[0].Attempt != 2 {
		t.Errorf("dead letters: %+v, %v", dead, err)
	}
}

// Redis away: nothing is accepted, at once; when it is back, work goes on by itself, and what
// had been accepted is there.
func TestRedisAwayAndBack(t *testing.T) {
	server := redistest.Start(t)
	q, s := redisQueue(t, queue.RedisConfig{URL: server.URL()}, queue.Options{})
	for _, id := range []string{"a", "b"} {
		if err := add(t, q, queue.Item{ID: id, Key: id}); err != nil {
			t.Fatal(err)
		}
	}
	server.Kill()
	await(t, "the store to notice", func() bool { return s.Err() != nil })
	refused := make(chan error, 1)
	q.Add(queue.Item{ID: "c", Command: "note", Enqueued: time.Now(), Payload: json.RawMessage(`1`)}, func(err error) { refused <- err })
	select {
	case err := <-refused:
		if !errors.Is(err, queue.ErrUnavailable) {
			t.Errorf("Add while Redis is away: %v, want ErrUnavailable", err)
		}
	default:
		t.Error("Add while Redis is away asked it")
	}
	got := make(chan string, 10)
	run(t, q, func(_ context.Context, i queue.Item) (json.RawMessage, error) { got <- i.ID; return nil, nil })
	server.Restart()
	for _, want := range []string{"a", "b"} {
		if id := receive(t, got); id != want {
			t.Errorf("got %s, want %s", id, want)
		}
	}
	await(t, "the store to be there", func() bool { return s.Err() == nil })
	if err := add(t, q, queue.Item{ID: "d"}); err != nil {
		t.Error(err)
	}
	if id := receive(t, got); id != "d" {
		t.Errorf("got %s, want d", id)
	}
}

// What is asked about a queue while Redis is away is said to be old, and asked again when it is back.
func TestRedisStatsWhileAway(t *testing.T) {
	server := redistest.Start(t)
	s := openRedis(t, queue.RedisConfig{URL: server.URL(), Mesh: t.Name()})
	t.Cleanup(func() { s.Close() })
	q, err := s.Queue("worker.note", queue.Options{Command: "note"})
	if err != nil {
		t.Fatal(err)
	}
	if err := add(t, q, queue.Item{ID: "a"}); err != nil {
		t.Fatal(err)
	}
	server.Kill()
	if st := q.Stats(); st.Error == "" {
		t.Errorf("Redis is away, and nobody knows what waits: %+v", st)
	}
	await(t, "the store to notice", func() bool { return s.Err() != nil })
	if st := q.Stats(); st.Error == "" {
		t.Errorf("Redis is known to be away: %+v", st)
	}
	server.Restart()
	await(t, "what is true", func() bool { st := q.Stats(); return st.Error == "" && st.Waiting == 1 })
}

// No payload and no error is in Redis in clear.
func TestRedisIsSealed(t *testing.T) {
	server := redistest.Start(t)
	keys, err := seal.GenerateKeys()
	if err != nil {
		t.Fatal(err)
	}
	ring, err := seal.NewRing([]seal.Keys{keys}, nil)
	if err != nil {
		t.Fatal(err)
	}
	q, _ := redisQueue(t, queue.RedisConfig{URL: server.URL(), Sealer: ringSealer{ring}}, queue.Options{})
	run(t, q, func(context.Context, queue.Item) (json.RawMessage, error) { return nil, errors.New("hunter2 is wrong") })
	if err := add(t, q, queue.Item{ID: "a"}); err != nil {
		t.Fatal(err)
	}
	await(t, "the dead letter", func() bool { return q.Stats().Dead == 1 })
	dead, err := q.Dead(t.Context(), 1)
	if err != nil || len(dead) != 1 || dead[0].Error != "hunter2 is wrong" || !strings.Contains(string(dead[0].Payload), "hunter2") {
		t.Fatalf("dead letters: %+v, %v", dead, err)
	}
	c := server.Client()
	defer c.Close()
	names, err := c.Keys(t.Context(), "*").Result()
	if err != nil || len(names) < 4 {
		t.Fatal(names, err)
	}
	for _, name := range names {
		dump, err := c.HGetAll(t.Context(), name).Result()
		for field, value := range dump {
			if strings.Contains(field+value, "hunter2") {
				t.Errorf("%s has it in clear: %s", name, value)
			}
		}
		if err != nil && !strings.HasPrefix(err.Error(), "WRONGTYPE") {
			t.Fatal(err)
		}
	}
}

// What was sealed with a key that is not there any more can be seen, and removed; it is there when the key is back.
func TestRedisWithoutTheKey(t *testing.T) {
	server := redistest.Start(t)
	sealer := func() queue.Sealer {
		keys, err := seal.GenerateKeys()
		if err != nil {
			t.Fatal(err)
		}
		ring, err := seal.NewRing([]seal.Keys{keys}, nil)
		if err != nil {
			t.Fatal(err)
		}
		return ringSealer{ring}
	}
	former := sealer()
	old, _ := redisQueue(t, queue.RedisConfig{URL: server.URL(), Sealer: former, Name: "old"}, queue.Options{})
	stop := run(t, old, func(context.Context, queue.Item) (json.RawMessage, error) { return nil, errors.New("broken") })
	if err := add(t, old, queue.Item{ID: "dead"}); err != nil {
		t.Fatal(err)
	}
	await(t, "the dead letter", func() bool { return old.Stats().Dead == 1 })
	stop()
	again, _ := redisQueue(t, queue.RedisConfig{URL: server.URL(), Sealer: former, Name: "again"}, queue.Options{})
	for _, id := range []string{"a", "b"} {
		if err := add(t, again, queue.Item{ID: id}); err != nil {
			t.Fatal(err)
		}
	}
	q, store := redisQueue(t, queue.RedisConfig{URL: server.URL(), Sealer: sealer()}, queue.Options{})
	got := make(chan string, 10)
	run(t, q, func(_ context.Context, i queue.Item) (json.RawMessage, error) { got <- i.ID; return nil, nil })
	if err := add(t, q, queue.Item{ID: "c"}); err != nil {
		t.Fatal(err)
	}
	if id := receive(t, got); id != "c" {
		t.Errorf("did %s", id)
	}
	await(t, "c to be over", func() bool { s := q.Stats(); return s.Done == 1 && s.Running == 0 })
	sees := func(what string, from func(context.Context, int) ([]queue.Entry, error), want ...string) {
		t.Helper()
		entries, err := from(t.Context(), 10)
		if err != nil || len(entries) != len(want) {
			t.Fatalf("%s: %+v, %v", what, entries, err)
		}
		for i, e := range entries {
			if e.ID != want[i] || !strings.Contains(e.Error, "sealed with another key") {
				t.Errorf("%s: %+v", what, e)
			}
		}
	}
	sees("waiting", q.Peek, "a", "b")
	sees("dead", q.Dead, "dead")
	if entries, err := again.Peek(t.Context(), 10); err != nil || len(entries) != 2 || entries[0].Error != "" {
		t.Errorf("with the key: %+v, %v", entries, err)
	}
	for _, most := range []int{1, 3, 9} {
		opened, seen := 0, 0
		err := store.EachSealed(t.Context(), func(_, sealed string) bool {
			if _, err := former.Open(t.Context(), sealed); err == nil {
				opened++
			}
			seen++
			return seen < most
		})
		if want := min(most, 3); opened != want || seen != want || err != nil {
			t.Errorf("%d of %d are sealed with the former key, %v; want %d", opened, seen, err, want)
		}
	}
	if n, err := q.Purge(t.Context()); n != 2 || err != nil {
		t.Errorf("purged %d, %v", n, err)
	}
	if n, err := q.Bury(t.Context(), "dead"); n != 1 || err != nil {
		t.Errorf("buried %d, %v", n, err)
	}
	if s := q.Stats(); s.Waiting != 0 || s.Dead != 0 {
		t.Errorf("left: %+v", s)
	}
}

type ringSealer struct{ ring *seal.Ring }

func (s ringSealer) Seal(b []byte) (string, error) { return s.ring.Seal(b) }
func (s ringSealer) Open(ctx context.Context, text string) ([]byte, error) {
	return s.ring.Open(ctx, text, nil)
}

func TestRedisURLIsNotQuoted(t *testing.T) {
	for _, url := range []string{"http://:hunter2@h/0", "redis://:hunter2@h/notadb", "redis://:hunter2@h:port/0", "::hunter2"} {
		if s, err := queue.OpenRedis(t.Context(), queue.RedisConfig{URL: url, Sealer: reversible{}}); err == nil {
			s.Close()
			t.Errorf("%s was taken", url)
		} else if strings.Contains(err.Error(), "hunter2") {
			t.Errorf("the error shows the password: %v", err)
		}
	}
}

// What a node has left is found also where it stands behind much that others are working on.
func TestRedisTakesOverBehindMuch(t *testing.T) {
	server := redistest.Start(t)
	const busy = 15
	cfg := queue.RedisConfig{URL: server.URL(), Name: "busy", Lease: time.Second}
	worker, _ := redisQueue(t, cfg, queue.Options{Workers: busy})
	began, release := make(chan string, busy), make(chan struct{})
	run(t, worker, func(_ context.Context, i queue.Item) (json.RawMessage, error) {
		began <- i.ID
		<-release
		return nil, nil
	})
	for i := range busy {
		if err := add(t, worker, queue.Item{ID: fmt.Sprint("busy ", i)}); err != nil {
			t.Fatal(err)
		}
	}
	for range busy {
		receive(t, began)
	}
	if err := add(t, worker, queue.Item{ID: "left"}); err != nil {
		t.Fatal(err)
	}
	c := server.Client()
	defer c.Close()
	err := c.XReadGroup(t.Context(), &redis.XReadGroupArgs{Group: "workers", Consumer: "gone", Streams: []string{jobsKey(t), ">"}}).Err()
	if err != nil {
		t.Fatal(err)
	}
	cfg.Name = "heir"
	heir, _ := redisQueue(t, cfg, queue.Options{Workers: 2 * busy})
	got := make(chan string, 2*busy)
	run(t, heir, func(_ context.Context, i queue.Item) (json.RawMessage, error) {
		got <- i.ID
		return nil, nil
	})
	for receive(t, got) != "left" { // a renewal may be late
	}
	close(release)
}

// A node that ends does not hand back what another has taken over from it.
func TestRedisHandsBackItsOwn(t *testing.T) {
	server := redistest.Start(t)
	q, _ := redisQueue(t, queue.RedisConfig{URL: server.URL(), Lease: time.Hour}, queue.Options{})
	began := make(chan struct{})
	stop := run(t, q, func(ctx context.Context, i queue.Item) (json.RawMessage, error) {
		close(began)
		<-ctx.Done()
		return nil, ctx.Err()
	})
	if err := add(t, q, queue.Item{ID: "a"}); err != nil {
		t.Fatal(err)
	}
	receive(t, began)
	c := server.Client()
	defer c.Close()
	pending := func() redis.XPendingExt {
		p, err := c.XPendingExt(t.Context(), &redis.XPendingExtArgs{Stream: jobsKey(t), Group: "workers", Start: "-", End: "+", Count: 10}).Result()
		if err != nil || len(p) != 1 {
			t.Fatal(p, err)
		}
		return p[0]
	}
	err := c.XClaimJustID(t.Context(), &redis.XClaimArgs{Stream: jobsKey(t), Group: "workers", Consumer: "other", Messages: []string{pending().ID}}).Err()
	if err != nil {
		t.Fatal(err)
	}
	stop()
	if p := pending(); p.Consumer != "other" || p.Idle > time.Hour {
		t.Errorf("after its end: %+v", p)
	}
}

// A dead letter that is dropped, as there are too many, is logged.
func TestRedisTooManyDead(t *testing.T) {
	server := redistest.Start(t)
	c := server.Client()
	defer c.Close()
	letters := make([]redis.Z, 10_000)
	for i := range letters {
		letters[i] = redis.Z{Score: float64(i), Member: fmt.Sprint("old ", i)}
	}
	dead := strings.TrimSuffix(jobsKey(t), "jobs") + "dead"
	if err := c.ZAdd(t.Context(), dead, letters...).Err(); err != nil {
		t.Fatal(err)
	}
	var log bytes.Buffer
	q, _ := redisQueue(t, queue.RedisConfig{URL: server.URL()}, queue.Options{Logger: slog.New(slog.NewTextHandler(&log, nil))})
	stop := run(t, q, func(context.Context, queue.Item) (json.RawMessage, error) { return nil, errors.New("fails") })
	if err := add(t, q, queue.Item{ID: "new"}); err != nil {
		t.Fatal(err)
	}
	await(t, "the dead letter", func() bool { return q.Stats().Failed == 1 })
	stop()
	if n := c.ZCard(t.Context(), dead).Val(); n != 10_000 || c.ZScore(t.Context(), dead, "old 0").Err() == nil {
		t.Errorf("%d dead letters, and the oldest may be among them", n)
	}
	if text := log.String(); !strings.Contains(text, "dropped") || !strings.Contains(text, `id="old 0"`) {
		t.Errorf("logged:\n%s", text)
	}
}

// jobsKey is where the jobs are of a queue that redisQueue has opened.
func jobsKey(t *testing.T) string { return "meshctl:{" + t.Name() + ":worker.note}:jobs" }
