package route_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/meshctl/meshctl/internal/mesh/route"
)

func TestHealth(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var h route.Health
		fail := func(n int) (d time.Duration) {
			for range n {
				d = max(d, h.Failed())
			}
			return d
		}
		if d := fail(4); d != 0 || h.Skip() {
			t.Error("skipped after four failures")
		}
		h.Succeeded()
		if d := fail(4); d != 0 || h.Skip() {
			t.Error("they were not in a row")
		}
		for i, want := range []time.Duration{2, 4, 8, 16, 32, 60, 60} {
			want *= time.Second
			if d := fail(1); d != want || !h.Skip() {
				t.Fatalf("skip %d is for %s, want %s", i, d, want)
			}
			if d := fail(10); d != 0 {
				t.Error("what was under way prolongs it")
			}
			time.Sleep(want - time.Millisecond)
			if !h.Skip() {
				t.Error("tried too early")
			}
			time.Sleep(time.Millisecond)
			if h.Skip() {
				t.Error("not tried again")
			}
		}
		h.Succeeded()
		if d := fail(5); d != 2*time.Second {
			t.Errorf("after it had recovered it is skipped for %s", d)
		}
		h.Succeeded()
		if h.Skip() {
			t.Error("skipped although it answers")
		}
	})
}

func TestBudget(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := route.NewBudget()
		spend := func() (n int) {
			for b.Spend() {
				n++
			}
			return n
		}
		if n := spend(); n != 10 {
			t.Errorf("%d in reserve", n)
		}
		for range 20 {
			b.Called()
		}
		if n := spend(); n < 3 || n > 4 { // 20 fifths, and how floats add them up
			t.Errorf("%d for 20 calls", n)
		}
		time.Sleep(3500 * time.Millisecond)
		if n := spend(); n < 3 || n > 4 {
			t.Errorf("%d for three seconds and a half", n)
		}
		time.Sleep(time.Hour)
		for range 1000 {
			b.Called()
		}
		if n := spend(); n != 10 {
			t.Errorf("%d were saved", n)
		}
		// However much fails, a fifth of the calls is repeated.
		n := 0
		for range 10_000 {
			b.Called()
			if b.Spend() {
				n++
			}
		}
		if n < 1990 || n > 2010 {
			t.Errorf("%d of 10000 calls repeated", n)
		}
	})
}
