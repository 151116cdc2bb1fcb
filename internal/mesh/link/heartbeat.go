package link

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"
)

// How long a peer may be silent, in a local network and across the world.
const (
	HeartbeatLAN = 3 * time.Second
	HeartbeatWAN = 10 * time.Second
)

// The shortest and longest silence that ParseHeartbeat accepts.
const (
	minHeartbeat = 500 * time.Millisecond
	maxHeartbeat = 10 * time.Minute
)

// ParseHeartbeat reads a silence: "lan", "wan" or a duration.
func ParseHeartbeat(text string) (time.Duration, error) {
	switch text {
	case "lan":
		return HeartbeatLAN, nil
	case "wan":
		return HeartbeatWAN, nil
	}
	d, err := time.ParseDuration(text)
	if err != nil {
		return 0, fmt.Errorf("%q is neither lan nor wan nor a duration such as 5s", text)
	}
	if d < minHeartbeat || d > maxHeartbeat {
		return 0, fmt.Errorf("%s is not between %s and %s", text, minHeartbeat, maxHeartbeat)
	}
	return d, nil
}

// Heartbeat notices that the peer at the other end of a link has fallen silent, and keeps
// this end from being silent itself. It has no goroutine, so that it notices while
// another one is stuck in a write. Make one with NewHeartbeat.
type Heartbeat struct {
	pulse
	heard, said atomic.Bool // since the last beat

	mu    sync.Mutex
	timer *time.Timer
	do    Beats
}

// Beats is what a Heartbeat has done, one at a time. None of them may block for long.
type Beats struct {
	Ask  func() // the peer is to say something
	Say  func() // so is this end; nil: nothing has to be said
	Lost func() // the peer has been silent for too long; nothing follows
	// Busy excuses the silence, as where what came from the peer waits to be read at this
	// end; nil: nothing does.
	Busy func() bool
}

// NewHeartbeat watches a peer until ctx ends. Lost is called when nothing was heard for
// between three quarters of silence and all of it. That this process was stopped itself does not
// count, however long it was; nor does that it was starved, until that is more than half of silence in sum.
func NewHeartbeat(ctx context.Context, silence time.Duration, do Beats) *Heartbeat {
	h := &Heartbeat{pulse: pulse{every: silence * 95 / 100 / beats, last: time.Now()}, do: do}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.timer = time.AfterFunc(h.every, func() { h.beat(ctx) })
	context.AfterFunc(ctx, func() { h.timer.Stop() })
	return h
}

// Heard notes a sign of life of the peer, be it a part of a message.
func (h *Heartbeat) Heard() { note(&h.heard) }

// Said notes that this end gave one. What Ask and Say brought about does not count: else every
// second Say would be left out, and a peer whose questions come late, on a line that is full of what it
// sent before them, would hear of this end half as often.
func (h *Heartbeat) Said() { note(&h.said) }

// note spares the peer's core a write to what has been written already.
func note(b *atomic.Bool) {
	if !b.Load() {
		b.Store(true)
	}
}

func (h *Heartbeat) beat(ctx context.Context) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if ctx.Err() != nil {
		return
	}
	excused := h.do.Busy != nil && h.do.Busy()
	heard, said := h.heard.Swap(false), h.said.Swap(false)
	if h.lost(time.Now(), heard || excused) {
		h.do.Lost()
		return
	}
	switch {
	case !heard:
		h.do.Ask()
	case !said && h.do.Say != nil:
		h.do.Say()
	}
	h.timer.Reset(h.every)
}

// beats is how often one looks within the time that a peer may be silent. What is heard
// right after a look counts for the next one, which is why one less has to do.
const beats = 5

// excusable is how many beats' time may pass that does not count: after that, all does.
const excusable = 3

// pulse measures for how long nothing was heard.
type pulse struct {
	every  time.Duration
	last   time.Time     // the last beat
	silent time.Duration // what counts of the silence
	excuse time.Duration // what does not
}

// lost notes a beat, and tells whether nothing was heard for too long.
//
// A beat that comes late says more of this process, which was stopped or starved, than of the
// peer: its lateness does not count. Nor does the rest of it where it is late by more than a beat, as
// what the peer sent may not have been read yet. But a machine that is merely busy is late again and
// again, and would never notice anything: so that has an end. One stop is excused whole, however long.
func (p *pulse) lost(now time.Time, heard bool) bool {
	passed := now.Sub(p.last)
	p.last = now
	if heard {
		p.silent, p.excuse = 0, 0
		return false
	}
	counts := passed
	if p.excuse < excusable*p.every {
		if counts = min(passed, p.every); passed > 2*p.every {
			counts = 0
		}
	}
	p.silent += counts
	p.excuse += passed - counts
	return p.silent >= (beats-1)*p.every
}
