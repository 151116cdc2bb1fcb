package tui

import (
	"cmp"
	"net"
	"strconv"
	"strings"
	"time"

	tea "charm.land/bubbletea/v2"

	"github.com/meshctl/meshctl/internal/mesh/inspect"
	"github.com/meshctl/meshctl/internal/mesh/wire"
	"github.com/meshctl/meshctl/internal/tui/screen"
)

// connections lists every node of the mesh.
type connections struct {
	filterable[inspect.Node]
	now time.Time
}

const nameColumn = 1 // of connections.columns

func newConnections() *connections {
	p := &connections{}
	p.compile = matchNodes
	p.table = screen.NewTable(p.columns(), func(n *inspect.Node) string { return n.Name }, nameColumn)
	return p
}

func (p *connections) columns() []screen.Column[inspect.Node] {
	type node = inspect.Node
	return []screen.Column[node]{
		{Title: "", Width: 1, Min: 1, Cell: func(t *screen.Theme, n *node) screen.Cell {
			mark, _, st := healthMark(t, n.Health)
			return screen.Cell{Text: mark, Style: st}
		}},
		{Title: "NODE", Width: 22, Min: 14, Flex: true, Max: 48,
			Cell: func(t *screen.Theme, n *node) screen.Cell {
				return screen.Cell{Text: n.Name, Style: fade(t, n, t.Title)}
			},
			Less: func(a, b *node) int { return natural(a.Name, b.Name) }},
		{Title: "STATE", Width: 9, Min: 8, Priority: 3,
			Cell: func(t *screen.Theme, n *node) screen.Cell {
				_, word, st := healthMark(t, n.Health)
				return screen.Cell{Text: word, Style: st}
			},
			Less: func(a, b *node) int { return cmp.Compare(a.Health, b.Health) }, Down: true},
		{Title: "ADDRESS", Width: 21, Min: 15, Priority: 7, Flex: true, Max: 28,
			Cell: func(t *screen.Theme, n *node) screen.Cell { return screen.Cell{Text: address(n), Style: t.Muted} },
			Less: func(a, b *node) int { return cmp.Or(strings.Compare(a.IP, b.IP), cmp.Compare(a.Port, b.Port)) }},
		{Title: "KIND", Width: 10, Min: 7, Priority: 9,
			Cell: func(t *screen.Theme, n *node) screen.Cell { return screen.Cell{Text: kindName(n.Kind), Style: t.Muted} },
			Less: func(a, b *node) int { return strings.Compare(a.Kind, b.Kind) }},
		{Title: "VERSION", Width: 9, Min: 7, Priority: 10, Flex: true, Max: 20,
			Cell: func(t *screen.Theme, n *node) screen.Cell { return screen.Cell{Text: n.Version, Style: t.Muted} },
			Less: func(a, b *node) int { return natural(a.Version, b.Version) }},
		{Title: "UP", Width: 6, Min: 6, Priority: 6, Right: true,
			Cell: func(t *screen.Theme, n *node) screen.Cell { return screen.Cell{Text: p.up(n), Style: t.Muted} },
			Less: func(a, b *node) int { return cmp.Compare(b.Since, a.Since) }, Down: true},
		{Title: "LINKS", Width: 6, Min: 5, Priority: 5, Right: true, Down: true,
			Cell: func(t *screen.Theme, n *node) screen.Cell { return told(t, n, strconv.Itoa(n.Links), n.Links == 0) },
			Less: func(a, b *node) int { return cmp.Compare(a.Links, b.Links) }},
		{Title: "FLIGHT", Width: 7, Min: 7, Priority: 2, Right: true, Down: true,
			Cell: func(t *screen.Theme, n *node) screen.Cell {
				return told(t, n, screen.Count(uint64(max(0, n.InFlight))), n.InFlight == 0)
			},
			Less: func(a, b *node) int { return cmp.Compare(a.InFlight, b.InFlight) }},
		{Title: "IN/S", Width: 6, Min: 6, Priority: 1, Right: true, Down: true,
			Cell: func(t *screen.Theme, n *node) screen.Cell { return told(t, n, screen.Rate(n.RateIn), n.RateIn == 0) },
			Less: func(a, b *node) int { return cmp.Compare(a.RateIn, b.RateIn) }},
		{Title: "OUT/S", Width: 6, Min: 6, Priority: 4, Right: true, Down: true,
			Cell: func(t *screen.Theme, n *node) screen.Cell { return told(t, n, screen.Rate(n.RateOut), n.RateOut == 0) },
			Less: func(a, b *node) int { return cmp.Compare(a.RateOut, b.RateOut) }},
		{Title: "P50", Width: 7, Min: 7, Priority: 11, Right: true, Down: true,
			Cell: func(t *screen.Theme, n *node) screen.Cell { return told(t, n, screen.Latency(n.P50), n.P50 == 0) },
			Less: func(a, b *node) int { return cmp.Compare(a.P50, b.P50) }},
		{Title: "P99", Width: 7, Min: 7, Priority: 2, Right: true, Down: true,
			Cell: func(t *screen.Theme, n *node) screen.Cell { return told(t, n, screen.Latency(n.P99), n.P99 == 0) },
			Less: func(a, b *node) int { return cmp.Compare(a.P99, b.P99) }},
		{Title: "ERRORS", Width: 7, Min: 7, Priority: 2, Right: true, Down: true,
			Cell: func(t *screen.Theme, n *node) screen.Cell {
				c := told(t, n, screen.Count(n.Errors), n.Errors == 0)
				if n.ErrRate > 0 && n.Health != inspect.Gone {
					c.Style = t.Bad
				}
				return c
			},
			Less: func(a, b *node) int { return cmp.Compare(a.Errors, b.Errors) }},
		{Title: "QUEUE", Width: 6, Min: 6, Priority: 8, Right: true, Down: true,
			Cell: func(t *screen.Theme, n *node) screen.Cell {
				return told(t, n, screen.Count(uint64(max(0, n.Queued))), n.Queued == 0)
			},
			Less: func(a, b *node) int { return cmp.Compare(a.Queued, b.Queued) }},
	}
}

