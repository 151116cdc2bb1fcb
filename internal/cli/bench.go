package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/meshctl/meshctl/internal/config"
	"github.com/meshctl/meshctl/internal/mesh/node"
)

const (
	// maxInFlight bounds -c: each call in flight is a goroutine and a histogram.
	maxBenchInFlight = 4096
	maxBenchRate     = 10_000_000
)

type benchOptions struct {
	callOptions
	inFlight     int
	duration     time.Duration
	rate         int // calls a second; 0: as many as go
	payloadBytes int // 0: not given
	compare      string
}

func newCmdBench(app *App, runF func(context.Context, *benchOptions) error) *cobra.Command {
	if runF == nil {
		runF = runBench
	}
	opts := &benchOptions{callOptions: callOptions{app: app}}
	cmd := &cobra.Command{
		Use:   "bench WORKER.COMMAND",
		Short: "Measure how fast a command of a worker answers",
		Long: `Call a command again and again, and print how many calls a second it answered and how
long they took. The calls are real ones: use a command that may be called so often.

Without --rate each of the -c callers makes its next call when the last one was
answered. With --rate calls begin at fixed times, and each is measured from the time
at which it should have begun: a mesh that cannot keep up shows it in the latencies.

The payload is {} unless --data gives one, as of meshctl call, or --payload-bytes a size.
Latencies are those of all calls; calls per second counts those that succeeded. A
broadcast counts as one call, which succeeds when every variant answered.

Ctrl-C ends it early, with the result so far. The exit code is 0 when no call failed,
else that of the commonest failure: meshctl help exit-codes.`,
		Example: `  meshctl bench worker.echo
  meshctl bench worker.echo -c 256 --duration 30s --payload-bytes 4096
  meshctl bench worker.echo --rate 1000 -o json > before.json
  meshctl bench worker.echo --rate 1000 --compare before.json`,
		Args: exactArgs(1),
	}
	f := cmd.Flags()
	config.AddFlags(f, config.CmdBench)
	f.IntVarP(&opts.inFlight, "concurrency", "c", 64, "`number` of calls in flight at most")
	f.DurationVar(&opts.duration, "duration", 10*time.Second, "`time` to go on for")
	f.IntVar(&opts.rate, "rate", 0, "calls a second to begin; 0 is as many as are answered (`number`)")
	f.IntVar(&opts.payloadBytes, "payload-bytes", 0, "send an object of this `size` as the payload")
	f.StringVarP(&opts.data, "data", "d", "", "payload: `JSON`, @FILE, or - for stdin (default {})")
	f.StringVar(&opts.compare, "compare", "", "show the differences to the result in `file`, an earlier -o json")
	output := addFormat(cmd, "how to print the result", formatTable, formatJSON, formatTable)
	cmd.ValidArgsFunction = completeTarget(app, 0)
	// It fails only where the flag does not exist.
	_ = cmd.RegisterFlagCompletionFunc("as", completeWorkers(app))
	cmd.RunE = func(cmd *cobra.Command, args []string) (err error) {
		if opts.worker, opts.command, err = splitTarget(args[0]); err != nil {
			return err
		}
		switch {
		case opts.inFlight < 1 || opts.inFlight > maxBenchInFlight:
			return usagef("", "--concurrency %d is not between 1 and %d", opts.inFlight, maxBenchInFlight)
		case opts.duration <= 0:
			return usagef("", "--duration %s is not a time to go on for", opts.duration)
		case opts.rate < 0 || opts.rate > maxBenchRate:
			return usagef("", "--rate %d is not between 0 and %d", opts.rate, maxBenchRate)
		case f.Changed("payload-bytes") && opts.payloadBytes < len(emptyPayload):
			return usagef("--data '{}' is the smallest object", "--payload-bytes %d is less than %d", opts.payloadBytes, len(emptyPayload))
		case f.Changed("payload-bytes") && f.Changed("data"):
			return usagef("", "--payload-bytes and --data are two payloads; give one")
		case f.Changed("data") && opts.data == "":
			return usagef("leave --data away to send {}", "--data is empty")
		}
		opts.output = *output
		if opts.cfg, err = app.load(cmd); err != nil {
			return err
		}
		if limit := int(opts.cfg.MaxPayload); opts.payloadBytes > limit {
			return usagef("--max-payload allows more", "--payload-bytes %d is over the limit of %s", opts.payloadBytes, config.Bytes(limit))
		}
		return runF(cmd.Context(), opts)
	}
	return cmd
}

// emptyPayload is what --payload-bytes fills up.
const emptyPayload = `{"data":""}`

func (opts *benchOptions) benchPayload(ctx context.Context) (json.RawMessage, error) {
	if opts.payloadBytes == 0 {
		return opts.payload(ctx)
	}
	fill := bytes.Repeat([]byte{'x'}, opts.payloadBytes-len(emptyPayload))
	return json.RawMessage(`{"data":"` + string(fill) + `"}`), nil
}

func runBench(ctx context.Context, opts *benchOptions) error {
	payload, err := opts.benchPayload(ctx)
	if err != nil {
		return err
	}
	before, err := readBenchResult(opts.compare)
	if err != nil {
		return err
	}
	op, err := opts.app.connect(ctx, opts.cfg)
	if err != nil {
		return err
	}
	defer op.Close()
	if _, err := opts.check(op.Schema()); err != nil {
		return err
	}
	load := &benchLoad{inFlight: opts.inFlight, duration: opts.duration, rate: opts.rate}
	load.call = func(ctx context.Context) error {
		res, err := op.Call(ctx, opts.target(), payload, node.CallOptions{Timeout: opts.cfg.Timeout})
		if err != nil {
			return err
		}
		for _, r := range res.Replies {
			if r.Err != nil {
				return r.Err
			}
		}
		return nil
	}
	if opts.app.ErrIsTerminal {
		load.progress = func(p benchProgress) {
			fmt.Fprintf(opts.app.Err, "\r\x1b[K%3.0fs  %d calls  %.0f/s  %d errors", p.elapsed.Seconds(), p.calls, float64(p.calls)/p.elapsed.Seconds(), p.errors)
		}
	}
	result := load.run(ctx)
	if load.progress != nil {
		fmt.Fprint(opts.app.Err, "\r\x1b[K")
	}
	result.Target, result.PayloadBytes = opts.target(), len(payload)
	result.compareWith(before)
	if err := result.write(opts.app, opts.output); err != nil {
		return err
	}
	return result.verdict(ctx.Err() != nil)
}
