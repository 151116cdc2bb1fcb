package chaos

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/meshctl/meshctl/internal/chaos/history"
	"github.com/meshctl/meshctl/internal/mesh/node"
	"github.com/meshctl/meshctl/internal/pause"
)

// soak runs a mesh of fifty nodes for a long time, most of which come and go under ever new names, and measures the
// memory of those that stay: the master, two nodes and a caller, each a process of its own.
func soak() Scenario {
	return Scenario{
		Name:  "soak",
		Shows: "50 nodes that come, go and are killed, under calls, jobs and broadcasts: memory flat (last third at most 10% above the second), calls to those that stay never fail",
		Short: Size{Time: 10 * time.Second},
		Long:  Size{Time: 30 * time.Minute},
		Run:   runSoak,
	}
}

const soakSchema = `
caller: {_allow: [], _connect: [steady, crowd], _commands: {}}
steady:
  _allow: [caller, crowd]
  _commands:
    _balanced:
      echo: {responds: true, method: {builtin: echo}}
      job: {queued: true, responds: false, concurrency: 4, retries: 100, max_depth: 100000, method: {builtin: echo}}
crowd:
  _allow: [caller]
  _connect: [steady]
  _commands:
    _balanced: {echo: {responds: true, method: {builtin: echo}}}
    _broadcast: {ping: {responds: true, method: {builtin: echo}}}
`

const (
	soakNodes  = 50
	soakSteady = 2 // and a caller
	soakCrowds = 2 // processes with the rest of the nodes

	// soakGrowth is what the memory may be more in the last third than in the second.
	soakGrowth = 0.10
	// soakDisturbed is the share of calls that may be lost with a node: they are made one after another, so that only
	// one is under way to whoever dies.
	soakDisturbed = 0.05
	// soakMemory is what no process may come near, in any form.
	soakMemory = 256 << 20
)

// soakRun is a run of it.
type soakRun struct {
	lab     *Lab
	master  *Master
	steady  []*Process // with the caller
	crowds  []*Process
	log     *history.Log
	kills   int
	started int // crowd processes

	samples map[string][]int64 // bytes, by process
}

func runSoak(ctx context.Context, lab *Lab) (report Report, err error) {
	s := &soakRun{lab: lab, samples: map[string][]int64{}}
	if err := s.start(ctx); err != nil {
		return report, err
	}
	if err := s.churn(ctx); err != nil {
		return report, err
	}
	s.whole(ctx, &report)
	caller := s.steady[len(s.steady)-1]
	if err := caller.Stop(joinLimit); err != nil {
		return report, err
	}
	report.Count("nodes", soakNodes)
	if err := s.traffic(&report); err != nil {
		return report, err
	}
	judgeMemory(&report, s.samples, lab.Long)
	_, _ = lab.Write("memory.csv", memoryTable(s.samples)) // for who looks into a kept folder
	return report, emptyQueues(ctx, lab, s.master, "steady", joinLimit, &report)
}

// start starts everything and waits until all nodes are there.
func (s *soakRun) start(ctx context.Context) (err error) {
	if s.log, err = s.lab.History("kills"); err != nil {
		return err
	}
	if s.master, err = s.lab.StartMaster(soakSchema, "--log-level", "warn"); err != nil {
		return err
	}
	for i := range soakSteady {
		p, err := s.lab.JoinProcess(s.master, "steady", fmt.Sprintf("s%d", i+1), "--log-level", "warn")
		if err != nil {
			return err
		}
		s.steady = append(s.steady, p)
	}
	for range soakCrowds {
		s.crowds = append(s.crowds, nil)
		if err := s.startCrowd(len(s.crowds) - 1); err != nil {
			return err
		}
	}
	if err := s.lab.Await("the crowd to be there", joinLimit, func() bool { return s.present(ctx) >= soakNodes-1 }); err != nil {
		return err
	}
	p, err := s.lab.Worker("caller", "soak-caller", soakCallerConfig{
		membership: membership{s.master.Addr, soakSchema}, History: s.lab.Path("caller.history"), Stats: s.lab.Path("caller.stats"), Answerers: soakSteady,
	})
	s.steady = append(s.steady, p)
	return err
}

// whole reports unless at some moment exactly those nodes are listed that there are: who has come is, and who has
// gone is not.
func (s *soakRun) whole(ctx context.Context, report *Report) {
	listed := 0
	late := s.lab.Await("the master to list the nodes that there are", joinLimit, func() bool {
		listed = s.present(ctx)
		return listed == soakNodes
	})
	report.Must(late == nil, "the master lists %d nodes at the end, and there are %d", listed, soakNodes)
}

// startCrowd starts a process with its share of the nodes, under new names.
func (s *soakRun) startCrowd(i int) (err error) {
	s.started++
	rest := soakNodes - soakSteady - 1
	nodes := rest / soakCrowds
	if i < rest%soakCrowds {
		nodes++
	}
	s.crowds[i], err = s.lab.Worker(fmt.Sprintf("crowd%d", i+1), "soak-crowd", soakCrowdConfig{
		membership: membership{s.master.Addr, soakSchema}, Nodes: nodes, Prefix: fmt.Sprintf("n%d", s.started),
		Seed: s.lab.Dice(fmt.Sprint("crowd", s.started)).Uint64(),
	})
	return err
}

