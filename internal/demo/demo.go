// Package demo is a mesh to look at: a master, five workers with ten variants in all,
// and lively calls of every kind between them, in one process and without any
// configuration. Some calls are slow, some fail, and one variant dies and returns.
package demo

import (
	"context"
	_ "embed"
	"errors"
	"log/slog"
	"net"
	"strconv"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/meshctl/meshctl/internal/mesh/master"
	"github.com/meshctl/meshctl/internal/mesh/node"
	"github.com/meshctl/meshctl/internal/mesh/schema"
	"github.com/meshctl/meshctl/internal/mesh/seal"
)

//go:embed schema.yaml
var schemaYAML []byte

// showEvery is the time between two calls that Output is told of.
const showEvery = 200 * time.Millisecond

// Config is what a demonstration needs. Out is told of what happens; calls of its
// methods come from one goroutine.
type Config struct {
	Keys    seal.Keys
	Out     Output
	Version string
	Logger  *slog.Logger
}

// Output shows the demonstration. Its methods should return soon.
type Output interface {
	// Started is told once everything runs.
	Started(Mesh)
	// Called is told of some of the calls that have ended, at most five a second: of
	// each kind of call and outcome in turn.
	Called(Call)
	// Stopped is told what was counted, at the end.
	Stopped(Summary)
}

// Mesh is where the demonstration's mesh can be reached, until Run's context ends.
type Mesh struct {
	Master string   // host:port
	Nodes  []string // "worker/variant"
	// Operator is what node.Connect and node.Watch need.
	Operator node.Config
}

// Call is one call of the demonstration.
type Call struct {
	From   string // "worker/variant"
	Kind   string // "balanced", "broadcast", "fire and forget" or "queued"
	Result *node.Result
	Err    error
}

// Run starts the mesh, lets it call itself until ctx ends, drains it and returns nil.
// It leaves nothing behind.
func Run(ctx context.Context, cfg Config) error {
	s, err := schema.Parse("demo.yaml", schemaYAML)
	if err != nil {
		return err
	}
	ring, err := seal.NewRing([]seal.Keys{cfg.Keys}, nil)
	if err != nil {
		return err
	}
	m, err := master.New(master.Config{Schema: s, Host: "127.0.0.1", Version: cfg.Version, Logger: cfg.Logger, Ring: ring})
	if err != nil {
		return err
	}
	// The nodes leave before the master does, as they would in earnest.
	serving, stopMaster := context.WithCancel(context.WithoutCancel(ctx))
	defer stopMaster()
	var outer errgroup.Group
	outer.Go(func() error { return m.Run(serving) })
	outer.Go(func() error {
		defer stopMaster()
		select {
		case <-m.Ready():
		case <-ctx.Done():
			return nil
		case <-time.After(10 * time.Second):
			return errors.New("the demo's master did not start")
		}
		addr := net.JoinHostPort("127.0.0.1", strconv.Itoa(m.Addr().(*net.TCPAddr).Port))
		return newCast(cfg, s, ring, addr).run(ctx)
	})
	return outer.Wait()
}
