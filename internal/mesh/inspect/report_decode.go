package inspect

import (
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"

	"github.com/meshctl/meshctl/internal/mesh/wire"
)

const (
	maxErrorText = 200
	// maxMesh bounds the JSON of a Mesh: that of a schema, and as much of nodes.
	maxMesh = 4 << 20
	// maxCount is what any number in a report is below, so that adding some up neither
	// overflows nor loses precision.
	maxCount = 1 << 53
)

// DecodeReport reads a node's report, which nobody has judged: names obey the rules of
// wire, numbers and lists their bounds, and free text can be shown on a terminal. Errors
// are *wire.Error with CodeBadRequest. Members that it does not know are ignored.
func DecodeReport(body []byte) (*Report, error) {
	if len(body) > MaxReport {
		return nil, badReport("more than %d bytes", MaxReport)
	}
	var r Report
	if err := json.Unmarshal(body, &r); err != nil {
		return nil, badReport("%v", err)
	}
	if err := r.check(); err != nil {
		return nil, badReport("%v", err)
	}
	return &r, nil
}

func badReport(format string, args ...any) error {
	return &wire.Error{Code: wire.CodeBadRequest, Message: "read a report: " + CleanText(fmt.Sprintf(format, args...), 400)}
}

func (r *Report) check() error {
	c := checker{}
	if r.Node != "" {
		c.node("node", r.Node)
	}
	c.is(wire.ValidUID(r.Instance))
	c.number("seq", float64(r.Seq))
	c.number("every", float64(r.EveryMillis))
	for i := range r.Commands {
		c.command(&r.Commands[i])
	}
	for i := range r.Links {
		c.link(&r.Links[i])
	}
	for _, id := range r.Unlinked {
		c.is(wire.ValidUID(id))
	}
	if f := r.InFlight; f != nil {
		c.number("total", float64(f.Total))
		c.atMost("requests in flight", len(f.Requests), maxRows)
		for i := range f.Requests {
			c.request(&f.Requests[i])
		}
	}
	c.atMost("finished requests", len(r.Finished), maxFinished)
	for i := range r.Finished {
		c.request(&r.Finished[i])
	}
	c.number("finished_of", float64(r.FinishedOf))
	for _, q := range r.Queues {
		c.target(q.Command)
		c.number("depth", float64(q.Depth))
		c.number("oldest", float64(q.OldestMillis))
		c.number("retries", float64(q.Retries))
		c.number("dead", float64(q.Dead))
		c.oneOf("state", q.State, "", wire.QueueDrained, wire.QueueUnavailable)
	}
	c.atMost("log lines", len(r.Logs), maxLogs)
	for i := range r.Logs {
		l := &r.Logs[i]
		c.number("ago", l.Ago)
		c.oneOf("level", l.Level, "warn", "error")
		l.Message = CleanText(l.Message, maxLogLine)
	}
	c.number("logs_of", float64(r.LogsOf))
	return c.err
}

// checker keeps the first thing that is wrong.
type checker struct{ err error }

func (c *checker) is(err error) {
	if c.err == nil {
		c.err = err
	}
}

func (c *checker) fail(format string, args ...any) { c.is(fmt.Errorf(format, args...)) }

func (c *checker) number(what string, n float64) {
	if n < 0 || n >= maxCount || math.IsNaN(n) {
		c.fail("%s is out of bounds", what)
	}
}

func (c *checker) atMost(what string, n, most int) {
	if n > most {
		c.fail("more than %d %s", most, what)
	}
}

func (c *checker) oneOf(what, s string, allowed ...string) {
	if !slices.Contains(allowed, s) {
		c.fail("%s is %q", what, s)
	}
}

// node checks "worker/variant"; the worker may be the operator.
func (c *checker) node(what, name string) {
	worker, variant, _ := strings.Cut(name, "/")
	err := wire.ValidVariant(variant)
	if worker != wire.OperatorWorker && err == nil {
		err = wire.ValidWorker(worker)
	}
	if err != nil {
		c.fail("%s: %w", what, err)
	}
}

func (c *checker) target(s string) {
	if _, _, err := wire.ParseTarget(s); err != nil {
		c.is(err)
	}
}

func (c *checker) code(code wire.Code) {
	if code == "" || len(code) > wire.MaxNameLen || strings.Trim(string(code), "abcdefghijklmnopqrstuvwxyz0123456789_") != "" {
		c.fail("%q is no code", code)
	}
}

