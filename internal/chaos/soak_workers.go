package chaos

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/meshctl/meshctl/internal/chaos/history"
	"github.com/meshctl/meshctl/internal/mesh/node"
	"github.com/meshctl/meshctl/internal/mesh/seal"
	"github.com/meshctl/meshctl/internal/mesh/wire"
	"github.com/meshctl/meshctl/internal/pause"
)

// soakCrowdConfig configures the worker soak-crowd: nodes that come and go.
type soakCrowdConfig struct {
	membership
	Nodes  int
	Prefix string // of their variants; no two processes have the same
	Seed   uint64
}

// crowdStay is how long a node of the crowd stays, on average.
const crowdStay = 30 * time.Second

func soakCrowd(ctx context.Context, w WorkerIO) error {
	var cfg soakCrowdConfig
	if err := w.configure(&cfg); err != nil {
		return err
	}
	nc, err := cfg.node("crowd", "")
	if err != nil {
		return err
	}
	if nc.Ring, err = seal.NewRing([]seal.Keys{nc.Keys}, nil); err != nil {
		return err
	}
	var wg sync.WaitGroup
	defer wg.Wait()
	for i := range cfg.Nodes {
		dice := rand.New(rand.NewPCG(cfg.Seed, uint64(i)))
		wg.Go(func() {
			for n := 0; ctx.Err() == nil; n++ {
				nc := nc
				nc.Variant = fmt.Sprintf("%s-%d-%d", cfg.Prefix, i, n)
				if err := crowdNode(ctx, nc, dice); err != nil {
					fmt.Fprintln(os.Stderr, err)
				}
			}
		})
	}
	return nil
}

// crowdNode is one node: it stays for some time, calls those that stay longer, and then leaves, or
// is gone without a word.
func crowdNode(ctx context.Context, cfg node.Config, dice *rand.Rand) error {
	n, err := node.New(cfg)
	if err != nil {
		return err
	}
	running, leave := context.WithCancel(ctx)
	defer leave()
	ended := make(chan error, 1)
	go func() { ended <- n.Run(running) }()
	stay, cancel := context.WithTimeout(ctx, time.Duration(dice.Int64N(int64(2*crowdStay))))
	defer cancel()
	for pause.For(stay, time.Duration(dice.IntN(1000))*time.Millisecond) {
		// Whether it has its links already is of no importance here.
		_, _ = n.Call(stay, "steady.echo", json.RawMessage(`1`), node.CallOptions{})
	}
	if dice.IntN(3) == 0 {
		n.Kill()
	}
	leave()
	return <-ended
}

// soakCallerConfig configures the worker soak-caller, which calls until it is stopped.
type soakCallerConfig struct {
	membership
	History   string // of what failed
	Stats     string // file for what it counted, written at the end
	Answerers int    // nodes of the worker steady
}

// soakStats is what it counted.
type soakStats struct{ Calls, Disturbed, Jobs, Broadcasts int }

func soakCaller(ctx context.Context, w WorkerIO) error {
	var cfg soakCallerConfig
	if err := w.configure(&cfg); err != nil {
		return err
	}
	nc, err := cfg.node("caller", "caller")
	if err != nil {
		return err
	}
	log, err := history.Open(cfg.History)
	if err != nil {
		return err
	}
	defer log.Close()
	n, err := node.New(nc)
	if err != nil {
		return err
	}
	running, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	ended := make(chan error, 1)
	go func() { ended <- n.Run(running) }()
	for linked := 0; linked < cfg.Answerers; { // before that, calls would fail for a good reason
		if !pause.For(ctx, 5*time.Millisecond) {
			stop()
			return <-ended
		}
		linked = 0
		for _, p := range n.Peers() {
			if p.Worker == "steady" {
				linked++
			}
		}
	}
	var calls, disturbed, jobs, broadcasts atomic.Int64
	var wg sync.WaitGroup
	// each calls now and then; what fails, unless it may, goes into the history.
	each := func(every time.Duration, target string, count *atomic.Int64, o node.CallOptions, mayFail func(error) bool) {
		wg.Go(func() {
			for i := 0; pause.For(ctx, every); i++ {
				count.Add(1)
				_, err := n.Call(running, target, json.RawMessage(`{"text":"soak"}`), o)
				if err == nil {
					continue
				}
				if mayFail(err) {
					disturbed.Add(1)
				} else if err := log.Add(history.Event{Kind: history.Missed, Job: target, Note: err.Error()}); err != nil {
					fmt.Fprintln(os.Stderr, err)
				}
			}
		})
	}
	never := func(error) bool { return false }
	lost := func(err error) bool {
		c := wire.CodeOf(err)
		return c == wire.CodePeerLost || c == wire.CodeNoVariant
	}
	patient := node.CallOptions{Timeout: 30 * time.Second}
	each(10*time.Millisecond, "steady.echo", &calls, patient, never)
	each(10*time.Millisecond, "crowd.echo", &calls, patient, lost)
	each(50*time.Millisecond, "steady.job", &jobs, node.CallOptions{Timeout: 30 * time.Second, Wait: node.WaitStored}, never)
	each(time.Second, "crowd.ping", &broadcasts, patient, lost)
	wg.Wait()
	stop()
	if err := <-ended; err != nil {
		return err
	}
	text, err := json.Marshal(soakStats{int(calls.Load()), int(disturbed.Load()), int(jobs.Load()), int(broadcasts.Load())})
	if err != nil {
		return err
	}
	return os.WriteFile(cfg.Stats, text, 0o600)
}
