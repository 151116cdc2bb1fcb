package wire

// Control commands travel in ordinary command and response events between meshctl
// peers. The dot keeps them apart from every command of a schema.
const (
	// ControlNodes asks a master for its list of nodes: [NodeInfo…].
	ControlNodes = "mesh.nodes"
)
