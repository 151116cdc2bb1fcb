package cli

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"slices"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/meshctl/meshctl/internal/config"
	"github.com/meshctl/meshctl/internal/mesh/inspect"
	"github.com/meshctl/meshctl/internal/mesh/inspect/query"
)

type topOptions struct {
	app    *App
	cfg    *config.Config
	span   time.Duration
	sort   string
	filter *query.Filter
	output format
}

// topOrders are what rows can be sorted by; all but name begin with the most.
func topOrders() []string { return []string{"name", "rate", "p99", "errors", "inflight"} }

func newCmdTop(app *App, runF func(context.Context, *topOptions) error) *cobra.Command {
	if runF == nil {
		runF = runTop
	}
	opts := &topOptions{app: app}
	fields := topFields()
	cmd := &cobra.Command{
		Use:   "top",
		Short: "Print nodes and commands with their rates and latencies",
		Long: `Look at the mesh for a second and print its nodes and commands: for a pipe, for
watch(1), for a look. Rates and errors are those of that time, latencies of the last ten
seconds, or of all calls where nobody called in these. The master has to be meshctl.

` + filterHelp + `

Fields are ` + fieldNames(fields) + `. Errors counts since the start.`,
		Example: `  meshctl top --sort p99
  watch -n 2 meshctl top --filter worker=billing
  meshctl top -o json | jq '.commands[] | select(.p99_ms > 100)'`,
		Args: noArgs,
	}
	f := cmd.Flags()
	config.AddFlags(f, config.CmdTop)
	f.DurationVar(&opts.span, "for", time.Second, "`time` to look")
	f.StringVar(&opts.sort, "sort", "name", "`order` of the rows: name, rate, p99, errors or inflight")
	filter := f.String("filter", "", "`expression` that chooses the rows")
	output := addFormat(cmd, "how to print them", formatTable, formatJSON, formatTable)
	_ = cmd.RegisterFlagCompletionFunc("sort", cobra.FixedCompletions(topOrders(), cobra.ShellCompDirectiveNoFileComp))
	cmd.RunE = func(cmd *cobra.Command, _ []string) (err error) {
		if opts.filter, err = query.Compile(*filter, fields); err != nil {
			return expressionError("--filter", err)
		}
		if !slices.Contains(topOrders(), opts.sort) {
			return usagef("orders are "+clipList(topOrders()), "--sort: there is no order %q", opts.sort)
		}
		if opts.span < 100*time.Millisecond || opts.span > time.Hour {
			return usagef("", "--for: %s is not between 100ms and 1h", opts.span)
		}
		opts.output = *output
		if opts.cfg, err = app.load(cmd); err != nil {
			return err
		}
		return runF(cmd.Context(), opts)
	}
	return cmd
}

// topFields are those of nodes and those of commands.
func topFields() []query.Field {
	fields := query.NodeFields()
	for _, f := range query.CommandFields() {
		if !slices.Contains(fields, f) {
			fields = append(fields, f)
		}
	}
	return fields
}

func runTop(ctx context.Context, opts *topOptions) error {
	w, err := opts.app.openWatched(ctx, opts.cfg, "", false)
	if err != nil {
		return err
	}
	defer w.close(opts.app)
	model := inspect.NewModel()
	var before, after *inspect.Picture
	began := time.Now()
	err = w.stream(ctx, 50*time.Millisecond, func(u *inspect.Update) (bool, error) {
		now := time.Now()
		if u != nil {
			model.Apply(*u)
		}
		switch {
		case before == nil:
			p := &inspect.Picture{}
			model.Fill(p, now)
			if settled(p) || now.Sub(began) > settleTime {
				before = p
			}
		case now.Sub(before.At) >= opts.span:
			after = model.Picture(now)
			return false, nil
		}
		return true, nil
	})
	if err != nil {
		return err
	}
	between(before, after)
	nodes := slices.DeleteFunc(after.Nodes, func(n inspect.Node) bool { return !opts.filter.Match((*query.NodeRow)(&n)) })
	commands := slices.DeleteFunc(after.Commands, func(c inspect.Command) bool { return !opts.filter.Match((*query.CommandRow)(&c)) })
	sortTop(opts.sort, nodes, commands)
	if opts.output == formatJSON {
		return writeJSON(opts.app.Out, topJSON(after, nodes, commands), true)
	}
	return writeTop(opts.app.Out, after, nodes, commands)
}

