package queue

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/meshctl/meshctl/internal/pause"
	"github.com/meshctl/meshctl/internal/redisdb"
	"github.com/redis/go-redis/v9"
)

// redisGroup is the consumer group of all who work a queue.
const redisGroup = "workers"

var errLeaseLost = errors.New("another node has taken this over: its lease ran out")

// redisQueue is a queue in Redis.
type redisQueue struct {
	s        *Redis
	name     string
	o        Options
	base     string
	maxDepth int // 0: what those say who work the queue
	halt     chan struct{}
	halting  sync.Once

	mu    sync.Mutex
	runs  runOnce
	over  bool
	busy  map[string]Item // being worked on here, by entry
	stats Stats           // counters, and what Redis last said
	dirty bool            // that may have changed since

	// Of the goroutine of Run alone: the group is there; when abandoned work was last looked for, and where
	// that goes on.
	ready   bool
	claimed time.Time
	from    string
}

var _ Queue = (*redisQueue)(nil)

func newRedisQueue(s *Redis, name string, o Options) *redisQueue {
	return &redisQueue{
		s: s, name: name, o: o, maxDepth: o.MaxDepth, base: "meshctl:{" + s.cfg.Mesh + ":" + name + "}:",
		halt: make(chan struct{}), busy: make(map[string]Item), dirty: true, from: firstEntry,
	}
}

func (q *redisQueue) key(name string) string { return q.base + name }

func (q *redisQueue) keys(names ...string) []string {
	for i, n := range names {
		names[i] = q.base + n
	}
	return names
}

// Add hands the item to the goroutine that sends.
func (q *redisQueue) Add(item Item, stored func(error)) {
	q.mu.Lock()
	closed := q.over
	q.mu.Unlock()
	err := q.s.Err()
	if closed {
		err = fmt.Errorf("queue %s: %w", item.Command, ErrClosed)
	}
	item.Origin = q.s.instance
	if err == nil {
		select {
		case q.s.adds <- &redisAdd{q, item, stored}:
			if q.s.ending.Err() != nil {
				q.s.refuse() // nobody else may look any more
			}
			return
		default:
			err = fmt.Errorf("queue %s: %w: too much waits to be sent to Redis", item.Command, ErrFull)
		}
	}
	q.refused()
	stored(err)
}

func (q *redisQueue) refused() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.stats.Refused++
}

// added reads what addScript answered.
func (q *redisQueue) added(a *redisAdd, cmd *redis.Cmd) {
	answer, err := cmd.Slice()
	if err == nil && len(answer) != 3 {
		err = errors.New("unexpected answer")
	}
	if err != nil {
		q.refused()
		err = q.s.failed(err)
		if q.s.maybeDone(err) {
			err = fmt.Errorf("%w; %w", err, ErrUncertain)
		}
		a.stored(err)
		return
	}
	what, _ := answer[0].(string)
	detail, _ := answer[1].(string)
	n, _ := answer[2].(int64)
	q.mu.Lock()
	q.dirty = true
	switch what {
	case "ok":
		q.stats.Accepted++
	case "dup":
		q.stats.Duplicates++
		err = &DuplicateError{ID: detail, Over: n == 0}
	case "closed":
		q.stats.Refused++
		err = fmt.Errorf("queue %s: %w", a.item.Command, ErrClosed)
	default:
		q.stats.Refused++
		err = fmt.Errorf("queue %s: %w: %s items wait", a.item.Command, ErrFull, detail)
	}
	q.mu.Unlock()
	a.stored(err)
}

// Run works on items until ctx ends, as Queue says.
func (q *redisQueue) Run(ctx context.Context, work Work) error {
	if err := q.runs.begin(); err != nil {
		return err
	}
	var wg sync.WaitGroup
	slots := make(chan struct{}, q.o.Workers)
	failures := 0
	for {
		select {
		case slots <- struct{}{}:
		case <-ctx.Done():
		}
		if ctx.Err() != nil {
			break
		}
		c, err := q.next(ctx)
		if err != nil && ctx.Err() == nil {
			failures++
			if !isNoGroup(err) || failures > 1 {
				_ = q.s.failed(err)
				q.o.Logger.Debug("cannot fetch queued commands", "command", q.o.Command, "err", err)
				pause.For(ctx, min(time.Second, 50*time.Millisecond<<min(failures, 5)))
			}
			q.ready = false
		}
		if err == nil {
			failures = 0
		}
		if c == nil {
			<-slots
			continue
		}
		wg.Go(func() {
			defer func() { <-slots }()
			q.serve(ctx, c, work)
		})
	}
	wg.Wait()
	q.mu.Lock()
	q.over = true
	q.mu.Unlock()
	q.leave()
	return nil
}

