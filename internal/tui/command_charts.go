package tui

import (
	"cmp"
	"maps"
	"slices"

	"github.com/meshctl/meshctl/internal/mesh/inspect"
	"github.com/meshctl/meshctl/internal/mesh/wire"
	"github.com/meshctl/meshctl/internal/tui/screen"
)

// The least lines that charts are drawn in, and the least width of two side by side.
const (
	chartsHeight = 4
	chartsWide   = 100
)

// commandCharts draws the latencies and, where there is room beside them, the rate over the
// errors.
func commandCharts(env Env, c *inspect.Command, height int) []string {
	if env.Width < chartsWide {
		return latencyChart(env.Theme, c, env.Width-1, height)
	}
	right := env.Width * 2 / 5
	left := env.Width - right - panelGap - 1
	errors := min(max(2, len(c.Errors)+1), height/2)
	a := latencyChart(env.Theme, c, left, height)
	b := rateChart(env.Theme, c, right, height-errors-1)
	b = append(b, screen.NewLine(right, screen.Style{}).String())
	b = append(b, errorBars(env.Theme, c, right, errors)...)
	between := screen.NewLine(panelGap, screen.Style{}).String()
	for y := range a {
		a[y] += between + b[y]
	}
	return a
}

// latencyChart draws the histogram with a heading, the percentiles below the bars, and the
// scale.
func latencyChart(t *screen.Theme, c *inspect.Command, width, height int) []string {
	note := " the last 10 s, or all when idle"
	if width < 60 {
		note = ""
	}
	head := screen.NewLine(width, screen.Style{}).Text(" Latency ", t.Title).Text(c.Name+" ", t.Muted)
	rule(head, t, screen.Width(note))
	lines := []string{head.Text(note, t.Head).String()}

	axis := axisOf(width-1, c.Histogram)
	p90, p99 := axis.place(c.P90), axis.place(c.P99)
	for _, bars := range screen.Columns(axis.columns(c.Histogram), height-3) {
		row := []rune(bars)
		l := screen.NewLine(width, screen.Style{}).Fill(1, screen.Style{})
		l.Text(string(row[:p90]), t.Good).Text(string(row[p90:max(p90, p99)]), t.Warn).Text(string(row[max(p90, p99):]), t.Bad)
		lines = append(lines, l.String())
	}
	l := screen.NewLine(width, screen.Style{})
	for _, m := range percentileMarks(t, axis, c) {
		rule(l.Fill(1-l.At(), screen.Style{}), t, width-m.at-1)
		l.Text(m.text, m.style)
	}
	l.Fill(1-l.At(), screen.Style{})
	rule(l, t, 0)
	return append(lines, l.String(),
		screen.NewLine(width, screen.Style{}).Fill(1, screen.Style{}).Text(axis.labels(), t.Muted).String())
}

type percentileMark struct {
	at    int // column of the axis
	text  string
	style screen.Style
}

// percentileMarks are the percentiles that have a place on the axis, from left to right.
// Where two are too close, the first of p99, p50, p99.9 and p90 is told.
func percentileMarks(t *screen.Theme, axis latencyAxis, c *inspect.Command) []percentileMark {
	var marks []percentileMark
	for _, m := range [...]percentileMark{
		{axis.place(c.P99), "▴p99", t.Bad}, {axis.place(c.P50), "▴p50", t.Good},
		{axis.place(c.P999), "▴p99.9", t.Bad}, {axis.place(c.P90), "▴p90", t.Warn},
	} {
		end := m.at + screen.Width(m.text)
		free := c.P99 > 0 && end <= axis.width
		for _, other := range marks {
			free = free && (end < other.at || m.at > other.at+screen.Width(other.text))
		}
		if free {
			marks = append(marks, m)
		}
	}
	slices.SortFunc(marks, func(a, b percentileMark) int { return cmp.Compare(a.at, b.at) })
	return marks
}

// rateChart draws how often the command was called.
func rateChart(t *screen.Theme, c *inspect.Command, width, height int) []string {
	values := make([]float64, len(c.Trend))
	for i, v := range c.Trend {
		values[i] = float64(v)
	}
	note := " max " + screen.Rate(highest(values))
	head := screen.NewLine(width, screen.Style{}).Text(" Calls/s ", t.Title).Text(screen.Rate(c.Rate)+" ", t.Accent)
	rule(head, t, len(note))
	lines := []string{head.Text(note, t.Head).String()}
	for _, row := range screen.Graph(values, width-1, height-1, 0) {
		lines = append(lines, screen.NewLine(width, screen.Style{}).Fill(1, screen.Style{}).Text(row, t.Accent).String())
	}
	return lines
}

// errorBars draws how often the command failed, and how.
func errorBars(t *screen.Theme, c *inspect.Command, width, height int) []string {
	head := screen.NewLine(width, screen.Style{}).Text(" Errors ", t.Title)
	if c.ErrRate > 0 {
		head.Text(screen.Rate(c.ErrRate)+"/s ", t.Bad)
	}
	rule(head, t, 0)
	lines := []string{head.String()}
	errors := errorsOf(c)
	for i := 0; len(lines) < height; i++ {
		l := screen.NewLine(width, screen.Style{}).Fill(1, screen.Style{})
		switch {
		case i < len(errors):
			e := errors[i]
			const numbers = 11
			l.Cell(string(e.code), min(18, width/3), false, t.Text).Fill(1, screen.Style{})
			l.Gauge(float64(e.count)/float64(max(c.Failed, 1)), l.Left()-numbers, t.Bad, t.Faint)
			l.Cell(screen.Exact(e.count), numbers, true, t.Bad)
		case i == 0:
			l.Text("none", t.Muted)
		}
		lines = append(lines, l.String())
	}
	return lines
}

type errorCount struct {
	code  wire.Code
	count uint64
}

// errorsOf gives the command's errors, most frequent first.
func errorsOf(c *inspect.Command) []errorCount {
	all := make([]errorCount, 0, len(c.Errors))
	for _, code := range slices.Sorted(maps.Keys(c.Errors)) {
		all = append(all, errorCount{code, c.Errors[code]})
	}
	slices.SortStableFunc(all, func(a, b errorCount) int { return cmp.Compare(b.count, a.count) })
	return all
}
