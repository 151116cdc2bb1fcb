package cli

import (
	"context"
	"io"
	"slices"

	"github.com/meshctl/meshctl/internal/config"
	"github.com/meshctl/meshctl/internal/mesh/node"
	"github.com/meshctl/meshctl/internal/mesh/schema"
	"github.com/meshctl/meshctl/internal/mesh/wire"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

type completer = func(cmd *cobra.Command, args []string, toComplete string) ([]cobra.Completion, cobra.ShellCompDirective)

// completeSettings makes the flags of settings complete what they accept, and files
// where they take one.
func completeSettings(cmd *cobra.Command) {
	for _, s := range config.Settings() {
		if f := cmd.Flags().Lookup(s.Key); f == nil || s.Kind == config.KindPath {
			continue
		}
		if _, exists := cmd.GetFlagCompletionFunc(s.Key); exists {
			continue
		}
		// It fails only where the flag does not exist.
		_ = cmd.RegisterFlagCompletionFunc(s.Key, cobra.FixedCompletions(slices.Concat(s.Choices, s.Offers), cobra.ShellCompDirectiveNoFileComp))
	}
	for _, child := range cmd.Commands() {
		completeSettings(child)
	}
}

// unquoteUsage takes the quotes out of what is said of flags: they name the value for the help,
// and cobra would have shells show them.
func unquoteUsage(cmd *cobra.Command) {
	plain := func(f *pflag.Flag) { _, f.Usage = pflag.UnquoteUsage(f) }
	cmd.LocalFlags().VisitAll(plain)
	for _, child := range cmd.Commands() {
		unquoteUsage(child)
	}
}

// completeWorkers completes one worker's name.
func completeWorkers(app *App) completer {
	return func(cmd *cobra.Command, args []string, _ string) ([]cobra.Completion, cobra.ShellCompDirective) {
		if len(args) > 0 {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		known := app.askMesh(cmd, false)
		return known.workers(), cobra.ShellCompDirectiveNoFileComp
	}
}

// completeFingerprints completes one key of the local keys file.
func completeFingerprints(app *App) completer {
	return func(cmd *cobra.Command, args []string, _ string) ([]cobra.Completion, cobra.ShellCompDirective) {
		cfg, err := app.load(cmd)
		if err != nil || len(args) > 0 {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		file, err := cfg.FindKeys() // and makes none
		if err != nil {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		ring, err := file.Open()
		if err != nil {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		return ring.Fingerprints(), cobra.ShellCompDirectiveNoFileComp
	}
}

// completeTarget completes WORKER.COMMAND as the argument at position at.
func completeTarget(app *App, at int) completer {
	return func(cmd *cobra.Command, args []string, _ string) ([]cobra.Completion, cobra.ShellCompDirective) {
		if len(args) != at {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		return app.askMesh(cmd, false).targets(), cobra.ShellCompDirectiveNoFileComp
	}
}

// completeVariants completes the variants of the worker in the first argument.
func completeVariants(app *App) completer {
	return func(cmd *cobra.Command, args []string, _ string) ([]cobra.Completion, cobra.ShellCompDirective) {
		if len(args) == 0 {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		worker, _, err := splitTarget(args[0])
		if err != nil {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		return app.askMesh(cmd, true).variants(worker), cobra.ShellCompDirectiveNoFileComp
	}
}

// completeDeadLetters completes WORKER.COMMAND, and then the ids of its dead letters.
func completeDeadLetters(app *App) completer {
	return func(cmd *cobra.Command, args []string, toComplete string) ([]cobra.Completion, cobra.ShellCompDirective) {
		if len(args) == 0 {
			return completeTarget(app, 0)(cmd, args, toComplete)
		}
		opts := queueOptions{app: app}
		var err error
		if opts.worker, opts.command, err = splitTarget(args[0]); err != nil {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		if opts.cfg, err = app.load(cmd); err != nil {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		var ids []cobra.Completion
		app.quietly(opts.cfg, func(ctx context.Context, op *node.Operator) {
			answers, _ := opts.each(ctx, op, wire.QueueRequest{Op: wire.QueueDead, Command: opts.command})
			for _, a := range answers {
				if a.QueueReply == nil {
					continue
				}
				for _, e := range a.Entries {
					if !slices.Contains(args, e.ID) {
						ids = append(ids, cobra.CompletionWithDesc(printable(e.ID), printable(e.Error)))
					}
				}
			}
		})
		return ids, cobra.ShellCompDirectiveNoFileComp
	}
}

// meshNames is what completion knows of the mesh; nothing where nobody answers.
type meshNames struct {
	schema *schema.Schema
	nodes  []wire.NodeInfo
}

// askMesh learns names from the schema file of the configuration, or else from the
// master. It is silent about failures: the shell would show them as completions.
func (a *App) askMesh(cmd *cobra.Command, wantNodes bool) meshNames {
	var known meshNames
	cfg, err := a.load(cmd)
	if err != nil {
		return known
	}
	if cfg.Schema != "" && !wantNodes {
		known.schema, _ = loadSchema(cfg.Schema)
		return known
	}
	a.quietly(cfg, func(ctx context.Context, op *node.Operator) {
		known.schema = op.Schema()
		if wantNodes {
			known.nodes, _ = op.Nodes(ctx)
		}
	})
	return known
}

// quietly has ask ask the mesh, if that answers. It is silent about failures.
func (a *App) quietly(cfg *config.Config, ask func(context.Context, *node.Operator)) {
	// No keys, no mesh: a press of the tab key makes none.
	if _, err := cfg.FindKeys(); err != nil {
		return
	}
	// Cobra completes without the context of Main.
	ctx, cancel := context.WithTimeout(context.Background(), a.completionTime)
	defer cancel()
	silent := App{Err: io.Discard, Env: a.Env, Build: a.Build}
	op, err := silent.connect(ctx, cfg)
	if err != nil {
		return
	}
	defer op.Close()
	ask(ctx, op)
}

func (m meshNames) workers() []cobra.Completion {
	if m.schema == nil {
		return nil
	}
	return m.schema.WorkerNames()
}

func (m meshNames) targets() []cobra.Completion {
	var targets []cobra.Completion
	for _, w := range m.workers() {
		for _, c := range m.schema.CommandNames(w) {
			about := ""
			if cmd, ok := m.schema.Lookup(w, c); ok {
				about = string(cmd.Delivery)
			}
			targets = append(targets, cobra.CompletionWithDesc(w+"."+c, about))
		}
	}
	return targets
}

func (m meshNames) variants(worker string) []cobra.Completion {
	var names []cobra.Completion
	for _, n := range m.nodes {
		if n.Worker == worker {
			names = append(names, printable(n.Variant))
		}
	}
	slices.Sort(names)
	return names
}
