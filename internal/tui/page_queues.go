package tui

import (
	"cmp"
	"strings"

	tea "charm.land/bubbletea/v2"

	"github.com/meshctl/meshctl/internal/mesh/inspect"
	"github.com/meshctl/meshctl/internal/mesh/wire"
	"github.com/meshctl/meshctl/internal/tui/screen"
)

// queues lists the queues of queued commands, at each node that has one.
type queues struct {
	filterable[inspect.Queue]
}

func newQueues() *queues {
	p := &queues{}
	p.compile = matchQueues
	p.table = screen.NewTable(queueColumns(), func(q *inspect.Queue) string { return q.Node + " " + q.Command }, 3)
	return p
}

func queueColumns() []screen.Column[inspect.Queue] {
	type row = inspect.Queue
	count := func(t *screen.Theme, n int, st screen.Style) screen.Cell {
		if n <= 0 {
			return screen.Cell{Text: "0", Style: t.Faint}
		}
		return screen.Cell{Text: screen.Count(uint64(n)), Style: st}
	}
	return []screen.Column[row]{
		{Title: "", Width: 1, Min: 1, Cell: func(t *screen.Theme, q *row) screen.Cell {
			mark, st := queueMark(t, q)
			return screen.Cell{Text: mark, Style: st}
		}},
		{Title: "QUEUE", Width: 26, Min: 14, Flex: true, Max: 48,
			Cell: func(t *screen.Theme, q *row) screen.Cell {
				if q.State != "" {
					return screen.Cell{Text: q.Command + " " + q.State, Style: t.Bad}
				}
				return screen.Cell{Text: q.Command, Style: t.Title}
			},
			Less: func(a, b *row) int { return natural(a.Command, b.Command) }},
		{Title: "NODE", Width: 24, Min: 12, Flex: true, Max: 40,
			Cell: func(t *screen.Theme, q *row) screen.Cell { return screen.Cell{Text: q.Node, Style: t.Muted} },
			Less: func(a, b *row) int { return natural(a.Node, b.Node) }},
		{Title: "DEPTH", Width: 8, Min: 7, Right: true, Down: true,
			Cell: func(t *screen.Theme, q *row) screen.Cell { return count(t, q.Depth, t.Text) },
			Less: func(a, b *row) int { return cmp.Compare(a.Depth, b.Depth) }},
		{Title: "OLDEST", Width: 8, Min: 7, Right: true, Down: true,
			Cell: func(t *screen.Theme, q *row) screen.Cell {
				if q.Depth <= 0 {
					return screen.Cell{Text: "–", Style: t.Faint}
				}
				return screen.Cell{Text: screen.Latency(q.Oldest), Style: t.Text}
			},
			Less: func(a, b *row) int { return cmp.Compare(a.Oldest, b.Oldest) }},
		{Title: "RETRIES", Width: 8, Min: 8, Priority: 1, Right: true, Down: true,
			Cell: func(t *screen.Theme, q *row) screen.Cell { return count(t, int(min(q.Retries, 1<<40)), t.Warn) },
			Less: func(a, b *row) int { return cmp.Compare(a.Retries, b.Retries) }},
		{Title: "DEAD", Width: 7, Min: 6, Right: true, Down: true,
			Cell: func(t *screen.Theme, q *row) screen.Cell { return count(t, q.Dead, t.Bad) },
			Less: func(a, b *row) int { return cmp.Compare(a.Dead, b.Dead) }},
	}
}

// queueMark gives the symbol and style of a queue's state.
func queueMark(t *screen.Theme, q *inspect.Queue) (string, screen.Style) {
	switch {
	case q.Dead > 0 || q.State == wire.QueueUnavailable:
		return "✖", t.Bad
	case q.Depth > 0:
		return "◌", t.Info
	}
	return "●", t.Good
}

// Title names the page.
func (p *queues) Title() string { return "Queues" }

// Refresh shows the queues of the picture.
func (p *queues) Refresh(env Env) { p.table.SetRows(env.Picture.Queues) }

// Update moves, sorts, and goes to the command.
func (p *queues) Update(_ Env, msg tea.Msg) tea.Cmd {
	if p.table.Update(msg) {
		return nil
	}
	if key, ok := msg.(tea.KeyPressMsg); ok && key.String() == "enter" {
		if q := p.table.Selected(); q != nil {
			return Go(q.Command)
		}
	}
	return nil
}

// Draw draws the table, and what can be done about dead letters.
func (p *queues) Draw(env Env) []string {
	if p.table.Total() == 0 {
		return empty(env, "No node has a queue: no command of theirs is queued.")
	}
	q := p.table.Selected()
	if q == nil || q.Dead <= 0 {
		return p.table.Draw(env.Theme, env.Width, env.Height)
	}
	_, variant, _ := strings.Cut(q.Node, "/")
	lines := p.table.Draw(env.Theme, env.Width, env.Height-1)
	for len(lines) < env.Height-1 {
		lines = append(lines, "")
	}
	return append(lines, screen.NewLine(env.Width, screen.Style{}).
		Text(" dead letters: meshctl queue dead ls "+q.Command+" --only "+variant, env.Theme.Warn).String())
}

// Keys are those of the table and Enter.
func (p *queues) Keys() []Binding { return tableKeys("go to the command") }

// Sorted tells the order.
func (p *queues) Sorted() (column string, descending bool) { return p.table.Sorted() }

// Export gives all queues.
func (p *queues) Export(env Env) []string { return p.table.Text(max(env.Width, 140)) }

// CallTarget is the command of the queue under the cursor.
func (p *queues) CallTarget() string {
	if q := p.table.Selected(); q != nil {
		return q.Command
	}
	return ""
}
