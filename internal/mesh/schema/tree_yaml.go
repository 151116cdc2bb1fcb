package schema

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"
)

// readYAML reads the only document of data. An empty one gives nil.
func readYAML(data []byte) (*node, error) {
	lines := newYAMLLines(data)
	dec := yaml.NewDecoder(bytes.NewReader(data))
	var doc, second yaml.Node
	switch err := dec.Decode(&doc); {
	case errors.Is(err, io.EOF):
		return nil, nil
	case err != nil:
		return nil, yamlError(err, lines)
	}
	switch err := dec.Decode(&second); {
	case err == nil:
		return nil, &syntaxError{
			at:      lines.at(second.Line, second.Column),
			message: "the file has more than one YAML document",
			instead: "all workers under one document, without ---",
		}
	case !errors.Is(err, io.EOF):
		return nil, yamlError(err, lines)
	}
	r := yamlReader{lines: lines}
	return r.node(doc.Content[0], 1)
}

// yamlError takes the line out of the library's message, which has no other form.
func yamlError(err error, lines yamlLines) error {
	msg := strings.TrimPrefix(err.Error(), "yaml: ")
	e := &syntaxError{message: "not YAML: " + msg}
	if rest, ok := strings.CutPrefix(msg, "line "); ok {
		if num, what, ok := strings.Cut(rest, ": "); ok {
			if line, err := strconv.Atoi(num); err == nil {
				e.at = position{line: lines.at(line, 1).line}
				e.message = "not YAML: " + what
			}
		}
	}
	return e
}

// yamlReader converts what the library parsed. Aliases are expanded, within the
// budget; one that contains itself runs into the bound on depth.
type yamlReader struct {
	lines  yamlLines
	budget budget
}

func (r *yamlReader) node(y *yaml.Node, depth int) (*node, error) {
	n := &node{at: r.lines.at(y.Line, y.Column)}
	if err := r.budget.spend(depth, n.at); err != nil {
		return nil, err
	}
	switch y.Kind {
	case yaml.AliasNode:
		return r.node(y.Alias, depth+1)
	case yaml.ScalarNode:
		n.text = y.Value
		switch y.ShortTag() {
		case "!!null":
			n.kind = null
		case "!!bool":
			n.kind = boolean
		case "!!int", "!!float":
			n.kind = number
		case "!!str":
			n.kind = text
		default:
			n.kind = other
		}
	case yaml.SequenceNode:
		n.kind = list
		for _, c := range y.Content {
			item, err := r.node(c, depth+1)
			if err != nil {
				return nil, err
			}
			n.items = append(n.items, item)
		}
	case yaml.MappingNode:
		n.kind = object
		for i := 0; i+1 < len(y.Content); i += 2 {
			m, err := r.member(y.Content[i], y.Content[i+1], depth)
			if err != nil {
				return nil, err
			}
			n.members = append(n.members, m)
		}
	default:
		return nil, &syntaxError{at: n.at, message: fmt.Sprintf("unexpected YAML node (kind %d)", y.Kind)}
	}
	return n, nil
}

func (r *yamlReader) member(k, v *yaml.Node, depth int) (member, error) {
	m := member{at: r.lines.at(k.Line, k.Column)}
	if k.Kind == yaml.AliasNode {
		k = k.Alias
	}
	switch {
	case k.Kind != yaml.ScalarNode:
		return m, &syntaxError{at: m.at, message: "a key is a list or an object", instead: "a name"}
	case k.ShortTag() == "!!merge":
		return m, &syntaxError{at: m.at, message: "merge keys (<<) are not supported", instead: "the members themselves"}
	}
	// Keys such as null and true are names here, whatever type YAML sees in them.
	m.key = k.Value
	if err := r.budget.spend(depth, m.at); err != nil {
		return m, err
	}
	var err error
	m.value, err = r.node(v, depth+1)
	return m, err
}

// yamlLines holds where each line starts, as YAML counts lines: for it, a bare
// carriage return and some characters beyond ASCII end a line as well.
type yamlLines []position

func newYAMLLines(data []byte) yamlLines {
	lines := yamlLines{{1, 1}}
	c := newCursor(data)
	for i, r := range string(data) {
		switch r {
		case '\r':
			if i+1 < len(data) && data[i+1] == '\n' {
				continue // one break together
			}
		case '\n', '\u0085', '\u2028', '\u2029':
		default:
			continue
		}
		lines = append(lines, c.at(i+utf8.RuneLen(r)))
	}
	return lines
}

// at gives the position of a place as YAML counts it. The library places some
// mistakes beyond the end.
func (l yamlLines) at(line, column int) position {
	start := l[max(0, min(line, len(l))-1)]
	start.column += max(0, column-1)
	return start
}
