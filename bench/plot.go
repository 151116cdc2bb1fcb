package main

import (
	"bytes"
	"fmt"
	"math"
	"slices"
)

// The plot: calls per second, logarithmic, by calls in flight, for 200 bytes.
const (
	plotWidth, plotHeight = 860, 480
	plotLeft, plotRight   = 70, 240 // margins; names stand in the right one
	plotTop, plotBottom   = 40, 50
)

// Colours that people who are colour blind tell apart (Okabe and Ito).
func colours() []string {
	return []string{"#d55e00", "#e69f00", "#0072b2", "#56b4e9", "#009e73", "#7fc8a9", "#999999", "#000000", "#cc79a7", "#8c564b", "#f0e442", "#5b4ba8", "#b0b0b0"}
}

func (r *report) plot() []byte {
	const payload = 200
	lowest, highest := math.Inf(1), 0.0
	for _, m := range r.Measurements {
		if m.Payload == payload {
			lowest, highest = min(lowest, m.CallsPerSecond), max(highest, m.CallsPerSecond)
		}
	}
	if highest == 0 {
		lowest, highest = 1, 10
	}
	low, high := math.Floor(math.Log10(lowest)), math.Ceil(math.Log10(highest))
	if high == low {
		high++
	}
	inner := float64(plotHeight - plotTop - plotBottom)
	x := func(i int) float64 {
		return plotLeft + float64(i)/float64(len(allInFlights())-1)*float64(plotWidth-plotLeft-plotRight)
	}
	y := func(v float64) float64 { return plotTop + (high-math.Log10(v))/(high-low)*inner }

	var b bytes.Buffer
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" font-family="sans-serif" font-size="12">`+"\n", plotWidth, plotHeight)
	fmt.Fprintf(&b, `<rect width="%d" height="%d" fill="#ffffff"/>`+"\n", plotWidth, plotHeight)
	fmt.Fprintf(&b, `<text x="%d" y="22" font-size="14">Calls per second by calls in flight, %d bytes (%s)</text>`+"\n", plotLeft, payload, r.Date)
	for e := low; e <= high; e++ {
		v := math.Pow(10, e)
		fmt.Fprintf(&b, `<line x1="%d" y1="%.1f" x2="%d" y2="%.1f" stroke="#dddddd"/><text x="%d" y="%.1f" text-anchor="end">%.0f</text>`+"\n",
			plotLeft, y(v), plotWidth-plotRight, y(v), plotLeft-6, y(v)+4, v)
	}
	for i, n := range allInFlights() {
		fmt.Fprintf(&b, `<text x="%.1f" y="%d" text-anchor="middle">%d</text>`+"\n", x(i), plotHeight-plotBottom+18, n)
	}
	fmt.Fprintf(&b, `<text x="%.1f" y="%d" text-anchor="middle">calls in flight</text>`+"\n", (x(0)+x(len(allInFlights())-1))/2, plotHeight-plotBottom+38)

	type label struct {
		text, colour string
		y            float64
	}
	var labels []label
	for k, s := range systems() {
		colour := colours()[k%len(colours())]
		var points bytes.Buffer
		last := 0.0
		for i, n := range allInFlights() {
			if v, ok := r.of(s.name, n, payload, speed); ok {
				fmt.Fprintf(&points, "%.1f,%.1f ", x(i), y(v))
				fmt.Fprintf(&b, `<circle cx="%.1f" cy="%.1f" r="3" fill="%s"/>`+"\n", x(i), y(v), colour)
				last = v
			}
		}
		if last == 0 {
			continue
		}
		width := 1.5
		if s.name == nameNative {
			width = 3
		}
		fmt.Fprintf(&b, `<polyline points="%s" fill="none" stroke="%s" stroke-width="%.1f"/>`+"\n", bytes.TrimSpace(points.Bytes()), colour, width)
		labels = append(labels, label{fmt.Sprintf("%s  %s", s.name, number(last)), colour, y(last) + 4})
	}
	// Names stand beside the end of their lines, but not on one another.
	slices.SortFunc(labels, func(a, b label) int { return int(math.Copysign(1, a.y-b.y)) })
	for i, l := range labels {
		if i > 0 {
			l.y = max(l.y, labels[i-1].y+15)
			labels[i].y = l.y
		}
		fmt.Fprintf(&b, `<text x="%d" y="%.1f" fill="%s">%s</text>`+"\n", plotWidth-plotRight+10, l.y, l.colour, l.text)
	}
	b.WriteString("</svg>\n")
	return b.Bytes()
}
