//go:build unix

package handler

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/meshctl/meshctl/internal/mesh/schema"
	"github.com/meshctl/meshctl/internal/mesh/wire"
)

func TestExecResults(t *testing.T) {
	for _, tt := range []struct{ name, prints, want string }{
		{"json", " {\"a\": [1, 2]}\n", `{"a": [1, 2]}`},
		{"text", "two\nlines <b>\n", `"two\nlines <b>"`},
		{"empty", "", `null`},
		{"white space", " \n", `null`},
		{"not UTF-8", "\xff\xfe", "\"\uFFFD\""},
		{"JSON, but not UTF-8", "\"\xff\"", "\"\uFFFD\""},
		{"two values", "1 2", `"1 2"`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			h := newHandler(t, schema.Method{Exec: self(t, "print", tt.prints)}, Config{})
			got, err := handle(t, h, request("test", `{}`))
			if err != nil || got != tt.want {
				t.Errorf("got %s, %v; want %s", got, err, tt.want)
			}
		})
	}
}

func TestExecGetsPayloadOnStdin(t *testing.T) {
	h := newHandler(t, schema.Method{Exec: self(t, "cat")}, Config{})
	big := `"` + strings.Repeat("x", 512<<10) + `"`
	for _, payload := range []string{`{"hello":"mesh"}`, big} {
		if got, err := handle(t, h, request("test", payload)); err != nil || got != payload {
			t.Errorf("got %d bytes, %v; want %d", len(got), err, len(payload))
		}
	}
	if got, err := handle(t, h, request("test", "")); err != nil || got != "null" {
		t.Errorf("no payload: got %s, %v; want null", got, err)
	}
	// One that does not read its stdin is no failure.
	h = newHandler(t, schema.Method{Exec: self(t, "print", "1")}, Config{})
	if got, err := handle(t, h, request("test", big)); err != nil || got != "1" {
		t.Errorf("unread stdin: got %s, %v", got, err)
	}
}

func TestExecEnvironment(t *testing.T) {
	t.Setenv("MESHCTL_PRIVATE_KEY", "hush")
	t.Setenv("MESHCTL_LOG_FORMAT", "json")
	t.Setenv("DATABASE_PASSWORD", "hush")
	t.Setenv("SHOP_NAME", "corner")
	h := newHandler(t, schema.Method{Exec: self(t, "env"), Env: []string{"SHOP_NAME", "NOT_SET"}}, Config{})
	r := request("test", `{}`)
	r.Caller = "till/t1\n\x00X=1"
	out, err := handle(t, h, r)
	if err != nil {
		t.Fatal(err)
	}
	var env []string
	if err := json.Unmarshal([]byte(out), &env); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"SHOP_NAME=corner", "PATH=" + os.Getenv("PATH"), "MESH_WORKER=shop", "MESH_VARIANT=s1", "MESH_COMMAND=test",
		"MESH_CALLER=till/t1X=1", "MESH_UID=uid-1", "MESH_DEADLINE=" + r.Deadline.UTC().Format(time.RFC3339Nano),
	} {
		if !slices.Contains(env, want) {
			t.Errorf("%s is missing in %q", want, env)
		}
	}
	allowed := []string{"PATH", "HOME", "LANG", "TMPDIR", "SHOP_NAME", "MESH_WORKER", "MESH_VARIANT",
		"MESH_COMMAND", "MESH_CALLER", "MESH_UID", "MESH_DEADLINE"}
	for _, kv := range env {
		if name, _, _ := strings.Cut(kv, "="); !slices.Contains(allowed, name) {
			t.Errorf("%s got through", name)
		}
	}
}

func TestExecFailures(t *testing.T) {
	t.Run("exit status and the end of stderr", func(t *testing.T) {
		h := newHandler(t, schema.Method{Exec: self(t, "exit3")}, Config{})
		_, err := handle(t, h, request("test", `{}`))
		var e *wire.Error
		if !errors.As(err, &e) || e.Code != wire.CodeHandlerError || e.Temporary {
			t.Fatalf("got %v", err)
		}
		if !strings.HasPrefix(e.Message, "exit status 3: ä") || !strings.HasSuffix(e.Message, "äthe end") ||
			!utf8.ValidString(e.Message) || strings.ContainsRune(e.Message, utf8.RuneError) || len(e.Message) > 5<<10 {
			t.Errorf("message of %d bytes: %.40q … %q", len(e.Message), e.Message, e.Message[len(e.Message)-20:])
		}
	})
	t.Run("signal", func(t *testing.T) {
		h := newHandler(t, schema.Method{Exec: self(t, "kill-self")}, Config{})
		_, err := handle(t, h, request("test", `{}`))
		if !errors.Is(err, &wire.Error{Code: wire.CodeHandlerError}) || !strings.Contains(err.Error(), "signal: killed") {
			t.Errorf("got %v", err)
		}
	})
	t.Run("too much output", func(t *testing.T) {
		h := newHandler(t, schema.Method{Exec: self(t, "flood"), MaxOutput: 100 << 10}, Config{})
		began := time.Now()
		_, err := handle(t, h, request("test", `{}`))
		if !errors.Is(err, &wire.Error{Code: wire.CodeHandlerError}) || !strings.Contains(err.Error(), "output exceeds 102400 bytes") {
			t.Errorf("got %v", err)
		}
		if d := time.Since(began); d > patience/2 {
			t.Errorf("it took %v", d)
		}
	})
	t.Run("output at the limit", func(t *testing.T) {
		h := newHandler(t, schema.Method{Exec: self(t, "print", "12345"), MaxOutput: 5}, Config{})
		if got, err := handle(t, h, request("test", `{}`)); err != nil || got != "12345" {
			t.Errorf("got %s, %v", got, err)
		}
	})
	t.Run("program gone after construction", func(t *testing.T) {
		file := filepath.Join(t.TempDir(), "program")
		if err := os.WriteFile(file, []byte("#!/bin/sh\n"), 0o700); err != nil {
			t.Fatal(err)
		}
		h := newHandler(t, schema.Method{Exec: []string{file}}, Config{})
		if err := os.Remove(file); err != nil {
			t.Fatal(err)
		}
		_, err := handle(t, h, request("test", `{}`))
		if !errors.Is(err, &wire.Error{Code: wire.CodeHandlerError}) || !strings.Contains(err.Error(), "start program") {
			t.Errorf("got %v", err)
		}
	})
}

