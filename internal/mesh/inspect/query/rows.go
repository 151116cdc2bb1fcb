package query

import (
	"strings"

	"github.com/meshctl/meshctl/internal/mesh/inspect"
)

// What a picture lists, as rows: (*EventRow)(&picture.Events[i]) costs nothing.
type (
	EventRow   inspect.Event
	NodeRow    inspect.Node
	CommandRow inspect.Command
	LiveRow    inspect.Live
	QueueRow   inspect.Queue
)

// EventFields are the fields of an EventRow.
func EventFields() []Field {
	return texts("type", "level", "node", "peer", "worker", "variant", "command", "uid", "code", "message")
}

// Field implements Row. Worker and variant are those of node.
func (e *EventRow) Field(name string) (Value, bool) {
	switch name {
	case "type":
		return text(e.Type)
	case "level":
		return text(string(e.Level))
	case "node":
		return text(e.Node)
	case "peer":
		return text(e.Peer)
	case "worker":
		return text(workerOf(e.Node))
	case "variant":
		return text(variantOf(e.Node))
	case "command":
		return text(e.Command)
	case "uid":
		return text(e.UID)
	case "code":
		return text(e.Code)
	case "message":
		return text(e.Message)
	}
	return Value{}, false
}

// Text implements Row.
func (e *EventRow) Text(i int) (string, bool) {
	switch i {
	case 0:
		return e.Type, true
	case 1:
		return e.Node, true
	case 2:
		return e.Peer, true
	case 3:
		return e.Command, true
	case 4:
		return e.UID, true
	case 5:
		return e.Code, true
	case 6:
		return e.Message, true
	}
	return "", false
}

// NodeFields are the fields of a NodeRow.
func NodeFields() []Field {
	return append(texts("node", "worker", "variant", "address", "kind", "version", "state"),
		Field{"links", KindNumber}, Field{"inflight", KindNumber}, Field{"in", KindNumber}, Field{"out", KindNumber},
		Field{"errors", KindNumber}, Field{"queued", KindNumber}, Field{"p50", KindDuration}, Field{"p99", KindDuration})
}

// Field implements Row. In and out are requests a second.
func (n *NodeRow) Field(name string) (Value, bool) {
	switch name {
	case "node":
		return text(n.Name)
	case "worker":
		return text(n.Worker)
	case "variant":
		return text(n.Variant)
	case "address":
		return text(n.IP)
	case "kind":
		return text(n.Kind)
	case "version":
		return text(n.Version)
	case "state":
		return text(n.Health.String())
	case "links":
		return Number(float64(n.Links)), true
	case "inflight":
		return Number(float64(n.InFlight)), true
	case "in":
		return Number(n.RateIn), true
	case "out":
		return Number(n.RateOut), true
	case "errors":
		return Number(float64(n.Errors)), n.Reports
	case "queued":
		return Number(float64(n.Queued)), n.Reports
	case "p50":
		return Duration(n.P50), n.P50 > 0
	case "p99":
		return Duration(n.P99), n.P99 > 0
	}
	return Value{}, false
}

// Text implements Row.
func (n *NodeRow) Text(i int) (string, bool) {
	switch i {
	case 0:
		return n.Name, true
	case 1:
		return n.IP, true
	case 2:
		return n.Kind, true
	case 3:
		return n.Version, true
	case 4:
		return n.Health.String(), true
	}
	return "", false
}

// CommandFields are the fields of a CommandRow.
func CommandFields() []Field {
	return append(texts("command", "worker"),
		Field{"calls", KindNumber}, Field{"errors", KindNumber}, Field{"rate", KindNumber}, Field{"inflight", KindNumber}, Field{"retries", KindNumber},
		Field{"p50", KindDuration}, Field{"p90", KindDuration}, Field{"p99", KindDuration}, Field{"p999", KindDuration})
}

