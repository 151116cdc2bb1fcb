package cli

import (
	"context"
	"encoding/json"
	"testing"
	"time"

	"github.com/meshctl/meshctl/internal/config"
	"github.com/meshctl/meshctl/internal/mesh/queue"
	"github.com/meshctl/meshctl/internal/mesh/wire"
)

// A queue that cannot be asked is not taken for empty, whatever was last known of it.
func TestDrainAwaitsWhatIsKnown(t *testing.T) {
	asked := 0
	until := func(known int) func(context.Context) ([]queueAnswer, error) {
		return func(context.Context) ([]queueAnswer, error) {
			s := queue.Stats{Command: "send"}
			if asked++; asked < known {
				s.Error = "cannot ask Redis: EOF"
			}
			text, err := json.Marshal([]queue.Stats{s})
			return []queueAnswer{{Worker: "mailer", Variant: "a", QueueReply: &wire.QueueReply{Queues: text}}}, err
		}
	}
	opts := &queueOptions{cfg: &config.Config{Timeout: time.Minute}, command: "send"}
	if left, err := opts.awaitEmpty(t.Context(), until(3)); left != 0 || err != nil || asked != 3 {
		t.Errorf("%d left, %v, asked %d times", left, err, asked)
	}
	opts.cfg.Timeout = time.Nanosecond
	if _, err := opts.awaitEmpty(t.Context(), until(1000)); wire.CodeOf(err) != wire.CodeUnavailable {
		t.Errorf("at the end: %v", err)
	}
}
