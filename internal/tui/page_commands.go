package tui

import (
	"cmp"
	"time"

	tea "charm.land/bubbletea/v2"

	"github.com/meshctl/meshctl/internal/mesh/inspect"
	"github.com/meshctl/meshctl/internal/tui/screen"
)

// commands lists every command of the mesh.
type commands struct {
	filterable[inspect.Command]
	columns []screen.Column[inspect.Command]
	axis    latencyAxis // of the histograms in the rows
}

// The columns whose place is needed.
const (
	commandColumn = 1
	latencyColumn = 10
)

func newCommands() *commands {
	p := &commands{}
	p.compile = matchCommands
	p.columns = p.makeColumns()
	p.table = screen.NewTable(p.columns, func(c *inspect.Command) string { return c.Name }, commandColumn)
	return p
}

func (p *commands) makeColumns() []screen.Column[inspect.Command] {
	type command = inspect.Command
	count := func(title string, priority int, of func(*command) uint64) screen.Column[command] {
		return screen.Column[command]{Title: title, Width: 8, Min: 7, Priority: priority, Right: true, Down: true,
			Cell: func(t *screen.Theme, c *command) screen.Cell { return zeroFaint(t, screen.Count(of(c)), of(c) == 0) },
			Less: func(a, b *command) int { return cmp.Compare(of(a), of(b)) }}
	}
	latency := func(title string, priority int, of func(*command) time.Duration) screen.Column[command] {
		return screen.Column[command]{Title: title, Width: 7, Min: 6, Priority: priority, Right: true, Down: true,
			Cell: func(t *screen.Theme, c *command) screen.Cell {
				return zeroFaint(t, screen.Latency(of(c)), of(c) == 0)
			},
			Less: func(a, b *command) int { return cmp.Compare(of(a), of(b)) }}
	}
	return []screen.Column[command]{
		{Title: "", Width: 1, Min: 1, Cell: func(t *screen.Theme, c *command) screen.Cell {
			mark, _, st := commandMark(t, c)
			return screen.Cell{Text: mark, Style: st}
		}},
		commandColumn: {Title: "COMMAND", Width: 20, Min: 16, Flex: true, Max: 48,
			Cell: func(t *screen.Theme, c *command) screen.Cell { return screen.Cell{Text: c.Name, Style: t.Title} },
			Less: func(a, b *command) int { return natural(a.Name, b.Name) }},
		{Title: "CALLS/S", Width: 8, Min: 7, Right: true, Down: true,
			Cell: func(t *screen.Theme, c *command) screen.Cell {
				return zeroFaint(t, screen.Rate(c.Rate), c.Rate == 0)
			},
			Less: func(a, b *command) int { return cmp.Compare(a.Rate, b.Rate) }},
		count("CALLS", 3, func(c *command) uint64 { return c.Calls }),
		{Title: "FAILED", Width: 7, Min: 6, Priority: 1, Right: true, Down: true,
			Cell: func(t *screen.Theme, c *command) screen.Cell {
				cell := zeroFaint(t, screen.Count(c.Failed), c.Failed == 0)
				if c.ErrRate > 0 {
					cell.Style = t.Bad
				}
				return cell
			},
			Less: func(a, b *command) int { return cmp.Compare(a.Failed, b.Failed) }},
		count("FLIGHT", 5, func(c *command) uint64 { return uint64(max(0, c.InFlight)) }),
		latency("P50", 2, func(c *command) time.Duration { return c.P50 }),
		latency("P90", 6, func(c *command) time.Duration { return c.P90 }),
		latency("P99", 0, func(c *command) time.Duration { return c.P99 }),
		latency("P99.9", 4, func(c *command) time.Duration { return c.P999 }),
		latencyColumn: {Title: "LATENCY", Width: 24, Min: 20, Priority: 7, Flex: true, Max: 60,
			Cell: func(t *screen.Theme, c *command) screen.Cell {
				st := t.Special
				if c.Rate == 0 {
					st = t.Muted
				}
				return screen.Cell{Text: screen.Columns(p.axis.columns(c.Histogram), 1)[0], Style: st}
			}},
	}
}

// zeroFaint is a number that recedes when it is zero.
func zeroFaint(t *screen.Theme, text string, zero bool) screen.Cell {
	if zero {
		return screen.Cell{Text: text, Style: t.Faint}
	}
	return screen.Cell{Text: text}
}

