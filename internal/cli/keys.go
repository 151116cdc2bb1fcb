package cli

import (
	"errors"
	"fmt"
	"slices"

	"github.com/meshctl/meshctl/internal/config"
	"github.com/meshctl/meshctl/internal/mesh/seal"
	"github.com/spf13/cobra"
)

func newCmdKeys(app *App) *cobra.Command {
	cmd := parentOnly("keys", "Look after the keys of the mesh",
		newCmdKeysShow(app), newCmdKeysNew(app), newCmdKeysList(app),
		newCmdKeysAdd(app), newCmdKeysUse(app), newCmdKeysRemove(app))
	cmd.Long = `Look after the keys of the mesh. A keys file may hold several keys: all are accepted, one
is used for new links. A running mesh moves to another key without a restart and without
a failed call:

  meshctl keys new          draws a key into the local keys file
  meshctl keys add KEY      gives it to the master and all nodes
  meshctl keys use KEY      has all use it for new links, and moves the links there are
  meshctl keys remove KEY   has all accept the former key no more

Keys are named by fingerprint and never printed.`
	return cmd
}

func newCmdKeysShow(app *App) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "show",
		Short: "Print where the keys are and their fingerprint, never the keys",
		Long: `Print where the keys in use come from and the fingerprint of the one for new links. Two
machines with the same fingerprint have the same key. The keys themselves are never
printed.`,
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
	return app.printKey(ring.Source, ring.Keys.Fingerprint(), output)
}

func (a *App) printKey(source, fingerprint string, output format) error {
	if output == formatTable {
		return writeTable(a.Out, []string{"SOURCE", "FINGERPRINT"}, [][]string{{source, fingerprint}})
	}
	return writeValue(a.Out, map[string]string{"source": source, "fingerprint": fingerprint}, output)
}

func newCmdKeysNew(app *App) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "new",
		Short: "Draw a further key into the local keys file",
		Long: `Draw a random key into the local keys file, where it is accepted and not yet used, and
print its fingerprint. The mesh learns of it with meshctl keys add.`,
		Example: `  meshctl keys new
  meshctl keys new -o json | jq -r .fingerprint`,
		Args: noArgs,
	}
	config.AddFlags(cmd.Flags(), config.CmdKeysNew)
	output := addFormat(cmd, "how to print it", formatTable, formatJSON, formatYAML, formatTable)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		cfg, err := app.load(cmd)
		if err != nil {
			return err
		}
		return runKeysNew(app, cfg, *output)
	}
	return cmd
}

func runKeysNew(app *App, cfg *config.Config, output format) error {
	ring, err := app.loadKeys(cfg)
	if err != nil {
		return err
	}
	keys, err := seal.GenerateKeys()
	if err != nil {
		return err
	}
	err = ring.Update(func(all []seal.Keys) ([]seal.Keys, error) { return seal.Added(all, keys) })
	switch {
	case errors.Is(err, seal.ErrRingFull):
		return &hinted{fmt.Errorf("keep the new key: %w", err), "meshctl keys remove takes one away; meshctl keys list shows them"}
	case err != nil:
		return fmt.Errorf("keep the new key: %w", err)
	}
	fingerprint := keys.Fingerprint()
	if err := app.printKey(ring.Source, fingerprint, output); err != nil {
		return err
	}
	app.notice("it is accepted here and not used yet; next: meshctl keys add %s", fingerprint)
	return nil
}

// localKey finds a key of the local ring.
func localKey(ring *seal.Ring, source, fingerprint string) (*seal.Key, error) {
	key, err := ring.Find(fingerprint)
	if err != nil {
		return nil, usagef("meshctl keys list shows those it has, meshctl keys new draws one", "%s has no key %s", source, fingerprint)
	}
	return key, nil
}

// used tells whether some of the peers use a key for new links, or live on it.
func used(peers []keyPeer, fingerprint string) (using []string, links int) {
	for _, p := range peers {
		if p.Uses == fingerprint {
			using = append(using, p.Peer)
		}
		links += p.Links[fingerprint]
	}
	return using, links
}

// lacking lists the meshctl peers that do not accept a key, or do not say so.
func lacking(peers []keyPeer, fingerprint string) (names []string) {
	for _, p := range peers {
		if p.counts() && !slices.Contains(p.Accepts, fingerprint) {
			names = append(names, p.Peer)
		}
	}
	return names
}
