package queue_test

import (
	"errors"
	"maps"
	"os"
	"path/filepath"
	"testing"

	"github.com/meshctl/meshctl/internal/mesh/queue"
)

// What a store has can be counted whether or not its queues are open, and looking into it from outside changes nothing.
func TestHeld(t *testing.T) {
	dir := t.TempDir()
	if held, err := queue.HeldIn(filepath.Join(dir, "missing")); len(held) != 0 || err != nil {
		t.Errorf("a folder that is missing has %v, %v", held, err)
	}
	s, err := queue.OpenEmbedded(queue.EmbeddedConfig{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	for name, ids := range map[string][]string{"note": {"a", "b"}, "empty": nil} {
		q, err := s.Queue(name, queue.Options{Command: name})
		if err != nil {
			t.Fatal(err)
		}
		for _, id := range ids {
			if err := add(t, q, queue.Item{ID: id}); err != nil {
				t.Fatal(err)
			}
		}
	}
	want := map[string]int{"note": 2}
	if held, err := s.Held(); !maps.Equal(held, want) || err != nil {
		t.Errorf("the store has %v, %v", held, err)
	}
	if _, err := queue.HeldIn(dir); !errors.Is(err, queue.ErrLocked) {
		t.Errorf("while it is used: %v, want ErrLocked", err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "queue.db")
	before, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if held, err := queue.HeldIn(dir); !maps.Equal(held, want) || err != nil {
		t.Errorf("from outside it has %v, %v", held, err)
	}
	if after, err := os.ReadFile(file); err != nil || string(after) != string(before) {
		t.Errorf("the file was changed, %v", err)
	}
	if err := os.WriteFile(file, before[:len(before)/3], 0o600); err != nil {
		t.Fatal(err)
	}
	if held, err := queue.HeldIn(dir); err == nil {
		t.Errorf("what is cut off has %v", held)
	}
}
