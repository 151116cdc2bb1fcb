package node

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"time"

	"github.com/meshctl/meshctl/internal/mesh/handler"
	"github.com/meshctl/meshctl/internal/mesh/inspect"
	"github.com/meshctl/meshctl/internal/mesh/link"
	"github.com/meshctl/meshctl/internal/mesh/rpc"
	"github.com/meshctl/meshctl/internal/mesh/schema"
	"github.com/meshctl/meshctl/internal/mesh/wire"
)

// unawaitedTimeout bounds requests whose caller does not wait and named no deadline.
const unawaitedTimeout = 10 * time.Minute

// javaScriptTimeout is how long a JavaScript caller waits.
const javaScriptTimeout = 3 * time.Second

var (
	errReplaced = errors.New("replaced by a newer link of the same peer")
	errProtocol = errors.New("protocol error")
)

// accept serves a link that another peer opened, until it ends.
func (c *core) accept(ctx context.Context, l link.Link) {
	l.Close(c.serveAccepted(ctx, l))
}

func (c *core) serveAccepted(ctx context.Context, l link.Link) (err error) {
	msg, err := l.Receive(ctx)
	for err == nil && msg.Event != wire.EventDeclare {
		msg, err = l.Receive(ctx) // whatever a stranger says before is void
	}
	if err != nil {
		return err
	}
	d, err := wire.DecodeDeclare(msg.Body)
	if err != nil {
		return c.refuse(l, rpc.AsError(err))
	}
	if e := c.refuseTransport(l); e != nil {
		return c.refuse(l, e)
	}
	who := wire.Peer{Worker: d.Worker, Variant: d.Variant, IP: l.Info().RemoteIP, Port: d.Port, Meshctl: d.Meshctl}
	if who.Variant == "" {
		who.Variant = l.Info().ID
	}
	if proven := l.Info().PeerName; proven != "" && proven != who.Name() {
		return c.refuse(l, &wire.Error{Code: wire.CodeBadRequest, Message: fmt.Sprintf("declared as %s on the link of %s", who.Name(), proven)})
	}
	if who.Worker == c.self.Worker && who.Variant == c.self.Variant {
		return c.refuse(l, &wire.Error{Code: wire.CodeDenied, Message: who.Name() + " is this node itself"})
	}
	if !c.mayConnectToUs(who) {
		return c.refuse(l, &wire.Error{Code: wire.CodeDenied, Message: fmt.Sprintf("the schema does not let %s connect to %s", who.Worker, c.self.Worker)})
	}
	claims, denied := c.admit(who)
	if denied != nil {
		return c.refuse(l, denied)
	}
	l.Trust()
	pl := newPeerLink(l, who.Public(), claims)
	if pl.meshctl() {
		// Before the link may be used: whoever dialled it waits for this, and for nothing else.
		answer := wire.Declared{Worker: who.Worker, Variant: who.Variant, ClientID: l.Info().ID, Meshctl: c.introduction()}
		if err := rpc.Event(l, wire.EventDeclared, answer); err != nil {
			return err
		}
	}
	p := c.peers.add(pl)
	c.retireBefore(p, pl)
	defer func() { c.peers.remove(p, l, err) }()
	defer c.endWithToken(pl)()
	if e := c.disallowed(pl); e != nil {
		return c.refuse(l, e) // since it was admitted
	}
	return c.serve(ctx, p, pl)
}

// introduction is what we tell a meshctl peer of ourselves.
func (c *core) introduction() *wire.Extra {
	x := c.credentials()
	x.Name = c.self.Name()
	return x
}

func (c *core) mayConnectToUs(who wire.Peer) bool {
	if who.Worker == wire.OperatorWorker {
		return true // wire.DecodeDeclare lets only meshctl peers be one
	}
	s := c.access.Load()
	return s != nil && s.MayConnect(who.Worker, c.self.Worker)
}

