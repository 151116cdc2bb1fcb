package inspect

import (
	"encoding/json"
	"fmt"
	"runtime"
	"testing"
	"time"

	"github.com/meshctl/meshctl/internal/mesh/wire"
)

// BenchmarkModel is a second of a mesh of 500 nodes with 10,000 requests in flight, which
// send 1,000 reports, and of which ten pictures are taken. One operation should take well
// under 50 ms: 5% of a core.
func BenchmarkModel(b *testing.B) {
	const nodes, rows, links = 500, 20, 20
	m := NewModel()
	now := time.UnixMilli(1_700_000_000_000)
	name := func(i int) string { return fmt.Sprintf("worker%d/v%d", i%5, i%nodes) }
	mesh := &Mesh{Schema: json.RawMessage(testSchema)}
	for i := range nodes {
		mesh.Nodes = append(mesh.Nodes, wire.NodeInfo{Worker: fmt.Sprintf("worker%d", i%5), Variant: fmt.Sprintf("v%d", i), Kind: wire.KindMeshctl})
	}
	m.Apply(Update{At: now.UnixMilli(), Status: &Status{Connected: true}})
	m.Apply(Update{At: now.UnixMilli(), Mesh: mesh})
	step := 0
	report := func(i int) *Report {
		r := &Report{Node: name(i), Instance: "i", Seq: uint64(step + 1), Full: step == 0, EveryMillis: 500}
		total := uint64(step * 10)
		for c := range 4 {
			for _, dir := range []string{Out, In} {
				count := CommandCount{Command: fmt.Sprintf("worker%d.c%d", (i+c)%5, c), Dir: dir, Started: total + 10, OK: total}
				for k := range 12 {
					count.Latency = append(count.Latency, Bucket{300 + (step*7+i)%40 + k, uint64(step + 1)})
				}
				r.Commands = append(r.Commands, count)
			}
		}
		for k := range links {
			if step == 0 || k%5 == step%5 {
				r.Links = append(r.Links, LinkCount{ID: fmt.Sprint(k), Peer: name(i + k + 1), Kind: wire.KindMeshctl, Transport: "native", Dialed: true, Sent: total})
			}
		}
		// Half of the requests are new each time.
		r.InFlight = &InFlight{Total: rows}
		for k := range rows / 2 {
			for age := range 2 {
				r.InFlight.Requests = append(r.InFlight.Requests,
					Request{UID: fmt.Sprintf("%d-%d-%d", i, k, step-age), Dir: Out, Caller: name(i), Target: name(i + 1), Command: "worker0.c1", Kind: KindBalanced, Phase: PhaseSent, AgeMillis: float64(age*500 + k)},
					Request{UID: fmt.Sprintf("%d-%d-%d", (i+nodes-1)%nodes, k, step-age), Dir: In, Caller: name(i + nodes - 1), Target: name(i), Command: "worker0.c1", Kind: KindBalanced, Phase: PhaseRunning, AgeMillis: float64(age*500 + k)})
			}
		}
		for k := range 10 {
			r.Finished = append(r.Finished, Request{UID: fmt.Sprintf("%d-%d-%d", i, k, step-2), Dir: Out, Caller: name(i), Target: name(i + 1), Command: "worker0.c1", Kind: KindBalanced, Phase: PhaseDone, AgeMillis: 1000})
		}
		r.FinishedOf = 100
		return r
	}
	var p *Picture
	second := func() {
		var reports [2 * nodes]*Report
		for half := range 2 {
			for i := range nodes {
				reports[half*nodes+i] = report(i)
			}
			step++
		}
		b.StartTimer()
		for k, r := range reports {
			m.Apply(Update{At: now.UnixMilli() + int64(k), Report: r})
			if k%100 == 99 {
				p = m.Picture(now.Add(time.Duration(k) * time.Millisecond))
			}
		}
		b.StopTimer()
		now = now.Add(time.Second)
	}
	b.StopTimer()
	for range 12 {
		second()
	}
	b.ResetTimer()
	b.ReportAllocs()
	for range b.N {
		second()
	}
	under := 0
	for i := range p.Requests {
		if p.Requests[i].Ended.IsZero() {
			under++
		}
	}
	var mem runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&mem)
	b.ReportMetric(float64(under), "in_flight")
	b.ReportMetric(float64(len(p.Requests)), "rows")
	b.ReportMetric(float64(mem.HeapAlloc)/(1<<20), "MiB")
	runtime.KeepAlive(m)
}
