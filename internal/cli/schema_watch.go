package cli

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"

	"github.com/meshctl/meshctl/internal/bounded"
	"github.com/meshctl/meshctl/internal/mesh/schema"
)

// schemaWatcher reads a schema file again when it changes and on SIGHUP.
type schemaWatcher struct {
	*fileWatcher
	current *schema.Schema
	seen    []byte // what the file held when it was last read
	apply   func(*schema.Schema) error
}

// newSchemaWatcher watches from now on, so that no change is missed before run.
func newSchemaWatcher(path string, current *schema.Schema, apply func(*schema.Schema) error, log *slog.Logger) (*schemaWatcher, error) {
	seen, err := bounded.ReadFile(path, schema.MaxSize)
	if err != nil {
		return nil, fmt.Errorf("read schema: %w", err)
	}
	w := &schemaWatcher{fileWatcher: newFileWatcher(path, "schema", log), current: current, seen: seen, apply: apply}
	w.fileWatcher.reload = w.reload
	return w, nil
}

// reload puts the file's schema into force if it is valid and different. Unless it
// was asked for, nothing is said about a file that is as it was.
func (w *schemaWatcher) reload(asked bool) {
	data, err := bounded.ReadFile(w.path, schema.MaxSize)
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