func (c *core) refuse(l link.Link, e *wire.Error) error {
	c.log.Warn("refused a peer", "ip", l.Info().RemoteIP, "code", e.Code, "reason", e.Message)
	_ = rpc.Event(l, wire.EventError, wire.ErrorMessage{Message: e.Message, Code: e.Code})
	return e
}

// serve reads what a declared peer sends, in order, until the link ends. It never
// waits for a handler.
func (c *core) serve(ctx context.Context, p *peer, l *peerLink) error {
	requests := c.server.Source(p.name)
	defer requests.Close()
	var inline request    // used again and again
	var held link.Batcher // while requests that came together are dealt with
	release := func() {
		if held != nil {
			held.Release()
			held = nil
		}
	}
	defer release()
	var now time.Time
	for {
		if held == nil || held.Buffered() == 0 {
			release()
			now = time.Time{}
		}
		msg, err := l.Receive(ctx)
		if err != nil {
			return err
		}
		switch msg.Event {
		case wire.EventCommand:
			if now.IsZero() {
				now = time.Now()
			}
			if held == nil && l.batch != nil {
				held = l.batch
				held.Hold()
			}
			c.command(p, l, requests, msg, now, &inline)
		case wire.EventResponse:
			r, err := msg.AsResponse()
			if err != nil {
				c.log.Warn("dropped a malformed response", "from", l.peer.Name(), "error", err)
			} else if !p.pending.Settle(r) {
				c.log.Debug("dropped a late response", "from", l.peer.Name(), "uid", r.UID)
			}
		case wire.EventCancel:
			if msg.Number != 0 {
				requests.Cancel(msg.Number, "")
			} else if cancel, err := wire.DecodeCancel(msg.Body); err == nil {
				requests.Cancel(0, cancel.UID)
			}
		case wire.EventRetire:
			l.rest()
		case wire.EventDrain:
			c.log.Info("a peer is draining", "peer", l.peer.Name())
			c.peers.drain(p)
		case wire.EventDeclare:
			// JavaScript peers declare again whenever their socket comes back; who
			// they are cannot change on a link.
			if d, err := wire.DecodeDeclare(msg.Body); err != nil || d.Worker != p.worker || (d.Variant != "" && d.Variant != p.variant) {
				return fmt.Errorf("%w: %s declared itself as somebody else", errProtocol, l.peer.Name())
			}
		case wire.EventDeclared:
			if d, err := wire.DecodeDeclared(msg.Body); err == nil && d.Meshctl != nil && !l.meshctl() {
				if e := misnamed(d.Meshctl, l.peer); e != nil {
					return e
				}
				late := l.peer
				late.Meshctl = d.Meshctl
				claims, denied := c.admit(late)
				if denied != nil {
					return denied
				}
				l = c.peers.upgrade(p, l, d.Meshctl, claims)
				defer c.endWithToken(l)()
			}
		case wire.EventError:
			if e, err := wire.DecodeErrorMessage(msg.Body); err == nil {
				return &wire.Error{Code: e.Code, Message: e.Message}
			}
		}
	}
}

// request is a request of a peer, from its arrival to its response.
type request struct {
	running  rpc.Running
	core     *core
	peer     *peer
	link     *peerLink
	cmd      wire.Command
	arrival  arrival
	in       handler.Request
	handler  handler.Handler
	room     *room // that it takes, until it is answered
	response wire.Response
}

