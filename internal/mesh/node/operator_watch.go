package node

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"runtime/debug"
	"sync"
	"time"

	"github.com/meshctl/meshctl/internal/mesh/inspect"
	"github.com/meshctl/meshctl/internal/mesh/link"
	"github.com/meshctl/meshctl/internal/mesh/rpc"
	"github.com/meshctl/meshctl/internal/mesh/wire"
)

const (
	// watchTimeout is how long a master may take to tell of its mesh.
	watchTimeout = 10 * time.Second
	// refreshGap is what lies at least between two times that a watcher who lost reports
	// asks for everything anew.
	refreshGap = 5 * time.Second
)

// Watcher is a live inspect.Source, and the inspect.Control of the same mesh. When the
// master goes it says so in a Status and connects to the next one, or again, for as long as
// it takes. Calls go on.
type Watcher struct {
	op      *Operator
	updates watched
	cancel  context.CancelFunc // ends run
	wg      sync.WaitGroup

	mu        sync.Mutex
	refreshed time.Time // when everything was last asked for
}

var (
	_ inspect.Source  = (*Watcher)(nil)
	_ inspect.Control = (*Watcher)(nil)
)

// Watch connects to a meshctl master and begins to watch. It blocks until the master has
// told who is there. Errors are *wire.Error: unreachable, key_mismatch, denied (also by a
// JavaScript master, which nobody can watch), overloaded when too many watch already.
func Watch(ctx context.Context, cfg Config) (*Watcher, error) {
	op, err := newOperator(cfg)
	if err != nil {
		return nil, err
	}
	w := &Watcher{op: op, updates: watched{wake: make(chan struct{}, 1)}}
	var talk *watchTalk
	err = op.reach(ctx, func(ctx context.Context, to contact) (err error) {
		talk, err = w.enter(ctx, to)
		return err
	})
	if err != nil {
		op.Close()
		return nil, err
	}
	var work context.Context
	work, w.cancel = context.WithCancel(op.work)
	w.wg.Go(func() {
		defer w.catch()
		w.run(work, talk)
	})
	return w, nil
}

// catch is deferred in the goroutines of a watcher: a panic becomes an error of Next.
func (w *Watcher) catch() {
	if v := recover(); v != nil {
		w.updates.fail(&inspect.PanicError{Value: v, Stack: debug.Stack()})
	}
}

// Close implements inspect.Source.
func (w *Watcher) Close() error {
	w.cancel()
	w.wg.Wait()
	w.op.Close()
	w.updates.close()
	return nil
}

// Next implements inspect.Source. After Close it fails with io.EOF. Who does not call it
// often enough loses reports, and is told how many.
func (w *Watcher) Next(ctx context.Context) (inspect.Update, error) {
	for {
		u, ok, closed := w.updates.take()
		switch err := w.updates.failure(); {
		case closed:
			return inspect.Update{}, io.EOF
		case err != nil:
			return inspect.Update{}, err
		case ok && u.Lost > 0:
			w.askAnew()
			return u, nil
		case ok:
			return u, nil
		}
		select {
		case <-w.updates.wake:
		case <-ctx.Done():
			return inspect.Update{}, ctx.Err()
		}
	}
}

// Call implements inspect.Control.
func (w *Watcher) Call(ctx context.Context, target string, payload json.RawMessage, timeout time.Duration) (json.RawMessage, error) {
	result, err := w.op.Call(ctx, target, payload, CallOptions{Timeout: timeout})
	if err != nil {
		return nil, rpc.AsError(err)
	}
	return result.JSON()
}

// Cancel implements inspect.Control. That it succeeds says that the node was told.
func (w *Watcher) Cancel(ctx context.Context, node, uid string) error {
	payload, err := wire.Encode(wire.CancelRequest{Node: node, UID: uid})
	if err != nil {
		return err
	}
	_, err = w.op.askMaster(ctx, wire.ControlCancel, payload)
	return err
}

// run connects again whenever the connection ends, until ctx does.
func (w *Watcher) run(ctx context.Context, talk *watchTalk) {
	for talk != nil {
		began := time.Now()
		select {
		case <-talk.ended:
		case <-ctx.Done():
			return
		}
		talk = w.reconnect(ctx, talk, time.Since(began) >= settled && w.op.masters.others())
	}
}

