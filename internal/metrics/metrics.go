// Package metrics shows a node or a master to Prometheus. Everything is read when it is
// asked for, so that nothing is kept twice: the numbers are those of the dashboard.
// docs/metrics.md lists them.
package metrics

import (
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/meshctl/meshctl/internal/mesh/inspect"
	"github.com/meshctl/meshctl/internal/mesh/queue"
	"github.com/meshctl/meshctl/internal/mesh/wire"
)

// Node is what is read of a node. Methods are called for each scrape, from any goroutine.
type Node interface {
	Counts() []inspect.CommandCount // with all buckets of their histograms
	LinkCounts() []inspect.LinkCount
	QueueStats() []queue.Stats
	Late() uint64
	Ready() bool
}

// Master is what is read of a master, as Node.
type Master interface {
	Nodes() []wire.NodeInfo
	Watchers() int
}

// ForNode makes the handler of /metrics for a node. Scrapes that come at once wait for
// each other.
func ForNode(n Node, worker, version string) http.Handler {
	return handler(nodeCollector{n, worker}, "node", worker, version)
}

// ForMaster is ForNode for a master.
func ForMaster(m Master, version string) http.Handler {
	return handler(masterCollector{m}, "master", "", version)
}

func handler(c prometheus.Collector, role, worker, version string) http.Handler {
	build := prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "meshctl_build_info", Help: "The release, the role (node or master) and the worker of this process; always 1.",
		ConstLabels: prometheus.Labels{"version": version, "role": role, "worker": worker},
	})
	build.Set(1)
	r := prometheus.NewRegistry()
	r.MustRegister(c, build, collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return promhttp.HandlerFor(r, promhttp.HandlerOpts{MaxRequestsInFlight: 4, Timeout: 4 * time.Second})
}
