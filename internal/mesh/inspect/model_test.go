package inspect

import (
	"encoding/json"
	"slices"
	"testing"
	"time"

	"github.com/meshctl/meshctl/internal/mesh/wire"
)

// world feeds a model by a clock of its own.
type world struct {
	t   *testing.T
	m   *Model
	now time.Time
	seq map[string]uint64
}

func newWorld(t *testing.T, nodes ...string) *world {
	w := &world{t: t, m: NewModel(), now: time.UnixMilli(1_700_000_000_000), seq: map[string]uint64{}}
	w.apply(Update{Status: &Status{Connected: true, Master: "127.0.0.1:4000"}})
	w.mesh(nodes...)
	return w
}

func (w *world) apply(u Update) {
	u.At = w.now.UnixMilli()
	w.m.Apply(u)
}

func info(name string) wire.NodeInfo {
	worker, variant, _ := cutName(name)
	return wire.NodeInfo{Worker: worker, Variant: variant, Kind: wire.KindMeshctl, Since: 1}
}

func cutName(name string) (worker, variant string, ok bool) {
	for i := range name {
		if name[i] == '/' {
			return name[:i], name[i+1:], true
		}
	}
	return name, "", false
}

func (w *world) mesh(nodes ...string) {
	m := &Mesh{Schema: json.RawMessage(testSchema)}
	for _, name := range nodes {
		m.Nodes = append(m.Nodes, info(name))
	}
	w.apply(Update{Mesh: m})
}

const testSchema = `{
	"shop": {"_allow": ["mailer"], "_connect": ["billing"], "_commands": {"_balanced": {"status": null}, "_broadcast": {}}},
	"billing": {"_allow": ["shop"], "_connect": [], "_commands": {"_balanced": {"quote": null}, "_broadcast": {}}}
}`

// report sends r as the node's next.
func (w *world) report(node string, r Report) {
	w.seq[node]++
	r.Node, r.Seq, r.EveryMillis = node, w.seq[node], 100
	if r.Instance == "" {
		r.Instance = "i1"
	}
	w.apply(Update{Report: &r})
}

func (w *world) pass(d time.Duration) { w.now = w.now.Add(d) }

func (w *world) picture() *Picture { return w.m.Picture(w.now) }

func (w *world) node(name string) Node {
	w.t.Helper()
	p := w.picture()
	i := slices.IndexFunc(p.Nodes, func(n Node) bool { return n.Name == name })
	if i < 0 {
		w.t.Fatalf("no node %s in %+v", name, p.Nodes)
	}
	return p.Nodes[i]
}

func (w *world) command(name string) Command {
	w.t.Helper()
	p := w.picture()
	i := slices.IndexFunc(p.Commands, func(c Command) bool { return c.Name == name })
	if i < 0 {
		w.t.Fatalf("no command %s in %+v", name, p.Commands)
	}
	return p.Commands[i]
}

func count(dir string, ok, failed uint64, took time.Duration) CommandCount {
	c := CommandCount{Command: "billing.quote", Dir: dir, Started: ok + failed, OK: ok}
	if failed > 0 {
		c.Errors = map[wire.Code]uint64{wire.CodeTimeout: failed}
	}
	if ok+failed > 0 {
		c.Latency = []Bucket{{BucketOf(took), ok + failed}}
	}
	return c
}

