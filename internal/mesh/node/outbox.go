package node

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/meshctl/meshctl/internal/mesh/queue"
	"github.com/meshctl/meshctl/internal/mesh/rpc"
	"github.com/meshctl/meshctl/internal/mesh/schema"
	"github.com/meshctl/meshctl/internal/mesh/seal"
	"github.com/meshctl/meshctl/internal/mesh/wire"
)

// viaRedis is the variant in the Reply of a job that was put into its worker's queue in Redis.
const viaRedis = "@redis"

// outbox puts jobs into the queues that other workers have in Redis, whether or not one of
// their variants is up.
type outbox struct {
	// open opens store when it is first needed, with the time that ctx leaves.
	open func(ctx context.Context) (*queue.Redis, error)

	mu      sync.Mutex
	store   *queue.Redis // nil: not open yet
	byName  map[string]queue.Queue
	waiting map[string]chan outcome // by item
}

type outcome struct {
	result json.RawMessage
	err    error
}

func newOutbox(store *queue.Redis, open func(context.Context) (*queue.Redis, error)) *outbox {
	return &outbox{store: store, open: open, byName: make(map[string]queue.Queue), waiting: make(map[string]chan outcome)}
}

// openRedis opens the configured Redis.
func openRedis(ctx context.Context, cfg *Config) (*queue.Redis, error) {
	if cfg.Ring == nil {
		var err error
		if cfg.Ring, err = seal.NewRing([]seal.Keys{cfg.Keys}, nil); err != nil {
			return nil, fmt.Errorf("check keys: %w", err)
		}
	}
	s, err := queue.OpenRedis(ctx, queue.RedisConfig{
		URL: cfg.Redis, Mesh: cfg.Mesh, Name: cfg.Worker + "/" + cfg.Variant, Sealer: sealer{cfg.Ring}, Lease: cfg.QueueLease, Logger: cfg.Logger,
	})
	if err != nil {
		return nil, &wire.Error{Code: wire.CodeBadRequest, Message: err.Error()}
	}
	return s, nil
}

// sealer seals with the mesh's key, and opens with those that are accepted.
type sealer struct{ ring *seal.Ring }

func (s sealer) Seal(plaintext []byte) (string, error) { return s.ring.Seal(plaintext) }

func (s sealer) Open(ctx context.Context, sealed string) ([]byte, error) {
	return s.ring.Open(ctx, sealed, nil)
}

// redisQueueName is the name of a command's queue in Redis: one for all variants, or of a
// broadcast one for each.
func redisQueueName(worker, variant string, cmd *schema.Command) string {
	if cmd.Delivery == schema.Broadcast {
		return worker + "." + cmd.Name + "@" + variant
	}
	return worker + "." + cmd.Name
}

// takes tells whether a job goes by way of Redis.
func (b *outbox) takes(cmd *schema.Command, meta wire.CommandMeta) bool {
	return b != nil && cmd.Queued && cmd.Delivery == schema.Balanced && (meta.Ack || meta.Job)
}

func (b *outbox) queue(ctx context.Context, worker string, cmd *schema.Command) (queue.Queue, error) {
	name := redisQueueName(worker, "", cmd)
	b.mu.Lock()
	defer b.mu.Unlock()
	if q := b.byName[name]; q != nil {
		return q, nil
	}
	if b.store == nil {
		s, err := b.open(ctx)
		if err != nil {
			return nil, err
		}
		b.store = s
	}
	q, err := b.store.Queue(name, queue.Options{Command: cmd.Name, Shared: true, Settled: b.settled})
	if err == nil {
		b.byName[name] = q
	}
	return q, err
}

// close closes the store, if it was opened.
func (b *outbox) close() {
	b.mu.Lock()
	s := b.store
	b.mu.Unlock()
	if s != nil {
		_ = s.Close()
	}
}

// has makes a queue that the node itself works known to the outbox.
func (b *outbox) has(name string, q queue.Queue) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.byName[name] = q
}

func (b *outbox) settled(id string, result json.RawMessage, err error) {
	b.mu.Lock()
	c := b.waiting[id]
	delete(b.waiting, id)
	b.mu.Unlock()
	if c != nil {
		c <- outcome{result, err}
	}
}

// put stores a job, and waits for its outcome if it has one to tell.
func (b *outbox) put(ctx context.Context, caller, worker string, cmd *schema.Command, uid string, payload json.RawMessage, meta wire.CommandMeta) Reply {
	started := time.Now()
	reply := Reply{Worker: worker, Variant: viaRedis, Kind: wire.KindMeshctl}
	q, err := b.queue(ctx, worker, cmd)
	if err != nil {
		reply.Err = putError(err)
		return reply
	}
	if payload == nil {
		payload = json.RawMessage("null")
	}
	item := queue.Item{
		ID: uuid.NewString(), UID: uid, Command: cmd.Name, Caller: caller, Payload: payload, Enqueued: started,
		Reply: meta.Job, Key: jobKey(caller, meta.Key, uid),
	}
	done := make(chan outcome, 1)
	if meta.Job {
		b.mu.Lock()
		b.waiting[item.ID] = done
		b.mu.Unlock()
		defer func() {
			b.mu.Lock()
			defer b.mu.Unlock()
			delete(b.waiting, item.ID)
		}()
	}
	stored := make(chan error, 1)
	q.Add(item, func(err error) { stored <- err })
	select {
	case err = <-stored:
	case <-ctx.Done():
		select {
		case err = <-stored: // and that says more
		default:
			err = rpc.ContextError(ctx)
		}
	}
	if errors.As(err, new(*queue.DuplicateError)) && !meta.Job {
		err = nil
	}
	if err == nil && meta.Job {
		select {
		case o := <-done:
			reply.Result, err = o.result, o.err
		case <-ctx.Done():
			err = rpc.ContextError(ctx)
		}
	}
	if err != nil {
		if reply.Err, _ = err.(*wire.Error); reply.Err == nil {
			reply.Err = putError(err)
		}
		reply.Err.Temporary = false // there is no other variant to try
	}
	reply.Elapsed = time.Since(started)
	return reply
}

// viaRedis puts a job into its worker's queue in Redis.
func (c *core) viaRedis(ctx context.Context, a *asking) error {
	if !a.deadline.IsZero() {
		var cancel context.CancelFunc
		ctx, cancel = context.WithDeadline(ctx, a.deadline)
		defer cancel()
	}
	reply := c.outbox.put(ctx, cmp.Or(c.cfg.Worker, c.self.Worker)+"/"+c.self.Variant, a.result.Worker, a.cmd, a.result.UID, a.payload, a.meta)
	a.result.Replies = []Reply{reply}
	if a.opts.OnReply != nil {
		a.opts.OnReply(reply)
	}
	if reply.Err != nil {
		return reply.Err
	}
	return nil
}
