package screen

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"testing"

	tea "charm.land/bubbletea/v2"
)

type row struct {
	name string
	n    int
}

func newTestTable(sort int) *Table[row] {
	return NewTable([]Column[row]{
		{Title: "NAME", Width: 10, Min: 6, Flex: true, Cell: func(_ *Theme, r *row) Cell { return Cell{Text: r.name} },
			Less: func(a, b *row) int { return strings.Compare(a.name, b.name) }},
		{Title: "N", Width: 6, Min: 4, Right: true, Priority: 1, Down: true, Cell: func(_ *Theme, r *row) Cell { return Cell{Text: strconv.Itoa(r.n)} },
			Less: func(a, b *row) int { return cmp.Compare(a.n, b.n) }},
		{Title: "KIND", Width: 8, Min: 8, Priority: 2, Cell: func(*Theme, *row) Cell { return Cell{Text: "plain"} }},
	}, func(r *row) string { return r.name }, sort)
}

func rowsOf(names ...string) []row {
	rows := make([]row, len(names))
	for i, name := range names {
		rows[i] = row{name, i}
	}
	return rows
}

func keyPress(t *Table[row], keys ...string) {
	codes := map[string]rune{"down": tea.KeyDown, "up": tea.KeyUp, "end": tea.KeyEnd, "home": tea.KeyHome, "pgdown": tea.KeyPgDown}
	for _, k := range keys {
		if c, ok := codes[k]; ok {
			t.Update(tea.KeyPressMsg{Code: c})
		} else {
			t.Update(tea.KeyPressMsg{Code: rune(k[0]), Text: k})
		}
	}
}

// names gives what Draw shows, cursor marked by ">".
func names(t *Table[row], w, h int) string {
	var out []string
	for _, line := range t.Draw(mono(), w, h)[1:] {
		mark := ""
		if strings.Contains(line, "▌") {
			mark = ">"
		}
		out = append(out, mark+strings.Fields(strings.TrimPrefix(Plain(line), "▌"))[0])
	}
	return strings.Join(out, " ")
}

func TestTheCursorStaysOnItsRow(t *testing.T) {
	tb := newTestTable(0)
	tb.SetRows(rowsOf("b", "d", "f"))
	if got := names(tb, 40, 9); got != ">b d f" {
		t.Fatal(got)
	}
	// Nobody has moved it: it stays at the top.
	tb.SetRows(rowsOf("a", "b", "d", "f"))
	if got := names(tb, 40, 9); got != ">a b d f" {
		t.Fatal(got)
	}
	keyPress(tb, "down", "down") // on d
	tb.SetRows(rowsOf("f", "e", "d", "c", "b", "a"))
	if got := names(tb, 40, 9); got != "a b c >d e f" {
		t.Fatal(got)
	}
	keyPress(tb, "S") // the other way round: the cursor goes with its row
	if got := names(tb, 40, 9); got != "f e >d c b a" {
		t.Fatal(got)
	}
	tb.SetMatch(func(r *row) bool { return r.name >= "c" })
	if got := names(tb, 40, 9); got != "f e >d c" {
		t.Fatal(got)
	}
	// Its row goes and comes back: the cursor waits for it.
	tb.SetRows(rowsOf("f", "e", "c"))
	if got := names(tb, 40, 9); got != "f e >c" {
		t.Fatal(got)
	}
	tb.SetRows(rowsOf("z", "f", "e", "d", "c"))
	if got := names(tb, 40, 9); got != "z f e >d c" {
		t.Fatal(got)
	}
	keyPress(tb, "home")
	tb.SetRows(rowsOf("zz", "z", "f"))
	if got := names(tb, 40, 9); got != ">zz z f" {
		t.Fatal("home should keep the cursor at the top:", got)
	}
}

func TestTheRowStaysWhereItIsOnTheScreen(t *testing.T) {
	tb := newTestTable(-1)
	var all []string
	for i := range 50 {
		all = append(all, fmt.Sprintf("r%02d", i))
	}
	tb.SetRows(rowsOf(all...))
	tb.Select("r30")
	before := names(tb, 40, 6) // five rows, the cursor at the last
	tb.SetRows(rowsOf(append([]string{"x0", "x1", "x2"}, all...)...))
	if got := names(tb, 40, 6); got != before {
		t.Errorf("rows above have moved the screen from %q to %q", before, got)
	}
}

