package node

import (
	"context"
	"encoding/json"
	"fmt"
	"iter"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/meshctl/meshctl/internal/mesh/route"
	"github.com/meshctl/meshctl/internal/mesh/rpc"
	"github.com/meshctl/meshctl/internal/mesh/schema"
	"github.com/meshctl/meshctl/internal/mesh/wire"
)

// CallOptions narrow and bound a call. The zero value reaches everybody that the
// command's delivery says, within the default time.
type CallOptions struct {
	Only    []string      // variants; nil is all, empty is an error
	Exclude []string      // variants
	Timeout time.Duration // 0: the context's deadline, else Config.Timeout

	// Wait makes a job of a queued command: it is done, with further tries where it fails,
	// even when the caller is gone. "" goes by the schema: the response of a command that responds
	// is waited for, and the request ends with its caller; others are jobs that are stored.
	Wait Wait
	// Key is a job's idempotency key; default: the uid of the call.
	Key string

	// OnReply, if set, is told of each reply as it comes, one at a time.
	OnReply func(Reply)
}

// Wait is what the caller of a queued command waits for.
type Wait string

// The values of Wait.
const (
	WaitStored Wait = "stored" // until the node has it stored
	WaitDone   Wait = "done"   // until it is done, or given up
)

// jobMeta is how a command is to be queued, by the options of its call.
func (o CallOptions) jobMeta(cmd *schema.Command) (wire.CommandMeta, *wire.Error) {
	switch {
	case !cmd.Queued && (o.Wait != "" || o.Key != ""):
		return wire.CommandMeta{}, &wire.Error{Code: wire.CodeBadRequest, Message: fmt.Sprintf("%s is not queued, so there is nothing to wait for but its response", cmd.Name), Hint: "leave --wait and --key away"}
	case !cmd.Queued:
		return wire.CommandMeta{}, nil
	case len(o.Key) > maxKeyLen:
		return wire.CommandMeta{}, &wire.Error{Code: wire.CodeBadRequest, Message: fmt.Sprintf("the key is longer than %d bytes", maxKeyLen)}
	case o.Key != "" && o.Wait == "" && cmd.Responds:
		return wire.CommandMeta{}, &wire.Error{Code: wire.CodeBadRequest, Message: "a key is for jobs, and this call would end with its caller", Hint: "add --wait stored or --wait done"}
	}
	ack := o.Wait == WaitStored || o.Wait == "" && !cmd.Responds
	return wire.CommandMeta{Ack: ack, Job: o.Wait == WaitDone, Key: o.Key}, nil
}

// Result is what came of a call.
type Result struct {
	Target   string // "worker.command"
	Worker   string
	Command  string
	Delivery schema.Delivery
	Responds bool
	UID      string
	Replies  []Reply // by variant; exactly one for a balanced command that was answered
	Elapsed  time.Duration

	meta wire.CommandMeta // that the command is sent with
}

// Reply is what one variant answered. Exactly one of Result and Err is set where the
// command responds; where it does not, a nil Err says that the request was sent (and,
// for a queued command of a meshctl node, accepted).
type Reply struct {
	Worker  string
	Variant string
	Kind    string
	Result  json.RawMessage
	Err     *wire.Error
	Elapsed time.Duration
}

// reach finds the variants that a call may go to.
type reach interface {
	// inTurn yields links one after another for a balanced command; a caller that
	// could not use one goes on to the next.
	inTurn(ctx context.Context, worker string, sel route.Selection) iter.Seq2[target, *wire.Error]
	// all yields each selected variant once.
	all(ctx context.Context, worker string, sel route.Selection) ([]target, *wire.Error)
}

// target is one variant to send to, or the reason why it cannot be reached.
type target struct {
	worker, variant string
	connect         func(ctx context.Context) (*peer, *peerLink, *wire.Error)
}

