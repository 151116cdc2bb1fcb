package screen

import "strings"

// Gauge adds a share from 0 to 1 as a heavy line that goes on as a thin one, width columns
// together.
func (l *Line) Gauge(share float64, width int, full, rest Style) *Line {
	width = min(width, l.Left())
	if width <= 0 {
		return l
	}
	halves := halvesOf(share, width)
	l.Text(strings.Repeat("━", halves/2), full)
	at := halves / 2
	if halves%2 == 1 {
		l.Text("╸", full)
		at++
	}
	return l.Text(strings.Repeat("─", width-at), rest)
}

// Whisker adds a heavy line up to the share low and a thin one from there up to the share
// high, blank to the end of width columns: a middle and what is far from it.
func (l *Line) Whisker(low, high float64, width int, heavy, thin Style) *Line {
	width = min(width, l.Left())
	if width <= 0 {
		return l
	}
	end := l.At() + width
	n := halvesOf(low, width)
	l.Text(strings.Repeat("━", n/2), heavy)
	at := n / 2
	if n%2 == 1 {
		l.Text("╸", heavy)
		at++
	}
	if m := halvesOf(high, width); m > 2*at {
		l.Text(strings.Repeat("─", m/2-at), thin)
		if m%2 == 1 {
			l.Text("╴", thin)
		}
	}
	return l.To(end)
}

// halvesOf is a share of width columns in half columns: at least one of what is above zero.
func halvesOf(share float64, width int) int {
	if !(share > 0) {
		return 0
	}
	return max(1, int(min(share, 1)*float64(2*width)+0.5))
}
