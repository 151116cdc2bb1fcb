//go:build unix

package e2e

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/meshctl/meshctl/internal/mesh/link"
	"github.com/meshctl/meshctl/internal/mesh/meshtest"
	"github.com/meshctl/meshctl/internal/mesh/node"
	"github.com/meshctl/meshctl/internal/mesh/wire"
)

// stoppable is a mesh in which an answerer is a process of its own that can be stopped, as
// can the master. What is lost is noted.
type stoppable struct {
	master, answerer *process
	caller           *node.Node

	mu   sync.Mutex
	lost time.Time // when the last link to a node went
}

func startStoppable(t *testing.T) *stoppable {
	dir := t.TempDir()
	schemaFile := filepath.Join(dir, "schema.yaml")
	if err := os.WriteFile(schemaFile, []byte(stoppableSchema), 0o600); err != nil {
		t.Fatal(err)
	}
	port := freePort(t)
	s := &stoppable{}
	s.master = run(t, dir, "serve-master", "--schema", schemaFile, "--host", "127.0.0.1", "--port", port, "--discovery-port", "0")
	s.caller = join(t, port, stoppableSchema, "caller", "a1", node.Hooks{OnDisconnection: func(wire.Peer) {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.lost = time.Now()
	}})
	s.answerer = run(t, dir, "join", "answerer", "--variant", "b1", "--schema", schemaFile, "--master", "127.0.0.1:"+port, "--host", "127.0.0.1")
	meshtest.AwaitPeers(t, s.caller, "answerer/b1")
	return s
}

const stoppableSchema = `
caller: {_allow: [], _connect: [answerer], _commands: {}}
answerer:
  _allow: [caller]
  _commands: {_balanced: {echo: {method: {builtin: echo}}, sleep: {method: {builtin: sleep}}}}
`

func (s *stoppable) lostAt() time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.lost
}

func (s *stoppable) call(name, payload string, timeout time.Duration) error {
	_, err := s.caller.Call(context.Background(), name, json.RawMessage(payload), node.CallOptions{Timeout: timeout})
	return err
}

func signal(t *testing.T, p *process, s syscall.Signal) {
	t.Helper()
	if err := p.Process.Signal(s); err != nil {
		t.Fatal(err)
	}
}

// TestStoppedForGood stops a node and does not let it go on: it is lost in time, and what
// waits for it ends with that. Once it goes on it is linked again. That one who is stopped for a second only is
// lost by nobody is the scenario "stopped" of meshctl chaos.
func TestStoppedForGood(t *testing.T) {
	s := startStoppable(t)
	failed := make(chan time.Time, 1)
	go func() {
		err := s.call("answerer.sleep", `{"ms":60000}`, time.Minute)
		if wire.CodeOf(err) != wire.CodePeerLost {
			t.Errorf("a call under way ended with %v", err)
		}
		failed <- time.Now()
	}()
	time.Sleep(100 * time.Millisecond)
	begun := time.Now()
	signal(t, s.answerer, syscall.SIGSTOP)
	at := meshtest.Await(t, failed, "the call under way to fail")
	meshtest.WaitFor(t, func() bool { return !s.lostAt().IsZero() }, func() string { return "the loss" })
	t.Logf("lost after %s, and the call failed within %s of that", at.Sub(begun), s.lostAt().Sub(at).Abs())
	// Of a machine that has other things to do; without heartbeats it would be a minute.
	const slack = 15 * time.Second
	if took := at.Sub(begun); took > link.HeartbeatLAN+slack || took < 2*time.Second {
		t.Errorf("noticed after %s", took)
	}
	if took := s.lostAt().Sub(at).Abs(); took > 100*time.Millisecond+slack {
		t.Errorf("the call failed %s from the loss", took)
	}
	signal(t, s.answerer, syscall.SIGCONT)
	meshtest.AwaitPeers(t, s.caller, "answerer/b1")
	if err := s.call("answerer.echo", `1`, 30*time.Second); err != nil {
		t.Error(err)
	}
}

// TestStoppedMaster: so is the master, and the links between nodes stay.
func TestStoppedMaster(t *testing.T) {
	s := startStoppable(t)
	begun := time.Now()
	signal(t, s.master, syscall.SIGSTOP)
	meshtest.WaitFor(t, func() bool { return !s.caller.Ready() }, func() string { return "the loss of the master" })
	if took := time.Since(begun); took > link.HeartbeatLAN+15*time.Second { // of which most is for a machine that is busy
		t.Errorf("noticed after %s", took)
	}
	if err := s.call("answerer.echo", `1`, 30*time.Second); err != nil {
		t.Error(err)
	}
	signal(t, s.master, syscall.SIGCONT)
	meshtest.WaitFor(t, s.caller.Ready, func() string { return "the master again" })
	if !s.lostAt().IsZero() {
		t.Error("a link between nodes was lost")
	}
}
