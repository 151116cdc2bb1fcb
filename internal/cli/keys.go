package cli

import (
	"github.com/meshctl/meshctl/internal/config"
	"github.com/spf13/cobra"
)

func newCmdKeys(app *App) *cobra.Command {
	return parentOnly("keys", "Look after the keys of the mesh", newCmdKeysShow(app))
}

func newCmdKeysShow(app *App) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "show",
		Short: "Print where the keys are and their fingerprint, never the keys",
		Long: `Print where the keys in use come from and their fingerprint. Two machines with the same
fingerprint have the same keys. The keys themselves are never printed.`,
		Args: noArgs,
	}
	config.AddFlags(cmd.Flags(), config.CmdKeysShow)
	output := addFormat(cmd, "how to print it", formatTable, formatJSON, formatYAML, formatTable)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		cfg, err := app.load(cmd)
		if err != nil {
			return err
		}
		return runKeysShow(app, cfg, *output)
	}
	return cmd
}

func runKeysShow(app *App, cfg *config.Config, output format) error {
	ring, err := app.loadKeys(cfg)
	if err != nil {
		return err
	}
	fingerprint := ring.Keys.Fingerprint()
	if output == formatTable {
		return writeTable(app.Out, []string{"SOURCE", "FINGERPRINT"}, [][]string{{ring.Source, fingerprint}})
	}
	return writeValue(app.Out, map[string]string{"source": ring.Source, "fingerprint": fingerprint}, output)
}