// call is what Node.Call and Operator.Call share.
func (c *core) call(ctx context.Context, name string, payload json.RawMessage, opts CallOptions, r reach) (*Result, error) {
	worker, command, err := wire.ParseTarget(name)
	if err != nil {
		return nil, err
	}
	sel := route.Selection{Only: opts.Only, Exclude: opts.Exclude}
	if err := sel.Check(); err != nil {
		return nil, err
	}
	cmd, err := c.permitted(worker, command)
	if err != nil {
		c.telemetry.refused(name, err)
		return nil, err
	}
	meta, failure := opts.jobMeta(cmd)
	if failure != nil {
		return nil, failure
	}
	responds := opts.Wait == WaitDone || opts.Wait == "" && cmd.Responds
	if !responds && !json.Valid(payload) && payload != nil {
		// Nobody would tell: whoever receives it can only drop it.
		return nil, &wire.Error{Code: wire.CodeBadRequest, Message: "the payload is not valid JSON"}
	}
	ctx, cancel := c.withTimeout(ctx, opts.Timeout)
	defer cancel()

	started := time.Now()
	result := &Result{Target: name, Worker: worker, Command: command, Delivery: cmd.Delivery, Responds: responds, UID: uuid.NewString(), meta: meta}
	if cmd.Delivery == schema.Broadcast {
		err = c.broadcast(ctx, result, cmd, payload, sel, opts, r)
	} else {
		err = c.balanced(ctx, result, cmd, payload, sel, opts, r)
	}
	result.Elapsed = time.Since(started)
	return result, err
}

// permitted finds the command and checks that this node may call it.
func (c *core) permitted(worker, command string) (*schema.Command, error) {
	s := c.access.Load()
	if s == nil {
		return nil, &wire.Error{Code: wire.CodeUnreachable, Message: "no schema known yet: not connected to a master", Temporary: true}
	}
	cmd, ok := s.Lookup(worker, command)
	if !ok {
		message := fmt.Sprintf("%s has no command %s", worker, command)
		if s.Workers[worker] == nil {
			message = fmt.Sprintf("the schema has no worker %s", worker)
		}
		return nil, &wire.Error{Code: wire.CodeUnknownCommand, Message: message, Hint: "`meshctl schema show` lists the workers and their commands"}
	}
	if c.cfg.Worker != "" && !s.MayCall(c.cfg.Worker, worker) {
		return nil, &wire.Error{
			Code: wire.CodeDenied, Message: fmt.Sprintf("the schema does not let %s call %s", c.cfg.Worker, worker),
			Hint: fmt.Sprintf("see `meshctl explain %s %s.%s`", c.cfg.Worker, worker, command),
		}
	}
	if c.cfg.Worker != "" && !cmd.AllowsCaller(c.cfg.Worker) {
		return nil, &wire.Error{
			Code: wire.CodeDenied, Message: fmt.Sprintf("%s is not among the callers of %s.%s", c.cfg.Worker, worker, command),
			Hint: fmt.Sprintf("see `meshctl explain %s %s.%s`", c.cfg.Worker, worker, command),
		}
	}
	return cmd, nil
}

func (c *core) balanced(ctx context.Context, result *Result, cmd *schema.Command, payload json.RawMessage, sel route.Selection, opts CallOptions, r reach) error {
	o := c.outgoing(result, cmd, result.UID, "", payload)
	var last *wire.Error
	for t, failure := range r.inTurn(ctx, result.Worker, sel) {
		if failure != nil {
			last = failure
			continue
		}
		reply := c.ask(ctx, t, &o, result)
		if reply.Err != nil && reply.Err.Temporary && ctx.Err() == nil {
			last = reply.Err // it did not run there: the next variant may take it
			continue
		}
		o.end(reply.Result, reply.Err)
		result.Replies = []Reply{reply}
		if opts.OnReply != nil {
			opts.OnReply(reply)
		}
		if reply.Err != nil {
			return reply.Err
		}
		return nil
	}
	if last == nil {
		last = route.NoVariant(result.Worker, sel)
	}
	o.end(nil, last)
	return last
}

