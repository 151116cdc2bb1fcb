package cli

import (
	"context"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/meshctl/meshctl/internal/config"
	"github.com/meshctl/meshctl/internal/mesh/inspect"
	"github.com/meshctl/meshctl/internal/mesh/inspect/query"
)

const formatText format = "text"

type eventsOptions struct {
	app    *App
	cfg    *config.Config
	replay string
	filter *query.Filter
	limit  time.Duration // 0: none
	output format
}

func newCmdEvents(app *App, runF func(context.Context, *eventsOptions) error) *cobra.Command {
	if runF == nil {
		runF = runEvents
	}
	opts := &eventsOptions{app: app}
	cmd := &cobra.Command{
		Use:   "events",
		Short: "Stream what happens in the mesh as JSON lines",
		Long: `Print what happens, an event a line, until Ctrl-C: nodes and links that come and go,
requests that failed, what nodes log from warn on, the loss of the master and of
telemetry. The master has to be meshctl.

-o json, which is also what a pipe gets, writes {"at", "level", "type", "node", "peer",
"command", "uid", "code", "message"}; what does not apply is left out. Of failed requests
node is the caller and peer the one called. Types are node_up, node_down, node_draining,
node_replaced, link_up, link_down, peer_skipped, peer_tried, request_failed, log,
master_lost, master_back, schema_changed and telemetry_lost. At load failed requests, logs
and links are sampled; an event says how many are left out.

` + filterHelp + `

Fields are ` + fieldNames(query.EventFields()) + `.`,
		Example: `  meshctl events
  meshctl events --filter 'type=request_failed and worker=shop'
  meshctl events --replay outage.mrec | jq -r .message`,
		Args: noArgs,
	}
	f := cmd.Flags()
	config.AddFlags(f, config.CmdEvents)
	f.StringVar(&opts.replay, "replay", "", "`FILE` that meshctl watch --record wrote, to read instead of a mesh")
	filter := f.String("filter", "", "`expression` that chooses the events to print")
	f.DurationVar(&opts.limit, "for", 0, "`time` to go on for; 0 is until Ctrl-C")
	output := addFormat(cmd, "how to print them", "", formatJSON, formatText)
	cmd.RunE = func(cmd *cobra.Command, _ []string) (err error) {
		if opts.filter, err = query.Compile(*filter, query.EventFields()); err != nil {
			return expressionError("--filter", err)
		}
		if opts.output = *output; opts.output == "" {
			opts.output = formatJSON
			if app.OutIsTerminal {
				opts.output = formatText
			}
		}
		if opts.limit < 0 {
			return usagef("", "--for is less than nothing")
		}
		if opts.cfg, err = app.load(cmd); err != nil {
			return err
		}
		return runF(cmd.Context(), opts)
	}
	return cmd
}

const filterHelp = `--filter chooses: words and /regular expressions/ anywhere, !word for the inverse, tests of
fields such as worker=billing, with = != ~ and for numbers and durations > >= < <=; all
joined by and (or nothing), or, not and parentheses.`

func fieldNames(fields []query.Field) string {
	names := make([]string, len(fields))
	for i, f := range fields {
		names[i] = f.Name
	}
	return strings.Join(names, ", ")
}

func runEvents(ctx context.Context, opts *eventsOptions) error {
	w, err := opts.app.openWatched(ctx, opts.cfg, opts.replay, false)
	if err != nil {
		return err
	}
	defer w.close(opts.app)
	var end time.Time
	if opts.limit > 0 {
		end = time.Now().Add(opts.limit)
	}
	model, seen := inspect.NewModel(), uint64(0)
	err = w.stream(ctx, time.Second, func(u *inspect.Update) (bool, error) {
		if u != nil {
			model.Apply(*u)
		}
		var fresh []inspect.Event
		fresh, seen = model.Events(seen)
		for i := range fresh {
			e := &fresh[i]
			if !opts.filter.Match((*query.EventRow)(e)) {
				continue
			}
			if err := writeEvent(opts.app.Out, e, opts.output); err != nil {
				return false, err
			}
		}
		return end.IsZero() || time.Now().Before(end), nil
	})
	if w.replay != nil && w.replay.Damage() != nil && err == nil {
		return w.replay.Damage()
	}
	return err
}

func writeEvent(w io.Writer, e *inspect.Event, as format) error {
	if as == formatJSON {
		utc := *e
		utc.At = e.At.UTC()
		return writeJSON(w, utc, false)
	}
	var about []string
	if e.Node != "" {
		about = append(about, e.Node)
	}
	if e.Peer != "" {
		about = append(about, "→ "+e.Peer)
	}
	if e.Command != "" {
		about = append(about, e.Command)
	}
	if e.Code != "" {
		about = append(about, e.Code)
	}
	line := fmt.Sprintf("%s %-5s %-14s %s: %s", e.At.Format("15:04:05.000"), e.Level, e.Type, strings.Join(about, " "), e.Message)
	_, err := fmt.Fprintln(w, printable(line))
	return err
}
