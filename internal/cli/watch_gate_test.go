package cli

import (
	"strings"
	"testing"
	"time"

	"github.com/meshctl/meshctl/internal/mesh/inspect"
	"github.com/meshctl/meshctl/internal/mesh/inspect/query"
	"github.com/meshctl/meshctl/internal/mesh/schema"
	"github.com/meshctl/meshctl/internal/mesh/wire"
)

func TestGate(t *testing.T) {
	// A picture every second, of so many nodes; -1 is one without the master.
	for name, tc := range map[string]struct {
		nodes  []int
		passed bool
		reason string
	}{
		"true at once":           {[]int{3, 3, 3, 3}, true, ""},
		"true in time":           {[]int{1, 2, 3, 3, 3, 3}, true, ""},
		"never true":             {[]int{1, 1, 1, 1, 1, 1}, false, "did not become true within 4s"},
		"true for a while":       {[]int{3, 3, 1, 3, 3, 3}, false, "was true for 2s only"},
		"master lost":            {[]int{3, 3, -1}, false, "was true for 2s only: the master was lost"},
		"lost from the start on": {[]int{-1, -1, -1, -1, -1, -1}, false, "within 4s: the master was lost"},
		"not decided":            {[]int{3, 3}, false, ""},
	} {
		t.Run(name, func(t *testing.T) {
			assert, err := query.Assert("nodes()>=3")
			if err != nil {
				t.Fatal(err)
			}
			g := &gate{assert: assert, holdFor: 3 * time.Second, within: 4 * time.Second}
			at := time.Unix(1_700_000_000, 0)
			done := false
			for i, n := range tc.nodes {
				p := &inspect.Picture{At: at.Add(time.Duration(i) * time.Second), Schema: &schema.Schema{}, Status: inspect.Status{Connected: n >= 0}}
				p.Totals.Nodes = max(n, 0)
				if done, err = g.judge(p); err != nil {
					t.Fatal(err)
				}
				if done {
					break
				}
			}
			if g.passed != tc.passed || !strings.Contains(g.reason, tc.reason) || done != (tc.passed || tc.reason != "") {
				t.Errorf("done %t, passed %t, %q", done, g.passed, g.reason)
			}
		})
	}
}

// What came before every node reports is not counted.
func TestGateCountsFromWhenAllReport(t *testing.T) {
	assert, err := query.Assert("errors()=0")
	if err != nil {
		t.Fatal(err)
	}
	g := &gate{assert: assert, holdFor: time.Second, within: time.Second}
	p := &inspect.Picture{At: time.Unix(1_700_000_000, 0), Schema: &schema.Schema{}, Status: inspect.Status{Connected: true}}
	p.Nodes = []inspect.Node{{NodeInfo: wire.NodeInfo{Kind: wire.KindMeshctl}}, {NodeInfo: wire.NodeInfo{Kind: wire.KindJavaScript}}}
	for i, step := range []struct {
		reports bool
		errors  uint64
		done    bool
	}{{false, 0, false}, {true, 7, false}, {true, 7, false}, {true, 7, true}} {
		p.Nodes[0].Reports, p.Totals.Errors = step.reports, step.errors
		done, err := g.judge(p)
		if err != nil || done != step.done {
			t.Fatalf("step %d: done %t, %v", i, done, err)
		}
		p.At = p.At.Add(500 * time.Millisecond)
	}
	if !g.passed {
		t.Error(g.reason)
	}
}
