package rpc_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/meshctl/meshctl/internal/mesh/link"
	"github.com/meshctl/meshctl/internal/mesh/rpc"
	"github.com/meshctl/meshctl/internal/mesh/wire"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// wireLink is a link of which only sending matters.
type wireLink struct {
	link.Link
	sent     []wire.Message
	err      error // of Send
	ended    error
	numbered bool
}

func (l *wireLink) Info() link.Info { return link.Info{Numbered: l.numbered} }

func (l *wireLink) Err() error { return l.ended }

func (l *wireLink) Send(m wire.Message) error {
	if l.err == nil {
		if m.Command != nil { // which is not to be kept
			c := *m.Command
			m.Command = &c
		}
		l.sent = append(l.sent, m)
	}
	return l.err
}

func TestPendingOutcomes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var p rpc.Pending
		l := &wireLink{}
		ask := func(ctx context.Context, uid string, cancels bool) chan error {
			done := make(chan error, 1)
			go func() {
				result, err := p.Do(ctx, l, rpc.Request{UID: uid, Name: "c", Meshctl: cancels})
				if err == nil && string(result) != `"r"` {
					err = errors.New("got " + string(result))
				}
				done <- err
			}()
			synctest.Wait()
			return done
		}

		done := ask(t.Context(), "1", true)
		if !p.Settle(wire.Response{UID: "1", Result: json.RawMessage(`"r"`)}) {
			t.Error("the response was not expected")
		}
		if err := <-done; err != nil {
			t.Error(err)
		}
		if p.Settle(wire.Response{UID: "1"}) || p.Late() != 1 {
			t.Error("a second response settled something, or was not counted")
		}

		lost := ask(t.Context(), "2", true)
		p.LinkLost(&wireLink{}) // another one
		if p.Len() != 1 {
			t.Error("the loss of another link failed the request")
		}
		p.LinkLost(l)
		if err := <-lost; wire.CodeOf(err) != wire.CodePeerLost {
			t.Error(err)
		}
		left := ask(t.Context(), "2", true)
		l.ended = fmt.Errorf("%w: %w", link.ErrClosed, link.ErrPeerDrained)
		p.LinkLost(l)
		if e := (*wire.Error)(nil); !errors.As(<-left, &e) || e.Code != wire.CodeNoVariant || !e.Temporary {
			t.Errorf("a peer that had drained: %v", e)
		}
		l.ended = nil

		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		began := time.Now()
		if err := <-ask(ctx, "3", false); wire.CodeOf(err) != wire.CodeTimeout || time.Since(began) != time.Second {
			t.Errorf("%v after %s", err, time.Since(began))
		}
		if n := len(l.sent); n != 4 {
			t.Errorf("%d messages were sent, want the four requests and no cancel", n)
		}
		ctx, cancel = context.WithCancel(t.Context())
		done = ask(ctx, "4", true)
		cancel()
		if err := <-done; wire.CodeOf(err) != wire.CodeCanceled {
			t.Error(err)
		}
		if last := l.sent[len(l.sent)-1]; last.Event != wire.EventCancel || string(last.Body) != `{"uid":"4"}` {
			t.Errorf("the last message is %s %s", last.Event, last.Body)
		}

		for err, want := range map[error]wire.Code{link.ErrFull: wire.CodeOverloaded, link.ErrTooLarge: wire.CodeBadRequest, link.ErrClosed: wire.CodePeerLost} {
			l.err = err
			if _, got := p.Do(t.Context(), l, rpc.Request{UID: "5", Name: "c"}); wire.CodeOf(got) != want {
				t.Errorf("%v became %v", err, got)
			}
		}
		if p.Len() != 0 {
			t.Errorf("%d requests are left", p.Len())
		}
	})
}

type outcome struct {
	result string
	code   wire.Code
}

// job is a rpc.Job.
type job struct {
	handle func(ctx context.Context) (json.RawMessage, error)
	out    chan outcome
}

func (j job) Handle(ctx context.Context) (json.RawMessage, error) { return j.handle(ctx) }

func (j job) Reply(r json.RawMessage, e *wire.Error) {
	o := outcome{result: string(r)}
	if e != nil {
		o.code = e.Code
	}
	j.out <- o
}

func in(from *rpc.Source, uid string, timeout time.Duration) rpc.Incoming {
	return rpc.Incoming{From: from, UID: uid, Command: "c", Bytes: 7, Started: time.Now(), Deadline: time.Now().Add(timeout)}
}

