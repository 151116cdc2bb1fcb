package wire

// Control commands travel in ordinary command and response events between meshctl
// peers. The dot keeps them apart from every command of a schema.
const (
	// ControlNodes asks a master for its list of nodes: NodesRequest, NodesPage.
	ControlNodes = "mesh.nodes"
	// ControlCancel asks a master to have a request under way ended: CancelRequest. The
	// answer says that the node was told, not that it knew the request.
	ControlCancel = "mesh.cancel"
	// ControlMasters asks a master for all masters of the mesh: MastersPage.
	ControlMasters = "mesh.masters"
)

// MasterWorker is what masters are called where they are named like peers: "@master/ID".
// It is not a valid schema name.
const MasterWorker = "@master"

// MasterName is what the master of that id is called; one without Redis has none.
func MasterName(id string) string {
	if id == "" {
		return MasterWorker
	}
	return MasterWorker + "/" + id
}

// MastersPage is the masters of the mesh, the one that answers first.
type MastersPage struct {
	Masters []MasterInfo `json:"masters"`
}

// MasterInfo is one master.
type MasterInfo struct {
	ID      string `json:"id" yaml:"id"` // "" of one that is alone
	IP      string `json:"ip,omitempty" yaml:"ip,omitempty"`
	Port    int    `json:"port,omitempty" yaml:"port,omitempty"`
	Version string `json:"version,omitempty" yaml:"version,omitempty"`
	Nodes   int    `json:"nodes" yaml:"nodes"` // declared at it
	// Schema is the fingerprint of its schema. All masters ought to have the same.
	Schema string `json:"schema,omitempty" yaml:"schema,omitempty"`
	// Policy is the fingerprint of what it lets peers in by beside the schema: the issuers of
	// tokens and the deny list. All masters ought to have the same.
	Policy   string `json:"policy,omitempty" yaml:"policy,omitempty"`
	UpMillis int64  `json:"up_ms" yaml:"up_ms"`
	// State is "here" of the one that answers, "linked" of one that it is connected to,
	// "starting" of one that does not listen yet (Port is 0) or that no link has been tried to
	// so far, "unreachable" of another that is there, and "gone" of one that has ended or has
	// not been heard of; its nodes are awaited elsewhere.
	State string `json:"state" yaml:"state"`
	// Registry is why the one that answers does not know what the others know at present.
	Registry string `json:"registry,omitempty" yaml:"registry,omitempty"`
}

// The states of a MasterInfo.
const (
	MasterHere        = "here"
	MasterLinked      = "linked"
	MasterStarting    = "starting"
	MasterUnreachable = "unreachable"
	MasterGone        = "gone"
)

// NodesRequest asks for the nodes from the given place in the list on.
type NodesRequest struct {
	Offset int `json:"offset"`
}

// NodesPage is a part of the list of nodes.
type NodesPage struct {
	Nodes []NodeInfo `json:"nodes"`
	Total int        `json:"total"`
	// Settling says that the master has just started, and that nodes may still be on their
	// way back to it.
	Settling bool `json:"settling,omitempty"`
}

// CancelRequest names a request under way, and a node that takes part in it.
type CancelRequest struct {
	Node string `json:"node"` // "worker/variant"
	UID  string `json:"uid"`
}

// PeersPerMessage is how many nodes one message names, so that a large mesh stays
// within the size limit.
const PeersPerMessage = 1000
