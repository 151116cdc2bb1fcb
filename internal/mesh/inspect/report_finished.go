package inspect

import (
	"cmp"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// maxFinished is how many finished requests a report has at most.
const maxFinished = 50

// finished keeps some of the requests that ended since the last report: those that failed
// before others, then the slowest. It is safe for concurrent use.
type finished struct {
	of atomic.Uint64 // how many there were
	// least is what a request that went well has to take longer than to be kept.
	least atomic.Int64

	mu   sync.Mutex
	kept []kept
}

type kept struct {
	Row
	at time.Time
}

// wants tells whether a request is worth adding, and counts it.
func (f *finished) wants(failed bool, took time.Duration) bool {
	f.of.Add(1)
	return failed || int64(took) >= f.least.Load()
}

func (f *finished) add(r Row) {
	f.mu.Lock()
	defer f.mu.Unlock()
	k := kept{Row: r, at: time.Now()}
	if len(f.kept) < maxFinished {
		f.kept = append(f.kept, k)
	} else {
		i := f.last()
		if !before(k, f.kept[i]) {
			return
		}
		f.kept[i] = k
	}
	if len(f.kept) == maxFinished {
		if l := f.kept[f.last()]; l.Code == "" {
			f.least.Store(int64(l.Took))
		} else {
			f.least.Store(int64(1<<63 - 1)) // only those that fail
		}
	}
}

// last is the index of the one that matters least. mu is held.
func (f *finished) last() int {
	last := 0
	for i := range f.kept {
		if before(f.kept[last], f.kept[i]) {
			last = i
		}
	}
	return last
}

// before tells whether a matters more than b.
func before(a, b kept) bool { return compareKept(a, b) < 0 }

func compareKept(a, b kept) int {
	if failed := a.Code != ""; failed != (b.Code != "") {
		if failed {
			return -1
		}
		return 1
	}
	return cmp.Compare(b.Took, a.Took)
}

// take gives what was kept, what matters most first, and how many there were, and begins
// anew.
func (f *finished) take() ([]kept, uint64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	all, of := f.kept, f.of.Swap(0)
	f.kept = nil
	f.least.Store(0)
	slices.SortFunc(all, compareKept)
	return all, of
}
