package tui

import (
	"github.com/meshctl/meshctl/internal/tui/screen"
)

// helpPage lists the keys that mean something where it was opened.
type helpPage struct {
	title  string
	keys   []Binding // of the page
	common []Binding
	offset int
}

func (r *root) showHelp() {
	if r.help != nil {
		r.help = nil
		return
	}
	h := &helpPage{title: r.front().Title(), keys: r.front().Keys()}
	for _, a := range rootActions() {
		if a.when == nil || a.when(r) {
			h.common = append(h.common, a.Binding)
		}
	}
	r.help = h
}

// update scrolls; it tells whether the key was for it. Every other key means what it
// means, so that one can try what one reads.
func (h *helpPage) update(key string, height int) bool {
	switch key {
	case "down", "j":
		h.offset++
	case "up", "k":
		h.offset--
	case "pgdown":
		h.offset += height
	case "pgup":
		h.offset -= height
	default:
		return false
	}
	return true
}

func (h *helpPage) draw(env Env) []string {
	var lines []string
	head := func(text string) {
		lines = append(lines, screen.NewLine(env.Width, screen.Style{}).Text("  "+text, env.Theme.Title).String())
	}
	list := func(bs []Binding) {
		const column = 40
		n := max(1, min(3, env.Width/column))
		rows := (len(bs) + n - 1) / n
		for i := range rows {
			l := screen.NewLine(env.Width, screen.Style{})
			for c := range n {
				if j := c*rows + i; j < len(bs) {
					l.To(2+c*column).Cell(bs[j].String(), 8, false, env.Theme.Key)
					l.Cell(bs[j].Help, column-11, false, env.Theme.Text)
				}
			}
			lines = append(lines, l.String())
		}
	}
	if len(h.keys) > 0 {
		head(h.title)
		list(h.keys)
		lines = append(lines, "")
	}
	head("Everywhere")
	list(h.common)
	h.offset = max(0, min(h.offset, len(lines)-env.Height))
	return lines[h.offset:]
}
