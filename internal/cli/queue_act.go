package cli

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/meshctl/meshctl/internal/mesh/queue"
	"github.com/meshctl/meshctl/internal/mesh/wire"
	"github.com/meshctl/meshctl/internal/pause"
	"github.com/spf13/cobra"
)

func newCmdQueueDeadList(app *App) *cobra.Command {
	return newQueueCommand(app, &cobra.Command{
		Use:   "ls WORKER.COMMAND",
		Short: "List the dead letters of a queue: what failed for good, and why",
		Args:  exactArgs(1),
	}, func(ctx context.Context, opts *queueOptions) error { return runQueueEntries(ctx, opts, wire.QueueDead) }, limitFlag, formatJSON, formatYAML, formatTable)
}

func newCmdQueueDeadRetry(app *App) *cobra.Command {
	return newQueueCommand(app, &cobra.Command{
		Use:     "retry WORKER.COMMAND [ID...]",
		Short:   "Put dead letters back into their queue",
		Example: "  meshctl queue dead retry mailer.send --all",
		Args:    atLeastOneArg,

		ValidArgsFunction: completeDeadLetters(app),
	}, func(ctx context.Context, opts *queueOptions) error {
		return runQueueDead(ctx, opts, wire.QueueRetry, "back in the queue")
	}, allFlag, formatJSON, formatYAML, formatTable)
}

func newCmdQueueDeadRemove(app *App) *cobra.Command {
	return newQueueCommand(app, &cobra.Command{
		Use:   "rm WORKER.COMMAND [ID...]",
		Short: "Remove dead letters for good",
		Args:  atLeastOneArg,

		ValidArgsFunction: completeDeadLetters(app),
	}, func(ctx context.Context, opts *queueOptions) error {
		return runQueueDead(ctx, opts, wire.QueueRemove, "removed")
	}, allFlag, formatJSON, formatYAML, formatTable)
}

func newCmdQueuePurge(app *App) *cobra.Command {
	return newQueueCommand(app, &cobra.Command{
		Use:   "purge WORKER.COMMAND",
		Short: "Remove everything that waits in a queue, for good",
		Long: `Remove the requests that wait in a queue. What is being worked on goes on, and dead
letters stay.`,
		Args: exactArgs(1),
	}, func(ctx context.Context, opts *queueOptions) error {
		return opts.act(ctx, wire.QueueRequest{Op: wire.QueuePurge}, "removed")
	}, nil, formatJSON, formatYAML, formatTable)
}

func allFlag(cmd *cobra.Command, opts *queueOptions) {
	cmd.Flags().BoolVar(&opts.all, "all", false, "all of them, instead of those that are named")
}

func atLeastOneArg(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return exactArgs(1)(cmd, args)
	}
	return nil
}

func runQueueDead(ctx context.Context, opts *queueOptions, op, done string) error {
	if opts.all == (len(opts.ids) > 0) {
		return usagef("meshctl queue dead ls shows the ids", "name dead letters by their ids, or give --all")
	}
	slices.Sort(opts.ids)
	opts.ids = slices.Compact(opts.ids)
	return opts.act(ctx, wire.QueueRequest{Op: op, IDs: opts.ids, All: opts.all}, done)
}

// act does something to queues and tells how many requests that concerned.
func (opts *queueOptions) act(ctx context.Context, r wire.QueueRequest, done string) error {
	answers, err := opts.ask(ctx, r)
	if err != nil {
		return err
	}
	type row struct {
		Worker  string      `json:"worker"`
		Variant string      `json:"variant"`
		Count   int         `json:"count"`
		Error   *wire.Error `json:"error,omitempty"`
	}
	rows, total := []row{}, 0
	for _, a := range answers {
		line := row{Worker: a.Worker, Variant: a.Variant, Error: a.Error}
		if a.QueueReply != nil {
			line.Count = a.Count
		}
		total += line.Count
		rows = append(rows, line)
	}
	verdict := partly(answers)
	switch missing := len(opts.ids) - total; {
	case verdict != nil || missing <= 0:
	case total == 0:
		verdict = &reported{code: codeFailure, message: "no node has such a dead letter (meshctl queue dead ls shows them)"}
	default:
		verdict = &reported{code: codeFailure, message: fmt.Sprintf("%d of the %d that were named are no dead letters (meshctl queue dead ls shows them)", missing, len(opts.ids))}
	}
	if opts.output == formatTable {
		opts.app.notice("%d %s", total, done)
	}
	return opts.tell(map[string]any{"count": total, "nodes": rows}, verdict)
}

