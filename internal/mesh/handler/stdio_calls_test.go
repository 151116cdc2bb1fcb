//go:build unix

package handler

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/meshctl/meshctl/internal/mesh/wire"
)

// TestStdioCall has the program call into the mesh: the results are the lines that
// answered its calls.
func TestStdioCall(t *testing.T) {
	mesh := callerFunc(func(ctx context.Context, target string, payload json.RawMessage) (json.RawMessage, error) {
		switch target {
		case "text.count":
			left, ok := ctx.Deadline()
			if d := time.Until(left); !ok || d > defaultCallTimeout {
				return nil, errors.New("no deadline, or a late one")
			}
			return json.RawMessage("{\"got\":\n" + string(payload) + "}"), nil
		case "text.none":
			return nil, &wire.Error{Code: wire.CodeNoVariant, Message: "nobody is there", Temporary: true}
		case "text.odd":
			return nil, errors.New("odd")
		case "text.nothing":
			return nil, nil
		case "text.broken":
			return json.RawMessage(`{`), nil
		case "text.panic":
			panic("on purpose")
		}
		<-ctx.Done()
		return nil, contextError(ctx)
	})
	_, ask, _ := startRPC(t, Config{Env: Env{Caller: mesh}})
	for _, tt := range []struct{ command, params, want string }{
		{"call", `{"target":"text.count","payload":[1]}`, `"result":{"got":[1]}`},
		{"call", `{"target":"text.count"}`, `"result":{"got":null}`},
		{"call", `{"target":"text.none","payload":1}`, `"error":{"code":-32000,"message":"nobody is there","data":{"code":"no_variant","temporary":true}}`},
		{"call", `{"target":"text.odd"}`, `"error":{"code":-32000,"message":"odd","data":{"code":"handler_error"}}`},
		{"call", `{"target":"text.nothing"}`, `"result":null`},
		{"call", `{"target":"text.broken"}`, `"data":{"code":"handler_error"}`},
		{"call", `{"target":"text.panic"}`, `"data":{"code":"handler_error"}`},
		{"call", `{"target":"text.slow","timeout_ms":20}`, `"data":{"code":"timeout"}`},
		{"call", `{"target":"text.slow","timeout_ms":0.0001}`, `"data":{"code":"timeout"}`},
		{"call", `{"target":"text.slow","timeout_ms":0}`, `"code":-32602`},
		{"call", `{"target":"text.slow","timeout_ms":"1"}`, `"code":-32602`},
		{"call", `{"payload":1}`, `"code":-32602`},
		{"call", `[]`, `"code":-32602`},
		{"call-cancel", `{"target":"text.slow"}`, `"data":{"code":"canceled"}`},
	} {
		if got, err := ask(tt.command, tt.params); err != nil || !strings.Contains(got, tt.want) {
			t.Errorf("%s %s: got %s, %v; want %s", tt.command, tt.params, got, err, tt.want)
		}
	}
}

func TestStdioCallWithoutMesh(t *testing.T) {
	_, ask, _ := startRPC(t, Config{})
	if got, err := ask("call", `{"target":"text.count"}`); err != nil || !strings.Contains(got, `"code":"handler_error"`) {
		t.Errorf("got %s, %v", got, err)
	}
}

// TestStdioCallBounds writes many calls at once, and two with the same id.
func TestStdioCallBounds(t *testing.T) {
	var running atomic.Int64
	release := make(chan struct{})
	mesh := callerFunc(func(ctx context.Context, _ string, _ json.RawMessage) (json.RawMessage, error) {
		running.Add(1)
		select {
		case <-release:
			return json.RawMessage(`"called"`), nil
		case <-ctx.Done():
			return nil, contextError(ctx)
		}
	})
	_, ask, _ := startRPC(t, Config{Env: Env{Caller: mesh}, DefaultConcurrency: 2 * maxCalls})
	var wg sync.WaitGroup
	var called, refused atomic.Int64
	for range maxCalls + 5 {
		wg.Go(func() {
			got, err := ask("call", `{"target":"text.slow","timeout_ms":60000}`)
			switch {
			case err == nil && strings.Contains(got, `"result":"called"`):
				called.Add(1)
			case err == nil && strings.Contains(got, `"code":"overloaded"`):
				refused.Add(1)
			default:
				t.Errorf("got %s, %v", got, err)
			}
		})
	}
	eventually(t, "the rest was refused", func() bool { return refused.Load() == 5 && running.Load() == maxCalls })
	close(release)
	wg.Wait()
	if called.Load() != maxCalls {
		t.Errorf("%d calls, want %d", called.Load(), maxCalls)
	}
	// Their places are free again, and their ids too.
	for range 2 {
		if got, err := ask("call", `{"target":"text.slow"}`); err != nil || !strings.Contains(got, `"called"`) {
			t.Errorf("got %s, %v", got, err)
		}
	}
}

