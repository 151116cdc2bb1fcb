package inspect

import (
	"encoding/json"

	"github.com/meshctl/meshctl/internal/mesh/wire"
)

// Update is one thing that a watcher learns. Recordings are made of them. Exactly one of
// the pointers is set, or Reset.
type Update struct {
	// At is when the watcher learned it, in milliseconds since 1970 by its own clock.
	At int64 `json:"at"`
	// Reset says that all that was known is void: the updates that follow build it anew.
	Reset  bool    `json:"reset,omitempty"`
	Status *Status `json:"status,omitempty"`
	Mesh   *Mesh   `json:"mesh,omitempty"`
	Report *Report `json:"report,omitempty"`
	// Past is in the key frames of recordings only.
	Past *Past `json:"past,omitempty"`
	// Lost counts reports that did not come to this watcher since it was last told; no
	// pointer is set then.
	Lost uint64 `json:"lost,omitempty"`
}

// Status is how the watcher stands with its master.
type Status struct {
	Connected bool   `json:"connected"`
	Master    string `json:"master"` // host:port
	// Reason is why it is not connected.
	Reason string `json:"reason,omitempty"`
}

// Mesh is what the master knows: all nodes, whole each time. It travels in MeshParts.
type Mesh struct {
	Nodes []wire.NodeInfo `json:"nodes"`
	// Schema is the master's, without handlers; absent when it has not changed since
	// this watcher last got it.
	Schema json.RawMessage `json:"schema,omitempty"`
	// Version is the master's release.
	Version string `json:"version,omitempty"`
}

// Report is what one node says of itself: what changed since its last report, or all
// (Full). Its counters are totals since the node started, so that a lost report costs
// detail and never accuracy. It is the body of wire.EventTelemetry to the master,
// which passes it on in a Relay: Node is then who declared itself, whatever the reporter
// wrote there.
type Report struct {
	Node     string `json:"node,omitempty"` // "worker/variant"
	Instance string `json:"instance"`       // changes when the node restarts: counters begin anew
	Seq      uint64 `json:"seq"`            // by one from report to report
	Full     bool   `json:"full,omitempty"` // everything that is not listed here is gone
	// Partial says of a Full report that not everything found room: what is not listed may
	// well be there, and follows.
	Partial bool `json:"partial,omitempty"`
	// EveryMillis is how often the node reports at present.
	EveryMillis int64 `json:"every"`

	Commands []CommandCount `json:"commands,omitempty"` // that changed
	Links    []LinkCount    `json:"links,omitempty"`    // that changed
	Unlinked []string       `json:"unlinked,omitempty"` // LinkCount.ID of those that ended
	// InFlight replaces the table of the last report; absent when it is as it was but
	// for the time that passed.
	InFlight *InFlight `json:"in_flight,omitempty"`
	// Finished are some of the requests that ended since the last report; FinishedOf is
	// how many did. Those that failed and the slowest come first.
	Finished   []Request    `json:"finished,omitempty"`
	FinishedOf uint64       `json:"finished_of,omitempty"`
	Queues     []QueueCount `json:"queues,omitempty"` // that changed
	Logs       []Log        `json:"logs,omitempty"`
	LogsOf     uint64       `json:"logs_of,omitempty"` // how many lines there were
}

// Directions of requests, as the reporting node sees them.
const (
	Out = "out" // it sent the request
	In  = "in"  // it answers the request
)

// CommandCount counts the requests of one command at one node, in one direction. A
// request is counted once for each variant that it is meant for; a balanced one that
// goes on to another variant stays one request.
//
// One that the caller's own schema denies counts Out; one that names a command nobody has
// counts nowhere but, when only the callee's schema lacks it, Out. A queued request for
// which nobody waits for the result counts Out when it is stored, and In when it was worked
// on, or given up after its last try.
//
// Whoever adds up a mesh takes all that went Out and of what came In only what is Blind:
// then each request counts once, with the outcome that its caller saw.
type CommandCount struct {
	Command string `json:"command"` // "worker.command"
	Dir     string `json:"dir"`     // Out or In
	// Blind says that the other end does not report: a JavaScript node, or an operator.
	Blind bool `json:"blind,omitempty"`

	Started uint64               `json:"started"`
	OK      uint64               `json:"ok"`
	Errors  map[wire.Code]uint64 `json:"errors,omitempty"`
	// Retries is how often a request was offered to a further variant.
	Retries  uint64 `json:"retries,omitempty"`
	BytesOut uint64 `json:"bytes_out,omitempty"` // payloads sent: of requests Out, of responses In
	BytesIn  uint64 `json:"bytes_in,omitempty"`
	// Latency has those buckets of the histogram that changed, with their totals. See
	// BucketOf.
	Latency Buckets `json:"latency,omitempty"`
	// Late says that the histogram up to now was left out of this Full report for its
	// size: what a later report brings of it first is no news.
	Late bool `json:"late,omitempty"`
}

