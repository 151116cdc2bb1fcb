package node_test

import (
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/meshctl/meshctl/internal/mesh/meshtest"
	"github.com/meshctl/meshctl/internal/mesh/node"
)

// What the master tells a node right behind its answer to declare is not lost where that
// answer, which has the schema in it, is long.
func TestManyJoinUnderALongSchema(t *testing.T) {
	var schema strings.Builder
	schema.WriteString("a: {_allow: [], _connect: [b], _commands: {}}\nb: {_allow: [a], _commands: {}}\n")
	for i := range 400 {
		fmt.Fprintf(&schema, "other%d: {_allow: anyNode, _commands: {_balanced: {some_command: {responds: true}}}}\n", i)
	}
	m := meshtest.New(t, schema.String())
	const each = 20
	var wg sync.WaitGroup
	var mu sync.Mutex
	var as []*meshtest.Node
	var names []string
	for i := range each {
		names = append(names, fmt.Sprintf("b/%02d", i))
		for _, worker := range []string{"a", "b"} {
			wg.Go(func() {
				n := m.Join(worker, fmt.Sprintf("%02d", i), func(c *node.Config) { c.Logger = nil })
				if worker == "a" {
					mu.Lock()
					defer mu.Unlock()
					as = append(as, n)
				}
			})
		}
	}
	wg.Wait()
	for _, a := range as {
		meshtest.AwaitPeers(t, a, names...)
	}
}
