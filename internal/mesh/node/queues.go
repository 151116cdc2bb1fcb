package node

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"
	"golang.org/x/sync/errgroup"

	"github.com/meshctl/meshctl/internal/mesh/handler"
	"github.com/meshctl/meshctl/internal/mesh/queue"
	"github.com/meshctl/meshctl/internal/mesh/rpc"
	"github.com/meshctl/meshctl/internal/mesh/schema"
	"github.com/meshctl/meshctl/internal/mesh/wire"
	"github.com/meshctl/meshctl/internal/pause"
)

// maxKeyLen is the longest idempotency key.
const maxKeyLen = 256

// queues holds a queue for each queued command of the node's worker.
type queues struct {
	core      *core
	store     queue.Store // nil where no command is queued
	byCommand map[string]queue.Queue

	mu      sync.Mutex
	waiting map[string]*waiter // by item: requests whose caller waits for the result
}

// waiter is a queued request that somebody wants the result of.
type waiter struct {
	running *rpc.Running
	// once: the request is nothing without its caller, so that it ends with it.
	once bool
	here bool // this node works on it
	done func(json.RawMessage, *wire.Error)
}

// newQueues opens the queues of the worker's queued commands in store, and closes that when
// it fails.
func newQueues(c *core, store queue.Store) (*queues, error) {
	qs := &queues{core: c, store: store, byCommand: make(map[string]queue.Queue), waiting: make(map[string]*waiter)}
	for name, cmd := range c.own.Commands {
		if !cmd.Queued {
			continue
		}
		q, err := store.Queue(c.queueName(name, cmd), c.queueOptions(cmd, qs.settled))
		if err != nil {
			return nil, errors.Join(err, store.Close())
		}
		qs.byCommand[name] = q
		if c.outbox != nil {
			c.outbox.has(c.queueName(name, cmd), q)
		}
	}
	return qs, nil
}

// queueOptions are what a command's queue is like at the node that works it.
func (c *core) queueOptions(cmd *schema.Command, settled func(string, json.RawMessage, error)) queue.Options {
	o := queue.Options{
		Command: cmd.Name, MaxDepth: cmd.MaxDepth, Workers: cmd.Concurrency, Retries: queue.DefaultRetries,
		Shared: cmd.Delivery == schema.Balanced, Settled: settled, Logger: c.log,
	}
	if o.MaxDepth == 0 {
		o.MaxDepth = c.cfg.QueueDepth
	}
	if o.Workers == 0 && cmd.Method != nil {
		o.Workers = cmd.Method.Concurrency
	}
	if cmd.Retries != nil {
		o.Retries = *cmd.Retries
	}
	return o
}

// put queues a request in the order of its arrival. What it is answered, and when, the
// meta says: with Ack that it is stored; with Job its result, whoever else waits for it
// or not; else the result, and then the request ends with its caller. done is called
// once, perhaps before put returns.
func (qs *queues) put(in rpc.Incoming, r *handler.Request, meta *wire.CommandMeta, done func(json.RawMessage, *wire.Error)) {
	var m wire.CommandMeta
	if meta != nil {
		m = *meta
	}
	if len(m.Key) > maxKeyLen {
		done(nil, &wire.Error{Code: wire.CodeBadRequest, Message: fmt.Sprintf("the key is longer than %d bytes", maxKeyLen)})
		return
	}
	waits := r.UID != "" && !m.Ack
	item := newItem(r, m, waits)
	if waits {
		running, failure := qs.core.server.Register(in)
		if failure != nil {
			done(nil, failure)
			return
		}
		qs.await(item, running, done)
	}
	qs.byCommand[r.Command].Add(item, func(err error) {
		switch dup := (*queue.DuplicateError)(nil); {
		case errors.As(err, &dup) && !waits:
			done(json.RawMessage("null"), nil) // what was accepted is stored
		case err != nil && waits:
			qs.settled(item.ID, nil, err)
		case err != nil:
			done(nil, putError(err))
		case !waits:
			done(json.RawMessage("null"), nil)
		}
	})
}

