package cli

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/meshctl/meshctl/internal/config"
	"github.com/meshctl/meshctl/internal/mesh/schema"
	"github.com/spf13/cobra"
)

func newCmdSchema(app *App) *cobra.Command {
	return parentOnly("schema", "Check and show schemas", newCmdSchemaValidate(app), newCmdSchemaShow(app, nil))
}

func completeFile(*cobra.Command, []string, string) ([]cobra.Completion, cobra.ShellCompDirective) {
	return []cobra.Completion{"yaml", "yml", "json", "toml"}, cobra.ShellCompDirectiveFilterFileExt
}

func newCmdSchemaValidate(app *App) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "validate FILE",
		Short: "Check a schema file",
		Long: `Check a schema file (YAML, JSON or TOML) and list all that is wrong in it, with file,
line and what to write instead.`,
		Args: exactArgs(1),
	}
	output := addFormat(cmd, "how to print it", formatTable, formatJSON, formatYAML, formatTable)
	cmd.ValidArgsFunction = completeFile
	cmd.RunE = func(_ *cobra.Command, args []string) error { return runSchemaValidate(app, args[0], *output) }
	return cmd
}

func runSchemaValidate(app *App, path string, output format) error {
	s, err := loadSchema(path)
	if err != nil {
		return err
	}
	commands := 0
	for _, w := range s.Workers {
		commands += len(w.Commands)
	}
	if output != formatTable {
		return writeValue(app.Out, map[string]any{
			"valid": true, "file": path, "workers": len(s.Workers), "commands": commands,
		}, output)
	}
	_, err = fmt.Fprintf(app.Out, "%s is valid: %s, %s\n", path, counted(len(s.Workers), "worker"), counted(commands, "command"))
	return err
}

type schemaShowOptions struct {
	app    *App
	cfg    *config.Config
	path   string
	output format
}

func newCmdSchemaShow(app *App, runF func(context.Context, *schemaShowOptions) error) *cobra.Command {
	if runF == nil {
		runF = runSchemaShow
	}
	opts := &schemaShowOptions{app: app}
	cmd := &cobra.Command{
		Use:   "show [FILE]",
		Short: "Print a schema: a file's, the master's, or the starter schema",
		Long: `Print the schema of FILE or of --schema, with its methods; or else that of the master,
which keeps its methods to itself. --starter prints the embedded schema that is used
where none is given.`,
		Args: upToArgs(1),
	}
	config.AddFlags(cmd.Flags(), config.CmdSchemaShow)
	starter := cmd.Flags().Bool("starter", false, "print the starter schema")
	output := addFormat(cmd, "how to print it", formatYAML, formatYAML, formatJSON)
	cmd.ValidArgsFunction = completeFile
	cmd.RunE = func(cmd *cobra.Command, args []string) (err error) {
		opts.output = *output
		if *starter {
			if len(args) > 0 {
				return usagef("leave one of the two away", "--starter and a file are given")
			}
			return printSchema(app, nil, *output)
		}
		if opts.cfg, err = app.load(cmd); err != nil {
			return err
		}
		opts.path = opts.cfg.Schema
		if len(args) == 1 {
			opts.path = args[0]
		}
		return runF(cmd.Context(), opts)
	}
	return cmd
}

func runSchemaShow(ctx context.Context, opts *schemaShowOptions) error {
	if opts.path != "" {
		s, err := loadSchema(opts.path)
		if err != nil {
			return err
		}
		return printSchema(opts.app, s, opts.output)
	}
	op, err := opts.app.connect(ctx, opts.cfg)
	if err != nil {
		return &hinted{err, "no master answers; meshctl schema show FILE shows a file, --starter the starter schema"}
	}
	defer op.Close()
	s := op.Schema()
	if s == nil {
		return fmt.Errorf("get the schema: the master does not tell it")
	}
	return printSchema(opts.app, s, opts.output)
}

// printSchema prints s, or the starter schema where s is nil.
func printSchema(app *App, s *schema.Schema, output format) error {
	if s == nil {
		var err error
		if s, err = loadSchema(""); err != nil {
			return err
		}
	}
	if output == formatJSON {
		data, err := s.Wire()
		if err != nil {
			return fmt.Errorf("encode schema: %w", err)
		}
		return writeJSON(app.Out, json.RawMessage(data), true)
	}
	data, err := s.YAML()
	if err != nil {
		return fmt.Errorf("encode schema: %w", err)
	}
	_, err = app.Out.Write(data)
	return err
}
