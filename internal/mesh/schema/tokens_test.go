package schema

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"
)

const guardedText = `
_tokens: required
worker:
  _allow: anyNode
  _connect: [worker]
  _commands:
    _balanced:
      restart: {responds: true, callers: [ops], method: {builtin: echo}}
      status: {builtin: status}
      open: {callers: anyNode}
      closed: {callers: []}
    _broadcast:
      hear: {callers: ops}
ops:
  _connect: [worker]
web:
  _connect: [worker]
`

func TestCallersAndTokens(t *testing.T) {
	s := mustParse(t, guardedText)
	if !s.TokensRequired {
		t.Error("tokens are not required")
	}
	text, err := s.YAML()
	if err != nil {
		t.Fatal(err)
	}
	again := mustParse(t, string(text))
	wire, err := s.Wire()
	if err != nil {
		t.Fatal(err)
	}
	received, err := FromWire(wire)
	if err != nil {
		t.Fatal(err)
	}
	for name, s := range map[string]*Schema{"file": s, "YAML": again, "wire": received} {
		if !s.TokensRequired {
			t.Errorf("%s: tokens are not required", name)
		}
		for command, callers := range map[string]string{
			"restart": "ops", "hear": "ops", "status": "ops web worker", "open": "ops web worker", "closed": "",
		} {
			c, ok := s.Lookup("worker", command)
			if !ok {
				t.Fatalf("%s: no command %s", name, command)
			}
			var got []string
			for _, from := range s.WorkerNames() {
				if c.AllowsCaller(from) {
					got = append(got, from)
				}
			}
			if strings.Join(got, " ") != callers || !c.AllowsCaller(Operator) {
				t.Errorf("%s: callers of %s are %q, want %q", name, command, got, callers)
			}
		}
	}
	if !reflect.DeepEqual(s.Workers, again.Workers) {
		t.Errorf("YAML does not keep the schema:\n%s", text)
	}

	// Without either, what JavaScript tools read is as it was.
	plain, err := mustParse(t, "a: {_allow: anyNode, _commands: {_balanced: {x: }}}").Wire()
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(plain), "callers") || strings.Contains(string(plain), "_tokens") {
		t.Errorf("wire: %s", plain)
	}
}

func TestCallersAndTokensAreStrict(t *testing.T) {
	for text, want := range map[string]string{
		"_tokens: true\na: {}":                                                      "_tokens is true; write required or optional instead",
		"_tokens: requried\na: {}":                                                  `_tokens is text ("requried"); write required or optional instead`,
		"_tokens:\na: {}":                                                           "_tokens is null; write required or optional instead",
		"_tokens: [required]\na: {}":                                                "_tokens is a list; write required or optional instead",
		"_tokens: required":                                                         "the schema is empty",
		"_token: required\na: {}":                                                   "cannot name a worker",
		"a: {_commands: {_balanced: {x: {callers: [b]}}}}":                          `unknown worker "b"`,
		"a: {_commands: {_balanced: {x: {callers: [a, a]}}}}":                       `worker "a" is listed twice`,
		"a: {_commands: {_balanced: {x: {callers: [anyNode]}}}}":                    "anyNode without a list",
		"a: {_commands: {_balanced: {x: {callers: }}}}":                             "callers names nobody; write anyNode, a list of workers, or [] for operators alone instead",
		"a: {_commands: {_balanced: {x: {callers: 1}}}}":                            "a worker's name is expected, not 1",
		`a: {_commands: {_balanced: {x: {callers: ["@operator"]}}}}`:                "cannot name a worker",
		"a: {_commands: {_balanced: {x: {method: {builtin: echo, callers: [a]}}}}}": `"callers" stands beside method`,
	} {
		_, err := Parse("schema.yaml", []byte(text))
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s:\n got %v\nwant %s", text, err, want)
		}
	}
	// A master's mistake opens nothing.
	for _, text := range []string{
		`{"_tokens": true, "a": {}}`, `{"_tokens": null, "a": {}}`, `{"a": {"_commands": {"_balanced": {"x": {"callers": null}}}}}`,
		`{"a": {"_commands": {"_balanced": {"x": {"callers": {}}}}}}`,
	} {
		if s, err := FromWire([]byte(text)); err == nil {
			t.Errorf("read %s: %+v", text, s)
		}
	}
	// A newer master may know workers that this schema does not.
	s, err := FromWire([]byte(`{"a": {"_commands": {"_balanced": {"x": {"callers": ["later"]}}}}}`))
	if err != nil {
		t.Fatal(err)
	}
	if c, _ := s.Lookup("a", "x"); c.AllowsCaller("a") || !c.AllowsCaller("later") {
		t.Error("callers of a later worker are lost")
	}
}

func TestExplainCallers(t *testing.T) {
	s := mustParse(t, guardedText)
	for _, tc := range []struct {
		from, command string
		allowed       bool
		reason        string
	}{
		{"ops", "restart", true, "ops may call worker: ops's _connect names worker (schema.yaml:15); callers of worker.restart names ops (schema.yaml:8)"},
		{"web", "restart", false, "web may not call worker.restart: callers of worker.restart does not name web (schema.yaml:8)"},
		{"worker", "closed", false, "worker may not call worker.closed: callers of worker.closed names nobody (schema.yaml:11)"},
		{"web", "open", true, "web may call worker: web's _connect names worker (schema.yaml:17); callers of worker.open is anyNode (schema.yaml:10)"},
		{Operator, "closed", true, "the operator holds the mesh's keys and, as _tokens is required, an operator's token; it may call every command"},
	} {
		e := s.Explain(tc.from, "worker", tc.command)
		if e.Allowed != tc.allowed || e.Reason != tc.reason {
			text, _ := json.MarshalIndent(e, "", " ")
			t.Errorf("%s %s: %s", tc.from, tc.command, text)
		}
	}
}

func TestDiffOfCallersAndTokens(t *testing.T) {
	old := mustParse(t, guardedText)
	next := mustParse(t, strings.NewReplacer("_tokens: required", "_tokens: optional", "callers: [ops]", "callers: [ops, web]").Replace(guardedText))
	if got := strings.Join(Diff(old, next).Lines(), "; "); got != "tokens are no longer required; command worker.restart changed" {
		t.Errorf("got %q", got)
	}
	if got := Diff(next, old); !got.TokensAdded || got.TokensRemoved || got.Empty() {
		t.Errorf("backwards %q", got.Lines())
	}
	if got := Diff(old, mustParse(t, guardedText)); !got.Empty() {
		t.Errorf("the same: %q", got.Lines())
	}
}
