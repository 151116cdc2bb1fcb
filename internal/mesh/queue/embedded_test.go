package queue_test

import (
	"errors"
	"testing"

	"github.com/meshctl/meshctl/internal/mesh/queue"
	"github.com/meshctl/meshctl/internal/mesh/queue/queuetest"
)

func openEmbedded(t *testing.T, cfg queue.EmbeddedConfig) *queue.Embedded {
	t.Helper()
	s, err := queue.OpenEmbedded(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestEmbedded(t *testing.T) {
	queuetest.Run(t, func(t *testing.T) func() queue.Store {
		dir := t.TempDir()
		return func() queue.Store { return openEmbedded(t, queue.EmbeddedConfig{Dir: dir}) }
	})
}

func TestEmbeddedIsLocked(t *testing.T) {
	dir := t.TempDir()
	s := openEmbedded(t, queue.EmbeddedConfig{Dir: dir})
	if _, err := queue.OpenEmbedded(queue.EmbeddedConfig{Dir: dir, NoWait: true}); !errors.Is(err, queue.ErrLocked) {
		t.Errorf("opened twice: %v, want ErrLocked", err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = openEmbedded(t, queue.EmbeddedConfig{Dir: dir})
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}
