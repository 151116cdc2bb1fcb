package node

import (
	"log/slog"
	"testing"
	"time"

	"github.com/meshctl/meshctl/internal/mesh/inspect"
	"github.com/meshctl/meshctl/internal/mesh/queue"
	"github.com/meshctl/meshctl/internal/mesh/rpc"
)

// What is worked on for nobody who waits is in flight, once, and as old as the request: so it
// keeps its place among the others when it ends.
func TestQueuedRequestsAreInFlightWhileTheyAreWorkedOn(t *testing.T) {
	c := &core{server: rpc.NewServer(t.Context(), 1, slog.New(slog.DiscardHandler))}
	c.self.Worker, c.self.Variant = "mailer", "m1"
	tel, _ := newTelemetry(nil)
	tel.core = c
	accepted := time.Now().Add(-time.Minute)
	end := tel.worksOn(queue.Item{ID: "1", UID: "u", Command: "send", Caller: "shop/s1", Enqueued: accepted, Payload: []byte(`{}`)})
	rows, total := tel.InFlight(10)
	if total != 1 || len(rows) != 1 {
		t.Fatalf("%d of %d rows", len(rows), total)
	}
	if r := rows[0]; !r.Started.Equal(accepted) || r.UID != "u" || r.Command != "mailer.send" || r.Kind != inspect.KindQueued ||
		r.Phase != inspect.PhaseRunning || r.Caller != "shop/s1" || r.Target != "mailer/m1" || r.Dir != inspect.In {
		t.Errorf("%+v", r)
	}
	end()
	if rows, total := tel.InFlight(10); len(rows) != 0 || total != 0 {
		t.Errorf("%d rows are left", len(rows))
	}
}
