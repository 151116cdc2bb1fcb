package metrics

import (
	"strings"

	"github.com/prometheus/client_golang/prometheus"
)

var (
	nodes = prometheus.NewDesc("meshctl_master_nodes",
		"Nodes in the mesh, by worker and kind (meshctl or javascript).", []string{"worker", "kind"}, nil)
	draining = prometheus.NewDesc("meshctl_master_nodes_draining",
		"Nodes that are about to leave.", nil, nil)
	watchers = prometheus.NewDesc("meshctl_master_watchers",
		"Connections that watch the mesh.", nil, nil)
)

type masterCollector struct{ master Master }

// Describe implements prometheus.Collector.
func (c masterCollector) Describe(to chan<- *prometheus.Desc) {
	to <- nodes
	to <- draining
	to <- watchers
}

// Collect implements prometheus.Collector.
func (c masterCollector) Collect(to chan<- prometheus.Metric) {
	type kind struct{ worker, kind string }
	present := map[kind]int{}
	leaving := 0
	for _, n := range c.master.Nodes() {
		present[kind{n.Worker, n.Kind}]++
		if n.Draining {
			leaving++
		}
	}
	for k, n := range present {
		to <- gauge(nodes, float64(n), k.worker, k.kind)
	}
	to <- gauge(draining, float64(leaving))
	to <- gauge(watchers, float64(c.master.Watchers()))
}

// worker is that of "worker/variant".
func worker(name string) string {
	w, _, _ := strings.Cut(name, "/")
	return w
}
