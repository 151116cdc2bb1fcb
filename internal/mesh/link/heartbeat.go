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
// between three quarters of silence and all of it, of which this process was not stopped
// itself.
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
	heard, said := h.heard.Swap(false), h.said.Swap(false)
	excused := h.do.Busy != nil && h.do.Busy()
	if h.silentFor(time.Now(), heard || excused) == beats-1 {
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

// pulse counts the beats at which nothing was heard.
type pulse struct {
	every  time.Duration
	last   time.Time
	silent int
}

// silentFor is how many beats in a row nothing was heard. A beat that comes late says
// more of this process, which was stopped or starved, than of the peer: what that sent may
// not have been read yet, and it gets all of its time again.
func (p *pulse) silentFor(now time.Time, heard bool) int {
	late := now.Sub(p.last) > 2*p.every
	p.last = now
	if heard || late {
		p.silent = 0
	} else {
		p.silent++
	}
	return p.silent
}
