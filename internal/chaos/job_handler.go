package chaos

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"sync"
	"time"

	"github.com/meshctl/meshctl/internal/chaos/history"
)

// jobHandler is the worker job-handler, which a node starts as its stdio program: it notes what it is given
// in the history that its argument names, and does a millisecond or two of work.
func jobHandler(_ context.Context, w WorkerIO) error {
	if len(w.Args) != 1 {
		return errors.New("the history file is missing")
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
	defer wg.Wait()
	for lines.Scan() {
		var request struct {
			ID     json.RawMessage `json:"id"`
			Params struct {
				Payload     string `json:"payload"`
				Attempt     int    `json:"attempt"`
				Redelivered bool   `json:"redelivered"`
			} `json:"params"`
		}
		if err := json.Unmarshal(lines.Bytes(), &request); err != nil {
			return fmt.Errorf("read a request: %w", err)
		}
		if len(request.ID) == 0 {
			continue // nobody waits any more, but the work is done all the same
		}
		job := request.Params
		if err := log.Add(history.Event{Kind: history.Started, By: by, Job: job.Payload, Attempt: job.Attempt, Redelivered: job.Redelivered}); err != nil {
			return err
		}
		wg.Go(func() {
			time.Sleep(rand.N(2 * time.Millisecond))
			if log.Add(history.Event{Kind: history.Ended, By: by, Job: job.Payload, Attempt: job.Attempt}) != nil {
				return // and gives no answer
			}
			writing.Lock()
			defer writing.Unlock()
			_ = out.Encode(map[string]any{"jsonrpc": "2.0", "id": request.ID, "result": nil}) // the node may be gone
		})
	}
	return lines.Err()
}
