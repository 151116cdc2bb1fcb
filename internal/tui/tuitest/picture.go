package tuitest

import (
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"time"

	"github.com/meshctl/meshctl/internal/mesh/inspect"
	"github.com/meshctl/meshctl/internal/mesh/wire"
)

// Now is the moment of all pictures.
func Now() time.Time { return time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC) }

// Empty is the picture of a mesh in which nobody is yet.
func Empty() *inspect.Picture {
	return &inspect.Picture{
		At: Now(), Since: Now().Add(-3 * time.Second), Schema: Schema(),
		Status: inspect.Status{Connected: true, Master: "127.0.0.1:4040"},
	}
}

// Picture is a mesh of so many nodes with so many requests in flight. The same arguments
// give the same picture.
func Picture(nodes, requests int) *inspect.Picture {
	g := &generator{Rand: rand.New(rand.NewPCG(1, uint64(nodes))), p: Empty()}
	g.nodes(nodes)
	g.links()
	g.commands()
	g.requests(requests)
	g.history()
	g.events(min(10_000, 20*nodes))
	g.queues()
	g.totals()
	return g.p
}

// Lost is Picture after the master was lost, 42 seconds ago.
func Lost(nodes, requests int) *inspect.Picture {
	p := Picture(nodes, requests)
	p.Status = inspect.Status{Master: "127.0.0.1:4040", Reason: "read: connection reset by peer"}
	p.Since = p.At.Add(-42 * time.Second)
	for i := range p.Nodes {
		if p.Nodes[i].Health != inspect.Gone {
			p.Nodes[i].Health = inspect.Stale
		}
	}
	return p
}

// Hostile is a random picture in which every text is what somebody bad, or abroad, might
// send, and every number may be anything. The same seed gives the same picture.
func Hostile(seed uint64) *inspect.Picture {
	g := &generator{Rand: rand.New(rand.NewPCG(seed, seed)), p: Empty(), hostile: true}
	g.nodes(g.IntN(12))
	g.links()
	g.commands()
	g.requests(g.IntN(40))
	g.history()
	g.events(g.IntN(60))
	g.queues()
	g.totals()
	if g.IntN(4) == 0 {
		g.p.Schema = nil
	}
	if g.IntN(3) == 0 {
		g.p.Status = inspect.Status{Master: g.text("m:4000"), Reason: g.text("gone")}
	}
	return g.p
}

type generator struct {
	*rand.Rand
	p       *inspect.Picture
	hostile bool
}

// text gives s, or something hostile in its place.
func (g *generator) text(s string) string {
	if !g.hostile || g.IntN(3) > 0 {
		return s
	}
	bad := []string{
		"", "日本語の名前が長い", "\x1b[31mred\x1b[0m", "a\nb\tc", "\x00\x07\x7f\u0085", "👩‍👩‍👧‍👦 family", "e\u0301\u0301\u0301",
		"\u202eevil\u202c", "\xff\xfe bad", "very-long-" + fmt.Sprint(1<<60, 1<<61, 1<<62), "\x1b]0;title\x07", "\u200b\u200d\ufeff", "한글/뷰",
	}
	return bad[g.IntN(len(bad))]
}

func (g *generator) number(n int) int {
	if g.hostile && g.IntN(5) == 0 {
		return []int{-1, 0, math.MaxInt, math.MinInt, 1 << 40}[g.IntN(5)]
	}
	return n
}

func (g *generator) rate(v float64) float64 {
	if g.hostile && g.IntN(5) == 0 {
		return []float64{-1, math.NaN(), math.Inf(1), 1e300, 1e-300}[g.IntN(5)]
	}
	return v
}

// span gives about d, as latencies spread.
func (g *generator) span(d time.Duration) time.Duration {
	if g.hostile && g.IntN(5) == 0 {
		return []time.Duration{-1, 0, math.MaxInt64, math.MinInt64}[g.IntN(4)]
	}
	return time.Duration(float64(d) * math.Exp(g.NormFloat64()*0.5)).Round(10 * time.Microsecond)
}

