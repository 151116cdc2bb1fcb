package cli

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"

	"github.com/meshctl/meshctl/internal/config"
	"github.com/meshctl/meshctl/internal/mesh/master"
	"github.com/meshctl/meshctl/internal/mesh/node"
	"github.com/meshctl/meshctl/internal/metrics"
	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"
)

type serveMasterOptions struct {
	app *App
	cfg *config.Config
}

func newCmdServeMaster(app *App, runF func(context.Context, *serveMasterOptions) error) *cobra.Command {
	if runF == nil {
		runF = runServeMaster
	}
	opts := &serveMasterOptions{app: app}
	cmd := &cobra.Command{
		Use:   "serve-master",
		Short: "Run the master, where nodes find each other",
		Long: `Run the master of a mesh. Nodes declare themselves to it, and it tells each whom it
may connect to. Calls do not pass through it: they go on while it is away.

Without --port it takes a free port, which nodes find through its discovery on port
8765. Without --schema it uses the starter schema (meshctl schema show). A schema
file is read again when it changes and on SIGHUP; a broken one is reported, and the
old one stays. SIGINT and SIGTERM end the master.

With --redis several masters of one mesh know the same nodes: give all of them the same
Redis, --mesh, keys and schema, and nodes and commands --master A,B,C. They reach each
other by --advertise, or the address that Redis sees.`,
		Args: noArgs,
	}
	config.AddFlags(cmd.Flags(), config.CmdServeMaster)
	cmd.RunE = func(cmd *cobra.Command, _ []string) (err error) {
		if opts.cfg, err = app.load(cmd); err != nil {
			return err
		}
		return runF(cmd.Context(), opts)
	}
	return cmd
}

func runServeMaster(ctx context.Context, opts *serveMasterOptions) error {
	app, cfg := opts.app, opts.cfg
	log := app.startLog(cfg)
	if cfg.Port == 0 && cfg.DiscoveryPort == 0 && cfg.DumpAddress == "" {
		return usagef("give one of --port, --discovery-port and --dump-address",
			"nobody could find this master: its port is free to choose and discovery is off")
	}
	ring, keys, err := app.openKeys(cfg)
	if err != nil {
		return err
	}
	sch, err := loadSchema(cfg.Schema)
	if err != nil {
		return err
	}
	mode, err := linkMode(cfg)
	if err != nil {
		return err
	}
	issuer, err := loadIssuer(cfg)
	if err != nil {
		return err
	}
	identity, err := loadTLS(cfg, true, log)
	if err != nil {
		return err
	}
	m, err := master.New(master.Config{
		TLS:           identity,
		Ring:          keys,
		Schema:        sch,
		Host:          cfg.Host,
		Port:          cfg.Port,
		DiscoveryPort: cfg.DiscoveryPort,
		// Nodes can do without discovery when they can be told a port.
		DiscoveryOptional: cfg.Port != 0 && cfg.IsDefault("discovery-port"),
		MaxPayload:        int(cfg.MaxPayload),
		Heartbeat:         cfg.Silence(),
		Link:              mode,
		Issuer:            issuer,
		Redis:             cfg.Redis,
		Mesh:              cfg.Mesh,
		Advertise:         cfg.Advertise,
		Version:           app.Build.Version,
		Logger:            log,
	})
	if err != nil {
		return fmt.Errorf("set up the master: %w", err)
	}
	g, ctx := errgroup.WithContext(ctx)
	if cfg.Schema != "" {
		w, err := newSchemaWatcher(cfg.Schema, sch, m.SetSchema, log)
		if err != nil {
			return err
		}
		g.Go(func() error { return w.run(ctx) })
	}
	if cfg.TokenDenyList != "" {
		w, err := newDenyListWatcher(cfg.TokenDenyList, m.SetDenyList, log)
		if err != nil {
			return err
		}
		g.Go(func() error { return w.run(ctx) })
	}
	if cfg.HTTP != "" {
		h, err := listenHealth(cfg.HTTP, func() (bool, any) { return masterHealth(m) }, metrics.ForMaster(m, app.Build.Version), log)
		if err != nil {
			return err
		}
		log.Info("health and metrics are served", "address", h.addr().String())
		g.Go(func() error { return h.run(ctx) })
	}
	g.Go(func() error { return portHint(m.Run(ctx), cfg) })
	g.Go(func() error {
		select {
		case <-ctx.Done():
			return nil
		case <-m.Ready():
		}
		if err := dumpAddress(cfg.DumpAddress, m.Addr()); err != nil {
			return err
		}
		log.Info("master listens", "address", m.Addr().String(), "discovery", discoveryText(m), "keys", keys.Used())
		opts.greet(m, ring.Source, keys.Used().Fingerprint())
		return nil
	})
	return g.Wait()
}

