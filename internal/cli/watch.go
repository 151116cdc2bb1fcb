package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"time"

	"github.com/spf13/cobra"

	"github.com/meshctl/meshctl/internal/config"
	"github.com/meshctl/meshctl/internal/mesh/inspect"
	"github.com/meshctl/meshctl/internal/mesh/inspect/query"
	"github.com/meshctl/meshctl/internal/mesh/inspect/record"
	"github.com/meshctl/meshctl/internal/mesh/node"
	"github.com/meshctl/meshctl/internal/tui"
)

type watchOptions struct {
	app    *App
	cfg    *config.Config
	replay string // FILE to replay instead of a live mesh
	theme  string

	record   string // FILE to record to
	max      config.Bytes
	payloads bool
	force    bool

	headless bool
	assert   *query.Assertion // nil: none
	holdFor  time.Duration
	within   time.Duration
	output   format
}

func newCmdWatch(app *App, runF func(context.Context, *watchOptions) error) *cobra.Command {
	if runF == nil {
		runF = runWatch
	}
	opts := &watchOptions{app: app}
	cmd := &cobra.Command{
		Use:   "watch",
		Short: "Watch the mesh: nodes, links, commands and every request in flight",
		Long: `Show the mesh alive, in a terminal: nodes and their links, commands with their rates
and latencies, the requests in flight, and what happens. ? shows the keys. The master
has to be meshctl. What JavaScript nodes do is shown as meshctl nodes see it.

--record FILE writes what is seen, and --replay FILE shows it again: space plays and
stops, the arrows step. Payloads, which nodes send with --inspect-payloads only, are
recorded as "***" unless --record-payloads is given.

--headless shows nothing. With --assert it is a gate: what is asserted has to become
true --within a time, and then to stay true --for another; the exit code is 0 or 1.

  variants(WORKER)                  how many are there and well
  nodes() links() missing_links()
  p50() p90() p99() p999()          latency in the last ten seconds
  rate() inflight()                 calls a second, requests in flight
  calls() errors()                  since the gate was set up
  queue_depth() dead()              queued commands that wait, or were given up

Those from p50 on are of all commands, or of one: p99(worker.status). They are compared
with = != > >= < <= and joined by and, or, not and parentheses.`,
		Example: `  meshctl watch
  meshctl watch --record outage.mrec
  meshctl watch --replay outage.mrec
  meshctl watch --headless --for 30s --assert 'variants(worker)>=3 and p99(worker.status)<200ms and errors()=0'`,
		Args: noArgs,
	}
	f := cmd.Flags()
	config.AddFlags(f, config.CmdWatch)
	f.StringVar(&opts.replay, "replay", "", "`FILE` that was recorded, to show instead of a mesh")
	addThemeFlag(cmd, &opts.theme)
	f.StringVar(&opts.record, "record", "", "`FILE` to record to")
	most := f.String("record-max", "256MiB", "`size` at which a recording ends; 0 is no bound")
	f.BoolVar(&opts.payloads, "record-payloads", false, "record payloads as nodes send them")
	f.BoolVar(&opts.force, "force", false, "replace the file of --record")
	f.BoolVar(&opts.headless, "headless", false, "show nothing: record, or judge by --assert")
	assert := f.String("assert", "", "`expression` that has to hold, with --headless")
	f.DurationVar(&opts.holdFor, "for", 30*time.Second, "`time` that --assert has to hold, or that --headless records")
	f.DurationVar(&opts.within, "within", 10*time.Second, "`time` in which --assert has to become true")
	output := addFormat(cmd, "how to print what --assert saw", formatTable, formatJSON, formatTable)
	cmd.RunE = func(cmd *cobra.Command, _ []string) (err error) {
		opts.output = *output
		if opts.max, err = config.ParseBytes(*most); err != nil {
			return usagef("", "--record-max: %v", err)
		}
		if f.Changed("assert") {
			if opts.assert, err = query.Assert(*assert); err != nil {
				return expressionError("--assert", err)
			}
		}
		if err := opts.check(f.Changed); err != nil {
			return err
		}
		if opts.cfg, err = app.load(cmd); err != nil {
			return err
		}
		return runF(cmd.Context(), opts)
	}
	return cmd
}

// check refuses flags that do not go together.
func (opts *watchOptions) check(given func(flag string) bool) error {
	for _, flag := range []string{"assert", "for", "within", "output"} {
		if given(flag) && !opts.headless {
			return usagef("add --headless", "--%s needs --headless", flag)
		}
	}
	for _, flag := range []string{"record-max", "record-payloads", "force"} {
		if given(flag) && opts.record == "" {
			return usagef("add --record FILE", "--%s needs --record", flag)
		}
	}
	switch {
	case opts.headless && opts.assert == nil && opts.record == "":
		return usagef("add --assert EXPRESSION, or --record FILE", "--headless has nothing to do")
	case opts.record != "" && opts.replay != "":
		return usagef("copy the file instead", "--record and --replay do not go together")
	case opts.max != 0 && opts.max < record.MinSize:
		return usagef("", "--record-max: %s is less than %s", opts.max, config.Bytes(record.MinSize))
	case opts.holdFor <= 0 || opts.within <= 0:
		return usagef("", "--for and --within have to be longer than nothing")
	}
	return checkTheme(opts.theme)
}