func newItem(r *handler.Request, m wire.CommandMeta, waits bool) queue.Item {
	item := queue.Item{
		ID: uuid.NewString(), UID: r.UID, Command: r.Command, Caller: r.Caller, Payload: r.Payload,
		Enqueued: time.Now(), Reply: waits, Once: waits && !m.Job,
	}
	if item.Once {
		item.Deadline = r.Deadline
		return item
	}
	item.Key = jobKey(r.Caller, m.Key, r.UID)
	return item
}

// jobKey is what tells jobs apart: the key of their caller, which is no other's, or else the
// uid; "" where there is neither.
func jobKey(caller, key, uid string) string {
	if key = cmp.Or(key, uid); key == "" {
		return ""
	}
	worker, _, _ := strings.Cut(caller, "/")
	return worker + " " + key
}

// await has done called with the outcome of an item, or when the caller waits no more.
func (qs *queues) await(item queue.Item, running *rpc.Running, done func(json.RawMessage, *wire.Error)) {
	w := &waiter{running: running, once: item.Once}
	stop := context.AfterFunc(running, func() {
		// What is worked on here ends by itself, and a job goes on without whoever waited. What
		// another node has ends at its deadline.
		if w.once && !qs.byCommand[item.Command].Withdraw(qs.core.work, item.ID) && qs.worksOn(w) {
			return
		}
		qs.settle(item.ID, nil, rpc.ContextError(running))
	})
	w.done = func(result json.RawMessage, failure *wire.Error) {
		stop()
		running.Release()
		done(result, failure)
	}
	qs.mu.Lock()
	defer qs.mu.Unlock()
	qs.waiting[item.ID] = w
}

func (qs *queues) worksOn(w *waiter) bool {
	qs.mu.Lock()
	defer qs.mu.Unlock()
	return w.here
}

func putError(err error) *wire.Error {
	switch dup := (*queue.DuplicateError)(nil); {
	case errors.As(err, &dup):
		return &wire.Error{Code: wire.CodeBadRequest, Message: "a request with this key was accepted before, and its result is told only to whoever sent it first (--wait stored is content with that)"}
	case errors.Is(err, queue.ErrFull):
		return &wire.Error{Code: wire.CodeOverloaded, Message: "the queue is full", Temporary: true, Hint: "send more slowly, or raise max_depth in the schema or --queue-depth"}
	case errors.Is(err, queue.ErrClosed):
		return &wire.Error{Code: wire.CodeNoVariant, Message: "the queue takes no more requests: the node is leaving, or the queue is drained (meshctl queue drain --resume opens it)", Temporary: true}
	case errors.Is(err, queue.ErrUncertain):
		return &wire.Error{Code: wire.CodeUnavailable, Message: "nobody knows whether the request was stored; with the same key it can be sent again (call --key): " + err.Error(), Hint: "try again when the node's /readyz says that it is ready"}
	case errors.Is(err, queue.ErrUnavailable):
		return &wire.Error{Code: wire.CodeUnavailable, Message: "the request cannot be stored, so it was not accepted: " + err.Error(), Hint: "try again when the node's /readyz says that it is ready"}
	}
	return rpc.AsError(fmt.Errorf("queue the request: %w", err))
}

// work answers a queued request when its turn has come.
func (qs *queues) work(ctx context.Context, item queue.Item) (json.RawMessage, error) {
	qs.mu.Lock()
	w := qs.waiting[item.ID]
	if w != nil {
		w.here = true
	}
	qs.mu.Unlock()
	ctx, cancel := context.WithTimeout(ctx, qs.core.jobTimeout(item.Command))
	defer cancel()
	if !item.Reply {
		defer qs.core.telemetry.worksOn(item)()
	}
	if w != nil {
		w.running.Run()
		if w.once {
			stop := context.AfterFunc(w.running, cancel)
			defer stop()
		}
	}
	r := &handler.Request{
		UID: item.UID, Worker: qs.core.self.Worker, Variant: qs.core.self.Variant,
		Command: item.Command, Caller: item.Caller, Payload: item.Payload, Deadline: item.Deadline,
		Attempt: item.Attempt, Redelivered: item.Redelivered,
	}
	if r.Deadline.IsZero() {
		r.Deadline, _ = ctx.Deadline()
	}
	result, failure := qs.core.server.Run(ctx, func(ctx context.Context) (json.RawMessage, error) { return qs.core.answer(ctx, r) })
	if !item.Reply {
		qs.core.telemetry.tried(item, result, failure)
	}
	if failure != nil {
		return nil, failure
	}
	return result, nil
}