func (g *generator) nodes(n int) {
	ws := workers()
	for i := range n {
		worker, variant := ws[i%len(ws)], fmt.Sprint(1+i/len(ws))
		x := inspect.Node{
			NodeInfo: wire.NodeInfo{
				Worker: g.text(worker), Variant: g.text(variant), IP: g.text(fmt.Sprintf("10.0.%d.%d", i/250, 1+i%250)), Port: 4041 + i%7,
				Kind: wire.KindMeshctl, Link: "native", Native: true, Version: g.text("0.5.0"),
				Since: g.p.At.Add(-time.Duration(1+i*i%5000) * time.Minute / 3).UnixMilli(),
			},
			Reports: true, InFlight: g.number(g.IntN(40)), RateIn: g.rate(g.Float64() * 900), RateOut: g.rate(g.Float64() * 300),
			Errors: uint64(g.IntN(5) * g.IntN(90)), P50: g.span(4 * time.Millisecond), P99: g.span(60 * time.Millisecond),
			Queued: g.number(max(0, g.IntN(60)-50)), LastSeen: g.p.At,
		}
		if worker == "legacy" {
			x.Kind, x.Link, x.Native, x.Version, x.Reports = wire.KindJavaScript, "socketio", false, "", false
			x.InFlight, x.RateIn, x.RateOut, x.Errors, x.P50, x.P99, x.Queued = 0, 0, 0, 0, 0, 0, 0
		}
		switch i % 23 {
		case 7:
			x.Health, x.Draining = inspect.Draining, true
		case 11:
			x.Health, x.ErrRate = inspect.Degraded, 3.5
		case 13:
			x.Health = inspect.Stale
		case 17:
			x.Health, x.GoneAt, x.RateIn, x.RateOut, x.InFlight = inspect.Gone, g.p.At.Add(-4*time.Second), 0, 0, 0
		}
		x.UpMillis = g.p.At.UnixMilli() - x.Since
		x.Name = x.Worker + "/" + x.Variant
		g.p.Nodes = append(g.p.Nodes, x)
	}
}

func (g *generator) links() {
	s := g.p.Schema
	for i := range g.p.Nodes {
		for j := range g.p.Nodes {
			from, to := &g.p.Nodes[i], &g.p.Nodes[j]
			if i == j || !s.MayConnect(from.Worker, to.Worker) || from.Health == inspect.Gone || to.Health == inspect.Gone {
				continue
			}
			if len(g.p.Nodes) > 60 && (i+j)%7 != 0 {
				continue // a big mesh would have more links than tests need
			}
			l := inspect.Link{
				From: from.Name, To: to.Name, Transport: to.Link, Since: g.p.At.Add(-time.Duration(i+j) * time.Minute),
				InFlight: g.number(g.IntN(9)), RateOut: g.rate(g.Float64() * 90), RateBack: g.rate(float64(g.IntN(2)) * g.Float64() * 20),
			}
			if (i*31+j)%23 == 5 {
				l = inspect.Link{From: from.Name, To: to.Name, Missing: true}
			}
			l.Draining = from.Draining || to.Draining
			from.Links++
			to.Links++
			g.p.Links = append(g.p.Links, l)
		}
	}
}

func (g *generator) commands() {
	for _, c := range commands() {
		median := time.Duration(c.slow * float64(time.Millisecond))
		x := inspect.Command{
			Name: g.text(c.name), Calls: uint64(g.IntN(900_000)), Retries: uint64(g.IntN(40)), InFlight: g.number(g.IntN(60)),
			Rate: g.rate(g.Float64() * 800), P50: g.span(median), P90: g.span(3 * median), P99: g.span(8 * median), P999: g.span(20 * median),
			BytesIn: uint64(g.IntN(1 << 30)), BytesOut: uint64(g.IntN(1 << 28)), Errors: map[wire.Code]uint64{},
		}
		for _, code := range []wire.Code{wire.CodeTimeout, wire.CodeHandlerError, wire.CodePeerLost, wire.CodeOverloaded} {
			if n := uint64(max(0, g.IntN(400)-250)); n > 0 {
				x.Errors[code] = n
				x.Failed += n
				x.ErrRate += 0.1
			}
		}
		for i := range 120 {
			x.Trend = append(x.Trend, float32(x.Rate*(0.6+0.4*math.Sin(float64(i)/9))))
		}
		for i := range 24 {
			up := time.Duration(float64(median) * math.Pow(2, float64(i-10)/2))
			d := float64(i-10) / 4
			x.Histogram = append(x.Histogram, inspect.Bin{UpTo: up, Count: uint64(20_000 * math.Exp(-d*d))})
		}
		worker, _, _ := strings.Cut(c.name, ".")
		for i := range g.p.Nodes {
			if n := &g.p.Nodes[i]; n.Worker == worker && n.Reports {
				x.ByNode = append(x.ByNode, inspect.CommandNode{
					Node: n.Name, Calls: uint64(g.IntN(90_000)), Failed: uint64(g.IntN(30)), Rate: g.rate(g.Float64() * 90),
					P50: g.span(median), P99: g.span(8 * median),
				})
			}
		}
		g.p.Commands = append(g.p.Commands, x)
	}
}