func (c *core) broadcast(ctx context.Context, result *Result, cmd *schema.Command, payload json.RawMessage, sel route.Selection, opts CallOptions, r reach) error {
	nobody := func(failure *wire.Error) error {
		o := c.outgoing(result, cmd, result.UID, "", payload)
		o.end(nil, failure)
		return failure
	}
	targets, failure := r.all(ctx, result.Worker, sel)
	if failure != nil {
		return nobody(failure)
	}
	present := make([]string, len(targets))
	for i, t := range targets {
		present[i] = t.variant
	}
	for _, v := range sel.Missing(present) {
		targets = append(targets, target{worker: result.Worker, variant: v, connect: func(context.Context) (*peer, *peerLink, *wire.Error) {
			return nil, nil, route.NoVariant(result.Worker, route.Selection{Only: []string{v}})
		}})
	}
	if len(targets) == 0 || len(present) == 0 {
		return nobody(route.NoVariant(result.Worker, sel))
	}
	result.Replies = make([]Reply, len(targets))
	var wg sync.WaitGroup
	var telling sync.Mutex
	for i, t := range targets {
		wg.Go(func() {
			// A uid of its own for each: two variants may share one JavaScript process.
			o := c.outgoing(result, cmd, uuid.NewString(), result.UID, payload)
			result.Replies[i] = c.ask(ctx, t, &o, result)
			o.end(result.Replies[i].Result, result.Replies[i].Err)
			if opts.OnReply != nil {
				telling.Lock()
				defer telling.Unlock()
				opts.OnReply(result.Replies[i])
			}
		})
	}
	wg.Wait()
	return nil
}

// ask sends one request to one variant and waits for its response, if there is one.
func (c *core) ask(ctx context.Context, t target, o *outgoing, of *Result) (reply Reply) {
	cmd := o.cmd
	started := time.Now()
	reply = Reply{Worker: t.worker, Variant: t.variant}
	defer func() { reply.Elapsed = time.Since(started) }()
	p, l, failure := t.connect(ctx)
	if failure != nil {
		reply.Err = failure
		return reply
	}
	reply.Kind = l.peer.Kind()
	o.offered(p, l)
	request := wire.Command{UID: o.uid, Name: cmd.Name, Payload: o.payload}
	if l.meshctl() {
		meta := of.meta
		request.Meta = &meta
		if deadline, ok := ctx.Deadline(); ok {
			request.Meta.TimeoutMS = max(1, time.Until(deadline).Milliseconds())
		}
	}
	if request.Meta == nil && (of.meta.Job || of.meta.Ack && cmd.Responds || of.meta.Key != "") {
		reply.Err = &wire.Error{Code: wire.CodeBadRequest, Message: "a JavaScript node tells nothing of its queues", Hint: "leave --wait and --key away"}
		return reply
	}
	if !of.Responds && (request.Meta == nil || !request.Meta.Ack) {
		request.UID, request.Meta = "", nil
		if err := rpc.Send(l, request); err != nil {
			reply.Err = rpc.AsError(err)
		}
		return reply
	}
	result, err := p.pending.Do(ctx, l.Link, rpc.Request{Command: request, Peer: p.name, Kind: string(cmd.Delivery), Broadcast: o.broadcast, Cancels: l.meshctl()})
	if err != nil {
		reply.Err = rpc.AsError(err)
	} else if of.Responds {
		reply.Result = result
	}
	return reply
}

// CallJSON implements handler.Caller for programs that send requests of their own.
func (n *Node) CallJSON(ctx context.Context, name string, payload json.RawMessage) (json.RawMessage, error) {
	result, err := n.Call(ctx, name, payload, CallOptions{})
	if err != nil {
		return nil, err
	}
	if result.Delivery != schema.Broadcast {
		return result.Replies[0].Result, nil
	}
	type row struct {
		Worker  string          `json:"worker"`
		Variant string          `json:"variant"`
		Result  json.RawMessage `json:"result,omitempty"`
		Error   *wire.Error     `json:"error,omitempty"`
	}
	rows := make([]row, len(result.Replies))
	for i, r := range result.Replies {
		rows[i] = row{r.Worker, r.Variant, r.Result, r.Err}
	}
	return wire.Encode(rows)
}
