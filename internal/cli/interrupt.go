package cli

import (
	"context"
	"os"
	"time"
)

// sameSignal is how long after the first a further signal is taken for the same one. timeout,
// sudo, npm and others pass on to a process what its process group has got already.
const sameSignal = 100 * time.Millisecond

// interrupts calls first at a signal and second at a later one. It returns after that, or where
// there was no signal when ctx ends.
func interrupts(ctx context.Context, signals <-chan os.Signal, first, second func()) {
	select {
	case <-signals:
		first()
	case <-ctx.Done():
		return
	}
	for began := time.Now(); ; {
		<-signals
		if time.Since(began) >= sameSignal {
			second()
			return
		}
	}
}
