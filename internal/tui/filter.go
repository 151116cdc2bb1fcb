package tui

import (
	"strings"
)

// parseFilter makes a filter of what was typed at `/`: it matches a row of R by its
// fields. Empty text is no filter.
func parseFilter[R any](text string, fields []string, field func(*R, string) (any, bool)) (func(*R) bool, error) {
	text = strings.ToLower(strings.TrimSpace(text))
	if text == "" {
		return nil, nil
	}
	return func(r *R) bool {
		for _, name := range fields {
			if s, ok := field(r, name); ok {
				if s, ok := s.(string); ok && strings.Contains(strings.ToLower(s), text) {
					return true
				}
			}
		}
		return false
	}, nil
}
