package chaos

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/meshctl/meshctl/internal/mesh/schema"
	"github.com/meshctl/meshctl/internal/pause"
)

// partition cuts small meshes in parts, some for less and some for longer than a peer may be silent,
// heals them, and looks at their links afterwards. Each seed is a mesh of its own, all processes of its own; several
// run at the same time, as they wait for most of it.
func partition() Scenario { return partitionOver(fabrics) }

// partitionOver is the same over networks that choose gives.
func partitionOver(choose func(*Lab) (weaver, error)) Scenario {
	return Scenario{
		Name:  "partition",
		Shows: "partitions at random, one a seed: 5 s after the heal the links are those that the schema asks for",
		Short: Size{Count: 6},
		Long:  Size{Count: 200},
		Run:   func(ctx context.Context, lab *Lab) (Report, error) { return runPartition(ctx, lab, choose) },
	}
}

const (
	atOnce     = 6               // meshes
	healLimit  = 5 * time.Second // within it a mesh is whole again
	longestCut = 9 * time.Second // of both parts together
	cutForSure = 5 * time.Second // after which who is cut is lost
)

// fabric is the network of one mesh. Place 0 is the master, the others are nodes. It is not safe for concurrent use.
type fabric interface {
	// address is where the process of a place binds, advertised what it tells others to dial ("":
	// the same), and master where it reaches the master.
	address(place int) (host string, port int)
	advertised(place int) string
	master(place int) string
	// start starts meshctl at a place.
	start(name string, place int, args ...string) (*Process, error)
	// watched is where this process reaches the master, whatever is cut.
	watched() (string, error)
	// cut drops everything between pairs of places, silently; what it cut before stays cut.
	cut(pairs [][2]int) error
	heal() error
	close()
}

// weaver makes networks of one kind.
type weaver struct {
	kind  string
	weave func(places int) (fabric, error)
}

func runPartition(ctx context.Context, lab *Lab, choose func(*Lab) (weaver, error)) (report Report, err error) {
	sch, err := schema.Parse("schema.yaml", []byte(webSchema))
	if err != nil {
		return report, err
	}
	file, err := lab.Write("schema.yaml", webSchema)
	if err != nil {
		return report, err
	}
	w, err := choose(lab)
	if err != nil {
		return report, err
	}
	var (
		mu       sync.Mutex
		results  []healed
		failures []error
		free     = make(chan struct{}, atOnce)
		wg       sync.WaitGroup
	)
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	for seed := range lab.Size.Count {
		select {
		case free <- struct{}{}:
		case <-ctx.Done():
		}
		if ctx.Err() != nil {
			break
		}
		wg.Go(func() {
			defer func() { <-free }()
			p := &parted{lab: lab, seed: seed, schema: sch, file: file, plan: newPlan(lab.Dice(fmt.Sprint(seed)))}
			h, err := p.run(ctx, w)
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				failures = append(failures, fmt.Errorf("seed %d (%s): %w", seed, p.plan, err))
				cancel(failures[0])
				return
			}
			results = append(results, h)
			lab.Doing("%d of %d seeds, by %s", len(results), lab.Size.Count, w.kind)
		})
	}
	wg.Wait()
	if err := cmp.Or(errors.Join(failures...), context.Cause(ctx)); err != nil {
		return report, err
	}
	judgePartition(&report, w.kind, results)
	return report, nil
}

func judgePartition(report *Report, kind string, all []healed) {
	slices.SortFunc(all, func(a, b healed) int { return cmp.Compare(a.seed, b.seed) })
	var took []time.Duration
	links, lost, long, late := 0, 0, 0, 0
	for _, h := range all {
		links += h.links
		lost += h.lost
		if h.bites {
			long++
			report.Must(h.lost+h.removed > 0, "seed %d (%s): nothing was lost in the cut, which was none", h.seed, h.plan)
		}
		report.Must(h.ended == "", "seed %d (%s): %s has ended", h.seed, h.plan, h.ended)
		if h.differs == "" {
			took = append(took, h.took)
			continue
		}
		late++
		after := "nor after " + joinLimit.String()
		if h.took > 0 {
			after = "it was after " + h.took.Round(10*time.Millisecond).String()
		}
		report.Must(false, "seed %d (%s): not whole %s after the heal: %s; %s", h.seed, h.plan, healLimit, h.differs, after)
	}
	report.Count("seeds, by "+kind, len(all))
	report.Count("cuts of "+cutForSure.String()+" and more", long)
	report.Count("links", links)
	report.Count("ends of links lost", lost)
	report.Count("not whole after "+healLimit.String(), late)
	if len(took) > 0 {
		slices.Sort(took)
		report.Took("median time to be whole", took[len(took)/2])
		report.Took("maximum time to be whole", took[len(took)-1])
	}
}

// healed is what came of one seed.
type healed struct {
	seed          int
	plan          plan
	bites         bool // somebody was cut for so long that it has to be noticed
	links         int  // that the schema asks for
	lost, removed int  // ends of links, and nodes by the master
	differs       string
	took          time.Duration // from the heal until it was whole; 0 when that took too long
	ended         string        // a process
}

// parted is the mesh of one seed.
type parted struct {
	lab    *Lab
	seed   int
	schema *schema.Schema
	file   string
	plan   plan

	fabric    fabric
	processes []*Process // by place
	names     []string   // of nodes
}

