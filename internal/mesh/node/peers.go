package node

import (
	"cmp"
	"context"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/meshctl/meshctl/internal/mesh/identity"
	"github.com/meshctl/meshctl/internal/mesh/link"
	"github.com/meshctl/meshctl/internal/mesh/route"
	"github.com/meshctl/meshctl/internal/mesh/rpc"
	"github.com/meshctl/meshctl/internal/mesh/seal"
	"github.com/meshctl/meshctl/internal/mesh/wire"
)

// peer is a variant of a worker that this node is, or was, linked to. There is one
// per name however many links there are, so that a broadcast reaches it once.
type peer struct {
	worker, variant string
	name            string // "worker/variant"
	pending         rpc.Pending
	sent, received  atomic.Uint64 // requests
	health          route.Health

	newest   atomic.Pointer[peerLink] // of links; changes with them
	verdicts atomic.Pointer[verdicts] // what it may call of ours

	// Guarded by peers.mu.
	links    []*peerLink
	draining bool
}

// peerLink is one link to a peer.
type peerLink struct {
	link.Link
	peer wire.Peer // as it declared itself, or as the master told of it; does not change
	// claims are those of its token, nil without one that was checked.
	claims *identity.Claims
	since  time.Time    // when it was taken into use
	batch  link.Batcher // the link, if it is one
	// resting counts the ends that send no more requests over it, see retire.
	resting atomic.Int32
	retires atomic.Bool // a link under another key took its place, and it goes when it rests
}

func newPeerLink(l link.Link, to wire.Peer, claims *identity.Claims) *peerLink {
	pl := &peerLink{Link: l, peer: to, claims: claims}
	pl.batch, _ = l.(link.Batcher)
	return pl
}

// meshctl tells whether the other end understands meshctl's additions.
func (l *peerLink) meshctl() bool { return l.peer.Meshctl != nil }

// peers is whom a node is linked to. Methods are safe for concurrent use.
type peers struct {
	core   *core
	mu     sync.Mutex
	byName map[peerName]*peer
	rings  map[string]*route.Ring[*peer] // per worker: those with a link, in turn
	hooks  chan func()
}

type peerName struct{ worker, variant string }

func (p *peers) init(c *core) {
	p.core = c
	p.byName = make(map[peerName]*peer)
	p.rings = make(map[string]*route.Ring[*peer])
	p.hooks = make(chan func(), 1024)
}

// ring gives the connected variants of a worker.
func (p *peers) ring(worker string) *route.Ring[*peer] {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.ringLocked(worker)
}

func (p *peers) ringLocked(worker string) *route.Ring[*peer] {
	r := p.rings[worker]
	if r == nil {
		r = new(route.Ring[*peer])
		p.rings[worker] = r
	}
	return r
}

// maxLinks is how many links the peer at the other end of l may have. Two are usual where
// each of two nodes may connect to the other; of a meshctl peer one more in each direction
// while they move to another key.
func maxLinks(l *peerLink) int {
	if l.meshctl() {
		return 2 * seal.MaxRing
	}
	return 4
}

// add takes a link into use. A link to another instance of the same variant is older
// and ends: a variant that restarted replaces itself. So does an older link of the same
// direction and key, which must be dead unless it retires; but not of a JavaScript peer, which may well hold
// two, and would open the one again that it loses.
func (p *peers) add(l *peerLink) *peer {
	l.since = time.Now()
	p.mu.Lock()
	name := peerName{l.peer.Worker, l.peer.Variant}
	pr := p.byName[name]
	if pr == nil {
		pr = &peer{worker: name.worker, variant: name.variant, name: l.peer.Name()}
		p.byName[name] = pr
	}
	var replaced []*peerLink
	pr.links = slices.DeleteFunc(pr.links, func(old *peerLink) bool {
		again := l.meshctl() && !old.retires.Load() && old.Info().Dialed == l.Info().Dialed && old.Info().Key == l.Info().Key
		dead := again || otherInstance(old.peer, l.peer) || len(pr.links)-len(replaced) >= maxLinks(l)
		if dead {
			replaced = append(replaced, old)
		}
		return dead
	})
	first := len(pr.links) == 0 && len(replaced) == 0
	if len(replaced) > 0 && otherInstance(replaced[0].peer, l.peer) {
		pr.draining = false // the older self was
	}
	if first {
		pr.draining = false
	}
	pr.links = append(pr.links, l)
	pr.newest.Store(l)
	if !pr.draining {
		p.ringLocked(name.worker).Add(pr)
	}
	p.mu.Unlock()

	for _, old := range replaced {
		go old.Close(errReplaced) // its reader does the rest
	}
	if first {
		p.core.log.Log(context.Background(), level(pr), "connected", "worker", l.peer.Worker, "variant", l.peer.Variant, "ip", l.peer.IP, "kind", l.peer.Kind(), "dialed", l.Info().Dialed)
		if pr.worker != wire.OperatorWorker {
			p.hook(p.core.cfg.Hooks.OnConnection, l.peer)
		}
	}
	return pr
}

