package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strings"

	"go.yaml.in/yaml/v3"
)

// maxFile is the size in bytes of the largest configuration or keys file read.
const maxFile = 1 << 20

// field is one "key: value" line of a flat YAML (or JSON) file.
type field struct {
	key   string
	value *yaml.Node
	where string // file:line
}

// parseFlat reads the fields of a file that is one mapping of scalars, and tells
// what else is in it. Messages never quote a value, which may be a secret.
func parseFlat(name string, data []byte) ([]field, Problems) {
	at := func(line int) string { return fmt.Sprintf("%s:%d", name, line) }
	dec := yaml.NewDecoder(bytes.NewReader(data))
	var doc yaml.Node
	if err := dec.Decode(&doc); err != nil {
		if errors.Is(err, io.EOF) {
			return nil, nil // empty, or comments only
		}
		return nil, Problems{syntaxProblem(name, err)}
	}
	if err := dec.Decode(new(yaml.Node)); !errors.Is(err, io.EOF) {
		return nil, Problems{{at(1), "has more than one YAML document: keep one"}}
	}
	if doc.Kind != yaml.DocumentNode || len(doc.Content) != 1 {
		return nil, nil
	}
	root := doc.Content[0]
	if root.Kind == yaml.ScalarNode && root.Tag == "!!null" {
		return nil, nil
	}
	if root.Kind != yaml.MappingNode {
		return nil, Problems{{at(root.Line), "is not a list of \"key: value\" lines"}}
	}
	return mapping(name, root)
}

// mapping reads the fields of a mapping.
func mapping(name string, root *yaml.Node) ([]field, Problems) {
	at := func(line int) string { return fmt.Sprintf("%s:%d", name, line) }
	var fields []field
	var problems Problems
	seen := map[string]int{}
	for i := 0; i+1 < len(root.Content); i += 2 {
		k, v := root.Content[i], root.Content[i+1]
		if k.Kind != yaml.ScalarNode {
			problems = append(problems, Problem{at(k.Line), "a key has to be a word"})
			continue
		}
		if first, dup := seen[k.Value]; dup {
			problems = append(problems, Problem{at(k.Line), fmt.Sprintf("%q was there before, in line %d: remove one", clip(k.Value), first)})
			continue
		}
		seen[k.Value] = k.Line
		fields = append(fields, field{key: k.Value, value: v, where: at(k.Line)})
	}
	return fields, problems
}

// syntaxProblem keeps nothing but the line of a YAML error, whose text may quote the file.
func syntaxProblem(name string, err error) Problem {
	line := "1"
	if m := regexp.MustCompile(`line (\d+)`).FindStringSubmatch(err.Error()); m != nil {
		line = m[1]
	}
	return Problem{name + ":" + line, "is not valid YAML at or just before this line"}
}

// scalar gives the text of a value, or says why it has none.
func (f field) scalar() (text, tag string, err error) {
	switch f.value.Kind {
	case yaml.ScalarNode:
	case yaml.SequenceNode:
		return "", "", errors.New("is a list; one value is wanted")
	case yaml.MappingNode:
		return "", "", errors.New("has lines below it; one value is wanted")
	default:
		return "", "", errors.New("is a YAML alias; write the value itself")
	}
	tag = f.value.ShortTag()
	if tag == "!!null" {
		return "", "", errors.New("has no value: write one, or remove the line")
	}
	if strings.ContainsRune(f.value.Value, 0) {
		return "", "", errors.New("holds a zero byte")
	}
	return f.value.Value, tag, nil
}

// clip shortens what a file says for an error message.
func clip(s string) string {
	const most = 64
	if r := []rune(s); len(r) > most {
		return string(r[:most]) + "…"
	}
	return s
}
