package tui

import (
	"math"
	"slices"
	"strconv"
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

// labels writes latencies below the axis, each at its place or, where that is too close
// to another, not at all: the decades and, where these are far apart, some between.
func (a latencyAxis) labels() string {
	l := screen.NewLine(a.width, screen.Style{})
	steps := []int{1}
	if float64(a.width)/(a.high-a.low) >= 24 {
		steps = []int{1, 2, 5}
	}
	units := [...]string{"µs", "ms", "s"}
	for k := 0; k <= 9; k++ { // decades, in microseconds
		unit := min(k/3, len(units)-1)
		for _, step := range steps {
			text := strconv.Itoa(step*int(math.Pow10(k-3*unit))) + units[unit]
			at := int(math.Floor(a.column(float64(k+3) + math.Log10(float64(step)))))
			if at >= 0 && (at > l.At() || at == 0) && at+screen.Width(text) <= a.width {
				l.To(at).Text(text, screen.Style{})
			}
		}
	}
	return l.String()
}
