package route_test

import (
	"fmt"
	"testing"

	"github.com/meshctl/meshctl/internal/mesh/route"
)

func ringOf(n int) *route.Ring[string] {
	var r route.Ring[string]
	for i := range n {
		r.Add(fmt.Sprintf("variant-%d", i))
	}
	return &r
}

func nobody(string) bool { return false }

// everySecond skips every second one.
func everySecond(variant string) bool { return variant[len(variant)-1]&1 == 0 }

func BenchmarkTurn(b *testing.B) {
	for _, n := range []int{1, 50, 1000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			r := ringOf(n)
			b.ReportAllocs()
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					if all, _ := r.Turn(nobody); len(all) != n {
						b.Error("nobody's turn")
						return
					}
				}
			})
		})
	}
}

// BenchmarkTurnSkipping is with many that are skipped, which is rare.
func BenchmarkTurnSkipping(b *testing.B) {
	r := ringOf(50)
	b.ReportAllocs()
	for b.Loop() {
		if all, first := r.Turn(everySecond); everySecond(all[first]) {
			b.Fatal("a skipped one's turn")
		}
	}
}

func BenchmarkTurnOf(b *testing.B) {
	r := ringOf(50)
	sel := route.Selection{Exclude: []string{"variant-7"}}
	b.ReportAllocs()
	for b.Loop() {
		if some, _ := r.TurnOf(sel.Has, nobody); len(some) != 49 {
			b.Fatal("nobody's turn")
		}
	}
}
