package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/meshctl/meshctl/internal/config"
	"github.com/meshctl/meshctl/internal/demo"
	"github.com/meshctl/meshctl/internal/mesh/node"
	"github.com/meshctl/meshctl/internal/tui"
)

type demoOptions struct {
	app   *App
	noTUI bool
	theme string
}

func newCmdDemo(app *App) *cobra.Command {
	opts := &demoOptions{app: app}
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "Watch a small mesh at work, in this process",
		Long: `Run a master, five workers with ten variants in all, and lively calls of every kind
between them, and show them in the dashboard of meshctl watch. Everything runs in this
process, on free ports of the loopback interface and with keys of its own; no Redis and no
configuration is used. Some calls are slow, some fail, and a variant dies every now and
then and returns: that is part of it. q ends it.

Without a terminal, or with --no-tui, some of the calls are printed as they end, and how
to reach the mesh from another terminal. Ctrl-C ends that.`,
		Example: "  meshctl demo\n  meshctl demo --no-tui",
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := checkTheme(opts.theme); err != nil {
				return err
			}
			return runDemo(cmd.Context(), opts)
		},
	}
	cmd.Flags().BoolVar(&opts.noTUI, "no-tui", false, "print calls instead of opening the dashboard")
	addThemeFlag(cmd, &opts.theme)
	return cmd
}

func runDemo(ctx context.Context, opts *demoOptions) error {
	// A keys file lets other terminals reach the demo; it goes when the demo does.
	dir, err := os.MkdirTemp("", "meshctl-demo-")
	if err != nil {
		return fmt.Errorf("make a place for the demo's keys: %w", err)
	}
	defer os.RemoveAll(dir)
	file := filepath.Join(dir, "keys.yaml")
	if _, err := config.CreateKeysFile(file); err != nil {
		return err
	}
	ring, err := config.ReadKeysFile(file)
	if err != nil {
		return err
	}
	cfg := demo.Config{Keys: ring.Keys, Version: opts.app.Build.Version, Logger: slog.New(slog.DiscardHandler)}
	if opts.app.interactive() && !opts.noTUI {
		return opts.show(ctx, cfg)
	}
	// A reader that leaves, such as head, ends the demo in order: the keys are to go.
	ctx, stop := signal.NotifyContext(ctx, syscall.SIGPIPE)
	defer stop()
	out := &demoOutput{w: opts.app.Out, keysFile: file}
	cfg.Out = out
	err = demo.Run(ctx, cfg)
	if err == nil {
		err = out.err
	}
	if errors.Is(context.Cause(ctx), errInterrupted) && err == nil {
		return nil
	}
	return err
}

// show opens the dashboard on the demo, which ends with it.
func (opts *demoOptions) show(ctx context.Context, cfg demo.Config) error {
	running, stop := context.WithCancel(ctx)
	defer stop()
	started := make(demoStarted, 1)
	cfg.Out = started
	ended := make(chan error, 1)
	go func() { ended <- demo.Run(running, cfg) }()
	var mesh demo.Mesh
	select {
	case err := <-ended:
		return err
	case mesh = <-started:
	}
	shown := func() error {
		source, err := node.Watch(ctx, mesh.Operator)
		if err != nil {
			return err
		}
		defer source.Close()
		return opts.app.dashboard(ctx, tui.Options{Source: source, Control: source, Theme: opts.theme, Title: "demo " + mesh.Master})
	}()
	stop()
	return errors.Join(shown, <-ended)
}

// demoStarted passes on where the mesh is, and nothing else.
type demoStarted chan demo.Mesh

// Started implements demo.Output.
func (s demoStarted) Started(m demo.Mesh) { s <- m }

// Called implements demo.Output.
func (s demoStarted) Called(demo.Call) {}

// Stopped implements demo.Output.
func (s demoStarted) Stopped(demo.Summary) {}

// demoOutput prints the demo as lines of aligned columns.
type demoOutput struct {
	w        io.Writer
	keysFile string
	err      error // of writing
}

func (o *demoOutput) printf(format string, args ...any) {
	if _, err := fmt.Fprintf(o.w, format, args...); err != nil && o.err == nil {
		o.err = err
	}
}

// Started implements demo.Output.
func (o *demoOutput) Started(m demo.Mesh) {
	o.printf("A mesh runs: master at %s; nodes %s.\n", m.Master, strings.Join(m.Nodes, ", "))
	o.printf("Try in another terminal, while this runs:\n")
	at := fmt.Sprintf("--master %s --keys %s", m.Master, o.keysFile)
	o.printf("  meshctl ls %s\n  meshctl call billing.quote -d '{\"items\":2}' %s\n", at, at)
	o.printf("Ctrl-C ends it.\n\n")
	o.printf("%-8s  %-15s  %-17s  %-17s  %8s  %s\n", "TIME", "KIND", "FROM", "TO", "TOOK", "OUTCOME")
}

// Called implements demo.Output.
func (o *demoOutput) Called(c demo.Call) {
	target, took := "", time.Duration(0)
	if c.Result != nil {
		target, took = c.Result.Target, c.Result.Elapsed
	}
	o.printf("%s  %-15s  %-17s  %-17s  %8s  %s\n", time.Now().Format(time.TimeOnly), c.Kind, c.From, target,
		fmt.Sprintf("%.1fms", float64(took.Microseconds())/1000), o.outcome(c))
}

func (o *demoOutput) outcome(c demo.Call) string {
	if c.Err != nil {
		return o.failure(c.Err)
	}
	words := make([]string, len(c.Result.Replies))
	for i, r := range c.Result.Replies {
		words[i] = o.reply(c.Result, r)
	}
	slices.Sort(words)
	return strings.Join(words, "  ")
}

func (o *demoOutput) reply(call *node.Result, r node.Reply) string {
	switch {
	case r.Err != nil:
		return r.Variant + " " + o.failure(r.Err)
	case !call.Responds:
		return r.Variant + " took it"
	}
	text := string(r.Result)
	if len(text) > 60 {
		text = text[:57] + "..."
	}
	return r.Variant + " " + text
}

func (o *demoOutput) failure(err error) string { return "failed: " + err.Error() }

// Stopped implements demo.Output.
func (o *demoOutput) Stopped(s demo.Summary) {
	var failures []string
	for code, n := range s.Failed {
		failures = append(failures, fmt.Sprintf("%d %s", n, code))
	}
	slices.Sort(failures)
	if len(failures) == 0 {
		failures = []string{"none failed"}
	}
	o.printf("\n%d calls; %s. Everything has stopped.\n", s.Calls, strings.Join(failures, ", "))
}
