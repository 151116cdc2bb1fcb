package queue

import (
	"math/rand/v2"
	"time"
)

const (
	firstPause   = 500 * time.Millisecond
	longestPause = time.Minute
)

// Backoff is 500 ms after the first failed try and twice as long after each further one, up to
// a minute, all ±30% so that what failed together is not tried together.
func Backoff(attempt int) time.Duration {
	d := longestPause
	if shift := max(attempt, 1) - 1; shift < 8 {
		d = min(d, firstPause<<shift)
	}
	return time.Duration(float64(d) * (0.7 + 0.6*rand.Float64()))
}
