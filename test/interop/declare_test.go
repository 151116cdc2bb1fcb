package interop

import (
	"fmt"
	"strings"
	"testing"

	"github.com/meshctl/meshctl/internal/mesh/node"
	"github.com/meshctl/meshctl/internal/mesh/wire"
)

// TestDeclares is about what a JavaScript node may say of itself.
func TestDeclares(t *testing.T) {
	for _, sio := range lines {
		t.Run(fmt.Sprint("socket.io ", sio), func(t *testing.T) {
			requireJS(t)
			t.Parallel()
			k, schema := newKeys(), pair(dials{left: true, right: true})
			master := startMaster(t, k, schema)
			right := startNode(t, k, schema, master.port, "right", "r1")

			t.Log("twice")
			left := jsNode(t, sio, k, schema, master.port, "left", "l1", nil)
			left.await("connection", link("right", "r1", true))
			left.await("connection", link("right", "r1", false))
			right.await("connection", of("left", "l1"))
			do[any](left, "declare-again", options{"to": "master"})
			left.await("declared")
			do[any](left, "declare-again", options{"to": "links"})
			if _, err := left.call("right.echo", 1); err != nil {
				t.Error(err)
			}
			if nodes := master.Nodes(); len(nodes) != 2 || nodes[0].Kind != wire.KindJavaScript || nodes[1].Kind != wire.KindMeshctl {
				t.Errorf("the master has %+v", nodes)
			}
			replies, err := right.ask("left.info", 1, node.CallOptions{})
			if err != nil || len(replies) != 1 {
				t.Errorf("replies %+v, %v", replies, err)
			}
			if n := right.count("disconnection") + left.count("disconnection"); n != 0 {
				t.Error("a link flapped")
			}

			t.Log("again after the connection to the master was lost")
			do[any](left, "disconnect-master", nil)
			master.awaitNodes(t, 1)
			if _, err := right.ask("left.echo", 1, node.CallOptions{}); err != nil {
				t.Errorf("call while the node is away from the master: %v", err)
			}
			do[any](left, "reconnect-master", nil)
			left.await("declared")
			if n := right.count("disconnection"); n != 0 {
				t.Error("the link to a node that lost its master was given up")
			}

			t.Log("without a variant, by another name")
			for _, nameless := range []*peer{
				jsNode(t, sio, k, schema, master.port, "left", nil, options{"hostname": "localhost"}),
				jsNode(t, sio, k, schema, master.port, "left", missing, nil),
			} {
				joined := nameless.await("connection", func(e event) bool { return e.Worker == "right" && !e.Dialed })
				said := nameless.said
				if said.Variant == "" || said.Variant != said.ClientID {
					t.Errorf("variant %q, client id %q", said.Variant, said.ClientID)
				}
				if want := nameless.options["hostname"]; want != nil && said.IP != want {
					t.Errorf("the master took %q for host name %v", said.IP, want)
				}
				if joined.Variant != "r1" {
					t.Errorf("right is called %q", joined.Variant)
				}
				right.await("connection", of("left", said.Variant))
				replies, err := right.ask("left.echo", 1, node.CallOptions{Only: []string{said.Variant}})
				if err != nil {
					t.Fatal(err)
				}
				repliers(t, "echo", "1", replies)
			}

			t.Log("of an unknown worker")
			larger := pair(dials{left: true})
			larger["third"] = larger["left"]
			third := launchNode(t, sio, k, larger, master.port, "third", "t1", nil)
			if e := third.await("error"); len(e.Message) < 3 {
				t.Errorf("error message %s", e.Message)
			}
			third.await("master-lost")

			t.Log("with other keys")
			stranger := launchNode(t, sio, newKeys(), schema, master.port, "left", "l8", nil)
			stranger.await("master-lost")
			if n := stranger.count("declared") + stranger.count("error") + stranger.count("addnode"); n != 0 {
				t.Error("the master answered a stranger")
			}
			if _, err := right.ask("left.echo", 1, node.CallOptions{Only: []string{"l1"}}); err != nil {
				t.Error(err)
			}
			jsNode(t, sio, k, schema, master.port, "left", "l9", nil)
		})
	}
}

// TestUnknownToJavaScriptMaster has a JavaScript master refuse a meshctl node.
func TestUnknownToJavaScriptMaster(t *testing.T) {
	requireJS(t)
	k, schema := newKeys(), pair(dials{left: true})
	master := jsMaster(t, 3, k, schema, nil)
	larger := pair(dials{left: true})
	larger["third"] = larger["left"]
	third := launchGo(t, k, larger, master.port, "third", "t1")
	master.await("refused", func(e event) bool { return e.Worker == "third" })
	third.await("log", func(e event) bool { return strings.Contains(e.line, "worker third is not in the schema") })
}

func TestDiscovery(t *testing.T) {
	for _, sio := range lines {
		t.Run(fmt.Sprint("socket.io ", sio), func(t *testing.T) {
			requireJS(t)
			t.Parallel()
			k, schema := newKeys(), pair(dials{left: true})

			t.Log("a JavaScript node asks a meshctl master")
			port := freePort(t)
			startMaster(t, k, schema, withDiscovery(port))
			jsNode(t, sio, k, schema, 0, "left", "l1", options{"discoveryPort": port})
			stranger := launchNode(t, sio, newKeys(), schema, 0, "left", "l2", options{"discoveryPort": port})
			stranger.await("not-discovered", func(e event) bool { return string(e.Message) == `"status 401"` })

			t.Log("a meshctl node asks a JavaScript master")
			port = freePort(t)
			master := jsMaster(t, sio, k, schema, options{"discoveryPort": port})
			startNode(t, k, schema, 0, "right", "r1", discovering(port))
			if e := master.await("discovery"); !e.Valid {
				t.Error("the JavaScript master did not take the key")
			}
			launchGo(t, newKeys(), schema, 0, "right", "r2", discovering(port))
			master.await("discovery", func(e event) bool { return !e.Valid })
		})
	}
}
