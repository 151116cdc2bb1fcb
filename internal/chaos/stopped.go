package chaos

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/meshctl/meshctl/internal/mesh/link"
	"github.com/meshctl/meshctl/internal/mesh/node"
	"github.com/meshctl/meshctl/internal/mesh/schema"
	"github.com/meshctl/meshctl/internal/mesh/wire"
	"github.com/meshctl/meshctl/internal/pause"
)

// stopped freezes processes for a second, which is less than what makes a peer lost: nobody may take
// anybody for lost, neither those who wait for a frozen one, nor that one when it goes on.
func stopped() Scenario { return stoppedWith() }

// stoppedWith is the same with further arguments of the master and the nodes.
func stoppedWith(args ...string) Scenario {
	return Scenario{
		Name:  "stopped",
		Shows: "SIGSTOP for 1 s at random, nodes and the master: nobody is taken for lost, no call fails",
		Short: Size{Count: 12},
		Long:  Size{Count: 200},
		Run:   func(ctx context.Context, lab *Lab) (Report, error) { return runStopped(ctx, lab, args) },
	}
}

const (
	stoppedNodes = 6 // processes
	stopTime     = time.Second
	// stopRest is how long the same process goes on at least until it is stopped again.
	stopRest = time.Second
	// stallLimit is how long nobody may get to run on a machine on which a stop of a second is one of a second, and
	// not of twice that.
	stallLimit = 300 * time.Millisecond
)

func runStopped(ctx context.Context, lab *Lab, args []string) (report Report, err error) {
	master, err := lab.StartMaster(webSchema, args...)
	if err != nil {
		return report, err
	}
	sch, err := schema.Parse("schema.yaml", []byte(webSchema))
	if err != nil {
		return report, err
	}
	victims := []*Process{master.Process}
	var names []string
	for i := range stoppedNodes {
		worker, variant := webNode(i)
		p, err := lab.JoinProcess(master, worker, variant, args...)
		if err != nil {
			return report, err
		}
		victims, names = append(victims, p), append(names, worker+"/"+variant)
	}
	var lostHere atomic.Int64
	caller, err := lab.Join(master, node.Config{
		Worker: "left", Variant: "caller", Hooks: node.Hooks{OnDisconnection: func(wire.Peer) { lostHere.Add(1) }},
	})
	if err != nil {
		return report, err
	}
	names = append(names, "left/caller")
	view, err := watchMesh(ctx, lab, master.Addr)
	if err != nil {
		return report, err
	}
	defer view.close()
	if err := view.awaitWhole(lab, sch, names); err != nil {
		return report, err
	}

	// What did not work at once while all of them started is no loss.
	before, err := countLosses(victims)
	if err != nil {
		return report, err
	}
	calling, stop := context.WithCancel(ctx)
	defer stop()
	calls := stoppedCalls{caller: caller}
	var callers sync.WaitGroup
	for _, worker := range []string{"left", "right", "sink"} {
		callers.Go(func() { calls.make(calling, worker+".echo") })
	}
	stalled := make(chan time.Duration, 1)
	go func() { stalled <- longestStall(calling) }()
	err = freezeAtRandom(ctx, lab, victims)
	// What was taken for lost at the end of the last stop would be noticed by now.
	pause.For(ctx, link.HeartbeatLAN)
	stop()
	stall := <-stalled
	callers.Wait()
	if err != nil {
		return report, err
	}

	for _, p := range victims {
		report.Must(p.Running(), "%s has ended", p.Name)
	}
	after, err := countLosses(victims)
	if err != nil {
		return report, err
	}
	lost := after.links - before.links + int(lostHere.Load())
	left, masterless := after.nodes-before.nodes, after.masters-before.masters
	differs := view.differs(sch, names)
	if lost+left+masterless > 0 && stall > stallLimit {
		return report, tooBusy(stall)
	}
	report.Count("stops", lab.Size.Count)
	report.Count("links lost", lost)
	report.Count("nodes removed by the master", left)
	report.Count("times the master was lost", masterless)
	report.Count("calls", int(calls.made.Load()))
	report.Count("calls failed", len(calls.failed))
	report.Took("slowest call", time.Duration(calls.slowest.Load()))
	report.Took("longest stall of the machine", stall)
	report.Must(lost == 0, "%d links were lost", lost)
	report.Must(left == 0, "the master removed nodes %d times", left)
	report.Must(masterless == 0, "nodes lost the master %d times", masterless)
	report.Must(caller.Ready(), "the caller is not declared at the end")
	report.Must(differs == "", "at the end: %s", differs)
	report.Must(calls.made.Load() > 100, "only %d calls were made", calls.made.Load())
	for _, f := range calls.failed {
		report.Must(false, "%s", f)
	}
	return report, nil
}

