package node

import (
	"context"
	"math"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/meshctl/meshctl/internal/mesh/route"
	"github.com/meshctl/meshctl/internal/mesh/schema"
	"github.com/meshctl/meshctl/internal/mesh/wire"
	"github.com/meshctl/meshctl/internal/pause"
)

// repetition is how a call is repeated by the retry of its command.
type repetition struct {
	budget  *route.Budget // nil: it is not
	times   int           // that it was, or is going to be
	granted bool          // the next time is paid for
	lost    *wire.Error   // how a variant was lost that may have run it
}

// The pause before a request is sent again to variants that were tried: the first one,
// doubled for each further one, and give or take a half.
const (
	firstPause   = 50 * time.Millisecond
	longestPause = 2 * time.Second
)

// allows tells whether the request may be sent once more after e, and pays for it.
func (a *asking) allows(e *wire.Error) bool {
	r := a.cmd.Retry
	if a.again.budget == nil || a.again.times >= r.Attempts-1 || !slices.Contains(r.On, string(e.Code)) || !a.again.budget.Spend() {
		return false
	}
	a.again.times++
	return true
}

// repeatsElsewhere tells whether the next variant is to get a request that may have run.
func (a *asking) repeatsElsewhere(e *wire.Error) bool {
	if e.Code != wire.CodePeerLost || !a.allows(e) {
		return false
	}
	a.again.granted, a.again.lost = true, e
	return true
}

// repeat tells whether all variants are to be tried again, and pauses before.
func (c *core) repeat(ctx context.Context, a *asking, last *wire.Error) bool {
	if a.again.granted {
		a.again.granted = false
	} else if !a.allows(last) {
		return false
	}
	wait := min(firstPause<<(a.again.times-1), longestPause)
	wait = wait/2 + rand.N(wait)
	until := a.deadline
	if d, ok := ctx.Deadline(); ok && (until.IsZero() || d.Before(until)) {
		until = d
	}
	if !until.IsZero() && time.Until(until) <= wait {
		return false // there would be nothing left to wait for
	}
	return pause.For(ctx, wait)
}

// note remembers whether a variant answers. What its handlers make of a request says nothing
// of the variant.
func (c *core) note(p *peer, e *wire.Error) {
	if e == nil {
		p.health.Succeeded()
		return
	}
	switch e.Code {
	case wire.CodeTimeout, wire.CodePeerLost, wire.CodeOverloaded:
		if d := p.health.Failed(); d > 0 {
			c.log.Warn("skipping a variant that failed several times in a row", "peer", p.name, "for", d, "code", e.Code, "error", e.Message)
		}
	case wire.CodeCanceled, wire.CodeNoVariant:
	default:
		p.health.Succeeded()
	}
}

// line is whom a request tries one after another, and with whom it begins.
func (a *asking) line(ring *route.Ring[*peer], sel route.Selection) (all []*peer, first int) {
	if sel.IsZero() {
		all, first = ring.Turn(skipped)
	} else {
		all, first = ring.TurnOf(func(p *peer) bool { return sel.Has(p.variant) }, skipped)
	}
	switch a.cmd.Balance.Strategy {
	case schema.LeastInFlight:
		if len(all) > 0 {
			first = route.LessLoaded(all, load)
		}
	case schema.ByKey:
		if key, ok := route.Key(a.payload, a.cmd.Balance.Key); ok {
			return route.Ranked(all, key, func(p *peer) string { return p.variant }), 0
		}
	}
	return all, first
}

// skipped tells whether others should be preferred at present.
func skipped(p *peer) bool { return p.health.Skip() }

func load(p *peer) int {
	if skipped(p) {
		return math.MaxInt
	}
	return p.pending.Len()
}
