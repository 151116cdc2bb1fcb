package tui

import "github.com/meshctl/meshctl/internal/tui/screen"

// flow sets short facts side by side, in as many lines as they need.
type flow struct {
	env   Env
	lines []string
	line  *screen.Line
}

// add adds a value with what it is in front.
func (f *flow) add(label, value string, st screen.Style) {
	width := screen.Width(screen.Clean(value))
	if label != "" {
		width += screen.Width(label) + 1
	}
	if f.line != nil && width > f.line.Left() {
		f.lines, f.line = append(f.lines, f.line.String()), nil
	}
	if f.line == nil {
		f.line = screen.NewLine(f.env.Width, screen.Style{}).Fill(1, screen.Style{})
	}
	if label != "" {
		f.line.Text(label+" ", f.env.Theme.Muted)
	}
	f.line.Text(value, st).Fill(3, screen.Style{})
}

// end gives the lines.
func (f *flow) end() []string {
	if f.line != nil {
		f.lines, f.line = append(f.lines, f.line.String()), nil
	}
	return f.lines
}
