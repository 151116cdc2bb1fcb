package rpc

import (
	"sync"
	"sync/atomic"
	"time"
)

// idleFor is how long a goroutine may wait for its next request, at least; twice that at
// most.
const idleFor = 5 * time.Second

// pool is goroutines that answer requests, one after another. As many are there as
// requests were under way at once lately: none ever waits for another.
type pool struct {
	server *Server
	live   atomic.Int64

	mu     sync.Mutex
	idle   []*worker // the one that waits longest first
	over   bool
	sweeps int
	timer  *time.Timer // runs while somebody is idle
}

// worker is one goroutine of a pool.
type worker struct {
	next  chan *Running // closed: no more comes
	since int           // the sweep before it became idle
}

// run answers r on a goroutine.
func (p *pool) run(r *Running) {
	p.mu.Lock()
	if n := len(p.idle); n > 0 {
		w := p.idle[n-1]
		p.idle[n-1] = nil
		p.idle = p.idle[:n-1]
		p.mu.Unlock()
		w.next <- r
		return
	}
	p.mu.Unlock()
	p.live.Add(1)
	go p.work(r)
}

func (p *pool) work(r *Running) {
	w := &worker{next: make(chan *Running, 1)}
	for r != nil {
		p.server.execute(r)
		r = nil
		if p.park(w) {
			r = <-w.next
		}
	}
	if p.live.Add(-1) == 0 {
		p.server.wakeIdle()
	}
}

func (p *pool) park(w *worker) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.over {
		return false
	}
	w.since = p.sweeps
	p.idle = append(p.idle, w)
	if p.timer == nil {
		p.timer = time.AfterFunc(idleFor, p.sweep)
	} else if len(p.idle) == 1 {
		p.timer.Reset(idleFor)
	}
	return true
}

// sweep sends those home that have been idle since the sweep before.
func (p *pool) sweep() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.sweeps++
	n := 0
	for n < len(p.idle) && p.idle[n].since < p.sweeps-1 {
		close(p.idle[n].next)
		n++
	}
	p.idle = append(p.idle[:0], p.idle[n:]...)
	clear(p.idle[len(p.idle) : len(p.idle)+n])
	if len(p.idle) > 0 {
		p.timer.Reset(idleFor)
	}
}

func (p *pool) shut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.over = true
	for _, w := range p.idle {
		close(w.next)
	}
	p.idle = nil
	if p.timer != nil {
		p.timer.Stop()
	}
}
