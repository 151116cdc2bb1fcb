package node_test

import (
	"context"
	"encoding/json"
	"net"
	"sync/atomic"
	"testing"
	"time"

	"github.com/meshctl/meshctl/internal/mesh/meshtest"
	"github.com/meshctl/meshctl/internal/mesh/node"
	"github.com/meshctl/meshctl/internal/mesh/wire"
)

// A Redis that says nothing is no matter of commands that do not go by way of it, and of a job
// only as long as its caller waits.
func TestOperatorWithSilentRedis(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	var asked atomic.Int64
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			asked.Add(1)
			defer c.Close()
		}
	}()
	m := meshtest.New(t, `
mailer:
  _allow: anyNode
  _commands: {_balanced: {send: {queued: true, responds: false, method: {builtin: echo}}, ping: {method: {builtin: echo}}}}
`)
	m.Join("mailer", "a")
	op := m.Operator(func(c *node.Config) { c.Redis, c.Mesh = "redis://"+l.Addr().String()+"/0", "mesh" })
	if r, err := op.Call(t.Context(), "mailer.ping", json.RawMessage(`1`), node.CallOptions{Timeout: 30 * time.Second}); err != nil || string(r.Replies[0].Result) != "1" {
		t.Errorf("a command that is not queued: %v", err)
	}
	if n := asked.Load(); n > 0 {
		t.Errorf("Redis was asked %d times for a command that is not queued", n)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	_, err = op.Call(ctx, "mailer.send", json.RawMessage(`1`), node.CallOptions{})
	if wire.CodeOf(err) != wire.CodeUnavailable {
		t.Errorf("a job: %v, want unavailable", err)
	}
	meshtest.WaitFor(t, func() bool { return asked.Load() > 0 }, func() string { return "Redis to be asked for a job" })
}
