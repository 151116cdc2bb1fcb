//go:build unix

package chaos

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/meshctl/meshctl/internal/chaos/history"
	"github.com/meshctl/meshctl/internal/mesh/inspect"
	"github.com/meshctl/meshctl/internal/mesh/schema"
	"github.com/meshctl/meshctl/internal/mesh/wire"
)

// These tests feed the judges of scenarios with what would have been seen had something gone wrong.

// judged fails the test unless the violations of a report are one that has want in it, or none where that is "".
func judged(t *testing.T, r *Report, want string) {
	t.Helper()
	switch told := strings.Join(r.Violations, "\n"); {
	case want == "" && told != "":
		t.Errorf("violations: %s", told)
	case want != "" && (len(r.Violations) != 1 || !strings.Contains(told, want)):
		t.Errorf("violations: %q, want %q", told, want)
	}
}

func TestJobsJudge(t *testing.T) {
	for want, change := range map[string]func(*jobs, *history.Jobs){
		"":                             func(*jobs, *history.Jobs) {},
		"99 of 100 jobs were accepted": func(_ *jobs, c *history.Jobs) { c.Accepted = 99 },
		"a/1 was accepted and is lost": func(_ *jobs, c *history.Jobs) { c.Lost = []string{"a/1"} },
		"not flagged":                  func(_ *jobs, c *history.Jobs) { c.Violations = []string{"a/1: the repetition is not flagged"} },
		"51 repetitions are more than the kills explain, which is 50": func(_ *jobs, c *history.Jobs) { c.Again++ },
		"no redis was killed": func(j *jobs, c *history.Jobs) { j.kills["redis"], c.Again = 0, 0 },
	} {
		j := &jobs{lab: &Lab{Size: Size{Count: 100}}, nodes: []string{"w1", "w2"}, kills: map[string]int{"node": 3, "redis": 1}}
		came := history.Jobs{Accepted: 100, Done: 100, Again: 50}
		change(j, &came)
		var r Report
		j.judge(&r, came)
		judged(t, &r, want)
	}
}

// Each victim has its turn in the first round, however few kills there is time for.
func TestDeal(t *testing.T) {
	victims := []*victim{{name: "redis", kind: "redis"}, {name: "w1", kind: "node"}, {name: "w2", kind: "node"}, {name: "c1", kind: "caller"}, {name: "c2", kind: "caller"}}
	for seed := range uint64(100) {
		dice := rand.New(rand.NewPCG(seed, 0))
		var kinds []string
		seen := make(map[*victim]int)
		for _, v := range deal(victims, true, dice) {
			kinds = append(kinds, v.kind)
			seen[v]++
		}
		if want := []string{"caller", "caller", "redis", "node", "node"}; !slices.Equal(kinds, want) || len(seen) != len(victims) {
			t.Fatalf("first %v, want %v", kinds, want)
		}
		clear(seen)
		for _, v := range deal(victims, false, dice) {
			seen[v]++
		}
		for _, v := range victims {
			if want := map[string]int{"node": 2, "redis": 1, "caller": 1}[v.kind]; seen[v] != want {
				t.Fatalf("then %s comes %d times, want %d", v.name, seen[v], want)
			}
		}
	}
}

func TestMasterKillJudge(t *testing.T) {
	for want, change := range map[string]func(*mesh50){
		"": func(*mesh50) {},
		"kill 2: converged 2.001s after the master was back":       func(m *mesh50) { m.kills[1].took = 2001 * time.Millisecond },
		"kill 1: no call came to an end while the master was away": func(m *mesh50) { m.kills[0].calls = 0 },
		"call 3 of a1: gone":       func(m *mesh50) { m.lost = []string{"call 3 of a1: gone"} },
		"1 links were dropped":     func(m *mesh50) { m.dropped.Store(1) },
		"only 100 calls were made": func(m *mesh50) { m.calls.Store(100) },
		fmt.Sprintf("caller 1 has 39 links at the end, not %d", answerers): func(m *mesh50) { m.links[1]-- },
	} {
		m := &mesh50{kills: []masterKillSeen{{time.Second, 10}, {2 * time.Second, 1}}, links: []int{answerers, answerers}}
		m.calls.Store(101)
		change(m)
		var r Report
		m.judge(&r, convergeLimit)
		judged(t, &r, want)
	}
}

func TestBelongings(t *testing.T) {
	before := belongings{goroutines: 10, openFiles: 20, masterGoroutines: 30, masterFiles: 40, files: []string{"a", "b"}}
	if before.more(before) {
		t.Error("the same is more")
	}
	for what, after := range map[string]func(*belongings){
		"a goroutine":             func(b *belongings) { b.goroutines++ },
		"an open file":            func(b *belongings) { b.openFiles++ },
		"the master's goroutines": func(b *belongings) { b.masterGoroutines += ofRuntime() + 1 },
		"the master's file":       func(b *belongings) { b.masterFiles++ },
		"a process":               func(b *belongings) { b.processes = []string{"1 meshctl"} },
		"a file":                  func(b *belongings) { b.files = []string{"a", "b", "c"} },
		"another file":            func(b *belongings) { b.files = []string{"a", "c"} },
	} {
		b := before
		if after(&b); !b.more(before) {
			t.Errorf("%s is not noticed", what)
		}
	}
}