func TestFollowKeepsTheEnd(t *testing.T) {
	tb := newTestTable(-1)
	tb.SetFollow(true)
	tb.SetRows(rowsOf("a", "b", "c"))
	tb.SetRows(rowsOf("a", "b", "c", "d"))
	if got := names(tb, 40, 3); got != "c >d" {
		t.Fatal(got)
	}
	keyPress(tb, "up")
	if tb.Following() {
		t.Fatal("it follows though the cursor was moved away")
	}
	tb.SetRows(rowsOf("a", "b", "c", "d", "e"))
	if got := names(tb, 40, 4); !strings.Contains(got, ">c") {
		t.Fatal(got)
	}
}

func TestColumnsDropByPriority(t *testing.T) {
	tb := newTestTable(0)
	tb.SetRows(rowsOf("a"))
	for width, want := range map[int]string{40: "NAME▲ N KIND", 22: "NAME▲ N", 10: "NAME▲"} {
		head := Plain(tb.Draw(mono(), width, 3)[0])
		if got := strings.Join(strings.Fields(head), " "); got != want {
			t.Errorf("at %d columns the heading is %q, want %q", width, got, want)
		}
	}
}

func TestSortIsStableAndByClick(t *testing.T) {
	tb := newTestTable(-1)
	rows := rowsOf("c", "a", "b")
	for i := range rows {
		rows[i].n = 7
	}
	tb.SetRows(rows)
	tb.SortBy(1)
	if got := names(tb, 40, 9); got != ">c a b" {
		t.Errorf("equal rows changed places: %s", got)
	}
	if !tb.Update(tea.MouseClickMsg{X: 3, Y: 0, Button: tea.MouseLeft}) || names(tb, 40, 9) != ">a b c" {
		t.Errorf("a click on the heading: %s", names(tb, 40, 9))
	}
	if !tb.Update(tea.MouseClickMsg{X: 3, Y: 2, Button: tea.MouseLeft}) || names(tb, 40, 9) != "a >b c" {
		t.Errorf("a click on a row: %s", names(tb, 40, 9))
	}
	if tb.Update(tea.MouseClickMsg{X: 3, Y: 7, Button: tea.MouseLeft}) {
		t.Error("a click below the rows meant something")
	}
	tb.Update(tea.MouseWheelMsg{Button: tea.MouseWheelDown})
	if names(tb, 40, 9) != "a b >c" {
		t.Errorf("the wheel: %s", names(tb, 40, 9))
	}
	if title, desc := tb.Sorted(); title != "NAME" || desc {
		t.Error(title, desc)
	}
}

// TestAnyUseOfATable does anything with a table: it neither panics nor draws a wrong line.
func TestAnyUseOfATable(t *testing.T) {
	for seed := range uint64(200) {
		rng := rand.New(rand.NewPCG(seed, 1))
		tb := newTestTable(rng.IntN(2))
		for range 30 {
			switch rng.IntN(5) {
			case 0:
				var all []string
				for range rng.IntN(20) {
					all = append(all, strconv.Itoa(rng.IntN(30)))
				}
				tb.SetRows(rowsOf(all...))
			case 1:
				m := rng.IntN(3)
				tb.SetMatch(func(r *row) bool { return r.n%3 >= m })
			case 2:
				keyPress(tb, []string{"up", "down", "end", "home", "pgdown", "s", "S", "G", "g"}[rng.IntN(9)])
			case 3:
				tb.Update(tea.MouseClickMsg{X: rng.IntN(50), Y: rng.IntN(12) - 1, Button: tea.MouseLeft})
			case 4:
				tb.SetFollow(rng.IntN(2) == 0)
			}
			w, h := rng.IntN(60), rng.IntN(12)
			lines := tb.Draw(mono(), w, h)
			if len(lines) > h {
				t.Fatalf("seed %d: %d lines of %d", seed, len(lines), h)
			}
			marks := 0
			for _, line := range lines {
				if got := Width(Plain(line)); got > w {
					t.Fatalf("seed %d: %d columns of %d: %q", seed, got, w, line)
				}
				marks += strings.Count(line, "▌")
			}
			if want := min(1, tb.Shown()); h > 1 && w > 0 && marks != want {
				t.Fatalf("seed %d: %d cursors", seed, marks)
			}
		}
	}
}

func BenchmarkTable(b *testing.B) {
	rows := make([]row, 10_000)
	for i := range rows {
		rows[i] = row{fmt.Sprintf("worker/%d", i), i * 7919 % 10_007}
	}
	tb := newTestTable(1)
	th := mono()
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		rows[i%len(rows)].n = i
		tb.SetRows(rows)
		tb.Draw(th, 200, 60)
	}
}
