package node

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"iter"
	"math/rand/v2"
	"time"

	"github.com/google/uuid"

	"github.com/meshctl/meshctl/internal/mesh/inspect"
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

	one [1]Reply // Replies of a balanced command
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
	// all yields each selected variant once.
	all(ctx context.Context, worker string, sel route.Selection) ([]target, *wire.Error)
}

// reachInTurn is of those who have no ring of links.
type reachInTurn interface {
	reach
	// inTurn yields links one after another for a balanced command; a caller that
	// could not use one goes on to the next.
	inTurn(ctx context.Context, a *asking, sel route.Selection) iter.Seq2[target, *wire.Error]
}

// target is one variant to send to.
type target struct {
	worker, variant string
	// peer is where a link is expected to be; where it is nil, connect opens one, or says
	// why it cannot.
	peer    *peer
	connect func(ctx context.Context) (*peer, *peerLink, *wire.Error)
}

// asking is a call that is under way.
type asking struct {
	cmd      *schema.Command
	payload  json.RawMessage
	opts     CallOptions
	started  time.Time
	deadline time.Time // zero: that of the context
	result   *Result
	responds bool             // a result is waited for
	meta     wire.CommandMeta // that the command is sent with
	meter    *inspect.CommandMeter
	again    repetition
}

// call is what Node.Call and Operator.Call share.
func (c *core) call(ctx context.Context, name string, payload json.RawMessage, opts CallOptions, r reach) (*Result, error) {
	to, err := c.resolve(name)
	if err != nil {
		c.telemetry.refused(name, err)
		return nil, err
	}
	sel := route.Selection{Only: opts.Only, Exclude: opts.Exclude}
	if err := sel.Check(); err != nil {
		return nil, err
	}
	cmd := to.cmd
	meta, failure := opts.jobMeta(cmd)
	if failure != nil {
		return nil, failure
	}
	responds := opts.Wait == WaitDone || opts.Wait == "" && cmd.Responds
	stores := sel.IsZero() && c.outbox.takes(cmd, meta)
	if !responds || stores {
		// Nobody would tell: whoever receives it can only drop it, or no link looks at it.
		if err := (&wire.Command{Name: cmd.Name, Payload: payload}).Check(); err != nil {
			return nil, err
		}
	}
	if err := ctx.Err(); err != nil {
		return nil, rpc.ContextError(ctx)
	}
	started := time.Now()
	result := &Result{Target: name, Worker: to.worker, Command: cmd.Name, Delivery: cmd.Delivery, Responds: responds, UID: drawUID()}
	a := asking{cmd: cmd, payload: payload, opts: opts, started: started, deadline: c.deadline(ctx, opts.Timeout, started), result: result, responds: responds, meta: meta, meter: to.meter}
	if to.budget != nil {
		a.again.budget = to.budget
		to.budget.Called()
	}
	switch {
	case stores:
		err = c.viaRedis(ctx, &a)
	case cmd.Delivery == schema.Broadcast:
		err = c.broadcast(ctx, &a, sel, r)
	case to.ring != nil:
		err = c.oneOf(ctx, &a, to.ring, sel)
	default:
		err = c.balanced(ctx, &a, sel, r.(reachInTurn))
	}
	if len(result.Replies) == 1 {
		result.Elapsed = result.Replies[0].Elapsed // the last that was measured
	} else {
		result.Elapsed = time.Since(started)
	}
	return result, err
}

// deadline is when a call ends, zero if that is for ctx to say.
func (c *core) deadline(ctx context.Context, timeout time.Duration, started time.Time) time.Time {
	if timeout > 0 {
		return started.Add(timeout)
	}
	if _, has := ctx.Deadline(); has {
		return time.Time{}
	}
	return started.Add(c.cfg.Timeout)
}

// over tells whether there is no time left.
func (a *asking) over(ctx context.Context) bool {
	return ctx.Err() != nil || !a.deadline.IsZero() && !time.Now().Before(a.deadline)
}

// oneOf asks the variants of a ring one after another until one takes the request.
func (c *core) oneOf(ctx context.Context, a *asking, ring *route.Ring[*peer], sel route.Selection) error {
	o := c.outgoing(a, a.result.UID, "")
	for {
		last := c.tryAll(ctx, a, &o, ring, sel)
		if a.result.Replies != nil {
			return orNil(last)
		}
		if last == nil {
			last = route.NoVariant(a.result.Worker, sel)
		}
		if !c.repeat(ctx, a, last) {
			return c.nobodyTook(a, &o, last)
		}
	}
}

// nobodyTook ends a request that went to nobody, the last time that it was tried.
func (c *core) nobodyTook(a *asking, o *outgoing, last *wire.Error) *wire.Error {
	if a.again.lost != nil {
		last = a.again.lost // it may have run
	}
	o.end(nil, last, time.Since(a.started))
	return last
}

