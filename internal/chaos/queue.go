package chaos

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"github.com/meshctl/meshctl/internal/chaos/history"
	"github.com/meshctl/meshctl/internal/pause"
)

// queueFile and queueRedis send jobs while something is killed all the time: a node, a caller or
// redis-server. Everything is a process; callers and handlers write histories.
func queueFile() Scenario {
	return Scenario{
		Name:  "queue-file",
		Shows: "queued jobs in a file, kill -9 of a node or caller at random: no accepted job lost, repetitions only after a kill, and flagged",
		Short: Size{Count: 5000},
		Long:  Size{Count: 100_000},
		Run: func(ctx context.Context, lab *Lab) (Report, error) {
			return (&jobs{lab: lab, rules: history.Rules{Ordered: inOrder}, nodes: []string{"w1"}}).run(ctx)
		},
	}
}

func queueRedis() Scenario {
	return Scenario{
		Name:  "queue-redis",
		Shows: "queued jobs in Redis, kill -9 of a node, caller or redis-server at random: no accepted job lost, repetitions only after a lease ran out, and flagged",
		Short: Size{Count: 4000},
		Long:  Size{Count: 100_000},
		Run: func(ctx context.Context, lab *Lab) (report Report, err error) {
			j := &jobs{lab: lab, nodes: []string{"w1", "w2"}}
			j.rules = history.Rules{Lease: queueLease, Stores: []string{"redis"}}
			if j.redis, err = lab.StartRedis(); err != nil {
				return report, err
			}
			return j.run(ctx)
		},
	}
}

// Of both: a command that runs four at once and one that keeps the order.
const jobsSchema = `
caller: {_allow: [], _connect: [worker], _commands: {}}
worker:
  _allow: [caller]
  _commands:
    _balanced:
      job: {queued: true, responds: false, concurrency: 4, retries: 1000, max_depth: 1000000, method: {stdio: %[1]s}}
      step: {queued: true, responds: false, concurrency: 1, retries: 1000, max_depth: 1000000, method: {stdio: %[1]s}}
`

const (
	queueLease = 2 * time.Second
	jobCallers = 2
	jobLanes   = 8 // of a caller, and one in order
	jobsAtOnce = 5 // of a node, of both commands: what a kill interrupts

	// killEvery is the mean time between kills in the long form; the short one has less time.
	killEvery      = 2 * time.Second
	killEveryShort = 400 * time.Millisecond
	jobsStuck      = 30 * time.Second
)

// inOrder tells the lanes of the command that keeps the order.
func inOrder(lane string) bool { return strings.HasSuffix(lane, "-in-order") }

// jobs is a run of one of the two.
type jobs struct {
	lab   *Lab
	rules history.Rules
	nodes []string      // variants
	redis *redisServer  // nil: the store is a file
	args  []string      // more for the nodes
	stuck time.Duration // how long nothing may get done until the rest counts as lost; default jobsStuck

	master  *Master
	log     *history.Log // of kills
	victims []*victim
	kills   map[string]int // by kind
}

// victim is a process that is killed now and then.
type victim struct {
	name, kind string
	process    *Process
	start      func() (*Process, error)
	over       bool // it has done its work
}

func (j *jobs) run(ctx context.Context) (report Report, err error) {
	if err := j.start(); err != nil {
		return report, err
	}
	if err := j.killAll(ctx); err != nil {
		return report, err
	}
	j.lab.Doing("all jobs are accepted; waiting for the rest to be done")
	if err := j.rest(ctx); err != nil {
		return report, err
	}
	// What is done may still be repeated until it is out of the queues.
	if err := emptyQueues(ctx, j.lab, j.master, "worker", 2*queueLease+joinLimit, &report); err != nil {
		return report, err
	}
	came, err := j.came()
	if err == nil {
		j.judge(&report, came)
	}
	return report, err
}

