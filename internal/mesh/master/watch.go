package master

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"

	"github.com/meshctl/meshctl/internal/mesh/inspect"
	"github.com/meshctl/meshctl/internal/mesh/rpc"
	"github.com/meshctl/meshctl/internal/mesh/wire"
)

// Watching: operators ask to watch, nodes are then told to report, and what they report
// is passed on. While nobody watches nothing is sent to anybody.

const (
	maxWatchers = 32
	// watchGather is how long changes are gathered before those who watch are told.
	watchGather = 100 * time.Millisecond
	// observeGap is what lies at least between two times that all nodes are told to
	// report, which makes each of them tell all that it knows.
	observeGap = time.Second

	// Of one node; what goes over them is lost.
	reportsPerSecond     = 20
	reportBytesPerSecond = 128 << 10
	// reportsOfAll is about how many reports a second all nodes are asked for.
	reportsOfAll   = 1000
	fastestReports = 100 * time.Millisecond
)

// watching is a master's account of it. All but audience is guarded by Master.mu.
type watching struct {
	audience atomic.Pointer[[]*watcher] // nil: empty; replaced, never changed

	timer   *time.Timer // settles; nil when nothing is due
	settled time.Time
	seq     uint64 // of the last mesh that was told

	observing bool          // nodes are told to report
	every     time.Duration // how often
	told      time.Time     // when they all were
	fresh     bool          // they are to be told again, for the sake of somebody new

	// The same of the nodes of other masters, which are asked for the sake of operators.
	asked, freshOthers bool
}

// watcher is an operator that watches, or another master that has such. All but lost is guarded by Master.mu.
type watcher struct {
	*session
	relays   bool  // it is a master; does not change
	behind   bool  // its picture of the mesh is not the latest
	revision int64 // of the schema that it was told
	lost     atomic.Uint64
}

func (w *watching) all() []*watcher {
	if audience := w.audience.Load(); audience != nil {
		return *audience
	}
	return nil
}

// operators counts those that are no masters.
func (w *watching) operators() (n int) {
	for _, x := range w.all() {
		if !x.relays {
			n++
		}
	}
	return n
}

// Watchers is how many operators watch the mesh at this master.
func (m *Master) Watchers() int { return m.watching.operators() }

func (w *watching) find(s *session) int {
	return slices.IndexFunc(w.all(), func(x *watcher) bool { return x.session == s })
}

// watch is an operator's wish to watch, or not to. Said again, it makes all nodes tell
// all that they know.
func (m *Master) watch(s *session, body []byte) {
	wish, err := wire.DecodeWatch(body)
	if err != nil {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	w := &m.watching
	switch known := w.find(s); {
	case !s.operator():
		return
	case !wish.On:
		m.unwatch(s)
		return
	case known < 0 && s.master == "" && w.operators() == maxWatchers:
		m.log.Warn("refused a watcher", "operator", s.self.Variant, "watchers", maxWatchers)
		_ = rpc.Event(s.link, wire.EventError, wire.ErrorMessage{Code: wire.CodeOverloaded, Message: fmt.Sprintf("%d watch already, as many as this master lets", maxWatchers)})
		return
	case known < 0:
		audience := append(slices.Clone(w.all()), &watcher{session: s, behind: true, relays: s.master != ""})
		w.audience.Store(&audience)
		m.log.Log(context.Background(), levelOf(s), "an operator watches", "operator", s.self.Variant, "ip", s.link.Info().RemoteIP)
	}
	w.fresh = true
	w.freshOthers = w.freshOthers || s.master == ""
	if time.Since(w.settled) > watchGather {
		m.settle()
	} else {
		m.settleSoon()
	}
}

// unwatch takes a session out of the audience. mu is held.
func (m *Master) unwatch(s *session) {
	w := &m.watching
	i := w.find(s)
	if i < 0 {
		return
	}
	audience := slices.Delete(slices.Clone(w.all()), i, i+1)
	w.audience.Store(&audience)
	m.settleSoon()
}

// meshChanged has those who watch told. mu is held.
func (m *Master) meshChanged() {
	for _, x := range m.watching.all() {
		x.behind = true
		m.settleSoon()
	}
}

// settleSoon does what is due after a while. mu is held.
func (m *Master) settleSoon() {
	if m.watching.timer != nil {
		return
	}
	m.watching.timer = time.AfterFunc(watchGather, func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		if m.watching.timer != nil { // not stopped in this moment
			m.watching.timer = nil
			m.settle()
		}
	})
}

