package screen

import "strings"

const blocks = " ▁▂▃▄▅▆▇█"

// Sparkline draws values as bars one line high, one column each, the newest at the right
// and at most width of them, filled up with spaces at the left. The highest bar is top, or
// the greatest value when top is 0. Values above zero always show.
func Sparkline(values []float64, width int, top float64) string {
	if width <= 0 {
		return ""
	}
	if len(values) > width {
		values = values[len(values)-width:]
	}
	if top <= 0 {
		for _, v := range values {
			top = max(top, v)
		}
	}
	var b strings.Builder
	b.WriteString(strings.Repeat(" ", width-len(values)))
	bars := []rune(blocks)
	for _, v := range values {
		i := 0
		if v > 0 && top > 0 {
			i = max(1, min(len(bars)-1, int(v/top*float64(len(bars)-1)+0.5)))
		}
		b.WriteRune(bars[i])
	}
	return b.String()
}

const eighths = " ▏▎▍▌▋▊▉█"

// Bar draws a share from 0 to 1 as a horizontal bar of width columns, in eighths.
func Bar(share float64, width int) string {
	if width <= 0 {
		return ""
	}
	n := 0
	if share > 0 { // not of NaN
		n = max(1, int(min(share, 1)*float64(width)*8+0.5))
	}
	parts := []rune(eighths)
	s := strings.Repeat("█", n/8)
	if n%8 > 0 {
		s += string(parts[n%8])
	}
	return s + strings.Repeat(" ", width-(n+7)/8)
}
