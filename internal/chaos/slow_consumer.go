package chaos

import (
	"bufio"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/meshctl/meshctl/internal/mesh/meshtest/fault"
	"github.com/meshctl/meshctl/internal/mesh/wire"
	"github.com/meshctl/meshctl/internal/pause"
)

// slowConsumer floods a node, at first while it reads all that comes, and then while it reads slowly: for half
// of the time what it is sent comes through a throttled proxy, for the other half it is frozen again and again, for less than makes
// it lost. So what calls to others take longer comes of its slowness, and not of the work of the flood.
func slowConsumer() Scenario { return slowConsumerLimited(slowRounds, slowMemory, quickLimit) }

// slowConsumerLimited is the same with other limits.
func slowConsumerLimited(rounds int, memory int64, quick func(before time.Duration) time.Duration) Scenario {
	return Scenario{
		Name:  "slow-consumer",
		Shows: "a flooded node that reads slowly: memory within the limit, p99 of other calls at most twice what it was in the same flood before, overloads typed, nobody lost",
		Short: Size{Time: 6 * time.Second},
		Long:  Size{Time: time.Minute},
		Run: func(ctx context.Context, lab *Lab) (Report, error) {
			return runSlowConsumer(ctx, lab, rounds, memory, quick)
		},
	}
}

const (
	slowNodes  = 1
	quickNodes = 2
	// linkBound is what may wait to be sent over one native link; see docs/failures.md.
	linkBound = 32 << 20
	// slowMemory is what any process may grow by: twice what may wait for the slow one, as Go's heap grows to twice
	// what is in use before it is cleaned up, and once more for what is not heap.
	slowMemory = 3 * linkBound
	// slowThrottle is how much the slow node gets a second.
	slowThrottle = 1 << 20
	slowFrozen   = 1500 * time.Millisecond
	slowGoing    = 500 * time.Millisecond
)

// quickLimit is what the p99 of calls to others may become. Below some milliseconds it says
// more of how busy the machine is with other things.
func quickLimit(before time.Duration) time.Duration { return 2 * max(before, 2*time.Millisecond) }

const slowSchema = `
caller: {_allow: [], _connect: [slow, quick], _commands: {}}
slow:
  _allow: [caller]
  _commands: {_balanced: {tell: {responds: false, method: {builtin: echo}}}}
quick:
  _allow: [caller]
  _commands: {_balanced: {echo: {responds: true, method: {builtin: echo}}}}
`

// slowMesh is the mesh of a slow consumer.
type slowMesh struct {
	lab       *Lab
	report    *Report
	limit     func(before time.Duration) time.Duration // of p99
	master    *Master
	processes []*Process // all but the callers
	slow      *Process
	proxy     *fault.Proxy // in front of the slow one; nil where there can be none
}

// slowRounds is how often what comes out slower than it may be is measured at most: a machine that is busy with
// something else is slow now and then, a consumer that harms others does it each time.
const slowRounds = 3

func runSlowConsumer(ctx context.Context, lab *Lab, most int, memory int64, limit func(before time.Duration) time.Duration) (report Report, err error) {
	m := &slowMesh{lab: lab, report: &report, limit: limit}
	if err := m.start(); err != nil {
		return report, err
	}
	var r *slowRound
	rounds := 0
	for again := true; again; again = rounds < most && len(r.tooSlow) > 0 {
		rounds++
		if r, err = m.round(ctx, rounds); err != nil {
			return report, err
		}
		report.Must(r.codes[wire.CodeOverloaded] > 0, "the flood met no bound")
		for code, n := range r.codes {
			report.Must(code == "" || code == wire.CodeOverloaded, "%d calls of the flood failed with %s", n, code)
		}
		report.Must(r.failed == 0, "%d calls to others failed", r.failed)
		report.Must(r.lost == 0, "%d links were lost", r.lost)
		for name, grown := range r.grown {
			report.Must(grown <= memory, "the memory of %s grew by %d MiB, over %d MiB", name, grown>>20, memory>>20)
		}
	}
	for _, t := range r.tooSlow {
		report.Must(false, "%s, in the last of %d rounds", t, rounds)
	}
	report.Count("rounds", rounds)
	report.Count("calls of the flood accepted", r.codes[""])
	report.Count("overloaded", r.codes[wire.CodeOverloaded])
	for _, name := range slowCallers() {
		report.Took(name+"'s p99 without the flood", r.quiet[name])
		report.Took(name+"'s p99 before", r.before[name])
		report.Took(name+"'s p99 during", r.during[name])
	}
	others := int64(0)
	for name, grown := range r.grown {
		if name != flooder {
			others = max(others, grown)
		}
	}
	report.Measure("growth of the flooder's memory", float64(r.grown[flooder])/(1<<20), "MiB")
	report.Measure("of others' at most", float64(others)/(1<<20), "MiB")
	report.Count("links lost", r.lost)
	return report, nil
}

