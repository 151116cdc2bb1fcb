// Package registry keeps who is in the mesh: the view of one master (Memory), and what
// several masters know together, in Redis (Shared).
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
	// Master is the ID of the master that it declared itself at; "" where there is but one.
	Master string
	// Attach counts how often its instance has declared itself at masters, 0 of a JavaScript
	// node: of two masters that name it, the one that it came to later is right.
	Attach int64
}

// Info is the node as a row of the list of nodes, at the time now.
func (n Node) Info(now time.Time) wire.NodeInfo {
	info := wire.NodeInfo{
		Worker: n.Worker, Variant: n.Variant, IP: n.IP, Port: n.Port, Kind: n.Kind(), Master: n.Master,
		Link: n.Link, Since: n.Since.UnixMilli(), UpMillis: max(0, now.Sub(n.Since).Milliseconds()), Draining: n.Draining,
	}
	if n.Meshctl != nil {
		info.Version, info.Native = n.Meshctl.Version, n.Meshctl.Native
	}
	return info
}

// same tells whether both are one and the same declaration.
func (n Node) same(o Node) bool { return n.Master == o.Master && n.ClientID == o.ClientID }

// Master is what masters tell each other of themselves.
type Master struct {
	ID      string `json:"id"`
	Host    string `json:"host"` // where the others reach it
	Port    int    `json:"port"`
	Native  bool   `json:"native"` // whether it serves native links
	Version string `json:"version,omitempty"`
	Schema  string `json:"schema"` // fingerprint of its schema
	// Policy is the fingerprint of its issuers of tokens and its deny list; "" of a release
	// that does not tell.
	Policy  string `json:"policy,omitempty"`
	Started int64  `json:"started"`
	// Ticket proves to another master that a link is this one's: only who can read the
	// registry, and open what is in it, knows it.
	Ticket string `json:"ticket"`
	// Lapsed says that it has not been heard of for its lease, or has ended.
	Lapsed bool `json:"-"`
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
