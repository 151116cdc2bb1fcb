package registry

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/meshctl/meshctl/internal/pause"
	"github.com/meshctl/meshctl/internal/redisdb"
)

const (
	// changesBlock is how long one question for changes waits. It cannot be cut short.
	changesBlock = 500 * time.Millisecond
	changesBatch = 1000
	// changesRetry is the pause after a question that failed.
	changesRetry = 200 * time.Millisecond
)

// changesReader reads the stream of changes on a goroutine of its own.
type changesReader struct {
	s       *Shared
	batches chan []redis.XMessage
	cancel  context.CancelFunc
	wg      sync.WaitGroup
	failed  atomic.Pointer[error] // why the last question got no answer
}

func newChangesReader(s *Shared) *changesReader {
	return &changesReader{s: s, cancel: func() {}}
}

// stop ends it, and waits for it.
func (r *changesReader) stop() {
	r.cancel()
	r.wg.Wait()
}

// err is why the last question got no answer, nil when it did.
func (r *changesReader) err() error {
	if err := r.failed.Load(); err != nil {
		return *err
	}
	return nil
}

// from begins anew behind the change of that id, with another channel.
func (r *changesReader) from(ctx context.Context, id string) {
	r.cancel()
	ctx, r.cancel = context.WithCancel(ctx)
	batches := make(chan []redis.XMessage)
	r.batches = batches
	r.wg.Go(func() { r.read(ctx, id, batches) })
}

func (r *changesReader) read(ctx context.Context, id string, batches chan<- []redis.XMessage) {
	for ctx.Err() == nil {
		call, cancel := context.WithTimeout(ctx, changesBlock+redisdb.Timeout)
		streams, err := r.s.client.XRead(call, &redis.XReadArgs{Streams: []string{r.s.key("changes"), id}, Count: changesBatch, Block: changesBlock}).Result()
		cancel()
		if ctx.Err() != nil {
			return // another reader may have begun
		}
		if err != nil && !errors.Is(err, redis.Nil) {
			r.failed.Store(&err)
			pause.For(ctx, changesRetry) // the renewal finds out what is wrong
			continue
		}
		r.failed.Store(nil)
		for _, st := range streams {
			if len(st.Messages) == 0 {
				continue
			}
			id = st.Messages[len(st.Messages)-1].ID
			select {
			case batches <- st.Messages:
			case <-ctx.Done():
			}
		}
	}
}