func hang(ctx context.Context) (json.RawMessage, error) { <-ctx.Done(); return nil, ctx.Err() }

func TestServerBoundsAndCancels(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := rpc.NewServer(t.Context(), 2, slog.New(slog.DiscardHandler))
		a, b, c := s.Source("a"), s.Source("b"), s.Source("c")
		out := make(chan outcome, 8)
		start := func(from *rpc.Source, uid string, timeout time.Duration, handle rpc.Work) {
			s.Go(new(rpc.Running), in(from, uid, timeout), job{handle, out})
		}
		start(a, "1", time.Hour, hang)
		start(b, "1", time.Hour, hang) // the same uid of another peer
		start(a, "2", time.Hour, hang)
		if o := <-out; o.code != wire.CodeOverloaded {
			t.Errorf("over the bound: %+v", o)
		}
		a.Cancel(0, "2") // nobody's
		c.Cancel(0, "1")
		a.Cancel(1, "")
		synctest.Wait()
		if s.InFlight() != 2 {
			t.Errorf("%d in flight", s.InFlight())
		}
		a.Cancel(0, "1")
		if o := <-out; o.code != wire.CodeCanceled {
			t.Errorf("canceled: %+v", o)
		}
		synctest.Wait()
		start(b, "1", time.Hour, hang)
		if o := <-out; o.code != wire.CodeBadRequest {
			t.Errorf("a uid in use: %+v", o)
		}
		idle := make(chan error, 1)
		go func() { idle <- s.Idle(t.Context()) }()
		synctest.Wait()
		select {
		case <-idle:
			t.Error("idle while a request is under way")
		default:
		}
		b.Cancel(0, "1")
		<-out
		if err := <-idle; err != nil {
			t.Error(err)
		}
		start(a, "3", time.Hour, func(context.Context) (json.RawMessage, error) { panic("boom") })
		if o := <-out; o.code != wire.CodeHandlerError {
			t.Errorf("panic: %+v", o)
		}
		began := time.Now()
		start(a, "4", time.Second, hang)
		if o := <-out; o.code != wire.CodeTimeout || time.Since(began) != time.Second {
			t.Errorf("deadline: %+v after %s", o, time.Since(began))
		}
		if s.Served() != 4 {
			t.Errorf("served %d, want 4", s.Served())
		}
	})
}

// Inline requests have the same promises, but for cancels, which wait behind them.
func TestInline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := rpc.NewServer(t.Context(), 1, slog.New(slog.DiscardHandler))
		a := s.Source("a")
		out := make(chan outcome, 1)
		var kept context.Context
		for want, handle := range map[outcome]rpc.Work{
			{result: "1"}:                   func(ctx context.Context) (json.RawMessage, error) { kept = ctx; return json.RawMessage("1"), nil },
			{code: wire.CodeHandlerError}:   func(context.Context) (json.RawMessage, error) { panic("boom") },
			{code: wire.CodeTimeout}:        hang,
			{code: wire.CodeUnknownCommand}: func(context.Context) (json.RawMessage, error) { return nil, &wire.Error{Code: wire.CodeUnknownCommand} },
		} {
			s.Inline(new(rpc.Running), in(a, "1", time.Second), job{handle, out})
			if got := <-out; got != want {
				t.Errorf("%+v, want %+v", got, want)
			}
		}
		if kept.Err() == nil || s.InFlight() != 0 || s.Served() != 4 {
			t.Errorf("afterwards: %v, %d in flight, %d served", kept.Err(), s.InFlight(), s.Served())
		}
		<-kept.Done()
		check(t, s.Oldest)
	})
}

// The goroutines of requests are used again, and end when they are idle for long.
func TestGoroutinesAreUsedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := rpc.NewServer(t.Context(), 100, slog.New(slog.DiscardHandler))
		a := s.Source("a")
		out := make(chan outcome, 100)
		var mu sync.Mutex
		used := map[string]bool{} // goroutines
		round := func() {
			for range 50 {
				s.Go(new(rpc.Running), in(a, "", time.Hour), job{func(context.Context) (json.RawMessage, error) {
					mu.Lock()
					used[goroutine()] = true
					mu.Unlock()
					time.Sleep(time.Second)
					return nil, nil
				}, out})
			}
			for range 50 {
				<-out
			}
			synctest.Wait()
		}
		for range 5 {
			round()
		}
		if len(used) != 50 {
			t.Errorf("%d goroutines for 50 requests at once", len(used))
		}
		time.Sleep(time.Minute)
		round()
		if len(used) != 100 {
			t.Errorf("%d goroutines after a pause in which all should have ended", len(used))
		}
	})
}

