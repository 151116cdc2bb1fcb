package cli

import (
	"cmp"
	"context"
	"log/slog"
	"math/rand/v2"
	"time"

	"github.com/spf13/cobra"

	"github.com/meshctl/meshctl/internal/config"
	"github.com/meshctl/meshctl/internal/mesh/meshtest/fault"
	"github.com/meshctl/meshctl/internal/pause"
)

type chaosProxyOptions struct {
	app          *App
	cfg          fault.Config // its Faults are those to come
	after, lasts time.Duration
}

func newCmdChaosProxy(app *App, runF func(context.Context, *chaosProxyOptions) error) *cobra.Command {
	if runF == nil {
		runF = runChaosProxy
	}
	opts := &chaosProxyOptions{app: app}
	var (
		line                fault.Line
		blackhole, throttle string
	)
	cmd := &cobra.Command{
		Use:   "proxy --to ADDRESS",
		Short: "Stand between two ends of a connection, as a bad network",
		Long: `Accept TCP connections, connect each to --to, and pass on what they say as a bad network
would. With a node's proxy as --master, or in front of the address that it advertises,
one sees what a mesh does about it:

  meshctl chaos proxy --listen 127.0.0.1:4001 --to 127.0.0.1:4000 --blackhole both --after 10s --for 5s
  meshctl join worker --master 127.0.0.1:4001

Delay, jitter, corruption and throttle hold for each direction. A blackhole passes
nothing on and tells nobody; when it ends all arrives, as by TCP's retransmissions. "up"
is from who connects to --to. --drop closes new connections at once, and open ones later; --reset
resets them; their probabilities hold for each new connection, and for each second of an
open one. --half-open closes connections towards --to, and leaves who connected waiting.

What is random goes by --seed. Ctrl-C ends it.`,
		Example: `  meshctl chaos proxy --to 127.0.0.1:4000 --delay 20ms --jitter 10ms
  meshctl chaos proxy --listen 127.0.0.1:4001 --to 127.0.0.1:4000 --half-open --after 10s
  meshctl chaos proxy --to 127.0.0.1:4000 --throttle 64KiB --corrupt 0.00001 --seed 7`,
		Args: noArgs,
	}
	f := cmd.Flags()
	f.StringVar(&opts.cfg.Listen, "listen", "127.0.0.1:0", "listen on this `address`; port 0 is a free one")
	f.StringVar(&opts.cfg.To, "to", "", "connect to this `address`")
	f.DurationVar(&line.Delay, "delay", 0, "let everything arrive this `time` later")
	f.DurationVar(&line.Jitter, "jitter", 0, "up to this `time` more, at random")
	f.Float64Var(&opts.cfg.Faults.Drop, "drop", 0, "close connections with this `probability`")
	f.StringVar(&blackhole, "blackhole", "", "pass nothing on: `up, down or both`")
	f.BoolVar(&opts.cfg.Faults.HalfOpen, "half-open", false, "close the far half of connections only")
	f.Float64Var(&opts.cfg.Faults.Reset, "reset", 0, "reset connections with this `probability`")
	f.Float64Var(&line.Corrupt, "corrupt", 0, "flip a bit of a byte with this `probability`")
	f.StringVar(&throttle, "throttle", "", "pass on this `size` a second, of all connections together")
	f.Uint64Var(&opts.cfg.Seed, "seed", 0, "seed of what is random; 0 draws one (`number`)")
	f.DurationVar(&opts.after, "after", 0, "pass everything on as it is for this `time` first")
	f.DurationVar(&opts.lasts, "for", 0, "end the faults after this `time`; 0 is never")
	_ = cmd.RegisterFlagCompletionFunc("blackhole", cobra.FixedCompletions([]cobra.Completion{"up", "down", "both"}, cobra.ShellCompDirectiveNoFileComp))
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if opts.cfg.To == "" {
			return usagef("--to 127.0.0.1:4000 passes connections on to a master there", "--to is missing")
		}
		if throttle != "" {
			n, err := config.ParseBytes(throttle)
			if err != nil || n == 0 || n > maxThrottle {
				return usagef("", "--throttle %q is not a size between 1 and %s", throttle, config.Bytes(maxThrottle))
			}
			line.Throttle = int(n)
		}
		faults := &opts.cfg.Faults
		faults.Up, faults.Down = line, line
		switch blackhole {
		case "":
		case "up":
			faults.Up.Blackhole = true
		case "down":
			faults.Down.Blackhole = true
		case "both":
			faults.Up.Blackhole, faults.Down.Blackhole = true, true
		default:
			return usagef("", "--blackhole %q is none of up, down, both", blackhole)
		}
		if err := faults.Check(); err != nil {
			return usagef("", "%v", err)
		}
		if opts.after < 0 || opts.lasts < 0 {
			return usagef("", "--after and --for are not less than 0")
		}
		return runF(cmd.Context(), opts)
	}
	return cmd
}

// maxThrottle fits into an int of 32 bits.
const maxThrottle = 1 << 30

func runChaosProxy(ctx context.Context, opts *chaosProxyOptions) error {
	log := slog.New(slog.NewTextHandler(opts.app.Err, &slog.HandlerOptions{ReplaceAttr: readable}))
	cfg := opts.cfg
	cfg.Seed = cmp.Or(cfg.Seed, rand.Uint64N(1<<32)) // short enough to be typed
	cfg.Logger = log
	if opts.after > 0 {
		cfg.Faults = fault.Faults{}
	}
	p, err := fault.Listen(cfg)
	if err != nil {
		return err
	}
	defer p.Close()
	log.Info("proxy listens", "address", p.Addr().String(), "to", cfg.To, "seed", cfg.Seed)
	// Check has accepted what is set.
	if opts.after > 0 && pause.For(ctx, opts.after) {
		_ = p.Set(opts.cfg.Faults)
		log.Info("the faults begin")
	}
	if opts.lasts > 0 && pause.For(ctx, opts.lasts) {
		_ = p.Set(fault.Faults{})
		log.Info("the faults have ended")
	}
	<-ctx.Done()
	p.Close()
	s := p.Stats()
	log.Info("proxy ends", "connections", s.Connections, "cut", s.Cut, "bytes_up", s.Up, "bytes_down", s.Down)
	return nil
}
