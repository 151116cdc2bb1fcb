package seal

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
)

type gateFunc func(ctx context.Context) (func(ok bool), error)

func (g gateFunc) Admit(ctx context.Context) (func(ok bool), error) { return g(ctx) }

// countingGate admits and counts what it is told.
type countingGate struct{ asked, opened, failed int }

func (g *countingGate) Admit(context.Context) (func(ok bool), error) {
	g.asked++
	return func(ok bool) {
		if ok {
			g.opened++
		} else {
			g.failed++
		}
	}, nil
}

func TestGateIsAskedForDerivationsOnly(t *testing.T) {
	t.Parallel()
	a, b := newEnvelope(t, "key"), newEnvelope(t, "key")
	var g countingGate
	for range 3 {
		if _, err := b.Open(t.Context(), mustSeal(t, a, "{}"), &g); err != nil {
			t.Fatal(err)
		}
	}
	if want := (countingGate{asked: 1, opened: 1}); g != want {
		t.Errorf("%+v, want %+v", g, want)
	}
	if _, err := b.Open(t.Context(), "00", &g); err == nil || g.asked != 1 {
		t.Errorf("malformed: %v, asked %d times", err, g.asked)
	}
	g = countingGate{}
	if _, err := newEnvelope(t, "other").Open(t.Context(), mustSeal(t, a, "{}"), &g); !errors.Is(err, ErrKeyMismatch) {
		t.Error(err)
	}
	if want := (countingGate{asked: 1, failed: 1}); g != want {
		t.Errorf("%+v, want %+v", g, want)
	}
}

func TestGateRefuses(t *testing.T) {
	t.Parallel()
	sealed := mustSeal(t, newEnvelope(t, "key"), "{}")
	e := newEnvelope(t, "key")
	refused := errors.New("refused")
	_, err := e.Open(t.Context(), sealed, gateFunc(func(context.Context) (func(bool), error) { return nil, refused }))
	if !errors.Is(err, refused) {
		t.Errorf("%v, want the gate's error", err)
	}
	wantDerivations(t, e, 0)
	wantOpen(t, e, sealed, "{}")
}

// TestFollowersDoNotShareRefusal replays a good peer's salt over a connection that the
// gate holds and then refuses. The good peer must not suffer for it.
func TestFollowersDoNotShareRefusal(t *testing.T) {
	t.Parallel()
	sealed := mustSeal(t, newEnvelope(t, "key"), "{}")
	synctest.Test(t, func(t *testing.T) {
		e := newEnvelope(t, "key")
		release := make(chan struct{})
		refused := errors.New("refused")
		bad, good := make(chan error, 1), make(chan error, 1)
		go func() {
			_, err := e.Open(t.Context(), sealed, gateFunc(func(context.Context) (func(bool), error) {
				<-release
				return nil, refused
			}))
			bad <- err
		}()
		synctest.Wait() // the bad one leads
		go func() {
			_, err := e.Open(t.Context(), sealed, nil)
			good <- err
		}()
		synctest.Wait() // the good one waits for it
		if e.Derivations() != 0 {
			t.Fatal("did not wait for the derivation under way")
		}

		canceled, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := e.Open(canceled, sealed, nil); !errors.Is(err, context.Canceled) {
			t.Errorf("%v, want context.Canceled", err)
		}

		close(release)
		if err := <-bad; !errors.Is(err, refused) {
			t.Errorf("%v, want the gate's error", err)
		}
		if err := <-good; err != nil {
			t.Error(err)
		}
		wantDerivations(t, e, 1)
	})
}

// TestFollowerOfFalseMessage lets a false message lead the derivation for a good one
// under the same salt.
func TestFollowerOfFalseMessage(t *testing.T) {
	t.Parallel()
	sealed := mustSeal(t, newEnvelope(t, "key"), "{}")
	synctest.Test(t, func(t *testing.T) {
		e := newEnvelope(t, "key")
		release := make(chan struct{})
		g := &countingGate{}
		bad, good := make(chan error, 1), make(chan error, 1)
		go func() {
			_, err := e.Open(t.Context(), sealed[:2*headerLen]+"00", gateFunc(func(ctx context.Context) (func(bool), error) {
				<-release
				return g.Admit(ctx)
			}))
			bad <- err
		}()
		synctest.Wait()
		go func() {
			_, err := e.Open(t.Context(), sealed, nil)
			good <- err
		}()
		synctest.Wait()
		close(release)
		if err := <-bad; !errors.Is(err, ErrKeyMismatch) {
			t.Errorf("%v, want ErrKeyMismatch", err)
		}
		if err := <-good; err != nil {
			t.Error(err)
		}
		if want := (countingGate{asked: 1, failed: 1}); *g != want {
			t.Errorf("%+v, want %+v", *g, want)
		}
		wantOpen(t, e, sealed, "{}") // proven by the follower
		wantDerivations(t, e, 1)
	})
}

func TestDerivationsWaitForProcessor(t *testing.T) {
	t.Parallel()
	sealed := mustSeal(t, newEnvelope(t, "key"), "{}")
	synctest.Test(t, func(t *testing.T) {
		e := newEnvelope(t, "key")
		for range cap(e.running) {
			e.running <- struct{}{}
		}
		ctx, cancel := context.WithCancel(t.Context())
		g := &countingGate{}
		first, second := make(chan error, 1), make(chan error, 1)
		go func() {
			_, err := e.Open(ctx, sealed, g)
			first <- err
		}()
		synctest.Wait()
		go func() {
			_, err := e.Open(t.Context(), sealed, nil)
			second <- err
		}()
		synctest.Wait()
		wantDerivations(t, e, 0)

		cancel()
		if err := <-first; !errors.Is(err, context.Canceled) {
			t.Errorf("%v, want context.Canceled", err)
		}
		if want := (countingGate{asked: 1, failed: 1}); *g != want {
			t.Errorf("%+v, want %+v", *g, want)
		}
		<-e.running
		if err := <-second; err != nil {
			t.Error(err)
		}
		wantDerivations(t, e, 1)
	})
}

func TestPanickingGateLeavesNothingBehind(t *testing.T) {
	t.Parallel()
	sealed := mustSeal(t, newEnvelope(t, "key"), "{}")
	e := newEnvelope(t, "key")
	func() {
		defer func() {
			if recover() == nil {
				t.Error("panic swallowed")
			}
		}()
		_, _ = e.Open(t.Context(), sealed, gateFunc(func(context.Context) (func(bool), error) { panic("gate") }))
	}()
	wantOpen(t, e, sealed, "{}")
}
