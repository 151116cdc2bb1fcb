package handler

import (
	"context"
	"encoding/json"
	"errors"
	"sync/atomic"
	"time"

	"github.com/meshctl/meshctl/internal/mesh/wire"
)

// bounded lets at most cap(slots) requests into next at once, and ends each at its
// deadline or after timeout, whichever comes first. Waiting is on the same clock.
type bounded struct {
	next       Handler
	slots      chan struct{}
	waiting    atomic.Int64
	maxWaiting int64
	timeout    time.Duration
}

func limit(next Handler, concurrency int, timeout time.Duration) *bounded {
	return &bounded{
		next:       next,
		slots:      make(chan struct{}, concurrency),
		maxWaiting: 4*int64(concurrency) + 64,
		timeout:    timeout,
	}
}

func (b *bounded) Handle(ctx context.Context, r *Request) (json.RawMessage, error) {
	deadline := r.Deadline
	if b.timeout > 0 {
		if t := time.Now().Add(b.timeout); deadline.IsZero() || t.Before(deadline) {
			deadline = t
		}
	}
	if d, ok := ctx.Deadline(); !deadline.IsZero() && (!ok || deadline.Before(d)) {
		var cancel context.CancelFunc
		ctx, cancel = context.WithDeadline(ctx, deadline)
		defer cancel()
	} else if ok {
		deadline = d
	}
	if err := b.acquire(ctx); err != nil {
		return nil, err
	}
	defer func() { <-b.slots }()

	own := *r
	own.Deadline = deadline
	if len(own.Payload) == 0 {
		own.Payload = json.RawMessage("null")
	}
	return b.next.Handle(ctx, &own)
}

func (b *bounded) acquire(ctx context.Context) error {
	if ctx.Err() != nil {
		return notRun(ctx)
	}
	select {
	case b.slots <- struct{}{}:
		return nil
	default:
	}
	if b.waiting.Add(1) > b.maxWaiting {
		b.waiting.Add(-1)
		return overloaded("too many requests wait for this command")
	}
	defer b.waiting.Add(-1)
	select {
	case b.slots <- struct{}{}:
		// Both may have been ready: what is too late must not run.
		if ctx.Err() != nil {
			<-b.slots
			return notRun(ctx)
		}
		return nil
	case <-ctx.Done():
		return notRun(ctx)
	}
}

func overloaded(message string) *wire.Error {
	return &wire.Error{Code: wire.CodeOverloaded, Message: message, Temporary: true}
}

// notRun is contextError for a request that nothing was done for.
func notRun(ctx context.Context) *wire.Error {
	e := *contextError(ctx)
	e.Message += " before it ran"
	e.Temporary = true
	return &e
}

// contextError says as a *wire.Error why ctx ended; a cause that is one is kept.
func contextError(ctx context.Context) *wire.Error {
	cause := context.Cause(ctx)
	var e *wire.Error
	switch {
	case errors.As(cause, &e):
		return e
	case errors.Is(cause, context.DeadlineExceeded):
		return &wire.Error{Code: wire.CodeTimeout, Message: "the request timed out"}
	default:
		return &wire.Error{Code: wire.CodeCanceled, Message: "the request was canceled"}
	}
}
