package route

import (
	"sync"
	"sync/atomic"
	"time"
)

// A variant that fails so often in a row is skipped for a while, each further time for
// twice as long.
const (
	failuresToSkip = 5
	firstSkip      = 2 * time.Second
	longestSkip    = time.Minute
)

// Health remembers whether a variant fails. The zero value is healthy; all methods are
// safe for concurrent use, and cost nothing to speak of while nothing fails.
type Health struct {
	until    atomic.Pointer[time.Time] // nil: not skipped
	failures atomic.Int32              // in a row

	mu    sync.Mutex
	times int // skipped in a row
}

// Skip tells whether others should be preferred at present.
func (h *Health) Skip() bool {
	until := h.until.Load()
	return until != nil && time.Now().Before(*until)
}

// Succeeded notes a request that was answered.
func (h *Health) Succeeded() {
	if h.failures.Load() == 0 {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.failures.Store(0)
	h.until.Store(nil)
	h.times = 0
}

// Failed notes a request that failed, and tells for how long the variant is skipped if
// this was what it took; else 0.
func (h *Health) Failed() time.Duration {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.Skip() {
		return 0 // it was sent before
	}
	if h.failures.Add(1) < failuresToSkip {
		return 0
	}
	h.failures.Store(failuresToSkip - 1) // after that time, one more failure is enough
	d := longestSkip
	if h.times < 5 {
		d = min(firstSkip<<h.times, longestSkip)
	}
	h.times++
	until := time.Now().Add(d)
	h.until.Store(&until)
	return d
}
