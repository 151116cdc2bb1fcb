//go:build unix

package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/meshctl/meshctl/internal/mesh/link"
	"github.com/meshctl/meshctl/internal/mesh/meshtest"
	"github.com/meshctl/meshctl/internal/mesh/node"
	"github.com/meshctl/meshctl/internal/mesh/seal"
	"github.com/meshctl/meshctl/internal/mesh/wire"
	"github.com/meshctl/meshctl/internal/redisdb/redistest"
)

const schema = `
caller: {_allow: [], _connect: [answerer], _commands: {}}
answerer:
  _allow: [caller]
  _commands: {_balanced: {echo: {responds: true, method: {builtin: echo}}}}
`

// fleet is three masters, each a process of its own, that share a registry.
type fleet struct {
	t      *testing.T
	dir    string
	ports  []string
	master []*process
	redis  string
	ring   *seal.Ring // of all nodes in this process
}

func startFleet(t *testing.T) *fleet {
	f := &fleet{t: t, dir: t.TempDir(), redis: redistest.Start(t).URL(), master: make([]*process, 3)}
	if err := os.WriteFile(filepath.Join(f.dir, "schema.yaml"), []byte(schema), 0o600); err != nil {
		t.Fatal(err)
	}
	var err error
	if f.ring, err = seal.NewRing([]seal.Keys{meshtest.Keys}, nil); err != nil {
		t.Fatal(err)
	}
	for i := range f.master {
		f.ports = append(f.ports, freePort(t))
		f.start(i)
	}
	for i := range f.master {
		f.awaitList(i, 0)
	}
	return f
}

func (f *fleet) start(i int) {
	f.master[i] = run(f.t, f.dir, "serve-master", "--schema", filepath.Join(f.dir, "schema.yaml"), "--host", "127.0.0.1",
		"--port", f.ports[i], "--discovery-port", "0", "--redis", f.redis, "--heartbeat", "wan", "--log-level", "error")
}

// end ends a master with SIGTERM, or SIGKILL, and waits for it.
func (f *fleet) end(i int, s syscall.Signal) {
	f.t.Helper()
	signal(f.t, f.master[i], s)
	_ = f.master[i].Wait()
}

func (f *fleet) addresses() string {
	var all []string
	for _, p := range f.ports {
		all = append(all, "127.0.0.1:"+p)
	}
	return strings.Join(all, ",")
}

// settings are those of every node: all in one process, which may not get to run for long.
func (f *fleet) settings(c *node.Config) {
	c.Master, c.Ring, c.Heartbeat = f.addresses(), f.ring, link.HeartbeatWAN
}

// list asks one master who there is.
func (f *fleet) list(i int) ([]wire.NodeInfo, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	op, err := node.Connect(ctx, node.Config{Ring: f.ring, Master: "127.0.0.1:" + f.ports[i], Logger: meshtest.Log(f.t, "operator")})
	if err != nil {
		return nil, err
	}
	defer op.Close()
	return op.Nodes(ctx)
}

// awaitList waits until a master lists so many nodes, none of them without a master, and
// says how long that took.
func (f *fleet) awaitList(i, count int) time.Duration {
	f.t.Helper()
	began := time.Now()
	var last string
	meshtest.WaitFor(f.t, func() bool {
		nodes, err := f.list(i)
		detached := 0
		for _, n := range nodes {
			if n.Detached {
				detached++
			}
		}
		last = fmt.Sprintf("%d nodes, %d detached, %v", len(nodes), detached, err)
		return err == nil && len(nodes) == count && detached == 0
	}, func() string { return fmt.Sprintf("master %d to list %d nodes; it has %s", i, count, last) })
	return time.Since(began)
}

