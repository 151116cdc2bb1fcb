package schema

import (
	"errors"
	"slices"
	"strings"
	"testing"
)

const meshText = `# line 1
gateway:
  _connect: [api]
api:
  _allow:
    - gateway
    - worker
  _connect: [worker]
  _commands:
    _balanced:
      status:
      price: {queued: true}
worker:
  _allow: anyNode
  _connect: [worker]
  _commands:
    _balanced:
      status:
    _broadcast:
      info: {responds: true}
admin:
  _connect: anyNode
island:
  _allow: [gateway]
`

func TestAccess(t *testing.T) {
	s := mustParse(t, meshText)
	pairs := func(ok func(a, b string) bool) string {
		var out []string
		names := append(s.WorkerNames(), "nobody", Operator)
		for _, a := range names {
			for _, b := range names {
				if ok(a, b) {
					out = append(out, a+">"+b)
				}
			}
		}
		return strings.Join(out, " ")
	}
	for _, c := range []struct {
		name string
		ok   func(a, b string) bool
		want string
	}{
		{"MayConnect", s.MayConnect, "admin>worker api>worker gateway>api worker>worker"},
		{"Links", s.Links, "admin>worker api>gateway api>worker gateway>api worker>admin worker>api worker>worker"},
		{"MayCall", s.MayCall, "admin>admin admin>api admin>gateway admin>island admin>worker " +
			"api>gateway api>worker gateway>api island>gateway " +
			"worker>admin worker>api worker>gateway worker>island worker>worker"},
	} {
		if got := pairs(c.ok); got != c.want {
			t.Errorf("%s:\n got %s\nwant %s", c.name, got, c.want)
		}
	}
}

func TestFirstCaller(t *testing.T) {
	s := mustParse(t, meshText+`
b-busy: {_connect: [target], _commands: {_balanced: {x: }}}
a-busy: {_connect: [target], _commands: {_balanced: {x: }}}
target: {_allow: [a-busy, b-busy]}
`)
	for to, want := range map[string]string{
		"worker": "admin",   // before api and worker, which have commands
		"api":    "gateway", // admin connects to all, but api does not allow it
		"target": "a-busy",
		"island": "", "gateway": "", "nobody": "",
	} {
		got, ok := s.FirstCaller(to)
		if got != want || ok != (want != "") {
			t.Errorf("FirstCaller(%s) = %q, %v, want %q", to, got, ok, want)
		}
	}
}

func TestLookup(t *testing.T) {
	s := mustParse(t, meshText)
	if c, ok := s.Lookup("worker", "info"); !ok || c.Name != "info" || c.Delivery != Broadcast {
		t.Errorf("worker.info: %+v, %v", c, ok)
	}
	for _, name := range [][2]string{{"worker", "price"}, {"nobody", "info"}, {"", ""}} {
		if c, ok := s.Lookup(name[0], name[1]); ok || c != nil {
			t.Errorf("%v: %+v", name, c)
		}
	}
	if got := s.CommandNames("api"); !slices.Equal(got, []string{"price", "status"}) {
		t.Errorf("commands of api: %v", got)
	}
	if got := s.CommandNames("nobody"); got != nil {
		t.Errorf("commands of nobody: %v", got)
	}
}

func TestNames(t *testing.T) {
	long := strings.Repeat("a", MaxName)
	for _, good := range []string{"a", "Z", "a-b_c9", long, "null", "Constructor"} {
		if err := errors.Join(ValidWorker(good), ValidCommand(good)); err != nil {
			t.Error(err)
		}
	}
	for _, bad := range []string{
		"", "1a", "_a", "-a", "a.b", "a b", "ä", "a\x00", "a\n", long + "a", "@operator", "__proto__", "__defineGetter__",
		"constructor", "prototype", "hasOwnProperty", "toString", "valueOf", "isPrototypeOf",
	} {
		for _, check := range []func(string) error{ValidWorker, ValidCommand} {
			if err := check(bad); !errors.Is(err, ErrName) {
				t.Errorf("%q: %v", bad, err)
			}
		}
	}
	for name, check := range map[string]func(string) error{
		"uid": ValidCommand, "meshctl": ValidCommand, "only": ValidCommand, "exclude": ValidCommand, AnyNode: ValidWorker,
	} {
		if err := check(name); !errors.Is(err, ErrName) {
			t.Errorf("%q: %v", name, err)
		}
	}
	if err := errors.Join(ValidWorker("only"), ValidCommand(AnyNode)); err != nil {
		t.Error(err)
	}
	if n := len(ValidWorker(strings.Repeat("\x00", 1<<20)).Error()); n > 1000 {
		t.Errorf("the error has %d bytes", n)
	}
}

func TestSuggest(t *testing.T) {
	known := []string{"status", "echo", "sleep", "_allow", "_connect", "anyNode"}
	for word, want := range map[string]string{
		"stauts": "status", "stat": "", "Echo": "echo", "ehco": "echo", "_conect": "_connect", "anynode": "anyNode",
		"": "", "x": "", "status": "", "completely-different": "", strings.Repeat("s", 100): "",
	} {
		if got := suggest(word, known); got != want {
			t.Errorf("suggest(%q) = %q, want %q", word, got, want)
		}
	}
}
