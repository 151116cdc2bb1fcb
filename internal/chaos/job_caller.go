package chaos

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"sync"
	"time"

	"github.com/meshctl/meshctl/internal/chaos/history"
	"github.com/meshctl/meshctl/internal/mesh/node"
	"github.com/meshctl/meshctl/internal/mesh/wire"
	"github.com/meshctl/meshctl/internal/pause"
)

// jobCallerConfig configures the worker job-caller: a node that sends jobs until all are accepted. Started
// again after a kill, it goes on with those that its history does not say are accepted.
type jobCallerConfig struct {
	membership
	Variant string
	Redis   string // if set, jobs are put there instead of being sent over links
	History string
	Lanes   []jobLane
}

// jobLane is jobs that are sent one after another, named NAME/0, NAME/1 …
type jobLane struct {
	Name, Command string
	Jobs          int
}

func jobCaller(ctx context.Context, w WorkerIO) error {
	var cfg jobCallerConfig
	if err := w.configure(&cfg); err != nil {
		return err
	}
	nc, err := cfg.node("caller", cfg.Variant)
	if err != nil {
		return err
	}
	log, err := history.Open(cfg.History)
	if err != nil {
		return err
	}
	defer log.Close()
	before, err := history.Read(cfg.History)
	if err != nil {
		return err
	}
	c := caller{log: log, sent: map[string]bool{}, accepted: map[string]bool{}}
	for _, e := range before {
		c.sent[e.Job] = true
		if e.Kind == history.Accepted {
			c.accepted[e.Job] = true
		}
	}
	if cfg.Redis != "" {
		nc.Redis, nc.Mesh = cfg.Redis, "mesh"
	}
	if c.node, err = node.New(nc); err != nil {
		return err
	}
	running, stop := context.WithCancel(ctx)
	defer stop()
	ended := make(chan error, 1)
	go func() { ended <- c.node.Run(running) }()
	var wg sync.WaitGroup
	for _, lane := range cfg.Lanes {
		wg.Go(func() { c.send(running, lane) })
	}
	done := make(chan struct{})
	go func() { wg.Wait(); close(done) }()
	select {
	case err = <-ended:
		stop()
		<-done
		return err
	case <-done:
	}
	stop()
	return <-ended
}

// caller sends jobs. The maps are those of the processes before it, and are only read.
type caller struct {
	node           *node.Node
	log            *history.Log
	sent, accepted map[string]bool
}

// send sends the jobs of a lane, each until it is accepted.
func (c *caller) send(ctx context.Context, lane jobLane) {
	for n := range lane.Jobs {
		job := fmt.Sprintf("%s/%d", lane.Name, n)
		if c.accepted[job] {
			continue
		}
		if !c.sent[job] {
			c.note(history.Event{Kind: history.Sent, Job: job})
		}
		payload, _ := json.Marshal(jobPayload{Job: job})
		for {
			_, err := c.node.Call(ctx, "worker."+lane.Command, payload, node.CallOptions{Wait: node.WaitStored, Key: job, Timeout: 2 * time.Second})
			if err == nil {
				break
			}
			if wire.CodeOf(err) == "" {
				err = fmt.Errorf("a failure without a code: %w", err)
			}
			c.note(history.Event{Kind: history.Refused, Job: job, Note: err.Error()})
			if !pause.For(ctx, 5*time.Millisecond) {
				return
			}
		}
		c.note(history.Event{Kind: history.Accepted, Job: job})
	}
}

// note writes the history. Without one nothing can be judged, so that its failure ends the process.
func (c *caller) note(e history.Event) {
	if err := c.log.Add(e); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
