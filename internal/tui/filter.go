package tui

import (
	"strings"

	"github.com/meshctl/meshctl/internal/mesh/inspect"
	"github.com/meshctl/meshctl/internal/mesh/inspect/query"
	"github.com/meshctl/meshctl/internal/tui/screen"
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

func matchNodes(text string) (func(*inspect.Node) bool, error) {
	return compile(text, query.NodeFields(), func(n *inspect.Node) query.Row { return (*query.NodeRow)(n) })
}

func matchCommands(text string) (func(*inspect.Command) bool, error) {
	return compile(text, query.CommandFields(), func(c *inspect.Command) query.Row { return (*query.CommandRow)(c) })
}

func matchRequests(text string) (func(*inspect.Live) bool, error) {
	return compile(text, query.LiveFields(), func(r *inspect.Live) query.Row { return (*query.LiveRow)(r) })
}

func matchQueues(text string) (func(*inspect.Queue) bool, error) {
	return compile(text, query.QueueFields(), func(q *inspect.Queue) query.Row { return (*query.QueueRow)(q) })
}

func matchEvents(text string) (func(*inspect.Event) bool, error) {
	return compile(text, query.EventFields(), func(e *inspect.Event) query.Row { return (*query.EventRow)(e) })
}

func matchEventRows(text string) (func(*eventRow) bool, error) {
	match, err := matchEvents(text)
	if match == nil {
		return nil, err
	}
	return func(e *eventRow) bool { return match(e.Event) }, nil
}

// filterable is a table that `/` filters by the fields of its rows: what pages that are one
// table have of Filterer.
type filterable[R any] struct {
	table   *screen.Table[R]
	compile func(text string) (func(*R) bool, error)
	filter  string
}

// Filter is the filter in force.
func (f *filterable[R]) Filter() string { return f.filter }

// SetFilter shows only rows that match.
func (f *filterable[R]) SetFilter(_ Env, text string) error {
	match, err := f.compile(text)
	if err != nil {
		return err
	}
	f.filter = text
	f.table.SetMatch(match)
	return nil
}

// Shown counts the rows that match, and all.
func (f *filterable[R]) Shown() (shown, total int) { return f.table.Shown(), f.table.Total() }
