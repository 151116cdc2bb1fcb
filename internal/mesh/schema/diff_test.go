package schema

import (
	"slices"
	"testing"
)

func TestDiff(t *testing.T) {
	old := mustParse(t, `
a: {_connect: [b, c], _commands: {_balanced: {x: , y: {builtin: echo}, z: }}}
b: {_allow: anyNode}
c: {_allow: [a]}
gone: {_allow: anyNode, _commands: {_balanced: {x: }}}
`)
	// The same in another order and form, then changed.
	same := mustParse(t, `
gone: {_commands: {_broadcast: {}, _balanced: {x: {responds: true}}}, _allow: anyNode}
c: {_allow: a}
b: {_connect: [], _allow: anyNode}
a: {_commands: {_balanced: {z: , x: , y: {method: {builtin: echo}}}}, _connect: [c, b]}
`)
	if c := Diff(old, same); !c.Empty() {
		t.Errorf("equal schemas differ: %q", c.Lines())
	}
	next := mustParse(t, `
a: {_connect: [b], _commands: {_broadcast: {x: }, _balanced: {y: {builtin: status}, w: }}}
b: {_allow: anyNode}
c: {_allow: [a], _connect: anyNode}
come: {_allow: anyNode, _commands: {_balanced: {x: }}}
`)
	want := []string{
		"worker come added",
		"worker gone removed",
		"command a.w added",
		"command come.x added",
		"command a.z removed",
		"command gone.x removed",
		"command a.x changed",
		"command a.y changed",
		"_connect of a changed from b, c to b",
		"_connect of c changed from nobody to anyNode",
		"c may now connect to b",
		"a may no longer connect to c",
	}
	c := Diff(old, next)
	if got := c.Lines(); !slices.Equal(got, want) || c.Empty() {
		t.Errorf("got %q", got)
	}
	back := Diff(next, old)
	if !slices.Equal(back.LinksAdded, c.LinksRemoved) || !slices.Equal(back.CommandsRemoved, c.CommandsAdded) ||
		!slices.Equal(back.WorkersAdded, c.WorkersRemoved) {
		t.Errorf("backwards: %q", back.Lines())
	}
}
