package tui

import (
	"time"

	"github.com/meshctl/meshctl/internal/mesh/inspect"
	"github.com/meshctl/meshctl/internal/tui/screen"
)

// vitalsHeight is how many lines the vital signs get of a page of some height.
func vitalsHeight(height int) int {
	switch {
	case height < 16:
		return 2
	case height < 26:
		return 3
	case height < 44:
		return 5
	}
	return 8
}

// vital is one of the signs: what it is called, what it is now, and how it was.
type vital struct {
	name   string
	now    float64
	format func(float64) string
	more   string // what else to say
	style  screen.Style
	series []float64
}

// drawVitals draws the vital signs side by side, each a line of text over a graph of the
// last minutes.
func drawVitals(env Env, height int) []string {
	t, p := env.Theme, env.Picture
	gap, inFlight := 2, "in flight"
	switch {
	case env.Width >= 120:
		gap = 4
	case env.Width < 72:
		gap, inFlight = 1, "flight"
	}
	width := (env.Width - 1 - 3*gap) / 4
	history := trend(p.History, 2*width)

	bad := t.Faint
	if p.Totals.ErrorRate > 0 || highest(history.errors) > 0 {
		bad = t.Bad
	}
	share := ""
	if p.Totals.Rate > 0 && p.Totals.ErrorRate > 0 {
		share = percent(p.Totals.ErrorRate / p.Totals.Rate)
	}
	seconds := func(v float64) string { return screen.Latency(time.Duration(v)) }
	count := func(v float64) string { return screen.Count(uint64(max(0, v))) }
	vitals := [...]vital{
		{"calls/s", p.Totals.Rate, screen.Rate, "", t.Accent, history.calls},
		{"errors/s", p.Totals.ErrorRate, screen.Rate, share, bad, history.errors},
		{"p99", float64(p.Totals.P99), seconds, "p50 " + screen.Latency(p.Totals.P50), t.Special, history.p99},
		{inFlight, float64(p.Totals.InFlight), count, "", t.Info, history.inFlight},
	}
	rows := make([]*screen.Line, height)
	for y := range rows {
		rows[y] = screen.NewLine(env.Width, screen.Style{}).Fill(1, screen.Style{})
	}
	for i := range vitals {
		v := &vitals[i]
		at := 1 + i*(width+gap)
		value := v.style.With(screen.Bold)
		if v.style == t.Faint {
			value = screen.Style{Attr: screen.Bold}
		}
		head := rows[0].To(at).Text(v.name+" ", t.Muted).Text(v.format(v.now), value)
		end := at + width
		if v.more != "" && screen.Width(v.more) <= end-head.At()-2 {
			head.Text("  "+v.more, t.Muted)
		}
		if peak := "max " + v.format(max(highest(v.series), v.now)); len(v.series) > 0 && height > 2 && len(peak) <= end-head.At()-2 {
			head.To(end-screen.Width(peak)).Text(peak, t.Faint)
		}
		for y, line := range screen.Graph(v.series, width, height-1, 0) {
			rows[y+1].To(at).Text(line, v.style)
		}
	}
	lines := make([]string, height)
	for y, l := range rows {
		lines[y] = l.String()
	}
	return lines
}

// series are what became of the vital signs, oldest first.
type series struct{ calls, errors, p99, inFlight []float64 }

// trend squeezes a history into the newest points, so many at most. A point is of as many
// seconds as it takes to fill their place: which go together depends on the clock alone,
// so that the picture moves and does not shimmer. A point has the mean of its seconds'
// calls and the worst of the rest, which would otherwise be lost.
func trend(samples []inspect.Sample, points int) series {
	var s series
	if points < 1 || len(samples) == 0 {
		return s
	}
	step := int64(max(1, len(samples)/points))
	var n float64 // seconds in the last point
	last := int64(-1)
	for i := range samples {
		a := &samples[i]
		at := a.At.Unix() / step
		if at != last {
			last, n = at, 0
			s.calls, s.errors = append(s.calls, 0), append(s.errors, 0)
			s.p99, s.inFlight = append(s.p99, 0), append(s.inFlight, 0)
		}
		n++
		k := len(s.calls) - 1
		s.calls[k] += (a.Calls - s.calls[k]) / n
		s.errors[k] = max(s.errors[k], a.Errors)
		s.p99[k] = max(s.p99[k], float64(a.P99))
		s.inFlight[k] = max(s.inFlight[k], float64(a.InFlight))
	}
	newest := max(0, len(s.calls)-points)
	return series{s.calls[newest:], s.errors[newest:], s.p99[newest:], s.inFlight[newest:]}
}

func highest(values []float64) (top float64) {
	for _, v := range values {
		top = max(top, v)
	}
	return top
}
