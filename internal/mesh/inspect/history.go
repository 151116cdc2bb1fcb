package inspect

import (
	"math"
	"time"
)

// Time in a model passes in ticks. Rates are over the last rateTicks of them, latencies
// over the last windowSlots slots of slotTicks each, and a Sample is taken once a second.
const (
	tickEvery   = 500 * time.Millisecond
	rateTicks   = 4
	slotTicks   = 4
	windowSlots = 5
	sampleTicks = 2
	maxSamples  = 300
	maxTrend    = 120 // samples of one command
)

// meter turns a growing total into a rate per second.
type meter struct {
	total uint64
	past  [rateTicks]uint64 // of the last ticks
	rate  float64
}

func (m *meter) tick(ticks uint64) {
	at := &m.past[ticks%rateTicks]
	m.rate = float64(m.total-*at) / (float64(min(ticks, rateTicks)) * tickEvery.Seconds())
	*at = m.total
}

// cell is one bucket of a sparse histogram, which is sorted by i.
type cell struct {
	i uint16
	n uint32
}

// window holds the latencies of the last ten seconds, a slot for each two seconds.
type window struct {
	slots  [windowSlots][]cell
	epochs [windowSlots]uint32 // which two seconds a slot is of
}

func (w *window) add(epoch uint32, bucket int, n uint64) {
	at := epoch % windowSlots
	if w.epochs[at] != epoch {
		w.epochs[at] = epoch
		w.slots[at] = w.slots[at][:0]
	}
	w.slots[at] = addCell(w.slots[at], uint16(bucket), uint32(min(n, math.MaxUint32)))
}

func addCell(cells []cell, i uint16, n uint32) []cell {
	lo, hi := 0, len(cells)
	for lo < hi {
		if mid := (lo + hi) / 2; cells[mid].i < i {
			lo = mid + 1
		} else {
			hi = mid
		}
	}
	if lo < len(cells) && cells[lo].i == i {
		cells[lo].n += min(n, math.MaxUint32-cells[lo].n)
		return cells
	}
	cells = append(cells, cell{})
	copy(cells[lo+1:], cells[lo:])
	cells[lo] = cell{i, n}
	return cells
}

// spread is a dense histogram to add others to and to read percentiles from. The zero
// value is empty.
type spread struct {
	counts [BucketCount]uint64
	total  uint64
	lo, hi int // what is not zero is in counts[lo:hi]
}

func (s *spread) clear() {
	clear(s.counts[s.lo:s.hi])
	s.total, s.lo, s.hi = 0, 0, 0
}

func (s *spread) add(i int, n uint64) {
	if s.hi == 0 {
		s.lo, s.hi = i, i+1
	}
	s.lo, s.hi = min(s.lo, i), max(s.hi, i+1)
	s.counts[i] += n
	s.total += n
}

// addWindow adds what is no older than the window is long.
func (s *spread) addWindow(w *window, epoch uint32) {
	for k := range w.slots {
		if epoch-w.epochs[k] >= windowSlots {
			continue
		}
		for _, c := range w.slots[k] {
			s.add(int(c.i), uint64(c.n))
		}
	}
}

func (s *spread) addBuckets(buckets []Bucket) {
	for _, b := range buckets {
		s.add(b.Index, b.Count)
	}
}

// quantiles sets each of out to that of ps, which rise. Values are the middles of
// buckets, at most 1.6% off.
func (s *spread) quantiles(ps []float64, out []time.Duration) {
	clear(out)
	if s.total == 0 {
		return
	}
	var seen uint64
	k := 0
	for i := s.lo; i < s.hi && k < len(ps); i++ {
		seen += s.counts[i]
		for k < len(ps) && float64(seen) >= math.Ceil(ps[k]*float64(s.total)) {
			low, high := BucketBounds(i)
			out[k] = (low + high) / 2
			k++
		}
	}
}

// bins gives the histogram in bars of a quarter of a doubling, from the first that is
// not empty to the last.
func (s *spread) bins() []Bin {
	if s.total == 0 {
		return nil
	}
	const width = 1 << subBits / 4
	bar := func(i int) int { return (i - 1 + width) / width } // bucket 0 is a bar of its own
	first, last := bar(s.lo), bar(s.hi-1)
	bins := make([]Bin, last-first+1)
	for k := range bins {
		_, high := BucketBounds(min((first+k)*width, BucketCount-1))
		bins[k].UpTo = high
	}
	for i := s.lo; i < s.hi; i++ {
		bins[bar(i)-first].Count += s.counts[i]
	}
	return bins
}
