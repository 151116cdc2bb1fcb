package wire

import (
	"bytes"
	"encoding/json"
	"fmt"
	"unicode/utf8"
)

// Encode writes v as JSON, without escaping "<", ">" and "&" and without a trailing
// newline. Errors are *Error with CodeBadRequest. The caller owns the result.
func Encode(v any) ([]byte, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return nil, badRequest("encode: %v", err)
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), nil
}

// stringEnd gives the index after the JSON string that begins at i, or len(b).
func stringEnd(b []byte, i int) int {
	for i++; i < len(b); i++ {
		switch b[i] {
		case '\\':
			i++
		case '"':
			return i + 1
		}
	}
	return len(b)
}

// clean checks that body is one JSON value within MaxDepth. Bytes that are not UTF-8
// are replaced, as encoding/json does; otherwise the result is body itself.
func clean(body []byte) ([]byte, error) {
	return cleanTo(body, MaxDepth)
}

func cleanTo(body []byte, depth int) ([]byte, error) {
	if !utf8.Valid(body) {
		body = bytes.Map(func(r rune) rune { return r }, body)
	}
	if err := checkJSON(body, depth); err != nil {
		return nil, err
	}
	return bytes.TrimSpace(body), nil
}

// member is one member of an object. Its value aliases the body it came from.
type member struct {
	name  string
	value json.RawMessage
}

// object is the members of a JSON object in their order, without duplicates.
type object []member

// get gives the value of a member, or nil when it is missing or null.
func (o object) get(name string) json.RawMessage {
	for _, m := range o {
		if m.name == name {
			if string(m.value) == "null" {
				return nil
			}
			return m.value
		}
	}
	return nil
}

// decodeObject cleans body and splits it.
func decodeObject(body []byte) (object, error) {
	body, err := clean(body)
	if err != nil {
		return nil, err
	}
	return splitObject(body)
}

// splitObject splits a clean value without copying. Duplicates are refused because
// parsers disagree on which of them counts.
func splitObject(b []byte) (object, error) {
	if len(b) == 0 || b[0] != '{' {
		return nil, badRequest("not a JSON object")
	}
	o := make(object, 0, 4)
	for i := 1; ; {
		if i = skipSpace(b, i); b[i] == '}' {
			return o, nil
		}
		if b[i] == ',' {
			i = skipSpace(b, i+1)
		}
		end := stringEnd(b, i)
		name, err := unquote(b[i:end])
		if err != nil {
			return nil, err
		}
		start := skipSpace(b, skipSpace(b, end)+1) // after the colon
		i = valueEnd(b, start)
		for _, m := range o {
			if m.name == name {
				return nil, badRequest("member %q appears twice", clip(name, MaxNameLen))
			}
		}
		if len(o) == MaxMembers {
			return nil, badRequest("more than %d members", MaxMembers)
		}
		o = append(o, member{name, b[start:i:i]})
	}
}

// splitArray calls yield for each element of a clean value without copying, and
// reports whether it is an array.
func splitArray(b []byte, yield func(json.RawMessage)) bool {
	if len(b) == 0 || b[0] != '[' {
		return false
	}
	for i := 1; ; {
		if i = skipSpace(b, i); b[i] == ']' {
			return true
		}
		if b[i] == ',' {
			i = skipSpace(b, i+1)
		}
		end := valueEnd(b, i)
		yield(b[i:end:end])
		i = end
	}
}

func skipSpace(b []byte, i int) int {
	for b[i] == ' ' || b[i] == '\t' || b[i] == '\n' || b[i] == '\r' {
		i++
	}
	return i
}

// valueEnd gives the index after the value that begins at i in valid JSON.
func valueEnd(b []byte, i int) int {
	depth := 0
	for ; i < len(b); i++ {
		switch b[i] {
		case '"':
			i = stringEnd(b, i) - 1
		case '[', '{':
			depth++
		case ']', '}':
			if depth == 0 {
				return i
			}
			depth--
		case ',', ' ', '\t', '\n', '\r':
			if depth == 0 {
				return i
			}
		}
	}
	return len(b)
}

// unquote gives the text of a JSON string that is known to be valid.
func unquote(b []byte) (string, error) {
	if len(b) >= 2 && b[0] == '"' && bytes.IndexByte(b, '\\') < 0 {
		return string(b[1 : len(b)-1]), nil
	}
	var s string
	if err := json.Unmarshal(b, &s); err != nil {
		return "", badRequest("not a string")
	}
	return s, nil
}

// appendString appends s as a JSON string.
func appendString(b []byte, s string) ([]byte, error) {
	for i := range len(s) {
		if c := s[i]; c < ' ' || c > '~' || c == '"' || c == '\\' {
			quoted, err := Encode(s)
			return append(b, quoted...), err
		}
	}
	b = append(b, '"')
	b = append(b, s...)
	return append(b, '"'), nil
}

func badRequest(format string, args ...any) *Error {
	return &Error{Code: CodeBadRequest, Message: fmt.Sprintf(format, args...)}
}
