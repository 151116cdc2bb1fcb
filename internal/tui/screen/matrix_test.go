package screen

import (
	"fmt"
	"strings"
	"testing"

	tea "charm.land/bubbletea/v2"
)

func testMatrix(n int) *Matrix {
	m := &Matrix{Corner: "from", Cell: func(_ *Theme, row, column int) Cell { return Cell{Text: fmt.Sprintf("%d.%d", row, column)} }}
	var heads []string
	for i := range n {
		heads = append(heads, fmt.Sprintf("w%d", i))
	}
	m.SetHeads(heads, heads)
	return m
}

func TestMatrixScrollsToItsCursor(t *testing.T) {
	m := testMatrix(50)
	for _, at := range [][2]int{{0, 0}, {49, 49}, {25, 0}, {3, 25}, {0, 49}} {
		m.Select(at[0], at[1])
		lines := m.Draw(mono(), 60, 10)
		if len(lines) != 10 {
			t.Fatalf("%d lines", len(lines))
		}
		text := ""
		for _, line := range lines {
			if Width(Plain(line)) > 60 {
				t.Errorf("too wide: %q", line)
			}
			text += Plain(line) + "\n"
		}
		for _, part := range []string{fmt.Sprintf("w%d", at[0]), fmt.Sprintf(" %d.%d", at[0], at[1])} {
			if !strings.Contains(text, part) {
				t.Errorf("at %v the matrix lacks %q:\n%s", at, part, text)
			}
		}
		if left := strings.Contains(text, "‹"); left != (at[1] > 0) {
			t.Errorf("at %v it says there is more at the left: %v", at, left)
		}
	}
}

func TestMatrixKeysAndMouse(t *testing.T) {
	m := testMatrix(5)
	m.Draw(mono(), 60, 10)
	for _, k := range []rune{tea.KeyDown, tea.KeyRight, tea.KeyRight, tea.KeyUp, tea.KeyUp} {
		m.Update(tea.KeyPressMsg{Code: k})
	}
	if row, column, ok := m.Selected(); row != 0 || column != 2 || !ok {
		t.Error(row, column, ok)
	}
	m.Update(tea.MouseClickMsg{X: m.headWidth + 3*m.cellWidth + 1, Y: 4})
	if row, column, _ := m.Selected(); row != 3 || column != 3 {
		t.Error(row, column)
	}
	if m.Update(tea.MouseClickMsg{X: 200, Y: 1}) || m.Update(tea.KeyPressMsg{Code: 'n', Text: "n"}) {
		t.Error("what is not for the matrix meant something to it")
	}
	m.SetHeads(nil, nil)
	if _, _, ok := m.Selected(); ok || m.Draw(mono(), 60, 10) != nil {
		t.Error("an empty matrix has a cursor")
	}
	m.Update(tea.KeyPressMsg{Code: tea.KeyDown})
	m.SetHeads([]string{"a"}, []string{"b"})
	if row, column, ok := m.Selected(); row != 0 || column != 0 || !ok {
		t.Error(row, column, ok)
	}
}