// greet tells a person at a terminal where things are and what to do next.
func (opts *serveMasterOptions) greet(m *master.Master, keysFrom, fingerprint string) {
	if !opts.app.ErrIsTerminal || opts.cfg.LogFormat == "json" {
		return
	}
	source := opts.cfg.Schema
	if source == "" {
		source = "the starter schema (meshctl schema show; meshctl init writes one to change)"
	}
	next := " --master HOST:" + strconv.Itoa(portOf(m.Addr()))
	if a := m.DiscoveryAddr(); a != nil {
		next = ""
		if p := portOf(a); p != node.DefaultDiscoveryPort {
			next = " --discovery-port " + strconv.Itoa(p)
		}
	}
	opts.app.notice(`
  master     %s
  discovery  %s
  schema     %s
  keys       %s (%s)

  next, in other terminals:
    meshctl join worker%s
    meshctl call worker.status%s
`, m.Addr(), discoveryText(m), source, keysFrom, fingerprint, next, next)
}

func discoveryText(m *master.Master) string {
	if a := m.DiscoveryAddr(); a != nil {
		return a.String()
	}
	return "off"
}

func portOf(a net.Addr) int {
	if tcp, ok := a.(*net.TCPAddr); ok {
		return tcp.Port
	}
	return 0
}

func masterHealth(m *master.Master) (bool, any) {
	body := map[string]any{"role": "master", "ready": false, "reason": "the master does not listen yet"}
	select {
	case <-m.Ready():
		body["ready"], body["address"], body["nodes"] = true, m.Addr().String(), len(m.Nodes())
		if masters := m.Masters(); masters[0].ID != "" {
			body["masters"] = masters
		}
		delete(body, "reason")
		return true, body
	default:
		if err := m.RegistryErr(); err != nil {
			body["reason"] = "the master does not listen yet: " + err.Error()
		}
		return false, body
	}
}

// portHint says what to do about a port that is taken.
func portHint(err error, cfg *config.Config) error {
	var taken *master.PortError
	if !errors.As(err, &taken) {
		return err
	}
	hint := fmt.Sprintf("is another master running? Give another %s", taken.Flag)
	if taken.Flag == "--discovery-port" {
		hint = "is another master running? --discovery-port N takes another port (nodes need the same)"
		if cfg.Port == 0 {
			hint += "; --discovery-port 0 --port N does without discovery"
		} else {
			hint += "; --discovery-port 0 does without discovery"
		}
	}
	return &hinted{err, hint}
}

// dumpAddress writes where something listens to a file, which appears complete.
func dumpAddress(path string, addr net.Addr) error {
	if path == "" {
		return nil
	}
	tmp, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*")
	if err != nil {
		return fmt.Errorf("write address: %w", err)
	}
	defer os.Remove(tmp.Name())
	_, err = fmt.Fprintln(tmp, dialable(addr))
	err = errors.Join(err, tmp.Chmod(0o644), tmp.Close())
	if err == nil {
		err = os.Rename(tmp.Name(), path)
	}
	if err != nil {
		return fmt.Errorf("write address: %w", err)
	}
	return nil
}

// dialable replaces an address that means every interface by this machine's own.
func dialable(addr net.Addr) string {
	tcp, ok := addr.(*net.TCPAddr)
	if !ok {
		return addr.String()
	}
	if len(tcp.IP) == 0 || tcp.IP.IsUnspecified() {
		return net.JoinHostPort("127.0.0.1", strconv.Itoa(tcp.Port))
	}
	return tcp.String()
}
