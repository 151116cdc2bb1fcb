package node

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/meshctl/meshctl/internal/mesh/link"
	"github.com/meshctl/meshctl/internal/mesh/rpc"
	"github.com/meshctl/meshctl/internal/mesh/seal"
	"github.com/meshctl/meshctl/internal/mesh/wire"
	"github.com/meshctl/meshctl/internal/pause"
)

// declareTimeout is how long a master may take to accept a declare. A JavaScript
// master pays a key derivation for each message.
const declareTimeout = 10 * time.Second

// staleAfter is how long a node that the master no longer names is still dialled: a
// master that restarted needs a while until everybody has come back to it.
const staleAfter = 30 * time.Second

// toldAfter is the same of a master that knows the whole mesh at once.
const toldAfter = 2 * time.Second

// uplink keeps a node declared at its master until ctx ends. It returns nil then, or
// the error after which trying again makes no sense.
func (n *Node) uplink(ctx context.Context) error {
	wait := newBackoff()
	for ctx.Err() == nil {
		err := n.attend(ctx, wait.Reset)
		if n.leaving.Load() {
			<-ctx.Done() // we do not come back to a master that we left
		}
		if ctx.Err() != nil {
			return nil
		}
		if wire.CodeOf(err) == wire.CodeReplaced {
			return fmt.Errorf("%w; give each running copy a --variant of its own", err)
		}
		pauseFor := wait.NextBackOff()
		attrs := []any{"error", err, "retry_in", pauseFor.Round(time.Millisecond)}
		if h := hint(err); h != "" {
			attrs = append(attrs, "hint", h)
		}
		n.log.Warn("not connected to the master", attrs...)
		pause.For(ctx, pauseFor)
	}
	return nil
}

func hint(err error) string {
	var e *wire.Error
	if errors.As(err, &e) {
		return e.Hint
	}
	return ""
}

// attend connects to the master once, and serves the link until it ends.
func (n *Node) attend(ctx context.Context, accepted func()) error {
	l, err := n.dialMaster(ctx)
	if err != nil {
		return err
	}
	n.master.link.Store(&l)
	l, err = n.converse(ctx, l, accepted)
	n.master.link.Store(nil)
	n.declared.Store(false)
	l.Close(err)
	n.master.pending.LinkLost(l)
	return err
}

// converse declares the node and follows what the master says, until the link ends. It
// gives the link that it ended with: another one, where the key changed.
func (n *Node) converse(ctx context.Context, l link.Link, accepted func()) (link.Link, error) {
	d, err := n.declareAt(ctx, l, n.declaration())
	if err != nil {
		return l, err
	}
	accepted()
	n.accepted(ctx, d)
	return n.stay(ctx, l)
}

// declaration is what the node tells a master of itself, each time anew.
func (n *Node) declaration() wire.Declare {
	x := n.credentials()
	x.Attach = n.attaches.Add(1)
	return wire.Declare{Worker: n.self.Worker, Variant: n.self.Variant, Port: n.self.Port, Hostname: n.cfg.Advertise, Meshctl: x}
}

// accepted notes that a master, perhaps another than before, took us in.
func (n *Node) accepted(ctx context.Context, d wire.Declared) {
	n.masterMeshctl.Store(d.Meshctl != nil)
	if d.Meshctl != nil {
		n.takeDenied(d.Meshctl.Denied)
		n.takeSchema(d.Meshctl.Schema)
		n.enforce()
		n.compareKeys(d.Meshctl.Keys)
	}
	epoch := n.dialers.nextEpoch()
	stale := staleAfter
	if d.Meshctl != nil && d.Meshctl.Whole {
		stale = toldAfter
	}
	time.AfterFunc(stale, func() {
		if ctx.Err() == nil && n.declared.Load() {
			n.dialers.forget(epoch)
		}
	})
	n.log.Info("declared at the master", "worker", d.Worker, "variant", d.Variant, "ip", d.IP, "port", d.Port)
	n.declared.Store(true)
	n.once.Do(func() { close(n.connected) })
	n.peers.hook(n.cfg.Hooks.OnConnected, wire.Peer{Worker: d.Worker, Variant: d.Variant, IP: d.IP, Port: d.Port, Meshctl: n.self.Meshctl})
}

// dialMaster finds the master and connects to it.
func (c *core) dialMaster(ctx context.Context) (link.Link, error) {
	addr, err := c.masterAddress(ctx)
	if err != nil {
		return nil, err
	}
	c.master.addr.Store(&addr)
	l, err := c.dialMasterAt(ctx, addr)
	switch {
	case isMismatch(err):
		return nil, keyMismatch("the master at " + addr + " has another private key: it accepts none of this end's, " + strings.Join(c.ring.Fingerprints(), ", "))
	case wire.CodeOf(err) == wire.CodeDenied:
		return nil, err
	case err != nil:
		return nil, &wire.Error{
			Code: wire.CodeUnreachable, Temporary: true, Message: fmt.Sprintf("connect to the master at %s: %v", addr, err),
			Hint: hintOf(err, "check that it runs and that --master names it"),
		}
	}
	return l, nil
}

