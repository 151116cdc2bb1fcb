package queue_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/meshctl/meshctl/internal/mesh/queue"
	"github.com/meshctl/meshctl/internal/mesh/queue/queuetest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func newMemory(t *testing.T, cfg queue.MemoryConfig) *queue.Memory {
	t.Helper()
	q, err := queue.NewMemory(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return q
}

func TestMemory(t *testing.T) {
	queuetest.Run(t, func(t *testing.T, o queuetest.Options) queue.Queue {
		return newMemory(t, queue.MemoryConfig{Capacity: o.Capacity, Workers: o.Workers})
	})
}

func TestMemoryRefusesNegativeBounds(t *testing.T) {
	if _, err := queue.NewMemory(queue.MemoryConfig{Capacity: -1}); err == nil {
		t.Error("no error")
	}
}

func TestMemoryBoundsBytes(t *testing.T) {
	q := newMemory(t, queue.MemoryConfig{MaxBytes: 10})
	six := queue.Item{ID: "six", Payload: json.RawMessage(`"1234"`)}
	if err := q.Put(t.Context(), six); err != nil {
		t.Fatal(err)
	}
	if err := q.Put(t.Context(), six); !errors.Is(err, queue.ErrFull) {
		t.Fatalf("12 of 10 bytes: %v, want ErrFull", err)
	}
	got := make(chan string, 2)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		ended <- q.Run(ctx, func(_ context.Context, i queue.Item) error { got <- i.ID; return nil })
	}()
	<-got
	if err := q.Put(t.Context(), six); err != nil {
		t.Errorf("the bytes were not given back: %v", err)
	}
	<-got
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

// TestMemoryGivesUp runs one item of each fate and wants each reported once, with
// its reason, and nothing of its payload in the log.
func TestMemoryGivesUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var logged bytes.Buffer
		givenUp := map[string]error{}
		q := newMemory(t, queue.MemoryConfig{
			GivenUp: func(i queue.Item, err error) { givenUp[i.ID] = err },
			Logger:  slog.New(slog.NewTextHandler(&logged, nil)),
		})
		soon := time.Now().Add(time.Second)
		for _, i := range []queue.Item{
			{ID: "good"}, {ID: "bad"}, {ID: "panics"},
			{ID: "slow", Deadline: soon},    // runs until its deadline …
			{ID: "expired", Deadline: soon}, // … which is then this one's too
			{ID: "running"}, {ID: "waiting"},
		} {
			i.Payload = json.RawMessage(`"hush"`)
			if err := q.Put(t.Context(), i); err != nil {
				t.Fatal(err)
			}
		}
		errBad := errors.New("bad")
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() {
			ended <- q.Run(ctx, func(ctx context.Context, i queue.Item) error {
				switch i.ID {
				case "bad":
					return errBad
				case "panics":
					panic("on purpose")
				case "slow", "running":
					<-ctx.Done()
					return ctx.Err()
				}
				return nil
			})
		}()
		time.Sleep(time.Minute)
		synctest.Wait()
		if n := q.Len(); n != 2 {
			t.Errorf("Len: %d, want 2", n)
		}
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		for id, want := range map[string]error{
			"bad": errBad, "slow": context.DeadlineExceeded, "expired": queue.ErrExpired,
			"running": context.Canceled, "waiting": queue.ErrClosed,
		} {
			if err := givenUp[id]; !errors.Is(err, want) {
				t.Errorf("%s: %v, want %v", id, err, want)
			}
		}
		var p *queue.PanicError
		if !errors.As(givenUp["panics"], &p) || fmt.Sprint(p.Value) != "on purpose" || len(p.Stack) == 0 {
			t.Errorf("panics: %v", givenUp["panics"])
		}
		if len(givenUp) != 6 {
			t.Errorf("given up: %v", givenUp)
		}
		if n := strings.Count(logged.String(), "given up"); n != 6 {
			t.Errorf("%d log lines, want 6:\n%s", n, &logged)
		}
		if strings.Contains(logged.String(), "hush") {
			t.Error("a payload was logged")
		}
	})
}