// tryAll asks each variant once. One that failed of late is better than nobody.
func (c *core) tryAll(ctx context.Context, a *asking, o *outgoing, ring *route.Ring[*peer], sel route.Selection) (last *wire.Error) {
	all, first := a.line(ring, sel)
	var passed []*peer // over
	for i := range all {
		p := all[(first+i)%len(all)]
		if skipped(p) {
			passed = append(passed, p)
			continue
		}
		if last = c.try(ctx, a, o, targetOf(p)); a.result.Replies != nil {
			return last
		}
	}
	for _, p := range passed {
		if last = c.try(ctx, a, o, targetOf(p)); a.result.Replies != nil {
			return last
		}
	}
	return last
}

// orNil keeps a nil *wire.Error from becoming an error.
func orNil(e *wire.Error) error {
	if e == nil {
		return nil
	}
	return e
}

// balanced is oneOf for those who have no ring.
func (c *core) balanced(ctx context.Context, a *asking, sel route.Selection, r reachInTurn) error {
	o := c.outgoing(a, a.result.UID, "")
	for {
		var last *wire.Error
		for t, failure := range r.inTurn(ctx, a, sel) {
			if failure != nil {
				last = failure
				continue
			}
			if last = c.try(ctx, a, &o, t); a.result.Replies != nil {
				return orNil(last)
			}
		}
		if last == nil {
			last = route.NoVariant(a.result.Worker, sel)
		}
		if !c.repeat(ctx, a, last) {
			return c.nobodyTook(a, &o, last)
		}
	}
}

// try asks one variant. It gives the result a reply unless the next variant may take the
// request: because it did not run, or because it may run twice.
func (c *core) try(ctx context.Context, a *asking, o *outgoing, t target) *wire.Error {
	reply := &a.result.one[0]
	*reply = Reply{}
	c.ask(ctx, a, o, t, reply)
	if e := reply.Err; e != nil && !a.over(ctx) && (e.Temporary || a.repeatsElsewhere(e)) {
		return e
	}
	o.end(reply.Result, reply.Err, reply.Elapsed)
	a.result.Replies = a.result.one[:]
	if a.opts.OnReply != nil {
		a.opts.OnReply(*reply)
	}
	return reply.Err
}

// ask sends the request to one variant and waits for its response, if there is one.
func (c *core) ask(ctx context.Context, a *asking, o *outgoing, t target, reply *Reply) {
	p, l, request, waits := c.address(ctx, a, o, t, reply)
	if waits {
		request.Kind = string(schema.Balanced)
		result, err := p.pending.Do(ctx, l.Link, request)
		a.take(reply, result, err)
		c.note(p, reply.Err)
	}
	reply.Elapsed = time.Since(a.started)
}

// address finds the link to a variant and makes the request to it. Where nobody waits for a
// response the request is sent at once, and waits is false, as it is when there is no link.
func (c *core) address(ctx context.Context, a *asking, o *outgoing, t target, reply *Reply) (p *peer, l *peerLink, request rpc.Request, waits bool) {
	reply.Worker, reply.Variant = t.worker, t.variant
	if p = t.peer; p != nil {
		l = c.peers.best(p)
		if l == nil {
			reply.Err = &wire.Error{Code: wire.CodePeerLost, Message: "the connection is closed", Temporary: true}
		}
	} else {
		p, l, reply.Err = t.connect(ctx)
	}
	if reply.Err != nil {
		return nil, nil, request, false
	}
	reply.Kind = l.peer.Kind()
	o.offered(p, l)
	if !l.meshctl() && (a.meta.Job || a.meta.Ack && a.cmd.Responds || a.meta.Key != "") {
		reply.Err = &wire.Error{Code: wire.CodeBadRequest, Message: "a JavaScript node tells nothing of its queues", Hint: "leave --wait and --key away"}
		return nil, nil, request, false
	}
	if !a.responds && !(l.meshctl() && a.meta.Ack) {
		if err := rpc.Send(l, wire.Command{Name: a.cmd.Name, Payload: a.payload}); err != nil {
			reply.Err = rpc.AsError(err)
		}
		return p, l, request, false
	}
	return p, l, rpc.Request{
		UID: o.uid, Name: a.cmd.Name, Payload: a.payload, Started: a.started, Deadline: a.deadline,
		Meshctl: l.meshctl(), Meta: a.meta, Peer: p.name,
	}, true
}

// take notes what came of a request.
func (a *asking) take(reply *Reply, result json.RawMessage, err error) {
	if err != nil {
		reply.Err = rpc.AsError(err)
	} else if a.responds {
		reply.Result = result
	}
}

// drawUID draws the uid of a request, a random UUID. It is no secret: only the peer that is
// asked can answer.
func drawUID() string {
	var id uuid.UUID
	binary.NativeEndian.PutUint64(id[:8], rand.Uint64())
	binary.NativeEndian.PutUint64(id[8:], rand.Uint64())
	id[6] = id[6]&0x0f | 0x40 // version 4
	id[8] = id[8]&0x3f | 0x80 // RFC 9562
	return id.String()
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
