package cli

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/meshctl/meshctl/internal/mesh/wire"
)

// A closed loop hides what a pause costs those who would have called meanwhile; with a
// rate each call counts from when it should have begun.
func TestBenchCountsWhatAPauseDelays(t *testing.T) {
	for _, rate := range []int{0, 100} {
		synctest.Test(t, func(t *testing.T) {
			calls := 0
			b := &benchLoad{inFlight: 1, duration: time.Second, rate: rate, call: func(context.Context) error {
				if calls++; calls == 1 {
					time.Sleep(900 * time.Millisecond)
				} else if rate == 0 {
					time.Sleep(10 * time.Millisecond)
				}
				return nil
			}}
			r := b.run(t.Context())
			if rate == 0 && (r.P50 < 9 || r.P50 > 11 || r.Calls != 11) {
				t.Errorf("closed loop: %+v", r)
			}
			if rate > 0 && (r.P50 < 300 || r.Calls != 100 || r.NotBegun != 0) {
				t.Errorf("at a rate: %+v", r)
			}
			if r.Max < 899 || r.Max > 901 {
				t.Errorf("the longest call took %f ms", r.Max)
			}
		})
	}
}

func TestBenchSaysWhatItDidNotBegin(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &benchLoad{inFlight: 2, duration: time.Second, rate: 100, call: func(context.Context) error {
			time.Sleep(100 * time.Millisecond)
			return nil
		}}
		// Two callers begin 20 calls in that second, of 100 that were due.
		if r := b.run(t.Context()); r.Calls != 20 || r.NotBegun != 80 {
			t.Errorf("%d calls, %d not begun", r.Calls, r.NotBegun)
		}
	})
}

// A caller that gets to run when the time is over already makes its first call all the same.
func TestBenchMakesACall(t *testing.T) {
	for _, rate := range []int{0, 1e9} {
		b := &benchLoad{inFlight: 3, duration: 3 * time.Nanosecond, rate: rate, call: func(context.Context) error { return nil }}
		if r := b.run(t.Context()); r.Calls != 3 {
			t.Errorf("%d calls at a rate of %d", r.Calls, rate)
		}
	}
}

func TestBenchCountsFailuresByCode(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var n atomic.Int64
		b := &benchLoad{inFlight: 1, duration: time.Second, rate: 10, call: func(context.Context) error {
			switch n.Add(1) {
			case 1, 2, 3:
				return &wire.Error{Code: wire.CodeTimeout}
			case 4:
				return errors.New("other")
			}
			return nil
		}}
		r := b.run(t.Context())
		if r.Calls != 10 || r.Errors != 4 || r.Codes[wire.CodeTimeout] != 3 || r.Codes[codeFailure] != 1 {
			t.Errorf("%+v", r)
		}
		if code := exitOf(classify(r.verdict(false)).Code); code != exitTimeout {
			t.Errorf("exit code %d", code)
		}
		if err := (&benchResult{Calls: 1}).verdict(false); err != nil {
			t.Errorf("without failures: %v", err)
		}
	})
}

// What is cut off by an interrupt is no measurement.
func TestBenchEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 250*time.Millisecond)
		defer cancel()
		b := &benchLoad{inFlight: 3, duration: time.Hour, call: func(ctx context.Context) error {
			select {
			case <-time.After(100 * time.Millisecond):
				return nil
			case <-ctx.Done():
				return ctx.Err()
			}
		}}
		r := b.run(ctx)
		if r.Calls != 6 || r.Errors != 0 || r.Seconds != 0.25 {
			t.Errorf("%+v", r)
		}
	})
}

func TestBenchComparison(t *testing.T) {
	now := &benchResult{Calls: 150, PerSecond: 150, P50: 1}
	now.compareWith(&benchResult{Calls: 100, PerSecond: 100, P50: 2})
	for _, want := range []struct {
		figure string
		change float64
	}{{"calls_per_second", 50}, {"p50_ms", -50}} {
		found := false
		for _, d := range now.Compared {
			if d.Figure == want.figure {
				found = d.Change != nil && *d.Change == want.change
			}
			if d.Figure == "errors" && d.Change != nil {
				t.Errorf("a change of errors from none is %f%%", *d.Change)
			}
		}
		if !found {
			t.Errorf("%s is not %+.0f%%: %+v", want.figure, want.change, now.Compared)
		}
	}
}