func TestOvertakenFullReport(t *testing.T) {
	w := newWorld(t, "shop/1", "billing/1")
	link := func(id string, sent uint64) LinkCount {
		return LinkCount{ID: id, Peer: "billing/" + id, Kind: wire.KindMeshctl, Transport: "native", Dialed: true, Sent: sent}
	}
	say := func(r Report) {
		r.Node, r.Instance, r.EveryMillis = "shop/1", "i1", 100
		w.apply(Update{Report: &r})
	}
	other := count(Out, 7, 0, time.Millisecond)
	other.Command = "billing.other"
	full := Report{Seq: 1, Full: true, Commands: []CommandCount{count(Out, 10, 0, time.Millisecond), other},
		Links: []LinkCount{link("1", 10), link("2", 7)}, InFlight: &InFlight{Total: 3}}
	for range 2 {
		say(Report{Seq: 2, Commands: []CommandCount{count(Out, 12, 0, time.Millisecond)}, Links: []LinkCount{link("1", 12)}, InFlight: &InFlight{Total: 1}})
		say(full)
		n := w.node("shop/1")
		if n.InFlight != 1 || len(w.m.nodes["shop/1"].links) != 2 || w.m.nodes["shop/1"].peers["billing/1"].sent != 12 {
			t.Errorf("what is older took the place of what is newer: %+v", n)
		}
		if a, b := w.command("billing.quote"), w.command("billing.other"); a.Calls != 12 || b.Calls != 7 || a.InFlight != 0 {
			t.Errorf("of the counters not the newest are there: %+v, %+v", a, b)
		}
	}
	say(Report{Seq: 3, Full: true})
	say(full)
	if n := w.m.nodes["shop/1"]; len(n.links) != 0 || len(n.counters) != 0 {
		t.Errorf("an old Full report undid a newer one: %+v, %+v", n.links, n.counters)
	}
}

func TestTotalsAndRates(t *testing.T) {
	w := newWorld(t, "shop/1", "billing/1")
	w.report("shop/1", Report{Full: true, Commands: []CommandCount{count(Out, 1000, 0, time.Millisecond)}})
	w.report("billing/1", Report{Full: true, Commands: []CommandCount{count(In, 1000, 0, time.Millisecond)}})
	if c := w.command("billing.quote"); c.Calls != 1000 || c.Rate != 0 {
		t.Errorf("what was before counts in totals alone: %+v", c)
	}
	for i := range uint64(40) {
		w.pass(100 * time.Millisecond)
		w.report("shop/1", Report{Commands: []CommandCount{count(Out, 1000+(i+1)*9, i+1, 20*time.Millisecond)}})
		w.report("billing/1", Report{Commands: []CommandCount{count(In, 1000+(i+1)*10, 0, 10*time.Millisecond)}})
	}
	c := w.command("billing.quote")
	if c.Calls != 1400 || c.Failed != 40 || c.Errors[wire.CodeTimeout] != 40 {
		t.Errorf("totals are wrong: %+v", c)
	}
	if c.Rate < 95 || c.Rate > 105 || c.ErrRate < 9 || c.ErrRate > 11 {
		t.Errorf("rates are %v and %v, want 100 and 10", c.Rate, c.ErrRate)
	}
	if c.P50 < 19*time.Millisecond || c.P50 > 21*time.Millisecond {
		t.Errorf("p50 is %s", c.P50)
	}
	if len(c.ByNode) != 1 || c.ByNode[0].Calls != 1400 || c.ByNode[0].P50 > 11*time.Millisecond {
		t.Errorf("by node: %+v", c.ByNode)
	}
	p := w.picture()
	if p.Totals.Calls != 1400 || p.Totals.Errors != 40 || p.Totals.Nodes != 2 {
		t.Errorf("totals: %+v", p.Totals)
	}
	if n := w.node("shop/1"); n.RateOut < 95 || n.RateIn != 0 || n.Health != Degraded {
		t.Errorf("shop: %+v", n)
	}
	if len(p.History) != 4 || p.History[3].Calls != 100 || p.History[3].P50 < 19*time.Millisecond {
		t.Errorf("history: %+v", p.History)
	}
	// Another instance begins at nothing.
	w.report("shop/1", Report{Instance: "i2", Full: true, Commands: []CommandCount{count(Out, 5, 0, time.Millisecond)}})
	if c := w.command("billing.quote"); c.Calls != 1405 || c.Rate < 0 || c.Rate > 110 {
		t.Errorf("after a restart: %+v", c)
	}
	w.pass(20 * time.Second)
	if c := w.command("billing.quote"); c.Rate != 0 || c.P50 == 0 {
		t.Errorf("at rest: %+v", c)
	}
	if n := w.node("shop/1"); n.Health != Stale {
		t.Errorf("without reports: %+v", n)
	}
}

