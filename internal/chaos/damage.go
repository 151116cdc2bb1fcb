package chaos

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/meshctl/meshctl/internal/chaos/history"
	"github.com/meshctl/meshctl/internal/mesh/node"
	"github.com/meshctl/meshctl/internal/mesh/wire"
	"github.com/meshctl/meshctl/internal/pause"
)

// damage takes away what a node with a queue stands on: the program that does the work, the room on its
// disk, and parts of its file.
func damage() Scenario {
	return Scenario{
		Name:  "damage",
		Shows: "handler killed with -9, disk full, store file cut off at every class of offset: a clear error, the rest of the queue intact, the node up",
		Short: Size{Count: 1},
		Long:  Size{Count: 5},
		Run: func(ctx context.Context, lab *Lab) (report Report, err error) {
			d := &damageRun{lab: lab, report: &report}
			for _, step := range []func(context.Context) error{d.start, d.killProgram, d.fillDisk, d.cutOff} {
				if err := step(ctx); err != nil {
					return report, err
				}
			}
			return report, nil
		},
	}
}

// The program works only while its gate is open.
const damageSchema = `
caller: {_allow: [], _connect: [worker], _commands: {}}
worker:
  _allow: [caller]
  _commands:
    _balanced:
      echo: {responds: true, method: {builtin: echo}}
      job: {queued: true, responds: false, concurrency: 4, retries: 1000, max_depth: 100000, method: {stdio: %s}}
`

// killsEach is how often the program is killed for each unit of the size. It is started again after 100 ms at
// first and 10 s at last, so that many kills take long.
const killsEach = 4

// damageRun is a run of it. Each part has a node, or several, of its own, one at a time.
type damageRun struct {
	lab    *Lab
	report *Report
	master *Master
	caller *Node
	log    *history.Log // of what the caller and we do
	sent   atomic.Int64
	mu     sync.Mutex // of report, while files are cut off
}

// must is Report.Must for several goroutines.
func (d *damageRun) must(ok bool, format string, args ...any) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.report.Must(ok, format, args...)
}

func (d *damageRun) start(context.Context) (err error) {
	if d.log, err = d.lab.History("caller"); err != nil {
		return err
	}
	program, err := json.Marshal([]string{d.lab.program, "chaos", "worker", "job-handler", d.lab.Path("handler.history"), d.lab.Path("gate")})
	if err != nil {
		return err
	}
	if d.master, err = d.lab.StartMaster(fmt.Sprintf(damageSchema, program)); err != nil {
		return err
	}
	d.caller, err = d.lab.Join(d.master, node.Config{Worker: "caller", Variant: "caller"})
	return err
}

// gate lets the program work, or not.
func (d *damageRun) gate(open bool) error {
	if open {
		return os.WriteFile(d.lab.Path("gate"), nil, 0o600)
	}
	err := os.Remove(d.lab.Path("gate"))
	if os.IsNotExist(err) {
		return nil
	}
	return err
}

// linked waits until the caller has a link to a node, or that has ended.
func (d *damageRun) linked(p *Process) error {
	err := d.lab.Await("a link to "+p.Name, joinLimit, func() bool {
		for _, peer := range d.caller.Peers() {
			if peer.Variant == p.Name {
				return true
			}
		}
		return !p.Running()
	})
	if err == nil && !p.Running() {
		err = fmt.Errorf("%s has ended; see %s", p.Name, p.Log)
	}
	return err
}

// send sends one more job to a node, and gives its name once it is accepted.
func (d *damageRun) send(ctx context.Context, variant string, fill int) (string, error) {
	job := fmt.Sprintf("%s/%d", variant, d.sent.Add(1))
	payload, err := json.Marshal(jobPayload{Job: job, Fill: strings.Repeat("x", fill)})
	if err != nil {
		return "", err
	}
	if err := d.log.Add(history.Event{Kind: history.Sent, Job: job}); err != nil {
		return "", err
	}
	_, err = d.caller.Call(ctx, "worker.job", payload, node.CallOptions{Only: []string{variant}, Wait: node.WaitStored, Key: job, Timeout: 10 * time.Second})
	if err != nil {
		return "", err
	}
	return job, d.log.Add(history.Event{Kind: history.Accepted, Job: job})
}

