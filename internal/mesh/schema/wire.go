package schema

import (
	"encoding/json"
	"fmt"
)

// wireWorker is a worker as peers see it, in the shape that the JavaScript
// library loads.
type wireWorker struct {
	Allow    any          `json:"_allow"`
	Connect  any          `json:"_connect"`
	Commands wireCommands `json:"_commands"`
}

type wireCommands struct {
	Balanced  map[string]wireCommand `json:"_balanced"`
	Broadcast map[string]wireCommand `json:"_broadcast"`
}

type wireCommand struct {
	Responds bool `json:"responds"`
	Queued   bool `json:"queued"`
	Callers  any  `json:"callers,omitempty"` // absent: no restriction
	// Nodes that do not know it show nobody a payload.
	Sensitive []string `json:"x-sensitive,omitempty"`

	// Of these JavaScript nodes know nothing either. A schema without them is as it always was.
	Idempotent  bool       `json:"idempotent,omitempty"`
	Retry       *wireRetry `json:"retry,omitempty"`
	Balance     any        `json:"balance,omitempty"`
	MaxInFlight int        `json:"max_in_flight,omitempty"`

	Method any `json:"method"` // always null: how a command is answered concerns its node only
}

// Wire gives the schema as JSON for peers, without methods. Equal schemas give
// equal bytes. It fails when they are more than MaxSize, as FromWire would.
func (s *Schema) Wire() ([]byte, error) {
	workers := make(map[string]any, len(s.Workers)+1)
	if s.TokensRequired {
		workers[keyTokens] = tokensRequired
	}
	for name, w := range s.Workers {
		out := wireWorker{
			Allow:   w.Allow.wire(),
			Connect: w.Connect.wire(),
			Commands: wireCommands{
				Balanced:  map[string]wireCommand{},
				Broadcast: map[string]wireCommand{},
			},
		}
		for name, c := range w.Commands {
			to := out.Commands.Balanced
			if c.Delivery == Broadcast {
				to = out.Commands.Broadcast
			}
			wc := wireCommand{Responds: c.Responds, Queued: c.Queued, Sensitive: c.Sensitive}
			if c.Callers != nil {
				wc.Callers = c.Callers.wire()
			}
			c.wireCalling(&wc)
			to[name] = wc
		}
		workers[name] = out
	}
	data, err := json.Marshal(workers)
	if err != nil {
		return nil, fmt.Errorf("encode schema: %w", err)
	}
	if len(data) > MaxSize {
		return nil, fmt.Errorf("encode schema: %d bytes are more than %d", len(data), MaxSize)
	}
	return data, nil
}

func (s Set) wire() any {
	switch {
	case s.Any:
		return AnyNode
	case len(s.Workers) == 0:
		return []string{}
	}
	return s.Workers
}

// FromWire reads a schema that a peer sent. It ignores members that it does not
// know and whatever a method says, and keeps rules about workers that the schema
// does not define; names and sizes are checked as in a file. No command of the
// result has a Method. Any input is safe; the error quotes little of it.
func FromWire(data []byte) (*Schema, error) {
	if len(data) > MaxSize {
		return nil, fmt.Errorf("read schema from peer: %d bytes are more than %d", len(data), MaxSize)
	}
	c := newChecker("")
	c.wire = true
	root, err := readJSON(data)
	switch {
	case err != nil:
		return nil, fmt.Errorf("read schema from peer: %w", err)
	case root == nil || root.kind != object:
		return nil, fmt.Errorf("read schema from peer: not an object")
	}
	s := c.schema(root)
	if len(c.problems) > 0 {
		return nil, fmt.Errorf("read schema from peer: %w", c.problems[0])
	}
	// Places in the peer's message mean nothing to a reader of explanations.
	s.pos = nil
	return s, nil
}
