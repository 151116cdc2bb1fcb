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
	Again    int // deliveries beyond the first of a job
	// Lost are the accepted jobs that nobody has done.
	Lost []string
	// Violations are deliveries that may not have been.
	Violations []string
}

// delivery is a job as a handler was given it.
type delivery struct {
	Event
	ended int64 // when; 0: nobody has
}

// kills are when each process was killed.
type kills map[string][]int64

// within tells whether one of the processes was killed between two times.
func (k kills) within(from, to int64, processes ...string) bool {
	return slices.ContainsFunc(processes, func(p string) bool {
		return slices.ContainsFunc(k[p], func(at int64) bool { return from <= at && at <= to })
	})
}

// CheckJobs decides what came of jobs. The history is in the order of time.
func CheckJobs(events []Event, rules Rules) Jobs {
	var (
		result    Jobs
		accepted  = map[string]bool{}
		sent      = map[string]bool{} // accepted or not
		delivered = map[string][]*delivery{}
		killed    = kills{}
	)
	for _, e := range events {
		switch e.Kind {
		case Accepted:
			accepted[e.Job], sent[e.Job] = true, true
		case Sent:
			sent[e.Job] = true
		case Killed:
			killed[e.By] = append(killed[e.By], e.At)
		case Started:
			delivered[e.Job] = append(delivered[e.Job], &delivery{Event: e})
		case Ended:
			for _, d := range slices.Backward(delivered[e.Job]) {
				if d.By == e.By && d.Attempt == e.Attempt {
					d.ended = e.At
					break
				}
			}
		}
	}
	result.Accepted = len(accepted)
	for job := range accepted {
		if slices.ContainsFunc(delivered[job], func(d *delivery) bool { return d.ended > 0 }) {
			result.Done++
		} else {
			result.Lost = append(result.Lost, job)
		}
	}
	slices.SortFunc(result.Lost, byNumber)
	for _, job := range slices.SortedFunc(maps.Keys(delivered), byNumber) {
		ds := delivered[job]
		result.Again += len(ds) - 1
		if !sent[job] {
			result.violate("%s was given to %s, and nobody has sent it", job, ds[0].By)
		}
		for i := 1; i < len(ds); i++ {
			result.repeated(ds[i-1], ds[i], killed, rules)
		}
	}
	if rules.Ordered != nil {
		result.order(delivered, killed, rules)
	}
	return result
}

func (r *Jobs) violate(format string, args ...any) {
	r.Violations = append(r.Violations, fmt.Sprintf(format, args...))
}

const (
	// orphaned is how long the program of a killed node may still begin what it has in its pipe.
	orphaned = 500 * time.Millisecond
	// unstored is how long it may take on a busy machine until a store knows that a job is done, and away how long a
	// store may be away after a kill.
	unstored = 3 * time.Second
	away     = 10 * time.Second
)

// repeated checks a delivery after another one of the same job: it has to say so, and to have a reason.
func (r *Jobs) repeated(before, d *delivery, killed kills, rules Rules) {
	apart := d.Time().Sub(before.Time())
	what := fmt.Sprintf("%s, given to %s (try %d) and %s later to %s (try %d)", d.Job, before.By, before.Attempt, apart.Round(time.Millisecond), d.By, d.Attempt)
	from := before.At - int64(orphaned)
	program := killed.within(from, d.At, rules.Programs...)
	if d.Attempt <= before.Attempt || !d.Redelivered && !program {
		r.violate("%s: the repetition is not flagged", what)
	}
	done := min(d.At, before.ended+int64(unstored))
	switch {
	case !program && !killed.within(from, d.At, before.By) && !killed.within(from, d.At, rules.Stores...):
		r.violate("%s: nobody was killed in between", what)
	case before.ended > 0 && !killed.within(from, done, slices.Concat(rules.Programs, []string{before.By})...) &&
		!killed.within(before.ended-int64(away), done, rules.Stores...):
		r.violate("%s: it was done, and nobody was killed within %s", what, unstored)
	}
	if rules.Lease == 0 && before.By != d.By {
		r.violate("%s: it left its node", what)
	}
	// What a handler notes is later than what the lease goes by, more so on a busy machine.
	if apart < rules.Lease/2 {
		r.violate("%s: the lease of %s had not run out", what, rules.Lease)
	}
}

// order checks that jobs of a lane began in the order in which they were sent, each when the one before it had ended.
func (r *Jobs) order(delivered map[string][]*delivery, killed kills, rules Rules) {
	lanes := map[string][]*delivery{}
	for job, ds := range delivered {
		if lane, _ := laneOf(job); rules.Ordered(lane) {
			lanes[lane] = append(lanes[lane], ds...)
		}
	}
	for _, lane := range slices.Sorted(maps.Keys(lanes)) {
		ds := lanes[lane]
		slices.SortFunc(ds, func(a, b *delivery) int { return cmp.Compare(a.At, b.At) })
		for i := 1; i < len(ds); i++ {
			a, b := ds[i-1], ds[i]
			// What a killed node's program still does is no business of the next node.
			if (a.ended == 0 || a.ended > b.At) && !killed.within(a.At-int64(orphaned), b.At, slices.Concat(rules.Programs, []string{a.By})...) {
				r.violate("%s began before %s had ended", b.Job, a.Job)
			}
		}
		// A job whose first try did not reach the handler waited beside the queue, as do all further tries.
		ds = slices.DeleteFunc(ds, func(d *delivery) bool { return d != delivered[d.Job][0] || d.Attempt > 1 })
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
