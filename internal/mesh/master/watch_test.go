package master_test

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/meshctl/meshctl/internal/mesh/inspect"
	"github.com/meshctl/meshctl/internal/mesh/meshtest"
	"github.com/meshctl/meshctl/internal/mesh/wire"
)

const (
	extra  = `"meshctl":{"protocol":1}`
	watch  = `{"on":true}`
	ignore = `{"on":false}`
)

func node(t *testing.T, m *meshtest.Mesh, variant string) *meshtest.Raw {
	t.Helper()
	r := m.Dial(m.Addr)
	declare(t, r, fmt.Sprintf(`{"worker":"lone","port":1,"variant":%q,%s}`, variant, extra))
	return r
}

func operator(t *testing.T, m *meshtest.Mesh, variant string) *meshtest.Raw {
	t.Helper()
	r := m.Dial(m.Addr)
	declare(t, r, fmt.Sprintf(`{"worker":"@operator","variant":%q,%s}`, variant, extra))
	return r
}

// expectMesh waits for a mesh with these nodes, in this order.
func expectMesh(t *testing.T, r *meshtest.Raw, names ...string) *inspect.Mesh {
	t.Helper()
	var parts inspect.MeshParts
	for {
		mesh, err := parts.Add([]byte(r.Expect(wire.EventMesh)))
		if err != nil {
			t.Fatal(err)
		}
		if mesh == nil {
			continue
		}
		var have []string
		for _, n := range mesh.Nodes {
			have = append(have, n.Worker+"/"+n.Variant)
		}
		if strings.Join(have, " ") == strings.Join(names, " ") {
			return mesh
		}
	}
}

// lost waits until the watcher was told of so many lost reports, and gives the reports
// that came before.
func lost(t *testing.T, r *meshtest.Raw, n uint64) (reports []string) {
	t.Helper()
	for {
		var relay inspect.Relay
		if err := json.Unmarshal([]byte(r.Expect(wire.EventTelemetry)), &relay); err != nil {
			t.Fatal(err)
		}
		if relay.Report != nil {
			reports = append(reports, relay.Node+" "+string(relay.Report))
		}
		if n -= min(n, relay.Lost); n == 0 {
			return reports
		}
	}
}

func TestNodesReportWhileSomebodyWatches(t *testing.T) {
	m := meshtest.New(t, schema)
	n := node(t, m, "n1")
	js := m.Dial(m.Addr)
	declare(t, js, `{"worker":"nodeB","port":1,"variant":"js"}`)
	n.Say(wire.EventTelemetry, `{"instance":"unasked"}`)
	n.Silent(wire.EventObserve, 200*time.Millisecond)

	first := operator(t, m, "op1")
	first.Say(wire.EventWatch, watch)
	mesh := expectMesh(t, first, "lone/n1", "nodeB/js")
	if len(mesh.Schema) == 0 || mesh.Version != "test" {
		t.Errorf("the first mesh has the schema %q and version %q", mesh.Schema, mesh.Version)
	}
	if got := n.Expect(wire.EventObserve); got != `{"on":true,"every_ms":100}` {
		t.Errorf("the node was told %s", got)
	}
	late := node(t, m, "n2")
	if got := late.Expect(wire.EventObserve); got != `{"on":true,"every_ms":100}` {
		t.Errorf("the later node was told %s", got)
	}
	if mesh := expectMesh(t, first, "lone/n1", "lone/n2", "nodeB/js"); len(mesh.Schema) > 0 {
		t.Error("the schema was told again")
	}
	late.Close(nil)
	expectMesh(t, first, "lone/n1", "nodeB/js")

	// Somebody new makes all report anew. Who ends its link no longer watches.
	second := operator(t, m, "op2")
	second.Say(wire.EventWatch, watch)
	expectMesh(t, second, "lone/n1", "nodeB/js")
	n.Expect(wire.EventObserve)
	n.Say(wire.EventTelemetry, `{"instance":"asked"}`)
	for _, w := range []*meshtest.Raw{first, second} {
		if got := w.Expect(wire.EventTelemetry); got != `{"node":"lone/n1","report":{"instance":"asked"}}` {
			t.Errorf("a watcher was told %s", got)
		}
	}
	first.Say(wire.EventWatch, ignore)
	second.Close(nil)
	if got := n.Expect(wire.EventObserve); got != `{"on":false}` {
		t.Errorf("the node was told %s", got)
	}
	n.Say(wire.EventTelemetry, `{"instance":"late"}`)
	node(t, m, "n3").Silent(wire.EventObserve, 200*time.Millisecond)
	first.Silent(wire.EventTelemetry, 50*time.Millisecond)
	js.Silent(wire.EventObserve, 50*time.Millisecond)
}

func TestWatchersAreToldOfANewSchema(t *testing.T) {
	m := meshtest.New(t, schema)
	op := operator(t, m, "op")
	op.Say(wire.EventWatch, watch)
	before := expectMesh(t, op)
	if err := m.Master.SetSchema(meshtest.Parse(t, schema+"more: {_allow: [], _connect: [], _commands: {}}\n")); err != nil {
		t.Fatal(err)
	}
	after := expectMesh(t, op)
	if string(before.Schema) == string(after.Schema) || !strings.Contains(string(after.Schema), "more") {
		t.Errorf("the schema is now %s", after.Schema)
	}
}