// command checks a request and has it answered. now is when it came. inline is what
// requests are made in that are answered before command returns.
func (c *core) command(p *peer, l *peerLink, from *rpc.Source, msg wire.Message, now time.Time, inline *request) {
	cmd, err := msg.AsCommand(func(name string) bool { return c.ownCommand(name) != nil })
	if err != nil {
		c.log.Warn("refused a malformed request", "from", l.peer.Name(), "error", err)
		if cmd.UID != "" && l.meshctl() {
			_ = l.Send(wire.ResponseMessage(wire.Response{UID: cmd.UID, Err: rpc.AsError(err)}))
		}
		return
	}
	if cmd.Name == wire.ControlQueue && c.queues != nil {
		c.controlQueue(&request{core: c, peer: p, link: l, cmd: cmd}, from, now)
		return
	}
	own := c.verdict(p, cmd.Name)
	r := inline
	if !own.inline {
		r = new(request)
	}
	*r = request{core: c, peer: p, link: l, cmd: cmd}
	r.arrival = c.telemetry.arrived(p, l, cmd, own, now)
	switch {
	case own.denied != nil:
		r.Reply(nil, own.denied)
		return
	case c.leaving.Load() && l.meshctl() && cmd.UID != "": // else nobody would send it elsewhere
		r.Reply(nil, &wire.Error{Code: wire.CodeNoVariant, Message: c.self.Name() + " is draining", Temporary: true})
		return
	case own.room != nil:
		if full := own.room.enter(); full != nil {
			r.Reply(nil, full)
			return
		}
		r.room = own.room
	}
	r.handler = own.handler
	r.in = handler.Request{
		UID: cmd.UID, Worker: c.self.Worker, Variant: c.self.Variant, Command: cmd.Name,
		Caller: p.name, Payload: cmd.Payload, Deadline: now.Add(c.timeLeft(cmd)),
	}
	incoming := rpc.Incoming{
		From: from, UID: cmd.UID, Number: cmd.Number, Command: cmd.Name, Kind: string(own.command.Delivery),
		Bytes: len(cmd.Payload), Started: now, Deadline: r.in.Deadline,
	}
	switch {
	case own.command.Queued:
		c.queues.put(incoming, &r.in, cmd.Meta, r.Reply)
	case own.inline:
		c.server.Inline(&r.running, incoming, r)
	default:
		c.server.Go(&r.running, incoming, r)
	}
}

// Handle implements rpc.Job.
func (r *request) Handle(ctx context.Context) (json.RawMessage, error) {
	return answer(ctx, r.handler, &r.in)
}

// answer has a request answered by its handler.
func (c *core) answer(ctx context.Context, r *handler.Request) (json.RawMessage, error) {
	return answer(ctx, c.handler(r.Command), r)
}

func answer(ctx context.Context, h handler.Handler, r *handler.Request) (json.RawMessage, error) {
	if ctx.Err() != nil {
		return nil, rpc.ContextError(ctx) // it expired before its turn came
	}
	if h == nil {
		return nil, &wire.Error{Code: wire.CodeUnknownCommand, Message: fmt.Sprintf("nothing answers %s.%s on this node", r.Worker, r.Command), Hint: "give the command a method in the node's schema file"}
	}
	return h.Handle(ctx, r)
}

// verdicts are on what a peer may call, under one schema.
type verdicts struct {
	schema    *schema.Schema
	byCommand map[string]verdict
}

// verdict says whether a peer may call one of our commands, and what answers it.
type verdict struct {
	command *schema.Command
	handler handler.Handler
	inline  bool
	room    *room // nil: it has no bound of its own
	denied  *wire.Error
	meter   *inspect.CommandMeter // counts the command; nil for operators
}

func (c *core) verdict(p *peer, name string) verdict {
	known, now := p.verdicts.Load(), c.access.Load()
	if known != nil && known.schema == now {
		if v, ok := known.byCommand[name]; ok {
			return v
		}
	}
	v := c.judge(p, name)
	if v.command == nil {
		return v // of those there is no end
	}
	next := &verdicts{schema: now, byCommand: map[string]verdict{name: v}}
	if known != nil && known.schema == now {
		maps.Copy(next.byCommand, known.byCommand)
	}
	if c.access.Load() == now {
		p.verdicts.CompareAndSwap(known, next)
	}
	return v
}

