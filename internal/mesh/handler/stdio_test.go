//go:build unix

package handler

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/meshctl/meshctl/internal/mesh/schema"
	"github.com/meshctl/meshctl/internal/mesh/wire"
)

// syncBuffer is a log that tests read while it is written.
type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *syncBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *syncBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

// callerFunc is a mesh of one function.
type callerFunc func(ctx context.Context, target string, payload json.RawMessage) (json.RawMessage, error)

func (f callerFunc) CallJSON(ctx context.Context, target string, payload json.RawMessage) (json.RawMessage, error) {
	return f(ctx, target, payload)
}

// worker has one stdio command for each name, all of the same program.
func worker(m schema.Method, names ...string) *schema.Worker {
	w := &schema.Worker{Name: "shop", Commands: map[string]*schema.Command{}}
	for _, name := range names {
		w.Commands[name] = &schema.Command{Name: name, Method: &m}
	}
	return w
}

// ask asks the rpc program for a command with a payload.
type ask func(command, payload string) (string, error)

// runSet runs the handlers until the returned stop, which waits for their end.
func runSet(t testing.TB, w *schema.Worker, cfg Config) (set *Set, stop func()) {
	t.Helper()
	set, err := NewSet(w, cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- set.Run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		select {
		case err := <-ended:
			if err != nil {
				t.Errorf("Run: %v", err)
			}
		case <-time.After(patience):
			t.Error("Run does not end")
		}
	})
	t.Cleanup(stop)
	eventually(t, "the programs are up", func() bool { return up(set) })
	return set, stop
}

func up(s *Set) bool {
	return !slices.ContainsFunc(s.Programs(), func(p ProgramStatus) bool { return !p.Up })
}