// stopWatching forgets what is due. mu is held.
func (m *Master) stopWatching() {
	if m.watching.timer != nil {
		m.watching.timer.Stop()
		m.watching.timer = nil
	}
}

// settle does what is due: it brings watchers up to date, and tells nodes to report or
// not to. mu is held.
func (m *Master) settle() {
	w := &m.watching
	w.settled = time.Now()
	m.tellMesh()
	m.askOthers()
	every := m.reportEvery()
	switch watched := len(w.all()) > 0; {
	case !watched && w.observing:
		w.observing = false
		m.observeAll()
	case watched && (!w.observing || w.fresh || every > w.every*5/4 || every < w.every/2):
		if w.settled.Sub(w.told) < observeGap {
			m.settleSoon()
			return
		}
		w.observing, w.fresh, w.every, w.told = true, false, every, w.settled
		m.observeAll()
	}
}

// reportEvery is how often a node reports, so that all together do not too often.
func (m *Master) reportEvery() time.Duration {
	return max(fastestReports, time.Duration(len(m.sessions)*(1+len(m.others)))*time.Second/reportsOfAll)
}

func (m *Master) observeAll() {
	for _, s := range m.sessions {
		m.observe(s)
	}
}

// observe tells a node whether and how often to report. mu is held.
func (m *Master) observe(s *session) {
	if s.self.Meshctl == nil || s.operator() {
		return
	}
	w := &m.watching
	if !w.observing {
		if s.reporter.Swap(nil) != nil {
			m.send(s, wire.EventObserve, wire.Observe{})
		}
		return
	}
	if s.reporter.Load() == nil {
		s.reporter.Store(newReporter(s.self.Name()))
	}
	m.send(s, wire.EventObserve, wire.Observe{On: true, EveryMillis: w.every.Milliseconds()})
}

// tellMesh brings those up to date who are behind. mu is held.
func (m *Master) tellMesh() {
	var nodes, withSchema [][]byte // the two things that they may be told, when first needed
	for _, w := range m.watching.all() {
		if !w.behind || w.relays {
			continue
		}
		parts := &nodes
		if w.revision != m.revision {
			parts = &withSchema
		}
		if *parts == nil {
			*parts = m.meshParts(w.revision != m.revision)
		}
		w.behind = false
		for _, part := range *parts {
			if err := w.link.Send(wire.Message{Event: wire.EventMesh, Body: bytes.Clone(part)}); err != nil {
				w.behind = true // it has to catch up first
				m.settleSoon()
				break
			}
		}
		if !w.behind {
			w.revision = m.revision
		}
	}
}

// meshParts encodes what those who watch know of the mesh. mu is held.
func (m *Master) meshParts(withSchema bool) [][]byte {
	m.watching.seq++
	var meshes []inspect.Mesh
	if withSchema {
		meshes = append(meshes, inspect.Mesh{Schema: m.schemaJSON})
	}
	nodes := m.infos()
	for some := range slices.Chunk(nodes, m.perMessage()) {
		meshes = append(meshes, inspect.Mesh{Nodes: some, Version: m.cfg.Version})
	}
	if len(nodes) == 0 {
		meshes = append(meshes, inspect.Mesh{Version: m.cfg.Version})
	}
	parts := make([][]byte, len(meshes))
	for i, mesh := range meshes {
		text, err := wire.Encode(mesh)
		if err == nil {
			parts[i], err = wire.Encode(inspect.MeshPart{Seq: m.watching.seq, Part: i, Parts: len(meshes), Mesh: text})
		}
		if err != nil { // there is nothing in it that could not be encoded
			m.log.Error("cannot tell watchers of the mesh", "error", err)
			return nil
		}
	}
	return parts
}

// reporter is a node that was told to report, as what it sends is passed on. Its
// session's reader alone uses it.
type reporter struct {
	prefix  []byte // of what is passed on, up to the report
	reports *rate.Limiter
	bytes   *rate.Limiter
	warned  bool
}

