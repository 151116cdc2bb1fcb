package node

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"sync"
	"time"

	"github.com/meshctl/meshctl/internal/mesh/rpc"
	"github.com/meshctl/meshctl/internal/mesh/seal"
	"github.com/meshctl/meshctl/internal/mesh/wire"
	"github.com/meshctl/meshctl/internal/pause"
)

// acceptTimeout is how long a meshctl peer may take to accept a link.
const acceptTimeout = 5 * time.Second

// open dials a peer and declares us there, and calls ready once requests may be
// sent. It then serves the link, and returns why it ended. Until the link is taken into use the attempt
// ends with trying as well, after that with ctx alone. as is the worker to appear as,
// key what the link is to live on (nil: see dialNative).
func (c *core) open(ctx, trying context.Context, to wire.Peer, as string, key *seal.Key, ready func(*peer, *peerLink)) error {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	inUse := context.AfterFunc(trying, stop) // false when trying has ended
	defer inUse()
	if e := c.mayDial(to); e != nil {
		return e
	}
	l, err := c.dialPeer(ctx, net.JoinHostPort(to.IP, strconv.Itoa(to.Port)), to, as, key)
	if err != nil {
		return &wire.Error{Code: wire.CodeUnreachable, Message: fmt.Sprintf("connect to %s at %s port %d: %v", to.Name(), to.IP, to.Port, err), Temporary: true, Hint: hintOf(err, "")}
	}
	err = c.serveOpened(ctx, newPeerLink(l, to, nil), as, inUse, ready)
	l.Close(err)
	return err
}

func (c *core) serveOpened(ctx context.Context, l *peerLink, as string, inUse func() bool, ready func(*peer, *peerLink)) (err error) {
	declare := wire.Declare{Worker: as, Variant: c.self.Variant, Meshctl: c.self.Meshctl}
	if l.meshctl() {
		declare.Meshctl = c.credentials()
	}
	if err := rpc.Event(l, wire.EventDeclare, declare); err != nil {
		return err
	}
	if l.meshctl() {
		if err := c.awaitAccepted(ctx, l); err != nil {
			return err
		}
	}
	claims, denied := c.admit(l.peer)
	if denied != nil {
		return c.refuse(l, denied)
	}
	l.claims, l.peer = claims, l.peer.Public()
	l.Trust()
	if !inUse() { // before anybody sends over it
		return context.Canceled
	}
	p := c.peers.add(l)
	c.retireBefore(p, l)
	defer func() { c.peers.remove(p, l.Link, err) }()
	defer c.endWithToken(l)()
	if e := c.disallowed(l); e != nil {
		return c.refuse(l, e) // since it was admitted
	}
	ready(p, l)
	return c.serve(ctx, p, l)
}

// awaitAccepted waits for a meshctl peer's answer to our declare. A JavaScript peer
// gives none, and is taken at once.
func (c *core) awaitAccepted(ctx context.Context, l *peerLink) error {
	ctx, cancel := context.WithTimeoutCause(ctx, acceptTimeout, fmt.Errorf("%s did not accept the link in %s", l.peer.Name(), acceptTimeout))
	defer cancel()
	msg, err := l.Receive(ctx)
	if err != nil {
		if cause := context.Cause(ctx); cause != nil {
			err = cause
		}
		return err
	}
	switch msg.Event {
	case wire.EventError:
		e, err := wire.DecodeErrorMessage(msg.Body)
		if err != nil {
			return err
		}
		return &wire.Error{Code: e.Code, Message: e.Message}
	case wire.EventDeclared:
		d, err := wire.DecodeDeclared(msg.Body)
		if err != nil {
			return err
		}
		if d.Meshctl == nil {
			return errors.New("not accepted by a meshctl node")
		}
		if e := misnamed(d.Meshctl, l.peer); e != nil {
			return e
		}
		l.peer.Meshctl = d.Meshctl
		return nil
	default: // it would be lost
		return fmt.Errorf("%w: %s sent %.20q before it had accepted the link", errProtocol, l.peer.Name(), msg.Event)
	}
}

// misnamed is why somebody else answers at the address of a peer, or nil.
func misnamed(x *wire.Extra, p wire.Peer) error {
	if x.Name == "" || x.Name == p.Name() {
		return nil
	}
	return fmt.Errorf("%s answers at the address of %s", x.Name, p.Name())
}

