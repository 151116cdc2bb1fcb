package node

import (
	"cmp"
	"context"
	"encoding/json"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/meshctl/meshctl/internal/mesh/inspect"
	"github.com/meshctl/meshctl/internal/mesh/link"
	"github.com/meshctl/meshctl/internal/mesh/queue"
	"github.com/meshctl/meshctl/internal/mesh/rpc"
	"github.com/meshctl/meshctl/internal/mesh/schema"
	"github.com/meshctl/meshctl/internal/mesh/wire"
)

// telemetry is what a node tells of itself: counters always, the rest while it is
// observed. Operators have none; what counts may be called on nil.
type telemetry struct {
	*inspect.Reporter
	core *core
	in   map[string]*inspect.CommandMeter // of the node's own commands; does not change

	// payloads has those of requests in flight by payloadKey, with Config.InspectPayloads.
	payloads sync.Map

	mu      sync.Mutex
	working map[string]queue.Item // queued requests being worked on for which nobody waits, by item
}

type payloadKey struct{ dir, peer, uid string }

// newTelemetry gives with it the logger that the node has to use.
func newTelemetry(log *slog.Logger) (*telemetry, *slog.Logger) {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	t := &telemetry{working: make(map[string]queue.Item)}
	t.Reporter = inspect.NewReporter(t)
	return t, slog.New(t.Logs.Handler(log.Handler()))
}

// attach begins to count for a node.
func (t *telemetry) attach(c *core, own *schema.Worker) {
	t.core, c.telemetry = c, t
	t.in = make(map[string]*inspect.CommandMeter, len(own.Commands))
	for name := range own.Commands {
		t.in[name] = t.Meter.Command(own.Name+"."+name, inspect.In)
	}
}

// meter gives what counts the requests to a target, which the schema has; nil for operators.
func (t *telemetry) meter(target string) *inspect.CommandMeter {
	if t == nil {
		return nil
	}
	return t.Meter.Command(target, inspect.Out)
}

// answering gives what counts the requests for one of the node's commands; nil for operators.
func (t *telemetry) answering(command string) *inspect.CommandMeter {
	if t == nil {
		return nil
	}
	return t.in[command]
}

// blind tells whether a peer does not report.
func blind(p *peer, l *peerLink) bool { return !l.meshctl() || p.worker == wire.OperatorWorker }

// worksOn notes that a queued request is being worked on for which nobody waits, until
// the function that it gives is called.
func (t *telemetry) worksOn(item queue.Item) (end func()) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.working[item.ID] = item
	return func() {
		t.mu.Lock()
		defer t.mu.Unlock()
		delete(t.working, item.ID)
	}
}

func (t *telemetry) keepPayload(dir, peer, uid string, payload json.RawMessage) {
	if t.core.cfg.InspectPayloads && uid != "" {
		t.payloads.Store(payloadKey{dir, peer, uid}, payload)
	}
}

func (t *telemetry) dropPayload(dir, peer, uid string) {
	if t.core.cfg.InspectPayloads && uid != "" {
		t.payloads.Delete(payloadKey{dir, peer, uid})
	}
}

// withPayload has the payload of a request reported, where the node was told to.
func (t *telemetry) withPayload(row *inspect.Row, payload json.RawMessage) {
	if !t.core.cfg.InspectPayloads || payload == nil {
		return
	}
	worker, command, _ := strings.Cut(row.Command, ".")
	row.Raw, row.Sensitive = payload, t.core.sensitive(worker, command)
}

// sensitive are the members of a command's payloads that nobody is shown, by this node's
// own schema and by the master's.
func (c *core) sensitive(worker, command string) (members []string) {
	for _, s := range []*schema.Schema{c.cfg.Schema, c.access.Load()} {
		if s == nil {
			continue
		}
		if cmd, ok := s.Lookup(worker, command); ok {
			members = append(members, cmd.Sensitive...)
		}
	}
	return members
}

// What follows implements inspect.Subject.

// Instance changes when the node restarts.
func (t *telemetry) Instance() string { return t.core.self.Meshctl.Instance }

// Links describes the links to other nodes; operators come and go.
func (t *telemetry) Links() []inspect.LinkCount {
	p := &t.core.peers
	p.mu.Lock()
	defer p.mu.Unlock()
	var all []inspect.LinkCount
	for _, pr := range p.byName {
		if pr.worker == wire.OperatorWorker {
			continue
		}
		for _, l := range pr.links {
			info := l.Info()
			all = append(all, inspect.LinkCount{
				ID: info.ID, Peer: pr.name, Kind: l.peer.Kind(), Transport: info.Transport, Dialed: info.Dialed,
				Since: l.since.UnixMilli(), Draining: pr.draining, Skipped: pr.health.Skip(),
				InFlight: pr.pending.Len(), Sent: pr.sent.Load(), Received: pr.received.Load(),
			})
		}
	}
	slices.SortFunc(all, func(a, b inspect.LinkCount) int { return cmp.Or(cmp.Compare(a.Peer, b.Peer), cmp.Compare(a.ID, b.ID)) })
	return all
}

