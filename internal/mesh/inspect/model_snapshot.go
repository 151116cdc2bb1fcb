package inspect

// Past is what a Model remembers beyond what the newest reports say. It comes after a
// Reset and the other updates of Model.Snapshot.
type Past struct {
	// Since is when Status.Connected last changed, in milliseconds since 1970.
	Since    int64          `json:"since,omitempty"`
	History  []Sample       `json:"history,omitempty"`
	Events   []Event        `json:"events,omitempty"`
	Lost     uint64         `json:"lost,omitempty"`
	Commands []CommandCount `json:"commands,omitempty"` // counted by nodes that are gone
}

func (m *Model) foldPast(p *Past) {}
