package link

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"
)

// CloseTimeout is how long Close may take.
const CloseTimeout = time.Second

// Lifetime is how a link ends, for implementations of Link to embed: it gives them
// Done, Err and Close. All methods are safe for concurrent use.
type Lifetime struct {
	ctx     context.Context
	cancel  context.CancelFunc
	closing chan struct{}
	over    atomic.Bool // closing or ended, for those who ask often
	once    sync.Once
	mu      sync.Mutex
	reason  error // the first one given; wraps ErrClosed
}

// NewLifetime begins one.
func NewLifetime() *Lifetime {
	l := &Lifetime{closing: make(chan struct{})}
	l.ctx, l.cancel = context.WithCancel(context.Background())
	return l
}

// Context ends with the link.
func (l *Lifetime) Context() context.Context { return l.ctx }

// Closing is closed when this end closes the link: whoever writes then sends what is
// queued and calls End.
func (l *Lifetime) Closing() <-chan struct{} { return l.closing }

// IsClosing tells whether this end has closed the link.
func (l *Lifetime) IsClosing() bool {
	select {
	case <-l.closing:
		return true
	default:
		return false
	}
}

// IsOver tells whether nothing more can be sent: the link is closing or has ended.
func (l *Lifetime) IsOver() bool { return l.over.Load() }

// Done implements Link.
func (l *Lifetime) Done() <-chan struct{} { return l.ctx.Done() }

// Err implements Link.
func (l *Lifetime) Err() error {
	if l.ctx.Err() == nil {
		return nil
	}
	return l.Why()
}

// Why is the reason that was given for the end so far. It wraps ErrClosed.
func (l *Lifetime) Why() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.reason == nil {
		return ErrClosed
	}
	return l.reason
}

// because keeps the first reason.
func (l *Lifetime) because(reason error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.reason != nil:
	case reason == nil:
		l.reason = ErrClosed
	case errors.Is(reason, ErrClosed):
		l.reason = reason
	default:
		l.reason = fmt.Errorf("%w: %w", ErrClosed, reason)
	}
}

// End ends the link at once. Its context is the sign to let go of the connection.
func (l *Lifetime) End(reason error) {
	l.because(reason)
	l.over.Store(true)
	l.cancel()
}

// Close implements Link. It asks whoever writes to come to an end, and does so itself
// after CloseTimeout.
func (l *Lifetime) Close(reason error) {
	l.once.Do(func() {
		if l.ctx.Err() != nil {
			return // what came before the end may still be received
		}
		l.because(reason)
		l.over.Store(true)
		close(l.closing)
		timer := time.AfterFunc(CloseTimeout, l.cancel)
		context.AfterFunc(l.ctx, func() { timer.Stop() })
	})
	<-l.ctx.Done()
}
