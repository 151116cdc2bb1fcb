package tui

import (
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"sync"

	tea "charm.land/bubbletea/v2"

	"github.com/meshctl/meshctl/internal/tui/screen"
)

// crash remembers the first panic of the dashboard and ends the program, so that the
// terminal is restored before anything is said. It is safe for concurrent use.
type crash struct {
	end func()

	mu    sync.Mutex
	first error
}

// catch is deferred in every goroutine of ours.
func (c *crash) catch(where string) {
	if v := recover(); v != nil {
		c.note(where, v, debug.Stack())
	}
}

func (c *crash) note(where string, v any, stack []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.first == nil {
		what := describe(v)
		c.first = fmt.Errorf("the dashboard failed in its %s: %s", where, what)
		if path, err := report(where, what, stack); err == nil {
			c.first = fmt.Errorf("%w; please report it with %s", c.first, path)
		}
	}
	c.end()
}

func (c *crash) err() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.first
}

// describe says what a panic was about. Only what the runtime or we wrote is told, since
// other values might be somebody's payload.
func describe(v any) string {
	switch v := v.(type) {
	case runtime.Error:
		return v.Error()
	case string:
		text, _ := screen.Cut(v, 200)
		return text
	}
	return fmt.Sprintf("panic of type %T", v)
}

// report writes a stack to a file for whoever mends it. Stacks have names and addresses,
// no contents.
func report(where, what string, stack []byte) (string, error) {
	f, err := os.CreateTemp("", "meshctl-panic-*.txt")
	if err != nil {
		return "", err
	}
	defer func() { _ = f.Close() }()
	if _, err := fmt.Fprintf(f, "meshctl's dashboard failed in its %s: %s\n\n%s", where, what, stack); err != nil {
		return "", err
	}
	return f.Name(), nil
}

// guard is the root with every call of it watched for panics.
type guard struct {
	root  *root
	crash *crash
}

func (g *guard) Init() tea.Cmd {
	defer g.crash.catch("start")
	return g.watch(g.root.Init())
}

func (g *guard) Update(msg tea.Msg) (m tea.Model, cmd tea.Cmd) {
	m = g // after a panic too
	defer g.crash.catch("update")
	_, cmd = g.root.Update(msg)
	return g, g.watch(cmd)
}

func (g *guard) View() tea.View {
	defer g.crash.catch("view")
	return g.root.View()
}

// watch guards a command, and those that it gives.
func (g *guard) watch(cmd tea.Cmd) tea.Cmd {
	if cmd == nil {
		return nil
	}
	return func() tea.Msg {
		defer g.crash.catch("command")
		msg := cmd()
		if batch, ok := msg.(tea.BatchMsg); ok {
			for i := range batch {
				batch[i] = g.watch(batch[i])
			}
		}
		return msg
	}
}
