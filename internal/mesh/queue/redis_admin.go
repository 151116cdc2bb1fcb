package queue

import (
	"cmp"
	"context"
	"errors"
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
	s.Command, s.Backend, s.Shared, s.MaxDepth, s.Running = q.o.Command, "redis", q.o.Shared, q.o.MaxDepth, len(q.busy)
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

// Peek gives the first items: those being worked on, those that wait, those that are delayed.
func (q *redisQueue) Peek(ctx context.Context, limit int) ([]Entry, error) {
	var out []Entry
	pending, err := q.s.client.XPendingExt(ctx, &redis.XPendingExtArgs{Stream: q.key("jobs"), Group: redisGroup, Start: "-", End: "+", Count: int64(limit)}).Result()
	if err != nil && !isNoGroup(err) {
		return nil, q.s.failed(err)
	}
	for _, p := range pending {
		m, err := q.s.client.XRange(ctx, q.key("jobs"), p.ID, p.ID).Result()
		if err != nil {
			return nil, q.s.failed(err)
		}
		out = q.show(ctx, out, m, StateRunning)
	}
	from, err := q.waitingFrom(ctx)
	if err != nil {
		return nil, err
	}
	if len(out) < limit {
		m, err := q.s.client.XRangeN(ctx, q.key("jobs"), from, "+", int64(limit-len(out))).Result()
		if err != nil {
			return nil, q.s.failed(err)
		}
		out = q.show(ctx, out, m, StateWaiting)
	}
	if len(out) < limit {
		later, err := q.byTime(ctx, "later", "held", limit-len(out), func(e *Entry, due time.Time) { e.State, e.Due = StateDelayed, due })
		if err != nil {
			return nil, err
		}
		out = append(out, later...)
	}
	return out, nil
}

// byTime gives the first entries of a set that is sorted by a time, which mark notes.
func (q *redisQueue) byTime(ctx context.Context, set, kind string, limit int, mark func(*Entry, time.Time)) ([]Entry, error) {
	ids, err := q.s.client.ZRangeWithScores(ctx, q.key(set), 0, int64(limit)-1).Result()
	if err != nil {
		return nil, q.s.failed(err)
	}
	var out []Entry
	for _, z := range ids {
		id, _ := z.Member.(string)
		if e, ok := q.entry(ctx, id, kind); ok {
			mark(&e, time.UnixMilli(int64(z.Score)))
			out = append(out, e)
		}
	}
	return out, nil
}

func isNoGroup(err error) bool { return strings.HasPrefix(err.Error(), "NOGROUP") }

// waitingFrom is where in the stream those begin that nobody has been given.
func (q *redisQueue) waitingFrom(ctx context.Context) (string, error) {
	groups, err := q.s.client.XInfoGroups(ctx, q.key("jobs")).Result()
	if err != nil {
		if _, told := err.(redis.Error); told { // no such key
			return "-", nil
		}
		return "", q.s.failed(err)
	}
	for _, g := range groups {
		if g.Name == redisGroup {
			return afterEntry(g.LastDeliveredID), nil
		}
	}
	return "-", nil
}

// show adds entries of the stream.
func (q *redisQueue) show(ctx context.Context, out []Entry, messages []redis.XMessage, state string) []Entry {
	for _, m := range messages {
		sealed, _ := m.Values["r"].(string)
		item, err := q.s.open(ctx, sealed)
		if err != nil {
			continue
		}
		e := Entry{Item: item, State: state}
		q.history(ctx, &e)
		out = append(out, e)
	}
	return out
}

// entry reads an item that is not in the stream.
func (q *redisQueue) entry(ctx context.Context, id, hash string) (Entry, bool) {
	sealed, err := q.s.client.HGet(ctx, q.key(hash), id).Result()
	if err != nil {
		return Entry{}, false
	}
	item, err := q.s.open(ctx, sealed)
	if err != nil {
		return Entry{}, false
	}
	e := Entry{Item: item}
	q.history(ctx, &e)
	return e, true
}

// history adds what is known of an item's tries.
func (q *redisQueue) history(ctx context.Context, e *Entry) {
	e.Attempt, _ = q.s.client.HGet(ctx, q.key("tries"), e.ID).Int()
	e.Redelivered, _ = q.s.client.SIsMember(ctx, q.key("again"), e.ID).Result()
	if sealed, err := q.s.client.HGet(ctx, q.key("err"), e.ID).Result(); err == nil {
		if text, err := q.s.cfg.Sealer.Open(ctx, sealed); err == nil {
			e.Error = string(text)
		}
	}
}

// Dead gives the oldest dead letters.
func (q *redisQueue) Dead(ctx context.Context, limit int) ([]Entry, error) {
	return q.byTime(ctx, "dead", "dead-r", limit, func(e *Entry, died time.Time) { e.State, e.Died = StateDead, died })
}

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
		for _, id := range ids {
			done, err := q.eval(ctx, deadScript, q.keys("jobs", "at", "tries", "again", "err", "dead", "dead-r"), id, what).Int()
			if err != nil {
				return n, q.s.failed(err)
			}
			n += done
		}
		if !all || len(ids) == 0 {
			return n, nil
		}
	}
}

// Purge removes all items that wait.
func (q *redisQueue) Purge(ctx context.Context) (n int, err error) {
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
		removed := 0
		for _, id := range ids {
			sealed, err := q.eval(ctx, withdrawScript, q.keys("jobs", "at", "tries", "again", "err", "later", "held"), redisGroup, id).Text()
			if errors.Is(err, redis.Nil) {
				continue // somebody works on it now
			}
			if err != nil {
				return n, q.s.failed(err)
			}
			removed++
			if item, err := q.s.open(ctx, sealed); err == nil {
				q.s.tell(ctx, q, item, nil, ErrPurged)
			}
		}
		q.changed()
		if n += removed; removed == 0 {
			return n, nil
		}
	}
}