// fade is a style for a node that may be gone.
func fade(t *screen.Theme, n *inspect.Node, st screen.Style) screen.Style {
	if n.Health == inspect.Gone || n.Health == inspect.Stale {
		return t.Muted
	}
	return st
}

// told is a number that a node reports of itself: nothing where it does not.
func told(t *screen.Theme, n *inspect.Node, text string, zero bool) screen.Cell {
	switch {
	case !n.Reports:
		return screen.Cell{Text: "–", Style: t.Faint}
	case zero:
		return screen.Cell{Text: text, Style: t.Faint}
	}
	return screen.Cell{Text: text, Style: fade(t, n, t.Text)}
}

func address(n *inspect.Node) string {
	if n.Port == 0 {
		return n.IP
	}
	return net.JoinHostPort(n.IP, strconv.Itoa(n.Port))
}

func (p *connections) up(n *inspect.Node) string {
	if n.Health == inspect.Gone {
		return "–"
	}
	return screen.Span(p.now.Sub(time.UnixMilli(n.Since)))
}

// Title names the page.
func (p *connections) Title() string { return "Connections" }

// Refresh shows the nodes of the picture.
func (p *connections) Refresh(env Env) {
	p.now = env.Now()
	longest := 0
	for i := range env.Picture.Nodes {
		longest = max(longest, screen.Width(env.Picture.Nodes[i].Name))
	}
	p.table.SetWidth(nameColumn, longest)
	p.table.SetRows(env.Picture.Nodes)
}

// Update moves, sorts, and opens a node.
func (p *connections) Update(env Env, msg tea.Msg) tea.Cmd {
	if p.table.Update(msg) {
		return nil
	}
	if key, ok := msg.(tea.KeyPressMsg); ok && key.String() == "enter" {
		if n := p.table.Selected(); n != nil {
			return Open(newNodePage(n.Name))
		}
	}
	return nil
}

// Draw draws the table.
func (p *connections) Draw(env Env) []string {
	if p.table.Total() == 0 {
		return empty(env, "No node has joined yet. meshctl join WORKER starts one.")
	}
	return p.table.Draw(env.Theme, env.Width, env.Height)
}

// Keys are those of the table and Enter.
func (p *connections) Keys() []Binding { return tableKeys("open the node") }

// Sorted tells the order.
func (p *connections) Sorted() (column string, descending bool) { return p.table.Sorted() }

// Export gives all nodes.
func (p *connections) Export(env Env) []string { return p.table.Text(max(env.Width, 180)) }

// Copy gives the name of the node.
func (p *connections) Copy() (text, what string) {
	if n := p.table.Selected(); n != nil {
		return n.Name, n.Name
	}
	return "", ""
}

// Jump opens a node, or shows the nodes of a worker.
func (p *connections) Jump(env Env, name string) tea.Cmd {
	for i := range env.Picture.Nodes {
		switch n := &env.Picture.Nodes[i]; name {
		case n.Name:
			p.table.Select(name)
			return Open(newNodePage(name))
		case n.Worker:
			if p.SetFilter(env, "worker="+name) != nil {
				return nil
			}
			return Tell("the nodes of " + name)
		}
	}
	return nil
}

// kindName is how a kind of peer is called where there is room.
func kindName(kind string) string {
	if kind == wire.KindJavaScript {
		return "JavaScript"
	}
	return kind
}
