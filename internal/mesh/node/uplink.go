package node

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/cenkalti/backoff/v5"

	"github.com/meshctl/meshctl/internal/mesh/link"
	"github.com/meshctl/meshctl/internal/mesh/link/native"
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

const (
	// settled is how long a link to a master has to last for its end to be no failure to
	// come in: then the next master, if there are several, is tried at once.
	settled = time.Second
	// sameComplaint is what lies at least between two equal lines about masters in the log.
	sameComplaint = 5 * time.Second
)

// uplink keeps a node declared at a master until ctx ends. It returns nil then, or the
// error after which trying again makes no sense.
func (n *Node) uplink(ctx context.Context) error {
	wait := newBackoff()
	for ctx.Err() == nil {
		l, err := n.enter(ctx, wait)
		if err != nil || l == nil {
			return err
		}
		began := time.Now()
		l, err = n.stay(ctx, l)
		n.lost(l, err)
		if n.leaving.Load() {
			<-ctx.Done() // we do not come back to a master that we left
		}
		switch {
		case ctx.Err() != nil:
			return nil
		case wire.CodeOf(err) == wire.CodeReplaced:
			return replaced(err)
		case time.Since(began) >= settled && n.masters.others():
			wait.Reset()
			n.log.Warn("lost the master; going to another", "master", n.master.at.Load().String(), "error", err)
		default:
			if time.Since(began) >= settled {
				wait.Reset()
			}
			pauseFor := nextPause(wait, maxUplinkPause)
			n.complain(err, pauseFor)
			pause.For(ctx, pauseFor)
		}
	}
	return nil
}

func replaced(err error) error {
	return fmt.Errorf("%w; give each running copy a --variant of its own", err)
}

// enter looks for a master, round after round, until one has taken the node in. It gives
// no link and no error when ctx ended, and an error when no master will.
func (n *Node) enter(ctx context.Context, wait *backoff.ExponentialBackOff) (l link.Link, err error) {
	s := n.search(ctx)
	defer s.end()
	var said string
	var saidAt time.Time
	for ctx.Err() == nil {
		began := time.Now()
		err := s.round(ctx, false, func(to contact) error {
			l = to.link
			return n.declareTo(ctx, to)
		})
		if err == nil {
			return l, nil
		}
		if n.leaving.Load() {
			<-ctx.Done()
		}
		if ctx.Err() != nil {
			break
		}
		if wire.CodeOf(err) == wire.CodeReplaced {
			return nil, replaced(err)
		}
		var pauseFor time.Duration
		if s.absent() { // then rounds are that far apart, however long they take
			pauseFor = max(0, nextPause(wait, maxUplinkPause)-time.Since(began))
		} else {
			pauseFor = nextPause(wait, maxPause)
		}
		if text := err.Error(); text != said || time.Since(saidAt) >= sameComplaint {
			said, saidAt = text, time.Now()
			n.complain(err, pauseFor)
		}
		s.pause(ctx, pauseFor)
	}
	return nil, nil
}

// nextPause is what lies between two rounds. Where a master is away it is short, as one that
// comes back is to have everybody back soon. Those that have too much to do are spared, and
// whoever is refused has to be helped first.
func nextPause(wait *backoff.ExponentialBackOff, longest time.Duration) time.Duration {
	if longest < wait.MaxInterval {
		wait.Reset()
	}
	wait.MaxInterval = longest
	return wait.NextBackOff()
}

// complain says once why the node has no master.
func (n *Node) complain(err error, retryIn time.Duration) {
	attrs := []any{"error", err, "retry_in", retryIn.Round(time.Millisecond)}
	if h := hint(err); h != "" {
		attrs = append(attrs, "hint", h)
	}
	n.log.Warn("not connected to the master", attrs...)
}

func hint(err error) string {
	var e *wire.Error
	if errors.As(err, &e) {
		return e.Hint
	}
	return ""
}

// declareTo declares the node over a new connection to a master.
func (n *Node) declareTo(ctx context.Context, to contact) error {
	if n.leaving.Load() {
		return errLeaving
	}
	n.master.at.Store(&to.at)
	d, err := n.declareAt(ctx, to, n.declaration())
	if err != nil {
		n.lost(to.link, err)
		return err
	}
	n.sendOver(to.link, d)
	n.accepted(ctx, d)
	return nil
}

