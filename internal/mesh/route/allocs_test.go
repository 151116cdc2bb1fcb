//go:build !race

package route_test

import (
	"testing"

	"github.com/meshctl/meshctl/internal/mesh/route"
)

// Allocations per call must not grow; the race detector adds its own.
func TestAllocations(t *testing.T) {
	r := ringOf(50)
	sel := route.Selection{Exclude: []string{"variant-7"}}
	for _, tc := range []struct {
		name    string
		ceiling float64
		do      func() bool
	}{
		{"whose turn it is", 0, func() bool { all, _ := r.Turn(nobody); return len(all) == 50 }},
		{"whose turn it is instead", 0, func() bool { all, _ := r.Turn(everySecond); return len(all) == 50 }},
		{"whose turn it is of those selected", 2, func() bool { some, _ := r.TurnOf(sel.Has, nobody); return len(some) == 49 }},
		{"all", 0, func() bool { return len(r.All()) == 50 }},
	} {
		n := testing.AllocsPerRun(200, func() {
			if !tc.do() {
				t.Fatal("nobody's turn")
			}
		})
		t.Logf("%s: %.0f", tc.name, n)
		if n > tc.ceiling {
			t.Errorf("%s: %.0f allocations, at most %.0f are wanted", tc.name, n, tc.ceiling)
		}
	}
}
