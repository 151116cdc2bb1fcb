package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/meshctl/meshctl/internal/bounded"
	"github.com/meshctl/meshctl/internal/config"
	"github.com/meshctl/meshctl/internal/mesh/node"
	"github.com/meshctl/meshctl/internal/mesh/schema"
	"github.com/meshctl/meshctl/internal/mesh/wire"
	"github.com/spf13/cobra"
)

type callOptions struct {
	app     *App
	cfg     *config.Config
	worker  string
	command string
	data    string
	only    []string // nil: not given
	exclude []string // nil: not given
	expect  *expectation
	wait    node.Wait
	key     string
	output  format
}

func newCmdCall(app *App, runF func(context.Context, *callOptions) error) *cobra.Command {
	if runF == nil {
		runF = runCall
	}
	opts := &callOptions{app: app}
	cmd := &cobra.Command{
		Use:   "call WORKER.COMMAND",
		Short: "Call a command of a worker",
		Long: `Call a command. The schema says how it is delivered: a balanced command goes to one
variant of the worker, in turn; a broadcast to all of them, or to those of --only or
not of --exclude.

The payload is JSON: -d '{"a":1}', -d @FILE, or -d - (or @-) for stdin, which is not
read otherwise. Without -d it is {}.

Output, unless -o says otherwise:
  balanced            the result: indented on a terminal, else one line of JSON
  broadcast           a table on a terminal, else one line of JSON per reply, as it comes
  no response wanted  nothing on stdout; stderr says to whom it was sent

  -o json   balanced: the result; broadcast: {"replies": [{"worker", "variant", "kind",
            "elapsed_ms", "result" or "error"}]}; no response: {"sent": [...]}; failures:
            {"error": {"code", "message", "hint"}}, beside the replies if there are any
  -o raw    results only, texts without quotes
  -o table  a row per member of the result, or per reply

A queued command is stored by the node that takes it. --wait stored ends then; --wait done
waits for its result. Both leave the job to the node: it is done, and tried again when it
fails, whether or not the caller is still there. Without --wait the call of a command that
responds ends with its caller. --key names the job: one whose key its queue has accepted
within the last 10 minutes is dropped, so that a call can be repeated. Variants share their
queue in Redis; otherwise each has its own, and --only repeats the call at the same one.

--timeout bounds the whole call: finding a master, linking to nodes and the responses.
Without it finding a master has 10s, and the rest 3s. Exit code 8 says that no master was
reached, 5 that the time was over later.

A broadcast succeeds when as many variants answered as --expect asks for: all, a
number, or a percentage such as 50%. The exit code tells failures apart: meshctl help
exit-codes.`,
		Example: `  meshctl call worker.status
  meshctl call worker.echo -d '{"hello":"mesh"}'
  meshctl call worker.info --exclude old-1 --expect 50%
  jq -n '{ms: 100}' | meshctl call worker.sleep -d - --timeout 1s`,
		Args: exactArgs(1),
	}
	f := cmd.Flags()
	config.AddFlags(f, config.CmdCall)
	f.StringVarP(&opts.data, "data", "d", "", "payload: `JSON`, @FILE, or - for stdin (default {})")
	only := f.StringSlice("only", nil, "`variants` that a broadcast goes to")
	exclude := f.StringSlice("exclude", nil, "`variants` that a broadcast does not go to")
	expect := f.String("expect", "all", "how many variants of a broadcast have to answer: all, `N` or P%")
	wait := f.String("wait", "", "`what` to wait for of a queued command: stored or done")
	f.StringVar(&opts.key, "key", "", "`name` of the job; one that its queue has accepted before is dropped (default: a new one for each call)")
	output := addFormat(cmd, "how to print the result", "", formatJSON, formatYAML, formatRaw, formatTable)
	cmd.ValidArgsFunction = completeTarget(app, 0)
	for _, flag := range []string{"only", "exclude"} {
		// It fails only where the flag does not exist.
		_ = cmd.RegisterFlagCompletionFunc(flag, completeVariants(app))
	}
	_ = cmd.RegisterFlagCompletionFunc("expect", cobra.FixedCompletions([]string{"all", "1", "50%"}, cobra.ShellCompDirectiveNoFileComp))
	_ = cmd.RegisterFlagCompletionFunc("wait", cobra.FixedCompletions([]string{string(node.WaitStored), string(node.WaitDone)}, cobra.ShellCompDirectiveNoFileComp))
	_ = cmd.RegisterFlagCompletionFunc("as", completeWorkers(app))
	cmd.RunE = func(cmd *cobra.Command, args []string) (err error) {
		if opts.worker, opts.command, err = splitTarget(args[0]); err != nil {
			return err
		}
		if opts.only, err = variantList("only", f.Changed("only"), *only); err != nil {
			return err
		}
		if opts.exclude, err = variantList("exclude", f.Changed("exclude"), *exclude); err != nil {
			return err
		}
		if f.Changed("expect") {
			e, err := parseExpectation(*expect)
			if err != nil {
				return err
			}
			opts.expect = &e
		}
		switch opts.wait = node.Wait(*wait); {
		case f.Changed("wait") && opts.wait != node.WaitStored && opts.wait != node.WaitDone:
			return usagef("", "--wait %q is neither stored nor done", *wait)
		case f.Changed("key") && opts.key == "":
			return usagef("leave --key away for a job of its own", "--key is empty")
		}
		if f.Changed("data") && opts.data == "" {
			return usagef("leave -d away to send {}", "-d is empty")
		}
		opts.output = *output
		if opts.cfg, err = app.load(cmd); err != nil {
			return err
		}
		return runF(cmd.Context(), opts)
	}
	return cmd
}

