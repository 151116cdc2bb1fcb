package inspect

import (
	"context"
	"encoding/json"
	"time"
)

// Source delivers updates: from a live mesh, or from a recording.
type Source interface {
	// Next blocks for the next update. It fails with ctx's error, or io.EOF when there
	// will be no more. A live source never ends by itself: it reports the loss of its
	// master as a Status, and connects again; only if it panics Next fails with a
	// *PanicError. One goroutine at a time may call it.
	Next(ctx context.Context) (Update, error)
	// Close ends the source and everything that it runs. Next then fails.
	Close() error
}

// PanicError is what a source fails with that has panicked in a goroutine of its own, so
// that whoever shows it can leave the terminal in order.
type PanicError struct {
	Value any // of the panic; it may have contents of messages
	Stack []byte
}

// Error has the stack and not the value.
func (e *PanicError) Error() string {
	return "what watches the mesh panicked; please report this:\n" + string(e.Stack)
}

// Control is what a watcher may do to a live mesh. Methods are safe for concurrent use
// and block until done or ctx ends; errors are *wire.Error.
type Control interface {
	// Call sends a request. What it gives back is what `meshctl call -o json` prints.
	Call(ctx context.Context, target string, payload json.RawMessage, timeout time.Duration) (json.RawMessage, error)
	// Cancel ends a request under way at the node ("worker/variant") that reported it.
	Cancel(ctx context.Context, node, uid string) error
}

// Timeline is what a recording can do beyond being a Source. Methods are safe for
// concurrent use. A jump back makes the Source deliver a Reset first.
type Timeline interface {
	Span() (from, to time.Time)
	Position() time.Time
	Playing() bool
	Speed() float64
	Play(bool)
	SetSpeed(float64) // 1 to 60
	Seek(time.Time)
}
