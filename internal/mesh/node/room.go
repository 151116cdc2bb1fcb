package node

import (
	"fmt"
	"sync/atomic"

	"github.com/meshctl/meshctl/internal/mesh/schema"
	"github.com/meshctl/meshctl/internal/mesh/wire"
)

// room bounds how many requests of one command are under way, whoever sent them.
type room struct {
	flight atomic.Int64
	limit  int64
}

// newRooms makes those of the commands that have a bound.
func newRooms(own *schema.Worker) map[string]*room {
	rooms := make(map[string]*room)
	for name, cmd := range own.Commands {
		if cmd.MaxInFlight > 0 {
			rooms[name] = &room{limit: int64(cmd.MaxInFlight)}
		}
	}
	return rooms
}

func (r *room) enter() *wire.Error {
	if r.flight.Add(1) <= r.limit {
		return nil
	}
	r.flight.Add(-1)
	return &wire.Error{Code: wire.CodeOverloaded, Message: fmt.Sprintf("%d requests of this command are under way already", r.limit), Temporary: true, Hint: "send more slowly, add variants, or raise its max_in_flight"}
}
