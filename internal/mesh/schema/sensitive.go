package schema

import (
	"fmt"
	"slices"
	"strings"
	"unicode"
)

// keySensitive names members of payloads that nobody who watches the mesh is shown. Like
// every key that begins with "x-" it is an extension that JavaScript nodes pass over.
const keySensitive = "x-sensitive"

// Bounds on what a command may call sensitive.
const (
	maxSensitive    = 100
	maxSensitiveLen = 128 // bytes
)

// sensitive reads the names of members. What cannot be read is a problem in a schema from
// a peer as well: to pass over it would show what is to be hidden.
func (c *checker) sensitive(m member, path string) []string {
	names, ok := c.texts(m, path, "[KEY, …]")
	if !ok {
		return nil
	}
	if len(names) > maxSensitive {
		c.add(m.value.at, path, fmt.Sprintf("x-sensitive has more than %d keys", maxSensitive), "")
		return nil
	}
	for i, name := range names {
		unprintable := strings.ContainsFunc(name, func(r rune) bool { return !unicode.IsPrint(r) })
		switch at := m.value.items[i].at; {
		case name == "":
			c.add(at, path, "x-sensitive has an empty key", "")
		case len(name) > maxSensitiveLen:
			c.add(at, path, fmt.Sprintf("a key in x-sensitive is longer than %d bytes", maxSensitiveLen), "")
		case unprintable:
			c.add(at, path, "x-sensitive has a key that cannot be printed", "")
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}