// came judges the jobs that one node was sent.
func (d *damageRun) came(variant string, rules history.Rules) (history.Jobs, error) {
	events, err := d.lab.Events()
	if err != nil {
		return history.Jobs{}, err
	}
	var own []history.Event
	for _, e := range events {
		if e.Kind == history.Killed || strings.HasPrefix(e.Job, variant+"/") {
			own = append(own, e)
		}
	}
	return history.CheckJobs(own, rules), nil
}

// done waits until all jobs that a node has accepted are done.
func (d *damageRun) done(p *Process, rules history.Rules) (came history.Jobs, err error) {
	var failed error
	// Those that have failed several times wait for up to a minute, give or take a third, before their next try.
	const patience = 90 * time.Second
	best, since := -1, time.Now()
	_ = d.lab.Await("all jobs to be done", longLimit, func() bool {
		if came, failed = d.came(p.Name, rules); came.Done > best {
			best, since = came.Done, time.Now()
		}
		return failed != nil || len(came.Lost) == 0 || time.Since(since) > patience || !pause.For(d.lab.ctx, 50*time.Millisecond)
	})
	return came, cmp.Or(context.Cause(d.lab.ctx), failed)
}

// end waits until all jobs that a node has accepted are done, ends it, which it has to do in order, and reports what may
// not have come of them.
func (d *damageRun) end(p *Process, rules history.Rules) (came history.Jobs, err error) {
	if _, err := d.done(p, rules); err != nil {
		return came, err
	}
	d.must(p.Running(), "%s has ended; see %s", p.Name, p.Log)
	if err := p.Stop(joinLimit); err != nil {
		return came, err
	}
	if came, err = d.came(p.Name, rules); err != nil {
		return came, err
	}
	for _, job := range came.Lost {
		d.must(false, "%s was accepted and is lost", job)
	}
	for _, v := range came.Violations {
		d.must(false, "%s", v)
	}
	return came, nil
}

// logged reports unless the process has logged what tells the reader what is wrong.
func (d *damageRun) logged(p *Process, what string) error {
	text, err := p.Logged()
	d.must(strings.Contains(text, what), "%s has not logged %q; see %s", p.Name, what, p.Log)
	return err
}

// killProgram kills the program that works, over and over, while jobs come in.
func (d *damageRun) killProgram(ctx context.Context) error {
	if err := d.gate(true); err != nil {
		return err
	}
	p, err := d.lab.JoinProcess(d.master, "worker", "program")
	if err != nil {
		return err
	}
	if err := d.linked(p); err != nil {
		return err
	}
	sending, stop := context.WithCancel(ctx)
	defer stop()
	var wg sync.WaitGroup
	defer wg.Wait()
	defer stop()
	var refused error
	wg.Go(func() {
		for refused == nil && pause.For(sending, 2*time.Millisecond) {
			_, refused = d.send(ctx, p.Name, 0)
		}
	})
	dice, kills, last := d.lab.Dice("program"), killsEach*d.lab.Size.Count, 0
	for n := range kills {
		d.lab.Doing("kill %d of %d of a handler", n+1, kills)
		if last, err = d.program(p.Name, last); err != nil {
			return err
		}
		if !pause.For(ctx, time.Duration(100+dice.IntN(300))*time.Millisecond) {
			return context.Cause(ctx)
		}
		if program, err := os.FindProcess(last); err == nil {
			_ = program.Kill() // a program that is gone is found below
		}
		if err := d.log.Add(history.Event{Kind: history.Killed, By: "a program"}); err != nil {
			return err
		}
	}
	if _, err = d.program(p.Name, last); err != nil {
		return err
	}
	stop()
	wg.Wait()
	d.report.Must(refused == nil, "a job was refused while the program was killed: %v", refused)
	came, err := d.end(p, history.Rules{Programs: []string{"a program"}})
	if err != nil {
		return err
	}
	d.report.Count("kills of a handler", kills)
	d.report.Count("jobs meanwhile", came.Accepted)
	d.report.Count("done again", came.Again)
	return d.logged(p, "program ended")
}

