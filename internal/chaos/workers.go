package chaos

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"

	"github.com/meshctl/meshctl/internal/mesh/node"
	"github.com/meshctl/meshctl/internal/mesh/schema"
	"github.com/meshctl/meshctl/internal/mesh/seal"
)

// worker is a part of a scenario that runs as a process of its own, so that it can be killed:
// `meshctl chaos worker KIND [ARGUMENT...]`. Those that Lab.Worker starts read their configuration with
// configure; those that a node starts as programs are told what they need in their arguments.
type worker func(ctx context.Context, w WorkerIO) error

// WorkerIO is what a worker has of the world around it.
type WorkerIO struct {
	Args []string
	In   io.Reader
	Out  io.Writer
}

func workers() map[string]worker {
	return map[string]worker{
		"job-caller":  jobCaller,
		"job-handler": jobHandler,
		"slow-caller": slowCaller,
		"soak-caller": soakCaller,
		"soak-crowd":  soakCrowd,
	}
}

// Work runs a worker until ctx ends or it is done.
func Work(ctx context.Context, kind string, w WorkerIO) error {
	all := workers()
	run, ok := all[kind]
	if !ok {
		return fmt.Errorf("no worker %q; there are %s", kind, strings.Join(slices.Sorted(maps.Keys(all)), ", "))
	}
	return run(ctx, w)
}

// configure reads what Lab.Worker was given.
func (w WorkerIO) configure(config any) error {
	if err := json.NewDecoder(w.In).Decode(config); err != nil {
		return fmt.Errorf("read the worker's configuration from stdin: %w", err)
	}
	return nil
}

// membership is what a worker that has nodes is told of the mesh.
type membership struct {
	Master string // its address
	Schema string // YAML
}

// node is what a node of the worker process is made of, with the lab's keys.
func (m membership) node(worker, variant string) (node.Config, error) {
	s, err := schema.Parse("schema.yaml", []byte(m.Schema))
	if err != nil {
		return node.Config{}, err
	}
	keys := seal.Keys{Public: os.Getenv("MESHCTL_PUBLIC_KEY"), Private: os.Getenv("MESHCTL_PRIVATE_KEY")}
	return node.Config{Keys: keys, Worker: worker, Variant: variant, Master: m.Master, Host: "127.0.0.1", Schema: s}, keys.Validate()
}