// present counts the nodes that the master names; 0 when it does not.
func (s *soakRun) present(ctx context.Context) int {
	ctx, cancel := context.WithTimeout(ctx, askLimit)
	defer cancel()
	op, err := node.Connect(ctx, node.Config{Ring: s.lab.Ring, Master: s.master.Addr})
	if err != nil {
		return 0
	}
	defer op.Close()
	nodes, err := op.Nodes(ctx)
	if err != nil {
		return 0
	}
	return len(nodes)
}

// churn kills crowds, while their nodes come and go by themselves, and samples memory once a second.
func (s *soakRun) churn(ctx context.Context) error {
	dice := s.lab.Dice("kills")
	every := 20 * time.Second
	if !s.lab.Long {
		every = 4 * time.Second
	}
	begun := time.Now()
	next := begun.Add(every)
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for time.Since(begun) < s.lab.Size.Time {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		for _, p := range append(slices.Clone(s.steady), s.master.Process) {
			if !p.Running() {
				return fmt.Errorf("%s has ended; see %s", p.Name, p.Log)
			}
			bytes, err := residentMemory(p.PID())
			if err != nil {
				return err
			}
			s.samples[p.Name] = append(s.samples[p.Name], bytes)
		}
		s.lab.Doing("%s of %s, %d kills", time.Since(begun).Truncate(time.Second), s.lab.Size.Time, s.kills)
		if time.Now().Before(next) {
			continue
		}
		next = time.Now().Add(every/2 + time.Duration(dice.Int64N(int64(every))))
		i := dice.IntN(len(s.crowds))
		s.crowds[i].Kill()
		s.kills++
		if err := s.log.Add(history.Event{Kind: history.Killed, By: s.crowds[i].Name}); err != nil {
			return err
		}
		pause.For(ctx, time.Duration(dice.IntN(500))*time.Millisecond)
		if err := s.startCrowd(i); err != nil {
			return err
		}
	}
	return nil
}

// traffic reports what the caller counted, and what failed that may not.
func (s *soakRun) traffic(report *Report) error {
	text, err := os.ReadFile(s.lab.Path("caller.stats"))
	if err != nil {
		return err
	}
	var stats soakStats
	if err := json.Unmarshal(text, &stats); err != nil {
		return err
	}
	events, err := s.lab.Events()
	if err != nil {
		return err
	}
	missed := 0
	for _, e := range events {
		if e.Kind == history.Missed {
			missed++
			report.Must(false, "%s: %s", e.Job, e.Note)
		}
	}
	report.Count("kills of half the crowd", s.kills)
	report.Count("calls", stats.Calls)
	report.Count("lost with a killed node", stats.Disturbed)
	report.Count("jobs", stats.Jobs)
	report.Count("broadcasts", stats.Broadcasts)
	report.Count("other failures", missed)
	report.Must(stats.Calls > 0 && stats.Jobs > 0 && stats.Broadcasts > 0, "there was no traffic of some kind: %+v", stats)
	report.Must(float64(stats.Disturbed) <= soakDisturbed*float64(stats.Calls), "%d of %d calls were lost with a killed node, or found none", stats.Disturbed, stats.Calls)
	return nil
}

// soakWatched are the processes whose memory is judged.
func soakWatched() []string { return []string{"master", "s1", "s2", "caller"} }

// judgeMemory judges samples of bytes, by process. In the short form there are too few to judge growth.
func judgeMemory(report *Report, samples map[string][]int64, long bool) {
	const mib = 1 << 20
	for _, name := range soakWatched() {
		all := samples[name]
		if len(all) < 3 {
			report.Must(false, "%s: only %d samples of its memory", name, len(all))
			continue
		}
		second, last := median(all[len(all)/3:2*len(all)/3]), median(all[2*len(all)/3:])
		growth := float64(last)/float64(second) - 1
		report.Measure(name+"'s memory", float64(last)/mib, "MiB")
		report.Measure(name+"'s growth", 100*growth, "%")
		report.Must(slices.Max(all) < soakMemory, "%s had %d MiB", name, slices.Max(all)/mib)
		if long {
			report.Must(growth <= soakGrowth, "%s grew by %.1f%% from the second third to the last", name, 100*growth)
		}
	}
}

// memoryTable is the samples as CSV.
func memoryTable(samples map[string][]int64) string {
	lines := []string{"process,second,bytes"}
	for _, name := range soakWatched() {
		for i, bytes := range samples[name] {
			lines = append(lines, fmt.Sprintf("%s,%d,%d", name, i+1, bytes))
		}
	}
	return strings.Join(lines, "\n") + "\n"
}

func median(values []int64) int64 {
	sorted := slices.Sorted(slices.Values(values))
	return sorted[len(sorted)/2]
}
