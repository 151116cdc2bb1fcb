package wire

import "encoding/json"

// ControlQueue asks a node about its queues: QueueRequest, QueueReply. Operators may.
const ControlQueue = "mesh.queue"

// The operations of a QueueRequest.
const (
	QueueList   = "list"   // all queues
	QueuePeek   = "peek"   // the first items of a queue
	QueueDead   = "dead"   // the oldest dead letters
	QueueRetry  = "retry"  // puts dead letters back
	QueueRemove = "remove" // removes dead letters for good
	QueuePurge  = "purge"  // removes what waits
	QueueClose  = "close"  // takes no more requests
	QueueOpen   = "open"   // takes requests again
)

// QueueRequest asks a node to do something with its queues.
type QueueRequest struct {
	Op      string `json:"op"`
	Command string `json:"command,omitempty"` // the queue; of all but QueueList, where "" is all
	// IDs are dead letters; All must be set where there are none.
	IDs   []string `json:"ids,omitempty"`
	All   bool     `json:"all,omitempty"`
	Limit int      `json:"limit,omitempty"` // of entries, at most MaxQueueEntries
}

// Why a queue takes no requests.
const (
	QueueDrained     = "drained"     // by an operator
	QueueUnavailable = "unavailable" // its store cannot be used; the figures are old
)

// MaxQueueEntries is how many items one QueueReply may have.
const MaxQueueEntries = 1000

// QueueReply is a node's answer: Queues of QueueList, Entries of QueuePeek and QueueDead,
// else how many items the operation was done to.
type QueueReply struct {
	Queues  json.RawMessage `json:"queues,omitempty"` // []queue.Stats
	Entries []QueueEntry    `json:"entries,omitempty"`
	Count   int             `json:"count"`
	// Shared says that the queue is that of all variants of the worker.
	Shared bool `json:"shared,omitempty"`
}

// QueueEntry is a queued request as people see it. Times are in milliseconds since 1970; 0:
// there is none.
type QueueEntry struct {
	ID          string `json:"id"`
	UID         string `json:"uid,omitempty"`
	Caller      string `json:"caller"`
	State       string `json:"state"` // waiting, delayed, running, dead
	Enqueued    int64  `json:"enqueued_ms"`
	Due         int64  `json:"due_ms,omitempty"`
	Died        int64  `json:"died_ms,omitempty"`
	Attempts    int    `json:"attempts"`
	Redelivered bool   `json:"redelivered,omitempty"`
	Error       string `json:"error,omitempty"`
	Bytes       int    `json:"bytes"` // of the payload
	// Payload is there when the node shows payloads (--inspect-payloads).
	Payload json.RawMessage `json:"payload,omitempty"`
}
