package cli

import (
	"context"
	"os"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

// What comes with the first signal is the same one, passed on by something in between.
func TestInterrupts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		signals := make(chan os.Signal, 2)
		first, second, returned := false, false, false
		go func() {
			interrupts(t.Context(), signals, func() { first = true }, func() { second = true })
			returned = true
		}()
		synctest.Wait()
		if first {
			t.Fatal("interrupted by nothing")
		}
		for _, step := range []struct {
			after  time.Duration
			second bool
		}{{0, false}, {0, false}, {99 * time.Millisecond, false}, {2 * time.Millisecond, true}} {
			time.Sleep(step.after)
			signals <- syscall.SIGTERM
			synctest.Wait()
			if !first || second != step.second || returned != second {
				t.Errorf("%s later: %v, %v, %v", step.after, first, second, returned)
			}
		}
	})
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	never := func() { t.Error("interrupted after the end") }
	interrupts(ended, make(chan os.Signal), never, never)
}
