package queue_test

import (
	"context"
	"encoding/json"
	"testing"
	"time"

	"github.com/meshctl/meshctl/internal/mesh/queue"
	"github.com/meshctl/meshctl/internal/redisdb/redistest"
)

// A request has as much time as its caller gave it, whatever the clock of the machine says that has put
// it into the queue.
func TestRedisDeadlinesOfOtherClocks(t *testing.T) {
	server := redistest.Start(t)
	for name, off := range map[string]time.Duration{"Behind": -time.Hour, "Ahead": time.Hour} {
		t.Run(name, func(t *testing.T) {
			settled := make(chan error, 2)
			q, _ := redisQueue(t, queue.RedisConfig{URL: server.URL()}, queue.Options{Settled: func(_ string, _ json.RawMessage, err error) { settled <- err }})
			began := time.Now()
			for id, timeout := range map[string]time.Duration{"late": 0, "timely": time.Minute} {
				there := time.Now().Add(off)
				stored := make(chan error, 1)
				q.Add(queue.Item{ID: id, Command: "note", Payload: json.RawMessage(`1`), Once: true, Reply: true, Enqueued: there, Deadline: there.Add(timeout)}, func(err error) { stored <- err })
				if err := receive(t, stored); err != nil {
					t.Fatal(err)
				}
			}
			ctx, cancel := context.WithCancel(t.Context())
			worked, ended := make(chan queue.Item, 2), make(chan error, 1)
			go func() {
				ended <- q.Run(ctx, func(_ context.Context, i queue.Item) (json.RawMessage, error) {
					worked <- i
					return nil, nil
				})
			}()
			if i := receive(t, worked); i.ID != "timely" || i.Deadline.Before(began) || i.Deadline.After(time.Now().Add(time.Minute)) {
				t.Errorf("worked on %s, until %s", i.ID, time.Until(i.Deadline))
			}
			for range 2 {
				receive(t, settled)
			}
			cancel()
			if err := receive(t, ended); err != nil || len(worked) > 0 {
				t.Errorf("%v, and %d more worked on", err, len(worked))
			}
		})
	}
}
