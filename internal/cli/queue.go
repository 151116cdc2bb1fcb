package cli

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/meshctl/meshctl/internal/config"
	"github.com/meshctl/meshctl/internal/mesh/node"
	"github.com/meshctl/meshctl/internal/mesh/queue"
	"github.com/meshctl/meshctl/internal/mesh/wire"
	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"
)

// queueOptions are what the subcommands of queue have in common.
type queueOptions struct {
	app     *App
	cfg     *config.Config
	worker  string
	command string
	only    []string
	output  format

	ids    []string
	all    bool
	limit  int
	resume bool
}

func newCmdQueue(app *App) *cobra.Command {
	deadLetters := parentOnly("dead", "List, retry and remove the dead letters of a queue",
		newCmdQueueDeadList(app), newCmdQueueDeadRetry(app), newCmdQueueDeadRemove(app))
	return parentOnly("queue", "See to the queues of running nodes",
		newCmdQueueList(app), newCmdQueuePeek(app), deadLetters, newCmdQueuePurge(app), newCmdQueueDrain(app))
}

// newQueueCommand makes a subcommand that is about one queue, at all variants of its worker or
// those of --only. extra arguments are ids.
func newQueueCommand(app *App, cmd *cobra.Command, run func(context.Context, *queueOptions) error, flags func(*cobra.Command, *queueOptions), formats ...format) *cobra.Command {
	opts := &queueOptions{app: app}
	config.AddFlags(cmd.Flags(), config.CmdQueue)
	only := cmd.Flags().StringSlice("only", nil, "`variants` whose queues are meant; default: all")
	// It fails only where the flag does not exist.
	_ = cmd.RegisterFlagCompletionFunc("only", completeVariants(app))
	output := addFormat(cmd, "how to print it", formatTable, formats...)
	if flags != nil {
		flags(cmd, opts)
	}
	if cmd.ValidArgsFunction == nil {
		cmd.ValidArgsFunction = completeTarget(app, 0)
	}
	cmd.RunE = func(cmd *cobra.Command, args []string) (err error) {
		if len(args) > 0 {
			if opts.worker, opts.command, err = opts.target(cmd, args[0]); err != nil {
				return err
			}
			opts.ids = args[1:]
		}
		if opts.only, err = variantList("only", cmd.Flags().Changed("only"), *only); err != nil {
			return err
		}
		opts.output = *output
		if opts.cfg, err = app.load(cmd); err != nil {
			return err
		}
		return run(cmd.Context(), opts)
	}
	return cmd
}

// target is WORKER.COMMAND, or WORKER alone where a subcommand is about all queues.
func (opts *queueOptions) target(cmd *cobra.Command, text string) (worker, command string, err error) {
	if cmd.Name() == "ls" && cmd.Parent().Name() == "queue" && !strings.Contains(text, ".") {
		return text, "", nil
	}
	return splitTarget(text)
}

// queueAnswer is what one node said.
type queueAnswer struct {
	Worker  string `json:"worker"`
	Variant string `json:"variant"`
	*wire.QueueReply
	Error *wire.Error `json:"error,omitempty"`
}

// maxAsked is how many nodes are asked at once.
const maxAsked = 32

