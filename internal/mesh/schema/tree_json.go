package schema

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
)

// readJSON reads data, which holds one JSON value. Empty data gives nil.
func readJSON(data []byte) (*node, error) {
	if len(bytes.TrimSpace(data)) == 0 {
		return nil, nil
	}
	c := newCursor(data)
	// The token reader below lets some mistakes pass, and places others badly.
	var raw json.RawMessage
	if err := json.Unmarshal(data, &raw); err != nil {
		e := &syntaxError{message: "not JSON: " + err.Error()}
		if se := (*json.SyntaxError)(nil); errors.As(err, &se) {
			e.at = c.at(int(se.Offset) - 1) // the offset is that after the bad byte
		}
		return nil, e
	}
	r := jsonReader{data: data, cursor: newCursor(data), dec: json.NewDecoder(bytes.NewReader(data))}
	r.dec.UseNumber()
	return r.value(1)
}

type jsonReader struct {
	data   []byte
	cursor *cursor
	dec    *json.Decoder
	budget budget
}

// token gives the next token and where it starts.
func (r *jsonReader) token() (json.Token, position, error) {
	start := int(r.dec.InputOffset())
	for start < len(r.data) && strings.IndexByte(" \t\r\n,:", r.data[start]) >= 0 {
		start++
	}
	at := r.cursor.at(start)
	t, err := r.dec.Token()
	if err != nil {
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		return nil, at, &syntaxError{at: at, message: "not JSON: " + err.Error()}
	}
	return t, at, nil
}

func (r *jsonReader) value(depth int) (*node, error) {
	t, at, err := r.token()
	if err != nil {
		return nil, err
	}
	if err := r.budget.spend(depth, at); err != nil {
		return nil, err
	}
	n := &node{at: at}
	switch t := t.(type) {
	case nil:
		n.kind = null
	case bool:
		n.kind, n.text = boolean, fmt.Sprint(t)
	case json.Number:
		n.kind, n.text = number, t.String()
	case string:
		n.kind, n.text = text, t
	case json.Delim:
		if t == '{' {
			n.kind = object
			return n, r.members(n, depth)
		}
		n.kind = list
		return n, r.items(n, depth)
	}
	return n, nil
}

func (r *jsonReader) items(n *node, depth int) error {
	for r.dec.More() {
		item, err := r.value(depth + 1)
		if err != nil {
			return err
		}
		n.items = append(n.items, item)
	}
	_, _, err := r.token() // the closing bracket
	return err
}

func (r *jsonReader) members(n *node, depth int) error {
	for r.dec.More() {
		t, at, err := r.token()
		if err != nil {
			return err
		}
		key, ok := t.(string)
		if !ok {
			return &syntaxError{at: at, message: "not JSON: a key is not a string"}
		}
		if err := r.budget.spend(depth, at); err != nil {
			return err
		}
		value, err := r.value(depth + 1)
		if err != nil {
			return err
		}
		n.members = append(n.members, member{key: key, at: at, value: value})
	}
	_, _, err := r.token() // the closing brace
	return err
}