// TestStdioCallFor has the program make calls for the request that it answers: they have no more
// time than that, and end with it.
func TestStdioCallFor(t *testing.T) {
	left, ended := make(chan time.Duration, 1), make(chan error, 1)
	mesh := callerFunc(func(ctx context.Context, _ string, _ json.RawMessage) (json.RawMessage, error) {
		deadline, _ := ctx.Deadline()
		left <- time.Until(deadline)
		<-ctx.Done()
		ended <- ctx.Err()
		return nil, contextError(ctx)
	})
	set, ask, _ := startRPC(t, Config{Env: Env{Caller: mesh}})
	h, _ := set.Handler("call-for")
	for _, tt := range []struct {
		name, payload string
		left          time.Duration
		end           error
	}{
		{"canceled", `{"target":"text.slow"}`, time.Hour, context.Canceled},
		{"canceled", `{"target":"text.slow","timeout_ms":3600000}`, time.Minute, context.Canceled},
		{"canceled", `{"target":"text.slow","timeout_ms":60000}`, time.Minute, context.Canceled},
		{"expired", `{"target":"text.slow","timeout_ms":60000}`, 300 * time.Millisecond, context.DeadlineExceeded},
		{"expired", `{"target":"text.slow"}`, 300 * time.Millisecond, context.DeadlineExceeded},
	} {
		r := request("call-for", tt.payload)
		r.Deadline = time.Now().Add(tt.left)
		ctx, cancel := context.WithDeadline(t.Context(), r.Deadline)
		done := make(chan error, 1)
		go func() { _, err := h.Handle(ctx, r); done <- err }()
		if got := await(t, left, "the call"); got > tt.left || got < tt.left-patience {
			t.Errorf("%s %s: it has %s, of %s", tt.name, tt.payload, got, tt.left)
		}
		if tt.end == context.Canceled {
			cancel()
		}
		if err := await(t, ended, "the call to end"); !errors.Is(err, tt.end) {
			t.Errorf("%s %s: ended with %v", tt.name, tt.payload, err)
		}
		await(t, done, "the request to end")
		cancel()
	}
	for params, want := range map[string]string{
		`{"target":"text.slow","for":4711}`: `"data":{"code":"canceled"}`, // of no request
		`{"target":"text.slow","for":"x"}`:  `"code":-32602`,
	} {
		if got, err := ask("call", params); err != nil || !strings.Contains(got, want) {
			t.Errorf("call %s: got %s, %v; want %s", params, got, err, want)
		}
	}
}

func await[T any](t testing.TB, c <-chan T, what string) (v T) {
	t.Helper()
	select {
	case v = <-c:
	case <-time.After(patience):
		t.Fatalf("waited in vain for %s", what)
	}
	return v
}

// TestStdioCallEndsWithProgram has the program die while it calls.
func TestStdioCallEndsWithProgram(t *testing.T) {
	began, ended := make(chan struct{}), make(chan error, 1)
	mesh := callerFunc(func(ctx context.Context, _ string, _ json.RawMessage) (json.RawMessage, error) {
		close(began)
		<-ctx.Done()
		ended <- ctx.Err()
		return nil, contextError(ctx)
	})
	_, ask, _ := startRPC(t, Config{Env: Env{Caller: mesh}})
	asked := make(chan error, 1)
	go func() {
		_, err := ask("call", `{"target":"text.slow","timeout_ms":3600000}`)
		asked <- err
	}()
	<-began
	if _, err := ask("die", `{}`); err == nil {
		t.Error("it did not die")
	}
	select {
	case err := <-ended:
		if !errors.Is(err, context.Canceled) {
			t.Errorf("the call ended with %v", err)
		}
	case <-time.After(patience):
		t.Fatal("the call outlives the program")
	}
	if err := <-asked; wire.CodeOf(err) != wire.CodeHandlerError {
		t.Errorf("got %v", err)
	}
}
