package cli

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/meshctl/meshctl/internal/config"
	"github.com/meshctl/meshctl/internal/mesh/seal"
	"github.com/meshctl/meshctl/internal/mesh/wire"
	"github.com/spf13/cobra"
)

// moveTime is how long meshctl keys use watches the links move; moveLook how often it looks.
const (
	moveTime = 30 * time.Second
	moveLook = 500 * time.Millisecond
)

// keyChange is one of the commands that change the keys of the mesh.
type keyChange struct {
	app         *App
	cfg         *config.Config
	fingerprint string
	force       bool
	output      format

	file config.KeyRing
	ring *seal.Ring
}

// newCmdKeyChange makes a command about one key; run is called with the local keys read.
func newCmdKeyChange(app *App, cmd *cobra.Command, force string, run func(context.Context, *keyChange) error) *cobra.Command {
	c := &keyChange{app: app}
	cmd.Args = exactArgs(1)
	cmd.ValidArgsFunction = completeFingerprints(app)
	config.AddFlags(cmd.Flags(), config.CmdKeys)
	if force != "" {
		cmd.Flags().BoolVar(&c.force, "force", false, force)
	}
	output := addFormat(cmd, "how to print what came of it", formatTable, formatJSON, formatYAML, formatTable)
	cmd.RunE = func(cmd *cobra.Command, args []string) (err error) {
		c.fingerprint, c.output = args[0], *output
		if err := seal.ValidFingerprint(c.fingerprint); err != nil {
			return usagef("meshctl keys list shows the fingerprints", "%v", err)
		}
		if c.cfg, err = app.load(cmd); err != nil {
			return err
		}
		if c.file, c.ring, err = app.openKeys(c.cfg); err != nil {
			return err
		}
		return run(cmd.Context(), c)
	}
	return cmd
}

func newCmdKeysAdd(app *App) *cobra.Command {
	return newCmdKeyChange(app, &cobra.Command{
		Use:   "add FINGERPRINT",
		Short: "Give a key of the local keys file to the master and all nodes",
		Long: `Give a key of the local keys file to the master and, through it, to every meshctl node,
over native links. Each writes it to its own keys file, accepts it from then on, and
acknowledges. It is not used for new links before meshctl keys use.

May be repeated, for nodes that were away. Exits with 1 when somebody did not acknowledge.
Where tokens are required, it takes an operator's token.`,
		Example: `  meshctl keys add "$(meshctl keys new -o json | jq -r .fingerprint)"`,
	}, "", runKeysAdd)
}

func runKeysAdd(ctx context.Context, c *keyChange) error {
	key, err := localKey(c.ring, c.file.Source, c.fingerprint)
	if err != nil {
		return err
	}
	op, err := c.app.connect(ctx, c.cfg)
	if err != nil {
		return err
	}
	defer op.Close()
	order := wire.KeyOrder{Op: wire.KeyAdd, Fingerprint: c.fingerprint, Public: key.Keys().Public, Private: key.Keys().Private}
	peers, err := (&keyMesh{c.app, op}).everybody(ctx, order, false)
	if err != nil {
		return err
	}
	if err := c.app.acknowledge(c.fingerprint, peers, c.output); err != nil {
		return err
	}
	if c.ring.Used() != key {
		c.app.notice("next: meshctl keys use %s", c.fingerprint)
	}
	return nil
}

func newCmdKeysUse(app *App) *cobra.Command {
	return newCmdKeyChange(app, &cobra.Command{
		Use:   "use FINGERPRINT",
		Short: "Have everybody use a key for new links, and move the links there are",
		Long: `Have the master, every meshctl node and the local keys file use a key for new links. Links
that there are move: a second one is opened under the key, and the former one closed when
no request is under way on it. No call fails. Waits up to 30 s for that.

Refused unless everybody accepts the key, and while JavaScript nodes are connected: they
have one key only, and end when they meet another.`,
	}, "even if some do not accept the key; links to those stay on another", runKeysUse)
}

func runKeysUse(ctx context.Context, c *keyChange) error {
	key, err := localKey(c.ring, c.file.Source, c.fingerprint)
	if err != nil {
		return err
	}
	peers, err := meshKeys(ctx, c.app, c.cfg)
	if err != nil {
		return err
	}
	var javaScripts []string
	for _, p := range peers {
		if !p.counts() {
			javaScripts = append(javaScripts, p.Peer)
		}
	}
	if len(javaScripts) > 0 {
		return &wire.Error{
			Code:    wire.CodeDenied,
			Message: fmt.Sprintf("JavaScript nodes are connected, which have one key only and end when they meet another: %s", strings.Join(javaScripts, ", ")),
			Hint:    "stop them, or replace them by meshctl nodes, and start them with the new keys afterwards",
		}
	}
	if without := lacking(peers, c.fingerprint); len(without) > 0 && !c.force {
		return &hinted{
			fmt.Errorf("the key %s is not accepted by %s", c.fingerprint, strings.Join(without, ", ")),
			"meshctl keys add " + c.fingerprint + " gives it to them; --force does without them",
		}
	}
	peers, err = c.use(ctx)
	if err != nil {
		return err
	}
	// The operator's own keys last: if the mesh did not follow, they still fit.
	if err := c.file.Update(func(all []seal.Keys) ([]seal.Keys, error) { return seal.Preferred(all, key.Keys()) }); err != nil {
		c.app.notice("warning: the local keys are as before: %v", err)
	}
	if err := c.app.acknowledge(c.fingerprint, peers, c.output); err != nil {
		return err
	}
	if left := c.awaitMoved(ctx); left > 0 {
		c.app.notice("%s still on former keys: they move when their requests have ended; those of commands such as watch and bench last until these end", counted(left, "link"))
	}
	return ctx.Err()
}