// judge reports what came of the jobs, and what of it may not be.
func (j *jobs) judge(report *Report, came history.Jobs) {
	report.Count("accepted", came.Accepted)
	report.Count("lost", len(came.Lost))
	report.Count("done again", came.Again)
	report.Count("kills of nodes", j.kills["node"])
	report.Count("kills of callers", j.kills["caller"])
	if j.redis != nil {
		report.Count("kills of redis-server", j.kills["redis"])
	}
	report.Must(came.Accepted == j.lab.Size.Count, "%d of %d jobs were accepted", came.Accepted, j.lab.Size.Count)
	for _, job := range came.Lost {
		report.Must(false, "%s was accepted and is lost", job)
	}
	for _, v := range came.Violations {
		report.Must(false, "%s", v)
	}
	// A store that forgets what is done has all of it repeated after each kill.
	most := 2 * jobsAtOnce * (j.kills["node"] + len(j.nodes)*j.kills["redis"])
	report.Must(came.Again <= most, "%d repetitions are more than the kills explain, which is %d", came.Again, most)
	for kind, n := range j.kills {
		report.Must(n > 0, "no %s was killed", kind)
	}
}

func (j *jobs) start() (err error) {
	if j.log, err = j.lab.History("kills"); err != nil {
		return err
	}
	handler, err := json.Marshal([]string{j.lab.program, "chaos", "worker", "job-handler", j.lab.Path("handler.history")})
	if err != nil {
		return err
	}
	if j.master, err = j.lab.StartMaster(fmt.Sprintf(jobsSchema, handler)); err != nil {
		return err
	}
	j.kills = map[string]int{"node": 0}
	args := append([]string{"--log-level", "warn"}, j.args...)
	if j.redis != nil {
		args = append(args, "--redis", j.redis.URL(), "--queue-lease", queueLease.String())
		j.kills["redis"] = 0
		j.victims = append(j.victims, &victim{name: "redis", kind: "redis", process: j.redis.Process, start: func() (*Process, error) {
			err := j.redis.Restart()
			return j.redis.Process, err
		}})
	}
	for _, variant := range j.nodes {
		j.victims = append(j.victims, &victim{name: variant, kind: "node", start: func() (*Process, error) {
			return j.lab.JoinProcess(j.master, "worker", variant, args...)
		}})
	}
	for i := range jobCallers {
		cfg := j.caller(i)
		j.victims = append(j.victims, &victim{name: cfg.Variant, kind: "caller", start: func() (*Process, error) {
			return j.lab.Worker(cfg.Variant, "job-caller", cfg)
		}})
	}
	for _, v := range j.victims {
		if v.process == nil {
			if v.process, err = v.start(); err != nil {
				return err
			}
		}
	}
	return nil
}

// caller configures the ith caller. The jobs are dealt out among the lanes of all; one lane in nine keeps the
// order, with as many jobs as the others. With Redis the last caller puts its jobs there itself.
func (j *jobs) caller(i int) jobCallerConfig {
	name := fmt.Sprintf("c%d", i+1)
	cfg := jobCallerConfig{membership: membership{j.master.Addr, j.master.Schema}, Variant: name, History: j.lab.Path(name + ".history")}
	if j.redis != nil && i == jobCallers-1 {
		cfg.Redis = j.redis.URL()
	}
	const lanes = jobLanes + 1
	for l := range lanes {
		lane := jobLane{Name: fmt.Sprintf("%s-%d", name, l), Command: "job"}
		if l == jobLanes {
			lane = jobLane{Name: name + "-in-order", Command: "step"}
		}
		all := jobCallers * lanes
		lane.Jobs = j.lab.Size.Count / all
		if i*lanes+l < j.lab.Size.Count%all {
			lane.Jobs++
		}
		cfg.Lanes = append(cfg.Lanes, lane)
	}
	return cfg
}