// The callers of a round.
const (
	flooder   = "flooder"
	bystander = "bystander"
)

func slowCallers() []string { return []string{flooder, bystander} }

// slowRound is what was measured in one round.
type slowRound struct {
	codes map[wire.Code]int // of the flood
	// p99 of a caller's calls to the quick nodes, without the flood, in it, and while it meets a slow node
	quiet, before, during map[string]time.Duration

	failed  int // of those calls
	tooSlow []string
	lost    int
	grown   map[string]int64 // memory of a process, from the begin of the flood
}

// round starts callers, and floods the slow node after a while.
func (m *slowMesh) round(ctx context.Context, number int) (*slowRound, error) {
	lab, baseline := m.lab, m.lab.Size.Time/2
	callers := map[string]*Process{}
	calls := func(name string) string { return lab.Path(fmt.Sprintf("%s%d.calls", name, number)) }
	flood := fmt.Sprintf("flood%d", number)
	for _, name := range slowCallers() {
		cfg := slowCallerConfig{membership: membership{m.master.Addr, slowSchema}, Variant: fmt.Sprint(name, number), Calls: calls(name)}
		if name == flooder {
			cfg.Flood = lab.Path(flood)
		}
		p, err := lab.Worker(name, "slow-caller", cfg)
		if err != nil {
			return nil, err
		}
		callers[name] = p
	}
	if err := lab.Await("the callers to be linked", joinLimit, func() bool {
		return !slices.ContainsFunc(slowCallers(), func(name string) bool { _, err := os.Stat(calls(name)); return err != nil })
	}); err != nil {
		return nil, err
	}
	lab.Doing("round %d: before the flood", number)
	begun := time.Now()
	pause.For(ctx, baseline)
	memory := newMemory(append(slices.Collect(maps.Values(callers)), m.processes...))
	measuring, stop := context.WithCancel(ctx)
	measured := make(chan error, 1)
	go func() { measured <- memory.follow(measuring) }()
	lab.Doing("round %d: the flood, while all read what they get", number)
	floodAt := time.Now()
	if _, err := lab.Write(flood, ""); err != nil {
		stop()
		return nil, err
	}
	pause.For(ctx, baseline)
	slowAt := time.Now()
	lostBefore, err := m.lost() // by callers of the round before, which have left
	stalled := make(chan time.Duration, 1)
	go func() { stalled <- longestStall(measuring) }()
	if err == nil {
		err = m.slowDown(ctx)
	}
	over := time.Now()
	stop()
	stall := <-stalled
	if err := cmp.Or(context.Cause(ctx), err, <-measured); err != nil {
		return nil, err
	}
	r := &slowRound{codes: map[wire.Code]int{}, quiet: map[string]time.Duration{}, before: map[string]time.Duration{}, during: map[string]time.Duration{}, grown: memory.grown()}
	if r.lost, err = m.lost(); err != nil {
		return nil, err
	}
	if r.lost -= lostBefore; r.lost > 0 && stall > stallLimit { // who is frozen on such a machine is silent for longer
		return nil, tooBusy(stall)
	}
	for _, name := range slowCallers() {
		if err := callers[name].Stop(joinLimit); err != nil {
			return nil, err
		}
		made, err := readSlowCalls(calls(name))
		if err != nil {
			return nil, err
		}
		if err := r.judge(name, made, []time.Time{begun, floodAt, slowAt, over}, m.limit); err != nil {
			return nil, err
		}
	}
	return r, nil
}

// judge looks at the calls of one caller before the flood, in the flood, and while it meets a slow node.
func (r *slowRound) judge(name string, calls []slowCall, phases []time.Time, limit func(before time.Duration) time.Duration) error {
	for _, c := range calls {
		if c.To == "slow" {
			r.codes[c.Code]++
		}
	}
	var p [3]time.Duration
	for i := range p {
		took, failed := quickTimes(calls, phases[i], phases[i+1])
		if len(took) < 50 {
			return fmt.Errorf("the %s made %d calls, too few to judge from: the machine is too busy", name, len(took))
		}
		p[i] = p99(took)
		r.failed += failed
	}
	r.quiet[name], r.before[name], r.during[name] = p[0], p[1], p[2]
	a, b := p[1], p[2]
	if b > limit(a) {
		r.tooSlow = append(r.tooSlow, fmt.Sprintf("the %s's p99 went from %s to %s, over %s", name, a, b, limit(a)))
	}
	return nil
}