// partly is the verdict where some nodes could not do what they were asked for.
func partly(answers []queueAnswer) *reported {
	if slices.ContainsFunc(answers, func(a queueAnswer) bool { return a.Error != nil }) {
		return &reported{code: codePartial, message: "not every node could do it"}
	}
	return nil
}

// tell prints what was done, but in a table, and gives the verdict, which JSON and YAML have too.
func (opts *queueOptions) tell(value map[string]any, verdict *reported) error {
	if verdict != nil {
		value["error"] = classify(verdict)
	}
	if opts.output != formatTable {
		if err := writeValue(opts.app.Out, value, opts.output); err != nil {
			return err
		}
	}
	if verdict == nil {
		return nil // no *reported in an error
	}
	return verdict
}

func newCmdQueueDrain(app *App) *cobra.Command {
	return newQueueCommand(app, &cobra.Command{
		Use:   "drain WORKER.COMMAND",
		Short: "Take no more requests into a queue, and wait until it is empty",
		Long: `Close a queue: nodes refuse new requests for it, and work off what is there. Ends when
it is empty, or with exit code 5 after --timeout. The queue stays closed, after Ctrl-C
too, until --resume: in Redis for everybody, otherwise no longer than until the node starts again.`,
		Example: "  meshctl queue drain mailer.send --timeout 5m\n  meshctl queue drain mailer.send --resume",
		Args:    exactArgs(1),
	}, runQueueDrain, func(cmd *cobra.Command, opts *queueOptions) {
		cmd.Flags().BoolVar(&opts.resume, "resume", false, "take requests again")
	}, formatJSON, formatYAML, formatTable)
}

func runQueueDrain(ctx context.Context, opts *queueOptions) error {
	op := wire.QueueRequest{Op: wire.QueueClose, Command: opts.command}
	if opts.resume {
		op.Op = wire.QueueOpen
	}
	conn, err := opts.app.connect(ctx, opts.cfg)
	if err != nil {
		return err
	}
	defer conn.Close()
	answers, err := opts.each(ctx, conn, op)
	if err == nil {
		err = opts.failed(answers)
	}
	if err != nil {
		return err
	}
	left := 0
	if !opts.resume {
		if left, err = opts.awaitEmpty(ctx, func(ctx context.Context) ([]queueAnswer, error) {
			return opts.each(ctx, conn, wire.QueueRequest{Op: wire.QueueList})
		}); err != nil {
			if ctx.Err() != nil { // Ctrl-C ends the wait, and the error says no more than that
				opts.app.notice("the queue takes no more requests; meshctl queue drain %s.%s --resume opens it again", opts.worker, opts.command)
			}
			return err
		}
	}
	value := map[string]any{"closed": !opts.resume}
	if !opts.resume {
		value["left"] = left
	}
	verdict := partly(answers)
	switch {
	case opts.output != formatTable || verdict != nil:
	case opts.resume:
		opts.app.notice("the queue takes requests again")
	default:
		opts.app.notice("the queue is empty and takes no more requests; --resume opens it again")
	}
	return opts.tell(value, verdict)
}

// awaitEmpty asks again and again what is left, until nothing is or the time is over.
func (opts *queueOptions) awaitEmpty(ctx context.Context, ask func(context.Context) ([]queueAnswer, error)) (int, error) {
	end := time.Now().Add(opts.cfg.Timeout)
	for {
		answers, err := ask(ctx)
		if err != nil {
			return 0, err
		}
		left, shared, unknown := 0, 0, ""
		for _, a := range answers {
			if a.Error != nil {
				return 0, a.Error
			}
			var all []queue.Stats
			if err := json.Unmarshal(a.Queues, &all); err != nil {
				return 0, fmt.Errorf("read the queues of %s/%s: %w", a.Worker, a.Variant, err)
			}
			for _, s := range all {
				if s.Command != opts.command {
					continue
				}
				if has := s.Waiting + s.Running; s.Shared {
					shared = max(shared, has) // each tells of the same requests
				} else {
					left += has
				}
				unknown = cmp.Or(unknown, s.Error) // what it says is old
			}
		}
		left += shared
		if left == 0 && unknown == "" {
			return 0, nil
		}
		if time.Now().After(end) {
			if unknown != "" {
				return left, &wire.Error{Code: wire.CodeUnavailable, Message: "the queue takes no more, and nobody knows what is left in it: " + unknown, Hint: "ask again when its store is back; --resume opens the queue again"}
			}
			return left, &wire.Error{Code: wire.CodeTimeout, Message: counted(left, "request") + " left in the queue, which takes no more", Hint: "--timeout gives it more time; --resume opens the queue again"}
		}
		if !pause.For(ctx, 200*time.Millisecond) {
			return left, context.Cause(ctx)
		}
	}
}
