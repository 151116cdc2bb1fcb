package e2e

import (
	"context"
	"encoding/json"
	"os"
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
	schemaFile := filepath.Join(dir, "schema.yaml")
	if err := os.WriteFile(schemaFile, []byte(schema), 0o600); err != nil {
		t.Fatal(err)
	}
	port := freePort(t)
	start := func() *process {
		return run(t, dir, "serve-master", "--schema", schemaFile, "--host", "127.0.0.1", "--port", port, "--discovery-port", "0")
	}
	master := start()

	var down atomic.Int64
	join := func(worker, variant string) *node.Node {
		return join(t, port, schema, worker, variant, node.Hooks{OnDisconnection: func(wire.Peer) { down.Add(1) }})
	}
	answerers := []*node.Node{join("answerer", "b1"), join("answerer", "b2")}
	caller := join("caller", "a1")
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
		master.kill()
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