// between replaces rates by those between two pictures exactly.
func between(before, after *inspect.Picture) {
	seconds := after.At.Sub(before.At).Seconds()
	rate := func(was, is uint64) float64 { return float64(is-min(was, is)) / seconds }
	t := &after.Totals
	t.Rate, t.ErrorRate = rate(before.Totals.Calls, t.Calls), rate(before.Totals.Errors, t.Errors)
	nodes := map[string]*inspect.Node{}
	for i := range before.Nodes {
		nodes[before.Nodes[i].Name] = &before.Nodes[i]
	}
	for i := range after.Nodes {
		n := &after.Nodes[i]
		if was := nodes[n.Name]; was != nil && n.Reports && was.Reports {
			n.RateIn, n.RateOut, n.ErrRate = rate(was.CallsIn, n.CallsIn), rate(was.CallsOut, n.CallsOut), rate(was.Errors, n.Errors)
		}
	}
	commands := map[string]*inspect.Command{}
	for i := range before.Commands {
		commands[before.Commands[i].Name] = &before.Commands[i]
	}
	for i := range after.Commands {
		c := &after.Commands[i]
		if was := commands[c.Name]; was != nil {
			c.Rate, c.ErrRate = rate(was.Calls, c.Calls), rate(was.Failed, c.Failed)
		}
	}
}

func sortTop(order string, nodes []inspect.Node, commands []inspect.Command) {
	if order == "name" {
		return // as pictures are
	}
	slices.SortStableFunc(nodes, func(a, b inspect.Node) int {
		switch order {
		case "rate":
			return cmp.Compare(b.RateIn+b.RateOut, a.RateIn+a.RateOut)
		case "p99":
			return cmp.Compare(b.P99, a.P99)
		case "errors":
			return cmp.Compare(b.ErrRate, a.ErrRate)
		}
		return cmp.Compare(b.InFlight, a.InFlight)
	})
	slices.SortStableFunc(commands, func(a, b inspect.Command) int {
		switch order {
		case "rate":
			return cmp.Compare(b.Rate, a.Rate)
		case "p99":
			return cmp.Compare(b.P99, a.P99)
		case "errors":
			return cmp.Compare(b.ErrRate, a.ErrRate)
		}
		return cmp.Compare(b.InFlight, a.InFlight)
	})
}

func writeTop(w io.Writer, p *inspect.Picture, nodes []inspect.Node, commands []inspect.Command) error {
	t := &p.Totals
	_, err := fmt.Fprintf(w, "%s, %s (%d missing), %s calls/s, %s errors/s, %d in flight, p50 %s, p99 %s\n\n",
		counted(t.Nodes, "node"), counted(t.Links, "link"), t.MissingLinks, perSecond(t.Rate), perSecond(t.ErrorRate), t.InFlight, cmp.Or(latency(t.P50), "-"), cmp.Or(latency(t.P99), "-"))
	if err != nil {
		return err
	}
	rows := make([][]string, len(nodes))
	for i, n := range nodes {
		rows[i] = []string{n.Name, n.Health.String(), n.Kind, strconv.Itoa(n.Links), perSecond(n.RateIn), perSecond(n.RateOut), perSecond(n.ErrRate),
			latency(n.P50), latency(n.P99), strconv.Itoa(n.InFlight), strconv.Itoa(n.Queued)}
		if !n.Reports {
			rows[i][6], rows[i][10] = "", ""
		}
	}
	if err := writeTable(w, []string{"NODE", "STATE", "KIND", "LINKS", "IN/S", "OUT/S", "ERRORS/S", "P50", "P99", "IN FLIGHT", "QUEUED"}, rows); err != nil {
		return err
	}
	if _, err := fmt.Fprintln(w); err != nil {
		return err
	}
	rows = make([][]string, len(commands))
	for i, c := range commands {
		rows[i] = []string{c.Name, perSecond(c.Rate), perSecond(c.ErrRate), latency(c.P50), latency(c.P90), latency(c.P99), latency(c.P999),
			strconv.Itoa(c.InFlight), strconv.FormatUint(c.Calls, 10), strconv.FormatUint(c.Failed, 10)}
	}
	return writeTable(w, []string{"COMMAND", "CALLS/S", "ERRORS/S", "P50", "P90", "P99", "P99.9", "IN FLIGHT", "CALLS", "ERRORS"}, rows)
}