// reconnect tries until it succeeds, or until ctx ends; then it gives nil.
func (w *Watcher) reconnect(ctx context.Context, lost *watchTalk, atOnce bool) *watchTalk {
	said := ""
	failed := func(reason error) {
		if text := plainReason(reason); text != said {
			said = text
			w.status(lost.at, false, text)
		}
	}
	failed(lost.err)
	var talk *watchTalk
	if !w.op.again(ctx, atOnce, func(ctx context.Context, to contact) (err error) {
		talk, err = w.enter(ctx, to)
		return err
	}, failed) {
		return nil
	}
	return talk
}

// plainReason is an error as a Status tells it.
func plainReason(err error) string {
	var e *wire.Error
	if errors.As(err, &e) {
		return e.Message
	}
	return err.Error()
}

// enter makes a master begin to tell over a new connection to it.
func (w *Watcher) enter(ctx context.Context, to contact) (*watchTalk, error) {
	ctx, cancel := context.WithTimeout(ctx, watchTimeout)
	defer cancel()
	talk := &watchTalk{w: w, at: to.at.String(), answered: make(chan struct{}), refused: make(chan *wire.Error, 1), ended: make(chan struct{})}
	err := w.op.enter(ctx, to, talk)
	if err == nil {
		err = w.begin(ctx, to.link, talk)
	}
	return talk, err
}

func (w *Watcher) begin(ctx context.Context, to link.Link, talk *watchTalk) error {
	w.mu.Lock()
	w.refreshed = time.Now()
	w.mu.Unlock()
	if err := rpc.Event(to, wire.EventWatch, wire.Watch{On: true}); err != nil {
		return err
	}
	select {
	case <-talk.answered:
		return nil
	case e := <-talk.refused:
		return e
	case <-talk.ended:
		var e *wire.Error
		if errors.As(talk.err, &e) {
			return e
		}
		return &wire.Error{Code: wire.CodeUnreachable, Temporary: true, Message: fmt.Sprintf("the master ended the connection: %v", talk.err)}
	case <-ctx.Done():
		return &wire.Error{
			Code: wire.CodeUnreachable, Message: "the master does not tell what happens in its mesh",
			Hint: "one of an older release cannot be watched: compare `meshctl version` on both machines",
		}
	}
}

// askAnew has everybody report all that they know, because something was lost; not too
// often, as that is work for the whole mesh.
func (w *Watcher) askAnew() {
	w.mu.Lock()
	defer w.mu.Unlock()
	l := w.op.attached.current()
	if l == nil || time.Since(w.refreshed) < refreshGap {
		return
	}
	w.refreshed = time.Now()
	_ = rpc.Event(l, wire.EventWatch, wire.Watch{On: true}) // a link that cannot send is about to end
}

func (w *Watcher) status(master string, connected bool, reason string) {
	w.updates.status(inspect.Status{Connected: connected, Master: master, Reason: reason})
}

// watchTalk is one connection to the master. The reader of its link alone writes to it.
type watchTalk struct {
	w        *Watcher
	at       string // which master
	parts    inspect.MeshParts
	answered chan struct{}    // closed at the first mesh
	refused  chan *wire.Error // gets what the master said instead
	ended    chan struct{}
	err      error // why it ended; set before ended is closed
}

// hear takes what the master tells.
func (t *watchTalk) hear(msg wire.Message) {
	switch msg.Event {
	case wire.EventTelemetry:
		t.w.updates.report(msg.Body)
	case wire.EventMesh:
		mesh, err := t.parts.Add(msg.Body)
		if err != nil {
			t.w.op.log.Warn("the master tells nonsense of its mesh", "error", err)
		}
		if mesh == nil {
			return
		}
		select {
		case <-t.answered:
		default:
			t.w.status(t.at, true, "")
			close(t.answered)
		}
		t.w.updates.mesh(mesh)
	case wire.EventError:
		e, err := wire.DecodeErrorMessage(msg.Body)
		if err != nil || t.err != nil {
			return
		}
		refusal := masterError(e)
		if refusal.Code == wire.CodeOverloaded {
			refusal.Hint = "end one of the others first"
		}
		t.err = refusal
		t.refused <- refusal
	}
}

// over ends it, for the reason that the link had unless the master told another.
func (t *watchTalk) over(err error) {
	if t.err == nil {
		t.err = err
	}
	close(t.ended)
}
