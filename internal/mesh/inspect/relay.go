package inspect

import (
	"encoding/json"

	"github.com/meshctl/meshctl/internal/mesh/wire"
)

const (
	// MaxReport is the longest Report, in bytes, that a master passes on.
	MaxReport = 64 << 10
	// maxRelayHead is what a Relay takes beside its report, and more.
	maxRelayHead = 1 << 10
	// maxMeshParts is how many parts a Mesh may have.
	maxMeshParts = 64
)

// Relay is the body of wire.EventTelemetry from a master to who watches.
type Relay struct {
	// Node is who reports, as it declared itself ("worker/variant").
	Node string `json:"node,omitempty"`
	// Report is a Report as the node wrote it: the master has not judged it.
	Report json.RawMessage `json:"report,omitempty"`
	// Lost counts reports that were not passed on since the message before.
	Lost uint64 `json:"lost,omitempty"`
}

// DecodeRelay reads what a master passes on: a report, with the name of its node, or nil
// and how many were lost. Errors are *wire.Error with CodeBadRequest.
func DecodeRelay(body []byte) (*Report, uint64, error) {
	if len(body) > MaxReport+maxRelayHead {
		return nil, 0, badReport("more than %d bytes", MaxReport)
	}
	var r struct { // a Relay that is read at once: a watcher reads a thousand a second
		Node   string  `json:"node"`
		Report *Report `json:"report"`
		Lost   uint64  `json:"lost"`
	}
	if err := json.Unmarshal(body, &r); err != nil {
		return nil, 0, badReport("%v", err)
	}
	c := checker{}
	c.number("lost", float64(r.Lost))
	if r.Report != nil {
		c.node("node", r.Node)
		c.is(r.Report.check())
		r.Report.Node = r.Node
	}
	if c.err != nil {
		return nil, 0, badReport("%v", c.err)
	}
	return r.Report, r.Lost, nil
}

// MeshPart is the body of wire.EventMesh: a Mesh in parts, so that a large mesh stays
// within the size limit. Parts may arrive in any order.
type MeshPart struct {
	Seq   uint64 `json:"seq"`   // of the Mesh: a later one has a higher one
	Part  int    `json:"part"`  // from 0
	Parts int    `json:"parts"` // how many there are
	// Mesh is a Mesh with some of the nodes, or with the schema.
	Mesh json.RawMessage `json:"mesh"`
}

// MeshParts puts a Mesh together. The zero value is ready.
type MeshParts struct {
	seq     uint64
	have    []*Mesh
	missing int
}

// Add takes a MeshPart, and gives the mesh once it is whole. Parts of an older mesh are
// dropped. Errors are *wire.Error with CodeBadRequest.
func (p *MeshParts) Add(body []byte) (*Mesh, error) {
	var part MeshPart
	if err := json.Unmarshal(body, &part); err != nil {
		return nil, badMesh("%v", err)
	}
	if part.Parts < 1 || part.Parts > maxMeshParts || part.Part < 0 || part.Part >= part.Parts {
		return nil, badMesh("part %d of %d", part.Part, part.Parts)
	}
	if part.Seq < p.seq {
		return nil, nil
	}
	mesh, err := DecodeMesh(part.Mesh)
	if err != nil {
		return nil, err
	}
	if part.Seq > p.seq || p.have == nil {
		p.seq, p.have, p.missing = part.Seq, make([]*Mesh, part.Parts), part.Parts
	}
	if len(p.have) != part.Parts || p.have[part.Part] != nil {
		return nil, badMesh("part %d of %d does not fit the others", part.Part, part.Parts)
	}
	p.have[part.Part] = mesh
	if p.missing--; p.missing > 0 {
		return nil, nil
	}
	whole := &Mesh{Nodes: []wire.NodeInfo{}}
	for _, m := range p.have {
		whole.Nodes = append(whole.Nodes, m.Nodes...)
		if len(m.Schema) > 0 {
			whole.Schema = m.Schema
		}
		if m.Version != "" {
			whole.Version = m.Version
		}
	}
	return whole, nil
}