func request(dir, uid string, age float64, phase string) Request {
	return Request{UID: uid, Dir: dir, Caller: "shop/1", Target: "billing/1", Command: "billing.quote", Kind: KindBalanced, Phase: phase, AgeMillis: age}
}

func table(rs ...Request) *InFlight { return &InFlight{Total: len(rs), Requests: rs} }

func TestRequestsAreJoined(t *testing.T) {
	w := newWorld(t, "shop/1", "billing/1")
	w.report("shop/1", Report{Full: true, InFlight: table(request(Out, "u1", 50, PhaseSent), request(Out, "u2", 10, PhaseSent))})
	if p := w.picture(); len(p.Requests) != 2 || p.Requests[0].UID != "u1" || p.Requests[0].Phase != PhaseSent || p.Requests[0].Age != 50*time.Millisecond {
		t.Fatalf("%+v", p.Requests)
	}
	w.report("billing/1", Report{Full: true, InFlight: table(request(In, "u1", 40, PhaseRunning))})
	p := w.picture()
	if len(p.Requests) != 2 || p.Requests[0].Phase != PhaseRunning || p.Requests[0].Node != "shop/1" {
		t.Fatalf("%+v", p.Requests)
	}
	// The callee is done, the caller has not heard of it.
	done := request(In, "u1", 90, PhaseDone)
	w.report("billing/1", Report{Finished: []Request{done}, FinishedOf: 1, InFlight: table()})
	if p := w.picture(); p.Requests[0].Phase != PhaseResponding || !p.Requests[0].Ended.IsZero() {
		t.Fatalf("%+v", p.Requests[0])
	}
	failed := request(Out, "u1", 100, PhaseDone)
	failed.Code, failed.Error = wire.CodeHandlerError, "card declined"
	w.report("shop/1", Report{Finished: []Request{failed}, FinishedOf: 1, InFlight: table(request(Out, "u2", 20, PhaseSent))})
	if p := w.picture(); len(p.Requests) != 2 || p.Requests[0].Code != wire.CodeHandlerError || p.Requests[0].Ended.IsZero() || p.Requests[0].Took != 100*time.Millisecond {
		t.Fatalf("%+v", p.Requests)
	}
	if e := w.picture().Events; len(e) != 1 || e[0].Type != "request_failed" || e[0].UID != "u1" {
		t.Errorf("%+v", e)
	}
	w.pass(endedStays + time.Millisecond)
	if p := w.picture(); len(p.Requests) != 1 || p.Requests[0].UID != "u2" {
		t.Errorf("%+v", p.Requests)
	}
	// Nobody can end the requests of others.
	forged := request(Out, "u2", 1, PhaseDone)
	w.report("billing/1", Report{Finished: []Request{forged}, FinishedOf: 1})
	if p := w.picture(); p.Requests[0].UID != "u2" || !p.Requests[0].Ended.IsZero() {
		t.Errorf("%+v", p.Requests)
	}
}

func TestQueuedRequestsGoOnWhenTheyAreAccepted(t *testing.T) {
	w := newWorld(t, "shop/1", "billing/1")
	queued := func(dir, phase string) Request {
		q := request(dir, "u1", 20, phase)
		q.Kind = KindQueued
		return q
	}
	accepted := Report{Full: true, Finished: []Request{queued(Out, PhaseDone)}, FinishedOf: 1}
	waiting := Report{Full: true, InFlight: table(queued(In, PhaseQueued))}
	for _, callerFirst := range []bool{true, false} {
		if callerFirst {
			w.report("shop/1", accepted)
			w.report("billing/1", waiting)
		} else {
			w.report("billing/1", waiting)
			w.report("shop/1", accepted)
		}
		p := w.picture()
		if len(p.Requests) != 1 || p.Requests[0].Phase != PhaseQueued || !p.Requests[0].Ended.IsZero() {
			t.Fatalf("caller first %t: %+v", callerFirst, p.Requests)
		}
		w.report("billing/1", Report{Finished: []Request{queued(In, PhaseDone)}, FinishedOf: 1, InFlight: table()})
		if p := w.picture(); len(p.Requests) != 1 || p.Requests[0].Phase != PhaseDone {
			t.Fatalf("caller first %t: %+v", callerFirst, p.Requests)
		}
		w.pass(2 * time.Second)
		w.picture()
	}
}

