package schema

import (
	"bytes"
	"os"
	"reflect"
	"strings"
	"testing"

	"github.com/meshctl/meshctl/configs"
)

func TestWire(t *testing.T) {
	s := mustParse(t, `
b:
a: {_allow: anyNode, _connect: [b, a], _commands: {_broadcast: {n: {queued: true}}, _balanced: {y: {exec: [cat, secret]}, x: }}}
`)
	const want = `{"a":{"_allow":"anyNode","_connect":["a","b"],"_commands":{` +
		`"_balanced":{"x":{"responds":true,"queued":false,"method":null},"y":{"responds":true,"queued":false,"method":null}},` +
		`"_broadcast":{"n":{"responds":false,"queued":true,"method":null}}}},` +
		`"b":{"_allow":[],"_connect":[],"_commands":{"_balanced":{},"_broadcast":{}}}}`
	got, err := s.Wire()
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != want {
		t.Errorf("got %s", got)
	}
}

func TestWireRoundTrip(t *testing.T) {
	for _, name := range []string{"testdata/good/mesh.yaml", "testdata/good/mesh.json", "testdata/good/mesh.toml"} {
		s, err := parseFile(t, name)
		if err != nil {
			t.Fatal(err)
		}
		text, err := s.Wire()
		if err != nil {
			t.Fatal(err)
		}
		got, err := FromWire(text)
		if err != nil {
			t.Fatal(err)
		}
		for _, w := range s.Workers {
			for _, c := range w.Commands {
				c.Method = nil // does not travel
			}
		}
		if !reflect.DeepEqual(got.Workers, s.Workers) {
			t.Errorf("%s: got:\n%s", name, show(t, got))
		}
		// What peers exchange also is a schema file.
		if file, err := Parse("peer.json", text); err != nil || !reflect.DeepEqual(file.Workers, s.Workers) {
			t.Errorf("%s: as a file: %v", name, err)
		}
	}
}

func TestFromWireLenient(t *testing.T) {
	s, err := FromWire([]byte(`{
		"a": {"_allow": ["later"], "_connect": null, "_region": "x", "_commands": {
			"_anycast": {"q": {}},
			"_balanced": {
				"x": {"responds": null, "retries": ["a"], "method": {"exec": ["rm", "-rf", "/"], "new": 1}},
				"y": {"exec": ["rm"]},
				"z": {"responds": false, "method": "function"}}}},
		"b": null}`))
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]*Worker{
		"a": {Name: "a", Allow: Set{Workers: []string{"later"}}, Commands: map[string]*Command{
			"x": {Name: "x", Delivery: Balanced, Responds: true},
			"y": {Name: "y", Delivery: Balanced, Responds: true},
			"z": {Name: "z", Delivery: Balanced},
		}},
		"b": {Name: "b", Commands: map[string]*Command{}},
	}
	if !reflect.DeepEqual(s.Workers, want) {
		t.Errorf("got:\n%s", show(t, s))
	}
}

func TestFromWireRefuses(t *testing.T) {
	deep := strings.Repeat("[", 200) + strings.Repeat("]", 200)
	for name, text := range map[string]string{
		"nothing":        "",
		"null":           "null",
		"list":           "[]",
		"trailing":       "{} {}",
		"not JSON":       "a: {}",
		"bad worker":     `{"__proto__": {}}`,
		"inherited":      `{"constructor": {}}`,
		"operator":       `{"@operator": {}}`,
		"bad command":    `{"a": {"_commands": {"_balanced": {"uid": null}}}}`,
		"bad rule":       `{"a": {"_allow": ["a b"]}}`,
		"rule type":      `{"a": {"_allow": 1}}`,
		"worker type":    `{"a": 1}`,
		"command type":   `{"a": {"_commands": {"_balanced": {"x": 1}}}}`,
		"responds type":  `{"a": {"_commands": {"_balanced": {"x": {"responds": "no"}}}}}`,
		"duplicate":      `{"a": {}, "a": {"_allow": "anyNode"}}`,
		"both":           `{"a": {"_commands": {"_balanced": {"x": null}, "_broadcast": {"x": null}}}}`,
		"too deep":       `{"a": {"new": ` + deep + `}}`,
		"too large":      `{"a": {"new": "` + strings.Repeat("x", MaxSize) + `"}}`,
		"too many nodes": `{"a": {"new": [` + strings.Repeat("1,", maxNodes) + `1]}}`,
		"all brackets":   strings.Repeat("[", MaxSize),
	} {
		s, err := FromWire([]byte(text))
		if err == nil || s != nil {
			t.Errorf("%s: accepted", name)
			continue
		}
		if len(err.Error()) > 500 {
			t.Errorf("%s: the error has %d bytes", name, len(err.Error()))
		}
	}
}

func FuzzFromWire(f *testing.F) {
	f.Add(configs.StarterSchema)
	for _, name := range []string{"testdata/good/mesh.json", "testdata/bad/duplicates.json", "testdata/bad/trailing.json"} {
		data, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Add([]byte(`{"a":{"_allow":"anyNode","_connect":["a","b"],"_commands":{"_balanced":{"x":{"responds":true,"queued":false,"method":null}},"_broadcast":{}}},"b":null}`))
	f.Add([]byte(`{"__proto__":{"constructor":{}}}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		s, err := FromWire(data)
		if err != nil {
			if len(err.Error()) > 1000 {
				t.Fatalf("the error has %d bytes", len(err.Error()))
			}
			return
		}
		for worker, w := range s.Workers {
			if err := ValidWorker(worker); err != nil {
				t.Fatal(err)
			}
			for name, c := range w.Commands {
				if err := ValidCommand(name); err != nil {
					t.Fatal(err)
				}
				if c.Method != nil {
					t.Fatalf("a peer set the method of %s.%s", worker, name)
				}
				s.Explain(name, worker, name)
			}
		}
		text, err := s.Wire()
		if err != nil {
			return // too large once written out
		}
		again, err := FromWire(text)
		if err != nil {
			t.Fatalf("own encoding: %v", err)
		}
		second, err := again.Wire()
		if err != nil || !bytes.Equal(text, second) || !Diff(s, again).Empty() {
			t.Fatalf("not stable: %v\n%s\n%s", err, text, second)
		}
	})
}
