package demo

import (
	"context"
	"encoding/json"
	"fmt"
	"math"
	"sync"
	"time"

	"github.com/meshctl/meshctl/internal/mesh/node"
	"github.com/meshctl/meshctl/internal/mesh/wire"
	"github.com/meshctl/meshctl/internal/pause"
)

const (
	// stride is how often small calls are begun.
	stride = 25 * time.Millisecond
	// mostAtOnce is how many calls may be under way; more are left out.
	mostAtOnce = 400
)

// Kinds of calls.
const (
	balanced  = "balanced"
	broadcast = "broadcast"
	forget    = "fire and forget"
	queued    = "queued"
)

// errand is a call that is made again and again.
type errand struct {
	from    string // worker
	kind    string
	target  string
	payload func(*dice) any
	timeout time.Duration
	// hurry is the share of callers who give up after a moment.
	hurry float64
}

// small are the errands of the steady flow, and how often each is chosen.
func small() []struct {
	weight int
	errand
} {
	item := func(d *dice) any { return map[string]any{"item": 1000 + d.below(500)} }
	order := func(d *dice) any { return map[string]any{"order": 40000 + d.below(9999)} }
	return []struct {
		weight int
		errand
	}{
		{34, errand{from: "shop", kind: balanced, target: "search.query", payload: func(d *dice) any {
			return map[string]any{"text": []string{"desk lamp", "oak table", "red chair", "shelf"}[d.below(4)], "page": 1 + d.below(5)}
		}}},
		{12, errand{from: "shop", kind: balanced, target: "search.suggest", payload: func(d *dice) any { return map[string]any{"text": "la"} }, hurry: 0.03}},
		{18, errand{from: "shop", kind: balanced, target: "stock.level", payload: item}},
		{10, errand{from: "search", kind: balanced, target: "stock.level", payload: item}},
		{6, errand{from: "shop", kind: balanced, target: "stock.reserve", payload: item}},
		{12, errand{from: "shop", kind: balanced, target: "billing.quote", payload: func(d *dice) any { return map[string]any{"items": 1 + d.below(5)} }}},
		{4, errand{from: "shop", kind: balanced, target: "billing.charge", payload: order, timeout: 190 * time.Millisecond}},
		{2, errand{from: "shop", kind: queued, target: "mailer.send", payload: mail}},
		{2, errand{from: "mailer", kind: balanced, target: "shop.status"}},
	}
}

func mail(d *dice) any {
	return map[string]any{"order": 40000 + d.below(9999), "to": "ann@example.org"}
}

// traffic makes the nodes of the demo call each other.
type traffic struct {
	callers map[string][]*node.Node // by worker; they live as long as the demo
	ledger  ledger
	calls   sync.WaitGroup
	slots   chan struct{}
}

// run makes calls until ctx ends, and waits for those under way.
func (t *traffic) run(ctx context.Context) {
	t.slots = make(chan struct{}, mostAtOnce)
	defer t.calls.Wait()
	t.calls.Go(func() { t.flow(ctx) })
	statement := errand{from: "shop", kind: balanced, target: "billing.statement", payload: func(d *dice) any { return map[string]any{"customer": d.below(5000)} }}
	for _, r := range []struct {
		first, every time.Duration
		many         int
		errand
	}{
		{0, 350 * time.Millisecond, 1, statement.within(12 * time.Second)},
		{2 * time.Second, 4 * time.Second, 1, statement.within(2500 * time.Millisecond)}, // too little for some
		{time.Second, 3 * time.Second, 1, errand{from: "shop", kind: broadcast, target: "billing.totals"}},
		{3 * time.Second, 5 * time.Second, 1, errand{from: "shop", kind: forget, target: "mailer.refresh"}},
		{5 * time.Second, 16 * time.Second, 1, errand{from: "shop", kind: broadcast, target: "search.reindex", timeout: 10 * time.Second}},
		{4 * time.Second, 11 * time.Second, 70, errand{from: "shop", kind: queued, target: "mailer.send", payload: mail}},
	} {
		t.calls.Go(func() {
			d := newDice(fmt.Sprint(r.target, r.every))
			for wait := r.first; pause.For(ctx, wait); wait = r.every {
				for range r.many {
					t.begin(ctx, d, r.errand)
				}
			}
		})
	}
	<-ctx.Done()
}

func (e errand) within(d time.Duration) errand {
	e.timeout = d
	return e
}

// flow begins small calls: a steady number, which swells and ebbs, and bursts.
func (t *traffic) flow(ctx context.Context) {
	d, errands, total := newDice("flow"), small(), 0
	for _, e := range errands {
		total += e.weight
	}
	due := 0.0
	for i := 0; pause.For(ctx, stride); i++ {
		due += rate(time.Duration(i)*stride) * stride.Seconds()
		for ; due >= 1; due-- {
			x := d.below(total)
			for _, e := range errands {
				if x -= e.weight; x < 0 {
					t.begin(ctx, d, e.errand)
					break
				}
			}
		}
	}
}

// rate is how many small calls a second are begun at a time of the demo.
func rate(at time.Duration) float64 {
	calls := 75 + 25*math.Sin(2*math.Pi*at.Seconds()/40)
	if math.Mod(at.Seconds(), 9) > 7.4 {
		calls += 170
	}
	return calls
}

// begin makes a call, and does not wait for it.
func (t *traffic) begin(ctx context.Context, d *dice, e errand) {
	select {
	case t.slots <- struct{}{}:
	default:
		return
	}
	nodes := t.callers[e.from]
	from := nodes[d.below(len(nodes))]
	var payload any
	if e.payload != nil {
		payload = e.payload(d)
	}
	call, giveUp := ctx, context.CancelFunc(func() {})
	if d.happens(e.hurry) {
		call, giveUp = context.WithCancel(ctx)
		time.AfterFunc(30*time.Millisecond, giveUp)
	}
	t.calls.Go(func() {
		defer giveUp()
		defer func() { <-t.slots }()
		c := Call{From: from.Name(), Kind: e.kind}
		text, err := wire.Encode(payload)
		if err != nil {
			c.Err = err
		} else {
			c.Result, c.Err = from.Call(call, e.target, json.RawMessage(text), node.CallOptions{Timeout: e.timeout})
		}
		if ctx.Err() == nil { // the end of the demo is no failure of its last calls
			t.ledger.add(e.target, c)
		}
	})
}
