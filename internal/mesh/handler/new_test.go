//go:build unix

package handler

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/meshctl/meshctl/internal/mesh/schema"
	"github.com/meshctl/meshctl/internal/mesh/wire"
)

func TestNewRefuses(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "plain"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for name, tt := range map[string]struct {
		method *schema.Method
		want   string
	}{
		"no method":          {nil, "no method"},
		"nothing":            {&schema.Method{}, "exactly one"},
		"two things":         {&schema.Method{Builtin: "echo", HTTP: "http://x"}, "exactly one"},
		"builtin":            {&schema.Method{Builtin: "ecko"}, `unknown builtin "ecko"`},
		"status of nobody":   {&schema.Method{Builtin: "status"}, "no status"},
		"program":            {&schema.Method{Exec: []string{"no-such-program-anywhere"}}, "not found"},
		"relative program":   {&schema.Method{Stdio: []string{"./nothing"}}, filepath.Join(dir, "nothing")},
		"not executable":     {&schema.Method{Exec: []string{"./plain"}}, "permission denied"},
		"directory":          {&schema.Method{Exec: []string{"sh"}, Dir: "nowhere"}, "working directory"},
		"file as directory":  {&schema.Method{Exec: []string{"sh"}, Dir: "plain"}, "not a directory"},
		"private key":        {&schema.Method{Exec: []string{"sh"}, Env: []string{"MESHCTL_PRIVATE_KEY"}}, "never passed"},
		"env name":           {&schema.Method{Exec: []string{"sh"}, Env: []string{"A=B"}}, "no name"},
		"URL":                {&schema.Method{HTTP: "ftp://user:hush@x/"}, "http://HOST"},
		"broken URL":         {&schema.Method{HTTP: "http://user:hush@x:port/"}, "http URL"},
		"negative":           {&schema.Method{Builtin: "echo", Concurrency: -1}, "negative"},
		"no host in the URL": {&schema.Method{HTTP: "http:///path"}, "http://HOST"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := New(&schema.Command{Name: "test", Method: tt.method}, Config{SchemaDir: dir})
			if err == nil || !strings.Contains(err.Error(), tt.want) || strings.Contains(err.Error(), "hush") {
				t.Errorf("got %v, want …%s…", err, tt.want)
			}
		})
	}
}

func TestProgramIsRelativeToSchema(t *testing.T) {
	dir := t.TempDir()
	if err := os.MkdirAll(filepath.Join(dir, "sub"), 0o700); err != nil {
		t.Fatal(err)
	}
	for _, file := range []string{"where", "sub/where"} {
		if err := os.WriteFile(filepath.Join(dir, file), []byte("#!/bin/sh\npwd; echo "+file+"\n"), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	real, err := filepath.EvalSymlinks(dir)
	if err != nil {
		t.Fatal(err)
	}
	for sub, want := range map[string]string{"": real + "\nwhere", "sub": real + "/sub\nsub/where"} {
		h := newHandler(t, schema.Method{Exec: []string{"./where"}, Dir: sub}, Config{SchemaDir: dir})
		got, err := handle(t, h, request("test", `{}`))
		if err != nil || got != string(mustJSON(want)) {
			t.Errorf("dir %q: got %s, %v", sub, got, err)
		}
	}
}

func TestBuiltins(t *testing.T) {
	env := Env{Status: func() Status { return Status{Worker: "shop", Variant: "s1", PID: 7} }}
	for _, tt := range []struct {
		builtin, payload, want string
		code                   wire.Code
	}{
		{builtin: "echo", payload: `{"hello":"mesh"}`, want: `{"hello":"mesh"}`},
		{builtin: "echo", payload: ``, want: `null`},
		{builtin: "status", payload: `null`, want: `{"worker":"shop","variant":"s1","version":"","host":"","pid":7,"uptime_ms":0,"served":0,"in_flight":0}`},
		{builtin: "sleep", payload: `{"ms":0}`, want: `{"slept_ms":0}`},
		{builtin: "sleep", payload: `{"ms":5}`, want: `{"slept_ms":5}`},
		{builtin: "sleep", payload: `null`, code: wire.CodeBadRequest},
		{builtin: "sleep", payload: `{"ms":"5"}`, code: wire.CodeBadRequest},
		{builtin: "sleep", payload: `{"ms":-1}`, code: wire.CodeBadRequest},
		{builtin: "sleep", payload: `{"ms":9223372036854775807}`, code: wire.CodeBadRequest},
		{builtin: "sleep", payload: `{"ms":1.5}`, code: wire.CodeBadRequest},
		{builtin: "sleep", payload: `[]`, code: wire.CodeBadRequest},
		{builtin: "fail", payload: `null`, code: wire.CodeHandlerError, want: "failed, as it was asked to"},
		{builtin: "fail", payload: `{"message":"out of stock"}`, code: wire.CodeHandlerError, want: "out of stock"},
		{builtin: "fail", payload: `[1]`, code: wire.CodeHandlerError, want: "failed, as it was asked to"},
	} {
		t.Run(tt.builtin+" "+tt.payload, func(t *testing.T) {
			got, err := handle(t, newHandler(t, schema.Method{Builtin: tt.builtin}, Config{Env: env}), request("test", tt.payload))
			if wire.CodeOf(err) != tt.code {
				t.Fatalf("got %v, want %q", err, tt.code)
			}
			var e *wire.Error
			if errors.As(err, &e) {
				got = e.Message
			}
			if tt.want != "" && got != tt.want {
				t.Errorf("got %s, want %s", got, tt.want)
			}
		})
	}
}

func TestDeadlineAndTimeout(t *testing.T) {
	for _, tt := range []struct {
		name                       string
		timeout, deadline, context time.Duration
		code                       wire.Code
		after                      time.Duration
	}{
		{"request's deadline", 0, time.Second, time.Minute, wire.CodeTimeout, time.Second},
		{"method's timeout", time.Second, time.Minute, time.Minute, wire.CodeTimeout, time.Second},
		{"context's deadline", time.Minute, time.Minute, time.Second, wire.CodeTimeout, time.Second},
		{"none of them", time.Minute, time.Minute, time.Minute, "", 10 * time.Second},
		{"in the past", time.Minute, -1, time.Minute, wire.CodeTimeout, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := newHandler(t, schema.Method{Builtin: "sleep", Timeout: tt.timeout}, Config{})
				ctx, cancel := context.WithTimeout(t.Context(), tt.context)
				defer cancel()
				began := time.Now()
				r := request("test", `{"ms":10000}`)
				r.Deadline = began.Add(tt.deadline)
				_, err := h.Handle(ctx, r)
				if wire.CodeOf(err) != tt.code {
					t.Errorf("got %v, want %q", err, tt.code)
				}
				if d := time.Since(began); d != tt.after {
					t.Errorf("after %v, want %v", d, tt.after)
				}
			})
		})
	}
}

