package schema

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"unicode/utf8"

	"github.com/pelletier/go-toml/v2"
)

// Parse reads and validates a schema. The format follows filename's extension
// (.yaml, .yml, .json, .toml), else the content; the file itself is not opened.
//
// The error is a Problems that holds all that is wrong with data, or, where it
// cannot be read as its format at all, the place where reading ended.
func Parse(filename string, data []byte) (*Schema, error) {
	c := newChecker(filename)
	root, err := read(filename, data)
	if err != nil {
		c.syntax(err)
		return nil, c.problems
	}
	s := c.schema(root)
	if len(c.problems) > 0 {
		return nil, c.problems.sorted()
	}
	return s, nil
}

// read makes a tree of data. Nothing but white space and comments gives nil or
// an object without members.
func read(filename string, data []byte) (*node, error) {
	if len(data) > MaxSize {
		return nil, &syntaxError{message: fmt.Sprintf("the schema has more than %d bytes", MaxSize)}
	}
	data = bytes.TrimPrefix(data, []byte("\ufeff"))
	if bad := invalidUTF8(data); bad >= 0 {
		return nil, &syntaxError{at: newCursor(data).at(bad), message: "the schema is not UTF-8 text"}
	}
	switch strings.ToLower(filepath.Ext(filename)) {
	case ".yaml", ".yml":
		return readYAML(data)
	case ".json":
		return readJSON(data)
	case ".toml":
		return readTOML(data)
	}
	var table map[string]any
	switch {
	case json.Valid(data):
		return readJSON(data)
	case toml.Unmarshal(data, &table) == nil && len(table) > 0:
		return readTOML(data)
	default:
		return readYAML(data)
	}
}

// invalidUTF8 gives the offset of the first byte that is not part of UTF-8, or -1.
func invalidUTF8(data []byte) int {
	for i := 0; i < len(data); {
		r, size := utf8.DecodeRune(data[i:])
		if r == utf8.RuneError && size == 1 {
			return i
		}
		i += size
	}
	return -1
}

func (c *checker) syntax(err error) {
	if se := (*syntaxError)(nil); errors.As(err, &se) {
		c.add(se.at, "", se.message, se.instead)
		return
	}
	c.add(position{}, "", err.Error(), "")
}
