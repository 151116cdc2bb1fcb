package inspect

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/meshctl/meshctl/internal/mesh/wire"
)

func (w *world) types() []string {
	var types []string
	for _, e := range w.picture().Events {
		types = append(types, e.Type)
	}
	return types
}

// wantEvents checks which events there are, in their order.
func (w *world) wantEvents(want ...string) {
	w.t.Helper()
	if got := w.types(); !slices.Equal(got, want) {
		w.t.Fatalf("events %v, want %v", got, want)
	}
}

func dialed(id, peer string) LinkCount {
	return LinkCount{ID: id, Peer: peer, Kind: wire.KindMeshctl, Transport: "native", Dialed: true, Since: 1_700_000_000_000}
}

func accepted(id, peer string) LinkCount {
	c := dialed(id, peer)
	c.Dialed = false
	return c
}

func TestLinksOfBothEndsAreOne(t *testing.T) {
	w := newWorld(t, "shop/1", "billing/1")
	w.report("shop/1", Report{Full: true, Links: []LinkCount{dialed("a", "billing/1")}})
	w.report("billing/1", Report{Full: true, Links: []LinkCount{accepted("b", "shop/1")}})
	var sent uint64
	for range 50 {
		w.pass(100 * time.Millisecond)
		sent += 5
		out, in := dialed("a", "billing/1"), accepted("b", "shop/1")
		out.Sent, in.Received, out.InFlight, in.InFlight = sent, sent, 3, 1
		w.report("shop/1", Report{Links: []LinkCount{out}})
		w.report("billing/1", Report{Links: []LinkCount{in}})
	}
	p := w.picture()
	if len(p.Links) != 1 || p.Totals.Links != 1 || p.Totals.MissingLinks != 0 {
		t.Fatalf("%+v", p.Links)
	}
	l := p.Links[0]
	if l.From != "shop/1" || l.To != "billing/1" || l.RateOut < 45 || l.RateOut > 55 || l.RateBack != 0 || l.InFlight != 4 {
		t.Errorf("%+v", l)
	}
	if n := w.node("shop/1"); n.Links != 1 {
		t.Errorf("%+v", n)
	}
	w.wantEvents()
	w.report("shop/1", Report{Unlinked: []string{"a"}})
	w.wantEvents() // the other end still has it
	w.report("billing/1", Report{Unlinked: []string{"b", "b", "nothing"}})
	w.wantEvents("link_down")
	if p := w.picture(); p.Totals.Links != 0 {
		t.Errorf("%+v", p.Links)
	}
	w.pass(time.Second)
	w.report("shop/1", Report{Links: []LinkCount{dialed("c", "billing/1")}})
	w.wantEvents("link_down", "link_up")
}

// TestSkippedPeer: two links to a peer that is skipped are marked, and told of once.
func TestSkippedPeer(t *testing.T) {
	w := newWorld(t, "shop/1", "billing/1")
	tell := func(skipped bool) {
		w.pass(time.Second)
		a, b := dialed("a", "billing/1"), accepted("b", "billing/1")
		a.Skipped, b.Skipped = skipped, skipped
		w.report("shop/1", Report{Links: []LinkCount{a, b}})
		w.report("billing/1", Report{})
		for _, l := range w.picture().Links {
			if l.Skipped != skipped {
				t.Errorf("%+v, skipped is %v", l, skipped)
			}
		}
	}
	w.report("shop/1", Report{Full: true, Links: []LinkCount{dialed("a", "billing/1"), accepted("b", "billing/1")}})
	w.report("billing/1", Report{Full: true})
	w.pass(introduction)
	tell(true)
	w.wantEvents("peer_skipped")
	tell(true)
	tell(false)
	w.wantEvents("peer_skipped", "peer_tried")
	tell(true)
	w.report("shop/1", Report{Unlinked: []string{"a"}})
	for _, l := range w.picture().Links {
		if !l.Missing && l.Skipped != (l.From == "billing/1") {
			t.Errorf("%+v", l)
		}
	}
}

