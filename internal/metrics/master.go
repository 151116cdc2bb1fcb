package metrics

import "strings"

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
}

// worker is that of "worker/variant".
func worker(name string) string {
	w, _, _ := strings.Cut(name, "/")
	return w
}