// killAll kills one victim after another until all callers are done and most of the jobs as well, or no more get done, and each
// of them had its turn: victims are dealt like cards, so that none is left out for long.
func (j *jobs) killAll(ctx context.Context) error {
	dice := j.lab.Dice("kills")
	every := killEveryShort
	if j.lab.Long {
		every = killEvery
	}
	var deck []*victim
	least, since := j.lab.Size.Count, time.Now() // that waited, once all were accepted
	for n := 0; ; n++ {
		wait := every/2 + time.Duration(dice.Int64N(int64(every)))
		if !pause.For(ctx, wait) {
			return context.Cause(ctx)
		}
		sending := slices.ContainsFunc(j.victims, func(v *victim) bool { return v.kind == "caller" && !v.finished() })
		if n >= len(j.victims) && !sending {
			if waiting := j.waiting(ctx); waiting < least {
				least, since = waiting, time.Now()
			}
			if least <= j.lab.Size.Count/20 || time.Since(since) > cmp.Or(j.stuck, jobsStuck) {
				return nil
			}
		} else {
			since = time.Now()
		}
		if len(deck) == 0 {
			deck = deal(j.victims, n == 0, dice)
		}
		v := deck[0]
		if deck = deck[1:]; v.finished() {
			continue
		}
		if !v.process.Running() && !v.finished() {
			return fmt.Errorf("%s has ended by itself; see %s", v.name, v.process.Log)
		}
		j.lab.Doing("kill %d: %s", n+1, v.name)
		v.process.KillAlone()
		if v.finished() {
			continue // it was done before it could be killed
		}
		if err := j.log.Add(history.Event{Kind: history.Killed, By: v.name}); err != nil {
			return err
		}
		j.kills[v.kind]++
		// Away for a moment, so that calls meet its absence as well.
		pause.For(ctx, time.Duration(dice.IntN(300))*time.Millisecond)
		var err error
		if v.process, err = v.start(); err != nil {
			return err
		}
	}
}

// deal shuffles the victims. The first time each comes once, so that all had their turn before the jobs are done: callers
// first, who are done the soonest. Later nodes come twice, which have most to lose.
func deal(victims []*victim, first bool, dice *rand.Rand) (deck []*victim) {
	for _, v := range victims {
		if deck = append(deck, v); v.kind == "node" && !first {
			deck = append(deck, v)
		}
	}
	dice.Shuffle(len(deck), func(i, k int) { deck[i], deck[k] = deck[k], deck[i] })
	if first {
		order := []string{"caller", "redis", "node"}
		slices.SortStableFunc(deck, func(a, b *victim) int { return slices.Index(order, a.kind) - slices.Index(order, b.kind) })
	}
	return deck
}

// waiting is how many jobs wait; all of them while the nodes cannot be asked.
func (j *jobs) waiting(ctx context.Context) (n int) {
	queues, err := j.lab.Queues(ctx, j.master, "worker")
	if err != nil || len(queues) == 0 {
		return j.lab.Size.Count
	}
	for _, q := range queues {
		n += q.Waiting
	}
	return n
}

// finished tells whether a caller has ended by itself, because all its jobs were accepted.
func (v *victim) finished() bool {
	if v.kind == "caller" && !v.over && !v.process.Running() {
		v.over = v.process.err == nil
	}
	return v.over
}

// rest waits until everything accepted is done, or nothing more gets done.
func (j *jobs) rest(ctx context.Context) error {
	best, since := -1, time.Now()
	for {
		begun := time.Now()
		came, err := j.came()
		if err != nil {
			return err
		}
		if came.Done > best {
			best, since = came.Done, time.Now()
		}
		if len(came.Lost) == 0 || time.Since(since) > cmp.Or(j.stuck, jobsStuck) {
			return nil
		}
		if !pause.For(ctx, max(500*time.Millisecond, 5*time.Since(begun))) { // reading a long history is work
			return context.Cause(ctx)
		}
	}
}

// came judges what has come of the jobs so far.
func (j *jobs) came() (history.Jobs, error) {
	events, err := j.lab.Events()
	if err != nil {
		return history.Jobs{}, err
	}
	return history.CheckJobs(events, j.rules), nil
}

// emptyQueues reports when the queues of a worker do not get empty in time, or have dead letters.
func emptyQueues(ctx context.Context, lab *Lab, m *Master, worker string, limit time.Duration, report *Report) error {
	var left string
	late := lab.Await("the queues to be empty", limit, func() bool {
		queues, err := lab.Queues(ctx, m, worker)
		if err != nil || len(queues) == 0 {
			left = fmt.Sprintf("they cannot be listed: %v", err)
			return false
		}
		left = ""
		for _, q := range queues {
			if q.Waiting+q.Running+q.Dead > 0 {
				left = fmt.Sprintf("%s of %s: %d wait, %d run, %d are dead letters", q.Command, q.Variant, q.Waiting, q.Running, q.Dead)
			}
		}
		return left == ""
	})
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	report.Must(late == nil, "the queues are not empty at the end: %s", left)
	return nil
}
