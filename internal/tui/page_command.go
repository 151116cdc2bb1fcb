package tui

import (
	"cmp"
	"maps"
	"slices"

	tea "charm.land/bubbletea/v2"

	"github.com/meshctl/meshctl/internal/mesh/inspect"
	"github.com/meshctl/meshctl/internal/mesh/wire"
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

// The least lines that charts are drawn in, and the least width of two side by side.
const (
	chartsHeight = 4
	chartsWide   = 100
)

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
		lines = append(lines, p.charts(env, charts)...)
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
		for _, e := range p.errors() {
			f.add(string(e.code), screen.Exact(e.count), t.Bad)
		}
	}
	return f.end()
}

type errorCount struct {
	code  wire.Code
	count uint64
}

// errors are the command's errors, most frequent first.
func (p *commandPage) errors() []errorCount {
	all := make([]errorCount, 0, len(p.command.Errors))
	for _, code := range slices.Sorted(maps.Keys(p.command.Errors)) {
		all = append(all, errorCount{code, p.command.Errors[code]})
	}
	slices.SortStableFunc(all, func(a, b errorCount) int { return cmp.Compare(b.count, a.count) })
	return all
}

// charts draws the latencies and, where there is room beside them, the rate over the
// errors.
func (p *commandPage) charts(env Env, height int) []string {
	if env.Width < chartsWide {
		return p.latencies(env.Theme, env.Width-1, height)
	}
	right := env.Width * 2 / 5
	left := env.Width - right - panelGap - 1
	errors := min(max(2, len(p.command.Errors)+1), height/2)
	a := p.latencies(env.Theme, left, height)
	b := p.rate(env.Theme, right, height-errors-1)
	b = append(b, screen.NewLine(right, screen.Style{}).String())
	b = append(b, p.errorBars(env.Theme, right, errors)...)
	between := screen.NewLine(panelGap, screen.Style{}).String()
	for y := range a {
		a[y] += between + b[y]
	}
	return a
}

// latencies draws the histogram with a heading, the percentiles below the bars, and the
// scale.
func (p *commandPage) latencies(t *screen.Theme, width, height int) []string {
	c := p.command
	note := " the last 10 s, or all when idle"
	if width < 60 {
		note = ""
	}
	head := screen.NewLine(width, screen.Style{}).Text(" Latency ", t.Title).Text(c.Name+" ", t.Muted)
	rule(head, t, screen.Width(note))
	lines := []string{head.Text(note, t.Head).String()}

	axis := axisOf(width-1, c.Histogram)
	p90, p99 := axis.place(c.P90), axis.place(c.P99)
	for _, bars := range screen.Columns(axis.columns(c.Histogram), height-3) {
		row := []rune(bars)
		l := screen.NewLine(width, screen.Style{}).Fill(1, screen.Style{})
		l.Text(string(row[:p90]), t.Good).Text(string(row[p90:max(p90, p99)]), t.Warn).Text(string(row[max(p90, p99):]), t.Bad)
		lines = append(lines, l.String())
	}
	l := screen.NewLine(width, screen.Style{})
	for _, m := range percentileMarks(t, axis, c) {
		rule(l.Fill(1-l.At(), screen.Style{}), t, width-m.at-1)
		l.Text(m.text, m.style)
	}
	l.Fill(1-l.At(), screen.Style{})
	rule(l, t, 0)
	return append(lines, l.String(),
		screen.NewLine(width, screen.Style{}).Fill(1, screen.Style{}).Text(axis.labels(), t.Muted).String())
}

type percentileMark struct {
	at    int // column of the axis
	text  string
	style screen.Style
}

// percentileMarks are the percentiles that have a place on the axis, from left to right.
// Where two are too close, the first of p99, p50, p99.9 and p90 is told.
func percentileMarks(t *screen.Theme, axis latencyAxis, c *inspect.Command) []percentileMark {
	var marks []percentileMark
	for _, m := range [...]percentileMark{
		{axis.place(c.P99), "▴p99", t.Bad}, {axis.place(c.P50), "▴p50", t.Good},
		{axis.place(c.P999), "▴p99.9", t.Bad}, {axis.place(c.P90), "▴p90", t.Warn},
	} {
		end := m.at + screen.Width(m.text)
		free := c.P99 > 0 && end <= axis.width
		for _, other := range marks {
			free = free && (end < other.at || m.at > other.at+screen.Width(other.text))
		}
		if free {
			marks = append(marks, m)
		}
	}
	slices.SortFunc(marks, func(a, b percentileMark) int { return cmp.Compare(a.at, b.at) })
	return marks
}

// rate draws how often the command was called.
func (p *commandPage) rate(t *screen.Theme, width, height int) []string {
	values := make([]float64, len(p.command.Trend))
	for i, v := range p.command.Trend {
		values[i] = float64(v)
	}
	note := " max " + screen.Rate(highest(values))
	head := screen.NewLine(width, screen.Style{}).Text(" Calls/s ", t.Title).Text(screen.Rate(p.command.Rate)+" ", t.Accent)
	rule(head, t, len(note))
	lines := []string{head.Text(note, t.Head).String()}
	for _, row := range screen.Graph(values, width-1, height-1, 0) {
		lines = append(lines, screen.NewLine(width, screen.Style{}).Fill(1, screen.Style{}).Text(row, t.Accent).String())
	}
	return lines
}

// errorBars draws how often the command failed, and how.
func (p *commandPage) errorBars(t *screen.Theme, width, height int) []string {
	head := screen.NewLine(width, screen.Style{}).Text(" Errors ", t.Title)
	if p.command.ErrRate > 0 {
		head.Text(screen.Rate(p.command.ErrRate)+"/s ", t.Bad)
	}
	rule(head, t, 0)
	lines := []string{head.String()}
	errors := p.errors()
	for i := 0; len(lines) < height; i++ {
		l := screen.NewLine(width, screen.Style{}).Fill(1, screen.Style{})
		switch {
		case i < len(errors):
			e := errors[i]
			const numbers = 11
			l.Cell(string(e.code), min(18, width/3), false, t.Text).Fill(1, screen.Style{})
			l.Gauge(float64(e.count)/float64(max(p.command.Failed, 1)), l.Left()-numbers, t.Bad, t.Faint)
			l.Cell(screen.Exact(e.count), numbers, true, t.Bad)
		case i == 0:
			l.Text("none", t.Muted)
		}
		lines = append(lines, l.String())
	}
	return lines
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
	lines = append(lines, p.charts(env, 20)...)
	return append(append(lines, ""), p.nodes.Text(env.Width)...)
}
