package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"github.com/fsnotify/fsnotify"
	"github.com/meshctl/meshctl/internal/mesh/schema"
)

// settle is how long a schema file has to be left alone before it is read again:
// editors and mounted volumes replace it in several steps.
const settle = 100 * time.Millisecond

// schemaWatcher reads a schema file again when it changes and on SIGHUP.
type schemaWatcher struct {
	path    string
	current *schema.Schema
	seen    []byte // what the file held when it was last read
	apply   func(*schema.Schema) error
	log     *slog.Logger
	hup     chan os.Signal
	watch   *fsnotify.Watcher // nil where the system gives none
	names   map[string]bool   // what in the watched folders concerns the file
}

// newSchemaWatcher watches from now on, so that no change is missed before run.
func newSchemaWatcher(path string, current *schema.Schema, apply func(*schema.Schema) error, log *slog.Logger) (*schemaWatcher, error) {
	w := &schemaWatcher{path: path, current: current, apply: apply, log: log, hup: make(chan os.Signal, 1), names: map[string]bool{}}
	seen, err := readLimited(path, schema.MaxSize)
	if err != nil {
		return nil, fmt.Errorf("read schema: %w", err)
	}
	w.seen = seen
	signal.Notify(w.hup, syscall.SIGHUP)
	if err := w.open(); err != nil {
		log.Warn("cannot watch the schema file; SIGHUP makes the master read it again", "file", path, "error", err)
	}
	return w, nil
}

// open watches folders, not the file: a replaced file is another one. Where the
// file is a symbolic link, its target's folder is watched as well, and in mounted
// volumes of Kubernetes "..data" is what changes.
func (w *schemaWatcher) open() error {
	watch, err := fsnotify.NewWatcher()
	if err != nil {
		return err
	}
	paths := []string{w.path}
	if target, err := filepath.EvalSymlinks(w.path); err == nil && target != w.path {
		paths = append(paths, target)
	}
	for _, p := range paths {
		dir := filepath.Dir(p)
		if err := watch.Add(dir); err != nil {
			return errors.Join(err, watch.Close())
		}
		w.names[filepath.Join(dir, filepath.Base(p))] = true
		w.names[filepath.Join(dir, "..data")] = true
	}
	w.watch = watch
	return nil
}

// run serves until ctx ends.
func (w *schemaWatcher) run(ctx context.Context) error {
	defer signal.Stop(w.hup)
	var events <-chan fsnotify.Event
	var errs <-chan error
	if w.watch != nil {
		defer w.watch.Close()
		events, errs = w.watch.Events, w.watch.Errors
	}
	due := time.NewTimer(settle)
	due.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-w.hup:
			w.log.Info("asked to read the schema again", "file", w.path)
			w.reload(true)
		case e := <-events:
			if w.names[filepath.Clean(e.Name)] && !e.Has(fsnotify.Chmod) {
				due.Reset(settle)
			}
		case err := <-errs:
			// Events may have been lost.
			w.log.Warn("watching the schema file", "error", err)
			due.Reset(settle)
		case <-due.C:
			w.reload(false)
		}
	}
}

// reload puts the file's schema into force if it is valid and different. Unless it
// was asked for, nothing is said about a file that is as it was.
func (w *schemaWatcher) reload(asked bool) {
	data, err := readLimited(w.path, schema.MaxSize)
	if err != nil {
		w.log.Error("cannot read the schema; the old one stays", "file", w.path, "error", err)
		return
	}
	if bytes.Equal(data, w.seen) && !asked {
		return
	}
	w.seen = data
	next, err := schema.Parse(w.path, data)
	if err != nil {
		w.reject(err)
		return
	}
	changes := schema.Diff(w.current, next)
	if changes.Empty() {
		w.log.Info("the schema is unchanged", "file", w.path)
		return
	}
	if err := w.apply(next); err != nil {
		w.log.Error("cannot apply the schema; the old one stays", "file", w.path, "error", err)
		return
	}
	w.current = next
	w.log.Info("the schema changed", "file", w.path, "changes", changes.Lines())
}

func (w *schemaWatcher) reject(err error) {
	var problems schema.Problems
	if !errors.As(err, &problems) {
		w.log.Error("the schema is broken; the old one stays", "file", w.path, "error", err)
		return
	}
	w.log.Error("the schema is broken; the old one stays", "file", w.path, "problems", len(problems))
	for _, p := range problems {
		w.log.Error("schema problem", "problem", p.Error())
	}
}
