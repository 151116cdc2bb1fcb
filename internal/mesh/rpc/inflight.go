package rpc

import "time"

// Phase is how far a request has come.
type Phase string

// The phases. A Pending knows only PhaseSent, a Server the others.
const (
	PhaseQueued     Phase = "queued"     // waits for its turn among queued commands
	PhaseSent       Phase = "sent"       // on its way, or being answered, at the other end
	PhaseRunning    Phase = "running"    // its handler runs
	PhaseResponding Phase = "responding" // its handler has ended, the response is being sent
)

// InFlight is a request that is under way, as Pending.Oldest and Server.Oldest tell of it.
type InFlight struct {
	UID     string // "" where nobody waits for a response
	Command string // without its worker
	Peer    string // "worker/variant" of who answers (Pending), or of who asks (Server)
	Kind    string // how it is delivered: "balanced" or "broadcast"; "" where that is not known
	// Broadcast is what all requests of one broadcast have in common, which have a uid
	// each; "" where it is none, and at those who answer.
	Broadcast string
	Phase     Phase
	Started   time.Time // when it was sent, or came in
	Deadline  time.Time // when it ends by itself; zero: never
	Bytes     int       // of its payload
}