func (c *keyChange) use(ctx context.Context) ([]keyPeer, error) {
	op, err := c.app.connect(ctx, c.cfg)
	if err != nil {
		return nil, err
	}
	defer op.Close()
	return (&keyMesh{c.app, op}).everybody(ctx, wire.KeyOrder{Op: wire.KeyUse, Fingerprint: c.fingerprint}, false)
}

// awaitMoved waits until the links of the mesh live on the key, and gives how many do not.
func (c *keyChange) awaitMoved(ctx context.Context) (left int) {
	ctx, cancel := context.WithTimeout(ctx, moveTime)
	defer cancel()
	look := time.NewTicker(moveLook)
	defer look.Stop()
	for {
		peers, err := meshKeys(ctx, c.app, c.cfg)
		if err != nil {
			return left
		}
		left = 0
		for _, p := range peers {
			for fingerprint, n := range p.Links {
				if fingerprint != c.fingerprint {
					left += n
				}
			}
		}
		if left == 0 {
			return 0
		}
		select {
		case <-look.C:
		case <-ctx.Done():
			return left
		}
	}
}

func newCmdKeysRemove(app *App) *cobra.Command {
	return newCmdKeyChange(app, &cobra.Command{
		Use:   "remove FINGERPRINT",
		Short: "Have everybody accept a key no more",
		Long: `Have every meshctl node, the master and the local keys file accept a key no more. Refused
for a key that somebody uses for new links, and while links live on it.

What waits in Redis, dead letters too, is sealed with the key that was used when it was
stored, and nobody can read it without that. Nodes refuse to remove the key of what is in
their queues there. The queues of workers without a node are not looked at.`,
	}, "even while links live on the key, which end, and what is sealed with it waits in Redis, which is lost", runKeysRemove)
}

func runKeysRemove(ctx context.Context, c *keyChange) error {
	if c.ring.Used().Fingerprint() == c.fingerprint {
		return usagef("meshctl keys use makes another the one for new links", "%s uses the key %s", c.file.Source, c.fingerprint)
	}
	op, err := c.app.connect(ctx, c.cfg)
	if err != nil {
		return err
	}
	defer op.Close()
	mesh := &keyMesh{c.app, op}
	peers, err := mesh.everybody(ctx, wire.KeyOrder{Op: wire.KeyList}, false)
	if err != nil {
		return err
	}
	using, links := used(peers, c.fingerprint)
	switch {
	case len(using) > 0:
		return &hinted{fmt.Errorf("the key %s is used for new links by %s", c.fingerprint, strings.Join(using, ", ")), "meshctl keys use makes another the one for new links"}
	case links > 0 && !c.force:
		return &hinted{fmt.Errorf("%s still on the key %s", counted(links, "link"), c.fingerprint), "they move within seconds of meshctl keys use, once their requests have ended; meshctl keys list counts them; --force ends them"}
	}
	knows := func(p keyPeer) bool { return slices.Contains(p.Accepts, c.fingerprint) }
	if _, err := c.ring.Find(c.fingerprint); err != nil && !slices.ContainsFunc(peers, knows) {
		// No error: a removal may be repeated. But nobody should take a mistyped key for removed.
		c.app.notice("warning: nobody that answers has a key %s, nor has %s; meshctl keys list shows the fingerprints", c.fingerprint, c.file.Source)
	}
	// The nodes first: as long as the master accepts the key, somebody who fails can be asked again.
	peers, err = mesh.everybody(ctx, wire.KeyOrder{Op: wire.KeyRemove, Fingerprint: c.fingerprint, Force: c.force}, true)
	if err != nil {
		return err
	}
	if k, err := c.ring.Find(c.fingerprint); err == nil && (c.force || !anyFailed(peers)) {
		if err := c.file.Update(func(all []seal.Keys) ([]seal.Keys, error) { return seal.Removed(all, k.Keys()) }); err != nil {
			c.app.notice("warning: the local keys are as before: %v", err)
		}
	}
	return c.app.acknowledge(c.fingerprint, peers, c.output)
}
