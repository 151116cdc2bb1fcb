package queue_test

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/meshctl/meshctl/internal/mesh/meshtest"
	"github.com/meshctl/meshctl/internal/mesh/meshtest/fault"
	"github.com/meshctl/meshctl/internal/mesh/queue"
	"github.com/meshctl/meshctl/internal/redisdb/redistest"
)

// behindProxy starts a redis-server and a proxy before it, which is reached by redis:// and its address.
func behindProxy(t *testing.T, cfg fault.Config) (*redistest.Server, *fault.Proxy) {
	t.Helper()
	server := redistest.StartTCP(t)
	cfg.Listen, cfg.To = cmp.Or(cfg.Listen, "127.0.0.1:0"), server.Addr()
	proxy, err := fault.Listen(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(proxy.Close)
	return server, proxy
}

// deafen has nothing come back from Redis.
func deafen(t *testing.T, proxy *fault.Proxy) {
	t.Helper()
	if err := proxy.Set(fault.Faults{Down: fault.Line{Blackhole: true}}); err != nil {
		t.Fatal(err)
	}
}

// unheard holds back what subscribes to a channel until it is released.
type unheard struct {
	*net.TCPConn
	release <-chan struct{}
}

func (c unheard) Write(b []byte) (int, error) {
	if bytes.Contains(bytes.ToLower(b), []byte("subscribe")) {
		<-c.release
	}
	return c.TCPConn.Write(b)
}

// Outcomes are told to whoever hears them: what has one is not added before its store does, or the job
// would be done and its caller wait for ever. The way to Redis may be long, and that of the worker short.
func TestRedisHearsOutcomesBeforeItAdds(t *testing.T) {
	release := make(chan struct{})
	server, proxy := behindProxy(t, fault.Config{Dial: func(ctx context.Context, addr string) (net.Conn, error) {
		c, err := new(net.Dialer).DialContext(ctx, "tcp", addr)
		if err != nil {
			return nil, err
		}
		return unheard{c.(*net.TCPConn), release}, nil
	}})
	worker, _ := redisQueue(t, queue.RedisConfig{URL: server.URL(), Name: "worker"}, queue.Options{})
	run(t, worker, func(context.Context, queue.Item) (json.RawMessage, error) { return json.RawMessage(`"ok"`), nil })
	outcomes := make(chan string, 1)
	caller, _ := redisQueue(t, queue.RedisConfig{URL: "redis://" + proxy.Addr().String(), Name: "caller"}, queue.Options{Settled: func(id string, result json.RawMessage, err error) {
		outcomes <- fmt.Sprintf("%s %s %v", id, result, err)
	}})
	stored := make(chan error, 1)
	caller.Add(queue.Item{ID: "a", Command: "note", Enqueued: time.Now(), Payload: json.RawMessage(`1`), Reply: true}, func(err error) { stored <- err })
	select {
	case err := <-stored:
		stored <- err
		await(t, "the job to be done", func() bool { return worker.Stats().Done == 1 })
	case <-time.After(200 * time.Millisecond):
	}
	close(release)
	if err := receive(t, stored); err != nil {
		t.Fatal(err)
	}
	if got := receive(t, outcomes); got != `a "ok" <nil>` {
		t.Errorf("outcome %s", got)
	}
}

// A caller whose connection to Redis breaks while its job is done learns the outcome when it is back.
func TestRedisOutcomeWhileNobodyHears(t *testing.T) {
	server, proxy := behindProxy(t, fault.Config{})
	outcomes := make(chan string, 1)
	caller, _ := redisQueue(t, queue.RedisConfig{URL: "redis://" + proxy.Addr().String(), Name: "caller"}, queue.Options{Settled: func(id string, result json.RawMessage, err error) {
		outcomes <- fmt.Sprintf("%s %s %v", id, result, err)
	}})
	if err := add(t, caller, queue.Item{ID: "a", Reply: true}); err != nil {
		t.Fatal(err)
	}
	worker, _ := redisQueue(t, queue.RedisConfig{URL: server.URL(), Name: "worker"}, queue.Options{})
	run(t, worker, func(context.Context, queue.Item) (json.RawMessage, error) {
		return json.RawMessage(`"ok"`), proxy.Set(fault.Faults{Drop: 1})
	})
	await(t, "the job to be done", func() bool { return worker.Stats().Done == 1 })
	select {
	case got := <-outcomes:
		t.Fatalf("outcome %s while the connection was broken", got)
	case <-time.After(100 * time.Millisecond): // it was told
	}
	if err := proxy.Set(fault.Faults{}); err != nil {
		t.Fatal(err)
	}
	if got := receive(t, outcomes); got != `a "ok" <nil>` {
		t.Errorf("outcome %s", got)
	}
}

// Redis notes that a job is done, and the worker does not hear of that: it asks again, and the
// caller learns the outcome, once.
func TestRedisLostAnswerToTheEnd(t *testing.T) {
	server, proxy := behindProxy(t, fault.Config{})
	outcomes := make(chan string, 4)
	caller, _ := redisQueue(t, queue.RedisConfig{URL: server.URL(), Name: "caller"}, queue.Options{Settled: func(id string, result json.RawMessage, err error) {
		outcomes <- fmt.Sprintf("%s %s %v", id, result, err)
	}})
	worker, store := redisQueue(t, queue.RedisConfig{URL: "redis://" + proxy.Addr().String(), Name: "worker"}, queue.Options{})
	deaf := fault.Faults{Down: fault.Line{Blackhole: true}}
	run(t, worker, func(_ context.Context, i queue.Item) (json.RawMessage, error) {
		if i.ID == "first" { // after which Redis has all scripts
			return nil, nil
		}
		return json.RawMessage(`"ok"`), proxy.Set(deaf)
	})
	if err := add(t, caller, queue.Item{ID: "first", Reply: true}); err != nil {
		t.Fatal(err)
	}
	receive(t, outcomes)
	if err := add(t, caller, queue.Item{ID: "a", Reply: true}); err != nil {
		t.Fatal(err)
	}
	await(t, "Redis to know that it is done", func() bool {
		return proxy.Faults() == deaf && caller.Stats().Waiting == 0
	})
	await(t, "the worker to give up waiting", func() bool { return store.Err() != nil })
	if err := proxy.Set(fault.Faults{}); err != nil {
		t.Fatal(err)
	}
	if got := receive(t, outcomes); got != `a "ok" <nil>` {
		t.Errorf("outcome %s", got)
	}
	if s := worker.Stats(); s.Done != 2 || s.Dead != 0 {
		t.Errorf("stats: %+v", s)
	}
}

// A caller that was not connected in the moment when its job was done learns the outcome all the same.
func TestRedisOutcomeFindsWhoWaits(t *testing.T) {
	server, proxy := behindProxy(t, fault.Config{Listen: fmt.Sprint("127.0.0.1:", meshtest.ReservePort(t))})
	outcomes := make(chan string, 4)
	caller, store := redisQueue(t, queue.RedisConfig{URL: "redis://" + proxy.Addr().String(), Name: "caller"}, queue.Options{Settled: func(id string, result json.RawMessage, err error) {
		outcomes <- fmt.Sprintf("%s %s %v", id, result, err)
	}})
	worker, _ := redisQueue(t, queue.RedisConfig{URL: server.URL(), Name: "worker"}, queue.Options{})
	release := make(chan struct{})
	run(t, worker, func(context.Context, queue.Item) (json.RawMessage, error) {
		<-release
		return json.RawMessage(`"ok"`), nil
	})
	if err := add(t, caller, queue.Item{ID: "a", Reply: true}); err != nil {
		t.Fatal(err)
	}
	c := server.Client()
	defer c.Close()
	channels := func() int { return len(c.PubSubChannels(t.Context(), "*").Val()) }
	await(t, "both to listen", func() bool { return channels() == 2 })
	proxy.Close()
	await(t, "the caller to be away", func() bool { return channels() == 1 && store.Err() != nil })
	close(release)
	await(t, "the job to be done", func() bool { return worker.Stats().Done == 1 })
	again, err := fault.Listen(fault.Config{Listen: proxy.Addr().String(), To: server.Addr()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(again.Close)
	if got := receive(t, outcomes); got != `a "ok" <nil>` {
		t.Errorf("outcome %s", got)
	}
}

// Whoever is told that nothing was stored can rely on that: where an answer was lost it is said that nobody knows.
func TestRedisLostAnswerToAdd(t *testing.T) {
	server, proxy := behindProxy(t, fault.Config{})
	q, s := redisQueue(t, queue.RedisConfig{URL: "redis://" + proxy.Addr().String()}, queue.Options{})
	if err := add(t, q, queue.Item{ID: "a"}); err != nil {
		t.Fatal(err)
	}
	deafen(t, proxy)
	if err := add(t, q, queue.Item{ID: "b"}); !errors.Is(err, queue.ErrUncertain) || !errors.Is(err, queue.ErrUnavailable) {
		t.Errorf("added to a Redis whose answer was lost: %v, want ErrUncertain", err)
	}
	await(t, "the store to notice", func() bool { return s.Err() != nil })
	if err := add(t, q, queue.Item{ID: "c"}); !errors.Is(err, queue.ErrUnavailable) || errors.Is(err, queue.ErrUncertain) {
		t.Errorf("added while Redis is known to be away: %v, want ErrUnavailable", err)
	}
	c := server.Client()
	defer c.Close()
	// b is there unless a new connection had to be made for it, which was deaf from the beginning.
	if n, err := c.XLen(t.Context(), jobsKey(t)).Result(); n < 1 || n > 2 || err != nil {
		t.Errorf("Redis has %d jobs, %v; want none of which it was said that they are not stored", n, err)
	}
}

// Nor is a Redis that is silent taken for one that has nothing, whether it is asked over an old connection or a new one.
func TestRedisStatsWhileSilent(t *testing.T) {
	_, proxy := behindProxy(t, fault.Config{})
	q, _ := redisQueue(t, queue.RedisConfig{URL: "redis://" + proxy.Addr().String()}, queue.Options{})
	if err := add(t, q, queue.Item{ID: "a"}); err != nil {
		t.Fatal(err)
	}
	deafen(t, proxy)
	var asking sync.WaitGroup
	for range 10 { // more than there are connections
		asking.Go(func() {
			if st := q.Stats(); st.Error == "" {
				t.Errorf("Redis is silent, and nobody knows what waits: %+v", st)
			}
		})
	}
	asking.Wait()
	if err := proxy.Set(fault.Faults{}); err != nil { // so that it ends soon
		t.Error(err)
	}
}
