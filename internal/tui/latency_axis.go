package tui

import (
	"math"
	"slices"
	"time"

	"github.com/meshctl/meshctl/internal/mesh/inspect"
	"github.com/meshctl/meshctl/internal/tui/screen"
)

// latencyAxis is a logarithmic scale of latencies over some columns.
type latencyAxis struct {
	low, high float64 // decimal logarithms of nanoseconds
	width     int
}

// axisOf gives an axis that all histograms fit on. Its ends are thirds of decades, so
// that it stays where it is while the histograms change a little.
func axisOf(width int, histograms ...[]inspect.Bin) latencyAxis {
	a := latencyAxis{low: math.Inf(1), high: math.Inf(-1), width: width}
	full := func(b inspect.Bin) bool { return b.Count > 0 }
	for _, bins := range histograms {
		first := slices.IndexFunc(bins, full)
		if first < 0 {
			continue
		}
		last := len(bins) - 1
		for !full(bins[last]) {
			last--
		}
		low, _ := binBounds(bins, first)
		_, high := binBounds(bins, last)
		a.low, a.high = min(a.low, low), max(a.high, high)
	}
	if a.low > a.high {
		return latencyAxis{low: 6, high: 9, width: width} // 1 ms to 1 s
	}
	a.low, a.high = math.Floor(a.low*3)/3, math.Ceil(a.high*3)/3
	for a.high-a.low < 1.3 { // less than a decade tells little
		a.low, a.high = a.low-1./3, a.high+1./3
	}
	return a
}

// binBounds gives the bounds of a bar, as decimal logarithms of nanoseconds.
func binBounds(bins []inspect.Bin, i int) (low, high float64) {
	const width = 0.25 * math.Ln2 / math.Ln10 // of a bar, a quarter of a doubling
	high = math.Log10(max(float64(bins[i].UpTo), 1))
	if i == 0 {
		return max(high-width, 0), high
	}
	return min(math.Log10(max(float64(bins[i-1].UpTo), 1)), high), high
}

// column is where a latency is; it may be outside of the axis.
func (a latencyAxis) column(log float64) float64 {
	return (log - a.low) / (a.high - a.low) * float64(a.width)
}

// place is the column of a latency, inside of the axis.
func (a latencyAxis) place(d time.Duration) int {
	x := a.column(math.Log10(max(float64(d), 1)))
	return int(max(0, min(x, float64(a.width-1))))
}

// columns spreads a histogram over the columns, each bar over those that it covers.
func (a latencyAxis) columns(bins []inspect.Bin) []float64 {
	values := make([]float64, max(a.width, 0))
	for i, b := range bins {
		if b.Count == 0 {
			continue
		}
		low, high := binBounds(bins, i)
		from, to := a.column(low), a.column(high)
		for x := max(0, int(from)); x < a.width && float64(x) < to; x++ {
			part := min(to, float64(x+1)) - max(from, float64(x))
			if to > from && part > 0 {
				values[x] += float64(b.Count) * part / (to - from)
			}
		}
	}
	return values
}

// labels writes the decades below the axis, each at its place or, where that is too
// close to another, not at all.
func (a latencyAxis) labels() string {
	decades := [...]string{"1µs", "10µs", "100µs", "1ms", "10ms", "100ms", "1s", "10s", "100s", "1000s"}
	l := screen.NewLine(a.width, screen.Style{})
	for i, text := range decades {
		at := int(math.Floor(a.column(float64(i + 3))))
		if at >= 0 && (at > l.At() || at == 0) && at+screen.Width(text) <= a.width {
			l.To(at).Text(text, screen.Style{})
		}
	}
	return l.String()
}
