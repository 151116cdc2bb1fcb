package screen

import (
	"cmp"
	"slices"

	tea "charm.land/bubbletea/v2"
)

// Cell is what a table shows at one place.
type Cell struct {
	Text  string
	Style Style
}

// Column is one column of a table of R.
type Column[R any] struct {
	Title string
	// Width is what it likes to have and Min what it needs; a Flex column takes its share
	// of what is left, up to Max where that is set. Priority says when a column is dropped
	// because the window is narrow: the greatest goes first, 0 stays always.
	Width, Min, Max int
	Flex            bool
	Priority        int
	Right           bool // numbers
	Cell            func(t *Theme, r *R) Cell
	// Less sorts ascending; without it the table cannot be sorted by the column. Down is
	// for columns whose greatest values come first when they are chosen.
	Less func(a, b *R) int
	Down bool
}

// Table shows rows of R, of which it looks only at those that are visible. Sort, filter,
// cursor and scrolling survive SetRows: the cursor stays on the row of the same key,
// wherever that moves, once somebody has moved it; before that it stays at the top.
// A Table is used by one goroutine.
type Table[R any] struct {
	columns []Column[R]
	key     func(*R) string
	rows    []R
	view    []int32 // rows that are shown, in order
	match   func(*R) bool
	sort    int // column, -1: as the rows come
	desc    bool

	cursor   int
	selected string
	pinned   bool
	follow   bool // the cursor stays at the end
	blurred  bool // the cursor is not drawn
	offset   int
	height   int   // of the rows, when last drawn
	want     []int // widths that SetWidth asked for, by column
	layout   []placed
	laidFor  int
	heads    []headSpan
}

type placed struct{ column, width int }
type headSpan struct{ from, to, column int }

// NewTable makes a table. key tells rows apart; sort is the column to begin with, or -1.
func NewTable[R any](columns []Column[R], key func(*R) string, sort int) *Table[R] {
	t := &Table[R]{columns: columns, key: key, sort: sort, laidFor: -1, want: make([]int, len(columns))}
	if sort >= 0 {
		t.desc = columns[sort].Down
	}
	return t
}

// SetWidth says how wide a column's content is. The column then gets that much before
// others get anything, up to a third of the table.
func (t *Table[R]) SetWidth(column, width int) {
	if t.want[column] != width {
		t.want[column], t.laidFor = width, -1
	}
}

// SetRows gives the table its rows. It borrows them until the next call.
func (t *Table[R]) SetRows(rows []R) {
	t.rows = rows
	t.arrange()
}

// SetMatch shows only rows that match; nil shows all.
func (t *Table[R]) SetMatch(match func(*R) bool) {
	t.match = match
	t.arrange()
}

// SetFollow keeps the cursor at the last row until it is moved away from there.
func (t *Table[R]) SetFollow(on bool) {
	t.follow = on
	t.arrange()
}

// SetFocus says whether the cursor is drawn.
func (t *Table[R]) SetFocus(on bool) { t.blurred = !on }

// Following tells whether the cursor stays at the last row.
func (t *Table[R]) Following() bool { return t.follow }

// Shown is how many rows match, and Total how many there are.
func (t *Table[R]) Shown() int { return len(t.view) }

// Total is how many rows there are, whether they match or not.
func (t *Table[R]) Total() int { return len(t.rows) }

// Row gives the i-th row that is shown.
func (t *Table[R]) Row(i int) *R { return &t.rows[t.view[i]] }

// Selected gives the row under the cursor, nil when none is shown.
func (t *Table[R]) Selected() *R {
	if len(t.view) == 0 {
		return nil
	}
	return t.Row(t.cursor)
}

// Select moves the cursor to the row of a key, if that is shown.
func (t *Table[R]) Select(key string) bool {
	for i := range t.view {
		if t.key(t.Row(i)) == key {
			t.moveTo(i)
			return true
		}
	}
	return false
}

// Sorted is the title of the column that rows are sorted by, and in which direction.
func (t *Table[R]) Sorted() (title string, desc bool) {
	if t.sort < 0 {
		return "", false
	}
	return t.columns[t.sort].Title, t.desc
}