// variantList refuses a flag that is there and names nobody: a script whose variable
// is empty must not reach everybody.
func variantList(flag string, given bool, names []string) ([]string, error) {
	if !given {
		return nil, nil
	}
	for i := range names {
		names[i] = strings.TrimSpace(names[i])
	}
	if len(names) == 0 || slices.Contains(names, "") {
		return nil, usagef("leave the flag away to reach every variant", "--%s names no variant", flag)
	}
	return names, nil
}

func (opts *callOptions) target() string { return opts.worker + "." + opts.command }

func runCall(ctx context.Context, opts *callOptions) error {
	// Before connecting: a wrong payload is found without a mesh.
	payload, err := opts.payload(ctx)
	if err != nil {
		return err
	}
	nc, err := opts.app.operatorConfig(opts.cfg)
	if err != nil {
		return err
	}
	nc.Redis, nc.Mesh = opts.cfg.Redis, opts.cfg.Mesh
	ctx, cancel := timed(ctx, opts.cfg)
	defer cancel()
	ctx, cancel = opts.app.withinHandler(ctx)
	defer cancel()
	op, err := connectTo(ctx, nc)
	if err != nil {
		return err
	}
	defer op.Close()
	delivery, err := opts.check(op.Schema())
	if err != nil {
		return err
	}
	out := newCallOutput(opts, delivery)
	res, err := op.Call(ctx, opts.target(), payload, node.CallOptions{
		Only: opts.only, Exclude: opts.exclude, Timeout: opts.cfg.Timeout, OnReply: out.reply,
		Wait: opts.wait, Key: opts.key,
	})
	if err != nil {
		return opts.hintJob(err, op.Schema())
	}
	return out.finish(res)
}

// hintJob says of a job that was not waited for until its end that it may be done all the same, and of a call
// for which no variant is there how Redis would have taken it.
func (opts *callOptions) hintJob(err error, sch *schema.Schema) error {
	if code := wire.CodeOf(err); opts.wait == node.WaitDone && (code == wire.CodeTimeout || code == wire.CodePeerLost) {
		return &hinted{err, fmt.Sprintf("if the job was stored it is done all the same (meshctl queue ls %s), and only its result is lost; --timeout waits longer", opts.target())}
	}
	if opts.cfg.Redis == "" || opts.wait != "" || opts.only != nil || opts.exclude != nil || wire.CodeOf(err) != wire.CodeNoVariant || sch == nil {
		return err
	}
	cmd, ok := sch.Lookup(opts.worker, opts.command)
	if !ok || !cmd.Queued || cmd.Delivery != schema.Balanced {
		return err
	}
	return &hinted{err, "--wait stored puts it into Redis, for the variant that comes next; --wait done waits for its result as well"}
}

