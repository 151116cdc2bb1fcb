package tui

import (
	"cmp"
	"strings"
	"time"

	tea "charm.land/bubbletea/v2"

	"github.com/meshctl/meshctl/internal/mesh/inspect"
	"github.com/meshctl/meshctl/internal/tui/screen"
)

// nodePage shows one node: what it is, its links in both directions, and its commands.
type nodePage struct {
	name     string
	node     *inspect.Node // nil: it is forgotten
	now      time.Time
	links    *screen.Table[nodeLink]
	commands *screen.Table[nodeCommand]
	linkRows []nodeLink
	cmdRows  []nodeCommand
	requests []*inspect.Live // in flight from or to the node, oldest first
	onLinks  bool            // which of the two tables has the cursor
	linksAt  int             // the line where the links began when last drawn
	split    int             // and that where the commands did
}

// nodeLink is a link seen from the node.
type nodeLink struct {
	inspect.Link
	peer     string
	outgoing bool // the node dialled, or should have
}

// nodeCommand is a command that the node answers.
type nodeCommand struct {
	name string
	inspect.CommandNode
}

func newNodePage(name string) *nodePage {
	p := &nodePage{name: name, onLinks: true}
	p.links = screen.NewTable(p.linkColumns(), func(l *nodeLink) string { return l.From + " " + l.To }, 1)
	p.commands = screen.NewTable(nodeCommandColumns(), func(c *nodeCommand) string { return c.name }, 0)
	return p
}

func (p *nodePage) linkColumns() []screen.Column[nodeLink] {
	num := func(t *screen.Theme, v float64, text string) screen.Cell {
		if v == 0 {
			return screen.Cell{Text: text, Style: t.Faint}
		}
		return screen.Cell{Text: text}
	}
	return []screen.Column[nodeLink]{
		{Title: "", Width: 1, Min: 1, Cell: func(t *screen.Theme, l *nodeLink) screen.Cell {
			mark, _, st := linkMark(t, &l.Link)
			return screen.Cell{Text: mark, Style: st}
		}},
		{Title: "LINK", Width: 26, Min: 18, Flex: true, Max: 52,
			Cell: func(t *screen.Theme, l *nodeLink) screen.Cell {
				if l.outgoing {
					return screen.Cell{Text: "→ " + l.peer}
				}
				return screen.Cell{Text: "← " + l.peer}
			},
			Less: func(a, b *nodeLink) int { return natural(a.peer, b.peer) }},
		{Title: "STATE", Width: 9, Min: 8, Priority: 2,
			Cell: func(t *screen.Theme, l *nodeLink) screen.Cell {
				_, word, st := linkMark(t, &l.Link)
				return screen.Cell{Text: word, Style: st}
			}},
		{Title: "OVER", Width: 9, Min: 8, Priority: 4,
			Cell: func(t *screen.Theme, l *nodeLink) screen.Cell { return screen.Cell{Text: l.Transport, Style: t.Muted} },
			Less: func(a, b *nodeLink) int { return strings.Compare(a.Transport, b.Transport) }},
		{Title: "UP", Width: 7, Min: 6, Priority: 3, Right: true,
			Cell: func(t *screen.Theme, l *nodeLink) screen.Cell {
				if l.Since.IsZero() {
					return screen.Cell{Text: "–", Style: t.Faint}
				}
				return screen.Cell{Text: screen.Span(p.now.Sub(l.Since)), Style: t.Muted}
			},
			Less: func(a, b *nodeLink) int { return b.Since.Compare(a.Since) }},
		{Title: "FLIGHT", Width: 7, Min: 7, Priority: 1, Right: true, Down: true,
			Cell: func(t *screen.Theme, l *nodeLink) screen.Cell {
				return num(t, float64(l.InFlight), screen.Count(uint64(max(0, l.InFlight))))
			},
			Less: func(a, b *nodeLink) int { return cmp.Compare(a.InFlight, b.InFlight) }},
		{Title: "SENT/S", Width: 7, Min: 7, Priority: 1, Right: true, Down: true,
			Cell: func(t *screen.Theme, l *nodeLink) screen.Cell { return num(t, l.sent(), screen.Rate(l.sent())) },
			Less: func(a, b *nodeLink) int { return cmp.Compare(a.sent(), b.sent()) }},
		{Title: "GOT/S", Width: 7, Min: 7, Priority: 1, Right: true, Down: true,
			Cell: func(t *screen.Theme, l *nodeLink) screen.Cell { return num(t, l.got(), screen.Rate(l.got())) },
			Less: func(a, b *nodeLink) int { return cmp.Compare(a.got(), b.got()) }},
	}
}

