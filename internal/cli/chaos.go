package cli

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"github.com/charmbracelet/x/ansi"
	"github.com/meshctl/meshctl/internal/chaos"
	"github.com/meshctl/meshctl/internal/config"
)

func newCmdChaos(app *App) *cobra.Command {
	cmd := parentOnly("chaos", "Break a mesh on purpose, and see whether anything is lost",
		newCmdChaosRun(app, nil), newCmdChaosList(app), newCmdChaosProxy(app, nil), newCmdChaosWorker(app))
	cmd.Long = `Prove on this machine, with this build, what meshctl promises about failures: start real
processes, break some of them, and judge from what callers and handlers wrote down. It
uses a temporary folder, free ports of the loopback interface and keys of its own; no
running mesh and no configuration is touched.`
	return cmd
}

type chaosOptions struct {
	app  *App
	run  chaos.Options
	as   *format
	long bool
}

func newCmdChaosRun(app *App, runF func(context.Context, *chaosOptions) error) *cobra.Command {
	if runF == nil {
		runF = runChaos
	}
	opts := &chaosOptions{app: app}
	var short bool
	cmd := &cobra.Command{
		Use:   "run [SCENARIO...]",
		Short: "Run scenarios, and print what they showed",
		Long: `Run the named scenarios, or all of them, one after another, and print what each must
show, what was measured, and the verdict:

  held     everything was as it must be
  broken   something was not; it is listed, and the folder with logs and histories is kept
  failed   the scenario could not be carried out; its folder is kept, too
  skipped  it cannot be carried out here, for the reason that is given

The short form of all takes about two minutes, the long one about an hour. Random
choices go by --seed; how processes interleave does not, so that the same seed breaks
the same things at about the same times.

The exit code is 0 when all held or were skipped, and 1 when one did not. Ctrl-C ends
everything that was started, and prints what ended before; on Linux, kill -9 ends it too.`,
		Example: `  meshctl chaos run
  meshctl chaos run queue-file --long
  meshctl chaos run master-kill --seed 7 --scale 0.5 -o json`,
	}
	f := cmd.Flags()
	f.BoolVar(&short, "short", false, "the short form (default)")
	f.BoolVar(&opts.long, "long", false, "the long form")
	f.Uint64Var(&opts.run.Seed, "seed", 0, "`number` that everything random goes by; 0 draws one")
	f.Float64Var(&opts.run.Scale, "scale", 1, "`factor` for the number of jobs, kills and seconds")
	opts.as = addFormat(cmd, "how to print it", formatTable, formatJSON, formatTable)
	cmd.ValidArgsFunction = func(_ *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
		var names []string
		for _, s := range chaos.Scenarios() {
			if !slices.Contains(args, s.Name) {
				names = append(names, s.Name+"\t"+s.Shows)
			}
		}
		return names, cobra.ShellCompDirectiveNoFileComp
	}
	cmd.RunE = func(cmd *cobra.Command, args []string) (err error) {
		switch {
		case short && opts.long:
			return usagef("", "--short and --long exclude each other")
		case !(opts.run.Scale > 0 && opts.run.Scale <= maxChaosScale):
			return usagef("", "--scale %g is not above 0 and up to %d", opts.run.Scale, maxChaosScale)
		}
		if opts.run.Scenarios, err = chaosScenarios(args); err != nil {
			return err
		}
		opts.run.Long = opts.long
		return runF(cmd.Context(), opts)
	}
	return cmd
}

const maxChaosScale = 1000

// chaosScenarios finds those that are named; without names all.
func chaosScenarios(names []string) ([]chaos.Scenario, error) {
	all := chaos.Scenarios()
	if len(names) == 0 {
		return all, nil
	}
	known := make([]string, len(all))
	for i, s := range all {
		known[i] = s.Name
	}
	var chosen []chaos.Scenario
	for _, name := range names {
		s, ok := chaos.Find(name)
		if !ok {
			hint := "meshctl chaos ls shows them"
			if near := config.Nearest(name, known); near != "" {
				hint = fmt.Sprintf("did you mean %s?", near)
			}
			return nil, usagef(hint, "no scenario %q", name)
		}
		chosen = append(chosen, s)
	}
	return chosen, nil
}

// chaosOutput is what -o json prints.
type chaosOutput struct {
	Version string         `json:"version"`
	Form    string         `json:"form"` // "short" or "long"
	Scale   float64        `json:"scale"`
	Seed    uint64         `json:"seed"`
	Begun   time.Time      `json:"begun"`
	Results []chaos.Result `json:"results"`
	// Interrupted says that the results are of those that ended before.
	Interrupted bool `json:"interrupted,omitempty"`
}