func TestMissingLinks(t *testing.T) {
	w := newWorld(t, "shop/1", "billing/1", "billing/2")
	w.report("shop/1", Report{Full: true, Links: []LinkCount{dialed("a", "billing/1")}})
	w.report("billing/1", Report{Full: true, Links: []LinkCount{accepted("b", "shop/1")}})
	keepAlive := func() {
		w.pass(time.Second)
		w.report("shop/1", Report{})
		w.report("billing/1", Report{})
	}
	keepAlive()
	if p := w.picture(); p.Totals.MissingLinks != 0 {
		t.Fatalf("newcomers have time to connect: %+v", p.Links)
	}
	for range 5 {
		keepAlive()
	}
	p := w.picture()
	if p.Totals.MissingLinks != 1 || len(p.Links) != 2 || !p.Links[1].Missing || p.Links[1].From != "shop/1" || p.Links[1].To != "billing/2" {
		t.Fatalf("%+v", p.Links)
	}
	w.report("shop/1", Report{Links: []LinkCount{dialed("c", "billing/2")}})
	keepAlive()
	keepAlive()
	if p := w.picture(); p.Totals.MissingLinks != 0 || p.Totals.Links != 2 {
		t.Errorf("%+v", p.Links)
	}
	// A node that leaves has no links to miss.
	w.report("shop/1", Report{Unlinked: []string{"c"}})
	w.mesh("shop/1", "billing/1")
	for range 5 {
		keepAlive()
	}
	if p := w.picture(); p.Totals.MissingLinks != 0 {
		t.Errorf("%+v", p.Links)
	}
}

func TestNodesComeAndGo(t *testing.T) {
	w := newWorld(t, "shop/1", "billing/1")
	w.report("billing/1", Report{Full: true, InFlight: table(request(In, "u1", 5, PhaseRunning)), Queues: []QueueCount{{Command: "billing.quote", Depth: 3, OldestMillis: 500}}})
	w.wantEvents()
	if n := w.node("billing/1"); n.Queued != 3 || n.InFlight != 1 || n.Health != Healthy {
		t.Errorf("%+v", n)
	}
	if q := w.picture().Queues; len(q) != 1 || q[0].Node != "billing/1" || q[0].Oldest != 500*time.Millisecond {
		t.Errorf("%+v", q)
	}
	w.mesh("shop/1", "billing/1", "billing/2")
	w.wantEvents("node_up")
	draining := info("billing/2")
	draining.Draining = true
	w.apply(Update{Mesh: &Mesh{Nodes: []wire.NodeInfo{info("shop/1"), info("billing/1"), draining}}})
	if n := w.node("billing/2"); n.Health != Draining {
		t.Errorf("%+v", n)
	}
	w.mesh("shop/1")
	p := w.picture()
	if p.Totals.Nodes != 1 || len(p.Nodes) != 3 || len(p.Requests) != 0 || len(p.Queues) != 0 {
		t.Errorf("%+v", p)
	}
	if n := w.node("billing/1"); n.Health != Gone || n.GoneAt.IsZero() {
		t.Errorf("%+v", n)
	}
	types := w.types()
	slices.Sort(types)
	if fmt.Sprint(types) != "[node_down node_down node_draining node_up]" {
		t.Errorf("%v", types)
	}
	w.pass(goneStays + time.Second)
	if p := w.picture(); len(p.Nodes) != 1 {
		t.Errorf("%+v", p.Nodes)
	}
}

func TestAnotherInstanceIsAnEvent(t *testing.T) {
	w := newWorld(t, "shop/1")
	w.report("shop/1", Report{Full: true})
	w.pass(time.Second)
	w.report("shop/1", Report{Full: true, Instance: "i2"})
	w.wantEvents("node_replaced")
}

// One that came while we watched is no exception, but that it came is told once.
func TestAnotherInstanceOfANewcomerIsAnEvent(t *testing.T) {
	w := newWorld(t, "shop/1", "billing/1")
	w.report("shop/1", Report{Full: true})
	w.report("billing/1", Report{Full: true})
	w.mesh("shop/1")
	w.pass(time.Second)
	w.mesh("shop/1", "billing/1")
	w.report("billing/1", Report{Full: true, Instance: "i2"})
	w.wantEvents("node_down", "node_up")
	w.pass(time.Second)
	w.report("billing/1", Report{Full: true, Instance: "i3"})
	w.wantEvents("node_down", "node_up", "node_replaced")
	w.mesh("shop/1", "billing/1", "billing/2")
	w.report("billing/2", Report{Full: true})
	w.pass(time.Second)
	w.report("billing/2", Report{Full: true, Instance: "i2"})
	w.wantEvents("node_down", "node_up", "node_replaced", "node_up", "node_replaced")
}