// sent and got are the requests a second that the node sends and gets over the link.
func (l *nodeLink) sent() float64 {
	if l.outgoing {
		return l.RateOut
	}
	return l.RateBack
}

func (l *nodeLink) got() float64 { return l.RateOut + l.RateBack - l.sent() }

func nodeCommandColumns() []screen.Column[nodeCommand] {
	return []screen.Column[nodeCommand]{
		{Title: "ANSWERS", Width: 28, Min: 18, Flex: true, Max: 54,
			Cell: func(_ *screen.Theme, c *nodeCommand) screen.Cell { return screen.Cell{Text: c.name} },
			Less: func(a, b *nodeCommand) int { return natural(a.name, b.name) }},
		{Title: "CALLS", Width: 8, Min: 7, Priority: 2, Right: true, Down: true,
			Cell: func(_ *screen.Theme, c *nodeCommand) screen.Cell { return screen.Cell{Text: screen.Count(c.Calls)} },
			Less: func(a, b *nodeCommand) int { return cmp.Compare(a.Calls, b.Calls) }},
		{Title: "FAILED", Width: 7, Min: 6, Priority: 1, Right: true, Down: true,
			Cell: func(t *screen.Theme, c *nodeCommand) screen.Cell {
				if c.Failed == 0 {
					return screen.Cell{Text: "0", Style: t.Faint}
				}
				return screen.Cell{Text: screen.Count(c.Failed), Style: t.Bad}
			},
			Less: func(a, b *nodeCommand) int { return cmp.Compare(a.Failed, b.Failed) }},
		{Title: "RATE", Width: 7, Min: 6, Right: true, Down: true,
			Cell: func(_ *screen.Theme, c *nodeCommand) screen.Cell { return screen.Cell{Text: screen.Rate(c.Rate)} },
			Less: func(a, b *nodeCommand) int { return cmp.Compare(a.Rate, b.Rate) }},
		{Title: "P50", Width: 7, Min: 7, Priority: 3, Right: true, Down: true,
			Cell: func(_ *screen.Theme, c *nodeCommand) screen.Cell { return screen.Cell{Text: screen.Latency(c.P50)} },
			Less: func(a, b *nodeCommand) int { return cmp.Compare(a.P50, b.P50) }},
		{Title: "P99", Width: 7, Min: 7, Right: true, Down: true,
			Cell: func(_ *screen.Theme, c *nodeCommand) screen.Cell { return screen.Cell{Text: screen.Latency(c.P99)} },
			Less: func(a, b *nodeCommand) int { return cmp.Compare(a.P99, b.P99) }},
	}
}

// linkMark gives the symbol, word and style of a link's state.
func linkMark(t *screen.Theme, l *inspect.Link) (mark, word string, st screen.Style) {
	switch {
	case l.Missing:
		return "✖", "missing", t.Bad
	case l.Draining:
		return "◐", "draining", t.Info
	case l.Skipped:
		return "▲", "skipped", t.Warn
	}
	return "●", "up", t.Good
}

// Title is the node's name.
func (p *nodePage) Title() string { return p.name }

