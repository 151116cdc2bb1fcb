package main

import (
	"bytes"
	"context"
	"fmt"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
	"golang.org/x/sync/errgroup"
)

// load is what a client is asked to do.
type load struct {
	InFlight   int `json:"in_flight"`
	Payload    int `json:"payload"` // bytes of JSON
	DurationMS int `json:"duration_ms"`
}

// sample is what came of it.
type sample struct {
	Calls   int64   `json:"calls"`
	Seconds float64 `json:"seconds"`
	P50     float64 `json:"p50_us"`
	P99     float64 `json:"p99_us"`
	usage           // of the client
}

// callFunc sends a payload and returns its echo.
type callFunc func(ctx context.Context, payload []byte) ([]byte, error)

// run calls in a closed loop.
func (l load) run(ctx context.Context, call callFunc) (sample, error) {
	payload := payloadOf(l.Payload)
	before, err := used()
	if err != nil {
		return sample{}, err
	}
	start := time.Now()
	end := start.Add(time.Duration(l.DurationMS) * time.Millisecond)
	histograms := make([]*hdrhistogram.Histogram, l.InFlight)
	var g errgroup.Group
	for i := range histograms {
		histograms[i] = hdrhistogram.New(1, time.Minute.Microseconds()*10, 3)
		g.Go(func() error {
			for begun := time.Now(); begun.Before(end); {
				echo, err := call(ctx, payload)
				if err != nil {
					return err
				}
				if len(echo) != len(payload) {
					return fmt.Errorf("%d bytes came back of %d", len(echo), len(payload))
				}
				now := time.Now()
				// In tenths of microseconds; only calls of a minute are out of range.
				_ = histograms[i].RecordValue(max(1, now.Sub(begun).Nanoseconds()/100))
				begun = now
			}
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return sample{}, err
	}
	elapsed := time.Since(start)
	after, err := used()
	if err != nil {
		return sample{}, err
	}
	all := histograms[0]
	for _, h := range histograms[1:] {
		all.Merge(h)
	}
	return sample{
		Calls: all.TotalCount(), Seconds: elapsed.Seconds(),
		P50: float64(all.ValueAtQuantile(50)) / 10, P99: float64(all.ValueAtQuantile(99)) / 10,
		usage: usage{after.CPU - before.CPU, after.Mallocs - before.Mallocs},
	}, nil
}

// payloadOf is a JSON object of n bytes.
func payloadOf(n int) []byte {
	head := []byte(`{"id":12345,"tags":["alpha","beta"],"nested":{"a":1.5,"b":null,"c":true},"text":"`)
	return append(append(head, bytes.Repeat([]byte{'x'}, n-len(head)-2)...), `"}`...)
}
