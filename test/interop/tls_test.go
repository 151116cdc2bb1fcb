package interop

import (
	"fmt"
	"testing"
	"time"

	"github.com/meshctl/meshctl/internal/mesh/certs"
	"github.com/meshctl/meshctl/internal/mesh/certs/certstest"
	"github.com/meshctl/meshctl/internal/mesh/master"
	"github.com/meshctl/meshctl/internal/mesh/node"
)

// TestMixedMeshOverTLS is TestMixedMesh with TLS, and certificates at both ends of
// every connection, of both kinds of peers, and discovery as well.
func TestMixedMeshOverTLS(t *testing.T) {
	for _, sio := range lines {
		jsMastered := sio == 3
		t.Run(fmt.Sprintf("socket.io %d/js master %v", sio, jsMastered), func(t *testing.T) {
			requireJS(t)
			t.Parallel()
			ca := certstest.NewCA(t)
			cert, key := ca.Issue(t, "member", 2*time.Hour)
			files := options{"tls": options{"cert": cert, "key": key, "ca": ca.File}}
			identity := certstest.Load(t, certs.Config{Cert: cert, Key: key, CA: ca.File})
			secure := func(c *node.Config) { c.TLS = identity }

			k, schema := newKeys(), pair(dials{left: true, right: true})
			var port int
			if jsMastered {
				port = jsMaster(t, sio, k, schema, files).port
			} else {
				port = startMaster(t, k, schema, func(c *master.Config) { c.TLS = identity }).port
			}
			right := startNode(t, k, schema, port, "right", "r1", secure)
			left := jsNode(t, sio, k, schema, port, "left", "l1", files)
			right.await("connection", of("left", "l1"))
			left.await("connection", link("right", "r1", true))
			left.await("connection", link("right", "r1", false))
			got, err := left.call("right.echo", options{"n": 1})
			if err != nil {
				t.Fatal(err)
			}
			wantJSON(t, got, `{"echo":{"variant":"r1","got":{"n":1}}}`)
			replies, err := right.ask("left.echo", options{"n": 2}, node.CallOptions{})
			if err != nil {
				t.Fatal(err)
			}
			repliers(t, "echo", `{"n":2}`, replies)
		})
	}
}

// TestDiscoveryOverTLS has a JavaScript node find a meshctl master, and the reverse.
func TestDiscoveryOverTLS(t *testing.T) {
	requireJS(t)
	ca := certstest.NewCA(t)
	cert, key := ca.Issue(t, "member", 2*time.Hour)
	files := options{"cert": cert, "key": key, "ca": ca.File}
	identity := certstest.Load(t, certs.Config{Cert: cert, Key: key, CA: ca.File})
	k, schema := newKeys(), pair(dials{left: true, right: true})

	port := freePort(t)
	startMaster(t, k, schema, withDiscovery(port), func(c *master.Config) { c.TLS = identity })
	jsNode(t, 4, k, schema, 0, "left", "l1", options{"discoveryPort": port, "tls": files})

	port = freePort(t)
	jsMaster(t, 3, k, schema, options{"discoveryPort": port, "tls": files})
	startNode(t, k, schema, 0, "right", "r1", discovering(port), func(c *node.Config) { c.TLS = identity })
}
