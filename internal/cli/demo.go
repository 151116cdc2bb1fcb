package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/meshctl/meshctl/internal/config"
	"github.com/meshctl/meshctl/internal/demo"
	"github.com/meshctl/meshctl/internal/mesh/node"
)

func newCmdDemo(app *App) *cobra.Command {
	return &cobra.Command{
		Use:   "demo",
		Short: "Watch a small mesh at work, in this process",
		Long: `Run a master, five workers with ten variants in all, and lively calls of every kind
between them, and print some of the calls as they end. Everything runs in this process, on free
ports of the loopback interface and with keys of its own; no Redis and no configuration
is used. Some calls fail or time out: that is part of it. Ctrl-C ends it.`,
		Example: "  meshctl demo",
		Args:    noArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return runDemo(cmd.Context(), app) },
	}
}

func runDemo(ctx context.Context, app *App) error {
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
	out := &demoOutput{w: app.Out, keysFile: file}
	err = demo.Run(ctx, demo.Config{Keys: ring.Keys, Out: out, Version: app.Build.Version, Logger: slog.New(slog.DiscardHandler)})
	if err == nil {
		err = out.err
	}
	if errors.Is(context.Cause(ctx), errInterrupted) && err == nil {
		return nil
	}
	return err
}

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
