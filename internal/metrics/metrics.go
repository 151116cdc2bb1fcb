// Package metrics shows a node or a master to Prometheus. Everything is read when it is
// asked for, so that nothing is kept twice: the numbers are those of the dashboard.
// docs/metrics.md lists them.
//
// It writes the text format itself: the client library of Prometheus brings protobuf,
// whose use of reflection keeps the linker from leaving anything out, and would make
// the program larger by half.
package metrics

import (
	"net/http"
	"time"

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
	// Masters lists the masters, this one first, without ID where it is alone.
	Masters() []wire.MasterInfo
}

// ForNode makes the handler of /metrics for a node.
func ForNode(n Node, worker, version string) http.Handler {
	return handler(func(p *page) { p.build("node", worker, version); p.node(n, worker) })
}

// ForMaster is ForNode for a master.
func ForMaster(m Master, version string) http.Handler {
	return handler(func(p *page) { p.build("master", "", version); p.master(m) })
}

func handler(write func(*page)) http.Handler {
	started := time.Now()
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		var p page
		write(&p)
		p.process(started)
		w.Header().Set("Content-Type", contentType)
		// A client that went away is no concern of ours.
		_, _ = w.Write(p.Bytes())
	})
}

func (p *page) build(role, worker, version string) {
	p.family("meshctl_build_info", "The release, the role (node or master) and the worker of this process; always 1.", gauge)
	p.sample(1, "role", role, "version", version, "worker", worker)
}
