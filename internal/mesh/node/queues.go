package node

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/google/uuid"
	"golang.org/x/sync/errgroup"

	"github.com/meshctl/meshctl/internal/mesh/handler"
	"github.com/meshctl/meshctl/internal/mesh/queue"
	"github.com/meshctl/meshctl/internal/mesh/rpc"
	"github.com/meshctl/meshctl/internal/mesh/wire"
)

// queues holds a queue for each queued command of the node's worker.
type queues struct {
	core      *core
	byCommand map[string]queue.Queue

	mu      sync.Mutex
	waiting map[string]*waiter // by item: requests whose caller waits for the result
}

// waiter is a queued request that somebody wants the result of.
type waiter struct {
	running *rpc.Running
	done    func(json.RawMessage, *wire.Error)
}

func newQueues(c *core) (*queues, error) {
	qs := &queues{core: c, byCommand: make(map[string]queue.Queue), waiting: make(map[string]*waiter)}
	for name, cmd := range c.own.Commands {
		if !cmd.Queued {
			continue
		}
		q, err := queue.NewMemory(queue.MemoryConfig{Capacity: c.cfg.QueueDepth, GivenUp: qs.givenUp, Logger: c.log})
		if err != nil {
			return nil, err
		}
		qs.byCommand[name] = q
	}
	return qs, nil
}

// put queues a request in the order of its arrival. With ack its response says that
// it was accepted, else it waits for the result; done is called either way.
func (qs *queues) put(in rpc.Incoming, r *handler.Request, ack bool, done func(json.RawMessage, *wire.Error)) {
	item := queue.Item{ID: uuid.NewString(), UID: r.UID, Command: r.Command, Caller: r.Caller, Payload: r.Payload, Enqueued: time.Now()}
	waits := r.UID != "" && !ack
	if waits {
		running, failure := qs.core.server.Register(qs.core.work, in)
		if failure != nil {
			done(nil, failure)
			return
		}
		item.Deadline = r.Deadline
		w := &waiter{running: running, done: func(result json.RawMessage, failure *wire.Error) {
			running.Release()
			done(result, failure)
		}}
		qs.mu.Lock()
		qs.waiting[item.ID] = w
		qs.mu.Unlock()
	}
	err := qs.byCommand[r.Command].Put(qs.core.work, item)
	switch {
	case err != nil && waits:
		qs.settle(item.ID, nil, putError(err))
	case err != nil:
		done(nil, putError(err))
	case !waits:
		done(json.RawMessage("null"), nil)
	}
}

func putError(err error) *wire.Error {
	if errors.Is(err, queue.ErrFull) {
		return &wire.Error{Code: wire.CodeOverloaded, Message: "the queue is full", Temporary: true, Hint: "send more slowly, or raise --queue-depth"}
	}
	if errors.Is(err, queue.ErrClosed) {
		return &wire.Error{Code: wire.CodeNoVariant, Message: "the node is leaving", Temporary: true}
	}
	return rpc.AsError(fmt.Errorf("queue the request: %w", err))
}

// work answers a queued request when its turn has come.
func (qs *queues) work(ctx context.Context, item queue.Item) error {
	qs.mu.Lock()
	w := qs.waiting[item.ID]
	qs.mu.Unlock()
	var cancel context.CancelFunc
	if w != nil {
		ctx, cancel = context.WithCancel(ctx)
		stop := context.AfterFunc(w.running.Context, cancel)
		defer stop()
		w.running.Run()
	} else {
		ctx, cancel = context.WithTimeout(ctx, unawaitedTimeout)
	}
	defer cancel()
	r := &handler.Request{
		UID: item.UID, Worker: qs.core.self.Worker, Variant: qs.core.self.Variant,
		Command: item.Command, Caller: item.Caller, Payload: item.Payload, Deadline: item.Deadline,
	}
	if r.Deadline.IsZero() {
		r.Deadline, _ = ctx.Deadline()
	}
	result, failure := qs.core.server.Run(ctx, func(ctx context.Context) (json.RawMessage, error) { return qs.core.answer(ctx, r) })
	if w != nil {
		qs.settle(item.ID, result, failure) // the caller is told; nothing is left to log
		return nil
	}
	if failure != nil {
		return failure
	}
	return nil
}

func (qs *queues) settle(id string, result json.RawMessage, failure *wire.Error) {
	qs.mu.Lock()
	w := qs.waiting[id]
	delete(qs.waiting, id)
	qs.mu.Unlock()
	if w != nil {
		w.done(result, failure)
	}
}

// givenUp tells the caller of an item that will not be worked on any more.
func (qs *queues) givenUp(item queue.Item, err error) {
	failure := rpc.AsError(err)
	switch {
	case errors.Is(err, queue.ErrExpired):
		failure = &wire.Error{Code: wire.CodeTimeout, Message: "the deadline passed in the queue"}
	case errors.Is(err, queue.ErrClosed):
		failure = putError(err)
	}
	qs.settle(item.ID, nil, failure)
}

// run works all queues until ctx ends.
func (qs *queues) run(ctx context.Context) error {
	var g errgroup.Group
	for _, q := range qs.byCommand {
		g.Go(func() error { return q.Run(ctx, qs.work) })
	}
	return g.Wait()
}

// len counts the items that wait or are being worked on.
func (qs *queues) len() int {
	n := 0
	for _, q := range qs.byCommand {
		n += q.Len()
	}
	return n
}

// stats tells what each queue has, by command.
func (qs *queues) stats() []queue.Stats {
	all := make([]queue.Stats, 0, len(qs.byCommand))
	for _, command := range slices.Sorted(maps.Keys(qs.byCommand)) {
		s := qs.byCommand[command].Stats()
		s.Command = command
		all = append(all, s)
	}
	return all
}

// QueueStats tells what the node's queues have and have done, by command; empty where
// no command is queued. It does not block.
func (n *Node) QueueStats() []queue.Stats { return n.queues.stats() }

// idle blocks until all queues are empty, or ctx ends.
func (qs *queues) idle(ctx context.Context) error {
	for qs.len() > 0 {
		if !pause(ctx, 10*time.Millisecond) {
			return ctx.Err()
		}
	}
	return nil
}
