// Package registry keeps who is in the mesh. The memory registry serves one master;
// a shared one serves several (a later step).
package registry

import (
	"time"

	"github.com/meshctl/meshctl/internal/mesh/wire"
)

// Node is one accepted variant.
type Node struct {
	wire.Peer
	// ClientID is the link over which it declared itself.
	ClientID string
	// Link is that link's transport.
	Link     string
	Since    time.Time
	Draining bool
}

// Info is the node as a row of the list of nodes, at the time now.
func (n Node) Info(now time.Time) wire.NodeInfo {
	info := wire.NodeInfo{
		Worker: n.Worker, Variant: n.Variant, IP: n.IP, Port: n.Port, Kind: n.Kind(),
		Link: n.Link, Since: n.Since.UnixMilli(), UpMillis: now.Sub(n.Since).Milliseconds(), Draining: n.Draining,
	}
	if n.Meshctl != nil {
		info.Version, info.Native = n.Meshctl.Version, n.Meshctl.Native
	}
	return info
}

// Registry holds at most one node per worker and variant. Implementations are safe
// for concurrent use.
type Registry interface {
	// Put adds the node, or replaces the one of the same worker and variant, which it
	// returns.
	Put(Node) (replaced *Node)
	// Remove takes a node out if it is still the one that declared itself over
	// clientID, and returns it.
	Remove(worker, variant, clientID string) (Node, bool)
	// Get finds a node.
	Get(worker, variant string) (Node, bool)
	// OfWorker returns the nodes of one worker, by variant.
	OfWorker(worker string) []Node
	// List returns all nodes by worker and variant.
	List() []Node
}
