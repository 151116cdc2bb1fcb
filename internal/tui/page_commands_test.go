package tui

import (
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/meshctl/meshctl/internal/mesh/inspect"
	"github.com/meshctl/meshctl/internal/mesh/wire"
	"github.com/meshctl/meshctl/internal/tui/screen"
	"github.com/meshctl/meshctl/internal/tui/tuitest"
)

func TestTotalsOfTheCommandsAreThoseOfThePicture(t *testing.T) {
	p := tuitest.Picture(13, 60)
	p.Totals.Calls, p.Totals.Errors = 1_234_567, 8_901
	for _, s := range sizes {
		r := dashboard(t, p, "dark", s)
		press(r, ":commands")
		wants(t, r, "1,234,567 calls", "8,901 failed")
		press(r, "/")
		typeIn(r, "billing")
		press(r, "enter")
		wants(t, r, "1,234,567 calls", "3 of 9")
	}
	for _, c := range p.Commands {
		r := dashboard(t, p, "dark", usual)
		press(r, ":"+c.Name)
		wants(t, r, "Commands › "+c.Name, "calls "+screen.Exact(c.Calls), "failed "+screen.Exact(c.Failed), "retries "+screen.Exact(c.Retries))
		for code, n := range c.Errors {
			inOrder(t, r, string(code), screen.Exact(n))
		}
		for _, n := range c.ByNode {
			inOrder(t, r, n.Node, screen.Count(n.Calls))
		}
	}
}

func TestCommandUnderTheCursorSurvivesRefreshAndSort(t *testing.T) {
	p := tuitest.Picture(13, 60)
	r := dashboard(t, p, "dark", usual)
	press(r, ":commands", "down", "down", "down")
	shown(r)
	page := r.front().(*commands)
	name := page.CallTarget()
	press(r, "s", "s")
	if column, desc := page.Sorted(); column != "CALLS" || !desc {
		t.Fatalf("sorted by %s, descending %v", column, desc)
	}
	for i := range p.Commands {
		p.Commands[i].Calls = uint64(1000 * (i * 7 % 9))
	}
	p.Commands = append([]inspect.Command{{Name: "a.first", Calls: 1 << 40}}, p.Commands...)
	send(r, frameMsg{})
	if got := page.CallTarget(); got != name {
		t.Errorf("the cursor was on %s, and is on %s", name, got)
	}
	inOrder(t, r, "a.first", name)
	press(r, "enter")
	wants(t, r, "Commands › "+name)
	if text, _ := r.front().(Copier).Copy(); text != "meshctl call "+name {
		t.Errorf("copied %q", text)
	}
	press(r, "enter") // a node that answers it
	wants(t, r, "Connections › "+strings.Split(name, ".")[0])
}

func TestCommandThatIsForgotten(t *testing.T) {
	p := tuitest.Picture(13, 60)
	r := dashboard(t, p, "dark", usual)
	press(r, ":"+p.Commands[0].Name)
	p.Commands = nil
	send(r, frameMsg{})
	wants(t, r, "has not been called")
	press(r, "enter", "down", "w", "y")
}

func TestErrorsOfACommandByFrequency(t *testing.T) {
	p := tuitest.Picture(13, 60)
	c := &p.Commands[0]
	c.Errors = map[wire.Code]uint64{wire.CodeTimeout: 5, wire.CodeDenied: 700, wire.CodePeerLost: 5}
	c.Failed = 710
	for _, s := range sizes[1:] {
		r := dashboard(t, p, "dark", s)
		press(r, ":"+c.Name)
		inOrder(t, r, "denied", "700", "peer_lost", "5", "timeout", "5")
	}
}

func TestLatencyAxis(t *testing.T) {
	ms := time.Millisecond
	bins := []inspect.Bin{{UpTo: ms, Count: 10}, {UpTo: 2 * ms, Count: 40}, {UpTo: 4 * ms}, {UpTo: 8 * ms, Count: 20}}
	for _, width := range []int{1, 7, 24, 80, 300} {
		a := axisOf(width, bins)
		values := a.columns(bins)
		var sum float64
		for _, v := range values {
			sum += v
		}
		if len(values) != width || math.Abs(sum-70) > 1e-6 {
			t.Errorf("%d columns hold %g of 70", len(values), sum)
		}
		if got := screen.Width(a.labels()); got != width {
			t.Errorf("labels of an axis of %d are %d wide", width, got)
		}
	}
	a := axisOf(60, bins)
	values := a.columns(bins)
	if empty := a.place(3 * ms); values[empty] != 0 {
		t.Error("the empty bar is not empty")
	}
	if low, high := a.place(time.Nanosecond), a.place(time.Hour); low != 0 || high != 59 {
		t.Errorf("what is outside is at %d and %d", low, high)
	}
	label := strings.Index(a.labels(), "1ms")
	if at := a.place(ms); label < 0 || at-label > 1 {
		t.Errorf("1 ms is at %d, its label at %d of %q", at, label, a.labels())
	}
	for labels, a := range map[string]latencyAxis{
		"1ms  10ms  100ms 1s ":                             {6, 9.5, 20},
		"1ms     2ms        5ms     10ms    20ms         ": {6, 7.75, 48},
		"100s      1000s     ":                             {11, 13, 20},
	} {
		if got := a.labels(); got != labels {
			t.Errorf("the labels of %v are %q, want %q", a, got, labels)
		}
	}
	// Without anything to show, and with one bar: still a scale.
	for _, bins := range [][]inspect.Bin{nil, {{UpTo: ms}}, {{UpTo: ms, Count: 1}}, {{UpTo: -1, Count: 1}}, {{UpTo: math.MaxInt64, Count: 1}}} {
		if a := axisOf(40, bins); !(a.high > a.low) || len(a.columns(bins)) != 40 {
			t.Errorf("axis of %v is from %g to %g", bins, a.low, a.high)
		}
	}
}

func TestPercentileMarksDoNotOverlap(t *testing.T) {
	theme, err := screen.Named("dark", screen.Terminal{})
	if err != nil {
		t.Fatal(err)
	}
	c := inspect.Command{P50: 10 * time.Millisecond, P90: 11 * time.Millisecond, P99: 12 * time.Millisecond, P999: time.Second}
	bins := []inspect.Bin{{UpTo: 10 * time.Millisecond, Count: 1}, {UpTo: time.Second, Count: 1}}
	marks := percentileMarks(theme, axisOf(60, bins), &c)
	var names []string
	end := -1
	for _, m := range marks {
		if m.at <= end {
			t.Errorf("%s begins at %d, where the one before it ends", m.text, m.at)
		}
		end = m.at + screen.Width(m.text)
		names = append(names, m.text)
	}
	if !slices.Contains(names, "▴p99") || slices.Contains(names, "▴p90") {
		t.Errorf("the marks are %v", names)
	}
	if marks := percentileMarks(theme, axisOf(60), &inspect.Command{}); len(marks) != 0 {
		t.Errorf("nothing was called, and the marks are %v", marks)
	}
}
