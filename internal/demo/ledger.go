package demo

import (
	"sync"
	"time"

	"github.com/meshctl/meshctl/internal/mesh/wire"
)

// Summary is what came of all calls.
type Summary struct {
	Calls  int
	Failed map[wire.Code]int // requests of broadcasts each
}

// ledger counts the calls, and keeps the one that is most worth showing: that of which
// nothing like it was shown for the longest time. It is safe for concurrent use.
type ledger struct {
	mu      sync.Mutex
	sum     Summary
	shown   map[string]time.Time // by target and outcome
	best    *Call
	bestKey string
}

// add counts a call that has ended.
func (l *ledger) add(target string, c Call) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.sum.Failed == nil {
		l.sum.Failed, l.shown = make(map[wire.Code]int), make(map[string]time.Time)
	}
	l.sum.Calls++
	key := target
	count := func(code wire.Code) {
		if code != "" {
			key += " " + string(code)
			l.sum.Failed[code]++
		}
	}
	count(wire.CodeOf(c.Err))
	if c.Err == nil {
		for _, r := range c.Result.Replies {
			if r.Err != nil {
				count(r.Err.Code)
			}
		}
	}
	if l.best == nil || l.shown[key].Before(l.shown[l.bestKey]) {
		l.best, l.bestKey = &c, key
	}
}

// take gives the call to show now, if there is one.
func (l *ledger) take(now time.Time) (Call, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.best == nil {
		return Call{}, false
	}
	c := *l.best
	l.shown[l.bestKey], l.best = now, nil
	return c, true
}

// summary is what was counted. It is for after the last add.
func (l *ledger) summary() Summary {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.sum
}
