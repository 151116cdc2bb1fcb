package history

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Rules are what a history of queued jobs is held to. Jobs are named LANE/NUMBER; each lane has one
// sender, which sends a job once the one before it was accepted.
type Rules struct {
	// Lease is how long what a lost node was working on waits for it before another may take it.
	// 0: it stays at its node, as with a store in a file.
	Lease time.Duration
	// Stores are processes whose loss may lead to a repetition, too, at whatever node.
	Stores []string
	// Programs are handlers that run as programs of their own: when one is killed its node knows that the try has
	// failed, so that the next one says so by its number alone.
	Programs []string
	// Ordered tells lanes whose jobs are worked one after another at one node.
	Ordered func(lane string) bool
}

// Jobs is what came of the jobs of a history.
type Jobs struct {
	Accepted int
	Done     int // accepted, and a handler has ended it
	Dead     int // accepted, and a dead letter
	Again    int // deliveries beyond the first of a job
	Most     int // deliveries of one job
	// Lost are the accepted jobs that nobody has done and that are no dead letters.
	Lost []string
	// Violations are deliveries that may not have been.
	Violations []string
}

// delivery is a job as a handler was given it.
type delivery struct {
	Event
	ended bool
}

// CheckJobs decides what came of jobs. The history is in the order of time.
func CheckJobs(events []Event, rules Rules) Jobs {
	var (
		result    Jobs
		accepted  = map[string]bool{}
		sent      = map[string]bool{} // accepted or not
		dead      = map[string]bool{}
		delivered = map[string][]*delivery{}
		killed    = map[string][]int64{} // when, by process
	)
	for _, e := range events {
		switch e.Kind {
		case Accepted:
			accepted[e.Job], sent[e.Job] = true, true
		case Sent:
			sent[e.Job] = true
		case Died:
			dead[e.Job] = true
		case Killed:
			killed[e.By] = append(killed[e.By], e.At)
		case Started:
			delivered[e.Job] = append(delivered[e.Job], &delivery{Event: e})
		case Ended:
			for _, d := range slices.Backward(delivered[e.Job]) {
				if d.By == e.By && d.Attempt == e.Attempt {
					d.ended = true
					break
				}
			}
		}
	}
	result.Accepted = len(accepted)
	for job := range accepted {
		done := slices.ContainsFunc(delivered[job], func(d *delivery) bool { return d.ended })
		switch {
		case done:
			result.Done++
		case dead[job]:
			result.Dead++
		default:
			result.Lost = append(result.Lost, job)
		}
	}
	slices.SortFunc(result.Lost, byNumber)
	for _, job := range slices.SortedFunc(maps.Keys(delivered), byNumber) {
		ds := delivered[job]
		result.Again += len(ds) - 1
		result.Most = max(result.Most, len(ds))
		if !sent[job] {
			result.violate("%s was given to %s, and nobody has sent it", job, ds[0].By)
		}
		for i := 1; i < len(ds); i++ {
			result.repeated(ds[i-1], ds[i], killed, rules)
		}
	}
	if rules.Ordered != nil {
		result.order(delivered, rules.Ordered)
	}
	return result
}

func (r *Jobs) violate(format string, args ...any) {
	r.Violations = append(r.Violations, fmt.Sprintf(format, args...))
}

// orphaned is how long the program of a killed node may still begin what it has in its pipe.
const orphaned = 500 * time.Millisecond

// repeated checks a delivery after another one of the same job: it has to say so, and to have a reason.
func (r *Jobs) repeated(before, d *delivery, killed map[string][]int64, rules Rules) {
	apart := d.Time().Sub(before.Time())
	what := fmt.Sprintf("%s, given to %s (try %d) and %s later to %s (try %d)", d.Job, before.By, before.Attempt, apart.Round(time.Millisecond), d.By, d.Attempt)
	between := func(process string) bool {
		return slices.ContainsFunc(killed[process], func(at int64) bool { return before.At-int64(orphaned) <= at && at <= d.At })
	}
	program := slices.ContainsFunc(rules.Programs, between)
	if d.Attempt <= before.Attempt || !d.Redelivered && !program {
		r.violate("%s: the repetition is not flagged", what)
	}
	if !program && !between(before.By) && !slices.ContainsFunc(rules.Stores, between) {
		r.violate("%s: nobody was killed in between", what)
	}
	if rules.Lease == 0 && before.By != d.By {
		r.violate("%s: it left its node", what)
	}
	// What a handler notes is later than what the lease goes by, more so on a busy machine.
	if apart < rules.Lease/2 {
		r.violate("%s: the lease of %s had not run out", what, rules.Lease)
	}
}

// order checks that jobs of a lane began in the order in which they were sent. One whose first try did not
// reach the handler waited beside the queue, and is not held to it.
func (r *Jobs) order(delivered map[string][]*delivery, ordered func(string) bool) {
	lanes := map[string][]*delivery{}
	for job, ds := range delivered {
		if lane, _ := laneOf(job); ordered(lane) && ds[0].Attempt == 1 {
			lanes[lane] = append(lanes[lane], ds[0])
		}
	}
	for _, lane := range slices.Sorted(maps.Keys(lanes)) {
		ds := lanes[lane]
		slices.SortFunc(ds, func(a, b *delivery) int { return cmp.Compare(a.At, b.At) })
		for i := 1; i < len(ds); i++ {
			if byNumber(ds[i-1].Job, ds[i].Job) > 0 {
				r.violate("%s began before %s, which was sent earlier", ds[i-1].Job, ds[i].Job)
			}
		}
	}
}

func laneOf(job string) (lane string, number int) {
	lane, text, _ := strings.Cut(job, "/")
	number, err := strconv.Atoi(text)
	if err != nil {
		number = -1
	}
	return lane, number
}

// byNumber sorts jobs by lane and number.
func byNumber(a, b string) int {
	laneA, n := laneOf(a)
	laneB, m := laneOf(b)
	return cmp.Or(cmp.Compare(laneA, laneB), cmp.Compare(n, m), cmp.Compare(a, b))
}
