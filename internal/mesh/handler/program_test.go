//go:build unix

package handler

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/meshctl/meshctl/internal/mesh/schema"
)

// TestMain runs the tests or, when a handler started this binary, one of the
// programs below.
func TestMain(m *testing.M) {
	if len(os.Args) > 2 && os.Args[1] == "program" {
		programs[os.Args[2]](os.Args[3:])
		syscall.Exit(0) // without the second that os.Exit takes under the race detector
	}
	goleak.VerifyTestMain(m)
}

// self is the command line of one of the programs below.
func self(t testing.TB, program string, args ...string) []string {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return append([]string{exe, "program", program}, args...)
}

var programs = map[string]func(args []string){
	"cat": func([]string) { _, _ = io.Copy(os.Stdout, os.Stdin) },
	"print": func(args []string) {
		fmt.Print(args[0])
	},
	"env": func([]string) { _ = json.NewEncoder(os.Stdout).Encode(os.Environ()) },
	"exit3": func([]string) {
		fmt.Fprint(os.Stderr, strings.Repeat("ä", 10<<10)+"the end\n")
		syscall.Exit(3)
	},
	"kill-self": func([]string) {
		_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
		select {}
	},
	"flood": func([]string) {
		for {
			if _, err := os.Stdout.Write(make([]byte, 64<<10)); err != nil {
				select {} // the pipe is closed: only a kill ends it
			}
		}
	},
	// stubborn ignores SIGTERM, as does its child, and tells its child's number.
	"stubborn": func(args []string) {
		signal.Ignore(syscall.SIGTERM)
		startChild(args[0])
		time.Sleep(time.Hour)
	},
	// orphan leaves a child behind that holds stdout.
	"orphan": func(args []string) {
		startChild(args[0])
		fmt.Print(`"done"`)
	},
	"child": func([]string) {
		signal.Ignore(syscall.SIGTERM)
		time.Sleep(time.Hour)
	},
	// gate says in a file that it has begun and waits until another is there.
	"gate": func(args []string) {
		f, _ := os.CreateTemp(args[0], "began")
		_ = f.Close()
		for {
			if _, err := os.Stat(args[0] + "/open"); err == nil {
				return
			}
			time.Sleep(5 * time.Millisecond)
		}
	},
	"rpc": rpcProgram,
}

// startChild writes the number of the child to file, when the child is there.
func startChild(file string) {
	exe, _ := os.Executable()
	child := exec.Command(exe, "program", "child")
	child.Stdout, child.Stderr = os.Stdout, os.Stderr
	if err := child.Start(); err != nil {
		panic(err)
	}
	if err := os.WriteFile(file+".tmp", fmt.Append(nil, child.Process.Pid), 0o600); err != nil {
		panic(err)
	}
	_ = os.Rename(file+".tmp", file)
}

