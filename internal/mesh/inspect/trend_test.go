package inspect

import (
	"slices"
	"testing"
	"time"
)

func TestTrendIsTheRateOfTheLastTwoMinutes(t *testing.T) {
	w := newWorld(t, "shop/1", "billing/1")
	calls := uint64(0)
	second := func(rate uint64) {
		calls += rate
		w.report("shop/1", Report{Full: calls == rate, Commands: []CommandCount{count(Out, calls, 0, time.Millisecond)}})
		w.pass(time.Second)
	}
	second(10)
	for range 60 {
		second(10)
	}
	early := w.command("billing.quote").Trend
	kept := slices.Clone(early)
	if n := len(early); n < 59 || n > 61 || early[n-1] != 10 {
		t.Fatalf("after a minute of 10 a second: %d samples, %v", n, early)
	}
	for range 400 {
		second(30)
	}
	c := w.command("billing.quote")
	if len(c.Trend) != maxTrend || c.Trend[0] != 30 || c.Trend[maxTrend-1] != float32(c.Rate) {
		t.Errorf("after minutes of 30 a second: %d samples, %v", len(c.Trend), c.Trend)
	}
	if !slices.Equal(early, kept) {
		t.Error("what an earlier picture has was changed")
	}
}
