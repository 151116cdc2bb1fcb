package tui

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strconv"

	tea "charm.land/bubbletea/v2"

	"github.com/meshctl/meshctl/internal/mesh/inspect"
	"github.com/meshctl/meshctl/internal/mesh/schema"
	"github.com/meshctl/meshctl/internal/tui/screen"
)

// links shows which workers are connected to which: a matrix whose cells open to the
// variants of both.
type links struct {
	matrix  screen.Matrix
	workers []string
	running map[string]int // nodes of each worker
	pairs   map[pair]*tally
	may     map[pair]bool // by the schema
	schema  *schema.Schema
	there   []string        // the workers that may was made for
	moved   bool            // somebody has moved the cursor
	notable []*inspect.Link // missing ones, then the busiest
}

type pair struct{ from, to string }

// tally sums up the links of a pair.
type tally struct {
	up, missing, draining, skipped, inFlight int
	rate                                     float64
}

func (t *tally) add(l *inspect.Link) {
	switch {
	case l.Missing:
		t.missing++
		return
	case l.Draining:
		t.draining++
	case l.Skipped:
		t.skipped++
	}
	t.up++
	t.inFlight += max(0, l.InFlight)
	t.rate += l.RateOut + l.RateBack
}

func newLinks() *links {
	p := &links{}
	p.matrix.Corner = "from ╲ to"
	p.matrix.Cell = p.cell
	return p
}

// Title names the page.
func (*links) Title() string { return "Links" }

// Refresh adds up the links by worker.
func (p *links) Refresh(env Env) {
	p.running, p.pairs = map[string]int{}, map[pair]*tally{}
	worker := map[string]string{}
	for i := range env.Picture.Nodes {
		n := &env.Picture.Nodes[i]
		worker[n.Name] = n.Worker
		here := 1
		if n.Health == inspect.Gone {
			here = 0
		}
		p.running[n.Worker] += here
	}
	p.consult(env.Picture.Schema)
	var last pair // links of a pair come one after the other
	var sum *tally
	for i := range env.Picture.Links {
		l := &env.Picture.Links[i]
		k := pair{worker[l.From], worker[l.To]}
		if sum == nil || k != last {
			if sum = p.pairs[k]; sum == nil {
				sum = &tally{}
				p.pairs[k] = sum
			}
			last = k
		}
		sum.add(l)
	}
	p.note(env.Picture.Links)
	p.matrix.SetHeads(p.workers, p.workers)
	p.choose()
}

// consult finds the workers to show, which are those that are there and those that the
// schema connects with them, and who may connect to whom. Schemas can be large: it asks
// only when the schema or the workers have changed.
func (p *links) consult(s *schema.Schema) {
	there := slices.Sorted(maps.Keys(p.running))
	if s == p.schema && slices.Equal(there, p.there) {
		return
	}
	p.schema, p.there, p.may = s, there, map[pair]bool{}
	p.workers = slices.Clone(there)
	if s != nil {
		for name := range s.Workers {
			if _, here := p.running[name]; !here && slices.ContainsFunc(there, func(other string) bool {
				return s.MayConnect(name, other) || s.MayConnect(other, name)
			}) {
				p.workers = append(p.workers, name)
			}
		}
		for _, from := range p.workers {
			for _, to := range p.workers {
				if s.MayConnect(from, to) {
					p.may[pair{from, to}] = true
				}
			}
		}
	}
	slices.SortFunc(p.workers, natural)
}

// choose puts the cursor, before anybody moves it, on what matters: the first pair with a
// missing link, else the first that is linked.
func (p *links) choose() {
	if p.moved || len(p.pairs) == 0 {
		return
	}
	var best pair
	var of *tally
	for k, sum := range p.pairs {
		if of == nil || cmp.Or(cmp.Compare(min(1, of.missing), min(1, sum.missing)), natural(k.from, best.from), natural(k.to, best.to)) < 0 {
			best, of = k, sum
		}
	}
	p.matrix.Select(slices.Index(p.workers, best.from), slices.Index(p.workers, best.to))
}

const maxNotable = 100 // links; more than any window has room for

