package node

import (
	"sync/atomic"
	"time"

	"github.com/meshctl/meshctl/internal/mesh/wire"
)

// rosterAge is how long an operator's balanced calls go by one list of nodes. A node
// that has gone since then costs a try, one that has come waits so long for its turn.
const rosterAge = time.Second

// roster is what the master last said of who is there, so that not every call has to
// ask. It is safe for concurrent use, and never blocks.
type roster struct{ known atomic.Pointer[roll] }

type roll struct {
	asked    time.Time
	byWorker map[string][]wire.Peer // those that take requests
	renewing atomic.Bool
}

// recall gives the nodes of a worker, which nobody may change, and whether they are
// known well enough: a list without the worker is not, nor is an old one. Of callers
// who find it old, one renews it and the others still use it, for as long again.
func (r *roster) recall(worker string) ([]wire.Peer, bool) {
	k := r.known.Load()
	if k == nil {
		return nil, false
	}
	age := time.Since(k.asked)
	if age > 2*rosterAge || age > rosterAge && k.renewing.CompareAndSwap(false, true) {
		return nil, false
	}
	peers := k.byWorker[worker]
	return peers, len(peers) > 0
}

// last gives the nodes of a worker that were there last, however long ago. Nobody may change them.
func (r *roster) last(worker string) []wire.Peer {
	k := r.known.Load()
	if k == nil {
		return nil
	}
	return k.byWorker[worker]
}

// learn takes the master's answer to a question of the given time.
func (r *roster) learn(nodes []wire.NodeInfo, asked time.Time) *roll {
	k := &roll{asked: asked, byWorker: make(map[string][]wire.Peer)}
	for _, n := range nodes {
		if n.Draining {
			continue
		}
		p := wire.Peer{Worker: n.Worker, Variant: n.Variant, IP: n.IP, Port: n.Port}
		if n.Kind == wire.KindMeshctl {
			p.Meshctl = &wire.Extra{Protocol: wire.ProtocolVersion, Native: n.Native}
		}
		k.byWorker[n.Worker] = append(k.byWorker[n.Worker], p)
	}
	r.known.Store(k)
	return k
}
