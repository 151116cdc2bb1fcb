package rpc_test

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"slices"
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
	sent []wire.Message
	err  error
}

func (l *wireLink) Send(m wire.Message) error {
	if l.err == nil {
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
				result, err := p.Do(ctx, l, rpc.Request{Command: wire.Command{UID: uid, Name: "c"}, Cancels: cancels})
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

		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		began := time.Now()
		if err := <-ask(ctx, "3", false); wire.CodeOf(err) != wire.CodeTimeout || time.Since(began) != time.Second {
			t.Errorf("%v after %s", err, time.Since(began))
		}
		if n := len(l.sent); n != 3 {
			t.Errorf("%d messages were sent, want the three requests and no cancel", n)
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
			if _, got := p.Do(t.Context(), l, rpc.Request{Command: wire.Command{UID: "5", Name: "c"}}); wire.CodeOf(got) != want {
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

func collect(into chan outcome) func(json.RawMessage, *wire.Error) {
	return func(r json.RawMessage, e *wire.Error) {
		o := outcome{result: string(r)}
		if e != nil {
			o.code = e.Code
		}
		into <- o
	}
}

func in(peer, uid string, timeout time.Duration) rpc.Incoming {
	return rpc.Incoming{From: peer, UID: uid, Command: "c", Peer: peer, Bytes: 7, Deadline: time.Now().Add(timeout)}
}

func TestServerBoundsAndCancels(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := rpc.NewServer(2, slog.New(slog.DiscardHandler))
		out := make(chan outcome, 8)
		hang := func(ctx context.Context) (json.RawMessage, error) { <-ctx.Done(); return nil, ctx.Err() }
		s.Go(t.Context(), in("a", "1", time.Hour), hang, collect(out))
		s.Go(t.Context(), in("b", "1", time.Hour), hang, collect(out)) // the same uid of another peer
		s.Go(t.Context(), in("a", "2", time.Hour), hang, collect(out))
		if o := <-out; o.code != wire.CodeOverloaded {
			t.Errorf("over the bound: %+v", o)
		}
		s.Cancel("a", "2") // nobody's
		s.Cancel("c", "1")
		synctest.Wait()
		if s.InFlight() != 2 {
			t.Errorf("%d in flight", s.InFlight())
		}
		s.Cancel("a", "1")
		if o := <-out; o.code != wire.CodeCanceled {
			t.Errorf("canceled: %+v", o)
		}
		s.Go(t.Context(), in("b", "1", time.Hour), hang, collect(out))
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
		s.Cancel("b", "1")
		<-out
		if err := <-idle; err != nil {
			t.Error(err)
		}
		s.Go(t.Context(), in("a", "3", time.Hour), func(context.Context) (json.RawMessage, error) { panic("boom") }, collect(out))
		if o := <-out; o.code != wire.CodeHandlerError {
			t.Errorf("panic: %+v", o)
		}
		s.Go(t.Context(), in("a", "4", time.Second), hang, collect(out))
		if o := <-out; o.code != wire.CodeTimeout {
			t.Errorf("deadline: %+v", o)
		}
		if s.Served() != 4 {
			t.Errorf("served %d, want 4", s.Served())
		}
	})
}

func TestEach(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		deadline := time.Now().Add(time.Minute)
		ctx, cancel := context.WithDeadline(t.Context(), deadline)
		defer cancel()
		var p rpc.Pending
		l := &wireLink{}
		done := make(chan error, 1)
		go func() {
			_, err := p.Do(ctx, l, rpc.Request{Command: wire.Command{UID: "1", Name: "c", Payload: []byte("123")}, Peer: "w/v", Kind: "broadcast", Broadcast: "b", Cancels: true})
			done <- err
		}()
		synctest.Wait()
		want := rpc.InFlight{UID: "1", Command: "c", Peer: "w/v", Kind: "broadcast", Broadcast: "b", Phase: rpc.PhaseSent, Started: time.Now(), Deadline: deadline, Bytes: 3}
		check(t, p.Each, want)
		if p.Cancel("2") || !p.Cancel("1") || p.Cancel("1") {
			t.Error("canceled something else, or something twice, or nothing")
		}
		if err := <-done; wire.CodeOf(err) != wire.CodeCanceled || len(l.sent) != 2 || l.sent[1].Event != wire.EventCancel {
			t.Errorf("canceled: %v; sent %v", err, l.sent)
		}
		check(t, p.Each)

		s := rpc.NewServer(8, slog.New(slog.DiscardHandler))
		goOn, out := make(chan struct{}), make(chan outcome)
		s.Go(t.Context(), in("a", "1", time.Minute), func(context.Context) (json.RawMessage, error) { <-goOn; return nil, nil }, collect(out))
		synctest.Wait()
		want = rpc.InFlight{UID: "1", Command: "c", Peer: "a", Phase: rpc.PhaseRunning, Started: time.Now(), Deadline: time.Now().Add(time.Minute), Bytes: 7}
		check(t, s.Each, want)
		close(goOn)
		synctest.Wait() // reply blocks
		want.Phase = rpc.PhaseResponding
		check(t, s.Each, want)
		<-out
		synctest.Wait()
		check(t, s.Each)
		queued, failure := s.Register(t.Context(), in("a", "2", time.Minute))
		if failure != nil {
			t.Fatal(failure)
		}
		want.UID, want.Phase = "2", rpc.PhaseQueued
		check(t, s.Each, want)
		queued.Release()
		check(t, s.Each)
	})
}

func check(t *testing.T, each func(func(rpc.InFlight) bool), want ...rpc.InFlight) {
	t.Helper()
	if got := slices.Collect(each); !slices.Equal(got, want) {
		t.Errorf("in flight:\n%+v, want\n%+v", got, want)
	}
}
