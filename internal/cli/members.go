package cli

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/meshctl/meshctl/configs"
	"github.com/meshctl/meshctl/internal/bounded"
	"github.com/meshctl/meshctl/internal/config"
	"github.com/meshctl/meshctl/internal/mesh/handler"
	"github.com/meshctl/meshctl/internal/mesh/node"
	"github.com/meshctl/meshctl/internal/mesh/schema"
	"github.com/meshctl/meshctl/internal/mesh/seal"
	"github.com/meshctl/meshctl/internal/mesh/wire"
)

// starterName is what messages call the embedded schema.
const starterName = "starter-schema.yaml"

// loadKeys gets the keys, and tells of a new or unsafe keys file.
func (a *App) loadKeys(cfg *config.Config) (config.KeyRing, error) {
	ring, err := cfg.LoadKeys()
	if err != nil {
		return ring, err
	}
	switch log := a.log.Load(); {
	case ring.Created && log != nil:
		log.Info("created a keys file with new random keys; every member of this mesh needs the same file", "file", ring.Source)
	case ring.Created:
		a.notice("created %s with new random keys; every member of this mesh needs the same file", ring.Source)
	}
	if ring.Warning != "" {
		a.warn(ring.Warning)
	}
	return ring, nil
}

// openKeys is loadKeys, and makes the ring that a process lives with.
func (a *App) openKeys(cfg *config.Config) (config.KeyRing, *seal.Ring, error) {
	ring, err := a.loadKeys(cfg)
	if err != nil {
		return ring, nil, err
	}
	keys, err := ring.Open()
	return ring, keys, err
}

// loadSchema reads a schema file, or the starter schema where path is empty.
func loadSchema(path string) (*schema.Schema, error) {
	if path == "" {
		return schema.Parse(starterName, configs.StarterSchema)
	}
	data, err := bounded.ReadFile(path, schema.MaxSize)
	if errors.Is(err, os.ErrNotExist) {
		return nil, &config.NotFoundError{What: "schema", Path: path, Hint: "meshctl init writes a sample"}
	}
	if err != nil {
		return nil, fmt.Errorf("read schema: %w", err)
	}
	return schema.Parse(path, data)
}

// schemaDir is what relative paths in a schema file start from.
func schemaDir(path string) string {
	if path == "" {
		return ""
	}
	return filepath.Dir(path)
}

// askedPort is where discovery is asked, as node.Config has it.
func askedPort(cfg *config.Config) int {
	if cfg.DiscoveryPort == 0 {
		return -1
	}
	return cfg.DiscoveryPort
}

// operatorConfig is what a command that only asks connects with.
func (a *App) operatorConfig(cfg *config.Config) (node.Config, error) {
	_, keys, err := a.openKeys(cfg)
	if err != nil {
		return node.Config{}, err
	}
	identity, err := loadTLS(cfg, false, slog.New(slog.DiscardHandler))
	if err != nil {
		return node.Config{}, err
	}
	mode, err := linkMode(cfg)
	if err != nil {
		return node.Config{}, err
	}
	token, issuer, err := a.loadToken(cfg)
	if err != nil {
		return node.Config{}, err
	}
	nc := node.Config{
		TLS:           identity,
		Ring:          keys,
		Worker:        cfg.As,
		Master:        cfg.Master,
		DiscoveryPort: askedPort(cfg),
		MaxPayload:    int(cfg.MaxPayload),
		Heartbeat:     cfg.Silence(),
		Link:          mode,
		Token:         token,
		Issuer:        issuer,
		Timeout:       cfg.Timeout,
		Version:       a.Build.Version,
		Logger:        slog.New(slog.DiscardHandler),
	}
	if cfg.Schema != "" {
		if nc.Schema, err = loadSchema(cfg.Schema); err != nil {
			return node.Config{}, err
		}
	}
	return nc, nil
}

// connect joins the mesh as the operator. The caller closes what it gets.
func (a *App) connect(ctx context.Context, cfg *config.Config) (*node.Operator, error) {
	nc, err := a.operatorConfig(cfg)
	if err != nil {
		return nil, err
	}
	ctx, cancel := timed(ctx, cfg)
	defer cancel()
	return connectTo(ctx, nc)
}

func connectTo(ctx context.Context, nc node.Config) (*node.Operator, error) {
	op, err := node.Connect(ctx, nc)
	// Connections end with the deadline of ctx, which may be a moment before ctx does.
	if end, set := ctx.Deadline(); set && !time.Now().Before(end) && wire.CodeOf(err) == wire.CodeUnreachable {
		err = &hinted{err, "check that it runs and that --master names it, or allow more time with --timeout"}
	}
	return op, err
}

// timed bounds ctx by the timeout that somebody has set. Where nobody has, connecting has
// a bound of its own, which leaves time to pass over masters that are silent.
func timed(ctx context.Context, cfg *config.Config) (context.Context, context.CancelFunc) {
	if cfg.IsDefault("timeout") {
		return context.WithCancel(ctx)
	}
	return context.WithTimeout(ctx, cfg.Timeout)
}

// withinHandler bounds ctx by the deadline of the request that this process answers, if it is part of an exec handler: so
// that those it asks know how much time is left. A deadline that has passed is that of a request that this process has
// outlived, and bounds nothing.
func (a *App) withinHandler(ctx context.Context) (context.Context, context.CancelFunc) {
	text, _ := a.Env.LookupEnv(handler.EnvDeadline)
	deadline, err := time.Parse(time.RFC3339Nano, text)
	if err != nil || !time.Now().Before(deadline) {
		return context.WithCancel(ctx)
	}
	return context.WithDeadline(ctx, deadline)
}

// splitTarget takes WORKER.COMMAND apart.
func splitTarget(target string) (worker, command string, err error) {
	worker, command, ok := strings.Cut(target, ".")
	if !ok {
		return "", "", usagef("write WORKER.COMMAND, as in worker.status", "%q names no command", target)
	}
	if err := schema.ValidWorker(worker); err != nil {
		return "", "", &usageError{err.Error(), "write WORKER.COMMAND, as in worker.status"}
	}
	if err := schema.ValidCommand(command); err != nil {
		return "", "", &usageError{err.Error(), "write WORKER.COMMAND, as in worker.status"}
	}
	return worker, command, nil
}