// note keeps the links that are worth a line: the missing ones, and the busiest.
func (p *links) note(all []inspect.Link) {
	p.notable = p.notable[:0]
	busier := func(a, b *inspect.Link) int { return cmp.Compare(b.RateOut+b.RateBack, a.RateOut+a.RateBack) }
	var busy []*inspect.Link
	for i := range all {
		switch l := &all[i]; {
		case l.Missing && len(p.notable) < maxNotable:
			p.notable = append(p.notable, l)
		case !l.Missing:
			if len(busy) == 2*maxNotable {
				slices.SortStableFunc(busy, busier)
				busy = busy[:maxNotable]
			}
			if len(busy) < maxNotable || busier(l, busy[maxNotable-1]) < 0 {
				busy = append(busy, l)
			}
		}
	}
	slices.SortStableFunc(busy, busier)
	p.notable = append(p.notable, busy[:min(len(busy), maxNotable)]...)
}

// drawNotable gives the lines of the notable links that fit.
func (p *links) drawNotable(env Env, height int) []string {
	t := env.Theme
	if height < 4 || len(p.notable) == 0 {
		return nil
	}
	title := " Busiest links"
	if p.notable[0].Missing {
		title = " Missing and busiest links"
	}
	lines := []string{"", screen.NewLine(env.Width, screen.Style{}).Text(title, t.Title).String()}
	fits := p.notable[:min(len(p.notable), height-len(lines))]
	names := 0
	for _, l := range fits {
		names = max(names, screen.Width(l.From)+3+screen.Width(l.To))
	}
	names = min(names, env.Width/2)
	for _, l := range fits {
		mark, word, st := linkMark(t, l)
		line := screen.NewLine(env.Width, screen.Style{}).Text(" "+mark+" ", st)
		line.Cell(l.From+" → "+l.To, names, false, t.Text).Fill(2, t.Text)
		if l.Missing {
			line.Text("missing: asked for by the schema", st)
		} else {
			line.Cell(word, 9, false, st).Cell(screen.Rate(l.RateOut+l.RateBack), 6, true, t.Text).Text(" requests/s", t.Muted)
			line.Cell(screen.Count(uint64(max(0, l.InFlight))), 6, true, t.Text).Text(" in flight  "+l.Transport, t.Muted)
		}
		lines = append(lines, line.String())
	}
	return lines
}

func (p *links) cell(t *screen.Theme, row, column int) screen.Cell {
	k := pair{p.workers[row], p.workers[column]}
	sum := p.pairs[k]
	switch {
	case sum == nil && !p.may[k]:
		return screen.Cell{Text: "·", Style: t.Faint}
	case sum == nil:
		return screen.Cell{Text: "–", Style: t.Muted} // it may, and there is nobody
	case sum.missing > 0:
		return screen.Cell{Text: fmt.Sprintf("✖ %d/%d", sum.up, sum.up+sum.missing), Style: t.Bad.With(screen.Bold)}
	case sum.draining > 0:
		return screen.Cell{Text: "◐ " + strconv.Itoa(sum.up), Style: t.Info}
	case sum.skipped > 0:
		return screen.Cell{Text: "▲ " + strconv.Itoa(sum.up), Style: t.Warn}
	}
	return screen.Cell{Text: "● " + strconv.Itoa(sum.up), Style: t.Good}
}

// Update moves the cursor and opens a pair.
func (p *links) Update(_ Env, msg tea.Msg) tea.Cmd {
	if p.matrix.Update(msg) {
		p.moved = true
		return nil
	}
	key, ok := msg.(tea.KeyPressMsg)
	row, column, some := p.matrix.Selected()
	if !ok || !some {
		return nil
	}
	p.moved = true
	switch key.String() {
	case "enter":
		return Open(newPairPage(p.workers[row], p.workers[column]))
	case "n":
		return p.next(row, column)
	}
	return nil
}