// commandMark tells how a command is: it fails, it is called, or it is idle.
func commandMark(t *screen.Theme, c *inspect.Command) (mark, word string, st screen.Style) {
	switch {
	case c.ErrRate > 0:
		return "▲", "failing", t.Warn
	case c.Rate > 0 || c.InFlight > 0:
		return "●", "called", t.Good
	}
	return "○", "idle", t.Muted
}

// Title names the page.
func (p *commands) Title() string { return "Commands" }

// Refresh shows the commands of the picture.
func (p *commands) Refresh(env Env) { p.table.SetRows(env.Picture.Commands) }

// Update moves, sorts, and opens a command.
func (p *commands) Update(_ Env, msg tea.Msg) tea.Cmd {
	if p.table.Update(msg) {
		return nil
	}
	if key, ok := msg.(tea.KeyPressMsg); ok && key.String() == "enter" {
		if c := p.table.Selected(); c != nil {
			return Open(newCommandPage(c.Name))
		}
	}
	return nil
}

// previewHeight is the least height that the charts of the selected command are shown in.
const previewHeight = 7

// Draw draws the table over a line of totals and, where there is room below, the charts of
// the command under the cursor.
func (p *commands) Draw(env Env) []string {
	if p.table.Total() == 0 {
		return empty(env, "No command has been called yet. meshctl call calls one.")
	}
	p.scale(env.Width)
	lines := append(p.table.Draw(env.Theme, env.Width, env.Height-1), p.totals(env))
	c := p.table.Selected()
	height := min(env.Height-len(lines)-1, max(14, env.Height/2))
	if c == nil || height < previewHeight {
		return lines
	}
	blank := screen.NewLine(env.Width, screen.Style{}).String()
	for len(lines) < env.Height-height {
		lines = append(lines, blank)
	}
	return append(lines, commandCharts(env, c, height)...)
}

// scale lets the histograms share an axis, whose decades are in the heading.
func (p *commands) scale(width int) {
	var all [][]inspect.Bin
	for i := range p.table.Shown() {
		all = append(all, p.table.Row(i).Histogram)
	}
	p.axis = axisOf(p.table.ColumnWidth(latencyColumn, width), all...)
	p.columns[latencyColumn].Title = p.axis.labels()
}

// totals adds up the mesh, whatever is filtered.
func (p *commands) totals(env Env) string {
	t, sum := env.Theme, env.Picture.Totals
	failed := t.Text
	if sum.ErrorRate > 0 {
		failed = t.Bad
	}
	l := screen.NewLine(env.Width, screen.Style{}).Text(" all ", t.Muted)
	for i, f := range [...]struct {
		value, unit string
		style       screen.Style
	}{
		{screen.Exact(sum.Calls), "calls", t.Text},
		{screen.Exact(sum.Errors), "failed", failed},
		{screen.Rate(sum.Rate), "calls/s", t.Text},
		{screen.Latency(sum.P50), "p50", t.Text},
		{screen.Latency(sum.P99), "p99", t.Text},
	} {
		if screen.Width(f.value)+len(f.unit)+4 > l.Left() {
			break
		}
		if i > 0 {
			l.Text(" · ", t.Faint)
		}
		l.Text(f.value, f.style.With(screen.Bold)).Text(" "+f.unit, t.Muted)
	}
	return l.String()
}

// Keys are those of the table and Enter.
func (p *commands) Keys() []Binding { return tableKeys("open the command") }

// Sorted tells the order.
func (p *commands) Sorted() (column string, descending bool) { return p.table.Sorted() }

// Export gives all commands that match.
func (p *commands) Export(env Env) []string {
	width := max(env.Width, 160)
	p.scale(width)
	return append(p.table.Text(width), p.totals(env))
}

// CallTarget is the command under the cursor.
func (p *commands) CallTarget() string {
	if c := p.table.Selected(); c != nil {
		return c.Name
	}
	return ""
}

// Copy gives a line that calls the command.
func (p *commands) Copy() (text, what string) {
	name := p.CallTarget()
	if name == "" {
		return "", ""
	}
	return callLine(name, nil, 0), "the meshctl call of " + name
}

// Jump opens a command.
func (p *commands) Jump(env Env, name string) tea.Cmd {
	for i := range env.Picture.Commands {
		if env.Picture.Commands[i].Name == name {
			p.table.Select(name)
			return Open(newCommandPage(name))
		}
	}
	return nil
}
