package cli

import (
	"context"
	"net"
	"slices"
	"strconv"
	"time"

	"github.com/meshctl/meshctl/internal/config"
	"github.com/meshctl/meshctl/internal/mesh/node"
	"github.com/meshctl/meshctl/internal/mesh/wire"
	"github.com/spf13/cobra"
)

type listOptions struct {
	app    *App
	cfg    *config.Config
	worker string
	output format
	// masters lists these instead.
	masters bool
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
javascript), how they are linked to it (native or socketio) and how long the masters have
known them without a break. The master has to be meshctl.

Where there are several masters it shows at which of them each node is; (detached) says
that this one has gone and the node has not come to another yet. A note on stderr says so
when the master asked may not know the nodes of the others. --masters lists the
masters: here is the one that answers, linked one that it is connected to, starting one
that does not listen yet or has yet to be linked to, unreachable one that it cannot
connect to, gone one whose nodes are awaited elsewhere.`,
		Example: `  meshctl ls
  meshctl ls --masters
  meshctl ls worker -o json | jq -r '.nodes[].variant'`,
		Args: upToArgs(1),
	}
	config.AddFlags(cmd.Flags(), config.CmdList)
	output := addFormat(cmd, "how to print them", formatTable, formatJSON, formatYAML, formatTable)
	cmd.Flags().BoolVar(&opts.masters, "masters", false, "list the masters instead of the nodes")
	cmd.ValidArgsFunction = completeWorkers(app)
	cmd.RunE = func(cmd *cobra.Command, args []string) (err error) {
		if opts.cfg, err = app.load(cmd); err != nil {
			return err
		}
		if len(args) == 1 {
			opts.worker = args[0]
		}
		if opts.masters && opts.worker != "" {
			return usagef("leave one of them away", "masters are of no worker")
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
	if opts.masters {
		return listMasters(ctx, opts, op)
	}
	nodes, err := op.Nodes(ctx)
	if err != nil {
		return err
	}
	several := slices.ContainsFunc(nodes, func(n wire.NodeInfo) bool { return n.Master != "" })
	if several || len(nodes) == 0 {
		defer noticePartial(ctx, opts.app, op)
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
	head := []string{"WORKER", "VARIANT", "ADDRESS", "KIND", "LINK", "VERSION", "UP"}
	if several {
		head = append(head, "MASTER")
	}
	rows := make([][]string, len(nodes))
	for i, n := range nodes {
		rows[i] = []string{n.Worker, n.Variant, net.JoinHostPort(n.IP, strconv.Itoa(n.Port)), n.Kind, n.Link, n.Version, upTime(n)}
		if several {
			rows[i] = append(rows[i], n.Master)
		}
	}
	return writeTable(opts.app.Out, head, rows)
}

// noticePartial says so when the master does not know the nodes of all masters. A master that
// does not tell is none of several.
func noticePartial(ctx context.Context, app *App, op *node.Operator) {
	if masters, err := op.Masters(ctx); err == nil && len(masters) > 0 && masters[0].Registry != "" {
		app.notice("this list may lack nodes of other masters: %s", printable(masters[0].Registry))
	}
}

func listMasters(ctx context.Context, opts *listOptions, op *node.Operator) error {
	masters, err := op.Masters(ctx)
	if err != nil {
		return err
	}
	if opts.output != formatTable {
		return writeValue(opts.app.Out, map[string]any{"masters": masters}, opts.output)
	}
	rows := make([][]string, len(masters))
	for i, m := range masters {
		at := m.IP
		if m.Port != 0 {
			at = net.JoinHostPort(m.IP, strconv.Itoa(m.Port))
		}
		up := roughly(m.UpMillis)
		if m.State == wire.MasterGone {
			up = "-"
		}
		rows[i] = []string{m.ID, at, m.State, strconv.Itoa(m.Nodes), m.Schema, m.Version, up}
	}
	if err := writeTable(opts.app.Out, []string{"MASTER", "ADDRESS", "STATE", "NODES", "SCHEMA", "VERSION", "UP"}, rows); err != nil {
		return err
	}
	if why := masters[0].Registry; why != "" {
		opts.app.notice("this master does not know what the others know: %s", printable(why))
	}
	return nil
}

func upTime(n wire.NodeInfo) string {
	up := roughly(n.UpMillis)
	if n.Draining {
		up += " (draining)"
	}
	if n.Detached {
		up += " (detached)"
	}
	return up
}

func roughly(ms int64) string {
	return (time.Duration(ms) * time.Millisecond).Truncate(time.Second).String()
}
