package node

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/meshctl/meshctl/internal/mesh/handler"
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
	pl := &peerLink{Link: l, peer: who.Public(), claims: claims}
	p := c.peers.add(pl)
	defer func() { c.peers.remove(p, l, err) }()
	defer c.endWithToken(pl)()
	if e := c.disallowed(pl); e != nil {
		return c.refuse(l, e) // since it was admitted
	}
	if pl.meshctl() {
		answer := wire.Declared{Worker: who.Worker, Variant: who.Variant, ClientID: l.Info().ID, Meshctl: c.introduction()}
		if err := rpc.Event(l, wire.EventDeclared, answer); err != nil {
			return err
		}
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
	for {
		msg, err := l.Receive(ctx)
		if err != nil {
			return err
		}
		switch msg.Event {
		case wire.EventCommand:
			c.command(p, l, msg)
		case wire.EventResponse:
			r, err := msg.AsResponse()
			if err != nil {
				c.log.Warn("dropped a malformed response", "from", l.peer.Name(), "error", err)
			} else if !p.pending.Settle(r) {
				c.log.Debug("dropped a late response", "from", l.peer.Name(), "uid", r.UID)
			}
		case wire.EventCancel:
			if cancel, err := wire.DecodeCancel(msg.Body); err == nil {
				c.server.Cancel(p, cancel.UID)
			}
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

// command checks a request and has it answered.
func (c *core) command(p *peer, l *peerLink, msg wire.Message) {
	cmd, err := msg.AsCommand(func(name string) bool { return c.ownCommand(name) != nil })
	if err != nil {
		c.log.Warn("refused a malformed request", "from", l.peer.Name(), "error", err)
		if cmd.UID != "" && l.meshctl() {
			_ = l.Send(wire.ResponseMessage(wire.Response{UID: cmd.UID, Err: rpc.AsError(err)}))
		}
		return
	}
	own, now := c.ownCommand(cmd.Name), time.Now()
	arrival := c.telemetry.arrived(p, l, cmd, own, now)
	reply := func(result json.RawMessage, failure *wire.Error) {
		arrival.end(p, cmd, result, failure)
		c.reply(l, cmd, result, failure)
	}
	switch {
	case !c.mayCallUs(p.worker):
		reply(nil, &wire.Error{Code: wire.CodeDenied, Message: fmt.Sprintf("the schema does not let %s call %s", p.worker, c.self.Worker)})
		return
	case own == nil:
		reply(nil, &wire.Error{Code: wire.CodeUnknownCommand, Message: fmt.Sprintf("%s has no command %s", c.self.Worker, cmd.Name)})
		return
	case !c.mayCallCommand(p.worker, cmd.Name):
		reply(nil, &wire.Error{Code: wire.CodeDenied, Message: fmt.Sprintf("%s is not among the callers of %s.%s", p.worker, c.self.Worker, cmd.Name)})
		return
	case c.leaving.Load() && l.meshctl():
		reply(nil, &wire.Error{Code: wire.CodeNoVariant, Message: c.self.Name() + " is draining", Temporary: true})
		return
	}
	r := &handler.Request{
		UID: cmd.UID, Worker: c.self.Worker, Variant: c.self.Variant, Command: cmd.Name,
		Caller: p.name, Payload: cmd.Payload, Deadline: now.Add(c.timeLeft(cmd)),
	}
	incoming := rpc.Incoming{
		From: p, UID: cmd.UID, Command: cmd.Name, Peer: p.name, Kind: string(own.Delivery),
		Bytes: len(cmd.Payload), Deadline: r.Deadline,
	}
	if own.Queued {
		c.queues.put(incoming, r, cmd.Meta, reply)
		return
	}
	c.server.Go(c.work, incoming, func(ctx context.Context) (json.RawMessage, error) { return c.answer(ctx, r) }, reply)
}

func (c *core) answer(ctx context.Context, r *handler.Request) (json.RawMessage, error) {
	if ctx.Err() != nil {
		return nil, rpc.ContextError(ctx) // it expired before its turn came
	}
	h := c.handler(r.Command)
	if h == nil {
		return nil, &wire.Error{Code: wire.CodeUnknownCommand, Message: fmt.Sprintf("nothing answers %s.%s on this node", r.Worker, r.Command), Hint: "give the command a method in the node's schema file"}
	}
	return h.Handle(ctx, r)
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

// reply sends the response, if anybody waits for it. A JavaScript caller cannot be
// told of a failure: it gets no response and times out, rather than a false success.
func (c *core) reply(l *peerLink, cmd wire.Command, result json.RawMessage, failure *wire.Error) {
	if failure != nil {
		c.log.Warn("a request failed", "command", cmd.Name, "from", l.peer.Name(), "uid", cmd.UID, "code", failure.Code, "error", failure.Message)
	}
	if cmd.UID == "" || failure != nil && !l.meshctl() {
		return
	}
	err := l.Send(wire.ResponseMessage(wire.Response{UID: cmd.UID, Name: cmd.Name, Result: result, Err: failure}))
	switch {
	case err == nil || errors.Is(err, link.ErrClosed):
	case failure == nil && !errors.Is(err, link.ErrFull):
		c.reply(l, cmd, nil, &wire.Error{Code: wire.CodeHandlerError, Message: fmt.Sprintf("the result cannot be sent: %v", err)})
	default:
		c.log.Warn("cannot send a response", "to", l.peer.Name(), "command", cmd.Name, "error", err)
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
