package route_test

import (
	"math/bits"
	"slices"
	"testing"

	"github.com/meshctl/meshctl/internal/mesh/route"
	"github.com/meshctl/meshctl/internal/mesh/wire"
)

func TestRingGivesEachItsTurn(t *testing.T) {
	var r route.Ring[string]
	if all, _ := r.Turn(nobody); len(all) != 0 {
		t.Error("an empty ring has a member")
	}
	for _, v := range []string{"a", "b", "c", "b"} {
		r.Add(v)
	}
	count := map[string]int{}
	for range 30 {
		all, first := r.Turn(nobody)
		count[all[first]]++
		if !slices.Equal(all, []string{"a", "b", "c"}) {
			t.Fatalf("one request would try %v", all)
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
		some, first := r.TurnOf(func(v string) bool { return v != "c" }, nobody)
		if !slices.Equal(some, []string{"a"}) || first != 0 {
			t.Errorf("selected %q", some)
		}
	}
	if some, _ := r.TurnOf(func(string) bool { return false }, nobody); len(some) != 0 {
		t.Error("nothing was selected and yet there is a first")
	}
}

// TestTheTurnsOfThoseSkippedAreSpread: whoever is skipped, the others get as much, and soon so.
func TestTheTurnsOfThoseSkippedAreSpread(t *testing.T) {
	for n := 1; n <= 6; n++ {
		r := ringOf(n)
		for skipped := range 1 << n { // each set of them
			skip := func(v string) bool { return skipped>>slices.Index(r.All(), v)&1 != 0 }
			left := n - bits.OnesCount(uint(skipped))
			for name, turn := range map[string]func() ([]string, int){
				"Turn":   func() ([]string, int) { return r.Turn(skip) },
				"TurnOf": func() ([]string, int) { return r.TurnOf(func(string) bool { return true }, skip) },
			} {
				count := map[string]int{}
				for range n * max(left, 1) * 3 {
					all, first := turn()
					count[all[first]]++
				}
				want := 3 * n
				if left == 0 {
					left, want = n, 3 // somebody has to be asked
				}
				for v, got := range count {
					if got != want {
						t.Errorf("%s of %d, %b skipped: %s had %d turns, not %d: %v", name, n, skipped, v, got, want, count)
					}
				}
				if len(count) != left {
					t.Errorf("%s of %d, %b skipped: %v", name, n, skipped, count)
				}
				left = n - bits.OnesCount(uint(skipped))
			}
		}
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
