package cli

import (
	"fmt"
	"strings"

	"github.com/meshctl/meshctl/internal/config"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

const (
	groupRun  = "run"
	groupUse  = "use"
	groupKnow = "know"
)

func newCmdRoot(app *App) *cobra.Command {
	root := &cobra.Command{
		Use:   "meshctl",
		Short: "Run and use a mesh of workers",
		Long: `meshctl runs and uses a mesh of workers: processes that find each other through a
master and then call each other's commands directly. It speaks with meshctl nodes
and with existing JavaScript nodes of socket-mesh.

  meshctl demo             see a whole mesh at work, in one terminal

or, in several terminals:

  meshctl serve-master
  meshctl join worker      a second one gives a second variant
  meshctl call worker.status
  meshctl call worker.echo -d '{"hello":"mesh"}'
  meshctl watch            see it at work`,
		SilenceErrors: true,
		SilenceUsage:  true,
		Args:          unknownCommand,
		Version:       app.Build.Version,
		RunE:          func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	root.SetIn(app.In)
	root.SetOut(app.Out)
	root.SetErr(app.Err)
	root.SetFlagErrorFunc(flagError)
	root.SetVersionTemplate(app.version().line() + "\n")
	root.PersistentFlags().String("config", "", "configuration `file`; default: $MESHCTL_CONFIG, ./meshctl.yaml, then the user's configuration folder")
	root.SuggestionsMinimumDistance = 2
	root.AddGroup(
		&cobra.Group{ID: groupRun, Title: "Run a mesh:"},
		&cobra.Group{ID: groupUse, Title: "Use it:"},
		&cobra.Group{ID: groupKnow, Title: "Set it up and understand it:"},
	)
	add := func(group string, cmds ...*cobra.Command) {
		for _, c := range cmds {
			c.GroupID = group
			root.AddCommand(c)
		}
	}
	add(groupRun, newCmdDemo(app), newCmdServeMaster(app, nil), newCmdJoin(app, nil))
	add(groupUse, newCmdCall(app, nil), newCmdList(app, nil), newCmdWatch(app, nil), newCmdTop(app, nil), newCmdEvents(app, nil), newCmdBench(app, nil), newCmdQueue(app))
	add(groupKnow, newCmdInit(app), newCmdSchema(app), newCmdExplain(app, nil), newCmdKeys(app), newCmdToken(app), newCmdConfig(app), newCmdChaos(app))
	root.AddCommand(newCmdVersion(app), &cobra.Command{
		Use:   "exit-codes",
		Short: "What meshctl exits with",
		Long:  strings.TrimSuffix(exitCodesHelp(), "\n"),
	})
	for _, c := range root.Commands() {
		completeSettings(c)
	}
	refuseUnknown(root)
	return root
}

// refuseUnknown has cobra's own commands end with an error for a command or shell that they do
// not know: they print the help of the one above, on stdout, as if that had been asked for.
func refuseUnknown(root *cobra.Command) {
	root.InitDefaultHelpCmd()
	root.InitDefaultCompletionCmd()
	for _, c := range root.Commands() {
		switch c.Name() {
		case "completion":
			c.Args, c.RunE = unknownCommand, func(cmd *cobra.Command, _ []string) error { return cmd.Help() }
		case "help":
			c.Args = func(_ *cobra.Command, args []string) error {
				topic, rest, err := root.Find(args)
				if err != nil || !topic.HasSubCommands() {
					return err
				}
				return unknownCommand(topic, rest)
			}
		}
	}
}

// load finds out the configuration of a command whose flags are parsed.
func (a *App) load(cmd *cobra.Command) (*config.Config, error) {
	file, err := cmd.Flags().GetString("config")
	if err != nil {
		return nil, fmt.Errorf("read --config: %w", err)
	}
	cfg, err := config.Load(a.Env, file, cmd.Flags())
	if err != nil {
		return nil, err
	}
	// In a file or the environment they may be there for others.
	for _, name := range []string{"mesh", "queue-lease"} {
		if cmd.Flags().Changed(name) && cfg.Redis == "" {
			return nil, usagef("give --redis as well, or leave it away", "--%s does nothing without redis", name)
		}
	}
	return cfg, nil
}

// flagError makes usage errors of what cobra says about flags. Behind a mistyped command its
// flags are those of the one above, and not what is wrong.
func flagError(cmd *cobra.Command, err error) error {
	if args := cmd.Flags().Args(); cmd.HasSubCommands() && len(args) > 0 {
		return unknownCommand(cmd, args)
	}
	hint := fmt.Sprintf("%s --help shows the flags", cmd.CommandPath())
	if name, ok := strings.CutPrefix(err.Error(), "unknown flag: --"); ok {
		var names []string
		cmd.Flags().VisitAll(func(f *pflag.Flag) { names = append(names, f.Name) })
		if near := config.Nearest(name, names); near != "" {
			hint = fmt.Sprintf("did you mean --%s?", near)
		}
	}
	return &usageError{err.Error(), hint}
}

// unknownCommand refuses arguments of a command that only has subcommands.
func unknownCommand(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	hint := fmt.Sprintf("%s --help shows the commands", cmd.CommandPath())
	var names []string
	for _, c := range cmd.Commands() {
		if c.IsAvailableCommand() {
			names = append(names, c.Name())
		}
	}
	if near := config.Nearest(args[0], names); near != "" {
		hint = fmt.Sprintf("did you mean %s %s?", cmd.CommandPath(), near)
	}
	return usagef(hint, "unknown command %q", args[0])
}

// parentOnly is a command that only has subcommands.
func parentOnly(use, short string, children ...*cobra.Command) *cobra.Command {
	cmd := &cobra.Command{
		Use: use, Short: short, Args: unknownCommand,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(children...)
	return cmd
}

// noArgs, upToArgs and exactArgs are cobra's with usage errors.
func noArgs(cmd *cobra.Command, args []string) error { return upToArgs(0)(cmd, args) }

func upToArgs(most int) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) > most {
			return usagef("usage: "+cmd.UseLine(), "unexpected argument %q", args[most])
		}
		return nil
	}
}

func exactArgs(n int) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) < n {
			return usagef("usage: "+cmd.UseLine(), "an argument is missing")
		}
		return upToArgs(n)(cmd, args)
	}
}
