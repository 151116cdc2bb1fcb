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

func BenchmarkTurn(b *testing.B) {
	for _, n := range []int{1, 50, 1000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			r := ringOf(n)
			b.ReportAllocs()
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					if all, _ := r.Turn(); len(all) != n {
						b.Error("nobody's turn")
						return
					}
				}
			})
		})
	}
}

func BenchmarkTurnOf(b *testing.B) {
	r := ringOf(50)
	sel := route.Selection{Exclude: []string{"variant-7"}}
	b.ReportAllocs()
	for b.Loop() {
		if some, _ := r.TurnOf(sel.Has); len(some) != 49 {
			b.Fatal("nobody's turn")
		}
	}
}