// TestExecKillsGroup ends requests whose program and grandchild both ignore SIGTERM.
func TestExecKillsGroup(t *testing.T) {
	for _, how := range []string{"deadline", "timeout of the method", "cancel"} {
		t.Run(how, func(t *testing.T) {
			t.Parallel()
			file := filepath.Join(t.TempDir(), "pid")
			m := schema.Method{Exec: self(t, "stubborn", file)}
			want := wire.CodeTimeout
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			if how == "cancel" {
				want = wire.CodeCanceled
			}
			ended := make(chan error, 1)
			there := func() bool { _, err := os.Stat(file); return err == nil }
			for limit := 2 * time.Second; ; limit *= 2 { // on a busy machine a program starts late
				r := request("test", `{}`)
				switch how {
				case "deadline":
					r.Deadline = time.Now().Add(limit)
				case "timeout of the method":
					m.Timeout = limit
				}
				h := newHandler(t, m, Config{})
				go func() {
					_, err := h.Handle(ctx, r)
					ended <- err
				}()
				eventually(t, "the program has a child, or was too late", func() bool { return there() || len(ended) > 0 })
				if there() || limit > patience/2 {
					break
				}
				if err := <-ended; wire.CodeOf(err) != want {
					t.Fatalf("got %v, want %s", err, want)
				}
			}
			child := pidIn(t, file)
			if how == "cancel" {
				cancel()
			}
			began := time.Now()
			if err := <-ended; wire.CodeOf(err) != want {
				t.Errorf("got %v, want %s", err, want)
			}
			if d := time.Since(began); d > patience/2 {
				t.Errorf("it took %v", d)
			}
			eventually(t, "the grandchild is gone", func() bool { return gone(child) })
		})
	}
}

// TestExecLeavesNothing has a program end well while its child lives on with its stdout.
func TestExecLeavesNothing(t *testing.T) {
	file := filepath.Join(t.TempDir(), "pid")
	h := newHandler(t, schema.Method{Exec: self(t, "orphan", file)}, Config{})
	got, err := handle(t, h, request("test", `{}`))
	if err != nil || got != `"done"` {
		t.Errorf("got %s, %v", got, err)
	}
	child := pidIn(t, file)
	eventually(t, "the child is gone", func() bool { return gone(child) })
}

func TestExecConcurrency(t *testing.T) {
	dir := t.TempDir()
	h := newHandler(t, schema.Method{Exec: self(t, "gate", dir), Concurrency: 2}, Config{})
	began := func() int {
		files, _ := filepath.Glob(dir + "/began*")
		return len(files)
	}
	var wg sync.WaitGroup
	for range 5 {
		wg.Go(func() {
			if _, err := handle(t, h, request("test", `{}`)); err != nil {
				t.Error(err)
			}
		})
	}
	eventually(t, "two run", func() bool { return began() == 2 })
	b := h.(*bounded)
	eventually(t, "three wait", func() bool { return b.waiting.Load() == 3 })
	if n := began(); n != 2 {
		t.Errorf("%d run at once, want 2", n)
	}
	// Waiting is on the caller's time, and nothing is run for who is gone.
	late := request("test", `{}`)
	late.Deadline = time.Now().Add(20 * time.Millisecond)
	_, err := handle(t, h, late)
	var e *wire.Error
	if !errors.As(err, &e) || e.Code != wire.CodeTimeout || !e.Temporary {
		t.Errorf("while waiting: %v", err)
	}
	if err := os.WriteFile(dir+"/open", nil, 0o600); err != nil {
		t.Fatal(err)
	}
	wg.Wait()
	if n := began(); n != 5 {
		t.Errorf("%d ran, want 5", n)
	}
}
