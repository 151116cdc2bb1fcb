package node

import (
	"context"
	"encoding/json"
	"errors"
	"time"

	"github.com/meshctl/meshctl/internal/mesh/link"
	"github.com/meshctl/meshctl/internal/mesh/link/native"
	"github.com/meshctl/meshctl/internal/mesh/rpc"
	"github.com/meshctl/meshctl/internal/mesh/seal"
	"github.com/meshctl/meshctl/internal/mesh/wire"
	"github.com/meshctl/meshctl/internal/pause"
)

// How a mesh moves to another key: a native link lives on one key. When another key is
// used for new links, whoever dialled a link opens a second one under that key, over which
// both ends then send. The older one is closed when neither end has a request under way on
// it, so that no call fails.

// maxRenewal is the longest pause before a link is tried under the used key again.
const maxRenewal = 30 * time.Second

var errRenewed = errors.New("a link under another key took its place")

// retireBefore lets go of the links that l takes the place of.
func (c *core) retireBefore(p *peer, l *peerLink) {
	if !l.meshctl() {
		return
	}
	for _, old := range c.peers.linksOf(p) {
		if old.Link != l.Link && old.meshctl() && old.Info().Dialed == l.Info().Dialed && old.Info().Key != l.Info().Key {
			if old.retires.Swap(true) {
				continue
			}
			c.retiring.Go(func() {
				if rpc.Rested(&p.pending, old.Link) {
					_ = rpc.Event(old, wire.EventRetire, struct{}{})
					old.rest()
				}
			})
		}
	}
}

// rest notes that one end sends no more requests over the link. When both have said so,
// the end that dialled it closes it.
func (l *peerLink) rest() {
	if l.resting.Add(1) == 2 && l.Info().Dialed {
		go l.Close(errRenewed)
	}
}

// attempt is one link that a dialer opens. When up is closed link is set, when ended is, err.
type attempt struct {
	up, ended chan struct{}
	link      *peerLink
	err       error
}

func (d *dialers) attempt(ctx, trying context.Context, x *dialer, key *seal.Key) *attempt {
	a := &attempt{up: make(chan struct{}), ended: make(chan struct{})}
	d.wg.Go(func() {
		defer close(a.ended)
		a.err = d.core.open(ctx, trying, x.to.Peer, d.core.self.Worker, key, func(_ *peer, l *peerLink) {
			a.link = l
			close(a.up)
		})
	})
	return a
}

// keep opens a link and returns why it ended. While it is up it is moved to whatever key is
// used; a link that was moved from retires by itself. up is called when it comes up.
func (d *dialers) keep(ctx, trying context.Context, x *dialer, up func()) error {
	a := d.attempt(ctx, trying, x, nil)
	select {
	case <-a.ended:
		return a.err
	case <-a.up:
		up()
	}
	wait := newBackoff()
	wait.MaxInterval = maxRenewal
	for {
		changed, key := d.core.ring.Changed(), d.core.ring.Used()
		if !outdated(a.link, key) {
			select {
			case <-a.ended:
				return a.err
			case <-changed:
				wait.Reset()
			}
			continue
		}
		if trying = d.trying(x); trying.Err() == nil { // else it is not to be opened again, unless it is named again
			next := d.attempt(ctx, trying, x, key)
			select {
			case <-next.up:
				d.core.log.Info("moved a link to another key", "peer", x.to.Name(), "fingerprint", key)
				a = next
				continue
			case <-next.ended:
				d.core.log.Warn("cannot move a link to the key that this node uses", "peer", x.to.Name(), "fingerprint", key, "error", next.err)
			}
		}
		retry := time.NewTimer(wait.NextBackOff())
		select {
		case <-a.ended:
			retry.Stop()
			return a.err
		case <-retry.C:
		}
	}
}

// outdated tells whether a link is to be moved to a key. Socket.IO links are not: what they
// say can be replayed, and JavaScript peers have one key.
func outdated(l link.Link, key *seal.Key) bool {
	info := l.Info()
	return info.Transport == native.Transport && info.Key != key
}

// stay follows what the master says, over another link whenever the key changes, until the
// link ends. It gives the last link.
func (n *Node) stay(ctx context.Context, l link.Link) (link.Link, error) {
	for {
		heeding, stop := context.WithCancel(ctx)
		moved := make(chan link.Link, 1)
		tried := false // before moved is received from, of the goroutine
		n.retiring.Go(func() {
			moved <- n.moveUplink(ctx, heeding, l, &tried)
			stop()
		})
		err := n.heed(heeding, l, false)
		stop()
		next := <-moved
		if next == nil {
			if tried && wire.CodeOf(err) == wire.CodeReplaced {
				err = &wire.Error{Code: wire.CodePeerLost, Message: "lost the master while moving to another key", Temporary: true}
			}
			return l, err
		}
		n.leaveBehind(l)
		l = next
	}
}

