package route_test

import (
	"slices"
	"testing"

	"github.com/meshctl/meshctl/internal/mesh/route"
	"github.com/meshctl/meshctl/internal/mesh/wire"
)

func TestRingGivesEachItsTurn(t *testing.T) {
	var r route.Ring[string]
	if _, _, ok := r.From(); ok {
		t.Error("an empty ring has a member")
	}
	for _, v := range []string{"a", "b", "c", "b"} {
		r.Add(v)
	}
	count := map[string]int{}
	for range 30 {
		first, rest, _ := r.From()
		count[first]++
		order := append([]string{first}, slices.Collect(rest)...)
		slices.Sort(order)
		if !slices.Equal(order, []string{"a", "b", "c"}) {
			t.Fatalf("one request would try %v", order)
		}
	}
	if count["a"] != 10 || count["b"] != 10 || count["c"] != 10 {
		t.Errorf("turns: %v", count)
	}
	r.Remove("b")
	r.Remove("nobody")
	if !slices.Equal(r.All(), []string{"a", "c"}) {
		t.Errorf("members: %v", r.All())
	}
	clear(count)
	for range 10 {
		first, _, ok := r.FromSelected(func(v string) bool { return v != "c" })
		if !ok || first != "a" {
			t.Errorf("selected %q", first)
		}
	}
	if _, _, ok := r.FromSelected(func(string) bool { return false }); ok {
		t.Error("nothing was selected and yet there is a first")
	}
}

func TestSelection(t *testing.T) {
	for _, tc := range []struct {
		s   route.Selection
		has []string
		err bool
	}{
		{route.Selection{}, []string{"a", "b"}, false},
		{route.Selection{Only: []string{"a"}}, []string{"a"}, false},
		{route.Selection{Exclude: []string{"a"}}, []string{"b"}, false},
		{route.Selection{Only: []string{"a", "b"}, Exclude: []string{"b"}}, []string{"a"}, false},
		{route.Selection{Only: []string{}}, nil, true},
		{route.Selection{Only: []string{"a b"}}, nil, true},
	} {
		if err := tc.s.Check(); (wire.CodeOf(err) == wire.CodeBadRequest) != tc.err {
			t.Errorf("%+v: %v", tc.s, err)
		}
		var has []string
		for _, v := range []string{"a", "b"} {
			if tc.s.Has(v) {
				has = append(has, v)
			}
		}
		if !slices.Equal(has, tc.has) {
			t.Errorf("%+v selects %v, want %v", tc.s, has, tc.has)
		}
	}
	s := route.Selection{Only: []string{"a", "x", "x", "y"}, Exclude: []string{"y"}}
	if got := s.Missing([]string{"a"}); !slices.Equal(got, []string{"x"}) {
		t.Errorf("missing %v", got)
	}
}
