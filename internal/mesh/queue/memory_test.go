package queue_test

import (
	"testing"

	"go.uber.org/goleak"

	"github.com/meshctl/meshctl/internal/mesh/queue"
	"github.com/meshctl/meshctl/internal/mesh/queue/queuetest"
)

func TestMain(m *testing.M) {
	queue.QuietRedis()
	goleak.VerifyTestMain(m)
}

func TestMemory(t *testing.T) {
	queuetest.Run(t, func(*testing.T) func() queue.Store {
		return func() queue.Store { return queue.Memory{} }
	})
}
