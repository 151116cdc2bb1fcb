//go:build linux

package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/meshctl/meshctl/internal/mesh/meshtest"
	"github.com/meshctl/meshctl/internal/mesh/node"
	"github.com/meshctl/meshctl/internal/mesh/seal"
)

// TestDashboardCosts measures `meshctl watch` in a terminal of 120×40 while MESHCTL_SCALE
// nodes, real ones in this process, send 10,000 requests a second, and while they send none.
// It is skipped where that is not set.
func TestDashboardCosts(t *testing.T) {
	nodes, err := strconv.Atoi(os.Getenv("MESHCTL_SCALE"))
	if err != nil {
		t.Skip("SKIPPED: MESHCTL_SCALE, the number of nodes, is not set")
	}
	const (
		variants = 5 // of a worker
		rate     = 10_000
		settle   = 5 * time.Second
		measured = 20 * time.Second
	)
	workers := nodes / variants
	nodes = workers * variants
	// Each worker calls the next one.
	var schema strings.Builder
	for w := range workers {
		fmt.Fprintf(&schema, "w%d: {_allow: [w%d], _connect: [w%d], _commands: {_balanced: {work: {responds: true, method: {builtin: sleep}}}}}\n",
			w, (w+workers-1)%workers, (w+1)%workers)
	}
	dir, port := t.TempDir(), freePort(t)
	file := filepath.Join(dir, "schema.yaml")
	if err := os.WriteFile(file, []byte(schema.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	run(t, dir, "serve-master", "--schema", file, "--host", "127.0.0.1", "--port", port, "--discovery-port", "0", "--log-level", "error")

	ring, err := seal.NewRing([]seal.Keys{meshtest.Keys}, nil)
	if err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	all := make([]*node.Node, nodes)
	var wg sync.WaitGroup
	slots := make(chan struct{}, 16)
	parsed := meshtest.Parse(t, schema.String())
	for i := range all {
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			all[i] = join(t, port, schema.String(), fmt.Sprintf("w%d", i/variants), fmt.Sprintf("v%d", i%variants), node.Hooks{}, func(c *node.Config) {
				c.Schema, c.Ring, c.Logger, c.DrainTimeout = parsed, ring, nil, time.Second
			})
		})
	}
	wg.Wait()
	for _, n := range all {
		meshtest.WaitFor(t, func() bool { return len(n.Peers()) == 2*variants }, func() string { return "the links of " + n.Name() })
	}
	t.Logf("%d nodes with %d links joined in %.1f s", nodes, nodes*variants, time.Since(began).Seconds())

	term := openTerminal(t, dir, 120, 40, fmt.Sprintf("%s watch --master 127.0.0.1:%s --theme dark", binary, port))
	term.awaitText("● live", fmt.Sprintf("%d nodes", nodes))
	pid := term.pid()
	time.Sleep(settle)
	drawn := filepath.Join(dir, "drawn")
	term.tmux("pipe-pane", "cat >"+drawn)
	before := usageOf(t, pid)
	time.Sleep(measured)
	idle := usageOf(t, pid)
	term.tmux("pipe-pane")
	report := func(what string, before, after usage) (share float64) {
		took := after.at.Sub(before.at).Seconds()
		share = (after.cpu - before.cpu).Seconds() / took
		t.Logf("%-12s %5.1f%% of a core, %6.0f bytes written a second, %5.1f MiB, at most %.1f MiB",
			what, 100*share, float64(after.written-before.written)/took, after.resident, after.most)
		return share
	}
	if share := report("idle", before, idle); share > 0.02 {
		t.Errorf("an idle dashboard uses %.1f%% of a core", 100*share)
	}
	text, err := os.ReadFile(drawn)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%12s of that %d bytes to the terminal: %.400q", "", len(text), text)

	// The nodes take turns. One request in 20 is slow, for half a second on average, so
	// that 250 are in flight; one in 1,000 fails.
	ctx, stop := context.WithCancel(t.Context())
	var sent, failed atomic.Uint64
	const callers = 20
	for c := range callers {
		wg.Go(func() {
			var slow sync.WaitGroup
			defer slow.Wait()
			next := time.Now()
			for i := c; ctx.Err() == nil; i += callers {
				if wait := time.Until(next); wait > 0 {
					time.Sleep(wait)
				}
				next = next.Add(callers * time.Second / rate)
				if time.Since(next) > time.Second {
					next = time.Now() // it is not made up for what this machine cannot do
				}
				from := all[i%nodes]
				to := (i%nodes/variants + 1) % workers
				call := func(payload string) {
					sent.Add(1)
					if _, err := from.Call(ctx, fmt.Sprintf("w%d.work", to), json.RawMessage(payload), node.CallOptions{}); err != nil {
						failed.Add(1)
					}
				}
				switch r := rand.IntN(1000); {
				case r == 0:
					slow.Go(func() { call(`{"ms":"none"}`) })
				case r < 50:
					slow.Go(func() { call(fmt.Sprintf(`{"ms":%d}`, rand.IntN(1000))) })
				default:
					call(`{"ms":0}`)
				}
			}
		})
	}
	t.Cleanup(func() { stop(); wg.Wait() })
	time.Sleep(settle)
	for i, page := range []string{"Overview", "Connections", "Links", "In flight", "Commands", "Events"} {
		term.send(strconv.Itoa(i + 1))
		term.awaitText(page)
		time.Sleep(settle)
		before, calls := usageOf(t, pid), sent.Load()
		time.Sleep(measured)
		after := usageOf(t, pid)
		share := report(page, before, after)
		t.Logf("%12s %.0f calls a second", "", float64(sent.Load()-calls)/after.at.Sub(before.at).Seconds())
		if share > 0.10 {
			t.Errorf("on page %s it uses %.1f%% of a core, want 10%%", page, 100*share)
		}
		if after.most > 100 {
			t.Errorf("on page %s it has held %.1f MiB, want 100", page, after.most)
		}
		if os.Getenv("MESHCTL_SCALE_SHOW") != "" {
			t.Log("\n" + term.screen())
		}
	}
	t.Logf("%d calls, %d of them failed", sent.Load(), failed.Load())
}

// usage is what a process has used so far.
type usage struct {
	at             time.Time
	cpu            time.Duration
	written        uint64  // bytes, to the terminal and the master
	resident, most float64 // MiB
}

func usageOf(t *testing.T, pid int) usage {
	t.Helper()
	u := usage{at: time.Now()}
	read := func(name string) []byte {
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/%s", pid, name))
		if err != nil {
			t.Fatal(err)
		}
		return text
	}
	stat := read("stat")
	fields := bytes.Fields(stat[bytes.LastIndexByte(stat, ')')+2:])
	for _, f := range fields[11:13] { // utime and stime, in ticks of 10 ms
		ticks, err := strconv.Atoi(string(f))
		if err != nil {
			t.Fatal(err)
		}
		u.cpu += time.Duration(ticks) * 10 * time.Millisecond
	}
	for line := range bytes.Lines(append(read("status"), read("io")...)) {
		key, value, _ := strings.Cut(string(line), ":")
		number, _ := strconv.ParseUint(strings.TrimSuffix(strings.TrimSpace(value), " kB"), 10, 64)
		switch key {
		case "VmHWM":
			u.most = float64(number) / 1024
		case "VmRSS":
			u.resident = float64(number) / 1024
		case "wchar":
			u.written = number
		}
	}
	return u
}
