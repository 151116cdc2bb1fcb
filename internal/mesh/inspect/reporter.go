package inspect

import (
	"context"
	"encoding/json"
	"math/rand/v2"
	"sync/atomic"
	"time"

	"github.com/meshctl/meshctl/internal/mesh/wire"
)

// Bounds on what a node reports while it is observed.
const (
	minEvery  = 100 * time.Millisecond
	keepAlive = 2 * time.Second

	// bytesPerSecond and burst together are 64 KiB in any second. A Full report may
	// take up to MaxReport at once, and reports after it wait until that is paid off.
	bytesPerSecond = 48 << 10
	burst          = 16 << 10
	// leastRoom is what a report waits for: at load there are rather fewer reports than
	// ones without detail.
	leastRoom = 10 << 10

	maxRows = 200 // requests in flight

	// promptEvery is up to which interval the first report comes at once. Nodes that report
	// less often are many, and Full reports of all in the same moment are more than a
	// watcher can take.
	promptEvery = 200 * time.Millisecond
)

// Row is a request as its node hands it over for a report.
type Row struct {
	// Request has neither AgeMillis nor EndedAgo, Payload and Cut; they are made of
	// what follows.
	Request
	Started   time.Time       // of one in flight
	Took      time.Duration   // of a finished one
	Raw       json.RawMessage // its payload; nil unless payloads are to be reported
	Sensitive []string        // members of it to be masked
}

// Subject is the node that a Reporter reports on. Methods do not block, and are called by
// one goroutine at a time.
type Subject interface {
	// Instance changes when the node restarts.
	Instance() string
	// Links describes the links as they are now. The caller owns the slice.
	Links() []LinkCount
	// InFlight gives the oldest requests under way, oldest first, at most so many, and
	// how many there are.
	InFlight(atMost int) (oldest []Row, total int)
	// Queues describes the queues as they are now.
	Queues() []QueueCount
}

// Reporter reports on a node while somebody observes it. Unless Run runs, all that it
// costs are the counters of Meter and one atomic load for each request. It is safe for
// concurrent use.
type Reporter struct {
	Meter Meter
	Logs  Logs

	subject  Subject
	observed atomic.Bool
	finished finished
	seq      uint64 // of Run
}

// NewReporter makes a Reporter. It asks nothing of subject before Run.
func NewReporter(subject Subject) *Reporter { return &Reporter{subject: subject} }

// Wants tells whether a request that has just ended is to be handed to Finished.
func (r *Reporter) Wants(code wire.Code, took time.Duration) bool {
	return r.observed.Load() && r.finished.wants(code != "", took)
}

// Finished takes a request that ended. Phase, Started and AgeMillis need not be set.
func (r *Reporter) Finished(row Row) { r.finished.add(row) }

// Run reports until ctx ends. Each order begins the reports anew, with a Full one; it says
// how often they come: at most 10 a second, whatever it says, and at least one in two
// seconds. Over five a second the first comes at once, else after a part of the interval
// that is drawn at random. send takes the body of an event and must not block; when it
// fails, the report is lost and the next one is Full. One Run at a time.
func (r *Reporter) Run(ctx context.Context, orders <-chan time.Duration, send func([]byte) error) {
	defer r.observe(false)
	o := observation{Reporter: r, tokens: burst, at: time.Now()}
	next := time.NewTimer(keepAlive)
	next.Stop()
	defer next.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case every := <-orders:
			o.begin(min(max(every, minEvery), keepAlive))
			r.observe(true)
			if wait := o.first(); wait > 0 {
				next.Reset(wait)
				continue
			}
		case <-next.C:
		}
		next.Reset(o.every)
		o.report(send)
	}
}

// first is how long the first report waits.
func (o *observation) first() time.Duration {
	soonest := minEvery - time.Since(o.sent)
	if o.every <= promptEvery {
		return soonest
	}
	return max(soonest, rand.N(o.every))
}

func (r *Reporter) observe(on bool) {
	r.observed.Store(on)
	r.Logs.observe(on)
	if !on {
		r.finished.take()
	}
}
