package inspect_test

import (
	"testing"

	"github.com/meshctl/meshctl/internal/mesh/inspect"
)

func part(seq, number, parts, mesh string) []byte {
	return []byte(`{"seq":` + seq + `,"part":` + number + `,"parts":` + parts + `,"mesh":` + mesh + `}`)
}

// Parts may overtake each other, and a newer mesh an older one.
func TestMeshIsPutTogether(t *testing.T) {
	node := func(variant string) string {
		return `{"nodes":[{"worker":"shop","variant":"` + variant + `","kind":"meshctl"}],"version":"v1"}`
	}
	var p inspect.MeshParts
	for i, step := range []struct {
		body []byte
		want int // nodes of the whole; -1: it is not whole
	}{
		{part("1", "0", "1", `{"nodes":[]}`), 0},
		{part("2", "2", "3", node("b")), -1},
		{part("2", "0", "3", `{"schema":{"a":1}}`), -1},
		{part("2", "1", "3", node("a")), 2},
		{part("3", "0", "2", node("a")), -1},
		{part("4", "0", "1", node("c")), 1},
		{part("3", "1", "2", node("b")), -1}, // too late
	} {
		mesh, err := p.Add(step.body)
		switch {
		case err != nil:
			t.Errorf("step %d: %v", i, err)
		case mesh == nil && step.want >= 0, mesh != nil && len(mesh.Nodes) != step.want:
			t.Errorf("step %d: %+v, want %d nodes", i, mesh, step.want)
		}
		if i == 3 && (string(mesh.Schema) != `{"a":1}` || mesh.Version != "v1" || mesh.Nodes[0].Variant != "a") {
			t.Errorf("put together: %+v", mesh)
		}
	}
	for _, bad := range [][]byte{
		nil, []byte(`[]`), part("9", "0", "0", `{}`), part("9", "-1", "2", `{}`), part("9", "2", "2", `{}`), part("9", "0", "65", `{}`),
		part("9", "0", "1", `[]`), part("9", "0", "1", `{"nodes":[{"worker":"\u001b"}]}`), part("4", "0", "1", `{}`), part("4", "0", "2", `{}`),
	} {
		if mesh, err := p.Add(bad); err == nil || mesh != nil {
			t.Errorf("%s gave %+v, %v", bad, mesh, err)
		}
	}
}
