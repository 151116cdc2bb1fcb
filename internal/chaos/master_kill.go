package chaos

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/meshctl/meshctl/internal/mesh/node"
	"github.com/meshctl/meshctl/internal/mesh/wire"
	"github.com/meshctl/meshctl/internal/pause"
)

// masterKill kills the master under calls. The nodes are in this process, so that what they lose is
// seen at once and fifty of them are possible on a small machine; the master is a process.
func masterKill() Scenario {
	return Scenario{
		Name:  "master-kill",
		Shows: "kill -9 of the master under calls: no link dropped, no call lost, 50 nodes converged within 2 s (short form: 5 s)",
		Short: Size{Count: 3},
		Long:  Size{Count: 100},
		Run:   runMasterKill,
	}
}

const (
	masterKillNodes   = 50
	masterKillCallers = 10 // of the nodes
	answerers         = masterKillNodes - masterKillCallers

	// convergeLimit is how long it may take; the short form runs beside other tests.
	convergeLimit      = 2 * time.Second
	convergeLimitShort = 5 * time.Second

	// awayLong is how long the master is away at most, once all have noticed.
	awayLong  = 4 * time.Second
	awayShort = time.Second
)

const masterKillSchema = `
caller: {_allow: [], _connect: [answerer], _commands: {}}
answerer:
  _allow: [caller]
  _commands: {_balanced: {echo: {responds: true, method: {builtin: echo}}}}
`

// mesh50 is the nodes, and what they lost.
type mesh50 struct {
	lab     *Lab
	master  *Master
	all     []*Node
	callers []*Node
	kills   []masterKillSeen
	links   []int // of each caller, at the end

	dropped, calls atomic.Int64
	mu             sync.Mutex
	lost           []string
}

// masterKillSeen is one kill.
type masterKillSeen struct {
	took  time.Duration // from when the master listened again until all nodes were declared and it named all of them
	calls int64         // while it was away
}

func runMasterKill(ctx context.Context, lab *Lab) (report Report, err error) {
	m := &mesh50{lab: lab}
	if err := m.start(); err != nil {
		return report, err
	}
	calling, stop := context.WithCancel(ctx)
	defer stop()
	var wg sync.WaitGroup
	for _, caller := range m.callers {
		wg.Go(func() { m.call(calling, caller) })
	}
	limit, away := convergeLimit, awayLong
	if !lab.Long {
		limit, away = convergeLimitShort, awayShort
	}
	dice := lab.Dice("kills")
	for n := range lab.Size.Count {
		lab.Doing("kill %d of %d", n+1, lab.Size.Count)
		k, err := m.round(time.Duration(dice.Int64N(int64(away))))
		if err != nil {
			return report, err
		}
		m.kills = append(m.kills, k)
		pause.For(ctx, time.Duration(dice.IntN(500))*time.Millisecond)
	}
	stop()
	wg.Wait()
	if err := context.Cause(ctx); err != nil {
		return report, err
	}
	for _, c := range m.callers {
		m.links = append(m.links, len(c.Peers()))
	}
	m.judge(&report, limit)
	return report, nil
}

// judge reports what was seen, and what of it may not be.
func (m *mesh50) judge(report *Report, limit time.Duration) {
	var took []time.Duration
	callsAway := int64(0)
	for n, k := range m.kills {
		report.Must(k.took <= limit, "kill %d: converged %s after the master was back", n+1, k.took.Round(time.Millisecond))
		report.Must(k.calls > 0, "kill %d: no call came to an end while the master was away", n+1)
		took = append(took, k.took)
		callsAway += k.calls
	}
	slices.Sort(took)
	report.Count("kills", len(took))
	report.Count("nodes", masterKillNodes)
	report.Count("calls", int(m.calls.Load()))
	report.Count("of them while the master was away", int(callsAway))
	report.Count("calls lost", len(m.lost))
	report.Count("links dropped", int(m.dropped.Load()))
	report.Took("median convergence", took[len(took)/2])
	report.Took("maximum convergence", took[len(took)-1])
	for _, l := range m.lost {
		report.Must(false, "%s", l)
	}
	report.Must(m.calls.Load() > 100, "only %d calls were made", m.calls.Load())
	report.Must(m.dropped.Load() == 0, "%d links were dropped", m.dropped.Load())
	for i, n := range m.links {
		report.Must(n == answerers, "caller %d has %d links at the end, not %d", i, n, answerers)
	}
}

// start starts the master and the nodes, and links them.
func (m *mesh50) start() (err error) {
	if m.master, err = m.lab.StartMaster(masterKillSchema); err != nil {
		return err
	}
	log, err := m.lab.Logger("nodes")
	if err != nil {
		return err
	}
	for i := range masterKillNodes {
		worker, variant := "answerer", fmt.Sprintf("b%d", i)
		if i >= answerers {
			worker, variant = "caller", fmt.Sprintf("a%d", i-answerers)
		}
		m.lab.Doing("node %d of %d joins", i+1, masterKillNodes)
		n, err := m.lab.Join(m.master, node.Config{
			Worker: worker, Variant: variant, Logger: log.With("node", variant),
			Hooks: node.Hooks{OnDisconnection: func(wire.Peer) { m.dropped.Add(1) }},
		})
		if err != nil {
			return err
		}
		m.all = append(m.all, n)
		if worker == "caller" {
			m.callers = append(m.callers, n)
		}
	}
	return m.lab.Await("all callers to have links to all answerers", joinLimit, func() bool {
		return !slices.ContainsFunc(m.callers, func(c *Node) bool { return len(c.Peers()) != answerers })
	})
}

// call makes one call after another. A call that fails is lost: answerers and links are all there.
func (m *mesh50) call(ctx context.Context, caller *Node) {
	for n := 0; pause.For(ctx, 2*time.Millisecond); n++ {
		payload := fmt.Sprintf(`{"caller":%q,"n":%d}`, caller.Name(), n)
		r, err := caller.Call(context.WithoutCancel(ctx), "answerer.echo", json.RawMessage(payload), node.CallOptions{Timeout: 30 * time.Second})
		m.calls.Add(1)
		if err == nil && string(r.Replies[0].Result) == payload {
			continue
		}
		m.mu.Lock()
		m.lost = append(m.lost, fmt.Sprintf("call %d of %s: %v", n, caller.Name(), err))
		m.mu.Unlock()
	}
}

// round kills the master, and leaves it away for some time.
func (m *mesh50) round(away time.Duration) (k masterKillSeen, err error) {
	m.master.Kill()
	if err := m.lab.Await("all nodes to notice that the master is gone", joinLimit, func() bool {
		return !slices.ContainsFunc(m.all, func(n *Node) bool { return n.Ready() })
	}); err != nil {
		return k, err
	}
	before := m.calls.Load()
	pause.For(m.lab.ctx, away)
	if err := m.master.Restart(); err != nil {
		return k, err
	}
	back := time.Now()
	k.calls = m.calls.Load() - before
	if err := m.lab.Await("all nodes to be declared", joinLimit, func() bool {
		return !slices.ContainsFunc(m.all, func(n *Node) bool { return !n.Ready() })
	}); err != nil {
		return k, err
	}
	var failed error
	err = m.lab.Await("the master to name all nodes", joinLimit, func() bool {
		var named []wire.NodeInfo
		named, failed = m.callers[0].Nodes(m.lab.ctx)
		return failed != nil || len(named) == len(m.all)
	})
	if err == nil {
		err = failed
	}
	k.took = time.Since(back)
	return k, err
}