func (c *checker) command(n *CommandCount) {
	c.target(n.Command)
	c.oneOf("dir", n.Dir, Out, In)
	for _, x := range []uint64{n.Started, n.OK, n.Retries, n.BytesOut, n.BytesIn} {
		c.number("a counter", float64(x))
	}
	c.atMost("codes", len(n.Errors), 2*len(codes))
	for _, code := range slices.Sorted(maps.Keys(n.Errors)) {
		c.code(code)
		c.number("a counter", float64(n.Errors[code]))
	}
	for _, b := range n.Latency { // Buckets.UnmarshalJSON has checked the indices
		c.number("a bucket", float64(b.Count))
	}
}

func (c *checker) link(l *LinkCount) {
	c.is(wire.ValidUID(l.ID))
	c.node("peer", l.Peer)
	c.oneOf("kind", l.Kind, wire.KindMeshctl, wire.KindJavaScript)
	c.oneOf("transport", l.Transport, "native", "socketio")
	c.number("since", float64(l.Since))
	c.number("in_flight", float64(l.InFlight))
	c.number("sent", float64(l.Sent))
	c.number("received", float64(l.Received))
}

func (c *checker) request(r *Request) {
	if r.UID != "" { // nobody waits for its response
		c.is(wire.ValidUID(r.UID))
	}
	if r.Group != "" {
		c.is(wire.ValidUID(r.Group))
	}
	c.oneOf("dir", r.Dir, Out, In)
	c.node("caller", r.Caller)
	if strings.Contains(r.Target, "/") {
		c.node("target", r.Target)
	} else {
		c.is(wire.ValidWorker(r.Target))
	}
	c.target(r.Command)
	c.oneOf("kind", r.Kind, KindBalanced, KindBroadcast, KindQueued)
	c.oneOf("phase", r.Phase, PhaseQueued, PhaseSent, PhaseRunning, PhaseResponding, PhaseDone)
	c.number("age", r.AgeMillis)
	c.number("timeout", float64(r.TimeoutMillis))
	c.number("bytes", float64(r.Bytes))
	c.number("result", float64(r.ResultBytes))
	c.number("attempt", float64(r.Attempt))
	c.number("ended_ago", r.EndedAgo)
	if r.Code != "" {
		c.code(r.Code)
	}
	r.Error = CleanText(r.Error, maxErrorText)
	r.Payload = escapeJSON(r.Payload)
	c.atMost("bytes of a payload", len(r.Payload), 8*MaxPayload)
	if len(r.Payload) == 0 {
		r.Payload = nil
	}
}

// DecodeMesh reads what a master says of its nodes, with the checks of DecodeReport. The
// schema is not judged: see schema.FromWire. Errors are *wire.Error with CodeBadRequest.
func DecodeMesh(body []byte) (*Mesh, error) {
	if len(body) > maxMesh {
		return nil, badMesh("more than %d bytes", maxMesh)
	}
	var m Mesh
	if err := json.Unmarshal(body, &m); err != nil {
		return nil, badMesh("%v", err)
	}
	c := checker{}
	c.mesh(&m)
	if c.err != nil {
		return nil, badMesh("%v", c.err)
	}
	return &m, nil
}

func (c *checker) mesh(m *Mesh) {
	c.atMost("nodes", len(m.Nodes), wire.MaxNodesPerMessage)
	for i := range m.Nodes {
		c.info(&m.Nodes[i])
	}
	if len(m.Schema) > 0 && m.Schema[0] != '{' {
		c.fail("the schema is not an object")
	}
	m.Version = CleanText(m.Version, wire.MaxVariantLen)
}

func badMesh(format string, args ...any) error {
	return &wire.Error{Code: wire.CodeBadRequest, Message: "read the list of nodes: " + CleanText(fmt.Sprintf(format, args...), 400)}
}

func (c *checker) info(n *wire.NodeInfo) {
	c.is(wire.ValidWorker(n.Worker))
	c.is(wire.ValidVariant(n.Variant))
	n.IP = CleanText(n.IP, wire.MaxHostLen)
	if n.Port < 0 || n.Port > math.MaxUint16 {
		c.fail("a port is out of bounds")
	}
	c.oneOf("kind", n.Kind, wire.KindMeshctl, wire.KindJavaScript)
	c.oneOf("link", n.Link, "", "native", "socketio")
	n.Version = CleanText(n.Version, wire.MaxVariantLen)
	c.number("since", float64(n.Since))
	c.number("up_ms", float64(n.UpMillis))
}
