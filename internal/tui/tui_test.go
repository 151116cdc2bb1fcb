package tui

import (
	"bytes"
	"context"
	"errors"
	"io"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/meshctl/meshctl/internal/mesh/inspect"
	"github.com/meshctl/meshctl/internal/tui/tuitest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// screenBuffer is an output that is no terminal, safe for concurrent use.
type screenBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *screenBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *screenBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

// sourceFunc is a source of one function.
type sourceFunc func(ctx context.Context) (inspect.Update, error)

func (f sourceFunc) Next(ctx context.Context) (inspect.Update, error) { return f(ctx) }
func (sourceFunc) Close() error                                       { return nil }

// run runs a dashboard in a terminal that is none, whose keys come from the writer.
func run(t *testing.T, ctx context.Context, src inspect.Source) (keys io.Writer, out *screenBuffer, ended <-chan error) {
	t.Helper()
	in, w := io.Pipe()
	t.Cleanup(func() { _ = w.Close() })
	out = &screenBuffer{}
	done := make(chan error, 1)
	go func() {
		done <- Run(ctx, Options{Source: src, In: in, Out: out, Environ: []string{"TERM=xterm-256color"}, Title: "test", Clock: time.Now})
		_ = in.Close()
	}()
	return w, out, done
}

func wait(t *testing.T, ended <-chan error) error {
	t.Helper()
	select {
	case err := <-ended:
		return err
	case <-time.After(30 * time.Second):
		t.Fatal("the dashboard does not end")
		return nil
	}
}

func TestRunEndsByKeyAndByContext(t *testing.T) {
	keys, out, ended := run(t, t.Context(), tuitest.NewSource(5, 20))
	eventually(t, func() bool { return strings.Contains(out.String(), "\x1b[?1049h") })
	if _, err := keys.Write([]byte("q")); err != nil {
		t.Fatal(err)
	}
	if err := wait(t, ended); err != nil {
		t.Error(err)
	}
	if !strings.Contains(out.String(), "\x1b[?1049l") {
		t.Errorf("the terminal was left in the alternate screen: %q", out.String())
	}

	ctx, cancel := context.WithCancel(t.Context())
	_, out, ended = run(t, ctx, tuitest.NewSource(5, 20))
	eventually(t, func() bool { return strings.Contains(out.String(), "\x1b[?1049h") })
	cancel()
	if err := wait(t, ended); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

func TestRunRestoresTheTerminalAfterAPanic(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	for where, next := range map[string]sourceFunc{
		"feed": func(context.Context) (inspect.Update, error) {
			time.Sleep(100 * time.Millisecond) // let the dashboard be there
			panic("it broke")
		},
		"source": func(context.Context) (inspect.Update, error) {
			time.Sleep(100 * time.Millisecond)
			return inspect.Update{}, &inspect.PanicError{Value: "it broke", Stack: []byte("where")}
		},
	} {
		_, out, ended := run(t, t.Context(), next)
		err := wait(t, ended)
		if err == nil || !strings.Contains(err.Error(), "the dashboard failed in its "+where+": it broke; please report it with ") {
			t.Error(err)
		}
		if s := out.String(); strings.Count(s, "\x1b[?1049h") != strings.Count(s, "\x1b[?1049l") {
			t.Errorf("the terminal was left in the alternate screen: %q", s)
		}
	}
}

func TestRunStaysWhenTheSourceEnds(t *testing.T) {
	keys, _, ended := run(t, t.Context(), sourceFunc(func(context.Context) (inspect.Update, error) { return inspect.Update{}, io.EOF }))
	select {
	case err := <-ended:
		t.Fatal(err)
	case <-time.After(300 * time.Millisecond):
	}
	_, _ = keys.Write([]byte("q"))
	if err := wait(t, ended); err != nil {
		t.Error(err)
	}
}

// TestIdleDrawsNothing waits for a time in which frames were due and nothing was written.
func TestIdleDrawsNothing(t *testing.T) {
	told := false
	keys, out, ended := run(t, t.Context(), sourceFunc(func(ctx context.Context) (inspect.Update, error) {
		if !told {
			told = true
			return inspect.Update{At: time.Now().UnixMilli(), Status: &inspect.Status{Connected: true, Master: "m:1"}}, nil
		}
		<-ctx.Done()
		return inspect.Update{}, ctx.Err()
	}))
	before, since := -1, time.Now()
	eventually(t, func() bool {
		if n := len(out.String()); n != before {
			before, since = n, time.Now()
		}
		return before > 0 && time.Since(since) > 2*idleEvery
	})
	_, _ = keys.Write([]byte("q"))
	if err := wait(t, ended); err != nil {
		t.Error(err)
	}
}

func TestRunRefusesAThemeThatIsNone(t *testing.T) {
	if err := Run(t.Context(), Options{Theme: "pink"}); err == nil || !strings.Contains(err.Error(), "auto, dark, light") {
		t.Error(err)
	}
}

func eventually(t *testing.T, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("it did not happen")
		}
	}
}
