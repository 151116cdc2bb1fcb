package schema

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// maxProblems is how many problems are reported of one schema.
const maxProblems = 100

// Problem is one mistake in a schema file.
type Problem struct {
	File         string // as given to Parse
	Line, Column int    // from 1; 0 where unknown
	Path         string // the keys that lead to it, joined by "."
	Message      string // what is wrong
	Instead      string // what to write in its place, or ""
}

// Error is "FILE:LINE:COLUMN: message; write … instead".
func (p Problem) Error() string {
	var b strings.Builder
	b.WriteString(p.File)
	if p.Line > 0 {
		fmt.Fprintf(&b, ":%d", p.Line)
		if p.Column > 0 {
			fmt.Fprintf(&b, ":%d", p.Column)
		}
	}
	if b.Len() > 0 {
		b.WriteString(": ")
	}
	b.WriteString(p.Message)
	if p.Instead != "" {
		fmt.Fprintf(&b, "; write %s instead", p.Instead)
	}
	return b.String()
}

// Problems is all that is wrong with a schema, in the order of the file, at
// most 100. As an error it never is empty.
type Problems []Problem

// Error gives one line per problem.
func (ps Problems) Error() string {
	rows := make([]string, len(ps))
	for i, p := range ps {
		rows[i] = p.Error()
	}
	return strings.Join(rows, "\n")
}

// sorted orders ps by place and drops repetitions, as an alias causes.
func (ps Problems) sorted() Problems {
	slices.SortStableFunc(ps, func(a, b Problem) int {
		return cmp.Or(cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column))
	})
	return slices.CompactFunc(ps, func(a, b Problem) bool {
		return a.Line == b.Line && a.Column == b.Column && a.Message == b.Message
	})
}
