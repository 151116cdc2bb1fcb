package chaos

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io/fs"
	"net/http"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/meshctl/meshctl/internal/bounded"
	"github.com/meshctl/meshctl/internal/mesh/node"
)

// startStop starts and stops a node as a process and one in this process, over and over, each with a
// queue in a file and a program of its own, and looks for what they leave behind.
func startStop() Scenario { return startStopWith(settleLimit, nil) }

// startStopWith is the same with another limit, and with more that happens in each round.
func startStopWith(settle time.Duration, also func(*Lab) error) Scenario {
	return Scenario{
		Name:  "start-stop",
		Shows: "nodes started and stopped over and over, processes and in-process: no goroutine, open file, process or file left",
		Short: Size{Count: 25},
		Long:  Size{Count: 1000},
		Run:   func(ctx context.Context, lab *Lab) (Report, error) { return runStartStop(ctx, lab, settle, also) },
	}
}

const startStopSchema = `
caller:
  _allow: [worker]
  _connect: [worker]
  _commands: {_balanced: {note: {queued: true, responds: false, method: {stdio: %[1]s}}}}
worker:
  _allow: [caller]
  _commands:
    _balanced:
      echo: {responds: true, method: {builtin: echo}}
      job: {queued: true, responds: false, method: {stdio: %[1]s}}
`

// killOneIn is how many nodes are stopped in order for each that is killed.
const killOneIn = 8

// settleLimit is how long what a node used may take to be gone: idle goroutines stay for some seconds.
const settleLimit = 30 * time.Second

// settleTime is how long nothing more may go away until the rounds that count begin.
const settleTime = 500 * time.Millisecond

func runStartStop(ctx context.Context, lab *Lab, settle time.Duration, also func(*Lab) error) (report Report, err error) {
	handler, err := json.Marshal([]string{lab.program, "chaos", "worker", "job-handler", lab.Path("handler.history")})
	if err != nil {
		return report, err
	}
	port, err := lab.Port()
	if err != nil {
		return report, err
	}
	metrics := "127.0.0.1:" + strconv.Itoa(port)
	master, err := lab.StartMaster(fmt.Sprintf(startStopSchema, handler), "--http", metrics)
	if err != nil {
		return report, err
	}
	s := &startStopRun{lab: lab, master: master, metrics: metrics, report: &report}
	for range 3 { // what is made once stays
		if err := s.round(ctx, false, false); err != nil {
			return report, err
		}
	}
	before, err := s.settled()
	if err != nil {
		return report, err
	}
	dice := lab.Dice("order")
	for n := range lab.Size.Count {
		lab.Doing("round %d of %d", n+1, lab.Size.Count)
		if err := s.round(ctx, dice.IntN(2) == 0, n%killOneIn == killOneIn-1); err != nil {
			return report, err
		}
		if also != nil {
			if err := also(lab); err != nil {
				return report, err
			}
		}
	}
	lab.Doing("looking for what is left")
	var after belongings
	late := lab.Await("everything to be gone", settle, func() bool {
		after, err = s.take()
		return err != nil || !after.more(before)
	})
	if err = cmp.Or(context.Cause(ctx), err); err != nil {
		return report, err
	}
	report.Count("starts", s.starts)
	report.Count("of them killed", s.kills)
	report.Count("goroutines left", max(0, after.goroutines-before.goroutines))
	report.Count("open files left", max(0, after.openFiles-before.openFiles))
	report.Count("master's goroutines left", max(0, after.masterGoroutines-before.masterGoroutines-ofRuntime()))
	if before.masterFiles > 0 {
		report.Count("master's open files left", max(0, after.masterFiles-before.masterFiles))
	} else {
		report.Note("the master's open files cannot be counted here")
	}
	report.Count("processes left", len(after.processes))
	report.Count("files left", len(after.files)-len(before.files))
	report.Must(late == nil, "before: %+v; after: %+v", before, after)
	return report, nil
}

type startStopRun struct {
	lab     *Lab
	master  *Master
	metrics string // address
	report  *Report

	starts, kills int
}

