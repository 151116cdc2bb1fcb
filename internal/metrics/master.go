package metrics

import (
	"strings"

	"github.com/meshctl/meshctl/internal/mesh/wire"
)

// master writes what there is of a master.
func (p *page) master(m Master) {
	type kind struct{ worker, kind string }
	present := map[kind]int{}
	leaving := 0
	for _, n := range m.Nodes() {
		present[kind{n.Worker, n.Kind}]++
		if n.Draining {
			leaving++
		}
	}
	p.family("meshctl_master_nodes", "Nodes in the mesh, by worker and kind (meshctl or javascript).", gauge)
	for k, n := range present {
		p.sample(float64(n), "kind", k.kind, "worker", k.worker)
	}
	p.family("meshctl_master_nodes_draining", "Nodes that are about to leave.", gauge)
	p.sample(float64(leaving))
	p.family("meshctl_master_watchers", "Connections that watch the mesh.", gauge)
	p.sample(float64(m.Watchers()))
	masters := m.Masters()
	if masters[0].ID == "" {
		return // it is alone
	}
	states := map[string]int{}
	for _, x := range masters[1:] {
		states[x.State]++
	}
	p.family("meshctl_master_peers", "Other masters of the mesh, by state (linked, starting, unreachable or gone).", gauge)
	for _, state := range []string{wire.MasterLinked, wire.MasterStarting, wire.MasterUnreachable, wire.MasterGone} {
		p.sample(float64(states[state]), "state", state)
	}
	p.family("meshctl_master_registry_up", "Whether this master knows all that the other masters know: 0 while Redis is away.", gauge)
	up := 1.0
	if masters[0].Registry != "" {
		up = 0
	}
	p.sample(up)
}

// worker is that of "worker/variant".
func worker(name string) string {
	w, _, _ := strings.Cut(name, "/")
	return w
}