// Field implements Row.
func (c *CommandRow) Field(name string) (Value, bool) {
	switch name {
	case "command":
		return text(c.Name)
	case "worker":
		worker, _, _ := strings.Cut(c.Name, ".")
		return text(worker)
	case "calls":
		return Number(float64(c.Calls)), true
	case "errors":
		return Number(float64(c.Failed)), true
	case "rate":
		return Number(c.Rate), true
	case "inflight":
		return Number(float64(c.InFlight)), true
	case "retries":
		return Number(float64(c.Retries)), true
	case "p50":
		return Duration(c.P50), c.P50 > 0
	case "p90":
		return Duration(c.P90), c.P90 > 0
	case "p99":
		return Duration(c.P99), c.P99 > 0
	case "p999":
		return Duration(c.P999), c.P999 > 0
	}
	return Value{}, false
}

// Text implements Row.
func (c *CommandRow) Text(i int) (string, bool) { return c.Name, i == 0 }

// LiveFields are the fields of a LiveRow.
func LiveFields() []Field {
	return append(texts("uid", "group", "caller", "target", "worker", "variant", "command", "kind", "phase", "code"),
		Field{"age", KindDuration}, Field{"timeout", KindDuration}, Field{"size", KindSize}, Field{"result", KindSize}, Field{"attempt", KindNumber})
}

// Field implements Row. Worker and variant are the target's.
func (l *LiveRow) Field(name string) (Value, bool) {
	switch name {
	case "uid":
		return text(l.UID)
	case "group":
		return text(l.Group)
	case "caller":
		return text(l.Caller)
	case "target":
		return text(l.Target)
	case "worker":
		return text(workerOf(l.Target))
	case "variant":
		return text(variantOf(l.Target))
	case "command":
		return text(l.Command)
	case "kind":
		return text(l.Kind)
	case "phase":
		return text(l.Phase)
	case "code":
		return text(string(l.Code))
	case "age":
		return Duration(l.Age), true
	case "timeout":
		return Duration(l.Timeout), l.Timeout > 0
	case "size":
		return Number(float64(l.Bytes)), true
	case "result":
		return Number(float64(l.ResultBytes)), l.Phase == inspect.PhaseDone
	case "attempt":
		return Number(float64(l.Attempt)), l.Attempt > 0
	}
	return Value{}, false
}

// Text implements Row.
func (l *LiveRow) Text(i int) (string, bool) {
	switch i {
	case 0:
		return l.Command, true
	case 1:
		return l.Caller, true
	case 2:
		return l.Target, true
	case 3:
		return l.UID, true
	case 4:
		return l.Phase, true
	case 5:
		return string(l.Code), true
	case 6:
		return l.Kind, true
	}
	return "", false
}

// QueueFields are the fields of a QueueRow.
func QueueFields() []Field {
	return append(texts("queue", "command", "node", "worker", "variant"),
		Field{"depth", KindNumber}, Field{"oldest", KindDuration}, Field{"retries", KindNumber}, Field{"dead", KindNumber})
}

// Field implements Row. Worker and variant are the node's.
func (q *QueueRow) Field(name string) (Value, bool) {
	switch name {
	case "queue", "command":
		return text(q.Command)
	case "node":
		return text(q.Node)
	case "worker":
		return text(workerOf(q.Node))
	case "variant":
		return text(variantOf(q.Node))
	case "depth":
		return Number(float64(q.Depth)), true
	case "oldest":
		return Duration(q.Oldest), q.Depth > 0
	case "retries":
		return Number(float64(q.Retries)), true
	case "dead":
		return Number(float64(q.Dead)), true
	}
	return Value{}, false
}

// Text implements Row.
func (q *QueueRow) Text(i int) (string, bool) {
	switch i {
	case 0:
		return q.Command, true
	case 1:
		return q.Node, true
	}
	return "", false
}

func texts(names ...string) []Field {
	fields := make([]Field, len(names))
	for i, name := range names {
		fields[i] = Field{Name: name}
	}
	return fields
}

// text is a field that rows without it have empty.
func text(s string) (Value, bool) { return Text(s), s != "" }

func workerOf(name string) string { worker, _, _ := strings.Cut(name, "/"); return worker }

func variantOf(name string) string { _, variant, _ := strings.Cut(name, "/"); return variant }