func (g *generator) requests(n int) {
	if len(g.p.Nodes) == 0 {
		return
	}
	cs := commands()
	phases := []string{inspect.PhaseSent, inspect.PhaseRunning, inspect.PhaseRunning, inspect.PhaseQueued, inspect.PhaseResponding}
	for i := range n {
		c := cs[g.IntN(len(cs))]
		x := inspect.Live{
			Request: inspect.Request{
				UID: g.text(fmt.Sprintf("%08x-%04x-4%03x-a000-%012x", g.Uint32(), i&0xffff, i&0xfff, i)), Dir: inspect.Out,
				Caller: g.p.Nodes[g.IntN(len(g.p.Nodes))].Name, Target: g.p.Nodes[g.IntN(len(g.p.Nodes))].Name,
				Command: g.text(c.name), Kind: c.kind, Phase: phases[g.IntN(len(phases))], Bytes: g.number(g.IntN(9000)),
			},
			Age: max(0, time.Duration(n-i)*20*time.Second/time.Duration(n)/time.Duration(1+g.IntN(3))), Timeout: 10 * time.Second,
		}
		if c.kind == inspect.KindBroadcast {
			x.Group = fmt.Sprintf("group-%d", g.IntN(1+n/8))
		}
		if i%9 == 4 { // one that ended just now
			x.Phase, x.Took = inspect.PhaseDone, x.Age
			x.Ended = g.p.At.Add(-time.Duration(g.IntN(1000)) * time.Millisecond)
			if i%18 == 4 {
				x.Code, x.Error = wire.CodeTimeout, g.text("no response before the deadline")
			}
		}
		if i%5 == 0 {
			x.Payload = []byte(`{"amount":12.5,"card":"***"}`)
		}
		x.Node = x.Caller
		g.p.Requests = append(g.p.Requests, x)
	}
}

func (g *generator) history() {
	if len(g.p.Nodes) == 0 {
		return
	}
	for i := range 240 {
		wave := 1 + math.Sin(float64(i)/17)/2 + g.Float64()/4
		g.p.History = append(g.p.History, inspect.Sample{
			At: g.p.At.Add(time.Duration(i-240) * time.Second), Calls: g.rate(900 * wave), Errors: g.rate(float64(max(0, g.IntN(40)-35))),
			P50: g.span(3 * time.Millisecond), P99: g.span(time.Duration(60*wave) * time.Millisecond), InFlight: g.number(int(120 * wave)),
		})
	}
}

func (g *generator) events(n int) {
	if len(g.p.Nodes) == 0 {
		return
	}
	levels := []inspect.EventLevel{inspect.LevelInfo, inspect.LevelInfo, inspect.LevelInfo, inspect.LevelWarn, inspect.LevelError}
	types := []string{"node_up", "node_down", "link_up", "link_down", "request_failed", "log", "node_draining", "schema_changed"}
	for i := range n {
		node := g.p.Nodes[g.IntN(len(g.p.Nodes))].Name
		kind := types[g.IntN(len(types))]
		e := inspect.Event{
			At: g.p.At.Add(time.Duration(i-n) * 700 * time.Millisecond), Level: levels[g.IntN(len(levels))], Type: kind, Node: node,
			Message: g.text(node + ": " + kind + ", as happens every now and then in a mesh of this size"),
		}
		switch kind {
		case "request_failed":
			e.Peer, e.Command = "billing/1", g.text("billing.charge")
		case "link_up", "link_down":
			e.Peer = "billing/1"
		}
		g.p.Events = append(g.p.Events, e)
	}
	g.p.EventCount = uint64(n)
}

func (g *generator) queues() {
	for i := range g.p.Nodes {
		n := &g.p.Nodes[i]
		if n.Worker != "mailer" || !n.Reports {
			continue
		}
		g.p.Queues = append(g.p.Queues, inspect.Queue{
			Node: n.Name, Oldest: g.span(time.Duration(i) * time.Second),
			QueueCount: inspect.QueueCount{Command: g.text("mailer.send"), Depth: g.number(7 * i % 40), Retries: uint64(i * i % 90), Dead: g.number(i % 3)},
		})
	}
}

func (g *generator) totals() {
	t := &g.p.Totals
	for i := range g.p.Nodes {
		if g.p.Nodes[i].Health != inspect.Gone {
			t.Nodes++
		}
	}
	for i := range g.p.Links {
		if g.p.Links[i].Missing {
			t.MissingLinks++
		} else {
			t.Links++
		}
	}
	for i := range g.p.Commands {
		if len(g.p.Nodes) == 0 {
			g.p.Commands = nil
			return
		}
		c := &g.p.Commands[i]
		t.Calls += c.Calls
		t.Errors += c.Failed
		t.Rate += c.Rate
		t.ErrorRate += c.ErrRate
	}
	for i := range g.p.Requests {
		if g.p.Requests[i].Ended.IsZero() {
			t.InFlight++
		}
	}
	t.P50, t.P99 = g.span(4*time.Millisecond), g.span(80*time.Millisecond)
}
