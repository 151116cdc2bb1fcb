package schema

import (
	"bytes"
	"fmt"
	"maps"
	"slices"
	"strconv"

	"go.yaml.in/yaml/v3"
)

// YAML gives the schema for people to read, methods included, in a stable
// order. Parse of it gives an equal schema.
func (s *Schema) YAML() ([]byte, error) {
	root := yamlObject()
	if s.TokensRequired {
		root.put(keyTokens, yamlText(tokensRequired))
	}
	for _, name := range s.WorkerNames() {
		root.put(name, s.Workers[name].yaml())
	}
	var b bytes.Buffer
	enc := yaml.NewEncoder(&b)
	enc.SetIndent(2)
	if err := enc.Encode(&root.Node); err != nil {
		return nil, fmt.Errorf("encode schema: %w", err)
	}
	if err := enc.Close(); err != nil {
		return nil, fmt.Errorf("encode schema: %w", err)
	}
	return b.Bytes(), nil
}

// yamlMap is a YAML mapping that keeps the order in which it is filled.
type yamlMap struct{ yaml.Node }

func yamlObject() *yamlMap {
	return &yamlMap{yaml.Node{Kind: yaml.MappingNode, Tag: "!!map"}}
}

func (m *yamlMap) put(key string, value *yaml.Node) {
	m.Content = append(m.Content, yamlText(key), value)
}

func yamlText(s string) *yaml.Node {
	// By its tag it is quoted where YAML would see another type in it.
	return &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: s}
}

func yamlBool(b bool) *yaml.Node {
	return &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!bool", Value: strconv.FormatBool(b)}
}

func yamlInt(i int) *yaml.Node {
	return &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!int", Value: strconv.Itoa(i)}
}

func yamlList(items []string) *yaml.Node {
	n := &yaml.Node{Kind: yaml.SequenceNode, Tag: "!!seq", Style: yaml.FlowStyle}
	for _, item := range items {
		n.Content = append(n.Content, yamlText(item))
	}
	return n
}

func (w *Worker) yaml() *yaml.Node {
	m := yamlObject()
	m.put("_allow", w.Allow.yaml())
	m.put("_connect", w.Connect.yaml())
	commands := yamlObject()
	for _, d := range []Delivery{Balanced, Broadcast} {
		of := yamlObject()
		for _, name := range slices.Sorted(maps.Keys(w.Commands)) {
			if c := w.Commands[name]; c.Delivery == d {
				of.put(name, c.yaml())
			}
		}
		if len(of.Content) > 0 {
			commands.put("_"+string(d), &of.Node)
		}
	}
	if len(commands.Content) > 0 {
		m.put("_commands", &commands.Node)
	}
	return &m.Node
}

func (s Set) yaml() *yaml.Node {
	if s.Any {
		return yamlText(AnyNode)
	}
	return yamlList(s.Workers)
}

func (c *Command) yaml() *yaml.Node {
	m := yamlObject()
	m.put("responds", yamlBool(c.Responds))
	m.put("queued", yamlBool(c.Queued))
	if c.Concurrency > 0 {
		m.put("concurrency", yamlInt(c.Concurrency))
	}
	if c.MaxDepth > 0 {
		m.put("max_depth", yamlInt(c.MaxDepth))
	}
	if c.Retries != nil {
		m.put("retries", yamlInt(*c.Retries))
	}
	if c.Callers != nil {
		m.put(keyCallers, c.Callers.yaml())
	}
	if len(c.Sensitive) > 0 {
		m.put(keySensitive, yamlList(c.Sensitive))
	}
	c.yamlCalling(m)
	if c.Method != nil {
		m.put("method", c.Method.yaml())
	}
	m.Style = yaml.FlowStyle
	return &m.Node
}

func (m *Method) yaml() *yaml.Node {
	out := yamlObject()
	out.Style = yaml.FlowStyle
	switch {
	case m.Builtin != "":
		out.put("builtin", yamlText(m.Builtin))
	case len(m.Exec) > 0:
		out.put("exec", yamlList(m.Exec))
	case len(m.Stdio) > 0:
		out.put("stdio", yamlList(m.Stdio))
	case m.HTTP != "":
		out.put("http", yamlText(m.HTTP))
	}
	if m.Concurrency > 0 {
		out.put("concurrency", yamlInt(m.Concurrency))
	}
	if m.Timeout > 0 {
		out.put("timeout", yamlText(m.Timeout.String()))
	}
	if m.Dir != "" {
		out.put("dir", yamlText(m.Dir))
	}
	if len(m.Env) > 0 {
		out.put("env", yamlList(m.Env))
	}
	if m.MaxOutput > 0 {
		out.put("max_output", yamlInt(m.MaxOutput))
	}
	return &out.Node
}