// goroutine names the running goroutine.
func goroutine() string {
	text := make([]byte, 64)
	name, _, _ := bytes.Cut(text[:runtime.Stack(text, false)], []byte(" ["))
	return string(name)
}

// Running is a context like any other, and contexts can be made of it.
func TestContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, stop := context.WithCancel(t.Context())
		s := rpc.NewServer(ctx, 100, slog.New(slog.DiscardHandler))
		a := s.Source("a")
		out := make(chan outcome, 100)
		begun := make(chan context.Context)
		derive := func(ctx context.Context) (json.RawMessage, error) {
			child, cancel := context.WithTimeout(ctx, time.Hour)
			defer cancel()
			begun <- child
			<-child.Done()
			return nil, child.Err()
		}
		deadline := time.Now().Add(time.Minute)
		s.Go(new(rpc.Running), in(a, "1", time.Minute), job{derive, out})
		child := <-begun
		if d, ok := child.Deadline(); !ok || !d.Equal(deadline) {
			t.Errorf("deadline %v, want %v", d, deadline)
		}
		synctest.Wait()
		all := make([]byte, 1<<20)
		if bytes.Contains(all[:runtime.Stack(all, true)], []byte("propagateCancel.func")) {
			t.Error("a derived context needs a goroutine")
		}
		if o := <-out; o.code != wire.CodeTimeout || !time.Now().Equal(deadline) {
			t.Errorf("%+v at %v", o, time.Now())
		}
		var ended atomic.Int32
		s.Go(new(rpc.Running), in(a, "2", time.Minute), job{func(ctx context.Context) (json.RawMessage, error) {
			context.AfterFunc(ctx, func() { ended.Add(1) })
			context.AfterFunc(ctx, func() { ended.Add(10) })()
			return derive(ctx)
		}, out})
		<-begun
		stop()
		if o := <-out; o.code != wire.CodeCanceled {
			t.Errorf("%+v", o)
		}
		if err := s.Idle(t.Context()); err != nil {
			t.Error(err)
		}
		synctest.Wait()
		if ended.Load() != 1 {
			t.Errorf("AfterFunc: %d", ended.Load())
		}
		check(t, s.Oldest)
	})
}

// What is awaited ends with its source, what nobody waits for does not.
func TestSourceEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := rpc.NewServer(t.Context(), 100, slog.New(slog.DiscardHandler))
		a, b := s.Source("a"), s.Source("b")
		out := make(chan outcome, 3)
		s.Go(new(rpc.Running), in(a, "1", time.Hour), job{hang, out})
		s.Go(new(rpc.Running), in(a, "", time.Minute), job{hang, out})
		s.Go(new(rpc.Running), in(b, "1", time.Hour), job{hang, out})
		began := time.Now()
		a.Close()
		if o := <-out; o.code != wire.CodeCanceled || time.Since(began) != 0 {
			t.Errorf("%+v after %s", o, time.Since(began))
		}
		if o := <-out; o.code != wire.CodeTimeout || time.Since(began) != time.Minute {
			t.Errorf("of nobody: %+v after %s", o, time.Since(began))
		}
		b.Close()
		if o := <-out; o.code != wire.CodeCanceled || time.Since(began) != time.Minute {
			t.Errorf("of another: %+v after %s", o, time.Since(began))
		}
		if err := s.Idle(t.Context()); err != nil {
			t.Error(err)
		}
		check(t, s.Oldest)
	})
}

