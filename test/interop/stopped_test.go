//go:build unix

package interop

import (
	"fmt"
	"syscall"
	"testing"
	"time"

	"github.com/meshctl/meshctl/internal/mesh/node"
)

// TestNodeStopped stops a JavaScript node and lets it go on: after a second nobody has lost
// it, and for good it is lost within 6 s, also where it is the server, whose heartbeat comes
// every 25 s.
func TestNodeStopped(t *testing.T) {
	for i, d := range []dials{{left: true}, {right: true}} {
		sio := lines[i]
		t.Run(fmt.Sprintf("socket.io %d/js dials %v", sio, d.left), func(t *testing.T) {
			requireJS(t)
			t.Parallel()
			_, left, right := linked(t, sio, d, func(c *node.Config) { c.Heartbeat = 0 }) // the default
			send := func(s syscall.Signal) {
				t.Helper()
				if err := left.cmd.Process.Signal(s); err != nil {
					t.Fatal(err)
				}
			}
			time.Sleep(3 * time.Second) // it has answered a heartbeat
			send(syscall.SIGSTOP)
			time.Sleep(time.Second)
			send(syscall.SIGCONT)
			bothWays(t, left, right)
			if n := right.count("disconnection", of("left", "l1")); n != 0 {
				t.Fatal("lost after a second")
			}

			begun := time.Now()
			send(syscall.SIGSTOP)
			right.await("disconnection", of("left", "l1"))
			took := time.Since(begun)
			send(syscall.SIGCONT)
			if t.Logf("lost after %s", took); took > 20*time.Second { // sooner than any heartbeat of Socket.IO, on a busy machine too
				t.Errorf("lost after %s", took)
			}
		})
	}
}
