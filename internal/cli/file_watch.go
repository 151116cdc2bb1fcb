package cli

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"github.com/fsnotify/fsnotify"
)

// settle is how long a file has to be left alone before it is read again: editors and
// mounted volumes replace it in several steps.
const settle = 100 * time.Millisecond

// fileWatcher has a file read again when it changes and on SIGHUP.
type fileWatcher struct {
	path   string
	what   string           // "schema", for the log
	reload func(asked bool) // set before run; asked by SIGHUP
	log    *slog.Logger
	hup    chan os.Signal
	watch  *fsnotify.Watcher // nil where the system gives none
	names  map[string]bool   // what in the watched folders concerns the file
}

// newFileWatcher watches from now on, so that no change is missed before run. Who does
// not call run calls close.
func newFileWatcher(path, what string, log *slog.Logger) *fileWatcher {
	w := &fileWatcher{path: path, what: what, log: log, hup: make(chan os.Signal, 1), names: map[string]bool{}}
	signal.Notify(w.hup, syscall.SIGHUP)
	if err := w.open(); err != nil {
		log.Warn("cannot watch the "+what+" file; SIGHUP makes the master read it again", "file", path, "error", err)
	}
	return w
}

// open watches folders, not the file: a replaced file is another one. Where the
// file is a symbolic link, its target's folder is watched as well, and in mounted
// volumes of Kubernetes "..data" is what changes.
func (w *fileWatcher) open() error {
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

func (w *fileWatcher) close() {
	signal.Stop(w.hup)
	if w.watch != nil {
		_ = w.watch.Close()
	}
}

// run serves until ctx ends.
func (w *fileWatcher) run(ctx context.Context) error {
	defer w.close()
	var events <-chan fsnotify.Event
	var errs <-chan error
	if w.watch != nil {
		events, errs = w.watch.Events, w.watch.Errors
	}
	due := time.NewTimer(settle)
	due.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-w.hup:
			w.log.Info("asked to read the "+w.what+" again", "file", w.path)
			w.reload(true)
		case e := <-events:
			if w.names[filepath.Clean(e.Name)] && !e.Has(fsnotify.Chmod) {
				due.Reset(settle)
			}
		case err := <-errs:
			// Events may have been lost.
			w.log.Warn("watching the "+w.what+" file", "error", err)
			due.Reset(settle)
		case <-due.C:
			w.reload(false)
		}
	}
}