func TestMeshViewDiffers(t *testing.T) {
	s, err := schema.Parse("schema.yaml", []byte(webSchema))
	if err != nil {
		t.Fatal(err)
	}
	nodes := []string{"left/left1", "left/left2", "right/right1", "sink/sink1"}
	for want, change := range map[string]func(v *meshView){
		"":                         func(*meshView) {},
		"left/left2 is not listed": func(v *meshView) { delete(v.listed, "left/left2") },
		"left/left3 is listed":     func(v *meshView) { v.listed["left/left3"] = true },
		// One end may think that it has a link that the other knows nothing of.
		"left/left1 has 0 links to right/right1, not 1": func(v *meshView) { unlink(v, "left/left1", "right/right1", true) },
		"sink/sink1 has 0 links from left/left1, not 1": func(v *meshView) { unlink(v, "sink/sink1", "left/left1", false) },
		"right/right1 has 2 links to left/left1, not 1": func(v *meshView) { addLink(v, "right/right1", "left/left1", true) },
		"sink/sink1 has 1 links to left/left1":          func(v *meshView) { addLink(v, "sink/sink1", "left/left1", true) },
		"left/left1 has 1 links to left/left3":          func(v *meshView) { addLink(v, "left/left1", "left/left3", true) },
	} {
		v := &meshView{listed: map[string]bool{}, links: map[string]map[string]inspect.LinkCount{}}
		for _, a := range nodes {
			v.listed[a] = true
			v.links[a] = map[string]inspect.LinkCount{}
			addLink(v, a, wire.OperatorWorker+"/somebody", false)
		}
		for _, a := range nodes {
			for _, b := range nodes {
				if a != b && s.MayConnect(workerOf(a), workerOf(b)) {
					addLink(v, a, b, true)
					addLink(v, b, a, false)
				}
			}
		}
		change(v)
		if got := v.differs(s, nodes); (want == "") != (got == "") || !strings.Contains(got, want) {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

func addLink(v *meshView, at, peer string, dialed bool) {
	v.report(&inspect.Report{Node: at, Links: []inspect.LinkCount{{ID: fmt.Sprint(len(v.links[at])), Peer: peer, Dialed: dialed}}})
}

func unlink(v *meshView, at, peer string, dialed bool) {
	maps.DeleteFunc(v.links[at], func(_ string, l inspect.LinkCount) bool { return l.Peer == peer && l.Dialed == dialed })
}

func TestMeshViewReports(t *testing.T) {
	v := &meshView{links: map[string]map[string]inspect.LinkCount{}}
	have := func(want ...string) {
		t.Helper()
		if got := slices.Sorted(maps.Keys(v.links["n"])); !slices.Equal(got, want) {
			t.Errorf("got %v, want %v", got, want)
		}
	}
	links := func(ids ...string) (all []inspect.LinkCount) {
		for _, id := range ids {
			all = append(all, inspect.LinkCount{ID: id})
		}
		return all
	}
	v.report(&inspect.Report{Node: "n", Full: true, Links: links("a", "b")})
	have("a", "b")
	v.report(&inspect.Report{Node: "n", Links: links("c"), Unlinked: []string{"a"}})
	have("b", "c")
	v.report(&inspect.Report{Node: "n", Full: true, Links: links("d")}) // forgets what it does not name
	have("d")
}

func TestPartitionJudge(t *testing.T) {
	for want, change := range map[string]func(*healed){
		"": func(*healed) {},
		"not whole 5s after the heal: a link is missing; it was after 6.2s": func(h *healed) { h.differs, h.took = "a link is missing", 6200*time.Millisecond },
		"a link is missing; nor after 30s":                                  func(h *healed) { h.differs, h.took = "a link is missing", 0 },
		"nothing was lost in the cut":                                       func(h *healed) { h.lost = 0 },
		"left1 has ended":                                                   func(h *healed) { h.ended = "left1" },
	} {
		h := healed{bites: true, links: 10, lost: 2, took: time.Second}
		change(&h)
		var r Report
		judgePartition(&r, "test", []healed{h})
		judged(t, &r, want)
	}
}

func TestSlowConsumerJudge(t *testing.T) {
	begun := time.Now()
	phases := []time.Time{begun, begun.Add(time.Second), begun.Add(2 * time.Second), begun.Add(3 * time.Second)}
	// Of the calls of each second one in fifty takes longer, by phase.
	calls := func(slow ...time.Duration) (all []slowCall) {
		for phase, longest := range slow {
			for i := range 100 {
				took := time.Millisecond
				if i%50 == 0 {
					took = longest
				}
				all = append(all, slowCall{At: phases[phase].Add(time.Duration(i) * time.Millisecond), Took: took, To: "quick"})
			}
		}
		return all
	}
	const ms = time.Millisecond
	for _, tt := range []struct {
		name    string
		calls   []slowCall
		failed  int
		tooSlow bool
		err     bool
	}{
		{"all is well", calls(ms, 3*ms, 6*ms), 0, false, false},
		{"more than twice", calls(ms, 3*ms, 7*ms), 0, true, false},
		{"more than twice, but quick", calls(ms, ms, 4*ms), 0, false, false},
		{"one failed before, one during, one after", append(calls(ms, ms, ms),
			slowCall{At: begun, To: "quick", Code: wire.CodePeerLost}, slowCall{At: phases[2], To: "quick", Code: wire.CodeTimeout}, slowCall{At: phases[3], To: "quick", Code: wire.CodeTimeout}), 2, false, false},
		{"none while the node is slow", calls(ms, ms), 0, false, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := &slowRound{codes: map[wire.Code]int{}, quiet: map[string]time.Duration{}, before: map[string]time.Duration{}, during: map[string]time.Duration{}}
			err := r.judge("caller", append(tt.calls, slowCall{At: phases[2], To: "slow", Code: wire.CodeOverloaded}), phases, quickLimit)
			if r.failed != tt.failed || (len(r.tooSlow) > 0) != tt.tooSlow || (err != nil) != tt.err {
				t.Errorf("got %d failed, %q, %v", r.failed, r.tooSlow, err)
			}
			if r.codes[wire.CodeOverloaded] != 1 || len(r.codes) != 1 {
				t.Errorf("codes of the flood: %v", r.codes)
			}
		})
	}
}

func TestSoakMemory(t *testing.T) {
	const mib = 1 << 20
	for _, tt := range []struct {
		name    string
		samples []int64
		long    bool
		want    string
	}{
		{"flat", []int64{10 * mib, 10 * mib, 100 * mib, 100 * mib, 109 * mib, 109 * mib}, true, ""},
		{"grown in the last third", []int64{100 * mib, 100 * mib, 100 * mib, 100 * mib, 111 * mib, 111 * mib}, true, "s2 grew by 11.0% from the second third to the last"},
		{"grown, in the short form", []int64{100 * mib, 100 * mib, 111 * mib}, false, ""},
		{"much, in the short form", []int64{100 * mib, 256 * mib, 100 * mib}, false, "s2 had 256 MiB"},
		{"too few samples", []int64{mib, mib}, true, "s2: only 2 samples of its memory"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			samples := map[string][]int64{}
			for _, name := range soakWatched() {
				samples[name] = []int64{mib, mib, mib}
			}
			samples["s2"] = tt.samples
			var r Report
			judgeMemory(&r, samples, tt.long)
			judged(t, &r, tt.want)
		})
	}
}

func TestSoakTraffic(t *testing.T) {
	for _, tt := range []struct{ name, stats, missed, want string }{
		{"all is well", `{"Calls":1000,"Disturbed":50,"Jobs":1,"Broadcasts":1}`, "", ""},
		{"more lost than kills explain", `{"Calls":1000,"Disturbed":51,"Jobs":1,"Broadcasts":1}`, "", "51 of 1000 calls were lost"},
		{"no broadcasts", `{"Calls":1000,"Disturbed":0,"Jobs":1,"Broadcasts":0}`, "", "there was no traffic of some kind"},
		{"a call to one that stays failed", `{"Calls":1000,"Disturbed":0,"Jobs":1,"Broadcasts":1}`, "peer_lost", "steady.echo: peer_lost"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			lab := &Lab{Dir: t.TempDir()}
			if _, err := lab.Write("caller.stats", tt.stats); err != nil {
				t.Fatal(err)
			}
			log, err := lab.History("caller")
			if err != nil {
				t.Fatal(err)
			}
			defer log.Close()
			if tt.missed != "" {
				if err := log.Add(history.Event{Kind: history.Missed, Job: "steady.echo", Note: tt.missed}); err != nil {
					t.Fatal(err)
				}
			}
			var r Report
			if err := (&soakRun{lab: lab}).traffic(&r); err != nil {
				t.Fatal(err)
			}
			judged(t, &r, tt.want)
		})
	}
}

// A process that ends by itself without having done its work, or crashes, breaks every scenario.
func TestAccidents(t *testing.T) {
	for script, want := range map[string]string{
		"exit 0":                              "",
		"exit 3":                              "x has ended by itself: exit status 3",
		"echo 'panic: runtime error'; exit 0": "a process has crashed",
	} {
		r, err := one(t, t.Context(), Scenario{Name: "accident", Run: func(_ context.Context, lab *Lab) (Report, error) {
			p, err := lab.Exec("x", "sh", "-c", script)
			if err == nil {
				<-p.Ended()
			}
			return Report{}, err
		}})
		if err != nil {
			t.Fatal(err)
		}
		judged(t, &Report{Violations: r.Violations}, want)
		if (r.Verdict == Held) != (want == "") {
			t.Errorf("%s: %s", script, r.Verdict)
		}
	}
}
