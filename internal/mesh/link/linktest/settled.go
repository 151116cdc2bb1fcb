package linktest

import (
	"testing"
	"time"

	"go.uber.org/goleak"
)

// Settled runs tests for goleak.VerifyTestMain and then gives timers of the engine.io
// library the time to end: one that the library refreshes in the moment in which it
// clears it fires once more, a ping's timeout after its connection has ended. What is
// left after that is a leak.
func Settled(m *testing.M) goleak.TestingM { return settled{m} }

type settled struct{ *testing.M }

const pingTimeout = 5 * time.Second // of the default heartbeat, and some more

func (s settled) Run() int {
	code := s.M.Run()
	for deadline := time.Now().Add(pingTimeout); time.Now().Before(deadline) && goleak.Find() != nil; {
		continue // Find itself waits between its tries
	}
	return code
}
