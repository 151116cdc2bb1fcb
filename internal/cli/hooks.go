package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"slices"
	"strings"
	"time"

	"github.com/meshctl/meshctl/internal/config"
	"github.com/meshctl/meshctl/internal/mesh/node"
	"github.com/meshctl/meshctl/internal/mesh/wire"
)

const (
	hookTimeout   = 30 * time.Second
	hookMaxOutput = 4 << 10 // bytes of a hook's output that are logged
)

// hooks runs the programs of --on-connected, --on-connection and --on-disconnection.
type hooks struct {
	connected, connection, disconnection string
	log                                  *slog.Logger
}

// newHooks finds the programs; one that does not exist is a usage error.
func newHooks(cfg *config.Config) (*hooks, error) {
	h := &hooks{connected: cfg.OnConnected, connection: cfg.OnConnection, disconnection: cfg.OnDisconnection}
	for flag, program := range map[string]*string{"on-connected": &h.connected, "on-connection": &h.connection, "on-disconnection": &h.disconnection} {
		if *program == "" {
			continue
		}
		found, err := exec.LookPath(*program)
		if err != nil {
			return nil, usagef("it is the path of one program, without arguments", "--%s: %v", flag, err)
		}
		*program = found
	}
	return h, nil
}

func (h *hooks) bind(ctx context.Context) node.Hooks {
	make := func(event, program string) func(wire.Peer) {
		if program == "" {
			return nil
		}
		return func(p wire.Peer) { h.run(ctx, event, program, p) }
	}
	return node.Hooks{
		OnConnected:     make("connected", h.connected),
		OnConnection:    make("connection", h.connection),
		OnDisconnection: make("disconnection", h.disconnection),
	}
}

// hookPeer is what a hook reads: the object that callbacks of JavaScript nodes get,
// and the kind.
type hookPeer struct {
	Event   string `json:"event"`
	Worker  string `json:"worker"`
	Variant string `json:"variant"`
	IP      string `json:"ip"`
	Port    int    `json:"port"`
	Kind    string `json:"kind"`
}

// run blocks until the program ends, at most hookTimeout.
func (h *hooks) run(ctx context.Context, event, program string, p wire.Peer) {
	log := h.log.With("hook", event, "program", program, "peer", p.Name())
	input, err := json.Marshal(hookPeer{event, p.Worker, p.Variant, p.IP, p.Port, p.Kind()})
	if err != nil {
		log.Error("encode the peer for a hook", "error", err)
		return
	}
	ctx, cancel := context.WithTimeout(ctx, hookTimeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, program)
	cmd.Env = withoutKeys(os.Environ())
	cmd.Stdin = bytes.NewReader(append(input, '\n'))
	output := &tail{limit: hookMaxOutput}
	cmd.Stdout, cmd.Stderr = output, output
	// A child of the program may hold its output open for longer.
	cmd.WaitDelay = time.Second
	start := time.Now()
	err = cmd.Run()
	if ctx.Err() != nil {
		err = fmt.Errorf("not done after %s", hookTimeout)
	}
	if text := strings.TrimSpace(output.String()); text != "" {
		log = log.With("output", text)
	}
	if err != nil {
		log.Warn("hook failed", "error", err, "elapsed", time.Since(start))
		return
	}
	log.Debug("hook ran", "elapsed", time.Since(start))
}

// withoutKeys keeps the mesh's keys from programs that have no use for them.
func withoutKeys(env []string) []string {
	return slices.DeleteFunc(env, func(v string) bool {
		return strings.HasPrefix(v, "MESHCTL_PRIVATE_KEY=") || strings.HasPrefix(v, "MESHCTL_PUBLIC_KEY=")
	})
}

// tail keeps the end of what is written to it. exec writes from one goroutine,
// because stdout and stderr are the same writer.
type tail struct {
	limit int
	buf   []byte
}

func (t *tail) Write(p []byte) (int, error) {
	t.buf = append(t.buf, p[max(0, len(p)-t.limit):]...)
	if extra := len(t.buf) - t.limit; extra > 0 {
		t.buf = append(t.buf[:0], t.buf[extra:]...)
	}
	return len(p), nil
}

func (t *tail) String() string { return string(t.buf) }
