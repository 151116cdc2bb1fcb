package screen

import (
	"math"
	"strings"
	"testing"
)

func TestGraph(t *testing.T) {
	for _, x := range []struct {
		name   string
		values []float64
		height int
		top    float64
		want   []string
	}{
		{"nothing is known", nil, 1, 0, []string{"   "}},
		{"zeros are known", []float64{0, 0, 0}, 1, 0, []string{" ⢀⣀"}},
		{"newest at the right, two a column", []float64{9, 9, 1, 2, 3, 4, 4}, 1, 4, []string{"⣧⣴⣿"}},
		{"a little is more than nothing", []float64{0, .001}, 1, 100, []string{"  ⣠"}},
		{"two lines", []float64{0, 4, 8, 8, 8, 0}, 2, 0, []string{" ⣿⡇", "⣸⣿⣇"}},
	} {
		if got := Graph(x.values, 3, x.height, x.top); strings.Join(got, "|") != strings.Join(x.want, "|") {
			t.Errorf("%s: got %q, want %q", x.name, got, x.want)
		}
	}
}

func TestColumns(t *testing.T) {
	if got := strings.Join(Columns([]float64{0, 1, 8, 16, .01}, 2), "|"); got != "   █ | ▁██▁" {
		t.Errorf("got %q", got)
	}
	if got := Columns([]float64{0, 0}, 1)[0]; got != "  " {
		t.Errorf("got %q", got)
	}
}

func TestGaugeAndWhisker(t *testing.T) {
	gauge := func(share float64) string {
		return NewLine(6, Style{}).Gauge(share, 4, Style{}, Style{}).String()
	}
	for share, want := range map[float64]string{
		0: "────  ", .001: "╾───  ", .25: "━───  ", .375: "━╾──  ", .5: "━━──  ", 1: "━━━━  ", 7: "━━━━  ", -1: "────  ", math.Inf(1): "━━━━  ",
	} {
		if got := gauge(share); got != want {
			t.Errorf("a gauge of %g is %q, want %q", share, got, want)
		}
	}
	whisker := func(low, high float64) string {
		return NewLine(6, Style{}).Whisker(low, high, 4, Style{}, Style{}).String()
	}
	for want, x := range map[string][2]float64{
		"      ": {0, 0}, "━╾──  ": {.375, 1}, "━──╴  ": {.25, .875}, "━╸    ": {.375, .375}, "━━    ": {.5, .1}, "───╴  ": {0, .875},
	} {
		if got := whisker(x[0], x[1]); got != want {
			t.Errorf("a whisker of %v is %q, want %q", x, got, want)
		}
	}
}

// Whatever the numbers, a chart has its size.
func TestChartsKeepTheirSize(t *testing.T) {
	odd := []float64{math.NaN(), math.Inf(1), math.Inf(-1), -3, 0, 1e300, 5e-324, 1}
	for width := range 7 {
		for height := range 4 {
			for _, lines := range [][]string{Graph(odd, width, height, 0), Graph(odd, width, height, math.NaN()), Columns(odd[:width], height)} {
				if len(lines) != height && width > 0 {
					t.Fatalf("%d lines, want %d", len(lines), height)
				}
				for _, l := range lines {
					if Width(l) != width {
						t.Errorf("%q is not %d wide", l, width)
					}
				}
			}
		}
		for _, a := range odd {
			for _, b := range odd {
				if l := NewLine(9, Style{}).Whisker(a, b, width, Style{}, Style{}).Gauge(a, width, Style{}, Style{}); l.At() != min(9, 2*width) {
					t.Errorf("a whisker and a gauge of %g, %g and width %d end at %d", a, b, width, l.At())
				}
			}
		}
	}
}

func TestExact(t *testing.T) {
	for n, want := range map[uint64]string{0: "0", 999: "999", 1000: "1,000", 1234567: "1,234,567", math.MaxUint64: "18,446,744,073,709,551,615"} {
		if got := Exact(n); got != want {
			t.Errorf("Exact(%d) = %q, want %q", n, got, want)
		}
	}
}