// Three masters are restarted one after another, in order and then with SIGKILL, under calls
// between 100 nodes: no link may drop, no call may fail, and whoever comes or goes meanwhile
// is known to all.
func TestRollingRestartOfMasters(t *testing.T) {
	const count = 100
	f := startFleet(t)
	var watched atomic.Bool
	leaving := "answerer/leaves"
	enter := func(worker, variant string, options ...func(*node.Config)) *node.Node {
		return join(t, f.ports[0], schema, worker, variant, node.Hooks{OnDisconnection: func(p wire.Peer) {
			if watched.Load() && p.Name() != leaving {
				t.Errorf("%s lost %s", variant, p.Name())
			}
		}}, append(options, f.settings)...)
	}
	leaver := enterAndLeave(t, f)
	const callers = 3
	var nodes, calling []*node.Node
	for i := range count - callers {
		nodes = append(nodes, enter("answerer", fmt.Sprintf("b%d", i)))
	}
	for i := range callers {
		calling = append(calling, enter("caller", fmt.Sprintf("a%d", i)))
	}
	linked := func(links int) func() bool {
		return func() bool {
			for _, c := range calling {
				if len(c.Peers()) != links {
					return false
				}
			}
			return true
		}
	}
	links := count - callers + 1
	meshtest.WaitFor(t, linked(links), func() string { return "all links" })
	for i := range f.master {
		f.awaitList(i, count+1)
	}
	watched.Store(true)

	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	var calls atomic.Int64
	var wg sync.WaitGroup
	for i := range 2 * callers {
		wg.Go(func() {
			for ctx.Err() == nil {
				if _, err := calling[i%callers].Call(context.Background(), "answerer.echo", json.RawMessage(`{"n":1}`), node.CallOptions{Timeout: 30 * time.Second}); err != nil {
					t.Errorf("call %d: %v", calls.Load(), err)
					return
				}
				calls.Add(1)
				time.Sleep(time.Millisecond) // the rest of the machine has something to do, too
			}
		})
	}
	ready := func() bool {
		for _, n := range append(nodes, calling...) {
			if !n.Ready() {
				return false
			}
		}
		return true
	}
	for round, how := range []syscall.Signal{syscall.SIGTERM, syscall.SIGKILL} {
		for i := range f.master {
			f.end(i, how)
			// One comes while a master is away, and is linked to by everybody.
			began := time.Now()
			nodes = append(nodes, enter("answerer", fmt.Sprintf("new%d-%d", round, i)))
			links++
			meshtest.WaitFor(t, linked(links), func() string { return "links to the node that came" })
			came := time.Since(began)
			meshtest.WaitFor(t, ready, func() string { return "all nodes to have a master" })
			moved := time.Since(began)
			f.start(i)
			var listed []string
			for k := range f.master {
				listed = append(listed, f.awaitList(k, len(nodes)+callers+1).Round(time.Millisecond).String())
			}
			t.Logf("%s of master %d: a node that came was linked to by all after %s, all nodes were at another master after %s; lists whole after %s",
				how, i, came.Round(time.Millisecond), moved.Round(time.Millisecond), strings.Join(listed, ", "))
		}
	}
	// One leaves, and is gone everywhere.
	leaver()
	for i := range f.master {
		t.Logf("a node that left is out of the list of master %d after %s", i, f.awaitList(i, len(nodes)+callers).Round(time.Millisecond))
	}
	meshtest.WaitFor(t, linked(links-1), func() string { return "the link to the node that left to end" })
	stop()
	wg.Wait()
	watched.Store(false)
	t.Logf("%d calls", calls.Load())
}

// enterAndLeave has a node join that leaves when what is given is called.
func enterAndLeave(t *testing.T, f *fleet) func() {
	cfg := node.Config{Worker: "answerer", Variant: "leaves", Host: "127.0.0.1", Schema: meshtest.Parse(t, schema), Logger: meshtest.Log(t, "leaves")}
	f.settings(&cfg)
	n, err := node.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- n.Run(ctx) }()
	leave := sync.OnceFunc(func() {
		cancel()
		if err := meshtest.Await(t, done, "the node to leave"); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(leave)
	meshtest.Await(t, n.Connected(), "the node to join")
	return leave
}