// sendOver makes l, over which a master took us in, the link to send over. It is none before that: what
// a master is asked by a stranger it does not answer.
func (n *Node) sendOver(l link.Link, d wire.Declared) {
	n.masterMeshctl.Store(d.Meshctl != nil)
	n.master.link.Store(&l)
	if n.leaving.Load() { // it is not certain that drain saw this link
		n.sayDrain(l)
	}
}

// lost forgets the link to a master.
func (n *Node) lost(l link.Link, err error) {
	n.master.link.Store(nil)
	n.declared.Store(false)
	l.Close(err)
	n.master.pending.LinkLost(l)
}

// declaration is what the node tells a master of itself, each time anew.
func (n *Node) declaration() wire.Declare {
	x := n.credentials()
	x.Attach = n.attaches.Add(1)
	return wire.Declare{Worker: n.self.Worker, Variant: n.self.Variant, Port: n.self.Port, Hostname: n.cfg.Advertise, Meshctl: x}
}

// accepted notes that a master, perhaps another than before, took us in.
func (n *Node) accepted(ctx context.Context, d wire.Declared) {
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
	n.log.Info("declared at the master", "master", n.master.at.Load().String(), "worker", d.Worker, "variant", d.Variant, "ip", d.IP, "port", d.Port)
	n.declared.Store(true)
	n.once.Do(func() { close(n.connected) })
	n.peers.hook(n.cfg.Hooks.OnConnected, wire.Peer{Worker: d.Worker, Variant: d.Variant, IP: d.IP, Port: d.Port, Meshctl: n.self.Meshctl})
}

var errDiscoveryOff = errors.New("discovery is off")

// dialMaster connects to one address of a master. Errors are *dialError, or denied.
func (c *core) dialMaster(ctx context.Context, m candidate) (contact, error) {
	at, err := m.on(m.port), error(nil)
	if m.port == 0 && c.cfg.DiscoveryPort < 0 {
		return contact{at: at}, &dialError{&wire.Error{
			Code: wire.CodeUnreachable, Message: fmt.Sprintf("no master found: %s has no port, and %v", m.host, errDiscoveryOff),
			Hint: "name it with --master HOST:PORT, or leave --discovery-port 0 away",
		}, m.String(), errDiscoveryOff}
	}
	if m.port == 0 {
		port, err := c.discover(ctx, m.on(c.cfg.DiscoveryPort))
		if err != nil {
			return contact{at: m.on(c.cfg.DiscoveryPort)}, err
		}
		at = m.on(port)
	}
	l, err := c.dialMasterAt(ctx, at)
	switch {
	case isMismatch(err):
		err = mismatchAt(at, "another private key: it accepts none of this end's, "+strings.Join(c.ring.Fingerprints(), ", "))
	case err != nil && wire.CodeOf(err) != wire.CodeDenied:
		err = unreachable(at.String(), err)
	}
	return contact{l, at}, err
}

// declareAt declares us at a master and waits until it accepts.
func (c *core) declareAt(ctx context.Context, to contact, d wire.Declare) (wire.Declared, error) {
	l := to.link
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
		case errors.Is(err, link.ErrClosed) && l.Info().Transport == native.Transport: // it has our key
			return wire.Declared{}, &wire.Error{Code: wire.CodeUnreachable, Temporary: true, Message: "the master closed the connection before it had accepted"}
		case errors.Is(err, link.ErrClosed):
			return wire.Declared{}, keyMismatch("the master closed the connection instead of accepting; its keys are probably others")
		case err != nil:
			return wire.Declared{}, &wire.Error{Code: wire.CodeUnreachable, Temporary: true, Message: fmt.Sprintf("the master does not answer the declaration: %v", plain(err))}
		}
		switch msg.Event {
		case wire.EventDeclared:
			l.Trust()
			d, err := wire.DecodeDeclared(msg.Body)
			if err == nil {
				err = c.checkDowngrade(to, d.Meshctl)
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

// heed follows what the master says until the link ends. Over a former link that is what it answers and
// what it wants of this node, and nothing of the mesh.
func (n *Node) heed(ctx context.Context, l link.Link, former bool) error {
	reports := reporting{t: n.telemetry, link: l}
	defer reports.stop()
	for {
		msg, err := l.Receive(ctx)
		if err != nil {
			return err
		}
		if former && ofTheMesh(msg.Event) {
			continue
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

// ofTheMesh tells whether an event is about how things are, which a master says anew to whoever declares.
func ofTheMesh(event string) bool {
	switch event {
	case wire.EventAddNode, wire.EventRemoveNode, wire.EventSchema, wire.EventDenied, wire.EventObserve:
		return true
	}
	return false
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
