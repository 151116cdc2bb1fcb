package tui

import (
	"strings"

	"github.com/meshctl/meshctl/internal/tui/screen"
)

// facts are lines of a label and a value each, for a page about one thing.
type facts struct {
	env   Env
	lines []string
}

// add adds a value in as many lines as it takes; an empty one is left out.
func (f *facts) add(label, value string, st screen.Style) {
	if value == "" {
		return
	}
	for i, part := range wrap(value, f.env.Width-14) {
		if i > 0 {
			label = ""
		}
		f.lines = append(f.lines, screen.NewLine(f.env.Width, screen.Style{}).Fill(1, screen.Style{}).
			Cell(label, 11, false, f.env.Theme.Muted).Text(part, st).String())
	}
}

// wrap breaks text into pieces of at most width columns, at spaces where there are some.
func wrap(text string, width int) []string {
	width = max(width, 8)
	var lines []string
	for _, word := range strings.Fields(screen.Clean(text)) {
		if n := len(lines) - 1; n >= 0 && screen.Width(lines[n])+1+screen.Width(word) <= width {
			lines[n] += " " + word
			continue
		}
		for screen.Width(word) > width {
			end := 0
			for i, c := range word {
				if screen.Width(word[:i+len(string(c))]) > width {
					break
				}
				end = i + len(string(c))
			}
			if end == 0 {
				break
			}
			lines = append(lines, word[:end])
			word = word[end:]
		}
		lines = append(lines, word)
	}
	return lines
}