// Refresh finds the node, its links and its commands in the picture.
func (p *nodePage) Refresh(env Env) {
	p.now, p.node = env.Now(), nil
	for i := range env.Picture.Nodes {
		if env.Picture.Nodes[i].Name == p.name {
			p.node = &env.Picture.Nodes[i]
		}
	}
	p.linkRows, p.cmdRows = p.linkRows[:0], p.cmdRows[:0]
	for _, l := range env.Picture.Links {
		switch p.name {
		case l.From:
			p.linkRows = append(p.linkRows, nodeLink{Link: l, peer: l.To, outgoing: true})
		case l.To:
			p.linkRows = append(p.linkRows, nodeLink{Link: l, peer: l.From})
		}
	}
	for i := range env.Picture.Commands {
		for _, n := range env.Picture.Commands[i].ByNode {
			if n.Node == p.name {
				p.cmdRows = append(p.cmdRows, nodeCommand{name: env.Picture.Commands[i].Name, CommandNode: n})
			}
		}
	}
	p.requests = p.requests[:0]
	for i := range env.Picture.Requests {
		if r := &env.Picture.Requests[i]; r.Ended.IsZero() && (r.Caller == p.name || r.Target == p.name) {
			p.requests = append(p.requests, r)
		}
	}
	peers, names := 0, 0
	for i := range p.linkRows {
		peers = max(peers, screen.Width(p.linkRows[i].peer)+2) // with its arrow
	}
	for i := range p.cmdRows {
		names = max(names, screen.Width(p.cmdRows[i].name))
	}
	p.links.SetWidth(1, peers)
	p.commands.SetWidth(0, names)
	p.links.SetRows(p.linkRows)
	p.commands.SetRows(p.cmdRows)
}

// Update moves in one of the tables, and opens what is under the cursor.
func (p *nodePage) Update(_ Env, msg tea.Msg) tea.Cmd {
	switch m := msg.(type) {
	case tea.KeyPressMsg:
		switch m.String() {
		case "left", "right", "h", "l":
			p.onLinks = !p.onLinks
			return nil
		case "enter":
			if p.onLinks && p.links.Selected() != nil {
				return Open(newNodePage(p.links.Selected().peer))
			}
			if !p.onLinks && p.commands.Selected() != nil {
				return Go(p.commands.Selected().name)
			}
			return nil
		}
	case tea.MouseClickMsg:
		p.onLinks = m.Y < p.split
		msg = tea.MouseClickMsg(p.shift(tea.Mouse(m)))
	case tea.MouseWheelMsg:
		p.onLinks = m.Y < p.split
		msg = tea.MouseWheelMsg(p.shift(tea.Mouse(m)))
	}
	if p.onLinks {
		p.links.Update(msg)
	} else {
		p.commands.Update(msg)
	}
	return nil
}

// shift counts a mouse message's line from the table that it is in.
func (p *nodePage) shift(m tea.Mouse) tea.Mouse {
	if p.onLinks {
		m.Y -= p.linksAt
	} else {
		m.Y -= p.split
	}
	return m
}

// Draw draws what the node is, its links, and its commands below.
func (p *nodePage) Draw(env Env) []string {
	if p.node == nil {
		return empty(env, p.name+" left the mesh.")
	}
	lines := append(p.facts(env), "")
	p.linksAt = len(lines)
	left := env.Height - len(lines)
	commands := min(p.commands.Total()+2, max(left/2, left-p.links.Total()-1))
	if p.commands.Total() == 0 {
		commands = 0
	}
	p.links.SetFocus(p.onLinks)
	p.commands.SetFocus(!p.onLinks)
	if p.links.Total() == 0 {
		lines = append(lines, screen.NewLine(env.Width, screen.Style{}).Text(" no links", env.Theme.Muted).String())
	} else {
		lines = append(lines, p.links.Draw(env.Theme, env.Width, left-commands)...)
	}
	p.split = env.Height
	if commands > 2 {
		lines = append(lines, "")
		p.split = len(lines)
		lines = append(lines, p.commands.Draw(env.Theme, env.Width, commands-1)...)
	}
	return append(lines, p.drawRequests(env, env.Height-len(lines))...)
}

