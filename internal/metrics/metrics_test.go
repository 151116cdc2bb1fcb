package metrics_test

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil/promlint"

	"github.com/meshctl/meshctl/internal/mesh/inspect"
	"github.com/meshctl/meshctl/internal/mesh/meshtest"
	nodes "github.com/meshctl/meshctl/internal/mesh/node"
	"github.com/meshctl/meshctl/internal/mesh/queue"
	"github.com/meshctl/meshctl/internal/mesh/wire"
	"github.com/meshctl/meshctl/internal/metrics"
)

type node struct{ meter inspect.Meter }

func (n *node) Counts() []inspect.CommandCount { return n.meter.Counts() }
func (n *node) LinkCounts() []inspect.LinkCount {
	return []inspect.LinkCount{{Peer: "shop/a", Transport: "native"}, {Peer: "shop/b", Transport: "native", Skipped: true}, {Peer: "shop/b", Transport: "native", Skipped: true}, {Peer: "old/c", Transport: "socketio"}}
}
func (n *node) QueueStats() []queue.Stats {
	return []queue.Stats{{Command: "send", Waiting: 7, Running: 1, Dead: 2, OldestMillis: 1500, Accepted: 12, Done: 4}}
}
func (n *node) Late() uint64 { return 3 }
func (n *node) Ready() bool  { return true }

type master struct{}

func (master) Nodes() []wire.NodeInfo {
	return []wire.NodeInfo{{Worker: "shop", Kind: "meshctl"}, {Worker: "shop", Kind: "meshctl", Draining: true}, {Worker: "old", Kind: "javascript"}}
}
func (master) Watchers() int { return 2 }
func (master) Masters() []wire.MasterInfo {
	return []wire.MasterInfo{{ID: "m1", State: wire.MasterHere, Registry: "away"}, {ID: "m2", State: wire.MasterLinked}, {ID: "m3", State: wire.MasterGone}, {ID: "m4", State: wire.MasterGone}}
}

func scrape(t *testing.T, h http.Handler) string {
	t.Helper()
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	if w.Code != http.StatusOK {
		t.Fatalf("%d %s", w.Code, w.Body)
	}
	problems, err := promlint.New(strings.NewReader(w.Body.String())).Lint()
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		t.Errorf("%s: %s", p.Metric, p.Text)
	}
	return w.Body.String()
}

func wantLines(t *testing.T, text string, lines ...string) {
	t.Helper()
	for _, line := range lines {
		if !strings.Contains(text, "\n"+line+"\n") {
			t.Errorf("no line %s", line)
		}
	}
}

