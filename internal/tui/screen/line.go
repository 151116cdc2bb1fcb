package screen

// Line builds one line of a frame, of an exact width. Text that does not fit is cut; what
// is cut or unprintable never reaches the terminal. The zero Line has width 0; use NewLine.
type Line struct {
	b     []byte
	width int // so far
	max   int
	base  Style
	cur   Style
}

// NewLine begins a line of the given width. Where a style says nothing, base's counts.
func NewLine(width int, base Style) *Line {
	return &Line{b: make([]byte, 0, width+64), max: max(width, 0), base: base}
}

// Left is how many columns are still free.
func (l *Line) Left() int { return l.max - l.width }

// At is the column where the next text goes.
func (l *Line) At() int { return l.width }

// Text adds text, cut with "…" where it does not fit.
func (l *Line) Text(text string, st Style) *Line {
	text, w := Cut(text, l.Left())
	l.put(text, w, st)
	return l
}

// Cell adds text in exactly width columns, cut or filled with spaces.
func (l *Line) Cell(text string, width int, right bool, st Style) *Line {
	width = min(width, l.Left())
	text, w := Cut(text, width)
	if right {
		l.spaces(width-w, Style{})
	}
	l.put(text, w, st)
	if !right {
		l.spaces(width-w, Style{})
	}
	return l
}

// Fill adds spaces in a style.
func (l *Line) Fill(n int, st Style) *Line {
	l.spaces(min(n, l.Left()), st)
	return l
}

// To adds spaces up to a column.
func (l *Line) To(column int) *Line { return l.Fill(column-l.width, Style{}) }

// String ends the line: it fills it up to its width.
func (l *Line) String() string {
	l.spaces(l.Left(), Style{})
	if l.cur != (Style{}) {
		l.b = append(l.b, reset...)
		l.cur = Style{}
	}
	return string(l.b)
}

func (l *Line) put(text string, width int, st Style) {
	if width == 0 {
		return
	}
	if st = st.On(l.base); st != l.cur {
		if l.cur != (Style{}) {
			l.b = append(l.b, reset...)
		}
		if st != (Style{}) {
			l.b = st.append(l.b)
		}
		l.cur = st
	}
	l.b = append(l.b, text...)
	l.width += width
}

const blanks = "                                                                "

func (l *Line) spaces(n int, st Style) {
	for n > 0 {
		k := min(n, len(blanks))
		l.put(blanks[:k], k, st)
		n -= k
	}
}

// Raw adds another line, which then is ended.
func (l *Line) Raw(other *Line) *Line {
	if other.max > l.Left() {
		return l
	}
	text := other.String()
	if l.cur != (Style{}) {
		l.b = append(l.b, reset...)
		l.cur = Style{}
	}
	l.b = append(l.b, text...)
	l.width += other.max
	return l
}
