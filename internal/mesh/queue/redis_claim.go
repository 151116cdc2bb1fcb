package queue

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
)

// How a node comes by what it is to work on: what nobody was given, what is due again, and what another node has
// left undone.

// firstEntry is where a walk through what is being worked on begins; Redis says it at the end of one.
const firstEntry = "0-0"

// claim is an entry of the stream that is ours to work on.
type claim struct {
	entry string
	id    string
	taken bool // from another who has not finished it
	isNew bool // in the queue: it was not delayed or dead before
	item  Item
}

// next gives the next entry to be worked on here, nil when there is none for a while.
func (q *redisQueue) next(ctx context.Context) (*claim, error) {
	select {
	case <-q.halt:
		<-ctx.Done()
		return nil, nil
	default:
	}
	if err := q.prepare(ctx); err != nil {
		return nil, err
	}
	left, err := q.eval(ctx, promoteScript, q.keys("jobs", "at", "later", "held")).Int64()
	if err != nil {
		return nil, err
	}
	if c, err := q.takeOver(ctx); c != nil || err != nil {
		return c, err
	}
	block := min(redisBlock, q.s.cfg.Lease/3)
	if left >= 0 {
		block = min(block, time.Duration(left)*time.Millisecond)
	}
	streams, err := q.s.client.XReadGroup(ctx, &redis.XReadGroupArgs{
		Group: redisGroup, Consumer: q.s.instance, Streams: []string{q.key("jobs"), ">"}, Count: 1, Block: max(block, time.Millisecond),
	}).Result()
	if errors.Is(err, redis.Nil) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	if len(streams) == 0 || len(streams[0].Messages) == 0 {
		return nil, nil
	}
	return q.claim(ctx, streams[0].Messages[0], false), nil
}

// prepare makes the group, and tells callers the bound, unless that is done.
func (q *redisQueue) prepare(ctx context.Context) error {
	if q.ready {
		return nil
	}
	err := q.s.client.XGroupCreateMkStream(ctx, q.key("jobs"), redisGroup, "0").Err()
	if err != nil && !strings.HasPrefix(err.Error(), "BUSYGROUP") {
		return err
	}
	if err := q.eval(ctx, boundScript, q.keys("conf"), q.o.MaxDepth, q.s.instance).Err(); err != nil {
		return err
	}
	q.ready = true
	return nil
}

// takeOver claims what another has left undone. Three times in a lease it goes through all that is being worked
// on, a claim at a time.
func (q *redisQueue) takeOver(ctx context.Context) (*claim, error) {
	if q.from == firstEntry {
		if time.Since(q.claimed) < q.s.cfg.Lease/3 {
			return nil, nil
		}
		if err := q.sweep(ctx); err != nil {
			return nil, err
		}
	}
	for {
		ids, next, err := q.s.client.XAutoClaimJustID(ctx, &redis.XAutoClaimArgs{
			Stream: q.key("jobs"), Group: redisGroup, Consumer: q.s.instance, MinIdle: q.s.cfg.Lease, Start: q.from, Count: 1,
		}).Result()
		if err != nil {
			return nil, err
		}
		if q.from = next; next == firstEntry {
			q.claimed = time.Now()
		}
		for _, id := range ids { // one, or none: Redis looks at ten at a time
			messages, err := q.s.client.XRange(ctx, q.key("jobs"), id, id).Result()
			if err != nil {
				return nil, err
			}
			if len(messages) > 0 {
				return q.claim(ctx, messages[0], true), nil
			}
			// It was removed; Redis 6.2 gives it to us all the same.
			if err := q.s.client.XAck(ctx, q.key("jobs"), redisGroup, id).Err(); err != nil {
				return nil, err
			}
		}
		if next == firstEntry {
			return nil, nil
		}
	}
}

// sweep removes consumers that are long gone and have nothing left, and finds what nobody was given.
func (q *redisQueue) sweep(ctx context.Context) error {
	consumers, err := q.s.client.XInfoConsumers(ctx, q.key("jobs"), redisGroup).Result()
	if err != nil {
		return err
	}
	for _, c := range consumers {
		if c.Pending == 0 && c.Idle > 10*q.s.cfg.Lease && c.Name != q.s.instance {
			if err := q.s.client.XGroupDelConsumer(ctx, q.key("jobs"), redisGroup, c.Name).Err(); err != nil {
				return err
			}
		}
	}
	return q.eval(ctx, adoptScript, q.keys("jobs"), redisGroup, q.s.instance).Err()
}

// claim opens an entry. One that cannot be opened is left to others for a lease.
func (q *redisQueue) claim(ctx context.Context, m redis.XMessage, taken bool) *claim {
	id, _ := m.Values["id"].(string)
	sealed, _ := m.Values["r"].(string)
	item, err := q.s.open(ctx, sealed)
	if err != nil || item.ID != id {
		q.o.Logger.Error("a queued command in Redis cannot be opened; is its key in the key ring?", "id", id, "command", q.o.Command, "err", err)
		return nil
	}
	_, isNew := m.Values["new"]
	return &claim{entry: m.ID, id: id, taken: taken, isNew: isNew, item: item}
}
