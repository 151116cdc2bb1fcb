package chaos

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/meshctl/meshctl/internal/chaos/history"
	"github.com/meshctl/meshctl/internal/mesh/node"
	"github.com/meshctl/meshctl/internal/mesh/schema"
	"github.com/meshctl/meshctl/internal/mesh/seal"
	"github.com/meshctl/meshctl/internal/pause"
)

// Lab is what one scenario works in: a folder, keys, and whatever it starts, all of which ends
// with it. It is safe for concurrent use.
type Lab struct {
	Dir  string // has the logs, histories and stores; gone when the scenario held
	Keys seal.Keys
	Ring *seal.Ring // for the nodes in this process, which so share their key derivations
	Size Size
	Long bool

	ctx      context.Context
	program  string
	seed     uint64
	scenario string
	progress func(scenario, doing string)
	starter  *starter

	mu        sync.Mutex
	processes []*Process
	nodes     []*Node
	cleanups  []func()
}

func newLab(ctx context.Context, o Options, s Scenario, size Size, dir string) (*Lab, error) {
	if err := os.MkdirAll(filepath.Join(dir, "tmp"), 0o700); err != nil {
		return nil, fmt.Errorf("make the scenario's folder: %w", err)
	}
	keys, err := seal.GenerateKeys()
	if err != nil {
		return nil, err
	}
	ring, err := seal.NewRing([]seal.Keys{keys}, nil)
	if err != nil {
		return nil, err
	}
	return &Lab{
		Dir: dir, Keys: keys, Ring: ring, Size: size, Long: o.Long,
		ctx: ctx, program: o.Program, seed: o.Seed, scenario: s.Name, progress: o.Progress, starter: newStarter(),
	}, nil
}

// close ends everything that was started, the latest first.
func (l *Lab) close() {
	l.mu.Lock()
	processes, nodes, cleanups := l.processes, l.nodes, l.cleanups
	l.mu.Unlock()
	var wg sync.WaitGroup
	for _, n := range nodes {
		wg.Go(func() {
			n.Kill()
			_ = n.Stop()
		})
	}
	for _, p := range processes {
		p.Kill()
	}
	wg.Wait()
	for i := len(cleanups) - 1; i >= 0; i-- {
		cleanups[i]()
	}
	l.starter.close()
}

// accidents reports processes that have ended by themselves, unless they had done their work, and logs that have the
// end of a process of Go that crashed.
func (l *Lab) accidents(report *Report) error {
	l.mu.Lock()
	processes := slices.Clone(l.processes)
	l.mu.Unlock()
	for _, p := range processes {
		if !p.Running() && p.err != nil && !p.told.Load() {
			report.Must(false, "%s has ended by itself: %v; see %s", p.Name, p.err, p.Log)
		}
	}
	logs, err := filepath.Glob(l.Path("*.log"))
	if err != nil {
		return err
	}
	for _, file := range logs {
		text, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		report.Must(!crashed(string(text)), "a process has crashed; see %s", file)
	}
	return nil
}

// crashed tells whether a log has the end of a process of Go that crashed.
func crashed(log string) bool {
	return strings.Contains(log, "panic:") || strings.Contains(log, "fatal error:")
}

// Defer has f called at the end of the scenario, after all processes and nodes have ended.
func (l *Lab) Defer(f func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.cleanups = append(l.cleanups, f)
}

// forget drops a process and a node that have ended, where there are so many that they would add up.
func (l *Lab) forget(p *Process, n *Node) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.processes = slices.DeleteFunc(l.processes, func(other *Process) bool { return other == p })
	l.nodes = slices.DeleteFunc(l.nodes, func(other *Node) bool { return other == n })
}

// Doing tells whoever watches what happens at present.
func (l *Lab) Doing(format string, args ...any) {
	if l.progress != nil {
		l.progress(l.scenario, fmt.Sprintf(format, args...))
	}
}

// Dice gives random numbers that go by the seed, the scenario and the name alone: each goroutine
// takes some of its own, and its draws do not depend on when others draw.
func (l *Lab) Dice(name string) *rand.Rand {
	h := fnv.New64a()
	_, _ = io.WriteString(h, l.scenario+"/"+name)
	return rand.New(rand.NewPCG(l.seed, h.Sum64()))
}

// Path is a file or folder of the scenario.
func (l *Lab) Path(name string) string { return filepath.Join(l.Dir, name) }

// Write makes a file of the scenario and gives its path.
func (l *Lab) Write(name, content string) (string, error) {
	path := l.Path(name)
	return path, os.WriteFile(path, []byte(content), 0o600)
}

// History opens the history file of that name for appending: see package history. It is closed at
// the end.
func (l *Lab) History(name string) (*history.Log, error) {
	h, err := history.Open(l.Path(name + ".history"))
	if err == nil {
		l.Defer(func() { _ = h.Close() })
	}
	return h, err
}

// Events reads all history files of the scenario, by time.
func (l *Lab) Events() ([]history.Event, error) {
	files, err := filepath.Glob(l.Path("*.history"))
	if err != nil {
		return nil, err
	}
	return history.Read(files...)
}

