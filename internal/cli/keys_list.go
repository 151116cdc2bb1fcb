package cli

import (
	"context"

	"github.com/meshctl/meshctl/internal/config"
	"github.com/meshctl/meshctl/internal/mesh/wire"
	"github.com/spf13/cobra"
)

func newCmdKeysList(app *App) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List the local keys, and who in the mesh accepts and uses which",
		Long: `List the keys of the local keys file by fingerprint and, where a master can be reached,
which key the master and each node use, which they accept, how many of their links live
on which, and who lacks a key that the master accepts.`,
		Example: `  meshctl keys list
  meshctl keys list -o json | jq '.mesh.peers[] | select(.lacks)'`,
		Args: noArgs,
	}
	config.AddFlags(cmd.Flags(), config.CmdKeys)
	output := addFormat(cmd, "how to print them", formatTable, formatJSON, formatYAML, formatTable)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		cfg, err := app.load(cmd)
		if err != nil {
			return err
		}
		return runKeysList(cmd.Context(), app, cfg, *output)
	}
	return cmd
}

// keyList is what meshctl keys list prints.
type keyList struct {
	Source string     `json:"source"`
	Keys   []localRow `json:"keys"`
	Mesh   struct {
		Peers []keyPeer `json:"peers"`
		Error *failure  `json:"error,omitempty"`
	} `json:"mesh"`
}

type localRow struct {
	Fingerprint string `json:"fingerprint"`
	Used        bool   `json:"used"`
}

func runKeysList(ctx context.Context, app *App, cfg *config.Config, output format) error {
	file, ring, err := app.openKeys(cfg)
	if err != nil {
		return err
	}
	list := keyList{Source: file.Source}
	for i, f := range ring.Fingerprints() {
		list.Keys = append(list.Keys, localRow{f, i == 0})
	}
	list.Mesh.Peers = []keyPeer{}
	peers, err := meshKeys(ctx, app, cfg)
	if err != nil {
		f := classify(err)
		list.Mesh.Error = &f
	} else {
		list.Mesh.Peers = peers
	}
	if output != formatTable {
		return writeValue(app.Out, list, output)
	}
	var rows [][]string
	for _, k := range list.Keys {
		state := "accepted"
		if k.Used {
			state = "used"
		}
		rows = append(rows, []string{k.Fingerprint, state, list.Source})
	}
	if err := writeTable(app.Out, []string{"FINGERPRINT", "HERE", "SOURCE"}, rows); err != nil {
		return err
	}
	if e := list.Mesh.Error; e != nil {
		app.notice("nothing is known of the mesh: %s", printable(e.Message))
		return nil
	}
	if _, err := app.Out.Write([]byte("\n")); err != nil {
		return err
	}
	return writeTable(app.Out, []string{"PEER", "KIND", "USES", "ACCEPTS", "LINKS", "NOTE"}, keyRows(list.Mesh.Peers))
}

// meshKeys asks everybody for the state of their keys.
func meshKeys(ctx context.Context, app *App, cfg *config.Config) ([]keyPeer, error) {
	op, err := app.connect(ctx, cfg)
	if err != nil {
		return nil, err
	}
	defer op.Close()
	return (&keyMesh{app, op}).everybody(ctx, wire.KeyOrder{Op: wire.KeyList}, false)
}