// inFlight counts the requests that were written to the set's first program and are
// not answered.
func inFlight(set *Set) int {
	s := set.processes[0].session.Load()
	if s == nil {
		return 0
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	n := 0
	for _, p := range s.pending {
		if p.sent {
			n++
		}
	}
	return n
}

// cancelInFlight cancels r when it has been written, and gives what Handle returns.
func cancelInFlight(t *testing.T, set *Set, h Handler, r *Request) error {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	ended := make(chan error, 1)
	go func() {
		_, err := h.Handle(ctx, r)
		ended <- err
	}()
	eventually(t, "the request is in flight", func() bool { return inFlight(set) == 1 })
	cancel()
	return <-ended
}

// startRPC runs the rpc program for all of its commands.
func startRPC(t testing.TB, cfg Config, args ...string) (*Set, ask, func()) {
	t.Helper()
	w := worker(schema.Method{Stdio: self(t, "rpc", args...)}, "echo", "request", "env", "pid", "hang", "canceled",
		"error", "say", "die", "close", "long", "big", "child", "call", "call-for", "call-cancel", "unknown")
	set, stop := runSet(t, w, cfg)
	return set, func(command, payload string) (string, error) {
		h, ok := set.Handler(command)
		if !ok {
			t.Fatalf("no handler of %q", command)
		}
		return handle(t, h, request(command, payload))
	}, stop
}

func TestStdioRequest(t *testing.T) {
	_, ask, _ := startRPC(t, Config{})
	if got, err := ask("echo", "{\"a\":\n[1,\n2]}"); err != nil || got != `{"a":[1,2]}` {
		t.Errorf("got %s, %v", got, err)
	}
	out, err := ask("request", `{"n":1}`)
	if err != nil {
		t.Fatal(err)
	}
	var got struct {
		JSONRPC, Method string
		ID              uint64
		Params          requestParams
	}
	if err := json.Unmarshal([]byte(out), &got); err != nil {
		t.Fatal(err)
	}
	deadline, err := time.Parse(time.RFC3339Nano, got.Params.Deadline)
	if err != nil || time.Until(deadline) > patience || time.Until(deadline) < 0 {
		t.Errorf("deadline %q, %v", got.Params.Deadline, err)
	}
	got.Params.Deadline = ""
	want := requestParams{Payload: got.Params.Payload, Command: "request", Worker: "shop", Variant: "s1", Caller: "till/t1", UID: "uid-1"}
	if got.JSONRPC != "2.0" || got.Method != "request" || got.ID == 0 || string(got.Params.Payload) != `{"n":1}` ||
		fmt.Sprint(got.Params) != fmt.Sprint(want) {
		t.Errorf("got %s", out)
	}
}

func TestStdioManyAtOnce(t *testing.T) {
	_, ask, _ := startRPC(t, Config{})
	var wg sync.WaitGroup
	for g := range 20 {
		wg.Go(func() {
			for n := range 25 {
				payload := fmt.Sprintf(`{"g":%d,"n":%d}`, g, n)
				if got, err := ask("echo", payload); err != nil || got != payload {
					t.Errorf("got %s, %v; want %s", got, err, payload)
				}
			}
		})
	}
	wg.Wait()
}

func TestStdioEnvironment(t *testing.T) {
	t.Setenv("MESHCTL_PRIVATE_KEY", "hush")
	_, ask, _ := startRPC(t, Config{Env: Env{Status: func() Status { return Status{Worker: "shop", Variant: "s1"} }}})
	out, err := ask("env", `{}`)
	if err != nil || strings.Contains(out, "hush") || !strings.Contains(out, `"MESH_WORKER=shop"`) || !strings.Contains(out, `"MESH_VARIANT=s1"`) {
		t.Errorf("got %s, %v", out, err)
	}
}

func TestStdioErrors(t *testing.T) {
	_, ask, _ := startRPC(t, Config{})
	for payload, want := range map[string]wire.Error{
		`{"code":-32000,"message":"out of stock"}`:                                                         {Code: wire.CodeHandlerError, Message: "out of stock"},
		`{"code":-32000,"message":""}`:                                                                     {Code: wire.CodeHandlerError, Message: "the program answered with error -32000"},
		`{"code":-32601,"message":"what?"}`:                                                                {Code: wire.CodeUnknownCommand, Message: "what?"},
		`{"code":-32602,"message":"no item"}`:                                                              {Code: wire.CodeBadRequest, Message: "no item"},
		`{"code":1,"message":"busy","data":{"code":"overloaded","temporary":true}}`:                        {Code: wire.CodeOverloaded, Message: "busy", Temporary: true},
		`{"code":1,"message":"lies","data":{"code":"no_variant"}}`:                                         {Code: wire.CodeHandlerError, Message: "lies"},
		`{"code":1,"message":"odd data","data":[1]}`:                                                       {Code: wire.CodeHandlerError, Message: "odd data"},
		`{"code":1e400,"message":"odd code"}`:                                                              {Code: wire.CodeHandlerError, Message: "odd code"},
		`{"code":1,"message":"` + strings.Repeat("x", 3*messageLimit) + `","data":{"code":"bad_request"}}`: {Code: wire.CodeBadRequest, Message: strings.Repeat("x", messageLimit)},
	} {
		_, err := ask("error", payload)
		var e *wire.Error
		if !errors.As(err, &e) || *e != want {
			t.Errorf("%.80s: got %.80v, want %.80v", payload, err, &want)
		}
	}
	if _, err := ask("unknown", `{}`); wire.CodeOf(err) != wire.CodeUnknownCommand {
		t.Errorf("unknown: got %v", err)
	}
}

func TestStdioSharesOneProcess(t *testing.T) {
	same := schema.Method{Stdio: self(t, "rpc")}
	other := schema.Method{Stdio: self(t, "rpc", "other")}
	env := schema.Method{Stdio: self(t, "rpc"), Env: []string{"SHOP"}}
	w := worker(same, "echo", "pid", "request")
	w.Commands["hang"] = &schema.Command{Name: "hang", Method: &other}
	w.Commands["env"] = &schema.Command{Name: "env", Method: &env}
	w.Commands["say"] = &schema.Command{Name: "say"} // no method: somebody else answers it
	set, stop := runSet(t, w, Config{})
	if n := len(set.Programs()); n != 3 {
		t.Errorf("%d processes, want 3", n)
	}
	if _, ok := set.Handler("say"); ok {
		t.Error("a command without a method has a handler")
	}
	h, _ := set.Handler("pid")
	out, err := handle(t, h, request("pid", `{}`))
	var pid int
	if err != nil || json.Unmarshal([]byte(out), &pid) != nil {
		t.Fatalf("got %s, %v", out, err)
	}
	stop()
	if !gone(pid) {
		t.Error("the program outlived Run")
	}
	if _, err := handle(t, h, request("pid", `{}`)); wire.CodeOf(err) != wire.CodeOverloaded {
		t.Errorf("after Run: %v, want overloaded", err)
	}
}

func TestNewSetReportsAllErrors(t *testing.T) {
	w := worker(schema.Method{Builtin: "nonsense"}, "one", "two")
	_, err := NewSet(w, Config{})
	if err == nil || !strings.Contains(err.Error(), `"one"`) || !strings.Contains(err.Error(), `"two"`) || !strings.Contains(err.Error(), `"shop"`) {
		t.Errorf("got %v", err)
	}
}

func TestStdioRunnerOfOne(t *testing.T) {
	h := newHandler(t, schema.Method{Stdio: self(t, "rpc")}, Config{})
	run, ok := h.(Runner)
	if !ok {
		t.Fatalf("%T is no Runner", h)
	}
	var e *wire.Error
	if _, err := handle(t, h, request("echo", `1`)); !errors.As(err, &e) || e.Code != wire.CodeOverloaded || !e.Temporary {
		t.Errorf("before Run: %v, want overloaded", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- run.Run(ctx) }()
	eventually(t, "it answers", func() bool {
		got, err := handle(t, h, request("echo", `1`))
		return err == nil && got == "1"
	})
	if err := run.Run(ctx); err == nil {
		t.Error("a second Run did not fail")
	}
	cancel()
	if err := <-ended; err != nil {
		t.Errorf("Run: %v", err)
	}
}

// TestStdioCancel has a request time out and wants the program told, once.
func TestStdioCancel(t *testing.T) {
	set, ask, _ := startRPC(t, Config{})
	h, _ := set.Handler("hang")
	if err := cancelInFlight(t, set, h, request("hang", `{}`)); wire.CodeOf(err) != wire.CodeCanceled {
		t.Errorf("got %v, want canceled", err)
	}
	eventually(t, "the program was told", func() bool {
		got, err := ask("canceled", `{}`)
		return err == nil && got == `[1]`
	})
}

// TestStdioRestart kills the program with requests in flight.
func TestStdioRestart(t *testing.T) {
	var log syncBuffer
	set, ask, _ := startRPC(t, Config{Logger: slog.New(slog.NewTextHandler(&log, nil))})
	const hanging = 5
	results := make(chan error, hanging+1)
	for range hanging {
		go func() {
			_, err := ask("hang", `{}`)
			results <- err
		}()
	}
	eventually(t, "all hang", func() bool { return inFlight(set) == hanging })
	go func() {
		_, err := ask("die", `{}`)
		results <- err
	}()
	for range hanging + 1 {
		select {
		case err := <-results:
			var e *wire.Error
			if !errors.As(err, &e) || e.Code != wire.CodeHandlerError || e.Temporary ||
				!strings.HasPrefix(e.Message, "the program ended: exit status 4: ") || !strings.HasSuffix(e.Message, "cannot go on") {
				t.Errorf("got %v", err)
			}
		case <-time.After(patience / 2):
			t.Fatal("requests in flight do not fail at once")
		}
	}
	eventually(t, "it is up again", func() bool {
		got, err := ask("echo", `"again"`)
		if err != nil && !errors.Is(err, &wire.Error{Code: wire.CodeOverloaded}) {
			t.Errorf("while it was down: %v", err)
		}
		return got == `"again"`
	})
	if st := set.Programs()[0]; st.Starts != 2 || !st.Up {
		t.Errorf("got %+v", st)
	}
	for _, want := range []string{"rpc program is up", "cannot go on", "program ended", "restart_in"} {
		if !strings.Contains(log.String(), want) {
			t.Errorf("%q was not logged", want)
		}
	}
}

// TestStdioBreaks has the program break in ways that its end does not show at once.
func TestStdioBreaks(t *testing.T) {
	for command, want := range map[string]string{
		"close": "the program ended: signal: terminated",
		"long":  "the program was stopped: it wrote a line of more than",
	} {
		t.Run(command, func(t *testing.T) {
			_, ask, _ := startRPC(t, Config{})
			eventually(t, "it was told to end, and got to do so before it was killed", func() bool {
				_, err := ask(command, `{}`)
				if wire.CodeOf(err) == wire.CodeOverloaded {
					return false // it is not up yet
				}
				if wire.CodeOf(err) != wire.CodeHandlerError || !strings.Contains(err.Error(), want) && !strings.Contains(err.Error(), "signal: killed") {
					t.Fatalf("got %v, want %s", err, want)
				}
				return strings.Contains(err.Error(), want)
			})
			eventually(t, "it is up again", func() bool {
				got, _ := ask("echo", `1`)
				return got == `1`
			})
		})
	}
}

func TestStdioHostileLines(t *testing.T) {
	var log syncBuffer
	set, ask, _ := startRPC(t, Config{Logger: slog.New(slog.NewTextHandler(&log, nil))})
	for _, tt := range []struct {
		line             string
		malformed, stray uint64
	}{
		{"", 0, 0},
		{"hello", 1, 0},
		{"[]", 1, 0},
		{`[{"jsonrpc":"2.0","id":ID,"result":1}]`, 1, 0},
		{`{"jsonrpc":"1.0","id":ID,"result":1}`, 1, 0},
		{`{"jsonrpc":"2.0","id":ID}`, 1, 0},
		{`{"jsonrpc":"2.0","id":null,"result":1}`, 1, 0},
		{`{"jsonrpc":"2.0","id":"ID","result":1}`, 1, 0},
		{`{"jsonrpc":"2.0","id":-1,"result":1}`, 1, 0},
		{`{"jsonrpc":"2.0","id":ID,"result":1,"error":{"code":1,"message":"x"}}`, 1, 0},
		{`{"jsonrpc":"2.0","id":1e3,"result":1}`, 1, 0},
		{`{"jsonrpc":"2.0","id":{},"method":"call"}`, 1, 0},
		{strings.Repeat("[", 100000), 1, 0},
		{`{"jsonrpc":"2.0","id":18446744073709551615,"result":1}`, 0, 1},
		{`{"jsonrpc":"2.0","id":999999,"error":{"code":1,"message":"x"}}`, 0, 1},
		{`{"jsonrpc":"2.0","method":"what"}`, 0, 0},
		{`{"jsonrpc":"2.0","method":"cancel","params":{"id":7}}`, 0, 0},
		{`{"jsonrpc":"2.0","method":"cancel","params":[]}`, 0, 0},
		{`{"jsonrpc":"2.0","method":"call"}`, 0, 0},
		{`{"jsonrpc":"2.0","method":"log","params":{"level":"warn","message":"low stock"}}`, 0, 0},
		{`{"jsonrpc":"2.0","id":ID,"result":"said"}`, 0, 1}, // and the program's own response is the second
	} {
		payload, _ := json.Marshal(tt.line)
		before := set.Programs()[0]
		if got, err := ask("say", string(payload)); err != nil || got != `"said"` {
			t.Errorf("%.60s: got %s, %v", tt.line, got, err)
		}
		eventually(t, "all was counted", func() bool {
			now := set.Programs()[0]
			return now.Malformed == before.Malformed+tt.malformed && now.Stray == before.Stray+tt.stray
		})
	}
	if st := set.Programs()[0]; st.Starts != 1 {
		t.Errorf("the program was started %d times", st.Starts)
	}
	if n := strings.Count(log.String(), "malformed line"); n < 1 || n > 8 {
		t.Errorf("%d malformed lines were logged; the rate was to be limited", n)
	}
	if !strings.Contains(log.String(), `level=WARN msg="program logged"`) || !strings.Contains(log.String(), "low stock") {
		t.Error("the log notification was not logged")
	}
}

func TestStdioMaxOutput(t *testing.T) {
	m := schema.Method{Stdio: self(t, "rpc"), MaxOutput: 5 << 10}
	w := worker(m, "big", "echo")
	set, _ := runSet(t, w, Config{})
	h, _ := set.Handler("big")
	_, err := handle(t, h, request("big", `{}`))
	if wire.CodeOf(err) != wire.CodeHandlerError || !strings.Contains(err.Error(), "output exceeds 5120 bytes") {
		t.Errorf("got %v", err)
	}
	if st := set.Programs()[0]; st.Starts != 1 || !st.Up {
		t.Errorf("got %+v", st)
	}
}

// TestStdioDeaf fills a program's stdin that is never read.
func TestStdioDeaf(t *testing.T) {
	w := worker(schema.Method{Stdio: self(t, "rpc", "deaf")}, "echo")
	set, stop := runSet(t, w, Config{})
	h, _ := set.Handler("echo")
	big := `"` + strings.Repeat("x", 256<<10) + `"`
	sawTemporary := false
	for range 3 {
		r := request("echo", big)
		r.Deadline = time.Now().Add(100 * time.Millisecond)
		_, err := handle(t, h, r)
		var e *wire.Error
		if !errors.As(err, &e) || e.Code != wire.CodeTimeout {
			t.Fatalf("got %v, want timeout", err)
		}
		sawTemporary = sawTemporary || e.Temporary
	}
	if !sawTemporary {
		t.Error("no request was known not to have been written")
	}
	s := set.processes[0].session.Load()
	s.mu.Lock()
	for _, o := range s.out {
		if len(o.data) > 1000 {
			t.Error("a request that nobody waits for is still to be written")
		}
	}
	s.mu.Unlock()
	began := time.Now()
	stop() // SIGTERM after a second
	if d := time.Since(began); d < stdioTerm/2 || d > patience/2 {
		t.Errorf("the end took %v", d)
	}
}

// TestStdioStop ends a program that takes no notice of the end of stdin or SIGTERM,
// and has a child of the same kind.
func TestStdioStop(t *testing.T) {
	set, ask, stop := startRPC(t, Config{}, "stay")
	file := filepath.Join(t.TempDir(), "pid")
	if _, err := ask("child", string(mustJSON(file))); err != nil {
		t.Fatal(err)
	}
	child := pidIn(t, file)
	hung := make(chan error, 1)
	go func() {
		_, err := ask("hang", `{}`)
		hung <- err
	}()
	eventually(t, "it hangs", func() bool { return inFlight(set) == 1 })
	began := time.Now()
	stop()
	if d := time.Since(began); d < stdioTerm || d > patience/2 {
		t.Errorf("the end took %v", d)
	}
	if err := <-hung; wire.CodeOf(err) != wire.CodeHandlerError || !strings.Contains(err.Error(), "signal: killed") {
		t.Errorf("in flight: %v", err)
	}
	eventually(t, "the child is gone", func() bool { return gone(child) })
}

func TestStdioStartFails(t *testing.T) {
	var log syncBuffer
	file := filepath.Join(t.TempDir(), "program")
	if err := os.WriteFile(file, []byte("#!/bin/sh\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	h := newHandler(t, schema.Method{Stdio: []string{file}}, Config{Logger: slog.New(slog.NewTextHandler(&log, nil))})
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- h.(Runner).Run(ctx) }()
	eventually(t, "it was tried again", func() bool { return strings.Count(log.String(), "start program") >= 2 })
	cancel()
	if err := <-ended; err != nil {
		t.Errorf("Run: %v", err)
	}
}

func TestJitter(t *testing.T) {
	for range 1000 {
		if d := jitter(restartMax); d > restartMax || d < restartMax*3/4-1 {
			t.Fatalf("got %v", d)
		}
	}
}
