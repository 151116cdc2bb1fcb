package route

import (
	"sync"
	"time"
)

// What a Budget earns and saves, in repetitions.
const (
	earnedByCall   = 0.2
	earnedBySecond = 1.0
	saved          = 10.0
)

// Budget keeps repetitions from multiplying the load of what is overloaded already: they are
// at most a fifth of the calls, one a second and ten in reserve. Make one with NewBudget; all
// methods are safe for concurrent use.
type Budget struct {
	mu    sync.Mutex
	left  float64
	since time.Time
}

// NewBudget makes one that has its reserve.
func NewBudget() *Budget { return &Budget{left: saved, since: time.Now()} }

// Called notes a call.
func (b *Budget) Called() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.left = min(b.left+earnedByCall, saved)
}

// Spend takes a repetition, and reports false when there is none.
func (b *Budget) Spend() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	now := time.Now()
	b.left = min(b.left+now.Sub(b.since).Seconds()*earnedBySecond, saved)
	b.since = now
	if b.left < 1 {
		return false
	}
	b.left--
	return true
}
