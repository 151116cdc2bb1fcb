package queue

import (
	"cmp"
	"context"
	"errors"
	"maps"
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

// Peek gives the first items: those being worked on, those that wait, those that are delayed.
func (q *redisQueue) Peek(ctx context.Context, limit int) ([]Entry, error) {
	given, _, err := q.given(ctx, "-", limit)
	if err != nil {
		return nil, err
	}
	out, err := q.show(ctx, given, StateRunning)
	if err != nil {
		return nil, err
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
		waiting, err := q.show(ctx, m, StateWaiting)
		if err != nil {
			return nil, err
		}
		out = append(out, waiting...)
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

// given are entries that somebody was given to work on, and where the next ones begin; "" when there are no more.
func (q *redisQueue) given(ctx context.Context, from string, limit int) (out []redis.XMessage, next string, err error) {
	pending, err := q.s.client.XPendingExt(ctx, &redis.XPendingExtArgs{Stream: q.key("jobs"), Group: redisGroup, Start: from, End: "+", Count: int64(limit)}).Result()
	if err != nil {
		if isNoGroup(err) {
			return nil, "", nil
		}
		return nil, "", q.s.failed(err)
	}
	pipe := q.s.client.Pipeline()
	found := make([]*redis.XMessageSliceCmd, len(pending))
	for i, p := range pending {
		found[i] = pipe.XRange(ctx, q.key("jobs"), p.ID, p.ID)
	}
	if err := q.exec(ctx, pipe); err != nil {
		return nil, "", err
	}
	for _, f := range found {
		out = append(out, f.Val()...)
	}
	if len(pending) == limit {
		next = afterEntry(pending[limit-1].ID)
	}
	return out, next, nil
}

// byTime gives the first entries of a set that is sorted by a time, which mark notes.
func (q *redisQueue) byTime(ctx context.Context, set, kind string, limit int, mark func(*Entry, time.Time)) ([]Entry, error) {
	ids, err := q.s.client.ZRangeWithScores(ctx, q.key(set), 0, int64(limit)-1).Result()
	if err != nil {
		return nil, q.s.failed(err)
	}
	pipe := q.s.client.Pipeline()
	records := make([]*redis.StringCmd, len(ids))
	for i, z := range ids {
		id, _ := z.Member.(string)
		records[i] = pipe.HGet(ctx, q.key(kind), id)
	}
	if err := q.exec(ctx, pipe); err != nil {
		return nil, err
	}
	var out []Entry
	for i, z := range ids {
		sealed, err := records[i].Result()
		if err != nil {
			continue // gone in the meantime
		}
		id, _ := z.Member.(string)
		e := q.entry(ctx, id, sealed)
		mark(&e, time.UnixMilli(int64(z.Score)))
		out = append(out, e)
	}
	return out, q.history(ctx, out)
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

// show makes entries of those in the stream.
func (q *redisQueue) show(ctx context.Context, messages []redis.XMessage, state string) ([]Entry, error) {
	out := make([]Entry, len(messages))
	for i, m := range messages {
		id, _ := m.Values["id"].(string)
		sealed, _ := m.Values["r"].(string)
		out[i] = q.entry(ctx, id, sealed)
		if out[i].State = state; out[i].Enqueued.IsZero() {
			out[i].Enqueued = entryTime(m.ID)
		}
	}
	return out, q.history(ctx, out)
}

// entry opens an item. Of one that cannot be opened it has the id, and why.
func (q *redisQueue) entry(ctx context.Context, id, sealed string) Entry {
	item, err := q.s.open(ctx, sealed)
	if err != nil {
		return Entry{Item: Item{ID: id}, Error: "it cannot be read: " + err.Error()}
	}
	return Entry{Item: item}
}

// history adds what is known of the items' tries.
func (q *redisQueue) history(ctx context.Context, entries []Entry) error {
	if err := ctx.Err(); err != nil {
		return err // some may not have been opened for that alone
	}
	pipe := q.s.client.Pipeline()
	tries := make([]*redis.StringCmd, len(entries))
	again := make([]*redis.BoolCmd, len(entries))
	errs := make([]*redis.StringCmd, len(entries))
	for i, e := range entries {
		tries[i] = pipe.HGet(ctx, q.key("tries"), e.ID)
		again[i] = pipe.SIsMember(ctx, q.key("again"), e.ID)
		errs[i] = pipe.HGet(ctx, q.key("err"), e.ID)
	}
	if err := q.exec(ctx, pipe); err != nil {
		return err
	}
	for i := range entries {
		e := &entries[i]
		e.Attempt, _ = tries[i].Int()
		e.Redelivered = again[i].Val()
		if text, err := q.s.cfg.Sealer.Open(ctx, errs[i].Val()); err == nil && e.Error == "" {
			e.Error = string(text)
		}
	}
	return nil
}

// EachSealed gives, queue by queue, what Redis has of items, sealed, until each says that it wants no more. What
// comes or goes meanwhile may be missing, or come twice.
func (s *Redis) EachSealed(ctx context.Context, each func(queue, sealed string) (more bool)) error {
	s.mu.Lock()
	queues := slices.Collect(maps.Values(s.queues))
	s.mu.Unlock()
	for _, q := range queues {
		more := true
		see := func(sealed string) bool {
			more = more && ctx.Err() == nil && each(q.name, sealed)
			return more
		}
		if err := q.eachSealed(ctx, see); err != nil {
			return s.failed(err)
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if !more {
			return nil
		}
	}
	return nil
}

func (q *redisQueue) eachSealed(ctx context.Context, see func(sealed string) (more bool)) error {
	for from := "-"; ; {
		page, err := q.s.client.XRangeN(ctx, q.key("jobs"), from, "+", pageSize).Result()
		if err != nil {
			return err
		}
		for _, m := range page {
			if sealed, _ := m.Values["r"].(string); !see(sealed) {
				return nil
			}
			from = "(" + m.ID
		}
		if len(page) < pageSize {
			break
		}
	}
	for _, hash := range []string{"held", "dead-r"} {
		for cursor := uint64(0); ; {
			page, next, err := q.s.client.HScan(ctx, q.key(hash), cursor, "", pageSize).Result()
			if err != nil {
				return err
			}
			for i := 1; i < len(page); i += 2 {
				if !see(page[i]) {
					return nil
				}
			}
			if cursor = next; next == 0 {
				break
			}
		}
	}
	return nil
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

// unreadable are the ids of what was given to somebody and cannot be opened here.
func (q *redisQueue) unreadable(ctx context.Context) (ids []string, err error) {
	for from := "-"; from != ""; {
		var given []redis.XMessage
		if given, from, err = q.given(ctx, from, pageSize); err != nil {
			return nil, err
		}
		for _, m := range given {
			sealed, _ := m.Values["r"].(string)
			if _, err := q.s.open(ctx, sealed); err != nil && ctx.Err() == nil {
				id, _ := m.Values["id"].(string)
				ids = append(ids, id)
			}
		}
	}
	return ids, nil
}

// withdraw removes the items of ids that wait, or that somebody was given, too, tells whoever waits for their
// outcome, and gives how many there were.
func (q *redisQueue) withdraw(ctx context.Context, ids []string, given bool) (n int, err error) {
	even := "0"
	if given {
		even = "1"
	}
	answers, err := q.evalEach(ctx, withdrawScript, q.keys("jobs", "at", "tries", "again", "err", "later", "held"), ids, func(id string) []any { return []any{redisGroup, id, even} })
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