func TestMasterLost(t *testing.T) {
	w := newWorld(t, "shop/1", "billing/1")
	w.report("shop/1", Report{Full: true})
	lost := w.now
	w.apply(Update{Status: &Status{Master: "127.0.0.1:4000", Reason: "connection refused"}})
	p := w.picture()
	if p.Status.Connected || !p.Since.Equal(lost) {
		t.Errorf("%+v since %s", p.Status, p.Since)
	}
	for _, n := range p.Nodes {
		if n.Health != Stale {
			t.Errorf("%+v", n)
		}
	}
	w.pass(10 * time.Second)
	w.apply(Update{Status: &Status{Connected: true, Master: "127.0.0.1:4000"}})
	w.mesh("shop/1") // the other one is about to come back
	w.pass(time.Second)
	w.wantEvents("master_lost", "master_back")
	if n := w.node("billing/1"); n.Health != Stale {
		t.Errorf("%+v", n)
	}
	w.mesh("shop/1", "billing/1")
	w.pass(time.Minute)
	w.wantEvents("master_lost", "master_back")
	w.apply(Update{Status: &Status{Master: "m"}})
	w.apply(Update{Status: &Status{Connected: true, Master: "m"}})
	w.mesh("shop/1")
	w.pass(returnGrace + time.Second)
	if n := w.node("billing/1"); n.Health != Gone {
		t.Errorf("it did not come back: %+v", n)
	}
}

func TestLostReports(t *testing.T) {
	w := newWorld(t, "shop/1")
	w.report("shop/1", Report{Full: true})
	w.seq["shop/1"] += 3
	w.report("shop/1", Report{Commands: []CommandCount{count(Out, 7, 0, time.Millisecond)}})
	w.apply(Update{Lost: 2}) // some of the three
	w.pass(time.Second)
	if p := w.picture(); p.Lost != 3 || p.Totals.Calls != 7 {
		t.Errorf("lost %d, %d calls", p.Lost, p.Totals.Calls)
	}
	w.wantEvents("telemetry_lost")
	// One that comes twice, or too late, counts nothing.
	w.seq["shop/1"] -= 2
	w.report("shop/1", Report{Commands: []CommandCount{count(Out, 5, 0, time.Millisecond)}})
	if p := w.picture(); p.Totals.Calls != 7 {
		t.Errorf("%d calls", p.Totals.Calls)
	}
}

func TestBlindCallsCountOnce(t *testing.T) {
	w := newWorld(t, "shop/1", "billing/1")
	blind := count(In, 4, 1, time.Millisecond)
	blind.Blind = true
	w.report("shop/1", Report{Full: true, Commands: []CommandCount{count(Out, 10, 0, time.Millisecond)}})
	w.report("billing/1", Report{Full: true, Commands: []CommandCount{count(In, 10, 0, time.Millisecond), blind}})
	c := w.command("billing.quote")
	if c.Calls != 15 || c.Failed != 1 || c.ByNode[0].Calls != 15 {
		t.Errorf("%+v", c)
	}
}

func TestJavaScriptNodesAreSeenFromTheOtherEnd(t *testing.T) {
	w := newWorld(t, "shop/1")
	js := info("billing/1")
	js.Kind = wire.KindJavaScript
	w.apply(Update{Mesh: &Mesh{Nodes: []wire.NodeInfo{info("shop/1"), js}}})
	link := dialed("a", "billing/1")
	w.report("shop/1", Report{Full: true, Links: []LinkCount{link}})
	for range 30 {
		w.pass(100 * time.Millisecond)
		link.Sent += 2
		link.InFlight = 4
		w.report("shop/1", Report{Links: []LinkCount{link}})
	}
	if n := w.node("billing/1"); n.Reports || n.RateIn < 18 || n.RateIn > 22 || n.InFlight != 4 || n.Links != 1 || n.Health != Healthy {
		t.Errorf("%+v", n)
	}
}

func TestRunawayHandlerIsShownAgain(t *testing.T) {
	w := newWorld(t, "shop/1", "billing/1")
	running := request(In, "u1", 10, PhaseRunning)
	w.report("shop/1", Report{Full: true, InFlight: table(request(Out, "u1", 10, PhaseSent))})
	w.report("billing/1", Report{Full: true, InFlight: table(running)})
	timeout := request(Out, "u1", 3000, PhaseDone)
	timeout.Code = wire.CodeTimeout
	w.report("shop/1", Report{Finished: []Request{timeout}, FinishedOf: 1, InFlight: table()})
	if p := w.picture(); len(p.Requests) != 1 || p.Requests[0].Code != wire.CodeTimeout {
		t.Fatalf("%+v", p.Requests)
	}
	w.pass(2 * time.Second)
	if p := w.picture(); len(p.Requests) != 1 || p.Requests[0].Phase != PhaseRunning || !p.Requests[0].Ended.IsZero() || p.Requests[0].Node != "billing/1" {
		t.Errorf("%+v", p.Requests)
	}
	w.report("billing/1", Report{Finished: []Request{request(In, "u1", 5000, PhaseDone)}, FinishedOf: 1, InFlight: table()})
	w.pass(2 * time.Second)
	if p := w.picture(); len(p.Requests) != 0 || len(w.m.requests.rows) != 0 {
		t.Errorf("%+v", p.Requests)
	}
}

