package chaos

import (
	"bufio"
	"context"
	"encoding/json"
	"log/slog"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/meshctl/meshctl/internal/mesh/node"
	"github.com/meshctl/meshctl/internal/mesh/wire"
	"github.com/meshctl/meshctl/internal/pause"
)

// slowCallerConfig configures the worker slow-caller: a node that calls quick.echo all the time once it has all its links,
// and floods the slow worker from some time on.
type slowCallerConfig struct {
	membership
	Variant string
	Calls   string // the file that each call is written to, a line of JSON; made before the first one
	Flood   string // the file with which the flood begins; "": never
}

// slowCall is one call. Its code is "" when it succeeded.
type slowCall struct {
	At   time.Time     `json:"at"`
	Took time.Duration `json:"took"`
	To   string        `json:"to"` // the worker
	Code wire.Code     `json:"code,omitempty"`
}

const (
	floodPayload = 256 << 10
	floodLanes   = 2
	quickLanes   = 2
	floodPause   = 10 * time.Millisecond // of a lane: some 40 MiB a second altogether
)

func slowCaller(ctx context.Context, w WorkerIO) error {
	var cfg slowCallerConfig
	if err := w.configure(&cfg); err != nil {
		return err
	}
	nc, err := cfg.node("caller", cfg.Variant)
	if err != nil {
		return err
	}
	nc.Logger = slog.New(slog.NewJSONHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelInfo}))
	n, err := node.New(nc)
	if err != nil {
		return err
	}
	// The node ends after the calls, so that its end fails none.
	running, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	ended := make(chan error, 1)
	go func() { ended <- n.Run(running) }()
	for len(n.Peers()) < slowNodes+quickNodes && pause.For(ctx, 5*time.Millisecond) {
	}
	file, err := os.OpenFile(cfg.Calls, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer file.Close()
	c := &slowCalls{node: n, out: bufio.NewWriter(file)}
	var wg sync.WaitGroup
	for range quickLanes {
		wg.Go(func() {
			for pause.For(ctx, 5*time.Millisecond) {
				c.call("quick", "quick.echo", json.RawMessage(`1`))
			}
		})
	}
	if cfg.Flood != "" && awaitFile(ctx, cfg.Flood) {
		payload := json.RawMessage(`"` + strings.Repeat("x", floodPayload-2) + `"`)
		for range floodLanes {
			wg.Go(func() {
				for pause.For(ctx, floodPause) {
					c.call("slow", "slow.tell", payload)
				}
			})
		}
	}
	wg.Wait()
	stop()
	err = <-ended
	if flushed := c.out.Flush(); err == nil {
		err = flushed
	}
	return err
}

// awaitFile blocks until a file is there, and reports false when ctx ends before.
func awaitFile(ctx context.Context, path string) bool {
	for {
		if _, err := os.Stat(path); err == nil {
			return true
		}
		if !pause.For(ctx, 5*time.Millisecond) {
			return false
		}
	}
}

type slowCalls struct {
	node *node.Node
	mu   sync.Mutex
	out  *bufio.Writer
}

func (c *slowCalls) call(to, target string, payload json.RawMessage) {
	begun := time.Now()
	_, err := c.node.Call(context.Background(), target, payload, node.CallOptions{Timeout: joinLimit})
	made := slowCall{At: begun, Took: time.Since(begun), To: to}
	if err != nil {
		if made.Code = wire.CodeOf(err); made.Code == "" {
			made.Code = "untyped"
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	_ = json.NewEncoder(c.out).Encode(made) // Flush tells what failed
}