// A job that is worked on is in flight wherever that is counted, though no caller waits for it.
func TestJobsCountAsInFlightWhileTheyAreWorkedOn(t *testing.T) {
	w := newWorld(t, "shop/1", "billing/1")
	job := request(In, "u1", 20, PhaseRunning)
	job.Kind = KindQueued
	w.report("billing/1", Report{Full: true, InFlight: table(job)})
	check := func(want int) {
		t.Helper()
		p := w.picture()
		listed, commands := 0, 0
		for i := range p.Requests {
			if p.Requests[i].Ended.IsZero() {
				listed++
			}
		}
		for i := range p.Commands {
			commands += p.Commands[i].InFlight
		}
		if newest := p.History[len(p.History)-1].InFlight; listed != want || commands != want || p.Totals.InFlight != want || w.node("billing/1").InFlight != want || newest != want {
			t.Errorf("listed %d, of commands %d, in all %d, at the node %d, in the history %d; want %d",
				listed, commands, p.Totals.InFlight, w.node("billing/1").InFlight, newest, want)
		}
	}
	w.picture()
	w.pass(2 * time.Second)
	check(1)
	done := job
	done.Phase = PhaseDone
	w.report("billing/1", Report{Finished: []Request{done}, FinishedOf: 1, InFlight: table()})
	w.picture()
	w.pass(2 * time.Second)
	check(0)
}

func TestRequestsThatNobodyWaitsForAreShown(t *testing.T) {
	w := newWorld(t, "shop/1", "billing/1")
	w.report("billing/1", Report{Full: true, InFlight: table(request(In, "", 3000, PhaseRunning), request(In, "", 1000, PhaseRunning))})
	if p := w.picture(); len(p.Requests) != 2 || p.Requests[0].Age != 3*time.Second || p.Requests[1].Age != time.Second || p.Requests[0].UID != "" {
		t.Fatalf("%+v", p.Requests)
	}
	w.pass(time.Second)
	w.report("billing/1", Report{InFlight: table(request(In, "", 2000, PhaseRunning)), Finished: []Request{request(In, "", 3500, PhaseDone)}, FinishedOf: 1})
	if p := w.picture(); len(p.Requests) != 1 || p.Requests[0].Age != 2*time.Second {
		t.Fatalf("%+v", p.Requests)
	}
}

// A Full report that has no room for everything is followed by the rest, which is as old.
func TestFullReportInParts(t *testing.T) {
	w := newWorld(t, "shop/1", "billing/1")
	first := count(Out, 1000, 0, time.Millisecond)
	second := first
	second.Command = "billing.other"
	w.report("shop/1", Report{Full: true, Partial: true, Commands: []CommandCount{first}, Links: []LinkCount{dialed("a", "billing/1")}})
	w.pass(100 * time.Millisecond)
	w.report("shop/1", Report{Commands: []CommandCount{second}, Links: []LinkCount{dialed("b", "billing/2")}})
	w.pass(time.Second)
	p := w.picture()
	if p.Totals.Calls != 2000 || p.Totals.Rate != 0 || p.History[0].Calls != 0 {
		t.Errorf("%+v %+v", p.Totals, p.History)
	}
	w.wantEvents()
	// Asked again, it does not take back what it has no room for.
	w.report("shop/1", Report{Full: true, Partial: true, Commands: []CommandCount{second}})
	if p := w.picture(); p.Totals.Links != 2 || p.Totals.Calls != 2000 {
		t.Errorf("%+v", p.Totals)
	}
	w.wantEvents()
	w.report("shop/1", Report{Full: true, Commands: []CommandCount{first, second}, Links: []LinkCount{dialed("a", "billing/1")}})
	if p := w.picture(); p.Totals.Links != 1 || p.Totals.Calls != 2000 {
		t.Errorf("%+v", p.Totals)
	}
	w.wantEvents("link_down")
}
