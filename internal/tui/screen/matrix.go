package screen

import (
	"slices"

	tea "charm.land/bubbletea/v2"
)

// Matrix shows what is between things and things: a cell for each pair, of which only the
// visible ones are looked at. It scrolls both ways; the cursor stays on the pair of the
// same names. The zero Matrix is empty. A Matrix is used by one goroutine.
type Matrix struct {
	Corner string // what the rows and the columns are
	Cell   func(t *Theme, row, column int) Cell

	rows, columns []string
	row, column   int
	top, left     int

	// As last drawn, for the mouse.
	headWidth, cellWidth, height, shown int
}

// SetHeads gives the names of rows and columns, which it borrows until the next call.
func (m *Matrix) SetHeads(rows, columns []string) {
	keep := func(old, now []string, at int) int {
		if at < len(old) {
			if i := slices.Index(now, old[at]); i >= 0 {
				return i
			}
		}
		return max(0, min(at, len(now)-1))
	}
	m.row, m.column = keep(m.rows, rows, m.row), keep(m.columns, columns, m.column)
	m.rows, m.columns = append(m.rows[:0:0], rows...), append(m.columns[:0:0], columns...)
}

// Selected is the pair under the cursor.
func (m *Matrix) Selected() (row, column int, ok bool) {
	return m.row, m.column, len(m.rows) > 0 && len(m.columns) > 0
}

// Select moves the cursor.
func (m *Matrix) Select(row, column int) {
	m.row, m.column = max(0, min(row, len(m.rows)-1)), max(0, min(column, len(m.columns)-1))
}

// Update moves the cursor by keys, and by mouse messages whose Y counts from the matrix's
// first line. It tells whether the message meant something to it.
func (m *Matrix) Update(msg tea.Msg) bool {
	switch msg := msg.(type) {
	case tea.KeyPressMsg:
		switch msg.String() {
		case "up", "k":
			m.Select(m.row-1, m.column)
		case "down", "j":
			m.Select(m.row+1, m.column)
		case "left", "h":
			m.Select(m.row, m.column-1)
		case "right", "l":
			m.Select(m.row, m.column+1)
		case "pgup":
			m.Select(m.row-max(1, m.height-1), m.column)
		case "pgdown":
			m.Select(m.row+max(1, m.height-1), m.column)
		case "home", "g":
			m.Select(0, 0)
		case "end", "G":
			m.Select(len(m.rows)-1, len(m.columns)-1)
		default:
			return false
		}
		return true
	case tea.MouseWheelMsg:
		switch msg.Button {
		case tea.MouseWheelUp:
			m.Select(m.row-1, m.column)
		case tea.MouseWheelDown:
			m.Select(m.row+1, m.column)
		case tea.MouseWheelLeft:
			m.Select(m.row, m.column-1)
		case tea.MouseWheelRight:
			m.Select(m.row, m.column+1)
		}
		return true
	case tea.MouseClickMsg:
		row, column := m.top+msg.Y-1, m.column
		if x := msg.X - m.headWidth; x >= 0 && m.cellWidth > 0 {
			column = m.left + x/m.cellWidth
		}
		if msg.Y > 0 && row < len(m.rows) && column < len(m.columns) {
			m.Select(row, column)
			return true
		}
	}
	return false
}

const (
	minCell, maxCell = 7, 16
	maxHead          = 30
)

// Draw gives at most height lines of exactly width: the names of the columns, and the
// rows that fit.
func (m *Matrix) Draw(t *Theme, width, height int) []string {
	if height < 1 || len(m.rows) == 0 || len(m.columns) == 0 {
		return nil
	}
	m.height = height - 1
	m.headWidth, m.cellWidth = Width(m.Corner)+2, minCell
	for _, name := range m.rows {
		m.headWidth = max(m.headWidth, Width(Clean(name))+3)
	}
	m.headWidth = min(m.headWidth, maxHead, width/2)
	for _, name := range m.columns {
		m.cellWidth = max(m.cellWidth, min(maxCell, Width(Clean(name))+2))
	}
	m.shown = max(1, (width-m.headWidth-1)/m.cellWidth)
	m.left = scrolled(m.left, m.column, m.shown, len(m.columns))
	m.top = scrolled(m.top, m.row, m.height, len(m.rows))

	lines := []string{m.heading(t, width)}
	for r := m.top; r < len(m.rows) && len(lines) < height; r++ {
		lines = append(lines, m.line(t, width, r))
	}
	return lines
}

// scrolled moves what is visible so that at is in it.
func scrolled(first, at, room, all int) int {
	first = min(first, at)
	if at >= first+room {
		first = at - room + 1
	}
	return max(0, min(first, all-room))
}

func (m *Matrix) heading(t *Theme, width int) string {
	l := NewLine(width, Style{})
	l.Text(" ", t.Head).Cell(m.Corner, m.headWidth-2, false, t.Faint)
	mark := " "
	if m.left > 0 {
		mark = "‹"
	}
	l.Text(mark, t.Accent)
	for c := m.left; c < len(m.columns) && c < m.left+m.shown; c++ {
		st := t.Head
		if c == m.column {
			st = t.Accent
		}
		l.Cell(m.columns[c], m.cellWidth-1, true, st).Fill(1, Style{})
	}
	if m.left+m.shown < len(m.columns) {
		l.Text("›", t.Accent)
	}
	return l.String()
}

func (m *Matrix) line(t *Theme, width, r int) string {
	l := NewLine(width, Style{})
	st, mark := Style{}, " "
	if r == m.row {
		st, mark = t.Accent, "▌"
	}
	l.Text(mark, t.Accent).Cell(m.rows[r], m.headWidth-2, false, st).Fill(1, Style{})
	for c := m.left; c < len(m.columns) && c < m.left+m.shown; c++ {
		cell := m.Cell(t, r, c)
		if r == m.row && c == m.column {
			l.Cell(cell.Text+" ", m.cellWidth, true, cell.Style.On(t.Selected))
			continue
		}
		l.Cell(cell.Text, m.cellWidth-1, true, cell.Style).Fill(1, Style{})
	}
	return l.String()
}
