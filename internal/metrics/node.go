package metrics

import (
	"maps"
	"slices"
	"time"

	"github.com/meshctl/meshctl/internal/mesh/inspect"
	"github.com/meshctl/meshctl/internal/mesh/queue"
)

// bounds are those of the duration histogram. They lie on bounds of the meter's own
// buckets nearly enough: those are 3% wide.
var bounds = []time.Duration{
	100 * time.Microsecond, 250 * time.Microsecond, 500 * time.Microsecond,
	time.Millisecond, 2500 * time.Microsecond, 5 * time.Millisecond, 10 * time.Millisecond, 25 * time.Millisecond, 50 * time.Millisecond,
	100 * time.Millisecond, 250 * time.Millisecond, 500 * time.Millisecond,
	time.Second, 2500 * time.Millisecond, 5 * time.Second, 10 * time.Second, 30 * time.Second, time.Minute,
}

// node writes what there is of a node. Labels have few values: commands are those of the
// schema, and neither variants nor requests are named.
func (p *page) node(n Node, name string) {
	p.requests(byCommand(n.Counts()))

	type kind struct{ worker, transport string }
	linked := map[kind]int{}
	skipped := map[string]map[string]bool{} // variants by worker, which may have several links
	for _, l := range n.LinkCounts() {
		w := worker(l.Peer)
		linked[kind{w, l.Transport}]++
		if skipped[w] == nil {
			skipped[w] = map[string]bool{}
		}
		if l.Skipped {
			skipped[w][l.Peer] = true
		}
	}
	p.family("meshctl_links", "Links to other nodes.", gauge)
	for k, n := range linked {
		p.sample(float64(n), "transport", k.transport, "worker", k.worker)
	}
	p.family("meshctl_variants_skipped", "Linked variants that get nothing for a while, because they failed several times in a row.", gauge)
	for w, variants := range skipped {
		p.sample(float64(len(variants)), "worker", w)
	}
	p.family("meshctl_late_responses_total", "Responses that came when nobody waited for them any more.", counter)
	p.sample(float64(n.Late()))
	p.family("meshctl_ready", "Whether the node is ready, as /readyz says.", gauge)
	p.sample(oneIf(n.Ready()))
	p.queues(n.QueueStats(), name)
}

func (p *page) requests(all []*total) {
	each := func(name, help, kind string, write func(t *total, labels ...string)) {
		p.family(name, help, kind)
		for _, t := range all {
			write(t, "command", t.command, "direction", t.dir)
		}
	}
	each("meshctl_requests_total", "Requests that ended, by direction (out: sent, in: answered) and outcome: ok or an error code.", counter,
		func(t *total, labels ...string) {
			for _, code := range slices.Sorted(maps.Keys(t.outcomes)) {
				p.sample(float64(t.outcomes[code]), append([]string{"code", code}, labels...)...)
			}
		})
	each("meshctl_requests_in_flight", "Requests under way.", gauge, func(t *total, labels ...string) {
		var ended uint64
		for _, n := range t.outcomes {
			ended += n
		}
		p.sample(float64(t.started-min(ended, t.started)), labels...)
	})
	each("meshctl_request_duration_seconds", "How long requests took, from being sent or received to the end.", histogram,
		func(t *total, labels ...string) { t.histogram(p, labels) })
	each("meshctl_payload_bytes_total", "Bytes of payloads of requests and results.", counter, func(t *total, labels ...string) {
		p.sample(float64(t.in), append(labels, "way", "received")...)
		p.sample(float64(t.out), append(labels, "way", "sent")...)
	})
	p.family("meshctl_request_retries_total", "How often a request was offered to a further variant.", counter)
	for _, t := range all {
		if t.dir == inspect.Out {
			p.sample(float64(t.retries), "command", t.command)
		}
	}
}

func (p *page) queues(all []queue.Stats, name string) {
	for _, m := range []struct {
		name, help string
		value      func(queue.Stats) float64
	}{
		{"meshctl_queue_depth", "Queued requests that wait.", func(s queue.Stats) float64 { return float64(s.Waiting) }},
		{"meshctl_queue_running", "Queued requests that are being worked on.", func(s queue.Stats) float64 { return float64(s.Running) }},
		{"meshctl_queue_oldest_seconds", "Age of the oldest queued request that has not ended.", func(s queue.Stats) float64 { return float64(s.OldestMillis) / 1000 }},
		{"meshctl_queue_dead_letters", "Dead letters that are kept.", func(s queue.Stats) float64 { return float64(s.Dead) }},
	} {
		p.family(m.name, m.help, gauge)
		for _, s := range all {
			p.sample(m.value(s), "command", name+"."+s.Command)
		}
	}
	p.family("meshctl_queue_requests_total", "Queued requests by what became of them.", counter)
	for _, s := range all {
		for _, r := range []struct {
			result string
			n      uint64
		}{
			{"accepted", s.Accepted}, {"dead", s.Failed}, {"done", s.Done}, {"duplicate", s.Duplicates},
			{"expired", s.Expired}, {"refused", s.Refused}, {"retried", s.Retries},
		} {
			p.sample(float64(r.n), "command", name+"."+s.Command, "result", r.result)
		}
	}
}

// total is one command in one direction, whoever the other end was.
type total struct {
	command, dir string
	started      uint64
	outcomes     map[string]uint64
	retries      uint64
	out, in      uint64 // bytes
	latency      [inspect.BucketCount]uint64
}

func byCommand(counts []inspect.CommandCount) []*total {
	var all []*total
	known := map[[2]string]*total{}
	for _, c := range counts {
		key := [2]string{c.Command, c.Dir}
		t := known[key]
		if t == nil {
			t = &total{command: c.Command, dir: c.Dir, outcomes: map[string]uint64{"ok": 0}}
			known[key] = t
			all = append(all, t)
		}
		t.started += c.Started
		t.outcomes["ok"] += c.OK
		for code, n := range c.Errors {
			t.outcomes[string(code)] += n
		}
		t.retries += c.Retries
		t.out += c.BytesOut
		t.in += c.BytesIn
		for _, b := range c.Latency {
			t.latency[b.Index] += b.Count
		}
	}
	return all
}

// histogram makes Prometheus' buckets of the meter's finer ones. The sum takes each
// request at the middle of its bucket: at most 1.6% off.
func (t *total) histogram(p *page, labels []string) {
	seconds := make([]float64, len(bounds))
	atMost := make([]uint64, len(bounds))
	var count uint64
	var sum float64
	next := 0
	for i, n := range t.latency {
		low, high := inspect.BucketBounds(i)
		for next < len(bounds) && (low+high)/2 > bounds[next] {
			atMost[next] = count
			next++
		}
		count += n
		sum += float64(n) * ((low + high) / 2).Seconds()
	}
	for ; next < len(bounds); next++ {
		atMost[next] = count
	}
	for i, b := range bounds {
		seconds[i] = b.Seconds()
	}
	p.buckets(seconds, atMost, count, sum, labels...)
}

func oneIf(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
