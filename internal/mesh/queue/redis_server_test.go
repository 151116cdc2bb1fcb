package queue_test

import (
	"context"
	"encoding/base64"
	"errors"
	"testing"

	"github.com/meshctl/meshctl/internal/mesh/queue"
)

// reversible stands for sealing where that does not matter.
type reversible struct{}

func (reversible) Seal(b []byte) (string, error) { return base64.StdEncoding.EncodeToString(b), nil }
func (reversible) Open(_ context.Context, s string) ([]byte, error) {
	return base64.StdEncoding.DecodeString(s)
}

func openRedis(t *testing.T, cfg queue.RedisConfig) *queue.Redis {
	t.Helper()
	if cfg.Sealer == nil {
		cfg.Sealer = reversible{}
	}
	if cfg.Name == "" {
		cfg.Name = "n1"
	}
	s, err := queue.OpenRedis(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Err(); err != nil && !errors.Is(err, queue.ErrUnavailable) {
		t.Fatal(err)
	}
	return s
}
