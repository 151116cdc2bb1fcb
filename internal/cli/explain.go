package cli

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/meshctl/meshctl/internal/config"
	"github.com/meshctl/meshctl/internal/mesh/link/native"
	"github.com/meshctl/meshctl/internal/mesh/link/socketio"
	"github.com/meshctl/meshctl/internal/mesh/schema"
	"github.com/meshctl/meshctl/internal/mesh/wire"
	"github.com/spf13/cobra"
)

type explainOptions struct {
	app             *App
	cfg             *config.Config
	offline         bool // explain the file of --schema, ask nobody
	from            string
	worker, command string
	output          format
}

func newCmdExplain(app *App, runF func(context.Context, *explainOptions) error) *cobra.Command {
	if runF == nil {
		runF = runExplain
	}
	opts := &explainOptions{app: app}
	cmd := &cobra.Command{
		Use:   "explain FROM WORKER.COMMAND",
		Short: "Say whether a worker may call a command, and by which rule",
		Long: `Say whether the worker FROM may call WORKER.COMMAND, which rules of the schema allow or
deny it, and which variants a call would reach. FROM is a worker, or "operator" for
meshctl's own command line.

The schema and the variants are the master's. With --schema, or when no master answers
and the configuration names a schema, a file's rules are explained instead. A denied call exits with 4, so that scripts can ask.`,
		Example: "  meshctl explain worker worker.echo\n  meshctl explain web db.query --schema schema.yaml",
		Args:    exactArgs(2),
	}
	config.AddFlags(cmd.Flags(), config.CmdExplain)
	output := addFormat(cmd, "how to print it", formatTable, formatJSON, formatYAML, formatTable)
	cmd.ValidArgsFunction = func(cmd *cobra.Command, args []string, word string) ([]cobra.Completion, cobra.ShellCompDirective) {
		if len(args) == 0 {
			return completeWorkers(app)(cmd, args, word)
		}
		return completeTarget(app, 1)(cmd, args, word)
	}
	cmd.RunE = func(cmd *cobra.Command, args []string) (err error) {
		opts.from = args[0]
		if opts.from == "operator" {
			opts.from = schema.Operator
		}
		if opts.from != schema.Operator {
			if err := schema.ValidWorker(opts.from); err != nil {
				return usagef("FROM is a worker, or operator", "%v", err)
			}
		}
		if opts.worker, opts.command, err = splitTarget(args[1]); err != nil {
			return err
		}
		if opts.cfg, err = app.load(cmd); err != nil {
			return err
		}
		opts.offline = cmd.Flags().Changed("schema")
		opts.output = *output
		return runF(cmd.Context(), opts)
	}
	return cmd
}

// explanation is what explain prints: the schema's, and who is there.
type explanation struct {
	schema.Explanation
	// Variants is null where no master was asked.
	Variants []string `json:"variants"`
	// Links is the kind of link that each variant serves its best callers with.
	Links  map[string]string `json:"links,omitempty" yaml:"links,omitempty"`
	Schema string            `json:"schema"` // where the rules are from
}

func runExplain(ctx context.Context, opts *explainOptions) error {
	e, err := opts.explain(ctx)
	if err != nil {
		return err
	}
	if err := opts.print(e); err != nil {
		return err
	}
	if !e.Allowed {
		return &reported{code: wire.CodeDenied}
	}
	return nil
}

// explain asks the master, and explains a file where --schema asks for that, or where
// no master answers and the configuration names one.
func (opts *explainOptions) explain(ctx context.Context) (explanation, error) {
	path := opts.cfg.Schema
	if opts.offline {
		return opts.explainFile(path)
	}
	e, err := opts.explainMaster(ctx)
	if err == nil {
		return e, nil
	}
	if path != "" && wire.CodeOf(err) == wire.CodeUnreachable {
		return opts.explainFile(path)
	}
	return e, &hinted{err, "--schema FILE explains a file, without a master"}
}

func (opts *explainOptions) explainFile(path string) (explanation, error) {
	s, err := loadSchema(path)
	if err != nil {
		return explanation{}, err
	}
	return explanation{Explanation: s.Explain(opts.from, opts.worker, opts.command), Schema: path}, nil
}

func (opts *explainOptions) explainMaster(ctx context.Context) (explanation, error) {
	op, err := opts.app.connect(ctx, opts.cfg)
	if err != nil {
		return explanation{}, err
	}
	defer op.Close()
	s := op.Schema()
	if s == nil {
		return explanation{}, errors.New("get the schema: the master does not tell it")
	}
	nodes, err := op.Nodes(ctx)
	if err != nil {
		return explanation{}, err
	}
	e := explanation{
		Explanation: s.Explain(opts.from, opts.worker, opts.command),
		Schema:      "the master's",
		Variants:    []string{},
		Links:       map[string]string{},
	}
	for _, n := range nodes { // sorted by variant
		if n.Worker != opts.worker || n.Draining {
			continue
		}
		e.Variants = append(e.Variants, n.Variant)
		e.Links[n.Variant] = socketio.Transport
		if n.Native {
			e.Links[n.Variant] = native.Transport
		}
	}
	return e, nil
}

func (opts *explainOptions) print(e explanation) error {
	out := opts.app.Out
	if opts.output != formatTable {
		return writeValue(out, e, opts.output)
	}
	verdict := "allowed"
	if !e.Allowed {
		verdict = "denied"
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%s: %s → %s\n", verdict, e.From, e.Target)
	fmt.Fprintf(&b, "  because   %s\n", e.Reason)
	if e.Connects != "" {
		fmt.Fprintf(&b, "  link      %s\n", e.Connects)
	}
	for _, r := range e.Rules {
		effect := "says no"
		if r.Grants {
			effect = "says yes"
		}
		fmt.Fprintf(&b, "  rule      %s: %s\n", r, effect)
	}
	if e.Delivery != "" {
		fmt.Fprintf(&b, "  delivery  %s\n", deliveryText(e.Explanation))
	}
	if e.Retry != "" {
		fmt.Fprintf(&b, "  retry     %s\n", e.Retry)
	}
	fmt.Fprintf(&b, "  reaches   %s\n", reachText(e))
	fmt.Fprintf(&b, "  schema    %s\n", e.Schema)
	_, err := fmt.Fprint(out, printableLines(b.String()))
	return err
}

func deliveryText(e schema.Explanation) string {
	text := string(e.Delivery)
	if e.Responds {
		text += ", responds"
	} else {
		text += ", no response"
	}
	if e.Queued {
		text += ", queued"
	}
	if e.Balance != "" {
		text += ", by " + e.Balance
	}
	if e.MaxInFlight > 0 {
		text += fmt.Sprintf(", at most %d at once per node", e.MaxInFlight)
	}
	return text
}

func reachText(e explanation) string {
	switch {
	case e.Variants == nil:
		return "unknown: no master was asked who is there"
	case !e.Allowed:
		return "nobody"
	case len(e.Variants) == 0:
		return "nobody: no variant is in the mesh"
	}
	names := make([]string, len(e.Variants))
	for i, v := range e.Variants {
		names[i] = v + " (" + e.Links[v] + ")"
	}
	if e.Delivery == schema.Balanced {
		return "one of " + strings.Join(names, ", ")
	}
	return strings.Join(names, ", ")
}