func perSecond(rate float64) string { return strconv.FormatFloat(rate, 'f', 1, 64) }

// latency is empty where there is none.
func latency(d time.Duration) string {
	switch {
	case d <= 0:
		return ""
	case d < time.Millisecond:
		return d.Round(time.Microsecond).String()
	case d < 100*time.Millisecond:
		return d.Round(100 * time.Microsecond).String()
	}
	return d.Round(time.Millisecond).String()
}

// topJSON is what -o json prints. Latencies are in milliseconds, null where nothing was
// called; rates are per second.
func topJSON(p *inspect.Picture, nodes []inspect.Node, commands []inspect.Command) any {
	ms := func(d time.Duration) *float64 {
		if d <= 0 {
			return nil
		}
		f := millis(d)
		return &f
	}
	type node struct {
		Node     string   `json:"node"`
		State    string   `json:"state"`
		Kind     string   `json:"kind"`
		Reports  bool     `json:"reports"`
		Links    int      `json:"links"`
		RateIn   float64  `json:"rate_in"`
		RateOut  float64  `json:"rate_out"`
		Errors   float64  `json:"error_rate"`
		P50      *float64 `json:"p50_ms"`
		P99      *float64 `json:"p99_ms"`
		InFlight int      `json:"in_flight"`
		Queued   int      `json:"queued"`
	}
	type command struct {
		Command   string   `json:"command"`
		Rate      float64  `json:"rate"`
		ErrorRate float64  `json:"error_rate"`
		P50       *float64 `json:"p50_ms"`
		P90       *float64 `json:"p90_ms"`
		P99       *float64 `json:"p99_ms"`
		P999      *float64 `json:"p999_ms"`
		InFlight  int      `json:"in_flight"`
		Calls     uint64   `json:"calls"`
		Errors    uint64   `json:"errors"`
	}
	out := struct {
		At        time.Time `json:"at"`
		Nodes     []node    `json:"nodes"`
		Commands  []command `json:"commands"`
		Links     int       `json:"links"`
		Missing   int       `json:"missing_links"`
		Rate      float64   `json:"rate"`
		ErrorRate float64   `json:"error_rate"`
		P50       *float64  `json:"p50_ms"`
		P99       *float64  `json:"p99_ms"`
		InFlight  int       `json:"in_flight"`
	}{
		At: p.At, Nodes: make([]node, len(nodes)), Commands: make([]command, len(commands)), Links: p.Totals.Links, Missing: p.Totals.MissingLinks,
		Rate: p.Totals.Rate, ErrorRate: p.Totals.ErrorRate, P50: ms(p.Totals.P50), P99: ms(p.Totals.P99), InFlight: p.Totals.InFlight,
	}
	for i, n := range nodes {
		out.Nodes[i] = node{n.Name, n.Health.String(), n.Kind, n.Reports, n.Links, n.RateIn, n.RateOut, n.ErrRate, ms(n.P50), ms(n.P99), n.InFlight, n.Queued}
	}
	for i, c := range commands {
		out.Commands[i] = command{c.Name, c.Rate, c.ErrRate, ms(c.P50), ms(c.P90), ms(c.P99), ms(c.P999), c.InFlight, c.Calls, c.Failed}
	}
	return out
}
