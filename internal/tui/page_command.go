package tui

import (
	"cmp"

	tea "charm.land/bubbletea/v2"

	"github.com/meshctl/meshctl/internal/mesh/inspect"
	"github.com/meshctl/meshctl/internal/tui/screen"
)

// commandPage shows one command: how long it takes, how often it is called, how it fails,
// and the nodes that answer it.
type commandPage struct {
	name    string
	command *inspect.Command // nil: it is forgotten
	nodes   *screen.Table[inspect.CommandNode]
	nodesAt int // the line where the nodes began when last drawn
}

func newCommandPage(name string) *commandPage {
	p := &commandPage{name: name}
	p.nodes = screen.NewTable(commandNodeColumns(), func(n *inspect.CommandNode) string { return n.Node }, 0)
	return p
}

func commandNodeColumns() []screen.Column[inspect.CommandNode] {
	type node = inspect.CommandNode
	return []screen.Column[node]{
		{Title: "ANSWERED BY", Width: 28, Min: 16, Flex: true, Max: 54,
			Cell: func(t *screen.Theme, n *node) screen.Cell { return screen.Cell{Text: n.Node, Style: t.Title} },
			Less: func(a, b *node) int { return natural(a.Node, b.Node) }},
		{Title: "CALLS/S", Width: 8, Min: 7, Right: true, Down: true,
			Cell: func(t *screen.Theme, n *node) screen.Cell { return zeroFaint(t, screen.Rate(n.Rate), n.Rate == 0) },
			Less: func(a, b *node) int { return cmp.Compare(a.Rate, b.Rate) }},
		{Title: "CALLS", Width: 11, Min: 8, Priority: 2, Right: true, Down: true,
			Cell: func(t *screen.Theme, n *node) screen.Cell { return zeroFaint(t, screen.Count(n.Calls), n.Calls == 0) },
			Less: func(a, b *node) int { return cmp.Compare(a.Calls, b.Calls) }},
		{Title: "FAILED", Width: 8, Min: 7, Priority: 1, Right: true, Down: true,
			Cell: func(t *screen.Theme, n *node) screen.Cell {
				if n.Failed > 0 {
					return screen.Cell{Text: screen.Count(n.Failed), Style: t.Bad}
				}
				return screen.Cell{Text: "0", Style: t.Faint}
			},
			Less: func(a, b *node) int { return cmp.Compare(a.Failed, b.Failed) }},
		{Title: "P50", Width: 7, Min: 6, Priority: 3, Right: true, Down: true,
			Cell: func(t *screen.Theme, n *node) screen.Cell { return zeroFaint(t, screen.Latency(n.P50), n.P50 == 0) },
			Less: func(a, b *node) int { return cmp.Compare(a.P50, b.P50) }},
		{Title: "P99", Width: 7, Min: 6, Right: true, Down: true,
			Cell: func(t *screen.Theme, n *node) screen.Cell { return zeroFaint(t, screen.Latency(n.P99), n.P99 == 0) },
			Less: func(a, b *node) int { return cmp.Compare(a.P99, b.P99) }},
	}
}

// Title is the command's name.
func (p *commandPage) Title() string { return p.name }

// Refresh finds the command in the picture.
func (p *commandPage) Refresh(env Env) {
	p.command = nil
	for i := range env.Picture.Commands {
		if c := &env.Picture.Commands[i]; c.Name == p.name {
			p.command = c
			p.nodes.SetRows(c.ByNode)
			return
		}
	}
	p.nodes.SetRows(nil)
}

// Update moves among the nodes, and opens one.
func (p *commandPage) Update(_ Env, msg tea.Msg) tea.Cmd {
	switch m := msg.(type) {
	case tea.KeyPressMsg:
		if n := p.nodes.Selected(); m.String() == "enter" && n != nil {
			return Go(n.Node)
		}
	case tea.MouseClickMsg:
		m.Y -= p.nodesAt
		msg = m
	}
	p.nodes.Update(msg)
	return nil
}

// Draw draws the facts, the charts, and the nodes.
func (p *commandPage) Draw(env Env) []string {
	if p.command == nil {
		return empty(env, p.name+" has not been called.")
	}
	lines := p.facts(env)
	if env.Height < 16 {
		lines = lines[:min(len(lines), 2)]
	} else {
		lines = append(lines, "")
	}
	left := env.Height - len(lines)
	nodes := min(p.nodes.Total()+2, max(4, left/2))
	if p.nodes.Total() == 0 {
		nodes = 0
	}
	if charts := min(left-nodes, max(14, env.Height*2/5)); charts >= chartsHeight {
		lines = append(lines, commandCharts(env, p.command, charts)...)
	}
	p.nodesAt = env.Height
	if left = env.Height - len(lines); nodes > 0 && left >= 3 {
		lines = append(lines, "")
		p.nodesAt = len(lines)
		lines = append(lines, p.nodes.Draw(env.Theme, env.Width, left-1)...)
	}
	return lines
}

func (p *commandPage) facts(env Env) []string {
	c, t := p.command, env.Theme
	f := flow{env: env}
	mark, word, st := commandMark(t, c)
	f.add("", mark+" "+word, st)
	f.add("calls/s", screen.Rate(c.Rate), t.Title)
	f.add("p50", screen.Latency(c.P50), t.Title)
	f.add("p90", screen.Latency(c.P90), t.Title)
	f.add("p99", screen.Latency(c.P99), t.Title)
	f.add("p99.9", screen.Latency(c.P999), t.Title)
	failed := screen.Exact(c.Failed)
	st = t.Title
	if c.Failed > 0 {
		failed += " (" + percent(float64(c.Failed)/float64(max(c.Calls, 1))) + ")"
		st = t.Bad
	}
	f.add("failed", failed, st)
	f.add("calls", screen.Exact(c.Calls), t.Title)
	f.add("in flight", screen.Exact(uint64(max(0, c.InFlight))), t.Title)
	f.add("retries", screen.Exact(c.Retries), t.Title)
	f.add("sent", screen.Bytes(c.BytesOut), t.Title)
	f.add("received", screen.Bytes(c.BytesIn), t.Title)
	if env.Width < chartsWide {
		for _, e := range errorsOf(c) {
			f.add(string(e.code), screen.Exact(e.count), t.Bad)
		}
	}
	return f.end()
}

// Keys are those of the table.
func (p *commandPage) Keys() []Binding { return tableKeys("open the node") }

// CallTarget is the command.
func (p *commandPage) CallTarget() string { return p.name }

// Copy gives a line that calls the command.
func (p *commandPage) Copy() (text, what string) {
	return callLine(p.name, nil, 0), "the meshctl call of " + p.name
}

// Export gives all that is known of the command.
func (p *commandPage) Export(env Env) []string {
	if p.command == nil {
		return p.Draw(env)
	}
	env.Width = max(env.Width, 120)
	lines := append(p.facts(env), "")
	lines = append(lines, commandCharts(env, p.command, 20)...)
	return append(append(lines, ""), p.nodes.Text(env.Width)...)
}
