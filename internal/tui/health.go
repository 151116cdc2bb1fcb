package tui

import (
	"strconv"

	"github.com/meshctl/meshctl/internal/mesh/inspect"
	"github.com/meshctl/meshctl/internal/tui/screen"
)

// healthMark gives the symbol, word and style of a health: the symbols differ, so that
// none is told by colour alone.
func healthMark(t *screen.Theme, h inspect.Health) (mark, word string, st screen.Style) {
	switch h {
	case inspect.Healthy:
		return "●", h.String(), t.Good
	case inspect.Draining:
		return "◐", h.String(), t.Info
	case inspect.Degraded:
		return "▲", h.String(), t.Warn
	case inspect.Stale:
		return "○", h.String(), t.Muted
	}
	return "✖", h.String(), t.Bad
}

// percent formats a share from 0 to 1.
func percent(share float64) string {
	v := share * 100
	if v > 0 && v < 0.1 {
		return "<0.1%"
	}
	if v < 9.95 {
		return strconv.FormatFloat(v, 'f', 1, 64) + "%"
	}
	return strconv.FormatFloat(v, 'f', 0, 64) + "%"
}