// rpcProgram is a stdio program that can misbehave. Requests run at once.
func rpcProgram(args []string) {
	if len(args) > 0 && args[0] == "deaf" {
		time.Sleep(time.Hour)
	}
	fmt.Fprintln(os.Stderr, "rpc program is up")
	var mu sync.Mutex
	canceled := []json.RawMessage{}
	answers := map[string]chan string{} // to its own calls
	say := func(format string, a ...any) {
		mu.Lock()
		defer mu.Unlock()
		fmt.Printf(format+"\n", a...)
	}
	in := bufio.NewScanner(os.Stdin)
	in.Buffer(nil, 4<<20)
	for in.Scan() {
		var m struct {
			ID     json.RawMessage
			Method string
			Params struct {
				ID      json.RawMessage
				Payload json.RawMessage
				Target  string
			}
		}
		if err := json.Unmarshal(in.Bytes(), &m); err != nil {
			panic(err)
		}
		id, text := m.ID, in.Text()
		switch m.Method {
		case "":
			mu.Lock()
			answers[string(id)] <- text
			mu.Unlock()
		case "cancel":
			mu.Lock()
			canceled = append(canceled, m.Params.ID)
			mu.Unlock()
		case "echo":
			say(`{"jsonrpc":"2.0","id":%s,"result":%s}`, id, m.Params.Payload)
		case "request": // the request as it came
			say(`{"jsonrpc":"2.0","id":%s,"result":%s}`, id, text)
		case "env":
			env, _ := json.Marshal(os.Environ())
			say(`{"jsonrpc":"2.0","id":%s,"result":%s}`, id, env)
		case "pid":
			say(`{"jsonrpc":"2.0","id":%s,"result":%d}`, id, os.Getpid())
		case "hang":
		case "canceled":
			mu.Lock()
			list, _ := json.Marshal(canceled)
			mu.Unlock()
			say(`{"jsonrpc":"2.0","id":%s,"result":%s}`, id, list)
		case "error": // the payload is the error
			say(`{"jsonrpc":"2.0","id":%s,"error":%s}`, id, m.Params.Payload)
		case "say": // the payload is a string to write first
			var s string
			_ = json.Unmarshal(m.Params.Payload, &s)
			say("%s", strings.ReplaceAll(s, "ID", string(id)))
			say(`{"jsonrpc":"2.0","id":%s,"result":"said"}`, id)
		case "die":
			fmt.Fprintln(os.Stderr, "cannot go on")
			syscall.Exit(4)
		case "close":
			_ = os.Stdout.Close()
		case "long":
			say("%s", strings.Repeat("x", 2<<20))
		case "big":
			say(`{"jsonrpc":"2.0","id":%s,"result":"%s"}`, id, strings.Repeat("x", 10<<10))
		case "child":
			var file string
			_ = json.Unmarshal(m.Params.Payload, &file)
			signal.Ignore(syscall.SIGTERM)
			startChild(file)
			say(`{"jsonrpc":"2.0","id":%s,"result":null}`, id)
		case "call", "call-for": // the payload is the params of a call; the result is the answer
			params := string(m.Params.Payload)
			if m.Method == "call-for" {
				params = strings.TrimSuffix(params, "}") + `,"for":` + string(id) + "}"
			}
			own := `"own-` + string(id) + `"`
			c := make(chan string, 1)
			mu.Lock()
			answers[own] = c
			mu.Unlock()
			say(`{"jsonrpc":"2.0","id":%s,"method":"call","params":%s}`, own, params)
			go func() { say(`{"jsonrpc":"2.0","id":%s,"result":%s}`, id, <-c) }()
		case "call-cancel": // the same, canceled at once
			own := `"own-` + string(id) + `"`
			c := make(chan string, 1)
			mu.Lock()
			answers[own] = c
			mu.Unlock()
			say(`{"jsonrpc":"2.0","id":%s,"method":"call","params":%s}`, own, m.Params.Payload)
			say(`{"jsonrpc":"2.0","method":"cancel","params":{"id":%s}}`, own)
			go func() { say(`{"jsonrpc":"2.0","id":%s,"result":%s}`, id, <-c) }()
		default:
			say(`{"jsonrpc":"2.0","id":%s,"error":{"code":-32601,"message":"no such method"}}`, id)
		}
	}
	if len(args) > 0 && args[0] == "stay" {
		signal.Ignore(syscall.SIGTERM)
		time.Sleep(time.Hour)
	}
}

// patience bounds each wait; nothing waits so long unless it fails.
const patience = 20 * time.Second

// eventually waits for cond.
func eventually(t testing.TB, what string, cond func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !cond(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("waited in vain until %s", what)
		}
	}
}

// pidIn waits for a process number in file and sees to it that the process ends.
func pidIn(t *testing.T, file string) int {
	t.Helper()
	pid := 0
	eventually(t, "there is a child", func() bool {
		b, err := os.ReadFile(file)
		if err != nil {
			return false
		}
		_, err = fmt.Sscan(string(b), &pid)
		return err == nil
	})
	t.Cleanup(func() { _ = syscall.Kill(pid, syscall.SIGKILL) })
	return pid
}

// gone tells whether no process pid runs; one that nobody waited for yet has ended too.
func gone(pid int) bool {
	if syscall.Kill(pid, 0) != nil {
		return true
	}
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return false
	}
	_, rest, _ := strings.Cut(string(stat), ") ")
	return strings.HasPrefix(rest, "Z")
}

func newHandler(t testing.TB, m schema.Method, cfg Config) Handler {
	t.Helper()
	h, err := New(&schema.Command{Name: "test", Method: &m}, cfg)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

func request(command, payload string) *Request {
	return &Request{
		UID: "uid-1", Worker: "shop", Variant: "s1", Command: command, Caller: "till/t1",
		Payload: json.RawMessage(payload), Deadline: time.Now().Add(patience),
	}
}

// handle asks h with patience.
func handle(t testing.TB, h Handler, r *Request) (string, error) {
	t.Helper()
	ctx, cancel := context.WithDeadline(t.Context(), r.Deadline)
	defer cancel()
	out, err := h.Handle(ctx, r)
	if err == nil && !json.Valid(out) {
		t.Errorf("the result is not JSON: %s", out)
	}
	return string(out), err
}