// lost counts the links that anybody has lost so far.
func (m *slowMesh) lost() (n int, err error) {
	files, err := filepath.Glob(m.lab.Path("*.log"))
	for _, f := range files {
		text, err := os.ReadFile(f)
		if err != nil {
			return 0, err
		}
		n += strings.Count(string(text), `"msg":"disconnected"`)
	}
	return n, err
}

// start starts all processes but the callers.
func (m *slowMesh) start() (err error) {
	lab := m.lab
	if m.master, err = lab.StartMaster(slowSchema); err != nil {
		return err
	}
	m.processes = append(m.processes, m.master.Process)
	port, err := lab.Port()
	if err != nil {
		return err
	}
	args := []string{"--mesh-port", strconv.Itoa(port)}
	if runtime.GOOS == "linux" { // which has all of 127.0.0.0/8
		addr := strconv.Itoa(port)
		m.proxy, err = fault.Listen(fault.Config{Listen: net.JoinHostPort(proxiedHost, addr), To: net.JoinHostPort("127.0.0.1", addr)})
		if err != nil {
			return err
		}
		lab.Defer(m.proxy.Close)
		args = append(args, "--advertise", proxiedHost)
	}
	if m.slow, err = lab.JoinProcess(m.master, "slow", "slow1", args...); err != nil {
		return err
	}
	m.processes = append(m.processes, m.slow)
	for i := range quickNodes {
		p, err := lab.JoinProcess(m.master, "quick", fmt.Sprintf("quick%d", i+1))
		if err != nil {
			return err
		}
		m.processes = append(m.processes, p)
	}
	return nil
}

// slowDown makes the slow node slow, in one way and then in the other.
func (m *slowMesh) slowDown(ctx context.Context) error {
	half := m.lab.Size.Time / 2
	if m.proxy != nil {
		m.lab.Doing("the slow node gets %d KiB a second", slowThrottle>>10)
		if err := m.proxy.Set(fault.Faults{Up: fault.Line{Throttle: slowThrottle}}); err != nil {
			return err
		}
		pause.For(ctx, half)
		if err := m.proxy.Set(fault.Faults{}); err != nil {
			return err
		}
	}
	m.lab.Doing("the slow node is frozen again and again")
	for end := time.Now().Add(half); time.Now().Before(end) && ctx.Err() == nil; {
		if err := m.slow.Freeze(); err != nil {
			return err
		}
		pause.For(ctx, slowFrozen)
		if err := m.slow.Thaw(); err != nil {
			return err
		}
		pause.For(ctx, slowGoing)
	}
	return nil
}

// memory is how much of it processes use, from when it was made.
type memory struct {
	processes    []*Process
	before, most map[string]int64 // bytes
}

func newMemory(processes []*Process) *memory {
	return &memory{processes: processes, before: map[string]int64{}, most: map[string]int64{}}
}

// follow looks again and again until ctx ends.
func (m *memory) follow(ctx context.Context) error {
	for {
		for _, p := range m.processes {
			bytes, err := residentMemory(p.PID())
			if err != nil {
				return fmt.Errorf("%s: %w", p.Name, err)
			}
			if m.before[p.Name] == 0 {
				m.before[p.Name] = bytes
			}
			m.most[p.Name] = max(m.most[p.Name], bytes)
		}
		if !pause.For(ctx, 100*time.Millisecond) {
			return nil
		}
	}
}

// grown is by how many bytes each process has grown. It may be called when follow has returned.
func (m *memory) grown() map[string]int64 {
	all := map[string]int64{}
	for name, before := range m.before {
		all[name] = m.most[name] - before
	}
	return all
}

func readSlowCalls(file string) (all []slowCall, err error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); ; {
		if !lines.Scan() {
			return all, lines.Err()
		}
		var c slowCall
		if err := json.Unmarshal(lines.Bytes(), &c); err != nil {
			return nil, fmt.Errorf("read %s: %w", file, err)
		}
		all = append(all, c)
	}
}

// quickTimes gives how long calls to the quick nodes took that began within a time, and how many failed.
func quickTimes(calls []slowCall, from, to time.Time) (took []time.Duration, failed int) {
	for _, c := range calls {
		switch {
		case c.To != "quick" || c.At.Before(from) || !c.At.Before(to):
		case c.Code != "":
			failed++
		default:
			took = append(took, c.Took)
		}
	}
	slices.Sort(took)
	return took, failed
}

// p99 is of sorted times, of which there are some.
func p99(sorted []time.Duration) time.Duration { return sorted[len(sorted)*99/100] }