// Buckets is some of the buckets of a histogram, by index. In JSON it is [index, count,
// index, count, …].
type Buckets []Bucket

// Bucket is one bucket of a latency histogram and how many requests fell into it.
type Bucket struct {
	Index int
	Count uint64
}

// LinkCount describes one link of the reporting node.
type LinkCount struct {
	ID        string `json:"id"`   // unique within the node
	Peer      string `json:"peer"` // "worker/variant"
	Kind      string `json:"kind"` // of the peer: wire.KindMeshctl or KindJavaScript
	Transport string `json:"transport"`
	Dialed    bool   `json:"dialed,omitempty"`
	Since     int64  `json:"since"` // milliseconds since 1970, by the node's clock
	Draining  bool   `json:"draining,omitempty"`
	// Skipped says that the node sends the peer nothing at present if it can help it, because
	// it failed several times in a row.
	Skipped bool `json:"skipped,omitempty"`
	// Of the peer, not the link, when there are two; requests that were sent to it and wait.
	InFlight int    `json:"in_flight,omitempty"`
	Sent     uint64 `json:"sent,omitempty"`     // requests to the peer so far
	Received uint64 `json:"received,omitempty"` // requests from the peer so far
}

// InFlight is a node's requests under way: the oldest 200 of them.
type InFlight struct {
	Total    int       `json:"total"`
	Requests []Request `json:"requests,omitempty"`
}

// Kinds of requests.
const (
	KindBalanced  = "balanced"
	KindBroadcast = "broadcast"
	KindQueued    = "queued"
)

// Phases of a request.
const (
	PhaseQueued     = "queued"  // In: it waits for its turn
	PhaseSent       = "sent"    // Out
	PhaseRunning    = "running" // In: its handler runs
	PhaseResponding = "responding"
	PhaseDone       = "done"
)

// Request is one request as one of its two ends sees it. Caller and callee both report
// theirs; the UID joins them.
type Request struct {
	UID     string `json:"uid"`
	Group   string `json:"group,omitempty"` // the same for all requests of one broadcast
	Dir     string `json:"dir"`
	Caller  string `json:"caller"` // "worker/variant"
	Target  string `json:"target"` // "worker/variant", or the worker of which no variant was found
	Command string `json:"command"`
	Kind    string `json:"kind"`
	Phase   string `json:"phase"`
	// AgeMillis is how long ago it started at the reporting end, when the report was
	// made; of a finished one how long it took.
	AgeMillis     float64   `json:"age"`
	TimeoutMillis int64     `json:"timeout,omitempty"`
	Bytes         int       `json:"bytes"`               // of its payload
	ResultBytes   int       `json:"result,omitempty"`    // of a finished one
	Code          wire.Code `json:"code,omitempty"`      // of a finished one that failed
	Error         string    `json:"error,omitempty"`     // of a finished one that failed
	Attempt       int       `json:"attempt,omitempty"`   // of queued commands, from 1
	EndedAgo      float64   `json:"ended_ago,omitempty"` // milliseconds before the report, of a finished one
	// Payload is there only when the node runs with --inspect-payloads, with what the
	// schema calls sensitive masked; cut ones are marked by Cut.
	Payload json.RawMessage `json:"payload,omitempty"`
	Cut     bool            `json:"cut,omitempty"`
}

// QueueCount is the state of one queue of a node.
type QueueCount struct {
	Command      string `json:"command"`
	Depth        int    `json:"depth"`
	OldestMillis int64  `json:"oldest,omitempty"` // age of its oldest entry
	Retries      uint64 `json:"retries,omitempty"`
	Dead         int    `json:"dead,omitempty"` // dead letters
	// State is why it takes no requests: wire.QueueDrained or wire.QueueUnavailable; "" where it does.
	State string `json:"state,omitempty"`
}

// Log is a line of a node's log, of level warn or above.
type Log struct {
	Ago     float64 `json:"ago"` // milliseconds before the report
	Level   string  `json:"level"`
	Message string  `json:"message"` // with its attributes as key=value; secrets are not logged
}