// leave removes our consumer if nothing is left of it.
func (q *redisQueue) leave() {
	if q.s.Err() != nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), redisdb.Timeout)
	defer cancel()
	// Items that were handed back are kept for whoever claims them; then the sweep removes us.
	p, err := q.s.client.XPendingExt(ctx, &redis.XPendingExtArgs{Stream: q.key("jobs"), Group: redisGroup, Start: "-", End: "+", Count: 1, Consumer: q.s.instance}).Result()
	if err == nil && len(p) == 0 {
		q.s.client.XGroupDelConsumer(ctx, q.key("jobs"), redisGroup, q.s.instance)
	}
}

func (q *redisQueue) eval(ctx context.Context, s *redis.Script, keys []string, args ...any) *redis.Cmd {
	return s.Run(ctx, q.s.client, keys, args...)
}

func (q *redisQueue) serve(ctx context.Context, c *claim, work Work) {
	select {
	case <-q.halt:
		q.handBack(ctx, c, false)
		return
	default:
	}
	q.mu.Lock()
	q.busy[c.entry] = c.item
	q.dirty = true
	q.mu.Unlock()
	defer func() {
		q.mu.Lock()
		defer q.mu.Unlock()
		delete(q.busy, c.entry)
		q.dirty = true
	}()
	answer, err := q.begin(ctx, c)
	if err != nil || len(answer) != 3 {
		_ = q.s.failed(err)
		return // it is claimed again when its lease has run out
	}
	if answer[0] == 0 {
		if answer[1] == 1 {
			q.o.Logger.Warn("dropped a queued command that Redis had not stored whole: it was sent again, and accepted then", "id", c.id, "command", q.o.Command)
			q.s.tell(ctx, q, c.item, nil, &DuplicateError{ID: c.id})
		}
		return
	}
	c.item.Attempt, c.item.Redelivered = int(answer[0]), answer[1] == 1
	c.item.Deadline = deadlineHere(c.item, time.Duration(answer[2])*time.Millisecond)
	if c.item.Attempt > q.o.Retries+1 && !c.item.Once {
		c.item.Attempt-- // it is not begun
		_ = q.s.failed(q.s.client.HIncrBy(ctx, q.key("tries"), c.id, -1).Err())
		if ctx.Err() != nil {
			q.handBack(ctx, c, false)
			return
		}
		q.finish(ctx, c, nil, errors.New(errInterrupted))
		return
	}
	run, cancel := context.WithCancelCause(ctx)
	var renewal sync.WaitGroup
	renewal.Go(func() { q.renew(run, c, cancel) })
	value, err := do(run, c.item, work)
	lost := errors.Is(context.Cause(run), errLeaseLost)
	cancel(nil)
	renewal.Wait()
	if lost && err != nil {
		q.o.Logger.Warn("stopped a queued command that another node has taken over", "id", c.id, "command", q.o.Command)
		return
	}
	q.finish(ctx, c, value, err)
}

// begin notes that a try begins. See beginScript for what it gives.
func (q *redisQueue) begin(ctx context.Context, c *claim) ([]int64, error) {
	window := int64(0)
	if c.isNew && c.item.Key != "" {
		window = q.o.Window.Milliseconds()
	}
	keys := q.keys("jobs", "at", "tries", "again", idempotencyKey(c.item))
	return q.eval(ctx, beginScript, keys, redisGroup, c.entry, c.id, c.taken, window).Int64Slice()
}

// deadlineHere is an item's deadline by the clock of this machine, whatever that of the other one says which
// has added the item: age ago, by Redis' clock.
func deadlineHere(item Item, age time.Duration) time.Time {
	if item.Deadline.IsZero() || item.Enqueued.IsZero() {
		return item.Deadline
	}
	return time.Now().Add(item.Deadline.Sub(item.Enqueued) - max(0, age))
}

// idempotencyKey is where the id is of the item that was accepted with an item's key.
func idempotencyKey(item Item) string { return fmt.Sprintf("key:%x", digestOf(item.Key)) }

// renew keeps an entry ours until ctx ends, or ends it when it is not.
func (q *redisQueue) renew(ctx context.Context, c *claim, cancel context.CancelCauseFunc) {
	for pause.For(ctx, q.s.cfg.Lease/3) {
		ours, err := q.eval(ctx, renewScript, q.keys("jobs"), redisGroup, q.s.instance, c.entry).Int()
		if err == nil && ours == 0 {
			cancel(errLeaseLost)
			return
		}
	}
}

