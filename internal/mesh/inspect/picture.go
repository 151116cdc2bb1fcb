package inspect

import (
	"time"

	"github.com/meshctl/meshctl/internal/mesh/schema"
	"github.com/meshctl/meshctl/internal/mesh/wire"
)

// Picture is what a Model knows at one moment, for reading. It is valid until the next
// call of Model.Picture, and must not be changed.
type Picture struct {
	At     time.Time // of the mesh: in a replay the recording's time
	Status Status
	Since  time.Time // when Status.Connected last changed
	Schema *schema.Schema
	Lost   uint64 // reports that never came

	Totals   Totals
	History  []Sample // one a second, oldest first, five minutes at most
	Nodes    []Node
	Links    []Link
	Commands []Command
	Requests []Live // in flight, oldest first, and those that ended within the last second
	Queues   []Queue
	Events   []Event // oldest first, the last 10,000
	// EventCount is how many events there ever were, so that a reader finds those that
	// are new to it at the end of Events.
	EventCount uint64
}

// Totals adds up the mesh.
type Totals struct {
	Nodes, Links, MissingLinks int
	InFlight                   int // that somebody waits for or works on; Picture.Requests may have fewer
	Calls, Errors              uint64
	Rate, ErrorRate            float64       // per second, over the last second or two
	P50, P90, P99, P999        time.Duration // over the last ten seconds
}

// Sample is one second of the mesh.
type Sample struct {
	At       time.Time     `json:"at"`
	Calls    float64       `json:"calls"` // per second
	Errors   float64       `json:"errors,omitempty"`
	P50      time.Duration `json:"p50,omitempty"` // in JSON in nanoseconds
	P99      time.Duration `json:"p99,omitempty"`
	InFlight int           `json:"in_flight,omitempty"`
}

// Health of a node, a link or a command, from good to bad.
type Health int

// The healths.
const (
	Healthy  Health = iota
	Draining        // leaves, or works on its end
	Degraded        // many errors, or very slow
	Stale           // no report for longer than there should be
	Gone            // left, or was lost, a short while ago
)

// String is the health in a word.
func (h Health) String() string {
	switch h {
	case Healthy:
		return "healthy"
	case Draining:
		return "draining"
	case Degraded:
		return "degraded"
	case Stale:
		return "stale"
	}
	return "gone"
}

// Node is one variant.
type Node struct {
	wire.NodeInfo
	Name     string // "worker/variant"
	Health   Health
	Reports  bool // it gives telemetry; JavaScript nodes do not
	Links    int
	InFlight int // both directions
	RateIn   float64
	RateOut  float64
	CallsIn  uint64 // that it has answered, since it started
	CallsOut uint64 // of its own that have ended
	Errors   uint64 // of both directions
	ErrRate  float64
	P50, P99 time.Duration // of what it answers, over the last ten seconds
	Queued   int
	LastSeen time.Time // of its last report
	GoneAt   time.Time // of one that is Gone
}

// Link is the connection of two variants, in the direction of the schema's "may connect".
type Link struct {
	From, To          string // "worker/variant": From dialled, or should have
	Transport         string
	Missing           bool // the schema asks for it and no end reports it
	Draining          bool
	Skipped           bool // one end sends the other nothing for a while, because it failed
	Since             time.Time
	InFlight          int
	RateOut, RateBack float64 // requests a second From→To and To→From
}

// Command is one command of the mesh.
type Command struct {
	Name                string // "worker.command"
	Calls               uint64 // that ended
	Failed              uint64
	Errors              map[wire.Code]uint64
	Retries             uint64
	InFlight            int
	Rate, ErrRate       float64
	P50, P90, P99, P999 time.Duration // over the last ten seconds; since the start when idle
	Histogram           []Bin
	Trend               []float32 // its rate, one a second, oldest first, two minutes at most
	BytesIn, BytesOut   uint64
	ByNode              []CommandNode
}

// CommandNode is a command at one of the nodes that answer it.
type CommandNode struct {
	Node     string
	Calls    uint64
	Failed   uint64
	Rate     float64
	P50, P99 time.Duration
}

// Bin is one bar of a latency histogram, upper bound included.
type Bin struct {
	UpTo  time.Duration
	Count uint64
}

// Live is one request in flight, put together from what both ends say.
type Live struct {
	Request
	Node    string        // that reported it, for Control.Cancel
	Age     time.Duration // by now
	Timeout time.Duration
	Ended   time.Time // zero while it is under way
	Took    time.Duration
}

// Queue is one queue of one node.
type Queue struct {
	Node string
	QueueCount
	Oldest time.Duration
}

// EventLevel says how much an event matters.
type EventLevel string

// The levels.
const (
	LevelInfo  EventLevel = "info"
	LevelWarn  EventLevel = "warn"
	LevelError EventLevel = "error"
)

// Event is one line of the mesh's log. It is what `meshctl events` prints.
type Event struct {
	At    time.Time  `json:"at"`
	Level EventLevel `json:"level"`
	// Type is node_up, node_down, node_draining, node_replaced, link_up, link_down, peer_skipped,
	// peer_tried, request_failed, log, master_lost, master_back, schema_changed, telemetry_lost.
	Type    string `json:"type"`
	Node    string `json:"node,omitempty"`
	Peer    string `json:"peer,omitempty"`
	Command string `json:"command,omitempty"`
	UID     string `json:"uid,omitempty"`
	Code    string `json:"code,omitempty"`
	Message string `json:"message"`
}