// each asks every node that is meant, and gives what they said. A list is asked of all at
// once; anything else of one after another until one has answered, which did it for all
// where variants share their queue, and then of the others at once.
func (opts *queueOptions) each(ctx context.Context, op *node.Operator, r wire.QueueRequest) ([]queueAnswer, error) {
	nodes, err := op.Nodes(ctx)
	if err != nil {
		return nil, err
	}
	nodes = slices.DeleteFunc(nodes, func(n wire.NodeInfo) bool {
		return n.Kind != wire.KindMeshctl || opts.worker != "" && n.Worker != opts.worker || len(opts.only) > 0 && !slices.Contains(opts.only, n.Variant)
	})
	if len(nodes) == 0 {
		return nil, &wire.Error{Code: wire.CodeNoVariant, Message: "no meshctl node is there whose queues are meant"}
	}
	for _, name := range opts.only {
		if !slices.ContainsFunc(nodes, func(n wire.NodeInfo) bool { return n.Variant == name }) {
			return nil, &wire.Error{Code: wire.CodeNoVariant, Message: fmt.Sprintf("no meshctl node is there whose variant is %s, so nobody was asked", printable(name))}
		}
	}
	answers := make([]queueAnswer, len(nodes))
	ask := func(i int) error {
		a := &answers[i]
		a.Worker, a.Variant = nodes[i].Worker, nodes[i].Variant
		reply, err := op.NodeQueues(ctx, nodes[i], r)
		if err != nil && ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if a.QueueReply = reply; err != nil && !errors.As(err, &a.Error) {
			return err
		}
		return nil
	}
	asked := 0
	for answered := r.Op == wire.QueueList; !answered && asked < len(nodes); asked++ {
		if err := ask(asked); err != nil {
			return nil, err
		}
		if answered = answers[asked].Error == nil; answered && answers[asked].Shared {
			return answers[:asked+1], nil
		}
	}
	var g errgroup.Group
	g.SetLimit(maxAsked)
	for i := asked; i < len(nodes); i++ {
		g.Go(func() error { return ask(i) })
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	return answers, nil
}

// ask connects and asks each node. When none could answer the error is the first one's.
func (opts *queueOptions) ask(ctx context.Context, r wire.QueueRequest) ([]queueAnswer, error) {
	op, err := opts.app.connect(ctx, opts.cfg)
	if err != nil {
		return nil, err
	}
	defer op.Close()
	r.Command = opts.command
	answers, err := opts.each(ctx, op, r)
	if err != nil {
		return nil, err
	}
	return answers, opts.failed(answers)
}

// failed tells of the nodes that could not answer. It is an error when none could.
func (opts *queueOptions) failed(answers []queueAnswer) error {
	bad := 0
	for _, a := range answers {
		if a.Error != nil {
			bad++
			if bad < len(answers) {
				opts.app.notice("%s", printable(fmt.Sprintf("%s/%s: %v", a.Worker, a.Variant, a.Error)))
			}
		}
	}
	switch first := answers[0]; {
	case bad < len(answers):
		return nil
	case first.Error.Code == wire.CodeUnknownCommand:
		return &hinted{first.Error, queuesHint(first.Worker)}
	default:
		return first.Error
	}
}

func queuesHint(worker string) string {
	return fmt.Sprintf("meshctl queue ls %s shows the queues that there are", printable(worker))
}

func newCmdQueueList(app *App) *cobra.Command {
	return newQueueCommand(app, &cobra.Command{
		Use:   "ls [WORKER[.COMMAND]]",
		Short: "List queues: what waits, how long, what failed",
		Long: `List the queues of the nodes that are running: how many requests wait, are being worked
on, and are dead letters, how old the oldest is, and what has happened since the node
started. A queue in Redis that all variants share is shown at each of them.`,
		Example: "  meshctl queue ls\n  meshctl queue ls mailer.send -o json",
		Args:    upToArgs(1),
	}, runQueueList, nil, formatJSON, formatYAML, formatTable)
}

// queueRow is a queue of a node.
type queueRow struct {
	Worker  string `json:"worker"`
	Variant string `json:"variant"`
	queue.Stats
}

func runQueueList(ctx context.Context, opts *queueOptions) error {
	command := opts.command
	opts.command = ""
	answers, err := opts.ask(ctx, wire.QueueRequest{Op: wire.QueueList})
	if err != nil {
		return err
	}
	rows := []queueRow{}
	for _, a := range answers {
		if a.Error != nil {
			continue
		}
		var all []queue.Stats
		if err := json.Unmarshal(a.Queues, &all); err != nil {
			return fmt.Errorf("read the queues of %s/%s: %w", a.Worker, a.Variant, err)
		}
		for _, s := range all {
			if command == "" || s.Command == command {
				rows = append(rows, queueRow{a.Worker, a.Variant, s})
			}
		}
	}
	if command != "" && len(rows) == 0 {
		return &hinted{
			&wire.Error{Code: wire.CodeUnknownCommand, Message: fmt.Sprintf("no node that is meant has a queue for %s.%s", opts.worker, command)},
			"a command is queued with queued: true in the schema; " + queuesHint(opts.worker),
		}
	}
	verdict := opts.tell(map[string]any{"queues": rows}, partly(answers))
	if opts.output != formatTable {
		return verdict
	}
	if len(rows) == 0 {
		opts.app.notice("there are no queues; a command is queued with queued: true in the schema")
		return verdict
	}
	table := make([][]string, len(rows))
	for i, r := range rows {
		table[i] = []string{
			r.Worker + "." + r.Command, r.Variant, r.Backend, cmp.Or(r.State(), "open"), fmt.Sprintf("%d/%d", r.Waiting, r.MaxDepth),
			strconv.Itoa(r.Running), (time.Duration(r.OldestMillis) * time.Millisecond).String(), strconv.FormatUint(r.Done, 10),
			strconv.FormatUint(r.Retries, 10), strconv.Itoa(r.Dead),
		}
	}
	if err := writeTable(opts.app.Out, []string{"QUEUE", "VARIANT", "STORE", "STATE", "WAITING", "RUNNING", "OLDEST", "DONE", "RETRIES", "DEAD"}, table); err != nil {
		return err
	}
	return verdict
}

func newCmdQueuePeek(app *App) *cobra.Command {
	return newQueueCommand(app, &cobra.Command{
		Use:   "peek WORKER.COMMAND",
		Short: "Show the first requests of a queue",
		Long: `Show the requests of a queue in their order, without taking them out. Payloads are
shown by nodes that run with --inspect-payloads.`,
		Example: "  meshctl queue peek mailer.send --limit 5",
		Args:    exactArgs(1),
	}, func(ctx context.Context, opts *queueOptions) error { return runQueueEntries(ctx, opts, wire.QueuePeek) }, limitFlag, formatJSON, formatYAML, formatTable)
}

func limitFlag(cmd *cobra.Command, opts *queueOptions) {
	cmd.Flags().IntVar(&opts.limit, "limit", 20, fmt.Sprintf("`number` of requests per node, up to %d", wire.MaxQueueEntries))
}

// entryRow is a queued request of a node.
type entryRow struct {
	Worker  string `json:"worker"`
	Variant string `json:"variant"`
	wire.QueueEntry
}

func runQueueEntries(ctx context.Context, opts *queueOptions, op string) error {
	if opts.limit < 1 || opts.limit > wire.MaxQueueEntries {
		return usagef("", "--limit %d is not between 1 and %d", opts.limit, wire.MaxQueueEntries)
	}
	answers, err := opts.ask(ctx, wire.QueueRequest{Op: op, Limit: opts.limit})
	if err != nil {
		return err
	}
	rows := []entryRow{}
	for _, a := range answers {
		if a.Error == nil {
			for _, e := range a.Entries {
				rows = append(rows, entryRow{a.Worker, a.Variant, e})
			}
		}
	}
	verdict := opts.tell(map[string]any{"requests": rows}, partly(answers))
	if opts.output != formatTable {
		return verdict
	}
	if len(rows) == 0 {
		opts.app.notice("there is none")
		return verdict
	}
	table := make([][]string, len(rows))
	for i, r := range rows {
		at := time.UnixMilli(r.Enqueued)
		if r.State == queue.StateDead {
			at = time.UnixMilli(r.Died)
		}
		table[i] = []string{r.Variant, r.ID, r.State, at.Format(time.RFC3339), r.Caller, strconv.Itoa(r.Attempts), strconv.Itoa(r.Bytes), r.QueueEntry.Error, string(r.Payload)}
	}
	if err := writeTable(opts.app.Out, []string{"VARIANT", "ID", "STATE", "SINCE", "CALLER", "TRIES", "BYTES", "ERROR", "PAYLOAD"}, table); err != nil {
		return err
	}
	return verdict
}
