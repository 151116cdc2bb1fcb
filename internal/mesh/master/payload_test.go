package master_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/meshctl/meshctl/internal/mesh/master"
	"github.com/meshctl/meshctl/internal/mesh/meshtest"
	meshnode "github.com/meshctl/meshctl/internal/mesh/node"
	"github.com/meshctl/meshctl/internal/mesh/wire"
)

// However small messages are to be, all nodes are told of all, operators get the whole list, and
// those who watch the whole mesh. A node that could not be told would be cut off, and again when it is back.
func TestManyNodesInSmallMessages(t *testing.T) {
	const nodes = 60
	m := meshtest.New(t, schema, func(m *meshtest.Mesh) {
		m.EachMaster = func(c *master.Config) { c.MaxPayload = 8 << 10 }
	})
	for i := range nodes {
		declare(t, m.Dial(m.Addr), fmt.Sprintf(`{"worker":"nodeB","port":%d,"variant":"b%d-%s"}`, i+1, i, strings.Repeat("x", 110)))
	}
	a := m.Dial(m.Addr)
	declare(t, a, `{"worker":"nodeA","port":1,"variant":"a"}`)
	for told := 0; told < nodes; {
		var peers []wire.Peer
		if err := json.Unmarshal([]byte(a.Expect(wire.EventAddNode)), &peers); err != nil {
			t.Fatal(err)
		}
		told += len(peers)
	}
	list, err := m.Operator().Nodes(t.Context())
	if err != nil || len(list) != nodes+1 {
		t.Errorf("the list has %d nodes, %v", len(list), err)
	}
	w, err := meshnode.Watch(t.Context(), m.OperatorConfig())
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	for {
		u, err := w.Next(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if u.Mesh != nil {
			if len(u.Mesh.Nodes) != nodes+1 {
				t.Errorf("who watches is told of %d nodes", len(u.Mesh.Nodes))
			}
			return
		}
	}
}
