package screen

import "slices"

const gap = 2 // columns between columns

// Draw gives the heading and the rows that fit, at most height lines of exactly width.
// Nothing is drawn for rows that are not visible.
func (t *Table[R]) Draw(th *Theme, width, height int) []string {
	if height < 1 || width < 1 {
		return nil
	}
	t.lay(width)
	t.height = height - 1
	t.scroll()
	lines := make([]string, 0, height)
	lines = append(lines, t.heading(th, width))
	for i := t.offset; i < len(t.view) && len(lines) < height; i++ {
		lines = append(lines, t.line(th, width, i, i == t.cursor && !t.blurred))
	}
	return lines
}

// Text gives the heading and all rows that match as plain text, for a file.
func (t *Table[R]) Text(width int) []string {
	t.lay(width)
	th := mono()
	lines := []string{Plain(t.heading(th, width))}
	for i := range t.view {
		lines = append(lines, Plain(t.line(th, width, i, false)))
	}
	return lines
}

// ColumnWidth is how wide a column is in a table of some width; 0 when it is dropped.
func (t *Table[R]) ColumnWidth(column, width int) int {
	t.lay(width)
	for _, p := range t.layout {
		if p.column == column {
			return p.width
		}
	}
	return 0
}

func (t *Table[R]) scroll() {
	if t.cursor < t.offset {
		t.offset = t.cursor
	}
	if t.cursor >= t.offset+t.height {
		t.offset = t.cursor - t.height + 1
	}
	t.offset = max(0, min(t.offset, len(t.view)-t.height))
}

func (t *Table[R]) heading(th *Theme, width int) string {
	l := NewLine(width, Style{})
	t.heads = t.heads[:0]
	l.Fill(1, Style{})
	for i, p := range t.layout {
		c := &t.columns[p.column]
		from := l.At()
		title, st := c.Title, th.Head
		if p.column == t.sort {
			mark := "▲"
			if t.desc {
				mark = "▼"
			}
			st = th.Accent
			title, _ = Cut(title, p.width-1)
			if c.Right {
				title = mark + title
			} else {
				title += mark
			}
		}
		l.Cell(title, p.width, c.Right, st)
		t.heads = append(t.heads, headSpan{from, l.At() + 1, p.column})
		if i < len(t.layout)-1 {
			l.Fill(gap, Style{})
		}
	}
	return l.String()
}

func (t *Table[R]) line(th *Theme, width, i int, selected bool) string {
	base := Style{}
	if selected {
		base = th.Selected
	}
	l := NewLine(width, base)
	mark := " "
	if selected {
		mark = "▌"
	}
	l.Text(mark, th.Accent)
	row := t.Row(i)
	for j, p := range t.layout {
		c := &t.columns[p.column]
		cell := c.Cell(th, row)
		l.Cell(cell.Text, p.width, c.Right, cell.Style)
		if j < len(t.layout)-1 {
			l.Fill(gap, Style{})
		}
	}
	return l.String()
}

// lay chooses the columns that fit a width, and how wide each is.
func (t *Table[R]) lay(width int) {
	if t.laidFor == width {
		return
	}
	t.laidFor = width
	t.layout = t.layout[:0]
	for i := range t.columns {
		t.layout = append(t.layout, placed{i, max(1, t.columns[i].Min, min(t.want[i], width/3))})
	}
	used := func() int {
		n := 1 + gap*(len(t.layout)-1)
		for _, p := range t.layout {
			n += p.width
		}
		return n
	}
	for len(t.layout) > 1 && used() > width {
		worst := -1
		for i, p := range t.layout {
			if pr := t.columns[p.column].Priority; pr > 0 && (worst < 0 || pr >= t.columns[t.layout[worst].column].Priority) {
				worst = i
			}
		}
		if worst < 0 {
			break // what must stay is cut by the line
		}
		t.layout = slices.Delete(t.layout, worst, worst+1)
	}
	left := width - used()
	for i := range t.layout { // what each likes to have
		p := &t.layout[i]
		more := max(0, min(left, t.columns[p.column].Width-p.width))
		p.width += more
		left -= more
	}
	for left > 0 { // the rest goes to those that can use it, in turn
		given := 0
		for i := range t.layout {
			p := &t.layout[i]
			c := &t.columns[p.column]
			if most := t.most(p.column); left > 0 && c.Flex && (most == 0 || p.width < most) {
				p.width++
				left--
				given++
			}
		}
		if given == 0 {
			break
		}
	}
}

// most is how wide a flexible column may become; 0 is any width.
func (t *Table[R]) most(column int) int {
	const margin = 6
	if want := t.want[column]; want > 0 {
		return max(want, t.columns[column].Width) + margin
	}
	return t.columns[column].Max
}