// dialers keeps a link open to each node that the master named.
type dialers struct {
	core *core
	wg   sync.WaitGroup

	mu     sync.Mutex
	ended  bool
	epoch  int // counts (re)connections to the master
	byName map[peerName]*dialer
}

// dialer dials one node again and again. It lives as long as it is wanted, and then
// until the link that it has ends: a node that the master lost may well be there, and
// is often named again.
type dialer struct {
	to peerAt

	// Guarded by dialers.mu.
	epoch  int
	wanted bool
	trying context.Context // ends when the dialer is not wanted (any more)
	cancel context.CancelFunc
}

// peerAt is a peer at an address.
type peerAt struct{ wire.Peer }

// at tells whether q is dialled as p is, be it another instance.
func (p peerAt) at(q wire.Peer) bool {
	native := func(x *wire.Extra) bool { return x != nil && x.Native }
	return p.IP == q.IP && p.Port == q.Port && p.Kind() == q.Kind() && native(p.Meshctl) == native(q.Meshctl)
}

// add starts to dial a peer, or goes on to its new address.
func (d *dialers) add(ctx context.Context, to wire.Peer) {
	name := peerName{to.Worker, to.Variant}
	if name == (peerName{d.core.self.Worker, d.core.self.Variant}) {
		return // masters of the 1.1.0 line tell a node of itself
	}
	if e := d.core.mayDial(to); e != nil {
		d.core.log.Warn("not connecting to a node", "code", e.Code, "reason", e.Message, "hint", e.Hint)
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.ended {
		return
	}
	x := d.byName[name]
	// A node that restarted may have been linked to before the master could say so. Another link would end
	// that one, with what is under way on it.
	if x != nil && (!x.to.at(to) || otherInstance(x.to.Peer, to) && !d.core.peers.dialed(to)) {
		x.drop()
		x = nil
	}
	if x == nil {
		x = &dialer{to: peerAt{to}}
		d.byName[name] = x
		defer d.wg.Go(func() { d.run(ctx, x) })
	}
	x.epoch = d.epoch
	if !x.wanted {
		x.wanted = true
		x.trying, x.cancel = context.WithCancel(ctx)
	}
}

// end waits for all dialers, whose context has ended; add starts none after it.
func (d *dialers) end() {
	d.mu.Lock()
	d.ended = true
	d.mu.Unlock()
	d.wg.Wait()
}

// drop says that a dialer is not wanted. dialers.mu is held.
func (x *dialer) drop() {
	x.wanted = false
	x.cancel()
}

func (d *dialers) run(ctx context.Context, x *dialer) {
	wait := newBackoff()
	var told string // the last error that somebody has to do something about
	for {
		trying, ok := d.goOn(ctx, x)
		if !ok {
			return
		}
		err := d.keep(ctx, trying, x, wait.Reset)
		pauseFor := wait.NextBackOff()
		if h := hint(err); h != "" && err.Error() != told {
			told = err.Error()
			d.core.log.Warn("cannot link to a node", "peer", x.to.Name(), "error", err, "hint", h)
		}
		d.core.log.Debug("a link is down", "peer", x.to.Name(), "error", err, "retry_in", pauseFor)
		if trying.Err() == nil {
			pause.For(trying, pauseFor)
		}
	}
}

// goOn tells whether a dialer has to try (again), and if not takes it out.
func (d *dialers) goOn(ctx context.Context, x *dialer) (context.Context, bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if x.wanted && ctx.Err() == nil {
		return x.trying, true
	}
	x.cancel()
	if name := (peerName{x.to.Worker, x.to.Variant}); d.byName[name] == x {
		delete(d.byName, name)
	}
	return nil, false
}

// trying is a context that ends when the dialler is not wanted, as of now: it may have been named again
// since.
func (d *dialers) trying(x *dialer) context.Context {
	d.mu.Lock()
	defer d.mu.Unlock()
	return x.trying
}

// remove stops dialling a peer. A link that is up stays up.
func (d *dialers) remove(worker, variant string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if x := d.byName[peerName{worker, variant}]; x != nil {
		x.drop()
	}
}

// nextEpoch begins a new account of whom the master names.
func (d *dialers) nextEpoch() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.epoch++
	return d.epoch
}

// forget stops dialling whom the master has not named since the given epoch began,
// unless there is a link.
func (d *dialers) forget(epoch int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for name, x := range d.byName {
		if x.epoch < epoch && !d.core.peers.linked(name.worker, name.variant) {
			x.drop()
		}
	}
}
