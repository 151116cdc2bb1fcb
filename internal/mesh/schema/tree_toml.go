package schema

import (
	"errors"
	"strings"

	"github.com/pelletier/go-toml/v2"
	"github.com/pelletier/go-toml/v2/unstable"
)

// readTOML reads a TOML document. One without keys gives an object without members.
func readTOML(data []byte) (*node, error) {
	// The decoder checks what the parser below does not: duplicate keys and
	// tables that are defined twice.
	var check map[string]any
	if err := toml.Unmarshal(data, &check); err != nil {
		e := &syntaxError{message: "not TOML: " + err.Error()}
		if de := (*toml.DecodeError)(nil); errors.As(err, &de) {
			e.at.line, e.at.column = de.Position()
			e.message = "not TOML: " + strings.TrimPrefix(de.Error(), "toml: ")
		}
		return nil, e
	}
	root := &node{kind: object, at: position{1, 1}}
	r := tomlReader{cursor: newCursor(data), index: map[*node]map[string]*node{}, table: root, depth: 1}
	p := unstable.Parser{}
	p.Reset(data)
	for p.NextExpression() {
		var err error
		switch e := p.Expression(); e.Kind {
		case unstable.Table:
			r.table, r.depth, err = r.descend(root, e.Key(), 1, object)
		case unstable.ArrayTable:
			var array *node
			if array, r.depth, err = r.descend(root, e.Key(), 1, list); err == nil && array.kind == list {
				r.table = &node{kind: object, at: r.cursor.pos}
				array.items = append(array.items, r.table)
			}
		case unstable.KeyValue:
			err = r.keyValue(r.table, e, r.depth)
		}
		if err != nil {
			return nil, err
		}
	}
	if err := p.Error(); err != nil {
		return nil, &syntaxError{message: "not TOML: " + err.Error()}
	}
	return root, nil
}

// tomlReader converts what the library parsed. Each expression is only valid
// until the next one is parsed.
type tomlReader struct {
	cursor *cursor
	budget budget
	index  map[*node]map[string]*node // the values of an object by key
	table  *node                      // to which the keys that follow belong …
	depth  int                        // … and how deep it is
}

// descend follows a dotted key, making what is missing: objects, and at its
// end a value of the given kind. It gives the last value and its depth.
func (r *tomlReader) descend(n *node, keys unstable.Iterator, depth int, last kind) (*node, int, error) {
	for keys.Next() {
		if n.kind == list && len(n.items) > 0 { // a table of an array of tables: the newest
			n = n.items[len(n.items)-1]
			depth++
		}
		key, at := string(keys.Node().Data), r.cursor.at(int(keys.Node().Raw.Offset))
		depth++
		child, ok := r.index[n][key]
		if !ok {
			if err := r.budget.spend(depth, at); err != nil {
				return nil, 0, err
			}
			child = &node{kind: object, at: at}
			if keys.IsLast() {
				child.kind = last
			}
			if r.index[n] == nil {
				r.index[n] = map[string]*node{}
			}
			r.index[n][key] = child
			n.members = append(n.members, member{key: key, at: at, value: child})
		}
		n = child
	}
	return n, depth, nil
}

func (r *tomlReader) keyValue(table *node, e *unstable.Node, depth int) error {
	n, depth, err := r.descend(table, e.Key(), depth, null)
	if err != nil {
		return err
	}
	return r.value(n, e.Value(), depth)
}

// value fills n, whose position is that of its key or list until a better one is known.
func (r *tomlReader) value(n *node, v *unstable.Node, depth int) error {
	if err := r.budget.spend(depth, n.at); err != nil {
		return err
	}
	if v.Raw.Length > 0 {
		n.at = r.cursor.at(int(v.Raw.Offset))
	}
	n.text = string(v.Data)
	switch v.Kind {
	case unstable.String:
		n.kind = text
	case unstable.Bool:
		n.kind = boolean
	case unstable.Integer, unstable.Float:
		n.kind, n.text = number, strings.ReplaceAll(n.text, "_", "")
	case unstable.Array:
		n.kind = list
		for it := v.Children(); it.Next(); {
			item := &node{at: n.at}
			if err := r.value(item, it.Node(), depth+1); err != nil {
				return err
			}
			n.items = append(n.items, item)
		}
	case unstable.InlineTable:
		n.kind = object
		for it := v.Children(); it.Next(); {
			if err := r.keyValue(n, it.Node(), depth); err != nil {
				return err
			}
		}
	default:
		n.kind = other
	}
	return nil
}
