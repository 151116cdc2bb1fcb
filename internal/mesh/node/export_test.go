package node

import "github.com/meshctl/meshctl/internal/mesh/inspect"

// InFlight is what a report would have of the requests under way.
func InFlight(n *Node, atMost int) ([]inspect.Row, int) { return n.telemetry.InFlight(atMost) }