// jobTimeout is how long one try of a queued command may take.
func (c *core) jobTimeout(command string) time.Duration {
	if m := c.own.Commands[command].Method; m != nil {
		return max(unawaitedTimeout, m.Timeout)
	}
	return unawaitedTimeout
}

// settled tells whoever waits for an item what came of it.
func (qs *queues) settled(id string, result json.RawMessage, err error) {
	switch {
	case err == nil:
		qs.settle(id, result, nil)
	case errors.Is(err, queue.ErrExpired):
		qs.settle(id, nil, &wire.Error{Code: wire.CodeTimeout, Message: "the deadline passed in the queue"})
	default:
		if e := (*wire.Error)(nil); errors.As(err, &e) {
			qs.settle(id, nil, e)
			return
		}
		qs.settle(id, nil, putError(err))
	}
}

func (qs *queues) settle(id string, result json.RawMessage, failure *wire.Error) {
	qs.mu.Lock()
	w := qs.waiting[id]
	delete(qs.waiting, id)
	qs.mu.Unlock()
	switch {
	case w != nil:
		w.done(result, failure)
	case qs.core.outbox != nil:
		var err error
		if failure != nil {
			err = failure
		}
		qs.core.outbox.settled(id, result, err) // this node called its own worker
	}
}

// run works all queues until ctx ends, and then closes their store.
func (qs *queues) run(ctx context.Context) error {
	var g errgroup.Group
	for _, q := range qs.byCommand {
		g.Go(func() error { return q.Run(ctx, qs.work) })
	}
	err := g.Wait()
	<-ctx.Done() // jobs of others may go by way of the store
	return errors.Join(err, qs.close())
}

// close releases the store. The queues are not run, or not any more.
func (qs *queues) close() error {
	if qs.store == nil {
		return nil
	}
	return qs.store.Close()
}

// err is why no request can be queued at present.
func (qs *queues) err() error {
	if qs.store == nil {
		return nil
	}
	return qs.store.Err()
}

// len counts the items that are lost when the node ends now: those being worked on, and
// those that wait where they are not durable.
func (qs *queues) len() int {
	n := 0
	for _, s := range qs.stats() {
		n += s.Running
		if !qs.store.Durable() {
			n += s.Waiting
		}
	}
	return n
}

// stats tells what each queue has, by command.
func (qs *queues) stats() []queue.Stats {
	all := make([]queue.Stats, 0, len(qs.byCommand))
	for _, command := range slices.Sorted(maps.Keys(qs.byCommand)) {
		s := qs.byCommand[command].Stats()
		if err := qs.store.Err(); err != nil {
			s.Error = err.Error()
		}
		all = append(all, s)
	}
	return all
}

// QueueStats tells what the node's queues have and have done, by command; empty where
// no command is queued. It does not block.
func (n *Node) QueueStats() []queue.Stats { return n.queues.stats() }

// idle blocks until nothing is left that ends with the node, or until ctx ends. What is durable
// and has nobody who waits stays for the next time.
func (qs *queues) idle(ctx context.Context) error {
	for {
		qs.mu.Lock()
		waiting := len(qs.waiting)
		qs.mu.Unlock()
		if waiting == 0 && qs.store != nil && qs.store.Durable() {
			for _, q := range qs.byCommand {
				q.Halt()
			}
		}
		if waiting == 0 && qs.len() == 0 {
			return nil
		}
		if !pause.For(ctx, 10*time.Millisecond) {
			return ctx.Err()
		}
	}
}