func TestBounds(t *testing.T) {
	w := newWorld(t, "shop/1")
	long := strings.Repeat("x", 10_000)
	for i := range 30 {
		r := Report{Full: i == 0, LogsOf: 1 << 40}
		for k := range 500 {
			id := fmt.Sprintf("%d-%d", i, k)
			r.Commands = append(r.Commands, CommandCount{Command: "c." + id, Dir: Out, OK: 1, Errors: map[wire.Code]uint64{wire.Code(id): 1}, Latency: Buckets{{-1, 1}, {BucketCount, 1}, {5, 1}}})
			r.Links = append(r.Links, dialed(id, "peer/"+id+long))
			r.Queues = append(r.Queues, QueueCount{Command: id})
			r.Finished = append(r.Finished, Request{UID: id, Dir: Out, Code: "x", AgeMillis: -5, EndedAgo: 1e300})
		}
		r.InFlight = &InFlight{Total: -4}
		for k := range 1000 {
			r.InFlight.Requests = append(r.InFlight.Requests, Request{UID: fmt.Sprintf("r%d-%d", i, k), Dir: Out, Target: "x/y", AgeMillis: 1e300})
		}
		w.report("shop/1", r)
		w.report("unknown"+fmt.Sprint(i)+long, Report{Full: true})
		w.pass(100 * time.Millisecond)
	}
	p := w.picture()
	n := w.m.nodes["shop/1"]
	if len(n.counters) > maxNodeCommands || len(n.links) > maxNodeLinks || len(n.queues) > maxNodeQueues || len(n.table) > maxNodeLive {
		t.Errorf("%d counters, %d links, %d queues, %d requests", len(n.counters), len(n.links), len(n.queues), len(n.table))
	}
	if len(p.Requests) > maxNodeLive+maxFlashFailed || len(p.Nodes) != 1 || len(p.Events) > 3*eventBurst {
		t.Errorf("%d requests, %d nodes, %d events", len(p.Requests), len(p.Nodes), len(p.Events))
	}
	for name := range w.m.nodes {
		if len(name) > wire.MaxNameLen+1+wire.MaxVariantLen {
			t.Errorf("a name of %d bytes was kept", len(name))
		}
	}
	// All of it goes.
	w.report("shop/1", Report{Full: true})
	w.pass(time.Minute)
	if p := w.picture(); len(p.Requests) != 0 || len(p.Queues) != 0 || p.Totals.Links != 0 || p.Totals.InFlight != 0 {
		t.Errorf("%d requests, %d queues, %+v", len(p.Requests), len(p.Queues), p.Totals)
	}
}

func TestTimeMayJump(t *testing.T) {
	w := newWorld(t, "shop/1")
	w.report("shop/1", Report{Full: true, Commands: []CommandCount{count(Out, 1, 0, time.Millisecond)}})
	for _, jump := range []time.Duration{365 * 24 * time.Hour, -24 * time.Hour, -time.Second, 100 * time.Millisecond} {
		w.pass(jump)
		w.report("shop/1", Report{})
		if p := w.picture(); p.Totals.Rate < 0 || p.Totals.Calls != 1 {
			t.Errorf("after %s: %+v", jump, p.Totals)
		}
	}
	for range 30 {
		w.pass(100 * time.Millisecond)
		w.report("shop/1", Report{})
	}
	if n := w.node("shop/1"); n.Health != Healthy {
		t.Errorf("%+v", n)
	}
}

func TestEventsAfter(t *testing.T) {
	w := newWorld(t)
	_, seen := w.m.Events(0)
	for i := range 5 {
		w.mesh(fmt.Sprintf("shop/%d", i))
	}
	fresh, seen := w.m.Events(seen)
	if len(fresh) != 9 || seen != 9 || fresh[0].Node != "shop/0" {
		t.Errorf("%d, %+v", seen, fresh)
	}
	if again, _ := w.m.Events(seen); len(again) != 0 {
		t.Errorf("%+v", again)
	}
	if all, _ := w.m.Events(1000); len(all) != 9 {
		t.Errorf("%+v", all)
	}
}
