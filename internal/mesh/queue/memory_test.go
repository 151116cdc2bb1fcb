package queue_test

import (
	"testing"

	"go.uber.org/goleak"

	"github.com/meshctl/meshctl/internal/mesh/queue"
	"github.com/meshctl/meshctl/internal/mesh/queue/queuetest"
	"github.com/meshctl/meshctl/internal/redisdb"
)

func TestMain(m *testing.M) {
	redisdb.Quiet()
	goleak.VerifyTestMain(m)
}

func TestMemory(t *testing.T) {
	queuetest.Run(t, func(*testing.T) func() queue.Store {
		return func() queue.Store { return queue.Memory{} }
	})
}
