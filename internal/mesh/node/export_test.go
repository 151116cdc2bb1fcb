package node

import (
	"context"
	"net/netip"
	"slices"

	"github.com/meshctl/meshctl/internal/mesh/inspect"
	"github.com/meshctl/meshctl/internal/mesh/seal"
)

// InFlight is what a report would have of the requests under way.
func InFlight(n *Node, atMost int) ([]inspect.Row, int) { return n.telemetry.InFlight(atMost) }

// Lookup replaces the resolver of a node that does not run yet.
func Lookup(n *Node, lookup func(ctx context.Context, network, host string) ([]netip.Addr, error)) {
	n.masters.lookup = lookup
}

// ConnectBy is Connect with another resolver.
func ConnectBy(ctx context.Context, cfg Config, lookup func(ctx context.Context, network, host string) ([]netip.Addr, error)) (*Operator, error) {
	o, err := newOperator(cfg)
	if err != nil {
		return nil, err
	}
	o.masters.lookup = lookup
	if err := o.reach(ctx, func(ctx context.Context, to contact) error { return o.enter(ctx, to, nil) }); err != nil {
		o.Close()
		return nil, err
	}
	return o, nil
}

// LinkIDs are those of a node's links to other nodes, in order.
func LinkIDs(n *Node) []string {
	var ids []string
	for _, l := range n.peers.links() {
		ids = append(ids, l.Info().ID)
	}
	slices.Sort(ids)
	return ids
}

// UplinkKey is what a node's link to its master lives on, if there is one.
func UplinkKey(n *Node) *seal.Key {
	if l := n.master.link.Load(); l != nil {
		return (*l).Info().Key
	}
	return nil
}

// Unwanted has a node not dial another any more, as when its master says that the other left.
func Unwanted(n *Node, worker, variant string) { n.dialers.remove(worker, variant) }

// Trying is a context that ends when a node does not dial another one any more; nil when it never did.
func Trying(n *Node, worker, variant string) context.Context {
	n.dialers.mu.Lock()
	defer n.dialers.mu.Unlock()
	if x := n.dialers.byName[peerName{worker, variant}]; x != nil {
		return x.trying
	}
	return nil
}

// CutUplink ends a node's link to its master.
func CutUplink(n *Node) {
	if l := n.master.link.Load(); l != nil {
		(*l).Close(nil)
	}
}

// NewestOn are the links to other nodes that live on a key and that none under another key came after, each
// way.
func NewestOn(n *Node, fingerprint string) (ids []string) {
	for _, dialed := range []bool{true, false} {
		var newest *peerLink
		for _, l := range n.peers.links() {
			if l.Info().Dialed == dialed && (newest == nil || l.since.After(newest.since)) {
				newest = l
			}
		}
		if newest != nil && newest.Info().Key.Fingerprint() == fingerprint {
			ids = append(ids, newest.Info().ID)
		}
	}
	return ids
}
