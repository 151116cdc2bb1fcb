package wire

// Control commands travel in ordinary command and response events between meshctl
// peers. The dot keeps them apart from every command of a schema.
const (
	// ControlNodes asks a master for its list of nodes: NodesRequest, NodesPage.
	ControlNodes = "mesh.nodes"
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

// PeersPerMessage is how many nodes one message names, so that a large mesh stays
// within the size limit.
const PeersPerMessage = 1000
