package screen

import "strings"

// Gauge adds a share from 0 to 1 as a heavy line that goes on as a thin one, width columns
// together.
func (l *Line) Gauge(share float64, width int, full, rest Style) *Line {
	width = min(width, l.Left())
	if width <= 0 {
		return l
	}
	n := halvesOf(share, width)
	at := l.heavy(n, n < 2*width, full)
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
	n, m := halvesOf(low, width), halvesOf(high, width)
	if at := l.heavy(n, n < m, heavy); m > 2*at {
		l.Text(strings.Repeat("─", m/2-at), thin)
		if m%2 == 1 {
			l.Text("╴", thin)
		}
	}
	return l.To(end)
}

// heavy adds a heavy line of so many half columns, whose last half goes on as a thin one
// if asked to. It tells how many columns it took.
func (l *Line) heavy(halves int, on bool, st Style) (columns int) {
	l.Text(strings.Repeat("━", halves/2), st)
	switch {
	case halves%2 == 0:
		return halves / 2
	case on:
		l.Text("╾", st)
	default:
		l.Text("╸", st)
	}
	return halves/2 + 1
}

// halvesOf is a share of width columns in half columns: at least one of what is above zero.
func halvesOf(share float64, width int) int {
	if !(share > 0) {
		return 0
	}
	return max(1, int(min(share, 1)*float64(2*width)+0.5))
}
