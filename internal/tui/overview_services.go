package tui

import (
	"cmp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/meshctl/meshctl/internal/mesh/inspect"
	"github.com/meshctl/meshctl/internal/mesh/wire"
	"github.com/meshctl/meshctl/internal/tui/screen"
)

// serviceList is the tree of workers and their variants. When it is too long for its place,
// variants that are well are folded into their worker; when the workers alone are, those
// that are not well come first.
type serviceList struct {
	rows    []serviceRow
	match   func(*inspect.Node) bool // nil: all
	nodes   []*inspect.Node          // by worker and variant
	at      time.Time
	room    int // rows that are on the screen
	folded  bool
	total   int // nodes of the picture
	workers int
	sick    int // nodes that are not healthy
}

// serviceRow is a worker, a variant of the worker above it, or the only variant of a
// worker in one line with it.
type serviceRow struct {
	node     *inspect.Node // of a variant
	worker   string        // of a worker; with node set, both
	variants []*inspect.Node
	gone     int  // of variants
	last     bool // variant of its worker that is shown
	health   inspect.Health
	reports  bool
	in, out  float64
	errors   float64
	p99      time.Duration
	inFlight int
}

func (*serviceList) name() string { return "Services" }

func (*serviceList) empty() string { return "no nodes yet" }

func (s *serviceList) len() int { return len(s.rows) }

func (s *serviceList) key(i int) string {
	if r := &s.rows[i]; r.worker == "" {
		return r.node.Name
	}
	return s.rows[i].worker
}

func (s *serviceList) goal(i int) string {
	if r := &s.rows[i]; r.node != nil {
		return r.node.Name
	}
	return s.rows[i].worker
}

func (s *serviceList) filter(text string) error {
	match, err := matchNodes(text)
	if err == nil {
		s.match = match
	}
	return err
}

func (s *serviceList) refresh(env Env) {
	s.nodes, s.total, s.at = s.nodes[:0], len(env.Picture.Nodes), env.Now()
	for i := range env.Picture.Nodes {
		if n := &env.Picture.Nodes[i]; s.match == nil || s.match(n) {
			s.nodes = append(s.nodes, n)
		}
	}
	slices.SortStableFunc(s.nodes, func(a, b *inspect.Node) int {
		return cmp.Or(natural(a.Worker, b.Worker), strings.Compare(a.Worker, b.Worker), natural(a.Variant, b.Variant))
	})
	s.arrange(s.room)
}

// arrange makes the rows for a place of so many.
func (s *serviceList) arrange(room int) {
	s.room, s.workers, s.sick = room, 0, 0
	rows := 0
	for i := range s.nodes {
		if s.nodes[i].Health != inspect.Healthy {
			s.sick++
		}
		if i == 0 || s.nodes[i].Worker != s.nodes[i-1].Worker {
			s.workers++
		} else if rows++; i == 1 || s.nodes[i].Worker != s.nodes[i-2].Worker {
			rows++ // its second variant: now both have rows of their own
		}
	}
	s.folded = s.workers+rows > room
	s.rows = s.rows[:0]
	if s.folded && s.workers > room {
		s.addWorkers(func(h inspect.Health) bool { return h != inspect.Healthy })
		s.addWorkers(func(h inspect.Health) bool { return h == inspect.Healthy })
		return
	}
	s.addWorkers(func(inspect.Health) bool { return true })
}

// addWorkers adds those workers whose health is wanted.
func (s *serviceList) addWorkers(want func(inspect.Health) bool) {
	for rest := s.nodes; len(rest) > 0; {
		n := 1
		for n < len(rest) && rest[n].Worker == rest[0].Worker {
			n++
		}
		if sum := sumOf(rest[:n]); want(sum.health) {
			s.add(sum)
		}
		rest = rest[n:]
	}
}

// sumOf adds up the variants of a worker, which is as well as the worst of those that
// are there.
func sumOf(variants []*inspect.Node) serviceRow {
	sum := serviceRow{worker: variants[0].Worker, variants: variants, health: inspect.Gone}
	for _, n := range variants {
		if n.Health != inspect.Gone && (sum.health == inspect.Gone || n.Health > sum.health) {
			sum.health = n.Health
		}
		if n.Health == inspect.Gone {
			sum.gone++
		}
		sum.reports = sum.reports || n.Reports
		sum.in += n.RateIn
		sum.out += n.RateOut
		sum.errors += n.ErrRate
		sum.p99 = max(sum.p99, n.P99)
		sum.inFlight += n.InFlight
	}
	if len(variants) == 1 {
		sum.node = variants[0]
	}
	return sum
}

const sickShown = 3 // variants that are not well, of a worker that is folded

func (s *serviceList) add(sum serviceRow) {
	s.rows = append(s.rows, sum)
	if sum.node != nil {
		return
	}
	shown := 0
	for _, n := range sum.variants {
		if s.folded && (n.Health == inspect.Healthy || shown == sickShown) {
			continue
		}
		shown++
		s.rows = append(s.rows, serviceRow{
			node: n, health: n.Health, reports: n.Reports,
			in: n.RateIn, out: n.RateOut, errors: n.ErrRate, p99: n.P99, inFlight: n.InFlight,
		})
	}
	if shown > 0 {
		s.rows[len(s.rows)-1].last = true
	}
}

// serviceColumns says how wide the columns of numbers are; 0: there is no room for one.
type serviceColumns struct{ in, out, errors, p99, inFlight int }

