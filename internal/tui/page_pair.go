package tui

import (
	"slices"
	"time"

	tea "charm.land/bubbletea/v2"

	"github.com/meshctl/meshctl/internal/mesh/inspect"
	"github.com/meshctl/meshctl/internal/tui/screen"
)

// pairPage shows which variants of one worker are connected to which of another.
type pairPage struct {
	from, to           string // workers
	matrix             screen.Matrix
	rows, columns      []string // nodes
	heads, columnHeads []string // their variants
	links              map[pair]*inspect.Link
	now                time.Time
}

func newPairPage(from, to string) *pairPage {
	p := &pairPage{from: from, to: to}
	p.matrix.Corner = from + " ╲ " + to
	p.matrix.Cell = p.cell
	return p
}

// Title names the pair.
func (p *pairPage) Title() string { return p.from + " → " + p.to }

// Refresh finds the nodes of both workers and the links between them.
func (p *pairPage) Refresh(env Env) {
	p.now = env.Now()
	p.rows, p.columns, p.heads, p.columnHeads = p.rows[:0], p.columns[:0], p.heads[:0], p.columnHeads[:0]
	variant := map[string]string{}
	for i := range env.Picture.Nodes {
		n := &env.Picture.Nodes[i]
		if n.Worker == p.from {
			p.rows = append(p.rows, n.Name)
		}
		if n.Worker == p.to {
			p.columns = append(p.columns, n.Name)
		}
		variant[n.Name] = n.Variant
	}
	slices.SortFunc(p.rows, natural)
	slices.SortFunc(p.columns, natural)
	for _, name := range p.rows {
		p.heads = append(p.heads, variant[name])
	}
	for _, name := range p.columns {
		p.columnHeads = append(p.columnHeads, variant[name])
	}
	p.links = map[pair]*inspect.Link{}
	from, to := p.from+"/", p.to+"/"
	for i := range env.Picture.Links {
		l := &env.Picture.Links[i]
		if len(l.From) > len(from) && l.From[:len(from)] == from && len(l.To) > len(to) && l.To[:len(to)] == to {
			p.links[pair{l.From, l.To}] = l
		}
	}
	p.matrix.SetHeads(p.heads, p.columnHeads)
}

func (p *pairPage) cell(t *screen.Theme, row, column int) screen.Cell {
	l := p.links[pair{p.rows[row], p.columns[column]}]
	if l == nil {
		return screen.Cell{Text: "·", Style: t.Faint}
	}
	mark, _, st := linkMark(t, l)
	if l.Missing {
		return screen.Cell{Text: mark, Style: st.With(screen.Bold)}
	}
	return screen.Cell{Text: mark + " " + screen.Rate(l.RateOut+l.RateBack), Style: st}
}

// Update moves the cursor and opens the node that the link comes from.
func (p *pairPage) Update(_ Env, msg tea.Msg) tea.Cmd {
	if p.matrix.Update(msg) {
		return nil
	}
	key, ok := msg.(tea.KeyPressMsg)
	row, column, some := p.matrix.Selected()
	if !ok || !some {
		return nil
	}
	switch key.String() {
	case "enter":
		return Open(newNodePage(p.rows[row]))
	case "n":
		n := len(p.columns)
		for i := 1; i <= len(p.rows)*n; i++ {
			at := (row*n + column + i) % (len(p.rows) * n)
			if l := p.links[pair{p.rows[at/n], p.columns[at%n]}]; l != nil && l.Missing {
				p.matrix.Select(at/n, at%n)
				return nil
			}
		}
		return Tell("no link is missing")
	}
	return nil
}

// Draw draws the matrix, and below it the link under the cursor.
func (p *pairPage) Draw(env Env) []string {
	if len(p.rows) == 0 || len(p.columns) == 0 {
		missing := p.from
		if len(p.rows) > 0 {
			missing = p.to
		}
		return empty(env, "No node of "+missing+" is there.")
	}
	return withDetail(env, &p.matrix, nil, func(line *screen.Line, row, column int) {
		t, from, to := env.Theme, p.rows[row], p.columns[column]
		line.Text(" "+from+" → "+to+"  ", t.Title)
		l := p.links[pair{from, to}]
		if l == nil {
			line.Text("no link", t.Muted)
			return
		}
		_, word, st := linkMark(t, l)
		line.Text(word, st)
		if l.Missing {
			line.Text("  the schema asks for it and neither end has it", t.Muted)
			return
		}
		if !l.Since.IsZero() {
			line.Text(" "+screen.Span(p.now.Sub(l.Since)), t.Text)
		}
		line.Text("  over "+l.Transport+"  "+screen.Count(uint64(max(0, l.InFlight)))+" in flight  → "+
			screen.Rate(l.RateOut)+"/s  ← "+screen.Rate(l.RateBack)+"/s", t.Muted)
	})
}

// Keys are those of the matrix.
func (p *pairPage) Keys() []Binding { return append(matrixKeys("open the node"), missingKey()) }