// expressionError says what is wrong with a filter or an assertion, and where.
func expressionError(flag string, err error) error {
	var at *query.Error
	if errors.As(err, &at) {
		return usagef(at.Hint, "%s: %v", flag, at)
	}
	return usagef("", "%s: %v", flag, err)
}

func runWatch(ctx context.Context, opts *watchOptions) error {
	if !opts.headless && !opts.app.interactive() {
		return usagef("without one, meshctl events streams what happens, and meshctl top prints a table", "watch needs a terminal")
	}
	w, err := opts.app.openWatched(ctx, opts.cfg, opts.replay, !opts.headless)
	if err != nil {
		return err
	}
	defer func() { w.close(opts.app) }()
	if opts.record != "" {
		finish, err := w.record(opts)
		if err != nil {
			return err
		}
		defer finish()
	}
	if opts.headless {
		return runHeadless(ctx, opts, w)
	}
	o := tui.Options{Source: w.source, Control: w.control, Timeline: w.timeline, Theme: opts.theme, Title: w.title, Masters: w.masters}
	if w.recorder != nil {
		o.Recorded = w.recorder.Err
	}
	return opts.app.dashboard(ctx, o)
}

// watched is what a command watches: a live mesh, or a recording.
type watched struct {
	source   inspect.Source
	control  inspect.Control  // nil in a replay
	timeline inspect.Timeline // nil unless it is a replay at its own pace
	replay   *record.Replay   // nil when live
	recorder *record.Recorder // nil unless it is recorded
	title    string
	masters  int // that a live mesh is configured with
}

// openWatched connects to the mesh, or opens a recording where file is given: at its own
// pace, or to be read as fast as possible.
func (a *App) openWatched(ctx context.Context, cfg *config.Config, file string, paced bool) (*watched, error) {
	if file == "" {
		live, err := a.watch(ctx, cfg)
		if err != nil {
			return nil, err
		}
		masters, _ := node.SplitMasters(cfg.Master) // it was checked
		return &watched{source: live, control: live, title: cfg.Master, masters: len(masters)}, nil
	}
	open := record.Read
	if paced {
		open = record.Open
	}
	r, err := open(file)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, usagef("meshctl watch --record FILE makes one", "there is no recording %s", file)
	}
	if err != nil {
		return nil, err
	}
	if err := r.Damage(); err != nil {
		a.notice("warning: %s", printable(err.Error()))
	}
	w := &watched{source: r, replay: r, title: file}
	if paced {
		w.timeline = r
	}
	return w, nil
}

func (w *watched) close(a *App) {
	if err := w.source.Close(); err != nil {
		a.notice("warning: %s", printable(err.Error()))
	}
}

// record begins to record what the source gives. The caller calls finish at the end.
func (w *watched) record(opts *watchOptions) (finish func(), err error) {
	rec, err := record.Create(opts.record, record.Config{
		Header: record.Header{Master: opts.cfg.Master, Release: opts.app.Build.Version},
		Max:    int64(opts.max), Payloads: opts.payloads, Force: opts.force,
	})
	if errors.Is(err, fs.ErrExist) {
		return nil, usagef("--force replaces it", "%s exists", opts.record)
	}
	if err != nil {
		return nil, err
	}
	w.source, w.recorder = record.Tee{Source: w.source, Recorder: rec}, rec
	return func() {
		switch err := rec.Close(); {
		case errors.Is(err, record.ErrFull):
			opts.app.notice("the recording %s ended at its size, %s; --record-max gives it more", opts.record, opts.max)
		case err != nil:
			opts.app.notice("warning: the recording %s is not complete: %v", opts.record, err)
		default:
			opts.app.notice("recorded to %s; meshctl watch --replay %s shows it", opts.record, opts.record)
		}
	}, nil
}

// stream gives updates to take until it returns false or the source ends; the end of ctx
// is an error. Of a live mesh it calls take without an update when none came for an
// interval.
func (w *watched) stream(ctx context.Context, interval time.Duration, take func(u *inspect.Update) (more bool, err error)) error {
	if w.replay != nil {
		return w.readAll(ctx, take)
	}
	for {
		step, cancel := context.WithTimeout(ctx, interval)
		u, err := w.source.Next(step)
		cancel()
		given := &u
		switch {
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case errors.Is(err, context.DeadlineExceeded):
			given = nil
		case err != nil:
			return fmt.Errorf("watch the mesh: %w", err)
		}
		if more, err := take(given); err != nil || !more {
			return err
		}
	}
}

func (w *watched) readAll(ctx context.Context, take func(u *inspect.Update) (more bool, err error)) error {
	for {
		u, err := w.source.Next(ctx)
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case err != nil:
			return err
		}
		if more, err := take(&u); err != nil || !more {
			return err
		}
	}
}