// remove ends a link for the given reason, forgets it, and fails the requests that were
// sent over it. Its reader calls it when nothing more is to be read.
func (p *peers) remove(pr *peer, l link.Link, reason error) {
	l.Close(reason)
	p.mu.Lock()
	var who wire.Peer
	before := len(pr.links)
	pr.links = slices.DeleteFunc(pr.links, func(x *peerLink) bool {
		if x.Link == l {
			who = x.peer
		}
		return x.Link == l
	})
	pr.renewNewest()
	last := before > 0 && len(pr.links) == 0
	if last {
		p.ringLocked(pr.worker).Remove(pr)
		delete(p.byName, peerName{pr.worker, pr.variant})
	}
	p.mu.Unlock()
	pr.pending.LinkLost(l)
	if last {
		p.core.log.Log(context.Background(), level(pr), "disconnected", "worker", pr.worker, "variant", pr.variant, "reason", l.Err())
		if pr.worker != wire.OperatorWorker {
			p.hook(p.core.cfg.Hooks.OnDisconnection, who)
		}
	}
}

// upgrade notes that the other end of a link turned out to be meshctl, as one learns
// late in the mesh of a JavaScript master.
func (p *peers) upgrade(pr *peer, l *peerLink, x *wire.Extra, claims *identity.Claims) *peerLink {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := newPeerLink(l.Link, l.peer, claims)
	now.since = l.since
	now.peer.Meshctl = x
	now.peer = now.peer.Public()
	if i := slices.Index(pr.links, l); i >= 0 {
		pr.links[i] = now
		pr.renewNewest()
	}
	return now
}

// drain takes a peer that is about to leave out of the turn; its links stay for what
// is under way.
func (p *peers) drain(pr *peer) {
	p.mu.Lock()
	defer p.mu.Unlock()
	pr.draining = true
	p.ringLocked(pr.worker).Remove(pr)
}

// best is the link to send over: the newest, which is the least likely to be dead; nil
// when there is none.
func (p *peers) best(pr *peer) *peerLink {
	if l := pr.newest.Load(); l != nil {
		select {
		case <-l.Done():
		default:
			return l
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, l := range slices.Backward(pr.links) {
		select {
		case <-l.Done():
		default:
			return l
		}
	}
	return nil
}

// renewNewest follows a change of links. peers.mu is held.
func (pr *peer) renewNewest() {
	if n := len(pr.links); n > 0 {
		pr.newest.Store(pr.links[n-1])
	} else {
		pr.newest.Store(nil)
	}
}

// find gives a peer and the best link to it; the link is nil when there is none.
func (p *peers) find(worker, variant string) (*peer, *peerLink) {
	p.mu.Lock()
	pr := p.byName[peerName{worker, variant}]
	p.mu.Unlock()
	if pr == nil {
		return nil, nil
	}
	return pr, p.best(pr)
}

// late counts the responses that came too late, of all peers that there are links to.
func (p *peers) late() (n uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, pr := range p.byName {
		n += pr.pending.Late()
	}
	return n
}

// linked tells whether there is a link to a variant.
func (p *peers) linked(worker, variant string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.byName[peerName{worker, variant}] != nil
}

// dialed tells whether this end has dialled this very instance of a meshctl node.
func (p *peers) dialed(to wire.Peer) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	pr := p.byName[peerName{to.Worker, to.Variant}]
	return pr != nil && slices.ContainsFunc(pr.links, func(l *peerLink) bool {
		return l.Info().Dialed && l.meshctl() && !otherInstance(l.peer, to)
	})
}

// linksOf lists the links to one peer.
func (p *peers) linksOf(pr *peer) []*peerLink {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(pr.links)
}

// links lists all links.
func (p *peers) links() []*peerLink {
	p.mu.Lock()
	defer p.mu.Unlock()
	var all []*peerLink
	for _, pr := range p.byName {
		all = append(all, pr.links...)
	}
	return all
}

// list gives the peers that there are links to, by name.
func (p *peers) list() []wire.Peer {
	p.mu.Lock()
	defer p.mu.Unlock()
	var all []wire.Peer
	for _, pr := range p.byName {
		all = append(all, pr.links[0].peer)
	}
	slices.SortFunc(all, func(a, b wire.Peer) int {
		return cmp.Or(cmp.Compare(a.Worker, b.Worker), cmp.Compare(a.Variant, b.Variant))
	})
	return all
}

// hook queues a call of one of the configured hooks.
func (p *peers) hook(f func(wire.Peer), peer wire.Peer) {
	if f == nil {
		return
	}
	select {
	case p.hooks <- func() { f(peer) }:
	default:
		p.core.log.Warn("the hooks are too slow: one was left out", "worker", peer.Worker, "variant", peer.Variant)
	}
}

// level is where the coming and going of a peer belongs in the log: an operator is
// there for the length of one command.
func level(p *peer) slog.Level {
	if p.worker == wire.OperatorWorker {
		return slog.LevelDebug
	}
	return slog.LevelInfo
}

// otherInstance tells whether two meshctl peers of one name are two processes.
func otherInstance(a, b wire.Peer) bool {
	return a.Meshctl != nil && b.Meshctl != nil && a.Meshctl.Instance != b.Meshctl.Instance
}
