package queue

import "github.com/meshctl/meshctl/internal/mesh/wire"

// Stats is what a queue has and has done. Counters count since the node started.
type Stats struct {
	Command string `json:"command"`
	Backend string `json:"backend"` // "memory", "embedded" or "redis"
	// Shared says that all variants of the worker work this queue, so that all of them
	// report the same waiting and dead items.
	Shared bool `json:"shared,omitempty"`

	Waiting  int `json:"waiting"` // for their turn or for their next try
	Delayed  int `json:"delayed"` // of those, the ones whose next try is not due yet
	Running  int `json:"running"` // being worked on
	Dead     int `json:"dead"`    // given up, and kept
	MaxDepth int `json:"max_depth"`
	// OldestMillis is the age of the oldest item that waits or is being worked on; 0: none.
	OldestMillis int64 `json:"oldest_ms"`

	Accepted   uint64 `json:"accepted"`
	Done       uint64 `json:"done"`
	Retries    uint64 `json:"retries"`    // tries that failed and were followed by a pause
	Failed     uint64 `json:"failed"`     // items that went to the dead letters
	Expired    uint64 `json:"expired"`    // items whose deadline passed before their turn
	Duplicates uint64 `json:"duplicates"` // items dropped for their key
	Refused    uint64 `json:"refused"`    // items not taken: queue full, or store away

	Closed bool `json:"closed,omitempty"` // takes no items until it is opened again
	// Error is why the queue takes no items at present, or cannot be asked; "" when it does. What waits and is
	// dead may be otherwise by now.
	Error string `json:"error,omitempty"`
}

// State is why the queue takes no items: wire.QueueUnavailable or wire.QueueDrained; "" where it does.
func (s Stats) State() string {
	switch {
	case s.Error != "":
		return wire.QueueUnavailable
	case s.Closed:
		return wire.QueueDrained
	}
	return ""
}
