package schema

import (
	"errors"
	"slices"
	"strings"
	"testing"
)

func TestSensitive(t *testing.T) {
	s := mustParse(t, `
a:
  _commands:
    _balanced:
      pay: {responds: true, x-sensitive: [password, Card, card, password]}
      none: {x-sensitive: []}
`)
	text, err := s.YAML()
	if err != nil {
		t.Fatal(err)
	}
	wire, err := s.Wire()
	if err != nil {
		t.Fatal(err)
	}
	received, err := FromWire(wire)
	if err != nil {
		t.Fatal(err)
	}
	for name, s := range map[string]*Schema{"file": s, "YAML": mustParse(t, string(text)), "wire": received} {
		pay, _ := s.Lookup("a", "pay")
		none, _ := s.Lookup("a", "none")
		if !slices.Equal(pay.Sensitive, []string{"Card", "card", "password"}) || len(none.Sensitive) != 0 {
			t.Errorf("%s: %q, %q", name, pay.Sensitive, none.Sensitive)
		}
	}
	if strings.Count(string(wire), keySensitive) != 1 {
		t.Errorf("peers are sent %s", wire)
	}

	for value, part := range map[string]string{
		`password`:                             "not a list",
		`[7]`:                                  "where text is expected",
		`[""]`:                                 "empty key",
		`["a\u001b"]`:                          "cannot be printed",
		`["` + strings.Repeat("x", 129) + `"]`: "longer than 128 bytes",
		`[` + strings.Repeat(`"x", `, 100) + `"y"]`: "more than 100 keys",
		`{a: b}`: "not a list",
	} {
		_, err := Parse("s.yaml", []byte(`{a: {_commands: {_balanced: {pay: {x-sensitive: `+value+`}}}}}`))
		var p Problems
		if !errors.As(err, &p) || !strings.Contains(err.Error(), part) {
			t.Errorf("%.30s: %v", value, err)
		}
	}
	// From a peer too: what cannot be read must not count as nothing.
	if _, err := FromWire([]byte(`{"a":{"_commands":{"_balanced":{"pay":{"x-sensitive":"password"}}}}}`)); err == nil {
		t.Error("accepted from a peer what hides nothing")
	}
}
