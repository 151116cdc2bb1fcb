package cli

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"

	"github.com/meshctl/meshctl/internal/mesh/wire"
	"github.com/meshctl/meshctl/internal/pause"
)

// benchLoad makes calls and measures them.
type benchLoad struct {
	call     func(context.Context) error
	inFlight int
	duration time.Duration
	rate     int
	progress func(benchProgress) // may be nil; told twice a second

	started     time.Time
	begun       atomic.Int64 // with a rate: calls whose turn has been taken
	calls, errs atomic.Int64
}

type benchProgress struct {
	elapsed       time.Duration
	calls, errors int64
}

// Latencies are recorded in microseconds, to three digits, up to an hour.
func newHistogram() *hdrhistogram.Histogram {
	return hdrhistogram.New(1, time.Hour.Microseconds(), 3)
}

// benchCaller is one caller's measurements.
type benchCaller struct {
	histogram *hdrhistogram.Histogram
	errors    map[wire.Code]int64
}

// run makes calls until the duration is over, waits for those in flight, and gives the
// result. When ctx ends it gives the result so far, without the calls in flight.
func (b *benchLoad) run(ctx context.Context) *benchResult {
	b.started = time.Now()
	callers := make([]benchCaller, b.inFlight)
	var working sync.WaitGroup
	for i := range callers {
		callers[i] = benchCaller{newHistogram(), make(map[wire.Code]int64)}
		working.Go(func() { b.work(ctx, &callers[i]) })
	}
	done := make(chan struct{})
	var telling sync.WaitGroup
	if b.progress != nil {
		telling.Go(func() { b.tell(done) })
	}
	working.Wait()
	elapsed := time.Since(b.started)
	close(done)
	telling.Wait()

	all := newHistogram()
	result := &benchResult{InFlight: b.inFlight, Rate: b.rate, Codes: make(map[wire.Code]int64)}
	for _, c := range callers {
		all.Merge(c.histogram)
		for code, n := range c.errors {
			result.Codes[code] += n
			result.Errors += n
		}
	}
	result.Calls = all.TotalCount()
	result.Seconds = elapsed.Seconds()
	result.PerSecond = float64(result.Calls-result.Errors) / result.Seconds
	quantile := func(q float64) float64 { return millis(time.Duration(all.ValueAtQuantile(q)) * time.Microsecond) }
	result.P50, result.P90, result.P99, result.P999 = quantile(50), quantile(90), quantile(99), quantile(99.9)
	result.Max = millis(time.Duration(all.Max()) * time.Microsecond)
	if b.rate > 0 {
		due := int64(min(elapsed, b.duration).Seconds() * float64(b.rate))
		result.NotBegun = max(0, due-b.begun.Load())
	}
	return result
}

// work is one caller.
func (b *benchLoad) work(ctx context.Context, c *benchCaller) {
	for first := true; ; first = false {
		intended, ok := b.next(ctx, first)
		if !ok {
			return
		}
		err := b.call(ctx)
		took := time.Since(intended)
		if ctx.Err() != nil {
			return // it may have been cut short
		}
		// Out of range are only calls of more than an hour.
		_ = c.histogram.RecordValue(min(max(1, took.Microseconds()), time.Hour.Microseconds()))
		b.calls.Add(1)
		if err != nil {
			c.errors[classify(err).Code]++
			b.errs.Add(1)
		}
	}
}

// next waits until the next call should begin and says when that was; a late one
// begins at once. It reports false when there are to be no more. Each caller has its first one,
// however late it gets to run: on a busy machine a short bench would measure nothing.
func (b *benchLoad) next(ctx context.Context, first bool) (time.Time, bool) {
	now := time.Now()
	if ctx.Err() != nil || !first && now.Sub(b.started) >= b.duration {
		return now, false
	}
	if b.rate == 0 {
		return now, true
	}
	turn := b.begun.Add(1) - 1
	after := time.Duration(float64(turn) / float64(b.rate) * float64(time.Second))
	if after >= b.duration {
		return now, false
	}
	intended := b.started.Add(after)
	if wait := time.Until(intended); wait > 0 && !pause.For(ctx, wait) {
		return now, false
	}
	return intended, true
}

func (b *benchLoad) tell(done <-chan struct{}) {
	tick := time.NewTicker(500 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-done:
			return
		case <-tick.C:
			b.progress(benchProgress{time.Since(b.started), b.calls.Load(), b.errs.Load()})
		}
	}
}