// payload gives the JSON to send, which is valid.
func (opts *callOptions) payload(ctx context.Context) (json.RawMessage, error) {
	limit := int(opts.cfg.MaxPayload)
	const larger = "--max-payload allows a larger one, to nodes that have been given that, too"
	var data []byte
	name := "-d"
	switch rest, isFile := strings.CutPrefix(opts.data, "@"); {
	case opts.data == "":
		return json.RawMessage("{}"), nil
	case opts.data == "-" || opts.data == "@-":
		name = "stdin"
		var err error
		if data, err = readInterruptibly(ctx, opts.app.In, limit); err != nil {
			if errors.Is(err, bounded.ErrTooLarge) {
				return nil, &hinted{fmt.Errorf("read payload: %w", err), larger}
			}
			return nil, fmt.Errorf("read stdin: %w", err)
		}
	case isFile && rest == "":
		return nil, usagef("write -d @FILE, or -d - for stdin", "-d @ names no file")
	case isFile:
		name = rest
		var err error
		if data, err = bounded.ReadFile(rest, limit); err != nil {
			hint := "-d @FILE reads the payload from FILE"
			if errors.Is(err, bounded.ErrTooLarge) {
				hint = larger
			}
			return nil, usagef(hint, "read payload: %v", err)
		}
	default:
		data = []byte(opts.data)
	}
	if err := checkJSON(name, data); err != nil {
		return nil, err
	}
	return json.RawMessage(data), nil
}

// readInterruptibly reads all of r unless ctx ends first. The read itself cannot be
// stopped; the process ends soon.
func readInterruptibly(ctx context.Context, r io.Reader, limit int) ([]byte, error) {
	type result struct {
		data []byte
		err  error
	}
	done := make(chan result, 1)
	go func() {
		data, err := bounded.ReadAll(r, "stdin", limit)
		done <- result{data, err}
	}()
	select {
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	case res := <-done:
		return res.data, res.err
	}
}

// check finds what is wrong with the call by the schema, before anything is sent,
// and how it is delivered. Whether it is allowed is for the mesh to say.
func (opts *callOptions) check(sch *schema.Schema) (schema.Delivery, error) {
	if sch == nil {
		return "", nil
	}
	cmd, ok := sch.Lookup(opts.worker, opts.command)
	if !ok {
		return "", noSuchCommand(sch, opts.worker, opts.command)
	}
	if cmd.Delivery == schema.Balanced && opts.expect != nil {
		return "", usagef("leave --expect away", "%s is balanced: one variant answers it, so --expect has nothing to count", opts.target())
	}
	return cmd.Delivery, nil
}

// noSuchCommand says what there is instead.
func noSuchCommand(sch *schema.Schema, worker, command string) error {
	e := &wire.Error{Code: wire.CodeUnknownCommand}
	if _, ok := sch.Workers[worker]; !ok {
		names := sch.WorkerNames()
		e.Message = fmt.Sprintf("the schema has no worker %q", worker)
		e.Hint = didYouMean(worker, names, "it has "+clipList(names))
		return e
	}
	names := sch.CommandNames(worker)
	e.Message = fmt.Sprintf("the worker %q has no command %q", worker, command)
	e.Hint = didYouMean(command, names, "it has "+clipList(names))
	return e
}

func didYouMean(word string, names []string, otherwise string) string {
	if near := config.Nearest(word, names); near != "" {
		return fmt.Sprintf("did you mean %q?", near)
	}
	return otherwise
}

func clipList(names []string) string {
	const most = 12
	if len(names) == 0 {
		return "none"
	}
	if len(names) > most {
		return strings.Join(names[:most], ", ") + fmt.Sprintf(" and %d more", len(names)-most)
	}
	return strings.Join(names, ", ")
}

// millis is a duration in milliseconds with three decimals, as JSON output has it.
func millis(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