// program waits until a node's program is up, and not the one that was killed last, and gives its id.
func (d *damageRun) program(variant string, last int) (pid int, err error) {
	late := d.lab.Await("the handler to be started again", joinLimit, func() bool {
		var events []history.Event
		if events, err = history.Read(d.lab.Path("handler.history")); err != nil && !os.IsNotExist(err) {
			return true
		}
		err = nil
		for _, e := range events {
			if e.Kind == history.Up && e.By == variant {
				if pid, err = strconv.Atoi(e.Note); err != nil {
					return true
				}
			}
		}
		return pid != 0 && pid != last
	})
	if err == nil {
		err = late
	}
	return pid, err
}

// fillDisk gives a node a disk of one megabyte, and sends jobs until no more are accepted.
func (d *damageRun) fillDisk(ctx context.Context) error {
	d.lab.Doing("filling a disk")
	dir := d.lab.Path("full.data")
	if err := os.Mkdir(dir, 0o700); err != nil {
		return err
	}
	unshare := smallDisk(ctx, dir)
	if unshare == nil {
		d.report.Note("disk full not tested: no small disk can be mounted here (that takes Linux, and unshare with the right to make namespaces)")
		return nil
	}
	if err := d.gate(false); err != nil {
		return err
	}
	args := append(unshare[1:], dir, d.lab.program, "join", "worker", "--variant", "full", "--schema", d.master.File, "--master", d.master.Addr, "--host", "127.0.0.1", "--data-dir", dir)
	p, err := d.lab.Exec("full", unshare[0], args...)
	if err != nil {
		return err
	}
	if err := d.linked(p); err != nil {
		return err
	}
	accepted, refused := 0, error(nil)
	for ; refused == nil && accepted < 200; accepted++ {
		_, refused = d.send(ctx, p.Name, 20_000)
	}
	accepted--
	d.report.Must(wire.CodeOf(refused) == wire.CodeUnavailable && strings.Contains(refused.Error(), "no space left"),
		"%d jobs of 20 kB were accepted on a disk of 1 MB, then: %v", accepted, refused)
	_, err = d.caller.Call(ctx, "worker.echo", json.RawMessage(`1`), node.CallOptions{Only: []string{p.Name}, Timeout: joinLimit})
	d.report.Must(err == nil, "other commands fail on a full disk: %v", err)
	if err := d.logged(p, "queued commands cannot be stored"); err != nil {
		return err
	}
	if err := d.gate(true); err != nil {
		return err
	}
	if _, err := d.done(p, history.Rules{}); err != nil {
		return err
	}
	late := d.lab.Await("jobs to be accepted again", joinLimit, func() bool {
		_, err = d.send(ctx, p.Name, 20_000)
		return err == nil
	})
	d.report.Must(late == nil, "no job is accepted once there is room again: %v", err)
	if _, err := d.end(p, history.Rules{}); err != nil {
		return err
	}
	d.report.Count("jobs on a full disk, all done later", accepted)
	return d.logged(p, "queued commands can be stored again")
}

// smallDisk is the beginning of a command line that mounts a disk of one megabyte, for itself alone, at the folder that
// follows, and then runs the program after that; nil where that cannot be done. It needs no root where
// users may make namespaces. The limit of a file's size would be no substitute: who
// exceeds it gets a signal that ends a program of Go.
func smallDisk(ctx context.Context, dir string) []string {
	const mount = `mount -t tmpfs -o size=1m tmpfs "$0" && exec "$@"`
	for _, flags := range [][]string{{"--mount"}, {"--mount", "--map-root-user"}} {
		args := append(flags, "sh", "-c", mount)
		if exec.CommandContext(ctx, "unshare", append(args, dir, "true")...).Run() == nil {
			return append([]string{"unshare"}, args...)
		}
	}
	return nil
}
