package socketio

import (
	"context"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/meshctl/meshctl/internal/mesh/seal"
	"github.com/meshctl/meshctl/internal/mesh/wire"
)

// Rations of key derivations for one address that has not declared itself.
const (
	failureBurst = 10 // openings that may fail at once …
	failureRate  = 2  // … and then per second
	// maxAddresses bounds the addresses whose failures are remembered.
	maxAddresses = 4096
	// maxGateWait is how long an undeclared peer's message waits for its turn.
	maxGateWait = 10 * time.Second
)

// errGateBusy says that an undeclared peer's message waited too long for its turn.
var errGateBusy = &wire.Error{Code: wire.CodeOverloaded, Message: "too many key derivations are waiting", Temporary: true}

// gate rations key derivations for undeclared peers: few at once, addresses served in
// turn, and each address slowed down when its messages cannot be opened. How many
// wait is bounded by how many undeclared connections there may be, as each of
// them opens one message at a time.
type gate struct {
	mu    sync.Mutex
	free  int
	sites map[netip.Prefix]*site
	turns []*site // those with waiters, next one first
	timer *time.Timer
}

// site is an address, as siteOf has it.
type site struct {
	tokens  float64 // failures it may still afford
	at      time.Time
	waiters []chan struct{} // closed on admission, oldest first
}

func newGate(atOnce int) *gate {
	return &gate{free: atOnce, sites: make(map[netip.Prefix]*site)}
}

// admit blocks until a derivation may be spent on address key. It fails with ctx's
// error or errGateBusy; otherwise done must be called once.
func (g *gate) admit(ctx context.Context, key netip.Prefix) (done func(ok bool), err error) {
	admitted := make(chan struct{})
	g.mu.Lock()
	s := g.site(key)
	if s == nil {
		g.mu.Unlock()
		return nil, errGateBusy
	}
	s.waiters = append(s.waiters, admitted)
	if len(s.waiters) == 1 {
		g.turns = append(g.turns, s)
	}
	g.dispatch()
	g.mu.Unlock()

	deadline := time.NewTimer(maxGateWait)
	defer deadline.Stop()
	select {
	case <-admitted:
		return func(ok bool) { g.release(s, ok) }, nil
	case <-ctx.Done():
		err = ctx.Err()
	case <-deadline.C:
		err = errGateBusy
	}
	g.mu.Lock()
	i := slices.Index(s.waiters, admitted)
	if i >= 0 {
		s.waiters = slices.Delete(s.waiters, i, i+1)
		if len(s.waiters) == 0 {
			g.turns = slices.DeleteFunc(g.turns, func(t *site) bool { return t == s })
		}
	}
	g.mu.Unlock()
	if i < 0 { // admitted meanwhile; nothing was tried, so nothing failed
		g.release(s, true)
	}
	return nil, err
}

// site finds or makes the state of an address; nil when too many are waiting.
func (g *gate) site(key netip.Prefix) *site {
	if s := g.sites[key]; s != nil {
		return s
	}
	now := time.Now()
	if len(g.sites) >= maxAddresses {
		// Those that are as good as new first; else any that does not wait.
		for k, s := range g.sites {
			if s.refill(now); len(s.waiters) == 0 && s.tokens == failureBurst {
				delete(g.sites, k)
			}
		}
		for k, s := range g.sites {
			if len(g.sites) < maxAddresses {
				break
			}
			if len(s.waiters) == 0 {
				delete(g.sites, k)
			}
		}
		if len(g.sites) >= maxAddresses {
			return nil
		}
	}
	s := &site{tokens: failureBurst, at: now}
	g.sites[key] = s
	return s
}

// dispatch admits waiters while there is room, one per address in turn. g.mu is held.
func (g *gate) dispatch() {
	now := time.Now()
	next := time.Duration(-1) // until an address may try again
	for skipped := 0; g.free > 0 && skipped < len(g.turns); {
		s := g.turns[0]
		g.turns = g.turns[1:]
		if s.refill(now); s.tokens < 1 {
			g.turns = append(g.turns, s)
			skipped++
			if d := time.Duration((1 - s.tokens) / failureRate * float64(time.Second)); next < 0 || d < next {
				next = d
			}
			continue
		}
		s.tokens--
		g.free--
		close(s.waiters[0])
		if s.waiters = s.waiters[1:]; len(s.waiters) > 0 {
			g.turns = append(g.turns, s)
		}
	}
	// With no room left, the next release dispatches.
	if g.free == 0 || next < 0 {
		return
	}
	if g.timer == nil {
		g.timer = time.AfterFunc(next+time.Millisecond, func() {
			g.mu.Lock()
			defer g.mu.Unlock()
			g.dispatch()
		})
		return
	}
	g.timer.Reset(next + time.Millisecond)
}

func (g *gate) release(s *site, refund bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.free++
	if refund {
		s.tokens = min(s.tokens+1, failureBurst)
	}
	g.dispatch()
}

func (s *site) refill(now time.Time) {
	s.tokens = min(s.tokens+now.Sub(s.at).Seconds()*failureRate, failureBurst)
	s.at = now
}

// connGate is the gate as one undeclared connection sees it.
type connGate struct {
	gate *gate
	conn *conn
}

var _ seal.Gate = connGate{}

// Admit waits for the connection's address' turn, which does not count as the
// connection's own slowness.
func (g connGate) Admit(ctx context.Context) (func(ok bool), error) {
	defer g.conn.wait()()
	return g.gate.admit(ctx, g.conn.site)
}
