// Package e2e tests what only whole processes show.
package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/meshctl/meshctl/internal/mesh/meshtest"
	"github.com/meshctl/meshctl/internal/mesh/node"
	"github.com/meshctl/meshctl/internal/mesh/wire"
)

const schema = `
caller: {_allow: [], _connect: [answerer], _commands: {}}
answerer:
  _allow: [caller]
  _commands: {_balanced: {echo: {responds: true, method: {builtin: echo}}}}
`

// The master is killed with SIGKILL and started again, over and over, while nodes call
// each other: no call may fail and no link may drop. MESHCTL_E2E_DURATION makes it
// longer than the 6 s of an ordinary run.
func TestMasterKilledUnderCalls(t *testing.T) {
	duration := 6 * time.Second
	if text := os.Getenv("MESHCTL_E2E_DURATION"); text != "" {
		var err error
		if duration, err = time.ParseDuration(text); err != nil {
			t.Fatal(err)
		}
	}
	dir := t.TempDir()
	binary := filepath.Join(dir, "meshctl")
	if out, err := exec.Command("go", "build", "-o", binary, "../../cmd/meshctl").CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	schemaFile := filepath.Join(dir, "schema.yaml")
	if err := os.WriteFile(schemaFile, []byte(schema), 0o600); err != nil {
		t.Fatal(err)
	}
	port := freePort(t)
	start := func() *exec.Cmd {
		cmd := exec.Command(binary, "serve-master", "--schema", schemaFile, "--host", "127.0.0.1", "--port", port, "--discovery-port", "0")
		cmd.Env = append(os.Environ(), "HOME="+dir, "XDG_CONFIG_HOME="+dir, "MESHCTL_PUBLIC_KEY="+meshtest.Keys.Public, "MESHCTL_PRIVATE_KEY="+meshtest.Keys.Private)
		cmd.Stderr = t.Output()
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		return cmd
	}
	master := start()
	t.Cleanup(func() {
		_ = master.Process.Kill()
		_ = master.Wait()
	})

	var down atomic.Int64
	run := func(worker, variant string) *node.Node {
		n, err := node.New(node.Config{
			Keys: meshtest.Keys, Worker: worker, Variant: variant, Master: "127.0.0.1:" + port, Host: "127.0.0.1",
			Schema: meshtest.Parse(t, schema), Logger: meshtest.Log(t, variant),
			Hooks: node.Hooks{OnDisconnection: func(wire.Peer) { down.Add(1) }},
		})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(context.Background())
		done := make(chan error, 1)
		go func() { done <- n.Run(ctx) }()
		t.Cleanup(func() {
			cancel()
			if err := meshtest.Await(t, done, variant+" to end"); err != nil {
				t.Errorf("%s: %v", variant, err)
			}
		})
		meshtest.Await(t, n.Connected(), variant+" to join")
		return n
	}
	answerers := []*node.Node{run("answerer", "b1"), run("answerer", "b2")}
	caller := run("caller", "a1")
	meshtest.AwaitPeers(t, caller, "answerer/b1", "answerer/b2")

	// The calls go on until the last round has ended, which waits for some.
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	var calls atomic.Int64
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for ctx.Err() == nil {
				r, err := caller.Call(context.Background(), "answerer.echo", json.RawMessage(`{"n":1}`), node.CallOptions{Timeout: 30 * time.Second})
				if err != nil || string(r.Replies[0].Result) != `{"n":1}` {
					t.Errorf("call %d: %v", calls.Load(), err)
					return
				}
				calls.Add(1)
			}
		})
	}
	kills := 0
	for begin := time.Now(); kills < 2 || time.Since(begin) < duration; {
		if err := master.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		_ = master.Wait()
		kills++
		meshtest.WaitFor(t, func() bool { return !caller.Ready() }, func() string { return "the caller to notice" })
		before := calls.Load()
		meshtest.WaitFor(t, func() bool { return calls.Load() > before+100 }, func() string { return "calls without a master" })
		master = start()
		meshtest.WaitFor(t, func() bool {
			return caller.Ready() && answerers[0].Ready() && answerers[1].Ready()
		}, func() string { return "all nodes to come back" })
	}
	stop()
	wg.Wait()
	t.Logf("%d calls in %s, %d kills of the master", calls.Load(), duration, kills)
	if down.Load() != 0 {
		t.Errorf("%d links went down", down.Load())
	}
	var got []string
	for _, p := range caller.Peers() {
		got = append(got, p.Name())
	}
	if strings.Join(got, " ") != "answerer/b1 answerer/b2" {
		t.Errorf("peers at the end: %v", got)
	}
}

func freePort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return fmt.Sprint(l.Addr().(*net.TCPAddr).Port)
}
