package interop

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/meshctl/meshctl/internal/mesh/node"
	"github.com/meshctl/meshctl/internal/mesh/wire"
)

// TestMixedMesh has two JavaScript nodes, left, and two meshctl nodes, right, call each
// other in every way, with links that were opened from both sides.
func TestMixedMesh(t *testing.T) {
	for _, sio := range lines {
		jsMastered := sio == 4
		t.Run(fmt.Sprintf("socket.io %d/js master %v", sio, jsMastered), func(t *testing.T) {
			requireJS(t)
			t.Parallel()
			k, schema := newKeys(), pair(dials{left: true, right: true})
			mixedMesh(t, sio, k, schema, eitherMaster(t, jsMastered, sio, k, schema))
		})
	}
}

// eitherMaster starts a master of one kind or the other and returns its port.
func eitherMaster(t *testing.T, js bool, sio int, k keys, schema options) int {
	if js {
		return jsMaster(t, sio, k, schema, options{"selfAddress": true}).port
	}
	return startMaster(t, k, schema).port
}

func mixedMesh(t *testing.T, sio int, k keys, schema options, master int) {
	r1 := startNode(t, k, schema, master, "right", "r1")
	l1 := jsNode(t, sio, k, schema, master, "left", "l1", nil)
	r2 := startNode(t, k, schema, master, "right", "r2")
	l2 := jsNode(t, sio, k, schema, master, "left", "l2", nil)
	for _, r := range []*goNode{r1, r2} {
		r.await("connection", of("left", "l1"))
		r.await("connection", of("left", "l2"))
	}
	for _, l := range []*peer{l1, l2} {
		for _, r := range []string{"r1", "r2"} {
			l.await("connection", link("right", r, true))
			l.await("connection", link("right", r, false))
		}
	}

	t.Log("balanced")
	var order []string
	for range 3 {
		got, err := l1.call("right.echo", options{"n": 1})
		if err != nil {
			t.Fatal(err)
		}
		from := variants(t, "echo", got)
		wantJSON(t, got, `{"echo":{"variant":"`+from[0]+`","got":{"n":1}}}`)
		order = append(order, from...)
	}
	wantRotation(t, order, "r1", "r2")
	order = nil
	for range 3 {
		replies, err := r1.ask("left.echo", options{"n": 2}, node.CallOptions{})
		if err != nil {
			t.Fatal(err)
		}
		order = append(order, repliers(t, "echo", `{"n":2}`, replies)...)
	}
	wantRotation(t, order, "l1", "l2")

	t.Log("broadcast, narrowed or not")
	one := func(v string) []options { return []options{{"worker": "right", "variant": v}} }
	for _, c := range []struct {
		narrow options
		want   []string
	}{
		{nil, []string{"r1", "r2"}},
		{options{"only": one("r2")}, []string{"r2"}},
		{options{"exclude": one("r2")}, []string{"r1"}},
	} {
		got, err := l1.call("right.info", "x", c.narrow)
		if err != nil {
			t.Fatal(err)
		}
		if from := variants(t, "info", got); !slices.Equal(from, c.want) {
			t.Errorf("%v: broadcast answered by %v, want %v", c.narrow, from, c.want)
		}
	}
	for _, c := range []struct {
		narrow node.CallOptions
		want   []string
	}{
		{node.CallOptions{}, []string{"l1", "l2"}},
		{node.CallOptions{Only: []string{"l2"}}, []string{"l2"}},
		{node.CallOptions{Exclude: []string{"l2"}}, []string{"l1"}},
	} {
		replies, err := r1.ask("left.info", "x", c.narrow)
		if err != nil {
			t.Fatal(err)
		}
		if from := repliers(t, "info", `"x"`, replies); !slices.Equal(from, c.want) {
			t.Errorf("%+v: broadcast answered by %v, want %v", c.narrow, from, c.want)
		}
	}
	for variant, l := range map[string]*eventLog{"l1": l1.eventLog, "l2": l2.eventLog, "r1": r1.eventLog, "r2": r2.eventLog} {
		if n := l.awaitCount(2, "command", command("info")); n != 2 {
			t.Errorf("%s got %d broadcasts, want 2", variant, n)
		}
	}

	t.Log("fire and forget")
	if _, err := l1.call("right.shout", options{"s": 1}); err != nil {
		t.Fatal(err)
	}
	for _, r := range []*goNode{r1, r2} {
		e := r.await("command", command("shout"))
		wantJSON(t, e.Message, `{"s":1}`)
		if e.From != "left/l1" || e.UID != "" {
			t.Errorf("shout from %q with uid %q", e.From, e.UID)
		}
	}
	if _, err := r1.ask("left.shout", options{"s": 2}, node.CallOptions{}); err != nil {
		t.Fatal(err)
	}
	for _, l := range []*peer{l1, l2} {
		e := l.await("command", command("shout"))
		wantJSON(t, e.Message, `{"shout":{"s":2}}`)
		if e.From != "right/r1" || e.UID != "" {
			t.Errorf("shout from %q with uid %q", e.From, e.UID)
		}
	}
	if _, err := r1.ask("left.work", nil, node.CallOptions{Only: []string{"l2"}}); err != nil {
		t.Fatal(err)
	}
	wantJSON(t, l2.await("command", command("work")).Message, `{"work":null}`)
	if _, err := l1.call("right.work", nil); err != nil {
		t.Fatal(err)
	}
}