// SortBy sorts by a column; by the same one again, the other way round.
func (t *Table[R]) SortBy(column int) {
	switch {
	case column == t.sort:
		t.desc = !t.desc
	case column >= 0 && column < len(t.columns) && t.columns[column].Less != nil:
		t.sort, t.desc = column, t.columns[column].Down
	default:
		return
	}
	t.arrange()
}

// Update moves the cursor and sorts: it takes keys, and mouse messages whose Y counts
// from the table's first line. It tells whether the message meant something to it.
func (t *Table[R]) Update(msg tea.Msg) bool {
	switch msg := msg.(type) {
	case tea.KeyPressMsg:
		return t.press(msg.String())
	case tea.MouseWheelMsg:
		switch msg.Button {
		case tea.MouseWheelUp:
			t.moveTo(t.cursor - 3)
		case tea.MouseWheelDown:
			t.moveTo(t.cursor + 3)
		default:
			return false
		}
		return true
	case tea.MouseClickMsg:
		return msg.Button == tea.MouseLeft && t.click(msg.X, msg.Y)
	}
	return false
}

func (t *Table[R]) press(key string) bool {
	switch key {
	case "up", "k":
		t.moveTo(t.cursor - 1)
	case "down", "j":
		t.moveTo(t.cursor + 1)
	case "pgup", "ctrl+b":
		t.moveTo(t.cursor - max(1, t.height-1))
	case "pgdown", "ctrl+f":
		t.moveTo(t.cursor + max(1, t.height-1))
	case "home", "g":
		t.moveTo(0)
		t.pinned = false
	case "end", "G":
		t.moveTo(len(t.view) - 1)
	case "s":
		t.nextSort()
	case "S":
		if t.sort >= 0 {
			t.SortBy(t.sort)
		}
	default:
		return false
	}
	return true
}

func (t *Table[R]) click(x, y int) bool {
	if y == 0 {
		for _, h := range t.heads {
			if x >= h.from && x < h.to {
				t.SortBy(h.column)
				return true
			}
		}
		return false
	}
	if i := t.offset + y - 1; i >= 0 && i < len(t.view) && y <= t.height {
		t.moveTo(i)
		return true
	}
	return false
}

// nextSort chooses the next column that can be sorted by and is on the screen.
func (t *Table[R]) nextSort() {
	at := slices.IndexFunc(t.layout, func(p placed) bool { return p.column == t.sort })
	for i := range t.layout {
		c := t.layout[(at+1+i)%len(t.layout)].column
		if c != t.sort && t.columns[c].Less != nil {
			t.SortBy(c)
			return
		}
	}
}

func (t *Table[R]) moveTo(i int) {
	if len(t.view) == 0 {
		return
	}
	t.cursor = max(0, min(i, len(t.view)-1))
	t.selected, t.pinned = t.key(t.Row(t.cursor)), true
	t.follow = t.follow && t.cursor == len(t.view)-1
}

// arrange filters and sorts, and finds the cursor's row again.
func (t *Table[R]) arrange() {
	t.view = t.view[:0]
	for i := range t.rows {
		if t.match == nil || t.match(&t.rows[i]) {
			t.view = append(t.view, int32(i))
		}
	}
	if t.sort >= 0 {
		less, sign := t.columns[t.sort].Less, 1
		if t.desc {
			sign = -1
		}
		slices.SortFunc(t.view, func(a, b int32) int {
			if c := less(&t.rows[a], &t.rows[b]); c != 0 {
				return sign * c
			}
			return cmp.Compare(a, b) // equal rows keep their order
		})
	}
	switch {
	case t.follow:
		t.cursor = len(t.view) - 1
	case !t.pinned:
		t.cursor = 0
	default:
		before := t.cursor
		t.find()
		t.offset += t.cursor - before // the row stays where it is on the screen
	}
	t.cursor = max(0, min(t.cursor, len(t.view)-1))
}

func (t *Table[R]) find() {
	if t.cursor < len(t.view) && t.key(t.Row(t.cursor)) == t.selected {
		return
	}
	for i := range t.view {
		if t.key(t.Row(i)) == t.selected {
			t.cursor = i
			return
		}
	}
	// It is not there: the cursor waits at its place for it to come back.
}
