package node_test

import (
	"encoding/json"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/meshctl/meshctl/internal/mesh/meshtest"
	"github.com/meshctl/meshctl/internal/mesh/node"
)

// A queued command whose handler never waits is answered later than it arrives all the same: what it
// is answered in must not be used again for the request behind it.
func TestQueuedBuiltinAmongOthers(t *testing.T) {
	t.Parallel()
	m := meshtest.New(t, `
caller: {_connect: [worker]}
worker:
  _allow: [caller]
  _commands:
    _balanced:
      echo: {responds: true, method: {builtin: echo}}
      ask: {queued: true, responds: true, concurrency: 8, method: {builtin: echo}}
      job: {queued: true, responds: false, concurrency: 8, method: {builtin: echo}}
`)
	m.Join("worker", "w1", func(c *node.Config) { c.Queue, c.DataDir = node.QueueEmbedded, t.TempDir() })
	caller := m.Join("caller", "c1")
	meshtest.AwaitPeers(t, caller, "worker/w1")
	var wg sync.WaitGroup
	for i := range 30 {
		for _, command := range []string{"echo", "ask", "job", "echo"} {
			payload := fmt.Sprintf(`{"n":%d,"of":%q}`, i, command)
			wg.Go(func() {
				o := node.CallOptions{Timeout: time.Minute}
				if command == "job" {
					o.Wait = node.WaitStored
				}
				r, err := caller.Call(t.Context(), "worker."+command, json.RawMessage(payload), o)
				if err != nil {
					t.Errorf("%s %d: %v", command, i, err)
				} else if command != "job" && string(r.Replies[0].Result) != payload {
					t.Errorf("%s %d got another's answer: %s", command, i, r.Replies[0].Result)
				}
			})
		}
	}
	wg.Wait()
}