func columnsOf(width int) serviceColumns {
	switch {
	case width >= 66:
		return serviceColumns{in: 8, out: 8, errors: 9, p99: 7, inFlight: 8}
	case width >= 44:
		return serviceColumns{in: 8, p99: 7, inFlight: 8}
	case width >= 32:
		return serviceColumns{in: 8, p99: 7}
	}
	return serviceColumns{in: 6, p99: 6}
}

func (c serviceColumns) total() int { return c.in + c.out + c.errors + c.p99 + c.inFlight }

func (s *serviceList) head(l *screen.Line, t *screen.Theme) {
	c := columnsOf(l.At() + l.Left())
	note := strconv.Itoa(s.workers)
	if s.sick > 0 {
		if text := "▲ " + strconv.Itoa(s.sick); screen.Width(text)+2 <= l.Left()-c.total() {
			l.Text(text+" ", t.Warn)
		}
	} else if len(note)+2 <= l.Left()-c.total() {
		l.Text(note+" ", t.Muted)
	}
	rule(l, t, c.total())
	in := "CALLS/S"
	switch {
	case c.out > 0:
		in = "IN/S"
	case c.in < 8:
		in = "/S"
	}
	l.Cell(in, c.in, true, t.Head).Cell("OUT/S", c.out, true, t.Head).Cell("ERRORS/S", c.errors, true, t.Head).
		Cell("P99", c.p99, true, t.Head).Cell("FLIGHT", c.inFlight, true, t.Head)
}

func (s *serviceList) row(l *screen.Line, t *screen.Theme, i int) {
	r := &s.rows[i]
	c := columnsOf(l.At() + l.Left())
	names := l.At() + l.Left() - c.total() - 1 // where names have to end
	label := func(text string, st screen.Style) {
		l.Cell(text, min(screen.Width(screen.Clean(text)), names-l.At()), false, st)
	}
	mark, word, st := healthMark(t, r.health)

	if r.worker == "" {
		tree := "├ "
		if r.last {
			tree = "└ "
		}
		label(tree, t.Faint)
	}
	label(mark+" ", st)
	name := t.Text
	if r.health == inspect.Gone {
		name = t.Faint
	}
	if r.worker != "" {
		label(r.worker, name.With(screen.Bold))
		if r.node != nil {
			label("/"+r.node.Variant, t.Muted)
		} else {
			label(" ", name)
			s.pulse(l, t, r, names)
		}
	} else {
		label(r.node.Variant, name)
	}
	if r.node != nil {
		if r.health != inspect.Healthy {
			if r.health == inspect.Gone && !r.node.GoneAt.IsZero() {
				word += " " + screen.Span(s.at.Sub(r.node.GoneAt))
			}
			if screen.Width(word) < names-l.At() { // else the symbol has to do
				label(" "+word, st)
			}
		} else if r.node.Kind == wire.KindJavaScript {
			label(" JS", t.Muted)
		}
	}
	l.To(names + 1)
	if r.health == inspect.Gone {
		l.Cell("–", c.total(), true, t.Faint)
		return
	}
	s.numbers(l, t, r, c)
}

// pulse says how many variants a worker has; of one that is folded, how each is.
func (s *serviceList) pulse(l *screen.Line, t *screen.Theme, r *serviceRow, end int) {
	room := end - l.At()
	if !s.folded || len(r.variants) > room {
		text, st := "×"+strconv.Itoa(len(r.variants)), t.Muted
		if r.gone > 0 {
			text, st = "×"+strconv.Itoa(len(r.variants)-r.gone)+" of "+strconv.Itoa(len(r.variants)), t.Warn
		}
		l.Cell(text, max(0, min(room, screen.Width(text))), false, st)
		return
	}
	for _, n := range r.variants {
		mark, _, st := healthMark(t, n.Health)
		l.Cell(mark, 1, false, st)
	}
}

func (s *serviceList) numbers(l *screen.Line, t *screen.Theme, r *serviceRow, c serviceColumns) {
	number := t.Text
	if r.worker == "" {
		number = t.Muted
	}
	if !r.reports && r.in == 0 && r.out == 0 {
		l.Cell("no telemetry", c.total(), true, t.Faint)
		return
	}
	quiet := func(text string, v float64, st screen.Style) (string, screen.Style) {
		if v == 0 {
			return "·", t.Faint
		}
		return text, st
	}
	put := func(text string, width int, st screen.Style) {
		if width > 0 {
			l.Fill(1, screen.Style{}).Cell(text, width-1, true, st)
		}
	}
	in, st := quiet(screen.Rate(r.in), r.in, number)
	if c.out == 0 && r.out > r.in { // it calls rather than answers
		in, st = "→"+screen.Rate(r.out), t.Muted
	}
	put(in, c.in, st)
	out, st := quiet(screen.Rate(r.out), r.out, number)
	put(out, c.out, st)
	errs, st := quiet(screen.Rate(r.errors), r.errors, t.Bad)
	put(errs, c.errors, st)
	p99, st := quiet(screen.Latency(r.p99), float64(r.p99), number)
	if r.health == inspect.Degraded {
		st = t.Warn
	}
	put(p99, c.p99, st)
	busy, st := quiet(strconv.Itoa(r.inFlight), float64(r.inFlight), number)
	put(busy, c.inFlight, st)
}
