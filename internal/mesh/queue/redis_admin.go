package queue

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/meshctl/meshctl/internal/redisdb"
)

// statsTimeout is how long Stats waits for Redis, at most.
const statsTimeout = 200 * time.Millisecond

// pageSize is how many items are read or changed at a time.
const pageSize = 500

// Stats asks Redis when something has changed since, for a fifth of a second at most. Where that fails it gives
// what Redis last said, and the error.
func (q *redisQueue) Stats() Stats {
	q.mu.Lock()
	stale := q.dirty || q.o.Shared
	q.dirty = false // before Redis is asked: what changes after that is for the next time
	q.mu.Unlock()
	err := q.s.Err()
	if stale && err == nil {
		ctx, cancel := context.WithTimeout(context.Background(), statsTimeout)
		err = q.refresh(ctx)
		cancel()
	}
	if stale && err != nil {
		q.changed()
		q.o.Logger.Debug("cannot ask Redis about a queue", "command", q.o.Command, "err", err)
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	s := q.stats
	if err != nil {
		s.Error = "cannot ask Redis: " + err.Error()
	}
	s.Command, s.Backend, s.Shared, s.MaxDepth = q.o.Command, "redis", q.o.Shared, q.o.MaxDepth
	return s
}

// changed notes that what Redis last said is not true any more.
func (q *redisQueue) changed() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.dirty = true
}

func (q *redisQueue) refresh(ctx context.Context) error {
	pipe := q.s.client.Pipeline()
	length := pipe.XLen(ctx, q.key("jobs"))
	pending := pipe.XPending(ctx, q.key("jobs"), redisGroup)
	later := pipe.ZCard(ctx, q.key("later"))
	dead := pipe.ZCard(ctx, q.key("dead"))
	oldest := pipe.XRangeN(ctx, q.key("jobs"), "-", "+", 1)
	now := pipe.Time(ctx)
	closed := pipe.HExists(ctx, q.key("conf"), "closed")
	redisdb.Exec(ctx, pipe)
	if err := cmp.Or(length.Err(), later.Err(), dead.Err(), oldest.Err(), now.Err()); err != nil {
		return err
	}
	running := 0
	if p, err := pending.Result(); err == nil { // else there is no group yet
		running = int(p.Count)
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	q.stats.Closed = closed.Val()
	q.stats.Delayed, q.stats.Dead = int(later.Val()), int(dead.Val())
	// What others work on counts as waiting here, so that nothing is forgotten in a sum.
	q.stats.Waiting = max(0, int(length.Val())-min(running, len(q.busy))) + q.stats.Delayed
	q.stats.Running = len(q.busy) // of the same moment: what ends later may wait again by then, and would be in neither
	q.stats.OldestMillis = 0
	if m := oldest.Val(); len(m) > 0 {
		q.stats.OldestMillis = max(0, now.Val().Sub(entryTime(m[0].ID)).Milliseconds())
	}
	return nil
}

func entryTime(entry string) time.Time {
	text, _, _ := strings.Cut(entry, "-")
	ms, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		return time.Now()
	}
	return time.UnixMilli(ms)
}

func isNoGroup(err error) bool { return strings.HasPrefix(err.Error(), "NOGROUP") }

// Revive puts dead letters back into the queue.
func (q *redisQueue) Revive(ctx context.Context, ids ...string) (int, error) {
	return q.fromDead(ctx, ids, "retry")
}

// Bury removes dead letters for good.
func (q *redisQueue) Bury(ctx context.Context, ids ...string) (int, error) {
	return q.fromDead(ctx, ids, "gone")
}

func (q *redisQueue) fromDead(ctx context.Context, ids []string, what string) (n int, err error) {
	defer q.changed()
	all := len(ids) == 0
	for {
		if all {
			if ids, err = q.s.client.ZRange(ctx, q.key("dead"), 0, pageSize-1).Result(); err != nil {
				return n, q.s.failed(err)
			}
		}
		for page := range slices.Chunk(ids, pageSize) {
			answers, err := q.evalEach(ctx, deadScript, q.keys("jobs", "at", "tries", "again", "err", "dead", "dead-r"), page, func(id string) []any { return []any{id, what} })
			for _, a := range answers {
				done, _ := a.Int()
				n += done
			}
			if err != nil {
				return n, err
			}
		}
		if !all || len(ids) == 0 {
			return n, nil
		}
	}
}

// evalEach runs a script for each of the ids, at once.
func (q *redisQueue) evalEach(ctx context.Context, script *redis.Script, keys, ids []string, args func(id string) []any) ([]*redis.Cmd, error) {
	pipe := q.s.client.Pipeline()
	answers := make([]*redis.Cmd, len(ids))
	for i, id := range ids {
		answers[i] = script.Eval(ctx, pipe, keys, args(id)...)
	}
	return answers, q.exec(ctx, pipe)
}

// exec sends what a pipeline has. That something is not there is no error.
func (q *redisQueue) exec(ctx context.Context, pipe redis.Pipeliner) error {
	for _, a := range redisdb.Exec(ctx, pipe) {
		if err := a.Err(); err != nil && !errors.Is(err, redis.Nil) {
			return q.s.failed(err)
		}
	}
	return nil
}

// Purge removes all items that wait, and those that nobody has the key for.
func (q *redisQueue) Purge(ctx context.Context) (n int, err error) {
	defer q.changed()
	for {
		from, err := q.waitingFrom(ctx)
		if err != nil {
			return n, err
		}
		messages, err := q.s.client.XRangeN(ctx, q.key("jobs"), from, "+", pageSize).Result()
		if err != nil {
			return n, q.s.failed(err)
		}
		ids, err := q.s.client.ZRange(ctx, q.key("later"), 0, pageSize-1).Result()
		if err != nil {
			return n, q.s.failed(err)
		}
		for _, m := range messages {
			if id, _ := m.Values["id"].(string); id != "" {
				ids = append(ids, id)
			}
		}
		removed, err := q.withdraw(ctx, ids, false)
		if n += removed; err != nil {
			return n, err
		}
		if removed == 0 {
			sealed, err := q.unreadable(ctx)
			if err != nil {
				return n, err
			}
			removed, err = q.withdraw(ctx, sealed, true)
			return n + removed, err
		}
	}
}

// withdraw removes the items of ids that wait, or that somebody was given, too, tells whoever waits for their
// outcome, and gives how many there were.
func (q *redisQueue) withdraw(ctx context.Context, ids []string, given bool) (n int, err error) {
	answers, err := q.evalEach(ctx, withdrawScript, q.keys("jobs", "at", "tries", "again", "err", "later", "held"), ids, func(id string) []any { return []any{redisGroup, id, given} })
	for _, a := range answers {
		sealed, failure := a.Text()
		if failure != nil {
			continue // somebody works on it now
		}
		n++
		if item, err := q.s.open(ctx, sealed); err == nil {
			q.s.tell(ctx, q, item, nil, ErrPurged)
		}
	}
	return n, err
}
