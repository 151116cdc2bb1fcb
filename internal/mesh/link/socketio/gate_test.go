package socketio

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

func siteNo(n int) netip.Prefix {
	return siteOf(netip.AddrFrom4([4]byte{10, byte(n >> 16), byte(n >> 8), byte(n)}))
}

// admitted asks the gate in the background; the result is sent when it decides.
func admitted(ctx context.Context, g *gate, key netip.Prefix) <-chan func(bool) {
	c := make(chan func(bool), 1)
	go func() {
		done, err := g.admit(ctx, key)
		if err != nil {
			close(c)
			return
		}
		c <- done
	}()
	return c
}

func TestGateTakesTurns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGate(1)
		ctx := t.Context()
		hold, err := g.admit(ctx, siteNo(1))
		if err != nil {
			t.Fatal(err)
		}
		var mu sync.Mutex
		var order []int
		var wg sync.WaitGroup
		ask := func(n int) {
			wg.Go(func() {
				done, err := g.admit(ctx, siteNo(n))
				if err != nil {
					t.Error(err)
					return
				}
				mu.Lock()
				order = append(order, n)
				mu.Unlock()
				done(true)
			})
			synctest.Wait()
		}
		for range 4 {
			ask(1)
		}
		ask(2)
		ask(2)
		ask(3)
		hold(true)
		wg.Wait()
		if want := []int{1, 2, 3, 1, 2, 1, 1}; !slices.Equal(order, want) {
			t.Errorf("served in the order %v instead of %v", order, want)
		}
	})
}

func TestGateAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const atOnce = 2
		g := newGate(atOnce)
		turns := make(chan func(bool), 10)
		for i := range 5 {
			go func() {
				done, err := g.admit(t.Context(), siteNo(i))
				if err != nil {
					t.Error(err)
				}
				turns <- done
			}()
		}
		for left := 5; left > 0; left-- {
			synctest.Wait()
			if n := len(turns); n != min(atOnce, left) {
				t.Fatalf("%d are admitted at once, %d are left", n, left)
			}
			(<-turns)(true)
		}
		if g.free != atOnce || len(g.turns) != 0 {
			t.Errorf("left: %d free, %d waiting", g.free, len(g.turns))
		}
	})
}

func TestGateSlowsFailures(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGate(1)
		ctx := t.Context()
		fail := func(n int) time.Duration {
			begun := time.Now()
			done, err := g.admit(ctx, siteNo(n))
			if err != nil {
				t.Fatal(err)
			}
			done(false)
			return time.Since(begun)
		}
		for i := range failureBurst {
			if d := fail(1); d != 0 {
				t.Errorf("failure %d waits %v", i, d)
			}
		}
		for range 4 {
			if d := fail(1); d < 490*time.Millisecond || d > 520*time.Millisecond {
				t.Errorf("a failure past the burst waits %v", d)
			}
		}
		// Others do not wait, and those who succeed never do.
		if d := fail(2); d != 0 {
			t.Errorf("another address waits %v", d)
		}
		for range 10 * failureBurst {
			done, err := g.admit(ctx, siteNo(3))
			if err != nil {
				t.Fatal(err)
			}
			done(true)
		}
		if d := fail(3); d != 0 {
			t.Errorf("an address that succeeds waits %v", d)
		}
		// An address that waits for its tokens holds nobody up.
		slow := admitted(ctx, g, siteNo(1))
		if d := fail(4); d != 0 || len(slow) != 0 {
			t.Errorf("another address waits %v", d)
		}
		(<-slow)(true)
	})
}

func TestGateGivesUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGate(1)
		hold, err := g.admit(t.Context(), siteNo(1))
		if err != nil {
			t.Fatal(err)
		}
		begun := time.Now()
		if _, err := g.admit(t.Context(), siteNo(2)); !errors.Is(err, errGateBusy) || time.Since(begun) != maxGateWait {
			t.Errorf("after %v: %v", time.Since(begun), err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := g.admit(ctx, siteNo(2)); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("admit gives %v", err)
		}
		hold(true)
		again, err := g.admit(t.Context(), siteNo(3))
		if err != nil {
			t.Fatal(err)
		}
		again(true)
		if g.free != 1 || len(g.turns) != 0 {
			t.Errorf("left: %d free, %d waiting", g.free, len(g.turns))
		}
	})
}

// TestGateCancelRaces cancels just when a turn comes: no place may be lost.
func TestGateCancelRaces(t *testing.T) {
	g := newGate(2)
	var wg sync.WaitGroup
	for i := range 16 {
		wg.Go(func() {
			for j := range 200 {
				ctx, cancel := context.WithTimeout(context.Background(), time.Duration(j%5)*50*time.Microsecond)
				if done, err := g.admit(ctx, siteNo(i%5)); err == nil {
					done(true)
				}
				cancel()
			}
		})
	}
	wg.Wait()
	if g.free != 2 || len(g.turns) != 0 {
		t.Errorf("left: %d free, %d waiting", g.free, len(g.turns))
	}
}

func TestGateForgetsAddresses(t *testing.T) {
	g := newGate(1)
	for i := range 3 * maxAddresses {
		done, err := g.admit(context.Background(), siteNo(i))
		if err != nil {
			t.Fatal(err)
		}
		done(i%2 == 0)
	}
	if n := len(g.sites); n > maxAddresses {
		t.Errorf("%d addresses are remembered", n)
	}
}

func TestSiteOf(t *testing.T) {
	for _, tc := range []struct {
		a, b string
		same bool
	}{
		{"10.0.0.1", "10.0.0.1", true},
		{"10.0.0.1", "10.0.0.2", false},
		{"2001:db8::1", "2001:db8::2", true},
		{"2001:db8:0:1::1", "2001:db8:0:2::1", false},
	} {
		t.Run(fmt.Sprint(tc.a, " ", tc.b), func(t *testing.T) {
			if same := siteOf(netip.MustParseAddr(tc.a)) == siteOf(netip.MustParseAddr(tc.b)); same != tc.same {
				t.Errorf("counted together: %v", same)
			}
		})
	}
}