// moveUplink waits until the node uses another key than l lives on, and declares it over a
// link under that. It gives nil when heeding ends first; what is begun then it goes on with.
func (n *Node) moveUplink(ctx, heeding context.Context, l link.Link, tried *bool) link.Link {
	wait := newBackoff()
	wait.MaxInterval = maxRenewal
	for heeding.Err() == nil {
		changed, key := n.ring.Changed(), n.ring.Used()
		if !outdated(l, key) || n.leaving.Load() {
			select {
			case <-changed:
				wait.Reset()
			case <-heeding.Done():
			}
			continue
		}
		*tried = true
		next, err := n.uplinkUnder(ctx, key)
		if err == nil {
			n.log.Info("moved the link to the master to another key", "fingerprint", key)
			return next
		}
		n.log.Warn("cannot move the link to the master to the key that this node uses", "fingerprint", key, "error", err)
		pause.For(heeding, wait.NextBackOff())
	}
	return nil
}

// uplinkUnder declares the node over a further link to the master that it is at, and sends
// over that from then on.
func (n *Node) uplinkUnder(ctx context.Context, key *seal.Key) (link.Link, error) {
	at := *n.master.at.Load()
	l, err := n.dialNative(ctx, at, n.self.Worker, key)
	if err != nil {
		return nil, err
	}
	d, err := n.declareAt(ctx, contact{l, at}, n.declaration())
	if err != nil {
		l.Close(err)
		return nil, err
	}
	n.sendOver(l, d)
	n.accepted(ctx, d)
	return l, nil
}

// leaveBehind reads what still comes over a former link to the master, and closes it. What the master
// said there of the mesh is older than what it says over the newer link, whenever it comes.
func (n *Node) leaveBehind(l link.Link) {
	n.retiring.Go(func() {
		_ = rpc.Rested(&n.master.pending, l)
		l.Close(errRenewed)
	})
	n.retiring.Go(func() {
		_ = n.heed(n.work, l, true)
		l.Close(errRenewed)
		n.master.pending.LinkLost(l)
	})
}

// compareKeys says so when the master accepts keys that this node lacks, or uses another.
func (n *Node) compareKeys(fingerprints []string) {
	for i, f := range fingerprints {
		switch _, err := n.ring.Find(f); {
		case err != nil:
			n.log.Error("this node lacks a key that the master accepts", "fingerprint", f, "used", i == 0, "hint", "meshctl keys add "+f+", on a machine that has it")
		case i == 0 && n.ring.Used().Fingerprint() != f:
			n.log.Warn("the master uses another key for new links than this node", "master", f, "here", n.ring.Used(), "hint", "meshctl keys use makes all use one")
		}
	}
}

// obey carries out what the master says about keys.
func (n *Node) obey(l link.Link, msg wire.Message) {
	cmd, err := msg.AsCommand(func(name string) bool { return name == wire.ControlKeys })
	if err != nil || cmd.UID == "" || cmd.Name != wire.ControlKeys {
		return // there is nothing else that a master may ask
	}
	if l.Info().Transport != native.Transport {
		n.log.Warn("ignored an order about keys that did not come over a native link")
		return
	}
	order, err := wire.DecodeKeyOrder(cmd.Payload)
	if err != nil || !n.obeyLater(l, cmd, order) {
		n.carryOut(l, cmd, order, err)
	}
}

// carryOut carries out an order about keys unless there is an error already, and answers it.
func (n *Node) carryOut(l link.Link, cmd wire.Command, order wire.KeyOrder, err error) {
	answer := wire.Response{UID: cmd.UID, Number: cmd.Number, Name: cmd.Name}
	var doomed []link.Link
	if err == nil {
		links := []link.Link{l}
		for _, x := range n.peers.links() {
			links = append(links, x.Link)
		}
		answer.Result, doomed, err = rpc.ObeyKeys(n.ring, order, links, n.log)
	}
	if err != nil {
		answer.Err = rpc.AsError(err)
	}
	_ = l.Send(wire.ResponseMessage(answer))
	for _, x := range doomed {
		go x.Close(rpc.ErrKeyRemoved)
	}
}

// OrderKeys has the master, or the node that the order names, change its keys, and gives
// their state after that. Errors are *wire.Error. The link to the master has to be native.
func (o *Operator) OrderKeys(ctx context.Context, order wire.KeyOrder) (wire.KeyState, error) {
	master, failure := o.attached.await(ctx)
	if failure != nil {
		return wire.KeyState{}, failure
	}
	if master.Info().Transport != native.Transport {
		return wire.KeyState{}, &wire.Error{
			Code: wire.CodeDenied, Message: "keys travel over native links only, and the link to the master is none",
			Hint: "rotating keys needs a meshctl master, and no --link socketio",
		}
	}
	payload, err := json.Marshal(order)
	if err != nil {
		return wire.KeyState{}, err
	}
	text, err := o.askMaster(ctx, wire.ControlKeys, payload)
	if err != nil {
		return wire.KeyState{}, err
	}
	return wire.DecodeKeyState(text)
}
