package node

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/meshctl/meshctl/internal/mesh/handler"
	"github.com/meshctl/meshctl/internal/mesh/inspect"
	"github.com/meshctl/meshctl/internal/mesh/queue"
	"github.com/meshctl/meshctl/internal/mesh/rpc"
	"github.com/meshctl/meshctl/internal/mesh/wire"
)

// queueControlTimeout bounds what an operator asks of the queues.
const queueControlTimeout = 30 * time.Second

// controlQueue answers an operator's request about the queues. now is when it came.
func (c *core) controlQueue(r *request, from *rpc.Source, now time.Time) {
	if r.peer.worker != wire.OperatorWorker {
		r.Reply(nil, &wire.Error{Code: wire.CodeDenied, Message: "only operators see to queues"})
		return
	}
	payload := r.cmd.Payload
	r.handler = handler.Func(func(ctx context.Context, _ *handler.Request) (json.RawMessage, error) {
		var q wire.QueueRequest
		if err := json.Unmarshal(payload, &q); err != nil {
			return nil, &wire.Error{Code: wire.CodeBadRequest, Message: "the request about queues is malformed"}
		}
		out, err := c.queues.control(ctx, q)
		if err != nil {
			return nil, err
		}
		return wire.Encode(out)
	})
	c.server.Go(&r.running, rpc.Incoming{
		From: from, UID: r.cmd.UID, Number: r.cmd.Number, Command: r.cmd.Name, Bytes: len(payload),
		Started: now, Deadline: now.Add(queueControlTimeout),
	}, r)
}

func (qs *queues) control(ctx context.Context, r wire.QueueRequest) (*wire.QueueReply, error) {
	if r.Op == wire.QueueList {
		all := qs.stats()
		text, err := wire.Encode(all)
		return &wire.QueueReply{Queues: text, Count: len(all)}, err
	}
	q := qs.byCommand[r.Command]
	if q == nil {
		return nil, &wire.Error{Code: wire.CodeUnknownCommand, Message: fmt.Sprintf("%s has no queue for %q", qs.core.self.Name(), r.Command), Hint: "meshctl queue ls lists the queues"}
	}
	limit := r.Limit
	if limit <= 0 || limit > wire.MaxQueueEntries {
		limit = wire.MaxQueueEntries
	}
	out := wire.QueueReply{Shared: q.Stats().Shared}
	var err error
	var entries []queue.Entry
	switch r.Op {
	case wire.QueuePeek:
		entries, err = q.Peek(ctx, limit)
	case wire.QueueDead:
		entries, err = q.Dead(ctx, limit)
	case wire.QueueRetry, wire.QueueRemove:
		if (len(r.IDs) == 0) != r.All {
			return nil, &wire.Error{Code: wire.CodeBadRequest, Message: "name dead letters, or all of them"}
		}
		act := q.Revive
		if r.Op == wire.QueueRemove {
			act = q.Bury
		}
		out.Count, err = act(ctx, r.IDs...)
	case wire.QueuePurge:
		out.Count, err = q.Purge(ctx)
	case wire.QueueClose, wire.QueueOpen:
		err = q.SetClosed(ctx, r.Op == wire.QueueClose)
	default:
		return nil, &wire.Error{Code: wire.CodeBadRequest, Message: fmt.Sprintf("queues know no operation %q", r.Op)}
	}
	if errors.Is(err, queue.ErrUnavailable) {
		err = &wire.Error{Code: wire.CodeUnavailable, Message: err.Error(), Temporary: true}
	}
	if err != nil {
		return nil, err
	}
	qs.show(r.Command, entries, &out)
	return &out, nil
}

// show adds entries, as many as fit into a message.
func (qs *queues) show(command string, entries []queue.Entry, out *wire.QueueReply) {
	room := qs.core.cfg.MaxPayload / 2
	sensitive := qs.core.sensitive(qs.core.self.Worker, command)
	for _, e := range entries {
		row := wire.QueueEntry{
			ID: e.ID, UID: e.UID, Caller: e.Caller, State: e.State, Enqueued: e.Enqueued.UnixMilli(),
			Attempts: e.Attempt, Redelivered: e.Redelivered, Error: e.Error, Bytes: len(e.Payload),
		}
		if !e.Due.IsZero() {
			row.Due = e.Due.UnixMilli()
		}
		if !e.Died.IsZero() {
			row.Died = e.Died.UnixMilli()
		}
		if qs.core.cfg.InspectPayloads {
			row.Payload, _ = inspect.Mask(e.Payload, sensitive)
		}
		if room -= 512 + len(row.Payload) + len(row.Error); room < 0 {
			return
		}
		out.Entries = append(out.Entries, row)
		out.Count++
	}
}

// NodeQueues asks a node about its queues, or to do something with them.
func (o *Operator) NodeQueues(ctx context.Context, to wire.NodeInfo, r wire.QueueRequest) (*wire.QueueReply, error) {
	if to.Kind != wire.KindMeshctl {
		return nil, &wire.Error{Code: wire.CodeBadRequest, Message: to.Worker + "/" + to.Variant + " is a JavaScript node, which has no queues to ask about"}
	}
	ctx, cancel := o.withTimeout(ctx, 0)
	defer cancel()
	p, l, failure := o.link(ctx, wire.Peer{
		Worker: to.Worker, Variant: to.Variant, IP: to.IP, Port: to.Port,
		Meshctl: &wire.Extra{Protocol: wire.ProtocolVersion, Native: to.Native},
	})
	if failure != nil {
		return nil, failure
	}
	payload, err := wire.Encode(r)
	if err != nil {
		return nil, err
	}
	request := rpc.Request{UID: drawUID(), Name: wire.ControlQueue, Payload: payload, Peer: p.name, Meshctl: true}
	text, err := p.pending.Do(ctx, l.Link, request)
	if err != nil {
		return nil, err
	}
	var out wire.QueueReply
	if err := json.Unmarshal(text, &out); err != nil {
		return nil, &wire.Error{Code: wire.CodeBadRequest, Message: fmt.Sprintf("read what %s says of its queues: %v", p.name, err)}
	}
	return &out, nil
}
