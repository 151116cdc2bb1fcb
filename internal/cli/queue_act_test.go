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

// What all variants share is counted once, what each has of its own as often as there are nodes.
func TestDrainCountsWhatIsSharedOnce(t *testing.T) {
	ask := func(shared bool) func(context.Context) ([]queueAnswer, error) {
		return func(context.Context) ([]queueAnswer, error) {
			text, err := json.Marshal([]queue.Stats{{Command: "send", Shared: shared, Waiting: 11, Running: 1}})
			a := queueAnswer{Worker: "mailer", QueueReply: &wire.QueueReply{Queues: text}}
			return []queueAnswer{a, a}, err
		}
	}
	opts := &queueOptions{cfg: &config.Config{Timeout: time.Nanosecond}, command: "send"}
	for shared, want := range map[bool]int{true: 12, false: 24} {
		if left, err := opts.awaitEmpty(t.Context(), ask(shared)); left != want || wire.CodeOf(err) != wire.CodeTimeout {
			t.Errorf("shared %v: %d left, %v; want %d", shared, left, err, want)
		}
	}
}