// round starts both nodes, has them work for each other, and ends both.
func (s *startStopRun) round(ctx context.Context, processFirst, kill bool) error {
	s.starts += 2
	process, err := s.lab.JoinProcess(s.master, "worker", "w1", "--log-level", "warn")
	if err != nil {
		return err
	}
	caller, err := s.lab.Join(s.master, node.Config{Worker: "caller", Variant: "c1", Queue: node.QueueEmbedded, DataDir: s.lab.Path("c1.data")})
	if err != nil {
		return err
	}
	if err := s.lab.Await("the nodes to be linked", joinLimit, func() bool { return len(caller.Peers()) == 1 }); err != nil {
		return err
	}
	if _, err := caller.Call(ctx, "worker.echo", json.RawMessage(`1`), node.CallOptions{Timeout: joinLimit}); err != nil {
		return err
	}
	job, err := json.Marshal(jobPayload{Job: fmt.Sprintf("round/%d", s.starts)})
	if err != nil {
		return err
	}
	if _, err := caller.Call(ctx, "worker.job", job, node.CallOptions{Timeout: joinLimit, Wait: node.WaitStored}); err != nil {
		return err
	}
	end := []func() error{caller.Stop, func() error {
		if kill {
			s.kills++
			process.KillAlone() // its program has to see for itself that it is not needed any more
			return nil
		}
		return process.Stop(joinLimit)
	}}
	if processFirst {
		slices.Reverse(end)
	}
	for _, f := range end {
		if err := f(); err != nil {
			s.report.Must(false, "round %d: %v", s.starts/2, err)
		}
	}
	s.lab.forget(process, caller)
	return context.Cause(ctx)
}

// belongings is what is there at a time.
type belongings struct {
	goroutines, openFiles         int
	masterGoroutines, masterFiles int
	processes                     []string // but for the master
	files                         []string // in the folders of the nodes, their temporary folder included
}

// ofRuntime is how many goroutines the runtime of Go starts when it first needs them, which the master's metrics
// count as well: two for each processor at most.
func ofRuntime() int { return 2 * runtime.NumCPU() }

// more tells whether there is more of anything than there was.
func (b belongings) more(before belongings) bool {
	return b.goroutines > before.goroutines || b.openFiles > before.openFiles || len(b.processes) > 0 ||
		b.masterGoroutines > before.masterGoroutines+ofRuntime() || b.masterFiles > before.masterFiles || !slices.Equal(b.files, before.files)
}

// settled looks until nothing more of what the first rounds used goes away: what they left counts as there before, and so
// would hide as much of what the others leave.
func (s *startStopRun) settled() (b belongings, err error) {
	var since time.Time
	_ = s.lab.Await("the first rounds to be over", settleLimit, func() bool {
		before := b
		if b, err = s.take(); len(b.processes) > 0 || b.goroutines < before.goroutines || b.openFiles < before.openFiles || since.IsZero() {
			since = time.Now()
		}
		return err != nil || time.Since(since) > settleTime
	})
	return b, cmp.Or(context.Cause(s.lab.ctx), err)
}

func (s *startStopRun) take() (b belongings, err error) {
	if b.openFiles, err = openFiles(); err != nil {
		return b, err
	}
	b.goroutines = runtime.NumGoroutine()
	if b.masterGoroutines, b.masterFiles, err = s.ofMaster(); err != nil {
		return b, err
	}
	all, err := processesAbout(s.lab.Dir)
	if err != nil {
		return b, err
	}
	for _, p := range all {
		if !strings.HasPrefix(p, strconv.Itoa(s.master.PID())+" ") {
			b.processes = append(b.processes, p)
		}
	}
	err = filepath.WalkDir(s.lab.Dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			b.files = append(b.files, strings.TrimPrefix(path, s.lab.Dir))
		}
		return err
	})
	return b, err
}

// ofMaster asks the master for its metrics.
func (s *startStopRun) ofMaster() (goroutines, files int, err error) {
	client := http.Client{Timeout: joinLimit, Transport: &http.Transport{DisableKeepAlives: true}}
	response, err := client.Get("http://" + s.metrics + "/metrics")
	if err != nil {
		return 0, 0, fmt.Errorf("ask the master for its metrics: %w", err)
	}
	defer response.Body.Close()
	text, err := bounded.ReadAll(response.Body, "the metrics", 1<<20)
	if err != nil {
		return 0, 0, err
	}
	for line := range strings.Lines(string(text)) {
		if value, ok := strings.CutPrefix(line, "go_goroutines "); ok {
			if goroutines, err = strconv.Atoi(strings.TrimSpace(value)); err != nil {
				return 0, 0, err
			}
		}
	}
	return goroutines, openFilesOf(s.master.PID()), nil
}
