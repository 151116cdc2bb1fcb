package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/meshctl/meshctl/internal/mesh/meshtest"
	"github.com/meshctl/meshctl/internal/mesh/node"
	"github.com/meshctl/meshctl/internal/mesh/wire"
)

const queueSchema = `
caller: {_allow: [], _connect: [worker], _commands: {}}
worker:
  _allow: [caller]
  _commands:
    _balanced:
      job: {queued: true, responds: false, concurrency: 4, retries: 1000, max_depth: 1000000, method: {http: %q}}
`

// delivery is a job as the handler was given it.
type delivery struct {
	attempt     int
	redelivered bool
}

// history is what callers and the handler saw.
type history struct {
	mu        sync.Mutex
	accepted  map[int]bool
	delivered map[int][]delivery
}

// ServeHTTP is the handler of the jobs.
func (h *history) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	var n int
	if err == nil {
		err = json.Unmarshal(body, &n)
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	d := delivery{redelivered: r.Header.Get("Mesh-Redelivered") == "true"}
	d.attempt, _ = strconv.Atoi(r.Header.Get("Mesh-Attempt"))
	h.mu.Lock()
	defer h.mu.Unlock()
	h.delivered[n] = append(h.delivered[n], d)
}

// left counts the accepted jobs that no handler has seen.
func (h *history) left() (n int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for job := range h.accepted {
		if len(h.delivered[job]) == 0 {
			n++
		}
	}
	return n
}

// check finds jobs that came more than once without being flagged.
func (h *history) check(t *testing.T) {
	h.mu.Lock()
	defer h.mu.Unlock()
	again, most := 0, 0
	for job, ds := range h.delivered {
		again += len(ds) - 1
		most = max(most, len(ds))
		for _, d := range ds[1:] {
			if !d.redelivered || d.attempt < 2 {
				t.Errorf("job %d came again without a flag: %+v", job, ds)
			}
		}
	}
	t.Logf("%d accepted, %d delivered, %d delivered again (at most %d times)", len(h.accepted), len(h.delivered), again, most)
}

// send has jobs from first on accepted, every stepth: it calls each until it is.
func (h *history) send(ctx context.Context, t *testing.T, caller *node.Node, first, step, jobs int) {
	for n := first; n < jobs; n += step {
		for {
			_, err := caller.Call(ctx, "worker.job", json.RawMessage(strconv.Itoa(n)), node.CallOptions{
				Wait: node.WaitStored, Key: strconv.Itoa(n), Timeout: 2 * time.Second,
			})
			if err == nil {
				break
			}
			if ctx.Err() != nil {
				t.Errorf("job %d was not accepted in time; the last failure: %v", n, err)
				return
			}
			if wire.CodeOf(err) == "" {
				t.Errorf("job %d: a failure without a code: %v", n, err)
			}
			time.Sleep(5 * time.Millisecond)
		}
		h.mu.Lock()
		h.accepted[n] = true
		h.mu.Unlock()
	}
}

func setting(t *testing.T, name string, otherwise int) int {
	t.Helper()
	text := os.Getenv(name)
	if text == "" {
		return otherwise
	}
	n, err := strconv.Atoi(text)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return n
}

// crash sends jobs while victims are killed one after another, and checks what came of the jobs.
// MESHCTL_E2E_JOBS (3,000) and MESHCTL_E2E_KILL_MS (600) make it longer.
func crash(t *testing.T, h *history, callers []*node.Node, victims []func()) {
	jobs := setting(t, "MESHCTL_E2E_JOBS", 3000)
	every := time.Duration(setting(t, "MESHCTL_E2E_KILL_MS", 600)) * time.Millisecond
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute+time.Duration(jobs)*20*time.Millisecond)
	defer cancel()
	sent := make(chan struct{})
	go func() {
		defer close(sent)
		var wg sync.WaitGroup
		const senders = 8
		for i := range senders {
			wg.Go(func() { h.send(ctx, t, callers[i%len(callers)], i, senders, jobs) })
		}
		wg.Wait()
	}()
	kills := 0
	for done := false; !done || kills < 3; kills++ {
		select {
		case <-sent:
			done = true
		case <-time.After(every/2 + rand.N(every)):
		}
		victims[rand.IntN(len(victims))]()
	}
	<-sent
	for h.left() > 0 && ctx.Err() == nil {
		time.Sleep(20 * time.Millisecond)
	}
	if n := h.left(); n > 0 {
		t.Errorf("%d accepted jobs are lost", n)
	}
	h.check(t)
	t.Logf("%d kills", kills)
}

