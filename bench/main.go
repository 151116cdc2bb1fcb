// Command bench compares meshctl's calls with those of other systems on this machine:
// in one run, alternating, with server and client in a process each. It writes
// docs/performance.md, a plot beside it, and results.json.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	var err error
	if args := os.Args[1:]; len(args) > 1 && (args[0] == "serve" || args[0] == "call") {
		err = runChild(ctx, args)
	} else {
		err = run(ctx, args)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "error:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	payloads, inFlights := allPayloads(), allInFlights()
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	quick := flags.Bool("quick", false, "one short round")
	rounds := flags.Int("rounds", 3, "rounds; medians are reported")
	duration := flags.Duration("duration", time.Second, "how long each system is measured under each load")
	out := flags.String("out", "", "write the report to this `file`, a plot beside it, and results.json here")
	only := flags.String("systems", "", "comma-separated `names`, of which broadcast is one; default: all")
	flags.Func("payload", "only payloads of so many `bytes`", onlyInt(&payloads))
	flags.Func("in-flight", "only so `many` calls in flight", onlyInt(&inFlights))
	profile := flags.String("profile", "", "write CPU profiles of Go's processes into this `folder`")
	scale := flags.Bool("scale", false, "measure the control plane instead; needs -out")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if *scale {
		return runScale(ctx, *out)
	}
	if *profile != "" {
		var err error
		if *profile, err = filepath.Abs(*profile); err != nil {
			return err
		}
		if err := os.Setenv(profileEnv, *profile); err != nil {
			return err
		}
	}
	if *quick {
		*rounds, *duration = 1, 400*time.Millisecond
	}
	if *rounds < 1 || *duration < time.Millisecond {
		return fmt.Errorf("%d rounds of %s measure nothing", *rounds, *duration)
	}
	var given []string
	flags.Visit(func(f *flag.Flag) {
		if f.Name != "out" {
			given = append(given, fmt.Sprintf("-%s=%s", f.Name, f.Value))
		}
	})
	var pairs []*pair
	defer func() {
		for _, p := range pairs {
			p.stop()
		}
	}()
	for _, s := range systems() {
		if *only != "" && !slices.Contains(strings.Split(*only, ","), s.name) {
			continue
		}
		p, err := startPair(ctx, s)
		if err != nil && s.js != "" {
			fmt.Fprintf(os.Stderr, "skip %s: %v\n", s.name, err)
			continue
		}
		if err != nil {
			return err
		}
		pairs = append(pairs, p)
	}
	r := newReport(*rounds, *duration, given)
	for round := range *rounds {
		for _, payload := range payloads {
			for _, inFlight := range inFlights {
				for _, p := range pairs {
					l := load{InFlight: inFlight, Payload: payload, DurationMS: int(duration.Milliseconds())}
					if p.fits != nil && !p.fits(l) {
						continue
					}
					warm := l
					warm.DurationMS = min(100, l.DurationMS)
					if _, err := p.measure(warm); err != nil {
						return err
					}
					m, err := p.measure(l)
					if err != nil {
						return err
					}
					m.Round = round + 1
					r.Measurements = append(r.Measurements, m)
					fmt.Fprintf(os.Stderr, "%d  %-26s %6d B  %4d in flight  %9.0f calls/s  p50 %8.1f µs  p99 %9.1f µs  cpu %6.1f+%-6.1f µs  %5.0f allocs\n",
						m.Round, p.name, payload, inFlight, m.CallsPerSecond, m.P50, m.P99, m.ClientCPU, m.ServerCPU, m.Allocations)
				}
			}
		}
	}
	if *only == "" || slices.Contains(strings.Split(*only, ","), "broadcast") {
		var err error
		if r.Broadcast, err = measureBroadcast(ctx, *rounds); err != nil {
			return err
		}
		fmt.Fprintf(os.Stderr, "broadcast to %d variants: %.0f µs of CPU, %.0f%% of that of as many calls\n",
			broadcastVariants, r.Broadcast.BroadcastCPU, 100*r.Broadcast.Ratio())
	}
	if *out == "" {
		return nil
	}
	data, err := json.MarshalIndent(r, "", " ")
	if err != nil {
		return err
	}
	if err := os.WriteFile("results.json", append(data, '\n'), 0o644); err != nil {
		return err
	}
	return r.write(*out)
}

// The loads of a whole run.
func allPayloads() []int  { return []int{200, 4 << 10, 64 << 10} }
func allInFlights() []int { return []int{1, 16, 64, 256} }

func onlyInt(list *[]int) func(string) error {
	return func(text string) error {
		n, err := strconv.Atoi(text)
		if err == nil && n < 1 {
			err = errors.New("not positive")
		}
		*list = []int{n}
		return err
	}
}