func (c *core) judge(p *peer, name string) verdict {
	v := verdict{command: c.ownCommand(name)}
	switch {
	case !c.mayCallUs(p.worker):
		v.denied = &wire.Error{Code: wire.CodeDenied, Message: fmt.Sprintf("the schema does not let %s call %s", p.worker, c.self.Worker)}
	case v.command == nil:
		v.denied = &wire.Error{Code: wire.CodeUnknownCommand, Message: fmt.Sprintf("%s has no command %s", c.self.Worker, name)}
	case !c.mayCallCommand(p.worker, name):
		v.denied = &wire.Error{Code: wire.CodeDenied, Message: fmt.Sprintf("%s is not among the callers of %s.%s", p.worker, c.self.Worker, name)}
	}
	if v.command != nil {
		v.room = c.rooms[name]
		v.handler = c.handler(name)
		quick, ok := v.handler.(handler.Inliner)
		v.inline = ok && quick.Inline() && !v.command.Queued // a queued one is answered later
		v.meter = c.telemetry.answering(name)
	}
	return v
}

// timeLeft is how long the answer to cmd may take.
func (c *core) timeLeft(cmd wire.Command) time.Duration {
	if cmd.UID == "" || cmd.Meta != nil && cmd.Meta.Ack {
		return unawaitedTimeout
	}
	if d := cmd.Meta.Timeout(); d > 0 {
		return d
	}
	return javaScriptTimeout
}

// Reply sends the response, if anybody waits for it. A JavaScript caller cannot be
// told of a failure: it gets no response and times out, rather than a false success.
func (r *request) Reply(result json.RawMessage, failure *wire.Error) {
	if r.room != nil {
		r.room.flight.Add(-1)
	}
	r.arrival.end(r.peer, r.cmd, result, failure)
	r.send(result, failure)
}

func (r *request) send(result json.RawMessage, failure *wire.Error) {
	c, l := r.core, r.link
	if failure != nil {
		ctx := context.Background()
		if r.arrival.t != nil {
			ctx = inspect.Untold(ctx) // the row of the failure tells it, its caller's or ours
		}
		c.log.WarnContext(ctx, "a request failed", "command", r.cmd.Name, "from", l.peer.Name(), "uid", r.cmd.UID, "code", failure.Code, "error", failure.Message)
	}
	if r.cmd.UID == "" || failure != nil && !l.meshctl() {
		return
	}
	r.response = wire.Response{UID: r.cmd.UID, Number: r.cmd.Number, Name: r.cmd.Name, Result: result, Err: failure}
	err := l.Send(wire.Message{Event: wire.EventResponse, Response: &r.response})
	switch {
	case err == nil || errors.Is(err, link.ErrClosed):
	case failure == nil && errors.Is(err, link.ErrFull): // for so little there is room: else the caller would wait in vain
		r.send(nil, &wire.Error{Code: wire.CodeOverloaded, Message: "the command ran, and its result cannot be sent: too much is waiting to be sent to the caller", Hint: "ask for less at once"})
	case failure == nil:
		r.send(nil, &wire.Error{Code: wire.CodeHandlerError, Message: fmt.Sprintf("the result cannot be sent: %v", err)})
	default:
		c.log.Warn("cannot send a response", "to", l.peer.Name(), "command", r.cmd.Name, "error", err)
	}
}

// mayCallUs tells whether a linked peer may send us requests.
func (c *core) mayCallUs(worker string) bool {
	if worker == wire.OperatorWorker {
		return true
	}
	s := c.access.Load()
	return s != nil && s.MayCall(worker, c.self.Worker)
}

func (c *core) ownCommand(name string) *schema.Command {
	if c.own == nil {
		return nil
	}
	return c.own.Commands[name]
}

func (c *core) handler(command string) handler.Handler {
	if h := c.cfg.Handlers[command]; h != nil {
		return h
	}
	if c.handlers != nil {
		if h, ok := c.handlers.Handler(command); ok {
			return h
		}
	}
	return nil
}
