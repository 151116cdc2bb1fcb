package schema

import (
	"bytes"
	"fmt"
	"unicode/utf8"
)

// Bounds on what is read, whether from a file or from a peer.
const (
	// MaxSize is the largest schema, in bytes.
	MaxSize = 1 << 20
	// MaxWorkers is how many workers a schema may have.
	MaxWorkers = 1000
	// MaxCommands is how many commands a worker may have.
	MaxCommands = 1000

	maxNodes = 100_000 // values and keys, with YAML aliases expanded
	maxDepth = 32
)

// position is a place in a file, from 1; the zero position is unknown.
type position struct{ line, column int }

// node is a value in a file of any of the formats.
type node struct {
	kind    kind
	at      position
	text    string   // of a scalar, as written
	items   []*node  // of a list
	members []member // of an object, in the order of the file, duplicates included
}

// member is one key of an object and its value.
type member struct {
	key   string
	at    position
	value *node
}

// get gives the value of key, or nil.
func (n *node) get(key string) *node {
	for i := range n.members {
		if n.members[i].key == key {
			return n.members[i].value
		}
	}
	return nil
}

type kind uint8

const (
	null kind = iota
	boolean
	number
	text
	list
	object
	other // a date, binary data and the like
)

func (k kind) String() string {
	return [...]string{"null", "true or false", "a number", "text", "a list", "an object", "another type"}[k]
}

// describe says what n is, for an error message.
func (n *node) describe() string {
	switch n.kind {
	case boolean, number, other:
		return clip(n.text)
	case text:
		return fmt.Sprintf("text (%q)", clip(n.text))
	default:
		return n.kind.String()
	}
}

// syntaxError ends the reading of a file; nothing after it was looked at.
type syntaxError struct {
	at      position
	message string
	instead string
}

func (e *syntaxError) Error() string { return e.message }

// budget bounds the tree that a reader makes of a file.
type budget struct{ nodes int }

// spend accounts for one node at the given depth.
func (b *budget) spend(depth int, at position) error {
	b.nodes++
	switch {
	case b.nodes > maxNodes:
		return &syntaxError{at: at, message: fmt.Sprintf("the schema has more than %d values", maxNodes)}
	case depth > maxDepth:
		return &syntaxError{at: at, message: fmt.Sprintf("the schema is nested more than %d levels deep", maxDepth)}
	}
	return nil
}

// cursor turns byte offsets into positions. Asked in ascending order, it passes
// over the data once, however long the lines are.
type cursor struct {
	data   []byte
	offset int
	pos    position
}

func newCursor(data []byte) *cursor {
	return &cursor{data: data, pos: position{1, 1}}
}

// at gives the position of an offset; columns count characters.
func (c *cursor) at(offset int) position {
	offset = max(0, min(offset, len(c.data)))
	if offset < c.offset {
		c.offset, c.pos = 0, position{1, 1}
	}
	passed := c.data[c.offset:offset]
	if n := bytes.Count(passed, []byte{'\n'}); n > 0 {
		c.pos.line += n
		c.pos.column = 1
		passed = passed[bytes.LastIndexByte(passed, '\n')+1:]
	}
	c.pos.column += utf8.RuneCount(passed)
	c.offset = offset
	return c.pos
}

// join extends a path such as "worker._commands".
func join(path, key string) string {
	key = clip(key)
	if path == "" {
		return key
	}
	return path + "." + key
}
