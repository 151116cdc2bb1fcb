package wire

// Control commands travel in ordinary command and response events between meshctl
// peers. The dot keeps them apart from every command of a schema.
const (
	// ControlNodes asks a master for its list of nodes: NodesRequest, NodesPage.
	ControlNodes = "mesh.nodes"
	// ControlCancel asks a master to have a request under way ended: CancelRequest. The
	// answer says that the node was told, not that it knew the request.
	ControlCancel = "mesh.cancel"
)

// NodesRequest asks for the nodes from the given place in the list on.
type NodesRequest struct {
	Offset int `json:"offset"`
}

// NodesPage is a part of the list of nodes.
type NodesPage struct {
	Nodes []NodeInfo `json:"nodes"`
	Total int        `json:"total"`
}

// CancelRequest names a request under way, and a node that takes part in it.
type CancelRequest struct {
	Node string `json:"node"` // "worker/variant"
	UID  string `json:"uid"`
}

// PeersPerMessage is how many nodes one message names, so that a large mesh stays
// within the size limit.
const PeersPerMessage = 1000
