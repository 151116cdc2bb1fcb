package config

import (
	"fmt"
	"strings"
)

// Problem is one thing wrong in a file or with one value.
type Problem struct {
	Where   string // "file:line", "--flag" or the environment variable
	Message string // never holds a secret
}

func (p Problem) String() string { return p.Where + ": " + p.Message }

// Problems is everything wrong at once; there is at least one.
type Problems []Problem

func (ps Problems) Error() string {
	lines := make([]string, len(ps))
	for i, p := range ps {
		lines[i] = p.String()
	}
	return strings.Join(lines, "\n")
}

// NotFoundError says that a file that was asked for by name does not exist.
type NotFoundError struct {
	What, Path, Hint string
}

func (e *NotFoundError) Error() string {
	return fmt.Sprintf("open %s %s: no such file", e.What, e.Path)
}
