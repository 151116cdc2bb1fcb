package chaos

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"sync"
	"time"

	"github.com/meshctl/meshctl/internal/chaos/history"
	"github.com/meshctl/meshctl/internal/pause"
)

// jobPayload is the payload of a job.
type jobPayload struct {
	Job  string `json:"job"`
	Fill string `json:"fill,omitempty"` // makes it larger
}

// jobHandler is the worker job-handler, which a node starts as its stdio program: it notes what it is given
// in the history that its first argument names, and does a millisecond or two of work. A second argument
// names a file without which no work gets done.
func jobHandler(ctx context.Context, w WorkerIO) error {
	if len(w.Args) < 1 {
		return errors.New("the history file is missing")
	}
	gate := func() bool { return true }
	if len(w.Args) > 1 {
		gate = func() bool {
			_, err := os.Stat(w.Args[1])
			return err == nil
		}
	}
	log, err := history.Open(w.Args[0])
	if err != nil {
		return err
	}
	defer log.Close()
	var (
		by      = os.Getenv("MESH_VARIANT")
		writing sync.Mutex
		wg      sync.WaitGroup
		out     = json.NewEncoder(w.Out)
		lines   = bufio.NewScanner(w.In)
	)
	lines.Buffer(nil, 1<<20)
	if err := log.Add(history.Event{Kind: history.Up, By: by, Note: strconv.Itoa(os.Getpid())}); err != nil {
		return err
	}
	defer wg.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	for lines.Scan() {
		var request struct {
			ID     json.RawMessage `json:"id"`
			Params struct {
				Payload     jobPayload `json:"payload"`
				Attempt     int        `json:"attempt"`
				Redelivered bool       `json:"redelivered"`
			} `json:"params"`
		}
		if err := json.Unmarshal(lines.Bytes(), &request); err != nil {
			return fmt.Errorf("read a request: %w", err)
		}
		if len(request.ID) == 0 {
			continue // nobody waits any more, but the work is done all the same
		}
		job := request.Params
		if err := log.Add(history.Event{Kind: history.Started, By: by, Job: job.Payload.Job, Attempt: job.Attempt, Redelivered: job.Redelivered}); err != nil {
			return err
		}
		wg.Go(func() {
			time.Sleep(rand.N(2 * time.Millisecond))
			for !gate() {
				if !pause.For(ctx, 20*time.Millisecond) {
					return
				}
			}
			if log.Add(history.Event{Kind: history.Ended, By: by, Job: job.Payload.Job, Attempt: job.Attempt}) != nil {
				return // and gives no answer
			}
			writing.Lock()
			defer writing.Unlock()
			_ = out.Encode(map[string]any{"jsonrpc": "2.0", "id": request.ID, "result": nil}) // the node may be gone
		})
	}
	return lines.Err()
}