func newReporter(name string) *reporter {
	return &reporter{
		prefix:  []byte(`{"node":` + strconv.Quote(name) + `,"report":`), // of a name's printable ASCII it quotes as JSON does
		reports: rate.NewLimiter(reportsPerSecond, reportsPerSecond),
		bytes:   rate.NewLimiter(reportBytesPerSecond, reportBytesPerSecond),
	}
}

// telemetry passes a node's report on, in the name under which the node declared itself
// and otherwise unread. Nodes that were not told to report are not heard.
func (s *session) telemetry(body []byte) {
	r, audience := s.reporter.Load(), s.m.watching.all()
	if r == nil || len(audience) == 0 {
		return
	}
	now := time.Now()
	if len(body) > inspect.MaxReport || !r.reports.AllowN(now, 1) || !r.bytes.AllowN(now, len(body)) || !object(body) {
		if !r.warned {
			r.warned = true
			s.m.log.Warn("dropped a report that is too long, too soon or malformed; further ones are only counted", "ip", s.link.Info().RemoteIP, "bytes", len(body))
		}
		for _, w := range audience {
			w.lost.Add(1)
		}
		return
	}
	message := make([]byte, 0, len(r.prefix)+len(body)+1)
	message = append(append(append(message, r.prefix...), body...), '}')
	for i, w := range audience {
		if i < len(audience)-1 {
			w.pass(bytes.Clone(message))
		} else {
			w.pass(message) // the link owns it from now on
		}
	}
}

// relay passes what another master says of its nodes on to this one's operators.
func (m *Master) relay(body []byte) {
	if len(body) > maxRelayed || !object(body) {
		return
	}
	for _, w := range m.watching.all() {
		if !w.relays {
			w.pass(bytes.Clone(body))
		}
	}
}

// levelOf is where the coming of a watcher belongs in the log.
func levelOf(s *session) slog.Level {
	if s.master != "" {
		return slog.LevelDebug
	}
	return slog.LevelInfo
}

// maxRelayed bounds a report with the name of its node.
const maxRelayed = inspect.MaxReport + 1024

// object tells whether body is one whole JSON object, so that nothing in it can reach
// beyond its place in a message.
func object(body []byte) bool {
	body = bytes.TrimLeft(body, " \t\r\n")
	return len(body) > 0 && body[0] == '{' && json.Valid(body)
}

// pass sends a report on, or counts it as lost when the watcher does not keep up. It does
// not block.
func (w *watcher) pass(report []byte) {
	if lost := w.lost.Swap(0); lost > 0 {
		if err := rpc.Event(w.link, wire.EventTelemetry, inspect.Relay{Lost: lost}); err != nil {
			w.lost.Add(lost + 1)
			return
		}
	}
	if err := w.link.Send(wire.Message{Event: wire.EventTelemetry, Body: report}); err != nil {
		w.lost.Add(1)
	}
}

// cancel has a node end a request, for an operator.
func (s *session) cancel(cmd wire.Command) error {
	q, err := wire.DecodeCancelRequest(cmd.Payload)
	if err != nil {
		return s.reply(cmd, nil, err)
	}
	m := s.m
	worker, variant, _ := strings.Cut(q.Node, "/")
	m.mu.Lock()
	defer m.mu.Unlock()
	node, _ := m.nodes.Get(worker, variant)
	target, via := m.sessions[node.ClientID], m.via(s, worker, variant, node)
	switch {
	case !s.operator():
		err = &wire.Error{Code: wire.CodeDenied, Message: "only operators cancel the requests of others"}
	case target == nil && via != nil:
		return s.later(cmd, func() (json.RawMessage, func(), error) {
			result, err := via.order(wire.ControlCancel, q)
			return result, nil, err
		})
	case target == nil:
		err = &wire.Error{Code: wire.CodeNoVariant, Message: q.Node + " is not connected to the master"}
	case node.Meshctl == nil:
		err = &wire.Error{Code: wire.CodeDenied, Message: q.Node + " is a JavaScript node, which cannot be told to end a request"}
	}
	if err == nil {
		m.log.Info("an operator cancels a request", "operator", s.self.Variant, "node", q.Node, "uid", q.UID)
		err = rpc.Event(target.link, wire.EventWithdraw, wire.Cancel{UID: q.UID})
	}
	return s.reply(cmd, json.RawMessage(`{}`), err)
}
