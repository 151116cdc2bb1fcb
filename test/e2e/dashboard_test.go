//go:build unix

package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/meshctl/meshctl/internal/mesh/node"
)

const watchedSchema = `
api: {_allow: [], _connect: [worker], _commands: {}}
worker:
  _allow: anyNode
  _commands:
    _balanced:
      echo: {responds: true, method: {builtin: echo}}
      sleep: {responds: true, method: {builtin: sleep}}
`

// watchedMesh is a master and three workers, each a process, and a caller in this one.
type watchedMesh struct {
	dir, port string
	master    func() *process
	workers   []*process
	caller    *node.Node
}

func startWatchedMesh(t *testing.T) (*watchedMesh, *process) {
	t.Helper()
	m := &watchedMesh{dir: t.TempDir(), port: freePort(t)}
	file := filepath.Join(m.dir, "schema.yaml")
	if err := os.WriteFile(file, []byte(watchedSchema), 0o600); err != nil {
		t.Fatal(err)
	}
	m.master = func() *process {
		return run(t, m.dir, "serve-master", "--schema", file, "--host", "127.0.0.1", "--port", m.port, "--discovery-port", "0", "--log-level", "error")
	}
	master := m.master()
	for i := range 3 {
		m.workers = append(m.workers, run(t, m.dir, "join", "worker", "--variant", fmt.Sprintf("w%d", i+1), "--schema", file,
			"--host", "127.0.0.1", "--master", "127.0.0.1:"+m.port, "--log-level", "error"))
	}
	m.caller = join(t, m.port, watchedSchema, "api", "a1", node.Hooks{})
	return m, master
}

func (m *watchedMesh) watch(t *testing.T, width, height int) *terminal {
	t.Helper()
	return openTerminal(t, m.dir, width, height, fmt.Sprintf("%s watch --master 127.0.0.1:%s --theme dark", binary, m.port))
}

// load calls as fast as it may until the test ends or stop is called.
func (m *watchedMesh) load(t *testing.T) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() {
		tick := time.NewTicker(2 * time.Millisecond)
		defer tick.Stop()
		for ctx.Err() == nil {
			_, _ = m.caller.Call(ctx, "worker.echo", json.RawMessage(`{"n":1}`), node.CallOptions{})
			select {
			case <-tick.C:
			case <-ctx.Done():
			}
		}
	})
	stop = sync.OnceFunc(func() {
		cancel()
		wg.Wait()
	})
	t.Cleanup(stop)
	return stop
}

