package cli

import (
	"github.com/meshctl/meshctl/internal/config"
	"github.com/spf13/cobra"
)

func newCmdConfig(app *App) *cobra.Command {
	return parentOnly("config", "See the configuration", newCmdConfigShow(app))
}

func newCmdConfigShow(app *App) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "show",
		Short: "Print every setting in effect and where it comes from",
		Long: `Print every setting in effect and where it comes from: the environment, the
configuration file with the line, or the default. Secrets are shown as "(set)".`,
		Args: noArgs,
	}
	config.AddFlags(cmd.Flags(), config.CmdConfigShow)
	output := addFormat(cmd, "how to print it", formatTable, formatJSON, formatYAML, formatTable)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		cfg, err := app.load(cmd)
		if err != nil {
			return err
		}
		return runConfigShow(app, cfg, *output)
	}
	return cmd
}

func runConfigShow(app *App, cfg *config.Config, output format) error {
	values := cfg.Values()
	if output != formatTable {
		return writeValue(app.Out, map[string]any{"file": cfg.File, "settings": values}, output)
	}
	file := cfg.File
	if file == "" {
		file = "none"
	}
	app.notice("configuration file: %s", file)
	rows := make([][]string, len(values))
	for i, v := range values {
		rows[i] = []string{v.Key, v.Value, v.Source}
	}
	return writeTable(app.Out, []string{"SETTING", "VALUE", "SOURCE"}, rows)
}
