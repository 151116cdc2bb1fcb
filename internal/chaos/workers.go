package chaos

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/meshctl/meshctl/internal/mesh/seal"
)

// worker is a part of a scenario that runs as a process of its own, so that it can be killed:
// `meshctl chaos worker KIND`, started by Lab.Worker. in has the configuration as JSON.
type worker func(ctx context.Context, in io.Reader) error

func workers() map[string]worker {
	return map[string]worker{}
}

// Work runs a worker until ctx ends or it is done.
func Work(ctx context.Context, kind string, in io.Reader) error {
	all := workers()
	run, ok := all[kind]
	if !ok {
		names := make([]string, 0, len(all))
		for name := range all {
			names = append(names, name)
		}
		slices.Sort(names)
		return fmt.Errorf("no worker %q; there are %s", kind, strings.Join(names, ", "))
	}
	return run(ctx, in)
}

// configure reads a worker's configuration.
func configure(in io.Reader, config any) error {
	if err := json.NewDecoder(in).Decode(config); err != nil {
		return fmt.Errorf("read the worker's configuration from stdin: %w", err)
	}
	return nil
}

// workerKeys are the lab's keys in a worker.
func workerKeys() (seal.Keys, error) {
	k := seal.Keys{Public: os.Getenv("MESHCTL_PUBLIC_KEY"), Private: os.Getenv("MESHCTL_PRIVATE_KEY")}
	return k, k.Validate()
}
