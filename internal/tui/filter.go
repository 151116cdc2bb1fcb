package tui

import (
	"strings"

	"github.com/meshctl/meshctl/internal/mesh/inspect/query"
)

// compile makes of what was typed at `/` a filter of a table's rows, which row presents
// to it. Empty text is no filter: nil.
func compile[R any](text string, fields []query.Field, row func(*R) query.Row) (func(*R) bool, error) {
	if strings.TrimSpace(text) == "" {
		return nil, nil
	}
	f, err := query.Compile(text, fields)
	if err != nil {
		return nil, err
	}
	return func(r *R) bool { return f.Match(row(r)) }, nil
}
