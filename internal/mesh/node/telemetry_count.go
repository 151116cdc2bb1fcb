package node

import (
	"cmp"
	"encoding/json"
	"strings"
	"time"

	"github.com/meshctl/meshctl/internal/mesh/inspect"
	"github.com/meshctl/meshctl/internal/mesh/queue"
	"github.com/meshctl/meshctl/internal/mesh/rpc"
	"github.com/meshctl/meshctl/internal/mesh/schema"
	"github.com/meshctl/meshctl/internal/mesh/wire"
)

// outgoing is a request that this node sends, as it is counted: once for each variant
// that it is meant for, also when it goes on to another one.
type outgoing struct {
	t              *telemetry
	worker, target string // target is "worker.command"
	cmd            *schema.Command
	uid, broadcast string
	payload        json.RawMessage

	meter *inspect.CommandMeter
	tally *inspect.Tally // nil until a variant is found
	peer  string         // that it was offered to last
}

// outgoing begins a request, or a part of a broadcast.
func (c *core) outgoing(a *asking, uid, broadcast string) outgoing {
	return outgoing{
		t: c.telemetry, worker: a.result.Worker, target: a.result.Target, cmd: a.cmd, uid: uid, broadcast: broadcast,
		payload: a.payload, meter: a.meter,
	}
}

// offered counts that the request is sent to a variant.
func (o *outgoing) offered(p *peer, l *peerLink) {
	if o.t == nil {
		return
	}
	p.sent.Add(1)
	if o.tally != nil {
		o.tally.Retry()
	} else {
		o.tally = o.meter.Tally(blind(p, l))
		o.tally.Start(len(o.payload))
	}
	o.t.keepPayload(inspect.Out, p.name, o.uid, o.payload)
	if o.peer != "" {
		o.t.dropPayload(inspect.Out, o.peer, o.uid)
	}
	o.peer = p.name
}

// end counts the outcome that the caller sees.
func (o *outgoing) end(result json.RawMessage, failure *wire.Error, took time.Duration) {
	if o.t == nil {
		return
	}
	if o.tally == nil {
		o.tally = o.meter.Tally(false)
		o.tally.Start(len(o.payload))
	}
	code := codeOf(failure)
	o.tally.End(code, took, len(result))
	o.t.dropPayload(inspect.Out, o.peer, o.uid)
	if !o.t.Wants(code, took) {
		return
	}
	row := inspect.Row{Took: took, Request: inspect.Request{
		UID: o.uid, Group: o.broadcast, Dir: inspect.Out, Caller: o.t.core.self.Name(), Target: cmp.Or(o.peer, o.worker),
		Command: o.target, Kind: inspect.KindBalanced, Bytes: len(o.payload), ResultBytes: len(result), Code: code,
	}}
	if o.cmd != nil {
		row.Kind = kind(o.cmd)
	}
	if failure != nil {
		row.Error = failure.Message
	}
	o.t.withPayload(&row, o.payload)
	o.t.Finished(row)
}

func codeOf(failure *wire.Error) wire.Code {
	if failure == nil {
		return ""
	}
	return cmp.Or(failure.Code, wire.CodeHandlerError)
}

func kind(cmd *schema.Command) string {
	switch {
	case cmd.Queued:
		return inspect.KindQueued
	case cmd.Delivery == schema.Broadcast:
		return inspect.KindBroadcast
	}
	return inspect.KindBalanced
}

// refused counts a request that the schema does not let this node send.
func (t *telemetry) refused(target string, err error) {
	if t == nil || wire.CodeOf(err) != wire.CodeDenied {
		return // what no schema has is not counted: there could be any number of names
	}
	worker, _, _ := strings.Cut(target, ".")
	o := outgoing{t: t, worker: worker, target: target, meter: t.meter(target)}
	o.end(nil, rpc.AsError(err), 0)
}

// arrival is a request that came in, as it is counted. The zero value counts nothing.
type arrival struct {
	t       *telemetry
	tally   *inspect.Tally
	kind    string
	started time.Time
	// later says that the request is counted when it was worked on, in tried.
	later bool
}

// arrived counts a request for one of the node's commands.
func (t *telemetry) arrived(p *peer, l *peerLink, cmd wire.Command, own verdict, at time.Time) arrival {
	if own.meter == nil {
		return arrival{}
	}
	p.received.Add(1)
	a := arrival{t: t, tally: own.meter.Tally(blind(p, l)), kind: kind(own.command), started: at}
	if own.command.Queued && (cmd.UID == "" || cmd.Meta != nil && cmd.Meta.Ack) {
		a.later = true
		return a
	}
	a.tally.Start(len(cmd.Payload))
	t.keepPayload(inspect.In, p.name, cmd.UID, cmd.Payload)
	return a
}

// end counts the outcome.
func (a arrival) end(p *peer, cmd wire.Command, result json.RawMessage, failure *wire.Error) {
	if a.t == nil {
		return
	}
	if a.later {
		if failure == nil {
			return
		}
		a.tally.Start(len(cmd.Payload)) // it was refused
	}
	row := inspect.Row{Took: time.Since(a.started), Request: inspect.Request{UID: cmd.UID, Caller: p.name, Command: cmd.Name, Kind: a.kind}}
	a.t.dropPayload(inspect.In, p.name, cmd.UID)
	a.t.answered(a.tally, row, cmd.Payload, result, failure)
}

// tried counts a queued request for which nobody waits, once the try has ended it.
func (t *telemetry) tried(item queue.Item, result json.RawMessage, failure *wire.Error) {
	meter, own := t.in[item.Command], t.core.own.Commands[item.Command]
	if meter == nil || failure != nil && item.Attempt <= t.core.queueOptions(own, nil).Retries {
		return // there will be another one
	}
	worker, variant, _ := strings.Cut(item.Caller, "/")
	reports := worker != wire.OperatorWorker
	if p, l := t.core.peers.find(worker, variant); l != nil {
		reports = !blind(p, l)
	}
	tally := meter.Tally(!reports)
	tally.Start(len(item.Payload))
	row := inspect.Row{Took: time.Since(item.Enqueued), Request: inspect.Request{UID: item.UID, Caller: item.Caller, Command: item.Command, Kind: inspect.KindQueued, Attempt: item.Attempt}}
	t.answered(tally, row, item.Payload, result, failure)
}

func (t *telemetry) answered(tally *inspect.Tally, row inspect.Row, payload, result json.RawMessage, failure *wire.Error) {
	row.Code = codeOf(failure)
	tally.End(row.Code, row.Took, len(result))
	if !t.Wants(row.Code, row.Took) {
		return
	}
	row.Dir, row.Target, row.Command = inspect.In, t.core.self.Name(), t.core.self.Worker+"."+row.Command
	row.Bytes, row.ResultBytes = len(payload), len(result)
	if failure != nil {
		row.Error = failure.Message
	}
	t.withPayload(&row, payload)
	t.Finished(row)
}