func TestNode(t *testing.T) {
	var n node
	answered := n.meter.Command("bill.quote", inspect.In)
	for _, blind := range []bool{true, false} { // who asked makes no difference here
		tally := answered.Tally(blind)
		for range 3 {
			tally.Start(100)
		}
		tally.End("", 2*time.Millisecond, 10)
		tally.End(wire.CodeHandlerError, 40*time.Millisecond, 0)
	}
	sent := n.meter.Command("mail.send", inspect.Out).Tally(false)
	sent.Start(5)
	sent.Retry()
	sent.End("", 90*time.Second, 0)

	text := scrape(t, metrics.ForNode(&n, "bill", "1.2.3"))
	wantLines(t, text,
		`meshctl_build_info{role="node",version="1.2.3",worker="bill"} 1`,
		`meshctl_requests_total{code="ok",command="bill.quote",direction="in"} 2`,
		`meshctl_requests_total{code="handler_error",command="bill.quote",direction="in"} 2`,
		`meshctl_requests_in_flight{command="bill.quote",direction="in"} 2`,
		`meshctl_requests_in_flight{command="mail.send",direction="out"} 0`,
		`meshctl_request_retries_total{command="mail.send"} 1`,
		`meshctl_payload_bytes_total{command="bill.quote",direction="in",way="received"} 600`,
		`meshctl_payload_bytes_total{command="bill.quote",direction="in",way="sent"} 20`,
		`meshctl_request_duration_seconds_bucket{command="bill.quote",direction="in",le="0.001"} 0`,
		`meshctl_request_duration_seconds_bucket{command="bill.quote",direction="in",le="0.0025"} 2`,
		`meshctl_request_duration_seconds_bucket{command="bill.quote",direction="in",le="0.05"} 4`,
		`meshctl_request_duration_seconds_count{command="bill.quote",direction="in"} 4`,
		`meshctl_request_duration_seconds_bucket{command="mail.send",direction="out",le="60"} 0`,
		`meshctl_request_duration_seconds_bucket{command="mail.send",direction="out",le="+Inf"} 1`,
		`meshctl_links{transport="native",worker="shop"} 3`,
		`meshctl_variants_skipped{worker="shop"} 1`,
		`meshctl_variants_skipped{worker="old"} 0`,
		`meshctl_links{transport="socketio",worker="old"} 1`,
		`meshctl_late_responses_total 3`,
		`# TYPE go_goroutines gauge`,
		`# TYPE process_cpu_seconds_total counter`,
		`meshctl_ready 1`,
		`meshctl_queue_depth{command="bill.send"} 7`,
		`meshctl_queue_oldest_seconds{command="bill.send"} 1.5`,
		`meshctl_queue_dead_letters{command="bill.send"} 2`,
		`meshctl_queue_requests_total{command="bill.send",result="accepted"} 12`,
	)
	if strings.Contains(text, "shop/a") {
		t.Error("a variant is named")
	}
}

func TestMaster(t *testing.T) {
	wantLines(t, scrape(t, metrics.ForMaster(master{}, "1")),
		`meshctl_master_nodes{kind="meshctl",worker="shop"} 2`,
		`meshctl_master_nodes{kind="javascript",worker="old"} 1`,
		`meshctl_master_nodes_draining 1`,
		`meshctl_master_watchers 2`,
		`meshctl_master_peers{state="linked"} 1`,
		`meshctl_master_peers{state="unreachable"} 0`,
		`meshctl_master_peers{state="gone"} 2`,
		`meshctl_master_registry_up 0`,
	)
}

// What a real node shows is what was called, at both ends.
func TestRealMesh(t *testing.T) {
	m := meshtest.New(t, `
shop: {_connect: [bill]}
bill:
  _allow: [shop]
  _commands: {_balanced: {status: {builtin: status}, fail: {builtin: fail}}}
`)
	bill, shop := m.Join("bill", "b1"), m.Join("shop", "s1")
	meshtest.AwaitPeers(t, shop, "bill/b1")
	for range 7 {
		if _, err := shop.Call(t.Context(), "bill.status", nil, nodes.CallOptions{Timeout: time.Minute}); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := shop.Call(t.Context(), "bill.fail", nil, nodes.CallOptions{Timeout: time.Minute}); wire.CodeOf(err) != wire.CodeHandlerError {
		t.Fatal(err)
	}
	wantLines(t, scrape(t, metrics.ForNode(bill.Node, "bill", "1")),
		`meshctl_requests_total{code="ok",command="bill.status",direction="in"} 7`,
		`meshctl_requests_total{code="handler_error",command="bill.fail",direction="in"} 1`,
		`meshctl_request_duration_seconds_count{command="bill.status",direction="in"} 7`,
		`meshctl_requests_in_flight{command="bill.status",direction="in"} 0`,
		`meshctl_links{transport="native",worker="shop"} 1`,
		`meshctl_ready 1`,
	)
	wantLines(t, scrape(t, metrics.ForNode(shop.Node, "shop", "1")),
		`meshctl_requests_total{code="ok",command="bill.status",direction="out"} 7`,
		`meshctl_requests_total{code="handler_error",command="bill.fail",direction="out"} 1`,
	)
	wantLines(t, scrape(t, metrics.ForMaster(m.Master.Master, "1")),
		`meshctl_master_nodes{kind="meshctl",worker="bill"} 1`,
		`meshctl_master_watchers 0`,
	)
}
