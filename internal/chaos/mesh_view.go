package chaos

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/meshctl/meshctl/internal/mesh/inspect"
	"github.com/meshctl/meshctl/internal/mesh/node"
	"github.com/meshctl/meshctl/internal/mesh/schema"
	"github.com/meshctl/meshctl/internal/mesh/wire"
	"github.com/meshctl/meshctl/internal/pause"
)

// meshView is what the nodes of a mesh report of their links, each for itself, and the master of its
// nodes. It is safe for concurrent use.
type meshView struct {
	watcher *node.Watcher
	ended   chan struct{}

	mu     sync.Mutex
	listed map[string]bool                         // by the master: "worker/variant"
	links  map[string]map[string]inspect.LinkCount // of a node, by id
}

// watchMesh begins to watch the mesh of the master at an address. The caller closes the view.
func watchMesh(ctx context.Context, lab *Lab, master string) (*meshView, error) {
	ctx, cancel := context.WithTimeout(ctx, joinLimit)
	defer cancel()
	w, err := node.Watch(ctx, node.Config{Ring: lab.Ring, Master: master})
	for err != nil && pause.For(ctx, 100*time.Millisecond) { // a busy machine may take longer than Watch waits
		w, err = node.Watch(ctx, node.Config{Ring: lab.Ring, Master: master})
	}
	if err != nil {
		return nil, fmt.Errorf("watch the mesh: %w", err)
	}
	v := &meshView{watcher: w, ended: make(chan struct{}), links: map[string]map[string]inspect.LinkCount{}}
	go v.follow()
	return v, nil
}

func (v *meshView) close() {
	_ = v.watcher.Close()
	<-v.ended
}

func (v *meshView) follow() {
	defer close(v.ended)
	for {
		u, err := v.watcher.Next(context.Background())
		if err != nil {
			return // it was closed
		}
		v.mu.Lock()
		switch {
		case u.Mesh != nil:
			v.listed = map[string]bool{}
			for _, n := range u.Mesh.Nodes {
				v.listed[n.Worker+"/"+n.Variant] = true
			}
			maps.DeleteFunc(v.links, func(name string, _ map[string]inspect.LinkCount) bool { return !v.listed[name] })
		case u.Report != nil:
			v.report(u.Report)
		}
		v.mu.Unlock()
	}
}

func (v *meshView) report(r *inspect.Report) {
	links := v.links[r.Node]
	if links == nil || r.Full && !r.Partial {
		links = map[string]inspect.LinkCount{}
		v.links[r.Node] = links
	}
	for _, id := range r.Unlinked {
		delete(links, id)
	}
	for _, l := range r.Links {
		links[l.ID] = l
	}
}

// differs says in what the mesh is not as the schema asks for with exactly these nodes
// ("worker/variant"): who is not listed, and at whose end which link is missing, doubled or too many. It is ""
// when nothing is.
func (v *meshView) differs(s *schema.Schema, nodes []string) string {
	v.mu.Lock()
	defer v.mu.Unlock()
	var wrong []string
	note := func(format string, args ...any) { wrong = append(wrong, fmt.Sprintf(format, args...)) }
	for name := range v.listed {
		if !slices.Contains(nodes, name) {
			note("%s is listed", name)
		}
	}
	for _, a := range nodes {
		if !v.listed[a] {
			note("%s is not listed", a)
		}
		have := map[string]int{}
		for _, l := range v.links[a] {
			if !strings.HasPrefix(l.Peer, wire.OperatorWorker+"/") {
				have[direction(l.Dialed)+" "+l.Peer]++
			}
		}
		for _, b := range nodes {
			for _, dialed := range []bool{true, false} {
				from, to := workerOf(a), workerOf(b)
				if !dialed {
					from, to = to, from
				}
				want := 0
				if a != b && s.MayConnect(from, to) {
					want = 1
				}
				key := direction(dialed) + " " + b
				if have[key] != want {
					note("%s has %d links %s, not %d", a, have[key], key, want)
				}
				delete(have, key)
			}
		}
		for key, n := range have {
			note("%s has %d links %s", a, n, key)
		}
	}
	slices.Sort(wrong)
	if len(wrong) > 6 {
		wrong = append(wrong[:6], fmt.Sprintf("and %d more", len(wrong)-6))
	}
	return strings.Join(wrong, "; ")
}

// linkCount is how many links the schema asks for.
func linkCount(s *schema.Schema, nodes []string) (n int) {
	for _, a := range nodes {
		for _, b := range nodes {
			if a != b && s.MayConnect(workerOf(a), workerOf(b)) {
				n++
			}
		}
	}
	return n
}

func direction(dialed bool) string {
	if dialed {
		return "to"
	}
	return "from"
}

func workerOf(name string) string {
	worker, _, _ := strings.Cut(name, "/")
	return worker
}

// awaitWhole blocks until the mesh is as the schema asks for.
func (v *meshView) awaitWhole(lab *Lab, s *schema.Schema, nodes []string) error {
	differs := "nothing was reported yet"
	err := lab.Await("the mesh to be as the schema asks for", joinLimit, func() bool {
		differs = v.differs(s, nodes)
		return differs == ""
	})
	if err != nil {
		err = fmt.Errorf("%w: %s", err, differs)
	}
	return err
}

// wholeSince watches the mesh until a time, and gives since when it has been as the schema asks for,
// without a break; the zero time when it is not, and then in what.
func (v *meshView) wholeSince(ctx context.Context, s *schema.Schema, nodes []string, until time.Time) (since time.Time, differs string) {
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		now := time.Now()
		if differs = v.differs(s, nodes); differs != "" {
			since = time.Time{}
		} else if since.IsZero() {
			since = now
		}
		if !now.Before(until) {
			return since, differs
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return time.Time{}, context.Cause(ctx).Error()
		}
	}
}

// webSchema has links in one direction, in both, and between the variants of one worker.
const webSchema = `
left:
  _allow: [left, right]
  _connect: [left, right, sink]
  _commands: {_balanced: {echo: {method: {builtin: echo}}}}
right:
  _allow: [left]
  _connect: [left, sink]
  _commands: {_balanced: {echo: {method: {builtin: echo}}}}
sink:
  _allow: [left, right]
  _connect: []
  _commands: {_balanced: {echo: {method: {builtin: echo}}}}
`

// webNode names the i-th node of a mesh with that schema.
func webNode(i int) (worker, variant string) {
	worker = []string{"left", "right", "sink"}[i%3]
	return worker, fmt.Sprintf("%s%d", worker, i/3+1)
}