// TestLinkDirections lets only one side open links. The cases pair each line of
// socket.io, each kind of master and each direction with each other.
func TestLinkDirections(t *testing.T) {
	for _, c := range []struct {
		sio        int
		jsMastered bool
		dials      dials
	}{
		{3, false, dials{left: true}},
		{3, true, dials{right: true}},
		{4, true, dials{left: true}},
		{4, false, dials{right: true}},
	} {
		t.Run(fmt.Sprintf("socket.io %d/js dials %v/js master %v", c.sio, c.dials.left, c.jsMastered), func(t *testing.T) {
			requireJS(t)
			t.Parallel()
			k, schema := newKeys(), pair(c.dials)
			master := eitherMaster(t, c.jsMastered, c.sio, k, schema)
			right := startNode(t, k, schema, master, "right", "r1")
			l1 := jsNode(t, c.sio, k, schema, master, "left", "l1", nil)
			l2 := jsNode(t, c.sio, k, schema, master, "left", "l2", nil)
			for _, left := range []*peer{l1, l2} {
				right.await("connection", of("left", left.said.Variant))
				left.await("connection", link("right", "r1", c.dials.left))
			}
			bothWays(t, l1, right)
			if l1.count("connection", link("right", "r1", !c.dials.left)) > 0 {
				t.Error("a link was opened against the schema")
			}

			t.Log("one of each leaves")
			l2.kill()
			right.await("disconnection", of("left", "l2"))
			replies, err := right.ask("left.info", 1, node.CallOptions{})
			if err != nil {
				t.Fatal(err)
			}
			if from := repliers(t, "info", "1", replies); !slices.Equal(from, []string{"l1"}) {
				t.Errorf("broadcast answered by %v", from)
			}
			right.stop()
			l1.await("disconnection", of("right", "r1"))
			if c.dials.left {
				l1.await("removenode", of("right", "r1"))
			}
			if _, err := l1.call("right.echo", 1); err == nil || err.Error() != "no variant of right" {
				t.Errorf("call of a node that left: %v", err)
			}
		})
	}
}

// TestFailures has requests fail on either side.
func TestFailures(t *testing.T) {
	for _, sio := range lines {
		t.Run(fmt.Sprint("socket.io ", sio), func(t *testing.T) {
			requireJS(t)
			t.Parallel()
			k, schema := newKeys(), pair(dials{left: true})
			master := startMaster(t, k, schema)
			right := startNode(t, k, schema, master.port, "right", "r1")
			left := jsNode(t, sio, k, schema, master.port, "left", "l1", options{"survive": true, "requestTimeout": 3000})
			right.await("connection", of("left", "l1"))

			// The original waits 3 s and knows one failure only.
			slow, boom := left.send("call", options{"target": "right.slow"}), left.send("call", options{"target": "right.boom"})
			_, err := right.ask("left.slow", nil, node.CallOptions{Timeout: 2 * time.Second}) // in which it is sent
			if wire.CodeOf(err) != wire.CodeTimeout {
				t.Errorf("slow: %v", err)
			}
			_, err = right.ask("left.boom", nil, node.CallOptions{Timeout: 2 * time.Second}) // in which it is sent
			if wire.CodeOf(err) != wire.CodeTimeout {
				t.Errorf("boom: %v", err)
			}
			left.await("handler-error")
			for _, id := range []int{slow, boom} {
				if _, err := left.result(id); err == nil || err.Error() != "Request timed out" {
					t.Errorf("JavaScript caller: %v", err)
				}
			}
			_, err = right.ask("left.echo", nil, node.CallOptions{Only: []string{"l9"}})
			if !errors.Is(err, &wire.Error{Code: wire.CodeNoVariant}) {
				t.Errorf("only an absent variant: %v", err)
			}

			// A request to a process that dies fails at once.
			done := make(chan error, 1)
			go func() {
				_, err := right.ask("left.slow", nil, node.CallOptions{Timeout: time.Hour})
				done <- err
			}()
			left.await("command", command("slow"))
			left.await("command", command("slow"))
			left.kill()
			select {
			case err := <-done:
				if wire.CodeOf(err) != wire.CodePeerLost {
					t.Errorf("killed: %v", err)
				}
			case <-time.After(patience):
				t.Error("a request outlived its peer")
			}
		})
	}
}