// Queues describes the queues.
func (t *telemetry) Queues() []inspect.QueueCount {
	var all []inspect.QueueCount
	for _, s := range t.core.queues.stats() {
		all = append(all, inspect.QueueCount{
			Command: t.core.self.Worker + "." + s.Command, Depth: s.Waiting + s.Running, OldestMillis: s.OldestMillis,
			Retries: s.Retries, Dead: s.Dead, State: s.State(),
		})
	}
	return all
}

// Counts reads the counters of the requests that the node sent and answered.
func (n *Node) Counts() []inspect.CommandCount { return n.telemetry.Meter.Counts() }

// LinkCounts describes the links to other nodes.
func (n *Node) LinkCounts() []inspect.LinkCount { return n.telemetry.Links() }

// InFlight gives the oldest requests under way.
func (t *telemetry) InFlight(atMost int) ([]inspect.Row, int) {
	out, in := rpc.NewOldest(atMost), rpc.NewOldest(atMost)
	for _, p := range t.core.peers.all() {
		p.pending.Oldest(out)
	}
	t.core.server.Oldest(in)
	t.mu.Lock()
	for _, w := range t.working { // as old as they will have been when they end
		in.Add(rpc.InFlight{UID: w.UID, Command: w.Command, Peer: w.Caller, Phase: rpc.PhaseRunning, Started: w.Enqueued, Bytes: len(w.Payload)})
	}
	t.mu.Unlock()
	var rows []inspect.Row
	for _, f := range out.All() {
		rows = append(rows, t.row(inspect.Out, f))
	}
	for _, f := range in.All() {
		rows = append(rows, t.row(inspect.In, f))
	}
	slices.SortStableFunc(rows, func(a, b inspect.Row) int { return a.Started.Compare(b.Started) })
	return rows[:min(atMost, len(rows))], out.Total() + in.Total()
}

func (t *telemetry) row(dir string, f rpc.InFlight) inspect.Row {
	row := inspect.Row{Started: f.Started, Request: inspect.Request{
		UID: f.UID, Group: f.Broadcast, Dir: dir, Kind: f.Kind, Phase: string(f.Phase), Bytes: f.Bytes,
		Caller: t.core.self.Name(), Target: f.Peer,
	}}
	if dir == inspect.In {
		row.Caller, row.Target = row.Target, row.Caller
	}
	worker, _, _ := strings.Cut(row.Target, "/")
	row.Command = worker + "." + f.Command
	if s := t.core.access.Load(); s != nil {
		if cmd, ok := s.Lookup(worker, f.Command); ok {
			row.Kind = kind(cmd)
		}
	}
	row.Kind = cmp.Or(row.Kind, inspect.KindQueued)
	if !f.Deadline.IsZero() {
		row.TimeoutMillis = f.Deadline.Sub(f.Started).Milliseconds()
	}
	if payload, ok := t.payloads.Load(payloadKey{dir, f.Peer, f.UID}); ok {
		t.withPayload(&row, payload.(json.RawMessage))
	}
	return row
}

// all lists whom there are links to, operators included.
func (p *peers) all() []*peer {
	p.mu.Lock()
	defer p.mu.Unlock()
	all := make([]*peer, 0, len(p.byName))
	for _, pr := range p.byName {
		all = append(all, pr)
	}
	return all
}

// reporting is what a master has a node report over one link. One goroutine uses it.
type reporting struct {
	t      *telemetry
	link   link.Link
	orders chan time.Duration
	cancel context.CancelFunc // nil while the node is not observed
	ended  chan struct{}
}

// observe does as the master says.
func (r *reporting) observe(ctx context.Context, o wire.Observe) {
	if !o.On {
		r.stop()
		return
	}
	if r.cancel == nil {
		r.orders, r.ended = make(chan time.Duration, 1), make(chan struct{})
		ctx, r.cancel = context.WithCancel(ctx)
		go func() {
			defer close(r.ended)
			r.t.Run(ctx, r.orders, func(body []byte) error {
				return r.link.Send(wire.Message{Event: wire.EventTelemetry, Body: body})
			})
		}()
	}
	select {
	case <-r.orders: // it has not come to that one yet
	default:
	}
	r.orders <- time.Duration(o.EveryMillis) * time.Millisecond
}

// stop ends the reports, and returns when no more will come.
func (r *reporting) stop() {
	if r.cancel != nil {
		r.cancel()
		<-r.ended
		r.cancel = nil
	}
}

// withdraw ends a request under way, whichever end of it this node is.
func (n *Node) withdraw(uid string) {
	for _, p := range n.peers.all() {
		if p.pending.Cancel(uid) {
			n.log.Info("an operator canceled a request", "uid", uid, "to", p.name)
		}
		n.server.Cancel(p.name, uid)
	}
}