// Nobody reports in another's name, and nobody but operators watches.
func TestHostileReports(t *testing.T) {
	m := meshtest.New(t, schema)
	n := node(t, m, `n"1\`)
	other := node(t, m, "n2")
	other.Say(wire.EventWatch, watch)
	op := operator(t, m, "op")
	op.Say(wire.EventWatch, `[]`)
	op.Say(wire.EventWatch, watch)
	n.Expect(wire.EventObserve)
	bad := []string{
		`{"instance":"x"},"node":"lone/n2"`, `{},"lost":9`, `{}}{`, `[]`, `null`, ``, `"text"`, `{"a":`,
		`{"pad":"` + strings.Repeat("x", inspect.MaxReport) + `"}`,
	}
	for _, body := range bad {
		n.Say(wire.EventTelemetry, body)
	}
	n.Say(wire.EventTelemetry, `{"node":"lone/n2","instance":"x"}`)
	if got := lost(t, op, uint64(len(bad))); len(got) != 0 {
		t.Errorf("these were passed on: %s", got)
	}
	report, _, err := inspect.DecodeRelay([]byte(op.Expect(wire.EventTelemetry)))
	if err != nil || report.Node != `lone/n"1\` {
		t.Errorf("got %+v, %v", report, err)
	}
	other.Silent(wire.EventTelemetry, 50*time.Millisecond)
}

func TestReportsAreRationed(t *testing.T) {
	m := meshtest.New(t, schema)
	n := node(t, m, "n1")
	calm := node(t, m, "n2")
	op := operator(t, m, "op")
	op.Say(wire.EventWatch, watch)
	n.Expect(wire.EventObserve)
	calm.Expect(wire.EventObserve)
	const many = 500
	started := time.Now()
	for range many {
		n.Say(wire.EventTelemetry, `{"instance":"x"}`)
	}
	calm.Say(wire.EventTelemetry, `{"instance":"calm"}`)
	most := 21 + int(20*time.Since(started).Seconds())
	// The loss is told before the next report.
	var from, lost int
	for from+lost < many || from == 0 {
		report, n, err := inspect.DecodeRelay([]byte(op.Expect(wire.EventTelemetry)))
		if err != nil {
			t.Fatal(err)
		}
		lost += int(n)
		if report == nil {
			continue
		}
		if report.Node == "lone/n1" {
			from++
			continue
		}
		if from+lost < many { // the rest comes with a later report
			time.Sleep(100 * time.Millisecond)
			calm.Say(wire.EventTelemetry, `{"instance":"calm"}`)
		}
	}
	most += int(20 * time.Since(started).Seconds())
	if from > most {
		t.Errorf("%d of %d reports were passed on, want at most %d", from, many, most)
	}
	if from+lost != many {
		t.Errorf("%d were passed on and %d lost of %d", from, lost, many)
	}
}

func TestWatchersAreBounded(t *testing.T) {
	m := meshtest.New(t, schema)
	var all []*meshtest.Raw
	for i := range 32 {
		op := operator(t, m, fmt.Sprint("op", i))
		op.Say(wire.EventWatch, watch)
		all = append(all, op)
	}
	for _, op := range all {
		expectMesh(t, op)
	}
	n := node(t, m, "n1")
	n.Expect(wire.EventObserve)
	n.Say(wire.EventTelemetry, `{"instance":"x"}`)
	for _, op := range all {
		op.Expect(wire.EventTelemetry)
	}
	late := operator(t, m, "late")
	late.Say(wire.EventWatch, watch)
	e, err := wire.DecodeErrorMessage([]byte(late.Expect(wire.EventError)))
	if err != nil || e.Code != wire.CodeOverloaded {
		t.Errorf("the 33rd was told %+v, %v", e, err)
	}
	all[0].Say(wire.EventWatch, watch) // it does already
	all[1].Say(wire.EventWatch, ignore)
	all[1].Say(wire.EventWatch, watch)
	expectMesh(t, all[1], "lone/n1")
	all[2].Close(nil)
	late.Say(wire.EventWatch, watch)
	meshtest.WaitFor(t, func() bool {
		ctx, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
		defer cancel()
		for {
			msg, err := late.Receive(ctx)
			if err != nil {
				late.Say(wire.EventWatch, watch) // the other's end was not yet noticed
				return false
			}
			if msg.Event == wire.EventMesh {
				return true
			}
		}
	}, func() string { return "room for another watcher" })
}

func TestOperatorsCancelRequests(t *testing.T) {
	m := meshtest.New(t, schema)
	n := node(t, m, "n1")
	js := m.Dial(m.Addr)
	declare(t, js, `{"worker":"nodeB","port":1,"variant":"js"}`)
	op := operator(t, m, "op")
	ask := func(r *meshtest.Raw, payload string) wire.Code {
		t.Helper()
		r.Say(wire.EventCommand, `{"uid":"u1","mesh.cancel":`+payload+`}`)
		answer, err := wire.DecodeResponse([]byte(r.Expect(wire.EventResponse)))
		if err != nil {
			t.Fatal(err)
		}
		if answer.Err != nil {
			return answer.Err.Code
		}
		return ""
	}
	for _, c := range []struct {
		payload string
		want    wire.Code
	}{
		{`{"node":"lone/n1","uid":"u7"}`, ""},
		{`{"node":"lone/none","uid":"u7"}`, wire.CodeNoVariant},
		{`{"node":"nodeB/js","uid":"u7"}`, wire.CodeDenied},
		{`{"node":"n1","uid":"u7"}`, wire.CodeBadRequest},
		{`{"node":"lone/n1","uid":"not one"}`, wire.CodeBadRequest},
	} {
		if got := ask(op, c.payload); got != c.want {
			t.Errorf("%s: %q, want %q", c.payload, got, c.want)
		}
	}
	if got := n.Expect(wire.EventWithdraw); got != `{"uid":"u7"}` {
		t.Errorf("the node was told %s", got)
	}
	js.Silent(wire.EventWithdraw, 50*time.Millisecond)
	if got := ask(n, `{"node":"lone/n1","uid":"u7"}`); got != wire.CodeDenied {
		t.Errorf("a node that cancels: %q", got)
	}
}
