package queue

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
)

// The defaults of MemoryConfig.
const (
	DefaultCapacity = 1000
	DefaultMaxBytes = 64 << 20
)

// MemoryConfig configures a Memory. Zero values mean the defaults.
type MemoryConfig struct {
	// Capacity is how many items may wait.
	Capacity int
	// MaxBytes is how many bytes the payloads of the waiting items may have together.
	MaxBytes int
	// Workers is how many items are worked on at once; default 1: one after another.
	Workers int
	// GivenUp, if set, learns of each item that was taken and not worked on to the
	// end, and why: the error of work, a *PanicError, ErrExpired, or ErrClosed for
	// what was left when Run ended. It may be called by several goroutines, and
	// delays the queue while it runs.
	GivenUp func(item Item, err error)
	// Logger gets the same; nil: nothing is logged.
	Logger *slog.Logger
}

// Memory is a bounded first-in first-out queue in this process. An item is given to
// work at most once: whatever becomes of it, it is not given again, and what is left when
// Run ends is lost, which is logged and reported.
type Memory struct {
	cfg  MemoryConfig
	wake chan struct{} // capacity 1: there may be items

	mu      sync.Mutex // of all below
	started bool
	closed  bool
	items   []Item // waiting
	bytes   int    // of their payloads
	busy    int    // items being worked on
}

var _ Queue = (*Memory)(nil)

// NewMemory makes an empty queue.
func NewMemory(cfg MemoryConfig) (*Memory, error) {
	if cfg.Capacity < 0 || cfg.MaxBytes < 0 || cfg.Workers < 0 {
		return nil, errors.New("make queue: bounds must not be negative")
	}
	if cfg.Capacity == 0 {
		cfg.Capacity = DefaultCapacity
	}
	if cfg.MaxBytes == 0 {
		cfg.MaxBytes = DefaultMaxBytes
	}
	if cfg.Workers == 0 {
		cfg.Workers = 1
	}
	if cfg.GivenUp == nil {
		cfg.GivenUp = func(Item, error) {}
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	return &Memory{cfg: cfg, wake: make(chan struct{}, 1)}, nil
}

// Put adds an item or fails at once; it never blocks. An item whose payload alone is
// over the bound on bytes never fits.
func (q *Memory) Put(ctx context.Context, item Item) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	switch {
	case q.closed:
		return fmt.Errorf("queue %s: %w", item.Command, ErrClosed)
	case len(q.items) >= q.cfg.Capacity:
		return fmt.Errorf("queue %s: %w: %d items wait", item.Command, ErrFull, len(q.items))
	case q.bytes+len(item.Payload) > q.cfg.MaxBytes:
		return fmt.Errorf("queue %s: %w: %d bytes wait", item.Command, ErrFull, q.bytes)
	}
	q.items = append(q.items, item)
	q.bytes += len(item.Payload)
	q.signal()
	return nil
}

func (q *Memory) signal() {
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

// Len counts the items that wait or are being worked on.
func (q *Memory) Len() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.items) + q.busy
}

// Stats tells what the queue has at present.
func (q *Memory) Stats() Stats {
	q.mu.Lock()
	defer q.mu.Unlock()
	s := Stats{Backend: "memory", Waiting: len(q.items), Running: q.busy, MaxDepth: q.cfg.Capacity}
	if len(q.items) > 0 {
		s.Oldest = time.Since(q.items[0].Enqueued)
	}
	return s
}

// Run works on items until ctx ends, as Queue says.
func (q *Memory) Run(ctx context.Context, work Work) error {
	q.mu.Lock()
	again := q.started
	q.started = true
	q.mu.Unlock()
	if again {
		return errors.New("run queue: it was run before")
	}
	var g errgroup.Group
	for range q.cfg.Workers {
		g.Go(func() error { q.serve(ctx, work); return nil })
	}
	err := g.Wait()
	q.close()
	return err
}

func (q *Memory) serve(ctx context.Context, work Work) {
	for {
		item, ok := q.take(ctx)
		if !ok {
			return
		}
		err := q.do(ctx, item, work)
		q.mu.Lock()
		q.busy--
		q.mu.Unlock()
		if err != nil {
			q.giveUp(item, err)
		}
	}
}

// take waits for the next item, which from then on counts as being worked on. It
// takes none after ctx's end.
func (q *Memory) take(ctx context.Context) (Item, bool) {
	for ctx.Err() == nil {
		if item, ok := q.next(); ok {
			return item, true
		}
		select {
		case <-q.wake:
		case <-ctx.Done():
		}
	}
	return Item{}, false
}

func (q *Memory) next() (Item, bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.items) == 0 {
		return Item{}, false
	}
	item := q.items[0]
	q.items[0] = Item{} // so that its payload can be freed
	q.items = q.items[1:]
	q.bytes -= len(item.Payload)
	q.busy++
	if len(q.items) > 0 {
		q.signal() // for the next worker
	}
	return item, true
}

func (q *Memory) do(ctx context.Context, item Item, work Work) (err error) {
	if !item.Deadline.IsZero() {
		if !time.Now().Before(item.Deadline) {
			return ErrExpired
		}
		var cancel context.CancelFunc
		ctx, cancel = context.WithDeadline(ctx, item.Deadline)
		defer cancel()
	}
	defer func() {
		if v := recover(); v != nil {
			err = &PanicError{Value: v, Stack: debug.Stack()}
		}
	}()
	return work(ctx, item)
}

// close takes no more items and gives up those that wait.
func (q *Memory) close() {
	q.mu.Lock()
	q.closed = true
	left := q.items
	q.items, q.bytes = nil, 0
	q.mu.Unlock()
	for _, item := range left {
		q.giveUp(item, ErrClosed)
	}
}

func (q *Memory) giveUp(item Item, err error) {
	log := q.cfg.Logger.With("id", item.ID, "command", item.Command, "caller", item.Caller)
	var p *PanicError
	if errors.As(err, &p) {
		log = log.With("stack", string(p.Stack))
	}
	log.Error("queued command given up", "err", err)
	q.cfg.GivenUp(item, err)
}
