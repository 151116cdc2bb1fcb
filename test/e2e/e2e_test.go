// Package e2e tests what only whole processes show.
package e2e

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"sync"
	"testing"

	"github.com/meshctl/meshctl/internal/mesh/meshtest"
	"github.com/meshctl/meshctl/internal/mesh/node"
)

// binary is the built meshctl.
var binary string

func TestMain(m *testing.M) { meshtest.MainWithProgram(m, &binary) }

// environ is what meshctl runs in: the keys of the tests, and nothing of the user's. A busy machine is no reason to
// give up a call.
func environ(dir string) []string {
	return append(os.Environ(), "HOME="+dir, "XDG_CONFIG_HOME="+dir, "XDG_STATE_HOME="+dir,
		"MESHCTL_PUBLIC_KEY="+meshtest.Keys.Public, "MESHCTL_PRIVATE_KEY="+meshtest.Keys.Private, "MESHCTL_TIMEOUT=1m")
}

// process is a running meshctl.
type process struct {
	*exec.Cmd
	kill func() // with SIGKILL; returns when it has ended
}

// run starts meshctl. The test kills it at its end.
func run(t *testing.T, dir string, args ...string) *process {
	t.Helper()
	cmd := exec.Command(binary, args...)
	cmd.Env = environ(dir)
	cmd.Stderr = t.Output()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	kill := sync.OnceFunc(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	t.Cleanup(kill)
	return &process{cmd, kill}
}

// join runs a node in this process until the test ends.
func join(t *testing.T, port, schema, worker, variant string, hooks node.Hooks, more ...func(*node.Config)) *node.Node {
	t.Helper()
	cfg := node.Config{
		Keys: meshtest.Keys, Worker: worker, Variant: variant, Master: "127.0.0.1:" + port, Host: "127.0.0.1",
		Schema: meshtest.Parse(t, schema), Logger: meshtest.Log(t, variant), Hooks: hooks,
	}
	for _, change := range more {
		change(&cfg)
	}
	n, err := node.New(cfg)
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

func freePort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return fmt.Sprint(l.Addr().(*net.TCPAddr).Port)
}