// Await blocks until condition holds, which is asked every few milliseconds. It fails, naming
// what was awaited, when that takes longer than limit or the scenario ends.
func (l *Lab) Await(what string, limit time.Duration, condition func() bool) error {
	ctx, cancel := context.WithTimeout(l.ctx, limit)
	defer cancel()
	for !condition() {
		if !pause.For(ctx, 5*time.Millisecond) {
			if err := context.Cause(l.ctx); err != nil {
				return fmt.Errorf("await %s: %w", what, err)
			}
			return fmt.Errorf("%s: not within %s", what, limit)
		}
	}
	return nil
}

// Port gives a free port below those that the system gives to connections, so that it is
// still free when a server that was killed takes it again.
func (l *Lab) Port() (int, error) {
	for range 100 {
		port := 20_000 + rand.IntN(10_000)
		listener, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
		if err != nil {
			continue
		}
		return port, listener.Close()
	}
	return 0, errors.New("find a free port between 20000 and 30000: there is none")
}

// environ is what processes run in: the keys of the lab, and nothing of the user's settings.
func (l *Lab) environ() []string {
	var env []string
	for _, v := range os.Environ() {
		if !strings.HasPrefix(v, "MESHCTL_") && !strings.HasPrefix(v, "MASTER_SOCKET_") {
			env = append(env, v)
		}
	}
	return append(env, "HOME="+l.Dir, "XDG_CONFIG_HOME="+l.Dir, "XDG_STATE_HOME="+l.Path("state"), "TMPDIR="+l.Path("tmp"),
		"MESHCTL_PUBLIC_KEY="+l.Keys.Public, "MESHCTL_PRIVATE_KEY="+l.Keys.Private)
}

// Run runs meshctl to its end, or that of ctx, and gives what it wrote to stdout. An error has what it wrote
// to stderr.
func (l *Lab) Run(ctx context.Context, args ...string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, l.program, args...)
	cmd.Env, cmd.Dir = l.environ(), l.Dir
	cmd.WaitDelay = time.Second
	out, err := cmd.Output()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		err = fmt.Errorf("meshctl %s: %w: %s", args[0], err, strings.TrimSpace(string(exit.Stderr)))
	}
	return out, err
}

// Start starts meshctl with arguments. What it logs, as JSON, goes into NAME.log of the lab's folder,
// after what earlier processes of the same name have logged.
func (l *Lab) Start(name string, args ...string) (*Process, error) {
	return l.start(name, l.program, nil, args)
}

// Exec starts another program, like Start.
func (l *Lab) Exec(name, program string, args ...string) (*Process, error) {
	return l.start(name, program, nil, args)
}

// Worker starts meshctl as one of the workers of this package (workers.go), with a configuration of
// that worker's kind.
func (l *Lab) Worker(name, kind string, config any) (*Process, error) {
	stdin, err := json.Marshal(config)
	if err != nil {
		return nil, err
	}
	return l.start(name, l.program, stdin, []string{"chaos", "worker", kind})
}

// Logger writes into NAME.log of the lab's folder, as processes do.
func (l *Lab) Logger(name string) (*slog.Logger, error) {
	f, err := l.logFile(name)
	if err != nil {
		return nil, err
	}
	l.Defer(func() { _ = f.Close() })
	return slog.New(slog.NewJSONHandler(f, &slog.HandlerOptions{Level: slog.LevelInfo})).With("node", name), nil
}

func (l *Lab) logFile(name string) (*os.File, error) {
	return os.OpenFile(l.Path(name+".log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
}

// Node is a node in this process.
type Node struct {
	*node.Node
	stop func() error
}

// Stop has the node drain and end, and gives why it ended. It may be called again.
func (n *Node) Stop() error { return n.stop() }

// Join runs a node in this process and blocks until a master has accepted it. Keys, host and schema
// are the lab's and the master's, where the configuration has none.
func (l *Lab) Join(m *Master, cfg node.Config) (*Node, error) {
	if cfg.Schema == nil {
		s, err := schema.Parse("schema.yaml", []byte(m.Schema))
		if err != nil {
			return nil, err
		}
		cfg.Schema = s
	}
	if cfg.Master == "" {
		cfg.Master = m.Addr
	}
	if cfg.Ring == nil {
		cfg.Ring = l.Ring
	}
	cfg.Host = "127.0.0.1"
	n, err := node.New(cfg)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(l.ctx))
	var ran error
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		ran = n.Run(ctx)
	}()
	running := &Node{n, func() error {
		cancel()
		<-ended
		return ran
	}}
	l.mu.Lock()
	l.nodes = append(l.nodes, running)
	l.mu.Unlock()
	select {
	case <-n.Connected():
		return running, nil
	case <-ended:
		return nil, fmt.Errorf("join as %s: %w", n.Name(), ran)
	case <-l.ctx.Done():
		return nil, context.Cause(l.ctx)
	case <-time.After(joinLimit):
		return nil, fmt.Errorf("join as %s: no master within %s", n.Name(), joinLimit)
	}
}

// joinLimit is how long a process or node may take to be there.
const joinLimit = 30 * time.Second
