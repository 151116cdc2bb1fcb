package interop

import (
	"fmt"
	"slices"
	"testing"
)

// These tests prove the JavaScript peers against each other, so that a failure
// of the others is meshctl's.

func TestJavaScriptMesh(t *testing.T) {
	for _, sio := range lines {
		t.Run(fmt.Sprint("master", sio), func(t *testing.T) {
			requireJS(t)
			t.Parallel()
			k, schema := newKeys(), pair(dials{left: true, right: true})
			master := jsMaster(t, sio, k, schema, options{"selfAddress": sio == 3})
			left1 := jsNode(t, 3, k, schema, master.port, "left", "l1", nil)
			left2 := jsNode(t, 4, k, schema, master.port, "left", "l2", options{"survive": true})
			right := jsNode(t, 7-sio, k, schema, master.port, "right", nil, options{"requestTimeout": 10_000})
			id := master.await("declared", func(e event) bool { return e.Worker == "right" }).Variant
			if len(id) < 10 {
				t.Fatalf("variant %q is not a client id", id)
			}
			for _, left := range []*peer{left1, left2} {
				left.await("connection", link("right", id, true))
				left.await("connection", link("right", id, false))
			}

			// Balanced calls go round.
			var order []string
			for range 4 {
				got, err := right.call("left.echo", options{"n": 1})
				if err != nil {
					t.Fatal(err)
				}
				from := variants(t, "echo", got)
				wantJSON(t, got, `{"echo":{"variant":"`+from[0]+`","got":{"echo":{"n":1}}}}`)
				order = append(order, from...)
			}
			wantRotation(t, order, "l1", "l2")

			// A broadcast reaches a variant once although two links exist.
			got, err := right.call("left.info", nil)
			if err != nil {
				t.Fatal(err)
			}
			if from := variants(t, "info", got); !slices.Equal(from, []string{"l1", "l2"}) {
				t.Errorf("broadcast answered by %v", from)
			}
			got, err = right.call("left.info", nil, options{"only": []options{{"worker": "left", "variant": "l2"}}})
			if err != nil {
				t.Fatal(err)
			}
			wantJSON(t, got, `[{"info":{"variant":"l2","got":{"info":null}}}]`)
			if _, err := right.call("left.shout", 1, options{"exclude": []options{{"worker": "left", "variant": "l2"}}}); err != nil {
				t.Fatal(err)
			}
			left1.await("command", command("shout"))
			if n := left2.awaitCount(2, "command", command("info")); n != 2 {
				t.Errorf("left/l2 got %d broadcasts, want 2", n)
			}
			if n := left2.count("command", command("shout")); n != 0 {
				t.Error("an excluded variant got the broadcast")
			}

			// A throwing handler is survived by option only.
			booms := []int{right.send("call", options{"target": "left.boom"}), right.send("call", options{"target": "left.boom"})}
			for _, id := range booms {
				if _, err := right.result(id); err == nil || err.Error() != "Request timed out" {
					t.Errorf("boom: %v", err)
				}
			}
			<-left1.ended
			right.await("removenode", of("left", "l1"))
			left2.await("handler-error")
			if peers := do[[]entry](right, "peers", nil); len(peers) != 1 || peers[0].Variant != "l2" {
				t.Errorf("peers are %+v", peers)
			}
		})
	}
}

func TestJavaScriptReconnect(t *testing.T) {
	k, schema := newKeys(), pair(dials{left: true})
	master := jsMaster(t, 3, k, schema, nil)
	left := jsNode(t, 4, k, schema, master.port, "left", "l1", nil)
	right := jsNode(t, 3, k, schema, master.port, "right", "r1", nil)
	left.await("connection", link("right", "r1", true))

	master.kill()
	left.await("master-lost")
	if _, err := left.call("right.echo", 1); err != nil {
		t.Fatalf("call without a master: %v", err)
	}
	master = master.again(k, options{"port": master.port})
	left.await("declared")
	right.await("declared")

	right.kill()
	left.await("disconnection", of("right", "r1"))
	right = right.again(k, nil)
	left.await("connection", link("right", "r1", true))
	right.await("connection", link("left", "l1", false))
	if _, err := left.call("right.echo", 2); err != nil {
		t.Fatal(err)
	}
	if n := master.awaitCount(3, "declared"); n != 3 {
		t.Errorf("the new master saw %d declares, want 3", n)
	}
}

func TestJavaScriptDiscoveryAndRefusals(t *testing.T) {
	k, schema := newKeys(), pair(dials{left: true})
	port := freePort(t)
	master := jsMaster(t, 4, k, schema, options{"discoveryPort": port, "survive": true})
	jsNode(t, 3, k, schema, 0, "left", "l1", options{"discoveryPort": port})
	if e := master.await("discovery"); !e.Valid {
		t.Error("a right key was refused")
	}

	wrong := newKeys()
	stranger := launchNode(t, 3, wrong, schema, 0, "left", "l2", options{"discoveryPort": port})
	stranger.await("not-discovered", func(e event) bool { return string(e.Message) == `"status 401"` })
	launchNode(t, 3, wrong, schema, master.port, "left", "l3", nil)
	master.await("unreadable")

	larger := pair(dials{left: true})
	larger["third"] = larger["left"]
	third := launchNode(t, 4, k, larger, master.port, "third", "t1", nil)
	e := third.await("error")
	if string(e.Message) != `"worker third is not in the schema"` {
		t.Errorf("error message %s", e.Message)
	}
	peers := do[[]entry](master, "peers", nil)
	if len(peers) != 1 || peers[0].Variant != "l1" {
		t.Errorf("the master has %+v", peers)
	}
}

func TestJavaScriptDeclaresTwice(t *testing.T) {
	k, schema := newKeys(), pair(dials{left: true})
	master := jsMaster(t, 4, k, schema, nil)
	right := jsNode(t, 3, k, schema, master.port, "right", "r1", nil)
	left := jsNode(t, 3, k, schema, master.port, "left", "l1", nil)
	right.await("connection", link("left", "l1", false))
	do[any](left, "declare-again", options{"to": "master"})
	left.await("declared")
	do[any](left, "declare-again", options{"to": "links"})
	right.await("declared-again", of("left", "l1"))
	if peers := do[[]entry](master, "peers", nil); len(peers) != 2 {
		t.Errorf("the master has %+v", peers)
	}
	if peers := do[[]entry](right, "peers", nil); len(peers) != 1 || peers[0].Accepted != 1 {
		t.Errorf("the node has %+v", peers)
	}
}