// losses is how often somebody was taken for lost, by all that processes have logged so far.
type losses struct {
	links   int // by nodes, each for itself
	nodes   int // by the master
	masters int // by nodes
}

func countLosses(processes []*Process) (n losses, err error) {
	for _, p := range processes {
		text, err := p.Logged()
		if err != nil {
			return n, err
		}
		n.links += strings.Count(text, `"msg":"disconnected"`)
		n.nodes += strings.Count(text, `"msg":"node left"`)
		n.masters += strings.Count(text, `"msg":"not connected to the master"`)
	}
	return n, nil
}

// freezeAtRandom freezes processes, one every half a second about, so that some are frozen at the same time.
func freezeAtRandom(ctx context.Context, lab *Lab, victims []*Process) error {
	dice := lab.Dice("stops")
	failed := make(chan error, lab.Size.Count)
	var wg sync.WaitGroup
	defer wg.Wait()
	again := make([]time.Duration, len(victims)) // when each may be frozen again, from the begin
	at, begun := time.Duration(0), time.Now()
	for n := range lab.Size.Count {
		at += 350*time.Millisecond + time.Duration(dice.IntN(300))*time.Millisecond
		v := dice.IntN(len(victims))
		for again[v] > at {
			v = (v + 1) % len(victims) // there are more than can be busy
		}
		again[v] = at + stopTime + stopRest
		if !pause.For(ctx, time.Until(begun.Add(at))) {
			return context.Cause(ctx)
		}
		lab.Doing("stop %d of %d: %s", n+1, lab.Size.Count, victims[v].Name)
		if err := victims[v].Freeze(); err != nil {
			return fmt.Errorf("stop %s: %w", victims[v].Name, err)
		}
		wg.Go(func() {
			pause.For(ctx, stopTime)
			if err := victims[v].Thaw(); err != nil {
				failed <- fmt.Errorf("let %s go on: %w", victims[v].Name, err)
			}
		})
	}
	wg.Wait()
	select {
	case err := <-failed:
		return err
	default:
		return context.Cause(ctx)
	}
}

// tooBusy says that nothing can be judged on this machine at present.
func tooBusy(stall time.Duration) error {
	return fmt.Errorf("the machine is too busy: this process itself did not run for %s", stall)
}

// longestStall is for how long at most this process, which nobody stops, did not get to run until ctx ended.
func longestStall(ctx context.Context) (worst time.Duration) {
	const look = 10 * time.Millisecond
	for last := time.Now(); pause.For(ctx, look); {
		now := time.Now()
		worst = max(worst, now.Sub(last)-look)
		last = now
	}
	return worst
}

// stoppedCalls are the calls that are made meanwhile.
type stoppedCalls struct {
	caller        *Node
	made, slowest atomic.Int64

	mu     sync.Mutex
	failed []string
}

func (c *stoppedCalls) make(ctx context.Context, target string) {
	for pause.For(ctx, 5*time.Millisecond) {
		begun := time.Now()
		_, err := c.caller.Call(context.WithoutCancel(ctx), target, json.RawMessage(`1`), node.CallOptions{Timeout: joinLimit})
		took := int64(time.Since(begun))
		c.made.Add(1)
		if err != nil {
			c.mu.Lock()
			c.failed = append(c.failed, fmt.Sprintf("%s after %s: %v", target, time.Duration(took), err))
			c.mu.Unlock()
		}
		for was := c.slowest.Load(); took > was && !c.slowest.CompareAndSwap(was, took); was = c.slowest.Load() {
		}
	}
}