// finish decides what becomes of an item after a try.
func (q *redisQueue) finish(ctx context.Context, c *claim, value json.RawMessage, err error) {
	what, next := "done", (*state)(nil)
	var pause time.Duration
	switch {
	case err == nil, errors.Is(err, ErrExpired):
	case ctx.Err() != nil:
		q.handBack(ctx, c, true)
		logTry(q.o.Logger, c.item, &state{}, err)
		return
	case c.item.Once:
	case c.item.Attempt <= q.o.Retries:
		what, pause = "retry", q.o.Backoff(c.item.Attempt)
		next = &state{Attempts: c.item.Attempt, Error: clipError(err), Due: time.Now().Add(pause)}
	default:
		what = "dead"
		next = &state{Attempts: c.item.Attempt, Error: clipError(err), Died: time.Now()}
	}
	if !q.end(ctx, c, what, err, pause) {
		return
	}
	q.mu.Lock()
	switch {
	case err == nil:
		q.stats.Done++
	case errors.Is(err, ErrExpired):
		q.stats.Expired++
	case what == "retry":
		q.stats.Retries++
	case what == "dead":
		q.stats.Failed++
	}
	q.mu.Unlock()
	logTry(q.o.Logger, c.item, next, err)
	if what != "retry" {
		q.s.tell(ctx, q, c.item, value, err)
	}
}

// end notes what becomes of an item, trying again while Redis is away. It reports false when
// somebody else has it, or has ended it in another way.
func (q *redisQueue) end(ctx context.Context, c *claim, what string, cause error, after time.Duration) bool {
	var record, sealedErr string
	if what != "done" {
		item := c.item
		if what == "dead" {
			item.Reply = false // whoever waits is told now
		}
		var err error
		if record, err = q.s.seal(item); err == nil {
			sealedErr, err = q.s.cfg.Sealer.Seal([]byte(clipError(cause)))
		}
		if err != nil {
			q.o.Logger.Error("cannot seal a queued command", "id", c.id, "err", err)
			return false
		}
	}
	for try := 0; ; try++ {
		call, cancel := context.WithTimeout(context.WithoutCancel(ctx), redisdb.Timeout)
		answer, err := q.eval(call, endScript, q.keys("jobs", "at", "tries", "again", "err", "later", "held", "dead", "dead-r"),
			redisGroup, c.entry, c.id, what, record, sealedErr, after.Milliseconds(), maxDead).Slice()
		cancel()
		if err == nil && len(answer) == 2 {
			if answer[1] != "" {
				q.o.Logger.Error("too many dead letters: the oldest is dropped", "id", answer[1], "command", q.o.Command)
			}
			return answer[0] == int64(1)
		}
		err = q.s.failed(err)
		if try == 0 {
			q.o.Logger.Error("cannot note what became of a queued command; trying again", "id", c.id, "command", q.o.Command, "err", err)
		}
		// When the node ends, the lease runs out and another does it again.
		if !pause.For(ctx, healthEvery) {
			return false
		}
	}
}

// handBack leaves an entry to whoever looks for abandoned work next.
func (q *redisQueue) handBack(ctx context.Context, c *claim, begun bool) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), redisdb.Timeout)
	defer cancel()
	_ = q.s.failed(q.eval(ctx, handBackScript, q.keys("jobs", "tries", "again"), redisGroup, q.s.instance, c.entry, c.id, begun).Err())
}

// Halt gives no more items to work.
func (q *redisQueue) Halt() { q.halting.Do(func() { close(q.halt) }) }

// SetClosed makes Add fail everywhere, or ends that.
func (q *redisQueue) SetClosed(ctx context.Context, closed bool) error {
	q.changed()
	if closed {
		return q.s.failed(q.s.client.HSet(ctx, q.key("conf"), "closed", 1).Err())
	}
	return q.s.failed(q.s.client.HDel(ctx, q.key("conf"), "closed").Err())
}

// Withdraw removes an item that waits.
func (q *redisQueue) Withdraw(ctx context.Context, id string) bool {
	ctx, cancel := context.WithTimeout(ctx, redisdb.Timeout)
	defer cancel()
	err := q.eval(ctx, withdrawScript, q.keys("jobs", "at", "tries", "again", "err", "later", "held"), redisGroup, id).Err()
	q.changed()
	return err == nil
}

// afterEntry is the first id of a stream behind entry.
func afterEntry(entry string) string {
	ms, seq, _ := strings.Cut(entry, "-")
	n, err := strconv.ParseUint(seq, 10, 64)
	if err != nil || n == math.MaxUint64 {
		return entry
	}
	return ms + "-" + strconv.FormatUint(n+1, 10)
}
