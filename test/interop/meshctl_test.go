package interop

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"testing"
	"time"

	"github.com/meshctl/meshctl/internal/mesh/handler"
	"github.com/meshctl/meshctl/internal/mesh/master"
	"github.com/meshctl/meshctl/internal/mesh/meshtest"
	"github.com/meshctl/meshctl/internal/mesh/node"
	"github.com/meshctl/meshctl/internal/mesh/schema"
	"github.com/meshctl/meshctl/internal/mesh/seal"
	"github.com/meshctl/meshctl/internal/mesh/wire"
)

// heartbeat is the silence that masters and nodes here bear, unless a test is about it: a JavaScript
// peer derives keys where it answers heartbeats, and on a busy machine one takes seconds.
const heartbeat = 10 * time.Second

// goMaster is a meshctl master in this process.
type goMaster struct {
	*eventLog // its log records
	*master.Master
	port int
	stop func()
}

// goNode is a meshctl node in this process. It reports "declared", "connection" (its
// first link to a peer), "disconnection" (its last one) and "command".
type goNode struct {
	*eventLog
	*node.Node
	stop func()
}

func parse(t testing.TB, o options) *schema.Schema {
	t.Helper()
	text, err := json.Marshal(o)
	if err != nil {
		t.Fatal(err)
	}
	s, err := schema.Parse("schema.json", text)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func (k keys) seal() seal.Keys { return seal.Keys{Public: k.public, Private: k.private} }

// Write takes a log record.
func (l *eventLog) Write(p []byte) (int, error) {
	l.add(event{Event: "log", line: string(p[:len(p)-1])})
	return len(p), nil
}

func (l *eventLog) logger() *slog.Logger {
	return slog.New(slog.NewTextHandler(l, &slog.HandlerOptions{Level: slog.LevelDebug}))
}

// background runs a role until the test ends or the function that it returns is called.
func background(t testing.TB, l *eventLog, run func(context.Context) error) func() {
	ctx, cancel := context.WithCancel(context.Background())
	go func() {
		defer l.end()
		if err := run(ctx); err != nil {
			t.Errorf("%s: %v", l.name, err)
		}
	}()
	stop := func() { cancel(); <-l.ended }
	t.Cleanup(func() {
		stop()
		if t.Failed() {
			t.Logf("%s:\n%s", l.name, l)
		}
	})
	return stop
}

func startMaster(t testing.TB, k keys, o options, change ...func(*master.Config)) *goMaster {
	t.Helper()
	l := newEventLog(t, "meshctl master")
	cfg := master.Config{Keys: k.seal(), Schema: parse(t, o), Host: "127.0.0.1", Heartbeat: heartbeat, Logger: l.logger()}
	for _, f := range change {
		f(&cfg)
	}
	m, err := master.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	stop := background(t, l, m.Run)
	select {
	case <-m.Ready():
	case <-l.ended:
		t.Fatal("the master ended")
	}
	return &goMaster{eventLog: l, Master: m, port: m.Addr().(*net.TCPAddr).Port, stop: stop}
}

// withDiscovery turns discovery on.
func withDiscovery(port int) func(*master.Config) {
	return func(c *master.Config) { c.DiscoveryPort = port }
}

// discovering has a node ask for the master's port.
func discovering(port int) func(*node.Config) {
	return func(c *node.Config) { c.Master, c.DiscoveryPort = "127.0.0.1", port }
}

// awaitNodes waits until the master has so many nodes.
func (m *goMaster) awaitNodes(t testing.TB, n int) {
	t.Helper()
	meshtest.WaitFor(t, func() bool { return len(m.Nodes()) == n }, func() string {
		return fmt.Sprintf("the master has %+v, want %d nodes", m.Nodes(), n)
	})
}

func startNode(t testing.TB, k keys, o options, masterPort int, worker, variant string, change ...func(*node.Config)) *goNode {
	t.Helper()
	n := launchGo(t, k, o, masterPort, worker, variant, change...)
	n.await("declared")
	return n
}

// launchGo starts a meshctl node and does not wait for a master to accept it.
func launchGo(t testing.TB, k keys, o options, masterPort int, worker, variant string, change ...func(*node.Config)) *goNode {
	t.Helper()
	l := newEventLog(t, fmt.Sprintf("meshctl %s/%s", worker, variant))
	tell := func(kind string) func(wire.Peer) {
		return func(p wire.Peer) {
			l.add(event{
				Event: kind, Worker: p.Worker, Variant: p.Variant, IP: p.IP, Port: p.Port, Extra: p.Meshctl != nil,
				line: fmt.Sprintf("%s %+v", kind, p),
			})
		}
	}
	cfg := node.Config{
		Keys: k.seal(), Schema: parse(t, o), Worker: worker, Variant: variant,
		Master: fmt.Sprintf("127.0.0.1:%d", masterPort), Host: "127.0.0.1", Heartbeat: heartbeat, Logger: l.logger(),
		Handlers: answers(l, parse(t, o), worker, variant),
		Hooks:    node.Hooks{OnConnected: tell("declared"), OnConnection: tell("connection"), OnDisconnection: tell("disconnection")},
	}
	for _, f := range change {
		f(&cfg)
	}
	n, err := node.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	stop := background(t, l, n.Run)
	return &goNode{eventLog: l, Node: n, stop: stop}
}

// answers makes handlers that do as those of the JavaScript nodes, except that a
// handler of meshctl gets the payload itself.
func answers(l *eventLog, s *schema.Schema, worker, variant string) map[string]handler.Handler {
	handlers := make(map[string]handler.Handler)
	for name := range s.Workers[worker].Commands {
		handlers[name] = handler.Func(func(ctx context.Context, r *handler.Request) (json.RawMessage, error) {
			l.add(event{
				Event: "command", Name: r.Command, UID: r.UID, From: r.Caller, Message: slices.Clone(r.Payload),
				line: fmt.Sprintf("command %s %s from %s", r.Command, r.Payload, r.Caller),
			})
			switch name {
			case "slow":
				<-ctx.Done()
				return nil, ctx.Err()
			case "boom":
				return nil, errors.New("handler failed")
			}
			return json.Marshal(answer{Variant: variant, Got: r.Payload})
		})
	}
	return handlers
}

// ask calls a command and returns what each variant replied.
func (n *goNode) ask(target string, payload any, o node.CallOptions) ([]node.Reply, error) {
	n.t.Helper()
	text, err := json.Marshal(payload)
	if err != nil {
		n.t.Fatal(err)
	}
	if o.Timeout == 0 {
		o.Timeout = 20 * time.Second // the JavaScript side may be slow
	}
	result, err := n.Call(context.Background(), target, text, o)
	if err != nil {
		return nil, err
	}
	return result.Replies, nil
}

// repliers checks that every reply is the payload as a JavaScript echo wraps it, and
// lists who replied.
func repliers(t testing.TB, command, payload string, replies []node.Reply) []string {
	t.Helper()
	var from []string
	for _, r := range replies {
		if r.Err != nil {
			t.Fatalf("%s/%s: %v", r.Worker, r.Variant, r.Err)
		}
		wantJSON(t, r.Result, fmt.Sprintf(`{"variant":%q,"got":{%q:%s}}`, r.Variant, command, payload))
		if r.Kind != wire.KindJavaScript {
			t.Errorf("%s/%s is of kind %s", r.Worker, r.Variant, r.Kind)
		}
		from = append(from, r.Variant)
	}
	slices.Sort(from)
	return from
}

// linked starts a meshctl master and node and a JavaScript node, and waits until the nodes
// are linked.
func linked(t testing.TB, sio int, d dials, change ...func(*node.Config)) (k keys, left *peer, right *goNode) {
	t.Helper()
	k = newKeys()
	schema := pair(d)
	master := startMaster(t, k, schema)
	right = startNode(t, k, schema, master.port, "right", "r1", change...)
	left = jsNode(t, sio, k, schema, master.port, "left", "l1", nil)
	right.await("connection", of("left", "l1"))
	left.await("connection", link("right", "r1", d.left))
	return k, left, right
}