func runChaos(ctx context.Context, opts *chaosOptions) error {
	app := opts.app
	if opts.run.Seed == 0 {
		opts.run.Seed = rand.Uint64N(1 << 32) // short enough to be typed
	}
	out := chaosOutput{Version: app.Build.Version, Form: "short", Scale: opts.run.Scale, Seed: opts.run.Seed, Begun: time.Now().UTC().Truncate(time.Second)}
	if opts.long {
		out.Form = "long"
	}
	if app.ErrIsTerminal {
		line := &chaosLine{app: app, begun: time.Now()}
		opts.run.Progress, opts.run.Ended = line.doing, line.ended
		defer line.clear()
	}
	var ended, err error
	if out.Results, ended = chaos.Run(ctx, opts.run); ended != nil && len(out.Results) == 0 {
		return ended
	}
	out.Interrupted = ended != nil
	if *opts.as == formatJSON {
		err = writeJSON(app.Out, out, true)
	} else {
		err = out.table(app)
	}
	switch {
	case err != nil:
		return err
	case ended != nil && *opts.as == formatJSON:
		return &reported{code: classify(ended).Code} // it is one document
	case ended != nil:
		return ended
	}
	for _, r := range out.Results {
		if r.Verdict == chaos.Broken || r.Verdict == chaos.Failed {
			return &reported{code: codeFailure}
		}
	}
	return nil
}

// chaosWidth is how wide what was measured is printed.
const chaosWidth = 100

// table prints the verdicts, what each scenario measured, and what did not hold.
func (o *chaosOutput) table(app *App) error {
	rows := make([][]string, len(o.Results))
	for i, r := range o.Results {
		rows[i] = []string{r.Scenario, string(r.Verdict), fmt.Sprintf("%.0fs", r.Seconds)}
	}
	if err := writeTable(app.Out, []string{"SCENARIO", "VERDICT", "TOOK"}, rows); err != nil {
		return err
	}
	for _, r := range o.Results {
		fmt.Fprintf(app.Out, "\n%s\n", r.Scenario)
		for _, part := range []struct{ name, text string }{{"must show", r.Shows}, {"measured", r.Measured()}, {"because", r.Reason}} {
			if part.text != "" {
				const indent = "             "
				text := ansi.Wordwrap(printable(part.text), chaosWidth-len(indent), "")
				fmt.Fprintf(app.Out, "  %-11s%s\n", part.name, strings.ReplaceAll(text, "\n", "\n"+indent))
			}
		}
	}
	fmt.Fprintf(app.Out, "\nseed %d, %s form\n", o.Seed, o.Form)
	for _, r := range o.Results {
		if r.Folder == "" {
			continue
		}
		fmt.Fprintf(app.Out, "\n%s %s; logs and histories are in %s\n", r.Scenario, r.Verdict, printable(r.Folder))
		for _, v := range r.Violations {
			fmt.Fprintf(app.Out, "  %s\n", printable(v))
		}
	}
	return nil
}

// chaosLine shows on a terminal what happens at present, in one line.
type chaosLine struct {
	app   *App
	begun time.Time
	mu    sync.Mutex
}

func (l *chaosLine) doing(scenario, doing string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	fmt.Fprintf(l.app.Err, "\r\x1b[K%4.0fs  %s: %s", time.Since(l.begun).Seconds(), scenario, printable(doing))
}

func (l *chaosLine) ended(r chaos.Result) {
	l.mu.Lock()
	defer l.mu.Unlock()
	fmt.Fprintf(l.app.Err, "\r\x1b[K%4.0fs  %s %s\n", time.Since(l.begun).Seconds(), r.Scenario, r.Verdict)
}

func (l *chaosLine) clear() { fmt.Fprint(l.app.Err, "\r\x1b[K") }

func newCmdChaosList(app *App) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "ls",
		Short: "List the scenarios",
		Args:  noArgs,
	}
	as := addFormat(cmd, "how to print it", formatTable, formatJSON, formatTable)
	cmd.RunE = func(*cobra.Command, []string) error {
		type row struct {
			Scenario string `json:"scenario"`
			Shows    string `json:"shows"`
			Short    string `json:"short"`
			Long     string `json:"long"`
		}
		rows, cells := []row{}, [][]string{}
		for _, s := range chaos.Scenarios() {
			r := row{s.Name, s.Shows, s.Short.String(), s.Long.String()}
			rows, cells = append(rows, r), append(cells, []string{r.Scenario, r.Short, r.Long, r.Shows})
		}
		if *as == formatJSON {
			return writeJSON(app.Out, map[string]any{"scenarios": rows}, true)
		}
		return writeTable(app.Out, []string{"SCENARIO", "SHORT", "LONG", "MUST SHOW"}, cells)
	}
	return cmd
}

// newCmdChaosWorker is what scenarios start as processes of their own.
func newCmdChaosWorker(app *App) *cobra.Command {
	return &cobra.Command{
		Use:    "worker KIND [ARGUMENT...]",
		Short:  "Be a part of a scenario",
		Hidden: true,
		Args:   cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return chaos.Work(cmd.Context(), args[0], chaos.WorkerIO{Args: args[1:], In: app.In, Out: app.Out})
		},
	}
}