func TestDashboardFollowsTheMesh(t *testing.T) {
	m, master := startWatchedMesh(t)
	m.load(t)
	term := m.watch(t, 120, 40)
	term.awaitText("● live", "4 nodes", "worker", "api/a1")

	// A slow request appears and goes. What this machine does beside costs time too, so that
	// the best of some tries has to keep the bounds.
	term.send("4")
	term.awaitText("In flight")
	var appeared, left []time.Duration
	for begun := time.Now(); len(appeared) < 5 || (fastest(appeared) > 300*time.Millisecond || fastest(left) > 1500*time.Millisecond) && time.Since(begun) < time.Minute; {
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan time.Time, 1)
		began := time.Now()
		go func() {
			_, _ = m.caller.Call(ctx, "worker.sleep", json.RawMessage(`{"ms":600000}`), node.CallOptions{Timeout: 10 * time.Minute})
			ended <- time.Now()
		}()
		term.awaitText("worker.sleep")
		appeared = append(appeared, time.Since(began))
		cancel()
		end := <-ended
		term.await("the request gone", func(screen string) bool { return !strings.Contains(screen, "worker.sleep") })
		left = append(left, time.Since(end))
	}
	t.Logf("slow requests appeared after %v and went %v after their end", appeared, left)
	if fastest(appeared) > 300*time.Millisecond {
		t.Errorf("a request appeared after %v, want 300ms", appeared)
	}
	if fastest(left) > 1500*time.Millisecond {
		t.Errorf("a request went %v after its end, want 1.5s", left)
	}

	// A node that is killed turns.
	term.send("2")
	term.awaitText("worker/w3")
	m.workers[2].kill()
	term.await("worker/w3 gone", func(screen string) bool {
		row := line(screen, "worker/w3")
		return strings.Contains(row, "✖") && strings.Contains(row, "gone")
	})
	term.awaitText("3 nodes")

	// The master is killed, and comes back.
	master.kill()
	term.awaitText("✖ master lost", "ago")
	if screen := term.screen(); !strings.Contains(line(screen, "worker/w1"), "stale") {
		t.Errorf("without a master worker/w1 is not stale:\n%s", screen)
	}
	m.master()
	term.await("the mesh again", func(screen string) bool {
		return strings.Contains(screen, "● live") && strings.Contains(line(screen, "worker/w1"), "●") && strings.Contains(line(screen, "worker/w2"), "●")
	})

	// A storm of sizes leaves it alive, with a frame that fits.
	for range 50 {
		term.resize(1+rand.IntN(250), 1+rand.IntN(80))
	}
	term.resize(40, 10)
	term.awaitText("meshctl needs 60×15")
	term.resize(100, 30)
	term.await("a whole frame", func(screen string) bool {
		lines := strings.Split(strings.TrimSuffix(screen, "\n"), "\n")
		return len(lines) == 30 && strings.Contains(lines[0], "meshctl 127.0.0.1:") && strings.Contains(lines[29], "q quit")
	})
	term.send("q")
	term.awaitClean(0)
}

func TestDashboardLeavesTheTerminalClean(t *testing.T) {
	m, _ := startWatchedMesh(t)
	for _, c := range []struct {
		name string
		end  func(*terminal)
		code int
	}{
		{"ctrl-c", func(x *terminal) { x.send("C-c") }, 0},
		{"SIGTERM", func(x *terminal) { x.signal(syscall.SIGTERM) }, 0},
		{"SIGHUP", func(x *terminal) { x.signal(syscall.SIGHUP) }, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			term := openTerminal(t, dir, 90, 25, fmt.Sprintf("%s watch --master 127.0.0.1:%s", binary, m.port))
			term.awaitText("● live")
			c.end(term)
			term.awaitClean(c.code)
		})
	}
}

// Totals on the page of commands are what a load generator counted.
func TestDashboardCountsEveryCall(t *testing.T) {
	m, _ := startWatchedMesh(t)
	term := m.watch(t, 120, 40)
	term.awaitText("● live", "4 nodes")
	term.send("5")
	cmd := exec.Command(binary, "bench", "worker.echo", "--master", "127.0.0.1:"+m.port, "-c", "8", "--duration", "2s", "--rate", "2000", "-o", "json")
	cmd.Env = environ(m.dir)
	cmd.Stderr = t.Output()
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	var counted struct{ Calls, Errors uint64 }
	if err := json.Unmarshal(out, &counted); err != nil || counted.Calls < 100 || counted.Errors != 0 {
		t.Fatalf("%v: %s", err, out)
	}
	const calls = 50 // and what nodes call each other
	for range calls {
		if _, err := m.caller.Call(t.Context(), "worker.echo", json.RawMessage(`{}`), node.CallOptions{Timeout: time.Minute}); err != nil {
			t.Fatal(err)
		}
	}
	want := counted.Calls + calls
	text := fmt.Sprint(want)
	if want >= 1000 {
		text = fmt.Sprintf("%d,%03d", want/1000, want%1000)
	}
	term.await(text+" calls", func(screen string) bool {
		return strings.Contains(line(screen, "worker.echo"), " "+text+" ")
	})
	t.Logf("%d calls were counted at both places", want)
}

func fastest(ds []time.Duration) time.Duration {
	best := ds[0]
	for _, d := range ds {
		best = min(best, d)
	}
	return best
}
