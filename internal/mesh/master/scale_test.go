package master_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/meshctl/meshctl/internal/mesh/link"
	"github.com/meshctl/meshctl/internal/mesh/link/native"
	"github.com/meshctl/meshctl/internal/mesh/meshtest"
	"github.com/meshctl/meshctl/internal/mesh/seal"
	"github.com/meshctl/meshctl/internal/mesh/wire"
)

// workersOfScale is how many workers the nodes of TestScale are spread over. Each
// connects to the next.
const workersOfScale = 10

// TestScale joins many nodes, which are native links from another process, to one
// master, and measures what the master needs for them and how soon everybody knows of
// a newcomer. MESHCTL_SCALE is the number of nodes, 200 if it is not set.
func TestScale(t *testing.T) {
	n := 200
	if text := os.Getenv("MESHCTL_SCALE"); text != "" {
		var err error
		if n, err = strconv.Atoi(text); err != nil {
			t.Fatal(err)
		}
	}
	var schema strings.Builder
	for w := range workersOfScale {
		fmt.Fprintf(&schema, "w%d: {_allow: anyNode, _connect: [w%d], _commands: {_balanced: {c: {responds: true}}}}\n", w, (w+1)%workersOfScale)
	}
	m := meshtest.New(silent{t}, schema.String())
	before := memory()

	cmd := exec.Command(os.Args[0], "-test.run=^TestScale$")
	cmd.Env = append(os.Environ(), "MESHCTL_SCALE_MASTER="+m.Addr, "MESHCTL_SCALE="+strconv.Itoa(n))
	cmd.Stderr = t.Output()
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		stdin.Close()
		_ = cmd.Wait()
	}()
	var report struct{ JoinedMS, KnownP50MS, KnownP99MS float64 }
	lines := bufio.NewScanner(stdout)
	if !lines.Scan() {
		t.Fatal("the nodes' process ended without a report")
	}
	if err := json.Unmarshal(lines.Bytes(), &report); err != nil {
		t.Fatalf("report %q: %v", lines.Text(), err)
	}
	// The newcomers are gone by then.
	meshtest.WaitFor(t, func() bool { return len(m.Master.Nodes()) == n }, func() string {
		return fmt.Sprintf("the master to know %d nodes; it knows %d", n, len(m.Master.Nodes()))
	})
	each := (memory() - before) / n
	t.Logf("%d nodes of %d workers: joined in %.0f ms; a newcomer known to all who may connect after %.1f ms (p50), %.1f ms (p99); %d bytes of the master's memory for each",
		n, workersOfScale, report.JoinedMS, report.KnownP50MS, report.KnownP99MS, each)
	if n >= 200 && each > 64<<10 {
		t.Errorf("a node costs the master %d bytes", each)
	}
}

// memory is what the process holds in heap and stacks once the garbage is gone.
func memory() int {
	runtime.GC()
	runtime.GC()
	var s runtime.MemStats
	runtime.ReadMemStats(&s)
	return int(s.HeapInuse + s.StackInuse)
}

// silent keeps the logs of very many nodes out of the test's output.
type silent struct{ *testing.T }

func (s silent) Output() io.Writer { return io.Discard }

// scaleNodes is the other process of TestScale.
func scaleNodes(addr string, n int) error {
	key, err := seal.NewKey(meshtest.Keys)
	if err != nil {
		return err
	}
	join := func(i int) (link.Link, error) {
		worker, variant := fmt.Sprintf("w%d", i%workersOfScale), fmt.Sprintf("v%d", i)
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		l, err := native.Dial(ctx, addr, native.Config{Key: key, Hello: native.Hello{Name: worker + "/" + variant}, Handshake: time.Minute})
		if err != nil {
			return nil, err
		}
		body := fmt.Sprintf(`{"worker":%q,"variant":%q,"port":1,"meshctl":{"protocol":1,"instance":"i%d","native":true}}`, worker, variant, i)
		if err := l.Send(wire.Message{Event: wire.EventDeclare, Body: []byte(body)}); err != nil {
			return nil, err
		}
		for {
			msg, err := l.Receive(ctx)
			if err != nil {
				return nil, err
			}
			if msg.Event == wire.EventDeclared {
				return l, nil
			}
		}
	}
	links := make([]link.Link, n)
	began := time.Now()
	var wg sync.WaitGroup
	failed := make(chan error, n)
	slots := make(chan struct{}, 64)
	for i := range n {
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			var err error
			if links[i], err = join(i); err != nil {
				failed <- fmt.Errorf("node %d: %w", i, err)
			}
		})
	}
	wg.Wait()
	select {
	case err := <-failed:
		return err
	default:
	}
	joined := time.Since(began)

	// Everybody listens; those who may connect to a newcomer say when they hear of it.
	heard := make(chan string, 64*n)
	for _, l := range links {
		go func() {
			for {
				msg, err := l.Receive(context.Background())
				if err != nil {
					return
				}
				if msg.Event == wire.EventAddNode && strings.Contains(string(msg.Body), `"newcomer`) {
					heard <- string(msg.Body)
				}
			}
		}()
	}
	time.Sleep(500 * time.Millisecond) // the news of joining is through
	var known []float64
	concerned := (n + workersOfScale - 1 - 9) / workersOfScale // of worker w9, which connects to w0
	for i := range 30 {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		name := fmt.Sprintf("newcomer%d", i)
		l, err := native.Dial(ctx, addr, native.Config{Key: key, Hello: native.Hello{Name: "w0/" + name}, Handshake: time.Minute})
		cancel()
		if err != nil {
			return err
		}
		sent := time.Now()
		if err := l.Send(wire.Message{Event: wire.EventDeclare, Body: fmt.Appendf(nil, `{"worker":"w0","variant":%q,"port":1,"meshctl":{"protocol":1,"instance":%q}}`, name, name)}); err != nil {
			return err
		}
		for range concerned {
			select {
			case <-heard:
			case <-time.After(time.Minute):
				return fmt.Errorf("not everybody heard of %s", name)
			}
		}
		known = append(known, float64(time.Since(sent).Microseconds())/1000)
		l.Close(nil)
	}
	slices.Sort(known)
	return json.NewEncoder(os.Stdout).Encode(map[string]float64{
		"JoinedMS": float64(joined.Microseconds()) / 1000, "KnownP50MS": known[len(known)/2], "KnownP99MS": known[len(known)-1],
	})
}
