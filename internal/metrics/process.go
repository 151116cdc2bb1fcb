package metrics

import (
	"runtime/metrics"
	"time"
)

// process writes what there is of any process of Go.
func (p *page) process(started time.Time) {
	samples := []metrics.Sample{
		{Name: "/sched/goroutines:goroutines"},
		{Name: "/memory/classes/heap/objects:bytes"},
		{Name: "/memory/classes/total:bytes"},
		{Name: "/gc/cycles/total:gc-cycles"},
	}
	metrics.Read(samples)
	for i, m := range []struct{ name, help, kind string }{
		{"go_goroutines", "Goroutines that exist.", gauge},
		{"go_memory_objects_bytes", "Memory of objects on the heap.", gauge},
		{"go_memory_total_bytes", "Memory that the Go runtime has from the system.", gauge},
		{"go_gc_cycles_total", "Garbage collections.", counter},
	} {
		if samples[i].Value.Kind() == metrics.KindUint64 {
			p.family(m.name, m.help, m.kind)
			p.sample(float64(samples[i].Value.Uint64()))
		}
	}
	p.family("process_start_time_seconds", "When the process started, in seconds since 1970.", gauge)
	p.sample(float64(started.UnixMilli()) / 1000)
	if seconds, ok := cpuSeconds(); ok {
		p.family("process_cpu_seconds_total", "Processor time that the process used.", counter)
		p.sample(seconds)
	}
}