func TestCauseIsKept(t *testing.T) {
	ctx, cancel := context.WithCancelCause(t.Context())
	h := newHandler(t, schema.Method{Builtin: "sleep"}, Config{})
	time.AfterFunc(10*time.Millisecond, func() { cancel(&wire.Error{Code: wire.CodePeerLost}) })
	if _, err := h.Handle(ctx, request("test", `{"ms":60000}`)); wire.CodeOf(err) != wire.CodePeerLost {
		t.Errorf("got %v", err)
	}
}

func TestOverloaded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const running, waiting = 3, 4*3 + 64
		h := newHandler(t, schema.Method{Builtin: "sleep"}, Config{DefaultConcurrency: running})
		results := make(chan error, running+waiting)
		for range running + waiting {
			go func() {
				_, err := h.Handle(t.Context(), request("test", `{"ms":100}`))
				results <- err
			}()
		}
		synctest.Wait()
		_, err := h.Handle(t.Context(), request("test", `{"ms":0}`))
		var e *wire.Error
		if !errors.As(err, &e) || e.Code != wire.CodeOverloaded || !e.Temporary {
			t.Errorf("got %v, want overloaded", err)
		}
		for range running + waiting {
			if err := <-results; err != nil {
				t.Error(err)
			}
		}
	})
}

func TestBoundedPassesOnWhatItDecided(t *testing.T) {
	var seen Request
	b := limit(Func(func(ctx context.Context, r *Request) (json.RawMessage, error) {
		seen = *r
		return nil, nil
	}), 1, time.Minute)
	r := request("test", "")
	r.Deadline = time.Now().Add(time.Hour)
	was := r.Deadline
	if _, err := b.Handle(t.Context(), r); err != nil {
		t.Fatal(err)
	}
	if d := time.Until(seen.Deadline); d > time.Minute || d < 50*time.Second || string(seen.Payload) != "null" {
		t.Errorf("deadline in %v, payload %s", d, seen.Payload)
	}
	if r.Deadline != was || r.Payload == nil || len(r.Payload) != 0 {
		t.Error("the caller's request was changed")
	}
}

func TestTail(t *testing.T) {
	for _, tt := range []struct {
		writes []string
		want   string
	}{
		{[]string{"a", "b"}, "ab"},
		{[]string{"abcdef", "gh"}, "cdefgh"},
		{[]string{"abcdefghijkl"}, "ghijkl"},
		{[]string{"", "ääää"}, "äää"},
		{[]string{"aääää"}, "äää"},
		{[]string{"xäääx\n"}, "ääx"},
	} {
		b := &tail{max: 6}
		for _, w := range tt.writes {
			if n, err := b.Write([]byte(w)); n != len(w) || err != nil {
				t.Errorf("Write(%q): %d, %v", w, n, err)
			}
		}
		if got := b.String(); got != tt.want {
			t.Errorf("%q: got %q, want %q", tt.writes, got, tt.want)
		}
	}
}
