package demo

import (
	"hash/fnv"
	"math/rand/v2"
	"sync"
	"time"
)

// seed makes every run of the demo alike, so that pictures of it can be made again.
const seed = 20261122

// dice are random numbers that are the same in every run. They are safe for concurrent use.
type dice struct {
	mu sync.Mutex
	r  *rand.Rand
}

// newDice gives the part of the demo with this name dice of its own.
func newDice(name string) *dice {
	h := fnv.New64a()
	_, _ = h.Write([]byte(name)) // it never fails
	return &dice{r: rand.New(rand.NewPCG(seed, h.Sum64()))}
}

// below gives a number from 0 to n-1.
func (d *dice) below(n int) int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.r.IntN(n)
}

// happens is true with this probability.
func (d *dice) happens(share float64) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.r.Float64() < share
}

// between gives a time that is mostly short and sometimes long, as those of services are.
func (d *dice) between(shortest, longest time.Duration) time.Duration {
	d.mu.Lock()
	defer d.mu.Unlock()
	x := d.r.Float64()
	return shortest + time.Duration(x*x*x*float64(longest-shortest))
}
