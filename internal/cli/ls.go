package cli

import (
	"context"
	"net"
	"slices"
	"strconv"
	"time"

	"github.com/meshctl/meshctl/internal/config"
	"github.com/meshctl/meshctl/internal/mesh/wire"
	"github.com/spf13/cobra"
)

type listOptions struct {
	app    *App
	cfg    *config.Config
	worker string
	output format
}

func newCmdList(app *App, runF func(context.Context, *listOptions) error) *cobra.Command {
	if runF == nil {
		runF = runList
	}
	opts := &listOptions{app: app}
	cmd := &cobra.Command{
		Use:   "ls [WORKER]",
		Short: "List the nodes of the mesh",
		Long: `List the nodes that the master knows: worker, variant, address, kind (meshctl or
javascript), how they are linked to it (native or socketio) and how long they have been
there. The master has to be meshctl.`,
		Example: `  meshctl ls
  meshctl ls worker -o json | jq -r '.nodes[].variant'`,
		Args: upToArgs(1),
	}
	config.AddFlags(cmd.Flags(), config.CmdList)
	output := addFormat(cmd, "how to print them", formatTable, formatJSON, formatYAML, formatTable)
	cmd.ValidArgsFunction = completeWorkers(app)
	cmd.RunE = func(cmd *cobra.Command, args []string) (err error) {
		if opts.cfg, err = app.load(cmd); err != nil {
			return err
		}
		if len(args) == 1 {
			opts.worker = args[0]
		}
		opts.output = *output
		return runF(cmd.Context(), opts)
	}
	return cmd
}

func runList(ctx context.Context, opts *listOptions) error {
	op, err := opts.app.connect(ctx, opts.cfg)
	if err != nil {
		return err
	}
	defer op.Close()
	nodes, err := op.Nodes(ctx)
	if err != nil {
		return err
	}
	if opts.worker != "" {
		nodes = slices.DeleteFunc(nodes, func(n wire.NodeInfo) bool { return n.Worker != opts.worker })
	}
	if opts.output != formatTable {
		if nodes == nil {
			nodes = []wire.NodeInfo{} // an empty list, not null
		}
		return writeValue(opts.app.Out, map[string]any{"nodes": nodes}, opts.output)
	}
	if len(nodes) == 0 {
		who := "no nodes"
		if opts.worker != "" {
			who = "no nodes of " + printable(opts.worker)
		}
		opts.app.notice("%s are in the mesh; meshctl join WORKER adds one", who)
		return nil
	}
	rows := make([][]string, len(nodes))
	for i, n := range nodes {
		rows[i] = []string{n.Worker, n.Variant, net.JoinHostPort(n.IP, strconv.Itoa(n.Port)), n.Kind, n.Link, n.Version, upTime(n)}
	}
	return writeTable(opts.app.Out, []string{"WORKER", "VARIANT", "ADDRESS", "KIND", "LINK", "VERSION", "UP"}, rows)
}

func upTime(n wire.NodeInfo) string {
	up := (time.Duration(n.UpMillis) * time.Millisecond).Truncate(time.Second).String()
	if n.Draining {
		up += " (draining)"
	}
	return up
}