// startQueueMesh starts a master and the handler, and gives the schema's file and the port.
func startQueueMesh(t *testing.T) (h *history, dir, port, schemaFile, schema string) {
	h = &history{accepted: map[int]bool{}, delivered: map[int][]delivery{}}
	server := httptest.NewServer(h)
	t.Cleanup(server.Close)
	dir = t.TempDir()
	schema = fmt.Sprintf(queueSchema, server.URL)
	schemaFile = filepath.Join(dir, "schema.yaml")
	if err := os.WriteFile(schemaFile, []byte(schema), 0o600); err != nil {
		t.Fatal(err)
	}
	port = freePort(t)
	run(t, dir, "serve-master", "--schema", schemaFile, "--host", "127.0.0.1", "--port", port, "--discovery-port", "0", "--log-level", "error")
	return h, dir, port, schemaFile, schema
}

// A node is killed with SIGKILL while jobs are sent to it: what it has accepted is done once it
// is back, and what is done again is flagged.
func TestQueueNodeKilled(t *testing.T) {
	h, dir, port, schemaFile, schema := startQueueMesh(t)
	start := func() *process {
		return run(t, dir, "join", "worker", "--schema", schemaFile, "--host", "127.0.0.1", "--master", "127.0.0.1:"+port,
			"--variant", "w1", "--data-dir", filepath.Join(dir, "w1"), "--log-level", "error")
	}
	worker := start()
	caller := join(t, port, schema, "caller", "c1", node.Hooks{})
	meshtest.AwaitPeers(t, caller, "worker/w1")
	crash(t, h, []*node.Node{caller}, []func(){func() {
		worker.kill()
		worker = start()
	}})
}

// The same with queues in Redis, where redis-server is killed as well.
func TestQueueRedisKilled(t *testing.T) {
	binary, err := exec.LookPath("redis-server")
	if err != nil {
		t.Skip("redis-server is not installed: queues in Redis are not crashed (.ci/deps installs it)")
	}
	h, dir, port, schemaFile, schema := startQueueMesh(t)
	data, err := os.MkdirTemp("", "redis") // the path of a socket has to be short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(data) })
	socket := filepath.Join(data, "s")
	startRedis := func() *exec.Cmd {
		cmd := exec.Command(binary, "--port", "0", "--unixsocket", socket, "--dir", data, "--appendonly", "yes", "--appendfsync", "always", "--save", "", "--loglevel", "warning")
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		return cmd
	}
	redis := startRedis()
	t.Cleanup(func() {
		_ = redis.Process.Kill()
		_ = redis.Wait()
	})
	start := func(variant string) *process {
		return run(t, dir, "join", "worker", "--schema", schemaFile, "--host", "127.0.0.1", "--master", "127.0.0.1:"+port,
			"--variant", variant, "--redis", "unix://"+socket, "--queue-lease", "2s", "--log-level", "error")
	}
	workers := []*process{start("w1"), start("w2")}
	viaLinks := join(t, port, schema, "caller", "c1", node.Hooks{})
	viaRedis := join(t, port, schema, "caller", "c2", node.Hooks{}, func(c *node.Config) { c.Redis, c.Mesh = "unix://"+socket, "mesh" })
	meshtest.AwaitPeers(t, viaLinks, "worker/w1", "worker/w2")
	killWorker := func(i int) func() {
		return func() {
			workers[i].kill()
			workers[i] = start([]string{"w1", "w2"}[i])
		}
	}
	crash(t, h, []*node.Node{viaLinks, viaRedis}, []func(){killWorker(0), killWorker(1), func() {
		_ = redis.Process.Kill()
		_ = redis.Wait()
		time.Sleep(200 * time.Millisecond) // it is away for some calls
		redis = startRedis()
	}})
}
