package tui

import (
	"cmp"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/meshctl/meshctl/internal/mesh/inspect"
	"github.com/meshctl/meshctl/internal/tui/screen"
)

const listRows = 200 // at most, in a panel

// slowList is the commands by their p99.
type slowList struct {
	match func(*inspect.Command) bool // nil: all
	rows  []*inspect.Command
	top   time.Duration
}

func (*slowList) name() string { return "Slowest" }

func (*slowList) empty() string { return "no calls yet" }

func (s *slowList) len() int { return len(s.rows) }

func (s *slowList) key(i int) string { return s.rows[i].Name }

func (s *slowList) goal(i int) string { return s.rows[i].Name }

func (s *slowList) filter(text string) error {
	match, err := matchCommands(text)
	if err == nil {
		s.match = match
	}
	return err
}

func (s *slowList) refresh(env Env) {
	s.rows, s.top = s.rows[:0], 0
	for i := range env.Picture.Commands {
		if c := &env.Picture.Commands[i]; c.P99 > 0 && (s.match == nil || s.match(c)) {
			s.rows = append(s.rows, c)
			s.top = max(s.top, c.P99)
		}
	}
	slices.SortFunc(s.rows, func(a, b *inspect.Command) int {
		return cmp.Or(cmp.Compare(b.P99, a.P99), strings.Compare(a.Name, b.Name))
	})
	s.rows = s.rows[:min(len(s.rows), listRows)]
}

// slowColumns gives the widths of name, bar, p50, p99, rate and errors of a panel.
func slowColumns(width int) (name, bar, p50, p99, rate, errors int) {
	p99 = 7
	if width >= 56 {
		p50, rate = 7, 8
	}
	if width >= 76 {
		errors = 9
	}
	rest := width - 2 - p50 - p99 - rate - errors
	name = max(min(rest*11/20, 30), min(rest, 14))
	return name, rest - name, p50, p99, rate, errors
}

func (s *slowList) head(l *screen.Line, t *screen.Theme) {
	_, bar, p50, p99, rate, errors := slowColumns(l.At() + l.Left())
	numbers := p50 + p99 + rate + errors
	if bar >= 13 {
		rule(l, t, numbers+len("━ p50 ─ p99")-4+1)
		l.Text(" ━", t.Good).Text(" p50", t.Head).Text(" ─", t.Warn).Text(" p99", t.Head)
		l.Fill(max(0, l.Left()-numbers), screen.Style{})
	}
	rule(l, t, numbers)
	l.Cell("P50", p50, true, t.Head).Cell("P99", p99, true, t.Head).
		Cell("CALLS/S", rate, true, t.Head).Cell("ERRORS/S", errors, true, t.Head)
}

func (s *slowList) row(l *screen.Line, t *screen.Theme, i int) {
	c := s.rows[i]
	name, bar, p50, p99, rate, errors := slowColumns(l.At() + l.Left())
	// The root is between a linear scale, on which one slow command makes all others
	// vanish, and a logarithmic one, on which nothing looks slow.
	share := func(d time.Duration) float64 { return math.Sqrt(float64(d) / float64(max(s.top, 1))) }
	st := t.Text
	if c.Rate == 0 && c.InFlight == 0 {
		st = t.Muted
	}
	l.Cell(c.Name, name, false, st).Fill(1, screen.Style{})
	l.Whisker(share(c.P50), share(c.P99), bar, t.Good, t.Warn)
	l.Cell(screen.Latency(c.P50), p50, true, t.Muted)
	l.Cell(screen.Latency(c.P99), p99, true, st.With(screen.Bold))
	l.Cell(screen.Rate(c.Rate), rate, true, t.Muted)
	bad := t.Faint
	if c.ErrRate > 0 {
		bad = t.Bad
	}
	l.Cell(screen.Rate(c.ErrRate), errors, true, bad)
}

// flightList is the oldest requests under way; a broadcast is one of them.
type flightList struct {
	match  func(*inspect.Live) bool // nil: all
	rows   []flightRow
	groups map[string]int
	total  int
}

type flightRow struct {
	live *inspect.Live // the oldest
	n    int           // of a broadcast
}

func (*flightList) name() string { return "In flight" }

func (*flightList) empty() string { return "nothing at this moment" }

func (f *flightList) len() int { return len(f.rows) }

func (f *flightList) key(i int) string { return cmp.Or(f.rows[i].live.Group, f.rows[i].live.UID) }

func (f *flightList) goal(i int) string { return f.rows[i].live.UID }

func (f *flightList) filter(text string) error {
	match, err := matchRequests(text)
	if err == nil {
		f.match = match
	}
	return err
}

func (f *flightList) refresh(env Env) {
	f.rows, f.total = f.rows[:0], env.Picture.Totals.InFlight
	if f.groups == nil {
		f.groups = map[string]int{}
	}
	clear(f.groups)
	for i := range env.Picture.Requests {
		r := &env.Picture.Requests[i]
		if !r.Ended.IsZero() || f.match != nil && !f.match(r) {
			continue
		}
		if r.Group != "" {
			if k, ok := f.groups[r.Group]; ok {
				f.rows[k].n++
				continue
			}
		}
		if len(f.rows) == listRows {
			continue
		}
		if r.Group != "" {
			f.groups[r.Group] = len(f.rows)
		}
		f.rows = append(f.rows, flightRow{live: r, n: 1})
	}
}