// next goes to the next pair with a missing link.
func (p *links) next(row, column int) tea.Cmd {
	n := len(p.workers)
	for i := 1; i <= n*n; i++ {
		at := (row*n + column + i) % (n * n)
		if sum := p.pairs[pair{p.workers[at/n], p.workers[at%n]}]; sum != nil && sum.missing > 0 {
			p.matrix.Select(at/n, at%n)
			return nil
		}
	}
	return Tell("no link is missing")
}

// Draw draws the matrix, and below it what is under the cursor.
func (p *links) Draw(env Env) []string {
	if len(p.workers) == 0 {
		return empty(env, "No node has joined yet, so nobody is linked to anybody.")
	}
	return withDetail(env, &p.matrix, p.drawNotable, func(l *screen.Line, row, column int) {
		t, from, to := env.Theme, p.workers[row], p.workers[column]
		l.Text(" "+from+" → "+to+"  ", t.Title)
		sum := p.pairs[pair{from, to}]
		switch {
		case sum != nil:
			sum.draw(l, t)
		case !p.may[pair{from, to}]:
			l.Text("may not connect by the schema", t.Muted)
		case p.running[from] == 0:
			l.Text("may connect; no node of "+from+" is there", t.Muted)
		case p.running[to] == 0:
			l.Text("may connect; no node of "+to+" is there", t.Muted)
		default:
			l.Text("may connect; nothing is known of a link", t.Muted)
		}
	})
}

func (t *tally) draw(l *screen.Line, th *screen.Theme) {
	l.Text(plural(t.up, "link"), th.Text)
	if t.missing > 0 {
		l.Text("  ✖ "+strconv.Itoa(t.missing)+" missing", th.Bad.With(screen.Bold))
	}
	if t.draining > 0 {
		l.Text("  ◐ "+strconv.Itoa(t.draining)+" draining", th.Info)
	}
	if t.skipped > 0 {
		l.Text("  ▲ "+strconv.Itoa(t.skipped)+" skipped", th.Warn)
	}
	l.Text("  "+screen.Count(uint64(t.inFlight))+" in flight  "+screen.Rate(t.rate)+" requests/s", th.Muted)
}

func plural(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return strconv.Itoa(n) + " " + what + "s"
}

// withDetail draws a matrix, more below it where there is room, a line on what is under
// the cursor, and the legend.
func withDetail(env Env, m *screen.Matrix, more func(Env, int) []string, detail func(l *screen.Line, row, column int)) []string {
	t := env.Theme
	lines := m.Draw(t, env.Width, env.Height-2)
	if more != nil {
		lines = append(lines, more(env, env.Height-2-len(lines))...)
	}
	for len(lines) < env.Height-2 {
		lines = append(lines, "")
	}
	l := screen.NewLine(env.Width, screen.Style{})
	if row, column, ok := m.Selected(); ok {
		detail(l, row, column)
	}
	legend := screen.NewLine(env.Width, screen.Style{})
	legend.Text(" ● ", t.Good).Text("linked  ", t.Muted).Text("✖ ", t.Bad).Text("missing  ", t.Muted)
	legend.Text("◐ ", t.Info).Text("draining  ", t.Muted).Text("▲ ", t.Warn).Text("skipped  ", t.Muted).Text("– ", t.Muted).Text("may, nobody there  ", t.Muted).Text("· ", t.Faint).Text("may not", t.Muted)
	return append(lines, l.String(), legend.String())
}

// Keys are those of the matrix.
func (p *links) Keys() []Binding { return append(matrixKeys("open the pair"), missingKey()) }

func missingKey() Binding {
	return Binding{Keys: []string{"n"}, Help: "next missing", Hint: true}
}

func matrixKeys(open string) []Binding {
	return []Binding{
		{Keys: []string{"enter"}, Show: "⏎", Help: open, Hint: true},
		{Keys: []string{"up", "down", "left", "right"}, Show: "←↑↓→", Help: "move"},
		{Keys: []string{"home", "end", "g", "G"}, Show: "g/G", Help: "first, last"},
	}
}

// Copy gives the pair.
func (p *links) Copy() (text, what string) {
	row, column, ok := p.matrix.Selected()
	if !ok {
		return "", ""
	}
	text = p.workers[row] + " " + p.workers[column]
	return text, "the pair"
}
