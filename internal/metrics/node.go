package metrics

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/meshctl/meshctl/internal/mesh/inspect"
)

// Labels have few values: commands are those of the schema, and neither variants nor
// requests are named.
var (
	requests = prometheus.NewDesc("meshctl_requests_total",
		"Requests that ended, by direction (out: sent, in: answered) and outcome: ok or an error code.", []string{"command", "direction", "code"}, nil)
	inFlight = prometheus.NewDesc("meshctl_requests_in_flight",
		"Requests under way.", []string{"command", "direction"}, nil)
	retries = prometheus.NewDesc("meshctl_request_retries_total",
		"How often a request was offered to a further variant.", []string{"command"}, nil)
	duration = prometheus.NewDesc("meshctl_request_duration_seconds",
		"How long requests took, from being sent or received to the end.", []string{"command", "direction"}, nil)
	payload = prometheus.NewDesc("meshctl_payload_bytes_total",
		"Bytes of payloads of requests and results.", []string{"command", "direction", "way"}, nil)
	links = prometheus.NewDesc("meshctl_links",
		"Links to other nodes.", []string{"worker", "transport"}, nil)
	late = prometheus.NewDesc("meshctl_late_responses_total",
		"Responses that came when nobody waited for them any more.", nil, nil)
	ready = prometheus.NewDesc("meshctl_ready",
		"Whether the node is declared at a master and its queues take work.", nil, nil)

	queueDepth = prometheus.NewDesc("meshctl_queue_depth",
		"Queued requests that wait.", []string{"command"}, nil)
	queueRunning = prometheus.NewDesc("meshctl_queue_running",
		"Queued requests that are being worked on.", []string{"command"}, nil)
	queueOldest = prometheus.NewDesc("meshctl_queue_oldest_seconds",
		"Age of the oldest queued request that has not ended.", []string{"command"}, nil)
	queueDead = prometheus.NewDesc("meshctl_queue_dead_letters",
		"Dead letters that are kept.", []string{"command"}, nil)
	queueItems = prometheus.NewDesc("meshctl_queue_requests_total",
		"Queued requests by what became of them.", []string{"command", "result"}, nil)
)

// bounds are those of the duration histogram. They lie on bounds of the meter's own
// buckets nearly enough: those are 3% wide.
var bounds = []time.Duration{
	100 * time.Microsecond, 250 * time.Microsecond, 500 * time.Microsecond,
	time.Millisecond, 2500 * time.Microsecond, 5 * time.Millisecond, 10 * time.Millisecond, 25 * time.Millisecond, 50 * time.Millisecond,
	100 * time.Millisecond, 250 * time.Millisecond, 500 * time.Millisecond,
	time.Second, 2500 * time.Millisecond, 5 * time.Second, 10 * time.Second, 30 * time.Second, time.Minute,
}

type nodeCollector struct {
	node   Node
	worker string
}

// Describe implements prometheus.Collector.
func (c nodeCollector) Describe(to chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{requests, inFlight, retries, duration, payload, links, late, ready,
		queueDepth, queueRunning, queueOldest, queueDead, queueItems} {
		to <- d
	}
}

// Collect implements prometheus.Collector.
func (c nodeCollector) Collect(to chan<- prometheus.Metric) {
	for _, t := range byCommand(c.node.Counts()) {
		t.collect(to)
	}
	type kind struct{ worker, transport string }
	linked := map[kind]int{}
	for _, l := range c.node.LinkCounts() {
		linked[kind{worker(l.Peer), l.Transport}]++
	}
	for k, n := range linked {
		to <- gauge(links, float64(n), k.worker, k.transport)
	}
	to <- counter(late, c.node.Late())
	to <- gauge(ready, oneIf(c.node.Ready()))
	for _, q := range c.node.QueueStats() {
		command := c.worker + "." + q.Command
		to <- gauge(queueDepth, float64(q.Waiting), command)
		to <- gauge(queueRunning, float64(q.Running), command)
		to <- gauge(queueOldest, q.Oldest.Seconds(), command)
		to <- gauge(queueDead, float64(q.Dead), command)
		for result, n := range map[string]uint64{
			"accepted": q.Accepted, "done": q.Done, "retried": q.Retries, "dead": q.Failed,
			"expired": q.Expired, "duplicate": q.Duplicates, "refused": q.Refused,
		} {
			to <- counter(queueItems, n, command, result)
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
	buckets      [inspect.BucketCount]uint64
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
			t.buckets[b.Index] += b.Count
		}
	}
	return all
}

func (t *total) collect(to chan<- prometheus.Metric) {
	var ended uint64
	for code, n := range t.outcomes {
		ended += n
		to <- counter(requests, n, t.command, t.dir, code)
	}
	to <- gauge(inFlight, float64(t.started-min(ended, t.started)), t.command, t.dir)
	if t.dir == inspect.Out {
		to <- counter(retries, t.retries, t.command)
	}
	to <- counter(payload, t.out, t.command, t.dir, "sent")
	to <- counter(payload, t.in, t.command, t.dir, "received")
	count, sum, cumulative := t.histogram()
	to <- prometheus.MustNewConstHistogram(duration, count, sum, cumulative, t.command, t.dir)
}

// histogram makes Prometheus' buckets of the meter's finer ones. The sum takes each
// request at the middle of its bucket: at most 1.6% off.
func (t *total) histogram() (count uint64, sum float64, cumulative map[float64]uint64) {
	cumulative = make(map[float64]uint64, len(bounds))
	next := 0
	for i, n := range t.buckets {
		low, high := inspect.BucketBounds(i)
		for next < len(bounds) && (low+high)/2 > bounds[next] {
			cumulative[bounds[next].Seconds()] = count
			next++
		}
		count += n
		sum += float64(n) * ((low + high) / 2).Seconds()
	}
	for ; next < len(bounds); next++ {
		cumulative[bounds[next].Seconds()] = count
	}
	return count, sum, cumulative
}

func counter(d *prometheus.Desc, n uint64, labels ...string) prometheus.Metric {
	return prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(n), labels...)
}

func gauge(d *prometheus.Desc, v float64, labels ...string) prometheus.Metric {
	return prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
}

func oneIf(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