// flightColumns gives the widths of gauge, command, route and phase of a panel.
func flightColumns(width int) (gauge, command, route, phase int) {
	gauge = max(5, min(width/5, 24))
	rest := width - 1 - gauge - 1 - 6 - 2
	if width >= 84 {
		phase = 11
	}
	if rest-phase < 30 {
		return gauge, rest - phase, 0, phase
	}
	command = min(max((rest-phase)*2/5, 16), 32)
	return gauge, command, rest - phase - command - 1, phase
}

func (f *flightList) head(l *screen.Line, t *screen.Theme) {
	l.Text(screen.Count(uint64(max(0, f.total)))+" ", t.Info)
	const note = " oldest first, against the deadline"
	if l.Left() >= len(note)+4 {
		rule(l, t, len(note))
		l.Text(note, t.Head)
		return
	}
	rule(l, t, 0)
}

func (f *flightList) row(l *screen.Line, t *screen.Theme, i int) {
	r := f.rows[i]
	gauge, command, route, phase := flightColumns(l.At() + l.Left())
	st := ageStyle(t, r.live)
	l.Gauge(spent(r.live), gauge, st, t.Faint)
	l.Fill(1, screen.Style{}).Cell(screen.Latency(r.live.Age), 6, true, st.With(screen.Bold)).Fill(2, screen.Style{})
	l.Cell(r.live.Command, command, false, t.Text)
	if route > 0 {
		end := l.Fill(1, screen.Style{}).At() + route
		caller, target := r.route(route)
		for _, part := range [...]struct {
			text  string
			style screen.Style
		}{{caller, t.Muted}, {arrow, t.Faint}, {target, t.Muted}} {
			l.Cell(part.text, min(screen.Width(screen.Clean(part.text)), end-l.At()), false, part.style)
		}
		l.To(end)
	}
	l.Cell(r.live.Phase, phase, true, t.Faint)
}

const arrow = " → "

// route gives who calls whom, in their short names where the whole ones do not fit.
func (r *flightRow) route(width int) (caller, target string) {
	caller, target = r.live.Caller, r.live.Target
	if r.n > 1 {
		worker, _, _ := strings.Cut(target, "/")
		target = worker + "/* ×" + strconv.Itoa(r.n)
	}
	if screen.Width(caller)+len([]rune(arrow))+screen.Width(target) > width {
		return shortName(caller), shortName(target)
	}
	return caller, target
}

// shortName leaves the worker out of a node's name where the variant says it again, as in
// "billing/billing-2".
func shortName(node string) string {
	worker, variant, ok := strings.Cut(node, "/")
	if ok && len(variant) > len(worker) && strings.HasPrefix(variant, worker) {
		return variant
	}
	return node
}

// spent is the share of its time that a request has used; 0 when it has no deadline.
func spent(r *inspect.Live) float64 {
	if r.Timeout <= 0 {
		return 0
	}
	return float64(r.Age) / float64(r.Timeout)
}

func ageStyle(t *screen.Theme, r *inspect.Live) screen.Style {
	switch s := spent(r); {
	case s >= 0.8:
		return t.Bad
	case s >= 0.4:
		return t.Warn
	}
	return t.Good
}

// newsList is the newest events.
type newsList struct {
	match func(*inspect.Event) bool // nil: all
	rows  []numbered
}

// numbered is an event with its number among all that ever were.
type numbered struct {
	*inspect.Event
	number uint64
}

func (*newsList) name() string { return "Events" }

func (*newsList) empty() string { return "nothing has happened yet" }

func (n *newsList) len() int { return len(n.rows) }

func (n *newsList) key(i int) string { return strconv.FormatUint(n.rows[i].number, 10) }

func (*newsList) goal(int) string { return "events" }

func (n *newsList) filter(text string) error {
	match, err := matchEvents(text)
	if err == nil {
		n.match = match
	}
	return err
}

func (n *newsList) refresh(env Env) {
	n.rows = n.rows[:0]
	all := env.Picture.Events
	for i := len(all) - 1; i >= 0 && len(n.rows) < listRows; i-- {
		if n.match == nil || n.match(&all[i]) {
			n.rows = append(n.rows, numbered{&all[i], env.Picture.EventCount - uint64(len(all)-i)})
		}
	}
	slices.Reverse(n.rows)
}

func (n *newsList) head(l *screen.Line, t *screen.Theme) {
	const note = " newest last"
	if l.Left() >= 40 {
		rule(l, t, len(note))
		l.Text(note, t.Head)
	}
	rule(l, t, 0)
}

func (n *newsList) row(l *screen.Line, t *screen.Theme, i int) {
	e := n.rows[i]
	l.Text(e.At.Format(time.TimeOnly), t.Faint)
	mark, st := " · ", t.Muted
	switch e.Level {
	case inspect.LevelWarn:
		mark, st = " ▲ ", t.Warn
	case inspect.LevelError:
		mark, st = " ✖ ", t.Bad
	}
	l.Text(mark, st)
	for i, name := range [...]string{e.Node, e.Peer, e.Command} {
		if name == "" {
			continue
		}
		if i == 1 {
			l.Text("→ ", t.Faint)
		}
		l.Text(name+" ", t.Muted)
	}
	l.Text(e.Message, t.Text)
}