func (p *parted) run(ctx context.Context, w weaver) (h healed, err error) {
	if p.fabric, err = w.weave(p.plan.nodes + 1); err != nil {
		return h, err
	}
	defer func() {
		for _, x := range p.processes {
			x.Kill()
			p.lab.forget(x, nil)
		}
		p.fabric.close()
	}()
	if err := p.start(); err != nil {
		return h, err
	}
	master, err := p.fabric.watched()
	if err != nil {
		return h, err
	}
	view, err := watchMesh(ctx, p.lab, master)
	if err != nil {
		return h, err
	}
	defer view.close()
	if err := view.awaitWhole(p.lab, p.schema, p.names); err != nil {
		return h, err
	}
	for _, part := range p.plan.parts {
		if err := p.fabric.cut(part.pairs); err != nil {
			return h, err
		}
		pause.For(ctx, part.lasts)
		if err := p.fabric.heal(); err != nil {
			return h, err
		}
	}
	at := time.Now()
	since, differs := view.wholeSince(ctx, p.schema, p.names, at.Add(healLimit))
	if differs != "" && view.awaitWhole(p.lab, p.schema, p.names) == nil {
		since = time.Now()
	}
	if err := context.Cause(ctx); err != nil {
		return h, err
	}
	h = healed{seed: p.seed, plan: p.plan, bites: p.plan.bites(p.schema), links: linkCount(p.schema, p.names), differs: differs}
	if !since.IsZero() {
		h.took = max(since.Sub(at), time.Nanosecond)
	}
	all, err := countLosses(p.processes)
	if err != nil {
		return h, err
	}
	h.removed, h.lost = all.nodes, all.links
	for _, x := range p.processes {
		if !x.Running() {
			h.ended = x.Name
		}
	}
	return h, nil
}

// start starts the master and all nodes.
func (p *parted) start() error {
	add := func(name string, place int, args ...string) error {
		host, port := p.fabric.address(place)
		portFlag := "--port"
		if place > 0 {
			portFlag = "--mesh-port"
			args = append(args, "--master", p.fabric.master(place))
			if other := p.fabric.advertised(place); other != "" {
				args = append(args, "--advertise", other)
			}
		}
		args = append(args, "--schema", p.file, "--host", host, portFlag, fmt.Sprint(port))
		x, err := p.fabric.start(fmt.Sprintf("%d-%s", p.seed, name), place, args...)
		if err == nil {
			p.processes = append(p.processes, x)
		}
		return err
	}
	if err := add("master", 0, "serve-master", "--discovery-port", "0"); err != nil {
		return err
	}
	for i := range p.plan.nodes {
		worker, variant := webNode(i)
		p.names = append(p.names, worker+"/"+variant)
		if err := add(variant, i+1, "join", worker, "--variant", variant); err != nil {
			return err
		}
	}
	return nil
}

// plan is how one mesh is cut.
type plan struct {
	nodes int
	parts []part // one after another
}

// part is a cut of pairs of places.
type part struct {
	kind  string
	pairs [][2]int
	lasts time.Duration
}

func newPlan(dice *rand.Rand) plan {
	p := plan{nodes: 5 + dice.IntN(3)}
	for range 1 + dice.IntN(2) {
		kind, pairs := newCut(dice, p.nodes)
		lasts := 500*time.Millisecond + time.Duration(dice.Int64N(int64(longestCut)))
		p.parts = append(p.parts, part{kind, pairs, lasts})
	}
	if len(p.parts) == 2 {
		p.parts[0].lasts /= 2
		p.parts[1].lasts /= 2
	}
	return p
}

// newCut draws who is cut from whom.
func newCut(dice *rand.Rand, nodes int) (kind string, pairs [][2]int) {
	switch dice.IntN(4) {
	case 0: // some pairs of nodes
		for a := 1; a <= nodes; a++ {
			for b := a + 1; b <= nodes; b++ {
				if dice.IntN(3) == 0 {
					pairs = append(pairs, [2]int{a, b})
				}
			}
		}
		if len(pairs) == 0 {
			pairs = [][2]int{{1, 2}}
		}
		return "pairs", pairs
	case 1: // two groups, the master in one of them, or seen by both
		first := 1 + dice.IntN(nodes-1) // of the nodes
		order := dice.Perm(nodes)
		apart := dice.IntN(3) > 0
		for _, a := range order[:first] {
			for _, b := range order[first:] {
				pairs = append(pairs, [2]int{a + 1, b + 1})
			}
			if apart {
				pairs = append(pairs, [2]int{0, a + 1})
			}
		}
		return "groups", pairs
	case 2: // one node from all others and the master
		alone := 1 + dice.IntN(nodes)
		for b := range nodes + 1 {
			if b != alone {
				pairs = append(pairs, [2]int{alone, b})
			}
		}
		return "a node alone", pairs
	}
	// The master from some nodes, or all.
	all := dice.IntN(2) == 0
	for a := 1; a <= nodes; a++ {
		if all || dice.IntN(2) == 0 {
			pairs = append(pairs, [2]int{0, a})
		}
	}
	if len(pairs) == 0 {
		pairs = [][2]int{{0, 1}}
	}
	return "the master", pairs
}

// bites tells whether a link, of nodes or to the master, is cut for so long that its loss has to be noticed.
func (p plan) bites(s *schema.Schema) bool {
	return slices.ContainsFunc(p.parts, func(x part) bool {
		return x.lasts >= cutForSure && slices.ContainsFunc(x.pairs, func(pair [2]int) bool {
			a, b := min(pair[0], pair[1]), max(pair[0], pair[1])
			if a == 0 {
				return true
			}
			from, _ := webNode(a - 1)
			to, _ := webNode(b - 1)
			return s.Links(from, to)
		})
	})
}

func (p plan) String() string {
	words := make([]string, len(p.parts))
	for i, x := range p.parts {
		words[i] = fmt.Sprintf("%s cut for %s", x.kind, x.lasts.Round(100*time.Millisecond))
	}
	return fmt.Sprintf("%d nodes, %s", p.nodes, strings.Join(words, ", then "))
}
