package tui

import (
	"testing"

	"github.com/meshctl/meshctl/internal/mesh/inspect"
	"github.com/meshctl/meshctl/internal/mesh/wire"
	"github.com/meshctl/meshctl/internal/tui/tuitest"
)

// A queue that takes nothing does not look like one that does.
func TestQueuesSayWhatTakesNothing(t *testing.T) {
	p := tuitest.Picture(13, 10)
	p.Queues = []inspect.Queue{
		{Node: "mailer/a", QueueCount: inspect.QueueCount{Command: "mailer.send", State: wire.QueueUnavailable}},
		{Node: "mailer/a", QueueCount: inspect.QueueCount{Command: "mailer.sort", State: wire.QueueDrained}},
	}
	r := dashboard(t, p, "dark", usual)
	press(r, ":queues")
	wants(t, r, "✖  mailer.send unavailable", "●  mailer.sort drained")
}
