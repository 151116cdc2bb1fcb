package tui

import (
	tea "charm.land/bubbletea/v2"

	"github.com/meshctl/meshctl/internal/tui/screen"
)

// panel is a list on the overview.
type panel interface {
	// refresh makes the rows of a picture.
	refresh(env Env)
	// filter chooses the rows of the next refresh; it fails, and keeps what it had, when
	// the text is no filter of such rows.
	filter(text string) error
	len() int
	// key tells rows apart, whatever their order.
	key(i int) string
	// head draws the rest of the heading, rules and the names of columns; it has been
	// given the panel's name.
	head(l *screen.Line, t *screen.Theme)
	name() string
	// row draws what comes after the cursor's column.
	row(l *screen.Line, t *screen.Theme, i int)
	// goal is what enter goes to: a name for Go.
	goal(i int) string
	// empty is what is said where there are no rows.
	empty() string
}

// panelView is a panel with its place on the screen and its cursor, which stays with its
// row.
type panelView struct {
	panel  panel
	tail   bool // until it is moved, the last rows are shown
	x, y   int
	width  int
	rows   int // that are on the screen; 0: the panel is not
	at     int
	offset int
	chosen string // the key of the cursor's row, once it was moved
}

// settle finds the cursor's row again after a refresh.
func (p *panelView) settle() {
	n := p.panel.len()
	if p.chosen == "" {
		p.at = 0
		if p.tail {
			p.at = max(0, n-1)
		}
		return
	}
	if p.at < n && p.panel.key(p.at) == p.chosen {
		return
	}
	for i := range n {
		if p.panel.key(i) == p.chosen {
			p.offset += i - p.at
			p.at = i
			return
		}
	}
	// It is gone. Its place stays, until somebody moves.
	p.at = max(0, min(p.at, n-1))
}

// move puts the cursor on a row; false: there is none.
func (p *panelView) move(row int) bool {
	if row < 0 || row >= p.panel.len() {
		return false
	}
	p.at, p.chosen = row, p.panel.key(row)
	if p.tail && row == p.panel.len()-1 {
		p.chosen = "" // the end is followed
	}
	return true
}

func (p *panelView) scroll(by int) {
	p.move(max(0, min(p.at+by, p.panel.len()-1)))
}

func (p *panelView) open() tea.Cmd {
	if p.at >= p.panel.len() {
		return nil
	}
	if goal := p.panel.goal(p.at); goal != "" {
		return Go(goal)
	}
	return nil
}

// draw gives the heading and exactly so many rows.
func (p *panelView) draw(t *screen.Theme, rows int, focus bool) []string {
	p.rows = rows
	if p.at < p.offset {
		p.offset = p.at
	}
	if p.at >= p.offset+rows {
		p.offset = p.at - rows + 1
	}
	p.offset = max(0, min(p.offset, p.panel.len()-rows))

	lines := make([]string, 0, rows+1)
	head := screen.NewLine(p.width, screen.Style{})
	title := t.Title
	if focus {
		title = t.Accent
	}
	head.Text(" "+p.panel.name()+" ", title)
	p.panel.head(head, t)
	lines = append(lines, head.String())
	for i := p.offset; len(lines) <= rows; i++ {
		base, mark := screen.Style{}, " "
		if focus && i == p.at && i < p.panel.len() {
			base, mark = t.Selected, "▌"
		}
		l := screen.NewLine(p.width, base)
		l.Text(mark, t.Accent)
		switch {
		case i < p.panel.len():
			p.panel.row(l, t, i)
		case i == 0:
			l.Text(p.panel.empty(), t.Muted)
		}
		lines = append(lines, l.String())
	}
	return lines
}

// rule draws a faint line up to so many columns before the end.
func rule(l *screen.Line, t *screen.Theme, before int) {
	for l.Left() > before {
		n := min(l.Left()-before, len(ruler)/len("─"))
		l.Text(ruler[:n*len("─")], t.Faint)
	}
}

const ruler = "────────────────────────────────────────────────────────────────"
