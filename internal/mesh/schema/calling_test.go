package schema

import (
	"errors"
	"reflect"
	"strings"
	"testing"
)

const callingText = `
a:
  _commands:
    _balanced:
      plain:
      loose: {responds: true, retry: {}}
      again: {idempotent: true, retry: {attempts: 5}}
      some: {idempotent: true, retry: {on: [peer_lost, overloaded, overloaded]}, balance: round_robin}
      least: {balance: least_in_flight, max_in_flight: 7}
      keyed: {balance: {key: customer.id}}
`

func TestCalling(t *testing.T) {
	s := mustParse(t, callingText)
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
	want := map[string]Command{
		"plain": {},
		"loose": {Retry: &Retry{3, []string{"no_variant", "overloaded"}}},
		"again": {Idempotent: true, Retry: &Retry{5, []string{"no_variant", "overloaded", "peer_lost"}}},
		"some":  {Idempotent: true, Retry: &Retry{3, []string{"overloaded", "peer_lost"}}},
		"least": {Balance: Balance{Strategy: LeastInFlight}, MaxInFlight: 7},
		"keyed": {Balance: Balance{Strategy: ByKey, Key: []string{"customer", "id"}}},
	}
	for from, s := range map[string]*Schema{"file": s, "YAML": mustParse(t, string(text)), "wire": received} {
		for name, want := range want {
			got, _ := s.Lookup("a", name)
			want.Name, want.Delivery, want.Responds = name, Balanced, true
			if !reflect.DeepEqual(*got, want) {
				t.Errorf("%s: %+v, want %+v", from, *got, want)
			}
		}
	}
	if e := received.Explain(Operator, "a", "some"); e.Retry != "3 attempts, on overloaded, peer_lost" || e.Balance != "" {
		t.Errorf("explained as %+v", e)
	}
	if e := received.Explain(Operator, "a", "keyed"); e.Balance != "key customer.id" {
		t.Errorf("explained as %+v", e)
	}
}

func TestCallingProblems(t *testing.T) {
	for command, part := range map[string]string{
		`{idempotent: 1}`:                                    "1",
		`{retry: 3}`:                                         "retry is 3, not an object",
		`{retry: {attempts: 1}}`:                             "counts the first one",
		`{retry: {attempts: 11}}`:                            "from 2 to 10",
		`{retry: {on: []}}`:                                  "on is empty",
		`{retry: {on: [overload]}}`:                          "overloaded",
		`{retry: {on: [timeout]}}`:                           `not sent again on "timeout"`,
		`{retry: {on: [peer_lost]}}`:                         "idempotent: true",
		`{retry: {tries: 3}}`:                                `unknown key "tries"`,
		`{balance: random}`:                                  "least_in_flight",
		`{balance: {key: a, else: b}}`:                       "balance is",
		`{balance: {key: a..b}}`:                             "path of a member",
		`{balance: {key: [a]}}`:                              "path of a member",
		`{balance: {key: a.b.c.d.e.f.g.h.i}}`:                "8 members deep",
		`{max_in_flight: -1}`:                                "whole number",
		`{queued: true, max_in_flight: 3}`:                   "no meaning for a queued command",
		`{method: {builtin: echo, balance: round_robin}}`:    "stands beside method",
		`{builtin: echo, respond: true}`:                     `unknown key "respond" in method; write {responds: …, method: {…}}`,
		`{idempotent: true, retry: {attempts: 2}, retri: 1}`: `retry`,
	} {
		_, err := Parse("s.yaml", []byte(`{a: {_commands: {_balanced: {x: `+command+`}}}}`))
		var p Problems
		if !errors.As(err, &p) || !strings.Contains(err.Error(), part) || p[0].Line != 1 || p[0].Column == 0 {
			t.Errorf("%s: %v", command, err)
		}
	}
	_, err := Parse("s.yaml", []byte(`{a: {_commands: {_broadcast: {x: {idempotent: true, retry: {}, balance: round_robin}}}}}`))
	if err == nil || strings.Count(err.Error(), "no meaning for a broadcast") != 2 {
		t.Errorf("of a broadcast: %v", err)
	}
}

// TestCallingFromNewer: what a newer release says in another way is passed over.
func TestCallingFromNewer(t *testing.T) {
	s, err := FromWire([]byte(`{"a":{"_commands":{"_balanced":{
		"x":{"idempotent":true,"retry":{"attempts":4,"on":["timeout","peer_lost"],"hedge":2},"balance":{"zone":"eu"},"max_in_flight":"auto"},
		"y":{"retry":["always"],"balance":"fastest"},
		"z":{"retry":{"on":["timeout"]}}},
		"_broadcast":{"b":{"retry":{},"balance":"least_in_flight"}}}}}`))
	if err != nil {
		t.Fatal(err)
	}
	x, _ := s.Lookup("a", "x")
	if !reflect.DeepEqual(x.Retry, &Retry{4, []string{"peer_lost"}}) || x.Balance.Strategy != RoundRobin || x.MaxInFlight != 0 {
		t.Errorf("x: %+v", x)
	}
	for _, name := range []string{"y", "z", "b"} {
		if c, _ := s.Lookup("a", name); c.Retry != nil || c.Balance.Strategy != RoundRobin {
			t.Errorf("%s: %+v", name, c)
		}
	}
}