// declareAt declares us at a master and waits until it accepts.
func (c *core) declareAt(ctx context.Context, l link.Link, d wire.Declare) (wire.Declared, error) {
	if err := rpc.Event(l, wire.EventDeclare, d); err != nil {
		return wire.Declared{}, err
	}
	ctx, cancel := context.WithTimeout(ctx, declareTimeout)
	defer cancel()
	for {
		msg, err := l.Receive(ctx)
		switch {
		case errors.Is(err, seal.ErrKeyMismatch), wire.CodeOf(err) == wire.CodeKeyMismatch:
			return wire.Declared{}, keyMismatch("the master has another private key")
		case wire.CodeOf(err) != "":
			return wire.Declared{}, err
		case errors.Is(err, link.ErrClosed):
			return wire.Declared{}, keyMismatch("the master closed the connection instead of accepting; its keys are probably others")
		case err != nil:
			return wire.Declared{}, &wire.Error{Code: wire.CodeUnreachable, Temporary: true, Message: fmt.Sprintf("the master does not answer: %v", err)}
		}
		switch msg.Event {
		case wire.EventDeclared:
			l.Trust()
			d, err := wire.DecodeDeclared(msg.Body)
			if err == nil {
				err = c.checkDowngrade(l, d.Meshctl)
			}
			return d, err
		case wire.EventError:
			l.Trust() // it has our keys
			e, err := wire.DecodeErrorMessage(msg.Body)
			if err != nil {
				return wire.Declared{}, err
			}
			if e.Code == "" {
				return wire.Declared{}, &javaScriptRefusal{masterError(e)}
			}
			return wire.Declared{}, masterError(e)
		}
	}
}

// javaScriptRefusal is an error that a JavaScript master gives: without a code.
type javaScriptRefusal struct{ err *wire.Error }

func (e *javaScriptRefusal) Error() string { return e.err.Error() }
func (e *javaScriptRefusal) Unwrap() error { return e.err }

func masterError(e wire.ErrorMessage) *wire.Error {
	if e.Code == "" {
		e.Code = wire.CodeDenied
	}
	hint := "compare its schema with yours (`meshctl schema show`); where it is about a token, see `meshctl token show`"
	if e.Code == wire.CodeReplaced {
		hint = "another instance runs as this variant; give each its own --variant"
	}
	return &wire.Error{Code: e.Code, Message: "the master refuses: " + e.Message, Hint: hint}
}

// heed follows what the master says until the link ends.
func (n *Node) heed(ctx context.Context, l link.Link) error {
	reports := reporting{t: n.telemetry, link: l}
	defer reports.stop()
	for {
		msg, err := l.Receive(ctx)
		if err != nil {
			return err
		}
		switch msg.Event {
		case wire.EventAddNode:
			peers, skipped, err := wire.DecodePeers(msg.Body)
			if err != nil || skipped > 0 {
				n.log.Warn("the master named nodes that make no sense", "skipped", skipped, "error", err)
			}
			for _, p := range peers {
				n.dialers.add(n.work, p)
			}
		case wire.EventRemoveNode:
			if p, err := wire.DecodePeer(msg.Body); err == nil {
				n.dialers.remove(p.Worker, p.Variant)
			}
		case wire.EventResponse:
			if r, err := msg.AsResponse(); err == nil {
				n.master.pending.Settle(r)
			}
		case wire.EventCommand:
			n.obey(l, msg)
		case wire.EventSchema:
			if u, err := wire.DecodeSchemaUpdate(msg.Body); err == nil && n.takeSchema(u.Schema) {
				n.log.Info("the master's schema changed", "revision", u.Revision)
				n.enforce()
			}
		case wire.EventObserve:
			if o, err := wire.DecodeObserve(msg.Body); err == nil {
				reports.observe(ctx, o)
			}
		case wire.EventWithdraw:
			if w, err := wire.DecodeCancel(msg.Body); err == nil {
				n.withdraw(w.UID)
			}
		case wire.EventDenied:
			if l, err := wire.DecodeDenyList(msg.Body); err == nil {
				n.takeDenied(l.Entries)
				n.log.Info("the master's deny list changed", "entries", len(l.Entries))
				n.enforce()
			}
		case wire.EventError:
			if e, err := wire.DecodeErrorMessage(msg.Body); err == nil {
				return masterError(e)
			}
		}
	}
}

// enforce closes the links that the schema and the deny list in force do not allow.
func (n *Node) enforce() {
	s := n.access.Load()
	if n.tokensRequired() && !n.gate.Checks() {
		n.log.Error("tokens are required, and this node cannot check any: it refuses everybody", "hint", "give it the issuer's public key with --token-issuer FILE")
	}
	for _, l := range n.peers.links() {
		if n.enforceIdentity(l) {
			continue
		}
		from, to := l.peer.Worker, n.self.Worker
		if l.Info().Dialed {
			from, to = to, from
		}
		if l.peer.Worker != wire.OperatorWorker && !s.MayConnect(from, to) {
			n.log.Info("closing a link that the schema no longer allows", "peer", l.peer.Name())
			if l.Info().Dialed {
				n.dialers.remove(l.peer.Worker, l.peer.Variant)
			}
			go l.Close(errDisallowed)
		}
	}
}

var errDisallowed = errors.New("the schema no longer allows this link")