func TestGroup(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		peers := make([]rpc.Pending, 5)
		links := make([]wireLink, 5)
		g := rpc.NewGroup(5)
		for i := range peers {
			links[i].numbered = i%2 == 0
			if i == 4 {
				links[i].err = link.ErrClosed
			}
			err := g.Send(ctx, &peers[i], &links[i], i, rpc.Request{UID: fmt.Sprint(i), Name: "c", Deadline: time.Now().Add(time.Duration(i) * time.Second), Meshctl: true})
			if (err != nil) != (i == 4) {
				t.Errorf("send %d: %v", i, err)
			}
			if i == 0 && !peers[0].Settle(wire.Response{Number: links[0].sent[0].Command.Number, Result: json.RawMessage("0")}) {
				t.Error("not settled")
			}
		}
		go func() {
			time.Sleep(2500 * time.Millisecond)
			peers[3].Settle(wire.Response{UID: "3", Err: &wire.Error{Code: wire.CodeDenied}})
		}()
		got := map[int]outcome{}
		g.Wait(ctx, func(i int, result json.RawMessage, err error) { got[i] = outcome{string(result), wire.CodeOf(err)} })
		want := map[int]outcome{0: {result: "0"}, 1: {code: wire.CodeTimeout}, 2: {code: wire.CodeTimeout}, 3: {code: wire.CodeDenied}}
		if !maps.Equal(got, want) {
			t.Errorf("got %v, want %v", got, want)
		}
		for i, sent := range []int{1, 2, 2, 1, 0} { // with the cancels
			if len(links[i].sent) != sent || peers[i].Len() != 0 {
				t.Errorf("peer %d: %d messages were sent, want %d; %d wait", i, len(links[i].sent), sent, peers[i].Len())
			}
		}
		g = rpc.NewGroup(2)
		for i := range 2 {
			if err := g.Send(ctx, &peers[i], &links[i], i, rpc.Request{UID: "x", Name: "c"}); err != nil {
				t.Error(err)
			}
		}
		cancel()
		canceled := 0
		g.Wait(ctx, func(_ int, _ json.RawMessage, err error) {
			if wire.CodeOf(err) == wire.CodeCanceled {
				canceled++
			}
		})
		if canceled != 2 {
			t.Errorf("%d were canceled", canceled)
		}
	})
}

func TestInFlight(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		deadline := time.Now().Add(time.Minute)
		ctx, cancel := context.WithDeadline(t.Context(), deadline)
		defer cancel()
		var p rpc.Pending
		l := &wireLink{numbered: true}
		done := make(chan error, 1)
		go func() {
			_, err := p.Do(ctx, l, rpc.Request{UID: "1", Name: "c", Payload: []byte("123"), Peer: "w/v", Kind: "broadcast", Broadcast: "b", Meshctl: true})
			done <- err
		}()
		synctest.Wait()
		want := rpc.InFlight{UID: "1", Command: "c", Peer: "w/v", Kind: "broadcast", Broadcast: "b", Phase: rpc.PhaseSent, Started: time.Now(), Deadline: deadline, Bytes: 3}
		check(t, p.Oldest, want)
		if p.Cancel("2") || !p.Cancel("1") || p.Cancel("1") {
			t.Error("canceled something else, or something twice, or nothing")
		}
		if err := <-done; wire.CodeOf(err) != wire.CodeCanceled || len(l.sent) != 2 || l.sent[1].Event != wire.EventCancel || l.sent[1].Number != l.sent[0].Command.Number {
			t.Errorf("canceled: %v; sent %v", err, l.sent)
		}
		check(t, p.Oldest)

		s := rpc.NewServer(t.Context(), 8, slog.New(slog.DiscardHandler))
		a := s.Source("a")
		goOn, out := make(chan struct{}), make(chan outcome)
		s.Go(new(rpc.Running), in(a, "1", time.Minute), job{func(context.Context) (json.RawMessage, error) { <-goOn; return nil, nil }, out})
		synctest.Wait()
		want = rpc.InFlight{UID: "1", Command: "c", Peer: "a", Phase: rpc.PhaseRunning, Started: time.Now(), Deadline: time.Now().Add(time.Minute), Bytes: 7}
		check(t, s.Oldest, want)
		close(goOn)
		synctest.Wait() // reply blocks
		want.Phase = rpc.PhaseResponding
		check(t, s.Oldest, want)
		<-out
		synctest.Wait()
		check(t, s.Oldest)
		queued, failure := s.Register(in(a, "2", time.Minute))
		if failure != nil {
			t.Fatal(failure)
		}
		want.UID, want.Phase = "2", rpc.PhaseQueued
		check(t, s.Oldest, want)
		queued.Release()
		check(t, s.Oldest)
	})
}

func check(t *testing.T, offer func(*rpc.Oldest), want ...rpc.InFlight) {
	t.Helper()
	o := rpc.NewOldest(8)
	offer(o)
	if got := o.All(); o.Total() != len(want) || !slices.Equal(got, want) {
		t.Errorf("in flight:\n%+v, want\n%+v", got, want)
	}
}
