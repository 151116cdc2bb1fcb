package rpc

import (
	"cmp"
	"container/heap"
	"slices"
	"time"
)

// Oldest collects those requests that have been under way for longest, of any number, and
// counts all. Looking at 100,000 takes a few milliseconds. One goroutine uses it.
type Oldest struct {
	total int
	kept  youngestFirst
	most  int
}

// NewOldest keeps at most so many requests, which is not 0.
func NewOldest(most int) *Oldest { return &Oldest{most: most} }

// Total is how many requests were offered.
func (o *Oldest) Total() int { return o.total }

// All gives those that were kept, the oldest first.
func (o *Oldest) All() []InFlight {
	all := slices.Clone(o.kept)
	slices.SortFunc(all, func(a, b InFlight) int {
		return cmp.Or(a.Started.Compare(b.Started), cmp.Compare(a.UID, b.UID))
	})
	return all
}

// wants counts a request, and tells whether it is to be added.
func (o *Oldest) wants(started time.Time) bool {
	o.total++
	return len(o.kept) < o.most || started.Before(o.kept[0].Started)
}

// Add offers a request.
func (o *Oldest) Add(f InFlight) {
	if o.wants(f.Started) {
		o.add(f)
	}
}

func (o *Oldest) add(f InFlight) {
	if len(o.kept) < o.most {
		heap.Push(&o.kept, f)
		return
	}
	o.kept[0] = f
	heap.Fix(&o.kept, 0)
}

// youngestFirst is a heap from which nothing is taken.
type youngestFirst []InFlight

func (h youngestFirst) Len() int           { return len(h) }
func (h youngestFirst) Less(i, j int) bool { return h[i].Started.After(h[j].Started) }
func (h youngestFirst) Swap(i, j int)      { h[i], h[j] = h[j], h[i] }
func (h *youngestFirst) Push(f any)        { *h = append(*h, f.(InFlight)) }
func (h *youngestFirst) Pop() any          { return nil }
