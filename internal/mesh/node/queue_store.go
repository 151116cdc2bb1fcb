package node

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"

	"github.com/meshctl/meshctl/internal/mesh/queue"
	"github.com/meshctl/meshctl/internal/mesh/schema"
	"github.com/meshctl/meshctl/internal/mesh/wire"
)

// The values of Config.Queue.
const (
	QueueMemory   = "memory"
	QueueEmbedded = "embedded"
)

// What an embedded store knows about its node.
const (
	noteWorker  = "worker"
	noteVariant = "variant"
	noteDrawn   = "drawn" // "true": the variant was drawn at random
)

// openStore opens the store of the worker's queued commands; nil when there are none. It
// sets cfg.Variant where a store that was left behind tells what the node was called: so
// that it finds its work again.
func openStore(cfg *Config, own *schema.Worker) (queue.Store, error) {
	queued := false
	for _, c := range own.Commands {
		queued = queued || c.Queued
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if cfg.Redis != "" || !queued || cfg.Queue != QueueEmbedded {
		tellHeld(cfg)
	}
	switch {
	case cfg.Redis != "":
		if cfg.Variant == "" {
			cfg.Variant = drawVariant()
			for _, c := range own.Commands {
				if c.Queued && c.Delivery == schema.Broadcast {
					cfg.Logger.Warn("a broadcast command's queue in Redis belongs to its variant, and this one's name is drawn anew at each start: what waits when the node ends is not found again; give it a --variant", "command", c.Name, "variant", cfg.Variant)
				}
			}
		}
		s, err := openRedis(context.Background(), cfg)
		if err != nil {
			return nil, err
		}
		return s, nil // also where no command is queued: jobs of others are
	case !queued:
		return nil, nil
	case cfg.Queue != QueueEmbedded:
		return queue.Memory{}, nil
	}
	s, err := openEmbedded(cfg)
	switch {
	case err == nil:
	case errors.Is(err, queue.ErrLocked):
		return nil, &wire.Error{Code: wire.CodeUnavailable, Message: err.Error(), Hint: "end that process, give this node another --variant or --data-dir, or keep its queues in memory with --queue memory"}
	default:
		if errors.As(err, new(*wire.Error)) {
			return nil, err
		}
		return nil, &wire.Error{Code: wire.CodeUnavailable, Message: err.Error(), Hint: "name another folder with --data-dir, or keep the queues in memory with --queue memory"}
	}
	if was := s.Get(noteWorker); was != "" && was != cfg.Worker {
		return nil, errors.Join(&wire.Error{Code: wire.CodeBadRequest, Message: fmt.Sprintf("the data directory has the queues of the worker %s, not of %s", was, cfg.Worker), Hint: "give each node a --data-dir of its own"}, s.Close())
	}
	drawn := "false"
	if cfg.Variant == "" {
		if cfg.Variant = s.Get(noteVariant); cfg.Variant == "" || s.Get(noteDrawn) != "true" {
			cfg.Variant = drawVariant()
		}
		drawn = "true"
	}
	for _, note := range [][2]string{{noteWorker, cfg.Worker}, {noteVariant, cfg.Variant}, {noteDrawn, drawn}} {
		if s.Get(note[0]) == note[1] {
			continue
		}
		if err := s.Set(note[0], note[1]); err != nil {
			return nil, errors.Join(fmt.Errorf("write the queues' store: %w", err), s.Close())
		}
	}
	held, err := s.Held()
	if err != nil {
		cfg.Logger.Warn("cannot see whether requests are in the store for commands that are not queued any more", "store", s.Path(), "err", err)
	}
	for name, n := range held {
		if c := own.Commands[name]; c == nil || !c.Queued {
			cfg.Logger.Error("requests are in the store for a command that is not queued in the schema any more: they are kept and not done", "command", name, "count", n, "store", s.Path())
		}
	}
	return s, nil
}

// tellHeld says what is left in the files that this node used if its queues were in one.
func tellHeld(cfg *Config) {
	dirs := []string{cfg.DataDir}
	switch workers := filepath.Join(cfg.StateDir, folder(cfg.Worker)); {
	case cfg.DataDir != "":
	case cfg.StateDir == "":
		return
	case cfg.Variant != "":
		dirs[0] = filepath.Join(workers, folder(cfg.Variant))
	default:
		marks, err := filepath.Glob(filepath.Join(workers, "*", mark))
		if err != nil {
			return // a bad pattern
		}
		dirs = marks
		for i := range dirs {
			dirs[i] = filepath.Dir(dirs[i])
		}
	}
	for _, dir := range dirs {
		held, err := queue.HeldIn(dir)
		if err != nil && !errors.Is(err, queue.ErrLocked) {
			cfg.Logger.Warn("cannot see whether requests are left in a store that is not used", "folder", dir, "err", err)
		}
		for name, n := range held {
			cfg.Logger.Error("requests are left in a store that is not used: they are kept and not done", "command", name, "count", n, "folder", dir)
		}
	}
}

// mark is a file in the folder of a node whose variant was drawn: the next one without a variant may take it.
const mark = "drawn"

// openEmbedded opens the store of cfg.DataDir or, without that, one below cfg.StateDir: that
// of the variant, or of one whose name was drawn, that nobody uses now.
func openEmbedded(cfg *Config) (*queue.Embedded, error) {
	if cfg.DataDir != "" {
		return queue.OpenEmbedded(queue.EmbeddedConfig{Dir: cfg.DataDir, Logger: cfg.Logger})
	}
	if cfg.StateDir == "" {
		return nil, &wire.Error{Code: wire.CodeBadRequest, Message: "there is no folder for the queues", Hint: "name one with --data-dir, or keep them in memory with --queue memory"}
	}
	workers := filepath.Join(cfg.StateDir, folder(cfg.Worker))
	if cfg.Variant == "" {
		left, err := filepath.Glob(filepath.Join(workers, "*", mark))
		if err != nil {
			return nil, fmt.Errorf("look for queues that were left behind: %w", err)
		}
		for _, m := range left {
			s, err := queue.OpenEmbedded(queue.EmbeddedConfig{Dir: filepath.Dir(m), NoWait: true, Logger: cfg.Logger})
			if errors.Is(err, queue.ErrLocked) {
				continue
			}
			return s, err
		}
		variant := drawVariant()
		dir := filepath.Join(workers, folder(variant))
		s, err := queue.OpenEmbedded(queue.EmbeddedConfig{Dir: dir, Logger: cfg.Logger})
		if err != nil {
			return nil, err
		}
		// The folder is named like its variant, so that --variant finds it, too.
		err = errors.Join(s.Set(noteVariant, variant), s.Set(noteDrawn, "true"), os.WriteFile(filepath.Join(dir, mark), nil, 0o600))
		if err != nil {
			return nil, errors.Join(fmt.Errorf("mark the data directory: %w", err), s.Close())
		}
		return s, nil
	}
	dir := filepath.Join(workers, folder(cfg.Variant))
	s, err := queue.OpenEmbedded(queue.EmbeddedConfig{Dir: dir, Logger: cfg.Logger})
	if err != nil {
		return nil, err
	}
	if err := os.Remove(filepath.Join(dir, mark)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, errors.Join(fmt.Errorf("mark the data directory: %w", err), s.Close())
	}
	return s, nil
}

// folder is a name as that of a folder: it cannot lead out of where it stands.
func folder(name string) string {
	name = url.PathEscape(name)
	if name == "." || name == ".." {
		name = "%" + name
	}
	return name
}

// queueName is the name of a command's queue in the store of its node.
func (c *core) queueName(command string, cmd *schema.Command) string {
	if c.outbox != nil {
		return redisQueueName(c.self.Worker, c.self.Variant, cmd)
	}
	return command
}

func closeStore(s queue.Store) error {
	if s == nil {
		return nil
	}
	return s.Close()
}
