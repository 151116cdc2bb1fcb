package inspect

import (
	"cmp"
	"iter"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/meshctl/meshctl/internal/mesh/wire"
)

// Meter counts the requests of one node. It counts always, watched or not: counting is a
// few atomic adds and allocates nothing. The zero value is ready; all methods are safe
// for concurrent use.
type Meter struct {
	out, in sync.Map // by "worker.command": *CommandMeter
}

// Command gives what counts a command ("worker.command") in one direction, Out or In. It
// is kept for good, so that only commands of a schema belong here. It takes no lock for
// a command that was asked for before.
func (m *Meter) Command(name, dir string) *CommandMeter {
	byName := &m.out
	if dir == In {
		byName = &m.in
	}
	if c, ok := byName.Load(name); ok {
		return c.(*CommandMeter)
	}
	c, _ := byName.LoadOrStore(name, &CommandMeter{name: name, dir: dir})
	return c.(*CommandMeter)
}

// tallies lists all that were ever counted in, by command and direction.
func (m *Meter) tallies() []*Tally {
	var all []*Tally
	collect := func(_, c any) bool {
		for i := range c.(*CommandMeter).tallies {
			if t := c.(*CommandMeter).tallies[i].Load(); t != nil {
				all = append(all, t)
			}
		}
		return true
	}
	m.out.Range(collect)
	m.in.Range(collect)
	slices.SortFunc(all, func(a, b *Tally) int {
		return cmp.Or(cmp.Compare(a.of.name, b.of.name), cmp.Compare(b.of.dir, a.of.dir))
	})
	return all
}

// CommandMeter counts one command in one direction.
type CommandMeter struct {
	name, dir string
	tallies   [2]atomic.Pointer[Tally] // of those whose other end reports, and the blind
}

// Tally gives the counters of requests whose other end reports too, or does not (blind).
// They are made when they are first asked for: they take 8 KiB, and as much again once a
// request has failed.
func (c *CommandMeter) Tally(blind bool) *Tally {
	p := &c.tallies[0]
	if blind {
		p = &c.tallies[1]
	}
	if t := p.Load(); t != nil {
		return t
	}
	p.CompareAndSwap(nil, &Tally{of: c, blind: blind})
	return p.Load()
}

// Tally is a set of counters. Each request that is started is ended once. What goes well
// costs four additions: how many did is what there is in the buckets.
type Tally struct {
	of    *CommandMeter
	blind bool

	started, retries    atomic.Uint64
	requested, answered atomic.Uint64 // bytes
	errors              [len(codes) + 1]atomic.Uint64
	latency             histogram                 // of those that went well
	failed              atomic.Pointer[histogram] // of those that did not; nil while there are none
}

type histogram [BucketCount]atomic.Uint64

// codes are those that have a counter; any other counts as handler_error, the code that
// a peer's unknown one means most. Their order is nobody's business but errors'.
var codes = [...]wire.Code{
	wire.CodeNoVariant, wire.CodeDenied, wire.CodeTimeout, wire.CodePeerLost, wire.CodeHandlerError, wire.CodeOverloaded,
	wire.CodeCanceled, wire.CodeBadRequest, wire.CodeUnknownCommand, wire.CodeUnreachable,
}

// Start counts a request with a payload of so many bytes.
func (t *Tally) Start(bytes int) {
	t.started.Add(1)
	t.requested.Add(uint64(bytes))
}

// Retry counts that a request is offered to a further variant.
func (t *Tally) Retry() { t.retries.Add(1) }

// End counts the outcome of a request that was started: an empty code means success, and
// bytes are those of its result.
func (t *Tally) End(code wire.Code, took time.Duration, bytes int) {
	if code == "" {
		t.answered.Add(uint64(bytes))
		t.latency[BucketOf(took)].Add(1)
		return
	}
	failed := t.failed.Load()
	if failed == nil {
		t.failed.CompareAndSwap(nil, new(histogram))
		failed = t.failed.Load()
	}
	failed[BucketOf(took)].Add(1)
	t.errors[codeIndex(code)].Add(1)
}

// buckets yields the buckets of all requests that ended, empty ones too, by index.
func (t *Tally) buckets() iter.Seq2[int, uint64] {
	return func(yield func(int, uint64) bool) {
		failed := t.failed.Load()
		for i := range t.latency {
			n := t.latency[i].Load()
			if failed != nil {
				n += failed[i].Load()
			}
			if !yield(i, n) {
				return
			}
		}
	}
}

// Counts reads all counters with all buckets of their histograms that are not empty, by
// command and direction.
func (m *Meter) Counts() []CommandCount {
	tallies := m.tallies()
	counts := make([]CommandCount, len(tallies))
	for i, t := range tallies {
		counts[i] = t.Count()
		for bucket, n := range t.buckets() {
			if n > 0 {
				counts[i].Latency = append(counts[i].Latency, Bucket{bucket, n})
			}
		}
	}
	return counts
}

func codeIndex(code wire.Code) int {
	if i := slices.Index(codes[:], code); i >= 0 {
		return i
	}
	return len(codes)
}

// Count reads the counters, without the histogram. Outcomes are read before starts, so
// that there are never more of them.
func (t *Tally) Count() CommandCount {
	c := CommandCount{Command: t.of.name, Dir: t.of.dir, Blind: t.blind, Retries: t.retries.Load()}
	for i := range t.latency {
		c.OK += t.latency[i].Load()
	}
	for i := range t.errors {
		if n := t.errors[i].Load(); n > 0 {
			if c.Errors == nil {
				c.Errors = make(map[wire.Code]uint64)
			}
			code := wire.CodeHandlerError
			if i < len(codes) {
				code = codes[i]
			}
			c.Errors[code] += n
		}
	}
	c.Started = t.started.Load()
	c.BytesOut, c.BytesIn = t.requested.Load(), t.answered.Load()
	if t.of.dir == In {
		c.BytesOut, c.BytesIn = c.BytesIn, c.BytesOut
	}
	return c
}