// drawRequests gives as many of the requests in flight as there is room for.
func (p *nodePage) drawRequests(env Env, height int) []string {
	if len(p.requests) == 0 || height < 4 {
		return nil
	}
	t := env.Theme
	lines := []string{"", screen.NewLine(env.Width, screen.Style{}).Text(" IN FLIGHT", t.Head).String()}
	for i, r := range p.requests {
		if len(lines) == height-1 && i < len(p.requests)-1 {
			more := " and " + plural(len(p.requests)-i, "other")
			return append(lines, screen.NewLine(env.Width, screen.Style{}).Text(more, t.Muted).String())
		}
		arrow, peer := "→ ", r.Target
		if r.Target == p.name {
			arrow, peer = "← ", r.Caller
		}
		l := screen.NewLine(env.Width, screen.Style{}).Fill(1, screen.Style{})
		l.Cell(screen.Latency(r.Age), 7, true, t.Text).Fill(2, t.Text)
		l.Cell(r.Command, min(28, env.Width/3), false, t.Text).Fill(2, t.Text)
		l.Cell(arrow+peer, min(30, env.Width/3), false, t.Muted).Fill(2, t.Text).Text(r.Phase, t.Muted)
		lines = append(lines, l.String())
	}
	return lines
}

// facts are what there is to say of the node, in as many lines as they need.
func (p *nodePage) facts(env Env) []string {
	n, t := p.node, env.Theme
	mark, word, st := healthMark(t, n.Health)
	f := flow{env: env}
	f.add("", mark+" "+word, st)
	f.add("", kindName(n.Kind)+" "+n.Version, t.Text)
	f.add("at", address(n), t.Text)
	f.add("master over", n.Link, t.Text)
	f.add("up", screen.Span(p.now.Sub(time.UnixMilli(n.Since))), t.Text)
	if n.Reports {
		errors := t.Text
		if n.ErrRate > 0 {
			errors = t.Bad
		}
		f.add("in flight", screen.Count(uint64(max(0, n.InFlight))), t.Text)
		f.add("in/s", screen.Rate(n.RateIn), t.Text)
		f.add("out/s", screen.Rate(n.RateOut), t.Text)
		f.add("p50", screen.Latency(n.P50), t.Text)
		f.add("p99", screen.Latency(n.P99), t.Text)
		f.add("errors", screen.Count(n.Errors), errors)
		f.add("queued", screen.Count(uint64(max(0, n.Queued))), t.Text)
	} else {
		f.add("", "no telemetry: its calls are seen from their other end", t.Warn)
	}
	return f.end()
}

// Keys are those of a table, and how to change to the other one.
func (p *nodePage) Keys() []Binding {
	return append(tableKeys("open"), Binding{Keys: []string{"left", "right", "h", "l"}, Show: "←/→", Help: "links, commands", Hint: true})
}

// CallTarget is the command under the cursor.
func (p *nodePage) CallTarget() string {
	if c := p.commands.Selected(); c != nil && !p.onLinks {
		return c.name
	}
	return ""
}

// Copy gives what is under the cursor.
func (p *nodePage) Copy() (text, what string) {
	if l := p.links.Selected(); l != nil && p.onLinks {
		return l.peer, l.peer
	}
	if c := p.commands.Selected(); c != nil && !p.onLinks {
		return c.name, c.name
	}
	return p.name, p.name
}

// Export gives all that is known of the node.
func (p *nodePage) Export(env Env) []string {
	if p.node == nil {
		return p.Draw(env)
	}
	lines := append(p.facts(env), "")
	lines = append(lines, p.links.Text(max(env.Width, 120))...)
	return append(append(lines, ""), p.commands.Text(max(env.Width, 120))...)
}
