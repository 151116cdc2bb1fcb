package cli

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"

	"github.com/meshctl/meshctl/internal/config"
	"github.com/meshctl/meshctl/internal/mesh/node"
	"github.com/meshctl/meshctl/internal/mesh/schema"
	"github.com/meshctl/meshctl/internal/metrics"
	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"
)

type joinOptions struct {
	app      *App
	cfg      *config.Config
	worker   string
	dirGiven bool // data-dir, on the command line
}

func newCmdJoin(app *App, runF func(context.Context, *joinOptions) error) *cobra.Command {
	if runF == nil {
		runF = runJoin
	}
	opts := &joinOptions{app: app}
	cmd := &cobra.Command{
		Use:   "join [WORKER]",
		Short: "Join the mesh as a variant of a worker",
		Long: `Join the mesh as one variant of WORKER ("worker" unless configured), and answer its
commands with what the schema says: a built-in, a program, or an HTTP service.

Without --master the master of this machine is found by discovery. The node tries
again until a master answers, and when one is lost; its links to other nodes stay.
Without --schema it answers the commands of the starter schema.

SIGINT and SIGTERM drain: no new requests are taken, and those under way have
--drain-timeout to finish. A second signal ends at once, with exit code 130.

A program of --on-connected, --on-connection or --on-disconnection is a path without
arguments. It gets the peer as one JSON object on its stdin and has 30 seconds; the
next one waits for it.`,
		Example: `  meshctl join worker
  meshctl join resizer --schema schema.yaml --master mesh.example.com:4000 --variant eu-1`,
		Args: upToArgs(1),
	}
	config.AddFlags(cmd.Flags(), config.CmdJoin)
	cmd.ValidArgsFunction = completeWorkers(app)
	cmd.RunE = func(cmd *cobra.Command, args []string) (err error) {
		if opts.cfg, err = app.load(cmd); err != nil {
			return err
		}
		opts.worker = opts.cfg.Worker
		if len(args) == 1 {
			opts.worker = args[0]
		}
		if err := schema.ValidWorker(opts.worker); err != nil {
			return usagef("", "%v", err)
		}
		if opts.cfg.Redis != "" && !opts.cfg.IsDefault("queue") {
			return usagef("leave one of them away; meshctl config show says where they are set", "redis and queue both say where the queues are")
		}
		opts.dirGiven = cmd.Flags().Changed("data-dir")
		return runF(cmd.Context(), opts)
	}
	return cmd
}

func runJoin(ctx context.Context, opts *joinOptions) error {
	app, cfg := opts.app, opts.cfg
	log := app.startLog(cfg)
	opts.warnOfUnusedDir()
	sch, err := loadSchema(cfg.Schema)
	if err != nil {
		return err
	}
	if _, ok := sch.Workers[opts.worker]; !ok {
		return opts.noSuchWorker(sch)
	}
	hooks, err := newHooks(cfg)
	if err != nil {
		return err
	}
	mode, err := linkMode(cfg)
	if err != nil {
		return err
	}
	token, issuer, err := app.loadToken(cfg)
	if err != nil {
		return err
	}
	if sch.TokensRequired && (token == nil || issuer == nil) {
		return usagef("give both: --token FILE and --token-issuer FILE", "%s requires tokens, and this node has none or cannot check others'", cfg.Schema)
	}
	_, keys, err := app.openKeys(cfg)
	if err != nil {
		return err
	}
	hooks.log = log
	identity, err := loadTLS(cfg, true, log)
	if err != nil {
		return err
	}
	n, err := node.New(node.Config{
		TLS:           identity,
		Ring:          keys,
		Worker:        opts.worker,
		Variant:       cfg.Variant,
		Master:        cfg.Master,
		DiscoveryPort: askedPort(cfg),
		Host:          cfg.Host,
		MeshPort:      cfg.MeshPort,
		Advertise:     cfg.Advertise,
		Schema:        sch,
		SchemaDir:     schemaDir(cfg.Schema),
		MaxPayload:    int(cfg.MaxPayload),
		Heartbeat:     cfg.Silence(),
		Link:          mode,
		Token:         token,
		Issuer:        issuer,
		MaxInFlight:   cfg.MaxInFlight,
		QueueDepth:    cfg.QueueDepth,
		Queue:         cfg.Queue,
		DataDir:       cfg.DataDir,
		StateDir:      cfg.StateDir(),
		Redis:         cfg.Redis,
		Mesh:          cfg.Mesh,
		QueueLease:    cfg.QueueLease,
		DrainTimeout:  cfg.DrainTimeout,
		Hooks:         hooks.bind(context.WithoutCancel(ctx)),
		Version:       app.Build.Version,
		Logger:        log,

		InspectPayloads: cfg.InspectPayloads,
	})
	if err != nil {
		return fmt.Errorf("set up the node: %w", err)
	}
	// What runs beside the node goes on until it has drained, so that a probe
	// still gets an answer.
	ran, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	g, ran := errgroup.WithContext(ran)
	nodeCtx, stopNode := context.WithCancel(ctx)
	defer stopNode()
	if cfg.HTTP != "" {
		h, err := listenHealth(cfg.HTTP, func() (bool, any) { return nodeHealth(n) }, metrics.ForNode(n, opts.worker, app.Build.Version), log)
		if err != nil {
			return err
		}
		log.Info("health and metrics are served", "address", h.addr().String())
		g.Go(func() error {
			defer stopNode()
			return h.run(ran)
		})
	}
	g.Go(func() error {
		select {
		case <-app.forced:
			n.Kill()
		case <-ran.Done():
		}
		return nil
	})
	g.Go(func() error {
		select {
		case <-n.Listening():
		case <-ran.Done():
			return nil
		}
		if err := dumpAddress(cfg.DumpAddress, n.Addr()); err != nil {
			stopNode()
			return err
		}
		return nil
	})
	g.Go(func() error {
		defer stop()
		err := n.Run(nodeCtx)
		if op := (*net.OpError)(nil); errors.As(err, &op) && op.Op == "listen" {
			return &hinted{err, "is another node running? Give another --mesh-port, or 0 for a free one"}
		}
		return err
	})
	return g.Wait()
}

// warnOfUnusedDir does not refuse, as one command line may serve nodes whose environment says
// where their queues are.
func (opts *joinOptions) warnOfUnusedDir() {
	const text = "--data-dir is not used, and work that waits in it is not done: "
	switch {
	case !opts.dirGiven:
	case opts.cfg.Redis != "":
		opts.app.warn(text + "the queues are in Redis")
	case opts.cfg.Queue == node.QueueMemory:
		opts.app.warn(text + "the queues are in memory")
	}
}

func (opts *joinOptions) noSuchWorker(sch *schema.Schema) error {
	names := sch.WorkerNames()
	source, hint := opts.cfg.Schema, "it has "+strings.Join(names, ", ")
	if source == "" {
		source = "the starter schema"
		hint += "; --schema FILE names one of your own, meshctl init writes one"
	}
	if near := config.Nearest(opts.worker, names); near != "" {
		hint = fmt.Sprintf("did you mean %s? %s", near, hint)
	}
	return usagef(hint, "%s has no worker %q", source, opts.worker)
}

func nodeHealth(n *node.Node) (bool, any) {
	st := n.Status()
	why := n.NotReady()
	body := map[string]any{
		"role": "node", "ready": why == nil, "worker": st.Worker, "variant": st.Variant,
		"peers": len(n.Peers()), "served": st.Served, "in_flight": st.InFlight,
	}
	if why != nil {
		body["reason"] = why.Error()
	}
	return why == nil, body
}
