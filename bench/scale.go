package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// scalePoint is what TestScale measured of one master with so many nodes.
type scalePoint struct {
	nodes, memory    int // of the master, in bytes for each node
	joined, p50, p99 float64
}

// scaleLine is what TestScale logs.
var scaleLine = regexp.MustCompile(`(\d+) nodes of \d+ workers: joined in (\d+) ms; .* after ([\d.]+) ms \(p50\), ([\d.]+) ms \(p99\); (-?\d+) bytes`)

// runScale measures the control plane with 10 to 10,000 nodes and writes table and plot into
// the file, between marks of their own, and beside it.
func runScale(ctx context.Context, path string) error {
	var points []scalePoint
	for _, n := range []int{10, 100, 1000, 10_000} {
		cmd := exec.CommandContext(ctx, "go", "test", "./internal/mesh/master", "-run", "^TestScale$", "-count=1", "-v", "-timeout=10m")
		cmd.Dir = ".."
		cmd.Env = append(os.Environ(), "MESHCTL_SCALE="+strconv.Itoa(n))
		out, err := cmd.CombinedOutput()
		m := scaleLine.FindSubmatch(out)
		if m == nil {
			return fmt.Errorf("measure %d nodes: %w: %.2000s", n, errors.Join(err, errors.New("no figures")), out)
		}
		p := scalePoint{}
		for i, into := range []any{&p.nodes, &p.joined, &p.p50, &p.p99, &p.memory} {
			if _, err := fmt.Sscan(string(m[i+1]), into); err != nil {
				return fmt.Errorf("read %q: %w", m[i+1], err)
			}
		}
		fmt.Fprintf(os.Stderr, "%s\n", m[0])
		points = append(points, p)
	}
	plot := filepath.Join(filepath.Dir(path), "performance-scale.svg")
	if err := os.WriteFile(plot, plotScale(points), 0o644); err != nil {
		return err
	}
	var b bytes.Buffer
	fmt.Fprintf(&b, "Measured on %s by `make scale` on %s: real native links from another process to one master, the nodes spread over 10 workers.\n\n", time.Now().Format(time.DateOnly), machine())
	b.WriteString("| nodes | all joined after ms | ms for each | a newcomer known after ms, p50 | p99 | master's memory for each, KiB |\n| ---: | ---: | ---: | ---: | ---: | ---: |\n")
	for _, p := range points {
		fmt.Fprintf(&b, "| %d | %s | %s | %s | %s | %s |\n", p.nodes, number(p.joined), number(p.joined/float64(p.nodes)), number(p.p50), number(p.p99), number(float64(p.memory)/1024))
	}
	fmt.Fprintf(&b, "\n![memory for each node and time to join, by nodes](%s)\n", filepath.Base(plot))
	return writeBetween(path, "scale", b.Bytes())
}

// plotScale draws memory and time to join for each node; both have to stay level.
func plotScale(points []scalePoint) []byte {
	const width, height, left, right, top, bottom = 860, 360, 70, 240, 40, 50
	x := func(n int) float64 {
		return left + (math.Log10(float64(n))-1)/3*(width-left-right)
	}
	lines := []struct {
		name, colour string
		of           func(scalePoint) float64
	}{
		{"KiB of the master's memory for each node", "#d55e00", func(p scalePoint) float64 { return float64(p.memory) / 1024 }},
		{"ms to join, for each node", "#0072b2", func(p scalePoint) float64 { return p.joined / float64(p.nodes) }},
		{"ms until a newcomer is known (p99)", "#009e73", func(p scalePoint) float64 { return p.p99 }},
	}
	lowest, highest := math.Inf(1), 1.0
	for _, l := range lines {
		for _, p := range points {
			lowest, highest = min(lowest, max(l.of(p), 0.01)), max(highest, l.of(p))
		}
	}
	low, high := math.Floor(math.Log10(lowest)), math.Ceil(math.Log10(highest))
	y := func(v float64) float64 {
		return top + (high-math.Log10(max(v, 0.01)))/(high-low)*(height-top-bottom)
	}
	var b bytes.Buffer
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" font-family="sans-serif" font-size="12">`+"\n", width, height)
	fmt.Fprintf(&b, `<rect width="%d" height="%d" fill="#ffffff"/><text x="%d" y="22" font-size="14">One master, by the number of its nodes</text>`+"\n", width, height, left)
	for e := low; e <= high; e++ {
		fmt.Fprintf(&b, `<line x1="%d" y1="%.1f" x2="%d" y2="%.1f" stroke="#dddddd"/><text x="%d" y="%.1f" text-anchor="end">%s</text>`+"\n",
			left, y(math.Pow(10, e)), width-right, y(math.Pow(10, e)), left-6, y(math.Pow(10, e))+4, strconv.FormatFloat(math.Pow(10, e), 'f', -1, 64))
	}
	for _, p := range points {
		fmt.Fprintf(&b, `<text x="%.1f" y="%d" text-anchor="middle">%d</text>`+"\n", x(p.nodes), height-bottom+18, p.nodes)
	}
	for _, l := range lines {
		var at []string
		for _, p := range points {
			at = append(at, fmt.Sprintf("%.1f,%.1f", x(p.nodes), y(l.of(p))))
			fmt.Fprintf(&b, `<circle cx="%.1f" cy="%.1f" r="3" fill="%s"/>`+"\n", x(p.nodes), y(l.of(p)), l.colour)
		}
		fmt.Fprintf(&b, `<polyline points="%s" fill="none" stroke="%s" stroke-width="2"/>`+"\n", strings.Join(at, " "), l.colour)
		fmt.Fprintf(&b, `<text x="%d" y="%.1f" fill="%s">%s</text>`+"\n", width-right+10, y(l.of(points[len(points)-1]))+4, l.colour, l.name)
	}
	b.WriteString("</svg>\n")
	return b.Bytes()
}
