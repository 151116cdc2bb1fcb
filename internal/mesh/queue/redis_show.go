package queue

import (
	"context"
	"maps"
	"slices"
	"time"

	"github.com/redis/go-redis/v9"
)

// This file shows what a queue in Redis has, and changes nothing.

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
